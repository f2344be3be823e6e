//! Settings from code and from configuration, and all of their validation.

use crate::{
    codec::{
        self, AcceptIf, Budget, Check, Encode, Form, Former, Import, Migrate, Name, Schemas, SessionCodec,
        SessionMeta, Writer,
    },
    cookie::{self, Finder, MAX_SET_COOKIE, SameSite, Target, Template},
    encode,
    error::{ConfigError, KeyError, NotEncodable, Shown},
    frame::Suite,
    identity::{Identity, Mode},
    import::OldFormat,
    key::{self, KeyRing},
    lifetime::{self, MAX_LIFETIME, Rules},
    log::event,
    ring::{Binding, Bound, KeyRingHandle},
    shape::{self, Shape, Unsupported},
};
use http::request::Parts;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, EnumAccess, MapAccess, SeqAccess, Visitor},
};
use std::{
    any::type_name,
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};
use zeroize::Zeroizing;

const DEFAULT_NAME: &str = "__Host-Http-session";
const DEFAULT_NAME_INSECURE: &str = "session";
const DEFAULT_IDLE: Duration = Duration::from_secs(24 * 60 * 60);
const DEFAULT_ABSOLUTE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// What both configuration and code can set.
#[derive(Debug)]
struct Settings {
    name: Option<String>,
    context: String,
    domain: Option<String>,
    path: String,
    same_site: SameSite,
    partitioned: bool,
    insecure_for_local_http: bool,
    max_set_cookie: usize,
    mode: Mode,
    accept_modes: Vec<Mode>,
    idle_timeout: Option<Duration>,
    absolute_timeout: Duration,
    max_own_lifetime: Option<Duration>,
    reissue_after: Option<Duration>,
    formerly: Vec<Identity>,
    keep_old_cookies: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: None,
            context: String::new(),
            domain: None,
            path: "/".to_owned(),
            same_site: SameSite::Lax,
            partitioned: false,
            insecure_for_local_http: false,
            max_set_cookie: MAX_SET_COOKIE,
            mode: Mode::Encrypted,
            accept_modes: Vec::new(),
            idle_timeout: None,
            absolute_timeout: DEFAULT_ABSOLUTE,
            max_own_lifetime: None,
            reissue_after: None,
            formerly: Vec::new(),
            keep_old_cookies: false,
        }
    }
}

type PassiveIf = Box<dyn Fn(&Parts) -> bool + Send + Sync>;
type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;
/// A type's shape and how to see whether a value comes back as it was; for a type that is only read, nobody asks.
type ShapeOf = fn() -> Result<(Shape, Option<Check>), ConfigError>;

fn read_shape<V: DeserializeOwned>() -> Result<(Shape, Option<Check>), ConfigError> {
    Ok((shape::outline_of::<V>(|_, _| {}).map_err(unsupported)?.shape(), None))
}

/// Each variant must come back as it was.
fn written_shape<V: Serialize + DeserializeOwned>() -> Result<(Shape, Option<Check>), ConfigError> {
    let (mut good, mut alike, mut known) = (true, true, Vec::new());
    let seen = |value, calls| {
        good &= codec::comes_back(&value);
        alike &= encode::look(&value, &mut known) == Some(calls);
    };
    let outline = shape::outline_of::<V>(seen).map_err(unsupported)?;
    if !good {
        return Err(ConfigError::DoesNotComeBack { type_name: type_name::<V>() });
    }
    Ok((outline.shape(), Some(Check::of::<V>(outline.plain && alike, known))))
}

fn unsupported(Unsupported::NotSelfDescribing { type_name }: Unsupported) -> ConfigError {
    ConfigError::TypeNotStorable { type_name }
}

/// What the layer asks while it handles a request.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) passive_if: Option<PassiveIf>,
    clock: Option<Clock>,
}

impl Hooks {
    pub(crate) fn now(&self) -> u64 {
        lifetime::from_system(self.clock.as_ref().map_or_else(SystemTime::now, |clock| clock()))
    }
}

/// Settings of a [`SessionLayer`](crate::SessionLayer), from
/// [`SessionLayer::builder`](crate::SessionLayer::builder) or
/// [`SessionLayer::from_config`](crate::SessionLayer::from_config). Nothing is checked before
/// [`build`](SessionBuilder::build).
#[must_use = "settings do nothing before build()"]
pub struct SessionBuilder<T> {
    /// `None`: the configuration has no keys, or no good ones, which `faults` says.
    keys: Option<KeyRingHandle>,
    /// The configuration has keys, good or not.
    configured_keys: bool,
    faults: Vec<ConfigError>,
    settings: Settings,
    schema: u16,
    migrations: Vec<(u16, ShapeOf, Migrate<T>)>,
    write_as: Vec<(u16, ShapeOf, Encode<T>)>,
    imports: Vec<OldSessions<T>>,
    accept_if: Option<AcceptIf<T>>,
    hooks: Hooks,
}

/// A format, and until when its sessions are imported.
type OldSessions<T> = (Box<dyn OldFormat<T>>, SystemTime);
/// The same with its cookies.
type OldCookiesOf<T> = (OldSessions<T>, Vec<(Target, Identity)>);

impl<T> fmt::Debug for SessionBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a key by mistake, until `build` has said so.
        let name = self.settings.name.as_deref().map(Shown::new);
        f.debug_struct("SessionBuilder").field("name", &name).finish_non_exhaustive()
    }
}

impl<T> SessionBuilder<T> {
    pub(crate) fn new(keys: KeyRingHandle) -> Self {
        Self::with(Some(keys), false, Settings::default(), Vec::new())
    }

