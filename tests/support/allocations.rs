//! An allocator that counts.
//!
//! Decides: what counts as an allocation (a new block, or one that grows or moves). May not know: what is measured.
//! Invariant: only what the asking thread allocates is counted, so that tests may run beside each other.
#![expect(
    unsafe_code,
    reason = "an allocator is unsafe by its nature; this one only counts and passes on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;

/// Made the global allocator by whoever counts.
pub(crate) struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Bytes of blocks that this thread allocated less those that it gave back, and the most since `peak_of` began.
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
    static SHOWN: Cell<bool> = const { Cell::new(false) };
}

/// Allocations of this thread so far.
#[allow(dead_code, reason = "some count bytes")]
pub(crate) fn count() -> u64 {
    COUNT.get()
}

/// The most bytes that `run` holds at a time.
#[allow(dead_code, reason = "most count allocations")]
pub(crate) fn peak_of(run: impl FnOnce()) -> usize {
    let before = HELD_BYTES.get();
    PEAK_BYTES.set(before);
    run();
    (PEAK_BYTES.get() - before).unsigned_abs()
}

fn hold(bytes: isize) {
    HELD_BYTES.set(HELD_BYTES.get() + bytes);
    PEAK_BYTES.set(PEAK_BYTES.get().max(HELD_BYTES.get()));
}

/// Prints from where this thread allocates while `run` runs.
#[allow(dead_code, reason = "a benchmark only counts")]
pub(crate) fn show(run: impl FnOnce()) {
    SHOWN.set(true);
    run();
    SHOWN.set(false);
}

fn note(size: usize) {
    COUNT.set(COUNT.get() + 1);
    // Printing allocates too.
    if SHOWN.replace(false) {
        eprintln!("{size} bytes:\n{}", Backtrace::force_capture());
        SHOWN.set(true);
    }
}

// SAFETY: every call goes to the system's allocator with its arguments as they are. Counting neither allocates (the
// cells need neither initialisation nor destruction) nor touches the block; nothing in it panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        hold(layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        hold(-layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on; all blocks are the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        hold(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on; all blocks are the system's.
        unsafe { System.realloc(block, layout, size) }
    }
}
