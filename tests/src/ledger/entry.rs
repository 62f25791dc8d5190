//! What one line of the ledger says.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::client::{Answer, Lost, Tokens};
use crate::jwt::Peek;
use crate::keys::Key;

/// One call, or one thing seen, with the times since the epoch between which it happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When the call left the client.
    #[serde(with = "micros")]
    pub sent: Duration,
    /// When the answer was there.
    #[serde(with = "micros")]
    pub answered: Duration,
    /// What is known about it.
    pub outcome: Outcome,
    /// What it was.
    pub call: Call,
}

/// What a client knows about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It happened.
    Ok,
    /// It was refused: it did not happen and will not.
    Fail(String),
    /// Nobody knows: no answer came, or one that says that something broke on the way.
    Info(String),
}

/// The calls that the checkers know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// A login, and what it gave.
    Login(Option<Grant>),
    /// A refresh.
    Refresh {
        /// The session.
        session: String,
        /// The refresh token that was shown.
        presented: String,
        /// What it gave.
        grant: Option<Grant>,
    },
    /// A logout, or any other end of a session that was asked for.
    End {
        /// The session.
        session: String,
    },
    /// A key was said to be in other hands.
    Compromise {
        /// Its name.
        kid: String,
    },
    /// A token was checked.
    Verify {
        /// [`Peek::id`] of the token.
        token: String,
        /// Whether the verifier hears the revocation feed.
        connected: bool,
    },
    /// A replica published a key set.
    KeySet {
        /// Its number.
        replica: usize,
        /// Names and whole keys.
        keys: BTreeMap<String, String>,
    },
    /// A key and its schedule, as the admin API tells it in the end.
    Key(Key),
    /// Something that must stay was made: a user, a password.
    Make {
        /// What.
        thing: String,
    },
    /// It was looked for afterwards; failed when it is gone.
    Find {
        /// What.
        thing: String,
    },
    /// What a process of the service used.
    Process {
        /// The replica.
        replica: usize,
        /// Its process id, which tells one life from the next.
        process: u32,
        /// Resident memory.
        rss_kib: u64,
        /// Open files.
        files: u64,
    },
    /// A process panicked, or ended although nobody had asked it to.
    Died(String),
    /// Something that must always work was tried.
    Must(String),
    /// What the driver itself did to the service.
    Deed(String),
}

/// The tokens that an answer held.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// The refresh token.
    pub refresh: String,
    /// What the access token says.
    pub access: Peek,
}

impl Grant {
    /// What `tokens` are.
    pub fn of(tokens: &Tokens) -> Self {
        Self { refresh: tokens.refresh.clone(), access: Peek::into(&tokens.access) }
    }
}

impl Outcome {
    /// What `answer` tells about the call. A 4xx is the service's no; after anything else but success nobody knows.
    pub fn of(answer: &Result<Answer, Lost>) -> Self {
        match answer {
            Ok(answer) if answer.status.is_success() => Self::Ok,
            Ok(answer) if answer.status.is_client_error() => Self::Fail(answer.to_string()),
            Ok(answer) => Self::Info(answer.status.as_str().to_owned()),
            Err(lost) => Self::Info(lost.why.clone()),
        }
    }

    /// What happened, in a word, if it did not go well: `401`, `503` from the service, `502` from the proxy, `reset`.
    pub fn kind(answer: &Result<Answer, Lost>) -> Result<(), String> {
        match answer {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer)
                if answer.status == StatusCode::SERVICE_UNAVAILABLE && answer.served_by().is_none() =>
            {
                Err("503 of the proxy".to_owned())
            }
            Ok(answer) => Err(answer.status.as_str().to_owned()),
            Err(lost) if lost.why.starts_with("no answer") => Err("no answer".to_owned()),
            Err(_) => Err("reset".to_owned()),
        }
    }
}

mod micros {
    //! A duration as whole microseconds.

    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}
