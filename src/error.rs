//! Every error type, one for each phase, and what became of the cookie that came in.
//!
//! | phase | type | who can act |
//! |---|---|---|
//! | start-up, keys | [`KeyError`] | the operator |
//! | start-up, settings | [`ConfigError`] | the operator, the developer |
//! | extraction | [`MissingLayer`] | the developer |
//! | handler | [`UpdateError`] | the handler's code |
//! | log | [`Incoming`] | whoever reads logs and counters |
//!
//! No error holds a key, a session's content or a cookie's value.

use std::{error::Error, fmt, io, time::Duration};

const MAKE_ONE: &str = "make a key with: openssl rand -base64 32";

/// Why a key, or a ring of keys, was refused at start-up.
///
/// The messages say which variable or file is meant and how to make a good key; none of them
/// holds a key, a part of one, or the path of a key's file (a key put there by mistake would show).
///
/// `Debug` shows the message too, since that is what a `main` that returns the error prints.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// Neither the variable nor its `_FILE` form is set.
    Missing {
        /// The variable's name.
        var: String,
    },
    /// Fallbacks are set, but no primary.
    FallbacksAlone {
        /// The primary's variable.
        var: String,
    },
    /// The variable and its `_FILE` form are both set; which one is meant cannot be known.
    BothSet {
        /// The variable's name.
        var: String,
    },
    /// The key's file cannot be read.
    Unreadable {
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// The text is not valid Unicode.
    NotUnicode,
    /// There is no key in the text, only white space or nothing.
    Empty,
    /// The text is neither base64 nor hexadecimal.
    Encoding,
    /// The text decodes, but not to 32 bytes.
    Length {
        /// How many bytes it decodes to.
        bytes: usize,
    },
    /// The key has so little variety that it cannot be random.
    Weak(Weakness),
    /// One key stands twice on the ring.
    Duplicate,
    /// Two different keys have one key id (one pair in 2^32 does), so the id could not choose.
    SameId {
        /// The id that they share.
        id: String,
    },
    /// The operating system gave no randomness.
    Random,
    /// One of the above, at a place that has a name.
    At {
        /// The variable or setting, and which key of it.
        place: String,
        /// What is wrong there.
        error: Box<KeyError>,
    },
}

/// What gives a weak key away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weakness {
    /// At most 12 different byte values (a random key: 2^-75).
    FewValues,
    /// A pattern of at most 16 bytes, repeated (a random key: 2^-127).
    Repeats,
    /// Each byte differs from the one before by the same amount (a random key: 2^-240).
    Counts,
    /// It is printed in a standard, a manual or a tutorial.
    Published,
}

impl KeyError {
    pub(crate) fn at(self, place: &str) -> Self {
        KeyError::At { place: showable(place), error: Box::new(self) }
    }

    /// The same for one of several keys in a place.
    pub(crate) fn at_number(self, place: &str, number: u32) -> Self {
        KeyError::At { place: format!("{}, key {number}", showable(place)), error: Box::new(self) }
    }
}

impl fmt::Debug for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Missing { var } => {
                write!(
                    f,
                    "no session key: set {var}, or {var}_FILE to the path of a file that holds it; {MAKE_ONE}"
                )
            }
            KeyError::FallbacksAlone { var } => {
                write!(f, "{var}_FALLBACKS is set, but {var} is not: set that to the key that seals")
            }
            KeyError::BothSet { var } => write!(f, "{var} and {var}_FILE are both set: unset one of them"),
            KeyError::Unreadable { kind } => write!(f, "the file that it names cannot be read: {kind}"),
            KeyError::NotUnicode => write!(f, "the key is not text; {MAKE_ONE}"),
            KeyError::Empty => write!(f, "the key is empty; {MAKE_ONE}"),
            KeyError::Encoding => write!(
                f,
                "the key is neither base64 nor hexadecimal (one key belongs here, others are fallbacks); {MAKE_ONE}"
            ),
            KeyError::Length { bytes } => {
                write!(f, "a key is 32 bytes, this one decodes to {bytes}; {MAKE_ONE}")
            }
            KeyError::Weak(why) => write!(f, "the key is weak: {why}; {MAKE_ONE}"),
            KeyError::Duplicate => {
                write!(
                    f,
                    "one key stands twice on the ring: name the primary key once, and each fallback once"
                )
            }
            KeyError::SameId { id } => {
                write!(f, "two keys have the key id {id}: replace the newer of them by another; {MAKE_ONE}")
            }
            KeyError::Random => write!(f, "the operating system gave no randomness, so no key can be made"),
            KeyError::At { place, error } => write!(f, "{place}: {error}"),
        }
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Weakness::FewValues => "it has at most 12 different byte values",
            Weakness::Repeats => "it repeats a short pattern",
            Weakness::Counts => "its bytes count up or down",
            Weakness::Published => "it is a published example",
        })
    }
}

