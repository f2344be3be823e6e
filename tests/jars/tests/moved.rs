//! A user's way from the old application to the new one.

use axum::body::Body;
use cookie_session::{ConfigError, Identity, JarKey, Session, SessionId, SessionLayer};
use http::{
    Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use jars_tests::{Held, KINDS, Kind, OLD, OldApp, Secret, builder, jar, layer, now, open};
use std::{convert::Infallible, time::Duration};
use tower::{Layer as _, ServiceExt as _, service_fn};

const OURS: &str = "__Host-Http-session";

fn secret() -> Secret {
    Secret::Master((7..39).collect())
}

/// One request to the new application, whose handler reads the session; what it read, and the cookies that are set.
fn visit(layer: &SessionLayer<Held>, cookies: &str) -> (String, Vec<String>) {
    answered(layer, cookies, |session| session.read(|held| held.text.clone()))
}

fn answered(
    layer: &SessionLayer<Held>,
    cookies: &str,
    handler: impl Fn(&Session<Held>) -> String,
) -> (String, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let handler = &handler;
    let service = layer.layer(service_fn(async |request: Request<Body>| {
        let session = Session::<Held>::from_parts(&request.into_parts().0).expect("the layer is around");
        Ok::<_, Infallible>(Response::new(handler(&session)))
    }));
    let request = Request::get("/").header(COOKIE, cookies).body(Body::empty()).expect("a request");
    let Ok(response) = runtime.block_on(service.oneshot(request));
    let set = response.headers().get_all(SET_COOKIE).iter();
    let set = set.map(|cookie| cookie.to_str().expect("ASCII").to_owned()).collect();
    (response.into_body(), set)
}

fn id(layer: &SessionLayer<Held>, cookies: &str) -> SessionId {
    open(layer, cookies.as_bytes()).meta().expect("a session").id()
}

/// The `name=value` of a `Set-Cookie`.
fn pair(set_cookie: &str) -> &str {
    set_cookie.split(';').next().expect("a pair")
}

#[test]
fn a_user_who_comes_with_the_old_cookie_goes_with_ours_alone() {
    for kind in KINDS {
        let old = OldApp::new(kind, &secret());
        let identity = Identity::named(OLD).domain("example.com").path("/shop").partitioned();
        let import = jar(kind, identity, secret().ours());
        let new = builder().import(import, now() + Duration::from_secs(1)).build().expect("good settings");
        let cookie = old.set(&[(OLD, "Größe; 7")]);
        let (text, set) = visit(&new, &cookie);
        assert_eq!(text, "Größe; 7");
        let [ours, gone] = &set[..] else { panic!("{set:?}") };
        assert!(ours.starts_with(&format!("{OURS}=")) && ours.contains("Max-Age=86400"), "{ours}");
        let mut attributes: Vec<_> = gone.split("; ").collect();
        attributes.sort_unstable();
        assert_eq!(
            attributes,
            [
                "Domain=example.com",
                "HttpOnly",
                "Max-Age=0",
                "Partitioned",
                "Path=/shop",
                "SameSite=Lax",
                "Secure",
                &format!("{OLD}="),
            ]
        );
        let imported = id(&new, &cookie);
        assert_eq!(id(&new, pair(ours)), imported);
        let (text, set) = visit(&new, pair(ours));
        assert_eq!((text.as_str(), set), ("Größe; 7", Vec::new()));
        // Ours wins, whatever else is there.
        let beside = format!("{}; {}", pair(ours), old.set(&[(OLD, "8")]));
        assert_eq!(visit(&new, &beside), ("Größe; 7".to_owned(), Vec::new()));
    }
}

#[test]
fn with_keep_old_cookies_the_old_one_stays() {
    for kind in KINDS {
        let old = OldApp::new(kind, &secret());
        let import = jar(kind, Identity::named(OLD), secret().ours());
        let keeps = builder().import(import, now() + Duration::from_secs(1)).keep_old_cookies();
        let keeps = keeps.build().expect("good settings");
        let cookie = old.set(&[(OLD, "7")]);
        let (_, set) = visit(&keeps, &cookie);
        let [ours] = &set[..] else { panic!("{set:?}") };
        assert!(ours.starts_with(OURS));
        // Whoever is sent back is signed in there, with the cookie that is left.
        assert_eq!(old.read(cookie.as_bytes(), OLD).as_deref(), Some("7"));
        let (_, set) = answered(&keeps, &cookie, |session| session.clear().to_string());
        assert!(set.iter().any(|cookie| cookie.starts_with(&format!("{OLD}=;"))), "{set:?}");
    }
}

#[test]
fn parallel_first_requests_make_one_session_and_other_values_others() {
    for kind in KINDS {
        let old = OldApp::new(kind, &secret());
        // Two instances, which share the old key and no key of ours.
        let instances = [layer(kind, &secret()), layer(kind, &secret())];
        let cookie = old.set(&[(OLD, "7")]);
        let first = id(&instances[0], &cookie);
        assert_eq!(id(&instances[1], &cookie), first);
        // Nor does it count how the value was encoded on its way.
        let value = cookie.strip_prefix(OLD).expect("the name").replace("%2F", "/").replace("%3D", "=");
        assert_eq!(id(&instances[1], &format!("{OLD}{value}")), first);
        assert_ne!(id(&instances[0], &old.set(&[(OLD, "8")])), first);
    }
}

/// A private cookie has a nonce, a signed one is its text. Whoever denies an id denies all who have it.
#[test]
fn one_text_in_two_browsers_makes_two_sessions_of_private_cookies_and_one_of_signed_ones() {
    for kind in KINDS {
        let (old, new) = (OldApp::new(kind, &secret()), layer(kind, &secret()));
        let ids = [(); 2].map(|()| id(&new, &old.set(&[(OLD, "guest")])));
        assert_eq!(ids[0] == ids[1], kind == Kind::Signed, "{kind:?}");
    }
}

#[test]
fn from_the_date_on_nothing_is_imported() {
    for kind in KINDS {
        let cookie = OldApp::new(kind, &secret()).set(&[(OLD, "7")]);
        for (left, text) in [(1, "7"), (0, "")] {
            let import = jar(kind, Identity::named(OLD), secret().ours());
            let layer =
                builder().import(import, now() + Duration::from_millis(left)).build().expect("good settings");
            let (read, set) = visit(&layer, &cookie);
            assert_eq!((read.as_str(), set.is_empty()), (text, text.is_empty()));
        }
    }
}

#[test]
fn a_text_that_is_none_of_ours_is_refused_and_left_alone() {
    for kind in KINDS {
        let old = OldApp::new(kind, &secret());
        let read = |text: &str| text.parse::<u64>().ok().map(|user| Held { text: user.to_string() });
        let import = match kind {
            Kind::Private => cookie_session::Jar::private(Identity::named(OLD), secret().ours(), read),
            Kind::Signed => cookie_session::Jar::signed(Identity::named(OLD), secret().ours(), read),
        };
        let layer = builder().import(import, now() + Duration::from_secs(1)).build().expect("good settings");
        let of = |text| visit(&layer, &old.set(&[(OLD, text)]));
        assert_eq!(of("07").0, "7");
        assert_eq!(of("seven"), (String::new(), Vec::new()));
    }
}

/// Too large for our cookie, which has a frame and attributes: it is in use, and stays where it was.
#[test]
fn a_session_that_does_not_fit_is_used_and_stays_in_its_old_cookie() {
    for kind in KINDS {
        let (old, new) = (OldApp::new(kind, &secret()), layer(kind, &secret()));
        let text = "x".repeat(3040);
        let cookie = old.set_plain(OLD, &text);
        assert_eq!(visit(&new, &cookie), (text, Vec::new()));
        assert_eq!(new.keys().counters().reissues_too_large, 1);
    }
}

#[test]
fn short_keys_are_refused_by_build() {
    for kind in KINDS {
        for (key, short) in [
            (JarKey::new(&[7; 63]), Some((63, 64))),
            (JarKey::new(&[]), Some((0, 64))),
            (JarKey::new(&[7; 64]), None),
            (JarKey::derive_from(&[7; 31]), Some((31, 32))),
            (JarKey::derive_from(&[]), Some((0, 32))),
            (JarKey::derive_from(&[7; 32]), None),
        ] {
            let built = builder().import(jar(kind, Identity::named(OLD), key), now()).build();
            let refused = match built {
                Err(ConfigError::OldKeyShort { bytes, least }) => Some((bytes, least)),
                Err(error) => panic!("{error}"),
                Ok(_) => None,
            };
            assert_eq!(refused, short, "{kind:?}");
        }
    }
    assert!(cookie::Key::try_from(&[7; 63][..]).is_err());
    assert!(std::panic::catch_unwind(|| cookie::Key::derive_from(&[7; 31])).is_err());
}
