//! The layer under the model's eyes: real layers, services and futures, polled by hand.

use super::model::*;
use cookie_session::{
    Counters, Incoming, Key, KeyId, KeyRing, KeyRingHandle, Lifetime, Mode, Opened, RejectedKind, Session,
    SessionBuilder, SessionId, SessionLayer, SessionMeta, UpdateError, internal,
};
use http::{
    HeaderMap, HeaderValue,
    header::{CACHE_CONTROL, COOKIE, SET_COOKIE, VARY},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer as _, Service as _, service_fn};

type Response = http::Response<()>;
type Answered = Result<Response, Infallible>;

/// More would only be slow.
const MOST_EVENTS: usize = 200;

const KEY_TEXTS: [&str; KEYS] = [
    "Lq1sEq5fYxvVwXb5Yq0oB2b8o0pJm9wq0W3Jc3mG1xk=",
    "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
    "q0o7rC2xk8VJm1yXw4cW3f0H9bZtQeU5sLdPnAiG6hE=",
];

// Two forms of one struct: a misread would show, as the stamp is met at another place.

#[derive(Default, Serialize, Deserialize)]
struct V1 {
    stamp: [u8; 4],
    text: String,
}

#[derive(Default, Serialize, Deserialize)]
struct V2 {
    text: String,
    note: [u8; 2],
    stamp: [u8; 4],
}

trait Form: Default + Serialize + DeserializeOwned + Send + 'static {
    fn data(&self) -> Data;
    /// Puts these data in its place, as far as it has fields for them.
    fn put(&mut self, data: Data);
}

/// A text that tells whose it is.
fn text(stamp: u32, len: usize) -> String {
    String::from(char::from(b'a' + (stamp % 26) as u8)).repeat(len)
}

fn read(stamp: [u8; 4], its_text: &str, note: [u8; 2]) -> Data {
    let (stamp, len) = (u32::from_le_bytes(stamp), its_text.len());
    assert_eq!(its_text, text(stamp, len), "a text of another write");
    Data { stamp, len, note: u16::from_le_bytes(note) }
}

impl Form for V1 {
    fn data(&self) -> Data {
        read(self.stamp, &self.text, [0; 2])
    }

    fn put(&mut self, Data { stamp, len, note: _ }: Data) {
        *self = V1 { stamp: stamp.to_le_bytes(), text: text(stamp, len) };
    }
}

impl Form for V2 {
    fn data(&self) -> Data {
        read(self.stamp, &self.text, self.note)
    }

    fn put(&mut self, Data { stamp, len, note }: Data) {
        *self = V2 { text: text(stamp, len), note: note.to_le_bytes(), stamp: stamp.to_le_bytes() };
    }
}

fn migrate(V1 { stamp, text }: V1) -> V2 {
    V2 { text, note: [0; 2], stamp }
}

fn back(V2 { stamp, text, .. }: &V2) -> V1 {
    V1 { stamp: *stamp, text: text.clone() }
}

/// One process of each instance, with a layer for each release that can be deployed there.
struct Process {
    clock: Arc<AtomicU64>,
    handle: KeyRingHandle,
    /// The ring that the last run left there.
    ring: Cell<Ring>,
    old: SessionLayer<V1>,
    both: SessionLayer<V2>,
    new: SessionLayer<V2>,
}

/// What takes long to build, once for each mode.
struct Fleet {
    processes: [Process; 3],
    /// Opens whatever any of them seals, at any time.
    witness: SessionLayer<V2>,
}

thread_local! {
    static ALL_KEYS: [Key; KEYS] = KEY_TEXTS.map(|text| text.parse().expect("a good key"));
    static FLEETS: [Fleet; 2] = [Mode::Encrypted, Mode::Signed].map(Fleet::new);
}

fn key(index: usize) -> Key {
    ALL_KEYS.with(|keys| keys[index].clone())
}

fn key_id(index: usize) -> KeyId {
    ALL_KEYS.with(|keys| keys[index].id())
}

fn key_ring(ring: Ring) -> KeyRing {
    KeyRing::new(key(ring.primary), ring.fallback.map(key)).expect("two keys")
}

