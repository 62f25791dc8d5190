//! Creates the first administrator.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use verifier::Clock;

use super::database;
use super::error::StartError;
use crate::config::Loaded;
use crate::domain::breached::BreachedPasswords;
use crate::domain::password::Password;
use crate::domain::random_16;
use crate::domain::strength::{PasswordPolicy, WeakPassword};
use crate::domain::user::UserId;
use crate::entropy::{Entropy, EntropyError};
use crate::runtime::app::App;
use crate::runtime::hashing::Claim;
use crate::store::{Bootstrap, NewUser};

/// The user name of the first administrator.
pub const ADMIN_USERNAME: &str = "admin";

/// The password of the first administrator. Only the replica that created the user knows it.
#[derive(Debug)]
pub enum FirstPassword {
    /// Generated, and not stored anywhere.
    Generated(SecretString),
    /// Taken from the configuration.
    Configured,
}

/// Creates the first administrator, unless that was done before. Returns `Some` after the commit, only on the
/// replica that did it.
pub async fn bootstrap(app: &App) -> Result<Option<FirstPassword>, StartError> {
    if app.store.is_bootstrapped().await? {
        return Ok(None);
    }
    let (password, first) = if let Some(configured) = &app.config.bootstrap_admin_password {
        (configured.clone(), FirstPassword::Configured)
    } else {
        let generated = SecretString::from(generated_password(&*app.entropy)?);
        (generated.clone(), FirstPassword::Generated(generated))
    };
    let password = Password::new(password.expose_secret().to_owned());
    let hash = app.hashing.hash(password, Claim::operator()).await?;
    let admin = NewUser {
        id: UserId::from_random(random_16(&*app.entropy)?),
        username: ADMIN_USERNAME.to_owned(),
        password_hash: hash,
        roles: Vec::new(),
        claims: serde_json::Map::new(),
    };
    Ok(match app.store.bootstrap(admin).await? {
        Bootstrap::Won => Some(first),
        Bootstrap::AlreadyDone => None,
    })
}

/// Whether the configured first password meets the rules for passwords.
pub fn judge_configured_password(loaded: &Loaded, breached: &BreachedPasswords) -> Result<(), WeakPassword> {
    let Some(configured) = &loaded.config.bootstrap_admin_password else { return Ok(()) };
    let policy = PasswordPolicy { min_length: loaded.settings.password_min_length, breached };
    policy.check(&Password::new(configured.expose_secret().to_owned()), ADMIN_USERNAME)
}

/// Refuses a configured first password that does not meet the rules, unless it is no longer used. Creates nothing.
pub(super) async fn check_configured_password(
    loaded: &Loaded,
    breached: &BreachedPasswords,
    clock: &Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> Result<(), StartError> {
    match judge_configured_password(loaded, breached) {
        Err(weakness) if !database::is_bootstrapped(&loaded.config, Arc::clone(clock), entropy).await? => {
            Err(StartError::WeakFirstPassword(weakness))
        }
        _ => Ok(()),
    }
}

/// 144 random bits, 24 characters.
fn generated_password(entropy: &dyn Entropy) -> Result<String, EntropyError> {
    let mut bytes = [0; 18];
    entropy.fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
