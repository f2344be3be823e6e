//! Where two rules meet, or a rule and a user's own code: each of these once went wrong.

use crate::kit::*;
use cookie_session::{ConfigError, Identity, Key, KeyRing, Lifetime, Session, SessionLayer, UpdateError};
use http::{
    HeaderName, HeaderValue, Response,
    header::{CACHE_CONTROL, SET_COOKIE, VARY},
};
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

#[test]
fn a_passive_predicate_may_look_at_the_session() {
    let clock = Clock::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let layer = builder::<Shop>(&clock)
        .passive_if(move |parts| {
            count.fetch_add(1, SeqCst);
            let session = Session::<Shop>::from_parts(parts).expect("the layer is around");
            session.read(|shop| shop.user.is_none())
        })
        .build()
        .expect("good settings");
    let cookie = sealed(&layer, &user(1), clock.now());
    clock.pass(HOUR * 3);
    let (seen, response) = visit(&layer, &cookie, |session| session.get().user);
    assert_eq!((seen, asked.load(SeqCst)), (Some(1), 1));
    assert!(session_in(&response).is_some(), "it is not passive, so it is re-issued");
}

mod forms {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub struct Old {
        pub text: String,
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    pub struct New {
        pub text: String,
        pub number: u8,
    }

    /// A release that writes the old form, shortened, into a budget that what is out there exceeds.
    pub fn layer(ring: &KeyRing, clock: &Clock) -> SessionLayer<New> {
        builder_over(ring.clone(), clock)
            .schema(2)
            .max_set_cookie(1000)
            .migrate_from(1, |old: Old| New { text: old.text.chars().take(100).collect(), number: 0 })
            .write_as(1, |new: &New| Old { text: new.text.clone() })
            .build()
            .expect("good settings")
    }
}

#[test]
fn a_renewed_session_that_is_changed_back_is_not_sent_over_the_budget() {
    let (clock, ring) = (Clock::new(), ring());
    let old = builder_over::<OldShop>(ring.clone(), &clock).build().expect("good settings");
    let cookie = sealed(&old, &OldShop { text: "x".repeat(2000) }, clock.now());
    let layer = forms::layer(&ring, &clock);
    let ((), response) = visit(&layer, &cookie, |session| {
        session.update(|new| new.text.push('y')).expect("it fits");
        session.renew().expect("what was stored fits");
        session.update(|new| new.text.pop()).expect("it fits");
    });
    let lines = lines(&response);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].len() <= 1000, "{} bytes", lines[0].len());
    let sent = session_in(&response).expect("it was renewed");
    assert_eq!(open(&layer, &sent, clock.now()).value().map(|new| new.text.len()), Some(100));
}

#[derive(Default, Serialize, Deserialize)]
struct OldShop {
    text: String,
}

#[test]
fn an_update_that_changes_nothing_is_no_error_on_a_session_that_has_outgrown_its_budget() {
    let (clock, ring) = (Clock::new(), ring());
    let large = builder_over::<OldShop>(ring.clone(), &clock).build().expect("good settings");
    let small = builder_over::<OldShop>(ring, &clock).max_set_cookie(1000).build().expect("good settings");
    let cookie = sealed(&large, &OldShop { text: "x".repeat(2000) }, clock.now());
    let ((), response) = visit(&small, &cookie, |session| {
        assert_eq!(session.update(|_| 7), Ok(7));
        assert_eq!(session.set_lifetime(Lifetime::Timeouts), Ok(()));
        assert!(!session.is_changed());
        assert!(matches!(session.update(|shop| shop.text.push('y')), Err(UpdateError::TooLarge(_))));
        assert!(matches!(session.renew(), Err(UpdateError::TooLarge(_))));
        assert!(matches!(session.set_lifetime(Lifetime::Browser), Err(UpdateError::TooLarge(_))));
        assert_eq!(session.update(|shop| shop.text.truncate(10)), Ok(()));
        assert!(session.renew().is_ok());
    });
    assert_eq!(names(&response), [NAME]);
}

#[test]
fn a_lifetime_that_would_be_over_already_is_an_error_and_loses_no_write() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).max_own_lifetime(DAY * 30).build().expect("good settings");
    let fresh = visit(&layer, "", |session| {
        session.update(|shop| shop.user = Some(1)).expect("it fits");
        session.set_lifetime(Lifetime::Own(DAY * 30)).expect("within the maximum");
    });
    let cookie = session_in(&fresh.1).expect("a new session");
    clock.pass(DAY * 20);
    let ((), response) = visit(&layer, &cookie, |session| {
        for lifetime in [Lifetime::Timeouts, Lifetime::Browser, Lifetime::Own(DAY * 20)] {
            let refused = session.set_lifetime(lifetime);
            assert!(
                matches!(refused, Err(UpdateError::LifetimeTooShort { .. })),
                "{lifetime:?}: {refused:?}"
            );
        }
        session.update(|shop| shop.cart.push(7)).expect("it fits");
    });
    assert!(session_in(&response).is_some());
    let ((), response) = visit(&layer, &cookie, |session| {
        session.renew().expect("randomness");
        session.set_lifetime(Lifetime::Browser).expect("it counts from now");
    });
    assert!(session_in(&response).is_some());
}

