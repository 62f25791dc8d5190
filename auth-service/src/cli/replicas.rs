//! `auth-service replicas …`: through the database, from any host.

use std::time::Duration;

use auth_service::domain::authority::Actor;
use auth_service::domain::replica::{ReplicaRow, ReplicaState, SILENT_AFTER};
use auth_service::flows::replicas;
use auth_service::runtime::app::App;
use clap::Subcommand;

use super::{Failure, print, time};

const PAGE: u32 = 500;
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(crate) enum ReplicasCommand {
    /// List replicas: id, machine, state, public address, version, started, last seen, key changes read, keys that sign,
    /// version of the stored settings, with `refused` if it cannot use them.
    List,
    /// Take a replica out of the rotation: it is not ready, and serves what still comes. Waits until it has heard.
    Drain {
        /// The replica's id, as `replicas list` prints it.
        id: String,
        /// Put it back.
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
            replicas::drain(&app.store, &Actor::command_line(), &id, !undo).await?;
            let row = obeyed(app, &id, !undo).await?;
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

/// The replica, once it says that it has done what was asked.
async fn obeyed(app: &App, id: &str, drained: bool) -> Result<ReplicaRow, Failure> {
    let hears = async {
        loop {
            let row =
                all(app).await?.into_iter().find(|row| row.report.id == id).ok_or("the replica has ended")?;
            match row.report.state {
                ReplicaState::Draining | ReplicaState::Stopping if drained => return Ok(row),
                ReplicaState::Ready | ReplicaState::NotReady | ReplicaState::Stopping if !drained => {
                    return Ok(row);
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    let limit = Duration::from(SILENT_AFTER);
    let unheard = |_| {
        format!(
            "nothing was heard of it within {} s; it will do so when it reaches the database",
            limit.as_secs()
        )
    };
    tokio::time::timeout(limit, hears).await.map_err(unheard)?
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
