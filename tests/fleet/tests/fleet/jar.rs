//! The jar itself, where tests rely on what a browser drops and sends.

use fleet_tests::Jar;

const NOW: u64 = 1_800_000_000_000;

fn jar(set_cookies: &[&str]) -> Jar {
    let mut jar = Jar::default();
    set_cookies.iter().for_each(|set_cookie| jar.set_from("/shop/cart", set_cookie, NOW));
    jar
}

#[test]
fn a_cookie_goes_to_its_path_and_the_longer_path_goes_first() {
    let jar = jar(&["a=1; Path=/", "b=2; Path=/shop", "c=3", "d=4; Path=/shop/"]);
    assert_eq!(jar.cookies(NOW), "a=1");
    assert_eq!(jar.cookies_to("/shop", NOW), "b=2; c=3; a=1");
    assert_eq!(jar.cookies_to("/shop/cart", NOW), "d=4; b=2; c=3; a=1");
    assert_eq!(jar.cookies_to("/shopping", NOW), "a=1");
}

#[test]
fn a_cookie_ends_at_its_date_and_max_age_wins() {
    let date = "Fri, 15 Jan 2027 08:01:00 GMT";
    let jar =
        jar(&[&format!("a=1; Path=/; Expires={date}"), &format!("b=2; Path=/; Expires={date}; Max-Age=10")]);
    assert_eq!(jar.cookies(NOW + 9_999), "a=1; b=2");
    assert_eq!(jar.cookies(NOW + 59_999), "a=1");
    assert_eq!(jar.cookies(NOW + 60_000), "");
}

#[test]
fn a_removal_removes_the_cookie_of_its_domain_and_path_alone() {
    let gone = "Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    let mut jar = jar(&["a=1; Path=/", "a=2; Path=/; Domain=shop.example", "a=3; Path=/shop"]);
    jar.set(&format!("a=; Path=/; Domain=.SHOP.example; {gone}"), NOW);
    assert_eq!(jar.cookies_to("/shop", NOW), "a=3; a=1");
    jar.set("a=; Path=/; Max-Age=0", NOW);
    assert_eq!(jar.cookies_to("/shop", NOW), "a=3");
    jar.set(&format!("a=; Path=/shop; {gone}"), NOW);
    assert_eq!(jar, Jar::default());
}

#[test]
fn a_cookie_of_another_host_or_of_too_many_bytes_is_dropped() {
    let [fits, does_not] = [4095, 4096].map(|bytes| format!("a={}", "x".repeat(bytes)));
    assert_eq!(
        jar(&["a=1; Domain=other.example", "b=1; Domain=op.example", "c=1; Domain=x.shop.example"]),
        Jar::default()
    );
    assert_eq!((jar(&[&fits]).names(), jar(&[&does_not]).names()), (vec!["a"], vec![]));
}
