//! Sign-out holds: the removal cookie, the sign-out marker, and what both do to slow responses.

use crate::{jar::Browser, kit::*};
use cookie_session::{
    Identity, Incoming, KeyRing, Lifetime, Mode, RejectedKind, SameSite, Session, SessionBuilder,
    SessionLayer, UpdateError,
};
use http::Response;
use std::time::{Duration, SystemTime};

const SIGNED_OUT: Incoming = Incoming::Rejected(RejectedKind::SignedOut);

fn clear(session: &Session<Shop>) {
    assert!(session.clear());
}

fn add(session: &Session<Shop>) {
    session.update(|shop| shop.cart.push(1)).unwrap();
}

fn cleared(layer: &SessionLayer<Shop>, cookies: &str) -> Response<()> {
    visit(layer, cookies, clear).1
}

fn incoming(layer: &SessionLayer<Shop>, cookies: &str) -> Incoming {
    visit(layer, cookies, Session::incoming).0
}

/// A session that was created at `at`, as another instance with this clock would.
fn created(layer: &SessionLayer<Shop>, at: SystemTime) -> String {
    sealed(layer, &user(1), at)
}

// The removal.

#[test]
fn the_removal_goes_out_whatever_the_status() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = sealed(&layer, &user(1), clock.now());
    for code in [101, 200, 204, 302, 303, 304, 400, 401, 404, 500, 502, 503, 599] {
        let response = respond(&layer, request(&cookie), |session| {
            clear(&session);
            status(code)
        });
        assert!(removes_session(&response), "{code}");
        assert!(marker_in(&response).is_some(), "{code}");
        assert_eq!(names(&response), [NAME, OUT], "{code}");
    }
}

#[test]
fn the_removal_goes_out_whether_or_not_the_session_was_read_before() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = sealed(&layer, &user(1), clock.now());
    let handlers: [fn(&Session<Shop>); 4] = [
        clear,
        |session| {
            session.read(|_| ());
            clear(session);
        },
        |session| {
            add(session);
            clear(session);
        },
        |session| {
            clear(session);
            session.read(|_| ());
            clear(session);
        },
    ];
    for handler in handlers {
        let ((), response) = visit(&layer, &cookie, handler);
        assert!(removes_session(&response));
        assert_eq!(names(&response), [NAME, OUT]);
    }
}

#[test]
fn a_cookie_that_did_not_open_is_removed_too_without_a_marker() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let stranger = sealed(&crate::kit::layer::<Shop>(&clock), &user(1), clock.now());
    for cookies in [format!("{NAME}=garbage"), format!("{NAME}="), stranger] {
        let response = cleared(&layer, &cookies);
        assert!(removes_session(&response), "{cookies}");
        assert_eq!(names(&response), [NAME], "{cookies}");
    }
}

#[test]
fn where_no_cookie_of_our_name_came_in_nothing_goes_out() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let marker = marker_in(&cleared(&layer, &created(&layer, clock.now()))).unwrap();
    for cookies in ["", "theme=dark", &marker] {
        assert_eq!(names(&cleared(&layer, cookies)), [""; 0], "{cookies}");
    }
    // Not even if a session was begun, and cleared again.
    let ((), response) = visit(&layer, "", |session| {
        add(session);
        clear(session);
    });
    assert_eq!(names(&response), [""; 0]);
}

/// A `Set-Cookie` line without its value and its `Max-Age`.
fn attributes(response: &Response<()>, name: &str) -> String {
    let line = lines(response).into_iter().find(|line| line.starts_with(&format!("{name}="))).unwrap();
    let (_, attributes) = line.split_once("; ").unwrap();
    let kept: Vec<_> = attributes.split("; ").filter(|part| !part.starts_with("Max-Age")).collect();
    kept.join("; ")
}

