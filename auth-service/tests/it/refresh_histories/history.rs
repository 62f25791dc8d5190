//! One session, its client, the network between them, and sometimes a thief.

use std::collections::BTreeMap;

use auth_service::domain::session::Generation;
use auth_service::domain::session::{RefreshPolicy, Session};
use verifier::Seconds;

use super::database::Database;
use super::ledger::{Counts, Ledger};
use super::server::{Answer, Request};
use crate::dice::Dice;

pub(crate) const GRACE: i64 = 10;
/// The maximum time until a client considers a response lost.
const LONGEST_TIMEOUT: i64 = 10;
/// A copy of a request that is older never arrives: less than the grace, with room for a database whose clock
/// is real.
const OLDEST_COPY: i64 = 6;
const DAY: i64 = 86_400;

/// The kind of a history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) recovery: bool,
    pub(crate) grace: i64,
    pub(crate) thief: bool,
    pub(crate) restores: bool,
    /// The number of refreshes of a client before the history ends.
    pub(crate) rounds: u32,
}

/// A holder of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Client,
    Thief,
}

#[derive(Clone, Debug, Default)]
struct Holder {
    /// The newest token it received; 0 before the theft.
    held: Generation,
    held_was_shown: bool,
    /// The token for which `held` was issued.
    before: Generation,
    /// The number of requests, so that a timer can check whether it belongs to the last one.
    attempt: u32,
    refreshes: u32,
    refusals: u32,
    is_out: bool,
    /// Every token it ever held.
    known: Vec<Generation>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Ignored if the request was answered or repeated since.
    Refresh {
        who: Who,
        attempt: u32,
    },
    /// A copy of the request reaches a replica, or the replica continues with it.
    Work {
        who: Who,
        request: Request,
        oldest_at: i64,
    },
    Answer {
        who: Who,
        shown: Generation,
        answer: Answer,
    },
    GiveUp {
        who: Who,
        attempt: u32,
    },
    Steal,
    Backup,
    Restore,
}

/// How a history ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) client_is_out: bool,
    pub(crate) thief_is_out: bool,
    pub(crate) session_ended: bool,
    /// The number of rounds in which both got a response.
    pub(crate) rounds_together: usize,
    pub(crate) refreshes: u32,
    pub(crate) counts: Counts,
}

pub(crate) struct History<'a, D> {
    setting: Setting,
    policy: RefreshPolicy,
    dice: &'a Dice,
    database: &'a mut D,
    ledger: Ledger,
    now: i64,
    order: u64,
    events: BTreeMap<(i64, u64), Event>,
    holders: [Holder; 2],
    /// The holders that got a response for this token.
    answered: BTreeMap<Generation, [bool; 2]>,
    backup: Option<(Session, Ledger)>,
}

impl<'a, D: Database> History<'a, D> {
    pub(crate) fn new(setting: Setting, dice: &'a Dice, database: &'a mut D) -> Self {
        let client = Holder { held: 1, known: vec![1], ..Holder::default() };
        Self {
            setting,
            policy: RefreshPolicy { grace: Seconds(setting.grace), recovery: setting.recovery },
            dice,
            database,
            ledger: Ledger::new(),
            now: 0,
            order: 0,
            events: BTreeMap::new(),
            holders: [client, Holder::default()],
            answered: BTreeMap::new(),
            backup: None,
        }
    }

