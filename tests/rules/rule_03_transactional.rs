//! `update` is transactional, and nothing of the user's runs under a lock that a `read`, a `clear`
//! or the head needs.

use crate::kit::*;
use cookie_session::{KeyRing, Lifetime, NotEncodable, Session, SessionLayer, UpdateError};
use http::{Request, Response};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};
use tower::{Layer, Service};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Draft {
    count: u32,
    text: String,
    #[serde(skip)]
    scratch: u32,
}

/// Unwinds without the panic hook's message.
fn panics() -> ! {
    resume_unwind(Box::new("a closure's panic"))
}

fn stored(count: u32) -> Draft {
    Draft { count, text: "kept".to_owned(), scratch: 0 }
}

/// A request with `stored(1)` to a handler; what its response stores, if anything.
fn with_stored<R>(handler: impl FnOnce(&Session<Draft>) -> R) -> (R, Option<Draft>) {
    let clock = Clock::new();
    let layer = layer(&clock);
    let cookie = sealed(&layer, &stored(1), clock.now());
    let (result, response) = visit(&layer, &cookie, handler);
    let written = session_in(&response)
        .map(|cookie| open(&layer, &cookie, clock.now()).value().expect("what was written opens").clone());
    (result, written)
}

#[test]
fn an_update_is_seen_at_once_and_sent_with_the_response() {
    let ((), written) = with_stored(|session| {
        session.update(|draft| draft.count = 2).unwrap();
        assert_eq!(session.read(|draft| draft.count), 2);
    });
    assert_eq!(written, Some(stored(2)));
}

#[test]
fn an_update_returns_what_its_closure_returns() {
    let (flash, written) = with_stored(|session| session.update(|draft| std::mem::take(&mut draft.text)));
    assert_eq!(flash, Ok("kept".to_owned()));
    assert_eq!(written, Some(Draft { text: String::new(), ..stored(1) }));
}

#[test]
fn an_update_that_is_too_large_says_so_and_changes_nothing() {
    let ((), written) = with_stored(|session| {
        let result = session.update(|draft| {
            draft.count = 2;
            draft.text = "x".repeat(5000);
        });
        let Err(UpdateError::TooLarge(error)) = result else { panic!("{result:?}") };
        assert!(error.payload() > 5000 && error.payload() > error.max_payload());
        assert!(error.needed() > error.max_set_cookie());
        assert_eq!(session.get(), stored(1));
        assert!(!session.is_changed());
    });
    assert_eq!(written, None);
}

#[test]
fn a_failed_update_keeps_an_earlier_one_that_was_good() {
    let ((), written) = with_stored(|session| {
        session.update(|draft| draft.count = 2).unwrap();
        session.update(|draft| draft.text = "x".repeat(5000)).unwrap_err();
        session.update(|draft| draft.count += 10).unwrap();
    });
    assert_eq!(written, Some(stored(12)));
}

#[test]
fn after_a_failed_update_skipped_fields_are_back_at_their_default() {
    let ((), _) = with_stored(|session| {
        session.update(|draft| draft.scratch = 5).unwrap();
        // A good update leaves the value in place.
        assert_eq!(session.read(|draft| draft.scratch), 5);
        session.update(|draft| draft.text = "x".repeat(5000)).unwrap_err();
        assert_eq!(session.get(), stored(1));
    });
}

#[test]
fn a_closure_that_returns_an_error_is_rolled_back() {
    let ((), written) = with_stored(|session| {
        let refused = session.try_update(|draft| {
            draft.count = 9;
            draft.scratch = 9;
            Err::<(), _>("sold out")
        });
        assert_eq!(refused, Ok(Err("sold out")));
        assert_eq!(session.get(), stored(1));
    });
    assert_eq!(written, None);
}

#[test]
fn a_closure_that_returns_ok_is_stored() {
    let (result, written) = with_stored(|session| {
        session.try_update(|draft| {
            draft.count = "9".parse()?;
            Ok::<_, std::num::ParseIntError>(draft.count)
        })
    });
    assert_eq!(result, Ok(Ok(9)));
    assert_eq!(written, Some(stored(9)));
}

#[test]
fn a_panic_in_a_closure_commits_no_half_of_a_change() {
    let ((), written) = with_stored(|session| {
        session.update(|draft| draft.count = 2).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            session.update(|draft| {
                draft.count = 99;
                panics();
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(session.get(), stored(2));
        // The session is as usable as before.
        session.update(|draft| draft.count += 1).unwrap();
    });
    assert_eq!(written, Some(stored(3)));
}

#[test]
fn a_panic_in_a_reading_closure_loses_nothing() {
    let ((), written) = with_stored(|session| {
        session.update(|draft| draft.count = 2).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| session.read(|_| panics()))).is_err());
        assert_eq!(session.get(), stored(2));
    });
    assert_eq!(written, Some(stored(2)));
}

