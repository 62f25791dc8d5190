//! The life of a key: announcement, signing, expiry.
//!
//! Keys form chains, one per signing algorithm and one for the keys that authenticate refresh tokens. A chain
//! changes only through the [`Change`]s that these functions propose; the store applies them under a lock.

use std::fmt;

use verifier::{Algorithm, Jwk, Kid, Seconds, UnixTime};

/// The permitted use of a key at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPhase {
    /// Published, does not sign yet.
    Pending,
    /// Published, signs.
    Active,
    /// Published, no longer signs.
    Retiring,
    /// Neither published nor used.
    Expired,
    /// Neither published nor used, and everything that it signed is refused.
    Compromised,
}

impl KeyPhase {
    /// Whether a key in this phase signs.
    pub fn may_sign(self) -> bool {
        self == Self::Active
    }

    /// Whether the JWKS contains a key in this phase.
    pub fn is_published(self) -> bool {
        !matches!(self, Self::Expired | Self::Compromised)
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Expired => "expired",
            Self::Compromised => "compromised",
        }
    }
}

/// When a key starts to sign and, once a successor is announced, when it stops and when it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySchedule {
    /// First second in which the key signs.
    pub activates_at: UnixTime,
    /// `None` until a successor is announced or the chain is wound down.
    pub end: Option<KeyEnd>,
}

/// The end of a key's life; `retires_at <= expires_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEnd {
    /// First second in which the key no longer signs.
    pub retires_at: UnixTime,
    /// First second in which the key is no longer published.
    pub expires_at: UnixTime,
}

impl KeySchedule {
    /// A key that signs from `activates_at` until a successor is announced.
    pub fn starting(activates_at: UnixTime) -> Self {
        Self { activates_at, end: None }
    }

    /// Pending `..activates_at`, Active until a successor activates, Retiring `..expires_at`, then Expired. Only
    /// [`ChainKey::phase`] knows whether the key is compromised.
    pub fn phase(&self, now: UnixTime) -> KeyPhase {
        match self.end {
            Some(end) if now >= end.expires_at => KeyPhase::Expired,
            Some(end) if now >= end.retires_at => KeyPhase::Retiring,
            _ if now >= self.activates_at => KeyPhase::Active,
            _ => KeyPhase::Pending,
        }
    }

    /// The next second after `now` in which the phase changes; `None` if no change is scheduled.
    pub fn next_change(&self, now: UnixTime) -> Option<UnixTime> {
        let end = self.end.map(|end| [end.retires_at, end.expires_at]);
        std::iter::once(self.activates_at).chain(end.into_iter().flatten()).filter(|at| *at > now).min()
    }

    /// The schedule with a successor that signs from `at`: this key retires then, and stays published for the
    /// tail of `policy` (rule K2).
    #[must_use]
    pub fn succeeded(self, at: UnixTime, policy: &RotationPolicy) -> Self {
        // An announced expiry never moves to an earlier time: the expiry of tokens depends on it.
        let announced = self.end.map_or(at, |end| end.expires_at);
        Self { end: Some(KeyEnd { retires_at: at, expires_at: announced.max(at + policy.tail) }), ..self }
    }

    /// The schedule after a compromise: every later boundary moves to `now`, so the key neither
    /// signs nor is published, also for a release or a reader that knows the schedule only.
    #[must_use]
    pub fn cut_short(self, now: UnixTime) -> Self {
        let end = self.end.unwrap_or(KeyEnd { retires_at: now, expires_at: now });
        Self {
            activates_at: self.activates_at.min(now),
            end: Some(KeyEnd { retires_at: end.retires_at.min(now), expires_at: end.expires_at.min(now) }),
        }
    }
}

/// A consistent set of durations; [`Config`](crate::config::Config) refuses inconsistent ones.
#[derive(Clone, Copy, Debug)]
pub struct RotationPolicy {
    /// How long a key signs before its successor is due.
    pub period: Seconds,
    /// How long a key is published before it signs: longer than any cache may keep a key set.
    pub publish_ahead: Seconds,
    /// How long a key stays published after it retires: at least until all its signatures have expired.
    pub tail: Seconds,
}

/// A sequence of keys of one kind, of which exactly one signs at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Signs access tokens with this algorithm.
    Signing(Algorithm),
    /// Authenticates refresh tokens (HMAC-SHA-256). Its generation is the key id inside the token.
    RefreshMac,
}

const REFRESH_MAC: &str = "refresh-mac";

