//! The screen and who looks at it: the framebuffer in the guest's address space, and the thread that serves `vnc.sock`.
//!
//! What must stay true: while the guest can reach the framebuffer it is mapped here; a viewer holds up nobody but other
//! viewers.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use kvm_ioctls::VmFd;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::ram;
use crate::display::{Display, Framebuffer, Seat};
use crate::pci::{MemoryBar, slots};
use crate::rfb;
use crate::threads::{self, ThreadKind};
use crate::virtio::input::{Input, InputKind};

const SLOT: u32 = ram::DEVICE_SLOTS + slots::DISPLAY as u32;

/// A display and what is at hand before it. Clones are the same one.
#[derive(Clone)]
pub struct Workplace {
    pub display: Display,
    pub seat: Arc<Seat>,
}

impl Workplace {
    /// With the keyboard and the tablet that the guest gets.
    pub(super) fn new() -> io::Result<(Self, Input, Input)> {
        let (keyboard, tablet) = (Input::new(InputKind::Keyboard)?, Input::new(InputKind::Tablet)?);
        let seat = Arc::new(Seat::new(keyboard.control(), tablet.control()));
        Ok((Self { display: Display::new()?, seat }, keyboard, tablet))
    }
}

/// The framebuffer where BAR 0 of the display is.
pub(super) struct MappedFramebuffer {
    vm: Arc<VmFd>,
    framebuffer: Arc<Framebuffer>,
    mapped: bool,
}

impl MappedFramebuffer {
    pub fn new(vm: Arc<VmFd>, framebuffer: Arc<Framebuffer>) -> Self {
        Self { vm, framebuffer, mapped: false }
    }

    fn unmap(&mut self) {
        if std::mem::take(&mut self.mapped)
            && let Err(error) = ram::take(&self.vm, SLOT)
        {
            tracing::error!(%error, "the framebuffer cannot be taken from the guest");
        }
    }
}

impl MemoryBar for MappedFramebuffer {
    fn moved(&mut self, address: Option<u64>) {
        self.unmap();
        let Some(address) = address else { return };
        match ram::give_framebuffer(&self.vm, SLOT, address, &self.framebuffer) {
            Ok(()) => self.mapped = true,
            // It works all the same, by an exit for each access.
            Err(error) => tracing::error!(%error, "the framebuffer cannot be mapped into the guest"),
        }
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) {
        self.framebuffer.read(offset, data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.framebuffer.write(offset, data);
    }
}

impl Drop for MappedFramebuffer {
    fn drop(&mut self) {
        self.unmap();
    }
}

/// The thread that serves those who look. Dropped, it has ended.
pub struct Viewers {
    over: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Viewers {
    /// Serve RFB on `listener`, which does not block. `name` is the title of the window.
    pub fn start(listener: UnixListener, name: String, workplace: Workplace) -> io::Result<Self> {
        let runtime = OwnRuntime::new()?;
        let (over, told) = oneshot::channel();
        let thread = threads::spawn(ThreadKind::Display, "display", move || {
            let served = runtime.run(serve(listener, name, workplace, told));
            if let Err(error) = served {
                tracing::error!(%error, "vnc.sock is served no more");
            }
        })?;
        Ok(Self { over: Some(over), thread: Some(thread) })
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: UnixListener,
    name: String,
    workplace: Workplace,
    over: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let Workplace { display, seat } = workplace;
    tokio::select! {
        served = rfb::serve(listener, name, Arc::new(display), seat) => served,
        _ = over => Ok(()),
    }
}

/// A runtime that can be dropped anywhere. It is made by whoever starts the thread, because the thread may not make one.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> io::Result<Self> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    fn run(&self, served: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |runtime| runtime.block_on(served))
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    fn viewers(place: &std::path::Path) -> Viewers {
        let (workplace, _keyboard, _tablet) = Workplace::new().unwrap();
        let listener = UnixListener::bind(place).unwrap();
        listener.set_nonblocking(true).unwrap();
        Viewers::start(listener, "test".to_owned(), workplace).unwrap()
    }

    #[test]
    fn whoever_looks_is_greeted_and_let_go_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("vnc.sock");
        let viewers = viewers(&place);
        let mut clients: Vec<_> = (0..3).map(|_| UnixStream::connect(&place).unwrap()).collect();
        for client in &mut clients {
            let mut greeting = [0; 12];
            client.read_exact(&mut greeting).unwrap();
            assert_eq!(&greeting, b"RFB 003.008\n");
        }
        drop(viewers);
        for client in &mut clients {
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn the_thread_is_started_and_ended_by_one_that_runs_tasks() {
        let folder = tempfile::tempdir().unwrap();
        drop(viewers(&folder.path().join("vnc.sock")));
        drop(OwnRuntime::new().unwrap());
    }
}
