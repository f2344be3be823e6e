//! One server of the fleet: axum and the session layer as the settings on the command line say.

#![forbid(unsafe_code)]

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use cookie_session::{Incoming, Key, KeyRing, Lifetime, Session, SessionBuilder, SessionLayer, UpdateError};
use fleet_tests::{CLOCK, Data, HOLD, Keys, Report, Schema, Settings, says, told};
use http_body::Frame;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, SystemTime},
};
use tokio::{net::TcpListener, sync::watch};

#[tokio::main]
async fn main() {
    let settings = std::env::args().nth(1).expect("settings on the command line");
    let settings: Settings = serde_json::from_str(&settings).expect("settings");
    let (drain, mut drained) = watch::channel(false);
    let server = Shared { clock: Arc::new(Clock::new(settings.ahead)), gates: Gates::default() };
    let app = match settings.schema {
        Schema::V1 => app(builder::<V1>(&settings, &server), &server),
        Schema::V2WritesV1 => app(
            builder::<V2>(&settings, &server)
                .schema(2)
                .migrate_from(1, |old: V1| V2::of(old.data()))
                .write_as(1, |new| V1::of(new.data())),
            &server,
        ),
        Schema::V2 => app(
            builder::<V2>(&settings, &server).schema(2).migrate_from(1, |old: V1| V2::of(old.data())),
            &server,
        ),
    };
    thread::spawn(move || obey(&server, &drain));

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    println!("{}{}", says::LISTENING, listener.local_addr().expect("an address").port());
    let asked = async move {
        drained.wait_for(|drain| *drain).await.expect("the thread that obeys");
        println!("{}", says::DRAINING);
    };
    axum::serve(listener, app).with_graceful_shutdown(asked).await.expect("a server");
    // The thread that obeys still reads.
    process::exit(0);
}

/// Does what standard input says, until its end.
fn obey(server: &Shared, drain: &watch::Sender<bool>) {
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        if line == told::DRAIN {
            drain.send_replace(true);
        } else if let Some(gate) = line.strip_prefix(told::OPEN) {
            let (name, now) = gate.split_once(' ').expect("a gate and a time");
            server.clock.set(now);
            server.gates.named(name).send_replace(true);
        } else {
            panic!("what is {line:?}?");
        }
    }
    process::exit(1);
}

#[derive(Clone)]
struct Shared {
    clock: Arc<Clock>,
    gates: Gates,
}

struct Clock {
    /// In milliseconds; 0: the machine's time.
    told: AtomicU64,
    ahead: Duration,
}

impl Clock {
    fn new(ahead: u64) -> Clock {
        Clock { told: AtomicU64::new(0), ahead: Duration::from_millis(ahead) }
    }

    fn set(&self, told: &str) {
        self.told.store(told.parse().expect("milliseconds"), Ordering::SeqCst);
    }

    fn now(&self) -> SystemTime {
        let time = match self.told.load(Ordering::SeqCst) {
            0 => SystemTime::now(),
            told => SystemTime::UNIX_EPOCH + Duration::from_millis(told),
        };
        time + self.ahead
    }
}

/// Gates by name; closed until they are opened, and open for good then.
#[derive(Clone, Default)]
struct Gates(Arc<Mutex<HashMap<String, watch::Sender<bool>>>>);

impl Gates {
    fn named(&self, name: &str) -> watch::Sender<bool> {
        let mut gates = self.0.lock().expect("no panic");
        gates.entry(name.to_owned()).or_insert_with(|| watch::channel(false).0).clone()
    }
}

fn builder<F>(settings: &Settings, server: &Shared) -> SessionBuilder<F>
where
    F: Form,
{
    // These open no session but those of this test.
    let old =
        || "c1e86b0f2ab94d7095d3fa7720c4586e9b13e5f41d0876a2bb60394c8ed5f217".parse::<Key>().expect("a key");
    let new =
        || "5d93a0e7f8124bc66e2f7b1980ad34c5e0176f8b9c52ed431fb8a6307e94cd02".parse::<Key>().expect("a key");
    let ring = match settings.keys {
        Keys::OldAlone => KeyRing::new(old(), []),
        Keys::NewAsFallback => KeyRing::new(old(), [new()]),
        Keys::NewAsPrimary => KeyRing::new(new(), [old()]),
        Keys::NewAlone => KeyRing::new(new(), []),
    };
    let clock = Arc::clone(&server.clock);
    SessionLayer::builder(ring.expect("a ring")).clock(move || clock.now())
}

fn app<F: Form>(sessions: SessionBuilder<F>, server: &Shared) -> Router {
    Router::new()
        .route("/read", get(read::<F>))
        .route("/count", post(count::<F>))
        .route("/mark/{mark}", post(mark::<F>))
        .route("/note/{note}", post(note::<F>))
        .route("/sign-in/{user}", post(sign_in::<F>))
        .route("/remember/{user}", post(remember::<F>))
        .route("/renew", post(renew::<F>))
        .route("/sign-out", post(sign_out::<F>))
        .route("/switch/{user}", post(switch::<F>))
        .route("/count-and-never-end", post(count_and_never_end::<F>))
        .layer(middleware::from_fn_with_state(server.clone(), hold))
        .layer(sessions.build().expect("good settings"))
        .layer(middleware::from_fn_with_state(server.clone(), tell_the_time))
}

