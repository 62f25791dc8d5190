//! The threads that compute password hashes: a few with low priority, behind a short queue.
//!
//! A hash takes a whole CPU and 19 MiB for tens of milliseconds. However many logins arrive, only `permits`
//! hashes run in parallel, with a lower priority than all other work, and only `queue` more may wait; further
//! ones are refused immediately. If a caller disconnects, a hash that is running still completes, and one
//! that is waiting is skipped.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::{
    domain::password::{HashFailure, HashPolicy, Password, PasswordHash, Verification},
    entropy::{Entropy, EntropyError},
};

/// Maximum time that a hash may wait in the queue.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Niceness of hashing threads, so that a refresh does not wait for a login.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;

/// An error because of which a password was not hashed or checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is full, or the hash waited too long. The caller should try again later.
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
            queue: Mutex::new(Queue { jobs: VecDeque::with_capacity(queue), is_closed: false }),
            job_added: Condvar::new(),
            capacity: queue,
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

    /// Checks a password. Always computes one hash, even if there is no stored one, so that the time does not
    /// reveal whether there is.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<PasswordHash>,
    ) -> Result<Verification, HashError> {
        let policy = self.policy;
        let usable = stored.filter(|hash| match hash.check() {
            Ok(()) => true,
            Err(problem) => {
                tracing::error!(%problem, "a stored password hash cannot be used; set a new password");
                false
            }
        });
        let work = move || policy.verify(&password, usable.as_ref());
        Ok(self.run(work).await??)
    }

    /// Hashes a new password with a new salt and the current policy.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        let mut salt = [0; 16];
        self.entropy.fill(&mut salt)?;
        let policy = self.policy;
        Ok(self.run(move || policy.hash(&password, &salt)).await??)
    }

    /// The number of hashes that are computed, and of those that wait.
    pub fn load(&self) -> (usize, usize) {
        (self.shared.running.load(Ordering::Relaxed), self.shared.lock().jobs.len())
    }

    /// Runs `work` on a hashing thread, after the jobs that are queued already.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let state = Arc::new(JobState::default());
        let _guard = AbandonOnDrop(Arc::clone(&state));
        let (sender, mut result) = oneshot::channel();
        let job = Job {
            state: Arc::clone(&state),
            run: Box::new(move || {
                // An error means that the caller has disconnected.
                let _ = sender.send(work());
            }),
        };
        self.shared.enqueue(job)?;
        let outcome = match timeout(MAX_WAIT, &mut result).await {
            Ok(outcome) => outcome,
            Err(_) if state.has_started.load(Ordering::Acquire) => result.await,
            Err(_) => return Err(refuse("wait")),
        };
        outcome.map_err(|_| HashError::Crashed)
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.job_added.notify_all();
    }
}

/// The state of a job, shared by its caller and the thread.
#[derive(Debug, Default)]
struct JobState {
    /// Set by the thread.
    has_started: AtomicBool,
    /// Set by the caller, when it no longer waits for the result.
    is_abandoned: AtomicBool,
}

/// Marks a job as abandoned when it is dropped, with the caller's future, because the client disconnected.
struct AbandonOnDrop(Arc<JobState>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.is_abandoned.store(true, Ordering::Release);
    }
}

struct Job {
    state: Arc<JobState>,
    run: Box<dyn FnOnce() + Send>,
}

impl Job {
    fn is_abandoned(&self) -> bool {
        self.state.is_abandoned.load(Ordering::Acquire)
    }
}

struct Queue {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    job_added: Condvar,
    capacity: usize,
    running: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl Shared {
    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, job: Job) -> Result<(), HashError> {
        let mut queue = self.lock();
        if queue.jobs.len() >= self.capacity {
            // Jobs of clients that have disconnected must not take the place of others.
            queue.jobs.retain(|job| !job.is_abandoned());
        }
        if queue.jobs.len() >= self.capacity {
            return Err(refuse("full"));
        }
        queue.jobs.push_back(job);
        show_queued(&queue);
        self.job_added.notify_one();
        Ok(())
    }

