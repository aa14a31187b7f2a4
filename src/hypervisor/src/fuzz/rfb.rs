//! A client of the screen.

use std::sync::Mutex;

use super::source::Source;
use crate::rfb::{Buttons, Input, Mode, Screen, hear_all};

struct Picture(Mutex<Mode>);

impl Screen for Picture {
    /// Changes each time it is asked, among a few.
    fn mode(&self) -> Mode {
        let mut mode = self.0.lock().unwrap();
        *mode = match mode.width {
            160 => Mode { width: 1, height: 1 },
            1 => Mode { width: 65, height: 130 },
            _ => Mode { width: 160, height: 100 },
        };
        *mode
    }

    fn read(&self, mode: Mode, pixels: &mut Vec<u32>) {
        let all = u32::from(mode.width) * u32::from(mode.height);
        pixels.clear();
        // Some tiles of one colour, some of few, some of many.
        pixels.extend((0..all).map(|at| if at / 4096 % 2 == 0 { at / 64 } else { at.wrapping_mul(0x9e37_79b1) >> 8 }));
    }
}

#[derive(Default)]
struct Seat(Mutex<Vec<u16>>);

impl Input for Seat {
    fn key(&self, code: u16, down: bool) {
        let mut held = self.0.lock().unwrap();
        match held.iter().position(|held| *held == code) {
            Some(at) => {
                assert!(!down, "a key that is down went down");
                held.swap_remove(at);
            }
            None => {
                assert!(down, "a key that is up went up");
                held.push(code);
            }
        }
    }

    fn pointer(&self, x: u16, y: u16, _buttons: Buttons, wheel: i8, sideways: i8) {
        assert!(x <= 0x7fff && y <= 0x7fff && wheel.abs() <= 1 && sideways.abs() <= 1);
    }
}

/// Everything that a client says, from its first byte on.
pub fn rfb_client(data: &[u8]) {
    let mut source = Source::new(data);
    // Mostly one that has been greeted.
    let greeted = source.u8() != 0;
    let mut said = if greeted { b"RFB 003.008\n\x01\x01".to_vec() } else { Vec::new() };
    said.extend(source.bytes(2048));
    let (picture, seat) = (Picture(Mutex::new(Mode { width: 160, height: 100 })), Seat::default());
    let _ = hear_all(&said, "a screen", &picture, &seat);
    assert!(seat.0.lock().unwrap().is_empty(), "a key stays down after its client has gone");
}
