//! 200 requests a second of three kinds through a front end, and their outcomes.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::site::{NODES, Site};
use crate::arrivals::{Counts, SHORTAGE, Schedule, Tally};
use crate::client::{Answer, Client, Lost};

/// Calls a second of each kind.
const MIX: [(Kind, u32); 3] = [(Kind::Ping, 120), (Kind::Jwks, 40), (Kind::Refresh, 40)];
/// The number of sessions. A session is never refreshed twice at a time: these are enough for 5 s without any
/// response.
const SESSIONS: usize = 5 * 40;
/// One in this many calls of a run may be missing because the driver had too few sessions.
const FEW: u64 = 100;
/// Logins at a time.
const LOGINS: usize = 4;
/// A call that took longer was affected by the fault.
const DISTURBED: Duration = Duration::from_millis(500);
/// The time after a SIGKILL until all connections of the process are closed, even on a busy machine.
const NOTICED: Duration = Duration::from_millis(50);

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The application, which requires a token.
    Ping,
    /// The key set.
    Jwks,
    /// A POST that changes something.
    Refresh,
}

/// Clients that are logged in and ready to call.
#[derive(Debug)]
pub struct Traffic {
    client: Client,
    access: String,
    refresh: Arc<Mutex<VecDeque<String>>>,
}

/// The outcomes of the calls of one run.
#[derive(Debug)]
pub struct Outcome {
    counts: Vec<Counts>,
    calls: Vec<Call>,
    death: Option<Death>,
}

/// A node that was ended with SIGKILL.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// The number of the node.
    pub node: usize,
    /// Before the first of its processes ended.
    pub began: Instant,
    /// After the last one had.
    pub ended: Instant,
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
    /// Logs in through the front end as users who may call the application.
    pub async fn prepare(site: &Site) -> Self {
        let users = site.cluster().create_users("traffic", LOGINS, &["ping"]).await;
        let (client, password) = (site.client(), site.cluster().user_password());
        let mut logins = JoinSet::new();
        for user in users {
            let client = client.clone();
            logins.spawn(async move {
                let mut sessions = Vec::new();
                for _ in 0..SESSIONS / LOGINS {
                    sessions.push(client.login(&user, password).await.expect("an answer").tokens());
                }
                sessions
            });
        }
        let sessions = logins.join_all().await.concat();
        let access = sessions.last().expect("some").access.clone();
        let refresh = sessions.into_iter().map(|tokens| tokens.refresh).collect();
        Self { client, access, refresh: Arc::new(Mutex::new(refresh)) }
    }

    /// Calls for `span` during `fault`, which returns the killed node, if any.
    pub async fn run(&self, span: Duration, fault: impl Future<Output = Option<Death>>) -> Outcome {
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
        let death = fault.await;
        running.join_all().await;
        let calls = std::mem::take(&mut *seen.lock().expect("nobody panics with this lock"));
        let counts: Vec<Counts> = tallies.iter().map(|tally| tally.counts()).collect();
        let outcome = Outcome { counts, calls, death };
        let short: u64 = outcome.counts.iter().map(|counts| counts.short).sum();
        assert!(short * FEW <= outcome.due(), "the driver had too few sessions {short} times: {outcome}");
        outcome
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
            Kind::Refresh => {
                let Some(answer) = self.refresh_one().await else { return Err(SHORTAGE.to_owned()) };
                answer
            }
        };
        let outcome = judge(&answer);
        let replica = answer.ok().and_then(|answer| answer.header("x-replica").parse().ok());
        let call = Call { kind, sent_at, took: sent_at.elapsed(), is_ok: outcome.is_ok(), replica };
        seen.lock().expect("nobody panics with this lock").push(call);
        outcome
    }

    /// Takes the session that was unused for the longest time, if there is one; its newest token is returned
    /// to the others.
    async fn refresh_one(&self) -> Option<Result<Answer, Lost>> {
        let token = self.refresh.lock().expect("nobody panics with this lock").pop_front()?;
        let answer = self.client.refresh(&token).await;
        let newest =
            answer.as_ref().ok().and_then(Answer::find_tokens).map_or(token, |tokens| tokens.refresh);
        self.refresh.lock().expect("nobody panics with this lock").push_back(newest);
        Some(answer)
    }
}

fn judge(answer: &Result<Answer, Lost>) -> Result<(), String> {
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => Ok(()),
        Ok(answer) => Err(answer.status.as_u16().to_string()),
        Err(lost) => Err(lost.why.clone()),
    }
}

impl Call {
    /// Whether the call cannot have been in flight at the node when it died.
    fn has_no_excuse(&self, death: Death) -> bool {
        let is_before = self.sent_at + self.took < death.began;
        let is_after = self.sent_at > death.ended + NOTICED;
        is_before || is_after || self.replica.is_some_and(|replica| replica != death.node)
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

    /// Failed calls of one kind that were not in flight at the dying node: these must not happen.
    pub fn failed_without_need(&self, kind: Kind) -> usize {
        let failed = self.calls.iter().filter(|call| call.kind == kind && !call.is_ok);
        failed.filter(|call| self.death.is_none_or(|death| call.has_no_excuse(death))).count()
    }

    /// The number of due calls.
    pub fn due(&self) -> u64 {
        self.counts.iter().map(Counts::due).sum()
    }

    /// The time from the death of the node to the last response of an affected call; zero if there is none.
    pub fn recovered_after(&self) -> Duration {
        let Some(died_at) = self.death.map(|death| death.ended) else { return Duration::ZERO };
        let disturbed = self.calls.iter().filter(|call| !call.is_ok || call.took > DISTURBED);
        let ended = disturbed.map(|call| (call.sent_at + call.took).saturating_duration_since(died_at));
        ended.max().unwrap_or_default()
    }

    /// The number of application calls that each node served.
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
        if self.death.is_some() {
            write!(formatter, ", undisturbed again after {:?}", self.recovered_after())?;
        }
        for counts in &self.counts {
            write!(formatter, "\n  {counts}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_in_flight_at_the_dead_node_are_excused() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let death = Death { node: 1, began: at(1000), ended: at(1010) };
        let failed = |sent: u64, took: u64, replica| Call {
            kind: Kind::Ping,
            sent_at: at(sent),
            took: Duration::from_millis(took),
            is_ok: false,
            replica,
        };
        for excused in [failed(990, 15, None), failed(900, 2000, Some(1)), failed(1030, 5, None)] {
            assert!(!excused.has_no_excuse(death), "{excused:?}");
        }
        for needless in [failed(900, 50, None), failed(990, 500, Some(2)), failed(1100, 5, None)] {
            assert!(needless.has_no_excuse(death), "{needless:?}");
        }
    }
}
