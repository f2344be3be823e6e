//! Keys: parse, generate, tell apart by id, and derive what seals.
//!
//! Every label that enters a derivation stands in this file. The schedule, in the manner of age's
//! specification (`LP` is a part prefixed by its length, u32 little-endian):
//!
//! ```text
//! PRK       = HKDF-Extract-SHA-256(salt = none, ikm = key[32])
//! key id    = HKDF-Expand(PRK, LP("cookie-session/v1") || LP("key-id"), 4)
//! seal key  = HKDF-Expand(PRK, LP("cookie-session/v1") || LP(suite[1]) || LP(purpose) || LP(name) || LP(context), 32)
//! purpose   = "session" | "sign-out"
//!
//! id of an imported session = HKDF-Expand(HKDF-Extract-SHA-256(salt = none, ikm = the old format's key),
//!                                         LP("cookie-session/v1") || LP("import") || LP(what was authenticated), 16)
//! ```
//!
//! So a value moves neither between cookies, nor between applications, purposes, suites or keys:
//! it meets another seal key there. Length prefixes keep `("ab", "c")` from being `("a", "bc")`,
//! and the number of parts keeps the id apart from all seal keys.

use crate::error::{KeyError, ParseIdError, Weakness, showable};
use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hkdf::Hkdf;
use sha2::Sha256;
use std::{
    env,
    ffi::OsString,
    fmt,
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
    str::FromStr,
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A key's length in bytes.
const KEY_BYTES: usize = 32;

const PROTOCOL: &[u8] = b"cookie-session/v1";
const KEY_ID: &[u8] = b"key-id";
const IMPORT: &[u8] = b"import";

/// What a sealed value is for; each purpose has seal keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Session,
    SignOut,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Purpose::Session => b"session",
            Purpose::SignOut => b"sign-out",
        }
    }
}

/// A secret key of 32 random bytes, from which everything that seals is derived.
///
/// Make one with `openssl rand -base64 32`, and parse it with [`FromStr`]: base64 (standard or url
/// alphabet, with or without padding) or hexadecimal, surrounding white space trimmed.
///
/// ```
/// # use cookie_session::Key;
/// let key = Key::generate()?;
/// assert_eq!(format!("{key:?}"), format!("Key({}, ..)", key.id()));
/// assert!("hunter2".parse::<Key>().unwrap_err().to_string().contains("openssl rand -base64 32"));
/// # Ok::<(), cookie_session::KeyError>(())
/// ```
///
/// Comparison takes constant time, `Debug` shows the id only, and the bytes are zeroised on drop.
pub struct Key {
    // Boxed, so that a move leaves no copy of the secret behind.
    secret: Box<Zeroizing<[u8; KEY_BYTES]>>,
    id: KeyId,
}

impl Key {
    /// A new random key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Random`] if the operating system has no randomness.
    pub fn generate() -> Result<Key, KeyError> {
        let mut secret = Box::new(Zeroizing::new([0; KEY_BYTES]));
        getrandom::fill(&mut secret[..]).map_err(|_| KeyError::Random)?;
        Ok(Key::from_secret(secret))
    }

    /// The key's public name, derived from it: it stands in every cookie that the key seals.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn from_secret(secret: Box<Zeroizing<[u8; KEY_BYTES]>>) -> Key {
        let mut id = [0; 4];
        expand(secret.as_slice(), &[PROTOCOL, KEY_ID], &mut id);
        Key { secret, id: KeyId(id) }
    }

    /// A key that seals nothing that is ever sent: for sessions without a layer.
    pub(crate) fn placeholder() -> Key {
        Key::from_secret(Box::new(Zeroizing::new([0; KEY_BYTES])))
    }

    /// The seal key for one suite, purpose, cookie name and context.
    pub(crate) fn derive(
        &self,
        suite: u8,
        purpose: Purpose,
        name: &str,
        context: &str,
    ) -> Zeroizing<[u8; 32]> {
        let mut derived = Zeroizing::new([0; 32]);
        let parts = [PROTOCOL, &[suite], purpose.label(), name.as_bytes(), context.as_bytes()];
        expand(self.secret.as_slice(), &parts, &mut derived[..]);
        derived
    }
}

