//! Maps the errors of flows to error codes. One exhaustive match per error type, so that a new variant must be added here.

use verifier::VerifyError;

use crate::domain::key::RotationError;
use crate::flows::replicas::ReplicaError;
use crate::flows::roles::RoleError;
use crate::flows::rotate_keys::RotateError;
use crate::flows::sessions::SessionError;
use crate::flows::settings::SettingsError;
use crate::flows::users::UserError;
use crate::flows::{
    AuthError, ForwardAuthError, IssueError, LoginError, LogoutError, PasswordChangeError, RefreshError,
};
use crate::http::base::code::Code;
use crate::http::base::error::Problem;
use crate::keys::keyring::RingError;
use crate::runtime::feed::FeedError;
use crate::runtime::hashing::HashError;
use crate::store::StoreError;

/// The outcome of a write is unknown, or nothing could be read; the client should repeat the request.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Timeout | StoreError::Database(_) | StoreError::ReadOnly => Code::Unavailable,
            StoreError::Unreadable { .. } | StoreError::Schema(_) => Code::InternalError,
        };
        Self::new(code).cause(error)
    }
}

impl From<RingError> for Problem {
    fn from(error: RingError) -> Self {
        match error {
            RingError::Store(error) => error.into(),
            RingError::Open { .. } | RingError::Damaged(_) | RingError::NotConfirmed => {
                Self::new(Code::Unavailable).cause(error)
            }
        }
    }
}

/// Another replica may be able to issue, and this one may be soon.
impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        Self::new(Code::Unavailable).cause(error)
    }
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        Self::new(Code::Unavailable).cause(error)
    }
}

impl From<HashError> for Problem {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy => Self::new(Code::Overloaded),
            HashError::Entropy(_) | HashError::Failed(_) | HashError::Crashed => {
                Self::new(Code::InternalError).cause(error)
            }
        }
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::InvalidCredentials => Self::new(Code::InvalidCredentials),
            LoginError::Throttled(wait) => Self::new(Code::TooManyAttempts).retry_after(wait),
            LoginError::InvalidTarget => Self::new(Code::InvalidTarget),
            LoginError::InvalidScope => Self::new(Code::InvalidScope),
            LoginError::Hash(error) => error.into(),
            LoginError::Store(error) => error.into(),
            LoginError::Issue(error) => error.into(),
            LoginError::Entropy(error) => Self::new(Code::InternalError).cause(error),
        }
    }
}

impl From<RefreshError> for Problem {
    fn from(error: RefreshError) -> Self {
        match error {
            // The same response for both: only the log says that a token was reused.
            RefreshError::Invalid | RefreshError::Reused => Self::new(Code::InvalidRefreshToken).cause(error),
            RefreshError::Contended => Self::new(Code::Unavailable).cause(error),
            RefreshError::Store(error) => error.into(),
            RefreshError::Issue(error) => error.into(),
        }
    }
}

impl Problem {
    /// Maps an invalid credential to `refusal`, which depends on the kind of credential that was sent.
    pub(in crate::http) fn from_logout(error: LogoutError, refusal: Code) -> Self {
        match error {
            LogoutError::Invalid => Self::new(refusal),
            LogoutError::Ring(error) => error.into(),
            LogoutError::Store(error) => error.into(),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Token(VerifyError::Unavailable(_)) => Self::new(Code::Unavailable).cause(error),
            AuthError::Token(_) | AuthError::SessionEnded => Self::new(Code::InvalidToken).cause(error),
            AuthError::Ring(error) => error.into(),
            AuthError::Store(error) => error.into(),
        }
    }
}

