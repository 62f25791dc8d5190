//! `auth-service user …`

use auth_service::boot::database::Access;
use auth_service::domain::authority::Actor;
use auth_service::domain::password::Password;
use auth_service::domain::user::Username;
use auth_service::flows::users::{self, UserError, UserPatch, UserRequest};
use auth_service::store::{SqlStore, UserPage, UserRow};
use auth_service::view::UserView;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::author::{Author, Consent, even_the_last_administrator};
use super::completions;
use super::installation::{Context, Installation};
use super::output::{warn, when};
use super::{Failure, read_password};

const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// List all users.
    #[command(
        after_help = "Example:\n  auth-service user list --json | jq -r 'select(.disabled_at == null) | .username'"
    )]
    List,
    /// Show a user.
    #[command(after_help = "Example:\n  auth-service user show alice")]
    Show(Named),
    /// Create a user; prompts for the password, or reads it from standard input.
    ///
    /// With `--role admin`, this always restores control of an installation without an administrator.
    #[command(after_help = "Example:\n  auth-service user add alice --role clerk --role editor")]
    Add {
        #[command(flatten)]
        user: Named,
        /// A role of the user; may be repeated.
        #[arg(long = "role", value_name = "ROLE", add = completions::roles())]
        roles: Vec<String>,
        #[command(flatten)]
        author: Author,
    },
    /// Allow a disabled user to log in again.
    #[command(after_help = "Example:\n  auth-service user enable alice")]
    Enable {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        author: Author,
    },
    /// Disable a user: refuse their logins and end their sessions.
    #[command(after_help = "Example:\n  auth-service user disable alice --reason 'left on 1 December'")]
    Disable {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        consent: Consent,
    },
    /// Delete a user and end their sessions. Asks first.
    #[command(after_help = "Example:\n  auth-service user delete alice")]
    Delete {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        consent: Consent,
    },
    /// Set a user's password and end their sessions; prompts for the password, or reads it from standard
    /// input.
    #[command(after_help = "Example:\n  auth-service user passwd alice")]
    Passwd {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        author: Author,
    },
    /// Show a user's roles, or change them. A change takes effect at the user's next refresh.
    #[command(
        after_help = "Examples:\n  auth-service user roles alice\n  auth-service user roles alice clerk editor\n  auth-service user roles alice --add editor --remove clerk"
    )]
    Roles(RolesArguments),
    /// Show a user's extra claims, or change some of them. The names must be in the setting `extra_claims`.
    #[command(
        after_help = "Examples:\n  auth-service user claims alice\n  auth-service user claims alice tenant=acme level=3\n  auth-service user claims alice --unset level"
    )]
    Claims(ClaimsArguments),
    /// Forget the failed logins with a user's name, so that the next login need not wait.
    #[command(after_help = "Example:\n  auth-service user unlock alice")]
    Unlock {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        author: Author,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The user's login name.
    #[arg(value_name = "NAME", add = completions::users())]
    username: String,
}

impl Named {
    async fn find(&self, store: &SqlStore) -> Result<UserRow, Failure> {
        find_named(store, &self.username).await
    }
}

/// Options of `user roles`.
#[derive(Args, Debug)]
pub(crate) struct RolesArguments {
    #[command(flatten)]
    user: Named,
    /// All roles of the user from now on.
    #[arg(value_name = "ROLE", conflicts_with_all = ["add", "remove"], add = completions::roles())]
    roles: Vec<String>,
    /// A role to add; may be repeated.
    #[arg(long, value_name = "ROLE", add = completions::roles())]
    add: Vec<String>,
    /// A role to remove; may be repeated.
    #[arg(long, value_name = "ROLE", add = completions::roles())]
    remove: Vec<String>,
    #[command(flatten)]
    author: Author,
    #[command(flatten)]
    consent: Consent,
}

/// Options of `user claims`.
#[derive(Args, Debug)]
pub(crate) struct ClaimsArguments {
    #[command(flatten)]
    user: Named,
    /// A claim and its value: JSON, or else a text.
    #[arg(value_name = "CLAIM=VALUE", value_parser = claim)]
    set: Vec<(String, Value)>,
    /// A claim to remove; may be repeated.
    #[arg(long, value_name = "CLAIM")]
    unset: Vec<String>,
    #[command(flatten)]
    author: Author,
}

