//! Client-side sessions for [axum] and any [tower] service: a typed session, sealed by the server into
//! one cookie, under keys that can be rotated. There is no store to run.
//!
#![cfg_attr(feature = "axum", doc = "```no_run")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, extract::Path, response::Redirect, routing::{get, post}};
//! use cookie_session::{KeyRing, Session, SessionLayer, UpdateError};
//! use std::time::Duration;
//!
//! #[derive(Default, serde::Serialize, serde::Deserialize)]
//! struct Shop { user: Option<u64>, cart: Vec<u32> }
//!
//! async fn buy(session: Session<Shop>, Path(id): Path<u32>) -> Result<Redirect, UpdateError> {
//!     session.update(|shop| shop.cart.push(id))?; // too large? nothing has changed, and you decide
//!     Ok(Redirect::to("/cart"))
//! }
//! async fn cart(session: Session<Shop>) -> String {
//!     session.read(|shop| format!("{:?}", shop.cart))
//! }
//! async fn sign_out(session: Session<Shop>) -> Redirect {
//!     session.clear();
//!     Redirect::to("/cart")
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sessions = SessionLayer::<Shop>::builder(KeyRing::from_env("SESSION_KEY")?)
//!     .context("shop") // another service with the same key cannot read these
//!     .idle_timeout(Duration::from_secs(30 * 60))
//!     .build()?;
//! let app: Router = Router::new()
//!     .route("/buy/{id}", post(buy))
//!     .route("/cart", get(cart))
//!     .route("/sign-out", post(sign_out))
//!     .layer(sessions);
//! # Ok(()) }
//! ```
//!
//! The cookie is `__Host-Http-session`, encrypted, Secure, HttpOnly, SameSite=Lax and bound to this very host.
//! The session ends 24 hours after its cookie was last issued, or 14 days after it began.
//!
//! # Is this the right crate?
//!
//! Yes, if a session is small (a user's id, roles, a cart, a flash message; some 2.9 kB at most) and you
//! would rather not run a store: on one machine, or on hundreds that share nothing but a key. No, if
//! sessions are large, if they hold what must never go back to an older state (a balance, a used coupon), or
//! if you must be able to list and revoke them all: use `tower-sessions` with a store.
//!
//! # Three ideas
//!
//! * A [`KeyRing`] has one *primary* key, which seals, and *fallbacks*, which only open. Layers share it
//!   through a [`KeyRingHandle`], which can replace it while the server runs.
//! * A [`Session<T>`](Session) is a handle that handlers, extractors and middleware share: `read`, `update`,
//!   `clear`. `T` is your type; without one of your own use [`SessionMap`].
//! * A [`SessionLayer<T>`](SessionLayer) hands it out, and sends the cookie when the response's headers leave:
//!   only if the session has changed, or its cookie is due for a new one. Nothing is decrypted on routes that
//!   do not ask. [Where it stands](docs::where_it_stands) among other layers matters.
//!
//! # Rotating keys
//!
//! Without signing anyone out, and safe while each step is half-way through a fleet:
//!
//! 1. Ship the new key as a *fallback* everywhere.
//! 2. Promote it to *primary*, and keep the old one as a fallback.
//! 3. Wait for the longest lifetime. Dropping the old key sooner signs out whoever has not come back since;
//!    [`Counters::opened_by_fallback`] of all instances shows how many still do.
//! 4. Drop the old key.
//!
//! Each step is a restart, or takes effect in the running server: [`KeyRingHandle::replace`], with
//! [`SessionConfig::key_ring`] where the keys stand in a configuration that has changed.
//!
//! Back is the same in reverse: from step 2 to step 1 at any time; before the new key is taken out again, wait
//! for the longest lifetime. A key dropped too soon signs nobody out for good: put it back, and the cookies that
//! nobody has overwritten meanwhile open again.
//!
//! **A leaked key is never rotated out**: while it is a fallback, forged cookies are re-issued under the new
//! key. The new ring is one fresh key alone, without any that was in use beside the leaked one. Everyone is
//! signed out.
//!
//! # Lifetime
//!
//! Two timeouts, both judged by the server: the *idle* timeout counts from the last cookie, the *absolute*
//! one from the session's start or its last [`renew`](Session::renew). A request that reads the session
//! re-issues its cookie, but not on every response: only once it is a tenth of the idle timeout old
//! ([`reissue_after`](SessionBuilder::reissue_after)). So the end comes 21.6 to 24 hours after the last use. A
//! request that does not use the session, though it may extract it, re-issues nothing: if whole parts of a site
//! never use it, have a middleware there call `session.read(|_| ())`.
//!
//! A session can have a lifetime of its own ("remember me") or end with the browser: [`Lifetime`].
//!
//! # Signing in and out
//!
//! ```
//! # use cookie_session::{Lifetime, Session, UpdateError};
//! # use std::time::Duration;
//! # #[derive(Default, serde::Serialize, serde::Deserialize)]
//! # struct Account { user: Option<u64>, cart: Vec<u32> }
//! const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60); // also .max_own_lifetime(MONTH)
//!
//! fn sign_in(session: &Session<Account>, user: u64, remember: bool) -> Result<(), UpdateError> {
//!     if session.read(|account| account.user.is_some_and(|other| other != user)) {
//!         session.clear(); // somebody else was here: their cart and lifetime go
//!     }
//!     session.renew()?; // a new id, and the absolute timeout starts again
//!     session.set_lifetime(if remember { Lifetime::Own(MONTH) } else { Lifetime::Timeouts })?;
//!     session.update(|account| account.user = Some(user))
//! }
//! # let session = Session::detached(Account::default());
//! # assert!(sign_in(&session, 1, false).is_ok());
//! ```
//!
//! To sign out, [`clear`](Session::clear). It holds in this browser, also against slow responses that are still
//! under way: a second small cookie, `<name>-out`, holds the time of the sign-out and nothing else.
//!
//! # Two sessions in one application
//!
//! They need two types, since handlers ask by type, **and** two [names](SessionBuilder::name), since browsers do
//! by name; a layer for each, over clones of one [`KeyRingHandle`]. Neither name may be the other with `-out`
//! behind, which is the other's marker.
//!
//! # Testing handlers
//!
//! [`Session::detached`] makes a session without a layer, which behaves as one that came in. Where the cookie
//! itself matters, [`SessionLayer::codec`] makes the request's, and opens the response's; the layer's
//! [`clock`](SessionBuilder::clock) drives the time.
//!
//! # Changing the struct
//!
//! A cookie outlives a deploy. A changed struct gets a new [`schema`](SessionBuilder::schema) number and a
//! [`migrate_from`](SessionBuilder::migrate_from). So that nobody is signed out while old and new instances
//! run side by side, deploy in two steps: first a release that reads both forms and still
//! [writes the old one](SessionBuilder::write_as), then one that writes the new. Back means back to the first of
//! these, not further: a session that came in the new form stays in it. While the old form is written, a change
//! of what only the new one has is no change of a session in the old form. A change under the same
//! number is noticed by the type's [`Shape`] and refused, never misread (but where a `Deserialize` that is written
//! by hand asks for one thing or another by what it has read: what it did not ask for when it was tried is not
//! covered); pin [`layer.shape()`](SessionLayer::shape) in a test. Types that do not come back as they were written
//! (`skip_serializing_if`, skipped enum variants, `flatten`, tags other than serde's default) are refused: by
//! `build()` where the values that it makes up show it, else by the `update` whose value would be lost.
//!
//! # Coming from elsewhere
//!
//! Users who are signed in stay so, whatever their cookies look like today:
//!
//! * from npm's `cookie-session`, feature `express`: [from Express](docs::from_express);
//! * from a `PrivateCookieJar` or `SignedCookieJar`, feature `jar`: [from jars](docs::from_jars);
//! * from a format of one's own, in thirty lines: [`OldFormat`]; `examples/import_flask.rs` in the repository does it
//!   for Flask's;
//! * from another name, prefix, Domain, Path, context or mode of this crate's own cookie: [moving](docs::moving).
//!
//! # Limits
//!
//! * The whole `Set-Cookie` has at most [`MAX_SET_COOKIE`] bytes; [`Session::remaining`] says what is left.
//! * At most 128 values stand in one another; what nests deeper is refused by the `update`.
//! * The last response wins: each carries the whole session, and the browser keeps the one that arrives last,
//!   whichever was sent or made first. Of parallel writes the others are lost, the session never is. A read whose
//!   cookie is due for a new one sends the session too, if it is answered within ten seconds.
//! * A copied cookie is good until it expires, unless [`accept_if`](SessionBuilder::accept_if) refuses its id.
//!   Sign-out holds in the same browser without that.
//! * A `HashMap` encodes differently each time, so a session with one looks changed at each `update`: use a
//!   `BTreeMap`. A random `T::default()` differs on each request until it is written.
//!
//! # More
//!
//! * [Security](docs::security): what is protected against whom, what came in and what became of it.
//! * [Wire format](docs::wire_format): for those who implement or review it.
//! * [Proof](docs::proof): how each promise was checked, with the commands and their figures.
//! * [Performance](docs::performance): what it costs beside others, and where the time goes.
//! * [Design](docs::design): why it is as it is.
//! * [From Express](docs::from_express), [from cookie jars](docs::from_jars), [from tower-sessions](docs::from_tower_sessions),
//!   and [from one name, Domain or context to another](docs::moving): without signing anyone out.
//! * [Signing users in](docs::sign_in), [several tenants](docs::tenants), and [when a store is better](docs::when_a_store_is_better).
//! * In the repository, `examples/current_user.rs` has sign-in, a `CurrentUser` extractor and its middleware,
//!   `examples/tower_only.rs` does without axum.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | seal, open | turn a session into a cookie that nobody else can read or make, and back |
//! | mode, suite | encrypted or signed, and the cryptography that does it |
//! | ring, primary, fallback | all keys; the one that seals; those that only open |
//! | hand out, use | a handler extracts the session (the page becomes `private`); it reads or writes it (the cookie is opened) |
//! | head | the moment at which the response's headers leave the layer |
//! | re-issue, renew | the same session in a new cookie; a new id as well |
//! | identity | name, Domain, Path and Partitioned, which make a cookie one to a browser; context and mode of its seal |
//! | import | make a session of ours from one in an older format |
//! | marker | the cookie that holds the time of a sign-out |
//! | shape, form | the fingerprint of the session's type; schema number and shape |
//! | frame | suite, key id and body: what the cookie's value is the base64url of |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `axum` | yes | [`Session`] as an extractor, errors as responses; depends on `axum-core` only |
//! | `express` | no | `Express`: [imports](SessionBuilder::import) the sessions of npm's `cookie-session`; depends on `serde_json` and `sha1` |
//! | `jar` | no | `Jar`: imports those in private and signed jars of the `cookie` crate |
//! | `tracing` | no | events, listed below |
//!
//! | event (its name, and its field `event`) | level | when |
//! |---|---|---|
//! | `session_rejected` | debug | a cookie was not accepted; `kind` |
//! | `session_imported` | debug | a session was imported from an older format |
//! | `session_write_dropped` | debug | a 5xx response does not send the session's change, or the response never came |
//! | `session_clear_dropped` | warn | a session was cleared, and its response never came: the client has gone, or the service inside failed |
//! | `session_reissue_too_large` | warn | a session no longer fits, so its cookie is not re-issued; `needed` |
//! | `session_import_over` | warn | `build()` met an import whose date has passed |
//! | `session_write_too_late` | warn | a session had ended when the headers left |
//! | `session_cache_overruled` | warn | a cookie goes out with a response that asked for shared caching |
//! | `session_layer_nested` | warn | a layer stands inside another of its type and name, with other settings; `name` |
//! | `session_key_printable` | warn | a key decodes to text: is it random? |
//! | `session_name_shared` | error | two session types write one cookie; `name` |
//! | `session_clear_too_late` | error | `clear` after the headers had left |
//! | `session_too_late` | error | a session first asked for after the headers had left: it is empty |
//! | `session_no_randomness` | error | the operating system gave none, a sealed cookie was left out |
//! | `session_headers_full` | error | the response cannot take another header |
//! | `session_missing_layer` | error | a handler asked for a session of a type that has no layer; `error` |
//! | `session_update_failed`, `session_map_failed` | error | a handler answered with that error; `error` |
//!
//! # What stays stable
//!
//! Cookies sealed by a release are opened by later ones of the same major version, and never read differently
//! ([versions](docs::wire_format#versions)); the changelog says of each release what became of the wire format,
//! "unchanged" included. The minimum supported Rust version is in
//! `Cargo.toml`; raising it is a minor release. No type of another crate is in the public interface but those
//! of `http`, `serde`, `tower-layer`, `tower-service` and `axum-core`. Nothing here panics by itself; a panic of
//! your own code (closures, hooks, the clock, `Default`, `Drop` and serde implementations, which `build()` runs
//! too) goes through, and changes nothing of the session.
//!
//! [axum]: https://docs.rs/axum
//! [tower]: https://docs.rs/tower
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs, clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cache;
mod codec;
mod config;
mod cookie;
mod encode;
mod error;
#[cfg(feature = "express")]
mod express;
#[cfg(feature = "axum")]
mod extract;
mod frame;
mod identity;
mod import;
#[doc(hidden)]
pub mod internal;
#[cfg(feature = "jar")]
mod jar;
mod key;
mod layer;
mod lifetime;
mod log;
mod map;
mod ring;
mod seal;
mod session;
mod shape;

