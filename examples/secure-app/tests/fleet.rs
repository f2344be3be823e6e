//! Three instances of the real program behind one nginx, which share a Redis; and users who notice if a request goes wrong
//! or a session loses what is in it.

mod common;

use browser_tests::wait_for;
use common::{
    PASSWORD, Program, Reply, Site, USER, new_key,
    nginx::{Nginx, Place, SHOP, Visitor, Way},
    password_hash,
    redis::Redis,
};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
};

const RUNBOOK: &str = include_str!("../RUNBOOK.md");
const RELOADED: &str = "are in use as configured now";

struct Fleet {
    sites: Vec<Site>,
    nginx: Nginx,
    redis: Redis,
    place: Place,
}

impl Fleet {
    /// With this key; nginx has a certificate that this guest trusts.
    fn start(guest: &Site, key: &str) -> Fleet {
        let (redis, place) = (Redis::start(), Place::free());
        let mut sites: Vec<Site> = (0..3).map(|_| Site::prepared("")).collect();
        for site in &mut sites {
            site.configure(&settings(&redis, &place), &format!("primary = '{key}'"));
            site.start_program(&[]);
        }
        let next = Place { address: Ipv4Addr::LOCALHOST, https: sites[0].https(), http: sites[0].http() };
        let nginx = Nginx::with(guest, place, next, Way::Plain, &[]);
        let fleet = Fleet { sites, nginx, redis, place };
        fleet.balance(None);
        fleet
    }

    /// Requests go to all in turn, but for one.
    fn balance(&self, but: Option<usize>) {
        let server = |(number, site): (usize, &Site)| {
            let down = if but == Some(number) { " down" } else { "" };
            format!("server {}{down};", site.http())
        };
        self.nginx.send_to(&self.sites.iter().enumerate().map(server).collect::<Vec<_>>());
    }

    /// Replaces an instance by this program, as the runbook says.
    fn replace(&mut self, number: usize, program: &Path) {
        self.balance(Some(number));
        let before = self.sites[number].take_program();
        before.signal("TERM");
        let (status, output) = before.ended();
        assert!(status.success(), "{output}");
        let file = self.sites[number].file();
        self.sites[number].program = Some(Program::run(Command::new(program).arg(file)));
        self.sites[number].listens();
        self.balance(None);
    }

    /// Gives one instance these keys while it runs.
    fn configure(&self, number: usize, primary: &str, fallbacks: &[&str]) {
        let site = &self.sites[number];
        let before = site.its_program().output().matches(RELOADED).count();
        let fallbacks: Vec<String> = fallbacks.iter().map(|key| format!("'{key}'")).collect();
        let keys = format!("primary = '{primary}'\nfallbacks = [{}]", fallbacks.join(", "));
        site.configure(&settings(&self.redis, &self.place), &keys);
        wait_for("the keys", || {
            (site.its_program().output().matches(RELOADED).count() > before).then_some(())
        });
    }

    fn visitor<'g>(&self, guest: &'g Site) -> Visitor<'g> {
        Visitor { site: guest, place: self.place, address: Ipv4Addr::LOCALHOST }
    }
}

fn settings(redis: &Redis, place: &Place) -> String {
    format!(
        "redis_url = '{}'\nhosts = ['{SHOP}', 'localhost']\npublic_port = {}\ntrusted_proxies = ['{}/32']",
        redis.url(),
        place.https.port(),
        place.address
    )
}

/// A user who puts one more into the cart with each request, and counts.
struct Customer<'f> {
    visitor: Visitor<'f>,
    cookies: String,
    quantity: u64,
    /// In releases that count changes.
    changes: Option<u64>,
}

