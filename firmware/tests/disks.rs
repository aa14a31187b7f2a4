//! Partition tables and file systems, made by the tools that make them for real (e2fsprogs, dosfstools, mtools) or byte by
//! byte where they must be wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    rc::Rc,
};

use firmware::{
    Error, boot,
    disk::{Disk, Memory},
    ext4::Ext4,
    fat::Fat,
    file::{FileMap, SLACK_BYTES},
    fuzz::kernel,
    partitions::{self, Kind},
    volume::{Content, Volumes},
};

const MIB: usize = 1 << 20;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("solo-fw-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, data).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Tools of the system, which live in /sbin too.
fn tool(argv: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = Command::new(argv[0])
        .args(&argv[1..])
        .env("PATH", path)
        .env("MTOOLS_SKIP_CHECK", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{} is needed (packages e2fsprogs, dosfstools, mtools): {error}", argv[0]));
    assert!(done.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn disk(data: &[u8]) -> Rc<Disk> {
    Rc::new(Disk::new(Box::new(Memory(data.to_vec()))))
}

/// Bytes that differ everywhere.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn ext4_image(folder: &Folder, options: &[&str], mib: usize) -> Vec<u8> {
    let image = folder.0.join("ext4.img");
    let root = folder.0.join("root");
    let size = format!("{mib}M");
    let mut argv = vec!["mke2fs", "-q", "-F", "-d", text(&root)];
    argv.extend_from_slice(options);
    argv.extend([text(&image), &size]);
    tool(&argv);
    fs::read(&image).unwrap()
}

fn fill(folder: &Folder) {
    folder.write(
        "root/boot/grub/grub.cfg",
        b"menuentry x { linux /boot/vmlinuz root=/dev/vda1\n initrd /boot/initrd\n}\n",
    );
    folder.write("root/boot/vmlinuz", &kernel());
    folder.write("root/boot/initrd", &pattern(3 * MIB + 777));
    folder.write("root/empty", b"");
    for index in 0..1500 {
        folder
            .write(&format!("root/many/a file with a rather long name, number {index}"), format!("{index}").as_bytes());
    }
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, folder.0.join("root").join(name)).unwrap();
    link("boot/vmlinuz", "vmlinuz");
    link("/boot/../boot/./initrd", "absolute");
    link("loop-b", "loop-a");
    link("loop-a", "loop-b");
    link("../../../../boot", "up");
    link(&format!("{}boot/initrd", "./".repeat(40)), "long-target");
    // A file with a hole of 1 MiB in front of its only page.
    let sparse = fs::File::create(folder.0.join("root/sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"behind the hole", MIB as u64).unwrap();
}

fn read(disk: &Disk, map: &FileMap) -> Vec<u8> {
    map.read_all(disk, 64 * MIB).unwrap()
}

/// What the device would put into memory for a part of a file.
fn transferred(image: &[u8], map: &FileMap, offset: u64, bytes: u64) -> Vec<u8> {
    let base = SLACK_BYTES;
    let mut memory = vec![0xaa; (base + bytes + SLACK_BYTES) as usize];
    let transfers = map.transfers(offset, bytes, base, 512).unwrap();
    for pass in [true, false] {
        for transfer in transfers.iter().filter(|transfer| transfer.disk.is_some() == pass) {
            let to = transfer.memory as usize..(transfer.memory + transfer.bytes) as usize;
            match transfer.disk {
                Some(disk) => {
                    assert!(disk % 512 == 0 && transfer.bytes % 512 == 0);
                    memory[to].copy_from_slice(&image[disk as usize..(disk + transfer.bytes) as usize]);
                }
                None => memory[to].fill(0),
            }
        }
    }
    memory[base as usize..(base + bytes) as usize].to_vec()
}

#[test]
fn every_shape_of_ext_file_system_gives_its_files() {
    let folder = Folder::new("shapes");
    fill(&folder);
    let shapes: [&[&str]; 8] = [
        &["-t", "ext4"],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-b", "2048", "-O", "^64bit,^metadata_csum", "-I", "128"],
        &["-t", "ext4", "-O", "meta_bg,^resize_inode", "-g", "1024", "-b", "1024"],
        &["-t", "ext4", "-O", "bigalloc"],
        &["-t", "ext3"],
        &["-t", "ext2", "-b", "1024"],
        &["-t", "ext4", "-O", "^flex_bg,casefold,large_dir", "-E", "encoding=utf8"],
    ];
    for shape in shapes {
        let image = ext4_image(&folder, shape, 48);
        let disk = disk(&image);
        let fs = Ext4::open(disk.clone(), 0, image.len() as u64).unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        let initrd = pattern(3 * MIB + 777);
        for path in ["/boot/initrd", "//boot//initrd/", "/absolute", "/up/initrd", "/long-target"] {
            let map = fs.file(path).unwrap_or_else(|error| panic!("{shape:?} {path}: {error}"));
            assert!(read(&disk, &map) == initrd, "{shape:?} {path}");
        }
        assert!(read(&disk, &fs.file("/vmlinuz").unwrap()) == kernel(), "{shape:?}");
        assert_eq!(read(&disk, &fs.file("/empty").unwrap()), b"");
        assert_eq!(read(&disk, &fs.file("/many/a file with a rather long name, number 1234").unwrap()), b"1234");
        assert_eq!(fs.list("/many", 10_000).unwrap().len(), 1500, "{shape:?}");
        let sparse = read(&disk, &fs.file("/sparse").unwrap());
        assert!(sparse[..MIB].iter().all(|&byte| byte == 0) && &sparse[MIB..] == b"behind the hole", "{shape:?}");
        assert!(matches!(fs.file("/loop-a"), Err(Error::Limit(_))));
        assert!(matches!(fs.file("/boot"), Err(Error::NotFound)));
        assert!(matches!(fs.file("/none"), Err(Error::NotFound)));
        assert!(matches!(fs.file("/boot/initrd/x"), Err(Error::NotFound)));
        for (path, offset, bytes) in [
            ("/boot/initrd", 0, 3 * MIB as u64 + 777),
            ("/boot/initrd", 1000, 2_000_001),
            ("/sparse", 5, MIB as u64 + 3),
        ] {
            let map = fs.file(path).unwrap();
            let mut expected = vec![0; bytes as usize];
            map.read(&disk, offset, &mut expected).unwrap();
            assert!(transferred(&image, &map, offset, bytes) == expected, "{shape:?} {path} {offset}");
        }
        let plan = boot::find(disk.clone(), &[]).unwrap();
        assert_eq!(plan.cmdline, "BOOT_IMAGE=/boot/vmlinuz root=/dev/vda1", "{shape:?}");
        let (calls, bytes) = disk.spent();
        assert!(calls < 10_000 && bytes < 64 << 20, "{shape:?}: {calls} reads of {bytes} bytes");
    }
}

#[test]
fn a_directory_inside_itself_is_no_trap() {
    let folder = Folder::new("cycle");
    folder.write("root/a/file", b"x");
    ext4_image(&folder, &["-t", "ext4"], 8);
    let image = folder.0.join("ext4.img");
    tool(&["debugfs", "-w", "-R", "ln <2> /a/again", text(&image)]);
    let data = fs::read(&image).unwrap();
    let fs = Ext4::open(disk(&data), 0, data.len() as u64).unwrap();
    assert!(fs.file("/a/again/a/again/a/file").is_ok());
    assert!(matches!(fs.file(&format!("/{}file", "a/again/".repeat(1000))), Err(Error::Limit(_))));
}

#[test]
fn what_the_journal_committed_is_read_and_what_it_did_not_is_not() {
    let folder = Folder::new("journal");
    let old = "# old\n".repeat(600);
    folder.write("root/boot/grub/grub.cfg", old.as_bytes());
    let shapes: [(&[&str], usize, &str); 5] = [
        (&["-t", "ext4", "-b", "4096"], 4096, "jo"),
        (&["-t", "ext4", "-b", "4096"], 4096, "jo -c -v 3"),
        (&["-t", "ext4", "-b", "1024"], 1024, "jo -c -v 2"),
        (&["-t", "ext4", "-b", "4096", "-O", "^metadata_csum"], 4096, "jo"),
        (&["-t", "ext4", "-b", "1024", "-O", "^64bit,^metadata_csum"], 1024, "jo"),
    ];
    for (options, bytes, open) in shapes {
        ext4_image(&folder, options, 16);
        let image = folder.0.join("ext4.img");
        let block = tool(&["debugfs", "-R", "bmap /boot/grub/grub.cfg 0", text(&image)]).trim().to_owned();
        let new = pattern(bytes);
        let source = folder.write("new", &new);
        let commands = folder.write("commands", format!("{open}\njw -b {block} {}\njc\n", text(&source)).as_bytes());
        tool(&["debugfs", "-w", "-f", text(&commands), text(&image)]);
        let data = fs::read(&image).unwrap();
        let here = disk(&data);
        let fs = Ext4::open(here.clone(), 0, data.len() as u64).unwrap();
        let found = read(&here, &fs.file("/boot/grub/grub.cfg").unwrap());
        let length = new.len().min(found.len());
        assert!(found[..length] == new[..length], "{options:?} {open}");
        assert!(fs.file_in_place("/boot/grub/grub.cfg").is_err(), "a journalled block must not be written in place");

        // The same with the commit block gone: nothing of the transaction counts.
        let commit =
            data.chunks(1024).enumerate().filter(|(_, chunk)| chunk.starts_with(&[0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2]));
        let mut torn = data.clone();
        for (index, _) in commit {
            torn[1024 * index..1024 * index + 4].fill(0);
        }
        assert!(torn != data, "debugfs wrote a commit block");
        let here = disk(&torn);
        let fs = Ext4::open(here.clone(), 0, torn.len() as u64).unwrap();
        assert!(read(&here, &fs.file("/boot/grub/grub.cfg").unwrap()) == old.as_bytes(), "{options:?} {open}");
    }
}

fn fat_image(folder: &Folder, width: &str, kib: usize) -> Vec<u8> {
    let image = folder.0.join("fat.img");
    fs::write(&image, vec![0; kib * 1024]).unwrap();
    tool(&["mkfs.vfat", "-F", width, "-n", "ESP LABEL", "-i", "1234ABCD", text(&image)]);
    let big = folder.write("big", &pattern(200_000));
    let small = folder.write("small", b"small");
    let other = folder.write("other", &pattern(50_000));
    for directory in ["::/EFI", "::/EFI/Linux", "::/a directory with a long name"] {
        tool(&["mmd", "-i", text(&image), directory]);
    }
    for (file, to) in [
        (&other, "::/hole"),
        (&small, "::/EFI/Linux/A Unified Kernel Image with a long name-6.1.0.efi"),
        (&small, "::/UPPER.TXT"),
        (&small, "::/a directory with a long name/ümläut.conf"),
    ] {
        tool(&["mcopy", "-i", text(&image), text(file), to]);
    }
    // Where this was, the next begins and goes on elsewhere.
    tool(&["mdel", "-i", text(&image), "::/hole"]);
    tool(&["mcopy", "-i", text(&image), text(&big), "::/EFI/big.bin"]);
    fs::read(&image).unwrap()
}

#[test]
fn every_width_of_fat_gives_its_files() {
    let folder = Folder::new("fat");
    for (width, kib) in [("12", 2048), ("16", 16 << 10), ("32", 64 << 10)] {
        let image = fat_image(&folder, width, kib);
        let here = disk(&image);
        let fat = Fat::open(here.clone(), 0, image.len() as u64).unwrap();
        assert_eq!(fat.serial(), 0x1234_abcd);
        assert_eq!(fat.label(), "ESP LABEL");
        let big = fat.file("/efi/BIG.bin").unwrap();
        assert!(read(&here, &big) == pattern(200_000), "FAT{width}");
        assert!(transferred(&image, &big, 100, 150_000) == pattern(200_000)[100..150_100], "FAT{width}");
        for path in [
            "/EFI/Linux/a unified kernel image with a long name-6.1.0.EFI",
            "/upper.txt",
            "/A DIRECTORY with a long name/ÜMLÄUT.conf",
        ] {
            assert_eq!(read(&here, &fat.file(path).unwrap()), b"small", "FAT{width} {path}");
        }
        assert!(matches!(fat.file("/EFI"), Err(Error::NotFound)));
        assert!(matches!(fat.file("/upper.txt/x"), Err(Error::NotFound)));
        assert_eq!(fat.list("/EFI", 10).unwrap().len(), 2);
    }
}

#[test]
fn chains_of_clusters_that_loop_or_run_together_end() {
    let folder = Folder::new("chains");
    let image = fat_image(&folder, "16", 16 << 10);
    let table = usize::from(u16::from_le_bytes([image[14], image[15]])) * 512;
    for target in [2u16, 3, 10, 0, 1, 0xfff7, 0xffff] {
        let mut wrong = image.clone();
        for cluster in 2..600 {
            wrong[table + 2 * cluster..table + 2 * cluster + 2].copy_from_slice(&target.to_le_bytes());
        }
        let here = disk(&wrong);
        let fat = Fat::open(here.clone(), 0, wrong.len() as u64).unwrap();
        let _ = fat.list("/EFI/Linux", 1000);
        let result = fat.file("/EFI/big.bin").and_then(|map| map.read_all(&here, MIB));
        assert!(result.is_err() || result.is_ok_and(|data| data.len() == 200_000), "to {target}");
    }
}

fn crc32(data: &[u8]) -> [u8; 4] {
    firmware::checksum::crc32(data).to_le_bytes()
}

/// A disk with both GPT headers: an ESP and a Linux partition with these contents.
fn gpt(esp: &[u8], linux: &[u8]) -> Vec<u8> {
    let first = 2048 * 512;
    let second = (first + esp.len()).next_multiple_of(MIB);
    let bytes = (second + linux.len()).next_multiple_of(MIB) + MIB;
    let last = bytes as u64 / 512 - 1;
    let mut disk = vec![0; bytes];
    disk[first..first + esp.len()].copy_from_slice(esp);
    disk[second..second + linux.len()].copy_from_slice(linux);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[446 + 4] = 0xee;
    disk[446 + 8] = 1;
    disk[446 + 12..446 + 16].fill(0xff);
    let mut entries = vec![0u8; 128 * 128];
    let mut entry = |index: usize, kind: [u8; 16], start: usize, bytes: usize| {
        let at = 128 * index;
        entries[at..at + 16].copy_from_slice(&kind);
        entries[at + 16..at + 32].fill(index as u8 + 1);
        entries[at + 32..at + 40].copy_from_slice(&(start as u64 / 512).to_le_bytes());
        entries[at + 40..at + 48].copy_from_slice(&((start + bytes) as u64 / 512 - 1).to_le_bytes());
    };
    entry(14, partitions::ESP, first, esp.len().next_multiple_of(512));
    entry(0, [0x0f; 16], second, linux.len().next_multiple_of(512));
    for (at, other, table) in [(1, last, 2), (last, 1, last - 32)] {
        let mut header = vec![0u8; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&0x10000u32.to_le_bytes());
        header[12..16].copy_from_slice(&92u32.to_le_bytes());
        header[24..32].copy_from_slice(&at.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[72..80].copy_from_slice(&table.to_le_bytes());
        header[80..84].copy_from_slice(&128u32.to_le_bytes());
        header[84..88].copy_from_slice(&128u32.to_le_bytes());
        header[88..92].copy_from_slice(&crc32(&entries));
        let sum = crc32(&header);
        header[16..20].copy_from_slice(&sum);
        disk[at as usize * 512..at as usize * 512 + 92].copy_from_slice(&header);
        disk[table as usize * 512..table as usize * 512 + entries.len()].copy_from_slice(&entries);
    }
    disk
}

fn numbers(data: &[u8]) -> Result<Vec<u32>, Error> {
    partitions::read(&disk(data)).map(|found| found.iter().map(|partition| partition.number).collect())
}

#[test]
fn a_gpt_is_read_from_either_header_and_only_with_right_checksums() {
    let good = gpt(&[1; 4096], &[2; 4096]);
    assert_eq!(numbers(&good), Ok(vec![1, 15]));
    assert!(partitions::read(&disk(&good)).unwrap()[1].is_esp());
    // The first header damaged, its table damaged: the backup serves.
    for at in [512, 512 + 72, 512 + 88, 1024 + 5] {
        let mut data = good.clone();
        data[at] ^= 0xff;
        assert_eq!(numbers(&data), Ok(vec![1, 15]), "byte {at}");
    }
    // A disk that has grown: the backup is where the old end was, and the first header still names it.
    let mut grown = good.clone();
    grown.resize(good.len() + 8 * MIB, 0);
    grown[1024 + 5] ^= 1;
    assert_eq!(numbers(&grown), Ok(vec![1, 15]));
    // Both gone.
    let mut data = good.clone();
    let end = data.len();
    data[512] = 0;
    data[end - 512] = 0;
    assert!(numbers(&data).is_err());
    // Cut short: partitions beyond the end do not exist.
    assert_eq!(numbers(&good[..MIB + 8192]), Ok(vec![15]));
    assert!(numbers(&good[..1536]).is_err());
    assert!(numbers(&good[..700]).is_err());
    assert!(numbers(&[]).is_err());
}

#[test]
fn absurd_gpt_sizes_are_refused() {
    for (at, value) in [(80, 0xffff_ffffu32), (84, 0), (84, 0xffff_fff8), (84, 129), (12, 0xffff_ffff), (12, 0)] {
        let mut data = gpt(&[1; 512], &[2; 512]);
        let end = data.len();
        data[end - 512..].fill(0);
        data[512 + at..512 + at + 4].copy_from_slice(&value.to_le_bytes());
        data[512 + 16..512 + 20].fill(0);
        let sum = crc32(&data[512..512 + 92]);
        data[512 + 16..512 + 20].copy_from_slice(&sum);
        assert!(numbers(&data).is_err(), "{at} {value:#x}");
    }
}

fn mbr_entry(table: &mut [u8], index: usize, kind: u8, start: u32, sectors: u32) {
    let at = 446 + 16 * index;
    table[at + 4] = kind;
    table[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
    table[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    table[510..512].copy_from_slice(&[0x55, 0xaa]);
}

#[test]
fn an_mbr_with_logical_partitions_is_read_and_a_loop_of_them_ends() {
    let mut data = vec![0; 8 * MIB];
    mbr_entry(&mut data, 0, 0x83, 2048, 2048);
    mbr_entry(&mut data, 1, 0x05, 4096, 8192);
    mbr_entry(&mut data, 2, 0x83, 0xffff_0000, 0xffff_ffff);
    mbr_entry(&mut data[4096 * 512..], 0, 0x83, 63, 100);
    mbr_entry(&mut data[4096 * 512..], 1, 0x05, 2000, 100);
    mbr_entry(&mut data[6096 * 512..], 0, 0x82, 63, 100);
    let found = partitions::read(&disk(&data)).unwrap();
    let found: Vec<_> = found.iter().map(|p| (p.number, p.kind, p.start / 512)).collect();
    assert_eq!(found, [(1, Kind::Mbr(0x83), 2048), (5, Kind::Mbr(0x83), 4159), (6, Kind::Mbr(0x82), 6159)]);
    // The second table points to itself and to the first in turn.
    for next in [2000, 1] {
        mbr_entry(&mut data[6096 * 512..], 1, 0x05, next, 100);
        assert!(numbers(&data).unwrap().len() < 200);
    }
}

#[test]
fn a_file_system_on_the_bare_disk_is_one_partition() {
    let folder = Folder::new("bare");
    let image = fat_image(&folder, "16", 16 << 10);
    let volumes = Volumes::open(disk(&image)).unwrap();
    assert_eq!(volumes.all.len(), 1);
    assert!(matches!(volumes.all[0].content, Content::Fat(_)));
    assert_eq!(volumes.by_name("hd0"), Some(0));
    assert_eq!(volumes.by_name("hd0,gpt1"), None);
}

#[test]
fn devices_have_the_names_that_grub_gives_them() {
    let volumes = Volumes::open(disk(&gpt(&[1; 512], &[2; 512]))).unwrap();
    for (name, expected) in [
        ("hd0,gpt1", Some(0)),
        ("hd0,gpt15", Some(1)),
        ("hd0,1", Some(0)),
        (",gpt1", Some(0)),
        ("hd0,msdos1", None),
        ("hd1,gpt1", None),
        ("hd0,gpt2", None),
        ("hd0", None),
        ("", None),
        ("lvm/root", None),
        ("hd0,gpt99999999999", None),
        ("hd0,gpt", None),
        ("hd0,0", None),
    ] {
        assert_eq!(volumes.by_name(name), expected, "{name}");
    }
    assert_eq!(volumes.name(1), "hd0,gpt15");
}

#[test]
fn a_whole_disk_with_two_partitions_is_understood() {
    let folder = Folder::new("whole");
    fill(&folder);
    let linux = ext4_image(&folder, &["-t", "ext4", "-L", "root", "-U", "7c4d86f8-8da6-5376-a0cf-1d0ab842f796"], 48);
    let esp = fat_image(&folder, "16", 16 << 10);
    let data = gpt(&esp, &linux);
    let here = disk(&data);
    let plan = boot::find(here.clone(), &[]).unwrap();
    assert_eq!(plan.source, "grub (hd0,gpt1)/boot/grub/grub.cfg");
    let initrd = &plan.initrds[0];
    assert!(transferred(&data, &initrd.map, initrd.offset, initrd.bytes) == pattern(3 * MIB + 777));
    let volumes = Volumes::open(here).unwrap();
    assert_eq!(volumes.all[0].uuid().as_deref(), Some("7c4d86f8-8da6-5376-a0cf-1d0ab842f796"));
    assert_eq!(volumes.all[1].uuid().as_deref(), Some("1234-ABCD"));
    // Every truncation is an answer, never a panic.
    for kib in (0..data.len() / 1024).step_by(997) {
        let _ = boot::find(disk(&data[..kib * 1024]), &[]);
    }
}
