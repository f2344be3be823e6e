//! Sessions that the real cookie-session issued over HTTP, opened by our server: the same session, in our cookie
//! alone.

use cookie_session::{Express as Import, Incoming, SessionBuilder};
use migration_tests::{
    Browser, Data, Digest, Encoding, Express, Json, Ours, Report, Settings, Shop, builder, now,
};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const NAME: &str = "__Host-Http-session";
const KEY: &str = "a key of Express, long enough";
const OLD: &str = "an older key of Express, also long";

fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(24 * 60 * 60)
}

/// Our server that imports what such an app has, whatever is in its sessions.
fn ours(settings: &Settings) -> SessionBuilder<Json> {
    builder().import(import(settings), tomorrow())
}

fn import(settings: &Settings) -> Import<Json> {
    settings.import().convert(|json: Value| Some(Json::of(json)))
}

/// Takes a browser that has a session in Express to our server: it is the same session there, by our cookie alone.
#[track_caller]
fn moves(mut browser: Browser, session: &Value, ours: &Ours) -> Report {
    let imported = browser.read(ours.port);
    assert_eq!((imported.incoming(), imported.is_new), (format!("{:?}", Incoming::Imported).as_str(), false));
    assert_eq!(imported.session, *session);
    assert_eq!(browser.jar.names(), [NAME]);
    let accepted = browser.ask(ours.port, "GET", "/read", "");
    assert_eq!(accepted.set_cookies, [""; 0]);
    assert_eq!((accepted.report.incoming(), accepted.report.id()), ("Accepted", imported.id()));
    assert_eq!(accepted.report.session, *session);
    imported
}

/// A browser with a session that an Express app issued.
#[track_caller]
fn issued(settings: &Settings, session: &Value) -> Browser {
    let express = Express::start(settings);
    let mut browser = Browser::default();
    browser.set(express.port, session);
    let of_signature = format!("{}.sig", settings.name);
    assert_eq!(browser.jar.names(), [&*settings.name, &*of_signature]);
    assert_eq!(browser.read(express.port).session, *session);
    browser
}

#[track_caller]
fn moves_over(settings: &Settings, session: &Value) -> Report {
    moves(issued(settings, session), session, &Ours::start(ours(settings)))
}

#[test]
fn a_session_under_one_key_or_several() {
    for keys in [&[KEY][..], &[KEY, OLD], &[OLD, KEY, "a third key, of which there may be more"]] {
        moves_over(&Settings::new(keys), &json!({ "user": "ada", "views": 3 }));
    }
}

#[test]
fn a_session_that_an_older_key_signed() {
    let session = json!({ "user": "ada" });
    let before = issued(&Settings::new(&[OLD]), &session);
    let after = Settings::new(&[KEY, OLD]);
    let id = moves(before.clone(), &session, &Ours::start(ours(&after))).id;
    // Express signs it again with the new key, and it is the same value.
    let express = Express::start(&after);
    let mut signed_again = before.clone();
    assert_eq!(signed_again.read(express.port).session, session);
    assert_ne!(signed_again.jar, before.jar);
    assert_ne!(moves(signed_again, &session, &Ours::start(ours(&after))).id, id);
    // Where the old key is gone it is none.
    let mut late = before.clone();
    let report = late.read(Ours::start(ours(&Settings::new(&[KEY]))).port);
    assert_eq!((report.incoming(), &report.session), ("Rejected(NotAuthentic)", &json!({})));
    assert_eq!(late.jar, before.jar);
}

#[test]
fn each_digest_in_each_encoding_and_in_no_other() {
    let session = json!({ "user": "ada" });
    let all = Digest::ALL.map(|digest| Encoding::ALL.map(|encoding| (digest, encoding)));
    let settings: Vec<_> = all
        .concat()
        .into_iter()
        .map(|(digest, encoding)| Settings { digest, encoding, ..Settings::new(&[KEY, OLD]) })
        .collect();
    let servers: Vec<_> = settings.iter().map(|settings| Ours::start(ours(settings))).collect();
    for (at, settings) in settings.iter().enumerate() {
        let browser = issued(settings, &session);
        moves(browser.clone(), &session, &servers[at]);
        for (_, other) in servers.iter().enumerate().filter(|(other, _)| *other != at) {
            let mut browser = browser.clone();
            assert_eq!(browser.read(other.port).incoming(), "Rejected(NotAuthentic)", "{settings:?}");
        }
    }
}