// The public interface is:
pub use codec::{Opened, Removals, SessionCodec, SessionId, SessionMeta};
pub use config::{SessionBuilder, SessionConfig};
pub use cookie::{MAX_SET_COOKIE, SameSite, SetCookie};
pub use error::{
    ConfigError, Incoming, KeyError, MapError, MissingLayer, NotEncodable, ParseIdError, RejectedKind, Shown,
    TooLarge, UpdateError, Weakness,
};
#[cfg(feature = "express")]
pub use express::{Digest, Encoding, Express};
pub use identity::{Identity, Mode};
pub use import::{Imported, OldCookies, OldFormat};
#[cfg(feature = "jar")]
pub use jar::{Jar, JarKey};
pub use key::{Key, KeyId, KeyRing};
pub use layer::{ResponseFuture, SessionLayer, SessionService};
pub use lifetime::{CLOCK_SKEW, Lifetime};
pub use map::SessionMap;
pub use ring::{Counters, KeyRingHandle};
pub use session::Session;
pub use shape::Shape;

/// The long pages.
pub mod docs {
    #[doc = include_str!("docs/security.md")]
    pub mod security {}
    #[doc = include_str!("docs/wire_format.md")]
    pub mod wire_format {}
    #[doc = include_str!("docs/proof.md")]
    pub mod proof {}
    #[doc = include_str!("docs/performance.md")]
    pub mod performance {}
    #[doc = include_str!("docs/where_it_stands.md")]
    pub mod where_it_stands {}
    #[doc = include_str!("docs/design.md")]
    pub mod design {}
    #[doc = include_str!("docs/from_express.md")]
    pub mod from_express {}
    #[doc = include_str!("docs/from_jars.md")]
    pub mod from_jars {}
    #[doc = include_str!("docs/from_tower_sessions.md")]
    pub mod from_tower_sessions {}
    #[doc = include_str!("docs/moving.md")]
    pub mod moving {}
    #[doc = include_str!("docs/sign_in.md")]
    pub mod sign_in {}
    #[doc = include_str!("docs/tenants.md")]
    pub mod tenants {}
    #[doc = include_str!("docs/when_a_store_is_better.md")]
    pub mod when_a_store_is_better {}
}

#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;
