//! The usual calls of a cluster's clients: log in, refresh, check tokens, log out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::StatusCode;

use super::Run;
use crate::arrivals::{SHORTAGE, Schedule, Tally};
use crate::checking::{Checks, Pool, ready_verifier};
use crate::client::{Client, Tokens};
use crate::clock;
use crate::cluster::{Cluster, Plan};
use crate::ledger::{Ledger, Outcome};
use crate::load::Load;
use crate::random::Random;
use crate::wait;

/// The maximum number of sessions; beyond it, the least recently used one is dropped.
const MOST_SESSIONS: usize = 1000;
const USERS: usize = 20;
const WATCH_PERIOD: Duration = Duration::from_millis(200);
/// How long all refreshes may be without a response before the clients run out of sessions.
const LONGEST_STALL: u32 = 5;
/// Parallel logins when the clients start.
const FIRST_LOGINS: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long the end of a session may be unknown to a verifier that reports itself as connected, after the
/// feed is cut: it reports this until it has received nothing for 3 s, and received data may be 1 s old.
pub(super) const REACH_WHEN_CUT: Duration = Duration::from_secs(4);

/// `key_rotation_period` of [`plan`].
pub(super) const SIGNS_FOR: Duration = Duration::from_secs(10);

/// The rates of the calls per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) logins: u32,
    pub(super) refreshes: u32,
    pub(super) verifies: u32,
    pub(super) logouts: u32,
}

/// The state of one client application, shared by its calls.
#[derive(Debug)]
pub(super) struct Clients {
    client: Client,
    ledger: Arc<Ledger>,
    pub(super) pool: Arc<Pool>,
    users: Vec<String>,
    password: &'static str,
    random: Random,
    living: Mutex<VecDeque<Tokens>>,
    /// Sessions whose logout got no response.
    doubtful: Mutex<VecDeque<Tokens>>,
    ended: Mutex<VecDeque<Tokens>>,
}

/// Running calls; they continue until they are stopped.
#[derive(Debug)]
pub(super) struct Traffic {
    load: Load,
    pub(super) clients: Arc<Clients>,
}

/// A plan for three replicas, with keys and tokens that live for seconds, and unlimited sessions per user.
pub(super) fn plan(database_url: impl Into<String>) -> Plan {
    Plan::new(3, database_url)
        .keys_of_seconds()
        .set("access_token_ttl", "20s")
        .set("max_sessions_per_user", "0")
}

/// Keys that are announced 5 s before they sign, with a successor announced as soon as they sign.
///
/// It obeys K1: ¾ × 5 s ≥ 1 s max-age + 1 s stale-while-revalidate at most + 0.1 s poll + 2 × 1 s clock
/// bound.
pub(super) fn hurried(plan: Plan) -> Plan {
    plan.set("key_publish_ahead", "5s")
        .set("key_rotation_period", "5s")
        .set("key_poll_interval", "100ms")
        .set("jwks_max_age", "1s")
}

/// This many verifiers that trust the cluster.
pub(super) async fn verifiers(count: usize, cluster: &Cluster) -> Vec<Arc<verifier::Verifier>> {
    let mut verifiers = Vec::new();
    for _ in 0..count {
        verifiers.push(ready_verifier(&cluster.issuer()).await);
    }
    verifiers
}

impl Clients {
    /// Creates users, and as many sessions as calls at `rates` need.
    pub(super) async fn start(run: &Run, cluster: &Cluster, rates: Rates) -> Arc<Self> {
        let users = cluster.create_users("client", USERS, &["ping"]).await;
        let clients = Arc::new(Self {
            client: cluster.client(),
            ledger: Arc::clone(&run.ledger),
            pool: Pool::new(&run.random),
            users,
            password: cluster.user_password(),
            random: Random::from_seed(run.random.next()),
            living: Mutex::default(),
            doubtful: Mutex::default(),
            ended: Mutex::default(),
        });
        let sessions = usize::try_from(rates.refreshes * LONGEST_STALL).expect("usize is no smaller");
        let part = async |part: usize| {
            for _ in (part..sessions).step_by(FIRST_LOGINS) {
                wait::until("the first logins", TIMEOUT, async || clients.log_in().await.ok()).await;
            }
        };
        tokio::join!(part(0), part(1), part(2), part(3));
        clients
    }

    /// The names of the users.
    pub(super) fn users(&self) -> &[String] {
        &self.users
    }

    /// Copies of the newest tokens of some sessions.
    pub(super) fn some_living(&self, count: usize) -> Vec<Tokens> {
        lock(&self.living).iter().take(count).cloned().collect()
    }

    /// A new session of any user.
    pub(super) async fn log_in(&self) -> Result<(), String> {
        let user = self.random.pick(&self.users).expect("some users");
        let sent = clock::since_epoch();
        let answer = self.client.login(user, self.password).await;
        if let Some(tokens) = self.ledger.login(sent, &answer) {
            self.keep(tokens);
        }
        Outcome::kind(&answer)
    }

    /// Refreshes the least recently used session. Without a response, the same token is presented again.
    pub(super) async fn refresh(&self) -> Result<(), String> {
        let Some(shown) = lock(&self.living).pop_front() else { return Err(SHORTAGE.to_owned()) };
        let answer = self.ledger.refresh(&self.client, &shown).await;
        let tokens = answer.as_ref().ok().and_then(crate::client::Answer::find_tokens);
        match (tokens, Outcome::of(&answer)) {
            (Some(tokens), _) => self.keep(tokens),
            (None, Outcome::Info(_)) => self.show_again(shown),
            // Refused: the checkers decide whether this is correct.
            (None, _) => {}
        }
        Outcome::kind(&answer)
    }

