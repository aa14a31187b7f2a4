//! A split virtqueue as devices use it (Virtio 1.2, section 2.7): every chain is checked whole before a device sees it.
//!
//! What must stay true: whatever lies in the rings, nothing outside guest RAM is named, no chain is longer than
//! [`MAX_DESCRIPTORS`], and a queue that breaks the rules is not looked at again until reset.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueOwnedT as _, QueueState, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _, GuestMemoryBackend as _, VolatileSlice};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use crate::memory::{GuestRam, SharedRam};
use crate::virtio::device::{Activation, ActiveQueue, Interrupt, QueueStates};
use crate::virtio::worker::Poller;

pub const F_INDIRECT_DESC: u64 = 1 << 28;
pub const F_EVENT_IDX: u64 = 1 << 29;

/// As many as one `readv` takes.
pub const MAX_DESCRIPTORS: usize = 1024;

const AVAIL_F_NO_INTERRUPT: u16 = 1;

/// Pieces of guest memory in the order of the chain, consumed from the front. Pieces of a descriptor that crosses regions
/// are separate.
#[derive(Default)]
pub struct Buffers<'m> {
    slices: Vec<VolatileSlice<'m>>,
    /// Of `slices`, those before are consumed.
    start: usize,
    length: usize,
}

impl<'m> Buffers<'m> {
    /// Bytes in all; at most 4 GiB.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.slices[self.start..]
    }

    fn push(&mut self, slice: VolatileSlice<'m>) {
        if !slice.is_empty() {
            self.length += slice.len();
            self.slices.push(slice);
        }
    }

    /// Consume up to `most` bytes that lie together.
    fn next_piece(&mut self, most: usize) -> Option<VolatileSlice<'m>> {
        let first = self.slices.get_mut(self.start).filter(|_| most > 0)?;
        let piece = if first.len() <= most {
            self.start += 1;
            *first
        } else {
            let (front, back) = first.split_at(most).ok()?;
            *first = back;
            front
        };
        self.length -= piece.len();
        Some(piece)
    }

    /// Consume `count` bytes, or what there is.
    pub fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.next_piece(count) {
            count -= piece.len();
        }
    }

    /// The first `count` bytes, taken off; fewer if there are fewer.
    pub fn take(&mut self, count: usize) -> Self {
        let mut taken = Self::default();
        while let Some(piece) = self.next_piece(count - taken.length) {
            taken.push(piece);
        }
        taken
    }

    /// The last `count` bytes, taken off; None if there are fewer.
    pub fn take_last(&mut self, count: usize) -> Option<Self> {
        if count > self.length {
            return None;
        }
        let mut taken = Self::default();
        while taken.length < count {
            let last = self.slices.pop()?;
            let wanted = count - taken.length;
            let (rest, piece) = last.split_at(last.len().saturating_sub(wanted)).ok()?;
            self.length -= piece.len();
            if !rest.is_empty() {
                self.slices.push(rest);
            }
            taken.length += piece.len();
            taken.slices.insert(0, piece);
        }
        Some(taken)
    }

    /// Copy out into `bytes` and advance; how many bytes there were.
    pub fn read(&mut self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(piece) = self.next_piece(bytes.len() - done) {
            done += piece.copy_to(&mut bytes[done..]);
        }
        done
    }

    /// Copy `bytes` in and advance; how many had room.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while let Some(piece) = self.next_piece(bytes.len() - done) {
            let end = done + piece.len();
            piece.copy_from(&bytes[done..end]);
            done = end;
        }
        done
    }

    /// An array of exactly `N` bytes; None, with something consumed, if there are fewer.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.read(&mut bytes) == N).then_some(bytes)
    }

    /// Fill everything with zeroes.
    pub fn zero(&self) {
        const ZEROES: [u8; 4096] = [0; 4096];
        for slice in self.slices() {
            let mut offset = 0;
            while let Ok(rest) = slice.offset(offset) {
                if rest.is_empty() {
                    break;
                }
                let count = rest.len().min(ZEROES.len());
                rest.copy_from(&ZEROES[..count]);
                offset += count;
            }
        }
    }
}

/// One request: what the device may read, then what it may write.
pub struct Chain<'m> {
    pub head: u16,
    pub readable: Buffers<'m>,
    pub writable: Buffers<'m>,
}

pub struct Ring {
    index: u16,
    queue: Queue,
    kick: EventFd,
    interrupt: Arc<dyn Interrupt>,
    broken: bool,
}

