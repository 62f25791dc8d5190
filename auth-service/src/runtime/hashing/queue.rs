//! The jobs that wait, and whose turn is next.
//!
//! The rule for both ends of the queue is the same: the less you had, the sooner it is your turn, and the later you
//! lose your place.
//!
//! - **Next** is a job of the network that was served least recently, or never; of its jobs, one of the name that was
//!   served least recently; of those, the oldest. So networks take turns, and the names of a network do; whoever logs
//!   in for the first time during a flood is next. The two lanes take turns as well.
//! - **Too many** jobs of a name, of a network or in all cost a place: that of the network with the most jobs here,
//!   among equals the one that was served last; then the same for names; then the newest. The new job takes part in
//!   this comparison, so nobody can push out an equal.
//!
//! Plain rotation is not enough. If each of 200 networks has one job for each of 64 places, a newcomer finds no place
//! and no network with more than one; what distinguishes it is that the others have been served. Therefore the queue
//! remembers who was served, until nobody waits.

use std::collections::HashMap;

use super::claim::{Claim, Key, Lane};

/// Maximum number of jobs of one name that wait in a lane.
const MOST_OF_NAME: usize = 4;

/// Minimum of the limit for a network, which is otherwise a quarter of the queue.
const FEWEST_OF_NETWORK: usize = 4;

/// Number of networks, and of names, that a lane remembers when it forgets those served longest ago.
const REMEMBERED: u64 = 2048;

/// Identifies a job in the queue. Later jobs have higher tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Of what there was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// Jobs of one name.
    Name,
    /// Jobs of one network.
    Network,
    /// Jobs.
    Total,
}

impl Excess {
    /// The label `why` of the metric.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Network => "network",
            Self::Total => "full",
        }
    }
}

/// Waiting jobs of type `T`.
pub(super) struct FairQueue<T> {
    lanes: [Turns<T>; Lane::COUNT],
    /// Whose turn it is.
    next_lane: usize,
    capacity: usize,
    tickets: u64,
}

impl<T> FairQueue<T> {
    /// An empty queue for at most `capacity` jobs.
    pub(super) fn new(capacity: usize) -> Self {
        Self { lanes: [Turns::default(), Turns::default()], next_lane: 0, capacity, tickets: 0 }
    }

    /// The number of waiting jobs.
    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(Turns::len).sum()
    }

    /// Adds a job. If that is too much, a job loses its place and is returned; it may be the new one.
    pub(super) fn push(&mut self, claim: Claim, job: T) -> (Ticket, Option<(T, Excess)>) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let refused = match self.contest(claim) {
            Some(Contest { excess, loser: None, .. }) => return (ticket, Some((job, excess))),
            Some(Contest { excess, lane, loser: Some(index) }) => {
                Some((self.lanes[lane].take(index), excess))
            }
            None => None,
        };
        self.lanes[claim.lane as usize].add(Waiting { ticket, claim, job });
        (ticket, refused)
    }

    /// Why a new job would be refused now; `None`: it would get a place.
    pub(super) fn refusal(&self, claim: Claim) -> Option<Excess> {
        self.contest(claim).filter(|contest| contest.loser.is_none()).map(|contest| contest.excess)
    }

    /// Removes a job that still waits.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        self.lanes.iter_mut().find_map(|lane| lane.remove(ticket))
    }

    /// Removes the job whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let lane = if self.lanes[self.next_lane].len() > 0 { self.next_lane } else { 1 - self.next_lane };
        let job = self.lanes[lane].serve()?;
        self.next_lane = 1 - lane;
        Some(job)
    }

    /// Which limit a new job would exceed, and which job would lose its place.
    fn contest(&self, new: Claim) -> Option<Contest> {
        let most_of_network = (self.capacity / 4).max(FEWEST_OF_NETWORK);
        let (own, other) = (new.lane as usize, 1 - new.lane as usize);
        let lane = &self.lanes[own];
        if new.name.is_some() && lane.names.of(new.name).waiting >= MOST_OF_NAME {
            let loser = lane.heaviest(Some(new), |claim| claim.name == new.name);
            return Some(Contest { excess: Excess::Name, lane: own, loser });
        }
        if new.network.is_some() && lane.networks.of(new.network).waiting >= most_of_network {
            let loser = lane.heaviest(Some(new), |claim| claim.network == new.network);
            return Some(Contest { excess: Excess::Network, lane: own, loser });
        }
        if self.len() < self.capacity {
            return None;
        }
        // The longer lane gives way, counting the new job.
        let (lane, new) =
            if self.lanes[other].len() > lane.len() + 1 { (other, None) } else { (own, Some(new)) };
        Some(Contest { excess: Excess::Total, lane, loser: self.lanes[lane].heaviest(new, |_| true) })
    }
}

/// The outcome of a comparison of jobs, one of which is too many.
struct Contest {
    excess: Excess,
    lane: usize,
    /// The index of the job in its lane; `None`: the new job.
    loser: Option<usize>,
}

struct Waiting<T> {
    ticket: Ticket,
    claim: Claim,
    job: T,
}

