//! Greeting and messages of RFB: bytes in, meaning out, and nothing remembered but the greeting's stage.

use std::io;

use super::Mode;
use super::encoding::{PixelFormat, Rect};

/// The longest message that is looked at whole. A clipboard's text is longer and passed over, in pieces of this.
pub const MAX_MESSAGE: usize = 64 << 10;
/// Encodings in one list; clients name some twenty.
const MAX_ENCODINGS: usize = 1024;

const RAW: i32 = 0;
const ZRLE: i32 = 16;

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// What is sent in the form of a rectangle, but is not pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pseudo {
    /// The screen has another size.
    DesktopSize,
    /// The server understands QEMU's extended key events.
    ExtendedKey,
}

impl Pseudo {
    pub fn number(self) -> i32 {
        match self {
            Self::DesktopSize => -223,
            Self::ExtendedKey => -258,
        }
    }
}

/// What a client understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encodings {
    /// Named before raw.
    pub zrle: bool,
    desktop_size: bool,
    extended_key: bool,
}

impl Encodings {
    pub fn has(self, pseudo: Pseudo) -> bool {
        match pseudo {
            Pseudo::DesktopSize => self.desktop_size,
            Pseudo::ExtendedKey => self.extended_key,
        }
    }

    fn new(list: impl Iterator<Item = i32>) -> Self {
        let mut encodings = Self::default();
        let mut raw = false;
        for number in list {
            match number {
                RAW => raw = true,
                ZRLE => encodings.zrle |= !raw,
                _ if number == Pseudo::DesktopSize.number() => encodings.desktop_size = true,
                _ if number == Pseudo::ExtendedKey.number() => encodings.extended_key = true,
                _ => {}
            }
        }
        encodings
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    SetPixelFormat(PixelFormat),
    SetEncodings(Encodings),
    UpdateRequest {
        incremental: bool,
        area: Rect,
    },
    Key {
        keysym: u32,
        scancode: Option<u32>,
        down: bool,
    },
    Pointer {
        mask: u8,
        x: u16,
        y: u16,
    },
    /// Something of no interest.
    Nothing,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The first message of `bytes` and its length; None if there is not all of it yet.
pub fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Message)>> {
    let Some(kind) = bytes.first() else { return Ok(None) };
    let length = match (kind, bytes.get(1)) {
        (0, _) => 20,
        (2, _) if bytes.len() < 4 => return Ok(None),
        (2, _) => {
            let count = usize::from(u16_at(bytes, 2));
            if count > MAX_ENCODINGS {
                return Err(broken("too many encodings"));
            }
            4 + 4 * count
        }
        (3, _) => 10,
        (4, _) => 8,
        (5, _) => 6,
        (6, _) if bytes.len() < 8 => return Ok(None),
        (6, _) => {
            let count = u32_at(bytes, 4) as usize;
            if count > MAX_MESSAGE - 8 {
                return Err(broken("a clipboard that is too large"));
            }
            8 + count
        }
        (255, Some(0)) => 12,
        (255, None) => return Ok(None),
        _ => return Err(broken("a message of unknown kind")),
    };
    let Some(message) = bytes.get(..length) else { return Ok(None) };
    let message = match kind {
        0 => {
            let format =
                PixelFormat::parse(&message[4..20]).ok_or_else(|| broken("a pixel format that cannot be served"))?;
            Message::SetPixelFormat(format)
        }
        2 => {
            let number = |bytes: &[u8; 4]| i32::from_be_bytes(*bytes);
            Message::SetEncodings(Encodings::new(message[4..].as_chunks::<4>().0.iter().map(number)))
        }
        3 => Message::UpdateRequest {
            incremental: message[1] != 0,
            area: Rect {
                x: u16_at(message, 2),
                y: u16_at(message, 4),
                width: u16_at(message, 6),
                height: u16_at(message, 8),
            },
        },
        4 => Message::Key { keysym: u32_at(message, 4), scancode: None, down: message[1] != 0 },
        5 => Message::Pointer { mask: message[1], x: u16_at(message, 2), y: u16_at(message, 4) },
        255 => Message::Key {
            keysym: u32_at(message, 4),
            scancode: Some(u32_at(message, 8)),
            down: u16_at(message, 2) != 0,
        },
        _ => Message::Nothing,
    };
    Ok(Some((length, message)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Version,
    Security,
    Init,
    Done,
}

/// From the first byte to the description of the screen.
pub struct Handshake {
    stage: Stage,
    version: u8,
    name: String,
    mode: Mode,
}

const SECURITY_NONE: u8 = 1;

impl Handshake {
    pub fn new(name: &str, mode: Mode) -> Self {
        Self { stage: Stage::Start, version: 8, name: name.chars().take(255).collect(), mode }
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Take what the client has said: how many bytes, and the answer. Neither, if more has to come first.
    pub fn step(&mut self, bytes: &[u8]) -> io::Result<(usize, Vec<u8>)> {
        let waiting = Ok((0, Vec::new()));
        match self.stage {
            Stage::Start => {
                self.stage = Stage::Version;
                Ok((0, b"RFB 003.008\n".to_vec()))
            }
            Stage::Version => {
                let Some(version) = bytes.get(..12) else { return waiting };
                // Whoever speaks something unknown of 3 speaks 3.3 (RFC 6143, section 7.1.1).
                self.version = match version {
                    b"RFB 003.008\n" => 8,
                    b"RFB 003.007\n" => 7,
                    _ if version.starts_with(b"RFB 003.") => 3,
                    _ => return Err(broken("not a client of RFB 3")),
                };
                if self.version == 3 {
                    self.stage = Stage::Init;
                    return Ok((12, u32::from(SECURITY_NONE).to_be_bytes().to_vec()));
                }
                self.stage = Stage::Security;
                Ok((12, vec![1, SECURITY_NONE]))
            }
            Stage::Security => {
                let Some(choice) = bytes.first() else { return waiting };
                if *choice != SECURITY_NONE {
                    return Err(broken("a security type that was not offered"));
                }
                self.stage = Stage::Init;
                Ok((1, if self.version == 8 { vec![0; 4] } else { Vec::new() }))
            }
            Stage::Init => {
                if bytes.is_empty() {
                    return waiting;
                }
                self.stage = Stage::Done;
                let mut answer = Vec::new();
                answer.extend(self.mode.width.to_be_bytes());
                answer.extend(self.mode.height.to_be_bytes());
                answer.extend(PixelFormat::default().bytes());
                // At most 255 characters.
                answer.extend((self.name.len() as u32).to_be_bytes());
                answer.extend(self.name.as_bytes());
                Ok((1, answer))
            }
            Stage::Done => waiting,
        }
    }
}
