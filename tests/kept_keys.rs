//! Derived keys of XAES-256-GCM are kept: what a client can see of it, the nonces, and that everything opens all the same.

use cookie_session::{Incoming, Key, KeyRing, RejectedKind, SessionLayer, internal::frame_parse};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// As many messages are sealed under one first half of nonces.
const BATCH: usize = 1 << 16;

const KEY: &str = "iSKAamfAL6VMAXQwIHl90fVDUTAiNNSkHAzhe85NVQw=";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// An instance of the service; all have one key.
fn instance() -> SessionLayer<u32> {
    SessionLayer::builder(KeyRing::new(KEY.parse::<Key>().unwrap(), []).unwrap()).build().unwrap()
}

fn sealed(layer: &SessionLayer<u32>, value: u32) -> HeaderMap {
    let cookie = layer.codec().seal(&value, None, None, now()).unwrap();
    HeaderMap::from_iter([(COOKIE, cookie.request_header())])
}

fn nonce(cookie: &HeaderMap) -> ([u8; 12], [u8; 12]) {
    let (_, value) = cookie[COOKIE].to_str().unwrap().split_once('=').unwrap();
    let (_, _, body) = frame_parse(value.as_bytes()).unwrap();
    (*body.first_chunk().unwrap(), *body[12..].first_chunk().unwrap())
}

#[test]
fn a_first_half_of_nonces_serves_so_many_messages_and_then_another_does() {
    let layer = instance();
    let mut nonces = (0..BATCH as u32 + 2).map(|value| nonce(&sealed(&layer, value)));
    let mut first: Vec<_> = nonces.by_ref().take(BATCH).collect();
    assert!(first.iter().all(|(half, _)| *half == first[0].0));
    let second: Vec<_> = nonces.collect();
    assert!(second[0].0 != first[0].0 && second[0].0 == second[1].0);
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), BATCH, "no second half repeats");
}

#[test]
fn threads_together_go_no_further() {
    const THREADS: usize = 4;
    let layer = instance();
    let seal = || (0..BATCH / 2).map(|value| nonce(&sealed(&layer, value as u32))).collect::<Vec<_>>();
    let mut nonces: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(seal)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut batches = HashMap::new();
    nonces.iter().for_each(|(half, _)| *batches.entry(*half).or_insert(0) += 1);
    assert!(batches.values().all(|&count| count <= BATCH), "{batches:?}");
    // Two are full, but for those of threads that began one at the same moment.
    assert!(batches.len() <= THREADS * 2, "{batches:?}");
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), THREADS * BATCH / 2);
}

#[test]
fn instances_open_what_the_others_sealed_however_many_there_are() {
    // More than there are places for their keys, so that some come to lie on the same.
    let cookies: Vec<_> = (0..600).map(|value| (value, sealed(&instance(), value))).collect();
    let mut halves: Vec<_> = cookies.iter().map(|(_, cookie)| nonce(cookie).0).collect();
    halves.sort_unstable();
    halves.dedup();
    assert_eq!(halves.len(), cookies.len(), "each process draws its own");
    let reader = instance();
    for _ in 0..3 {
        for (value, cookie) in &cookies {
            assert_eq!(reader.codec().open(cookie, now()).value(), Some(value));
        }
    }
}

#[test]
fn a_kept_key_opens_nothing_that_was_changed_and_nothing_authentic_is_needed_before() {
    let (writer, reader) = (instance(), instance());
    let good = sealed(&writer, 7);
    let text = good[COOKIE].to_str().unwrap();
    let value = text.find('=').unwrap() + 1;
    let check = |reader: &SessionLayer<u32>| {
        for at in value..text.len() {
            let mut changed = text.to_owned().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let cookie = HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(&changed).unwrap())]);
            let incoming = reader.codec().open(&cookie, now()).incoming();
            assert!(
                matches!(
                    incoming,
                    Incoming::Rejected(
                        RejectedKind::NotAuthentic
                            | RejectedKind::SuiteNotAccepted
                            | RejectedKind::UnknownKey
                            | RejectedKind::Malformed
                    )
                ),
                "{at}: {incoming:?}"
            );
        }
        assert_eq!(reader.codec().open(&good, now()).value(), Some(&7));
    };
    // Before its key is kept, and then with it; the writer's has been from the beginning.
    check(&reader);
    check(&reader);
    check(&writer);
}
