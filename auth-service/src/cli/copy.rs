//! `auth-service copy`

use std::sync::Arc;
use std::time::Duration;

use auth_service::config::{Config, Database};
use auth_service::domain::random_name;
use auth_service::entropy::SystemEntropy;
use auth_service::store::{Compared, Progress as Progressed, SqlStore};
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use verifier::{Clock, SystemClock};

use super::Failure;
use super::installation::Context;
use super::output::{Output, Progress};

const REPORT_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// URL of the SQLite database, as in the configuration. It is only read.
    #[arg(long, value_name = "URL")]
    from: String,
    /// URL of the empty PostgreSQL database; defaults to `database_url` of the configuration. Prefer the
    /// configuration: other users can see arguments, and the URL contains the password.
    #[arg(long, value_name = "URL")]
    to: Option<SecretString>,
}

pub(crate) async fn run(context: &Context, arguments: CopyArguments) -> Result<(), Failure> {
    let config = context.load()?.config;
    let output = context.output;
    let Some(Database::Sqlite { path: from }) = Database::from_url(&arguments.from) else {
        return Err("--from: must be a SQLite database, such as sqlite://data/auth.db".into());
    };
    let to = arguments.to.as_ref().unwrap_or(&config.database_url);
    if !matches!(Database::from_url(to.expose_secret()), Some(Database::Postgres)) {
        return Err(
            "--to: must be a PostgreSQL database, postgres://…; or set AUTH_DATABASE_URL instead".into()
        );
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let target = connect(&config, to, &clock).await?;
    let mut reporter = Reporter {
        clock,
        output,
        bar: Progress::bar(output),
        table: "",
        started: Start::default(),
        shown_at: Duration::ZERO,
    };
    let compared = target.copy_from(&from, |progress| reporter.show(progress)).await?;
    target.close().await;
    drop(reporter);
    let compared: Vec<ComparedView> = compared.into_iter().map(ComparedView::from).collect();
    output.list(&compared, ["table", "rows", "checksum"], |table| {
        [table.table.to_owned(), table.rows.to_string(), table.checksum.clone()]
    })?;
    output.line(&format!(
        "\nBoth databases have the same content. Start the service on PostgreSQL with the same master key as before,\n\
         by default {}",
        from.with_file_name("master.key").display()
    ))
}

/// A table that is the same in both databases.
#[derive(Serialize)]
struct ComparedView {
    table: &'static str,
    rows: u64,
    checksum: String,
}

impl From<Compared> for ComparedView {
    fn from(Compared { table, rows, checksum }: Compared) -> Self {
        Self { table, rows, checksum }
    }
}

async fn connect(config: &Config, to: &SecretString, clock: &Arc<dyn Clock>) -> Result<SqlStore, Failure> {
    let replica = random_name("copy", &SystemEntropy::new())?;
    let keep_for = config.keep_revocations_for();
    Ok(SqlStore::connect_postgres(to.expose_secret(), Arc::clone(clock), &replica, keep_for).await?)
}

/// Shows progress as a bar on a terminal. Elsewhere, prints a line to standard error when a table starts, every second, and
/// when it ends.
struct Reporter {
    clock: Arc<dyn Clock>,
    output: Output,
    bar: Progress,
    table: &'static str,
    started: Start,
    shown_at: Duration,
}

#[derive(Default)]
struct Start {
    at: Duration,
    copied: u64,
}

impl Reporter {
    fn show(&mut self, progress: Progressed) {
        let (now, Progressed { table, copied, total }) = (self.clock.monotonic(), progress);
        let is_new = self.table != table;
        if is_new {
            self.table = table;
            self.started = Start { at: now, copied };
            if copied > 0 {
                self.output.remark(&format!("{table}: {copied} of {total} rows are already copied"));
            }
        }
        if !self.bar.is_hidden() {
            return self.bar.show(table, copied, total);
        }
        let is_due = now.saturating_sub(self.shown_at) >= REPORT_INTERVAL;
        if copied < total && !is_due || is_new {
            return;
        }
        self.shown_at = now;
        let (rows, took) = (copied - self.started.copied, now.saturating_sub(self.started.at));
        let rate = u128::from(rows) * 1_000 / took.as_millis().max(1);
        self.output.remark(&format!("{table}: {copied} of {total} rows, {rate} rows/s"));
    }
}