/// 13 does not encode, 14 panics while it is encoded, 15 while it is decoded.
#[derive(Debug, Default, PartialEq)]
struct Fussy(u32);

impl Serialize for Fussy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            13 => Err(serde::ser::Error::custom("unlucky")),
            14 => panics(),
            other => serializer.serialize_u32(other),
        }
    }
}

impl<'de> Deserialize<'de> for Fussy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            15 => panics(),
            other => Ok(Fussy(other)),
        }
    }
}

#[test]
fn a_value_that_does_not_encode_is_an_error_and_changes_nothing() {
    let layer = layer::<Fussy>(&Clock::new());
    let ((), response) = visit(&layer, "", |session| {
        session.set(Fussy(1)).unwrap();
        assert_eq!(session.set(Fussy(13)), Err(UpdateError::NotEncodable(NotEncodable::Serialize)));
        assert_eq!(session.read(|fussy| fussy.0), 1);
    });
    assert_eq!(open(&layer, &session_in(&response).unwrap(), Clock::new().now()).value(), Some(&Fussy(1)));
}

#[test]
fn a_panic_while_encoding_changes_nothing() {
    let layer = layer::<Fussy>(&Clock::new());
    // The second is decoded only where debug assertions check what was encoded.
    let panicking = if cfg!(debug_assertions) { &[14, 15][..] } else { &[14] };
    for &bad in panicking {
        let ((), response) = visit(&layer, "", |session| {
            session.set(Fussy(1)).unwrap();
            assert!(catch_unwind(AssertUnwindSafe(|| session.set(Fussy(bad)))).is_err());
            assert_eq!(session.read(|fussy| fussy.0), 1);
            session.set(Fussy(2)).unwrap();
        });
        let cookie = session_in(&response).unwrap();
        assert_eq!(open(&layer, &cookie, Clock::new().now()).value(), Some(&Fussy(2)));
    }
}

#[cfg(debug_assertions)]
#[test]
fn a_value_that_does_not_come_back_is_an_error() {
    fn is_seven(number: &u32) -> bool {
        *number == 7
    }
    #[derive(Default, Serialize, Deserialize)]
    struct Trap {
        #[serde(skip_serializing_if = "is_seven")]
        number: u32,
    }
    let layer = layer::<Trap>(&Clock::new());
    let ((), _) = visit(&layer, "", |session| {
        session.update(|trap| trap.number = 6).unwrap();
        let result = session.update(|trap| trap.number = 7);
        assert_eq!(result, Err(UpdateError::NotEncodable(NotEncodable::RoundTrip)));
        assert_eq!(session.read(|trap| trap.number), 6);
    });
}

#[test]
fn what_commits_is_the_stored_encoding_and_no_later_state_of_the_value() {
    #[derive(Default, Serialize, Deserialize)]
    struct Cunning {
        cell: Cell<u32>,
    }
    let clock = Clock::new();
    let layer = layer::<Cunning>(&clock);
    let ((), response) = visit(&layer, "", |session| {
        session.update(|value| value.cell.set(1)).unwrap();
        session.read(|value| value.cell.set(2));
    });
    let cookie = session_in(&response).unwrap();
    assert_eq!(open(&layer, &cookie, clock.now()).value().unwrap().cell.get(), 1);
}

#[test]
fn a_read_inside_an_update_sees_the_last_stored_state() {
    let ((), written) = with_stored(|session| {
        session
            .update(|draft| {
                draft.count = 2;
                assert_eq!(session.get(), stored(1));
                draft.text.clear();
                assert_eq!(session.clone().get(), stored(1));
            })
            .unwrap();
        assert_eq!(session.read(|draft| draft.count), 2);
    });
    assert_eq!(written, Some(Draft { text: String::new(), ..stored(2) }));
}

#[test]
fn reads_nest() {
    let ((), written) = with_stored(|session| {
        session.read(|outer| {
            session.read(|inner| {
                session.read(|innermost| {
                    assert_eq!(outer, inner);
                    assert_eq!(inner, innermost);
                })
            })
        });
        session.read(|_| session.update(|draft| draft.count = 2)).unwrap();
        assert_eq!(session.read(|draft| draft.count), 2);
    });
    assert_eq!(written, Some(stored(2)));
}

