//! Seeded engines that drop messages, restart, cut and answer late. Whenever the stream says that it is trusted, what it has
//! applied since it last forgot is all that the engine ever said in this life.

use std::collections::VecDeque;

use super::*;
use crate::chance::testing::Rng;

/// An engine with a ring, the pipe to the follower, and a question that is being answered.
struct World {
    rng: Rng,
    now: Instant,
    stream: Stream<(u64, u64)>,
    life: u64,
    next: u64,
    ring: usize,
    connected: bool,
    pipe: VecDeque<Message<(u64, u64)>>,
    answers: Option<VecDeque<Message<(u64, u64)>>>,
    held: Vec<(u64, u64)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let replayable = if rng.one_in(4) { Replayable::No } else { Replayable::Yes };
        let ring = 1 + rng.index(40);
        Self {
            rng,
            now: Instant::now(),
            stream: Stream::new(replayable),
            life: 0,
            next: 0,
            ring,
            connected: false,
            pipe: VecDeque::new(),
            answers: None,
            held: Vec::new(),
        }
    }

    fn message(&self, sequence: u64) -> Message<(u64, u64)> {
        let body = (self.life, sequence);
        Message { sequence, digest: self.life << 32 | sequence, size: 1, body: Some((body, Clears::No)) }
    }

    fn publish(&mut self) {
        let message = self.message(self.next);
        self.next += 1;
        if self.connected && !self.rng.one_in(12) {
            self.pipe.push_back(message);
        }
    }

    fn carry_out(&mut self, acts: Vec<Act<(u64, u64)>>) {
        for act in acts {
            match act {
                Act::Apply(body) => self.held.push(body),
                Act::Forget => self.held.clear(),
                Act::Ask(from) => {
                    let oldest = self.next.saturating_sub(self.ring as u64).max(from);
                    self.answers = Some((oldest..self.next).map(|sequence| self.message(sequence)).collect());
                }
            }
        }
    }

    fn step(&mut self) {
        let mut acts = Vec::new();
        match self.rng.below(40) {
            0..15 => self.publish(),
            15..26 => {
                if let Some(message) = self.pipe.pop_front() {
                    self.stream.live(self.now, message, &mut acts);
                }
            }
            26..36 => match self.answers.as_mut().map(VecDeque::pop_front) {
                Some(Some(message)) => self.stream.replayed(self.now, message, &mut acts),
                Some(None) => {
                    self.answers = None;
                    self.stream.replay_ended(self.now, &mut acts);
                }
                None => {}
            },
            36 => {
                self.now += GRACE / 10;
                self.stream.tick(self.now, &mut acts);
            }
            37 if self.connected && self.rng.one_in(3) => self.cut(),
            38 if !self.connected => {
                self.connected = true;
                self.stream.connected(self.now, &mut acts);
            }
            39 if self.rng.one_in(4) => {
                self.cut();
                (self.life, self.next) = (self.life + 1, 0);
            }
            _ => {}
        }
        self.carry_out(acts);
    }

    fn cut(&mut self) {
        self.pipe.clear();
        self.answers = None;
        if self.connected {
            self.connected = false;
            self.stream.disconnected(self.now);
        }
    }

    fn check(&self, seed: u64) {
        let in_a_row = self.held.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1 + 1 == pair[1].1);
        assert!(in_a_row, "seed {seed}: {:?}", self.held);
        let whole = self.held.first().is_none_or(|(_, sequence)| *sequence == 0);
        assert!(self.stream.trust() != Trust::Trusted || whole, "seed {seed}: {:?}", self.held);
        let caught_up = self.connected && self.pipe.is_empty() && self.answers.is_none();
        let heard = self.held.last().is_some_and(|(life, _)| *life == self.life);
        if caught_up && self.stream.trust() == Trust::Trusted && !self.held.is_empty() {
            assert!(heard, "seed {seed}: the life of {:?} is over", self.held.last());
        }
    }
}

#[test]
fn what_is_held_is_in_a_row_and_of_one_life_and_whole_where_it_is_trusted() {
    for seed in 0..2_000 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
            world.check(seed);
        }
    }
}

#[test]
fn when_all_is_calm_again_trust_comes_back() {
    for seed in 0..500 {
        let mut world = World::new(seed);
        world.stream = Stream::new(Replayable::Yes);
        world.ring = 10_000;
        (0..300).for_each(|_| world.step());
        let mut rounds = 0;
        while !world.connected || world.stream.trust() != Trust::Trusted || !world.pipe.is_empty() {
            rounds += 1;
            assert!(rounds < 20_000, "seed {seed}: {:?}", world.stream);
            let mut acts = Vec::new();
            if !world.connected {
                world.connected = true;
                world.stream.connected(world.now, &mut acts);
            } else if let Some(message) = world.pipe.pop_front() {
                world.stream.live(world.now, message, &mut acts);
            } else if let Some(answers) = &mut world.answers {
                match answers.pop_front() {
                    Some(message) => world.stream.replayed(world.now, message, &mut acts),
                    None => {
                        world.answers = None;
                        world.stream.replay_ended(world.now, &mut acts);
                    }
                }
            } else {
                world.now += GRACE;
                world.stream.tick(world.now, &mut acts);
            }
            world.carry_out(acts);
        }
        let said = (0..world.held.len() as u64).map(|sequence| (world.life, sequence));
        assert!(said.eq(world.held.iter().copied()), "seed {seed}");
    }
}
