//! Any accepted image to a raw disk, and the entry point of the helper process that does it.

use std::fs::File;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::format::Format;
use crate::inspect::{Image, Limits, open};
use crate::source::{FileSource, Source};
use crate::sparse::{Sink, SparseWriter};
use crate::vdi::copy_range;

pub use crate::jail::main;

/// What a conversion made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    /// Length of the raw disk.
    pub virtual_size_bytes: u64,
    /// Bytes really written; the rest are holes.
    pub written_bytes: u64,
}

/// Converts an image of the declared format into `dest`, which is emptied first and is durable afterwards.
///
/// Every check of the inspector is made again: the file may not be what it was when it was inspected.
pub fn convert_to_raw(
    source: &File,
    declared: Format,
    dest: &File,
    limits: &Limits,
    cancel: &AtomicBool,
) -> Result<Conversion, Error> {
    let source = FileSource::new(source).map_err(Error::Source)?;
    let image = open(&source, declared, limits)?;
    let virtual_size_bytes = image.virtual_size();
    let mut out = SparseWriter::new(dest, virtual_size_bytes, limits.max_output_bytes, cancel)?;
    copy(&image, &source, &mut out)?;
    dest.sync_all().map_err(Error::dest)?;
    Ok(Conversion { virtual_size_bytes, written_bytes: out.written() })
}

fn copy(image: &Image, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
    match image {
        Image::Flat { len, .. } => copy_range(source, sink, 0, 0, *len),
        Image::Qcow2(image) => image.copy(source, sink),
        Image::Vmdk(image) => image.copy(source, sink),
        Image::Vdi(image) => image.copy(source, sink),
        Image::Vhd(image) => image.copy(source, sink),
        Image::Vhdx(image) => image.copy(source, sink),
    }
}

/// Exit codes of the helper, for whoever runs it by hand; the parent reads the line on standard error instead.
pub(crate) fn exit_code(result: &Result<Conversion, Error>) -> ExitCode {
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(Error::Refused(_)) => ExitCode::from(2),
        Err(_) => ExitCode::from(1),
    }
}
