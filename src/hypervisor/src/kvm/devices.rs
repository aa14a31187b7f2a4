//! Disks and nics of a machine: made from their specs and open files, plugged in and out while the guest runs.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver};
use vmspec::protocol::{Device, Devices, DiskStatistics, PluggedDisk, PluggedNic};
use vmspec::{Disk, Nic};

use super::{lock, refused};
use crate::interrupts::Interrupts;
use crate::memory::SharedRam;
use crate::pci::{Hotplug, HotplugEvent, IoEvents, PciBus, intx_gsi, slots};
use crate::virtio::blk::{Blk, BlkControl, BlkSettings};
use crate::virtio::device::VirtioDevice;
use crate::virtio::net::{Net, NetControl, NetSettings};
use crate::virtio::pci::VirtioPci;
use crate::virtio::rate_limiter::{DiskLimits, Limits};

/// More queues than this are of no use to a disk.
const MOST_DISK_QUEUES: u32 = 8;
/// How long a guest may take to let go of a device before the log says so. It still may afterwards.
const EJECT: Duration = Duration::from_secs(30);

/// What virtio functions are made with.
pub(super) struct Wiring {
    pub ram: SharedRam,
    pub interrupts: Arc<dyn Interrupts>,
    pub events: Arc<dyn IoEvents>,
    pub vcpus: u32,
    pub vhost: VhostPool,
}

/// Open `/dev/vhost-net`, each lent to a NIC for as long as that is plugged in. They are opened before the walls, so there
/// are as many as there will ever be.
pub(super) struct VhostPool(Vec<Arc<File>>);

impl VhostPool {
    pub fn new(files: Vec<File>) -> Self {
        Self(files.into_iter().map(Arc::new).collect())
    }

    /// As many as asked for that no NIC has, or none: user space serves all queues of a NIC, or vhost does.
    fn lend(&self, queues: usize) -> Vec<Arc<File>> {
        let free = self.0.iter().filter(|file| Arc::strong_count(file) == 1);
        let lent: Vec<_> = free.take(queues).map(Arc::clone).collect();
        if lent.len() == queues { lent } else { Vec::new() }
    }
}

impl Wiring {
    pub fn function(&self, slot: u8, device: Box<dyn VirtioDevice>) -> io::Result<VirtioPci> {
        let (interrupts, events) = (Arc::clone(&self.interrupts), Arc::clone(&self.events));
        VirtioPci::new(device, self.ram.clone(), interrupts, events, intx_gsi(slot))
    }

    fn disk(&self, disk: &Disk, file: File) -> io::Result<(VirtioPci, BlkControl)> {
        let device = Blk::new(BlkSettings {
            name: format!("disk{}", disk.slot),
            file,
            read_only: disk.read_only,
            serial: disk.serial.clone(),
            size_bytes: disk.size_bytes,
            queues: u16::try_from(self.vcpus.min(MOST_DISK_QUEUES)).unwrap_or(1),
            limits: DiskLimits::from(&disk.limits),
        })?;
        let control = device.control();
        Ok((self.function(slots::FIRST_DISK + disk.slot, Box::new(device))?, control))
    }

    fn nic(&self, nic: &Nic, taps: Vec<File>) -> io::Result<(VirtioPci, NetControl)> {
        // Limits are kept by user space.
        let vhost = if nic.limits.is_none() { self.vhost.lend(taps.len()) } else { Vec::new() };
        let device = Net::new(NetSettings {
            name: format!("nic{}", nic.slot),
            taps,
            vhost,
            mac: nic.mac.0,
            mtu: nic.mtu,
            link_up: true,
            receive_limits: Limits::per_second(nic.limits.inbound_bytes_per_second, None),
            transmit_limits: Limits::per_second(nic.limits.outbound_bytes_per_second, None),
        })?;
        let control = device.control();
        Ok((self.function(slots::FIRST_NIC + nic.slot, Box::new(device))?, control))
    }
}

struct DiskHere {
    disk: Disk,
    control: BlkControl,
    leaving: bool,
}

struct NicHere {
    nic: Nic,
    control: NetControl,
    leaving: bool,
}

