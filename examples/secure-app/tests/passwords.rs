//! Passwords: which hashes are good enough, that checking one takes the same work whoever it is for, and what happens to
//! sessions when users change.

mod common;

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
use browser_tests::wait_for;
use common::{PASSWORD, Site, USER, password_hash};
use secure_app::passwords::{self, Busy, Passwords, User, Users};
use std::{
    io::Write as _,
    net::Ipv6Addr,
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

fn hash_with(algorithm: Algorithm, version: Version, memory: u32, passes: u32) -> String {
    let argon2 = Argon2::new(algorithm, version, Params::new(memory, passes, 1, None).unwrap());
    argon2.hash_password(PASSWORD.as_bytes()).unwrap().to_string()
}

fn user(name: &str, hash: &str) -> User {
    User { name: name.to_owned(), password_hash: hash.to_owned() }
}

/// The message with which a hash is refused.
fn refused(hash: &str) -> Option<String> {
    Users::new(&[user("ada", hash)]).err()
}

#[test]
fn hashes_that_are_weaker_than_owasp_asks_for_are_refused_by_the_users_name() {
    let id = |memory, passes| hash_with(Algorithm::Argon2id, Version::V0x13, memory, passes);
    // The first five are OWASP's.
    for hash in [
        id(46 * 1024, 1),
        id(19 * 1024, 2),
        id(12 * 1024, 3),
        id(9 * 1024, 4),
        id(7 * 1024, 5),
        id(64 * 1024, 3),
    ] {
        assert_eq!(refused(&hash), None, "{hash}");
    }
    for hash in [id(19 * 1024, 1), id(7 * 1024, 4), id(4 * 1024, 16), id(8, 1)] {
        let message = refused(&hash).expect("it is weak");
        assert!(
            message.starts_with("users: the password_hash of \"ada\" is weaker than OWASP asks for"),
            "{message}"
        );
        assert!(message.contains("`secure-app hash-password`") && !message.contains(&hash), "{message}");
    }
}

#[test]
fn what_is_no_argon2id_hash_is_refused_by_the_users_name() {
    let good = password_hash();
    let (head, _) = good.rsplit_once('$').unwrap();
    let others = [
        hash_with(Algorithm::Argon2i, Version::V0x13, 19 * 1024, 2),
        hash_with(Algorithm::Argon2d, Version::V0x13, 19 * 1024, 2),
        hash_with(Algorithm::Argon2id, Version::V0x10, 19 * 1024, 2),
        PASSWORD.to_owned(),
        String::new(),
        head.to_owned(),
        good.replace("v=19$", ""),
        good.replace("$argon2id", "$scrypt"),
        good.replace("m=19456", "m=4294967296"),
        format!(" {good}"),
        format!("{good}\n"),
        "$2b$12$abcdefghijklmnopqrstuuDPzvYfDvVlB3eWq0T5lJdXG8X8YIfVW".to_owned(),
    ];
    for hash in others {
        let message = refused(&hash).unwrap_or_else(|| panic!("{hash} was taken"));
        assert!(
            message.starts_with("users: the password_hash of \"ada\" is not one that"),
            "{hash}: {message}"
        );
        assert!(message.contains("`secure-app hash-password`"), "{hash}: {message}");
        assert!(hash.is_empty() || !message.contains(&hash), "{hash}: {message}");
    }
}

#[test]
fn hashes_that_one_guess_could_bring_the_machine_down_with_are_refused() {
    // Not made: that is what it is about.
    for (params, good) in [
        ("m=262144,t=1", true),
        ("m=262145,t=1", false),
        ("m=19456,t=16", true),
        ("m=19456,t=17", false),
        ("m=4194304,t=100", false),
    ] {
        let message = refused(&password_hash().replace("m=19456,t=2", params));
        let expected = "users: the password_hash of \"ada\" asks for more than 256 MiB or 16 passes";
        assert_eq!(message.as_deref(), Some(expected).filter(|_| !good), "{params}");
    }
}

#[test]
fn what_hash_password_prints_is_good_and_is_of_that_password() {
    let hash_password = |input: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secure-app"));
        command.arg("hash-password").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (input, password) in [
        ("correct horse\n", "correct horse"),
        ("ends here", "ends here"),
        ("by windows\r\n", "by windows"),
        (" spaces count \n", " spaces count "),
        ("grün-und-ßüß\n", "grün-und-ßüß"),
        ("12345678\nnext line\n", "12345678"),
    ] {
        let (code, hash, _) = hash_password(input);
        assert_eq!(code, Some(0));
        assert_eq!(hash.lines().count(), 1, "{hash}");
        let passwords = Passwords::new(Users::new(&[user("ada", hash.trim_end())]).unwrap());
        let check = |password: &str| {
            let check = passwords.check(client(0), "ada".to_owned(), password.to_owned());
            runtime.block_on(check).unwrap().is_some()
        };
        assert!(check(password), "{password:?}");
        assert!(!check(&format!("{password}x")), "{password:?}");
        assert!(!hash.contains(password.trim()), "{hash}");
    }
    let (code, hash, error) = hash_password("1234567\n");
    assert_eq!((code, &*hash), (Some(1), ""));
    assert!(error.contains("a password has at least 8 characters") && !error.contains("1234567"), "{error}");
    // Each has a salt of its own.
    assert_ne!(passwords::hash(PASSWORD), passwords::hash(PASSWORD));
}

#[test]
fn a_name_that_no_user_has_costs_the_same_work_as_the_dearest_user() {
    let dear = hash_with(Algorithm::Argon2id, Version::V0x13, 61 * 1024, 3);
    let users = Users::new(&[user("ada", password_hash()), user("dear", &dear)]).unwrap();
    let parameters = |name: &str| {
        let (hash, stamp) = users.checked(name);
        (hash.rsplitn(3, '$').nth(2).unwrap().to_owned(), stamp.is_some())
    };
    assert_eq!(parameters("ada"), ("$argon2id$v=19$m=19456,t=2,p=1".to_owned(), true));
    assert_eq!(parameters("dear"), ("$argon2id$v=19$m=62464,t=3,p=1".to_owned(), true));
    for name in ["nobody", "", "Ada", "ada "] {
        assert_eq!(parameters(name), (parameters("dear").0, false), "{name:?}");
    }
    // And what it is compared with is nothing that anybody can know.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let passwords = Passwords::new(users);
    for (name, password) in [("nobody", PASSWORD), ("nobody", ""), ("ada", ""), ("ada", "wrong")] {
        let check = passwords.check(client(0), name.to_owned(), password.to_owned());
        assert_eq!(runtime.block_on(check).unwrap(), None, "{name:?} {password:?}");
    }
}

/// So many clients as there are numbers.
fn client(number: usize) -> Ipv6Addr {
    Ipv6Addr::from_bits((number as u128) << 64)
}

#[test]
fn the_work_for_a_name_that_no_user_has_waits_for_its_turn_like_any_other() {
    let passwords = Arc::new(Passwords::new(Users::new(&[user("ada", password_hash())]).unwrap()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for name in ["ada", "nobody"] {
            let crowd: Vec<_> = (0..MOST + 20)
                .map(|number| {
                    let passwords = Arc::clone(&passwords);
                    tokio::spawn(async move {
                        passwords.check(client(number), name.to_owned(), "wrong".to_owned()).await
                    })
                })
                .collect();
            let (mut checked, mut busy) = (0, 0);
            for one in crowd {
                match one.await.unwrap() {
                    Ok(stamp) => {
                        assert_eq!(stamp, None);
                        checked += 1;
                    }
                    Err(Busy) => busy += 1,
                }
            }
            // None has ended before the last one has asked, or a few.
            assert!(checked >= 64 && busy >= 1, "{name}: {checked} checked, {busy} too many");
        }
    });
}

/// So many wait at most, and on a machine of 16 cores so many are checked.
const MOST: usize = 64 + 16;

/// A hash that takes much longer to check than any other work here.
fn dear() -> String {
    hash_with(Algorithm::Argon2id, Version::V0x13, 64 * 1024, 8)
}

#[test]
fn when_too_many_wait_signing_in_is_put_off_and_not_counted() {
    let site = Site::prepared("");
    site.configure(
        "",
        &format!("primary = '{}'\n[[users]]\nname = 'dear'\npassword_hash = '{}'", site.key, dear()),
    );
    let site = site.started();
    let passwords = Arc::clone(&site.app().passwords);
    let end = Instant::now() + browser_tests::PATIENCE;
    let busy = loop {
        // More than may wait; each takes its time, so that they wait while the next request is made.
        let crowd: Vec<_> = (0..MOST + 20)
            .map(|number| {
                let passwords = Arc::clone(&passwords);
                let check = async move {
                    passwords.check(client(number), "dear".to_owned(), "wrong".to_owned()).await
                };
                site.runtime().spawn(check)
            })
            .collect();
        wait_for("too many", || crowd.iter().any(|one| one.is_finished()).then_some(()));
        let reply = site.log_in("", "eve", "wrong");
        crowd.iter().for_each(|one| one.abort());
        if reply.status == 503 {
            break reply;
        }
        assert!(Instant::now() < end, "{reply:?}");
    };
    assert_eq!(busy.header("retry-after"), Some("1"), "{busy:?}");
    assert_eq!(busy.header("cache-control"), Some("no-store"), "{busy:?}");
    assert!(busy.body.contains("Signing in does not work right now"), "{busy:?}");
    // Whoever was put off can sign in afterwards, and has nothing counted.
    wait_for("the crowd to be gone", || (site.log_in("", USER, PASSWORD).status == 303).then_some(()));
    let (records, locked) = site.app().limits.sizes();
    assert_eq!((records, locked), (0, 0));
}

// ------------------------------------------------------------------------------------------------ Sessions of users

#[test]
fn sessions_end_with_their_users_password_and_with_the_user_and_others_stay() {
    let site = Site::prepared("");
    let hash = || passwords::hash(PASSWORD).unwrap();
    let configure = |site: &Site, users: &[(&str, &str)]| {
        let table =
            |(name, hash): &(&str, &str)| format!("[[users]]\nname = '{name}'\npassword_hash = '{hash}'\n");
        let users: String = users.iter().map(table).collect();
        site.configure("", &format!("primary = '{}'\n{users}", site.key));
    };
    let (bob, eve) = (hash(), hash());
    configure(&site, &[("bob", &bob), ("eve", &eve)]);
    let site = site.started();
    let sign_in = |name: &str| {
        let reply = site.log_in("", name, PASSWORD);
        assert_eq!(reply.status, 303, "{reply:?}");
        reply.cookies()
    };
    let is = |cookie: &str, name: Option<&str>| assert_eq!(site.user(cookie).as_deref(), name);
    let visitor = site.post("/cart", "", "tea=1").cookies();
    let [ada, bobs, bobs_other, eves] = [USER, "bob", "bob", "eve"].map(sign_in);

    // The same password, hashed anew, is another one.
    let new = hash();
    configure(&site, &[("bob", &new), ("eve", &eve)]);
    wait_for("the change", || site.user(&bobs).is_none().then_some(()));
    is(&bobs_other, None);
    is(&ada, Some(USER));
    is(&eves, Some("eve"));
    let bobs = sign_in("bob");

    configure(&site, &[("bob", &new)]);
    wait_for("the change", || site.user(&eves).is_none().then_some(()));
    assert_eq!(site.log_in("", "eve", PASSWORD).status, 403);
    is(&ada, Some(USER));
    is(&bobs, Some("bob"));
    // Whoever has not signed in has nothing to do with it.
    assert!(site.get("/api/session", &visitor).body.contains("\"quantity\":1"));
}
