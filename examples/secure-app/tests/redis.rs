//! Several instances that share a Redis: what holds on all of them, and what is left while it is away.

mod common;

use browser_tests::wait_for;
use common::{
    Disk, PASSWORD, Program, Reply, Site, USER, at_once,
    redis::{Redis, Wire},
};
use cookie_session::SessionId;
use secure_app::{clock::milliseconds, limits::Refused, shared::Shared, store::Change};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HOUR: Duration = Duration::from_secs(60 * 60);
const WRONG: &str = "wrong horse";
const DEGRADED: &str = "Nobody can sign in at the moment";

/// So many instances, with keys that are the same.
fn fleet<const MANY: usize>(redis: &Redis) -> [Site; MANY] {
    let key = common::new_key();
    std::array::from_fn(|_| prepared(redis, &key).started())
}

fn prepared(redis: &Redis, key: &str) -> Site {
    let mut site = Site::prepared("");
    site.key = key.to_owned();
    site.configure(&settings(redis), &format!("primary = '{key}'"));
    site
}

fn settings(redis: &Redis) -> String {
    format!("redis_url = '{}'\ntrusted_proxies = ['127.0.0.1/32']", redis.url())
}

/// Wrong passwords that are counted, without the time that checking each takes.
#[track_caller]
fn count(site: &Site, times: usize) {
    for _ in 0..times {
        let attempt = site.runtime().block_on(site.app().limits.begin(USER, HERE));
        let _ = attempt.expect("it is counted");
    }
}

fn statuses(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

#[track_caller]
fn is_up(site: &Site) {
    wait_for("Redis to be reached", || (!site.app().is_degraded()).then_some(()));
}

#[track_caller]
fn is_down(site: &Site) {
    wait_for("Redis to be lost", || site.app().is_degraded().then_some(()));
}

/// All instances refuse these cookies.
#[track_caller]
fn is_nobody(sites: &[Site], cookies: &str) {
    for (number, site) in sites.iter().enumerate() {
        wait_for(&format!("instance {number} to refuse it"), || site.user(cookies).is_none().then_some(()));
    }
}

/// Users who go on using all instances, for as long as something is done. None of their requests goes wrong.
fn under_load<R>(sites: &[Site], cookies: &str, work: impl FnOnce() -> R) -> R {
    let (ends, requests) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for client in 0..4 {
            let (ends, requests) = (&ends, &requests);
            scope.spawn(move || {
                for number in client.. {
                    if ends.load(SeqCst) {
                        break;
                    }
                    assert_eq!(sites[number % sites.len()].user(cookies).as_deref(), Some(USER));
                    requests.fetch_add(1, SeqCst);
                }
            });
        }
        // Also if it panics: nobody would end otherwise.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let so_far = requests.load(SeqCst);
        if result.is_ok() {
            wait_for("more requests", || (requests.load(SeqCst) > so_far + 20).then_some(()));
        }
        ends.store(true, SeqCst);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

// ---------------------------------------------------------------------------------------------- Signing in

#[test]
fn of_guesses_at_all_instances_in_parallel_ten_are_looked_at() {
    let redis = Redis::start();
    let sites: [Site; 3] = fleet(&redis);
    let replies = at_once(45, |number| sites[number % 3].log_in("", USER, WRONG));
    assert_eq!((statuses(&replies, 403), statuses(&replies, 429)), (10, 35));
    for site in &sites {
        let reply = site.log_in("", USER, PASSWORD);
        assert_eq!(reply.status, 429, "the right one is not looked at either");
        let retry_after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((3590..=3600).contains(&retry_after), "{retry_after}");
    }
}

#[test]
fn a_lock_ends_on_all_instances_when_redis_says_so() {
    let redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    count(&sites[0], 10);
    assert_eq!(sites[1].log_in("", USER, PASSWORD).status, 429);
    let keys: Vec<String> = redis.ask("KEYS secure-app:attempts:00*");
    assert_eq!(keys.len(), 1);
    let _: bool = redis.ask(&format!("PEXPIRE {} 1", keys[0]));
    wait_for("the end", || (sites[1].log_in("", USER, PASSWORD).status == 303).then_some(()));
    assert_eq!(sites[0].log_in("", USER, PASSWORD).status, 303);
}

#[test]
fn a_right_password_gives_back_what_was_counted_on_any_instance() {
    let redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    count(&sites[0], 9);
    assert_eq!(sites[1].log_in("", USER, PASSWORD).status, 303);
    let keys: Vec<String> = redis.ask("KEYS secure-app:attempts:00*");
    assert!(keys.is_empty(), "of this name and address: {keys:?}");
    let keys: Vec<String> = redis.ask("KEYS secure-app:attempts:01*");
    assert_eq!(redis.ask::<u32>(&format!("HGET {} count", keys[0])), 9, "of the address");
    // The tenth in a row, looked at in parallel with others of which one is right.
    count(&sites[0], 9);
    assert_eq!(sites[0].log_in("", USER, PASSWORD).status, 303, "the tenth one");
    count(&sites[1], 9);
}

#[test]
fn an_attempt_at_the_limit_that_turns_out_right_leaves_no_lock_at_the_address() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    site.runtime().block_on(async {
        for number in 0..99 {
            let _ = site.app().limits.begin(&format!("user-{number}"), HERE).await.unwrap();
        }
    });
    assert_eq!(site.log_in("", USER, PASSWORD).status, 303, "the hundredth");
    assert_eq!(site.log_in("", USER, WRONG).status, 403, "the hundredth again");
    assert_eq!(site.log_in("", USER, PASSWORD).status, 429);
}

#[test]
fn an_attempt_that_is_given_back_at_the_limit_takes_the_lock_with_it() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    count(&site, 9);
    site.runtime().block_on(async {
        let limits = &site.app().limits;
        let tenth = limits.begin(USER, HERE).await.unwrap();
        limits.give_back(tenth).await.unwrap();
    });
    let keys: Vec<String> = redis.ask("KEYS secure-app:attempts:00*");
    let left = Duration::from_millis(redis.ask(&format!("PTTL {}", keys[0])));
    assert!(left > 89 * 24 * HOUR, "as long as the window, not as the lock: {left:?}");
    count(&site, 1);
}

#[test]
fn an_attempt_of_an_earlier_window_takes_nothing_from_this_one() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    site.runtime().block_on(async {
        let limits = &site.app().limits;
        let early = limits.begin(USER, HERE).await.unwrap();
        for key in redis.ask::<Vec<String>>("KEYS secure-app:attempts:*") {
            let _: bool = redis.ask(&format!("DEL {key}"));
        }
        // Another millisecond, so that it is another window.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let _ = limits.begin(USER, HERE).await.unwrap();
        limits.give_back(early).await.unwrap();
    });
    let keys: Vec<String> = redis.ask("KEYS secure-app:attempts:*");
    assert_eq!(keys.len(), 2, "of the name and of the address");
    for key in keys {
        assert_eq!(redis.ask::<u32>(&format!("HGET {key} count")), 1);
    }
}

