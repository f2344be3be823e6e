//! A checklist for web apps in production, running. One file for one item of it: the table is in the README.

pub mod client;
pub mod clock;
pub mod config;
pub mod csrf;
pub mod denylist;
pub mod errors;
pub mod headers;
pub mod host;
pub mod limits;
pub mod log;
pub mod pages;
pub mod passwords;
pub mod picture;
pub mod reload;
pub mod server;
pub mod session;
pub mod shares;
pub mod store;
pub mod tls;

use crate::{
    client::Client,
    clock::Clock,
    config::Settings,
    denylist::Denylist,
    headers::Headers,
    host::Hosts,
    limits::Limits,
    passwords::{Passwords, Users},
    server::{Bound, Connection, Listeners},
    session::Visit,
    store::{Store, Writer},
};
use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::StatusCode,
    middleware::{Next, from_fn, from_fn_with_state, map_response},
    response::Response,
};
use axum_server::tls_rustls::RustlsConfig;
use cookie_session::{KeyRingHandle, SessionLayer};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

/// Of a request's body.
const BODY_BYTES: usize = 16 * 1024;
/// How often what has expired is forgotten.
const SWEEP: Duration = Duration::from_secs(10 * 60);

/// What handlers share.
pub struct App {
    pub sessions: SessionLayer<Visit>,
    pub denylist: Arc<Denylist>,
    pub limits: Limits,
    pub passwords: Arc<Passwords>,
    pub clock: Clock,
    keys: KeyRingHandle,
    tls: RustlsConfig,
    file: Option<PathBuf>,
    /// In use; of what is not reloaded, as it was at start-up.
    settings: ArcSwap<Settings>,
    files: Mutex<Files>,
}

/// What to watch, and what was last seen there.
struct Files {
    paths: Vec<PathBuf>,
    seen: [u8; 32],
}

/// A running server. Dropped without [`stop`](Running::stop), it ends with its runtime.
pub struct Running {
    pub app: Arc<App>,
    /// The address that users open.
    pub url: String,
    pub listeners: Listeners,
    tasks: [tokio::task::JoinHandle<()>; 2],
    _writer: Writer,
}

impl Running {
    /// Starts everything. `more`: routes beside the shop's, behind the same layers.
    pub fn start(file: Option<PathBuf>, clock: Clock, more: Router<Arc<App>>) -> Result<Running, String> {
        let (app, writer) = App::open(file, clock)?;
        let settings = app.settings.load_full();
        let bound = Bound::new(settings.https, settings.http)?;
        let hosts = Arc::new(Hosts::new(&settings, bound.https.port()));
        let url = hosts.url();
        let listeners = bound.serve(app.tls.clone(), &settings.trusted_proxies, &app.router(hosts, more))?;
        let tasks = [tokio::spawn(reload::watch(Arc::clone(&app))), tokio::spawn(sweep(Arc::clone(&app)))];
        Ok(Running { app, url, listeners, tasks, _writer: writer })
    }

    /// Lets requests under way end; returns when all is on disk.
    pub async fn stop(self, grace: Duration) {
        self.listeners.stop(grace).await;
        for task in self.tasks {
            task.abort();
        }
    }
}

impl App {
    /// Reads the configuration, and what was stored.
    pub fn open(file: Option<PathBuf>, clock: Clock) -> Result<(Arc<App>, Writer), String> {
        let settings = Settings::load(file.as_deref())?;
        let paths = paths(file.as_deref(), &settings);
        let files = Mutex::new(Files { seen: fingerprint(&paths), paths });
        let tls = RustlsConfig::from_config(tls::config(&settings)?);
        if settings.tls.is_none() {
            tracing::warn!(
                "browsers will not trust the certificate, made for this start alone; for a lasting one set \
                 tls.certificate and tls.key (mkcert makes one for this machine, Let's Encrypt for a domain)"
            );
        }
        if !settings.has_keys() {
            tracing::warn!(
                "sessions end with this process; for a lasting key: openssl rand -base64 32 > session.key, \
                 and SECURE_APP_SESSION__KEYS__PRIMARY_FILE=session.key, or in the configuration's file \
                 [session.keys] primary_file = \"session.key\""
            );
        }
        let users = if settings.users.is_empty() {
            let password = passwords::random_password()?;
            // To whoever sits at the terminal, and not to a log.
            println!(
                "user: {DEMO}   password: {password}   (made for this start; for users of your own see [[users]])"
            );
            Users::demo(DEMO, &password)?
        } else {
            Users::new(&settings.users)?
        };
        let passwords = Arc::new(Passwords::new(users));

        let (store, writer, stored) = Store::open(&settings.data)?;
        let denylist = Denylist::new(stored.sessions, stored.users, store.clone(), Arc::clone(&clock));
        let denylist = Arc::new(denylist);
        let limits = Limits::new(stored.attempts, Limits::MOST_RECORDS, store, Arc::clone(&clock));
        let sessions =
            session::layer(&settings, Arc::clone(&denylist), Arc::clone(&passwords), Arc::clone(&clock))
                .map_err(|error| format!("session: {error}"))?;
        let keys = sessions.keys();
        let settings = ArcSwap::from_pointee(settings);
        let app = App { sessions, denylist, limits, passwords, clock, keys, tls, file, settings, files };
        Ok((Arc::new(app), writer))
    }

