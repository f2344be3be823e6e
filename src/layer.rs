//! tower: the layer, its service, and the head of a response.

use crate::{
    cache,
    codec::SessionCodec,
    config::{SessionBuilder, SessionConfig},
    cookie::Template,
    error::ConfigError,
    log::event,
    ring::KeyRingHandle,
    session::{Effect, Entry, Session, Shared},
    shape::Shape,
};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{Entry as HeaderEntry, SET_COOKIE},
};
use pin_project_lite::pin_project;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// A tower layer that hands out sessions of type `T` and sends their cookies.
///
/// ```
/// # use cookie_session::{ConfigError, Key, KeyRing, SessionLayer};
/// # use std::time::Duration;
/// # #[derive(Default, serde::Serialize, serde::Deserialize)]
/// # struct Shop { user: Option<u64>, cart: Vec<u32> }
/// # let keys = KeyRing::new(Key::generate()?, [])?;
/// let sessions = SessionLayer::<Shop>::builder(keys)
///     .context("shop")
///     .idle_timeout(Duration::from_secs(30 * 60))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Handlers tell sessions apart by their type, browsers by the cookie's name: two sessions in one
/// application need two types (newtypes will do) **and** two names. A layer inside another of the same
/// type and name passes requests through, and the outer one's settings hold.
pub struct SessionLayer<T> {
    shared: Arc<Shared<T>>,
}

impl<T> SessionLayer<T> {
    /// Settings from code, over a [`KeyRing`](crate::KeyRing) or a [`KeyRingHandle`].
    pub fn builder(keys: impl Into<KeyRingHandle>) -> SessionBuilder<T> {
        SessionBuilder::new(keys.into())
    }

    /// Settings from a configuration. Its faults wait for `build()`; until then what only code can
    /// say is added: schema, hooks, clock.
    pub fn from_config(config: SessionConfig) -> SessionBuilder<T> {
        SessionBuilder::from_config(config)
    }

    /// The layer's key ring, to replace it in a running server and to read the counters.
    pub fn keys(&self) -> KeyRingHandle {
        self.shared.codec.ring.clone()
    }

    /// What opens and seals, without a server: for tests, and for other frameworks.
    pub fn codec(&self) -> &SessionCodec<T> {
        &self.shared.codec
    }

    /// The fingerprint of `T`, for a test that pins it: when it changes under the same schema
    /// number, everyone is signed out by the next deploy. (An added `serde(alias)` or an updated
    /// dependency can change it.)
    pub fn shape(&self) -> Shape {
        self.shared.codec.schemas.own.shape
    }
}

impl<T: Default + Serialize + DeserializeOwned + Send + 'static> SessionBuilder<T> {
    /// Checks all settings and derives the keys. Runs `T::default()` and `T`'s serde implementations, the
    /// latter on made-up values.
    ///
    /// # Panics
    ///
    /// If those do.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], one variant for each thing that a browser would drop or that makes no
    /// sense; [`ConfigError::Several`] if there is more than one.
    pub fn build(self) -> Result<SessionLayer<T>, ConfigError> {
        let (codec, hooks) = self.into_codec()?;
        Ok(SessionLayer { shared: Arc::new(Shared { codec, hooks }) })
    }
}

impl<T> Clone for SessionLayer<T> {
    fn clone(&self) -> Self {
        SessionLayer { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for SessionLayer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("name", &self.shared.codec.session.name())
            .finish_non_exhaustive()
    }
}

impl<S, T> Layer<S> for SessionLayer<T> {
    type Service = SessionService<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService { inner, shared: Arc::clone(&self.shared) }
    }
}

/// The service that [`SessionLayer`] makes.
pub struct SessionService<S, T> {
    inner: S,
    shared: Arc<Shared<T>>,
}

