//! A browser's cookie jar (RFC 6265bis-22 sections 5.6 and 5.7) for one host over https, written from that
//! text and not with the crate that the product renders cookies with.

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
        let sent =
            self.0.iter().filter(|kept| kept.identity.1 == "/" && kept.expires.is_none_or(|end| now < end));
        let pairs: Vec<_> = sent.map(|kept| format!("{}={}", kept.name, kept.value)).collect();
        pairs.join("; ")
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|kept| kept.name == name).map(|kept| kept.value.as_str())
    }

    /// Receives a `Set-Cookie` value.
    pub fn set(&mut self, set_cookie: &str, now: u64) {
        let mut parts = set_cookie.split(';').map(pair);
        let Some((name, value)) = parts.next() else { return };
        let (mut secure, mut http_only, mut partitioned) = (false, false, false);
        let (mut domain, mut path, mut seconds) = (None, None, None);
        for (attribute, value) in parts {
            match attribute.to_ascii_lowercase().as_str() {
                "secure" => secure = true,
                "httponly" => http_only = true,
                "partitioned" => partitioned = true,
                "domain" if !value.is_empty() => domain = Some(value.to_ascii_lowercase()),
                "path" if value.starts_with('/') => path = Some(value.to_owned()),
                // Section 5.6.2: ignored where it is no number.
                "max-age" => seconds = value.parse::<i64>().ok().or(seconds),
                _ => {}
            }
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
        let identity = (domain, path.unwrap_or_else(|| "/".to_owned()), partitioned);
        let at = self.0.iter().position(|kept| kept.name == name && kept.identity == identity);
        if seconds.is_some_and(|seconds| seconds <= 0) {
            if let Some(at) = at {
                self.0.remove(at);
            }
            return;
        }
        let expires = seconds.map(|seconds| now + seconds.unsigned_abs() * 1000);
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
