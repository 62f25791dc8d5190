//! `auth-service sessions …`

use auth_service::domain::authority::Actor;
use auth_service::domain::session::SessionId;
use auth_service::domain::user::Username;
use auth_service::flows::sessions;
use auth_service::runtime::app::App;
use clap::Subcommand;

use super::{Failure, print, time};

const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List a user's live sessions: id, audience, created, last refreshed, latest end.
    List {
        /// The user's login name.
        username: String,
    },
    /// End a session.
    End {
        /// The session's id, as `sessions list` prints it.
        id: String,
    },
}

pub(crate) async fn run(app: &App, command: SessionsCommand) -> Result<(), Failure> {
    match command {
        SessionsCommand::List { username } => list(app, &username).await,
        SessionsCommand::End { id } => {
            let id = SessionId::parse(&id).ok_or("a session id is a UUID, as `sessions list` prints it")?;
            sessions::end(&app.store, Actor::command_line("unknown", None), id).await?;
            print(&format!("session {id} has ended"))
        }
    }
}

async fn list(app: &App, username: &str) -> Result<(), Failure> {
    let name = Username::parse(username).map_err(|problem| format!("the user name {problem}"))?;
    let user = app.store.find_user_named(name.as_str()).await?.ok_or("there is no such user")?;
    let mut after = None;
    loop {
        let page = app.store.sessions_of(user.id, after.take(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.created_at, last.id.to_string()));
        for session in &page {
            let [created, refreshed, expires] =
                [session.created_at, session.refresh.refreshed_at, session.expires_at]
                    .map(|at| time(Some(at)));
            print(&format!("{}\t{}\t{created}\t{refreshed}\t{expires}", session.id, session.audience))?;
        }
    }
}
