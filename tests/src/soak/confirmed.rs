//! Users, passwords and keys that the service has confirmed, and that must exist at the end: the input of L5.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::Run;
use super::run::number;
use crate::client::Client;
use crate::clock;
use crate::cluster::Cluster;
use crate::keys;
use crate::ledger::{Call, Outcome};
use crate::wait;

const SECOND_PASSWORD: &str = "amber-lantern-gravel-73";
const TIMEOUT: Duration = Duration::from_secs(20);

/// The confirmed objects.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    /// User names, and whether the second password was confirmed.
    users: Vec<(String, bool)>,
    /// Key ids.
    generations: Vec<i64>,
    tries: usize,
}

impl Confirmed {
    /// Creates a user, changes its password and rotates the keys, all at one replica, which may fail next.
    pub(super) async fn make_at(&mut self, run: &Run, cluster: &Cluster, replica: usize) {
        self.tries += 1;
        let admin = cluster.admin_at(replica).await;
        // Mostly a successor is already announced, so that there is no key to confirm.
        let timeout = if self.generations.is_empty() { TIMEOUT } else { Duration::ZERO };
        self.rotate(run, &admin, timeout).await;
        let name = format!("late-{}", run.random.word(12));
        let sent = clock::since_epoch();
        let made = admin.post_user(&name, cluster.user_password(), &[]).await;
        run.ledger.write(sent, Outcome::of(&made), Call::Make { thing: user(&name) });
        let Some(id) = made.ok().and_then(|answer| answer.json()["id"].as_str().map(str::to_owned)) else {
            return;
        };
        let (sent, path) = (clock::since_epoch(), format!("/admin/v1/users/{id}/password"));
        let changed = admin.post(&path, &json!({ "password": SECOND_PASSWORD })).await;
        run.ledger.write(sent, Outcome::of(&changed), Call::Make { thing: password(&name) });
        self.users.push((name, Outcome::of(&changed) == Outcome::Ok));
    }

    async fn rotate(&mut self, run: &Run, admin: &Client, timeout: Duration) {
        let began = clock::instant();
        loop {
            let sent = clock::since_epoch();
            let Ok(answer) = admin.rotate().await else { return };
            if answer.status == StatusCode::CREATED {
                let generation = answer.json()["key"]["generation"].as_i64().expect("a number");
                run.ledger.write(sent, Outcome::Ok, Call::Make { thing: key(generation) });
                self.generations.push(generation);
            }
            if answer.status == StatusCode::CREATED || began.elapsed() >= timeout {
                return;
            }
            wait::let_pass(Duration::from_millis(100)).await;
        }
    }

    /// Looks up all of them.
    pub(super) async fn find(self, run: &mut Run, cluster: &Cluster) {
        let passwords = self.users.iter().filter(|(_, is_changed)| *is_changed).count();
        run.at_least("confirmed passwords looked for", number(passwords), number(self.tries) * 0.8, "");
        run.at_least("confirmed keys looked for", number(self.generations.len()), 1.0, "");
        for (name, is_changed) in &self.users {
            if *is_changed {
                let thing = password(name);
                look(run, cluster, name, SECOND_PASSWORD, thing).await;
            } else if log_in(cluster, name, SECOND_PASSWORD).await.1 != Outcome::Ok {
                // It is unknown whether the password was changed; one of the two must work.
                look(run, cluster, name, cluster.user_password(), user(name)).await;
            }
        }
        let (sent, kept) = (clock::since_epoch(), keys::all(&cluster.admin_at(0).await).await);
        for generation in self.generations {
            let is_kept = kept.iter().any(|key| key.generation == generation);
            let outcome = if is_kept { Outcome::Ok } else { Outcome::Fail("not listed".to_owned()) };
            run.ledger.write(sent, outcome, Call::Find { thing: key(generation) });
        }
    }
}

async fn look(run: &Run, cluster: &Cluster, name: &str, password: &str, thing: String) {
    let (sent, outcome) = log_in(cluster, name, password).await;
    run.ledger.write(sent, outcome, Call::Find { thing });
}

/// The time and result of a login that the service accepted or refused.
async fn log_in(cluster: &Cluster, name: &str, password: &str) -> (Duration, Outcome) {
    wait::until("a user is looked for", TIMEOUT, async || {
        let sent = clock::since_epoch();
        let outcome = Outcome::of(&cluster.client().login(name, password).await);
        (!matches!(outcome, Outcome::Info(_))).then_some((sent, outcome))
    })
    .await
}

fn user(name: &str) -> String {
    format!("user {name}")
}

fn password(name: &str) -> String {
    format!("password of {name}")
}

fn key(generation: i64) -> String {
    format!("key {generation}")
}
