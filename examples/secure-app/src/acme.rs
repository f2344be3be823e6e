//! Certificates by ACME (RFC 8555), as of Let's Encrypt: ordered when there is none, renewed in the running server in good
//! time, by one of all instances that share a [`Shelf`]. The CA asks for a challenge over plain HTTP (HTTP-01). What
//! fails is tried again, with pauses that grow; until then the certificate that is there stays.

use crate::{
    App,
    clock::{Clock, jittered, milliseconds},
    config::{self, Settings},
    sealed::Seal,
    shared::Shared,
    shelf::{self, InRedis, Pause, Shelf, Stored},
    tls::{self, Tls, Validity},
};
use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use cookie_session::KeyRing;
use http_body_util::Limited;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use instant_acme::{
    Account, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    error,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use x509_parser::extensions::GeneralName;

/// Where the CA asks, with a token after it: RFC 8555, 8.3.
const CHALLENGE: &str = "/.well-known/acme-challenge/";
/// Of a token. RFC 8555 has no bound; they have 43 characters in practice.
const TOKEN: usize = 128;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
/// For the CA to answer one request.
const ANSWER: Duration = Duration::from_secs(20);
/// Of that answer: a chain of certificates is some kilobytes.
const BODY_BYTES: usize = 1024 * 1024;
/// For the CA to ask for challenges, and after that to make the certificate.
const POLL: Duration = Duration::from_secs(90);
/// The first pause where there is no certificate yet, and the longest first one else. Doubled each time, it leaves Let's
/// Encrypt's limit (five failed validations an hour, one more each 12 minutes) never used up.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);
/// A CA asks for no longer one than that: limits of Let's Encrypt are by the week.
const LONGEST_WAIT: Duration = Duration::from_secs(8 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// For metrics and pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcmeStatus {
    /// Since the start, of this instance.
    pub failures_total: u64,
    /// Up to now, of all instances.
    pub failures_in_a_row: u32,
    /// Certificates that this instance has ordered and got, since the start.
    pub renewed_total: u64,
    pub next_attempt: Option<SystemTime>,
}

/// Orders certificates, and takes those that others have ordered.
pub struct Keeper {
    settings: config::Acme,
    names: Vec<String>,
    shelf: Shelf,
    state: Mutex<Keeping>,
    asked: Notify,
}

#[derive(Default)]
struct Keeping {
    status: AcmeStatus,
    current: Option<Current>,
    /// When the next attempt is, whatever the clock is set to; and the same by the clock, in milliseconds since 1970.
    pause_ends: Option<(Instant, u64)>,
    /// What was last found on the shelf, good or not.
    seen: Option<[u8; 32]>,
    /// Why the shelf could not be read when last tried.
    unread: Option<String>,
    /// What is in use, but could not be stored yet, or is not there any more.
    unsaved: Option<Stored>,
}

/// The certificate in use.
struct Current {
    stored: Stored,
    own: CertificateDer<'static>,
    validity: Validity,
    issued: SystemTime,
}

impl Current {
    fn length(&self) -> Duration {
        self.validity.not_after.duration_since(self.validity.not_before).unwrap_or_default()
    }

    /// When it is to be renewed. A new one is left alone for a while, so that a clock that is wrong has nobody order
    /// one after the other.
    fn due(&self, now: SystemTime) -> SystemTime {
        let length = self.length();
        let rest = if length <= Duration::from_secs(10 * DAY) { length / 2 } else { length / 3 };
        let due = self.validity.not_after - rest;
        if self.issued <= now { due.max(self.issued + length / 4) } else { due }
    }
}

/// The first pause, and the longest, by how long the certificate is good for that is to be renewed.
fn pauses(length: Option<Duration>) -> (Duration, Duration) {
    let Some(length) = length else { return (FIRST_PAUSE, LONGEST_PAUSE) };
    let first = (length / 1000).clamp(Duration::from_secs(1), FIRST_PAUSE);
    (first, (length / 10).min(LONGEST_PAUSE).max(first))
}

impl Keeper {
    /// As configured, and the certificate that is there already.
    pub fn open(
        settings: &Settings,
        shared: Option<&Arc<Shared>>,
        clock: &Clock,
    ) -> Result<Option<(Keeper, Option<Tls>)>, String> {
        let Some(acme) = settings.acme.clone() else { return Ok(None) };
        let folder = acme.folder.clone().unwrap_or_else(|| settings.data.join("acme"));
        let in_redis = |shared: &Arc<Shared>| {
            let ring = settings.session.key_ring().map_err(|error| format!("session: {error}"))?;
            Ok::<_, String>(InRedis { shared: Arc::clone(shared), seal: Seal::new(ring)? })
        };
        let keeper = Keeper {
            settings: acme,
            names: settings.public_names(),
            shelf: Shelf::new(folder, shared.map(in_redis).transpose()?),
            state: Mutex::default(),
            asked: Notify::new(),
        };
        let tls = keeper.shelf.load_at_start()?.and_then(|text| keeper.take(&text, clock()));
        if tls.is_none() {
            tracing::warn!(
                names = ?keeper.names,
                "a certificate is ordered; until it is there, browsers will not trust the one that is made for this start"
            );
        }
        Ok(Some((keeper, tls)))
    }

    pub fn status(&self) -> AcmeStatus {
        self.state().status
    }

    /// What is shared is sealed under these keys from now on.
    pub fn replace_keys(&self, ring: KeyRing) {
        self.shelf.replace_keys(ring);
    }

    /// An attempt that is put off is made at once.
    pub fn hurry(&self) {
        self.asked.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, Keeping> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found on the shelf, if it is good, and no older than what is in use.
    fn take(&self, text: &str, now: SystemTime) -> Option<Tls> {
        let mut state = self.state();
        let seen = Some(Sha256::digest(text).into());
        if state.seen == seen {
            return None;
        }
        state.seen = seen;
        let found = shelf::parse(text)
            .ok_or("it is no whole entry".to_owned())
            .and_then(|stored| self.check(&stored));
        let (tls, found) = found
            .inspect_err(|error| {
                tracing::warn!(error, "the certificate that is stored for acme is as good as not there");
            })
            .ok()?;
        if let Some(current) = &state.current {
            if found.validity.not_before < current.validity.not_before {
                // Somebody who was away has written it back.
                state.unsaved = Some(current.stored.clone());
                return None;
            }
            if found.own == current.own {
                state.unsaved = None;
                return None;
            }
        }
        state.unsaved = None;
        tracing::info!(until = %shown(found.validity.not_after), "a stored certificate is in use");
        state.put(found, now);
        Some(tls)
    }

    /// Whether it is whole, and for the names that are configured.
    fn check(&self, stored: &Stored) -> Result<(Tls, Current), String> {
        let chain = CertificateDer::pem_slice_iter(stored.chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| "the chain is no PEM")?;
        let own = chain.first().ok_or("there is no certificate")?.clone();
        let key = PrivateKeyDer::from_pem_slice(stored.key.as_bytes()).map_err(|_| "the key is no PEM")?;
        let names = names(&own).ok_or("its names cannot be read")?;
        if names != self.names.iter().cloned().collect() {
            return Err(format!("it is for {names:?}, and configured are {:?}", self.names));
        }
        let tls = tls::with(chain, key)?;
        let issued =
            UNIX_EPOCH.checked_add(Duration::from_millis(stored.issued)).ok_or("its time is none")?;
        let current = Current { stored: stored.clone(), own, validity: tls.validity, issued };
        Ok((tls, current))
    }

    /// What a pause is of.
    fn purpose(&self) -> String {
        format!("{} from {}", self.names.join(" "), self.settings.directory)
    }

    /// How often others are looked after.
    fn look_interval(&self) -> Duration {
        let length = self.state().current.as_ref().map_or(Duration::ZERO, Current::length);
        (length / 20).clamp(TICK, Duration::from_secs(60))
    }

    /// Takes what somebody else has ordered, and stores what could not be stored.
    async fn look(&self, app: &App) {
        self.take_over(app).await;
        let is_unsaved = self.state().unsaved.is_some();
        if is_unsaved && let Ok(Some(_guard)) = self.shelf.lock().await {
            // Whoever had the lock before may have stored a newer one, which stays.
            self.take_over(app).await;
            let unsaved = self.state().unsaved.clone();
            if let Some(unsaved) = unsaved
                && self.shelf.store(&unsaved).await.is_ok()
            {
                let mut state = self.state();
                (state.unsaved, state.seen) = (None, None);
            }
        }
    }

    async fn take_over(&self, app: &App) {
        match self.shelf.load().await {
            Ok(text) => {
                self.state().unread = None;
                if let Some(tls) = text.and_then(|text| self.take(&text, (app.clock)())) {
                    app.present(tls);
                }
            }
            Err(error) => {
                let error = Some(error);
                if self.state().unread != error {
                    tracing::error!(error, "whether others have a new certificate cannot be seen");
                    self.state().unread = error;
                }
            }
        }
    }

    /// Whether it is time to order, but for a pause.
    fn is_due(&self, now: SystemTime) -> bool {
        self.state().current.as_ref().is_none_or(|current| current.due(now) <= now)
    }

    fn is_time(&self, now: SystemTime) -> bool {
        let state = self.state();
        state.status.next_attempt.is_none_or(|next| next <= now)
            || state.pause_ends.is_some_and(|(end, _)| end <= Instant::now())
    }

    /// Orders, if nobody else is at it or has just done it. `hurried`: in spite of a pause.
    async fn attempt(&self, app: &App, hurried: bool) {
        let interval = self.look_interval();
        let _guard = match self.shelf.lock().await {
            Ok(Some(guard)) => guard,
            Ok(None) => return self.state().put_off((app.clock)(), interval),
            // Nobody has asked the CA: as soon as Redis is back, it can be.
            Err(_) if app.is_degraded() => return self.state().put_off((app.clock)(), interval),
            Err(error) => return self.failed(app, Failure { error, wait: None }).await,
        };
        self.look(app).await;
        let now = (app.clock)();
        if !self.is_due(now) {
            return;
        }
        if let Some((rest, failures)) = self.pause(now).await {
            let mut state = self.state();
            state.status.failures_in_a_row = failures;
            if !hurried && !rest.is_zero() {
                return state.put_off(now, rest);
            }
        }
        match self.order(now).await {
            Ok((stored, tls, current)) => {
                if let Err(error) = self.shelf.store(&stored).await {
                    tracing::error!(error, "the new certificate could not be stored; that is tried again");
                    self.state().unsaved = Some(stored);
                }
                if let Err(error) = self.shelf.remove_pause().await {
                    tracing::warn!(error, "a pause that is over could not be removed");
                }
                app.present(tls);
                tracing::info!(until = %shown(current.validity.not_after), "a new certificate is in use");
                let mut state = self.state();
                state.status.renewed_total += 1;
                state.put(current, now);
            }
            Err(failure) => self.failed(app, failure).await,
        }
    }

    /// The rest of a pause, and after how many failures, of whichever instance.
    async fn pause(&self, now: SystemTime) -> Option<(Duration, u32)> {
        let pause = self.shelf.pause().await.ok().flatten().filter(|pause| pause.order == self.purpose())?;
        let is_over = |(end, until): (Instant, u64)| end <= Instant::now() && until == pause.until;
        if self.state().pause_ends.is_some_and(is_over) {
            return Some((Duration::ZERO, pause.failures));
        }
        let rest = Duration::from_millis(pause.until.saturating_sub(milliseconds(now)));
        // Longer ones are by a clock that was wrong.
        (rest <= LONGEST_WAIT).then_some((rest, pause.failures))
    }

    async fn failed(&self, app: &App, failure: Failure) {
        let now = (app.clock)();
        let (pause, failures) = {
            let mut state = self.state();
            let (first, longest) = pauses(state.current.as_ref().map(Current::length));
            let doubled = first.saturating_mul(1 << state.status.failures_in_a_row.min(16));
            let pause = jittered(doubled.min(longest)).max(failure.wait.unwrap_or_default());
            state.status.failures_total += 1;
            // Not only counted here: it is read from the shelf too.
            state.status.failures_in_a_row = state.status.failures_in_a_row.saturating_add(1);
            state.put_off(now, pause);
            (pause, state.status.failures_in_a_row)
        };
        tracing::error!(
            error = failure.error,
            directory = self.settings.directory,
            failures,
            again = %shown(now + pause),
            "no certificate could be ordered; SIGHUP has it tried again at once"
        );
        let pause = Pause { order: self.purpose(), failures, until: milliseconds(now + pause) };
        if let Err(error) = self.shelf.store_pause(&pause).await {
            tracing::warn!(error, "other instances do not know of that");
        }
    }

    async fn order(&self, now: SystemTime) -> Result<(Stored, Tls, Current), Failure> {
        let last = Arc::new(Mutex::new(None));
        let client = Client::new(self.settings.root.as_deref(), Arc::clone(&last))
            .map_err(|error| Failure { error, wait: None })?;
        let ordered = async {
            self.shelf.remove_challenges().await.map_err(fault)?;
            let mut order = match self.begin(&client, false).await {
                Err(error) if is_forgotten(&error) => {
                    tracing::warn!("the CA does not know the account any more: a new one is made");
                    self.begin(&client, true).await?
                }
                begun => begun?,
            };
            self.answer_challenges(&mut order).await?;
            let policy = RetryPolicy::new().timeout(POLL);
            let key = order.finalize().await?;
            let chain = order.poll_certificate(&policy).await?;
            let stored = Stored { chain, key, issued: milliseconds(now) };
            let (tls, current) = self
                .check(&stored)
                .map_err(|error| fault(format!("the CA's certificate is no good: {error}")))?;
            Ok((stored, tls, current))
        }
        .await;
        if let Err(error) = self.shelf.remove_challenges().await {
            tracing::warn!(error, "challenges that are over could not be removed");
        }
        ordered.map_err(|error: Error| Failure {
            error: in_full(&error),
            wait: last.lock().unwrap_or_else(PoisonError::into_inner).take(),
        })
    }

    /// A new order, by the account that is stored unless it is to be a `fresh` one.
    async fn begin(&self, client: &Client, fresh: bool) -> Result<Order, Error> {
        let stored = if fresh { None } else { self.shelf.account().await.map_err(fault)? };
        let stored = stored.filter(|stored| stored.directory == self.settings.directory);
        let builder = Account::builder_with_http(Box::new(client.clone()));
        let contact =
            self.settings.contact.iter().map(|address| format!("mailto:{address}")).collect::<Vec<_>>();
        let contact = contact.iter().map(String::as_str).collect::<Vec<_>>();
        let addresses = self.settings.contact.iter().map(ToString::to_string).collect();
        let mut entry = shelf::Account {
            directory: self.settings.directory.clone(),
            contact: addresses,
            credentials: serde_json::Value::Null,
        };
        let account = if let Some(stored) = stored {
            entry.credentials = stored.credentials.clone();
            let credentials = serde_json::from_value(stored.credentials)
                .map_err(|_| fault("the account that is stored is broken: remove account.json".to_owned()))?;
            let account = builder.from_credentials(credentials).await?;
            if stored.contact != entry.contact {
                account.update_contacts(&contact).await?;
                self.shelf.store_account(&entry).await.map_err(fault)?;
            }
            account
        } else {
            let new = NewAccount {
                contact: &contact,
                terms_of_service_agreed: self.settings.terms_of_service_agreed,
                only_return_existing: false,
            };
            let (account, credentials) = builder.create(&new, entry.directory.clone(), None).await?;
            entry.credentials = serde_json::to_value(&credentials)?;
            self.shelf.store_account(&entry).await.map_err(fault)?;
            tracing::info!("there is a new account at the CA");
            account
        };
        let identifiers = self.names.iter().cloned().map(Identifier::Dns).collect::<Vec<_>>();
        account.new_order(&NewOrder::new(&identifiers)).await
    }

    /// Returns when the CA has asked for all of them, and is content.
    async fn answer_challenges(&self, order: &mut Order) -> Result<(), Error> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let mut challenge = authorization
                .challenge(ChallengeType::Http01)
                .ok_or(Error::Str("the CA offers no HTTP-01 challenge"))?;
            let answer = challenge.key_authorization();
            self.shelf.put_challenge(&challenge.token, answer.as_str()).await.map_err(fault)?;
            challenge.set_ready().await?;
        }
        match order.poll_ready(&RetryPolicy::new().timeout(POLL)).await {
            Ok(OrderStatus::Ready) => Ok(()),
            // The order itself does not say what was wrong.
            Ok(_) => Err(refusal(order).await.unwrap_or(Error::Str("the CA has refused the order"))),
            Err(Error::Api(problem)) => Err(refusal(order).await.unwrap_or(Error::Api(problem))),
            Err(error) => Err(error),
        }
    }
}

