//! Where guesses at one user's password wait for their turn, if they come from networks that the user has not logged in
//! from. All of them together get one guess a second.
//!
//! Whose turn it is is drawn at random among the networks that wait, so that someone who sends more requests from one
//! network has no better chance. Nothing is written while a request waits; the turn must still be reserved in the database,
//! which all replicas share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::entropy::Entropy;

/// How often a turn is drawn.
const TURN: Duration = Duration::from_secs(1);
/// How many requests for one name may wait from one network.
const MOST_OF_ONE_NETWORK: usize = 64;

/// The waiting rooms of a replica, one for each name for which somebody waits.
#[derive(Debug)]
pub struct WaitingRoom {
    rooms: Mutex<HashMap<String, Room>>,
    entropy: Arc<dyn Entropy>,
}

/// Requests for one name.
#[derive(Debug)]
struct Room {
    /// How many requests wait from each network.
    waiting: Vec<(String, usize)>,
    /// The network whose turn it is, until one of its requests takes it.
    drawn: Option<String>,
    /// A network from which the user has logged in meanwhile.
    known: Option<String>,
    next_draw: Instant,
}

/// A place in a waiting room, until it is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    rooms: &'a WaitingRoom,
    name: String,
    network: String,
}

/// The end of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is the turn of this request.
    Drawn,
    /// The user has logged in from this network: its requests need not wait any more.
    Known,
    /// Another network was drawn.
    NotYet,
    /// It was not drawn in time.
    Late,
}

impl WaitingRoom {
    /// Without anyone waiting.
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { rooms: Mutex::default(), entropy }
    }

    /// Whether nobody waits for this name here.
    pub fn is_empty(&self, name: &str) -> bool {
        !self.lock().contains_key(name)
    }

    /// Takes a place. `None` if very many requests wait from this network.
    pub fn enter(&self, name: &str, network: &str) -> Option<Place<'_>> {
        let mut rooms = self.lock();
        let room = rooms.entry(name.to_owned()).or_insert_with(|| Room {
            waiting: Vec::new(),
            drawn: None,
            known: None,
            next_draw: Instant::now() + TURN,
        });
        match room.waiting.iter_mut().find(|(waiting, _)| waiting == network) {
            Some((_, count)) if *count >= MOST_OF_ONE_NETWORK => return None,
            Some((_, count)) => *count += 1,
            None => room.waiting.push((network.to_owned(), 1)),
        }
        Some(Place { rooms: self, name: name.to_owned(), network: network.to_owned() })
    }

    /// Lets the requests of a network go on, because the user has logged in from there.
    pub fn admit(&self, name: &str, network: &str) {
        if let Some(room) = self.lock().get_mut(name) {
            room.known = Some(network.to_owned());
        }
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A random number below `limit`; 0 if there is no randomness, which stops logins elsewhere.
    fn below(&self, limit: usize) -> usize {
        let mut bytes = [0; 8];
        let _ = self.entropy.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % (limit.max(1) as u64)).unwrap_or(0)
    }
}

