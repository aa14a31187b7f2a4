//! SQLite for all services: one writer thread, many readers, one migration history.
//!
//! What must stay true:
//! - a write closure is synchronous, so no transaction ever spans an `.await`;
//! - `write` answers only after the commit that holds its rows is on disk (`synchronous=FULL`);
//! - writes that queue while a commit runs share the next one, each inside its own savepoint, so a failing closure
//!   takes back only its own rows;
//! - a generation counter moves after the commit and before the writer is answered, so a cache keyed by a generation
//!   read *before* its data can never outlive a write that was acknowledged.

pub mod clock;
mod error;
mod generation;
pub mod measure;
mod migrations;
mod readers;
pub mod snapshot;
mod tx;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use clock::Clock;
pub use error::{Constraint, Error, Result};
pub use generation::{Changes, Generation};
pub use rusqlite::{self, Row, ToSql, named_params, params, params_from_iter, types::Value};
pub use tx::Tx;

/// A handle on the database; clones share everything.
#[derive(Clone, Debug)]
pub struct Db {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: writer::Writer,
    readers: readers::Readers,
    generations: Arc<generation::Generations>,
    path: PathBuf,
}

impl Db {
    /// Opens (and creates, mode 0600) the file at `path` and brings its schema up to date, after a copy was put beside it.
    ///
    /// # Errors
    /// When the file cannot be opened, holds a migration that this program does not know, no copy can be made, or
    /// a migration fails.
    pub fn open(path: &Path) -> Result<Self> {
        let generations = Arc::new(generation::Generations::default());
        let mut connection = tx::connect(path, tx::Mode::ReadWrite)?;
        snapshot::before_migrating(&connection, path)?;
        migrations::migrate(&mut connection)?;
        let writer = writer::Writer::start(connection, Arc::clone(&generations))?;
        let readers = readers::Readers::new(path);
        Ok(Self { inner: Arc::new(Inner { writer, readers, generations, path: path.to_owned() }) })
    }

    /// Runs `f` in a write transaction and returns once it is durable. An `Err` from `f` takes its rows back.
    ///
    /// # Errors
    /// What `f` returned, or the database's own failure (converted) when the commit did not happen.
    pub async fn write<T, E, F>(&self, f: F) -> std::result::Result<T, E>
    where
        F: FnOnce(&Tx<'_>) -> std::result::Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.inner.writer.write(f).await
    }

    /// Runs `f` on a snapshot. Writing inside fails.
    ///
    /// It runs on the calling thread: readers wait for nobody in WAL mode, and handing a query of microseconds to another
    /// thread costs more than the query. The runtime's worker threads are thereby also the bound on how many read at once.
    ///
    /// # Errors
    /// What `f` returned, or the database's own failure (converted); [`Error::Panicked`] when `f` panicked.
    pub async fn read<T, E, F>(&self, f: F) -> std::result::Result<T, E>
    where
        F: FnOnce(&Tx<'_>) -> std::result::Result<T, E> + Send,
        T: Send,
        E: From<Error> + Send,
    {
        // Many reads in one request let others have a turn.
        tokio::task::coop::consume_budget().await;
        self.read_blocking(f)
    }

    /// [`Db::read`] where nothing can be awaited.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub fn read_blocking<T, E, F>(&self, f: F) -> std::result::Result<T, E>
    where
        F: FnOnce(&Tx<'_>) -> std::result::Result<T, E>,
        E: From<Error>,
    {
        // Unwinding drops the connection, and closures own what they touch: nothing half-changed is seen afterwards.
        let reading = std::panic::AssertUnwindSafe(|| self.inner.readers.read(f));
        std::panic::catch_unwind(reading).unwrap_or_else(|_| Err(Error::Panicked.into()))
    }

    /// The counter moved by every committed write to tables whose name starts with `<service>_`.
    #[must_use]
    pub fn generation(&self, service: &'static str) -> Generation {
        self.inner.generations.of(service)
    }

    /// Wakes after committed writes to tables whose name starts with `<service>_`: the signal of reconcilers.
    #[must_use]
    pub fn changes(&self, service: &'static str) -> Changes {
        self.inner.generations.of(service).changes()
    }

    /// What the writer has done and has before it.
    #[must_use]
    pub fn activity(&self) -> measure::Activity {
        self.inner.writer.activity()
    }

    /// Where the database file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

/// The schema as produced by all migrations, one statement per object, sorted by name: compared with `schema.sql`.
///
/// # Errors
/// When a migration fails.
pub fn produced_schema() -> Result<String> {
    let mut connection = rusqlite::Connection::open_in_memory()?;
    migrations::migrate(&mut connection)?;
    migrations::dump(&connection)
}
