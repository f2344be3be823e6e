//! Keys: how they are written, which are refused and why, their ids, and rings from the environment.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use cookie_session::{Key, KeyError, KeyId, KeyRing, KeyRingHandle, SessionId, SessionLayer, Weakness};
use hkdf::Hkdf;
use http::{HeaderMap, header::COOKIE};
use proptest::prelude::*;
use sha2::Sha256;
use std::{
    collections::HashSet,
    error::Error as _,
    ffi::OsString,
    io::{self, Read as _},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, UNIX_EPOCH},
};

/// SHA-256 of "one" and of "two", with ids from another implementation of HKDF (Python's hmac).
const ONE: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
const ONE_ID: &str = "ddb91114";
const TWO: &str = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";
const TWO_ID: &str = "a0a7d55d";

/// Two keys with one id, found among 130,000 hashes.
const TWIN: &str = "2d523a615dfb03b609424d0029490c9852e7e2f2496c5e2f9b0e65b737bfb7dd";
const OTHER_TWIN: &str = "b2b1e2a67170743cf55d6e532951a7a6f970b5b4cae1292dfc275e0871bcae7b";
const TWIN_ID: &str = "332f6c84";

const WAY_OUT: &str = "openssl rand -base64 32";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn fault(text: &str) -> KeyError {
    text.parse::<Key>().expect_err(text)
}

fn weakness(bytes: &[u8; 32]) -> Option<Weakness> {
    match hex(bytes).parse::<Key>() {
        Ok(_) => None,
        Err(KeyError::Weak(weakness)) => Some(weakness),
        Err(other) => panic!("{other:?}"),
    }
}

