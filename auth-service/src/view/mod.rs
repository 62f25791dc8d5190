//! JSON forms of users, roles, sessions, keys, settings, replicas and audit entries: the same in the admin API and in
//! the output of commands with `--json`. `openapi.yaml` describes the members.

mod audit;
mod key;
mod replica;
mod role;
mod session;
mod setting;
mod user;

use serde::{Serialize, Serializer};
use verifier::UnixTime;

use crate::domain::rfc3339::rfc3339;

pub use audit::AuditView;
pub use key::KeyView;
pub use replica::{ReplicaView, SigningView};
pub use role::RoleView;
pub use session::{SessionOfUserView, SessionView};
pub use setting::{SettingView, json_of};
pub use user::UserView;

/// An instant, serialised as RFC 3339 in UTC, whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub UnixTime);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}