#[test]
fn a_change_inside_an_update_on_the_same_thread_is_an_error_and_leaves_the_outer_one_good() {
    type Change = fn(&Session<Draft>) -> Result<(), UpdateError>;
    let changes: [(&str, Change); 5] = [
        ("update", |session| session.update(|draft| draft.count = 50)),
        ("try_update", |session| {
            session
                .try_update(|draft| {
                    draft.count = 50;
                    Ok::<_, ()>(())
                })
                .map(|_| ())
        }),
        ("set", |session| session.set(stored(50))),
        ("renew", |session| session.renew().map(|_| ())),
        ("set_lifetime", |session| session.set_lifetime(Lifetime::Browser)),
    ];
    for (name, change) in changes {
        let ((), written) = with_stored(|session| {
            let before = session.meta();
            session
                .update(|draft| {
                    draft.count = 2;
                    assert_eq!(change(session), Err(UpdateError::Nested), "{name}");
                    assert_eq!(change(&session.clone()), Err(UpdateError::Nested), "{name}");
                })
                .unwrap();
            assert_eq!(session.meta(), before, "{name}");
        });
        assert_eq!(written, Some(stored(2)), "{name}");
    }
}

#[test]
fn after_an_update_whose_closure_failed_the_thread_may_update_again() {
    let ((), written) = with_stored(|session| {
        let _ = session.try_update(|_| Err::<(), _>(()));
        session.update(|draft| draft.count = 2).unwrap();
        let _ = catch_unwind(AssertUnwindSafe(|| session.update(|_| panics())));
        session.update(|draft| draft.count += 1).unwrap();
        session.update(|draft| draft.text = "x".repeat(5000)).unwrap_err();
        session.update(|draft| draft.count += 1).unwrap();
    });
    assert_eq!(written, Some(stored(4)));
}

// Threads.

#[test]
fn eight_threads_with_5000_updates_each_lose_none() {
    let clock = Clock::new();
    let layer = layer::<u64>(&clock);
    let (count, response) = visit(&layer, "", |session| {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..5_000).for_each(|_| session.update(|count| *count += 1).unwrap()));
            }
        });
        session.get()
    });
    assert_eq!(count, 40_000);
    assert_eq!(open(&layer, &session_in(&response).unwrap(), clock.now()).value(), Some(&40_000));
}

#[test]
fn threads_whose_closures_panic_and_fail_lose_no_update_and_show_no_half_of_one() {
    let clock = Clock::new();
    let layer = layer::<(u32, u32, String)>(&clock);
    let (pair, response) = visit(&layer, "", |session| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..1_000 {
                        match turn % 4 {
                            0 => {
                                let unwound = catch_unwind(AssertUnwindSafe(|| {
                                    session.update(|pair| {
                                        pair.0 += 1;
                                        panics();
                                    })
                                }));
                                assert!(unwound.is_err());
                            }
                            1 => {
                                let refused = session.try_update(|pair| {
                                    pair.1 += 1;
                                    Err::<(), _>(())
                                });
                                assert_eq!(refused, Ok(Err(())));
                            }
                            2 => {
                                let large = session.update(|pair| {
                                    pair.0 += 1;
                                    pair.2 = "x".repeat(4000);
                                });
                                assert!(matches!(large, Err(UpdateError::TooLarge(_))));
                            }
                            _ => session
                                .update(|pair| {
                                    pair.0 += 1;
                                    pair.1 += 1;
                                })
                                .unwrap(),
                        }
                    }
                });
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        session.read(|pair| {
                            assert_eq!(pair.0, pair.1);
                            assert!(pair.2.is_empty());
                        });
                    }
                });
            }
        });
        session.get()
    });
    assert_eq!(pair, (1_000, 1_000, String::new()));
    assert_eq!(open(&layer, &session_in(&response).unwrap(), clock.now()).value(), Some(&pair));
}

#[test]
fn threads_that_use_a_session_first_at_the_same_moment_agree_on_it() {
    let clock = Clock::new();
    let layer = layer::<u64>(&clock);
    let cookie = sealed(&layer, &100, clock.now());
    for _ in 0..50 {
        let (count, _) = visit(&layer, &cookie, |session| {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| session.update(|count| *count += 1).unwrap());
                    scope.spawn(|| assert!(session.get() >= 100));
                }
            });
            session.get()
        });
        assert_eq!(count, 104);
    }
}

type Told = Result<(), UpdateError>;

/// An update on another thread that sets 99, and whose closure is running until it is released.
struct Running {
    release: mpsc::Sender<()>,
    result: mpsc::Receiver<Told>,
}

fn running(session: &Session<Draft>) -> Running {
    let (inside, is_inside) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (tell, result) = mpsc::channel();
    let session = session.clone();
    thread::spawn(move || {
        let updated = session.update(|draft| {
            draft.count = 99;
            inside.send(()).unwrap();
            released.recv().unwrap();
        });
        let _ = tell.send(updated);
    });
    is_inside.recv().unwrap();
    Running { release, result }
}

impl Running {
    fn release(self) -> Told {
        self.release.send(()).unwrap();
        self.result.recv().unwrap()
    }
}

