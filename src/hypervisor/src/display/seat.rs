//! What a person at the screen types and points, as events of the guest's keyboard and tablet.

use std::sync::{Mutex, PoisonError};

use crate::rfb::{Buttons, Input};
use crate::virtio::input::{
    ABS_X, ABS_Y, BTN_LEFT, BTN_MIDDLE, BTN_RIGHT, EV_ABS, EV_REL, InputControl, InputEvent, REL_HWHEEL, REL_WHEEL,
};

/// Somebody may sit at several clients; the guest has one keyboard and one pointer.
pub struct Seat {
    keyboard: InputControl,
    tablet: InputControl,
    last: Mutex<Option<(u16, u16, Buttons)>>,
}

impl Seat {
    pub fn new(keyboard: InputControl, tablet: InputControl) -> Self {
        Self { keyboard, tablet, last: Mutex::new(None) }
    }
}

impl Input for Seat {
    fn key(&self, code: u16, down: bool) {
        self.keyboard.send(&[InputEvent::key(code, down)]);
    }

    fn pointer(&self, x: u16, y: u16, buttons: Buttons, wheel: i8, sideways: i8) {
        // Sent with the lock held, so that frames arrive in the order in which they were made.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.tablet.send(&frame(*last, (x, y, buttons), wheel, sideways));
        *last = Some((x, y, buttons));
    }
}

/// What changed, in one frame.
fn frame(last: Option<(u16, u16, Buttons)>, now: (u16, u16, Buttons), wheel: i8, sideways: i8) -> Vec<InputEvent> {
    let mut frame = Vec::new();
    let (x, y, buttons) = now;
    let (before_x, before_y, before) = match last {
        Some((x, y, buttons)) => (Some(x), Some(y), buttons),
        None => (None, None, Buttons::default()),
    };
    for (code, before, now) in [(ABS_X, before_x, x), (ABS_Y, before_y, y)] {
        if before != Some(now) {
            frame.push(InputEvent { kind: EV_ABS, code, value: u32::from(now) });
        }
    }
    let pairs = [
        (BTN_LEFT, before.left, buttons.left),
        (BTN_MIDDLE, before.middle, buttons.middle),
        (BTN_RIGHT, before.right, buttons.right),
    ];
    for (code, before, now) in pairs {
        if before != now {
            frame.push(InputEvent::key(code, now));
        }
    }
    for (code, steps) in [(REL_WHEEL, wheel), (REL_HWHEEL, sideways)] {
        if steps != 0 {
            frame.push(InputEvent { kind: EV_REL, code, value: i32::from(steps).cast_unsigned() });
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_only_what_changed() {
        let left = Buttons { left: true, ..Buttons::default() };
        let first = frame(None, (5, 0, Buttons::default()), 0, 0);
        assert_eq!(first.iter().map(|event| (event.code, event.value)).collect::<Vec<_>>(), [(ABS_X, 5), (ABS_Y, 0)]);
        let second = frame(Some((5, 0, Buttons::default())), (5, 9, left), -1, 0);
        let codes: Vec<_> = second.iter().map(|event| (event.kind, event.code, event.value)).collect();
        assert_eq!(codes, [(EV_ABS, ABS_Y, 9), (1, BTN_LEFT, 1), (EV_REL, REL_WHEEL, u32::MAX)]);
        assert!(frame(Some((5, 9, left)), (5, 9, left), 0, 0).is_empty());
    }
}
