//! A persistent client: it reconnects when its socket ends, resumes after its last message, and resends
//! unacknowledged ones.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::socket::{Event, Socket};
use crate::random::Random;

/// The maximum delay before a device reconnects. The delay is random, so that devices do not reconnect
/// together.
const PAUSE: Duration = Duration::from_millis(300);

/// One login on one device, connected until dropped. It never gets a new token.
#[derive(Debug)]
pub struct Device {
    record: Arc<Mutex<Record>>,
    is_quiet: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// The history of a device.
#[derive(Debug, Default)]
pub struct Record {
    /// The number of the newest message at the first connection.
    pub began_after: Option<i64>,
    /// Number and id of each message, in order of arrival.
    pub received: Vec<(i64, String)>,
    /// Number and id of each own acknowledged message.
    pub acknowledged: Vec<(i64, String)>,
    /// The replica of each connection.
    pub replicas: Vec<String>,
    /// The reason for the end of each connection but the last.
    pub ends: Vec<Event>,
    /// Whether a message waits for its acknowledgement.
    pub is_waiting: bool,
    /// Errors.
    pub faults: Vec<String>,
}

impl Device {
    /// Connects to `address` with `token`; with `sends`, sends a message to its own inbox at that interval,
    /// each after the acknowledgement of the one before.
    pub fn start(address: SocketAddr, token: String, sends: Option<Duration>) -> Self {
        let (record, is_quiet) = (Arc::<Mutex<Record>>::default(), Arc::<AtomicBool>::default());
        let life = Life {
            address,
            token,
            sends,
            record: Arc::clone(&record),
            is_quiet: Arc::clone(&is_quiet),
            random: Random::fresh(),
            sent: 0,
        };
        Self { record, is_quiet, task: tokio::spawn(life.run()) }
    }

    /// Its history so far.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops sending new messages.
    pub fn hush(&self) {
        self.is_quiet.store(true, Ordering::Relaxed);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Record {
    /// The number of the message that was seen last.
    pub fn seen(&self) -> Option<i64> {
        self.received.last().map(|(seq, _)| *seq).or(self.began_after)
    }

    /// Whether its socket is open.
    pub const fn is_connected(&self) -> bool {
        self.replicas.len() > self.ends.len()
    }
}

struct Life {
    address: SocketAddr,
    token: String,
    sends: Option<Duration>,
    record: Arc<Mutex<Record>>,
    is_quiet: Arc<AtomicBool>,
    random: Random,
    sent: usize,
}

impl Life {
    async fn run(mut self) {
        let name = self.random.word(12);
        loop {
            let seen = self.lock().seen();
            if let Ok(socket) = Socket::open(self.address, &self.token, seen).await {
                self.greet(&socket);
                let end = self.live(socket, &name).await;
                self.lock().ends.push(end);
            }
            sleep(PAUSE * u32::try_from(self.random.below(100)).expect("small") / 100).await;
        }
    }

    fn greet(&self, socket: &Socket) {
        let mut record = self.lock();
        record.replicas.push(socket.replica().to_owned());
        let last = socket.welcome()["seq"].as_i64().expect("a number");
        record.began_after.get_or_insert(last);
    }

    async fn live(&mut self, mut socket: Socket, name: &str) -> Event {
        let mut ticks = interval(self.sends.unwrap_or(Duration::from_hours(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Unacknowledged messages are resent with their old id.
        let mut is_owed = self.lock().is_waiting;
        loop {
            tokio::select! {
                event = socket.next() => match event {
                    // It is unknown whether it was stored.
                    Event::Said(said) if said["code"] == "unavailable" => is_owed = true,
                    Event::Said(said) => self.note(&said),
                    end => return end,
                },
                _ = ticks.tick(), if self.sends.is_some() => {
                    let is_waiting = self.lock().is_waiting;
                    if !is_waiting && !self.is_quiet.load(Ordering::Relaxed) {
                        self.sent += 1;
                        self.lock().is_waiting = true;
                        is_owed = true;
                    }
                    if std::mem::take(&mut is_owed) {
                        let id = format!("{name}-{}", self.sent);
                        // If it does not arrive, the connection ends and it is resent.
                        socket.say(&json!({ "type": "send", "id": id, "body": "how do you do" })).await;
                    }
                }
            }
        }
    }

    fn note(&self, said: &Value) {
        let mut record = self.lock();
        let numbered = || Some((said["seq"].as_i64()?, said["id"].as_str()?.to_owned()));
        match (said["type"].as_str(), numbered()) {
            (Some("message"), Some(message)) => {
                if Some(message.0 - 1) != record.seen() {
                    let fault = format!("{} came after {:?}", message.0, record.seen());
                    record.faults.push(fault);
                }
                record.received.push(message);
            }
            (Some("sent"), Some(message)) => {
                record.acknowledged.push(message);
                record.is_waiting = false;
            }
            _ => record.faults.push(said.to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
