//! Checks of what clients and verifiers see at the issuer's URL.

use std::collections::BTreeSet;

use auth_service::keys::keyring;
use serde::Deserialize;

use super::{Finding, Subject};
use crate::cli::{Failure, jwks};

/// Whether the issuer's URL leads to this installation: the same issuer, the same keys.
pub(super) async fn key_set(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let Some(installation) = subject.installation() else { return Ok(Vec::new()) };
    let issuer = &subject.loaded.config.issuer;
    let unreachable = |failure: Failure| {
        let advice =
            "verifiers fetch keys there: start a replica, or correct the balancer, the name or issuer";
        vec![Finding::problem(format!("{issuer} cannot be used: {failure}"), advice)]
    };
    let metadata = match jwks::read(&format!("{issuer}/.well-known/oauth-authorization-server")).await {
        Ok(document) => serde_json::from_slice::<Metadata>(&document)?,
        Err(failure) => return Ok(unreachable(failure)),
    };
    let served = match jwks::read(&format!("{issuer}/.well-known/jwks.json")).await {
        Ok(document) => serde_json::from_slice::<Keys>(&document)?,
        Err(failure) => return Ok(unreachable(failure)),
    };
    let table = installation.store.key_table().await?;
    let published = keyring::jwks(&table.rows, table.seen.keys_version, table.seen.now);
    let here: BTreeSet<String> = published.keys.iter().map(|key| key.kid().to_string()).collect();
    let there: BTreeSet<String> = served.keys.into_iter().map(|key| key.kid).collect();
    let advice = "the URL must lead to the replicas of this database, and nothing may cache the key set for longer than it allows";
    Ok(vec![if metadata.issuer != *issuer {
        Finding::problem(
            format!("{issuer} says that it is {}", metadata.issuer),
            "give all replicas and this machine the same issuer",
        )
    } else if here.is_disjoint(&there) {
        Finding::problem(format!("{issuer} serves the keys of another installation"), advice)
    } else if here != there {
        Finding::warning(format!("{issuer} does not serve the newest keys"), advice)
    } else {
        Finding::ok(format!("{issuer} serves the key set of this database"))
    }])
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    kid: String,
}
