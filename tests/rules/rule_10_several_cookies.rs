//! Several cookies with our name: which one wins, and how the others go.

use crate::{jar::Browser, kit::*};
use cookie_session::{
    Identity, Incoming, Key, KeyRing, Lifetime, RejectedKind, Session, SessionBuilder, SessionLayer,
};
use http::{HeaderValue, Request, header::COOKIE};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

fn who(layer: &SessionLayer<Shop>, cookies: &str) -> Option<u64> {
    visit(layer, cookies, |session| session.read(|shop| shop.user)).0
}

#[test]
fn the_newest_issued_wins_whatever_the_order() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let aged = |age: u64, id| sealed(&layer, &user(id), clock.now() - SECOND * u32::try_from(age).unwrap());
    let cookies = [aged(30, 30), aged(20, 20), aged(10, 10)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let header = order.map(|at| cookies[at].as_str()).join("; ");
        assert_eq!(who(&layer, &header), Some(10), "{order:?}");
    }
    // A millisecond is enough.
    let (older, newer) =
        (sealed(&layer, &user(1), clock.now() - MILLI), sealed(&layer, &user(2), clock.now()));
    assert_eq!(who(&layer, &format!("{newer}; {older}")), Some(2));
}

#[test]
fn of_equals_the_later_in_the_header_wins() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let [a, b, c] = [1, 2, 3].map(|id| sealed(&layer, &user(id), clock.now()));
    assert_eq!(who(&layer, &format!("{a}; {b}; {c}")), Some(3));
    assert_eq!(who(&layer, &format!("{c}; {b}; {a}")), Some(1));
}

#[test]
fn several_cookie_headers_count_as_one() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let newest = sealed(&layer, &user(2), clock.now());
    let older = sealed(&layer, &user(1), clock.now() - SECOND);
    for lines in [[&newest, &older], [&older, &newest]] {
        let mut request = Request::new(());
        for line in lines {
            request.headers_mut().append(COOKIE, HeaderValue::from_str(line).unwrap());
        }
        let _ = respond(&layer, request, |session| {
            assert_eq!(session.get(), user(2));
            status(200)
        });
    }
}

#[test]
fn junk_around_the_good_one_does_not_matter() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let good = sealed(&layer, &user(1), clock.now());
    let stranger = sealed(&crate::kit::layer::<Shop>(&clock), &user(2), clock.now());
    let around = [
        format!("{NAME}=tossed; {good}"),
        format!("{good}; {NAME}=tossed"),
        format!("{NAME}=; {stranger}; {good}; {stranger}; {NAME}"),
        format!("; ;;{good};="),
        format!("a=b; \t {good} \t; c=d"),
        good.replacen('=', " \t=\t ", 1),
    ];
    for cookies in around {
        assert_eq!(who(&layer, &cookies), Some(1), "{cookies}");
    }
}

#[test]
fn an_expired_session_does_not_count_however_new_its_cookie_is() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let older = sealed(&layer, &user(1), clock.now());
    clock.pass(SECOND);
    let ((), response) = visit(&layer, "", |session| {
        session.set(user(2)).unwrap();
        session.set_lifetime(Lifetime::Own(MINUTE)).unwrap();
    });
    let newer = session_in(&response).unwrap();
    assert_eq!(who(&layer, &format!("{older}; {newer}")), Some(2));
    clock.pass(MINUTE);
    assert_eq!(who(&layer, &format!("{older}; {newer}")), Some(1));
    assert_eq!(who(&layer, &format!("{newer}; {older}")), Some(1));
}

#[test]
fn a_signed_out_session_does_not_count_however_new_its_cookie_is() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let first = sealed(&layer, &user(1), clock.now());
    let ((), response) = visit(&layer, &first, |session| _ = session.clear());
    let marker = marker_in(&response).unwrap();
    clock.pass(SECOND);
    let second = sealed(&layer, &user(2), clock.now());
    clock.pass(SECOND);
    let ((), response) = visit(&layer, &first, |session| session.update(|shop| shop.cart.push(1)).unwrap());
    let slow = session_in(&response).unwrap();
    assert_eq!(who(&layer, &format!("{second}; {slow}")), Some(1));
    assert_eq!(who(&layer, &format!("{second}; {slow}; {marker}")), Some(2));
}

