//! The app in Chromium: what its users and their cookies can rely on there.

mod common;

use axum::{
    Router,
    response::Html,
    routing::{get, post},
};
use browser_tests::{Browser, Gates, Server, StoredCookie, TempDir, spawn, wait_for};
use common::{NAME, PASSWORD, Reply, Site, USER};
use cookie_session::Session;
use secure_app::session::{Line, Visit};
use serde_json::json;
use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const SIGN_IN: &str = "form[action='/login'] button";
const SIGN_OUT: &str = "form[action='/logout'] button";
const SIGN_OUT_EVERYWHERE: &str = "form[action='/logout/everywhere'] button";
const ADD: &str = "form[action='/cart'] button";
const FILL: &str = "form[action='/cart/fill'] button";

/// Bytes of a whole `Set-Cookie` value, at most.
const LIMIT: usize = 4093;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// By the form, as people do.
#[track_caller]
fn sign_in(browser: &Browser, site: &Site) {
    browser.go(&site.url("/login"));
    sign_in_as(browser, USER, PASSWORD);
}

#[track_caller]
fn sign_in_as(browser: &Browser, user: &str, password: &str) {
    browser.type_into("[name=username]", user);
    browser.type_into("[name=password]", password);
    let page = browser.follow(SIGN_IN);
    assert!(page.contains(&format!("Signed in as {user}")), "{page}");
}

/// Whom the app takes this browser for.
#[track_caller]
fn user(browser: &Browser, site: &Site) -> Option<String> {
    browser.go(&site.url("/"));
    let user = (browser.count("#user") == 1).then(|| browser.text("#user"));
    assert_eq!(browser.count("a[href='/login']"), usize::from(user.is_none()));
    user
}

#[track_caller]
fn session_cookie(browser: &Browser) -> StoredCookie {
    let cookies = browser.cookies_named(NAME);
    let [cookie] = &cookies[..] else { panic!("{cookies:?}") };
    cookie.clone()
}

/// Texts of the cards in the cart of the page that is shown.
fn cards(browser: &Browser) -> Vec<String> {
    let script = "return [...document.querySelectorAll('td small')].map(card => card.textContent)";
    serde_json::from_value(browser.run(script, json!([]))).expect("a list")
}

#[test]
fn signing_in_by_the_form_stores_one_cookie_with_the_strictest_flags() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    sign_in(&browser, &site);
    assert_eq!(browser.address(), site.url("/"));
    let cookies = browser.cookies();
    let [cookie] = &cookies[..] else { panic!("{cookies:?}") };
    assert_eq!(cookie.name, "__Host-Http-id");
    assert_eq!((cookie.domain.as_str(), cookie.path.as_str()), ("localhost", "/"));
    assert!(cookie.http_only && cookie.secure && !cookie.partitioned);
    assert_eq!(cookie.same_site.as_deref(), Some("Lax"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let left = cookie.expires.expect("a lifetime") - now;
    assert!((86_340..=86_401).contains(&left), "24 h, not {left} s");
}

#[test]
fn the_program_runs_without_configuration_and_its_demo_user_signs_in() {
    let (program, browser) = (Program::start(), Browser::trusting());
    let page = browser.go(&program.url());
    assert!(page.contains("You have no cookie yet"), "{page}");
    browser.follow("a[href='/login']");
    sign_in_as(&browser, "demo", &program.password());
    assert_eq!(browser.address(), program.url());
    session_cookie(&browser);
}

#[test]
fn no_script_reads_the_session_cookie() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    sign_in(&browser, &site);
    session_cookie(&browser);
    assert_eq!(browser.run("return document.cookie", json!([])), "");
    // The page's own script has looked, too.
    assert_eq!(browser.text("#script-sees"), "\"\" (nothing)");
    assert_eq!(browser.text("#script-ran").trim(), "(a script on this page has just looked)");
    // Scripts do see cookies that are for them.
    assert_eq!(browser.run("document.cookie = 'a=b'; return document.cookie", json!([])), "a=b");
}

// ------------------------------------------------------------------------------------------------ Scripts and styles

