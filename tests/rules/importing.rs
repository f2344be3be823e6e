//! Sessions in an older format: how an import meets the rules. The format is one of the tests' own; Express and
//! jars have tests of their own.

use crate::{
    jar::Browser,
    kit::{
        Clock, DAY, HOUR, MILLI, MINUTE, NAME, OUT, SECOND, Shop, builder, builder_over, cookie_in, key,
        lines, marker_in, meta, names, open, removes_session, request, respond, ring, sealed, session_in,
        status, user, visit,
    },
};
use cookie_session::{
    ConfigError, Identity, Imported, Incoming, KeyRing, Lifetime, Mode, OldCookies, OldFormat, RejectedKind,
    Session, SessionBuilder, SessionLayer, UpdateError,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{CACHE_CONTROL, COOKIE},
};
use sha2::Sha256;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// A user's number, and an HMAC over it in a second cookie.
#[derive(Clone)]
struct Legacy {
    key: [u8; 32],
    asked: Arc<AtomicU64>,
}

impl Legacy {
    fn new(byte: u8) -> Legacy {
        Legacy { key: [byte; 32], asked: Arc::default() }
    }

    fn mac(&self, text: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).unwrap();
        mac.update(text);
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What a browser sends.
    fn cookies(&self, user: u64) -> String {
        format!("old={user}; old.mac={}", self.mac(user.to_string().as_bytes()))
    }
}

impl OldFormat<Shop> for Legacy {
    fn cookies(&self) -> Vec<Identity> {
        vec![
            Identity::named("old").domain("example.com").path("/shop"),
            Identity::named("old.mac").partitioned(),
        ]
    }

    fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
        self.asked.fetch_add(1, SeqCst);
        let value = old.first("old").ok_or(RejectedKind::Malformed)?;
        let mac = old.first("old.mac").ok_or(RejectedKind::Malformed)?;
        if self.mac(value).as_bytes() != mac {
            return Err(RejectedKind::NotAuthentic);
        }
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        Ok(Imported::new(user(number.ok_or(RejectedKind::Payload)?), value, &self.key))
    }
}

const MALFORMED: Incoming = Incoming::Rejected(RejectedKind::Malformed);

struct Nameless;

impl OldFormat<Shop> for Nameless {
    fn cookies(&self) -> Vec<Identity> {
        vec![Identity::named("nameless")]
    }
    fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
        assert_eq!((old.first(""), old.all("").count()), (None, 0));
        // Neither shows what came in.
        assert_eq!(format!("{old:?}"), "OldCookies { .. }");
        assert_eq!(format!("{:?}", Imported::new(user(7), b"value", b"a key")), "Imported { .. }");
        Err(RejectedKind::Malformed)
    }
}

fn importing(clock: &Clock) -> SessionBuilder<Shop> {
    builder(clock).import(Legacy::new(1), clock.now() + DAY)
}

const REMOVALS: [&str; 2] = [
    "old=; HttpOnly; SameSite=Lax; Secure; Path=/shop; Domain=example.com; Max-Age=0",
    "old.mac=; HttpOnly; SameSite=Lax; Partitioned; Secure; Path=/; Max-Age=0",
];

/// The removals of old cookies in a response; sorted, as `Set-Cookie` lines may stand in any order.
fn old_removals<B>(response: &Response<B>) -> Vec<String> {
    lines(response).into_iter().filter(|line| line.starts_with("old")).collect()
}

fn read(session: &Session<Shop>) -> Option<u64> {
    session.read(|shop| shop.user)
}

#[test]
fn a_used_session_becomes_one_of_ours_and_the_old_cookies_go() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let old = Legacy::new(1).cookies(42);
    let seen = |session: &Session<Shop>| {
        assert!(!session.is_changed());
        (read(session), session.incoming(), session.is_new())
    };
    let (seen_first, response) = visit(&layer, &old, seen);
    assert_eq!(seen_first, (Some(42), Incoming::Imported, false));
    assert_eq!(old_removals(&response), REMOVALS);
    assert_eq!(names(&response), [NAME, "old", "old.mac"]);
    let ours = session_in(&response).expect("it is set");

    // As one of ours from now on, and nothing is sent for it.
    let (seen_next, response) = visit(&layer, &ours, seen);
    assert_eq!(seen_next, (Some(42), Incoming::Accepted, false));
    assert_eq!(lines(&response), [""; 0]);
}

#[test]
fn where_nobody_asks_for_the_session_nothing_happens() {
    let clock = Clock::new();
    let legacy = Legacy::new(1);
    let layer = builder(&clock).import(legacy.clone(), clock.now() + DAY).build().unwrap();
    // Extracting alone is no use.
    let ((), response) = visit(&layer, &legacy.cookies(42), |_| ());
    assert_eq!(lines(&response), [""; 0]);
    assert_eq!(legacy.asked.load(SeqCst), 0);
}

