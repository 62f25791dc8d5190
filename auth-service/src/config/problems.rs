//! The one list of problems that reading, checking and combining values all fill.

use super::ConfigError;

/// Problems, each with the name of what it is about. Equal problems are listed once.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    /// Adds a problem of `name`: a key, a variable or an argument. `problem` is a phrase such as "must be …".
    pub(super) fn add(&mut self, name: &str, problem: &str) {
        self.push(format!("{name}: {problem}"));
    }

    /// Adds a problem of `name` unless the condition holds.
    pub(super) fn add_unless(&mut self, holds: bool, name: &str, problem: &str) {
        if !holds {
            self.add(name, problem);
        }
    }

    /// Adds the problems of another list.
    pub(super) fn append(&mut self, others: Self) {
        others.0.into_iter().for_each(|problem| self.push(problem));
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns `value` if there are no problems.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, ConfigError> {
        if self.is_empty() { Ok(value) } else { Err(self.into()) }
    }

    fn push(&mut self, problem: String) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }
}

impl From<Problems> for ConfigError {
    fn from(problems: Problems) -> Self {
        Self { problems: problems.0 }
    }
}
