//! Configuration: reads file, environment and stored settings, and returns checked values.
//!
//! ```text
//! --config file.toml ─┐
//! AUTH_* environment ─┼─▶ load ──▶ defaults that depend on others ──▶ check ──▶ Config, Settings
//! AUTH_*_FILE secrets ┘   (source)                (mod)               (check)     │       │
//!                                                                       config check prints them (print)
//! values that operators stored ──────────────────────────────▶ Settings under file and environment (layers)
//! ```
//!
//! The two lists in this file declare every key. The names in the file, in the environment, in the admin API
//! and in printed output come from them. The values in [`Config`] are fixed until the process ends; those in
//! [`Settings`] can change while it runs. They are two types, so that no part that is built once is built
//! from a value that can change.
//!
//! No other module reads the environment.

mod check;
mod duration;
mod layers;
mod policies;
mod print;
mod problems;
mod setting;
mod source;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use verifier::{Algorithm, Seconds};

use self::setting::{Raw, Setting};
use crate::domain::password::HashPolicy;
use crate::domain::revocation;

pub use self::layers::{Layers, NewValue, Stored, is_live, known, read_toml, to_be_stored};
pub use self::policies::rotation_policy;

/// The audience of tokens for the admin API. It always exists and is never listed.
pub const ADMIN_AUDIENCE: &str = "auth-admin";

/// Declares every key once: its documentation, type and default.
macro_rules! settings {
    ($(#[doc = $group_doc:literal])+ $group:ident {
        $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)+
    }) => {
        $(#[doc = $group_doc])+
        #[derive(Debug, Clone)]
        pub struct $group {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for $group {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl $group {
            /// The name of every key, in the order of their declaration.
            const KEYS: &[&str] = &[$(stringify!($name)),+];

            /// Reads one value into its field; `key` is one of [`KEYS`](Self::KEYS).
            fn set(&mut self, key: &str, raw: Raw<'_>) -> Result<(), String> {
                match key {
                    $(stringify!($name) => self.$name = Setting::read(raw)?,)+
                    _ => return Err("is not a setting".to_owned()),
                }
                Ok(())
            }

            /// Every key with its value in TOML, or `None` if it is not set.
            fn written(&self) -> Vec<(&'static str, Option<String>)> {
                vec![$((stringify!($name), self.$name.write())),+]
            }
        }
    };
}

settings! {
    /// Values that are fixed until the process ends. A field has the name of its key in the file; in the
    /// environment, the key is in upper case after `AUTH_`.
    ///
    /// They describe the process and its machine, or the rules K1, K4 and K8 depend on them: see
    /// docs/design-decisions.md.
    Config {
        /// The exact `iss` of every token, and the URL at which verifiers find the key set.
        issuer: String = "http://127.0.0.1:8080".to_owned();
        /// Accepts an `http://` issuer that is not loopback. Tokens then cross the network without
        /// encryption.
        allow_insecure_issuer: bool = false;
        /// The listener for clients and verifiers; port 0 picks a free one.
        public_addr: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080));
        /// The listener for operators and scrapers; port 0 picks a free one.
        admin_addr: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8081));
        /// `sqlite://path` or `postgres://user:password@host/database`.
        database_url: SecretString = "sqlite://data/auth.db".into();
        /// The file with the master keys: base64, one key of 32 bytes per line; the first seals, all open.
        master_key_file: Option<PathBuf> = None;
        /// The master keys themselves, instead of a file.
        master_key: Option<SecretString> = None;
        /// Origins whose browser scripts may call the public listener.
        cors_allowed_origins: Vec<String> = Vec::new();
        /// How long a stopping replica still accepts requests while it reports that it is not ready.
        drain_delay: Duration = Duration::from_secs(5);
        /// How long a key is published before it signs.
        key_publish_ahead: Seconds = Seconds(15 * 60);
        /// Interval at which a replica polls the key table.
        key_poll_interval: Duration = Duration::from_secs(5);
        /// Tolerated difference between the clocks of this replica and the database; beyond it, the replica
        /// stops issuing.
        clock_bound: Seconds = Seconds(5);
        /// Clock difference that verifiers tolerate.
        leeway: Seconds = Seconds(30);
        /// Memory of one password hash, in KiB.
        hash_memory_kib: u32 = 19_456;
        /// Passes of one password hash over its memory.
        hash_iterations: u32 = 2;
        /// Lanes of one password hash.
        hash_parallelism: u32 = 1;
        /// Password hashes computed in parallel: one per CPU, within half of the memory.
        hash_permits: usize = source::cpu_count();
        /// Password hashes that may wait; more are refused immediately.
        hash_queue: usize = 64;
        /// The list of breached passwords, instead of the bundled one.
        breached_passwords_file: Option<PathBuf> = None;
        /// Networks of the proxies whose `X-Forwarded-For` and `Forwarded` are trusted.
        trusted_proxies: Vec<IpNet> = Vec::new();
        /// Format of the log.
        log_format: LogFormat = LogFormat::Auto;
        /// Log filter: a level, and `target=level` pairs, separated by commas.
        log: String = "info".to_owned();
        /// The first password of `admin`, used once. If it is not set, a random one is generated and shown.
        bootstrap_admin_password: Option<SecretString> = None;
    }
}

