//! Posted reads, cancelling, killing.

use std::io::{Read, Write};
use std::pin::pin;

use super::*;

fn room(bytes: usize) -> Vec<u8> {
    Vec::with_capacity(bytes)
}

#[test]
fn a_posted_read_survives_other_waits() {
    on_each_driver(|| async {
        let (stream, mut client) = pair().await;
        let (read, mut write) = stream.split();
        let mut posted = read.post_read(room(64));
        assert!(is_pending(&mut posted).await);
        write.write_all(b"answer".to_vec()).await.0.unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        assert!(is_pending(&mut posted).await);
        client.write_all(b"next").unwrap();
        let (_read, outcome) = timeout(SOON, posted).await.unwrap();
        assert!(matches!(outcome, PostedOutcome::Read(Ok(4), buf) if buf == b"next"));
    });
}

/// Sends bytes before, between and after post and cancellation, and counts what comes out.
async fn race(seed: u64) {
    println!("seed {seed}");
    let (stream, mut client) = pair().await;
    let (mut read, _write) = stream.split();
    let (mut random, mut sent, mut got) = (seed, Vec::new(), Vec::new());
    let mut cancelled = 0;
    for round in 0..300_u32 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut send = |when: u64| {
            if random & 3 == when {
                client.write_all(&round.to_le_bytes()).unwrap();
                sent.extend(round.to_le_bytes());
            }
        };
        send(0);
        let mut posted = read.post_read(got);
        let first = if random & 4 == 0 {
            select2(&mut posted, &mut std::future::ready(())).await
        } else {
            select2(&mut posted, &mut pin!(yield_now())).await
        };
        send(1);
        let ended = match first {
            Either::Left(ended) => ended,
            Either::Right(()) => {
                posted.cancel();
                send(2);
                timeout(SOON, posted).await.expect("a cancelled read ends")
            }
        };
        read = ended.0;
        got = match ended.1 {
            PostedOutcome::Read(Ok(_), buf) => buf,
            PostedOutcome::Cancelled(buf) => {
                cancelled += 1;
                buf
            }
            other => panic!("{other:?}"),
        };
    }
    while got.len() < sent.len() {
        let (result, buf) = timeout(SOON, read.read(got)).await.expect("all bytes arrive");
        assert!(result.unwrap() > 0);
        got = buf;
    }
    assert_eq!(got, sent);
    assert!(cancelled > 0 && !sent.is_empty(), "the race was one");
}

#[test]
fn cancelling_loses_no_byte() {
    on_each_driver(|| async {
        for seed in [7, 99, 123_456_789] {
            race(seed).await;
        }
    });
}

#[test]
fn a_cancelled_read_gives_everything_back() {
    on_each_driver(|| async {
        let (stream, mut client) = pair().await;
        let (read, write) = stream.split();
        let canceller = read.canceller();
        let mut posted = read.post_read(b"kept".to_vec());
        assert!(is_pending(&mut posted).await);
        spawn(async move { canceller.cancel() });
        let (read, outcome) = timeout(SOON, posted).await.unwrap();
        assert!(matches!(outcome, PostedOutcome::Cancelled(buf) if buf == b"kept"));

        let mut stream = Stream::from_fd(read.unsplit(write).into_fd()).unwrap();
        client.write_all(b"new").unwrap();
        let (result, buf) = stream.read(b"kept ".to_vec()).await;
        assert_eq!((result.unwrap(), buf.as_slice()), (3, b"kept new".as_slice()));
    });
}

#[test]
fn a_posted_read_sees_the_client_leave() {
    on_each_driver(|| async {
        let (stream, client) = pair().await;
        let (read, _write) = stream.split();
        let mut posted = read.post_read(room(64));
        assert!(is_pending(&mut posted).await);
        drop(client);
        let (_read, outcome) = timeout(SOON, posted).await.unwrap();
        assert!(matches!(outcome, PostedOutcome::Read(Ok(0), _)), "{outcome:?}");
    });
}

#[test]
fn the_killer_ends_a_pending_read_and_a_pending_write() {
    on_each_driver(|| async {
        let (stream, _client) = pair().await;
        let killer = stream.killer();
        let (read, mut write) = stream.split();
        let mut posted = read.post_read(room(64));
        {
            let mut writing = pin!(write.write_all(vec![0; 64 << 20]));
            assert!(is_pending(&mut writing).await);
            assert!(is_pending(&mut posted).await);
            killer.kill();
            let (result, _buf) = timeout(SOON, writing).await.unwrap();
            assert!(result.is_err());
        }
        let (_read, outcome) = timeout(SOON, posted).await.unwrap();
        assert!(matches!(outcome, PostedOutcome::Read(Ok(0), _)), "{outcome:?}");
    });
}

#[test]
fn a_killer_outlives_its_connection_and_hits_no_other() {
    on_each_driver(|| async {
        let (stream, _client) = pair().await;
        let killer = stream.killer();
        drop(stream);
        settle().await;
        let (mut other, mut client) = pair().await;
        killer.kill();
        client.write_all(b"alive").unwrap();
        assert_eq!(other.read(room(64)).await.0.unwrap(), 5);
    });
}

#[test]
fn dropping_both_halves_closes_and_dropping_one_does_not() {
    on_each_driver(|| async {
        let (stream, mut client) = pair().await;
        let (mut read, write) = stream.split();
        drop(write);
        settle().await;
        client.write_all(b"still open").unwrap();
        assert_eq!(read.read(room(64)).await.0.unwrap(), 10);
        let mut posted = read.post_read(room(64));
        assert!(is_pending(&mut posted).await);
        drop(posted);
        settle().await;
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    });
}

#[test]
fn an_aborted_connection_is_reset() {
    on_each_driver(|| async {
        let (stream, mut client) = pair().await;
        let (read, write) = stream.split();
        let mut posted = read.post_read(room(64));
        assert!(is_pending(&mut posted).await);
        write.abort();
        let (read, _outcome) = timeout(SOON, posted).await.unwrap();
        drop((read, write));
        settle().await;
        assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}
