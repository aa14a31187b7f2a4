//! A server of the remote framebuffer protocol, RFB 3.8 (RFC 6143), for stock VNC clients and noVNC: raw and ZRLE, changes
//! of size, QEMU's key events with key positions. Without passwords: whoever reaches the private socket may look and type.
//!
//! - [`protocol`]: what a client says, bytes to messages. - [`encoding`]: pixels to bytes. - [`keys`]: keys to evdev codes.
//!
//! What must stay true: a client, however it behaves, makes nothing here grow past a copy of the screen and one update;
//! nothing is sent that was not asked for; keys that a client held down are released when it goes.

pub mod encoding;
pub mod keys;
pub mod protocol;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use encoding::{Encoder, Rect, TILE};
use protocol::{Handshake, Message, Pseudo};

/// Size of a screen, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub width: u16,
    pub height: u16,
}

/// How a pixel lies in a framebuffer; little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelLayout {
    Xrgb8888,
    Rgb565,
}

impl PixelLayout {
    pub fn bytes(self) -> usize {
        match self {
            Self::Xrgb8888 => 4,
            Self::Rgb565 => 2,
        }
    }

    /// A row of bytes to pixels 0x00RRGGBB.
    pub fn decode(self, row: &[u8], pixels: &mut [u32]) {
        match self {
            Self::Xrgb8888 => {
                for (pixel, bytes) in pixels.iter_mut().zip(row.as_chunks::<4>().0) {
                    *pixel = u32::from_le_bytes(*bytes) & 0x00ff_ffff;
                }
            }
            Self::Rgb565 => {
                for (pixel, bytes) in pixels.iter_mut().zip(row.as_chunks::<2>().0) {
                    let value = u32::from(u16::from_le_bytes(*bytes));
                    let scale = |value: u32, most: u32| (value * 255 + most / 2) / most;
                    let (red, green, blue) = (value >> 11, value >> 5 & 63, value & 31);
                    *pixel = scale(red, 31) << 16 | scale(green, 63) << 8 | scale(blue, 31);
                }
            }
        }
    }
}

/// What is shown. Read from time to time while somebody looks.
pub trait Screen: Send + Sync {
    /// Neither side is 0.
    fn mode(&self) -> Mode;
    /// The whole screen as pixels 0x00RRGGBB, of exactly this size whatever it is by now.
    fn read(&self, mode: Mode, pixels: &mut Vec<u32>);
}

/// Buttons of a pointer as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buttons {
    pub left: bool,
    pub middle: bool,
    pub right: bool,
}

/// What is typed and pointed.
pub trait Input: Send + Sync {
    /// A key by its evdev code.
    fn key(&self, code: u16, down: bool);
    /// Position from 0 to 0x7fff on both axes; steps of the wheel, up and right positive.
    fn pointer(&self, x: u16, y: u16, buttons: Buttons, wheel: i8, sideways: i8);
}

/// Clients at the same time.
const MAX_CLIENTS: usize = 8;
/// A client that does not take what it asked for, or does not finish its greeting, is let go.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the screen is looked at for a client that waits for a change.
const FRAME: Duration = Duration::from_millis(33);
/// And when nothing has changed for a while.
const IDLE_FRAME: Duration = Duration::from_millis(150);
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// Serve clients of a listening socket until it fails.
pub async fn serve(
    listener: UnixListener,
    name: String,
    screen: Arc<dyn Screen>,
    input: Arc<dyn Input>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let (stream, _) = listener.accept().await?;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (name, screen, input) = (name.clone(), Arc::clone(&screen), Arc::clone(&input));
        tokio::spawn(async move {
            if let Err(error) = client(stream, &name, &*screen, &*input).await {
                tracing::debug!(%error, "a VNC client was let go");
            }
            drop(place);
        });
    }
}

/// Serve one client until it leaves; an error is one that broke the protocol, was too slow, or whose stream failed.
pub async fn client(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    name: &str,
    screen: &dyn Screen,
    input: &dyn Input,
) -> io::Result<()> {
    let mut received = Vec::new();
    let mode = screen.mode();
    let greeted = timeout(PATIENCE, greet(&mut stream, &mut received, name, mode)).await;
    if !greeted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
        return Ok(());
    }
    let mut session = Session::new(screen, input, mode);
    let done = session.run(&mut stream, received).await;
    session.release();
    done
}

/// False if the client left before it was greeted.
async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    received: &mut Vec<u8>,
    name: &str,
    mode: Mode,
) -> io::Result<bool> {
    let mut handshake = Handshake::new(name, mode);
    loop {
        loop {
            let (taken, answer) = handshake.step(received)?;
            received.drain(..taken);
            stream.write_all(&answer).await?;
            if handshake.is_done() {
                return Ok(true);
            }
            if taken == 0 && answer.is_empty() {
                break;
            }
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(false);
        }
    }
}

