//! One account, and clients that guess, try to use up all hashing threads: others still log in, and refresh.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::arrivals::{Counts, SHORTAGE, Schedule, Tally};
use e2e::client::{Answer, Client, Tokens};
use e2e::cluster::{Cluster, Plan};
use e2e::ledger::Outcome;
use e2e::load::Load;
use e2e::postgres::Postgres;
use e2e::wait;
use http::StatusCode;

use crate::TURN;

const WRONG: &str = "invalid_credentials";
const OF_ONE_ACCOUNT: u8 = 100;
const THAT_GUESS: u8 = 80;
/// Clients of the flood ignore `Retry-After`, and try again after this time.
const IMPATIENCE: Duration = Duration::from_millis(500);
const BEFORE: Duration = Duration::from_secs(4);
const FLOOD: Duration = Duration::from_secs(10);
/// A login takes at most this long.
const PROMPTLY: Duration = Duration::from_secs(2);
const REFRESHES: Schedule = Schedule::per_second(50);
const LOGINS: Schedule = Schedule::per_second(4);
/// Shorter percentiles depend on what else the machine does: other tests run beside this one.
const NOISE: Duration = Duration::from_millis(40);

#[tokio::test(flavor = "multi_thread")]
async fn one_account_and_many_guesses_keep_no_other_user_from_logging_in() {
    let _turn = TURN.lock().await;
    let site = Site::start().await;

    let quiet = site.measure(Load::default(), BEFORE).await;
    let flood = site.flood();
    // At first, the clients of the flood are as new as all others. Once they had their turns, they are not.
    wait::until("each client that guesses was served", Duration::from_secs(10), async || {
        (site.guesses() >= u64::from(THAT_GUESS)).then_some(())
    })
    .await;
    let busy = site.measure(flood, FLOOD).await;

    println!("before\n{quiet}\nduring the flood\n{busy}\nthe flood\n{}", site.flood.counts());
    assert_eq!((busy.refreshes.failed.count(), busy.refreshes.shed), (0, 0), "refreshes failed");
    let usual = quiet.refreshes.ok.percentile(99.0).max(NOISE);
    assert!(busy.refreshes.ok.percentile(99.0) <= 3 * usual, "refreshes were slow");
    let prompt = busy.logins.ok.count();
    assert!(100 * prompt >= 95 * busy.logins.due(), "{prompt} of {} logins were prompt", busy.logins.due());
}

struct Site {
    cluster: Cluster,
    base: String,
    account: String,
    others: Vec<String>,
    sessions: Arc<Mutex<Vec<Tokens>>>,
    flood: Arc<Tally>,
}

/// Refreshes and logins of those who take no part in the flood.
struct Measured {
    refreshes: Counts,
    logins: Counts,
}

impl Site {
    async fn start() -> Self {
        let database = Postgres::shared().create_database();
        let cluster = Cluster::start(Plan::new(1, database.url())).await;
        let account = cluster.create_users("account", 1, &[]).await.remove(0);
        let others = cluster.create_users("other", 10, &[]).await;
        let base = cluster.replicas()[0].public_url();
        let mut sessions = Vec::new();
        for user in others.iter().cycle().take(20) {
            let login = Client::new(&base).login(user, cluster.user_password()).await;
            sessions.push(login.expect("an answer").tokens());
        }
        let (sessions, flood) = (Arc::new(Mutex::new(sessions)), Tally::new("flood"));
        Self { cluster, base, account, others, sessions, flood }
    }

    /// Refreshes, and logs in from a network of its own each time, for `span` beside `load`.
    async fn measure(&self, mut load: Load, span: Duration) -> Measured {
        let (refreshes, logins) = (Tally::new("refresh"), Tally::new("login"));
        let (client, sessions) = (Client::new(&self.base), Arc::clone(&self.sessions));
        load.arrive(REFRESHES, &refreshes, move || refresh(client.clone(), Arc::clone(&sessions)));
        let (base, password) = (self.base.clone(), self.cluster.user_password());
        let mut users = self.others.clone().into_iter().cycle();
        let mut addresses = (1..=250).cycle().map(|last| Ipv4Addr::new(127, 0, 3, last));
        load.arrive(LOGINS, &logins, move || {
            let client = Client::new_from(addresses.next().expect("a cycle"), &base).with_timeout(PROMPTLY);
            let user = users.next().expect("a cycle");
            async move { Outcome::kind(&client.login(&user, password).await) }
        });
        wait::let_pass(span).await;
        load.stop().await;
        Measured { refreshes: refreshes.counts(), logins: logins.counts() }
    }

    /// Connections of one account with the right password, five from each address; and connections with wrong
    /// passwords, each from its own address and each time for another name.
    fn flood(&self) -> Load {
        let mut load = Load::default();
        for number in 0..OF_ONE_ACCOUNT {
            let client = Client::new_from(Ipv4Addr::new(127, 0, 1, 1 + number / 5), &self.base);
            let (account, password) = (self.account.clone(), self.cluster.user_password());
            self.try_forever(&mut load, client, move || (account.clone(), password));
        }
        let tries = Arc::new(AtomicU32::new(0));
        for number in 0..THAT_GUESS {
            let client = Client::new_from(Ipv4Addr::new(127, 0, 2, 1 + number), &self.base);
            let tries = Arc::clone(&tries);
            let guess =
                move || (format!("guess-{}", tries.fetch_add(1, Ordering::Relaxed)), "not the password");
            self.try_forever(&mut load, client, guess);
        }
        load
    }

    /// The number of wrong passwords that were checked so far.
    fn guesses(&self) -> u64 {
        self.flood.counts().failures.get(WRONG).copied().unwrap_or_default()
    }

    fn try_forever(
        &self,
        load: &mut Load,
        client: Client,
        next: impl Fn() -> (String, &'static str) + Send + 'static,
    ) {
        let flood = Arc::clone(&self.flood);
        load.repeat(Duration::ZERO, move || {
            let (client, (user, password), flood) = (client.clone(), next(), Arc::clone(&flood));
            async move {
                let answer = client.login(&user, password).await;
                let Ok(known) = &answer else { return };
                let code = known.code();
                // A balancer would repeat a 503 elsewhere.
                assert!(code != "overloaded" || known.status == StatusCode::TOO_MANY_REQUESTS, "{known}");
                flood.count(known.took, Outcome::kind(&answer).map_err(|_| code));
                if known.retry_after().is_some() {
                    wait::let_pass(IMPATIENCE).await;
                }
            }
        });
    }
}

async fn refresh(client: Client, sessions: Arc<Mutex<Vec<Tokens>>>) -> Result<(), String> {
    let Some(tokens) = sessions.lock().expect("nobody panics with this lock").pop() else {
        return Err(SHORTAGE.to_owned());
    };
    let answer = client.refresh(&tokens.refresh).await;
    let next = answer.as_ref().ok().and_then(Answer::find_tokens);
    sessions.lock().expect("nobody panics with this lock").extend(next);
    Outcome::kind(&answer)
}

impl std::fmt::Display for Measured {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}\n{}", self.refreshes, self.logins)
    }
}
