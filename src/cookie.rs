//! The cookie itself: attributes and prefix rules, set and removal from one function, finding ours
//! among `Cookie` headers, and the 4093 bytes.

use crate::{
    error::{ConfigError, Shown},
    frame,
};
use ::cookie as rfc6265;
use http::{HeaderMap, HeaderValue, header::COOKIE};
use memchr::memmem;
use std::fmt;

/// The most bytes that a whole `Set-Cookie` value may have, and the default of `max_set_cookie`.
/// Browsers ignore a cookie whose name and value exceed 4096 octets (RFC 6265bis-22 section 5.7);
/// 4093 for everything is the strictest reading in the field.
pub const MAX_SET_COOKIE: usize = 4093;

/// Browsers ignore an attribute whose value is longer (RFC 6265bis-22 section 5.6).
const MAX_ATTRIBUTE: usize = 1024;

const MAX_AGE: &str = "; Max-Age=";

/// When a browser sends the cookie along on requests that other sites cause
/// (RFC 6265bis-22 section 5.6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SameSite {
    /// Never.
    Strict,
    /// When the user follows a link, not for forms, images or scripts. The default.
    #[default]
    Lax,
    /// Always; for sites embedded in others.
    None,
}

/// What makes two cookies one to a browser: name, Domain, Path, and Partitioned or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) domain: Option<String>,
    pub(crate) path: String,
    pub(crate) partitioned: bool,
}

/// A cookie that can be set and removed: everything but the value and its lifetime, rendered once.
#[derive(Debug)]
pub(crate) struct Template {
    target: Target,
    tail: String,
}

impl Target {
    /// Whether a browser would take the two for one; it compares the Domain without case
    /// (RFC 6265bis-22 section 5.1.2).
    pub(crate) fn is_same(&self, other: &Target) -> bool {
        let domain = |target: &Target| target.domain.as_ref().map(|domain| domain.to_ascii_lowercase());
        let rest = |target: &Target| (target.name.clone(), target.path.clone(), target.partitioned);
        domain(self) == domain(other) && rest(self) == rest(other)
    }

    /// Whether a browser that does not know Partitioned would take the two for one.
    pub(crate) fn is_same_but_partitioned(&self, other: &Target) -> bool {
        self.is_same(&Target { partitioned: self.partitioned, ..other.clone() })
    }

    /// The sign-out marker's cookie beside the session's.
    pub(crate) fn marker(&self) -> Target {
        Target { name: format!("{}-out", self.name), ..self.clone() }
    }

    /// What a browser would drop, and what would end one attribute and begin another.
    pub(crate) fn check(&self, secure: bool, same_site: SameSite, faults: &mut Vec<ConfigError>) {
        let Target { name, domain, path, partitioned } = self;
        let (shown_name, shown_path) = (|| Shown::new(name), || Shown::new(path));
        if name.is_empty() || !name.bytes().all(is_token) {
            faults.push(ConfigError::InvalidName { name: shown_name() });
        }
        if let Some(domain) = domain {
            let label = |label: &str| {
                let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
                end(label.chars().next())
                    && end(label.chars().next_back())
                    && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            };
            if domain.len() > MAX_ATTRIBUTE {
                faults.push(ConfigError::AttributeTooLong { setting: "domain", bytes: domain.len() });
            } else if !domain.split('.').all(label) {
                faults.push(ConfigError::InvalidDomain { domain: Shown::new(domain) });
            }
        }
        if path.len() > MAX_ATTRIBUTE {
            faults.push(ConfigError::AttributeTooLong { setting: "path", bytes: path.len() });
        } else if !path.bytes().all(|c| matches!(c, b' '..=b'~') && c != b';') || path.ends_with(' ') {
            faults.push(ConfigError::InvalidPath { path: shown_path() });
        } else if !path.starts_with('/') {
            faults.push(ConfigError::PathWithoutSlash { path: shown_path() });
        }
        let prefix = |prefix| has_prefix(name, prefix);
        if prefix("__Host-") {
            if let Some(domain) = domain {
                let domain = Shown::new(domain);
                faults.push(ConfigError::HostPrefixWithDomain { name: shown_name(), domain });
            }
            if path != "/" {
                faults.push(ConfigError::HostPrefixWithPath { name: shown_name(), path: shown_path() });
            }
        }
        if !secure {
            if prefix("__Host-") || prefix("__Secure-") || prefix("__Http-") {
                faults.push(ConfigError::InsecurePrefix { name: shown_name() });
            }
            if *partitioned {
                faults.push(ConfigError::InsecurePartitioned);
            }
            if same_site == SameSite::None {
                faults.push(ConfigError::InsecureSameSiteNone);
            }
        }
    }
}

/// RFC 6265bis-22 section 5.7 and draft-ietf-httpbis-layered-cookies: compared without case.
fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// How many ranks there are.
pub(crate) const RANKS: usize = 3;

