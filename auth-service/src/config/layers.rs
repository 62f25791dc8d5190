//! Settings that operators stored, overridden by file and environment.
//!
//! Stored values are read and checked like values of the file, and are refused with the same messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Config, ConfigError, Given, Loaded, Settings, Source, problems::Problems, setting::Raw, source};

/// The values of this replica that override stored settings, and the defaults below them.
#[derive(Clone, Debug)]
pub struct Layers {
    config: Arc<Config>,
    /// The settings from file, environment and defaults, without stored values.
    local: Settings,
    given: Given,
}

/// A value as an operator sends it.
#[derive(Clone, Debug)]
pub enum NewValue {
    /// In a JSON document.
    Json(serde_json::Value),
    /// On a command line, written as in an environment variable.
    Text(String),
}

/// Stored settings: names, and values in TOML.
pub type Stored = BTreeMap<String, String>;

impl Layers {
    /// The layers of a replica that was started with `loaded`.
    pub fn new(config: Arc<Config>, loaded: Loaded) -> Self {
        Self { config, local: loaded.settings, given: loaded.given }
    }

    /// The settings that apply on this replica. Ignores settings that this release does not know, because a
    /// newer one stored them.
    pub fn over(&self, stored: &Stored) -> Result<Settings, ConfigError> {
        Ok(self.combine(stored, |key| self.given.contains_key(key))?)
    }

    /// Refuses a change of the settings in `names` after which `stored` would not be valid: on this replica, or on a
    /// replica whose file and environment do not set what is changed.
    pub fn check(&self, stored: &Stored, names: &BTreeSet<String>) -> Result<(), ConfigError> {
        let here = self.combine(stored, |key| self.given.contains_key(key));
        let elsewhere = self.combine(stored, |key| self.given.contains_key(key) && !names.contains(key));
        match (here.err(), elsewhere.err()) {
            (None, None) => Ok(()),
            (here, elsewhere) => {
                let mut problems = here.unwrap_or_default();
                problems.append(elsewhere.unwrap_or_default());
                Err(problems.into())
            }
        }
    }

    /// The settings from file, environment and defaults, without stored values.
    pub fn local(&self) -> &Settings {
        &self.local
    }

    /// The source of the value of `key` if these settings are stored.
    pub fn source(&self, key: &str, stored: &Stored) -> Source {
        let fallback = if stored.contains_key(key) { Source::Database } else { Source::Default };
        self.given.get(key).copied().unwrap_or(fallback)
    }

    /// The default of every key. Some depend on other values, which are taken from `settings`.
    pub fn defaults(&self, settings: &Settings) -> Vec<(&'static str, Option<String>)> {
        let mut config = Config::default();
        config.derive_defaults(&Given::new());
        let settings = Settings { refresh_grace: settings.max_refresh_grace(), ..Settings::default() };
        [config.shown(), settings.shown()].concat()
    }

    /// Every value on this replica, with secrets hidden.
    pub fn shown(&self, settings: &Settings) -> Vec<(&'static str, Option<String>)> {
        [self.config.shown(), settings.shown()].concat()
    }

