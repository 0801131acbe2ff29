//! A socket that its reading and its writing side share.

use std::cell::UnsafeCell;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use monoio::BufResult;
use monoio::buf::{IoBuf, IoVecBuf, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelHandle, CancelableAsyncReadRent};
use monoio::net::TcpStream;

/// A TCP stream of this core. One read-side and one write-side operation may be pending at a time: the halves in
/// `rt::stream` see to that by owning their side.
pub(crate) struct Sock(UnsafeCell<TcpStream>);

impl Sock {
    pub(crate) fn new(stream: std::net::TcpStream) -> io::Result<Self> {
        Ok(Self::from(TcpStream::from_std(stream)?))
    }

    /// The socket without this core. Nothing may be pending on it.
    ///
    /// # Panics
    /// If something is.
    pub(crate) fn into_fd(self) -> OwnedFd {
        let fd = self.0.into_inner().into_raw_fd();
        // SAFETY: the stream gave up the descriptor that it owned, and nobody else owns it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    /// The stream, for one call that starts an operation.
    ///
    /// monoio's methods take `&mut self` but only clone the counted descriptor out of it before their future is first
    /// polled; its own `into_split` relies on the same.
    #[allow(clippy::mut_from_ref)]
    fn stream(&self) -> &mut TcpStream {
        // SAFETY: `Sock` is neither Send nor Sync, and no method of TcpStream that is called here calls back into us, so
        // no two calls are ever inside a method body at once. The fields that operations of both sides use (the counted
        // descriptor) are only read.
        unsafe { &mut *self.0.get() }
    }

    pub(crate) fn recv(&self, buf: SliceMut<Vec<u8>>) -> impl Future<Output = BufResult<usize, SliceMut<Vec<u8>>>> {
        self.stream().read(buf)
    }

    pub(crate) fn recv_cancelable(
        &self,
        buf: SliceMut<Vec<u8>>,
        cancel: CancelHandle,
    ) -> impl Future<Output = BufResult<usize, SliceMut<Vec<u8>>>> {
        self.stream().cancelable_read(buf, cancel)
    }

    pub(crate) fn send<T: IoBuf>(&self, buf: T) -> impl Future<Output = BufResult<usize, T>> {
        self.stream().write(buf)
    }

    pub(crate) fn send_vectored<T: IoVecBuf>(&self, bufs: T) -> impl Future<Output = BufResult<usize, T>> {
        self.stream().writev(bufs)
    }

    /// Waits until a read would not wait.
    pub(crate) fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.stream().readable(false)
    }
}

impl From<TcpStream> for Sock {
    fn from(stream: TcpStream) -> Self {
        Self(UnsafeCell::new(stream))
    }
}

impl AsFd for Sock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor and closes it when it is dropped, not before; the borrow ends before that.
        unsafe { BorrowedFd::borrow_raw(self.stream().as_raw_fd()) }
    }
}

impl std::fmt::Debug for Sock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sock").field(&self.as_fd()).finish()
    }
}

/// Sets SO_RCVLOWAT: readiness is reported from so many bytes on.
pub(crate) fn set_receive_low_water(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    set_number(fd, (libc::SOL_SOCKET, libc::SO_RCVLOWAT), bytes)
}

/// Sets TCP_NOTSENT_LOWAT: writes wait while the kernel holds so many bytes that it has not sent.
pub(crate) fn set_unsent_low_water(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    set_number(fd, (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT), bytes)
}

pub(super) fn set_number(fd: BorrowedFd<'_>, option: (libc::c_int, libc::c_int), number: usize) -> io::Result<()> {
    let number = libc::c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a number points at nothing.
    unsafe { set_option(fd, option, &number) }
}

/// Sets an option, told as level and name.
///
/// # Safety
/// `value` must be what the option takes, and what it points at must be there.
pub(super) unsafe fn set_option<T>(
    fd: BorrowedFd<'_>,
    (level, name): (libc::c_int, libc::c_int),
    value: &T,
) -> io::Result<()> {
    let (value, size) = (std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the call reads `size` bytes at the address of `value`, which lives until it returned; the rest is the caller's promise.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
