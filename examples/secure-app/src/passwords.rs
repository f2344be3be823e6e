//! Passwords: argon2id with OWASP's parameters, off the async threads, a few at a time, and in the same time whether
//! the user exists or not.

use crate::shares::{Shares, Use};
use arc_swap::ArcSwap;
use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::phc::PasswordHash,
};
use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, net::Ipv6Addr, sync::Arc};
use tokio::sync::Semaphore;

/// Checks that wait or run, of all clients and of one: more would wait for seconds, and nobody is to have all turns.
const CHECKS: (usize, usize) = (64, 16);

/// Stands in a session, so that it ends when the user's password changes: the beginning of a SHA-256 of the hash.
pub type Stamp = [u8; 8];

/// A user as configured.
#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: String,
    /// From `secure-app hash-password`.
    pub password_hash: String,
}

/// All users, replaced as a whole when the configuration changes.
pub struct Users {
    /// By name: the hash, and the stamp of sessions.
    known: HashMap<String, (String, Stamp)>,
    /// Checked for names that no user has: nobody knows its password.
    decoy: String,
}

impl Users {
    pub fn new(users: &[User]) -> Result<Users, String> {
        let mut known = HashMap::new();
        let mut costs = vec![OWASP];
        for User { name, password_hash } in users {
            let cost = cost(password_hash)
                .map_err(|error| format!("users: the password_hash of {name:?} {error}"))?;
            costs.push(cost);
            if known.insert(name.clone(), (password_hash.clone(), stamp(password_hash))).is_some() {
                return Err(format!("users: {name:?} stands there twice"));
            }
        }
        let dearest = costs.iter().copied().max_by_key(work).unwrap_or(OWASP);
        if costs.iter().skip(1).any(|cost| work(cost) < work(&dearest)) {
            tracing::warn!(
                "password hashes differ in cost: the time of an answer may tell which users exist"
            );
        }
        Ok(Users { known, decoy: hash_with(&random_password()?, dearest)? })
    }

    /// One user, whose name and password are for everyone to see in the terminal. The stamp is that of the name: the
    /// password changes at each start, and sessions need not.
    pub fn demo(name: &str, password: &str) -> Result<Users, String> {
        let hash = hash(password)?;
        let mut users = Users::new(&[User { name: name.to_owned(), password_hash: hash }])?;
        if let Some((_, of_password)) = users.known.get_mut(name) {
            *of_password = stamp(name);
        }
        Ok(users)
    }

    /// The hash that a password is compared with, whoever is said to have it, and the stamp if it is right.
    pub fn checked(&self, name: &str) -> (&str, Option<Stamp>) {
        self.known.get(name).map_or((&self.decoy, None), |(hash, stamp)| (hash, Some(*stamp)))
    }

    /// `None`: there is no such user (any more).
    pub fn stamp(&self, name: &str) -> Option<Stamp> {
        self.known.get(name).map(|(_, stamp)| *stamp)
    }
}

fn stamp(of: &str) -> Stamp {
    let mut stamp = Stamp::default();
    stamp.copy_from_slice(&Sha256::digest(of.as_bytes())[..8]);
    stamp
}

/// Memory in KiB, passes and lanes.
type Cost = (u32, u32, u32);

/// OWASP Password Storage Cheat Sheet, the first of its settings: 19 MiB, two passes, one lane.
const OWASP: Cost = (19 * 1024, 2, 1);
/// The least work among them: 7 MiB, five passes.
const LEAST: Cost = (7 * 1024, 5, 1);

fn work((memory, passes, _): &Cost) -> u64 {
    u64::from(*memory) * u64::from(*passes)
}

/// What a hash costs, if this app would check it.
fn cost(hash: &str) -> Result<Cost, &'static str> {
    const HOW: &str = "is not one that `secure-app hash-password` makes ($argon2id$v=19$…)";
    let hash = PasswordHash::new(hash).map_err(|_| HOW)?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| HOW)?;
    if algorithm != Algorithm::Argon2id || hash.version != Some(0x13) || hash.hash.is_none() {
        return Err(HOW);
    }
    let params = Params::try_from(&hash).map_err(|_| HOW)?;
    let cost = (params.m_cost(), params.t_cost(), params.p_cost());
    if cost.0 < LEAST.0 || work(&cost) < work(&LEAST) {
        return Err("is weaker than OWASP asks for (m=19456,t=2 or the like): make it anew with \
                    `secure-app hash-password`");
    }
    // What one guess may cost this machine.
    if cost.0 > 256 * 1024 || cost.1 > 16 {
        return Err("asks for more than 256 MiB or 16 passes");
    }
    Ok(cost)
}

/// The PHC string of a password, with a random salt.
pub fn hash(password: &str) -> Result<String, String> {
    hash_with(password, OWASP)
}

fn hash_with(password: &str, (memory, passes, lanes): Cost) -> Result<String, String> {
    let params = Params::new(memory, passes, lanes, None).map_err(|error| error.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

/// 100 bits, to be read off a terminal.
pub fn random_password() -> Result<String, String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes)
        .map_err(|error| format!("the operating system has no randomness: {error}"))?;
    let letters: Vec<char> = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    Ok(letters.chunks(5).map(String::from_iter).collect::<Vec<_>>().join("-"))
}

/// Checks passwords.
pub struct Passwords {
    users: ArcSwap<Users>,
    /// As many at a time as there are cores: each takes one, and 19 MiB.
    turns: Arc<Semaphore>,
    checks: Arc<Shares>,
}

/// Too many passwords wait to be checked, or the check broke.
#[derive(Debug)]
pub struct Busy;

impl Passwords {
    pub fn new(users: Users) -> Passwords {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Passwords {
            users: ArcSwap::from_pointee(users),
            turns: Arc::new(Semaphore::new(cores)),
            checks: Shares::new(CHECKS.0, CHECKS.1),
        }
    }

    pub fn replace(&self, users: Users) {
        self.users.store(Arc::new(users));
    }

    pub fn stamp(&self, name: &str) -> Option<Stamp> {
        self.users.load().stamp(name)
    }

    pub fn in_use(&self) -> Use {
        self.checks.in_use()
    }

    /// The user's stamp if the password is right.
    pub async fn check(
        &self,
        client: Ipv6Addr,
        name: String,
        password: String,
    ) -> Result<Option<Stamp>, Busy> {
        let share = self.checks.take(Some(client)).ok_or(Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Busy)?;
        let users = self.users.load_full();
        let check = move || {
            // Held until the work is done, also when the client has gone meanwhile.
            let _held = (share, turn);
            let (hash, stamp) = users.checked(&name);
            let right = Argon2::default().verify_password(password.as_bytes(), hash).is_ok();
            stamp.filter(|_| right)
        };
        // A panic is no wrong password.
        tokio::task::spawn_blocking(check).await.map_err(|error| {
            tracing::error!(%error, "a password's check broke");
            Busy
        })
    }
}
