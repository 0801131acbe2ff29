//! Peers that break the protocol: what they send ends in messages or in an error, each time, and is never more than came in.

use std::panic::catch_unwind;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::frame::{self, Decoder, Sent};
use super::{Connection, Role, ZmtpError, greeting};
use crate::chance::testing::Rng;

const ROUNDS: u64 = 100_000;
/// Connections take longer.
const CONNECTIONS: u64 = 2_000;
/// No connection is waited for for so long: its peer has said all that it will, and closes.
const LIMIT: Duration = Duration::from_secs(10);
/// Flags, and what lengths and names are made of.
const TELLING: [u8; 14] = [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x10, 0x7f, 0x80, 0xff, b'R', b'P'];

/// What a publisher sends once it is greeted: messages long and short, with commands between them.
fn said(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=rng.index(4) {
        let (number, payload) = (rng.below(u64::MAX).to_be_bytes(), vec![7; rng.index(600)]);
        match rng.index(4) {
            // With all of it or less.
            0 => frame::command(&b"\x04PING\0\x0acontext"[..5 + rng.index(10)], &mut bytes),
            1 => frame::message(&[b"", &number, &payload], &mut bytes),
            2 => frame::message(&[b"", b"topic", &number, &payload], &mut bytes),
            _ => frame::message(&[b"topic", &number, &payload], &mut bytes),
        }
    }
    bytes
}

/// All that is taken out of these pieces, and why no more.
fn taken<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> (Vec<Sent>, Option<String>) {
    let (mut decoder, mut buffer, mut sent) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buffer) {
                Ok(Some(next)) => sent.push(next),
                Ok(None) => break,
                Err(fault) => return (sent, Some(fault.to_string())),
            }
        }
    }
    (sent, None)
}

fn check(bytes: &[u8], cut: usize) {
    let whole = taken([bytes].into_iter());
    assert_eq!(taken(bytes.chunks(cut)), whole, "however it is cut");
    let size = |sent: &Sent| match sent {
        Sent::Message(frames) => frames.iter().map(|frame| frame.len() + 2).sum(),
        Sent::Command(body) => body.len() + 2,
    };
    assert!(whole.0.iter().map(size).sum::<usize>() <= bytes.len());
    for sent in &whole.0 {
        if let Sent::Command(command) = sent {
            // A kind, or an error that quotes the peer: no longer than what it said, where each byte may be replaced by three.
            let told = greeting::socket_type(command).unwrap_or_else(|fault| fault.to_string());
            assert!(told.len() <= 3 * command.len() + 80, "{told}");
        }
    }
}

#[test]
fn changed_frames_never_panic_nor_grow_and_mean_the_same_however_they_are_cut() {
    for seed in 0..ROUNDS {
        let mut rng = Rng::new(seed);
        let mut bytes = Vec::new();
        if rng.one_in(4) {
            greeting::ready(rng.pick(&["PUB", "ROUTER", "DEALER"]), &mut bytes);
        }
        bytes.extend(said(&mut rng));
        rng.change(&mut bytes, &TELLING);
        let cut = 1 + rng.index(40);
        assert!(catch_unwind(|| check(&bytes, cut)).is_ok(), "seed {seed}: {bytes:?}");
    }
}

#[test]
fn a_changed_greeting_is_taken_or_refused() {
    for seed in 0..ROUNDS {
        let mut rng = Rng::new(seed);
        let mut bytes = greeting::ours().to_vec();
        rng.change(&mut bytes, &TELLING);
        bytes.resize(greeting::LENGTH, 0);
        if rng.one_in(4) {
            let from = rng.index(greeting::LENGTH);
            bytes[from..].fill(rng.pick(&TELLING));
        }
        let greeting = bytes.try_into().unwrap();
        assert!(catch_unwind(|| drop(greeting::check(&greeting))).is_ok(), "seed {seed}: {greeting:?}");
    }
}

/// Hears a peer until it is done with; how many messages came.
async fn heard(stream: TcpStream, role: Role) -> (usize, ZmtpError) {
    let mut connection = match Connection::greet(stream, role).await {
        Ok(connection) => connection,
        Err(fault) => return (0, fault),
    };
    let mut messages = 0;
    loop {
        match connection.receive().await {
            Ok(_) => messages += 1,
            Err(fault) => return (messages, fault),
        }
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (mut messages, mut refused) = (0, 0);
    for seed in 0..CONNECTIONS {
        let mut rng = Rng::new(seed);
        let role = rng.pick(&[Role::Sub, Role::Dealer]);
        let mut bytes = greeting::ours().to_vec();
        greeting::ready(if role == Role::Sub { "PUB" } else { "ROUTER" }, &mut bytes);
        let mut said = said(&mut rng);
        // The beginning stays right in most rounds, or nothing behind it would be reached.
        if rng.one_in(4) {
            bytes.extend(said);
            rng.change(&mut bytes, &TELLING);
        } else {
            rng.change(&mut said, &TELLING);
            bytes.extend(said);
        }
        let peer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Who is left does not read on.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            stream
        };
        let hearing = async { heard(TcpStream::connect(address).await.unwrap(), role).await };
        let both = timeout(LIMIT, async { tokio::join!(peer, hearing) }).await;
        let (_, (came, fault)) = both.unwrap_or_else(|_| panic!("seed {seed}: it is waited for in vain"));
        messages += came;
        refused += usize::from(!matches!(fault, ZmtpError::Closed | ZmtpError::Io(_)));
    }
    assert!(messages > 1_000 && refused > 100, "{messages} messages, {refused} of {CONNECTIONS} refused");
}
