//! A terminal without a library for terminals: Linux's console and what is at the other end of a serial line understand the few
//! sequences used here, and only whole, harmless characters reach them.
//!
//! A line that takes nothing (a cable without a computer at its end, a stopped flow) never holds anybody up: what it does not
//! take in time is dropped, and all is drawn anew later.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::style::{Color, Modifier};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::keys::{Key, Keys};

/// What a terminal has that does not say how large it is.
const USUAL: Size = Size { width: 80, height: 24 };
const SMALLEST: Size = Size { width: 20, height: 8 };
const LARGEST: Size = Size { width: 400, height: 150 };

/// How long a terminal may take to say how large it is.
const ANSWER: Duration = Duration::from_millis(700);
/// How long it may take nothing of what is written.
const PATIENCE: Duration = Duration::from_secs(3);

/// The terminal, as it was and as it is used.
#[derive(Debug)]
pub struct Tty {
    file: File,
    before: Termios,
    size: Size,
    /// The kernel knows the size, and says so when it changes.
    knows_size: bool,
    out: Vec<u8>,
    cursor: Position,
    style: Option<(Color, Color, Modifier)>,
    is_hidden: bool,
    /// Something was not taken: what is on the screen is not known.
    pub is_torn: bool,
}

fn failed(error: rustix::io::Errno) -> io::Error {
    io::Error::from_raw_os_error(error.raw_os_error())
}

/// Whether something can be read or written; `None` when the other side has hung up.
pub(crate) fn ready(fds: &mut [PollFd<'_>], within: Duration) -> io::Result<Option<bool>> {
    let limit = Timespec { tv_sec: within.as_secs().try_into().unwrap_or(3600), tv_nsec: within.subsec_nanos().into() };
    let count = match poll(fds, Some(&limit)) {
        Err(rustix::io::Errno::INTR) => 0,
        count => count.map_err(failed)?,
    };
    let gone = fds.first().is_some_and(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL));
    Ok(if gone { None } else { Some(count > 0) })
}

impl Tty {
    /// # Errors
    /// When it is no terminal, or cannot be opened.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        // The same terminal opened again: what is set on this one does not reach what was inherited.
        let path = path.unwrap_or(Path::new("/proc/self/fd/0"));
        let flags = nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
        let file = File::options().read(true).write(true).custom_flags(flags).open(path)?;
        let before = tcgetattr(&file).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&file, OptionalActions::Now, &raw).map_err(failed)?;
        let mut tty = Self {
            file,
            before,
            size: USUAL,
            knows_size: false,
            out: Vec::new(),
            cursor: Position::ORIGIN,
            style: None,
            is_hidden: false,
            is_torn: false,
        };
        // Lines are not broken at the last column: the last cell of the screen would push all up.
        tty.out.extend_from_slice(b"\x1b[0m\x1b[?7l");
        tty.send()?;
        tty.size = match tty.told_size() {
            Some(size) => {
                tty.knows_size = true;
                size
            }
            None => tty.ask_size()?.unwrap_or(USUAL),
        };
        Ok(tty)
    }

    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Follows a window that was resized. A serial line says nothing of it.
    pub fn follow_size(&mut self) {
        if self.knows_size
            && let Some(size) = self.told_size()
        {
            self.size = size;
        }
    }

    /// A slow line says late where the cursor stopped.
    pub fn answered(&mut self, column: u16, row: u16) {
        if !self.knows_size {
            self.size = bounded(column, row);
        }
    }

    fn told_size(&self) -> Option<Size> {
        let told = tcgetwinsize(&self.file).ok().filter(|told| told.ws_col > 0 && told.ws_row > 0)?;
        Some(bounded(told.ws_col, told.ws_row))
    }

    /// Sends the cursor far away and asks where it stopped.
    fn ask_size(&mut self) -> io::Result<Option<Size>> {
        self.out.extend_from_slice(b"\x1b7\x1b[999;999H\x1b[6n\x1b8");
        self.send()?;
        let (mut keys, end) = (Keys::default(), Instant::now() + ANSWER);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || ready(&mut [PollFd::new(&self.file, PollFlags::IN)], left)?.is_none() {
                return Ok(None);
            }
            let mut bytes = [0; 256];
            let count = match self.file.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                count => count?,
            };
            for key in keys.push(&bytes[..count]) {
                if let Key::CursorAt(column, row) = key {
                    return Ok(Some(bounded(column, row)));
                }
            }
            if count == 0 {
                return Ok(None);
            }
        }
    }

    /// Bytes that have come, if any; `None` when the terminal is gone.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn read(&mut self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        match self.file.read(bytes) {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.out);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match ready(&mut [PollFd::new(&self.file, PollFlags::OUT)], PATIENCE)? {
                        Some(true) => (),
                        Some(false) => {
                            self.is_torn = true;
                            return Ok(());
                        }
                        None => return Err(io::ErrorKind::BrokenPipe.into()),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn go_to(&mut self, x: u16, y: u16) {
        if (Position { x, y }) != self.cursor {
            let mut text = String::new();
            let _ = write!(text, "\x1b[{};{}H", y + 1, x + 1);
            self.out.extend_from_slice(text.as_bytes());
            self.cursor = Position { x, y };
        }
    }

    fn paint(&mut self, cell: &Cell) {
        let style = (cell.fg, cell.bg, cell.modifier);
        if self.style == Some(style) {
            return;
        }
        self.style = Some(style);
        let mut text = String::from("\x1b[0");
        if cell.modifier.contains(Modifier::BOLD) {
            text.push_str(";1");
        }
        if cell.modifier.contains(Modifier::REVERSED) {
            text.push_str(";7");
        }
        if let Some(number) = number(cell.fg) {
            let _ = write!(text, ";{}", 30 + number);
        }
        if let Some(number) = number(cell.bg) {
            let _ = write!(text, ";{}", 40 + number);
        }
        text.push('m');
        self.out.extend_from_slice(text.as_bytes());
    }
}

