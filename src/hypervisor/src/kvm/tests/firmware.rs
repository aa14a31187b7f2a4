//! How firmware ends, as the machine sees it: by a mark, by a request, by a triple fault.

use super::*;

const PORT: u32 = 0x0b04;
const HALT_32: &[u8] = &[0xf4, 0xeb, 0xfd];
/// Undefined instruction, without an interrupt table.
const FAULT: &[u8] = &[0x0f, 0x0b];

/// `mov edx, port; mov eax, value; out dx, eax`
fn out(value: u32) -> Vec<u8> {
    let mut code = vec![0xba];
    code.extend(PORT.to_le_bytes());
    code.push(0xb8);
    code.extend(value.to_le_bytes());
    code.push(0xef);
    code
}

/// `mov edx, 0xb08`, then each byte by `mov al, byte; out dx, al`.
fn reason(text: &str) -> Vec<u8> {
    let mut code = vec![0xba, 0x08, 0x0b, 0, 0];
    for byte in text.bytes() {
        code.extend([0xb0, byte, 0xee]);
    }
    code
}

/// Firmware of this code: an ELF file with one segment at 1 MiB, which starts with the note that names its entry.
fn elf(code: &[&[u8]]) -> &'static [u8] {
    const BASE: u64 = 0x10_0000;
    const NOTE_BYTES: u64 = 24;
    let code = code.concat();
    let mut file = vec![0_u8; 0x1000];
    file[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(20, &1_u32.to_le_bytes());
    put(24, &(BASE + NOTE_BYTES).to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(52, &64_u16.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &2_u16.to_le_bytes());
    for (header, kind, bytes) in [(64, 1_u32, NOTE_BYTES + code.len() as u64), (120, 4, NOTE_BYTES)] {
        put(header, &kind.to_le_bytes());
        put(header + 4, &7_u32.to_le_bytes());
        put(header + 8, &0x1000_u64.to_le_bytes());
        put(header + 16, &BASE.to_le_bytes());
        put(header + 24, &BASE.to_le_bytes());
        put(header + 32, &bytes.to_le_bytes());
        put(header + 40, &bytes.to_le_bytes());
        put(header + 48, &4_u64.to_le_bytes());
    }
    for word in [4_u32, 8, 18] {
        file.extend(word.to_le_bytes());
    }
    file.extend(b"Xen\0");
    file.extend((BASE + NOTE_BYTES).to_le_bytes());
    file.extend(code);
    file.leak()
}

fn started_with(code: &[&[u8]]) -> Option<Bench> {
    let start = Start::Firmware { elf: elf(code), bios: Some(bios(&[&say(b'b'), RESET, HALT])) };
    let mut bench = machine(&spec(1), start, None)?;
    bench.guest.go();
    Some(bench)
}

#[test]
fn firmware_that_asks_for_a_bios_or_faults_gets_one_and_a_guest_that_faults_is_reset() {
    let (fall_back, boot) = (out(0x4641_4c42), out(0x424f_4f54));
    for (code, end) in [
        (vec![&reason("no\n")[..], &fall_back, HALT_32], Wish::Bios),
        (vec![FAULT, HALT_32], Wish::Bios),
        (vec![&boot[..], FAULT, HALT_32], Wish::Reset),
        (vec![&boot[..], &fall_back, FAULT, HALT_32], Wish::Reset),
    ] {
        let Some(mut bench) = started_with(&code) else { return };
        assert_eq!(bench.wish(), end, "{code:02x?}");
        // Every reset starts with the firmware; and what a BIOS starts does not have its ports.
        bench.guest.reset(false).unwrap();
        bench.guest.go();
        assert_eq!(bench.wish(), end);
        bench.guest.reset(true).unwrap();
        bench.guest.go();
        bench.hear("b");
        assert_eq!(bench.wish(), Wish::Reset);
    }
}

#[test]
fn what_a_bios_starts_cannot_ask_for_a_bios() {
    let Some(mut bench) = with(&[FALL_BACK, RESET, HALT]) else { return };
    bench.guest.go();
    assert_eq!(bench.wish(), Wish::Reset);
}
