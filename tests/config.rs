//! Settings from TOML, JSON and the environment, and every fault that `build()` can find in them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use config::{Config, Environment, File, FileFormat};
use cookie_session::{
    ConfigError, Identity, Imported, Key, KeyError, KeyRing, KeyRingHandle, Lifetime, Mode, NotEncodable,
    OldCookies, OldFormat, RejectedKind, SameSite, Session, SessionBuilder, SessionConfig, SessionLayer,
    UpdateError, Weakness,
};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    error::Error as _,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, UNIX_EPOCH},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

const ONE: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
const TWO: &str = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";
const THREE: &str = "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f";

const WAY_OUT: &str = "openssl rand -base64 32";

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn ring() -> KeyRing {
    KeyRing::new(key(ONE), []).unwrap()
}

fn builder() -> SessionBuilder<String> {
    SessionLayer::builder(ring())
}

fn json(value: serde_json::Value) -> SessionBuilder<String> {
    SessionLayer::from_config(serde_json::from_value(value).unwrap())
}

/// Settings with a good key, and these beside it.
fn with(mut value: serde_json::Value) -> SessionBuilder<String> {
    let table = value.as_object_mut().unwrap();
    if !table.contains_key("keys") {
        table.insert("keys".to_owned(), json!({ "primary": ONE }));
    }
    json(value)
}

fn fault<T>(builder: SessionBuilder<T>) -> ConfigError
where
    T: Default + Serialize + for<'de> Deserialize<'de> + Send + 'static,
{
    builder.build().expect_err("a fault")
}

/// The variant's name.
fn variant(error: &ConfigError) -> String {
    macro_rules! name {
        ($($variant:ident)*) => {
            match error {
                $(ConfigError::$variant { .. } => stringify!($variant),)*
                other => panic!("a variant without a name here: {other}"),
            }
        };
    }
    let name = name!(Key NoPrimaryKey InvalidName HostPrefixWithDomain HostPrefixWithPath InsecurePrefix InsecureSameSiteNone InsecurePartitioned InvalidDomain InvalidPath PathWithoutSlash AttributeTooLong LifetimeTooShort LifetimeTooLong IdleOverAbsolute ReissueOverHalfIdle MaxSetCookieTooLarge NoRoom MigrationNotOlder MigrationTwice WriteAsWithoutMigration WriteAsOtherShape WriteAsTwice TypeNotStorable DefaultNotStorable DoesNotComeBack FormerlyTwice ImportSameName ImportWithoutCookie ImportSealed OldKeyShort UnknownField WrongValue BothGiven Several);
    name.to_owned()
}

/// All that a layer can be seen to do with its settings.
fn portrait(builder: SessionBuilder<String>) -> Vec<String> {
    let start = UNIX_EPOCH + 30_000 * DAY;
    let passed = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&passed);
    let layer = builder
        .clock(move || start + Duration::from_millis(clock.load(SeqCst)))
        .build()
        .expect("good settings");
    let codec = layer.codec();
    let text = "x".to_owned();
    let cookie = codec.seal(&text, None, None, start).unwrap();
    let frame = URL_SAFE_NO_PAD.decode(cookie.value()).unwrap();
    let request = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
    let opened = codec.open(&request, start);
    let meta = opened.meta().expect("it opens its own");
    let mut seen = vec![
        format!("{} {}", cookie.name(), cookie.attributes()),
        format!("suite {}, key {}, {:?}", frame[0], meta.key_id(), meta.mode()),
        format!("idle {:?}", meta.idle_deadline().unwrap().duration_since(start).unwrap()),
        format!("absolute {:?}", meta.absolute_deadline().duration_since(start).unwrap()),
    ];
    for removal in codec.removals(&opened, start).cookies() {
        seen.push(format!("removal {} {}", removal.name(), removal.attributes()));
    }
    let fallbacks = layer.keys().counters().opened_by_fallback;
    seen.push(format!("fallbacks {:?}", fallbacks.iter().map(|(id, _)| *id).collect::<Vec<_>>()));

    match codec.seal(&"x".repeat(5000), None, None, start) {
        Err(UpdateError::TooLarge(error)) => seen.push(format!("at most {}", error.max_set_cookie())),
        other => panic!("{other:?}"),
    }
    for context in ["", "shop", "blog"] {
        for mode in [Mode::Encrypted, Mode::Signed] {
            let other = self::builder().name(cookie.name()).context(context).mode(mode).build().unwrap();
            let cookie = other.codec().seal(&text, None, None, start).unwrap();
            let request = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
            if codec.open(&request, start).value().is_some() {
                seen.push(format!("reads {context:?} {mode:?}"));
            }
        }
    }
    let (longest, _) =
        send(&layer, None, |session| session.set_lifetime(Lifetime::Own(1000 * DAY)).unwrap_err());
    seen.push(format!("{longest:?}"));
    // The age at which a read sets a cookie, to the second.
    let re_issued_after = |seconds: u64| {
        passed.store(seconds * 1000, SeqCst);
        let ((), headers) = send(&layer, Some(cookie.request_header()), |session| session.read(|_| ()));
        headers.contains_key(SET_COOKIE)
    };
    let idle = meta.idle_deadline().unwrap().duration_since(start).unwrap().as_secs();
    let (mut before, mut after) = (0, idle / 2);
    assert!(re_issued_after(after));
    while before < after {
        let middle = before.midpoint(after);
        if re_issued_after(middle) { after = middle } else { before = middle + 1 }
    }
    seen.push(format!("re-issued after {after} s"));
    seen
}

fn send<R>(
    layer: &SessionLayer<String>,
    cookies: Option<HeaderValue>,
    handler: impl FnOnce(&Session<String>) -> R,
) -> (R, HeaderMap) {
    let mut request = Request::new(());
    request.headers_mut().extend(cookies.map(|cookies| (COOKIE, cookies)));
    let (mut handler, mut result) = (Some(handler), None);
    let service = service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let session = Session::from_parts(&parts).unwrap();
        let handler = handler.take().expect("one request");
        result = Some(handler(&session));
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    });
    let future = pin!(layer.layer(service).oneshot(request));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => (result.unwrap(), response.into_parts().0.headers),
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// Files that go away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

mod formats {
    use super::*;

    const TOML: &str = r#"
        name = "__Secure-shop"
        context = "shop"
        domain = "example.com"
        path = "/shop"
        same_site = "strict"
        partitioned = true
        max_set_cookie = 2000
        mode = "signed"
        accept_mode = "encrypted"
        idle_timeout = "30m"
        absolute_timeout = "7days"
        max_own_lifetime = "30days"
        reissue_after = "5m"

        [keys]
        primary = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
        fallbacks = [
            "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
            "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f",
        ]
    "#;