/// What the CA says of the first challenge that failed.
async fn refusal(order: &mut Order) -> Option<Error> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        authorization.refresh().await.ok()?;
        let name = authorization.identifier().to_string();
        if let Some(problem) = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref())
        {
            return Some(fault(format!("{name}: {problem}")));
        }
    }
    None
}

impl Keeping {
    fn put(&mut self, current: Current, now: SystemTime) {
        self.status.failures_in_a_row = 0;
        self.status.next_attempt = Some(current.due(now));
        self.pause_ends = None;
        self.current = Some(current);
    }

    fn put_off(&mut self, now: SystemTime, pause: Duration) {
        self.status.next_attempt = Some(now + pause);
        self.pause_ends = Some((Instant::now() + pause, milliseconds(now + pause)));
    }
}

/// What went wrong, and how long the CA wants to be left alone.
struct Failure {
    error: String,
    wait: Option<Duration>,
}

fn fault(text: String) -> Error {
    Error::Other(text.into())
}

/// With what it comes from: "client error (Connect)" alone helps nobody.
fn in_full(error: &dyn error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

fn is_forgotten(error: &Error) -> bool {
    let kind = "urn:ietf:params:acme:error:accountDoesNotExist";
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some(kind))
}

fn shown(time: SystemTime) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(time)
}

