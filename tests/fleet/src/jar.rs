//! A browser's cookie jar (RFC 6265bis-22 sections 5.6 to 5.8) for one host over https, written from that
//! text and not with the crate that the product renders cookies with.

use crate::HOST;
use std::cmp::Reverse;

/// Cookies in the order in which they were created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jar(Vec<Kept>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    name: String,
    value: String,
    /// Domain, Path and Partitioned, which tell cookies of one name apart.
    identity: (Option<String>, String, bool),
    /// In milliseconds; `None` ends with the browser.
    expires: Option<u64>,
}

impl Jar {
    /// The `Cookie` header of a request to the host's root.
    pub fn cookies(&self, now: u64) -> String {
        self.cookies_to("/", now)
    }

    /// The `Cookie` header of a request to this path: longer paths first (section 5.8.3).
    pub fn cookies_to(&self, path: &str, now: u64) -> String {
        let sent = |kept: &&Kept| matches(&kept.identity.1, path) && kept.expires.is_none_or(|end| now < end);
        let mut sent: Vec<_> = self.0.iter().filter(sent).collect();
        sent.sort_by_key(|kept| Reverse(kept.identity.1.len()));
        let pairs: Vec<_> = sent.iter().map(|kept| format!("{}={}", kept.name, kept.value)).collect();
        pairs.join("; ")
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|kept| kept.name == name).map(|kept| kept.value.as_str())
    }

    /// The names of all cookies that are kept, in order.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|kept| kept.name.as_str()).collect()
    }

    /// Receives a `Set-Cookie` value of a response from the host's root.
    pub fn set(&mut self, set_cookie: &str, now: u64) {
        self.set_from("/", set_cookie, now);
    }

    /// Receives a `Set-Cookie` value of a response to a request to this path.
    pub fn set_from(&mut self, from: &str, set_cookie: &str, now: u64) {
        let mut parts = set_cookie.split(';').map(pair);
        let Some((name, value)) = parts.next() else { return };
        // Section 5.6: one that is longer is dropped without a word.
        if name.len() + value.len() > 4096 {
            return;
        }
        let (mut secure, mut http_only, mut partitioned) = (false, false, false);
        let (mut domain, mut path, mut seconds, mut date) = (None, None, None, None);
        for (attribute, value) in parts {
            match attribute.to_ascii_lowercase().as_str() {
                "secure" => secure = true,
                "httponly" => http_only = true,
                "partitioned" => partitioned = true,
                "domain" if !value.is_empty() => {
                    domain = Some(value.strip_prefix('.').unwrap_or(value).to_ascii_lowercase());
                }
                "path" if value.starts_with('/') => path = Some(value.to_owned()),
                // Sections 5.6.1 and 5.6.2: ignored where it is no date or no number.
                "expires" => date = millis(value).or(date),
                "max-age" => seconds = value.parse::<i64>().ok().or(seconds),
                _ => {}
            }
        }
        // Section 5.7: of another host's domain.
        let covers = |domain: &str| {
            HOST.strip_suffix(domain).is_some_and(|host| host.is_empty() || host.ends_with('.'))
        };
        if !domain.as_deref().is_none_or(covers) {
            return;
        }
        // Section 5.7: what the name promises must hold, and each in the attributes themselves.
        let begins =
            |prefix: &str| name.get(..prefix.len()).is_some_and(|its| its.eq_ignore_ascii_case(prefix));
        let host = secure && domain.is_none() && path.as_deref() == Some("/");
        if begins("__Host-") && !host
            || (begins("__Host-Http-") || begins("__Http-")) && !(secure && http_only)
            || begins("__Secure-") && !secure
        {
            return;
        }
        // Section 5.1.4: up to the last slash, where the attribute is missing.
        let folder = || match from.rsplit_once('/') {
            Some((folder, _)) if !folder.is_empty() => folder.to_owned(),
            _ => "/".to_owned(),
        };
        let identity = (domain, path.unwrap_or_else(folder), partitioned);
        let at = self.0.iter().position(|kept| kept.name == name && kept.identity == identity);
        // Max-Age wins.
        let expires = match seconds {
            Some(seconds) => Some(now.saturating_add_signed(seconds.saturating_mul(1000))),
            None => date,
        };
        if expires.is_some_and(|expires| expires <= now) {
            if let Some(at) = at {
                self.0.remove(at);
            }
            return;
        }
        let new = Kept { name: name.to_owned(), value: value.to_owned(), identity, expires };
        match at {
            // An overwritten cookie keeps its place.
            Some(at) => self.0[at] = new,
            None => self.0.push(new),
        }
    }
}

/// A name and a value, trimmed of SP and HTAB.
fn pair(part: &str) -> (&str, &str) {
    let (name, value) = part.split_once('=').unwrap_or((part, ""));
    let trim = |text| str::trim_matches(text, [' ', '\t']);
    (trim(name), trim(value))
}

/// Whether a request to `path` is one for a cookie's path (section 5.1.4).
fn matches(of_cookie: &str, path: &str) -> bool {
    path.strip_prefix(of_cookie)
        .is_some_and(|rest| rest.is_empty() || of_cookie.ends_with('/') || rest.starts_with('/'))
}

/// A date as servers write it (section 5.1.1), `Thu, 01 Jan 1970 00:00:00 GMT`, in milliseconds since 1970.
fn millis(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let [_, day, month, year, time, "GMT"] = date.split(' ').collect::<Vec<_>>()[..] else { return None };
    let (day, year) = (day.parse::<u64>().ok()?, year.parse::<u64>().ok()?);
    let month = MONTHS.iter().position(|its| *its == month)?;
    let time: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = time[..] else { return None };
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let days = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months: u64 = days[..month].iter().sum::<u64>() + u64::from(month > 1 && leap(year));
    let days = years + months + day.checked_sub(1)?;
    Some((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000)
}
