//! What cookie-session takes and this crate does not, seen in the cookie itself: the differences that
//! `src/docs/from_express.md` names, each as a variant.

use crate::cases::Case;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cookie_session::RejectedKind;
use migration_tests::Settings;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// `signed: false`, and no good signature.
    Unsigned,
    EmptyKey,
    /// Below 16 octets, and not allowed.
    ShortKey,
    /// The value, over 4096 octets.
    TooLong,
    Quoted,
    Unpadded,
    UrlAlphabet,
    Blanks,
    /// Bits or octets behind the end, or octets of no alphabet.
    LeftOver,
    NotUtf8,
    NotAnObject,
    DuplicateKeys,
    /// More than 127 levels.
    TooDeep,
    LoneSurrogate,
    /// It is infinite in JavaScript.
    HugeNumber,
    /// Taken by both: an ordinary key here, dropped there.
    ReservedName,
    /// A blank or a tabulator beside a name or a value: trimmed here, and a part of it there. No browser sends any.
    BlanksAround,
}

impl Difference {
    pub const ALL: [Difference; 17] = [
        Difference::Unsigned,
        Difference::EmptyKey,
        Difference::ShortKey,
        Difference::TooLong,
        Difference::Quoted,
        Difference::Unpadded,
        Difference::UrlAlphabet,
        Difference::Blanks,
        Difference::LeftOver,
        Difference::NotUtf8,
        Difference::NotAnObject,
        Difference::DuplicateKeys,
        Difference::TooDeep,
        Difference::LoneSurrogate,
        Difference::HugeNumber,
        Difference::ReservedName,
        Difference::BlanksAround,
    ];

    /// Why this crate refuses what has it; nothing of a cookie where no layer builds.
    pub fn reasons(self) -> &'static [Option<RejectedKind>] {
        match self {
            Difference::EmptyKey | Difference::ShortKey => &[None],
            Difference::TooLong => &[Some(RejectedKind::TooLong)],
            // There may be no second cookie at all.
            Difference::Unsigned => &[Some(RejectedKind::NotAuthentic), Some(RejectedKind::Malformed)],
            // The quotes make it longer.
            Difference::Quoted => &[Some(RejectedKind::NotAuthentic), Some(RejectedKind::TooLong)],
            // At the ends it is trimmed, and then the signature is another value's.
            Difference::Blanks | Difference::LeftOver => {
                &[Some(RejectedKind::Payload), Some(RejectedKind::NotAuthentic)]
            }
            Difference::ReservedName | Difference::BlanksAround => &[],
            _ => &[Some(RejectedKind::Payload)],
        }
    }

    /// All that a case has which cookie-session takes.
    pub fn of(case: &Case) -> BTreeSet<Difference> {
        let Case { settings, allows_short_keys, headers } = case;
        let header = headers.join(&b"; "[..]);
        let mut all = BTreeSet::new();
        let mut cookie = |name: &str| {
            let value = first(&header, name)?;
            match value {
                [b'"', rest @ ..] => {
                    all.insert(Difference::Quoted);
                    Some(&rest[..rest.len().saturating_sub(1)])
                }
                value => Some(value),
            }
        };
        let value = cookie(&settings.name).expect("cookie-session has taken it");
        let signature = cookie(&format!("{}.sig", settings.name));
        let good = |key: &Vec<u8>| Some(signed(settings, key, value).as_bytes()) == signature;
        if settings.options["signed"] == false && !settings.keys.iter().any(good) {
            all.insert(Difference::Unsigned);
        }
        if settings.keys.iter().any(Vec::is_empty) {
            all.insert(Difference::EmptyKey);
        } else if !allows_short_keys && settings.keys.iter().any(|key| key.len() < 16) {
            all.insert(Difference::ShortKey);
        }
        if value.len() > 4096 {
            all.insert(Difference::TooLong);
        }
        let json = BASE64_STANDARD.decode(value).unwrap_or_else(|_| {
            all.insert(base64(value));
            lenient(value)
        });
        if str::from_utf8(&json).is_err() {
            all.insert(Difference::NotUtf8);
        }
        in_json(&String::from_utf8_lossy(&json), &mut all);
        all
    }
}

/// The signature of a value as Node sees it: each octet as a character.
pub fn signed(settings: &Settings, key: &[u8], value: &[u8]) -> String {
    let text: String = value.iter().map(|&octet| char::from(octet)).collect();
    settings.sign(key, text.as_bytes())
}

