//! Domains whose users and groups live in a directory server (LDAP), read only.
//!
//! ```text
//! options  a domain's `ldap` options, checked
//! server   connections, searches, binds (LDAP)
//! entries  what an entry means (pure)
//! names    distinguished names, filters, public ids (pure)
//! mirror   rows of what was seen
//! ```
//!
//! What was seen of a directory is written down as rows like any other user's, so roles, lists and policy know no difference. Who
//! asks about such a user, logs in as one or shows its token makes the rows be looked at again if they are older than
//! `identity.directory_cache_s`. Rows are never removed, because roles hang on them: what a directory no longer has is *gone*,
//! which is disabled, invisible and voids tokens.
//!
//! What must stay true: no network call inside a transaction; a directory that does not answer fails what needs it, with
//! 503, and nothing else; nobody without a token makes this service write.

mod entries;
mod mirror;
mod names;
pub(crate) mod options;
mod refresh;
mod server;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use db::Generation;
use time::OffsetDateTime;

pub(crate) use refresh::{What, follow_config, read_only};

use self::{options::Settings, server::Server};

/// When things were last looked at; old entries go when there are this many.
const PRUNE_AT: usize = 50_000;

/// One domain's directory.
#[derive(Debug)]
pub(crate) struct Directory {
    pub domain_id: String,
    settings: Arc<Settings>,
    server: Server,
    /// Of the whole: one at a time.
    sync: tokio::sync::Mutex<Option<OffsetDateTime>>,
}

impl Directory {
    fn new(domain_id: String, settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let server = Server::new(domain_id.clone(), Arc::clone(&settings));
        Self { domain_id, settings, server, sync: tokio::sync::Mutex::default() }
    }
}

/// By domain; with the generation under which options were read.
type Known = (Option<u64>, HashMap<String, Arc<Directory>>);

/// The directories by domain, as their options were at some generation.
#[derive(Debug)]
pub(crate) struct Directories {
    generation: Generation,
    known: RwLock<Known>,
    /// When users and groups were last looked at.
    checked: Mutex<HashMap<String, OffsetDateTime>>,
}

impl Directories {
    pub(crate) fn new(generation: Generation) -> Self {
        Self { generation, known: RwLock::default(), checked: Mutex::default() }
    }

    fn checked(&self) -> MutexGuard<'_, HashMap<String, OffsetDateTime>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, id: &str, now: OffsetDateTime, for_at_most: Duration) -> bool {
        self.checked().get(id).is_some_and(|at| is_fresh(*at, now, for_at_most))
    }

    fn note(&self, id: &str, now: OffsetDateTime, for_at_most: Duration) {
        let mut checked = self.checked();
        if checked.len() >= PRUNE_AT {
            checked.retain(|_, at| is_fresh(*at, now, for_at_most));
        }
        if checked.len() < PRUNE_AT {
            checked.insert(id.to_owned(), now);
        }
    }

    /// Other options are another directory, perhaps.
    fn forget(&self) {
        self.checked().clear();
    }
}

/// A clock that was set back makes nothing fresh.
fn is_fresh(at: OffsetDateTime, now: OffsetDateTime, for_at_most: Duration) -> bool {
    at <= now && at + for_at_most > now
}
