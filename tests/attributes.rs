//! The cookie's name and attributes: what is rendered, and what is refused because a browser would
//! drop it or read something else.

use cookie_session::{
    ConfigError, Identity, Key, KeyRing, Lifetime, Mode, SameSite, Session, SessionBuilder, SessionLayer,
    SetCookie,
};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn now() -> SystemTime {
    UNIX_EPOCH + 20_000 * DAY
}

fn builder() -> SessionBuilder<u64> {
    SessionLayer::builder(KeyRing::new(Key::generate().unwrap(), []).unwrap()).clock(now)
}

fn layer(builder: SessionBuilder<u64>) -> SessionLayer<u64> {
    builder.build().unwrap()
}

fn faults(builder: SessionBuilder<u64>) -> Vec<ConfigError> {
    match builder.build() {
        Ok(_) => Vec::new(),
        Err(ConfigError::Several(errors)) => errors,
        Err(error) => vec![error],
    }
}

fn set(layer: &SessionLayer<u64>) -> SetCookie {
    layer.codec().seal(&7, None, None, now()).unwrap()
}

/// Removal cookies and markers for a session that came in.
fn departure(layer: &SessionLayer<u64>) -> Vec<SetCookie> {
    let request = HeaderMap::from_iter([(COOKIE, set(layer).request_header())]);
    let opened = layer.codec().open(&request, now());
    layer.codec().removals(&opened, now()).cookies().to_vec()
}

/// The `Set-Cookie` headers that the layer sends.
fn sent(
    layer: &SessionLayer<u64>,
    cookie: Option<HeaderValue>,
    handler: impl FnOnce(&Session<u64>),
) -> Vec<HeaderValue> {
    let mut request = Request::new(());
    request.headers_mut().extend(cookie.map(|cookie| (COOKIE, cookie)));
    let mut handler = Some(handler);
    let service = service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let session = Session::from_parts(&parts).unwrap();
        handler.take().expect("one request")(&session);
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    });
    let future = pin!(layer.layer(service).oneshot(request));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response.headers().get_all(SET_COOKIE).iter().cloned().collect(),
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// A `Set-Cookie` as a browser takes it apart (RFC 6265bis-22 section 5.6): no attribute means what
/// another one says, the last of each counts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parsed {
    name: String,
    value: String,
    attributes: BTreeMap<String, Option<String>>,
}

impl Parsed {
    fn of(header: &str) -> Parsed {
        let pair = |text: &str| match text.split_once('=') {
            Some((key, value)) => (key.trim().to_owned(), Some(value.trim().to_owned())),
            None => (text.trim().to_owned(), None),
        };
        let mut parts = header.split(';');
        let (name, value) = pair(parts.next().unwrap());
        let mut attributes = BTreeMap::new();
        for part in parts {
            let (key, mut value) = pair(part);
            if key.eq_ignore_ascii_case("domain") {
                value = value.map(|domain| domain.to_ascii_lowercase());
            }
            let twice = attributes.insert(key.to_ascii_lowercase(), value);
            assert_eq!(twice, None, "{key} twice in {header}");
        }
        Parsed { name, value: value.unwrap(), attributes }
    }

    fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute)?.as_deref()
    }

    fn has(&self, attribute: &str) -> bool {
        self.attributes.contains_key(attribute)
    }

    /// Whether a browser that knows all prefixes keeps it, on https (section 5.7, layered-cookies).
    fn is_kept(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        let host = !self.has("domain") && self.get("path") == Some("/");
        let (secure, http_only) = (self.has("secure"), self.has("httponly"));
        let by_prefix = if name.starts_with("__host-http-") {
            secure && http_only && host
        } else if name.starts_with("__host-") {
            secure && host
        } else if name.starts_with("__http-") {
            secure && http_only
        } else if name.starts_with("__secure-") {
            secure
        } else {
            true
        };
        let embedded = self.get("samesite") == Some("None") || self.has("partitioned");
        by_prefix && (secure || !embedded)
    }

    /// What must be the same when it is set, removed or signed out.
    fn identity(&self) -> BTreeMap<String, Option<String>> {
        let mut attributes = self.attributes.clone();
        attributes.remove("max-age");
        attributes
    }
}

