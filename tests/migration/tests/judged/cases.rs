//! Requests with cookies of all kinds: good ones, and ones that were changed in their JSON, their base64, their
//! signature, their place in the header or the settings.

use crate::differences::{RESERVED, signed};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use interop_tests::Rng;
use migration_tests::{Digest, Encoding, Settings};
use serde_json::json;
use std::collections::BTreeSet;

#[derive(Clone)]
pub struct Case {
    pub settings: Settings,
    pub allows_short_keys: bool,
    /// The octets of each `Cookie` header.
    pub headers: Vec<Vec<u8>>,
}

impl Case {
    pub fn random(rng: &mut Rng) -> Case {
        let settings = settings(rng);
        let allows_short_keys = !rng.once_in(4);
        // One in so many of what can be changed.
        let spoil = rng.pick(&[2, 4, 8, 1000]);
        let body = if rng.once_in(spoil) { odd_json(rng) } else { object(rng, 3) };
        let value =
            if rng.once_in(spoil * 2) { odd_base64(rng, &body) } else { BASE64_STANDARD.encode(body).into() };
        let key = rng.pick(&settings.keys);
        let mut signature = signed(&settings, &key, &value).into_bytes();
        if rng.once_in(spoil * 2) {
            signature = odd_signature(rng, &settings, &value, signature);
        }
        let (name, of_signature) = (settings.name.clone(), format!("{}.sig", settings.name));
        let mut parts = vec![part(rng, spoil, &name, &value), part(rng, spoil, &of_signature, &signature)];
        if rng.once_in(spoil * 2) {
            // Another one of a name, before or behind.
            let other = BASE64_STANDARD.encode(object(rng, 1)).into_bytes();
            let (name, value) = match rng.below(6) {
                0 => (&name, value),
                1 => (&of_signature, signature),
                2 => (&of_signature, signed(&settings, &key, &other).into_bytes()),
                3 => (&of_signature, rng.pick(&[&b""[..], b"\"\"", b"foobar"]).to_vec()),
                4 => (&name, rng.pick(&[&b""[..], b"\"\"", b"="]).to_vec()),
                _ => (&name, other),
            };
            let place = rng.below(3);
            parts.insert(place, part(rng, 1000, name, &value));
        }
        if rng.once_in(4) {
            parts.reverse();
        }
        if rng.once_in(spoil * 4) {
            parts.remove(rng.below(parts.len()));
        }
        for _ in 0..rng.below(3) {
            let noise = [
                &b""[..],
                b" ",
                b"other=1",
                b"=",
                name.as_bytes(),
                b"\xff\xfe=\xa0",
                b"=;=",
                b"a=b,c=d",
                b"_ga=GA1.1.2",
            ];
            parts.insert(rng.below(parts.len() + 1), rng.pick(&noise).to_vec());
        }
        Case { settings, allows_short_keys, headers: headers(rng, parts) }
    }

    /// The same with no blank around a name or a value. No browser sends one there.
    pub fn tidied(&self) -> Case {
        let trim = |octets: &[u8]| {
            let blank = |octet: &u8| b" \t".contains(octet);
            let begin = octets.iter().take_while(|octet| blank(octet)).count();
            let end = octets[begin..].iter().rev().take_while(|octet| blank(octet)).count();
            octets[begin..octets.len() - end].to_vec()
        };
        let pair = |part: &[u8]| {
            let sides = part.splitn(2, |&octet| octet == b'=');
            sides.map(trim).collect::<Vec<_>>().join(&b"="[..])
        };
        let tidy = |header: &Vec<u8>| {
            let parts = header.split(|&octet| octet == b';');
            parts.map(pair).collect::<Vec<_>>().join(&b"; "[..])
        };
        Case { headers: self.headers.iter().map(tidy).collect(), ..self.clone() }
    }
}

