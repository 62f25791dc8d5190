//! Replays the commands of a Markdown document, as a reader would paste them.
//!
//! A document is one sitting in one terminal: its `sh` blocks are pasted into one shell, in the order given,
//! in a folder that looks like a checkout without data. The info string of a fenced block decides what happens
//! to it:
//!
//! | info string | meaning |
//! |---|---|
//! | `sh` | pasted; each command must succeed |
//! | `sh runs until Ctrl-C` | runs in a terminal of its own until the end; the `output` below it is awaited |
//! | `sh not replayed: REASON` | left out |
//! | `json output`, `text output` | what the block above prints; compared in shape |
//! | any other language | not a command |
//!
//! If a program in a terminal of its own prints `curl` commands that its output shows, they are pasted, too.
//!
//! Every document is replayed on an address of its own in 127.0.0.0/8 instead of 127.0.0.1, so documented
//! ports are used as they are.

mod document;
mod shape;
mod shell;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub use document::{Block, Document, Kind};
use shell::{Pasted, Shell};

use crate::postgres::Postgres;
use crate::process;
use crate::random::Random;
use crate::wait;
use crate::workdir::Workdir;

const TIMEOUT: Duration = Duration::from_secs(30);
/// The port of PostgreSQL in the documents.
const POSTGRES_PORT: u16 = 5432;

/// Stands in for cargo: the programs are built already, and building others takes minutes.
const CARGO: &str = r#"#!/bin/sh
command=$1 profile=debug packages=
shift
while [ $# -gt 0 ]; do
    case $1 in
        -p) packages="$packages $2"; shift ;;
        --profile) profile=$2; shift ;;
        --release) profile=release ;;
        --) shift; break ;;
        *) break ;;
    esac
    shift
done
for package in ${packages:-auth-service}; do
    [ -x "target/$profile/$package" ] || { echo "error: no program $package for the profile $profile" >&2; exit 101; }
done
case $command in
    build) ;;
    run) exec "target/$profile/$package" "$@" ;;
    *) echo "error: no such command: $command" >&2; exit 101 ;;
esac
"#;

/// The programs of this workspace that documents name.
const PROGRAMS: [&str; 3] = ["auth-service", "ping-service", "live-service"];

/// What a document takes for granted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// `auth-service` is on PATH.
    pub is_installed: bool,
    /// PostgreSQL runs on its usual port, and the reader is its administrator.
    pub postgres: Option<&'a Postgres>,
}

