//! Checks of the keys.

use std::sync::Arc;

use auth_service::boot;
use auth_service::domain::key::{Chain, KeyPhase};
use verifier::Seconds;

use super::{Finding, Subject};
use crate::cli::Failure;
use crate::cli::output::{age, relative};

/// Whether the master key opens every key.
pub(super) async fn master_key(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let Some(installation) = subject.installation() else { return Ok(Vec::new()) };
    let clock = Arc::clone(&installation.clock);
    Ok(vec![match boot::check_master_key(&subject.loaded.config, &installation.store, clock).await {
        Ok(()) => Finding::ok("opens every key"),
        Err(error) => Finding::problem(
            error.to_string(),
            "give this machine the master key of the other replicas; see \"Changing the master key\" in the operator guide",
        ),
    }])
}

/// Whether each algorithm has a key that signs, and rotation goes on.
pub(super) async fn signing_keys(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let Some(installation) = subject.installation() else { return Ok(Vec::new()) };
    let (table, settings) = (installation.store.key_table().await?, installation.settings().await?.now());
    let now = table.seen.now;
    let mut findings = Vec::new();
    for algorithm in &settings.signing_algorithms {
        let chain: Vec<_> = table.rows.iter().filter(|row| row.chain == Chain::Signing(*algorithm)).collect();
        let in_phase = |phase| chain.iter().find(|row| row.key.phase(now) == phase);
        findings.push(match (in_phase(KeyPhase::Active), in_phase(KeyPhase::Pending)) {
            (None, None) => {
                Finding::problem(format!("no key for {algorithm}"), "start a replica: it makes one")
            }
            (None, Some(pending)) => Finding::warning(
                format!("no key signs with {algorithm} yet"),
                format!("wait: the first one signs {}", relative(pending.key.schedule.activates_at, now)),
            ),
            (Some(active), pending) => {
                let signed_for = now - active.key.schedule.activates_at;
                let overdue = Seconds(settings.key_rotation_period.0.saturating_mul(11) / 10);
                if pending.is_none() && signed_for > overdue {
                    Finding::warning(
                        format!(
                            "the key for {algorithm} has signed for {}, and has no successor",
                            age(signed_for)
                        ),
                        "start a replica, or see its log: replicas rotate keys",
                    )
                } else {
                    Finding::ok(format!("{algorithm} has a key that signs, since {}", age(signed_for)))
                }
            }
        });
    }
    Ok(findings)
}
