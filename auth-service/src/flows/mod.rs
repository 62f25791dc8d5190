//! One file per action of a caller: load, decide, compare-and-set, sign.

mod authenticate;
mod forward_auth;
pub mod heartbeat;
mod issue;
mod login;
mod logout;
mod password;
mod refresh;
pub mod replicas;
pub mod roles;
pub mod rotate_keys;
pub mod sessions;
pub mod settings;
mod throttle;
pub mod users;

pub use authenticate::{AuthError, Caller, authenticate};
pub use forward_auth::{Admitted, ForwardAuthError, Needed, forward_auth};
pub use issue::{IssueError, TokenPair};
pub use login::{Login, LoginError, LoginRequest, login};
pub use logout::{LogoutCredential, LogoutError, logout};
pub use password::{PasswordChangeError, change_own_password};
pub use refresh::{RefreshError, refresh};
pub use throttle::DEVICE_SUBJECT;
pub use throttle::Origin;