impl From<ForwardAuthError> for Problem {
    fn from(error: ForwardAuthError) -> Self {
        match error {
            ForwardAuthError::Token(VerifyError::Unavailable(_))
            | ForwardAuthError::FeedNotRead
            | ForwardAuthError::KeysUnusable(_)
            | ForwardAuthError::TooOld
            | ForwardAuthError::WrongClock(_) => Self::new(Code::Unavailable).cause(error),
            ForwardAuthError::Token(_) | ForwardAuthError::Revoked => {
                Self::new(Code::InvalidToken).cause(error)
            }
            ForwardAuthError::Forbidden(needed) => Self::insufficient_scope(&needed.to_string()),
            ForwardAuthError::Ring(error) => error.into(),
        }
    }
}

impl From<PasswordChangeError> for Problem {
    fn from(error: PasswordChangeError) -> Self {
        match error {
            PasswordChangeError::InvalidCredentials => Self::new(Code::InvalidCredentials),
            PasswordChangeError::Throttled(wait) => Self::new(Code::TooManyAttempts).retry_after(wait),
            PasswordChangeError::Weak(_) => Self::new(Code::PasswordTooWeak).detail(error.to_string()),
            PasswordChangeError::Hash(error) => error.into(),
            PasswordChangeError::Store(error) => error.into(),
            PasswordChangeError::Issue(error) => error.into(),
            PasswordChangeError::Entropy(error) => Self::new(Code::InternalError).cause(error),
        }
    }
}

impl From<UserError> for Problem {
    fn from(error: UserError) -> Self {
        match error {
            UserError::InvalidUsername(_) => Self::new(Code::InvalidUsername).detail(error.to_string()),
            UserError::UsernameTaken => Self::new(Code::UsernameTaken),
            UserError::WeakPassword(_) => Self::new(Code::PasswordTooWeak).detail(error.to_string()),
            UserError::InvalidClaim(_) => Self::new(Code::InvalidClaims)
                .detail("a claim is not among `extra_claims` of the configuration"),
            UserError::UnknownRole(_) => Self::new(Code::UnknownRole),
            UserError::NotFound => Self::new(Code::NotFound),
            UserError::Escalation => Self::new(Code::PrivilegeEscalation),
            UserError::LastAdministrator => Self::new(Code::LastAdministrator).detail(error.to_string()),
            UserError::Hash(error) => error.into(),
            UserError::Store(error) => error.into(),
            UserError::Entropy(error) => Self::new(Code::InternalError).cause(error),
        }
    }
}

impl From<RoleError> for Problem {
    fn from(error: RoleError) -> Self {
        match error {
            RoleError::NotFound => Self::new(Code::NotFound),
            RoleError::BuiltIn => Self::new(Code::PrivilegeEscalation).detail(error.to_string()),
            RoleError::Escalation => Self::new(Code::PrivilegeEscalation),
            RoleError::LastAdministrator => Self::new(Code::LastAdministrator).detail(error.to_string()),
            RoleError::Store(error) => error.into(),
        }
    }
}

impl From<ReplicaError> for Problem {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::NotFound => Self::new(Code::NotFound),
            ReplicaError::Store(error) => error.into(),
        }
    }
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Refused(_) => Self::new(Code::InvalidSettings).detail(error.to_string()),
            SettingsError::Stale => Self::new(Code::SettingsChanged),
            SettingsError::Store(error) => error.into(),
        }
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound => Self::new(Code::NotFound),
            SessionError::Escalation => Self::new(Code::PrivilegeEscalation),
            SessionError::Store(error) => error.into(),
        }
    }
}

impl From<RotateError> for Problem {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Pending(RotationError::Pending { earliest_at }) => {
                Self::new(Code::RotationPending).earliest_at(earliest_at)
            }
            RotateError::AlgorithmNotEnabled(_) => Self::new(Code::AlgorithmNotEnabled),
            RotateError::NotFound => Self::new(Code::NotFound),
            RotateError::Ring(error) => error.into(),
            RotateError::Store(error) => error.into(),
            RotateError::Material(_) | RotateError::Crashed | RotateError::Entropy(_) => {
                Self::new(Code::InternalError).cause(error)
            }
        }
    }
}