/// The id of a session that comes from an older format. By that format's key, so that no rotation of ours changes it.
pub(crate) fn imported_id(key: &[u8], authenticated: &[u8]) -> [u8; 16] {
    let mut id = [0; 16];
    expand(key, &[PROTOCOL, IMPORT, authenticated], &mut id);
    id
}

fn expand(secret: &[u8], parts: &[&[u8]], out: &mut [u8]) {
    let mut info = Vec::new();
    for part in parts {
        // A part longer than u32::MAX cannot be told from a shorter one by its prefix, but it can
        // be by the total length, which HKDF authenticates too.
        info.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        info.extend_from_slice(part);
    }
    // At start-up, when a ring is replaced and when a session is imported; zeros would be no key at all.
    #[allow(clippy::expect_used)]
    clearing_the_stack(|| {
        Hkdf::<Sha256>::new(None, secret).expand(&info, out).expect("32 of the 8160 bytes that there are");
    });
}

/// Runs what derives keys, and then clears the stack that it used: where a key schedule or a hash state is
/// moved, a copy stays behind that no destructor sees, and the crates below move them. For a request only where it
/// has a key of XAES derived: see the design page.
#[inline(never)]
pub(crate) fn clearing_the_stack<R>(f: impl FnOnce() -> R) -> R {
    // More than any `f` here uses (`tests/processes` sees what is left); unoptimised code needs more.
    const STACK: usize = if cfg!(debug_assertions) { 16 * 1024 } else { 8 * 1024 };
    // Frames of their own, both from the same height.
    #[inline(never)]
    fn below<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(never)]
    fn wash() {
        std::hint::black_box(&mut [0_u8; STACK]);
    }
    let result = below(f);
    wash();
    result
}

impl FromStr for Key {
    type Err = KeyError;

    /// Parses a key and refuses what cannot be random. The checks together refuse a random key
    /// with a probability below 2^-64.
    ///
    /// # Errors
    ///
    /// [`KeyError::Empty`], [`KeyError::Encoding`], [`KeyError::Length`] or [`KeyError::Weak`].
    fn from_str(text: &str) -> Result<Key, KeyError> {
        let text = text.trim();
        let bytes = decode(text)?;
        if bytes.len() != KEY_BYTES {
            return Err(KeyError::Length { bytes: bytes.len() });
        }
        let mut secret = Box::new(Zeroizing::new([0; KEY_BYTES]));
        secret.copy_from_slice(&bytes);
        match weakness(&secret) {
            Some(weakness) => Err(KeyError::Weak(weakness)),
            None => {
                // A random key is all printable ASCII once in 2^45: too often to refuse it.
                if secret.iter().all(|byte| (0x20..0x7f).contains(byte)) {
                    crate::log::event!(
                        WARN,
                        "session_key_printable",
                        "a session key decodes to text: is it random?"
                    );
                }
                Ok(Key::from_secret(secret))
            }
        }
    }
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    // 64 hexadecimal digits are valid base64 too, of 48 bytes, which no key has.
    if text.len() == 2 * KEY_BYTES && text.bytes().all(|c| c.is_ascii_hexdigit()) {
        let nibble = |c: &u8| char::from(*c).to_digit(16).unwrap_or(0) as u8;
        let pair = |pair: &[u8]| pair.iter().fold(0, |byte, c| byte << 4 | nibble(c));
        return Ok(Zeroizing::new(text.as_bytes().chunks(2).map(pair).collect()));
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    GeneralPurpose::new(alphabet, config).decode_vec(text, &mut bytes).map_err(|_| KeyError::Encoding)?;
    Ok(bytes)
}

/// Keys that are printed somewhere, whole. (What counts or repeats is refused without a list.)
const PUBLISHED: [&str; 8] = [
    // SHA-256 of nothing.
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    // NIST SP 800-38A, F.1.5: the AES-256 example key.
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    // The Fernet specification's test vectors, and the manuals of its ports.
    "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=",
    // Compose files for Airflow, copied widely (the class of fault of CVE-2020-17526).
    "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=",
    "81HqDtbqAywKSOumSha3BhWNOdQ26slT6K0YaZeZyPs=",
    // The vectors of our own wire format.
    "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210",
    "774e8390fc4f14b505b3616c173f565c80cd5e3f1478126eadbd19565a4a7608",
    "86f90072414c65d35d8dcae1ae021cdcaab3a80deae7edb010af31049bad0394",
];

fn weakness(secret: &[u8; KEY_BYTES]) -> Option<Weakness> {
    let mut seen = [false; 256];
    for &byte in secret {
        if let Some(seen) = seen.get_mut(usize::from(byte)) {
            *seen = true;
        }
    }
    let step = |pair: &[u8]| pair.iter().rev().copied().reduce(u8::wrapping_sub);
    let mut steps = secret.windows(2).map(step);
    let first = steps.next();
    if (1..=16).any(|period| secret.iter().zip(secret.iter().skip(period)).all(|(a, b)| a == b)) {
        Some(Weakness::Repeats)
    } else if steps.all(|step| Some(step) == first) {
        Some(Weakness::Counts)
    } else if seen.iter().filter(|&&seen| seen).count() <= 12 {
        Some(Weakness::FewValues)
    } else if PUBLISHED.iter().any(|text| decode(text).is_ok_and(|bytes| bytes.as_slice() == secret)) {
        Some(Weakness::Published)
    } else {
        None
    }
}

impl Clone for Key {
    fn clone(&self) -> Key {
        // Not the box's own: unoptimised, that takes the bytes over the stack.
        let mut secret = Box::new(Zeroizing::new([0; KEY_BYTES]));
        secret.copy_from_slice(self.secret.as_slice());
        Key { secret, id: self.id }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.secret.as_slice().ct_eq(other.secret.as_slice()).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, ..)", self.id)
    }
}