/// Notes what the policy stops, on every page from now on, before anything of the page's own runs.
fn note_what_is_stopped(browser: &Browser) {
    let source = "window.stopped = []; \
        addEventListener('securitypolicyviolation', event => \
            stopped.push(`${event.effectiveDirective} ${event.blockedURI}`));";
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source }));
}

/// What was stopped on this page.
#[track_caller]
fn stopped(browser: &Browser) -> Vec<String> {
    const LAST: &str = "https://last.example/script.js";
    // They are told in their order: when the last one has come, all have.
    let script = "const script = document.createElement('script'); \
        script.src = arguments[0]; \
        document.body.append(script);";
    browser.run(script, json!([LAST]));
    wait_for("what the policy stopped", || {
        let mut all: Vec<String> =
            serde_json::from_value(browser.run("return stopped", json!([]))).expect("a list");
        all.iter().any(|one| one.ends_with(LAST)).then(|| {
            all.retain(|one| !one.ends_with(LAST));
            all
        })
    })
}

#[test]
fn the_policy_stops_nothing_that_the_pages_have_themselves() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    note_what_is_stopped(&browser);
    #[track_caller]
    fn assert_whole(browser: &Browser) {
        let page = browser.address();
        assert_eq!(stopped(browser), [""; 0], "{page}");
        // What the style sheet says of it.
        let style = "return getComputedStyle(document.querySelector('.card')).borderRadius";
        assert_eq!(browser.run(style, json!([])), "12px", "{page}");
        if browser.count("#script-ran") > 0 {
            assert!(browser.text("#script-ran").contains("has just looked"), "{page}");
        }
    }
    for path in ["/", "/login", "/nothing-is-here"] {
        browser.go(&site.url(path));
        assert_whole(&browser);
    }
    assert_eq!(browser.text(".code"), "404");
    sign_in(&browser, &site);
    assert_whole(&browser);
    browser.follow(FILL);
    assert_eq!(browser.count(".notice"), 1);
    assert_whole(&browser);
}

#[test]
fn scripts_and_styles_that_somebody_slipped_into_a_page_do_nothing() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    note_what_is_stopped(&browser);
    browser.go(&site.url("/"));
    let slip_in = "const add = (name, attributes, text) => { \
            const element = document.createElement(name); \
            for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value); \
            element.textContent = text; \
            document.body.append(element); \
            return element; \
        }; \
        window.ran = []; \
        add('script', {}, 'ran.push(\"a script\")'); \
        add('script', { src: 'data:text/javascript,ran.push(\"a script from an address\")' }, ''); \
        add('script', { src: '/favicon.svg' }, ''); \
        add('button', { onclick: 'ran.push(\"a handler\")' }, 'Click').click(); \
        add('style', {}, 'h1 { color: rgb(1, 2, 3) }'); \
        add('p', { id: 'styled', style: 'color: rgb(1, 2, 3)' }, 'Text');";
    browser.run(slip_in, json!([]));
    assert_eq!(
        stopped(&browser),
        [
            "script-src-elem inline",
            "script-src-elem data",
            &format!("script-src-elem {}", site.url("/favicon.svg")),
            "script-src-attr inline",
            "style-src-elem inline",
            "style-src-attr inline",
        ]
    );
    assert_eq!(browser.run("return ran", json!([])), json!([]));
    for selector in ["h1", "#styled"] {
        let colour = "return getComputedStyle(document.querySelector(arguments[0])).color";
        assert_ne!(browser.run(colour, json!([selector])), "rgb(1, 2, 3)", "{selector}");
    }

    // It is the text that counts: the page's own script runs, and its own style holds, wherever they stand.
    let own = "const again = selector => { \
            const old = document.querySelector(selector); \
            const element = document.createElement(old.localName); \
            element.textContent = old.textContent; \
            old.remove(); \
            return element; \
        }; \
        const [script, style] = [again('body > script'), again('style')]; \
        document.querySelector('#script-ran').textContent = ''; \
        document.body.append(script, style);";
    browser.run(own, json!([]));
    assert_eq!(browser.text("#script-ran").trim(), "(a script on this page has just looked)");
    let style = "return getComputedStyle(document.querySelector('.card')).borderRadius";
    assert_eq!(browser.run(style, json!([])), "12px");
}

