//! Configuration: one TOML file, and environment variables over it. What nobody knows is refused, at start-up and whenever
//! the file changes.

use crate::{host::Host, passwords::User, shared::Url};
use config::{Config, Environment, File, FileFormat};
use cookie_session::SessionConfig;
use ipnet::IpNet;
use serde::{Deserialize as _, Deserializer, de::Error as _};
use std::{
    collections::BTreeSet,
    fmt, fs,
    net::SocketAddr,
    num::NonZeroU16,
    path::{Path, PathBuf},
    str::FromStr,
};

/// `SECURE_APP_HTTPS`, and with two underscores below a table: `SECURE_APP_SESSION__IDLE_TIMEOUT`.
const PREFIX: &str = "SECURE_APP";

/// Every setting has a default; `secure-app.example.toml` says what each is for.
#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub https: SocketAddr,
    pub http: SocketAddr,
    /// Where Prometheus asks; off without it.
    pub metrics: Option<SocketAddr>,
    #[serde(deserialize_with = "list")]
    pub hosts: Vec<Host>,
    pub public_port: Option<NonZeroU16>,
    pub data: PathBuf,
    #[serde(deserialize_with = "list")]
    pub trusted_proxies: Vec<IpNet>,
    pub log: Log,
    #[serde(default, deserialize_with = "text")]
    pub redis_url: Option<Url>,
    pub tls: Option<Certificate>,
    pub acme: Option<Acme>,
    #[serde(default)]
    pub users: Vec<User>,
    pub session: SessionConfig,
    /// Where the session's keys stand, if in files.
    #[serde(skip)]
    pub key_files: Vec<PathBuf>,
    #[serde(skip)]
    has_keys: bool,
}

#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// For [`crate::acme`].
#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    #[serde(default, deserialize_with = "list")]
    pub contact: Vec<Email>,
    #[serde(default)]
    pub terms_of_service_agreed: bool,
    #[serde(default = "lets_encrypt")]
    pub directory: String,
    pub root: Option<PathBuf>,
    pub folder: Option<PathBuf>,
}

fn lets_encrypt() -> String {
    instant_acme::LetsEncrypt::Production.url().to_owned()
}

impl Acme {
    fn check(&self, settings: &Settings) -> Result<(), String> {
        let is_https = |uri: axum::http::Uri| uri.scheme_str() == Some("https") && uri.host().is_some();
        if settings.tls.is_some() {
            return Err("tls and acme: the certificate is read from files or ordered, one of both".to_owned());
        }
        if !self.terms_of_service_agreed {
            return Err(
                "acme.terms_of_service_agreed: expected true, after reading the CA's terms: its directory \
                        says where they are, and Let's Encrypt's are at https://letsencrypt.org/repository/"
                    .to_owned(),
            );
        }
        if !self.directory.parse().is_ok_and(is_https) {
            return Err("acme.directory: expected an address with https, as the CA gives it".to_owned());
        }
        if settings.public_names().is_empty() {
            return Err(
                "acme: among `hosts` there is no name that a certificate can be ordered for: localhost and \
                        addresses are none"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// An e-mail address, as far as it matters in an address of `mailto:`.
#[derive(Clone)]
pub struct Email(String);

impl FromStr for Email {
    type Err = ();

    fn from_str(text: &str) -> Result<Email, ()> {
        let is_good = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"@,:?<>\"".contains(&byte))
        };
        let (user, host) = text.split_once('@').ok_or(())?;
        (is_good(user) && is_good(host)).then(|| Email(text.to_owned())).ok_or(())
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    Text,
    Json,
}

/// A text, parsed.
fn text<'de, D: Deserializer<'de>, V: FromStr>(deserializer: D) -> Result<Option<V>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| D::Error::custom("invalid"))
}

/// A list, or a text with commas, as environment variables are.
fn list<'de, D: Deserializer<'de>, V: FromStr>(deserializer: D) -> Result<Vec<V>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Given {
        Text(String),
        List(Vec<String>),
    }
    let items = match Given::deserialize(deserializer)? {
        Given::Text(text) => text.split(',').map(str::to_owned).collect(),
        Given::List(list) => list,
    };
    let items = items.iter().map(|item| item.trim()).filter(|item| !item.is_empty());
    items.map(|item| item.parse().map_err(|_| D::Error::custom("invalid"))).collect()
}

