//! How much of the heap threads may have for themselves, and how much of it is given back.
#![allow(unsafe_code, reason = "the allocator has no safe form for it")]

/// At most so many arenas of the heap for all threads: each keeps what its threads have once needed. Of a second one glibc
/// reads files of `/sys` and `/proc`, when a thread first contends for memory and when a heap shrinks; what is in a jail has one.
pub fn bound(arenas: i32) {
    // SAFETY: mallopt only sets a number of the allocator; it takes no pointers.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
}

/// Gives back to the kernel what is free in the heap, if that is `more` bytes above `known`, which was free when this was last
/// called; answers what is free now. An answer of megabytes leaves as much, for which there may be no use for hours. Costs
/// some milliseconds when there is something to give.
pub fn give_back(known: usize, more: usize) -> usize {
    let free = || {
        // SAFETY: mallinfo2 only reads counters of the allocator, under its own locks.
        unsafe { libc::mallinfo2() }.fordblks
    };
    let now = free();
    if now <= known.saturating_add(more) {
        return now.min(known);
    }
    // SAFETY: malloc_trim only touches memory that is free, under the allocator's own locks.
    let _ = unsafe { libc::malloc_trim(0) };
    free()
}
