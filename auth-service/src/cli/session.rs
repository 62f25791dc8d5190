//! `auth-service session …`

use auth_service::boot::database::Access;
use auth_service::domain::session::SessionId;
use auth_service::domain::user::UserId;
use auth_service::flows::sessions;
use auth_service::store::{SessionCursor, SqlStore};
use auth_service::view::SessionOfUserView;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Failure;
use super::author::{Author, Consent};
use super::completions;
use super::installation::Context;
use super::output::{Progress, when};
use super::user::find_named;

const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List live sessions: of a user, newest first, or of all users.
    #[command(
        after_help = "Examples:\n  auth-service session list --user alice\n  auth-service session list --json | jq -r .username | sort | uniq -c"
    )]
    List {
        /// Only the sessions of this user.
        #[arg(long, value_name = "NAME", add = completions::users())]
        user: Option<String>,
        /// The user, as earlier releases took it.
        #[arg(hide = true, conflicts_with = "user")]
        username: Option<String>,
    },
    /// End a session, all sessions of a user, or all sessions of everybody.
    ///
    /// Verifiers that follow the revocation feed refuse the access tokens within a second; the clients must log in again.
    #[command(
        after_help = "Examples:\n  auth-service session end 7b8d10d1-7e7a-458b-bbac-f7518a43fcea\n  auth-service session end --user alice --reason 'laptop stolen'\n  auth-service session end --all --yes"
    )]
    End {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The session's id, as `session list` prints it; the `sid` of its tokens.
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// All sessions of this user.
    #[arg(long, value_name = "NAME", add = completions::users())]
    user: Option<String>,
    /// All sessions of all users: log everybody out. Asks first.
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(context: &Context, command: SessionCommand) -> Result<(), Failure> {
    let is_reading = matches!(command, SessionCommand::List { .. });
    let installation = context.open(if is_reading { Access::Read } else { Access::Change }).await?;
    let (store, output) = (&installation.store, context.output);
    match command {
        SessionCommand::List { user, username } => {
            let user = match user.or(username) {
                Some(name) => Some(find_named(store, &name).await?.id),
                None => None,
            };
            let (sessions, now) = (all(store, user).await?, installation.now().await?);
            output.list(
                &sessions,
                ["session", "user", "audience", "created", "refreshed", "ends", "address"],
                |of| {
                    let session = &of.session;
                    [
                        session.id.clone(),
                        of.username.clone(),
                        session.audience.clone(),
                        when(Some(session.created_at.0), now),
                        when(Some(session.refreshed_at.0), now),
                        when(Some(session.idle_expires_at.0.min(session.expires_at.0)), now),
                        session.address.clone().unwrap_or_else(|| "-".to_owned()),
                    ]
                },
            )
        }
        SessionCommand::End { which: Which { id: Some(id), .. }, author, .. } => {
            let id = SessionId::parse(&id).ok_or("a session id is a UUID, as `session list` prints it")?;
            sessions::end(store, author.actor(), id).await?;
            output.result(&json!({ "session_id": id.to_string() }), &format!("session {id} has ended"))
        }
        SessionCommand::End { which: Which { user: Some(user), .. }, author, .. } => {
            let user = find_named(store, &user).await?;
            let ended = sessions::end_all(store, author.actor(), user.id).await?;
            output.result(
                &json!({ "ended": ended }),
                &format!("{ended} sessions of {} have ended", user.username),
            )
        }
        SessionCommand::End { author, consent, .. } => {
            let actor = author.actor();
            consent.ask(
                "This ends all sessions of all users, your own included: everybody must log in again.",
            )?;
            let progress = Progress::line(output);
            let ended = sessions::end_everyone(store, &actor, |ended| {
                progress.say(format!("{ended} sessions have ended"));
            });
            let ended = ended.await?;
            drop(progress);
            output.result(
                &json!({ "ended": ended }),
                &format!("{ended} sessions have ended; everybody must log in again"),
            )
        }
    }
}

async fn all(store: &SqlStore, user: Option<UserId>) -> Result<Vec<SessionOfUserView>, Failure> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.live_sessions(user, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(SessionCursor::at(&last.session));
        all.extend(page.into_iter().map(SessionOfUserView::from));
    }
}
