//! The control queue of a network card: what a driver chooses while it runs.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use vm_memory::GuestAddressSpace as _;

use super::engine::{NetEngine, Pair};
use super::{
    F_CTRL_GUEST_OFFLOADS, F_CTRL_MAC_ADDR, F_CTRL_RX, F_CTRL_RX_EXTRA, F_GUEST_ANNOUNCE, F_MQ, GUEST_OFFLOADS,
};
use crate::memory::GuestRam;
use crate::virtio::ring::{Buffers, Chain};
use crate::virtio::worker::Poller;

const CTRL_RX: u8 = 0;
const CTRL_MAC: u8 = 1;
const CTRL_ANNOUNCE: u8 = 3;
const CTRL_MQ: u8 = 4;
const CTRL_GUEST_OFFLOADS_CLASS: u8 = 5;
const ACK_OK: u8 = 0;
const ACK_ERR: u8 = 1;
/// Longer lists of addresses are not kept; what they would let in is let in then.
const MAX_ADDRESSES: usize = 64;

/// What the driver chose over the control queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NetState {
    /// How many pairs of queues are in use.
    pub(super) pairs: u16,
    /// As feature bits.
    pub(super) offloads: u64,
    pub(super) filter: Filter,
}

impl Default for NetState {
    fn default() -> Self {
        Self { pairs: 1, offloads: 0, filter: Filter::default() }
    }
}

/// Which packets the guest wants. Everything, until it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Filter {
    pub(super) promiscuous: bool,
    pub(super) all_multicast: bool,
    pub(super) all_unicast: bool,
    pub(super) no_multicast: bool,
    pub(super) no_unicast: bool,
    pub(super) no_broadcast: bool,
    pub(super) addresses: Vec<[u8; 6]>,
    /// The driver named more addresses than are kept.
    pub(super) many_unicast: bool,
    pub(super) many_multicast: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            addresses: Vec::new(),
            many_unicast: false,
            many_multicast: false,
        }
    }
}

impl Filter {
    pub(super) fn lets_in(&self, frame: &[u8], own: [u8; 6]) -> bool {
        let Some(&to) = frame.first_chunk::<6>() else { return false };
        if self.promiscuous {
            return true;
        }
        if to == [0xff; 6] {
            return !self.no_broadcast;
        }
        if to[0] & 1 == 1 {
            return !self.no_multicast && (self.all_multicast || self.many_multicast || self.addresses.contains(&to));
        }
        !self.no_unicast && (to == own || self.all_unicast || self.many_unicast || self.addresses.contains(&to))
    }
}

impl NetEngine {
    pub(super) fn serve_control(&mut self, poller: &Poller) {
        let Some(mut ring) = self.control.take() else { return };
        let Some(memory) = self.memory.clone() else { return };
        ring.kicked();
        let guard = memory.memory();
        let ram: &GuestRam = &guard;
        let mut left = 16;
        loop {
            while left > 0 {
                let Some(chain) = ring.pop(ram) else { break };
                left -= 1;
                let Chain { head, mut readable, mut writable } = chain;
                let Some(mut ack) = writable.take_last(1) else {
                    ring.fail("a control command without a place for its answer");
                    break;
                };
                let done = self.command(&mut readable, poller);
                ack.write(&[if done { ACK_OK } else { ACK_ERR }]);
                ring.push(ram, head, 1);
            }
            ring.notify(ram);
            if left == 0 {
                ring.again();
                break;
            }
            if !ring.rearm(ram) {
                break;
            }
        }
        self.control = Some(ring);
    }

    /// Whether the command was done.
    fn command(&mut self, data: &mut Buffers<'_>, poller: &Poller) -> bool {
        let Some([class, command]) = data.array::<2>() else { return false };
        let agreed = |bit| self.features & bit != 0;
        match (class, command) {
            (CTRL_RX, 0..=5) if agreed(F_CTRL_RX) && (command < 2 || agreed(F_CTRL_RX_EXTRA)) => {
                let Some([on @ (0 | 1)]) = data.array::<1>() else { return false };
                let filter = &mut self.state.filter;
                let flag = match command {
                    0 => &mut filter.promiscuous,
                    1 => &mut filter.all_multicast,
                    2 => &mut filter.all_unicast,
                    3 => &mut filter.no_multicast,
                    4 => &mut filter.no_unicast,
                    _ => &mut filter.no_broadcast,
                };
                *flag = on == 1;
                true
            }
            (CTRL_MAC, 0) if agreed(F_CTRL_RX) => {
                let (Some(unicast), Some(multicast)) = (addresses(data), addresses(data)) else { return false };
                let filter = &mut self.state.filter;
                filter.many_unicast = unicast.is_empty_of_many();
                filter.many_multicast = multicast.is_empty_of_many();
                filter.addresses = unicast.kept.into_iter().chain(multicast.kept).collect();
                true
            }
            (CTRL_MAC, 1) if agreed(F_CTRL_MAC_ADDR) => {
                let Some(mac) = data.array::<6>().filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6]) else { return false };
                *self.shared.mac.lock().unwrap_or_else(PoisonError::into_inner) = mac;
                true
            }
            (CTRL_ANNOUNCE, 0) if agreed(F_GUEST_ANNOUNCE) => {
                self.shared.announce.store(false, Ordering::Release);
                true
            }
            (CTRL_MQ, 0) if agreed(F_MQ) => {
                let Some(pairs) = data.array::<2>().map(u16::from_le_bytes) else { return false };
                let set_up = |pair: &Pair| pair.rx.is_some() && pair.tx.is_some();
                let ready = self.pairs.iter().take(usize::from(pairs)).all(set_up);
                if pairs == 0 || usize::from(pairs) > self.pairs.len() || !ready {
                    return false;
                }
                self.state.pairs = pairs;
                self.apply_pairs(poller)
            }
            (CTRL_GUEST_OFFLOADS_CLASS, 0) if agreed(F_CTRL_GUEST_OFFLOADS) => {
                let Some(offloads) = data.array::<8>().map(u64::from_le_bytes) else { return false };
                if offloads & !(self.features & GUEST_OFFLOADS) != 0 {
                    return false;
                }
                self.state.offloads = offloads;
                self.apply_offloads()
            }
            _ => false,
        }
    }
}

/// One list of a MAC table.
struct Addresses {
    kept: Vec<[u8; 6]>,
    named: usize,
}

impl Addresses {
    /// More were named than are kept, so none of them decides.
    fn is_empty_of_many(&self) -> bool {
        self.named > self.kept.len()
    }
}

fn addresses(data: &mut Buffers<'_>) -> Option<Addresses> {
    let named = usize::try_from(u32::from_le_bytes(data.array::<4>()?)).ok()?;
    if named.checked_mul(6)? > data.len() {
        return None;
    }
    if named > MAX_ADDRESSES {
        data.advance(named * 6);
        return Some(Addresses { kept: Vec::new(), named });
    }
    let kept = (0..named).map_while(|_| data.array::<6>()).collect();
    Some(Addresses { kept, named })
}
