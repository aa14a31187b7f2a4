//! What a vCPU finds when it starts: our firmware (PVH), a BIOS, or, for measurements, a Linux kernel.
//!
//! What must stay true: of all that is loaded here only the kernel of `Start::Linux` could be a guest's, and servers are
//! never started that way: nothing of a guest is parsed on the host.

use std::fs::File;
use std::io::{self, Cursor, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::{VcpuFd, VmFd};
use linux_loader::loader::KernelLoader as _;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use vm_memory::{ByteValued, Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::layout::{self, MapEntry, MapKind};
use super::ram::{self, errno};
use crate::memory::GuestRam;

/// What the machine starts with.
#[derive(Debug)]
pub enum Start {
    /// Our firmware, and the BIOS for what it hands over, if there is one.
    Firmware {
        elf: &'static [u8],
        bios: Option<File>,
    },
    Bios {
        bios: File,
    },
    /// For measurements and tests.
    Linux(Linux),
}

#[derive(Debug)]
pub struct Linux {
    /// A bzImage, or an ELF file with a PVH entry.
    pub kernel: File,
    pub initrd: Option<File>,
    pub command_line: String,
}

/// Where things are put below 1 MiB before a PVH or Linux start.
const GDT: u64 = 0x500;
const START_INFO: u64 = 0x6000;
const MODULE: u64 = 0x6040;
const MEMORY_MAP: u64 = 0x6100;
const BOOT_PARAMS: u64 = 0x7000;
const STACK: u64 = 0x8ff0;
const PAGE_TABLES: u64 = 0x9000;
const COMMAND_LINE: u64 = 0x2_0000;
const MOST_COMMAND_LINE: usize = 0x1_0000;
const LINUX_64: u64 = 0x100_0000;
const ENTRY_64: u64 = 0x200;

// Nothing of it overlaps.
const _: () = {
    assert!(MEMORY_MAP + 8 * size_of::<hvm_memmap_table_entry>() as u64 <= BOOT_PARAMS);
    assert!(BOOT_PARAMS + size_of::<boot_params>() as u64 <= STACK);
    assert!(PAGE_TABLES + 0x6000 <= COMMAND_LINE);
    assert!(COMMAND_LINE + MOST_COMMAND_LINE as u64 <= layout::EBDA);
};

const PVH_MAGIC: u32 = 0x336e_c578;
const PVH_RAM: u32 = 1;
const PVH_RESERVED: u32 = 2;
const MOST_INITRD: u64 = 1 << 30;
const MOST_BIOS: u64 = 4 << 20;

fn failed<E: std::fmt::Debug>(what: &'static str) -> impl Fn(E) -> io::Error {
    move |error| io::Error::other(format!("{what}: {error:?}"))
}

/// How the boot processor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// As the hardware does at a reset: nothing to set.
    ResetVector,
    /// 32 bits, flat, no paging; `ebx` is the start info.
    Pvh { at: u64 },
    /// 64 bits, paging on; `rsi` is the zero page.
    Linux64 { at: u64 },
}

/// Where tables of the machine are, for those who do not search.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    pub rsdp: u64,
}

/// Put an ELF file with a PVH entry into RAM.
fn load_elf<F: vm_memory::ReadVolatile + io::Seek + io::Read>(ram: &GuestRam, file: &mut F) -> io::Result<Entry> {
    let highmem = Some(GuestAddress(layout::ONE_MIB));
    let loaded = Elf::load(ram, None, file, highmem).map_err(failed("the image cannot be loaded"))?;
    match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(at) => Ok(Entry::Pvh { at: at.0 }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the image has no PVH entry")),
    }
}

/// Our firmware.
pub fn load_firmware(ram: &GuestRam, elf: &[u8], map: &[MapEntry], tables: Tables) -> io::Result<Entry> {
    let entry = load_elf(ram, &mut Cursor::new(elf))?;
    put_start_info(ram, map, tables, None, "")?;
    Ok(entry)
}

