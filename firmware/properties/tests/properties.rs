//! Random and nearly right input for every parser: no panic, no endless work. The same functions as the fuzz targets'.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::{
    fs,
    process::{Command, Stdio},
    sync::OnceLock,
};

use firmware::{
    file::{Extent, FileMap, SLACK_BYTES},
    fuzz,
    linux::{Header, place},
    memory::{RAM, Region, Span},
};
use proptest::prelude::*;

/// A small ext4 with a directory, a link, a fragmented pointer map or extents, and a journal.
fn ext4() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("solo-fw-properties-{}", std::process::id()));
        fs::create_dir_all(folder.join("root/boot/grub")).unwrap();
        fs::write(folder.join("root/boot/grub/grub.cfg"), "menuentry x { linux /vmlinuz\n}\n").unwrap();
        fs::write(folder.join("root/vmlinuz"), fuzz::kernel()).unwrap();
        std::os::unix::fs::symlink("/boot/grub/grub.cfg", folder.join("root/link")).unwrap();
        let image = folder.join("image");
        let made = Command::new("mke2fs")
            .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
            .args(["-q", "-F", "-t", "ext4", "-b", "1024", "-N", "32", "-J", "size=1", "-d"])
            .arg(folder.join("root"))
            .arg(&image)
            .arg("1536K")
            .stdin(Stdio::null())
            .status()
            .expect("mke2fs is needed (package e2fsprogs)");
        assert!(made.success());
        let data = fs::read(&image).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        data
    })
}