#[test]
fn a_session_that_does_not_decode_does_not_count_however_new_its_cookie_is() {
    let (clock, keys) = (Clock::new(), ring());
    let layer = builder_over::<Shop>(keys.clone(), &clock).build().unwrap();
    let newer = builder_over::<Shop>(keys, &clock).schema(2).build().unwrap();
    let good = sealed(&layer, &user(1), clock.now() - SECOND);
    let other = sealed(&newer, &user(2), clock.now());
    assert_eq!(who(&layer, &format!("{good}; {other}")), Some(1));
}

/// Where the best do not decode the next best is taken, in whatever order they came; of equals the later.
#[test]
fn behind_those_that_do_not_decode_the_next_newest_wins() {
    let (clock, keys) = (Clock::new(), ring());
    let layer = builder_over::<Shop>(keys.clone(), &clock).build().unwrap();
    let other = builder_over::<u64>(keys, &clock).build().unwrap();
    let ago = |seconds: u32| clock.now() - SECOND * seconds;
    let bad = [1, 2].map(|age| sealed(&other, &7, ago(age)));
    let [new, same, old] = [(3, 1), (3, 2), (4, 3)].map(|(age, id)| sealed(&layer, &user(id), ago(age)));
    let mut cookies = [&bad[0], &bad[1], &new, &same, &old];
    // All orders, by Heap's algorithm.
    let mut counters = [0; 5];
    let mut at = 0;
    let check = |cookies: &[&String; 5]| {
        let header = cookies.map(String::as_str).join("; ");
        let later = cookies.iter().rfind(|cookie| [&new, &same].contains(cookie)).unwrap();
        assert_eq!(who(&layer, &header), Some(if *later == &new { 1 } else { 2 }), "{header}");
    };
    check(&cookies);
    while at < 5 {
        if counters[at] < at {
            cookies.swap(if at % 2 == 0 { 0 } else { counters[at] }, at);
            check(&cookies);
            counters[at] += 1;
            at = 0;
        } else {
            counters[at] = 0;
            at += 1;
        }
    }
}

#[test]
fn accept_if_judges_the_winner_alone_and_refused_means_fresh() {
    let clock = Clock::new();
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let layer = builder::<Shop>(&clock)
        .accept_if(move |_, shop| {
            count.fetch_add(1, SeqCst);
            shop.user != Some(2)
        })
        .build()
        .unwrap();
    let good = sealed(&layer, &user(1), clock.now() - SECOND);
    let refused = sealed(&layer, &user(2), clock.now());
    for cookies in [format!("{good}; {refused}"), format!("{refused}; {good}")] {
        let ((), response) = visit(&layer, &cookies, |session| {
            assert_eq!(session.get(), Shop::default());
            assert_eq!(session.incoming(), Incoming::Rejected(RejectedKind::Refused));
        });
        assert_eq!(names(&response), [""; 0]);
    }
    assert_eq!(asked.load(SeqCst), 2);
    // One that lost is not asked about.
    let newest = sealed(&layer, &user(3), clock.now() + SECOND);
    assert_eq!(who(&layer, &format!("{refused}; {newest}")), Some(3));
    assert_eq!(asked.load(SeqCst), 3);
}

fn two_keys(clock: &Clock) -> (Key, SessionBuilder<Shop>) {
    let (primary, fallback) = (key(), key());
    (fallback.clone(), builder_over(KeyRing::new(primary, [fallback]).unwrap(), clock).idle_timeout(HOUR))
}

