//! Events of the audit log.

use std::fmt;

use ring::digest;
use verifier::UnixTime;

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum EventKind {
    Bootstrap,
    Login,
    LoginRefused,
    Logout,
    RefreshRecovered,
    RefreshReuse,
    RefreshFastForwarded,
    SessionEnded,
    PasswordChanged,
    PasswordRefused,
    UserCreated,
    UserChanged,
    UserDeleted,
    RoleChanged,
    RoleDeleted,
    KeyAnnounced,
    KeyCompromised,
    KeysResealed,
    ReplicaDrained,
    ReplicaReturned,
    SettingChanged,
}

impl EventKind {
    /// The name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Login => "login",
            Self::LoginRefused => "login_refused",
            Self::Logout => "logout",
            Self::RefreshRecovered => "refresh_recovered",
            Self::RefreshReuse => "refresh_reuse",
            Self::RefreshFastForwarded => "refresh_fast_forwarded",
            Self::SessionEnded => "session_ended",
            Self::PasswordChanged => "password_changed",
            Self::PasswordRefused => "password_refused",
            Self::UserCreated => "user_created",
            Self::UserChanged => "user_changed",
            Self::UserDeleted => "user_deleted",
            Self::RoleChanged => "role_changed",
            Self::RoleDeleted => "role_deleted",
            Self::KeyAnnounced => "key_announced",
            Self::KeyCompromised => "key_compromised",
            Self::KeysResealed => "keys_resealed",
            Self::ReplicaDrained => "replica_drained",
            Self::ReplicaReturned => "replica_returned",
            Self::SettingChanged => "setting_changed",
        }
    }
}

/// One entry of the audit log, before it is added to a chain. Contains no secret.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// The kind of the event.
    pub kind: EventKind,
    /// The actor: a user id, or `system`, or `cli`.
    pub actor: Option<String>,
    /// The user or object that it concerns.
    pub subject: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// The client's address.
    pub address: Option<String>,
    /// Further details.
    pub detail: Option<String>,
}

impl AuditEvent {
    /// An event with only a kind.
    pub fn new(kind: EventKind) -> Self {
        Self { kind, actor: None, subject: None, session_id: None, address: None, detail: None }
    }

    /// Sets the actor.
    #[must_use]
    pub fn by(self, actor: impl fmt::Display) -> Self {
        Self { actor: Some(actor.to_string()), ..self }
    }

    /// Sets the user or object that it concerns.
    #[must_use]
    pub fn on(self, subject: impl fmt::Display) -> Self {
        Self { subject: Some(subject.to_string()), ..self }
    }

    /// Sets the session.
    #[must_use]
    pub fn in_session(self, id: impl fmt::Display) -> Self {
        Self { session_id: Some(id.to_string()), ..self }
    }

    /// Sets the client's address.
    #[must_use]
    pub fn from_address(self, address: Option<String>) -> Self {
        Self { address, ..self }
    }

    /// Sets the details.
    #[must_use]
    pub fn detail(self, detail: impl fmt::Display) -> Self {
        Self { detail: Some(detail.to_string()), ..self }
    }

    /// The hash that chains this event to the one before it: SHA-256 in lower-case hexadecimal, over the
    /// previous hash and the fields. Each field is preceded by its length, so that different events give
    /// different bytes.
    pub fn chained_hash(&self, prev: &str, chain: &str, seq: i64, at: UnixTime) -> String {
        let (seq, at) = (seq.to_string(), at.0.to_string());
        let fields = [
            Some(prev),
            Some(chain),
            Some(&seq),
            Some(&at),
            Some(self.kind.as_str()),
            self.actor.as_deref(),
            self.subject.as_deref(),
            self.session_id.as_deref(),
            self.address.as_deref(),
            self.detail.as_deref(),
        ];
        let mut context = digest::Context::new(&digest::SHA256);
        for field in fields {
            let length = field.map_or(-1, |text| i64::try_from(text.len()).unwrap_or(i64::MAX));
            context.update(&length.to_be_bytes());
            context.update(field.unwrap_or_default().as_bytes());
        }
        super::hex(context.finish().as_ref())
    }
}
