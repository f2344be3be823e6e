//! After the head: writes answer `Committed`, reads still work, and `clear` returns `false`.

use crate::kit::*;
use cookie_session::{Incoming, Lifetime, Session, UpdateError};
use http::Response;

/// A session whose response has left, which `before` used.
fn after_the_head(before: impl FnOnce(&Session<Shop>)) -> (Session<Shop>, Response<()>) {
    let clock = Clock::new();
    let layer = layer(&clock);
    let cookie = sealed(&layer, &user(1), clock.now());
    let mut kept = None;
    let response = respond(&layer, request(&cookie), |session| {
        before(&session);
        kept = Some(session);
        Response::new(())
    });
    (kept.unwrap(), response)
}

#[test]
fn writes_answer_committed_and_change_nothing() {
    let (session, _) = after_the_head(|session| session.update(|shop| shop.cart.push(1)).unwrap());
    let stored = Shop { user: Some(1), cart: vec![1] };
    let before = session.meta();
    let mut ran = false;
    assert_eq!(session.update(|_| ran = true), Err(UpdateError::Committed));
    assert_eq!(
        session.try_update(|_| {
            ran = true;
            Ok::<_, ()>(())
        }),
        Err(UpdateError::Committed)
    );
    assert_eq!(session.set(Shop::default()), Err(UpdateError::Committed));
    assert_eq!(session.renew(), Err(UpdateError::Committed));
    assert_eq!(session.set_lifetime(Lifetime::Browser), Err(UpdateError::Committed));
    assert!(!ran, "a closure ran for nothing");
    assert_eq!(session.get(), stored);
    assert_eq!(session.meta(), before);
}

#[test]
fn reads_still_work() {
    let (session, response) = after_the_head(|session| session.update(|shop| shop.cart.push(1)).unwrap());
    for _ in 0..2 {
        assert_eq!(session.get(), Shop { user: Some(1), cart: vec![1] });
        session.read(|outer| session.read(|inner| assert_eq!(outer, inner)));
    }
    assert_eq!(session.incoming(), Incoming::Accepted);
    assert!(session.meta().is_some());
    assert!(session.is_changed());
    assert!(!session.is_new());
    assert!(session.remaining() > 0);
    assert_eq!(names(&response), [NAME]);
}

#[test]
fn a_session_that_is_read_for_the_first_time_then_is_the_one_that_came_in() {
    let (session, response) = after_the_head(|_| ());
    assert_eq!(session.get(), user(1));
    assert_eq!(session.incoming(), Incoming::Accepted);
    assert_eq!(session.update(|_| ()), Err(UpdateError::Committed));
    assert_eq!(names(&response), [""; 0]);
}

#[test]
fn a_clear_returns_false_and_changes_nothing() {
    let (session, response) = after_the_head(|session| session.read(|_| ()));
    assert!(!session.clear());
    assert_eq!(session.get(), user(1));
    assert_eq!(names(&response), [""; 0]);
}

#[test]
fn a_clear_before_the_head_returns_true_each_time() {
    let (session, response) = after_the_head(|session| {
        assert!(session.clear());
        assert!(session.clear());
    });
    assert!(removes_session(&response));
    assert!(!session.clear());
    assert_eq!(session.get(), Shop::default());
}

#[test]
fn a_response_that_wrote_nothing_commits_as_well() {
    let (session, _) = after_the_head(|session| session.read(|_| ()));
    assert_eq!(session.update(|shop| shop.cart.push(1)), Err(UpdateError::Committed));
    assert_eq!(session.get(), user(1));
}
