//! Resource servers in this process: verifiers that check tokens from a pool, at a steady rate.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use verifier::{NoExtra, Verifier};

use crate::clock;
use crate::jwt::Peek;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::random::Random;

const LARGEST: usize = 256;

/// The newest access tokens, from which checks pick at random.
#[derive(Debug)]
pub struct Pool {
    tokens: Mutex<VecDeque<(String, Peek)>>,
    random: Random,
}

impl Pool {
    /// An empty pool.
    pub fn new(random: &Random) -> Arc<Self> {
        Arc::new(Self { tokens: Mutex::default(), random: Random::from_seed(random.next()) })
    }

    /// Adds a token; the oldest leaves.
    pub fn push(&self, token: &str) {
        let mut tokens = self.tokens.lock().expect("nobody panics with this lock");
        tokens.push_back((token.to_owned(), Peek::into(token)));
        if tokens.len() > LARGEST {
            tokens.pop_front();
        }
    }

    /// A token with more than a second to live.
    fn pick(&self) -> Option<(String, Peek)> {
        let mut tokens = self.tokens.lock().expect("nobody panics with this lock");
        let now = clock::unix_seconds();
        tokens.retain(|(_, token)| token.exp > now + 1);
        (!tokens.is_empty()).then(|| tokens[self.random.below(tokens.len())].clone())
    }
}

/// A verifier of `issuer` for the audience `api` that has fetched its keys.
pub async fn ready_verifier(issuer: &str) -> Arc<Verifier> {
    let verifier = Verifier::builder(issuer).audience("api").build().expect("a good configuration");
    verifier.ready(Duration::from_secs(10)).await.expect("the issuer is reachable");
    Arc::new(verifier)
}

/// Checks `per_second` tokens of `pool` a second, in turn at each of `verifiers`, and tells the ledger.
///
/// Every second check is made with the keys in hand only, like a resource server that never fetches because of an unknown
/// `kid`: it must do without that safety net. An empty pool is reported as a failure: nothing was checked.
pub fn check_tokens(
    load: &mut Load,
    verifiers: &[Arc<Verifier>],
    per_second: u32,
    pool: &Arc<Pool>,
    ledger: &Arc<Ledger>,
) {
    let (pool, ledger) = (Arc::clone(pool), Arc::clone(ledger));
    let ways: Vec<_> = verifiers
        .iter()
        .flat_map(|verifier| [(Arc::clone(verifier), true), (Arc::clone(verifier), false)])
        .collect();
    let mut turn = ways.into_iter().cycle();
    load.every(Duration::from_secs(1) / per_second, move || {
        let (verifier, may_fetch) = turn.next().expect("at least one verifier");
        let (picked, ledger) = (pool.pick(), Arc::clone(&ledger));
        async move {
            let Some((token, peek)) = picked else { return ledger.failed("no living token to check") };
            let outcome = if may_fetch {
                verifier.verify::<NoExtra>(&token).await.map(drop)
            } else {
                verifier.verify_now::<NoExtra>(&token).map(drop)
            };
            match outcome {
                Ok(()) => ledger.accepted(),
                Err(error) => ledger.refused(&peek, error.to_string()),
            }
        }
    });
}
