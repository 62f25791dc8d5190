//! Where password hashes are computed: a few threads of low priority behind a short queue.
//!
//! A hash takes a whole CPU and 19 MiB for tens of milliseconds. However many logins arrive, only `permits` hashes run at
//! once, at a priority below that of everything else, and only `queue` more may wait; whoever comes later is turned away
//! at once. A caller that goes away frees nothing early: its hash runs to its end, or is skipped if it has not begun.

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
    domain::password::{HashFailure, HashPolicy, Password, PasswordHash},
    entropy::{Entropy, EntropyError},
};

/// How long a hash may wait for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Added to the niceness of hashing threads, so that a refresh is never behind a login.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is full, or the turn did not come in time. Try again later.
    #[error("too many passwords are being checked")]
    Busy,
    /// No salt.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The hash could not be computed.
    #[error(transparent)]
    Failed(#[from] HashFailure),
    /// The thread that computed it panicked; it goes on with the next one.
    #[error("a password hash crashed")]
    Crashed,
}

/// What a check of a password found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Whether it is the password that was stored. Never, when none was.
    pub matches: bool,
    /// Whether the stored hash should be replaced by one of the present policy.
    pub needs_rehash: bool,
}

/// Computes password hashes. Dropping it ends its threads after the hash each is at.
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
            line: Mutex::new(Line { jobs: VecDeque::with_capacity(queue), closed: false }),
            arrival: Condvar::new(),
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

    /// Checks a password at the price of one hash, also when there is nothing to check it against.
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
        let work = move || match usable {
            None => {
                policy.dummy().verify(&password).map(|_| Verification { matches: false, needs_rehash: false })
            }
            Some(hash) => hash
                .verify(&password)
                .map(|matches| Verification { matches, needs_rehash: hash.needs_rehash(&policy) }),
        };
        Ok(self.run(work).await??)
    }

    /// Hashes a new password with a fresh salt, at the cost of the present policy.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        let mut salt = [0; 16];
        self.entropy.fill(&mut salt)?;
        let policy = self.policy;
        Ok(self.run(move || policy.hash(&password, &salt)).await??)
    }

    /// Hashes being computed, and hashes waiting.
    pub fn load(&self) -> (usize, usize) {
        (self.shared.running.load(Ordering::Relaxed), self.shared.line().jobs.len())
    }

    /// Runs `work` on a hashing thread when its turn comes.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let ticket = Arc::new(Ticket::default());
        let _leaves = LeavesWhenDropped(Arc::clone(&ticket));
        let (reply, mut answer) = oneshot::channel();
        let job = Job {
            ticket: Arc::clone(&ticket),
            run: Box::new(move || {
                // Nobody is left to hear it: the hash was computed all the same.
                let _ = reply.send(work());
            }),
        };
        self.shared.enqueue(job)?;
        let outcome = match timeout(LONGEST_WAIT, &mut answer).await {
            Ok(outcome) => outcome,
            Err(_) if ticket.begun.load(Ordering::Acquire) => answer.await,
            Err(_) => return Err(refuse("wait")),
        };
        outcome.map_err(|_| HashError::Crashed)
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.shared.line().closed = true;
        self.shared.arrival.notify_all();
    }
}

/// What the caller and the thread tell each other about one hash.
#[derive(Debug, Default)]
struct Ticket {
    begun: AtomicBool,
    abandoned: AtomicBool,
}

/// Held by the caller's future, which is dropped when the client hangs up.
struct LeavesWhenDropped(Arc<Ticket>);

impl Drop for LeavesWhenDropped {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Release);
    }
}

struct Job {
    ticket: Arc<Ticket>,
    run: Box<dyn FnOnce() + Send>,
}

impl Job {
    fn is_abandoned(&self) -> bool {
        self.ticket.abandoned.load(Ordering::Acquire)
    }
}

struct Line {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    line: Mutex<Line>,
    arrival: Condvar,
    capacity: usize,
    running: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl Shared {
    /// Nothing panics while it holds the lock, so a poisoned line is still whole.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, job: Job) -> Result<(), HashError> {
        let mut line = self.line();
        if line.jobs.len() >= self.capacity {
            // Clients that hung up must not keep others out.
            line.jobs.retain(|job| !job.is_abandoned());
        }
        if line.jobs.len() >= self.capacity {
            return Err(refuse("full"));
        }
        line.jobs.push_back(job);
        show_queued(&line);
        self.arrival.notify_one();
        Ok(())
    }

