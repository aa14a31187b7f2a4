//! The registers of the Bochs display interface ("dispi"), memory-mapped as QEMU's bochs-display has them.
//!
//! What must stay true: whatever the guest writes, a mode that would show anything beyond the framebuffer is no mode.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{FRAMEBUFFER_BYTES, Framebuffer};
use crate::bus::{Registers, SharedRegisters};
use crate::rfb::{Mode, PixelLayout, Screen};

/// Size of BAR 2.
pub const REGISTERS_BYTES: u64 = 4096;

const DISPI: u64 = 0x500;
const EXTENSION: u64 = 0x600;
const EXTENSION_SIZE: u32 = 8;
const LITTLE_ENDIAN: u32 = 0x1e1e_1e1e;

const ID: usize = 0;
const XRES: usize = 1;
const YRES: usize = 2;
const BPP: usize = 3;
const ENABLE: usize = 4;
const VIRT_WIDTH: usize = 6;
const VIRT_HEIGHT: usize = 7;
const X_OFFSET: usize = 8;
const Y_OFFSET: usize = 9;
const VIDEO_MEMORY_64K: usize = 10;
const COUNT: usize = 11;

const ID_VALUE: u16 = 0xb0c5;
const ENABLED: u16 = 1;
const GET_CAPABILITIES: u16 = 2;
/// What a driver that asks is told it may set.
const MOST: (u16, u16, u16) = (2560, 1600, 32);

const BLANK: Mode = Mode { width: 640, height: 480 };

/// What suspend keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisplayState {
    registers: [u16; COUNT],
}

/// How the framebuffer is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scanout {
    mode: Mode,
    layout: PixelLayout,
    stride: u64,
    offset: u64,
}

impl DisplayState {
    fn scanout(&self) -> Option<Scanout> {
        let register = |index: usize| u64::from(self.registers[index]);
        if self.registers[ENABLE] & ENABLED == 0 {
            return None;
        }
        let layout = match self.registers[BPP] {
            16 => PixelLayout::Rgb565,
            32 => PixelLayout::Xrgb8888,
            _ => return None,
        };
        let (width, height) = (register(XRES), register(YRES));
        if width == 0 || height == 0 {
            return None;
        }
        let pixel = layout.bytes() as u64;
        let stride = width.max(register(VIRT_WIDTH)) * pixel;
        // Sixteen-bit factors: nothing here comes near the end of 64.
        let offset = register(X_OFFSET) * pixel + register(Y_OFFSET) * stride;
        let end = offset + (height - 1) * stride + width * pixel;
        let mode = Mode { width: self.registers[XRES], height: self.registers[YRES] };
        (end <= FRAMEBUFFER_BYTES).then_some(Scanout { mode, layout, stride, offset })
    }

    fn read(&self, index: usize) -> u16 {
        let capabilities = self.registers[ENABLE] & GET_CAPABILITIES != 0;
        match index {
            ID => ID_VALUE,
            XRES if capabilities => MOST.0,
            YRES if capabilities => MOST.1,
            BPP if capabilities => MOST.2,
            VIRT_HEIGHT => {
                let stride = u64::from(self.registers[XRES].max(self.registers[VIRT_WIDTH])).max(1);
                let pixel = u64::from(self.registers[BPP] / 8).max(1);
                u16::try_from(FRAMEBUFFER_BYTES / (stride * pixel)).unwrap_or(u16::MAX)
            }
            VIDEO_MEMORY_64K => (FRAMEBUFFER_BYTES >> 16) as u16,
            _ => self.registers.get(index).copied().unwrap_or(0),
        }
    }

    fn write(&mut self, index: usize, value: u16) {
        if !matches!(index, ID | VIRT_HEIGHT | VIDEO_MEMORY_64K)
            && let Some(register) = self.registers.get_mut(index)
        {
            *register = value;
        }
    }
}

/// The device. Clones are the same one.
#[derive(Clone)]
pub struct Display {
    state: Arc<Mutex<DisplayState>>,
    framebuffer: Arc<Framebuffer>,
}

impl Display {
    pub fn new() -> io::Result<Self> {
        Ok(Self { state: Arc::default(), framebuffer: Arc::new(Framebuffer::new()?) })
    }

    pub fn framebuffer(&self) -> &Arc<Framebuffer> {
        &self.framebuffer
    }

    /// What lies behind BAR 2.
    pub fn registers(&self) -> SharedRegisters {
        Arc::new(Mutex::new(self.clone()))
    }

