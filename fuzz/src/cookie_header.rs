//! Finding our cookies in `Cookie` headers, beside `Cookie::split_parse` of the `cookie` crate.
//!
//! Both split at `;` and at the first `=`, compare names byte by byte, keep quotes and percent
//! signs as they are, pass over what has no `=` or no name, and find each of several in order. They
//! differ in this, each time for the reason beside it:
//!
//! 1. *Blanks.* Ours trims SP and HTAB alone, the only blanks of HTTP (RFC 9110 section 5.6.3); the
//!    crate trims what Unicode calls white space, such as U+00A0. So it finds our name in
//!    `\u{a0}__Host-id=…`, a name that a browser lets a subdomain set (CVE-2026-39410), and shortens a
//!    value that begins or ends in such a blank.
//! 2. *Octets that are no UTF-8.* Ours reads bytes, so that a neighbour's cookie in another encoding
//!    hides nothing; the crate reads text, and gets nothing of such a header.
//!
//! A difference of another kind is a failure. The input is a name and any number of headers, a line
//! each.

use cookie::Cookie;
use cookie_session::internal::find_cookies;
use http::HeaderValue;

pub fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let name = lines.next().and_then(|name| str::from_utf8(name).ok()).filter(|name| is_token(name));
    let name = name.unwrap_or("id");
    let headers: Vec<HeaderValue> = lines.filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();

    let found = find_cookies(&headers, name);
    let each: Vec<Vec<u8>> = headers.iter().flat_map(|header| find_one(header, name)).collect();
    assert_eq!(found, each, "several headers are read one behind the other");
    for header in &headers {
        as_the_crate_but_for_octets_outside_ascii(header, name);
        if let Ok(text) = str::from_utf8(header.as_bytes()) {
            as_the_crate_but_for_blanks(text, name);
        }
    }
}

/// A letter of no meaning for each octet outside ASCII leaves neither difference: what is found is
/// exactly the same.
fn as_the_crate_but_for_octets_outside_ascii(header: &HeaderValue, name: &str) {
    let mask = |bytes: &[u8]| -> String {
        bytes.iter().map(|&byte| if byte.is_ascii() { char::from(byte) } else { '\u{1}' }).collect()
    };
    let ours: Vec<String> = find_one(header, name).iter().map(|value| mask(value)).collect();
    assert_eq!(ours, values(&mask(header.as_bytes()), name));
}

/// Text is found by both, but for the blanks of the first difference.
fn as_the_crate_but_for_blanks(text: &str, name: &str) {
    let mut theirs = values(text, name).into_iter();
    for part in text.split(';') {
        let header = HeaderValue::from_str(part).expect("a part of a header");
        let ours = find_one(&header, name);
        let key = part.split_once('=').map_or("", |(key, _)| key);
        // Nobody but the crate takes a name in other blanks for the name.
        let by_the_crate_alone = key.trim() == name && key.trim_matches([' ', '\t']) != name;
        match ours.first() {
            Some(value) => {
                let value = str::from_utf8(value).expect("all of it is text");
                assert!(ours.len() == 1 && !by_the_crate_alone);
                assert_eq!(value, value.trim_matches([' ', '\t']));
                assert_eq!(theirs.next().as_deref(), Some(value.trim()));
            }
            None if by_the_crate_alone => assert!(theirs.next().is_some()),
            None => {}
        }
    }
    assert_eq!(theirs.next(), None, "the crate finds no more");
}

fn find_one(header: &HeaderValue, name: &str) -> Vec<Vec<u8>> {
    find_cookies(std::slice::from_ref(header), name)
}

/// The values that the crate finds.
fn values(text: &str, name: &str) -> Vec<String> {
    let cookies = Cookie::split_parse(text).filter_map(Result::ok);
    cookies.filter(|cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned()).collect()
}

/// A name that `build()` accepts: RFC 9110 section 5.6.2.
fn is_token(name: &str) -> bool {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    !name.is_empty() && name.bytes().all(token)
}