/// A disk and its file; a nic and the queues of its tap.
pub type OpenDisk = (Disk, File);
pub type OpenNic = (Nic, Vec<File>);

/// All disks and nics, by the slots of the spec (which are not those of the bus).
pub(super) struct Plugged {
    wiring: Wiring,
    bus: Arc<PciBus>,
    pub hotplug: Arc<Mutex<Hotplug>>,
    ejected: UnboundedReceiver<HotplugEvent>,
    disks: Vec<DiskHere>,
    nics: Vec<NicHere>,
}

impl Plugged {
    /// `notify` tells the guest that the hotplug block has news.
    pub fn new(wiring: Wiring, bus: Arc<PciBus>, notify: impl Fn() + Send + 'static) -> Self {
        let (gone, ejected) = mpsc::unbounded_channel();
        let listener = move |event| {
            // Nobody listens only when the machine is being taken down.
            let _ = gone.send(event);
        };
        let hotplug = Arc::new(Mutex::new(Hotplug::new(Arc::clone(&bus), notify, listener)));
        Self { wiring, bus, hotplug, ejected, disks: Vec::new(), nics: Vec::new() }
    }

    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// Before the guest runs.
    pub fn add_disk(&mut self, (disk, file): OpenDisk) -> io::Result<()> {
        let (function, control) = self.wiring.disk(&disk, file)?;
        self.bus.add(slots::FIRST_DISK + disk.slot, function).map_err(io::Error::other)?;
        self.disks.push(DiskHere { disk, control, leaving: false });
        Ok(())
    }

    /// Before the guest runs.
    pub fn add_nic(&mut self, (nic, taps): OpenNic) -> io::Result<()> {
        let (function, control) = self.wiring.nic(&nic, taps)?;
        self.bus.add(slots::FIRST_NIC + nic.slot, function).map_err(io::Error::other)?;
        self.nics.push(NicHere { nic, control, leaving: false });
        Ok(())
    }

    /// Has the guest tell every network where it is: it went on somewhere else, or much later.
    pub fn announce(&self) {
        self.nics.iter().for_each(|here| here.control.announce());
    }

    pub fn attach_disk(&mut self, (disk, file): OpenDisk) -> io::Result<()> {
        if let Some(here) = self.disks.iter().find(|here| here.disk.slot == disk.slot) {
            let same = here.disk == disk && !here.leaving;
            return if same { Ok(()) } else { Err(refused(format!("disk slot {} is taken", disk.slot))) };
        }
        if !disk.serial.is_empty() && self.disks.iter().any(|here| here.disk.serial == disk.serial) {
            return Err(refused(format!("a disk with serial {} is there", disk.serial)));
        }
        let (function, control) = self.wiring.disk(&disk, file)?;
        lock(&self.hotplug).attach(slots::FIRST_DISK + disk.slot, function).map_err(io::Error::other)?;
        self.disks.push(DiskHere { disk, control, leaving: false });
        Ok(())
    }

    pub fn attach_nic(&mut self, (nic, taps): OpenNic) -> io::Result<()> {
        if let Some(here) = self.nics.iter().find(|here| here.nic.slot == nic.slot) {
            let same = here.nic == nic && !here.leaving;
            return if same { Ok(()) } else { Err(refused(format!("nic slot {} is taken", nic.slot))) };
        }
        if self.nics.iter().any(|here| here.nic.mac == nic.mac) {
            return Err(refused(format!("a nic with address {} is there", nic.mac)));
        }
        let (function, control) = self.wiring.nic(&nic, taps)?;
        lock(&self.hotplug).attach(slots::FIRST_NIC + nic.slot, function).map_err(io::Error::other)?;
        self.nics.push(NicHere { nic, control, leaving: false });
        Ok(())
    }

    /// Ask the guest. An empty slot is done already: false.
    pub fn detach_disk(&mut self, slot: u8) -> io::Result<bool> {
        let Some(here) = self.disks.iter_mut().find(|here| here.disk.slot == slot) else { return Ok(false) };
        let until = Instant::now() + EJECT;
        lock(&self.hotplug).request_eject(slots::FIRST_DISK + slot, until).map_err(io::Error::other)?;
        here.leaving = true;
        Ok(true)
    }

