//! A world that a seed makes: dice, a clock, and a connection that delays, cuts and loses.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Decides by its seed, always the same (xorshift, by George Marsaglia).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds that follow each other must not be alike.
        let mut dice = Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.below(2);
        dice
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % limit
    }

    pub(crate) fn below_usize(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap()
    }

    /// Whether the one in so many comes up.
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

/// What arrives at the end of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Octets(Vec<u8>),
    /// Nothing more will come.
    End,
}

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Line {
    in_flight: VecDeque<(Instant, Arrival)>,
    last: Instant,
    delay_millis: u64,
    piece_octets: usize,
    /// After so many octets the connection breaks.
    capacity: usize,
    is_dead: bool,
    /// Everything that was written, whether or not it arrived.
    pub(crate) written: Vec<u8>,
}

impl Line {
    pub(crate) fn new(dice: &mut Dice, now: Instant) -> Self {
        let pieces = [1, 7, 100, 100_000];
        let delays = [1, 200, 20_000];
        Self {
            in_flight: VecDeque::new(),
            last: now,
            delay_millis: delays[dice.below_usize(delays.len())],
            piece_octets: pieces[dice.below_usize(pieces.len())],
            capacity: usize::MAX,
            is_dead: false,
            written: Vec::new(),
        }
    }

    /// The connection breaks when so many octets are through.
    pub(crate) fn cut_after(&mut self, octets: usize) {
        self.capacity = octets;
    }

    /// Writes; `false` if that is where the connection breaks.
    #[must_use]
    pub(crate) fn write(&mut self, dice: &mut Dice, now: Instant, octets: &[u8]) -> bool {
        let left = self.capacity.saturating_sub(self.written.len());
        self.written.extend_from_slice(octets);
        if self.is_dead {
            return true;
        }
        let mut rest = &octets[..octets.len().min(left)];
        while !rest.is_empty() {
            let size = 1 + dice.below_usize(self.piece_octets);
            let (piece, after) = rest.split_at(size.min(rest.len()));
            self.put(dice, now, Arrival::Octets(piece.to_vec()));
            rest = after;
        }
        octets.len() <= left
    }

    /// The connection is broken: what is on its way may be lost, nothing more gets through, and
    /// whoever reads here learns of it or does not.
    pub(crate) fn break_off(&mut self, dice: &mut Dice, now: Instant) {
        if dice.one_in(2) {
            self.lose();
        }
        if dice.one_in(2) {
            self.end(dice, now);
        }
        self.is_dead = true;
    }

    pub(crate) fn end(&mut self, dice: &mut Dice, now: Instant) {
        if !self.is_dead {
            self.put(dice, now, Arrival::End);
        }
    }

    /// What is on its way is lost.
    pub(crate) fn lose(&mut self) {
        self.in_flight.clear();
    }

    fn put(&mut self, dice: &mut Dice, now: Instant, what: Arrival) {
        self.last = self.last.max(now + dice.millis(self.delay_millis));
        self.in_flight.push_back((self.last, what));
    }

    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.front().map(|(at, _)| *at)
    }

    pub(crate) fn take(&mut self, now: Instant) -> Option<Arrival> {
        let is_due = self.next_arrival().is_some_and(|at| at <= now);
        let arrival = if is_due {
            self.in_flight.pop_front()
        } else {
            None
        };
        arrival.map(|(_, what)| what)
    }
}

/// Plays seeds on all cores and counts what came of them; says which one failed.
pub(crate) fn each_seed(
    count: u64,
    play: impl Fn(u64) -> &'static str + Sync,
) -> BTreeMap<&'static str, u64> {
    const SEED: &str = "MINISMTP_SEED";
    let counts = Mutex::new(BTreeMap::new());
    let one = |seed| {
        let played = catch_unwind(AssertUnwindSafe(|| play(seed)));
        let what = played.unwrap_or_else(|_| panic!("seed {seed} fails; {SEED}={seed} plays it"));
        *counts.lock().unwrap().entry(what).or_default() += 1;
    };
    if let Ok(seed) = std::env::var(SEED) {
        one(seed.parse().unwrap());
        panic!("seed {seed} is played: {counts:?}");
    }
    let (one, next) = (&one, &AtomicU64::new(0));
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            scope.spawn(move || seeds.take_while(|&seed| seed < count).for_each(one));
        }
    });
    counts.into_inner().unwrap()
}
