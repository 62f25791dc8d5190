//! `auth-service key …`

use std::time::Duration;

use auth_service::boot::database::Access;
use auth_service::config::{Config, Settings};
use auth_service::domain::key::Chain;
use auth_service::domain::replica::{ReplicaRow, ReplicaState};
use auth_service::flows::rotate_keys::{self, Compromised};
use auth_service::store::{KeyRow, SqlStore};
use auth_service::view::KeyView;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use verifier::{Algorithm, Seconds, UnixTime};

use super::Failure;
use super::author::{Author, Consent};
use super::completions;
use super::export::Export;
use super::installation::{Context, Installation};
use super::output::{Output, Progress, age, relative, warn, when};
use super::replica;

/// A replica that reaches the database has read new keys long before.
const APPLY_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List signing keys.
    #[command(after_help = "Example:\n  auth-service key list")]
    List,
    /// Announce a successor now; it signs after `key_publish_ahead`.
    #[command(
        after_help = "Examples:\n  auth-service key rotate\n  auth-service key rotate --alg EdDSA --wait"
    )]
    Rotate {
        /// EdDSA, ES256 or RS256; defaults to `signing_algorithm`.
        #[arg(long)]
        alg: Option<Algorithm>,
        /// Wait, with a countdown, until the new key signs.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        author: Author,
    },
    /// Withdraw a compromised key immediately; tokens that it signed are refused. Says what will happen, asks, and waits
    /// until every replica has done so.
    #[command(
        after_help = "Example:\n  auth-service key compromise poMy2mjMdC1bMraoowUDX-AqZXJC_ILr_n4GFdOS9Yc --reason 'found in a backup'"
    )]
    Compromise {
        /// The key's id.
        #[arg(allow_hyphen_values = true, add = completions::keys())]
        kid: String,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        consent: Consent,
    },
    /// Reseal all private keys with the first master key.
    #[command(after_help = "Example:\n  auth-service key reseal")]
    Reseal {
        #[command(flatten)]
        author: Author,
    },
    /// Write the public keys to a folder, one file per key, for programs that read keys only from files.
    #[command(
        after_help = "Example:\n  auth-service key export --format pem --dir /etc/haproxy/keys --watch --exec 'systemctl reload haproxy'"
    )]
    Export(Export),
}

pub(crate) async fn run(context: &Context, command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::List => {
            let installation = context.open(Access::Read).await?;
            let (keys, now) = all(&installation.store).await?;
            list(context.output, &keys, now)
        }
        KeyCommand::Rotate { alg, wait, author } => {
            let installation = context.open(Access::Change).await?;
            let key = rotate_keys::rotate(&installation.app().await?, &author.actor(), alg).await?.key;
            if wait {
                wait_until_it_signs(&installation, context.output, &key).await?;
            }
            let now = installation.now().await?;
            let (activates_at, kid) = (key.key.schedule.activates_at, &key.key.kid);
            let sentence = if activates_at <= now {
                format!("the key {kid} signs ({})", key.chain)
            } else {
                format!("the key {kid} ({}) signs from {}", key.chain, when(Some(activates_at), now))
            };
            context.output.result(&KeyView::new(&key, now), &sentence)
        }
        KeyCommand::Compromise { kid, author, consent } => {
            let installation = context.open(Access::Change).await?;
            compromise(&installation, context.output, &kid, &author, consent).await
        }
        KeyCommand::Reseal { author } => {
            let app = context.open(Access::Change).await?.app().await?;
            let actor = author.actor();
            let resealed = rotate_keys::reseal(&app.store, &app.keyring, &*app.entropy, &actor).await?;
            let sentence = format!("{resealed} keys resealed with the first master key");
            context.output.result(&json!({ "resealed": resealed }), &sentence)
        }
        KeyCommand::Export(export) => export.run(context).await,
    }
}

/// All signing keys, and the time at which they were read.
pub(super) async fn all(store: &SqlStore) -> Result<(Vec<KeyView>, UnixTime), Failure> {
    let table = store.key_table().await?;
    let now = table.seen.now;
    let signing = table.rows.iter().filter(|row| row.chain != Chain::RefreshMac);
    Ok((signing.map(|row| KeyView::new(row, now)).collect(), now))
}

/// Prints keys.
pub(super) fn list(output: Output, keys: &[KeyView], now: UnixTime) -> Result<(), Failure> {
    output.list(keys, ["kid", "alg", "gen", "phase", "signs from", "signs until", "published until"], |key| {
        let end = |at: Option<auth_service::view::Timestamp>| when(at.map(|at| at.0), now);
        [
            key.kid.clone(),
            key.alg.to_owned(),
            key.generation.to_string(),
            key.phase.to_owned(),
            when(Some(key.activates_at.0), now),
            end(key.retires_at),
            end(key.expires_at),
        ]
    })
}