#[test]
fn a_write_goes_out_with_the_import() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let add = |session: &Session<Shop>| session.update(|shop| shop.cart.push(7)).unwrap();
    let ((), response) = visit(&layer, &Legacy::new(1).cookies(42), add);
    assert_eq!(old_removals(&response), REMOVALS);
    let opened = open(&layer, &session_in(&response).unwrap(), clock.now());
    assert_eq!(opened.value(), Some(&Shop { user: Some(42), cart: vec![7] }));
}

#[test]
fn ours_wins_whatever_is_in_it() {
    let clock = Clock::new();
    let legacy = Legacy::new(1);
    let layer = builder(&clock).import(legacy.clone(), clock.now() + DAY).build().unwrap();
    let mine = sealed(&layer, &user(1), clock.now());
    let (seen, response) = visit(&layer, &format!("{}; {mine}", legacy.cookies(42)), read);
    assert_eq!((seen, lines(&response).len()), (Some(1), 0));
    let layer_of_another_ring = builder::<Shop>(&clock).build().unwrap();
    // What does not open may be of an instance with another key or a newer schema: it is not written over.
    let foreign = sealed(&layer_of_another_ring, &user(1), clock.now());
    let (seen, response) = visit(&layer, &format!("{}; {foreign}", legacy.cookies(42)), read);
    assert_eq!((seen, lines(&response).len()), (None, 0));
    clock.pass(DAY);
    let ((seen, incoming), _) = visit(&layer, &format!("{mine}; {}", legacy.cookies(42)), |session| {
        (read(session), session.incoming())
    });
    assert_eq!((seen, incoming), (None, Incoming::Rejected(RejectedKind::Expired)));
    assert_eq!(legacy.asked.load(SeqCst), 0);
}

#[test]
fn what_cannot_be_a_session_of_ours_is_in_no_imports_way() {
    let clock = Clock::new();
    let layer = importing(&clock)
        .formerly(Identity::named("session").until(clock.now() + DAY))
        .formerly(Identity::named("bare"))
        .build()
        .unwrap();
    for junk in [
        format!("{NAME}="),
        format!("{NAME}=garbage"),
        "session=eyJ1c2VyIjo3fQ.Zm9v.c2ln".to_owned(),
        format!("session={}", "A".repeat(4097)),
        "bare=x".to_owned(),
    ] {
        let (seen, response) = visit(&layer, &format!("{junk}; {}", Legacy::new(1).cookies(42)), read);
        assert_eq!(seen, Some(42), "{junk}");
        assert!(session_in(&response).is_some(), "{junk}");
    }
}

#[test]
fn sessions_in_another_identity_of_ours_win_too_until_its_date() {
    let clock = Clock::new();
    let build = |name: &'static str, ring: KeyRing| builder_over::<Shop>(ring, &clock).name(name);
    let one = ring();
    let before = build("before", one.clone()).build().unwrap();
    let layer = build("now", one)
        .formerly(Identity::named("before").until(clock.now() + HOUR))
        .import(Legacy::new(1), clock.now() + DAY)
        .build()
        .unwrap();
    let cookies = |value: &str| format!("{value}; {}", Legacy::new(1).cookies(42));
    let theirs = sealed(&before, &user(1), clock.now());
    assert_eq!(visit(&layer, &cookies(&theirs), read).0, Some(1));
    let foreign = sealed(&build("before", ring()).build().unwrap(), &user(3), clock.now());
    assert_eq!(visit(&layer, &cookies(&foreign), read).0, None);
    clock.pass(HOUR);
    assert_eq!(visit(&layer, &cookies(&theirs), read).0, Some(42));
}

#[test]
fn after_the_date_nothing_is_imported_to_the_millisecond() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let old = Legacy::new(1).cookies(42);
    clock.pass(DAY - MILLI);
    assert_eq!(visit(&layer, &old, read).0, Some(42));
    clock.pass(MILLI);
    let ((seen, incoming), response) = visit(&layer, &old, |session| (read(session), session.incoming()));
    assert_eq!((seen, incoming), (None, Incoming::Absent));
    assert_eq!(lines(&response), [""; 0]);
}

#[test]
fn one_old_cookie_is_one_session_at_every_instance_and_under_every_key_of_ours() {
    let clock = Clock::new();
    let id = |layer: &SessionLayer<Shop>, old: &str| {
        visit(layer, old, |session| session.meta().expect("it came in").id()).0
    };
    let (one, two) = (importing(&clock).build().unwrap(), importing(&clock).build().unwrap());
    let old = Legacy::new(1).cookies(42);
    let first = id(&one, &old);
    clock.pass(MINUTE);
    assert_eq!(id(&one, &old), first);
    // Another ring.
    assert_eq!(id(&two, &old), first);
    assert_ne!(id(&one, &Legacy::new(1).cookies(43)), first);
    // Another old key.
    let three = builder(&clock).import(Legacy::new(2), clock.now() + DAY).build().unwrap();
    assert_ne!(id(&three, &Legacy::new(2).cookies(42)), first);
    // And it is the one that goes out.
    let (_, response) = visit(&one, &old, read);
    assert_eq!(meta(&one, &session_in(&response).unwrap(), clock.now()).id(), first);
}

