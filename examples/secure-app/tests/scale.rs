//! What sign-outs and sign-ins cost where there are many: figures for the README, by hand.
//!
//! ```sh
//! cargo test --release -p secure-app --test scale -- --ignored --nocapture --test-threads 1
//! ```

mod common;

use browser_tests::wait_for;
use common::{PASSWORD, Site, USER, new_key, redis::Redis};
use cookie_session::SessionId;
use secure_app::{
    denylist::Denylist,
    shared::{Link, PAGE, Shared, WAIT},
    store::{Change, Store},
};
use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// A program that shares what is in this Redis; until it listens.
fn started(redis: &Redis) -> (Site, Duration) {
    let mut site = Site::prepared("");
    site.key = new_key();
    site.configure(&format!("redis_url = '{}'", redis.url()), &format!("primary = '{}'", site.key));
    let begin = Instant::now();
    site.start_program(&[]);
    (site, begin.elapsed())
}

fn resident(site: &Site) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", site.its_program().id())).expect("on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// `sign_outs` of one user each, or of `users` in turn.
fn signed_out(redis: &Redis, sign_outs: usize, users: usize) -> Duration {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let shared = Shared::new(&redis.url().parse().expect("an address"));
        let (link, _) = shared.connect().await.expect("a link");
        let begin = Instant::now();
        let numbers: Vec<usize> = (0..sign_outs).collect();
        for page in numbers.chunks(PAGE) {
            let session = |number: &usize| {
                let mut id = [0; 16];
                getrandom::fill(&mut id).expect("randomness");
                let user = format!("user-{:08}", number % users);
                Change::Session { id, user, epoch: 0, until: 1_800_000_000_000 }
            };
            link.add(&page.iter().map(session).collect::<Vec<_>>(), None).await.expect("added");
        }
        begin.elapsed()
    })
}

#[test]
#[ignore = "takes minutes"]
fn a_million_sign_outs() {
    const MANY: usize = 1_000_000;
    let (empty, _) = started(&Redis::start());
    let before = resident(&empty);
    for (users, name) in [(MANY, "a user each"), (MANY / 100, "a hundred each")] {
        let redis = Redis::start();
        let added = signed_out(&redis, MANY, users);
        let stream: u64 = redis.ask("MEMORY USAGE secure-app:sign-outs SAMPLES 0");
        let (mut site, first) = started(&redis);
        let memory = resident(&site) - before;
        let disk = fs::metadata(site.folder.path().join("data/secure-app.redb")).expect("there").len();
        let program = site.take_program();
        program.signal("TERM");
        assert!(program.ended().0.success());
        let begin = Instant::now();
        site.start_program(&[]);
        let again = begin.elapsed();
        let memory_again = resident(&site) - before;
        let each = |bytes: u64| bytes as f64 / MANY as f64;
        println!(
            "{MANY} sign-outs, {name}: in Redis {:.0} bytes each, in an instance's memory {:.0} (started again {:.0}), on its disk {:.0}; \
             added in {added:.1?}, a new instance starts in {first:.1?}, and again in {again:.1?}",
            each(stream),
            each(memory),
            each(memory_again),
            each(disk),
        );
    }
}

#[test]
#[ignore = "takes minutes and some gigabytes"]
fn a_request_beside_whoever_goes_through_the_whole_list() {
    const MANY: u32 = 10_000_000;
    let site = Site::prepared("");
    let folder = browser_tests::TempDir::new();
    let (store, _writer, _) = Store::open(folder.path()).expect("a store");
    let user = |number: u32| format!("user-{number:08}");
    let session = |id: u128, number| Change::Session {
        id: id.to_be_bytes(),
        user: user(number),
        epoch: 0,
        until: 4_000_000_000_000,
    };
    let before = (0..MANY).map(|number| session(number.into(), number)).collect();
    let denylist = Denylist::new(before, store, None, Arc::new(SystemTime::now));
    let nobody = SessionId::from_bytes([255; 16]);
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !ends.load(SeqCst) {
                number += 1;
                drop(denylist.merge(vec![session(u128::MAX - u128::from(number), number)]));
                thread::sleep(Duration::from_millis(5));
            }
        });
        let longest = |what: &str, work: &(dyn Fn() + Sync)| {
            let is_done = AtomicBool::new(false);
            let begin = Instant::now();
            let longest = thread::scope(|scope| {
                let asking = scope.spawn(|| {
                    let mut longest = Duration::ZERO;
                    for number in (0..MANY).cycle().step_by(997) {
                        let begin = Instant::now();
                        assert!(!denylist.refuses(nobody, &user(number), 0));
                        longest = longest.max(begin.elapsed());
                        if is_done.load(SeqCst) {
                            break;
                        }
                        thread::sleep(Duration::from_micros(100));
                    }
                    longest
                });
                work();
                is_done.store(true, SeqCst);
                asking.join().expect("no panic")
            });
            println!("{what}: {:.1?}, a request waits for {longest:.1?} at most", begin.elapsed());
        };
        longest("nothing, for a second", &|| thread::sleep(Duration::from_secs(1)));
        longest("what has expired is forgotten", &|| {
            site.runtime().block_on(denylist.sweep()).expect("written");
        });
        longest("all is read, to be written back", &|| {
            let mut missing = HashMap::with_capacity(denylist.sizes().0);
            let each = denylist.each(|change| drop(missing.insert(change.about(), change)));
            site.runtime().block_on(each);
        });
        ends.store(true, SeqCst);
    });
}