/// How many attempts are counted there, until there is a lock.
fn counted(site: &Site) -> usize {
    site.runtime().block_on(async {
        let mut counted = 0;
        loop {
            match site.app().limits.begin(USER, HERE).await {
                Ok(_) => counted += 1,
                Err(Refused::RetryAfter(_)) => break counted,
                Err(Refused::Failed(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
}

#[test]
fn no_attempt_is_counted_where_the_ones_before_are_lost_until_whoever_knows_them_has_written_them_back() {
    let mut redis = Redis::start();
    let losses: [fn(&mut Redis); 2] = [
        |redis| redis.ask("FLUSHALL"),
        |redis| {
            redis.kill();
            redis.start_again();
        },
    ];
    let key = common::new_key();
    for lose in losses {
        for other in [false, true] {
            let sites: [Site; 2] = std::array::from_fn(|_| prepared(&redis, &key).started());
            count(&sites[0], 9);
            lose(&mut redis);
            assert_eq!(counted(&sites[usize::from(other)]), 1, "the tenth");
            drop(sites);
            let _: () = redis.ask("FLUSHALL");
        }
    }
}

#[test]
fn what_an_instance_remembers_is_no_less_than_what_it_has_counted_in_parallel() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    for number in 0..20 {
        let begin = |_| {
            let (app, user) = (Arc::clone(site.app()), format!("user-{number}"));
            let address = IpAddr::V4(Ipv4Addr::new(127, 0, 1, number));
            site.runtime().spawn(async move { app.limits.begin(&user, address).await.map(drop) })
        };
        let attempts: Vec<_> = (0..10).map(begin).collect();
        for attempt in attempts {
            site.runtime().block_on(attempt).unwrap().unwrap();
        }
    }
    let counts: Vec<u32> = site.app().limits.counts().iter().map(|(_, count)| count.count).collect();
    assert_eq!(counts, [10; 40], "of names and of addresses");
}

#[test]
fn who_is_locked_and_goes_on_has_nothing_written() {
    let redis = Redis::start();
    let [mut site] = fleet(&redis);
    count(&site, 10);
    // With all on disk.
    site.restart();
    assert_eq!(site.log_in("", USER, PASSWORD).status, 429);
    let file = site.folder.path().join("data/secure-app.redb");
    let written = || std::fs::metadata(&file).unwrap().modified().unwrap();
    thread::sleep(Duration::from_millis(200));
    let before = written();
    for _ in 0..20 {
        assert_eq!(site.log_in("", USER, PASSWORD).status, 429);
    }
    thread::sleep(Duration::from_millis(200));
    assert_eq!(written(), before);
}

#[test]
fn a_restart_brings_no_attempts_back_that_were_forgotten_elsewhere() {
    let redis = Redis::start();
    let mut sites: [Site; 2] = fleet(&redis);
    count(&sites[0], 9);
    assert_eq!(sites[1].log_in("", USER, PASSWORD).status, 303);
    sites[0].restart();
    is_up(&sites[0]);
    let keys: Vec<String> = redis.ask("KEYS secure-app:attempts:00*");
    assert!(keys.is_empty(), "{keys:?}");
}

// ---------------------------------------------------------------------------------------------- Signing out

#[test]
fn a_sign_out_holds_on_all_instances_within_a_second() {
    let redis = Redis::start();
    let sites: [Site; 3] = fleet(&redis);
    for path in ["/logout", "/logout/everywhere"] {
        let cookies = sites[0].signed_in();
        for site in &sites {
            assert_eq!(site.user(&cookies).as_deref(), Some(USER), "{path}");
        }
        assert_eq!(sites[1].post(path, &cookies, "").status, 303);
        let begin = Instant::now();
        is_nobody(&sites, &cookies);
        assert!(begin.elapsed() < Duration::from_secs(1), "{path}: {:?}", begin.elapsed());
    }
}

#[test]
fn who_signs_out_everywhere_and_in_again_elsewhere_is_in() {
    let redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    // Its clock makes an epoch that is far ahead of the other one's.
    sites[0].advance(HOUR);
    for _ in 0..3 {
        let cookies = sites[1].signed_in();
        assert_eq!(sites[0].post("/logout/everywhere", &cookies, "").status, 303);
        let again = sites[1].signed_in();
        is_nobody(&sites, &cookies);
        for site in &sites {
            assert_eq!(site.user(&again).as_deref(), Some(USER));
        }
    }
}

#[test]
fn a_session_has_the_users_epoch_of_redis_which_this_instance_may_not_have_heard_of() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    let _: () = redis.ask(&format!("HSET secure-app:epochs {USER} 1700000000000"));
    let (before, cookies) = (site.app().denylist.epoch(USER), site.signed_in());
    assert_eq!(before, 0);
    let _: String = redis
        .ask(&format!("XADD secure-app:sign-outs * user {USER} epoch 1700000000000 until 4000000000000"));
    wait_for("the epoch", || (site.app().denylist.epoch(USER) != 0).then_some(()));
    assert_eq!(site.user(&cookies).as_deref(), Some(USER));
}

#[test]
fn a_sign_out_everywhere_ends_the_session_that_asks_for_it_at_once_whatever_epoch_that_has() {
    let mut redis = Redis::start();
    let [site] = fleet(&redis);
    let ahead = milliseconds(SystemTime::now() + HOUR);
    let _: () = redis.ask(&format!("HSET secure-app:epochs {USER} {ahead}"));
    let cookies = site.signed_in();
    redis.kill();
    is_down(&site);
    assert_eq!(site.post("/logout/everywhere", &cookies, "").status, 303);
    assert_eq!(site.user(&cookies), None);
}

#[test]
fn a_sign_out_is_not_forgotten_for_an_epoch_that_is_older_than_its_session() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    let id = SessionId::from_bytes([7; 16]);
    let ends = "until 4000000000000";
    let _: String =
        redis.ask(&format!("XADD secure-app:sign-outs * session {id} user {USER} epoch 2 {ends}"));
    let _: String = redis.ask(&format!("XADD secure-app:sign-outs * user {USER} epoch 1 {ends}"));
    let denylist = &site.app().denylist;
    wait_for("the epoch", || (denylist.epoch(USER) == 1).then_some(()));
    assert!(denylist.refuses(id, USER, 2));
    let _: String = redis.ask(&format!("XADD secure-app:sign-outs * user {USER} epoch 3 {ends}"));
    wait_for("the next one", || (denylist.epoch(USER) == 3).then_some(()));
    assert_eq!(denylist.sizes(), (0, 1), "the epoch stands for it");
    let _: String =
        redis.ask(&format!("XADD secure-app:sign-outs * session {id} user {USER} epoch 2 {ends}"));
    let _: String = redis.ask(&format!("XADD secure-app:sign-outs * user {USER} epoch 4 {ends}"));
    wait_for("one more", || (denylist.epoch(USER) == 4).then_some(()));
    assert_eq!(denylist.sizes(), (0, 1), "also for one that is heard of later");
}

#[test]
fn an_epoch_that_somebody_made_up_is_none() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    let cookies = site.signed_in();
    for epoch in [u64::MAX, 1 << 53, 5] {
        let _: String =
            redis.ask(&format!("XADD secure-app:sign-outs * user {USER} epoch {epoch} until 4000000000000"));
    }
    wait_for("the last one", || (site.app().denylist.epoch(USER) == 5).then_some(()));
    assert_eq!(site.user(&cookies), None);
    let cookies = site.signed_in();
    assert_eq!(site.post("/logout/everywhere", &cookies, "").status, 303);
    assert_eq!(site.user(&cookies), None);
    assert_eq!(site.user(&site.signed_in()).as_deref(), Some(USER));
    // Nor is one that Redis says it has given.
    let before = site.app().denylist.epoch(USER);
    let _: () = redis.ask(&format!("HSET secure-app:epochs {USER} {}", 1_u64 << 60));
    site.post("/logout/everywhere", &site.signed_in(), "");
    assert!((before..1 << 50).contains(&site.app().denylist.epoch(USER)));
    assert_eq!(site.app().shared.as_ref().unwrap().waiting(), 0);
}

#[test]
fn a_sign_out_everywhere_that_arrives_late_and_by_a_clock_that_is_behind_ends_all_sessions_so_far() {
    arrives_late(|_| {});
}

#[test]
fn a_sign_out_everywhere_that_was_delivered_is_not_delivered_again_after_a_restart() {
    let redis = Redis::start();
    let [mut site] = fleet(&redis);
    site.post("/logout/everywhere", &site.signed_in(), "");
    let (again, entries) = (site.signed_in(), redis.ask::<usize>("XLEN secure-app:sign-outs"));
    site.restart();
    assert_eq!(site.app().shared.as_ref().unwrap().waiting(), 0);
    assert_eq!(site.user(&again).as_deref(), Some(USER));
    assert_eq!(redis.ask::<usize>("XLEN secure-app:sign-outs"), entries);
}

#[test]
fn what_is_delivered_again_since_an_answer_was_lost_is_there_once() {
    let redis = Redis::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let shared = Shared::new(&redis.url().parse().unwrap());
        let session =
            Change::Session { id: [7; 16], user: USER.to_owned(), epoch: 0, until: 4_000_000_000_000 };
        let everywhere = Change::User { name: USER.to_owned(), epoch: 5, until: 4_000_000_000_000 };
        let (link, _) = shared.connect().await.unwrap();
        link.add(&[session.clone(), everywhere.clone()], Some(0)).await.unwrap();
        // Over another connection, and with one more behind.
        let (link, _) = shared.connect().await.unwrap();
        link.add(&[session.clone(), everywhere.clone(), everywhere.clone()], Some(0)).await.unwrap();
        assert_eq!(redis.ask::<u64>(&format!("HGET secure-app:epochs {USER}")), 6, "two, and no three");
        assert_eq!(redis.ask::<usize>("XLEN secure-app:sign-outs"), 1 + 3);
        // Another instance numbers its own.
        let other = Shared::new(&redis.url().parse().unwrap());
        let (link, _) = other.connect().await.unwrap();
        link.add(&[everywhere], Some(0)).await.unwrap();
        assert_eq!(redis.ask::<u64>(&format!("HGET secure-app:epochs {USER}")), 7);
    });
}

