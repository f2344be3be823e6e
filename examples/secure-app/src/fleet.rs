//! Keeps this instance in step with all others, through what they [share](crate::shared): follows the log of sign-outs,
//! delivers its own, and writes back what Redis has lost.
//!
//! Redis may be away, or come back empty, or as it was some minutes ago. An instance has in memory and on its own disk all
//! sign-outs that it has ever heard of, and knows the number of what it was in step with; after another one it reads the
//! whole log, and adds what is missing there.

use crate::{
    App,
    clock::{jittered, milliseconds_of},
    denylist::LONGEST,
    shared::{Link, PAGE, Shared, Unavailable, WAIT},
    store::{Change, Written},
};
use redis::aio::MultiplexedConnection;
use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// Before Redis is tried again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// After so long, from the first try to connect to the loss, the next try follows soon. A Redis that refuses a command at once is
/// not tried all the time.
const LASTS: Duration = Duration::from_secs(10);
/// How long a new instance waits to hear of the sign-outs so far, or of some more of them.
pub const FILL: Duration = Duration::from_secs(5);
/// How many pages may be read that are not on disk, as long as that answers.
const AHEAD: usize = 16;
/// How many reasons the log has of one loss, at most.
const REASONS: usize = 16;
/// How often the log is shortened.
const TRIM: Duration = Duration::from_secs(60 * 60);

/// How far this instance has come.
#[derive(Default)]
struct Place {
    /// In which generation of Redis.
    of: Option<String>,
    /// Where all counts were that this instance knows. Others may have fallen there since: they are not written back.
    counted: Option<String>,
    last: String,
    /// What this instance knows, less what it has read there.
    missing: HashMap<(u8, Vec<u8>), Change>,
    /// What was read last, on its way to the disk.
    written: VecDeque<Written>,
}

impl Place {
    /// Gives back memory: `missing` was as large as the whole list, and has few entries left, or none.
    fn let_go(&mut self) {
        self.missing.shrink_to_fit();
    }
}

/// What an instance has heard of the sign-outs so far.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    More,
    All,
}

