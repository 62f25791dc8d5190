//! `auth-service settings …`

use auth_service::config::NewValue;
use auth_service::domain::authority::Actor;
use auth_service::flows::settings::{self, SettingView, SettingsView};
use auth_service::runtime::app::App;
use clap::Subcommand;

use super::{Failure, print};

#[derive(Debug, Subcommand)]
pub(crate) enum SettingsCommand {
    /// List the settings that can change while the service runs: name, value, source, stored value.
    List,
    /// Store a value. Every replica uses it within two seconds, unless its file or environment overrides it.
    Set {
        /// The setting's name.
        key: String,
        /// The value, written as in an environment variable: list items are separated by commas.
        value: String,
    },
    /// Remove the stored value, so that the default applies.
    Unset {
        /// The setting's name.
        key: String,
    },
}

pub(crate) async fn run(app: &App, command: SettingsCommand) -> Result<(), Failure> {
    let (key, value) = match command {
        SettingsCommand::List => return list(&settings::list(&app.settings, &app.store).await?),
        SettingsCommand::Set { key, value } => (key, Some(NewValue::Text(value))),
        SettingsCommand::Unset { key } => (key, None),
    };
    let actor = Actor::command_line("unknown", None);
    let view = settings::change(&app.settings, &app.store, &actor, vec![(key.clone(), value)], None).await?;
    let changed = view.settings.iter().filter(|setting| setting.name == key);
    for setting in changed {
        print(&line(setting))?;
        if setting.is_overridden() {
            eprintln!("warning: {key}: the {} overrides the stored value", setting.source.as_str());
        }
    }
    Ok(())
}

fn list(view: &SettingsView) -> Result<(), Failure> {
    for problem in &view.problems {
        eprintln!("warning: the stored settings are not in use: {problem}");
    }
    view.settings.iter().filter(|setting| setting.is_live).try_for_each(|setting| print(&line(setting)))
}

fn line(setting: &SettingView) -> String {
    let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
    let stored = setting.stored.as_ref().map(|row| row.value.as_str());
    [
        setting.name.to_owned(),
        text(setting.value.as_deref()),
        setting.source.as_str().to_owned(),
        text(stored),
    ]
    .join("\t")
}
