//! Proxies between the service and PostgreSQL, run with the files of `deploy/`.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::{Database, OWNER, free_port, read};
use crate::front_end::deployed;
use crate::process;
use crate::wait;
use crate::workdir::Workdir;

const TIMEOUT: Duration = Duration::from_secs(10);
/// The first version that supports prepared statements in transaction mode.
const OLDEST_PGBOUNCER: (u32, u32) = (1, 21);

/// PgBouncer with `deploy/pgbouncer/pgbouncer.ini`. Dropping it ends it.
#[derive(Debug)]
pub struct Pgbouncer {
    program: Program,
    port: u16,
    _dir: Workdir,
}

impl Pgbouncer {
    /// Starts one for `database`.
    pub fn start(database: &Database<'_>) -> Self {
        let (dir, port) = (Workdir::new(), free_port());
        let users = dir.path().join("userlist.txt");
        fs::write(&users, format!("\"{OWNER}\" \"{}\"\n", database.password())).expect("a file of users");
        let settings = configured(
            "pgbouncer/pgbouncer.ini",
            &[
                ("auth = ", format!("{} = host=127.0.0.1 port={}", database.name, database.port())),
                ("listen_port = ", format!("listen_port = {port}")),
                ("auth_file = ", format!("auth_file = {}", users.display())),
            ],
        );
        let file = dir.path().join("pgbouncer.ini");
        fs::write(&file, settings).expect("its settings");
        let binaries = &database.postgres.binaries;
        for path in [dir.path(), &users, &file] {
            binaries.give(path);
        }
        // It refuses to run as root.
        let mut command = binaries.server(pgbouncer().to_str().expect("UTF-8"), dir.path());
        command.arg(&file);
        for parameter in ["statement_timeout = '5s'", "plan_cache_mode = 'force_generic_plan'"] {
            database.query(&format!("ALTER ROLE {OWNER} SET {parameter}"));
        }
        let program = Program::start(command, dir.path().join("log"), port);
        Self { program, port, _dir: dir }
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its output.
    pub fn log(&self) -> String {
        read(&self.program.log)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&self) {
        self.program.kill();
    }

    /// Starts it again on the same port.
    pub fn start_again(&self) {
        self.program.start_again();
    }
}

/// HAProxy with `deploy/postgresql/haproxy.cfg`. Dropping it ends it.
#[derive(Debug)]
pub struct Haproxy {
    port: u16,
    _program: Program,
    dir: Workdir,
}

impl Haproxy {
    /// Starts one before a primary and its standby.
    pub fn start(primary: u16, standby: u16) -> Self {
        let (dir, port) = (Workdir::new(), free_port());
        let settings = configured(
            "postgresql/haproxy.cfg",
            &[
                (
                    "    stats socket ",
                    format!("    stats socket {}/haproxy.sock mode 600 level admin", dir.path().display()),
                ),
                ("    bind ", format!("    bind 127.0.0.1:{port}")),
                ("    server primary ", format!("    server primary 127.0.0.1:{primary} check")),
                ("    server standby ", format!("    server standby 127.0.0.1:{standby} check backup")),
            ],
        );
        let file = dir.path().join("haproxy.cfg");
        fs::write(&file, settings).expect("its settings");
        let mut command = Command::new(process::installed("haproxy", "haproxy"));
        command.args(["-db", "-f"]).arg(&file).current_dir(dir.path());
        let program = Program::start(command, dir.path().join("log"), port);
        Self { port, _program: program, dir }
    }

    /// Takes the primary out, as the file requires before the standby is promoted.
    pub fn fence(&self) {
        let mut socket = UnixStream::connect(self.dir.path().join("haproxy.sock")).expect("its socket");
        socket.write_all(b"set server postgresql/primary state maint\n").expect("it listens");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer.trim(), "", "a command that worked has no answer");
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

/// A file of `deploy/` with some lines replaced, each selected by its beginning.
fn configured(file: &str, lines: &[(&str, String)]) -> String {
    let mut text = fs::read_to_string(deployed(file)).expect("a file of deploy/");
    for (start, replacement) in lines {
        let line = text.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("{file} has no line that begins with {start:?}")).to_owned();
        text = text.replacen(&line, replacement, 1);
    }
    text
}

/// A process that listens on a port.
#[derive(Debug)]
struct Program {
    command: Mutex<Command>,
    child: Mutex<Option<Child>>,
    log: PathBuf,
    port: u16,
}

impl Program {
    fn start(mut command: Command, log: PathBuf, port: u16) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let program = Self { command: Mutex::new(command), child: Mutex::default(), log, port };
        program.start_again();
        program
    }

    fn start_again(&self) {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = self.command.lock().expect("nobody panics with this lock");
        let mut child = command.stderr(log).spawn().expect("it starts");
        wait::until_blocking(&format!("{command:?} listens"), TIMEOUT, || {
            assert!(child.try_wait().expect("our own child").is_none(), "{}", read(&self.log));
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        *self.child.lock().expect("nobody panics with this lock") = Some(child);
    }

    fn kill(&self) {
        if let Some(mut child) = self.child.lock().expect("nobody panics with this lock").take() {
            process::end(&mut child);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The one that `./test` built, or that of the system if it is new enough.
fn pgbouncer() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pgbouncer/pgbouncer");
    let candidates = [Some(built), process::find("pgbouncer")].into_iter().flatten();
    candidates
        .filter_map(|path| fs::canonicalize(path).ok())
        .find(|path| version(path).is_some_and(|version| version >= OLDEST_PGBOUNCER))
        .expect("PgBouncer 1.21 or newer is missing: ./test builds one")
}

/// `PgBouncer 1.24.1` and more lines.
fn version(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.lines().next()?.rsplit(' ').next()?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
