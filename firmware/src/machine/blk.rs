//! The root disk: the virtio block device in the lowest slot, modern interface, one queue, polled.

use alloc::{rc::Rc, vec::Vec};
use core::{
    cell::RefCell,
    sync::atomic::{Ordering, fence},
};

use firmware::{Error, Result, disk::Sectors, file::Transfer};

use super::{
    io::Registers,
    memory,
    pci::{self, Function},
};

const MODERN: u32 = 0x1042_1af4;
const TRANSITIONAL: u32 = 0x1001_1af4;

const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 0x40;

const FEATURE_SIZE_MAX: u32 = 1 << 1;
const FEATURE_READ_ONLY: u32 = 1 << 5;
const FEATURE_BLOCK_SIZE: u32 = 1 << 6;
/// Bit 32: the modern interface itself.
const FEATURE_VERSION_1: u32 = 1;

const QUEUE: usize = 128;
/// Requests in flight; each takes three descriptors.
const REQUESTS: usize = 32;
const REQUEST_BYTES: u64 = 4 << 20;

const NEXT: u16 = 1;
const DEVICE_WRITES: u16 = 2;

#[repr(C)]
#[derive(Clone, Copy)]
struct Descriptor {
    address: u64,
    bytes: u32,
    flags: u16,
    next: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
}

/// All that the device reads and writes besides data.
#[repr(C, align(4096))]
struct Shared {
    descriptors: [Descriptor; QUEUE],
    available_flags: u16,
    available_index: u16,
    available: [u16; QUEUE],
    used_event: u16,
    pad: [u16; 1],
    used_flags: u16,
    used_index: u16,
    used: [[u32; 2]; QUEUE],
    available_event: u16,
    headers: [Header; REQUESTS],
    status: [u8; REQUESTS],
}

static mut SHARED: Shared = Shared {
    descriptors: [Descriptor { address: 0, bytes: 0, flags: 0, next: 0 }; QUEUE],
    available_flags: 0,
    available_index: 0,
    available: [0; QUEUE],
    used_event: 0,
    pad: [0],
    used_flags: 0,
    used_index: 0,
    used: [[0; 2]; QUEUE],
    available_event: 0,
    headers: [Header { kind: 0, reserved: 0, sector: 0 }; REQUESTS],
    status: [0; REQUESTS],
};

struct Device {
    function: Function,
    command: u16,
    common: Registers,
    notify: Registers,
    queue_size: u16,
    sent: u16,
    requests: u32,
    size_bytes: u64,
    sector_bytes: u32,
    request_bytes: u64,
    read_only: bool,
}

#[derive(Clone)]
pub struct Blk(Rc<RefCell<Device>>);

#[derive(Clone, Copy)]
struct Request {
    disk: u64,
    memory: u64,
    bytes: u64,
}

/// One of the device's configuration structures, found by its vendor capability.
fn structure(function: Function, kind: u8) -> Option<(Registers, u32)> {
    if function.read(4) >> 16 & 0x10 == 0 {
        return None;
    }
    let mut at = u32::from(function.read_byte(0x34)) & 0xfc;
    // A list within 256 bytes cannot have more; a device in a loop ends here.
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        let head = function.read(at);
        if head as u8 == 9 && (head >> 24) as u8 == kind {
            let bar = function.read(at + 4) & 0xff;
            let (offset, bytes) = (u64::from(function.read(at + 8)), u64::from(function.read(at + 12)));
            let extra = function.read(at + 16);
            if let Ok((_, registers)) = function.registers(bar)
                && let Some(found) = registers.below(offset, bytes)
            {
                return Some((found, extra));
            }
        }
        at = head >> 8 & 0xfc;
    }
    None
}

impl Blk {
    pub fn find() -> Result<Blk> {
        let function = pci::functions()
            .find(|function| matches!(function.read(0), MODERN | TRANSITIONAL))
            .ok_or(Error::Unsupported("a machine without a virtio block device"))?;
        Device::start(function).map(|device| Blk(Rc::new(RefCell::new(device))))
    }

    pub fn sector_bytes(&self) -> u32 {
        self.0.borrow().sector_bytes
    }

    pub fn requests(&self) -> u32 {
        self.0.borrow().requests
    }

    /// Reads everything into its place, as many requests at once as fit; then clears what the file does not have.
    pub fn load(&self, transfers: &[Transfer]) -> Result<()> {
        let mut device = self.0.borrow_mut();
        let limit = device.request_bytes;
        let mut queue: Vec<Request> = Vec::with_capacity(REQUESTS);
        for transfer in transfers {
            let Some(disk) = transfer.disk else { continue };
            let mut done = 0;
            while done < transfer.bytes {
                let bytes = limit.min(transfer.bytes - done);
                queue.push(Request { disk: disk + done, memory: transfer.memory + done, bytes });
                done += bytes;
                if queue.len() == REQUESTS {
                    // SAFETY: places that the plan found free, outside everything of ours.
                    unsafe { device.run(&queue, false)? };
                    queue.clear();
                }
            }
        }
        // SAFETY: as above.
        unsafe { device.run(&queue, false)? };
        for transfer in transfers.iter().filter(|transfer| transfer.disk.is_none()) {
            memory::clear(transfer.memory, transfer.bytes);
        }
        Ok(())
    }