#[test]
fn what_users_write_is_shown_as_text_and_not_run() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    note_what_is_stopped(&browser);
    browser.go(&site.url("/"));
    let text = "</small><script>window.ran = 1</script><img src=x onerror='window.ran = 1'><b>&amp;\"";
    browser.type_into("[name=card]", text);
    browser.follow(ADD);
    for _ in 0..2 {
        assert_eq!(cards(&browser), [text]);
        assert_eq!(browser.count("td small *"), 0);
        assert_eq!(browser.run("return window.ran ?? 0", json!([])), 0);
        // No second wall was needed.
        assert_eq!(stopped(&browser), [""; 0]);
        browser.go(&site.url("/"));
    }
}

#[test]
fn the_forms_work_without_scripts() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    let page = browser.go(&site.url("/"));
    assert!(page.contains("(no script has looked: this page works without)"), "{page}");
    sign_in(&browser, &site);
    browser.run("document.querySelector('[name=tea][value=\"1\"]').checked = true", json!([]));
    browser.type_into("[name=card]", "For you");
    let page = browser.follow(ADD);
    assert!(page.contains("Signed in as ada") && page.contains("Total 26.00"), "{page}");
    assert_eq!(cards(&browser), ["For you"]);
    let page = browser.follow(SIGN_OUT);
    assert!(page.contains("Nothing in it."), "{page}");
    assert_eq!(user(&browser, &site), None);
}

// ------------------------------------------------------------------------------------------------ The limit

#[test]
fn a_cart_that_is_filled_to_the_limit_says_so_and_keeps_all() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    sign_in(&browser, &site);
    browser.type_into("[name=card]", "The first one");
    browser.follow(ADD);
    let page = browser.follow(FILL);
    let notice = browser.text(".notice");
    assert!(
        notice.starts_with("Your cart is full: it lives in one cookie, which may have 4093 bytes"),
        "{page}"
    );
    assert!(notice.ends_with("This was not added, and nothing was lost."), "{page}");
    let full = cards(&browser);
    assert!(full.len() > 20, "{full:?}");
    assert_eq!(full[0], "The first one");
    // Max-Age has two digits less than are reckoned with, and three bytes go by at a time.
    let used: usize = browser.text("#used").parse().expect("a number");
    assert!((LIMIT - 5..=LIMIT - 2).contains(&used), "{used}");
    // The bar is of the cookie that comes with this page, and so the one before is not shown below it.
    assert!(page.contains("It is on its way to your browser with this page."), "{page}");
    // Nor at the next visit; and full stays full.
    assert_eq!(user(&browser, &site).as_deref(), Some(USER));
    assert_eq!(cards(&browser), full);
    browser.type_into("[name=card]", "One more");
    browser.follow(ADD);
    assert!(browser.text(".notice").starts_with("Your cart is full"));
    assert_eq!(cards(&browser), full);
    assert_eq!(user(&browser, &site).as_deref(), Some(USER));
    assert_eq!(cards(&browser), full);
}

#[test]
fn the_largest_cookie_that_is_sent_is_stored_and_comes_back_and_no_larger_one_is_sent() {
    // So that Max-Age has all the digits that are reckoned with.
    let (site, browser) = (Site::start("[session]\nidle_timeout = '14days'"), Browser::trusting());
    sign_in(&browser, &site);
    let before = session_cookie(&browser);
    let add = |length: usize| -> Reply {
        let cookie = format!("{NAME}={}", before.value);
        site.post("/cart", &cookie, &format!("tea=0&card={}", "x".repeat(length)))
    };
    let (mut longest, mut too_long) = (0, LIMIT);
    while too_long - longest > 1 {
        let middle = (longest + too_long) / 2;
        match add(middle).status {
            303 => longest = middle,
            422 => too_long = middle,
            status => panic!("{status}"),
        }
    }
    // The length of base64 is never 1 more than a multiple of 4.
    let reply = add(longest);
    let size = reply.header("set-cookie").expect("a cookie").len();
    assert!((LIMIT - 1..=LIMIT).contains(&size), "{size}");

    let write = |length: usize| {
        browser.go(&site.url("/"));
        let script = "document.querySelector('[name=card]').value = 'x'.repeat(arguments[0])";
        browser.run(script, json!([length]));
        browser.follow(ADD)
    };
    let page = write(longest + 1);
    assert!(page.contains("This was not added, and nothing was lost."), "{page}");
    assert_eq!(session_cookie(&browser), before);
    assert_eq!(cards(&browser), [""; 0]);

    write(longest);
    let largest = session_cookie(&browser);
    let attributes = "; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=1209600";
    assert_eq!(NAME.len() + "=".len() + largest.value.len() + attributes.len(), size);
    assert_eq!(user(&browser, &site).as_deref(), Some(USER));
    assert_eq!(cards(&browser), ["x".repeat(longest)]);
    assert_eq!(browser.text("#used"), size.to_string());

    let page = write(0);
    assert!(page.contains("This was not added, and nothing was lost."), "{page}");
    assert_eq!(session_cookie(&browser), largest);
    assert_eq!(cards(&browser), ["x".repeat(longest)]);
}

