//! compose.yaml, parsed by docker-compose; its settings, parsed by the programs. Nothing is started, because
//! that needs Docker.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use e2e::postgres::Postgres;
use e2e::process::built;
use e2e::workdir::Workdir;
use serde_json::{Value, json};

use super::service::{Environment, check, seconds, setting};
use super::tools::{copy, make_secrets, run};

/// The operator's folder, and docker-compose's view of it.
struct Composition {
    dir: Workdir,
    described: Value,
}

impl Composition {
    fn new() -> Self {
        let dir = Workdir::new();
        let folder = dir.path().join("deploy");
        copy(&super::deploy(), &folder);
        make_secrets(&folder.join("secrets")).unwrap_or_else(|why| panic!("{why}"));
        let mut compose = Command::new("docker-compose");
        compose.arg("--file").arg(folder.join("compose.yaml")).arg("config");
        let config =
            run(&mut compose, "apt-get install docker-compose").unwrap_or_else(|why| panic!("{why}"));
        let described = serde_saphyr::from_str(&config.stdout).expect("docker-compose writes YAML");
        Self { dir, described }
    }

    /// The services with this image.
    fn replicas(&self, program: &str) -> Vec<(&String, &Value)> {
        let services = self.described["services"].as_object().expect("services");
        let image = format!("{program}:{}", env!("CARGO_PKG_VERSION"));
        services.iter().filter(|(_, service)| service["image"] == image.as_str()).collect()
    }

    fn service(&self, name: &str) -> &Value {
        let found = &self.described["services"][name];
        assert!(found.is_object(), "{name} is a service");
        found
    }

    /// A service's environment, with the files that Docker would mount under `/run/secrets`.
    fn environment(&self, service: &Value) -> Environment {
        let mut environment: Environment =
            serde_json::from_value(service["environment"].clone()).expect("names and texts");
        let listed = service["secrets"].as_array().into_iter().flatten();
        let names: BTreeSet<&str> = listed.filter_map(|secret| secret["source"].as_str()).collect();
        for value in environment.values_mut() {
            if let Some(name) = value.strip_prefix("/run/secrets/") {
                assert!(names.contains(name), "{name} is among the service's secrets");
                let file = self.described["secrets"][name]["file"].as_str();
                *value = file.unwrap_or_else(|| panic!("a secret {name}")).to_owned();
            }
        }
        environment
    }

    fn address_of(&self, service: &str) -> &str {
        self.service(service)["networks"]["auth"]["ipv4_address"].as_str().expect("a fixed address")
    }
}

#[test]
fn three_replicas_get_settings_that_the_service_accepts() {
    let composition = Composition::new();
    let replicas = composition.replicas("auth-service");
    assert_eq!(replicas.len(), 3);
    for (name, replica) in replicas {
        let effective = check(&[], &composition.environment(replica));
        // The balancer publishes the issuer's port, and is the only trusted proxy.
        assert_eq!(setting(&effective, "issuer"), "http://127.0.0.1:8080", "{name}");
        let balancer = composition.address_of("balancer");
        assert_eq!(setting(&effective, "trusted_proxies"), format!("[\"{balancer}/32\"]"), "{name}");
        let timeout = replica["stop_grace_period"].as_str().expect("a duration").trim_end_matches('s');
        assert!(timeout.parse::<u64>().unwrap() > seconds(&effective, "drain_delay") + 30 + 2, "{name}");
    }
}

#[test]
fn database_accepts_the_replicas() {
    let composition = Composition::new();
    let postgres = composition.environment(composition.service("postgres"));
    let password = fs::read_to_string(&postgres["POSTGRES_PASSWORD_FILE"]).expect("a secret");
    let (user, database) = (&postgres["POSTGRES_USER"], &postgres["POSTGRES_DB"]);
    let url = format!("postgres://{user}:{password}@postgres/{database}");
    for (name, replica) in composition.replicas("auth-service") {
        let given = fs::read_to_string(&composition.environment(replica)["AUTH_DATABASE_URL_FILE"]);
        assert_eq!(given.expect("a secret"), url, "{name}");
    }
}

/// The init script of the container, run as the superuser `POSTGRES_USER` of its image.
#[test]
fn example_has_its_own_database_and_no_access_to_the_issuers() {
    let composition = Composition::new();
    let given = composition.service("postgres");
    let mounts = given["volumes"].as_array().expect("a list").iter().filter_map(Value::as_str);
    let mut scripts = mounts.filter_map(|mount| mount.split_once(":/docker-entrypoint-initdb.d/"));
    let (script, _) = scripts.next().expect("a script for the empty volume");
    let environment = composition.environment(given);

    let postgres = Postgres::start();
    let issuers = postgres.create_database();
    issuers.query("ALTER ROLE auth SUPERUSER");
    let issuers_url = issuers.url();
    let (_, name) = issuers_url.rsplit_once('/').expect("a database");
    let port = issuers.port().to_string();
    let mut set_up = Command::new(script);
    set_up.envs(&environment).env("POSTGRES_DB", name);
    set_up.env("PGHOST", "127.0.0.1").env("PGPORT", &port).env("PGPASSWORD", issuers.password());
    run(&mut set_up, "it is in deploy/").unwrap_or_else(|why| panic!("{why}"));

    let issuer = &composition.replicas("auth-service")[0];
    let issuer = fs::read_to_string(&composition.environment(issuer.1)["AUTH_DATABASE_URL_FILE"]);
    let issuer = issuer.expect("a secret");
    let query = |url: &str, sql: &str| {
        let mut psql = Command::new("psql");
        run(psql.args(["-X", "-w", "-c", sql]).arg(url), "apt-get install postgresql-client")
    };
    for (replica, described) in composition.replicas("live-service") {
        let url = &composition.environment(described)["DATABASE_URL"];
        assert_ne!(*url, issuer, "{replica}");
        assert_ne!(url.split('@').next(), issuer.split('@').next(), "{replica}");
        let url = url.replace("@postgres/", &format!("@127.0.0.1:{port}/"));
        query(&url, "CREATE TABLE IF NOT EXISTS own (id BIGINT)").unwrap_or_else(|why| panic!("{why}"));
        let (server, _) = url.rsplit_once('/').expect("a database");
        let refused = query(&format!("{server}/{name}"), "SELECT 1").err();
        let refused = refused.unwrap_or_else(|| panic!("{replica} may not enter the issuer's database"));
        assert!(refused.contains("permission denied for database"), "{refused}");
    }
}

