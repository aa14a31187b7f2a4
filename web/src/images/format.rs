//! Which format a file has, by its first bytes: a proposal for who uploads it. The Image service looks for itself and
//! refuses what is not as it is called.

/// Of an ISO 9660 file system the mark stands here.
const ISO_AT: usize = 32_769;
/// How much has to be there for every mark.
pub const LOOK_BYTES: usize = ISO_AT + 5;

/// As `disk_format` has it. `name` helps where bytes say nothing.
#[must_use]
pub fn proposed(start: &[u8], name: &str) -> &'static str {
    let marks: [(usize, &[u8], &str); 6] = [
        (0, b"QFI\xfb", "qcow2"),
        (0, b"vhdxfile", "vhdx"),
        (0, b"conectix", "vhd"),
        (0, b"KDMV", "vmdk"),
        (0x40, b"\x7f\x10\xda\xbe", "vdi"),
        (ISO_AT, b"CD001", "iso"),
    ];
    for (at, mark, format) in marks {
        // A hybrid image is a disk as well, yet what it is made for is to be an ISO.
        if start.get(at..at + mark.len()) == Some(mark) {
            return format;
        }
    }
    if start.starts_with(b"# Disk DescriptorFile") {
        return "vmdk";
    }
    match name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).as_deref() {
        Some("qcow2") => "qcow2",
        Some("vmdk") => "vmdk",
        Some("vhdx") => "vhdx",
        Some("vhd") => "vhd",
        Some("vdi") => "vdi",
        Some("iso") => "iso",
        _ => "raw",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_win_over_the_name() {
        assert_eq!(proposed(b"QFI\xfb\0\0\0\x03", "disk.raw"), "qcow2");
        assert_eq!(proposed(b"\xeb\x63\x90", "disk.QCOW2"), "qcow2");
        assert_eq!(proposed(b"\xeb\x63\x90", "disk.img"), "raw");
        assert_eq!(proposed(b"", ""), "raw");
        let mut iso = vec![0; LOOK_BYTES];
        iso[ISO_AT..].copy_from_slice(b"CD001");
        assert_eq!(proposed(&iso, "debian.img"), "iso");
    }
}
