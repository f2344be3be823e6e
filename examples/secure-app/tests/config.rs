//! Configuration: what is refused and in which words, the environment, and what takes effect in the running app.

mod common;

use browser_tests::wait_for;
use common::{NAME, PASSWORD, Program, Site, USER, at_once, new_key, password_hash};
use std::{
    fs,
    net::TcpListener,
    sync::atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
    thread,
    time::Duration,
};

/// Stands where a secret may stand by mistake; a key is one as well.
const SECRET: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";

/// Starts the program, which refuses to. Returns what it has said.
#[track_caller]
fn refused(site: &Site, environment: &[(&str, &str)]) -> String {
    let (status, output) = Program::start(&site.file(), environment).ended();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(!output.contains(SECRET), "{output}");
    assert!(!output.contains(&site.key), "{output}");
    assert!(!output.contains("panicked"), "{output}");
    output
}

/// The same for many, two at a time.
fn each<C: Sync>(cases: &[C], check: impl Fn(&C) + Sync) {
    let next = AtomicUsize::new(0);
    at_once(2, |_| {
        while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
            check(case);
        }
    });
}

#[test]
fn a_setting_that_nobody_knows_is_refused_by_its_name_wherever_it_stands() {
    let cases = [
        ("htps = '127.0.0.1:0'", "", None, "htps"),
        ("", "", Some("SECURE_APP_HTPS"), "htps"),
        ("", "[tls2]\na = 1", None, "tls2"),
        ("", "", Some("SECURE_APP_TLS__CERT"), "cert"),
        ("", "[[users]]\nname = 'eve'\npassword_hash = 'x'\nadmin = true", None, "admin"),
        ("", "[session]\nidle_timout = '1h'", None, "idle_timout"),
        ("", "", Some("SECURE_APP_SESSION__IDLE_TIMOUT"), "idle_timout"),
        ("", "primry_file = 'x'", None, "primry_file"),
        ("", "", Some("SECURE_APP_SESSION__KEYS__PRIMRY"), "primry"),
    ];
    each(&cases, |(settings, keys, variable, name)| {
        let site = Site::prepared("");
        site.configure(settings, &format!("primary = '{}'\n{keys}", site.key));
        let environment: Vec<_> = variable.iter().map(|variable| (*variable, SECRET)).collect();
        let output = refused(&site, &environment);
        assert!(output.contains(name), "{name}: {output}");
    });
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_by_its_setting_and_not_shown() {
    let file = |site: &Site| format!("{}, or SECURE_APP_… over it", site.file().display());
    let cases = [
        ("HTTPS", "FILE: https: expected an address with a port, such as 127.0.0.1:8443"),
        ("HTTP", "FILE: http: expected an address with a port"),
        ("METRICS", "FILE: metrics: expected an address with a port"),
        ("PUBLIC_PORT", "FILE: public_port: expected a port, from 1 to 65535"),
        ("TRUSTED_PROXIES", "FILE: trusted_proxies: expected a list of networks, such as 10.0.0.0/8"),
        ("LOG", "FILE: log: expected text or json"),
        ("TLS", "FILE: tls: expected a table with the files certificate and key"),
        ("USERS", "FILE: users: expected tables with name and password_hash, in the file"),
        ("SESSION", "session: the session's settings must be a table"),
        ("SESSION__KEYS", "session: keys must be a table"),
        ("SESSION__IDLE_TIMEOUT", "session: idle_timeout must be a duration with its unit"),
        ("SESSION__MODE", "session: mode must be encrypted or signed"),
    ];
    each(&cases, |(variable, message)| {
        let site = Site::prepared("");
        let output = refused(&site, &[(&format!("SECURE_APP_{variable}"), SECRET)]);
        let message = message.replace("FILE", &file(&site));
        assert!(output.lines().any(|line| line.starts_with(&message)), "{message}: {output}");
    });
    let cases = [
        ("hosts = 'https://S'", "hosts: expected a list of host names"),
        ("hosts = ['a.example', 'S:8443']", "hosts: expected a list of host names"),
        ("hosts = ['*.S']", "hosts: expected a list of host names"),
        ("hosts = { S = 'S' }", "hosts: expected a list of host names"),
        ("trusted_proxies = 'S'", "trusted_proxies: expected a list of networks"),
        ("trusted_proxies = ['10.0.0.1']", "trusted_proxies: expected a list of networks"),
        ("public_port = 'S'", "public_port: expected a port"),
        ("public_port = 0", "public_port: expected a port"),
        ("log = ['S']", "log: expected text or json"),
    ];
    each(&cases, |(settings, message)| {
        let site = Site::prepared("");
        site.configure(&settings.replace('S', SECRET), &format!("primary = '{}'", site.key));
        let output = refused(&site, &[]);
        assert!(output.starts_with(&format!("{}: {message}", file(&site))), "{message}: {output}");
    });
}

#[test]
fn a_file_that_is_no_toml_is_refused_by_its_line_without_what_stands_there() {
    let line = |text: &str| text.replace('S', SECRET);
    // The key's line is the ninth after the first setting.
    let cases = [
        "primary = S",
        "primary = 'S",
        "primary = \"S",
        "primary = 'S' 'S'",
        "primary 'S'",
        "primary = ['S', S]",
        "primary = 'S'\nprimary = 'S'",
        "'S'",
        "primary = 'S\u{1}'",
        "[S",
        "primary = { S",
        "primary = \"\\S\"",
    ];
    each(&cases, |text| {
        let site = Site::prepared("");
        site.configure("", &line(text));
        let written = fs::read_to_string(site.file()).unwrap();
        let number = 1 + written.lines().position(|line| line.contains(SECRET)).unwrap();
        let output = refused(&site, &[]);
        let file = site.file().display().to_string();
        // The fault may be seen at the end of the line only, or where the second one begins.
        let place = |number| output.starts_with(&format!("{file}, line {number}: "));
        assert!(place(number) || place(number + 1), "{text:?}, line {number}: {output}");
    });
}

#[test]
fn a_bad_or_missing_part_is_refused_by_its_name() {
    let weak =
        "$argon2id$v=19$m=4096,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$M4iQqFGEPuZyGXuuQk1qWwcVuWyTyYJrSXhrQJmq2Ss";
    let cases = [
        ("", format!("primary = '{}'", &SECRET[..20]), "session: "),
        (
            "",
            "primary = '0000000000000000000000000000000000000000000000000000000000000000'".to_owned(),
            "session: ",
        ),
        ("", "primary_file = 'nowhere.key'".to_owned(), "keys.primary_file"),
        // The key itself in the place of its file's name.
        ("", format!("primary_file = '{SECRET}'"), "keys.primary_file"),
        ("", String::new(), "keys"),
        ("hosts = []", format!("primary = '{SECRET}'"), "hosts"),
        ("", format!("primary = '{SECRET}'\n[[users]]\nname = 'eve'\npassword_hash = '{weak}'"), "eve"),
        ("", format!("primary = '{SECRET}'\n[[users]]\nname = 'eve'\npassword_hash = 'secret'"), "eve"),
        (
            "",
            format!(
                "primary = '{SECRET}'\n[[users]]\nname = '{USER}'\npassword_hash = '{}'",
                password_hash()
            ),
            "twice",
        ),
    ];
    each(&cases, |(settings, keys, word)| {
        let site = Site::prepared("");
        site.configure(settings, keys);
        let output = refused(&site, &[]);
        assert!(output.contains(word), "{word}: {output}");
    });
    let site = Site::prepared("");
    for environment in [&[][..], &[("SECURE_APP_TLS__KEY", SECRET)]] {
        site.write("key.pem", &format!("no key: {SECRET}"));
        let output = refused(&site, environment);
        assert!(output.contains("tls.key cannot be read: "), "{output}");
    }
    fs::remove_file(site.folder.path().join("certificate.pem")).unwrap();
    let output = refused(&site, &[]);
    assert!(output.contains("certificate.pem"), "{output}");
    fs::remove_file(site.file()).unwrap();
    let output = refused(&site, &[]);
    assert!(output.contains("secure-app.toml: no such file") && output.contains("usage: "), "{output}");
}

#[test]
fn the_environment_stands_over_the_file_and_lists_have_commas_there() {
    let settings = "hosts = ['file.example']\nlog = 'text'";
    let mut site = Site::prepared(settings);
    site.configure(settings, "");
    let key = site.write("session.key", &site.key).display().to_string();
    let key = ("SECURE_APP_SESSION__KEYS__PRIMARY_FILE", &*key);
    site.start_program(&[
        ("SECURE_APP_HOSTS", "app.example,other.example"),
        ("SECURE_APP_TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1/32"),
        ("SECURE_APP_LOG", "json"),
        ("SECURE_APP_SESSION__NAME", "__Host-other"),
        key,
    ]);
    assert!(site.its_program().output().contains("https://app.example:"));
    for (host, status) in [("app.example", 200), ("other.example", 200), ("file.example", 421)] {
        let reply = site.send("GET", "/", &[("Host", host), ("X-Forwarded-For", "192.0.2.1, 10.1.1.1")], "");
        assert_eq!(reply.status, status, "{host}: {reply:?}");
    }
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let reply = site.send("POST", "/cart", &[("Host", "app.example"), form], "tea=1");
    assert!(reply.cookies().starts_with("__Host-other="), "{reply:?}");
    site.its_program().says("\"address\":\"192.0.2.1\"");

    // Where a proxy or a packet filter forwards another port.
    let site = Site::prepared("public_port = 4711");
    Program::start(&site.file(), &[]).says("https://localhost:4711/\n");
    Program::start(&site.file(), &[("SECURE_APP_PUBLIC_PORT", "443")]).says("https://localhost/\n");
}

#[test]
fn a_list_of_one_from_the_environment_is_a_list() {
    let mut site = Site::prepared("");
    site.start_program(&[("SECURE_APP_HOSTS", "app.example")]);
    assert_eq!(site.send("GET", "/", &[("Host", "app.example")], "").status, 200);
    assert_eq!(site.get("/", "").status, 421);
}

#[test]
fn what_is_in_the_way_at_the_start_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (variable, setting) in
        [("SECURE_APP_HTTPS", "https"), ("SECURE_APP_HTTP", "http"), ("SECURE_APP_METRICS", "metrics")]
    {
        let output = refused(&Site::prepared(""), &[(variable, &address)]);
        let expected = format!("cannot listen on {address} (setting `{setting}`): ");
        assert!(output.contains(&expected), "{output}");
    }

    let site = Site::prepared("");
    let file = site.file();
    let folder = file.join("data").display().to_string();
    let output = refused(&site, &[("SECURE_APP_DATA", &folder)]);
    assert!(output.contains(&format!("the folder {folder} (setting `data`) cannot be made: ")), "{output}");

    let site = Site::program("", &[]);
    let output = refused(&site, &[]);
    let database = site.folder.path().join("data/secure-app.redb");
    let expected = format!(
        "{} is open in another process: stop that one, or set another `data` folder",
        database.display()
    );
    assert!(output.contains(&expected), "{output}");
    // The first one did not notice.
    assert_eq!(site.get("/", "").status, 200);
}

