//! `auth-service keys …`

use std::path::Path;

use auth_service::config::Config;
use auth_service::domain::authority::Actor;
use auth_service::domain::key::Chain;
use auth_service::flows::rotate_keys::{self, Compromised};
use auth_service::store::KeyRow;
use clap::Subcommand;
use verifier::{Algorithm, UnixTime};

use super::export::Export;
use super::{Failure, open, print, time};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// List signing keys: kid, algorithm, generation, phase, activates, retires, expires.
    List,
    /// Announce a successor now; it signs after `key_publish_ahead`.
    Rotate {
        /// EdDSA, ES256 or RS256; defaults to `signing_algorithm`.
        #[arg(long)]
        alg: Option<Algorithm>,
    },
    /// Withdraw a compromised key immediately; tokens that it signed are refused.
    Compromise {
        /// The key's id.
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
    /// Reseal all private keys with the first master key.
    Reseal,
    /// Write the public keys to a folder, one file per key, for programs that read keys only from files.
    Export(Export),
}

pub(crate) async fn run(config: Option<&Path>, command: KeysCommand) -> Result<(), Failure> {
    let open = async || open(Config::load(config)).await;
    match command {
        KeysCommand::List => {
            let app = open().await?;
            let table = app.store.key_table().await?;
            let signing = table.rows.iter().filter(|row| row.chain != Chain::RefreshMac);
            signing.into_iter().try_for_each(|row| print(&line(row, table.seen.now)))
        }
        KeysCommand::Rotate { alg } => {
            let app = open().await?;
            let rotated = rotate_keys::rotate(&app, &Actor::command_line("unknown", None), alg).await?;
            print(&line(&rotated.key, app.clock.now()))
        }
        KeysCommand::Compromise { kid } => {
            let app = open().await?;
            let Compromised { key, successor } =
                rotate_keys::compromise(&app, &Actor::command_line("unknown", None), &kid).await?;
            let now = app.clock.now();
            print(&line(&key, now))?;
            successor.map_or(Ok(()), |row| print(&line(&row, now)))
        }
        KeysCommand::Reseal => {
            let app = open().await?;
            let resealed = rotate_keys::reseal(
                &app.store,
                &app.keyring,
                &*app.entropy,
                &Actor::command_line("unknown", None),
            )
            .await?;
            print(&format!("{resealed} keys resealed with the first master key"))
        }
        KeysCommand::Export(export) => export.run(config).await,
    }
}

fn line(row: &KeyRow, now: UnixTime) -> String {
    let (key, end) = (&row.key, row.key.schedule.end);
    [
        key.kid.to_string(),
        row.chain.to_string(),
        key.generation.to_string(),
        key.phase(now).as_str().to_owned(),
        time(Some(key.schedule.activates_at)),
        time(end.map(|end| end.retires_at)),
        time(end.map(|end| end.expires_at)),
    ]
    .join("\t")
}
