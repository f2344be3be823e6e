//! The examples of the wire format's page, which never change: cookies that are out there must open.

use cookie_session::{Incoming, KeyRing, Mode, RejectedKind, SessionLayer};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PAGE: &str = include_str!("../src/docs/wire_format.md");
const KEY: &str = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210";
const NAME: &str = "__Host-Http-session";

#[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Shop {
    user: Option<u64>,
    cart: Vec<u32>,
}

fn example(label: &str) -> &'static str {
    let line =
        PAGE.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix("  ")).expect("the example");
    line.trim()
}

fn layer() -> SessionLayer<Shop> {
    let keys = KeyRing::new(KEY.parse().expect("a good key"), []).expect("one key");
    let builder = SessionLayer::builder(keys).context("shop").mode(Mode::Encrypted).accept_mode(Mode::Signed);
    builder.build().expect("good settings")
}

fn open(cookies: &str, at: SystemTime) -> (Incoming, Option<Shop>) {
    let header = HeaderValue::from_str(cookies).expect("ASCII");
    let opened = layer().codec().open(&HeaderMap::from_iter([(COOKIE, header)]), at);
    (opened.incoming(), opened.into_value())
}

fn at(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

#[test]
fn the_sessions_of_the_page_open() {
    for label in ["encrypted        ", "signed           "] {
        let (incoming, shop) = open(&format!("{NAME}={}", example(label)), at(1_700_000_000_000));
        assert_eq!(incoming, Incoming::Accepted, "{label}");
        assert_eq!(shop, Some(Shop { user: Some(42), cart: vec![7, 300] }));
    }
}

#[test]
fn the_markers_of_the_page_sign_them_out() {
    for label in ["marker, encrypted", "marker, signed   "] {
        let cookies = format!("{NAME}={}; {NAME}-out={}", example("signed           "), example(label));
        let (incoming, shop) = open(&cookies, at(1_700_000_002_000));
        assert_eq!((incoming, shop), (Incoming::Rejected(RejectedKind::SignedOut), None), "{label}");
    }
}

#[test]
fn the_key_id_and_the_shape_are_those_of_the_page() {
    let key: cookie_session::Key = KEY.parse().expect("a good key");
    assert!(PAGE.contains(&format!("of the id `{}`", key.id())));
    assert!(PAGE.contains(&format!("`{}`, with the value", layer().shape())));
}