impl Fleet {
    fn new(mode: Mode) -> Fleet {
        let process = || {
            let clock = Arc::new(AtomicU64::new(0));
            let handle = KeyRingHandle::new(key_ring(RINGS[0]));
            fn settings<T>(handle: &KeyRingHandle, clock: &Arc<AtomicU64>, mode: Mode) -> SessionBuilder<T> {
                let clock = Arc::clone(clock);
                SessionLayer::builder(handle.clone())
                    .mode(mode)
                    .idle_timeout(Duration::from_millis(IDLE))
                    .absolute_timeout(Duration::from_millis(ABSOLUTE))
                    .max_own_lifetime(Duration::from_millis(LONGEST_OWN))
                    .passive_if(|parts| parts.uri.path() == "/poll")
                    .clock(move || time(clock.load(Relaxed)))
            }
            let new = || settings::<V2>(&handle, &clock, mode).schema(2).migrate_from(1, migrate);
            Process {
                old: settings(&handle, &clock, mode).build().expect("good settings"),
                both: new().write_as(1, back).build().expect("good settings"),
                new: new().build().expect("good settings"),
                clock,
                handle,
                ring: Cell::new(RINGS[0]),
            }
        };
        let long = Duration::from_secs(400 * 24 * 60 * 60);
        let keys = KeyRing::new(key(0), [key(1), key(2)]).expect("three keys");
        let witness = SessionLayer::builder(keys).mode(mode).absolute_timeout(long).idle_timeout(long);
        Fleet {
            processes: [process(), process(), process()],
            witness: witness.schema(2).migrate_from(1, migrate).build().expect("good settings"),
        }
    }
}

impl Process {
    fn replace(&self, ring: Ring) {
        // Deriving keys is what takes longest in a run.
        if self.ring.replace(ring) != ring {
            self.handle.replace(key_ring(ring));
        }
    }
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

type Closure<'f> = dyn FnMut(Data, &mut dyn FnMut(Data)) -> Result<(), ()> + 'f;

/// A `Session<T>` of any release.
trait Handle {
    fn data(&self) -> Data;
    /// `try_update`, by a closure that is given the data and what puts others in their place.
    fn change(&self, f: &mut Closure<'_>) -> Result<Result<(), ()>, UpdateError>;
    fn renew(&self) -> Result<Option<SessionId>, UpdateError>;
    fn set_lifetime(&self, lifetime: Lifetime) -> Result<(), UpdateError>;
    fn clear(&self) -> bool;
    fn meta(&self) -> Option<SessionMeta>;
    fn incoming(&self) -> Incoming;
    fn remaining(&self) -> usize;
    /// `is_new` and `is_changed`.
    fn is(&self) -> (bool, bool);
}

impl<T: Form> Handle for Session<T> {
    fn data(&self) -> Data {
        self.read(T::data)
    }
    fn change(&self, f: &mut Closure<'_>) -> Result<Result<(), ()>, UpdateError> {
        self.try_update(|value| f(value.data(), &mut |data| value.put(data)))
    }
    fn renew(&self) -> Result<Option<SessionId>, UpdateError> {
        self.renew()
    }
    fn set_lifetime(&self, lifetime: Lifetime) -> Result<(), UpdateError> {
        self.set_lifetime(lifetime)
    }
    fn clear(&self) -> bool {
        self.clear()
    }
    fn meta(&self) -> Option<SessionMeta> {
        self.meta()
    }
    fn incoming(&self) -> Incoming {
        self.incoming()
    }
    fn remaining(&self) -> usize {
        self.remaining()
    }
    fn is(&self) -> (bool, bool) {
        (self.is_new(), self.is_changed())
    }
}

fn refusal(error: UpdateError) -> Refusal {
    match error {
        UpdateError::TooLarge(_) => Refusal::TooLarge,
        UpdateError::LifetimeTooLong { .. } => Refusal::TooLong,
        UpdateError::LifetimeTooShort { .. } => Refusal::TooShort,
        UpdateError::Nested => Refusal::Nested,
        UpdateError::Cleared => Refusal::Cleared,
        UpdateError::Committed => Refusal::Committed,
        other => panic!("{other}"),
    }
}

/// A request at the server: its handler waits to be told what to do.
struct Served {
    /// `None`: the response's head is through, or the request was given up.
    future: Option<Pin<Box<dyn Future<Output = Answered>>>>,
    answer: Rc<Cell<Option<Response>>>,
    handle: Option<Rc<dyn Handle>>,
}

fn serve<T: Form>(layer: &SessionLayer<T>, request: http::Request<()>, asks: bool) -> Served {
    let given: Rc<RefCell<Option<Session<T>>>> = Rc::default();
    let answer: Rc<Cell<Option<Response>>> = Rc::default();
    let mut service = layer.layer(service_fn({
        let (given, answer) = (Rc::clone(&given), Rc::clone(&answer));
        move |request: http::Request<()>| {
            let (parts, ()) = request.into_parts();
            if asks {
                *given.borrow_mut() = Some(Session::from_parts(&parts).expect("the layer is around"));
            }
            let answer = Rc::clone(&answer);
            let told = move || answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)));
            std::future::poll_fn(move |_| told())
        }
    }));
    let future = Box::pin(service.call(request));
    let handle = given.take().map(|session| Rc::new(session) as Rc<dyn Handle>);
    Served { future: Some(future), answer, handle }
}

