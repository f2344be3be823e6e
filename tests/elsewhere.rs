//! What went wrong elsewhere, acted out: each fault in the form that it would have in this format, and
//! beside it the honest request, which works. The security page has the list.

// Shared with the tests by rule; not all of it is used here.
#[allow(dead_code)]
#[path = "rules/jar.rs"]
mod jar;
#[allow(dead_code)]
#[path = "rules/kit.rs"]
mod kit;

use base64::{Engine as _, prelude::*};
use cookie_session::{
    ConfigError, Identity, Incoming, Key, KeyError, KeyRing, Lifetime, MAX_SET_COOKIE, Mode, RejectedKind,
    SameSite, Session, SessionBuilder, SessionConfig, SessionLayer, UpdateError, Weakness, internal,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{CACHE_CONTROL, COOKIE, SET_COOKIE, VARY},
};
use jar::Browser;
use kit::{
    Clock, DAY, Data, HOUR, MILLI, MINUTE, NAME, OUT, Shop, builder_over, cookie_in, key, lines, marker_in,
    marker_time, max_age, meta, names, open, removes_session, request, respond, ring, sealed, session_in,
    user, visit,
};
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tower::{Layer as _, Service as _, service_fn};

const MODES: [Mode; 2] = [Mode::Encrypted, Mode::Signed];
const NOT_AUTHENTIC: Incoming = Incoming::Rejected(RejectedKind::NotAuthentic);

/// Suite and key id.
const HEADER: usize = 1 + 4;
/// A session's fixed-width fields; the schema's two bytes follow the flags.
const META: usize = 45;
/// As good a key as any, but for being printed here.
const GOOD_KEY: &str = "9Jw4fYzq0vWkq1nWbqA3m0m8m8s0X0f4bZt2u7S1cQ8=";
/// What attackers make of themselves.
const ADMIN: u64 = 2;

fn other(mode: Mode) -> Mode {
    if mode == Mode::Signed { Mode::Encrypted } else { Mode::Signed }
}

/// Where the plaintext begins, and how long the tag is behind it.
fn seal_of(mode: Mode) -> (usize, usize) {
    if mode == Mode::Signed { (HEADER, 32) } else { (HEADER + 24, 16) }
}

fn builder(mode: Mode, ring: KeyRing, clock: &Clock) -> SessionBuilder<Shop> {
    builder_over(ring, clock).mode(mode)
}

fn layer(mode: Mode, ring: KeyRing, clock: &Clock) -> SessionLayer<Shop> {
    builder(mode, ring, clock).build().unwrap()
}

fn single(key: &Key) -> KeyRing {
    KeyRing::new(key.clone(), []).unwrap()
}

/// What a page that reads the session makes of a request; it sets no cookie.
fn seen<T: Data + Clone>(layer: &SessionLayer<T>, cookies: impl AsRef<[u8]>) -> (Incoming, T) {
    let mut request = Request::new(());
    request.headers_mut().insert(COOKIE, HeaderValue::from_bytes(cookies.as_ref()).unwrap());
    let mut seen = None;
    let response = respond(layer, request, |session| {
        seen = Some((session.incoming(), session.get()));
        Response::new(())
    });
    assert_eq!(lines(&response), [""; 0]);
    seen.unwrap()
}

/// The page sees nobody, whatever the reason.
#[track_caller]
fn nobody(layer: &SessionLayer<Shop>, cookies: &str) {
    let (incoming, shop) = seen(layer, cookies);
    assert!(matches!(incoming, Incoming::Rejected(_)), "{incoming:?}: {cookies}");
    assert_eq!(shop, Shop::default(), "{cookies}");
}

fn value(pair: &str) -> &str {
    pair.split_once('=').unwrap().1
}

fn frame(pair: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(value(pair)).unwrap()
}

fn pair(name: &str, frame: &[u8]) -> String {
    format!("{name}={}", BASE64_URL_SAFE_NO_PAD.encode(frame))
}

/// A session's plaintext, as anybody can make it who has this crate.
fn plaintext(shop: &Shop, clock: &Clock) -> Vec<u8> {
    let frame = frame(&sealed(&layer(Mode::Signed, ring(), clock), shop, clock.now()));
    frame[HEADER..frame.len() - 32].to_vec()
}

/// The session of user 1 with `ADMIN` put in the place: where the cipher is a stream, as GCM's is, that
/// takes no key.
fn promoted(mode: Mode, pair: &str) -> Vec<u8> {
    let mut frame = frame(pair);
    // Behind the fields stands `Some`, then the user.
    frame[seal_of(mode).0 + META + 1] ^= 1 ^ ADMIN as u8;
    frame
}

/// rack-session: what did not decrypt was given to a decoder that asks for no key.
#[test]
fn cve_2026_39324_rack_session_a_failed_decryption_does_not_fall_through_to_a_plain_decoder() {
    for mode in MODES {
        let (clock, keys) = (Clock::new(), ring());
        let strict = layer(mode, keys.clone(), &clock);
        let wide = builder(mode, keys, &clock).accept_mode(other(mode)).build().unwrap();
        let honest = sealed(&strict, &user(1), clock.now());
        let plain = plaintext(&user(ADMIN), &clock);
        let (at, tag) = seal_of(mode);
        let ours = frame(&honest);

        // Each of these names our key, so that the seal is tried.
        let tried = [
            [&ours[..HEADER], &plain].concat(),
            [&ours[..at], &plain, &vec![0; tag]].concat(),
            [&ours[..at], &plain, &ours[ours.len() - tag..]].concat(),
            [&[1], &ours[1..HEADER], &[0; 24], &plain, &[0; 16]].concat(),
            [&[2], &ours[1..HEADER], &plain, &[0; 32]].concat(),
        ];
        let json = br#"{"user":2,"cart":[]}"#;
        let bare = [&plain[..], &plain[META..], json];
        for layer in [&strict, &wide] {
            assert_eq!(seen(layer, &honest), (Incoming::Accepted, user(1)));
            for frame in &tried {
                nobody(layer, &pair(NAME, frame));
            }
            for text in bare {
                nobody(layer, &pair(NAME, text));
                nobody(layer, &format!("{NAME}={}", BASE64_STANDARD.encode(text)));
            }
            nobody(layer, &format!("{NAME}={}", str::from_utf8(json).unwrap()));
        }
        for frame in &tried[..3] {
            assert_eq!(seen(&strict, pair(NAME, frame)).0, NOT_AUTHENTIC, "{mode:?}");
        }
    }
}

