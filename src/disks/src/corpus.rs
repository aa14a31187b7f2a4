//! Images made by code, good ones and hostile ones, for the tests of this crate and of the API (feature `corpus`).
//!
//! Each hostile image is one attack on an otherwise good image, with a piece of the reason for which it must be refused.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};

use crate::format::Format;
use crate::vhdx;

const MIB: usize = 1 << 20;

/// One attack: a file, the format it is declared as, and words that the reason must contain.
#[derive(Debug, Clone)]
pub struct Hostile {
    pub name: &'static str,
    pub format: Format,
    pub bytes: Vec<u8>,
    pub reason: &'static str,
}

fn put(buf: &mut Vec<u8>, at: usize, data: &[u8]) {
    if buf.len() < at + data.len() {
        buf.resize(at + data.len(), 0);
    }
    if let Some(to) = buf.get_mut(at..at + data.len()) {
        to.copy_from_slice(data);
    }
}

fn put_be32(buf: &mut Vec<u8>, at: usize, value: u32) {
    put(buf, at, &value.to_be_bytes());
}
fn put_be64(buf: &mut Vec<u8>, at: usize, value: u64) {
    put(buf, at, &value.to_be_bytes());
}
fn put_le32(buf: &mut Vec<u8>, at: usize, value: u32) {
    put(buf, at, &value.to_le_bytes());
}
fn put_le64(buf: &mut Vec<u8>, at: usize, value: u64) {
    put(buf, at, &value.to_le_bytes());
}

/// Bytes that do not compress to nothing and that tell where they come from.
pub fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) >> 3) as u8 ^ seed ^ (i >> 9) as u8).collect()
}

/// A qcow2 version 3 image of 1 MiB with 64 KiB clusters: the first cluster is data, the second compressed, the third
/// marked zero, the rest not there. Returns the file and the disk it stands for.
pub fn qcow2() -> (Vec<u8>, Vec<u8>) {
    const CLUSTER: usize = 64 << 10;
    let mut file = Vec::new();
    put(&mut file, 0, b"QFI\xfb");
    put_be32(&mut file, 4, 3);
    put_be32(&mut file, 20, 16);
    put_be64(&mut file, 24, MIB as u64);
    put_be32(&mut file, 36, 1);
    put_be64(&mut file, 40, 2 * CLUSTER as u64);
    put_be64(&mut file, 48, CLUSTER as u64);
    put_be32(&mut file, 56, 1);
    put_be32(&mut file, 96, 4);
    put_be32(&mut file, 100, 104);
    put_be64(&mut file, CLUSTER, 5 * CLUSTER as u64);
    put_be64(&mut file, 2 * CLUSTER, (3 * CLUSTER as u64) | (1 << 63));
    let (first, second) = (pattern(1, CLUSTER), pattern(2, CLUSTER));
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let _ = encoder.write_all(&second);
    let packed = encoder.finish().unwrap_or_default();
    let sectors = (packed.len() as u64).div_ceil(512) - 1;
    put_be64(&mut file, 3 * CLUSTER, (4 * CLUSTER as u64) | (1 << 63));
    put_be64(&mut file, 3 * CLUSTER + 8, (6 * CLUSTER as u64) | (sectors << 54) | 1 << 62);
    put_be64(&mut file, 3 * CLUSTER + 16, 1);
    put(&mut file, 4 * CLUSTER, &first);
    put(&mut file, 5 * CLUSTER, &[0; CLUSTER]);
    put(&mut file, 6 * CLUSTER, &packed);
    let mut disk = vec![0; MIB];
    put(&mut disk, 0, &first);
    put(&mut disk, CLUSTER, &second);
    (file, disk)
}

