//! Nothing is decrypted before the first use of the handle; a route that never touches the session
//! pays next to nothing.

use crate::kit::*;
use cookie_session::{Incoming, KeyRing, KeyRingHandle, Session, SessionLayer};
use http::{Request, Response};
use serde::{Deserialize, Deserializer, Serialize};
use std::{
    cell::Cell,
    convert::Infallible,
    future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};
use tower::{Layer, Service, service_fn};

thread_local! {
    static DECODED: Cell<u32> = const { Cell::new(0) };
    static DEFAULTED: Cell<u32> = const { Cell::new(0) };
}

/// Counts how often it is decoded and made from nothing; each test has a thread of its own.
#[derive(Debug, PartialEq, Serialize)]
struct Probe(u32);

impl Default for Probe {
    fn default() -> Self {
        DEFAULTED.set(DEFAULTED.get() + 1);
        Probe(0)
    }
}

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.set(DECODED.get() + 1);
        u32::deserialize(deserializer).map(Probe)
    }
}

fn forget() {
    DECODED.set(0);
    DEFAULTED.set(0);
}

struct Asked {
    layer: SessionLayer<Probe>,
    keys: KeyRingHandle,
    accept_if: Arc<AtomicU32>,
    passive_if: Arc<AtomicU32>,
    clock: Arc<AtomicU32>,
    /// Sealed with the fallback key, an hour ago.
    cookie: String,
}

fn asked() -> Asked {
    let (clock, old, new) = (Clock::new(), key(), key());
    let before = builder_over::<Probe>(KeyRing::new(old.clone(), []).unwrap(), &clock).build().unwrap();
    let cookie = sealed(&before, &Probe(7), clock.now());
    clock.pass(HOUR);

    let counter = || Arc::new(AtomicU32::new(0));
    let (accept_if, passive_if, read) = (counter(), counter(), counter());
    let (count_accept, count_passive, count_read) = (accept_if.clone(), passive_if.clone(), read.clone());
    let layer = builder_over::<Probe>(KeyRing::new(new, [old]).unwrap(), &clock)
        .reissue_after(MINUTE)
        .accept_if(move |_, _| {
            count_accept.fetch_add(1, SeqCst);
            true
        })
        .passive_if(move |_| {
            count_passive.fetch_add(1, SeqCst);
            false
        })
        .clock(move || {
            count_read.fetch_add(1, SeqCst);
            clock.now()
        })
        .build()
        .unwrap();
    let keys = layer.keys();
    forget();
    Asked { layer, keys, accept_if, passive_if, clock: read, cookie }
}

#[test]
fn a_handle_that_is_never_used_opens_nothing() {
    let asked = asked();
    let garbage = format!("{NAME}=AQAAAAAAAAAA; {}", asked.cookie);
    let ((), response) = visit(&asked.layer, &garbage, |_| ());
    assert_eq!((DECODED.get(), DEFAULTED.get()), (0, 0));
    assert_eq!(asked.accept_if.load(SeqCst), 0);
    let counters = asked.keys.counters();
    assert!(counters.opened_by_fallback.iter().all(|(_, count)| *count == 0));
    assert!(counters.rejected.iter().all(|(_, count)| *count == 0));
    assert_eq!(counters.unknown_keys, 0);
    // It is long due for a re-issue, which would have needed to open it.
    assert_eq!(names(&response), [""; 0]);
}

#[test]
fn the_first_use_opens_once_for_all_that_follow() {
    let asked = asked();
    let ((), _) = visit(&asked.layer, &asked.cookie, |session| {
        for _ in 0..3 {
            assert_eq!(session.read(|probe| probe.0), 7);
        }
        assert_eq!(session.incoming(), Incoming::Accepted);
        assert!(!session.is_new());
        assert!(session.meta().is_some());
        let clone = session.clone();
        assert_eq!(clone.read(|probe| probe.0), 7);
    });
    assert_eq!((DECODED.get(), DEFAULTED.get()), (1, 0));
    assert_eq!(asked.accept_if.load(SeqCst), 1);
    assert_eq!(asked.keys.counters().opened_by_fallback.iter().map(|(_, count)| count).sum::<u64>(), 1);
}

#[test]
fn any_of_the_questions_about_a_session_is_a_first_use() {
    type Question = fn(&Session<Probe>);
    let questions: [Question; 6] = [
        |session| assert_eq!(session.incoming(), Incoming::Accepted),
        |session| assert!(!session.is_new()),
        |session| assert!(!session.is_changed()),
        |session| assert!(session.meta().is_some()),
        |session| assert!(session.remaining() > 2000),
        |session| assert!(session.renew().unwrap().is_some()),
    ];
    for question in questions {
        let asked = asked();
        let ((), _) = visit(&asked.layer, &asked.cookie, question);
        assert_eq!(DECODED.get(), 1);
    }
}

#[test]
fn a_route_that_never_extracts_asks_nothing_and_changes_nothing() {
    let asked = asked();
    let mut service = asked.layer.layer(service_fn(|_: Request<()>| {
        let mut response = Response::new(());
        response.headers_mut().insert("cache-control", "max-age=60".parse().unwrap());
        future::ready(Ok::<_, Infallible>(response))
    }));
    let Ok(response) = ready(service.call(request(&asked.cookie)));
    assert_eq!((DECODED.get(), DEFAULTED.get()), (0, 0));
    let calls = [&asked.accept_if, &asked.passive_if, &asked.clock].map(|counter| counter.load(SeqCst));
    assert_eq!(calls, [0, 0, 0]);
    assert_eq!(response.headers().len(), 1);
    assert_eq!(response.headers()["cache-control"], "max-age=60");
}

#[test]
fn a_session_is_handed_out_once_however_often_it_is_extracted() {
    let asked = asked();
    let mut service = asked.layer.layer(service_fn(|request: Request<()>| {
        let (mut parts, ()) = request.into_parts();
        let first = Session::<Probe>::from_parts(&parts).unwrap();
        // What a middleware does to the header after the first extraction no longer matters.
        parts.headers.clear();
        let second = Session::<Probe>::from_parts(&parts).unwrap();
        assert_eq!(second.read(|probe| probe.0), 7);
        first.update(|probe| probe.0 = 8).unwrap();
        assert_eq!(second.read(|probe| probe.0), 8);
        future::ready(Ok::<_, Infallible>(Response::new(())))
    }));
    let Ok(response) = ready(service.call(request(&asked.cookie)));
    assert_eq!(asked.passive_if.load(SeqCst), 1);
    assert_eq!(names(&response), [NAME]);
}

#[test]
fn a_cookie_that_a_middleware_took_away_before_the_extraction_is_absent() {
    let asked = asked();
    let mut service = asked.layer.layer(service_fn(|request: Request<()>| {
        let (mut parts, ()) = request.into_parts();
        parts.headers.clear();
        let session = Session::<Probe>::from_parts(&parts).unwrap();
        assert_eq!(session.incoming(), Incoming::Absent);
        future::ready(Ok::<_, Infallible>(Response::new(())))
    }));
    let Ok(_) = ready(service.call(request(&asked.cookie)));
}