#[test]
fn so_does_one_that_was_not_delivered_before_a_restart() {
    arrives_late(Site::restart);
}

fn arrives_late(meanwhile: fn(&mut Site)) {
    let redis = Redis::start();
    let mut sites: [Site; 3] = fleet(&redis);
    sites[0].advance(6 * HOUR);
    let wire = Wire::to(&redis);
    let key = sites[2].key.clone();
    sites[2].configure(&format!("redis_url = '{}'", wire.url()), &format!("primary = '{key}'"));
    sites[2].restart();
    let earlier = sites[2].signed_in();
    wire.cut();
    is_down(&sites[2]);
    sites[0].post("/logout/everywhere", &sites[0].signed_in(), "");
    // Of an epoch of six hours ahead, of which the third instance has not heard.
    let ahead = sites[1].signed_in();
    assert_eq!(sites[2].user(&earlier).as_deref(), Some(USER));
    assert_eq!(sites[2].post("/logout/everywhere", &earlier, "").status, 303);
    meanwhile(&mut sites[2]);
    assert_eq!(sites[1].user(&ahead).as_deref(), Some(USER), "nobody has heard of it");
    wire.mend();
    is_nobody(&sites, &ahead);
    is_up(&sites[2]);
    let again = sites[2].signed_in();
    sites.iter().for_each(|site| assert_eq!(site.user(&again).as_deref(), Some(USER)));
}

/// Its way to Redis is a wire of its own.
fn wired(redis: &Redis, key: &str) -> (Wire, Site) {
    let (wire, mut site) = (Wire::to(redis), Site::prepared(""));
    site.key = key.to_owned();
    site.configure(&format!("redis_url = '{}'", wire.url()), &format!("primary = '{key}'"));
    (wire, site.started())
}

/// A user signs out everywhere where the clock is ahead, and signs in again where that is known; then signs out everywhere at
/// the first of these two, which is cut off and has not heard of it. Returns the cookies of that last session.
fn signed_out_late(redis: &Redis) -> ([(Wire, Site); 2], String) {
    let [mut ahead] = fleet(redis);
    let sites = std::array::from_fn(|_| wired(redis, &ahead.key));
    let [(late_wire, late), (_, other)] = &sites;
    ahead.advance(6 * HOUR);
    let earlier = late.signed_in();
    late_wire.cut();
    is_down(late);
    ahead.post("/logout/everywhere", &ahead.signed_in(), "");
    wait_for("the epoch", || (other.app().denylist.epoch(USER) > 0).then_some(()));
    let later = other.signed_in();
    assert_eq!(late.post("/logout/everywhere", &earlier, "").status, 303);
    ahead.stop();
    (sites, later)
}

#[test]
fn a_sign_out_everywhere_ends_all_sessions_also_if_redis_loses_it_before_anybody_has_read_it() {
    let redis = Redis::start();
    let ([(late_wire, late), (wire, other)], later) = signed_out_late(&redis);
    [&late_wire, &wire].iter().for_each(|wire| wire.deafen(true));
    late_wire.mend();
    wait_for("the delivery", || (late.app().shared.as_ref().unwrap().waiting() == 0).then_some(()));
    let _: () = redis.ask("FLUSHALL");
    [&late_wire, &wire].iter().for_each(|wire| wire.deafen(false));
    is_nobody(&[late, other], &later);
}

