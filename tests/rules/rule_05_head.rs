//! At the head: one `Set-Cookie` with the session if it changed or is due, in the place of an
//! earlier one of the same identity; not on 5xx, and not when the session is over by then.

use crate::kit::*;
use cookie_session::{Lifetime, Session, SessionLayer, UpdateError};
use http::{HeaderValue, Request, Response, header::SET_COOKIE};
use std::{
    cell::RefCell,
    convert::Infallible,
    future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
    task::Poll,
};
use tower::{Layer, Service, service_fn};

#[test]
fn one_cookie_goes_out_however_often_the_session_was_written() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let ((), response) = visit(&layer, "", |session| {
        for item in 1..=3 {
            session.update(|shop| shop.cart.push(item)).unwrap();
        }
        session.set_lifetime(Lifetime::Browser).unwrap();
        session.update(|shop| shop.user = Some(1)).unwrap();
    });
    assert_eq!(names(&response), [NAME]);
    let opened = open(&layer, &session_in(&response).unwrap(), clock.now());
    assert_eq!(opened.value(), Some(&Shop { user: Some(1), cart: vec![1, 2, 3] }));
}

#[test]
fn every_status_but_5xx_writes() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = sealed(&layer, &user(1), clock.now());
    let written =
        [100, 101, 103, 199, 200, 201, 204, 206, 299, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404]
            .into_iter()
            .chain([408, 409, 418, 422, 429, 451, 499]);
    let lost = [500, 501, 502, 503, 504, 511, 599];
    for (code, writes) in written.map(|code| (code, true)).chain(lost.map(|code| (code, false))) {
        let response = respond(&layer, request(&cookie), |session| {
            session.update(|shop| shop.cart.push(1)).unwrap();
            status(code)
        });
        assert_eq!(session_in(&response).is_some(), writes, "{code}");
        assert_eq!(names(&response).len(), usize::from(writes), "{code}");
    }
}

#[test]
fn a_500_does_not_send_a_new_session_or_a_renewed_one() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let response = respond(&layer, request(""), |session| {
        session.set(user(1)).unwrap();
        status(500)
    });
    assert_eq!(names(&response), [""; 0]);

    let cookie = sealed(&layer, &user(1), clock.now());
    let response = respond(&layer, request(&cookie), |session| {
        let old = session.renew().unwrap();
        assert_eq!(old, Some(meta(&layer, &cookie, clock.now()).id()));
        status(503)
    });
    assert_eq!(names(&response), [""; 0]);
}

#[test]
fn a_500_does_not_reissue() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).reissue_after(MINUTE).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    clock.pass(HOUR);
    for (code, reissues) in [(200, true), (404, true), (500, false)] {
        let response = respond(&layer, request(&cookie), |session| {
            session.read(|_| ());
            status(code)
        });
        assert_eq!(session_in(&response).is_some(), reissues, "{code}");
    }
}