/// A monolithicSparse VMDK of 1 MiB with one grain of data.
pub fn vmdk() -> (Vec<u8>, Vec<u8>) {
    const GRAIN: usize = 64 << 10;
    let mut file = Vec::new();
    put(&mut file, 0, b"KDMV");
    put_le32(&mut file, 4, 1);
    put_le32(&mut file, 8, 3);
    put_le64(&mut file, 12, (MIB / 512) as u64);
    put_le64(&mut file, 20, (GRAIN / 512) as u64);
    put_le64(&mut file, 28, 1);
    put_le64(&mut file, 36, 20);
    put_le32(&mut file, 44, 512);
    put_le64(&mut file, 56, 21);
    put_le64(&mut file, 64, 128);
    put(&mut file, 73, b"\n \r\n");
    put(&mut file, 512, vmdk_descriptor("monolithicSparse", "RW 2048 SPARSE \"disk.vmdk\"").as_bytes());
    put_le32(&mut file, 21 * 512, 22);
    put_le32(&mut file, 22 * 512 + 4, 128);
    let data = pattern(3, GRAIN);
    put(&mut file, GRAIN, &data);
    let mut disk = vec![0; MIB];
    put(&mut disk, GRAIN, &data);
    (file, disk)
}

/// A streamOptimized VMDK of 1 MiB whose directory is at its end.
pub fn vmdk_stream() -> (Vec<u8>, Vec<u8>) {
    const GRAIN: usize = 64 << 10;
    let (mut file, mut disk) = (Vec::new(), vec![0; MIB]);
    let header = |directory: u64| {
        let mut head = Vec::new();
        put(&mut head, 0, b"KDMV");
        put_le32(&mut head, 4, 3);
        put_le32(&mut head, 8, 1 | 1 << 16 | 1 << 17);
        put_le64(&mut head, 12, (MIB / 512) as u64);
        put_le64(&mut head, 20, (GRAIN / 512) as u64);
        put_le64(&mut head, 28, 1);
        put_le64(&mut head, 36, 20);
        put_le32(&mut head, 44, 512);
        put_le64(&mut head, 56, directory);
        put_le64(&mut head, 64, 128);
        put(&mut head, 73, b"\n \r\n\x01\x00");
        put(&mut head, 511, &[0]);
        head
    };
    put(&mut file, 0, &header(u64::MAX));
    put(&mut file, 512, vmdk_descriptor("streamOptimized", "RDONLY 2048 SPARSE \"disk.vmdk\"").as_bytes());
    let data = pattern(5, GRAIN);
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let _ = encoder.write_all(&data);
    let packed = encoder.finish().unwrap_or_default();
    put_le64(&mut file, 128 * 512, (2 * GRAIN / 512) as u64);
    put_le32(&mut file, 128 * 512 + 8, packed.len() as u32);
    put(&mut file, 128 * 512 + 12, &packed);
    put(&mut disk, 2 * GRAIN, &data);
    let table = file.len().next_multiple_of(512);
    put_le32(&mut file, table + 8, 128);
    let directory = table + 2048;
    put_le32(&mut file, directory, (table / 512) as u32);
    let footer = directory + 1024;
    put(&mut file, footer, &header((directory / 512) as u64));
    put(&mut file, footer + 512, &[0; 512]);
    (file, disk)
}

fn vmdk_descriptor(kind: &str, extent: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"{kind}\"\n\n# Extent\n{extent}\n\n\
         # The Disk Data Base\nddb.virtualHWVersion = \"4\"\n"
    )
}

/// A dynamic VDI of 2 MiB with its second block filled.
pub fn vdi() -> (Vec<u8>, Vec<u8>) {
    let mut file = Vec::new();
    put(&mut file, 0, b"<<< Oracle VM VirtualBox Disk Image >>>\n");
    put(&mut file, 0x40, &crate::vdi::SIGNATURE);
    put_le32(&mut file, 0x44, 0x0001_0001);
    put_le32(&mut file, 0x48, 0x180);
    put_le32(&mut file, 0x4c, 1);
    put_le32(&mut file, 0x154, 0x200);
    put_le32(&mut file, 0x158, 0x400);
    put_le32(&mut file, 0x168, 512);
    put_le64(&mut file, 0x170, 2 * MIB as u64);
    put_le32(&mut file, 0x178, MIB as u32);
    put_le32(&mut file, 0x180, 2);
    put_le32(&mut file, 0x184, 1);
    put_le32(&mut file, 0x200, 0xffff_ffff);
    put_le32(&mut file, 0x204, 0);
    let data = pattern(7, MIB);
    put(&mut file, 0x400, &data);
    let mut disk = vec![0; 2 * MIB];
    put(&mut disk, MIB, &data);
    (file, disk)
}