impl Chain {
    /// All possible chains.
    pub const ALL: [Self; 4] = [
        Self::Signing(Algorithm::ES256),
        Self::Signing(Algorithm::EdDSA),
        Self::Signing(Algorithm::RS256),
        Self::RefreshMac,
    ];

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signing(algorithm) => algorithm.as_str(),
            Self::RefreshMac => REFRESH_MAC,
        }
    }

    /// The chain with this name in the database.
    pub fn parse(name: &str) -> Option<Self> {
        if name == REFRESH_MAC { Some(Self::RefreshMac) } else { name.parse().ok().map(Self::Signing) }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key's place in its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainKey {
    /// The key's name, which never changes.
    pub kid: Kid,
    /// Its place in the chain, from 1.
    pub generation: i64,
    /// When it signs and is published.
    pub schedule: KeySchedule,
    /// When it was marked as compromised.
    pub compromised_at: Option<UnixTime>,
}

impl ChainKey {
    /// The phase of the schedule, or Compromised from `compromised_at` on.
    pub fn phase(&self, now: UnixTime) -> KeyPhase {
        match self.compromised_at {
            Some(at) if now >= at => KeyPhase::Compromised,
            _ => self.schedule.phase(now),
        }
    }
}

/// A new key that does not belong to a chain yet.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The thumbprint of a signing key; a random name for a MAC key, because MAC keys are never published.
    pub kid: Kid,
    /// The public half of a signing key.
    pub public_jwk: Option<Jwk>,
    /// The private half, sealed under the master key.
    pub sealed: String,
}

/// One change of a chain. Changes that are proposed together are applied in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new key is announced.
    Announce {
        /// Its place in the chain.
        generation: i64,
        /// When it signs.
        schedule: KeySchedule,
    },
    /// An existing key gets a new schedule.
    Reschedule {
        /// The key.
        generation: i64,
        /// Its new schedule.
        schedule: KeySchedule,
    },
    /// The key is marked as compromised. A separate change reschedules it.
    Compromise {
        /// The key.
        generation: i64,
    },
}

/// The decision of a rule for a chain: changes that are applied in one transaction. May be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes, in order of application.
    pub changes: Vec<Change>,
    /// The generation of the successor, if any: announced, or promoted because its predecessor is
    /// compromised.
    pub successor: Option<i64>,
}

impl Plan {
    /// Whether the plan contains no change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds the announcement of the next generation of `chain`, which signs from `at`.
    fn announce(&mut self, chain: &[ChainKey], at: UnixTime) {
        let generation = next_generation(chain);
        self.changes.push(Change::Announce { generation, schedule: KeySchedule::starting(at) });
        self.successor = Some(generation);
    }

    fn reschedule(&mut self, key: &ChainKey, schedule: KeySchedule) {
        self.changes.push(Change::Reschedule { generation: key.generation, schedule });
    }
}

/// Why no successor can be announced now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// A successor is already announced; the next one may follow once it signs.
    #[error("a successor is already announced; another may follow once it signs")]
    Pending {
        /// When the announced key starts to sign.
        earliest_at: UnixTime,
    },
}

/// Announces the successor if it is due now (docs/protocols.md, "The life of a key").
///
/// If `founding` is set (first start), the first key of an empty chain signs immediately. The first key of a
/// chain that is added to a running installation is announced like any other, because caches do not have it
/// yet.
pub fn successor_if_due(chain: &[ChainKey], policy: &RotationPolicy, founding: bool, now: UnixTime) -> Plan {
    let mut plan = Plan::default();
    match newest(chain) {
        None => plan.announce(chain, if founding { now } else { now + policy.publish_ahead }),
        Some(newest) if is_due(newest, policy, now) => {
            plan = announce(chain, policy, now).unwrap_or_default();
        }
        Some(_) => {}
    }
    plan
}

/// Announces the successor of the newest key now: it signs after `publish_ahead`, and its predecessor retires
/// in the same second.
pub fn announce(chain: &[ChainKey], policy: &RotationPolicy, now: UnixTime) -> Result<Plan, RotationError> {
    let mut plan = Plan::default();
    let at = now + policy.publish_ahead;
    plan.announce(chain, at);
    if let Some(newest) = newest(chain) {
        match newest.phase(now) {
            KeyPhase::Pending => {
                return Err(RotationError::Pending { earliest_at: newest.schedule.activates_at });
            }
            // This includes a key that was wound down but still signs: it continues until the new key signs.
            KeyPhase::Active => plan.reschedule(newest, newest.schedule.succeeded(at, policy)),
            KeyPhase::Retiring | KeyPhase::Expired | KeyPhase::Compromised => {}
        }
    }
    Ok(plan)
}

