//! The guest firmware: entered by PVH, it finds what the root disk would boot, loads it and starts it.
//!
//! This half is the machine: it alone touches ports and memory, and holds all `unsafe`. What it reads from the disk is
//! understood by the library half. Whatever goes wrong ends in `machine::handover::give_up`: a reason and the request
//! for SeaBIOS.

#![no_std]
#![no_main]

extern crate alloc;

mod machine;

use alloc::{boxed::Box, format, rc::Rc, string::String, vec::Vec};
use core::convert::Infallible;

use firmware::{Result, boot, disk::Disk, file::SLACK_BYTES, linux};
use machine::{blk::Blk, handover, layout, screen, start_info::StartInfo};

/// Called once by the entry code, on our stack, with the address of the PVH start info.
#[unsafe(no_mangle)]
extern "C" fn rust_main(start_info: u64) -> ! {
    machine::init();
    let Err(error) = run(start_info);
    handover::give_up(&format!("{error}"))
}

fn run(start_info: u64) -> Result<Infallible> {
    let info = StartInfo::read(start_info)?;
    layout::check(&info.map)?;
    let blk = Blk::find()?;
    let sector_bytes = u64::from(blk.sector_bytes());
    let plan = boot::find(Rc::new(Disk::new(Box::new(blk.clone()))), machine::smbios::table())?;

    let sizes: Vec<u64> = plan.initrds.iter().map(|initrd| initrd.bytes).collect();
    let places = linux::place(&plan.header, &sizes, &info.map, &layout::taken())?;
    // The real-mode part lands in front of the kernel and is of no use there; reading it along saves a request.
    let file_at = places.kernel - plan.header.setup_bytes;
    let mut transfers = plan.kernel.map.transfers(plan.kernel.offset, plan.kernel.bytes, file_at, sector_bytes)?;
    for (initrd, &at) in plan.initrds.iter().zip(&places.initrds) {
        transfers.extend(initrd.map.transfers(initrd.offset, initrd.bytes, at, sector_bytes)?);
    }
    blk.load(&transfers)?;
    // What lies between two initrds must be zeroes.
    for ((initrd, &at), &next) in plan.initrds.iter().zip(&places.initrds).zip(places.initrds.iter().skip(1)) {
        machine::memory::clear(at + initrd.bytes, next - at - initrd.bytes);
    }
    debug_assert!(SLACK_BYTES >= sector_bytes);
    for write in &plan.writes {
        blk.write(write.disk, &write.data)?;
    }
    let requests = blk.requests();
    blk.stop();

    let screen = screen::set_up();
    let cmdline = layout::put_cmdline(&plan.cmdline)?;
    let zero_page = linux::zero_page(&plan.header, &info.map, info.rsdp, cmdline, places.initrd, screen)?;
    let name: String = plan.name.chars().take(100).collect();
    machine::serial::line(&format!("solo-fw: {name}, by {}, {requests} reads", plan.source));
    handover::start_linux(plan.header.entry(places.kernel), plan.header.entry_64, &zero_page)
}
