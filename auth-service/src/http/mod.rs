//! HTTP: parses, calls one flow, renders.
//!
//! The two functions below are the table of everything that is served. `openapi.yaml` describes the same, and a test holds
//! them together.

mod admin;
pub mod base;
mod public;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::Config;
use crate::runtime::app::App;
use crate::runtime::telemetry::Metrics;

use base::observe::{self, Observer};
use base::routes::Routes;
use public::{auth, forward_auth, health, jwks, me, revocations};

pub use base::Peer;
pub use base::error::Code;
pub use base::routes::{Access, Listener, Route};
pub use base::server;
pub use base::wire::rfc3339;

/// The HTTP contract (`OpenAPI` 3.1).
pub const OPENAPI: &str = include_str!("../../../openapi.yaml");

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// What the public listener serves.
fn public_routes(cors: Option<CorsLayer>) -> Routes {
    Routes::on(Listener::Public)
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
        // For proxies only, and after the line above: that layer answers every OPTIONS with 200.
        .mount(GET, "/v1/verify", Access::Session, forward_auth::route())
}

/// What the admin listener serves.
fn admin_routes(metrics: Metrics) -> Routes {
    Routes::on(Listener::Admin)
        .permitted(GET, "/admin/v1/keys", "keys:read", admin::keys::list)
        .permitted(POST, "/admin/v1/keys/rotate", "keys:write", admin::keys::rotate)
        .permitted(POST, "/admin/v1/keys/{kid}/compromise", "keys:write", admin::keys::compromise)
        .permitted(GET, "/admin/v1/replicas", "replicas:read", admin::replicas::list)
        .permitted(POST, "/admin/v1/drain", "replicas:write", admin::replicas::drain)
        .permitted(DELETE, "/admin/v1/drain", "replicas:write", admin::replicas::undo_drain)
        .permitted(GET, "/admin/v1/users", "users:read", admin::users::list)
        .permitted(POST, "/admin/v1/users", "users:write", admin::users::create)
        .permitted(GET, "/admin/v1/users/{id}", "users:read", admin::users::find)
        .permitted(PATCH, "/admin/v1/users/{id}", "users:write", admin::users::change)
        .permitted(DELETE, "/admin/v1/users/{id}", "users:write", admin::users::delete)
        .permitted(POST, "/admin/v1/users/{id}/password", "users:write", admin::users::set_password)
        .permitted(GET, "/admin/v1/users/{id}/sessions", "users:read", admin::sessions::list)
        .permitted(DELETE, "/admin/v1/users/{id}/sessions", "users:write", admin::sessions::end_all)
        .permitted(GET, "/admin/v1/roles", "roles:read", admin::roles::list)
        .permitted(GET, "/admin/v1/roles/{name}", "roles:read", admin::roles::find)
        .permitted(PUT, "/admin/v1/roles/{name}", "roles:write", admin::roles::put)
        .permitted(DELETE, "/admin/v1/roles/{name}", "roles:write", admin::roles::delete)
        .permitted(DELETE, "/admin/v1/sessions/{id}", "sessions:write", admin::sessions::end)
        .permitted(GET, "/admin/v1/settings", "settings:read", admin::settings::list)
        .permitted(PATCH, "/admin/v1/settings", "settings:write", admin::settings::change)
        .permitted(GET, "/admin/v1/audit", "audit:read", admin::audit::list)
        .mount(GET, "/metrics", Access::Open, admin::scrape::route(metrics))
        .open(GET, "/livez", health::livez)
        .open(GET, "/readyz", health::readyz)
        .and_nothing_else()
}

/// The router of the public listener.
pub fn public(app: App) -> Router {
    let cors = cors(&app.config);
    finish(public_routes(cors), Listener::Public, app)
}

/// The router of the admin listener.
pub fn admin(app: App, metrics: Metrics) -> Router {
    finish(admin_routes(metrics), Listener::Admin, app)
}

/// Every route of both listeners.
pub fn route_table() -> Vec<Route> {
    [public_routes(None).into_table(), admin_routes(Metrics::detached()).into_table()].concat()
}

fn finish(routes: Routes, listener: Listener, app: App) -> Router {
    let observer = Arc::new(Observer::new(listener, routes.table(), &app));
    routes.into_router().layer(from_fn_with_state(observer, observe::observe)).with_state(Arc::new(app))
}

/// Lets the scripts of the configured origins read answers. Tokens travel in headers and bodies, never in cookies, so no
/// credentials are allowed.
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
