//! The rules that `rt` promises, on io_uring, on forced epoll, and where a seccomp filter refuses io_uring.

mod halves;
mod sleepers;
mod sockets;
mod tasks;

use std::future::Future;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// Runs the test on a core of its own for every driver.
fn on_each_driver<F: Future<Output = ()> + 'static>(test: impl Fn() -> F + Copy + Send + 'static) {
    match probe(DriverChoice::Uring) {
        Ok(driver) => on_thread(move || run(driver, test).expect("it was probed")),
        Err(refused) => drop(writeln!(io::stderr(), "SKIPPED on io_uring, not passed: {refused}")),
    }
    on_thread(move || run(Driver::Epoll, test).expect("epoll is always there"));
    on_thread(move || {
        crate::sys::deny_io_uring().expect("a filter may always be added");
        let driver = probe(DriverChoice::Auto).expect("epoll is left");
        assert_eq!(driver, Driver::Epoll);
        run(driver, test).expect("epoll needs no io_uring");
    });
}

fn on_thread(body: impl FnOnce() + Send + 'static) {
    if let Err(panic) = std::thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A client that gives up after a while, so that no test hangs.
fn client_of(listener: &Listener) -> TcpStream {
    let client = TcpStream::connect(listener.local_addr()).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

async fn accept(listener: &mut Listener) -> Stream {
    match timeout(SOON, listener.accept(&StopToken::new())).await.unwrap() {
        Accepted::Socket(fd, _) => Stream::from_fd(fd).unwrap(),
        Accepted::Stopped => panic!("nobody stopped it"),
    }
}

/// A connection of this core and its client.
async fn pair() -> (Stream, TcpStream) {
    let mut listener = Listener::bind(loopback(), 16).unwrap();
    let client = client_of(&listener);
    (accept(&mut listener).await, client)
}

/// Lets everything that is ready happen.
async fn settle() {
    for _ in 0..10 {
        yield_now().await;
    }
}

async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    let mut ticks = std::pin::pin!(settle());
    matches!(select2(future, &mut ticks).await, Either::Right(()))
}

fn is_closed(result: io::Result<usize>) -> bool {
    match result {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_forced_uring_fails_with_a_sentence_where_it_is_refused() {
    on_thread(|| {
        crate::sys::deny_io_uring().unwrap();
        let refused = probe(DriverChoice::Uring).unwrap_err().to_string();
        assert!(refused.contains("seccomp") && refused.contains("io.driver"), "{refused}");
    });
}

#[test]
fn a_thread_is_pinned_to_a_cpu_it_may_use() {
    on_thread(|| {
        let last = *cores().unwrap().last().unwrap();
        pin_to(last).unwrap();
        assert_eq!(cores().unwrap(), [last]);
        assert!(pin_to(usize::MAX).is_err());
    });
}

#[test]
fn a_core_knows_its_driver_while_it_runs() {
    on_each_driver(|| async { assert!(current_driver().is_some()) });
    assert_eq!(current_driver(), None);
}

fn before(deadline: Instant) -> bool {
    Instant::now() < deadline
}
