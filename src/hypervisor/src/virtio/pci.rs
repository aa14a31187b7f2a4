//! The PCI transport of virtio devices (Virtio 1.2, section 4.1): modern only, MSI-X, and INTx for drivers without.
//!
//! One BAR of 32 KiB holds everything, each structure on a page of its own:
//!
//! | offset | what |
//! | --- | --- |
//! | 0x0000 | common configuration |
//! | 0x1000 | ISR status |
//! | 0x2000 | device configuration |
//! | 0x3000 | notifications: 4 bytes a queue, each an eventfd of KVM while the device runs |
//! | 0x4000 | MSI-X table |
//! | 0x5000 | MSI-X pending bits |
//!
//! What must stay true: firmware, boot loader and kernel drive the device in turn, and each finds it as at power-on after
//! writing status 0, whatever the one before did; what a driver does in the wrong order does nothing or sets
//! DEVICE_NEEDS_RESET, and never reaches the device; the device sees only queues that lie in RAM.

mod attention;
mod saved;

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde::Deserialize as _;
use virtio_queue::{Queue, QueueState};
use vm_memory::{GuestAddress, GuestAddressSpace as _, GuestMemoryBackend as _};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::attention::{Attention, Intx};
use self::saved::Saved;
use super::device::{Activation, ActiveQueue, Interrupt, QueueStates, VirtioDevice};
use crate::interrupts::Interrupts;
use crate::memory::SharedRam;
use crate::pci::config::{COMMAND_INTX_DISABLE, NoRoom};
use crate::pci::msix::{self, Msix};
use crate::pci::{BarKind, Configuration, Identity, IoEvents, PciFunction, RestoreError};

const VENDOR: u16 = 0x1af4;
/// Modern devices are this and their type.
const FIRST_DEVICE: u16 = 0x1040;
const SUBSYSTEM: u16 = 0x1100;

const BAR: u8 = 0;
pub const BAR_BYTES: u64 = 0x8000;
const PAGE: u64 = 0x1000;
const COMMON: u64 = 0x0000;
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const PENDING: u64 = 0x5000;
const NOTIFY_MULTIPLIER: u32 = 4;
/// One vector for each and one for configuration changes must fit into the table.
const MOST_QUEUES: usize = 64;

const CAPABILITY_VENDOR: u8 = 0x09;
const COMMON_BYTES: u32 = 0x3c;

const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;
const STATUS_OF_DRIVER: u8 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;

const F_EVENT_IDX: u64 = 1 << 29;
const F_VERSION_1: u64 = 1 << 32;
/// Access platform, packed rings, SR-IOV, notification data (two kinds) and queue reset: the transport has none of these.
const F_NOT_OURS: u64 = 1 << 33 | 1 << 34 | 1 << 37 | 1 << 38 | 1 << 39 | 1 << 40;

const NO_VECTOR: u16 = 0xffff;
const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

/// A queue as the driver sets it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setup {
    most: u16,
    size: u16,
    enabled: bool,
    descriptors: u64,
    available: u64,
    used: u64,
}

impl Setup {
    fn new(most: u16) -> Self {
        Self { most, size: most, enabled: false, descriptors: 0, available: 0, used: 0 }
    }

    /// Aligned and in RAM (section 2.7).
    fn lies_in(&self, ram: &SharedRam) -> bool {
        let memory = ram.memory();
        let size = usize::from(self.size);
        let parts =
            [(self.descriptors, 16, 16 * size), (self.available, 2, 6 + 2 * size), (self.used, 4, 6 + 8 * size)];
        parts.iter().all(|(at, alignment, bytes)| {
            at.is_multiple_of(*alignment) && memory.check_range(GuestAddress(*at), *bytes)
        })
    }

    fn state(&self, features: u64, next_avail: u16, next_used: u16) -> QueueState {
        QueueState {
            max_size: self.most,
            next_avail,
            next_used,
            event_idx_enabled: features & F_EVENT_IDX != 0,
            size: self.size,
            ready: true,
            desc_table: self.descriptors,
            avail_ring: self.available,
            used_ring: self.used,
        }
    }
}

