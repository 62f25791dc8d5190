//! R7: one refresh token presented 64 times in parallel, while replicas pause for 100 ms and the proxy loses
//! responses.
//!
//! Then, on the same sessions: a late client recovers, and of two holders neither continues.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;

use super::Run;
use super::run::number;
use crate::arrivals::Tally;
use crate::balancer::{Fault, Share};
use crate::checkers::forks;
use crate::client::{Answer, Client, Lost, Tokens};
use crate::clock;
use crate::cluster::{Cluster, Plan};
use crate::ledger::{Call, Ledger, Outcome};
use crate::load::Load;
use crate::postgres::Postgres;
use crate::random::Random;
use crate::wait;

const PARALLEL: usize = 64;
const GRACE: Duration = Duration::from_secs(10);
/// One response in twenty is lost.
const LOST: Share = Share::OneIn(20);
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn play(run: &mut Run) {
    let (sessions, rounds) = run.size.pick((8, 4), (100, 10));
    let database = Postgres::shared().create_database();
    let plan = Plan::new(3, database.url()).set("max_sessions_per_user", "0");
    let cluster = Arc::new(Cluster::start(plan).await);
    run.watch(&cluster);
    let user = cluster.create_users("racer", 1, &[]).await.remove(0);
    let racers =
        Racers { client: cluster.client(), ledger: Arc::clone(&run.ledger), tally: run.tally("refresh") };

    cluster.balancer().misbehave("/v1/refresh", Fault::DropAnswer, LOST);
    let pauses = pauses(&cluster, &run.random);
    let (mut raced, mut posts, mut lost) = (Vec::new(), 0, 0);
    for _ in 0..sessions {
        let mut current = wait::until("a login", Duration::from_secs(20), async || {
            let sent = clock::since_epoch();
            let login = cluster.client().login(&user, cluster.user_password()).await;
            run.ledger.login(sent, &login)
        })
        .await;
        for _ in 0..rounds {
            let answers = racers.race(&current).await;
            posts += answers.len();
            lost += answers.iter().filter(|answer| answer.is_err()).count();
            current = racers.successor(&current, answers).await;
        }
        raced.push(current);
    }
    pauses.stop().await;
    cluster.balancer().behave();
    // All calls were within the grace, so each token has exactly one successor.
    for fork in forks(&run.ledger.entries()) {
        run.ledger.failed(fork);
    }

    let (late, stolen) = raced.split_at(raced.len() / 2);
    let (found, ended) = tokio::join!(racers.come_back_late(late), racers.are_stolen(stolen));
    run.close(&cluster).await;
    run.at_least("posts", number(posts), number(sessions * rounds * PARALLEL), "");
    run.at_least("answers lost", number(lost), number(posts) * 0.02, "");
    run.at_least("late clients let in", number(found), number(late.len()), "");
    run.at_least("sessions ended by reuse", number(ended), number(stolen.len()), "");
}

/// Pauses a random replica for a moment, several times a second.
fn pauses(cluster: &Arc<Cluster>, random: &Random) -> Load {
    let (cluster, random) = (Arc::clone(cluster), Arc::new(Random::from_seed(random.next())));
    let mut pauses = Load::default();
    pauses.repeat(Duration::from_millis(150), move || {
        let (cluster, random) = (Arc::clone(&cluster), Arc::clone(&random));
        async move {
            let victim = random.below(cluster.replicas().len());
            cluster.pause(victim);
            wait::let_pass(PAUSE).await;
            cluster.resume(victim);
        }
    });
    pauses
}

#[derive(Clone)]
struct Racers {
    client: Client,
    ledger: Arc<Ledger>,
    tally: Arc<Tally>,
}

impl Racers {
    async fn race(&self, shown: &Tokens) -> Vec<Result<Answer, Lost>> {
        let mut callers = JoinSet::new();
        for _ in 0..PARALLEL {
            let (racers, shown) = (self.clone(), shown.clone());
            callers.spawn(async move {
                let start = clock::instant();
                let answer = racers.ledger.refresh(&racers.client, &shown).await;
                racers.tally.count(start.elapsed(), Outcome::kind(&answer));
                answer
            });
        }
        callers.join_all().await
    }

    /// The one successor. A call without a response is repeated, and gets the same.
    async fn successor(&self, shown: &Tokens, answers: Vec<Result<Answer, Lost>>) -> Tokens {
        let was_lost = answers.iter().any(Result::is_err);
        let first = answers.into_iter().flatten().find_map(|answer| answer.find_tokens());
        if !was_lost && let Some(first) = first {
            return first;
        }
        wait::until("a retry is answered", GRACE / 2, async || {
            self.ledger.refresh(&self.client, shown).await.ok()?.find_tokens()
        })
        .await
    }

    /// The response is lost, and the client retries after the grace: it gets another token and continues, and
    /// the lost one is void. Returns the number of sessions for which this holds.
    async fn come_back_late(&self, sessions: &[Tokens]) -> usize {
        let mut lost = Vec::new();
        for shown in sessions {
            lost.push(self.answered(shown).await);
        }
        past_grace().await;
        let mut found = 0;
        for (shown, lost) in sessions.iter().zip(&lost) {
            let late = self.answered(shown).await;
            let next = self.answered(&late).await;
            let void = self.ledger.refresh(&self.client, lost).await;
            let goes_on = self.ledger.refresh(&self.client, &next).await;
            let is_void = matches!(void, Ok(answer) if answer.status == StatusCode::UNAUTHORIZED);
            let is_one = matches!(goes_on, Ok(answer) if answer.status == StatusCode::OK);
            found += usize::from(late.refresh != lost.refresh && is_void && is_one);
        }
        found
    }

    /// A thief presents a replaced token after the grace: the session ends for both. Returns the number of
    /// sessions for which this holds.
    async fn are_stolen(&self, sessions: &[Tokens]) -> usize {
        let mut newest = Vec::new();
        for stolen in sessions {
            let second = self.answered(stolen).await;
            newest.push(self.answered(&second).await);
        }
        past_grace().await;
        let mut ended = 0;
        for (stolen, newest) in sessions.iter().zip(&newest) {
            let sent = clock::since_epoch();
            let thief = self.ledger.refresh(&self.client, stolen).await;
            if matches!(thief, Ok(answer) if answer.status == StatusCode::UNAUTHORIZED) {
                let call = Call::End { session: stolen.session.clone() };
                self.ledger.write(sent, Outcome::Ok, call);
            }
            let client = self.ledger.refresh(&self.client, newest).await;
            ended += usize::from(matches!(client, Ok(answer) if answer.status == StatusCode::UNAUTHORIZED));
        }
        ended
    }

    async fn answered(&self, shown: &Tokens) -> Tokens {
        // A retry within the grace gets the same.
        wait::until("a refresh is answered", GRACE / 2, async || {
            self.ledger.refresh(&self.client, shown).await.ok()?.find_tokens()
        })
        .await
    }
}

/// The grace is counted in whole seconds of the database's clock.
async fn past_grace() {
    wait::let_pass(GRACE + Duration::from_millis(1100)).await;
}
