//! Users move from an Express server to ours, some at a time, while both run.

use cookie_session::{Key, KeyRing, RejectedKind, SessionBuilder, SessionLayer};
use migration_tests::{Browser, Express, Ours, Report, Settings, Shop, Switch, builder, now, place};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, SystemTime},
};

const NAME: &str = "__Host-Http-session";
const MARKER: &str = "__Host-Http-session-out";
const OLD: [&str; 2] = ["session", "session.sig"];
const KEY: &str = "a key of Express, long enough";
const OLD_KEY: &str = "an older key of Express, also long";

const PATIENCE: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    Settings::new(&[KEY, OLD_KEY])
}

fn importing(settings: &Settings) -> SessionBuilder<Shop> {
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 60 * 60);
    builder().import(settings.import(), tomorrow)
}

/// Both servers.
fn both() -> (Express, Ours) {
    (Express::start(&settings()), Ours::start(importing(&settings())))
}

/// Signs in at an Express server.
#[track_caller]
fn signed_in(express: &Express, user: &str) -> Browser {
    let mut browser = Browser::of(user);
    browser.set(express.port, &session(user, 0));
    assert_eq!(browser.jar.names(), OLD);
    browser
}

fn session(user: &str, views: u32) -> Value {
    json!({ "user": user, "views": views, "cart": [] })
}

/// The old cookies as they came from Express, for the jar that they were taken from.
fn old_pair(browser: &Browser) -> [String; 2] {
    OLD.map(|name| format!("{name}={}; path=/; secure; httponly", browser.jar.get(name).expect("a session")))
}

/// A user who counts, whichever server answers.
struct User {
    browser: Browser,
    views: u64,
    /// The session's id, once our server has told one.
    id: Option<String>,
}

impl User {
    fn count(&mut self, port: u16) {
        let Report { session, is_new, id, incoming } = self.browser.post(port, "/add");
        self.views += 1;
        let at = format!("{}, at {incoming:?}", self.browser.user);
        assert_eq!(session, session_of(&self.browser.user, self.views), "{at}");
        assert!(!is_new, "{at}");
        if let Some(incoming) = &incoming {
            let expected = if self.id.is_none() { "Imported" } else { "Accepted" };
            assert_eq!(incoming, expected, "{at}");
        }
        assert!(self.id.is_none() || self.id == id, "{at}: another session");
        self.id = id;
    }
}

fn session_of(user: &str, views: u64) -> Value {
    session(user, u32::try_from(views).expect("a small count"))
}

#[test]
fn under_load_and_in_steps_every_counter_goes_on_and_nobody_is_signed_out() {
    const CLIENTS: usize = 4;
    const USERS: usize = 60;
    let (express, ours) = both();
    let switch = Switch::before(express.port, ours.port);
    let mut users: Vec<_> = (0..USERS)
        .map(|nth| User { browser: signed_in(&express, &format!("user-{nth}")), views: 0, id: None })
        .collect();
    let done = AtomicBool::new(false);
    let (answer, answers) = mpsc::channel();
    let (switch, done) = (&switch, &done);
    thread::scope(|scope| {
        let clients: Vec<_> = users
            .chunks_mut(USERS / CLIENTS)
            .map(|users| {
                let answer = answer.clone();
                scope.spawn(move || {
                    // Whoever has not come back since the last step comes back after it.
                    let mut last = false;
                    while !last {
                        last = done.load(Ordering::SeqCst);
                        for user in users.iter_mut() {
                            let before = switch.is_moved(&user.browser.user);
                            user.count(switch.port);
                            let is_ours = user.id.is_some();
                            // Not so if the step came in between.
                            if before == switch.is_moved(&user.browser.user) {
                                assert_eq!(is_ours, before, "{}", user.browser.user);
                            }
                            answer.send((user.browser.user.clone(), is_ours)).expect("the test");
                        }
                    }
                })
            })
            .collect();
        // Until each user has been answered twice, of which the second was asked since; how many of them by ours.
        let load = || {
            while answers.try_recv().is_ok() {}
            let mut last = BTreeMap::new();
            while last.len() < USERS || last.values().any(|(times, _)| *times < 2) {
                let (user, is_ours) = answers.recv_timeout(PATIENCE).expect("an answer");
                let (times, by_ours) = last.entry(user).or_insert((0, false));
                (*times, *by_ours) = (*times + 1, is_ours);
            }
            last.values().filter(|(_, by_ours)| *by_ours).count()
        };
        let moved = catch_unwind(AssertUnwindSafe(|| {
            assert_eq!(load(), 0);
            for percent in [10, 50, 100] {
                switch.move_over(percent);
                let of_users = (0..USERS).filter(|nth| switch.is_moved(&format!("user-{nth}"))).count();
                assert_eq!(load(), of_users, "{percent} %");
                assert!((1..USERS).contains(&of_users) || percent == 100, "{percent} %");
            }
        }));
        // A fault here must end the clients too.
        done.store(true, Ordering::SeqCst);
        moved.unwrap_or_else(|fault| resume_unwind(fault));
        clients.into_iter().for_each(|client| client.join().expect("no session was lost"));
    });
    for user in &users {
        assert!(user.views >= 8 && user.id.is_some());
        assert_eq!(user.browser.jar.names(), [NAME], "{}", user.browser.user);
    }
}

