//! Metrics for Prometheus, on a listener of their own: the README has a table of them, `monitoring/` has alerts and a dashboard.
//!
//! What the app knows is read when it is asked for; here is only counted what nobody else counts. No label holds what a
//! client has sent: there are as many series as the app has routes, statuses and keys.

use crate::{App, acme::AcmeStatus, server::ANSWER, session::Visit, shares::Use};
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
    routing::get,
};
use cookie_session::{Incoming, Session};
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelValue, EncodeMetric as _, MetricEncoder, prometheus_text, text,
    },
    metrics::{MetricType, histogram::Histogram},
    registry::Registry,
};
use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tower_http::timeout::TimeoutLayer;

const PATH: &str = "/metrics";

/// What is said by name; others are `other`.
const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "OPTIONS", "other"];
/// Of statuses: from 100 up.
const STATUSES: usize = 500;
/// What the app itself answers: at zero from the start, so that the first one is a rise.
const EXPECTED: [u16; 16] = [200, 201, 303, 308, 400, 403, 404, 405, 408, 413, 415, 421, 422, 429, 500, 503];
/// Of the duration histogram, in seconds; the last one is [`ANSWER`].
const BUCKETS: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 20.0];
/// Stands for all paths that have no route.
const NO_ROUTE: &str = "none";
const OUTCOMES: [&str; 4] = ["fresh", "opened", "imported", "rejected"];

/// What became of an attempt to sign in.
#[derive(Clone, Copy)]
pub enum SignIn {
    Right,
    Wrong,
    /// By the limits: no password was looked at.
    Locked,
    /// Too many passwords are being checked.
    Busy,
    /// What counts attempts is out of reach, or cannot be written.
    Unavailable,
}

/// In their order.
const SIGN_INS: [&str; 5] = ["right", "wrong", "locked", "busy", "unavailable"];

/// Since the start.
pub struct Metrics {
    started: SystemTime,
    requests: [[AtomicU64; STATUSES]; METHODS.len()],
    /// By route. There is one for each that was asked for.
    durations: RwLock<BTreeMap<String, Histogram>>,
    sessions: [AtomicU64; OUTCOMES.len()],
    sign_ins: [AtomicU64; SIGN_INS.len()],
    reloads: AtomicU64,
    reloads_refused: AtomicU64,
    is_reload_refused: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            started: SystemTime::now(),
            requests: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            durations: RwLock::new(BTreeMap::from([(NO_ROUTE.to_owned(), histogram())])),
            sessions: Default::default(),
            sign_ins: Default::default(),
            reloads: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            is_reload_refused: AtomicBool::new(false),
        }
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Metrics {
    pub fn sign_in(&self, outcome: SignIn) {
        self.sign_ins[outcome as usize].fetch_add(1, Relaxed);
    }

    pub fn reloaded(&self, is_taken: bool) {
        let counter = if is_taken { &self.reloads } else { &self.reloads_refused };
        counter.fetch_add(1, Relaxed);
        self.is_reload_refused.store(!is_taken, Relaxed);
    }

    fn request(&self, method: usize, status: StatusCode) {
        let status = usize::from(status.as_u16() - 100).min(STATUSES - 1);
        self.requests[method][status].fetch_add(1, Relaxed);
    }

    fn duration(&self, route: &str, seconds: f64) {
        if let Some(known) = self.durations.read().unwrap_or_else(PoisonError::into_inner).get(route) {
            return known.observe(seconds);
        }
        let mut durations = self.durations.write().unwrap_or_else(PoisonError::into_inner);
        durations.entry(route.to_owned()).or_insert_with(histogram).observe(seconds);
    }
}

/// The method's place; of those that anybody can make up there is one.
fn place(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

/// Around each request.
pub async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = place(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let begin = Instant::now();
    let response = next.run(request).await;
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    app.metrics.duration(route, begin.elapsed().as_secs_f64());
    app.metrics.request(method, response.status());
    response
}

/// Around each request of a route that uses the session: elsewhere it would open it.
pub async fn count_session(
    State(app): State<Arc<App>>,
    session: Session<Visit>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    // Where there is no such method, nobody has asked for the session.
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        let outcome = match session.incoming() {
            Incoming::Absent => 0,
            Incoming::Accepted => 1,
            Incoming::Imported => 2,
            // Rejected, for whatever reason.
            _ => 3,
        };
        app.metrics.sessions[outcome].fetch_add(1, Relaxed);
    }
    response
}