#[test]
fn whatever_json_holds() {
    let settings = Settings::new(&[KEY]);
    let (express, ours) = (Express::start(&settings), Ours::start(ours(&settings)));
    for session in [
        json!({ "a": "" }),
        json!({ "text": "größe, 日本, 🍪, e\u{301}, \u{0}\u{1f}\t\n\"\\/\u{7f}\u{2028}", "ключ": "🔑" }),
        json!({ "a": [[], {}, [{ "b": [null, true, false] }]], "c": { "d": { "e": {} } } }),
        json!({ "zero": 0, "minus": -1, "max": 9007199254740991_u64, "min": -9007199254740991_i64 }),
        json!({ "half": 0.5, "tenth": 0.1, "large": 1e21, "small": 1e-7, "largest": f64::MAX, "least": 5e-324 }),
        json!({ "10": 1, "9": 2, "b": 3, "a": 4, "": 5, "x y": 6, "a.b": 7 }),
        json!({ "_private": 1, "length": 2, "passport": { "user": 42 }, "csrfSecret": "x", "flash": { "error": [] } }),
        json!({ "in": { "constructor": 1, "__proto__": 2, "isNew": 3 } }),
    ] {
        let mut browser = Browser::default();
        browser.set(express.port, &session);
        moves(browser, &session, &ours);
    }
}

#[test]
fn a_session_whose_values_were_all_taken_out() {
    let settings = Settings::new(&[KEY]);
    let mut browser = issued(&settings, &json!({ "user": "ada" }));
    // Express does not send an empty one; it stands in its cookie as `{}`.
    let value = "e30=";
    browser.jar.set(&format!("session={value}; path=/; httponly"), now());
    let signature = settings.sign(KEY.as_bytes(), value.as_bytes());
    browser.jar.set(&format!("session.sig={signature}; path=/; httponly"), now());
    moves(browser, &json!({}), &Ours::start(ours(&settings)));
}

#[test]
fn keys_of_any_octets_and_lengths() {
    let session = json!({ "user": "ada" });
    let keys: [Vec<u8>; 7] = [
        (0..=255).collect(),
        vec![0; 16],
        vec![0xff; 64],
        vec![b'k'; 65],
        vec![b'k'; 129],
        "schlüssel-🔑-秘密".as_bytes().to_vec(),
        [&[0, 0xff, 0x80][..], &[b'\n'; 20]].concat(),
    ];
    for key in keys {
        moves_over(&Settings { keys: vec![key], ..Settings::new(&[]) }, &session);
    }
}

#[test]
fn names_that_have_a_dot_or_a_prefix_and_the_signature_s_own() {
    let session = json!({ "user": "ada" });
    for name in ["my.session", "session.sig", "sid", "a", "$+^*|", "__Host-old", "__Secure-old"] {
        moves_over(&Settings { name: name.to_owned(), ..Settings::new(&[KEY]) }, &session);
    }
}

#[test]
fn old_cookies_go_with_the_domain_and_the_path_that_they_were_set_with() {
    let session = json!({ "user": "ada" });
    for options in [
        json!({ "domain": "shop.example" }),
        json!({ "domain": ".shop.example" }),
        json!({ "path": "/app" }),
        json!({ "domain": "shop.example", "path": "/app", "sameSite": "lax", "httpOnly": false }),
        json!({ "maxAge": 60_000, "sameSite": "strict" }),
        json!({ "partitioned": true }),
    ] {
        let settings = Settings { options: options.clone(), ..Settings::new(&[KEY]) };
        let (express, ours) = (Express::start(&settings), Ours::start(ours(&settings)));
        let mut browser = Browser::default();
        browser.ask(express.port, "POST", "/app/set", &session.to_string());
        assert_eq!(browser.jar.names(), ["session", "session.sig"], "{options}");
        let imported = browser.ask(ours.port, "GET", "/app/read", "").report;
        assert_eq!((imported.incoming(), &imported.session), ("Imported", &session), "{options}");
        assert_eq!(browser.jar.names(), [NAME], "{options}");
        assert_eq!(browser.read(ours.port).id(), imported.id(), "{options}");
    }
}

#[test]
fn without_the_domain_or_the_path_they_stay_and_ours_wins() {
    let session = json!({ "user": "ada" });
    for options in [json!({ "domain": "shop.example" }), json!({ "path": "/app" })] {
        let settings = Settings { options: options.clone(), ..Settings::new(&[KEY]) };
        let (express, ours) = (Express::start(&settings), Ours::start(ours(&Settings::new(&[KEY]))));
        let mut browser = Browser::default();
        browser.ask(express.port, "POST", "/app/set", &session.to_string());
        let imported = browser.ask(ours.port, "POST", "/app/add", "").report;
        assert_eq!(imported.incoming(), "Imported", "{options}");
        assert_eq!(browser.jar.names(), ["session", "session.sig", NAME], "{options}");
        let next = browser.ask(ours.port, "GET", "/app/read", "").report;
        assert_eq!((next.incoming(), next.views()), ("Accepted", Some(1)), "{options}");
    }
}