#[test]
fn a_narrow_window_shows_pages_in_their_whole_width_and_each_number_on_one_line() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    #[track_caller]
    fn assert_fits(browser: &Browser, pixels: u64) {
        let page = browser.address();
        let script = "const page = document.documentElement; \
            const isWide = element => element.scrollWidth > element.clientWidth; \
            const wide = [page, ...document.querySelectorAll('main *')].filter(isWide); \
            const isBroken = cell => { \
                const text = document.createRange(); \
                text.selectNodeContents(cell); \
                return text.getClientRects().length != 1; \
            }; \
            const cells = [...document.querySelectorAll('td:first-child, td:last-child')]; \
            const html = elements => elements.map(element => element.outerHTML); \
            return [page.clientWidth, html(wide), html(cells.filter(isBroken))]";
        let (room, wide, broken): (u64, Vec<String>, Vec<String>) =
            serde_json::from_value(browser.run(script, json!([]))).expect("a width and elements");
        // Less the bar to scroll by.
        assert!((pixels - 20..=pixels).contains(&room), "{page}: {room}");
        assert_eq!(wide, [""; 0], "{page}");
        assert_eq!(broken, [""; 0], "{page}");
    }
    for pixels in [320, 390] {
        browser.resize(pixels, 844);
        for path in ["/", "/nothing-is-here", "/login"] {
            browser.go(&site.url(path));
            assert_fits(&browser, pixels.into());
        }
        sign_in(&browser, &site);
        // Before the 1 that stands there.
        browser.type_into("[name=quantity]", "2");
        browser.type_into("[name=card]", &"Long".repeat(20));
        browser.follow(ADD);
        assert_eq!(browser.text("td"), "21 ×");
        assert_fits(&browser, pixels.into());
        browser.follow(FILL);
        assert_fits(&browser, pixels.into());
        browser.forget();
    }
}

// ------------------------------------------------------------------------------------------------ Rotation

/// Which key sealed the cookie, as the page says.
fn key(page: &str) -> String {
    let (_, rest) = page.split_once("<code id=\"key\">").expect("a key");
    rest.split_once('<').expect("its end").0.to_owned()
}

/// Somebody new puts something into the cart: the key of their cookie.
fn key_of_a_new_visitor(site: &Site) -> String {
    let cookies = site.post("/cart", "", "tea=0").cookies();
    key(&site.get("/", &cookies).body)
}

