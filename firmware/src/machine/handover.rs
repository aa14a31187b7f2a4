//! The two ways out: into Linux, or back to the VMM with a reason. README.md is the contract.

use core::arch::asm;

use super::{
    io::{inb, inl, outb, outl, outw},
    serial,
};

/// Reads as [`SOLO`] under our own VMM, as all ones elsewhere.
const SIGNATURE: u16 = 0x0b00;
const SOLO: u32 = 0x534f_4c4f;
/// Takes one of the two words below. QEMU's back end has an isa-debug-exit here.
const REQUEST: u16 = 0x0b04;
const FALL_BACK: u32 = 0x4641_4c42;
const STARTED: u32 = 0x424f_4f54;
/// Takes the reason, byte by byte up to a newline, before the request. QEMU's back end has an isa-debugcon here.
const REASON: u16 = 0x0b08;
/// The byte of CMOS by which the option ROM of QEMU's back end and we tell each other how a start went.
const MARK: u8 = 0x7f;
const TRYING: u8 = 0xb1;
const BIOS_WANTED: u8 = 0xb2;
const NO_MARK: u8 = 0;
/// What the same back end reads when the next thing is Linux.
const STARTED_LINE: &[u8] = b"BOOT\n";

/// Index and data of CMOS; the top bit keeps non-maskable interrupts off.
fn select(index: u8) {
    outb(0x70, index | 0x80);
}

fn started_by_option_rom() -> bool {
    select(MARK);
    inb(0x71) == TRYING
}

fn set_mark(mark: u8) {
    select(MARK);
    outb(0x71, mark);
}

pub fn give_up(reason: &str) -> ! {
    end(&[reason])
}

/// Without allocating: a text and some numbers.
pub fn give_up_at(what: &str, numbers: &[u64]) -> ! {
    let mut text = [b' '; 17 * 4];
    let mut used = 0;
    for number in numbers.iter().take(4) {
        for digit in 0..16 {
            let nibble = (number >> (60 - 4 * digit)) as usize & 15;
            text[used + 1 + digit] = b"0123456789abcdef"[nibble];
        }
        used += 17;
    }
    let digits = core::str::from_utf8(&text[..used]).unwrap_or("");
    end(&["stopped at ", what, digits])
}

fn end(reason: &[&str]) -> ! {
    for part in reason {
        for byte in part.bytes().take(512) {
            outb(REASON, if matches!(byte, b' '..=b'~') { byte } else { b'?' });
        }
    }
    outb(REASON, b'\n');
    serial::parts(&[
        "solo-fw: cannot start this disk itself: ",
        reason.first().unwrap_or(&""),
        reason.get(1).unwrap_or(&""),
        reason.get(2).unwrap_or(&""),
    ]);
    let solo = inl(SIGNATURE) == SOLO;
    if !solo && started_by_option_rom() {
        set_mark(BIOS_WANTED);
        outb(0xcf9, 2);
        outb(0xcf9, 6);
        halt();
    }
    // Does not return where anybody listens.
    outl(REQUEST, FALL_BACK);
    if !solo {
        // Plain QEMU: power off by q35's PM1a control register, so that it is seen at all.
        outw(0x604, 0x2000);
    }
    halt();
}

fn halt() -> ! {
    loop {
        // SAFETY: nothing is left to do; interrupts stay off.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}

#[repr(C, align(4096))]
struct ZeroPage([u8; 4096]);

static mut ZERO_PAGE: ZeroPage = ZeroPage([0; 4096]);

// From long mode to the 32-bit entry: a code segment of 32 bits, paging off, long mode off. rax: the entry, rsi: the zero
// page; both below 4 GiB. Selectors are the same two.
core::arch::global_asm!(
    r#"
.section .text.start_32, "ax"
.code64
.global start_linux_32
start_linux_32:
    lgdt [rip + gdt_32_pointer]
    push 0x10
    lea rdx, [rip + 1f]
    push rdx
    retfq
.code32
1:  mov edx, 0x18
    mov ds, edx
    mov es, edx
    mov fs, edx
    mov gs, edx
    mov ss, edx
    mov edi, eax
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    and eax, 0xfffffeff
    wrmsr
    xor eax, eax
    mov cr3, eax
    mov cr4, eax
    mov eax, edi
    xor edi, edi
    xor ebp, ebp
    xor ebx, ebx
    jmp eax
.code64
.align 8
gdt_32:
    .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_32_pointer:
    .word 31
    .quad gdt_32
"#
);

/// Jumps. Segments and the one-to-one map are as Linux's 64-bit entry wants them.
pub fn start_linux(entry: u64, is_64: bool, zero_page: &[u8; 4096]) -> ! {
    let page = &raw mut ZERO_PAGE;
    // SAFETY: ours alone; copied because the kernel reads it after this stack is gone.
    unsafe { page.write(ZeroPage(*zero_page)) };
    if inl(SIGNATURE) == SOLO {
        outl(REQUEST, STARTED);
    } else if started_by_option_rom() {
        set_mark(NO_MARK);
        for byte in STARTED_LINE {
            outb(REASON, *byte);
        }
    }
    if is_64 {
        // SAFETY: the entry of a loaded kernel whose header was checked; nothing of ours is needed after this.
        unsafe { asm!("cli", "cld", "jmp rax", in("rax") entry, in("rsi") page, options(noreturn)) }
    }
    // SAFETY: as above, by way of the code before this function.
    unsafe { asm!("cli", "cld", "jmp start_linux_32", in("rax") entry, in("rsi") page, options(noreturn)) }
}