/// For tests with hostile input: all that a client ever says, heard at once, and an update made after each message. Returns
/// how many bytes it would have been sent.
#[cfg(any(test, feature = "fuzzing"))]
pub fn hear_all(said: &[u8], name: &str, screen: &dyn Screen, input: &dyn Input) -> io::Result<usize> {
    let mode = screen.mode();
    let mut handshake = Handshake::new(name, mode);
    let (mut rest, mut sent) = (said, 0);
    while !handshake.is_done() {
        let (taken, answer) = handshake.step(rest)?;
        if taken == 0 && answer.is_empty() {
            return Ok(sent);
        }
        rest = rest.get(taken..).unwrap_or_default();
        sent += answer.len();
    }
    let mut session = Session::new(screen, input, mode);
    let mut heard = || {
        while let Some((length, message)) = protocol::parse(rest)? {
            rest = rest.get(length..).unwrap_or_default();
            session.hear(message)?;
            sent += session.update().map_or(0, |update| update.len());
        }
        Ok(())
    };
    let done = heard();
    session.release();
    done.map(|()| sent)
}

#[derive(Default)]
struct Pointer {
    mask: u8,
    x: u16,
    y: u16,
}

struct Session<'a> {
    screen: &'a dyn Screen,
    input: &'a dyn Input,
    encoder: Encoder,
    /// The size that the client knows.
    known: Mode,
    /// What it has on its screen; None for nothing.
    shown: Option<Vec<u32>>,
    /// What it asked for and has not got: an area, and whether all of it.
    wanted: Option<(Rect, bool)>,
    /// It wants to know that it may send key positions, and has not been told.
    announce_keys: bool,
    /// Codes of keys that are down.
    held: Vec<u16>,
    pointer: Pointer,
    changed: Instant,
}

impl<'a> Session<'a> {
    fn new(screen: &'a dyn Screen, input: &'a dyn Input, mode: Mode) -> Self {
        Self {
            screen,
            input,
            encoder: Encoder::new(),
            known: mode,
            shown: None,
            wanted: None,
            announce_keys: false,
            held: Vec::new(),
            pointer: Pointer::default(),
            changed: Instant::now(),
        }
    }

    async fn run(
        &mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        mut received: Vec<u8>,
    ) -> io::Result<()> {
        let mut ticks = interval(FRAME);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        loop {
            let mut taken = 0;
            while let Some((length, message)) = protocol::parse(&received[taken..])? {
                taken += length;
                self.hear(message)?;
            }
            received.drain(..taken);
            tokio::select! {
                read = stream.read_buf(&mut received) => {
                    if read? == 0 {
                        return Ok(());
                    }
                }
                _ = ticks.tick(), if self.wanted.is_some() => {
                    let idle = self.changed.elapsed() > IDLE_AFTER;
                    let all = self.wanted.is_some_and(|(_, all)| all);
                    if idle && !all && looked.elapsed() < IDLE_FRAME {
                        continue;
                    }
                    looked = Instant::now();
                    if let Some(update) = self.update() {
                        self.changed = looked;
                        let sent = timeout(PATIENCE, stream.write_all(&update)).await;
                        sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    }
                }
            }
        }
    }