#[test]
fn removal_and_marker_have_the_very_attributes_of_the_session_cookie() {
    let clock = Clock::new();
    let check = |name: &str, builder: SessionBuilder<Shop>, expected: &[&str]| {
        let layer = builder.build().unwrap();
        let ((), set) = visit(&layer, "", add);
        let attributes_set = attributes(&set, name);
        for expected in expected {
            assert!(attributes_set.split("; ").any(|part| part == *expected), "{attributes_set}");
        }
        let out = cleared(&layer, &sealed(&layer, &user(1), clock.now()));
        assert_eq!(attributes(&out, name), attributes_set);
        assert_eq!(attributes(&out, &format!("{name}-out")), attributes_set);
    };
    check(NAME, builder(&clock), &["Secure", "HttpOnly", "SameSite=Lax", "Path=/"]);
    check(
        "__Secure-id",
        builder(&clock)
            .name("__Secure-id")
            .domain("example.com")
            .path("/app")
            .same_site(SameSite::None)
            .partitioned(),
        &["Secure", "HttpOnly", "SameSite=None", "Path=/app", "Domain=example.com", "Partitioned"],
    );
    check(
        "id",
        builder(&clock).name("id").insecure_for_local_http().same_site(SameSite::Strict),
        &["HttpOnly", "SameSite=Strict", "Path=/"],
    );
}

// The marker.

#[test]
fn a_marker_goes_out_if_one_had_opened_whatever_its_times() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).idle_timeout(HOUR).build().unwrap();
    let good = created(&layer, clock.now());
    let expired = created(&layer, clock.now() - HOUR);
    let ahead = created(&layer, clock.now() + 2 * MINUTE);
    for (cookies, kind) in [
        (&good, Incoming::Accepted),
        (&expired, Incoming::Rejected(RejectedKind::Expired)),
        (&ahead, Incoming::Rejected(RejectedKind::FromTheFuture)),
        (&format!("{good}; {}", marker_in(&cleared(&layer, &good)).unwrap()), SIGNED_OUT),
    ] {
        assert_eq!(incoming(&layer, cookies), kind);
        let response = cleared(&layer, cookies);
        assert!(removes_session(&response), "{kind:?}");
        assert!(marker_in(&response).is_some(), "{kind:?}");
    }
}

#[test]
fn a_refused_session_is_signed_out_like_another() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).accept_if(|_, _| false).build().unwrap();
    let response = cleared(&layer, &created(&layer, clock.now()));
    assert!(removes_session(&response));
    assert!(marker_in(&response).is_some());
}

#[test]
fn the_marker_holds_the_time_of_the_head_if_nothing_is_later() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = created(&layer, clock.now());
    clock.pass(HOUR);
    let ((), response) = visit(&layer, &cookie, |session| {
        clear(session);
        clock.pass(7 * SECOND);
    });
    assert_eq!(marker_time(&layer, &marker_in(&response).unwrap()), Some(clock.now()));
}

#[test]
fn the_marker_is_never_below_those_that_came_in() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let start = clock.now();
    let cookie = created(&layer, start);
    let marker_at = |time| {
        clock.set(time);
        marker_in(&cleared(&layer, &cookie)).unwrap()
    };
    let (early, late) = (marker_at(start + SECOND), marker_at(start + HOUR));
    clock.set(start + MINUTE);
    for markers in [format!("{early}; {late}"), format!("{late}; {early}")] {
        let response = cleared(&layer, &format!("{cookie}; {markers}"));
        assert_eq!(marker_time(&layer, &marker_in(&response).unwrap()), Some(start + HOUR));
    }
    let response = cleared(&layer, &format!("{cookie}; {early}"));
    assert_eq!(marker_time(&layer, &marker_in(&response).unwrap()), Some(start + MINUTE));
}

#[test]
fn the_marker_is_never_below_any_created_at_that_came_in() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    // Rule 11 itself makes sessions whose `created_at` is ahead.
    let ahead = |by: Duration| {
        let marker = Some(clock.now() + by - MILLI);
        sent(&layer.codec().seal(&user(1), None, marker, clock.now()).unwrap())
    };
    let (near, far, plain) = (ahead(MINUTE), ahead(HOUR), created(&layer, clock.now()));
    for cookies in [format!("{near}; {far}; {plain}"), format!("{far}; {near}"), format!("{plain}; {far}")] {
        let response = cleared(&layer, &cookies);
        assert_eq!(marker_time(&layer, &marker_in(&response).unwrap()), Some(clock.now() + HOUR));
        let marker = marker_in(&response).unwrap();
        for session in [&near, &far, &plain] {
            assert_eq!(incoming(&layer, &format!("{session}; {marker}")), SIGNED_OUT);
        }
    }
}

