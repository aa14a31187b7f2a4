//! Our firmware in QEMU's machine: where QEMU finds it, and what it says.
//!
//! SeaBIOS sets the machine up and boots a small option ROM first (`firmware_rom.S`), which starts the firmware; where the
//! firmware hands over, the same ROM lets SeaBIOS go on to the disk. So a fall back is one reset within one QEMU, decided
//! inside the guest, and nothing that a guest writes can end QEMU. Outside, only what it says is heard (firmware/README.md).
//!
//! What must stay true: whatever a guest writes to the port is read at once, as its processor waits for that, and kept
//! bounded; it changes which resets are news, and what is in the log, and nothing else.
#![allow(unsafe_code, reason = "the ROM is assembled code, reached by its symbol")]

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::{RecvFlags, recv};
use tokio::net::UnixStream;
use uuid::Uuid;

use crate::kvm::driver::FIRMWARE;

std::arch::global_asm!(include_str!("firmware_rom.S"), options(att_syntax));

const ROM_BYTES: usize = 1024;
const ROM_ENTRY_AT: usize = 0x10;

unsafe extern "C" {
    #[link_name = "firmware_rom_start"]
    static ROM: [u8; ROM_BYTES];
}

/// The names are part of the machine: a suspended guest finds its ROM by it.
const ROM_NAME: &str = "solo-fw.rom";
const IMAGE_NAME: &str = "solo-fw.elf";

/// What QEMU reads: the firmware, and the ROM that starts it.
#[derive(Debug)]
pub struct Files {
    rom: Vec<u8>,
}

/// Where QEMU sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub rom: PathBuf,
    pub image: PathBuf,
}

impl Files {
    pub fn new() -> Self {
        // SAFETY: the symbol is at the start of as many bytes, in read-only data (the ROM's source says so by `.org`).
        let mut rom = unsafe { ROM }.to_vec();
        // An ELF of 64 bits has its entry there; ours is the 32-bit one of PVH (firmware/layout.ld).
        let entry = FIRMWARE.get(24..28).unwrap_or(&[0; 4]);
        if let Some(place) = rom.get_mut(ROM_ENTRY_AT..ROM_ENTRY_AT + 4) {
            place.copy_from_slice(entry);
        }
        let sum = rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        if let Some(last) = rom.last_mut() {
            *last = last.wrapping_sub(sum);
        }
        Self { rom }
    }

    /// Each with its name, for QEMU's root directory.
    pub fn named(&self) -> [(&'static str, &[u8]); 2] {
        [(ROM_NAME, &self.rom), (IMAGE_NAME, FIRMWARE)]
    }

    /// Into a directory, where QEMU has no root directory of its own.
    pub fn write_into(&self, directory: &Path) -> io::Result<()> {
        for (name, bytes) in self.named() {
            let path = directory.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = File::options().write(true).create_new(true).mode(0o644).open(path)?;
            io::Write::write_all(&mut file, bytes)?;
        }
        Ok(())
    }
}

impl Places {
    /// Below a directory; `None` if this process cannot read them there.
    pub fn below(directory: &Path) -> Option<Self> {
        let places = Self { rom: directory.join(ROM_NAME), image: directory.join(IMAGE_NAME) };
        let readable = [&places.rom, &places.image].into_iter().all(|path| File::open(path).is_ok());
        readable.then_some(places)
    }
}

/// A line is cut off here.
const LONGEST_LINE: usize = 1500;
/// Reasons that are logged in the life of a VM: a guest can make them up.
const MOST_REASONS: u32 = 64;
/// What is kept of a guest's writing, in case it is the next start's: its reset may be told later.
const KEPT_BYTES: usize = 4096;
const MOST_OWN_RESETS: u32 = 4;

/// How far the start of a guest has come since the last reset, as far as it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// SeaBIOS sets the machine up.
    #[default]
    Setup,
    /// Our firmware runs.
    Firmware,
    /// It has said why it does not start this disk, and resets the machine.
    GivenUp,
    /// Linux, or SeaBIOS with a boot loader.
    Guest,
}