#[test]
fn the_id_is_as_the_page_on_the_wire_format_has_it() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let part = |part: &[u8]| [&u32::try_from(part.len()).unwrap().to_le_bytes(), part].concat();
    let info = [part(b"cookie-session/v1"), part(b"import"), part(b"42")].concat();
    let mut id = [0; 16];
    hkdf::Hkdf::<Sha256>::new(None, &[1; 32]).expand(&info, &mut id).unwrap();
    let old = Legacy::new(1).cookies(42);
    let seen = visit(&layer, &old, |session| session.meta().unwrap().id()).0;
    assert_eq!(seen.to_bytes(), id);
}

#[test]
fn an_imported_session_is_known_as_one_for_as_long_as_it_lives() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let start = clock.now();
    let old = Legacy::new(1).cookies(42);
    let (imported, response) = visit(&layer, &old, |session| session.meta().unwrap());
    assert!(imported.is_imported());
    assert_eq!(imported.created_at(), UNIX_EPOCH);
    assert_eq!((imported.renewed_at(), imported.issued_at()), (start, start));
    assert_eq!(imported.expires_at(), start + DAY);

    clock.pass(HOUR);
    let ours = session_in(&response).unwrap();
    let (old_id, response) = visit(&layer, &ours, |session| session.renew().unwrap());
    assert_eq!(old_id, Some(imported.id()));
    let renewed = meta(&layer, &session_in(&response).unwrap(), clock.now());
    assert!(renewed.is_imported());
    assert_eq!((renewed.created_at(), renewed.renewed_at()), (UNIX_EPOCH, clock.now()));

    // What begins here is none, at whatever time: a clock that reads 1970 too.
    assert!(!meta(&layer, &sealed(&layer, &user(1), clock.now()), clock.now()).is_imported());
    let early = Clock::new();
    early.set(UNIX_EPOCH);
    let layer = importing(&early).build().unwrap();
    let add = |session: &Session<Shop>| session.update(|shop| shop.cart.push(7)).unwrap();
    let (seen, response) = visit(&layer, "", |session| {
        add(session);
        session.meta().unwrap()
    });
    assert!(!seen.is_imported());
    assert!(!meta(&layer, &session_in(&response).unwrap(), early.now()).is_imported());
}

#[test]
fn accept_if_sees_an_import_and_what_it_refuses_stays_in_the_browser() {
    let clock = Clock::new();
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let layer = importing(&clock)
        .accept_if(move |meta, shop| {
            count.fetch_add(1, SeqCst);
            !(meta.is_imported() && shop.user == Some(42))
        })
        .build()
        .unwrap();
    let seen = |session: &Session<Shop>| (read(session), session.incoming());
    let (refused, response) = visit(&layer, &Legacy::new(1).cookies(42), seen);
    assert_eq!(refused, (None, Incoming::Rejected(RejectedKind::Refused)));
    assert_eq!(lines(&response), [""; 0]);
    assert_eq!(asked.load(SeqCst), 1);
    let (kept, _) = visit(&layer, &Legacy::new(1).cookies(43), seen);
    assert_eq!(kept, (Some(43), Incoming::Imported));
}

#[test]
fn whatever_a_key_signed_can_be_refused_later() {
    let clock = Clock::new();
    let one = ring();
    let import = |builder: SessionBuilder<Shop>| builder.import(Legacy::new(1), clock.now() + DAY);
    let before = import(builder_over(one.clone(), &clock)).build().unwrap();
    let (_, response) = visit(&before, &Legacy::new(1).cookies(42), read);
    let ours = session_in(&response).unwrap();
    // The old key has leaked: it is dropped at once, and with it all that was imported.
    let after = builder_over::<Shop>(one, &clock).accept_if(|meta, _| !meta.is_imported()).build().unwrap();
    let (seen, _) = visit(&after, &ours, |session| (read(session), session.incoming()));
    assert_eq!(seen, (None, Incoming::Rejected(RejectedKind::Refused)));
    let (seen, _) = visit(&after, &Legacy::new(1).cookies(42), |session| (read(session), session.incoming()));
    assert_eq!(seen, (None, Incoming::Absent));
    let here = sealed(&before, &user(1), clock.now());
    assert_eq!(visit(&after, &here, read).0, Some(1));
}

