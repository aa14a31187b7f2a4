//! CMOS RAM and real-time clock at 0x70 and 0x71 (MC146818): the time in UTC, and what SeaBIOS reads of the machine's size.
//!
//! There is no alarm and no periodic interrupt: kernels have better timers, and probe for this one's by reading.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::bus::Registers;
use crate::kvm::layout;

const BYTES: usize = 128;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_C: u8 = 0x0c;
const STATUS_D: u8 = 0x0d;
const SHUTDOWN: u8 = 0x0f;
const CENTURY: u8 = 0x32;
/// Status B: numbers are binary and not BCD; hours are 0 to 23; the time does not move while it is set.
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const HELD: u8 = 1 << 7;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cmos {
    index: u8,
    ram: Vec<u8>,
    /// What the guest has set the clock to, as seconds off the host's time.
    offset_seconds: i64,
}

impl Cmos {
    pub fn new(ram_bytes: u64, vcpus: u32) -> Self {
        let mut cmos = Self { index: 0, ram: vec![0; BYTES], offset_seconds: 0 };
        cmos.fill(ram_bytes, vcpus);
        cmos
    }

    fn fill(&mut self, ram_bytes: u64, vcpus: u32) {
        let low = ram_bytes.min(layout::LOW_RAM_MOST);
        let mut put = |at: usize, value: u64, bytes: usize| {
            for (place, byte) in self.ram.iter_mut().skip(at).zip(value.to_le_bytes()).take(bytes) {
                *place = byte;
            }
        };
        put(STATUS_A.into(), 0x26, 1);
        put(STATUS_B.into(), HOURS_24.into(), 1);
        put(STATUS_D.into(), 0x80, 1);
        // Base and extended memory in KiB, up to 64 MiB, in the two places where it is looked for.
        put(0x15, 640, 2);
        let extended = low.saturating_sub(layout::ONE_MIB).div_euclid(1024).min(0xffff);
        put(0x17, extended, 2);
        put(0x30, extended, 2);
        // RAM above 16 MiB and above 4 GiB, in units of 64 KiB.
        put(0x34, (low.saturating_sub(16 << 20) >> 16).min(0xffff), 2);
        put(0x5b, (ram_bytes.saturating_sub(layout::LOW_RAM_MOST) >> 16).min(0xff_ffff), 3);
        put(0x5f, u64::from(vcpus.saturating_sub(1)).min(0xff), 1);
    }

    /// What power-on does; the clock has its battery.
    pub fn reset(&mut self, ram_bytes: u64, vcpus: u32) {
        self.index = 0;
        self.ram.fill(0);
        self.fill(ram_bytes, vcpus);
    }

    fn status_b(&self) -> u8 {
        self.ram.get(usize::from(STATUS_B)).copied().unwrap_or(0)
    }

    fn encoded(&self, value: u32) -> u8 {
        let value = u8::try_from(value % 100).unwrap_or(0);
        if self.status_b() & BINARY != 0 { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn decoded(&self, value: u8) -> i64 {
        i64::from(if self.status_b() & BINARY != 0 { value } else { (value >> 4) * 10 + (value & 15) })
    }

    fn get(&self) -> u8 {
        let stored = self.ram.get(usize::from(self.index)).copied().unwrap_or(0xff);
        if self.status_b() & HELD != 0 && matches!(self.index, 0 | 2 | 4 | 6..=9 | CENTURY) {
            return stored;
        }
        let now = Moment::of(unix_seconds() + self.offset_seconds);
        match self.index {
            0 => self.encoded(now.second),
            2 => self.encoded(now.minute),
            4 if self.status_b() & HOURS_24 != 0 => self.encoded(now.hour),
            4 => {
                let half = self.encoded((now.hour + 11) % 12 + 1);
                if now.hour >= 12 { half | 0x80 } else { half }
            }
            6 => self.encoded(now.weekday),
            7 => self.encoded(now.day),
            8 => self.encoded(now.month),
            9 => self.encoded(u32::try_from(now.year.rem_euclid(100)).unwrap_or(0)),
            CENTURY => self.encoded(u32::try_from(now.year.div_euclid(100)).unwrap_or(0)),
            STATUS_C => 0,
            STATUS_D => 0x80,
            _ => stored,
        }
    }

    fn put(&mut self, value: u8) {
        if matches!(self.index, STATUS_C | STATUS_D) {
            return;
        }
        let was_held = self.status_b() & HELD != 0;
        if self.index == STATUS_B && value & HELD != 0 && !was_held {
            self.hold();
        }
        let value = match self.index {
            // An update never takes so long that anybody could see it.
            STATUS_A => value & 0x7f,
            _ => value,
        };
        if let Some(place) = self.ram.get_mut(usize::from(self.index)) {
            *place = value;
        }
        if self.index == STATUS_B && value & HELD == 0 && was_held {
            self.set_clock();
        }
    }

    /// The time stops in its registers, to be set.
    fn hold(&mut self) {
        let index = self.index;
        for register in [0, 2, 4, 6, 7, 8, 9, CENTURY] {
            self.index = register;
            let value = self.get();
            if let Some(place) = self.ram.get_mut(usize::from(register)) {
                *place = value;
            }
        }
        self.index = index;
    }

    fn set_clock(&mut self) {
        let field = |at: u8| self.decoded(self.ram.get(usize::from(at)).copied().unwrap_or(0));
        let hour = if self.status_b() & HOURS_24 != 0 {
            field(4)
        } else {
            let raw = self.ram.get(4).copied().unwrap_or(0);
            self.decoded(raw & 0x7f) % 12 + if raw & 0x80 != 0 { 12 } else { 0 }
        };
        let century = match field(CENTURY) {
            century @ 19..=99 => century,
            _ => 20,
        };
        let days = days_from_civil(century * 100 + field(9), field(8).clamp(1, 12), field(7).clamp(1, 31));
        let wanted = days * 86_400 + hour * 3600 + field(2) * 60 + field(0);
        self.offset_seconds = wanted - unix_seconds();
    }
}

impl Registers for Cmos {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let (1, [byte, ..]) = (offset, data) {
            *byte = self.get();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, data) {
            // Bit 7 masks NMIs, of which there are none.
            (0, [index]) => self.index = index & 0x7f,
            // Both registers by one access of 16 bits.
            (0, [index, value, ..]) => {
                self.index = index & 0x7f;
                self.put(*value);
            }
            (1, [value, ..]) => self.put(*value),
            _ => {}
        }
    }
}

impl Cmos {
    /// Itself, if it is of the right size: after a suspend.
    pub fn checked(self) -> Option<Self> {
        (self.ram.len() == BYTES).then_some(self)
    }

