//! Checks of values and their combinations. Each problem says what to do about it.

use std::{collections::BTreeSet, net::SocketAddr};

use http::Uri;
use secrecy::ExposeSecret;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};
use verifier::Seconds;

use super::{ADMIN_AUDIENCE, Config, ConfigError, Database, Settings, duration, problems::Problems};
use crate::domain::password::HashPolicy;
use crate::domain::revocation::{LARGEST_LEEWAY, LONGEST_ACCESS_TOKEN};

/// Claims that a standard or the service defines; no configuration may redefine them (RFC 7519, RFC 9068, RFC
/// 8693, RFC 7800, OIDC core).
const RESERVED_CLAIMS: &str = "iss sub aud exp nbf iat jti sid client_id scope roles auth_time amr acr azp nonce \
     at_hash c_hash cnf act may_act events sub_id typ token_use";

impl Config {
    /// Fails with every problem of these values. [`Config::load`] has already checked the values that it
    /// returns.
    pub fn check(&self, settings: &Settings) -> Result<(), ConfigError> {
        self.problems(settings).into_result(())
    }

    /// Every problem of the fixed values and of `settings`.
    pub(super) fn problems(&self, settings: &Settings) -> Problems {
        let mut problems = Problems::default();
        self.check_issuer(&mut problems);
        self.check_listeners(&mut problems);
        self.check_storage(&mut problems);
        self.check_clocks(&mut problems);
        self.check_hashing(&mut problems);
        self.check_origins(&mut problems);
        self.check_log(&mut problems);
        problems.append(self.problems_with(settings));
        problems
    }

    /// The problems of `settings`, alone and combined with the fixed values. The fixed values alone are
    /// checked only at the start: that check depends on the machine, which may have changed since, and a
    /// change of settings must not fail because of it.
    pub(super) fn problems_with(&self, settings: &Settings) -> Problems {
        let mut problems = Problems::default();
        settings.check_audiences(&mut problems);
        settings.check_algorithms(&mut problems);
        settings.check_lifetimes(&mut problems);
        self.check_key_schedule(settings, &mut problems);
        settings.check_passwords(&mut problems);
        settings.check_extra_claims(&mut problems);
        problems
    }