/// Bytes that look random and are the same in each run.
fn scrambled(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

mod parsing {
    use super::*;

    fn spellings(bytes: &[u8]) -> Vec<String> {
        let lower = hex(bytes);
        let mixed = lower.chars().zip([true, false, false].into_iter().cycle());
        vec![
            lower.clone(),
            lower.to_uppercase(),
            mixed.map(|(c, upper)| if upper { c.to_ascii_uppercase() } else { c }).collect(),
            STANDARD.encode(bytes),
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
        ]
    }

    #[test]
    fn every_spelling_of_a_key_is_that_key() {
        // 0xfb, 0xef and 0xff are where the two alphabets of base64 differ.
        let mut bytes = unhex(ONE);
        bytes[3..6].copy_from_slice(&[0xfb, 0xef, 0xff]);
        let expected = key(&hex(&bytes));
        assert!(STANDARD.encode(&bytes).contains('+') && STANDARD.encode(&bytes).contains('/'));
        for spelling in spellings(&bytes) {
            assert_eq!(key(&spelling), expected, "{spelling}");
        }
    }

    #[test]
    fn white_space_around_a_key_is_trimmed_newlines_too() {
        for space in ["\n", "\r\n", " ", "\t", "\n\n", " \t\r\n "] {
            for spelling in spellings(&unhex(ONE)) {
                assert_eq!(key(&format!("{spelling}{space}")), key(ONE));
                assert_eq!(key(&format!("{space}{spelling}")), key(ONE));
                assert_eq!(key(&format!("{space}{spelling}{space}")), key(ONE));
            }
        }
    }

    #[test]
    fn what_openssl_prints_is_a_key() {
        // The output of `openssl rand -base64 32` and of `openssl rand -hex 32`, newline included.
        assert!("Bk6CYBAtZ0SEYlRrlzYLlsqDPX3U1xLjMQ3mVA6k4vo=\n".parse::<Key>().is_ok());
        assert!("1a8d9ad19e6cb0ea3f4cbbaa45a13be2cea3f20a5bb2c4d1fd4e1a6a0b0fd5c7\n".parse::<Key>().is_ok());
    }

    #[test]
    fn nothing_or_white_space_alone_is_empty() {
        for text in ["", " ", "\n", "\r\n\t "] {
            assert_eq!(fault(text), KeyError::Empty);
        }
    }

    #[test]
    fn text_that_is_neither_base64_nor_hexadecimal_is_refused() {
        let base64 = STANDARD.encode(unhex(ONE));
        let broken = [
            "correct horse battery staple".to_owned(),
            "pässwörter".to_owned(),
            format!("\"{base64}\""),
            format!("{}\n{}", &base64[..20], &base64[20..]),
            format!("{} {}", &base64[..20], &base64[20..]),
            format!("base64:{base64}"),
            // Both alphabets in one.
            format!("+-{}", &base64[2..]),
            // Bits left over behind the last byte: another text for the same key.
            format!("{}F", "A".repeat(42)),
            // A digit that is none.
            format!("{}g\u{0}", &ONE[..62]),
        ];
        for text in broken {
            assert_eq!(fault(&text), KeyError::Encoding, "{text:?}");
        }
    }

    #[test]
    fn every_length_but_32_bytes_is_refused_with_the_length_that_was_found() {
        for bytes in (1..100).filter(|bytes| *bytes != 32) {
            let text = STANDARD.encode(scrambled(7).take(bytes).collect::<Vec<_>>());
            assert_eq!(fault(&text), KeyError::Length { bytes });
            assert!(fault(&text).to_string().contains(&bytes.to_string()));
        }
    }

    #[test]
    fn sixty_four_hexadecimal_digits_are_never_read_as_base64() {
        // Both are valid; as base64 it would be 48 bytes.
        assert_eq!(key(ONE), key(&STANDARD.encode(unhex(ONE))));
        assert_eq!(fault(&ONE[..60]), KeyError::Length { bytes: 45 });
    }

    #[test]
    fn each_refusal_says_how_a_good_key_is_made() {
        for text in ["", "hunter2", "hunter2!", "changeme", &"ab".repeat(32), &ONE[..60], "AAAA"] {
            assert!(fault(text).to_string().contains(WAY_OUT), "{}", fault(text));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_parses_or_is_refused_and_never_panics(text in any::<String>()) {
            let _ = text.parse::<Key>();
        }

        #[test]
        fn all_spellings_of_any_key_agree(bytes in any::<[u8; 32]>()) {
            for spelling in spellings(&bytes) {
                prop_assert_eq!(spelling.parse::<Key>(), hex(&bytes).parse::<Key>());
            }
        }
    }
}

mod weak {
    use super::*;

    #[test]
    fn a_pattern_of_up_to_sixteen_bytes_that_repeats_is_refused_a_longer_one_is_not() {
        // A scrambled start, all bytes different, so that nothing but the period gives it away.
        let mut seen = HashSet::new();
        let distinct: Vec<u8> = scrambled(1).filter(|byte| seen.insert(*byte)).take(32).collect();
        for period in 1..=31 {
            let bytes: [u8; 32] = std::array::from_fn(|at| distinct[at % period]);
            let expected = (period <= 16).then_some(Weakness::Repeats);
            assert_eq!(weakness(&bytes), expected, "period {period}");
        }
    }

    #[test]
    fn bytes_that_count_up_or_down_by_any_step_are_refused() {
        for start in [0, 1, 0x41, 0x80, 0xff] {
            for step in 0..=255 {
                let bytes: [u8; 32] =
                    std::array::from_fn(|at| (step as u8).wrapping_mul(at as u8).wrapping_add(start));
                // Steps that come round within 16 bytes repeat as well.
                let expected = if step % 16 == 0 { Weakness::Repeats } else { Weakness::Counts };
                assert_eq!(weakness(&bytes), Some(expected), "from {start} by {step}");
            }
        }
    }

    #[test]
    fn one_wrong_step_is_no_counting() {
        let mut bytes: [u8; 32] = std::array::from_fn(|at| at as u8);
        bytes[31] = 0xee;
        assert_eq!(weakness(&bytes), None);
        bytes[31] = 31;
        bytes[0] = 0xee;
        assert_eq!(weakness(&bytes), None);
    }

    #[test]
    fn twelve_different_bytes_are_too_few_and_thirteen_are_enough() {
        for values in 1..=32 {
            let mut seen = HashSet::new();
            let distinct: Vec<u8> = scrambled(2).filter(|byte| seen.insert(*byte)).take(values).collect();
            // Each value once, then others in no order.
            let mut order = scrambled(3);
            let bytes: [u8; 32] = std::array::from_fn(|at| {
                distinct[if at < values { at } else { usize::from(order.next().unwrap()) % values }]
            });
            match (values, weakness(&bytes)) {
                (1, Some(Weakness::Repeats)) | (2..=12, Some(Weakness::FewValues)) | (13.., None) => {}
                (_, found) => panic!("{values} different bytes: {found:?}"),
            }
        }
    }

    #[test]
    fn published_keys_are_refused_in_every_spelling() {
        let published = [
            // NIST SP 800-38A, F.1.5
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            // RFC 8439, section 2.4.2, and RFC 9180 style counters
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
            // The Fernet specification; Airflow's compose files
            "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=",
            "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=",
        ];
        for text in published {
            let bytes = match text.len() {
                64 => unhex(text),
                _ => URL_SAFE.decode(text.replace('+', "-").replace('/', "_")).unwrap(),
            };
            let spellings = [
                hex(&bytes),
                hex(&bytes).to_uppercase(),
                STANDARD.encode(&bytes),
                URL_SAFE_NO_PAD.encode(&bytes),
            ];
            for spelling in spellings {
                let Err(KeyError::Weak(why)) = spelling.parse::<Key>() else { panic!("{text} is accepted") };
                assert!(matches!(why, Weakness::Published | Weakness::Counts), "{text}: {why:?}");
            }
        }
    }

    #[test]
    fn secrets_that_other_software_shipped_are_refused() {
        // The defaults of Superset (CVE-2023-27524), and what people type.
        let shipped = [
            "\u{2}\u{1}thisismyscretkey\u{1}\u{2}\\e\\y\\y\\h",
            "CHANGE_ME_TO_A_COMPLEX_RANDOM_SECRET",
            "thisISaSECRET_1234",
            "YOUR_OWN_RANDOM_GENERATED_SECRET_KEY",
            "TEST_NON_DEV_SECRET",
            "changemechangemechangemechangeme",
            "keyboard cat",
            "01234567890123456789012345678901",
        ];
        for secret in shipped {
            assert!(fault(secret).to_string().contains(WAY_OUT), "{secret:?}");
            for encoded in [STANDARD.encode(secret), hex(secret.as_bytes())] {
                assert!(fault(&encoded).to_string().contains(WAY_OUT), "{encoded}");
            }
        }
    }

    #[test]
    fn each_weakness_is_named_in_the_message() {
        let samples = [
            (hex(&[7; 32]), "repeats"),
            (hex(&std::array::from_fn::<u8, 32, _>(|at| at as u8)), "count"),
            ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4".to_owned(), "published"),
            (
                hex(&std::array::from_fn::<u8, 32, _>(|at| [9, 8, 7, 1, 4, 2][at * at % 31 % 6])),
                "12 different",
            ),
        ];
        for (text, word) in samples {
            let message = fault(&text).to_string();
            assert!(
                message.contains("weak") && message.contains(word) && message.contains(WAY_OUT),
                "{message}"
            );
        }
    }

    #[test]
    fn text_of_enough_variety_is_accepted_since_a_random_key_is_text_too_often() {
        let text = b"The quick brown fox jumps over a";
        assert_eq!(weakness(text), None);
        // (95/256)^32: once in 2^45.8, far more often than what may be refused.
        assert!(32.0 * (95.0_f64 / 256.0).log2() > -46.0);
    }

    #[test]
    fn random_keys_are_accepted() {
        let keys = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
        let mut bytes = vec![0; 32 * 1000];
        for _ in 0..keys / 1000 {
            getrandom::fill(&mut bytes).unwrap();
            for bytes in bytes.chunks(32) {
                assert!(STANDARD.encode(bytes).parse::<Key>().is_ok(), "{}", hex(bytes));
            }
        }
    }

    #[test]
    fn the_checks_together_refuse_a_random_key_less_than_once_in_2_to_the_64() {
        // How many of the 256^32 keys have exactly `d` different values: choose the values in
        // order, and part the 32 places among them (a Stirling number of the second kind).
        let mut stirling = [0.0_f64; 33];
        stirling[0] = 1.0;
        for _ in 0..32 {
            for d in (1..33).rev() {
                stirling[d] = stirling[d - 1] + d as f64 * stirling[d];
            }
            stirling[0] = 0.0;
        }
        let all = 256.0_f64.powi(32);
        let exactly = |d: usize| (0..d).map(|at| (256 - at) as f64).product::<f64>() * stirling[d] / all;
        assert!(((1..=32).map(exactly).sum::<f64>() - 1.0).abs() < 1e-9, "they are all keys");

        let few = (1..=12).map(exactly).sum::<f64>();
        assert!(few < 2.0_f64.powi(-75) && few > 2.0_f64.powi(-76), "2^{}", few.log2());

        // A pattern of `p` bytes fixes the other 32 - p.
        let repeats = (1..=16).map(|period| 256.0_f64.powi(period - 32)).sum::<f64>();
        assert!(repeats < 2.0_f64.powi(-127), "2^{}", repeats.log2());
        // A start and a step fix the rest.
        let counts = 256.0_f64.powi(2 - 32);
        assert_eq!(counts, 2.0_f64.powi(-240));
        // With room for a list of a thousand published keys.
        let published = 1000.0 / all;
        assert!(few + repeats + counts + published < 2.0_f64.powi(-64));
    }
}

mod identity {
    use super::*;

    fn length_prefixed(parts: &[&[u8]]) -> Vec<u8> {
        parts.iter().flat_map(|part| [&(part.len() as u32).to_le_bytes()[..], part].concat()).collect()
    }

    #[test]
    fn an_id_is_eight_hexadecimal_digits_and_stays_the_same() {
        for (text, id) in [(ONE, ONE_ID), (TWO, TWO_ID), (TWIN, TWIN_ID), (OTHER_TWIN, TWIN_ID)] {
            assert_eq!(key(text).id().to_string(), id);
            assert_eq!(format!("{:?}", key(text).id()), id);
        }
    }

    #[test]
    fn an_id_is_derived_by_hkdf_under_a_label_of_its_own() {
        for text in [ONE, TWO] {
            let mut id = [0; 4];
            let info = length_prefixed(&[b"cookie-session/v1", b"key-id"]);
            Hkdf::<Sha256>::new(None, &unhex(text)).expand(&info, &mut id).unwrap();
            assert_eq!(key(text).id().to_string(), hex(&id));
        }
    }

    #[test]
    fn leading_zeros_of_an_id_are_shown() {
        let zero = (0..10_000_u32).map(|seed| {
            let mut bytes: [u8; 32] = std::array::from_fn(|at| unhex(ONE)[at]);
            bytes[..4].copy_from_slice(&seed.to_be_bytes());
            key(&hex(&bytes)).id().to_string()
        });
        let found = zero.inspect(|id| assert_eq!(id.len(), 8, "{id}")).find(|id| id.starts_with('0'));
        assert!(found.is_some());
    }

    #[test]
    fn the_id_is_in_clear_in_each_cookie_and_is_the_primary_keys() {
        let ring = KeyRing::new(key(ONE), [key(TWO)]).unwrap();
        let layer = SessionLayer::<u64>::builder(ring).build().unwrap();
        let cookie = layer.codec().seal(&1, None, None, UNIX_EPOCH).unwrap();
        let frame = URL_SAFE_NO_PAD.decode(cookie.value()).unwrap();
        assert_eq!(hex(&frame[1..5]), ONE_ID);
    }

    #[test]
    fn ids_can_be_ordered_compared_and_hashed() {
        let (one, two) = (key(ONE).id(), key(TWO).id());
        assert!(two < one, "by their bytes: {two} before {one}");
        assert_eq!(one, key(ONE).id());
        assert_eq!(HashSet::from([one, two, key(ONE).id()]).len(), 2);
        let copy: KeyId = one;
        assert_eq!(copy, one);
    }

    #[test]
    fn keys_are_equal_if_all_their_bits_are() {
        assert_eq!(key(ONE), key(ONE));
        assert_eq!(key(ONE).clone(), key(ONE));
        for bit in 0..256 {
            let mut bytes = unhex(ONE);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(key(&hex(&bytes)), key(ONE), "bit {bit}");
        }
        // The id alone does not make them equal.
        assert_ne!(key(TWIN), key(OTHER_TWIN));
        assert_eq!(key(TWIN).id(), key(OTHER_TWIN).id());
    }

    #[test]
    fn a_clone_seals_what_its_original_opens() {
        let cookie = |key: Key| {
            let layer = SessionLayer::<u64>::builder(KeyRing::new(key, []).unwrap()).build().unwrap();
            layer.codec().seal(&7, None, None, UNIX_EPOCH).unwrap().request_header()
        };
        let original = key(ONE);
        let sealed = cookie(original.clone());
        let layer = SessionLayer::<u64>::builder(KeyRing::new(original, []).unwrap()).build().unwrap();
        let opened = layer.codec().open(&HeaderMap::from_iter([(COOKIE, sealed)]), UNIX_EPOCH);
        assert_eq!(opened.value(), Some(&7));
    }

    #[test]
    fn debug_shows_the_id_and_nothing_of_the_secret() {
        assert_eq!(format!("{:?}", key(ONE)), format!("Key({ONE_ID}, ..)"));
        let ring = KeyRing::new(key(ONE), [key(TWO)]).unwrap();
        let handle = KeyRingHandle::new(ring.clone());
        for debug in [format!("{ring:?}"), format!("{ring:#?}"), format!("{handle:?}")] {
            assert!(debug.contains(ONE_ID) && debug.contains(TWO_ID), "{debug}");
            for text in [ONE, TWO] {
                // As hexadecimal, as a list of numbers, as base64.
                let numbers = unhex(text)[..2].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
                assert!(!debug.contains(&text[..6]) && !debug.contains(&numbers), "{debug}");
                assert!(!debug.contains(&STANDARD.encode(unhex(text))[..6]), "{debug}");
            }
        }
    }

    #[test]
    fn generated_keys_differ() {
        let keys: Vec<Key> = (0..100).map(|_| Key::generate().unwrap()).collect();
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[at + 1..].contains(key));
        }
    }
}