    /// The whole app: the routes, and around them, from the inside out, the checklist.
    pub fn router(self: &Arc<Self>, hosts: Arc<Hosts>, more: Router<Arc<App>>) -> Router {
        let settings = self.settings.load_full();
        let headers = Arc::new(Headers::new(Arc::clone(&hosts)));
        pages::routes()
            .merge(more)
            .fallback(errors::not_found)
            .with_state(Arc::clone(self))
            .layer(map_response(headers::not_stored))
            .layer(self.sessions.clone())
            .layer(csrf::layer())
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .layer(from_fn_with_state(hosts, host::check))
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, server::ANSWER))
            .layer(from_fn_with_state(server::requests(), server::bounded))
            .layer(CatchPanicLayer::custom(errors::panicked))
            .layer(from_fn(errors::show))
            .layer(from_fn_with_state(headers, headers::set))
            .layer(from_fn(log::request))
            .layer(from_fn_with_state(settings, client))
    }

    pub fn is_demo(&self) -> bool {
        self.settings.load().users.is_empty()
    }

    /// Files that [`reload`](App::reload) reads.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).paths.clone()
    }

    /// Takes over what has changed in the files: session keys, certificate and users, all or nothing. `false`:
    /// they are as they were when last looked at.
    pub fn reload(&self) -> Result<bool, String> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if fingerprint(&files.paths) == files.seen {
            return Ok(false);
        }
        files.seen = fingerprint(&files.paths);
        let new = Settings::load(self.file.as_deref())?;
        // Watched also if they turn out to be no good: they may be mended.
        files.paths = paths(self.file.as_deref(), &new);
        files.seen = fingerprint(&files.paths);

        let old = self.settings.load_full();
        let ring = match (old.has_keys(), new.has_keys()) {
            (_, true) => Some(new.session.key_ring().map_err(|error| format!("session: {error}"))?),
            (true, false) => return Err("session.keys: there is no key any more".to_owned()),
            (false, false) => None,
        };
        let users = match (old.users.is_empty(), new.users.is_empty()) {
            (true, true) => None,
            _ => Some(Users::new(&new.users)?),
        };
        let tls = match (&old.tls, &new.tls) {
            (None, None) => None,
            _ => Some(tls::config(&new)?),
        };
        // All is good; from here on nothing fails.
        if let Some(ring) = ring {
            self.keys.replace(ring);
        }
        if let Some(users) = users {
            self.passwords.replace(users);
        }
        if let Some(tls) = tls {
            self.tls.reload_from_config(tls);
        }
        self.settings.store(Arc::new(new));
        Ok(true)
    }
}

/// Made at start-up where no users are configured.
const DEMO: &str = "demo";

fn paths(file: Option<&Path>, settings: &Settings) -> Vec<PathBuf> {
    let certificate = settings.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]);
    file.into_iter()
        .map(Path::to_owned)
        .chain(certificate.cloned())
        .chain(settings.key_files.iter().cloned())
        .collect()
}

fn fingerprint(paths: &[PathBuf]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for path in paths {
        let content = fs::read(path).unwrap_or_default();
        hash.update(content.len().to_be_bytes());
        hash.update(&content);
    }
    hash.finalize().into()
}

async fn sweep(app: Arc<App>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        // What goes wrong there is logged by the writer.
        let _ = app.limits.sweep().await;
        let _ = app.denylist.sweep().await;
    }
}

/// `trust proxy`, for whoever asks further in.
async fn client(
    State(settings): State<Arc<Settings>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    let Connection { peer, tls, .. } = connection;
    let client = Client::of(peer, tls, request.headers(), &settings.trusted_proxies);
    request.extensions_mut().insert(client);
    next.run(request).await
}
