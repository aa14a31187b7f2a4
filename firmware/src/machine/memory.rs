//! Bytes of physical memory, and the functions that compiled code expects a C library to have.

use core::arch::asm;

/// Clears memory that was found free; anything of ours, or beyond 4 GiB, is left alone.
pub fn clear(start: u64, bytes: u64) {
    let Some(end) = start.checked_add(bytes) else { return };
    if start >= super::layout::HEAP_END && end <= 1 << 32 {
        // SAFETY: mapped, RAM by the plan that placed it, and behind all that this program occupies.
        unsafe { memset(start as *mut u8, 0, bytes as usize) };
    }
}

/// # Safety
/// `start..start + bytes` is mapped RAM that nothing writes to meanwhile.
pub unsafe fn view(start: u64, bytes: usize) -> &'static [u8] {
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(start as *const u8, bytes) }
}

// The host target's compiler_builtins leaves these to libc. In eights, because that is fast everywhere (an emulated
// `rep movsb` is not).

/// # Safety
/// As C's memcpy.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges; the direction flag is clear.
    unsafe {
        asm!("rep movsq", "mov ecx, {rest:e}", "rep movsb", rest = in(reg) bytes & 7,
            inout("rcx") bytes >> 3 => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As C's memset.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    let eight = u64::from(value as u8).wrapping_mul(0x0101_0101_0101_0101);
    // SAFETY: the caller vouches for the range; the direction flag is clear.
    unsafe {
        asm!("rep stosq", "mov ecx, {rest:e}", "rep stosb", rest = in(reg) bytes & 7,
            inout("rcx") bytes >> 3 => _, inout("rdi") to => _, in("rax") eight, options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As C's memmove.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= bytes {
        // SAFETY: forward copying reads each byte before it is overwritten.
        return unsafe { memcpy(to, from, bytes) };
    }
    if bytes > 0 {
        // SAFETY: backwards from the last byte; the direction flag is restored.
        unsafe {
            asm!("std", "rep movsb", "cld", inout("rcx") bytes => _, inout("rdi") to.add(bytes - 1) => _,
                inout("rsi") from.add(bytes - 1) => _, options(nostack));
        }
    }
    to
}

/// # Safety
/// As C's memcmp.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, bytes: usize) -> i32 {
    for index in 0..bytes {
        // SAFETY: within both ranges; volatile, so that this loop is not made into a call of itself.
        let (x, y) = unsafe { (a.add(index).read_volatile(), b.add(index).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// # Safety
/// As memcmp.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, bytes: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, bytes) }
}

/// # Safety
/// As C's strlen.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut bytes = 0;
    // SAFETY: the caller vouches for a terminating zero.
    while unsafe { text.add(bytes).read_volatile() } != 0 {
        bytes += 1;
    }
    bytes
}
