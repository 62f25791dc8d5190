//! Runs the command of `--exec`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::cli::Failure;

/// Runs `command` in a shell. Kills it after `limit`, with all processes that it started.
pub(super) async fn run(command: &str, limit: Duration) -> Result<(), Failure> {
    let mut shell = Command::new("sh");
    // Its own process group, so that what the shell started can be killed with it.
    let mut child = shell.arg("-c").arg(command).process_group(0).spawn()?;
    let group = Pid::from_child(&child);
    let mut waiting = tokio::task::spawn_blocking(move || child.wait());
    let Ok(waited) = tokio::time::timeout(limit, &mut waiting).await else {
        // An error means that it has just ended.
        let _ = kill_process_group(group, Signal::KILL);
        waiting.await??;
        return Err(
            format!("the command of --exec did not end within {} s and was killed", limit.as_secs()).into()
        );
    };
    let status = waited??;
    if status.success() { Ok(()) } else { Err(format!("the command of --exec failed: {status}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hanging_command_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("late");
        let command = format!("(sleep 2; : > '{}') & wait", late.display());
        let failure = run(&command, Duration::from_millis(200)).await.unwrap_err().to_string();
        assert!(failure.ends_with("and was killed"), "{failure}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!late.exists());
        assert!(run("true", Duration::from_secs(30)).await.is_ok());
        assert!(run("exit 3", Duration::from_secs(30)).await.is_err());
    }
}