/// ASP.NET Core: the MAC was computed, and its result then not compared.
#[test]
fn cve_2026_40372_aspnet_core_a_computed_mac_is_also_compared() {
    for mode in MODES {
        let clock = Clock::new();
        let layer = layer(mode, ring(), &clock);
        let honest = sealed(&layer, &user(1), clock.now());
        let forged = promoted(mode, &honest);
        let no_mac = |frame: &[u8]| frame[..frame.len() - seal_of(mode).1].to_vec();
        let with_mac = |body: &[u8], mac: &[u8]| pair(NAME, &[body, mac].concat());
        // Another body beside the MAC of the first, a made-up one, or none.
        let (body, mac) = forged.split_at(no_mac(&forged).len());
        for mac in [mac, &vec![0; mac.len()], &vec![0xff; mac.len()], &[]] {
            assert_eq!(seen(&layer, with_mac(body, mac)), (NOT_AUTHENTIC, Shop::default()), "{mode:?}");
        }
        // The first body beside a MAC that is right but for one byte, or for its end.
        let body = no_mac(&frame(&honest));
        for at in 0..mac.len() {
            let mut changed = mac.to_vec();
            changed[at] ^= 1;
            assert_eq!(seen(&layer, with_mac(&body, &changed)).0, NOT_AUTHENTIC, "{mode:?}, byte {at}");
            assert_eq!(seen(&layer, with_mac(&body, &mac[..at])).0, NOT_AUTHENTIC, "{mode:?}, {at} bytes");
        }
        assert_eq!(seen(&layer, with_mac(&body, mac)), (Incoming::Accepted, user(1)));
        // The same change once more is no change: it was at the right place.
        let back = pair(NAME, &promoted(mode, &pair(NAME, &forged)));
        assert_eq!(seen(&layer, back), (Incoming::Accepted, user(1)));

        // A marker's time, moved to the session's: nobody else can sign the user out.
        let before = clock.now();
        clock.pass(Duration::from_millis(1 << 20));
        let later = sealed(&layer, &user(1), clock.now());
        let earlier = internal::seal_marker(layer.codec(), &[7; 24], &millis(before)).unwrap();
        let mut moved = BASE64_URL_SAFE_NO_PAD.decode(&earlier).unwrap();
        for (byte, (was, is)) in
            moved[seal_of(mode).0..].iter_mut().zip(millis(before).iter().zip(millis(clock.now())))
        {
            *byte ^= was ^ is;
        }
        assert_eq!(seen(&layer, format!("{later}; {}", pair(OUT, &moved))), (Incoming::Accepted, user(1)));
        let now = internal::seal_marker(layer.codec(), &[7; 24], &millis(clock.now())).unwrap();
        let signed_out = Incoming::Rejected(RejectedKind::SignedOut);
        assert_eq!(seen(&layer, format!("{later}; {OUT}={now}")).0, signed_out);
    }
}

/// A marker's plaintext.
fn millis(time: SystemTime) -> [u8; 8] {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap().to_le_bytes()
}

/// fastify's secure-session: a cookie that the server had deleted went on working for ever.
#[test]
fn cve_2024_31999_fastify_secure_session_a_deleted_cookie_dies_at_its_timeout() {
    let expired = (Incoming::Rejected(RejectedKind::Expired), Shop::default());
    for mode in MODES {
        let clock = Clock::new();
        let layer = layer(mode, ring(), &clock);
        let signs_in_and_out = || {
            let mut browser = Browser::new(&clock);
            browser.visit(&layer, |session| session.set(user(1)).unwrap());
            let copy = browser.cookies();
            browser.visit(&layer, |session| assert!(session.clear()));
            assert!(!browser.has(NAME));
            (browser, copy)
        };
        // Where the user signed out, at once, though the cookie came back.
        let (browser, copy) = signs_in_and_out();
        let again = format!("{copy}; {}", browser.cookies());
        assert_eq!(seen(&layer, again), (Incoming::Rejected(RejectedKind::SignedOut), Shop::default()));
        // Elsewhere a copy is the session, until the idle timeout, and not a moment longer.
        clock.pass(DAY - MILLI);
        assert_eq!(open(&layer, &copy, clock.now()).value(), Some(&user(1)));
        for passed in [MILLI, MILLI, DAY, 1000 * DAY] {
            clock.pass(passed);
            assert_eq!(seen(&layer, &copy), expired);
        }
        // Nor does it help to keep it busy: the absolute timeout counts from the sign-in.
        let (_, mut copy) = signs_in_and_out();
        let end = clock.now() + 14 * DAY;
        let mut issued = 0;
        while clock.now() + HOUR < end {
            clock.pass(HOUR);
            let (shop, response) = visit(&layer, &copy, Session::get);
            assert_eq!(shop, user(1));
            if let Some(newer) = session_in(&response) {
                (copy, issued) = (newer, issued + 1);
            }
        }
        assert!(issued > 100);
        clock.set(end - MILLI);
        assert_eq!(open(&layer, &copy, clock.now()).value(), Some(&user(1)));
        clock.set(end);
        assert_eq!(seen(&layer, &copy), expired);
    }
}

/// A cache that many visitors share. It stores all that it is not told to leave, and heeds one header.
struct Cache {
    heeds: HeaderName,
    /// The first request's cookies, and what it was answered.
    stored: Option<(String, HeaderMap)>,
}

impl Cache {
    fn heeding(heeds: HeaderName) -> Cache {
        Cache { heeds, stored: None }
    }

    fn says(&self, headers: &HeaderMap, word: &str) -> bool {
        let members = |line: &HeaderValue| {
            line.to_str().unwrap().split(',').any(|member| member.trim().eq_ignore_ascii_case(word))
        };
        headers.get_all(&self.heeds).iter().any(members)
    }