    /// Ends a session. Without a response, the next call repeats it.
    pub(super) async fn log_out(&self) -> Result<(), String> {
        self.log_out_at(&self.client).await
    }

    /// The same, at another address.
    pub(super) async fn log_out_at(&self, client: &Client) -> Result<(), String> {
        let again = lock(&self.doubtful).pop_front();
        let Some(shown) = again.or_else(|| lock(&self.living).pop_back()) else {
            return Err(SHORTAGE.to_owned());
        };
        let answer = self.ledger.logout(client, &shown).await;
        let place = if Outcome::of(&answer) == Outcome::Ok { &self.ended } else { &self.doubtful };
        lock(place).push_back(shown);
        Outcome::kind(&answer)
    }

    /// Presents the refresh token of an ended session, which must be refused.
    pub(super) async fn show_ended(&self) -> Result<(), String> {
        let Some(shown) = lock(&self.ended).pop_front() else { return Ok(()) };
        let answer = self.ledger.refresh(&self.client, &shown).await;
        lock(&self.ended).push_back(shown);
        // The checkers judge the result.
        if matches!(Outcome::of(&answer), Outcome::Info(_)) { Outcome::kind(&answer) } else { Ok(()) }
    }

    /// Presents the refresh tokens of ended sessions once more, and refreshes all live ones.
    pub(super) async fn look_back(&self) {
        let ended: Vec<Tokens> = lock(&self.ended).drain(..).collect();
        for shown in ended.iter().rev().take(100) {
            let _ = self.ledger.refresh(&self.client, shown).await;
        }
        let living: Vec<Tokens> = lock(&self.living).drain(..).collect();
        for shown in living.iter().rev().take(100) {
            wait::until("a session goes on", TIMEOUT, async || {
                let answer = self.ledger.refresh(&self.client, shown).await;
                // The checkers judge a refusal.
                (!matches!(Outcome::of(&answer), Outcome::Info(_))).then_some(())
            })
            .await;
        }
    }

    /// Retries immediately, like a client that waits for the response, or much later, like one that was
    /// offline.
    fn show_again(&self, shown: Tokens) {
        let mut living = lock(&self.living);
        if self.random.below(2) == 0 { living.push_front(shown) } else { living.push_back(shown) }
    }

    fn keep(&self, tokens: Tokens) {
        self.pool.push(&tokens.access);
        let mut living = lock(&self.living);
        living.push_back(tokens);
        if living.len() > MOST_SESSIONS {
            living.pop_front();
        }
    }
}

impl Traffic {
    /// Starts calls at `rates`; tokens are checked by `verifiers`.
    pub(super) fn start(
        run: &mut Run,
        clients: &Arc<Clients>,
        verifiers: &[Arc<verifier::Verifier>],
        rates: Rates,
    ) -> Self {
        let mut load = Load::default();
        let mut arrive = |rate: u32, tally: &Arc<Tally>, work: Work| {
            let clients = Arc::clone(clients);
            if rate > 0 {
                load.arrive(Schedule::per_second(rate), tally, move || work.of(Arc::clone(&clients)));
            }
        };
        arrive(rates.logins, &run.tally("login"), Work::LogIn);
        arrive(rates.refreshes, &run.tally("refresh"), Work::Refresh);
        arrive(rates.logouts, &run.tally("logout"), Work::LogOut);
        arrive(rates.logouts, &run.tally("show ended"), Work::ShowEnded);
        let checks = Checks::new(verifiers.to_vec(), &clients.pool, &run.ledger);
        checks.arrive(&mut load, rates.verifies, &run.tally("verify"));
        Self { load, clients: Arc::clone(clients) }
    }

    /// Also reads the key set of each of `replicas` several times a second.
    pub(super) fn watch_keys(&mut self, cluster: &Cluster, ledger: &Arc<Ledger>, replicas: &[usize]) {
        for &replica in replicas {
            let (client, ledger) = (cluster.client().at_replica(replica), Arc::clone(ledger));
            self.load.repeat(WATCH_PERIOD, move || {
                let (client, ledger) = (client.clone(), Arc::clone(&ledger));
                async move {
                    // A replica that is down publishes nothing.
                    let Ok(answer) = client.jwks().await else { return };
                    if answer.status == StatusCode::OK {
                        ledger.key_set(replica, &answer.json());
                    }
                }
            });
        }
    }

    /// Stops and waits for calls in flight.
    pub(super) async fn pause(self) {
        self.load.stop().await;
    }

    /// Stops, waits for calls in flight, and checks all ended and live sessions once more.
    pub(super) async fn stop(self) {
        self.load.stop().await;
        self.clients.look_back().await;
    }
}

/// One kind of call.
#[derive(Clone, Copy, Debug)]
enum Work {
    LogIn,
    Refresh,
    LogOut,
    ShowEnded,
}

impl Work {
    async fn of(self, clients: Arc<Clients>) -> Result<(), String> {
        match self {
            Self::LogIn => clients.log_in().await,
            Self::Refresh => clients.refresh().await,
            Self::LogOut => clients.log_out().await,
            Self::ShowEnded => clients.show_ended().await,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with this lock")
}