impl Served {
    /// The handler returns this.
    fn respond(&mut self, answer: Response) -> Option<Response> {
        let mut future = self.future.take()?;
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending(), "a response before its time");
        self.answer.set(Some(answer));
        match future.as_mut().poll(&mut context) {
            Poll::Ready(Ok(response)) => Some(response),
            Poll::Pending => panic!("the head waits"),
        }
    }
}

/// A request under way, until its response arrives.
struct Slot {
    request: Request,
    served: Served,
    answer: Option<Answer>,
}

struct Run<'f> {
    mode: Mode,
    fleet: &'f Fleet,
    world: World,
    slots: [Option<Slot>; 4],
    /// The instances' counters at the start.
    before: [Counters; 3],
    stamps: u32,
}

pub fn run(data: &[u8]) {
    let Some((header, events)) = data.split_first_chunk::<4>() else { return };
    let signed = header[0] == b's';
    FLEETS.with(|fleets| {
        let mode = if signed { Mode::Signed } else { Mode::Encrypted };
        let fleet = &fleets[usize::from(signed)];
        let before = [0, 1, 2].map(|at| {
            fleet.processes[at].replace(RINGS[0]);
            fleet.processes[at].handle.counters()
        });
        let mut run =
            Run { mode, fleet, world: World::new(mode), slots: Default::default(), before, stamps: 0 };
        run.set_clocks();
        for event in events.chunks(4).take(MOST_EVENTS) {
            let at = |at| event.get(at).copied().unwrap_or(b'0');
            run.event(at(0), at(1), at(2));
        }
        // Whatever has become of the browser's session: each instance still does with it what it must.
        for instance in 0..3 {
            run.whole(instance, b'p');
            run.check_counters(instance);
        }
    });
}

/// One of these: the one that the byte names, or else any.
fn one_of(names: &[u8], byte: u8) -> u8 {
    if names.contains(&byte) { byte } else { names[usize::from(byte) % names.len()] }
}

/// A digit's value; other bytes have one as well.
fn number(byte: u8, below: usize) -> usize {
    usize::from(byte.wrapping_sub(b'0')) % below
}