    pub(crate) fn from_config(config: SessionConfig) -> Self {
        let mut faults = Vec::new();
        let (settings, keys) = config.read(&mut faults);
        let configured_keys = keys.is_some();
        Self::with(keys.flatten().map(KeyRingHandle::new), configured_keys, settings, faults)
    }

    fn with(
        keys: Option<KeyRingHandle>,
        configured_keys: bool,
        settings: Settings,
        faults: Vec<ConfigError>,
    ) -> Self {
        SessionBuilder {
            keys,
            configured_keys,
            faults,
            settings,
            schema: 1,
            migrations: Vec::new(),
            write_as: Vec::new(),
            imports: Vec::new(),
            accept_if: None,
            hooks: Hooks::default(),
        }
    }

    /// The key ring, for a configuration that has no keys: from the environment, or a
    /// [`KeyRingHandle`] that several layers share. Default: the configuration's `keys`; keys from both
    /// are refused.
    pub fn keys(mut self, keys: impl Into<KeyRingHandle>) -> Self {
        let twice = self.keys.replace(keys.into()).is_some();
        if twice || self.configured_keys {
            self.faults.push(ConfigError::BothGiven {
                field: "keys of the configuration",
                other: "keys of the code",
            });
        }
        self
    }

    /// The cookie's name. Default: `__Host-Http-session`, and `session` beside
    /// [`insecure_for_local_http`](Self::insecure_for_local_http).
    ///
    /// The name is in the seal: to change it without signing everyone out, see [`formerly`](Self::formerly).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// What the seal is bound to beside the cookie's name: another service with the same key cannot
    /// read these sessions. Default: empty. To change it without signing everyone out, see
    /// [`formerly`](Self::formerly).
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.settings.context = context.into();
        self
    }

    /// The cookie's Domain. Default: none, so that the cookie goes back to this very host alone.
    ///
    /// With a Domain the cookie goes to all subdomains, and each of them can replace it: it cannot
    /// have a `__Host-` name, so set a [`name`](Self::name) such as `__Secure-id` with it.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.settings.domain = Some(domain.into());
        self
    }

    /// The cookie's Path. Default: `/`. Another one is no protection between applications of one
    /// host, and cannot have a `__Host-` name.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.settings.path = path.into();
        self
    }

    /// The cookie's SameSite. Default: [`SameSite::Lax`].
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.settings.same_site = same_site;
        self
    }

    /// Makes the cookie Partitioned (CHIPS): one for each top-level site that embeds this one.
    /// Default: not.
    pub fn partitioned(mut self) -> Self {
        self.settings.partitioned = true;
        self
    }

    /// Turns Secure off, and the prefix of the default name with it: for development over plain
    /// http where the browser drops Secure cookies (Safari does, on `http://localhost`; Chromium,
    /// Firefox and curl do not). Default: Secure.
    ///
    /// # ⚠️ Warning: whoever reads the wire has the session
    ///
    /// Never switch this on where users are.
    pub fn insecure_for_local_http(mut self) -> Self {
        self.settings.insecure_for_local_http = true;
        self
    }

    /// The most bytes that a whole `Set-Cookie` value may have. Default, and most: 4093.
    ///
    /// Lower it for what stands in front: nginx answers 502 where all response headers exceed its
    /// `proxy_buffer_size` of 4 kB.
    pub fn max_set_cookie(mut self, bytes: usize) -> Self {
        self.settings.max_set_cookie = bytes;
        self
    }

    /// How sessions are sealed that are written. Default: [`Mode::Encrypted`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// A mode that is also read, for a change-over. Default: only the one that is written. (Until a date:
    /// [`formerly`](Self::formerly) with `Identity::current().mode(…).until(…)`.)
    ///
    /// As for keys: first a release that accepts the new mode everywhere, then one that writes it and accepts the
    /// old one, and after the longest lifetime one without the old. An instance that does not accept a mode knows
    /// nothing of sign-outs in it either.
    pub fn accept_mode(mut self, mode: Mode) -> Self {
        self.settings.accept_modes.push(mode);
        self
    }

    /// A session ends when its cookie has not been re-issued for this long: by a write, or by a request
    /// that reads it (extracting is not enough) once [`reissue_after`](Self::reissue_after) has passed. Default: 24 hours, or the
    /// absolute timeout if that is shorter.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = Some(timeout);
        self
    }

    /// A session ends this long after it began or was renewed, however active. Default: 14 days.
    pub fn absolute_timeout(mut self, timeout: Duration) -> Self {
        self.settings.absolute_timeout = timeout;
        self
    }

    /// The longest [`Lifetime::Own`](crate::Lifetime::Own) that a session may be given. Default:
    /// the absolute timeout.
    pub fn max_own_lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.max_own_lifetime = Some(lifetime);
        self
    }

    /// How old a cookie is when an unchanged session gets a new one; the idle timeout can strike
    /// that much early. Default: a tenth of the idle timeout, but at least a minute and at most a
    /// half; a half is the most.
    pub fn reissue_after(mut self, age: Duration) -> Self {
        self.settings.reissue_after = Some(age);
        self
    }

    /// The number of `T`'s present form. Default: 1. Raise it when the struct changes, and give
    /// [`migrate_from`](Self::migrate_from) for each number that is still in browsers.
    pub fn schema(mut self, number: u16) -> Self {
        self.schema = number;
        self
    }

    /// Reads sessions of an older form.
    ///
    /// ```
    /// # use cookie_session::{Key, KeyRing, SessionLayer};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Deserialize, Serialize)]
    /// struct ShopV1 { cart: Vec<u32> }
    /// #[derive(Default, Deserialize, Serialize)]
    /// struct Shop { cart: Vec<u64>, user: Option<u64> }
    ///
    /// # let keys = KeyRing::new(Key::generate()?, [])?;
    /// let sessions = SessionLayer::<Shop>::builder(keys)
    ///     .schema(2)
    ///     .migrate_from(1, |old: ShopV1| Shop { cart: old.cart.into_iter().map(u64::from).collect(), user: None })
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn migrate_from<Old>(
        mut self,
        schema: u16,
        migrate: impl Fn(Old) -> T + Send + Sync + 'static,
    ) -> Self
    where
        Old: DeserializeOwned + 'static,
    {
        self.migrations.push((schema, read_shape::<Old>, Schemas::migrate(migrate)));
        self
    }

    /// Writes an older form, for the first step of a deploy that changes the struct: a release that
    /// reads both forms and still writes the old one, so that the instances not yet replaced can
    /// read what this one writes. New sessions and those that came in the old form are written in
    /// it; what came in a newer form is written as `T`, or its new fields would be lost. Default: `T`
    /// itself.
    ///
    /// It needs [`migrate_from`](Self::migrate_from) of the same number.
    pub fn write_as<Old>(mut self, schema: u16, convert: impl Fn(&T) -> Old + Send + Sync + 'static) -> Self
    where
        Old: Serialize + DeserializeOwned + 'static,
    {
        self.write_as.push((schema, written_shape::<Old>, Schemas::converted(convert)));
        self
    }

    /// Asked once for each request whose session opened and is neither expired nor signed out:
    /// `true` keeps it, `false` leaves the cookie alone and starts fresh. Default: all are kept.
    ///
    /// It runs on the request path and must not block: answer from memory. (Where two threads use a
    /// session first at the same moment, each may ask; one answer counts.)
    ///
    /// ```
    /// # use cookie_session::{Key, KeyRing, SessionId, SessionLayer};
    /// # use std::{collections::HashSet, sync::{Arc, RwLock}, time::SystemTime};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)]
    /// # struct Account { user: Option<u64> }
    /// # let keys = KeyRing::new(Key::generate()?, [])?;
    /// let denied: Arc<RwLock<HashSet<SessionId>>> = Arc::default();
    /// let deny = Arc::clone(&denied); // kept where sign-out and `renew` put old ids
    /// # let cut_off = SystemTime::now();
    /// let sessions = SessionLayer::<Account>::builder(keys)
    ///     .accept_if(move |meta, account| {
    ///         let by_id = denied.read().unwrap().contains(&meta.id());
    ///         let by_user = account.user == Some(42) && meta.renewed_at() < cut_off;
    ///         !by_id && !by_user
    ///     })
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The id is [`session.meta()`](crate::Session::meta)`.map(|meta| meta.id())` after the first write, or
    /// what `renew` returns; a denied id can be forgotten at its `absolute_deadline()`, and that of an
    /// [imported](Self::import) session at the import's date plus the absolute timeout, since a copied old cookie is
    /// imported again. (Where old cookies have no nonce, an imported id may be [that of
    /// several](crate::Imported::new).) A cut-off for one user
    /// compares `renewed_at()`, so that a sign-in after it (which renews) is good again; `created_at()`, which
    /// `renew` keeps, is for "everything that began before 14:00 is void"; an imported session is as old as can be, and is
    /// renewed by each import. Times are whole milliseconds,
    /// rounded down.
    pub fn accept_if(mut self, accept_if: impl Fn(&SessionMeta, &T) -> bool + Send + Sync + 'static) -> Self {
        self.accept_if = Some(Box::new(accept_if));
        self
    }

    /// Requests that are no sign of activity, such as polling: they do not re-issue. Asked when the
    /// session is handed out. Default: none.
    pub fn passive_if(mut self, passive_if: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.hooks.passive_if = Some(Box::new(passive_if));
        self
    }

    /// Another identity of the cookie, an earlier or a later one; may be called several times. Default: none.
    ///
    /// With [`until`](Identity::until) its sessions are accepted until then. They move to the layer's own identity
    /// with the next write, or when their cookie is due for a new one; then the other cookie is removed. Of several
    /// cookies one whose name has a prefix (`__Host-` before `__Secure-` before none) beats the others, then the
    /// newest.
    ///
    /// Without `until` it is only removed: after a change of Domain, Path or Partitioned browsers send both
    /// cookies, the old one first, for ever. Either way `clear`, and a write beside such a cookie, remove it, and
    /// a sign-out counts in all identities, but not against a name with a better prefix.
    ///
    /// Where old and new instances run side by side, deploy in two steps: first a release that names the *new*
    /// identity here, with `until`, then one that has it, and names the old one. Back means back to the first of these.
    /// [The page on moving](crate::docs::moving) has examples.
    ///
    /// Until the date whoever can set the old cookie, such as a subdomain where its name has no prefix, can still
    /// toss one in. And what is removed from a parent domain is signed out at the sibling hosts that share it.
    pub fn formerly(mut self, identity: Identity) -> Self {
        self.settings.formerly.push(identity);
        self
    }

    /// An older format, such as that of npm's `cookie-session`, whose sessions become sessions of ours until this
    /// moment; may be called several times. Default: none.
    ///
    /// A request that uses its session and brings no sealed cookie of ours, but one in this format, has that session. The
    /// response sets our cookie, and removes the old ones. It does so like a re-issue that is due at once: not on
    /// a 5xx response, nor to [passive](Self::passive_if) requests, nor where the handler asked for shared caching.
    ///
    /// * A sealed cookie of ours wins, also one that does not open here, and after a sign-out here nothing is imported: [`clear`](crate::Session::clear) removes
    ///   the old cookies too, and its marker counts against all of them.
    /// * Old cookies hold no time that could end them, so the date does. What was imported lives on as a session of
    ///   ours.
    /// * [`accept_if`](Self::accept_if) sees it: [`SessionMeta::is_imported`], also in later requests.
    /// * Users move one way: one who is sent back to the old application is signed out there. See
    ///   [`keep_old_cookies`](Self::keep_old_cookies).
    /// * **A leaked old key is dropped at once**, not at the date; and `accept_if` refuses what was imported with it.
    ///
    /// ```
    /// # #[cfg(feature = "express")] {
    /// # use cookie_session::{Express, Identity, Key, KeyRing, SessionLayer};
    /// # use std::time::{Duration, UNIX_EPOCH};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)]
    /// # #[serde(default)]
    /// # struct Shop { user: Option<u64>, cart: Vec<u32> }
    /// # let keys = KeyRing::new(Key::generate()?, [])?;
    /// # let old_key = b"the key that Express signed with";
    /// let march_2027 = UNIX_EPOCH + Duration::from_secs(1_803_859_200);
    /// let sessions = SessionLayer::<Shop>::builder(keys)
    ///     .import(Express::new(Identity::named("session"), old_key, &[]), march_2027)
    ///     .build()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn import(mut self, format: impl OldFormat<T> + 'static, until: SystemTime) -> Self {
        self.imports.push((Box::new(format), until));
        self
    }

    /// Leaves the cookies that a session was imported from in the browser. Default: the response that imports
    /// removes them.
    ///
    /// For users who may be sent back to the old application: there they are still signed in, with the session as
    /// it was when they left. Nor is a session over when it has ended here: the next request imports it
    /// again, until the date. A sign-out here removes them all the same; one there does not count here.
    pub fn keep_old_cookies(mut self) -> Self {
        self.settings.keep_old_cookies = true;
        self
    }

    /// Where the time comes from, for tests and for targets whose `SystemTime::now` panics.
    /// Default: `SystemTime::now`.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.hooks.clock = Some(Box::new(clock));
        self
    }
}

