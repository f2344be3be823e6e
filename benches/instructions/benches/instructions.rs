//! Instructions, counted by callgrind: `./check`, or `cargo bench` for gungraun's own report.
//!
//! What a setup makes is not counted, nor is the drop of what a case returns. Each setup takes the path once, so that
//! what happens once in a process is not counted either.

#[allow(dead_code)]
#[path = "../../peers/src/shop.rs"]
mod shop;

use cookie_session::{
    Express, Identity, Incoming, Key, KeyRing, Mode, Opened, RejectedKind, Session, SessionLayer,
    SessionService, SetCookie,
};
use gungraun::{Callgrind, prelude::*};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
    request::Parts,
};
use shop::Shop;
use std::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    ptr::null_mut,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};
use tower_layer::Layer as _;
use tower_service::Service;

/// Memory that is taken and never given back: what `malloc` has to do depends on all that was freed before, by the
/// setup too. Whole cache lines, since what a copy has to do depends on where its bytes lie.
#[repr(C, align(64))]
struct Memory {
    bytes: UnsafeCell<[u8; MEMORY]>,
    taken: AtomicUsize,
}

const MEMORY: usize = 64 << 20;

#[global_allocator]
static GLOBAL: Memory = Memory { bytes: UnsafeCell::new([0; MEMORY]), taken: AtomicUsize::new(0) };

// SAFETY: each byte is handed out once.
unsafe impl Sync for Memory {}

// SAFETY: each byte is handed out once, `bytes` begins with a line, and nothing is handed out behind its end.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size().next_multiple_of(64);
        let at = self.taken.fetch_add(size, Ordering::Relaxed);
        if layout.align() > 64 || size > MEMORY - at.min(MEMORY) {
            return null_mut();
        }
        // SAFETY: `at + size` is at most `MEMORY`.
        unsafe { self.bytes.get().cast::<u8>().add(at) }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// Random once, the same in each run, and known to all.
const OURS: &str = "xPFBVTiZBT4D5PVMLnAPbt/QjwLQTFqtZxKFl8sClC0=";
const FOREIGN: &str = "Ksly589uUc7tru8B2j9hYlIBjY3eiwh6jYYB+Vgua+o=";

fn layer(mode: Mode, key: &str) -> SessionLayer<Shop> {
    let ring = KeyRing::new(key.parse::<Key>().expect("a key"), []).expect("one key");
    SessionLayer::builder(ring).mode(mode).build().expect("good settings")
}

/// The same, where sessions of Express would be imported.
fn importing(mode: Mode) -> SessionLayer<Shop> {
    let ring = KeyRing::new(OURS.parse::<Key>().expect("a key"), []).expect("one key");
    let express = Express::new(Identity::named("express"), FOREIGN.as_bytes(), &[]);
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 60 * 60);
    SessionLayer::builder(ring).mode(mode).import(express, tomorrow).build().expect("good settings")
}

fn cookie(mode: Mode, notes: usize) -> HeaderValue {
    let sealed = layer(mode, OURS).codec().seal(&Shop::with_notes(notes), None, None, SystemTime::now());
    sealed.expect("it fits").request_header()
}

/// Given to a case for good: it does not drop it.
fn given<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

struct ToSeal {
    layer: SessionLayer<Shop>,
    shop: Shop,
    now: SystemTime,
}

impl ToSeal {
    fn seal(&self) -> SetCookie {
        self.layer.codec().seal(&self.shop, None, None, self.now).expect("it fits")
    }
}

fn to_seal(mode: Mode, notes: usize) -> &'static ToSeal {
    let it = ToSeal { layer: layer(mode, OURS), shop: Shop::with_notes(notes), now: SystemTime::now() };
    drop(it.seal());
    given(it)
}

#[library_benchmark(setup = to_seal)]
#[bench::encrypted_0(Mode::Encrypted, 0)]
#[bench::encrypted_90(Mode::Encrypted, 90)]
#[bench::signed_0(Mode::Signed, 0)]
#[bench::signed_90(Mode::Signed, 90)]
fn seal(it: &'static ToSeal) -> SetCookie {
    it.seal()
}