/// A key's public name: four bytes derived from it, shown as eight hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl FromStr for KeyId {
    type Err = ParseIdError;

    /// Parses what `Display` shows: 8 hexadecimal digits.
    fn from_str(text: &str) -> Result<KeyId, ParseIdError> {
        let digits = text.len() == 8 && text.bytes().all(|c| c.is_ascii_hexdigit());
        let id = digits.then(|| u32::from_str_radix(text, 16)).and_then(Result::ok);
        id.map(|id| KeyId(id.to_be_bytes())).ok_or(ParseIdError)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The keys of an application: the primary seals, all open. Which one opens is said by the key id
/// in the cookie; none is ever tried.
///
/// The two are named, since a positional list was misread elsewhere: Flask signed with its oldest
/// key (GHSA-4grg-w6v8-c28g).
#[derive(Clone, Debug)]
pub struct KeyRing {
    primary: Key,
    fallbacks: Vec<Key>,
}

impl KeyRing {
    /// A ring of a primary key and of fallbacks, in any order.
    ///
    /// # Errors
    ///
    /// [`KeyError::Duplicate`] if a key stands there twice, [`KeyError::SameId`] if two different
    /// keys have one id.
    pub fn new(primary: Key, fallbacks: impl IntoIterator<Item = Key>) -> Result<KeyRing, KeyError> {
        let ring = KeyRing { primary, fallbacks: fallbacks.into_iter().collect() };
        let mut keys: Vec<&Key> = ring.keys().collect();
        keys.sort_by_key(|key| key.id);
        for (a, b) in keys.iter().zip(keys.iter().skip(1)) {
            if a.id == b.id {
                return Err(if a == b {
                    KeyError::Duplicate
                } else {
                    KeyError::SameId { id: a.id.to_string() }
                });
            }
        }
        Ok(ring)
    }

    /// A ring of one key.
    pub(crate) fn single(primary: Key) -> KeyRing {
        KeyRing { primary, fallbacks: Vec::new() }
    }

    /// Reads the ring from the environment.
    ///
    /// The primary key stands in the variable `var`, or in the file whose path is in `var` with
    /// `_FILE` at the end (as Docker and Kubernetes mount secrets). Fallbacks stand in
    /// `<var>_FALLBACKS`, separated by commas or lines, or in the file named by
    /// `<var>_FALLBACKS_FILE`; none there, or nothing, means none.
    ///
    /// # Errors
    ///
    /// [`KeyError::Missing`] if nothing is set, [`KeyError::FallbacksAlone`] if only fallbacks are, and
    /// [`KeyError::BothSet`], as they are; everything else inside a
    /// [`KeyError::At`] that names the variable: `Empty`, `Unreadable`, `NotUnicode`, `Encoding`,
    /// `Length`, `Weak`, `Duplicate`, `SameId`.
    pub fn from_env(var: &str) -> Result<KeyRing, KeyError> {
        let fallbacks = read_var(&format!("{var}_FALLBACKS"))?;
        let Some((place, text)) = read_var(var)? else {
            let var = showable(var);
            let alone = fallbacks.is_some_and(|(_, text)| !text.trim().is_empty());
            return Err(if alone { KeyError::FallbacksAlone { var } } else { KeyError::Missing { var } });
        };
        let primary = parse_one(&text, &place)?;
        let fallbacks = match fallbacks {
            Some((place, text)) => parse_list(&text, &place).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        KeyRing::new(primary, fallbacks).map_err(|error| error.at(var))
    }

    pub(crate) fn primary(&self) -> &Key {
        &self.primary
    }

    pub(crate) fn fallbacks(&self) -> &[Key] {
        &self.fallbacks
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.primary).chain(&self.fallbacks)
    }
}

/// A key from text, with the place in the error.
pub(crate) fn parse_one(text: &str, place: &str) -> Result<Key, KeyError> {
    text.parse().map_err(|error: KeyError| error.at(place))
}

/// Keys separated by commas or lines; empty entries are skipped.
pub(crate) fn parse_list<'t>(
    text: &'t str,
    place: &'t str,
) -> impl Iterator<Item = Result<Key, KeyError>> + 't {
    let entries = text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
    let parse = move |(entry, number): (&str, u32)| {
        entry.parse().map_err(|error: KeyError| error.at_number(place, number))
    };
    entries.zip(1..).map(parse)
}