    fn hear(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::SetPixelFormat(format) => {
                self.encoder.set_format(format);
                self.shown = None;
            }
            Message::SetEncodings(encodings) => {
                self.announce_keys =
                    encodings.has(Pseudo::ExtendedKey) && !self.encoder.encodings().has(Pseudo::ExtendedKey);
                self.encoder.set_encodings(encodings);
            }
            Message::UpdateRequest { incremental, area } => {
                // Several requests are one: the area that holds them all.
                let (joined, all) = match self.wanted {
                    Some((other, all)) => (area.join(other), all),
                    None => (area, false),
                };
                self.wanted = Some((joined, all || !incremental));
            }
            Message::Key { keysym, scancode, down } => {
                let code = scancode.and_then(keys::from_scancode).or_else(|| keys::from_keysym(keysym));
                if let Some(code) = code {
                    self.key(code, down);
                }
            }
            Message::Pointer { mask, x, y } => self.point(mask, x, y),
            Message::Nothing => {}
        }
        Ok(())
    }

    fn key(&mut self, code: u16, down: bool) {
        let at = self.held.iter().position(|held| *held == code);
        match (down, at) {
            (true, None) => self.held.push(code),
            (false, Some(at)) => {
                self.held.swap_remove(at);
            }
            // The guest repeats keys itself; what was not down cannot go up.
            (true, Some(_)) | (false, None) => return,
        }
        self.input.key(code, down);
    }

    fn point(&mut self, mask: u8, x: u16, y: u16) {
        let scale = |at: u16, size: u16| {
            let most = u32::from(size.saturating_sub(1)).max(1);
            (u32::from(at).min(most) * 0x7fff / most) as u16
        };
        let pressed = mask & !self.pointer.mask;
        let step = |plus: u8, minus: u8| i8::from(pressed & plus != 0) - i8::from(pressed & minus != 0);
        let buttons = Buttons { left: mask & 1 != 0, middle: mask & 2 != 0, right: mask & 4 != 0 };
        let (x, y) = (scale(x, self.known.width), scale(y, self.known.height));
        self.pointer = Pointer { mask, x, y };
        self.input.pointer(x, y, buttons, step(8, 16), step(64, 32));
    }

    fn release(&mut self) {
        for code in std::mem::take(&mut self.held) {
            self.input.key(code, false);
        }
        if self.pointer.mask & 7 != 0 {
            self.input.pointer(self.pointer.x, self.pointer.y, Buttons::default(), 0, 0);
        }
    }

    /// What to send for the request that waits; None while there is nothing new.
    fn update(&mut self) -> Option<Vec<u8>> {
        let (area, all) = self.wanted?;
        if std::mem::take(&mut self.announce_keys) {
            self.wanted = None;
            return Some(encoding::pseudo_update(Pseudo::ExtendedKey, Mode { width: 0, height: 0 }));
        }
        let mode = self.screen.mode();
        if mode != self.known && self.encoder.encodings().has(Pseudo::DesktopSize) {
            self.known = mode;
            self.shown = None;
            self.wanted = None;
            return Some(encoding::pseudo_update(Pseudo::DesktopSize, mode));
        }
        let mut pixels = Vec::new();
        self.screen.read(mode, &mut pixels);
        if mode != self.known {
            pixels = fit(&pixels, mode, self.known);
        }
        let known = self.known;
        let area = area.clip(known);
        // A colour that no pixel has, where the client has nothing yet.
        let nothing = || vec![u32::MAX; usize::from(known.width) * usize::from(known.height)];
        let shown = self.shown.get_or_insert_with(nothing);
        let rects = changes(Some(shown.as_slice()).filter(|_| !all), &pixels, known, area);
        if rects.is_empty() && !all {
            return None;
        }
        // Outside these the client still has what it had.
        for rect in &rects {
            for y in rect.y..rect.y + rect.height {
                let start = usize::from(y) * usize::from(known.width) + usize::from(rect.x);
                let end = start + usize::from(rect.width);
                shown[start..end].copy_from_slice(&pixels[start..end]);
            }
        }
        self.wanted = None;
        Some(self.encoder.update(&pixels, known, &rects))
    }
}

/// The screen cut, or filled up with black, to a size that the client cannot be told to change.
fn fit(pixels: &[u32], from: Mode, to: Mode) -> Vec<u32> {
    let (from_width, to_width) = (usize::from(from.width), usize::from(to.width));
    let mut fitted = vec![0; to_width * usize::from(to.height)];
    let width = from_width.min(to_width);
    for (source, target) in pixels.chunks_exact(from_width).zip(fitted.chunks_exact_mut(to_width)) {
        target[..width].copy_from_slice(&source[..width]);
    }
    fitted
}

/// The tiles inside `area` that differ, neighbours in a row joined. Without `before` all of them.
fn changes(before: Option<&[u32]>, now: &[u32], mode: Mode, area: Rect) -> Vec<Rect> {
    let width = usize::from(mode.width);
    let mut rects = Vec::new();
    let mut y = area.y;
    while y < area.y + area.height {
        let height = TILE.min(area.y + area.height - y);
        let mut open: Option<Rect> = None;
        let mut x = area.x;
        while x < area.x + area.width {
            let tile = Rect { x, y, width: TILE.min(area.x + area.width - x), height };
            let differs = before.is_none_or(|before| {
                (tile.y..tile.y + tile.height).any(|line| {
                    let start = usize::from(line) * width + usize::from(tile.x);
                    let end = start + usize::from(tile.width);
                    before[start..end] != now[start..end]
                })
            });
            match (&mut open, differs) {
                (Some(rect), true) => rect.width += tile.width,
                (None, true) => open = Some(tile),
                (_, false) => rects.extend(open.take()),
            }
            x += tile.width;
        }
        rects.extend(open);
        y += height;
    }
    rects
}
