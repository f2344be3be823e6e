//! Random inputs: what one seals, the other two open as the same; what all three compute is equal.

use interop_tests::{Programs, Reader, Rng, Session, Settings, Under, hex, key_id, seeds, time};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// For each seed.
const CASES: usize = 500;

const FIELDS: [&str; 9] =
    ["flags", "schema", "shape", "id", "created", "renewed", "issued", "own", "payload"];

fn cookie(settings: &Settings, session: &str) -> Vec<u8> {
    format!("{}={session}", settings.name).into_bytes()
}

/// The same with the sign-out marker behind it.
fn cookies(settings: &Settings, session: &str, marker: &str) -> Vec<u8> {
    format!("{0}={session}; {0}-out={marker}", settings.name).into_bytes()
}

fn value(answer: &Value) -> &str {
    answer["value"].as_str().expect("a sealed value")
}

struct Case {
    settings: Settings,
    reader: Box<dyn Reader>,
    now: i64,
    under: Under,
    nonce: [u8; 24],
    session: Session,
    marker: u64,
}

impl Case {
    fn random(rng: &mut Rng) -> Case {
        let (settings, now) = (Settings::random(rng), rng.clock());
        let session = Session::random(rng, &settings, now);
        let marker = match rng.below(4) {
            0 => rng.number(),
            1 => session.created,
            2 => session.created + 1,
            _ => session.created.saturating_sub(1),
        };
        Case {
            reader: settings.reader(),
            under: settings.under(rng),
            nonce: rng.array(),
            settings,
            now,
            session,
            marker,
        }
    }
}

#[test]
fn what_any_of_the_three_seals_is_equal_and_opens_as_the_same_in_all() {
    let mut programs = Programs::start();
    for seed in seeds("sealed by all") {
        let cases: Vec<_> = (0..CASES).map(|case| Case::random(&mut Rng::new(seed, case))).collect();
        // With the nonce given, and drawn.
        let seals = cases.iter().flat_map(|Case { under, nonce, session, marker, .. }| {
            [Some(*nonce), None]
                .into_iter()
                .flat_map(|nonce| [session.request(under, nonce), under.marker_request(nonce, *marker)])
        });
        let seals: Vec<_> = seals.collect();
        let sealed = programs.ask(&seals);

        let mut opens = Vec::new();
        let mut expected = Vec::new();
        for (case, answers) in cases.iter().zip(sealed.chunks(4)) {
            let Case { settings, reader, now, under, nonce, session, marker } = case;
            let at = || format!("COOKIE_SESSION_SEED={seed}, {}", session.request(under, Some(*nonce)));
            let ours = under.session(*nonce, &session.plaintext());
            let our_marker = under.marker(*nonce, &marker.to_le_bytes());
            for ((node, python), ours) in answers.iter().zip([&ours, &our_marker]) {
                assert_eq!((value(node), value(python)), (&**ours, &**ours), "{}", at());
            }
            let headers = [cookie(settings, &ours)];
            let alone = reader.open(&headers, *now);
            opens.push(settings.open_request(&headers, *now));
            expected.push(alone.clone());
            let headers = [cookies(settings, &ours, &our_marker)];
            let beside = reader.open(&headers, *now);
            assert_eq!(reader.marker(&headers), Some(*marker), "{}", at());
            opens.push(settings.open_request(&headers, *now));
            expected.push(beside.clone());
            // Each program's own, with a nonce that it drew.
            let drawn =
                |pick: fn(&(Value, Value)) -> &Value| [value(pick(&answers[2])), value(pick(&answers[3]))];
            for [session, marker] in [drawn(|(node, _)| node), drawn(|(_, python)| python)] {
                let is_drawn = under.mode == cookie_session::Mode::Encrypted;
                assert_eq!((session != ours, marker != our_marker), (is_drawn, is_drawn), "{}", at());
                assert_eq!(reader.open(&[cookie(settings, session)], *now), alone, "{}", at());
                let headers = [cookies(settings, session, marker)];
                assert_eq!(reader.open(&headers, *now), beside, "{}", at());
                assert_eq!(reader.marker(&headers), Some(case.marker), "{}", at());
            }
        }
        let mut classes = BTreeMap::new();
        for (i, answers) in programs.ask(&opens).iter().enumerate() {
            let Case { reader, session, under, .. } = &cases[i / 2];
            let at = || format!("COOKIE_SESSION_SEED={seed}, {}", opens[i]);
            for answer in [&answers.0, &answers.1] {
                assert_eq!(reader.in_its_words(answer), expected[i], "{}", at());
                if answer["class"] == "accepted" {
                    let request = session.request(under, None);
                    for field in FIELDS {
                        assert_eq!(answer[field], request[field], "{field}, {}", at());
                    }
                }
            }
            *classes.entry(expected[i]["class"].to_string()).or_insert(0) += 1;
        }
        let of = |class: &str| classes.get(&format!("{class:?}")).copied().unwrap_or(0);
        let all = [of("accepted"), of("from_the_future"), of("expired"), of("signed_out")];
        assert!(all.iter().all(|&of| of > CASES / 50), "{classes:?}");
    }
}

