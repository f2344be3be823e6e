//! Whatever a client sends: no panic, a fresh session, the cookie left alone, and the reason known.

mod common;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{Clock, serve};
use cookie_session::{
    CLOCK_SKEW, Incoming, Key, KeyRing, Lifetime, Mode, RejectedKind, SessionBuilder, SessionLayer,
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{COOKIE, SET_COOKIE, VARY},
};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use std::{
    fmt::Debug,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const MODES: [Mode; 2] = [Mode::Encrypted, Mode::Signed];

// Nothing of ours.

#[test]
fn no_cookie_header_is_absent() {
    let door = Door::new(Mode::Encrypted);
    assert_eq!(door.knock(&HeaderMap::new()), Incoming::Absent);
}

#[test]
fn headers_without_our_cookie_are_absent() {
    let door = Door::new(Mode::Encrypted);
    for text in ["", " ", ";", "=", "==", "=;=;", "a=b", "a=b; c=d", "a; b; c", NAME, "; ; ;", "\t"] {
        assert_eq!(door.knock(&header(text)), Incoming::Absent, "{text:?}");
    }
}

#[test]
fn a_name_in_another_case_is_not_ours() {
    let door = Door::new(Mode::Encrypted);
    for name in [NAME.to_lowercase(), NAME.to_uppercase(), "__host-http-session".into()] {
        assert_eq!(door.knock(&header(format!("{name}={}", door.value()))), Incoming::Absent, "{name}");
    }
}

#[test]
fn a_part_of_the_name_is_not_ours() {
    let door = Door::new(Mode::Encrypted);
    for len in 0..NAME.len() {
        let cookies = format!("{}={value}; {}={value}", &NAME[..len], &NAME[len + 1..], value = door.value());
        assert_eq!(door.knock(&header(cookies)), Incoming::Absent, "{len}");
    }
}

#[test]
fn a_name_that_has_ours_in_it_is_not_ours() {
    let door = Door::new(Mode::Encrypted);
    let value = door.value();
    for around in
        ["x{}", "{}x", "-{}", "{}-", "{}.", "\"{}\"", "{}[0]", "=({})", "={}", "a={}", "a b {}", "{} {}"]
    {
        let name = around.replace("{}", NAME);
        assert_eq!(door.knock(&header(format!("{name}={value}"))), Incoming::Absent, "{name}");
    }
}

#[test]
fn our_name_percent_encoded_is_not_ours() {
    let door = Door::new(Mode::Encrypted);
    let name = NAME.replace("_", "%5F").replace("-", "%2D");
    assert_eq!(door.knock(&header(format!("{name}={}", door.value()))), Incoming::Absent);
}

#[test]
fn our_name_with_a_blank_that_http_does_not_know_is_not_ours() {
    let door = Door::new(Mode::Encrypted);
    let blanks: [&[u8]; 9] = [
        "\u{a0}".as_bytes(),
        b"\xa0",
        "\u{85}".as_bytes(),
        b"\x85",
        "\u{2003}".as_bytes(),
        "\u{2028}".as_bytes(),
        "\u{3000}".as_bytes(),
        "\u{feff}".as_bytes(),
        "\u{200b}".as_bytes(),
    ];
    let pair = format!("{NAME}={}", door.value());
    for blank in blanks {
        for before in ["", " ", "a=b;", "a=b; "] {
            for after in ["", " "] {
                let tossed = [before.as_bytes(), blank, after.as_bytes(), pair.as_bytes()].concat();
                assert_eq!(door.knock(&header(&tossed)), Incoming::Absent, "{tossed:?}");
                // Nor does it stand in the way of the real one.
                let both = [&tossed[..], b"; ", pair.as_bytes()].concat();
                assert_eq!(door.knock(&header(both)), Incoming::Accepted);
            }
        }
        let behind = [NAME.as_bytes(), blank, b"=", door.value().as_bytes()].concat();
        assert_eq!(door.knock(&header(behind)), Incoming::Absent);
    }
}

#[test]
fn control_characters_cannot_be_in_a_header_at_all() {
    let pair = format!("{NAME}=x");
    for control in [b"\x0b", b"\x0c", b"\x1c", b"\0", b"\r", b"\n", b"\x7f"] {
        assert!(HeaderValue::from_bytes(&[control, pair.as_bytes()].concat()).is_err());
    }
}

#[test]
fn space_and_tab_around_name_and_value_do_not_count() {
    for mode in MODES {
        let door = Door::new(mode);
        let value = door.value();
        for blank in ["", " ", "\t", "  ", " \t \t"] {
            let cookies = format!("a=b;{blank}{NAME}{blank}={blank}{value}{blank};c=d");
            assert_eq!(door.knock(&header(cookies)), Incoming::Accepted, "{blank:?}");
            let cookies = format!("{blank}{NAME}={value}{blank}");
            assert_eq!(door.knock(&header(cookies)), Incoming::Accepted, "{blank:?}");
        }
    }
}

// A value that is no text of ours.

#[test]
fn an_empty_value_is_malformed() {
    let door = Door::new(Mode::Encrypted);
    for text in ["=", "= ", "=;", "=; a=b", " = ;"] {
        assert_eq!(door.knock(&header(format!("{NAME}{text}"))), MALFORMED, "{text:?}");
    }
}

#[test]
fn garbage_is_malformed() {
    for mode in MODES {
        let door = Door::new(mode);
        for value in [
            "x",
            "xy",
            "xyz",
            "abcdefghi",
            "%00",
            "=",
            "==",
            "{}",
            "null",
            "undefined",
            "j:{\"a\":1}",
            "s:x.y",
        ] {
            assert_eq!(door.knock(&ours(value)), MALFORMED, "{value:?}");
        }
        for len in 0..60 {
            assert_eq!(door.knock(&ours(&"*".repeat(len))), MALFORMED);
        }
        // What happens to decode says nothing of a mode.
        assert_eq!(door.knock(&ours("deadbeef")), SUITE);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_malformed() {
    let door = Door::new(Mode::Encrypted);
    for byte in 0x80..=0xff {
        let start = format!("{NAME}=");
        assert_eq!(door.knock(&header([start.as_bytes(), &[byte]].concat())), MALFORMED);
        let value = [start.as_bytes(), door.value().as_bytes(), &[byte]].concat();
        assert_eq!(door.knock(&header(value)), MALFORMED);
    }
}

#[test]
fn bytes_that_are_not_utf8_beside_our_cookie_do_not_matter() {
    let door = Door::new(Mode::Encrypted);
    let pair = format!("{NAME}={}", door.value());
    for byte in 0x80..=0xff {
        let cookies = [b"a=", &[byte][..], b"; ", &[byte], b"; ", pair.as_bytes(), b"; b=", &[byte]].concat();
        assert_eq!(door.knock(&header(cookies)), Incoming::Accepted);
    }
}

#[test]
fn quotes_around_the_value_are_malformed() {
    let door = Door::new(Mode::Encrypted);
    let value = door.value();
    for quoted in ["\"{}\"", "'{}'", "\"{}", "{}\"", "\"\"", "\""] {
        assert_eq!(door.knock(&ours(&quoted.replace("{}", value))), MALFORMED, "{quoted}");
    }
}

#[test]
fn a_blank_inside_the_value_is_malformed() {
    let door = Door::new(Mode::Encrypted);
    let value = door.value().as_bytes();
    for blank in [&b" "[..], b"\t", b"\xa0", "\u{a0}".as_bytes(), b"+", b"%20", b","] {
        for at in [1, 4, value.len() / 2, value.len() - 1] {
            let start = format!("{NAME}=");
            let broken = [start.as_bytes(), &value[..at], blank, &value[at..]].concat();
            assert_eq!(door.knock(&header(broken)), MALFORMED, "{blank:?} at {at}");
        }
    }
    for blank in [&b"\xa0"[..], "\u{a0}".as_bytes(), b"\x85"] {
        let start = format!("{NAME}=");
        assert_eq!(door.knock(&header([start.as_bytes(), blank, value].concat())), MALFORMED);
        assert_eq!(door.knock(&header([start.as_bytes(), value, blank].concat())), MALFORMED);
    }
}

#[test]
fn another_alphabet_is_malformed() {
    for mode in MODES {
        // Two values that differ from their standard base64, by `-` and by `_`.
        for mark in ['-', '_'] {
            let (door, value) = (0..)
                .map(|n| Door::with(mode, Cart { note: format!("attempt {n}"), ..Cart::default() }))
                .map(|door| (door.value().to_owned(), door))
                .find_map(|(value, door)| value.contains(mark).then_some((door, value)))
                .unwrap();
            let standard = value.replace('-', "+").replace('_', "/");
            assert_eq!(door.knock(&ours(&value)), Incoming::Accepted);
            assert_eq!(door.knock(&ours(&standard)), MALFORMED);
        }
        let door = Door::new(mode);
        let hex: String = door.raw().iter().map(|byte| format!("{byte:02x}")).collect();
        // Hexadecimal is base64url too, of something else.
        assert!(matches!(door.knock(&ours(&hex)), Incoming::Rejected(_)));
    }
}

#[test]
fn padding_is_malformed() {
    for mode in MODES {
        let mut seen = [false; 4];
        for len in 1..7 {
            let door = Door::with(mode, Cart { note: "x".repeat(len), ..Cart::default() });
            let value = door.value();
            seen[value.len() % 4] = true;
            assert_eq!(door.knock(&ours(value)), Incoming::Accepted);
            let needed = (4 - value.len() % 4) % 4;
            for padding in [1, 2, 3, 4, needed.max(1)] {
                assert_eq!(door.knock(&ours(&format!("{value}{}", "=".repeat(padding)))), MALFORMED);
                assert_eq!(door.knock(&ours(&format!("{value}{}", "%3D".repeat(padding)))), MALFORMED);
            }
        }
        assert_eq!(seen, [true, false, true, true], "every length of padding was tried");
    }
}

#[test]
fn bits_left_over_in_the_last_symbol_are_malformed() {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for mode in MODES {
        let mut tried = [0; 4];
        for len in 0..6 {
            let door = Door::with(mode, Cart { note: "x".repeat(len), ..Cart::default() });
            let value = door.value();
            let (start, last) = value.split_at(value.len() - 1);
            let index = ALPHABET.iter().position(|c| *c == last.as_bytes()[0]).unwrap();
            let unused = [0, 0, 0b1111, 0b11][value.len() % 4];
            for bits in 1..=unused {
                let other = char::from(ALPHABET[index | bits]);
                assert_eq!(door.knock(&ours(&format!("{start}{other}"))), MALFORMED);
                tried[value.len() % 4] += 1;
            }
        }
        assert!(tried[2] >= 15 && tried[3] >= 3, "{tried:?}");
    }
}

// A text of ours that says something else.

#[test]
fn of_all_first_bytes_only_the_suite_of_the_mode_opens() {
    for mode in MODES {
        let door = Door::new(mode);
        let both = Door::builder(mode, &door.clock).accept_mode(other(mode)).build().unwrap();
        for byte in 0..=255 {
            let mut raw = door.raw();
            raw[0] = byte;
            let cookies = ours(&URL_SAFE_NO_PAD.encode(raw));
            let (one, two) = match byte {
                byte if byte == suite(mode) => (Incoming::Accepted, Incoming::Accepted),
                1 | 2 => (SUITE, NOT_AUTHENTIC),
                _ => (SUITE, SUITE),
            };
            assert_eq!(door.knock(&cookies), one, "{byte}");
            assert_eq!(knock(&both, &cookies, noon()), two, "{byte}");
        }
    }
}

#[test]
fn an_unknown_key_is_not_tried() {
    for mode in MODES {
        let door = Door::new(mode);
        for byte in 1..5 {
            for flip in 1..=255 {
                let mut raw = door.raw();
                raw[byte] ^= flip;
                assert_eq!(door.knock(&ours(&URL_SAFE_NO_PAD.encode(raw))), UNKNOWN_KEY);
            }
        }
    }
}

#[test]
fn a_frame_cut_anywhere_does_not_open() {
    for mode in MODES {
        let door = Door::new(mode);
        let raw = door.raw();
        let least = if mode == Mode::Encrypted { 5 + 24 + 16 } else { 5 + 32 };
        for len in 0..raw.len() {
            let expected = if len < least { MALFORMED } else { NOT_AUTHENTIC };
            assert_eq!(door.knock(&ours(&URL_SAFE_NO_PAD.encode(&raw[..len]))), expected, "{len} bytes");
        }
        // At the front, the key id behind is another one.
        for len in 1..raw.len() {
            let incoming = door.knock(&ours(&URL_SAFE_NO_PAD.encode(&raw[len..])));
            assert!(matches!(incoming, Incoming::Rejected(_)), "all but {len} bytes: {incoming:?}");
        }
        // In the middle.
        for at in 5..raw.len() {
            let cut = [&raw[..at], &raw[at + 1..]].concat();
            assert_eq!(door.knock(&ours(&URL_SAFE_NO_PAD.encode(cut))), NOT_AUTHENTIC, "without byte {at}");
        }
    }
}

#[test]
fn a_value_cut_anywhere_does_not_open() {
    for mode in MODES {
        let door = Door::new(mode);
        for len in 0..door.value().len() {
            let incoming = door.knock(&ours(&door.value()[..len]));
            assert!(matches!(incoming, MALFORMED | NOT_AUTHENTIC), "{len}: {incoming:?}");
        }
    }
}

#[test]
fn a_frame_with_something_behind_it_does_not_open() {
    for mode in MODES {
        let door = Door::new(mode);
        for byte in 0..=255 {
            for count in [1, 2, 3, 16, 32] {
                let longer = [door.raw(), vec![byte; count]].concat();
                assert_eq!(door.knock(&ours(&URL_SAFE_NO_PAD.encode(longer))), NOT_AUTHENTIC);
            }
        }
        let twice = [door.raw(), door.raw()].concat();
        assert_eq!(door.knock(&ours(&URL_SAFE_NO_PAD.encode(twice))), NOT_AUTHENTIC);
        for text in ["A", "AA", "AAA", "AAAA", "AAAAA", "."] {
            let incoming = door.knock(&ours(&format!("{}{text}", door.value())));
            assert!(matches!(incoming, MALFORMED | NOT_AUTHENTIC), "{text}: {incoming:?}");
        }
    }
}

#[test]
fn a_frame_with_any_bit_flipped_does_not_open() {
    for mode in MODES {
        let door = Door::new(mode);
        for bit in 0..door.raw().len() * 8 {
            let mut raw = door.raw();
            raw[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                0 => SUITE,
                1..5 => UNKNOWN_KEY,
                _ => NOT_AUTHENTIC,
            };
            assert_eq!(door.knock(&ours(&URL_SAFE_NO_PAD.encode(raw))), expected, "bit {bit}");
        }
    }
}

#[test]
fn a_header_with_any_bit_flipped_does_not_open() {
    for mode in MODES {
        let door = Door::new(mode);
        let intact = format!("{NAME}={}", door.value()).into_bytes();
        assert_eq!(door.knock(&header(&intact)), Incoming::Accepted);
        let mut sent = 0;
        for bit in 0..intact.len() * 8 {
            let mut flipped = intact.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // What no header can hold does not reach the layer.
            if let Ok(value) = HeaderValue::from_bytes(&flipped) {
                sent += 1;
                let incoming = door.knock(&HeaderMap::from_iter([(COOKIE, value)]));
                assert_ne!(incoming, Incoming::Accepted, "bit {bit}");
                // A changed name is another cookie's, a changed value is still ours.
                assert_eq!(incoming == Incoming::Absent, bit / 8 <= NAME.len(), "bit {bit}");
            }
        }
        assert!(sent > intact.len() * 6, "{sent}");
    }
}

#[test]
fn zeros_and_ones_in_place_of_any_part_do_not_open() {
    for mode in MODES {
        let door = Door::new(mode);
        let len = door.raw().len();
        for fill in [0, 0xff] {
            for start in 5..len {
                for end in [start + 1, (start + 16).min(len), len] {
                    let mut raw = door.raw();
                    raw[start..end].fill(fill);
                    let unchanged = raw == door.raw();
                    let incoming = door.knock(&ours(&URL_SAFE_NO_PAD.encode(raw)));
                    assert_eq!(incoming, if unchanged { Incoming::Accepted } else { NOT_AUTHENTIC });
                }
            }
        }
    }
}

// Long input.

#[test]
fn a_value_of_4096_bytes_is_looked_at_and_one_of_4097_is_not() {
    for mode in MODES {
        let door = Door::new(mode);
        let mut frame = door.raw();
        frame.resize(3072, 7);
        let value = URL_SAFE_NO_PAD.encode(frame);
        assert_eq!(value.len(), 4096);
        assert_eq!(door.knock(&ours(&value)), NOT_AUTHENTIC);
        assert_eq!(door.knock(&ours(&"*".repeat(4096))), MALFORMED);
        for longer in [format!("{value}A"), format!("{value}AA"), "*".repeat(4097)] {
            assert_eq!(door.knock(&ours(&longer)), TOO_LONG, "{} bytes", longer.len());
        }
    }
}

#[test]
fn the_length_that_is_looked_at_does_not_follow_max_set_cookie() {
    let clock = Clock::at(noon());
    let small = Door::builder(Mode::Encrypted, &clock).max_set_cookie(400).build().unwrap();
    let large = Door::builder(Mode::Encrypted, &clock).build().unwrap();
    let cart = Cart { note: "x".repeat(2500), ..Cart::default() };
    let cookie = large.codec().seal(&cart, None, None, clock.now()).unwrap();
    let headers = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
    assert_eq!(small.codec().open(&headers, clock.now()).value(), Some(&cart));
}

#[test]
fn a_header_of_a_megabyte_is_no_trouble() {
    const MEGABYTE: usize = 1 << 20;
    let door = Door::new(Mode::Encrypted);
    let pair = format!("{NAME}={}", door.value());
    assert_eq!(door.knock(&ours(&"A".repeat(MEGABYTE))), TOO_LONG);
    for part in ["A", "=", ";", " ", "\t", "; ", "=;", "a=b; ", NAME, "\u{a0}"] {
        let text = part.repeat(MEGABYTE / part.len());
        assert_eq!(door.knock(&header(&text)), Incoming::Absent, "{part:?}");
        assert_eq!(door.knock(&header(format!("{text}; {pair}"))), Incoming::Accepted, "{part:?}");
    }
    let empty = format!("{NAME}=;");
    assert_eq!(door.knock(&header(empty.repeat(MEGABYTE / empty.len()))), MALFORMED);
}

// Many cookies.

#[test]
fn thousands_of_cookies_with_our_name_do_not_hide_a_good_one() {
    let door = Door::new(Mode::Encrypted);
    let mut other_suite = door.raw();
    other_suite[0] = 9;
    let mut other_key = door.raw();
    other_key[1] ^= 1;
    let [other_suite, other_key] = [other_suite, other_key].map(|raw| URL_SAFE_NO_PAD.encode(raw));
    let cases = [
        ("x", MALFORMED),
        ("", MALFORMED),
        (&other_suite, SUITE),
        (&other_key, UNKNOWN_KEY),
        (&"A".repeat(4097), TOO_LONG),
    ];
    for (value, kind) in cases {
        let pairs = vec![format!("{NAME}={value}"); 2000];
        assert_eq!(door.knock(&header(pairs.join("; "))), kind);
        let lines = |pairs: &[String]| -> HeaderMap {
            pairs.iter().map(|pair| (COOKIE, pair.parse::<HeaderValue>().unwrap())).collect()
        };
        assert_eq!(door.knock(&lines(&pairs)), kind);
        for at in [0, 1000, 2000] {
            let mut pairs = pairs.clone();
            pairs.insert(at, format!("{NAME}={}", door.value()));
            assert_eq!(door.knock(&header(pairs.join("; "))), Incoming::Accepted);
            assert_eq!(door.knock(&lines(&pairs)), Incoming::Accepted);
        }
    }
}

#[test]
fn of_cookies_that_name_our_key_the_first_eight_are_tried() {
    for mode in MODES {
        let door = Door::new(mode);
        let mut forged = door.raw();
        *forged.last_mut().unwrap() ^= 1;
        let forged = format!("{NAME}={}; ", URL_SAFE_NO_PAD.encode(forged));
        let good = format!("{NAME}={}", door.value());
        assert_eq!(door.knock(&header(format!("{}{good}", forged.repeat(7)))), Incoming::Accepted);
        assert_eq!(door.knock(&header(format!("{}{good}", forged.repeat(8)))), NOT_AUTHENTIC);
        assert_eq!(door.knock(&header(format!("{}{good}", forged.repeat(5000)))), NOT_AUTHENTIC);
        assert_eq!(door.knock(&header(format!("{good}; {}", forged.repeat(5000)))), Incoming::Accepted);
    }
}

#[test]
fn of_markers_that_name_our_key_the_first_eight_are_tried() {
    for mode in MODES {
        let door = Door::new(mode);
        let codec = door.layer.codec();
        let removals = codec.removals(&codec.open(&ours(door.value()), noon()), noon());
        let marker = removals.cookies().last().unwrap();
        let mut forged = URL_SAFE_NO_PAD.decode(marker.value()).unwrap();
        *forged.last_mut().unwrap() ^= 1;
        let forged = format!("{}={}; ", marker.name(), URL_SAFE_NO_PAD.encode(forged));
        let bad = format!("{}=x; ", marker.name());
        let good = format!("{}={}; {NAME}={}", marker.name(), marker.value(), door.value());
        let signed_out = Incoming::Rejected(RejectedKind::SignedOut);
        assert_eq!(door.knock(&header(format!("{}{good}", forged.repeat(7)))), signed_out);
        assert_eq!(door.knock(&header(format!("{}{good}", forged.repeat(8)))), Incoming::Accepted);
        assert_eq!(door.knock(&header(format!("{}{good}", bad.repeat(2000)))), signed_out);
    }
}

#[test]
fn of_several_kinds_the_one_that_got_furthest_is_told() {
    let door = Door::new(Mode::Encrypted);
    let raw = door.raw();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut raw = raw.clone();
        change(&mut raw);
        URL_SAFE_NO_PAD.encode(raw)
    };
    let values = [
        (TOO_LONG, "A".repeat(5000)),
        (MALFORMED, "x".to_owned()),
        (SUITE, with(&|raw| raw[0] = 9)),
        (UNKNOWN_KEY, with(&|raw| raw[1] ^= 1)),
        (NOT_AUTHENTIC, with(&|raw| raw[50] ^= 1)),
        (EXPIRED, door.value().to_owned()),
    ];
    door.clock.set(noon() + IDLE);
    for (i, (_, first)) in values.iter().enumerate() {
        for (j, (_, second)) in values.iter().enumerate() {
            let cookies = header(format!("{NAME}={first}; {NAME}={second}"));
            assert_eq!(door.knock(&cookies), values[i.max(j)].0);
        }
    }
}

// Authentic, and not accepted all the same.

#[test]
fn a_session_is_expired_from_its_idle_deadline_on() {
    for mode in MODES {
        let door = Door::new(mode);
        door.clock.set(noon() + IDLE - MILLISECOND);
        assert_eq!(door.incoming(door.value()), Incoming::Accepted);
        for late in [Duration::ZERO, MILLISECOND, CLOCK_SKEW, DAY, 100_000 * DAY] {
            door.clock.set(noon() + IDLE + late);
            assert_eq!(door.knock(&ours(door.value())), EXPIRED, "{late:?}");
        }
    }
}

#[test]
fn a_session_is_expired_from_its_absolute_deadline_on() {
    for mode in MODES {
        let door = Door::new(mode);
        let codec = door.layer.codec();
        let opened = codec.open(&ours(door.value()), noon());
        let kept =
            codec.seal(opened.value().unwrap(), opened.meta(), None, noon() + ABSOLUTE - IDLE / 2).unwrap();
        door.clock.set(noon() + ABSOLUTE - MILLISECOND);
        assert_eq!(door.incoming(kept.value()), Incoming::Accepted);
        door.clock.set(noon() + ABSOLUTE);
        assert_eq!(door.knock(&ours(kept.value())), EXPIRED);
    }
}

#[test]
fn a_session_is_expired_from_the_end_of_its_own_lifetime_on() {
    for mode in MODES {
        let door = Door::new(mode);
        let (response, ()) = serve(&door.layer, &HeaderMap::new(), |session| {
            session.set(cart()).unwrap();
            session.set_lifetime(Lifetime::Own(2 * IDLE)).unwrap();
        });
        let set_cookie = response.headers()[SET_COOKIE].to_str().unwrap();
        let value = set_cookie.split([';', '=']).nth(1).unwrap();
        door.clock.set(noon() + 2 * IDLE - MILLISECOND);
        assert_eq!(door.incoming(value), Incoming::Accepted);
        door.clock.set(noon() + 2 * IDLE);
        assert_eq!(door.knock(&ours(value)), EXPIRED);
    }
}

#[test]
fn a_session_from_further_in_the_future_than_clocks_differ_is_refused() {
    for mode in MODES {
        let door = Door::new(mode);
        door.clock.set(noon() - CLOCK_SKEW);
        assert_eq!(door.knock(&ours(door.value())), Incoming::Accepted);
        for early in [MILLISECOND, Duration::from_secs(1), DAY, 10_000 * DAY] {
            door.clock.set(noon() - CLOCK_SKEW - early);
            assert_eq!(door.knock(&ours(door.value())), FUTURE, "{early:?}");
        }
    }
}

#[test]
fn a_newer_or_an_older_schema_is_refused() {
    for mode in MODES {
        let clock = Clock::at(noon());
        let [one, two] = [1, 2].map(|n| Door::builder(mode, &clock).schema(n).build().unwrap());
        for (writes, reads) in [(&one, &two), (&two, &one)] {
            let cookie = writes.codec().seal(&cart(), None, None, noon()).unwrap();
            assert_eq!(knock(reads, &ours(cookie.value()), noon()), Incoming::Rejected(RejectedKind::Schema));
        }
    }
}

#[test]
fn a_payload_of_another_shape_is_refused() {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Swapped {
        items: Vec<u32>,
        user: Option<u64>,
        note: String,
    }
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Renamed {
        owner: Option<u64>,
        items: Vec<u32>,
        note: String,
    }
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Wider {
        user: Option<u64>,
        items: Vec<u64>,
        note: String,
    }
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Shorter {
        user: Option<u64>,
        items: Vec<u32>,
    }
    for mode in MODES {
        refuses_cart::<Swapped>(mode);
        refuses_cart::<Renamed>(mode);
        refuses_cart::<Wider>(mode);
        refuses_cart::<Shorter>(mode);
        refuses_cart::<(Option<u64>, Vec<u32>, String)>(mode);
        refuses_cart::<Vec<u8>>(mode);
        refuses_cart::<u64>(mode);
        refuses_cart::<()>(mode);
    }
}

fn refuses_cart<T>(mode: Mode)
where
    T: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + 'static,
{
    let door = Door::new(mode);
    let clock = door.clock.clone();
    let layer = SessionLayer::<T>::builder(ring()).mode(mode).clock(move || clock.now()).build().unwrap();
    assert_eq!(knock(&layer, &ours(door.value()), noon()), PAYLOAD, "{}", std::any::type_name::<T>());
}

#[test]
fn a_payload_that_the_type_refuses_is_refused() {
    /// Of the shape of a `u32`.
    #[derive(Clone, Debug, Default, PartialEq, Serialize)]
    struct Even(u32);
    impl<'de> Deserialize<'de> for Even {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match u32::deserialize(deserializer)? {
                even if even % 2 == 0 => Ok(Even(even)),
                _ => Err(serde::de::Error::custom("odd")),
            }
        }
    }
    for mode in MODES {
        let any = SessionLayer::<u32>::builder(ring()).mode(mode).build().unwrap();
        let even = SessionLayer::<Even>::builder(ring()).mode(mode).clock(noon).build().unwrap();
        assert_eq!(any.shape(), even.shape());
        let seal = |value| any.codec().seal(&value, None, None, noon()).unwrap();
        assert_eq!(even.codec().open(&ours(seal(2).value()), noon()).value(), Some(&Even(2)));
        assert_eq!(knock(&even, &ours(seal(3).value()), noon()), PAYLOAD);
    }
}

// What a session does that was not accepted.

#[test]
fn a_write_of_what_a_fresh_session_has_leaves_a_bad_cookie_alone() {
    let door = Door::new(Mode::Encrypted);
    let (response, ()) = serve(&door.layer, &ours("garbage"), |session| {
        session.set(Cart::default()).unwrap();
        assert!(!session.is_changed());
    });
    assert!(!response.headers().contains_key(SET_COOKIE));
}

#[test]
fn a_write_replaces_a_bad_cookie() {
    for mode in MODES {
        let door = Door::new(mode);
        let (response, ()) = serve(&door.layer, &ours("garbage"), |session| session.set(cart()).unwrap());
        let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies.len(), 1);
        let value = cookies[0].to_str().unwrap().split([';', '=']).nth(1).unwrap();
        assert_eq!(door.incoming(value), Incoming::Accepted);
    }
}

