//! What the audit log records.

use std::fmt;

use ring::digest;
use verifier::UnixTime;

/// Something that happened, in the words of the audit log.
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

/// One entry of the audit log, before it has a place in a chain. Holds no secret.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// What happened.
    pub kind: EventKind,
    /// Who did it: a user id, or `system`, or `cli`.
    pub actor: Option<String>,
    /// To whom or what it happened.
    pub subject: Option<String>,
    /// In which session.
    pub session_id: Option<String>,
    /// The client's address.
    pub address: Option<String>,
    /// Anything else worth knowing.
    pub detail: Option<String>,
}

impl AuditEvent {
    /// An event of which nothing else is known yet.
    pub fn new(kind: EventKind) -> Self {
        Self { kind, actor: None, subject: None, session_id: None, address: None, detail: None }
    }

    /// Says who did it.
    #[must_use]
    pub fn by(self, actor: impl fmt::Display) -> Self {
        Self { actor: Some(actor.to_string()), ..self }
    }

    /// Says to whom or what it happened.
    #[must_use]
    pub fn on(self, subject: impl fmt::Display) -> Self {
        Self { subject: Some(subject.to_string()), ..self }
    }

    /// Says in which session it happened.
    #[must_use]
    pub fn in_session(self, id: impl fmt::Display) -> Self {
        Self { session_id: Some(id.to_string()), ..self }
    }

    /// Says from which address it came.
    #[must_use]
    pub fn from_address(self, address: Option<String>) -> Self {
        Self { address, ..self }
    }

    /// Adds a remark.
    #[must_use]
    pub fn detail(self, detail: impl fmt::Display) -> Self {
        Self { detail: Some(detail.to_string()), ..self }
    }

    /// The hash that chains this event to the one before it: SHA-256, lower-case hexadecimal, over the previous hash and the fields,
    /// each preceded by its length, so that no two events give the same bytes.
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