/// A kernel, with what the boot protocol wants.
pub fn load_linux(ram: &GuestRam, linux: &mut Linux, map: &[MapEntry], tables: Tables) -> io::Result<Entry> {
    if linux.command_line.len() >= MOST_COMMAND_LINE || linux.command_line.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command line is too long, or no text"));
    }
    let initrd = match &mut linux.initrd {
        Some(file) => Some(load_initrd(ram, file)?),
        None => None,
    };
    let mut magic = [0_u8; 4];
    linux.kernel.seek(SeekFrom::Start(0))?;
    linux.kernel.read_exact(&mut magic)?;
    linux.kernel.seek(SeekFrom::Start(0))?;
    if magic == *b"\x7fELF" {
        let entry = load_elf(ram, &mut linux.kernel)?;
        put_start_info(ram, map, tables, initrd, &linux.command_line)?;
        return Ok(entry);
    }
    let at = GuestAddress(LINUX_64);
    let loaded = BzImage::load(ram, Some(at), &mut linux.kernel, Some(GuestAddress(layout::ONE_MIB)));
    let loaded = loaded.map_err(failed("the kernel cannot be loaded"))?;
    let mut parameters = boot_params { hdr: loaded.setup_header.unwrap_or_default(), ..Default::default() };
    if parameters.hdr.xloadflags & 1 == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel has no 64-bit entry"));
    }
    put_text(ram, &linux.command_line)?;
    parameters.hdr.type_of_loader = 0xff;
    parameters.hdr.cmd_line_ptr = COMMAND_LINE as u32;
    parameters.hdr.cmdline_size = u32::try_from(linux.command_line.len() + 1).unwrap_or(0);
    if let Some((start, bytes)) = initrd {
        parameters.hdr.ramdisk_image = start as u32;
        parameters.hdr.ramdisk_size = u32::try_from(bytes).unwrap_or(0);
    }
    parameters.acpi_rsdp_addr = tables.rsdp;
    for (place, entry) in parameters.e820_table.iter_mut().zip(map) {
        *place = boot_e820_entry { addr: entry.start, size: entry.bytes, r#type: kind_number(entry.kind) };
    }
    parameters.e820_entries = u8::try_from(map.len()).unwrap_or(0);
    ram.write_obj(Zeropage(parameters), GuestAddress(BOOT_PARAMS)).map_err(io::Error::other)?;
    put_page_tables(ram)?;
    Ok(Entry::Linux64 { at: loaded.kernel_load.0 + ENTRY_64 })
}

/// The zero page as bytes.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
struct Zeropage(boot_params);

#[allow(unsafe_code, reason = "plain old data")]
// SAFETY: `boot_params` is a packed C structure of integers and arrays of them, for which any bytes are valid.
unsafe impl ByteValued for Zeropage {}

fn kind_number(kind: MapKind) -> u32 {
    match kind {
        MapKind::Ram => PVH_RAM,
        MapKind::Reserved => PVH_RESERVED,
    }
}

/// At the end of low RAM, where no kernel unpacks itself: start and size.
fn load_initrd(ram: &GuestRam, file: &mut File) -> io::Result<(u64, u64)> {
    let bytes = file.metadata()?.len();
    let end = ram.iter().next().map_or(0, |region| region.len());
    let start = end.checked_sub(bytes).filter(|start| bytes <= MOST_INITRD && *start > 2 * LINUX_64);
    let start = start.ok_or_else(|| io::Error::new(io::ErrorKind::OutOfMemory, "the initrd does not fit"))? & !0xfff;
    file.seek(SeekFrom::Start(0))?;
    let size = usize::try_from(bytes).map_err(io::Error::other)?;
    ram.read_exact_volatile_from(GuestAddress(start), file, size).map_err(io::Error::other)?;
    Ok((start, bytes))
}

fn put_text(ram: &GuestRam, text: &str) -> io::Result<()> {
    ram.write_slice(text.as_bytes(), GuestAddress(COMMAND_LINE)).map_err(io::Error::other)?;
    ram.write_obj(0_u8, GuestAddress(COMMAND_LINE + text.len() as u64)).map_err(io::Error::other)
}

