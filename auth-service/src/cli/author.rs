//! Who runs a command, and whether they mean it.

use std::env;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use auth_service::domain::authority::{ADMIN_ROLE, Actor, Reason};
use clap::Args;

use super::Failure;

/// Options of commands that change something.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Author {
    /// Why; kept in the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<Reason>,
}

impl Author {
    /// The author of the change, as the audit log names them: `cli:alice@db1`.
    #[expect(clippy::disallowed_methods, reason = "these variables name a person and are no settings")]
    pub(super) fn actor(&self) -> Actor {
        Actor::command_line(person(|name| env::var(name).ok()), self.reason.clone())
    }
}

/// The person at a host: who called `sudo`, or who is logged in, or the number of the user of this process.
fn person(variable: impl Fn(&str) -> Option<String>) -> String {
    let named = ["SUDO_USER", "LOGNAME", "USER"].into_iter().filter_map(&variable);
    let name = named.map(|name| plain(&name)).find(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
    format!("{name}@{}", plain(&rustix::system::uname().nodename().to_string_lossy()))
}

/// At most 64 characters that cannot be mistaken for another part of an audit entry.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(64).collect()
}

/// The option of commands that ask.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Consent {
    /// Do it without asking.
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Consent {
    /// Asks on a terminal. Without one, `--yes` is required. Fails if the answer is not `yes`.
    pub(super) fn ask(self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(
                format!("{question} Pass --yes to do it without a terminal; nothing was changed").into()
            );
        }
        // If the question cannot be shown, the answer is not `yes`.
        write!(io::stderr(), "{question} Type `yes` to continue: ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if answer.trim() == "yes" { Ok(()) } else { Err("nothing was changed".into()) }
    }
}

/// Does `work`. If it would take the last administrator away, says so, asks, and does it all the same.
pub(super) async fn even_the_last_administrator<T, E: Into<Failure>>(
    actor: Actor,
    consent: Consent,
    is_refused: impl Fn(&E) -> bool,
    work: impl AsyncFn(Actor) -> Result<T, E>,
) -> Result<T, Failure> {
    match work(actor.clone()).await {
        Err(error) if is_refused(&error) => {
            consent.ask(&format!(
                "This takes away the last administrator: afterwards, nobody can use the admin API. To come back, run \
                 `auth-service user add NAME --role {ADMIN_ROLE}`."
            ))?;
            work(actor.even_the_last_administrator()).await.map_err(Into::into)
        }
        done => done.map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(variables: &[(&str, &str)]) -> String {
        let found =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        person(found).split_once('@').unwrap().0.to_owned()
    }

    #[test]
    fn the_person_is_who_called_sudo_or_who_is_logged_in() {
        assert_eq!(name_of(&[("SUDO_USER", "alice"), ("LOGNAME", "root"), ("USER", "root")]), "alice");
        assert_eq!(name_of(&[("LOGNAME", "bob"), ("USER", "root")]), "bob");
        assert_eq!(name_of(&[("USER", "carol")]), "carol");
        assert!(name_of(&[("SUDO_USER", "")]).starts_with("uid-"));
    }

    #[test]
    fn names_from_the_environment_have_no_room_for_tricks() {
        assert_eq!(name_of(&[("USER", "a@b; reason: none\n")]), "abreasonnone");
        assert_eq!(name_of(&[("USER", &"x".repeat(100))]), "x".repeat(64));
    }
}
