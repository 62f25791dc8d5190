//! The error codes: one table, to which `openapi.yaml` and `docs/protocols.md` are held by tests.

use http::StatusCode;

/// Makes [`Code`] of rows: name, status, `code`, `title`.
macro_rules! codes {
    ($($name:ident, $status:ident, $code:literal, $title:literal;)+) => {
        /// What went wrong, as clients see it. Codes are never renamed; more may be added.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the titles in the table say what each one is")]
        pub enum Code {
            $($name),+
        }

        impl Code {
            /// All codes, in the order of the documents.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The status of a response with this code.
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status),+
                }
            }

            /// The member `code`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code),+
                }
            }

            /// The member `title`.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title),+
                }
            }
        }
    };
}

codes! {
    MalformedRequest, BAD_REQUEST, "malformed_request", "Malformed request";
    InvalidTarget, BAD_REQUEST, "invalid_target", "Audience not allowed";
    InvalidScope, BAD_REQUEST, "invalid_scope", "Scope not allowed";
    PasswordTooWeak, BAD_REQUEST, "password_too_weak", "Password too weak";
    InvalidUsername, BAD_REQUEST, "invalid_username", "Invalid user name";
    InvalidClaims, BAD_REQUEST, "invalid_claims", "Claims not allowed";
    InvalidRoleName, BAD_REQUEST, "invalid_role_name", "Invalid role name";
    InvalidPermission, BAD_REQUEST, "invalid_permission", "Invalid permission";
    UnknownRole, BAD_REQUEST, "unknown_role", "Unknown role";
    AlgorithmNotEnabled, BAD_REQUEST, "algorithm_not_enabled", "Algorithm not enabled";
    InvalidSettings, BAD_REQUEST, "invalid_settings", "Invalid settings";
    InvalidCredentials, UNAUTHORIZED, "invalid_credentials", "Wrong user name or password";
    InvalidRefreshToken, UNAUTHORIZED, "invalid_refresh_token", "Invalid refresh token";
    MissingToken, UNAUTHORIZED, "missing_token", "Missing access token";
    InvalidToken, UNAUTHORIZED, "invalid_token", "Invalid access token";
    InsufficientScope, FORBIDDEN, "insufficient_scope", "Insufficient scope";
    PrivilegeEscalation, FORBIDDEN, "privilege_escalation", "More permissions required";
    NotFound, NOT_FOUND, "not_found", "Not found";
    MethodNotAllowed, METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed";
    UsernameTaken, CONFLICT, "username_taken", "User name taken";
    LastAdministrator, CONFLICT, "last_administrator", "Last administrator";
    RotationPending, CONFLICT, "rotation_pending", "Rotation already pending";
    SettingsChanged, PRECONDITION_FAILED, "settings_changed", "Settings changed since they were read";
    BodyTooLarge, PAYLOAD_TOO_LARGE, "body_too_large", "Body too large";
    UnsupportedMediaType, UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type";
    TooManyAttempts, TOO_MANY_REQUESTS, "too_many_attempts", "Too many failed attempts";
    Overloaded, TOO_MANY_REQUESTS, "overloaded", "Too many password checks in progress";
    InternalError, INTERNAL_SERVER_ERROR, "internal_error", "Internal error";
    Unavailable, SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable";
}
