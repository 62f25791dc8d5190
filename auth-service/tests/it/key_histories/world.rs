//! One history: events in the order of true time, decided by the real rules.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

use auth_service::domain::key::{
    Change, KeyPhase, Plan as KeyPlan, announce, compromise, successor_if_due, wind_down,
};
use verifier::{Seconds, UnixTime};

use super::cache::{Habit, Route, Verifier};
use super::checks::{Broken, Violation};
use super::plan::{CHAINS, Fate, LATE_COMMIT, Millis, Order, Plan, START, millis, second};
use super::replica::{Ring, Seen, Token};
use super::table::Table;
use crate::dice::Dice;

/// Counts of events in a history, to check that it is not trivial.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) keys: u64,
    pub(crate) compromises: u64,
    pub(crate) late_commits: u64,
    pub(crate) tokens: u64,
    /// Tokens whose life was limited by the end of their key to less than the configured value.
    pub(crate) new_lives: u64,
    pub(crate) lease_refusals: u64,
    pub(crate) verifications: u64,
    pub(crate) unavailable: u64,
    /// The key had to sign before caches could know it: first start or compromise (K1 waived).
    pub(crate) excused_by_waiver: u64,
    /// The set came from a replica that should not have been used: without lease, or not ready while none
    /// was.
    pub(crate) excused_by_source: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.keys += other.keys;
        self.compromises += other.compromises;
        self.late_commits += other.late_commits;
        self.tokens += other.tokens;
        self.new_lives += other.new_lives;
        self.lease_refusals += other.lease_refusals;
        self.verifications += other.verifications;
        self.unavailable += other.unavailable;
        self.excused_by_waiver += other.excused_by_waiver;
        self.excused_by_source += other.excused_by_source;
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Start {
        replica: usize,
    },
    Lose {
        replica: usize,
    },
    Poll {
        replica: usize,
        life: u32,
    },
    /// A transaction requests the lock of the key table.
    Transact {
        chain: usize,
        by: By,
    },
    Commit {
        chain: usize,
        table: Rc<Table>,
        /// The life of tokens to store.
        ttl: Option<Seconds>,
    },
    /// A replica is notified of changed settings.
    Hear {
        replica: usize,
    },
    /// All healthy replicas must publish what was announced by now (K1).
    Published {
        chain: usize,
        generation: i64,
    },
    /// A statement that authorises a token.
    Ask {
        replica: usize,
        hot: bool,
    },
    /// Its result is used.
    CatchUp {
        replica: usize,
        life: u32,
        request: Request,
    },
    Sign {
        replica: usize,
        life: u32,
        request: Request,
    },
    Verify {
        verifier: usize,
        token: Rc<Token>,
    },
    /// A verifier's traffic makes it use its cache.
    Touch {
        verifier: usize,
    },
    /// A verifier fetches before its set is stale.
    Refresh {
        verifier: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    FirstStart(usize),
    Job(usize),
    Operator(Order),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) chain: usize,
    pub(crate) seen: Seen,
    /// Its token is presented to every verifier immediately.
    pub(crate) hot: bool,
}

#[derive(Debug)]
struct Scheduled {
    at: Millis,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    /// The earliest event is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

#[derive(Debug)]
pub(crate) struct Replica {
    /// `None` while it is down.
    pub(crate) ring: Option<Ring>,
    /// The number of its restarts.
    pub(crate) life: u32,
    /// Since when every poll was in time and succeeded.
    pub(crate) healthy_since: Option<Millis>,
    pub(crate) last_poll: Millis,
    /// The life of its tokens.
    pub(crate) ttl: Seconds,
}

#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) dice: &'a Dice,
    queue: BinaryHeap<Scheduled>,
    now: Millis,
    order: u64,
    /// The state that a statement sees now.
    pub(crate) table: Rc<Table>,
    /// The stored life of tokens.
    stored_ttl: Seconds,
    lock_free_at: Millis,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) verifiers: Vec<Verifier>,
    pub(crate) tokens: Vec<Rc<Token>>,
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<Violation>,
}

