//! The listeners: what a connection may cost, and an end without losing a request.

use crate::{
    client::{Client, Connection, HEALTH, network},
    shares::{Share, Shares},
};
use axum::{
    Extension, Router,
    body::{Body, Bytes, HttpBody},
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use axum_server::{
    ConnectionShutdown, Control, Handle, Server,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use http_body::{Frame, SizeHint};
use ipnet::IpNet;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::task::{AbortHandle, JoinHandle};
use tower::{Layer as _, Service};

/// To send a request's head, the first of a connection or the next.
const HEAD: Duration = Duration::from_secs(10);
/// To shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Of the head of a request; two full cookies, and then some.
const HEAD_BYTES: usize = 16 * 1024;
/// At a time, of all clients and of one. Each may be idle for long.
const CONNECTIONS: (usize, usize) = (2_000, 100);
/// Of one HTTP/2 connection, at a time.
const STREAMS: u32 = 16;
/// At a time, of all clients and of one, until their responses are sent.
const REQUESTS: (usize, usize) = (1_000, 100);
/// To read a request's body and to make a response.
pub const ANSWER: Duration = Duration::from_secs(20);
/// To take that response. A client may grant a byte at a time, or none (HTTP/2), and each response takes memory.
const SEND: Duration = Duration::from_secs(30);
/// Of a response that are given away at a time.
const PIECE: usize = 16 * 1024;
/// For requests under way when the server is asked to stop: longer than one may take.
pub const GRACE: Duration = Duration::from_secs(25);
/// Of those who ask for metrics.
const SCRAPES: usize = 20;
/// For their last answers.
const LAST: Duration = Duration::from_secs(1);

/// Both listeners, before anything is answered.
pub struct Bound {
    listeners: [TcpListener; 2],
    pub https: SocketAddr,
    pub http: SocketAddr,
}

/// Both listeners of a running server.
pub struct Listeners {
    control: Control,
    tasks: [JoinHandle<io::Result<()>>; 2],
    pub https: SocketAddr,
    pub http: SocketAddr,
}

fn bind(address: SocketAddr, setting: &str) -> Result<(TcpListener, SocketAddr), String> {
    let fault = |error: io::Error| {
        let what_to_do = match error.kind() {
            io::ErrorKind::AddrInUse => "; stop the program that does, or take another port",
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 take CAP_NET_BIND_SERVICE, or a forwarded port and `public_port`"
            }
            _ => "",
        };
        format!("cannot listen on {address} (setting `{setting}`): {error}{what_to_do}")
    };
    let listener = TcpListener::bind(address).map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    Ok((listener, address))
}

impl Bound {
    /// Port 0: any that is free.
    pub fn new(https: SocketAddr, http: SocketAddr) -> Result<Bound, String> {
        let ((secure, https), (plain, http)) = (bind(https, "https")?, bind(http, "http")?);
        Ok(Bound { listeners: [secure, plain], https, http })
    }

    /// `shares`: of connections.
    pub fn serve(
        self,
        tls: RustlsConfig,
        trusted: &[IpNet],
        shares: &Arc<Shares>,
        app: &Router,
    ) -> Result<Listeners, String> {
        let [secure, plain] = self.listeners;
        let control = Control::new();
        let acceptor = RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE);
        let secure = limited(secure, &control)?.acceptor(acceptor);
        let plain = limited(plain, &control)?;

        let connections = |tls| PerConnection {
            app: app.clone(),
            tls,
            trusted: trusted.into(),
            shares: Arc::clone(shares),
        };
        let tasks =
            [tokio::spawn(secure.serve(connections(true))), tokio::spawn(plain.serve(connections(false)))];
        Ok(Listeners { control, tasks, https: self.https, http: self.http })
    }
}

impl Listeners {
    /// Takes no new connection, and waits for requests under way.
    pub async fn stop(self, grace: Duration) {
        self.control.graceful_shutdown(Some(grace));
        for task in self.tasks {
            if let Ok(Err(error)) = task.await {
                tracing::error!(%error, "a listener failed");
            }
        }
    }
}