/// Counts down to the time at which the key signs.
async fn wait_until_it_signs(
    installation: &Installation,
    output: Output,
    key: &KeyRow,
) -> Result<(), Failure> {
    let signs_at = key.key.schedule.activates_at;
    let ahead = installation.now().await? - installation.clock.now();
    let progress = Progress::line(output);
    loop {
        let now = installation.clock.now() + ahead;
        if now >= signs_at {
            return Ok(());
        }
        let left = signs_at - now;
        progress.say(format!(
            "the new key signs in {:02}:{:02} (Ctrl-C ends only this wait)",
            left.0 / 60,
            left.0 % 60
        ));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[derive(Serialize)]
struct Withdrawn {
    key: KeyView,
    successor: Option<KeyView>,
    replicas: usize,
    replicas_applied: usize,
}

async fn compromise(
    installation: &Installation,
    output: Output,
    kid: &str,
    author: &Author,
    consent: Consent,
) -> Result<(), Failure> {
    let (keys, now) = all(&installation.store).await?;
    let key = keys.iter().find(|key| key.kid == kid);
    let key = key.ok_or_else(|| format!("there is no key {kid}; `auth-service key list` lists all"))?;
    let settings = installation.settings().await?.now();
    output.remark(&consequences(key, &keys, &installation.loaded.config, &settings, now));
    consent.ask(&format!("Withdraw {kid}?"))?;

    let app = installation.app().await?;
    let Compromised { key, successor } = rotate_keys::compromise(&app, &author.actor(), kid).await?;
    let version = installation.store.confirmation().await?.keys_version;
    let replicas = wait_for_replicas(installation, output, version).await?;
    let now = installation.now().await?;
    let (applied, total) =
        (replicas.iter().filter(|row| row.report.key_changes >= version).count(), replicas.len());
    let withdrawn = Withdrawn {
        key: KeyView::new(&key, now),
        successor: successor.map(|row| KeyView::new(&row, now)),
        replicas: total,
        replicas_applied: applied,
    };
    let signer = withdrawn.successor.as_ref().map_or_else(String::new, |key| {
        format!(
            "; {} signs {}",
            key.kid,
            if key.activates_at.0 <= now { "now".to_owned() } else { relative(key.activates_at.0, now) }
        )
    });
    output.result(&withdrawn, &format!("withdrawn by {applied} of {total} replicas: {kid}{signer}"))?;
    let late: Vec<&ReplicaRow> = replicas.iter().filter(|row| row.report.key_changes < version).collect();
    for row in &late {
        warn(&format!(
            "{} at {} has not withdrawn it and was last heard of {}: stop it, or give it access to the database. It may sign \
             with this key for up to {}",
            row.report.id,
            row.report.name,
            relative(row.seen_at, now),
            age(row.report.lease_left),
        ));
    }
    if late.is_empty() { Ok(()) } else { Err("not every replica has withdrawn the key".into()) }
}

/// What withdrawing a key means for replicas, verifiers and clients.
fn consequences(
    key: &KeyView,
    keys: &[KeyView],
    config: &Config,
    settings: &Settings,
    now: UnixTime,
) -> String {
    let successor = keys.iter().find(|other| other.alg == key.alg && other.phase == "pending");
    let replicas = match (key.phase, successor) {
        ("active", Some(next)) => {
            format!("Replicas sign with {} immediately, although caches may not know it yet.", next.kid)
        }
        ("active", None) => {
            "Replicas sign with a new key immediately, although caches do not know it yet.".to_owned()
        }
        ("pending", _) => format!(
            "The key does not sign yet; another takes its place and signs after {}.",
            age(config.key_publish_ahead)
        ),
        ("retiring", _) => {
            "The key no longer signs; tokens that it signed are refused before they expire.".to_owned()
        }
        (phase, _) => format!("The key is already {phase}."),
    };
    let cached = settings.jwks_max_age + settings.jwks_stale_while_revalidate();
    format!(
        "Key {}, {}, signs from {}.\n\
         {replicas}\n\
         Verifiers that follow the revocation feed refuse its tokens within a second. Others accept them until they fetch the \
         key set again: within {} if they obey its cache lifetime. Restart those that keep keys longer.\n\
         Clients get 401, refresh, and continue; nobody needs to log in.",
        key.kid,
        key.phase,
        when(Some(key.activates_at.0), now),
        age(Seconds(cached.0)),
    )
}

/// Waits until every replica has read this version of the keys or is silent, and returns all replicas that have not stopped.
async fn wait_for_replicas(
    installation: &Installation,
    output: Output,
    version: i64,
) -> Result<Vec<ReplicaRow>, Failure> {
    let progress = Progress::line(output);
    let started = installation.clock.monotonic();
    loop {
        let mut rows = replica::all(&installation.store).await?;
        let is_running = |row: &ReplicaRow| row.report.state != ReplicaState::Silent;
        // A silent replica is not waited for, but it counts: it may be cut off from the database, and sign.
        let is_open = rows.iter().any(|row| is_running(row) && row.report.key_changes < version);
        if !is_open || installation.clock.monotonic().saturating_sub(started) > APPLY_LIMIT {
            rows.retain(|row| {
                row.report.state != ReplicaState::Stopping || row.report.key_changes >= version
            });
            return Ok(rows);
        }
        let applied = rows.iter().filter(|row| row.report.key_changes >= version).count();
        progress.say(format!("{applied} of {} replicas have withdrawn it", rows.len()));
        tokio::time::sleep(replica::POLL_INTERVAL).await;
    }
}
