//! `secure-app [CONFIGURATION]` runs the app; `secure-app hash-password` makes what `[[users]]` takes.

use axum::Router;
use secure_app::{Running, config::Settings, log, passwords, server::GRACE};
use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, sync::Arc, time::SystemTime};

const USAGE: &str = "\
usage: secure-app [FILE]          run; FILE: the configuration, as in secure-app.example.toml
       secure-app hash-password   read a password from standard input, print its password_hash";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => run(None),
        [one] if one == "hash-password" => hash_password(),
        [one] if one == "--help" || one == "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        [one] if !one.to_string_lossy().starts_with('-') => run(Some(PathBuf::from(one))),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(file: Option<PathBuf>) -> Result<(), String> {
    // A signal that comes before anything else is ready does not end the process.
    #[cfg(unix)]
    let _hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    if let Some(file) = file.as_deref().filter(|file| !file.exists()) {
        return Err(format!("{}: no such file\n{USAGE}", file.display()));
    }
    // Read twice, so that a fault in it is said before anything else is.
    log::start(Settings::load(file.as_deref())?.log);
    let running = Running::start(file, Arc::new(SystemTime::now), Router::new())?;
    // Before anybody knows where it is.
    let asked_to_stop = asked_to_stop()?;
    println!("{}/", running.url);
    asked_to_stop.await?;
    tracing::info!("stopping: requests under way are answered");
    running.stop(GRACE).await;
    tracing::info!("stopped");
    Ok(())
}

/// By Ctrl-C, or as service managers do.
fn asked_to_stop() -> Result<impl Future<Output = Result<(), String>>, String> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let of = |kind| signal(kind).map_err(|error| error.to_string());
        let (mut interrupted, mut terminated) = (of(SignalKind::interrupt())?, of(SignalKind::terminate())?);
        Ok(async move {
            tokio::select! {
                _ = interrupted.recv() => Ok(()),
                _ = terminated.recv() => Ok(()),
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async { tokio::signal::ctrl_c().await.map_err(|error| error.to_string()) })
}

/// From a terminal without showing it, and twice; else the first line of standard input.
fn hash_password() -> Result<(), String> {
    let fault = |error: std::io::Error| error.to_string();
    let password = if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password("password: ").map_err(fault)?;
        if rpassword::prompt_password("again: ").map_err(fault)? != password {
            return Err("these are two different passwords".to_owned());
        }
        password
    } else {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(fault)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.chars().count() < 8 {
        return Err("a password has at least 8 characters".to_owned());
    }
    println!("{}", passwords::hash(&password)?);
    Ok(())
}
