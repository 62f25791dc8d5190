//! The threads that compute password hashes: a few with low priority, behind a short queue.
//!
//! A hash takes a whole CPU and 19 MiB for tens of milliseconds. However many logins arrive, only `permits`
//! hashes run in parallel, with a lower priority than all other work, and only `queue` more may wait. Networks
//! and names take turns in the queue, and those with the most there are refused first: see `queue.rs`. If a
//! caller disconnects, a hash that is running still completes, and one that is waiting leaves the queue.

mod claim;
mod queue;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use self::queue::{FairQueue, Ticket};
use crate::{
    domain::password::{HashFailure, HashPolicy, Password, PasswordHash, Verification, Workspace},
    entropy::{Entropy, EntropyError},
};

pub use self::claim::{Claim, Key, Lane};

/// Maximum time that a hash may wait in the queue.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Niceness of hashing threads, so that a refresh does not wait for a login.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;

/// An error because of which a password was not hashed or checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Too many hashes wait, in all or for this name or network, or this one waited too long. The caller should
    /// try again later.
    #[error("too many passwords are being checked")]
    Busy,
    /// The salt could not be generated.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The hash could not be computed.
    #[error(transparent)]
    Failed(#[from] HashFailure),
    /// The computation panicked. Its thread continues with the next hash.
    #[error("a password hash crashed")]
    Crashed,
}

/// Computes password hashes. When it is dropped, each thread ends after its current hash.
#[derive(Debug)]
pub struct HashPool {
    shared: Arc<Shared>,
    entropy: Arc<dyn Entropy>,
    policy: HashPolicy,
}

impl HashPool {
    /// Starts `permits` threads; `queue` more hashes may wait.
    pub fn start(
        policy: HashPolicy,
        permits: usize,
        queue: usize,
        entropy: Arc<dyn Entropy>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { jobs: FairQueue::new(queue), is_closed: false }),
            job_added: Condvar::new(),
            running: AtomicUsize::new(0),
        });
        let pool = Self { shared, entropy, policy };
        for number in 0..permits {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new().name(format!("hash-{number}")).spawn(move || shared.work(&policy))?;
        }
        metrics::gauge!("auth_hash_permits").set(u32::try_from(permits).unwrap_or(u32::MAX));
        Ok(pool)
    }

    /// Refuses work that would be refused now, so that a flood costs no more than this.
    pub fn check_room(&self, claim: Claim) -> Result<(), HashError> {
        let refusal = self.shared.lock().jobs.refusal(claim);
        refusal.map_or(Ok(()), |excess| Err(refuse(excess.label())))
    }

    /// Checks a password. Always computes one hash, even if there is no stored one, so that the time does not
    /// reveal whether there is.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<PasswordHash>,
        claim: Claim,
    ) -> Result<Verification, HashError> {
        let policy = self.policy;
        let usable = stored.filter(|hash| match hash.check() {
            Ok(()) => true,
            Err(problem) => {
                tracing::error!(%problem, "a stored password hash cannot be used; set a new password");
                false
            }
        });
        let work = move |workspace: &mut Workspace| policy.verify(&password, usable.as_ref(), workspace);
        Ok(self.run(claim, work).await??)
    }

    /// Hashes a new password with a new salt and the current policy.
    pub async fn hash(&self, password: Password, claim: Claim) -> Result<PasswordHash, HashError> {
        let mut salt = [0; 16];
        self.entropy.fill(&mut salt)?;
        let policy = self.policy;
        Ok(self.run(claim, move |workspace| policy.hash(&password, &salt, workspace)).await??)
    }

    /// The number of hashes that are computed, and of those that wait.
    pub fn load(&self) -> (usize, usize) {
        (self.shared.running.load(Ordering::Relaxed), self.shared.lock().jobs.len())
    }

    /// Runs `work` on a hashing thread when it is the turn of `claim`.
    async fn run<T: Send + 'static>(
        &self,
        claim: Claim,
        work: impl FnOnce(&mut Workspace) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let (sender, mut result) = oneshot::channel();
        let job: Job = Box::new(move |turn| {
            // An error means that the caller has disconnected.
            let _ = sender.send(turn.map(work));
        });
        let place = self.shared.enqueue(claim, job);
        match timeout(MAX_WAIT, &mut result).await {
            Ok(outcome) => outcome.map_err(|_| HashError::Crashed)?,
            Err(_) if place.leave() => Err(refuse("wait")),
            // It has started, or was refused just now.
            Err(_) => result.await.map_err(|_| HashError::Crashed)?,
        }
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.job_added.notify_all();
    }
}

/// Does its work with the workspace of a thread, or learns that it lost its place.
type Job = Box<dyn FnOnce(Result<&mut Workspace, HashError>) + Send>;

/// A job's place in the queue. Dropped with the caller's future, because the client disconnected, it frees the place.
struct Place<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl Place<'_> {
    /// Whether the job was still waiting. If so, it is gone.
    fn leave(&self) -> bool {
        let mut queue = self.shared.lock();
        let job = queue.jobs.remove(self.ticket);
        show_queued(&queue);
        drop(queue);
        // The job is dropped here, after the lock.
        job.is_some()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

struct Queue {
    jobs: FairQueue<Job>,
    is_closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    job_added: Condvar,
    running: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("running", &self.running).finish_non_exhaustive()
    }
}

impl Shared {
    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job, which may cost another one its place, or be refused itself. Either learns it by a call.
    fn enqueue(&self, claim: Claim, job: Job) -> Place<'_> {
        let mut queue = self.lock();
        let (ticket, refused) = queue.jobs.push(claim, job);
        show_queued(&queue);
        drop(queue);
        self.job_added.notify_one();
        if let Some((job, excess)) = refused {
            job(Err(refuse(excess.label())));
        }
        Place { shared: self, ticket }
    }

    /// Runs jobs until the pool is dropped.
    fn work(&self, policy: &HashPolicy) {
        lower_priority();
        let mut workspace = Workspace::default();
        while let Some(job) = self.next() {
            self.running.fetch_add(1, Ordering::Relaxed);
            metrics::gauge!("auth_hash_running").increment(1);
            // A panic drops the sender, and the caller gets an error.
            if catch_unwind(AssertUnwindSafe(|| job(Ok(&mut workspace)))).is_err() {
                tracing::error!("a password hash crashed");
            }
            workspace.release_beyond(policy);
            metrics::gauge!("auth_hash_running").decrement(1);
            self.running.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Waits for a job. Returns `None` when the pool has been dropped.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop() {
                show_queued(&queue);
                return Some(job);
            }
            queue = self.job_added.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn refuse(why: &'static str) -> HashError {
    metrics::counter!("auth_hash_refused_total", "why" => why).increment(1);
    HashError::Busy
}

fn show_queued(queue: &Queue) {
    metrics::gauge!("auth_hash_queued").set(u32::try_from(queue.jobs.len()).unwrap_or(u32::MAX));
}

/// Raises the niceness of this thread. Only on Linux: on other systems it would be that of the whole process.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the priority of hashing threads could not be lowered");
    }
}

#[cfg(test)]
mod tests;