#[test]
fn a_user_stays_signed_in_through_each_step_of_a_key_rotation() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    // Another instance, which is a step ahead: it seals with the new key.
    let ahead = Site::start("");
    let (old, new) = (key_of_a_new_visitor(&site), key_of_a_new_visitor(&ahead));
    assert_ne!(old, new);
    let of_the_other = ahead.signed_in();
    assert_eq!(site.user(&of_the_other), None);
    let away = site.signed_in();
    sign_in(&browser, &site);
    assert_eq!(browser.text("#key"), old);
    #[track_caller]
    fn assert_signed_in(browser: &Browser, site: &Site, key: &str) {
        assert_eq!(user(browser, site).as_deref(), Some(USER));
        assert_eq!(browser.text("#key"), key);
    }

    // The new key as a fallback.
    site.configure("", &format!("primary = '{}'\nfallbacks = ['{}']", site.key, ahead.key));
    wait_for("the new key", || site.user(&of_the_other));
    assert_eq!(key_of_a_new_visitor(&site), old);
    assert_signed_in(&browser, &site, &old);

    // The new key as the primary one.
    site.configure("", &format!("primary = '{}'\nfallbacks = ['{}']", ahead.key, site.key));
    wait_for("a cookie under the new key", || (key_of_a_new_visitor(&site) == new).then_some(()));
    assert_signed_in(&browser, &site, &old);

    // Time goes by; whoever comes gets a new cookie.
    site.advance(3 * HOUR);
    assert_signed_in(&browser, &site, &old);
    assert_signed_in(&browser, &site, &new);

    // Without the old key; whoever has not come is signed out.
    assert_eq!(site.user(&away).as_deref(), Some(USER));
    site.configure("", &format!("primary = '{}'", ahead.key));
    wait_for("the end of the old key", || site.user(&away).is_none().then_some(()));
    assert_signed_in(&browser, &site, &new);
}

// ------------------------------------------------------------------------------------------------ Signing out

#[test]
fn a_slow_response_that_comes_after_the_sign_out_signs_nobody_in() {
    let gates = Gates::default();
    let theirs = gates.clone();
    let slow = move |session: Session<Visit>| {
        let gate = theirs.named("slow");
        async move {
            // A new id: to the list of sessions that were signed out, it is another session.
            session.renew().expect("a new id");
            let line = Line { tea: 1, quantity: 1, card: "Late".to_owned() };
            session.update(|visit| visit.cart.push(line)).expect("room");
            gate.wait().await;
            "late"
        }
    };
    let site = Site::with("", Router::new().route("/slow", post(slow)));
    let browser = Browser::trusting();
    sign_in(&browser, &site);

    let gate = gates.set_up("slow");
    let in_another_tab = "const form = document.createElement('form'); \
        Object.assign(form, { method: 'post', action: '/slow', target: '_blank' }); \
        document.body.append(form); \
        form.submit();";
    browser.run(in_another_tab, json!([]));
    gate.wait();
    browser.follow(SIGN_OUT);
    assert_eq!(browser.cookies_named(NAME), []);
    assert_eq!(user(&browser, &site), None);
    gate.open();
    wait_for("the late response's cookie", || browser.cookies_named(NAME).pop());
    for _ in 0..2 {
        assert_eq!(user(&browser, &site), None);
        assert_eq!(cards(&browser), [""; 0]);
    }
    // Somebody can sign in, all the same.
    sign_in(&browser, &site);
    assert_eq!(user(&browser, &site).as_deref(), Some(USER));
}

#[test]
fn a_copy_of_the_cookie_is_worth_nothing_after_the_sign_out_also_after_a_restart() {
    let (mut site, browser) = (Site::start(""), Browser::trusting());
    sign_in(&browser, &site);
    let copy = session_cookie(&browser);
    // Until then it is: in another browser, say.
    browser.forget();
    assert_eq!(user(&browser, &site), None);
    browser.keep(&copy, &site.url("/"));
    assert_eq!(user(&browser, &site).as_deref(), Some(USER));

    browser.follow(SIGN_OUT);
    browser.keep(&copy, &site.url("/"));
    assert_eq!(user(&browser, &site), None);
    for _ in 0..2 {
        // In a browser that knows nothing of the sign-out.
        browser.forget();
        browser.keep(&copy, &site.url("/"));
        assert_eq!(user(&browser, &site), None);
        site.restart();
    }
}

#[test]
fn signing_out_everywhere_ends_the_session_in_another_browser() {
    let site = Site::start("");
    let (one, other) = (Browser::trusting(), Browser::trusting());
    sign_in(&one, &site);
    sign_in(&other, &site);
    one.follow(SIGN_OUT_EVERYWHERE);
    assert_eq!(user(&one, &site), None);
    session_cookie(&other);
    assert_eq!(user(&other, &site), None);
    sign_in(&other, &site);
    assert_eq!(user(&other, &site).as_deref(), Some(USER));
}