#[test]
fn a_read_never_waits_for_a_closure_that_runs_on_another_thread() {
    ends(|| {
        let ((), written) = with_stored(|session| {
            let running = running(session);
            assert_eq!(session.get(), stored(1));
            session.read(|outer| session.read(|inner| assert_eq!(outer, inner)));
            assert!(!session.is_changed());
            assert!(!session.is_new());
            assert!(session.meta().is_some());
            assert!(session.remaining() > 0);
            assert_eq!(session.get(), stored(1));
            running.release().unwrap();
            assert_eq!(session.get(), stored(99));
        });
        assert_eq!(written, Some(stored(99)));
    });
}

#[test]
fn an_update_waits_for_a_closure_that_runs_on_another_thread() {
    ends(|| {
        let ((), written) = with_stored(|session| {
            let order = Arc::new(Mutex::new(Vec::new()));
            let running = running(session);
            let (start, started) = mpsc::channel();
            let second = {
                let (session, order) = (session.clone(), order.clone());
                thread::spawn(move || {
                    start.send(()).unwrap();
                    session.update(|draft| {
                        order.lock().unwrap().push("the second runs");
                        draft.count += 1;
                    })
                })
            };
            started.recv().unwrap();
            // Enough for the second to run now, if it did not wait.
            (0..10_000).for_each(|_| thread::yield_now());
            order.lock().unwrap().push("the first is released");
            running.release().unwrap();
            second.join().unwrap().unwrap();
            assert_eq!(*order.lock().unwrap(), ["the first is released", "the second runs"]);
        });
        assert_eq!(written, Some(stored(100)));
    });
}

#[test]
fn an_update_runs_when_the_one_it_waited_for_has_panicked() {
    ends(|| {
        let ((), written) = with_stored(|session| {
            let (inside, is_inside) = mpsc::channel();
            let (release, released) = mpsc::channel::<()>();
            let first = {
                let session = session.clone();
                thread::spawn(move || {
                    let _ = session.update(|draft| {
                        draft.count = 99;
                        inside.send(()).unwrap();
                        released.recv().unwrap();
                        panics();
                    });
                })
            };
            is_inside.recv().unwrap();
            let second = {
                let session = session.clone();
                thread::spawn(move || session.update(|draft| draft.count += 1))
            };
            (0..1_000).for_each(|_| thread::yield_now());
            release.send(()).unwrap();
            assert!(first.join().is_err());
            second.join().unwrap().unwrap();
        });
        assert_eq!(written, Some(stored(2)));
    });
}

#[test]
fn a_clear_does_not_wait_for_a_running_closure_and_wins() {
    ends(|| {
        let clock = Clock::new();
        let layer = layer(&clock);
        let cookie = sealed(&layer, &stored(1), clock.now());
        let ((), response) = visit(&layer, &cookie, |session| {
            let running = running(session);
            assert!(session.clear());
            assert_eq!(session.get(), Draft::default());
            assert_eq!(running.release(), Err(UpdateError::Cleared));
            assert_eq!(session.get(), Draft::default());
        });
        assert!(removes_session(&response));
    });
}

#[test]
fn a_clear_inside_a_running_closure_wins() {
    let clock = Clock::new();
    let layer = layer(&clock);
    let cookie = sealed(&layer, &stored(1), clock.now());
    let ((), response) = visit(&layer, &cookie, |session| {
        let updated = session.update(|draft| {
            draft.count = 2;
            assert!(session.clear());
            assert_eq!(session.get(), Draft::default());
            draft.count = 3;
        });
        assert_eq!(updated, Err(UpdateError::Cleared));
        assert_eq!(session.get(), Draft::default());
    });
    assert!(removes_session(&response));
}

#[test]
fn an_update_that_begins_after_the_clear_is_a_new_session_even_while_the_old_closure_runs() {
    ends(|| {
        let clock = Clock::new();
        let layer = layer(&clock);
        let cookie = sealed(&layer, &stored(1), clock.now());
        let ((), response) = visit(&layer, &cookie, |session| {
            let running = running(session);
            session.clear();
            let later = {
                let session = session.clone();
                thread::spawn(move || session.update(|draft| draft.count += 5))
            };
            (0..1_000).for_each(|_| thread::yield_now());
            assert_eq!(running.release(), Err(UpdateError::Cleared));
            later.join().unwrap().unwrap();
        });
        let written = session_in(&response).unwrap();
        let draft = Draft { count: 5, ..Draft::default() };
        assert_eq!(open(&layer, &written, clock.now()).value(), Some(&draft));
    });
}

