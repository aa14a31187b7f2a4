//! The screen: a bochs-display (PCI 1234:1111), with the framebuffer behind BAR 0 and the mode behind BAR 2. What it shows
//! is a `rfb::Screen`; who sits at it types and points through a [`Seat`].

mod bochs;
mod framebuffer;
mod function;
mod seat;

pub use bochs::{Display, DisplayState, REGISTERS_BYTES};
pub use framebuffer::Framebuffer;
pub use seat::Seat;

/// PCI ids and class (display controller, other) of the device.
pub const PCI_VENDOR: u16 = 0x1234;
pub const PCI_DEVICE: u16 = 0x1111;
pub const PCI_CLASS: u32 = 0x03_80_00;
/// BAR 0: prefetchable memory.
pub const FRAMEBUFFER_BYTES: u64 = 16 << 20;