#[test]
fn a_sign_out_everywhere_that_arrives_before_an_earlier_one_is_written_back_ends_all_sessions_so_far() {
    let redis = Redis::start();
    let ([(late_wire, late), (wire, other)], later) = signed_out_late(&redis);
    wire.cut();
    let _: () = redis.ask("FLUSHALL");
    late_wire.mend();
    wait_for("the delivery", || (late.app().shared.as_ref().unwrap().waiting() == 0).then_some(()));
    assert_eq!(other.user(&later).as_deref(), Some(USER));
    wire.mend();
    let sites = [late, other];
    is_nobody(&sites, &later);
    sites.iter().for_each(is_up);
    let again = sites[0].signed_in();
    sites.iter().for_each(|site| assert_eq!(site.user(&again).as_deref(), Some(USER)));
    // What is written back otherwise is as it was.
    let epoch = sites[0].app().denylist.epoch(USER);
    let _: () = redis.ask("FLUSHALL");
    wait_for("it to be written back", || {
        redis.ask::<bool>(&format!("HEXISTS secure-app:epochs {USER}")).then_some(())
    });
    assert_eq!(redis.ask::<u64>(&format!("HGET secure-app:epochs {USER}")), epoch);
}

#[test]
fn a_sign_out_everywhere_by_a_clock_that_is_more_than_a_year_behind_is_not_forgotten_where_it_is_right() {
    let redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    let cookies = sites[1].signed_in();
    sites[0].turn_back(500 * 24 * HOUR);
    assert_eq!(sites[0].post("/logout/everywhere", &sites[0].signed_in(), "").status, 303);
    let (app, is_nobody) = (sites[1].app(), || sites[1].user(&cookies).is_none().then_some(()));
    wait_for("it to be refused", is_nobody);
    sites[1].runtime().block_on(app.denylist.sweep()).unwrap();
    assert_eq!(sites[1].user(&cookies), None);
}

#[test]
fn a_sign_out_everywhere_ends_a_session_whose_epoch_redis_has_lost_before_anybody_has_read_it() {
    let redis = Redis::start();
    let [here] = fleet(&redis);
    let earlier = here.signed_in();
    // Begun by a clock that is ahead, of whoever has gone since.
    let ahead = milliseconds(SystemTime::now() + HOUR);
    let _: () = redis.ask(&format!("HSET secure-app:epochs {USER} {ahead}"));
    let later = here.signed_in();
    let there = prepared(&redis, &here.key).started();
    let _: () = redis.ask("FLUSHALL");
    is_down(&here);
    // It has not heard of that epoch, or it has by now.
    there.runtime().block_on(there.app().denylist.sign_out_everywhere(USER, 0)).unwrap();
    let sites = [here, there];
    is_nobody(&sites, &earlier);
    is_nobody(&sites, &later);
    sites.iter().for_each(is_up);
    let again = sites[0].signed_in();
    sites.iter().for_each(|site| assert_eq!(site.user(&again).as_deref(), Some(USER)));
}

#[test]
fn a_sign_out_everywhere_that_redis_got_and_could_not_say_so_is_not_begun_again_after_a_restart() {
    let redis = Redis::start();
    let mut sites: [Site; 2] = fleet(&redis);
    // Redis knows the script by then.
    sites[0].post("/logout", &sites[0].signed_in(), "");
    let cookies = sites[0].signed_in();
    redis.pause();
    assert_eq!(sites[0].post("/logout/everywhere", &cookies, "").status, 303);
    sites[0].stop();
    redis.resume();
    wait_for("it to be there", || (redis.ask::<usize>("XLEN secure-app:sign-outs") == 3).then_some(()));
    wait_for("it to be heard of", || sites[1].user(&cookies).is_none().then_some(()));
    is_up(&sites[1]);
    let again = sites[1].signed_in();
    sites[0].restart();
    is_up(&sites[0]);
    wait_for("the delivery", || (sites[0].app().shared.as_ref().unwrap().waiting() == 0).then_some(()));
    is_nobody(&sites, &cookies);
    thread::sleep(Duration::from_millis(500));
    for (number, site) in sites.iter().enumerate() {
        assert_eq!(site.user(&again).as_deref(), Some(USER), "instance {number}");
    }
}

#[test]
fn who_signs_in_as_soon_as_redis_is_back_is_not_signed_out_by_what_was_waiting_until_then() {
    let redis = Redis::start();
    let [ahead] = fleet(&redis);
    let (wire, here) = wired(&redis, &ahead.key);
    let cookies = here.signed_in();
    wire.cut();
    is_down(&here);
    // By another clock, so that its epoch is the later one.
    ahead.advance(HOUR);
    ahead.post("/logout/everywhere", &ahead.signed_in(), "");
    let many = (0..20_000_u128).map(|number| Change::Session {
        id: number.to_be_bytes(),
        user: format!("user-{number}"),
        epoch: 0,
        until: 4_000_000_000_000,
    });
    here.runtime().block_on(here.app().shared.as_ref().unwrap().put(many));
    here.post("/logout/everywhere", &cookies, "");
    wire.mend();
    is_up(&here);
    let again = here.signed_in();
    wait_for("all that waited", || (redis.ask::<usize>("XLEN secure-app:sign-outs") == 20_003).then_some(()));
    let epoch = redis.ask::<u64>(&format!("HGET secure-app:epochs {USER}"));
    let sites = [here, ahead];
    for site in &sites {
        wait_for("it to be heard of", || (site.app().denylist.epoch(USER) == epoch).then_some(()));
        assert_eq!(site.user(&again).as_deref(), Some(USER));
    }
    is_nobody(&sites, &cookies);
}

#[test]
fn a_request_of_a_session_asks_redis_nothing() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    let cookies = site.signed_in();
    let _: () = redis.ask("CONFIG RESETSTAT");
    for _ in 0..200 {
        assert_eq!(site.user(&cookies).as_deref(), Some(USER));
    }
    let info: String = redis.ask("INFO commandstats");
    let commands: Vec<&str> =
        info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next()).collect();
    // What keeps in step, and the test itself.
    let known = [
        "xread",
        "get",
        "exists",
        "info",
        "ping",
        "client|setinfo",
        "config|resetstat",
        "hello",
        "select",
        "xtrim",
        "time",
    ];
    assert!(commands.iter().all(|command| known.contains(command)), "{commands:?}");
    assert!(redis.calls("xread") + redis.calls("get") < 50, "{info}");
}

#[test]
fn a_new_instance_knows_who_signed_out_before() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    let (one, two) = (site.signed_in(), site.signed_in());
    site.post("/logout", &one, "");
    let sites = [prepared(&redis, &site.key).started()];
    assert_eq!(sites[0].user(&one), None);
    assert_eq!(sites[0].user(&two).as_deref(), Some(USER));
}