#[test]
fn what_is_not_authentic_is_a_fresh_session_and_is_left_alone() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let good = Legacy::new(1).cookies(42);
    let tail = &good[good.find("old.mac").unwrap()..];
    let bad_number = format!("old=x; old.mac={}", Legacy::new(1).mac(b"x"));
    for (old, kind) in [
        (Legacy::new(2).cookies(42), RejectedKind::NotAuthentic),
        (good.replace("old=42", "old=43"), RejectedKind::NotAuthentic),
        ("old=42".to_owned(), RejectedKind::Malformed),
        (bad_number, RejectedKind::Payload),
        (format!("old={}; {tail}", "4".repeat(4097)), RejectedKind::TooLong),
    ] {
        let ((seen, incoming), response) = visit(&layer, &old, |session| (read(session), session.incoming()));
        assert_eq!((seen, incoming), (None, Incoming::Rejected(kind)), "{old}");
        assert_eq!(lines(&response), [""; 0], "{old}");
        // Only a write puts ours beside it.
        let add = |session: &Session<Shop>| session.update(|shop| shop.cart.push(7)).unwrap();
        let ((), response) = visit(&layer, &old, add);
        assert_eq!(names(&response), [NAME], "{old}");
    }
    let rejected = layer.keys().counters().rejected;
    let count = |kind| rejected.iter().find(|(known, _)| *known == kind).unwrap().1;
    assert_eq!(count(RejectedKind::NotAuthentic), 4);
    assert_eq!(count(RejectedKind::TooLong), 2);
    assert_eq!(layer.keys().counters().imported, 0);
    // No such cookie at all is no rejection.
    assert_eq!(visit(&layer, tail, |session| session.incoming()).0, Incoming::Absent);
}

#[test]
fn a_value_of_4096_bytes_is_looked_at_and_a_longer_one_is_not() {
    let clock = Clock::new();
    let legacy = Legacy::new(1);
    let layer = builder(&clock).import(legacy.clone(), clock.now() + DAY).build().unwrap();
    for (bytes, asked) in [(4096, 1), (4097, 1)] {
        visit(&layer, &format!("old={}", "4".repeat(bytes)), read);
        assert_eq!(legacy.asked.load(SeqCst), asked, "{bytes}");
    }
    // Nothing has no name.
    let none = HeaderMap::new();
    let nameless = builder(&clock).import(Nameless, clock.now() + DAY).build().unwrap();
    assert!(nameless.codec().open(&none, clock.now()).value().is_none());
    assert_eq!(visit(&nameless, "nameless=1; =2", |session| session.incoming()).0, MALFORMED);
    // A long second cookie is not shown either.
    let long = format!("old=42; old.mac={}", "a".repeat(4097));
    let (incoming, _) = visit(&layer, &long, |session| session.incoming());
    assert_eq!(incoming, Incoming::Rejected(RejectedKind::Malformed));
}

#[test]
fn cookies_in_headers_of_their_own_are_found() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let mut split = Request::new(());
    for pair in Legacy::new(1).cookies(42).split("; ").chain(["theme=dark"]) {
        split.headers_mut().append(COOKIE, HeaderValue::from_str(pair).unwrap());
    }
    let mut seen = None;
    respond(&layer, split, |session| {
        seen = read(&session);
        Response::new(())
    });
    assert_eq!(seen, Some(42));
}

#[test]
fn a_5xx_shared_caching_a_passive_request_or_a_late_head_does_not_import_and_the_next_request_does() {
    let clock = Clock::new();
    let layer = importing(&clock).passive_if(|parts| parts.headers.contains_key("poll")).build().unwrap();
    let old = Legacy::new(1).cookies(42);
    let answer = |request: Request<()>, response: Response<()>, pass| {
        respond(&layer, request, |session| {
            // The session is there all the same.
            assert_eq!(read(&session), Some(42));
            clock.pass(pass);
            response
        })
    };
    let mut shared = Response::new(());
    shared.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    let mut poll = request(&old);
    poll.headers_mut().insert("poll", HeaderValue::from_static("1"));
    for (case, response) in [
        ("503", answer(request(&old), status(503), MILLI)),
        ("shared", answer(request(&old), shared, MILLI)),
        ("passive", answer(poll, Response::new(()), MILLI)),
        ("late", answer(request(&old), Response::new(()), 10 * SECOND + MILLI)),
    ] {
        assert_eq!(lines(&response), [""; 0], "{case}");
    }
    assert_eq!(names(&answer(request(&old), status(404), 10 * SECOND)), [NAME, "old", "old.mac"]);
}

#[test]
fn a_write_goes_out_where_a_mere_import_would_not() {
    let clock = Clock::new();
    let layer = importing(&clock).passive_if(|_| true).build().unwrap();
    let response = respond(&layer, request(&Legacy::new(1).cookies(42)), |session| {
        session.update(|shop| shop.cart.push(7)).unwrap();
        clock.pass(MINUTE);
        let mut shared = Response::new(());
        shared.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
        shared
    });
    assert_eq!(names(&response), [NAME, "old", "old.mac"]);
    assert_eq!(response.headers()[CACHE_CONTROL], "max-age=60, private");
}

#[test]
fn a_renewal_or_a_lifetime_goes_out_too() {
    let clock = Clock::new();
    let layer = importing(&clock).passive_if(|_| true).build().unwrap();
    let old = Legacy::new(1).cookies(42);
    let (old_id, response) = visit(&layer, &old, |session| session.renew().unwrap().unwrap());
    assert_eq!(old_removals(&response), REMOVALS);
    assert_ne!(meta(&layer, &session_in(&response).unwrap(), clock.now()).id(), old_id);
    let own = |session: &Session<Shop>| session.set_lifetime(Lifetime::Own(HOUR)).unwrap();
    let ((), response) = visit(&layer, &old, own);
    let kept = meta(&layer, &session_in(&response).unwrap(), clock.now());
    assert_eq!(kept.absolute_deadline(), clock.now() + HOUR);
}

