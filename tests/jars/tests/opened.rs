//! What jars set is opened, as the text that it was.

use cookie_session::{Incoming, RejectedKind};
use interop_tests::{Rng, seeds};
use jars_tests::{Held, KINDS, Kind, MOST, OLD, OldApp, Secret, layer, open, text};

/// For each seed.
const CASES: usize = 200;

const TEXTS: [&str; 16] = [
    "",
    "7",
    "0",
    "guest",
    r#"{"user":7,"roles":["admin"],"name":"Größe 日本 🍪"}"#,
    "\"quoted\"",
    "\"",
    "100 %",
    "%41",
    "%",
    "%%",
    "a=b=c",
    "a; b, c",
    " blanks ",
    "tab\tand\nline",
    "\u{a0}\u{feff}\0\u{7f}",
];

fn secrets() -> [Secret; 4] {
    let of = |count: u8| (0..count).collect::<Vec<u8>>();
    [Secret::Whole(of(64)), Secret::Whole(of(200)), Secret::Master(of(32)), Secret::Master(of(100))]
}

#[test]
fn texts_of_all_kinds_come_back_as_they_were() {
    for (kind, secret) in KINDS.iter().flat_map(|kind| secrets().map(|secret| (*kind, secret))) {
        let (old, new) = (OldApp::new(kind, &secret), layer(kind, &secret));
        for text in TEXTS {
            let cookie = old.set(&[(OLD, text)]);
            assert_eq!(old.read(cookie.as_bytes(), OLD).as_deref(), Some(text));
            let opened = open(&new, cookie.as_bytes());
            assert_eq!(opened.incoming(), Incoming::Imported, "{kind:?} {text:?} {secret:?}");
            assert_eq!(opened.into_value(), Some(Held { text: text.to_owned() }));
        }
    }
}

#[test]
fn so_do_random_ones_encoded_and_plain() {
    for seed in seeds("texts in jars") {
        let mut plain = 0;
        for case in 0..CASES {
            let mut rng = Rng::new(seed, case);
            let (kind, secret) = (rng.pick(&KINDS), Secret::random(&mut rng));
            let (old, new) = (OldApp::new(kind, &secret), layer(kind, &secret));
            let text = text(&mut rng);
            let at = || format!("COOKIE_SESSION_SEED={seed}, case {case}: {kind:?} {text:?}");
            let held = Some(Held { text: text.clone() });
            let encoded = old.set(&[(OLD, &text)]);
            assert_eq!(open(&new, encoded.as_bytes()).into_value(), held, "{}", at());

            // Not every text survives that: what is signed stands in the header as it is.
            let cookie = old.set_plain(OLD, &text);
            if http::HeaderValue::from_str(&cookie).is_err() {
                continue;
            }
            let read = old.read_plain(cookie.as_bytes(), OLD);
            assert_eq!(open(&new, cookie.as_bytes()).into_value().map(|held| held.text), read, "{}", at());
            plain += usize::from(read.is_some());
        }
        assert!(plain > CASES / 2, "{plain}");
    }
}

#[test]
fn the_largest_that_a_browser_keeps_is_opened_and_the_next_is_not() {
    for (kind, secret) in KINDS.iter().flat_map(|kind| secrets().map(|secret| (*kind, secret))) {
        let (old, new) = (OldApp::new(kind, &secret), layer(kind, &secret));
        let largest = match kind {
            Kind::Private => MOST / 4 * 3 - 12 - 16,
            Kind::Signed => MOST - 44,
        };
        for (len, opens) in [(largest - 1, true), (largest, true), (largest + 1, false)] {
            let text = "x".repeat(len);
            let cookie = old.set_plain(OLD, &text);
            assert_eq!(cookie.len() <= OLD.len() + 1 + MOST, opens);
            let opened = open(&new, cookie.as_bytes());
            let expected = if opens { Incoming::Imported } else { Incoming::Rejected(RejectedKind::TooLong) };
            assert_eq!(opened.incoming(), expected, "{kind:?} {len}");
            assert_eq!(opened.into_value(), opens.then_some(Held { text }));
        }
    }
}

#[test]
fn of_several_cookies_the_last_one_that_opens_counts() {
    for kind in KINDS {
        let secret = Secret::Whole((0..64).collect());
        let (old, new) = (OldApp::new(kind, &secret), layer(kind, &secret));
        let set = |text| old.set(&[(OLD, text)]);
        let garbage = format!("{OLD}=garbage");
        for cookies in [
            [set("a"), set("b")],
            [set("b"), set("a")],
            [set("a"), garbage.clone()],
            [garbage.clone(), set("a")],
            [garbage.clone(), garbage.clone()],
        ] {
            let cookies = cookies.join("; ");
            let read = old.read(cookies.as_bytes(), OLD);
            let opened = open(&new, cookies.as_bytes()).into_value().map(|held| held.text);
            assert_eq!(opened, read, "{cookies}");
        }
    }
}
