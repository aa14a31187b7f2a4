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

/// How far the start of a guest has come since the last reset, as far as it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// SeaBIOS sets the machine up.
    #[default]
    Setup,
    /// Our firmware runs.
    Firmware,
    /// It has said why it does not start this disk: its reset comes.
    GivenUp,
    /// Linux, or SeaBIOS with a boot loader.
    Guest,
}

#[derive(Debug, Default)]
struct Heard {
    phase: Phase,
    line: Vec<u8>,
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
        self.heard().reset() == Phase::Guest
    }

    /// A guest goes on that had its start long ago.
    pub fn guest_runs(&self) {
        self.heard().phase = Phase::Guest;
    }

    /// The machine was reset from outside.
    pub fn forget(&self) {
        self.heard().reset();
    }
}

impl Heard {
    fn reset(&mut self) -> Phase {
        self.line.clear();
        std::mem::take(&mut self.phase)
    }

    fn take(&mut self, server_id: Uuid, bytes: &[u8]) {
        for byte in bytes {
            match byte {
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
            // A guest that runs is not heard, until the next reset.
            (Phase::Guest | Phase::GivenUp, _) => {}
            (Phase::Setup, b"TRY") => self.phase = Phase::Firmware,
            (Phase::Setup, b"SKIP") => {
                self.phase = Phase::Guest;
                self.log(server_id, "it was reset, or faulted, before it could say anything");
            }
            (Phase::Setup, b"BIOS") | (Phase::Firmware, b"BOOT") => self.phase = Phase::Guest,
            (Phase::Setup, _) => {}
            (Phase::Firmware, reason) => {
                self.phase = Phase::GivenUp;
                let reason = String::from_utf8_lossy(reason).escape_debug().to_string();
                self.log(server_id, &reason);
            }
        }
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

    #[test]
    fn resets_of_a_guest_are_news_and_those_of_firmware_are_not() {
        for (said, news) in [
            ("", false),
            ("TRY\n", false),
            ("TRY\nno boot loader\n", false),
            ("TRY\nBOOT\n", true),
            ("SKIP\n", true),
            ("BIOS\n", true),
            ("BOOT\n", false),
        ] {
            assert_eq!(heard(said).reset() == Phase::Guest, news, "{said:?}");
        }
    }

    #[test]
    fn what_a_guest_writes_later_changes_nothing_and_takes_no_memory() {
        let mut heard = heard("TRY\nBOOT\n");
        heard.take(Uuid::nil(), b"TRY\nno boot loader\n");
        heard.take(Uuid::nil(), &vec![b'x'; 1 << 20]);
        assert_eq!((heard.phase, heard.reasons), (Phase::Guest, 0));
        assert!(heard.line.len() <= LONGEST_LINE && heard.line.capacity() <= 2 * LONGEST_LINE);
        for _ in 0..1000 {
            heard.reset();
            heard.take(Uuid::nil(), b"TRY\nagain\n");
        }
        assert_eq!(heard.reasons, 1000, "counted, and logged 64 times");
    }
}
