//! The plan of one history, drawn from its seed: durations, clocks, faults.

use std::time::Duration;

use auth_service::config::{Config, Settings, rotation_policy};
use auth_service::domain::key::{Chain, RotationPolicy};
use auth_service::domain::revocation::LONGEST_ACCESS_TOKEN;
use verifier::{Algorithm, Seconds, UnixTime};

use crate::dice::Dice;

/// True time, which the database's clock shows, in milliseconds.
pub(crate) type Millis = i64;

/// The first instant of every history.
pub(crate) const START: Millis = 1_800_000_000_000;
/// The server ends a stalled transaction after this time, so its rows become visible at most this long after
/// their timestamps.
pub(crate) const LATE_COMMIT: Millis = 5_000;
/// A request that waits longer for its statement returns 503.
pub(crate) const LONGEST_QUESTION: Millis = 1_800;
/// The chain of the first start, and one that is added and removed later.
pub(crate) const CHAINS: [Chain; 2] = [Chain::Signing(Algorithm::ES256), Chain::Signing(Algorithm::EdDSA)];

/// `at` in whole seconds.
pub(crate) fn second(at: Millis) -> UnixTime {
    UnixTime(at.div_euclid(1_000))
}

pub(crate) fn millis(seconds: Seconds) -> Millis {
    seconds.0 * 1_000
}

/// A rule that a history leaves out, to show that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    Nothing,
    /// A new key signs after half of `publish_ahead`.
    K1,
    /// A key is withdrawn when it retires; `expiry` then cuts its tokens short.
    K2,
    /// The same, but tokens are not shortened.
    K2AndExpiry,
    /// The tail of a key follows from the life of tokens that is configured when its end is announced.
    K2Maximum,
    /// A signer does not measure how long it was paused.
    K4Pause,
    /// A replica signs with its current keys, by its own clock, without reading the database.
    K4Confirmation,
    /// The balancer uses every replica that responds.
    K8Readiness,
    /// The caching headers do not depend on the freshness of the replica.
    K8Header,
}

/// A time span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Millis,
    pub(crate) to: Millis,
}

impl Span {
    fn holds(self, at: Millis) -> bool {
        self.from <= at && at < self.to
    }
}

/// The fate of one replica.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// Its clock minus the database's.
    pub(crate) clock_offset: Millis,
    /// No connection to the database, but still reachable.
    pub(crate) cut_off: Vec<Span>,
    /// Lost, and restarted at the end of the span.
    pub(crate) lost: Vec<Span>,
    /// All its threads are stopped.
    pub(crate) frozen: Vec<Span>,
    /// The life of tokens in its own file, which overrides the stored one.
    pub(crate) own_ttl: Option<Seconds>,
}

impl Fate {
    pub(crate) fn is_cut_off(&self, at: Millis) -> bool {
        self.cut_off.iter().any(|span| span.holds(at))
    }

    pub(crate) fn is_lost(&self, at: Millis) -> bool {
        self.lost.iter().any(|span| span.holds(at))
    }

    /// When a replica that is frozen at `at` continues.
    pub(crate) fn thaws_at(&self, at: Millis) -> Option<Millis> {
        self.frozen.iter().find(|span| span.holds(at)).map(|span| span.to)
    }
}

/// An operator's action.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Rotate,
    CompromisePending,
    CompromiseActive,
    CompromiseRetiring,
    /// Changes the life of tokens, on replicas without a value of their own.
    Life(Seconds),
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) without: Without,
    pub(crate) config: Config,
    /// The initial settings.
    pub(crate) settings: Settings,
    pub(crate) policy: RotationPolicy,
    pub(crate) end: Millis,
    pub(crate) fates: Vec<Fate>,
    /// When the second algorithm is configured; it may be removed and added again.
    pub(crate) second_chain: Vec<Span>,
    pub(crate) orders: Vec<(Millis, usize, Order)>,
    /// Percentage of polls that fail although the database is reachable.
    pub(crate) polls_fail: i64,
    /// Percentage of late polls.
    pub(crate) polls_late: i64,
    /// Percentage of stalled commits.
    pub(crate) commits_late: i64,
    /// Percentage of signers that are paused between statement and signature.
    pub(crate) signers_stop: i64,
    /// How long a cache that ignores headers keeps a set; 10 min for the default `key_publish_ahead`.
    pub(crate) fixed_cache: Millis,
}

impl Plan {
    pub(crate) fn draw(base: &Config, dice: &Dice, without: Without) -> Self {
        let (config, settings) = draw_config(base, dice);
        let ahead = millis(config.key_publish_ahead);
        let end = START + ahead * dice.between(4, 12);
        let replicas = dice.pick(&[1, 2, 3, 3, 3, 4]);
        let mut policy = rotation_policy(&config, &settings, CHAINS[0]);
        if without == Without::K1 {
            policy.publish_ahead = policy.publish_ahead / 2;
        }
        let at_random = || dice.between(START, end);
        let (commits_late, spans) = (dice.pick(&[0, 5, 50]), dice.pick(&[0, 0, 1, 2]));
        let second_chain =
            (0..spans).map(|_| at_random()).map(|from| Span { from, to: from + dice.between(0, ahead * 8) });
        Self {
            without,
            policy,
            end,
            fates: draw_fates(&config, dice, end, replicas),
            second_chain: second_chain.collect(),
            orders: draw_orders(dice, end, longest_life(&config)),
            polls_fail: dice.pick(&[0, 0, 10, 50]),
            polls_late: dice.pick(&[0, 0, 10]),
            commits_late,
            signers_stop: dice.pick(&[0, 5, 20]),
            fixed_cache: (ahead * 2 / 3).min(600_000),
            config,
            settings,
        }
    }

