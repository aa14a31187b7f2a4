//! What can go wrong below SQL, and how a broken constraint becomes a caller's own error.

/// A failure of the database itself. A service turns the expected ones (a unique key taken) into its own words
/// with [`Constraint`] and lets the rest become an internal error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("database statement failed")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the disk that holds the database is full")]
    Full,
    #[error("the database has migration {0:?}, which this program does not know: it was written by a newer version")]
    UnknownMigration(String),
    #[error("migration {name} failed")]
    Migration { name: String, source: rusqlite::Error },
    #[error("the database has to be brought up to date, but no copy of it can be kept in {}, so it was left as it is: {source}", path.display())]
    Snapshot { path: std::path::PathBuf, source: Box<Error> },
    #[error("a row that must exist is missing: {0}")]
    Missing(&'static str),
    #[error("a transaction panicked; its rows were taken back")]
    Panicked,
    #[error("the database is closed")]
    Closed,
    #[error("the database file cannot be prepared")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Corrupt(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The `table.column` list when a UNIQUE or PRIMARY KEY constraint refused the statement.
    #[must_use]
    pub fn unique(&self) -> Option<&str> {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(code, Some(message)))
                if code.code == rusqlite::ErrorCode::ConstraintViolation =>
            {
                message.strip_prefix("UNIQUE constraint failed: ")
            }
            _ => None,
        }
    }

    /// Whether a foreign key refused the statement.
    #[must_use]
    pub fn foreign(&self) -> bool {
        matches!(self, Self::Sqlite(rusqlite::Error::SqliteFailure(code, _))
            if code.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
    }

    /// Whether there was no space to write.
    #[must_use]
    pub fn full(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Sqlite(rusqlite::Error::SqliteFailure(code, _)) => code.code == rusqlite::ErrorCode::DiskFull,
            _ => false,
        }
    }
}

/// Names the constraint that a user can run into, and says it in the service's words.
pub trait Constraint<T>: Sized {
    /// `columns` as SQLite prints them: `table.column` or `table.a, table.b`.
    ///
    /// # Errors
    /// The given error when that unique key is taken, else the database's own, converted.
    fn on_unique<E: From<Error>>(self, columns: &str, error: impl FnOnce() -> E) -> std::result::Result<T, E>;

    /// # Errors
    /// The given error when a foreign key refused, else the database's own, converted.
    fn on_foreign<E: From<Error>>(self, error: impl FnOnce() -> E) -> std::result::Result<T, E>;
}

impl<T> Constraint<T> for Result<T> {
    fn on_unique<E: From<Error>>(self, columns: &str, error: impl FnOnce() -> E) -> std::result::Result<T, E> {
        self.map_err(|cause| if cause.unique() == Some(columns) { error() } else { cause.into() })
    }

    fn on_foreign<E: From<Error>>(self, error: impl FnOnce() -> E) -> std::result::Result<T, E> {
        self.map_err(|cause| if cause.foreign() { error() } else { cause.into() })
    }
}