    /// The life of one thread.
    fn work(&self, policy: &HashPolicy) {
        lower_priority();
        while let Some(job) = self.next() {
            if job.is_abandoned() {
                continue;
            }
            job.ticket.begun.store(true, Ordering::Release);
            self.running.fetch_add(1, Ordering::Relaxed);
            metrics::gauge!("auth_hash_running").increment(1);
            // Dropping the reply on the way is how the caller hears of it.
            if catch_unwind(AssertUnwindSafe(job.run)).is_err() {
                tracing::error!("a password hash crashed");
            }
            policy.give_back_more();
            metrics::gauge!("auth_hash_running").decrement(1);
            self.running.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Waits for a job; `None` once the pool is gone.
    fn next(&self) -> Option<Job> {
        let mut line = self.line();
        loop {
            if line.closed {
                return None;
            }
            if let Some(job) = line.jobs.pop_front() {
                show_queued(&line);
                return Some(job);
            }
            line = self.arrival.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn refuse(why: &'static str) -> HashError {
    metrics::counter!("auth_hash_refused_total", "why" => why).increment(1);
    HashError::Busy
}

fn show_queued(line: &Line) {
    metrics::gauge!("auth_hash_queued").set(u32::try_from(line.jobs.len()).unwrap_or(u32::MAX));
}

/// On Linux a thread has a niceness of its own; elsewhere the whole process would slow down.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "hashing threads keep their priority");
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
    async fn a_password_matches_its_own_hash_only() {
        let pool = pool(1, 4);
        let hash = pool.hash(password("plum")).await.unwrap();
        let right = pool.verify(password("plum"), Some(hash.clone())).await.unwrap();
        assert_eq!(right, Verification { matches: true, needs_rehash: false });
        assert!(!pool.verify(password("peach"), Some(hash)).await.unwrap().matches);
        assert!(!pool.verify(password("plum"), None).await.unwrap().matches);
    }

    #[tokio::test]
    async fn a_stored_hash_that_may_not_be_computed_matches_nothing() {
        let pool = pool(1, 4);
        for text in ["", "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8"] {
            let stored = PasswordHash::from_stored(text.to_owned());
            let found = pool.verify(password("x"), Some(stored)).await.unwrap();
            assert_eq!(found, Verification { matches: false, needs_rehash: false });
        }
    }

    #[tokio::test]
    async fn a_hash_of_another_policy_asks_for_a_rehash() {
        let dearer = HashPolicy { iterations: 2, ..CHEAP };
        let hash = dearer.hash(&password("plum"), &[1; 16]).unwrap();
        let found = pool(1, 4).verify(password("plum"), Some(hash)).await.unwrap();
        assert_eq!(found, Verification { matches: true, needs_rehash: true });
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let pool = pool(1, 2);
        let (_release, _running) = occupy(&pool);
        reaches(&pool, (1, 0)).await;
        let _waiting = [occupy(&pool), occupy(&pool)];
        reaches(&pool, (1, 2)).await;
        assert_eq!(pool.hash(password("x")).await, Err(HashError::Busy));
        assert_eq!(pool.load(), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_in_time_is_refused_but_a_hash_that_has_begun_is_awaited() {
        let pool = pool(1, 2);
        let (release, running) = occupy(&pool);
        reaches(&pool, (1, 0)).await;
        assert_eq!(pool.hash(password("x")).await, Err(HashError::Busy));
        assert!(!running.is_finished());
        drop(release);
        assert_eq!(running.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn clients_that_hang_up_neither_free_a_permit_nor_keep_their_place() {
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
        // The third made room for the fifth without ever running.
        reaches(&pool, (2, 2)).await;
    }

    #[tokio::test]
    async fn a_job_whose_caller_left_is_skipped() {
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
    async fn a_panic_reaches_its_caller_and_the_thread_lives() {
        let pool = pool(1, 2);
        assert_eq!(pool.run(|| panic!("on purpose")).await, Err::<(), _>(HashError::Crashed));
        assert!(pool.hash(password("x")).await.is_ok());
        reaches(&pool, (0, 0)).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn hashing_threads_are_nice_and_the_rest_is_not() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        assert_eq!(pool(1, 1).run(niceness).await, Ok(NICENESS));
        assert_eq!(niceness(), before);
    }
}
