//! Each check of `doctor` fails once, and the exit code is that of the worst finding.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::site::{Kind, Site};

/// What a check finds, as `result: message`.
#[track_caller]
fn found(site: &Site, check: &str) -> Vec<String> {
    let text = |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = site.objects("doctor").into_iter().filter(|finding| finding["check"] == check);
    findings.map(|finding| format!("{}: {}", text(&finding, "result"), text(&finding, "message"))).collect()
}

/// With two administrators, so that nothing is wrong.
fn healthy(kind: Kind) -> Site {
    let site = Site::started(kind);
    site.done_with_password("user add second --role admin");
    site
}

pub(crate) fn exit_code_is_that_of_the_worst_finding(kind: Kind) {
    let mut site = healthy(kind);
    let doctor = site.run("doctor");
    assert_eq!(doctor.code, Some(0), "{}", doctor.out);
    assert_eq!(
        site.done("status").lines().last(),
        Some("Nothing is wrong; `auth-service doctor` lists what was checked")
    );
    site.done("user disable second");
    assert_eq!(site.run("doctor").code, Some(3), "one administrator");
    site.done("user disable admin --yes");
    assert_eq!(found(&site, "administrators"), ["problem: no enabled user has full rights"]);
    assert_eq!(site.run("doctor").code, Some(1), "no administrator");
    site.done("user enable admin");
    site.set("AUTH_LEEWAY", "never");
    assert_eq!(site.run("doctor").code, Some(1), "a configuration that cannot be used");
}

pub(crate) fn open_files_are_found(kind: Kind) {
    let mut site = healthy(kind);
    let secret: &[&str] =
        if kind == Kind::Sqlite { &["master.key", "data/auth.db", "data"] } else { &["master.key"] };
    let chmod =
        |name: &str, mode| fs::set_permissions(site.path(name), Permissions::from_mode(mode)).unwrap();
    for name in secret {
        let private = fs::metadata(site.path(name)).unwrap().permissions().mode() & 0o777;
        for mode in [private | 0o040, private | 0o002] {
            chmod(name, mode);
            assert_eq!(found(&site, "files"), [format!("warning: others can use {name} (mode {mode:o})")]);
        }
        chmod(name, private);
    }
    assert!(found(&site, "files")[0].starts_with("ok: "));
    fs::write(site.path("auth.toml"), "bootstrap_admin_password = 'x'").unwrap();
    site.unset("LOGNAME");
    let doctor = site.run("doctor --config auth.toml").out;
    assert!(doctor.contains("files: others can use auth.toml"), "{doctor}");
}

pub(crate) fn first_passwords_that_lie_about_or_are_weak_are_found(kind: Kind) {
    let mut site = healthy(kind);
    let file = if kind == Kind::Sqlite { "data/initial-admin-password" } else { "initial-admin-password" };
    fs::write(site.path(file), "secret").unwrap();
    assert_eq!(
        found(&site, "first password"),
        [format!("warning: the first password of admin is still in {file}")]
    );
    fs::remove_file(site.path(file)).unwrap();
    site.set("AUTH_BOOTSTRAP_ADMIN_PASSWORD", "password1234");
    let messages = found(&site, "first password");
    assert!(messages[0].starts_with("warning: bootstrap_admin_password "), "{messages:?}");
    assert_eq!(
        messages[1..],
        ["warning: bootstrap_admin_password is set, but was used when the service first started"]
    );
}

pub(crate) fn master_keys_that_are_missing_or_wrong_are_found(kind: Kind) {
    let site = healthy(kind);
    fs::write(site.path("master.key"), STANDARD.encode([9; 32])).unwrap();
    let wrong = found(&site, "master key");
    assert!(wrong[0].starts_with("problem: "), "{wrong:?}");
    fs::remove_file(site.path("master.key")).unwrap();
    assert_eq!(found(&site, "master key"), ["problem: the master key file master.key does not exist"]);
    assert!(!site.path("master.key").exists());
}

pub(crate) fn issuers_that_are_unreachable_or_of_another_installation_are_found(kind: Kind) {
    let (mut site, other) = (healthy(kind), Site::started(Kind::Sqlite));
    let own = site.public().to_string();
    site.set("AUTH_ISSUER", format!("http://{}", other.public()));
    assert_eq!(
        found(&site, "issuer"),
        [format!("problem: http://{} serves the keys of another installation", other.public())]
    );
    let by_name = format!("http://localhost:{}", site.public().port());
    site.set("AUTH_ISSUER", by_name.clone());
    assert_eq!(found(&site, "issuer"), [format!("problem: {by_name} says that it is http://{own}")]);
    site.set("AUTH_ISSUER", format!("http://{own}"));
    site.stop();
    let unreachable = found(&site, "issuer");
    assert!(
        unreachable[0].starts_with(&format!("problem: http://{own} cannot be used: ")),
        "{unreachable:?}"
    );
}

pub(crate) fn replicas_that_are_silent_or_drained_are_found(kind: Kind) {
    let mut site = healthy(kind);
    let id = site.objects("replica list")[0]["id"].as_str().unwrap().to_owned();
    site.done(&format!("replica drain {id}"));
    assert!(found(&site, "replicas")[0].contains("is out of the rotation"));
    site.done(&format!("replica undrain {id}"));
    site.stop();
    site.execute("UPDATE replicas SET seen_at = seen_at - 60");
    let silent = found(&site, "replicas");
    assert!(silent[0].starts_with(&format!("warning: {id} at ")), "{silent:?}");
    assert!(silent[0].contains(" was last heard of "), "{silent:?}");
    assert_eq!(silent[1..], ["warning: no replica is running"]);
    site.execute("DELETE FROM replicas");
    assert_eq!(found(&site, "replicas"), ["warning: no replica is running"]);
}

pub(crate) fn settings_that_are_overridden_and_open_listeners_are_found(kind: Kind) {
    let mut site = healthy(kind);
    site.done("setting set access_token_ttl 10m");
    site.set("AUTH_ACCESS_TOKEN_TTL", "5m");
    assert_eq!(
        found(&site, "settings"),
        ["warning: access_token_ttl: the environment overrides the stored value"]
    );
    site.set("AUTH_ADMIN_ADDR", "0.0.0.0:8081");
    assert_eq!(
        found(&site, "listeners"),
        ["warning: the admin listener accepts connections on 0.0.0.0:8081"]
    );
    site.set("AUTH_ISSUER", "http://auth.invalid");
    site.set("AUTH_ALLOW_INSECURE_ISSUER", "true");
    assert!(found(&site, "configuration")[0].starts_with("warning: allow_insecure_issuer: "));
    assert!(found(&site, "issuer")[0].starts_with("problem: http://auth.invalid cannot be used"));
}

pub(crate) fn key_chains_without_a_key_are_found(kind: Kind) {
    let site = healthy(kind);
    site.done("setting set signing_algorithms ES256,EdDSA");
    let keys = found(&site, "signing keys");
    assert_eq!(keys[1..], ["problem: no key for EdDSA"], "{keys:?}");
}
