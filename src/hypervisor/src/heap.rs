//! How much of the heap threads may have for themselves.
#![allow(unsafe_code, reason = "the allocator has no safe form for it")]

/// At most so many arenas of the heap for all threads: each keeps what its threads have once needed. Of a second one glibc
/// reads files of `/sys` and `/proc`, when a thread first contends for memory and when a heap shrinks; what is in a jail has one.
pub fn bound(arenas: i32) {
    // SAFETY: mallopt only sets a number of the allocator; it takes no pointers.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
}