mod rings {
    use super::*;

    fn ring(primary: &str, fallbacks: &[&str]) -> Result<KeyRing, KeyError> {
        KeyRing::new(key(primary), fallbacks.iter().map(|text| key(text)))
    }

    #[test]
    fn a_key_twice_on_a_ring_is_refused_wherever_it_stands() {
        assert_eq!(ring(ONE, &[ONE]).err(), Some(KeyError::Duplicate));
        assert_eq!(ring(ONE, &[TWO, TWO]).err(), Some(KeyError::Duplicate));
        assert_eq!(ring(ONE, &[TWO, TWIN, ONE]).err(), Some(KeyError::Duplicate));
        assert_eq!(ring(ONE, &[&STANDARD.encode(unhex(ONE))]).err(), Some(KeyError::Duplicate));
        assert!(ring(ONE, &[TWO, TWIN]).is_ok());
        assert!(KeyError::Duplicate.to_string().contains("each fallback once"));
    }

    #[test]
    fn two_different_keys_with_one_id_are_refused_wherever_they_stand() {
        let same = KeyError::SameId { id: TWIN_ID.to_owned() };
        let message = same.to_string();
        assert!(
            message.contains(TWIN_ID) && message.contains("newer") && message.contains(WAY_OUT),
            "{message}"
        );
        let expected = Some(same);
        assert_eq!(ring(TWIN, &[OTHER_TWIN]).err(), expected);
        assert_eq!(ring(OTHER_TWIN, &[ONE, TWIN]).err(), expected);
        assert_eq!(ring(ONE, &[TWIN, TWO, OTHER_TWIN]).err(), expected);
    }
}

