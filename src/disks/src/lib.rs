//! Disk image formats: inspect, convert to raw, clone, grow, checksum.
//!
//! Knows nothing of the database or of HTTP. Every byte it reads may have been written by an attacker, so what must stay
//! true here is:
//!
//! - the format is told by the caller, never guessed (a guess lets a guest turn its raw disk into something else);
//! - nothing in an image ever names another file that we then open;
//! - memory is bounded by constants, and time and output by [`Limits`] and by the length of the file.

mod clone;
pub mod convert;
#[cfg(feature = "corpus")]
pub mod corpus;
mod error;
mod format;
mod hash;
mod inspect;
mod jail;
mod qcow2;
mod qcow2_writer;
mod source;
mod sparse;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

pub use clone::{CloneKind, clone_file, grow, persist, sync_directory};
pub use convert::{Conversion, convert_to_raw};
pub use error::{Error, Refused};
pub use format::Format;
pub use hash::{Digests, Hasher, Md5Hasher, Sha512Hasher};
pub use inspect::{Inspection, Limits, inspect, inspect_file};
pub use jail::{JailParams, JailReport, convert_in_jail, main as convert_main};
pub use qcow2_writer::write_qcow2;
pub use source::{FileSource, Source};
