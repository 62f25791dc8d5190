//! `auth-service status`: one page about an installation.

use auth_service::boot::database::{Access, place};
use auth_service::config::{Loaded, Source};
use auth_service::view::{KeyView, ReplicaView};
use serde::Serialize;

use super::doctor::{self, Finding};
use super::installation::Context;
use super::{Failure, key, replica};

#[derive(Serialize)]
struct Status {
    version: &'static str,
    database: String,
    issuer: String,
    configuration: Configuration,
    replicas: Vec<ReplicaView>,
    keys: Vec<KeyView>,
    findings: Vec<Finding>,
}

/// Where the values of this machine come from.
#[derive(Serialize)]
struct Configuration {
    file: Option<String>,
    in_file: Vec<&'static str>,
    in_environment: Vec<&'static str>,
    stored: Vec<String>,
}

impl Configuration {
    fn new(context: &Context, loaded: &Loaded, stored: Vec<String>) -> Self {
        let from = |source| {
            let given = loaded.given.iter().filter(move |(_, from)| **from == source);
            given.map(|(name, _)| *name).collect()
        };
        Self {
            file: context.config.as_ref().map(|path| path.display().to_string()),
            in_file: from(Source::File),
            in_environment: from(Source::Environment),
            stored,
        }
    }

    fn text(&self) -> String {
        let names = |names: &[&str]| if names.is_empty() { "nothing".to_owned() } else { names.join(" ") };
        let file = self
            .file
            .as_ref()
            .map_or_else(|| "no file".to_owned(), |file| format!("{file}: {}", names(&self.in_file)));
        let stored: Vec<&str> = self.stored.iter().map(String::as_str).collect();
        format!("{file}; environment: {}; stored: {}", names(&self.in_environment), names(&stored))
    }
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let installation = context.open(Access::Read).await?;
    let output = context.output;
    let replicas = replica::all(&installation.store).await?;
    let (keys, now) = key::all(&installation.store).await?;
    let stored = installation.store.settings().await?.rows.into_iter().map(|row| row.name).collect();
    let config = &installation.loaded.config;
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        database: place(config),
        issuer: config.issuer.clone(),
        configuration: Configuration::new(context, &installation.loaded, stored),
        replicas: replicas.iter().cloned().map(|row| ReplicaView::new(row, "")).collect(),
        keys,
        findings: doctor::complaints(context, installation).await,
    };
    if output.json {
        return output.result(&status, "");
    }
    let values = [
        ("version", status.version.to_owned()),
        ("database", status.database.clone()),
        ("issuer", status.issuer.clone()),
        ("configuration", status.configuration.text()),
    ];
    output.object(&status, &values)?;
    output.line("\nReplicas")?;
    replica::list(output, replicas, now)?;
    output.line("\nSigning keys")?;
    key::list(output, &status.keys, now)?;
    if status.findings.is_empty() {
        return output.line("\nNothing is wrong; `auth-service doctor` lists what was checked");
    }
    output.line("\nWhat is wrong")?;
    doctor::print(output, &status.findings)
}