/// Where metrics are asked for; not yet answered.
pub struct MetricsBound {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// Where metrics are asked for.
pub struct MetricsListener {
    control: Control,
    task: JoinHandle<io::Result<()>>,
    pub address: SocketAddr,
}

impl MetricsListener {
    pub async fn stop(self) {
        self.control.graceful_shutdown(Some(LAST));
        if let Ok(Err(error)) = self.task.await {
            tracing::error!(%error, "the listener of metrics failed");
        }
    }
}

impl MetricsBound {
    pub fn new(address: SocketAddr) -> Result<MetricsBound, String> {
        let (listener, address) = bind(address, "metrics")?;
        Ok(MetricsBound { listener, address })
    }

    pub fn serve(self, app: Router) -> Result<MetricsListener, String> {
        let control = Control::new();
        let server = limited(self.listener, &control)?;
        let shares = Shares::new(SCRAPES, SCRAPES);
        let connections = PerConnection { app, tls: false, trusted: Arc::new([]), shares };
        tracing::info!(address = %self.address, "metrics");
        Ok(MetricsListener { control, task: tokio::spawn(server.serve(connections)), address: self.address })
    }
}

fn refused(peer: Option<&SocketAddr>, error: &io::Error) {
    match peer {
        // Whoever scans the internet comes by: no more than a line for those who look for one.
        Some(peer) => tracing::debug!(%peer, %error, "no connection"),
        // Most often `ulimit -n` is less than all connections take.
        None => tracing::warn!(%error, "no connection can be accepted"),
    }
}

/// A server whose connections cost no more than they may.
fn limited(listener: TcpListener, control: &Control) -> Result<Server<SocketAddr>, String> {
    let mut server = axum_server::from_tcp(listener)
        .map_err(|error| error.to_string())?
        .accept_error_handler(refused)
        .handle(Handle::with_control(control.clone()))
        .first_request_timeout(HEAD);
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .max_header_list_size(HEAD_BYTES as u32)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(HEAD);
    Ok(server)
}

/// Gives each connection its copy of the app, while there are not too many.
#[derive(Clone)]
struct PerConnection {
    app: Router,
    tls: bool,
    trusted: Arc<[IpNet]>,
    shares: Arc<Shares>,
}

impl Service<SocketAddr> for PerConnection {
    type Response = axum::middleware::AddExtension<Router, ConnectInfo<Connection>>;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Self::Response, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, peer: SocketAddr) -> Self::Future {
        let address = peer.ip().to_canonical();
        let speaks_for_many = self.trusted.iter().any(|proxies| proxies.contains(&address));
        let Some(share) = self.shares.take((!speaks_for_many).then(|| network(address))) else {
            tracing::info!(%peer, "too many connections: this one is closed");
            return std::future::ready(Err(io::Error::other("too many connections")));
        };
        let connection = Connection { peer, tls: self.tls, share: Some(Arc::new(share)) };
        let connection = ConnectInfo(connection);
        std::future::ready(Ok(axum::Extension(connection).layer(self.app.clone())))
    }
}

/// The shares that [`bounded`] gives out.
pub fn requests() -> Arc<Shares> {
    Shares::new(REQUESTS.0, REQUESTS.1)
}

/// The shares of connections.
pub fn connections() -> Arc<Shares> {
    Shares::new(CONNECTIONS.0, CONNECTIONS.1)
}

/// Takes so many requests at a time, and of one client not all of them.
pub async fn bounded(
    State(shares): State<Arc<Shares>>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    // Load balancers are to know that the server is there, however busy it is.
    if request.uri().path() == HEALTH {
        return next.run(request).await;
    }
    let Some(share) = shares.take(Some(network(client.address))) else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
    };
    let connection = request.extensions().get::<ConnectionShutdown>().cloned();
    let response = next.run(request).await;
    if response.body().is_end_stream() {
        return response;
    }
    let deadline = connection.map(|connection| {
        let close = async move {
            tokio::time::sleep(SEND).await;
            connection.shutdown();
        };
        Deadline(tokio::spawn(close).abort_handle())
    });
    response.map(|body| Body::new(Sent { body, piece: Bytes::new(), _share: share, _deadline: deadline }))
}

struct Deadline(AbortHandle);

impl Drop for Deadline {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A response's body, which keeps the request's share until the connection has taken it all: in pieces, since a connection
/// takes the next one only when the client has room for some of it.
struct Sent {
    body: Body,
    piece: Bytes,
    _share: Share,
    _deadline: Option<Deadline>,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.piece.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.piece = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.piece.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.piece.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.piece.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