#[test]
fn the_id_that_a_new_session_says_it_has_is_that_of_its_cookie() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let id = |session: &Session<Shop>| session.meta().map(|meta| meta.id());
    let (asked, response) = visit(&layer, "", |session| {
        assert_eq!(id(session), None);
        session.set(user(1)).unwrap();
        let first = id(session);
        session.update(|shop| shop.cart.push(1)).unwrap();
        assert_eq!(session.renew().unwrap(), None);
        // Not after `clear`, which begins another.
        assert!(first.is_some() && id(session) == first && id(&session.clone()) == first);
        assert!(session.clear() && id(session).is_none());
        session.set(user(2)).unwrap();
        assert_ne!(id(session), first);
        id(session)
    });
    let cookie = session_in(&response).unwrap();
    assert_eq!(asked, Some(meta(&layer, &cookie, clock.now()).id()));
    // A handle that is left behind the head knows it as well, though nobody had asked.
    let kept = RefCell::new(None);
    let (_, response) = visit(&layer, "", |session| {
        session.set(user(3)).unwrap();
        *kept.borrow_mut() = Some(session.clone());
    });
    let cookie = session_in(&response).unwrap();
    let later = kept.into_inner().and_then(|session: Session<Shop>| id(&session));
    assert_eq!(later, Some(meta(&layer, &cookie, clock.now()).id()));
    // Nor does one that nobody asked lack it.
    let ids: Vec<_> = (0..2)
        .map(|_| {
            let (_, response) = visit(&layer, "", |session| session.set(user(1)).unwrap());
            meta(&layer, &session_in(&response).unwrap(), clock.now()).id()
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
}

fn with_earlier(layer: &SessionLayer<Shop>, earlier: &[&'static str]) -> Response<()> {
    respond(layer, request(""), |session| {
        session.set(user(1)).unwrap();
        let mut response = Response::new(());
        for line in earlier {
            response.headers_mut().append(SET_COOKIE, HeaderValue::from_static(line));
        }
        response
    })
}

/// Which of these earlier lines are still there, in their order.
fn kept(layer: &SessionLayer<Shop>, earlier: &[&'static str]) -> Vec<String> {
    let response = with_earlier(layer, earlier);
    let mut lines = lines(&response);
    let ours = lines.pop().expect("ours is the last");
    assert!(ours.len() > 100, "{ours}");
    lines
}

#[test]
fn an_earlier_cookie_of_the_same_identity_is_replaced() {
    let layer = layer::<Shop>(&Clock::new());
    let same = [
        "__Host-Http-session=x; Path=/",
        "__Host-Http-session=; Path=/; Max-Age=0",
        "__Host-Http-session=x;path=/;secure",
        "  __Host-Http-session = x ; PATH = / ; HttpOnly; SameSite=Strict",
        "__Host-Http-session=x; Domain=; Path=/",
        "__Host-Http-session=x; Path=/elsewhere; Path=/",
    ];
    for line in same {
        assert_eq!(kept(&layer, &[line]), [""; 0], "{line}");
    }
    assert_eq!(kept(&layer, &same), [""; 0]);
}

#[test]
fn earlier_cookies_of_another_identity_are_kept_in_their_order() {
    let layer = layer::<Shop>(&Clock::new());
    let others = [
        "theme=dark; Path=/",
        "__Host-Http-session2=x; Path=/",
        "__Host-Http-session-out=x; Path=/",
        "__host-http-session=x; Path=/",
        "__Host-Http-session=x; Path=/app",
        "__Host-Http-session=x; Path=/; Domain=example.com",
        "__Host-Http-session=x; Path=/; Partitioned",
        "x=__Host-Http-session=x; Path=/",
    ];
    for line in others {
        assert_eq!(kept(&layer, &[line]), [line]);
    }
    let mixed = [others[0], "__Host-Http-session=x; Path=/", others[1], others[6]];
    assert_eq!(kept(&layer, &mixed), [others[0], others[1], others[6]]);
}

#[test]
fn the_domain_of_an_earlier_cookie_is_compared_without_case_and_leading_dot() {
    let layer = builder::<Shop>(&Clock::new())
        .name("__Secure-id")
        .domain("Example.com")
        .path("/app")
        .partitioned()
        .build()
        .unwrap();
    let same = [
        "__Secure-id=x; Domain=example.com; Path=/app; Partitioned",
        "__Secure-id=x; Domain=.EXAMPLE.COM; Path=/app; Partitioned",
        "__Secure-id=x; domain=.example.com; path=/app; partitioned=1",
        "__Secure-id=x; Domain=other.example; Domain=example.com; Path=/app; Partitioned",
    ];
    for line in same {
        assert_eq!(kept(&layer, &[line]), [""; 0], "{line}");
    }
    let others = [
        "__Secure-id=x; Path=/app; Partitioned",
        "__Secure-id=x; Domain=example.com; Path=/app",
        "__Secure-id=x; Domain=www.example.com; Path=/app; Partitioned",
        "__Secure-id=x; Domain=example.com; Path=/App; Partitioned",
        "__Secure-id=x; Domain=example.com; Path=/; Partitioned",
        "__Secure-id=x; Domain=example.com; Path=/app/; Partitioned",
    ];
    for line in others {
        assert_eq!(kept(&layer, &[line]), [line]);
    }
}

#[test]
fn where_nothing_goes_out_nothing_is_replaced() {
    let layer = layer::<Shop>(&Clock::new());
    for code in [200, 500] {
        let response = respond(&layer, request(""), |session| {
            if code == 500 {
                session.set(user(1)).unwrap();
            }
            let mut response = status(code);
            let line = HeaderValue::from_static("__Host-Http-session=x; Path=/");
            response.headers_mut().append(SET_COOKIE, line);
            response
        });
        assert_eq!(lines(&response), ["__Host-Http-session=x; Path=/"]);
    }
}

#[test]
fn a_removal_and_a_marker_replace_earlier_cookies_too() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = sealed(&layer, &user(1), clock.now());
    let response = respond(&layer, request(&cookie), |session| {
        session.clear();
        let mut response = Response::new(());
        for line in ["__Host-Http-session=x; Path=/", "__Host-Http-session-out=x; Path=/", "theme=dark"] {
            response.headers_mut().append(SET_COOKIE, HeaderValue::from_static(line));
        }
        response
    });
    assert_eq!(names(&response), [NAME, OUT, "theme"]);
    assert!(removes_session(&response));
    assert_ne!(marker_in(&response).unwrap(), format!("{OUT}=x"));
}

fn writes_too_late(layer: &SessionLayer<Shop>) -> u64 {
    layer.keys().counters().writes_too_late
}

#[test]
fn a_write_whose_head_comes_past_the_absolute_timeout_sends_nothing_and_is_counted() {
    for (late, writes) in [(MINUTE - MILLI, true), (MINUTE, false), (HOUR, false)] {
        let clock = Clock::new();
        let layer = builder::<Shop>(&clock).absolute_timeout(HOUR).build().unwrap();
        let cookie = sealed(&layer, &user(1), clock.now());
        clock.pass(HOUR - MINUTE);
        let ((), response) = visit(&layer, &cookie, |session| {
            session.update(|shop| shop.cart.push(1)).unwrap();
            clock.pass(late);
        });
        assert_eq!(session_in(&response).is_some(), writes, "{late:?}");
        assert_eq!(names(&response).len(), usize::from(writes));
        assert_eq!(writes_too_late(&layer), u64::from(!writes));
    }
}

#[test]
fn a_write_whose_head_comes_past_the_sessions_own_lifetime_sends_nothing_and_is_counted() {
    for (late, writes) in [(MINUTE - MILLI, true), (MINUTE, false)] {
        let clock = Clock::new();
        let layer = layer::<Shop>(&clock);
        let ((), response) = visit(&layer, "", |session| {
            session.set(user(1)).unwrap();
            session.set_lifetime(Lifetime::Own(MINUTE)).unwrap();
            clock.pass(late);
        });
        assert_eq!(session_in(&response).is_some(), writes, "{late:?}");
        assert_eq!(writes_too_late(&layer), u64::from(!writes));
    }
}

#[test]
fn a_renewal_restarts_what_the_head_is_measured_against() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).absolute_timeout(HOUR).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    clock.pass(HOUR - MINUTE);
    let ((), response) = visit(&layer, &cookie, |session| {
        session.renew().unwrap();
        clock.pass(HOUR - MILLI);
    });
    assert!(session_in(&response).is_some());
    assert_eq!(writes_too_late(&layer), 0);
}