#[test]
fn a_sign_out_removes_the_old_cookies_and_voids_them_in_this_browser() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let old = Legacy::new(1).cookies(42);
    for used in [false, true] {
        let ((), response) = visit(&layer, &old, |session| {
            if used {
                assert_eq!(read(session), Some(42));
            }
            session.clear();
        });
        assert_eq!(old_removals(&response), REMOVALS);
        assert!(cookie_in(&response, NAME).is_none(), "none came in");
        let marker = marker_in(&response).expect("an old cookie came in");
        // As where a copy of the old cookies comes back, or the removal did not take.
        let ((seen, incoming), response) =
            visit(&layer, &format!("{old}; {marker}"), |session| (read(session), session.incoming()));
        assert_eq!((seen, incoming), (None, Incoming::Rejected(RejectedKind::SignedOut)));
        assert_eq!(lines(&response), [""; 0]);
    }
    // Also on a 500, and for one that has become ours.
    let response = respond(&layer, request(&old), |session| {
        session.clear();
        status(500)
    });
    assert_eq!(names(&response), [OUT, "old", "old.mac"]);
    let (_, response) = visit(&layer, &old, read);
    let ours = session_in(&response).unwrap();
    let (_, response) = visit(&layer, &ours, Session::clear);
    assert!(removes_session(&response));
    assert_eq!(old_removals(&response), REMOVALS);
    let both = format!("{ours}; {}", marker_in(&response).unwrap());
    assert_eq!(open(&layer, &both, clock.now()).incoming(), Incoming::Rejected(RejectedKind::SignedOut));
}

#[test]
fn a_sign_out_without_an_old_cookie_sends_no_marker_and_after_the_date_still_removes() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let (_, response) = visit(&layer, "theme=dark", Session::clear);
    // A cookie of another path does not come in here.
    assert_eq!(old_removals(&response), REMOVALS);
    assert_eq!(marker_in(&response), None);
    clock.pass(DAY);
    let (_, response) = visit(&layer, &Legacy::new(1).cookies(42), Session::clear);
    assert_eq!(old_removals(&response), REMOVALS);
}

#[test]
fn a_slow_response_does_not_bring_an_imported_session_back_after_a_sign_out() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let old = Legacy::new(1).cookies(42);
    // Both requests carry the old cookies. One is handed out before the sign-out, one while its response is on the
    // way: nothing in an old cookie tells that it began before.
    for after in [MILLI, 5 * SECOND] {
        let mut browser = Browser::new(&clock);
        let (_, sign_out) = visit(&layer, &old, Session::clear);
        clock.pass(after);
        let slow = respond(&layer, request(&old), |session| {
            session.update(|shop| shop.cart.push(7)).unwrap();
            Response::new(())
        });
        browser.receive(&sign_out);
        browser.receive(&slow);
        let seen = open(&layer, &browser.cookies(), clock.now());
        assert_eq!(seen.incoming(), Incoming::Rejected(RejectedKind::SignedOut));
    }
}

#[test]
fn a_sign_in_after_a_sign_out_is_another_session_and_no_import() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let old = Legacy::new(1).cookies(42);
    let ((), response) = visit(&layer, &old, |session| {
        session.clear();
        session.set(user(7)).unwrap();
    });
    assert_eq!(names(&response), [NAME, OUT, "old", "old.mac"]);
    let both = format!("{}; {}", session_in(&response).unwrap(), marker_in(&response).unwrap());
    let opened = open(&layer, &both, clock.now());
    assert_eq!(opened.value(), Some(&user(7)));
    assert!(!opened.meta().unwrap().is_imported());
}

#[test]
fn the_old_cookies_stay_where_that_is_set_and_a_sign_out_removes_them_all_the_same() {
    let clock = Clock::new();
    let layer = importing(&clock).keep_old_cookies().build().unwrap();
    let old = Legacy::new(1).cookies(42);
    let (_, response) = visit(&layer, &old, read);
    assert_eq!(names(&response), [NAME]);
    let ours = session_in(&response).unwrap();
    // Ours has moved on.
    let add = |session: &Session<Shop>| session.update(|shop| shop.cart.push(7)).unwrap();
    let ((), response) = visit(&layer, &format!("{old}; {ours}"), add);
    assert_eq!(names(&response), [NAME]);
    let ours = session_in(&response).unwrap();
    let cart = |session: &Session<Shop>| session.read(|shop| shop.cart.clone());
    assert_eq!(visit(&layer, &format!("{old}; {ours}"), cart).0, [7]);
    let (_, response) = visit(&layer, &format!("{old}; {ours}"), Session::clear);
    assert_eq!(old_removals(&response), REMOVALS);
    let after = format!("{old}; {}", marker_in(&response).unwrap());
    assert_eq!(visit(&layer, &after, read).0, None);
}