fn vhd_sum(data: &mut Vec<u8>, at: usize) {
    put_be32(data, at, 0);
    let sum = data.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    put_be32(data, at, !sum);
}

fn vhd_footer(kind: u32, size: u64, data_offset: u64) -> Vec<u8> {
    let mut footer = vec![0; 512];
    put(&mut footer, 0, b"conectix");
    put_be32(&mut footer, 8, 2);
    put_be32(&mut footer, 12, 0x0001_0000);
    put_be64(&mut footer, 16, data_offset);
    put_be64(&mut footer, 40, size);
    put_be64(&mut footer, 48, size);
    put_be32(&mut footer, 60, kind);
    vhd_sum(&mut footer, 64);
    footer
}

fn vhd_header(parent: bool) -> Vec<u8> {
    let mut header = vec![0; 1024];
    put(&mut header, 0, b"cxsparse");
    put_be64(&mut header, 8, u64::MAX);
    put_be64(&mut header, 16, 1536);
    put_be32(&mut header, 24, 0x0001_0000);
    put_be32(&mut header, 28, 1);
    put_be32(&mut header, 32, 2 * MIB as u32);
    if parent {
        put(&mut header, 40, &[1; 16]);
    }
    vhd_sum(&mut header, 36);
    header
}

/// A dynamic VHD of 1 MiB in one block.
pub fn vhd() -> (Vec<u8>, Vec<u8>) {
    let data = pattern(9, MIB);
    let mut file = vhd_footer(3, MIB as u64, 512);
    put(&mut file, 512, &vhd_header(false));
    put_be32(&mut file, 1536, 4);
    put(&mut file, 4 * 512, &[0xff; 512]);
    put(&mut file, 5 * 512, &data);
    put(&mut file, 5 * 512 + 2 * MIB, &vhd_footer(3, MIB as u64, 512));
    (file, data)
}

/// A fixed VHD of 64 KiB.
pub fn vhd_fixed() -> (Vec<u8>, Vec<u8>) {
    let disk = pattern(11, 64 << 10);
    let mut file = disk.clone();
    file.extend(vhd_footer(2, disk.len() as u64, u64::MAX));
    (file, disk)
}

/// A dynamic VHDX of 2 MiB with its second block filled.
pub fn vhdx() -> (Vec<u8>, Vec<u8>) {
    let mut file = Vec::new();
    put(&mut file, 0, b"vhdxfile");
    let mut head = vec![0; 4096];
    put(&mut head, 0, b"head");
    put_le64(&mut head, 8, 1);
    put(&mut head, 66, &1u16.to_le_bytes());
    vhdx::seal(&mut head);
    put(&mut file, 64 << 10, &head);
    let mut regions = vec![0; 64 << 10];
    put(&mut regions, 0, b"regi");
    put_le32(&mut regions, 8, 2);
    for (i, (id, offset)) in [(vhdx::REGION_METADATA, MIB), (vhdx::REGION_BAT, 2 * MIB)].into_iter().enumerate() {
        put(&mut regions, 16 + i * 32, &id);
        put_le64(&mut regions, 32 + i * 32, offset as u64);
        put_le32(&mut regions, 40 + i * 32, MIB as u32);
        put_le32(&mut regions, 44 + i * 32, 1);
    }
    vhdx::seal(&mut regions);
    put(&mut file, 192 << 10, &regions);
    put(&mut file, MIB, b"metadata");
    put(&mut file, MIB + 10, &3u16.to_le_bytes());
    for (i, id) in [vhdx::ITEM_FILE, vhdx::ITEM_SIZE, vhdx::ITEM_LOGICAL].into_iter().enumerate() {
        put(&mut file, MIB + 32 + i * 32, &id);
        put_le32(&mut file, MIB + 48 + i * 32, (64 << 10) + i as u32 * 8);
        put_le32(&mut file, MIB + 52 + i * 32, 8);
        put_le32(&mut file, MIB + 56 + i * 32, 4);
    }
    put_le32(&mut file, MIB + (64 << 10), MIB as u32);
    put_le64(&mut file, MIB + (64 << 10) + 8, 2 * MIB as u64);
    put_le32(&mut file, MIB + (64 << 10) + 16, 512);
    put_le64(&mut file, 2 * MIB + 8, (3 * MIB as u64) | 6);
    let data = pattern(13, MIB);
    put(&mut file, 3 * MIB, &data);
    let mut disk = vec![0; 2 * MIB];
    put(&mut disk, MIB, &data);
    (file, disk)
}