/// All that it is for. `None`: something else than host names is among it.
fn names(certificate: &CertificateDer<'_>) -> Option<BTreeSet<String>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let names = names.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

/// What reaches the CA: with a bound on the time of each request, and without a provider for the whole process.
#[derive(Clone)]
struct Client {
    http: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    /// How long the last response, if it was an error, asks to wait.
    wait: Arc<Mutex<Option<Duration>>>,
}

impl Client {
    /// `root`: the CA's own, where the system's do not have it.
    fn new(root: Option<&Path>, wait: Arc<Mutex<Option<Duration>>>) -> Result<Client, String> {
        let connector = HttpsConnectorBuilder::new();
        let connector = match root {
            Some(file) => {
                let fault = |error: &str| format!("acme.root ({}) {error}", file.display());
                let mut roots = RootCertStore::empty();
                let certificates = CertificateDer::pem_file_iter(file)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|_| fault("cannot be read, or is no PEM"))?;
                let (good, _) = roots.add_parsable_certificates(certificates);
                if good == 0 {
                    return Err(fault("has no certificate in it"));
                }
                let config = ClientConfig::builder_with_provider(tls::provider())
                    .with_safe_default_protocol_versions()
                    .map_err(|error| error.to_string())?;
                connector.with_tls_config(config.with_root_certificates(roots).with_no_client_auth())
            }
            None => connector.with_provider_and_platform_verifier(tls::provider()).map_err(|error| {
                format!("the system's roots cannot be read (package ca-certificates): {error}")
            })?,
        };
        let connector = connector.https_only().enable_http1().build();
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Client { http, wait })
    }

    async fn answer(self, request: axum::http::Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let is_read = request.method() == Method::GET;
        let response = self.http.request(request).await.map_err(|error| Error::Other(error.into()))?;
        let mut response = BytesResponse::from(response.map(|body| Limited::new(body, BODY_BYTES)));
        let body = response.body.into_bytes().await.map_err(Error::Other)?;
        let status = response.parts.status;
        let is_error = status.is_client_error() || status.is_server_error();
        // A date in its place is not read.
        let seconds = response.parts.headers.get(header::RETRY_AFTER).filter(|_| is_error);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        *self.wait.lock().unwrap_or_else(PoisonError::into_inner) =
            seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        if is_error {
            match serde_json::from_slice::<Problem>(&body) {
                // Of the directory, the library would look for its fields in it.
                Ok(problem) if is_read => return Err(Error::Api(problem)),
                Ok(_) => {}
                // It would say that the page of somebody in between is no JSON.
                Err(_) => return Err(fault(format!("the CA answers {status}"))),
            }
        }
        Ok(BytesResponse { parts: response.parts, body: Box::new(body) })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: axum::http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let answered = timeout(ANSWER, self.clone().answer(request));
        Box::pin(async {
            answered
                .await
                .unwrap_or_else(|_| Err(fault(format!("the CA has not answered within {ANSWER:?}"))))
        })
    }
}