/// The PVH start info (Xen's docs/misc/pvh.markdown) and what it points to.
fn put_start_info(
    ram: &GuestRam,
    map: &[MapEntry],
    tables: Tables,
    module: Option<(u64, u64)>,
    command_line: &str,
) -> io::Result<()> {
    let mut info = hvm_start_info { magic: PVH_MAGIC, version: 1, rsdp_paddr: tables.rsdp, ..Default::default() };
    if let Some((paddr, size)) = module {
        let entry = hvm_modlist_entry { paddr, size, ..Default::default() };
        ram.write_obj(entry, GuestAddress(MODULE)).map_err(io::Error::other)?;
        info.nr_modules = 1;
        info.modlist_paddr = MODULE;
    }
    put_text(ram, command_line)?;
    info.cmdline_paddr = COMMAND_LINE;
    let mut at = MEMORY_MAP;
    for entry in map {
        let written = hvm_memmap_table_entry {
            addr: entry.start,
            size: entry.bytes,
            type_: kind_number(entry.kind),
            reserved: 0,
        };
        ram.write_obj(written, GuestAddress(at)).map_err(io::Error::other)?;
        at += size_of::<hvm_memmap_table_entry>() as u64;
    }
    info.memmap_paddr = MEMORY_MAP;
    info.memmap_entries = u32::try_from(map.len()).unwrap_or(0);
    ram.write_obj(info, GuestAddress(START_INFO)).map_err(io::Error::other)
}

/// The first 4 GiB mapped to themselves by pages of 2 MiB; and a GDT with the selectors of Linux's boot protocol.
fn put_page_tables(ram: &GuestRam) -> io::Result<()> {
    let put = |at: u64, entry: u64| ram.write_obj(entry, GuestAddress(at)).map_err(io::Error::other);
    let (upper, directories) = (PAGE_TABLES + 0x1000, PAGE_TABLES + 0x2000);
    put(PAGE_TABLES, upper | 3)?;
    for gib in 0..4_u64 {
        put(upper + gib * 8, (directories + gib * 0x1000) | 3)?;
        let mut directory = [0_u8; 0x1000];
        for (entry, place) in (0_u64..).zip(directory.chunks_mut(8)) {
            place.copy_from_slice(&(gib << 30 | entry << 21 | 0x83).to_le_bytes());
        }
        ram.write_slice(&directory, GuestAddress(directories + gib * 0x1000)).map_err(io::Error::other)?;
    }
    for (index, descriptor) in (0_u64..).zip([0, 0, 0x00af_9b00_0000_ffff_u64, 0x00cf_9300_0000_ffff]) {
        put(GDT + index * 8, descriptor)?;
    }
    Ok(())
}

const CR0_PROTECTED: u64 = 1;
const CR0_EXTENSION: u64 = 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PHYSICAL_EXTENSION: u64 = 1 << 5;
const EFER_LONG: u64 = 1 << 8 | 1 << 10;

/// Set the boot processor up; it is in its reset state.
pub fn enter(vcpu: &VcpuFd, entry: Entry) -> io::Result<()> {
    let (at, long) = match entry {
        Entry::ResetVector => return Ok(()),
        Entry::Pvh { at } => (at, false),
        Entry::Linux64 { at } => (at, true),
    };
    let mut special = vcpu.get_sregs().map_err(errno)?;
    let code = kvm_segment {
        limit: u32::MAX,
        selector: 0x10,
        type_: 11,
        present: 1,
        s: 1,
        g: 1,
        db: u8::from(!long),
        l: u8::from(long),
        ..Default::default()
    };
    let data = kvm_segment { selector: 0x18, type_: 3, db: 1, l: 0, ..code };
    special.cs = code;
    (special.ds, special.es, special.fs, special.gs, special.ss) = (data, data, data, data, data);
    special.tr = kvm_segment { limit: 0x67, selector: 0x20, type_: 11, present: 1, ..Default::default() };
    special.cr0 = CR0_PROTECTED | CR0_EXTENSION;
    special.cr4 = 0;
    special.efer = 0;
    let mut registers = kvm_regs { rip: at, rflags: 2, rsp: STACK, ..Default::default() };
    if long {
        special.gdt.base = GDT;
        special.gdt.limit = 4 * 8 - 1;
        special.cr3 = PAGE_TABLES;
        special.cr4 = CR4_PHYSICAL_EXTENSION;
        special.cr0 |= CR0_PAGING;
        special.efer = EFER_LONG;
        registers.rsi = BOOT_PARAMS;
    } else {
        // The protocol leaves the stack to the guest; our firmware uses what it finds for two words.
        registers.rbx = START_INFO;
    }
    vcpu.set_sregs(&special).map_err(errno)?;
    vcpu.set_regs(&registers).map_err(errno)
}

