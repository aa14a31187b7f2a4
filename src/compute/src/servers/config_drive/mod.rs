//! The disk that carries a server's metadata into its guest: a file system labelled `config-2`, in the format that the
//! configuration names. Guests find it by the label and read either.

mod fat;
mod iso9660;

use std::{collections::BTreeMap, io};

use time::OffsetDateTime;

const LABEL: &str = "config-2";

/// What file system config drives have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigDriveFormat {
    /// As upstream's default, and all that some guests look for.
    #[default]
    Iso9660,
    Vfat,
}

/// The whole disk with these files, by their paths.
pub(super) fn write(
    format: ConfigDriveFormat,
    files: &BTreeMap<String, Vec<u8>>,
    now: OffsetDateTime,
) -> io::Result<Vec<u8>> {
    match format {
        ConfigDriveFormat::Iso9660 => iso9660::write(files, LABEL, now),
        ConfigDriveFormat::Vfat => fat::write(files, LABEL),
    }
}
