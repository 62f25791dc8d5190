//! Checks of the replicas.

use std::collections::BTreeSet;

use auth_service::domain::replica::ReplicaState;

use super::{Finding, Subject};
use crate::cli::Failure;
use crate::cli::output::relative;
use crate::cli::replica;

/// Whether replicas run, are ready and agree.
pub(super) async fn state(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let Some(installation) = subject.installation() else { return Ok(Vec::new()) };
    let (replicas, seen) =
        (replica::all(&installation.store).await?, installation.store.confirmation().await?);
    let mut findings = Vec::new();
    for row in &replicas {
        let (id, host) = (&row.report.id, &row.report.name);
        match row.report.state {
            ReplicaState::Silent => findings.push(Finding::warning(
                format!("{id} at {host} was last heard of {}", relative(row.seen_at, seen.now)),
                "see whether it was killed, or is cut off from the database; it leaves this list ten minutes later",
            )),
            ReplicaState::NotReady => findings.push(Finding::problem(
                format!("{id} at {host} cannot issue tokens"),
                format!("its http://{}/readyz lists the reasons", row.report.admin_addr),
            )),
            ReplicaState::Draining => findings.push(Finding::warning(
                format!("{id} at {host} is out of the rotation"),
                format!("to put it back: auth-service replica undrain {id}"),
            )),
            ReplicaState::Ready | ReplicaState::Stopping => {}
        }
        if row.report.is_refusing_settings {
            findings.push(Finding::problem(
                format!("{id} at {host} cannot use the stored settings"),
                format!("`GET http://{}/admin/v1/settings` says why", row.report.admin_addr),
            ));
        }
    }
    let running: Vec<_> = replicas.iter().filter(|row| row.report.state != ReplicaState::Silent).collect();
    let versions: BTreeSet<&str> = running.iter().map(|row| row.report.version.as_str()).collect();
    if versions.len() > 1 {
        let versions: Vec<&str> = versions.into_iter().collect();
        findings.push(Finding::warning(
            format!("replicas run different releases: {}", versions.join(", ")),
            "finish the upgrade; do not change settings before",
        ));
    }
    if running.is_empty() {
        findings.push(Finding::warning("no replica is running", "start one: auth-service serve"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!("{} of {} are ready", running.len(), replicas.len())));
    }
    Ok(findings)
}
