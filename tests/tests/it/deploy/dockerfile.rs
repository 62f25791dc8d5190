//! The Dockerfile, instruction by instruction. It is not built here, because that needs a base image and ten
//! minutes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::cluster::service;
use serde_json::Value;

use super::service::{Environment, check, setting};
use super::tools::run;

/// The instructions from one `FROM` to the next.
pub(crate) struct Stage {
    pub(crate) name: String,
    base: String,
    /// Instructions and their arguments, each on one line.
    instructions: Vec<(String, String)>,
}

impl Stage {
    /// The arguments of an instruction, in order.
    fn all(&self, instruction: &str) -> Vec<&str> {
        let those = self.instructions.iter().filter(|(name, _)| name == instruction);
        those.map(|(_, arguments)| arguments.as_str()).collect()
    }

    pub(crate) fn only(&self, instruction: &str) -> &str {
        let found = self.all(instruction);
        assert_eq!(found.len(), 1, "{}: {instruction}", self.name);
        found[0]
    }
}

fn text() -> String {
    fs::read_to_string(super::deploy().join("Dockerfile")).expect("the Dockerfile")
}

/// The stages of the Dockerfile.
pub(crate) fn stages() -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    let lines: Vec<String> =
        text().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    for line in lines.join("\n").replace("\\\n", " ").lines().filter(|line| !line.is_empty()) {
        let (instruction, arguments) = line.split_once(' ').expect("an instruction has arguments");
        if instruction == "FROM" {
            let (base, name) = arguments.split_once(" AS ").expect("every stage has a name");
            stages.push(Stage { name: name.to_owned(), base: base.to_owned(), instructions: Vec::new() });
        } else if let Some(stage) = stages.last_mut() {
            stage.instructions.push((instruction.to_owned(), arguments.trim().to_owned()));
        }
    }
    stages
}

/// The stage of this name.
pub(crate) fn stage(name: &str) -> Stage {
    stages().into_iter().find(|stage| stage.name == name).unwrap_or_else(|| panic!("a stage {name}"))
}

/// The programs that the builder builds.
fn programs() -> Vec<String> {
    let builder = stage("builder");
    let (_, list) = builder.only("ARG").split_once("PROGRAMS=").expect("a list");
    list.trim_matches('"').split(' ').map(str::to_owned).collect()
}

fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--offline", "--locked", "--no-deps", "--format-version=1"]);
    let written = run(&mut cargo, "rustup").unwrap_or_else(|why| panic!("{why}"));
    serde_json::from_str(&written.stdout).expect("JSON")
}

#[test]
fn images_contain_one_program_each_and_do_not_run_as_root() {
    for program in programs() {
        let stage = stage(&program);
        assert_eq!(stage.base, "scratch");
        assert_eq!(stage.only("USER"), "65532:65532");
        assert_eq!(stage.only("ENTRYPOINT"), format!("[\"/{program}\"]"));
        let copied = format!("--from=builder /out/{program} /{program}");
        assert!(stage.all("COPY").contains(&&*copied), "{program}");
    }
    assert_eq!(stages().last().expect("stages").name, "auth-service", "what is built without --target");
}

#[test]
fn builder_builds_workspace_programs_with_the_pinned_compiler() {
    let packages = metadata()["packages"].as_array().expect("packages").clone();
    for program in programs() {
        assert!(packages.iter().any(|package| package["name"] == program.as_str()), "{program}");
    }
    let toolchain = fs::read_to_string(super::deploy().join("../rust-toolchain.toml")).expect("our compiler");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).expect("a channel");
    let image = format!("ARG BUILDER=docker.io/library/rust:{}-bookworm\n", channel.trim_matches('"'));
    assert!(text().contains(&image), "{image}");
}

#[test]
fn build_context_contains_every_package_and_no_secret() {
    let ignored = fs::read_to_string(super::deploy().join("../.dockerignore")).expect("what is left out");
    let kept: BTreeSet<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"), "everything is left out but");
    let root = fs::canonicalize(super::deploy().join("..")).expect("our own folder");
    for package in metadata()["packages"].as_array().expect("packages") {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let folder = manifest.strip_prefix(&root).expect("in the workspace").iter().next().expect("a folder");
        assert!(kept.contains(folder.to_str().expect("a name")), "{}", manifest.display());
    }
    for path in kept {
        let begins = |name: &str| name == path || name.starts_with(&format!("{path}/"));
        assert!(
            !["deploy/secrets", "deploy/kubernetes/secrets", "data", ".git"].into_iter().any(begins),
            "{path}"
        );
    }
}

#[test]
fn image_starts_the_service_on_the_exposed_ports() {
    let stage = stage("auth-service");
    let environment: Environment = stage
        .only("ENV")
        .split(' ')
        .map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).expect("K=V"))
        .collect();
    let effective = check(&[], &environment);
    let listens: Vec<&str> = ["public_addr", "admin_addr"]
        .map(|key| setting(&effective, key).rsplit_once(':').expect("address:port").1)
        .to_vec();
    assert_eq!(stage.only("EXPOSE").split(' ').collect::<Vec<_>>(), listens);
    // It can write to the default folder of SQLite, relative to the working directory `/`.
    assert_eq!(setting(&effective, "database_url"), "sqlite://data/auth.db");
    assert!(stage.all("COPY").contains(&"--from=builder --chown=65532:65532 /out/data /data"));
}

#[test]
fn health_check_uses_an_existing_command() {
    let stage = stage("auth-service");
    let (_, command) = stage.only("HEALTHCHECK").split_once(" CMD ").expect("a command");
    let command: Vec<String> =
        serde_json::from_str(command).expect("the form without a shell, which the image lacks");
    assert_eq!(command[0], "/auth-service");
    for arguments in [&command[1..], &serde_json::from_str::<Vec<String>>(stage.only("CMD")).expect("a list")]
    {
        let help = run(Command::new(service()).args(arguments).arg("--help"), "cargo build -p auth-service");
        help.unwrap_or_else(|why| panic!("{why}"));
    }
}