impl<'a> World<'a> {
    pub(crate) fn new(plan: &'a Plan, dice: &'a Dice) -> Self {
        let bound = millis(plan.config.clock_bound);
        let kinds = [
            (Habit::Headers, Route::Balancer),
            (Habit::Headers, Route::Dns),
            (Habit::UnknownKid, Route::Balancer),
            (Habit::UnknownKid, Route::Dns),
            (Habit::FixedLife, Route::Balancer),
        ];
        let verifier = |(habit, route)| Verifier {
            habit,
            route,
            clock_offset: dice.between(-bound, bound),
            held: None,
            last_fetch_failed: false,
            forced_at: None,
        };
        let stored_ttl = plan.settings.access_token_ttl;
        let replica = |_| Replica { ring: None, life: 0, healthy_since: None, last_poll: 0, ttl: stored_ttl };
        Self {
            plan,
            dice,
            queue: BinaryHeap::new(),
            now: START,
            order: 0,
            table: Rc::default(),
            stored_ttl,
            lock_free_at: 0,
            replicas: plan.fates.iter().map(replica).collect(),
            verifiers: kinds.map(verifier).into(),
            tokens: Vec::new(),
            counts: Counts::default(),
            violations: Vec::new(),
        }
    }

    /// Runs the history to its end and checks it as a whole.
    pub(crate) fn run(mut self) -> (Counts, Vec<Violation>) {
        self.open();
        while let Some(Scheduled { at, event, .. }) = self.queue.pop() {
            if at > self.plan.end {
                break;
            }
            self.now = at;
            self.happen(at, event);
        }
        self.check_chains();
        self.check_tokens();
        (self.counts, self.violations)
    }

    /// Events cannot be scheduled in the past.
    pub(crate) fn schedule(&mut self, at: Millis, event: Event) {
        self.order += 1;
        self.queue.push(Scheduled { at: at.max(self.now), order: self.order, event });
    }

    fn open(&mut self) {
        let (plan, dice) = (self.plan, self.dice);
        for (replica, fate) in plan.fates.iter().enumerate() {
            self.schedule(START + dice.mostly_small(20_000), Event::Start { replica });
            for span in &fate.lost {
                self.schedule(span.from, Event::Lose { replica });
                self.schedule(span.to, Event::Start { replica });
            }
            for span in &fate.frozen {
                // Requests in flight when it stops.
                self.schedule(span.from - dice.mostly_small(1_000), Event::Ask { replica, hot: false });
            }
        }
        for (at, chain, order) in &plan.orders {
            self.schedule(*at, Event::Transact { chain: *chain, by: By::Operator(*order) });
        }
        for _ in 0..40 {
            let replica = dice.index(plan.fates.len());
            self.schedule(dice.between(START, plan.end), Event::Ask { replica, hot: false });
        }
        for verifier in 0..self.verifiers.len() {
            for _ in 0..6 {
                self.schedule(dice.between(START, plan.end), Event::Touch { verifier });
            }
        }
    }

    fn happen(&mut self, at: Millis, event: Event) {
        match event {
            Event::Start { replica } => self.start(replica, at),
            Event::Lose { replica } => {
                self.replicas[replica].ring = None;
                self.replicas[replica].life += 1;
                self.replicas[replica].healthy_since = None;
            }
            Event::Poll { replica, life } if life == self.replicas[replica].life => self.poll(replica, at),
            Event::Transact { chain, by } => self.transact(chain, by, at),
            Event::Commit { chain, table, ttl } => self.commit(chain, table, ttl, at),
            Event::Hear { replica } => self.hear(replica, at),
            Event::Published { chain, generation } => self.check_published(chain, generation, at),
            Event::Ask { replica, hot } => self.ask(replica, hot, at),
            Event::CatchUp { replica, life, request } if life == self.replicas[replica].life => {
                self.catch_up(replica, request, at);
            }
            Event::Sign { replica, life, request } if life == self.replicas[replica].life => {
                self.sign(replica, request, at);
            }
            Event::Verify { verifier, token } => self.verify(verifier, &token, at),
            Event::Touch { verifier } => drop(self.look_at_cache(verifier, at)),
            Event::Refresh { verifier } => self.refresh(verifier, at),
            // An event of a process that has ended.
            Event::Poll { .. } | Event::CatchUp { .. } | Event::Sign { .. } => {}
        }
    }

    fn start(&mut self, replica: usize, at: Millis) {
        let fate = &self.plan.fates[replica];
        if fate.is_lost(at) || self.replicas[replica].ring.is_some() {
            return;
        }
        if let Some(thaws_at) = fate.thaws_at(at) {
            return self.schedule(thaws_at, Event::Start { replica });
        }
        if fate.is_cut_off(at) {
            return self.schedule(at + 5_000, Event::Start { replica });
        }
        if self.table.chains[0].is_empty() {
            self.schedule(at, Event::Transact { chain: 0, by: By::FirstStart(replica) });
            return self.schedule(at + 500, Event::Start { replica });
        }
        let asked_at = at - self.dice.mostly_small(1_000);
        let ring = Ring { table: Rc::clone(&self.table), confirmed_at: asked_at };
        let life = self.replicas[replica].life;
        let ttl = fate.own_ttl.unwrap_or(self.stored_ttl);
        self.replicas[replica] =
            Replica { ring: Some(ring), life, healthy_since: Some(at), last_poll: at, ttl };
        self.schedule(at + self.pause_of_polls(), Event::Poll { replica, life });
    }