/// Offsets in configuration space of what has effects.
struct Offsets {
    msix_control: u16,
    /// Of the capability that is a window into the BAR.
    window: u16,
}

pub struct VirtioPci {
    device: Box<dyn VirtioDevice>,
    attention: Arc<Attention>,
    ram: SharedRam,
    events: Arc<dyn IoEvents>,
    configuration: Configuration,
    offsets: Offsets,
    queues: Vec<Setup>,
    kicks: Vec<EventFd>,
    /// Which of the kicks KVM watches, and where.
    watched: Vec<Option<u64>>,
    address: Option<u64>,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    queue_select: u16,
    /// The device has been activated and not been reset.
    active: bool,
    paused: Option<QueueStates>,
    /// Restored: where the queues of the device are that `resume` activates.
    awaiting: Option<Vec<(u16, u16)>>,
}

impl VirtioPci {
    /// `gsi` is the line for INTx ([`crate::pci::intx_gsi`] of the slot), best from [`crate::pci::SharedLines`].
    pub fn new(
        device: Box<dyn VirtioDevice>,
        ram: SharedRam,
        interrupts: Arc<dyn Interrupts>,
        events: Arc<dyn IoEvents>,
        gsi: u32,
    ) -> io::Result<Self> {
        let sizes = device.queue_sizes().to_vec();
        if sizes.len() > MOST_QUEUES || sizes.iter().any(|size| !size.is_power_of_two() || *size > 1 << 15) {
            return Err(io::Error::other(format!("{} has more or other queues than a device can have", device.name())));
        }
        let vectors = sizes.len() as u16 + 1;
        let (configuration, offsets) = configuration(device.device_type(), vectors, gsi)
            .map_err(|error| io::Error::other(format!("{}: {error}", device.name())))?;
        let attention = Attention {
            name: device.name(),
            msix: Msix::new(Arc::clone(&interrupts), vectors),
            queue_vectors: sizes.iter().map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            config_vector: AtomicU16::new(NO_VECTOR),
            status: AtomicU8::new(0),
            generation: AtomicU8::new(0),
            intx: Mutex::new(Intx { line: interrupts.line(gsi)?, isr: 0, disabled: false }),
            complaints: AtomicU32::new(0),
        };
        let kicks: io::Result<Vec<_>> = sizes.iter().map(|_| EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)).collect();
        Ok(Self {
            device,
            attention: Arc::new(attention),
            ram,
            events,
            configuration,
            offsets,
            queues: sizes.iter().map(|most| Setup::new(*most)).collect(),
            kicks: kicks?,
            watched: vec![None; sizes.len()],
            address: None,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            queue_select: 0,
            active: false,
            paused: None,
            awaiting: None,
        })
    }

    fn status(&self) -> u8 {
        self.attention.status.load(Ordering::SeqCst)
    }

    fn offered(&self) -> u64 {
        (self.device.features() | F_VERSION_1) & !F_NOT_OURS
    }

    fn selected(&self) -> Option<(usize, &Setup)> {
        let index = usize::from(self.queue_select);
        self.queues.get(index).map(|queue| (index, queue))
    }

    /// The common configuration as the driver would read it now (section 4.1.4.3).
    fn common(&self) -> [u8; COMMON_BYTES as usize] {
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        let mut registers = [0; COMMON_BYTES as usize];
        let mut put = |at: usize, bytes: &[u8]| registers[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &self.device_feature_select.to_le_bytes());
        put(0x04, &half(self.offered(), self.device_feature_select).to_le_bytes());
        put(0x08, &self.driver_feature_select.to_le_bytes());
        put(0x0c, &half(self.driver_features, self.driver_feature_select).to_le_bytes());
        put(0x10, &self.attention.config_vector.load(Ordering::SeqCst).to_le_bytes());
        put(0x12, &(self.queues.len() as u16).to_le_bytes());
        put(0x14, &[self.status(), self.attention.generation.load(Ordering::SeqCst)]);
        put(0x16, &self.queue_select.to_le_bytes());
        put(0x1a, &NO_VECTOR.to_le_bytes());
        if let Some((index, queue)) = self.selected() {
            put(0x18, &queue.size.to_le_bytes());
            put(0x1a, &self.attention.queue_vectors[index].load(Ordering::SeqCst).to_le_bytes());
            put(0x1c, &u16::from(queue.enabled).to_le_bytes());
            put(0x1e, &(index as u16).to_le_bytes());
            put(0x20, &queue.descriptors.to_le_bytes());
            put(0x28, &queue.available.to_le_bytes());
            put(0x30, &queue.used.to_le_bytes());
            put(0x38, &(index as u16).to_le_bytes());
        }
        registers
    }

    /// A write of anything but one whole field, or half of a 64-bit one, does nothing: drivers must not do it.
    fn write_common(&mut self, offset: u64, data: &[u8]) {
        let mut bytes = [0; 8];
        let Some(place) = bytes.get_mut(..data.len()) else {
            return;
        };
        place.copy_from_slice(data);
        let value = u64::from_le_bytes(bytes);
        match (offset, data.len()) {
            (0x00, 4) => self.device_feature_select = value as u32,
            (0x08, 4) => self.driver_feature_select = value as u32,
            (0x0c, 4) => self.write_features(value as u32),
            (0x10, 2) => {
                let vector = self.known_vector(value as u16);
                self.attention.config_vector.store(vector, Ordering::SeqCst);
            }
            (0x14, 1) => self.write_status(value as u8),
            (0x16, 2) => self.queue_select = value as u16,
            (0x18, 2) => {
                let size = value as u16;
                self.set_up(|queue| {
                    if size.is_power_of_two() && size <= queue.most {
                        queue.size = size;
                    }
                });
            }
            (0x1a, 2) => self.write_queue_vector(value as u16),
            (0x1c, 2) if value == 1 => self.enable_queue(),
            (0x20 | 0x24, 4) | (0x20, 8) => self.set_up(|queue| merge(&mut queue.descriptors, offset, data)),
            (0x28 | 0x2c, 4) | (0x28, 8) => self.set_up(|queue| merge(&mut queue.available, offset, data)),
            (0x30 | 0x34, 4) | (0x30, 8) => self.set_up(|queue| merge(&mut queue.used, offset, data)),
            _ => {}
        }
    }

    fn write_features(&mut self, value: u32) {
        if self.status() & FEATURES_OK != 0 {
            return;
        }
        let value = u64::from(value);
        match self.driver_feature_select {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | value,
            1 => self.driver_features = self.driver_features & 0xffff_ffff | value << 32,
            _ => {}
        }
    }

    /// A vector that there is not reads back as none, which tells the driver (section 4.1.5.1.2.1).
    fn known_vector(&self, vector: u16) -> u16 {
        if vector < self.attention.msix.count() { vector } else { NO_VECTOR }
    }

    fn write_queue_vector(&mut self, vector: u16) {
        let index = self.queue_select;
        if let Some(place) = self.attention.queue_vectors.get(usize::from(index)) {
            let vector = self.known_vector(vector);
            if place.swap(vector, Ordering::SeqCst) != vector && self.active {
                self.device.vector_changed(index);
            }
        }
    }

    /// Change the selected queue, which a driver may do until it has enabled it.
    fn set_up(&mut self, change: impl FnOnce(&mut Setup)) {
        let running = self.status() & DRIVER_OK != 0;
        let index = usize::from(self.queue_select);
        if let Some(queue) = self.queues.get_mut(index).filter(|queue| !queue.enabled && !running) {
            change(queue);
        }
    }

    fn enable_queue(&mut self) {
        let Some((index, queue)) = self.selected().filter(|(_, queue)| !queue.enabled) else {
            return;
        };
        if self.status() & DRIVER_OK != 0 {
            self.attention.complain("a queue is enabled after DRIVER_OK");
        } else if queue.lies_in(&self.ram) {
            self.queues[index].enabled = true;
        } else {
            self.attention.needs_reset("a queue is not in RAM, or not aligned");
        }
    }

    fn write_status(&mut self, value: u8) {
        if value == 0 {
            self.reset_device();
            return;
        }
        let before = self.status();
        // A driver never clears a bit; only a reset does. DEVICE_NEEDS_RESET is the device's own.
        let mut new = value & STATUS_OF_DRIVER & !before;
        if new & FEATURES_OK != 0 {
            let strange = self.driver_features & !self.offered();
            let ready = (before | new) & (ACKNOWLEDGE | DRIVER) == ACKNOWLEDGE | DRIVER;
            if strange != 0 || self.driver_features & F_VERSION_1 == 0 || !ready {
                // The driver reads it back and sees that it is not set (section 3.1.1, step 6).
                new &= !FEATURES_OK;
            }
        }
        if new & DRIVER_OK != 0 && (before | new) & FEATURES_OK == 0 {
            self.attention.complain("DRIVER_OK without FEATURES_OK");
            new &= !DRIVER_OK;
        }
        self.attention.status.fetch_or(new, Ordering::SeqCst);
        if new & DRIVER_OK != 0 && before & (NEEDS_RESET | FAILED) == 0 {
            self.activate(&[]);
        }
    }

    /// Give the enabled queues to the device. `places` are where a restored queue goes on, by queue.
    fn activate(&mut self, places: &[(u16, u16)]) {
        let mut queues = Vec::new();
        for (index, setup) in self.queues.iter().enumerate().filter(|(_, setup)| setup.enabled) {
            let (next_avail, next_used) = places.get(index).copied().unwrap_or_default();
            let state = setup.state(self.driver_features, next_avail, next_used);
            // Looked at when it was enabled; but RAM may have been unplugged since, and a saved state may say anything.
            let queue = if setup.lies_in(&self.ram) { Queue::try_from(state).ok() } else { None };
            let kick = self.kicks[index].try_clone();
            match (queue, kick) {
                (Some(queue), Ok(kick)) => queues.push(ActiveQueue { index: index as u16, queue, kick }),
                (None, _) => return self.attention.needs_reset("a queue is not in RAM"),
                (_, Err(error)) => return self.attention.needs_reset(&format!("no descriptor for a queue: {error}")),
            }
        }
        let activation = Activation {
            memory: self.ram.clone(),
            features: self.driver_features,
            queues,
            interrupt: Arc::clone(&self.attention) as Arc<dyn Interrupt>,
        };
        self.active = true;
        if let Err(error) = self.device.activate(activation) {
            self.active = false;
            self.attention.needs_reset(&error.to_string());
        }
        self.watch_kicks();
    }

    fn watch_kicks(&mut self) {
        let Some(base) = self.address.filter(|_| self.active) else {
            return;
        };
        for (index, setup) in self.queues.iter().enumerate() {
            let address = base + NOTIFY + u64::from(NOTIFY_MULTIPLIER) * index as u64;
            if !setup.enabled || self.watched[index].is_some() {
                continue;
            }
            match self.events.register(&self.kicks[index], address) {
                Ok(()) => self.watched[index] = Some(address),
                // It still works, by exits to this process.
                Err(error) => {
                    self.attention.complain(&format!("kicks of queue {index} at {address:#x} are slow: {error}"));
                }
            }
        }
    }

    fn forget_kicks(&mut self) {
        for (kick, watched) in self.kicks.iter().zip(&mut self.watched) {
            if let Some(address) = watched.take()
                && let Err(error) = self.events.unregister(kick, address)
            {
                tracing::warn!(device = self.attention.name, address, %error, "an eventfd of a queue stays");
            }
        }
    }

    /// Status 0: all that a driver has ever set is gone. Nothing of the PCI function but its MSI-X vectors is touched: a
    /// driver that resets the device keeps its BAR and its MSI-X table.
    fn reset_device(&mut self) {
        self.forget_kicks();
        self.device.reset();
        self.active = false;
        self.paused = None;
        self.awaiting = None;
        for setup in &mut self.queues {
            *setup = Setup::new(setup.most);
        }
        for kick in &self.kicks {
            // A kick of the driver before is not for the next one.
            let _ = kick.read();
        }
        self.device_feature_select = 0;
        self.driver_feature_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
        let attention = &self.attention;
        for vector in attention.queue_vectors.iter().chain([&attention.config_vector]) {
            vector.store(NO_VECTOR, Ordering::SeqCst);
        }
        attention.take_isr();
        attention.status.store(0, Ordering::SeqCst);
    }

    /// Tell the device whose vectors led elsewhere before.
    fn vectors_changed(&mut self, vectors: &[u16]) {
        if !self.active || vectors.is_empty() {
            return;
        }
        for index in 0..self.queues.len() {
            if vectors.contains(&self.attention.queue_vectors[index].load(Ordering::SeqCst)) {
                self.device.vector_changed(index as u16);
            }
        }
    }

    fn kick(&self, offset: u64) {
        let index = (offset / u64::from(NOTIFY_MULTIPLIER)) as usize;
        if self.active && self.queues.get(index).is_some_and(|setup| setup.enabled) {
            let _ = self.kicks[index].write(1);
        }
    }

    /// The window of configuration space into the BAR (section 4.1.4.9), for firmware that cannot reach it: where it
    /// points, if that makes sense.
    fn window(&self) -> Option<(u64, usize)> {
        let at = self.offsets.window;
        let mut bar = [0];
        self.configuration.read(at + 4, &mut bar);
        let offset = u64::from(self.configuration.u32(at + 8));
        let length = self.configuration.u32(at + 12);
        let fits = bar == [BAR] && matches!(length, 1 | 2 | 4) && offset + u64::from(length) <= BAR_BYTES;
        (fits && offset.is_multiple_of(u64::from(length))).then_some((offset, length as usize))
    }

    fn touches_window(&self, offset: u16, length: usize) -> bool {
        let data = usize::from(self.offsets.window) + 16;
        usize::from(offset) < data + 4 && usize::from(offset) + length > data
    }
}