#[test]
fn ids_are_read_as_they_are_shown_and_nothing_else_is() {
    let key: KeyId = "0123abcd".parse().unwrap();
    assert_eq!((key.to_string(), format!("{key:?}")), ("0123abcd".to_owned(), "0123abcd".to_owned()));
    assert_eq!("0123ABCD".parse(), Ok(key));
    let text = "00112233445566778899aabbccddeeff";
    let session: SessionId = text.parse().unwrap();
    assert_eq!((session.to_string(), format!("{session:?}")), (text.to_owned(), text.to_owned()));
    assert_eq!(session.to_bytes()[..3], [0x00, 0x11, 0x22]);
    for good in ["0123abcd", text] {
        // A number's parser would take the sign, and fewer digits.
        let sign = format!("+{}", &good[1..]);
        let others =
            ["", &good[1..], &format!("0{good}"), &sign, &good.replace('1', "g"), &format!("{good} ")];
        for other in others {
            assert!(other.parse::<KeyId>().is_err() && other.parse::<SessionId>().is_err(), "{other:?}");
        }
    }
    assert!(text.parse::<KeyId>().is_err() && "0123abcd".parse::<SessionId>().is_err());
    let said = text.parse::<KeyId>().unwrap_err().to_string();
    assert!(said.contains("32 hexadecimal digits") && said.contains(" 8"), "{said}");
}