/// Caching as a BIOS leaves it: write-back wherever nothing else is said, the same on every vCPU.
pub fn set_memory_types(vcpu: &VcpuFd) -> io::Result<()> {
    const DEFAULT_TYPE: u32 = 0x2ff;
    const ENABLED: u64 = 1 << 11;
    const WRITE_BACK: u64 = 6;
    let entry = kvm_msr_entry { index: DEFAULT_TYPE, data: ENABLED | WRITE_BACK, ..Default::default() };
    let msrs = Msrs::from_entries(&[entry]).map_err(failed("memory types"))?;
    vcpu.set_msrs(&msrs).map_err(errno)?;
    Ok(())
}

/// A BIOS in its place below 4 GiB, with its last part below 1 MiB as well.
pub struct BiosRom {
    rom: GuestRam,
}

impl BiosRom {
    pub fn new(file: &File) -> io::Result<Self> {
        // By seeking, which the jail allows; it knows no call that could ask for a path's size.
        let bytes = (&*file).seek(SeekFrom::End(0))?;
        let fits = (layout::BIOS_COPY_BYTES as u64..=MOST_BIOS).contains(&bytes) && bytes.is_multiple_of(0x1000);
        if !fits {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a BIOS of {bytes} bytes is none")));
        }
        let size = usize::try_from(bytes).map_err(io::Error::other)?;
        let mut content = vec![0_u8; size];
        file.read_exact_at(&mut content, 0)?;
        let start = layout::BIOS_END - bytes;
        let rom = ram::area(start, size)?;
        rom.write_slice(&content, GuestAddress(start)).map_err(io::Error::other)?;
        Ok(Self { rom })
    }

    pub fn give(&self, vm: &VmFd) -> io::Result<()> {
        let region = self.rom.iter().next().ok_or_else(|| io::Error::other("no BIOS"))?;
        ram::give(vm, ram::BIOS_SLOT, region, ram::SlotFlags { read_only: true, ..Default::default() })
    }

    /// What firmware expects below 1 MiB at a reset.
    pub fn put_copy(&self, ram: &GuestRam) -> io::Result<()> {
        let mut copy = vec![0_u8; layout::BIOS_COPY_BYTES];
        let from = layout::BIOS_END - layout::BIOS_COPY_BYTES as u64;
        self.rom.read_slice(&mut copy, GuestAddress(from)).map_err(io::Error::other)?;
        let to = layout::ONE_MIB - layout::BIOS_COPY_BYTES as u64;
        ram.write_slice(&copy, GuestAddress(to)).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn map() -> Vec<MapEntry> {
        layout::memory_map(64 << 20, true)
    }

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn hostile_kernels_are_refused() {
        let ram = ram::allocate(64 << 20, vmspec::PageSize::Any).unwrap();
        for content in [&b""[..], b"\x7fELF", &[0; 4096], &[0xff; 4096]] {
            let mut linux = Linux { kernel: file(content), initrd: None, command_line: "quiet".to_owned() };
            assert!(load_linux(&ram, &mut linux, &map(), Tables { rsdp: 0xe_0000 }).is_err());
        }
        let mut linux = Linux { kernel: file(b""), initrd: None, command_line: "x".repeat(MOST_COMMAND_LINE) };
        assert!(load_linux(&ram, &mut linux, &map(), Tables { rsdp: 0xe_0000 }).is_err());
    }

    #[test]
    fn a_bios_is_of_the_right_size_and_its_end_is_copied() {
        for bytes in [0, 0x1000, 0x2_0001, 8 << 20] {
            assert!(BiosRom::new(&file(&vec![0; bytes])).is_err(), "{bytes}");
        }
        let mut content = vec![1_u8; 256 << 10];
        content[0x2_0000] = 0x77;
        *content.last_mut().unwrap() = 0x99;
        let rom = BiosRom::new(&file(&content)).unwrap();
        let ram = ram::allocate(4 << 20, vmspec::PageSize::Any).unwrap();
        rom.put_copy(&ram).unwrap();
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0xe_0000)).unwrap(), 0x77);
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0xf_ffff)).unwrap(), 0x99);
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x10_0000)).unwrap(), 0);
    }
}
