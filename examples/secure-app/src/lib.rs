//! A checklist for web apps in production, running. One file for one item of it: the table is in the README.

pub mod acme;
pub mod client;
pub mod clock;
pub mod config;
pub mod csrf;
pub mod denylist;
pub mod errors;
pub mod fleet;
pub mod headers;
pub mod host;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod pages;
pub mod passwords;
pub mod picture;
pub mod reload;
pub mod sealed;
pub mod server;
pub mod session;
pub mod shared;
pub mod shares;
pub mod shelf;
pub mod store;
pub mod tls;

use crate::{
    acme::{AcmeStatus, Keeper},
    client::Proxies,
    clock::Clock,
    config::Settings,
    denylist::Denylist,
    fleet::Heard,
    headers::Headers,
    host::Hosts,
    limits::Limits,
    metrics::Metrics,
    passwords::{Passwords, Users},
    server::{Bound, Listeners, MetricsBound, MetricsListener},
    session::Visit,
    shared::Shared,
    shares::Shares,
    store::{Store, Writer},
    tls::{Tls, Validity},
};
use arc_swap::ArcSwap;
use axum::{
    Router,
    http::StatusCode,
    middleware::{from_fn, from_fn_with_state, map_request_with_state, map_response},
};
use axum_server::tls_rustls::RustlsConfig;
use cookie_session::{KeyRingHandle, SessionLayer};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    future::poll_fn,
    num::NonZeroU16,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex, PoisonError, mpsc},
    task::Poll,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tower::ServiceBuilder;
use tower_http::{catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer};

/// Of a request's body.
const BODY_BYTES: usize = 16 * 1024;
/// How often what has expired is forgotten.
const SWEEP: Duration = Duration::from_secs(10 * 60);
/// How long the end waits for the last sign-outs to be shared. They are on disk as well.
const FLUSH: Duration = Duration::from_secs(2);
/// How long what panicked is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// What handlers share.
pub struct App {
    pub sessions: SessionLayer<Visit>,
    pub denylist: Arc<Denylist>,
    pub limits: Limits,
    pub passwords: Arc<Passwords>,
    pub store: Store,
    /// With the other instances, if there are.
    pub shared: Option<Arc<Shared>>,
    pub metrics: Metrics,
    pub clock: Clock,
    /// Those under way, and who is connected.
    requests: Arc<Shares>,
    connections: Arc<Shares>,
    keys: KeyRingHandle,
    tls: RustlsConfig,
    acme: Option<Arc<Keeper>>,
    /// Of the certificate in use.
    validity: ArcSwap<Validity>,
    file: Option<PathBuf>,
    /// As last taken over; but of them, only keys, certificate and users are in use before the next start.
    settings: ArcSwap<Settings>,
    files: Mutex<Files>,
    had_demo: bool,
}

/// What to watch, and what was last seen there.
#[derive(Default)]
struct Files {
    paths: Vec<PathBuf>,
    seen: [u8; 32],
}

impl Files {
    /// The settings. The files that they name are watched from now on, also if they turn out to be no good: they may
    /// be mended. All are looked at before they are read, so that no change falls in between.
    fn load(&mut self, file: Option<&Path>) -> Result<Settings, String> {
        loop {
            self.seen = fingerprint(&self.paths);
            let settings = Settings::load(file)?;
            let paths = paths(file, &settings);
            if paths == self.paths {
                return Ok(settings);
            }
            self.paths = paths;
        }
    }
}

/// A running server, until it is [stopped](Running::stop).
pub struct Running {
    pub app: Arc<App>,
    /// The address that users open.
    pub url: String,
    pub listeners: Listeners,
    pub metrics: Option<MetricsListener>,
    /// Aborted when dropped.
    tasks: JoinSet<()>,
    _writer: Writer,
}

