//! `auth-service role …`

use auth_service::boot::database::Access;
use auth_service::domain::user::{Permission, PermissionSet, RoleName};
use auth_service::flows::roles::{self, RoleError};
use auth_service::store::SqlStore;
use auth_service::view::RoleView;
use clap::Subcommand;

use super::Failure;
use super::author::{Author, Consent, even_the_last_administrator};
use super::completions;
use super::installation::Context;

const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// List all roles with their permissions.
    #[command(after_help = "Example:\n  auth-service role list")]
    List,
    /// Show a role.
    #[command(after_help = "Example:\n  auth-service role show clerk")]
    Show {
        /// The role's name.
        #[arg(add = completions::roles())]
        name: String,
    },
    /// Create a role, or replace the permissions of one. Takes effect at each user's next refresh.
    #[command(after_help = "Example:\n  auth-service role set clerk orders:read orders:write")]
    Set {
        /// The role's name.
        #[arg(add = completions::roles())]
        name: String,
        /// A permission, a name that your applications check.
        #[arg(value_name = "PERMISSION")]
        permissions: Vec<String>,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        consent: Consent,
    },
    /// Delete a role and remove it from all users. Asks first.
    #[command(after_help = "Example:\n  auth-service role delete clerk")]
    Delete {
        /// The role's name.
        #[arg(add = completions::roles())]
        name: String,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        consent: Consent,
    },
}

pub(crate) async fn run(context: &Context, command: RoleCommand) -> Result<(), Failure> {
    let is_reading = matches!(command, RoleCommand::List | RoleCommand::Show { .. });
    let installation = context.open(if is_reading { Access::Read } else { Access::Change }).await?;
    let (store, output) = (&installation.store, context.output);
    match command {
        RoleCommand::List => {
            let roles = all(store).await?;
            output
                .list(&roles, ["role", "permissions"], |role| [role.name.clone(), role.permissions.join(" ")])
        }
        RoleCommand::Show { name } => {
            let role = find(store, &RoleName::parse(&name)?).await?;
            let values = [("role", role.name.clone()), ("permissions", role.permissions.join(" "))];
            output.object(&role, &values)
        }
        RoleCommand::Set { name, permissions, author, consent } => {
            let name = RoleName::parse(&name)?;
            let permissions: PermissionSet =
                permissions.iter().map(|text| Permission::parse(text)).collect::<Result<_, _>>()?;
            let put = async |actor| roles::put(store, actor, &name, permissions.clone()).await;
            let is_new = even_the_last_administrator(author.actor(), consent, is_last, put).await?;
            let sentence = format!("{} the role {name}", if is_new { "created" } else { "changed" });
            output.result(&find(store, &name).await?, &sentence)
        }
        RoleCommand::Delete { name, author, consent } => {
            let name = RoleName::parse(&name)?;
            let role = find(store, &name).await?;
            consent.ask(&format!("This deletes the role {name} and removes it from all users."))?;
            let delete = async |actor| roles::delete(store, actor, &name).await;
            even_the_last_administrator(author.actor(), consent, is_last, delete).await?;
            output.result(&role, &format!("deleted the role {name}"))
        }
    }
}

fn is_last(error: &RoleError) -> bool {
    matches!(error, RoleError::LastAdministrator)
}

async fn all(store: &SqlStore) -> Result<Vec<RoleView>, Failure> {
    let mut all: Vec<RoleView> = Vec::new();
    loop {
        let after = all.last().map(|role| role.name.clone());
        let page = store.roles(after, PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page.into_iter().map(|(name, permissions)| RoleView::new(name, &permissions)));
    }
}

async fn find(store: &SqlStore, name: &RoleName) -> Result<RoleView, Failure> {
    let permissions = store.find_role(name.as_str()).await?;
    let permissions =
        permissions.ok_or_else(|| format!("there is no role {name}; `auth-service role list` lists all"))?;
    Ok(RoleView::new(name.to_string(), &permissions))
}