    pub(crate) async fn run(mut self) -> Ending {
        self.refresh_after(self.interval(), Who::Client);
        if self.setting.thief {
            self.schedule(self.dice.between(0, 2_000), Event::Steal);
        }
        if self.setting.restores {
            for _ in 0..self.dice.between(1, 3) {
                let backup_at = self.dice.between(0, 3_000);
                self.schedule(backup_at, Event::Backup);
                self.schedule(backup_at + self.dice.between(1, 3_000), Event::Restore);
            }
        }
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.database.wait(at - self.now);
            self.now = at;
            self.happen(event).await;
        }
        let [client, thief] = &self.holders;
        Ending {
            client_is_out: client.is_out,
            thief_is_out: thief.is_out,
            session_ended: self.ledger.is_ended,
            rounds_together: self.answered.values().filter(|who| **who == [true, true]).count(),
            refreshes: client.refreshes + thief.refreshes,
            counts: self.ledger.counts,
        }
    }

    fn schedule(&mut self, after: i64, event: Event) {
        self.order += 1;
        // Among the events of one second any order may be the real one.
        let order = self.order | (u64::from(self.dice.percent(50)) << 60);
        self.events.insert((self.now + after, order), event);
    }

    fn refresh_after(&mut self, after: i64, who: Who) {
        let attempt = self.holder(who).attempt;
        self.schedule(after, Event::Refresh { who, attempt });
    }

    fn holder(&mut self, who: Who) -> &mut Holder {
        &mut self.holders[who as usize]
    }

    /// How long a client uses an access token before it refreshes.
    fn interval(&self) -> i64 {
        if self.dice.percent(20) { self.dice.between(0, 5) } else { self.dice.between(30, 400) }
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Refresh { who, attempt } if attempt == self.holder(who).attempt => self.send(who),
            Event::Refresh { .. } => {}
            Event::Work { who, request, oldest_at } => self.work(who, request, oldest_at).await,
            Event::Answer { who, shown, answer } => self.hear(who, shown, answer),
            Event::GiveUp { who, attempt } => {
                if self.holder(who).attempt == attempt && !self.holder(who).is_out {
                    // Immediately, or when the tunnel ends, or when the laptop is opened after the weekend.
                    let after = if self.dice.percent(70) {
                        self.dice.between(0, 60)
                    } else {
                        self.dice.mostly_small(3 * DAY)
                    };
                    self.refresh_after(after, who);
                }
            }
            Event::Steal => {
                let held = self.holder(Who::Client).held;
                let thief = self.holder(Who::Thief);
                (thief.held, thief.known) = (held, vec![held]);
                let after = self.dice.mostly_small(1_000);
                self.refresh_after(after, Who::Thief);
            }
            Event::Backup => self.backup = Some((self.database.backup(), self.ledger.clone())),
            Event::Restore => {
                if let Some((session, ledger)) = self.backup.clone() {
                    self.database.restore(session).await;
                    self.ledger.restored(&ledger);
                }
            }
        }
    }

    fn send(&mut self, who: Who) {
        let dice = self.dice;
        let holder = self.holder(who);
        if holder.is_out {
            return;
        }
        let mut shown = holder.held;
        if who == Who::Thief && holder.refusals > 0 {
            shown = dice.pick(&holder.known);
        }
        holder.held_was_shown = true;
        holder.attempt += 1;
        let attempt = holder.attempt;
        // A second tab or click, and a balancer that replays the request.
        let copies = 1 + i64::from(dice.percent(15)) + i64::from(dice.percent(10)) + dice.mostly_small(2);
        for copy in 0..copies {
            if dice.percent(20) {
                continue;
            }
            let after = if copy == 0 { dice.mostly_small(OLDEST_COPY) } else { dice.between(0, OLDEST_COPY) };
            let (request, oldest_at) = (Request::new(shown), self.now + OLDEST_COPY);
            self.schedule(after, Event::Work { who, request, oldest_at });
        }
        let timeout = dice.between(1, LONGEST_TIMEOUT);
        self.schedule(timeout, Event::GiveUp { who, attempt });
    }

    /// One statement of a request, unless its replica died.
    async fn work(&mut self, who: Who, mut request: Request, oldest_at: i64) {
        let dice = self.dice;
        if dice.percent(3) {
            return;
        }
        let answer = request.step(self.database, &mut self.ledger, self.policy).await;
        let Some(answer) = answer else {
            let pause = dice.mostly_small(3).min(oldest_at - self.now).max(0);
            return self.schedule(pause, Event::Work { who, request, oldest_at });
        };
        // To the client, a crash between commit and response is the same as a lost response.
        if !dice.percent(25) {
            self.schedule(dice.mostly_small(3), Event::Answer { who, shown: request.shown, answer });
        }
    }

    fn hear(&mut self, who: Who, shown: Generation, answer: Answer) {
        let holder = self.holder(who);
        let is_asked_for = shown == holder.held;
        // The first response of this round has not been used yet, so the newer one replaces it.
        let is_newer = shown == holder.before && !holder.held_was_shown;
        if who == Who::Client && !is_asked_for && !is_newer {
            // The holder no longer waits for it.
            return;
        }
        match answer {
            Answer::Contended => {}
            Answer::Pair(given) => {
                holder.take(shown, given, is_asked_for);
                self.answered.entry(shown).or_default()[who as usize] = true;
                if is_asked_for && self.goes_on(who) {
                    self.refresh_after(self.interval(), who);
                }
            }
            Answer::Refused if who == Who::Client => holder.is_out |= is_asked_for,
            Answer::Refused => self.thief_tries_again(),
        }
    }

    fn goes_on(&self, who: Who) -> bool {
        let anyone_is_out = self.holders.iter().any(|holder| holder.is_out);
        self.holders[who as usize].refreshes < self.setting.rounds && !anyone_is_out
    }

    /// The thief tries another of its tokens later.
    fn thief_tries_again(&mut self) {
        let after = self.dice.between(0, 500);
        let thief = self.holder(Who::Thief);
        thief.refusals += 1;
        thief.attempt += 1;
        thief.is_out = thief.refusals > 4;
        self.refresh_after(after, Who::Thief);
    }
}

impl Holder {
    fn take(&mut self, shown: Generation, given: Generation, is_asked_for: bool) {
        self.refreshes += u32::from(is_asked_for);
        self.attempt += u32::from(is_asked_for);
        (self.before, self.held, self.held_was_shown) = (shown, given, false);
        self.refusals = 0;
        self.known.push(given);
    }
}
