//! The heap: blocks of powers of two, freed ones kept by size. Running out panics, which ends in SeaBIOS.

use core::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    ptr::null_mut,
};

use super::layout::{HEAP, HEAP_END};

/// From 16 bytes to 16 MiB.
const CLASSES: usize = 21;
const SMALLEST: usize = 16;

struct State {
    next: usize,
    /// First free block of each size; a free block holds the address of the next.
    free: [usize; CLASSES],
}

struct Heap(UnsafeCell<State>);

// SAFETY: one processor, no interrupts: there is never a second user.
unsafe impl Sync for Heap {}

#[global_allocator]
static GLOBAL: Heap = Heap(UnsafeCell::new(State { next: 0, free: [0; CLASSES] }));

pub fn init() {
    // SAFETY: before the first allocation, on the only processor.
    unsafe { (*GLOBAL.0.get()).next = HEAP as usize };
}

fn class(layout: &Layout) -> Option<(usize, usize)> {
    let bytes = layout.size().max(layout.align()).max(SMALLEST).checked_next_power_of_two()?;
    let class = (bytes / SMALLEST).trailing_zeros() as usize;
    (class < CLASSES).then_some((class, bytes))
}

// SAFETY: blocks are disjoint, inside the heap, as large as asked and aligned to their size (up to a page), since a block
// is a power of two and starts at a multiple of the smaller of itself and a page.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((class, bytes)) = class(&layout).filter(|_| layout.align() <= 4096) else { return null_mut() };
        // SAFETY: no other reference exists: allocation does not call back.
        let state = unsafe { &mut *self.0.get() };
        let free = state.free[class];
        if free != 0 {
            // SAFETY: a freed block of this size, whose first word `dealloc` wrote.
            state.free[class] = unsafe { *(free as *const usize) };
            return free as *mut u8;
        }
        let start = state.next.next_multiple_of(bytes.min(4096));
        match start.checked_add(bytes) {
            Some(end) if end <= HEAP_END as usize => {
                state.next = end;
                start as *mut u8
            }
            _ => null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((class, _)) = class(&layout) else { return };
        // SAFETY: as in alloc; the block was handed out for this layout and is not used any more.
        unsafe {
            let state = &mut *self.0.get();
            *block.cast::<usize>() = state.free[class];
            state.free[class] = block as usize;
        }
    }
}