/// Ends a chain whose algorithm is no longer configured: when its last key is due for rotation, the key
/// retires without a successor. Until then it signs, for replicas that still run with the old configuration.
pub fn wind_down(chain: &[ChainKey], policy: &RotationPolicy, now: UnixTime) -> Plan {
    let mut plan = Plan::default();
    if let Some(newest) = newest(chain)
        && newest.schedule.end.is_none()
        && is_due(newest, policy, now)
    {
        plan.reschedule(newest, newest.schedule.succeeded(now + policy.publish_ahead, policy));
    }
    plan
}

/// Ends the use of a compromised key immediately (rule K6). The chain has a signer at every instant.
///
/// - active key: its pending successor signs from now on, or else a new key;
/// - pending key: another successor is announced, and the active key signs until that successor does;
/// - retiring or expired key: no successor is needed.
///
/// Returns an empty plan if the key is already marked.
pub fn compromise(chain: &[ChainKey], generation: i64, policy: &RotationPolicy, now: UnixTime) -> Plan {
    let mut plan = Plan::default();
    let unmarked = |key: &&ChainKey| key.generation == generation && key.compromised_at.is_none();
    let Some(key) = chain.iter().find(unmarked) else { return plan };
    plan.changes.push(Change::Compromise { generation });
    plan.reschedule(key, key.schedule.cut_short(now));
    match (key.phase(now), in_phase(chain, KeyPhase::Pending, now)) {
        (KeyPhase::Active, Some(pending)) => {
            plan.reschedule(pending, KeySchedule { activates_at: now, ..pending.schedule });
            plan.successor = Some(pending.generation);
        }
        (KeyPhase::Active, None) => plan.announce(chain, now),
        (KeyPhase::Pending, _) => {
            let at = now + policy.publish_ahead;
            plan.announce(chain, at);
            if let Some(active) = in_phase(chain, KeyPhase::Active, now) {
                plan.reschedule(active, active.schedule.succeeded(at, policy));
            }
        }
        (KeyPhase::Retiring | KeyPhase::Expired | KeyPhase::Compromised, _) => {}
    }
    plan
}

fn newest(chain: &[ChainKey]) -> Option<&ChainKey> {
    // A compromised key does not affect the due time of the next one: it has a successor, or was only
    // retiring.
    chain.iter().filter(|key| key.compromised_at.is_none()).max_by_key(|key| key.generation)
}

/// Generations are never reused, not even that of a compromised key.
fn next_generation(chain: &[ChainKey]) -> i64 {
    chain.iter().map(|key| key.generation).max().unwrap_or(0) + 1
}

fn is_due(newest: &ChainKey, policy: &RotationPolicy, now: UnixTime) -> bool {
    // If the newest key has an end, the chain was wound down; now it is configured again and needs a
    // successor.
    let wound_down = newest.schedule.end.is_some();
    let due_at = newest.schedule.activates_at + (policy.period - policy.publish_ahead);
    now >= newest.schedule.activates_at && (wound_down || now >= due_at)
}