    /// Writes bytes within one range, sector by sector, keeping what surrounds them.
    pub fn write(&self, disk: u64, data: &[u8]) -> Result<()> {
        let mut device = self.0.borrow_mut();
        if device.read_only {
            return Err(Error::Unsupported("a change to grubenv on a read-only disk"));
        }
        let sector = u64::from(device.sector_bytes);
        let start = disk / sector * sector;
        let bytes = (disk - start + data.len() as u64).next_multiple_of(sector);
        let mut buffer = alloc::vec![0u8; bytes as usize];
        let request = Request { disk: start, memory: buffer.as_mut_ptr() as u64, bytes };
        let at = (disk - start) as usize;
        // SAFETY: the buffer is as large as the request and outlives it.
        unsafe { device.run(&[request], false)? };
        buffer[at..at + data.len()].copy_from_slice(data);
        // SAFETY: as above.
        unsafe { device.run(&[request], true) }
    }

    /// Resets the device, as the next driver wants to find it.
    pub fn stop(&self) {
        let device = self.0.borrow_mut();
        device.common.write(0x14, 0u8);
        device.function.set_command(device.command);
    }
}

impl Sectors for Blk {
    fn size_bytes(&self) -> u64 {
        self.0.borrow().size_bytes
    }

    fn sector_bytes(&self) -> u32 {
        self.0.borrow().sector_bytes
    }

    fn read_at(&mut self, offset: u64, to: &mut [u8]) -> Result<()> {
        let mut device = self.0.borrow_mut();
        let request = Request { disk: offset, memory: to.as_mut_ptr() as u64, bytes: to.len() as u64 };
        // SAFETY: `to` is ours alone until this returns, when the device is done with it.
        unsafe { device.run(&[request], false) }
    }
}