    /// Warnings about values that work but are probably a mistake.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
            warnings.push(
                "trusted_proxies: trusts every address, so any client can forge its address and evade limits"
                    .to_owned(),
            );
        }
        if self.allow_insecure_issuer {
            warnings.push(
                "allow_insecure_issuer: tokens and passwords may cross the network without encryption"
                    .to_owned(),
            );
        }
        if self.issuer == Self::default().issuer
            && self.public_addr.port() != Self::default().public_addr.port()
        {
            warnings.push(format!(
                "issuer: is still {}, where nothing listens; set it to the URL at which verifiers reach this service",
                self.issuer
            ));
        }
        warnings
    }

    fn check_issuer(&self, problems: &mut Problems) {
        let issuer = &self.issuer;
        let uri = issuer.parse::<Uri>().ok();
        let authority = uri.as_ref().and_then(Uri::authority);
        let (Some(uri), Some(authority)) = (&uri, authority) else {
            return problems.add("issuer", "must be a URL such as https://auth.example.com");
        };
        if issuer.contains(['?', '#']) || authority.as_str().contains('@') {
            problems.add("issuer", "must have no user, query or fragment");
        }
        if issuer.ends_with('/') {
            problems.add("issuer", "must not end in a slash; it is compared as an exact string");
        }
        if issuer.len() > 256 {
            problems.add("issuer", "must be at most 256 characters; it is in every token");
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(authority.host()) || self.allow_insecure_issuer => {}
            Some("http") => problems.add(
                "issuer",
                "must be https unless it is a loopback address; set allow_insecure_issuer to allow tokens without encryption",
            ),
            _ => problems.add("issuer", "must start with https:// (http:// for loopback)"),
        }
    }

    fn check_listeners(&self, problems: &mut Problems) {
        if overlap(self.public_addr, self.admin_addr) {
            problems.add("admin_addr", "must not conflict with public_addr; choose another port");
        }
    }

    fn check_storage(&self, problems: &mut Problems) {
        match Database::from_url(self.database_url.expose_secret()) {
            None => problems.add("database_url", "must start with sqlite:// or postgres://"),
            Some(Database::Sqlite { path }) => {
                let path = path.to_string_lossy();
                if path.is_empty() || path.ends_with('/') || path.contains(":memory:") {
                    problems.add(
                        "database_url",
                        "must name a file: sqlite://data/auth.db, or sqlite:///var/lib/auth.db",
                    );
                }
                if path.contains(['?', '#']) {
                    problems.add(
                        "database_url",
                        "must have no parameters for SQLite; remove the ? and what follows it",
                    );
                }
            }
            Some(Database::Postgres) => {
                if self.database_url.expose_secret().contains("***") {
                    problems.add(
                        "database_url",
                        "must contain the password itself, not the *** that `config check` prints",
                    );
                }
                if self.master_key.is_none() && self.master_key_file.is_none() {
                    problems.add(
                        "master_key_file",
                        "must be set on PostgreSQL, to the same key on every replica; \
                         create one with `openssl rand -base64 32`",
                    );
                }
            }
        }
        if self.master_key.is_some() && self.master_key_file.is_some() {
            problems.add("master_key_file", "must not be set together with master_key; keep one of them");
        }
    }

    fn check_clocks(&self, problems: &mut Problems) {
        problems.add_unless((0..=LARGEST_LEEWAY.0).contains(&self.leeway.0), "leeway", "must be at most 2m");
        problems.add_unless(
            (1..=LARGEST_LEEWAY.0).contains(&self.clock_bound.0),
            "clock_bound",
            "must be from 1s to 2m",
        );
        problems.add_unless(self.drain_delay.as_secs() <= 600, "drain_delay", "must be at most 10m");
    }

    /// Rule K1, and the bounds that keep a healthy replica ready (K8) and rotation possible.
    fn check_key_schedule(&self, settings: &Settings, problems: &mut Problems) {
        let ahead = i128::from(self.key_publish_ahead.0) * 1000;
        let poll = i128::try_from(self.key_poll_interval.as_millis()).unwrap_or(i128::MAX / 8);
        let caches = i128::from(settings.jwks_max_age.0 + settings.jwks_stale_while_revalidate().0) * 1000;
        let needed = caches + poll + 2 * i128::from(self.clock_bound.0) * 1000;
        if 3 * ahead < 4 * needed {
            let least = Seconds(i64::try_from((4 * needed + 2999) / 3000).unwrap_or(i64::MAX));
            let problem = format!(
                "must be at least {} with this jwks_max_age, key_poll_interval and clock_bound, \
                 or caches would miss a key that already signs (¾ of it must cover 1.2 × jwks_max_age + \
                 key_poll_interval + 2 × clock_bound)",
                show(least),
            );
            problems.add("key_publish_ahead", &problem);
        }
        problems.add_unless(poll >= 50, "key_poll_interval", "must be at least 50ms");
        problems.add_unless(
            4 * poll < ahead,
            "key_poll_interval",
            "must be less than a quarter of key_publish_ahead, or the replica would not stay ready",
        );
        problems.add_unless(
            settings.key_rotation_period >= self.key_publish_ahead,
            "key_rotation_period",
            "must be at least key_publish_ahead, because a successor is announced that long before it signs",
        );
    }

    fn check_hashing(&self, problems: &mut Problems) {
        let policy = self.hash_policy();
        if let Some(least) = policy.fewest_iterations()
            && policy.iterations < least
        {
            problems.add("hash_iterations", &format!("must be at least {least} with this hash_memory_kib"));
        }
        problems.add_unless(
            policy.fewest_iterations().is_some(),
            "hash_memory_kib",
            "must be at least 7168, and 19456 for the usual 2 iterations (OWASP password storage)",
        );
        problems.add_unless(
            policy.memory_kib <= HashPolicy::MOST.memory_kib,
            "hash_memory_kib",
            "must be at most 262144; more expensive stored hashes are refused",
        );
        problems.add_unless(
            policy.iterations <= HashPolicy::MOST.iterations,
            "hash_iterations",
            "must be at most 16; more expensive stored hashes are refused",
        );
        problems.add_unless(
            (1..=HashPolicy::MOST.parallelism).contains(&policy.parallelism),
            "hash_parallelism",
            "must be from 1 to 16",
        );
        problems.add_unless((1..=512).contains(&self.hash_permits), "hash_permits", "must be from 1 to 512");
        problems.add_unless((1..=10_000).contains(&self.hash_queue), "hash_queue", "must be from 1 to 10000");
        let affordable = super::source::hashes_in_half_of_memory(policy.memory_kib);
        if self.hash_permits > affordable {
            let problem = format!(
                "must be at most {affordable}, or hashes could take more than half of the memory; \
                 lower it or hash_memory_kib"
            );
            problems.add("hash_permits", &problem);
        }
    }

    fn check_origins(&self, problems: &mut Problems) {
        if !self.cors_allowed_origins.iter().all(|origin| is_origin(origin)) {
            problems.add(
                "cors_allowed_origins",
                "must be origins as a browser sends them, such as https://app.example.com, without path or wildcard",
            );
        }
    }

    fn check_log(&self, problems: &mut Problems) {
        // A bare word that is not a level would be read as a target, which turns off all other log lines.
        let is_valid = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
        if !self.log.split(',').all(is_valid)
            || EnvFilter::builder().with_regex(false).parse(&self.log).is_err()
        {
            problems.add("log", "must be a level (error, warn, info, debug, trace, off) and target=level pairs, separated by commas");
        }
    }
}