fn parsed(cookie: &SetCookie) -> Parsed {
    Parsed::of(cookie.header().to_str().unwrap())
}

mod rendering {
    use super::*;

    #[test]
    fn the_default_cookie_exactly() {
        let cookie = set(&layer(builder()));
        assert_eq!(
            cookie.header().to_str().unwrap(),
            format!(
                "__Host-Http-session={}; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400",
                cookie.value()
            )
        );
    }

    #[test]
    fn the_layer_sends_what_the_codec_renders() {
        let layer = layer(builder());
        let [header] = &sent(&layer, None, |session| session.update(|n| *n = 7).unwrap())[..] else {
            panic!()
        };
        let (pair, attributes) = header.to_str().unwrap().split_once("; ").unwrap();
        assert_eq!(attributes, "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400");
        assert!(pair.starts_with("__Host-Http-session="));
        let headers = sent(&layer, Some(pair.parse().unwrap()), |session| assert!(session.clear()));
        let texts: Vec<_> = headers.iter().map(|header| header.to_str().unwrap()).collect();
        let [removal, marker] = texts[..] else { panic!("{texts:?}") };
        assert_eq!(removal, "__Host-Http-session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0");
        // 400 days.
        let (pair, attributes) = marker.split_once("; ").unwrap();
        assert_eq!(attributes, "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=34560000");
        assert!(pair.starts_with("__Host-Http-session-out="));
    }

    #[test]
    fn local_http_turns_off_secure_and_the_prefix_and_nothing_else() {
        let layer = layer(builder().insecure_for_local_http());
        let cookie = set(&layer);
        assert_eq!(cookie.name(), "session");
        assert_eq!(cookie.attributes(), "HttpOnly; SameSite=Lax; Path=/; Max-Age=86400");
        let names: Vec<_> = departure(&layer).iter().map(|cookie| cookie.name().to_owned()).collect();
        assert_eq!(names, ["session", "session-out"]);
    }

    #[test]
    fn a_name_of_ones_own_stays_over_local_http() {
        assert_eq!(set(&layer(builder().name("id").insecure_for_local_http())).name(), "id");
        assert_eq!(set(&layer(builder().insecure_for_local_http().name("__id-"))).name(), "__id-");
    }

    #[test]
    fn the_value_is_base64url_without_padding() {
        for mode in [Mode::Encrypted, Mode::Signed] {
            let cookie = set(&layer(builder().mode(mode)));
            assert!(!cookie.value().is_empty());
            assert!(cookie.value().bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'));
        }
    }

    #[test]
    fn the_parts_of_a_cookie_are_those_of_its_header() {
        let layer = layer(builder().name("id").domain("example.com").path("/a b"));
        for cookie in [set(&layer)].iter().chain(&departure(&layer)) {
            let header = cookie.header().to_str().unwrap();
            assert_eq!(format!("{}={}; {}", cookie.name(), cookie.value(), cookie.attributes()), header);
            assert_eq!(cookie.request_header(), format!("{}={}", cookie.name(), cookie.value()));
            assert!(cookie.header().is_sensitive() && cookie.request_header().is_sensitive());
            assert_eq!(format!("{cookie:?}"), format!("SetCookie {{ name: {:?}, .. }}", cookie.name()));
        }
    }

    #[test]
    fn a_browser_session_has_no_max_age_and_is_removed_all_the_same() {
        let layer = layer(builder());
        let headers = sent(&layer, None, |session| {
            session.update(|n| *n = 7).unwrap();
            session.set_lifetime(Lifetime::Browser).unwrap();
        });
        let header = headers[0].to_str().unwrap();
        assert!(header.ends_with("; HttpOnly; SameSite=Lax; Secure; Path=/"), "{header}");
        let pair = header.split_once(';').unwrap().0.parse().unwrap();
        let headers = sent(&layer, Some(pair), |session| assert!(session.clear()));
        assert!(headers[0].to_str().unwrap().ends_with("; Max-Age=0"));
    }

    #[test]
    fn same_site_partitioned_and_domain_exactly() {
        let rendered =
            |builder: SessionBuilder<u64>| set(&layer(builder.name("__Secure-id"))).attributes().to_owned();
        let parsed = |builder| Parsed::of(&format!("a=b; {}", rendered(builder))).attributes;
        let expected = |attributes: &[(&str, Option<&str>)]| {
            let base =
                [("httponly", None), ("secure", None), ("path", Some("/")), ("max-age", Some("86400"))];
            let all = base.iter().chain(attributes);
            all.map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect::<BTreeMap<_, _>>()
        };
        for (same_site, text) in
            [(SameSite::Strict, "Strict"), (SameSite::Lax, "Lax"), (SameSite::None, "None")]
        {
            let builder = || builder().same_site(same_site);
            let (site, domain) = (("samesite", Some(text)), ("domain", Some("example.com")));
            assert_eq!(parsed(builder()), expected(&[site]));
            assert_eq!(parsed(builder().partitioned()), expected(&[site, ("partitioned", None)]));
            assert_eq!(parsed(builder().domain("example.com")), expected(&[site, domain]));
            assert_eq!(
                parsed(builder().domain("example.com").partitioned()),
                expected(&[site, domain, ("partitioned", None)])
            );
        }
    }
}

mod combinations {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    struct Settings {
        name: Option<&'static str>,
        domain: Option<&'static str>,
        path: Option<&'static str>,
        same_site: Option<SameSite>,
        partitioned: bool,
        insecure: bool,
    }