fn in_phase(chain: &[ChainKey], phase: KeyPhase, now: UnixTime) -> Option<&ChainKey> {
    chain.iter().find(|key| key.phase(now) == phase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use KeyPhase::{Active, Compromised, Expired, Pending, Retiring};

    const POLICY: RotationPolicy =
        RotationPolicy { period: Seconds(1_000), publish_ahead: Seconds(100), tail: Seconds(400) };
    const NOW: UnixTime = UnixTime(50_000);

    /// Applies changes as the store does.
    fn apply(before: &[ChainKey], plan: Plan, now: UnixTime) -> Vec<ChainKey> {
        let mut chain = before.to_vec();
        for change in plan.changes {
            match change {
                Change::Announce { generation, schedule } => {
                    assert!(chain.iter().all(|key| key.generation != generation), "{generation} exists");
                    let kid = Kid::from(format!("key-{generation}"));
                    chain.push(ChainKey { kid, generation, schedule, compromised_at: None });
                }
                Change::Reschedule { generation, schedule } => {
                    chain.iter_mut().find(|key| key.generation == generation).unwrap().schedule = schedule;
                }
                Change::Compromise { generation } => {
                    let key = chain.iter_mut().find(|key| key.generation == generation).unwrap();
                    assert_eq!(key.compromised_at.replace(now), None);
                }
            }
        }
        chain
    }

    fn founded() -> Vec<ChainKey> {
        apply(&[], successor_if_due(&[], &POLICY, true, NOW), NOW)
    }

    fn phases(chain: &[ChainKey], now: UnixTime) -> Vec<KeyPhase> {
        chain.iter().map(|key| key.phase(now)).collect()
    }

    fn signers(chain: &[ChainKey], now: UnixTime) -> Vec<i64> {
        let signs = |key: &&ChainKey| key.phase(now).may_sign();
        chain.iter().filter(signs).map(|key| key.generation).collect()
    }

    #[test]
    fn phase_changes_exactly_at_its_second() {
        let mut chain = founded();
        chain = apply(&chain, announce(&chain, &POLICY, NOW).unwrap(), NOW);
        let at = |offset: i64| phases(&chain, NOW + Seconds(offset));
        assert_eq!(chain[0].schedule.phase(NOW - Seconds(1)), Pending);
        assert_eq!((at(0), at(99)), (vec![Active, Pending], vec![Active, Pending]));
        assert_eq!((at(100), at(499)), (vec![Retiring, Active], vec![Retiring, Active]));
        assert_eq!(at(500), [Expired, Active]);
    }

    #[test]
    fn key_is_compromised_from_its_second_on_and_neither_signs_nor_is_published() {
        let before = apply(&founded(), announce(&founded(), &POLICY, NOW).unwrap(), NOW);
        for generation in [1, 2] {
            let at = NOW + Seconds(50);
            let chain = apply(&before, compromise(&before, generation, &POLICY, at), at);
            let key = chain.iter().find(|key| key.generation == generation).unwrap();
            for after in [0, 1, 100, 10_000] {
                assert_eq!(key.phase(at + Seconds(after)), Compromised);
            }
            assert_ne!(key.phase(at - Seconds(1)), Compromised);
            // A reader that knows the schedule only draws the same conclusions.
            assert_eq!(key.schedule.phase(at), Expired);
        }
        assert!(!Compromised.may_sign() && !Compromised.is_published());
    }

    #[test]
    fn next_change_is_the_nearest_boundary_ahead() {
        let schedule = KeySchedule::starting(NOW).succeeded(NOW + Seconds(100), &POLICY);
        let next = |offset: i64| schedule.next_change(NOW + Seconds(offset)).map(|at| (at - NOW).0);
        assert_eq!((next(-1), next(0), next(99)), (Some(0), Some(100), Some(100)));
        assert_eq!((next(100), next(499), next(500)), (Some(500), Some(500), None));
    }

    #[test]
    fn undisturbed_chain_has_one_signer_at_every_second() {
        let mut chain = founded();
        for second in 0..5_000 {
            let now = NOW + Seconds(second);
            let changes = successor_if_due(&chain, &POLICY, false, now);
            chain = apply(&chain, changes, now);
            assert_eq!(signers(&chain, now).len(), 1, "at second {second}");
        }
        // Each successor is announced early enough to sign when the period is over.
        let starts: Vec<_> = chain.iter().map(|key| (key.schedule.activates_at - NOW).0).collect();
        assert_eq!(starts, [0, 1_000, 2_000, 3_000, 4_000, 5_000]);
    }

    #[test]
    fn missed_rotation_makes_a_key_sign_longer() {
        let mut chain = founded();
        let late = NOW + Seconds(7_000);
        assert_eq!(signers(&chain, late), [1]);
        chain = apply(&chain, successor_if_due(&chain, &POLICY, false, late), late);
        assert_eq!(signers(&chain, late + Seconds(99)), [1]);
        assert_eq!(signers(&chain, late + Seconds(100)), [2]);
    }

    #[test]
    fn second_announcement_waits_until_the_first_key_signs() {
        let mut chain = founded();
        chain = apply(&chain, announce(&chain, &POLICY, NOW).unwrap(), NOW);
        let earliest_at = NOW + Seconds(100);
        assert_eq!(
            announce(&chain, &POLICY, earliest_at - Seconds(1)),
            Err(RotationError::Pending { earliest_at })
        );
        assert!(announce(&chain, &POLICY, earliest_at).is_ok());
    }

    #[test]
    fn pending_key_takes_over_from_a_compromised_active_one() {
        let mut chain = founded();
        chain = apply(&chain, announce(&chain, &POLICY, NOW).unwrap(), NOW);
        let now = NOW + Seconds(10);
        chain = apply(&chain, compromise(&chain, 1, &POLICY, now), now);
        assert_eq!(phases(&chain, now), [Compromised, Active]);
        assert!(compromise(&chain, 1, &POLICY, now).is_empty(), "repeating it changes nothing");
    }

    #[test]
    fn compromised_active_key_without_a_successor_gets_one_that_signs_immediately() {
        let mut chain = founded();
        chain = apply(&chain, compromise(&chain, 1, &POLICY, NOW), NOW);
        assert_eq!(phases(&chain, NOW), [Compromised, Active]);
    }

    #[test]
    fn compromised_pending_key_is_replaced_with_notice() {
        let mut chain = founded();
        chain = apply(&chain, announce(&chain, &POLICY, NOW).unwrap(), NOW);
        let now = NOW + Seconds(99);
        chain = apply(&chain, compromise(&chain, 2, &POLICY, now), now);
        assert_eq!(phases(&chain, now), [Active, Compromised, Pending]);
        assert_eq!(signers(&chain, now + Seconds(99)), [1]);
        assert_eq!(signers(&chain, now + Seconds(100)), [3]);
    }

    #[test]
    fn compromised_retiring_key_needs_no_successor() {
        let mut chain = founded();
        chain = apply(&chain, announce(&chain, &POLICY, NOW).unwrap(), NOW);
        let now = NOW + Seconds(200);
        chain = apply(&chain, compromise(&chain, 1, &POLICY, now), now);
        assert_eq!(phases(&chain, now), [Compromised, Active]);
    }

    #[test]
    fn announced_expiry_never_moves_to_an_earlier_time() {
        let longer = RotationPolicy { tail: Seconds(5_000), ..POLICY };
        let chain = apply(&founded(), announce(&founded(), &longer, NOW).unwrap(), NOW);
        let end = chain[0].schedule.end.unwrap();
        assert_eq!((end.retires_at - NOW, end.expires_at - end.retires_at), (Seconds(100), Seconds(5_000)));
        // Another successor is announced under a policy with a shorter tail.
        let now = NOW + Seconds(10);
        let again = apply(&chain, compromise(&chain, 2, &POLICY, now), now);
        assert_eq!(again[0].schedule.end.unwrap().expires_at, end.expires_at);
    }

    /// A chain that was wound down at the given time, because its algorithm is no longer configured.
    fn wound_down(at: UnixTime) -> Vec<ChainKey> {
        let mut chain = founded();
        chain = apply(&chain, wind_down(&chain, &POLICY, at), at);
        assert!(chain[0].schedule.end.is_some());
        chain
    }

    #[test]
    fn chain_that_comes_back_while_its_last_key_signs_has_no_gap() {
        let at = NOW + Seconds(900);
        let mut chain = wound_down(at);
        let now = at + Seconds(50);
        chain = apply(&chain, successor_if_due(&chain, &POLICY, false, now), now);
        for second in 0..200 {
            assert_eq!(signers(&chain, now + Seconds(second)).len(), 1, "at second {second}");
        }
    }

    #[test]
    fn chain_comes_back_although_its_last_key_was_compromised() {
        let at = NOW + Seconds(900);
        let mut chain = wound_down(at);
        let retired = at + Seconds(100);
        chain = apply(&chain, compromise(&chain, 1, &POLICY, retired), retired);
        chain = apply(&chain, successor_if_due(&chain, &POLICY, false, retired), retired);
        assert_eq!(signers(&chain, retired + Seconds(100)), [2]);

        // The same with an older key that was never compromised.
        let mut chain = founded();
        chain = apply(&chain, announce(&chain, &POLICY, NOW).unwrap(), NOW);
        let at = NOW + Seconds(1_000);
        chain = apply(&chain, wind_down(&chain, &POLICY, at), at);
        let retired = at + Seconds(100);
        chain = apply(&chain, compromise(&chain, 2, &POLICY, retired), retired);
        chain = apply(&chain, successor_if_due(&chain, &POLICY, false, retired), retired);
        assert_eq!(signers(&chain, retired + Seconds(100)), [3]);
    }

    #[test]
    fn chain_names_survive_the_database() {
        for chain in Chain::ALL {
            assert_eq!(Chain::parse(chain.as_str()), Some(chain));
        }
        assert_eq!(Chain::parse("none"), None);
    }
}