fn settings(rng: &mut Rng) -> Settings {
    let names = ["session", "sid", "my.session", "express:sess", "__Secure-s", "a", "$+^*|x", "connect.sig"];
    let mut keys: Vec<_> = (0..rng.pick(&[1, 1, 2, 3, 5]))
        .map(|_| {
            let length = rng.pick(&[16, 20, 32, 63, 64, 65, 128, 129, 200]);
            rng.bytes(length)
        })
        .collect();
    let at = rng.below(keys.len());
    match rng.below(32) {
        0 => keys[at] = Vec::new(),
        1..=3 => keys[at].truncate(rng.pick(&[1, 8, 15])),
        _ => {}
    }
    Settings {
        // Not what a token has.
        name: rng.pick(&names).replace(':', "-"),
        keys,
        digest: rng.pick(&Digest::ALL),
        encoding: rng.pick(&Encoding::ALL),
        options: if rng.once_in(12) { json!({ "signed": false }) } else { json!({}) },
    }
}

/// An object, as JavaScript writes it.
fn object(rng: &mut Rng, levels: usize) -> Vec<u8> {
    const KEYS: [&str; 12] =
        ["user", "views", "cart", "a", "b", "0", "10", "", "x y", "ключ", "🔑", "\\\"\\n"];
    let mut met = BTreeSet::new();
    let entries: Vec<_> = (0..rng.below(5)).map(|_| rng.pick(&KEYS)).filter(|key| met.insert(*key)).collect();
    let entry = |key| [format!("\"{key}\":").as_bytes(), &value(rng, levels)].concat();
    let entries: Vec<_> = entries.into_iter().map(entry).collect();
    [b"{", &entries.join(&b","[..])[..], b"}"].concat()
}

fn value(rng: &mut Rng, levels: usize) -> Vec<u8> {
    match rng.below(if levels > 0 { 9 } else { 7 }) {
        0 => rng.pick(&["null", "true", "false"]).into(),
        1..=3 => number(rng).into(),
        4..=6 => format!("\"{}\"", text(rng)).into(),
        7 => object(rng, levels - 1),
        _ => {
            let values: Vec<_> = (0..rng.below(5)).map(|_| value(rng, levels - 1)).collect();
            [b"[", &values.join(&b","[..])[..], b"]"].concat()
        }
    }
}

fn number(rng: &mut Rng) -> String {
    match rng.below(6) {
        0 => rng.below(100).to_string(),
        // What a double holds, in the fewest digits.
        1 | 2 => {
            let number = f64::from_bits(rng.word());
            if number.is_finite() { format!("{number:e}").replace("e0", "") } else { "0".to_owned() }
        }
        3 => format!("{}", rng.word() as f64 / 1e12),
        4 => format!("-{}", rng.number() >> 11),
        _ => (rng.number() >> 11).to_string(),
    }
}

/// What stands between quotes.
fn text(rng: &mut Rng) -> String {
    const PARTS: [&str; 14] = [
        "a", "Z9", " ", "größe", "日本", "🍪", "e\u{301}", "\\n", "\\\"", "\\\\", "\\u0000", "\\u001f",
        "\u{7f}", "\u{2028}",
    ];
    (0..rng.below(6)).map(|_| rng.pick(&PARTS)).collect()
}