    const JSON: &str = r#"{
        "name": "__Secure-shop",
        "context": "shop",
        "domain": "example.com",
        "path": "/shop",
        "same_site": "strict",
        "partitioned": true,
        "max_set_cookie": 2000,
        "mode": "signed",
        "accept_mode": "encrypted",
        "idle_timeout": "30m",
        "absolute_timeout": "7days",
        "max_own_lifetime": "30days",
        "reissue_after": "5m",
        "keys": {
            "primary": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
            "fallbacks": [
                "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
                "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f"
            ]
        }
    }"#;

    const ENVIRONMENT: [(&str, &str); 15] = [
        ("APP__NAME", "__Secure-shop"),
        ("APP__CONTEXT", "shop"),
        ("APP__DOMAIN", "example.com"),
        ("APP__PATH", "/shop"),
        ("APP__SAME_SITE", "strict"),
        ("APP__PARTITIONED", "true"),
        ("APP__MAX_SET_COOKIE", "2000"),
        ("APP__MODE", "signed"),
        ("APP__ACCEPT_MODE", "encrypted"),
        ("APP__IDLE_TIMEOUT", "30m"),
        ("APP__ABSOLUTE_TIMEOUT", "7days"),
        ("APP__MAX_OWN_LIFETIME", "30days"),
        ("APP__REISSUE_AFTER", "5m"),
        ("APP__KEYS__PRIMARY", ONE),
        (
            "APP__KEYS__FALLBACKS",
            "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3,\
             8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f",
        ),
    ];

    fn by_code() -> SessionBuilder<String> {
        SessionLayer::builder(KeyRing::new(key(ONE), [key(TWO), key(THREE)]).unwrap())
            .name("__Secure-shop")
            .context("shop")
            .domain("example.com")
            .path("/shop")
            .same_site(SameSite::Strict)
            .partitioned()
            .max_set_cookie(2000)
            .mode(Mode::Signed)
            .accept_mode(Mode::Encrypted)
            .idle_timeout(30 * MINUTE)
            .absolute_timeout(7 * DAY)
            .max_own_lifetime(30 * DAY)
            .reissue_after(5 * MINUTE)
    }

    fn environment<'e>(variables: impl IntoIterator<Item = (&'e str, &'e str)>) -> Environment {
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Environment::with_prefix("APP")
            .prefix_separator("__")
            .separator("__")
            .source(Some(variables.collect::<HashMap<_, _>>()))
    }

    fn from_source(source: impl config::Source + Send + Sync + 'static) -> SessionBuilder<String> {
        let config = Config::builder().add_source(source).build().unwrap();
        SessionLayer::from_config(config.try_deserialize().unwrap())
    }

    #[test]
    fn every_format_and_code_give_the_same_layer() {
        let expected = portrait(by_code());
        assert_eq!(
            expected,
            [
                "__Secure-shop HttpOnly; SameSite=Strict; Partitioned; Secure; Path=/shop; Domain=example.com; \
                 Max-Age=1800",
                "suite 2, key ddb91114, Signed",
                "idle 1800s",
                "absolute 604800s",
                "removal __Secure-shop HttpOnly; SameSite=Strict; Partitioned; Secure; Path=/shop; \
                 Domain=example.com; Max-Age=0",
                "removal __Secure-shop-out HttpOnly; SameSite=Strict; Partitioned; Secure; Path=/shop; \
                 Domain=example.com; Max-Age=34560000",
                "fallbacks [a0a7d55d, 36ebc324]",
                "at most 2000",
                "reads \"shop\" Encrypted",
                "reads \"shop\" Signed",
                "LifetimeTooLong { asked: 86400000s, max: 2592000s }",
                "re-issued after 300 s",
            ]
        );
        let from = SessionLayer::from_config;
        assert_eq!(portrait(from(toml::from_str(TOML).unwrap())), expected);
        assert_eq!(portrait(from(serde_json::from_str(JSON).unwrap())), expected);
        assert_eq!(portrait(from(serde_json::from_reader(JSON.as_bytes()).unwrap())), expected);
        let value: toml::Value = toml::from_str(TOML).unwrap();
        assert_eq!(portrait(from(value.try_into().unwrap())), expected);
        assert_eq!(portrait(from_source(File::from_str(TOML, FileFormat::Toml))), expected);
        assert_eq!(portrait(from_source(File::from_str(JSON, FileFormat::Json))), expected);
        assert_eq!(portrait(from_source(environment(ENVIRONMENT))), expected);
        assert_eq!(portrait(from_source(environment(ENVIRONMENT).try_parsing(true))), expected);
    }

    #[test]
    fn nothing_but_a_key_gives_the_builders_defaults() {
        let expected = portrait(builder());
        assert_eq!(
            expected,
            [
                "__Host-Http-session HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400",
                "suite 1, key ddb91114, Encrypted",
                "idle 86400s",
                "absolute 1209600s",
                "removal __Host-Http-session HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0",
                "removal __Host-Http-session-out HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=34560000",
                "fallbacks []",
                "at most 4093",
                "reads \"\" Encrypted",
                "LifetimeTooLong { asked: 86400000s, max: 1209600s }",
                "re-issued after 8640 s",
            ]
        );
        let from = SessionLayer::from_config;
        assert_eq!(portrait(json(json!({ "keys": { "primary": ONE } }))), expected);
        assert_eq!(portrait(from(toml::from_str(&format!("[keys]\nprimary = '{ONE}'")).unwrap())), expected);
        assert_eq!(portrait(from_source(environment([("APP__KEYS__PRIMARY", ONE)]))), expected);
    }

    #[test]
    fn each_setting_alone_is_what_the_builder_makes_of_it() {
        let named = || builder().name("id");
        let pairs = [
            (with(json!({ "name": "id" })), named()),
            (with(json!({ "context": "blog" })), builder().context("blog")),
            (with(json!({ "name": "id", "domain": "example.com" })), named().domain("example.com")),
            (with(json!({ "name": "id", "path": "/a" })), named().path("/a")),
            (with(json!({ "same_site": "strict" })), builder().same_site(SameSite::Strict)),
            (with(json!({ "same_site": "lax" })), builder().same_site(SameSite::Lax)),
            (with(json!({ "same_site": "none" })), builder().same_site(SameSite::None)),
            (with(json!({ "partitioned": true })), builder().partitioned()),
            (with(json!({ "partitioned": false })), builder()),
            (with(json!({ "insecure_for_local_http": true })), builder().insecure_for_local_http()),
            (with(json!({ "insecure_for_local_http": false })), builder()),
            (with(json!({ "max_set_cookie": 1000 })), builder().max_set_cookie(1000)),
            (with(json!({ "mode": "signed" })), builder().mode(Mode::Signed)),
            (with(json!({ "mode": "encrypted" })), builder().mode(Mode::Encrypted)),
            (with(json!({ "accept_mode": "signed" })), builder().accept_mode(Mode::Signed)),
            (with(json!({ "idle_timeout": "30m" })), builder().idle_timeout(30 * MINUTE)),
            (with(json!({ "absolute_timeout": "2days" })), builder().absolute_timeout(2 * DAY)),
            // Shorter than the default idle timeout, which follows it.
            (with(json!({ "absolute_timeout": "2h" })), builder().absolute_timeout(2 * HOUR)),
            (with(json!({ "max_own_lifetime": "300days" })), builder().max_own_lifetime(300 * DAY)),
            (with(json!({ "reissue_after": "1h" })), builder().reissue_after(HOUR)),
            (
                with(json!({ "formerly": [{ "name": "old" }, { "path": "/a", "name": "old" }] })),
                builder().formerly(Identity::named("old")).formerly(Identity::named("old").path("/a")),
            ),
        ];
        for (nth, (by_config, by_code)) in pairs.into_iter().enumerate() {
            assert_eq!(portrait(by_config), portrait(by_code), "the pair at {nth}");
        }
    }

    #[test]
    fn earlier_identities_are_a_list_of_tables_and_resolve_as_by_code() {
        let toml = format!(
            r#"
            name = "__Secure-id"
            domain = "example.com"
            [keys]
            primary = "{ONE}"
            [[formerly]]
            path = "/app"
            [[formerly]]
            name = "session"
            [[formerly]]
            domain = "www.example.com"
            partitioned = true
            [[formerly]]
            name = "sid"
            domain = "example.com"
            path = "/old"
            partitioned = "true"
            "#
        );
        let by_config = SessionLayer::from_config(toml::from_str(&toml).unwrap());
        let by_code = builder()
            .name("__Secure-id")
            .domain("example.com")
            .formerly(Identity::current().path("/app"))
            .formerly(Identity::named("session"))
            .formerly(Identity::current().domain("www.example.com").partitioned())
            .formerly(Identity::named("sid").domain("example.com").path("/old").partitioned());
        let seen = portrait(by_config);
        assert_eq!(seen, portrait(by_code));
        let removed: Vec<_> = seen
            .iter()
            .filter_map(|line| line.strip_prefix("removal "))
            .filter(|line| line.ends_with("Max-Age=0"))
            .map(|line| line.replace("HttpOnly; SameSite=Lax; ", "").replace("Secure; ", ""))
            .collect();
        assert_eq!(
            removed,
            [
                "__Secure-id Path=/; Domain=example.com; Max-Age=0",
                "__Secure-id Path=/app; Domain=example.com; Max-Age=0",
                "session Path=/; Max-Age=0",
                "__Secure-id Partitioned; Path=/; Domain=www.example.com; Max-Age=0",
                "sid Partitioned; Path=/old; Domain=example.com; Max-Age=0",
            ]
        );
    }

    /// Whose session the layer accepts, of those that were made in the old identity: at these seconds of the first
    /// of March 2027.
    fn accepted_on_the_first_of_march(
        builder: SessionBuilder<String>,
        old: SessionBuilder<String>,
    ) -> Vec<i64> {
        let day = UNIX_EPOCH + Duration::from_secs(1_803_859_200);
        let (layer, old) = (builder.build().unwrap(), old.build().unwrap());
        let seen = |seconds: i64| {
            let now = day - HOUR + Duration::from_secs(u64::try_from(seconds + 3600).unwrap());
            let cookie = old.codec().seal(&"x".to_owned(), None, None, now).unwrap();
            let request = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
            layer.codec().open(&request, now).value().is_some()
        };
        [-1, 0, 43_199, 43_200].into_iter().filter(|seconds| seen(*seconds)).collect()
    }

    #[test]
    fn an_identity_has_a_context_a_mode_and_a_date() {
        let base = format!(
            "context = 'new'\nkeys.primary = '{ONE}'\n[[formerly]]\nname = 'old'\ncontext = 'shop'\nmode = 'signed'\n"
        );
        let old = |context: &str, mode| builder().name("old").context(context).mode(mode);
        let from =
            |until: &str| SessionLayer::from_config(toml::from_str(&format!("{base}{until}")).unwrap());
        for (until, accepted) in [
            ("", vec![]),
            ("until = '2027-03-01'", vec![-1]),
            ("until = ' 2027-03-01T00:00:00Z '", vec![-1]),
            ("until = '2027-03-01T12:00:00Z'", vec![-1, 0, 43_199]),
            ("until = '2027-03-01T11:59:59.5Z'", vec![-1, 0, 43_199]),
            // Without quotes.
            ("until = 2027-03-01", vec![-1]),
            ("until = 2027-03-01T12:00:00Z", vec![-1, 0, 43_199]),
            ("until = 2027-03-02", vec![-1, 0, 43_199, 43_200]),
            // One that is over is none.
            ("until = 1970-01-01", vec![]),
        ] {
            assert_eq!(
                accepted_on_the_first_of_march(from(until), old("shop", Mode::Signed)),
                accepted,
                "{until}"
            );
            for other in [old("new", Mode::Signed), old("shop", Mode::Encrypted)] {
                assert_eq!(accepted_on_the_first_of_march(from(until), other), [0; 0], "{until}");
            }
        }
        // What is left out is the present one.
        let present = |text: &str| {
            let text =
                format!("context = 'new'\nkeys.primary = '{ONE}'\n[[formerly]]\n{text}\nuntil = 2027-03-01");
            SessionLayer::from_config(toml::from_str(&text).unwrap())
        };
        let named = present("name = 'old'");
        assert_eq!(accepted_on_the_first_of_march(named, old("new", Mode::Encrypted)), [-1]);
        let of_context = builder().context("shop");
        assert_eq!(accepted_on_the_first_of_march(present("context = 'shop'"), of_context), [-1]);
        let of_mode = builder().context("new").mode(Mode::Signed);
        assert_eq!(accepted_on_the_first_of_march(present("mode = 'signed'"), of_mode), [-1]);

        // From JSON, and through a loader that reads the file itself.
        let json = with(json!({
            "context": "new",
            "formerly": [{ "name": "old", "context": "shop", "mode": "signed", "until": "2027-03-01" }],
        }));
        assert_eq!(accepted_on_the_first_of_march(json, old("shop", Mode::Signed)), [-1]);
        for until in ["'2027-03-01'", "2027-03-01", "2027-03-01T00:00:00Z"] {
            let text = format!("{base}until = {until}");
            let loaded = from_source(File::from_str(&text, FileFormat::Toml));
            assert_eq!(accepted_on_the_first_of_march(loaded, old("shop", Mode::Signed)), [-1], "{until}");
        }
    }

    #[test]
    fn a_section_of_a_larger_file_with_a_key_from_the_environment() {
        #[derive(Deserialize)]
        struct App {
            port: u16,
            session: SessionConfig,
        }
        let file = "port = 8080\n[session]\nname = \"__Host-id\"\ncontext = \"shop\"\nidle_timeout = \"30m\"";
        let config = Config::builder()
            .add_source(File::from_str(file, FileFormat::Toml))
            .add_source(environment([
                ("APP__SESSION__KEYS__PRIMARY", ONE),
                ("APP__SESSION__IDLE_TIMEOUT", "1h"),
            ]))
            .build()
            .unwrap();
        let app: App = config.clone().try_deserialize().unwrap();
        assert_eq!(app.port, 8080);
        let expected = portrait(builder().name("__Host-id").context("shop").idle_timeout(HOUR));
        assert_eq!(portrait(SessionLayer::from_config(app.session)), expected);
        assert_eq!(portrait(SessionLayer::from_config(config.get("session").unwrap())), expected);
    }

    #[test]
    fn what_code_says_after_the_configuration_holds() {
        let config = || with(json!({ "name": "a", "idle_timeout": "30m", "partitioned": true }));
        let expected = builder().name("b").idle_timeout(HOUR).partitioned();
        assert_eq!(portrait(config().name("b").idle_timeout(HOUR)), portrait(expected));
    }

    #[test]
    fn a_configuration_can_be_cloned() {
        let config: SessionConfig =
            serde_json::from_value(json!({ "name": "a", "keys": { "primary": ONE } })).unwrap();
        let copy = config.clone();
        assert_eq!(portrait(SessionLayer::from_config(config)), portrait(SessionLayer::from_config(copy)));
    }
}

