//! One function per parser that takes bytes and must return: what the property tests and the fuzz targets call.

use alloc::{boxed::Box, rc::Rc, string::String, vec::Vec};

use crate::{
    bls, boot,
    disk::{Disk, Memory},
    ext4::Ext4,
    fat::Fat,
    file::FileMap,
    grub, linux, partitions, uki,
};

fn disk(data: &[u8]) -> Rc<Disk> {
    Rc::new(Disk::new(Box::new(Memory(data.to_vec()))))
}

/// A disk image, through all that a boot does.
pub fn whole_disk(data: &[u8]) {
    let _ = boot::find(disk(data), &[]);
}

pub fn partition_table(data: &[u8]) {
    let _ = partitions::read(&disk(data));
}

const PATHS: [&str; 5] = ["/", "/boot/grub/grub.cfg", "/a/../b/./c", "/link", "/EFI/BOOT/BOOTX64.EFI"];

pub fn ext4(data: &[u8]) {
    if let Ok(fs) = Ext4::open(disk(data), 0, data.len() as u64) {
        for path in PATHS {
            let _ = fs.node(path);
            let _ = fs.file(path);
            let _ = fs.list(path, 100);
        }
    }
}

pub fn fat(data: &[u8]) {
    if let Ok(fs) = Fat::open(disk(data), 0, data.len() as u64) {
        let _ = fs.label();
        for path in PATHS {
            let _ = fs.node(path);
            let _ = fs.file(path);
            let _ = fs.list(path, 100);
        }
    }
}

/// A grub.cfg, parsed and run on a small tree of files.
pub fn grub_config(data: &[u8]) {
    let volumes = crate::tree::sample(&[
        ("/boot/grub/grub.cfg", data),
        ("/vmlinuz", &kernel()),
        ("/initrd", b"x"),
        ("/more.cfg", data),
    ]);
    let _ = boot::find_in(&volumes, &[]);
}

/// A menu.lst or extlinux.conf.
pub fn boot_list(data: &[u8]) {
    for path in ["/boot/grub/menu.lst", "/boot/extlinux.conf"] {
        let volumes = crate::tree::sample(&[(path, data), ("/vmlinuz", &kernel()), ("/initrd", b"x")]);
        let _ = boot::find_in(&volumes, &[]);
    }
}

pub fn grub_environment(data: &[u8]) {
    if let Ok(block) = grub::EnvironmentBlock::parse(data) {
        let _ = block.content();
    }
}

pub fn boot_entry(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let entry = bls::parse_entry("name+3-1.conf", &text);
    let _ = bls::order(&entry, &bls::parse_entry("other.conf", &text));
    let (pattern, name) = text.split_once('\n').unwrap_or((&text, ""));
    let _ = bls::matches(pattern, name);
    let _ = crate::version::rpm(pattern, name);
    let _ = crate::version::uapi(pattern, name);
}

pub fn unified_kernel(data: &[u8]) {
    let map = FileMap {
        bytes: data.len() as u64,
        extents: alloc::vec![crate::file::Extent { file: 0, disk: Some(0), bytes: data.len() as u64 }],
    };
    let mut padded = data.to_vec();
    padded.resize(padded.len().next_multiple_of(512), 0);
    let _ = uki::parse(&disk(&padded), &map);
}

pub fn smbios(data: &[u8]) {
    let _ = crate::smbios::entry_point(data);
    for what in [crate::smbios::What::String, crate::smbios::What::Uuid] {
        let _ = crate::smbios::ask(data, &crate::smbios::Query { kind: None, handle: None, nth: 1, what, offset: 4 });
    }
}

pub fn kernel_header(data: &[u8]) {
    if let Ok(header) = linux::Header::parse(data, 16 << 20) {
        let map = [crate::memory::Region { start: 0x10_0000, bytes: 511 << 20, kind: crate::memory::RAM }];
        if let Ok(places) = linux::place(&header, &[1 << 20, 513], &map, &[]) {
            let _ = linux::zero_page(&header, &map, 0, 0, places.initrd, None);
        }
    }
}

/// The smallest file that passes for a kernel.
pub fn kernel() -> Vec<u8> {
    let mut kernel = alloc::vec![0u8; 8192];
    let fields: [(usize, &[u8]); 11] = [
        (0x1f1, &[3]),
        (0x1fe, &[0x55, 0xaa]),
        (0x200, &[0xeb, 0x6a]),
        (0x202, b"HdrS"),
        (0x206, &0x20fu16.to_le_bytes()),
        (0x211, &[1]),
        (0x22c, &0x7fff_ffffu32.to_le_bytes()),
        (0x230, &0x20_0000u32.to_le_bytes()),
        (0x234, &[1, 21, 3, 0]),
        (0x238, &2047u32.to_le_bytes()),
        (0x258, &0x100_0000u64.to_le_bytes()),
    ];
    for (at, value) in fields {
        crate::bytes::put(&mut kernel, at, value);
    }
    crate::bytes::put(&mut kernel, 0x260, &0x200_0000u32.to_le_bytes());
    kernel
}