impl Settings {
    /// From the file, if one is given, and this process's environment.
    pub fn load(file: Option<&Path>) -> Result<Settings, String> {
        let Some(file) = file else { return Settings::read("", "the environment") };
        let shown = file.display().to_string();
        let text = fs::read_to_string(file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        Settings::read(&text, &shown)
    }

    fn read(text: &str, shown: &str) -> Result<Settings, String> {
        // For the place of the fault without the line's text, which may hold a key.
        toml::from_str::<toml::Table>(text).map_err(|error| {
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
            format!("{shown}, line {}: {}", before.matches('\n').count() + 1, error.message())
        })?;
        let environment = Environment::with_prefix(PREFIX).prefix_separator("_").separator("__");
        let explain =
            |error: config::ConfigError| format!("{shown}, or {PREFIX}_… over it: {}", explain("", &error));
        let config = (|| {
            Config::builder()
                .set_default("https", "127.0.0.1:8443")?
                .set_default("http", "127.0.0.1:8080")?
                .set_default("hosts", vec!["localhost", "127.0.0.1", "[::1]"])?
                .set_default("data", "secure-app-data")?
                .set_default("trusted_proxies", Vec::<String>::new())?
                .set_default("log", "text")?
                .set_default("session.name", NAME)?
                .set_default("session.context", "secure-app")?
                .add_source(File::from_str(text, FileFormat::Toml))
                .add_source(environment)
                // As hosting services name it.
                .set_override_option("redis_url", std::env::var("REDIS_URL").ok())?
                .build()
        })()
        .map_err(explain)?;
        let mut settings: Settings = config.clone().try_deserialize().map_err(explain)?;
        settings.key_files = ["session.keys.primary_file", "session.keys.fallbacks_file"]
            .iter()
            .filter_map(|setting| config.get_string(setting).ok().map(PathBuf::from))
            .collect();
        settings.has_keys = config.get::<config::Value>("session.keys").is_ok();
        let has_keys = settings.has_keys || settings.redis_url.is_none();
        for (key, is_there) in [
            ("hosts", !settings.hosts.is_empty()),
            ("data", !settings.data.as_os_str().is_empty()),
            ("session.keys", has_keys),
        ] {
            if !is_there {
                return Err(format!("{shown}, or {PREFIX}_… over it: {}", expected(key)));
            }
        }
        if let Some(acme) = &settings.acme {
            acme.check(&settings).map_err(|error| format!("{shown}, or {PREFIX}_… over it: {error}"))?;
        }
        Ok(settings)
    }

    /// Those of the hosts that a CA gives certificates for.
    pub fn public_names(&self) -> Vec<String> {
        let public = self.hosts.iter().filter(|host| !host.is_local());
        public.map(|host| host.without_brackets().to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub fn has_keys(&self) -> bool {
        self.has_keys
    }
}

/// The cookie's name: the browser's two strictest promises (`__Host-` and `__Http-`), and nothing of who made it.
const NAME: &str = "__Host-Http-id";

/// Without the value: it may be a secret at the wrong place.
fn explain(key: &str, error: &config::ConfigError) -> String {
    let at = |inner: &str| if inner.is_empty() { key.to_owned() } else { inner.to_owned() };
    match error {
        config::ConfigError::At { key: inner, error, .. } => {
            explain(&at(inner.as_deref().unwrap_or("")), error)
        }
        config::ConfigError::Type { key: inner, .. } => expected(&at(inner.as_deref().unwrap_or(""))),
        config::ConfigError::NotFound(name) => format!("{name} is missing"),
        config::ConfigError::Message(text) if text.starts_with("unknown field") => {
            let place = if key.is_empty() { String::new() } else { format!("{key}: ") };
            format!("{place}{text}")
        }
        config::ConfigError::Message(text) if text.starts_with("missing field") => format!("{key}: {text}"),
        _ => expected(key),
    }
}

fn expected(key: &str) -> String {
    let expected = match key.split(['.', '[']).next().unwrap_or_default() {
        "https" | "http" | "metrics" => "an address with a port, such as 127.0.0.1:8443",
        "hosts" => "a list of host names, without scheme, port or wildcard; IPv6 addresses as [::1]",
        "public_port" => "a port, from 1 to 65535",
        "trusted_proxies" => "a list of networks, such as 10.0.0.0/8 or 127.0.0.1/32",
        "log" => "text or json",
        "redis_url" => "redis://[user:password@]host[:port][/database], or rediss:// with TLS",
        "session" if key == "session.keys" => {
            "a table with primary_file or primary, the same for all instances that share what is at redis_url"
        }
        "tls" => "a table with the files certificate and key",
        "acme" if key.starts_with("acme.contact") => "a list of e-mail addresses, without mailto:",
        "acme" => "a table with terms_of_service_agreed = true, as in secure-app.example.toml",
        "users" => "tables with name and password_hash, in the file: [[users]]",
        "data" => "a folder",
        _ => "as in secure-app.example.toml",
    };
    format!("{}: expected {expected}", if key.is_empty() { "a setting" } else { key })
}