// No `source`: the `Display` of `At` contains the inner error's, which has none.
impl Error for KeyError {}

/// The text is no session id or key id: 32 or 8 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id: a session's has 32 hexadecimal digits, a key's 8")
    }
}

impl Error for ParseIdError {}

/// Why `build()` refused the settings: what a browser would drop, or what makes no sense.
///
/// Each message names the setting, shows the offending value unless it might be a key, and says
/// the way out.
///
/// `Debug` shows the message too, since that is what a `main` that returns the error prints.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The keys were refused.
    Key(KeyError),
    /// The configuration names no primary key.
    NoPrimaryKey,
    /// The cookie's name is not a token of RFC 9110, as RFC 6265 section 4.1.1 demands.
    InvalidName {
        /// The name.
        name: Shown,
    },
    /// A `__Host-` name beside a Domain: browsers drop such a cookie.
    HostPrefixWithDomain {
        /// The name.
        name: Shown,
        /// The Domain.
        domain: Shown,
    },
    /// A `__Host-` name beside a Path other than `/`: browsers drop such a cookie.
    HostPrefixWithPath {
        /// The name.
        name: Shown,
        /// The Path.
        path: Shown,
    },
    /// A `__Secure-`, `__Host-`, `__Http-` or `__Host-Http-` name without Secure.
    InsecurePrefix {
        /// The name.
        name: Shown,
    },
    /// `SameSite=None` without Secure: browsers drop such a cookie.
    InsecureSameSiteNone,
    /// `Partitioned` without Secure: browsers drop such a cookie.
    InsecurePartitioned,
    /// The Domain has octets that RFC 6265 section 4.1.1 does not allow.
    InvalidDomain {
        /// The Domain.
        domain: Shown,
    },
    /// The Path has octets that RFC 6265 section 4.1.1 does not allow.
    InvalidPath {
        /// The Path.
        path: Shown,
    },
    /// The Path does not begin with a slash: browsers use another one instead.
    PathWithoutSlash {
        /// The Path.
        path: Shown,
    },
    /// A Domain or Path over 1024 octets: browsers drop the attribute.
    AttributeTooLong {
        /// `domain` or `path`.
        setting: &'static str,
        /// Its length in bytes.
        bytes: usize,
    },
    /// A lifetime under one second.
    LifetimeTooShort {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: Duration,
    },
    /// A lifetime over 400 days, the most that browsers keep a cookie.
    LifetimeTooLong {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: Duration,
    },
    /// The idle timeout is longer than the absolute one, so it would never strike.
    IdleOverAbsolute {
        /// The idle timeout.
        idle: Duration,
        /// The absolute timeout.
        absolute: Duration,
    },
    /// The re-issue threshold is over half the idle timeout: active users would be signed out.
    ReissueOverHalfIdle {
        /// The threshold.
        reissue_after: Duration,
        /// The idle timeout.
        idle: Duration,
    },
    /// `max_set_cookie` over 4093 bytes.
    MaxSetCookieTooLarge {
        /// The setting, in bytes.
        bytes: usize,
    },
    /// Name, attributes and seal leave no room for `T::default()`.
    NoRoom {
        /// How many bytes the `Set-Cookie` value of an empty session has.
        needed: usize,
        /// How many `max_set_cookie` allows.
        max_set_cookie: usize,
    },
    /// `migrate_from` names a schema that is not older than the layer's own.
    MigrationNotOlder {
        /// The number given to `migrate_from`.
        from: u16,
        /// The layer's own schema.
        schema: u16,
    },
    /// Two `migrate_from` with one number.
    MigrationTwice {
        /// The number.
        from: u16,
    },
    /// `write_as` without a `migrate_from` of its number: the layer could not read what it writes.
    WriteAsWithoutMigration {
        /// The number given to `write_as`.
        schema: u16,
    },
    /// `write_as` and `migrate_from` of one number have types of different shapes: the layer could
    /// not read what it writes.
    WriteAsOtherShape {
        /// The number.
        schema: u16,
    },
    /// `write_as` was called twice.
    WriteAsTwice,
    /// The session's type cannot be stored: it asks for a format that describes itself.
    TypeNotStorable {
        /// The type that asks.
        type_name: &'static str,
    },
    /// `T::default()` does not encode, or does not come back as it was.
    DefaultNotStorable {
        /// Why.
        error: NotEncodable,
    },
    /// Some value of the type does not come back as it was.
    DoesNotComeBack {
        /// The type: the session's, or that of `write_as`.
        type_name: &'static str,
    },
    /// `formerly` names an identity that says no more than the layer's own, or one identity twice.
    FormerlyTwice {
        /// The name of the cookie that is meant.
        name: Shown,
    },
    /// An old cookie has the name of one of the layer's: a browser that has one could not have the other.
    ImportSameName {
        /// The name.
        name: Shown,
    },
    /// A key of an [`OldFormat`](crate::OldFormat) is too short: of another kind, or one that may be guessed.
    OldKeyShort {
        /// Its length in bytes.
        bytes: usize,
        /// The least that is taken.
        least: usize,
    },
    /// An [`OldFormat`](crate::OldFormat) names no cookie.
    ImportWithoutCookie,
    /// An old cookie's identity has a context, a mode or an `until`, which old cookies have not.
    ImportSealed {
        /// The cookie's name; none for `Identity::current()`.
        name: Shown,
    },
    /// The configuration has an unknown field.
    UnknownField {
        /// Where.
        field: Shown,
    },
    /// A field's value is of the wrong type, or not one of those that are known.
    WrongValue {
        /// Which field.
        field: String,
        /// What is expected there.
        expected: &'static str,
    },
    /// Two fields that exclude each other.
    BothGiven {
        /// One.
        field: &'static str,
        /// The other.
        other: &'static str,
    },
    /// Two or more of the above.
    Several(Vec<ConfigError>),
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ConfigError as E;
        match self {
            E::Key(error) => write!(f, "session keys: {error}"),
            E::NoPrimaryKey => {
                write!(f, "no session key: set keys.primary, or keys.primary_file; {MAKE_ONE}")
            }
            E::InvalidName { name } => write!(
                f,
                "the cookie name {name} is not a token: use letters, digits and any of !#$%&'*+-.^_`|~"
            ),
            E::HostPrefixWithDomain { name, domain } => write!(
                f,
                "browsers drop a cookie named {name} that has a Domain ({domain}): leave the domain out, or set a name \
                 such as __Secure-id"
            ),
            E::HostPrefixWithPath { name, path } => write!(
                f,
                "browsers drop a cookie named {name} whose Path is {path}: leave the path at /, or set a name such as \
                 __Secure-id"
            ),
            E::InsecurePrefix { name } => write!(
                f,
                "browsers drop a cookie named {name} that is not Secure: leave the name out beside \
                 insecure_for_local_http, or set one without a __ prefix"
            ),
            E::InsecureSameSiteNone => write!(
                f,
                "browsers drop a cookie with SameSite=None that is not Secure: leave out insecure_for_local_http, or \
                 use Lax"
            ),
            E::InsecurePartitioned => write!(
                f,
                "browsers drop a Partitioned cookie that is not Secure: leave out one of partitioned and \
                 insecure_for_local_http"
            ),
            E::InvalidDomain { domain } => write!(
                f,
                "the domain {domain} is no host name: use letters, digits, hyphens and dots, without a dot at either end"
            ),
            E::InvalidPath { path } => write!(
                f,
                "the path {path} has a semicolon, a control character, one outside ASCII or a blank at its end: \
                 percent-encode it"
            ),
            E::PathWithoutSlash { path } => {
                write!(
                    f,
                    "the path {path} does not begin with a slash, so browsers would ignore it: begin it with one"
                )
            }
            E::AttributeTooLong { setting, bytes } => {
                write!(f, "{setting} has {bytes} bytes: browsers drop an attribute of more than 1024")
            }
            E::LifetimeTooShort { setting, value } => {
                write!(f, "{setting} is {value:?}: one second is the least")
            }
            E::LifetimeTooLong { setting, value } => {
                write!(f, "{setting} is {value:?}: 400 days is the most that browsers keep a cookie")
            }
            E::IdleOverAbsolute { idle, absolute } => write!(
                f,
                "idle_timeout ({idle:?}) is longer than absolute_timeout ({absolute:?}), so it would never strike: \
                 shorten the one or lengthen the other"
            ),
            E::ReissueOverHalfIdle { reissue_after, idle } => write!(
                f,
                "reissue_after ({reissue_after:?}) is more than half of idle_timeout ({idle:?}), which would sign \
                 active users out: shorten it, or leave it out"
            ),
            E::MaxSetCookieTooLarge { bytes } => {
                write!(f, "max_set_cookie is {bytes} bytes: it can be lowered, but 4093 is the most")
            }
            E::NoRoom { needed, max_set_cookie } => write!(
                f,
                "an empty session needs a Set-Cookie of {needed} bytes, and max_set_cookie allows {max_set_cookie}: \
                 raise it, or shorten the name, domain, path or the default value"
            ),
            E::MigrationNotOlder { from, schema } => write!(
                f,
                "migrate_from({from}) is not older than schema({schema}): give the new form a higher number with schema"
            ),
            E::MigrationTwice { from } => write!(f, "migrate_from({from}) is given twice: keep one"),
            E::WriteAsWithoutMigration { schema } => write!(
                f,
                "write_as({schema}) without migrate_from({schema}): the layer could not read what it writes, so add that"
            ),
            E::WriteAsOtherShape { schema } => write!(
                f,
                "write_as({schema}) and migrate_from({schema}) have types of different shapes: use one type in both"
            ),
            E::WriteAsTwice => write!(f, "write_as is given twice: keep one"),
            E::TypeNotStorable { type_name } => write!(
                f,
                "{type_name} cannot be in a session: it needs a format that describes itself (untagged or internally \
                 tagged enums, flatten, serde_json::Value do); use plain structs and enums, or SessionMap"
            ),
            E::DoesNotComeBack { type_name } => write!(
                f,
                "{type_name} cannot be in a session: some value of it does not come back as it was written, as with \
                 skip_serializing_if, skipped enum variants, or a Serialize that depends on the time"
            ),
            E::DefaultNotStorable { error } => {
                write!(f, "the session type's default value cannot be stored: {error}")
            }
            E::FormerlyTwice { name } => write!(
                f,
                "formerly names the cookie {name} as it is now, or twice: name each other identity once"
            ),
            E::ImportSameName { name } => write!(
                f,
                "the old cookie {name} and one of this layer have one name: give the layer another one with name"
            ),
            E::OldKeyShort { bytes: 0, .. } => {
                write!(f, "a key of the old format is empty: is the variable set that it comes from?")
            }
            E::OldKeyShort { bytes, least } => write!(
                f,
                "a key of the old format has {bytes} bytes, and {least} are the least: whoever guesses it makes \
                 sessions of anybody; give the key that the old cookies are made with, whole (Express takes shorter \
                 ones: see allow_short_keys)"
            ),
            E::ImportWithoutCookie => write!(f, "the format that import was given names no cookie"),
            E::ImportSealed { name } => write!(
                f,
                "the old cookie {name} needs a name of its own, and no context, mode or until: the date is import's"
            ),
            E::UnknownField { field } => {
                write!(f, "there is no setting {field}: correct its name, or take it out")
            }
            E::WrongValue { field, expected } => write!(f, "{field} must be {expected}"),
            E::BothGiven { field, other } => write!(f, "{field} and {other} are both given: take one out"),
            E::Several(errors) => {
                write!(f, "{} faults in the session settings:", errors.len())?;
                errors.iter().try_for_each(|error| write!(f, "\n- {error}"))
            }
        }
    }
}

