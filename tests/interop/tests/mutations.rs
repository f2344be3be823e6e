//! Cookies that were sealed, and then changed at random: all three say the same class, or accept the same
//! one.

use cookie_session::Mode;
use interop_tests::{Programs, Rng, Session, Settings, Under, context, name, seeds};
use std::collections::BTreeMap;

/// For each seed.
const CASES: usize = 1000;

const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The octets of a frame; `None` where they are none.
fn frame(value: &[u8]) -> Option<Vec<u8>> {
    let mut bits = 0u32;
    let mut frame = Vec::new();
    for (i, octet) in value.iter().enumerate() {
        bits = bits << 6 | SYMBOLS.iter().position(|symbol| symbol == octet)? as u32;
        if i % 4 > 0 {
            frame.push((bits >> (6 - 2 * (i % 4))) as u8);
        }
    }
    Some(frame)
}

fn text(frame: &[u8]) -> Vec<u8> {
    let symbols = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        (0..=three.len()).map(|i| SYMBOLS[(bits >> (18 - 6 * i)) as usize % 64]).collect::<Vec<_>>()
    };
    frame.chunks(3).flat_map(symbols).collect()
}

/// An octet that a header can have.
fn octet(rng: &mut Rng) -> u8 {
    match rng.below(4) {
        0 => rng.pick(b" \t;,=\"%+/\xa0"),
        1 => rng.pick(SYMBOLS),
        _ => Some(rng.word() as u8).filter(|octet| !octet.is_ascii_control()).unwrap_or(b'~'),
    }
}

fn flip(rng: &mut Rng, octets: &mut [u8]) {
    if !octets.is_empty() {
        octets[rng.below(octets.len())] ^= 1 << rng.below(8);
    }
}

/// Cut somewhere, or longer.
fn stretch(rng: &mut Rng, octets: &mut Vec<u8>, more: Vec<u8>) {
    if rng.once_in(2) {
        octets.truncate(rng.below(octets.len() + 1));
    } else {
        octets.extend(more);
    }
}

/// Changes a payload.
fn spoil(rng: &mut Rng, payload: &mut Vec<u8>) {
    let few = 1 + rng.below(4);
    match rng.below(8) {
        0 => flip(rng, payload),
        1 => *payload = rng.bytes(few),
        2 | 3 => {
            let more = rng.bytes(few);
            stretch(rng, payload, more);
        }
        // Where a bool, an option or a number has its edges.
        _ if !payload.is_empty() => {
            let at = rng.pick(&[0, 0, 1, 2, 3]).min(payload.len() - 1);
            payload[at] = rng.pick(&[2, 2, 0, 1, 0x7f, 0x80, 0xff]);
        }
        _ => {}
    }
}

/// What stands in a session's cookie, which may not be a session.
fn plaintext(rng: &mut Rng, settings: &Settings, session: &mut Session) -> Vec<u8> {
    match rng.below(16) {
        0 => session.flags = rng.pick(&[1, 1, 2, 3, 0x80, 0xff]),
        1 => session.own = rng.pick(&[1, u32::MAX]),
        2 | 11 | 12 => {
            session.schema =
                rng.pick(&[0, settings.schema, settings.earlier, u16::MAX, session.schema ^ 0x100])
        }
        3 => flip(rng, &mut session.shape),
        4..=7 => spoil(rng, &mut session.payload),
        8 => {
            let mut plaintext = session.plaintext();
            plaintext.truncate(rng.below(46));
            return plaintext;
        }
        _ => {}
    }
    session.plaintext()
}

/// What it is sealed under, which may not be what the reader opens with.
fn under(rng: &mut Rng, settings: &Settings) -> Under {
    let mut under = settings.under(rng);
    match rng.below(24) {
        0 => under.key = rng.array(),
        1 => under.name = name(rng),
        2 => under.name += "-out",
        3 => under.context = context(rng),
        4 | 6..=11 => under.mode = rng.pick(&[Mode::Encrypted, Mode::Signed]),
        5 => {
            // The boundary of two fields moves.
            if let Some(last) = under.name.pop().filter(|_| !under.name.is_empty()) {
                under.context.insert(0, last);
            } else {
                under.context.push(' ');
                under.name = settings.name.clone();
            }
        }
        _ => {}
    }
    under
}