    const NAMES: [Option<&str>; 14] = [
        None,
        Some("id"),
        Some("__Host-Http-id"),
        Some("__Host-id"),
        Some("__Secure-id"),
        Some("__Http-id"),
        // Prefixes compare without case.
        Some("__HOST-id"),
        Some("__host-http-id"),
        Some("__SECURE-id"),
        Some("__hTTp-id"),
        // None of these is one.
        Some("__Hostid"),
        Some("_Host-id"),
        Some("Host-id"),
        Some("__Host_id"),
    ];

    fn all() -> impl Iterator<Item = Settings> {
        let mut all = Vec::new();
        for name in NAMES {
            for domain in [None, Some("example.com"), Some("WWW.Example-1.com")] {
                for path in [None, Some("/"), Some("/app"), Some("/a=b,c d")] {
                    for same_site in [None, Some(SameSite::Strict), Some(SameSite::Lax), Some(SameSite::None)]
                    {
                        for (partitioned, insecure) in
                            [(false, false), (false, true), (true, false), (true, true)]
                        {
                            all.push(Settings { name, domain, path, same_site, partitioned, insecure });
                        }
                    }
                }
            }
        }
        all.into_iter()
    }

    impl Settings {
        fn builder(self) -> SessionBuilder<u64> {
            let mut builder = builder();
            if let Some(name) = self.name {
                builder = builder.name(name);
            }
            if let Some(domain) = self.domain {
                builder = builder.domain(domain);
            }
            if let Some(path) = self.path {
                builder = builder.path(path);
            }
            if let Some(same_site) = self.same_site {
                builder = builder.same_site(same_site);
            }
            if self.partitioned {
                builder = builder.partitioned();
            }
            if self.insecure {
                builder = builder.insecure_for_local_http();
            }
            builder
        }

        /// The cookie that these settings ask for, whether a browser keeps it or not.
        fn cookie(self, max_age: &str) -> Parsed {
            let mut attributes = BTreeMap::new();
            let mut put = |key: &str, value: Option<&str>| {
                attributes.insert(key.to_owned(), value.map(str::to_owned));
            };
            put("httponly", None);
            put("path", Some(self.path.unwrap_or("/")));
            put("max-age", Some(max_age));
            put(
                "samesite",
                Some(match self.same_site {
                    Some(SameSite::Strict) => "Strict",
                    Some(SameSite::None) => "None",
                    _ => "Lax",
                }),
            );
            if !self.insecure {
                put("secure", None);
            }
            if self.partitioned {
                put("partitioned", None);
            }
            if let Some(domain) = self.domain {
                put("domain", Some(&domain.to_ascii_lowercase()));
            }
            let default = if self.insecure { "session" } else { "__Host-Http-session" };
            Parsed { name: self.name.unwrap_or(default).to_owned(), value: String::new(), attributes }
        }
    }