/// Keeps in step for as long as the future is polled. Tells how it gets there.
///
/// `before`: the generation that it was in step with before the start, if any.
pub async fn keep(app: Arc<App>, shared: Arc<Shared>, before: Option<String>, heard: mpsc::Sender<Heard>) {
    // Of one before, that panicked.
    shared.drop_link();
    let mut place = Place { counted: before, ..Place::default() };
    let mut heard = Some(heard);
    let mut pause = PAUSE.0;
    // Each reason once: a server that is restarted may refuse for another one.
    let mut known = Vec::new();
    loop {
        let (before, begin) = (shared.connections(), Instant::now());
        let Err(error) = step(&app, &shared, &mut place, &mut heard).await;
        shared.lose_link();
        if shared.connections() != before {
            known.clear();
            if begin.elapsed() > LASTS {
                pause = PAUSE.0;
            }
        }
        let reason = error.to_string();
        if known.is_empty() {
            tracing::error!(
                %error,
                at = shared.address(),
                "Redis: nobody signs in until it is back; who is signed in goes on; sign-outs hold here, and elsewhere later"
            );
            known.push(reason);
        } else if !known.contains(&reason) && known.len() < REASONS {
            tracing::error!(%error, "Redis: it is not back, now for another reason");
            known.push(reason);
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn step(
    app: &App,
    shared: &Shared,
    place: &mut Place,
    heard: &mut Option<mpsc::Sender<Heard>>,
) -> Result<Infallible, Unavailable> {
    let (link, mut reader) = shared.connect().await?;
    let link = Arc::new(link);
    let of = Some(link.generation.clone());
    if place.counted != of {
        // Before any attempt is counted over this link.
        link.restore(&app.limits.counts()).await?;
        place.counted = of.clone();
    }
    if place.of != of {
        let (sessions, users) = app.denylist.sizes();
        let mut missing = HashMap::with_capacity(sessions + users);
        app.denylist.each(|change| drop(missing.insert(change.about(), change))).await;
        let counted = of.clone();
        *place = Place { of, counted, last: "0-0".to_owned(), missing, written: VecDeque::new() };
        shared.count_resync();
    }
    let recognize = |change: &Change| {
        if let Some(Change::User { name, epoch, .. }) = shared.recognize(change) {
            drop(app.store.write(vec![Change::Delivered { name, epoch }]));
        }
    };
    while follow(app, place, &mut reader, Duration::ZERO, recognize).await? == PAGE {
        // Whoever does not wait any more need not know.
        let _ = heard.as_ref().map(|heard| heard.send(Heard::More));
    }
    place.let_go();
    let waiting = shared.waiting();
    // Before anybody signs in: of the epochs that it begins, who signs in after it is to have the last.
    while shared.deliver_some(&link, |changes, epochs| delivered(app, changes, epochs)).await? == PAGE {}
    shared.use_link(&link);
    tracing::info!(waiting, missing = place.missing.len(), "Redis: in step with all other instances");
    // On disk it may be a moment later: until then a restart waits.
    drop(app.store.write(vec![Change::InStep { generation: link.generation.clone() }]));
    let tell = async {
        link.opened().await;
        let _ = heard.take().map(|heard| heard.send(Heard::All));
        std::future::pending().await
    };
    tokio::select! {
        error = tell => error,
        error = follow_on(app, place, &link, &mut reader) => error,
        error = shared.deliver(&link, |changes, epochs| delivered(app, changes, epochs)) => Err(error),
        error = shared.broken() => Err(error),
    }
}

/// They need not be delivered again after a restart. Which epochs they began is known here before that, should Redis lose
/// them before anybody reads them there.
fn delivered(app: &App, changes: Vec<Change>, epochs: Vec<u64>) {
    let users = changes.into_iter().filter_map(|change| match change {
        Change::User { name, epoch, until } => Some((name, epoch, until)),
        _ => None,
    });
    let (mut begun, mut delivered) = (Vec::new(), Vec::new());
    for ((name, epoch, until), its) in users.zip(epochs) {
        begun.push(Change::User { name: name.clone(), epoch: its, until });
        delivered.push(Change::Delivered { name, epoch });
    }
    if !delivered.is_empty() {
        drop(app.denylist.merge(begun));
        drop(app.store.write(delivered));
    }
}

/// Reads on, and writes back.
async fn follow_on(
    app: &App,
    place: &mut Place,
    link: &Link,
    reader: &mut MultiplexedConnection,
) -> Result<Infallible, Unavailable> {
    let (mut beat, mut trimmed) = (Instant::now(), None::<Instant>);
    let mut holds = false;
    loop {
        let wait = if place.missing.is_empty() { WAIT } else { Duration::ZERO };
        let read = follow(app, place, reader, wait, |_| ()).await?;
        if beat.elapsed() >= WAIT {
            beat = Instant::now();
            link.beat().await?;
        }
        if trimmed.is_none_or(|trimmed| trimmed.elapsed() > TRIM) {
            trimmed = Some(Instant::now());
            // A day more than they last.
            link.trim(LONGEST + Duration::from_secs(24 * 60 * 60)).await?;
        }
        // One after the other.
        if !place.missing.is_empty() && read < PAGE {
            let held = holds;
            holds = link.may_restore(held).await?;
            if !holds {
                tokio::time::sleep(PAUSE.0).await;
            }
            if !(held && holds) {
                // First, what the one before has written.
                continue;
            }
            let page: Vec<Change> = place.missing.values().take(PAGE).cloned().collect();
            link.add(&page, None).await?;
            for change in &page {
                place.missing.remove(&change.about());
            }
            tracing::warn!(entries = page.len(), "Redis: had lost sign-outs, which are written back");
        } else if holds {
            holds = false;
            place.let_go();
            link.end_restoring().await?;
        }
    }
}

/// When an entry came into the log, by Redis's clock.
fn added(id: &str) -> u64 {
    id.split('-').next().and_then(|time| time.parse().ok()).unwrap_or_default()
}

/// Takes over what is next in the log. Returns how much that was.
async fn follow(
    app: &App,
    place: &mut Place,
    reader: &mut MultiplexedConnection,
    wait: Duration,
    heard: impl Fn(&Change),
) -> Result<usize, Unavailable> {
    let entries = Link::read(reader, &place.last, wait).await?;
    let read = entries.len();
    let mut changes = Vec::with_capacity(read);
    for (id, change) in entries {
        place.last = id;
        let Some(mut change) = change else { continue };
        heard(&change);
        if let Change::User { until, .. } = &mut change {
            // The clock of whoever began it may be far behind.
            *until = (*until).max(added(&place.last).saturating_add(milliseconds_of(LONGEST)));
        }
        let about = change.about();
        // An earlier epoch does not stand for a later one.
        if place.missing.get(&about).is_some_and(|missing| change.covers(missing)) {
            place.missing.remove(&about);
        }
        changes.push(change);
    }
    if let Some(written) = app.denylist.merge(changes) {
        place.written.push_back(written);
    }
    // It need not wait for a slow disk, nor run away from it. One that hangs holds up nothing: in memory it is.
    if place.written.len() > AHEAD
        && let Some(first) = place.written.pop_front()
        && !app.store.is_failing()
    {
        // A disk that says no is the writer's to log, and to try again.
        let _ = tokio::time::timeout(WAIT, first).await;
    }
    Ok(read)
}
