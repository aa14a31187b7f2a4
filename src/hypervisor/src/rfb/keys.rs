//! Keys of clients as evdev codes: by position where the client tells it, else by what a US keyboard has printed on them.

/// XT scan code as QEMU's extended key event has it: those with an E0 prefix have bit 7 set.
pub fn from_scancode(scancode: u32) -> Option<u16> {
    let code = u16::try_from(scancode).ok()?;
    Some(match code {
        // evdev took its first codes from these.
        0x01..=0x53 | 0x56..=0x58 => code,
        0x54 | 0xb7 => 99,
        0x59 => 117,
        0x70 => 93,
        0x73 => 89,
        0x79 => 92,
        0x7b => 94,
        0x7d => 124,
        0x7e => 121,
        0x9c => 96,
        0x9d => 97,
        0xa0 => 113,
        0xae => 114,
        0xb0 => 115,
        0xb5 => 98,
        0xb8 => 100,
        0xc6 => 119,
        0xc7 => 102,
        0xc8 => 103,
        0xc9 => 104,
        0xcb => 105,
        0xcd => 106,
        0xcf => 107,
        0xd0 => 108,
        0xd1 => 109,
        0xd2 => 110,
        0xd3 => 111,
        0xdb => 125,
        0xdc => 126,
        0xdd => 127,
        0xde => 116,
        0xdf => 142,
        _ => return None,
    })
}

/// X11 keysym.
pub fn from_keysym(keysym: u32) -> Option<u16> {
    if let Some(character) = u8::try_from(keysym).ok().filter(u8::is_ascii_graphic) {
        return from_character(character);
    }
    Some(match keysym {
        0x20 => 57,
        0xff08 => 14,
        0xff09 | 0xfe20 => 15,
        0xff0d => 28,
        0xff13 => 119,
        0xff14 => 70,
        0xff15 | 0xff61 => 99,
        0xff1b => 1,
        0xff50 => 102,
        0xff51 => 105,
        0xff52 => 103,
        0xff53 => 106,
        0xff54 => 108,
        0xff55 => 104,
        0xff56 => 109,
        0xff57 => 107,
        0xff63 => 110,
        0xff67 => 127,
        0xff6b => 119,
        0xff7f => 69,
        0xff8d => 96,
        // The keypad, with and without its lock: 7 8 9 4 5 6 1 2 3 0 and its point.
        0xff95 | 0xffb7 => 71,
        0xff97 | 0xffb8 => 72,
        0xff9a | 0xffb9 => 73,
        0xff96 | 0xffb4 => 75,
        0xff9d | 0xffb5 => 76,
        0xff98 | 0xffb6 => 77,
        0xff9c | 0xffb1 => 79,
        0xff99 | 0xffb2 => 80,
        0xff9b | 0xffb3 => 81,
        0xff9e | 0xffb0 => 82,
        0xff9f | 0xffac | 0xffae => 83,
        0xffaa => 55,
        0xffab => 78,
        0xffad => 74,
        0xffaf => 98,
        0xffbe..=0xffc7 => (keysym - 0xffbe) as u16 + 59,
        0xffc8 => 87,
        0xffc9 => 88,
        0xffe1 => 42,
        0xffe2 => 54,
        0xffe3 => 29,
        0xffe4 => 97,
        0xffe5 => 58,
        0xffe7 | 0xffe9 => 56,
        0xffe8 | 0xffea | 0xfe03 => 100,
        0xffeb => 125,
        0xffec => 126,
        0xffff => 111,
        _ => return None,
    })
}

fn from_character(character: u8) -> Option<u16> {
    // Rows of the keyboard, each from its first code on, without and with shift.
    const ROWS: [(u16, &[u8], &[u8]); 4] = [
        (2, b"1234567890-=", b"!@#$%^&*()_+"),
        (16, b"qwertyuiop[]", b"QWERTYUIOP{}"),
        (30, b"asdfghjkl;'`", b"ASDFGHJKL:\"~"),
        (43, b"\\zxcvbnm,./", b"|ZXCVBNM<>?"),
    ];
    ROWS.iter().find_map(|(first, plain, shifted)| {
        let at = plain.iter().position(|key| *key == character);
        let at = at.or_else(|| shifted.iter().position(|key| *key == character))?;
        Some(first + at as u16)
    })
}