impl Run<'_> {
    fn event(&mut self, event: u8, a: u8, b: u8) {
        let slot = number(a, self.slots.len());
        match one_of(b"gsqrunclhHda+@~ov", event) {
            b'g' => self.whole(number(a, 3), b),
            b's' => self.send(number(a, 3), number(b, 4), false),
            b'q' => self.send(number(a, 3), number(b, 4), true),
            b'd' => self.deliver(slot),
            b'a' => self.give_up(slot),
            b'+' => {
                let unit = match one_of(b"mstih", a) {
                    b'm' => 1,
                    b's' => SECOND,
                    b't' => 10 * SECOND,
                    b'i' => MINUTE,
                    _ => HOUR,
                };
                self.world.now += unit * number(b, 10) as u64;
            }
            b'@' => self.come_to(one_of(b"iarf", a), number(b, 9)),
            b'~' => {
                let (minute, hour) = (MINUTE as i64, HOUR as i64);
                let skew = match one_of(b"0bBfFxyY", b) {
                    b'b' => -minute / 2,
                    b'B' => -minute,
                    b'f' => minute / 2,
                    b'F' => minute,
                    b'x' => minute + 1,
                    b'y' => 2 * hour,
                    b'Y' => -2 * hour,
                    _ => 0,
                };
                self.world.set_skew(number(a, 3), skew);
            }
            b'o' => {
                let (instance, ring) = (number(a, 3), RINGS[number(b, RINGS.len())]);
                self.check_counters(instance);
                self.fleet.processes[instance].replace(ring);
                self.world.replace_ring(instance, ring);
                self.check_counters(instance);
            }
            b'v' => {
                self.world.instances[number(a, 3)].release =
                    [Release::Old, Release::Both, Release::New][number(b, 3)];
            }
            work => {
                // What happens to a request's session, by its handler.
                let Some(mut at) = self.slots[slot].take() else { return };
                if let Some(handle) = at.served.handle.clone() {
                    match work {
                        b'r' => self.agree(&mut at.request, &*handle),
                        b'u' => self.update(&mut at.request, &*handle, b),
                        b'n' => self.renew(&mut at.request, &*handle),
                        b'c' => assert_eq!(handle.clear(), at.request.clear()),
                        b'l' => self.set_lifetime(&mut at.request, &*handle, b),
                        _ => {
                            drop(handle);
                            self.answer(&mut at, one_of(b"2345s", b), work == b'h');
                        }
                    }
                }
                if let (Some(handle), Some(_)) = (at.served.handle.clone(), at.request.opened) {
                    self.agree(&mut at.request, &*handle);
                }
                self.slots[slot] = Some(at);
            }
        }
        self.set_clocks();
    }

    fn set_clocks(&self) {
        for (instance, process) in self.fleet.processes.iter().enumerate() {
            process.clock.store(self.world.clock(instance), Relaxed);
        }
    }

    /// Moves time, or where that would have to run backwards, the instance's clock.
    fn come_to(&mut self, deadline: u8, n: usize) {
        let (instance, off) = (n / 3, n as i64 % 3 - 1);
        let Some((cookie, _)) = &self.world.session else { return };
        let to = match deadline {
            b'i' => cookie.expires(),
            b'a' => cookie.deadline(),
            b'r' => cookie.issued + DUE,
            _ => cookie.issued - TOLERATED,
        };
        let by = to as i64 + off - self.world.clock(instance) as i64;
        if by >= 0 && deadline != b'f' {
            self.world.now += by as u64;
        } else {
            let skew = self.world.instances[instance].skew + by;
            self.world.set_skew(instance, skew.clamp(-(24 * HOUR as i64), 24 * HOUR as i64));
        }
    }

    fn start(&mut self, instance: usize, passive: bool, asks: bool) -> Slot {
        let request = self.world.send(instance, passive);
        let session = request.cookie.as_ref().map(|cookie| format!("{NAME}={}", cookie.value));
        let marker = request.marker.as_ref().map(|marker| format!("{NAME}-out={}", marker.value));
        let mut sent = http::Request::new(());
        *sent.uri_mut() = http::Uri::from_static(if passive { "/poll" } else { "/" });
        let cookies: Vec<String> = session.into_iter().chain(marker).collect();
        if !cookies.is_empty() {
            sent.headers_mut().insert(COOKIE, header(&cookies.join("; ")));
        }
        let process = &self.fleet.processes[instance];
        let served = match request.release {
            Release::Old => serve(&process.old, sent, asks),
            Release::Both => serve(&process.both, sent, asks),
            Release::New => serve(&process.new, sent, asks),
        };
        Slot { request, served, answer: None }
    }

    fn send(&mut self, instance: usize, slot: usize, passive: bool) {
        self.slots[slot] = Some(self.start(instance, passive, true));
    }

    /// The browser has gone, or the network: whatever is still done with the session goes nowhere.
    fn give_up(&mut self, slot: usize) {
        if let Some(at) = &mut self.slots[slot] {
            at.request.committed = true;
            (at.served.future, at.answer) = (None, None);
        }
    }

    fn deliver(&mut self, slot: usize) {
        if let Some(answer) = self.slots[slot].as_mut().and_then(|at| at.answer.take()) {
            self.world.arrive(answer);
        }
    }

    /// A request from beginning to end, whose session nobody looks at but for this.
    fn whole(&mut self, instance: usize, work: u8) {
        let work = one_of(b"runcilbmpt54swz", work);
        let mut at = self.start(instance, work == b'p', work != b'z');
        let Some(handle) = at.served.handle.clone() else {
            let response = at.served.respond(Response::new(())).expect("it is under way");
            assert!(response.headers().is_empty(), "a response that never had to do with a session");
            return;
        };
        let request = &mut at.request;
        match work {
            b'n' => self.renew(request, &*handle),
            b'c' => assert_eq!(handle.clear(), request.clear()),
            b'i' => {
                assert_eq!(handle.clear(), request.clear());
                self.update(request, &*handle, b'a');
            }
            b'l' | b'b' => {
                self.update(request, &*handle, b'a');
                self.set_lifetime(request, &*handle, if work == b'l' { b'h' } else { b'b' });
            }
            b'm' => self.update(request, &*handle, b'm'),
            b't' => self.update(request, &*handle, b'f'),
            b'u' | b'5' | b'4' | b'w' => self.update(request, &*handle, b'a'),
            _ => self.agree(request, &*handle),
        }
        drop(handle);
        let status = match work {
            b'5' | b'4' => work,
            b's' | b'w' => b's',
            _ => b'2',
        };
        self.answer(&mut at, status, false);
        if let Some(answer) = at.answer {
            self.world.arrive(answer);
        }
    }

    /// What the handle says is what the model says.
    fn agree(&mut self, request: &mut Request, handle: &dyn Handle) {
        self.load(request, handle);
        assert_eq!(handle.data(), request.value);
        assert_eq!(handle.remaining(), request.remaining());
        assert_eq!(handle.is(), (request.origin.is_none(), request.is_changed()));
        let session = request.session();
        let meta = handle.meta();
        assert_eq!(meta.is_some(), session.is_some());
        let (Some(meta), Some(session)) = (meta, session) else { return };
        if session.id.is_none() {
            assert!(self.world.is_fresh(meta.id()), "an id that was there before");
            match &mut request.renewed {
                Some((id, _)) => *id = Some(meta.id()),
                None => request.new_id = Some(meta.id()),
            }
        }
        self.same(&meta, &session);
        assert_eq!(meta.idle_deadline(), session.idle_deadline().map(time));
        assert_eq!(meta.absolute_deadline(), time(session.deadline()));
        assert_eq!(meta.expires_at(), time(session.expires()));
    }

    fn same(&self, meta: &SessionMeta, session: &Cookie) {
        if let Some(id) = session.id {
            assert_eq!(meta.id(), id);
        }
        assert_eq!(
            (meta.created_at(), meta.renewed_at(), meta.issued_at()),
            (time(session.created), time(session.renewed), time(session.issued)),
            "created, renewed, issued"
        );
        assert_eq!(meta.lifetime(), session.lifetime);
        assert_eq!(meta.schema(), session.schema);
        assert_eq!(meta.key_id(), key_id(session.key));
        assert_eq!(meta.mode(), self.mode);
    }

    /// The first use, on both sides.
    fn load(&mut self, request: &mut Request, handle: &dyn Handle) {
        let ring = self.world.instances[request.instance].ring;
        let incoming = handle.incoming();
        if request.opened.is_none() {
            self.world.claim(request, ring, incoming);
            self.world.load(request);
        }
        let expected = request.opened.map(|(_, incoming)| incoming);
        assert_eq!(Some(incoming), expected, "{:?}", request.cookie);
    }

    fn update(&mut self, request: &mut Request, handle: &dyn Handle, kind: u8) {
        if request.committed {
            let refused = handle.change(&mut |_, _| panic!("an update after the head"));
            assert_eq!(refused.map_err(refusal), Err(Refusal::Committed));
            return;
        }
        self.load(request, handle);
        self.stamps += 1;
        let (before, schema) = (request.value, request.schema());
        let stamp = self.stamps;
        let other = Data { stamp, len: 5 + number(kind, 8), note: before.note };
        let fill = |over: usize| {
            let half = Data { len: 1000, ..other };
            Data { len: half.len + request.room + over - half.bytes(schema), ..half }
        };
        let kind = one_of(b"am=bfoxcep", kind);
        let after = match kind {
            b'm' => Data { note: stamp as u16, ..before },
            b'=' => before,
            b'b' => request.base,
            b'f' => fill(0),
            b'o' => fill(1),
            _ => other,
        };
        // The release that has no such field cannot set it.
        let after = if request.release == Release::Old { Data { note: 0, ..after } } else { after };
        let mut closure = |data, put: &mut dyn FnMut(Data)| {
            assert_eq!(data, before, "an update sees something else than was stored");
            put(after);
            match kind {
                b'x' => {
                    assert_eq!(handle.data(), before);
                    let nested = handle.change(&mut |_, _| panic!("an update inside an update"));
                    assert_eq!(nested.map_err(refusal), Err(Refusal::Nested));
                    assert_eq!(handle.renew().map_err(refusal), Err(Refusal::Nested));
                    assert_eq!(handle.set_lifetime(Lifetime::Browser).map_err(refusal), Err(Refusal::Nested));
                }
                b'c' => assert!(handle.clear()),
                b'e' => return Err(()),
                // Not `panic!`: a fuzzer's hook would take that for a find.
                b'p' => resume_unwind(Box::new(())),
                _ => {}
            }
            Ok(())
        };
        let result = catch_unwind(AssertUnwindSafe(|| handle.change(&mut closure)));
        let Ok(result) = result else { return assert_eq!(kind, b'p') };
        let expected = match kind {
            b'c' => {
                request.clear();
                Err(Refusal::Cleared)
            }
            b'e' => Ok(Err(())),
            _ => request.update(after).map(Ok),
        };
        assert_eq!(result.map_err(refusal), expected);
    }

    fn renew(&mut self, request: &mut Request, handle: &dyn Handle) {
        self.load(request, handle);
        let now = self.world.clock(request.instance);
        let expected = if request.committed { Err(Refusal::Committed) } else { request.renew(now) };
        assert_eq!(handle.renew().map_err(refusal), expected);
    }

    fn set_lifetime(&mut self, request: &mut Request, handle: &dyn Handle, kind: u8) {
        let lifetime = match one_of(b"tbshmo0", kind) {
            b'b' => Lifetime::Browser,
            b's' => own(10 * SECOND),
            b'h' => own(HOUR),
            b'm' => own(LONGEST_OWN),
            b'o' => own(LONGEST_OWN + SECOND),
            b'0' => own(0),
            _ => Lifetime::Timeouts,
        };
        let expected = if lifetime == own(LONGEST_OWN + SECOND) {
            Err(Refusal::TooLong)
        } else {
            self.load(request, handle);
            let now = self.world.clock(request.instance);
            if request.committed { Err(Refusal::Committed) } else { request.set_lifetime(lifetime, now) }
        };
        assert_eq!(handle.set_lifetime(lifetime).map_err(refusal), expected);
    }

    /// The handler returns its response, with a cookie of its own, and the layer adds what it must.
    fn answer(&mut self, at: &mut Slot, how: u8, keeps: bool) {
        if at.served.future.is_none() {
            return;
        }
        let (status, shared) = match how {
            b's' => (200, true),
            digit => ([200, 303, 404, 500][usize::from(digit - b'2')], false),
        };
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
        response.headers_mut().insert(SET_COOKIE, HeaderValue::from_static(THEIRS));
        if shared {
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(SHARED));
        }
        let mut answer = self.world.head(&mut at.request, status, shared);
        if status == 303 && (answer.cookie.is_some() || answer.removes) {
            // An earlier cookie of the same identity, which must give way.
            response.headers_mut().append(SET_COOKIE, header(&format!("{NAME}=earlier; Path=/")));
        }
        if !keeps {
            at.served.handle = None;
        }
        let response = at.served.respond(response).expect("it is under way");
        self.check_head(&mut answer, response.headers(), shared);
        at.answer = Some(answer);
    }

    /// Each header is what the model says; what only the layer knows, the sealed values, the model takes over.
    fn check_head(&mut self, answer: &mut Answer, headers: &HeaderMap, shared: bool) {
        let mut lines: Vec<&HeaderValue> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(lines.remove(0), THEIRS, "the handler's own cookie");
        let mut take = |name: &str| {
            let its = |line: &&HeaderValue| line.as_bytes().starts_with(name.as_bytes());
            let line = lines.iter().position(its).map(|at| lines.remove(at))?;
            assert!(line.is_sensitive() && line.len() <= 4093);
            let (_, line) = line.to_str().expect("ASCII").split_once('=')?;
            // The value, and the attributes.
            line.find(';').map(|end| line.split_at(end))
        };
        let (session, marker) = (take("__Host-Http-session="), take("__Host-Http-session-out="));
        assert!(lines.is_empty(), "more cookies than one of each name: {}", lines.len());

        match &mut answer.cookie {
            None => {
                let removal = format!("{ATTRIBUTES}; Max-Age=0");
                assert_eq!(session, answer.removes.then_some(("", &*removal)), "the session's cookie");
            }
            Some(cookie) => {
                let (value, attributes) = session.expect("the session's cookie");
                let max_age = answer.max_age.map(|seconds| format!("; Max-Age={seconds}"));
                assert_eq!(attributes, format!("{ATTRIBUTES}{}", max_age.unwrap_or_default()));
                // Alive then, whatever its own lifetime, and not from the future.
                let then = answer.head_at.max(cookie.issued - TOLERATED);
                let opened = self.witness(NAME, value, then);
                let (meta, data) = opened.meta().zip(opened.value()).expect("the witness opens it");
                self.same(meta, cookie);
                assert_eq!(data.data(), cookie.data, "the data in the cookie");
                if cookie.id.is_none() {
                    assert!(self.world.is_fresh(meta.id()), "an id that was there before");
                    cookie.id = Some(meta.id());
                }
                value.clone_into(&mut cookie.value);
            }
        }
        assert_eq!(marker.is_some(), answer.marker.is_some(), "the sign-out marker");
        if let (Some((value, attributes)), Some(marker)) = (marker, &mut answer.marker) {
            assert_eq!(attributes, format!("{ATTRIBUTES}; Max-Age={}", MARKER_AGE / SECOND));
            let opened = self.witness(&format!("{NAME}-out"), value, 0);
            assert_eq!(opened.marker(), Some(time(marker.time)), "the sign-out's time");
            let (_, its_key, _) = internal::frame_parse(value.as_bytes()).expect("a frame");
            assert_eq!(its_key, key_bytes(key_id(marker.key)));
            value.clone_into(&mut marker.value);
        }

        let all = |name| {
            let values = headers.get_all(name).iter().map(|value| value.to_str().expect("ASCII"));
            values.flat_map(|value| value.split(", ")).collect::<Vec<_>>()
        };
        assert_eq!(all(VARY), ["Cookie"]);
        let caching: &[&str] = match (shared, answer.writes) {
            (false, _) => &["private"],
            (true, false) => &["public", "max-age=60"],
            (true, true) => &["max-age=60", "private"],
        };
        assert_eq!(all(CACHE_CONTROL), caching);
    }

    fn witness(&self, name: &str, value: &str, now: u64) -> Opened<V2> {
        let cookies = HeaderMap::from_iter([(COOKIE, header(&format!("{name}={value}")))]);
        self.fleet.witness.codec().open(&cookies, time(now))
    }

    /// The counters are the model's, exactly.
    fn check_counters(&mut self, instance: usize) {
        let counters = self.fleet.processes[instance].handle.counters();
        let Instance { counts, ring, .. } = &self.world.instances[instance];
        let before = &self.before[instance];
        let fallback = ring.fallback.map(|at| (key_id(at), counts.fallback[at]));
        assert_eq!(counters.opened_by_fallback, Vec::from_iter(fallback));
        assert_eq!(counters.unknown_keys - before.unknown_keys, counts.unknown_keys);
        assert_eq!(counters.reissues_too_large - before.reissues_too_large, counts.reissues_too_large);
        assert_eq!(counters.writes_too_late - before.writes_too_late, counts.writes_too_late);
        assert_eq!(counters.no_randomness, 0);
        for ((kind, after), (_, before)) in counters.rejected.iter().zip(&before.rejected) {
            let expected = match kind {
                RejectedKind::UnknownKey => counts.unknown_keys,
                RejectedKind::FromTheFuture => counts.from_the_future,
                RejectedKind::Expired => counts.expired,
                RejectedKind::SignedOut => counts.signed_out,
                RejectedKind::Schema => counts.schema,
                _ => 0,
            };
            assert_eq!(after - before, expected, "{kind}");
        }
    }
}

const THEIRS: &str = "theme=dark; Path=/";
const SHARED: &str = "public, max-age=60";

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a header's text")
}

fn key_bytes(id: KeyId) -> [u8; 4] {
    u32::from_str_radix(&id.to_string(), 16).expect("eight digits").to_be_bytes()
}