/// A value, changed.
fn mutated(rng: &mut Rng, settings: &Settings, value: String) -> Vec<u8> {
    let mut value = value.into_bytes();
    let mut octets = frame(&value).expect("a frame");
    let few = 1 + rng.below(5);
    match rng.below(25) {
        0 | 1 => flip(rng, &mut octets),
        2 => {
            let more = rng.bytes(few);
            stretch(rng, &mut octets, more);
        }
        3 => octets.truncate(rng.below(64)),
        4 | 20 => octets[0] = rng.pick(&[0, 1, 2, 3, 0x81, 0xff]),
        5 => octets[1 + rng.below(4)] ^= 1 << rng.below(8),
        6 => {
            let other = Under { key: rng.pick(&settings.keys), ..settings.under(rng) };
            let other = frame(other.session([0; 24], &[]).as_bytes()).expect("a frame");
            octets[1..5].copy_from_slice(&other[1..5]);
        }
        7 => octets.extend(vec![0; rng.pick(&[3070, 3072, 3073, 4000]) - octets.len().min(3000)]),
        changes_text => {
            match changes_text {
                8 => value.extend(&b"==="[..rng.below(3) + 1]),
                9 => value.iter_mut().for_each(|c| match c {
                    b'-' => *c = b'+',
                    b'_' => *c = b'/',
                    _ => {}
                }),
                10 => *value.last_mut().expect("a frame") = rng.pick(SYMBOLS),
                11 => {
                    let more = (0..few).map(|_| octet(rng)).collect();
                    stretch(rng, &mut value, more);
                }
                12 => {
                    let at = rng.below(value.len());
                    value[at] = octet(rng);
                }
                13 => value.insert(rng.below(value.len() + 1), octet(rng)),
                14 => value = [b"\"", &value[..], b"\""].concat(),
                15 => value.splice(..1, format!("%{:02X}", value[0]).into_bytes()).for_each(drop),
                16 | 21..=24 => value.resize(rng.pick(&[4095, 4096, 4097, 4097, 4098]), b'A'),
                17 => value.truncate(few),
                _ => value = (0..rng.below(9)).map(|_| octet(rng)).collect(),
            }
            return value;
        }
    }
    text(&octets)
}

/// The part of a header that has the value: one that is ours, or looks like it.
fn part(rng: &mut Rng, spoil: usize, name: &str, value: &[u8]) -> Vec<u8> {
    let value = [b"=", value].concat();
    let name = name.as_bytes();
    let way = if rng.once_in(spoil * 2) { rng.below(14) } else { 14 };
    let parts: &[&[u8]] = match way {
        0 => &[b"\xa0", name, &value],
        1 => &[b"\xc2\xa0", name, &value],
        2 => &[name, b"\xa0", &value],
        3 => &[&name.to_ascii_uppercase(), &value],
        4 => &[b"x", name, &value],
        5 => &[name, b"x", &value],
        6 => &[name, b"=", &value],
        7 => &[name, b" \t ", &value],
        8 => &[b"\t ", name, b"= ", &value[1..], b" \t"],
        9 => &[name, &value[1..]],
        10 => &[b"\"", name, &value, b"\""],
        11 => &[b"=", name, &value],
        12 => &[b"other=\"", name, &value],
        13 => &[b"other=1,", name, &value],
        _ => &[name, &value],
    };
    parts.concat()
}

type Request = (Settings, Vec<Vec<u8>>, i64);

/// A request: its settings, its `Cookie` headers and its time.
fn request(rng: &mut Rng) -> Request {
    let (settings, now) = (Settings::random(rng), rng.clock());
    let mut parts = Vec::new();
    let mut sessions: Vec<Session> = Vec::new();
    let count = match rng.below(12) {
        0 | 1 => 8 + rng.below(5),
        2..=4 => 2 + rng.below(3),
        _ => 1,
    };
    let spoil = rng.pick(&[1, 1, 2, 8, 100]);
    for _ in 0..count {
        let mut session = Session::random(rng, &settings, now);
        if let Some(earlier) = sessions.last().filter(|_| rng.once_in(3)) {
            session.issued = earlier.issued;
        }
        let mut under = settings.under(rng);
        let mut plaintext = session.plaintext();
        if rng.once_in(spoil) {
            under = self::under(rng, &settings);
            plaintext = self::plaintext(rng, &settings, &mut session);
        }
        let marker = rng.once_in(30);
        let sealed = if marker {
            under.marker(rng.array(), &plaintext)
        } else {
            under.session(rng.array(), &plaintext)
        };
        let value =
            if rng.once_in(spoil * 2) { mutated(rng, &settings, sealed) } else { sealed.into_bytes() };
        parts.push(part(rng, spoil, &settings.name, &value));
        sessions.push(session);
    }
    let markers = match rng.below(12) {
        0 => 8 + rng.below(5),
        1..=4 => 1 + rng.below(2),
        _ => 0,
    };
    for _ in 0..markers {
        let created = rng.pick(&sessions).created;
        let time = match rng.below(6) {
            0 => created,
            1 => created.saturating_add(1),
            2 | 3 => created.saturating_sub(1),
            4 => 0,
            _ => rng.number(),
        };
        let under = if rng.once_in(spoil * 2) { self::under(rng, &settings) } else { settings.under(rng) };
        let mut plaintext = time.to_le_bytes().to_vec();
        if rng.once_in(8) {
            stretch(rng, &mut plaintext, vec![0]);
        }
        let session = rng.once_in(12);
        let sealed = if session {
            under.session(rng.array(), &plaintext)
        } else {
            under.marker(rng.array(), &plaintext)
        };
        let value =
            if rng.once_in(spoil * 2) { mutated(rng, &settings, sealed) } else { sealed.into_bytes() };
        let place = rng.below(parts.len() + 1);
        parts.insert(place, part(rng, spoil, &format!("{}-out", settings.name), &value));
    }
    for _ in 0..rng.below(3) {
        let noise = [&b""[..], b" ", b"other=1", b"=", settings.name.as_bytes(), b"\xff\xfe=\xa0", b"=;="];
        parts.insert(rng.below(parts.len() + 1), rng.pick(&noise).to_vec());
    }
    let mut headers = vec![Vec::new()];
    for (i, part) in parts.into_iter().enumerate() {
        if i > 0 && rng.once_in(4) {
            headers.push(Vec::new());
        } else if i > 0 {
            headers.last_mut().expect("one").extend(rng.pick(&["; ", ";", "\t;\t ", "; ;"]).bytes());
        }
        headers.last_mut().expect("one").extend(part);
    }
    for header in &mut headers {
        // What http itself refuses.
        header.retain(|&octet| octet == b'\t' || !octet.is_ascii_control());
    }
    (settings, headers, now)
}

