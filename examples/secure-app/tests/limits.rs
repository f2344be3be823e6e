//! Brute force: how many passwords get looked at, by whatever way they come.

mod common;

use browser_tests::{TempDir, wait_for};
use common::{PASSWORD, Reply, Site, USER, at_once};
use secure_app::{
    clock::Clock,
    limits::{Limits, Refused},
    store::Store,
};
use std::{
    io::Write as _,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MILLISECOND: Duration = Duration::from_millis(1);

/// The tests say whose requests they are.
const PROXY: &str = "trusted_proxies = ['127.0.0.1/32']";
const HERE: &str = "192.0.2.1";
const THERE: &str = "192.0.2.2";
const WRONG: &str = "wrong horse";

/// An attempt to sign in, from an address.
#[track_caller]
fn attempt(site: &Site, address: &str, user: &str, password: &str) -> Reply {
    let form = format!("username={user}&password={}", password.replace(' ', "+"));
    let headers = [("X-Forwarded-For", address), ("Content-Type", "application/x-www-form-urlencoded")];
    site.send("POST", "/login", &headers, &form)
}

#[track_caller]
fn is_wrong(reply: &Reply) {
    assert_eq!((reply.status, reply.header("retry-after")), (403, None), "{reply:?}");
}

#[track_caller]
fn is_locked(reply: &Reply, seconds: u64) {
    let retry_after = seconds.to_string();
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some(&*retry_after)), "{reply:?}");
    assert_eq!(reply.header("set-cookie"), None, "{reply:?}");
}

#[track_caller]
fn is_signed_in(reply: &Reply) {
    assert_eq!(reply.status, 303, "{reply:?}");
    assert!(!reply.cookies().is_empty(), "{reply:?}");
}

/// Wrong passwords that are counted, without the time that checking each takes.
fn count(site: &Site, address: &str, user: &str, times: usize) {
    for _ in 0..times {
        let attempt = site.runtime().block_on(site.app().limits.begin(user, address.parse().unwrap()));
        let _ = attempt.expect("it is not locked");
    }
}

/// As [`count`], each for a name of its own.
fn count_at_address(site: &Site, address: &str, times: usize) {
    for number in 0..times {
        count(site, address, &format!("user-{number}"), 1);
    }
}