#[test]
fn an_expiry_is_the_browser_s_and_the_date_of_the_import_ours() {
    let session = json!({ "user": "ada" });
    let options = json!({ "maxAge": 60_000 });
    let settings = Settings { options, ..Settings::new(&[KEY]) };
    let browser = issued(&settings, &session);
    assert_eq!(browser.jar.cookies(now() + 60_001), "");
    let until = SystemTime::now() + Duration::from_secs(1000);
    let at = |time| {
        let sessions = builder().import(import(&settings), until).clock(move || time);
        browser.clone().read(Ours::start::<Json>(sessions).port)
    };
    let before = at(until - Duration::from_millis(1));
    assert_eq!((before.incoming(), &before.session), ("Imported", &session));
    // From then on these cookies are nothing to us.
    assert_eq!((at(until).incoming(), at(until).session), ("Absent", json!({})));
}

/// The longest value that a browser keeps under this name, as a session in a shop.
fn largest(name: &str, more: usize) -> Value {
    let octets = (4096 - name.len()) / 4 * 3 + more;
    let numbers = json!({ "user": "", "views": 1, "cart": [1_000_000_000] }).to_string().len();
    let cart = vec![1_000_000_000_u32; (octets - numbers) / 11 + 1];
    let mut session = json!({ "user": "", "views": 1, "cart": cart });
    let rest = octets - session.to_string().len();
    session["user"] = "x".repeat(rest).into();
    assert_eq!(session.to_string().len(), octets);
    session
}

#[test]
fn the_largest_session_that_a_browser_keeps_moves_if_the_shop_s_type_makes_it_smaller() {
    for name in ["session", "my.session", "a"] {
        let settings = Settings { name: name.to_owned(), ..Settings::new(&[KEY]) };
        let session = largest(name, 0);
        let browser = issued(&settings, &session);
        assert!(browser.jar.get(name).is_some_and(|value| name.len() + value.len() > 4092));
        let sessions = builder::<Shop>().import(settings.import(), tomorrow());
        moves(browser, &session, &Ours::start(sessions));
        // With one octet more it is too long, and the browser drops it.
        let mut browser = Browser::default();
        browser.set(Express::start(&settings).port, &largest(name, 1));
        assert_eq!(browser.jar.names(), [format!("{name}.sig")]);
    }
}

#[test]
fn a_session_that_does_not_fit_into_our_cookie_stays_where_it_is_and_is_read_from_there() {
    let settings = Settings::new(&[KEY]);
    let session = largest("session", 0);
    let (mut browser, ours) = (issued(&settings, &session), Ours::start(ours(&settings)));
    let before = browser.jar.clone();
    let first = browser.ask(ours.port, "GET", "/read", "");
    assert_eq!((first.report.incoming(), &first.report.session), ("Imported", &session));
    assert_eq!(first.set_cookies, [""; 0]);
    assert_eq!(browser.jar, before);
    assert_eq!(browser.read(ours.port).id(), first.report.id());
    // Signed out, nothing of it is left.
    browser.post(ours.port, "/logout");
    assert!(!browser.jar.names().contains(&"session") && !browser.jar.names().contains(&"session.sig"));
    assert_eq!(browser.read(ours.port).session, json!({}));
}

#[test]
fn straight_into_the_shop_s_type_or_not_at_all() {
    let settings = Settings::new(&[KEY]);
    let ours = Ours::start(builder::<Shop>().import(settings.import(), tomorrow()));
    let session = json!({ "user": "ada", "views": 7, "cart": [1, 2] });
    moves(issued(&settings, &session), &session, &ours);
    // What the type has beyond it has its default, and what it does not have goes.
    let mut browser = issued(&settings, &json!({ "views": 7, "theme": "dark" }));
    assert_eq!(browser.read(ours.port).session, json!({ "user": null, "views": 7, "cart": [] }));
    // What is none of the type is refused, and stays for whoever knows it.
    let mut browser = issued(&settings, &json!({ "views": "seven" }));
    let before = browser.jar.clone();
    let report = browser.read(ours.port);
    assert_eq!((report.incoming(), report.session["views"].as_u64()), ("Rejected(Payload)", Some(0)));
    assert_eq!(browser.jar, before);
}