async fn tell_the_time(State(server): State<Shared>, request: Request, next: Next) -> Response {
    if let Some(told) = request.headers().get(CLOCK) {
        server.clock.set(told.to_str().expect("text"));
    }
    next.run(request).await
}

/// The handler is through, and the layer has not committed the session.
async fn hold(State(server): State<Shared>, request: Request, next: Next) -> Response {
    let gate = request.headers().get(HOLD).map(|name| name.to_str().expect("text").to_owned());
    let response = next.run(request).await;
    if let Some(name) = gate {
        let mut open = server.gates.named(&name).subscribe();
        println!("{}{name}", says::HELD);
        open.wait_for(|open| *open).await.expect("gates stay");
    }
    response
}

/// A form of the session's type.
trait Form: Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    fn data(&self) -> Data;
    fn of(data: Data) -> Self;
}

#[derive(Default, Serialize, Deserialize)]
struct V1 {
    user: Option<String>,
    count: u32,
    marks: Vec<u32>,
}

#[derive(Default, Serialize, Deserialize)]
struct V2 {
    count: u64,
    note: Option<String>,
    user: Option<String>,
    marks: Vec<u32>,
}

impl Form for V1 {
    fn data(&self) -> Data {
        Data { user: self.user.clone(), count: self.count, marks: self.marks.clone(), note: None }
    }

    fn of(Data { user, count, marks, note: _ }: Data) -> V1 {
        V1 { user, count, marks }
    }
}

impl Form for V2 {
    fn data(&self) -> Data {
        Data {
            user: self.user.clone(),
            count: u32::try_from(self.count).expect("a small count"),
            marks: self.marks.clone(),
            note: self.note.clone(),
        }
    }

    fn of(Data { user, count, marks, note }: Data) -> V2 {
        V2 { count: count.into(), note, user, marks }
    }
}

/// Runs a handler's change, and says what came in and what was left.
fn report<F: Form>(
    session: &Session<F>,
    change: impl FnOnce() -> Result<(), UpdateError>,
) -> Result<String, UpdateError> {
    let incoming = session.incoming();
    let accepted = incoming == Incoming::Accepted;
    let came_in = session.read(|form| form.data().user);
    let form = session.meta().filter(|_| accepted).map(|meta| meta.schema());
    change()?;
    let data = session.read(F::data);
    let report = Report { incoming: format!("{incoming:?}"), came_in, form, data };
    Ok(serde_json::to_string(&report).expect("JSON"))
}

fn update<F: Form>(session: &Session<F>, change: impl FnOnce(&mut Data)) -> Result<(), UpdateError> {
    session.update(|form| {
        let mut data = form.data();
        change(&mut data);
        *form = F::of(data);
    })
}

async fn read<F: Form>(session: Session<F>) -> Result<String, UpdateError> {
    report(&session, || Ok(()))
}

async fn count<F: Form>(session: Session<F>) -> Result<String, UpdateError> {
    report(&session, || update(&session, |data| data.count += 1))
}

async fn mark<F: Form>(session: Session<F>, Path(mark): Path<u32>) -> Result<String, UpdateError> {
    report(&session, || update(&session, |data| data.marks.push(mark)))
}

async fn note<F: Form>(session: Session<F>, Path(note): Path<String>) -> Result<String, UpdateError> {
    report(&session, || update(&session, |data| data.note = Some(note)))
}

async fn sign_in<F: Form>(session: Session<F>, Path(user): Path<String>) -> Result<String, UpdateError> {
    report(&session, || {
        session.renew()?;
        update(&session, |data| data.user = Some(user))
    })
}

/// Signs in for two weeks, used or not.
async fn remember<F: Form>(session: Session<F>, Path(user): Path<String>) -> Result<String, UpdateError> {
    report(&session, || {
        update(&session, |data| data.user = Some(user))?;
        session.set_lifetime(Lifetime::Own(Duration::from_secs(14 * 24 * 60 * 60)))
    })
}

async fn renew<F: Form>(session: Session<F>) -> Result<String, UpdateError> {
    report(&session, || session.renew().map(drop))
}

async fn sign_out<F: Form>(session: Session<F>) -> Result<String, UpdateError> {
    report(&session, || {
        session.clear();
        Ok(())
    })
}

async fn switch<F: Form>(session: Session<F>, Path(user): Path<String>) -> Result<String, UpdateError> {
    report(&session, || {
        session.clear();
        update(&session, |data| data.user = Some(user))
    })
}

/// The headers and the report leave, and then the body stands still.
async fn count_and_never_end<F: Form>(session: Session<F>) -> Result<Body, UpdateError> {
    Ok(Body::new(Unfinished(Some(count(session).await?.into()))))
}

struct Unfinished(Option<Bytes>);

impl http_body::Body for Unfinished {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}