/// Half or all of a 64-bit register. `offset` is that of the access; the register is at a multiple of 8.
fn merge(register: &mut u64, offset: u64, data: &[u8]) {
    let mut bytes = register.to_le_bytes();
    let from = (offset % 8) as usize;
    if let Some(place) = bytes.get_mut(from..from + data.len()) {
        place.copy_from_slice(data);
        *register = u64::from_le_bytes(bytes);
    }
}

fn configuration(device_type: u16, vectors: u16, gsi: u32) -> Result<(Configuration, Offsets), NoRoom> {
    let class = match device_type {
        1 => 0x02_00_00,
        2 => 0x01_00_00,
        3 => 0x07_80_00,
        18 => 0x09_80_00,
        19 => 0x02_80_00,
        _ => 0x00_ff_00,
    };
    let mut space = Configuration::new(Identity {
        vendor: VENDOR,
        device: FIRST_DEVICE + device_type,
        revision: 1,
        class,
        subsystem_vendor: VENDOR,
        subsystem: SUBSYSTEM,
    });
    space.add_bar(BAR, BarKind::Memory32, BAR_BYTES)?;
    space.set_interrupt(gsi as u8);

    let mut body = Vec::new();
    body.extend((vectors - 1).to_le_bytes());
    body.extend((TABLE as u32 | u32::from(BAR)).to_le_bytes());
    body.extend((PENDING as u32 | u32::from(BAR)).to_le_bytes());
    let msix = space.add_capability(msix::CAPABILITY, &body, &msix::CONTROL_WRITABLE.to_le_bytes())?;

    let structure = |kind: u8, offset: u64, bytes: u32, more: Option<u32>| {
        let mut body = vec![if more.is_some() { 20 } else { 16 }, kind, BAR, 0, 0, 0];
        body.extend((offset as u32).to_le_bytes());
        body.extend(bytes.to_le_bytes());
        body.extend(more.iter().flat_map(|more| more.to_le_bytes()));
        body
    };
    space.add_capability(CAPABILITY_VENDOR, &structure(1, COMMON, COMMON_BYTES, None), &[])?;
    space.add_capability(CAPABILITY_VENDOR, &structure(3, ISR, 1, None), &[])?;
    space.add_capability(CAPABILITY_VENDOR, &structure(4, DEVICE, PAGE as u32, None), &[])?;
    let notify = structure(2, NOTIFY, PAGE as u32, Some(NOTIFY_MULTIPLIER));
    space.add_capability(CAPABILITY_VENDOR, &notify, &[])?;
    // Which BAR, where and how long is the driver's to say, and four bytes of data.
    let mut writable = [0xff; 18];
    writable[..2].fill(0);
    writable[3..6].fill(0);
    let window = space.add_capability(CAPABILITY_VENDOR, &structure(5, 0, 0, Some(0)), &writable)?;
    Ok((space, Offsets { msix_control: u16::from(msix) + 2, window: u16::from(window) }))
}

