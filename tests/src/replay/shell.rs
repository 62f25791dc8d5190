//! A shell into which lines are pasted.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process;
use crate::wait;

/// A `bash` that reads what is pasted from a pipe, and ends at the first command that fails, also inside a
/// pipeline. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Shell {
    child: Child,
    outputs: PathBuf,
    /// Number of lines that it was sent.
    sent: usize,
    blocks: usize,
}

/// The result of [`Shell::paste`].
#[derive(Debug)]
pub(super) struct Pasted {
    /// Standard output and standard error, as on a terminal.
    pub(super) output: String,
    /// Index of the line that failed, or the last one if the commands did not end in time. For a command of
    /// several lines, one of them.
    pub(super) failed: Option<usize>,
}

impl Shell {
    /// Starts a shell in `home` with only this environment. Outputs are kept in the folder `outputs`.
    pub(super) fn start(home: &Path, outputs: &Path, environment: &[(String, String)]) -> Self {
        let child = Command::new("bash")
            .env_clear()
            .envs(environment.iter().cloned())
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut shell = Self { child, outputs: outputs.to_owned(), sent: 0, blocks: 0 };
        let failed = shell.outputs.join("failed");
        shell.send("set -E -o pipefail");
        // Renamed when complete, so that it is never read half-written.
        shell.send(&format!("trap 'echo $LINENO > {0}.new; mv {0}.new {0}; exit 1' ERR", failed.display()));
        shell
    }

    /// Pastes `lines`, and waits until all of them were run.
    pub(super) fn paste(&mut self, lines: &[String], within: Duration) -> Pasted {
        let output = self.outputs.join(self.blocks.to_string());
        let (done, failed) = (output.with_extension("done"), self.outputs.join("failed"));
        self.blocks += 1;
        self.send(&format!("exec > {} 2>&1", output.display()));
        let before = self.sent;
        for line in lines {
            self.send(line);
        }
        self.send(&format!(": > {}", done.display()));
        let has_succeeded = wait::find_blocking(within, || {
            if done.exists() {
                return Some(true);
            }
            self.child.try_wait().expect("our own child").map(|_| false)
        });
        let line = || fs::read_to_string(&failed).ok()?.trim().parse::<usize>().ok();
        let failed = (has_succeeded != Some(true))
            .then(|| line().map_or(lines.len() - 1, |line| line.saturating_sub(before + 1)));
        Pasted {
            output: String::from_utf8_lossy(&fs::read(&output).unwrap_or_default()).into_owned(),
            failed,
        }
    }

    /// An error means that the shell has ended, which [`Shell::paste`] reports.
    fn send(&mut self, line: &str) {
        let pipe = self.child.stdin.as_mut().expect("a pipe");
        let _ = pipe.write_all(format!("{line}\n").as_bytes());
        self.sent += 1;
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}