    #[test]
    fn what_a_browser_keeps_is_built_and_rendered_and_what_it_drops_is_refused() {
        let (mut built, mut refused) = (0, 0);
        for settings in all() {
            let expected = settings.cookie("86400");
            match settings.builder().build() {
                Ok(layer) => {
                    assert!(expected.is_kept(), "{settings:?} is built");
                    let cookie = set(&layer);
                    let seen = parsed(&cookie);
                    assert_eq!(seen, Parsed { value: cookie.value().to_owned(), ..expected }, "{settings:?}");
                    built += 1;
                }
                Err(error) => {
                    assert!(!expected.is_kept(), "{settings:?}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(built > 500 && refused > 500, "{built} {refused}");
    }

    #[test]
    fn another_parser_reads_the_same() {
        for settings in all() {
            let Ok(layer) = settings.builder().build() else { continue };
            let cookie = set(&layer);
            let seen = cookie::Cookie::parse(cookie.header().to_str().unwrap()).unwrap();
            assert_eq!((seen.name(), seen.value()), (cookie.name(), cookie.value()));
            assert!(seen.domain().unwrap_or("").eq_ignore_ascii_case(settings.domain.unwrap_or("")));
            assert_eq!(seen.path(), settings.path.or(Some("/")));
            assert_eq!(seen.http_only(), Some(true));
            assert_eq!(seen.secure().unwrap_or(false), !settings.insecure);
            assert_eq!(seen.partitioned().unwrap_or(false), settings.partitioned);
            let same_site = match settings.same_site.unwrap_or(SameSite::Lax) {
                SameSite::Strict => cookie::SameSite::Strict,
                SameSite::None => cookie::SameSite::None,
                _ => cookie::SameSite::Lax,
            };
            assert_eq!(seen.same_site(), Some(same_site));
            assert_eq!(Duration::try_from(seen.max_age().unwrap()), Ok(DAY));
            assert_eq!(seen.expires(), None);
        }
    }

    #[test]
    fn set_removal_and_marker_agree_in_all_but_name_value_and_lifetime() {
        let mut compared = 0;
        for settings in all() {
            let Ok(layer) = settings.builder().build() else { continue };
            let set = parsed(&set(&layer));
            let cookies = departure(&layer);
            let [removal, marker] = &cookies[..] else { panic!("{cookies:?}") };
            let (removal, marker) = (parsed(removal), parsed(marker));
            assert_eq!(removal.name, set.name);
            assert_eq!(removal.value, "");
            assert_eq!(removal.get("max-age"), Some("0"));
            assert_eq!(removal.identity(), set.identity());
            assert_eq!(marker.name, format!("{}-out", set.name));
            assert_ne!(marker.value, "");
            assert_eq!(marker.get("max-age"), Some("34560000"));
            assert_eq!(marker.identity(), set.identity());
            assert!(removal.is_kept() && marker.is_kept());
            compared += 1;
        }
        assert!(compared > 500);
    }

    #[test]
    fn an_earlier_identity_has_its_own_name_domain_path_and_partitioned_and_the_rest_of_now() {
        let layer = layer(
            builder()
                .name("__Secure-id")
                .domain("example.com")
                .same_site(SameSite::Strict)
                .formerly(Identity::named("sid").path("/app"))
                .formerly(Identity::current().domain("www.example.com").partitioned()),
        );
        let cookies: Vec<_> = departure(&layer).iter().map(parsed).collect();
        let attributes = |more: &[(&str, Option<&str>)]| {
            let base = [("httponly", None), ("secure", None), ("samesite", Some("Strict"))];
            let all =
                base.iter().chain(more).map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)));
            all.collect::<BTreeMap<_, _>>()
        };
        let expected = [
            ("__Secure-id", attributes(&[("path", Some("/")), ("domain", Some("example.com"))])),
            ("sid", attributes(&[("path", Some("/app"))])),
            (
                "__Secure-id",
                attributes(&[
                    ("path", Some("/")),
                    ("domain", Some("www.example.com")),
                    ("partitioned", None),
                ]),
            ),
        ];
        let (removals, markers) = cookies.split_at(3);
        for (((name, attributes), removal), marker) in expected.iter().zip(removals).zip(markers) {
            assert_eq!((removal.name.as_str(), &removal.identity()), (*name, attributes));
            assert_eq!(removal.get("max-age"), Some("0"));
            assert_eq!((&marker.name, &marker.identity()), (&format!("{name}-out"), attributes));
            assert_ne!(marker.value, "");
        }
        assert_eq!(markers.len(), 3);
    }

    #[test]
    fn an_earlier_identity_that_a_browser_takes_for_one_of_now_is_refused() {
        // Its removal would sign out whoever writes.
        let new = || builder().name("id").domain("example.com").path("/a").partitioned();
        let now = || Identity::named("id").domain("example.com").path("/a").partitioned();
        let refused =
            |identity| matches!(faults(new().formerly(identity))[..], [ConfigError::FormerlyTwice { .. }]);
        assert!(refused(now()));
        assert!(refused(Identity::current()));
        assert!(refused(now().domain("EXAMPLE.com")), "browsers compare a Domain without case");
        let marker = Identity::named("id-out").domain("Example.com").path("/a").partitioned();
        assert!(refused(marker), "the sign-out marker");
        // In each of these it is another cookie.
        for identity in [
            Identity::named("ID").domain("example.com").path("/a").partitioned(),
            now().domain("www.example.com"),
            now().path("/A"),
            now().path("/a/"),
            Identity::named("id").domain("example.com").path("/a"),
            Identity::named("id").path("/a").partitioned(),
        ] {
            assert!(faults(new().formerly(identity.clone())).is_empty(), "{identity:?}");
            assert!(matches!(
                faults(new().formerly(identity.clone()).formerly(identity))[..],
                [ConfigError::FormerlyTwice { .. }]
            ));
        }
    }

    #[test]
    fn each_refusal_of_a_prefix_says_which_rule() {
        let one = |builder| match &faults(builder)[..] {
            [one] => format!("{one:?}"),
            other => panic!("{other:?}"),
        };
        for name in ["__Host-id", "__HOST-id", "__host-http-id", "__Host-Http-id"] {
            assert!(one(builder().name(name).domain("example.com")).contains("has a Domain"));
            assert!(one(builder().name(name).path("/app")).contains("whose Path is"));
        }
        for name in ["__Host-id", "__SECURE-id", "__secure-id", "__http-id", "__HOST-HTTP-id", "__Secure-"] {
            assert!(one(builder().name(name).insecure_for_local_http()).contains("that is not Secure"));
        }
        for name in ["__Secure-id", "__Http-id"] {
            assert!(faults(builder().name(name).domain("example.com").path("/app")).is_empty());
        }
    }
}

mod injection {
    use super::*;