/// Boot sector, table, root directory with a long name, and a file: FAT12 by hand.
fn fat() -> Vec<u8> {
    let mut data = vec![0; 64 * 512];
    data[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
    for (at, value) in [(11, 512u16), (14, 1), (17, 32), (19, 64), (22, 1), (510, 0xaa55)] {
        data[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    (data[13], data[16], data[21]) = (1, 1, 0xf8);
    data[512..521].copy_from_slice(&[0xf8, 0xff, 0xff, 0x03, 0x40, 0x00, 0xff, 0x0f, 0x00]);
    let root = 2 * 512;
    data[root..root + 11].copy_from_slice(b"EFI        ");
    data[root + 11] = 0x10;
    data[root + 26] = 2;
    data[root + 32..root + 43].copy_from_slice(b"GRUB    CFG");
    (data[root + 32 + 26], data[root + 32 + 28]) = (3, 200);
    data
}

fn changed(base: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    // Metadata is mostly at the front: aim there more often than not.
    let place = prop_oneof![0..4096usize, 0..65536usize, 0..base.len()];
    prop::collection::vec((place, prop_oneof![Just(0u8), Just(0xff), any::<u8>()]), 1..24).prop_map(move |changes| {
        let mut data = base.to_vec();
        for (at, value) in changes {
            if let Some(byte) = data.get_mut(at) {
                *byte = value;
            }
        }
        data
    })
}

fn changed_fat() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((0..2048usize, any::<u8>()), 1..16).prop_map(|changes| {
        let mut data = fat();
        for (at, value) in changes {
            data[at] = value;
        }
        data
    })
}

/// Words that a grub.cfg is made of, in any order.
fn script() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "while",
        "until",
        "for",
        "in",
        "do",
        "done",
        "function",
        "f",
        "{",
        "}",
        "[",
        "]",
        ";",
        "\n",
        "\"",
        "'",
        "$x",
        "${x}",
        "\"$@\"",
        "$*",
        "$1",
        "$",
        "\\",
        "x=1",
        "x=$x$x",
        "set",
        "unset",
        "export",
        "menuentry",
        "submenu",
        "linux",
        "initrd",
        "/vmlinuz",
        "/initrd",
        "search",
        "--file",
        "--set=root",
        "--fs-uuid",
        "source",
        "configfile",
        "$prefix/grub.cfg",
        "/more.cfg",
        "eval",
        "load_env",
        "save_env",
        "blscfg",
        "test",
        "-f",
        "-n",
        "=",
        "-a",
        "-o",
        "!",
        "(",
        ")",
        "break",
        "continue",
        "return",
        "shift",
        "boot",
        "#",
        "smbios",
        "--type",
        "1",
        "probe",
        "default=1>1",
        "true",
        "false",
    ]);
    prop::collection::vec(words, 0..80).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_survived_by_every_parser(data in prop::collection::vec(any::<u8>(), 0..6000)) {
        fuzz::whole_disk(&data);
        fuzz::partition_table(&data);
        fuzz::ext4(&data);
        fuzz::fat(&data);
        fuzz::grub_config(&data);
        fuzz::boot_list(&data);
        fuzz::grub_environment(&data);
        fuzz::boot_entry(&data);
        fuzz::unified_kernel(&data);
        fuzz::kernel_header(&data);
        fuzz::smbios(&data);
    }

    #[test]
    fn a_damaged_ext4_is_survived(data in changed(ext4())) {
        fuzz::ext4(&data);
        fuzz::whole_disk(&data);
    }

    #[test]
    fn a_damaged_fat_is_survived(data in changed_fat()) {
        fuzz::fat(&data);
        fuzz::whole_disk(&data);
    }

    #[test]
    fn any_script_ends(text in script()) {
        fuzz::grub_config(text.as_bytes());
    }

    #[test]
    fn any_kernel_header_is_survived(changes in prop::collection::vec((0x1f0..0x270usize, any::<u8>()), 0..12)) {
        let mut data = fuzz::kernel();
        for (at, value) in changes {
            data[at] = value;
        }
        fuzz::kernel_header(&data);
    }

    #[test]
    fn noise_in_pe_headers_is_survived(changes in prop::collection::vec((0..600usize, any::<u8>()), 0..12)) {
        let mut data = vec![0; 2048];
        data[..2].copy_from_slice(b"MZ");
        data[0x3c] = 0x80;
        data[0x80..0x84].copy_from_slice(b"PE\0\0");
        data[0x84..0x88].copy_from_slice(&[0x64, 0x86, 2, 0]);
        for (at, value) in changes {
            data[at] = value;
        }
        fuzz::unified_kernel(&data);
    }

    #[test]
    fn transfers_cover_a_range_exactly(
        lengths in prop::collection::vec((1u64..20, any::<bool>()), 1..12),
        cut in 0u64..4096,
        offset in 0u64..4096,
        sector in prop::sample::select(vec![512u64, 4096]),
    ) {
        let mut map = FileMap::default();
        let (mut at, mut place) = (0, 1 << 20);
        for (blocks, hole) in lengths {
            let bytes = blocks * 4096;
            map.extents.push(Extent { file: at, disk: (!hole).then_some(place), bytes });
            at += bytes;
            place += bytes + 8192;
        }
        map.bytes = at - cut;
        if let Some(last) = map.extents.last_mut() {
            last.bytes -= cut;
        }
        prop_assume!(offset < map.bytes);
        let bytes = map.bytes - offset;
        let base = 1 << 30;
        let mut next = base;
        for transfer in map.transfers(offset, bytes, base, sector).unwrap() {
            prop_assert!(transfer.memory <= next && transfer.memory + sector > next);
            prop_assert!(transfer.memory + transfer.bytes <= base + bytes + SLACK_BYTES);
            if let Some(disk) = transfer.disk {
                prop_assert!(disk % sector == 0 && transfer.bytes % sector == 0);
            }
            next = (transfer.memory + transfer.bytes).min(base + bytes);
        }
        prop_assert_eq!(next, base + bytes);
    }

    #[test]
    fn kernel_and_initrds_get_memory_of_their_own(
        mib in 20u64..3000,
        init_mib in 1u32..200,
        align in 12u32..26,
        initrds in prop::collection::vec(1u64..(200 << 20), 0..4),
        reserved in prop::collection::vec((0u64..3000, 1u64..64), 0..5),
        relocatable in any::<bool>(),
    ) {
        let mut kernel = fuzz::kernel();
        kernel[0x260..0x264].copy_from_slice(&(init_mib << 20).to_le_bytes());
        kernel[0x230..0x234].copy_from_slice(&(1u32 << align).to_le_bytes());
        kernel[0x234] = u8::from(relocatable);
        let header = Header::parse(&kernel, 10 << 20).unwrap();
        let mut map = vec![Region { start: 0, bytes: 0xa0000, kind: RAM }, Region { start: 1 << 20, bytes: (mib - 1) << 20, kind: RAM }];
        map.extend(reserved.iter().map(|&(start, bytes)| Region { start: start << 20, bytes: bytes << 20, kind: 2 }));
        let taken = [Span { start: 0, end: 12 << 20 }];
        if let Ok(places) = place(&header, &initrds, &map, &taken) {
            let mut spans = vec![(places.kernel - header.setup_bytes - SLACK_BYTES, places.kernel + header.init_bytes)];
            spans.extend(places.initrds.iter().zip(&initrds).map(|(&at, &bytes)| (at - SLACK_BYTES, at + bytes)));
            spans.push((0, 12 << 20));
            spans.extend(reserved.iter().map(|&(start, bytes)| (start << 20, (start + bytes) << 20)));
            let ours = 1 + initrds.len();
            for (index, a) in spans[..ours].iter().enumerate() {
                prop_assert!(a.1 <= mib << 20);
                for b in &spans[index + 1..] {
                    prop_assert!(a.1 <= b.0 || b.1 <= a.0, "{a:x?} {b:x?}");
                }
            }
            prop_assert!(places.kernel.is_multiple_of(header.alignment));
            prop_assert!(relocatable || places.kernel == header.preferred);
        } else {
            // Plenty of memory in one piece is always enough.
            let total: u64 = initrds.iter().sum();
            let enough = reserved.is_empty() && relocatable && (mib << 20) > (256 << 20) + (u64::from(init_mib) << 20) + total;
            prop_assert!(!enough);
        }
    }
}