impl Device {
    fn start(function: Function) -> Result<Device> {
        let missing = Error::Unsupported("a virtio block device without the modern interface");
        let command = function.command();
        // Memory and bus master.
        function.set_command(command | 6);
        let (common, _) = structure(function, 1).ok_or(missing.clone())?;
        let (notify, multiplier) = structure(function, 2).ok_or(missing.clone())?;
        let (config, _) = structure(function, 4).ok_or(missing)?;
        common.write(0x14, 0u8);
        let mut patience = 1_000_000u32;
        while common.read::<u8>(0x14) != 0 {
            patience -= 1;
            if patience == 0 {
                return Err(Error::Io);
            }
        }
        common.write(0x14, ACKNOWLEDGE | DRIVER);
        common.write(0x00, 0u32);
        let offered: u32 = common.read(0x04);
        common.write(0x00, 1u32);
        if common.read::<u32>(0x04) & FEATURE_VERSION_1 == 0 {
            return Err(Error::Unsupported("a virtio block device of before 1.0"));
        }
        let ours = offered & (FEATURE_SIZE_MAX | FEATURE_READ_ONLY | FEATURE_BLOCK_SIZE);
        common.write(0x08, 0u32);
        common.write(0x0c, ours);
        common.write(0x08, 1u32);
        common.write(0x0c, FEATURE_VERSION_1);
        common.write(0x14, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        if common.read::<u8>(0x14) & FEATURES_OK == 0 {
            return Err(Error::Io);
        }
        common.write(0x16, 0u16);
        let most: u16 = common.read(0x18);
        let queue_size = most.min(QUEUE as u16);
        // Three descriptors a request; split rings have sizes of powers of two.
        if queue_size < 4 || !queue_size.is_power_of_two() {
            return Err(Error::Unsupported("a virtio block device with a queue too short"));
        }
        common.write(0x18, queue_size);
        let shared = &raw mut SHARED;
        // SAFETY: only addresses are taken.
        let (descriptors, available, used) = unsafe {
            (
                &raw const (*shared).descriptors as u64,
                &raw const (*shared).available_flags as u64,
                &raw const (*shared).used_flags as u64,
            )
        };
        // SAFETY: the device does not run yet. 1: no interrupts, we poll.
        unsafe { (&raw mut (*shared).available_flags).write_volatile(1) };
        common.write_halves(0x20, descriptors);
        common.write_halves(0x28, available);
        common.write_halves(0x30, used);
        common.write(0x1c, 1u16);
        let notify_at = u64::from(common.read::<u16>(0x1e)) * u64::from(multiplier);
        let notify = notify.below(notify_at, 2).ok_or(Error::Io)?;
        common.write(0x14, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);

        let sectors = u64::from(config.read::<u32>(0)) | u64::from(config.read::<u32>(4)) << 32;
        let size_bytes = sectors.checked_mul(512).ok_or(Error::Io)?;
        let sector_bytes = if ours & FEATURE_BLOCK_SIZE != 0 { config.read::<u32>(20) } else { 512 };
        let size_max = if ours & FEATURE_SIZE_MAX != 0 { u64::from(config.read::<u32>(8)) } else { REQUEST_BYTES };
        let request_bytes = size_max.min(REQUEST_BYTES) & !4095;
        if request_bytes == 0 || !matches!(sector_bytes, 512 | 1024 | 2048 | 4096) {
            return Err(Error::Unsupported("a virtio block device with odd sizes"));
        }
        let read_only = ours & FEATURE_READ_ONLY != 0;
        Ok(Device {
            function,
            command,
            common,
            notify,
            queue_size,
            sent: 0,
            requests: 0,
            size_bytes,
            sector_bytes,
            request_bytes,
            read_only,
        })
    }

    /// Sends the requests and waits until all are done.
    ///
    /// # Safety
    /// Reading, the memory of every request may be overwritten; writing, it is mapped. It stays valid until this returns.
    unsafe fn run(&mut self, requests: &[Request], write: bool) -> Result<()> {
        let at_once = (usize::from(self.queue_size) / 3).min(REQUESTS);
        for some in requests.chunks(at_once) {
            // Requests above the limit are cut here, so that callers with one buffer need not.
            if let [one] = some
                && one.bytes > self.request_bytes
            {
                let mut done = 0;
                while done < one.bytes {
                    let bytes = self.request_bytes.min(one.bytes - done);
                    // SAFETY: a part of the caller's.
                    unsafe {
                        self.send(&[Request { disk: one.disk + done, memory: one.memory + done, bytes }], write)?
                    };
                    done += bytes;
                }
                continue;
            }
            // SAFETY: the caller's promise.
            unsafe { self.send(some, write)? };
        }
        Ok(())
    }

    /// # Safety
    /// As for `run`; at most as many as fit into the queue, each within the limit.
    unsafe fn send(&mut self, requests: &[Request], write: bool) -> Result<()> {
        let shared = &raw mut SHARED;
        for (index, request) in requests.iter().enumerate() {
            let end = request.disk.checked_add(request.bytes).ok_or(Error::Io)?;
            if end > self.size_bytes || !request.disk.is_multiple_of(u64::from(self.sector_bytes)) {
                return Err(Error::Io);
            }
            let first = 3 * index;
            let slot = self.sent.wrapping_add(index as u16) % self.queue_size;
            let (kind, data_flags) = if write { (1, NEXT) } else { (0, NEXT | DEVICE_WRITES) };
            // SAFETY: indices are within the arrays (REQUESTS and QUEUE bound them), and the device does not look at
            // these descriptors before the index below says so.
            unsafe {
                (&raw mut (*shared).headers[index]).write_volatile(Header {
                    kind,
                    reserved: 0,
                    sector: request.disk / 512,
                });
                (&raw mut (*shared).status[index]).write_volatile(0xff);
                let header = &raw const (*shared).headers[index] as u64;
                let status = &raw const (*shared).status[index] as u64;
                let chain = [
                    Descriptor { address: header, bytes: 16, flags: NEXT, next: first as u16 + 1 },
                    Descriptor {
                        address: request.memory,
                        bytes: request.bytes as u32,
                        flags: data_flags,
                        next: first as u16 + 2,
                    },
                    Descriptor { address: status, bytes: 1, flags: DEVICE_WRITES, next: 0 },
                ];
                for (offset, descriptor) in chain.into_iter().enumerate() {
                    (&raw mut (*shared).descriptors[first + offset]).write_volatile(descriptor);
                }
                (&raw mut (*shared).available[usize::from(slot)]).write_volatile(first as u16);
            }
        }
        if requests.is_empty() {
            return Ok(());
        }
        self.sent = self.sent.wrapping_add(requests.len() as u16);
        self.requests += requests.len() as u32;
        fence(Ordering::SeqCst);
        // SAFETY: publishes the requests; the device reads it after the fence.
        unsafe { (&raw mut (*shared).available_index).write_volatile(self.sent) };
        fence(Ordering::SeqCst);
        self.notify.write(0, 0u16);
        let mut polls = 0u32;
        // SAFETY: written by the device; ours to read at any time.
        while unsafe { (&raw const (*shared).used_index).read_volatile() } != self.sent {
            core::hint::spin_loop();
            polls = polls.wrapping_add(1);
            // Slow storage is waited for, a broken device is not.
            if polls.is_multiple_of(1 << 22) && self.common.read::<u8>(0x14) & NEEDS_RESET != 0 {
                return Err(Error::Io);
            }
        }
        fence(Ordering::SeqCst);
        // SAFETY: the device is done with these.
        let all_well =
            (0..requests.len()).all(|index| unsafe { (&raw const (*shared).status[index]).read_volatile() } == 0);
        if all_well { Ok(()) } else { Err(Error::Io) }
    }
}