    /// Every ASCII character, those above that a byte can hold, and some beyond.
    fn characters() -> impl Iterator<Item = char> {
        ('\0'..='\u{ff}').chain(['\u{130}', '\u{212a}', '\u{2028}', '\u{ff1b}', '\u{ff1d}', '\u{1f36a}'])
    }

    /// Which characters are let through, in the middle, at the start and at the end of a text.
    fn accepted(with: impl Fn(String) -> SessionBuilder<u64>) -> [String; 3] {
        let good = |text: &dyn Fn(char) -> String| {
            characters().filter(|c| faults(with(text(*c))).is_empty()).collect::<String>()
        };
        [good(&|c| format!("a{c}b")), good(&|c| format!("{c}a")), good(&|c| format!("a{c}"))]
    }

    const ALPHANUMERIC: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    fn sorted(text: &str) -> String {
        let mut characters: Vec<char> = text.chars().collect();
        characters.sort_unstable();
        characters.into_iter().collect()
    }

    #[test]
    fn a_name_is_a_token() {
        let token = sorted(&format!("{ALPHANUMERIC}!#$%&'*+-.^_`|~"));
        assert_eq!(accepted(|text| builder().name(text)), [token.clone(), token.clone(), token]);
        assert!(matches!(faults(builder().name(""))[..], [ConfigError::InvalidName { .. }]));
    }