    /// The policy of a replica with tokens of life `ttl`: the same on every replica, because of rule K2.
    pub(crate) fn policy_for(&self, ttl: Seconds) -> RotationPolicy {
        let tail = match self.without {
            Without::K2 | Without::K2AndExpiry => Seconds(0),
            Without::K2Maximum => self.policy.tail - LONGEST_ACCESS_TOKEN + ttl,
            _ => self.policy.tail,
        };
        RotationPolicy { tail, ..self.policy }
    }

    pub(crate) fn publish_ahead(&self) -> Millis {
        millis(self.config.key_publish_ahead)
    }

    pub(crate) fn poll_interval(&self) -> Millis {
        i64::try_from(self.config.key_poll_interval.as_millis()).expect("short")
    }

    /// The margin between the end of a token and the end of its key.
    pub(crate) fn margin(&self) -> Seconds {
        self.config.leeway + self.config.clock_bound * 2
    }

    /// Whether replicas keep this chain at `at`.
    pub(crate) fn is_configured(&self, chain: usize, at: Millis) -> bool {
        chain == 0 || self.second_chain.iter().any(|span| span.holds(at))
    }

    /// Whether replicas kept this chain before, but no longer do.
    pub(crate) fn is_removed(&self, chain: usize, at: Millis) -> bool {
        !self.is_configured(chain, at) && self.second_chain.iter().any(|span| at >= span.to)
    }
}

/// A configuration that the service accepts; mostly with the longest caches that K1 allows.
fn draw_config(base: &Config, dice: &Dice) -> (Config, Settings) {
    if dice.percent(4) {
        return (base.clone(), Settings::default());
    }
    let ahead = dice.between(240, 1_800);
    let clock_bound = dice.between(5, 8);
    let poll = dice.between((ahead / 60).max(1), ahead / 5);
    let longest_cache = (ahead * 3 / 4 - poll - 2 * clock_bound) * 5 / 6;
    let config = Config {
        key_publish_ahead: Seconds(ahead),
        clock_bound: Seconds(clock_bound),
        leeway: Seconds(dice.between(clock_bound, 60)),
        key_poll_interval: Duration::from_secs(poll.unsigned_abs()),
        ..base.clone()
    };
    let settings = Settings {
        jwks_max_age: Seconds(if dice.percent(70) { longest_cache } else { dice.between(0, longest_cache) }),
        key_rotation_period: Seconds(dice.between(ahead, ahead * 4)),
        access_token_ttl: draw_life(dice, longest_life(&config)),
        ..Settings::default()
    };
    let checked = config.check(&settings);
    assert!(checked.is_ok(), "{checked:?}");
    (config, settings)
}

fn longest_life(config: &Config) -> Seconds {
    (config.key_publish_ahead * 3).min(LONGEST_ACCESS_TOKEN)
}

fn draw_life(dice: &Dice, longest: Seconds) -> Seconds {
    Seconds(dice.between(30, longest.0))
}

fn draw_fates(config: &Config, dice: &Dice, end: Millis, replicas: usize) -> Vec<Fate> {
    let (bound, ahead) = (millis(config.clock_bound), millis(config.key_publish_ahead));
    let span = |longest: Millis| {
        let from = dice.between(START, end);
        Span { from, to: from + 1 + dice.mostly_small(longest) }
    };
    let spans = |chance: i64, longest: Millis| -> Vec<Span> {
        if !dice.percent(chance) {
            return Vec::new();
        }
        (0..dice.between(1, 3)).map(|_| span(longest)).collect()
    };
    // Sometimes the database is unavailable to all replicas.
    let outage = spans(15, ahead * 3);
    (0..replicas)
        .map(|_| Fate {
            clock_offset: if dice.percent(30) {
                dice.pick(&[-bound, bound])
            } else {
                dice.between(-bound, bound)
            },
            cut_off: outage.iter().copied().chain(spans(40, ahead * 4)).collect(),
            lost: spans(25, ahead),
            frozen: spans(25, ahead * 4),
            own_ttl: dice.percent(10).then(|| draw_life(dice, longest_life(config))),
        })
        .collect()
}

fn draw_orders(dice: &Dice, end: Millis, longest_life: Seconds) -> Vec<(Millis, usize, Order)> {
    let kinds = [
        Order::Rotate,
        Order::Rotate,
        Order::CompromisePending,
        Order::CompromiseActive,
        Order::CompromiseRetiring,
    ];
    let number = dice.pick(&[0, 0, 1, 2, 4, 8]);
    let keys = (0..number).map(|_| (dice.between(START, end), dice.index(2), dice.pick(&kinds)));
    let lives = (0..dice.pick(&[0, 0, 1, 3, 6]))
        .map(|_| (dice.between(START, end), 0, Order::Life(draw_life(dice, longest_life))));
    keys.chain(lives).collect()
}
