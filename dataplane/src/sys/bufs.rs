//! Two buffers that leave in one write.

use monoio::buf::{IoBuf, IoVecBuf};

/// A head and a body, and the table that the kernel reads their places from.
pub(crate) struct TwoBufs<B> {
    // On the heap, because the operation is moved after the kernel got its address.
    table: Box<[libc::iovec; 2]>,
    head: Vec<u8>,
    body: B,
}

impl<B: IoBuf> TwoBufs<B> {
    pub(crate) fn new(head: Vec<u8>, body: B) -> Self {
        let entry = |ptr: *const u8, len| libc::iovec { iov_base: ptr.cast_mut().cast(), iov_len: len };
        let table = Box::new([entry(head.as_ptr(), head.len()), entry(body.read_ptr(), body.bytes_init())]);
        Self { table, head, body }
    }

    pub(crate) fn into_parts(self) -> (Vec<u8>, B) {
        (self.head, self.body)
    }
}

// SAFETY: the table names memory of `head` and `body`, whose addresses stay when they are moved (`IoBuf` demands it of
// `body`), which live as long as `self`, and which nothing changes before `into_parts`. The kernel only reads it.
unsafe impl<B: IoBuf> IoVecBuf for TwoBufs<B> {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.table.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.table.len()
    }
}
