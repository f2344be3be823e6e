//! What a response that depends on the session tells caches (RFC 9111).
//!
//! A shared cache that stores a page made for one visitor hands it, and its `Set-Cookie`, to all
//! others: CVE-2023-30861, CVE-2026-27205. So each response whose request used the session varies
//! by `Cookie` and is `private`; where the handler has asked for shared caching in so many words,
//! a read leaves that alone, and a cookie that must go out overrules it.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, Entry, VARY},
};

/// Headers for caches in front of the origin (RFC 9213, its products' own forms, its predecessor).
const SURROGATES: [HeaderName; 6] = [
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("cloudflare-cdn-cache-control"),
    HeaderName::from_static("netlify-cdn-cache-control"),
    HeaderName::from_static("vercel-cdn-cache-control"),
    HeaderName::from_static("akamai-cache-control"),
    SURROGATE_CONTROL,
];
const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Whether the handler has asked for shared caching in so many words.
pub(crate) fn is_shared(headers: &HeaderMap) -> bool {
    // All of their names end so; most responses have none of them.
    if !headers.keys().any(|name| name.as_str().ends_with("-control")) {
        return false;
    }
    let named = |directive: &[u8]| is(directive, b"public") || is(directive, b"s-maxage");
    SURROGATES.iter().any(|name| surrogate_stores(headers, name))
        || headers.get_all(CACHE_CONTROL).iter().any(|value| directives(value.as_bytes()).any(named))
}

/// Whether a header for such caches lets them store the response. One of RFC 9213 takes the place of all
/// that `Cache-Control` says (section 2.1), so whatever stands there does, but for `no-store` and a bare
/// `private`; `Surrogate-Control` speaks of storing only by `max-age`.
fn surrogate_stores(headers: &HeaderMap, name: &HeaderName) -> bool {
    let any = |says: fn(&[u8]) -> bool| {
        headers.get_all(name).iter().any(|value| directives(value.as_bytes()).any(says))
    };
    let stores = |directive: &[u8]| is(directive, b"max-age");
    let forbids = |directive: &[u8]| is(directive, b"no-store") || directive.eq_ignore_ascii_case(b"private");
    !any(forbids) && if *name == SURROGATE_CONTROL { any(stores) } else { any(|_| true) }
}

/// Adds `Cookie` to `Vary`, unless it is there or all requests differ (`*`). `false`: it could not.
pub(crate) fn vary_by_cookie(headers: &mut HeaderMap) -> bool {
    add(headers, VARY, "Cookie", |member| member == b"*" || member.eq_ignore_ascii_case(b"cookie"))
}

/// Adds `private`, unless a bare `private` or `no-store` is there. `false`: it could not.
pub(crate) fn make_private(headers: &mut HeaderMap) -> bool {
    let covered = |directive: &[u8]| directive.eq_ignore_ascii_case(b"private") || is(directive, b"no-store");
    add(headers, CACHE_CONTROL, "private", covered)
}

/// Takes out what asks for shared caching, so that a cookie can go out.
pub(crate) fn overrule_shared(headers: &mut HeaderMap) {
    for name in &SURROGATES {
        if surrogate_stores(headers, name) {
            headers.remove(name);
        }
    }
    let mut kept: Vec<u8> = Vec::new();
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in directives(value.as_bytes()) {
            if !is(directive, b"public") && !is(directive, b"s-maxage") {
                if !kept.is_empty() {
                    kept.extend_from_slice(b", ");
                }
                kept.extend_from_slice(directive);
            }
        }
    }
    // Removed first: `HeaderMap` asks for room for another even where one is replaced.
    headers.remove(CACHE_CONTROL);
    if !kept.is_empty() {
        // There is room if there was a header; if there was none, nothing was kept.
        let _ = HeaderValue::try_from(kept).map(|value| headers.try_insert(CACHE_CONTROL, value));
    }
}

/// Adds a member to a list header, unless one is there that covers it. In its last line: not every proxy reads a
/// second one. `false` if the response has no room for another header.
fn add(
    headers: &mut HeaderMap,
    name: HeaderName,
    member: &'static str,
    covered: impl Fn(&[u8]) -> bool,
) -> bool {
    let is_covered = |value: &HeaderValue| directives(value.as_bytes()).any(&covered);
    match headers.try_entry(&name) {
        Ok(Entry::Vacant(entry)) => entry.try_insert(HeaderValue::from_static(member)).is_ok(),
        Ok(Entry::Occupied(mut entry)) => {
            if entry.iter().any(is_covered) {
                return true;
            }
            // Behind a quote that is not closed nobody would see it. (`Vary` has none: RFC 9110 section 12.5.5.)
            if name == CACHE_CONTROL && entry.iter().any(|value| ends_quoted(value.as_bytes())) {
                entry.insert(HeaderValue::from_static(member));
                return true;
            }
            if let Some(last) = entry.iter_mut().next_back() {
                let mut list = last.as_bytes().to_vec();
                if !list.trim_ascii().is_empty() {
                    list.extend_from_slice(b", ");
                }
                list.extend_from_slice(member.as_bytes());
                *last = HeaderValue::try_from(list).unwrap_or(HeaderValue::from_static(member));
            }
            true
        }
        // Full, so nothing can be added, but it may be there.
        Err(_) => headers.get_all(&name).iter().any(is_covered),
    }
}

/// Whether a directive has this name, with or without an argument.
fn is(directive: &[u8], name: &[u8]) -> bool {
    let end = memchr::memchr(b'=', directive).unwrap_or(directive.len());
    directive.get(..end).is_some_and(|found| found.trim_ascii().eq_ignore_ascii_case(name))
}

/// Follows quoted strings (RFC 9110 section 5.6.4) byte by byte: whether the next one stands in one.
#[derive(Default)]
struct Quotes {
    quoted: bool,
    escaped: bool,
}

impl Quotes {
    fn pass(&mut self, c: u8) -> bool {
        match c {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.quoted => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            _ => {}
        }
        self.quoted
    }
}

/// Whether a quoted string is not closed.
fn ends_quoted(value: &[u8]) -> bool {
    let mut quotes = Quotes::default();
    value.iter().fold(false, |_, &c| quotes.pass(c))
}

/// The members of a list header; a comma inside a quoted string separates nothing.
fn directives(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quotes = Quotes::default();
        let end = text.iter().position(|&c| !quotes.pass(c) && c == b',');
        rest = end.and_then(|end| text.get(end + 1..));
        Some(text.get(..end.unwrap_or(text.len())).unwrap_or_default().trim_ascii())
    })
    .filter(|member| !member.is_empty())
}