#[test]
fn types_that_do_not_come_back_are_refused_by_build() {
    #[derive(Default, Serialize, Deserialize)]
    enum Role {
        #[default]
        Guest,
        #[serde(skip)]
        #[allow(dead_code)]
        Internal,
        User,
        Admin,
    }
    #[derive(Default, Serialize, Deserialize)]
    struct Sparse {
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<u64>,
        cart: Vec<u32>,
    }
    #[derive(Default, Serialize, Deserialize)]
    struct Cart {
        items: Vec<Item>,
    }
    #[derive(Default, Serialize, Deserialize)]
    struct Item {
        id: u32,
        #[serde(default, skip_serializing_if = "is_zero")]
        quantity: u8,
        price: u8,
    }
    fn is_zero(number: &u8) -> bool {
        *number == 0
    }
    #[derive(Default, Serialize, Deserialize)]
    enum Login {
        #[default]
        Anonymous,
        User {
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            roles: Vec<u8>,
            admin: bool,
        },
    }
    let _ = [Role::User, Role::Admin];
    let _ = Login::User { roles: Vec::new(), admin: true };
    let refused = |error: Result<(), ConfigError>, named: &str| match error {
        Err(ConfigError::DoesNotComeBack { type_name }) => assert!(type_name.ends_with(named), "{type_name}"),
        Err(ConfigError::DefaultNotStorable { .. }) => {}
        other => panic!("{named}: {other:?}"),
    };
    let clock = Clock::new();
    refused(builder::<Role>(&clock).build().map(drop), "Role");
    refused(
        builder::<Option<Role>>(&clock).build().map(drop),
        "Option<rules::where_rules_meet::types_that_do_not_come_back_are_refused_by_build::Role>",
    );
    refused(builder::<Sparse>(&clock).build().map(drop), "Sparse");
    refused(builder::<Cart>(&clock).build().map(drop), "Cart");
    refused(builder::<Login>(&clock).build().map(drop), "Login");
    refused(builder::<Vec<Option<Login>>>(&clock).build().map(drop), "Login>>");
}

#[test]
fn an_earlier_identity_cannot_be_a_sign_out_marker() {
    let clock = Clock::new();
    let build = |name: &str| builder::<Shop>(&clock).formerly(Identity::named(name)).build();
    assert!(build("session").is_ok());
    assert!(matches!(build(OUT), Err(ConfigError::FormerlyTwice { .. })));
}

#[test]
fn a_response_that_has_no_room_for_another_header_gets_no_cookie_and_does_not_panic() {
    let layer = layer::<Shop>(&Clock::new());
    let response = respond(&layer, request(""), |session| {
        session.update(|shop| shop.user = Some(1)).expect("it fits");
        let mut response = Response::new(());
        for number in 0.. {
            let name = HeaderName::try_from(format!("x-{number}")).expect("a name");
            if response.headers_mut().try_append(name, HeaderValue::from_static("1")).is_err() {
                break;
            }
        }
        response
    });
    assert!(lines(&response).is_empty());
}