#[test]
fn what_does_not_fit_is_used_and_stays_where_it_is() {
    struct Large;
    impl OldFormat<Shop> for Large {
        fn cookies(&self) -> Vec<Identity> {
            vec![Identity::named("large")]
        }
        fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
            let value = old.first("large").unwrap();
            Ok(Imported::new(Shop { user: Some(1), cart: vec![u32::MAX; 1000] }, value, b"a key"))
        }
    }
    let clock = Clock::new();
    let layer = builder(&clock).import(Large, clock.now() + DAY).build().unwrap();
    let (seen, response) = visit(&layer, "large=1", read);
    assert_eq!(seen, Some(1));
    assert_eq!(lines(&response), [""; 0]);
    assert_eq!(layer.keys().counters().reissues_too_large, 1);
    // A write of it says so, and one that makes it fit moves it.
    let ((), response) = visit(&layer, "large=1", |session| {
        let error = session.update(|shop| shop.user = Some(2)).unwrap_err();
        assert!(matches!(error, UpdateError::TooLarge(_)), "{error}");
        session.update(|shop| shop.cart.truncate(10)).unwrap();
    });
    assert_eq!(names(&response), [NAME, "large"]);
}

#[test]
fn what_an_older_release_could_not_read_is_written_in_its_form() {
    #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
    struct New {
        user: Option<u64>,
        seen: u64,
    }
    #[derive(serde::Serialize, serde::Deserialize, Default)]
    struct Old {
        user: Option<u64>,
    }
    struct Number;
    impl OldFormat<New> for Number {
        fn cookies(&self) -> Vec<Identity> {
            vec![Identity::named("number")]
        }
        fn open(&self, old: &OldCookies<'_>) -> Result<Imported<New>, RejectedKind> {
            let value = old.first("number").unwrap();
            Ok(Imported::new(New { user: Some(5), seen: 9 }, value, b"a key"))
        }
    }
    let clock = Clock::new();
    let one = ring();
    let new = builder_over::<New>(one.clone(), &clock)
        .schema(2)
        .migrate_from(1, |old: Old| New { user: old.user, seen: 0 })
        .write_as(1, |new: &New| Old { user: new.user })
        .import(Number, clock.now() + DAY)
        .build()
        .unwrap();
    let old = builder_over::<Old>(one, &clock).build().unwrap();
    let (seen, response) = visit(&new, "number=1", |session| session.get());
    assert_eq!(seen, New { user: Some(5), seen: 9 });
    let ours = session_in(&response).unwrap();
    assert_eq!(open(&old, &ours, clock.now()).value().unwrap().user, Some(5));
}

#[test]
fn what_does_not_come_back_as_it_is_written_is_refused_and_what_does_is_not() {
    use serde::{Deserialize, Serialize};
    /// What reads it cannot be known to take whatever is in it.
    #[derive(Default, Serialize, Deserialize)]
    struct Checked {
        kind: Kind,
        #[serde(deserialize_with = "at_most_9")]
        number: u32,
    }
    #[derive(Default, Serialize, Deserialize)]
    enum Kind {
        #[default]
        Visitor,
        User(u64),
    }
    fn at_most_9<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        Ok(u32::deserialize(deserializer)?.min(9))
    }
    struct Number;
    impl OldFormat<Checked> for Number {
        fn cookies(&self) -> Vec<Identity> {
            vec![Identity::named("number")]
        }
        fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Checked>, RejectedKind> {
            let value = old.first("number").unwrap();
            let number = std::str::from_utf8(value).unwrap().parse().unwrap();
            Ok(Imported::new(Checked { kind: Kind::User(7), number }, value, b"a key"))
        }
    }
    let clock = Clock::new();
    let layer = builder_over::<Checked>(ring(), &clock).import(Number, clock.now() + DAY).build().unwrap();
    let seen = |session: &Session<Checked>| (session.read(|value| value.number), session.incoming());
    assert_eq!(visit(&layer, "number=9", seen).0, (9, Incoming::Imported));
    let payload = Incoming::Rejected(RejectedKind::Payload);
    assert_eq!(visit(&layer, "number=10", seen).0, (0, payload));
}

#[test]
fn a_cookie_that_two_imports_read_is_removed_once() {
    let clock = Clock::new();
    let twice = importing(&clock).import(Legacy::new(2), clock.now() + DAY).build().unwrap();
    for key in [1, 2] {
        let (seen, response) = visit(&twice, &Legacy::new(key).cookies(42), read);
        assert_eq!((seen, old_removals(&response)), (Some(42), REMOVALS.map(str::to_owned).into()));
    }
}