/// Whether an update on another thread, that waits for a running closure, was told so by `event`
/// while that closure still ran. There is no way to see from outside that a thread has begun to
/// wait, so one that was too late to wait before the event tells nothing, and is tried again.
fn tells_who_waits(event: impl Fn(Session<Draft>) -> Option<Session<Draft>>, told: UpdateError) -> bool {
    let clock = Clock::new();
    let layer = layer(&clock);
    let cookie = sealed(&layer, &stored(1), clock.now());
    for _ in 0..20 {
        let (tell, result) = mpsc::channel();
        let mut first = None;
        let mut kept = None;
        let response = respond(&layer, request(&cookie), |session| {
            first = Some(running(&session));
            let (start, started) = mpsc::channel();
            {
                let session = session.clone();
                thread::spawn(move || {
                    start.send(()).unwrap();
                    let _ = tell.send(session.update(|draft| draft.count = 77));
                });
            }
            started.recv().unwrap();
            (0..1_000).for_each(|_| thread::yield_now());
            kept = event(session);
            Response::new(())
        });
        let waited = result.recv_timeout(Duration::from_secs(2));
        first.unwrap().release().unwrap_err();
        if waited == Ok(Err(told.clone())) {
            let value = kept.map(|session| session.get());
            assert!(value.is_none_or(|draft| draft.count != 77));
            assert!(session_in(&response).is_none());
            return true;
        }
    }
    false
}

#[test]
fn an_update_that_waits_is_told_of_a_clear_before_the_running_closure_ends() {
    let clear = |session: Session<Draft>| {
        session.clear();
        Some(session)
    };
    assert!(ends(move || tells_who_waits(clear, UpdateError::Cleared)));
}

#[test]
fn an_update_that_waits_is_told_of_the_head_before_the_running_closure_ends() {
    assert!(ends(|| tells_who_waits(|_| None, UpdateError::Committed)));
}

#[test]
fn the_head_does_not_wait_for_a_running_closure_and_sends_the_last_stored_state() {
    ends(|| {
        let clock = Clock::new();
        let layer = layer(&clock);
        let cookie = sealed(&layer, &stored(1), clock.now());
        let (mut first, mut kept) = (None, None);
        // `respond` polls once, so the response is there while the closure runs.
        let response = respond(&layer, request(&cookie), |session| {
            session.update(|draft| draft.count = 2).unwrap();
            first = Some(running(&session));
            kept = Some(session);
            Response::new(())
        });
        let written = session_in(&response).unwrap();
        assert_eq!(open(&layer, &written, clock.now()).value(), Some(&stored(2)));
        assert_eq!(first.unwrap().release(), Err(UpdateError::Committed));
        assert_eq!(kept.unwrap().get(), stored(2));
    });
}

#[test]
fn a_read_that_ends_after_a_clear_does_not_bring_the_value_back() {
    let ((), _) = with_stored(|session| {
        session.read(|draft| {
            session.clear();
            assert_eq!(draft.count, 1);
        });
        assert_eq!(session.get(), Draft::default());
    });
}

/// A read on another thread, whose closure is running until it is released; what it saw.
struct Reading {
    release: mpsc::Sender<()>,
    saw: mpsc::Receiver<Draft>,
}

fn reading(session: &Session<Draft>) -> Reading {
    let (inside, is_inside) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (tell, saw) = mpsc::channel();
    let session = session.clone();
    thread::spawn(move || {
        session.read(|draft| {
            inside.send(()).unwrap();
            released.recv().unwrap();
            tell.send(draft.clone()).unwrap();
        });
        // Dropped after the closure, so that its end can be awaited.
        drop(tell);
    });
    is_inside.recv().unwrap();
    Reading { release, saw }
}

impl Reading {
    fn release(self) -> Draft {
        self.release.send(()).unwrap();
        let saw = self.saw.recv().unwrap();
        assert!(self.saw.recv().is_err());
        saw
    }
}

#[test]
fn a_read_that_ends_after_an_update_does_not_bring_the_old_value_back() {
    ends(|| {
        let ((), written) = with_stored(|session| {
            let old = reading(session);
            session.update(|draft| draft.count = 2).unwrap();
            let new = reading(session);
            assert_eq!(old.release(), stored(1));
            assert_eq!(session.get(), stored(2));
            assert_eq!(new.release(), stored(2));
            session.update(|draft| draft.count += 1).unwrap();
        });
        assert_eq!(written, Some(stored(3)));
    });
}

#[test]
fn an_update_does_not_wait_for_a_read() {
    ends(|| {
        let ((), written) = with_stored(|session| {
            let old = reading(session);
            session.update(|draft| draft.count = 2).unwrap();
            session.renew().unwrap();
            assert_eq!(old.release(), stored(1));
        });
        assert_eq!(written, Some(stored(2)));
    });
}

/// A layer whose `accept_if` stops the first request that asks it, until it is released.
struct Stopping {
    layer: SessionLayer<Draft>,
    cookie: String,
    clock: Clock,
    is_inside: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
}

