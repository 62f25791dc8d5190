//! HTTP: parses a request, calls one flow, renders the response.
//!
//! The two functions below are the route table. `openapi.yaml` describes the same routes, and a test compares the two.

mod admin;
pub mod base;
mod public;

use std::sync::Arc;

use axum::Router;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::Config;
use crate::domain::authority::AdminPermission as P;
use crate::runtime::app::App;
use crate::runtime::telemetry::Metrics;

use base::routes::Routes;
use public::{auth, forward_auth, health, jwks, me, revocations};

pub use crate::domain::listener::Listener;
pub use base::Peer;
pub use base::access::{Access, Route};
pub use base::code::Code;
pub use base::error_body::ErrorBody;
pub use base::server;

/// The HTTP contract (`OpenAPI` 3.1).
pub const OPENAPI: &str = include_str!("../../../openapi.yaml");

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// The routes of the public listener.
fn public_routes(cors: Option<CorsLayer>) -> Routes {
    Routes::on(Listener::Public)
        .group(ErrorBody::Problem)
        .open(POST, "/v1/login", auth::login)
        .open(POST, "/v1/refresh", auth::refresh)
        .open(POST, "/v1/logout", auth::logout)
        .session(GET, "/v1/me", me::show)
        .session(POST, "/v1/me/password", me::change_password)
        .session(GET, "/v1/me/sessions", me::list_sessions)
        .session(DELETE, "/v1/me/sessions", me::end_other_sessions)
        .session(DELETE, "/v1/me/sessions/{id}", me::end_session)
        .mount(GET, "/.well-known/jwks.json", Access::Open, jwks::route())
        .open(GET, "/.well-known/openid-configuration", jwks::metadata)
        .open(GET, "/.well-known/oauth-authorization-server", jwks::metadata)
        .open(GET, "/v1/revocations", revocations::snapshot)
        .open(GET, "/v1/revocations/stream", revocations::stream)
        .open(GET, "/livez", health::livez)
        .open(GET, "/readyz", health::readyz)
        .and_nothing_else()
        .readable_by_scripts(cors)
        // For proxies only. It comes after the line above, because that layer returns 200 for every OPTIONS.
        .mount(GET, "/v1/verify", Access::Session, forward_auth::route())
}

/// The routes of the admin listener.
fn admin_routes(metrics: Metrics) -> Routes {
    Routes::on(Listener::Admin)
        .group(ErrorBody::Problem)
        .permitted(GET, "/admin/v1/keys", P::KeysRead, admin::keys::list)
        .permitted(POST, "/admin/v1/keys/rotate", P::KeysWrite, admin::keys::rotate)
        .permitted(POST, "/admin/v1/keys/{kid}/compromise", P::KeysWrite, admin::keys::compromise)
        .permitted(GET, "/admin/v1/replicas", P::ReplicasRead, admin::replicas::list)
        .permitted(POST, "/admin/v1/drain", P::ReplicasWrite, admin::replicas::drain)
        .permitted(DELETE, "/admin/v1/drain", P::ReplicasWrite, admin::replicas::undo_drain)
        .permitted(GET, "/admin/v1/users", P::UsersRead, admin::users::list)
        .permitted(POST, "/admin/v1/users", P::UsersWrite, admin::users::create)
        .permitted(GET, "/admin/v1/users/{id}", P::UsersRead, admin::users::find)
        .permitted(PATCH, "/admin/v1/users/{id}", P::UsersWrite, admin::users::change)
        .permitted(DELETE, "/admin/v1/users/{id}", P::UsersWrite, admin::users::delete)
        .permitted(POST, "/admin/v1/users/{id}/password", P::UsersWrite, admin::users::set_password)
        .permitted(GET, "/admin/v1/users/{id}/sessions", P::UsersRead, admin::sessions::list)
        .permitted(DELETE, "/admin/v1/users/{id}/sessions", P::UsersWrite, admin::sessions::end_all)
        .permitted(GET, "/admin/v1/roles", P::RolesRead, admin::roles::list)
        .permitted(GET, "/admin/v1/roles/{name}", P::RolesRead, admin::roles::find)
        .permitted(PUT, "/admin/v1/roles/{name}", P::RolesWrite, admin::roles::put)
        .permitted(DELETE, "/admin/v1/roles/{name}", P::RolesWrite, admin::roles::delete)
        .permitted(DELETE, "/admin/v1/sessions/{id}", P::SessionsWrite, admin::sessions::end)
        .permitted(GET, "/admin/v1/settings", P::SettingsRead, admin::settings::list)
        .permitted(PATCH, "/admin/v1/settings", P::SettingsWrite, admin::settings::change)
        .permitted(GET, "/admin/v1/audit", P::AuditRead, admin::audit::list)
        .mount(GET, "/metrics", Access::Open, admin::scrape::route(metrics))
        .open(GET, "/livez", health::livez)
        .open(GET, "/readyz", health::readyz)
        .and_nothing_else()
}

/// The router of the public listener.
pub fn public(app: App) -> Router {
    let (clock, entropy) = (Arc::clone(&app.clock), Arc::clone(&app.entropy));
    public_routes(cors(&app.config)).into_router(clock, entropy).with_state(Arc::new(app))
}

/// The router of the admin listener.
pub fn admin(app: App, metrics: Metrics) -> Router {
    let (clock, entropy) = (Arc::clone(&app.clock), Arc::clone(&app.entropy));
    admin_routes(metrics).into_router(clock, entropy).with_state(Arc::new(app))
}

/// The routes of both listeners.
pub fn route_table() -> Vec<Route> {
    [public_routes(None).into_table(), admin_routes(Metrics::detached()).into_table()].concat()
}

/// Lets scripts of the configured origins read responses. Tokens travel in headers and bodies, never in cookies, so
/// credentials are not allowed.
fn cors(config: &Config) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> =
        config.cors_allowed_origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let exposed = [header::RETRY_AFTER, header::WWW_AUTHENTICATE, HeaderName::from_static("x-request-id")];
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([GET, POST, DELETE])
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
            .expose_headers(exposed)
            .max_age(std::time::Duration::from_mins(10))
    })
}