#[test]
fn a_write_beside_no_other_cookie_removes_none_and_beside_one_that_is_no_session_does() {
    let clock = Clock::new();
    let until = clock.now() + DAY;
    let layer = builder::<Shop>(&clock).formerly(Identity::named("before").until(until)).build().unwrap();
    let add = |session: &Session<Shop>| session.update(|shop| shop.cart.push(7)).unwrap();
    for (cookies, sent) in [("", vec![NAME]), ("before=x", vec![NAME, "before"])] {
        let ((), response) = visit(&layer, cookies, add);
        assert_eq!(names(&response), sent, "{cookies}");
    }
    clock.set(until);
    let ((), response) = visit(&layer, "before=x", add);
    assert_eq!(names(&response), [NAME], "one alone is left, as where there is no date");
}

#[test]
fn of_several_formats_the_first_that_opens_counts_and_all_are_removed() {
    struct Other(Legacy);
    impl OldFormat<Shop> for Other {
        fn cookies(&self) -> Vec<Identity> {
            vec![Identity::named("other")]
        }
        fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
            assert!(old.now() > UNIX_EPOCH);
            assert_eq!(old.all("other").count(), 2);
            Ok(Imported::new(user(1), old.first("other").unwrap(), &self.0.key))
        }
    }
    let clock = Clock::new();
    let layer = importing(&clock).import(Other(Legacy::new(3)), clock.now() + HOUR).build().unwrap();
    let others = "other=a; other=b";
    let (seen, response) = visit(&layer, &format!("{others}; {}", Legacy::new(1).cookies(42)), read);
    assert_eq!(seen, Some(42));
    assert_eq!(names(&response), [NAME, "old", "old.mac", "other"]);
    // One that does not open stands in no other's way; nor does one whose date is over.
    assert_eq!(visit(&layer, &format!("{others}; {}", Legacy::new(2).cookies(42)), read).0, Some(1));
    clock.pass(HOUR);
    let forged = format!("{others}; {}", Legacy::new(2).cookies(42));
    let (incoming, _) = visit(&layer, &forged, |session| session.incoming());
    assert_eq!(incoming, Incoming::Rejected(RejectedKind::NotAuthentic));
}

#[test]
fn another_format_is_no_way_around_a_refusal() {
    struct Other;
    impl OldFormat<Shop> for Other {
        fn cookies(&self) -> Vec<Identity> {
            vec![Identity::named("other")]
        }
        fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
            Ok(Imported::new(user(1), old.first("other").unwrap(), b"a key"))
        }
    }
    let clock = Clock::new();
    let layer = importing(&clock)
        .import(Other, clock.now() + DAY)
        .accept_if(|_, shop| shop.user != Some(42))
        .build()
        .unwrap();
    let seen = |session: &Session<Shop>| (read(session), session.incoming());
    let (seen, _) = visit(&layer, &format!("{}; other=1", Legacy::new(1).cookies(42)), seen);
    assert_eq!(seen, (None, Incoming::Rejected(RejectedKind::Refused)));
    assert_eq!(visit(&layer, "other=1", read).0, Some(1));
}

#[test]
fn a_long_cookie_hides_none_behind_it_from_a_format_that_looks_at_all() {
    struct Last;
    impl OldFormat<Shop> for Last {
        fn cookies(&self) -> Vec<Identity> {
            vec![Identity::named("last")]
        }
        fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
            assert_eq!(old.first("last"), None);
            let last = old.all("last").last().ok_or(RejectedKind::Malformed)?;
            Ok(Imported::new(user(1), last, b"a key"))
        }
    }
    let clock = Clock::new();
    let layer = builder(&clock).import(Last, clock.now() + DAY).build().unwrap();
    let long = format!("last={}", "4".repeat(4097));
    // One that looks at the first alone was not shown it, and says of the rest what it will.
    let first_alone = importing(&clock).build().unwrap();
    let cookies = format!("old={}; {}", "4".repeat(4097), Legacy::new(1).cookies(42));
    let (incoming, _) = visit(&first_alone, &cookies, |session| session.incoming());
    assert_eq!(incoming, Incoming::Rejected(RejectedKind::TooLong));
    assert_eq!(visit(&layer, &format!("{long}; last=1"), read).0, Some(1));
    let (incoming, _) = visit(&layer, &format!("{long}; {long}"), |session| session.incoming());
    assert_eq!(incoming, Incoming::Rejected(RejectedKind::TooLong));
}

#[test]
fn imports_are_counted_once_a_request() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    for _ in 0..3 {
        visit(&layer, &Legacy::new(1).cookies(42), |session| (read(session), read(session)));
    }
    assert_eq!(layer.keys().counters().imported, 3);
    assert!(layer.keys().counters().rejected.iter().all(|(_, count)| *count == 0));
}