fn statuses(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

#[test]
fn ten_wrong_passwords_in_a_row_lock_a_name_at_an_address_for_an_hour() {
    let site = Site::start(PROXY);
    site.freeze();
    for _ in 0..10 {
        is_wrong(&attempt(&site, HERE, USER, WRONG));
    }
    // Also the right one is not looked at, and asking does not make it last longer.
    for password in [WRONG, PASSWORD] {
        is_locked(&attempt(&site, HERE, USER, password), 3600);
    }
    is_signed_in(&attempt(&site, THERE, USER, PASSWORD));
    is_wrong(&attempt(&site, HERE, "eve", WRONG));

    site.advance(HOUR / 2);
    is_locked(&attempt(&site, HERE, USER, WRONG), 1800);
    site.advance(HOUR / 2 - MILLISECOND);
    is_locked(&attempt(&site, HERE, USER, PASSWORD), 1);
    site.advance(MILLISECOND);
    is_signed_in(&attempt(&site, HERE, USER, PASSWORD));
}

#[test]
fn after_the_lock_there_are_ten_attempts_again() {
    let site = Site::start(PROXY);
    site.freeze();
    count(&site, HERE, USER, 10);
    is_locked(&attempt(&site, HERE, USER, PASSWORD), 3600);
    site.advance(HOUR);
    count(&site, HERE, USER, 9);
    is_wrong(&attempt(&site, HERE, USER, WRONG));
    is_locked(&attempt(&site, HERE, USER, PASSWORD), 3600);
}

#[test]
fn a_right_password_starts_the_count_of_wrong_ones_in_a_row_anew() {
    let mut site = Site::start(PROXY);
    for _ in 0..3 {
        count(&site, HERE, USER, 8);
        is_wrong(&attempt(&site, HERE, USER, WRONG));
        is_signed_in(&attempt(&site, HERE, USER, PASSWORD));
        site.restart();
    }
}

#[test]
fn wrong_passwords_in_a_row_are_counted_over_ninety_days() {
    let site = Site::start(PROXY);
    site.freeze();
    count(&site, HERE, USER, 1);
    site.advance(90 * DAY - MILLISECOND);
    count(&site, HERE, USER, 9);
    is_locked(&attempt(&site, HERE, USER, PASSWORD), 3600);

    count(&site, THERE, USER, 9);
    site.advance(90 * DAY);
    count(&site, THERE, USER, 1);
    is_signed_in(&attempt(&site, THERE, USER, PASSWORD));
}

#[test]
fn a_hundred_wrong_passwords_over_many_names_lock_an_address_for_a_day() {
    let site = Site::start(PROXY);
    site.freeze();
    let replies = at_once(4, |thread| {
        let names = (0..25).map(|number| format!("user-{thread}-{number}"));
        names.map(|name| attempt(&site, HERE, &name, WRONG)).collect::<Vec<_>>()
    });
    replies.iter().flatten().for_each(is_wrong);
    is_locked(&attempt(&site, HERE, "user-101", WRONG), 86_400);
    is_locked(&attempt(&site, HERE, USER, PASSWORD), 86_400);
    is_signed_in(&attempt(&site, THERE, USER, PASSWORD));

    site.advance(DAY - MILLISECOND);
    is_locked(&attempt(&site, HERE, USER, PASSWORD), 1);
    site.advance(MILLISECOND);
    is_signed_in(&attempt(&site, HERE, USER, PASSWORD));
}

#[test]
fn an_address_is_counted_over_a_day_and_right_passwords_neither_count_nor_start_it_anew() {
    let site = Site::start(PROXY);
    site.freeze();
    for address in [HERE, THERE] {
        count_at_address(&site, address, 99);
    }
    site.advance(HOUR);
    for address in [HERE, THERE, HERE, THERE] {
        is_signed_in(&attempt(&site, address, USER, PASSWORD));
    }
    // One address has its hundredth in the day's last moment, the other in the next day's first.
    site.advance(DAY - HOUR - MILLISECOND);
    is_wrong(&attempt(&site, HERE, USER, WRONG));
    is_locked(&attempt(&site, HERE, USER, PASSWORD), 86_400);
    site.advance(MILLISECOND);
    is_wrong(&attempt(&site, THERE, USER, WRONG));
    is_signed_in(&attempt(&site, THERE, USER, PASSWORD));
}

#[test]
fn a_name_that_no_user_has_is_answered_and_counted_like_any_other() {
    let site = Site::start(PROXY);
    site.freeze();
    const NOBODY: &str = "eve";
    let shown = |user: &str| {
        let reply = attempt(&site, HERE, user, WRONG);
        let headers = reply.headers.iter().filter(|(name, _)| name != "date").cloned().collect::<Vec<_>>();
        let name = format!("value=\"{user}\"");
        assert_eq!(reply.body.matches(&name).count(), 1, "{reply:?}");
        (reply.status, headers, reply.body.replace(&name, ""))
    };
    for number in 1..=12 {
        let (known, unknown) = (shown(USER), shown(NOBODY));
        assert_eq!(known.0, if number <= 10 { 403 } else { 429 });
        assert_eq!(known, unknown, "attempt {number}");
    }
    site.advance(HOUR);
    is_wrong(&attempt(&site, HERE, NOBODY, WRONG));
}

#[test]
fn of_guesses_at_once_no_more_are_checked_than_of_guesses_in_turn() {
    let site = Site::start(PROXY);
    let replies = at_once(200, |_| attempt(&site, HERE, USER, WRONG));
    // Whoever asks more often at a time than one client may is put off.
    let put_off = statuses(&replies, 503);
    assert_eq!((statuses(&replies, 403), statuses(&replies, 429)), (10, 190 - put_off));
}

#[test]
fn of_guesses_at_once_over_many_names_no_more_are_checked_than_of_guesses_in_turn() {
    let site = Site::start(PROXY);
    let replies = at_once(200, |number| attempt(&site, HERE, &format!("user-{number}"), WRONG));
    // Those that found too many waiting were not looked at, and do not count.
    let checked = statuses(&replies, 403);
    let refused = statuses(&replies, 429) + statuses(&replies, 503);
    assert_eq!(checked + refused, 200, "{replies:?}");
    assert!(checked <= 100, "{checked}");
    let rest = (0..).map(|number| attempt(&site, HERE, &format!("late-{number}"), WRONG));
    let rest = rest.take_while(|reply| reply.status == 403).take(200).count();
    assert_eq!(checked + rest, 100);
}

#[test]
fn a_right_password_among_guesses_at_once_is_given_back_to_the_address() {
    let site = Site::start(PROXY);
    site.freeze();
    count_at_address(&site, HERE, 99);
    // Each takes the last attempt that there is, so that others may find none; and gives it back.
    let replies = at_once(8, |_| attempt(&site, HERE, USER, PASSWORD));
    let (signed_in, locked) = (statuses(&replies, 303), statuses(&replies, 429));
    assert_eq!(signed_in + locked, 8, "{replies:?}");
    assert!(signed_in >= 1);
    is_signed_in(&attempt(&site, HERE, USER, PASSWORD));
    is_wrong(&attempt(&site, HERE, USER, WRONG));
    is_locked(&attempt(&site, HERE, USER, PASSWORD), 86_400);
}

#[test]
fn right_passwords_at_once_leave_nothing_counted() {
    let site = Site::start(PROXY);
    let replies = at_once(8, |_| attempt(&site, HERE, USER, PASSWORD));
    replies.iter().for_each(is_signed_in);
    assert_eq!(site.app().limits.sizes(), (0, 0));
}

#[test]
fn of_ipv6_the_network_of_64_bits_is_counted_and_ipv4_is_the_same_however_it_is_written() {
    let site = Site::start(PROXY);
    for number in 0..10 {
        count(&site, &format!("2001:db8:0:1:{number:x}::{number:x}"), USER, 1);
    }
    assert_eq!(attempt(&site, "2001:db8:0:1:ffff:ffff:ffff:ffff", USER, PASSWORD).status, 429);
    is_signed_in(&attempt(&site, "2001:db8:0:2::", USER, PASSWORD));

    count(&site, "198.51.100.1", USER, 5);
    count(&site, "::ffff:198.51.100.1", USER, 5);
    assert_eq!(attempt(&site, "198.51.100.1", USER, PASSWORD).status, 429);
    assert_eq!(attempt(&site, "::ffff:198.51.100.1", USER, PASSWORD).status, 429);
    // They have their first 96 bits in common.
    is_signed_in(&attempt(&site, "::ffff:198.51.100.2", USER, PASSWORD));
}

#[test]
fn counts_and_locks_are_the_same_after_a_restart() {
    let mut site = Site::start(PROXY);
    site.freeze();
    count(&site, HERE, USER, 9);
    count_at_address(&site, THERE, 99);
    is_signed_in(&attempt(&site, THERE, USER, PASSWORD));
    site.restart();
    is_wrong(&attempt(&site, HERE, USER, WRONG));
    is_locked(&attempt(&site, HERE, USER, PASSWORD), 3600);
    is_wrong(&attempt(&site, THERE, USER, WRONG));
    is_locked(&attempt(&site, THERE, USER, PASSWORD), 86_400);
    site.restart();
    is_locked(&attempt(&site, HERE, USER, PASSWORD), 3600);
    is_locked(&attempt(&site, THERE, USER, PASSWORD), 86_400);
    site.advance(HOUR);
    is_signed_in(&attempt(&site, HERE, USER, PASSWORD));
}

#[test]
fn what_has_been_counted_is_on_disk_before_the_answer_whatever_ends_the_process() {
    let mut site = Site::program("", &[]);
    for _ in 0..9 {
        assert_eq!(site.log_in("", USER, WRONG).status, 403);
    }
    // Dropped, it is killed.
    drop(site.take_program());
    site.start_program(&[]);
    assert_eq!(site.log_in("", USER, WRONG).status, 403);
    assert_eq!(site.log_in("", USER, PASSWORD).status, 429);
    drop(site.take_program());
    site.start_program(&[]);
    assert_eq!(site.log_in("", USER, PASSWORD).status, 429);
}

/// A user whose password takes long enough to check that a client can go meanwhile.
const SLOW: &str = "slow";

fn with_slow_user() -> Site {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
    let params = Params::new(64 * 1024, 6, 1, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(PASSWORD.as_bytes()).unwrap().to_string();
    let site = Site::prepared(PROXY);
    let users = format!("[[users]]\nname = '{SLOW}'\npassword_hash = '{hash}'\n");
    site.configure(PROXY, &format!("primary = '{}'\n{users}", site.key));
    site.started()
}

/// Sends an attempt, and goes as soon as it is counted.
fn attempt_and_go(site: &Site, address: &str, password: &str) {
    let before = site.app().limits.sizes();
    let form = format!("username={SLOW}&password={}", password.replace(' ', "+"));
    let headers = [("X-Forwarded-For", address), ("Content-Type", "application/x-www-form-urlencoded")];
    let head = common::head("POST", "/login", &headers, site.https().port(), &form);
    let mut stream = site.connect();
    stream.write_all((head + &form).as_bytes()).unwrap();
    stream.flush().unwrap();
    wait_for("the attempt to be counted", || (site.app().limits.sizes() != before).then_some(()));
}

#[test]
fn a_client_that_does_not_wait_for_the_answer_is_counted_all_the_same() {
    let site = with_slow_user();
    count(&site, HERE, SLOW, 9);
    attempt_and_go(&site, HERE, WRONG);
    assert_eq!(attempt(&site, HERE, SLOW, PASSWORD).status, 429);
}

#[test]
fn a_client_that_does_not_wait_for_the_answer_gets_its_right_attempt_back() {
    let site = with_slow_user();
    count(&site, HERE, SLOW, 9);
    attempt_and_go(&site, HERE, PASSWORD);
    // The name's count is gone, and the address has the nine wrong ones.
    wait_for("the attempt to be given back", || (site.app().limits.sizes() == (1, 0)).then_some(()));
    is_signed_in(&attempt(&site, HERE, SLOW, PASSWORD));
}

// ------------------------------------------------------------------------------------------------ Memory and disk

/// The limits alone, with a clock that starts now and is driven.
struct Alone {
    folder: TempDir,
    passed: Arc<AtomicU64>,
    clock: Clock,
    runtime: tokio::runtime::Runtime,
}

impl Alone {
    fn new() -> Alone {
        let (passed, start) = (Arc::new(AtomicU64::new(0)), SystemTime::now());
        let clock = {
            let passed = Arc::clone(&passed);
            Arc::new(move || start + Duration::from_millis(passed.load(SeqCst)))
        };
        Alone { folder: TempDir::new(), passed, clock, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    fn advance(&self, by: Duration) {
        self.passed.fetch_add(by.as_millis() as u64, SeqCst);
    }

    /// Opens the database, lets `work` work with limits of so many records, and closes it again.
    fn run<R>(&self, most: usize, work: impl AsyncFnOnce(&Limits) -> R) -> R {
        let (store, _writer, stored) = Store::open(self.folder.path()).unwrap();
        let limits = Limits::new(stored.attempts, most, store, None, Arc::clone(&self.clock));
        self.runtime.block_on(work(&limits))
    }

    /// How many records are on disk.
    fn stored(&self) -> usize {
        let (_store, _writer, stored) = Store::open(self.folder.path()).unwrap();
        stored.attempts.len()
    }
}

fn address(number: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + number).to_be_bytes())
}

/// Wrong passwords of one name at one address.
async fn wrong(limits: &Limits, user: &str, address: IpAddr, times: usize) {
    for _ in 0..times {
        let _ = limits.begin(user, address).await.expect("it is not locked");
    }
}

#[test]
fn memory_and_disk_are_bounded_and_those_with_many_attempts_outlive_those_with_few() {
    const MOST: usize = 50;
    let alone = Alone::new();
    let kept = alone.run(MOST, async |limits| {
        wrong(limits, USER, address(0), 9).await;
        wrong(limits, "locked", address(0), 10).await;
        for number in 1..200 {
            wrong(limits, &format!("user-{number}"), address(number), 1).await;
            assert!(limits.sizes().0 <= MOST, "{:?}", limits.sizes());
        }
        // Room is made a tenth at a time, and no more than is needed.
        assert!(limits.sizes().0 > MOST / 2, "{:?}", limits.sizes());
        limits.sizes()
    });
    assert_eq!(alone.stored(), kept.0);
    alone.run(MOST, async |limits| {
        assert_eq!(limits.sizes(), kept);
        assert!(matches!(limits.begin("locked", address(0)).await, Err(Refused::RetryAfter(_))));
        wrong(limits, USER, address(0), 1).await;
        assert!(matches!(limits.begin(USER, address(0)).await, Err(Refused::RetryAfter(3600))));
        // Somebody who was forgotten starts at one.
        wrong(limits, "user-1", address(1), 10).await;
    });
}

#[test]
fn room_is_made_of_what_has_expired_before_anything_else_goes() {
    let alone = Alone::new();
    alone.run(20, async |limits| {
        // Ten records of 90 days, ten of a day.
        for number in 0..10 {
            wrong(limits, USER, address(number), 1).await;
        }
        assert_eq!(limits.sizes(), (20, 0));
        alone.advance(DAY);
        wrong(limits, USER, address(10), 1).await;
        assert_eq!(limits.sizes(), (12, 0));
    });
    assert_eq!(alone.stored(), 12);
}

#[test]
fn sweeping_forgets_what_has_expired_and_nothing_else() {
    let alone = Alone::new();
    alone.run(1000, async |limits| {
        wrong(limits, USER, address(1), 1).await;
        wrong(limits, "locked", address(2), 10).await;
        limits.sweep().await.unwrap();
        assert_eq!(limits.sizes(), (4, 1));
        // The lock's hour is over.
        alone.advance(HOUR);
        limits.sweep().await.unwrap();
        assert_eq!(limits.sizes(), (3, 0));
        // Both addresses' day.
        alone.advance(DAY);
        limits.sweep().await.unwrap();
        assert_eq!(limits.sizes(), (1, 0));
        alone.advance(89 * DAY);
        limits.sweep().await.unwrap();
        assert_eq!(limits.sizes(), (0, 0));
    });
    assert_eq!(alone.stored(), 0);
}

#[test]
fn what_expired_while_the_app_was_down_goes_from_the_disk() {
    let alone = Alone::new();
    alone.run(1000, async |limits| wrong(limits, USER, address(1), 3).await);
    assert_eq!(alone.stored(), 2);
    alone.advance(90 * DAY);
    alone.run(1000, async |limits| {
        limits.sweep().await.unwrap();
        assert_eq!(limits.sizes(), (0, 0));
    });
    assert_eq!(alone.stored(), 0);
}

#[test]
fn attempts_from_before_the_window_that_are_given_back_late_take_nothing_from_the_counts_of_this_one() {
    let alone = Alone::new();
    alone.run(1000, async |limits| {
        let one = limits.begin(USER, address(1)).await.unwrap();
        let other = limits.begin(USER, address(1)).await.unwrap();
        alone.advance(90 * DAY);
        wrong(limits, USER, address(1), 1).await;
        limits.give_back(one).await.unwrap();
        limits.succeeded(other, "ada").await.unwrap();
        assert_eq!(limits.sizes(), (2, 0));
        wrong(limits, USER, address(1), 9).await;
        assert_eq!(limits.sizes(), (2, 1));
    });
}