fn odd_json(rng: &mut Rng) -> Vec<u8> {
    let mut body = object(rng, 2);
    // Something before what is there.
    let with = |entry: &str, body: &[u8]| {
        let comma = if body == b"{}" { "" } else { "," };
        [format!("{{{entry}{comma}").as_bytes(), &body[1..]].concat()
    };
    match rng.below(20) {
        0 => rng.pick(&["[1,2]", "[]", "null", "42", "true", "\"abc\"", " [{}]", "-0", "\"\""]).into(),
        1 => with(
            rng.pick(&[
                "\"k\":1,\"k\":2",
                "\"k\":1,\"\\u006b\":1",
                "\"k\":{\"a\":[],\"a\":0}",
                "\"k\":[{\"\":0,\"\":0}]",
            ]),
            &body,
        ),
        2 => with(
            rng.pick(&[
                "\"s\":\"\\ud800\"",
                "\"s\":[\"x\\udc00y\"]",
                "\"\\ud83c\":0",
                "\"s\":\"\\ud83c\\ud83c\\udf6a\"",
            ]),
            &body,
        ),
        3 | 4 => {
            // A level is the object itself.
            let levels = rng.pick(&[2, 100, 126, 127, 127, 128, 128, 129, 200, 900]) - 1;
            let (begin, end) = rng.pick(&[("[", "]"), ("{\"a\":", "}")]);
            let inner = if begin == "[" { "" } else { "{}" };
            let levels = levels - usize::from(begin != "[");
            with(&format!("\"deep\":{}{inner}{}", begin.repeat(levels), end.repeat(levels)), &body)
        }
        5 => with(&format!("\"n\":{}", rng.pick(&["1e400", "-1e309", "[1.7976931348623159e308]"])), &body),
        6 | 15 => {
            let numbers = [
                "1.7976931348623157e308",
                "5e-324",
                "1e-400",
                "-0",
                "-0.0",
                "9007199254740993",
                "18446744073709551615",
                "18446744073709551616",
                "-9223372036854775809",
                "123456789012345678901234567890",
                "0.30000000000000004",
                "1E5",
                "1.50e+2",
                "2.2250738585072011e-308",
                "0.1000000000000000055511151231257827021181583404541015625",
            ];
            with(&format!("\"n\":{}", rng.pick(&numbers)), &body)
        }
        7 => with(&format!("\"{}\":{}", rng.pick(&RESERVED), rng.pick(&["1", "{}", "\"x\""])), &body),
        8 => with(&format!("\"in\":{{\"{}\":1}}", rng.pick(&RESERVED)), &body),
        9 => {
            // Where text is, and anywhere.
            let mut body = with("\"text\":\"________\"", &body);
            let at = if rng.once_in(4) { rng.below(body.len()) } else { 9 + rng.below(8) };
            body[at] = rng.pick(&[0x80, 0xc0, 0xed, 0xff]);
            body
        }
        10 => rng
            .pick(&[
                &b"\xef\xbb\xbf{}"[..],
                b"{}x",
                b"{}{}",
                b"{'a':1}",
                b"{\"a\":NaN}",
                b"{\"a\":01}",
                b"{\"a\":1,}",
                b"/**/{}",
                b"",
                b"{\"a\":.5}",
                b"{\"a\":+1}",
                b"{\"a\":\"\t\"}",
                b"{\"a\":\"\\x41\"}",
                b"\x0b{}",
            ])
            .to_vec(),
        11 => {
            body.truncate(rng.below(body.len() + 1));
            body
        }
        12 | 13 => {
            let at = rng.below(body.len());
            body[at] ^= 1 << rng.below(8);
            body
        }
        14 => format!(" {{ \"a\" :\t[ 1 ,\n2 ]\r}}{}", rng.pick(&["", "\n", " \t"])).into(),
        // The value's length, at what is taken and beyond it.
        _ => {
            let octets = rng.pick(&[3066, 3069, 3072, 3070, 3071, 3073, 3075, 3076, 4000, 6000]);
            let fill = "x".repeat(octets - r#"{"s":""}"#.len());
            format!(r#"{{"s":"{fill}"}}"#).into()
        }
    }
}

/// Something else than the one base64 of these octets.
fn odd_base64(rng: &mut Rng, body: &[u8]) -> Vec<u8> {
    let mut value = BASE64_STANDARD.encode(body).into_bytes();
    let place = rng.below(value.len() + 1);
    match rng.below(14) {
        0 | 1 => value.retain(|&octet| octet != b'='),
        // With an octet in it that the alphabets write differently.
        2 | 3 => value = BASE64_URL_SAFE.encode(br#"{"q":"???????"}"#).into(),
        4 | 5 => value.insert(place, b' '),
        6 => value.insert(place, rng.pick(b"\t!*,.:\"\xa0\xe9")),
        7 => value.extend(rng.pick(&[&b"="[..], b"==", b"e30=", b"A", b"AA=="])),
        8 => value = [&b"="[..], &value].concat(),
        9 => {
            // The bits behind the last octet, which must be none.
            if let Some(last) =
                value.iter().rposition(|&octet| octet != b'=').filter(|&last| last + 1 < value.len())
            {
                value[last] += 1;
            }
        }
        10 => value.splice(..1.min(value.len()), *b"%65").for_each(drop),
        11 => value.truncate(place),
        12 => value = body.to_vec(),
        _ => value = value.iter().rev().copied().collect(),
    }
    value.retain(|&octet| octet != b';' && (octet == b'\t' || !octet.is_ascii_control()));
    value
}

/// Mostly no signature of this value.
fn odd_signature(rng: &mut Rng, settings: &Settings, value: &[u8], mut good: Vec<u8>) -> Vec<u8> {
    let key = rng.pick(&settings.keys);
    let other = |change: &dyn Fn(&mut Settings)| {
        let mut other = settings.clone();
        change(&mut other);
        signed(&other, &key, value).into_bytes()
    };
    let (at, bit) = (rng.below(good.len()), rng.below(7));
    let digest = rng.pick(&Digest::ALL);
    match rng.below(14) {
        0 => good[at] ^= 1 << bit,
        1 => good.truncate(at),
        2 => good.push(rng.pick(b"=A0 ")),
        3 => good = other(&|settings| settings.name += "x"),
        4 => good = other(&|settings| settings.digest = digest),
        5 => {
            good = other(&|settings| {
                let [base64, hex] = Encoding::ALL;
                settings.encoding = if settings.encoding == hex { base64 } else { hex };
            });
        }
        6 => good.make_ascii_uppercase(),
        7 => good.iter_mut().for_each(|octet| match octet {
            b'-' => *octet = b'+',
            b'_' => *octet = b'/',
            _ => {}
        }),
        8 => good = signed(settings, b"a key that is not on the ring", value).into(),
        9 => good = signed(settings, &key, &[value, b"="].concat()).into(),
        10 => good = signed(settings, &key, b"e30=").into(),
        11 => good = Vec::new(),
        12 => good = [b"\"", &good[..], b"\""].concat(),
        _ => good.insert(at, rng.pick(b" A\t")),
    }
    good.retain(|&octet| octet != b';' && (octet == b'\t' || !octet.is_ascii_control()));
    good
}

/// The part of a header that has the value: one that is of this name, or looks like it.
fn part(rng: &mut Rng, spoil: usize, name: &str, value: &[u8]) -> Vec<u8> {
    let name = name.as_bytes();
    let way = if rng.once_in(spoil * 4) { rng.below(15) } else { 15 };
    let parts: &[&[u8]] = match way {
        0 => &[name, b"=\"", value, b"\""],
        1 => &[name, b"=\"", value],
        2 => &[name, b"=\"", value, b"x"],
        3 => &[&name.to_ascii_uppercase(), b"=", value],
        4 => &[b"\t", name, b"=", value],
        5 => &[b"   ", name, b"=", value],
        6 => &[name, b" =", value],
        7 => &[name, b"= ", value],
        8 => &[name, b"=", value, b" "],
        9 => &[name, b"=", value, b"\t"],
        10 => &[b"x", name, b"=", value],
        11 => &[b"other=1,", name, b"=", value],
        12 => &[b"\xa0", name, b"=", value],
        13 => &[name, b"==", value],
        14 => &[b"other=\"", name, b"=", value, b"\""],
        _ => &[name, b"=", value],
    };
    parts.concat()
}

fn headers(rng: &mut Rng, parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut headers = vec![Vec::new()];
    for (i, part) in parts.into_iter().enumerate() {
        if i > 0 && rng.once_in(6) {
            headers.push(Vec::new());
        } else if i > 0 {
            headers.last_mut().expect("one").extend(rng.pick(&["; ", "; ", "; ", ";", ";  ", "; ;"]).bytes());
        }
        headers.last_mut().expect("one").extend(part);
    }
    // What every server takes off a header.
    headers.iter().map(|header| header.trim_ascii().to_vec()).collect()
}