#[test]
fn only_the_first_eight_that_parse_and_name_a_key_of_the_ring_are_looked_at() {
    let clock = Clock::new();
    let (_, builder) = two_keys(&clock);
    let layer = builder.build().unwrap();
    let good = sealed(&layer, &user(1), clock.now());
    let repeat = |cookie: &str, times| vec![cookie; times].join("; ");
    let expired = sealed(&layer, &user(2), clock.now() - HOUR);
    let mut forged = sealed(&layer, &user(3), clock.now());
    // The last character may be padding in part; the one before it is not.
    let last = forged.pop().unwrap();
    let at = forged.pop().unwrap();
    forged.extend([if at == 'A' { 'B' } else { 'A' }, last]);

    for (bad, kind) in [(&expired, RejectedKind::Expired), (&forged, RejectedKind::NotAuthentic)] {
        assert_eq!(who(&layer, &format!("{}; {good}", repeat(bad, 7))), Some(1), "{kind:?}");
        let (incoming, _) = visit(&layer, &format!("{}; {good}", repeat(bad, 8)), Session::incoming);
        assert_eq!(incoming, Incoming::Rejected(kind));
        assert_eq!(who(&layer, &format!("{good}; {}", repeat(bad, 20))), Some(1), "{kind:?}");
    }
    // What does not parse, or names no key of the ring, does not use up the eight.
    let stranger = sealed(&crate::kit::layer::<Shop>(&clock), &user(2), clock.now());
    for junk in [format!("{NAME}=!"), format!("{NAME}="), format!("{NAME}=AAAA"), stranger] {
        assert_eq!(who(&layer, &format!("{}; {good}", repeat(&junk, 30))), Some(1), "{junk}");
    }
}

#[test]
fn a_prefixed_name_beats_one_without() {
    let (clock, keys) = (Clock::new(), ring());
    let before = builder_over::<Shop>(keys.clone(), &clock).name("session").build().unwrap();
    let layer = builder_over::<Shop>(keys, &clock).formerly(Identity::named("session")).build().unwrap();
    let plain = sealed(&before, &user(1), clock.now() + SECOND);
    let prefixed = sealed(&layer, &user(2), clock.now());
    assert_eq!(who(&layer, &format!("{plain}; {prefixed}")), Some(2));
    assert_eq!(who(&layer, &format!("{prefixed}; {plain}")), Some(2));
    assert_eq!(
        who(&layer, &format!("{prefixed}; {}", plain.replace("session=", &format!("{NAME}=")))),
        Some(2)
    );
}

#[test]
fn names_are_matched_byte_by_byte() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let good = sealed(&layer, &user(1), clock.now());
    let other_names: [&[u8]; 9] = [
        b"\xc2\xa0",     // U+00A0, which `str::trim` takes away
        b"\xa0",         // the same in Latin-1
        b"\xe2\x80\x83", // U+2003
        b"\xef\xbb\xbf", // a byte order mark
        b"\x0b",
        b"\x0c",
        b"x",
        b"\"",
        b"=",
    ];
    for before in other_names {
        let line = [before, good.as_bytes()].concat();
        // Some of these no HTTP parser lets through.
        let Ok(line) = HeaderValue::from_bytes(&line) else { continue };
        let mut request = Request::new(());
        request.headers_mut().insert(COOKIE, line);
        let _ = respond(&layer, request, |session| {
            assert_eq!(session.incoming(), Incoming::Absent, "{before:?}");
            status(200)
        });
    }
    for other in [good.to_lowercase(), good.to_uppercase(), good.replacen('=', "x=", 1)] {
        assert_eq!(visit(&layer, &other, Session::incoming).0, Incoming::Absent);
    }
    // Space and tab are trimmed.
    for before in [" ", "\t", " \t "] {
        let line = format!("a=b;{before}{good}");
        assert_eq!(visit(&layer, &line, Session::incoming).0, Incoming::Accepted);
    }
}

// Removal of earlier identities.

struct Moved {
    clock: Clock,
    layer: SessionLayer<Shop>,
    /// As it was before: under another name, with a Domain and a Path.
    before: SessionLayer<Shop>,
}

/// Today `id` at `/`; before that `id` at `/app`, and before that `sid` on a whole Domain.
fn moved() -> Moved {
    let (clock, keys) = (Clock::new(), ring());
    let layer = builder_over::<Shop>(keys.clone(), &clock)
        .name("id")
        .formerly(Identity::current().path("/app"))
        .formerly(Identity::named("sid").domain("example.com"))
        .build()
        .unwrap();
    let before = builder_over::<Shop>(keys, &clock).name("id").path("/app").build().unwrap();
    Moved { clock, layer, before }
}