/// As [`secure_app::fleet`] asks it, with nothing behind.
async fn instance(shared: &Shared, is_there: &AtomicUsize, heard: &AtomicUsize) {
    let (link, mut reader) = shared.connect().await.expect("a link");
    is_there.fetch_add(1, SeqCst);
    let (mut last, mut beat) = ("$".to_owned(), Instant::now());
    loop {
        for (id, _) in Link::read(&mut reader, &last, WAIT).await.expect("read") {
            last = id;
            heard.fetch_add(1, SeqCst);
        }
        if beat.elapsed() >= WAIT {
            beat = Instant::now();
            link.beat().await.expect("it is there");
        }
    }
}

#[test]
#[ignore = "takes minutes; needs `ulimit -n 10000`"]
fn a_thousand_instances() {
    const INSTANCES: usize = 1000;
    let redis = Redis::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let shared = Shared::new(&redis.url().parse().expect("an address"));
        let (is_there, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..INSTANCES {
            let (shared, is_there, heard) = (Arc::clone(&shared), Arc::clone(&is_there), Arc::clone(&heard));
            tokio::spawn(async move { instance(&shared, &is_there, &heard).await });
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        while is_there.load(SeqCst) < INSTANCES {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (link, _) = shared.connect().await.expect("a link");
        for rate in [0, 1, 10, 20] {
            let (before, begin, heard_before) = (redis.cpu(), Instant::now(), heard.load(SeqCst));
            for number in 0..rate * 10_u64 {
                let id = (u128::from(rate) << 64 | u128::from(number)).to_be_bytes();
                let user = format!("user-{number:08}");
                let sign_out = Change::Session { id, user, epoch: 0, until: 1_800_000_000_000 };
                link.add(&[sign_out], None).await.expect("added");
                tokio::time::sleep_until((begin + Duration::from_secs(1) * number as u32 / rate as u32).into()).await;
            }
            tokio::time::sleep_until((begin + Duration::from_secs(10)).into()).await;
            let share = (redis.cpu() - before).as_secs_f64() / begin.elapsed().as_secs_f64();
            println!(
                "{INSTANCES} instances and {rate} sign-outs a second: {:.0} % of a core of Redis; {} heard of",
                share * 100.0,
                heard.load(SeqCst) - heard_before,
            );
        }
    });
}

#[test]
#[ignore = "takes minutes"]
fn sign_outs_and_attempts_a_second() {
    let redis = Redis::start();
    let site = Site::prepared("");
    site.configure(&format!("redis_url = '{}'", redis.url()), &format!("primary = '{}'", site.key));
    let site = site.started();
    let other = {
        let mut other = Site::prepared("");
        other.key = site.key.clone();
        other.configure(&format!("redis_url = '{}'", redis.url()), &format!("primary = '{}'", site.key));
        other.started()
    };

    // From the request on one until another one refuses the cookie.
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let cookies = site.signed_in();
            let begin = Instant::now();
            site.post("/logout", &cookies, "");
            wait_for("the other one", || other.user(&cookies).is_none().then_some(()));
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "a sign-out holds on another instance after {:.1?} (median), {:.1?} (all of 200)",
        times[100], times[199]
    );

    let attempts = 200_000_u32;
    let begin = Instant::now();
    site.runtime().block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let app = site.app().clone();
                tokio::spawn(async move {
                    for number in 0..attempts / 64 {
                        let address = IpAddr::V4(Ipv4Addr::from_bits(task << 20 | number));
                        let attempt = app.limits.begin(USER, address).await.expect("it is counted");
                        app.limits.succeeded(attempt, USER).await.expect("it is settled");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
    let rate = f64::from(attempts) / begin.elapsed().as_secs_f64();
    println!("attempts that Redis counts and settles: {rate:.0} a second, without the password's check");
    for number in 0..20_u32 {
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x7f00_0000 | number));
        let _ = site.runtime().block_on(site.app().limits.begin(PASSWORD, address));
    }
    let keys: Vec<String> = redis.ask("KEYS secure-app:attempts:*");
    let bytes: u64 = keys.iter().map(|key| redis.ask::<u64>(&format!("MEMORY USAGE {key}"))).sum();
    println!("a count in Redis: {} bytes", bytes / keys.len() as u64);

    let checks = 100;
    let begin = Instant::now();
    for _ in 0..checks {
        let check = site.app().passwords.check(Ipv6Addr::LOCALHOST, USER.to_owned(), PASSWORD.to_owned());
        assert!(site.runtime().block_on(check).is_ok_and(|stamp| stamp.is_some()));
    }
    println!("a password's check, one after the other: {:.1?}", begin.elapsed() / checks);
}