mod values {
    use super::*;

    /// The faults of one setting with this value.
    fn refused(field: &str, value: serde_json::Value) -> ConfigError {
        fault(with(json!({ field: value })))
    }

    fn wrong(field: &str, expected: &str) -> impl Fn(&ConfigError) -> bool {
        move |error| matches!(error, ConfigError::WrongValue { field: f, expected: e } if f == field && e.contains(expected))
    }

    #[test]
    fn durations_are_written_as_people_write_them() {
        let absolute = |text: &str| {
            let layer =
                with(json!({ "absolute_timeout": text })).build().unwrap_or_else(|e| panic!("{text}: {e}"));
            let cookie = layer.codec().seal(&String::new(), None, None, UNIX_EPOCH).unwrap();
            let request = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
            let opened = layer.codec().open(&request, UNIX_EPOCH);
            opened.meta().unwrap().absolute_deadline().duration_since(UNIX_EPOCH).unwrap()
        };
        for (text, seconds) in [
            ("90s", 90),
            ("90 s", 90),
            ("90sec", 90),
            ("30m", 1800),
            ("30min", 1800),
            ("30 minutes", 1800),
            ("24h", 86_400),
            ("24hours", 86_400),
            ("14d", 14 * 86_400),
            ("14days", 14 * 86_400),
            ("14 days", 14 * 86_400),
            ("2w", 14 * 86_400),
            ("1h 30m", 5400),
            ("1h30m", 5400),
            (" 1h\n", 3600),
        ] {
            assert_eq!(absolute(text), Duration::from_secs(seconds), "{text:?}");
        }
        assert_eq!(absolute("1500ms"), Duration::from_millis(1500));
    }

    #[test]
    fn a_bare_number_is_no_duration_nor_is_what_has_no_known_unit() {
        let values = [
            json!(1800),
            json!("1800"),
            json!(0),
            json!("0"),
            json!(1.5),
            json!(-5),
            json!("-5m"),
            json!("5 parsecs"),
            json!(""),
            json!(" "),
            json!("m"),
            json!("30m 5"),
            json!(true),
            json!(["30m"]),
            json!({ "minutes": 30 }),
            json!("99999999999999999999days"),
        ];
        for field in ["idle_timeout", "absolute_timeout", "max_own_lifetime", "reissue_after"] {
            for value in &values {
                let error = refused(field, value.clone());
                assert!(wrong(field, "90s")(&error), "{field} = {value}: {error:?}");
            }
        }
    }

    #[test]
    fn switches_are_booleans_or_their_text() {
        for field in ["partitioned", "insecure_for_local_http"] {
            let portrait = |value| portrait(with(json!({ field: value })));
            assert_eq!(portrait(json!(true)), portrait(json!("true")));
            assert_eq!(portrait(json!(false)), portrait(json!(" false ")));
            assert_ne!(portrait(json!(true)), portrait(json!(false)));
            for value in
                [json!(1), json!("1"), json!("yes"), json!("on"), json!(""), json!([true]), json!({})]
            {
                let error = refused(field, value.clone());
                assert!(wrong(field, "true or false")(&error), "{value}: {error:?}");
            }
        }
    }