/// The removals in a response: name, Domain, Path.
fn removals(response: &http::Response<()>) -> Vec<(String, Option<String>, String)> {
    let removed = cookies_in(response).into_iter().filter(|cookie| cookie.value().is_empty());
    removed
        .map(|cookie| {
            assert_eq!(max_age(&cookie), Some(0));
            assert_eq!((cookie.secure(), cookie.http_only()), (Some(true), Some(true)));
            (cookie.name().to_owned(), cookie.domain().map(str::to_owned), cookie.path().unwrap().to_owned())
        })
        .collect()
}

fn at_app() -> (String, Option<String>, String) {
    ("id".to_owned(), None, "/app".to_owned())
}

fn on_domain() -> (String, Option<String>, String) {
    ("sid".to_owned(), Some("example.com".to_owned()), "/".to_owned())
}

fn add(session: &Session<Shop>) {
    session.update(|shop| shop.cart.push(1)).unwrap();
}

#[test]
fn the_first_write_after_several_arrived_removes_the_earlier_identities() {
    let Moved { clock, layer, .. } = moved();
    let good = sealed(&layer, &user(1), clock.now());
    for cookies in [
        format!("{good}; {good}"),
        format!("id=garbage; {good}"),
        format!("{good}; sid=x"),
        "sid=x; sid=y".to_owned(),
        "id=x; sid=y".to_owned(),
    ] {
        let ((), response) = visit(&layer, &cookies, add);
        assert_eq!(removals(&response), [at_app(), on_domain()], "{cookies}");
        let set: Vec<_> =
            cookies_in(&response).into_iter().filter(|cookie| !cookie.value().is_empty()).collect();
        assert_eq!(set.len(), 1, "{cookies}");
        assert_eq!((set[0].name(), set[0].path()), ("id", Some("/")), "{cookies}");
    }
}

#[test]
fn a_write_after_one_or_none_arrived_removes_nothing() {
    let Moved { clock, layer, .. } = moved();
    let good = sealed(&layer, &user(1), clock.now());
    for cookies in ["", &good, "id=garbage", "sid=x", "theme=dark; other=1"] {
        let ((), response) = visit(&layer, cookies, add);
        assert_eq!(removals(&response), [], "{cookies}");
        assert_eq!(names(&response), ["id"], "{cookies}");
    }
}

#[test]
fn one_cookie_counts_once_however_many_identities_had_its_name() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock)
        .name("id")
        .formerly(Identity::named("a"))
        .formerly(Identity::named("b"))
        .formerly(Identity::named("a").path("/app"))
        .build()
        .unwrap();
    let ((), response) = visit(&layer, "a=1", add);
    assert_eq!(names(&response), ["id"]);
    let ((), response) = visit(&layer, "a=1; b=2", add);
    assert_eq!(names(&response), ["a", "a", "b", "id"]);
}

#[test]
fn without_a_write_that_goes_out_several_stay() {
    let Moved { clock, layer, .. } = moved();
    let good = sealed(&layer, &user(1), clock.now());
    let both = format!("{good}; {good}; sid=x");
    let ((), response) = visit(&layer, &both, |session| session.read(|_| ()));
    assert_eq!(names(&response), [""; 0]);
    let response = respond(&layer, request(&both), |session| {
        add(&session);
        status(500)
    });
    assert_eq!(names(&response), [""; 0]);
    // A re-issue is no write.
    clock.pass(12 * HOUR);
    let ((), response) = visit(&layer, &both, |session| session.read(|_| ()));
    assert_eq!(names(&response), ["id"]);
    assert_eq!(removals(&response), []);
}