impl Place<'_> {
    /// Waits for the next draw, if it is not after `deadline`. May be called again after any outcome but the last.
    pub async fn turn(&self, deadline: Instant) -> Turn {
        let mut has_waited = false;
        loop {
            let next_draw = {
                let mut rooms = self.rooms.lock();
                let Some(room) = rooms.get_mut(&self.name) else { return Turn::Late };
                if room.known.as_ref() == Some(&self.network) {
                    return Turn::Known;
                }
                if Instant::now() >= room.next_draw {
                    let place = self.rooms.below(room.waiting.len());
                    room.drawn = room.waiting.get(place).map(|(network, _)| network.clone());
                    // Not from the time at which it was due: nobody has waited for longer than a turn.
                    room.next_draw = Instant::now() + TURN;
                }
                if room.drawn.as_ref() == Some(&self.network) {
                    room.drawn = None;
                    return Turn::Drawn;
                }
                room.next_draw
            };
            if next_draw > deadline {
                return Turn::Late;
            }
            if has_waited {
                return Turn::NotYet;
            }
            sleep_until(next_draw).await;
            has_waited = true;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut rooms = self.rooms.lock();
        let Some(room) = rooms.get_mut(&self.name) else { return };
        if let Some((_, count)) = room.waiting.iter_mut().find(|(network, _)| *network == self.network) {
            *count -= 1;
        }
        room.waiting.retain(|(_, count)| *count > 0);
        if room.waiting.is_empty() {
            rooms.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    fn room() -> Arc<WaitingRoom> {
        Arc::new(WaitingRoom::new(Arc::new(SystemEntropy::new())))
    }

    #[tokio::test(start_paused = true)]
    async fn one_network_has_a_turn_in_each_second() {
        let rooms = room();
        let started = Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..10 {
            let rooms = Arc::clone(&rooms);
            waiting.spawn(async move {
                let place = rooms.enter("ann", &number.to_string()).unwrap();
                while place.turn(started + Duration::from_mins(1)).await != Turn::Drawn {}
                (Instant::now() - started).as_secs()
            });
        }
        let mut turns = waiting.join_all().await;
        turns.sort_unstable();
        assert_eq!(turns, (1..=10).collect::<Vec<_>>());
        assert!(rooms.is_empty("ann"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_drawn_in_time_leaves() {
        let rooms = room();
        let place = rooms.enter("ann", "a").unwrap();
        assert_eq!(place.turn(Instant::now() + Duration::from_millis(999)).await, Turn::Late);
        drop(place);
        assert!(rooms.is_empty("ann"));
    }

    #[test]
    fn few_requests_of_a_network_wait_for_a_name() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let rooms = room();
        let mut places: Vec<_> = (0..64).map(|_| rooms.enter("ann", "a").unwrap()).collect();
        assert!(rooms.enter("ann", "a").is_none());
        assert!(rooms.enter("ann", "b").is_some() && rooms.enter("bob", "a").is_some());
        places.pop();
        assert!(rooms.enter("ann", "a").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn network_that_becomes_known_waits_no_longer() {
        let rooms = room();
        let (mine, other) = (rooms.enter("ann", "mine").unwrap(), rooms.enter("ann", "other").unwrap());
        rooms.admit("ann", "mine");
        let deadline = Instant::now() + Duration::from_millis(500);
        assert_eq!((mine.turn(deadline).await, other.turn(deadline).await), (Turn::Known, Turn::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn every_network_is_drawn_about_as_often() {
        let rooms = room();
        let places: Vec<Place<'_>> = (0..4).map(|n| rooms.enter("ann", &n.to_string()).unwrap()).collect();
        let mut turns = [0; 4];
        for _ in 0..400 {
            let second = Instant::now() + TURN;
            let waits = places.iter().map(|place| place.turn(second));
            for (count, drawn) in turns.iter_mut().zip(futures_util::future::join_all(waits).await) {
                *count += u32::from(drawn == Turn::Drawn);
            }
        }
        assert_eq!(turns.iter().sum::<u32>(), 400);
        // Six standard deviations of a fair draw.
        assert!(turns.iter().all(|count| (48..=152).contains(count)), "{turns:?}");
    }

    /// How long the owner of a name, on a network that is new, needs for a turn beside `per_second` requests from 200 networks.
    async fn wait_of_the_owner(rooms: Arc<WaitingRoom>, name: String, per_second: u32) -> Duration {
        let started = Instant::now();
        let others = {
            let (rooms, name) = (Arc::clone(&rooms), name.clone());
            tokio::spawn(async move {
                let mut requests = tokio::task::JoinSet::new();
                for number in 0.. {
                    let (rooms, name, network) = (Arc::clone(&rooms), name.clone(), rooms.below(200));
                    requests.spawn(async move {
                        let Some(place) = rooms.enter(&name, &network.to_string()) else { return };
                        let deadline = Instant::now() + 2 * TURN;
                        while place.turn(deadline).await == Turn::NotYet {}
                    });
                    sleep_until(started + number * (TURN / per_second)).await;
                }
            })
        };
        loop {
            let place = rooms.enter(&name, "owner").unwrap();
            let deadline = Instant::now() + 2 * TURN;
            let mut turn = place.turn(deadline).await;
            while turn == Turn::NotYet {
                turn = place.turn(deadline).await;
            }
            if turn == Turn::Drawn {
                others.abort();
                return started.elapsed();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn owner_on_a_new_network_has_a_turn_within_minutes_while_200_networks_guess() {
        let rooms = room();
        let waits = (0..20).map(|n| wait_of_the_owner(Arc::clone(&rooms), format!("ann{n}"), 50));
        let mut waits = futures_util::future::join_all(waits).await;
        waits.sort_unstable();
        println!("the owner waited for {:?} s", waits.iter().map(Duration::as_secs).collect::<Vec<_>>());
        // A turn a second, drawn among about 80 networks that wait: 98 of 100 owners need less than five minutes.
        assert!(waits.iter().filter(|wait| **wait <= Duration::from_mins(5)).count() >= 15);
    }
}