    #[test]
    fn numbers_of_bytes_are_whole_numbers_or_their_text() {
        let portrait = |value| portrait(with(json!({ "max_set_cookie": value })));
        assert_eq!(portrait(json!(1000)), portrait(json!("1000")));
        assert_eq!(portrait(json!(1000)), portrait(json!(" 1000 ")));
        for value in [
            json!(-1),
            json!(1e3),
            json!("1k"),
            json!("1000.0"),
            json!(""),
            json!(true),
            json!([1000]),
            json!({}),
        ] {
            let error = refused("max_set_cookie", value.clone());
            assert!(wrong("max_set_cookie", "bytes")(&error), "{value}: {error:?}");
        }
    }

    #[test]
    fn words_are_taken_from_their_list_and_the_list_is_said() {
        for value in [json!("Laxx"), json!("no"), json!(""), json!(0), json!(true), json!(["lax"])] {
            assert!(wrong("same_site", "strict, lax or none")(&refused("same_site", value)));
        }
        for field in ["mode", "accept_mode"] {
            for value in [json!("plain"), json!("none"), json!(""), json!(1), json!({}), json!(["signed"])] {
                assert!(wrong(field, "encrypted or signed")(&refused(field, value)));
            }
        }
    }

    #[test]
    fn a_bad_value_of_an_identity_is_said_by_name() {
        const A_MOMENT: &str = "a day such as 2027-03-01, or a moment such as 2027-03-01T12:00:00Z";
        let refused = |field: &str, value| {
            let mut identity = serde_json::Map::from_iter([("name".to_owned(), json!("old"))]);
            identity.insert(field.to_owned(), value);
            fault(with(json!({ "formerly": [identity] })))
        };
        for value in [json!(1), json!(true), json!(["shop"]), json!({ "a": "b" })] {
            assert!(wrong("formerly.context", "text")(&refused("context", value)));
        }
        for value in [json!("plain"), json!(""), json!(1), json!(["signed"])] {
            assert!(wrong("formerly.mode", "encrypted or signed")(&refused("mode", value)));
        }
        let no_moments = [
            "",
            "soon",
            "2027",
            "2027-3-1",
            "01.03.2027",
            "2027-02-30",
            "2027-13-01",
            "2027-03-01T12:00:00",
            "2027-03-01T12:00:00+01:00",
            "2027-03-01T24:00:00Z",
            "2027-03-01 und",
            "12:00:00.1",
            "1969-12-31",
            "30days",
        ];
        let values = no_moments.map(|text| json!(text)).into_iter();
        for value in values.chain([json!(1_803_859_200), json!(true), json!(["2027-03-01"]), json!({})]) {
            assert!(wrong("formerly.until", A_MOMENT)(&refused("until", value.clone())), "{value}");
        }
        // Of the dates that TOML knows without quotes those without a zone are no moment.
        for until in ["2027-03-01T12:00:00", "12:00:00", "2027-03-01T12:00:00+01:00"] {
            let text = format!("keys.primary = '{ONE}'\n[[formerly]]\nname = 'old'\nuntil = {until}");
            let error = fault(SessionLayer::<String>::from_config(toml::from_str(&text).unwrap()));
            assert!(wrong("formerly.until", A_MOMENT)(&error), "{until}");
        }
        // Null is as if it were not there.
        for field in ["context", "mode", "until"] {
            with(json!({ "formerly": [{ "name": "old", field: null }] })).build().unwrap();
        }
        // Several are said together.
        let error =
            fault(with(json!({ "formerly": [{ "name": "old", "mode": "x", "until": "y", "untl": "z" }] })));
        let ConfigError::Several(errors) = error else { panic!("{error:?}") };
        let names: Vec<_> = errors.iter().map(variant).collect();
        assert_eq!(names, ["WrongValue", "WrongValue", "UnknownField"]);
    }

    #[test]
    fn text_is_text() {
        for field in ["name", "context", "domain", "path"] {
            for value in [json!(5), json!(true), json!(1.5), json!(["a"]), json!({ "a": "b" })] {
                assert!(wrong(field, "text")(&refused(field, value.clone())), "{field} = {value}");
            }
        }
    }

    #[test]
    fn null_is_as_if_it_were_not_there() {
        let nulls = json!({
            "name": null, "context": null, "domain": null, "path": null, "same_site": null, "partitioned": null,
            "insecure_for_local_http": null, "max_set_cookie": null, "mode": null, "accept_mode": null,
            "idle_timeout": null, "absolute_timeout": null, "max_own_lifetime": null, "reissue_after": null,
            "formerly": null,
            "keys": { "primary": ONE, "primary_file": null, "fallbacks": null, "fallbacks_file": null },
        });
        assert_eq!(portrait(json(nulls)), portrait(builder()));
        let identity = json!([{ "name": "old", "domain": null, "path": null, "partitioned": null }]);
        assert_eq!(
            portrait(with(json!({ "formerly": identity }))),
            portrait(builder().formerly(Identity::named("old")))
        );
        assert_eq!(fault(json(json!({ "keys": { "primary": null } }))), ConfigError::NoPrimaryKey);
        assert_eq!(fault(json(json!({ "keys": null }))), ConfigError::NoPrimaryKey);
        assert_eq!(fault(json(json!(null))), ConfigError::NoPrimaryKey);
    }

    #[test]
    fn anything_but_a_table_is_no_configuration() {
        for value in [json!("text"), json!(5), json!(true), json!([]), json!(["keys"]), json!(1.5)] {
            let error = fault(json(value.clone()));
            let ConfigError::Several(errors) = error else { panic!("{value}: {error:?}") };
            let table = |error: &ConfigError| matches!(error, ConfigError::WrongValue { expected, .. } if expected.contains("table"));
            assert!(errors.iter().any(table), "{value}: {errors:?}");
        }
        for value in [json!("text"), json!(5), json!([ONE]), json!(true)] {
            let error = fault(json(json!({ "keys": value })));
            assert!(wrong("keys", "table")(&error), "{value}: {error:?}");
        }
        for value in [json!("old"), json!({ "name": "old" }), json!(5)] {
            assert!(wrong("formerly", "list of tables")(&refused("formerly", value)));
        }
        for value in [json!(["old"]), json!([5]), json!([["old"]])] {
            let error = refused("formerly", value.clone());
            let errors = match error {
                ConfigError::Several(errors) => errors,
                one => vec![one],
            };
            assert!(errors.iter().any(wrong("formerly", "table")), "{value}: {errors:?}");
        }
    }