impl<S: Clone, T> Clone for SessionService<S, T> {
    fn clone(&self) -> Self {
        SessionService { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S: fmt::Debug, T> fmt::Debug for SessionService<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, T, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S, T>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    T: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let name = self.shared.codec.session.name();
        let session = match request.extensions().get::<Entry<T>>() {
            Some(Entry(outer)) if outer.cookie_name() == name => {
                if !outer.belongs_to(&self.shared) {
                    event!(
                        WARN,
                        "session_layer_nested",
                        "a session layer stands inside another of its type and name, whose settings hold",
                        name = name
                    );
                }
                None
            }
            _ => {
                let session = Session::new(Arc::clone(&self.shared));
                request.extensions_mut().insert(Entry(session.clone()));
                Some(session)
            }
        };
        // Before the call, so that a panic in there closes the session too.
        let open = Open(session);
        ResponseFuture { inner: self.inner.call(request), open }
    }
}

pin_project! {
    /// The response of a [`SessionService`].
    pub struct ResponseFuture<F, T> {
        #[pin]
        inner: F,
        open: Open<T>,
    }
}

impl<F, T> fmt::Debug for ResponseFuture<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// A session whose response's head is still to come. If the response never comes (the client has
/// gone, or the service failed), writes have nowhere to go and are told so; those that had been stored are told
/// of to the log.
struct Open<T>(Option<Session<T>>);

impl<T> Drop for Open<T> {
    fn drop(&mut self) {
        if let Some(session) = &self.0 {
            session.abandon();
        }
    }
}

impl<F, T, ResBody, E> Future for ResponseFuture<F, T>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(session)) = (&mut result, &this.open.0) {
            let status = response.status();
            head(session, status, response.headers_mut());
            // Closed.
            this.open.0 = None;
        }
        drop(std::mem::replace(this.open, Open(None)));
        Poll::Ready(result)
    }
}

/// The head: the moment at which the response's headers leave our layer.
fn head<T>(session: &Session<T>, status: StatusCode, headers: &mut HeaderMap) {
    if session.retire() {
        return;
    }
    let shared = cache::is_shared(headers);
    let commit = session.commit(status.is_server_error(), shared);
    let effect = commit.effect;
    if shared && effect == Effect::Write {
        event!(
            WARN,
            "session_cache_overruled",
            "a session cookie goes out with a response that asked for shared caching"
        );
        cache::overrule_shared(headers);
    }
    let private = shared && effect != Effect::Write || cache::make_private(headers);
    if !(cache::vary_by_cookie(headers) && private) {
        // Without these a cookie must not go out.
        return full();
    }
    if commit.cookies().next().is_none() {
        return;
    }
    // An earlier cookie of the same identity is replaced, others are kept.
    let mut kept = Vec::new();
    let stale = |earlier: &[u8]| commit.cookies().any(|(_, template)| template.is_same(earlier));
    if headers.get_all(SET_COOKIE).iter().any(|earlier| stale(earlier.as_bytes())) {
        // Those of a layer are marked, so it is another type's under this name.
        let ours = |earlier: &HeaderValue| earlier.is_sensitive() && stale(earlier.as_bytes());
        if headers.get_all(SET_COOKIE).iter().any(ours) {
            let name = session.cookie_name();
            event!(
                ERROR,
                "session_name_shared",
                "two session types write one cookie: give them two names",
                name = name
            );
        }
        let others = headers.get_all(SET_COOKIE).iter().filter(|earlier| !stale(earlier.as_bytes()));
        kept.extend(others.cloned());
        headers.remove(SET_COOKIE);
    }
    // The session's own goes first, but behind what a browser that does not know Partitioned takes for the same cookie:
    // there the last one counts.
    let own = commit.own.as_ref().map(|(_, template)| template.target());
    let alike = |template: &Template| own.is_some_and(|own| template.target().is_same_but_partitioned(own));
    let (before, behind): (Vec<_>, Vec<_>) =
        commit.others.into_iter().partition(|(_, template)| alike(template));
    let cookies = before.into_iter().chain(commit.own).chain(behind).map(|(cookie, _)| cookie.into_header());
    append(headers, kept.into_iter().chain(cookies));
}

/// Appends to `Set-Cookie`. Through one entry: by itself each value would ask for room for another name.
fn append(headers: &mut HeaderMap, mut cookies: impl Iterator<Item = HeaderValue>) {
    let Some(first) = cookies.next() else { return };
    let entry = match headers.try_entry(SET_COOKIE) {
        Ok(HeaderEntry::Occupied(mut entry)) => {
            entry.append(first);
            Some(entry)
        }
        Ok(HeaderEntry::Vacant(entry)) => entry.try_insert_entry(first).ok(),
        Err(_) => None,
    };
    match entry {
        Some(mut entry) => cookies.for_each(|cookie| entry.append(cookie)),
        None => full(),
    }
}

/// A response with some 2^15 header lines cannot take another.
fn full() {
    event!(ERROR, "session_headers_full", "the response has too many headers for a session cookie");
}