/// `http` asks for room for another header even where one is replaced.
#[test]
fn where_the_headers_are_full_a_cookie_takes_the_place_of_another_or_none_and_nothing_panics() {
    let layer = layer::<Shop>(&Clock::new());
    let full = |there: &[(HeaderName, &'static str)]| {
        respond(&layer, request(""), |session| {
            session.update(|shop| shop.user = Some(1)).expect("it fits");
            let mut response = Response::new(());
            let headers = response.headers_mut();
            headers.insert(VARY, HeaderValue::from_static("cookie"));
            for (name, value) in there {
                headers.append(name, HeaderValue::from_static(value));
            }
            let mut names = (0..).map(|number| HeaderName::try_from(format!("x-{number}")).expect("a name"));
            while headers.try_append(names.next().unwrap(), HeaderValue::from_static("1")).is_ok() {}
            response
        })
    };
    // No room for `private`, so the cookie stays behind.
    let response = full(&[(CACHE_CONTROL, "public, max-age=60"), (SET_COOKIE, "a=1")]);
    assert_eq!(response.headers()[CACHE_CONTROL], "max-age=60");
    assert_eq!(names(&response), ["a"]);
    let earlier = "__Host-Http-session=x; Path=/";
    let there = [(CACHE_CONTROL, "private"), (SET_COOKIE, earlier), (SET_COOKIE, "a=1"), (SET_COOKIE, "b=2")];
    assert_eq!(names(&full(&there)), [NAME, "a", "b"]);
}

#[test]
fn a_quote_that_is_not_closed_hides_no_private() {
    let layer = layer::<Shop>(&Clock::new());
    let response = respond(&layer, request(""), |session| {
        session.update(|shop| shop.user = Some(1)).expect("it fits");
        let mut response = Response::new(());
        let broken = HeaderValue::from_static("max-age=60, ext=\"oops, public");
        response.headers_mut().insert(CACHE_CONTROL, broken);
        response
    });
    assert_eq!(response.headers()[CACHE_CONTROL], "private");
}

#[test]
fn a_backslash_outside_of_quotes_escapes_no_quote() {
    let layer = layer::<Shop>(&Clock::new());
    let response = respond(&layer, request(""), |session| {
        session.read(|_| ());
        let mut response = Response::new(());
        let broken = HeaderValue::from_static("ext=\\\", public");
        response.headers_mut().insert(CACHE_CONTROL, broken);
        response
    });
    assert_eq!(response.headers()[CACHE_CONTROL], "private");
}

#[test]
fn headers_that_forbid_surrogates_to_store_do_not_keep_an_active_user_from_a_new_cookie() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).idle_timeout(MINUTE * 30).build().expect("good settings");
    let mut cookie = sealed(&layer, &user(1), clock.now());
    let forbids = [
        ("cdn-cache-control", "no-store"),
        ("surrogate-control", "no-store"),
        ("surrogate-control", "content=\"ESI/1.0\""),
    ];
    for (name, value) in forbids.iter().cycle().take(12) {
        clock.pass(MINUTE * 10);
        let mut seen = None;
        let response = respond(&layer, request(&cookie), |session| {
            seen = session.get().user;
            let mut response = Response::new(());
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
            response
        });
        assert_eq!(seen, Some(1));
        assert_eq!(response.headers()[*name], *value, "it is left alone");
        assert_eq!(response.headers()[CACHE_CONTROL], "private");
        cookie = session_in(&response).expect("a re-issue each ten minutes");
    }
}

#[test]
fn a_new_session_of_a_type_with_another_name_is_another_session() {
    let (clock, ring) =
        (Clock::new(), KeyRing::new(Key::generate().expect("randomness"), []).expect("one key"));
    let visitor =
        builder_over::<Shop>(ring.clone(), &clock).name("__Host-visitor").build().expect("good settings");
    let staff = builder_over::<Shop>(ring, &clock).name("__Host-staff").build().expect("good settings");
    let cookie = sealed(&visitor, &user(1), clock.now());
    let moved = cookie.replace("__Host-visitor", "__Host-staff");
    assert!(open(&visitor, &cookie, clock.now()).value().is_some());
    assert!(open(&staff, &cookie, clock.now()).value().is_none());
    assert!(open(&staff, &moved, clock.now()).value().is_none());
}

