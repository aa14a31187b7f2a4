//! The one error of this crate. Its text is for operators: it names the object and what the kernel or the tool said.

use std::io;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked for something that can never work; nothing was changed.
    #[error("invalid specification: {0}")]
    Invalid(String),
    /// The object that the call builds on does not exist (for example a tap on a network without a namespace).
    #[error("{0} does not exist")]
    NotFound(String),
    /// Another process holds the object.
    #[error("{0} is held by another process")]
    Busy(String),
    /// The deadline passed. The work may still finish; calling again is safe.
    #[error("{0} did not finish in time")]
    Timeout(String),
    /// The host lacks something: a program, a kernel feature, privileges.
    #[error("this host lacks what {what} needs: {reason}")]
    Unsupported { what: String, reason: String },
    /// A program refused or failed; `stderr` is what it said.
    #[error("{program} failed ({status}): {stderr}")]
    Command { program: String, status: String, stderr: String },
    /// The kernel refused.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }

    /// The errno of a kernel refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