// Each message contains that of the error inside, so there is no `source` to print it again.
impl Error for ConfigError {}

impl From<KeyError> for ConfigError {
    fn from(error: KeyError) -> Self {
        ConfigError::Key(error)
    }
}

/// A setting's value as an error may show it: withheld where it might be a key in the wrong place.
///
/// Withheld is what has 24 or more characters of base64 or hexadecimal in a row, with a digit or both
/// cases among them, a cookie's prefix not counted; and what is longer than 100 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown(Option<String>);

impl Shown {
    pub(crate) fn new(value: &str) -> Self {
        Shown((value.len() <= 100 && !might_be_a_key(value)).then(|| value.to_owned()))
    }
}

fn might_be_a_key(value: &str) -> bool {
    const LEAST: usize = 24;
    // A key may stand there in groups, and behind a cookie's prefix.
    let joined: String = value.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    let prefix = ["__host-http-", "__host-", "__secure-", "__http-"]
        .iter()
        .find(|prefix| joined.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)));
    let rest = prefix.and_then(|prefix| joined.get(prefix.len()..)).unwrap_or(&joined);
    let key_char = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    let key_like = |run: &str| {
        let has = |class: fn(&char) -> bool| run.chars().any(|c| class(&c));
        let mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
        run.len() >= LEAST && (mixed || has(char::is_ascii_digit))
    };
    rest.split(|c| !key_char(c)).any(key_like)
}