impl Running {
    /// Starts everything. `more`: routes beside the shop's, behind the same layers.
    pub fn start(file: Option<PathBuf>, clock: Clock, more: Router<Arc<App>>) -> Result<Running, String> {
        let Opened { app, writer, in_step, demo } = App::open(file, clock)?;
        let settings = app.settings.load_full();
        let mut tasks = JoinSet::new();
        if let Some(shared) = &app.shared {
            let (sender, receiver) = mpsc::channel();
            let is_filled = in_step.is_some();
            let (its, shared) = (Arc::clone(&app), Arc::clone(shared));
            tasks.spawn(lasting("fleet", move || {
                fleet::keep(Arc::clone(&its), Arc::clone(&shared), in_step.clone(), sender.clone())
            }));
            // This thread waits, the runtime's others work.
            let last = std::iter::from_fn(|| receiver.recv_timeout(fleet::FILL).ok())
                .find(|heard| *heard == Heard::All);
            if last.is_none() && !is_filled {
                return Err("redis_url: Redis is not reached, as the log says, and this instance has never heard who \
                     signed out: it would let them in"
                    .to_owned());
            }
        }
        let bound = Bound::new(settings.https, settings.http)?;
        let metrics = settings.metrics.map(MetricsBound::new).transpose()?;
        if let Some(bound) = &metrics {
            metrics::warn_if_public(bound.address);
        }
        let (https, http) = (bound.https, bound.http);
        let port = settings.public_port.map_or(https.port(), NonZeroU16::get);
        let hosts = Arc::new(Hosts::new(settings.hosts.clone(), port));
        let url = hosts.url();
        let router = app.router(hosts, more);
        let listeners = bound.serve(app.tls.clone(), &settings.trusted_proxies, &app.connections, &router)?;
        let metrics = metrics.map(|bound| bound.serve(metrics::router(Arc::clone(&app)))).transpose()?;
        let its = Arc::clone(&app);
        tasks.spawn(lasting("reload", move || reload::watch(Arc::clone(&its))));
        let its = Arc::clone(&app);
        tasks.spawn(lasting("sweep", move || sweep(Arc::clone(&its))));
        let its = Arc::clone(&app);
        tasks.spawn(lasting("acme", move || acme::keep(Arc::clone(&its))));
        tracing::info!(%https, %http, "listening");
        if let Some(password) = demo {
            // Not by the log, but where standard output is kept as well, so is this.
            println!("user: {DEMO}   password: {password}   (made for this start)");
        }
        Ok(Running { app, url, listeners, metrics, tasks, _writer: writer })
    }

    /// Lets requests under way end; returns when all is on disk.
    pub async fn stop(mut self, grace: Duration) {
        self.listeners.stop(grace).await;
        if let Some(shared) = &self.app.shared {
            shared.flush(FLUSH).await;
        }
        self.tasks.shutdown().await;
        // Last, so that the end can be watched.
        if let Some(metrics) = self.metrics {
            metrics.stop().await;
        }
    }
}

/// What [`App::open`] gives.
pub struct Opened {
    pub app: Arc<App>,
    pub writer: Writer,
    /// With which generation of what is shared this instance was in step before the start: it has heard of all sign-outs up to
    /// then.
    pub in_step: Option<String>,
    /// The demo user's password, if there is that user.
    pub demo: Option<String>,
}