settings! {
    /// Values that operators can change while the service runs (`/admin/v1/settings`), unless file or
    /// environment override them.
    ///
    /// Parts that are built once must not copy a value from here. A flow takes one snapshot and uses it to
    /// its end.
    Settings {
        /// Audiences that a login may request; the first is the default.
        audiences: Vec<String> = vec!["api".to_owned()];
        /// Algorithm of audiences that are not in `audience_algorithms`.
        signing_algorithm: Algorithm = Algorithm::ES256;
        /// Algorithms for which keys are kept.
        signing_algorithms: Vec<Algorithm> = vec![Algorithm::ES256];
        /// Audiences with an algorithm other than `signing_algorithm`.
        audience_algorithms: BTreeMap<String, Algorithm> = BTreeMap::new();
        /// Lifetime of access tokens.
        access_token_ttl: Seconds = Seconds(300);
        /// A session ends after this time without a refresh.
        refresh_idle_ttl: Seconds = Seconds(7 * DAY);
        /// A session ends this long after login, however often it was refreshed.
        refresh_absolute_ttl: Seconds = Seconds(30 * DAY);
        /// A refresh repeated within this time returns the same response.
        refresh_grace: Seconds = MAX_REFRESH_GRACE;
        /// Gives a client whose response was lost a new one, however late; `false` treats that as reuse.
        refresh_recovery: bool = true;
        /// A login beyond this number ends the user's oldest session; 0 means no limit.
        max_sessions_per_user: u32 = 50;
        /// How long a key signs before its successor is due.
        key_rotation_period: Seconds = Seconds(30 * DAY);
        /// How long a cache may keep the key set; it may serve it a fifth longer while it fetches a new one.
        jwks_max_age: Seconds = Seconds(5 * 60);
        /// Minimum length of a password, in code points. NIST SP 800-63B-4 requires 15 where a password is
        /// the only factor.
        password_min_length: u32 = 12;
        /// Names of additional claims that users may have.
        extra_claims: Vec<String> = Vec::new();
    }
}

const DAY: i64 = 86_400;

/// Keys whose values are never printed. Each may also be read from a file that `AUTH_<KEY>_FILE` names.
const SECRETS: [&str; 3] = ["database_url", "master_key", "bootstrap_admin_password"];

/// Maximum of `refresh_grace`: for this long, a stolen token that was just used can be replayed.
const MAX_REFRESH_GRACE: Seconds = Seconds(10);

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, otherwise JSON.
    Auto,
    /// One readable line per event.
    Text,
    /// One JSON object per line.
    Json,
}

/// The kind of database that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// One file on this node.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
    /// A server that all replicas share.
    Postgres,
}

impl Database {
    /// The database of a URL; `None` if it is neither SQLite nor PostgreSQL.
    pub fn from_url(url: &str) -> Option<Self> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Some(Self::Postgres);
        }
        let path = url.strip_prefix("sqlite:")?;
        Some(Self::Sqlite { path: path.strip_prefix("//").unwrap_or(path).into() })
    }
}