    #[test]
    fn a_field_given_twice_is_a_fault() {
        let text = format!(r#"{{ "name": "a", "name": "b", "keys": {{ "primary": "{ONE}" }} }}"#);
        let error = fault(SessionLayer::<String>::from_config(serde_json::from_str(&text).unwrap()));
        assert!(wrong("name", "once")(&error), "{error:?}");
        let text = format!(r#"{{ "keys": {{ "primary": "{ONE}", "primary": "{TWO}" }} }}"#);
        let error = fault(SessionLayer::<String>::from_config(serde_json::from_str(&text).unwrap()));
        assert!(wrong("keys.primary", "once")(&error), "{error:?}");
    }
}

mod keys {
    use super::*;

    fn fallbacks(keys: serde_json::Value) -> Vec<String> {
        let layer = json(json!({ "keys": keys })).build().unwrap();
        layer.keys().counters().opened_by_fallback.iter().map(|(id, _)| id.to_string()).collect()
    }

    fn key_fault(keys: serde_json::Value) -> (String, KeyError) {
        match fault(json(json!({ "keys": keys }))) {
            ConfigError::Key(KeyError::At { place, error }) => (place, *error),
            other => panic!("{other:?}"),
        }
    }

    fn at(place: &str, error: KeyError) -> (String, KeyError) {
        (place.to_owned(), error)
    }

    #[test]
    fn a_configuration_without_keys_takes_those_of_the_code() {
        let ring = || KeyRing::new(key(ONE), [key(TWO)]).unwrap();
        let without = || json(json!({ "context": "shop" }));
        let handle = KeyRingHandle::new(ring());
        for builder in [without().keys(ring()), without().keys(handle.clone())] {
            let layer = builder.build().unwrap();
            let cookie = layer.codec().seal(&String::new(), None, None, UNIX_EPOCH).unwrap();
            let request = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
            assert_eq!(layer.codec().open(&request, UNIX_EPOCH).meta().unwrap().key_id(), key(ONE).id());
        }
        assert_eq!(fault(without()), ConfigError::NoPrimaryKey);
    }

    #[test]
    fn keys_of_both_the_configuration_and_the_code_are_refused() {
        let ring = || KeyRing::new(key(ONE), []).unwrap();
        let with = json(json!({ "keys": { "primary": TWO } }));
        assert_eq!(variant(&fault(with.keys(ring()))), "BothGiven");
        let bad = json(json!({ "keys": { "primary": "short" } }));
        assert_eq!(variant(&fault(bad.keys(ring()))), "Several");
        let code = SessionLayer::<String>::builder(ring());
        assert_eq!(variant(&fault(code.keys(ring()))), "BothGiven");
    }

    #[test]
    fn fallbacks_are_a_list_or_a_text_with_commas_or_lines() {
        let two = [key(TWO).id().to_string(), key(THREE).id().to_string()];
        for value in [
            json!([TWO, THREE]),
            json!(format!("{TWO},{THREE}")),
            json!(format!("{TWO}\n{THREE}\n")),
            json!(format!(" {TWO} ,\n {THREE},")),
            json!([format!("{TWO},{THREE}")]),
            json!([TWO, "", THREE]),
        ] {
            assert_eq!(fallbacks(json!({ "primary": ONE, "fallbacks": value })), two);
        }
        for nothing in [json!([]), json!(""), json!(","), json!([""]), json!(null)] {
            assert!(fallbacks(json!({ "primary": ONE, "fallbacks": nothing })).is_empty());
        }
    }

    #[test]
    fn keys_can_stand_in_files() {
        let folder = Folder::new("files");
        let primary = folder.file("primary", &format!("{ONE}\n"));
        let list = folder.file("fallbacks", &format!("{TWO}\n{THREE}\n"));
        let expected =
            portrait(SessionLayer::builder(KeyRing::new(key(ONE), [key(TWO), key(THREE)]).unwrap()));
        let toml = format!("[keys]\nprimary_file = '{primary}'\nfallbacks_file = '{list}'");
        assert_eq!(portrait(SessionLayer::from_config(toml::from_str(&toml).unwrap())), expected);
        let mixed = json!({ "keys": { "primary": ONE, "fallbacks_file": list } });
        assert_eq!(portrait(json(mixed)), expected);
        let mixed = json!({ "keys": { "primary_file": primary, "fallbacks": [TWO, THREE] } });
        assert_eq!(portrait(json(mixed)), expected);
        let nothing = folder.file("nothing", "\n");
        assert!(fallbacks(json!({ "primary": ONE, "fallbacks_file": nothing })).is_empty());
    }

    #[test]
    fn the_ring_of_a_changed_configuration_replaces_that_of_a_running_layer() {
        let folder = Folder::new("changed");
        let primary = folder.file("primary", ONE);
        let config = |text: &str| -> SessionConfig { toml::from_str(text).unwrap() };
        let first = config(&format!("[keys]\nprimary_file = '{primary}'"));
        let layer = SessionLayer::<String>::from_config(first.clone()).build().unwrap();
        let keys = layer.keys();
        let sealed_with = || {
            let cookie = layer.codec().seal(&"x".to_owned(), None, None, UNIX_EPOCH + 30_000 * DAY).unwrap();
            let frame = URL_SAFE_NO_PAD.decode(cookie.value()).unwrap();
            frame[1..5].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(sealed_with(), key(ONE).id().to_string());

        // The same configuration, whose file has another key by now.
        folder.file("primary", TWO);
        keys.replace(first.key_ring().unwrap());
        assert_eq!(sealed_with(), key(TWO).id().to_string());

        let third =
            config(&format!("idle_timeout = '1h'\n[keys]\nprimary = '{THREE}'\nfallbacks = ['{TWO}']"));
        keys.replace(third.key_ring().unwrap());
        assert_eq!(sealed_with(), key(THREE).id().to_string());
        assert_eq!(keys.counters().opened_by_fallback[0].0, key(TWO).id());

        // What stands elsewhere counts: a configuration is good or it is not.
        folder.file("primary", "short");
        for (text, expected) in [
            (format!("[keys]\nprimary_file = '{primary}'"), "Key"),
            (format!("idle = '1h'\n[keys]\nprimary = '{ONE}'"), "UnknownField"),
            (format!("idle_timeout = 'long'\n[keys]\nprimary = '{ONE}'"), "WrongValue"),
            ("idle_timeout = '1h'".to_owned(), "NoPrimaryKey"),
            ("[keys]\nfallbacks = []".to_owned(), "NoPrimaryKey"),
            ("idle = '1h'".to_owned(), "Several"),
        ] {
            assert_eq!(variant(&config(&text).key_ring().unwrap_err()), expected, "{text}");
        }
    }

    #[test]
    fn a_fault_in_a_key_names_its_place_and_number() {
        let folder = Folder::new("places");
        let bad = folder.file("bad", "hunter2!");
        let empty = folder.file("empty", "\n");
        let list = folder.file("list", &format!("{TWO}\n{}", "00".repeat(32)));
        let missing = folder.0.join("missing").into_os_string().into_string().unwrap();
        let not_found = || KeyError::Unreadable { kind: std::io::ErrorKind::NotFound };
        let weak = || KeyError::Weak(Weakness::Repeats);
        for (keys, place, error) in [
            (json!({ "primary": "hunter2!" }), "keys.primary", KeyError::Encoding),
            (json!({ "primary": "" }), "keys.primary", KeyError::Empty),
            (json!({ "primary": "AAAA" }), "keys.primary", KeyError::Length { bytes: 3 }),
            (json!({ "primary_file": bad }), "keys.primary_file", KeyError::Encoding),
            (json!({ "primary_file": empty }), "keys.primary_file", KeyError::Empty),
            (json!({ "primary_file": missing }), "keys.primary_file", not_found()),
            (
                json!({ "primary": ONE, "fallbacks": [TWO, "hunter2!"] }),
                "keys.fallbacks, key 2",
                KeyError::Encoding,
            ),
            (
                json!({ "primary": ONE, "fallbacks": [format!("{TWO},{THREE}"), "AAAA"] }),
                "keys.fallbacks, key 3",
                KeyError::Length { bytes: 3 },
            ),
            (json!({ "primary": ONE, "fallbacks_file": list }), "keys.fallbacks_file, key 2", weak()),
            (json!({ "primary": ONE, "fallbacks_file": missing }), "keys.fallbacks_file", not_found()),
            (json!({ "primary": ONE, "fallbacks": [TWO, ONE] }), "keys", KeyError::Duplicate),
        ] {
            assert_eq!(key_fault(keys.clone()), at(place, error), "{keys}");
        }
    }

    #[test]
    fn a_missing_primary_is_said_whatever_else_is_there() {
        for keys in [json!({}), json!({ "fallbacks": [TWO] }), json!({ "fallbacks": [] })] {
            assert_eq!(fault(json(json!({ "keys": keys }))), ConfigError::NoPrimaryKey);
        }
        assert_eq!(fault(json(json!({}))), ConfigError::NoPrimaryKey);
    }

    #[test]
    fn faults_in_primary_and_fallbacks_are_said_together() {
        let error = fault(json(json!({ "keys": { "primary": "hunter2!", "fallbacks": ["AAAA"] } })));
        let ConfigError::Several(errors) = error else { panic!("{error:?}") };
        let key_at = |place: &str, error: KeyError| {
            ConfigError::Key(KeyError::At { place: place.to_owned(), error: Box::new(error) })
        };
        assert_eq!(errors.len(), 2);
        assert!(errors.contains(&key_at("keys.primary", KeyError::Encoding)));
        assert!(errors.contains(&key_at("keys.fallbacks, key 1", KeyError::Length { bytes: 3 })));
    }

    #[test]
    fn keys_of_the_wrong_type_are_no_keys() {
        let wrong = |keys: serde_json::Value| fault(json(json!({ "keys": keys })));
        for (keys, field) in [
            (json!({ "primary": 5 }), "keys.primary"),
            (json!({ "primary": [ONE] }), "keys.primary"),
            (json!({ "primary_file": true }), "keys.primary_file"),
            (json!({ "primary": ONE, "fallbacks": 5 }), "keys.fallbacks"),
            (json!({ "primary": ONE, "fallbacks": [5] }), "keys.fallbacks"),
            (json!({ "primary": ONE, "fallbacks": [[TWO]] }), "keys.fallbacks"),
            (json!({ "primary": ONE, "fallbacks_file": 5 }), "keys.fallbacks_file"),
        ] {
            match wrong(keys.clone()) {
                ConfigError::WrongValue { field: found, .. } => assert_eq!(found, field),
                other => panic!("{keys}: {other:?}"),
            }
        }
    }
}

mod faults {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    struct Old(u8);
    #[derive(Default, Serialize, Deserialize)]
    struct Older(u64);
    #[derive(Default, Serialize, Deserialize)]
    struct New(u8, u8);
    #[derive(Default, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        #[default]
        One,
        Two(u8),
    }
    /// Skips what it then misses: in each value but the default.
    #[derive(Default, Serialize, Deserialize)]
    struct Skips {
        #[serde(skip_serializing_if = "Option::is_some")]
        user: Option<u64>,
    }
    /// In the default alone.
    #[derive(Default, Serialize, Deserialize)]
    struct SkipsDefault {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        items: Vec<u64>,
    }
    /// Fails for its default alone.
    #[derive(Default, Deserialize)]
    struct Unserializable(u64);

    impl Serialize for Unserializable {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                0 => Err(serde::ser::Error::custom("no zero")),
                number => serializer.serialize_newtype_struct("Unserializable", &number),
            }
        }
    }

