//! INTx lines that several functions share: high as long as one of them asserts it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::interrupts::{Interrupts, Line, MessageRoute};

struct Wire {
    line: Box<dyn Line>,
    asserted: Mutex<u32>,
}

/// [`Interrupts`] whose lines are wired OR. Messages go through as they are.
pub struct SharedLines {
    inner: Arc<dyn Interrupts>,
    wires: Mutex<HashMap<u32, Weak<Wire>>>,
}

impl SharedLines {
    pub fn new(inner: Arc<dyn Interrupts>) -> Self {
        Self { inner, wires: Mutex::new(HashMap::new()) }
    }
}

impl Interrupts for SharedLines {
    fn message_route(&self) -> io::Result<Box<dyn MessageRoute>> {
        self.inner.message_route()
    }

    fn line(&self, gsi: u32) -> io::Result<Box<dyn Line>> {
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        let wire = match wires.get(&gsi).and_then(Weak::upgrade) {
            Some(wire) => wire,
            None => {
                let wire = Arc::new(Wire { line: self.inner.line(gsi)?, asserted: Mutex::new(0) });
                wires.insert(gsi, Arc::downgrade(&wire));
                wire
            }
        };
        Ok(Box::new(Tap { wire, high: Mutex::new(false) }))
    }
}

struct Tap {
    wire: Arc<Wire>,
    high: Mutex<bool>,
}

impl Line for Tap {
    fn set(&self, high: bool) {
        let mut mine = self.high.lock().unwrap_or_else(PoisonError::into_inner);
        if *mine == high {
            return;
        }
        *mine = high;
        let mut asserted = self.wire.asserted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *asserted;
        *asserted = if high { before.saturating_add(1) } else { before.saturating_sub(1) };
        // Under the lock, so that the line ends up as the count says.
        if (before == 0) != (*asserted == 0) {
            self.wire.line.set(high);
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::msix::tests::Recorder;

    #[test]
    fn a_shared_line_is_high_while_one_function_asserts_it() {
        let recorder = Arc::new(Recorder::default());
        let lines = SharedLines::new(recorder.clone());
        let (one, two) = (lines.line(16).unwrap(), lines.line(16).unwrap());
        one.set(true);
        one.set(true);
        two.set(true);
        one.set(false);
        assert!(recorder.level(16));
        // A function that is taken away lets go.
        drop(two);
        assert!(!recorder.level(16));
        assert!(!recorder.level(17));
    }
}
