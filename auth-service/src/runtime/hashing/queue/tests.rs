//! Tests of the order, and a model that checks any sequence of steps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn claim(network: u32, name: u32) -> Claim {
    Claim::client(Lane::Public, Some(&network.to_string()), &name.to_string())
}

/// Adds a job that must keep nobody out.
fn add(queue: &mut FairQueue<u32>, claim: Claim, job: u32) -> Ticket {
    let (ticket, refused) = queue.push(claim, job);
    assert_eq!(refused, None, "job {job}");
    ticket
}

fn served<T>(queue: &mut FairQueue<T>) -> Vec<T> {
    std::iter::from_fn(|| queue.pop()).collect()
}

#[test]
fn networks_take_turns_and_their_names_do() {
    let mut queue = FairQueue::new(64);
    for (job, network, name) in [(0, 1, 1), (1, 1, 1), (2, 1, 2), (3, 1, 1), (4, 2, 3), (5, 2, 4), (6, 3, 5)]
    {
        add(&mut queue, claim(network, name), job);
    }
    assert_eq!(served(&mut queue), [0, 4, 6, 2, 5, 1, 3]);
}

#[test]
fn lanes_take_turns() {
    let mut queue = FairQueue::new(64);
    for job in 0..8 {
        add(&mut queue, claim(job, job), job);
    }
    for job in 100..102 {
        add(&mut queue, Claim::operator(), job);
    }
    assert_eq!(served(&mut queue)[..5], [100, 0, 101, 1, 2]);
}

#[test]
fn full_lane_gives_way_until_both_are_equal() {
    let mut queue = FairQueue::new(7);
    for job in 0..7 {
        add(&mut queue, claim(job, job), job);
    }
    for job in 100..103 {
        assert_eq!(queue.push(Claim::operator(), job).1, Some((106 - job, Excess::Total)));
    }
    // 4 and 3: one more would only exchange the two.
    assert_eq!(queue.push(Claim::operator(), 103).1, Some((103, Excess::Total)));
    assert_eq!(queue.push(claim(9, 9), 9).1, Some((9, Excess::Total)));
}

#[test]
fn fifth_job_of_a_name_is_refused_but_not_to_a_network_with_fewer() {
    let mut queue = FairQueue::new(64);
    for job in 0..4 {
        add(&mut queue, claim(1, 1), job);
    }
    assert_eq!(queue.push(claim(1, 1), 4).1, Some((4, Excess::Name)));
    assert_eq!(queue.push(claim(2, 1), 5).1, Some((3, Excess::Name)));
    add(&mut queue, claim(1, 2), 6);
}

#[test]
fn limit_of_a_network_is_a_quarter_of_the_queue_and_new_names_push_out_repeated_ones() {
    let mut queue = FairQueue::new(64);
    for job in 0..16 {
        add(&mut queue, claim(1, job / 4), job);
    }
    assert_eq!(queue.push(claim(1, 4), 16).1, Some((15, Excess::Network)));
    assert_eq!(queue.push(claim(1, 3), 17).1, Some((17, Excess::Network)));
    add(&mut queue, claim(2, 0x100), 18);
}

#[test]
fn job_that_exceeds_two_limits_takes_a_place_that_is_enough_for_both() {
    let mut queue = FairQueue::new(16);
    for job in 0..5 {
        add(&mut queue, Claim::client(Lane::Public, None, &(job / 2).to_string()), job);
    }
    for (job, name) in [(5, 0), (6, 0), (7, 8), (8, 9)] {
        add(&mut queue, claim(1, name), job);
    }
    assert_eq!(queue.push(claim(1, 0), 9).1, Some((9, Excess::Name)));
    assert_eq!(queue.push(claim(2, 0), 10).1, Some((1, Excess::Name)));
}

#[test]
fn unknown_networks_have_no_limit_of_their_own() {
    let mut queue = FairQueue::new(64);
    for job in 0..64 {
        add(&mut queue, Claim::client(Lane::Public, None, &job.to_string()), job);
    }
    assert_eq!(queue.push(claim(1, 64), 64).1, Some((63, Excess::Total)));
}

#[test]
fn newcomer_pushes_out_a_network_that_was_served_and_is_next() {
    let mut queue = FairQueue::new(64);
    // 80 clients with a network each, and each time another name. As soon as one is refused or served, it tries again.
    let mut crowd: Vec<u32> = (0..80).collect();
    for round in 0..200 {
        crowd.extend(queue.pop());
        let tries = crowd.iter().map(|&client| (claim(client, 100 * round + client), client));
        let refused = tries.filter_map(|(claim, client)| queue.push(claim, client).1);
        crowd = refused.map(|(client, _)| client).collect();
        assert_eq!((queue.len(), crowd.len()), (64, 16));
    }
    let (_, refused) = queue.push(claim(1000, 100_000), 1000);
    assert_ne!(refused.expect("the queue was full").0, 1000);
    assert_eq!(queue.pop(), Some(1000));
}

#[test]
fn job_that_left_frees_its_place() {
    let mut queue = FairQueue::new(64);
    let tickets: Vec<Ticket> = (0..4).map(|job| add(&mut queue, claim(1, 1), job)).collect();
    assert_eq!(queue.remove(tickets[2]), Some(2));
    assert_eq!(queue.remove(tickets[2]), None);
    add(&mut queue, claim(1, 1), 4);
    assert_eq!(served(&mut queue), [0, 1, 3, 4]);
    assert_eq!(queue.remove(tickets[0]), None);
}