/// What the prefix of a name promises: 2 that no other host can set it, 1 that nobody can over http, 0 nothing.
pub(crate) fn rank(name: &str) -> u8 {
    if has_prefix(name, "__Host-") {
        2
    } else {
        u8::from(has_prefix(name, "__Secure-") || has_prefix(name, "__Http-"))
    }
}

/// RFC 9110 section 5.6.2, which RFC 6265 section 4.1.1 asks of a cookie's name.
fn is_token(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c)
}

impl Template {
    pub(crate) fn new(target: Target, secure: bool, same_site: SameSite) -> Template {
        let mut cookie = rfc6265::Cookie::new("", "");
        cookie.set_http_only(true);
        cookie.set_secure(secure);
        cookie.set_same_site(match same_site {
            SameSite::Strict => rfc6265::SameSite::Strict,
            SameSite::Lax => rfc6265::SameSite::Lax,
            SameSite::None => rfc6265::SameSite::None,
        });
        cookie.set_path(target.path.clone());
        if let Some(domain) = &target.domain {
            cookie.set_domain(domain.to_ascii_lowercase());
        }
        if target.partitioned {
            cookie.set_partitioned(true);
        }
        let rendered = cookie.to_string();
        let tail = rendered.strip_prefix('=').unwrap_or(&rendered).to_owned();
        Template { target, tail }
    }