impl<'f> Customer<'f> {
    fn signed_in(visitor: Visitor<'f>) -> Customer<'f> {
        let reply = visitor.log_in("", PASSWORD);
        assert_eq!(reply.status, 303, "{reply:?}");
        Customer { visitor, cookies: reply.cookies(), quantity: 0, changes: None }
    }

    fn shops(&mut self) {
        let headers = [("Cookie", &*self.cookies), ("Content-Type", "application/json")];
        let reply = self.visitor.send("POST", "/api/cart", &headers, r#"{"tea":0}"#);
        assert_eq!(reply.status, 201, "{reply:?}");
        self.keeps(&reply);
        self.quantity += 1;
        let session: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
        assert_eq!(session["user"], USER, "signed out: {session}");
        assert_eq!(session["cart"][0]["quantity"], self.quantity, "lost: {session}");
        if let Some(before) = self.changes
            && session["is_new_form"] == true
        {
            assert_eq!(session["changes"], before + 1, "lost: {session}");
        }
        self.changes = session["changes"].as_u64().filter(|_| session["is_new_form"] == true);
        let page = self.visitor.get("/", &self.cookies);
        assert_eq!(page.status, 200, "{page:?}");
        self.keeps(&page);
    }

    fn keeps(&mut self, reply: &Reply) {
        let cookies = reply.cookies();
        if !cookies.is_empty() {
            self.cookies = cookies;
        }
    }
}

/// Users who shop for as long as something is done, and then some. `work` can wait until each has been to all instances.
/// Returns what each has of a session's new form.
fn under_load(visitor: Visitor<'_>, work: impl FnOnce(&dyn Fn())) -> Vec<Option<u64>> {
    const CUSTOMERS: usize = 4;
    let (ends, visits) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; CUSTOMERS]);
    thread::scope(|scope| {
        let threads: Vec<_> = visits
            .iter()
            .map(|visits| {
                let ends = &ends;
                scope.spawn(move || {
                    let mut customer = Customer::signed_in(visitor);
                    while !ends.load(SeqCst) {
                        customer.shops();
                        visits.fetch_add(1, SeqCst);
                    }
                    customer.changes
                })
            })
            .collect();
        let all_around = || {
            let before = visits.each_ref().map(|visits| visits.load(SeqCst));
            wait_for("customers", || {
                let is_done = threads.iter().any(|thread| thread.is_finished());
                let more =
                    visits.iter().zip(before).all(|(visits, before)| visits.load(SeqCst) >= before + 6);
                (more || is_done).then_some(())
            });
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            all_around();
            work(&all_around);
            all_around();
        }));
        ends.store(true, SeqCst);
        let changes =
            threads.into_iter().map(|thread| thread.join().expect("no customer complains")).collect();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        changes
    })
}

#[test]
fn keys_are_rotated_instance_by_instance_under_load() {
    let (old, new) = (new_key(), new_key());
    let guest = Site::prepared("");
    let fleet = Fleet::start(&guest, &old);
    under_load(fleet.visitor(&guest), |all_around| {
        for (primary, fallbacks) in [(&old, vec![&*new]), (&new, vec![&*old]), (&new, vec![])] {
            for number in [1, 0, 2] {
                fleet.configure(number, primary, &fallbacks);
                all_around();
            }
        }
    });
}

#[test]
fn a_leaked_key_opens_nothing_any_more_on_any_instance() {
    let (leaked, new) = (new_key(), new_key());
    let guest = Site::prepared("");
    let fleet = Fleet::start(&guest, &leaked);
    let before = fleet.visitor(&guest).log_in("", PASSWORD).cookies();
    (0..3).for_each(|number| fleet.configure(number, &leaked, &[&new]));
    fleet.configure(0, &new, &[]);
    let meanwhile = fleet.sites[0].signed_in();
    for site in &fleet.sites {
        assert_eq!(
            site.user(&meanwhile).as_deref(),
            Some(USER),
            "who signs in meanwhile need not do it again"
        );
    }
    (1..3).for_each(|number| fleet.configure(number, &new, &[]));
    for site in &fleet.sites {
        assert_eq!(site.user(&before), None);
        assert_eq!(site.user(&meanwhile).as_deref(), Some(USER));
    }
}

/// The one command that stands in a step of the runbook.
#[track_caller]
fn command(section: &str, step: usize) -> &'static str {
    let section = RUNBOOK.split(&format!("\n## {section}\n")).nth(1).expect("a section");
    let begin = section.find(&format!("\n{step}. ")).expect("a step");
    let end =
        section.find(&format!("\n{}. ", step + 1)).or_else(|| section.find("\nAfter ")).expect("its end");
    let spans = section[begin..end].split('`').skip(1).step_by(2);
    let spans: Vec<&str> = spans.filter(|span| span.contains(" && ") || span.contains("openssl")).collect();
    assert_eq!(spans.len(), 1, "{spans:?}");
    spans[0]
}

/// Runs that in the folder of an instance's keys, and waits until they are in use.
#[track_caller]
fn run(command: &str, site: &Site) {
    let reloaded = || site.its_program().output().matches(RELOADED).count();
    let before = reloaded();
    shell(command, site);
    wait_for("the keys", || {
        // What stands there in between may be refused.
        let output = site.its_program().output();
        let is_last = output.rfind(RELOADED) > output.rfind("refused");
        (reloaded() > before && is_last).then_some(())
    });
}