/// A name that an error may show, such as that of a variable.
pub(crate) fn showable(name: &str) -> String {
    // Variables are in capitals, with digits now and then; no key is, but with a chance of 2^-32.
    let lower = name.chars().any(|c| c.is_ascii_lowercase());
    let hexadecimal = name.chars().all(|c| c.is_ascii_hexdigit());
    if (lower || hexadecimal) && might_be_a_key(name) {
        "(a name that might be a key)".to_owned()
    } else {
        name.to_owned()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => write!(f, "{value:?}"),
            None => f.write_str("(not shown: it might be a key)"),
        }
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The request has no session of this type: the layer is missing.
///
/// As a response (feature `axum`) it is a 500 with the sentence of its `Display`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingLayer {
    pub(crate) type_name: &'static str,
}

impl fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.type_name;
        write!(
            f,
            "no session of type {t} here: add a SessionLayer<{t}> with .layer(...) after the routes that use it"
        )
    }
}

impl Error for MissingLayer {}

/// Why a change of the session was refused. Whenever one is returned, nothing has changed.
///
/// As a response (feature `axum`) each of them is an opaque 500.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError {
    /// The session would not fit into its cookie.
    TooLarge(TooLarge),
    /// The value cannot be stored.
    NotEncodable(NotEncodable),
    /// The session's own lifetime is over the configured maximum.
    LifetimeTooLong {
        /// What was asked for.
        asked: Duration,
        /// `max_own_lifetime`.
        max: Duration,
    },
    /// The lifetime is under one second, or would be over already, counted from `renewed_at`: call
    /// [`renew`](crate::Session::renew) first.
    LifetimeTooShort {
        /// What was asked for; the absolute timeout, where that would be over.
        asked: Duration,
    },
    /// The call stands inside an `update` of the same session on the same thread.
    Nested,
    /// The session was cleared while the call waited or ran.
    Cleared,
    /// The response's headers have left: no cookie can be set any more.
    Committed,
    /// The session is over: its absolute timeout or own lifetime has passed. Only from
    /// [`SessionCodec::seal`](crate::SessionCodec::seal); the layer leaves such a write out.
    Expired,
    /// The operating system gave no randomness for a session id or a nonce.
    Random,
    /// A value of a [`SessionMap`](crate::SessionMap); only by conversion, for handlers that return
    /// this error for both.
    Map(MapError),
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::TooLarge(error) => error.fmt(f),
            UpdateError::NotEncodable(error) => write!(f, "the session cannot be stored: {error}"),
            UpdateError::LifetimeTooLong { asked, max } => {
                write!(f, "a lifetime of {asked:?} is over the configured maximum, {max:?}: raise max_own_lifetime")
            }
            UpdateError::LifetimeTooShort { asked } => write!(
                f,
                "a lifetime of {asked:?}, counted from the session's renewed_at, would be over already: call renew first"
            ),
            UpdateError::Nested => {
                f.write_str("an update of a session inside an update of the same session: make one of the two")
            }
            UpdateError::Cleared => f.write_str("the session was cleared in the meantime: nothing was written"),
            UpdateError::Committed => f.write_str(
                "the response's headers have left, so the session can no longer be written: update it before responding",
            ),
            UpdateError::Expired => f.write_str("the session has ended: its absolute timeout or own lifetime has passed"),
            UpdateError::Random => f.write_str("the operating system gave no randomness: nothing was written"),
            UpdateError::Map(error) => error.fmt(f),
        }
    }
}

