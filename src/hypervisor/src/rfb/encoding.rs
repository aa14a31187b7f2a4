//! Pixels as a client wants them: raw, or ZRLE (RFC 6143, section 7.7.6), in its own pixel format.

use flate2::{Compress, Compression, FlushCompress, Status};

use super::Mode;
use super::protocol::{Encodings, Pseudo};

/// Side of a tile of ZRLE, and of what is compared.
pub const TILE: u16 = 64;
/// Above this a palette saves nothing.
const MAX_PALETTE: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    pub x: u16,
    pub y: u16,
    pub width: u16,
    pub height: u16,
}

impl Rect {
    /// What of it lies on a screen.
    pub fn clip(self, mode: Mode) -> Self {
        let (x, y) = (self.x.min(mode.width), self.y.min(mode.height));
        Self { x, y, width: self.width.min(mode.width - x), height: self.height.min(mode.height - y) }
    }

    /// The smallest one that holds both.
    pub fn join(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = self.x.saturating_add(self.width).max(other.x.saturating_add(other.width));
        let bottom = self.y.saturating_add(self.height).max(other.y.saturating_add(other.height));
        Self { x, y, width: right - x, height: bottom - y }
    }

    pub fn covers(self, mode: Mode) -> bool {
        self == Self { x: 0, y: 0, width: mode.width, height: mode.height }
    }
}

/// A true-colour pixel of 8, 16 or 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelFormat {
    bits: u8,
    depth: u8,
    big_endian: bool,
    /// Largest value and place of red, green and blue.
    channels: [(u16, u8); 3],
}

impl Default for PixelFormat {
    /// What needs no conversion.
    fn default() -> Self {
        Self { bits: 32, depth: 24, big_endian: false, channels: [(255, 16), (255, 8), (255, 0)] }
    }
}

impl PixelFormat {
    /// The 16 bytes of the protocol; None for colour maps and what makes no sense.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [bits, depth, big_endian, true_colour, rest @ ..] = bytes else { return None };
        let [red_high, red_low, green_high, green_low, blue_high, blue_low, red, green, blue, ..] = *rest else {
            return None;
        };
        let channel = |high, low, shift| (u16::from_be_bytes([high, low]), shift);
        let channels = [
            channel(red_high, red_low, red),
            channel(green_high, green_low, green),
            channel(blue_high, blue_low, blue),
        ];
        // Each channel is a run of ones that fits the pixel.
        let fits = |(most, shift): &(u16, u8)| {
            *most > 0
                && (u32::from(*most) + 1).is_power_of_two()
                && u32::from(*shift) + (u32::from(*most) + 1).ilog2() <= u32::from(*bits)
        };
        let sane = *true_colour != 0 && matches!(bits, 8 | 16 | 32) && channels.iter().all(fits);
        sane.then_some(Self { bits: *bits, depth: *depth, big_endian: *big_endian != 0, channels })
    }

    pub fn bytes(&self) -> [u8; 16] {
        let [(red, red_shift), (green, green_shift), (blue, blue_shift)] = self.channels;
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[self.bits, self.depth, u8::from(self.big_endian), 1]);
        bytes[4..6].copy_from_slice(&red.to_be_bytes());
        bytes[6..8].copy_from_slice(&green.to_be_bytes());
        bytes[8..10].copy_from_slice(&blue.to_be_bytes());
        bytes[10..13].copy_from_slice(&[red_shift, green_shift, blue_shift]);
        bytes
    }

    /// 0x00RRGGBB in this format, as a number.
    fn convert(&self, pixel: u32) -> u32 {
        let [_, red, green, blue] = pixel.to_be_bytes();
        let mut value = 0;
        for (component, (most, shift)) in [red, green, blue].into_iter().zip(self.channels) {
            value |= ((u32::from(component) * u32::from(most) + 127) / 255) << shift;
        }
        value
    }

    fn put(&self, out: &mut Vec<u8>, pixel: u32) {
        let value = if *self == Self::default() { pixel } else { self.convert(pixel) };
        match (self.bits, self.big_endian) {
            (8, _) => out.push(value as u8),
            (16, false) => out.extend((value as u16).to_le_bytes()),
            (16, true) => out.extend((value as u16).to_be_bytes()),
            (_, false) => out.extend(value.to_le_bytes()),
            (_, true) => out.extend(value.to_be_bytes()),
        }
    }

    /// Which three bytes of a pixel ZRLE sends, where one is always zero.
    fn compact(&self) -> Option<std::ops::Range<usize>> {
        let mask = self.convert(0x00ff_ffff);
        if self.bits != 32 || self.depth > 24 {
            return None;
        }
        let low = match (mask & 0xff00_0000 == 0, mask & 0xff == 0) {
            (true, _) => true,
            (_, true) => false,
            _ => return None,
        };
        // The bytes with the colours are first in memory if they are low and the low end comes first, or neither.
        Some(if low == self.big_endian { 1..4 } else { 0..3 })
    }
}