#[test]
fn nobody_is_remembered_once_nobody_waits_and_otherwise_a_bounded_number() {
    let mut queue = FairQueue::new(64);
    add(&mut queue, claim(0, 0), 0);
    for job in 1..10_000 {
        add(&mut queue, claim(job, job), job);
        assert_eq!(queue.pop(), Some(job - 1));
        let lane = &queue.lanes[Lane::Public as usize];
        assert!(lane.networks.0.len() <= 4097 && lane.names.0.len() <= 4097, "after {job} jobs");
    }
    queue.pop();
    let lane = &queue.lanes[Lane::Public as usize];
    assert!(lane.networks.0.is_empty() && lane.names.0.is_empty());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push { lane: Lane, network: Option<u32>, name: u32 },
    Leave(usize),
    Pop,
}

fn step() -> impl Strategy<Value = Step> {
    let lane = prop_oneof![1 => Just(Lane::Admin), 3 => Just(Lane::Public)];
    let network = prop_oneof![1 => Just(None), 6 => (0_u32..8).prop_map(Some)];
    prop_oneof![
        6 => (lane, network, 0_u32..12).prop_map(|(lane, network, name)| Step::Push { lane, network, name }),
        1 => (0_usize..1000).prop_map(Step::Leave),
        4 => Just(Step::Pop),
    ]
}

/// A job of the model.
#[derive(Clone, Copy, Debug)]
struct Known {
    ticket: Ticket,
    claim: Claim,
}

/// What a correct queue must know, without how it decides.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<usize, Known>,
    over: BTreeSet<usize>,
    /// For each waiting job: the networks of its lane that were served since its own network got a job or a turn.
    overtaken_by: BTreeMap<usize, Vec<Option<Key>>>,
}

impl Model {
    fn end(&mut self, job: usize) -> Known {
        assert!(self.over.insert(job), "job {job} was served or refused twice");
        self.overtaken_by.remove(&job);
        self.waiting.remove(&job).expect("a job that waits")
    }

    fn count(&self, is_meant: impl Fn(Claim) -> bool) -> usize {
        self.waiting.values().filter(|known| is_meant(known.claim)).count()
    }

    fn check_limits(&self, capacity: usize) {
        assert!(self.waiting.len() <= capacity);
        for Known { claim, .. } in self.waiting.values() {
            let of_name = self.count(|other| other.lane == claim.lane && other.name == claim.name);
            assert!(claim.name.is_none() || of_name <= 4, "{of_name} of a name");
            let of_network = self.count(|other| other.lane == claim.lane && other.network == claim.network);
            assert!(
                claim.network.is_none() || of_network <= (capacity / 4).max(4),
                "{of_network} of a network"
            );
        }
    }

    /// A job is refused only by a limit, and for want of room only if its network has at least as many as others.
    fn check_refusal(&self, job: usize, excess: Excess, capacity: usize) {
        let claim = self.waiting[&job].claim;
        let of = |network| self.count(|other| other.lane == claim.lane && other.network == network);
        match excess {
            Excess::Name => assert_eq!(self.count(|c| c.lane == claim.lane && c.name == claim.name), 5),
            Excess::Network => assert_eq!(of(claim.network), (capacity / 4).max(4) + 1),
            Excess::Total => {
                assert_eq!(self.waiting.len(), capacity + 1);
                let others = self.waiting.values().filter(|other| other.claim.lane == claim.lane);
                assert!(others.into_iter().all(|other| of(other.claim.network) <= of(claim.network)));
                assert!(
                    2 * self.count(|other| other.lane == claim.lane) > capacity,
                    "the shorter lane gave way"
                );
            }
        }
    }

    /// Jobs of a network are served after at most one of each other network; jobs of a name in a network in
    /// their order.
    fn check_turn(&mut self, job: usize) {
        let turn = self.waiting[&job];
        for (&other, known) in &self.waiting {
            if known.claim.lane != turn.claim.lane {
                continue;
            }
            let overtaken_by = self.overtaken_by.entry(other).or_default();
            if known.claim.network == turn.claim.network {
                assert!(known.claim != turn.claim || job <= other, "{job} before {other}");
                overtaken_by.clear();
            } else {
                assert!(!overtaken_by.contains(&turn.claim.network), "two turns while {other} waited");
                overtaken_by.push(turn.claim.network);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_job_ends_once_networks_take_turns_and_limits_hold(
        capacity in 1_usize..24,
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let (mut queue, mut model) = (FairQueue::new(capacity), Model::default());
        for (job, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push { lane, network, name } => {
                    let network = network.map(|network| network.to_string());
                    let claim = Claim::client(lane, network.as_deref(), &name.to_string());
                    let expected = queue.refusal(claim);
                    let (ticket, refused) = queue.push(claim, job);
                    let own = refused.filter(|&(refused, _)| refused == job).map(|(_, excess)| excess);
                    assert_eq!(own, expected, "the refusal was not foreseen");
                    model.waiting.insert(job, Known { ticket, claim });
                    if let Some((refused, excess)) = refused {
                        model.check_refusal(refused, excess, capacity);
                        model.end(refused);
                    }
                    model.check_limits(capacity);
                }
                Step::Leave(index) => {
                    let chosen = model.waiting.keys().copied().nth(index % model.waiting.len().max(1));
                    if let Some(chosen) = chosen {
                        let ticket = model.waiting[&chosen].ticket;
                        assert_eq!(queue.remove(ticket), Some(chosen));
                        model.end(chosen);
                    }
                }
                Step::Pop => match queue.pop() {
                    Some(next) => {
                        model.check_turn(next);
                        model.end(next);
                    }
                    None => assert!(model.waiting.is_empty()),
                },
            }
            assert_eq!(queue.len(), model.waiting.len());
        }
        for rest in served(&mut queue) {
            model.check_turn(rest);
            model.end(rest);
        }
        assert!(model.waiting.is_empty());
    }
}
