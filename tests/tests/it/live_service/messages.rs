//! Messages sent at one replica arrive at all.

use std::time::Duration;

use e2e::live::{Event, Socket};
use e2e::wait;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{REPLICAS, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn message_sent_through_any_replica_reaches_sockets_on_all() {
    let scene = Scene::set().await;
    let alice = scene.user("alice", &[]).await;
    let bob = scene.user("bob", &[]).await;
    let (first, second) = (scene.log_in(&alice).await, scene.log_in(&alice).await);
    let mut phones = scene.open_all(&first.access).await;
    let mut laptops = scene.open_all(&second.access).await;
    let mut stranger = scene.open(0, &scene.log_in(&bob).await.access).await;

    for sender in 0..REPLICAS {
        let body = format!("through replica {sender}");
        let seq = phones[sender].deliver(&format!("id-{sender}"), &body).await;
        assert_eq!(seq, i64::try_from(sender).expect("small") + 1);
        for socket in phones.iter_mut().chain(&mut laptops) {
            let message = socket.message().await;
            assert_eq!((&message["seq"], &message["body"]), (&json!(seq), &json!(body)));
            assert_eq!(message["id"], format!("id-{sender}"));
        }
    }
    let silence = timeout(Duration::from_millis(500), stranger.next()).await;
    assert!(silence.is_err(), "what is alice's is not bob's: {silence:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn returning_device_gets_missed_messages_at_any_replica() {
    let scene = Scene::set().await;
    let user = scene.user("alice", &[]).await;
    let token = scene.log_in(&user).await.access;
    let mut socket = scene.open(0, &token).await;
    // More than a replica reads in one query.
    for number in 1..=150 {
        assert_eq!(socket.deliver(&format!("id-{number}"), "hello").await, number);
    }
    for replica in scene.live.replicas() {
        let mut back = Socket::open(replica.address(), &token, Some(20)).await.expect("a socket");
        assert_eq!(back.welcome()["seq"], 150);
        for number in 21..=150 {
            assert_eq!(back.message().await["seq"], number);
        }
    }
    // A device ahead of the inbox gets the current number, and later messages.
    let mut ahead = Socket::open(scene.live.address(), &token, Some(1_000)).await.expect("a socket");
    assert_eq!(ahead.welcome()["seq"], 150);
    socket.deliver("id-151", "hello").await;
    assert_eq!(ahead.message().await["seq"], 151);
}

#[tokio::test(flavor = "multi_thread")]
async fn resent_message_is_stored_once() {
    let scene = Scene::set().await;
    let user = scene.user("alice", &[]).await;
    let token = scene.log_in(&user).await.access;
    let mut sockets = scene.open_all(&token).await;
    let mut listener = scene.open(0, &token).await;
    assert_eq!(sockets[0].deliver("one", "first").await, 1);
    // At another replica, as after a lost acknowledgement; at all of them in parallel; the next message has
    // the next number.
    assert_eq!(sockets[1].deliver("one", "first").await, 1);
    let [a, b, c] = &mut sockets[..] else { panic!("three sockets") };
    let at_once = tokio::join!(a.deliver("two", "x"), b.deliver("two", "x"), c.deliver("two", "x"));
    assert_eq!(at_once, (2, 2, 2));
    assert_eq!(a.deliver("three", "last").await, 3);
    for (seq, id) in [(1, "one"), (2, "two"), (3, "three")] {
        let message = listener.message().await;
        assert_eq!((&message["seq"], &message["id"]), (&json!(seq), &json!(id)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_others_need_a_permission() {
    let scene = Scene::set().await;
    let reader = scene.user("reader", &[]).await;
    let writer = scene.user("writer", &["live:send"]).await;
    let mut theirs = scene.open(0, &scene.log_in(&reader).await.access).await;
    let mut ours = scene.open(1, &scene.log_in(&writer).await.access).await;
    let subject = |socket: &Socket| socket.welcome()["subject"].as_str().expect("text").to_owned();
    let (to, from) = (subject(&theirs), subject(&ours));
    let frame = |to: &str| json!({ "type": "send", "id": "x", "to": to, "body": "good morning" });

    let refused = theirs.ask(&frame(&from)).await;
    assert_eq!(refused, json!({ "type": "error", "code": "forbidden", "id": "x" }));
    assert_eq!(ours.ask(&frame(&to)).await, json!({ "type": "sent", "id": "x", "seq": 1 }));
    let message = theirs.message().await;
    assert_eq!((&message["from"], &message["body"]), (&json!(from), &json!("good morning")));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_messages_are_reported_as_missing() {
    let scene = Scene::set_with(|plan| plan, &[("KEEP_FOR", "1000")]).await;
    let user = scene.user("alice", &[]).await;
    let token = scene.log_in(&user).await.access;
    let mut socket = scene.open(0, &token).await;
    for id in ["a", "b", "c", "d"] {
        socket.deliver(id, "hello").await;
    }
    // As if the first three were old and deleted; replicas detect this at the next start.
    scene.database.query("UPDATE live_messages SET sent_at = sent_at - 2000 WHERE seq <= 3");
    let replica = &scene.live.replicas()[0];
    replica.kill();
    replica.start_again();
    replica.await_ready().await;
    wait::until("old messages are deleted", Duration::from_secs(5), async || {
        (scene.database.query("SELECT count(*) FROM live_messages").trim() == "1").then_some(())
    })
    .await;
    let open = async |after| Socket::open(replica.address(), &token, Some(after)).await.expect("a socket");
    let mut back = open(1).await;
    assert_eq!(next(&mut back).await, json!({ "type": "missed", "after": 1, "until": 3 }));
    assert_eq!(back.message().await["seq"], 4);
    // The same with an empty inbox.
    scene.database.query("DELETE FROM live_messages");
    let mut back = open(2).await;
    assert_eq!(next(&mut back).await, json!({ "type": "missed", "after": 2, "until": 4 }));
    assert_eq!(back.deliver("e", "hello").await, 5);
}

async fn next(socket: &mut Socket) -> Value {
    match socket.next().await {
        Event::Said(said) => said,
        end => panic!("{end:?}"),
    }
}