impl<T: Default + Serialize + DeserializeOwned> SessionBuilder<T> {
    /// Checks all settings and derives the keys.
    pub(crate) fn into_codec(mut self) -> Result<(SessionCodec<T>, Hooks), ConfigError> {
        let mut faults = std::mem::take(&mut self.faults);
        let settings = &self.settings;
        let secure = !settings.insecure_for_local_http;
        let default_name = if secure { DEFAULT_NAME } else { DEFAULT_NAME_INSECURE };
        let target = Target {
            name: settings.name.clone().unwrap_or_else(|| default_name.to_owned()),
            domain: settings.domain.clone(),
            path: settings.path.clone(),
            partitioned: settings.partitioned,
        };
        target.check(secure, settings.same_site, &mut faults);
        let others = settings.other_identities(&target, secure, &mut faults);
        let imports: Vec<OldCookiesOf<T>> = (self.imports.into_iter())
            .map(|import| {
                let cookies = import.0.cookies().into_iter();
                (import, cookies.map(|identity| (identity.target(&target), identity)).collect())
            })
            .collect();
        faults.extend(settings.import_faults(&imports, &target, &others, secure));
        let rules = settings.rules(&mut faults);
        if settings.max_set_cookie > MAX_SET_COOKIE {
            faults.push(ConfigError::MaxSetCookieTooLarge { bytes: settings.max_set_cookie });
        }
        if self.keys.is_none() && !self.configured_keys {
            faults.push(ConfigError::NoPrimaryKey);
        }
        let schemas = read_schemas::<T>(self.schema, self.migrations, self.write_as, &mut faults);
        let (Some(keys), Some(schemas), true) = (self.keys, schemas, faults.is_empty()) else {
            return Err(one_or_several(faults));
        };

        let codec = assemble(settings, secure, target, others, rules, keys, schemas, imports, self.accept_if);
        codec.check_default()?;
        for import in &codec.imports {
            if self.hooks.now() >= import.until {
                event!(
                    WARN,
                    "session_import_over",
                    "the date of an import has passed: take it out, or correct the date"
                );
            }
        }
        Ok((codec, self.hooks))
    }
}