#[test]
fn a_disk_that_hangs_keeps_no_sign_out_of_elsewhere_from_holding_here() {
    let redis = Redis::start();
    let [there] = fleet(&redis);
    let mut here = prepared(&redis, &there.key);
    let disk = Disk::of(&here);
    here.start_program(&disk.environment());
    let (stays, ends) = (there.signed_in(), there.signed_in());
    assert_eq!(here.user(&ends).as_deref(), Some(USER));
    disk.hangs();
    // Each is one that is written.
    for number in 0..40 {
        let user = format!("user-{number}");
        there.runtime().block_on(there.app().denylist.sign_out_everywhere(&user, 0)).unwrap();
    }
    there.post("/logout", &ends, "");
    let begin = Instant::now();
    wait_for("it to be refused", || here.user(&ends).is_none().then_some(()));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(here.user(&stays).as_deref(), Some(USER));
    assert_eq!(here.log_in("", USER, PASSWORD).status, 303, "what counts is in Redis");
    wait_for("it to be shown", || {
        let reply = here.get("/health", "");
        (reply.status == 503 && reply.body.contains("the database is not written")).then_some(())
    });
    disk.goes_on();
    wait_for("the end", || (here.get("/health", "").status == 200).then_some(()));
    // It is all there.
    here.its_program().signal("TERM");
    assert!(here.take_program().ended().0.success());
    let here = here.started();
    assert_eq!(here.app().denylist.sizes().1, 40);
}

// ---------------------------------------------------------------------------------------------- Redis is away

/// What holds while Redis is away, and after.
fn while_away(
    sites: &[Site],
    redis: &mut Redis,
    goes: impl FnOnce(&mut Redis),
    comes: impl FnOnce(&mut Redis),
) {
    let (stays, ends) = (sites[0].signed_in(), sites[0].signed_in());
    under_load(sites, &stays, || {
        goes(redis);
        for site in sites {
            // The first may have been sent before it was known.
            site.log_in("", USER, PASSWORD);
            is_down(site);
            let begin = Instant::now();
            let replies: Vec<_> = (0..10).map(|_| site.log_in("", USER, PASSWORD)).collect();
            assert_eq!(statuses(&replies, 503), 10);
            assert!(replies.iter().all(|reply| reply.header("retry-after") == Some("1")));
            assert!(begin.elapsed() < Duration::from_secs(1), "ten at once: {:?}", begin.elapsed());
            assert!(site.get("/login", "").body.contains(DEGRADED));
            assert!(site.get("/", &stays).body.contains(DEGRADED));
            assert_eq!(site.get("/health", "").status, 200, "a load balancer does not take them all away");
        }
        let reply = sites[1].post("/logout", &ends, "");
        assert_eq!(reply.status, 303);
        assert!(sites[1].get("/", &reply.cookies()).body.contains(DEGRADED));
        assert_eq!(sites[1].user(&ends), None, "here it holds at once");
        assert_eq!(sites[0].user(&ends).as_deref(), Some(USER), "there it cannot be known");
        comes(redis);
        sites.iter().for_each(is_up);
        is_nobody(sites, &ends);
        for site in sites {
            assert_eq!(site.log_in("", USER, PASSWORD).status, 303);
            assert!(!site.get("/", &stays).body.contains(DEGRADED));
        }
    });
}

#[test]
fn while_redis_is_stopped_signed_in_users_go_on_and_sign_outs_are_delivered_later() {
    let mut redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    while_away(&sites, &mut redis, Redis::kill, Redis::start_again);
}

#[test]
fn while_redis_is_paused_signed_in_users_go_on_and_sign_outs_are_delivered_later() {
    let mut redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    while_away(&sites, &mut redis, |redis| redis.pause(), |redis| redis.resume());
    let keys: Vec<String> = redis.ask("KEYS secure-app:attempts:*");
    assert!(keys.is_empty(), "what nobody waited for any more was counted: {keys:?}");
}

#[test]
fn a_redis_that_is_full_or_a_replica_is_as_one_that_is_away() {
    let mut redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    let set = |setting: &'static str| move |redis: &mut Redis| redis.ask::<()>(setting);
    while_away(&sites, &mut redis, set("CONFIG SET maxmemory 1"), set("CONFIG SET maxmemory 0"));
    while_away(&sites, &mut redis, set("REPLICAOF 127.0.0.1 1"), set("REPLICAOF NO ONE"));
}

#[test]
fn a_redis_that_refuses_one_command_is_tried_now_and_then_until_it_does_not() {
    let redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    let cookies = sites[0].signed_in();
    let _: () = redis.ask("ACL SETUSER default -xadd");
    assert_eq!(sites[0].post("/logout", &cookies, "").status, 303);
    let shared = sites[0].app().shared.as_ref().unwrap();
    // The first ones are close to each other.
    wait_for("some tries", || (shared.errors() > 5).then_some(()));
    let before = shared.errors();
    thread::sleep(Duration::from_secs(3));
    let tries = shared.errors() - before;
    assert!((1..=4).contains(&tries), "{tries}");
    let _: () = redis.ask("ACL SETUSER default +xadd");
    is_nobody(&sites, &cookies);
}

#[test]
fn what_redis_lost_is_written_back_by_whoever_knows_it() {
    let mut redis = Redis::start();
    let losses: [fn(&mut Redis); 4] = [
        |redis| redis.ask("FLUSHALL"),
        |redis| {
            redis.kill();
            redis.start_again();
        },
        |redis| redis.ask("DEL secure-app:sign-outs"),
        |redis| redis.ask("DEL secure-app:generation"),
    ];
    let sites: [Site; 3] = fleet(&redis);
    for (number, lose) in losses.into_iter().enumerate() {
        let (stays, one, two, three) =
            (sites[0].signed_in(), sites[0].signed_in(), sites[1].signed_in(), sites[2].signed_in());
        sites[0].post("/logout", &one, "");
        sites[1].post("/logout", &two, "");
        is_nobody(&sites, &one);
        is_nobody(&sites, &two);
        count(&sites[0], 9);
        under_load(&sites, &stays, || {
            let before = sites.each_ref().map(|site| site.app().shared.as_ref().unwrap().connections());
            lose(&mut redis);
            for (site, before) in sites.iter().zip(before) {
                let shared = site.app().shared.as_ref().unwrap();
                wait_for("it to be noticed", || (shared.connections() > before).then_some(()));
            }
            sites[2].post("/logout", &three, "");
            is_nobody(&sites, &three);
        });
        // As often as there are instances, less is not known to have come to an end: the log is read by one that is new.
        let entries = 3 * (number + 1);
        wait_for("all that was signed out", || {
            (redis.ask::<usize>("XLEN secure-app:sign-outs") > entries).then_some(())
        });
        let new = [prepared(&redis, &sites[0].key).started()];
        for cookies in [&one, &two, &three] {
            is_nobody(&new, cookies);
        }
        assert_eq!(new[0].user(&stays).as_deref(), Some(USER));
        // The count is there as well.
        assert_eq!(sites[1].log_in("", USER, WRONG).status, 403, "the tenth one");
        assert_eq!(sites[2].log_in("", USER, PASSWORD).status, 429);
        let _: usize = redis.ask("EVAL return(#redis.call('keys','secure-app:attempts:*')) 0");
        for key in redis.ask::<Vec<String>>("KEYS secure-app:attempts:*") {
            let _: bool = redis.ask(&format!("PEXPIRE {key} 1"));
        }
        wait_for("the end of the lock", || (sites[1].log_in("", USER, PASSWORD).status == 303).then_some(()));
    }
}