// ------------------------------------------------------------------------------------------------ The listener

/// Answers there, and nothing else.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(PATH, get(show))
        .with_state(app)
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, ANSWER))
}

async fn show(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    match Scrape::of(app).write(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Whoever comes in on this address reads how the app fares.
pub fn warn_if_public(address: SocketAddr) {
    if is_public(address.ip()) {
        tracing::warn!(
            %address,
            "metrics are for everybody who reaches this address: bind them to one that is loopback or private, or let a \
             packet filter keep others away"
        );
    }
}

/// Neither loopback nor private; so are all addresses of the machine together.
pub fn is_public(address: IpAddr) -> bool {
    !match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    /// Prometheus's own, for whoever does not ask for the other: `curl`, `promtool`.
    Prometheus,
}

impl Format {
    /// Prometheus 2 and 3 name both, OpenMetrics with more weight.
    fn accepted(headers: &HeaderMap) -> Format {
        let is_asked_for = |accept: &str| accept.contains("application/openmetrics-text");
        let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
        if accepted.any(is_asked_for) { Format::OpenMetrics } else { Format::Prometheus }
    }

    fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

// ------------------------------------------------------------------------------------------------ What there is

/// What is shown at one time.
pub struct Scrape {
    app: Arc<App>,
    /// Where there is Redis.
    pub redis: Option<Redis>,
    /// Where certificates are ordered.
    pub acme: Option<AcmeStatus>,
}

#[derive(Clone, Copy)]
pub struct Redis {
    pub up: bool,
    /// Sign-outs that it has not got yet.
    pub waiting: u64,
    /// How often it was reached, and how often lost or not reached.
    pub connections_total: u64,
    pub errors_total: u64,
    /// How often all that it holds was read: at the start, and when it had been restarted or emptied.
    pub resyncs_total: u64,
}

impl Scrape {
    pub fn of(app: Arc<App>) -> Scrape {
        let redis = app.shared.as_ref().map(|shared| Redis {
            up: shared.is_up(),
            waiting: shared.waiting() as u64,
            connections_total: shared.connections(),
            errors_total: shared.errors(),
            resyncs_total: shared.resyncs(),
        });
        let acme = app.acme();
        Scrape { app, redis, acme }
    }

    pub fn write(self, format: Format) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        match format {
            Format::OpenMetrics => text::encode(&mut text, &registry)?,
            Format::Prometheus => prometheus_text::encode(&mut text, &registry)?,
        }
        Ok(text)
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

/// Names stand here without the `_total` and `_info` that the formats add.
struct Page<'p>(DescriptorEncoder<'p>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        counted(&mut self.0.encode_descriptor(name, help, None, MetricType::Counter)?, value)
    }

    /// By one label.
    fn counters<L: EncodeLabelValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (text, value) in values {
            counted(&mut encoder.encode_family(&[(label, text)])?, value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Into<f64>) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value.into())
    }

    fn size(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        self.gauge(name, help, value as f64)
    }

    fn time(&mut self, name: &str, help: &str, time: SystemTime) -> fmt::Result {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.gauge(name, help, since.as_secs_f64())
    }
}

fn counted(encoder: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    encoder.encode_counter::<[(&str, &str); 0], _, u64>(&value, None)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page(encoder);
        self.requests(page)?;
        self.sessions(page)?;
        self.sign_ins(page)?;
        self.operation(page)?;
        if let Some(redis) = self.redis {
            redis.write(page)?;
        }
        if let Some(acme) = self.acme {
            write_acme(&acme, page)?;
        }
        self.process(page)
    }
}