#[test]
fn a_cookie_goes_out_beside_no_header_that_lets_a_surrogate_store_it() {
    let layer = layer::<Shop>(&Clock::new());
    let write = |headers: &[(&'static str, &'static str)]| {
        respond(&layer, request(""), |session| {
            session.update(|shop| shop.user = Some(1)).expect("it fits");
            let mut response = Response::new(());
            for (name, value) in headers {
                response.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            response
        })
    };
    for (name, value) in [
        ("cdn-cache-control", "stale-while-revalidate=600"),
        ("cdn-cache-control", "max-age=600, private=\"x-foo\""),
        ("netlify-cdn-cache-control", "max-age=600"),
        ("akamai-cache-control", "public, max-age=600"),
        ("surrogate-control", "max-age=600"),
    ] {
        let response = write(&[(name, value)]);
        assert!(!response.headers().contains_key(name), "{name}: {value}");
        assert_eq!(response.headers()[CACHE_CONTROL], "private");
    }
    let response = write(&[("cache-control", "no-cache, ext=\"a\\\"b\"")]);
    assert_eq!(response.headers()[CACHE_CONTROL], "no-cache, ext=\"a\\\"b\", private");
}

#[test]
fn a_variable_with_a_digit_in_its_name_is_named() {
    let missing = KeyRing::from_env("CUSTOMER_PORTAL_V2_SESSION_KEY").expect_err("it is not set");
    assert!(missing.to_string().contains("CUSTOMER_PORTAL_V2_SESSION_KEY_FILE"), "{missing}");
    let key = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff5";
    for key in [key.to_owned(), key.to_uppercase()] {
        let slip = KeyRing::from_env(&key).expect_err("it is not set");
        assert!(!slip.to_string().contains(&key[..12]), "{slip}");
    }
}

#[test]
fn a_value_that_build_did_not_try_is_refused_by_the_update_that_would_lose_it() {
    #[derive(Clone, PartialEq, Serialize, Deserialize)]
    struct Prefs {
        lang: String,
    }
    impl Default for Prefs {
        fn default() -> Self {
            Prefs { lang: "en".to_owned() }
        }
    }
    #[derive(Default, Serialize, Deserialize)]
    struct Account {
        id: u8,
        #[serde(default, skip_serializing_if = "is_default")]
        prefs: Prefs,
        visits: u8,
        note: Option<u8>,
    }
    fn is_default(prefs: &Prefs) -> bool {
        *prefs == Prefs::default()
    }
    #[derive(Default, Serialize, Deserialize)]
    struct Login {
        account: Option<Account>,
    }
    let layer = layer::<Login>(&Clock::new());
    let ((), response) = visit(&layer, "", |session| {
        let lost = session.update(|login| login.account = Some(Account { visits: 1, ..Account::default() }));
        assert!(matches!(lost, Err(UpdateError::NotEncodable(_))), "{lost:?}");
    });
    assert!(names(&response).is_empty());
}

/// What serde leaves out of a value, and how that would be read: as a value that encodes to the same bytes.
mod left_out {
    use super::*;
    use cookie_session::{Mode, NotEncodable};
    use serde::{
        Serializer,
        ser::{SerializeMap as _, SerializeSeq as _, SerializeStruct as _, SerializeTuple as _},
    };
    use std::{
        collections::{BTreeMap, BTreeSet, HashMap, HashSet},
        fmt::Debug,
        net::IpAddr,
    };

    /// A discount that `build()` does not try.
    const STANDARD: u8 = 77;

    fn is_standard(discount: &u8) -> bool {
        *discount == STANDARD
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Order {
        #[serde(skip_serializing_if = "is_standard")]
        discount: u8,
        items: Vec<u8>,
    }

    /// An order whose only item is read as its discount.
    fn lost() -> Order {
        Order { discount: STANDARD, items: vec![0] }
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct OrderTuple(#[serde(skip_serializing_if = "is_standard")] u8, Vec<u8>);

    /// Two fields that are left out are as many as a pair has, which is read as them.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct OrderOfPairs(
        #[serde(skip_serializing_if = "is_standard")] u8,
        #[serde(skip_serializing_if = "is_standard")] u8,
        Vec<Pair>,
    );

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Pair(u8, u8);

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    enum Step {
        #[default]
        Nothing,
        Placed(Order),
        Buy {
            #[serde(skip_serializing_if = "is_standard")]
            discount: u8,
            items: Vec<u8>,
        },
        BuyTuple(#[serde(skip_serializing_if = "is_standard")] u8, Vec<u8>),
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Within {
        before: u8,
        order: Order,
        after: u8,
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct WithinTuple(u8, Order);

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Newtype(Order);

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Cart {
        #[serde(skip_serializing_if = "Option::is_none")]
        discount: Option<u8>,
        items: Vec<(u8, u8)>,
    }

    impl Default for Cart {
        fn default() -> Self {
            Cart { discount: Some(0), items: Vec::new() }
        }
    }

    const REFUSED: UpdateError = UpdateError::NotEncodable(NotEncodable::RoundTrip);

    /// postcard reads another value, and writes it as it was read.
    fn assert_misread<T: Data + Debug + PartialEq>(lost: &T) {
        let bytes = postcard::to_allocvec(lost).expect("postcard takes it");
        let other: T = postcard::from_bytes(&bytes).expect("postcard reads it");
        assert_ne!(other, *lost);
        assert_eq!(postcard::to_allocvec(&other), Ok(bytes));
    }

    fn is_refused<T: Data + Clone + Debug + PartialEq>(good: T, lost: T) {
        assert_misread(&lost);
        is_not_taken(good, lost);
    }

    fn is_not_taken<T: Data + Clone + Debug + PartialEq>(good: T, lost: T) {
        let clock = Clock::new();
        let layer = layer::<T>(&clock);
        let cookie = sealed(&layer, &good, clock.now());
        let (left, response) = visit(&layer, &cookie, |session| {
            assert_eq!(session.set(lost.clone()), Err(REFUSED), "{lost:?}");
            assert_eq!(session.update(|value| *value = lost.clone()), Err(REFUSED), "{lost:?}");
            assert!(!session.is_changed());
            session.get()
        });
        assert_eq!(left, good);
        assert!(names(&response).is_empty(), "{lost:?}");
        assert_eq!(layer.codec().seal(&lost, None, None, clock.now()).err(), Some(REFUSED));
        assert_eq!(visit(&layer, &cookie, Session::get).0, good);
    }

    #[test]
    fn a_field_that_is_left_out_is_refused_wherever_it_stands() {
        is_refused(Order { discount: 1, items: vec![2] }, lost());
        is_refused(Newtype(Order::default()), Newtype(lost()));
        is_refused(Within { before: 1, ..Within::default() }, Within { before: 2, order: lost(), after: 3 });
        is_refused(WithinTuple::default(), WithinTuple(1, lost()));
        is_refused((1, Order::default()), (2, lost()));
        is_refused(Some(Order::default()), Some(lost()));
        is_refused(vec![Order::default()], vec![Order::default(), lost()]);
        is_refused(BTreeMap::from([(1, Order::default())]), BTreeMap::from([(1, lost())]));
        is_refused(HashMap::from([(1, Order::default())]), HashMap::from([(1, lost())]));
        is_refused(Ok::<_, ()>(Step::Nothing).ok(), Some(Step::Placed(lost())));
        is_refused(Step::Nothing, Step::Buy { discount: STANDARD, items: vec![0] });
        is_refused(vec![vec![Some(Step::Nothing)]], vec![vec![Some(Step::Placed(lost()))]]);
    }

    #[test]
    fn a_field_that_is_left_out_of_a_tuple_is_refused_though_serde_does_not_tell() {
        let lost = OrderTuple(STANDARD, vec![0]);
        is_refused(OrderTuple(1, vec![2]), lost.clone());
        is_refused(vec![OrderTuple::default(); 2], vec![OrderTuple::default(), lost]);
        is_refused(Step::BuyTuple(1, vec![2]), Step::BuyTuple(STANDARD, vec![0]));
        is_refused(OrderOfPairs::default(), OrderOfPairs(STANDARD, STANDARD, vec![Pair(5, 0)]));
    }

    /// The field that one event lacks is as many as another is read with fewer.
    #[test]
    fn nor_does_another_tuple_make_up_for_it() {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        enum Event {
            Paid(u8, #[serde(skip_serializing_if = "is_standard")] u8),
            Seen(u8, u8),
            Moved(u8, u8, u8),
        }
        is_refused(vec![Event::Seen(1, 2)], vec![Event::Paid(1, STANDARD), Event::Moved(1, 9, 8)]);
    }

    #[test]
    fn the_older_form_that_is_written_must_come_back_as_well() {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Noted {
            discount: u8,
            items: Vec<u8>,
            note: u8,
        }
        let clock = Clock::new();
        let layer = builder::<Noted>(&clock)
            .schema(2)
            .migrate_from(1, |old: OrderTuple| Noted { discount: old.0, items: old.1, note: 0 })
            .write_as(1, |new: &Noted| OrderTuple(new.discount, new.items.clone()))
            .build()
            .expect("good settings");
        let noted = |discount| Noted { discount, items: vec![0], note: 0 };
        let (stored, response) = visit(&layer, "", |session| session.set(noted(STANDARD)));
        assert_eq!((stored, names(&response)), (Err(REFUSED), Vec::<String>::new()));
        let (stored, response) = visit(&layer, "", |session| session.set(noted(1)));
        assert_eq!(stored, Ok(()));
        assert_eq!(visit(&layer, &session_in(&response).expect("written"), Session::get).0, noted(1));
    }

    /// Where only what the older form lacks has changed, the session has not; what is read of it in the same request has.
    #[test]
    fn nor_is_it_taken_where_the_older_form_stays_the_same() {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Noted(u8, #[serde(skip_serializing_if = "is_standard")] u8, Vec<u8>);
        let clock = Clock::new();
        let layer = builder::<Noted>(&clock)
            .schema(2)
            .migrate_from(1, |old: u8| Noted(old, 0, Vec::new()))
            .write_as(1, |new: &Noted| new.0)
            .build()
            .expect("good settings");
        let cookie = session_in(&visit(&layer, "", |session| session.set(Noted(1, 0, Vec::new()))).1)
            .expect("written");
        visit(&layer, &cookie, |session| {
            assert_eq!(session.set(Noted(1, STANDARD, vec![0])), Err(REFUSED));
            assert_eq!(session.get(), Noted(1, 0, Vec::new()));
            assert_eq!(session.set(Noted(1, 2, vec![0])), Ok(()));
            assert_eq!(session.get(), Noted(1, 2, vec![0]));
            assert!(!session.is_changed());
        });
    }

    /// Readers that take all, and writers that write something else for some values, none of which `build()` tries.
    #[test]
    fn a_writer_that_is_not_that_of_the_reader_is_found_out_where_it_matters() {
        fn doubled<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
            (if *number > 100 { number * 2 } else { *number }).serialize(serializer)
        }
        fn narrow<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u8(*number as u8)
        }
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        enum Skipped {
            #[default]
            A,
            C(u8),
            #[serde(skip_deserializing)]
            B,
        }
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Doubles {
            #[serde(serialize_with = "doubled")]
            number: u64,
        }
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Narrow {
            #[serde(serialize_with = "narrow")]
            number: u64,
        }
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        struct LeafByHand {
            number: u64,
        }
        impl Serialize for LeafByHand {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                doubled(&self.number, serializer)
            }
        }
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        struct StructByHand {
            number: u64,
        }
        impl Serialize for StructByHand {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut fields = serializer.serialize_struct("StructByHand", 1)?;
                let number = if self.number > 100 { self.number * 2 } else { self.number };
                fields.serialize_field("number", &number)?;
                fields.end()
            }
        }
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        enum Other {
            #[default]
            Active,
            #[serde(skip_deserializing)]
            Legacy,
            #[serde(other)]
            Unknown,
        }
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        struct LeavesOut {
            page: u8,
            per_page: u8,
        }
        impl Serialize for LeavesOut {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let standard = self.per_page == 50;
                let mut fields = serializer.serialize_struct("LeavesOut", if standard { 1 } else { 2 })?;
                fields.serialize_field("page", &self.page)?;
                if !standard {
                    fields.serialize_field("per_page", &self.per_page)?;
                }
                fields.end()
            }
        }
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        struct Line {
            product: u8,
            #[serde(skip)]
            seq: u8,
        }
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        struct InThousands(u64, u64);
        impl Serialize for InThousands {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                (self.0 / 1000, self.1 / 1000).serialize(serializer)
            }
        }
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(into = "(u64, u64)")]
        struct IntoThousands(u64, u64);
        impl From<IntoThousands> for (u64, u64) {
            fn from(its: IntoThousands) -> (u64, u64) {
                (its.0 / 1000, its.1 / 1000)
            }
        }
        /// Has the name of another struct, which is written with one field.
        mod elsewhere {
            #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
            pub struct LeavesOut {
                pub page: u8,
            }
        }
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        struct AnotherField {
            id: u64,
            #[serde(skip)]
            handle: Option<String>,
        }
        impl Serialize for AnotherField {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut fields = serializer.serialize_struct("AnotherField", 1)?;
                match &self.handle {
                    Some(handle) => fields.serialize_field("id", handle)?,
                    None => fields.serialize_field("id", &self.id)?,
                }
                fields.end()
            }
        }
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        struct AnotherWidth {
            id: u64,
            #[serde(skip)]
            small: u8,
        }
        impl Serialize for AnotherWidth {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut fields = serializer.serialize_struct("AnotherWidth", 1)?;
                fields.serialize_field("id", &self.small)?;
                fields.end()
            }
        }
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        struct Null {
            text: String,
            #[serde(skip)]
            hidden: bool,
        }
        impl Serialize for Null {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if self.hidden {
                    return serializer.serialize_unit();
                }
                let mut fields = serializer.serialize_struct("Null", 1)?;
                fields.serialize_field("text", &self.text)?;
                fields.end()
            }
        }
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        enum AsText {
            #[default]
            Free,
            Seats(u32),
        }
        impl Serialize for AsText {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    AsText::Free => serializer.serialize_unit_variant("AsText", 0, "Free"),
                    AsText::Seats(seats) if *seats >= 1000 => serializer.serialize_str("unlimited"),
                    AsText::Seats(seats) => serializer.serialize_newtype_variant("AsText", 1, "Seats", seats),
                }
            }
        }
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Around<V> {
            before: Vec<Option<String>>,
            value: Option<Box<V>>,
            after: (u8, f64),
        }
        fn refused<V: Data + Clone + Debug + PartialEq>(good: V, bad: V) {
            is_not_taken(good.clone(), bad.clone());
            let around = |value: V| Around { value: Some(Box::new(value)), ..Around::default() };
            is_not_taken(around(good.clone()), around(bad.clone()));
            is_not_taken(vec![good.clone(), good.clone()], vec![good, bad]);
        }
        refused(Skipped::C(7), Skipped::B);
        refused(Doubles { number: 100 }, Doubles { number: 200 });
        refused(Narrow { number: 100 }, Narrow { number: 200 });
        refused(LeafByHand { number: 100 }, LeafByHand { number: 200 });
        refused(StructByHand { number: 100 }, StructByHand { number: 200 });
        refused(Other::Active, Other::Legacy);
        refused(LeavesOut { page: 1, per_page: 49 }, LeavesOut { page: 1, per_page: 50 });
        let with_namesake =
            |per_page| (elsewhere::LeavesOut::default(), LeavesOut { page: 1, per_page }, 9_u8);
        refused(with_namesake(49), with_namesake(50));
        refused(InThousands(0, 0), InThousands(5_000_000, 6_000_000));
        refused(IntoThousands(0, 0), IntoThousands(5_000_000, 6_000_000));
        let another = |handle| AnotherField { id: 0, handle };
        refused(another(None), another(Some("Ada".to_owned())));
        refused(AnotherWidth::default(), AnotherWidth { id: 0, small: 200 });
        refused(Null::default(), Null { text: "shoes".to_owned(), hidden: true });
        refused(AsText::Seats(999), AsText::Seats(1000));
        // Two keys are one when they come back.
        let lines = [0, 1].map(|seq| Line { product: 7, seq });
        let keyed = |lines: &[Line]| lines.iter().cloned().map(|line| (line, 1)).collect::<BTreeMap<_, u8>>();
        refused(BTreeMap::default(), keyed(&lines));
        refused(BTreeMap::default(), BTreeMap::from(lines.clone().map(|line| ((7, line), 1))));
        refused(BTreeSet::default(), BTreeSet::from(lines.clone()));
        refused(BTreeSet::default(), BTreeSet::from(lines.clone().map(|line| (7, line))));
        refused(HashSet::default(), HashSet::from(lines.clone()));
        refused(HashMap::default(), HashMap::from(lines.map(|line| ((line, 7), 1))));
    }

    /// Announces all of its elements and writes those that are to be seen.
    #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
    struct Visible<C>(C);

    impl Serialize for Visible<Vec<u8>> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
            self.0.iter().filter(|n| !is_standard(n)).try_for_each(|n| seq.serialize_element(n))?;
            seq.end()
        }
    }

    impl Serialize for Visible<BTreeMap<u8, u8>> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(self.0.len()))?;
            self.0
                .iter()
                .filter(|(n, _)| !is_standard(n))
                .try_for_each(|(n, m)| map.serialize_entry(n, m))?;
            map.end()
        }
    }

    impl Serialize for Visible<[u8; 3]> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut tuple = serializer.serialize_tuple(3)?;
            self.0.iter().filter(|n| !is_standard(n)).try_for_each(|n| tuple.serialize_element(n))?;
            tuple.end()
        }
    }

    #[test]
    fn elements_that_were_announced_and_not_written_are_refused() {
        fn refused<C: Clone + Debug + Default + PartialEq>(good: C, lost: C)
        where
            Visible<C>: Data,
        {
            let layer = layer::<(Visible<C>, Vec<u8>)>(&Clock::new());
            let page = |shown: &C| (Visible(shown.clone()), vec![0]);
            let (stored, response) = visit(&layer, "", |session| session.set(page(&good)));
            assert_eq!(stored, Ok(()));
            let cookie = session_in(&response).expect("it was written");
            assert_eq!(visit(&layer, &cookie, Session::get).0, page(&good));
            assert_eq!(visit(&layer, "", |session| session.set(page(&lost))).0, Err(REFUSED), "{lost:?}");
        }
        refused(vec![1, 2], vec![1, STANDARD, 2]);
        refused(BTreeMap::from([(1, 1)]), BTreeMap::from([(1, 1), (STANDARD, 2)]));
        refused([1, 2, 3], [1, STANDARD, 3]);
    }

    /// serde_json takes such a type as well.
    #[test]
    fn the_number_of_fields_that_a_struct_announces_is_not_looked_at() {
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        struct Sloppy {
            one: u8,
            two: u8,
        }
        impl Serialize for Sloppy {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut fields = serializer.serialize_struct("Sloppy", 0)?;
                fields.serialize_field("one", &self.one)?;
                fields.serialize_field("two", &self.two)?;
                fields.end()
            }
        }
        let sloppy = Sloppy { one: 1, two: 2 };
        let layer = layer::<Sloppy>(&Clock::new());
        let (stored, response) = visit(&layer, "", |session| session.set(sloppy.clone()));
        assert_eq!(stored, Ok(()));
        assert_eq!(visit(&layer, &session_in(&response).expect("written"), Session::get).0, sloppy);
    }

    #[test]
    fn a_session_without_a_layer_refuses_it_too() {
        let lost = Cart { discount: None, items: vec![(99, 0)] };
        assert_misread(&lost);
        let session = Session::detached(Cart::default());
        assert_eq!(session.set(lost), Err(REFUSED));
        assert_eq!(session.get(), Cart::default());
    }

    #[test]
    fn build_refuses_a_type_of_which_each_value_it_tries_is_misread_without_a_trace() {
        #[derive(Serialize, Deserialize)]
        struct CartTuple(#[serde(skip_serializing_if = "Option::is_none")] Option<u8>, Vec<(u8, u8)>);
        impl Default for CartTuple {
            fn default() -> Self {
                CartTuple(Some(0), Vec::new())
            }
        }
        #[derive(Default, Serialize, Deserialize)]
        enum Visit {
            #[default]
            Nothing,
            Cart {
                #[serde(skip_serializing_if = "Option::is_none")]
                discount: Option<u8>,
                items: Vec<(u8, u8)>,
            },
        }
        #[derive(Default, Serialize, Deserialize)]
        enum VisitTuple {
            #[default]
            Nothing,
            Cart(#[serde(skip_serializing_if = "Option::is_none")] Option<u8>, Vec<(u8, u8)>),
        }
        fn refused<T: Data>() {
            let clock = Clock::new();
            let build = builder::<T>(&clock).build();
            let doubted = matches!(build, Err(ConfigError::DoesNotComeBack { .. }));
            assert!(doubted, "{}: {build:?}", std::any::type_name::<T>());
            let writes = builder::<u8>(&clock).schema(2).migrate_from(1, |_: T| 0);
            let build = writes.write_as(1, |_| T::default()).build();
            let doubted = matches!(build, Err(ConfigError::DoesNotComeBack { .. }));
            assert!(doubted, "{}: {build:?}", std::any::type_name::<T>());
        }
        refused::<Cart>();
        refused::<Vec<Option<Cart>>>();
        refused::<CartTuple>();
        refused::<Visit>();
        refused::<VisitTuple>();
        let _ = [Visit::Cart { discount: None, items: Vec::new() }];
        let _ = [VisitTuple::Cart(None, Vec::new())];
    }

    /// A serializer is asked in each way that there is.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Everything {
        unsigned: (bool, u8, u16, u32, u64, u128),
        signed: (i8, i16, i32, i64, i128),
        floats: (f32, f64),
        text: (char, String),
        #[serde(serialize_with = "collected")]
        collected: String,
        /// Text, where a person is to read it.
        address: Option<IpAddr>,
        #[serde(serialize_with = "as_bytes")]
        bytes: Vec<u8>,
        nothing: (Option<u8>, (), Unit),
        lists: (Vec<Newtype>, [u16; 2], BTreeMap<String, Step>),
        tuples: (WithinTuple, Step),
        variants: [Step; 3],
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Unit;

    fn collected<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(text)
    }

    fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    fn everything() -> Everything {
        let order = || Order { discount: 1, items: vec![2, 3] };
        Everything {
            unsigned: (true, u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX),
            signed: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN),
            floats: (0.1, -0.0),
            text: ('ß', "text".to_owned()),
            collected: "collected".to_owned(),
            address: Some([127, 0, 0, 1].into()),
            bytes: vec![0, 255],
            nothing: (None, (), Unit),
            lists: (
                vec![Newtype(order())],
                [1, 300],
                BTreeMap::from([("key".to_owned(), Step::Placed(order()))]),
            ),
            tuples: (WithinTuple(1, order()), Step::BuyTuple(1, vec![2])),
            variants: [Step::Nothing, Step::Placed(order()), Step::Buy { discount: 1, items: vec![2] }],
        }
    }

    #[test]
    fn what_is_stored_is_what_postcard_writes() {
        let clock = Clock::new();
        let layer = builder::<Everything>(&clock).mode(Mode::Signed).build().expect("good settings");
        for value in [Everything::default(), everything()] {
            let cookie = sealed(&layer, &value, clock.now());
            assert_eq!(Ok(signed_payload(&cookie)), postcard::to_allocvec(&value));
            assert_eq!(visit(&layer, &cookie, Session::get).0, value);
        }
    }

    #[test]
    fn a_field_that_is_neither_written_nor_read_is_no_obstacle() {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct Page {
            user: u8,
            #[serde(skip)]
            cached: u8,
            visits: HashMap<String, WithACache>,
        }
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        struct WithACache(u8, #[serde(skip)] u8, u8);

        let clock = Clock::new();
        let layer = layer::<Page>(&clock);
        let page = |cached| Page {
            user: 1,
            cached,
            visits: (0..20).map(|n| (n.to_string(), WithACache(n, cached, 3))).collect(),
        };
        let (stored, response) = visit(&layer, "", |session| session.set(page(9)));
        assert_eq!(stored, Ok(()));
        let cookie = session_in(&response).expect("it was written");
        assert_eq!(visit(&layer, &cookie, Session::get).0, page(0));
    }
}