// Each message contains that of the error inside, so there is no `source` to print it again.
impl Error for UpdateError {}

/// The session would not fit into its cookie: what it needs, what there is, and what the budget is
/// made of, all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    pub(crate) payload: usize,
    pub(crate) max_payload: usize,
    pub(crate) needed: usize,
    pub(crate) max_set_cookie: usize,
    pub(crate) name: usize,
    pub(crate) attributes: usize,
    pub(crate) overhead: usize,
}

impl TooLarge {
    /// The encoded session, in bytes.
    pub fn payload(&self) -> usize {
        self.payload
    }
    /// The largest encoded session that fits, in bytes.
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }
    /// The whole `Set-Cookie` value that the session would need, in bytes.
    pub fn needed(&self) -> usize {
        self.needed
    }
    /// `max_set_cookie`: the whole `Set-Cookie` value that is allowed, in bytes.
    pub fn max_set_cookie(&self) -> usize {
        self.max_set_cookie
    }
    /// The cookie's name and the `=`, in bytes.
    pub fn name(&self) -> usize {
        self.name
    }
    /// The attributes with the longest `Max-Age` that can occur, in bytes.
    pub fn attributes(&self) -> usize {
        self.attributes
    }
    /// What the seal and the session's times add before base64, in bytes.
    pub fn overhead(&self) -> usize {
        self.overhead
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooLarge { payload, max_payload, needed, max_set_cookie, name, attributes, overhead } = self;
        write!(
            f,
            "the session is too large: {payload} bytes encoded, at most {max_payload} fit. Its Set-Cookie would have \
             {needed} bytes of {max_set_cookie}: name {name}, attributes {attributes}, and {payload} + {overhead} bytes \
             in base64. Store less (an id in the place of the data), or shorten name, domain or path"
        )
    }
}