    fn fetch(&mut self, cookies: &str, origin: impl FnOnce(Request<()>) -> Response<()>) -> HeaderMap {
        if let Some((first, answer)) = &self.stored
            && (first == cookies || !self.says(answer, "cookie"))
        {
            return answer.clone();
        }
        let answer = origin(request(cookies)).headers().clone();
        if !self.says(&answer, "private") {
            self.stored = Some((cookies.to_owned(), answer.clone()));
        }
        answer
    }

    /// What the second visitor, who has no cookie, is given after the first.
    fn hands_on(heeds: HeaderName, cookies: &str, origin: impl Fn(Request<()>) -> Response<()>) -> HeaderMap {
        let mut cache = Cache::heeding(heeds);
        cache.fetch(cookies, &origin);
        cache.fetch("", &origin)
    }
}

/// A page that names its visitor.
fn page(session: &Session<Shop>) -> Response<()> {
    let mut response = Response::new(());
    let user = session.read(|shop| shop.user.unwrap_or(0));
    response.headers_mut().insert("x-user", user.into());
    response
}

/// Flask: a response that only refreshed the session's cookie did not vary by `Cookie`.
#[test]
fn cve_2023_30861_flask_a_refreshed_cookie_varies_by_cookie_and_is_private() {
    for mode in MODES {
        let clock = Clock::new();
        let layer = layer(mode, ring(), &clock);
        let alices = sealed(&layer, &user(1), clock.now());
        clock.pass(3 * HOUR);
        // Nothing is read of the session but that it is there, and nothing is written.
        let refresh = |session: Session<Shop>| {
            session.read(|_| ());
            Response::new(())
        };
        let response = respond(&layer, request(&alices), refresh);
        assert!(session_in(&response).is_some_and(|cookie| cookie != alices), "it was refreshed");
        for header in [VARY, CACHE_CONTROL] {
            let bobs = Cache::hands_on(header.clone(), &alices, |request| respond(&layer, request, refresh));
            assert!(!bobs.contains_key(SET_COOKIE), "{header} alone hands on the session");
        }
        // What the handler itself says of caches makes no difference.
        for said in ["max-age=60", "public, max-age=60", "s-maxage=60", "no-cache"] {
            let says = |session: Session<Shop>| {
                let mut response = refresh(session);
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(said));
                response
            };
            for header in [VARY, CACHE_CONTROL] {
                let bobs = Cache::hands_on(header.clone(), &alices, |request| respond(&layer, request, says));
                assert!(!bobs.contains_key(SET_COOKIE), "{header} beside {said:?} hands on the session");
            }
        }
        // The cache does hand on what is everybody's, and such a route refreshes nothing.
        let everybodys = |request: Request<()>| {
            let mut service = layer.layer(service_fn(async |_: Request<()>| {
                let mut response = Response::new(());
                response.headers_mut().insert("x-user", HeaderValue::from_static("all"));
                Ok::<_, std::convert::Infallible>(response)
            }));
            let Ok(response) = kit::ready(service.call(request));
            response
        };
        for header in [VARY, CACHE_CONTROL] {
            let mut cache = Cache::heeding(header);
            let first = cache.fetch(&alices, everybodys);
            assert_eq!((first["x-user"].as_bytes(), first.len()), (&b"all"[..], 1));
            let second = cache.fetch("", |_| panic!("it is stored"));
            assert_eq!(second["x-user"], "all");
        }
    }
}

/// Flask: some ways to look at the session did not count as access.
#[test]
fn cve_2026_27205_flask_any_access_varies_by_cookie_and_is_private() {
    type Access = fn(&Session<Shop>) -> bool;
    let accesses: [(&str, Access); 11] = [
        ("none but the extraction", |_| true),
        ("read", |session| session.read(|shop| shop.user.is_some())),
        ("get", |session| session.get().user.is_some()),
        ("is_new", Session::is_new),
        ("is_changed", Session::is_changed),
        ("incoming", |session| session.incoming() == Incoming::Absent),
        ("meta", |session| session.meta().is_some()),
        ("remaining", |session| session.remaining() > 0),
        ("an update of nothing", |session| session.update(|_| ()).is_ok()),
        ("a failed update", |session| matches!(session.try_update(|_| Err::<(), _>(())), Ok(Err(())))),
        ("a lifetime", |session| session.set_lifetime(Lifetime::Timeouts).is_ok()),
    ];
    for mode in MODES {
        let clock = Clock::new();
        let layer = layer(mode, ring(), &clock);
        let alices = sealed(&layer, &user(1), clock.now());
        for cookies in [&*alices, &format!("{NAME}=garbage"), ""] {
            for (name, access) in accesses {
                let accessed = |request| {
                    respond(&layer, request, |session| {
                        access(&session);
                        Response::new(())
                    })
                };
                let response = accessed(request(cookies));
                assert_eq!(response.headers().get(VARY).unwrap(), "Cookie", "{name}");
                assert_eq!(response.headers().get(CACHE_CONTROL).unwrap(), "private", "{name}");
            }
        }
        // Alice's page is not Bob's, whichever of the two headers a cache heeds.
        for header in [VARY, CACHE_CONTROL] {
            let origin = |request| respond(&layer, request, |session| page(&session));
            let mut cache = Cache::heeding(header.clone());
            assert_eq!(cache.fetch(&alices, origin)["x-user"], "1");
            assert_eq!(cache.fetch("", origin)["x-user"], "0", "{header}");
        }
    }
}

