//! Packets of a network card that no vhost moves: from tap to guest and back.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use vm_memory::GuestAddressSpace as _;

use super::F_MRG_RXBUF;
use super::engine::{MAX_FRAME, NetEngine, Pair};
use crate::memory::GuestRam;
use crate::virtio::ring::{Chain, Ring};
use crate::virtio::scatter;
use crate::virtio::tap::HEADER;

/// Packets of one queue moved before others, and the owner, get their turn.
const TURN: u32 = 128;

impl NetEngine {
    pub(super) fn serve_rx(&mut self, index: usize) {
        let mergeable = self.features & F_MRG_RXBUF != 0;
        let mut trouble = None;
        {
            let Self { pairs, memory: Some(memory), receive, state, shared, .. } = self else { return };
            let Some(Pair { tap, rx: Some(ring), packet, pending, .. }) = pairs.get_mut(index) else { return };
            let own = *shared.mac.lock().unwrap_or_else(PoisonError::into_inner);
            let link_up = shared.link_up.load(Ordering::Acquire);
            let guard = memory.memory();
            let ram: &GuestRam = &guard;
            let mut delivered = false;
            for turn in 0..TURN {
                if ring.is_broken() || receive.waiting {
                    break;
                }
                if *pending == 0 {
                    match rustix::io::read(&*tap, &mut packet[..]) {
                        Ok(count) if count > HEADER => {
                            let frame = &packet[HEADER..count];
                            if link_up && state.filter.lets_in(frame, own) {
                                *pending = count;
                            } else {
                                shared.received_dropped.fetch_add(1, Ordering::Relaxed);
                                continue;
                            }
                        }
                        Ok(_) => continue,
                        Err(rustix::io::Errno::AGAIN) => break,
                        Err(rustix::io::Errno::INTR) => continue,
                        Err(error) => {
                            trouble = Some(io::Error::from(error));
                            break;
                        }
                    }
                }
                if !receive.pass(*pending - HEADER) {
                    break;
                }
                match deliver(ring, ram, &mut packet[..*pending], mergeable) {
                    Delivery::Done => {
                        shared.received_bytes.fetch_add((*pending - HEADER) as u64, Ordering::Relaxed);
                        shared.received_packets.fetch_add(1, Ordering::Relaxed);
                        *pending = 0;
                        delivered = true;
                    }
                    Delivery::TooLarge => {
                        shared.received_dropped.fetch_add(1, Ordering::Relaxed);
                        *pending = 0;
                    }
                    Delivery::NoRoom => {
                        // Said before looking again, so that no kick is missed.
                        let before = ring.position();
                        if !(ring.rearm(ram) && turn + 1 < TURN && room_changed(ring, ram, before, *pending, mergeable))
                        {
                            break;
                        }
                    }
                }
            }
            if delivered {
                ring.notify(ram);
            }
        }
        if let Some(error) = trouble {
            self.pairs[index].failed = true;
            self.log("the tap cannot be read", &error);
        }
    }

    pub(super) fn serve_tx(&mut self, index: usize) {
        let mut trouble = None;
        {
            let Self { pairs, memory: Some(memory), transmit, shared, .. } = self else { return };
            let Some(Pair { tap, tx: Some(ring), tx_full, .. }) = pairs.get_mut(index) else { return };
            if *tx_full || transmit.waiting {
                return;
            }
            let link_up = shared.link_up.load(Ordering::Acquire);
            let guard = memory.memory();
            let ram: &GuestRam = &guard;
            ring.quiet(ram);
            let mut left = TURN;
            loop {
                let mut taken = false;
                while left > 0 {
                    let Some(chain) = ring.pop(ram) else { break };
                    left -= 1;
                    let length = chain.readable.len();
                    if length <= HEADER {
                        ring.fail("a packet without a header or a content");
                        break;
                    }
                    let sent = if length > HEADER + MAX_FRAME || !link_up {
                        Err(io::ErrorKind::InvalidData.into())
                    } else if transmit.pass(length - HEADER) {
                        scatter::write(tap, chain.readable.slices())
                    } else {
                        ring.unpop();
                        break;
                    };
                    match sent {
                        Ok(_) => {
                            shared.transmitted_bytes.fetch_add((length - HEADER) as u64, Ordering::Relaxed);
                            shared.transmitted_packets.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            ring.unpop();
                            *tx_full = true;
                            break;
                        }
                        Err(error) => {
                            shared.transmitted_dropped.fetch_add(1, Ordering::Relaxed);
                            // What the guest made wrong is its own concern, as on a cable.
                            if error.raw_os_error().is_some_and(|code| code != libc::EINVAL) {
                                trouble = Some(error);
                            }
                        }
                    }
                    ring.push(ram, chain.head, 0);
                    taken = true;
                }
                if taken {
                    ring.notify(ram);
                }
                if *tx_full || transmit.waiting {
                    break;
                }
                if left == 0 {
                    ring.again();
                    break;
                }
                if !ring.rearm(ram) {
                    break;
                }
            }
        }
        if let Some(error) = trouble {
            self.log("the tap does not take packets", &error);
        }
    }
}

enum Delivery {
    Done,
    /// The guest has too few buffers now.
    NoRoom,
    /// It will never fit the buffers of this driver.
    TooLarge,
}

/// Put one packet with its header into the receive queue.
fn deliver(ring: &mut Ring, ram: &GuestRam, packet: &mut [u8], mergeable: bool) -> Delivery {
    let start = ring.position();
    let mut chains: Vec<Chain<'_>> = Vec::new();
    let mut room = 0;
    while room < packet.len() {
        let Some(chain) = ring.pop(ram) else {
            // Nothing of a ring that is broken is handed back.
            if !ring.is_broken() {
                ring.rewind(start);
            }
            return Delivery::NoRoom;
        };
        room += chain.writable.len();
        if chains.is_empty() && room < HEADER {
            ring.fail("a receive buffer that is too small for a header");
            return Delivery::NoRoom;
        }
        if chain.writable.is_empty() {
            ring.fail("a receive buffer without room");
            return Delivery::NoRoom;
        }
        chains.push(chain);
        if !mergeable {
            break;
        }
    }
    if room < packet.len() {
        ring.rewind(start);
        return Delivery::TooLarge;
    }
    // As many as a queue has entries at most.
    let count = u16::try_from(chains.len()).unwrap_or(u16::MAX);
    packet[HEADER - 2..HEADER].copy_from_slice(&count.to_le_bytes());
    let mut rest = &*packet;
    for mut chain in chains {
        let written = chain.writable.write(&rest[..rest.len().min(chain.writable.len())]);
        rest = &rest[written..];
        ring.push(ram, chain.head, written);
    }
    Delivery::Done
}

/// After asking for kicks: whether trying again can succeed now where it did not before.
fn room_changed(ring: &mut Ring, ram: &GuestRam, before: u16, length: usize, mergeable: bool) -> bool {
    let mut room = 0;
    while room < length {
        let Some(chain) = ring.pop(ram) else { break };
        room += chain.writable.len();
        if !mergeable {
            room = length;
        }
    }
    if !ring.is_broken() {
        ring.rewind(before);
    }
    room >= length && !ring.is_broken()
}
