//! Waiting jobs, and the order in which they are served or lose their place.
//!
//! The rule for both ends of the queue is the same: the less a network or name had, the sooner is its turn, and the
//! later it loses a place.
//!
//! - **Next** is a job of the network that was served least recently, or never; of its jobs, one of the name that was
//!   served least recently; of those, the oldest. So networks take turns, and so do the names of a
//!   network; a first login during a flood is next. The two lanes take turns as well.
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

/// The limit that was exceeded.
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
    /// The lane whose turn it is.
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
        let is_name_full = new.name.is_some() && lane.names.of(new.name).waiting >= MOST_OF_NAME;
        let is_network_full =
            new.network.is_some() && lane.networks.of(new.network).waiting >= most_of_network;
        if is_name_full || is_network_full {
            // A job whose place is enough for both limits.
            let loser = lane.heaviest(Some(new), |claim| {
                (!is_name_full || claim.name == new.name)
                    && (!is_network_full || claim.network == new.network)
            });
            let excess = if is_name_full { Excess::Name } else { Excess::Network };
            return Some(Contest { excess, lane: own, loser });
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
mod tests;