#[test]
fn clear_removes_a_bad_cookie_and_needs_no_marker() {
    let door = Door::new(Mode::Encrypted);
    for value in ["", "garbage", &"A".repeat(5000)] {
        let (response, cleared) = serve(&door.layer, &ours(value), |session| session.clear());
        assert!(cleared);
        let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies.len(), 1);
        let removal = cookies[0].to_str().unwrap();
        assert!(removal.starts_with(&format!("{NAME}=; ")) && removal.ends_with("; Max-Age=0"), "{removal}");
    }
}

#[test]
fn garbage_in_the_markers_place_signs_nobody_out() {
    let door = Door::new(Mode::Encrypted);
    for marker in ["", "x", "AAAA", &"A".repeat(5000), door.value()] {
        let cookies = format!("{NAME}-out={marker}; {NAME}={}; {NAME}-out={marker}", door.value());
        assert_eq!(door.knock(&header(&cookies)), Incoming::Accepted);
        assert_eq!(door.layer.codec().open(&header(cookies), noon()).marker(), None);
    }
}

const MALFORMED: Incoming = Incoming::Rejected(RejectedKind::Malformed);
const TOO_LONG: Incoming = Incoming::Rejected(RejectedKind::TooLong);
const SUITE: Incoming = Incoming::Rejected(RejectedKind::SuiteNotAccepted);
const UNKNOWN_KEY: Incoming = Incoming::Rejected(RejectedKind::UnknownKey);
const NOT_AUTHENTIC: Incoming = Incoming::Rejected(RejectedKind::NotAuthentic);
const EXPIRED: Incoming = Incoming::Rejected(RejectedKind::Expired);
const FUTURE: Incoming = Incoming::Rejected(RejectedKind::FromTheFuture);
const PAYLOAD: Incoming = Incoming::Rejected(RejectedKind::Payload);