#[test]
fn a_session_created_at_or_before_the_marker_is_signed_out_and_a_millisecond_later_is_not() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let at = clock.now();
    let marker = marker_in(&cleared(&layer, &created(&layer, at))).unwrap();
    assert_eq!(marker_time(&layer, &marker), Some(at));
    clock.pass(MINUTE);
    for (session_at, expected) in [
        (at - HOUR, SIGNED_OUT),
        (at - MILLI, SIGNED_OUT),
        (at, SIGNED_OUT),
        (at + MILLI, Incoming::Accepted),
        (at + MINUTE, Incoming::Accepted),
    ] {
        let session = created(&layer, session_at);
        assert_eq!(incoming(&layer, &format!("{session}; {marker}")), expected);
        assert_eq!(incoming(&layer, &format!("{marker}; {session}")), expected);
    }
}

#[test]
fn a_signed_out_session_is_left_alone() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = created(&layer, clock.now());
    let marker = marker_in(&cleared(&layer, &cookie)).unwrap();
    let both = format!("{cookie}; {marker}");
    for passed in [MILLI, 13 * HOUR] {
        clock.pass(passed);
        let ((), response) = visit(&layer, &both, |session| {
            assert_eq!(session.get(), Shop::default());
            assert!(session.is_new());
        });
        assert_eq!(names(&response), [""; 0]);
    }
}

#[test]
fn a_marker_without_a_session_is_no_session() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let marker = marker_in(&cleared(&layer, &created(&layer, clock.now()))).unwrap();
    assert_eq!(incoming(&layer, &marker), Incoming::Absent);
    assert_eq!(
        incoming(&layer, &format!("{NAME}=garbage; {marker}")),
        Incoming::Rejected(RejectedKind::Malformed)
    );
}

#[test]
fn a_session_created_in_a_request_that_carries_a_marker_is_created_a_millisecond_after_it() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let now = clock.now();
    for (marker_at, created_at) in
        [(now + HOUR, now + HOUR + MILLI), (now, now + MILLI), (now - MILLI, now), (now - HOUR, now)]
    {
        clock.set(marker_at);
        let signed_out = created(&layer, marker_at - HOUR);
        let marker = marker_in(&cleared(&layer, &signed_out)).unwrap();
        clock.set(now);
        for cookies in [marker.clone(), format!("{signed_out}; {marker}")] {
            let ((), response) = visit(&layer, &cookies, |session| session.set(user(2)).unwrap());
            let written = session_in(&response).unwrap();
            let meta = meta(&layer, &written, now);
            assert_eq!(meta.created_at(), created_at);
            assert_eq!((meta.renewed_at(), meta.issued_at()), (now, now));
            // So it is not signed out itself.
            assert_eq!(incoming(&layer, &format!("{written}; {marker}")), Incoming::Accepted);
        }
    }
}

#[test]
fn a_session_created_in_a_request_that_sends_a_marker_is_created_a_millisecond_after_it() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = created(&layer, clock.now() - HOUR);
    let handed_out = clock.now();
    let ((), response) = visit(&layer, &cookie, |session| {
        clear(session);
        session.set(user(2)).unwrap();
        clock.pass(SECOND);
    });
    let (written, marker) = (session_in(&response).unwrap(), marker_in(&response).unwrap());
    assert_eq!(marker_time(&layer, &marker), Some(handed_out + SECOND));
    let meta = meta(&layer, &written, clock.now());
    assert_eq!(meta.created_at(), handed_out + SECOND + MILLI);
    assert_eq!(meta.renewed_at(), handed_out);
    assert_eq!(meta.issued_at(), handed_out + SECOND);
    assert_eq!(incoming(&layer, &format!("{written}; {marker}")), Incoming::Accepted);
    assert_eq!(incoming(&layer, &format!("{cookie}; {marker}")), SIGNED_OUT);
}

#[test]
fn the_marker_lives_as_long_as_any_session_can_under_any_settings() {
    let clock = Clock::new();
    let lives = |builder: SessionBuilder<Shop>| {
        let layer = builder.build().unwrap();
        let response = cleared(&layer, &created(&layer, clock.now()));
        max_age(&cookie_in(&response, OUT).unwrap()).unwrap()
    };
    let longest = i64::try_from((400 * DAY).as_secs()).unwrap();
    assert_eq!(lives(builder(&clock)), longest);
    assert_eq!(lives(builder(&clock).absolute_timeout(DAY)), longest);
    assert_eq!(lives(builder(&clock).max_own_lifetime(400 * DAY)), longest);
}

