//! What becomes of tokens that end while the API server is away, or is not, on a paused clock.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::Code;

use super::fleet::Fleet;
use crate::api_server::testing::{Server, Weather};
use crate::chance::testing::{Rng, fix};
use crate::identity::{PAST_ITS_END, RENEWAL};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// The longest pause between two looks at the API server while it is away, and a look.
const LOOK: Duration = Duration::from_secs(11);

async fn fleet() -> (Server, Fleet) {
    fix(7);
    let server = Server::new(Rng::new(7));
    let fleet = Fleet::start(&server).await;
    (server, fleet)
}

async fn is_refused(fleet: &Fleet, token: &str) -> bool {
    match fleet.join(token).await {
        Ok(_) => false,
        Err(status) => {
            assert_eq!(status.code(), Code::Unauthenticated);
            assert!(status.message().contains("has expired"), "{status}");
            true
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c01_streams_whose_tokens_end_while_the_api_server_is_away_last_for_a_day_more_and_no_longer() {
    let (server, fleet) = fleet().await;
    let token = fleet.token(HOUR);
    let ends = Instant::now() + HOUR;
    let guest = fleet.join(&token).await.unwrap();
    server.set(Weather::Away);
    sleep(HOUR + PAST_ITS_END - MINUTE * 10).await;
    assert_eq!((guest.lives(), fleet.excused()), (true, 1));
    let peer = fleet.peer(&token);
    sleep(MINUTE * 9).await;
    assert!(guest.lives() && !peer.is_finished());
    assert_eq!(fleet.excused(), 2);
    assert!(!is_refused(&fleet, &token).await, "one that comes again");
    assert_eq!(fleet.excused(), 3);
    sleep(MINUTE).await;
    assert!(ends.elapsed() >= PAST_ITS_END && is_refused(&fleet, &token).await);
    let said = [guest.ended().await, peer.await.unwrap()];
    assert!(said.iter().all(|status| status.code() == Code::Unauthenticated), "{said:?}");
    assert!(ends.elapsed() < PAST_ITS_END + MINUTE);
}

#[tokio::test(start_paused = true)]
async fn c01_once_it_is_back_a_token_that_has_ended_counts_for_nothing_after_two_minutes() {
    let (server, fleet) = fleet().await;
    let token = fleet.token(HOUR);
    let guest = fleet.join(&token).await.unwrap();
    let peer = fleet.peer(&token);
    server.set(Weather::Away);
    sleep(HOUR * 2).await;
    let came = fleet.join(&token).await.unwrap();
    server.set(Weather::Fair);
    sleep(MINUTE).await;
    assert!(guest.lives() && came.lives() && !peer.is_finished(), "kubelets are at it");
    sleep(RENEWAL - MINUTE + LOOK).await;
    for status in [guest.ended().await, came.ended().await, peer.await.unwrap()] {
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unauthenticated, "the token has expired: come again with a newer one")
        );
    }
    assert!(is_refused(&fleet, &token).await);
    fleet.join(&fleet.token(HOUR)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_an_api_server_that_is_away_excuses_a_token_that_has_ended() {
    let away = [Weather::Away, Weather::Deaf, Weather::Refuses(500, None), Weather::Refuses(503, Some(1))];
    let there = [401, 403, 429].map(|code| Weather::Refuses(code, None));
    let rows = away.map(|weather| (weather, false)).into_iter().chain(there.map(|weather| (weather, true)));
    for (weather, refused) in rows.chain([(Weather::Fair, true)]) {
        let (server, fleet) = fleet().await;
        let (token, ended) = (fleet.token(HOUR), fleet.token(MINUTE));
        sleep(MINUTE * 4).await;
        server.set(weather);
        let guest = fleet.join(&token).await.unwrap();
        sleep(HOUR - MINUTE).await;
        assert_eq!(is_refused(&fleet, &token).await, refused, "{weather:?}");
        sleep(MINUTE).await;
        assert_eq!((guest.lives(), fleet.excused() > 0), (!refused, !refused), "{weather:?}");
        assert!(is_refused(&fleet, &ended).await, "{weather:?}: it had ended before");
    }
}

#[tokio::test(start_paused = true)]
async fn however_long_an_api_server_is_away_it_is_looked_at_every_ten_seconds() {
    let (server, _fleet) = fleet().await;
    server.set(Weather::Away);
    sleep(HOUR * 3).await;
    let looks = server.asked("pages");
    // The first pause is that between two looks that are answered.
    let longest = looks.windows(2).skip(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest <= LOOK && looks.len() < 2_000, "{longest:?} at most between {} looks", looks.len());
}

#[tokio::test(start_paused = true)]
async fn a_look_that_a_stranger_had_made_does_not_make_the_api_server_look_away() {
    let (server, fleet) = fleet().await;
    let (token, stranger) = (fleet.token(MINUTE / 2), fleet.strangers_token());
    sleep(MINUTE / 3).await;
    let looks = server.asked("pages").len();
    server.set(Weather::Away);
    fleet.join(&stranger).await.err().expect("nobody knows it");
    server.set(Weather::Fair);
    assert_eq!(server.asked("pages").len(), looks + 1, "it was looked for the key");
    sleep(MINUTE * 2).await;
    assert!(is_refused(&fleet, &token).await, "the API server is there");
    assert_eq!(fleet.excused(), 0);
}

#[tokio::test(start_paused = true)]
async fn strangers_do_not_keep_anybody_from_seeing_that_the_api_server_is_away() {
    let (server, fleet) = fleet().await;
    let (token, stranger) = (fleet.token(MINUTE), fleet.strangers_token());
    sleep(MINUTE / 3).await;
    server.set(Weather::Away);
    for _ in 0..60 {
        fleet.join(&stranger).await.err().expect("nobody knows it");
        sleep(Duration::from_secs(1)).await;
    }
    sleep(MINUTE).await;
    assert!(!is_refused(&fleet, &token).await, "it cannot be renewed");
    assert_eq!(fleet.excused(), 1);
}