/// The text of a key file. Its path stays out of the error: it might be a key by mistake.
pub(crate) fn read_file(path: &Path, place: &str) -> Result<Zeroizing<String>, KeyError> {
    // More than any ring needs, and an end for a file that has none.
    const MOST: u64 = 64 * 1024;
    let unreadable = |error: std::io::Error| KeyError::Unreadable { kind: error.kind() }.at(place);
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize + 1));
    let read = File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes));
    if read.map_err(unreadable)? as u64 > MOST {
        return Err(unreadable(ErrorKind::FileTooLarge.into()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyError::NotUnicode.at(place))?;
    // Some editors begin a file with a byte order mark.
    Ok(Zeroizing::new(text.trim_start_matches('\u{feff}').to_owned()))
}

/// What stands in `var` or in the file named by `var_FILE`, and which of the two it was.
fn read_var(var: &str) -> Result<Option<(String, Zeroizing<String>)>, KeyError> {
    let file_var = format!("{var}_FILE");
    match (env::var_os(var), env::var_os(&file_var)) {
        (Some(_), Some(_)) => Err(KeyError::BothSet { var: showable(var) }),
        (Some(text), None) => {
            let unicode = |text: OsString| text.into_string().map_err(|_| KeyError::NotUnicode.at(var));
            Ok(Some((var.to_owned(), Zeroizing::new(unicode(text)?))))
        }
        (None, Some(path)) if path.is_empty() => Ok(Some((file_var, Zeroizing::default()))),
        (None, Some(path)) => {
            let text = read_file(Path::new(&path), &file_var)?;
            Ok(Some((file_var, text)))
        }
        (None, None) => Ok(None),
    }
}
