//! No `Cookie` header makes opening allocate more than what was sent and some values' worth.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cookie_session::{Incoming, Key, KeyRing, Mode, RejectedKind, SessionLayer};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use std::time::{SystemTime, UNIX_EPOCH};

const NAME: &str = "s";

/// The largest value that is looked at.
const VALUE: usize = 4096;

/// Eight of these, since no more are authenticated.
const PEAK: usize = 8 * VALUE;

fn now() -> SystemTime {
    UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000)
}

fn layer(mode: Mode) -> SessionLayer<Vec<u8>> {
    let key: Key = "iSKAamfAL6VMAXQwIHl90fVDUTAiNNSkHAzhe85NVQw=".parse().unwrap();
    let keys = KeyRing::new(key, []).unwrap();
    SessionLayer::builder(keys).name(NAME).mode(mode).accept_mode(Mode::Signed).build().unwrap()
}

/// Opens, and returns the bytes that were allocated in all and at most at one time.
fn opened(layer: &SessionLayer<Vec<u8>>, headers: &HeaderMap, incoming: Incoming) -> (usize, usize) {
    // Whatever is made once per process is made now.
    layer.codec().open(headers, now());
    let info = allocation_counter::measure(|| {
        let opened = layer.codec().open(headers, now());
        assert_eq!(opened.incoming(), incoming);
    });
    assert_eq!(info.bytes_current, 0);
    (info.bytes_total.try_into().unwrap(), info.bytes_max.try_into().unwrap())
}

/// As it is sent over HTTP/1.1, each line with its name and end.
fn sent(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + ": \r\n".len() + value.len()).sum()
}

fn one_line(pairs: &[String]) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, pairs.join(";").parse().unwrap())])
}

fn many_lines(pairs: &[String]) -> HeaderMap {
    pairs.iter().map(|pair| (COOKIE, pair.parse::<HeaderValue>().unwrap())).collect()
}

/// At one time no more than some values, however many came in; in all, so much for each byte sent.
fn assert_bounded(layer: &SessionLayer<Vec<u8>>, headers: &HeaderMap, incoming: Incoming) {
    let (total, peak) = opened(layer, headers, incoming);
    let sent = sent(headers);
    // Each line's handle is cloned, in a list that grows by doubling.
    let handles = 3 * size_of::<HeaderValue>() * headers.get_all(COOKIE).iter().count();
    assert!(peak <= PEAK + handles, "{peak} bytes at one time for {sent}");
    assert!(total <= PEAK + handles + 8 * sent, "{total} bytes in all for {sent}");
}

fn rejected(kind: RejectedKind) -> Incoming {
    Incoming::Rejected(kind)
}

#[test]
fn the_bound_would_notice_a_copy_of_the_headers() {
    let headers = one_line(&vec![format!("{NAME}={}", "A".repeat(VALUE + 1)); 256]);
    let layer = layer(Mode::Encrypted);
    let (total, _) = opened(&layer, &headers, rejected(RejectedKind::TooLong));
    assert!(total < sent(&headers) / 100, "{total}");
    let copy = allocation_counter::measure(|| drop(headers[COOKIE].as_bytes().to_vec()));
    assert!(usize::try_from(copy.bytes_max).unwrap() > PEAK);
}

#[test]
fn a_value_that_is_too_long_allocates_next_to_nothing() {
    let layer = layer(Mode::Encrypted);
    for len in [VALUE + 1, 1 << 16, 1 << 20, 1 << 24] {
        let headers = one_line(&[format!("{NAME}={}", "A".repeat(len))]);
        let (total, _) = opened(&layer, &headers, rejected(RejectedKind::TooLong));
        assert!(total < 1024, "{total} bytes for a value of {len}");
    }
}

#[test]
fn a_header_without_our_cookie_allocates_next_to_nothing() {
    let layer = layer(Mode::Encrypted);
    for part in [";", "=", "a=b;", "a", "\t", "ss=;"] {
        let headers = one_line(&[part.repeat((1 << 20) / part.len())]);
        let (total, _) = opened(&layer, &headers, Incoming::Absent);
        assert!(total < 1024, "{total} bytes for a megabyte of {part:?}");
    }
}