impl App {
    /// Reads the configuration, and what was stored.
    pub fn open(file: Option<PathBuf>, clock: Clock) -> Result<Opened, String> {
        let mut files = Files::default();
        let settings = files.load(file.as_deref())?;
        let shared = settings.redis_url.as_ref().map(Shared::new);
        let (acme, stored) = Keeper::open(&settings, shared.as_ref(), &clock)?.unzip();
        let tls = match stored.flatten() {
            Some(tls) => tls,
            None => tls::configured(&settings)?,
        };
        if settings.tls.is_none() && acme.is_none() {
            tracing::warn!(
                "browsers will not trust the certificate: it is made for this start, and ends in 30 days; for a lasting \
                 one, in the configuration's file: [tls] certificate = \"certificate.pem\", key = \"key.pem\" \
                 (for this machine: mkcert -cert-file certificate.pem -key-file key.pem localhost)"
            );
        }
        if !settings.has_keys() {
            tracing::warn!(
                "sessions end with this process; for a lasting key: (umask 077; openssl rand -base64 32 > session.key), \
                 and SECURE_APP_SESSION__KEYS__PRIMARY_FILE=session.key, or in the configuration's file \
                 [session.keys] primary_file = \"session.key\""
            );
        }
        let (users, demo) = if settings.users.is_empty() {
            tracing::warn!(
                "there is a user `{DEMO}`, whose password is printed; for users of your own see [[users]] in \
                 secure-app.example.toml"
            );
            let password = passwords::random_password()?;
            (Users::demo(DEMO, &password)?, Some(password))
        } else {
            (Users::new(&settings.users)?, None)
        };
        let passwords = Arc::new(Passwords::new(users));

        let (store, writer, stored) = Store::open(&settings.data)?;
        if let Some(shared) = &shared {
            shared.put_again(stored.undelivered);
        }
        let denylist = Denylist::new(stored.signed_out, store.clone(), shared.clone(), Arc::clone(&clock));
        let denylist = Arc::new(denylist);
        let limits = Limits::new(
            stored.attempts,
            Limits::MOST_RECORDS,
            store.clone(),
            shared.clone(),
            Arc::clone(&clock),
        );
        let sessions =
            session::layer(&settings, Arc::clone(&denylist), Arc::clone(&passwords), Arc::clone(&clock))
                .map_err(|error| format!("session: {error}"))?;
        let app = App {
            keys: sessions.keys(),
            sessions,
            denylist,
            limits,
            passwords,
            store,
            shared,
            metrics: Metrics::default(),
            clock,
            requests: server::requests(),
            connections: server::connections(),
            tls: RustlsConfig::from_config(tls.config),
            acme: acme.map(Arc::new),
            validity: ArcSwap::from_pointee(tls.validity),
            file,
            had_demo: demo.is_some(),
            settings: ArcSwap::from_pointee(settings),
            files: Mutex::new(files),
        };
        Ok(Opened { app: Arc::new(app), writer, in_step: stored.in_step, demo })
    }