/// One lane.
struct Turns<T> {
    /// Oldest first.
    waiting: Vec<Waiting<T>>,
    networks: Shares,
    names: Shares,
    /// The number of jobs served since somebody has been waiting.
    served: u64,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), networks: Shares::default(), names: Shares::default(), served: 0 }
    }
}

impl<T> Turns<T> {
    const fn len(&self) -> usize {
        self.waiting.len()
    }

    fn add(&mut self, job: Waiting<T>) {
        self.networks.entry(job.claim.network).waiting += 1;
        self.names.entry(job.claim.name).waiting += 1;
        self.waiting.push(job);
    }

    fn serve(&mut self) -> Option<T> {
        let turn = |&(_, job): &(usize, &Waiting<T>)| {
            let Claim { network, name, .. } = job.claim;
            (self.networks.of(network).served_at, self.names.of(name).served_at)
        };
        let (next, Waiting { claim, .. }) = self.waiting.iter().enumerate().min_by_key(turn)?;
        let Claim { network, name, .. } = *claim;
        self.served += 1;
        self.networks.entry(network).served_at = self.served;
        self.names.entry(name).served_at = self.served;
        Some(self.take(next))
    }

    /// The newest of the heaviest jobs among those for which `is_meant` holds, and a new one; `None` if that is the
    /// new one.
    fn heaviest(&self, new: Option<Claim>, is_meant: impl Fn(Claim) -> bool) -> Option<usize> {
        let (new_network, new_name) = (new.map(|new| new.network), new.map(|new| new.name));
        // As if the new job were waiting.
        let weight = |claim: Claim| {
            let network = self.networks.of(claim.network).and_one_if(new_network == Some(claim.network));
            (network, self.names.of(claim.name).and_one_if(new_name == Some(claim.name)))
        };
        let meant = self.waiting.iter().enumerate().filter(|(_, job)| is_meant(job.claim));
        // Of several equal ones, `max_by_key` returns the last.
        let (index, job) = meant.max_by_key(|(_, job)| weight(job.claim))?;
        new.is_none_or(|new| weight(job.claim) > weight(new)).then_some(index)
    }

    fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let index = self.waiting.binary_search_by_key(&ticket, |job| job.ticket).ok()?;
        Some(self.take(index))
    }

    fn take(&mut self, index: usize) -> T {
        let Waiting { claim, job, .. } = self.waiting.remove(index);
        self.networks.leave(claim.network, self.served);
        self.names.leave(claim.name, self.served);
        if self.waiting.is_empty() {
            // Nobody waits, so nobody has had more than a fair share.
            (self.networks, self.names, self.served) = (Shares::default(), Shares::default(), 0);
        }
        job
    }
}

/// What a network or a name has and had. The larger, the heavier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Share {
    waiting: usize,
    /// The number of the job in its lane that was served last; 0 if none is remembered.
    served_at: u64,
}

impl Share {
    fn and_one_if(self, has_more: bool) -> Self {
        Self { waiting: self.waiting + usize::from(has_more), ..self }
    }
}

/// The shares of the networks of a lane, or of its names.
#[derive(Debug, Default)]
struct Shares(HashMap<Option<Key>, Share>);

impl Shares {
    fn of(&self, key: Option<Key>) -> Share {
        self.0.get(&key).copied().unwrap_or_default()
    }

    fn entry(&mut self, key: Option<Key>) -> &mut Share {
        self.0.entry(key).or_default()
    }

    /// Counts one waiting job less, and forgets shares that are of no use.
    fn leave(&mut self, key: Option<Key>, served: u64) {
        let share = self.entry(key);
        share.waiting -= 1;
        if *share == Share::default() {
            self.0.remove(&key);
        }
        if self.0.len() as u64 > 2 * REMEMBERED {
            // A number belongs to one share, so at most `REMEMBERED` stay, and those that wait.
            self.0.retain(|_, share| share.waiting > 0 || share.served_at + REMEMBERED > served);
        }
    }
}

#[cfg(test)]
mod tests {
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
        for (job, network, name) in
            [(0, 1, 1), (1, 1, 1), (2, 1, 2), (3, 1, 1), (4, 2, 3), (5, 2, 4), (6, 3, 5)]
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
        let mut queue = FairQueue::new(8);
        for job in 0..8 {
            add(&mut queue, claim(job, job), job);
        }
        for job in 100..104 {
            assert_eq!(queue.push(Claim::operator(), job).1, Some((107 - job, Excess::Total)));
        }
        assert_eq!(queue.push(Claim::operator(), 104).1, Some((104, Excess::Total)));
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
        // 80 clients with a network each. As soon as one is refused or served, it tries again.
        let mut crowd: Vec<u32> = (0..80).collect();
        for _ in 0..200 {
            crowd.extend(queue.pop());
            let refused = crowd.iter().filter_map(|&client| queue.push(claim(client, client), client).1);
            crowd = refused.map(|(client, _)| client).collect();
            assert_eq!((queue.len(), crowd.len()), (64, 16));
        }
        let (_, refused) = queue.push(claim(1000, 1000), 1000);
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
                let of_network =
                    self.count(|other| other.lane == claim.lane && other.network == claim.network);
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
}