#[track_caller]
fn shell(command: &str, site: &Site) {
    let mut shell = Command::new("sh");
    let status = shell.args(["-ec", command]).current_dir(site.folder.path()).status().expect("a shell");
    assert!(status.success(), "{command}");
}

#[test]
fn the_runbooks_commands_rotate_a_key_and_replace_one_that_leaked() {
    const ROTATE: &str = "Rotate a key";
    let key = new_key();
    let sites: Vec<Site> = (0..2)
        .map(|_| {
            let mut site = Site::prepared("");
            let path = |name: &str| site.folder.path().join(name).display().to_string();
            let (primary, fallbacks) = (path("session.key"), path("session.fallbacks"));
            fs::write(&primary, &key).unwrap();
            fs::write(&fallbacks, "\n").unwrap();
            site.configure("", &format!("primary_file = '{primary}'\nfallbacks_file = '{fallbacks}'"));
            site.start_program(&[]);
            site
        })
        .collect();
    let [one, two] = sites.as_slice() else { unreachable!() };
    let is_in = |cookies: &str| {
        let users: Vec<_> = sites.iter().map(|site| site.user(cookies)).collect();
        assert_eq!(users[0], users[1]);
        users[0].as_deref() == Some(USER)
    };
    let a_new_key = || {
        shell(command(ROTATE, 1), one);
        let new = |site: &Site| site.folder.path().join("session.key.new");
        fs::copy(new(one), new(two)).unwrap();
    };

    let old = one.signed_in();
    a_new_key();
    sites.iter().for_each(|site| run(command(ROTATE, 2), site));
    for site in &sites {
        run(command(ROTATE, 3), site);
        assert!(is_in(&old) && is_in(&one.signed_in()) && is_in(&two.signed_in()));
    }
    let new = two.signed_in();
    sites.iter().for_each(|site| run(command(ROTATE, 5), site));
    assert!(!is_in(&old) && is_in(&new));

    // That one leaks.
    a_new_key();
    sites.iter().for_each(|site| run(command(ROTATE, 2), site));
    run(command("A leaked key", 2), one);
    let meanwhile = one.signed_in();
    assert!(is_in(&meanwhile));
    assert_eq!(one.user(&new), None);
    run(command("A leaked key", 2), two);
    assert!(!is_in(&new) && is_in(&meanwhile));
}

#[test]
fn another_password_ends_a_users_sessions_on_all_instances() {
    let guest = Site::prepared("");
    let fleet = Fleet::start(&guest, &new_key());
    let cookies = fleet.visitor(&guest).log_in("", PASSWORD).cookies();
    let other = secure_app::passwords::hash("another horse").unwrap();
    for site in &fleet.sites {
        let text = fs::read_to_string(site.file()).unwrap().replace(password_hash(), &other);
        site.write("secure-app.toml", &text);
        wait_for("the end of it", || site.user(&cookies).is_none().then_some(()));
    }
    assert_eq!(fleet.visitor(&guest).log_in("", PASSWORD).status, 403);
    assert_eq!(fleet.visitor(&guest).log_in("", "another horse").status, 303);
}

#[test]
fn a_sign_out_behind_one_name_holds_on_all() {
    let guest = Site::prepared("");
    let fleet = Fleet::start(&guest, &new_key());
    let visitor = fleet.visitor(&guest);
    for path in ["/logout", "/logout/everywhere"] {
        let cookies = visitor.log_in("", PASSWORD).cookies();
        assert_eq!(visitor.post(path, &cookies, "").status, 303);
        for site in &fleet.sites {
            wait_for("it to hold", || site.user(&cookies).is_none().then_some(()));
        }
    }
}

#[test]
fn a_rolling_restart_under_load_loses_no_request() {
    let guest = Site::prepared("");
    let mut fleet = Fleet::start(&guest, &new_key());
    under_load(fleet.visitor(&guest), |all_around| {
        for number in [0, 1, 2, 0] {
            fleet.replace(number, Path::new(env!("CARGO_BIN_EXE_secure-app")));
            all_around();
        }
    });
}

// ---------------------------------------------------------------------------------------------- Another session