#[test]
fn a_write_whose_head_comes_past_the_idle_timeout_alone_is_sent() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).idle_timeout(MINUTE).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    let ((), response) = visit(&layer, &cookie, |session| {
        session.update(|shop| shop.cart.push(1)).unwrap();
        clock.pass(HOUR);
    });
    let written = meta(&layer, &session_in(&response).unwrap(), clock.now());
    assert_eq!(written.issued_at(), clock.now());
    assert_eq!(writes_too_late(&layer), 0);
}

#[test]
fn a_removal_goes_out_however_late_its_head_is() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).absolute_timeout(HOUR).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    let ((), response) = visit(&layer, &cookie, |session| {
        session.clear();
        clock.pass(DAY);
    });
    assert!(removes_session(&response));
    assert!(marker_in(&response).is_some());
}

#[test]
fn our_cookies_are_marked_sensitive_and_those_of_others_are_left_as_they_are() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = sealed(&layer, &user(1), clock.now());
    let response = respond(&layer, request(&cookie), |session| {
        session.clear();
        session.set(user(2)).unwrap();
        let mut response = Response::new(());
        response.headers_mut().append(SET_COOKIE, HeaderValue::from_static("theme=dark"));
        response
    });
    for line in response.headers().get_all(SET_COOKIE) {
        let ours = line.to_str().unwrap().starts_with(NAME);
        assert_eq!(line.is_sensitive(), ours);
        assert_eq!(format!("{line:?}").contains('='), !ours, "it shows in Debug");
    }
    assert_eq!(names(&response), [NAME, OUT, "theme"]);

    let ((), removal) = visit(&layer, &cookie, |session| _ = session.clear());
    assert!(removal.headers().get_all(SET_COOKIE).iter().all(HeaderValue::is_sensitive));
}

