//! A flood of tokens with made-up key names from many threads, over real HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use testkit::{AUDIENCE, NOW, eventually};
use tokio::runtime::{Builder, Handle};
use verifier::testing::MockIssuer;
use verifier::{FeedState, ManualClock, NoExtra, Reason, Seconds, Verified, Verifier, VerifyError};

use crate::all_cpus;

const JWKS: &str = "/.well-known/jwks.json";
const THREADS: usize = 64;
const COOLDOWN: Seconds = Seconds(10);
const COOLDOWNS: usize = 6;
/// What each thread waits after an attempt: the runtime is to have a core now and then, and the feed, which
/// counts in real time, to be heard.
const PAUSE: Duration = Duration::from_millis(5);
/// Made-up names in each cooldown.
const ATTEMPTS: usize = 5_000;

/// Threads that show tokens with names that no key has, until they are told to stop.
struct Flood {
    attempts: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(verifier: &Verifier, issuer: &MockIssuer) -> Self {
        let (attempts, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let threads = (0..THREADS).map(|_| {
            let (verifier, signer, runtime) = (verifier.clone(), issuer.signer(), Handle::current());
            let (attempts, is_over) = (Arc::clone(&attempts), Arc::clone(&is_over));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let number = attempts.fetch_add(1, Ordering::Relaxed);
                    let token = signer.token_at(NOW).header("kid", format!("made-up-{number}")).sign();
                    let refused = runtime.block_on(verifier.verify::<NoExtra>(&token)).unwrap_err();
                    assert_eq!(refused, VerifyError::Invalid(Reason::UnknownKey));
                    std::thread::sleep(PAUSE);
                }
            })
        });
        Self { threads: threads.collect(), attempts, is_over }
    }

    fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("each of them was refused");
        }
    }
}

#[test]
fn flood_of_made_up_names_costs_one_fetch_a_cooldown_and_no_good_token() {
    let _cpus = all_cpus();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(flood());
}

async fn flood() {
    let clock = Arc::new(ManualClock::new(NOW));
    let issuer = MockIssuer::start_at(AUDIENCE, clock.clone()).await.unwrap();
    let verifier = issuer.verifier().build().unwrap();
    verifier.ready(Duration::from_secs(10)).await.unwrap();
    eventually("the feed is live", || verifier.status().feed.state == FeedState::Live).await;
    let before = issuer.requests(JWKS);

    let flood = Flood::start(&verifier, &issuer);
    let accepted = async || {
        let good: Verified = verifier.verify(&issuer.token().sign()).await.expect("a good token");
        assert_eq!(*good.kid(), issuer.kid());
    };
    for cooldown in 0..COOLDOWNS {
        let until = flood.attempts.load(Ordering::Relaxed) + ATTEMPTS;
        while flood.attempts.load(Ordering::Relaxed) < until {
            accepted().await;
        }
        if cooldown == COOLDOWNS / 2 {
            // The flood has used up its own fetches. That the key set has changed is heard all the same.
            issuer.rotate();
            eventually("the new key is known", || verifier.status().keys.count == 2).await;
        }
        clock.advance(COOLDOWN);
    }
    accepted().await;
    flood.stop();

    // The last advance may have begun one more.
    let fetches = issuer.requests(JWKS) - before;
    let refresh = 1;
    assert!((2..=COOLDOWNS + 1 + refresh).contains(&fetches), "{fetches} fetches");
}
