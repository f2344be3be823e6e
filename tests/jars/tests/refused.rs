//! What jars refuse is refused, and what they take is taken: read by an application that percent-encodes, and by one
//! that does not, since ours is told neither.

use cookie_session::{Identity, SessionLayer};
use interop_tests::{Rng, seeds};
use jars_tests::{Held, KINDS, Kind, OLD, OldApp, Secret, builder, jar, layer, now, open, text};
use std::time::Duration;

/// For each seed.
const CASES: usize = 2000;

/// Both sides under one key.
struct Both {
    old: OldApp,
    new: SessionLayer<Held>,
}

/// How often a jar opened what it was shown, and how often not.
#[derive(Debug, Default)]
struct Count {
    opened: usize,
    refused: usize,
}

impl Both {
    fn new(kind: Kind, secret: &Secret) -> Both {
        Both { old: OldApp::new(kind, secret), new: layer(kind, secret) }
    }

    /// Has both read the cookies, and compares. The jars get each by itself: what is not ASCII hides all of a header
    /// from axum-extra, and from us its own cookie alone.
    fn agree(&self, cookies: &[u8], count: &mut Count, at: &dyn Fn() -> String) {
        let either = |cookie| self.old.read(cookie, OLD).or_else(|| self.old.read_plain(cookie, OLD));
        let read = cookies.split(|octet| *octet == b';').filter_map(either).last();
        let ours = open(&self.new, cookies);
        let shown = String::from_utf8_lossy(cookies);
        assert_eq!(ours.value().map(|held| held.text.as_str()), read.as_deref(), "{shown}, {}", at());
        assert_eq!(ours.meta().is_some_and(|meta| meta.is_imported()), read.is_some());
        *if read.is_some() { &mut count.opened } else { &mut count.refused } += 1;
    }
}

fn fixed() -> Secret {
    Secret::Whole((100..164).collect())
}

/// A cookie from each kind of jar, percent-encoded and plain, with what reads it.
fn cookies(text: &str) -> impl Iterator<Item = (Both, String)> {
    KINDS.into_iter().flat_map(move |kind| {
        let both = || Both::new(kind, &fixed());
        [both().old.set(&[(OLD, text)]), both().old.set_plain(OLD, text)].map(|cookie| (both(), cookie))
    })
}

/// What a header can have.
fn may_stand(octet: u8) -> bool {
    octet == b'\t' || octet >= b' ' && octet != 0x7f
}

#[test]
fn every_bit_of_the_value_counts() {
    for (both, cookie) in cookies(r#"{"user":7}"#) {
        let mut count = Count::default();
        for (at, bit) in (OLD.len() + 1..cookie.len()).flat_map(|at| (0..8).map(move |bit| (at, 1 << bit))) {
            let mut changed = cookie.clone().into_bytes();
            changed[at] ^= bit;
            if may_stand(changed[at]) {
                both.agree(&changed, &mut count, &|| format!("octet {at}, bit {bit:#x}"));
            }
        }
        // A digit behind a percent sign has two cases, and either is read.
        assert!(
            count.refused > 300 && count.opened <= cookie.matches('%').count() * 2,
            "{cookie}: {count:?}"
        );
    }
}

#[test]
fn every_length_but_the_whole_one_is_refused() {
    for (both, cookie) in cookies("seven") {
        let mut count = Count::default();
        for len in OLD.len() + 1..=cookie.len() {
            both.agree(&cookie.as_bytes()[..len], &mut count, &|| format!("{len}"));
        }
        assert_eq!(count.opened, 1, "{cookie}");
        for more in ["A", "=", "%", "%41", "%00", "."] {
            both.agree(format!("{cookie}{more}").as_bytes(), &mut count, &|| more.to_owned());
        }
        assert_eq!(count.opened, 1, "{cookie}");
    }
}

