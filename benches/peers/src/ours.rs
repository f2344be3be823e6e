//! What only this crate has: rings of many keys, and cookies that are refused.

use crate::shop::Shop;
use axum::http::{HeaderMap, HeaderValue, header::COOKIE};
use cookie_session::{Incoming, Key, KeyRing, RejectedKind, SessionLayer};
use std::{cell::Cell, hint::black_box, time::SystemTime};

pub type Call = Box<dyn Fn()>;

/// A case's name, and what is measured.
pub type Measured = (String, Call);

pub fn cases() -> Vec<Measured> {
    let key = || Key::generate().expect("randomness");
    let layer = |primary: Key, fallbacks: Vec<Key>| {
        let ring = KeyRing::new(primary, fallbacks).expect("different keys");
        SessionLayer::<Shop>::builder(ring).name("session").build().expect("good settings")
    };
    let now = SystemTime::now();
    let (small, large) = (Shop::with_notes(0), Shop::with_notes(160));
    let old = key();
    let writer = layer(old.clone(), Vec::new());
    let sealed = |shop: &Shop| writer.codec().seal(shop, None, None, now).expect("it fits").request_header();
    let mut cases: Vec<Measured> = Vec::new();
    let case = |cases: &mut Vec<Measured>,
                name: String,
                layer: &SessionLayer<Shop>,
                cookie: HeaderValue,
                expected: Incoming| {
        let (layer, headers) = (layer.clone(), HeaderMap::from_iter([(COOKIE, cookie)]));
        assert_eq!(layer.codec().open(&headers, now).incoming(), expected, "{name}");
        cases.push((name, Box::new(move || drop(black_box(layer.codec().open(&headers, now))))));
    };
    for keys in [1, 10, 100] {
        let fallbacks = (1..keys).map(|_| key()).collect();
        let layer = layer(old.clone(), fallbacks);
        case(
            &mut cases,
            format!("opened by the primary of {keys}"),
            &layer,
            sealed(&small),
            Incoming::Accepted,
        );
    }
    for keys in [2, 10, 100] {
        let fallbacks = (2..keys).map(|_| key()).chain([old.clone()]).collect();
        let layer = layer(key(), fallbacks);
        case(
            &mut cases,
            format!("opened by a fallback of {keys}"),
            &layer,
            sealed(&small),
            Incoming::Accepted,
        );
    }
    {
        // More of them than derived keys are kept: each cookie of another instance, with the same key.
        let cookies: Vec<_> = (0..2048)
            .map(|_| {
                let cookie = layer(old.clone(), Vec::new()).codec().seal(&small, None, None, now);
                HeaderMap::from_iter([(COOKIE, cookie.expect("it fits").request_header())])
            })
            .collect();
        let (reader, next) = (layer(old.clone(), Vec::new()), Cell::new(0));
        let open = move || {
            let opened = reader.codec().open(&cookies[next.get()], now);
            assert_eq!(opened.incoming(), Incoming::Accepted);
            next.set((next.get() + 1) % cookies.len());
        };
        cases.push(("sealed by one of 2048 other instances".to_owned(), Box::new(open)));
    }
    let good = sealed(&large);
    let forged = {
        let mut bytes = good.as_bytes().to_vec();
        let at = bytes.len() - 2;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        HeaderValue::from_bytes(&bytes).expect("ASCII")
    };
    let of = good.len();
    case(&mut cases, format!("a cookie of {of} bytes: good"), &writer, good.clone(), Incoming::Accepted);
    case(
        &mut cases,
        format!("a cookie of {of} bytes: forged"),
        &writer,
        forged,
        Incoming::Rejected(RejectedKind::NotAuthentic),
    );
    let foreign = layer(key(), Vec::new());
    case(
        &mut cases,
        format!("a cookie of {of} bytes: unknown key"),
        &foreign,
        good,
        Incoming::Rejected(RejectedKind::UnknownKey),
    );
    let others: String =
        (0..64).map(|n| format!("analytics_{n:03}=GA1.2.1234567890.1700000000-abcdefghij; ")).collect();
    let len = others.len();
    let others = HeaderValue::try_from(others).expect("ASCII");
    case(&mut cases, format!("{len} bytes of 64 other cookies"), &writer, others.clone(), Incoming::Absent);
    cases.push((
        format!("{len} bytes, only looked for semicolons"),
        Box::new(move || _ = black_box(memchr::memchr_iter(b';', black_box(others.as_bytes())).count())),
    ));
    cases
}