    #[test]
    fn a_domain_is_made_of_letters_digits_hyphens_and_dots() {
        let [middle, start, end] =
            accepted(|text| builder().name("id").domain(format!("{text}.example.com")));
        assert_eq!(middle, sorted(&format!("{ALPHANUMERIC}-.")));
        assert_eq!(start, sorted(ALPHANUMERIC), "no label begins with a hyphen or is empty");
        assert_eq!(end, sorted(ALPHANUMERIC), "no label ends with a hyphen or is empty");
        for domain in ["", ".", ".example.com", "example.com.", "a..b", "-a.b", "a-.b"] {
            assert!(
                matches!(
                    faults(builder().name("id").domain(domain))[..],
                    [ConfigError::InvalidDomain { .. }]
                ),
                "{domain:?}"
            );
        }
    }

    #[test]
    fn a_path_is_printable_ascii_without_semicolons_and_does_not_end_with_a_blank() {
        let printable: String = (' '..='~').filter(|c| *c != ';').collect();
        let [middle, _, end] = accepted(|text| builder().name("id").path(format!("/{text}")));
        assert_eq!(middle, printable);
        // A browser would trim it, and keep a cookie of another path.
        assert_eq!(end, printable.trim_start());
    }

    #[test]
    fn a_path_begins_with_a_slash() {
        for path in ["", "app", " /", "./", "http://example.com/"] {
            assert!(
                matches!(faults(builder().name("id").path(path))[..], [ConfigError::PathWithoutSlash { .. }]),
                "{path:?}"
            );
        }
    }

    #[test]
    fn no_setting_can_bring_in_an_attribute_or_a_header() {
        let payloads = [
            "; Domain=x",
            ";Domain=x",
            "\r\nSet-Cookie: a=b",
            "\nX: y",
            "\r",
            "\0",
            "; Max-Age=0",
            ";",
            "\u{a0}",
            "é",
            "\u{2028}",
            "\x7f",
        ];
        for payload in payloads {
            let name = faults(builder().name(format!("id{payload}")));
            assert!(matches!(name[..], [ConfigError::InvalidName { .. }]), "{payload:?}: {name:?}");
            let domain = faults(builder().name("id").domain(format!("example.com{payload}")));
            assert!(matches!(domain[..], [ConfigError::InvalidDomain { .. }]), "{payload:?}: {domain:?}");
            // CVE-2026-88038: "/; Domain=x".
            let path = faults(builder().name("id").path(format!("/{payload}")));
            assert!(matches!(path[..], [ConfigError::InvalidPath { .. }]), "{payload:?}: {path:?}");
            for identity in [
                Identity::named(format!("id{payload}")),
                Identity::named("id").domain(format!("example.com{payload}")),
                Identity::named("id").path(format!("/{payload}")),
            ] {
                assert_eq!(faults(builder().formerly(identity)).len(), 1, "{payload:?}");
            }
        }
    }

    #[test]
    fn attributes_of_1024_octets_are_good_and_longer_ones_are_refused() {
        let domain = |octets: usize| {
            let mut text = "a.".repeat(octets / 2);
            text.truncate(octets - 1);
            text + "b"
        };
        let path = |octets: usize| format!("/{}", "p".repeat(octets - 1));
        let with_domain = |octets| builder().name("id").domain(domain(octets));
        let with_path = |octets| builder().name("id").path(path(octets));
        assert_eq!(parsed(&set(&layer(with_domain(1024)))).get("domain"), Some(domain(1024).as_str()));
        assert_eq!(parsed(&set(&layer(with_path(1024)))).get("path"), Some(path(1024).as_str()));
        for octets in [1025, 2000, 100_000] {
            let expected = |setting| [ConfigError::AttributeTooLong { setting, bytes: octets }];
            assert_eq!(faults(with_domain(octets)), expected("domain"));
            assert_eq!(faults(with_path(octets)), expected("path"));
        }
        // Octets, not characters.
        let path = format!("/{}", "é".repeat(512));
        assert_eq!(
            faults(builder().name("id").path(path)),
            [ConfigError::AttributeTooLong { setting: "path", bytes: 1025 }]
        );
    }

    #[test]
    fn both_long_attributes_leave_room_for_a_session_in_one_cookie() {
        let domain = "a.".repeat(511) + "bb";
        let path = format!("/{}", "p".repeat(1023));
        let cookie = set(&layer(builder().name("id").domain(domain).path(path)));
        assert!(cookie.header().len() < 4093);
        assert_eq!(parsed(&cookie).get("max-age"), Some("86400"));
    }
}
