//! The keyboard controller at 0x60 and 0x64, with a PS/2 keyboard if the machine has a display. Without one there is only
//! what resets the machine, and everything else says that nothing is connected.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::{Wish, Wishes};
use crate::bus::Registers;

/// Bytes that may wait for the guest: a real keyboard holds 16.
const WAITING: usize = 64;

const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_SYSTEM: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;

const CONFIG_KEYBOARD_INTERRUPT: u8 = 1 << 0;
const CONFIG_SYSTEM: u8 = 1 << 2;
const CONFIG_KEYBOARD_OFF: u8 = 1 << 4;
const CONFIG_MOUSE_OFF: u8 = 1 << 5;
const CONFIG_TRANSLATE: u8 = 1 << 6;

const ACKNOWLEDGED: u8 = 0xfa;
const RESEND: u8 = 0xfe;

/// What the next byte written to the data port is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Expecting {
    #[default]
    Keyboard,
    Config,
    OutputPort,
    KeyboardBuffer,
    Mouse,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedKeyboard {
    config: u8,
    expecting: Expecting,
    /// The keyboard command that waits for its argument.
    command: u8,
    scanning: bool,
    waiting: VecDeque<u8>,
    last_was_command: bool,
}

impl SavedKeyboard {
    fn at_reset() -> Self {
        Self { config: CONFIG_SYSTEM | CONFIG_TRANSLATE | CONFIG_MOUSE_OFF, scanning: true, ..Self::default() }
    }
}

#[derive(Debug)]
pub struct I8042 {
    wishes: Arc<Wishes>,
    /// None: there is no keyboard.
    interrupt: Option<EventFd>,
    state: SavedKeyboard,
}

impl I8042 {
    /// `interrupt` is that of the keyboard, if there is one.
    pub fn new(wishes: Arc<Wishes>, interrupt: Option<EventFd>) -> Self {
        Self { wishes, interrupt, state: SavedKeyboard::at_reset() }
    }

    pub fn reset(&mut self) {
        self.state = SavedKeyboard::at_reset();
    }

    pub fn save(&self) -> SavedKeyboard {
        self.state.clone()
    }

    pub fn restore(&mut self, saved: SavedKeyboard) {
        self.state = saved;
        self.state.waiting.truncate(WAITING);
        self.interrupt_if_waiting();
    }

    /// A key, as bytes of scan code set 1 (which is what a guest reads with translation on). All of it or nothing.
    pub fn press(&mut self, scancodes: &[u8]) {
        let on = self.state.scanning && self.state.config & CONFIG_KEYBOARD_OFF == 0;
        if on && self.interrupt.is_some() && self.state.waiting.len() + scancodes.len() <= WAITING {
            let was_empty = self.state.waiting.is_empty();
            self.state.waiting.extend(scancodes);
            if was_empty {
                self.interrupt_if_waiting();
            }
        }
    }

    fn interrupt_if_waiting(&self) {
        if let (false, Some(interrupt)) = (self.state.waiting.is_empty(), &self.interrupt)
            && self.state.config & CONFIG_KEYBOARD_INTERRUPT != 0
        {
            let _ = interrupt.write(1);
        }
    }

    fn answer(&mut self, byte: u8) {
        if self.state.waiting.len() < WAITING {
            self.state.waiting.push_back(byte);
            if self.state.waiting.len() == 1 {
                self.interrupt_if_waiting();
            }
        }
    }

    fn read_data(&mut self) -> u8 {
        let byte = self.state.waiting.pop_front().unwrap_or(0);
        self.interrupt_if_waiting();
        byte
    }

    fn status(&self) -> u8 {
        let full = if self.state.waiting.is_empty() { 0 } else { STATUS_OUTPUT_FULL };
        let command = if self.state.last_was_command { STATUS_COMMAND } else { 0 };
        STATUS_UNLOCKED | self.state.config & STATUS_SYSTEM | full | command
    }

    fn command(&mut self, command: u8) {
        self.state.last_was_command = true;
        let keyboard = self.interrupt.is_some();
        match command {
            // Pulses output lines; line 0 is the reset of the processor.
            0xf0..=0xff if command & 1 == 0 => self.wishes.make(Wish::Reset),
            _ if !keyboard => {}
            0x20 => self.answer(self.state.config),
            0x60 => self.state.expecting = Expecting::Config,
            0xa7 => self.state.config |= CONFIG_MOUSE_OFF,
            0xa8 => self.state.config &= !CONFIG_MOUSE_OFF,
            // Test of the second port: there is none, which is "clock line stuck low".
            0xa9 => self.answer(1),
            0xaa => {
                self.state = SavedKeyboard { last_was_command: true, ..SavedKeyboard::at_reset() };
                self.answer(0x55);
            }
            0xab => self.answer(0),
            0xad => self.state.config |= CONFIG_KEYBOARD_OFF,
            0xae => self.state.config &= !CONFIG_KEYBOARD_OFF,
            0xc0 => self.answer(0xb0),
            // A20 open, no reset.
            0xd0 => self.answer(0x03),
            0xd1 => self.state.expecting = Expecting::OutputPort,
            0xd2 => self.state.expecting = Expecting::KeyboardBuffer,
            0xd3 | 0xd4 => self.state.expecting = Expecting::Mouse,
            _ => {}
        }
    }

