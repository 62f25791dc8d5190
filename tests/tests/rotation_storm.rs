//! Keys and tokens that live for seconds, and three replicas that race to rotate.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use tests::checking::{Pool, check_tokens, ready_verifier};
use tests::client::Client;
use tests::cluster::{Cluster, Plan};
use tests::keys;
use tests::ledger::{self, Ledger};
use tests::load::Load;
use tests::postgres::Postgres;
use tests::random::Random;
use tests::session::{Refreshed, Session};
use tests::wait;

const REPLICAS: usize = 3;
const SPAN: Duration = Duration::from_mins(2);
const SESSIONS: usize = 12;
const CHECKS_PER_SECOND: u32 = 200;
const WATCH_PERIOD: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn no_valid_token_is_refused_while_keys_rotate_every_few_seconds() {
    let random = Random::announced("rotation storm");
    let database = Postgres::shared().create_database();
    let plan = Plan::new(REPLICAS, database.url()).keys_of_seconds().set("access_token_ttl", "4s");
    let cluster = Arc::new(Cluster::start(plan).await);
    let users = cluster.create_users("storm", 4, &["ping"]).await;
    let (ledger, pool, mut load) = (Arc::new(Ledger::default()), Pool::new(&random), Load::default());

    let verifiers = {
        let older = ready_verifier(&cluster.issuer()).await;
        wait::let_pass(Duration::from_millis(1100)).await;
        [older, ready_verifier(&cluster.issuer()).await]
    };
    watch_key_sets(&mut load, &cluster, &ledger);
    // A user of its own for the logins: each user keeps only so many sessions.
    let (visitor, residents) = users.split_first().expect("four users");
    keep_refreshing(&mut load, &cluster, residents, &pool, &ledger).await;
    keep_logging_in(&mut load, &cluster, visitor, &ledger);
    race_to_rotate(&mut load, &cluster, &ledger);
    check_tokens(&mut load, &verifiers, CHECKS_PER_SECOND, &pool, &ledger);
    wait::let_pass(SPAN).await;
    load.stop().await;

    let admin = cluster.admin_at(0).await;
    let keys = keys::listed(&admin.get("/admin/v1/keys?limit=200").await.expect("an answer"));
    println!(
        "{} tokens issued by {} keys, {} checks",
        ledger.issued_count(),
        ledger.kids().len(),
        ledger.accepted_count()
    );
    ledger::none("failures", &ledger.failures());
    ledger::none("valid tokens refused", &ledger.false_refusals(Duration::ZERO));
    ledger::none("instants with two signers or none", &keys::chain_faults(&keys));
    ledger::none("signed out of turn", &ledger.signed_out_of_turn(&keys, 2));
    // K1 promises 8 s less one poll, of which caches may need three quarters.
    let notice = Duration::from_secs(6);
    ledger::none("keys published late", &ledger.late_publications(REPLICAS, notice, &keys[0].kid));
    ledger::none("names of two keys", &ledger.changed_keys());
    ledger::none("forks", &ledger.forks());
    assert!(ledger.kids().len() >= 10, "keys rotated: {}", ledger.kids().len());
    let expected = usize::try_from(SPAN.as_secs()).expect("small") * 200 * 95 / 100;
    assert!(ledger.accepted_count() >= expected, "{} checks", ledger.accepted_count());
}

/// Looks at the key set of each replica several times a second.
fn watch_key_sets(load: &mut Load, cluster: &Arc<Cluster>, ledger: &Arc<Ledger>) {
    for replica in 0..REPLICAS {
        let client = Client::new(&cluster.replicas()[replica].public_url());
        let ledger = Arc::clone(ledger);
        load.every(WATCH_PERIOD, move || {
            let (client, ledger) = (client.clone(), Arc::clone(&ledger));
            async move {
                match client.jwks().await {
                    Ok(answer) if answer.status == StatusCode::OK => {
                        ledger.published(replica, &answer.json());
                    }
                    Ok(answer) => ledger.failed(format!("no key set: {answer}")),
                    Err(lost) => ledger.failed(format!("no key set: {}", lost.why)),
                }
            }
        });
    }
}

/// Sessions that refresh each second and feed the pool; each refresh must succeed.
async fn keep_refreshing(
    load: &mut Load,
    cluster: &Cluster,
    users: &[String],
    pool: &Arc<Pool>,
    ledger: &Arc<Ledger>,
) {
    for user in users.iter().cycle().take(SESSIONS) {
        let session = Session::log_in(&cluster.client(), ledger, user, cluster.user_password()).await;
        pool.push(&session.tokens().access);
        let session = Arc::new(tokio::sync::Mutex::new(session));
        let (pool, ledger) = (Arc::clone(pool), Arc::clone(ledger));
        load.repeat(Duration::from_secs(1), move || {
            let (session, pool, ledger) = (Arc::clone(&session), Arc::clone(&pool), Arc::clone(&ledger));
            async move {
                let mut session = session.lock().await;
                match session.refresh().await {
                    Refreshed::Done => pool.push(&session.tokens().access),
                    Refreshed::Later(why) => ledger.failed(format!("no signer: {why}")),
                    Refreshed::Refused(answer) => ledger.failed(format!("session lost: {answer}")),
                }
            }
        });
    }
}

fn keep_logging_in(load: &mut Load, cluster: &Arc<Cluster>, user: &str, ledger: &Arc<Ledger>) {
    let (cluster, ledger, user) = (Arc::clone(cluster), Arc::clone(ledger), user.to_owned());
    load.every(Duration::from_secs(2), move || {
        let (cluster, ledger, user) = (Arc::clone(&cluster), Arc::clone(&ledger), user.clone());
        async move {
            match cluster.client().login(&user, cluster.user_password()).await {
                Ok(answer) => match answer.find_tokens() {
                    Some(tokens) => drop(ledger.issued(None, &tokens)),
                    None => ledger.failed(format!("no signer: {answer}")),
                },
                Err(lost) => ledger.failed(format!("no signer: {}", lost.why)),
            }
        }
    });
}

/// Operators at all replicas who ask for a rotation at the same moment, besides the replicas' own jobs.
fn race_to_rotate(load: &mut Load, cluster: &Arc<Cluster>, ledger: &Arc<Ledger>) {
    let (cluster, ledger) = (Arc::clone(cluster), Arc::clone(ledger));
    let announced = Arc::new(Mutex::new(Vec::<i64>::new()));
    load.repeat(Duration::from_secs(2), move || {
        let (cluster, ledger, announced) =
            (Arc::clone(&cluster), Arc::clone(&ledger), Arc::clone(&announced));
        async move {
            // One login for all: a token is good at every replica.
            let admin = cluster.admin_at(0).await;
            let mut race = tokio::task::JoinSet::new();
            for replica in cluster.replicas() {
                let client = admin.at_address(&replica.admin_url());
                race.spawn(async move { client.rotate().await });
            }
            for answer in race.join_all().await {
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(lost) => return ledger.failed(format!("rotation: {}", lost.why)),
                };
                if answer.status == StatusCode::CREATED {
                    let generation = answer.json()["key"]["generation"].as_i64().expect("a number");
                    let mut announced = announced.lock().expect("nobody panics with this lock");
                    if announced.contains(&generation) {
                        ledger.failed(format!("generation {generation} was announced twice"));
                    }
                    announced.push(generation);
                } else if answer.code() != "rotation_pending" {
                    ledger.failed(format!("rotation: {answer}"));
                }
            }
        }
    });
}
