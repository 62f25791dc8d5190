//! Checks of administrators and their passwords.

use auth_service::boot::{ADMIN_USERNAME, breached_passwords, judge_configured_password};
use auth_service::domain::authority::ADMIN_ROLE;

use super::{Finding, Subject};
use crate::cli::Failure;
use crate::cli::serve::password_file;

/// Whether somebody can administer the installation, and whether that hangs on one person.
pub(super) async fn administrators(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let Some(installation) = subject.installation() else { return Ok(Vec::new()) };
    let names = installation.store.administrators().await?;
    let advice = format!("auth-service user add NAME --role {ADMIN_ROLE}");
    Ok(vec![match &names[..] {
        [] => Finding::problem("no enabled user has full rights", advice),
        [only] => Finding::warning(format!("{only} is the only user with full rights"), advice),
        more => Finding::ok(format!("{} users have full rights: {}", more.len(), more.join(", "))),
    }])
}

/// Whether the first password lies about, or is easy to guess.
pub(super) async fn first_password(subject: &Subject) -> Result<Vec<Finding>, Failure> {
    let config = &subject.loaded.config;
    let mut findings = Vec::new();
    let file = password_file(config);
    if file.try_exists()? {
        findings.push(Finding::warning(
            format!("the first password of {ADMIN_USERNAME} is still in {}", file.display()),
            format!("change it with `auth-service user passwd {ADMIN_USERNAME}`, and delete the file"),
        ));
    }
    if config.bootstrap_admin_password.is_some() {
        let breached = breached_passwords::read(config)?;
        if let Err(weakness) = judge_configured_password(&subject.loaded, &breached) {
            findings.push(Finding::warning(
                format!("bootstrap_admin_password {weakness}"),
                format!("change it with `auth-service user passwd {ADMIN_USERNAME}`"),
            ));
        }
        if let Some(installation) = subject.installation()
            && installation.store.is_bootstrapped().await?
        {
            findings.push(Finding::warning(
                "bootstrap_admin_password is set, but was used when the service first started",
                "remove it from the configuration",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("in no file and not in the configuration"));
    }
    Ok(findings)
}
