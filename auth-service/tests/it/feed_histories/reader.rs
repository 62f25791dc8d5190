//! The model of a verifier that reads the feed.

use std::collections::{BTreeSet, VecDeque};

use auth_service::runtime::feed::publisher::Draft;
use verifier::Kid;

/// The known revocations, and the time up to which the reader considers them complete.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) sessions: BTreeSet<[u8; 16]>,
    pub(crate) keys: BTreeSet<Kid>,
    pub(crate) as_of: Option<i64>,
    pub(crate) connection: Option<Connection>,
    /// The number of changes of `as_of`.
    pub(crate) moves: u64,
    /// The number of detected gaps.
    pub(crate) gaps: u64,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) replica: usize,
    /// The documents in flight from there.
    pub(crate) queue: VecDeque<Draft>,
    /// The `as_of` of the last document of this connection.
    said: Option<i64>,
}

impl Connection {
    pub(crate) fn new(replica: usize, snapshot: Draft) -> Self {
        Self { replica, queue: VecDeque::from([snapshot]), said: None }
    }
}

impl Reader {
    /// Takes the next document from the connection.
    pub(crate) fn receive(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let Some(document) = connection.queue.pop_front() else { return };
        self.sessions.extend(document.sids.chunks(16).map(|id| <[u8; 16]>::try_from(id).unwrap()));
        self.keys.extend(document.kids);
        let continues = match document.since {
            None => true,
            // Not `self.as_of`: that may come from another replica, whose clock is ahead.
            Some(since) => connection.said.is_some_and(|said| since <= said),
        };
        if !continues {
            self.gaps += 1;
            self.connection = None;
            return;
        }
        connection.said = connection.said.max(Some(document.as_of));
        if self.as_of.is_none_or(|as_of| as_of < document.as_of) {
            self.as_of = Some(document.as_of);
            self.moves += 1;
        }
    }
}
