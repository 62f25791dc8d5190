//! Checks of the configuration.

use auth_service::flows::settings;

use super::{Finding, Subject};
use crate::cli::Failure;

/// The warnings that a start would print.
pub(super) fn warnings(subject: &Subject) -> Vec<Finding> {
    let warnings = &subject.loaded.warnings;
    if warnings.is_empty() {
        return vec![Finding::ok("valid: `auth-service config check` prints it")];
    }
    let finding = |warning: &String| Finding::warning(warning.as_str(), "see docs/configuration.md");
    warnings.iter().map(finding).collect()
}

/// Who can reach the listeners.
pub(super) fn listeners(subject: &Subject) -> Vec<Finding> {
    let config = &subject.loaded.config;
    let mut findings = Vec::new();
    if !config.admin_addr.ip().is_loopback() {
        findings.push(Finding::warning(
            format!("the admin listener accepts connections on {}", config.admin_addr),
            "make sure that a firewall keeps clients away from it, or set admin_addr to a loopback address",
        ));
    }
    if config.issuer.starts_with("http://") && config.allow_insecure_issuer {
        findings.push(Finding::warning(
            format!("tokens cross the network without encryption: issuer is {}", config.issuer),
            "put TLS in front of the service, and change issuer to https",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!("public {}, admin {}", config.public_addr, config.admin_addr)));
    }
    findings
}

/// Whether the stored settings can be used here.
pub(super) async fn stored_settings(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let Some(installation) = subject.installation() else { return Ok(Vec::new()) };
    let all = settings::list(&installation.settings().await?, &installation.store).await?;
    let mut findings: Vec<Finding> = all
        .problems
        .iter()
        .map(|problem| {
            Finding::problem(
                format!("the stored settings are not in use here: {problem}"),
                "change them with `auth-service setting set`, or the file of this machine",
            )
        })
        .collect();
    for setting in all.settings.iter().filter(|setting| setting.is_overridden()) {
        findings.push(Finding::warning(
            format!("{}: the {} overrides the stored value", setting.name, setting.source.as_str()),
            format!(
                "leave it out of the {}, or run `auth-service setting unset {}`",
                setting.source.as_str(),
                setting.name
            ),
        ));
    }
    if findings.is_empty() {
        let stored = all.settings.iter().filter(|setting| setting.stored.is_some()).count();
        findings.push(Finding::ok(format!("{stored} stored, version {}", all.version)));
    }
    Ok(findings)
}
