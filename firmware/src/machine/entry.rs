//! The PVH note, the way from there to 64-bit Rust, and the exceptions.

use core::arch::global_asm;

// XEN_ELFNOTE_PHYS32_ENTRY (18) names the entry: 32-bit, paging off, flat segments, ebx = start info. From there: clear the
// bss (a reset leaves old memory), map 4 GiB one to one in 2 MiB pages, SSE on (the target's code uses it), long mode.
// Segments are at the selectors that Linux's 64-bit entry demands: code 0x10, data 0x18.
global_asm!(
    r#"
.section .note.pvh, "a", @note
.align 4
    .long 4, 4, 18
    .asciz "Xen"
    .align 4
    .long start32

.section .text.boot, "ax"
.code32
.global start32
start32:
    cli
    cld
    mov esi, ebx
    mov edi, offset bss_start
    mov ecx, offset bss_end
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd
    mov edi, esi

    xor ecx, ecx
1:  mov eax, ecx
    shl eax, 21
    or eax, 0x83
    mov dword ptr [page_directories + ecx*8], eax
    mov dword ptr [page_directories + ecx*8 + 4], 0
    inc ecx
    cmp ecx, 2048
    jne 1b
    xor ecx, ecx
2:  mov eax, ecx
    shl eax, 12
    add eax, offset page_directories
    or eax, 3
    mov dword ptr [page_pointers + ecx*8], eax
    inc ecx
    cmp ecx, 4
    jne 2b
    mov eax, offset page_pointers
    or eax, 3
    mov dword ptr [page_root], eax
    mov eax, offset page_root
    mov cr3, eax
    mov eax, cr4
    or eax, 0x620           // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov ecx, 0xc0000080     // EFER.LME
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, cr0
    and eax, 0xfffffffb     // no emulation of the FPU
    or eax, 0x80000003      // paging, monitor coprocessor, protected
    mov cr0, eax
    lgdt [gdt_pointer]
    mov esp, offset exception_stack_top     // PVH gives no stack; the far return below needs one
    push 0x10
    mov eax, offset start64
    push eax
    retf

.code64
start64:
    mov ax, 0x18
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    lea rsp, [rip + stack_top]
    mov edi, edi
    xor ebp, ebp
    call rust_main
    ud2

// Any exception: the stack may be the reason, so a new one.
.global exception_entry
exception_entry:
    mov rdi, [rsp]
    mov rsi, [rsp + 8]
    mov rdx, cr2
    lea rsp, [rip + exception_stack_top]
    call exception
    ud2

.align 8
gdt:
    .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .word 31
    .quad gdt

.section .bss.boot, "aw", @nobits
.align 4096
.global page_root
page_root: .skip 4096
page_pointers: .skip 4096
page_directories: .skip 16384
exception_stack: .skip 8192
exception_stack_top:

// Not cleared: 512 KiB of stack.
.section .stack, "aw", @nobits
.align 4096
.skip 524288
stack_top:
"#
);

/// An interrupt gate of the 64-bit IDT.
#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    low: u16,
    selector: u16,
    kind: u16,
    middle: u16,
    high: u32,
    zero: u32,
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

const EXCEPTIONS: usize = 32;
static mut IDT: [Gate; EXCEPTIONS] = [Gate { low: 0, selector: 0, kind: 0, middle: 0, high: 0, zero: 0 }; EXCEPTIONS];

unsafe extern "C" {
    fn exception_entry();
}

/// From here on a fault ends in SeaBIOS instead of a triple fault.
pub fn catch_exceptions() {
    let entry = exception_entry as *const () as u64;
    // 0x8e: present, interrupt gate.
    let gate = Gate {
        low: entry as u16,
        selector: 0x10,
        kind: 0x8e00,
        middle: (entry >> 16) as u16,
        high: (entry >> 32) as u32,
        zero: 0,
    };
    let table = &raw mut IDT;
    // SAFETY: nothing else uses IDT, and only one processor runs.
    unsafe { table.write([gate; EXCEPTIONS]) };
    let pointer = Pointer { limit: (size_of::<[Gate; EXCEPTIONS]>() - 1) as u16, base: table as u64 };
    // SAFETY: the table is complete and static.
    unsafe { core::arch::asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
}

#[unsafe(no_mangle)]
extern "C" fn exception(first: u64, second: u64, address: u64) -> ! {
    super::handover::give_up_at("an exception in the firmware", &[first, second, address])
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    // Without the message: formatting it may allocate, and no memory may be the reason.
    let line = info.location().map_or(0, |location| u64::from(location.line()));
    let file = info.location().map_or("", |location| location.file());
    let file = file.rsplit_once('/').map_or(file, |(_, name)| name);
    super::handover::give_up_at(file, &[line])
}