#[test]
fn without_a_layer_the_codec_imports_and_says_what_to_remove() {
    let clock = Clock::new();
    let layer = importing(&clock).build().unwrap();
    let codec = layer.codec();
    let opened = open(&layer, &Legacy::new(1).cookies(42), clock.now());
    assert_eq!((opened.value(), opened.incoming()), (Some(&user(42)), Incoming::Imported));
    let sealed = codec.seal(&user(42), opened.meta(), opened.marker(), clock.now()).unwrap();
    let request = HeaderMap::from_iter([(COOKIE, sealed.request_header())]);
    let again = codec.open(&request, clock.now());
    assert_eq!(again.meta().map(|meta| meta.id()), opened.meta().map(|meta| meta.id()));
    let removed = |cookies: &[cookie_session::SetCookie]| {
        cookies.iter().map(|cookie| cookie.header().to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(removed(&codec.superseded(&opened)), REMOVALS);
    assert_eq!(removed(&codec.superseded(&again)), [""; 0]);
    let sign_out = codec.removals(&opened, clock.now());
    assert_eq!(removed(sign_out.cookies())[..2], REMOVALS);
    assert_eq!(sign_out.marker(), Some(clock.now()));
}

#[test]
fn where_an_import_is_only_signed_it_goes_out_so() {
    let clock = Clock::new();
    let layer = importing(&clock).mode(Mode::Signed).build().unwrap();
    let (seen, response) =
        visit(&layer, &Legacy::new(1).cookies(42), |session| session.meta().unwrap().mode());
    assert_eq!(seen, Mode::Signed);
    let ours = session_in(&response).unwrap();
    assert_eq!(meta(&layer, &ours, clock.now()).mode(), Mode::Signed);
}

#[test]
fn a_format_whose_settings_are_bad_stops_the_start() {
    struct Bad(Vec<Identity>);
    impl OldFormat<Shop> for Bad {
        fn cookies(&self) -> Vec<Identity> {
            self.0.clone()
        }
        fn open(&self, _: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
            unreachable!("it is never built")
        }
    }
    let clock = Clock::new();
    let fault = |cookies: Vec<Identity>| {
        let built =
            builder(&clock).name("id").formerly(Identity::named("was")).import(Bad(cookies), clock.now());
        built.build().unwrap_err()
    };
    assert!(matches!(fault(Vec::new()), ConfigError::ImportWithoutCookie));
    for name in ["id", "id-out", "was", "was-out"] {
        let error = fault(vec![Identity::named(name).path("/elsewhere")]);
        assert!(matches!(error, ConfigError::ImportSameName { .. }), "{name}: {error}");
    }
    for cookie in [
        Identity::current().path("/old"),
        Identity::named("old").context("c"),
        Identity::named("old").mode(Mode::Signed),
        Identity::named("old").until(SystemTime::now()),
    ] {
        let error = fault(vec![cookie.clone()]);
        assert!(matches!(error, ConfigError::ImportSealed { .. }), "{cookie:?}: {error}");
    }
    assert!(matches!(fault(vec![Identity::named("a b")]), ConfigError::InvalidName { .. }));
    assert!(matches!(fault(vec![Identity::named("old").domain(".x")]), ConfigError::InvalidDomain { .. }));
    // What two cookies have in common is said once.
    let both = [Identity::named("old").domain(".x"), Identity::named("old.mac").domain(".x")];
    assert!(matches!(fault(both.to_vec()), ConfigError::InvalidDomain { .. }));
}

/// What a format says of its cookies is asked once, at the start.
#[test]
fn a_format_is_asked_for_its_cookies_by_build_alone() {
    struct Counted(Arc<Mutex<u32>>);
    impl OldFormat<Shop> for Counted {
        fn cookies(&self) -> Vec<Identity> {
            *self.0.lock().unwrap() += 1;
            vec![Identity::named("counted")]
        }
        fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
            Ok(Imported::new(user(1), old.first("counted").unwrap(), b"a key"))
        }
    }
    let clock = Clock::new();
    let count = Arc::new(Mutex::new(0));
    let layer = builder(&clock).import(Counted(Arc::clone(&count)), clock.now() + DAY).build().unwrap();
    for _ in 0..3 {
        visit(&layer, "counted=1", read);
        visit(&layer, "counted=1", Session::clear);
    }
    assert_eq!(*count.lock().unwrap(), 1);
}

/// Two instances with other keys of ours see one old cookie at one moment; the answers overtake each other.
#[test]
fn parallel_first_requests_leave_one_session_whichever_answer_comes_last() {
    let clock = Clock::new();
    let (a, b) = (key(), key());
    let import = |ring: KeyRing| {
        builder_over::<Shop>(ring, &clock).import(Legacy::new(1), clock.now() + DAY).build().unwrap()
    };
    // In the middle of a rotation.
    let first = import(KeyRing::new(a.clone(), [b.clone()]).unwrap());
    let second = import(KeyRing::new(b, [a]).unwrap());
    let old = Legacy::new(1).cookies(42);
    let responses = [&first, &second].map(|layer| visit(layer, &old, read).1);
    let mut ids = Vec::new();
    for order in [[0, 1], [1, 0]] {
        let mut browser = Browser::new(&clock);
        order.iter().for_each(|&at| browser.receive(&responses[at]));
        let cookies = browser.cookies();
        for layer in [&first, &second] {
            let opened = open(layer, &cookies, clock.now());
            assert_eq!(opened.value(), Some(&user(42)));
            ids.push(opened.meta().unwrap().id());
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}
