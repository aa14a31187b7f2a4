//! The disk formats, by the names that the Image API uses.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    Raw,
    Qcow2,
    Vmdk,
    Vdi,
    Vhd,
    Vhdx,
    Iso,
    Ami,
    Ari,
    Aki,
}

impl Format {
    /// In the order in which the image schema lists them.
    pub const ALL: [Format; 10] = [
        Format::Ami,
        Format::Ari,
        Format::Aki,
        Format::Vhd,
        Format::Vhdx,
        Format::Vmdk,
        Format::Raw,
        Format::Qcow2,
        Format::Vdi,
        Format::Iso,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vmdk => "vmdk",
            Format::Vdi => "vdi",
            Format::Vhd => "vhd",
            Format::Vhdx => "vhdx",
            Format::Iso => "iso",
            Format::Ami => "ami",
            Format::Ari => "ari",
            Format::Aki => "aki",
        }
    }

    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether the bytes of the file are the bytes of the disk, so that no conversion is needed.
    pub fn is_flat(self) -> bool {
        matches!(self, Format::Raw | Format::Iso | Format::Ami | Format::Ari | Format::Aki)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
