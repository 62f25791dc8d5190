//! Prints the effective values as TOML that can be read back, except for secrets.

use std::fmt::Write as _;

use secrecy::ExposeSecret;

use super::{
    Config, Loaded, Settings,
    setting::{HIDDEN, quote},
};

impl Loaded {
    /// One line per key, with the source of its value. Secrets are printed as `***`, which is refused when
    /// read back.
    pub fn to_toml(&self) -> String {
        let (fixed, live) = (self.config.shown(), self.settings.shown());
        let mut out = String::from("# Fixed while the service runs.\n");
        self.write_lines(&mut out, fixed);
        out.push_str("\n# Can be changed while the service runs, unless file or environment set them: see `setting list`.\n");
        self.write_lines(&mut out, live);
        out
    }

    fn write_lines(&self, out: &mut String, lines: Vec<(&'static str, Option<String>)>) {
        for (key, value) in lines {
            let line = match (key, value) {
                ("master_key_file", None) => match self.config.master_key_path() {
                    Some(path) => format!("# {key}: not set, so {} is used", path.display()),
                    None => format!("# {key}: not set"),
                },
                (_, Some(value)) => match self.given.get(key) {
                    Some(source) => format!("{key} = {value} # {}", source.as_str()),
                    None => format!("{key} = {value}"),
                },
                (_, None) => format!("# {key}: not set"),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{line}");
        }
    }
}

impl Settings {
    /// Every key with its value in TOML.
    pub fn shown(&self) -> Vec<(&'static str, Option<String>)> {
        self.written()
    }
}

impl Config {
    /// Every key with its value in TOML, with secrets hidden; `None` if it is not set.
    pub fn shown(&self) -> Vec<(&'static str, Option<String>)> {
        let mut written = self.written();
        if let Some((_, url)) = written.iter_mut().find(|(key, _)| *key == "database_url") {
            *url = Some(quote(&self.database_url_without_password()));
        }
        written
    }

    /// The URL of the database, without passwords.
    pub fn database_url_without_password(&self) -> String {
        hide_passwords(self.database_url.expose_secret())
    }
}

/// Replaces the password of the authority, and parameters whose names suggest a password.
fn hide_passwords(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some(("sqlite", _)) => return url.to_owned(),
        Some(parts) => parts,
        None if url.starts_with("sqlite:") => return url.to_owned(),
        None => return HIDDEN.to_owned(),
    };
    // A password may contain @ and ? unescaped: the last @ ends it, and with a ? before the last @,
    // everything is hidden.
    let (user_info, rest) = match rest.rsplit_once('@') {
        Some((user_info, _)) if user_info.contains('?') => return format!("{scheme}://{HIDDEN}"),
        Some((user_info, rest)) => match user_info.split_once(':') {
            Some((user, _)) => (format!("{user}:{HIDDEN}@"), rest),
            None => (format!("{user_info}@"), rest),
        },
        None => (String::new(), rest),
    };
    match rest.split_once('?') {
        Some((location, query)) => {
            let query: Vec<_> = query.split('&').map(hide_parameter).collect();
            format!("{scheme}://{user_info}{location}?{}", query.join("&"))
        }
        None => format!("{scheme}://{user_info}{rest}"),
    }
}

fn hide_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if name.contains("pass") => format!("{name}={HIDDEN}"),
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_url_contains_no_part_of_a_password() {
        for (url, shown) in [
            ("postgres://auth:s3cret@db/auth", "postgres://auth:***@db/auth"),
            ("postgres://auth:s3@cr:et@db/auth", "postgres://auth:***@db/auth"),
            ("postgres://auth@db/auth", "postgres://auth@db/auth"),
            ("postgres://db/auth?user=a&password=s3cret", "postgres://db/auth?user=a&password=***"),
            ("postgres://auth:s3?cret@db/auth", "postgres://***"),
            ("postgres://db/auth?password=s3@cret", "postgres://***"),
            ("s3cret", "***"),
            ("sqlite://data/a:b@c.db", "sqlite://data/a:b@c.db"),
        ] {
            assert_eq!(hide_passwords(url), shown);
        }
    }
}