    pub fn detach_nic(&mut self, slot: u8) -> io::Result<bool> {
        let Some(here) = self.nics.iter_mut().find(|here| here.nic.slot == slot) else { return Ok(false) };
        let until = Instant::now() + EJECT;
        lock(&self.hotplug).request_eject(slots::FIRST_NIC + slot, until).map_err(io::Error::other)?;
        here.leaving = true;
        Ok(true)
    }

    pub fn resize_disk(&mut self, slot: u8, size_bytes: u64) -> io::Result<()> {
        let here = self.disks.iter_mut().find(|here| here.disk.slot == slot);
        let here = here.ok_or_else(|| refused(format!("there is no disk {slot}")))?;
        here.control.resize(size_bytes);
        here.disk.size_bytes = size_bytes;
        Ok(())
    }

    /// What the guest has let go of meanwhile, closed by now.
    pub fn removed(&mut self) -> Vec<Device> {
        lock(&self.hotplug).expire(Instant::now());
        let mut removed = Vec::new();
        while let Ok(event) = self.ejected.try_recv() {
            removed.extend(self.gone(event));
        }
        removed
    }

    /// Wait until something happens that [`Plugged::removed`] tells.
    pub async fn wait(&mut self) -> Vec<Device> {
        let deadline = lock(&self.hotplug).next_deadline();
        let event = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), self.ejected.recv()).await.ok().flatten(),
            None => self.ejected.recv().await,
        };
        let first = event.and_then(|event| self.gone(event));
        let mut removed = self.removed();
        removed.extend(first);
        removed
    }

    fn gone(&mut self, event: HotplugEvent) -> Option<Device> {
        let slot = match event {
            HotplugEvent::Ejected { slot, requested, function } => {
                if !requested {
                    tracing::warn!(pci_slot = slot, "the guest has let go of a device by itself");
                }
                drop(function);
                slot
            }
            HotplugEvent::TimedOut { slot } => {
                tracing::warn!(pci_slot = slot, "the guest does not let go of a device");
                return None;
            }
        };
        if let Some(slot) = slot.checked_sub(slots::FIRST_NIC) {
            self.nics.retain(|here| here.nic.slot != slot);
            return Some(Device::Nic { slot });
        }
        let slot = slot.checked_sub(slots::FIRST_DISK)?;
        self.disks.retain(|here| here.disk.slot != slot);
        Some(Device::Disk { slot })
    }

    pub fn list(&self) -> Devices {
        let disk = |here: &DiskHere| PluggedDisk {
            slot: here.disk.slot,
            serial: here.disk.serial.clone(),
            size_bytes: here.disk.size_bytes,
            leaving: here.leaving,
        };
        let nic = |here: &NicHere| PluggedNic { slot: here.nic.slot, port_id: here.nic.port_id, leaving: here.leaving };
        Devices { disks: self.disks.iter().map(disk).collect(), nics: self.nics.iter().map(nic).collect() }
    }

    pub fn statistics(&self) -> Vec<DiskStatistics> {
        let of = |here: &DiskHere| {
            let counted = here.control.statistics();
            DiskStatistics {
                slot: here.disk.slot,
                read_bytes: counted.read_bytes,
                read_operations: counted.read_operations,
                written_bytes: counted.written_bytes,
                write_operations: counted.write_operations,
                errors: counted.errors,
            }
        };
        self.disks.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vhost_is_lent_to_whole_nics_and_comes_back_with_them() {
        let files = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
        let pool = VhostPool::new(files);
        let two = pool.lend(2);
        assert_eq!(two.len(), 2);
        assert!(pool.lend(2).is_empty(), "one is not enough for two queues");
        let one = pool.lend(1);
        assert_eq!(one.len(), 1);
        assert!(pool.lend(1).is_empty());
        for _ in 0..20 {
            drop(two.clone());
            assert!(pool.lend(1).is_empty());
        }
        drop(two);
        assert_eq!(pool.lend(2).len(), 2);
        drop(one);
        assert_eq!(pool.lend(3).len(), 3);
        assert!(VhostPool::new(Vec::new()).lend(1).is_empty());
    }
}
