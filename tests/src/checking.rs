//! Resource servers in this process: verifiers that check tokens from a pool, at a steady rate.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use verifier::{FeedState, NoExtra, Seconds, Verifier};

use crate::arrivals::{Schedule, Tally};
use crate::clock;
use crate::jwt::Peek;
use crate::ledger::{Ledger, Outcome};
use crate::load::Load;
use crate::random::Random;
use crate::wait;

const LARGEST: usize = 2048;
/// The service's value in [`keys_of_seconds`](crate::cluster::Plan::keys_of_seconds).
const LEEWAY: Seconds = Seconds(2);
/// The normal maximum lag of a verifier that reads the feed.
const FRESH: Duration = Duration::from_secs(3);
/// How long tokens are tried after their expiry: they must be refused then.
const AFTERLIFE: i64 = 2 + LEEWAY.0;

/// The newest access tokens; checks choose from them at random.
#[derive(Debug)]
pub struct Pool {
    tokens: Mutex<VecDeque<(Arc<str>, Arc<Peek>)>>,
    random: Random,
}

impl Pool {
    /// An empty pool.
    pub fn new(random: &Random) -> Arc<Self> {
        Arc::new(Self { tokens: Mutex::default(), random: Random::from_seed(random.next()) })
    }

    /// Adds a token and removes the oldest.
    pub fn push(&self, token: &str) {
        let mut tokens = self.tokens.lock().expect("nobody panics with this lock");
        tokens.push_back((token.into(), Arc::new(Peek::into(token))));
        if tokens.len() > LARGEST {
            tokens.pop_front();
        }
    }

    /// A valid token, or one that expired a moment ago.
    fn pick(&self) -> Option<(Arc<str>, Arc<Peek>)> {
        let mut tokens = self.tokens.lock().expect("nobody panics with this lock");
        let oldest = clock::unix_seconds() - AFTERLIFE;
        while tokens.front().is_some_and(|(_, token)| token.exp < oldest) {
            tokens.pop_front();
        }
        (!tokens.is_empty()).then(|| tokens[self.random.below(tokens.len())].clone())
    }
}

/// Verifiers, and the tokens for them to check.
#[derive(Clone, Debug)]
pub struct Checks {
    verifiers: Vec<Arc<Verifier>>,
    pool: Arc<Pool>,
    ledger: Arc<Ledger>,
}

impl Checks {
    /// Checks by verifiers that read the feed, recorded in the ledger.
    pub fn new(verifiers: Vec<Arc<Verifier>>, pool: &Arc<Pool>, ledger: &Arc<Ledger>) -> Self {
        Self { verifiers, pool: Arc::clone(pool), ledger: Arc::clone(ledger) }
    }

    /// The verifiers.
    pub fn verifiers(&self) -> &[Arc<Verifier>] {
        &self.verifiers
    }

    /// Checks this many tokens a second in the background.
    pub fn arrive(self, load: &mut Load, per_second: u32, tally: &Arc<Tally>) {
        let turn = AtomicUsize::new(0);
        load.arrive(Schedule::per_second(per_second), tally, move || {
            let (checks, n) = (self.clone(), turn.fetch_add(1, Ordering::Relaxed));
            async move { checks.check(n).await }
        });
    }

    /// Check number `n`, at each verifier in turn.
    ///
    /// Every second check uses only the cached keys, like a resource server that never fetches for an unknown
    /// `kid`: the keys must suffice without that safety net. A refusal may be correct: the checkers decide.
    async fn check(&self, n: usize) -> Result<(), String> {
        let verifier = &self.verifiers[n / 2 % self.verifiers.len()];
        let Some((token, peek)) = self.pool.pick() else { return Err("no token to check".to_owned()) };
        let sent = clock::since_epoch();
        // The verifier's own report: a disconnected one may miss later revocations.
        let connected = verifier.status().feed.staleness.is_some_and(|staleness| staleness <= FRESH);
        let outcome = if n.is_multiple_of(2) {
            verifier.verify::<NoExtra>(&token).await.map(drop)
        } else {
            verifier.verify_now::<NoExtra>(&token).map(drop)
        };
        let outcome = match outcome {
            Ok(()) => Outcome::Ok,
            Err(verifier::VerifyError::Unavailable(error)) => Outcome::Info(error.to_string()),
            Err(error) => Outcome::Fail(error.to_string()),
        };
        self.ledger.verified(sent, &peek, connected, outcome);
        Ok(())
    }
}

/// A verifier of `issuer` for the audience `api` that has fetched its keys and reads the feed.
pub async fn ready_verifier(issuer: &str) -> Arc<Verifier> {
    let verifier =
        Verifier::builder(issuer).audience("api").leeway(LEEWAY).build().expect("a good configuration");
    verifier.ready(Duration::from_secs(10)).await.expect("the issuer is reachable");
    wait::until("the feed is live", Duration::from_secs(10), async || {
        (verifier.status().feed.state == FeedState::Live).then_some(())
    })
    .await;
    Arc::new(verifier)
}