/// Lines and resets come by two ways, and either may be late.
#[derive(Debug, Default)]
struct Heard {
    phase: Phase,
    line: Vec<u8>,
    /// The end of what was written while a guest ran.
    kept: Vec<u8>,
    /// Resets that are the firmware's, and that QEMU has not told of yet.
    own_resets: u32,
    reasons: u32,
}

/// The port on which firmware and ROM speak, for one QEMU.
#[derive(Debug)]
pub struct Port {
    server_id: Uuid,
    stream: UnixStream,
    heard: Mutex<Heard>,
}

impl Port {
    pub fn new(server_id: Uuid, stream: UnixStream) -> Self {
        Self { server_id, stream, heard: Mutex::default() }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Read until QEMU ends.
    pub async fn listen(&self) {
        while self.stream.readable().await.is_ok() {
            if !self.read() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Read some of what has come; false when no more will.
    fn read(&self) -> bool {
        let mut chunk = [0_u8; 4096];
        // By the call itself: what has come counts, also when the runtime has not been told of it yet.
        let read = self.stream.try_io(tokio::io::Interest::READABLE, || {
            Ok(recv(&self.stream, &mut chunk[..], RecvFlags::DONTWAIT).map(|(read, _)| read)?)
        });
        match read {
            Ok(0) => false,
            Ok(read) => {
                self.heard().take(self.server_id, chunk.get(..read).unwrap_or_default());
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Whether a reset that the guest has made is news to anybody but us.
    pub fn reset_is_news(&self) -> bool {
        let mut chunk = [0_u8; 4096];
        // All that was said before the reset has come by now.
        for _ in 0..64 {
            match recv(&self.stream, &mut chunk[..], RecvFlags::DONTWAIT) {
                Ok((read @ 1.., _)) => self.heard().take(self.server_id, chunk.get(..read).unwrap_or_default()),
                _ => break,
            }
        }
        let server_id = self.server_id;
        self.heard().reset(server_id)
    }

    /// A guest goes on that had its start long ago.
    pub fn guest_runs(&self) {
        self.heard().phase = Phase::Guest;
    }

    /// The machine is about to be reset from outside.
    pub fn forget(&self) {
        let mut heard = self.heard();
        *heard = Heard { reasons: heard.reasons, ..Heard::default() };
    }
}

impl Heard {
    /// QEMU tells of a reset that it was not asked for. Whether that is news.
    fn reset(&mut self, server_id: Uuid) -> bool {
        if self.own_resets > 0 {
            self.own_resets -= 1;
            if self.phase != Phase::Guest {
                self.phase = Phase::Setup;
            }
            return false;
        }
        let news = self.phase == Phase::Guest;
        self.phase = Phase::Setup;
        self.line.clear();
        let kept = std::mem::take(&mut self.kept);
        self.take(server_id, &kept);
        news
    }

    fn take(&mut self, server_id: Uuid, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                // A guest that runs is not heard, until its reset.
                _ if self.phase == Phase::Guest => {
                    self.kept.extend_from_slice(bytes.get(at..).unwrap_or_default());
                    let too_many = self.kept.len().saturating_sub(KEPT_BYTES);
                    self.kept.drain(..too_many);
                    return;
                }
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.understand(server_id, &line);
                }
                _ if self.line.len() < LONGEST_LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn understand(&mut self, server_id: Uuid, line: &[u8]) {
        match (self.phase, line) {
            (_, b"TRY") => self.phase = Phase::Firmware,
            (phase, b"SKIP") => {
                self.expect_reset(phase == Phase::Firmware);
                self.phase = Phase::Guest;
                self.log(server_id, "it was reset, or faulted, before it could say anything");
            }
            (_, b"BIOS" | b"BOOT") => self.phase = Phase::Guest,
            (Phase::Setup | Phase::Firmware, reason) => {
                self.expect_reset(true);
                self.phase = Phase::GivenUp;
                let reason = String::from_utf8_lossy(reason).escape_debug().to_string();
                self.log(server_id, &reason);
            }
            (Phase::GivenUp | Phase::Guest, _) => {}
        }
    }

    fn expect_reset(&mut self, expected: bool) {
        self.own_resets = (self.own_resets + u32::from(expected)).min(MOST_OWN_RESETS);
    }

    fn log(&mut self, server_id: Uuid, reason: &str) {
        self.reasons = self.reasons.saturating_add(1);
        if self.reasons <= MOST_REASONS {
            tracing::info!(%server_id, reason, "the firmware hands over to SeaBIOS");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &str) -> Heard {
        let mut heard = Heard::default();
        heard.take(Uuid::nil(), text.as_bytes());
        heard
    }

    #[test]
    fn the_rom_is_one_and_knows_the_firmwares_entry() {
        let files = Files::new();
        assert_eq!(files.rom.len(), ROM_BYTES);
        assert_eq!(files.rom[..3], [0x55, 0xaa, 2]);
        assert_eq!(files.rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        let entry = u32::from_le_bytes(files.rom[ROM_ENTRY_AT..ROM_ENTRY_AT + 4].try_into().unwrap());
        assert!((0x10_0000..0x10_1000).contains(&entry), "{entry:#x}");
        let header = usize::from(u16::from_le_bytes(files.rom[0x1a..0x1c].try_into().unwrap()));
        assert_eq!(files.rom[header..header + 4], *b"$PnP");
    }

    /// The resets of a whole life (`!`) among its lines, and which of them are news.
    fn news(life: &str) -> Vec<bool> {
        let mut heard = Heard::default();
        let mut news = Vec::new();
        for part in life.split_inclusive('!') {
            heard.take(Uuid::nil(), part.trim_end_matches('!').as_bytes());
            if part.ends_with('!') {
                news.push(heard.reset(Uuid::nil()));
            }
        }
        news
    }

    #[test]
    fn resets_of_a_guest_are_news_and_those_of_firmware_are_not_in_whichever_order_they_are_heard() {
        for (life, expected) in [
            // Linux, reset three times; SeaBIOS adds one of its own.
            ("TRY\nBOOT\n!TRY\nBOOT\n!!TRY\nBOOT\n!", &[true, true, false, true][..]),
            // The firmware hands over, each time.
            ("TRY\nwhy\n!BIOS\n!TRY\nwhy\n!BIOS\n!", &[false, true, false, true]),
            // It faults, each time.
            ("TRY\n!SKIP\n!TRY\n!SKIP\n!", &[false, true, false, true]),
            // The resets are told late: after the lines of the next start, or of two.
            ("TRY\nBOOT\nTRY\nBOOT\n!!", &[true, true]),
            ("TRY\nwhy\nBIOS\n!!", &[false, true]),
            ("TRY\nwhy\nBIOS\nTRY\nwhy\nBIOS\n!!!!", &[false, true, false, true]),
            ("TRY\nSKIP\n!!", &[false, true]),
            ("!!", &[false, false]),
        ] {
            assert_eq!(news(life), expected, "{life:?}");
        }
    }

    #[test]
    fn what_a_guest_writes_takes_no_memory_and_fills_no_log() {
        let mut heard = heard("TRY\nBOOT\nTRY\nno boot loader\n");
        for _ in 0..1000 {
            heard.take(Uuid::nil(), &vec![b'x'; 10_000]);
            assert!(heard.kept.len() <= KEPT_BYTES && heard.kept.capacity() <= 32 * 1024);
        }
        assert_eq!((heard.phase, heard.reasons), (Phase::Guest, 0));
        heard.reset(Uuid::nil());
        heard.take(Uuid::nil(), &vec![b'x'; 1 << 20]);
        assert!(heard.line.len() <= LONGEST_LINE);
        for _ in 0..1000 {
            heard.take(Uuid::nil(), b"\nagain\n");
            heard.reset(Uuid::nil());
        }
        assert!(heard.reasons > 500 && heard.own_resets <= MOST_OWN_RESETS, "counted, and logged 64 times");
    }
}
