//! Waiting for the first of two futures, both of which live on.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Which of two futures ended.
#[derive(Debug)]
pub enum Either<A, B> {
    /// The first one; it wins when both are ready.
    Left(A),
    /// The second one.
    Right(B),
}

/// Waits until `a` or `b` is ready. The other one is left as it is, posted operations included, and may be waited for
/// again; a future that ended must not be.
pub async fn select2<A, B>(a: &mut A, b: &mut B) -> Either<A::Output, B::Output>
where
    A: Future + Unpin + ?Sized,
    B: Future + Unpin + ?Sized,
{
    poll_fn(|cx| match Pin::new(&mut *a).poll(cx) {
        Poll::Ready(left) => Poll::Ready(Either::Left(left)),
        Poll::Pending => Pin::new(&mut *b).poll(cx).map(Either::Right),
    })
    .await
}