#[test]
fn what_the_codec_removes_is_what_came_in() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let removed = |cookies: &str| {
        let removals = layer.codec().removals(&open(&layer, cookies, clock.now()), clock.now());
        removals
            .cookies()
            .iter()
            .map(|cookie| (cookie.name().to_owned(), cookie.value().is_empty()))
            .collect::<Vec<_>>()
    };
    let of = |names: &[(&str, bool)]| {
        names.iter().map(|&(name, empty)| (name.to_owned(), empty)).collect::<Vec<_>>()
    };
    assert_eq!(removed(""), of(&[]));
    assert_eq!(removed("a=b"), of(&[]));
    assert_eq!(removed(&format!("{NAME}=x")), of(&[(NAME, true)]));
    let cookie = created(&layer, clock.now());
    assert_eq!(removed(&cookie), of(&[(NAME, true), (OUT, false)]));
    // What was opened is there to be sealed again.
    assert_eq!(
        open(&layer, &cookie, clock.now()).into_value(),
        open(&layer, &cookie, clock.now()).value().cloned()
    );
    assert!(open(&layer, &cookie, clock.now()).into_value().is_some());
}

/// A slow response of an instance that has the longer timeout already; the sign-out from one that has not.
#[test]
fn a_sign_out_holds_while_a_deploy_raises_the_timeouts() {
    let (clock, keys) = (Clock::new(), ring());
    let with = || builder_over::<Shop>(keys.clone(), &clock);
    let old = with().idle_timeout(HOUR * 12).absolute_timeout(DAY).build().unwrap();
    let new = with().idle_timeout(DAY * 7).absolute_timeout(DAY * 14).build().unwrap();
    let mut browser = Browser::new(&clock);
    browser.visit(&old, |session| session.set(user(1)).unwrap());
    clock.pass(MINUTE);
    let slow = browser.send(&new, |session| {
        session.update(|shop| shop.cart.push(1)).unwrap();
        Response::new(())
    });
    clock.pass(SECOND);
    browser.visit(&old, clear);
    clock.pass(SECOND);
    browser.receive(&slow);
    assert_eq!(browser.visit(&new, Session::incoming), SIGNED_OUT);
    clock.pass(HOUR * 26);
    assert_eq!(browser.visit(&new, Session::incoming), SIGNED_OUT);
}

#[test]
fn a_browser_sessions_marker_outlives_the_browser() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let ((), response) = visit(&layer, "", |session| {
        add(session);
        session.set_lifetime(Lifetime::Browser).unwrap();
    });
    let response = cleared(&layer, &session_in(&response).unwrap());
    assert!(max_age(&cookie_in(&response, OUT).unwrap()).is_some());
}

#[test]
fn a_marker_goes_out_for_each_earlier_identity_too_with_its_attributes() {
    let (clock, keys) = (Clock::new(), ring());
    let with = || builder_over::<Shop>(keys.clone(), &clock);
    let layer = with()
        .name("id")
        .formerly(Identity::current().path("/app"))
        .formerly(Identity::named("sid").domain("example.com"))
        .build()
        .unwrap();
    let response = cleared(&layer, &created(&layer, clock.now()));
    let mut markers: Vec<_> =
        cookies_in(&response).into_iter().filter(|cookie| !cookie.value().is_empty()).collect();
    markers.sort_by_key(|cookie| (cookie.name().to_owned(), cookie.path().map(str::to_owned)));
    let shown: Vec<_> =
        markers.iter().map(|cookie| (cookie.name(), cookie.domain(), cookie.path())).collect();
    let expected = [
        ("id-out", None, Some("/")),
        ("id-out", None, Some("/app")),
        ("sid-out", Some("example.com"), Some("/")),
    ];
    assert_eq!(shown, expected);

    // An instance that still has the earlier identity honours it.
    let before = with().name("sid").domain("example.com").build().unwrap();
    let old = created(&before, clock.now());
    let marker = format!("sid-out={}", markers[2].value());
    assert_eq!(incoming(&before, &old), Incoming::Accepted);
    assert_eq!(incoming(&before, &format!("{old}; {marker}")), SIGNED_OUT);
}

