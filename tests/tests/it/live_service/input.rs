//! Bad input is refused and changes nothing.

use e2e::live::Socket;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_are_refused_and_store_nothing() {
    let scene = Scene::set().await;
    let user = scene.user("alice", &["live:send"]).await;
    let token = scene.log_in(&user).await.access;
    let mut socket = scene.open(0, &token).await;
    let bad = |code: &str, id: Value| json!({ "type": "error", "code": code, "id": id });
    let send = |id: &str, body: &str| json!({ "type": "send", "id": id, "body": body });
    let long = "x".repeat(129);
    let cases = [
        (json!("hello"), bad("bad_request", Value::Null)),
        (json!({}), bad("bad_request", Value::Null)),
        (json!({ "type": "shout" }), bad("bad_request", Value::Null)),
        (json!({ "type": "send", "id": "x" }), bad("bad_request", Value::Null)),
        (json!({ "type": "send", "id": "x", "body": "y", "seq": 7 }), bad("bad_request", Value::Null)),
        (send("", "y"), bad("bad_request", json!(""))),
        (send(&long, "y"), bad("bad_request", json!(long))),
        (send("nul", "a\0b"), bad("bad_request", json!("nul"))),
        (json!({ "type": "send", "id": "x", "to": "", "body": "y" }), bad("bad_request", json!("x"))),
        (send("large", &"x".repeat(6 * 1024)), bad("too_large", json!("large"))),
        // The size of the JSON form counts, because that is forwarded.
        (send("escaped", &"\u{1}".repeat(1500)), bad("too_large", json!("escaped"))),
    ];
    for (frame, answer) in cases {
        assert_eq!(socket.ask(&frame).await, answer, "{frame}");
    }
    assert_eq!(scene.database.query("SELECT count(*) FROM live_messages").trim(), "0");
    assert_eq!(scene.database.query("SELECT count(*) FROM live_inboxes").trim(), "0");

    // The largest allowed message, in the form with the largest JSON encoding.
    let mut other = scene.open(1, &token).await;
    for (id, body) in [("a", "x".repeat(6000)), ("b", "\u{1}".repeat(1000)), ("c", "\"".repeat(3000))] {
        socket.deliver(id, &body).await;
        assert_eq!(other.message().await["body"], body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_and_oversized_frames_close_the_socket() {
    let scene = Scene::set().await;
    let user = scene.user("alice", &[]).await;
    let token = scene.log_in(&user).await.access;
    let end = async |frame: Message| {
        let mut socket = scene.open(0, &token).await;
        socket.send(frame).await;
        socket.closed().await.0
    };
    assert_eq!(end(Message::binary(vec![1, 2, 3])).await, 1003);
    assert_eq!(end(Message::text("x".repeat(17 * 1024))).await, 1009);
    // Other sockets are not affected.
    scene.open(0, &token).await.deliver("x", "hello").await;
}

/// Otherwise each of many sockets could make the service allocate the announced size.
#[tokio::test(flavor = "multi_thread")]
async fn oversized_frame_header_closes_the_socket_before_the_payload() {
    let scene = Scene::set().await;
    let user = scene.user("alice", &[]).await;
    let token = scene.log_in(&user).await.access;
    let mut socket = scene.open(0, &token).await;
    // Only the header of a masked text frame of 1 MiB.
    let header = [&[0x81, 0xff][..], &1_048_576_u64.to_be_bytes(), &[0; 4]].concat();
    assert!(socket.send_raw(&header).await);
    assert_eq!(socket.closed().await.0, 1009);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_query_is_refused() {
    let scene = Scene::set().await;
    let user = scene.user("alice", &[]).await;
    let token = scene.log_in(&user).await.access;
    let refused = Socket::open(scene.live.address(), &token, Some(-1)).await;
    assert_eq!(refused.err(), Some(e2e::live::Refused::Status(400)));
}