impl Ring {
    pub fn new(active: ActiveQueue, features: u64, interrupt: &Arc<dyn Interrupt>) -> Self {
        let ActiveQueue { index, mut queue, kick } = active;
        queue.set_event_idx(features & F_EVENT_IDX != 0);
        Self { index, queue, kick, interrupt: Arc::clone(interrupt), broken: false }
    }

    pub fn index(&self) -> u16 {
        self.index
    }

    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    pub fn state(&self) -> (u16, QueueState) {
        (self.index, self.queue.state())
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Watch the kick under the queue's own index.
    pub fn watch(&self, poller: &Poller) -> Result<(), String> {
        poller.watch(&self.kick, u64::from(self.index), EventSet::IN).map_err(|error| format!("kick: {error}"))
    }

    pub fn forget(&self, poller: &Poller) {
        poller.forget(&self.kick);
    }

    /// After its token came: one kick is as good as many.
    pub fn kicked(&self) {
        let _ = self.kick.read();
    }

    /// Come back to this queue as if the driver had kicked: there is more than one turn may do.
    pub fn again(&self) {
        let _ = self.kick.write(1);
    }

    /// The driver broke a rule.
    pub fn fail(&mut self, why: &str) {
        if !self.broken {
            self.broken = true;
            self.interrupt.needs_reset(why);
        }
    }

    /// The next request, if there is one. None also of a queue that broke the rules.
    pub fn pop<'m>(&mut self, ram: &'m GuestRam) -> Option<Chain<'m>> {
        if self.broken {
            return None;
        }
        let size = self.queue.size();
        let chain = match self.queue.iter(ram) {
            Ok(mut available) => available.next()?,
            Err(error) => {
                self.fail(&format!("queue {}: {error}", self.index));
                return None;
            }
        };
        let head = chain.head_index();
        match collect(head, size, chain, ram) {
            Ok(chain) => Some(chain),
            Err(why) => {
                self.fail(&format!("queue {}: descriptor chain {head} {why}", self.index));
                None
            }
        }
    }

    /// Give back the last request popped, as if it had not been.
    pub fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Where the next request comes from, to be given to [`Ring::rewind`].
    pub fn position(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Give back every request popped since `position` was asked.
    pub fn rewind(&mut self, position: u16) {
        self.queue.set_next_avail(position);
    }

    /// Somebody else served the ring in between: the next request is number `next_avail`, and what it handed back is in
    /// the used ring.
    pub fn moved_on(&mut self, ram: &GuestRam, next_avail: u16) {
        self.queue.set_next_avail(next_avail);
        match self.queue.used_idx(ram, Ordering::Acquire) {
            Ok(index) => self.queue.set_next_used(index.0),
            Err(error) => self.fail(&format!("queue {}: {error}", self.index)),
        }
    }

    /// Whether a request waits.
    pub fn has_more(&mut self, ram: &GuestRam) -> bool {
        !self.broken
            && self.queue.avail_idx(ram, Ordering::Acquire).is_ok_and(|index| index.0 != self.queue.next_avail())
    }

    /// Hand a request back, `written` bytes of it filled.
    pub fn push(&mut self, ram: &GuestRam, head: u16, written: usize) {
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        if let Err(error) = self.queue.add_used(ram, head, written) {
            self.fail(&format!("queue {}: {error}", self.index));
        }
    }

    /// Interrupt for what was pushed, if the driver wants to know.
    pub fn notify(&mut self, ram: &GuestRam) {
        if self.broken {
            return;
        }
        match self.queue.needs_notification(ram) {
            Ok(false) => {}
            Ok(true) if !self.queue.event_idx_enabled() && self.interrupts_unwanted(ram) => {}
            Ok(true) => self.interrupt.signal_queue(self.index),
            Err(error) => self.fail(&format!("queue {}: {error}", self.index)),
        }
    }

    fn interrupts_unwanted(&self, ram: &GuestRam) -> bool {
        let flags = ram.load::<u16>(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed);
        flags.is_ok_and(|flags| u16::from_le(flags) & AVAIL_F_NO_INTERRUPT != 0)
    }

    /// Ask for no kicks while requests are being taken anyway.
    pub fn quiet(&mut self, ram: &GuestRam) {
        if self.broken {
            return;
        }
        if let Err(error) = self.queue.disable_notification(ram) {
            self.fail(&format!("queue {}: {error}", self.index));
        }
    }

    /// Ask for kicks again; true if there is a request already.
    pub fn rearm(&mut self, ram: &GuestRam) -> bool {
        if self.broken {
            return false;
        }
        self.queue.enable_notification(ram).unwrap_or_else(|error| {
            self.fail(&format!("queue {}: {error}", self.index));
            false
        })
    }
}

