//! A machine in two files: its state (one JSON document with a version) and its memory (sparse: what is zero is a hole),
//! which is that of RAM and then that of the framebuffer, if there is a display.
//!
//! What must stay true: a machine goes on only in one that is made like it; the files are written and synced before
//! anybody is told; nothing of the state is trusted to be right but by checks of whoever takes it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _, GuestMemoryBackend as _, GuestMemoryRegion as _};
use vmspec::PageSize;

use super::state::{ChipState, ClockState, VcpuState};
use super::{KvmMachine, lock, ram, refused};
use crate::acpi::{self, SavedPm1};
use crate::display::{FRAMEBUFFER_BYTES, Framebuffer};
use crate::memory::GuestRam;
use crate::pci::bus::SavedBus;
use crate::pci::hotplug::SavedHotplug;
use crate::pci::slots;
use crate::platform::acpi::SavedEvents;
use crate::platform::cmos::Cmos;
use crate::platform::fw_cfg::SavedFwCfg;
use crate::platform::i8042::SavedKeyboard;
use crate::platform::serial::SavedSerial;

const VERSION: u32 = 1;
const MACHINE: &str = "solo-1";
const MOST_STATE_BYTES: u64 = 256 << 20;
const CHUNK: usize = 64 * 1024;

#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    machine: String,
    ram_bytes: u64,
    apic_ids: Vec<u32>,
    in_bios: bool,
    vcpus: Vec<VcpuState>,
    chips: ChipState,
    clock: ClockState,
    serial: SavedSerial,
    cmos: Cmos,
    fw_cfg: SavedFwCfg,
    keyboard: SavedKeyboard,
    events: SavedEvents,
    pm1: SavedPm1,
    pci: SavedBus,
    hotplug: SavedHotplug,
}

impl Saved {
    pub fn read(state: &mut File) -> io::Result<Self> {
        let mut bytes = Vec::new();
        state.seek(SeekFrom::Start(0))?;
        state.take(MOST_STATE_BYTES).read_to_end(&mut bytes)?;
        let saved: Self = serde_json::from_slice(&bytes)?;
        if saved.version != VERSION || saved.machine != MACHINE {
            return Err(refused(format!("the saved machine is {} version {}", saved.machine, saved.version)));
        }
        Ok(saved)
    }
}

/// What depends on the host and not on the spec must be as it was: a guest that goes on keeps its devices.
pub(super) fn as_before<T>(saved: Option<&Saved>, vsock: Option<T>) -> io::Result<Option<T>> {
    let Some(saved) = saved else { return Ok(vsock) };
    if !saved.pci.has(slots::VSOCK) {
        return Ok(None);
    }
    let missing = || refused("the saved machine has a vsock, and this host has no /dev/vhost-vsock to spare");
    vsock.ok_or_else(missing).map(Some)
}

impl KvmMachine {
    /// Write everything. The machine is stopped by this, with its devices paused, and stays so.
    pub fn suspend(&mut self, state: &mut File, memory: &File) -> io::Result<()> {
        self.pause()?;
        let saved = Saved {
            version: VERSION,
            machine: MACHINE.to_owned(),
            ram_bytes: self.ram_bytes,
            apic_ids: self.apic_ids.clone(),
            in_bios: self.in_bios,
            vcpus: self.vcpus.each(|_, vcpu| VcpuState::of(vcpu, &self.msrs))?,
            chips: ChipState::of(&self.vm)?,
            clock: ClockState::of(&self.vm)?,
            serial: lock(&self.platform.serial).save(),
            cmos: lock(&self.platform.cmos).clone(),
            fw_cfg: lock(&self.platform.fw_cfg).save(),
            keyboard: lock(&self.platform.keyboard).save(),
            events: lock(&self.platform.events).save(),
            pm1: lock(&self.platform.pm1).save(),
            pci: self.exits.pci.save(),
            hotplug: lock(&self.plugged.hotplug).save(),
        };
        write_memory(&self.ram.memory(), memory)?;
        if let Some(workplace) = &self.workplace {
            write_framebuffer(workplace.display.framebuffer(), memory, self.ram_bytes)?;
        }
        state.set_len(0)?;
        state.seek(SeekFrom::Start(0))?;
        let mut writer = io::BufWriter::new(&mut *state);
        serde_json::to_writer(&mut writer, &saved)?;
        writer.flush()?;
        drop(writer);
        memory.sync_all()?;
        state.sync_all()
    }