#[test]
fn where_nothing_opened_earlier_identities_get_a_removal_and_no_marker() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).name("id").formerly(Identity::named("sid")).build().unwrap();
    assert_eq!(names(&cleared(&layer, "sid=x")), ["sid"]);
    assert_eq!(names(&cleared(&layer, "id=x")), ["id", "sid"]);
    assert_eq!(names(&cleared(&layer, &created(&layer, clock.now()))), ["id", "id-out", "sid", "sid-out"]);
}

#[test]
fn a_marker_from_a_fallback_key_or_another_accepted_mode_holds() {
    let (clock, old, new) = (Clock::new(), key(), key());
    let with = |ring| builder_over::<Shop>(ring, &clock);
    let before = with(KeyRing::new(old.clone(), []).unwrap()).mode(Mode::Signed).build().unwrap();
    let session = created(&before, clock.now());
    let marker = marker_in(&cleared(&before, &session)).unwrap();

    let after = || with(KeyRing::new(new.clone(), [old.clone()]).unwrap()).accept_mode(Mode::Signed);
    let after = after().build().unwrap();
    assert_eq!(incoming(&after, &session), Incoming::Accepted);
    assert_eq!(incoming(&after, &format!("{session}; {marker}")), SIGNED_OUT);
    // One that is sent now is sealed with the primary, in today's mode, and opens after the rotation.
    let marker = marker_in(&cleared(&after, &session)).unwrap();
    let rotated = with(KeyRing::new(new, []).unwrap()).build().unwrap();
    let earlier = created(&rotated, clock.now());
    assert_eq!(incoming(&rotated, &format!("{earlier}; {marker}")), SIGNED_OUT);
}

#[test]
fn a_forged_or_foreign_marker_is_ignored() {
    let (clock, keys) = (Clock::new(), ring());
    let with = || builder_over::<Shop>(keys.clone(), &clock);
    let layer = with().build().unwrap();
    let session = created(&layer, clock.now());
    let value_of = |layer: &SessionLayer<Shop>, name: &str| {
        let response = cleared(layer, &created(layer, clock.now() + HOUR));
        cookie_in(&response, name).unwrap().value().to_owned()
    };
    let mut changed = value_of(&layer, OUT);
    let last = changed.pop().unwrap();
    let at = changed.pop().unwrap();
    changed.extend([if at == 'A' { 'B' } else { 'A' }, last]);
    let foreign = [
        ("garbage", "garbage".to_owned()),
        ("nothing", String::new()),
        ("a changed bit", changed),
        ("another key", value_of(&crate::kit::layer::<Shop>(&clock), OUT)),
        ("another context", value_of(&with().context("elsewhere").build().unwrap(), OUT)),
        ("another name", value_of(&with().name("id").build().unwrap(), "id-out")),
        ("a mode not accepted", value_of(&with().mode(Mode::Signed).build().unwrap(), OUT)),
        ("a session", created(&layer, clock.now() + HOUR).split_once('=').unwrap().1.to_owned()),
    ];
    for (what, value) in foreign {
        let cookies = format!("{session}; {OUT}={value}");
        assert_eq!(incoming(&layer, &cookies), Incoming::Accepted, "{what}");
        // Nor does a new session begin after it, or a marker that goes out hold its time.
        let ((), response) = visit(&layer, &format!("{OUT}={value}"), add);
        assert_eq!(
            meta(&layer, &session_in(&response).unwrap(), clock.now()).created_at(),
            clock.now(),
            "{what}"
        );
        let out = marker_in(&cleared(&layer, &cookies)).unwrap();
        assert_eq!(marker_time(&layer, &out), Some(clock.now()), "{what}");
    }
    // The true one is not.
    let value = value_of(&layer, OUT);
    assert_eq!(incoming(&layer, &format!("{session}; {OUT}={value}")), SIGNED_OUT);
    // And a marker is no session.
    let as_session = format!("{NAME}={value}");
    assert_eq!(incoming(&layer, &as_session), Incoming::Rejected(RejectedKind::NotAuthentic));
}