/// What a session has from the second release on.
const NEW_FORM: [(&str, &str, &str); 4] = [
    (
        "src/session.rs",
        "    pub cart: Vec<Line>,\n}",
        "    pub cart: Vec<Line>,\n    pub changes: u32,\n}\n\n\
         /// As it was before.\n#[derive(serde::Serialize, serde::Deserialize)]\n\
         pub struct VisitV1 {\n    pub user: Option<SignedIn>,\n    pub cart: Vec<Line>,\n}",
    ),
    (
        "src/session.rs",
        "from_config(settings.session.clone());",
        "from_config(settings.session.clone())\n        .schema(2)\n        \
         .migrate_from(1, |old: VisitV1| Visit { user: old.user, cart: old.cart, changes: 0 })/* and */;",
    ),
    (
        "src/pages.rs",
        "    session.update(|visit| {\n        match",
        "    session.update(|visit| {\n        visit.changes += 1;\n        match",
    ),
    (
        "src/pages.rs",
        "    let Visit { user, cart } = session.get();\n    let user = user.map(|user| user.name);\n    Json(ApiSession { user, cart,",
        "    let Visit { user, cart, changes } = session.get();\n    let user = user.map(|user| user.name);\n    \
         let is_new_form = session.meta().is_some_and(|meta| meta.schema() == 2);\n    Json(ApiSession { user, cart, changes, is_new_form,",
    ),
];

const SHOWN: (&str, &str, &str) = (
    "src/pages.rs",
    "    bytes_left: usize,\n",
    "    changes: u32,\n    is_new_form: bool,\n    bytes_left: usize,\n",
);

/// And in the first, which writes the old one.
const WRITES_OLD: (&str, &str, &str) = (
    "src/session.rs",
    "/* and */",
    "\n        .write_as(1, |visit: &Visit| VisitV1 { user: visit.user.clone(), cart: visit.cart.clone() })",
);

/// Builds the program from this source, changed; with the same dependencies.
fn built(name: &str, changes: &[(&str, &str, &str)]) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    for part in ["src", "templates", "assets"] {
        copy(&here.join(part), &folder.join(part));
    }
    // With the tests' dependencies, their features are those of the program under test: nothing else is built anew.
    fs::create_dir_all(folder.join("tests")).expect("a folder");
    fs::write(folder.join("tests/none.rs"), "").expect("written");
    let root = here.join("../..");
    let manifest = fs::read_to_string(here.join("Cargo.toml")).expect("there");
    let of_root = fs::read_to_string(root.join("Cargo.toml")).expect("there");
    let profiles: String = of_root
        .split("\n[")
        .filter(|table| table.starts_with("profile."))
        .map(|table| format!("\n[{table}\n"))
        .collect();
    let manifest = manifest
        .replace("name = \"secure-app\"", &format!("name = \"{name}\""))
        .replace("[lib]\n", "[lib]\nname = \"secure_app\"\n")
        .replace("path = \"../..", &format!("path = \"{}", root.display()));
    fs::write(folder.join("Cargo.toml"), format!("{manifest}\n[workspace]\n{profiles}")).expect("written");
    let lock = fs::read_to_string(root.join("Cargo.lock")).expect("there");
    let lock = lock.replace("name = \"secure-app\"", &format!("name = \"{name}\""));
    fs::write(folder.join("Cargo.lock"), lock).expect("written");
    for (file, old, new) in changes {
        let path = folder.join(file);
        let text = fs::read_to_string(&path).expect("there");
        assert_eq!(text.matches(old).count(), 1, "{old:?} in {file}");
        fs::write(&path, text.replace(old, new)).expect("written");
    }
    let program = Path::new(env!("CARGO_BIN_EXE_secure-app"));
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline", "--bin", name, "--test", "none", "--manifest-path"]);
    build.arg(folder.join("Cargo.toml"));
    build.env("CARGO_TARGET_DIR", program.parent().and_then(Path::parent).expect("target"));
    let output = build.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program.with_file_name(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
fn a_changed_session_is_deployed_in_two_steps_and_rolled_back_under_load() {
    let before = PathBuf::from(env!("CARGO_BIN_EXE_secure-app"));
    let both: Vec<_> = NEW_FORM.into_iter().chain([SHOWN]).collect();
    let first = built("secure-app-first", &both.iter().copied().chain([WRITES_OLD]).collect::<Vec<_>>());
    let second = built("secure-app-second", &both);
    let guest = Site::prepared("");
    let mut fleet = Fleet::start(&guest, &new_key());
    let changes = under_load(fleet.visitor(&guest), |all_around| {
        // There, back before anything new was written, there again; and between the two releases as one likes.
        for program in [&first, &before, &first, &second, &first, &second] {
            for number in [0, 1, 2] {
                fleet.replace(number, program);
                all_around();
            }
        }
    });
    assert!(changes.iter().all(Option::is_some), "all are of the new form: {changes:?}");
}
