//! The update file, and who may make one.
//!
//! A tar archive compressed by zstd. `SHA256SUMS` comes first (`<hash>  <name>` a line, as sha256sum writes it), then
//! `SHA256SUMS.sig`, the Ed25519 signature of its bytes, then `release.json` and the parts that it names, in its order. Nothing is
//! believed before the signature was found good, and no part before its hash was.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::backup::hashing::{self, Hashing};
use crate::files::{self, About as _, Result, refused};

const SUMS: &str = "SHA256SUMS";
const SIGNATURE: &str = "SHA256SUMS.sig";
const RELEASE: &str = "release.json";
const SMALL: u64 = 64 << 10;
const WINDOW_LOG_MAX: u32 = 27;
/// An unified kernel image has to fit on the EFI partition, a root into its slot; nothing is ever larger than this.
const PART_MAX: u64 = 8 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The read-only root.
    Root,
    /// The hashes of its blocks.
    Verity,
    /// GRUB's script for this version, for machines without UEFI.
    Grub,
    /// The unified kernel image. The last: it is what makes a version startable.
    Uki,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Part {
    pub kind: Kind,
    pub name: String,
    pub size: u64,
}

/// What an update says of itself.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Release {
    pub version: String,
    /// Of dm-verity, in hexadecimal: the ids of the partitions are made of it.
    pub roothash: String,
    /// The newest migration that its program knows.
    pub schema: String,
    pub parts: Vec<Part>,
}

impl Release {
    fn check(&self) -> Result<()> {
        if !is_version(&self.version) {
            return refused("the update has a version that is none");
        }
        if self.roothash.len() != 64 || !self.roothash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return refused("the update has a root hash that is none");
        }
        let kinds: Vec<Kind> = self.parts.iter().map(|part| part.kind).collect();
        if kinds != [Kind::Root, Kind::Verity, Kind::Uki] && kinds != [Kind::Root, Kind::Verity, Kind::Grub, Kind::Uki]
        {
            return refused("the update has not the parts of one");
        }
        if self.parts.iter().any(|part| part.size == 0 || part.size > PART_MAX) {
            return refused("the update has a part of a size that cannot be");
        }
        Ok(())
    }

    /// What follows every file name of this version.
    #[must_use]
    pub fn name(&self) -> String {
        format!("solostack_{}", self.version)
    }

    /// The ids of the root's partition and of its hashes', as systemd makes them of the root hash.
    #[must_use]
    pub fn ids(&self) -> [[u8; 16]; 2] {
        let mut ids = [[0; 16]; 2];
        for (at, byte) in ids.iter_mut().flatten().enumerate() {
            *byte = self.roothash.get(at * 2..at * 2 + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(0);
        }
        ids
    }
}

/// What may stand in file names and labels.
#[must_use]
pub fn is_version(text: &str) -> bool {
    (1..=24).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-~".contains(&byte))
        && text.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether `a` is a newer version than `b`: numbers count as numbers, `~` comes before the end.
#[must_use]
pub fn is_newer(a: &str, b: &str) -> bool {
    fn key(text: &str) -> Vec<(u8, u64, String)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let digits = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            rest = after;
            parts.push(if digits {
                (3, part.parse().unwrap_or(u64::MAX), String::new())
            } else if part.starts_with('~') {
                (0, 0, part.to_owned())
            } else {
                (2, 0, part.to_owned())
            });
        }
        // The end itself: after `~`, before all else.
        parts.push((1, 0, String::new()));
        parts
    }
    key(a) > key(b)
}

/// The public half of a release key.
#[derive(Clone, Debug)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads PEM as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// When it is no Ed25519 key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).about(path, "cannot be read")?;
        let der = pem(&text, "PUBLIC KEY");
        // RFC 8410: a fixed beginning, then the key.
        const BEGINNING: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let key = der.as_deref().and_then(|der| der.strip_prefix(&BEGINNING)).and_then(|key| key.try_into().ok());
        match key {
            Some(key) => Ok(Self(key)),
            None => refused(format!("{} is no Ed25519 public key in PEM", path.display())),
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

/// The secret half, where releases are made.
pub struct SecretKey(Ed25519KeyPair);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey")
    }
}

