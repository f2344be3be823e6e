//! Brute force: how many wrong passwords before signing in has to wait, as in rate-limiter-flexible's login example.
//!
//! | counted by | limit | then |
//! |---|---|---|
//! | user name and address | 10 wrong in a row (within 90 days) | locked for an hour |
//! | address | 100 wrong within a day | locked for a day |
//!
//! An attempt is counted *before* its password is looked at, and given back if that was right: of guesses in
//! parallel no more get through than of guesses in turn. A name that no user has is counted like any other.
//!
//! Where there are other instances, what counts is what is [shared](crate::shared) with them; the records here are then what
//! this one has seen of it, for when it is lost.

use crate::{
    client::network,
    clock::{Clock, milliseconds, milliseconds_of},
    shared::{self, Count, Counted, Shared, Unavailable},
    store::{Change, Store, StoreError},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Rule {
    most: u32,
    /// Attempts are forgotten so long after the first.
    window: Duration,
    lock: Duration,
}

const RULES: [Rule; 2] = [
    Rule { most: 10, window: Duration::from_secs(90 * 24 * 60 * 60), lock: HOUR },
    Rule { most: 100, window: DAY, lock: DAY },
];
const PAIR: usize = 0;
const ADDRESS: usize = 1;

/// The rule's number, and half a SHA-256 of who is counted: of the same length whatever the client sent.
type Key = [u8; 17];

/// The end of a lock, as Redis says it, is off by a millisecond now and then.
fn are_about_equal(one: &Count, other: &Count) -> bool {
    one.count == other.count && one.window == other.window && one.expires.abs_diff(other.expires) < 1000
}

/// What Redis has said of a count.
enum Seen {
    /// An attempt was counted, or not since there is a lock.
    Counted(Count),
    /// One was taken back.
    Settled(Count),
}

impl Seen {
    /// What is known by that. `None`: that there is no count.
    fn after(self, before: Option<Count>, now: u64) -> Option<Count> {
        let before = before.filter(|before| before.expires > now);
        match (self, before) {
            (Seen::Counted(Count { window, count, .. }), Some(before))
                if window <= before.window && count < before.count =>
            {
                Some(before)
            }
            (Seen::Counted(count), _) => Some(count),
            // It has begun anew meanwhile.
            (Seen::Settled(Count { window, .. }), Some(before)) if window != before.window => Some(before),
            (Seen::Settled(Count { count: 0, .. }), _) => None,
            (Seen::Settled(Count { window, count, expires }), before) => {
                let less = before.map_or(0, |before| before.count.saturating_sub(1));
                Some(Count { window, count: count.max(less), expires })
            }
        }
    }
}

pub struct Limits {
    records: Mutex<HashMap<Key, Count>>,
    most_records: usize,
    store: Store,
    shared: Option<Arc<Shared>>,
    clock: Clock,
}

/// An attempt that was counted, and in which windows. Unless it [succeeds](Limits::succeeded), it stays so.
#[must_use]
pub struct Attempt([(Key, u64); 2]);

/// Why a password is not even looked at.
#[derive(Debug)]
pub enum Refused {
    /// In seconds, at least one.
    RetryAfter(u64),
    /// What counts is not there, or cannot be written.
    Failed(Failed),
}

#[derive(Debug)]
pub enum Failed {
    Store(StoreError),
    Shared(Unavailable),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Store(error) => error.fmt(f),
            Failed::Shared(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failed {}

impl Limits {
    /// Beyond it, those with the fewest attempts are forgotten: an address makes at most eleven user names' counts
    /// reach nine in a day, so to have a count of nine forgotten takes some nine thousand addresses.
    pub const MOST_RECORDS: usize = 100_000;

    pub fn new(
        stored: Vec<(Key, (u32, u64))>,
        most_records: usize,
        store: Store,
        shared: Option<Arc<Shared>>,
        clock: Clock,
    ) -> Limits {
        // Also what has expired meanwhile: the next sweep takes it from the disk too.
        let records = stored
            .into_iter()
            .map(|(key, (count, expires))| (key, Count { count, expires, window: expires }))
            .collect();
        Limits { records: Mutex::new(records), most_records, store, shared, clock }
    }

    /// Counts an attempt, unless its user name or address is locked. Returns when the count is on disk, or shared.
    pub async fn begin(&self, user: &str, address: IpAddr) -> Result<Attempt, Refused> {
        let keys = [key(PAIR, user, address), key(ADDRESS, "", address)];
        if let Some(shared) = &self.shared {
            return self.begin_shared(shared, keys).await;
        }
        // While the disk hangs, each attempt would wait for it.
        self.store.check().map_err(|error| Refused::Failed(Failed::Store(error)))?;
        let (written, attempt) = {
            let now = milliseconds((self.clock)());
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            for (rule, key) in RULES.iter().zip(&keys).rev() {
                if let Some(record) = records.get(key)
                    && record.expires > now
                    && record.count >= rule.most
                {
                    return Err(Refused::RetryAfter((record.expires - now).div_ceil(1000).max(1)));
                }
            }
            let mut changes = Vec::new();
            let mut windows = [0; 2];
            for ((rule, key), counted) in RULES.iter().zip(&keys).zip(&mut windows) {
                let window = now + milliseconds_of(rule.window);
                let record = records.entry(*key).or_insert(Count { count: 0, expires: window, window });
                if record.expires <= now {
                    *record = Count { count: 0, expires: window, window };
                }
                record.count += 1;
                if record.count == rule.most {
                    record.expires = now + milliseconds_of(rule.lock);
                }
                *counted = record.window;
                changes.push(Change::Attempts { key: *key, count: record.count, expires: record.expires });
            }
            changes.extend(make_room(&mut records, self.most_records, now));
            // Handed over under the lock, so that the disk sees the counts in their order.
            (
                self.store.write(changes),
                Attempt([(keys[PAIR], windows[PAIR]), (keys[ADDRESS], windows[ADDRESS])]),
            )
        };
        match written.soon().await {
            Ok(()) => Ok(attempt),
            Err(error) => {
                // No password is looked at: a full disk is no wrong password.
                let _ = self.give_back(attempt).await;
                Err(Refused::Failed(Failed::Store(error)))
            }
        }
    }

    async fn begin_shared(&self, shared: &Shared, keys: [Key; 2]) -> Result<Attempt, Refused> {
        let rules = RULES.map(|rule| shared::Rule {
            most: rule.most,
            window: milliseconds_of(rule.window),
            lock: milliseconds_of(rule.lock),
        });
        match shared.count(&keys, &rules).await {
            Ok(Counted::Attempt(counts)) => {
                self.remember(keys.into_iter().zip(counts).map(|(key, count)| (key, Seen::Counted(count))));
                Ok(Attempt([(keys[PAIR], counts[PAIR].window), (keys[ADDRESS], counts[ADDRESS].window)]))
            }
            Ok(Counted::Locked { by, count, left }) => {
                self.remember([(keys[by], Seen::Counted(count))]);
                Err(Refused::RetryAfter(left.div_ceil(1000).max(1)))
            }
            Err(error) => Err(Refused::Failed(Failed::Shared(error))),
        }
    }

    /// What is shared as it was seen last; on disk some time, so that it is known after a restart too. Of answers that
    /// come in another order than they were given in, too much is remembered rather than too little.
    fn remember(&self, seen: impl IntoIterator<Item = (Key, Seen)>) {
        let now = milliseconds((self.clock)());
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Vec::new();
        for (key, seen) in seen {
            let before = records.get(&key).copied();
            let Some(after) = seen.after(before, now) else {
                records.remove(&key);
                changes.push(Change::ForgetAttempts { key });
                continue;
            };
            // Whoever is locked and goes on has nothing written.
            if before.is_none_or(|before| !are_about_equal(&before, &after)) {
                records.insert(key, after);
                changes.push(Change::Attempts { key, count: after.count, expires: after.expires });
            }
        }
        changes.extend(make_room(&mut records, self.most_records, now));
        // What is not written now is in Redis.
        if !changes.is_empty() && !self.store.is_failing() {
            drop(self.store.write(changes));
        }
    }

    /// All that is known of what is shared.
    pub fn counts(&self) -> Vec<(Key, Count)> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().map(|(key, count)| (*key, *count)).collect()
    }

    /// The password was right: the attempts of this user name from this address are forgotten, and the
    /// address gets this one back. Returns the user's epoch, where that is shared.
    pub async fn succeeded(&self, attempt: Attempt, user: &str) -> Result<u64, Failed> {
        self.settle(attempt, Some(user)).await
    }

    /// No password was looked at: the attempt does not count.
    pub async fn give_back(&self, attempt: Attempt) -> Result<(), Failed> {
        self.settle(attempt, None).await.map(drop)
    }

    async fn settle(&self, Attempt(counted): Attempt, right: Option<&str>) -> Result<u64, Failed> {
        if let Some(shared) = &self.shared {
            let (keys, windows) = (counted.map(|(key, _)| key), counted.map(|(_, window)| window));
            let most = RULES.map(|rule| rule.most);
            let (counts, epoch) = shared.settle(&keys, windows, most, right).await.map_err(Failed::Shared)?;
            let settled = keys.into_iter().zip(counts);
            self.remember(settled.filter_map(|(key, count)| Some((key, Seen::Settled(count?)))));
            return Ok(epoch);
        }
        let written = {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            let mut changes = Vec::new();
            for (kind, (key, window)) in counted.into_iter().enumerate() {
                // Of a later window there is nothing to give back.
                let Some(record) = records.get_mut(&key).filter(|record| record.window == window) else {
                    continue;
                };
                record.count -= 1;
                if record.count + 1 == RULES[kind].most {
                    record.expires = record.window;
                }
                let Count { count, expires, .. } = *record;
                if count == 0 || (right.is_some() && kind == PAIR) {
                    records.remove(&key);
                    changes.push(Change::ForgetAttempts { key });
                } else {
                    changes.push(Change::Attempts { key, count, expires });
                }
            }
            self.store.write(changes)
        };
        written.soon().await.map(|()| 0).map_err(Failed::Store)
    }

    /// Forgets what has expired.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = milliseconds((self.clock)());
        let written = {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            let expired = |(_, record): &(&Key, &mut Count)| record.expires <= now;
            let changes = forget(&mut records, expired);
            self.store.write(changes)
        };
        written.await
    }

    /// How many are counted, and how many of them are locked.
    pub fn sizes(&self) -> (usize, usize) {
        let now = milliseconds((self.clock)());
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = |(key, record): &(&Key, &Count)| {
            record.expires > now && record.count >= RULES[usize::from(key[0])].most
        };
        (records.len(), records.iter().filter(locked).count())
    }
}

fn forget(records: &mut HashMap<Key, Count>, which: impl FnMut(&(&Key, &mut Count)) -> bool) -> Vec<Change> {
    let gone: Vec<Key> = records.iter_mut().filter(which).map(|(key, _)| *key).collect();
    for key in &gone {
        records.remove(key);
    }
    gone.into_iter().map(|key| Change::ForgetAttempts { key }).collect()
}

/// A tenth at a time, so that the search for those with the fewest attempts is a rare one.
fn make_room(records: &mut HashMap<Key, Count>, most: usize, now: u64) -> Vec<Change> {
    if records.len() <= most {
        return Vec::new();
    }
    let mut changes = forget(records, |(_, record)| record.expires <= now);
    if records.len() > most {
        let mut counts: Vec<_> =
            records.iter().map(|(key, record)| (record.count, record.expires, *key)).collect();
        let some = most / 10 + 1;
        counts.select_nth_unstable(some);
        for (_, _, key) in &counts[..some] {
            records.remove(key);
            changes.push(Change::ForgetAttempts { key: *key });
        }
    }
    changes
}

/// The name ends before the address, which has 16 bytes: no pair is counted as another.
fn key(kind: usize, user: &str, address: IpAddr) -> Key {
    let digest = Sha256::new()
        .chain_update([kind as u8])
        .chain_update(user.as_bytes())
        .chain_update(network(address).octets())
        .finalize();
    let mut key = [kind as u8; 17];
    key[1..].copy_from_slice(&digest[..16]);
    key
}