// ------------------------------------------------------------------------------------------------ Where requests come from

#[test]
fn plain_http_leads_to_https() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    let page = browser.go(&format!("http://localhost:{}/login?from=http", site.http().port()));
    assert_eq!(browser.address(), site.url("/login?from=http"));
    assert!(page.contains("User name"), "{page}");
    sign_in_as(&browser, USER, PASSWORD);
}

/// Forms of somebody else's, and what they would do.
const FORMS: [(&str, &str); 5] = [
    ("/cart", "<input name=tea value=1><input name=card value=Theirs>"),
    ("/cart/empty", ""),
    ("/logout", ""),
    ("/logout/everywhere", ""),
    ("/login", "<input name=username value=ada><input name=password value='correct horse battery'>"),
];

/// The same, as HTML.
fn forms(site: &Site) -> String {
    let form = |(path, fields): &(&str, &str)| {
        format!("<form method=post action='{}'>{fields}<button>Click here</button></form>", site.url(path))
    };
    FORMS.iter().map(form).collect()
}

/// Opens a page with those forms by `open`, and posts each of them.
#[track_caller]
fn assert_forms_change_nothing(browser: &Browser, site: &Site, open: impl Fn()) {
    browser.type_into("[name=card]", "Mine");
    browser.follow(ADD);
    let cookies = browser.cookies();
    for (path, _) in FORMS {
        open();
        let page = browser.follow(&format!("form[action='{}'] button", site.url(path)));
        assert_eq!(browser.address(), site.url(path));
        assert_eq!(browser.text(".code"), "403", "{path}: {page}");
        assert_eq!(browser.cookies(), cookies, "{path}");
        assert_eq!(user(browser, site).as_deref(), Some(USER), "{path}");
        assert_eq!(cards(browser), ["Mine"], "{path}");
    }
}

#[test]
fn forms_of_another_site_change_nothing() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    sign_in(&browser, &site);
    let page = forms(&site);
    let other = Server::start(Router::new().route("/", get(|| async { Html(page) })));
    assert_forms_change_nothing(&browser, &site, || {
        browser.go(&other.url_on("127.0.0.1", "/"));
    });
}

#[test]
fn forms_of_another_port_of_the_same_host_change_nothing() {
    let (site, browser) = (Site::start(""), Browser::trusting());
    sign_in(&browser, &site);
    // To the browser it is of the same site: the cookie comes along. Its policy would keep it from posting there.
    let other = Site::start("");
    browser.devtools("Page.setBypassCSP", json!({ "enabled": true }));
    assert_forms_change_nothing(&browser, &site, || {
        browser.go(&other.url("/login"));
        browser.run("document.body.innerHTML = arguments[0]", json!([forms(&site)]));
    });
}

// ------------------------------------------------------------------------------------------------ The program

/// The program, told nothing but where to listen and to keep its data. It ends with this value, also when a test panics.
struct Program {
    process: Child,
    folder: TempDir,
}

impl Program {
    fn start() -> Program {
        let folder = TempDir::new();
        let file = |name| Stdio::from(File::create(folder.path().join(name)).expect("a file"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_secure-app"));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("SECURE_APP_") {
                command.env_remove(variable);
            }
        }
        command.env("SECURE_APP_HTTPS", "127.0.0.1:0").env("SECURE_APP_HTTP", "127.0.0.1:0");
        command.env("SECURE_APP_DATA", folder.path().join("data"));
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let mut program = Program { process: spawn(&mut command, "cargo builds it"), folder };
        wait_for("the program to listen", || {
            assert_eq!(program.process.try_wait().expect("a status"), None, "{}", program.read("stderr"));
            program.read("stdout").ends_with("/\n").then_some(())
        });
        program
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("a file")
    }

    /// The last thing that it prints at its start.
    fn url(&self) -> String {
        let printed = self.read("stdout");
        printed.lines().last().expect("an address").to_owned()
    }

    fn password(&self) -> String {
        let printed = self.read("stdout");
        let (_, rest) = printed.split_once("user: demo   password: ").expect("a password");
        rest.split_whitespace().next().expect("a password").to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