/// A codec with default settings for any type, also one that no layer could have.
pub(crate) fn detached_codec<T: Serialize + DeserializeOwned>(keys: KeyRing) -> SessionCodec<T> {
    let settings = Settings::default();
    let (name, path) = (DEFAULT_NAME.to_owned(), settings.path.clone());
    let target = Target { name, domain: None, path, partitioned: false };
    let rules = settings.rules(&mut Vec::new());
    // Nothing is sealed that another codec would read.
    let own = Form { schema: 1, shape: Shape::from_bytes([0; 4]) };
    let schemas =
        Schemas { own, check: Check::of::<T>(false, Vec::new()), migrations: Vec::new(), write_as: None };
    assemble(&settings, true, target, Vec::new(), rules, keys.into(), schemas, Vec::new(), None)
}

#[allow(clippy::too_many_arguments)] // Settled settings, from one caller that checks and one that need not.
fn assemble<T>(
    settings: &Settings,
    secure: bool,
    target: Target,
    mut others: Vec<(Target, Identity)>,
    rules: Rules,
    keys: KeyRingHandle,
    schemas: Schemas<T>,
    imports: Vec<OldCookiesOf<T>>,
    accept_if: Option<AcceptIf<T>>,
) -> SessionCodec<T> {
    let template = |target: Target| Template::new(target, secure, settings.same_site);
    let writes = settings.mode.suite();
    let accepts =
        |suite: &Suite| *suite == writes || settings.accept_modes.iter().any(|mode| mode.suite() == *suite);
    let bound = Bound {
        name: target.name.clone(),
        context: settings.context.clone(),
        writes,
        accepts: Suite::ALL.into_iter().filter(accepts).collect(),
    };
    let mut own = Name::new(&target);
    own.accept(None, &bound, u64::MAX);
    let mut names = vec![own];
    let mut binding = Binding { own: bound, others: Vec::new() };
    let mut formerly: Vec<Former> = Vec::new();
    // A cookie has one marker, sealed as the identity that is read longest.
    others.sort_by_key(|(_, identity)| std::cmp::Reverse(identity.accepted_until()));
    for (other, identity) in others {
        let bound = identity.bound(&other, &binding.own);
        let place = binding.place(&bound);
        if !names.iter().any(|name| name.is_of(&other)) {
            names.push(Name::new(&other));
        }
        if place.is_some() {
            let name = names.iter_mut().filter(|name| name.is_of(&other));
            name.for_each(|name| name.accept(place, &bound, identity.accepted_until()));
        }
        // One cookie to a browser is removed once, and never where it is the layer's own.
        let mut known = std::iter::once(&target).chain(formerly.iter().map(|former| former.session.target()));
        if !known.any(|known| known.is_same(&other)) {
            formerly.push(Former {
                marker: template(other.marker()),
                session: template(other),
                identity: place,
            });
        }
    }
    let mut old_cookies: Vec<Template> = Vec::new();
    let import = |((format, until), cookies): OldCookiesOf<T>| {
        let finder = Finder::new(cookies.first().map_or("", |(target, _)| &target.name));
        for (target, _) in cookies {
            if !old_cookies.iter().any(|known| known.target().is_same(&target)) {
                old_cookies.push(template(target));
            }
        }
        Import { format, until: lifetime::from_system(until), finder }
    };
    let imports = imports.into_iter().map(import).collect();
    let digits = cookie::digits(rules.longest_max_age());
    let budget = Budget { max_set_cookie: settings.max_set_cookie, digits, suite: writes };
    let (marker, session) = (template(target.marker()), template(target));
    SessionCodec {
        keys: keys.attach(binding),
        ring: keys,
        writes,
        max_payload: budget.max_payload(&session),
        session,
        marker,
        names,
        formerly,
        imports,
        old_cookies,
        keep_old_cookies: settings.keep_old_cookies,
        rules,
        budget,
        schemas,
        accept_if,
    }
}