    /// The settings of a replica whose file and environment set exactly the keys that `is_overridden`.
    fn combine(&self, stored: &Stored, is_overridden: impl Fn(&str) -> bool) -> Result<Settings, Problems> {
        let mut settings = self.local.clone();
        let mut problems = Problems::default();
        // This replica sets these keys, that one does not.
        for (key, default) in Settings::default().shown() {
            if let Some(default) = default.filter(|_| self.given.contains_key(key) && !is_overridden(key))
                && let Err(problem) =
                    read_toml(&default).and_then(|value| settings.set(key, Raw::Toml(&value)))
            {
                problems.add(key, &problem);
            }
        }
        let applied: BTreeMap<_, _> = stored
            .iter()
            .filter_map(|(name, value)| Some((find(name)?, value)))
            .filter(|(key, _)| !is_overridden(key))
            .collect();
        for (key, value) in &applied {
            if let Err(problem) = read_toml(value).and_then(|value| settings.set(key, Raw::Toml(&value))) {
                problems.add(key, &problem);
            }
        }
        if problems.is_empty() {
            settings.derive_defaults(|key| applied.contains_key(key) || is_overridden(key));
            problems = self.config.problems_with(&settings);
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }
}

/// The key and the value to store for a setting; the value has the one form that all replicas read.
pub fn to_be_stored(name: &str, value: Option<&NewValue>) -> Result<(String, Option<String>), String> {
    // The name may be anything, so the message does not repeat it.
    let key = known(name)
        .map_err(|nearest| format!("a name is not a setting; the most similar one is {nearest}"))?;
    if !is_live(key) {
        return Err(format!(
            "{key}: cannot be changed while the service runs; set it in the file or the environment"
        ));
    }
    let Some(value) = value else { return Ok((key.to_owned(), None)) };
    let mut settings = Settings::default();
    let outcome = match value {
        NewValue::Text(text) => settings.set(key, Raw::Text(text)),
        NewValue::Json(json) => match toml::Value::try_from(json) {
            Ok(value) => settings.set(key, Raw::Toml(&value)),
            Err(_) => Err("must not contain null, or numbers that are too large".to_owned()),
        },
    };
    outcome.map_err(|problem| format!("{key}: {problem}"))?;
    let written = settings.shown().into_iter().find(|(name, _)| *name == key);
    Ok((key.to_owned(), written.and_then(|(_, value)| value)))
}

/// The key with this name. The error is the key with the most similar name.
pub fn known(name: &str) -> Result<&'static str, &'static str> {
    source::known(name).ok_or_else(|| source::nearest_key(name))
}

/// Parses a value as it is written in TOML.
pub fn read_toml(value: &str) -> Result<toml::Value, String> {
    let table = format!("value = {value}").parse::<toml::Table>();
    let value = table.ok().and_then(|mut table| table.remove("value"));
    value.ok_or_else(|| "is stored in a form that this release cannot read; set it again".to_owned())
}

/// Whether a setting can be changed while the service runs.
pub fn is_live(name: &str) -> bool {
    find(name).is_some()
}

fn find(name: &str) -> Option<&'static str> {
    Settings::KEYS.iter().copied().find(|key| *key == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(values: &[(&str, &str)]) -> Stored {
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The layers of a replica with this environment.
    fn layers(environment: &[(&str, &str)]) -> Layers {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        let loaded = source::load(None, environment).unwrap();
        Layers::new(Arc::new(loaded.config.clone()), loaded)
    }

    #[test]
    fn stored_values_override_defaults_but_not_the_environment() {
        let layers = layers(&[("AUTH_PASSWORD_MIN_LENGTH", "20"), ("AUTH_LEEWAY", "10s")]);
        let stored = stored(&[("password_min_length", "15"), ("access_token_ttl", "\"2m\"")]);
        let settings = layers.over(&stored).unwrap();
        assert_eq!((settings.password_min_length, settings.access_token_ttl.0), (20, 120));
        let source = |key| layers.source(key, &stored);
        assert_eq!(
            [
                source("password_min_length"),
                source("access_token_ttl"),
                source("leeway"),
                source("audiences")
            ],
            [Source::Environment, Source::Database, Source::Environment, Source::Default]
        );
    }

    #[test]
    fn dependent_defaults_follow_stored_values() {
        let grace = |layers: &Layers, values| layers.over(&stored(values)).unwrap().refresh_grace.0;
        assert_eq!(grace(&layers(&[]), &[("access_token_ttl", "\"6s\"")]), 3);
        assert_eq!(grace(&layers(&[("AUTH_ACCESS_TOKEN_TTL", "6s")]), &[("access_token_ttl", "\"1h\"")]), 3);
        assert_eq!(grace(&layers(&[("AUTH_ACCESS_TOKEN_TTL", "6s")]), &[("refresh_grace", "\"1s\"")]), 1);
    }

    #[test]
    fn overridden_value_must_be_valid_on_replicas_that_do_not_override_it() {
        let layers = layers(&[("AUTH_ACCESS_TOKEN_TTL", "5m")]);
        let values = stored(&[("access_token_ttl", "\"2h\"")]);
        assert!(layers.over(&values).is_ok(), "it is overridden here");
        let refused = layers.check(&values, &["access_token_ttl".to_owned()].into()).unwrap_err();
        assert_eq!(refused.problems, ["access_token_ttl: must be from 1s to 1h"]);
        assert!(layers.check(&values, &["audiences".to_owned()].into()).is_ok(), "it was stored before");
    }

    #[test]
    fn removed_value_becomes_the_default_on_replicas_that_do_not_override_it() {
        let layers = layers(&[("AUTH_ACCESS_TOKEN_TTL", "6s"), ("AUTH_SIGNING_ALGORITHMS", "ES256,RS256")]);
        let elsewhere = |names: &[&str]| {
            let is_overridden = |key: &str| layers.given.contains_key(key) && !names.contains(&key);
            let settings = layers.combine(&stored(&[]), is_overridden).unwrap();
            (settings.access_token_ttl.0, settings.refresh_grace.0)
        };
        assert_eq!((elsewhere(&["access_token_ttl"]), elsewhere(&["audiences"])), ((300, 10), (6, 3)));
        let left = stored(&[("signing_algorithm", "\"RS256\"")]);
        assert!(layers.over(&left).is_ok(), "it is overridden here");
        let refused = layers.check(&left, &["signing_algorithms".to_owned()].into()).unwrap_err();
        assert!(refused.problems[0].starts_with("signing_algorithms: must contain"), "{refused}");
    }

    #[test]
    fn every_shown_default_can_be_read_back() {
        let defaults = Settings::default().shown();
        assert_eq!(defaults.len(), Settings::KEYS.len());
        for (key, value) in defaults {
            let value = read_toml(&value.expect(key)).expect(key);
            Settings::default().set(key, Raw::Toml(&value)).expect(key);
        }
    }

    #[test]
    fn unknown_stored_settings_are_ignored() {
        let values = stored(&[("access_token_ttl", "\"2m\""), ("of_a_newer_release", "[[]]")]);
        assert_eq!(layers(&[]).over(&values).unwrap().access_token_ttl.0, 120);
    }

    #[test]
    fn fixed_values_are_checked_only_at_the_start() {
        let loaded = source::load(None, std::iter::empty()).unwrap();
        // As if the memory had shrunk since the start.
        let config = Config { hash_permits: 513, ..loaded.config.clone() };
        assert!(config.check(&loaded.settings).is_err());
        let layers = Layers::new(Arc::new(config), loaded);
        assert!(layers.over(&stored(&[("password_min_length", "20")])).is_ok());
        let refused = layers.over(&stored(&[("jwks_max_age", "\"1h\"")])).unwrap_err();
        assert!(
            refused.problems[0].starts_with("key_publish_ahead: "),
            "it is combined with the fixed values"
        );
    }

    #[test]
    fn values_from_json_and_text_are_stored_in_one_form() {
        let json = |text: &str| NewValue::Json(serde_json::from_str(text).unwrap());
        let text = |text: &str| NewValue::Text(text.to_owned());
        for (name, value, form) in [
            ("access_token_ttl", json("\"120s\""), "\"2m\""),
            ("access_token_ttl", text("120s"), "\"2m\""),
            ("audiences", json("[\"a\", \"b\"]"), "[\"a\", \"b\"]"),
            ("audiences", text("a, b"), "[\"a\", \"b\"]"),
            ("max_sessions_per_user", json("7"), "7"),
            ("refresh_recovery", text("false"), "false"),
            ("audience_algorithms", json(r#"{"a": "RS256"}"#), "{ \"a\" = \"RS256\" }"),
            ("extra_claims", json("[]"), "[]"),
        ] {
            let (key, stored) = to_be_stored(name, Some(&value)).unwrap();
            assert_eq!((key.as_str(), stored.as_deref()), (name, Some(form)));
            assert_eq!(Settings::default().set(name, Raw::Toml(&read_toml(form).unwrap())), Ok(()));
        }
        assert_eq!(to_be_stored("audiences", None), Ok(("audiences".to_owned(), None)));
    }

    #[test]
    fn refusal_reads_as_for_the_file_and_repeats_no_unknown_name() {
        let refusal = |name, value: &str| {
            to_be_stored(name, Some(&NewValue::Json(serde_json::from_str(value).unwrap()))).unwrap_err()
        };
        assert_eq!(
            refusal("access_token_ttl", "300"),
            "access_token_ttl: must be a string in quotes, not a bare number"
        );
        assert_eq!(
            refusal("max_sessions_per_user", "-1"),
            "max_sessions_per_user: must be a whole number from 0 to 4294967295"
        );
        assert!(refusal("audiences", "[null]").starts_with("audiences: must not contain null"));
        assert!(
            refusal("refresh_grace", "18446744073709551615")
                .starts_with("refresh_grace: must not contain null")
        );
        assert!(refusal("issuer", "\"https://a\"").starts_with("issuer: cannot be changed while"));
        assert_eq!(
            refusal("canary_token_ttl", "1"),
            "a name is not a setting; the most similar one is access_token_ttl"
        );
    }
}
