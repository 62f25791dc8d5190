//! What commands print. Results go to standard output: tables and sentences for people, or one JSON object per line
//! with `--json`. Everything else goes to standard error.
//!
//! A closed pipe is not an error, and a lost remark costs only the remark.

mod progress;
mod table;
mod time;

use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use verifier::UnixTime;

use super::Failure;
pub(super) use progress::Progress;
pub(super) use time::{age, moment, parse as parse_time, relative};

/// How commands print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// One JSON object per line instead of text.
    pub(super) json: bool,
    /// No remarks and no progress.
    pub(super) quiet: bool,
}

impl Output {
    /// Prints a line of text to standard output; nothing with `--json`.
    pub(super) fn line(self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { print(text) }
    }

    /// Prints an object, or the sentence about it.
    pub(super) fn result(self, object: &impl Serialize, sentence: &str) -> Result<(), Failure> {
        if self.json { print(&serde_json::to_string(object)?) } else { print(sentence) }
    }

    /// Prints objects, or a table of them.
    pub(super) fn list<T: Serialize, const N: usize>(
        self,
        objects: &[T],
        headers: [&str; N],
        cells: impl Fn(&T) -> [String; N],
    ) -> Result<(), Failure> {
        if self.json {
            return objects.iter().try_for_each(|object| print(&serde_json::to_string(object)?));
        }
        print(&table::table(headers, objects.iter().map(cells), table_width()))
    }

    /// Prints an object, or a list of its named values.
    pub(super) fn object(self, object: &impl Serialize, values: &[(&str, String)]) -> Result<(), Failure> {
        self.result(object, &table::values(values))
    }

    /// Prints a remark to standard error, unless `--quiet`.
    pub(super) fn remark(self, text: &str) {
        if !self.quiet {
            report(text);
        }
    }
}

/// Prints a warning to standard error.
pub(super) fn warn(text: &str) {
    report(&format!("{} {text}", styled(AnsiColor::Yellow, "warning:")));
}

/// Prints an error to standard error.
pub(crate) fn error(text: &str) {
    report(&format!("{} {text}", styled(AnsiColor::Red, "error:")));
}

fn report(text: &str) {
    // The error of a closed terminal cannot be reported anywhere.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints to standard output. Colour is removed unless it is a terminal, and if `NO_COLOR` is set.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match writeln!(anstream::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Text in bold and a colour.
pub(super) fn styled(colour: AnsiColor, text: &str) -> String {
    let style = Style::new().bold().fg_color(Some(colour.into()));
    format!("{style}{text}{style:#}")
}

/// The width of the terminal; unlimited if standard output is not one.
fn table_width() -> Option<u16> {
    io::stdout().is_terminal().then(terminal_size::terminal_size).flatten().map(|(width, _)| width.0)
}

/// A time for people, seen from `now`: `2026-12-01 05:14:03Z (in 14 min)`; a dash if there is none.
pub(super) fn when(at: Option<UnixTime>, now: UnixTime) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format!("{} ({})", moment(at), relative(at, now)))
}