/// Flask: of a positional list of keys the oldest signed, the one that was on its way out.
#[test]
fn cve_2025_47278_flask_the_primary_key_seals_and_no_fallback_does() {
    let text = || {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).unwrap();
        BASE64_STANDARD.encode(bytes)
    };
    let [oldest, older, newest] = [text(), text(), text()];
    let parsed = |text: &String| text.parse::<Key>().unwrap();
    for mode in MODES {
        let clock = Clock::new();
        let alone = |text| layer(mode, single(&parsed(text)), &clock);
        let [with_oldest, with_older, with_newest] = [&oldest, &older, &newest].map(alone);
        for fallbacks in [[&oldest, &older], [&older, &oldest]] {
            let ring = KeyRing::new(parsed(&newest), fallbacks.map(parsed)).unwrap();
            let config: SessionConfig =
                serde_json::from_value(json!({ "keys": { "primary": newest, "fallbacks": fallbacks } }))
                    .unwrap();
            let from_config = SessionLayer::<Shop>::from_config(config).mode(mode).clock(clock.hook());
            for layer in [layer(mode, ring, &clock), from_config.build().unwrap()] {
                // Fallbacks open: they are on the ring.
                let old = sealed(&with_oldest, &user(1), clock.now());
                assert_eq!(seen(&layer, &old).1, user(1));
                assert_eq!(seen(&layer, sealed(&with_older, &user(1), clock.now())).1, user(1));

                let new = sealed(&layer, &user(1), clock.now());
                let (_, response) = visit(&layer, "", |session| session.set(user(1)).unwrap());
                let first = session_in(&response).unwrap();
                let (_, response) = visit(&layer, &old, |session| session.set(user(1)).unwrap());
                assert_eq!(names(&response), [""; 0], "nothing was written");
                let (_, response) = visit(&layer, &old, |session| session.renew().unwrap());
                let written = session_in(&response).unwrap();
                clock.pass(3 * HOUR);
                let (_, response) = visit(&layer, &old, |session| session.read(|_| ()));
                let reissued = session_in(&response).unwrap();
                for cookie in [&new, &first, &written, &reissued] {
                    assert_eq!(open(&with_newest, cookie, clock.now()).value(), Some(&user(1)));
                    for outgoing in [&with_oldest, &with_older] {
                        let opened = open(outgoing, cookie, clock.now());
                        assert_eq!(opened.incoming(), Incoming::Rejected(RejectedKind::UnknownKey));
                    }
                }
                let (_, response) = visit(&layer, &old, |session| assert!(session.clear()));
                let marker = marker_in(&response).unwrap();
                assert_eq!(marker_time(&with_newest, &marker), Some(clock.now()));
                assert_eq!(marker_time(&with_oldest, &marker), None);
                assert_eq!(marker_time(&with_older, &marker), None);
            }
        }
    }
}

/// Auth.js: a token that was issued for another purpose, put in the session's cookie, was a session.
#[test]
fn cve_2023_48309_auth_js_a_value_sealed_for_one_purpose_is_no_other() {
    for mode in MODES {
        let (clock, keys) = (Clock::new(), ring());
        let sign_in = builder(mode, keys.clone(), &clock).name("__Host-Http-sign-in").build().unwrap();
        let layer = layer(mode, keys, &clock);
        let codec = layer.codec();

        // The cookie of an unfinished sign-in, of the very same type and key.
        let state = sealed(&sign_in, &user(ADMIN), clock.now());
        assert_eq!(seen(&sign_in, &state).1, user(ADMIN));
        let moved = format!("{NAME}={}", value(&state));
        assert_eq!(seen(&layer, moved), (NOT_AUTHENTIC, Shop::default()));

        // A marker, as it is sent, and one that would decode as a session.
        let session = sealed(&layer, &user(1), clock.now());
        let (_, response) = visit(&layer, &session, |session| assert!(session.clear()));
        let marker = marker_in(&response).unwrap();
        let plain = plaintext(&user(ADMIN), &clock);
        let as_marker = internal::seal_marker(codec, &[7; 24], &plain).unwrap();
        for marker in [value(&marker), &as_marker] {
            assert_eq!(seen(&layer, format!("{NAME}={marker}")), (NOT_AUTHENTIC, Shop::default()));
        }
        let as_session = internal::seal_session(codec, &[7; 24], &plain).unwrap();
        assert_eq!(seen(&layer, format!("{NAME}={as_session}")), (Incoming::Accepted, user(ADMIN)));

        // A session, and one that would decode as a marker, sign nobody out.
        let time = millis(clock.now() + HOUR);
        let as_session = internal::seal_session(codec, &[7; 24], &time).unwrap();
        for marker in [value(&session), &as_session] {
            let cookies = format!("{session}; {OUT}={marker}");
            assert_eq!(seen(&layer, cookies), (Incoming::Accepted, user(1)));
        }
        let as_marker = internal::seal_marker(codec, &[7; 24], &time).unwrap();
        for marker in [value(&marker), &as_marker] {
            nobody(&layer, &format!("{session}; {OUT}={marker}"));
        }
    }
}

/// Airflow: all sites had one key, so the session of one was good on the others.
#[test]
fn cve_2020_17526_airflow_a_session_of_one_site_is_none_on_another() {
    for mode in MODES {
        let (clock, keys) = (Clock::new(), ring());
        let site = |context: &str| builder(mode, keys.clone(), &clock).context(context).build().unwrap();
        // As different as can be, as alike as can be, and one that has none.
        let sites = ["theirs", "ours", "our", "ours\0", "Ours", ""].map(site);
        let time = Some(clock.now());
        for (at, from) in sites.iter().enumerate() {
            let session = sealed(from, &user(ADMIN), clock.now());
            let (_, response) = visit(from, &session, |session| assert!(session.clear()));
            let marker = marker_in(&response).unwrap();
            for (other, to) in sites.iter().enumerate() {
                let own = (Incoming::Accepted, user(ADMIN));
                let foreign = (NOT_AUTHENTIC, Shop::default());
                assert_eq!(seen(to, &session), if at == other { own } else { foreign });
                assert_eq!(marker_time(to, &marker), if at == other { time } else { None });
            }
        }
        // And two sites that were set up in one way do not have one key: there is none built in.
        let [theirs, ours] = [(), ()].map(|()| layer(mode, ring(), &clock));
        let session = sealed(&theirs, &user(ADMIN), clock.now());
        assert_eq!(seen(&theirs, &session).1, user(ADMIN));
        assert_eq!(seen(&ours, &session).0, Incoming::Rejected(RejectedKind::UnknownKey));
    }
    for config in [json!({}), json!({ "keys": {} }), json!({ "context": "ours" })] {
        let config: SessionConfig = serde_json::from_value(config).unwrap();
        let fault = SessionLayer::<Shop>::from_config(config).build().unwrap_err();
        assert!(matches!(fault, ConfigError::NoPrimaryKey), "{fault}");
    }
}