struct ToOpen {
    layer: SessionLayer<Shop>,
    request: HeaderMap,
    now: SystemTime,
}

impl ToOpen {
    fn new(layer: SessionLayer<Shop>, cookie: HeaderValue, becomes: Incoming) -> &'static ToOpen {
        let request = HeaderMap::from_iter([(COOKIE, cookie)]);
        let it = ToOpen { layer, request, now: SystemTime::now() };
        assert_eq!(it.open().incoming(), becomes);
        given(it)
    }

    fn open(&self) -> Opened<Shop> {
        self.layer.codec().open(&self.request, self.now)
    }
}

fn to_open(mode: Mode, notes: usize) -> &'static ToOpen {
    ToOpen::new(layer(mode, OURS), cookie(mode, notes), Incoming::Accepted)
}

#[library_benchmark(setup = to_open)]
#[bench::encrypted_0(Mode::Encrypted, 0)]
#[bench::encrypted_90(Mode::Encrypted, 90)]
#[bench::signed_0(Mode::Signed, 0)]
#[bench::signed_90(Mode::Signed, 90)]
fn open(it: &'static ToOpen) -> Opened<Shop> {
    it.open()
}

/// With another tag. Nothing that is derived for it is kept, so each time is as the first.
fn forged(mode: Mode, notes: usize) -> &'static ToOpen {
    let mut text = cookie(mode, notes).as_bytes().to_vec();
    let at = text.len() - 2;
    text[at] = if text[at] == b'A' { b'B' } else { b'A' };
    let cookie = HeaderValue::from_bytes(&text).expect("ASCII");
    ToOpen::new(layer(mode, OURS), cookie, Incoming::Rejected(RejectedKind::NotAuthentic))
}

#[library_benchmark(setup = forged)]
#[bench::encrypted_0(Mode::Encrypted, 0)]
#[bench::encrypted_90(Mode::Encrypted, 90)]
#[bench::signed_0(Mode::Signed, 0)]
#[bench::signed_90(Mode::Signed, 90)]
fn reject_forged(it: &'static ToOpen) -> Opened<Shop> {
    it.open()
}

fn of_unknown_key(mode: Mode, notes: usize) -> &'static ToOpen {
    let becomes = Incoming::Rejected(RejectedKind::UnknownKey);
    ToOpen::new(layer(mode, FOREIGN), cookie(mode, notes), becomes)
}

#[library_benchmark(setup = of_unknown_key)]
#[bench::encrypted_0(Mode::Encrypted, 0)]
#[bench::encrypted_90(Mode::Encrypted, 90)]
#[bench::signed_0(Mode::Signed, 0)]
#[bench::signed_90(Mode::Signed, 90)]
fn reject_unknown_key(it: &'static ToOpen) -> Opened<Shop> {
    it.open()
}

/// A service that is ready at once.
struct Handler(fn(&Parts));

impl Service<Request<()>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        (self.0)(&request.into_parts().0);
        ready(Ok(Response::new(())))
    }
}

fn session(parts: &Parts) -> Session<Shop> {
    Session::from_parts(parts).expect("the layer is there")
}

fn look(shop: &Shop) {
    assert!(shop.user.is_some());
}

type ToServe = (&'static mut SessionService<Handler, Shop>, Request<()>);

fn to_serve(mode: Mode, notes: usize, handler: fn(&Parts), writes: bool) -> ToServe {
    to_serve_by(layer(mode, OURS), cookie(mode, notes), handler, writes)
}

fn to_serve_by(layer: SessionLayer<Shop>, cookie: HeaderValue, handler: fn(&Parts), writes: bool) -> ToServe {
    let service = given(layer.layer(Handler(handler)));
    let request = || Request::builder().header(COOKIE, &cookie).body(()).expect("a good request");
    assert_eq!(serve(service, request()).headers().contains_key(SET_COOKIE), writes);
    (service, request())
}

fn serve(service: &mut SessionService<Handler, Shop>, request: Request<()>) -> Response<()> {
    match pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response,
        _ => unreachable!("the service is ready at once"),
    }
}

