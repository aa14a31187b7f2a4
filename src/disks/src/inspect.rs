//! The inspector: is this file what it is said to be, and harmless?
//!
//! The declared format decides which parser runs. The content is looked at only to refuse a lie: a "raw" disk that is
//! really qcow2 would be probed as such by the next careless tool, which then opens the files it names.

use std::fs::File;

use crate::error::{Error, Refused};
use crate::format::Format;
use crate::source::{FileSource, Source, bytes};
use crate::{qcow2, vdi, vhd, vhdx, vmdk};

/// Bounds on what an image may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest disk that an image may describe.
    pub max_virtual_bytes: u64,
    /// The most bytes of data (holes not counted) that a conversion may write.
    pub max_output_bytes: u64,
    /// Whether qcow2 images with internal snapshots are taken (only their active state is ever read).
    pub allow_internal_snapshots: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_virtual_bytes: 16 << 40, max_output_bytes: 16 << 40, allow_internal_snapshots: true }
    }
}

/// What an accepted image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    pub format: Format,
    /// Bytes of the disk that a guest will see.
    pub virtual_size_bytes: u64,
    /// Bytes of that disk for which the image holds data; the rest reads as zeros.
    pub data_bytes: u64,
    /// Which variant of the format it is, as in `qcow2 v3` or `vmdk streamOptimized`.
    pub variant: String,
}

/// A parsed image that can be walked. Opening one has already checked everything it points to.
pub(crate) enum Image {
    Flat { format: Format, len: u64 },
    Qcow2(qcow2::Qcow2),
    Vmdk(vmdk::Vmdk),
    Vdi(vdi::Vdi),
    Vhd(vhd::Vhd),
    Vhdx(vhdx::Vhdx),
}

/// Parses and checks an image of the declared format.
pub(crate) fn open(source: &dyn Source, declared: Format, limits: &Limits) -> Result<Image, Error> {
    let found = detect(source)?;
    let image = match declared {
        Format::Raw | Format::Ami | Format::Ari | Format::Aki | Format::Iso => {
            if let Some(found) = found {
                return Error::refused(format!("the image is declared as {declared}, but its content is {found}"));
            }
            if declared == Format::Iso {
                check_iso(source)?;
            }
            Image::Flat { format: declared, len: source.len() }
        }
        // A fixed VHD has no mark at its start, so its parser must look for itself.
        Format::Vhd if found.is_none() => Image::Vhd(vhd::Vhd::open(source)?),
        _ => {
            if found != Some(declared.name()) {
                let found = found.unwrap_or("something else");
                return Error::refused(format!("the image is declared as {declared}, but its content is {found}"));
            }
            match declared {
                Format::Qcow2 => Image::Qcow2(qcow2::Qcow2::open(source, limits)?),
                Format::Vmdk => Image::Vmdk(vmdk::Vmdk::open(source, limits)?),
                Format::Vdi => Image::Vdi(vdi::Vdi::open(source)?),
                Format::Vhd => Image::Vhd(vhd::Vhd::open(source)?),
                _ => Image::Vhdx(vhdx::Vhdx::open(source)?),
            }
        }
    };
    let size = image.virtual_size();
    if size > limits.max_virtual_bytes {
        let max = limits.max_virtual_bytes;
        return Error::refused(format!("the disk in the image is {size} bytes large, and the limit is {max}"));
    }
    if size == 0 && !declared.is_flat() {
        return Error::refused("the disk in the image is 0 bytes large");
    }
    Ok(image)
}

impl Image {
    pub(crate) fn virtual_size(&self) -> u64 {
        match self {
            Image::Flat { len, .. } => *len,
            Image::Qcow2(image) => image.virtual_size(),
            Image::Vmdk(image) => image.virtual_size(),
            Image::Vdi(image) => image.virtual_size(),
            Image::Vhd(image) => image.virtual_size(),
            Image::Vhdx(image) => image.virtual_size(),
        }
    }
}

/// Inspects an image of the declared format. Reads every table of it, but none of its data.
pub fn inspect(source: &dyn Source, declared: Format, limits: &Limits) -> Result<Inspection, Error> {
    let image = open(source, declared, limits)?;
    let virtual_size_bytes = image.virtual_size();
    let (format, data_bytes, variant) = match &image {
        Image::Flat { format, len } => (*format, *len, format.to_string()),
        Image::Qcow2(image) => (Format::Qcow2, image.check(source)?, image.variant()),
        Image::Vmdk(image) => (Format::Vmdk, image.check(source)?, image.variant()),
        Image::Vdi(image) => (Format::Vdi, image.check(source)?, image.variant()),
        Image::Vhd(image) => (Format::Vhd, image.check(source)?, image.variant()),
        Image::Vhdx(image) => (Format::Vhdx, image.check(source)?, image.variant()),
    };
    Ok(Inspection { format, virtual_size_bytes, data_bytes: data_bytes.min(virtual_size_bytes), variant })
}

/// [`inspect`] on a file.
pub fn inspect_file(file: &File, declared: Format, limits: &Limits) -> Result<Inspection, Error> {
    let source = FileSource::new(file).map_err(Error::Source)?;
    inspect(&source, declared, limits)
}

/// The container format that the first bytes claim, if any: only ever used to refuse.
fn detect(source: &dyn Source) -> Result<Option<&'static str>, Error> {
    let head = bytes(source, 0, source.len().min(512), "the first sector")?;
    let starts = |magic: &[u8]| head.starts_with(magic);
    Ok(if starts(b"QFI\xfb") {
        Some(if head.get(4..8) == Some(&[0, 0, 0, 1][..]) { "qcow" } else { "qcow2" })
    } else if starts(b"KDMV") {
        Some("vmdk")
    } else if starts(b"# Disk DescriptorFile") {
        Some("a vmdk descriptor without data")
    } else if starts(b"COWD") {
        Some("vmdk of the COWD kind")
    } else if starts(b"vhdxfile") {
        Some("vhdx")
    } else if starts(b"conectix") {
        Some("vhd")
    } else if head.get(0x40..0x44) == Some(&vdi::SIGNATURE[..]) {
        Some("vdi")
    } else if starts(b"QED\0") {
        Some("qed")
    } else if starts(b"WithoutFreeSpace") || starts(b"WithouFreSpacExt") {
        Some("ploop")
    } else {
        None
    })
}

/// ISO 9660 or UDF: the volume recognition sequence starts at 32 KiB, with the name one byte into each sector.
fn check_iso(source: &dyn Source) -> Result<(), Error> {
    const NAMES: [&[u8]; 4] = [b"CD001", b"BEA01", b"NSR02", b"NSR03"];
    for sector in 16..20u64 {
        let Ok(head) = bytes(source, sector * 2048, 6, "a volume descriptor") else { break };
        if NAMES.contains(&head.get(1..6).unwrap_or_default()) {
            return Ok(());
        }
    }
    Err(Refused::new("the image is declared as iso, but holds no ISO 9660 or UDF volume").into())
}
