//! Tests of the whole: a file and an environment are loaded.

use std::{ffi::OsString, fs};

use super::*;

fn load(file: Option<&str>, environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.toml");
    if let Some(text) = file {
        fs::write(&path, text).unwrap();
    }
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    source::load(file.map(|_| path.as_path()), environment)
}

fn problems(environment: &[(&str, &str)]) -> Vec<String> {
    load(None, environment).expect_err("must be refused").problems
}

#[track_caller]
fn assert_refused(environment: &[(&str, &str)], key: &str) {
    let found = problems(environment);
    assert!(
        found.iter().any(|problem| problem.starts_with(&format!("{key}:"))),
        "{key} not named in {found:?}"
    );
}

#[test]
fn defaults_are_valid_and_as_documented() {
    let Loaded { config, settings, .. } = load(None, &[]).unwrap();
    assert_eq!(config.issuer, "http://127.0.0.1:8080");
    assert_eq!(config.database(), Database::Sqlite { path: "data/auth.db".into() });
    assert_eq!(config.master_key_path(), Some("data/master.key".into()));
    assert_eq!(settings.refresh_grace, Seconds(10));
    assert_eq!(settings.jwks_stale_while_revalidate(), Seconds(60));
    assert!(config.check(&settings).is_ok());
}

#[test]
fn environment_overrides_the_file() {
    let file =
        "access_token_ttl = \"2m\"\naudiences = [\"one\", \"two\"]\nrefresh_recovery = false\nhash_queue = 7";
    let environment = [("AUTH_ACCESS_TOKEN_TTL", "90s"), ("AUTH_HASH_QUEUE", "8")];
    let Loaded { config, settings, given, .. } = load(Some(file), &environment).unwrap();
    assert_eq!(settings.access_token_ttl, Seconds(90));
    assert_eq!(settings.audiences, ["one", "two"]);
    assert!(!settings.refresh_recovery);
    assert_eq!((given["access_token_ttl"], given["audiences"]), (Source::Environment, Source::File));
    assert!(!given.contains_key("leeway"));
    assert_eq!(config.hash_queue, 8);
}

#[test]
fn lists_and_maps_are_comma_separated_in_the_environment() {
    let Loaded { config, settings, .. } = load(
        None,
        &[
            ("AUTH_AUDIENCES", "orders, billing"),
            ("AUTH_SIGNING_ALGORITHMS", "ES256,EdDSA"),
            ("AUTH_AUDIENCE_ALGORITHMS", "billing=EdDSA,auth-admin=ES256"),
            ("AUTH_TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.1,fd00::/8"),
            ("AUTH_CORS_ALLOWED_ORIGINS", ""),
        ],
    )
    .unwrap();
    assert_eq!(settings.audiences, ["orders", "billing"]);
    assert_eq!(settings.algorithm_for("billing"), Algorithm::EdDSA);
    assert_eq!(settings.algorithm_for("orders"), Algorithm::ES256);
    assert_eq!(config.trusted_proxies[1].to_string(), "192.0.2.1/32");
    assert!(config.cors_allowed_origins.is_empty());
}

#[test]
fn unknown_key_in_the_file_is_an_error_and_unknown_variable_a_warning() {
    let error = load(Some("acess_token_ttl = \"5m\""), &[]).unwrap_err();
    assert!(error.problems[0].contains("access_token_ttl"), "{error}");
    let loaded =
        load(None, &[("AUTH_SERVICE_HOST", "10.0.0.1"), ("PATH", "/bin"), ("AUTH_issuer", "x")]).unwrap();
    assert_eq!(loaded.warnings.len(), 2);
    assert!(loaded.warnings[1].starts_with("AUTH_issuer: is not a setting"), "{:?}", loaded.warnings);
    assert!(loaded.warnings[1].contains("AUTH_ISSUER"));
}

#[test]
fn secret_may_come_from_a_file_but_not_from_two_places() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("url");
    fs::write(&secret, "sqlite://elsewhere/auth.db\n").unwrap();
    let path = secret.to_str().unwrap();
    let config = load(None, &[("AUTH_DATABASE_URL_FILE", path)]).unwrap().config;
    assert_eq!(config.database(), Database::Sqlite { path: "elsewhere/auth.db".into() });
    assert_refused(
        &[("AUTH_DATABASE_URL_FILE", path), ("AUTH_DATABASE_URL", "sqlite://a.db")],
        "AUTH_DATABASE_URL",
    );
    assert_refused(&[("AUTH_DATABASE_URL_FILE", "/nowhere/at/all")], "AUTH_DATABASE_URL_FILE");
    assert_refused(&[("AUTH_MASTER_KEY", "a"), ("AUTH_MASTER_KEY_FILE", "b")], "master_key_file");
}