mod environment {
    use super::*;

    /// With a digit, and long enough for a key.
    const VAR: &str = "V2_RING_OF_THE_TEST";
    const CHILD: &str = "environment::child_that_prints_its_ring";

    /// Not a test of its own: the others run it in a process that has the environment they want.
    #[test]
    #[ignore = "run by other tests, with an environment of their making"]
    fn child_that_prints_its_ring() {
        match KeyRing::from_env(VAR) {
            Ok(ring) => {
                let layer = SessionLayer::<u64>::builder(ring).build().unwrap();
                let cookie = layer.codec().seal(&1, None, None, UNIX_EPOCH).unwrap();
                let headers = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
                let opened = layer.codec().open(&headers, UNIX_EPOCH);
                let mut ids = vec![opened.meta().unwrap().key_id()];
                ids.extend(layer.keys().counters().opened_by_fallback.iter().map(|(id, _)| *id));
                println!("\nring {ids:?}");
            }
            Err(error) => {
                println!("\nerror {error:?}\nmessage {error}");
                if let Some(source) = error.source() {
                    println!("source {source}");
                }
            }
        }
    }

    /// A folder that goes away with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path =
                PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn file(&self, name: &str, content: impl AsRef<[u8]>) -> OsString {
            let path = self.0.join(name);
            std::fs::write(&path, content).unwrap();
            path.into()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// What the child prints; it has to come to an end.
    fn run(variables: &[(&str, OsString)]) -> String {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", CHILD, "--ignored", "--nocapture"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        for (suffix, value) in variables {
            command.env(format!("{VAR}{suffix}"), value);
        }
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (done, result) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            let read = stdout.read_to_string(&mut text);
            done.send(read.map(|_| text))
        });
        let text = result.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| {
            child.kill().unwrap();
            panic!("from_env takes for ever");
        });
        assert!(child.wait().unwrap().success());
        text.unwrap()
    }

    /// The primary's id and those of the fallbacks, or the error's `Debug` and its message.
    fn ring_of(variables: &[(&str, OsString)]) -> Result<Vec<String>, (String, String)> {
        let stdout = run(variables);
        let line = |start: &str| stdout.lines().find_map(|line| line.strip_prefix(start));
        match line("ring ") {
            Some(ids) => Ok(ids.trim_matches(['[', ']']).split(", ").map(str::to_owned).collect()),
            None => Err((line("error ").expect(&stdout).to_owned(), line("message ").unwrap().to_owned())),
        }
    }

    fn ids(variables: &[(&str, OsString)]) -> Vec<String> {
        ring_of(variables).unwrap()
    }

    /// The error's message, once it is known to be this error.
    fn message(variables: &[(&str, OsString)], expected: KeyError) -> String {
        let (error, message) = ring_of(variables).expect_err("a fault");
        assert_eq!(error, format!("{expected:?}"));
        assert_eq!(message, expected.to_string());
        message
    }

    fn at(place: &str, error: KeyError) -> KeyError {
        KeyError::At { place: format!("{VAR}{place}"), error: Box::new(error) }
    }

    #[test]
    fn the_primary_stands_in_the_variable_or_in_the_file_that_is_named() {
        let folder = Folder::new("primary");
        assert_eq!(ids(&[("", ONE.into())]), [ONE_ID]);
        assert_eq!(ids(&[("", format!(" {ONE}\n").into())]), [ONE_ID]);
        let file = folder.file("key", STANDARD.encode(unhex(ONE)) + "\n");
        assert_eq!(ids(&[("_FILE", file)]), [ONE_ID]);
    }

    #[test]
    fn fallbacks_are_separated_by_commas_or_lines() {
        let folder = Folder::new("fallbacks");
        let three = [ONE_ID, TWO_ID, TWIN_ID];
        let lists = [
            format!("{TWO},{TWIN}"),
            format!("{TWO}\n{TWIN}"),
            format!("{TWO}\r\n{TWIN}\r\n"),
            format!(" {TWO} , {TWIN} "),
            format!("{TWO},\n{TWIN},\n"),
            format!(",,{TWO},,\n\n,{TWIN},,"),
            format!("{},{TWIN}", STANDARD.encode(unhex(TWO))),
        ];
        for list in lists {
            assert_eq!(ids(&[("", ONE.into()), ("_FALLBACKS", list.clone().into())]), three, "{list:?}");
            let file = folder.file("list", &list);
            assert_eq!(ids(&[("", ONE.into()), ("_FALLBACKS_FILE", file)]), three, "{list:?}");
        }
        assert_eq!(ids(&[("", ONE.into()), ("_FALLBACKS", TWO.into())]), [ONE_ID, TWO_ID]);
        let (primary, file) = (folder.file("one", ONE), folder.file("two", TWO));
        assert_eq!(ids(&[("_FILE", primary), ("_FALLBACKS_FILE", file)]), [ONE_ID, TWO_ID]);
    }

    #[test]
    fn no_fallbacks_or_nothing_in_them_is_a_ring_of_one() {
        let folder = Folder::new("none");
        for nothing in ["", " ", "\n", ",", " ,\n, "] {
            assert_eq!(ids(&[("", ONE.into()), ("_FALLBACKS", nothing.into())]), [ONE_ID]);
            let file = folder.file("list", nothing);
            assert_eq!(ids(&[("", ONE.into()), ("_FALLBACKS_FILE", file)]), [ONE_ID]);
        }
        assert_eq!(ids(&[("", ONE.into()), ("_FALLBACKS_FILE", "".into())]), [ONE_ID]);
    }

    #[test]
    fn a_primary_that_is_not_set_is_missing() {
        let missing = || KeyError::Missing { var: VAR.to_owned() };
        let said = message(&[], missing());
        assert!(
            said.contains(VAR) && said.contains(&format!("{VAR}_FILE")) && said.contains(WAY_OUT),
            "{said}"
        );
        message(&[("_FALLBACKS", " ".into())], missing());
        // A fallback does not stand in for it, and is no sign that nothing was meant to be set.
        message(&[("_FALLBACKS", TWO.into())], KeyError::FallbacksAlone { var: VAR.to_owned() });
    }

    #[test]
    fn a_primary_that_is_empty_is_not_missing_but_empty() {
        let folder = Folder::new("empty");
        for nothing in ["", " ", "\n"] {
            message(&[("", nothing.into())], at("", KeyError::Empty));
            let file = folder.file("key", nothing);
            let said = message(&[("_FILE", file)], at("_FILE", KeyError::Empty));
            assert!(said.contains(&format!("{VAR}_FILE")) && said.contains(WAY_OUT), "{said}");
        }
        // No path at all is as if the file were empty.
        message(&[("_FILE", "".into())], at("_FILE", KeyError::Empty));
    }

    #[test]
    fn both_forms_at_once_are_refused_even_if_one_is_empty() {
        let folder = Folder::new("both");
        let file = || folder.file("key", ONE);
        for text in [ONE, ""] {
            let both = KeyError::BothSet { var: VAR.to_owned() };
            message(&[("", text.into()), ("_FILE", file())], both);
            let both = KeyError::BothSet { var: format!("{VAR}_FALLBACKS") };
            let variables = [("", ONE.into()), ("_FALLBACKS", text.into()), ("_FALLBACKS_FILE", file())];
            let said = message(&variables, both);
            assert!(said.contains("unset one of them"), "{said}");
        }
    }

    #[test]
    fn a_fault_in_a_key_is_said_with_the_place_and_the_keys_number() {
        let folder = Folder::new("places");
        message(&[("", "hunter2!".into())], at("", KeyError::Encoding));
        let list = format!("{TWO},\n\n{}", &TWIN[..60]);
        let short = || KeyError::Length { bytes: 45 };
        let variables = [("", ONE.into()), ("_FALLBACKS", list.clone().into())];
        message(&variables, at("_FALLBACKS, key 2", short()));
        let file = folder.file("list", list);
        message(&[("", ONE.into()), ("_FALLBACKS_FILE", file)], at("_FALLBACKS_FILE, key 2", short()));
        // Two keys with a blank between them are one text that is no key.
        let variables = [("", ONE.into()), ("_FALLBACKS", format!("{TWO} {TWIN}").into())];
        message(&variables, at("_FALLBACKS, key 1", KeyError::Encoding));
        // A list is no primary.
        message(&[("", format!("{ONE},{TWO}").into())], at("", KeyError::Encoding));
        let weak = KeyError::Weak(Weakness::Repeats);
        let variables = [("", ONE.into()), ("_FALLBACKS", "00".repeat(32).into())];
        message(&variables, at("_FALLBACKS, key 1", weak));
    }

    #[test]
    fn a_key_twice_or_an_id_twice_is_said_with_the_variable() {
        let variables = |list: String| [("", TWIN.into()), ("_FALLBACKS", list.into())];
        message(&variables(format!("{ONE},{TWIN}")), at("", KeyError::Duplicate));
        let same = KeyError::SameId { id: TWIN_ID.to_owned() };
        message(&variables(format!("{ONE},{OTHER_TWIN}")), at("", same));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_said_without_its_path() {
        let folder = Folder::new("unreadable");
        let missing = folder.0.join("no_such_file");
        let unreadable = |kind| KeyError::Unreadable { kind };
        let said = message(&[("_FILE", missing.into())], at("_FILE", unreadable(io::ErrorKind::NotFound)));
        assert!(!said.contains("no_such_file"), "{said}");
        // A key where its file's path should be.
        message(&[("_FILE", ONE.into())], at("_FILE", unreadable(io::ErrorKind::NotFound)));
        let variables = [("", ONE.into()), ("_FALLBACKS_FILE", "no_such_file".into())];
        message(&variables, at("_FALLBACKS_FILE", unreadable(io::ErrorKind::NotFound)));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_is_no_file() {
        let folder = Folder::new("folder");
        let expected = KeyError::Unreadable { kind: io::ErrorKind::IsADirectory };
        message(&[("_FILE", folder.0.clone().into())], at("_FILE", expected));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_unicode_is_refused_and_not_missing() {
        use std::os::unix::ffi::OsStringExt as _;
        let folder = Folder::new("unicode");
        let bytes = || [ONE.as_bytes(), b"\xff"].concat();
        let said = message(&[("", OsString::from_vec(bytes()))], at("", KeyError::NotUnicode));
        assert!(said.contains(WAY_OUT), "{said}");
        let file = folder.file("key", bytes());
        message(&[("_FILE", file)], at("_FILE", KeyError::NotUnicode));
        let variables = [("", ONE.into()), ("_FALLBACKS", OsString::from_vec(bytes()))];
        message(&variables, at("_FALLBACKS", KeyError::NotUnicode));
        // 32 raw bytes in a file are no text of a key.
        let file = folder.file("raw", unhex(OTHER_TWIN));
        message(&[("_FILE", file)], at("_FILE", KeyError::NotUnicode));
        // A path need not be Unicode.
        let path = folder.0.join(OsString::from_vec(b"caf\xe9".to_vec()));
        if std::fs::write(&path, ONE).is_ok() {
            assert_eq!(ids(&[("_FILE", path.into())]), [ONE_ID]);
        }
    }

    #[test]
    fn a_huge_file_or_one_without_an_end_is_refused_and_does_not_hang() {
        let folder = Folder::new("huge");
        let too_large = || KeyError::Unreadable { kind: io::ErrorKind::FileTooLarge };
        let huge = folder.file("huge", format!("{ONE}{}", "\n".repeat(1 << 20)));
        message(&[("_FILE", huge.clone())], at("_FILE", too_large()));
        // 64 KiB is the most.
        let padded = |len: usize| folder.file("padded", format!("{ONE}{}", "\n".repeat(len - ONE.len())));
        assert_eq!(ids(&[("_FILE", padded(64 * 1024))]), [ONE_ID]);
        message(&[("_FILE", padded(64 * 1024 + 1))], at("_FILE", too_large()));
        // Not even cut where that would do.
        message(&[("", TWO.into()), ("_FALLBACKS_FILE", huge)], at("_FALLBACKS_FILE", too_large()));
        if cfg!(target_os = "linux") {
            for suffix in ["_FILE", "_FALLBACKS_FILE"] {
                let mut variables = vec![(suffix, OsString::from("/dev/zero"))];
                if suffix != "_FILE" {
                    variables.push(("", ONE.into()));
                }
                message(&variables, at(suffix, too_large()));
            }
        }
    }

    #[test]
    fn a_cause_is_in_the_message_and_not_a_source_that_would_say_it_twice() {
        let stdout = run(&[("", "hunter2!".into())]);
        let line = |start: &str| stdout.lines().find_map(|line| line.strip_prefix(start));
        assert!(line("message ").unwrap().ends_with(&KeyError::Encoding.to_string()), "{stdout}");
        assert_eq!(line("source "), None);
    }
}