#[test]
fn a_clear_removes_the_earlier_identities_even_if_none_came_in() {
    let Moved { clock, layer, .. } = moved();
    let good = sealed(&layer, &user(1), clock.now());
    let own = ("id".to_owned(), None, "/".to_owned());
    let clear = |session: &Session<Shop>| assert!(session.clear());
    for (cookies, expected) in [
        ("", vec![at_app(), on_domain()]),
        ("sid=x", vec![at_app(), on_domain()]),
        ("id=garbage", vec![own.clone(), at_app(), on_domain()]),
        (&good, vec![own.clone(), at_app(), on_domain()]),
        (&format!("{good}; sid=x"), vec![own, at_app(), on_domain()]),
    ] {
        let ((), response) = visit(&layer, cookies, clear);
        let mut removed = removals(&response);
        removed.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!(removed, expected, "{cookies}");
    }
}

#[test]
fn a_clear_and_a_new_session_remove_the_earlier_identities_and_set_todays() {
    let Moved { clock, layer, .. } = moved();
    let good = sealed(&layer, &user(1), clock.now());
    let ((), response) = visit(&layer, &good, |session| {
        session.clear();
        session.set(user(2)).unwrap();
    });
    assert_eq!(removals(&response), [at_app(), on_domain()]);
    let set: Vec<_> = cookies_in(&response)
        .into_iter()
        .filter(|cookie| cookie.name() == "id" && !cookie.value().is_empty())
        .collect();
    assert_eq!(set.len(), 1);
}

#[test]
fn a_browser_that_has_both_cookies_is_left_with_one_after_a_write() {
    let Moved { clock, layer, before } = moved();
    let old = before.codec().seal(&user(1), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(&clock, old.header());
    clock.pass(SECOND);
    let at_app = |browser: &Browser, handler: &dyn Fn(&Session<Shop>)| {
        visit(&layer, &browser.cookies_at("/app/cart"), handler).1
    };
    // The first write meets the old cookie alone, and makes a second one.
    let response = at_app(&browser, &add);
    browser.receive(&response);
    assert_eq!(browser.count("id"), 2);
    // The old one comes first, and loses.
    clock.pass(SECOND);
    let response = at_app(&browser, &|session| {
        assert_eq!(session.read(|shop| shop.cart.len()), 1);
        add(session);
    });
    browser.receive(&response);
    assert_eq!(browser.count("id"), 1);
    at_app(&browser, &|session| assert_eq!(session.read(|shop| shop.cart.len()), 2));
}

#[test]
fn a_sign_out_elsewhere_removes_a_cookie_that_was_not_sent_there() {
    let Moved { clock, layer, before } = moved();
    let old = before.codec().seal(&user(1), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(&clock, old.header());
    assert_eq!(browser.cookies_at("/logout"), "");
    browser.visit(&layer, |session| assert!(session.clear()));
    assert_eq!(browser.count("id"), 0);
}

/// A changed Path in two steps. All orders of signing in and out on old and new instances, by one browser.
#[test]
fn a_path_is_changed_in_two_steps_and_a_sign_out_holds_on_either_side() {
    let clock = Clock::new();
    let ring = ring();
    let at = |path: &str, formerly: &[&str]| {
        let mut builder = builder_over::<Shop>(ring.clone(), &clock).name("__Secure-id").path(path);
        for path in formerly {
            builder = builder.formerly(Identity::current().path(*path));
        }
        builder.build().unwrap()
    };
    let steps = [at("/app", &[]), at("/app", &["/"]), at("/", &["/app"]), at("/", &[])];
    for pair in steps.windows(2) {
        for (here, there) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let mut browser = Browser::new(&clock);
            let at = |browser: &Browser| browser.cookies_at("/app");
            browser.receive(&respond(here, request(&at(&browser)), |session| {
                session.set(user(1)).unwrap();
                status(200)
            }));
            clock.pass(SECOND);
            let cookies = at(&browser);
            assert_eq!(who(there, &cookies), Some(1));
            browser.receive(&respond(there, request(&cookies), |session| {
                assert!(session.clear());
                status(200)
            }));
            for layer in [here, there] {
                assert_eq!(who(layer, &at(&browser)), None);
                assert_eq!(who(layer, &browser.cookies_at("/")), None);
            }
        }
    }
}
