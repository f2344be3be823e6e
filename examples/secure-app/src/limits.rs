//! Brute force: how many wrong passwords before signing in has to wait, as in rate-limiter-flexible's login example.
//!
//! | counted by | limit | then |
//! |---|---|---|
//! | user name and address | 10 wrong in a row (within 90 days) | locked for an hour |
//! | address | 100 wrong within a day | locked for a day |
//!
//! An attempt is counted *before* its password is looked at, and given back if that was right: of guesses in
//! parallel no more get through than of guesses in turn. A name that no user has is counted like any other.

use crate::{
    client::network,
    clock::{Clock, milliseconds},
    store::{Change, Store, StoreError},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
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

#[derive(Clone, Copy)]
struct Record {
    count: u32,
    /// In milliseconds since 1970: the end of the window or, at the limit, of the lock.
    expires: u64,
    /// The end of the window, for when an attempt at the limit turns out to be right.
    window: u64,
}

pub struct Limits {
    records: Mutex<HashMap<Key, Record>>,
    most_records: usize,
    store: Store,
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
    Store(StoreError),
}

impl Limits {
    /// Beyond it, those with the fewest attempts are forgotten: an address makes at most eleven user names' counts
    /// reach nine in a day, so to have a count of nine forgotten takes some nine thousand addresses.
    pub const MOST_RECORDS: usize = 100_000;

    pub fn new(stored: Vec<(Key, (u32, u64))>, most_records: usize, store: Store, clock: Clock) -> Limits {
        // Also what has expired meanwhile: the next sweep takes it from the disk too.
        let records = stored
            .into_iter()
            .map(|(key, (count, expires))| (key, Record { count, expires, window: expires }))
            .collect();
        Limits { records: Mutex::new(records), most_records, store, clock }
    }

    /// Counts an attempt, unless its user name or address is locked. Returns when the count is on disk.
    pub async fn begin(&self, user: &str, address: IpAddr) -> Result<Attempt, Refused> {
        let keys = [key(PAIR, user, address), key(ADDRESS, "", address)];
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
                let record = records.entry(*key).or_insert(Record { count: 0, expires: window, window });
                if record.expires <= now {
                    *record = Record { count: 0, expires: window, window };
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
        match written.await {
            Ok(()) => Ok(attempt),
            Err(error) => {
                // No password is looked at: a full disk is no wrong password.
                let _ = self.give_back(attempt).await;
                Err(Refused::Store(error))
            }
        }
    }

    /// The password was right: the attempts of this user name from this address are forgotten, and the
    /// address gets this one back.
    pub async fn succeeded(&self, attempt: Attempt) -> Result<(), StoreError> {
        self.settle(attempt, true).await
    }

    /// No password was looked at: the attempt does not count.
    pub async fn give_back(&self, attempt: Attempt) -> Result<(), StoreError> {
        self.settle(attempt, false).await
    }

    async fn settle(&self, Attempt(counted): Attempt, right: bool) -> Result<(), StoreError> {
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
                let Record { count, expires, .. } = *record;
                if count == 0 || (right && kind == PAIR) {
                    records.remove(&key);
                    changes.push(Change::ForgetAttempts { key });
                } else {
                    changes.push(Change::Attempts { key, count, expires });
                }
            }
            self.store.write(changes)
        };
        written.await
    }

    /// Forgets what has expired.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = milliseconds((self.clock)());
        let written = {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            let expired = |(_, record): &(&Key, &mut Record)| record.expires <= now;
            let changes = forget(&mut records, expired);
            self.store.write(changes)
        };
        written.await
    }

    /// How many are counted, and how many of them are locked.
    pub fn sizes(&self) -> (usize, usize) {
        let now = milliseconds((self.clock)());
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = |(key, record): &(&Key, &Record)| {
            record.expires > now && record.count >= RULES[usize::from(key[0])].most
        };
        (records.len(), records.iter().filter(locked).count())
    }
}

fn forget(
    records: &mut HashMap<Key, Record>,
    which: impl FnMut(&(&Key, &mut Record)) -> bool,
) -> Vec<Change> {
    let gone: Vec<Key> = records.iter_mut().filter(which).map(|(key, _)| *key).collect();
    for key in &gone {
        records.remove(key);
    }
    gone.into_iter().map(|key| Change::ForgetAttempts { key }).collect()
}

/// A tenth at a time, so that the search for those with the fewest attempts is a rare one.
fn make_room(records: &mut HashMap<Key, Record>, most: usize, now: u64) -> Vec<Change> {
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

fn milliseconds_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