    fn new() -> SessionBuilder<New> {
        SessionLayer::builder(ring())
    }

    fn of<T>() -> SessionBuilder<T> {
        SessionLayer::builder(ring())
    }

    /// A fault with what its message must hold: the offending value, and the way out.
    struct Case {
        name: &'static str,
        error: ConfigError,
        said: Vec<&'static str>,
    }

    fn case(error: ConfigError, name: &'static str, said: &[&'static str]) -> Case {
        Case { name, error, said: said.to_vec() }
    }

    /// What both code and configuration can say, by both.
    fn both() -> Vec<Case> {
        let both = [
            (builder().name("a b"), json!({ "name": "a b" }), "InvalidName", &["\"a b\"", "use letters"][..]),
            (builder().name(""), json!({ "name": "" }), "InvalidName", &["\"\"", "use letters"]),
            (
                builder().domain("example.com"),
                json!({ "domain": "example.com" }),
                "HostPrefixWithDomain",
                &["__Host-Http-session", "\"example.com\"", "leave the domain out", "__Secure-id"],
            ),
            (
                builder().name("__host-ID").path("/app"),
                json!({ "name": "__host-ID", "path": "/app" }),
                "HostPrefixWithPath",
                &["__host-ID", "\"/app\"", "leave the path at /", "__Secure-id"],
            ),
            (
                builder().insecure_for_local_http().name("__Secure-id"),
                json!({ "insecure_for_local_http": true, "name": "__Secure-id" }),
                "InsecurePrefix",
                &["__Secure-id", "leave the name out", "insecure_for_local_http"],
            ),
            (
                builder().insecure_for_local_http().same_site(SameSite::None),
                json!({ "insecure_for_local_http": true, "same_site": "none" }),
                "InsecureSameSiteNone",
                &["SameSite=None", "leave out insecure_for_local_http", "Lax"],
            ),
            (
                builder().insecure_for_local_http().partitioned(),
                json!({ "insecure_for_local_http": true, "partitioned": true }),
                "InsecurePartitioned",
                &["Partitioned", "leave out one of partitioned and insecure_for_local_http"],
            ),
            (
                builder().name("id").domain("example.com; Path=/x"),
                json!({ "name": "id", "domain": "example.com; Path=/x" }),
                "InvalidDomain",
                &["\"example.com; Path=/x\"", "use letters, digits, hyphens and dots"],
            ),
            (
                builder().name("id").path("/; Domain=x"),
                json!({ "name": "id", "path": "/; Domain=x" }),
                "InvalidPath",
                &["\"/; Domain=x\"", "percent-encode"],
            ),
            (
                builder().name("id").path("app"),
                json!({ "name": "id", "path": "app" }),
                "PathWithoutSlash",
                &["\"app\"", "slash", "begin it with one"],
            ),
            (
                builder().name("id").path(format!("/{}", "a".repeat(1024))),
                json!({ "name": "id", "path": format!("/{}", "a".repeat(1024)) }),
                "AttributeTooLong",
                &["path", "1025 bytes", "1024"],
            ),
            (
                builder().name("id").domain("a".repeat(1025)),
                json!({ "name": "id", "domain": "a".repeat(1025) }),
                "AttributeTooLong",
                &["domain", "1025 bytes", "1024"],
            ),
            (
                builder().idle_timeout(Duration::from_millis(999)),
                json!({ "idle_timeout": "999ms" }),
                "LifetimeTooShort",
                &["idle_timeout", "999ms", "one second is the least"],
            ),
            (
                builder().max_own_lifetime(400 * DAY + Duration::from_millis(1)),
                json!({ "max_own_lifetime": "400days 1ms" }),
                "LifetimeTooLong",
                &["max_own_lifetime", "34560000.001s", "400 days is the most"],
            ),
            (
                builder().idle_timeout(2 * HOUR).absolute_timeout(HOUR),
                json!({ "idle_timeout": "2h", "absolute_timeout": "1h" }),
                "IdleOverAbsolute",
                &["7200s", "3600s", "shorten the one or lengthen the other"],
            ),
            (
                builder().idle_timeout(HOUR).reissue_after(31 * MINUTE),
                json!({ "idle_timeout": "1h", "reissue_after": "31m" }),
                "ReissueOverHalfIdle",
                &["1860s", "3600s", "shorten it, or leave it out"],
            ),
            (
                builder().max_set_cookie(4094),
                json!({ "max_set_cookie": 4094 }),
                "MaxSetCookieTooLarge",
                &["4094", "4093 is the most"],
            ),
            (
                builder().max_set_cookie(100),
                json!({ "max_set_cookie": 100 }),
                "NoRoom",
                &["allows 100", "raise it, or shorten the name"],
            ),
            (
                builder().formerly(Identity::current()),
                json!({ "formerly": [{}] }),
                "FormerlyTwice",
                &["__Host-Http-session", "once"],
            ),
            (
                builder().formerly(Identity::named("old")).formerly(Identity::named("old").path("/")),
                json!({ "formerly": [{ "name": "old" }, { "name": "old", "path": "/" }] }),
                "FormerlyTwice",
                &["\"old\"", "once"],
            ),
        ];
        let mut cases = Vec::new();
        for (by_code, by_config, name, said) in both {
            let error = fault(by_code);
            assert_eq!(fault(with(by_config)), error);
            cases.push(case(error, name, said));
        }
        cases
    }

    /// An older format with these cookies, and perhaps with a key that is too short.
    struct Other {
        cookies: Vec<Identity>,
        short: bool,
    }

    impl OldFormat<String> for Other {
        fn cookies(&self) -> Vec<Identity> {
            self.cookies.clone()
        }

        fn open(&self, _: &OldCookies<'_>) -> Result<Imported<String>, RejectedKind> {
            Err(RejectedKind::NotAuthentic)
        }

        fn check(&self) -> Result<(), ConfigError> {
            if self.short { Err(ConfigError::OldKeyShort { bytes: 3, least: 16 }) } else { Ok(()) }
        }
    }

    fn importing(format: Other) -> SessionBuilder<String> {
        builder().import(format, UNIX_EPOCH + 30_000 * DAY)
    }

    fn imports(cookies: Vec<Identity>) -> SessionBuilder<String> {
        importing(Other { cookies, short: false })
    }

    #[test]
    fn every_fault_of_an_older_formats_cookies_is_found() {
        let until = UNIX_EPOCH + 30_000 * DAY;
        let named = Identity::named;
        for (cookie, name) in [
            (named("a b"), "InvalidName"),
            (named("a").path("b"), "PathWithoutSlash"),
            (named("__Host-a").domain("example.com"), "HostPrefixWithDomain"),
            (Identity::current(), "ImportSealed"),
            (named("a").context("shop"), "ImportSealed"),
            (named("a").mode(Mode::Encrypted), "ImportSealed"),
            (named("a").until(until), "ImportSealed"),
            (named("id"), "ImportSameName"),
            (named("id").path("/a"), "ImportSameName"),
            (named("id-out"), "ImportSameName"),
            (named("sid").domain("example.com"), "ImportSameName"),
            (named("sid-out"), "ImportSameName"),
        ] {
            let layer = |cookies| imports(cookies).name("id").formerly(named("sid"));
            // In whatever place.
            for cookies in [vec![cookie.clone()], vec![named("good"), cookie.clone()]] {
                assert_eq!(variant(&fault(layer(cookies))), name, "{cookie:?}");
            }
        }
        imports(vec![named("old"), named("old.sig")]).build().unwrap();
    }

    fn by_code_alone() -> Vec<Case> {
        let old = |_: Old| New(0, 0);
        vec![
            case(
                fault(new().schema(2).migrate_from(2, old)),
                "MigrationNotOlder",
                &["migrate_from(2)", "schema(2)", "higher number"],
            ),
            case(fault(new().migrate_from(9, old)), "MigrationNotOlder", &["migrate_from(9)", "schema(1)"]),
            case(
                fault(new().schema(3).migrate_from(2, old).migrate_from(2, old)),
                "MigrationTwice",
                &["migrate_from(2)", "keep one"],
            ),
            case(
                fault(new().schema(2).write_as(1, |_| Old(0))),
                "WriteAsWithoutMigration",
                &["write_as(1)", "migrate_from(1)", "add that"],
            ),
            case(
                fault(new().schema(2).migrate_from(1, old).write_as(1, |_| Older(0))),
                "WriteAsOtherShape",
                &["write_as(1)", "migrate_from(1)", "one type in both"],
            ),
            case(
                fault(new().schema(2).migrate_from(1, old).write_as(1, |_| Old(0)).write_as(1, |_| Old(0))),
                "WriteAsTwice",
                &["write_as", "keep one"],
            ),
            case(
                fault(of::<Untagged>()),
                "TypeNotStorable",
                &["Untagged", "plain structs and enums, or SessionMap"],
            ),
            case(fault(of::<Skips>()), "DoesNotComeBack", &["Skips", "skip_serializing_if"]),
            case(fault(of::<SkipsDefault>()), "DoesNotComeBack", &["SkipsDefault", "skip_serializing_if"]),
            case(fault(of::<Unserializable>()), "DefaultNotStorable", &["default", "Serialize fails"]),
            case(
                fault(imports(vec![Identity::named("session")]).name("session")),
                "ImportSameName",
                &["\"session\"", "one name", "give the layer another one"],
            ),
            case(fault(imports(vec![])), "ImportWithoutCookie", &["import", "names no cookie"]),
            case(
                fault(imports(vec![Identity::named("session").mode(Mode::Signed)])),
                "ImportSealed",
                &["\"session\"", "no context, mode or until", "the date is import's"],
            ),
            case(
                fault(importing(Other { cookies: vec![Identity::named("old")], short: true })),
                "OldKeyShort",
                &["3 bytes", "16 are the least", "the key that the old cookies are made with"],
            ),
        ]
    }

    fn by_configuration_alone() -> Vec<Case> {
        vec![
            case(fault(json(json!({}))), "NoPrimaryKey", &["keys.primary", "keys.primary_file", WAY_OUT]),
            case(
                fault(json(json!({ "keys": { "primary": "hunter2" } }))),
                "Key",
                &["keys.primary", "neither base64 nor hexadecimal", WAY_OUT],
            ),
            case(fault(with(json!({ "idle": "30m" }))), "UnknownField", &["\"idle\"", "correct its name"]),
            case(
                fault(with(json!({ "max_set_cookie": "plenty" }))),
                "WrongValue",
                &["max_set_cookie must be a number of bytes"],
            ),
            case(
                fault(json(json!({ "keys": { "primary": ONE, "primary_file": "/run/secrets/key" } }))),
                "BothGiven",
                &["keys.primary", "keys.primary_file", "take one out"],
            ),
            case(
                fault(json(json!({ "keys": { "primary": ONE, "fallbacks": [], "fallbacks_file": "/f" } }))),
                "BothGiven",
                &["keys.fallbacks", "keys.fallbacks_file", "take one out"],
            ),
            case(
                fault(with(json!({ "max_set_cookie": 5000, "name": "" }))),
                "Several",
                &["2 faults", "max_set_cookie is 5000 bytes", "the cookie name \"\""],
            ),
        ]
    }

    #[test]
    fn every_fault_is_its_own_variant_and_says_the_value_and_the_way_out() {
        for cases in [both(), by_code_alone(), by_configuration_alone()] {
            for Case { name, error, said } in cases {
                assert_eq!(variant(&error), name, "{error:?}");
                let message = error.to_string();
                for said in said {
                    assert!(message.contains(said), "{name} without {said:?}: {message}");
                }
            }
        }
    }

    #[test]
    fn no_variant_is_without_a_case() {
        let declared: BTreeSet<String> = include_str!("../src/error.rs")
            .lines()
            .skip_while(|line| !line.starts_with("pub enum ConfigError"))
            .take_while(|line| *line != "}")
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
            .map(|line| line.chars().take_while(|c| c.is_ascii_alphanumeric()).collect())
            .collect();
        let cases = [both(), by_code_alone(), by_configuration_alone()];
        let covered: BTreeSet<String> = cases.iter().flatten().map(|case| case.name.to_owned()).collect();
        assert_eq!(covered, declared);
    }

    #[test]
    fn settings_at_the_limits_are_good() {
        let second = Duration::from_secs(1);
        for builder in [
            builder().idle_timeout(second).absolute_timeout(second).max_own_lifetime(second),
            builder().idle_timeout(400 * DAY).absolute_timeout(400 * DAY).max_own_lifetime(400 * DAY),
            builder().idle_timeout(HOUR).absolute_timeout(HOUR),
            builder().idle_timeout(HOUR).reissue_after(30 * MINUTE),
            builder().max_own_lifetime(second),
            builder().max_set_cookie(4093),
            builder().name("id").path(format!("/{}", "a".repeat(1023))),
            builder().name("!#$%&'*+-.^_`|~"),
        ] {
            assert!(builder.build().is_ok());
        }
    }

    #[test]
    fn the_least_max_set_cookie_that_is_accepted_fits_the_default_value_exactly() {
        let needed = match fault(builder().max_set_cookie(1)) {
            ConfigError::NoRoom { needed, max_set_cookie: 1 } => needed,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            fault(builder().max_set_cookie(needed - 1)),
            ConfigError::NoRoom { needed, max_set_cookie: needed - 1 }
        );
        let layer = builder().max_set_cookie(needed).build().unwrap();
        let cookie = layer.codec().seal(&String::new(), None, None, UNIX_EPOCH).unwrap();
        assert!(cookie.header().len() <= needed);
    }

    #[test]
    fn each_lifetime_is_checked_under_its_own_name() {
        type Setter = fn(Duration) -> SessionBuilder<String>;
        let settings: [(&str, Setter); 3] = [
            ("idle_timeout", |value| builder().idle_timeout(value)),
            ("absolute_timeout", |value| {
                builder().absolute_timeout(value).idle_timeout(Duration::from_secs(1))
            }),
            ("max_own_lifetime", |value| builder().max_own_lifetime(value)),
        ];
        for (name, with) in settings {
            for (value, long) in [
                (Duration::ZERO, false),
                (Duration::from_nanos(999_999_999), false),
                (400 * DAY + Duration::from_nanos(1), true),
                (Duration::MAX, true),
            ] {
                let errors = match fault(with(value)) {
                    ConfigError::Several(errors) => errors,
                    one => vec![one],
                };
                let expected = if long {
                    ConfigError::LifetimeTooLong { setting: name, value }
                } else {
                    ConfigError::LifetimeTooShort { setting: name, value }
                };
                assert!(errors.contains(&expected), "{name} {value:?}: {errors:?}");
            }
        }
    }

    #[test]
    fn several_faults_are_said_together_each_on_a_line() {
        let error = fault(
            builder()
                .name("a b")
                .path("app")
                .idle_timeout(Duration::ZERO)
                .max_set_cookie(9000)
                .insecure_for_local_http()
                .same_site(SameSite::None)
                .partitioned(),
        );
        let ConfigError::Several(errors) = &error else { panic!("{error:?}") };
        let names: BTreeSet<_> = errors.iter().map(variant).collect();
        let expected = [
            "InvalidName",
            "PathWithoutSlash",
            "LifetimeTooShort",
            "MaxSetCookieTooLarge",
            "InsecureSameSiteNone",
            "InsecurePartitioned",
        ];
        assert_eq!(names, expected.map(str::to_owned).into());
        let message = error.to_string();
        assert!(message.starts_with(&format!("{} faults", errors.len())), "{message}");
        for error in errors {
            assert!(message.contains(&format!("\n- {error}")), "{message}");
        }
    }

    #[test]
    fn faults_of_the_configuration_and_of_the_code_after_it_are_said_together() {
        let config = serde_json::from_value(json!({
            "idel_timeout": "30m",
            "mode": "plain",
            "keys": { "primary": "hunter2" },
            "formerly": [{ "nmae": "old", "path": "/a" }],
        }));
        let error = fault(
            SessionLayer::<New>::from_config(config.unwrap())
                .max_set_cookie(5000)
                .migrate_from(1, |_: Old| New(0, 0)),
        );
        let ConfigError::Several(errors) = &error else { panic!("{error:?}") };
        let mut names: Vec<_> = errors.iter().map(variant).collect();
        names.sort();
        let expected = [
            "HostPrefixWithPath",
            "Key",
            "MaxSetCookieTooLarge",
            "MigrationNotOlder",
            "UnknownField",
            "UnknownField",
            "WrongValue",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn unknown_fields_are_refused_at_each_level_by_their_path() {
        for (config, path) in [
            (with(json!({ "nmae": "id" })), "\"nmae\""),
            (with(json!({ "Name": "id" })), "\"Name\""),
            (with(json!({ "secure": false })), "\"secure\""),
            (with(json!({ "http_only": false })), "\"http_only\""),
            (with(json!({ "keys": { "primary": ONE, "primry": TWO } })), "\"keys.primry\""),
            (with(json!({ "keys": { "primary": ONE, "secondary": TWO } })), "\"keys.secondary\""),
            (with(json!({ "formerly": [{ "name": "old", "secure": true }] })), "\"formerly.secure\""),
            (with(json!({ "unknown": null })), "\"unknown\""),
            (with(json!({ "unknown": { "name": "a" } })), "\"unknown\""),
        ] {
            match fault(config) {
                ConfigError::UnknownField { field } => assert_eq!(field.to_string(), path),
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_misspelt_table_is_an_unknown_field_and_a_missing_key() {
        let error = fault(json(json!({ "key": { "primary": ONE } })));
        let ConfigError::Several(errors) = error else { panic!("{error:?}") };
        let mut names: Vec<_> = errors.iter().map(variant).collect();
        names.sort();
        assert_eq!(names, ["NoPrimaryKey", "UnknownField"]);
    }

    #[test]
    fn every_fault_of_an_earlier_identity_is_found() {
        for (identity, name) in [
            (Identity::named("a b"), "InvalidName"),
            (Identity::named("a").path("b"), "PathWithoutSlash"),
            (Identity::named("a").path("/;"), "InvalidPath"),
            (Identity::named("a").domain("b;"), "InvalidDomain"),
            (Identity::named("a").domain("b".repeat(1025)), "AttributeTooLong"),
            (Identity::current().domain("example.com"), "HostPrefixWithDomain"),
            (Identity::current().path("/app"), "HostPrefixWithPath"),
        ] {
            assert_eq!(variant(&fault(builder().formerly(identity))), name);
        }
        let insecure = || builder().insecure_for_local_http();
        assert_eq!(variant(&fault(insecure().formerly(Identity::named("__Host-a")))), "InsecurePrefix");
        let partitioned = Identity::named("a").partitioned();
        assert_eq!(variant(&fault(insecure().formerly(partitioned))), "InsecurePartitioned");
    }

    /// One cookie to a browser and one seal is one identity, also where the date differs.
    #[test]
    fn an_identity_that_is_named_twice_is_refused() {
        let (named, until) = (Identity::named, UNIX_EPOCH + 30_000 * DAY);
        let old = || named("old");
        for (one, other) in [
            (old(), old()),
            (old().until(until), old()),
            (old().until(until), old().until(until + DAY)),
            (old().context("a"), old().context("a").until(until)),
            (old().domain("example.com"), old().domain("EXAMPLE.com")),
            (old(), named("old-out")),
            (named("old-out").context("a").until(until), old()),
        ] {
            let error = fault(builder().formerly(one).formerly(other));
            assert_eq!(variant(&error), "FormerlyTwice");
        }
        for own in [
            Identity::current(),
            Identity::current().until(until),
            named("__Host-Http-session").until(until),
            Identity::current().path("/").until(until),
            named("__Host-Http-session-out").until(until),
        ] {
            assert_eq!(variant(&fault(builder().formerly(own))), "FormerlyTwice");
        }
        for (one, other) in [
            (old().context("a").until(until), old().context("b").until(until)),
            (old().context("a").until(until), old().until(until)),
            (old().mode(Mode::Signed).until(until), old().until(until)),
            (old().until(until), old().path("/a").until(until)),
        ] {
            builder().formerly(one).formerly(other).build().unwrap();
        }
        builder().formerly(Identity::current().context("a").until(until)).build().unwrap();
    }

    #[test]
    fn a_cause_is_in_the_message_and_not_a_source_that_would_say_it_twice() {
        let error = fault(json(json!({ "keys": { "primary": "hunter2" } })));
        assert!(error.to_string().ends_with(&KeyError::Encoding.to_string()), "{error}");
        assert!(error.source().is_none());
        let error = fault(of::<Unserializable>());
        assert!(error.to_string().ends_with(&NotEncodable::Serialize.to_string()), "{error}");
        assert!(error.source().is_none());
    }

    #[test]
    fn a_fault_is_an_error_that_threads_can_share() {
        fn shared<E: std::error::Error + Send + Sync + Clone + PartialEq + 'static>(error: E) -> E {
            error
        }
        let error = fault(builder().name(""));
        assert_eq!(shared(error.clone()), error);
    }

    #[test]
    fn every_kind_of_name_builds_in_each_mode() {
        for name in ["__Host-Http-id", "__Host-id", "__Http-id", "__Secure-id", "id"] {
            for mode in [Mode::Encrypted, Mode::Signed] {
                assert!(builder().name(name).mode(mode).build().is_ok(), "{name} {mode:?}");
            }
        }
    }
}

/// Small letters alone are a word; a key of 24 characters or more has others too.
#[test]
fn a_long_name_of_small_letters_is_shown_and_what_might_be_a_key_is_not() {
    let fault =
        |name: &str| builder().name(name).build().err().map(|error| format!("{error} {error:?}")).unwrap();
    let word = "a name of small letters only, like this one";
    assert_eq!(fault(word).matches(word).count(), 2, "{}", fault(word));
    let joined = "anameofsmalllettersonlylikethisone/";
    assert_eq!(fault(joined).matches(joined).count(), 2, "{}", fault(joined));
    for key in ["anameofsmalllettersonlylikethisonE/", "anameofsmalllettersonlylikethis1/"] {
        assert!(!fault(key).contains(&key[..20]), "{}", fault(key));
        assert_eq!(fault(key).matches("not shown").count(), 2, "{}", fault(key));
    }
    assert!(
        matches!(builder().name(joined).build(), Err(ConfigError::InvalidName { name }) if format!("{name:?}") == format!("{name}"))
    );
}
