//! How long streams last, on a paused clock.

use futures_util::FutureExt;

use super::super::Proof;
use super::*;
use crate::identity::testing::{Signer, known, options};
use crate::identity::{Clock, Look, PAST_ITS_END, Proofs, RENEWAL};

const MINUTE: Duration = Duration::from_secs(60);

/// An API server that tests play, and what is proved by it.
struct Bed {
    clock: Clock,
    asked: watch::Sender<Asked>,
    proofs: Proofs,
    excused: AtomicU64,
    begin: Instant,
}

impl Bed {
    fn new() -> Self {
        let (start, begin) = (Timestamp::from_second(1_800_000_000).unwrap(), Instant::now());
        let clock = Clock::new(move || start + begin.elapsed());
        let asked = watch::Sender::new(Asked::default());
        let proofs = Proofs::new(options(), asked.subscribe(), Default::default());
        let bed = Self { clock, asked, proofs, excused: AtomicU64::new(0), begin };
        bed.look(Look::Told(known(&[&Signer::es256("a")])));
        bed
    }

    fn look(&self, look: Look) {
        self.asked.send_modify(|asked| asked.learn(look, self.clock.now()));
    }

    /// Of a token that ends so long after the start.
    fn hold(&self, ends: Duration, holds: Holds) -> Hold {
        let ends = self.clock.now().clock - self.begin.elapsed() + ends;
        let identity = Identity { proof: Some(Proof { ends, holds }), ..Identity::default() };
        Hold::of(&identity, &self.proofs, MINUTE, &self.excused)
    }

    /// When it is over, from the start; fails where that is not within these times.
    async fn over(&self, hold: &mut Hold, from: Duration, to: Duration) {
        hold.over(&self.excused).await;
        let at = self.begin.elapsed();
        assert!((from..=to).contains(&at), "{at:?} is not within {from:?} and {to:?}");
    }

    fn counted(&self) -> u64 {
        self.excused.load(Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_there_a_stream_ends_with_its_token_and_a_grace() {
    let bed = Bed::new();
    let mut hold = bed.hold(MINUTE * 10, Holds::For(MINUTE * 10));
    bed.over(&mut hold, MINUTE * 11, MINUTE * 11).await;
    assert_eq!(bed.counted(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_it_is_away_a_stream_goes_on_for_a_day_and_is_counted_once_however_often_it_is_asked() {
    let bed = Bed::new();
    let mut hold = bed.hold(MINUTE * 10, Holds::For(MINUTE * 10));
    bed.look(Look::Nobody);
    for _ in 0..3 {
        tokio::time::advance(MINUTE * 20).await;
        assert!(hold.over(&bed.excused).now_or_never().is_none());
    }
    assert_eq!(bed.counted(), 1);
    let end = MINUTE * 10 + PAST_ITS_END;
    bed.over(&mut hold, end - SPREAD, end).await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_past_the_end_goes_once_tokens_can_be_renewed_again_and_not_all_at_once() {
    let bed = Bed::new();
    bed.look(Look::Nobody);
    tokio::time::advance(MINUTE * 60).await;
    let mut holds: Vec<_> = (0..64).map(|_| bed.hold(MINUTE * 10, Holds::PastItsEnd)).collect();
    assert_eq!(bed.counted(), 64);
    bed.look(Look::Told(known(&[&Signer::es256("b")])));
    let (mut ends, latest) = (Vec::new(), MINUTE * 60 + RENEWAL);
    let over = futures_util::future::join_all(holds.iter_mut().map(async |hold| {
        bed.over(hold, latest - SPREAD, latest).await;
        bed.begin.elapsed()
    }));
    ends.extend(over.await);
    ends.sort();
    assert!(ends[63] - ends[0] > SPREAD / 2, "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_goes_again_at_once_ends_nothing() {
    let bed = Bed::new();
    bed.look(Look::Nobody);
    tokio::time::advance(MINUTE * 60).await;
    let mut hold = bed.hold(MINUTE * 10, Holds::PastItsEnd);
    bed.look(Look::Useless);
    tokio::time::advance(RENEWAL - SPREAD - Duration::from_secs(1)).await;
    assert!(hold.over(&bed.excused).now_or_never().is_none());
    bed.look(Look::Nobody);
    tokio::time::advance(MINUTE * 60).await;
    assert!(hold.over(&bed.excused).now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn nobody_who_looks_any_more_is_an_api_server_that_stays_away() {
    let mut bed = Bed::new();
    bed.look(Look::Nobody);
    let mut hold = bed.hold(MINUTE * 10, Holds::For(MINUTE * 10));
    // The one that was watched is gone with who looked.
    bed.asked = watch::Sender::new(Asked::default());
    let end = MINUTE * 10 + PAST_ITS_END;
    bed.over(&mut hold, end - SPREAD, end).await;
}