    /// Into a machine just made with the memory file as its RAM, which has not run.
    pub(super) fn take_over(&mut self, saved: Saved, memory: &File) -> io::Result<()> {
        if saved.ram_bytes != self.ram_bytes || saved.apic_ids != self.apic_ids || saved.vcpus.len() != self.vcpus.len()
        {
            return Err(refused("the saved machine has other memory or vCPUs"));
        }
        self.in_bios = saved.in_bios;
        self.give_rom_if_wanted()?;
        lock(&self.platform.serial).restore(&saved.serial)?;
        *lock(&self.platform.cmos) = saved.cmos.checked().ok_or_else(|| refused("the saved CMOS is none"))?;
        lock(&self.platform.fw_cfg).restore(saved.fw_cfg);
        lock(&self.platform.keyboard).restore(saved.keyboard);
        lock(&self.platform.pm1).restore(saved.pm1);
        if let Some(workplace) = &self.workplace {
            read_framebuffer(workplace.display.framebuffer(), memory, self.ram_bytes)?;
        }
        self.exits.pci.restore(&saved.pci).map_err(io::Error::other)?;
        lock(&self.plugged.hotplug).restore(&saved.hotplug).map_err(io::Error::other)?;
        self.chips.restore(&self.vm)?;
        saved.chips.restore(&self.vm)?;
        saved.clock.restore(&self.vm)?;
        self.vcpus.each(|index, vcpu| match saved.vcpus.get(index as usize) {
            Some(state) => state.restore(vcpu),
            None => Ok(()),
        })?;
        // The guest goes on as another one: what it thought nobody else knows is known to whoever has the files.
        self.platform.generation.renew()?;
        let mut events = lock(&self.platform.events);
        events.restore(saved.events);
        events.raise(acpi::EVENT_GENERATION);
        drop(events);
        self.plugged.announce();
        self.paused = true;
        Ok(())
    }
}

/// Every chunk that is not all zero, at its place: the regions of RAM one after the other.
fn write_memory(guest: &GuestRam, file: &File) -> io::Result<()> {
    let total: u64 = guest.iter().map(|region| region.len()).sum();
    file.set_len(0)?;
    file.set_len(total)?;
    let mut chunk = vec![0_u8; CHUNK];
    let mut base = 0;
    for region in guest.iter() {
        let mut at = 0;
        while at < region.len() {
            let length = usize::try_from(region.len() - at).unwrap_or(CHUNK).min(CHUNK);
            let part = chunk.get_mut(..length).unwrap_or_default();
            let from = GuestAddress(region.start_addr().0 + at);
            guest.read_slice(part, from).map_err(io::Error::other)?;
            if part.iter().any(|byte| *byte != 0) {
                file.write_all_at(part, base + at)?;
            }
            at += length as u64;
        }
        base += region.len();
    }
    Ok(())
}

/// After RAM. The guest's pages are read through the file, as looking at them in memory would make those that are not there.
fn write_framebuffer(framebuffer: &Framebuffer, file: &File, base: u64) -> io::Result<()> {
    let Some(from) = framebuffer.file() else { return Ok(()) };
    file.set_len(base + framebuffer.len())?;
    copy_data(from, 0, framebuffer.len(), |at, part| file.write_all_at(part, base + at))
}

fn read_framebuffer(framebuffer: &Framebuffer, file: &File, base: u64) -> io::Result<()> {
    copy_data(file, base, framebuffer.len(), |at, part| {
        framebuffer.write(at, part);
        Ok(())
    })
}

/// What is not zero among `length` bytes from `base` on.
fn copy_data(from: &File, base: u64, length: u64, mut to: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut chunk = vec![0_u8; CHUNK];
    let mut at = 0;
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(CHUNK).min(CHUNK);
        let part = chunk.get_mut(..wanted).unwrap_or_default();
        from.read_exact_at(part, base + at)?;
        if part.iter().any(|byte| *byte != 0) {
            to(at, part)?;
        }
        at += wanted as u64;
    }
    Ok(())
}

/// RAM as it was saved.
pub(super) fn memory_from(file: &File, ram_bytes: u64, pages: PageSize, display: bool) -> io::Result<GuestRam> {
    let bytes = ram_bytes + if display { FRAMEBUFFER_BYTES } else { 0 };
    if file.metadata()?.len() != bytes {
        return Err(refused("the saved memory has another size"));
    }
    ram::from_file(ram_bytes, file, pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn zero_memory_takes_no_room_and_the_rest_comes_back() {
        let guest = ram::allocate(64 << 20, PageSize::Any).unwrap();
        for at in [0, 0x1_2345, (64 << 20) - 1] {
            guest.write_obj(0x5a_u8, GuestAddress(at)).unwrap();
        }
        let file = tempfile::tempfile().unwrap();
        write_memory(&guest, &file).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 <= 4 * CHUNK as u64);
        let back = memory_from(&file, 64 << 20, PageSize::Any, false).unwrap();
        for at in [0, 0x1_2345, (64 << 20) - 1] {
            assert_eq!(back.read_obj::<u8>(GuestAddress(at)).unwrap(), 0x5a);
        }
        assert_eq!(back.read_obj::<u8>(GuestAddress(0x1_2346)).unwrap(), 0);
        assert!(memory_from(&file, 32 << 20, PageSize::Any, false).is_err());
        assert!(memory_from(&file, 64 << 20, PageSize::Any, true).is_err());
    }
}
