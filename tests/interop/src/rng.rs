//! A small generator whose every case can be made again from its seed.

use std::{
    env,
    hash::{BuildHasher as _, RandomState},
    io::{self, Write as _},
    ops::RangeInclusive,
};

/// The latest time of the wire format.
const LATEST: i64 = (1 << 48) - 1;

/// The seed that every run has.
const FIXED: u64 = 1;

/// The seeds of this run: the one in `COOKIE_SESSION_SEED`, or the fixed one and a new one.
///
/// # Panics
///
/// If the variable is not a number.
pub fn seeds(test: &str) -> Vec<u64> {
    if let Some(seed) = env::var_os("COOKIE_SESSION_SEED") {
        let seed = seed.to_str().and_then(|seed| seed.parse().ok());
        return vec![seed.expect("COOKIE_SESSION_SEED is a decimal number")];
    }
    // A process's hash keys come from the operating system.
    let new = RandomState::new().hash_one(test);
    // Not by `eprintln!`, which the harness keeps to itself where all is well.
    writeln!(io::stderr(), "{test}: COOKIE_SESSION_SEED={new}").expect("standard error");
    vec![FIXED, new]
}

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    /// For one case, so that it does not depend on those before it.
    pub fn new(seed: u64, case: usize) -> Rng {
        let mut rng = Rng(seed);
        rng.0 = rng.word() ^ case as u64;
        rng.word();
        rng
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn within(&mut self, range: RangeInclusive<i64>) -> i64 {
        let size = range.end().wrapping_sub(*range.start()) as u64;
        let offset = if size == u64::MAX { self.word() } else { self.word() % (size + 1) };
        range.start().wrapping_add(offset as i64)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.word() % end as u64) as usize
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.word() as u8).collect()
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.word() as u8)
    }

    /// As often of few bits as of many: 0, 1, what a varint needs another octet for, `u64::MAX`.
    pub fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => self.pick(&[0, 1, 127, 128, 16383, 16384, u64::MAX]),
            _ => self.word() >> self.below(64),
        }
    }

    /// A clock: mostly one of these years, or one at the ends of what a time can be.
    pub fn clock(&mut self) -> i64 {
        match self.below(6) {
            0 => self.pick(&[0, 1, -1, i64::from(i32::MIN), LATEST - 1, LATEST, LATEST + 1, LATEST << 4]),
            1 => self.within(0..=LATEST),
            _ => self.within(1_600_000_000_000..=2_000_000_000_000),
        }
    }

    pub fn text(&mut self) -> String {
        const PARTS: [&str; 8] = ["a", "Z", " ", "größe", "日本", "\u{1f36a}", "\0", "e\u{301}"];
        let parts = self.below(6);
        (0..parts).map(|_| self.pick(&PARTS)).collect()
    }
}