#[test]
fn balancer_lists_every_replica_and_haproxy_accepts_its_configuration() {
    let composition = Composition::new();
    let environment = composition.environment(composition.service("balancer"));
    let mut listening = BTreeSet::new();
    for (name, replica) in composition.replicas("auth-service") {
        let (_, port) =
            replica["environment"]["AUTH_PUBLIC_ADDR"].as_str().unwrap().rsplit_once(':').unwrap();
        listening.insert(format!("{name}:{port}"));
    }
    for program in ["ping-service", "live-service"] {
        for (name, replica) in composition.replicas(program) {
            assert_eq!(replica["network_mode"], "service:balancer", "{name} is on the balancer's 127.0.0.1");
            listening.insert(replica["environment"]["ADDRESS"].as_str().unwrap().to_owned());
        }
    }
    let known: BTreeSet<&String> = environment
        .iter()
        .filter(|(name, _)| ["AUTH", "APP", "LIVE"].iter().any(|group| name.starts_with(group)))
        .map(|(_, address)| address)
        .collect();
    assert_eq!(known, listening.iter().collect(), "each once, and no other");

    // These names do not exist here. HAProxy starts anyway, because a replica may be down when it starts.
    let file = source(&composition.service("balancer")["volumes"][0]);
    let mut haproxy = Command::new("haproxy");
    haproxy.args(["-c", "-f", file]).current_dir(composition.dir.path()).env_clear().envs(environment);
    haproxy.env("PATH", "/usr/sbin:/usr/bin");
    run(&mut haproxy, "apt-get install haproxy").unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn examples_get_only_known_variables() {
    let composition = Composition::new();
    for program in ["ping-service", "live-service"] {
        let mut help = Command::new(built(program, &format!("-p {program}")));
        let help = run(help.arg("--help"), "cargo").unwrap_or_else(|why| panic!("{why}")).stdout;
        // Without the line breaks of long lines.
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let replicas = composition.replicas(program);
        assert_eq!(replicas.len(), 3, "{program}");
        for (name, replica) in replicas {
            for variable in composition.environment(replica).keys() {
                assert!(help.contains(&format!("[env: {variable}")), "{name}: {variable}\n{help}");
            }
        }
    }
}

/// The mounts; docker-compose 1 writes `FROM:TO`, later versions an object.
fn source(volume: &Value) -> &str {
    let short = || volume.as_str()?.split(':').next();
    volume["source"].as_str().or_else(short).unwrap_or_else(|| panic!("a volume: {volume}"))
}

/// The address on which a port is published; empty for all addresses.
fn host(port: &Value) -> &str {
    match port.as_str() {
        Some(short) => short.rsplitn(3, ':').nth(2).unwrap_or_default(),
        None => port["host_ip"].as_str().unwrap_or_default(),
    }
}

#[test]
fn volumes_and_ports_are_parsed_in_both_forms() {
    assert_eq!(source(&json!("/a/b.cfg:/c:ro")), "/a/b.cfg");
    assert_eq!(source(&json!({ "type": "bind", "source": "/a/b.cfg", "target": "/c" })), "/a/b.cfg");
    assert_eq!(host(&json!("127.0.0.1:8080:8080/tcp")), "127.0.0.1");
    assert_eq!(host(&json!({ "host_ip": "127.0.0.1", "target": 8080, "published": "8080" })), "127.0.0.1");
    for open in [json!("8080:8080"), json!({ "target": 8080, "published": "8080" })] {
        assert_eq!(host(&open), "", "{open}");
    }
}

#[test]
fn ports_are_published_on_loopback_only() {
    let composition = Composition::new();
    for (name, service) in composition.described["services"].as_object().expect("services") {
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(host(port), "127.0.0.1", "{name}: {port}");
        }
    }
}

#[test]
fn crashed_replica_is_restarted() {
    let composition = Composition::new();
    for (name, service) in composition.described["services"].as_object().expect("services") {
        assert_eq!(service["restart"], "unless-stopped", "{name}");
    }
}

#[test]
fn compose_uses_the_image_of_the_dockerfile() {
    let composition = Composition::new();
    let stages = super::dockerfile::stages();
    for program in ["auth-service", "ping-service", "live-service"] {
        for (name, replica) in composition.replicas(program) {
            assert_eq!(replica["build"]["dockerfile"], "deploy/Dockerfile", "{name}");
            assert_eq!(replica["build"]["target"], program, "{name}");
            assert!(stages.iter().any(|stage| stage.name == program), "{name}");
        }
    }
}