impl Scrape {
    fn requests(&self, page: &mut Page<'_>) -> fmt::Result {
        let metrics = &self.app.metrics;
        let help = "Requests that were answered; unknown methods are other";
        let mut encoder = page.0.encode_descriptor("secure_app_requests", help, None, MetricType::Counter)?;
        for (method, statuses) in METHODS.iter().zip(&metrics.requests) {
            for (status, count) in (100_u16..).zip(statuses) {
                let count = count.load(Relaxed);
                if count > 0 || EXPECTED.contains(&status) {
                    let status = status.to_string();
                    let labels = [("method", *method), ("status", status.as_str())];
                    counted(&mut encoder.encode_family(&labels)?, count)?;
                }
            }
        }
        let help =
            "Time to the beginning of the response, by route as far as asked for; paths without one are none";
        let name = "secure_app_request_duration_seconds";
        let mut encoder = page.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let durations = metrics.durations.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (route, histogram) in &durations {
            histogram.encode(encoder.encode_family(&[("route", route.as_str())])?)?;
        }

        let Use { taken, of_all, refused } = self.app.requests.in_use();
        let help = "Requests under way, until their responses are sent";
        page.size("secure_app_requests_in_progress", help, taken)?;
        page.size("secure_app_requests_limit", "Requests that may be under way at a time", of_all)?;
        let help = "Requests answered 503: by the limit of all clients together, or of one";
        page.counters("secure_app_requests_refused", help, "limit", refused)?;
        let Use { taken, of_all, refused } = self.app.connections.in_use();
        page.size("secure_app_connections_open", "Open connections", taken)?;
        page.size("secure_app_connections_limit", "Connections that may be open at a time", of_all)?;
        let help = "Connections closed at once: by the limit of all clients together, or of one";
        page.counters("secure_app_connections_refused", help, "limit", refused)
    }

    fn sessions(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = self.app.keys.counters();
        let help =
            "Requests that use the session, by what became of the cookie that came in; fresh: none came";
        let outcomes =
            OUTCOMES.into_iter().zip(self.app.metrics.sessions.iter().map(|count| count.load(Relaxed)));
        page.counters("secure_app_sessions", help, "outcome", outcomes)?;
        let help = "Requests whose session cookie was not accepted, by the reason";
        let kinds = counters.rejected.iter().map(|(kind, count)| (kind.to_string(), *count));
        page.counters("secure_app_sessions_rejected", help, "kind", kinds)?;
        let help =
            "Sessions sealed by a fallback key, by the id of the key: who has not moved to the primary";
        let keys = counters.opened_by_fallback.iter().map(|(key, count)| (key.to_string(), *count));
        page.counters("secure_app_sessions_opened_by_fallback", help, "key", keys)?;
        for (name, help, value) in [
            ("imported", "Requests whose session came in an older format", counters.imported),
            ("unknown_keys", "Session cookies that name a key which is not there", counters.unknown_keys),
            (
                "reissues_too_large",
                "Sessions that were not sealed anew since they would not fit",
                counters.reissues_too_large,
            ),
            (
                "writes_too_late",
                "Sessions that ended before their response was sent",
                counters.writes_too_late,
            ),
            (
                "no_randomness",
                "Cookies left out since the operating system gave no randomness",
                counters.no_randomness,
            ),
        ] {
            page.counter(&format!("secure_app_sessions_{name}"), help, value)?;
        }
        Ok(())
    }

    fn sign_ins(&self, page: &mut Page<'_>) -> fmt::Result {
        let help =
            "Attempts to sign in; busy: too many checks at a time, unavailable: they cannot be counted";
        let outcomes =
            SIGN_INS.into_iter().zip(self.app.metrics.sign_ins.iter().map(|count| count.load(Relaxed)));
        page.counters("secure_app_sign_in_attempts", help, "outcome", outcomes)?;
        let (records, locked) = self.app.limits.sizes();
        let help = "Counts of attempts to sign in, of pairs of user and address and of addresses";
        page.size("secure_app_sign_in_records", help, records)?;
        page.size("secure_app_sign_in_locked", "Those of them that are locked", locked)?;
        let Use { taken, of_all, refused } = self.app.passwords.in_use();
        let help = "Password checks that wait or run";
        page.size("secure_app_password_checks_in_progress", help, taken)?;
        let help = "Password checks that may wait or run at a time";
        page.size("secure_app_password_checks_limit", help, of_all)?;
        let help = "Password checks not made: by the limit of all clients together, or of one";
        page.counters("secure_app_password_checks_refused", help, "limit", refused)?;
        let (sessions, users) = self.app.denylist.sizes();
        page.size("secure_app_denylist_sessions", "Sessions that were signed out", sessions)?;
        page.size("secure_app_denylist_users", "Users who were signed out everywhere", users)
    }

