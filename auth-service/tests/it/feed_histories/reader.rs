//! A verifier, as far as the feed is concerned.

use std::collections::{BTreeSet, VecDeque};

use auth_service::runtime::feed::publisher::Draft;
use verifier::Kid;

/// What a reader knows, and up to when it believes that this is all.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) sessions: BTreeSet<[u8; 16]>,
    pub(crate) keys: BTreeSet<Kid>,
    pub(crate) as_of: Option<i64>,
    pub(crate) connection: Option<Connection>,
    /// How often `as_of` moved.
    pub(crate) moves: u64,
    /// How often it noticed that something was missing.
    pub(crate) gaps: u64,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) replica: usize,
    /// What is on the way from there.
    pub(crate) queue: VecDeque<Draft>,
    /// As of when the last document of this connection was.
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
            // Not `self.as_of`: it may be from another replica, whose clock is ahead.
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