/// How often the three say each class.
fn classes(
    programs: &mut Programs,
    seed: u64,
    request: impl Fn(&mut Rng) -> Request,
) -> BTreeMap<String, usize> {
    let cases: Vec<_> = (0..CASES).map(|case| request(&mut Rng::new(seed, case))).collect();
    let requests: Vec<_> =
        cases.iter().map(|(settings, headers, now)| settings.open_request(headers, *now)).collect();
    let mut classes = BTreeMap::new();
    let answers = programs.ask(&requests);
    for (((settings, headers, now), request), (node, python)) in cases.iter().zip(&requests).zip(&answers) {
        let reader = settings.reader();
        let ours = reader.open(headers, *now);
        let headers: Vec<_> = headers.iter().map(|header| header.escape_ascii().to_string()).collect();
        let at = || format!("COOKIE_SESSION_SEED={seed}, {request}\n{headers:#?}");
        assert_eq!(ours, reader.in_its_words(node), "the crate and Node, {}", at());
        assert_eq!(ours, reader.in_its_words(python), "the crate and Python, {}", at());
        *classes.entry(ours["class"].as_str().expect("a class").to_owned()).or_default() += 1;
    }
    classes
}

#[test]
fn whatever_is_changed_all_three_say_the_same() {
    let mut programs = Programs::start();
    for seed in seeds("mutations") {
        let classes = classes(&mut programs, seed, request);
        // Each class is met, but for the one that is the application's.
        for class in [
            "absent",
            "too_long",
            "malformed",
            "suite_not_accepted",
            "unknown_key",
            "not_authentic",
            "from_the_future",
            "expired",
            "signed_out",
            "schema",
            "payload",
        ] {
            assert!(classes.contains_key(class), "{class}, COOKIE_SESSION_SEED={seed}: {classes:?}");
        }
        assert!(classes["accepted"] > CASES / 5, "COOKIE_SESSION_SEED={seed}: {classes:?}");
    }
}

/// A session that is good but for its payload.
fn request_of_payload(rng: &mut Rng) -> Request {
    let (settings, now) = (Settings::random(rng), 1_700_000_000_000);
    let mut session = Session::random(rng, &settings, now as i64);
    (session.created, session.renewed, session.issued) = (now, now, now);
    spoil(rng, &mut session.payload);
    let sealed = settings.under(rng).session(rng.array(), &session.plaintext());
    let header = format!("{}={sealed}", settings.name).into_bytes();
    (settings, vec![header], now as i64)
}

#[test]
fn whether_a_payload_is_good_all_three_say_the_same() {
    let mut programs = Programs::start();
    for seed in seeds("payloads") {
        let classes = classes(&mut programs, seed, request_of_payload);
        let [good, bad] = ["accepted", "payload"].map(|class| classes.get(class).copied().unwrap_or(0));
        assert!(good > CASES / 5 && bad > CASES / 5, "COOKIE_SESSION_SEED={seed}: {classes:?}");
        assert_eq!(good + bad, CASES, "COOKIE_SESSION_SEED={seed}: {classes:?}");
    }
}