/// Keeps the certificate for as long as the future is polled.
pub async fn keep(app: Arc<App>) {
    let Some(keeper) = &app.acme else { return };
    let (mut looked, mut hurried) = (Instant::now(), false);
    loop {
        if hurried || looked.elapsed() >= keeper.look_interval() {
            keeper.look(&app).await;
            looked = Instant::now();
        }
        let now = (app.clock)();
        if (hurried || keeper.is_time(now)) && keeper.is_due(now) {
            keeper.attempt(&app, hurried).await;
        }
        // The clock may be set at any time: it is looked at, not counted on.
        hurried = tokio::select! {
            () = keeper.asked.notified() => true,
            () = tokio::time::sleep(TICK) => false,
        };
    }
}

/// Answers the CA, by any name and without TLS: also for an order of another instance, since the CA reaches any of them.
pub async fn challenge(State(keeper): State<Arc<Keeper>>, request: Request) -> Result<Request, Response> {
    let Some(token) = request.uri().path().strip_prefix(CHALLENGE) else { return Ok(request) };
    let is_token = (1..=TOKEN).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !is_token || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(StatusCode::NOT_FOUND.into_response());
    }
    Err(match keeper.shelf.challenge(token).await {
        Ok(Some(answer)) => {
            let headers =
                [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")];
            (headers, answer).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    })
}