impl PciFunction for VirtioPci {
    fn name(&self) -> &str {
        self.attention.name
    }

    fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    fn configuration_mut(&mut self) -> &mut Configuration {
        &mut self.configuration
    }

    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        if self.touches_window(offset, data.len())
            && let Some((at, length)) = self.window()
        {
            let mut bytes = [0; 4];
            self.bar_read(BAR, at, &mut bytes[..length]);
            self.configuration.put(self.offsets.window + 16, &bytes);
        }
        self.configuration.set_interrupt_status(self.attention.intx_waits());
        self.configuration.read(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.configuration.write(offset, data);
        let changed = self.attention.msix.set_control(self.configuration.u16(self.offsets.msix_control));
        self.vectors_changed(&changed);
        {
            let mut intx = self.attention.intx();
            intx.disabled = self.configuration.command() & COMMAND_INTX_DISABLE != 0;
            self.attention.drive_line(&intx);
        }
        if self.touches_window(offset, data.len())
            && let Some((at, length)) = self.window()
        {
            let mut bytes = [0; 4];
            self.configuration.read(self.offsets.window + 16, &mut bytes);
            self.bar_write(BAR, at, &bytes[..length]);
        }
    }

    fn bar_read(&mut self, _bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let within = offset % PAGE;
        match offset - within {
            COMMON => {
                let registers = self.common();
                for (at, byte) in (within as usize..).zip(data) {
                    *byte = registers.get(at).copied().unwrap_or(0);
                }
            }
            ISR => {
                if let (0, [first, ..]) = (within, data) {
                    *first = self.attention.take_isr();
                }
            }
            DEVICE => self.device.read_config(within, data),
            TABLE => self.attention.msix.table_read(within, data),
            PENDING => self.attention.msix.pending_read(within, data),
            _ => {}
        }
    }

