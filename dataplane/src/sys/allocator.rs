//! The process's allocator: mimalloc, asked in the way that is quick.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{mi_free, mi_malloc, mi_realloc, mi_zalloc};
use mimalloc::MiMalloc;

/// mimalloc aligns every block of at least 16 bytes to 16, and smaller ones to 8. The crate's own binding always names the
/// alignment, and then the allocator takes a slower path for all that is larger than 1 KiB, and more memory.
#[derive(Debug)]
pub struct Allocator;

/// Whether each block of this size is aligned enough without being asked to.
fn is_plain(size: usize, align: usize) -> bool {
    align <= 8 && size >= 8 || align <= 16 && size >= 16 || align == 1
}

// SAFETY: every block comes from mimalloc, in the alignment that the layout asks for (`is_plain` says when that needs no
// asking; MI_MAX_ALIGN_SIZE is 16), and goes back to it; `mi_free` and `mi_realloc` take blocks of either kind.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_plain(layout.size(), layout.align()) {
            // SAFETY: any size may be asked for.
            return unsafe { mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_plain(layout.size(), layout.align()) {
            // SAFETY: any size may be asked for.
            return unsafe { mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc_zeroed`.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the block is one of mimalloc's, and the caller gives it up.
        unsafe { mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_plain(size, layout.align()) {
            // SAFETY: the block is one of mimalloc's, and the caller gives it up unless the result is null.
            return unsafe { mi_realloc(block.cast(), size) }.cast();
        }
        // SAFETY: the caller keeps the promises of `GlobalAlloc::realloc`.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_keep_their_bytes() {
        for align in [1, 2, 4, 8, 16, 32, 64, 128, 4096] {
            for size in [1, 7, 8, 15, 16, 17, 48, 100, 1024, 1025, 5000, 70_000] {
                check(Layout::from_size_align(size, align).unwrap());
            }
        }
    }

    fn check(layout: Layout) {
        let (align, size) = (layout.align(), layout.size());
        // SAFETY: each block is used within its size, and freed once with the layout that it has by then.
        unsafe {
            let zeroed = Allocator.alloc_zeroed(layout);
            assert!((0..size).all(|i| *zeroed.add(i) == 0), "{layout:?}");
            Allocator.dealloc(zeroed, layout);
            let block = Allocator.alloc(layout);
            assert!(!block.is_null() && block.addr().is_multiple_of(align), "{layout:?}");
            block.write_bytes(7, size);
            let grown = Allocator.realloc(block, layout, 3 * size);
            assert!(grown.addr().is_multiple_of(align), "{layout:?} grown");
            assert!((0..size).all(|i| *grown.add(i) == 7), "{layout:?} grown");
            Allocator.dealloc(grown, Layout::from_size_align(3 * size, align).unwrap());
        }
    }
}