impl Settings {
    fn check_audiences(&self, problems: &mut Problems) {
        if self.audiences.is_empty() {
            problems.add("audiences", "must name at least one; the first is the default");
        }
        if !are_distinct(&self.audiences) {
            problems.add("audiences", "must name each one once");
        }
        if !self.audiences.iter().all(|name| is_plain(name, 255)) {
            problems.add(
                "audiences",
                "must be 1 to 255 printable ASCII characters each, without space, comma, quote or backslash",
            );
        }
        if self.audiences.iter().any(|name| name == ADMIN_AUDIENCE) {
            problems.add("audiences", "must not name auth-admin, which always exists; remove it");
        }
    }

    fn check_algorithms(&self, problems: &mut Problems) {
        let kept = &self.signing_algorithms;
        if kept.iter().enumerate().any(|(i, algorithm)| kept[..i].contains(algorithm)) {
            problems.add("signing_algorithms", "must name each one once");
        }
        if !kept.contains(&self.signing_algorithm) {
            problems.add("signing_algorithms", "must contain signing_algorithm; add it");
        }
        for (audience, algorithm) in &self.audience_algorithms {
            if !self.knows_audience(audience) {
                problems.add("audience_algorithms", "must name only audiences of `audiences`, or auth-admin");
            }
            if !kept.contains(algorithm) {
                problems.add(
                    "audience_algorithms",
                    "must use only algorithms of signing_algorithms; add it there",
                );
            }
        }
    }

    fn check_lifetimes(&self, problems: &mut Problems) {
        problems.add_unless(
            (1..=LONGEST_ACCESS_TOKEN.0).contains(&self.access_token_ttl.0),
            "access_token_ttl",
            "must be from 1s to 1h",
        );
        problems.add_unless(
            self.refresh_idle_ttl >= self.access_token_ttl,
            "refresh_idle_ttl",
            "must be at least access_token_ttl, or no session could be refreshed",
        );
        problems.add_unless(
            self.refresh_absolute_ttl >= self.refresh_idle_ttl,
            "refresh_absolute_ttl",
            "must be at least refresh_idle_ttl",
        );
        if self.refresh_grace > self.max_refresh_grace() || self.refresh_grace < Seconds(0) {
            let most = show(self.max_refresh_grace());
            let problem = format!("must be at most {most}: 10s, or half of access_token_ttl if that is less");
            problems.add("refresh_grace", &problem);
        }
    }

    fn check_passwords(&self, problems: &mut Problems) {
        problems.add_unless(
            (8..=64).contains(&self.password_min_length),
            "password_min_length",
            "must be from 8 to 64: less is too weak, and 64 must always be accepted (NIST SP 800-63B-4)",
        );
    }

    fn check_extra_claims(&self, problems: &mut Problems) {
        if self.extra_claims.iter().any(|name| RESERVED_CLAIMS.split(' ').any(|reserved| reserved == name)) {
            problems.add("extra_claims", "must not name a claim that the service or a standard defines");
        }
        if !self.extra_claims.iter().all(|name| is_plain(name, 64)) {
            problems.add(
                "extra_claims",
                "must be 1 to 64 printable ASCII characters each, without space, comma, quote or backslash",
            );
        }
        if self.extra_claims.len() > 32 || !are_distinct(&self.extra_claims) {
            problems.add("extra_claims", "must be at most 32 names, each once");
        }
    }
}

fn show(seconds: Seconds) -> String {
    duration::format(std::time::Duration::from_secs(seconds.0.unsigned_abs()))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether two listeners conflict: the second one could not bind, or would take connections of the first.
fn overlap(left: SocketAddr, right: SocketAddr) -> bool {
    left.port() != 0
        && left.port() == right.port()
        && (left.ip() == right.ip() || left.ip().is_unspecified() || right.ip().is_unspecified())
}

fn are_distinct(names: &[String]) -> bool {
    names.iter().collect::<BTreeSet<_>>().len() == names.len()
}

/// Whether a name needs no quoting in lists of the environment, in JSON and in logs.
fn is_plain(name: &str, most: usize) -> bool {
    (1..=most).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'"' | b'\\'))
}

fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    matches!(scheme, "https" | "http")
        && authority.parse::<http::uri::Authority>().is_ok_and(|parsed| parsed.as_str() == authority)
        && !authority.contains(['@', '*'])
        && origin.bytes().all(|byte| !byte.is_ascii_uppercase())
}
