//! COM1: a 16550A from vm-superio, with output that costs the guest nothing but the exit.
//!
//! What must stay true: a byte written by the guest is copied into bounded memory and nothing else; whoever carries the
//! bytes away is woken once for many of them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::Registers;

/// What may wait to be carried away. A guest that writes faster loses the newest bytes, as on a real line.
const WAITING_BYTES: usize = 64 * 1024;

/// An interrupt line driven by an eventfd that KVM listens to.
#[derive(Debug)]
pub struct IrqLine(pub EventFd);

impl Trigger for IrqLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// What the guest has written and nobody has carried away yet.
#[derive(Debug, Default)]
pub struct Output {
    waiting: Mutex<Vec<u8>>,
    /// Told when the first byte comes into an empty buffer.
    ready: Notify,
}

impl Output {
    /// Wait until there is something to take. Cancel safe, for one who waits.
    pub async fn written(&self) {
        self.ready.notified().await;
    }

    /// Everything that waits; the next byte wakes again.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.waiting())
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of [`Output`] that the UART writes to.
#[derive(Debug)]
pub struct OutputEnd(Arc<Output>);

impl io::Write for OutputEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.waiting();
        let was_empty = waiting.is_empty();
        let room = WAITING_BYTES.saturating_sub(waiting.len()).min(bytes.len());
        waiting.extend_from_slice(bytes.get(..room).unwrap_or_default());
        drop(waiting);
        if was_empty && room > 0 {
            self.0.ready.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The registers of the UART, for suspend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSerial {
    divisor_low: u8,
    divisor_high: u8,
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    input: Vec<u8>,
}

pub struct SerialPort {
    uart: Serial<IrqLine, NoEvents, OutputEnd>,
    output: Arc<Output>,
    irq: EventFd,
}

impl SerialPort {
    pub fn new(irq: EventFd, output: Arc<Output>) -> io::Result<Self> {
        let line = IrqLine(irq.try_clone()?);
        Ok(Self { uart: Serial::new(line, OutputEnd(Arc::clone(&output))), output, irq })
    }

    /// As many of `bytes` as its FIFO takes now.
    pub fn type_in(&mut self, bytes: &[u8]) -> usize {
        let take = self.uart.fifo_capacity().min(bytes.len());
        self.uart.enqueue_raw_bytes(bytes.get(..take).unwrap_or_default()).unwrap_or(0)
    }

    pub fn reset(&mut self) -> io::Result<()> {
        let line = IrqLine(self.irq.try_clone()?);
        self.uart = Serial::new(line, OutputEnd(Arc::clone(&self.output)));
        Ok(())
    }

    pub fn save(&self) -> SavedSerial {
        let state = self.uart.state();
        SavedSerial {
            divisor_low: state.baud_divisor_low,
            divisor_high: state.baud_divisor_high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            input: state.in_buffer,
        }
    }

    pub fn restore(&mut self, saved: &SavedSerial) -> io::Result<()> {
        let state = SerialState {
            baud_divisor_low: saved.divisor_low,
            baud_divisor_high: saved.divisor_high,
            interrupt_enable: saved.interrupt_enable,
            interrupt_identification: saved.interrupt_identification,
            line_control: saved.line_control,
            line_status: saved.line_status,
            modem_control: saved.modem_control,
            modem_status: saved.modem_status,
            scratch: saved.scratch,
            in_buffer: saved.input.clone(),
        };
        let line = IrqLine(self.irq.try_clone()?);
        let restored = Serial::from_state(&state, line, NoEvents, OutputEnd(Arc::clone(&self.output)));
        self.uart = restored.map_err(|error| io::Error::other(format!("the serial port cannot go on: {error}")))?;
        Ok(())
    }
}

impl Registers for SerialPort {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let (Ok(register), [byte]) = (u8::try_from(offset), data) {
            *byte = self.uart.read(register);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (Ok(register), [byte]) = (u8::try_from(offset), data) {
            // A full eventfd is an interrupt that is pending already.
            let _ = self.uart.write(register, *byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> (SerialPort, Arc<Output>) {
        let output = Arc::new(Output::default());
        let irq = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        (SerialPort::new(irq, Arc::clone(&output)).unwrap(), output)
    }

    fn told(output: &Output) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut written = std::pin::pin!(output.written());
        runtime.block_on(std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::future::Future::poll(written.as_mut(), context).is_ready())
        }))
    }

    #[test]
    fn what_the_guest_writes_waits_bounded_and_wakes_once() {
        let (mut port, output) = port();
        for _ in 0..2 * WAITING_BYTES {
            port.write(0, b"x");
        }
        assert!(told(&output));
        assert_eq!(output.take().len(), WAITING_BYTES);
        port.write(0, b"y");
        assert!(told(&output));
        assert!(!told(&output));
        assert_eq!(output.take(), b"y");
    }

    #[test]
    fn accesses_of_any_size_do_no_harm() {
        let (mut port, _) = port();
        for offset in 0..8 {
            for length in [1, 2, 4, 8] {
                port.write(offset, &[0xff; 8][..length]);
                port.read(offset, &mut [0; 8][..length]);
            }
        }
    }

    #[test]
    fn typed_bytes_are_taken_as_far_as_there_is_room_and_survive_a_suspend() {
        let (mut one, _) = port();
        let taken = one.type_in(&[b'a'; 1000]);
        assert!((1..1000).contains(&taken));
        let (mut other, _) = port();
        other.restore(&one.save()).unwrap();
        assert_eq!(other.save(), one.save());
        let mut byte = [0];
        other.read(0, &mut byte);
        assert_eq!(byte, *b"a");
    }
}
