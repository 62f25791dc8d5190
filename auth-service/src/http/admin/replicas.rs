//! Replicas: list all, take this one out of the rotation, put it back.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use crate::flows::replicas;
use crate::http::base::SharedApp;
use crate::http::base::caller::Operator;
use crate::http::base::error::Problem;
use crate::http::base::extract::Parameters;
use crate::http::base::page::PageQuery;
use crate::http::base::wire::private;
use crate::view::ReplicaView;

pub(in crate::http) async fn list(
    State(app): State<SharedApp>,
    _: Operator,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct ReplicaList {
        key_changes: i64,
        replicas: Vec<ReplicaView>,
        next: Option<String>,
    }
    let after = query.after(|place| Some(place.to_owned()))?;
    let mut rows = app.store.replicas(after, query.limit()?).await?;
    let next = query.next(&mut rows, |last| last.report.id.clone());
    let key_changes = app.store.confirmation().await?.keys_version;
    let replicas = rows.into_iter().map(|row| ReplicaView::new(row, app.store.replica())).collect();
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
