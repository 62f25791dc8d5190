//! `auth-service setting …`

use auth_service::boot::database::Access;
use auth_service::config::NewValue;
use auth_service::flows::settings::{self, AllSettings};
use auth_service::view::SettingView;
use clap::Subcommand;
use serde_json::Value;

use super::Failure;
use super::author::Author;
use super::completions;
use super::installation::Context;
use super::output::warn;

#[derive(Debug, Subcommand)]
pub(crate) enum SettingCommand {
    /// List the settings that can change while the service runs.
    #[command(after_help = "Example:\n  auth-service setting list")]
    List,
    /// Store a value. Every replica uses it within two seconds, unless its file or environment overrides it.
    #[command(after_help = "Example:\n  auth-service setting set access_token_ttl 10m")]
    Set {
        /// The setting's name.
        #[arg(add = completions::settings())]
        name: String,
        /// The value, written as in an environment variable: list items are separated by commas.
        value: String,
        #[command(flatten)]
        author: Author,
    },
    /// Remove the stored value, so that the default applies.
    #[command(after_help = "Example:\n  auth-service setting unset access_token_ttl")]
    Unset {
        /// The setting's name.
        #[arg(add = completions::settings())]
        name: String,
        #[command(flatten)]
        author: Author,
    },
}

pub(crate) async fn run(context: &Context, command: SettingCommand) -> Result<(), Failure> {
    let is_reading = matches!(command, SettingCommand::List);
    let installation = context.open(if is_reading { Access::Read } else { Access::Change }).await?;
    let (live, store, output) = (installation.settings().await?, &installation.store, context.output);
    let (name, value, author) = match command {
        SettingCommand::List => {
            let all = settings::list(&live, store).await?;
            warn_of_problems(&all);
            let shown: Vec<SettingView> =
                all.settings.into_iter().filter(|setting| setting.is_live).map(SettingView::from).collect();
            return output.list(&shown, ["setting", "value", "source", "stored", "default"], |setting| {
                [
                    setting.name.to_owned(),
                    text(&setting.value),
                    setting.source.to_owned(),
                    text(&setting.database),
                    text(&setting.default),
                ]
            });
        }
        SettingCommand::Set { name, value, author } => (name, Some(NewValue::Text(value)), author),
        SettingCommand::Unset { name, author } => (name, None, author),
    };
    let patch = vec![(name.clone(), value)];
    let all = settings::change(&live, store, &author.actor(), patch, None).await?;
    for setting in all.settings.into_iter().filter(|setting| setting.name == name) {
        let setting = SettingView::from(setting);
        if setting.overridden {
            warn(&format!("{name}: the {} overrides the stored value", setting.source));
        }
        output.result(&setting, &format!("{name} is {} ({})", text(&setting.value), setting.source))?;
    }
    Ok(())
}

fn warn_of_problems(all: &AllSettings) {
    for problem in &all.problems {
        warn(&format!("the stored settings are not in use: {problem}"));
    }
}

/// A value as it is written in the configuration, without quotes around a text.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
