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
use crate::http::base::wire::private;
use crate::store::{AuditCursor, AuditFilter};
use crate::view::AuditView;

pub(in crate::http) async fn list(
    State(app): State<SharedApp>,
    _: Operator,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct EventList {
        events: Vec<AuditView>,
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
    Ok(private(EventList { events: events.into_iter().map(AuditView::from).collect(), next }))
}