impl<T: Default + Serialize + DeserializeOwned> SessionCodec<T> {
    /// `T::default()` must fit and come back, or no session could ever begin.
    fn check_default(&self) -> Result<(), ConfigError> {
        let unstorable = |error| ConfigError::DefaultNotStorable { error };
        let old_form = self.writes_old_form(None);
        let encoded = self.encode(&T::default(), old_form, 0).map_err(unstorable)?;
        if !self.comes_back(&encoded) {
            return Err(unstorable(NotEncodable::RoundTrip));
        }
        let len = encoded.out.as_ref().unwrap_or(&encoded.own).len();
        let needed = self.budget.needed(&self.session, len);
        let max_set_cookie = self.budget.max_set_cookie;
        if needed > max_set_cookie { Err(ConfigError::NoRoom { needed, max_set_cookie }) } else { Ok(()) }
    }
}

fn one_or_several(mut faults: Vec<ConfigError>) -> ConfigError {
    match faults.pop() {
        Some(only) if faults.is_empty() => only,
        Some(last) => {
            faults.push(last);
            ConfigError::Several(faults)
        }
        None => ConfigError::NoPrimaryKey,
    }
}

impl Settings {
    /// The other identities, each with its cookie.
    fn other_identities(
        &self,
        current: &Target,
        secure: bool,
        faults: &mut Vec<ConfigError>,
    ) -> Vec<(Target, Identity)> {
        let mut others: Vec<(Target, Identity)> = Vec::new();
        for identity in &self.formerly {
            let target = identity.target(current);
            target.check(secure, self.same_site, faults);
            let sealed = |identity: &Identity| {
                let context = identity.context.as_ref().unwrap_or(&self.context);
                (context.clone(), identity.mode.unwrap_or(self.mode))
            };
            let own = (current, sealed(&Identity::current()));
            let taken = others.iter().map(|(target, identity)| (target, sealed(identity)));
            let clash = |(other, theirs): (&Target, (String, Mode))| {
                // Nor may one's marker be the other's cookie.
                target.name == other.marker().name
                    || target.marker().name == other.name
                    || target.is_same(other) && sealed(identity) == theirs
            };
            if std::iter::once(own).chain(taken).any(clash) {
                faults.push(ConfigError::FormerlyTwice { name: Shown::new(&target.name) });
            }
            others.push((target, identity.clone()));
        }
        others
    }

    fn import_faults<T>(
        &self,
        imports: &[OldCookiesOf<T>],
        current: &Target,
        others: &[(Target, Identity)],
        secure: bool,
    ) -> Vec<ConfigError> {
        let mut faults = Vec::new();
        for ((format, _), cookies) in imports {
            faults.extend(format.check().err());
            if cookies.is_empty() {
                faults.push(ConfigError::ImportWithoutCookie);
            }
            for (target, identity) in cookies {
                target.check(secure, self.same_site, &mut faults);
                let Identity { name, context, mode, until, .. } = identity;
                if name.is_none() || context.is_some() || mode.is_some() || until.is_some() {
                    faults.push(ConfigError::ImportSealed { name: Shown::new(&target.name) });
                    continue;
                }
                let mut ours = std::iter::once(current).chain(others.iter().map(|(target, _)| target));
                if ours.any(|ours| [&ours.name, &ours.marker().name].contains(&&target.name)) {
                    faults.push(ConfigError::ImportSameName { name: Shown::new(&target.name) });
                }
            }
        }
        // The cookies of one format have their attributes in common.
        faults.dedup();
        faults
    }

