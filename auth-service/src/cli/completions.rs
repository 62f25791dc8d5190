//! Completions for shells. The scripts ask this program for candidates, so that names of users, roles, keys and the like
//! are completed as well as commands and options.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use auth_service::boot::database::Access;
use auth_service::config::{Config, Settings};
use auth_service::domain::key::Chain;
use auth_service::store::UserPage;
use clap::{CommandFactory as _, ValueEnum};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use super::installation::Installation;
use super::{Arguments, Failure};

/// The variable by which a script asks for candidates.
const VARIABLE: &str = "AUTH_SERVICE_COMPLETE";
const PROGRAM: &str = "auth-service";
/// A shell that waits for candidates shows nothing meanwhile.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Most candidates of a kind; more would not help.
const MOST: u32 = 200;

/// A shell with a script.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Responds to a script that asks for candidates, and ends the process. Returns if none does.
pub(crate) fn respond() {
    CompleteEnv::with_factory(Arguments::command).var(VARIABLE).bin(PROGRAM).complete();
}

/// Prints the script for a shell.
pub(super) fn print(shell: Shell) -> Result<(), Failure> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let completer = shells.completer(name).ok_or("this shell is not supported")?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    match io::Write::write_all(&mut io::stdout(), &script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Completes names of users.
pub(super) fn users() -> ArgValueCompleter {
    completer(async |installation, typed| {
        // A page begins after the name that was typed, which may be complete.
        let complete = installation.store.find_user_named(typed).await?;
        let page = UserPage { after: Some(typed.to_owned()), limit: MOST };
        let users = complete.into_iter().chain(installation.store.users(page).await?);
        Ok(users.map(|user| user.username).collect())
    })
}

/// Completes names of roles.
pub(super) fn roles() -> ArgValueCompleter {
    completer(async |installation, typed| {
        let complete = installation.store.find_role(typed).await?.map(|_| typed.to_owned());
        let roles = installation.store.roles(Some(typed.to_owned()), MOST).await?;
        Ok(complete.into_iter().chain(roles.into_iter().map(|(name, _)| name)).collect())
    })
}

/// Completes ids of signing keys.
pub(super) fn keys() -> ArgValueCompleter {
    completer(async |installation, _| {
        let rows = installation.store.key_table().await?.rows;
        let signing = rows.into_iter().filter(|row| row.chain != Chain::RefreshMac);
        Ok(signing.map(|row| row.key.kid.to_string()).collect())
    })
}

/// Completes ids of replicas.
pub(super) fn replicas() -> ArgValueCompleter {
    completer(async |installation, _| {
        Ok(installation.store.replicas(None, MOST).await?.into_iter().map(|row| row.report.id).collect())
    })
}

/// Completes names of settings that can change while the service runs.
pub(super) fn settings() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        beginning_with(
            typed,
            Settings::default().shown().into_iter().map(|(name, _)| name.to_owned()).collect(),
        )
    })
}

/// Completes names from the configured database. A database that cannot be read has none.
fn completer(
    names: impl AsyncFn(&Installation, &str) -> Result<Vec<String>, Failure> + Clone + Send + Sync + 'static,
) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let found = async {
            let loaded = Config::load(config_file(std::env::args()).as_deref())?;
            let installation = Installation::open(loaded, Access::Read).await?;
            names(&installation, &typed.to_string_lossy()).await
        };
        let found = async { tokio::time::timeout(TIMEOUT, found).await.ok()?.ok() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let found = runtime.ok().and_then(|runtime| runtime.block_on(found));
        beginning_with(typed, found.unwrap_or_default())
    })
}

/// The configuration file that the unfinished command names.
fn config_file(words: impl Iterator<Item = String>) -> Option<PathBuf> {
    let mut words = words.skip_while(|word| word != "--config" && !word.starts_with("--config="));
    let word = words.next()?;
    word.strip_prefix("--config=").map(str::to_owned).or_else(|| words.next()).map(PathBuf::from)
}

fn beginning_with(typed: &OsStr, names: Vec<String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}
