//! Nested layers with the same type and name: the inner one passes through. Handles are keyed by
//! type.

use crate::kit::*;
use cookie_session::{MissingLayer, Session, SessionLayer};
use http::{Request, Response, header::SET_COOKIE};
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, future};
use tower::{Layer, Service, service_fn};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Basket(Vec<u32>);

fn through<T: Data, U: Data>(
    outer: &SessionLayer<T>,
    inner: &SessionLayer<U>,
    cookies: &str,
    handler: impl FnOnce(&http::request::Parts),
) -> Response<()> {
    let mut handler = Some(handler);
    let mut service = outer.layer(inner.layer(service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        handler.take().expect("one request")(&parts);
        future::ready(Ok::<_, Infallible>(Response::new(())))
    })));
    let Ok(response) = ready(service.call(request(cookies)));
    response
}

fn get<T: Data>(parts: &http::request::Parts) -> Session<T> {
    Session::from_parts(parts).unwrap()
}

#[test]
fn the_inner_of_two_layers_with_one_type_and_name_passes_through() {
    let clock = Clock::new();
    // Two keys, so that one can tell whose session it is.
    let (outer, inner) = (layer::<Shop>(&clock), layer::<Shop>(&clock));
    let cookie = sealed(&outer, &user(1), clock.now());
    let response = through(&outer, &inner, &cookie, |parts| {
        let session = get::<Shop>(parts);
        assert_eq!(session.get(), user(1));
        session.update(|shop| shop.cart.push(1)).unwrap();
    });
    assert_eq!(names(&response), [NAME]);
    let written = session_in(&response).unwrap();
    assert_eq!(open(&outer, &written, clock.now()).value().unwrap().cart, [1]);
    assert_eq!(response.headers()["vary"], "Cookie");
    assert_eq!(response.headers()["cache-control"], "private");
}

#[test]
fn the_very_same_layer_twice_is_one() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let response = through(&layer, &layer, "", |parts| get::<Shop>(parts).set(user(1)).unwrap());
    assert_eq!(names(&response), [NAME]);
    let cookie = session_in(&response).unwrap();
    let response = through(&layer, &layer, &cookie, |parts| assert!(get::<Shop>(parts).clear()));
    assert_eq!(names(&response), [NAME, OUT]);
    assert!(removes_session(&response));
}

#[test]
fn a_middleware_between_nested_layers_shares_the_session_with_the_handler() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let mut handled = layer.layer(service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let session = get::<Shop>(&parts);
        assert_eq!(session.get(), user(1));
        session.update(|shop| shop.cart.push(2)).unwrap();
        future::ready(Ok::<_, Infallible>(Response::new(())))
    }));
    let mut service = layer.layer(service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let session = get::<Shop>(&parts);
        session.set(user(1)).unwrap();
        let Ok(response) = ready(handled.call(Request::from_parts(parts, ())));
        // The head of the inner layer is none for this session.
        assert_eq!(session.read(|shop| shop.cart.clone()), [2]);
        session.update(|shop| shop.cart.push(3)).unwrap();
        future::ready(Ok::<_, Infallible>(response))
    }));
    let Ok(response) = ready(service.call(request("")));
    assert_eq!(names(&response), [NAME]);
    let written = session_in(&response).unwrap();
    assert_eq!(open(&layer, &written, clock.now()).value().unwrap().cart, [2, 3]);
}

#[test]
fn of_two_layers_with_one_type_and_two_names_the_inner_ones_session_is_handed_out() {
    let clock = Clock::new();
    let outer = builder::<Shop>(&clock).name("outer").build().unwrap();
    let inner = builder::<Shop>(&clock).name("inner").build().unwrap();
    let both =
        format!("{}; {}", sealed(&outer, &user(1), clock.now()), sealed(&inner, &user(2), clock.now()));
    let response = through(&outer, &inner, &both, |parts| {
        let session = get::<Shop>(parts);
        assert_eq!(session.get(), user(2));
        session.update(|shop| shop.cart.push(1)).unwrap();
    });
    assert_eq!(names(&response), ["inner"]);
}

#[test]
fn two_layers_with_two_types_have_a_session_each() {
    let clock = Clock::new();
    let shops = builder::<Shop>(&clock).name("shop").build().unwrap();
    let baskets = builder::<Basket>(&clock).name("basket").build().unwrap();
    for swap in [false, true] {
        let handler = |parts: &http::request::Parts| {
            get::<Shop>(parts).set(user(1)).unwrap();
            get::<Basket>(parts).set(Basket(vec![7])).unwrap();
        };
        let response = if swap {
            through(&baskets, &shops, "", handler)
        } else {
            through(&shops, &baskets, "", handler)
        };
        assert_eq!(names(&response), ["basket", "shop"]);
        assert_eq!(response.headers()["vary"], "Cookie");
        assert_eq!(response.headers()["cache-control"], "private");

        let cookies: Vec<_> = cookies_in(&response).iter().map(|c| c.stripped().to_string()).collect();
        let response = through(&shops, &baskets, &cookies.join("; "), |parts| {
            assert_eq!(get::<Shop>(parts).get(), user(1));
            assert_eq!(get::<Basket>(parts).get(), Basket(vec![7]));
            // One can go without the other.
            assert!(get::<Basket>(parts).clear());
        });
        assert_eq!(names(&response), ["basket", "basket-out"]);
    }
}

#[test]
fn two_newtypes_over_one_struct_have_a_session_each() {
    #[derive(Default, Serialize, Deserialize)]
    struct Admin(Shop);
    #[derive(Default, Serialize, Deserialize)]
    struct Customer(Shop);
    let clock = Clock::new();
    let admins = builder::<Admin>(&clock).name("admin").build().unwrap();
    let customers = builder::<Customer>(&clock).name("customer").build().unwrap();
    let response = through(&admins, &customers, "", |parts| {
        get::<Admin>(parts).update(|admin| admin.0.user = Some(1)).unwrap();
        get::<Customer>(parts).update(|customer| customer.0.user = Some(2)).unwrap();
    });
    assert_eq!(names(&response), ["admin", "customer"]);
    let both: Vec<_> = cookies_in(&response).iter().map(|c| c.stripped().to_string()).collect();
    let _ = through(&admins, &customers, &both.join("; "), |parts| {
        assert_eq!(get::<Admin>(parts).read(|admin| admin.0.user), Some(1));
        assert_eq!(get::<Customer>(parts).read(|customer| customer.0.user), Some(2));
    });
}

#[test]
fn the_value_of_one_layers_cookie_is_no_session_of_another_layer() {
    let (clock, keys) = (Clock::new(), ring());
    let with = |name: &str| builder_over::<Shop>(keys.clone(), &clock).name(name).build().unwrap();
    let (one, two) = (with("one"), with("two"));
    let moved = sealed(&one, &user(1), clock.now()).replace("one=", "two=");
    assert_eq!(visit(&two, &moved, Session::get).0, Shop::default());
}

#[test]
fn without_a_layer_of_the_type_there_is_no_session_and_the_error_names_it() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let mut service = layer.layer(service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let missing: MissingLayer = Session::<Basket>::from_parts(&parts).unwrap_err();
        let sentence = missing.to_string();
        assert!(sentence.contains("SessionLayer<") && sentence.contains("Basket"), "{sentence}");
        future::ready(Ok::<_, Infallible>(Response::new(())))
    }));
    let Ok(response) = ready(service.call(request("")));
    assert!(!response.headers().contains_key(SET_COOKIE));
    assert!(!response.headers().contains_key("vary"));
}