#[test]
fn what_the_crate_seals_by_its_public_way_opens_as_the_same_in_both_programs() {
    let mut programs = Programs::start();
    for seed in seeds("sealed by the crate") {
        let (mut opens, mut expected) = (Vec::new(), Vec::new());
        let mut rewritten = 0;
        for case in 0..CASES {
            let mut rng = Rng::new(seed, case);
            let (settings, now) = (Settings::random(&mut rng), rng.clock());
            let reader = settings.reader();
            let (value, payload) = reader.seal(&mut rng, None, now).expect("a new session");
            let headers = [cookie(&settings, &value)];
            let new = reader.open(&headers, now);
            let began = time(now);
            for (field, expected) in [
                ("class", json!("accepted")),
                // None of ours began at 0, where those of older formats do.
                ("created", json!(began.max(1))),
                ("renewed", json!(began)),
                ("issued", json!(began)),
                ("payload", json!(hex(&payload))),
            ] {
                assert_eq!(new[field], expected, "{field}, COOKIE_SESSION_SEED={seed}, {settings:?}");
            }
            let lasts = rng.pick(&[settings.idle, settings.absolute, 1000]) as i64;
            let later = now.saturating_add(rng.pick(&[0, lasts - 1, lasts, lasts + 1, -60_000, -60_001]));
            let again = reader.seal(&mut rng, Some(&headers), later);
            rewritten += usize::from(again.is_some());
            let again = again.map(|(value, _)| ([cookie(&settings, &value)], later));
            for (headers, now) in [(headers.clone(), now), (headers, later)].into_iter().chain(again) {
                opens.push(settings.open_request(&headers, now));
                expected.push((reader.open(&headers, now), settings.clone()));
            }
        }
        assert!(rewritten > CASES / 10, "{rewritten}");
        for ((answers, (expected, settings)), request) in
            programs.ask(&opens).iter().zip(&expected).zip(&opens)
        {
            for answer in [&answers.0, &answers.1] {
                let answer = settings.reader().in_its_words(answer);
                assert_eq!(answer, *expected, "COOKIE_SESSION_SEED={seed}, {request}");
            }
        }
    }
}

#[test]
fn a_key_has_one_id_in_all_three() {
    let mut programs = Programs::start();
    for seed in seeds("key ids") {
        let keys: Vec<[u8; 32]> = (0..CASES).map(|case| Rng::new(seed, case).array()).collect();
        let requests: Vec<_> = keys.iter().map(|key| json!({ "do": "key_id", "key": hex(key) })).collect();
        for (key, answer) in keys.iter().zip(programs.agree(&requests)) {
            assert_eq!(answer["id"], key_id(key), "{}", hex(key));
        }
    }
}