// ------------------------------------------------------------------------------------------------ While it runs

/// The short name of the key that new cookies are sealed with. Shown only if that key is still there.
#[track_caller]
fn shown_key(site: &Site) -> Option<String> {
    let cookies = site.post("/cart", "", "tea=1").cookies();
    let page = site.get("/", &cookies).body;
    let (_, rest) = page.split_once("<code id=\"key\">")?;
    Some(rest.split_once('<')?.0.to_owned())
}

#[track_caller]
fn sealing_key(site: &Site) -> String {
    shown_key(site).expect("a key")
}

#[track_caller]
fn wait_for_another_key(site: &Site, than: &str) -> String {
    wait_for("another key", || shown_key(site).filter(|key| key != than))
}

/// Says so also when a test fails, for threads that go on until then.
struct Ends<'e>(&'e AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn keys_rotate_under_the_running_app_without_one_request_that_fails() {
    let site = Site::start("");
    let (ends, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let first = site.signed_in();
    thread::scope(|scope| {
        let (site, ends, asked) = (&site, &ends, &asked);
        for _ in 0..3 {
            // Browsers, that keep the latest cookie.
            scope.spawn(move || {
                let mut cookies = site.signed_in();
                while !ends.load(SeqCst) {
                    let reply = site.post("/cart", &cookies, "tea=2");
                    assert_eq!(reply.status, 303, "{reply:?}");
                    if !reply.cookies().is_empty() {
                        cookies = reply.cookies();
                    }
                    assert_eq!(site.user(&cookies).as_deref(), Some(USER));
                    asked.fetch_add(1, SeqCst);
                }
            });
        }
        let _ends = Ends(ends);
        let mut keys = vec![site.key.clone()];
        let mut seals = sealing_key(site);
        for _ in 0..4 {
            keys.insert(0, new_key());
            keys.truncate(3);
            let fallbacks: Vec<_> = keys[1..].iter().map(|key| format!("'{key}'")).collect();
            site.configure("", &format!("primary = '{}'\nfallbacks = [{}]", keys[0], fallbacks.join(", ")));
            seals = wait_for_another_key(site, &seals);
            // The cookie of the first key, which nobody renewed, is good for as long as that key is there.
            let known = keys.contains(&site.key);
            assert_eq!(site.user(&first).as_deref(), Some(USER).filter(|_| known));
            let before = asked.load(SeqCst);
            wait_for("each browser to come again", || (asked.load(SeqCst) >= before + 6).then_some(()));
        }
        assert_eq!(site.user(&first), None);
    });
}

#[test]
fn sessions_that_begin_after_a_rotation_have_the_new_key_alone() {
    let site = Site::start("");
    let (before, one) = (site.signed_in(), sealing_key(&site));
    let key = new_key();
    site.configure("", &format!("primary = '{key}'\nfallbacks = ['{}']", site.key));
    let two = wait_for_another_key(&site, &one);
    let after = site.signed_in();
    assert_eq!(site.user(&before).as_deref(), Some(USER));
    // The old key goes, and with it what only it opens.
    site.configure("", &format!("primary = '{key}'"));
    wait_for("the old key to go", || site.user(&before).is_none().then_some(()));
    assert_eq!(site.user(&after).as_deref(), Some(USER));
    assert_eq!(sealing_key(&site), two);
}

#[test]
fn keys_in_files_rotate_when_the_files_change_in_place_or_by_a_new_file() {
    let site = Site::prepared("");
    let primary = site.write("session.key", &site.key);
    let fallbacks = site.write("session.fallbacks", "");
    let keys = |primary: &std::path::Path| {
        format!("primary_file = '{}'\nfallbacks_file = '{}'", primary.display(), fallbacks.display())
    };
    site.configure("", &keys(&primary));
    let site = site.started();
    let (cookie, one) = (site.signed_in(), sealing_key(&site));
    // Between the two the old key stands there twice, which is refused, and all stays as it is.
    site.write("session.fallbacks", &site.key);
    fs::write(&primary, new_key()).unwrap();
    let two = wait_for_another_key(&site, &one);
    assert_eq!(site.user(&cookie).as_deref(), Some(USER));
    // A file that the configuration did not name before is looked at from then on.
    fs::create_dir(site.folder.path().join("more")).unwrap();
    let other = site.write("more/session.key", &new_key());
    site.configure("", &keys(&other));
    let mut seals = wait_for_another_key(&site, &two);
    // Once nothing is on its way any more, which would see it by chance.
    thread::sleep(Duration::from_millis(500));
    site.write("more/session.key", &new_key());
    seals = wait_for_another_key(&site, &seals);
    fs::write(&other, new_key()).unwrap();
    wait_for_another_key(&site, &seals);
}

#[test]
fn what_is_broken_is_refused_as_a_whole_and_what_is_mended_is_taken() {
    let mut site = Site::program("", &[]);
    let cookie = site.signed_in();
    let mut seals = sealing_key(&site);
    let good = |site: &Site, key: &str| {
        site.configure("", &format!("primary = '{key}'\nfallbacks = ['{}']", site.key))
    };
    let missing = "[tls]\ncertificate = 'nowhere.pem'\nkey = 'nowhere.pem'";
    let broken: [(&str, &str); 8] = [
        ("primary = K", "line "),
        ("primary = 'K'\nprimry = 'K'", "primry"),
        ("primary = 'K'\n[session]\nidle_timout = '1h'", "idle_timout"),
        ("primary = '0K'", "keys.primary"),
        ("primary_file = 'K'", "keys.primary_file"),
        ("primary = 'K'\n[[users]]\nname = 'eve'\npassword_hash = 'K'", "eve"),
        ("primary = 'K'\n[[users]]\nname = 'ada'\npassword_hash = 'H'", "twice"),
        ("", "key"),
    ];
    for (number, (keys, word)) in broken.into_iter().enumerate() {
        let key = new_key();
        site.configure("", &keys.replace('K', &key).replace('H', password_hash()));
        let refusal = wait_for("a refusal", || {
            let output = site.its_program().output();
            output
                .lines()
                .filter(|line| line.contains("refused; what was in use before stays"))
                .nth(number)
                .map(str::to_owned)
        });
        assert!(refusal.contains("ERROR") && refusal.contains(word), "{word}: {refusal}");
        assert_eq!(site.user(&cookie).as_deref(), Some(USER));
        assert_eq!(sealing_key(&site), seals);
        good(&site, &key);
        seals = wait_for_another_key(&site, &seals);
        assert_eq!(site.user(&cookie).as_deref(), Some(USER));
        let output = site.its_program().output();
        assert!(!output.contains(&key) && !output.contains(&site.key), "{output}");
    }
    // A certificate that cannot be read: key and users stay as well.
    let key = new_key();
    let text = fs::read_to_string(site.file()).unwrap();
    let (before, rest) = text.split_once("[tls]").unwrap();
    let (_, after) = rest.split_once("[[users]]").unwrap();
    let (users, _) = after.split_once("[session.keys]").unwrap();
    site.write(
        "secure-app.toml",
        &format!("{before}{missing}\n[[users]]{users}[session.keys]\nprimary = '{key}'"),
    );
    site.its_program().says("tls.certificate (nowhere.pem) cannot be read");
    assert_eq!(sealing_key(&site), seals);
    assert_eq!(site.user(&cookie).as_deref(), Some(USER));

    // The table of keys is gone: new ones would end all sessions.
    site.write("secure-app.toml", &format!("{before}[tls]{}", rest.split_once("[session.keys]").unwrap().0));
    site.its_program().says("there is no key any more");
    assert_eq!(site.user(&cookie).as_deref(), Some(USER));
    let program = site.take_program();
    program.signal("TERM");
    assert!(program.ended().0.success());
}

#[test]
fn a_hangup_reloads_what_nobody_noticed() {
    let site = Site::prepared("");
    // Behind a link, in a folder that is not watched.
    fs::create_dir(site.folder.path().join("elsewhere")).unwrap();
    let file = site.write("elsewhere/session.key", &site.key);
    let link = site.folder.path().join("session.key");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    site.configure("", &format!("primary_file = '{}'", link.display()));
    let mut site = site;
    site.start_program(&[]);
    let one = sealing_key(&site);
    site.write("elsewhere/session.key", &new_key());
    assert_eq!(sealing_key(&site), one);
    site.its_program().signal("HUP");
    let two = wait_for_another_key(&site, &one);
    // Whoever asks is answered, also where nothing has changed.
    let lines = || site.its_program().output().matches("in use as configured now").count();
    wait_for("a line in the log", || (lines() == 1).then_some(()));
    site.its_program().signal("HUP");
    wait_for("another line in the log", || (lines() == 2).then_some(()));
    assert_eq!(sealing_key(&site), two);
    site.write("elsewhere/session.key", &new_key());
    site.its_program().signal("HUP");
    wait_for_another_key(&site, &two);
    wait_for("a third line in the log", || (lines() == 3).then_some(()));
}

#[test]
fn other_settings_wait_for_the_next_start() {
    let site = Site::start("hosts = ['localhost']");
    let one = sealing_key(&site);
    let cookie = site.post("/cart", "", "tea=1").cookies();
    assert!(cookie.starts_with(NAME), "{cookie}");
    site.configure(
        "hosts = ['app.example']",
        &format!("primary = '{}'\n[session]\nname = '__Host-new'", new_key()),
    );
    wait_for_another_key(&site, &one);
    assert_eq!(site.get("/", "").status, 200);
    assert_eq!(site.send("GET", "/", &[("Host", "app.example")], "").status, 421);
    assert!(site.log_in("", USER, PASSWORD).cookies().starts_with(NAME));
}
