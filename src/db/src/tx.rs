//! What a closure sees of a transaction, and how connections are opened.

use std::{cell::RefCell, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row, functions::FunctionFlags};

use crate::{Error, Result};

type Hook = Box<dyn FnOnce() + Send>;

/// A transaction: statements only, no way to end it. It is ended by the closure's result.
pub struct Tx<'c> {
    connection: &'c Connection,
    hooks: RefCell<Vec<Hook>>,
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}

impl<'c> Tx<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self { connection, hooks: RefCell::new(Vec::new()) }
    }

    pub(crate) fn into_hooks(self) -> Vec<Hook> {
        self.hooks.into_inner()
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// The statement's failure; see [`crate::Constraint`] for the expected ones.
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }

    /// The first row, if any.
    ///
    /// # Errors
    /// The statement's failure.
    pub fn find<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.connection.prepare_cached(sql)?.query_row(params, map).optional()?)
    }

    /// The first row, which must be there (an aggregate, a row that a foreign key guarantees).
    ///
    /// # Errors
    /// The statement's failure, or [`Error::Missing`].
    pub fn get<T>(
        &self,
        what: &'static str,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.find(sql, params, map)?.ok_or(Error::Missing(what))
    }

    /// All rows.
    ///
    /// # Errors
    /// The statement's failure.
    pub fn list<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params, map)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether the query has a row.
    ///
    /// # Errors
    /// The statement's failure.
    pub fn exists(&self, sql: &str, params: impl Params) -> Result<bool> {
        Ok(self.connection.prepare_cached(sql)?.exists(params)?)
    }

    /// The integer that an aggregate query (`SELECT count(*) ...`) answers.
    ///
    /// # Errors
    /// The statement's failure.
    pub fn count(&self, sql: &str, params: impl Params) -> Result<i64> {
        self.get("an aggregate", sql, params, |row| Ok(row.get::<_, Option<i64>>(0)?.unwrap_or(0)))
    }

    /// Runs `hook` after this transaction is durable, before the writer is answered. Dropped when it is taken back.
    pub fn after_commit(&self, hook: impl FnOnce() + Send + 'static) {
        self.hooks.borrow_mut().push(Box::new(hook));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    ReadWrite,
    ReadOnly,
}

pub(crate) fn connect(path: &Path, mode: Mode) -> Result<Connection> {
    let flags = match mode {
        Mode::ReadWrite => {
            create_private(path)?;
            OpenFlags::SQLITE_OPEN_READ_WRITE
        }
        Mode::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(if mode == Mode::ReadWrite { 256 } else { 128 });
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Kibibytes of page cache. The whole control plane has a memory budget (DESIGN, Budgets).
    connection.pragma_update(None, "cache_size", if mode == Mode::ReadWrite { -2048 } else { -1024 })?;
    if mode == Mode::ReadWrite {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    // `X REGEXP Y` calls regexp(Y, X). Linear time, and a pattern cannot grow beyond a size; a pattern that does not
    // parse must be refused by the caller before it gets here.
    connection.create_scalar_function(
        "regexp",
        2,
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC,
        |context| {
            let pattern = context.get_or_create_aux(0, |value| -> std::result::Result<_, regex::Error> {
                regex::RegexBuilder::new(value.as_str().unwrap_or_default()).size_limit(1 << 18).build()
            })?;
            Ok(context.get_raw(1).as_str().is_ok_and(|text| pattern.is_match(text)))
        },
    )?;
    Ok(connection)
}

pub(crate) fn create_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    Ok(())
}