fn bounded(width: u16, height: u16) -> Size {
    Size { width: width.clamp(SMALLEST.width, LARGEST.width), height: height.clamp(SMALLEST.height, LARGEST.height) }
}

fn number(color: Color) -> Option<u8> {
    Some(match color {
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::White | Color::Gray => 7,
        _ => return None,
    })
}

impl Drop for Tty {
    fn drop(&mut self) {
        self.out.clear();
        self.out.extend_from_slice(b"\x1b[0m\x1b[2J\x1b[H\x1b[?7h\x1b[?25h");
        let _ = self.send();
        let _ = tcsetattr(&self.file, OptionalActions::Now, &self.before);
    }
}

impl Backend for Tty {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        for (x, y, cell) in content {
            self.go_to(x, y);
            self.paint(cell);
            // Whatever a page let through: nothing that a terminal obeys leaves here.
            let symbol = cell.symbol();
            let symbol = if symbol.is_empty() || symbol.chars().any(char::is_control) { " " } else { symbol };
            self.out.extend_from_slice(symbol.as_bytes());
            // How wide others draw what is no ASCII is theirs to know: the next cell is aimed at anew.
            self.cursor =
                if symbol.len() == 1 { Position { x: x + 1, y } } else { Position { x: u16::MAX, y: u16::MAX } };
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        if !self.is_hidden {
            self.is_hidden = true;
            self.out.extend_from_slice(b"\x1b[?25l");
        }
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.is_hidden = false;
        self.out.extend_from_slice(b"\x1b[?25h");
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(if self.cursor.x == u16::MAX { Position::ORIGIN } else { self.cursor })
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        self.go_to(x, y);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        // Another program may have left any state.
        self.out.extend_from_slice(b"\x1b[0m\x1b[?7l\x1b[2J\x1b[H");
        if self.is_hidden {
            self.out.extend_from_slice(b"\x1b[?25l");
        }
        (self.cursor, self.style, self.is_torn) = (Position::ORIGIN, None, false);
        Ok(())
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        match clear_type {
            ClearType::All => self.clear(),
            ClearType::AfterCursor => {
                self.out.extend_from_slice(b"\x1b[0m\x1b[J");
                self.style = None;
                Ok(())
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn size(&self) -> io::Result<Size> {
        Ok(self.size)
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
