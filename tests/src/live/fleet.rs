//! Many devices of several users, and their invariants at the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Device, Event};
use crate::clock;
use crate::cluster::Cluster;
use crate::wait;

/// Devices connect in groups of this size: a refused client reconnects, but each attempt counts as a
/// connection.
const GROUP: usize = 100;

/// Devices; two of them share a session, like two windows of a browser.
#[derive(Debug)]
pub struct Fleet {
    /// The devices by user.
    devices: BTreeMap<String, Vec<Device>>,
}

impl Fleet {
    /// Creates users and logs each in on several devices, of which `senders` send a message every `period`.
    /// Waits until all are connected at `address`.
    pub async fn start(
        cluster: &Cluster,
        address: SocketAddr,
        (users, devices): (usize, usize),
        (senders, period): (usize, Duration),
    ) -> Self {
        let names = cluster.create_users("user", users, &[]).await;
        let start = clock::instant();
        let tokens = log_in(cluster, &names, devices.div_ceil(2)).await;
        println!("{} logins after {:?}", users * devices.div_ceil(2), start.elapsed());
        let mut fleet = Self { devices: BTreeMap::new() };
        // Users take turns, so that the devices of each are spread over the replicas.
        for number in 0..users * devices {
            let (name, number) = (&names[number % users], number / users);
            let token = tokens[name][number / 2].clone();
            let sends = (number < senders).then_some(period);
            fleet.devices.entry(name.clone()).or_default().push(Device::start(address, token, sends));
            if fleet.devices().count().is_multiple_of(GROUP) {
                fleet.connected().await;
            }
        }
        fleet.connected().await;
        println!("all are connected after {:?}", start.elapsed());
        fleet
    }

    /// All of them.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values().flatten()
    }

    /// The number of open sockets at each replica.
    pub fn spread(&self) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for device in self.devices() {
            let record = device.record();
            if let Some(replica) = record.replicas.last().filter(|_| record.is_connected()) {
                *spread.entry(replica.clone()).or_default() += 1;
            }
        }
        spread
    }

    async fn connected(&self) {
        wait::until("all devices are connected", Duration::from_secs(30), async || {
            self.devices().all(|device| !device.record().replicas.is_empty()).then_some(())
        })
        .await;
    }

    /// Waits until every closed socket was reopened.
    pub async fn back(&self, within: Duration) {
        wait::until("all devices are back", within, async || {
            self.devices().all(|device| device.record().is_connected()).then_some(())
        })
        .await;
    }

    /// The number of acknowledged messages.
    pub fn acknowledged(&self) -> usize {
        self.devices().map(|device| device.record().acknowledged.len()).sum()
    }

    /// Waits for this many further acknowledgements.
    pub async fn acknowledge(&self, more: usize) {
        let enough = self.acknowledged() + more;
        wait::until("messages are acknowledged", Duration::from_mins(1), async || {
            (self.acknowledged() >= enough).then_some(())
        })
        .await;
    }

    /// The ends of sockets so far.
    pub fn ends(&self) -> Vec<Event> {
        self.devices().flat_map(|device| device.record().ends.clone()).collect()
    }

    /// Ends the sending, and checks that every device of a user got all that was acknowledged to any of them,
    /// in order and once.
    pub async fn judge(&self) {
        self.devices().for_each(Device::hush);
        wait::until("the last messages are acknowledged", Duration::from_mins(1), async || {
            self.devices().all(|device| !device.record().is_waiting).then_some(())
        })
        .await;
        let mut delivered = 0;
        for (user, devices) in &self.devices {
            let acknowledged: BTreeMap<i64, String> =
                devices.iter().flat_map(|device| device.record().acknowledged.clone()).collect();
            let last = acknowledged.keys().last().copied();
            for device in devices {
                wait::until(&format!("{user} gets all of {last:?}"), Duration::from_secs(30), async || {
                    (device.record().seen() >= last).then_some(())
                })
                .await;
                let record = device.record();
                assert_eq!(record.faults, Vec::<String>::new(), "{user}");
                let received: BTreeMap<_, _> = record.received.iter().cloned().collect();
                assert_eq!(received.len(), record.received.len(), "{user} got a message twice");
                let due = acknowledged.iter().filter(|(seq, _)| Some(**seq) > record.began_after);
                for (seq, id) in due {
                    assert_eq!(received.get(seq), Some(id), "message {seq} of {user} was acknowledged");
                }
                for (seq, id) in &record.acknowledged {
                    assert_eq!(received.get(seq), Some(id), "{user}'s own message {seq}");
                }
                delivered += received.len();
            }
        }
        println!("{} messages acknowledged, {delivered} delivered", self.acknowledged());
    }
}

/// This many sessions of each user.
async fn log_in(cluster: &Cluster, users: &[String], sessions: usize) -> BTreeMap<String, Vec<String>> {
    let turns = Arc::new(Semaphore::new(8));
    let mut logins = JoinSet::new();
    for user in users {
        for _ in 0..sessions {
            let turn = Arc::clone(&turns).acquire_owned().await.expect("never closed");
            let (client, user, password) = (cluster.client(), user.clone(), cluster.user_password());
            logins.spawn(async move {
                let tokens = client.login(&user, password).await.expect("an answer").tokens();
                drop(turn);
                (user, tokens.access)
            });
        }
    }
    let mut tokens = BTreeMap::<String, Vec<String>>::new();
    for (user, token) in logins.join_all().await {
        tokens.entry(user).or_default().push(token);
    }
    tokens
}
