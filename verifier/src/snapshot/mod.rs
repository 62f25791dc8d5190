//! What a verifier knows, kept in a file: so that a process which starts while its issuer is away can work at
//! once, within the same bounds as one that never stopped.

mod file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use file::{Snapshot, SnapshotError, SnapshotFile};

use crate::background::Background;
use crate::core::time::Clock;
use crate::feed::revoked::Revoked;
use crate::keys::cache::JwksCache;

/// How often it is looked whether there is something new to write.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// That nothing was revoked is news as well, but not of the kind that is written every time.
const QUIET_INTERVAL: i64 = 60_000;

/// Keeps the file current, until this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    memory: Arc<Memory>,
    task: Background,
}

#[derive(Debug)]
struct Memory {
    file: SnapshotFile,
    issuer: String,
    cache: Arc<JwksCache>,
    revoked: Arc<Revoked>,
    clock: Arc<dyn Clock>,
}

/// What tells one state from another, as far as writing it is worth while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    keys: Option<Duration>,
    revocations: u64,
    as_of: Option<i64>,
}

impl Mark {
    /// Whether there is anything to remember.
    fn is_known(&self) -> bool {
        self.keys.is_some() || self.as_of.is_some()
    }
}

impl Keeper {
    /// Reads the file, and takes over what it says as far as that may still be trusted. A file that cannot be
    /// used is as good as none.
    pub(crate) fn open(
        path: PathBuf,
        issuer: &str,
        cache: Arc<JwksCache>,
        revoked: Arc<Revoked>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let file = SnapshotFile::new(path);
        let memory = Memory { file, issuer: issuer.to_owned(), cache, revoked, clock };
        match memory.recall() {
            Ok(true) => tracing::info!(path = ?memory.file.path(), "read what was known before"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(path = ?memory.file.path(), %error, "the snapshot file is not used");
            }
        }
        Self { memory: Arc::new(memory), task: Background::default() }
    }

    /// Writes the file whenever there is news, from now on, if called inside a runtime.
    pub(crate) fn tend(&self) {
        self.task.start(|| keep(Arc::clone(&self.memory)));
    }
}

impl Memory {
    fn recall(&self) -> Result<bool, SnapshotError> {
        let Some(snapshot) = self.file.read(&self.issuer)? else { return Ok(false) };
        if let Some(keys) = &snapshot.keys {
            self.cache.restore(keys);
        }
        self.revoked.restore(snapshot.revocations, &*self.clock);
        Ok(true)
    }

    fn mark(&self) -> Mark {
        Mark {
            keys: self.cache.confirmed_at(),
            revocations: *self.revoked.changes().borrow(),
            as_of: self.revoked.as_of().map(|as_of| as_of / QUIET_INTERVAL),
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::new(&self.issuer, self.cache.saved(), self.revoked.saved(&*self.clock))
    }
}

async fn keep(memory: Arc<Memory>) {
    let mut written = None;
    let mut was_wrong = false;
    loop {
        // Before the state is read: what changes meanwhile is written the next time.
        let mark = memory.mark();
        if mark.is_known() && written != Some(mark) {
            let writer = Arc::clone(&memory);
            // Files are slow; a runtime that shuts down may cut this off, and the old file is whole then.
            let outcome = tokio::task::spawn_blocking(move || writer.file.write(&writer.snapshot())).await;
            let Ok(outcome) = outcome else { return };
            if let Err(error) = &outcome
                && !was_wrong
            {
                tracing::warn!(path = ?memory.file.path(), %error, "what is known could not be saved");
            }
            was_wrong = outcome.is_err();
            if !was_wrong {
                written = Some(mark);
            }
        }
        tokio::time::sleep(SAVE_INTERVAL).await;
    }
}
