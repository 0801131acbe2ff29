//! Listening, connecting, reading, writing.

use std::io::{Read, Write};
use std::pin::pin;

use bytes::Bytes;
use socket2::{Domain, Socket, Type};

use super::*;

#[test]
fn bytes_are_echoed() {
    on_each_driver(|| async {
        let (mut stream, mut client) = pair().await;
        for size in [1, 100, 5000] {
            client.write_all(&vec![7; size]).unwrap();
            let mut buf = Vec::new();
            while buf.len() < size {
                buf = stream.read(buf).await.1;
            }
            stream.write_all(buf).await.0.unwrap();
            let mut back = vec![0; size];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, vec![7; size]);
        }
    });
}

#[test]
fn a_head_and_a_large_body_leave_together() {
    on_each_driver(|| async {
        for size in [0, 1, 8 << 20] {
            let (mut stream, mut client) = pair().await;
            let reader = std::thread::spawn(move || {
                let mut all = Vec::new();
                client.read_to_end(&mut all).map(|_| all)
            });
            let body = Bytes::from(vec![b'b'; size]);
            let (result, head, body) = stream.write_two(b"head".to_vec(), body).await;
            result.unwrap();
            assert_eq!((head.as_slice(), body.len()), (b"head".as_slice(), size));
            drop(stream);
            settle().await;
            let all = reader.join().unwrap().unwrap();
            assert!(all.starts_with(b"head") && all.len() == 4 + size && all[4..].iter().all(|&b| b == b'b'));
        }
    });
}

#[test]
fn bytes_of_a_known_number_are_waited_for() {
    on_each_driver(|| async {
        let (mut stream, mut client) = pair().await;
        for _ in 0..2 {
            client.write_all(&[1; 600]).unwrap();
            {
                let mut wait = pin!(stream.wait_bytes(1000));
                assert!(is_pending(&mut wait).await);
                client.write_all(&[2; 400]).unwrap();
                timeout(SOON, wait).await.unwrap().unwrap();
            }
            assert_eq!(stream.read(Vec::with_capacity(4096)).await.0.unwrap(), 1000);
        }
        // The mark is taken back, and the peer's end ends the wait.
        client.write_all(&[3]).unwrap();
        timeout(SOON, stream.readable()).await.unwrap().unwrap();
        drop(client);
        timeout(SOON, stream.wait_bytes(1000)).await.unwrap().unwrap();
        assert_eq!(stream.read(Vec::with_capacity(4096)).await.0.unwrap(), 1);
    });
}

#[test]
fn a_wait_for_bytes_that_is_given_up_leaves_no_mark() {
    on_each_driver(|| async {
        let (mut stream, mut client) = pair().await;
        assert!(timeout(Duration::from_millis(2), stream.wait_bytes(1000)).await.is_err());
        client.write_all(&[1]).unwrap();
        timeout(SOON, stream.readable()).await.unwrap().unwrap();
    });
}

#[test]
fn only_an_open_and_silent_connection_is_alive() {
    on_each_driver(|| async {
        let (stream, mut client) = pair().await;
        assert!(stream.is_alive());
        client.write_all(b"unasked").unwrap();
        settle().await;
        assert!(!stream.is_alive());

        let (stream, client) = pair().await;
        drop(client);
        settle().await;
        assert!(!stream.is_alive());
    });
}

/// An address that answers nobody: its queue is full.
fn full_listener() -> (Socket, SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&loopback().into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let fill = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&addr.into());
        socket
    };
    let queued = (0..3).map(|_| fill()).collect();
    (listener, addr, queued)
}

#[test]
fn a_connect_that_nobody_answers_times_out() {
    on_each_driver(|| async {
        let (_listener, addr, _queued) = full_listener();
        let error = Stream::connect(addr, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_connect_reaches_a_listener_and_is_refused_by_a_closed_port() {
    on_each_driver(|| async {
        let mut listener = Listener::bind(loopback(), 16).unwrap();
        let addr = listener.local_addr();
        let mut near = Stream::connect(addr, SOON).await.unwrap();
        let mut far = accept(&mut listener).await;
        near.write_all(b"hello".to_vec()).await.0.unwrap();
        assert_eq!(far.read(Vec::new()).await.1, b"hello");
        drop((near, far, listener));
        settle().await;
        let error = Stream::connect(addr, SOON).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn drain_takes_all_that_wait() {
    on_each_driver(|| async {
        let mut listener = Listener::bind(loopback(), 64).unwrap();
        let clients: Vec<_> = (0..20).map(|_| client_of(&listener)).collect();
        assert_eq!(listener.drain().len(), clients.len());
        assert!(listener.drain().is_empty());
    });
}

#[test]
fn who_passes_on_gets_no_new_connection_and_who_follows_has_its_share_again() {
    on_each_driver(|| async {
        let mut old = Listener::bind(loopback(), 64).unwrap();
        let address = old.local_addr();
        let mut new = [(); 2].map(|()| Listener::bind(address, 64).unwrap());
        let got = |new: &mut [Listener; 2]| {
            let _clients: Vec<_> = (0..40).map(|_| client_of(&new[0])).collect();
            new.each_mut().map(|listener| listener.drain().len())
        };
        old.pass_on(1);
        assert_eq!(got(&mut new), [40, 0]);
        assert!(old.drain().is_empty() && old.end().is_empty());
        // The last of them has taken the place of who ended, and nobody is told to share before one of them asks for it.
        assert_eq!(got(&mut new), [40, 0]);
        new[0].pass_on_no_more();
        let shared = got(&mut new);
        assert!(shared[0] > 0 && shared[1] > 0, "{shared:?}");
    });
}

#[test]
fn a_stopped_accept_leaves_no_connection_behind() {
    on_each_driver(|| async {
        for round in 0..100 {
            let mut listener = Listener::bind(loopback(), 64).unwrap();
            let stop = StopToken::new();
            let mut clients = Vec::new();
            let mut taken = 0;
            {
                let mut accepting = pin!(listener.accept(&stop));
                if round % 2 == 0 {
                    let _ = select2(&mut accepting, &mut std::future::ready(())).await;
                }
            }
            clients.push(client_of(&listener));
            {
                let mut accepting = pin!(listener.accept(&stop));
                if round % 3 == 0 {
                    let accepted = timeout(SOON, &mut accepting).await.unwrap();
                    taken += usize::from(matches!(accepted, Accepted::Socket(..)));
                } else {
                    stop.stop();
                    assert!(matches!(timeout(SOON, &mut accepting).await.unwrap(), Accepted::Stopped));
                }
            }
            taken += listener.drain().len();
            assert_eq!(taken, clients.len());
            drop(listener);
            settle().await;
            // A descriptor that had leaked would hold the connection open.
            assert!(clients.iter_mut().all(|client| is_closed(client.read(&mut [0; 1]))));
        }
    });
}

#[test]
fn a_client_that_does_not_read_makes_the_kernel_hold_little() {
    /// Unbounded, the kernel takes 2.5 MiB or more for such a client.
    const MOST: usize = 1 << 20;
    on_each_driver(|| async {
        let (mut stream, _client) = pair().await;
        let mut written = 0;
        loop {
            match timeout(Duration::from_millis(200), stream.write_all(vec![0; 16 << 10])).await {
                Ok((result, _)) => result.unwrap(),
                Err(_) => break,
            }
            written += 16 << 10;
            assert!(written <= MOST, "{written} bytes were taken");
        }
    });
}