impl Error for TooLarge {}

/// Why a value cannot be stored. It quotes nothing of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotEncodable {
    /// The type's `Serialize` failed, or asked for what the format does not have (`flatten` does).
    Serialize,
    /// `skip_serializing_if` leaves a field out, which the format cannot tell; or what was encoded does not
    /// decode, or encodes to other bytes then: skipped enum variants do that, and a `Serialize` that depends
    /// on the time, or that writes another number of elements than it announces.
    RoundTrip,
    /// More than 128 values stand in one another: to read them back could overflow the stack.
    TooDeep,
}

impl fmt::Display for NotEncodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotEncodable::Serialize => "its Serialize fails, or uses what the format does not have (flatten does)",
            NotEncodable::RoundTrip => {
                "it does not come back as it was written (a field that skip_serializing_if leaves out does that, a \
                 skipped enum variant, or a Serialize that depends on the time)"
            }
            NotEncodable::TooDeep => "more than 128 values stand in one another: store it with fewer levels",
        })
    }
}

impl Error for NotEncodable {}

/// [`SessionMap::insert`](crate::SessionMap::insert) cannot store a value, or
/// [`SessionMap::get`](crate::SessionMap::get) cannot read it as that type.
///
/// The text names the key given to that call, the type and the reason, never a value. As a response
/// (feature `axum`) it is an opaque 500, and it converts into an [`UpdateError`] for handlers that
/// return that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapError {
    key: String,
    type_name: &'static str,
    pub(crate) fault: MapFault,
}

impl MapError {
    pub(crate) fn new<V: ?Sized>(key: impl Into<String>, fault: MapFault) -> Self {
        MapError { key: key.into(), type_name: std::any::type_name::<V>(), fault }
    }

    /// The key given to the call.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session value {:?} as `{}`: {}", self.key, self.type_name, self.fault)
    }
}

