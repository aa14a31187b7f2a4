//! Passwords: argon2id in PHC form, hashed off the async threads, few at a time.
//!
//! The memory of one hash is returned to the system at once: glibc keeps freed blocks below 32 MiB for itself (its
//! threshold grows with use), so the buffer is reserved larger than that and only its first 19 MiB are ever touched.

mod lockout;
mod rules;
pub(crate) mod totp;

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Block, Params, Version, password_hash::Output};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use rest::{Error, Kind};
use tokio::sync::Semaphore;

pub use self::rules::PasswordRules;
pub(crate) use self::rules::{NewPassword, Rules};
use crate::{Result, fernet};

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const OUTPUT_BYTES: usize = 32;
/// One block is a kibibyte.
const RESERVED_BLOCKS: usize = 33 * 1024;
/// Hashes at once: more would only share the same cores and multiply the memory.
const AT_ONCE: usize = 2;
/// Requests that may wait for their turn; beyond that a login is answered 503 at once.
const WAITING_MAX: usize = 256;
/// As long as Keystone accepts.
pub(crate) const PASSWORD_MAX_BYTES: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    turns: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    /// Compared against when there is nothing to compare with, so that this takes as long.
    nobody: Arc<str>,
}

impl Hasher {
    pub(crate) fn new() -> Result<Self> {
        let nobody = encode(&[0; 16], &[0; OUTPUT_BYTES]);
        Ok(Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            queue: Arc::new(Semaphore::new(WAITING_MAX)),
            nobody: nobody.into(),
        })
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> rest::Result<T> {
        let busy = || Error::new(Kind::Unavailable, "Too many logins at once, please try again.");
        let _place = self.queue.try_acquire().map_err(|_| busy())?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| busy())?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        })
        .await
        .map_err(Error::internal)
    }

    pub(crate) async fn hash(&self, password: String) -> rest::Result<String> {
        self.run(move || hash(&password)).await?.map_err(Error::internal)
    }

    /// Whether the password fits. Without a hash the answer is no, after the same work.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> rest::Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        let fits = self.run(move || verify(&password, &hash)).await?;
        Ok(fits && known)
    }
}

pub(crate) fn hash(password: &str) -> std::result::Result<String, String> {
    let salt: [u8; 16] = fernet::random().ok_or("no random numbers")?;
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(OUTPUT_BYTES)).map_err(|error| error.to_string())?;
    let output = derive(password, &salt, params).ok_or("argon2 refused its input")?;
    Ok(encode(&salt, &output))
}

fn encode(salt: &[u8], output: &[u8]) -> String {
    format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(output)
    )
}

fn verify(password: &str, stored: &str) -> bool {
    let Some((params, salt, want)) = parse(stored) else {
        tracing::error!("a stored password hash cannot be read");
        return false;
    };
    let got = derive(password, &salt, params).and_then(|got| Output::new(&got).ok());
    // `Output` compares in constant time.
    got.is_some() && got == Output::new(&want).ok()
}

/// Whether this is a hash that passwords can be compared with, in bounded memory and time.
pub(crate) fn is_hash(stored: &str) -> bool {
    parse(stored).is_some_and(|(params, _, _)| params.m_cost() <= 1 << 18 && params.t_cost() <= 64)
}

fn derive(password: &str, salt: &[u8], params: Params) -> Option<[u8; OUTPUT_BYTES]> {
    let blocks = params.block_count();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut memory: Vec<Block> = Vec::with_capacity(blocks.max(RESERVED_BLOCKS));
    memory.resize(blocks, Block::default());
    let mut output = [0; OUTPUT_BYTES];
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut output, &mut memory).ok()?;
    Some(output)
}

fn parse(stored: &str) -> Option<(Params, Vec<u8>, Vec<u8>)> {
    let mut parts = stored.split('$').skip(1);
    if parts.next()? != "argon2id" || parts.next()? != "v=19" {
        return None;
    }
    let mut numbers = parts.next()?.split(',').map(|pair| pair.split_once('='));
    let mut number = |name: &str| numbers.next()?.filter(|(key, _)| *key == name)?.1.parse::<u32>().ok();
    let (memory, passes, lanes) = (number("m")?, number("t")?, number("p")?);
    let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
    let output = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
    let params = Params::new(memory, passes, lanes, Some(output.len())).ok()?;
    (output.len() == OUTPUT_BYTES).then_some((params, salt, output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_only() {
        for password in ["secret", "", "пароль 🔑 $&'\"\\", &"x".repeat(4096)] {
            let stored = hash(password).unwrap();
            assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
            assert!(verify(password, &stored));
            assert!(!verify(&format!("{password} "), &stored));
        }
        assert_ne!(hash("same").unwrap(), hash("same").unwrap());
        assert!(!verify("x", "plain text") && !verify("x", ""));
    }

    #[tokio::test]
    async fn without_a_hash_no_password_fits() {
        let hasher = Hasher::new().unwrap();
        assert!(!hasher.verify(String::new(), None).await.unwrap());
    }
}