#[test]
fn of_several_markers_the_largest_of_the_first_eight_counts() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let start = clock.now();
    let session = created(&layer, start);
    let old = marker_in(&cleared(&layer, &created(&layer, start - DAY))).unwrap();
    let marker = |time| {
        clock.set(time);
        let marker = marker_in(&cleared(&layer, &created(&layer, time))).unwrap();
        clock.set(start + HOUR);
        marker
    };
    let harmless = marker(start - HOUR);
    let strong = marker(start + MINUTE);
    assert_eq!(marker_time(&layer, &old), Some(start));
    let repeat = |cookie: &str, times| vec![cookie; times].join("; ");

    for cookies in [format!("{strong}; {harmless}"), format!("{harmless}; {strong}")] {
        assert_eq!(incoming(&layer, &format!("{session}; {cookies}")), SIGNED_OUT);
    }
    let seven = format!("{session}; {}; {strong}", repeat(&harmless, 7));
    assert_eq!(incoming(&layer, &seven), SIGNED_OUT);
    let eight = format!("{session}; {}; {strong}", repeat(&harmless, 8));
    assert_eq!(incoming(&layer, &eight), Incoming::Accepted);
    // What does not parse, or names no key of the ring, does not use up the eight.
    let junk = format!("{session}; {}; {strong}", repeat(&format!("{OUT}=!"), 30));
    assert_eq!(incoming(&layer, &junk), SIGNED_OUT);
}

// Clear, then write.

#[test]
fn a_clear_and_then_an_update_is_a_new_session_with_a_new_id() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = created(&layer, clock.now() - HOUR);
    let before = meta(&layer, &cookie, clock.now());
    let ((), response) = visit(&layer, &cookie, |session| {
        clear(session);
        assert_eq!(session.meta(), None);
        assert_eq!(session.get(), Shop::default());
        session.update(|shop| shop.user = Some(2)).unwrap();
        assert_eq!(session.get(), user(2));
    });
    assert_eq!(names(&response), [NAME, OUT]);
    let written = session_in(&response).unwrap();
    let after = meta(&layer, &written, clock.now());
    assert_ne!(after.id(), before.id());
    assert_eq!(after.renewed_at(), clock.now());
    assert_eq!(open(&layer, &written, clock.now()).value(), Some(&user(2)));
}

#[test]
fn a_clear_and_then_an_update_that_a_5xx_does_not_send_is_a_removal() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = created(&layer, clock.now());
    let response = respond(&layer, request(&cookie), |session| {
        clear(&session);
        session.set(user(2)).unwrap();
        status(500)
    });
    assert!(removes_session(&response));
    assert_eq!(names(&response), [NAME, OUT]);
}

#[test]
fn a_clear_and_then_an_update_of_nothing_is_a_removal() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = created(&layer, clock.now());
    let ((), response) = visit(&layer, &cookie, |session| {
        clear(session);
        session.update(|_| ()).unwrap();
        session.renew().unwrap();
        session.set_lifetime(Lifetime::Own(HOUR)).unwrap();
    });
    assert!(removes_session(&response));
}

#[test]
fn a_clear_undoes_the_writes_before_it() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = created(&layer, clock.now());
    let ((), response) = visit(&layer, &cookie, |session| {
        add(session);
        session.renew().unwrap();
        session.set_lifetime(Lifetime::Own(HOUR)).unwrap();
        clear(session);
        session.update(|shop| shop.user = Some(2)).unwrap();
    });
    let written = session_in(&response).unwrap();
    let opened = open(&layer, &written, clock.now());
    assert_eq!(opened.value(), Some(&user(2)));
    assert_eq!(opened.meta().unwrap().lifetime(), Lifetime::Timeouts);
}

#[test]
fn two_clears_in_one_request_are_two_new_sessions_of_which_the_last_goes_out() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = created(&layer, clock.now());
    let (ids, response) = visit(&layer, &cookie, |session| {
        [2, 3].map(|id| {
            clear(session);
            session.update(|shop| shop.user = Some(id)).unwrap();
            session.meta().unwrap().id()
        })
    });
    assert_ne!(ids[0], ids[1]);
    let written = session_in(&response).unwrap();
    assert_eq!(meta(&layer, &written, clock.now()).id(), ids[1]);
    assert_eq!(open(&layer, &written, clock.now()).value(), Some(&user(3)));
}