fn to_leave(mode: Mode, notes: usize) -> ToServe {
    to_serve(mode, notes, |_| {}, false)
}

#[library_benchmark(setup = to_leave)]
#[bench::encrypted_0(Mode::Encrypted, 0)]
#[bench::encrypted_90(Mode::Encrypted, 90)]
#[bench::signed_0(Mode::Signed, 0)]
#[bench::signed_90(Mode::Signed, 90)]
fn untouched(it: ToServe) -> Response<()> {
    serve(it.0, it.1)
}

fn to_read(mode: Mode, notes: usize) -> ToServe {
    to_serve(mode, notes, |parts| session(parts).read(look), false)
}

#[library_benchmark(setup = to_read)]
#[bench::encrypted_0(Mode::Encrypted, 0)]
#[bench::encrypted_90(Mode::Encrypted, 90)]
#[bench::signed_0(Mode::Signed, 0)]
#[bench::signed_90(Mode::Signed, 90)]
fn read(it: ToServe) -> Response<()> {
    serve(it.0, it.1)
}

fn to_read_and_write(mode: Mode, notes: usize) -> ToServe {
    let handler = |parts: &Parts| {
        let session = session(parts);
        session.read(look);
        session.update(Shop::touch).expect("it fits");
    };
    to_serve(mode, notes, handler, true)
}

#[library_benchmark(setup = to_read_and_write)]
#[bench::encrypted_0(Mode::Encrypted, 0)]
#[bench::encrypted_90(Mode::Encrypted, 90)]
#[bench::signed_0(Mode::Signed, 0)]
#[bench::signed_90(Mode::Signed, 90)]
fn read_and_write(it: ToServe) -> Response<()> {
    serve(it.0, it.1)
}

fn to_leave_importing(mode: Mode, notes: usize) -> ToServe {
    to_serve_by(importing(mode), cookie(mode, notes), |_| {}, false)
}

#[library_benchmark(setup = to_leave_importing)]
#[bench::encrypted_0(Mode::Encrypted, 0)]
#[bench::encrypted_90(Mode::Encrypted, 90)]
fn importing_untouched(it: ToServe) -> Response<()> {
    serve(it.0, it.1)
}

fn to_read_importing(mode: Mode, notes: usize) -> ToServe {
    to_serve_by(importing(mode), cookie(mode, notes), |parts| session(parts).read(look), false)
}

#[library_benchmark(setup = to_read_importing)]
#[bench::encrypted_0(Mode::Encrypted, 0)]
#[bench::encrypted_90(Mode::Encrypted, 90)]
fn importing_read(it: ToServe) -> Response<()> {
    serve(it.0, it.1)
}

/// Cookies of others, and none of ours or of Express.
fn to_read_nothing(layer: SessionLayer<Shop>) -> ToServe {
    const OTHERS: &str =
        "_ga=GA1.2.1234567890.1600000000; theme=dark; consent=1; _gid=GA1.2.987654321.1600000000";
    let handler = |parts: &Parts| session(parts).read(|shop| assert!(shop.user.is_none()));
    to_serve_by(layer, HeaderValue::from_static(OTHERS), handler, false)
}

fn to_read_nothing_by(mode: Mode) -> ToServe {
    to_read_nothing(layer(mode, OURS))
}

fn to_read_nothing_importing(mode: Mode) -> ToServe {
    to_read_nothing(importing(mode))
}

#[library_benchmark(setup = to_read_nothing_by)]
#[bench::encrypted(Mode::Encrypted)]
fn absent(it: ToServe) -> Response<()> {
    serve(it.0, it.1)
}

#[library_benchmark(setup = to_read_nothing_importing)]
#[bench::encrypted(Mode::Encrypted)]
fn importing_absent(it: ToServe) -> Response<()> {
    serve(it.0, it.1)
}

library_benchmark_group!(
    name = session_group,
    benchmarks = [
        seal,
        open,
        reject_forged,
        reject_unknown_key,
        untouched,
        read,
        read_and_write,
        absent,
        importing_untouched,
        importing_read,
        importing_absent
    ]
);
main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = session_group
);