/// Changes a structure of a VHDX that carries a sum, and makes the sum right again.
fn vhdx_edit(file: &mut [u8], at: usize, len: usize, edit: impl FnOnce(&mut Vec<u8>)) {
    if let Some(slice) = file.get_mut(at..at + len) {
        let mut copy = slice.to_vec();
        edit(&mut copy);
        vhdx::seal(&mut copy);
        slice.copy_from_slice(copy.get(..len).unwrap_or_default());
    }
}

/// Name, format, file, and the disk that the file stands for.
pub type Good = (&'static str, Format, Vec<u8>, Vec<u8>);

/// Every good image there is, with the disk that it stands for.
pub fn good() -> Vec<Good> {
    let row = |name, format, (file, disk)| (name, format, file, disk);
    let raw = pattern(17, 100_000);
    vec![
        row("qcow2", Format::Qcow2, qcow2()),
        row("vmdk monolithicSparse", Format::Vmdk, vmdk()),
        row("vmdk streamOptimized", Format::Vmdk, vmdk_stream()),
        row("vdi", Format::Vdi, vdi()),
        row("vhd dynamic", Format::Vhd, vhd()),
        row("vhd fixed", Format::Vhd, vhd_fixed()),
        row("vhdx", Format::Vhdx, vhdx()),
        row("iso", Format::Iso, (iso(), iso())),
        row("raw", Format::Raw, (raw.clone(), raw)),
    ]
}

/// The start of an ISO image: nothing but a primary volume descriptor.
pub fn iso() -> Vec<u8> {
    let mut file = vec![0; 40 << 10];
    put(&mut file, 16 * 2048, b"\x01CD001\x01");
    file
}

type Edit = fn(&mut Vec<u8>);
/// Name, words of the reason, and what it does to a good image.
type Attack = (&'static str, &'static str, Edit);

const QCOW2_ATTACKS: &[Attack] = &[
    ("a backing file", "backing file", |f| {
        put_be64(f, 8, 0x200);
        put_be32(f, 16, 11);
        put(f, 0x200, b"/etc/shadow");
    }),
    ("a backing file name without a place", "backing file", |f| put_be32(f, 16, 11)),
    ("an external data file by feature bit", "another file", |f| put_be64(f, 72, 1 << 2)),
    ("an external data file by header extension", "another file", |f| {
        put_be32(f, 104, 0x4441_5441);
        put_be32(f, 108, 11);
        put(f, 112, b"/etc/shadow");
    }),
    ("raw external data by autoclear bit", "another file", |f| put_be64(f, 88, 2)),
    ("an unknown incompatible feature", "unknown qcow2 features", |f| put_be64(f, 72, 1 << 5)),
    ("every incompatible feature", "another file", |f| put_be64(f, 72, u64::MAX)),
    ("a corrupt mark", "marked as corrupt", |f| put_be64(f, 72, 2)),
    ("encryption", "encrypted", |f| put_be32(f, 32, 2)),
    ("an encryption header extension", "encrypted", |f| {
        put_be32(f, 104, 0x0537_be77);
        put_be32(f, 108, 16);
    }),
    ("a header extension without end", "beyond the first cluster", |f| {
        put_be32(f, 104, 0x6803_f857);
        put_be32(f, 108, u32::MAX);
    }),
    ("version 1", "qcow", |f| put_be32(f, 4, 1)),
    ("version 4", "version 4", |f| put_be32(f, 4, 4)),
    ("clusters of 2^8 bytes", "clusters of 2^8", |f| put_be32(f, 20, 8)),
    ("clusters of 2^63 bytes", "clusters of 2^63", |f| put_be32(f, 20, 63)),
    ("clusters of 2^4294967295 bytes", "clusters", |f| put_be32(f, 20, u32::MAX)),
    ("a disk of 8 EiB", "the limit is", |f| put_be64(f, 24, 1 << 63)),
    ("a disk of 0 bytes", "0 bytes", |f| put_be64(f, 24, 0)),
    ("a disk of 1 TiB in an L1 table of one entry", "too small", |f| put_be64(f, 24, 1 << 40)),
    ("an L1 table of 32 GiB", "L1 table is too large", |f| put_be32(f, 36, u32::MAX)),
    ("an L1 table beyond the end", "L1 table lies beyond", |f| put_be64(f, 40, 1 << 40)),
    ("an L1 table at the end of the address space", "beyond the end", |f| put_be64(f, 40, !0xffff)),
    ("an L1 table off the grid", "L1 table does not start", |f| put_be64(f, 40, 0x2_0001)),
    ("an L1 table over the header", "L1 table does not start", |f| put_be64(f, 40, 0)),
    ("an L1 table over the reference counts", "overlaps", |f| put_be64(f, 40, 0x1_0000)),
    ("an L2 table beyond the end", "L2 table lies beyond", |f| put_be64(f, 0x2_0000, 1 << 40)),
    ("an L2 table that is the L1 table", "overlaps another table", |f| put_be64(f, 0x2_0000, 0x2_0000)),
    ("an L1 entry with reserved bits", "reserved bits", |f| put_be64(f, 0x2_0000, 0x3_0000 | 1)),
    ("the same L2 table twice", "same L2 table", |f| {
        put_be64(f, 24, 1 << 30);
        put_be32(f, 36, 2);
        put_be64(f, 0x2_0008, 0x3_0000);
    }),
    ("a data cluster beyond the end", "data cluster lies beyond", |f| put_be64(f, 0x3_0000, 1 << 40)),
    ("a data cluster off the grid", "data cluster does not start", |f| put_be64(f, 0x3_0000, 0x4_0200)),
    ("a compressed cluster beyond the end", "compressed cluster lies beyond", |f| {
        put_be64(f, 0x3_0008, 1 << 62 | 1 << 40);
    }),
    ("one data cluster mapped again and again", "more than once", |f| {
        put_be64(f, 24, 512 << 20);
        for i in 0..8192 {
            put_be64(f, 0x3_0000 + i * 8, 0x4_0000 | 1 << 63);
        }
    }),
    ("an unknown compression type", "compression type 7", |f| {
        put_be32(f, 100, 112);
        put(f, 104, &[7]);
        put_be64(f, 72, 8);
    }),
    ("reference counts of 2^40 bits", "reference counts", |f| put_be32(f, 96, 40)),
    ("a reference count table of 256 TiB", "reference count table is too large", |f| put_be32(f, 56, u32::MAX)),
    ("no reference count table", "no reference count table", |f| put_be32(f, 56, 0)),
    ("a reference count table beyond the end", "beyond the end", |f| put_be64(f, 48, 1 << 40)),
    ("a header longer than a cluster", "header of", |f| put_be32(f, 100, 1 << 30)),
    ("a header of 8 bytes", "header of 8 bytes", |f| put_be32(f, 100, 8)),
    ("four billion snapshots", "internal snapshots", |f| put_be32(f, 60, u32::MAX)),
    ("snapshots beyond the end", "snapshot table lies beyond", |f| {
        put_be32(f, 60, 3);
        put_be64(f, 64, 1 << 50);
    }),
    ("subclusters in small clusters", "subclusters", |f| {
        put_be32(f, 20, 12);
        put_be64(f, 72, 1 << 4);
    }),
    ("only a header", "beyond the end", |f| f.truncate(104)),
    ("half a header", "beyond the end", |f| f.truncate(40)),
];

const VMDK_ATTACKS: &[Attack] = &[
    ("a flat extent", "extents of the kind RW FLAT", |f| {
        put(f, 512, &[0; 2048]);
        put(f, 512, vmdk_descriptor("monolithicSparse", "RW 2048 FLAT \"/etc/shadow\" 0").as_bytes());
    }),
    ("a flat kind", "kind monolithicFlat", |f| {
        put(f, 512, &[0; 2048]);
        put(f, 512, vmdk_descriptor("monolithicFlat", "RW 2048 SPARSE \"a\"").as_bytes());
    }),
    ("an extent at a path", "points to another file", |f| {
        put(f, 512, &[0; 2048]);
        put(f, 512, vmdk_descriptor("monolithicSparse", "RW 2048 SPARSE \"../../etc/shadow\"").as_bytes());
    }),
    ("two extents", "2 extents", |f| {
        put(f, 512, &[0; 2048]);
        put(f, 512, vmdk_descriptor("monolithicSparse", "RW 2048 SPARSE \"a\"\nRW 2048 SPARSE \"b\"").as_bytes());
    }),
    ("an extent without access", "NOACCESS SPARSE", |f| {
        put(f, 512, &[0; 2048]);
        put(f, 512, vmdk_descriptor("monolithicSparse", "NOACCESS 2048 SPARSE \"a\"").as_bytes());
    }),
    ("a device extent", "RW VMFSRDM", |f| {
        put(f, 512, &[0; 2048]);
        put(f, 512, vmdk_descriptor("monolithicSparse", "RW 2048 VMFSRDM \"vda\"").as_bytes());
    }),
    ("no extent", "0 extents", |f| {
        put(f, 512, &[0; 2048]);
        put(f, 512, vmdk_descriptor("monolithicSparse", "").as_bytes());
    }),
    ("no kind", "does not say", |f| {
        put(f, 512, &[0; 2048]);
        put(f, 512, b"# Disk DescriptorFile\nversion=1\nRW 2048 SPARSE \"a\"\n");
    }),
    ("a parent by its content id", "parent disk", |f| {
        put(f, 512, &[0; 2048]);
        let text = vmdk_descriptor("monolithicSparse", "RW 2048 SPARSE \"a\"").replace("=ffffffff", "=12345678");
        put(f, 512, text.as_bytes());
    }),
    ("a parent by its name", "parent disk", |f| {
        put(f, 512, &[0; 2048]);
        let extent = "RW 2048 SPARSE \"a\"\nparentFileNameHint=\"/etc/shadow\"";
        put(f, 512, vmdk_descriptor("monolithicSparse", extent).as_bytes());
    }),
    ("a change tracking file", "points to another file", |f| {
        put(f, 512, &[0; 2048]);
        let extent = "RW 2048 SPARSE \"a\"\nchangeTrackPath=\"/etc/shadow\"";
        put(f, 512, vmdk_descriptor("monolithicSparse", extent).as_bytes());
    }),
    ("no descriptor", "no vmdk descriptor", |f| put_le64(f, 28, 0)),
    ("a descriptor of 8 EiB", "descriptor", |f| put_le64(f, 36, 1 << 54)),
    ("a descriptor beyond the end", "descriptor lies beyond", |f| put_le64(f, 28, 1 << 40)),
    ("a capacity that overflows", "absurdly large", |f| put_le64(f, 12, u64::MAX)),
    ("grains of 0 bytes", "grains of 0", |f| put_le64(f, 20, 0)),
    ("grains of 3 sectors", "grains of 3", |f| put_le64(f, 20, 3)),
    ("grains of 8 EiB", "grains of", |f| put_le64(f, 20, 1 << 54)),
    ("tables of 0 entries", "tables of 0", |f| put_le32(f, 44, 0)),
    ("tables of four billion entries", "tables of 4294967295", |f| put_le32(f, 44, u32::MAX)),
    ("a directory beyond the end", "directory lies beyond", |f| put_le64(f, 56, 1 << 40)),
    ("a directory at a footer that is not there", "footer does not match", |f| put_le64(f, 56, u64::MAX)),
    ("a grain table beyond the end", "grain table lies beyond", |f| put_le32(f, 21 * 512, u32::MAX)),
    ("a grain beyond the end", "grain lies beyond", |f| put_le32(f, 22 * 512, u32::MAX)),
    ("one grain mapped again and again", "more than once", |f| {
        for i in 0..16 {
            put_le32(f, 22 * 512 + i * 4, 128);
        }
    }),
    ("version 9", "version 9", |f| put_le32(f, 4, 9)),
    ("a transfer in text mode", "text mode", |f| put(f, 73, b"\n \n\n")),
];

const VDI_ATTACKS: &[Attack] = &[
    ("a parent", "parent disk", |f| put(f, 0x1b8, &[1; 16])),
    ("a difference image", "parent disk", |f| put_le32(f, 0x4c, 4)),
    ("version 9", "version", |f| put_le32(f, 0x44, 0x0009_0000)),
    ("blocks of 0 bytes", "blocks of 0", |f| put_le32(f, 0x178, 0)),
    ("blocks of 2 GiB", "blocks of", |f| put_le32(f, 0x178, 1 << 31)),
    ("four billion blocks", "block map is too large", |f| put_le32(f, 0x180, u32::MAX)),
    ("a map too small for the disk", "too small", |f| put_le64(f, 0x170, 1 << 40)),
    ("a disk of 8 EiB", "too small", |f| put_le64(f, 0x170, 1 << 63)),
    ("a map over the header", "overlaps", |f| put_le32(f, 0x154, 0)),
    ("a map over the data", "overlaps", |f| put_le32(f, 0x154, 0x3fc)),
    ("data beyond the end", "block lies beyond", |f| put_le32(f, 0x158, u32::MAX)),
    ("a block beyond the end", "block lies beyond", |f| put_le32(f, 0x204, 0x1234_5678)),
    ("one block mapped again and again", "more than once", |f| {
        put_le64(f, 0x170, 64 * MIB as u64);
        put_le32(f, 0x180, 64);
        for i in 0..64 {
            put_le32(f, 0x200 + i * 4, 0);
        }
    }),
];

const VHD_ATTACKS: &[Attack] = &[
    ("a difference disk", "parent disk", |f| {
        let at = f.len() - 512;
        put(f, at, &vhd_footer(4, MIB as u64, 512));
    }),
    ("a parent in the header", "parent disk", |f| put(f, 512, &vhd_header(true))),
    ("a wrong checksum", "checksum", |f| {
        let at = f.len() - 400;
        put(f, at, &[0x55]);
    }),
    ("a wrong checksum of the header", "checksum", |f| put(f, 1000, &[0x55])),
    ("no footer", "does not end with", |f| {
        let len = f.len() - 512;
        f.truncate(len);
    }),
    ("a header beyond the end", "header lies beyond", |f| {
        let at = f.len() - 512;
        put(f, at, &vhd_footer(3, MIB as u64, 1 << 40));
    }),
    ("a disk larger than its table", "too small", |f| {
        let at = f.len() - 512;
        put(f, at, &vhd_footer(3, 1 << 40, 512));
    }),
    ("a fixed disk larger than the file", "larger disk", |f| {
        let at = f.len() - 512;
        put(f, at, &vhd_footer(2, 1 << 40, 512));
    }),
    ("a block beyond the end", "block lies beyond", |f| put_be32(f, 1536, 0x1234_5678)),
];

const VHDX_ATTACKS: &[Attack] = &[
    ("a log to replay", "not closed cleanly", |f| vhdx_edit(f, 64 << 10, 4096, |h| put(h, 48, &[1; 16]))),
    ("version 2", "version 2", |f| vhdx_edit(f, 64 << 10, 4096, |h| put(h, 66, &[2, 0]))),
    ("no valid header", "no valid vhdx header", |f| put(f, 65 << 10, &[1])),
    ("no valid region table", "no valid vhdx region table", |f| put(f, 193 << 10, &[1])),
    ("four billion regions", "too many entries", |f| {
        vhdx_edit(f, 192 << 10, 64 << 10, |r| put_le32(r, 8, u32::MAX));
    }),
    ("an unknown region", "unknown vhdx region", |f| vhdx_edit(f, 192 << 10, 64 << 10, |r| put(r, 16, &[7; 16]))),
    ("the same region twice", "listed twice", |f| {
        vhdx_edit(f, 192 << 10, 64 << 10, |r| put(r, 16, &vhdx::REGION_BAT));
    }),
    ("a region beyond the end", "region lies beyond", |f| {
        vhdx_edit(f, 192 << 10, 64 << 10, |r| put_le64(r, 32, 1 << 40));
    }),
    ("a region over the headers", "region is not where", |f| vhdx_edit(f, 192 << 10, 64 << 10, |r| put_le64(r, 32, 0))),
    ("a parent flag", "parent disk", |f| put_le32(f, MIB + (64 << 10) + 4, 2)),
    ("a parent locator", "parent disk", |f| put(f, MIB + 32, &vhdx::ITEM_PARENT)),
    ("an unknown metadata item", "unknown vhdx metadata", |f| put(f, MIB + 32, &[7; 16])),
    ("a metadata item beyond its region", "beyond its region", |f| put_le32(f, MIB + 48, u32::MAX)),
    ("too many metadata items", "too many entries", |f| put(f, MIB + 10, &[255, 255])),
    ("blocks of 0 bytes", "blocks of 0", |f| put_le32(f, MIB + (64 << 10), 0)),
    ("sectors of 3 bytes", "sectors of 3", |f| put_le32(f, MIB + (64 << 10) + 16, 3)),
    ("a disk of 8 EiB", "is not allowed", |f| put_le64(f, MIB + (64 << 10) + 8, 1 << 63)),
    ("a disk larger than its table", "too small", |f| put_le64(f, MIB + (64 << 10) + 8, 1 << 42)),
    ("a block beyond the end", "block lies beyond", |f| put_le64(f, 2 * MIB + 8, 1 << 50 | 6)),
    ("a block of a difference disk", "state 7", |f| put_le64(f, 2 * MIB + 8, 3 << 20 | 7)),
    ("one block mapped again and again", "more than once", |f| {
        put_le64(f, MIB + (64 << 10) + 8, 64 * MIB as u64);
        for i in 0..64 {
            put_le64(f, 2 * MIB + i * 8, (3 * MIB as u64) | 6);
        }
    }),
];

/// All attacks, each on its own good image, and the lies about what a file is.
pub fn hostile() -> Vec<Hostile> {
    let mut all = Vec::new();
    let groups: [(Format, Vec<u8>, &[Attack]); 5] = [
        (Format::Qcow2, qcow2().0, QCOW2_ATTACKS),
        (Format::Vmdk, vmdk().0, VMDK_ATTACKS),
        (Format::Vdi, vdi().0, VDI_ATTACKS),
        (Format::Vhd, vhd().0, VHD_ATTACKS),
        (Format::Vhdx, vhdx().0, VHDX_ATTACKS),
    ];
    for (format, good, attacks) in groups {
        for (name, reason, edit) in attacks {
            let mut bytes = good.clone();
            edit(&mut bytes);
            all.push(Hostile { name, format, bytes, reason });
        }
    }
    let lies: [(&'static str, Format, Vec<u8>, &'static str); 12] = [
        ("qcow2 declared as raw", Format::Raw, qcow2().0, "its content is qcow2"),
        ("qcow2 declared as iso", Format::Iso, qcow2().0, "its content is qcow2"),
        ("qcow2 declared as ami", Format::Ami, qcow2().0, "its content is qcow2"),
        ("vmdk declared as raw", Format::Raw, vmdk().0, "its content is vmdk"),
        ("vdi declared as raw", Format::Raw, vdi().0, "its content is vdi"),
        ("vhd declared as raw", Format::Raw, vhd().0, "its content is vhd"),
        ("raw declared as qcow2", Format::Qcow2, pattern(1, 4096), "its content is something else"),
        ("raw declared as vhdx", Format::Vhdx, pattern(1, 4096), "its content is something else"),
        ("raw declared as vhd", Format::Vhd, pattern(1, 4096), "does not end with"),
        ("raw declared as iso", Format::Iso, pattern(1, 64 << 10), "no ISO 9660"),
        (
            "a vmdk that is only a descriptor",
            Format::Vmdk,
            vmdk_descriptor("monolithicFlat", "RW 2048 FLAT \"/etc/shadow\" 0").into_bytes(),
            "a vmdk descriptor without data",
        ),
        ("nothing at all declared as qcow2", Format::Qcow2, Vec::new(), "its content is something else"),
    ];
    all.extend(lies.into_iter().map(|(name, format, bytes, reason)| Hostile { name, format, bytes, reason }));
    all
}
