//! What a tap is asked by its descriptor alone; making and naming it was the supervisor's work.
#![allow(unsafe_code, reason = "the ioctls of tun have no safe wrapper that takes a descriptor")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// `struct virtio_net_hdr_v1`: the header of every packet on both sides.
pub const HEADER: usize = 12;

/// What the tap may hand to the guest unfinished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    pub checksum: bool,
    pub tso4: bool,
    pub tso6: bool,
    pub ecn: bool,
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn interface(tap: &File) -> io::Result<libc::ifreq> {
    // SAFETY: an ifreq of zeroes is a valid one.
    let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
    // SAFETY: TUNGETIFF fills the ifreq it is given.
    checked(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    Ok(request)
}

fn flags(tap: &File) -> io::Result<libc::c_int> {
    // SAFETY: TUNGETIFF fills the flags of the union.
    Ok(libc::c_int::from(unsafe { interface(tap)?.ifr_ifru.ifru_flags }))
}

/// Refuse what is no tap, or one made without packet headers; set the size of these headers.
pub fn prepare(tap: &File) -> io::Result<()> {
    let flags = flags(tap)?;
    let wants = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if flags & wants != wants {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("not a tap with IFF_NO_PI and IFF_VNET_HDR (flags {flags:#x})"),
        ));
    }
    let size = HEADER as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads an int.
    checked(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })?;
    rustix::io::ioctl_fionbio(tap, true)?;
    Ok(())
}

pub fn set_offloads(tap: &File, offloads: Offloads) -> io::Result<()> {
    let bit = |on: bool, flag: libc::c_uint| if on { flag } else { 0 };
    // Segments need checksums; the kernel refuses the one without the other.
    let mut flags = bit(offloads.checksum, libc::TUN_F_CSUM);
    if offloads.checksum {
        flags |= bit(offloads.tso4, libc::TUN_F_TSO4) | bit(offloads.tso6, libc::TUN_F_TSO6);
        if offloads.tso4 || offloads.tso6 {
            flags |= bit(offloads.ecn, libc::TUN_F_TSO_ECN);
        }
    }
    // SAFETY: TUNSETOFFLOAD takes its flags by value.
    checked(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) })
}

/// Whether packets come to this queue of a tap that has several. Without effect on one that is in that state already.
pub fn set_queue(tap: &File, attached: bool) -> io::Result<()> {
    let flags = flags(tap)?;
    if flags & libc::IFF_MULTI_QUEUE == 0 {
        return if attached { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) };
    }
    let detached_now = flags & libc::IFF_DETACH_QUEUE != 0;
    if attached != detached_now {
        return Ok(());
    }
    let flag = if attached { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE };
    // SAFETY: an ifreq of zeroes is a valid one.
    let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flag).unwrap_or(0);
    // SAFETY: TUNSETQUEUE reads the flags of the ifreq it is given.
    checked(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETQUEUE, &raw const request) })
}
