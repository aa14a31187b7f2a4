//! Why something could not be read or started. The text ends in the console log and in the VMM's event.

use alloc::string::String;
use core::fmt;

pub type Result<T> = core::result::Result<T, Error>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The device said no, or the request lies outside the disk.
    Io,
    NotFound,
    /// The structure contradicts itself.
    Corrupt(&'static str),
    /// Valid, but not ours to understand.
    Unsupported(&'static str),
    /// A bound of ours was hit.
    Limit(&'static str),
    /// With names in it.
    Because(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io => f.write_str("the disk cannot be read"),
            Error::NotFound => f.write_str("not found"),
            Error::Corrupt(what) => write!(f, "damaged: {what}"),
            Error::Unsupported(what) => write!(f, "not supported: {what}"),
            Error::Limit(what) => write!(f, "over the limit: {what}"),
            Error::Because(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for Error {}

/// `because!("no entry {id}")`
#[macro_export]
macro_rules! because {
    ($($part:tt)*) => { $crate::Error::Because(alloc::format!($($part)*)) };
}