    fn rules(&self, faults: &mut Vec<ConfigError>) -> Rules {
        let absolute = self.absolute_timeout;
        let idle = self.idle_timeout.unwrap_or(DEFAULT_IDLE.min(absolute));
        let max_own = self.max_own_lifetime.unwrap_or(absolute);
        let before = faults.len();
        let lifetimes = [
            ("idle_timeout", self.idle_timeout),
            ("absolute_timeout", Some(absolute)),
            ("max_own_lifetime", self.max_own_lifetime),
        ];
        for (setting, value) in lifetimes {
            match value {
                Some(value) if value < Duration::from_secs(1) => {
                    faults.push(ConfigError::LifetimeTooShort { setting, value });
                }
                Some(value) if value > MAX_LIFETIME => {
                    faults.push(ConfigError::LifetimeTooLong { setting, value })
                }
                _ => {}
            }
        }
        if faults.len() == before && idle > absolute {
            faults.push(ConfigError::IdleOverAbsolute { idle, absolute });
        }
        let reissue_after = self.reissue_after.unwrap_or_else(|| Rules::default_reissue_after(idle));
        if reissue_after > idle / 2 {
            faults.push(ConfigError::ReissueOverHalfIdle { reissue_after, idle });
        }
        let [idle, absolute, max_own, reissue_after] =
            [idle, absolute, max_own, reissue_after].map(lifetime::millis);
        Rules { idle, absolute, max_own, reissue_after }
    }
}

fn read_schemas<T: Serialize + DeserializeOwned>(
    schema: u16,
    migrations: Vec<(u16, ShapeOf, Migrate<T>)>,
    mut write_as: Vec<(u16, ShapeOf, Encode<T>)>,
    faults: &mut Vec<ConfigError>,
) -> Option<Schemas<T>> {
    let form = |schema, shape: ShapeOf, faults: &mut Vec<ConfigError>| match shape() {
        Ok((shape, check)) => Some((Form { schema, shape }, check)),
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    let own = form(schema, written_shape::<T>, faults);
    let mut read: Vec<(Form, _)> = Vec::new();
    let mut numbers = Vec::new();
    for (from, shape, migrate) in migrations {
        if from >= schema {
            faults.push(ConfigError::MigrationNotOlder { from, schema });
        }
        if numbers.contains(&from) {
            faults.push(ConfigError::MigrationTwice { from });
        }
        numbers.push(from);
        read.extend(form(from, shape, faults).map(|(form, _)| (form, migrate)));
    }
    let last = write_as.pop();
    if !write_as.is_empty() {
        faults.push(ConfigError::WriteAsTwice);
    }
    let write_as = last.and_then(|(schema, shape, encode)| {
        if !numbers.contains(&schema) {
            faults.push(ConfigError::WriteAsWithoutMigration { schema });
        }
        let (form, check) = form(schema, shape, faults)?;
        if read.iter().any(|(read, _)| read.schema == schema && read.shape != form.shape) {
            faults.push(ConfigError::WriteAsOtherShape { schema });
        }
        Some(Writer { form, encode, check: check? })
    });
    let (own, check) = own?;
    Some(Schemas { own, check: check?, migrations: read, write_as })
}

/// Settings from a configuration file or the environment, through serde.
///
/// The fields are the builder's settings by name, and the keys:
///
/// ```toml
/// context = "shop"
/// idle_timeout = "30m"               # 90s, 30m, 24h, 14days, "1h 30m"
/// # name = "__Host-Http-session"
/// # domain = "example.com"           # needs a name without __Host-
/// # path = "/"
/// # same_site = "lax"                # strict, lax or none
/// # partitioned = false
/// # insecure_for_local_http = false
/// # max_set_cookie = 4093            # bytes
/// # mode = "encrypted"               # encrypted or signed
/// # accept_mode = "signed"           # also read, for a change-over
/// # absolute_timeout = "14days"
/// # max_own_lifetime = "14days"
/// # reissue_after = "3m"
/// # keep_old_cookies = false
///
/// [keys]
/// primary_file = "/run/secrets/key"  # or primary = "the key itself"
/// # fallbacks = ["…", "…"]           # or fallbacks_file; a text with commas or lines does as well
///
/// # [[formerly]]                     # other identities of the cookie
/// # name = "session"                 # left out: the present name, Domain, Path and Partitioned
/// # domain = "example.com"
/// # path = "/"
/// # partitioned = false
/// # context = "shop"                 # left out: the present one
/// # mode = "signed"                  # left out: those that are read now
/// # until = "2027-03-01"             # accepted until then (UTC); left out: only removed
/// ```
///
/// Numbers and booleans may be text, as environment variables are.
///
/// **From a self-describing format it never fails to deserialise**, whatever stands there: serde's own
/// messages quote the offending value, which may be a key at the wrong place. `build()` says every
/// fault, by the field's name and without the value. A *syntax* error is the loader's, and may print
/// the source line with the key; of `toml`'s, show the message and the place alone:
///
/// ```
/// # use cookie_session::{SessionConfig, SessionLayer};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)]
/// # struct Shop { cart: Vec<u32> }
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     session: SessionConfig,
/// }
///
/// # fn load(text: &str) -> Result<SessionLayer<Shop>, Box<dyn std::error::Error>> {
/// let settings: Settings =
///     toml::from_str(text).map_err(|error| format!("{} at bytes {:?}", error.message(), error.span()))?;
/// let sessions = SessionLayer::<Shop>::from_config(settings.session).build()?;
/// # Ok(sessions) }
/// # assert!(load("[session]\ncontext = 'shop'\n[session.keys]\nprimary = 'short'").is_err());
/// ```
#[derive(Clone)]
pub struct SessionConfig(Node);

impl fmt::Debug for SessionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionConfig(..)")
    }
}

impl<'de> Deserialize<'de> for SessionConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Node::deserialize(deserializer).map(SessionConfig)
    }
}

