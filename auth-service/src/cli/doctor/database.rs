//! Checks of the database.

use auth_service::boot::database::place;
use verifier::Seconds;

use super::{Finding, Subject};
use crate::cli::Failure;

/// The oldest supported PostgreSQL.
const OLDEST: i64 = 140_000;

/// Whether the database can be used, and over which connection.
pub(super) async fn server(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let place = place(&subject.loaded.config);
    let installation = match &subject.installation {
        Ok(installation) => installation,
        Err(problem) => {
            return Ok(vec![Finding::problem(
                problem.as_str(),
                format!("the database is {place}; see section \"Troubleshooting\" of the operator guide"),
            )]);
        }
    };
    let Some(server) = installation.store.server().await? else {
        return Ok(vec![Finding::ok(place)]);
    };
    let mut findings = Vec::new();
    if server.version_number < OLDEST {
        let message = format!("PostgreSQL {} is too old", server.version);
        findings.push(Finding::problem(message, "upgrade it to 14 or newer"));
    }
    if !server.is_encrypted && !server.is_local {
        findings.push(Finding::warning(
            "the connection to PostgreSQL crosses a network without encryption",
            "add ?sslmode=verify-full to database_url",
        ));
    }
    if findings.is_empty() {
        let encryption = if server.is_encrypted { "with TLS" } else { "on this machine" };
        findings.push(Finding::ok(format!("PostgreSQL {}, {encryption}, {place}", server.version)));
    }
    Ok(findings)
}

/// Whether this machine's clock agrees with that of the database.
pub(super) async fn clock(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let Some(installation) = subject.installation() else { return Ok(Vec::new()) };
    let (before, shared) = (installation.clock.now(), installation.now().await?);
    let after = installation.clock.now();
    // The database read its clock at some time in between.
    let off_by = Seconds((before - shared).0.max((shared - after).0).max(0));
    let bound = subject.loaded.config.clock_bound;
    let message = format!("this machine's clock is {} s away from the database's", off_by.0);
    let advice = format!("set up NTP on both; beyond {} s a replica stops issuing tokens", bound.0);
    Ok(vec![if off_by > bound {
        Finding::problem(message, advice)
    } else if off_by.0 > 1 {
        Finding::warning(message, advice)
    } else {
        Finding::ok("agrees with the database's")
    }])
}
