//! The audit log.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use verifier::UnixTime;

use crate::http::base::SharedApp;
use crate::http::base::caller::Operator;
use crate::http::base::error::Problem;
use crate::http::base::extract::Parameters;
use crate::http::base::page::PageQuery;
use crate::http::base::wire::{Timestamp, private};
use crate::store::{AuditCursor, AuditFilter, AuditRow};

pub(in crate::http) async fn list(
    State(app): State<SharedApp>,
    _: Operator,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct EventList {
        events: Vec<EventResponse>,
        next: Option<String>,
    }
    let after = query.after(|place| {
        let mut parts = place.splitn(3, ' ');
        let (at, seq, chain) = (parts.next()?, parts.next()?, parts.next()?);
        Some(AuditCursor { at: UnixTime(at.parse().ok()?), chain: chain.to_owned(), seq: seq.parse().ok()? })
    })?;
    let mut events = app.store.audit_page(&AuditFilter::default(), after, query.limit()?).await?;
    let next = query.next(&mut events, |last| {
        let AuditCursor { at, chain, seq } = &last.place;
        format!("{} {seq} {chain}", at.0)
    });
    Ok(private(EventList { events: events.into_iter().map(EventResponse::new).collect(), next }))
}

#[derive(Serialize)]
struct EventResponse {
    id: String,
    at: Timestamp,
    event: String,
    replica: String,
    actor: Option<String>,
    subject: Option<String>,
    session_id: Option<String>,
    address: Option<String>,
    detail: Option<String>,
    seq: i64,
    prev: String,
    hash: String,
}

impl EventResponse {
    fn new(row: AuditRow) -> Self {
        let AuditCursor { at, chain, seq } = row.place;
        Self {
            id: format!("{chain}.{seq}"),
            at: Timestamp(at),
            event: row.event,
            replica: chain,
            actor: row.actor,
            subject: row.subject,
            session_id: row.session_id,
            address: row.address,
            detail: row.detail,
            seq,
            prev: row.prev,
            hash: row.hash,
        }
    }
}
