//! `auth-service doctor`: looks for what is wrong and says what to do. Each check is one row of [`CHECKS`].

mod configuration;
mod database;
mod files;
mod issuer;
mod keys;
mod people;
mod proxies;
mod replicas;

use std::process::ExitCode;

use anstyle::AnsiColor;
use auth_service::boot::database::Access;
use auth_service::config::Loaded;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::Failure;
use super::installation::{Context, Installation};
use super::output::{Output, styled};

/// Exit code if the worst finding is a warning.
const WARNINGS: u8 = 3;

/// A check: its name, and what it does. A check that cannot be made fails, which is a problem.
type Check = (&'static str, for<'a> fn(&'a Subject) -> BoxFuture<'a, Result<Vec<Finding>, Failure>>);

const CHECKS: &[Check] = &[
    ("configuration", |subject| Box::pin(async { Ok(configuration::warnings(subject)) })),
    ("listeners", |subject| Box::pin(async { Ok(configuration::listeners(subject)) })),
    ("files", |subject| Box::pin(async { files::modes(subject) })),
    ("first password", |subject| Box::pin(people::first_password(subject))),
    ("database", |subject| Box::pin(database::server(subject))),
    ("clock", |subject| Box::pin(database::clock(subject))),
    ("settings", |subject| Box::pin(configuration::stored_settings(subject))),
    ("administrators", |subject| Box::pin(people::administrators(subject))),
    ("master key", |subject| Box::pin(keys::master_key(subject))),
    ("signing keys", |subject| Box::pin(keys::signing_keys(subject))),
    ("replicas", |subject| Box::pin(replicas::state(subject))),
    ("proxies", |subject| Box::pin(proxies::forwarded_addresses(subject))),
    ("issuer", |subject| Box::pin(issuer::key_set(subject))),
];

/// What is checked.
pub(super) struct Subject {
    loaded: Loaded,
    config_file: Option<std::path::PathBuf>,
    /// Or why it cannot be opened.
    installation: Result<Installation, String>,
}

impl Subject {
    /// The installation, for checks that need the database. `None` if it cannot be opened, which the check of the database
    /// reports.
    fn installation(&self) -> Option<&Installation> {
        self.installation.as_ref().ok()
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    Ok,
    Warning,
    Problem,
}

/// What a check found, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    pub(super) result: Severity,
    message: String,
    advice: Option<String>,
}

impl Finding {
    fn ok(message: impl Into<String>) -> Self {
        Self { check: "", result: Severity::Ok, message: message.into(), advice: None }
    }

    fn warning(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: "", result: Severity::Warning, message: message.into(), advice: Some(advice.into()) }
    }

    fn problem(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { result: Severity::Problem, ..Self::warning(message, advice) }
    }
}

/// Makes every check and prints what it finds. The exit code is that of the worst finding.
pub(super) async fn run(context: &Context) -> Result<ExitCode, Failure> {
    let loaded = auth_service::config::Config::load(context.config.as_deref())?;
    context.name_database(&loaded.config);
    let installation =
        Installation::open(loaded.clone(), Access::Read).await.map_err(|failure| failure.to_string());
    let subject = Subject { loaded, config_file: context.config.clone(), installation };
    let findings = examine(&subject).await;
    print(context.output, &findings)?;
    Ok(match findings.iter().map(|finding| finding.result).max() {
        Some(Severity::Problem) => ExitCode::FAILURE,
        Some(Severity::Warning) => ExitCode::from(WARNINGS),
        _ => ExitCode::SUCCESS,
    })
}

/// What is wrong with an installation that is open.
pub(super) async fn complaints(context: &Context, installation: Installation) -> Vec<Finding> {
    let subject = Subject {
        loaded: installation.loaded.clone(),
        config_file: context.config.clone(),
        installation: Ok(installation),
    };
    let mut findings = examine(&subject).await;
    findings.retain(|finding| finding.result != Severity::Ok);
    findings
}

async fn examine(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (check, make) in CHECKS {
        let made = make(subject).await.unwrap_or_else(|failure| {
            vec![Finding::problem(format!("could not be checked: {failure}"), "see the other findings")]
        });
        findings.extend(made.into_iter().map(|finding| Finding { check, ..finding }));
    }
    findings
}

/// Prints findings, each with what to do about it.
pub(super) fn print(output: Output, findings: &[Finding]) -> Result<(), Failure> {
    for finding in findings {
        let word = match finding.result {
            Severity::Ok => styled(AnsiColor::Green, "ok     "),
            Severity::Warning => styled(AnsiColor::Yellow, "warning"),
            Severity::Problem => styled(AnsiColor::Red, "problem"),
        };
        let mut text = format!("{word}  {}: {}", finding.check, finding.message);
        if let Some(advice) = &finding.advice {
            text.push_str("\n         ");
            text.push_str(advice);
        }
        output.result(finding, &text)?;
    }
    Ok(())
}