#[test]
fn the_places_of_users_are_spread() {
    let moved = |percent| (0..1000).filter(|nth| place(&format!("user-{nth}")) < percent).count();
    assert!((50..150).contains(&moved(10)) && (400..600).contains(&moved(50)), "{} {}", moved(10), moved(50));
    assert_eq!((moved(0), moved(100)), (0, 1000));
}

#[test]
fn first_requests_that_come_at_once_are_one_session() {
    let (express, ours) = both();
    // Two instances, with one key.
    let other = Ours::start(importing(&settings()));
    for (method, path, views) in [("GET", "/read", 0), ("POST", "/add", 1)] {
        let mut browser = signed_in(&express, "ada");
        let sent = |nth: usize| browser.send([ours.port, other.port][nth % 2], method, path, "");
        let sent: Vec<_> = (0..16).map(sent).collect();
        // The last one sent arrives first.
        let reports: Vec<_> = sent.into_iter().rev().map(|sent| browser.receive(sent).report).collect();
        for report in &reports {
            assert_eq!((report.incoming(), report.id()), ("Imported", reports[0].id()), "{path}");
            assert_eq!(report.session, session("ada", views), "{path}");
        }
        assert_eq!(browser.jar.names(), [NAME]);
        let next = browser.read(ours.port);
        assert_eq!((next.incoming(), next.id()), ("Accepted", reports[0].id()), "{path}");
        assert_eq!(next.session, session("ada", views), "{path}");
    }
    // Another user's is another, and so is a later session of the same user.
    let id = |user: &str, express: &Express| signed_in(express, user).read(ours.port).id;
    let mut later = signed_in(&express, "ada");
    later.post(express.port, "/add");
    assert_eq!(id("ada", &express), id("ada", &express));
    assert!(id("ada", &express) != id("bob", &express) && id("ada", &express) != later.read(ours.port).id);
}

#[test]
fn whoever_is_sent_back_is_signed_out_there() {
    let (express, ours) = both();
    let mut browser = signed_in(&express, "ada");
    browser.post(express.port, "/add");
    assert_eq!(browser.post(ours.port, "/add").session, session("ada", 2));
    let back = browser.read(express.port);
    assert_eq!((back.session, back.is_new), (json!({}), true));
    // At ours again, the session is still there, whatever is set there since.
    browser.set(express.port, &session("bob", 9));
    let again = browser.read(ours.port);
    assert_eq!((again.incoming(), again.session.clone()), ("Accepted", session("ada", 2)));
}

#[test]
fn with_the_old_cookies_kept_whoever_is_sent_back_is_signed_in_as_at_the_move() {
    let express = Express::start(&settings());
    let ours = Ours::start(importing(&settings()).keep_old_cookies());
    let mut browser = signed_in(&express, "ada");
    browser.post(express.port, "/add");
    let imported = browser.post(ours.port, "/add");
    assert_eq!((imported.incoming(), imported.session.clone()), ("Imported", session("ada", 2)));
    assert_eq!(browser.jar.names(), [OLD[0], OLD[1], NAME]);
    // What was written at ours stays there, and what is written there too.
    let back = browser.post(express.port, "/add");
    assert_eq!((&back.session, back.is_new), (&session("ada", 2), false));
    browser.post(express.port, "/add");
    let again = browser.post(ours.port, "/add");
    assert_eq!((again.incoming(), again.id()), ("Accepted", imported.id()));
    assert_eq!(again.session, session("ada", 3));
    assert_eq!(browser.read(express.port).session, session("ada", 3));
    // A sign-out at ours is one there.
    browser.post(ours.port, "/logout");
    assert_eq!(browser.jar.names(), [MARKER]);
    assert!(browser.read(express.port).is_new);
}

