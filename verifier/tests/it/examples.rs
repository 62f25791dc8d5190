//! The examples run and end well. Each of them asserts what it shows.

#[path = "../../examples/own_client.rs"]
mod own_client;
#[path = "../../examples/several_issuers.rs"]
mod several_issuers;
#[path = "../../examples/sse.rs"]
mod sse;
#[path = "../../examples/testing.rs"]
mod testing;
#[path = "../../examples/tonic_server.rs"]
mod tonic_server;
#[path = "../../examples/websocket.rs"]
mod websocket;

#[test]
fn own_client_fetches_keys() {
    own_client::main().unwrap();
}

#[test]
fn several_issuers_share_a_service() {
    several_issuers::main().unwrap();
}

#[test]
fn event_stream_ends_with_its_token() {
    sse::main().unwrap();
}

#[test]
fn service_is_tested_without_a_network() {
    testing::main().unwrap();
}

#[test]
fn grpc_service_answers_with_statuses() {
    tonic_server::main().unwrap();
}

#[test]
fn websocket_is_renewed_and_ends_with_its_token() {
    websocket::main().unwrap();
}