impl Error for MapError {}

impl From<MapError> for UpdateError {
    fn from(error: MapError) -> Self {
        UpdateError::Map(error)
    }
}

/// Why a value was refused. serde's own messages quote values and are dropped unformatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapFault {
    TooDeep,
    MapKey,
    SameKey,
    Refused,
    OtherType,
    MissingField(&'static str),
    Unreadable,
}

impl fmt::Display for MapFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MapFault::TooDeep => "it nests too deep",
            MapFault::MapKey => "a map key is not text, a char, an integer, a bool or a unit variant",
            MapFault::SameKey => "two keys of a map have the same text",
            MapFault::Refused => "its Serialize implementation failed",
            MapFault::OtherType => "what is stored is of another type, or one that this type does not accept",
            MapFault::MissingField(field) => return write!(f, "what is stored has no field `{field}`"),
            MapFault::Unreadable => "what is stored is not in a form that this release reads",
        })
    }
}

/// What became of the session cookie that came in: for logs and metrics, never for the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Incoming {
    /// No cookie of our name came in.
    Absent,
    /// It opened, and its session is in use.
    Accepted,
    /// None that we sealed came in, and the session in an older format is in use: see
    /// [`SessionBuilder::import`](crate::SessionBuilder::import).
    Imported,
    /// It was left alone, and the session started fresh.
    Rejected(RejectedKind),
}

/// Why a cookie was not accepted, in the order in which it is checked. Where several came in, the
/// kind of the one that got furthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectedKind {
    /// Over 4096 bytes.
    TooLong,
    /// Not canonical base64url, or too short for its suite.
    Malformed,
    /// An unknown suite, or one that this layer does not accept.
    SuiteNotAccepted,
    /// Its key id names no key of the ring.
    UnknownKey,
    /// Changed, or sealed for another name, context, purpose or key: these cannot be told apart.
    NotAuthentic,
    /// Its `issued_at` lies further in the future than [`CLOCK_SKEW`](crate::CLOCK_SKEW).
    FromTheFuture,
    /// A timeout or its own lifetime has passed.
    Expired,
    /// Created at or before the sign-out marker's time.
    SignedOut,
    /// A schema number that this layer does not read.
    Schema,
    /// Authentic, but of another shape, or it does not decode.
    Payload,
    /// `accept_if` said no.
    Refused,
}

impl RejectedKind {
    /// Every kind, in the order in which they are checked.
    pub(crate) const ALL: [RejectedKind; 11] = [
        RejectedKind::TooLong,
        RejectedKind::Malformed,
        RejectedKind::SuiteNotAccepted,
        RejectedKind::UnknownKey,
        RejectedKind::NotAuthentic,
        RejectedKind::FromTheFuture,
        RejectedKind::Expired,
        RejectedKind::SignedOut,
        RejectedKind::Schema,
        RejectedKind::Payload,
        RejectedKind::Refused,
    ];

    /// Of two, the one that got further.
    pub(crate) fn further(self, other: Option<RejectedKind>) -> Option<RejectedKind> {
        Some(other.filter(|other| *other as u8 > self as u8).unwrap_or(self))
    }
}

/// A name in lower case with underscores, as metrics want their labels.
impl fmt::Display for RejectedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RejectedKind::TooLong => "too_long",
            RejectedKind::Malformed => "malformed",
            RejectedKind::SuiteNotAccepted => "suite_not_accepted",
            RejectedKind::UnknownKey => "unknown_key",
            RejectedKind::NotAuthentic => "not_authentic",
            RejectedKind::FromTheFuture => "from_the_future",
            RejectedKind::Expired => "expired",
            RejectedKind::SignedOut => "signed_out",
            RejectedKind::Schema => "schema",
            RejectedKind::Payload => "payload",
            RejectedKind::Refused => "refused",
        })
    }
}

/// `absent`, `accepted`, `imported`, or the name of the kind of rejection.
impl fmt::Display for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incoming::Absent => f.write_str("absent"),
            Incoming::Accepted => f.write_str("accepted"),
            Incoming::Imported => f.write_str("imported"),
            Incoming::Rejected(kind) => kind.fmt(f),
        }
    }
}