    fn operation(&self, page: &mut Page<'_>) -> fmt::Result {
        let metrics = &self.app.metrics;
        let help = "1: the database cannot be written";
        page.gauge("secure_app_store_failing", help, self.app.store.is_failing())?;
        let help = "How often the database could not be written";
        page.counter("secure_app_store_errors", help, self.app.store.errors())?;
        let help = "Changes of keys, certificate and users that were taken over or refused";
        let reloads = [("ok", &metrics.reloads), ("refused", &metrics.reloads_refused)];
        let reloads = reloads.map(|(outcome, count)| (outcome, count.load(Relaxed)));
        page.counters("secure_app_reloads", help, "outcome", reloads)?;
        let help = "0: what was configured last is refused, and what was in use before stays";
        page.gauge("secure_app_last_reload_successful", help, !metrics.is_reload_refused.load(Relaxed))?;
        // That of the start alone is nobody's to renew: there may be a proxy that has the one that counts.
        if self.app.has_certificate() {
            let validity = self.app.validity();
            let help = "Since 1970: the beginning of the certificate in use";
            page.time("secure_app_certificate_not_before_seconds", help, validity.not_before)?;
            let help = "Since 1970: the end of the certificate in use";
            page.time("secure_app_certificate_not_after_seconds", help, validity.not_after)?;
        }
        let help = "What runs here";
        let mut encoder = page.0.encode_descriptor("secure_app_build", help, None, MetricType::Info)?;
        encoder.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }

    /// The names that Prometheus's libraries have for these.
    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "Since 1970: the start of the process";
        page.time("process_start_time_seconds", help, self.app.metrics.started)?;
        if let Some(seconds) = cpu_seconds() {
            let help = "Processor time of the process";
            let mut encoder =
                page.0.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            encoder.encode_counter::<[(&str, &str); 0], _, u64>(&seconds, None)?;
        }
        if let Some(kilobytes) = number_in("/proc/self/status", "VmRSS:") {
            page.gauge("process_resident_memory_bytes", "Memory of the process", kilobytes * 1024.0)?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder.
            page.size("process_open_fds", "Open files and connections", files.count().saturating_sub(1))?;
        }
        if let Some(most) = number_in("/proc/self/limits", "Max open files") {
            page.gauge("process_max_fds", "Files and connections that may be open (ulimit -n)", most)?;
        }
        Ok(())
    }
}

impl Redis {
    fn write(self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("secure_app_redis_up", "1: Redis answers, and is in step", self.up)?;
        let help = "Sign-outs of this instance that Redis has not got yet";
        page.gauge("secure_app_redis_sign_outs_waiting", help, self.waiting as f64)?;
        for (name, help, value) in [
            ("connections", "How often Redis was reached", self.connections_total),
            ("errors", "How often Redis was lost, or not reached", self.errors_total),
            ("resyncs", "How often all that Redis holds was read", self.resyncs_total),
        ] {
            page.counter(&format!("secure_app_redis_{name}"), help, value)?;
        }
        Ok(())
    }
}

fn write_acme(status: &AcmeStatus, page: &mut Page<'_>) -> fmt::Result {
    page.counter("secure_app_acme_failures", "Orders of a certificate that failed", status.failures_total)?;
    let help = "Orders that failed since the last one that did not";
    page.gauge("secure_app_acme_failures_in_a_row", help, status.failures_in_a_row)?;
    let help = "Certificates that this instance has ordered and got";
    page.counter("secure_app_acme_renewed", help, status.renewed_total)?;
    let help = "Since 1970: when a certificate is ordered next";
    match status.next_attempt {
        Some(time) => page.time("secure_app_acme_next_attempt_seconds", help, time),
        None => Ok(()),
    }
}

/// Linux counts in hundredths, whatever its own ticks are.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name may have spaces.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

/// The first number after a name in a file of lines.
fn number_in(file: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
