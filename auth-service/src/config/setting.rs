//! Reading and writing of each type that a configuration value may have.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use secrecy::SecretString;
use verifier::{Algorithm, Seconds};

use super::{LogFormat, duration};

/// Printed by `config check` instead of a secret; refused as a value of a secret.
pub(super) const HIDDEN: &str = "***";

/// A value that has not been read as its type yet.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    /// From the file.
    Toml(&'a toml::Value),
    /// From the environment, or from the file that a `*_FILE` variable names.
    Text(&'a str),
}

impl<'a> Raw<'a> {
    fn text(self) -> Result<&'a str, String> {
        let text = match self {
            Self::Text(text) => text,
            Self::Toml(toml::Value::String(text)) => text.as_str(),
            Self::Toml(other) => return Err(format!("must be a string in quotes, not {}", describe(other))),
        };
        if text.is_empty() {
            Err("must not be empty; remove it to use the default".to_owned())
        } else if text.contains('\0') {
            Err("must not contain a NUL character".to_owned())
        } else {
            Ok(text)
        }
    }

    /// The items of a list: a TOML array of strings, or text separated by commas.
    fn items(self) -> Result<Vec<&'a str>, String> {
        match self {
            Self::Text(text) if text.trim().is_empty() => Ok(Vec::new()),
            Self::Text(text) => Ok(text.split(',').map(str::trim).collect()),
            Self::Toml(toml::Value::Array(items)) => {
                items.iter().map(|item| Raw::Toml(item).text()).collect()
            }
            Self::Toml(other) => {
                Err(format!("must be a list such as [\"a\", \"b\"], not {}", describe(other)))
            }
        }
    }

    fn whole_number<T: TryFrom<i64> + FromStr>(self, what: &str) -> Result<T, String> {
        let number = match self {
            Self::Toml(toml::Value::Integer(number)) => T::try_from(*number).ok(),
            Self::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| format!("must be a whole number {what}"))
    }
}

fn describe(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a string",
        toml::Value::Integer(_) => "a bare number",
        toml::Value::Float(_) => "a fraction",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Datetime(_) => "a date",
        toml::Value::Array(_) => "a list",
        toml::Value::Table(_) => "a table",
    }
}

/// A type that a configuration value may have.
pub(super) trait Setting: Sized {
    /// Reads a value. The error is a phrase that follows the key, such as "must be …", and never repeats the
    /// value.
    fn read(raw: Raw<'_>) -> Result<Self, String>;

    /// The value in TOML, or `None` if it is not set.
    fn write(&self) -> Option<String>;
}

/// A TOML basic string; JSON's escapes are a subset of TOML's.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

fn write_list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(|item| quote(&text(item))).collect::<Vec<_>>().join(", "))
}

impl Setting for String {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        raw.text().map(str::to_owned)
    }

    fn write(&self) -> Option<String> {
        Some(quote(self))
    }
}

impl Setting for PathBuf {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        raw.text().map(Self::from)
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.display().to_string()))
    }
}

impl Setting for SecretString {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw.text()? {
            HIDDEN => Err(format!("must be the secret itself, not the {HIDDEN} that `config check` prints")),
            text => Ok(text.into()),
        }
    }

    fn write(&self) -> Option<String> {
        Some(quote(HIDDEN))
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        T::read(raw).map(Some)
    }

    fn write(&self) -> Option<String> {
        self.as_ref().and_then(T::write)
    }
}

impl Setting for bool {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw {
            Raw::Toml(toml::Value::Boolean(value)) => Ok(*value),
            Raw::Text("true") => Ok(true),
            Raw::Text("false") => Ok(false),
            _ => Err("must be true or false".to_owned()),
        }
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for u32 {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        raw.whole_number("from 0 to 4294967295")
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for usize {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        raw.whole_number("not below 0")
    }

    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for SocketAddr {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        raw.text()?
            .parse()
            .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned())
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.to_string()))
    }
}

impl Setting for Duration {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        duration::parse(raw.text()?)
    }

    fn write(&self) -> Option<String> {
        Some(quote(&duration::format(*self)))
    }
}

impl Setting for Seconds {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let duration = Duration::read(raw)?;
        match i64::try_from(duration.as_secs()) {
            Ok(seconds) if duration.subsec_millis() == 0 => Ok(Seconds(seconds)),
            _ => Err("must be whole seconds, because it enters a token or a key schedule".to_owned()),
        }
    }

    fn write(&self) -> Option<String> {
        Duration::from_secs(self.0.unsigned_abs()).write()
    }
}

impl Setting for LogFormat {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        match raw.text()? {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text, json or auto".to_owned()),
        }
    }

    fn write(&self) -> Option<String> {
        Some(quote(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }))
    }
}

impl Setting for Algorithm {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        algorithm(raw.text()?)
    }

    fn write(&self) -> Option<String> {
        Some(quote(self.as_str()))
    }
}

impl Setting for Vec<Algorithm> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        raw.items()?.into_iter().map(algorithm).collect()
    }

    fn write(&self) -> Option<String> {
        Some(write_list(self, ToString::to_string))
    }
}

impl Setting for BTreeMap<String, Algorithm> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        let pairs: Vec<(&str, &str)> = match raw {
            Raw::Toml(toml::Value::Table(table)) => table
                .iter()
                .map(|(audience, value)| Ok((audience.as_str(), Raw::Toml(value).text()?)))
                .collect::<Result<_, String>>()?,
            Raw::Toml(_) => return Err("must be a table such as { api = \"RS256\" }".to_owned()),
            Raw::Text(_) => raw
                .items()?
                .into_iter()
                .map(|item| {
                    item.rsplit_once('=').ok_or("must be audience=algorithm pairs, separated by commas")
                })
                .collect::<Result<_, _>>()?,
        };
        let mut map = Self::new();
        for (audience, name) in pairs {
            if map.insert(audience.trim().to_owned(), algorithm(name.trim())?).is_some() {
                return Err("must name each audience once".to_owned());
            }
        }
        Ok(map)
    }

    fn write(&self) -> Option<String> {
        let pairs: Vec<_> = self
            .iter()
            .map(|(audience, alg)| format!("{} = {}", quote(audience), quote(alg.as_str())))
            .collect();
        Some(if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) })
    }
}

impl Setting for Vec<String> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        Ok(raw.items()?.into_iter().map(str::to_owned).collect())
    }

    fn write(&self) -> Option<String> {
        Some(write_list(self, String::clone))
    }
}

impl Setting for Vec<IpNet> {
    fn read(raw: Raw<'_>) -> Result<Self, String> {
        raw.items()?
            .into_iter()
            .map(|item| item.parse().or_else(|_| item.parse::<IpAddr>().map(IpNet::from)))
            .collect::<Result<_, _>>()
            .map_err(|_| "must be IP networks, such as 10.0.0.0/8 or fd00::/8".to_owned())
    }

    fn write(&self) -> Option<String> {
        Some(write_list(self, ToString::to_string))
    }
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    name.parse().map_err(|_| "must be ES256, EdDSA or RS256, in exactly this spelling".to_owned())
}

/// Reads a secret from the file that a `*_FILE` variable names, without one line break at the end.
pub(super) fn read_secret_file(path: &Path) -> Result<String, String> {
    let mut text = std::fs::read_to_string(path)
        .map_err(|error| format!("names the file {}, which cannot be read: {error}", path.display()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