pub struct Encoder {
    format: PixelFormat,
    encodings: Encodings,
    /// One stream for the life of the session.
    zlib: Compress,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    pub fn new() -> Self {
        Self {
            format: PixelFormat::default(),
            encodings: Encodings::default(),
            zlib: Compress::new(Compression::fast(), true),
        }
    }

    pub fn encodings(&self) -> Encodings {
        self.encodings
    }

    pub fn set_encodings(&mut self, encodings: Encodings) {
        self.encodings = encodings;
    }

    pub fn set_format(&mut self, format: PixelFormat) {
        self.format = format;
    }

    /// A whole update message of these rectangles.
    pub fn update(&mut self, pixels: &[u32], mode: Mode, rects: &[Rect]) -> Vec<u8> {
        // A framebuffer has some thousands of tiles at most.
        let mut out = vec![0, 0];
        out.extend((rects.len() as u16).to_be_bytes());
        for rect in rects {
            for side in [rect.x, rect.y, rect.width, rect.height] {
                out.extend(side.to_be_bytes());
            }
            if self.encodings.zrle {
                out.extend(16_i32.to_be_bytes());
                self.zrle(&mut out, pixels, mode, *rect);
            } else {
                out.extend(0_i32.to_be_bytes());
                for line in lines(pixels, mode, *rect) {
                    for pixel in line {
                        self.format.put(&mut out, *pixel);
                    }
                }
            }
        }
        out
    }

    fn zrle(&mut self, out: &mut Vec<u8>, pixels: &[u32], mode: Mode, rect: Rect) {
        let mut plain = Vec::new();
        for y in (0..rect.height).step_by(usize::from(TILE)) {
            for x in (0..rect.width).step_by(usize::from(TILE)) {
                let tile = Rect {
                    x: rect.x + x,
                    y: rect.y + y,
                    width: TILE.min(rect.width - x),
                    height: TILE.min(rect.height - y),
                };
                self.tile(&mut plain, pixels, mode, tile);
            }
        }
        let place = out.len();
        out.extend([0; 4]);
        self.deflate(&plain, out);
        let length = (out.len() - place - 4) as u32;
        out[place..place + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn tile(&self, out: &mut Vec<u8>, pixels: &[u32], mode: Mode, tile: Rect) {
        let mut palette: Vec<u32> = Vec::with_capacity(MAX_PALETTE);
        let few = lines(pixels, mode, tile).flatten().all(|pixel| {
            palette.contains(pixel) || {
                let room = palette.len() < MAX_PALETTE;
                if room {
                    palette.push(*pixel);
                }
                room
            }
        });
        if !few {
            out.push(0);
            for pixel in lines(pixels, mode, tile).flatten() {
                self.put_compact(out, *pixel);
            }
            return;
        }
        // 1 is a tile of one colour; from 2 on the size of the palette.
        out.push(palette.len() as u8);
        for colour in &palette {
            self.put_compact(out, *colour);
        }
        let bits = match palette.len() {
            1 => return,
            2 => 1,
            3..=4 => 2,
            _ => 4,
        };
        for line in lines(pixels, mode, tile) {
            let (mut byte, mut filled) = (0_u8, 0);
            for pixel in line {
                let index = palette.iter().position(|colour| colour == pixel).unwrap_or(0) as u8;
                byte = byte << bits | index;
                filled += bits;
                if filled == 8 {
                    out.push(byte);
                    (byte, filled) = (0, 0);
                }
            }
            if filled > 0 {
                out.push(byte << (8 - filled));
            }
        }
    }

    fn put_compact(&self, out: &mut Vec<u8>, pixel: u32) {
        let start = out.len();
        self.format.put(out, pixel);
        if let Some(range) = self.format.compact() {
            let bytes = [out[start], out[start + 1], out[start + 2], out[start + 3]];
            out.truncate(start);
            out.extend(&bytes[range]);
        }
    }

    fn deflate(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let before = self.zlib.total_in();
        loop {
            let taken = (self.zlib.total_in() - before) as usize;
            out.reserve(plain.len() / 2 + 256);
            let room = out.capacity() - out.len();
            let written = out.len();
            let status = self.zlib.compress_vec(&plain[taken..], out, FlushCompress::Sync);
            // All is in, and there was room left after the flush: all is out.
            let taken = (self.zlib.total_in() - before) as usize;
            let done = taken == plain.len() && out.len() - written < room;
            if done || !matches!(status, Ok(Status::Ok | Status::BufError)) {
                return;
            }
        }
    }
}

fn lines(pixels: &[u32], mode: Mode, rect: Rect) -> impl Iterator<Item = &[u32]> {
    let width = usize::from(mode.width);
    (rect.y..rect.y + rect.height).map(move |y| {
        let start = usize::from(y) * width + usize::from(rect.x);
        &pixels[start..start + usize::from(rect.width)]
    })
}

/// An update with nothing but one message in the form of a rectangle.
pub fn pseudo_update(pseudo: Pseudo, size: Mode) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 1, 0, 0, 0, 0];
    out.extend(size.width.to_be_bytes());
    out.extend(size.height.to_be_bytes());
    out.extend(pseudo.number().to_be_bytes());
    out
}