/// Replays `document`, in the checkout at `repository`. Returns the first fault with its place.
pub fn replay(repository: &Path, document: &Document, given: Given<'_>) -> Result<(), String> {
    let mut replay = Replay::start(repository, given);
    for (number, block) in document.blocks.iter().enumerate() {
        let next = document.blocks.get(number + 1).filter(|next| matches!(next.kind, Kind::Output(_)));
        replay.block(document, block, next)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Replay {
    home: PathBuf,
    environment: Vec<(String, String)>,
    substitutions: Vec<(String, String)>,
    shell: Shell,
    terminals: Vec<Terminal>,
    // Last, so that it is removed after the processes ended.
    dir: Workdir,
}

impl Replay {
    fn start(repository: &Path, given: Given<'_>) -> Self {
        let dir = Workdir::new();
        let (home, bin) = (dir.folder("home"), dir.folder("bin"));
        check_out(repository, &home);
        write_program(&bin.join("cargo"), CARGO);
        if given.is_installed {
            symlink(
                process::built("auth-service", "-p auth-service --bin auth-service"),
                bin.join("auth-service"),
            )
            .expect("a new file");
        }
        let random = Random::fresh();
        let address = format!("127.{}.{}.1", 10 + random.below(200), 1 + random.below(200));
        let mut environment = environment(&bin, &home, &address);
        let mut substitutions = vec![("127.0.0.1".to_owned(), address.clone())];
        if let Some(postgres) = given.postgres {
            environment.extend(postgres.administrator());
            let (documented, real) =
                (format!("{address}:{POSTGRES_PORT}"), format!("127.0.0.1:{}", postgres.port()));
            substitutions.push((documented, real));
        }
        let shell = Shell::start(&home, &dir.folder("outputs"), &environment);
        Self { home, environment, substitutions, shell, terminals: Vec::new(), dir }
    }

    fn block(&mut self, document: &Document, block: &Block, output: Option<&Block>) -> Result<(), String> {
        let lines: Vec<String> = block.lines.iter().map(|line| self.substituted(line)).collect();
        match block.kind {
            Kind::Commands => {
                let pasted = self.shell.paste(&lines, TIMEOUT);
                let printed = self.documented(&pasted.output);
                if let Some(failed) = pasted.failed {
                    let line = block.line + 1 + failed.min(lines.len() - 1);
                    let text = block.lines[line - block.line - 1].trim();
                    return Err(format!("{}:{line}: this failed: {text}\n{printed}", document.path));
                }
                let expected = output.map(|output| output.lines.join("\n")).unwrap_or_default();
                shape::find_undocumented_error(&expected, &printed)
                    .map_or(Ok(()), Err)
                    .and_then(|()| output.map_or(Ok(()), |output| shape::compare(output, &printed)))
                    .map_err(|fault| {
                        let line = output.map_or(block.line, |output| output.line);
                        format!("{}:{line}: {fault}\n--- printed:\n{printed}", document.path)
                    })
            }
            Kind::Foreground => {
                let output =
                    output.ok_or_else(|| format!("{}:{}: no output follows", document.path, block.line))?;
                self.run_in_terminal(document, &lines, output)
            }
            Kind::NotReplayed | Kind::Output(_) | Kind::Other => Ok(()),
        }
    }

    /// Starts a program, and waits until it has printed what the document shows.
    fn run_in_terminal(
        &mut self,
        document: &Document,
        lines: &[String],
        output: &Block,
    ) -> Result<(), String> {
        let name = format!("terminal-{}", self.terminals.len());
        let script = self.dir.path().join(&name);
        fs::write(&script, lines.join("\n")).expect("our own folder");
        let mut command = in_terminal(&format!("exec bash -e '{}'", script.display()));
        command.env_clear().envs(self.environment.iter().cloned()).current_dir(&self.home);
        let mut terminal = Terminal::start(command, &script.with_extension("out"));
        let mut fault = String::new();
        let is_shown = wait::find_blocking(TIMEOUT, || {
            let has_ended = terminal.child.try_wait().expect("our own child").is_some();
            match shape::compare(output, &self.documented(&terminal.output())) {
                Ok(()) => Some(true),
                Err(last) => {
                    fault = last;
                    has_ended.then_some(false)
                }
            }
        });
        let printed = terminal.output();
        self.terminals.push(terminal);
        if is_shown != Some(true) {
            let printed = self.documented(&printed);
            return Err(format!("{}:{}: {fault}\n--- printed:\n{printed}", document.path, output.line));
        }
        self.paste_printed_commands(document, output, &printed)
    }

    /// Pastes the commands that a program printed, where the document shows some.
    fn paste_printed_commands(
        &mut self,
        document: &Document,
        shown: &Block,
        printed: &str,
    ) -> Result<(), String> {
        let is_command = |line: &str| line.contains("curl ");
        let lines: Vec<String> =
            printed.lines().map(|line| line.trim().to_owned()).filter(|line| is_command(line)).collect();
        let shows_commands = shown.lines.iter().any(|line| is_command(line));
        if !shows_commands || lines.is_empty() {
            return Ok(());
        }
        let Pasted { output, failed } = self.shell.paste(&lines, TIMEOUT);
        let fault = match failed {
            Some(failed) => {
                Some(format!("this printed command failed: {}", lines[failed.min(lines.len() - 1)]))
            }
            None => shape::find_undocumented_error("", &output),
        };
        fault.map_or(Ok(()), |fault| Err(format!("{}:{}: {fault}\n{output}", document.path, shown.line)))
    }

    fn substituted(&self, line: &str) -> String {
        let replace = |line: String, (documented, real): &(String, String)| line.replace(documented, real);
        self.substitutions.iter().fold(line.to_owned(), replace)
    }

    /// `text` with the addresses of the document.
    fn documented(&self, text: &str) -> String {
        let replace = |text: String, (documented, real): &(String, String)| text.replace(real, documented);
        self.substitutions.iter().rev().fold(text.to_owned(), replace)
    }
}

/// Makes `home` look like a checkout in which everything was built in every profile.
fn check_out(repository: &Path, home: &Path) {
    copy(&repository.join("deploy"), &home.join("deploy"));
    for profile in ["debug", "release", "dist"] {
        let folder = home.join("target").join(profile);
        fs::create_dir_all(&folder).expect("a new folder");
        for program in PROGRAMS {
            symlink(process::built(program, &format!("-p {program}")), folder.join(program))
                .expect("a new file");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a folder of the repository") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a file of the repository");
        }
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).expect("a new file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

/// The environment of a reader's terminals. Services listen on `address`, and are not kept waiting at a stop.
fn environment(bin: &Path, home: &Path, address: &str) -> Vec<(String, String)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([bin.to_owned()].into_iter().chain(std::env::split_paths(&path)));
    let issuer = format!("http://{address}:8080");
    [
        ("PATH", path.expect("paths without colons").to_string_lossy().into_owned()),
        ("HOME", home.display().to_string()),
        ("SHELL", "/bin/sh".to_owned()),
        ("LOGNAME", "olga".to_owned()),
        ("AUTH_PUBLIC_ADDR", format!("{address}:8080")),
        ("AUTH_ADMIN_ADDR", format!("{address}:8081")),
        ("AUTH_ISSUER", issuer.clone()),
        ("AUTH_DRAIN_DELAY", "0s".to_owned()),
        ("ISSUER", issuer),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// A command that runs `command` as from a user's terminal: `script` holds the other end, and types what is
/// written to its input.
pub fn in_terminal(command: &str) -> Command {
    let mut script = Command::new(process::installed("script", "bsdutils"));
    script.args(["--quiet", "--return", "--flush", "--command", command, "/dev/null"]);
    script
}

/// A process whose output goes to a file. Dropping it ends the process.
#[derive(Debug)]
pub struct Terminal {
    /// The process.
    pub child: Child,
    output: PathBuf,
}

impl Terminal {
    /// Starts `command` with its output in the new file `output`.
    pub fn start(mut command: Command, output: &Path) -> Self {
        let file = fs::File::create(output).expect("a file for the output");
        let child = command
            .stdin(Stdio::piped())
            .stdout(file.try_clone().expect("another handle"))
            .stderr(file)
            .spawn()
            .expect("it starts");
        Self { child, output: output.to_owned() }
    }

    /// Everything that was printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Types Ctrl-C, for a command of [`in_terminal`].
    pub fn type_ctrl_c(&self) {
        use std::io::Write as _;
        self.child.stdin.as_ref().expect("a pipe").write_all(b"\x03").expect("the terminal is open");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}
