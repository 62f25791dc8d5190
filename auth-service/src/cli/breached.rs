//! `auth-service config breached-passwords`: creates the file that `breached_passwords_file` names.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use auth_service::domain::breached::{self, BreachedPasswords};
use clap::Args;
use serde_json::json;

use super::Failure;
use super::installation::Context;

#[derive(Debug, Args)]
pub(super) struct BreachedArguments {
    /// Lists of passwords.
    #[arg(required = true, value_name = "LIST")]
    lists: Vec<PathBuf>,
    /// Where the lists come from; kept in the file.
    #[arg(long, value_name = "TEXT")]
    source: String,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn run(context: &Context, arguments: &BreachedArguments) -> Result<(), Failure> {
    let mut keys = Vec::new();
    for list in &arguments.lists {
        read_keys(list, &mut keys).map_err(|error| format!("{}: {error}", list.display()))?;
    }
    let bytes = breached::build(keys, &arguments.source)?;
    let output = arguments.output.display();
    fs::write(&arguments.output, &bytes).map_err(|error| format!("{output}: {error}"))?;
    let filter = BreachedPasswords::from_file(bytes)?;
    let rate = filter.false_positive_rate();
    let sentence = format!(
        "wrote {} passwords to {output}; {:.3} % of other passwords are refused by mistake",
        filter.len(),
        100.0 * rate
    );
    context.output.result(&json!({ "passwords": filter.len(), "false_positive_rate": rate }), &sentence)
}

fn read_keys(list: &Path, keys: &mut Vec<u64>) -> std::io::Result<()> {
    for line in BufReader::new(File::open(list)?).split(b'\n') {
        keys.extend(breached::key_of_line(&line?));
    }
    Ok(())
}
