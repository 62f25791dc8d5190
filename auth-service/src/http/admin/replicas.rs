//! Replicas: list all, take this one out of the rotation, put it back.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use verifier::Algorithm;

use crate::domain::replica::ReplicaRow;
use crate::flows::replicas;
use crate::http::base::SharedApp;
use crate::http::base::caller::Operator;
use crate::http::base::error::Problem;
use crate::http::base::extract::Parameters;
use crate::http::base::page::PageQuery;
use crate::http::base::wire::{Timestamp, private};

pub(in crate::http) async fn list(
    State(app): State<SharedApp>,
    _: Operator,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct ReplicaList {
        key_changes: i64,
        replicas: Vec<ReplicaResponse>,
        next: Option<String>,
    }
    let after = query.after(|place| Some(place.to_owned()))?;
    let mut rows = app.store.replicas(after, query.limit()?).await?;
    let next = query.next(&mut rows, |last| last.report.id.clone());
    let key_changes = app.store.confirmation().await?.keys_version;
    let replicas = rows.into_iter().map(|row| ReplicaResponse::new(row, app.store.replica())).collect();
    Ok(private(ReplicaList { key_changes, replicas, next }))
}

pub(in crate::http) async fn drain(
    State(app): State<SharedApp>,
    operator: Operator,
) -> Result<StatusCode, Problem> {
    replicas::drain_this(&app, &operator.actor(), true).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http) async fn undo_drain(
    State(app): State<SharedApp>,
    operator: Operator,
) -> Result<StatusCode, Problem> {
    replicas::drain_this(&app, &operator.actor(), false).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct ReplicaResponse {
    id: String,
    name: String,
    version: String,
    public_addr: String,
    admin_addr: String,
    started_at: Timestamp,
    seen_at: Timestamp,
    state: &'static str,
    maintenance: bool,
    key_changes: i64,
    keys: Vec<SigningResponse>,
    signing_lease_seconds: i64,
    feed_lag_ms: Option<i64>,
    settings_version: i64,
    settings_refused: bool,
    current: bool,
}

#[derive(Serialize)]
struct SigningResponse {
    alg: Algorithm,
    generation: i64,
}

impl ReplicaResponse {
    fn new(ReplicaRow { report, started_at, seen_at }: ReplicaRow, this: &str) -> Self {
        let signing = |(alg, generation)| SigningResponse { alg, generation };
        Self {
            current: report.id == this,
            id: report.id,
            name: report.name,
            version: report.version,
            public_addr: report.public_addr,
            admin_addr: report.admin_addr,
            started_at: Timestamp(started_at),
            seen_at: Timestamp(seen_at),
            state: report.state.as_str(),
            maintenance: report.is_drain_wanted,
            key_changes: report.key_changes,
            keys: report.key_generations.0.into_iter().map(signing).collect(),
            signing_lease_seconds: report.lease_left.0,
            feed_lag_ms: report.feed_lag_ms,
            settings_version: report.settings_version,
            settings_refused: report.is_refusing_settings,
        }
    }
}
