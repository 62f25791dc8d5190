//! 200 requests a second through a front end, of three kinds, and what became of them.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::site::{NODES, Site};
use crate::arrivals::{Counts, Schedule, Tally};
use crate::client::{Answer, Client, Lost};

/// Calls a second of each kind.
const MIX: [(Kind, u32); 3] = [(Kind::Ping, 120), (Kind::Jwks, 40), (Kind::Refresh, 40)];
/// As many as are needed so that a session is never refreshed twice at a time while some answers take long.
const SESSIONS: usize = 24;
/// A call that took longer noticed that something was wrong.
const DISTURBED: Duration = Duration::from_millis(500);
/// So long after a SIGKILL its connections are closed everywhere, whatever else the machine does.
const NOTICED: Duration = Duration::from_millis(50);

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The application, which wants a token.
    Ping,
    /// The key set.
    Jwks,
    /// A POST that changes something.
    Refresh,
}

/// Clients that are logged in and may start to call.
#[derive(Debug)]
pub struct Traffic {
    client: Client,
    access: String,
    refresh: Arc<Mutex<VecDeque<String>>>,
}

/// What became of the calls of one run.
#[derive(Debug)]
pub struct Outcome {
    counts: Vec<Counts>,
    calls: Vec<Call>,
    died_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    kind: Kind,
    sent_at: Instant,
    took: Duration,
    is_ok: bool,
    replica: Option<usize>,
}

impl Traffic {
    /// Logs in through the front end, as users that may call the application.
    pub async fn prepare(site: &Site) -> Self {
        let users = site.cluster().create_users("traffic", 2, &["ping"]).await;
        let (client, password) = (site.client(), site.cluster().user_password());
        let mut refresh = VecDeque::new();
        let mut access = String::new();
        for user in users.iter().cycle().take(SESSIONS) {
            let tokens = client.login(user, password).await.expect("an answer").tokens();
            refresh.push_back(tokens.refresh);
            access = tokens.access;
        }
        Self { client, access, refresh: Arc::new(Mutex::new(refresh)) }
    }

    /// Calls for `span`, while `fault` happens; it says when a node died of it, if one did.
    pub async fn run(&self, span: Duration, fault: impl Future<Output = Option<Instant>>) -> Outcome {
        let (start, seen) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let mut running = JoinSet::new();
        let mut tallies = Vec::new();
        for (kind, per_second) in MIX {
            let tally = Tally::new(kind.name());
            tallies.push(Arc::clone(&tally));
            let (caller, seen) = (self.caller(), Arc::clone(&seen));
            running.spawn(async move {
                let call = || caller.clone().call(kind, Arc::clone(&seen));
                Schedule::per_second(per_second).run(&tally, || start.elapsed() < span, call).await;
            });
        }
        let died_at = fault.await;
        running.join_all().await;
        let calls = std::mem::take(&mut *seen.lock().expect("nobody panics with this lock"));
        Outcome { counts: tallies.iter().map(|tally| tally.counts()).collect(), calls, died_at }
    }

    fn caller(&self) -> Caller {
        Caller { client: self.client.with_bearer(&self.access), refresh: Arc::clone(&self.refresh) }
    }
}

#[derive(Clone)]
struct Caller {
    client: Client,
    refresh: Arc<Mutex<VecDeque<String>>>,
}

impl Caller {
    async fn call(self, kind: Kind, seen: Arc<Mutex<Vec<Call>>>) -> Result<(), String> {
        let sent_at = Instant::now();
        let answer = match kind {
            Kind::Ping => self.client.get("/ping").await,
            Kind::Jwks => self.client.jwks().await,
            Kind::Refresh => self.refresh_one().await,
        };
        let outcome = judge(&answer);
        let replica = answer.ok().and_then(|answer| answer.header("x-replica").parse().ok());
        let call = Call { kind, sent_at, took: sent_at.elapsed(), is_ok: outcome.is_ok(), replica };
        seen.lock().expect("nobody panics with this lock").push(call);
        outcome
    }

    /// Takes the session that waited longest; its newest token goes back to the others.
    async fn refresh_one(&self) -> Result<Answer, Lost> {
        let longest_waiting = self.refresh.lock().expect("nobody panics with this lock").pop_front();
        let token =
            longest_waiting.ok_or_else(|| Lost { why: "all sessions wait for an answer".to_owned() })?;
        let answer = self.client.refresh(&token).await;
        let newest =
            answer.as_ref().ok().and_then(Answer::find_tokens).map_or(token, |tokens| tokens.refresh);
        self.refresh.lock().expect("nobody panics with this lock").push_back(newest);
        answer
    }
}

fn judge(answer: &Result<Answer, Lost>) -> Result<(), String> {
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => Ok(()),
        Ok(answer) => Err(answer.status.as_u16().to_string()),
        Err(lost) => Err(lost.why.clone()),
    }
}

impl Outcome {
    /// Calls that failed, and those that could not be sent.
    pub fn failed(&self) -> u64 {
        self.counts.iter().map(|counts| counts.failed.count() + counts.shed).sum()
    }

    /// Failed calls of one kind.
    pub fn failed_of(&self, kind: Kind) -> u64 {
        let of_kind = self.counts.iter().filter(|counts| counts.name == kind.name());
        of_kind.map(|counts| counts.failed.count() + counts.shed).sum()
    }

    /// Failed calls of one kind that no replica had in its hands when the node died: there is no excuse for them.
    pub fn failed_without_need(&self, kind: Kind) -> usize {
        let failed = self.calls.iter().filter(|call| call.kind == kind && !call.is_ok);
        failed.filter(|call| self.died_at.is_none_or(|died_at| call.sent_at > died_at + NOTICED)).count()
    }

    /// How many calls were due.
    pub fn due(&self) -> u64 {
        self.counts.iter().map(Counts::due).sum()
    }

    /// From the death of the node until the last answer to a call that noticed; zero when none did.
    pub fn recovered_after(&self) -> Duration {
        let Some(died_at) = self.died_at else { return Duration::ZERO };
        let disturbed = self.calls.iter().filter(|call| !call.is_ok || call.took > DISTURBED);
        let ended = disturbed.map(|call| (call.sent_at + call.took).saturating_duration_since(died_at));
        ended.max().unwrap_or_default()
    }

    /// How many calls of the application each node answered.
    pub fn answered_by(&self) -> [usize; NODES] {
        std::array::from_fn(|number| self.calls.iter().filter(|call| call.replica == Some(number)).count())
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Ping => "GET /ping",
            Self::Jwks => "GET JWKS",
            Self::Refresh => "refresh",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} failed", self.failed(), self.due())?;
        if self.died_at.is_some() {
            write!(formatter, ", undisturbed again after {:?}", self.recovered_after())?;
        }
        for counts in &self.counts {
            write!(formatter, "\n  {counts}")?;
        }
        Ok(())
    }
}