#[test]
fn what_a_redis_of_some_minutes_ago_does_not_have_is_written_back() {
    let mut redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    let (one, two) = (sites[0].signed_in(), sites[0].signed_in());
    sites[0].post("/logout", &one, "");
    is_nobody(&sites, &one);
    let _: () = redis.ask("SAVE");
    sites[1].post("/logout", &two, "");
    is_nobody(&sites, &two);
    assert_eq!(redis.ask::<usize>("XLEN secure-app:sign-outs"), 3);
    redis.kill();
    redis.start_again();
    wait_for("what was missing", || (redis.ask::<usize>("XLEN secure-app:sign-outs") == 3).then_some(()));
    is_nobody(&[prepared(&redis, &sites[0].key).started()], &two);
}

#[test]
fn a_redis_that_was_a_replica_meanwhile_is_read_and_written_back_as_another_one() {
    let (one, two) = (Redis::start(), Redis::start());
    let [site] = fleet(&one);
    let replicate = |from: &Redis, to: &Redis, entries| {
        let _: () = from.ask("CONFIG SET repl-diskless-sync-delay 0");
        let _: () = to.ask(&format!("REPLICAOF {} 6379", from.address()));
        wait_for("the copy", || {
            (to.ask::<usize>("EXISTS secure-app:sign-outs") == 1
                && to.ask::<usize>("XLEN secure-app:sign-outs") == entries)
                .then_some(())
        });
    };
    let (before, after) = (site.signed_in(), site.signed_in());
    replicate(&one, &two, 1);
    let _: () = two.ask("REPLICAOF NO ONE");
    // Each has what the other one has not, and the last of it is older than what this instance has read.
    site.post("/logout", &before, "");
    let _: String = two.ask("XADD secure-app:sign-outs * user bob epoch 3 until 4000000000000");
    site.post("/logout", &after, "");
    replicate(&two, &one, 2);
    is_down(&site);
    let _: () = one.ask("REPLICAOF NO ONE");
    wait_for("what is new there", || (site.app().denylist.epoch("bob") == 3).then_some(()));
    wait_for("what was missing", || (one.ask::<usize>("XLEN secure-app:sign-outs") == 4).then_some(()));
}

#[test]
fn sign_outs_that_were_not_delivered_before_a_restart_are_after_it() {
    let mut redis = Redis::start();
    let mut sites: [Site; 2] = fleet(&redis);
    let (one, two) = (sites[0].signed_in(), sites[1].signed_in());
    redis.kill();
    sites.iter().for_each(is_down);
    sites[0].post("/logout", &one, "");
    // It has heard of all others before, so it starts.
    sites[0].restart();
    assert_eq!(sites[0].user(&one), None);
    assert_eq!(sites[0].user(&two).as_deref(), Some(USER));
    assert!(sites[0].app().is_degraded());
    redis.start_again();
    is_nobody(&sites, &one);
}

#[test]
fn an_instance_that_never_heard_who_signed_out_does_not_start_without_redis() {
    let mut redis = Redis::prepared();
    let site = prepared(&redis, &common::new_key());
    let (status, output) = Program::start(&site.file(), &[]).ended();
    assert!(!status.success());
    assert!(output.contains("redis_url: Redis is not reached"), "{output}");
    redis.start_again();
    site.started();
}

#[test]
fn the_log_says_what_is_lost_and_when_it_is_back() {
    let mut redis = Redis::start();
    let mut site = prepared(&redis, &common::new_key());
    site.start_program(&[]);
    let program = site.its_program();
    program.says("Redis: in step with all other instances");
    redis.kill();
    program.says("Redis: nobody signs in until it is back");
    // Its end was one reason, that nobody listens any more is another.
    program.says("Redis: it is not back, now for another reason");
    let lines = program.output().lines().filter(|line| line.contains("nobody signs in")).count();
    redis.start_again();
    wait_for("the second time", || {
        (program.output().matches("in step with all other instances").count() == 2).then_some(())
    });
    assert_eq!(lines, 1);
    assert_eq!(program.output().matches("nobody signs in until").count(), 1, "{}", program.output());
}

// ---------------------------------------------------------------------------------------------- Whatever happens

/// A cookie, and what is to hold for it in the end.
struct Held {
    user: &'static str,
    cookies: String,
    /// Signed out, alone or with all of the user's.
    is_over: bool,
    /// Begun while all instances were in step, and not signed out since.
    is_good: bool,
}