    /// Runs jobs until the pool is dropped.
    fn work(&self, policy: &HashPolicy) {
        lower_priority();
        while let Some(job) = self.next() {
            if job.is_abandoned() {
                continue;
            }
            job.state.has_started.store(true, Ordering::Release);
            self.running.fetch_add(1, Ordering::Relaxed);
            metrics::gauge!("auth_hash_running").increment(1);
            // A panic drops the sender, and the caller gets an error.
            if catch_unwind(AssertUnwindSafe(job.run)).is_err() {
                tracing::error!("a password hash crashed");
            }
            policy.give_back_more();
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
            if let Some(job) = queue.jobs.pop_front() {
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
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    const CHEAP: HashPolicy = HashPolicy { memory_kib: 64, iterations: 1, parallelism: 1 };

    fn pool(permits: usize, queue: usize) -> Arc<HashPool> {
        Arc::new(HashPool::start(CHEAP, permits, queue, Arc::new(SystemEntropy::new())).unwrap())
    }

    fn password(text: &str) -> Password {
        Password::new(text.to_owned())
    }

    /// Occupies one thread until the sender is dropped.
    fn occupy(
        pool: &Arc<HashPool>,
    ) -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), HashError>>) {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let pool = Arc::clone(pool);
        let task = tokio::spawn(async move { pool.run(move || _ = held.recv()).await });
        (release, task)
    }

    /// Waits until the pool has this load.
    async fn reaches(pool: &HashPool, load: (usize, usize)) {
        while pool.load() != load {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn password_matches_only_its_own_hash() {
        let pool = pool(1, 4);
        let hash = pool.hash(password("plum")).await.unwrap();
        let right = pool.verify(password("plum"), Some(hash.clone())).await.unwrap();
        assert_eq!((right.matches(), right.needs_rehash()), (true, false));
        assert!(!pool.verify(password("peach"), Some(hash)).await.unwrap().matches());
        assert!(!pool.verify(password("plum"), None).await.unwrap().matches());
    }

    #[tokio::test]
    async fn unusable_stored_hash_matches_nothing() {
        let pool = pool(1, 4);
        for text in ["", "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8"] {
            let stored = PasswordHash::from_stored(text.to_owned());
            let found = pool.verify(password("x"), Some(stored)).await.unwrap();
            assert_eq!((found.matches(), found.needs_rehash()), (false, false));
        }
    }

    #[tokio::test]
    async fn hash_of_another_policy_needs_a_rehash() {
        let expensive = HashPolicy { iterations: 2, ..CHEAP };
        let hash = expensive.hash(&password("plum"), &[1; 16]).unwrap();
        let found = pool(1, 4).verify(password("plum"), Some(hash)).await.unwrap();
        assert_eq!((found.matches(), found.needs_rehash()), (true, true));
    }

    #[tokio::test]
    async fn full_queue_refuses_immediately() {
        let pool = pool(1, 2);
        let (_release, _running) = occupy(&pool);
        reaches(&pool, (1, 0)).await;
        let _waiting = [occupy(&pool), occupy(&pool)];
        reaches(&pool, (1, 2)).await;
        assert_eq!(pool.hash(password("x")).await, Err(HashError::Busy));
        assert_eq!(pool.load(), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_hash_times_out_but_running_hash_is_awaited() {
        let pool = pool(1, 2);
        let (release, running) = occupy(&pool);
        reaches(&pool, (1, 0)).await;
        assert_eq!(pool.hash(password("x")).await, Err(HashError::Busy));
        assert!(!running.is_finished());
        drop(release);
        assert_eq!(running.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn disconnected_client_keeps_its_permit_but_not_its_place_in_the_queue() {
        let pool = pool(2, 2);
        let (_one, first) = occupy(&pool);
        let (_two, _second) = occupy(&pool);
        reaches(&pool, (2, 0)).await;
        first.abort();
        let (_three, third) = occupy(&pool);
        reaches(&pool, (2, 1)).await;
        third.abort();
        assert!(third.await.unwrap_err().is_cancelled());
        let (_four, _fourth) = occupy(&pool);
        let (_five, _fifth) = occupy(&pool);
        // The third job left the queue without running, which made room for the fifth.
        reaches(&pool, (2, 2)).await;
    }

    #[tokio::test]
    async fn abandoned_job_is_skipped() {
        let pool = pool(1, 2);
        let (release, running) = occupy(&pool);
        reaches(&pool, (1, 0)).await;
        let ran = Arc::new(AtomicBool::new(false));
        let waiting = tokio::spawn({
            let (pool, ran) = (Arc::clone(&pool), Arc::clone(&ran));
            async move { pool.run(move || ran.store(true, Ordering::SeqCst)).await }
        });
        reaches(&pool, (1, 1)).await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        drop(release);
        running.await.unwrap().unwrap();
        assert!(pool.hash(password("after it")).await.is_ok());
        assert!(!ran.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn panic_reaches_its_caller_and_the_thread_continues() {
        let pool = pool(1, 2);
        assert_eq!(pool.run(|| panic!("on purpose")).await, Err::<(), _>(HashError::Crashed));
        assert!(pool.hash(password("x")).await.is_ok());
        reaches(&pool, (0, 0)).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_hashing_threads_have_a_lower_priority() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        assert_eq!(pool(1, 1).run(niceness).await, Ok(NICENESS));
        assert_eq!(niceness(), before);
    }
}
