//! The thread of a device: sleeps in epoll, serves queues, takes orders from the device's owner in between.
//!
//! What must stay true: the engine is touched by its own thread only; an order runs between two events, never inside one;
//! while held (paused) no event is looked at, and none is lost; a worker that was dropped has ended, with everything it had.

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::threads::{self, ThreadKind};
use crate::virtio::device::{ActivateError, Activation, QueueStates};

/// What runs in a worker.
pub trait Engine: Send + 'static {
    /// Take queues and memory, and watch the kicks. Every queue is looked at once, as kicks may have come before.
    fn start(&mut self, activation: Activation, poller: &Poller) -> Result<(), String>;
    /// Forget queues and memory; nothing of the guest is touched afterwards. Also called of an engine that never started.
    fn stop(&mut self, poller: &Poller);
    /// Bring everything accepted to its end and say where the queues are; empty if not started.
    fn hold(&mut self, poller: &Poller) -> QueueStates;
    /// After `hold`: look at every queue once.
    fn go(&mut self, poller: &Poller);
    /// Something watched is ready.
    fn ready(&mut self, token: u64, poller: &Poller);
}

/// What a worker watches. Tokens are the engine's own; [`WAKE`] is taken.
pub struct Poller {
    epoll: Epoll,
    held: Cell<bool>,
}

const WAKE: u64 = u64::MAX;

impl Poller {
    /// The device is paused: an order of the owner may change what will happen, but nothing of the guest.
    pub fn is_held(&self) -> bool {
        self.held.get()
    }

    pub fn watch(&self, fd: &impl AsRawFd, token: u64, events: EventSet) -> io::Result<()> {
        self.epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), EpollEvent::new(events, token))
    }

    pub fn change(&self, fd: &impl AsRawFd, token: u64, events: EventSet) -> io::Result<()> {
        self.epoll.ctl(ControlOperation::Modify, fd.as_raw_fd(), EpollEvent::new(events, token))
    }

    /// Needed before a descriptor is closed that has duplicates elsewhere: epoll watches what is behind it.
    pub fn forget(&self, fd: &impl AsRawFd) {
        // Not being watched is what was wanted.
        let _ = self.epoll.ctl(ControlOperation::Delete, fd.as_raw_fd(), EpollEvent::default());
    }
}

struct Seat<E> {
    engine: E,
    poller: Poller,
}

type Order<E> = Box<dyn FnOnce(&mut Seat<E>) + Send>;

/// The worker has ended: its engine panicked.
#[derive(Debug, thiserror::Error)]
#[error("the thread of the device has ended")]
pub struct Gone;

pub struct Worker<E: Engine> {
    orders: Option<SyncSender<Order<E>>>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    device: &'static str,
}

impl<E: Engine> Worker<E> {
    pub fn new(kind: ThreadKind, device: &'static str, name: &str, engine: E) -> io::Result<Self> {
        let wake = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?);
        let poller = Poller { epoll: Epoll::new()?, held: Cell::new(false) };
        poller.watch(&*wake, WAKE, EventSet::IN)?;
        let (orders, received) = sync_channel(64);
        let seat = Seat { engine, poller };
        let wake_of_thread = Arc::clone(&wake);
        let thread = threads::spawn(kind, name, move || run(seat, &received, &wake_of_thread, device))?;
        Ok(Self { orders: Some(orders), wake, thread: Some(thread), device })
    }

    fn order(&self, order: Order<E>) -> Result<(), Gone> {
        self.orders.as_ref().ok_or(Gone)?.send(order).map_err(|_| Gone)?;
        // The counter would have to stand at its end for this to fail, and then the worker is awake anyway.
        let _ = self.wake.write(1);
        Ok(())
    }

    /// Have `f` run in the worker's thread, and wait for what it says.
    pub fn ask<R: Send + 'static>(&self, f: impl FnOnce(&mut E, &Poller) -> R + Send + 'static) -> Result<R, Gone> {
        self.ask_seat(move |seat| f(&mut seat.engine, &seat.poller))
    }

    /// Have `f` run in the worker's thread, some time soon.
    pub fn tell(&self, f: impl FnOnce(&mut E, &Poller) + Send + 'static) {
        let told = self.order(Box::new(move |seat| f(&mut seat.engine, &seat.poller)));
        if told.is_err() {
            tracing::error!(device = self.device, "the thread of the device has ended");
        }
    }

    fn ask_seat<R: Send + 'static>(&self, f: impl FnOnce(&mut Seat<E>) -> R + Send + 'static) -> Result<R, Gone> {
        let (answer, answered) = sync_channel(1);
        self.order(Box::new(move |seat| {
            let _ = answer.send(f(seat));
        }))?;
        answered.recv().map_err(|_| Gone)
    }

    pub fn activate(&self, activation: Activation) -> Result<(), ActivateError> {
        let started = self.ask_seat(move |seat| {
            seat.engine.stop(&seat.poller);
            seat.poller.held.set(false);
            seat.engine.start(activation, &seat.poller).inspect_err(|_| seat.engine.stop(&seat.poller))
        });
        let failed = |why| ActivateError { device: self.device, why };
        started.map_err(|gone| failed(gone.to_string()))?.map_err(failed)
    }

    pub fn reset(&self) {
        let done = self.ask_seat(|seat| {
            seat.engine.stop(&seat.poller);
            seat.poller.held.set(false);
        });
        if done.is_err() {
            tracing::error!(device = self.device, "the thread of the device has ended");
        }
    }

    pub fn pause(&self) -> QueueStates {
        let held = self.ask_seat(|seat| {
            seat.poller.held.set(true);
            seat.engine.hold(&seat.poller)
        });
        held.unwrap_or_default()
    }

    pub fn resume(&self) {
        let done = self.order(Box::new(|seat| {
            if seat.poller.held.take() {
                seat.engine.go(&seat.poller);
            }
        }));
        if done.is_err() {
            tracing::error!(device = self.device, "the thread of the device has ended");
        }
    }
}

impl<E: Engine> Drop for Worker<E> {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run<E: Engine>(mut seat: Seat<E>, orders: &Receiver<Order<E>>, wake: &EventFd, device: &'static str) {
    let mut events = [EpollEvent::default(); 16];
    loop {
        let mut woken = seat.poller.is_held();
        if woken {
            wait_for(wake);
        } else {
            let count = match seat.poller.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => {
                    tracing::error!(device, %error, "the device cannot wait for its events");
                    return;
                }
            };
            for event in events.iter().take(count) {
                match event.data() {
                    WAKE => woken = true,
                    token => seat.engine.ready(token, &seat.poller),
                }
            }
        }
        if !woken {
            continue;
        }
        let _ = wake.read();
        loop {
            match orders.try_recv() {
                Ok(order) => order(&mut seat),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    seat.engine.stop(&seat.poller);
                    return;
                }
            }
        }
    }
}

fn wait_for(wake: &EventFd) {
    use rustix::event::{PollFd, PollFlags};
    use std::os::fd::BorrowedFd;

    // An interrupted wait only looks at the orders once more.
    let _ = rustix::event::poll(&mut [PollFd::from_borrowed_fd(borrowed(wake), PollFlags::IN)], None);

    #[allow(unsafe_code, reason = "EventFd has no AsFd")]
    fn borrowed(wake: &EventFd) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as the EventFd that is borrowed.
        unsafe { BorrowedFd::borrow_raw(wake.as_raw_fd()) }
    }
}
