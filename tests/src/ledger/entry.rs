//! One line of the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::client::{Answer, Lost, Tokens};
use crate::jwt::Peek;
use crate::keys::Key;

/// One call or observation, and the times since the epoch between which it happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When the call left the client.
    #[serde(with = "micros")]
    pub sent: Duration,
    /// When the response arrived.
    #[serde(with = "micros")]
    pub answered: Duration,
    /// Its outcome.
    pub outcome: Outcome,
    /// Its kind and data.
    pub call: Call,
}

/// The outcome of a call from the client's view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It happened.
    Ok,
    /// It was refused: it has not happened and will not happen.
    Fail(String),
    /// Unknown: there was no response, or one that reports a failure on the way.
    Info(String),
}

/// The calls that the checkers know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// A login, and its tokens.
    Login(Option<Grant>),
    /// A refresh.
    Refresh {
        /// The session.
        session: String,
        /// The presented refresh token.
        presented: String,
        /// The new tokens.
        grant: Option<Grant>,
    },
    /// A logout, or any other requested end of a session.
    End {
        /// The session.
        session: String,
    },
    /// A key was reported as stolen.
    Compromise {
        /// Its key id.
        kid: String,
    },
    /// A token was checked.
    Verify {
        /// [`Peek::id`] of the token.
        token: String,
        /// Whether the verifier reads the revocation feed.
        connected: bool,
    },
    /// A replica published a key set.
    KeySet {
        /// Its number.
        replica: usize,
        /// Names and whole keys.
        keys: BTreeMap<String, String>,
    },
    /// A key and its schedule in the admin API at the end.
    Key(Key),
    /// A durable object was created: a user, a password.
    Make {
        /// Its name.
        thing: String,
    },
    /// The object was looked up afterwards; failed if it is missing.
    Find {
        /// Its name.
        thing: String,
    },
    /// The resources of a process of the service.
    Process {
        /// The replica.
        replica: usize,
        /// Its process id, which distinguishes restarts.
        process: u32,
        /// Resident memory.
        rss_kib: u64,
        /// The number of open files.
        files: u64,
    },
    /// A process panicked, or ended unexpectedly.
    Died(String),
    /// A function that must always work was used.
    Must(String),
    /// An action of the driver on the service.
    Deed(String),
}

/// The tokens in a response.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// The refresh token.
    pub refresh: String,
    /// The content of the access token.
    pub access: Peek,
}

impl Grant {
    /// The content of `tokens`.
    pub fn of(tokens: &Tokens) -> Self {
        Self { refresh: tokens.refresh.clone(), access: Peek::into(&tokens.access) }
    }
}

impl Outcome {
    /// The outcome of a call with this response. A 4xx is a refusal by the service, except for 429, which only
    /// asks for patience; anything else but success is unknown.
    pub fn of(answer: &Result<Answer, Lost>) -> Self {
        match answer {
            Ok(answer) if answer.status.is_success() => Self::Ok,
            Ok(answer) if answer.status.is_client_error() && answer.retry_after().is_none() => {
                Self::Fail(answer.to_string())
            }
            Ok(answer) => Self::Info(answer.status.as_str().to_owned()),
            Err(lost) => Self::Info(lost.why.clone()),
        }
    }

    /// The kind of a failure in one word: `401`, `overloaded`, `503` from the service, `502` from the proxy, `reset`.
    pub fn kind(answer: &Result<Answer, Lost>) -> Result<(), String> {
        match answer {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer)
                if answer.status == StatusCode::SERVICE_UNAVAILABLE && answer.served_by().is_none() =>
            {
                Err("503 of the proxy".to_owned())
            }
            Ok(answer) if answer.code() == "overloaded" => Err("overloaded".to_owned()),
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
