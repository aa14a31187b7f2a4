//! What can go wrong, kept apart by whose fault it is: the image's, the disk's, or ours.

use std::io;

/// The image is not acceptable. The reason is a lower-case sentence meant for the person who made the image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    pub reason: String,
}

impl Refused {
    pub fn new(reason: impl Into<String>) -> Self {
        Refused { reason: reason.into() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image's fault.
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("cannot read the image")]
    Source(#[source] io::Error),
    #[error("cannot write the disk")]
    Dest(#[source] io::Error),
    #[error("no space left on the disk")]
    NoSpace,
    #[error("the work was cancelled")]
    Cancelled,
    #[error("the conversion did not end in time")]
    Deadline,
    /// The helper process died or could not be started.
    #[error("the conversion helper failed: {0}")]
    Helper(String),
}

impl Error {
    pub(crate) fn refused<T>(reason: impl Into<String>) -> Result<T, Error> {
        Err(Error::Refused(Refused::new(reason)))
    }

    /// A failed write, with the one cause that callers must tell apart.
    pub fn dest(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace,
            _ => Error::Dest(error),
        }
    }
}