pub(crate) async fn run(context: &Context, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::List => list(context).await,
        UserCommand::Show(user) => show(context, &user).await,
        UserCommand::Add { user, roles, author } => add(context, user, roles, author.actor()).await,
        UserCommand::Enable { user, author } => enable(context, &user, author.actor()).await,
        UserCommand::Disable { user, author, consent } => {
            disable(context, &user, author.actor(), consent).await
        }
        UserCommand::Delete { user, author, consent } => {
            delete(context, &user, author.actor(), consent).await
        }
        UserCommand::Passwd { user, author } => set_password(context, &user, author.actor()).await,
        UserCommand::Roles(arguments) => roles(context, arguments).await,
        UserCommand::Claims(arguments) => claims(context, arguments).await,
        UserCommand::Unlock { user, author } => unlock(context, &user, &author.actor()).await,
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let installation = context.open(Access::Read).await?;
    let (users, now) = (all(&installation.store).await?, installation.now().await?);
    context.output.list(&users, ["user", "roles", "created", "disabled", "id"], |user| {
        [
            user.username.clone(),
            words(&user.roles),
            when(Some(user.created_at.0), now),
            when(user.disabled_at.map(|at| at.0), now),
            user.id.clone(),
        ]
    })
}

async fn show(context: &Context, user: &Named) -> Result<(), Failure> {
    let installation = context.open(Access::Read).await?;
    let (user, now) = (UserView::from(user.find(&installation.store).await?), installation.now().await?);
    let values = [
        ("user", user.username.clone()),
        ("id", user.id.clone()),
        ("roles", words(&user.roles)),
        ("permissions", words(&user.permissions)),
        ("claims", Value::Object(user.claims.clone()).to_string()),
        ("created", when(Some(user.created_at.0), now)),
        ("disabled", when(user.disabled_at.map(|at| at.0), now)),
    ];
    context.output.object(&user, &values)
}

async fn add(context: &Context, user: Named, roles: Vec<String>, actor: Actor) -> Result<(), Failure> {
    let installation = context.open(Access::Change).await?;
    let name = normalised(&user.username)?;
    if let Some(existing) = installation.store.find_user_named(name.as_str()).await? {
        return Err(exists(&existing, &roles).into());
    }
    let app = installation.app().await?;
    let password = Password::new(read_password()?);
    let request = UserRequest { username: user.username, password, roles, claims: Map::new() };
    let user = users::create(&app, actor, request).await?;
    let sentence = format!("created {} with id {}", user.username, user.id);
    context.output.result(&UserView::from(user), &sentence)
}

async fn enable(context: &Context, user: &Named, actor: Actor) -> Result<(), Failure> {
    let installation = context.open(Access::Change).await?;
    let patch = UserPatch { disabled: Some(false), ..UserPatch::default() };
    let user = change(&installation, user, actor, patch).await?;
    let sentence = format!("{} can log in", user.username);
    context.output.result(&UserView::from(user), &sentence)
}

async fn disable(context: &Context, user: &Named, actor: Actor, consent: Consent) -> Result<(), Failure> {
    let installation = context.open(Access::Change).await?;
    let patch = UserPatch { disabled: Some(true), ..UserPatch::default() };
    let user = demote(&installation, user, actor, consent, patch).await?;
    let sentence = format!("disabled {}; their sessions have ended", user.username);
    context.output.result(&UserView::from(user), &sentence)
}

async fn delete(context: &Context, user: &Named, actor: Actor, consent: Consent) -> Result<(), Failure> {
    let installation = context.open(Access::Change).await?;
    let found = user.find(&installation.store).await?;
    consent.ask(&format!("This deletes {} ({}) and ends their sessions.", found.username, found.id))?;
    let delete = async |actor| users::delete(&installation.store, actor, found.id).await;
    even_the_last_administrator(actor, consent, is_last, delete).await?;
    let sentence = format!("deleted {}; their sessions have ended", found.username);
    context.output.result(&UserView::from(found), &sentence)
}

async fn set_password(context: &Context, user: &Named, actor: Actor) -> Result<(), Failure> {
    let installation = context.open(Access::Change).await?;
    let found = user.find(&installation.store).await?;
    let app = installation.app().await?;
    let user = users::set_password(&app, actor, found.id, Password::new(read_password()?)).await?;
    let name = &user.username;
    if user.disabled_at.is_some() {
        warn(&format!("{name} is disabled and cannot log in: auth-service user enable {name}"));
    }
    let sentence = format!("set the password of {name}; their sessions have ended");
    context.output.result(&UserView::from(user), &sentence)
}

async fn roles(context: &Context, arguments: RolesArguments) -> Result<(), Failure> {
    let RolesArguments { user, roles, add, remove, author, consent } = arguments;
    if roles.is_empty() && add.is_empty() && remove.is_empty() {
        let installation = context.open(Access::Read).await?;
        let user = user.find(&installation.store).await?;
        let sentence = words(&user.roles);
        return context.output.result(&UserView::from(user), &sentence);
    }
    let installation = context.open(Access::Change).await?;
    let found = user.find(&installation.store).await?;
    let roles = if roles.is_empty() { changed_roles(&found, add, &remove)? } else { roles };
    let patch = UserPatch { roles: Some(roles), ..UserPatch::default() };
    let user = demote(&installation, &user, author.actor(), consent, patch).await?;
    let sentence = format!("{} has the roles {} from the next refresh", user.username, words(&user.roles));
    context.output.result(&UserView::from(user), &sentence)
}

