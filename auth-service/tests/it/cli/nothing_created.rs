//! Only `serve`, `migrate` and `copy` create anything.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use e2e::process::{Signal, end, signal};

use super::help::tree;
use super::site::{Kind, Site};

/// Commands that need no database.
const INDEPENDENT: [&str; 4] = ["completions", "config check", "healthcheck", "openapi"];
/// Commands that may create one.
const CREATING: [&str; 3] = ["copy", "migrate", "serve"];

/// Every command that needs a database which exists, with arguments.
fn commands() -> Vec<String> {
    let known = tree();
    let others = known
        .keys()
        .filter(|name| !INDEPENDENT.contains(&name.as_str()) && !CREATING.contains(&name.as_str()));
    let with_arguments = |name: &String| {
        let arguments = match name.as_str() {
            "user list" | "role list" | "session list" | "key list" | "key rotate" | "key reseal"
            | "setting list" | "replica list" | "audit list" | "status" | "doctor" => "",
            "session end" => "--all --yes",
            "setting set" => "access_token_ttl 10m",
            "setting unset" => "access_token_ttl",
            "key compromise" => "kid --yes",
            "key export" => "--format pem --dir keys",
            "user delete" | "role delete" => "name --yes",
            _ => "name",
        };
        format!("{name} {arguments}")
    };
    // It reads keys from the issuer, and the database only for stored settings.
    // The other makes a file of a list, and needs no installation.
    others
        .filter(|name| !["token explain", "config breached-passwords"].contains(&name.as_str()))
        .map(with_arguments)
        .collect()
}

#[test]
fn in_an_empty_folder_commands_name_the_place_and_leave_the_folder_empty() {
    let mut site = Site::empty(Kind::Sqlite);
    site.unset("AUTH_DATABASE_URL");
    site.unset("AUTH_MASTER_KEY_FILE");
    std::fs::remove_file(site.path("master.key")).unwrap();
    let place = site.path("data/auth.db").display().to_string();
    for command in commands() {
        let outcome = site.feed(&command, "seven-violet-harbour-kites\n");
        assert_eq!(outcome.code, Some(1), "{command}: {}", outcome.err);
        let said = format!("no database at {place}");
        let printed = if command.starts_with("doctor") { &outcome.out } else { &outcome.err };
        assert!(printed.contains(&said), "{command}: {printed}");
        assert!(outcome.err.starts_with("database: "), "{command}: {}", outcome.err);
        assert!(site.content().is_empty(), "{command} created {:?}", site.content());
    }
    let outcome = site.feed("token explain", "token");
    assert_eq!((outcome.code, site.content().len()), (Some(2), 0), "{}", outcome.err);
}

#[test]
#[ignore = "needs PostgreSQL: ./test runs it"]
fn an_empty_postgres_database_stays_empty() {
    let site = Site::empty(Kind::Postgres);
    for command in commands() {
        let outcome = site.feed(&command, "seven-violet-harbour-kites\n");
        assert_eq!(outcome.code, Some(1), "{command}: {}", outcome.err);
        let printed = if command.starts_with("doctor") { &outcome.out } else { &outcome.err };
        assert!(printed.contains("the database holds no installation"), "{command}: {printed}");
    }
    assert_eq!(site.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").trim(), "0");
    assert_eq!(site.content(), ["master.key"]);
}

pub(crate) fn an_older_schema_is_refused_and_not_migrated(kind: Kind) {
    let site = Site::empty(kind);
    assert!(site.done("migrate").starts_with("applied 0001_users, "));
    assert_eq!(site.done("migrate"), "the schema is up to date\n");
    site.execute(
        "DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)",
    );
    for command in ["user list", "user disable admin", "status"] {
        let outcome = site.run(command);
        assert_eq!(outcome.code, Some(1), "{command}: {}", outcome.err);
        assert!(outcome.err.contains("run `auth-service migrate`"), "{command}: {}", outcome.err);
    }
    let doctor = site.run("doctor");
    assert_eq!(doctor.code, Some(1));
    assert!(
        doctor.out.contains("problem  database: the schema is older than this program"),
        "{}",
        doctor.out
    );
}

/// A replica as a process, which ends with the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

pub(crate) fn serve_creates_an_installation_that_commands_can_use(kind: Kind) {
    let mut site = Site::empty(kind);
    site.set("AUTH_PUBLIC_ADDR", "127.0.0.1:0");
    site.set("AUTH_ADMIN_ADDR", "127.0.0.1:0");
    site.set("AUTH_DRAIN_DELAY", "0s");
    let mut serve = site.program(env!("CARGO_BIN_EXE_auth-service"));
    let serve = serve.arg("serve").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut served = Served(serve.spawn().unwrap());
    let mut announced = BufReader::new(served.0.stdout.take().unwrap());
    let mut line = String::new();
    announced.read_line(&mut line).unwrap();
    assert!(line.starts_with("listening: public http://127.0.0.1:"), "{line}");
    assert_eq!(site.objects("user list")[0]["username"], "admin");
    assert_eq!(site.objects("replica list").len(), 1);
    signal(served.0.id(), Signal::TERM);
    assert!(served.0.wait().unwrap().success());
}
