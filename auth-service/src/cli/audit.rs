//! `auth-service audit …`

use auth_service::boot::database::Access;
use auth_service::domain::audit::EventKind;
use auth_service::store::{AuditFilter, SqlStore};
use auth_service::view::AuditView;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::Failure;
use super::completions;
use super::installation::Context;
use super::output::{moment, parse_time};
use super::user::normalised;

const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what was done, by whom, oldest first.
    #[command(
        after_help = "Examples:\n  auth-service audit list --since 1h\n  auth-service audit list --user alice --event login_refused --reverse --limit 20"
    )]
    List(List),
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only what this user did, or what was done to them: a name or an id.
    #[arg(long, value_name = "NAME|ID", add = completions::users())]
    user: Option<String>,
    /// Only what happened in this session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only this kind of event.
    #[arg(long, value_parser = PossibleValuesParser::new(EventKind::ALL.iter().map(|kind| kind.as_str())), hide_possible_values = true)]
    event: Option<String>,
    /// Only from this time on: a time, a date, or an age such as 30m, 2h or 7d.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Newest first.
    #[arg(long)]
    reverse: bool,
    /// At most this many.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

pub(crate) async fn run(context: &Context, AuditCommand::List(list): AuditCommand) -> Result<(), Failure> {
    let installation = context.open(Access::Read).await?;
    let (store, now) = (&installation.store, installation.now().await?);
    let at = |text: Option<&String>| text.map(|text| parse_time(text, now)).transpose();
    let filter = AuditFilter {
        people: match &list.user {
            Some(user) => names_of(store, user).await?,
            None => Vec::new(),
        },
        session: list.session.clone(),
        event: list.event.clone(),
        since: at(list.since.as_ref())?,
        until: at(list.until.as_ref())?,
        newest_first: list.reverse,
    };
    let entries = all(store, &filter, list.limit.unwrap_or(usize::MAX)).await?;
    context.output.list(
        &entries,
        ["time", "event", "actor", "subject", "address", "detail", "session"],
        |entry| {
            let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            [
                moment(entry.at.0),
                entry.event.clone(),
                text(&entry.actor),
                text(&entry.subject),
                text(&entry.address),
                text(&entry.detail),
                text(&entry.session_id),
            ]
        },
    )
}

/// How the audit log names a user: by id, and by name where there was no id yet. A deleted user is found by id.
async fn names_of(store: &SqlStore, user: &str) -> Result<Vec<String>, Failure> {
    let name = normalised(user)?.to_string();
    let id = store.find_user_named(&name).await?.map(|user| user.id.to_string());
    Ok([Some(name), id].into_iter().flatten().collect())
}

async fn all(store: &SqlStore, filter: &AuditFilter, limit: usize) -> Result<Vec<AuditView>, Failure> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let left = u32::try_from(limit - all.len()).unwrap_or(PAGE).min(PAGE);
        let page = store.audit_page(filter, after, left).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.place.clone());
        all.extend(page.into_iter().map(AuditView::from));
        if all.len() >= limit {
            return Ok(all);
        }
    }
}
