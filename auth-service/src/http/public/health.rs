//! Liveness and readiness.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Serialize;

use crate::http::base::SharedApp;
use crate::http::base::wire::private;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

/// 200 as long as the process runs, also without the database.
pub(in crate::http) async fn livez() -> Response {
    private(Health { status: "ok", reasons: Vec::new() })
}

/// 503 with the reasons while this replica must not issue tokens.
pub(in crate::http) async fn readyz(State(app): State<SharedApp>) -> Response {
    let reasons = app.reasons_not_ready();
    if reasons.is_empty() {
        private(Health { status: "ok", reasons })
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, private(Health { status: "not_ready", reasons })).into_response()
    }
}
