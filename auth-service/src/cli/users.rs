//! `auth-service user …`

use auth_service::domain::authority::Actor;
use auth_service::domain::password::Password;
use auth_service::domain::user::Username;
use auth_service::flows::users::{self, UserPatch, UserRequest};
use auth_service::runtime::app::App;
use auth_service::store::{UserPage, UserRow};
use clap::Subcommand;

use super::{Failure, print, read_password, time};

const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Create a user; prompts for the password, or reads it from standard input.
    Add {
        /// The user's login name.
        username: String,
        /// A role of the user; may be repeated.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Disable a user: refuse their logins and end their sessions.
    Disable {
        /// The user's login name.
        username: String,
    },
    /// Set a user's password and end their sessions; prompts for the password, or reads it from standard
    /// input.
    Passwd {
        /// The user's login name.
        username: String,
    },
    /// List users: name, id, roles, time when disabled.
    List,
}

pub(crate) async fn run(app: &App, command: UserCommand) -> Result<(), Failure> {
    let actor = Actor::command_line("unknown", None);
    match command {
        UserCommand::Add { username, roles } => {
            let password = Password::new(read_password()?);
            let request = UserRequest { username, password, roles, claims: serde_json::Map::new() };
            let user = users::create(app, actor, request).await?;
            print(&format!("created {} with id {}", user.username, user.id))
        }
        UserCommand::Disable { username } => {
            let user = find(app, &username).await?;
            let patch = UserPatch { disabled: Some(true), ..UserPatch::default() };
            users::change(&app.settings(), &app.store, actor, user.id, patch).await?;
            print(&format!("disabled {}; their sessions have ended", user.username))
        }
        UserCommand::Passwd { username } => {
            let user = find(app, &username).await?;
            users::set_password(app, actor, user.id, Password::new(read_password()?)).await?;
            print(&format!("set the password of {}; their sessions have ended", user.username))
        }
        UserCommand::List => list(app).await,
    }
}

async fn list(app: &App) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = app.store.users(UserPage { after: after.take(), limit: PAGE }).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.username.clone());
        for user in &page {
            let disabled = time(user.disabled_at);
            print(&format!("{}\t{}\t{}\t{disabled}", user.username, user.id, user.roles.join(",")))?;
        }
    }
}

async fn find(app: &App, username: &str) -> Result<UserRow, Failure> {
    let name = Username::parse(username).map_err(|problem| format!("the user name {problem}"))?;
    let user = app.store.find_user_named(name.as_str()).await?;
    user.ok_or_else(|| format!("there is no user {name}; `auth-service user list` lists all").into())
}