    fn bar_write(&mut self, _bar: u8, offset: u64, data: &[u8]) {
        let within = offset % PAGE;
        match offset - within {
            COMMON => self.write_common(within, data),
            DEVICE => self.device.write_config(within, data),
            NOTIFY => self.kick(within),
            TABLE => {
                let changed = self.attention.msix.table_write(within, data);
                self.vectors_changed(&changed);
            }
            _ => {}
        }
    }

    fn bar_moved(&mut self, bar: u8, address: Option<u64>) {
        if bar == BAR {
            self.forget_kicks();
            self.address = address;
            self.watch_kicks();
        }
    }

    fn reset(&mut self) {
        self.reset_device();
        self.attention.reset();
        self.configuration.reset();
        self.attention.intx().disabled = false;
        self.attention.generation.store(0, Ordering::SeqCst);
    }

    fn pause(&mut self) {
        if self.active && self.paused.is_none() {
            self.paused = Some(self.device.pause());
        }
    }

    fn resume(&mut self) {
        if let Some(places) = self.awaiting.take() {
            self.activate(&places);
        } else if self.paused.take().is_some() {
            self.device.resume();
        } else {
            return;
        }
        // Whatever the driver has made available meanwhile, or before it was saved.
        for (kick, _) in self.kicks.iter().zip(&self.queues).filter(|(_, setup)| self.active && setup.enabled) {
            let _ = kick.write(1);
        }
    }

    fn save(&mut self) -> serde_json::Value {
        self.pause();
        serde_json::to_value(self.saved()).unwrap_or_default()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        let saved = Saved::deserialize(state).map_err(|error| RestoreError::new(self.attention.name, error))?;
        self.take_over(&saved)
    }
}

impl Drop for VirtioPci {
    fn drop(&mut self) {
        self.forget_kicks();
        self.device.reset();
    }
}

#[cfg(test)]
mod tests;
