//! What subscribers are sent: server-sent events.

use bytes::Bytes;

/// A server-sent event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// A document with all entries.
    Snapshot(&'a str),
    /// A document with the new entries.
    Delta(&'a str),
    /// The key set has changed; the data is its version.
    Jwks(i64),
}

impl Event<'_> {
    /// The bytes of the event, shared by all subscribers. Neither documents nor numbers contain a line break.
    pub(super) fn render(self) -> Bytes {
        match self {
            Self::Snapshot(document) => format!("event: snapshot\ndata: {document}\n\n"),
            Self::Delta(document) => format!("event: delta\ndata: {document}\n\n"),
            Self::Jwks(version) => format!("event: jwks\ndata: {version}\n\n"),
        }
        .into()
    }

    /// The data of a rendered event, without a copy.
    pub(super) fn data(event: &Bytes) -> Bytes {
        const PREFIX: &[u8] = b"\ndata: ";
        let start =
            event.windows(PREFIX.len()).position(|part| part == PREFIX).map_or(0, |at| at + PREFIX.len());
        event.slice(start..event.len().saturating_sub(2).max(start))
    }
}