    fn state(&self) -> MutexGuard<'_, DisplayState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn reset(&self) {
        *self.state() = DisplayState::default();
        self.framebuffer.clear();
    }

    pub fn save(&self) -> DisplayState {
        self.state().clone()
    }

    /// The content of the framebuffer is the machine's to bring back.
    pub fn restore(&self, state: DisplayState) {
        *self.state() = state;
    }
}

impl Registers for Display {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let state = self.state();
        let byte = |at: u64| -> u8 {
            match at {
                0..0x80 => EDID[at as usize],
                DISPI..EXTENSION => {
                    let index = ((at - DISPI) / 2) as usize;
                    state.read(index).to_le_bytes()[(at & 1) as usize]
                }
                0x600..0x604 => EXTENSION_SIZE.to_le_bytes()[(at - EXTENSION) as usize],
                0x604..0x608 => LITTLE_ENDIAN.to_le_bytes()[(at - EXTENSION - 4) as usize],
                _ => 0,
            }
        };
        for (at, place) in data.iter_mut().enumerate() {
            *place = offset.checked_add(at as u64).map_or(0, byte);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut state = self.state();
        let mut at = offset;
        let mut rest = data;
        while let [first, ..] = rest {
            let whole = at.is_multiple_of(2) && rest.len() >= 2;
            let taken = if whole { 2 } else { 1 };
            if (DISPI..EXTENSION).contains(&at) {
                let index = ((at - DISPI) / 2) as usize;
                let mut value = state.registers.get(index).copied().unwrap_or(0).to_le_bytes();
                if whole {
                    value = [rest[0], rest[1]];
                } else {
                    value[(at & 1) as usize] = *first;
                }
                state.write(index, u16::from_le_bytes(value));
            }
            let Some(next) = at.checked_add(taken as u64) else { return };
            at = next;
            rest = &rest[taken..];
        }
    }
}

impl Screen for Display {
    fn mode(&self) -> Mode {
        self.state().scanout().map_or(BLANK, |scanout| scanout.mode)
    }

    fn read(&self, mode: Mode, pixels: &mut Vec<u32>) {
        let scanout = self.state().scanout();
        let (width, height) = (usize::from(mode.width), usize::from(mode.height));
        pixels.clear();
        pixels.resize(width * height, 0);
        // The mode may have changed since it was asked for: then the next look shows the new one.
        let Some(scanout) = scanout.filter(|scanout| scanout.mode == mode) else { return };
        let mut row = vec![0; width * scanout.layout.bytes()];
        for (y, line) in pixels.chunks_exact_mut(width).enumerate() {
            self.framebuffer.read(scanout.offset + y as u64 * scanout.stride, &mut row);
            scanout.layout.decode(&row, line);
        }
    }
}

/// One monitor of 1024x768 (VESA E-EDID 1.4), so that drivers choose what firmware chose.
const EDID: [u8; 128] = edid();

