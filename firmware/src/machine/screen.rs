//! The graphical console: bochs-display (or QEMU's standard VGA, which has the same registers) set to 1024x768.

use firmware::linux::Screen;

use super::pci;

const DISPLAY: u32 = 0x1111_1234;
/// The dispi registers in BAR 2.
const DISPI: u64 = 0x500;
const WIDTH: u16 = 1024;
const HEIGHT: u16 = 768;

pub fn set_up() -> Option<Screen> {
    let display = pci::functions().find(|function| function.read(0) == DISPLAY)?;
    let (base, _) = display.registers(0).ok()?;
    let (_, registers) = display.registers(2).ok()?;
    let dispi = |index: u64| DISPI + 2 * index;
    let id: u16 = registers.read(dispi(0));
    if id & 0xfff0 != 0xb0c0 {
        return None;
    }
    // Off; width, height, depth; virtual size and offset; on, linear, cleared.
    for (index, value) in [(4, 0), (1, WIDTH), (2, HEIGHT), (3, 32), (6, WIDTH), (7, HEIGHT), (8, 0), (9, 0), (4, 0x41)]
    {
        registers.write(dispi(index), value);
    }
    let accepted: u16 = registers.read(dispi(1));
    (accepted == WIDTH).then_some(Screen { base, width: WIDTH, height: HEIGHT })
}