    fn write_data(&mut self, byte: u8) {
        self.state.last_was_command = false;
        match std::mem::take(&mut self.state.expecting) {
            Expecting::Config => {
                self.state.config = byte;
                self.interrupt_if_waiting();
            }
            Expecting::OutputPort => {
                if byte & 1 == 0 {
                    self.wishes.make(Wish::Reset);
                }
            }
            Expecting::KeyboardBuffer => self.answer(byte),
            // Nobody is there to answer.
            Expecting::Mouse => {}
            Expecting::Keyboard => self.keyboard_command(byte),
        }
    }

    fn keyboard_command(&mut self, byte: u8) {
        if self.interrupt.is_none() {
            return;
        }
        self.state.config &= !CONFIG_KEYBOARD_OFF;
        match std::mem::take(&mut self.state.command) {
            // Lamps, typematic rate: whatever they are. Of the scan code sets there is one.
            0xed | 0xf3 => return self.answer(ACKNOWLEDGED),
            0xf0 => {
                self.answer(ACKNOWLEDGED);
                if byte == 0 {
                    self.answer(2);
                }
                return;
            }
            _ => {}
        }
        match byte {
            0xed | 0xf0 | 0xf3 => {
                self.state.command = byte;
                self.answer(ACKNOWLEDGED);
            }
            0xee => self.answer(0xee),
            0xf2 => {
                self.answer(ACKNOWLEDGED);
                self.answer(0xab);
                self.answer(if self.state.config & CONFIG_TRANSLATE != 0 { 0x41 } else { 0x83 });
            }
            0xf4..=0xf6 => {
                self.state.scanning = byte != 0xf5;
                self.answer(ACKNOWLEDGED);
            }
            0xff => {
                self.state.scanning = true;
                self.answer(ACKNOWLEDGED);
                self.answer(0xaa);
            }
            _ => self.answer(RESEND),
        }
    }
}

/// Offset 0 is port 0x60, offset 4 port 0x64. What lies between is not this device's.
impl Registers for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let [byte, ..] = data {
            match offset {
                0 if self.interrupt.is_some() => *byte = self.read_data(),
                4 if self.interrupt.is_some() => *byte = self.status(),
                // Input buffer empty, nothing to read: whoever waits to reset the machine need not wait.
                4 => *byte = STATUS_UNLOCKED | STATUS_SYSTEM,
                _ => {}
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let [byte, ..] = data {
            match offset {
                0 => self.write_data(*byte),
                4 => self.command(*byte),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::UnboundedReceiver;

    fn controller(keyboard: bool) -> (I8042, EventFd, UnboundedReceiver<Wish>) {
        let (wishes, heard) = Wishes::new();
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let given = keyboard.then(|| interrupt.try_clone().unwrap());
        (I8042::new(Arc::new(wishes), given), interrupt, heard)
    }

    fn read(device: &mut I8042, offset: u64) -> u8 {
        let mut byte = [0];
        device.read(offset, &mut byte);
        byte[0]
    }

    fn drain(device: &mut I8042) -> Vec<u8> {
        let mut bytes = Vec::new();
        while read(device, 4) & STATUS_OUTPUT_FULL != 0 {
            bytes.push(read(device, 0));
        }
        bytes
    }

    #[test]
    fn the_reset_command_works_with_and_without_a_keyboard() {
        for keyboard in [false, true] {
            let (mut device, _, mut heard) = controller(keyboard);
            device.write(4, &[0xfe]);
            assert_eq!(heard.try_recv(), Ok(Wish::Reset));
        }
    }

    #[test]
    fn linux_finds_its_keyboard() {
        let (mut device, _, _) = controller(true);
        device.write(4, &[0xaa]);
        assert_eq!(drain(&mut device), [0x55]);
        device.write(4, &[0x60]);
        device.write(0, &[CONFIG_KEYBOARD_INTERRUPT | CONFIG_TRANSLATE]);
        device.write(4, &[0x20]);
        assert_eq!(drain(&mut device), [CONFIG_KEYBOARD_INTERRUPT | CONFIG_TRANSLATE]);
        device.write(0, &[0xf2]);
        assert_eq!(drain(&mut device), [0xfa, 0xab, 0x41]);
        device.write(0, &[0xff]);
        assert_eq!(drain(&mut device), [0xfa, 0xaa]);
        device.write(0, &[0xed]);
        device.write(0, &[7]);
        assert_eq!(drain(&mut device), [0xfa, 0xfa]);
        device.write(4, &[0xa9]);
        assert_eq!(drain(&mut device), [1]);
    }

    #[test]
    fn keys_interrupt_once_for_each_byte_read() {
        let (mut device, interrupt, _) = controller(true);
        device.write(4, &[0x60]);
        device.write(0, &[CONFIG_KEYBOARD_INTERRUPT | CONFIG_TRANSLATE]);
        device.press(&[0xe0, 0x48]);
        assert_eq!(interrupt.read().unwrap(), 1);
        assert_eq!(read(&mut device, 0), 0xe0);
        assert_eq!(interrupt.read().unwrap(), 1);
        assert_eq!(read(&mut device, 0), 0x48);
        assert!(interrupt.read().is_err());
    }

    #[test]
    fn nobody_reading_fills_nothing() {
        let (mut device, _, _) = controller(true);
        for _ in 0..1000 {
            device.press(&[1, 0x81]);
            device.write(0, &[0xf2]);
        }
        assert!(device.save().waiting.len() <= WAITING);
        for value in 0..=255 {
            for offset in [0, 1, 4] {
                device.write(offset, &[value; 4]);
                device.read(offset, &mut [0; 4]);
            }
        }
        device.restore(device.save());
    }
}
