//! `auth-service replica …`. Works from any host that reaches the database.

use std::time::Duration;

use auth_service::boot::database::Access;
use auth_service::domain::replica::{ReplicaRow, ReplicaState, SILENT_AFTER};
use auth_service::flows::replicas;
use auth_service::store::SqlStore;
use auth_service::view::ReplicaView;
use clap::{Args, Subcommand};
use verifier::UnixTime;

use super::Failure;
use super::author::Author;
use super::completions;
use super::installation::Context;
use super::output::{Output, Progress, when};

const PAGE: u32 = 500;
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(crate) enum ReplicaCommand {
    /// List the running replicas.
    #[command(after_help = "Example:\n  auth-service replica list")]
    List,
    /// Take a replica out of rotation: it reports that it is not ready, and still serves requests that
    /// arrive. Waits until the replica has done so.
    #[command(after_help = "Example:\n  auth-service replica drain replica-5f3a9c")]
    Drain {
        #[command(flatten)]
        replica: Named,
        /// Put the replica back into rotation.
        #[arg(long, hide = true)]
        undo: bool,
        #[command(flatten)]
        author: Author,
    },
    /// Put a replica back into rotation. Waits until the replica has done so.
    #[command(after_help = "Example:\n  auth-service replica undrain replica-5f3a9c")]
    Undrain {
        #[command(flatten)]
        replica: Named,
        #[command(flatten)]
        author: Author,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The replica's id, as `replica list` prints it.
    #[arg(add = completions::replicas())]
    id: String,
}

pub(crate) async fn run(context: &Context, command: ReplicaCommand) -> Result<(), Failure> {
    let is_reading = matches!(command, ReplicaCommand::List);
    let installation = context.open(if is_reading { Access::Read } else { Access::Change }).await?;
    let (store, output) = (&installation.store, context.output);
    let (id, wanted, author) = match command {
        ReplicaCommand::List => {
            let replicas = all(store).await?;
            return list(output, replicas, installation.now().await?);
        }
        ReplicaCommand::Drain { replica, undo, author } => (replica.id, !undo, author),
        ReplicaCommand::Undrain { replica, author } => (replica.id, false, author),
    };
    replicas::drain(store, &author.actor(), &id, wanted).await?;
    let row = {
        let progress = Progress::line(output);
        progress.say(format!("waiting for {id}"));
        wait_until_applied(store, &id, wanted).await?
    };
    let state = row.report.state.as_str();
    output.result(&ReplicaView::new(row, ""), &format!("{id} is {state}"))
}

/// Prints replicas, sorted by host.
pub(super) fn list(output: Output, replicas: Vec<ReplicaRow>, now: UnixTime) -> Result<(), Failure> {
    let views: Vec<ReplicaView> = replicas.into_iter().map(|row| ReplicaView::new(row, "")).collect();
    output.list(
        &views,
        ["replica", "host", "state", "version", "public", "seen", "keys", "settings"],
        |replica| {
            [
                replica.id.clone(),
                replica.name.clone(),
                replica.state.to_owned(),
                replica.version.clone(),
                replica.public_addr.clone(),
                when(Some(replica.seen_at.0), now),
                replica.key_changes.to_string(),
                format!(
                    "{}{}",
                    replica.settings_version,
                    if replica.settings_refused { " refused" } else { "" }
                ),
            ]
        },
    )
}

/// All replicas that were heard of in the last minutes, sorted by host.
pub(super) async fn all(store: &SqlStore) -> Result<Vec<ReplicaRow>, Failure> {
    let mut all: Vec<ReplicaRow> = Vec::new();
    loop {
        let after = all.last().map(|row| row.report.id.clone());
        let page = store.replicas(after, PAGE).await?;
        if page.is_empty() {
            let place = |row: &ReplicaRow| (row.report.name.clone(), row.report.public_addr.clone());
            all.sort_by_key(place);
            return Ok(all);
        }
        all.extend(page);
    }
}

/// Waits until the replica reports the requested state, and returns its row.
async fn wait_until_applied(store: &SqlStore, id: &str, drained: bool) -> Result<ReplicaRow, Failure> {
    let applied = async {
        loop {
            let row = all(store)
                .await?
                .into_iter()
                .find(|row| row.report.id == id)
                .ok_or("the replica has stopped")?;
            match row.report.state {
                ReplicaState::Draining | ReplicaState::Stopping if drained => return Ok(row),
                ReplicaState::Ready | ReplicaState::NotReady | ReplicaState::Stopping if !drained => {
                    return Ok(row);
                }
                _ => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    };
    let limit = Duration::from(SILENT_AFTER);
    let timed_out = |_| {
        format!(
            "the replica did not apply this within {} s; it will when it reaches the database",
            limit.as_secs()
        )
    };
    tokio::time::timeout(limit, applied).await.map_err(timed_out)?
}