#[test]
fn printed_configuration_reads_back_unchanged() {
    let environment = [
        ("AUTH_AUDIENCES", "orders,billing"),
        ("AUTH_SIGNING_ALGORITHMS", "ES256,RS256"),
        ("AUTH_AUDIENCE_ALGORITHMS", "billing=RS256"),
        ("AUTH_TRUSTED_PROXIES", "10.0.0.0/8"),
        ("AUTH_KEY_POLL_INTERVAL", "1500ms"),
        ("AUTH_LOG", "info,auth_service=debug"),
        ("AUTH_ALLOW_INSECURE_ISSUER", "true"),
        ("AUTH_MASTER_KEY_FILE", "/etc/a\\b\"c"),
    ];
    let printed = load(None, &environment).unwrap().to_toml();
    assert!(printed.contains("key_poll_interval = \"1500ms\" # environment\n"), "{printed}");
    assert!(printed.contains("\nleeway = \"30s\"\n"), "{printed}");
    let again = load(Some(&printed), &[]).unwrap();
    // All values now come from a file.
    let bare = |text: &str| text.replace(" # environment", "").replace(" # file", "");
    assert_eq!(bare(&again.to_toml()), bare(&printed));
    for key in source::keys() {
        assert!(printed.contains(key), "{key} is not printed");
    }
}

#[test]
fn no_secret_is_printed_or_quoted() {
    let canary = "canary-s3cret";
    let url = format!("postgres://auth:{canary}@db/auth");
    let environment = [
        ("AUTH_DATABASE_URL", url.as_str()),
        ("AUTH_MASTER_KEY", canary),
        ("AUTH_BOOTSTRAP_ADMIN_PASSWORD", canary),
    ];
    let loaded = load(None, &environment).unwrap();
    for shown in [loaded.to_toml(), format!("{loaded:?}")] {
        assert!(!shown.contains(canary), "{shown}");
    }
    assert!(loaded.to_toml().contains("postgres://auth:***@db/auth"));
    // Errors quote neither a line that is not TOML, nor a value of the wrong type.
    for file in [format!("database_url = \"{canary}"), format!("hash_queue = \"{canary}\"")] {
        let error = load(Some(&file), &[]).unwrap_err();
        assert!(!error.to_string().contains(canary), "{error}");
    }
    // The placeholder is not accepted as a secret.
    assert!(load(Some(&loaded.to_toml()), &[]).is_err());
}

#[test]
fn all_problems_are_reported_together() {
    let found =
        problems(&[("AUTH_ACCESS_TOKEN_TTL", "2h"), ("AUTH_LEEWAY", "3m"), ("AUTH_ISSUER", "ftp://x")]);
    assert_eq!(found.len(), 3, "{found:?}");
    let unreadable =
        problems(&[("AUTH_HASH_QUEUE", "many"), ("AUTH_REFRESH_RECOVERY", "yes"), ("AUTH_LEEWAY", "5")]);
    assert_eq!(unreadable.len(), 3, "{unreadable:?}");
}

#[test]
fn values_out_of_bounds_are_refused_by_name() {
    for (variable, value, key) in [
        ("AUTH_ACCESS_TOKEN_TTL", "3601s", "access_token_ttl"),
        ("AUTH_ACCESS_TOKEN_TTL", "0s", "access_token_ttl"),
        ("AUTH_LEEWAY", "121s", "leeway"),
        ("AUTH_LEEWAY", "1500ms", "AUTH_LEEWAY"),
        ("AUTH_LEEWAY", "-5s", "AUTH_LEEWAY"),
        ("AUTH_REFRESH_IDLE_TTL", "4m", "refresh_idle_ttl"),
        ("AUTH_REFRESH_ABSOLUTE_TTL", "6d", "refresh_absolute_ttl"),
        ("AUTH_REFRESH_GRACE", "11s", "refresh_grace"),
        ("AUTH_PUBLIC_ADDR", "127.0.0.1:8081", "admin_addr"),
        ("AUTH_PUBLIC_ADDR", "0.0.0.0:8081", "admin_addr"),
        ("AUTH_PUBLIC_ADDR", "localhost:80", "AUTH_PUBLIC_ADDR"),
        ("AUTH_DATABASE_URL", "mysql://x", "database_url"),
        ("AUTH_DATABASE_URL", "sqlite::memory:", "database_url"),
        ("AUTH_DATABASE_URL", "sqlite://a.db?mode=ro", "database_url"),
        ("AUTH_DATABASE_URL", "postgres://h/d", "master_key_file"),
        ("AUTH_AUDIENCES", "", "audiences"),
        ("AUTH_AUDIENCES", "a,a", "audiences"),
        ("AUTH_AUDIENCES", "a b", "audiences"),
        ("AUTH_AUDIENCES", "api,auth-admin", "audiences"),
        ("AUTH_SIGNING_ALGORITHM", "EdDSA", "signing_algorithms"),
        ("AUTH_SIGNING_ALGORITHM", "none", "AUTH_SIGNING_ALGORITHM"),
        ("AUTH_SIGNING_ALGORITHM", "es256", "AUTH_SIGNING_ALGORITHM"),
        ("AUTH_SIGNING_ALGORITHMS", "ES256,ES256", "signing_algorithms"),
        ("AUTH_AUDIENCE_ALGORITHMS", "api=RS256", "audience_algorithms"),
        ("AUTH_AUDIENCE_ALGORITHMS", "other=ES256", "audience_algorithms"),
        ("AUTH_KEY_ROTATION_PERIOD", "14m", "key_rotation_period"),
        ("AUTH_KEY_POLL_INTERVAL", "225s", "key_poll_interval"),
        ("AUTH_KEY_POLL_INTERVAL", "1ms", "key_poll_interval"),
        ("AUTH_HASH_MEMORY_KIB", "7167", "hash_memory_kib"),
        ("AUTH_HASH_MEMORY_KIB", "19455", "hash_iterations"),
        ("AUTH_HASH_MEMORY_KIB", "262145", "hash_memory_kib"),
        ("AUTH_HASH_ITERATIONS", "1", "hash_iterations"),
        ("AUTH_HASH_PARALLELISM", "0", "hash_parallelism"),
        ("AUTH_HASH_PERMITS", "0", "hash_permits"),
        ("AUTH_HASH_QUEUE", "0", "hash_queue"),
        ("AUTH_HASH_QUEUE", "99999999999999999999", "AUTH_HASH_QUEUE"),
        ("AUTH_PASSWORD_MIN_LENGTH", "7", "password_min_length"),
        ("AUTH_EXTRA_CLAIMS", "tenant,sub", "extra_claims"),
        ("AUTH_CORS_ALLOWED_ORIGINS", "*", "cors_allowed_origins"),
        ("AUTH_CORS_ALLOWED_ORIGINS", "https://app.example.com/", "cors_allowed_origins"),
        ("AUTH_TRUSTED_PROXIES", "balancer", "AUTH_TRUSTED_PROXIES"),
        ("AUTH_BOOTSTRAP_ADMIN_PASSWORD", "", "AUTH_BOOTSTRAP_ADMIN_PASSWORD"),
        ("AUTH_LOG", "loud", "log"),
        ("AUTH_LOG_FORMAT", "xml", "AUTH_LOG_FORMAT"),
    ] {
        assert_refused(&[(variable, value)], key);
    }
}