/// Superset: whoever had not changed the key that the manual prints had a key that all know.
#[test]
fn cve_2023_27524_superset_a_published_key_seals_and_opens_nothing() {
    let clock = Clock::new();
    let build = |primary: &str, fallbacks: &[&str]| {
        let keys = json!({ "keys": { "primary": primary, "fallbacks": fallbacks } });
        let config: SessionConfig = serde_json::from_value(keys).unwrap();
        SessionLayer::<Shop>::from_config(config).clock(clock.hook()).build()
    };
    let own = "kT1vY5Jr2mQx8Zc0nLw7aHd4eGf6sBu9pOi3yRt5W+E=";
    let layer = build(GOOD_KEY, &[own]).unwrap();
    assert_eq!(seen(&layer, sealed(&layer, &user(1), clock.now())), (Incoming::Accepted, user(1)));

    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // Printed as keys of 32 bytes, in a standard, a specification or a setup to copy.
    let printed = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=",
        "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=",
    ];
    for text in printed {
        let weak = text.parse::<Key>().unwrap_err();
        assert!(matches!(weak, KeyError::Weak(Weakness::Published | Weakness::Counts)), "{text}: {weak}");
    }
    // Superset's own, and what people put in such a place.
    let words = [
        "\u{2}\u{1}thisismyscretkey\u{1}\u{2}\\e\\y\\y\\h",
        "CHANGE_ME_TO_A_COMPLEX_RANDOM_SECRET",
        "changemechangemechangemechangeme",
        "secretsecretsecrettopsecretsecre",
    ];
    let encoded = words.iter().flat_map(|text| [BASE64_STANDARD.encode(text), hex(text.as_bytes())]);
    let all = printed.into_iter().chain(words).map(str::to_owned).chain(encoded);
    for text in all.chain([hex(&[0; 32]), BASE64_STANDARD.encode([0xff; 32])]) {
        for refused in [build(&text, &[]), build(GOOD_KEY, &[&text])] {
            let fault = refused.unwrap_err();
            assert!(matches!(fault, ConfigError::Key(_)), "{text:?}: {fault}");
            assert!(fault.to_string().contains("openssl rand -base64 32"), "{fault}");
        }
    }
}

/// React Router: its precondition was a cookie without a signature, which was a setting there.
#[test]
fn cve_2025_61686_react_router_there_is_no_unsigned_mode() {
    let build = |settings: serde_json::Value| {
        let config: SessionConfig = serde_json::from_value(settings).unwrap();
        SessionLayer::<Shop>::from_config(config).build()
    };
    for field in ["mode", "accept_mode"] {
        for word in ["encrypted", "signed"] {
            assert!(build(json!({ "keys": { "primary": GOOD_KEY }, field: word })).is_ok());
        }
        for word in ["unsigned", "none", "plain", "off", "false", "0", "", "unsafe", "insecure"] {
            assert!(
                build(json!({ "keys": { "primary": GOOD_KEY }, field: word })).is_err(),
                "{field} = {word}"
            );
        }
        assert!(build(json!({ "keys": { "primary": GOOD_KEY }, field: false })).is_err());
    }
    for none in [json!(null), json!(""), json!([]), json!(false), json!({})] {
        assert!(build(json!({ "keys": none })).is_err());
        assert!(build(json!({ "keys": { "primary": none } })).is_err());
        assert!(build(json!({ "keys": { "primary": none, "fallbacks": [GOOD_KEY] } })).is_err());
    }

    // Nor can a cookie ask for it: no first byte leads around the seal.
    for mode in MODES {
        let (clock, keys) = (Clock::new(), ring());
        let layers = [
            layer(mode, keys.clone(), &clock),
            builder(mode, keys, &clock).accept_mode(other(mode)).build().unwrap(),
        ];
        let honest = sealed(&layers[0], &user(1), clock.now());
        let key_id = &frame(&honest)[1..HEADER];
        let plain = plaintext(&user(ADMIN), &clock);
        for layer in &layers {
            assert_eq!(seen(layer, &honest), (Incoming::Accepted, user(1)));
            for suite in 0..=u8::MAX {
                let header = &[&[suite], key_id].concat()[..];
                nobody(layer, &pair(NAME, &[header, &plain].concat()));
                nobody(layer, &pair(NAME, &[header, &[0; 24], &plain, &[0; 16]].concat()));
                nobody(layer, &pair(NAME, &[header, &plain, &[0; 32]].concat()));
                nobody(layer, &pair(NAME, &[&[suite, 0, 0, 0, 0], &plain[..]].concat()));
            }
        }
    }
}

