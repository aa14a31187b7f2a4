//! vhost: queues that the kernel serves, by descriptors of `/dev/vhost-net` and `/dev/vhost-vsock` that were passed in.
#![allow(unsafe_code, reason = "the `vhost` crate opens paths itself, so the ioctls it has no trait for are made here")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use ::vhost::vhost_kern::VhostKernBackend;
use ::vhost::vhost_kern::vhost_binding::{
    VHOST_GET_FEATURES, VHOST_NET_SET_BACKEND, VHOST_VSOCK_SET_GUEST_CID, VHOST_VSOCK_SET_RUNNING, vhost_vring_file,
};
use ::vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_queue::QueueT as _;
use vm_memory::{
    Address as _, GuestAddressSpace as _, GuestMemoryBackend as _, GuestMemoryRegion as _, MemoryRegionAddress,
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};

use crate::memory::{GuestRam, SharedRam};
use crate::virtio::device::Interrupt;
use crate::virtio::ring::Ring;

const VSOCK: &str = "/dev/vhost-vsock";

fn failed(what: &str) -> impl FnOnce(::vhost::Error) -> io::Error + '_ {
    move |error| io::Error::other(format!("{what}: {error}"))
}

fn checked(what: &str, result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(error.kind(), format!("{what}: {error}")));
    }
    Ok(())
}

/// What a vhost descriptor offers.
pub fn features(vhost: &File) -> io::Result<u64> {
    let mut features = 0_u64;
    // SAFETY: VHOST_GET_FEATURES writes a u64.
    checked("features", unsafe { ioctl_with_mut_ref(vhost, VHOST_GET_FEATURES(), &mut features) })?;
    Ok(features)
}

/// The guest's end of a vsock, with its number, where this host has them. A guest gets on without.
pub fn open_vsock(cid: u64) -> Option<(File, u64)> {
    let file = File::options().read(true).write(true).open(VSOCK).ok()?;
    match claim_cid(&file, cid) {
        Ok(()) => Some((file, cid)),
        Err(error) => {
            tracing::warn!(%error, cid, "the guest has no vsock");
            None
        }
    }
}

/// Have a descriptor of `/dev/vhost-vsock` be the one of this number. Another that is open has it: `AddrInUse`.
pub fn claim_cid(vhost: &File, cid: u64) -> io::Result<()> {
    // SAFETY: VHOST_VSOCK_SET_GUEST_CID reads a u64.
    checked("context id", unsafe { ioctl_with_ref(vhost, VHOST_VSOCK_SET_GUEST_CID(), &cid) })
}

/// One descriptor of vhost with its owner, features and memory set.
pub struct Vhost {
    file: Arc<File>,
    memory: SharedRam,
}

impl AsRawFd for Vhost {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl VhostKernBackend for Vhost {
    type AS = SharedRam;

    fn mem(&self) -> &Self::AS {
        &self.memory
    }
}

impl Vhost {
    fn new(file: Arc<File>, memory: SharedRam, features: u64) -> io::Result<Self> {
        let vhost = Self { file, memory };
        match vhost.set_owner() {
            Ok(()) => {}
            // We are it, since the last driver's time.
            Err(::vhost::Error::IoctlError(error)) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(failed("owner")(error)),
        }
        let offered = vhost.get_features().map_err(failed("features"))?;
        // What concerns the rings must be understood by who serves them; all else the device itself provides.
        let rings = features & RING_FEATURES;
        if rings & !offered != 0 {
            return Err(io::Error::other(format!("features: {:#x} is missing", rings & !offered)));
        }
        vhost.set_features(features & offered & !NOT_FROM_GUEST).map_err(failed("features"))?;
        let ram = vhost.memory.memory();
        let region = |region: &crate::memory::RamRegion| {
            let host = region.get_host_address(MemoryRegionAddress(0)).map_err(io::Error::other)?;
            Ok::<_, io::Error>(VhostUserMemoryRegionInfo {
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: host as u64,
                mmap_offset: 0,
                mmap_handle: -1,
            })
        };
        let regions = ram.iter().map(region).collect::<io::Result<Vec<_>>>()?;
        vhost.set_mem_table(&regions).map_err(failed("memory"))?;
        Ok(vhost)
    }