#[test]
fn a_cookie_of_ours_wins_also_where_it_does_not_open() {
    let express = Express::start(&settings());
    let ours = Ours::start(importing(&settings()).keep_old_cookies());
    let mut browser = signed_in(&express, "ada");
    assert_eq!(browser.post(ours.port, "/add").incoming(), "Imported");
    let before = browser.jar.clone();
    // An instance that does not have our new key yet: what it imported would undo what was written since.
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 60 * 60);
    let ring = KeyRing::new(Key::generate().expect("randomness"), []).expect("a ring");
    let behind = SessionLayer::<Shop>::builder(ring).import(settings().import(), tomorrow);
    let report = browser.read(Ours::start(behind).port);
    assert_eq!((report.incoming(), &report.session["user"]), ("Rejected(UnknownKey)", &Value::Null));
    assert_eq!(browser.jar, before);
    assert_eq!(browser.read(ours.port).session, session("ada", 1));
}

#[test]
fn a_sign_out_takes_both_old_cookies_and_holds_when_they_come_back() {
    let express = Express::start(&settings());
    let keeps = [importing(&settings()), importing(&settings()).keep_old_cookies()];
    for (keeps, ours) in keeps.map(Ours::start).iter().enumerate() {
        for used_before in [false, true] {
            let at = format!("keep_old_cookies: {keeps}, used before: {used_before}");
            let mut browser = signed_in(&express, "ada");
            let pair = old_pair(&browser);
            if used_before {
                assert_eq!(browser.post(ours.port, "/add").incoming(), "Imported", "{at}");
            }
            let out = browser.ask(ours.port, "POST", "/logout", "");
            assert_eq!(out.report.session["user"], Value::Null, "{at}");
            assert_eq!(browser.jar.names(), [MARKER], "{at}");
            for name in OLD {
                assert!(out.set_cookies.iter().any(|its| its.starts_with(&format!("{name}=;"))), "{at}");
            }
            // A slow response of Express, or its cookies out of a backup.
            for cookie in &pair {
                browser.jar.set(cookie, now());
            }
            for _ in 0..2 {
                let replayed = browser.read(ours.port);
                let signed_out = format!("Rejected({:?})", RejectedKind::SignedOut);
                assert_eq!(replayed.incoming(), signed_out, "{at}");
                assert_eq!(replayed.session["user"], Value::Null, "{at}");
            }
            // A sign-in after it is another session, and the old pair does not come in its way.
            browser.set(ours.port, &session("bob", 0));
            let bob = browser.read(ours.port);
            assert_eq!((bob.incoming(), bob.session["user"].as_str()), ("Accepted", Some("bob")), "{at}");
        }
    }
}

#[test]
fn a_key_that_is_dropped_at_once_signs_out_those_who_have_not_moved_and_nobody_else() {
    let before = Express::start(&Settings::new(&[OLD_KEY]));
    let (express, ours) = both();
    let mut moved = signed_in(&before, "ada");
    assert_eq!(moved.post(ours.port, "/add").incoming(), "Imported");
    let (mut not_moved, mut of_the_other_key) = (signed_in(&before, "bob"), signed_in(&express, "eve"));
    // The old key has leaked; what the forger has made and what bob has cannot be told apart.
    let ours = Ours::start(importing(&Settings::new(&[KEY])));
    let ada = moved.post(ours.port, "/add");
    assert_eq!((ada.incoming(), ada.session.clone()), ("Accepted", session("ada", 2)));
    let eve = of_the_other_key.post(ours.port, "/add");
    assert_eq!((eve.incoming(), eve.session.clone()), ("Imported", session("eve", 1)));
    let pair = old_pair(&not_moved);
    let bob = not_moved.read(ours.port);
    assert_eq!((bob.incoming(), bob.session["user"].as_str()), ("Rejected(NotAuthentic)", None));
    assert_eq!(old_pair(&not_moved), pair, "they are left alone");
    // Without an import at all, whoever has moved stays.
    let ours = Ours::start(builder::<Shop>());
    assert_eq!(moved.post(ours.port, "/add").session, session("ada", 3));
    assert_eq!(of_the_other_key.post(ours.port, "/add").session, session("eve", 2));
    assert_eq!(not_moved.read(ours.port).incoming(), "Absent");
}

#[test]
fn what_was_imported_can_be_refused_all_at_once() {
    let (express, ours) = both();
    let (mut imported, mut native) = (signed_in(&express, "ada"), Browser::of("bob"));
    assert_eq!(imported.post(ours.port, "/add").incoming(), "Imported");
    native.set(ours.port, &session("bob", 0));
    let strict = importing(&settings()).accept_if(|meta, _| !meta.is_imported());
    let ours = Ours::start(strict);
    let refused = format!("Rejected({:?})", RejectedKind::Refused);
    assert_eq!(imported.read(ours.port).incoming(), refused);
    assert_eq!(signed_in(&express, "eve").read(ours.port).incoming(), refused);
    assert_eq!(native.read(ours.port).incoming(), "Accepted");
}
