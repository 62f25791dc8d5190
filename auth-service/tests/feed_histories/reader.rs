//! A verifier, as far as the feed is concerned.

use std::collections::{BTreeSet, VecDeque};

use auth_service::feed::publisher::Draft;
use verifier::Kid;

/// What a reader knows, and up to when it believes that this is all.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) sessions: BTreeSet<[u8; 16]>,
    pub(crate) keys: BTreeSet<Kid>,
    pub(crate) as_of: Option<i64>,
    /// The replica it reads from, and what is on the way from there.
    pub(crate) connection: Option<(usize, VecDeque<Draft>)>,
    /// How often `as_of` moved.
    pub(crate) moves: u64,
    /// How often it noticed that something was missing.
    pub(crate) gaps: u64,
}

impl Reader {
    /// Takes the next document from the connection.
    pub(crate) fn receive(&mut self) {
        let Some((_, queue)) = &mut self.connection else { return };
        let Some(document) = queue.pop_front() else { return };
        self.sessions.extend(document.sids.chunks(16).map(|id| <[u8; 16]>::try_from(id).unwrap()));
        self.keys.extend(document.kids);
        let continues = match document.since {
            None => true,
            Some(since) => self.as_of.is_some_and(|as_of| since <= as_of),
        };
        if !continues {
            self.gaps += 1;
            self.connection = None;
        } else if self.as_of.is_none_or(|as_of| as_of < document.as_of) {
            self.as_of = Some(document.as_of);
            self.moves += 1;
        }
    }
}