    /// The whole app: the routes, and around them, from the outside in, the checklist.
    pub fn router(self: &Arc<Self>, hosts: Arc<Hosts>, more: Router<Arc<App>>) -> Router {
        let proxies = Arc::new(Proxies::new(&self.settings.load().trusted_proxies));
        let headers = Arc::new(Headers::new(Arc::clone(&hosts)));
        // In one piece: each `layer` of a router is a box that is cloned for each request, with all that is in it.
        let checklist = ServiceBuilder::new()
            .layer(map_request_with_state(proxies, client::identify))
            .layer(from_fn_with_state(Arc::clone(self), metrics::count))
            .layer(from_fn(log::request))
            .layer(from_fn_with_state(headers, headers::set))
            .layer(from_fn(errors::show))
            .layer(CatchPanicLayer::custom(errors::panicked))
            .layer(from_fn_with_state(Arc::clone(&self.requests), server::bounded))
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, server::ANSWER))
            .option_layer(self.acme.clone().map(|keeper| map_request_with_state(keeper, acme::challenge)))
            .layer(map_request_with_state(hosts, host::check))
            .layer(RequestBodyLimitLayer::new(BODY_BYTES))
            .layer(csrf::layer())
            .layer(self.sessions.clone())
            .layer(map_response(headers::not_stored));
        pages::routes(self)
            .merge(more)
            .fallback(errors::not_found)
            .with_state(Arc::clone(self))
            .layer(checklist)
    }

    /// From here on, new connections get this certificate.
    pub fn present(&self, tls: Tls) {
        self.tls.reload_from_config(tls.config);
        self.validity.store(Arc::new(tls.validity));
    }

    /// Of the certificate that connections get.
    pub fn validity(&self) -> Validity {
        **self.validity.load()
    }

    /// Whether there is to be one that browsers trust: configured, or ordered.
    pub fn has_certificate(&self) -> bool {
        self.acme.is_some() || self.settings.load().tls.is_some()
    }

    /// How far certificates by ACME are, if they are configured.
    pub fn acme(&self) -> Option<AcmeStatus> {
        self.acme.as_ref().map(|keeper| keeper.status())
    }

    /// Has a certificate ordered that is put off after a failure.
    pub fn hurry(&self) {
        if let Some(keeper) = &self.acme {
            keeper.hurry();
        }
    }

    /// What instances share is out of reach: nobody signs in.
    pub fn is_degraded(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| !shared.is_up())
    }

    /// There is a user whose password was printed.
    pub fn is_demo(&self) -> bool {
        self.had_demo && self.settings.load().users.is_empty()
    }

    /// Files that [`reload`](App::reload) reads.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).paths.clone()
    }

    /// Takes over what stands in the files by now: session keys, certificate and users, all or nothing. `false`:
    /// they are as they were when last looked at; unless that is `forced`, nothing is done then.
    pub fn reload(&self, forced: bool) -> Result<bool, String> {
        let result = self.try_reload(forced);
        if result != Ok(false) {
            self.metrics.reloaded(result.is_ok());
        }
        result
    }

    fn try_reload(&self, forced: bool) -> Result<bool, String> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !forced && fingerprint(&files.paths) == files.seen {
            return Ok(false);
        }
        let new = files.load(self.file.as_deref())?;
        // A program that writes a file begins by emptying it.
        let is_empty =
            |path: &&PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0);
        if let Some(path) = files.paths.iter().find(is_empty) {
            return Err(format!(
                "{} is empty: a file that is to hold nothing has an empty line",
                path.display()
            ));
        }
        let old = self.settings.load_full();
        // What the next start would refuse, this one does.
        session::layer(
            &new,
            Arc::clone(&self.denylist),
            Arc::clone(&self.passwords),
            Arc::clone(&self.clock),
        )
        .map_err(|error| format!("session: {error}"))?;
        let ring = match (old.has_keys(), new.has_keys()) {
            (_, true) => Some(new.session.key_ring().map_err(|error| format!("session: {error}"))?),
            (true, false) => return Err("session.keys: there is no key any more".to_owned()),
            (false, false) => None,
        };
        let users = match (old.users.is_empty(), new.users.is_empty()) {
            (_, false) => Some(Users::new(&new.users)?),
            (false, true) => return Err("users: there are none any more".to_owned()),
            (true, true) => None,
        };
        let tls = match (&old.tls, &new.tls) {
            (_, Some(_)) if self.acme.is_some() => {
                return Err("tls: in the place of acme it takes a restart".to_owned());
            }
            (_, Some(_)) => Some(tls::configured(&new)?),
            (Some(_), None) => return Err("tls: there is no certificate any more".to_owned()),
            (None, None) => None,
        };
        // All is good; from here on nothing fails.
        if let Some(ring) = ring {
            if let Some(acme) = &self.acme {
                acme.replace_keys(ring.clone());
            }
            self.keys.replace(ring);
        }
        if let Some(users) = users {
            self.passwords.replace(users);
        }
        if let Some(tls) = tls {
            self.present(tls);
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
        let content = fs::read(path).ok();
        // One that is not there differs from one that is empty.
        hash.update(content.as_ref().map_or(usize::MAX, Vec::len).to_be_bytes());
        hash.update(content.unwrap_or_default());
    }
    hash.finalize().into()
}

/// Runs what is to go on for as long as the server does: after a panic it begins again.
async fn lasting<F: Future<Output = ()>>(task: &'static str, begin: impl Fn() -> F) {
    loop {
        let mut future = pin!(begin());
        // It is not polled again then.
        let has_ended = poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
            polled.map_or(Poll::Ready(false), |polled| polled.map(|()| true))
        });
        if has_ended.await {
            return;
        }
        tracing::error!(task, "a panic in the background, of which standard error has more: it begins again");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Forgets what has expired, now and then; but not by a clock that has just been set: if that was a mistake, somebody may
/// mend it before the next round.
async fn sweep(app: Arc<App>) {
    const MOST: Duration = Duration::from_secs(60 * 60);
    loop {
        let (begin, time) = (Instant::now(), (app.clock)());
        tokio::time::sleep(SWEEP).await;
        let passed = (app.clock)().duration_since(time).unwrap_or_default();
        if passed.abs_diff(begin.elapsed()) > MOST {
            tracing::warn!("the clock was set: what has expired by it is kept for now");
            continue;
        }
        // What goes wrong there is logged by the writer.
        let _ = app.limits.sweep().await;
        let _ = app.denylist.sweep().await;
    }
}