/// Anything that a self-describing format can hold; text is zeroised, and nothing is in `Debug`.
#[derive(Clone)]
enum Node {
    Null,
    Bool(bool),
    Number(u64),
    Text(Zeroizing<String>),
    List(Vec<Node>),
    Table(Vec<(Node, Node)>),
    Other,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// The key under which `toml` hands out a date that stands there without quotes.
const TOML_DATE: &str = "$__toml_private_datetime";

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("session settings")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or(Node::Other, Node::Number))
    }
    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Other)
    }
    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Other)
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(value.to_owned())))
    }
    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(value)))
    }
    fn visit_char<E>(self, value: char) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(value.to_string())))
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<Node, E> {
        Ok(Node::Other)
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element()? {
            list.push(node);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = map.next_entry()? {
            table.push(entry);
        }
        Ok(Node::Table(table))
    }
    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Ok(Node::Other)
    }
}

/// The fields of one table, taken one by one; what is left at the end is unknown.
struct Fields<'f> {
    at: &'static str,
    entries: Vec<(Node, Node)>,
    faults: &'f mut Vec<ConfigError>,
}

impl<'f> Fields<'f> {
    fn of(node: Node, at: &'static str, faults: &'f mut Vec<ConfigError>) -> Self {
        let entries = match node {
            Node::Table(entries) => entries,
            Node::Null => Vec::new(),
            _ => {
                let field = if at.is_empty() { "the session's settings".to_owned() } else { at.to_owned() };
                faults.push(ConfigError::WrongValue { field, expected: "a table" });
                Vec::new()
            }
        };
        Fields { at, entries, faults }
    }

    fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    fn wrong(&mut self, name: &str, expected: &'static str) {
        let field = self.path(name);
        self.faults.push(ConfigError::WrongValue { field, expected });
    }

    fn take(&mut self, name: &str) -> Option<Node> {
        let is_it = |entry: &mut (Node, Node)| matches!(&entry.0, Node::Text(key) if key.as_str() == name);
        let mut found: Vec<_> = self.entries.extract_if(.., is_it).map(|(_, value)| value).collect();
        let value = found.pop()?;
        if !found.is_empty() {
            self.wrong(name, "given once");
        }
        (!matches!(value, Node::Null)).then_some(value)
    }

    /// Takes a field that `read` understands; otherwise `expected` is the fault.
    fn read<V>(
        &mut self,
        name: &str,
        expected: &'static str,
        read: impl Fn(&Node) -> Option<V>,
    ) -> Option<V> {
        let node = self.take(name)?;
        let value = read(&node);
        if value.is_none() {
            self.wrong(name, expected);
        }
        value
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.read(name, "text", |node| node.text().map(str::to_owned))
    }

    fn flag(&mut self, name: &str) -> bool {
        let flag = self.read(name, "true or false", |node| match node {
            Node::Bool(flag) => Some(*flag),
            node => node.text()?.trim().parse().ok(),
        });
        flag.unwrap_or(false)
    }

    fn bytes(&mut self, name: &str) -> Option<usize> {
        self.read(name, "a number of bytes", |node| match node {
            Node::Number(number) => usize::try_from(*number).ok(),
            node => node.text()?.trim().parse().ok(),
        })
    }

    fn duration(&mut self, name: &str) -> Option<Duration> {
        // A bare number is refused: npm's module has milliseconds there, others have seconds.
        let expected = "a duration with its unit, such as 90s, 30m, 24h or 14days";
        self.read(name, expected, |node| {
            // "0" alone would pass as a duration.
            let text = node.text()?.trim();
            let unit = text.ends_with(|c: char| c.is_alphabetic());
            unit.then(|| humantime::parse_duration(text)).and_then(Result::ok)
        })
    }

    fn mode(&mut self, name: &str) -> Option<Mode> {
        self.read(name, "encrypted or signed", |node| match node.text()?.trim() {
            "encrypted" => Some(Mode::Encrypted),
            "signed" => Some(Mode::Signed),
            _ => None,
        })
    }

    fn moment(&mut self, name: &str) -> Option<SystemTime> {
        let expected = "a day such as 2027-03-01, or a moment such as 2027-03-01T12:00:00Z";
        self.read(name, expected, |node| {
            let text = match node {
                Node::Table(fields) => match fields.as_slice() {
                    [(Node::Text(key), Node::Text(text))] if key.as_str() == TOML_DATE => text.as_str(),
                    _ => return None,
                },
                node => node.text()?,
            };
            let text = text.trim();
            let whole_day = (text.len() == "2027-03-01".len()).then(|| format!("{text}T00:00:00Z"));
            humantime::parse_rfc3339(whole_day.as_deref().unwrap_or(text)).ok()
        })
    }

    /// All that is left is unknown. A name that might be a key is not shown.
    fn finish(self) {
        for (name, _) in &self.entries {
            let name = match name {
                Node::Text(name) => name.as_str(),
                _ => "(a name that is not text)",
            };
            let shown = Shown::new(&self.path(name));
            self.faults.push(ConfigError::UnknownField { field: shown });
        }
    }
}