impl SecretKey {
    /// Reads PEM as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// When it is no Ed25519 key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).about(path, "cannot be read")?;
        let key = pem(&text, "PRIVATE KEY").and_then(|der| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok());
        match key {
            Some(key) => Ok(Self(key)),
            None => refused(format!("{} is no Ed25519 private key in PEM", path.display())),
        }
    }

    /// Its other half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }
}

fn pem(text: &str, what: &str) -> Option<Vec<u8>> {
    let after = text.split_once(&format!("-----BEGIN {what}-----"))?.1;
    let body = after.split_once(&format!("-----END {what}-----"))?.0;
    let joined: String = body.split_whitespace().collect();
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, joined).ok()
}

/// What a release is made of.
#[derive(Debug)]
pub struct Making<'a> {
    pub version: &'a str,
    pub root: &'a Path,
    pub verity: &'a Path,
    pub uki: &'a Path,
    pub grub: Option<&'a Path>,
}

/// Makes an update file.
///
/// # Errors
/// What cannot be read or written, with its path.
pub fn pack(making: &Making<'_>, key: &SecretKey, to: &Path) -> Result<Release> {
    let uki = std::fs::read(making.uki).about(making.uki, "cannot be read")?;
    let Some(roothash) = roothash_in(&uki) else {
        return refused(format!("{} has no roothash= on its kernel's command line", making.uki.display()));
    };
    let name = format!("solostack_{}", making.version);
    let mut sources = vec![
        (Kind::Root, format!("{name}.root"), making.root),
        (Kind::Verity, format!("{name}.verity"), making.verity),
    ];
    sources.extend(making.grub.map(|grub| (Kind::Grub, format!("{name}.cfg"), grub)));
    sources.push((Kind::Uki, format!("{name}.efi"), making.uki));
    let mut sums = String::new();
    let mut parts = Vec::new();
    for (kind, name, path) in &sources {
        let file = File::open(path).about(path, "cannot be read")?;
        let (size, hash) = hashing::hash(file, u64::MAX).about(path, "cannot be read")?;
        sums.push_str(&format!("{hash}  {name}\n"));
        parts.push(Part { kind: *kind, name: name.clone(), size });
    }
    let release =
        Release { version: making.version.to_owned(), roothash, schema: db::snapshot::schema().to_owned(), parts };
    release.check()?;
    let text = serde_json::to_vec_pretty(&release).map_err(std::io::Error::other).about(to, "cannot be written")?;
    let hash = hashing::hash(text.as_slice(), u64::MAX).about(to, "cannot be written")?.1;
    sums.insert_str(0, &format!("{hash}  {RELEASE}\n"));
    let signature = key.0.sign(sums.as_bytes());

    let partial = files::partial(to);
    files::remove_file(&partial)?;
    let file = files::create_private(&partial)?;
    let write = || -> std::io::Result<()> {
        let mut tar = tar::Builder::new(zstd::stream::write::Encoder::new(&file, 10)?);
        let mut add = |name: &str, size: u64, bytes: &mut dyn Read| {
            let mut header = tar::Header::new_gnu();
            header.set_path(name)?;
            header.set_size(size);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_cksum();
            tar.append(&header, bytes)
        };
        add(SUMS, sums.len() as u64, &mut sums.as_bytes())?;
        add(SIGNATURE, signature.as_ref().len() as u64, &mut signature.as_ref())?;
        add(RELEASE, text.len() as u64, &mut text.as_slice())?;
        for ((_, name, path), part) in sources.iter().zip(&release.parts) {
            add(name, part.size, &mut File::open(path)?.take(part.size))?;
        }
        tar.into_inner()?.finish()?.flush()?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.sync_all()?;
        std::fs::rename(&partial, to)
    };
    if let Err(error) = write() {
        let _ = std::fs::remove_file(&partial);
        return Err(error).about(to, "cannot be written");
    }
    Ok(release)
}

