//! Requests, signs and verifies tokens, and fetches key sets.

use std::rc::Rc;

use verifier::Seconds;

use super::cache::{Freshness, Habit, Held, Route};
use super::checks::Broken;
use super::plan::{LONGEST_QUESTION, Millis, Without, second};
use super::replica::{Seen, Token};
use super::world::{Event, Request, World};
impl World<'_> {
    pub(crate) fn ask(&mut self, replica: usize, hot: bool, at: Millis) {
        let (plan, dice, fate) = (self.plan, self.dice, &self.plan.fates[replica]);
        let is_answered = plan.without == Without::K4Confirmation || !fate.is_cut_off(at);
        let one = &self.replicas[replica];
        if one.ring.is_none() || fate.thaws_at(at).is_some() || !is_answered {
            return;
        }
        let now = second(at);
        let chain = usize::from(self.table.signers(1, now) == 1 && dice.percent(50));
        let age = if dice.percent(10) { dice.between(0, 10) } else { 0 };
        let seen = Seen {
            now,
            changes: self.table.changes,
            asked_at: at - dice.mostly_small(LONGEST_QUESTION),
            refreshed_at: now - Seconds(age),
        };
        let (life, request) = (one.life, Request { chain, seen, hot });
        let answered_at = at + dice.mostly_small(2_000) + self.stop_of_signer();
        self.schedule(answered_at, Event::CatchUp { replica, life, request });
    }

    /// How long a signer is paused.
    fn stop_of_signer(&self) -> Millis {
        let (dice, ahead) = (self.dice, self.plan.publish_ahead());
        if !dice.percent(self.plan.signers_stop) {
            0
        } else if dice.percent(30) {
            // Around the end of the lease.
            dice.between(ahead * 3 / 4, ahead * 5 / 4)
        } else {
            dice.mostly_small(ahead * 3)
        }
    }

    pub(crate) fn catch_up(&mut self, replica: usize, request: Request, at: Millis) {
        let fate = &self.plan.fates[replica];
        let life = self.replicas[replica].life;
        if let Some(thaws_at) = fate.thaws_at(at) {
            return self.schedule(thaws_at, Event::CatchUp { replica, life, request });
        }
        let Some(ring) = &mut self.replicas[replica].ring else { return };
        if self.plan.without != Without::K4Confirmation {
            let current = (!fate.is_cut_off(at)).then_some(&self.table);
            if ring.catch_up(request.seen, current, at).is_none() {
                return;
            }
        }
        let signed_at = at + self.stop_of_signer();
        if signed_at == at {
            self.sign(replica, request, at);
        } else {
            self.schedule(signed_at, Event::Sign { replica, life, request });
        }
    }

    pub(crate) fn sign(&mut self, replica: usize, request: Request, at: Millis) {
        let (plan, fate) = (self.plan, &self.plan.fates[replica]);
        let life = self.replicas[replica].life;
        if let Some(thaws_at) = fate.thaws_at(at) {
            return self.schedule(thaws_at, Event::Sign { replica, life, request });
        }
        let ttl = self.replicas[replica].ttl;
        let Some(ring) = &self.replicas[replica].ring else { return };
        let Request { chain, seen, hot } = request;
        let (key, iat) = if plan.without == Without::K4Confirmation {
            let now = second(at + fate.clock_offset);
            (ring.signer(chain, now).or_else(|| ring.signer(0, now)), now)
        } else {
            let Ok(key) = ring.active(chain, seen, at, plan) else {
                self.counts.lease_refusals += 1;
                return;
            };
            (key, seen.refreshed_at)
        };
        let Some(key) = key else {
            let story = format!("replica {replica} at {:?}, {seen:?}", second(at));
            return self.violation(Broken::NoSigner, story);
        };
        let token = Rc::new(ring.sign(key, iat, at, ttl, plan));
        self.counts.tokens += 1;
        self.check_signature(replica, &token);
        self.show(&token, hot);
        self.tokens.push(token);
    }

    /// Presents the token to some verifiers during its life, or to all of them immediately if its key is new.
    fn show(&mut self, token: &Rc<Token>, hot: bool) {
        let dice = self.dice;
        let last = (token.exp + self.plan.config.leeway).0 * 1_000 - 1;
        let mut show_at = |at: Millis, verifier: usize| {
            if at >= token.signed_at {
                self.schedule(at, Event::Verify { verifier, token: Rc::clone(token) });
            }
        };
        for verifier in 0..5 {
            if hot {
                show_at(token.signed_at + dice.mostly_small(4_000), verifier);
            }
            if dice.percent(40) && last > token.signed_at {
                show_at(dice.between(token.signed_at, last), verifier);
            }
        }
        show_at(last - dice.mostly_small(4_000), dice.index(5));
    }

    pub(crate) fn verify(&mut self, verifier: usize, token: &Token, at: Millis) {
        let one = &self.verifiers[verifier];
        let (now, leeway) = (one.now(at), self.plan.config.leeway);
        let is_compromised = self.table.find(token.key).is_some_and(|key| key.place.compromised_at.is_some());
        if now >= token.exp + leeway || is_compromised {
            return;
        }
        self.counts.verifications += 1;
        if token.iat > now + leeway {
            let story = format!("{token:?} not yet valid for verifier {verifier} at {now:?}");
            return self.violation(Broken::Refused, story);
        }
        let Some(held) = self.look_at_cache(verifier, at) else {
            self.counts.unavailable += 1;
            return;
        };
        if held.knows(token.key) {
            return;
        }
        if self.verifiers[verifier].may_force(at) {
            self.verifiers[verifier].forced_at = Some(at);
            self.fetch(verifier, at);
            if self.verifiers[verifier].held.as_ref().is_some_and(|held| held.knows(token.key)) {
                return;
            }
        }
        self.check_refusal(verifier, &held, token, at);
    }

    /// The key set that a verifier uses; `None` if it has none and cannot fetch one.
    pub(crate) fn look_at_cache(&mut self, verifier: usize, at: Millis) -> Option<Held> {
        match self.verifiers[verifier].freshness(at, self.plan.fixed_cache) {
            Freshness::Fresh => {}
            Freshness::Revalidate => {
                let held = self.verifiers[verifier].held.clone();
                self.fetch(verifier, at);
                return held;
            }
            Freshness::Stale => {
                let is_first = self.verifiers[verifier].held.is_none();
                if !self.fetch(verifier, at) {
                    return None;
                }
                if is_first && self.verifiers[verifier].habit == Habit::UnknownKid {
                    self.schedule(at + self.next_refresh(verifier), Event::Refresh { verifier });
                }
            }
        }
        self.verifiers[verifier].held.clone()
    }

    pub(crate) fn refresh(&mut self, verifier: usize, at: Millis) {
        let pause = if self.fetch(verifier, at) { self.next_refresh(verifier) } else { 10_000 };
        self.schedule(at + pause, Event::Refresh { verifier });
    }

    /// 80 % of the freshness lifetime, ±10 %.
    fn next_refresh(&self, verifier: usize) -> Millis {
        let held = self.verifiers[verifier].held.as_ref();
        let max_age = held.map_or(0, |held| held.set.life.max_age);
        (max_age * self.dice.between(72, 88) / 100).max(10_000)
    }

    /// Fetches the key set from a replica. `false`: none responds, or the set is older than the one in the
    /// cache.
    fn fetch(&mut self, verifier: usize, at: Millis) -> bool {
        let answer = self.route(self.verifiers[verifier].route, at);
        let one = &mut self.verifiers[verifier];
        one.last_fetch_failed = true;
        let Some((replica, was_ready)) = answer else { return false };
        let Some(ring) = &self.replicas[replica].ring else { return false };
        let set = ring.key_set(at, &self.plan.fates[replica], self.plan);
        let without_lease = set.without_lease;
        let is_promised = if one.habit == Habit::FixedLife { was_ready } else { !without_lease };
        let received_at = at + self.dice.mostly_small(2_000);
        let is_taken = one.take(Held { set, asked_at: at, received_at, is_promised });
        one.last_fetch_failed = !is_taken || without_lease;
        is_taken
    }

    /// The replica that responds, and whether the balancer considered it ready.
    fn route(&self, route: Route, at: Millis) -> Option<(usize, bool)> {
        let answers = |replica: &usize| {
            self.replicas[*replica].ring.is_some() && self.plan.fates[*replica].thaws_at(at).is_none()
        };
        let reachable: Vec<usize> = (0..self.replicas.len()).filter(answers).collect();
        // The balancer's last check is some time ago.
        let looked_at = at - self.dice.mostly_small(5_000);
        let all_are_ready = self.plan.without == Without::K8Readiness;
        let is_ready = |replica: &usize| {
            let ring = self.replicas[*replica].ring.as_ref();
            all_are_ready || ring.is_some_and(|ring| ring.is_ready(looked_at, self.plan.publish_ahead()))
        };
        let ready: Vec<usize> = reachable.iter().copied().filter(is_ready).collect();
        let choice = if route == Route::Dns || ready.is_empty() { &reachable } else { &ready };
        if choice.is_empty() {
            return None;
        }
        let chosen = self.dice.pick(choice);
        Some((chosen, ready.contains(&chosen)))
    }

    fn check_refusal(&mut self, verifier: usize, held: &Held, token: &Token, at: Millis) {
        let one = &self.verifiers[verifier];
        let known_from = self.table.find(token.key).and_then(|key| key.known_from);
        let life = held.set.life;
        let is_over_age = at >= held.asked_at + life.max_age + life.stale_while_revalidate;
        if known_from.is_some_and(|known_from| second(at) < known_from) {
            self.counts.excused_by_waiver += 1;
        } else if !held.is_promised
            // It keeps an old set because it reached no replica with a newer one.
            || (one.habit == Habit::UnknownKid && is_over_age && one.last_fetch_failed)
        {
            self.counts.excused_by_source += 1;
        } else {
            let key = self.table.find(token.key);
            let story = format!(
                "{token:?}\n  of {key:?}\n  refused at {at} by {:?} via {:?}, which asked {} s ago and was told {life:?}\n  set of change {}, newest {}, rendered {:?}; poll {} ms, {:?}",
                one.habit,
                one.route,
                (at - held.asked_at) / 1_000,
                held.set.table.changes,
                self.table.changes,
                held.set.rendered_at,
                self.plan.poll_interval(),
                self.plan.policy,
            );
            self.violation(Broken::Refused, story);
        }
    }
}