    /// Within ±10 %, and sometimes late.
    fn pause_of_polls(&self) -> Millis {
        let interval = self.plan.poll_interval();
        let late =
            if self.dice.percent(self.plan.polls_late) { self.dice.between(0, 3 * interval) } else { 0 };
        interval * self.dice.between(90, 110) / 100 + late
    }

    fn poll(&mut self, replica: usize, at: Millis) {
        let fate = &self.plan.fates[replica];
        let life = self.replicas[replica].life;
        if let Some(thaws_at) = fate.thaws_at(at) {
            return self.schedule(thaws_at, Event::Poll { replica, life });
        }
        self.schedule(at + self.pause_of_polls(), Event::Poll { replica, life });
        let in_time = at - self.replicas[replica].last_poll <= self.plan.poll_interval() * 11 / 10;
        let one = &mut self.replicas[replica];
        one.last_poll = at;
        if fate.is_cut_off(at) || self.dice.percent(self.plan.polls_fail) {
            one.healthy_since = None;
            return;
        }
        if !in_time || one.healthy_since.is_none() {
            one.healthy_since = Some(at);
        }
        let Some(ring) = &mut one.ring else { return };
        // The statement took this long to reach the database.
        let asked_at = at - self.dice.mostly_small(1_000);
        ring.table = Rc::clone(&self.table);
        ring.confirmed_at = ring.confirmed_at.max(asked_at);
        // Decided first with the key ring and this replica's clock, then again in the transaction.
        let now = second(at + fate.clock_offset);
        for chain in 0..CHAINS.len() {
            if !self.job(chain, replica, at, now).is_empty() {
                // Generating an RSA key takes seconds.
                let made_at = at + self.dice.mostly_small(4_000);
                self.schedule(made_at, Event::Transact { chain, by: By::Job(replica) });
            }
        }
    }

    fn transact(&mut self, chain: usize, by: By, at: Millis) {
        let fate = match by {
            By::FirstStart(replica) | By::Job(replica) => Some(&self.plan.fates[replica]),
            By::Operator(_) => None,
        };
        if fate.is_some_and(|fate| fate.is_cut_off(at) || fate.is_lost(at) || fate.thaws_at(at).is_some()) {
            return;
        }
        if at <= self.lock_free_at {
            return self.schedule(self.lock_free_at + 1, Event::Transact { chain, by });
        }
        // The clock is read after the lock is acquired.
        let now = second(at);
        if let By::Operator(Order::Life(ttl)) = by {
            return self.change_life(ttl, at);
        }
        let plan = self.decide(chain, by, at);
        if plan.is_empty() {
            return;
        }
        let is_compromise = plan.changes.iter().any(|change| matches!(change, Change::Compromise { .. }));
        let is_waived = is_compromise || matches!(by, By::FirstStart(_));
        let waiver = is_waived.then_some(self.plan.config.key_publish_ahead);
        let Some(table) = self.table.with(chain, &plan.changes, now, waiver) else {
            return self.violation(Broken::ChangeRefused, format!("{plan:?} of chain {chain} at {now:?}"));
        };
        if let Some(commits_at) = self.commits_at(fate, at) {
            self.schedule(commits_at, Event::Commit { chain, table, ttl: None });
        }
    }

    /// A transaction that stores another life of tokens and changes no key.
    fn change_life(&mut self, ttl: Seconds, at: Millis) {
        if let Some(commits_at) = self.commits_at(None, at) {
            self.counts.new_lives += 1;
            let table = Rc::clone(&self.table);
            self.schedule(commits_at, Event::Commit { chain: 0, table, ttl: Some(ttl) });
        }
    }

    /// When a transaction commits; the lock is held until then. `None` if it is rolled back.
    fn commits_at(&mut self, fate: Option<&Fate>, at: Millis) -> Option<Millis> {
        let is_late = self.dice.percent(self.plan.commits_late);
        let longest = if is_late { LATE_COMMIT } else { 50 };
        let commits_at = at + self.dice.between(1, longest);
        if fate.is_some_and(|fate| fate.is_lost(commits_at)) || self.dice.percent(3) {
            // Rolled back.
            self.lock_free_at = commits_at;
            return None;
        }
        self.counts.late_commits += u64::from(commits_at > at + 1_000);
        self.lock_free_at = commits_at;
        Some(commits_at)
    }

