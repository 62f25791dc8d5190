//! The rows of the route table.

use http::Method;

use crate::domain::authority::AdminPermission;
use crate::domain::listener::Listener;
use crate::http::base::error_body::ErrorBody;

/// The callers that a route admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Open,
    /// Callers with a valid access token and a live session.
    Session,
    /// Callers with, in addition, this permission in a token for the admin API.
    Permission(AdminPermission),
}

/// One row of the route table.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which listener serves it.
    pub listener: Listener,
    /// Its method; a route for GET also serves HEAD.
    pub method: Method,
    /// Its path, variable parts as `{name}`.
    pub path: &'static str,
    /// The callers that it admits.
    pub access: Access,
    /// The format of its error responses.
    pub error_body: ErrorBody,
}
