//! Fernet (the open specification: AES-128-CBC, HMAC-SHA256, URL-safe base64) and the key repository.
//!
//! A repository is a folder of numbered files as Keystone keeps them: 0 is staged (it will be the next primary), the
//! highest number is primary (it encrypts), those between still decrypt. A key file is renamed into place, so a crash
//! leaves either the old keys or the new ones.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit, block_padding::Pkcs7};
use base64::{
    Engine,
    engine::{
        GeneralPurpose, GeneralPurposeConfig,
        general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
    },
};
use hmac::{Hmac, Mac};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::Sha256;

use crate::{Error, Result};

const VERSION: u8 = 0x80;
/// Staged, primary and one secondary.
const KEYS_MAX: usize = 3;
/// Far above any payload of ours; what is longer is not read.
const TOKEN_MAX_BYTES: usize = 4096;

/// Tokens come with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

#[derive(Clone)]
struct Key {
    signing: [u8; 16],
    encryption: [u8; 16],
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        let bytes = LENIENT.decode(text.trim()).ok()?;
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        let (signing, encryption) = bytes.split_at(16);
        Some(Self { signing: signing.try_into().ok()?, encryption: encryption.try_into().ok()? })
    }

    fn seal(&self, at_s: u64, payload: &[u8]) -> Option<Vec<u8>> {
        let iv: [u8; 16] = random()?;
        let mut token = Vec::with_capacity(payload.len() + 80);
        token.push(VERSION);
        token.extend_from_slice(&at_s.to_be_bytes());
        token.extend_from_slice(&iv);
        let cipher = cbc::Encryptor::<aes::Aes128>::new(&self.encryption.into(), &iv.into());
        token.extend_from_slice(&cipher.encrypt_padded_vec_mut::<Pkcs7>(payload));
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.signing).ok()?;
        mac.update(&token);
        token.extend_from_slice(&mac.finalize().into_bytes());
        Some(token)
    }

    /// The tag is compared in constant time and before anything is decrypted.
    fn open(&self, token: &[u8]) -> Option<Vec<u8>> {
        let body = token.len().checked_sub(32)?;
        let (signed, tag) = token.split_at(body);
        if signed.len() < 25 + 16 || signed[0] != VERSION {
            return None;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.signing).ok()?;
        mac.update(signed);
        mac.verify_slice(tag).ok()?;
        let iv: [u8; 16] = signed[9..25].try_into().ok()?;
        cbc::Decryptor::<aes::Aes128>::new(&self.encryption.into(), &iv.into())
            .decrypt_padded_vec_mut::<Pkcs7>(&signed[25..])
            .ok()
    }
}

/// The keys in use and where they are kept.
pub(crate) struct Keys {
    path: PathBuf,
    /// By number; never empty.
    keys: RwLock<Arc<BTreeMap<u32, Key>>>,
    rotating: Mutex<()>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Keys {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fail = |why: &dyn std::fmt::Display| Error::Keys { path: path.display().to_string(), why: why.to_string() };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| fail(&error))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|error| fail(&error))?;
        let mut keys = load(path)?;
        if !keys.keys().any(|number| *number > 0) {
            let key = write_key(path, 1).map_err(|error| fail(&error))?;
            keys.insert(1, key);
        }
        if let Entry::Vacant(staged) = keys.entry(0) {
            staged.insert(write_key(path, 0).map_err(|error| fail(&error))?);
        }
        Ok(Self { path: path.to_owned(), keys: RwLock::new(Arc::new(keys)), rotating: Mutex::new(()) })
    }

    /// Takes the keys as they are in the folder now, where another process rotated them. True when they are others.
    pub(crate) fn follow(&self) -> Result<bool> {
        let _one_at_a_time = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, before) = (load(&self.path)?, self.current());
        // In the midst of a rotation there is no staged key, and without a primary one nothing could be encrypted.
        let whole = now.contains_key(&0) && now.len() > 1;
        let same = now.len() == before.len()
            && now.iter().zip(before.iter()).all(|((a, x), (b, y))| a == b && x.signing == y.signing);
        if !whole || same {
            return Ok(false);
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        Ok(true)
    }

    pub(crate) fn rotate(&self) -> Result<()> {
        let fail = |error: io::Error| Error::Keys { path: self.path.display().to_string(), why: error.to_string() };
        let _one_at_a_time = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = self.current().keys().next_back().copied().unwrap_or(0);
        fs::rename(self.path.join("0"), self.path.join((highest + 1).to_string())).map_err(fail)?;
        write_key(&self.path, 0).map_err(fail)?;
        let mut keys = load(&self.path)?;
        while keys.len() > KEYS_MAX {
            let Some(oldest) = keys.keys().copied().find(|number| *number > 0) else { break };
            fs::remove_file(self.path.join(oldest.to_string())).map_err(fail)?;
            keys.remove(&oldest);
        }
        sync_folder(&self.path).map_err(fail)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    fn current(&self) -> Arc<BTreeMap<u32, Key>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Encrypts with the primary key; the text is safe in headers and URLs.
    pub(crate) fn seal(&self, at_s: u64, payload: &[u8]) -> rest::Result<String> {
        let keys = self.current();
        let sealed = keys.values().next_back().and_then(|key| key.seal(at_s, payload));
        sealed.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).ok_or_else(|| rest::Error::internal("no random numbers"))
    }

    /// Decrypts with any key, newest first. `None`: not ours, tampered with, or of a key that is gone.
    pub(crate) fn unseal(&self, text: &str) -> Option<Vec<u8>> {
        if text.len() > TOKEN_MAX_BYTES * 4 / 3 {
            return None;
        }
        let bytes = LENIENT.decode(text).ok()?;
        self.current().values().rev().find_map(|key| key.open(&bytes))
    }

    /// As [`Keys::unseal`] for what may be longer than a token.
    pub(crate) fn unseal_long(&self, text: &str) -> Option<Vec<u8>> {
        let bytes = LENIENT.decode(text).ok()?;
        self.current().values().rev().find_map(|key| key.open(&bytes))
    }
}