    /// A replica reads changed settings within two seconds, or when it can read again.
    fn hear(&mut self, replica: usize, at: Millis) {
        let fate = &self.plan.fates[replica];
        if let Some(thaws_at) = fate.thaws_at(at) {
            return self.schedule(thaws_at, Event::Hear { replica });
        }
        if fate.is_cut_off(at) {
            return self.schedule(at + 2_000, Event::Hear { replica });
        }
        self.replicas[replica].ttl = fate.own_ttl.unwrap_or(self.stored_ttl);
    }

    /// The plan of a replica's job for a chain.
    fn job(&self, chain: usize, replica: usize, at: Millis, now: UnixTime) -> KeyPlan {
        let (keys, policy) = (self.table.places(chain), self.plan.policy_for(self.replicas[replica].ttl));
        if self.plan.is_configured(chain, at) {
            successor_if_due(&keys, &policy, false, now)
        } else if self.plan.is_removed(chain, at) {
            wind_down(&keys, &policy, now)
        } else {
            KeyPlan::default()
        }
    }

    fn decide(&self, chain: usize, by: By, at: Millis) -> KeyPlan {
        let (keys, now) = (self.table.places(chain), second(at));
        // Any replica may serve an operator's call.
        let replica = match by {
            By::FirstStart(replica) | By::Job(replica) => replica,
            By::Operator(_) => self.dice.index(self.replicas.len()),
        };
        let policy = &self.plan.policy_for(self.replicas[replica].ttl);
        let in_phase = |phase: KeyPhase| {
            let key = keys.iter().rev().find(|key| key.schedule.phase(now) == phase);
            key.map_or_else(KeyPlan::default, |key| compromise(&keys, key.generation, policy, now))
        };
        match by {
            By::FirstStart(_) => successor_if_due(&keys, policy, true, now),
            By::Job(replica) => self.job(chain, replica, at, now),
            By::Operator(_) if keys.is_empty() => KeyPlan::default(),
            By::Operator(Order::Rotate) if !self.plan.is_configured(chain, at) => KeyPlan::default(),
            By::Operator(Order::Rotate) => announce(&keys, policy, now).unwrap_or_default(),
            By::Operator(Order::CompromisePending) => in_phase(KeyPhase::Pending),
            By::Operator(Order::CompromiseActive) => in_phase(KeyPhase::Active),
            By::Operator(Order::CompromiseRetiring) => in_phase(KeyPhase::Retiring),
            // A separate kind of transaction.
            By::Operator(Order::Life(_)) => KeyPlan::default(),
        }
    }

    fn commit(&mut self, chain: usize, table: Rc<Table>, ttl: Option<Seconds>, at: Millis) {
        if let Some(ttl) = ttl {
            self.stored_ttl = ttl;
            for replica in 0..self.replicas.len() {
                self.schedule(at + self.dice.between(0, 2_000), Event::Hear { replica });
            }
        }
        let known = self.table.chains[chain].len();
        self.counts.compromises += u64::from(table.compromised(chain) > self.table.compromised(chain));
        self.table = table;
        self.check_signers_from(chain, at);
        let keys = self.table.chains[chain][known..].to_vec();
        for key in keys {
            self.counts.keys += 1;
            let (created, activates) = (key.created_at.0 * 1_000, key.place.schedule.activates_at.0 * 1_000);
            let generation = key.place.generation;
            let all_polled_at = created + 1_000 + LATE_COMMIT + self.plan.poll_interval() * 11 / 10;
            self.schedule(all_polled_at, Event::Published { chain, generation });
            self.watch(created, activates);
        }
    }

    /// Schedules work at critical moments: caches filled before a key is known, tokens signed when it
    /// activates.
    fn watch(&mut self, created: Millis, activates: Millis) {
        let dice = self.dice;
        for verifier in 0..self.verifiers.len() {
            for _ in 0..2 {
                self.schedule(dice.between(created, activates.max(created)), Event::Touch { verifier });
            }
        }
        for _ in 0..5 {
            let replica = dice.index(self.replicas.len());
            self.schedule(activates + dice.between(-3_000, 12_000), Event::Ask { replica, hot: true });
        }
    }

    pub(crate) fn violation(&mut self, broken: Broken, story: String) {
        self.violations.push(Violation { broken, story });
    }
}
