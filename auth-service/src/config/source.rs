//! Reads values from the file and the environment, and reports unknown names.

use std::{collections::BTreeSet, ffi::OsString, fs, path::Path, thread};

use super::{
    Config, ConfigError, Given, Loaded, SECRETS, Settings, Source,
    problems::Problems,
    setting::{Raw, read_secret_file},
};

const PREFIX: &str = "AUTH_";

/// Reads `file` and `environment`, which overrides the file, and checks the result.
pub(super) fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigError> {
    let mut reader = Reader::default();
    if let Some(path) = file {
        reader.read_file(path);
    }
    reader.read_environment(environment);
    reader.finish()
}

#[derive(Default)]
struct Reader {
    config: Config,
    settings: Settings,
    given: Given,
    problems: Problems,
    warnings: Vec<String>,
}

impl Reader {
    fn read_file(&mut self, path: &Path) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.problems.add("--config", &format!("{} cannot be read: {error}", path.display()));
                return;
            }
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                // The error itself would quote the line, which may contain a password.
                let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
                let problem = format!("{} line {line}: {}", path.display(), error.message());
                self.problems.add("--config", &problem);
                return;
            }
        };
        for (name, value) in &table {
            self.read_file_value(name, value);
        }
    }

    fn read_file_value(&mut self, name: &str, value: &toml::Value) {
        if let Some(key) = known(name) {
            self.set(Source::File, key, name, Raw::Toml(value));
        } else if let Some(key) = secret_file_key(name) {
            match value.as_str() {
                Some(path) => self.set_from_file(Source::File, key, name, Path::new(path)),
                None => self.problems.add(name, "must be the path of a file, in quotes"),
            }
        } else {
            let nearest = nearest_key(name);
            let problem = format!("is not a setting; remove it. The most similar one is {nearest}");
            self.problems.add(name, &problem);
        }
    }

    fn read_environment(&mut self, environment: impl IntoIterator<Item = (OsString, OsString)>) {
        let mut variables: Vec<_> = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        variables.sort();
        let mut from_files = BTreeSet::new();
        for (variable, value) in &variables {
            let name = variable[PREFIX.len()..].to_ascii_lowercase();
            if *variable != format!("{PREFIX}{}", name.to_ascii_uppercase()) {
                self.warn_unknown(variable, &name);
            } else if let Some(key) = known(&name) {
                match value.to_str() {
                    Some(text) => self.set(Source::Environment, key, variable, Raw::Text(text)),
                    None => self.problems.add(variable, "must be UTF-8"),
                }
            } else if let Some(key) = secret_file_key(&name) {
                from_files.insert(key);
                self.set_from_file(Source::Environment, key, variable, Path::new(value));
            } else {
                self.warn_unknown(variable, &name);
            }
        }
        for key in from_files {
            let direct = variable_of(key);
            if variables.iter().any(|(variable, _)| *variable == direct) {
                let problem = format!("is set together with {direct}_FILE; remove one of them");
                self.problems.add(&direct, &problem);
            }
        }
    }

    fn warn_unknown(&mut self, variable: &str, name: &str) {
        let nearest = variable_of(nearest_key(name));
        self.warnings
            .push(format!("{variable}: is not a setting and is ignored. The most similar one is {nearest}"));
    }

    fn set(&mut self, source: Source, key: &'static str, shown: &str, raw: Raw<'_>) {
        self.given.insert(key, source);
        let is_live = Settings::KEYS.contains(&key);
        let set = if is_live { self.settings.set(key, raw) } else { self.config.set(key, raw) };
        if let Err(problem) = set {
            self.problems.add(shown, &problem);
        }
    }

    fn set_from_file(&mut self, source: Source, key: &'static str, shown: &str, path: &Path) {
        match read_secret_file(path) {
            Ok(text) => self.set(source, key, shown, Raw::Text(&text)),
            Err(problem) => self.problems.add(shown, &problem),
        }
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        if self.problems.is_empty() {
            self.config.derive_defaults(&self.given);
            self.settings.derive_defaults(|key| self.given.contains_key(key));
            self.problems = self.config.problems(&self.settings);
        }
        self.warnings.extend(self.config.warnings());
        let Self { config, settings, given, problems, warnings } = self;
        problems.into_result(Loaded { config, settings, given, warnings })
    }
}

/// Every key.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    Config::KEYS.iter().chain(Settings::KEYS).copied()
}

pub(super) fn known(name: &str) -> Option<&'static str> {
    keys().find(|key| *key == name)
}

/// The secret that the key `<secret>_file` reads. Not used for `master_key_file`, which is a key itself.
fn secret_file_key(name: &str) -> Option<&'static str> {
    let stem = name.strip_suffix("_file")?;
    SECRETS.into_iter().find(|key| *key == stem)
}

fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

pub(super) fn nearest_key(name: &str) -> &'static str {
    keys().min_by_key(|key| edit_distance(key, name)).unwrap_or_default()
}

/// The Levenshtein distance: the number of insertions, deletions and replacements that turn one name into the
/// other.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// The number of CPUs that this process may use.
pub(super) fn cpu_count() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// The number of hashes of `memory_kib` that fit into half of the memory that this process may use; at least
/// one.
pub(super) fn hashes_in_half_of_memory(memory_kib: u32) -> usize {
    let budget_kib = memory_limit_kib().unwrap_or(u64::MAX) / 2;
    usize::try_from(budget_kib / u64::from(memory_kib.max(1))).unwrap_or(usize::MAX).max(1)
}

/// The limit of the container or the memory of the machine, whichever is less; `None` if neither can be read.
fn memory_limit_kib() -> Option<u64> {
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .map(|bytes| bytes / 1024);
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok())
    });
    container.into_iter().chain(machine).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_key_has_the_smallest_edit_distance() {
        assert_eq!(nearest_key("acces_token_ttl"), "access_token_ttl");
        assert_eq!(nearest_key("issuer_url"), "issuer");
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
    }

    #[test]
    fn one_hash_is_always_affordable() {
        assert_eq!(hashes_in_half_of_memory(u32::MAX).max(1), hashes_in_half_of_memory(u32::MAX));
        assert!(hashes_in_half_of_memory(1) > 1);
    }
}