    pub(crate) fn name(&self) -> &str {
        &self.target.name
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Renders a `Set-Cookie` value: a sealed frame as base64url, or nothing to remove the cookie.
    /// Set and removal both come from here, so that their attributes cannot differ.
    fn render(&self, sealed: &[u8], max_age: Option<u64>) -> SetCookie {
        // Exactly as long: `HeaderValue` takes over a full buffer as it is.
        let max_age_len = max_age.map_or(0, |seconds| MAX_AGE.len() + digits(seconds));
        let len = self.name_len() + frame::encoded_len(sealed.len()) + self.tail.len() + max_age_len;
        let mut text = Vec::with_capacity(len);
        text.extend_from_slice(self.target.name.as_bytes());
        text.push(b'=');
        frame::emit(sealed, &mut text);
        let value_end = text.len();
        text.extend_from_slice(self.tail.as_bytes());
        if let Some(seconds) = max_age {
            text.extend_from_slice(MAX_AGE.as_bytes());
            push_decimal(seconds, &mut text);
        }
        // `check` and base64url leave nothing that a header cannot hold.
        let mut header = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        debug_assert!(!header.is_empty());
        // Redacted in `Debug`, never indexed by HPACK.
        header.set_sensitive(true);
        SetCookie { header, name_end: self.target.name.len(), value_end }
    }

    /// The cookie with a sealed frame; `max_age` in seconds, without it a browser session.
    pub(crate) fn set(&self, sealed: &[u8], max_age: Option<u64>) -> SetCookie {
        self.render(sealed, max_age)
    }

    /// The cookie that makes a browser forget this one.
    pub(crate) fn removal(&self) -> SetCookie {
        self.render(&[], Some(0))
    }

    /// Bytes of a whole `Set-Cookie` value, for a frame and a `Max-Age` of so many digits.
    pub(crate) fn rendered_len(&self, frame_len: usize, digits: usize) -> usize {
        self.name_len() + frame::encoded_len(frame_len) + self.attributes_len(digits)
    }

    /// The name and the `=`, in bytes.
    pub(crate) fn name_len(&self) -> usize {
        self.target.name.len() + 1
    }

    pub(crate) fn attributes_len(&self, digits: usize) -> usize {
        self.tail.len() + MAX_AGE.len() + digits
    }

    /// Whether a browser would take this `Set-Cookie` for the same cookie
    /// (RFC 6265bis-22 section 5.7: name, domain, host-only or not, path).
    pub(crate) fn is_same(&self, set_cookie: &[u8]) -> bool {
        let mut parts = split(set_cookie, b';').map(trim);
        let Target { name, domain, path, partitioned } = &self.target;
        if pair(parts.next().unwrap_or_default()).0 != name.as_bytes() {
            return false;
        }
        let (mut its_domain, mut its_path, mut its_partitioned) = (None, None, false);
        for attribute in parts {
            let (key, value) = pair(attribute);
            if key.eq_ignore_ascii_case(b"domain") {
                let host = value.strip_prefix(b".").unwrap_or(value);
                its_domain = (!host.is_empty()).then_some(host);
            } else if key.eq_ignore_ascii_case(b"path") {
                its_path = value.starts_with(b"/").then_some(value);
            } else if key.eq_ignore_ascii_case(b"partitioned") {
                its_partitioned = true;
            }
        }
        let same_domain = match (domain, its_domain) {
            (Some(ours), Some(its)) => its.eq_ignore_ascii_case(ours.as_bytes()),
            (None, None) => true,
            _ => false,
        };
        same_domain && its_path == Some(path.as_bytes()) && its_partitioned == *partitioned
    }
}

/// How many decimal digits a number has.
pub(crate) fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

fn push_decimal(number: u64, out: &mut Vec<u8>) {
    let at = out.len();
    let mut rest = number;
    loop {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.get_mut(at..).unwrap_or_default().reverse();
}

/// A rendered `Set-Cookie`, in the parts that a client or a browser's driver needs.
///
/// Its `Debug` shows the name only.
#[derive(Clone)]
#[must_use]
pub struct SetCookie {
    header: HeaderValue,
    name_end: usize,
    value_end: usize,
}

impl SetCookie {
    /// The whole value of a `Set-Cookie` response header, marked sensitive.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// What a client sends back: `name=value`, for a `Cookie` request header, marked sensitive.
    pub fn request_header(&self) -> HeaderValue {
        let pair = self.header.as_bytes().get(..self.value_end).unwrap_or_default();
        let mut header = HeaderValue::from_bytes(pair).unwrap_or(HeaderValue::from_static(""));
        header.set_sensitive(true);
        header
    }

    /// The cookie's name.
    pub fn name(&self) -> &str {
        self.text(0, self.name_end)
    }

    /// The cookie's value: empty in a removal.
    pub fn value(&self) -> &str {
        self.text(self.name_end + 1, self.value_end)
    }

    /// The attributes, as in `HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400`.
    pub fn attributes(&self) -> &str {
        self.text(self.value_end, self.header.len()).trim_start_matches("; ")
    }

    pub(crate) fn into_header(self) -> HeaderValue {
        self.header
    }

    fn text(&self, from: usize, to: usize) -> &str {
        let bytes = self.header.as_bytes().get(from..to).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetCookie").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// The `Cookie` headers of a request: one, but for HTTP/2, where a client may send each cookie in one of its own.
#[derive(Debug, Default)]
pub(crate) struct Cookies {
    first: Option<HeaderValue>,
    others: Vec<HeaderValue>,
}

impl Cookies {
    pub(crate) fn of(headers: &HeaderMap) -> Cookies {
        Cookies::from(headers.get_all(COOKIE).iter().cloned())
    }

    pub(crate) fn from(mut headers: impl Iterator<Item = HeaderValue>) -> Cookies {
        Cookies { first: headers.next(), others: headers.collect() }
    }
}

/// Looks for the cookies of one name. Where the name does not stand nothing is split or compared: `memchr` passes over
/// other cookies many bytes at a time.
///
/// Names are matched byte by byte after trimming SP and HTAB only: `str::trim` also takes U+00A0,
/// which made `\u{a0}__Host-id` pass for the prefixed name elsewhere (CVE-2026-39410).
#[derive(Debug)]
pub(crate) struct Finder(memmem::Finder<'static>);

impl Finder {
    pub(crate) fn new(name: &str) -> Finder {
        Finder(memmem::Finder::new(name).into_owned())
    }

    /// The values of all cookies of this name, in the order in which they came.
    pub(crate) fn find<'h>(&self, cookies: &'h Cookies) -> impl Iterator<Item = &'h [u8]> {
        self.hits(cookies).flatten()
    }

    /// The same, and `None` for each cookie whose name only begins so.
    pub(crate) fn hits<'h>(&self, cookies: &'h Cookies) -> impl Iterator<Item = Option<&'h [u8]>> {
        cookies.first.iter().chain(&cookies.others).flat_map(|header| self.hits_in(header.as_bytes()))
    }

    fn hits_in<'h>(&self, header: &'h [u8]) -> impl Iterator<Item = Option<&'h [u8]>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            loop {
                // Not `find_iter`, which copies what it searches with.
                let start = at + self.0.find(header.get(at..)?)?;
                // A name has no `;` and no blank, so where one begins a cookie it does not begin within another.
                at = start + self.0.needle().len();
                if matches!(trim_end(header.get(..start)?), [.., c] if *c != b';') {
                    continue;
                }
                let Some(value) = trim_start(header.get(at..)?).strip_prefix(b"=") else {
                    return Some(None);
                };
                let value =
                    memchr::memchr(b';', value).map_or(value, |end| value.get(..end).unwrap_or(value));
                at += value.len();
                return Some(Some(trim(value)));
            }
        })
    }
}

fn pair(text: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'=', text).and_then(|at| text.split_at_checked(at)) {
        Some((key, value)) => (trim(key), trim(value.get(1..).unwrap_or_default())),
        None => (text, &[]),
    }
}

fn split(text: &[u8], at: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match memchr::memchr(at, text).and_then(|end| text.split_at_checked(end)) {
            Some((part, behind)) => {
                rest = behind.get(1..);
                Some(part)
            }
            None => rest.take(),
        }
    })
}

fn trim(text: &[u8]) -> &[u8] {
    trim_start(trim_end(text))
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