fn stopping() -> Stopping {
    let (clock, old) = (Clock::new(), key());
    let before = builder_over::<Draft>(KeyRing::new(old.clone(), []).unwrap(), &clock).build().unwrap();
    let cookie = sealed(&before, &stored(1), clock.now());
    let (inside, is_inside) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let first = Mutex::new(Some((inside, released)));
    let layer = builder_over::<Draft>(KeyRing::new(key(), [old]).unwrap(), &clock)
        .accept_if(move |_, _| {
            let first = first.lock().unwrap().take();
            if let Some((inside, released)) = first {
                inside.send(()).unwrap();
                released.recv().unwrap();
            }
            true
        })
        .build()
        .unwrap();
    Stopping { layer, cookie, clock, is_inside, release }
}

#[test]
fn a_first_use_does_not_wait_for_another_and_both_count_as_one() {
    ends(|| {
        let Stopping { layer, cookie, clock, is_inside, release } = stopping();
        let ((), response) = visit(&layer, &cookie, |session| {
            let other = {
                let session = session.clone();
                thread::spawn(move || session.get())
            };
            is_inside.recv().unwrap();
            session.update(|draft| draft.count = 2).unwrap();
            release.send(()).unwrap();
            // Whoever was decoding then has nothing older to offer.
            assert_eq!(other.join().unwrap(), stored(2));
        });
        let written = session_in(&response).unwrap();
        assert_eq!(open(&layer, &written, clock.now()).value(), Some(&stored(2)));
        let opened: u64 = layer.keys().counters().opened_by_fallback.iter().map(|(_, count)| count).sum();
        assert_eq!(opened, 1);
    });
}

#[test]
fn a_clear_does_not_wait_for_a_first_use_and_wins() {
    ends(|| {
        let Stopping { layer, cookie, is_inside, release, .. } = stopping();
        let ((), response) = visit(&layer, &cookie, |session| {
            let other = {
                let session = session.clone();
                thread::spawn(move || session.get())
            };
            is_inside.recv().unwrap();
            assert!(session.clear());
            release.send(()).unwrap();
            assert_eq!(other.join().unwrap(), Draft::default());
        });
        assert!(removes_session(&response));
    });
}

#[test]
fn an_update_whose_first_use_meets_a_clear_or_the_head_is_told_so() {
    ends(|| {
        let Stopping { layer, cookie, is_inside, release, .. } = stopping();
        let ((), response) = visit(&layer, &cookie, |session| {
            let other = {
                let session = session.clone();
                thread::spawn(move || session.update(|draft| draft.count = 2))
            };
            is_inside.recv().unwrap();
            session.clear();
            release.send(()).unwrap();
            assert_eq!(other.join().unwrap(), Err(UpdateError::Cleared));
        });
        assert!(removes_session(&response));

        let Stopping { layer, cookie, is_inside, release, .. } = stopping();
        let mut other = None;
        let response = respond(&layer, request(&cookie), |session| {
            other = Some(thread::spawn(move || session.update(|draft| draft.count = 2)));
            is_inside.recv().unwrap();
            Response::new(())
        });
        assert_eq!(names(&response), [""; 0]);
        release.send(()).unwrap();
        assert_eq!(other.unwrap().join().unwrap(), Err(UpdateError::Committed));
    });
}

// User code that itself uses the session.

#[derive(Clone, Copy, Debug, PartialEq)]
enum Hook {
    Default,
    Deserialize,
    Serialize,
    Drop,
    Migrate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    Read,
    Update,
    Set,
    Renew,
    SetLifetime,
    Meta,
    Clear,
}

thread_local! {
    static AROUND: RefCell<Option<Session<Meddler>>> = const { RefCell::new(None) };
    static ARMED: Cell<Option<(Hook, Use)>> = const { Cell::new(None) };
    static MEDDLED: Cell<u32> = const { Cell::new(0) };
    static UPDATED: RefCell<Vec<Told>> = const { RefCell::new(Vec::new()) };
}

/// Uses the session from inside the value's own code. Not from inside that use, which decodes,
/// encodes and drops as well: that would never end.
fn meddle(hook: Hook) {
    let Ok(Some((armed, what))) = ARMED.try_with(Cell::get) else { return };
    let Some(session) = AROUND.with(|around| around.borrow().clone()) else { return };
    if armed != hook {
        return;
    }
    ARMED.set(None);
    MEDDLED.set(MEDDLED.get() + 1);
    match what {
        Use::Read => session.read(|value| assert!(value.text.len() < 100)),
        Use::Update => {
            let updated = session.update(|value| value.count += 1);
            UPDATED.with_borrow_mut(|told| told.push(updated));
        }
        Use::Set => drop(session.set(Meddler { count: 40, text: String::new() })),
        Use::Renew => drop(session.renew()),
        Use::SetLifetime => drop(session.set_lifetime(Lifetime::Browser)),
        Use::Meta => {
            let _ = (session.meta(), session.is_new(), session.is_changed(), session.remaining());
        }
        Use::Clear => _ = session.clear(),
    }
    // Once is enough for `clear`: a value that clears its session whenever it is made has no end.
    if what != Use::Clear {
        ARMED.set(Some((armed, what)));
    }
}