fn load(path: &Path) -> Result<BTreeMap<u32, Key>> {
    let fail = |why: String| Error::Keys { path: path.display().to_string(), why };
    let mut keys = BTreeMap::new();
    for entry in fs::read_dir(path).map_err(|error| fail(error.to_string()))? {
        let entry = entry.map_err(|error| fail(error.to_string()))?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let text = fs::read_to_string(entry.path()).map_err(|error| fail(error.to_string()))?;
        let key = Key::parse(&text).ok_or_else(|| fail(format!("file {number} holds no Fernet key")))?;
        keys.insert(number, key);
    }
    Ok(keys)
}

fn write_key(path: &Path, number: u32) -> io::Result<Key> {
    use io::Write;
    let bytes: [u8; 32] = random().ok_or_else(|| io::Error::other("no random numbers"))?;
    let text = URL_SAFE.encode(bytes);
    let draft = path.join("draft");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path.join(number.to_string()))?;
    sync_folder(path)?;
    Key::parse(&text).ok_or_else(|| io::Error::other("a fresh key cannot be read"))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

/// A secret that people copy: 43 URL-safe characters.
pub(crate) fn random_secret() -> Option<String> {
    random::<32>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_s_example_opens() {
        // From the published Fernet test vectors (generate.json / verify.json).
        let key = Key::parse("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=").unwrap();
        let token =
            "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
        assert_eq!(key.open(&LENIENT.decode(token).unwrap()).unwrap(), b"hello");
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let token = LENIENT.decode(keys.seal(1, b"payload").unwrap()).unwrap();
        for position in 0..token.len() {
            for bit in 0..8 {
                let mut other = token.clone();
                other[position] ^= 1 << bit;
                assert!(keys.unseal(&URL_SAFE.encode(&other)).is_none(), "byte {position} bit {bit}");
            }
        }
        for length in 0..token.len() {
            assert!(keys.unseal(&URL_SAFE.encode(&token[..length])).is_none());
        }
    }

    #[test]
    fn old_tokens_live_through_rotations_until_their_key_falls_out() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let token = keys.seal(1, b"x").unwrap();
        keys.rotate().unwrap();
        assert!(keys.unseal(&token).is_some());
        assert!(Keys::open(folder.path()).unwrap().unseal(&token).is_some(), "after a restart too");
        keys.rotate().unwrap();
        keys.rotate().unwrap();
        assert!(keys.unseal(&token).is_none());
        assert!(Keys::open(folder.path()).unwrap().unseal(&token).is_none());
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["0", "3", "4"]);
        for name in names {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_key_file_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        Keys::open(folder.path()).unwrap();
        fs::write(folder.path().join("1"), "short").unwrap();
        assert!(Keys::open(folder.path()).is_err());
    }
}
