//! The example as its users run it, by curl and by Chromium.

use browser_tests::{Browser, Curl, PATIENCE, TempDir, output, spawn, wait_for};
use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const NAME: &str = "__Host-Http-session";

/// A key made as the README says.
fn new_key() -> String {
    let made = output(Command::new("openssl").args(["rand", "-base64", "32"]), "apt-get install openssl");
    assert!(made.status.success());
    let key = String::from_utf8(made.stdout).expect("text").trim().to_owned();
    assert_eq!(key.len(), 44);
    key
}

/// The example's process. It ends with this value, also when a test panics.
struct Counter {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Counter {
    /// `variables`: all that the example sees of `SESSION_KEY…` and `PORT`.
    fn spawn(port: u16, variables: &[(&str, &str)]) -> Counter {
        let folder = TempDir::new();
        let file = |name| Stdio::from(File::create(folder.path().join(name)).expect("a file"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_counter"));
        for variable in
            ["PORT", "SESSION_KEY", "SESSION_KEY_FILE", "SESSION_KEY_FALLBACKS", "SESSION_KEY_FALLBACKS_FILE"]
        {
            command.env_remove(variable);
        }
        command.env("PORT", port.to_string()).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        Counter { process: spawn(&mut command, "cargo builds it"), port, folder }
    }

    /// Waits until it listens. `None`: it has ended instead.
    fn listens(&mut self) -> Option<()> {
        wait_for("the example to listen or to end", || {
            if self.read("stdout").ends_with('\n') {
                return Some(Some(()));
            }
            self.process.try_wait().expect("a status").is_some().then_some(None)
        })
    }

    fn start(key: Option<&str>) -> Counter {
        let variables: Vec<_> = key.map(|key| ("SESSION_KEY", key)).into_iter().collect();
        // Another process may take a port that was free a moment ago.
        for _ in 0..20 {
            let mut counter = Counter::spawn(free_port(), &variables);
            match counter.listens() {
                Some(()) => return counter,
                None if counter.port_is_taken() => continue,
                None => panic!("{}", counter.read("stderr")),
            }
        }
        panic!("no free port");
    }

    /// Ends it and starts it again, on the same port.
    fn restart(mut self, key: Option<&str>) -> Counter {
        self.end();
        let variables: Vec<_> = key.map(|key| ("SESSION_KEY", key)).into_iter().collect();
        let end = Instant::now() + PATIENCE;
        loop {
            let mut counter = Counter::spawn(self.port, &variables);
            match counter.listens() {
                Some(()) => return counter,
                None => {
                    assert!(counter.port_is_taken() && Instant::now() < end, "{}", counter.read("stderr"))
                }
            }
            // Some connection has it as its own port.
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn port_is_taken(&self) -> bool {
        let said = self.read("stderr");
        said.contains("AddrInUse") || said.contains("Address already in use")
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("a file")
    }

    /// Everything that it printed.
    fn printed(&self) -> String {
        self.read("stdout") + &self.read("stderr")
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.end();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn curl_counts_up_and_clear_starts_again() {
    let (counter, curl) = (Counter::start(Some(&new_key())), Curl::new());
    for count in ["1\n", "2\n", "3\n"] {
        assert_eq!(curl.get(&counter.url("/")).ok(), count);
    }
    assert_eq!(curl.post(&counter.url("/clear")).ok(), "cleared\n");
    // A curl before 8 reads the jar again as it writes it, and so finds the removed cookie there
    // (curl #10685): then the sign-out marker is what makes the visitor start again.
    assert_eq!(curl.get(&counter.url("/")).ok(), "1\n");
    assert_eq!(curl.get(&counter.url("/")).ok(), "2\n");
    assert_eq!(Curl::new().get(&counter.url("/")).ok(), "1\n", "another jar is another visitor");
}

#[test]
fn curl_keeps_the_cookie_for_this_host_alone() {
    let (counter, curl) = (Counter::start(Some(&new_key())), Curl::new());
    curl.get(&counter.url("/")).ok();
    let cookies = curl.cookies();
    let [cookie] = &cookies[..] else { panic!("{cookies:?}") };
    assert_eq!(cookie.name, NAME);
    assert_eq!((cookie.domain.as_str(), cookie.subdomains, cookie.path.as_str()), ("localhost", false, "/"));
    assert!(cookie.secure && cookie.http_only);
}

#[test]
fn curl_counts_on_after_a_restart_with_the_same_key() {
    let (key, curl) = (new_key(), Curl::new());
    let counter = Counter::start(Some(&key));
    assert_eq!(curl.get(&counter.url("/")).ok(), "1\n");
    assert_eq!(curl.get(&counter.url("/")).ok(), "2\n");
    let counter = counter.restart(Some(&key));
    assert_eq!(curl.get(&counter.url("/")).ok(), "3\n");
    // Another key: the visitor starts again, and no error is seen.
    let counter = counter.restart(Some(&new_key()));
    assert_eq!(curl.get(&counter.url("/")).ok(), "1\n");
    assert_eq!(curl.get(&counter.url("/")).ok(), "2\n");
}

#[test]
fn curl_starts_again_after_a_restart_without_a_key() {
    let curl = Curl::new();
    let counter = Counter::start(None);
    assert_eq!(curl.get(&counter.url("/")).ok(), "1\n");
    assert_eq!(curl.get(&counter.url("/")).ok(), "2\n");
    let counter = counter.restart(None);
    assert_eq!(curl.get(&counter.url("/")).ok(), "1\n");
}

#[test]
fn without_a_key_the_way_to_make_one_is_printed_and_no_key() {
    let counter = Counter::start(None);
    let warning = counter.read("stderr");
    assert!(warning.contains("warning"), "{warning}");
    assert!(warning.contains("export SESSION_KEY=\"$(openssl rand -base64 32)\""), "{warning}");
    // 32 bytes are 43 characters of base64 or 64 of hexadecimal.
    let printed = counter.printed();
    let longest = printed.split_whitespace().map(str::len).max();
    assert!(longest < Some(40), "{printed}");
}

#[test]
fn with_a_key_nothing_is_warned_of_and_the_key_is_not_printed() {
    let key = new_key();
    let (counter, curl) = (Counter::start(Some(&key)), Curl::new());
    curl.get(&counter.url("/")).ok();
    assert_eq!(counter.read("stderr"), "");
    assert_eq!(counter.read("stdout"), format!("{}\n", counter.url("/")));
}

#[test]
fn an_empty_or_bad_key_ends_the_program_with_a_sentence_that_does_not_hold_it() {
    let key = new_key();
    let cases = [
        ("", "the key is empty"),
        (" \n", "the key is empty"),
        ("hunter2!hunter2!", "the key is neither base64 nor hexadecimal"),
        (&key[..20], "a key is 32 bytes, this one decodes to 15"),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "the key is weak"),
    ];
    for (key, sentence) in cases {
        let mut counter = Counter::spawn(free_port(), &[("SESSION_KEY", key)]);
        assert_eq!(counter.listens(), None, "{key:?}");
        assert_eq!(counter.process.wait().expect("a status").code(), Some(1), "{key:?}");
        let said = counter.read("stderr");
        assert!(said.contains(&format!("SESSION_KEY: {sentence}")), "{key:?}: {said}");
        assert!(said.contains("openssl rand -base64 32"), "{key:?}: {said}");
        assert!(key.trim().is_empty() || !counter.printed().contains(key), "{said}");
    }
}

#[test]
fn the_port_variable_says_where_it_listens() {
    let (first, second) = (Counter::start(None), Counter::start(None));
    assert_ne!(first.port, second.port);
    for counter in [first, second] {
        assert_eq!(counter.read("stdout"), format!("http://localhost:{}/\n", counter.port));
        assert_eq!(Curl::new().get(&counter.url("/")).ok(), "1\n");
    }
}

#[test]
fn a_port_that_is_none_ends_the_program() {
    for port in ["", "http", "70000"] {
        let mut counter = Counter::spawn(free_port(), &[("PORT", port)]);
        assert_eq!(counter.listens(), None, "{port:?}");
        assert_eq!(counter.process.wait().expect("a status").code(), Some(1), "{port:?}");
    }
}

#[test]
fn chromium_counts_up_and_clear_starts_again() {
    let (counter, browser) = (Counter::start(Some(&new_key())), Browser::start());
    for count in ["1", "2", "3"] {
        assert_eq!(browser.go(&counter.url("/")).trim(), count);
    }
    assert_eq!(browser.post("/clear").ok(), "cleared\n");
    assert_eq!(browser.cookies_named(NAME), []);
    assert_eq!(browser.go(&counter.url("/")).trim(), "1");
}

#[test]
fn chromium_counts_on_after_a_restart_with_the_same_key_and_starts_again_without() {
    let (key, browser) = (new_key(), Browser::start());
    let counter = Counter::start(Some(&key));
    assert_eq!(browser.go(&counter.url("/")).trim(), "1");
    assert_eq!(browser.go(&counter.url("/")).trim(), "2");
    let counter = counter.restart(Some(&key));
    assert_eq!(browser.go(&counter.url("/")).trim(), "3");
    let counter = counter.restart(None);
    assert_eq!(browser.go(&counter.url("/")).trim(), "1");
    assert_eq!(browser.go(&counter.url("/")).trim(), "2");
    assert_eq!(browser.cookies_named(NAME).len(), 1);
}

#[test]
fn chromium_keeps_the_cookie_from_scripts_and_from_other_hosts() {
    let (counter, browser) = (Counter::start(Some(&new_key())), Browser::start());
    browser.go(&counter.url("/"));
    let cookies = browser.cookies();
    let [cookie] = &cookies[..] else { panic!("{cookies:?}") };
    assert_eq!(cookie.name, NAME);
    assert_eq!((cookie.domain.as_str(), cookie.path.as_str()), ("localhost", "/"));
    assert!(cookie.http_only && cookie.secure && !cookie.partitioned);
    assert_eq!(cookie.same_site.as_deref(), Some("Lax"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let left = cookie.expires.expect("a lifetime") - now;
    assert!((86_340..=86_401).contains(&left), "the idle timeout of 24 h, not {left} s");

    let script = "return document.cookie";
    assert_eq!(browser.run(script, serde_json::json!([])), "");
    // Nor can a script put one in its place, or a cookie beside it that passes for it.
    let toss = "for (const attributes of ['', '; Secure; Path=/', '; Secure; Path=/clear']) \
        document.cookie = '__Host-Http-session=tossed' + attributes; \
        return document.cookie";
    assert_eq!(browser.run(toss, serde_json::json!([])), "");
    assert_eq!(browser.cookies(), cookies);
}