#[test]
fn thousands_of_bad_values_allocate_no_more_than_was_sent() {
    let layer = layer(Mode::Encrypted);
    let sealed = layer.codec().seal(&vec![7; 2900], None, None, now()).unwrap();
    let mut raw = URL_SAFE_NO_PAD.decode(sealed.value()).unwrap();
    let good = sealed.value().to_owned();
    *raw.last_mut().unwrap() ^= 1;
    let forged = URL_SAFE_NO_PAD.encode(&raw);
    raw[1] ^= 1;
    let unknown = URL_SAFE_NO_PAD.encode(&raw);
    let malformed = format!("{}*", &good[..good.len() - 1]);
    let cases = [
        ("", RejectedKind::Malformed),
        ("A", RejectedKind::Malformed),
        ("AAAA", RejectedKind::Malformed),
        ("AAAAAAAA", RejectedKind::SuiteNotAccepted),
        (&malformed, RejectedKind::Malformed),
        (&unknown, RejectedKind::UnknownKey),
        (&forged, RejectedKind::NotAuthentic),
    ];
    for (value, kind) in cases {
        for count in [1, 8, 9, 100, 4000] {
            let pairs = vec![format!("{NAME}={value}"); count];
            assert_bounded(&layer, &one_line(&pairs), rejected(kind));
            assert_bounded(&layer, &many_lines(&pairs), rejected(kind));
        }
    }
}

#[test]
fn thousands_of_good_values_are_not_all_kept() {
    for mode in [Mode::Encrypted, Mode::Signed] {
        let layer = layer(mode);
        let sealed = layer.codec().seal(&vec![7; 2900], None, None, now()).unwrap();
        for count in [1, 8, 9, 100, 4000] {
            let pairs = vec![format!("{NAME}={}", sealed.value()); count];
            assert_bounded(&layer, &one_line(&pairs), Incoming::Accepted);
            assert_bounded(&layer, &many_lines(&pairs), Incoming::Accepted);
        }
    }
}

#[test]
fn thousands_of_markers_are_not_all_kept() {
    let layer = layer(Mode::Encrypted);
    let sealed = layer.codec().seal(&vec![7; 2900], None, None, now()).unwrap();
    let session = HeaderMap::from_iter([(COOKIE, sealed.request_header())]);
    let removals = layer.codec().removals(&layer.codec().open(&session, now()), now());
    let marker = removals.cookies().last().unwrap();
    for value in [marker.value(), "AAAA", sealed.value()] {
        let incoming =
            if value == marker.value() { rejected(RejectedKind::SignedOut) } else { Incoming::Accepted };
        for count in [1, 8, 9, 100, 4000] {
            let mut pairs = vec![format!("{}={value}", marker.name()); count];
            pairs.push(format!("{NAME}={}", sealed.value()));
            assert_bounded(&layer, &one_line(&pairs), incoming);
            assert_bounded(&layer, &many_lines(&pairs), incoming);
        }
    }
}

#[test]
fn a_payload_that_claims_much_and_is_not_authentic_is_not_decoded() {
    // In signed mode the claim is in plain sight: a list of 2^32 - 1 bytes.
    let layer = layer(Mode::Signed);
    let sealed = layer.codec().seal(&vec![7; 2000], None, None, now()).unwrap();
    let mut raw = URL_SAFE_NO_PAD.decode(sealed.value()).unwrap();
    let payload = 5 + 45;
    raw[payload..payload + 5].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    let headers = one_line(&[format!("{NAME}={}", URL_SAFE_NO_PAD.encode(raw))]);
    assert_bounded(&layer, &headers, rejected(RejectedKind::NotAuthentic));
}

#[test]
fn of_layers_that_were_dropped_their_key_ring_keeps_next_to_nothing() {
    let handle = cookie_session::KeyRingHandle::new(KeyRing::new(Key::generate().unwrap(), []).unwrap());
    let build = || drop(SessionLayer::<u64>::builder(handle.clone()).build().unwrap());
    build();
    let info = allocation_counter::measure(|| (0..100).for_each(|_| build()));
    assert!(info.bytes_current < 1000, "{} bytes stay of 100 dropped layers", info.bytes_current);
}