#[test]
fn a_clear_inside_a_running_closure_signs_out() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = created(&layer, clock.now());
    let ((), response) = visit(&layer, &cookie, |session| {
        let updated = session.update(|shop| {
            shop.user = Some(2);
            clear(session);
        });
        assert_eq!(updated, Err(UpdateError::Cleared));
    });
    assert!(removes_session(&response));
    assert!(marker_in(&response).is_some());
}

// Slow responses.

/// A browser with a session, and a layer that re-issues after a minute.
fn signed_in() -> (Clock, SessionLayer<Shop>, Browser) {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).reissue_after(MINUTE).build().unwrap();
    let mut browser = Browser::new(&clock);
    browser.visit(&layer, |session| session.set(user(1)).unwrap());
    clock.pass(MINUTE);
    (clock, layer, browser)
}

#[test]
fn a_slow_response_that_brings_the_session_back_signs_nobody_in() {
    type Handler = fn(&Session<Shop>);
    let slow: [(&str, Handler); 4] = [
        ("a write", add),
        ("a re-issue", |session| session.read(|_| ())),
        ("a renewal", |session| _ = session.renew().unwrap()),
        ("another lifetime", |session| session.set_lifetime(Lifetime::Own(DAY)).unwrap()),
    ];
    for (what, handler) in slow {
        let (clock, layer, mut browser) = signed_in();
        let slow = browser.send(&layer, |session| {
            handler(&session);
            clock.pass(SECOND);
            status(200)
        });
        assert!(session_in(&slow).is_some(), "{what}");
        browser.visit(&layer, clear);
        assert!(!browser.has(NAME));
        clock.pass(SECOND);
        browser.receive(&slow);
        assert!(browser.has(NAME), "{what}");
        assert_eq!(browser.visit(&layer, Session::incoming), SIGNED_OUT, "{what}");
        assert_eq!(browser.visit(&layer, Session::get), Shop::default(), "{what}");
        // For as long as the session could have lived.
        clock.pass(23 * HOUR);
        assert_eq!(browser.visit(&layer, Session::incoming), SIGNED_OUT, "{what}");
    }
}

#[test]
fn a_request_that_began_before_the_sign_out_and_is_answered_after_it_signs_nobody_in() {
    let (clock, layer, mut browser) = signed_in();
    let cookies = browser.cookies();
    browser.visit(&layer, clear);
    clock.pass(HOUR);
    // It even renews, with a head that is later than the marker.
    let ((), slow) = visit(&layer, &cookies, |session| {
        add(session);
        session.renew().unwrap();
    });
    browser.receive(&slow);
    assert_eq!(browser.visit(&layer, Session::incoming), SIGNED_OUT);
}

#[test]
fn a_slow_response_after_a_second_user_has_signed_in_brings_back_nobody() {
    let (clock, layer, mut browser) = signed_in();
    let slow = browser.send(&layer, |session| {
        add(&session);
        status(200)
    });
    browser.visit(&layer, clear);
    clock.pass(SECOND);
    browser.visit(&layer, |session| session.set(user(2)).unwrap());
    assert_eq!(browser.visit(&layer, Session::get), user(2));
    browser.receive(&slow);
    // The second user's cookie was overwritten; what stands in its place is not the first user's.
    assert_eq!(browser.visit(&layer, Session::incoming), SIGNED_OUT);
    // They sign in again, and stay.
    browser.visit(&layer, |session| session.set(user(2)).unwrap());
    assert_eq!(browser.visit(&layer, Session::get), user(2));
}

#[test]
fn whoever_signs_in_again_in_the_same_millisecond_is_in() {
    let (_, layer, mut browser) = signed_in();
    browser.visit(&layer, clear);
    browser.visit(&layer, |session| session.set(user(2)).unwrap());
    assert_eq!(browser.visit(&layer, Session::get), user(2));
    // And out and in again, without a tick of the clock.
    for id in 3..6 {
        browser.visit(&layer, clear);
        assert_eq!(browser.visit(&layer, Session::incoming), Incoming::Absent);
        browser.visit(&layer, |session| session.set(user(id)).unwrap());
        assert_eq!(browser.visit(&layer, Session::get), user(id));
    }
}

