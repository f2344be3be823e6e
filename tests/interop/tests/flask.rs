//! Sessions of a real Flask, read by the example that imports them: it opens what Flask opens, and nothing else.

// The part below its line runs by itself.
#[allow(dead_code)]
#[path = "../../../examples/import_flask.rs"]
mod import_flask;

use cookie_session::{ConfigError, Incoming, Key, KeyRing, RejectedKind, SessionBuilder, SessionLayer};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use import_flask::{Flask, Shop};
use interop_tests::{Program, Rng, flask, seeds};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// For each seed.
const CASES: usize = 300;

fn ask(flask: &mut Program, requests: &[Value]) -> Vec<Value> {
    flask.ask(&requests.iter().map(Value::to_string).collect::<Vec<_>>())
}

fn builder() -> SessionBuilder<Shop> {
    SessionLayer::builder(KeyRing::new(Key::generate().expect("randomness"), []).expect("one key"))
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

/// What our layer makes of a cookie at a time.
fn open(secret_key: &str, cookie: &str, now: u64) -> (Incoming, Option<Shop>) {
    let import = Flask::new(secret_key.as_bytes());
    let layer = builder().import(import, at(u64::from(u32::MAX))).build().expect("good settings");
    let value = HeaderValue::from_str(cookie).expect("a header's text");
    let opened = layer.codec().open(&HeaderMap::from_iter([(COOKIE, value)]), at(now));
    (opened.incoming(), opened.into_value())
}

/// A session in Flask's words and in ours. Every other one is long enough for Flask to compress it.
fn session(rng: &mut Rng) -> (Value, Shop) {
    let user = rng.once_in(2).then(|| rng.number());
    let items = rng.pick(&[0, 1, 4, 40, 300]);
    let cart: Vec<u32> = (0..items).map(|_| rng.pick(&[7, 1000, u32::MAX])).collect();
    let mut session = json!({ "cart": cart, "_permanent": rng.once_in(2), "name": rng.text() });
    if user.is_some() || rng.once_in(2) {
        session["user_id"] = json!(user);
    }
    (session, Shop { user, cart })
}

fn secret_key(rng: &mut Rng) -> String {
    let letters = rng.pick(&[16, 20, 64, 65, 200]);
    (0..letters).map(|_| rng.pick(&["a", "Z", "0", "ß", "\u{1f36a}", " ", "\""])).collect()
}

/// A session, the cookie that Flask set for it, its key and the second in which it did.
struct Case {
    session: Shop,
    cookie: String,
    secret_key: String,
    issued: u64,
}

fn cases(flask: &mut Program, seed: u64) -> Vec<Case> {
    let drawn = |case| {
        let mut rng = Rng::new(seed, case);
        (session(&mut rng), secret_key(&mut rng), rng.within(1_500_000_000..=2_000_000_000) as u64)
    };
    let drawn: Vec<_> = (0..CASES).map(drawn).collect();
    let set = |((session, _), secret_key, now): &((Value, Shop), String, u64)| json!({ "do": "set", "secret_key": secret_key, "session": session, "now": now });
    let requests: Vec<_> = drawn.iter().map(set).collect();
    let answers = ask(flask, &requests);
    let case = |(((_, session), secret_key, issued), answer): (_, Value)| {
        let cookie = answer["cookie"].as_str().expect("a cookie").to_owned();
        Case { session, cookie, secret_key, issued }
    };
    drawn.into_iter().zip(answers).map(case).collect()
}

#[test]
fn what_flask_sets_is_opened_for_as_long_as_flask_opens_it() {
    const LIFETIME: u64 = Flask::LIFETIME.as_secs();
    let mut flask = flask().serve();
    for seed in seeds("Flask's sessions") {
        let cases = cases(&mut flask, seed);
        let packed = cases.iter().filter(|case| case.cookie.starts_with("session=.")).count();
        assert!(packed > CASES / 10 && packed < CASES * 9 / 10, "{packed}");
        let times = |case: &Case| {
            [-1, 0, 1, LIFETIME as i64, LIFETIME as i64 + 1].map(|age| case.issued as i64 + age)
        };
        let read = |case: &Case, now| json!({ "do": "read", "secret_key": case.secret_key, "cookie": case.cookie, "now": now });
        let requests: Vec<_> = cases.iter().flat_map(|case| times(case).map(|now| read(case, now))).collect();
        let answers = ask(&mut flask, &requests);
        for (case, answers) in cases.iter().zip(answers.chunks(5)) {
            let theirs =
                answers.iter().map(|answer| !answer["session"].as_object().expect("an object").is_empty());
            let ours = times(case).map(|now| open(&case.secret_key, &case.cookie, now as u64));
            let at = || format!("COOKIE_SESSION_SEED={seed}, {}", case.cookie);
            assert!(ours.iter().map(|(_, shop)| shop.is_some()).eq(theirs), "{}", at());
            let [early, now, next, last, late] = ours;
            assert_eq!(early, (Incoming::Rejected(RejectedKind::FromTheFuture), None), "{}", at());
            assert_eq!(late, (Incoming::Rejected(RejectedKind::Expired), None), "{}", at());
            for (incoming, shop) in [now, next, last] {
                assert_eq!((incoming, shop.as_ref()), (Incoming::Imported, Some(&case.session)), "{}", at());
            }
        }
    }
    assert!(flask.ends_well());
}

const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A value, changed; `other` is that of another session.
fn changed(rng: &mut Rng, value: &str, other: &str) -> String {
    let parts = |value: &str| {
        let mut parts: Vec<_> = value.rsplitn(3, '.').map(str::to_owned).collect();
        parts.reverse();
        parts
    };
    let at = rng.below(value.len());
    let (mut value, mut letters) = (parts(value), value.as_bytes().to_vec());
    match rng.below(8) {
        // A part of another session's.
        0 | 1 => {
            let part = rng.below(3);
            value[part] = parts(other)[part].clone();
            return value.join(".");
        }
        2 => {
            let (one, another) = (rng.below(3), rng.below(3));
            value.swap(one, another);
            return value.join(".");
        }
        3 => letters[at] = rng.pick(SYMBOLS),
        // Bits that are left over at the end of the MAC, which Python's base64 passes over.
        4 => {
            let last = letters.last_mut().expect("a MAC");
            let place = SYMBOLS.iter().position(|symbol| symbol == last).expect("a symbol");
            *last = SYMBOLS[place ^ rng.pick(&[1, 2, 3])];
        }
        5 => letters.insert(at, rng.pick(b".=AAA%!")),
        6 => drop(letters.remove(at)),
        _ => letters.truncate(at),
    }
    String::from_utf8(letters).expect("ASCII")
}

#[test]
fn what_flask_refuses_is_refused() {
    let mut flask = flask().serve();
    for seed in seeds("changed sessions of Flask") {
        let cases = cases(&mut flask, seed);
        let mut requests = Vec::new();
        for (i, case) in cases.iter().enumerate() {
            let mut rng = Rng::new(seed, CASES + i);
            let value = |cookie: &str| cookie.strip_prefix("session=").expect("the name").to_owned();
            let (own, other) =
                (value(&case.cookie), value(&rng.pick(&[&cases[0], &cases[CASES - 1]]).cookie));
            let changed = changed(&mut rng, &own, &other);
            let another_key = &cases[(i + 1) % CASES].secret_key;
            for (secret_key, value) in [(&case.secret_key, &changed), (another_key, &own)] {
                let cookie = format!("session={value}");
                requests.push(
                    json!({ "do": "read", "secret_key": secret_key, "cookie": cookie, "now": case.issued }),
                );
            }
        }
        let mut kinds = BTreeMap::new();
        for (request, answer) in requests.iter().zip(ask(&mut flask, &requests)) {
            let text = |field: &str| request[field].as_str().expect("a text");
            let now = request["now"].as_u64().expect("a number");
            let (incoming, shop) = open(text("secret_key"), text("cookie"), now);
            let theirs = answer["session"].as_object().expect("an object");
            let ours = shop.is_some();
            let at = || format!("COOKIE_SESSION_SEED={seed}, {incoming}, {request}");
            match (ours, !theirs.is_empty()) {
                (true, true) => assert_eq!(json!(shop.expect("a session").cart), theirs["cart"], "{}", at()),
                (false, false) => {}
                // Base64 has one text for us, and several for Python.
                (false, true) => {
                    assert_eq!(incoming, Incoming::Rejected(RejectedKind::Malformed), "{}", at());
                }
                (true, false) => panic!("{}", at()),
            }
            *kinds.entry((incoming.to_string(), !theirs.is_empty())).or_insert(0) += 1;
        }
        let of = |kind: &str, theirs| kinds.get(&(kind.to_owned(), theirs)).copied().unwrap_or(0);
        assert!(of("not_authentic", false) > CASES && of("malformed", true) > 0, "{kinds:?}");
        assert_eq!(of("not_authentic", true), 0);
    }
    assert!(flask.ends_well());
}

#[test]
fn a_packed_payload_grows_to_no_more_than_it_may() {
    let mut flask = flask().serve();
    // Nothing but sevens: Flask makes a cookie of some hundred letters of it.
    for (items, opened) in [(30_000, true), (40_000, false)] {
        let session = json!({ "cart": vec![7; items] });
        let key = "a secret key of Flask's";
        let requests = [json!({ "do": "set", "secret_key": key, "session": session, "now": 1_800_000_000 })];
        let answers = ask(&mut flask, &requests);
        let cookie = answers[0]["cookie"].as_str().expect("a cookie");
        assert!(cookie.starts_with("session=.") && cookie.len() < 4096, "{cookie}");
        let (incoming, shop) = open(key, cookie, 1_800_000_000);
        let expected = if opened { Incoming::Imported } else { Incoming::Rejected(RejectedKind::Payload) };
        assert_eq!((incoming, shop.map(|shop| shop.cart.len())), (expected, opened.then_some(items)));
    }
}

#[test]
fn a_short_key_is_refused_by_build() {
    for (key, refused) in [("", true), ("dev", true), ("fifteen letters", true), ("sixteen letters.", false)]
    {
        let built = builder().import(Flask::new(key.as_bytes()), at(0)).build();
        let short = matches!(built, Err(ConfigError::OldKeyShort { bytes, least: 16 }) if bytes == key.len());
        assert_eq!((short, built.is_ok()), (refused, !refused), "{key:?}");
    }
}