struct Meddler {
    count: u32,
    text: String,
}

impl Default for Meddler {
    fn default() -> Self {
        meddle(Hook::Default);
        Meddler { count: 0, text: String::new() }
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        meddle(Hook::Drop);
    }
}

impl Serialize for Meddler {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        meddle(Hook::Serialize);
        (self.count, &self.text).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Meddler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        meddle(Hook::Deserialize);
        let (count, text) = Deserialize::deserialize(deserializer)?;
        Ok(Meddler { count, text })
    }
}

struct Meddling {
    layer: SessionLayer<Meddler>,
    /// None, one of today's form, and one of the older form.
    cookies: [String; 3],
}

fn meddling() -> Meddling {
    let (clock, keys): (_, KeyRing) = (Clock::new(), ring());
    let before = builder_over::<u64>(keys.clone(), &clock).build().unwrap();
    let layer = builder_over::<Meddler>(keys, &clock)
        .schema(2)
        .migrate_from(1, |old: u64| {
            meddle(Hook::Migrate);
            Meddler { count: u32::try_from(old).unwrap(), text: String::new() }
        })
        .build()
        .unwrap();
    let value = Meddler { count: 3, text: "t".to_owned() };
    let cookies = [String::new(), sealed(&layer, &value, clock.now()), sealed(&before, &4, clock.now())];
    Meddling { layer, cookies }
}

/// Everything a handler can do, with the session within the value's reach.
fn script(session: &Session<Meddler>, armed: (Hook, Use)) {
    let steps: [fn(&Session<Meddler>); 9] = [
        |session| session.read(|_| ()),
        |session| drop(session.update(|value| value.count += 1)),
        |session| drop(session.update(|value| value.text = "x".repeat(5000))),
        |session| {
            let refused = session.try_update(|value| {
                value.count = 9;
                Err::<(), _>(())
            });
            drop(refused);
        },
        |session| drop(catch_unwind(AssertUnwindSafe(|| session.update(|_| panics())))),
        |session| drop(session.set(Meddler { count: 5, text: String::new() })),
        |session| session.read(|_| ()),
        |session| _ = session.clear(),
        |session| drop(session.update(|value| value.count += 1)),
    ];
    AROUND.set(Some(session.clone()));
    for step in steps {
        ARMED.set(Some(armed));
        step(session);
    }
    ARMED.set(None);
    drop(AROUND.take());
}

#[test]
fn user_code_that_itself_uses_the_session_does_not_deadlock() {
    let hooks = [Hook::Default, Hook::Deserialize, Hook::Serialize, Hook::Drop, Hook::Migrate];
    let uses = [Use::Read, Use::Update, Use::Set, Use::Renew, Use::SetLifetime, Use::Meta, Use::Clear];
    for hook in hooks {
        for what in uses {
            let meddled = ends(move || {
                let Meddling { layer, cookies } = meddling();
                MEDDLED.set(0);
                for cookie in cookies {
                    let ((), response) = visit(&layer, &cookie, |session| script(session, (hook, what)));
                    assert_eq!(response.status(), 200);
                }
                MEDDLED.get()
            });
            assert!(meddled > 0, "{hook:?} never ran with {what:?}");
        }
    }
}

#[test]
fn an_update_inside_the_encoding_of_another_is_nested_and_changes_nothing() {
    ends(|| {
        let Meddling { layer, cookies: [_, cookie, _] } = meddling();
        let (count, _) = visit(&layer, &cookie, |session| {
            session.read(|_| ());
            AROUND.set(Some(session.clone()));
            ARMED.set(Some((Hook::Serialize, Use::Update)));
            session.update(|value| value.count = 10).unwrap();
            ARMED.set(None);
            drop(AROUND.take());
            session.read(|value| value.count)
        });
        assert_eq!(count, 10);
        let told = UPDATED.take();
        assert!(!told.is_empty() && told.iter().all(|told| *told == Err(UpdateError::Nested)), "{told:?}");
    });
}

#[test]
fn a_value_whose_drop_reads_the_session_sees_the_last_stored_state() {
    thread_local! {
        static SEEN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
        static SESSION: RefCell<Option<Session<Nosy>>> = const { RefCell::new(None) };
    }
    #[derive(Default, Serialize, Deserialize)]
    struct Nosy(u32, String);
    impl Drop for Nosy {
        fn drop(&mut self) {
            // Taken out, so that the copy that this reads does not read in its own drop.
            if let Some(session) = SESSION.take() {
                let seen = session.read(|value| value.0);
                SEEN.with_borrow_mut(|all| all.push(seen));
            }
        }
    }
    ends(|| {
        let layer = layer::<Nosy>(&Clock::new());
        let ((), _) = visit(&layer, "", |session| {
            session.update(|value| value.0 = 1).unwrap();
            SESSION.set(Some(session.clone()));
            // The changed value is dropped when it does not fit.
            session
                .update(|value| {
                    value.0 = 2;
                    value.1 = "x".repeat(5000);
                })
                .unwrap_err();
            SESSION.set(Some(session.clone()));
            session.set(Nosy(3, String::new())).unwrap();
            SESSION.set(Some(session.clone()));
            session.clear();
            drop(SESSION.take());
        });
        assert_eq!(SEEN.take(), [1, 1, 0]);
    });
}

