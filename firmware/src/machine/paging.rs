//! Maps what lies above the first 4 GiB: BARs that the VMM put into the upper half of the address space.

use firmware::{Error, Result};

const PRESENT_WRITABLE: u64 = 3;
const LARGE: u64 = 0x80;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const TABLES: usize = 16;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Table([u64; 512]);

static mut SPARE: [Table; TABLES] = [Table([0; 512]); TABLES];
static mut USED: usize = 0;

unsafe extern "C" {
    static mut page_root: [u64; 512];
}

fn spare() -> Result<*mut u64> {
    // SAFETY: only used from here, on the only processor; each table is handed out once, cleared as part of the bss.
    unsafe {
        if USED == TABLES {
            return Err(Error::Limit("page tables"));
        }
        USED += 1;
        Ok((&raw mut SPARE).cast::<Table>().add(USED - 1).cast())
    }
}

/// Maps the 2 MiB pages of the range one to one, if they are not mapped yet.
pub fn map(start: u64, bytes: u64) -> Result<()> {
    let end =
        start.checked_add(bytes).filter(|&end| end <= 1 << 47).ok_or(Error::Unsupported("a BAR beyond 47 bits"))?;
    let mut at = start & !0x1f_ffff;
    while at < end {
        if at >= 1 << 32 {
            map_large(at)?;
        }
        at += 0x20_0000;
    }
    Ok(())
}

fn map_large(at: u64) -> Result<()> {
    let mut table = (&raw mut page_root).cast::<u64>();
    for shift in [39, 30] {
        let index = (at >> shift) as usize & 511;
        // SAFETY: `table` is a page table of ours with 512 entries.
        let entry = unsafe { table.add(index) };
        // SAFETY: as above.
        let value = unsafe { entry.read_volatile() };
        if value & 1 == 0 {
            let next = spare()?;
            // SAFETY: as above; the processor sees the entry only after the cleared table.
            unsafe { entry.write_volatile(next as u64 | PRESENT_WRITABLE) };
            table = next;
        } else {
            table = (value & ADDRESS) as *mut u64;
        }
    }
    let index = (at >> 21) as usize & 511;
    // SAFETY: as above. Nothing was mapped there before, so nothing has to be flushed.
    unsafe { table.add(index).write_volatile(at | LARGE | PRESENT_WRITABLE) };
    Ok(())
}