#[test]
fn base64_has_one_text() {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut other_bits, mut other_alphabet) = (0, 0);
    for kind in KINDS {
        // Values that end with no, one and two characters of padding.
        for (secret, text) in ["", "a", "bb", "ccc"].map(|text| (fixed(), text)) {
            let both = Both::new(kind, &secret);
            let cookie = both.old.set_plain(OLD, text);
            let mut variants = Vec::new();
            let end = match kind {
                Kind::Private => cookie.len(),
                Kind::Signed => OLD.len() + 1 + 44,
            };
            let (coded, rest) = cookie.split_at(end);
            let bare = coded.trim_end_matches('=');
            let padding = coded.len() - bare.len();
            if padding > 0 {
                variants.extend([
                    format!("{bare}{rest}"),
                    format!("{bare}={rest}"),
                    format!("{bare}==={rest}"),
                ]);
                let last =
                    SYMBOLS.iter().position(|symbol| bare.ends_with(char::from(*symbol))).expect("a symbol");
                let start = &bare[..bare.len() - 1];
                for bit in 0..2 * padding {
                    let symbol = char::from(SYMBOLS[last ^ 1 << bit]);
                    variants.push(format!("{start}{symbol}{}{rest}", "=".repeat(padding)));
                    other_bits += 1;
                }
            }
            if kind == Kind::Signed {
                // The MAC without its last octet.
                let (start, symbol) = (&bare[..bare.len() - 2], bare.as_bytes()[bare.len() - 2]);
                let place = SYMBOLS.iter().position(|other| *other == symbol).expect("a symbol");
                let symbol = char::from(SYMBOLS[place & 0b11_0000]);
                variants.push(format!("{start}{symbol}=={rest}"));
            }
            let url = coded[OLD.len() + 1..].replace('+', "-").replace('/', "_");
            if !coded.ends_with(&url) {
                variants.push(format!("{OLD}={url}{rest}"));
                other_alphabet += 1;
            }
            variants.extend([format!("{coded}\"{rest}"), format!("{OLD}=\"{}\"", &cookie[OLD.len() + 1..])]);
            variants.push(format!("{} {}{rest}", &coded[..20], &coded[20..]));
            let mut count = Count::default();
            variants.retain(|variant| *variant != cookie);
            for variant in &variants {
                both.agree(variant.as_bytes(), &mut count, &|| format!("{kind:?} {text:?}"));
            }
            assert_eq!((count.opened, count.refused), (0, variants.len()), "{kind:?} {variants:?}");
            both.agree(cookie.as_bytes(), &mut count, &|| cookie.clone());
            assert_eq!(count.opened, 1);
        }
    }
    assert!(other_bits >= 12 && other_alphabet > 0, "{other_bits} {other_alphabet}");
}

#[test]
fn a_private_value_is_bound_to_its_name_and_a_signed_one_is_not() {
    for (kind, opened) in [(Kind::Private, 0), (Kind::Signed, 1)] {
        let both = Both::new(kind, &fixed());
        let elsewhere = both.old.set(&[("flash", "welcome, 7")]);
        let mut count = Count::default();
        both.agree(elsewhere.replacen("flash", OLD, 1).as_bytes(), &mut count, &|| elsewhere.clone());
        assert_eq!(count.opened, opened, "{kind:?}");
        let import = jar(kind, Identity::named("flash"), fixed().ours());
        let flash = builder().import(import, now() + Duration::from_secs(1)).build().expect("good settings");
        let held = Held { text: "welcome, 7".to_owned() };
        assert_eq!(open(&flash, elsewhere.as_bytes()).into_value(), Some(held), "{kind:?}");
        // Where another one is asked for it is none, to both.
        both.agree(elsewhere.as_bytes(), &mut count, &|| elsewhere.clone());
        assert_eq!(count.opened, opened, "{kind:?}");
    }
}

#[test]
fn another_key_opens_nothing() {
    let keys = [
        Secret::Whole((101..165).collect()),
        Secret::Whole((100..163).chain([0]).collect()),
        Secret::Whole([[0; 32], std::array::from_fn(|i| 132 + i as u8)].concat()),
        Secret::Whole([std::array::from_fn(|i| 100 + i as u8), [0; 32]].concat()),
        Secret::Master((100..164).collect()),
    ];
    for kind in KINDS {
        let cookie = OldApp::new(kind, &fixed()).set(&[(OLD, "7")]);
        let mut count = Count::default();
        for key in &keys {
            Both::new(kind, key).agree(cookie.as_bytes(), &mut count, &|| format!("{kind:?} {key:?}"));
        }
        // One half of a key signs, the other encrypts: what differs in the other half is the same key.
        assert_eq!((count.opened, count.refused), if kind == Kind::Private { (1, 4) } else { (2, 3) });
        // Behind the 64th octet nothing counts.
        let longer = Secret::Whole((100..200).collect());
        Both::new(kind, &longer).agree(cookie.as_bytes(), &mut count, &|| format!("{kind:?}"));
        assert_eq!(count.opened, if kind == Kind::Private { 2 } else { 3 });
    }
}