#[test]
fn an_error_of_the_inner_service_comes_through_and_closes_the_session() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let kept = RefCell::new(None);
    let mut service = layer.layer(service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let session = Session::<Shop>::from_parts(&parts).unwrap();
        session.set(user(1)).unwrap();
        kept.replace(Some(session));
        future::ready(Err::<Response<()>, _>("it broke"))
    }));
    assert_eq!(ready(service.call(request(""))).unwrap_err(), "it broke");
    let session = kept.take().unwrap();
    // There is no response that this could go out with.
    assert_eq!(session.update(|shop| shop.user = Some(2)), Err(UpdateError::Committed));
    assert!(!session.clear());
    assert_eq!(session.get(), user(1));
}

#[test]
fn a_panic_of_the_inner_service_closes_the_session() {
    let layer = layer::<Shop>(&Clock::new());
    // In the call itself, and in the future.
    for at_once in [true, false] {
        let kept = RefCell::new(None);
        let mut service = layer.layer(service_fn(|request: Request<()>| {
            let (parts, ()) = request.into_parts();
            let session = Session::<Shop>::from_parts(&parts).unwrap();
            session.set(user(1)).unwrap();
            kept.replace(Some(session));
            if at_once {
                resume_unwind(Box::new("a panic"));
            }
            future::poll_fn(|_| -> Poll<Result<Response<()>, Infallible>> {
                resume_unwind(Box::new("a panic"));
            })
        }));
        let panicked = catch_unwind(AssertUnwindSafe(|| ready(service.call(request("")))));
        assert!(panicked.is_err());
        let session = kept.take().unwrap();
        assert_eq!(session.update(|shop| shop.user = Some(2)), Err(UpdateError::Committed));
        assert_eq!(session.get(), user(1));
    }
}

#[test]
fn a_client_that_has_gone_closes_the_session() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let kept = Rc::new(RefCell::new(None));
    let mut service = layer.layer(service_fn(|request: Request<()>| {
        let kept = kept.clone();
        async move {
            let (parts, ()) = request.into_parts();
            let session = Session::<Shop>::from_parts(&parts).unwrap();
            session.set(user(1)).unwrap();
            kept.replace(Some(session));
            future::pending::<()>().await;
            Ok::<_, Infallible>(Response::new(()))
        }
    }));
    let mut response = Box::pin(service.call(request("")));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(response.as_mut().poll(&mut cx).is_pending());
    let session = kept.take().unwrap();
    session.update(|shop| shop.cart.push(1)).unwrap();
    drop(response);
    assert_eq!(session.update(|shop| shop.cart.push(2)), Err(UpdateError::Committed));
    assert!(!session.clear());
    assert_eq!(session.read(|shop| shop.cart.clone()), [1]);
}
