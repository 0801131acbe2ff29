//! Giving memory back.

/// Asks the allocator of this thread to return what it holds and nobody uses. It does nothing for memory of another
/// allocator.
pub(crate) fn collect_memory() {
    // SAFETY: `mi_collect` takes no pointer, may be called on any thread at any time, and only touches the allocator's own
    // state of this thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