impl Node {
    fn text(&self) -> Option<&str> {
        match self {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl SessionConfig {
    /// The ring of the configuration's `keys`, read from their files at this call: for
    /// [`KeyRingHandle::replace`], when they have changed under a running server.
    ///
    /// All of the configuration is looked at as by [`build`](SessionBuilder::build), but for how settings go
    /// together: with any fault, or without keys, there is no ring, and the running server keeps the one it has.
    ///
    /// ```
    /// # use cookie_session::{ConfigError, KeyRingHandle, SessionConfig};
    /// fn reload(keys: &KeyRingHandle, changed: &SessionConfig) -> Result<(), ConfigError> {
    ///     keys.replace(changed.key_ring()?);
    ///     Ok(())
    /// }
    /// ```
    pub fn key_ring(&self) -> Result<KeyRing, ConfigError> {
        let mut faults = Vec::new();
        let (_, keys) = self.clone().read(&mut faults);
        if keys.is_none() {
            faults.push(ConfigError::NoPrimaryKey);
        }
        match keys.flatten() {
            Some(ring) if faults.is_empty() => Ok(ring),
            _ => Err(one_or_several(faults)),
        }
    }

    /// The settings, and the keys: none, or those that stand there, if they are good.
    fn read(self, faults: &mut Vec<ConfigError>) -> (Settings, Option<Option<KeyRing>>) {
        let mut fields = Fields::of(self.0, "", faults);
        let defaults = Settings::default();
        let same_site = fields.read("same_site", "strict, lax or none", |node| match node.text()?.trim() {
            "strict" => Some(SameSite::Strict),
            "lax" => Some(SameSite::Lax),
            "none" => Some(SameSite::None),
            _ => None,
        });
        let mut settings = Settings {
            name: fields.text("name"),
            context: fields.text("context").unwrap_or(defaults.context),
            domain: fields.text("domain"),
            path: fields.text("path").unwrap_or(defaults.path),
            same_site: same_site.unwrap_or(defaults.same_site),
            partitioned: fields.flag("partitioned"),
            insecure_for_local_http: fields.flag("insecure_for_local_http"),
            max_set_cookie: fields.bytes("max_set_cookie").unwrap_or(defaults.max_set_cookie),
            mode: fields.mode("mode").unwrap_or(defaults.mode),
            accept_modes: fields.mode("accept_mode").into_iter().collect(),
            idle_timeout: fields.duration("idle_timeout"),
            absolute_timeout: fields.duration("absolute_timeout").unwrap_or(defaults.absolute_timeout),
            max_own_lifetime: fields.duration("max_own_lifetime"),
            reissue_after: fields.duration("reissue_after"),
            formerly: Vec::new(),
            keep_old_cookies: fields.flag("keep_old_cookies"),
        };
        let formerly = match fields.take("formerly") {
            Some(Node::List(list)) => list,
            Some(_) => {
                fields.wrong("formerly", "a list of tables");
                Vec::new()
            }
            None => Vec::new(),
        };
        let keys = fields.take("keys");
        fields.finish();
        settings.formerly = formerly.into_iter().map(|node| read_identity(node, faults)).collect();
        (settings, keys.map(|keys| read_keys(keys, faults)))
    }
}

fn read_identity(node: Node, faults: &mut Vec<ConfigError>) -> Identity {
    let mut fields = Fields::of(node, "formerly", faults);
    let identity = Identity {
        name: fields.text("name"),
        domain: fields.text("domain"),
        path: fields.text("path"),
        partitioned: fields.flag("partitioned"),
        context: fields.text("context"),
        mode: fields.mode("mode"),
        until: fields.moment("until"),
    };
    fields.finish();
    identity
}

/// The ring of a configuration; `None` if there is a fault among its keys.
fn read_keys(node: Node, faults: &mut Vec<ConfigError>) -> Option<KeyRing> {
    let before = faults.len();
    let mut fields = Fields::of(node, "keys", faults);
    let text = |node: &Node| node.text().map(|text| Zeroizing::new(text.to_owned()));
    let primary = fields.read("primary", "text", text);
    let primary_file = fields.read("primary_file", "a path", text);
    let fallbacks = fields.read("fallbacks", "a list of keys", |node| match node {
        Node::List(list) => list.iter().map(text).collect::<Option<Vec<_>>>(),
        node => text(node).map(|text| vec![text]),
    });
    let fallbacks_file = fields.read("fallbacks_file", "a path", text);
    fields.finish();

    let file = |path: &Zeroizing<String>, place: &str| key::read_file(Path::new(path.as_str()), place);
    let primary = match (primary, primary_file) {
        (Some(_), Some(_)) => {
            faults.push(ConfigError::BothGiven { field: "keys.primary", other: "keys.primary_file" });
            None
        }
        (Some(text), None) => Some(key::parse_one(&text, "keys.primary")),
        (None, Some(path)) => {
            Some(file(&path, "keys.primary_file").and_then(|text| key::parse_one(&text, "keys.primary_file")))
        }
        (None, None) => {
            if faults.len() == before {
                faults.push(ConfigError::NoPrimaryKey);
            }
            None
        }
    };
    let fallbacks = match (fallbacks, fallbacks_file) {
        (Some(_), Some(_)) => {
            faults.push(ConfigError::BothGiven { field: "keys.fallbacks", other: "keys.fallbacks_file" });
            Vec::new()
        }
        // Joined, so that each key's number in an error counts over the whole list.
        (Some(texts), None) => {
            let mut joined =
                Zeroizing::new(String::with_capacity(texts.iter().map(|text| text.len() + 1).sum()));
            for text in &texts {
                joined.push_str(text);
                joined.push('\n');
            }
            key::parse_list(&joined, "keys.fallbacks").collect()
        }
        (None, Some(path)) => match file(&path, "keys.fallbacks_file") {
            Ok(text) => key::parse_list(&text, "keys.fallbacks_file").collect(),
            Err(error) => vec![Err(error)],
        },
        (None, None) => Vec::new(),
    };
    let mut fault = |error: KeyError| faults.push(error.into());
    let primary = primary.and_then(|primary| primary.map_err(&mut fault).ok());
    let fallbacks: Vec<_> =
        fallbacks.into_iter().filter_map(|fallback| fallback.map_err(&mut fault).ok()).collect();
    let primary = primary?;
    let ring = KeyRing::new(primary, fallbacks).map_err(|error| faults.push(error.at("keys").into())).ok();
    ring.filter(|_| faults.len() == before)
}