#[test]
fn issuer_is_https_or_loopback() {
    for good in [
        "https://auth.example.com",
        "https://example.com/auth",
        "http://localhost:8080",
        "http://[::1]:80",
        "http://127.9.9.9",
    ] {
        assert!(load(None, &[("AUTH_ISSUER", good)]).is_ok(), "{good}");
    }
    for bad in [
        "http://auth.example.com",
        "http://localhost.example.com",
        "https://auth.example.com/",
        "https://auth.example.com?x",
        "https://auth.example.com#x",
        "https://user@auth.example.com",
        "auth.example.com",
        "https://",
        "https://a b",
    ] {
        assert_refused(&[("AUTH_ISSUER", bad)], "issuer");
    }
    let insecure = [("AUTH_ISSUER", "http://auth.example.com"), ("AUTH_ALLOW_INSECURE_ISSUER", "true")];
    assert!(!load(None, &insecure).unwrap().warnings.is_empty());
}

#[test]
fn default_grace_is_at_most_half_of_the_access_token_lifetime() {
    let short = [("AUTH_ACCESS_TOKEN_TTL", "5s")];
    assert_eq!(load(None, &short).unwrap().settings.refresh_grace, Seconds(2));
    let equal = [("AUTH_ACCESS_TOKEN_TTL", "5s"), ("AUTH_REFRESH_GRACE", "2s")];
    assert!(load(None, &equal).is_ok());
    assert_refused(&[("AUTH_ACCESS_TOKEN_TTL", "5s"), ("AUTH_REFRESH_GRACE", "3s")], "refresh_grace");
    assert_eq!(load(None, &[("AUTH_REFRESH_GRACE", "0s")]).unwrap().settings.refresh_grace, Seconds(0));
}

#[test]
fn key_is_announced_for_longer_than_caches_keep_the_set() {
    // ¾ × ahead ≥ 10 + 2 + 1 + 2 = 15, so 20 s is the least.
    let schedule = |ahead| {
        [
            ("AUTH_JWKS_MAX_AGE", "10s"),
            ("AUTH_KEY_POLL_INTERVAL", "1s"),
            ("AUTH_CLOCK_BOUND", "1s"),
            ("AUTH_KEY_PUBLISH_AHEAD", ahead),
            ("AUTH_KEY_ROTATION_PERIOD", "30s"),
        ]
    };
    assert!(load(None, &schedule("20s")).is_ok());
    assert_refused(&schedule("19s"), "key_publish_ahead");
    assert!(problems(&schedule("19s"))[0].contains("at least 20s"));
}

#[test]
fn both_listeners_may_use_port_zero() {
    assert!(load(None, &[("AUTH_PUBLIC_ADDR", "127.0.0.1:0"), ("AUTH_ADMIN_ADDR", "127.0.0.1:0")]).is_ok());
}