fn roothash_in(uki: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"roothash=";
    let at = uki.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let hash = uki.get(at..at + 64)?;
    hash.iter().all(u8::is_ascii_hexdigit).then(|| String::from_utf8_lossy(hash).to_ascii_lowercase())
}

/// Reads an update: `begin` sees what was signed, then `take` gets each part, which it must read to its end, and `whole` hears that
/// the part's hash was right.
///
/// # Errors
/// Why it is not believed.
pub fn read(
    from: &mut dyn Read,
    key: &PublicKey,
    begin: &mut dyn FnMut(&Release) -> Result<()>,
    take: &mut dyn FnMut(&Part, &mut dyn Read) -> Result<()>,
    whole: &mut dyn FnMut(&Part, &str) -> Result<()>,
) -> Result<Release> {
    let name = Path::new("the update");
    const BROKEN: &str = "is not whole, or is none";
    let mut decoder = zstd::stream::read::Decoder::new(from).about(name, BROKEN)?;
    decoder.window_log_max(WINDOW_LOG_MAX).about(name, BROKEN)?;
    let mut archive = tar::Archive::new(decoder);
    let mut entries = archive.entries().about(name, BROKEN)?.raw(true);
    let mut small = |wanted: &str| -> Result<Vec<u8>> {
        let Some(entry) = entries.next() else { return refused("the update ends before its beginning is whole") };
        let mut entry = entry.about(name, BROKEN)?;
        let fits = entry.header().entry_type().is_file() && entry.path_bytes().as_ref() == wanted.as_bytes();
        if !fits || entry.size() > SMALL {
            return refused(format!("the update has something else where {wanted} should be"));
        }
        let mut bytes = Vec::new();
        (&mut entry).take(SMALL).read_to_end(&mut bytes).about(name, BROKEN)?;
        Ok(bytes)
    };
    let (sums, signature) = (small(SUMS)?, small(SIGNATURE)?);
    if !key.verify(&sums, &signature) {
        return refused("the update is not signed by the release key that this machine trusts: nothing of it is used");
    }
    let mut hashes = BTreeMap::new();
    for line in String::from_utf8_lossy(&sums).lines() {
        if let Some((hash, name)) = line.split_once("  ") {
            hashes.insert(name.to_owned(), hash.to_owned());
        }
    }
    let text = small(RELEASE)?;
    let wanted = |name: &str| hashes.get(name).cloned().unwrap_or_default();
    if hashing::hash(text.as_slice(), SMALL).about(name, BROKEN)?.1 != wanted(RELEASE) {
        return refused("the update's description is not what was signed");
    }
    let release: Release = match serde_json::from_slice(&text) {
        Ok(release) => release,
        Err(error) => return refused(format!("the update's description cannot be read: {error}")),
    };
    release.check()?;
    begin(&release)?;
    for part in &release.parts {
        let Some(entry) = entries.next() else {
            return refused(format!("the update was cut off before {}", part.name));
        };
        let mut entry = entry.about(name, BROKEN)?;
        let fits = entry.header().entry_type().is_file() && entry.path_bytes().as_ref() == part.name.as_bytes();
        if !fits || entry.size() != part.size {
            return refused(format!("the update has something else where {} should be", part.name));
        }
        let mut reading = Hashing::new(&mut entry);
        take(part, &mut reading)?;
        if reading.count != part.size {
            return refused(format!("{} was cut off", part.name));
        }
        let hash = reading.finish();
        if hash != wanted(&part.name) {
            return refused(format!("{} is not what was signed", part.name));
        }
        whole(part, &hash)?;
    }
    Ok(release)
}
