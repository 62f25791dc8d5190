//! `auth-service replicas …`. Works from any host that reaches the database.

use std::time::Duration;

use auth_service::domain::authority::Actor;
use auth_service::domain::replica::{ReplicaRow, ReplicaState, SILENT_AFTER};
use auth_service::flows::replicas;
use auth_service::runtime::app::App;
use clap::Subcommand;

use super::{Failure, print, time};

const PAGE: u32 = 500;
const POLL_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(crate) enum ReplicasCommand {
    /// List replicas: id, host, state, public address, version, started, last seen, key set version,
    /// generations of its signing keys, settings version, with `refused` if the replica cannot use these
    /// settings.
    List,
    /// Take a replica out of rotation: it reports that it is not ready, and still serves requests that
    /// arrive. Waits until the replica has done so.
    Drain {
        /// The replica's id, as `replicas list` prints it.
        id: String,
        /// Put the replica back into rotation.
        #[arg(long)]
        undo: bool,
    },
}

pub(crate) async fn run(app: &App, command: ReplicasCommand) -> Result<(), Failure> {
    match command {
        ReplicasCommand::List => {
            let mut rows = all(app).await?;
            rows.sort_by(|a, b| {
                (&a.report.name, &a.report.public_addr).cmp(&(&b.report.name, &b.report.public_addr))
            });
            rows.iter().try_for_each(|row| print(&line(row)))
        }
        ReplicasCommand::Drain { id, undo } => {
            replicas::drain(&app.store, &Actor::command_line("unknown", None), &id, !undo).await?;
            let row = wait_until_applied(app, &id, !undo).await?;
            print(&line(&row))
        }
    }
}

async fn all(app: &App) -> Result<Vec<ReplicaRow>, Failure> {
    let mut all: Vec<ReplicaRow> = Vec::new();
    loop {
        let after = all.last().map(|row| row.report.id.clone());
        let page = app.store.replicas(after, PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// Waits until the replica reports the requested state, and returns its row.
async fn wait_until_applied(app: &App, id: &str, drained: bool) -> Result<ReplicaRow, Failure> {
    let applied = async {
        loop {
            let row = all(app)
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

fn line(ReplicaRow { report, started_at, seen_at }: &ReplicaRow) -> String {
    [
        &report.id,
        &report.name,
        report.state.as_str(),
        &report.public_addr,
        &report.version,
        &time(Some(*started_at)),
        &time(Some(*seen_at)),
        &report.key_changes.to_string(),
        &report.key_generations.to_string(),
        &format!("{}{}", report.settings_version, if report.is_refusing_settings { " refused" } else { "" }),
    ]
    .join("\t")
}