/// Three instances do and suffer whatever comes; each time they are in step again, all agree on who is signed in. More of it:
/// `ROUNDS=20 SEED=2 cargo test -p secure-app --test redis whatever`.
#[test]
fn whatever_happens_who_signed_out_is_out_and_who_did_not_is_in() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (rounds, seed) = (number("ROUNDS").unwrap_or(3), number("SEED").unwrap_or(1));
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let mut redis = Redis::start();
    let key = common::new_key();
    let users = ["ada", "bob"];
    let hash = common::password_hash();
    let keys = format!("primary = '{key}'\n[[users]]\nname = 'bob'\npassword_hash = '{hash}'");
    let wires: [Wire; 3] = std::array::from_fn(|_| Wire::to(&redis));
    let mut sites = wires.each_ref().map(|wire| {
        let site = Site::prepared("");
        site.configure(&format!("redis_url = '{}'", wire.url()), &keys);
        site.started()
    });
    let mut clocks = [0_i64; 3];
    let mut held: Vec<Held> = Vec::new();
    for round in 0..rounds {
        let mut done = Vec::new();
        for _ in 0..4 + random(14) {
            let (at, user) = (random(3), users[random(2)]);
            match random(16) {
                0..=3 => {
                    let reply = sites[at].log_in("", user, PASSWORD);
                    done.push(format!("{user} signs in at {at}: {}", reply.status));
                    if reply.status == 303 {
                        held.push(Held { user, cookies: reply.cookies(), is_over: false, is_good: false });
                    }
                }
                what @ 4..=7 if !held.is_empty() => {
                    let which = random(held.len());
                    let user = held[which].user;
                    if sites[at].user(&held[which].cookies).is_none() {
                        continue;
                    }
                    let everywhere = what > 5;
                    let path = if everywhere { "/logout/everywhere" } else { "/logout" };
                    done.push(format!("{which} of {user} at {at}: {path}"));
                    assert_eq!(sites[at].post(path, &held[which].cookies, "").status, 303);
                    for (number, held) in held.iter_mut().enumerate() {
                        if number == which || (everywhere && held.user == user) {
                            (held.is_over, held.is_good) = (true, false);
                        }
                    }
                }
                8 | 9 => {
                    done.push(format!("{at} is cut off"));
                    wires[at].cut();
                }
                10 => {
                    done.push(format!("{at} is mended"));
                    wires[at].mend();
                }
                11 => {
                    done.push("all is lost".to_owned());
                    redis.resume();
                    let _: () = redis.ask("FLUSHALL");
                }
                12 => {
                    let empty = random(2) == 0;
                    done.push(format!("Redis is killed, empty: {empty}"));
                    redis.resume();
                    if !empty {
                        let _: () = redis.ask("SAVE");
                    }
                    redis.kill();
                    thread::sleep(Duration::from_millis(random(200) as u64));
                    redis.start_again();
                }
                13 => {
                    let ahead = random(60_000) as i64 - 30_000;
                    done.push(format!("the clock of {at} is {ahead} ahead"));
                    let by = Duration::from_millis((ahead - clocks[at]).unsigned_abs());
                    if ahead > clocks[at] {
                        sites[at].advance(by)
                    } else {
                        sites[at].turn_back(by)
                    }
                    clocks[at] = ahead;
                }
                14 => {
                    done.push(format!("{at} is restarted"));
                    sites[at].restart();
                }
                _ if random(2) == 0 => {
                    done.push("Redis is paused".to_owned());
                    redis.pause();
                }
                _ => {
                    done.push("Redis is resumed".to_owned());
                    redis.resume();
                    thread::sleep(Duration::from_millis(random(400) as u64));
                }
            }
        }
        redis.resume();
        eprintln!("seed {seed}, round {round}: {done:#?}");
        wires.iter().for_each(Wire::mend);
        // What was lost last is noticed by then.
        thread::sleep(Duration::from_millis(900));
        sites.iter().for_each(is_up);
        for site in &sites {
            let shared = site.app().shared.as_ref().unwrap();
            wait_for("the delivery", || (shared.waiting() == 0).then_some(()));
        }
        for user in users {
            wait_for("all to have an epoch", || {
                let epochs = sites.each_ref().map(|site| site.app().denylist.epoch(user));
                epochs.iter().all(|epoch| *epoch == epochs[0]).then_some(())
            });
        }
        // What is written back is by then.
        thread::sleep(Duration::from_millis(700));
        for (number, held) in held.iter().enumerate() {
            for (at, site) in sites.iter().enumerate() {
                let text = format!("seed {seed}, round {round}: {number} of {} at {at}", held.user);
                if held.is_over {
                    wait_for(&text, || site.user(&held.cookies).is_none().then_some(()));
                } else if held.is_good {
                    assert_eq!(site.user(&held.cookies).as_deref(), Some(held.user), "{text}");
                }
            }
            let seen = sites.each_ref().map(|site| site.user(&held.cookies));
            assert!(seen.iter().all(|one| *one == seen[0]), "{number}: {seen:?}");
        }
        // Few are enough, and whoever is in now stays.
        held.retain(|held| sites[0].user(&held.cookies).is_some() || random(3) == 0);
        for held in &mut held {
            held.is_good = !held.is_over;
        }
        for user in users {
            let reply = sites[random(3)].log_in("", user, PASSWORD);
            assert_eq!(reply.status, 303, "seed {seed}, round {round}");
            held.push(Held { user, cookies: reply.cookies(), is_over: false, is_good: true });
        }
    }
}

// ---------------------------------------------------------------------------------------------- Keys that are broken

#[test]
fn a_count_that_is_none_is_as_good_as_not_there_and_in_nobodys_way() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    let shared = site.app().shared.as_ref().unwrap();
    count(&site, 1);
    let before = shared.connections();
    let mut keys: Vec<String> = redis.ask("KEYS secure-app:attempts:*");
    assert_eq!(keys.len(), 2);
    // The address's first: of the other one ten are a lock.
    keys.sort_by(|one, other| other.cmp(one));
    for key in &keys {
        for broken in [format!("SET {key} 1"), format!("HSET {key} count many"), format!("HDEL {key} window")]
        {
            if broken.starts_with("SET") {
                let _: bool = redis.ask(&format!("DEL {key}"));
            }
            let _: redis::Value = redis.ask(&broken);
            count(&site, 1);
            assert_eq!(redis.ask::<u32>(&format!("HGET {key} count")), 1, "{broken}");
        }
        // While an attempt is under way.
        site.runtime().block_on(async {
            let attempt = site.app().limits.begin(USER, HERE).await.unwrap();
            let _: () = redis.ask(&format!("SET {key} 1"));
            site.app().limits.give_back(attempt).await.unwrap();
        });
    }
    assert_eq!(shared.connections(), before);
    // What this instance knows of it is written back.
    count(&site, 9);
    for key in &keys {
        let _: () = redis.ask(&format!("SET {key} 1"));
    }
    let _: bool = redis.ask("DEL secure-app:generation");
    assert_eq!(counted(&site), 1, "the tenth");
}

#[test]
fn keys_of_another_type_are_as_good_as_lost() {
    let redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    let cookies = sites[0].signed_in();
    sites[0].post("/logout", &cookies, "");
    is_nobody(&sites, &cookies);
    for key in ["secure-app:generation", "secure-app:sign-outs"] {
        let before = sites[0].app().shared.as_ref().unwrap().connections();
        let _: bool = redis.ask(&format!("DEL {key}"));
        let _: bool = redis.ask(&format!("SADD {key} 1"));
        wait_for("it to be noticed", || {
            (sites[0].app().shared.as_ref().unwrap().connections() > before).then_some(())
        });
        is_nobody(&[prepared(&redis, &sites[0].key).started()], &cookies);
    }
}

