//! Configuration: a file, the environment and the database in; checked values out.
//!
//! ```text
//! --config file.toml ─┐
//! AUTH_* environment ─┼─▶ load ──▶ defaults that depend on others ──▶ check ──▶ Config, Settings
//! AUTH_*_FILE secrets ┘   (source)                (mod)               (check)     │       │
//!                                                                       config check prints them (print)
//! values that operators stored ──────────────────────────────▶ Settings under file and environment (layers)
//! ```
//!
//! Two lists in this file are the only ones: names in the file, names in the environment, in the admin API and what is printed come
//! from them. What stands in [`Config`] is fixed until the process ends; what stands in [`Settings`] changes while it runs, and
//! nothing that is built once can be made from it by mistake.
//!
//! Nothing else in the crate reads the environment.

mod check;
mod duration;
mod layers;
mod policies;
mod print;
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

pub use self::layers::{Checked, Layers, NewValue, Stored, is_live, known, read_toml, to_be_stored};
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
            /// The name of every key, in the order of the documentation.
            const KEYS: &[&str] = &[$(stringify!($name)),+];

            /// Reads one value into its field; `key` is one of [`KEYS`](Self::KEYS).
            fn set(&mut self, key: &str, raw: Raw<'_>) -> Result<(), String> {
                match key {
                    $(stringify!($name) => self.$name = Setting::read(raw)?,)+
                    _ => return Err("is not a setting".to_owned()),
                }
                Ok(())
            }

            /// Every key with its value in TOML; `None` when it is not set.
            fn written(&self) -> Vec<(&'static str, Option<String>)> {
                vec![$((stringify!($name), self.$name.write())),+]
            }
        }
    };
}

settings! {
    /// What is fixed until the process ends, under the name it has in the file and, as `AUTH_` and upper case, in the environment.
    ///
    /// These name the process and its machine, or hold the rules K1, K4 and K8 together: see docs/design-decisions.md.
    Config {
        /// The exact `iss` of every token, and the URL under which verifiers find the key set.
        issuer: String = "http://127.0.0.1:8080".to_owned();
        /// Accepts an `http://` issuer that is not loopback. Tokens then cross the network in clear.
        allow_insecure_issuer: bool = false;
        /// The listener for clients and verifiers; port 0 picks a free one.
        public_addr: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080));
        /// The listener for operators and scrapers; port 0 picks a free one.
        admin_addr: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8081));
        /// `sqlite://path` or `postgres://user:password@host/database`.
        database_url: SecretString = "sqlite://data/auth.db".into();
        /// The file with the master keys: base64, 32 bytes a line; the first seals, all open.
        master_key_file: Option<PathBuf> = None;
        /// The master keys themselves, instead of a file.
        master_key: Option<SecretString> = None;
        /// Origins whose browser scripts may call the public listener.
        cors_allowed_origins: Vec<String> = Vec::new();
        /// How long a stopping replica still accepts requests while its readiness says no.
        drain_delay: Duration = Duration::from_secs(5);
        /// How long a key is published before it signs.
        key_publish_ahead: Seconds = Seconds(15 * 60);
        /// How often a replica reads the key table.
        key_poll_interval: Duration = Duration::from_secs(5);
        /// How far this replica's clock may be from the database's before it stops issuing.
        clock_bound: Seconds = Seconds(5);
        /// The clock difference that verifiers tolerate.
        leeway: Seconds = Seconds(30);
        /// Memory of one password hash.
        hash_memory_kib: u32 = 19_456;
        /// Passes of one password hash over its memory.
        hash_iterations: u32 = 2;
        /// Lanes of one password hash.
        hash_parallelism: u32 = 1;
        /// Password hashes that may run at once: one for each CPU, within half of the memory.
        hash_permits: usize = source::cpu_count();
        /// Password hashes that may wait; more are refused at once.
        hash_queue: usize = 64;
        /// Networks of the balancers whose `X-Forwarded-For` is believed.
        trusted_proxies: Vec<IpNet> = Vec::new();
        /// Shape of the log: text on a terminal, else JSON, unless set.
        log_format: LogFormat = LogFormat::Auto;
        /// What is logged, as `level` or `target=level,…`.
        log: String = "info".to_owned();
        /// The first password of `admin`, used once; a random one is printed when it is not set.
        bootstrap_admin_password: Option<SecretString> = None;
    }
}

settings! {
    /// What operators may change while the service runs (`/admin/v1/settings`), unless the file or the environment says otherwise.
    ///
    /// Nothing here may be baked into what is built once. A flow takes one snapshot and uses it to its end.
    Settings {
        /// The audiences that a login may ask for; the first is the default.
        audiences: Vec<String> = vec!["api".to_owned()];
        /// The algorithm of audiences that `audience_algorithms` does not name.
        signing_algorithm: Algorithm = Algorithm::ES256;
        /// The algorithms for which keys are kept.
        signing_algorithms: Vec<Algorithm> = vec![Algorithm::ES256];
        /// Audiences that use another algorithm than `signing_algorithm`.
        audience_algorithms: BTreeMap<String, Algorithm> = BTreeMap::new();
        /// How long an access token lives.
        access_token_ttl: Seconds = Seconds(300);
        /// A session ends when it was not refreshed for so long.
        refresh_idle_ttl: Seconds = Seconds(7 * DAY);
        /// A session ends so long after the login, however often it was refreshed.
        refresh_absolute_ttl: Seconds = Seconds(30 * DAY);
        /// A refresh repeated within this time gets the same answer again.
        refresh_grace: Seconds = LONGEST_GRACE;
        /// Gives a client whose answer was lost another one, however late; `false` treats that as reuse.
        refresh_recovery: bool = true;
        /// A login beyond this number ends the oldest session of the user; 0 is no limit.
        max_sessions_per_user: u32 = 50;
        /// How long a key signs before its successor is due.
        key_rotation_period: Seconds = Seconds(30 * DAY);
        /// How long a cache may keep the key set; it may serve it a fifth longer while it fetches a new one.
        jwks_max_age: Seconds = Seconds(5 * 60);
        /// The shortest password, in code points. NIST SP 800-63B-4 asks 15 where a password is the only factor.
        password_min_length: u32 = 12;
        /// Names of claims that a user may carry beyond those of the service.
        extra_claims: Vec<String> = Vec::new();
    }
}

