//! What changes under the running server: certificate, session keys and users take effect when their files change, or on
//! SIGHUP. What is broken is refused as a whole, and what was good stays.

use crate::App;
use notify::{
    EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// Files are written in several steps; the last one counts.
const SETTLE: Duration = Duration::from_millis(100);

/// Where nobody tells of a change (a link that points elsewhere, a folder that comes later), it is found by looking.
const LOOK: Duration = Duration::from_secs(60);

/// Reloads for as long as the future is polled.
pub async fn watch(app: Arc<App>) {
    let changed = Arc::new(Notify::new());
    let mut hangups = hangups();
    let mut asked = false;
    loop {
        // Only then is looked at the files, so that no change falls in between.
        let files = app.files();
        let watcher = watch_files(&files, &changed);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "changes of files are noticed once a minute only");
        }
        let reloading = Arc::clone(&app);
        // Reading files and making a decoy password take their time.
        let reloaded = tokio::task::spawn_blocking(move || match reloading.reload(asked) {
            Ok(false) => {}
            Ok(true) => tracing::info!(
                "session keys, certificate and users are in use as configured now; other settings at the next start"
            ),
            Err(error) => tracing::error!(error, "refused; what was in use before stays"),
        });
        if let Err(error) = reloaded.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
        if app.files() != files {
            // The configuration names others now.
            asked = false;
            continue;
        }
        asked = tokio::select! {
            () = changed.notified() => {
                // Whoever is still writing is not waited for longer than this.
                for _ in 0..50 {
                    if tokio::time::timeout(SETTLE, changed.notified()).await.is_err() {
                        break;
                    }
                }
                false
            }
            () = tokio::time::sleep(LOOK) => false,
            () = hangups.next() => {
                app.hurry();
                true
            }
        };
    }
}

/// Watches folders: files are replaced by renaming others, and links in a Kubernetes secret by renaming a folder.
fn watch_files(files: &[PathBuf], changed: &Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let changed = Arc::clone(changed);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let matters = |kind| match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            // Reading is no change; and reloading reads.
            EventKind::Access(_) => false,
            _ => true,
        };
        if event.map_or(true, |event| matters(event.kind)) {
            changed.notify_one();
        }
    })?;
    let folder = |file: &PathBuf| match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    for folder in files.iter().map(folder).collect::<BTreeSet<_>>() {
        // The others all the same: one of them may hold the mend.
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            tracing::debug!(%error, folder = %folder.display(), "not watched");
        }
    }
    Ok(watcher)
}

#[cfg(unix)]
struct Hangups(Option<tokio::signal::unix::Signal>);
#[cfg(not(unix))]
struct Hangups;

fn hangups() -> Hangups {
    #[cfg(unix)]
    return Hangups(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok());
    #[cfg(not(unix))]
    return Hangups;
}

impl Hangups {
    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