/// The queues of a small device, and the memory they lie in.
#[derive(Default)]
pub struct Rings {
    rings: Vec<Ring>,
    memory: Option<SharedRam>,
    pub features: u64,
    interrupt: Option<Arc<dyn Interrupt>>,
}

impl Rings {
    pub fn start(&mut self, activation: Activation, poller: &Poller) -> Result<(), String> {
        let Activation { memory, features, queues, interrupt } = activation;
        self.memory = Some(memory);
        self.features = features;
        for active in queues {
            let ring = Ring::new(active, features, &interrupt);
            ring.watch(poller)?;
            ring.again();
            self.rings.push(ring);
        }
        self.interrupt = Some(interrupt);
        Ok(())
    }

    pub fn stop(&mut self, poller: &Poller) {
        for ring in self.rings.drain(..) {
            ring.forget(poller);
        }
        *self = Self::default();
    }

    pub fn states(&self) -> QueueStates {
        self.rings.iter().map(Ring::state).collect()
    }

    /// Look at every queue once, soon.
    pub fn look_again(&self) {
        for ring in &self.rings {
            ring.again();
        }
    }

    pub fn is_active(&self) -> bool {
        self.memory.is_some()
    }

    pub fn interrupt(&self) -> Option<&Arc<dyn Interrupt>> {
        self.interrupt.as_ref()
    }

    pub fn memory(&self) -> Option<&SharedRam> {
        self.memory.as_ref()
    }

    /// The queue of that index, if the driver set it up.
    pub fn get(&mut self, index: u16) -> Option<(&mut Ring, &SharedRam)> {
        let ring = self.rings.iter_mut().find(|ring| ring.index() == index)?;
        Some((ring, self.memory.as_ref()?))
    }

    /// Take up to `turn` requests of a queue, each answered with as many bytes as `f` says were written; an error
    /// is a rule that the driver broke.
    pub fn serve(
        &mut self,
        index: u16,
        turn: u32,
        mut f: impl FnMut(&GuestRam, &mut Chain<'_>) -> Result<usize, &'static str>,
    ) {
        let Some((ring, memory)) = self.get(index) else { return };
        let guard = memory.memory();
        let ram: &GuestRam = &guard;
        let mut left = turn;
        loop {
            while left > 0 {
                let Some(mut chain) = ring.pop(ram) else { break };
                left -= 1;
                match f(ram, &mut chain) {
                    Ok(written) => ring.push(ram, chain.head, written),
                    Err(why) => ring.fail(why),
                }
            }
            ring.notify(ram);
            if left == 0 {
                ring.again();
                return;
            }
            if !ring.rearm(ram) {
                return;
            }
        }
    }
}

/// The whole chain, or what is wrong with it.
fn collect<'m>(
    head: u16,
    size: u16,
    mut descriptors: virtio_queue::DescriptorChain<&GuestRam>,
    ram: &'m GuestRam,
) -> Result<Chain<'m>, &'static str> {
    if head >= size {
        return Err("starts outside the table");
    }
    let mut chain = Chain { head, readable: Buffers::default(), writable: Buffers::default() };
    let mut writing = false;
    let mut expects_more = true;
    let mut count = 0;
    // The iterator ends early where a table lies outside RAM, is malformed, or loops; the last one seen then has a next.
    for descriptor in &mut descriptors {
        count += 1;
        if count > MAX_DESCRIPTORS {
            return Err("is too long");
        }
        expects_more = descriptor.has_next();
        if descriptor.is_write_only() {
            writing = true;
        } else if writing {
            return Err("has something to read after something to write");
        }
        let buffers = if writing { &mut chain.writable } else { &mut chain.readable };
        for slice in ram.get_slices(descriptor.addr(), descriptor.len() as usize) {
            buffers.push(slice.map_err(|_| "names something outside RAM")?);
        }
    }
    if expects_more {
        return Err("does not end");
    }
    Ok(chain)
}

/// Answer a read of the configuration space from its bytes; past the end are zeroes.
pub fn read_config(config: &[u8], offset: u64, data: &mut [u8]) {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    for (index, byte) in data.iter_mut().enumerate() {
        *byte = offset.checked_add(index).and_then(|at| config.get(at)).copied().unwrap_or(0);
    }
}