const NAME: &str = "__Host-Http-session";
const MILLISECOND: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_secs(30 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const ABSOLUTE: Duration = Duration::from_secs(24 * 60 * 60);

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn ring() -> KeyRing {
    let key: Key = "iSKAamfAL6VMAXQwIHl90fVDUTAiNNSkHAzhe85NVQw=".parse().unwrap();
    KeyRing::new(key, []).unwrap()
}

fn other(mode: Mode) -> Mode {
    if mode == Mode::Encrypted { Mode::Signed } else { Mode::Encrypted }
}

fn suite(mode: Mode) -> u8 {
    if mode == Mode::Encrypted { 1 } else { 2 }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cart {
    user: Option<u64>,
    items: Vec<u32>,
    note: String,
}

fn cart() -> Cart {
    Cart { user: Some(42), items: vec![1, 1000, 1_000_000], note: "no onions".to_owned() }
}

/// A layer, and the value of a cookie that opens there at noon.
struct Door {
    layer: SessionLayer<Cart>,
    clock: Clock,
    value: String,
}

impl Door {
    fn new(mode: Mode) -> Self {
        Door::with(mode, cart())
    }

    fn with(mode: Mode, cart: Cart) -> Self {
        let clock = Clock::at(noon());
        let layer = Door::builder(mode, &clock).build().unwrap();
        let value = layer.codec().seal(&cart, None, None, noon()).unwrap().value().to_owned();
        Door { layer, clock, value }
    }

    fn builder(mode: Mode, clock: &Clock) -> SessionBuilder<Cart> {
        let clock = clock.clone();
        SessionLayer::builder(ring())
            .mode(mode)
            .idle_timeout(IDLE)
            .absolute_timeout(ABSOLUTE)
            .clock(move || clock.now())
    }

    fn value(&self) -> &str {
        &self.value
    }

    fn raw(&self) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(&self.value).unwrap()
    }

    fn knock(&self, headers: &HeaderMap) -> Incoming {
        knock(&self.layer, headers, self.clock.now())
    }

    /// What the codec makes of a value; unlike `knock` at times at which a re-issue is due.
    fn incoming(&self, value: &str) -> Incoming {
        self.layer.codec().open(&ours(value), self.clock.now()).incoming()
    }
}

/// A `Cookie` header of any bytes.
fn header(text: impl AsRef<[u8]>) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(text.as_ref()).unwrap())])
}

