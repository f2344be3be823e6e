//! Secure cookies: what the session holds, and the layer that keeps it in one sealed cookie. No store.

use crate::{
    clock::Clock,
    config::Settings,
    denylist::Denylist,
    passwords::{Passwords, Stamp},
};
use cookie_session::{ConfigError, Key, KeyRing, Session, SessionLayer, UpdateError};
use std::sync::Arc;

/// All that is remembered of a visitor, in the visitor's own browser.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Visit {
    pub user: Option<SignedIn>,
    pub cart: Vec<Line>,
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct SignedIn {
    pub name: String,
    /// Of the password that was right: another one ends the session.
    pub stamp: Stamp,
    /// Of the user: the next one, since signing out everywhere, ends the session.
    pub epoch: u64,
}

/// One line of the cart.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Line {
    /// Index into the shop's [`crate::pages::TEAS`].
    pub tea: u8,
    pub quantity: u16,
    /// What stands on the card.
    pub card: String,
}

/// The session layer of the settings. Without keys there, it has fresh ones, and its sessions end with the process.
pub fn layer(
    settings: &Settings,
    denylist: Arc<Denylist>,
    passwords: Arc<Passwords>,
    clock: Clock,
) -> Result<SessionLayer<Visit>, ConfigError> {
    let mut builder = SessionLayer::<Visit>::from_config(settings.session.clone());
    if !settings.has_keys() {
        builder = builder.keys(KeyRing::new(Key::generate()?, [])?);
    }
    builder
        .clock(move || clock())
        .accept_if(move |meta, visit| match &visit.user {
            None => true,
            Some(SignedIn { name, stamp, epoch }) => {
                passwords.stamp(name).as_ref() == Some(stamp) && !denylist.refuses(meta.id(), name, *epoch)
            }
        })
        .build()
}

/// A password was right: whoever it was before, from here on it is this user, in a session with a fresh id and the user's
/// epoch. A cart that was filled before signing in is kept, unless it was another user's.
pub async fn sign_in(
    session: &Session<Visit>,
    denylist: &Denylist,
    name: &str,
    stamp: Stamp,
    epoch: u64,
) -> Result<(), UpdateError> {
    if let Some(before) = deny(session, denylist).await
        && before != name
    {
        session.clear();
    }
    session.renew()?;
    denylist.hear(name, epoch);
    let epoch = denylist.epoch(name);
    let user = SignedIn { name: name.to_owned(), stamp, epoch };
    session.update(|visit| visit.user = Some(user))
}

/// Ends this session: here by the layer's marker, and copies of its cookie by the denylist.
pub async fn sign_out(session: &Session<Visit>, denylist: &Denylist) {
    deny(session, denylist).await;
    session.clear();
}

/// Ends all sessions of this session's user.
pub async fn sign_out_everywhere(session: &Session<Visit>, denylist: &Denylist) {
    if let Some(user) = session.read(|visit| visit.user.clone())
        && let Err(error) = denylist.sign_out_everywhere(&user.name, user.epoch).await
    {
        tracing::error!(%error, "a user is signed out everywhere, and that is not on disk yet");
    }
    session.clear();
}

/// Copies of the cookie so far are no good any more. Returns whose they were.
async fn deny(session: &Session<Visit>, denylist: &Denylist) -> Option<String> {
    let user = session.read(|visit| visit.user.clone())?;
    if let Some(meta) = session.meta()
        && let Err(error) = denylist.sign_out(&meta, &user.name, user.epoch).await
    {
        tracing::error!(%error, "a session is signed out, and that is not on disk yet");
    }
    Some(user.name)
}
