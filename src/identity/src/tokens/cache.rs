//! Tokens already looked up, by the hash of their text. An entry counts only while the generation of Identity's tables is
//! the one that was read *before* its data; expiry is not its business.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use db::Generation;

use super::model::Known;

/// Entries per half. A full half pushes out the other, so at most twice as many are held.
const HALF_MAX: usize = 1024;

pub(crate) type Hash = [u8; 32];

#[derive(Debug)]
struct Entry {
    generation: u64,
    known: Arc<Known>,
}

#[derive(Debug, Default)]
struct Halves {
    fresh: HashMap<Hash, Entry>,
    old: HashMap<Hash, Entry>,
}

#[derive(Debug)]
pub(crate) struct Cache {
    generation: Generation,
    halves: RwLock<Halves>,
}

impl Cache {
    pub(crate) fn new(generation: Generation) -> Self {
        Self { generation, halves: RwLock::default() }
    }

    /// The generation to read before the data of an entry.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    pub(crate) fn hash(token: &str) -> Hash {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        hash
    }

    pub(crate) fn get(&self, hash: &Hash) -> Option<Arc<Known>> {
        let now = self.generation.get();
        let halves = self.halves.read().unwrap_or_else(PoisonError::into_inner);
        let (entry, old) = match halves.fresh.get(hash) {
            Some(entry) => (entry, false),
            None => (halves.old.get(hash)?, true),
        };
        if entry.generation != now {
            return None;
        }
        let known = Arc::clone(&entry.known);
        drop(halves);
        if old {
            self.put(*hash, now, Arc::clone(&known));
        }
        Some(known)
    }

    pub(crate) fn put(&self, hash: Hash, generation: u64, known: Arc<Known>) {
        let mut halves = self.halves.write().unwrap_or_else(PoisonError::into_inner);
        if halves.fresh.len() >= HALF_MAX && !halves.fresh.contains_key(&hash) {
            halves.old = std::mem::take(&mut halves.fresh);
        }
        halves.fresh.insert(hash, Entry { generation, known });
    }
}