    /// Hand a ring over. It does nothing yet.
    fn start_queue(&self, local: usize, ring: &Ring, interrupt: &dyn Interrupt) -> io::Result<VhostQueue> {
        let queue = ring.queue();
        self.set_vring_num(local, queue.size()).map_err(failed("ring size"))?;
        self.set_vring_base(local, queue.next_avail()).map_err(failed("ring base"))?;
        let addresses = VringConfigData {
            queue_max_size: queue.max_size(),
            queue_size: queue.size(),
            flags: 0,
            desc_table_addr: queue.desc_table(),
            used_ring_addr: queue.used_ring(),
            avail_ring_addr: queue.avail_ring(),
            log_addr: None,
        };
        self.set_vring_addr(local, &addresses).map_err(failed("ring addresses"))?;
        let (call, error) = (EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?, EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
        self.set_vring_err(local, &error).map_err(failed("ring error"))?;
        let mut queue = VhostQueue {
            vhost: Arc::clone(&self.file),
            memory: self.memory.clone(),
            local,
            index: ring.index(),
            call,
            error,
        };
        queue.connect(interrupt).map_err(failed("ring call"))?;
        self.set_vring_kick(local, ring.kick()).map_err(failed("ring kick"))?;
        Ok(queue)
    }
}

/// VERSION_1, EVENT_IDX, INDIRECT_DESC, MRG_RXBUF.
const RING_FEATURES: u64 = 1 << 32 | 1 << 29 | 1 << 28 | 1 << 15;
/// VHOST_F_LOG_ALL, VHOST_NET_F_VIRTIO_NET_HDR, ACCESS_PLATFORM: whatever bits a driver sends, these are ours.
const NOT_FROM_GUEST: u64 = 1 << 26 | 1 << 27 | 1 << 33;

/// A ring that vhost serves.
pub struct VhostQueue {
    vhost: Arc<File>,
    memory: SharedRam,
    local: usize,
    index: u16,
    /// Written by vhost where the transport has no eventfd of its own for the queue.
    call: EventFd,
    error: EventFd,
}

impl VhostQueue {
    pub fn index(&self) -> u16 {
        self.index
    }

    pub fn call(&self) -> &EventFd {
        &self.call
    }

    pub fn error(&self) -> &EventFd {
        &self.error
    }

    fn handle(&self) -> Vhost {
        Vhost { file: Arc::clone(&self.vhost), memory: self.memory.clone() }
    }

    fn connect(&mut self, interrupt: &dyn Interrupt) -> Result<(), ::vhost::Error> {
        match interrupt.queue_eventfd(self.index) {
            Some(direct) => self.handle().set_vring_call(self.local, &direct),
            None => self.handle().set_vring_call(self.local, &self.call),
        }
    }

    /// The vector of the queue changed.
    pub fn route(&mut self, interrupt: &dyn Interrupt) {
        if let Err(error) = self.connect(interrupt) {
            tracing::error!(queue = self.index, %error, "vhost does not take the interrupt of a queue");
            return;
        }
        // What was signalled to the old one while it changed may have been lost; a spurious interrupt is allowed.
        interrupt.signal_queue(self.index);
    }

    /// After its backend was taken away: where vhost left the ring.
    pub fn stop(&self, vhost: &Vhost, ring: &mut Ring, ram: &GuestRam) {
        match vhost.get_vring_base(self.local) {
            Ok(base) => ring.moved_on(ram, base as u16),
            Err(error) => tracing::error!(queue = self.index, %error, "vhost does not say where a ring stands"),
        }
    }
}

/// vhost-net: one pair of queues, receive 0 and transmit 1.
pub struct VhostNet(Vhost);

impl std::ops::Deref for VhostNet {
    type Target = Vhost;

    fn deref(&self) -> &Vhost {
        &self.0
    }
}

impl VhostNet {
    pub fn new(file: Arc<File>, memory: SharedRam, features: u64) -> io::Result<Self> {
        Ok(Self(Vhost::new(file, memory, features)?))
    }

    pub fn start_queue(&self, local: usize, ring: &Ring, interrupt: &dyn Interrupt) -> io::Result<VhostQueue> {
        self.0.start_queue(local, ring, interrupt)
    }

    /// Start on a tap, or stop; stopped, nothing of the guest is touched any more.
    pub fn set_backend(&self, tap: Option<&File>) -> io::Result<()> {
        for index in 0..2 {
            let backend = vhost_vring_file { index, fd: tap.map_or(-1, AsRawFd::as_raw_fd) };
            // SAFETY: VHOST_NET_SET_BACKEND reads a vhost_vring_file.
            checked("backend", unsafe { ioctl_with_ref(&self.0, VHOST_NET_SET_BACKEND(), &backend) })?;
        }
        Ok(())
    }
}

/// vhost-vsock: receive 0 and transmit 1; the event queue is not its.
pub struct VhostVsock(Vhost);

impl std::ops::Deref for VhostVsock {
    type Target = Vhost;

    fn deref(&self) -> &Vhost {
        &self.0
    }
}

impl VhostVsock {
    pub fn new(file: Arc<File>, memory: SharedRam, features: u64, cid: u64) -> io::Result<Self> {
        let vsock = Self(Vhost::new(file, memory, features)?);
        claim_cid(&vsock.0.file, cid)?;
        Ok(vsock)
    }

    pub fn start_queue(&self, local: usize, ring: &Ring, interrupt: &dyn Interrupt) -> io::Result<VhostQueue> {
        self.0.start_queue(local, ring, interrupt)
    }

    pub fn set_running(&self, running: bool) -> io::Result<()> {
        let on = libc::c_int::from(running);
        // SAFETY: VHOST_VSOCK_SET_RUNNING reads an int.
        checked("running", unsafe { ioctl_with_ref(&self.0, VHOST_VSOCK_SET_RUNNING(), &on) })
    }
}