/// `(?:^|;) *name=([^;]*)`, the first that matches.
fn first<'h>(header: &'h [u8], name: &str) -> Option<&'h [u8]> {
    header.split(|&octet| octet == b';').find_map(|part| {
        let blanks = part.iter().take_while(|&&octet| octet == b' ').count();
        part[blanks..].strip_prefix(name.as_bytes())?.strip_prefix(b"=")
    })
}

/// What is wrong with a value that is no canonical base64.
fn base64(value: &[u8]) -> Difference {
    let digits =
        |value: &[u8]| value.iter().all(|octet| octet.is_ascii_alphanumeric() || b"+/".contains(octet));
    let is = |change: fn(&u8) -> Option<u8>| {
        BASE64_STANDARD.decode(value.iter().filter_map(change).collect::<Vec<_>>()).is_ok()
    };
    let unpadded = || value.len() % 4 > 1 && digits(value);
    if unpadded() && BASE64_STANDARD.decode([value, &b"=="[value.len() % 4 - 2..]].concat()).is_ok() {
        Difference::Unpadded
    } else if is(|&octet| {
        Some(match octet {
            b'-' => b'+',
            b'_' => b'/',
            octet => octet,
        })
    }) {
        Difference::UrlAlphabet
    } else if is(|&octet| (octet != b' ' && octet != b'\t').then_some(octet)) {
        Difference::Blanks
    } else {
        Difference::LeftOver
    }
}

/// As Node decodes it: either alphabet, and whatever is of neither is passed over.
fn lenient(value: &[u8]) -> Vec<u8> {
    let (mut bits, mut count, mut octets) = (0_u32, 0, Vec::new());
    for octet in value {
        let six = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        (bits, count) = (bits << 6 | u32::from(six), count + 6);
        if count >= 8 {
            count -= 8;
            octets.push((bits >> count) as u8);
        }
    }
    octets
}

/// What is in a JSON text that JavaScript reads.
fn in_json(json: &str, all: &mut BTreeSet<Difference>) {
    // The keys of each object that is open; none for a list.
    let mut open: Vec<Option<BTreeSet<Vec<u16>>>> = Vec::new();
    let mut rest = json.trim_start_matches([' ', '\t', '\n', '\r']);
    if !rest.starts_with('{') {
        all.insert(Difference::NotAnObject);
    }
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            '{' => open.push(Some(BTreeSet::new())),
            '[' => open.push(None),
            '}' | ']' => drop(open.pop()),
            '"' => {
                let text;
                (text, rest) = string(rest);
                if char::decode_utf16(text.iter().copied()).any(|unit| unit.is_err()) {
                    all.insert(Difference::LoneSurrogate);
                }
                let is_key = rest.trim_start_matches([' ', '\t', '\n', '\r']).starts_with(':');
                if let Some(Some(keys)) = open.last_mut().filter(|_| is_key) {
                    let is_new = keys.insert(text.clone());
                    if !is_new {
                        all.insert(Difference::DuplicateKeys);
                    }
                    if open.len() == 1
                        && RESERVED.iter().any(|name| name.encode_utf16().eq(text.iter().copied()))
                    {
                        all.insert(Difference::ReservedName);
                    }
                }
            }
            '-' | '0'..='9' => {
                let end = rest.find(|c: char| !"+-.eE0123456789".contains(c)).unwrap_or(rest.len());
                let number: f64 = format!("{next}{}", &rest[..end]).parse().expect("a number");
                if number.is_infinite() {
                    all.insert(Difference::HugeNumber);
                }
                rest = &rest[end..];
            }
            _ => {}
        }
        if open.len() > 127 {
            all.insert(Difference::TooDeep);
        }
    }
}

/// What a string holds, and what is behind it.
fn string(text: &str) -> (Vec<u16>, &str) {
    let (mut units, mut rest) = (Vec::new(), text.chars());
    while let Some(next) = rest.next() {
        let unit = match next {
            '"' => break,
            '\\' => match rest.next().expect("an escape") {
                'u' => {
                    let digits: String = rest.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).expect("hexadecimal"));
                    continue;
                }
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                itself => itself,
            },
            next => next,
        };
        units.extend(unit.encode_utf16(&mut [0; 2]).iter());
    }
    (units, rest.as_str())
}

/// Names that every object has in cookie-session, which it does not load.
pub const RESERVED: [&str; 16] = [
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
    "__proto__",
    "_ctx",
    "constructor",
    "hasOwnProperty",
    "isChanged",
    "isNew",
    "isPopulated",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toLocaleString",
    "toString",
    "valueOf",
];
