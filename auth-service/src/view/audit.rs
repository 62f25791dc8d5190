use serde::Serialize;

use super::Timestamp;
use crate::store::{AuditCursor, AuditRow};

/// An entry of the audit log.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the members are those of `AuditEvent` in openapi.yaml")]
pub struct AuditView {
    pub id: String,
    pub at: Timestamp,
    pub event: String,
    pub replica: String,
    pub actor: Option<String>,
    pub subject: Option<String>,
    pub session_id: Option<String>,
    pub address: Option<String>,
    pub detail: Option<String>,
    pub seq: i64,
    pub prev: String,
    pub hash: String,
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
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
