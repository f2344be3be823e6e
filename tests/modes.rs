//! What holds in both modes, and what tells them apart: one suite, run once for each.

mod common;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use common::{Clock, serve};
use cookie_session::{
    Incoming, Key, KeyRing, KeyRingHandle, Lifetime, Mode, Opened, RejectedKind, SessionBuilder,
    SessionLayer, SetCookie,
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{COOKIE, SET_COOKIE},
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xaes_256_gcm::{
    Xaes256Gcm,
    aead::{Aead as _, KeyInit},
};

/// What tells a mode apart, as the wire format has it.
struct Facts {
    mode: Mode,
    other: Mode,
    suite: u8,
    nonce: usize,
    tag: usize,
}

const ENCRYPTED: Facts =
    Facts { mode: Mode::Encrypted, other: Mode::Signed, suite: 0x01, nonce: 24, tag: 16 };
const SIGNED: Facts = Facts { mode: Mode::Signed, other: Mode::Encrypted, suite: 0x02, nonce: 0, tag: 32 };

/// Suite and key id.
const HEADER: usize = 5;
/// The session's fixed-width fields.
const META: usize = 45;

macro_rules! in_both_modes {
    ($($behaviour:ident)*) => {
        mod encrypted {
            $(#[test] fn $behaviour() { super::$behaviour(&super::ENCRYPTED) })*
        }
        mod signed {
            $(#[test] fn $behaviour() { super::$behaviour(&super::SIGNED) })*
        }
    };
}

in_both_modes! {
    a_session_comes_back_as_it_was
    a_session_comes_back_through_the_layer
    the_value_is_unpadded_base64url
    the_value_begins_with_the_suite
    the_value_names_the_primary_key
    the_length_is_that_of_the_payload_and_fixed_parts
    times_and_lifetimes_do_not_change_the_length
    only_a_signed_session_can_be_read_without_the_key
    two_seals_of_one_value_differ_only_if_encrypted
    a_reader_made_from_the_specification_alone_opens_a_session
    a_reader_made_from_the_specification_alone_opens_a_marker
    a_writer_made_from_the_specification_alone_is_read
    a_payload_with_bytes_behind_it_or_missing_is_refused
    fixed_fields_that_nobody_writes_are_refused
    a_marker_of_another_length_is_none
    new_sessions_have_ids_of_their_own
    a_fallback_key_opens_and_is_counted
    a_write_moves_a_session_to_the_primary_key
    a_read_leaves_a_session_at_its_fallback_key_until_the_threshold
    an_unknown_key_does_not_open
    rotation_signs_nobody_out
    the_other_mode_is_not_accepted
    accept_mode_reads_the_other_mode
    a_write_moves_a_session_from_the_other_mode
    a_read_leaves_a_session_in_the_other_mode_until_the_threshold
    a_session_with_its_own_lifetime_is_reissued_to_move_only
    a_session_does_not_move_to_another_cookie_name
    a_session_does_not_move_to_another_context
    name_and_context_do_not_run_into_each_other
    a_session_does_not_move_to_another_key
    a_session_does_not_move_to_another_mode
    a_marker_is_no_session
    a_session_is_no_marker
    a_marker_signs_out_where_it_was_made
    a_marker_does_not_move_to_another_cookie_name
    a_marker_does_not_move_to_another_context
    a_marker_does_not_move_to_another_key
    a_marker_does_not_move_to_another_mode
}

fn a_session_comes_back_as_it_was(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let shop = shop("three lamps");
    let cookie = layer.codec().seal(&shop, None, None, noon()).unwrap();
    let opened = open(&layer, &[&cookie]);
    assert_eq!(opened.incoming(), Incoming::Accepted);
    assert_eq!(opened.value(), Some(&shop));
    let meta = opened.meta().unwrap();
    assert_eq!(meta.mode(), facts.mode);
    assert_eq!(meta.key_id(), key(0).id());
    assert_eq!(meta.schema(), 1);
    assert_eq!(meta.lifetime(), Lifetime::Timeouts);
    assert_eq!([meta.created_at(), meta.renewed_at(), meta.issued_at()], [noon(); 3]);
}

fn a_session_comes_back_through_the_layer(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let (response, id) = serve(&layer, &HeaderMap::new(), |session| {
        session.set(shop("three lamps")).unwrap();
        let meta = session.meta().unwrap();
        assert_eq!(meta.mode(), facts.mode);
        meta.id()
    });
    let (response, ()) = serve(&layer, &jar(&response), |session| {
        assert_eq!(session.incoming(), Incoming::Accepted);
        assert_eq!(session.get(), shop("three lamps"));
        let meta = session.meta().unwrap();
        assert_eq!((meta.mode(), meta.id(), meta.key_id()), (facts.mode, id, key(0).id()));
    });
    assert_eq!(set_cookies(&response), Vec::<&str>::new());
}

fn the_value_is_unpadded_base64url(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let mut remainders = [false; 4];
    for len in 0..64 {
        let cookie = layer.codec().seal(&shop(&"x".repeat(len)), None, None, noon()).unwrap();
        let value = cookie.value();
        assert!(value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'), "{value}");
        // No bits are left over: decoded and encoded again it is the same text.
        assert_eq!(URL_SAFE_NO_PAD.encode(raw(&cookie)), value);
        remainders[value.len() % 4] = true;
    }
    assert_eq!(remainders, [true, false, true, true]);
}

fn the_value_begins_with_the_suite(facts: &Facts) {
    let cookie = layer(facts, ring(0, [])).codec().seal(&shop(""), None, None, noon()).unwrap();
    assert_eq!(raw(&cookie)[0], facts.suite);
}

fn the_value_names_the_primary_key(facts: &Facts) {
    for primary in 0..3 {
        let layer = layer(facts, ring(primary, [(primary + 1) % 3]));
        let cookie = layer.codec().seal(&shop(""), None, None, noon()).unwrap();
        let id = u32::from_be_bytes(raw(&cookie)[1..HEADER].try_into().unwrap());
        assert_eq!(format!("{id:08x}"), key(primary).id().to_string());
    }
}

fn the_length_is_that_of_the_payload_and_fixed_parts(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    for len in (0..300).chain([2000]) {
        let shop = shop(&"x".repeat(len));
        let payload = postcard::to_allocvec(&shop).unwrap().len();
        let cookie = layer.codec().seal(&shop, None, None, noon()).unwrap();
        let bytes = HEADER + facts.nonce + META + payload + facts.tag;
        assert_eq!(raw(&cookie).len(), bytes);
        assert_eq!(cookie.value().len(), (bytes * 4).div_ceil(3));
    }
}

fn times_and_lifetimes_do_not_change_the_length(facts: &Facts) {
    let clock = Clock::at(noon());
    let layer = builder(facts, ring(0, []), &clock).max_own_lifetime(400 * DAY).build().unwrap();
    let first = layer.codec().seal(&shop("x"), None, None, noon()).unwrap();
    for now in [UNIX_EPOCH, UNIX_EPOCH + DAY, noon() + 100_000 * DAY] {
        assert_eq!(
            layer.codec().seal(&shop("x"), None, None, now).unwrap().value().len(),
            first.value().len()
        );
    }
    let lifetimes = [SECOND, 400 * DAY].map(Lifetime::Own);
    for lifetime in lifetimes.into_iter().chain([Lifetime::Browser]) {
        let (response, ()) = serve(&layer, &HeaderMap::new(), |session| {
            session.set(shop("x")).unwrap();
            session.set_lifetime(lifetime).unwrap();
        });
        let (_, value) = pair(set_cookies(&response)[0]);
        assert_eq!(value.len(), first.value().len());
        assert_eq!(layer.codec().open(&jar(&response), noon()).meta().unwrap().lifetime(), lifetime);
    }
}

fn only_a_signed_session_can_be_read_without_the_key(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let shop = shop("a note that can be told from noise");
    let cookie = layer.codec().seal(&shop, None, None, noon()).unwrap();
    let id = open(&layer, &[&cookie]).meta().unwrap().id();
    let raw = raw(&cookie);
    let payload = postcard::to_allocvec(&shop).unwrap();
    let readable = facts.mode == Mode::Signed;
    assert_eq!(contains(&raw, &payload), readable);
    assert_eq!(contains(&raw, shop.note.as_bytes()), readable);
    assert_eq!(contains(&raw, &id.to_bytes()), readable);
    // Not even a part of it shines through.
    let parts = payload.windows(8).filter(|part| contains(&raw, part)).count();
    assert_eq!(parts > 0, readable);
}

fn two_seals_of_one_value_differ_only_if_encrypted(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let cookie = layer.codec().seal(&shop("x"), None, None, noon()).unwrap();
    let meta = open(&layer, &[&cookie]).meta().unwrap().clone();
    let seal = || layer.codec().seal(&shop("x"), Some(&meta), None, noon()).unwrap();
    let (first, second) = (seal(), seal());
    if facts.mode == Mode::Signed {
        assert_eq!(first.value(), second.value());
    } else {
        let (first, second) = (raw(&first), raw(&second));
        let sealed = HEADER + facts.nonce;
        assert_ne!(first[HEADER..sealed], second[HEADER..sealed], "the nonce is fresh");
        assert_ne!(first[sealed..], second[sealed..]);
    }
    for cookie in [first, second] {
        let opened = open(&layer, &[&cookie]);
        assert_eq!((opened.value(), opened.meta()), (Some(&shop("x")), Some(&meta)));
    }
}

fn a_reader_made_from_the_specification_alone_opens_a_session(facts: &Facts) {
    let clock = Clock::at(noon());
    let layer = builder(facts, ring(0, []), &clock).context("shop").schema(0x0201).build().unwrap();
    let (response, meta) = serve(&layer, &HeaderMap::new(), |session| {
        session.set(shop("x")).unwrap();
        session.set_lifetime(Lifetime::Own(Duration::from_secs(0x0403))).unwrap();
        session.meta().unwrap()
    });
    let (_, value) = pair(set_cookies(&response)[0]);
    let plaintext = read_by_specification(facts, "session", "shop", value);
    let noon = NOON_MILLIS.to_le_bytes();
    let parts = [
        &[0][..],                  // flags
        &[0x01, 0x02],             // schema
        &layer.shape().to_bytes(), // shape
        &meta.id().to_bytes(),     // id
        &noon[..6],                // created
        &noon[..6],                // renewed
        &noon[..6],                // issued
        &[0x03, 0x04, 0, 0],       // own lifetime
        &postcard::to_allocvec(&shop("x")).unwrap(),
    ];
    assert_eq!(plaintext, parts.concat());
}

fn a_reader_made_from_the_specification_alone_opens_a_marker(facts: &Facts) {
    let layer = builder(facts, ring(0, []), &Clock::at(noon())).context("shop").build().unwrap();
    let plaintext = read_by_specification(facts, "sign-out", "shop", marker(&layer).value());
    assert_eq!(plaintext, NOON_MILLIS.to_le_bytes());
}

fn a_writer_made_from_the_specification_alone_is_read(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let value = write_by_specification(facts, "session", &plaintext(&layer));
    let opened = layer.codec().open(&named(NAME, &value), noon());
    assert_eq!(opened.value(), Some(&shop("x")));
    let meta = opened.meta().unwrap();
    assert_eq!(meta.id().to_bytes(), [7; 16]);
    assert_eq!(meta.lifetime(), Lifetime::Timeouts);
    assert_eq!([meta.created_at(), meta.renewed_at(), meta.issued_at()], [noon(); 3]);
    let value = write_by_specification(facts, "sign-out", &NOON_MILLIS.to_le_bytes());
    let opened = layer.codec().open(&named(&format!("{NAME}-out"), &value), noon());
    assert_eq!(opened.marker(), Some(noon()));
}

fn a_payload_with_bytes_behind_it_or_missing_is_refused(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let whole = plaintext(&layer);
    for len in 0..whole.len() {
        let value = write_by_specification(facts, "session", &whole[..len]);
        assert_rejected(&layer, &named(NAME, &value), RejectedKind::Payload);
    }
    for byte in 0..=255 {
        let value = write_by_specification(facts, "session", &[&whole[..], &[byte]].concat());
        assert_rejected(&layer, &named(NAME, &value), RejectedKind::Payload);
    }
}

fn fixed_fields_that_nobody_writes_are_refused(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let lifetime = |flags: u8, own: u32| {
        let mut plaintext = plaintext(&layer);
        plaintext[0] = flags;
        plaintext[META - 4..META].copy_from_slice(&own.to_le_bytes());
        let value = write_by_specification(facts, "session", &plaintext);
        let opened = layer.codec().open(&named(NAME, &value), noon());
        opened.meta().map(|meta| meta.lifetime()).ok_or(opened.incoming())
    };
    assert_eq!(lifetime(0, 0), Ok(Lifetime::Timeouts));
    assert_eq!(lifetime(0, 9), Ok(Lifetime::Own(Duration::from_secs(9))));
    assert_eq!(lifetime(1, 0), Ok(Lifetime::Browser));
    let refused = Err(Incoming::Rejected(RejectedKind::Payload));
    assert_eq!(lifetime(1, 9), refused);
    for flags in 2..=255 {
        assert_eq!(lifetime(flags, 0), refused);
        assert_eq!(lifetime(flags, 9), refused);
    }
}

fn a_marker_of_another_length_is_none(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    for len in (0..20).filter(|len| *len != 8) {
        let time = [&NOON_MILLIS.to_le_bytes()[..], &[0; 12]].concat();
        assert_no_marker(&layer, &write_by_specification(facts, "sign-out", &time[..len]));
    }
}

/// What a session of noon has in its seal.
fn plaintext(layer: &SessionLayer<Shop>) -> Vec<u8> {
    let time = &NOON_MILLIS.to_le_bytes()[..6];
    let payload = postcard::to_allocvec(&shop("x")).unwrap();
    let start = [&[0][..], &[1, 0], &layer.shape().to_bytes(), &[7; 16]].concat();
    [&start, time, time, time, &[0; 4], &payload].concat()
}

/// The plaintext of a value, by the wire format and nothing of the crate.
fn read_by_specification(facts: &Facts, purpose: &str, context: &str, value: &str) -> Vec<u8> {
    let (expected, key) = derive_by_specification(facts, purpose, context);
    let frame = URL_SAFE_NO_PAD.decode(value).unwrap();
    let (header, body) = frame.split_at(HEADER);
    assert_eq!(header, expected);
    if facts.mode == Mode::Encrypted {
        let (nonce, sealed) = body.split_first_chunk::<24>().unwrap();
        Xaes256Gcm::new(&key.into()).decrypt(nonce.into(), sealed).unwrap()
    } else {
        let (plaintext, mac) = body.split_at(body.len() - 32);
        keyed(key).chain_update(plaintext).verify_slice(mac).unwrap();
        plaintext.to_vec()
    }
}

/// A value without a context, likewise.
fn write_by_specification(facts: &Facts, purpose: &str, plaintext: &[u8]) -> String {
    let (header, key) = derive_by_specification(facts, purpose, "");
    let body = if facts.mode == Mode::Encrypted {
        let nonce = [9; 24];
        [&nonce[..], &Xaes256Gcm::new(&key.into()).encrypt(&nonce.into(), plaintext).unwrap()].concat()
    } else {
        [plaintext, &keyed(key).chain_update(plaintext).finalize().into_bytes()].concat()
    };
    URL_SAFE_NO_PAD.encode([&header[..], &body].concat())
}

/// What a value begins with, and its seal key.
fn derive_by_specification(facts: &Facts, purpose: &str, context: &str) -> ([u8; HEADER], [u8; 32]) {
    let hkdf = Hkdf::<Sha256>::new(None, &STANDARD.decode(KEYS[0]).unwrap());
    let expand = |parts: &[&[u8]], out: &mut [u8]| {
        let prefixed = parts.iter().flat_map(|part| [&(part.len() as u32).to_le_bytes(), *part].concat());
        hkdf.expand(&prefixed.collect::<Vec<_>>(), out).unwrap();
    };
    let label = b"cookie-session/v1";
    let (mut header, mut key) = ([facts.suite; HEADER], [0; 32]);
    expand(&[label, b"key-id"], &mut header[1..]);
    let suite = [facts.suite];
    expand(&[label, &suite, purpose.as_bytes(), NAME.as_bytes(), context.as_bytes()], &mut key);
    (header, key)
}

fn keyed(key: [u8; 32]) -> Hmac<Sha256> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap()
}

fn new_sessions_have_ids_of_their_own(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let id = || {
        let cookie = layer.codec().seal(&shop("x"), None, None, noon()).unwrap();
        open(&layer, &[&cookie]).meta().unwrap().id()
    };
    assert_ne!(id(), id());
}

fn a_fallback_key_opens_and_is_counted(facts: &Facts) {
    let old = layer(facts, ring(0, []));
    let new = layer(facts, ring(1, [2, 0]));
    let cookie = old.codec().seal(&shop("x"), None, None, noon()).unwrap();
    serve(&new, &headers(&[&cookie]), |session| {
        assert_eq!(session.get(), shop("x"));
        assert_eq!(session.meta().unwrap().key_id(), key(0).id());
    });
    let opened = new.keys().counters().opened_by_fallback;
    assert_eq!(opened, [(key(2).id(), 0), (key(0).id(), 1)]);
}

fn a_write_moves_a_session_to_the_primary_key(facts: &Facts) {
    let old = layer(facts, ring(0, []));
    let new = layer(facts, ring(1, [0]));
    let cookie = old.codec().seal(&shop("x"), None, None, noon()).unwrap();
    let (response, ()) = serve(&new, &headers(&[&cookie]), |session| session.set(shop("y")).unwrap());
    let alone = layer(facts, ring(1, []));
    assert_eq!(alone.codec().open(&jar(&response), noon()).value(), Some(&shop("y")));
}

fn a_read_leaves_a_session_at_its_fallback_key_until_the_threshold(facts: &Facts) {
    let clock = Clock::at(noon());
    let old = layer(facts, ring(0, []));
    let new = builder(facts, ring(1, [0]), &clock).build().unwrap();
    let cookie = old.codec().seal(&shop("x"), None, None, noon()).unwrap();
    clock.set(noon() + THRESHOLD - Duration::from_millis(1));
    let (response, _) = serve(&new, &headers(&[&cookie]), |session| session.get());
    assert_eq!(set_cookies(&response), Vec::<&str>::new());
    clock.set(noon() + THRESHOLD);
    let (response, _) = serve(&new, &headers(&[&cookie]), |session| session.get());
    let opened = new.codec().open(&jar(&response), clock.now());
    assert_eq!(opened.value(), Some(&shop("x")));
    assert_eq!(opened.meta().unwrap().key_id(), key(1).id());
    assert_eq!(opened.meta().unwrap().id(), open(&old, &[&cookie]).meta().unwrap().id());
}

fn an_unknown_key_does_not_open(facts: &Facts) {
    let cookie = layer(facts, ring(0, [])).codec().seal(&shop("x"), None, None, noon()).unwrap();
    let layer = layer(facts, ring(1, [2]));
    assert_rejected(&layer, &headers(&[&cookie]), RejectedKind::UnknownKey);
    assert_eq!(layer.keys().counters().unknown_keys, 1);
}

fn rotation_signs_nobody_out(facts: &Facts) {
    let [a, b] = [(); 2].map(|()| KeyRingHandle::new(ring(0, [])));
    let instances = [&a, &b].map(|handle| layer(facts, handle.clone()));
    let mut cookies = vec![instances[0].codec().seal(&shop("x"), None, None, noon()).unwrap()];
    // The stages of a deploy that reaches one instance after the other: the new key as a fallback,
    // then as the primary.
    let stages = [
        (&a, ring(0, [1]), [0, 0]),
        (&b, ring(0, [1]), [0, 0]),
        (&a, ring(1, [0]), [1, 0]),
        (&b, ring(1, [0]), [1, 1]),
    ];
    for (handle, ring, sealed_by) in stages {
        handle.replace(ring);
        for (instance, primary) in instances.iter().zip(sealed_by) {
            for cookie in &cookies {
                assert_eq!(open(instance, &[cookie]).value(), Some(&shop("x")));
            }
            let (response, ()) =
                serve(instance, &headers(&[&cookies[0]]), |session| session.set(shop("y")).unwrap());
            for reader in &instances {
                let opened = reader.codec().open(&jar(&response), noon());
                assert_eq!(opened.value(), Some(&shop("y")));
                assert_eq!(opened.meta().unwrap().key_id(), key(primary).id());
            }
        }
        cookies.extend(instances.iter().map(|i| i.codec().seal(&shop("x"), None, None, noon()).unwrap()));
    }
    // The old key is dropped: what it sealed is no longer read, all that is newer is.
    a.replace(ring(1, []));
    assert_eq!(open(&instances[0], &[&cookies[0]]).incoming(), Incoming::Rejected(RejectedKind::UnknownKey));
    for cookie in &cookies[cookies.len() - 2..] {
        assert_eq!(open(&instances[0], &[cookie]).value(), Some(&shop("x")));
    }
}

fn the_other_mode_is_not_accepted(facts: &Facts) {
    let cookie = other_layer(facts).codec().seal(&shop("x"), None, None, noon()).unwrap();
    assert_rejected(&layer(facts, ring(0, [])), &headers(&[&cookie]), RejectedKind::SuiteNotAccepted);
}

fn accept_mode_reads_the_other_mode(facts: &Facts) {
    let both = builder(facts, ring(0, []), &Clock::at(noon())).accept_mode(facts.other).build().unwrap();
    let cookie = other_layer(facts).codec().seal(&shop("x"), None, None, noon()).unwrap();
    let opened = open(&both, &[&cookie]);
    assert_eq!(opened.value(), Some(&shop("x")));
    assert_eq!(opened.meta().unwrap().mode(), facts.other);
    // What it writes is in its own mode all the same.
    let cookie = both.codec().seal(&shop("x"), None, None, noon()).unwrap();
    assert_eq!(raw(&cookie)[0], facts.suite);
    assert_eq!(open(&both, &[&cookie]).meta().unwrap().mode(), facts.mode);
}

fn a_write_moves_a_session_from_the_other_mode(facts: &Facts) {
    let both = builder(facts, ring(0, []), &Clock::at(noon())).accept_mode(facts.other).build().unwrap();
    let other = other_layer(facts);
    let cookie = other.codec().seal(&shop("x"), None, None, noon()).unwrap();
    let (response, ()) = serve(&both, &headers(&[&cookie]), |session| session.set(shop("y")).unwrap());
    let opened = layer(facts, ring(0, [])).codec().open(&jar(&response), noon());
    assert_eq!(opened.value(), Some(&shop("y")));
    assert_eq!(opened.meta().unwrap().mode(), facts.mode);
    assert_eq!(opened.meta().unwrap().id(), open(&other, &[&cookie]).meta().unwrap().id());
}

fn a_read_leaves_a_session_in_the_other_mode_until_the_threshold(facts: &Facts) {
    let clock = Clock::at(noon());
    let both = builder(facts, ring(0, []), &clock).accept_mode(facts.other).build().unwrap();
    let cookie = other_layer(facts).codec().seal(&shop("x"), None, None, noon()).unwrap();
    clock.set(noon() + THRESHOLD - Duration::from_millis(1));
    let (response, _) = serve(&both, &headers(&[&cookie]), |session| session.get());
    assert_eq!(set_cookies(&response), Vec::<&str>::new());
    clock.set(noon() + THRESHOLD);
    let (response, _) = serve(&both, &headers(&[&cookie]), |session| session.get());
    let opened = layer(facts, ring(0, [])).codec().open(&jar(&response), clock.now());
    assert_eq!(opened.value(), Some(&shop("x")));
}

fn a_session_with_its_own_lifetime_is_reissued_to_move_only(facts: &Facts) {
    let clock = Clock::at(noon());
    let former = layer(facts, ring(0, []));
    let (sent, ()) = serve(&former, &HeaderMap::new(), |session| {
        session.set(shop("x")).unwrap();
        session.set_lifetime(Lifetime::Own(DAY)).unwrap();
    });
    let cases = [
        (builder(facts, ring(0, []), &clock), false),
        (builder(facts, ring(0, [1]), &clock), false),
        (builder(facts, ring(1, [0]), &clock), true),
        (builder(facts, ring(0, []), &clock).mode(facts.other).accept_mode(facts.mode), true),
    ];
    for (builder, moves) in cases {
        let layer = builder.build().unwrap();
        for (age, due) in [(THRESHOLD - Duration::from_millis(1), false), (THRESHOLD, moves)] {
            clock.set(noon() + age);
            let (response, _) = serve(&layer, &jar(&sent), |session| session.get());
            assert_eq!(set_cookies(&response).len(), usize::from(due));
            if due {
                let opened = layer.codec().open(&jar(&response), clock.now());
                assert_eq!(opened.value(), Some(&shop("x")));
                assert_eq!(opened.meta().unwrap().lifetime(), Lifetime::Own(DAY));
                assert_eq!(opened.meta().unwrap().renewed_at(), noon());
            }
        }
    }
}

fn a_session_does_not_move_to_another_cookie_name(facts: &Facts) {
    let clock = Clock::at(noon());
    let [one, two] =
        ["one", "two"].map(|name| builder(facts, ring(0, []), &clock).name(name).build().unwrap());
    let cookie = one.codec().seal(&shop("x"), None, None, noon()).unwrap();
    assert_eq!(open(&one, &[&cookie]).value(), Some(&shop("x")));
    assert_rejected(&two, &named("two", cookie.value()), RejectedKind::NotAuthentic);
}

fn a_session_does_not_move_to_another_context(facts: &Facts) {
    let clock = Clock::at(noon());
    let with = |context: &str| builder(facts, ring(0, []), &clock).context(context).build().unwrap();
    let cookie = with("shop").codec().seal(&shop("x"), None, None, noon()).unwrap();
    assert_eq!(open(&with("shop"), &[&cookie]).value(), Some(&shop("x")));
    for context in ["", "Shop", "shop ", "sho", "shop2"] {
        assert_rejected(&with(context), &headers(&[&cookie]), RejectedKind::NotAuthentic);
    }
}

fn name_and_context_do_not_run_into_each_other(facts: &Facts) {
    let clock = Clock::at(noon());
    let build = |name: &str, context: &str| {
        builder(facts, ring(0, []), &clock).name(name).context(context).build().unwrap()
    };
    let cookie = build("ab", "c").codec().seal(&shop("x"), None, None, noon()).unwrap();
    assert_rejected(&build("a", "bc"), &named("a", cookie.value()), RejectedKind::NotAuthentic);
    assert_rejected(&build("abc", ""), &named("abc", cookie.value()), RejectedKind::NotAuthentic);
}

fn a_session_does_not_move_to_another_key(facts: &Facts) {
    let both = layer(facts, ring(1, [0]));
    let cookie = layer(facts, ring(0, [])).codec().seal(&shop("x"), None, None, noon()).unwrap();
    let sealed_by_other = both.codec().seal(&shop("x"), None, None, noon()).unwrap();
    let mut bytes = raw(&cookie);
    bytes[1..HEADER].copy_from_slice(&raw(&sealed_by_other)[1..HEADER]);
    let value = URL_SAFE_NO_PAD.encode(bytes);
    assert_eq!(open(&both, &[&cookie]).value(), Some(&shop("x")));
    assert_rejected(&both, &named(cookie.name(), &value), RejectedKind::NotAuthentic);
}

fn a_session_does_not_move_to_another_mode(facts: &Facts) {
    let both = builder(facts, ring(0, []), &Clock::at(noon())).accept_mode(facts.other).build().unwrap();
    let cookie = both.codec().seal(&shop("x"), None, None, noon()).unwrap();
    let mut bytes = raw(&cookie);
    bytes[0] = ENCRYPTED.suite + SIGNED.suite - facts.suite;
    let value = URL_SAFE_NO_PAD.encode(bytes);
    assert_rejected(&both, &named(cookie.name(), &value), RejectedKind::NotAuthentic);
}

fn a_marker_is_no_session(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let marker = marker(&layer);
    assert_rejected(&layer, &named(NAME, marker.value()), RejectedKind::NotAuthentic);
    // Nor for a layer whose session cookie has the marker's name.
    let named_so = builder(facts, ring(0, []), &Clock::at(noon())).name(marker.name()).build().unwrap();
    assert_rejected(&named_so, &named(marker.name(), marker.value()), RejectedKind::NotAuthentic);
}

fn a_session_is_no_marker(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let cookie = layer.codec().seal(&shop("x"), None, None, noon()).unwrap();
    assert_no_marker(&layer, cookie.value());
    let out = format!("{NAME}-out");
    let named_so = builder(facts, ring(0, []), &Clock::at(noon())).name(out).build().unwrap();
    assert_no_marker(&layer, named_so.codec().seal(&shop("x"), None, None, noon()).unwrap().value());
}

fn a_marker_signs_out_where_it_was_made(facts: &Facts) {
    let layer = layer(facts, ring(0, []));
    let marker = marker(&layer);
    assert_eq!(marker.name(), format!("{NAME}-out"));
    assert_eq!(raw(&marker)[0], facts.suite);
    assert_eq!(raw(&marker).len(), HEADER + facts.nonce + 8 + facts.tag);
    let cookie = layer.codec().seal(&shop("x"), None, None, noon()).unwrap();
    let cookies = headers(&[&cookie, &marker]);
    assert_rejected(&layer, &cookies, RejectedKind::SignedOut);
    assert_eq!(layer.codec().open(&cookies, noon()).marker(), Some(noon()));
}

fn a_marker_does_not_move_to_another_cookie_name(facts: &Facts) {
    let named = builder(facts, ring(0, []), &Clock::at(noon())).name("another").build().unwrap();
    assert_no_marker(&layer(facts, ring(0, [])), marker(&named).value());
}

fn a_marker_does_not_move_to_another_context(facts: &Facts) {
    let other = builder(facts, ring(0, []), &Clock::at(noon())).context("another").build().unwrap();
    assert_no_marker(&layer(facts, ring(0, [])), marker(&other).value());
}

fn a_marker_does_not_move_to_another_key(facts: &Facts) {
    let marker = marker(&layer(facts, ring(0, [])));
    assert_no_marker(&layer(facts, ring(1, [])), marker.value());
    let both = layer(facts, ring(1, [0]));
    let mut bytes = raw(&marker);
    bytes[1..HEADER].copy_from_slice(&raw(&self::marker(&both))[1..HEADER]);
    assert_no_marker(&both, &URL_SAFE_NO_PAD.encode(bytes));
}

fn a_marker_does_not_move_to_another_mode(facts: &Facts) {
    let marker = marker(&other_layer(facts));
    assert_no_marker(&layer(facts, ring(0, [])), marker.value());
    let both = builder(facts, ring(0, []), &Clock::at(noon())).accept_mode(facts.other).build().unwrap();
    let mut bytes = raw(&marker);
    bytes[0] = facts.suite;
    assert_no_marker(&both, &URL_SAFE_NO_PAD.encode(bytes));
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Shop {
    user: Option<u64>,
    note: String,
}

fn shop(note: &str) -> Shop {
    Shop { user: Some(4_294_967_297), note: note.to_owned() }
}

const NAME: &str = "__Host-Http-session";
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const IDLE: Duration = Duration::from_secs(30 * 60);
/// A tenth of the idle timeout.
const THRESHOLD: Duration = Duration::from_secs(3 * 60);

const NOON_MILLIS: u64 = 1_800_000_000_000;

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(NOON_MILLIS)
}

/// Fixed keys, so that their ids differ for certain.
const KEYS: [&str; 3] = [
    "iSKAamfAL6VMAXQwIHl90fVDUTAiNNSkHAzhe85NVQw=",
    "9mjR0YvJCaP0l20zgkBiCGAb5Hz1vvSIKQkMAIcyUe4=",
    "cLnI/7g1vS9SZ5A3qVqECkc2SkRLuGdB3qTk4VwLrGs=",
];

fn key(index: usize) -> Key {
    KEYS[index].parse().unwrap()
}

fn ring<const N: usize>(primary: usize, fallbacks: [usize; N]) -> KeyRing {
    KeyRing::new(key(primary), fallbacks.map(key)).unwrap()
}

fn builder(facts: &Facts, keys: impl Into<KeyRingHandle>, clock: &Clock) -> SessionBuilder<Shop> {
    let clock = clock.clone();
    SessionLayer::builder(keys).mode(facts.mode).idle_timeout(IDLE).clock(move || clock.now())
}

fn layer(facts: &Facts, keys: impl Into<KeyRingHandle>) -> SessionLayer<Shop> {
    builder(facts, keys, &Clock::at(noon())).build().unwrap()
}

fn other_layer(facts: &Facts) -> SessionLayer<Shop> {
    builder(facts, ring(0, []), &Clock::at(noon())).mode(facts.other).build().unwrap()
}

/// The sign-out marker that a layer sends at noon.
fn marker(layer: &SessionLayer<Shop>) -> SetCookie {
    let cookie = layer.codec().seal(&shop("x"), None, None, noon()).unwrap();
    let removals = layer.codec().removals(&open(layer, &[&cookie]), noon());
    assert_eq!(removals.marker(), Some(noon()));
    removals.cookies().last().unwrap().clone()
}

/// Sent where the marker stands, this value signs nobody out.
fn assert_no_marker(layer: &SessionLayer<Shop>, value: &str) {
    let cookie = layer.codec().seal(&shop("x"), None, None, noon()).unwrap();
    let mut cookies = headers(&[&cookie]);
    cookies.append(COOKIE, format!("{NAME}-out={value}").parse().unwrap());
    let opened = layer.codec().open(&cookies, noon());
    assert_eq!((opened.incoming(), opened.marker()), (Incoming::Accepted, None));
}

/// The codec says why, and the layer starts fresh and leaves the cookie alone.
fn assert_rejected(layer: &SessionLayer<Shop>, cookies: &HeaderMap, kind: RejectedKind) {
    let opened = layer.codec().open(cookies, noon());
    assert_eq!(opened.incoming(), Incoming::Rejected(kind));
    assert_eq!(opened.value(), None);
    let (response, ()) = serve(layer, cookies, |session| {
        assert_eq!(session.incoming(), Incoming::Rejected(kind));
        assert!(session.is_new());
        assert_eq!(session.get(), Shop::default());
    });
    assert_eq!(set_cookies(&response), Vec::<&str>::new());
}

fn open(layer: &SessionLayer<Shop>, cookies: &[&SetCookie]) -> Opened<Shop> {
    layer.codec().open(&headers(cookies), noon())
}

fn headers(cookies: &[&SetCookie]) -> HeaderMap {
    cookies.iter().map(|cookie| (COOKIE, cookie.request_header())).collect()
}

fn named(name: &str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, format!("{name}={value}").parse::<HeaderValue>().unwrap())])
}

/// What a browser with no other cookies sends back.
fn jar(response: &Response<()>) -> HeaderMap {
    let pair = |cookie: &str| -> (HeaderName, HeaderValue) {
        let (name, value) = pair(cookie);
        (COOKIE, format!("{name}={value}").parse().unwrap())
    };
    set_cookies(response).into_iter().map(pair).collect()
}

fn set_cookies(response: &Response<()>) -> Vec<&str> {
    response.headers().get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap()).collect()
}

fn pair(set_cookie: &str) -> (&str, &str) {
    set_cookie.split(';').next().unwrap().split_once('=').unwrap()
}

fn raw(cookie: &SetCookie) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(cookie.value()).unwrap()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