#[test]
fn one_kind_of_jar_opens_nothing_of_the_other() {
    for (kind, other) in [(Kind::Private, Kind::Signed), (Kind::Signed, Kind::Private)] {
        let mut count = Count::default();
        let cookie = OldApp::new(other, &fixed()).set(&[(OLD, "7")]);
        Both::new(kind, &fixed()).agree(cookie.as_bytes(), &mut count, &|| cookie.clone());
        assert_eq!(count.refused, 1);
    }
}

/// An octet for the middle of a value.
fn octet(rng: &mut Rng) -> u8 {
    match rng.below(4) {
        0 => rng.pick(b" \t;,=\"%+/-_"),
        1 => rng.pick(b"0123456789abcdefABCDEF"),
        _ => Some(rng.word() as u8).filter(|octet| may_stand(*octet)).unwrap_or(b'~'),
    }
}

fn percent_encoded(octet: u8, upper: bool) -> Vec<u8> {
    if upper { format!("%{octet:02X}") } else { format!("%{octet:02x}") }.into_bytes()
}

/// A value, changed or not.
fn changed(rng: &mut Rng, mut value: Vec<u8>) -> Vec<u8> {
    if value.is_empty() {
        return value;
    }
    let at = rng.below(value.len());
    match rng.below(12) {
        0 => value[at] = octet(rng),
        1 => value.insert(at, octet(rng)),
        2 => drop(value.remove(at)),
        3 => value.truncate(at),
        4 => value.rotate_left(at),
        5 => {
            let part = value[at..].to_vec();
            value.extend(part);
        }
        6 => {
            let (upper, coded) = (rng.once_in(2), value[at]);
            value.splice(at..=at, percent_encoded(coded, upper)).for_each(drop);
        }
        7 => {
            let upper = rng.once_in(2);
            value = value.iter().flat_map(|octet| percent_encoded(*octet, upper)).collect();
        }
        8 => value = [b"\"", &value[..], b"\""].concat(),
        9 => value = [b" ", &value[..], b"\t "].concat(),
        _ => {}
    }
    value
}

#[test]
fn what_is_changed_at_random_is_read_as_the_jars_read_it() {
    for seed in seeds("changed in jars") {
        let mut count = Count::default();
        for case in 0..CASES {
            let mut rng = Rng::new(seed, case);
            let (kind, secret) = (rng.pick(&KINDS), Secret::random(&mut rng));
            let both = Both::new(kind, &secret);
            let mut parts = Vec::new();
            for _ in 0..1 + rng.below(3) {
                let text = text(&mut rng);
                let name = rng.pick(&[OLD, OLD, OLD, OLD, "user_i", "user_id2", "other"]);
                let signs =
                    if rng.once_in(8) { &OldApp::new(kind, &Secret::random(&mut rng)) } else { &both.old };
                let plain = signs.set_plain(name, &text);
                let cookie =
                    if rng.once_in(2) && plain.bytes().all(|octet| may_stand(octet) && octet.is_ascii()) {
                        plain
                    } else {
                        signs.set(&[(name, &text)])
                    };
                let value = changed(&mut rng, cookie.as_bytes()[name.len() + 1..].to_vec());
                let name = if rng.once_in(8) { OLD } else { name };
                parts.push([name.as_bytes(), b"=", &value].concat());
            }
            let cookies = parts.join(&b"; "[..]);
            let at = || format!("COOKIE_SESSION_SEED={seed}, case {case}: {kind:?}");
            both.agree(&cookies, &mut count, &at);
        }
        assert!(count.opened > CASES / 4 && count.refused > CASES / 4, "{count:?}");
    }
}
