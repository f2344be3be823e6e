//! Configuration: one TOML file, and environment variables over it. What nobody knows is refused, at start-up and whenever
//! the file changes.

use crate::passwords::User;
use config::{Config, Environment, File, FileFormat};
use cookie_session::SessionConfig;
use ipnet::IpNet;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// `SECURE_APP_HTTPS`, and with two underscores below a table: `SECURE_APP_SESSION__IDLE_TIMEOUT`.
const PREFIX: &str = "SECURE_APP";

/// Every setting has a default; `secure-app.example.toml` says what each is for.
#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub https: SocketAddr,
    pub http: SocketAddr,
    pub hosts: Vec<String>,
    pub public_port: Option<u16>,
    pub data: PathBuf,
    pub trusted_proxies: Vec<IpNet>,
    pub log: Log,
    #[serde(default)]
    pub tls: Option<Certificate>,
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

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    Text,
    Json,
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
            format!("{shown}, line {}: {}", before.lines().count().max(1), error.message())
        })?;
        let environment = Environment::with_prefix(PREFIX)
            .prefix_separator("_")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("hosts")
            .with_list_parse_key("trusted_proxies");
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
                .build()
        })()
        .map_err(|error| explain(shown, &error))?;
        let mut settings: Settings =
            config.clone().try_deserialize().map_err(|error| explain(shown, &error))?;
        settings.key_files = ["session.keys.primary_file", "session.keys.fallbacks_file"]
            .iter()
            .filter_map(|setting| config.get_string(setting).ok().map(PathBuf::from))
            .collect();
        settings.has_keys = config.get::<config::Value>("session.keys").is_ok();
        if settings.hosts.is_empty() {
            return Err(format!("{shown}: hosts: at least one name is needed, that users open the app by"));
        }
        Ok(settings)
    }

    pub fn has_keys(&self) -> bool {
        self.has_keys
    }
}

/// The cookie's name: the browser's two strictest promises (`__Host-` and `__Http-`), and nothing of who made it.
const NAME: &str = "__Host-Http-id";

/// Without the value: it may be a secret at the wrong place.
fn explain(shown: &str, error: &config::ConfigError) -> String {
    match error {
        config::ConfigError::Type { key, expected, .. } => {
            format!("{shown}: {}: not {expected}", key.as_deref().unwrap_or("a setting"))
        }
        config::ConfigError::At { key: Some(key), error, .. } => explain(&format!("{shown}: {key}"), error),
        config::ConfigError::At { error, .. } => explain(shown, error),
        error => format!("{shown}: {error}"),
    }
}
