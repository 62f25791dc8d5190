//! Saves keys and revocations to a file, so that a process which starts while its issuer is unavailable can
//! check tokens immediately, within the same age limits as one that kept running.

mod file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use file::{Snapshot, SnapshotError, SnapshotFile};

use crate::background::Background;
use crate::core::time::Clock;
use crate::feed::revoked::Revoked;
use crate::keys::cache::JwksCache;

/// The polling interval for changes to be saved.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// If only `as_of` advances, the file is written this often, in milliseconds.
const QUIET_INTERVAL: i64 = 60_000;

/// Keeps the file current until it is dropped.
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

/// Identifies a state; the file is written when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    keys: Option<Duration>,
    revocations: u64,
    as_of: Option<i64>,
}

impl Mark {
    /// Returns whether there is anything to save.
    fn is_known(&self) -> bool {
        self.keys.is_some() || self.as_of.is_some()
    }
}

impl Keeper {
    /// Reads the file and takes over what is not too old. A file that cannot be used is ignored, with a
    /// warning.
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
            Ok(true) => tracing::info!(path = ?memory.file.path(), "restored keys and revocations"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(path = ?memory.file.path(), %error, "snapshot file is not used");
            }
        }
        Self { memory: Arc::new(memory), task: Background::default() }
    }

    /// Starts to write the file at each change unless that is running, if called inside a runtime.
    pub(crate) fn keep_current(&self) {
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
    let mut has_failed = false;
    loop {
        // Before the state is read: a change in between is written the next time.
        let mark = memory.mark();
        if mark.is_known() && written != Some(mark) {
            let writer = Arc::clone(&memory);
            // File I/O blocks. If the runtime shuts down meanwhile, the old file stays intact.
            let outcome = tokio::task::spawn_blocking(move || writer.file.write(&writer.snapshot())).await;
            let Ok(outcome) = outcome else { return };
            if let Err(error) = &outcome
                && !has_failed
            {
                tracing::warn!(path = ?memory.file.path(), %error, "keys and revocations could not be saved");
            }
            has_failed = outcome.is_err();
            if !has_failed {
                written = Some(mark);
            }
        }
        tokio::time::sleep(SAVE_INTERVAL).await;
    }
}
