use serde::Serialize;
use serde_json::Value;

use super::Timestamp;
use crate::config::read_toml;
use crate::flows::settings::SettingState;

/// A setting.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the members are those of `Setting` in openapi.yaml")]
pub struct SettingView {
    pub name: &'static str,
    pub value: Value,
    pub default: Value,
    pub source: &'static str,
    pub database: Value,
    pub overridden: bool,
    pub changeable: bool,
    pub changed_at: Option<Timestamp>,
    pub changed_by: Option<String>,
}

impl From<SettingState> for SettingView {
    fn from(setting: SettingState) -> Self {
        let is_overridden = setting.is_overridden();
        let (changed_at, changed_by, database) = match setting.stored {
            Some(row) => (Some(Timestamp(row.changed_at)), Some(row.changed_by), json_of(Some(&row.value))),
            None => (None, None, Value::Null),
        };
        Self {
            name: setting.name,
            value: json_of(setting.value.as_deref()),
            default: json_of(setting.default.as_deref()),
            source: setting.source.as_str(),
            database,
            overridden: is_overridden,
            changeable: setting.is_live,
            changed_at,
            changed_by,
        }
    }
}

/// A TOML value as JSON. A value that this release cannot parse is shown as stored.
pub fn json_of(toml: Option<&str>) -> Value {
    let Some(toml) = toml else { return Value::Null };
    let value = read_toml(toml).ok().and_then(|value| serde_json::to_value(value).ok());
    value.unwrap_or_else(|| Value::from(toml))
}