const fn edid() -> [u8; 128] {
    const HEAD: [u8; 54] = [
        0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, // a fixed beginning
        0x4d, 0xec, 0x01, 0x00, 0x01, 0x00, 0x00, 0x00, // "SOL", product 1, serial 1
        0x00, 0x24, 0x01, 0x04, // 2026, EDID 1.4
        0xa5, 0x20, 0x18, 0x78, 0x06, // digital, 8 bits, 32x24 cm, gamma 2.2, preferred timing is native
        0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54, // sRGB
        0x21, 0x08, 0x00, // 640x480, 800x600, 1024x768 at 60 Hz
        0x81, 0xc0, 0x81, 0x00, 0xd1, 0xc0, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
    ];
    // 1024x768 at 60 Hz: 65 MHz, blanking 320 and 38.
    const TIMING: [u8; 18] =
        [0x64, 0x19, 0x00, 0x40, 0x41, 0x00, 0x26, 0x30, 0x18, 0x88, 0x36, 0x00, 0x40, 0xf0, 0x10, 0x00, 0x00, 0x18];
    const NAME: [u8; 18] = *b"\0\0\0\xfc\0Solostack\n   ";
    let mut block = [0; 128];
    let mut at = 0;
    while at < HEAD.len() {
        block[at] = HEAD[at];
        at += 1;
    }
    let mut at = 0;
    while at < TIMING.len() {
        block[54 + at] = TIMING[at];
        block[72 + at] = NAME[at];
        at += 1;
    }
    // Two descriptors of nothing.
    block[93] = 0x10;
    block[111] = 0x10;
    let mut sum = 0_u8;
    let mut at = 0;
    while at < 127 {
        sum = sum.wrapping_add(block[at]);
        at += 1;
    }
    block[127] = 0_u8.wrapping_sub(sum);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(display: &mut Display, index: u64, value: u16) {
        display.write(DISPI + 2 * index, &value.to_le_bytes());
    }

    fn get(display: &mut Display, index: u64) -> u16 {
        let mut value = [0; 2];
        Registers::read(display, DISPI + 2 * index, &mut value);
        u16::from_le_bytes(value)
    }

    fn mode(display: &mut Display, width: u16, height: u16, bits: u16) {
        for (index, value) in [(4, 0), (1, width), (2, height), (3, bits), (4, 0x41)] {
            set(display, index, value);
        }
    }

    #[test]
    fn a_driver_finds_the_interface_its_memory_and_a_monitor() {
        let mut display = Display::new().unwrap();
        assert_eq!(get(&mut display, 0), 0xb0c5);
        assert_eq!(get(&mut display, 10), 256);
        set(&mut display, 4, 2);
        assert_eq!((get(&mut display, 1), get(&mut display, 2), get(&mut display, 3)), (2560, 1600, 32));
        let mut edid = [0; 128];
        Registers::read(&mut display, 0, &mut edid);
        assert_eq!(edid[..8], [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
        assert_eq!(edid.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        let mut extension = [0; 8];
        Registers::read(&mut display, 0x600, &mut extension);
        assert_eq!(extension, [8, 0, 0, 0, 0x1e, 0x1e, 0x1e, 0x1e]);
    }

    #[test]
    fn what_the_guest_draws_is_seen_in_both_depths() {
        let mut display = Display::new().unwrap();
        let mut pixels = Vec::new();
        assert_eq!(display.mode(), BLANK);
        mode(&mut display, 64, 32, 32);
        let size = display.mode();
        assert_eq!(size, Mode { width: 64, height: 32 });
        display.framebuffer().write(64 * 4 * 2 + 4, &[0x33, 0x22, 0x11, 0xff]);
        Screen::read(&display, size, &mut pixels);
        assert_eq!((pixels.len(), pixels[64 * 2 + 1], pixels[0]), (64 * 32, 0x0011_2233, 0));
        // Scrolled by two lines and one column.
        set(&mut display, 8, 1);
        set(&mut display, 9, 2);
        Screen::read(&display, size, &mut pixels);
        assert_eq!(pixels[0], 0x0011_2233);
        mode(&mut display, 64, 32, 16);
        set(&mut display, 8, 0);
        set(&mut display, 9, 0);
        display.framebuffer().write(0, &0xf81f_u16.to_le_bytes());
        Screen::read(&display, size, &mut pixels);
        assert_eq!(pixels[0], 0x00ff_00ff);
        display.reset();
        assert_eq!(display.mode(), BLANK);
        Screen::read(&display, BLANK, &mut pixels);
        assert!(pixels.iter().all(|pixel| *pixel == 0));
    }

    #[test]
    fn a_mode_beyond_the_framebuffer_is_no_mode() {
        let mut display = Display::new().unwrap();
        for (width, height, bits) in
            [(65535, 65535, 32), (4096, 1025, 32), (0, 5, 32), (5, 0, 32), (64, 64, 24), (64, 64, 0)]
        {
            mode(&mut display, width, height, bits);
            assert_eq!(display.mode(), BLANK, "{width}x{height}x{bits}");
        }
        mode(&mut display, 4096, 1024, 32);
        assert_eq!(display.mode(), Mode { width: 4096, height: 1024 });
        set(&mut display, 9, 1);
        assert_eq!(display.mode(), BLANK);
    }

    #[test]
    fn any_access_of_any_length_is_harmless() {
        let mut display = Display::new().unwrap();
        let mut number = 1_u64;
        for offset in (0..REGISTERS_BYTES).chain([u64::MAX, u64::MAX - 1]) {
            for length in 1..=8 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let mut data = number.to_le_bytes();
                display.write(offset, &data[..length]);
                Registers::read(&mut display, offset, &mut data[..length]);
                let mut pixels = Vec::new();
                if offset % 97 == 0 {
                    Screen::read(&display, display.mode(), &mut pixels);
                }
            }
        }
        assert_eq!(get(&mut display, 0), 0xb0c5);
    }

    #[test]
    fn what_is_saved_is_restored() {
        let mut display = Display::new().unwrap();
        mode(&mut display, 800, 600, 32);
        let saved = serde_json::to_string(&display.save()).unwrap();
        let second = Display::new().unwrap();
        second.restore(serde_json::from_str(&saved).unwrap());
        assert_eq!(second.mode(), Mode { width: 800, height: 600 });
    }
}