/// A `Cookie` header with this value under our name.
fn ours(value: &str) -> HeaderMap {
    header(format!("{NAME}={value}"))
}

/// Sends a request that reads, and returns what became of the cookie. Unless it was accepted the
/// session is fresh; in any case the cookie is left alone, and the counters tell what was seen.
fn knock<T>(layer: &SessionLayer<T>, headers: &HeaderMap, now: SystemTime) -> Incoming
where
    T: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + 'static,
{
    let before = layer.keys().counters().rejected;
    let (response, incoming) = serve(layer, headers, |session| {
        let incoming = session.incoming();
        if incoming == Incoming::Accepted {
            assert_ne!(session.get(), T::default());
            assert!(!session.is_new());
        } else {
            assert_eq!(session.get(), T::default());
            assert_eq!(session.meta(), None);
            assert!(session.is_new());
        }
        assert!(!session.is_changed());
        incoming
    });
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key(SET_COOKIE));
    assert_eq!(response.headers()[VARY], "Cookie");
    for ((kind, before), (_, after)) in before.into_iter().zip(layer.keys().counters().rejected) {
        let counted = u64::from(incoming == Incoming::Rejected(kind));
        assert_eq!(after - before, counted, "{kind:?}");
    }
    // Without the layer it is the same.
    let opened = layer.codec().open(headers, now);
    assert_eq!(opened.incoming(), incoming);
    assert_eq!(opened.value().is_some(), incoming == Incoming::Accepted);
    assert_eq!(opened.meta().is_some(), incoming == Incoming::Accepted);
    incoming
}
