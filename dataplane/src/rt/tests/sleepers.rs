//! Sockets that are waited for together.

use std::io::Write;
use std::os::fd::AsFd;

use super::*;

/// The numbers of those that are woken, once some are.
async fn woken(sleepers: &Sleepers) -> Vec<u64> {
    timeout(SOON, sleepers.wait()).await.unwrap().unwrap();
    let mut woken = sleepers.woken().unwrap();
    woken.sort_unstable();
    woken
}

/// Whether nobody wakes though the kernel has had its time.
async fn all_sleep(sleepers: &Sleepers) -> bool {
    settle().await;
    let mut wait = std::pin::pin!(sleepers.wait());
    is_pending(&mut wait).await && sleepers.woken().unwrap().is_empty()
}

#[test]
fn sleepers_wake_when_their_clients_speak_or_leave() {
    on_each_driver(|| async {
        let sleepers = Sleepers::new().unwrap();
        let (a, mut client_a) = pair().await;
        let (b, client_b) = pair().await;
        let (c, mut client_c) = pair().await;
        let [a, b, c] = [a, b, c].map(Stream::into_fd);
        sleepers.add(a.as_fd(), 1).unwrap();
        sleepers.add(b.as_fd(), 2).unwrap();
        assert!(all_sleep(&sleepers).await);
        client_a.write_all(b"a").unwrap();
        assert_eq!(woken(&sleepers).await, [1]);
        assert_eq!(woken(&sleepers).await, [1], "again until it is removed");
        drop(client_b);
        settle().await;
        assert_eq!(woken(&sleepers).await, [1, 2]);
        client_c.write_all(b"early").unwrap();
        sleepers.add(c.as_fd(), 3).unwrap();
        assert_eq!(woken(&sleepers).await, [1, 2, 3], "what came before counts");
        [&a, &b, &c].iter().for_each(|fd| sleepers.remove(fd.as_fd()));
        assert!(all_sleep(&sleepers).await);
        let (result, buf) = Stream::from_fd(c).unwrap().read(Vec::new()).await;
        assert_eq!((result.unwrap(), buf.as_slice()), (5, b"early".as_slice()));
    });
}

#[test]
fn who_was_removed_is_not_taken_for_who_has_its_number_now() {
    on_each_driver(|| async {
        let sleepers = Sleepers::new().unwrap();
        let (before, mut its_client) = pair().await;
        let (after, mut other_client) = pair().await;
        let [before, after] = [before, after].map(Stream::into_fd);
        sleepers.add(before.as_fd(), 7).unwrap();
        // As a child process does between its fork and its exec.
        let elsewhere = before.try_clone().unwrap();
        sleepers.remove(before.as_fd());
        drop(before);
        sleepers.add(after.as_fd(), 7).unwrap();
        its_client.write_all(b"late").unwrap();
        assert!(all_sleep(&sleepers).await);
        other_client.write_all(b"x").unwrap();
        assert_eq!(woken(&sleepers).await, [7]);
        drop(elsewhere);
    });
}

#[test]
fn a_crowd_wakes_in_parts() {
    on_each_driver(|| async {
        let sleepers = Sleepers::new().unwrap();
        let mut pairs = Vec::new();
        for number in 0..Sleepers::AT_ONCE as u64 + 10 {
            let (stream, client) = pair().await;
            let fd = stream.into_fd();
            sleepers.add(fd.as_fd(), number).unwrap();
            pairs.push((fd, client));
        }
        for (_, client) in &mut pairs {
            client.write_all(b"x").unwrap();
        }
        settle().await;
        let first = woken(&sleepers).await;
        assert_eq!(first.len(), Sleepers::AT_ONCE);
        first.iter().for_each(|&number| sleepers.remove(pairs[number as usize].0.as_fd()));
        assert_eq!(woken(&sleepers).await.len(), 10);
    });
}