async fn claims(context: &Context, arguments: ClaimsArguments) -> Result<(), Failure> {
    let ClaimsArguments { user, set, unset, author } = arguments;
    if set.is_empty() && unset.is_empty() {
        let installation = context.open(Access::Read).await?;
        let user = user.find(&installation.store).await?;
        let sentence = Value::Object(user.claims.clone()).to_string();
        return context.output.result(&UserView::from(user), &sentence);
    }
    let installation = context.open(Access::Change).await?;
    let claims = changed_claims(&user.find(&installation.store).await?, set, &unset)?;
    let patch = UserPatch { claims: Some(claims), ..UserPatch::default() };
    let user = change(&installation, &user, author.actor(), patch).await?;
    let claims = Value::Object(user.claims.clone());
    let sentence = format!("{} has the claims {claims} from the next refresh", user.username);
    context.output.result(&UserView::from(user), &sentence)
}

async fn unlock(context: &Context, user: &Named, actor: &Actor) -> Result<(), Failure> {
    let installation = context.open(Access::Change).await?;
    let found = user.find(&installation.store).await?;
    let name = &found.username;
    let sentence = if users::unlock(&installation.store, actor, name).await? {
        format!("forgot the failed logins of {name}")
    } else {
        format!("no failed logins of {name} were counted")
    };
    context.output.result(&UserView::from(found), &sentence)
}

/// What to do about a user who is to be added and exists.
fn exists(user: &UserRow, roles: &[String]) -> String {
    let name = &user.username;
    let mut advice = vec![format!("`auth-service user passwd {name}` sets the password")];
    if user.disabled_at.is_some() {
        advice.push(format!("`auth-service user enable {name}` allows logins again"));
    }
    for role in roles.iter().filter(|role| !user.roles.contains(role)) {
        advice.push(format!("`auth-service user roles {name} --add {role}` adds the role"));
    }
    format!("there is a user {name} already: {}", advice.join(", "))
}

async fn change(
    installation: &Installation,
    user: &Named,
    actor: Actor,
    patch: UserPatch,
) -> Result<UserRow, Failure> {
    let found = user.find(&installation.store).await?;
    let settings = installation.settings().await?.now();
    Ok(users::change(&settings, &installation.store, actor, found.id, patch).await?)
}

/// As [`change`], for a change that may take the last administrator away.
async fn demote(
    installation: &Installation,
    user: &Named,
    actor: Actor,
    consent: Consent,
    patch: UserPatch,
) -> Result<UserRow, Failure> {
    let found = user.find(&installation.store).await?;
    let settings = installation.settings().await?.now();
    let change =
        async |actor| users::change(&settings, &installation.store, actor, found.id, patch.clone()).await;
    even_the_last_administrator(actor, consent, is_last, change).await
}

fn is_last(error: &UserError) -> bool {
    matches!(error, UserError::LastAdministrator)
}

fn words(words: &[String]) -> String {
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

fn changed_roles(user: &UserRow, add: Vec<String>, remove: &[String]) -> Result<Vec<String>, Failure> {
    if let Some(role) = remove.iter().find(|role| !user.roles.contains(role)) {
        return Err(format!("{} does not have the role {role}; nothing was changed", user.username).into());
    }
    let kept = user.roles.iter().filter(|role| !remove.contains(role)).cloned();
    Ok(kept.chain(add).collect())
}

fn changed_claims(
    user: &UserRow,
    set: Vec<(String, Value)>,
    unset: &[String],
) -> Result<Map<String, Value>, Failure> {
    let mut claims = user.claims.clone();
    for name in unset {
        if claims.remove(name).is_none() {
            return Err(
                format!("{} does not have the claim {name}; nothing was changed", user.username).into()
            );
        }
    }
    claims.extend(set);
    Ok(claims)
}

/// Parses `name=value`.
fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("must be CLAIM=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

/// All users, ordered by name.
pub(super) async fn all(store: &SqlStore) -> Result<Vec<UserView>, Failure> {
    let mut all: Vec<UserView> = Vec::new();
    loop {
        let after = all.last().map(|user| user.username.clone());
        let page = store.users(UserPage { after, limit: PAGE }).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page.into_iter().map(UserView::from));
    }
}

pub(super) fn normalised(username: &str) -> Result<Username, Failure> {
    Ok(Username::parse(username).map_err(|problem| format!("the user name {problem}"))?)
}

/// The user with this name.
pub(super) async fn find_named(store: &SqlStore, username: &str) -> Result<UserRow, Failure> {
    let name = normalised(username)?;
    let user = store.find_user_named(name.as_str()).await?;
    user.ok_or_else(|| format!("there is no user {name}; `auth-service user list` lists all").into())
}