/// The names of a `Set-Cookie` line's attributes, sorted.
fn attributes(line: &str) -> Vec<&str> {
    let names = line.split("; ").skip(1).map(|attribute| attribute.split('=').next().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

/// npm's cookies: a semicolon in `domain` or `path` was rendered, and what followed was an attribute.
#[test]
fn cve_2026_88038_cookies_no_setting_brings_in_an_attribute() {
    let clock = Clock::new();
    let named = || builder(Mode::Encrypted, ring(), &clock).name("__Secure-id");
    let good = named().domain("example.com").path("/app").formerly(Identity::named("sid").path("/old"));
    let (_, response) = visit(&good.build().unwrap(), "", |session| session.set(user(1)).unwrap());
    assert_eq!(
        attributes(&lines(&response)[0]),
        ["Domain", "HttpOnly", "Max-Age", "Path", "SameSite", "Secure"]
    );

    for injected in
        ["; samesite=none; httponly", ";domain=evil.example", "; Max-Age=0", "\r\nSet-Cookie: a=b"]
    {
        let (domain, path) = (format!("example.com{injected}"), format!("/{injected}"));
        let configured = |field: &str, text: &str| {
            let settings = json!({ "keys": { "primary": GOOD_KEY }, "name": "__Secure-id", field: text });
            SessionLayer::<Shop>::from_config(serde_json::from_value(settings).unwrap()).build()
        };
        let domains = [
            named().domain(&domain).build(),
            named().formerly(Identity::current().domain(&domain)).build(),
            configured("domain", &domain),
        ];
        for refused in domains {
            let fault = refused.unwrap_err();
            assert!(matches!(fault, ConfigError::InvalidDomain { .. }), "{injected:?}: {fault}");
        }
        let paths = [
            named().path(&path).build(),
            named().formerly(Identity::current().path(&path)).build(),
            configured("path", &path),
        ];
        for refused in paths {
            let fault = refused.unwrap_err();
            assert!(matches!(fault, ConfigError::InvalidPath { .. }), "{injected:?}: {fault}");
        }
        let name = format!("__Secure-id{injected}");
        for refused in [named().name(&name).build(), named().formerly(Identity::named(&name)).build()] {
            let fault = refused.unwrap_err();
            assert!(matches!(fault, ConfigError::InvalidName { .. }), "{injected:?}: {fault}");
        }
    }
}

/// hono: the server trimmed a no-break space before a name, which a browser takes for part of it, and so
/// lets a subdomain set.
#[test]
fn cve_2026_39410_hono_a_no_break_space_before_the_prefixed_name_makes_another_name() {
    for mode in MODES {
        let clock = Clock::new();
        let layer = layer(mode, ring(), &clock);
        let victims = sealed(&layer, &user(1), clock.now());
        // The attacker's own session and sign-out, authentic and newer.
        clock.pass(MINUTE);
        let theirs = sealed(&layer, &user(666), clock.now());
        let (_, response) = visit(&layer, &theirs, |session| assert!(session.clear()));
        let marker = marker_in(&response).unwrap();
        let join = |parts: &[&[u8]]| parts.concat();

        for blank in ["\u{a0}".as_bytes(), b"\xa0", b" \xa0", b"\xa0 ", "\t\u{a0}\t".as_bytes()] {
            let tossed = join(&[blank, theirs.as_bytes()]);
            assert_eq!(seen(&layer, &tossed), (Incoming::Absent, Shop::default()), "{tossed:?}");
            for tossed in [tossed, join(&[blank, marker.as_bytes()])] {
                for both in
                    [join(&[&tossed, b"; ", victims.as_bytes()]), join(&[victims.as_bytes(), b"; ", &tossed])]
                {
                    assert_eq!(seen(&layer, &both), (Incoming::Accepted, user(1)), "{both:?}");
                }
            }
        }
        // Under the name itself both would do what they are for, with the blanks that HTTP knows too.
        for blank in ["", " ", "\t"] {
            assert_eq!(seen(&layer, format!("{victims}; {blank}{theirs}")).1, user(666));
            nobody(&layer, &format!("{victims}; {blank}{marker}"));
        }
    }
}

/// cookie (Rust): reading a `Max-Age` of more milliseconds than 64 bits hold was a panic.
#[test]
fn rustsec_2017_0005_cookie_a_huge_max_age_is_no_panic_and_no_lifetime() {
    let huge = [u64::MAX / 1000 + 1, u64::MAX - 1, u64::MAX].map(Duration::from_secs);
    let digits = ["18446744073709552", "18446744073709551615", "99999999999999999999999999"];
    for mode in MODES {
        let (clock, keys) = (Clock::new(), ring());
        // As a setting.
        let with = || builder(mode, keys.clone(), &clock);
        for huge in huge.into_iter().chain([Duration::MAX]) {
            for refused in [
                with().idle_timeout(huge).build(),
                with().absolute_timeout(huge).build(),
                with().max_own_lifetime(huge).build(),
            ] {
                let fault = refused.unwrap_err();
                assert!(fault.to_string().contains("400 days"), "{fault}");
            }
        }
        for digits in digits {
            let configured = |seconds: &str| {
                let settings = json!({ "keys": { "primary": GOOD_KEY }, "absolute_timeout": seconds });
                SessionLayer::<Shop>::from_config(serde_json::from_value(settings).unwrap()).build()
            };
            assert!(configured("86400s").is_ok());
            let fault = configured(&format!("{digits}s")).unwrap_err();
            assert!(fault.to_string().contains("absolute_timeout"), "{fault}");
        }

        // As a session's own lifetime.
        let layer = with().build().unwrap();
        let (_, response) = visit(&layer, "", |session| {
            session.set(user(1)).unwrap();
            for huge in huge.into_iter().chain([Duration::MAX]) {
                let refused = session.set_lifetime(Lifetime::Own(huge));
                assert!(matches!(refused, Err(UpdateError::LifetimeTooLong { .. })), "{refused:?}");
            }
        });
        let seconds = |response: &Response<()>| max_age(&cookie_in(response, NAME).unwrap());
        assert_eq!(seconds(&response), Some(24 * 60 * 60));

        // Inside the seal, were it ever to get there: `own` behind `issued` behind `renewed`.
        let mut plain = plaintext(&user(1), &clock);
        plain[META - 4..META].fill(0xff);
        let write = |plain: &[u8]| {
            let sealed = internal::seal_session(layer.codec(), &[7; 24], plain).unwrap();
            visit(&layer, &format!("{NAME}={sealed}"), |session| session.set(user(3)).unwrap()).1
        };
        assert_eq!(seconds(&write(&plain)), Some(14 * 24 * 60 * 60));
        plain[META - 16..META - 10].fill(0xff);
        assert_eq!(seconds(&write(&plain)), Some(14 * 24 * 60 * 60));

        // In a request, where it is a cookie like others.
        let honest = sealed(&layer, &user(1), clock.now());
        let end = meta(&layer, &honest, clock.now()).expires_at();
        for digits in digits {
            for text in [format!("Max-Age={digits}; {honest}"), format!("{honest}; Max-Age={digits}")] {
                assert_eq!(meta(&layer, &text, clock.now()).expires_at(), end);
            }
            nobody(&layer, &format!("{honest}Max-Age={digits}"));
            // And in a cookie of the handler's own, which goes out as it is.
            let own = format!("theme=dark; Path=/; Max-Age={digits}");
            let stale = format!("{NAME}=x; Secure; Path=/; Max-Age={digits}");
            let response = respond(&layer, request(&honest), |session| {
                session.set(user(3)).unwrap();
                let mut response = Response::new(());
                for line in [&own, &stale] {
                    response.headers_mut().append(SET_COOKIE, HeaderValue::from_str(line).unwrap());
                }
                response
            });
            let sent = lines(&response);
            assert_eq!((&sent[0], sent.len()), (&own, 2));
            assert_eq!(open(&layer, &session_in_line(&sent[1]), clock.now()).value(), Some(&user(3)));
        }
        // At the end of all times.
        let last = UNIX_EPOCH + Duration::from_secs(i64::MAX.unsigned_abs());
        assert_eq!(open(&layer, &honest, last).incoming(), Incoming::Rejected(RejectedKind::Expired));
    }
}

/// `name=value` of a `Set-Cookie` line.
fn session_in_line(line: &str) -> String {
    line.split(';').next().unwrap().to_owned()
}

/// iron-session 8: a version stood behind the seal, where anybody could change it, and said how to read
/// what was in it.
#[test]
fn iron_session_8_nothing_outside_the_seal_says_how_to_read_it() {
    for mode in MODES {
        let (clock, old, new) = (Clock::new(), key(), key());
        let fallback_id = frame(&sealed(&layer(mode, single(&old), &clock), &user(1), clock.now()));
        let keys = KeyRing::new(new, [old]).unwrap();
        // Version 1 was another world: all of its users are administrators in this one.
        let layer =
            builder(mode, keys, &clock).schema(2).migrate_from::<Shop>(1, |_| user(ADMIN)).build().unwrap();
        let honest = sealed(&layer, &user(1), clock.now());
        assert_eq!(seen(&layer, &honest), (Incoming::Accepted, user(1)));

        let text = value(&honest);
        for version in
            ["~2", "~1", "~0", "~3", "~", "~~2", ".2", ":2", ",2", "*2", "%7E2", "=", "1", "AA", "2-"]
        {
            nobody(&layer, &format!("{NAME}={text}{version}"));
            nobody(&layer, &format!("{NAME}={version}{text}"));
        }
        let ours = frame(&honest);
        for suite in (0..=u8::MAX).filter(|suite| *suite != ours[0]) {
            let mut changed = ours.clone();
            changed[0] = suite;
            nobody(&layer, &pair(NAME, &changed));
        }
        let mut changed = ours.clone();
        changed[1..HEADER].copy_from_slice(&fallback_id[1..HEADER]);
        assert_eq!(seen(&layer, pair(NAME, &changed)).0, NOT_AUTHENTIC);
        // The number that does say it stands inside.
        let mut changed = ours;
        changed[seal_of(mode).0 + 1] ^= 2 ^ 1;
        assert_eq!(seen(&layer, pair(NAME, &changed)), (NOT_AUTHENTIC, Shop::default()));
        let mut first = plaintext(&user(1), &clock);
        assert_eq!(first[1..3], [1, 0]);
        let sealed_first = internal::seal_session(layer.codec(), &[7; 24], &first).unwrap();
        assert_eq!(seen(&layer, format!("{NAME}={sealed_first}")).1, user(ADMIN));
        first[1] = 3;
        let third = internal::seal_session(layer.codec(), &[7; 24], &first).unwrap();
        assert_eq!(seen(&layer, format!("{NAME}={third}")).0, Incoming::Rejected(RejectedKind::Schema));
    }
}

/// biscotti: the rule for a cookie was looked up by its encoded name, and a miss skipped the cryptography.
#[test]
fn biscotti_a_name_in_another_encoding_is_no_way_around_the_seal() {
    for mode in MODES {
        let (clock, keys) = (Clock::new(), ring());
        let with = |name: &str| builder(mode, keys.clone(), &clock).name(name).build();
        // A name that would need an encoding is none.
        assert!(matches!(with("my session"), Err(ConfigError::InvalidName { .. })));
        let layer = with("my%20session").unwrap();
        let text = value(&sealed(&layer, &user(1), clock.now())).to_owned();
        assert_eq!(seen(&layer, format!("my%20session={text}")), (Incoming::Accepted, user(1)));
        let plain = BASE64_URL_SAFE_NO_PAD.encode(plaintext(&user(ADMIN), &clock));
        for name in [
            "my session",
            "my+session",
            "my%2520session",
            "my%20sessio%6e",
            "MY%20session",
            "my%20session%00",
        ] {
            for text in [&text, &plain, "top-secret"] {
                assert_eq!(seen(&layer, format!("{name}={text}")), (Incoming::Absent, Shop::default()));
            }
        }
        for text in [&plain, "top-secret", "top%2Dsecret"] {
            nobody(&layer, &format!("my%20session={text}"));
        }
    }
}

/// tower-sessions and its cookie store: the removal was built apart from the cookie, and lacked attributes.
#[test]
fn tower_sessions_a_removal_has_the_attributes_of_the_cookie_that_it_removes() {
    type Settings = fn(SessionBuilder<Shop>) -> SessionBuilder<Shop>;
    let settings: [Settings; 7] = [
        |builder| builder,
        |builder| builder.same_site(SameSite::Strict),
        |builder| builder.same_site(SameSite::None).partitioned(),
        |builder| builder.name("__Secure-id").domain("Example.COM"),
        |builder| builder.name("__Secure-id").path("/app"),
        |builder| {
            builder.name("id").domain("example.com").path("/app").same_site(SameSite::None).partitioned()
        },
        |builder| builder.insecure_for_local_http().path("/app"),
    ];
    for mode in MODES {
        for settings in settings {
            let clock = Clock::new();
            let layer = settings(builder(mode, ring(), &clock)).build().unwrap();
            let name_and_attributes = |line: &str| {
                let (name, rest) = line.split_once('=').unwrap();
                let attributes =
                    rest.split("; ").skip(1).filter(|attribute| !attribute.starts_with("Max-Age="));
                (name.to_owned(), attributes.map(str::to_owned).collect::<Vec<_>>())
            };
            let (_, response) = visit(&layer, "", |session| session.set(user(1)).unwrap());
            let [set] = &lines(&response)[..] else { panic!("one cookie") };
            let name = name_and_attributes(set).0;
            let mut browser = Browser::with(&clock, &HeaderValue::from_str(set).unwrap());
            assert_eq!(browser.count(&name), 1);

            let (_, response) = visit(&layer, &session_in_line(set), |session| assert!(session.clear()));
            let [removal, marker] = &lines(&response)[..] else { panic!("removal and marker") };
            assert!(removal.starts_with(&format!("{name}=;")) && removal.ends_with("; Max-Age=0"));
            assert_eq!(name_and_attributes(removal), name_and_attributes(set));
            assert_eq!(name_and_attributes(marker), (format!("{name}-out"), name_and_attributes(set).1));
            browser.receive(&response);
            assert_eq!(browser.count(&name), 0);

            let removals =
                layer.codec().removals(&open(&layer, &session_in_line(set), clock.now()), clock.now());
            assert_eq!(removals.cookies()[0].header().to_str().unwrap(), removal);
        }
    }
}

/// seshcookie, and tower-sessions' cookie store by default: a cookie that did not open was removed, so the
/// old instances of a deploy signed out whoever had met the new ones.
#[test]
fn seshcookie_a_cookie_of_an_unknown_key_is_not_removed() {
    for mode in MODES {
        let (clock, old, new) = (Clock::new(), key(), key());
        let (before, after) = (layer(mode, single(&old), &clock), layer(mode, single(&new), &clock));
        let mut browser = Browser::new(&clock);
        browser.visit(&after, |session| session.set(user(1)).unwrap());
        let cookies = browser.cookies();
        for passed in [Duration::ZERO, 3 * HOUR] {
            clock.pass(passed);
            let (incoming, response) = visit(&before, &cookies, |session| {
                session.read(|_| ());
                session.update(|_| ()).unwrap();
                session.incoming()
            });
            assert_eq!(incoming, Incoming::Rejected(RejectedKind::UnknownKey));
            assert_eq!(names(&response), [""; 0]);
            browser.receive(&response);
        }
        assert_eq!(browser.visit(&after, Session::get), user(1));
        // Whoever asks for it gets it.
        let (_, response) = visit(&before, &cookies, |session| assert!(session.clear()));
        assert!(removes_session(&response));
    }
}

/// axum-extra: a cookie that no browser keeps left with 200 OK.
#[test]
fn axum_extra_an_oversized_session_is_an_error_and_no_cookie() {
    for mode in MODES {
        let clock = Clock::new();
        let layer = layer(mode, ring(), &clock);
        let honest = sealed(&layer, &user(1), clock.now());
        let (mut sent, mut refused) = (0, 0);
        for items in (0..900).step_by(7).chain([2_000, 100_000]) {
            for cookies in ["", &honest] {
                // The handler looks at nothing and answers 200.
                let (outcome, response) = visit(&layer, cookies, |session| {
                    session.update(|shop| shop.cart = vec![u32::MAX; items + 1])
                });
                let lines = lines(&response);
                match outcome {
                    Ok(()) => {
                        let [line] = &lines[..] else { panic!("one cookie") };
                        assert!(line.len() <= MAX_SET_COOKIE, "{} bytes", line.len());
                        sent += 1;
                    }
                    Err(UpdateError::TooLarge(_)) => {
                        assert_eq!(lines, [""; 0]);
                        refused += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        assert!(sent > 100 && refused > 50, "{sent} sent, {refused} refused");
        assert_eq!(seen(&layer, &honest).1, user(1));
    }
}

/// cookie (Rust): the signed jar did not authenticate the name, so the value of one cookie was good in
/// another.
#[test]
fn cookie_rs_a_value_signed_for_one_name_does_not_open_under_another() {
    for mode in MODES {
        let (clock, keys) = (Clock::new(), ring());
        let with = |name: &str| builder(mode, keys.clone(), &clock).name(name).build().unwrap();
        let jars = ["user", "admin", "User", "user-out", "use"].map(|name| (name, with(name)));
        for (name, from) in &jars {
            let sealed = sealed(from, &user(1), clock.now());
            for (other, to) in &jars {
                let expected = if name == other { Incoming::Accepted } else { NOT_AUTHENTIC };
                let moved = format!("{other}={}", value(&sealed));
                assert_eq!(seen(to, moved).0, expected, "{mode:?}: {name} as {other}");
            }
        }
    }
}

/// seshcookie: the path was rendered as it was given, with a Domain behind it.
#[test]
fn seshcookie_a_path_brings_in_no_domain() {
    let clock = Clock::new();
    let with = |path: &str| builder(Mode::Encrypted, ring(), &clock).name("id").path(path).build();
    for path in ["/; Domain=evil.example", "/;Domain=evil.example", "/a;b", "/\t; Domain=x", "/\u{a0};"] {
        let fault = with(path).unwrap_err();
        assert!(matches!(fault, ConfigError::InvalidPath { .. }), "{path:?}: {fault}");
    }
    // All that an honest path can hold stays one attribute.
    for path in ["/", "/app", "/a=b,c d/%3B", "/Domain=evil.example"] {
        let (_, response) = visit(&with(path).unwrap(), "", |session| session.set(user(1)).unwrap());
        let line = &lines(&response)[0];
        assert_eq!(attributes(line), ["HttpOnly", "Max-Age", "Path", "SameSite", "Secure"]);
        assert!(line.contains(&format!("; Path={path}; ")), "{line}");
    }
}

#[test]
fn the_security_page_and_the_tests_name_the_same_faults() {
    let page = include_str!("../src/docs/security.md");
    let (_, section) = page.split_once("# What went wrong elsewhere\n").unwrap();
    let section = section.split("\n# ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let named: Vec<_> =
        rows.flat_map(|row| row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect();
    let defined = |source: &str| -> Vec<String> {
        let lines: Vec<_> = source.lines().map(str::trim).collect();
        let tests = lines.windows(2).filter(|lines| lines[0] == "#[test]");
        tests.filter_map(|lines| Some(lines[1].strip_prefix("fn ")?.split_once('(')?.0.to_owned())).collect()
    };
    // All that stand here, but for this one.
    let mut here = defined(include_str!("elsewhere.rs"));
    assert!(here.pop().is_some_and(|last| last.starts_with("the_security_page")) && here.len() >= 20);
    for fault in here {
        assert!(named.contains(&&*fault), "the page lacks {fault}");
    }
    let files = ["tests", "tests/rules"].into_iter().flat_map(|dir| std::fs::read_dir(dir).unwrap());
    let sources = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| std::fs::read_to_string(path).unwrap());
    let known: Vec<_> = sources.flat_map(|source| defined(&source)).collect();
    assert!(named.len() > 25);
    for name in named {
        assert!(known.iter().any(|known| known == name), "there is no test {name}");
    }
}