// What the layer asks of the service around which it stands.

#[test]
fn neither_the_service_nor_its_body_need_anything_of_their_own() {
    /// Neither `Clone` nor `Send`, like its body, which has no `Default` either.
    struct Bare(std::marker::PhantomData<*const ()>);
    struct Body(std::marker::PhantomData<*const ()>);
    impl Service<Request<Body>> for Bare {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let (parts, body) = request.into_parts();
            Session::<Shop>::from_parts(&parts).unwrap().set(user(1)).unwrap();
            future::ready(Ok(Response::new(body)))
        }
    }
    let mut service = layer::<Shop>(&Clock::new()).layer(Bare(std::marker::PhantomData));
    let Ok(response) = ready(service.call(Request::new(Body(std::marker::PhantomData))));
    assert_eq!(names(&response), [NAME]);
}

/// Reading it back would take a stack frame for each level, and a client could ask for one more again and again.
#[test]
fn what_nests_deeper_than_128_values_is_refused_and_not_stored() {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[allow(clippy::large_enum_variant)] // as it happens: its stack frames are large
    enum Filter {
        #[default]
        All,
        Not(Box<Filter>),
        Any(Vec<Filter>),
        Where {
            names: [String; 8],
            numbers: [Option<u64>; 8],
        },
    }
    let layer = layer::<Filter>(&Clock::new());
    let not = |filter: &mut Filter| *filter = Filter::Not(Box::new(std::mem::take(filter)));
    let mut cookie = String::new();
    for _ in 1..128 {
        let (stored, response) = visit(&layer, &cookie, |session| session.update(not));
        assert_eq!(stored, Ok(()));
        cookie = session_in(&response).unwrap();
    }
    let too_deep = UpdateError::NotEncodable(NotEncodable::TooDeep);
    let (stored, response) = visit(&layer, &cookie, |session| session.update(not));
    assert_eq!((stored, names(&response)), (Err(too_deep.clone()), Vec::<String>::new()));
    let (stored, _) = visit(&layer, &cookie, |session| session.update(|_| ()));
    assert_eq!(stored, Ok(()));
    assert!(too_deep.to_string().contains("128"));

    // Each level here is two values; side by side they may be as many as fit.
    let any = |depth| (0..depth).fold(Filter::All, |inner, _| Filter::Any(vec![inner; 1]));
    let set = |filter: Filter| visit(&layer, "", |session| session.set(filter)).0;
    assert_eq!(set(any(63)), Ok(()));
    assert_eq!(set(any(64)), Err(too_deep.clone()));
    assert_eq!(set(Filter::Any(vec![any(60); 20])), Ok(()));
    assert_eq!(set((0..1000).fold(Filter::All, |inner, _| Filter::Not(inner.into()))), Err(too_deep));
}

#[test]
fn what_is_far_too_large_is_not_decoded_again_first() {
    thread_local! {
        static DECODED: Cell<usize> = const { Cell::new(0) };
    }
    #[derive(Clone, Default, Serialize)]
    struct Text(String);
    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
            DECODED.set(DECODED.get() + 1);
            String::deserialize(deserializer).map(Text)
        }
    }
    let layer = layer::<Text>(&Clock::new());
    let text = Text("x".repeat(5000));
    let (before, result) = visit(&layer, "", |session| (DECODED.get(), session.set(text.clone()))).0;
    assert!(matches!(result, Err(UpdateError::TooLarge(_))));
    assert_eq!(DECODED.get(), before);
    let result = layer.codec().seal(&text, None, None, Clock::new().now());
    assert!(matches!(result, Err(UpdateError::TooLarge(_))));
    assert_eq!(DECODED.get(), before);
    // Nor is what was there already.
    let cookie = sealed(&layer, &Text("x".into()), Clock::new().now());
    visit(&layer, &cookie, |session| {
        session.read(|_| ());
        let before = DECODED.get();
        assert_eq!(session.set(Text("x".into())), Ok(()));
        assert_eq!(DECODED.get(), before);
    });
    // That the count counts.
    let before = DECODED.get();
    assert_eq!(visit(&layer, "", |session| session.set(Text("x".into()))).0, Ok(()));
    assert!(DECODED.get() > before);
}