/// A valid configuration, and warnings for the operator.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The values that are fixed until the process ends.
    pub config: Config,
    /// The values that can change while the service runs, without stored ones.
    pub settings: Settings,
    /// The keys that were set, and where.
    pub given: Given,
    /// Sentences that name the key and what to do.
    pub warnings: Vec<String>,
}

/// The source of a value. Later ones override earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// It is not set anywhere.
    Default,
    /// An operator stored it.
    Database,
    /// The file that `--config` names.
    File,
    /// An `AUTH_` variable.
    Environment,
}

impl Source {
    /// The name in the API and in printed output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Database => "database",
            Self::File => "file",
            Self::Environment => "environment",
        }
    }
}

/// The keys that file or environment set.
pub type Given = BTreeMap<&'static str, Source>;

/// Every problem of a configuration. Each names its key and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// One sentence per problem, without values that could be secret.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration cannot be used:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl Config {
    /// Reads and checks the file and the environment of this process.
    pub fn load(file: Option<&Path>) -> Result<Loaded, ConfigError> {
        source::load(file, std::env::vars_os())
    }

    /// The database that `database_url` names.
    pub fn database(&self) -> Database {
        // `check` refuses every other URL. In a Config that was not checked, the URL is taken as a file name.
        Database::from_url(self.database_url.expose_secret())
            .unwrap_or_else(|| Database::Sqlite { path: self.database_url.expose_secret().into() })
    }

    /// The path of the master key file: as configured, or on SQLite the default beside the database file,
    /// where it is created if missing. `None` if the key is given directly, or on PostgreSQL without a file.
    pub fn master_key_path(&self) -> Option<PathBuf> {
        match (&self.master_key, &self.master_key_file, self.database()) {
            (Some(_), _, _) | (None, None, Database::Postgres) => None,
            (None, Some(file), _) => Some(file.clone()),
            (None, None, Database::Sqlite { path }) => Some(path.with_file_name("master.key")),
        }
    }

    /// How long this service and verifiers remember that a session has ended.
    pub fn keep_revocations_for(&self) -> Seconds {
        revocation::keep_for(self.clock_bound)
    }

    /// The parameters of new password hashes.
    pub fn hash_policy(&self) -> HashPolicy {
        HashPolicy {
            memory_kib: self.hash_memory_kib,
            iterations: self.hash_iterations,
            parallelism: self.hash_parallelism,
        }
    }

    /// Sets the default that depends on other values, unless the key was `given`.
    fn derive_defaults(&mut self, given: &Given) {
        if !given.contains_key("hash_permits") {
            self.hash_permits = self.hash_permits.min(source::hashes_in_half_of_memory(self.hash_memory_kib));
        }
    }
}

impl Settings {
    /// How long past `jwks_max_age` a cache may serve a key set while it fetches a new one: a fifth of
    /// `jwks_max_age`.
    pub fn jwks_stale_while_revalidate(&self) -> Seconds {
        Seconds(self.jwks_max_age.0 / 5)
    }

    /// The algorithm that signs tokens for `audience`.
    pub fn algorithm_for(&self, audience: &str) -> Algorithm {
        self.audience_algorithms.get(audience).copied().unwrap_or(self.signing_algorithm)
    }

    /// Whether tokens for `audience` may be issued.
    pub fn knows_audience(&self, audience: &str) -> bool {
        audience == ADMIN_AUDIENCE || self.audiences.iter().any(|known| known == audience)
    }

    /// Sets the default that depends on other values, unless the key is set.
    fn derive_defaults(&mut self, is_set: impl Fn(&str) -> bool) {
        if !is_set("refresh_grace") {
            self.refresh_grace = self.max_refresh_grace();
        }
    }

    /// 10 s, or half of the access token's lifetime if that is less: the token in a repeated response must
    /// still be useful.
    fn max_refresh_grace(&self) -> Seconds {
        Seconds(MAX_REFRESH_GRACE.0.min(self.access_token_ttl.0 / 2))
    }
}

#[cfg(test)]
mod documents;
#[cfg(test)]
mod tests;
