//! `trust proxy`: whose word is taken on who asks, and how.

mod common;

use axum::http::{HeaderMap, HeaderValue};
use common::{PASSWORD, Reply, Site, USER};
use secure_app::client::Client;
use std::net::{IpAddr, SocketAddr};

const TRUSTED: [&str; 3] = ["10.0.0.0/8", "2001:db8:10::/48", "192.0.2.1/32"];
const PROXY: &str = "10.0.0.1:4711";

/// What the app takes for the client of a request from `peer` with these headers.
fn client(peer: &str, tls: bool, headers: &[(&'static str, &str)]) -> Client {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    let trusted = TRUSTED.map(|network| network.parse().unwrap());
    Client::of(peer.parse::<SocketAddr>().unwrap(), tls, &map, &trusted)
}

#[test]
fn the_client_is_the_last_one_of_the_list_that_no_trusted_proxy_is() {
    let cases: &[(&str, &[&str], &str)] = &[
        // No proxy of ours: whatever it says.
        ("203.0.113.9:1", &[], "203.0.113.9"),
        ("203.0.113.9:1", &["198.51.100.1"], "203.0.113.9"),
        ("203.0.113.9:1", &["10.0.0.1"], "203.0.113.9"),
        ("[2001:db8::9]:1", &["198.51.100.1"], "2001:db8::9"),
        // Just outside a network.
        ("11.0.0.0:1", &["198.51.100.1"], "11.0.0.0"),
        ("9.255.255.255:1", &["198.51.100.1"], "9.255.255.255"),
        ("192.0.2.2:1", &["198.51.100.1"], "192.0.2.2"),
        ("[2001:db8:11::1]:1", &["198.51.100.1"], "2001:db8:11::1"),
        // One of ours.
        (PROXY, &[], "10.0.0.1"),
        (PROXY, &["198.51.100.1"], "198.51.100.1"),
        ("10.255.255.255:1", &["198.51.100.1"], "198.51.100.1"),
        ("[2001:db8:10:ffff::1]:1", &["198.51.100.1"], "198.51.100.1"),
        // IPv4 on a socket for both.
        ("[::ffff:10.0.0.1]:1", &["198.51.100.1"], "198.51.100.1"),
        ("[::ffff:203.0.113.9]:1", &["198.51.100.1"], "203.0.113.9"),
        // Whatever a client has put before.
        (PROXY, &["127.0.0.1, 198.51.100.1"], "198.51.100.1"),
        (PROXY, &["203.0.113.1, 203.0.113.2, 198.51.100.1"], "198.51.100.1"),
        (PROXY, &["10.0.0.2, 198.51.100.1"], "198.51.100.1"),
        // Through several of ours.
        (PROXY, &["203.0.113.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        (PROXY, &["203.0.113.1, 198.51.100.1, 10.0.0.2, 2001:db8:10::5, 192.0.2.1"], "198.51.100.1"),
        (PROXY, &["198.51.100.1, 203.0.113.1, 10.0.0.2"], "203.0.113.1"),
        // None but ours: the farthest one.
        (PROXY, &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (PROXY, &["10.0.0.2"], "10.0.0.2"),
        // Several headers are one list.
        (PROXY, &["203.0.113.1", "198.51.100.1"], "198.51.100.1"),
        (PROXY, &["203.0.113.1, 198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        (PROXY, &["198.51.100.1", "10.0.0.2, 10.0.0.3", "10.0.0.4"], "198.51.100.1"),
        // In all ways of writing.
        (PROXY, &["198.51.100.1:4711"], "198.51.100.1"),
        (PROXY, &["2001:db8::1"], "2001:db8::1"),
        (PROXY, &["[2001:db8::1]"], "2001:db8::1"),
        (PROXY, &["[2001:db8::1]:4711"], "2001:db8::1"),
        (PROXY, &["::ffff:198.51.100.1"], "198.51.100.1"),
        (PROXY, &["198.51.100.1, ::ffff:10.0.0.2"], "198.51.100.1"),
        (PROXY, &["  198.51.100.1 ,\t10.0.0.2  "], "198.51.100.1"),
        // What is no address ends the list: before it, nothing is known to be true.
        (PROXY, &["198.51.100.1, garbage"], "10.0.0.1"),
        (PROXY, &["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
        (PROXY, &["198.51.100.1,"], "10.0.0.1"),
        (PROXY, &["198.51.100.1,,10.0.0.2"], "10.0.0.2"),
        (PROXY, &[""], "10.0.0.1"),
        (PROXY, &["198.51.100.1", ""], "10.0.0.1"),
        (PROXY, &["[198.51.100.1"], "10.0.0.1"),
        (PROXY, &["198.51.100.1]"], "10.0.0.1"),
        (PROXY, &["[2001:db8::1]x"], "10.0.0.1"),
        (PROXY, &["198.51.100.1:99999"], "10.0.0.1"),
        (PROXY, &["198.51.100.1:"], "10.0.0.1"),
        (PROXY, &["198.51.100.01"], "10.0.0.1"),
        (PROXY, &["198.51.100"], "10.0.0.1"),
        (PROXY, &["0x7f.1"], "10.0.0.1"),
        (PROXY, &["_hidden"], "10.0.0.1"),
        (PROXY, &["198.51.100.1 10.0.0.2"], "10.0.0.1"),
        (PROXY, &["fe80::1%eth0"], "10.0.0.1"),
        (PROXY, &["198.51.100.1, \u{e9}"], "10.0.0.1"),
    ];
    for (peer, lists, expected) in cases {
        let headers: Vec<_> = lists.iter().map(|list| ("x-forwarded-for", *list)).collect();
        let address: IpAddr = expected.parse().unwrap();
        let found = client(peer, true, &headers);
        assert_eq!(found, Client { address, https: true }, "{peer} {lists:?}");
    }
    // Other headers have no say.
    let headers = [("forwarded", "for=198.51.100.1"), ("x-real-ip", "198.51.100.1"), ("via", "198.51.100.1")];
    assert_eq!(client(PROXY, true, &headers).address.to_string(), "10.0.0.1");
}

#[test]
fn whether_the_browser_came_by_https_is_said_by_the_nearest_proxy_if_it_is_trusted() {
    let cases: &[(&str, &[&str], Option<bool>)] = &[
        // `None`: as the connection itself.
        ("203.0.113.9:1", &["https"], None),
        ("203.0.113.9:1", &["http"], None),
        (PROXY, &[], None),
        (PROXY, &["https"], Some(true)),
        (PROXY, &["HTTPS"], Some(true)),
        (PROXY, &["http"], Some(false)),
        (PROXY, &["http, https"], Some(true)),
        (PROXY, &["https, http"], Some(false)),
        (PROXY, &["https", "http"], Some(false)),
        (PROXY, &["http", " https "], Some(true)),
        // What nobody understands is not https.
        (PROXY, &[""], Some(false)),
        (PROXY, &["wss"], Some(false)),
        (PROXY, &["https,"], Some(false)),
        (PROXY, &["httpsx"], Some(false)),
    ];
    for (peer, schemes, expected) in cases {
        let headers: Vec<_> = schemes.iter().map(|scheme| ("x-forwarded-proto", *scheme)).collect();
        for tls in [false, true] {
            assert_eq!(client(peer, tls, &headers).https, expected.unwrap_or(tls), "{peer} {schemes:?}");
        }
    }
    let headers = [("forwarded", "proto=https"), ("x-forwarded-ssl", "on"), ("front-end-https", "on")];
    assert!(!client(PROXY, false, &headers).https);
}

// ------------------------------------------------------------------------------------------------ In the running app

fn attempt(site: &Site, forwarded: &str, password: &str) -> Reply {
    let form = format!("username={USER}&password={}", password.replace(' ', "+"));
    let headers = [("X-Forwarded-For", forwarded), ("Content-Type", "application/x-www-form-urlencoded")];
    site.send("POST", "/login", &headers, &form)
}

#[test]
fn nobody_gets_out_of_a_lock_by_a_header() {
    // Nobody is trusted, then somebody else.
    for settings in ["", "trusted_proxies = ['10.0.0.0/8']"] {
        let site = Site::start(settings);
        for number in 0..10 {
            assert_eq!(attempt(&site, &format!("192.0.2.{number}"), "wrong").status, 403);
        }
        assert_eq!(attempt(&site, "192.0.2.99", PASSWORD).status, 429);
    }
    // Behind a proxy it is what that has appended that counts.
    let site = Site::start("trusted_proxies = ['127.0.0.1/32']");
    for number in 0..10 {
        assert_eq!(attempt(&site, &format!("203.0.113.{number}, 192.0.2.1"), "wrong").status, 403);
    }
    assert_eq!(attempt(&site, "203.0.113.99, 192.0.2.1", PASSWORD).status, 429);
    assert_eq!(attempt(&site, "192.0.2.1, 203.0.113.1", PASSWORD).status, 303);
}

#[test]
fn a_trusted_proxy_says_whether_the_browser_came_by_https() {
    let trusts = Site::start("trusted_proxies = ['127.0.0.1/32']");
    let doubts = Site::start("");
    // By which listener, what is said, and whether the app then redirects to https.
    let cases = [
        (&trusts, "plain", "https", false),
        (&trusts, "plain", "http", true),
        (&trusts, "plain", "", true),
        (&trusts, "tls", "http", true),
        (&trusts, "tls", "https", false),
        (&trusts, "tls", "", false),
        (&doubts, "plain", "https", true),
        (&doubts, "plain", "", true),
        (&doubts, "tls", "http", false),
        (&doubts, "tls", "", false),
    ];
    for (site, listener, scheme, redirects) in cases {
        let what = format!("{listener}, {scheme:?}");
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        let headers = [form, ("X-Forwarded-Proto", scheme)];
        let reply = match listener {
            "tls" => site.send("POST", "/cart", &headers, "tea=1"),
            _ => site.send_plain("POST", "/cart", &headers, "tea=1"),
        };
        if redirects {
            assert_eq!(reply.status, 308, "{what}: {reply:?}");
            assert_eq!(reply.header("location"), Some(&*site.url("/cart")), "{what}");
            assert_eq!(reply.cookies(), "", "{what}");
        } else {
            assert_eq!((reply.status, reply.header("location")), (303, Some("/")), "{what}: {reply:?}");
            assert!(!reply.cookies().is_empty(), "{what}");
        }
    }
}
