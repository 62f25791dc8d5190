//! Events of the audit log.

use std::fmt;

use ring::digest;
use verifier::UnixTime;

use super::authority::{Actor, Reason};

/// Generates [`EventKind`] from rows: name, name in the database and on the wire.
macro_rules! event_kinds {
    ($($name:ident, $text:literal;)+) => {
        /// The kind of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names say it")]
        pub enum EventKind {
            $($name),+
        }

        impl EventKind {
            /// All of them, in the order of the documents.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name in the database and on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text),+
                }
            }
        }
    };
}

event_kinds! {
    Bootstrap, "bootstrap";
    Login, "login";
    LoginRefused, "login_refused";
    Logout, "logout";
    RefreshRecovered, "refresh_recovered";
    RefreshReuse, "refresh_reuse";
    RefreshFastForwarded, "refresh_fast_forwarded";
    SessionEnded, "session_ended";
    PasswordChanged, "password_changed";
    PasswordRefused, "password_refused";
    UserCreated, "user_created";
    UserChanged, "user_changed";
    UserDeleted, "user_deleted";
    UserUnlocked, "user_unlocked";
    RoleChanged, "role_changed";
    RoleDeleted, "role_deleted";
    KeyAnnounced, "key_announced";
    KeyCompromised, "key_compromised";
    KeysResealed, "keys_resealed";
    ReplicaDrained, "replica_drained";
    ReplicaReturned, "replica_returned";
    SettingChanged, "setting_changed";
}

/// One entry of the audit log, before it is added to a chain. Contains no secret.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// The kind of the event.
    pub kind: EventKind,
    /// The actor: a user id, or `system`, or `cli:` and a person at a machine.
    pub actor: Option<String>,
    /// The user or object that it concerns.
    pub subject: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// The client's address.
    pub address: Option<String>,
    /// Further details, without the claimed address and the reason.
    detail: Option<String>,
    /// The client's address as a peer that is not trusted claims it.
    claimed: Option<String>,
    /// Why the actor did it.
    reason: Option<Reason>,
}

impl AuditEvent {
    /// An event with only a kind.
    pub fn new(kind: EventKind) -> Self {
        Self {
            kind,
            actor: None,
            subject: None,
            session_id: None,
            address: None,
            detail: None,
            claimed: None,
            reason: None,
        }
    }

    /// Sets the actor.
    #[must_use]
    pub fn by(self, actor: impl fmt::Display) -> Self {
        Self { actor: Some(actor.to_string()), ..self }
    }

    /// Sets the actor, and why they did it.
    #[must_use]
    pub fn by_actor(self, actor: &Actor) -> Self {
        Self { reason: actor.reason.clone(), ..self.by(&actor.name) }
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

    /// Sets the client's address as a peer that is not trusted claims it. It becomes a part of the details.
    #[must_use]
    pub fn claiming(self, claimed: Option<String>) -> Self {
        Self { claimed, ..self }
    }

    /// Sets the details.
    #[must_use]
    pub fn detail(self, detail: impl fmt::Display) -> Self {
        Self { detail: Some(detail.to_string()), ..self }
    }

    /// The details as they are stored: followed by the claimed address, and the reason at the end.
    pub fn full_detail(&self) -> Option<String> {
        let claimed = self.claimed.as_ref().map(|claimed| format!("claimed {claimed}"));
        let reason = self.reason.as_ref().map(|reason| format!("reason: {reason}"));
        let parts: Vec<String> = [self.detail.clone(), claimed, reason].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// The hash that chains this event to the one before it: SHA-256 in lower-case hexadecimal, over the
    /// previous hash and the fields. Each field is preceded by its length, so that different events give
    /// different bytes.
    pub fn chained_hash(&self, prev: &str, chain: &str, seq: i64, at: UnixTime) -> String {
        let (seq, at, detail) = (seq.to_string(), at.0.to_string(), self.full_detail());
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
            detail.as_deref(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_ends_the_detail_in_any_order_of_calls() {
        let actor = Actor::command_line("alice@db1", Some("ticket 7".parse().unwrap()));
        let event = || AuditEvent::new(EventKind::UserChanged);
        for event in
            [event().by_actor(&actor).detail("disabled"), event().detail("disabled").by_actor(&actor)]
        {
            assert_eq!(event.full_detail().as_deref(), Some("disabled; reason: ticket 7"));
            assert_eq!(event.actor.as_deref(), Some("cli:alice@db1"));
        }
        assert_eq!(event().by_actor(&actor).full_detail().as_deref(), Some("reason: ticket 7"));
        let without = Actor { reason: None, ..actor };
        assert_eq!(event().by_actor(&without).detail("disabled").full_detail().as_deref(), Some("disabled"));
        assert_eq!(event().by_actor(&without).full_detail(), None);
    }

    #[test]
    fn claimed_address_follows_the_detail_and_is_not_the_address() {
        let event = AuditEvent::new(EventKind::LoginRefused)
            .claiming(Some("198.51.100.7".to_owned()))
            .from_address(Some("192.0.2.1".to_owned()))
            .detail("name 1234");
        assert_eq!(event.full_detail().as_deref(), Some("name 1234; claimed 198.51.100.7"));
        assert_eq!(event.address.as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn hash_covers_the_reason() {
        let hash = |reason: Option<&str>| {
            let actor = Actor::command_line("alice@db1", reason.map(|text| text.parse().unwrap()));
            AuditEvent::new(EventKind::UserDeleted).by_actor(&actor).chained_hash("", "a.1", 1, UnixTime(5))
        };
        assert_ne!(hash(None), hash(Some("ticket 7")));
        let written = AuditEvent::new(EventKind::UserDeleted).by("cli:alice@db1").detail("reason: ticket 7");
        assert_eq!(hash(Some("ticket 7")), written.chained_hash("", "a.1", 1, UnixTime(5)));
    }
}