    /// Where a BIOS finds why the machine was reset.
    pub fn shutdown_code(&self) -> u8 {
        self.ram.get(usize::from(SHUTDOWN)).copied().unwrap_or(0)
    }
}

fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// A moment of the Gregorian calendar, UTC.
#[derive(Debug, PartialEq, Eq)]
struct Moment {
    year: i64,
    month: u32,
    day: u32,
    /// 1 is Sunday.
    weekday: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

impl Moment {
    fn of(unix: i64) -> Self {
        let (days, seconds) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
        let small = |value: i64| u32::try_from(value).unwrap_or(0);
        // Years that start in March have the leap day at their end; eras of 400 years repeat.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month: small(month),
            day: small(of_year - (153 * march_month + 2) / 5 + 1),
            weekday: small((days + 4).rem_euclid(7) + 1),
            hour: small(seconds / 3600),
            minute: small(seconds / 60 % 60),
            second: small(seconds % 60),
        }
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cmos: &mut Cmos, index: u8) -> u8 {
        cmos.write(0, &[index]);
        let mut byte = [0];
        cmos.read(1, &mut byte);
        byte[0]
    }

    fn write(cmos: &mut Cmos, index: u8, value: u8) {
        cmos.write(0, &[index]);
        cmos.write(1, &[value]);
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        let moment = |unix| {
            let m = Moment::of(unix);
            (m.year, m.month, m.day, m.weekday, m.hour, m.minute, m.second)
        };
        assert_eq!(moment(0), (1970, 1, 1, 5, 0, 0, 0));
        assert_eq!(moment(951_827_696), (2000, 2, 29, 3, 12, 34, 56));
        assert_eq!(moment(4_107_542_399), (2100, 2, 28, 1, 23, 59, 59));
        for day in (0..60_000).step_by(13) {
            let m = Moment::of(day * 86_400);
            assert_eq!(days_from_civil(m.year, m.month.into(), m.day.into()), day);
        }
    }

    #[test]
    fn a_guest_can_set_the_clock_and_reads_it_back() {
        let mut cmos = Cmos::new(256 << 20, 1);
        write(&mut cmos, STATUS_B, HOURS_24 | HELD);
        for (index, bcd) in [(0, 0x30), (2, 0x59), (4, 0x23), (7, 0x31), (8, 0x12), (9, 0x99), (CENTURY, 0x19)] {
            write(&mut cmos, index, bcd);
        }
        write(&mut cmos, STATUS_B, HOURS_24);
        assert_eq!(read(&mut cmos, 9), 0x99);
        assert_eq!(read(&mut cmos, CENTURY), 0x19);
        assert_eq!(read(&mut cmos, 4), 0x23);
        write(&mut cmos, STATUS_B, HOURS_24 | BINARY);
        assert_eq!(read(&mut cmos, 9), 99);
        write(&mut cmos, STATUS_B, BINARY);
        assert_eq!(read(&mut cmos, 4), 11 | 0x80);
    }

    #[test]
    fn seabios_finds_the_machines_size() {
        let mut cmos = Cmos::new(5 << 30, 64);
        assert_eq!(u16::from_le_bytes([read(&mut cmos, 0x34), read(&mut cmos, 0x35)]), 0x7f00);
        assert_eq!((read(&mut cmos, 0x5b), read(&mut cmos, 0x5c), read(&mut cmos, 0x5d)), (0, 0xc0, 0));
        assert_eq!(read(&mut cmos, 0x5f), 63);
        assert_eq!(read(&mut cmos, STATUS_D), 0x80);
        assert_eq!(read(&mut cmos, STATUS_A) & 0x80, 0);
    }

    #[test]
    fn garbage_in_every_register_does_no_harm() {
        let mut cmos = Cmos::new(256 << 20, 1);
        for value in [0, 0x80, 0xff, 0x5a] {
            for index in 0..=255 {
                write(&mut cmos, index, value);
                read(&mut cmos, index);
            }
            cmos.write(0, &[value; 8]);
        }
        cmos.reset(256 << 20, 1);
        assert_eq!(cmos.shutdown_code(), 0);
    }
}
