//! Signing keys: list, rotate, withdraw.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use verifier::Algorithm;

use crate::domain::key::Chain;
use crate::domain::not_null;
use crate::flows::rotate_keys;
use crate::http::base::SharedApp;
use crate::http::base::body::OptionalJsonBody;
use crate::http::base::caller::Operator;
use crate::http::base::error::Problem;
use crate::http::base::extract::{Parameters, Part};
use crate::http::base::page::PageQuery;
use crate::http::base::wire::{NO_STORE, private};
use crate::store::KeyRow;
use crate::view::KeyView;

/// Reads the database, so that a key which another replica has just announced is listed.
pub(in crate::http) async fn list(
    State(app): State<SharedApp>,
    _: Operator,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct KeyList {
        keys: Vec<KeyView>,
        next: Option<String>,
    }
    let after = query.after(|place| {
        let (chain, generation) = place.split_once(' ')?;
        Some((Chain::parse(chain)?.as_str(), generation.parse::<i64>().ok()?))
    })?;
    let limit = query.limit()? as usize;
    let table = app.store.key_table().await?;
    let place = |row: &KeyRow| (row.chain.as_str(), row.key.generation);
    let mut rows: Vec<KeyRow> = table.rows.into_iter().filter(|row| row.chain != Chain::RefreshMac).collect();
    rows.sort_by(|left, right| place(left).cmp(&place(right)));
    rows.retain(|row| after.is_none_or(|after| place(row) > after));
    rows.truncate(limit);
    let next = query.next(&mut rows, |last| format!("{} {}", last.chain, last.key.generation));
    let keys = rows.iter().map(|row| KeyView::new(row, table.seen.now)).collect();
    Ok(private(KeyList { keys, next }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RotateBody {
    #[serde(default, deserialize_with = "not_null")]
    alg: Option<Algorithm>,
}

pub(in crate::http) async fn rotate(
    State(app): State<SharedApp>,
    operator: Operator,
    OptionalJsonBody(body): OptionalJsonBody<RotateBody>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Rotated {
        key: KeyView,
        retiring: Option<KeyView>,
    }
    let algorithm = body.unwrap_or_default().alg;
    let rotated = rotate_keys::rotate(&app, &operator.actor(), algorithm).await?;
    let now = app.clock.now();
    let answer = Rotated {
        key: KeyView::new(&rotated.key, now),
        retiring: rotated.retiring.map(|row| KeyView::new(&row, now)),
    };
    Ok((StatusCode::CREATED, [NO_STORE], Json(answer)).into_response())
}

pub(in crate::http) async fn compromise(
    State(app): State<SharedApp>,
    operator: Operator,
    kid: Part,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Compromised {
        key: KeyView,
        successor: Option<KeyView>,
    }
    let done = rotate_keys::compromise(&app, &operator.actor(), &kid.0).await?;
    // The key was marked by the database's clock, which may be ahead of this one.
    let now = done.key.key.compromised_at.map_or_else(|| app.clock.now(), |at| at.max(app.clock.now()));
    Ok(private(Compromised {
        key: KeyView::new(&done.key, now),
        successor: done.successor.map(|row| KeyView::new(&row, now)),
    }))
}