#[test]
fn a_certificates_entry_that_cannot_be_read_keeps_nobody_from_signing_in() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    let shared = site.app().shared.as_ref().unwrap();
    let before = shared.connections();
    let refused = || assert!(site.runtime().block_on(shared.entry("challenges.json")).is_err());
    let _: bool = redis.ask("SADD secure-app:acme:challenges.json 1");
    refused();
    let _: () = redis.ask("ACL SETUSER default resetkeys ~secure-app:attempts:* ~secure-app:[^a]*");
    refused();
    site.runtime().block_on(async {
        assert!(shared.lock("me").await.is_err());
        assert!(shared.unlock("me").await.is_err());
    });
    // By then it would be lost.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(site.log_in("", USER, PASSWORD).status, 303);
    assert_eq!(shared.connections(), before);
    let _: () = redis.ask("ACL SETUSER default allkeys");
    // Nor is its lock in the way of whoever orders.
    let _: bool = redis.ask("SADD secure-app:acme:lock 1");
    assert!(site.runtime().block_on(shared.lock("me")).unwrap());
    assert!(!site.runtime().block_on(shared.lock("you")).unwrap());
}

#[test]
fn an_epoch_that_is_no_number_keeps_no_sign_out_back() {
    let redis = Redis::start();
    let sites: [Site; 2] = fleet(&redis);
    let _: () = redis.ask(&format!("HSET secure-app:epochs {USER} much"));
    let (one, two) = (sites[0].signed_in(), sites[0].signed_in());
    sites[0].post("/logout", &one, "");
    sites[0].post("/logout/everywhere", &two, "");
    is_nobody(&sites, &one);
    is_nobody(&sites, &two);
    assert_eq!(redis.ask::<usize>("XLEN secure-app:sign-outs"), 3);
}

#[test]
fn epochs_that_are_none_keep_no_sign_out_back_and_have_none_added_twice() {
    let redis = Redis::start();
    let [site] = fleet(&redis);
    let _: () = redis.ask("SET secure-app:epochs broken");
    let (app, shared) = (site.app(), site.app().shared.as_ref().unwrap());
    let session = Change::Session { id: [7; 16], user: USER.to_owned(), epoch: 0, until: 4_000_000_000_000 };
    let everywhere = Change::User { name: USER.to_owned(), epoch: 5, until: 4_000_000_000_000 };
    site.runtime().block_on(shared.put([session, everywhere]));
    wait_for("the delivery", || (shared.waiting() == 0).then_some(()));
    wait_for("what was delivered", || (app.denylist.epoch(USER) == 5).then_some(()));
    assert_eq!(redis.ask::<usize>("XLEN secure-app:sign-outs"), 3);
}

// ---------------------------------------------------------------------------------------------- Its address

#[test]
fn redis_is_reached_over_tls_and_with_a_password_that_no_error_shows() {
    const SECRET: &str = "opensesame";
    let redis = Redis::prepared();
    let mut site = Site::prepared("");
    let issuer = site.write("issuer.pem", &site.issuer()).display().to_string();
    site.write_certificate(redis.address());
    let read = |name: &str| std::fs::read_to_string(site.folder.path().join(name)).unwrap();
    let redis = redis.started_with_tls(SECRET, &read("certificate.pem"), &read("key.pem"));
    site.write_certificate("localhost");
    let url = redis.url();
    site.start_program(&[("REDIS_URL", &url), ("SSL_CERT_FILE", &issuer)]);
    assert_eq!(site.log_in("", USER, PASSWORD).status, 303);
    let other = "another";
    for (url, environment, reason) in [
        (url.replace(SECRET, other), ("SSL_CERT_FILE", &*issuer), "it refuses user name or password"),
        (url.clone(), ("RUST_BACKTRACE", "0"), "UnknownIssuer"),
        // A way that one takes by mistake: what is said then differs from system to system.
        (url.replace("rediss", "redis"), ("RUST_BACKTRACE", "0"), "6379, without TLS"),
    ] {
        let site = Site::prepared("");
        let (status, output) = Program::start(&site.file(), &[("REDIS_URL", &url), environment]).ended();
        assert!(!status.success());
        let place = format!("{}:6379, with", redis.address());
        assert!(output.contains(reason) && output.contains(&place), "{output}");
        assert!(!output.contains(SECRET) && !output.contains(other), "{output}");
    }
}

#[test]
fn the_rights_that_the_readme_names_are_enough() {
    let redis = Redis::start();
    let readme = include_str!("../README.md").replace("\\\n", "").replace(['\'', '"'], "");
    let (_, rights) =
        readme.split_once("redis-cli ACL SETUSER secure-app on >PASSWORD ").expect("it stands there");
    let rights = rights.lines().next().expect("a line").split_whitespace().collect::<Vec<_>>().join(" ");
    let _: () = redis.ask(&format!("ACL SETUSER secure-app on >opensesame {rights}"));
    let url = redis.url().replace("redis://", "redis://secure-app:opensesame@");
    let key = common::new_key();
    let sites: [Site; 2] = std::array::from_fn(|_| {
        let site = Site::prepared("");
        site.configure(&format!("redis_url = '{url}'"), &format!("primary = '{key}'"));
        site.started()
    });
    for path in ["/logout", "/logout/everywhere"] {
        assert_eq!(sites[0].log_in("", USER, "a guess of mine").status, 403);
        let cookies = sites[0].signed_in();
        sites[0].post(path, &cookies, "");
        is_nobody(&sites, &cookies);
    }
    let _: () = redis.ask("FLUSHALL");
    wait_for("what was lost", || (redis.ask::<usize>("XLEN secure-app:sign-outs") == 2).then_some(()));
    wait_for("sign-ins", || (sites[1].log_in("", USER, PASSWORD).status == 303).then_some(()));
    let shared = sites[0].app().shared.as_ref().expect("it is configured");
    sites[0].runtime().block_on(async {
        assert!(shared.lock("somebody").await.unwrap());
        shared.put_entry("an entry", "its text").await.unwrap();
        assert_eq!(shared.entry("an entry").await.unwrap().as_deref(), Some("its text"));
        shared.remove_entry("an entry").await.unwrap();
        shared.unlock("somebody").await.unwrap();
    });
    // And what anybody else may do is none of them.
    let user = redis::Client::open(url).unwrap();
    let refused = redis::cmd("FLUSHALL").exec(&mut user.get_connection().unwrap()).unwrap_err();
    assert_eq!(refused.code(), Some("NOPERM"), "{refused}");
}

#[test]
fn an_address_that_is_none_or_keys_that_no_other_instance_has_are_refused_at_the_start() {
    for (settings, keys, refusal) in [
        ("redis_url = 'secret'", true, "redis_url: expected redis://"),
        ("redis_url = 'http://user:secret@localhost'", true, "redis_url: expected redis://"),
        ("redis_url = 'redis://127.0.0.1'", false, "session.keys: expected a table with primary_file"),
    ] {
        let site = Site::prepared("");
        let text = if keys {
            format!("{settings}\n[session.keys]\nprimary = '{}'\n", site.key)
        } else {
            settings.to_owned()
        };
        let file = site.write("other.toml", &text);
        let (status, output) = Program::start(&file, &[]).ended();
        assert!(!status.success());
        assert!(output.contains(refusal) && !output.contains("secret"), "{output}");
    }
}