#[test]
fn a_sign_in_at_an_instance_whose_clock_is_behind_the_marker_holds() {
    let (clock, layer, mut browser) = signed_in();
    browser.visit(&layer, clear);
    clock.back(50 * SECOND);
    browser.visit(&layer, |session| session.set(user(2)).unwrap());
    assert_eq!(browser.visit(&layer, Session::get), user(2));
    // Signing out there, too.
    let slow = browser.send(&layer, |session| {
        add(&session);
        status(200)
    });
    browser.visit(&layer, clear);
    browser.receive(&slow);
    assert_eq!(browser.visit(&layer, Session::incoming), SIGNED_OUT);
}

#[test]
fn the_500_of_a_failed_sign_out_signs_out() {
    let (_, layer, mut browser) = signed_in();
    let slow = browser.send(&layer, |session| {
        add(&session);
        status(200)
    });
    let failed = browser.send(&layer, |session| {
        clear(&session);
        status(500)
    });
    browser.receive(&failed);
    assert_eq!(browser.visit(&layer, Session::incoming), Incoming::Absent);
    browser.receive(&slow);
    assert_eq!(browser.visit(&layer, Session::incoming), SIGNED_OUT);
}

#[test]
fn a_write_over_a_signed_out_session_is_a_new_session() {
    let (_, layer, mut browser) = signed_in();
    let slow = browser.send(&layer, |session| {
        add(&session);
        status(200)
    });
    browser.visit(&layer, clear);
    browser.receive(&slow);
    let old = slow;
    browser.visit(&layer, |session| session.set(user(2)).unwrap());
    assert_eq!(browser.visit(&layer, Session::get), user(2));
    browser.receive(&old);
    assert_eq!(browser.visit(&layer, Session::incoming), SIGNED_OUT);
}

/// A mode is changed as keys are: accepted everywhere first. With a step left out the old instance knows nothing of
/// a sign-out at the new one.
#[test]
fn a_mode_is_changed_in_three_steps_and_a_sign_out_holds_on_either_side() {
    let clock = Clock::new();
    let ring = ring();
    let with = |writes, accepts: Option<Mode>| {
        let builder = builder_over::<Shop>(ring.clone(), &clock).mode(writes);
        let builder = match accepts {
            Some(mode) => builder.accept_mode(mode),
            None => builder,
        };
        builder.build().unwrap()
    };
    let steps = [
        with(Mode::Encrypted, None),
        with(Mode::Encrypted, Some(Mode::Signed)),
        with(Mode::Signed, Some(Mode::Encrypted)),
        with(Mode::Signed, None),
    ];
    // Signs in here, has a write under way here, signs out there; then the slow response arrives.
    let comes_back = |here: &SessionLayer<Shop>, there: &SessionLayer<Shop>| {
        let mut browser = Browser::new(&clock);
        browser.visit(here, |session| session.set(user(1)).unwrap());
        let slow = browser.send(here, |session| {
            session.update(|shop| shop.cart.push(1)).unwrap();
            status(200)
        });
        clock.pass(SECOND);
        browser.visit(there, |session| assert!(session.clear()));
        browser.receive(&slow);
        browser.visit(here, |session| session.incoming()) == Incoming::Accepted
    };
    for at in 0..2 {
        assert!(!comes_back(&steps[at], &steps[at + 1]), "step {at}");
        assert!(!comes_back(&steps[at + 1], &steps[at]), "step {at}, back");
    }
    assert!(comes_back(&steps[0], &steps[2]), "a step left out");
}

/// A limit that the docs name: `<name>-out` is the marker's name, and no other session's.
#[test]
fn a_neighbour_with_the_name_of_the_marker_overwrites_it() {
    for (neighbour, comes_back) in [("__Host-user-out", true), ("__Host-user-2", false)] {
        let clock = Clock::new();
        let layer = builder::<Shop>(&clock).name("__Host-user").build().unwrap();
        let other = builder::<u64>(&clock).name(neighbour).build().unwrap();
        let mut browser = Browser::new(&clock);
        browser.visit(&layer, |session| session.set(user(1)).unwrap());
        let slow = browser.send(&layer, |session| {
            session.update(|shop| shop.cart.push(1)).unwrap();
            status(200)
        });
        clock.pass(SECOND);
        browser.visit(&layer, |session| assert!(session.clear()));
        browser.visit(&other, |session| session.set(5).unwrap());
        browser.receive(&slow);
        let incoming = browser.visit(&layer, |session| session.incoming());
        assert_eq!(incoming == Incoming::Accepted, comes_back, "{neighbour}");
    }
}
