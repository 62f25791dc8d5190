//! Tests of the pool with real threads. `queue.rs` has those of the order.

use std::sync::atomic::AtomicBool;

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
    let task = tokio::spawn(async move { pool.run(Claim::operator(), move |_| _ = held.recv()).await });
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
    let hash = pool.hash(password("plum"), Claim::operator()).await.unwrap();
    let right = pool.verify(password("plum"), Some(hash.clone()), Claim::operator()).await.unwrap();
    assert_eq!((right.matches(), right.needs_rehash()), (true, false));
    assert!(!pool.verify(password("peach"), Some(hash), Claim::operator()).await.unwrap().matches());
    assert!(!pool.verify(password("plum"), None, Claim::operator()).await.unwrap().matches());
}

#[tokio::test]
async fn unusable_stored_hash_matches_nothing() {
    let pool = pool(1, 4);
    for text in ["", "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8"] {
        let stored = PasswordHash::from_stored(text.to_owned());
        let found = pool.verify(password("x"), Some(stored), Claim::operator()).await.unwrap();
        assert_eq!((found.matches(), found.needs_rehash()), (false, false));
    }
}

#[tokio::test]
async fn hash_of_another_policy_needs_a_rehash() {
    let expensive = HashPolicy { iterations: 2, ..CHEAP };
    let hash = expensive.hash(&password("plum"), &[1; 16], &mut Workspace::default()).unwrap();
    let found = pool(1, 4).verify(password("plum"), Some(hash), Claim::operator()).await.unwrap();
    assert_eq!((found.matches(), found.needs_rehash()), (true, true));
}

#[tokio::test]
async fn full_queue_refuses_immediately() {
    let pool = pool(1, 2);
    let (_release, _running) = occupy(&pool);
    reaches(&pool, (1, 0)).await;
    let _waiting = [occupy(&pool), occupy(&pool)];
    reaches(&pool, (1, 2)).await;
    assert_eq!(pool.hash(password("x"), Claim::operator()).await, Err(HashError::Busy));
    assert_eq!(pool.load(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn waiting_hash_times_out_but_running_hash_is_awaited() {
    let pool = pool(1, 2);
    let (release, running) = occupy(&pool);
    reaches(&pool, (1, 0)).await;
    assert_eq!(pool.hash(password("x"), Claim::operator()).await, Err(HashError::Busy));
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
        async move { pool.run(Claim::operator(), move |_| ran.store(true, Ordering::SeqCst)).await }
    });
    reaches(&pool, (1, 1)).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    drop(release);
    running.await.unwrap().unwrap();
    assert!(pool.hash(password("after it"), Claim::operator()).await.is_ok());
    assert!(!ran.load(Ordering::SeqCst));
}

#[tokio::test]
async fn panic_reaches_its_caller_and_the_thread_continues() {
    let pool = pool(1, 2);
    assert_eq!(pool.run(Claim::operator(), |_| panic!("on purpose")).await, Err::<(), _>(HashError::Crashed));
    assert!(pool.hash(password("x"), Claim::operator()).await.is_ok());
    reaches(&pool, (0, 0)).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn only_hashing_threads_have_a_lower_priority() {
    let niceness = || rustix::process::getpriority_process(None).unwrap();
    let before = niceness();
    assert_eq!(pool(1, 1).run(Claim::operator(), move |_| niceness()).await, Ok(NICENESS));
    assert_eq!(niceness(), before);
}

#[tokio::test]
async fn hash_that_loses_its_place_is_refused_immediately() {
    let pool = pool(1, 4);
    let (release, _running) = occupy(&pool);
    reaches(&pool, (1, 0)).await;
    let claim = |network, name| Claim::client(Lane::Public, Some(network), name);
    let mut waiting = Vec::new();
    for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let (task_pool, claim) = (Arc::clone(&pool), claim("flood", name));
        waiting.push(tokio::spawn(async move { task_pool.run(claim, |_| ()).await }));
        reaches(&pool, (1, number + 1)).await;
    }
    assert_eq!(pool.check_room(claim("flood", "e")), Err(HashError::Busy));
    assert_eq!(pool.check_room(claim("other", "e")), Ok(()));
    let newcomer = pool.run(claim("other", "e"), |_| ());
    let (newcomer, refused) = tokio::join!(newcomer, async {
        let refused = waiting.pop().unwrap().await.unwrap();
        drop(release);
        refused
    });
    assert_eq!((newcomer, refused), (Ok(()), Err(HashError::Busy)));
    for job in waiting {
        assert_eq!(job.await.unwrap(), Ok(()));
    }
}