const DAY: i64 = 86_400;

/// The settings whose values are never printed, and which may be read from a file named by `AUTH_<KEY>_FILE`.
const SECRETS: [&str; 3] = ["database_url", "master_key", "bootstrap_admin_password"];

/// Above this a thief who replays a token would be answered for too long.
const LONGEST_GRACE: Seconds = Seconds(10);

/// Shape of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which database the URL names.
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
    /// Tells the database from its URL; `None` when the URL names neither.
    pub fn from_url(url: &str) -> Option<Self> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Some(Self::Postgres);
        }
        let path = url.strip_prefix("sqlite:")?;
        Some(Self::Sqlite { path: path.strip_prefix("//").unwrap_or(path).into() })
    }
}

/// A configuration that may be used, and what the operator should hear about it.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What is fixed until the process ends.
    pub config: Config,
    /// What can change at run time, as file and environment alone have it.
    pub settings: Settings,
    /// Which keys were set, and where.
    pub given: Given,
    /// Sentences that name the key and what to do.
    pub warnings: Vec<String>,
}

/// Where a value comes from. Later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// An operator stored it.
    Database,
    /// The file that `--config` names.
    File,
    /// An `AUTH_` variable.
    Environment,
}

impl Source {
    /// The name on the wire.
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

/// Why the service does not start: every problem at once, each naming its key and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// One sentence a problem, never with a value that could be secret.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration cannot be used:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl Config {
    /// Reads the file and this process's environment.
    pub fn load(file: Option<&Path>) -> Result<Loaded, ConfigError> {
        source::load(file, std::env::vars_os())
    }

    /// Which database `database_url` names.
    pub fn database(&self) -> Database {
        // `check` refuses every other URL; a hand-made Config gets a file of that name rather than a panic.
        Database::from_url(self.database_url.expose_secret())
            .unwrap_or_else(|| Database::Sqlite { path: self.database_url.expose_secret().into() })
    }

    /// Where a master key file is looked for, or on SQLite created: the configured path, else beside the database file.
    ///
    /// `None` when the key is given directly, or on PostgreSQL without a file.
    pub fn master_key_path(&self) -> Option<PathBuf> {
        match (&self.master_key, &self.master_key_file, self.database()) {
            (Some(_), _, _) | (None, None, Database::Postgres) => None,
            (None, Some(file), _) => Some(file.clone()),
            (None, None, Database::Sqlite { path }) => Some(path.with_file_name("master.key")),
        }
    }

    /// How long the end of a session is remembered, here and by verifiers.
    pub fn keep_revocations_for(&self) -> Seconds {
        revocation::keep_for(self.clock_bound)
    }

    /// The cost of new password hashes.
    pub fn hash_policy(&self) -> HashPolicy {
        HashPolicy {
            memory_kib: self.hash_memory_kib,
            iterations: self.hash_iterations,
            parallelism: self.hash_parallelism,
        }
    }

    /// Fills in the default that depends on other values, unless it was `given`.
    fn derive_defaults(&mut self, given: &Given) {
        if !given.contains_key("hash_permits") {
            self.hash_permits = self.hash_permits.min(source::hashes_in_half_of_memory(self.hash_memory_kib));
        }
    }
}

impl Settings {
    /// How long a cache may go on serving a key set past `jwks_max_age` while it fetches a new one: a fifth of it.
    pub fn jwks_stale_while_revalidate(&self) -> Seconds {
        Seconds(self.jwks_max_age.0 / 5)
    }

    /// The algorithm that signs tokens for `audience`.
    pub fn algorithm_for(&self, audience: &str) -> Algorithm {
        self.audience_algorithms.get(audience).copied().unwrap_or(self.signing_algorithm)
    }

    /// Whether tokens for `audience` may be issued at all.
    pub fn knows_audience(&self, audience: &str) -> bool {
        audience == ADMIN_AUDIENCE || self.audiences.iter().any(|known| known == audience)
    }

    /// Fills in the default that depends on other values, unless it was set.
    fn derive_defaults(&mut self, is_set: impl Fn(&str) -> bool) {
        if !is_set("refresh_grace") {
            self.refresh_grace = self.longest_grace();
        }
    }

    /// 10 s, or half of an access token's life if that is less: a repeated answer must still be of use.
    fn longest_grace(&self) -> Seconds {
        Seconds(LONGEST_GRACE.0.min(self.access_token_ttl.0 / 2))
    }
}

#[cfg(test)]
mod documents;
#[cfg(test)]
mod tests;