/// What the new struct has no place for stays as it came in, though the session is sent anew: small, and as large as fits.
#[test]
fn a_renewal_sends_the_older_form_as_it_came_in() {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Old {
        legacy: u8,
        text: String,
    }
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct New {
        text: String,
        note: u8,
    }
    let (clock, keys) = (Clock::new(), ring());
    let old = builder_over::<Old>(keys.clone(), &clock).build().expect("good settings");
    let new = builder_over::<New>(keys, &clock)
        .schema(2)
        .migrate_from(1, |old: Old| New { text: old.text, note: 0 })
        .write_as(1, |new: &New| Old { legacy: 0, text: new.text.clone() })
        .build()
        .expect("good settings");
    let value = |len| Old { legacy: 9, text: "x".repeat(len) };
    let Err(UpdateError::TooLarge(error)) = old.codec().seal(&value(5000), None, None, clock.now()) else {
        panic!("it fits")
    };
    // The other field is a byte, the length of the text two.
    for len in [10, error.max_payload() - 3] {
        let cookie = sealed(&old, &value(len), clock.now());
        let (renewed, response) = visit(&new, &cookie, Session::renew);
        assert!(renewed.expect("randomness").is_some());
        let cookie = session_in(&response).expect("it is sent");
        assert_eq!(visit(&old, &cookie, Session::get).0, value(len));
    }
}
