//! A gRPC service behind the same middleware as any other, and a client that shows what it answers.
//!
//! The service is the health check of `tonic-health`, so that the example needs no `protoc`.
//!
//! ```text
//! cargo run -p access-token-verifier --example tonic_server --features testing,tonic
//! ```

use std::error::Error;

use tonic::service::LayerExt as _;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use verifier::testing::MockIssuer;
use verifier::{Grpc, RequirePermission};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let issuer = MockIssuer::start("health").await?;
    let verifier = issuer.verifier().build()?;

    let (_, health) = tonic_health::server::health_reporter();
    let needed = RequirePermission::all(["health:read"]).answering(Grpc);
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let address = incoming.local_addr()?;
    let server = Server::builder()
        .layer(verifier.layer().answering(Grpc))
        .add_service(needed.named_layer(health))
        .serve_with_incoming(incoming);
    tokio::spawn(server);

    let channel = Endpoint::try_from(format!("http://{address}"))?.connect().await?;
    let mut client = HealthClient::new(channel);
    for (token, code) in [
        (issuer.token().permission("health:read").sign(), Code::Ok),
        (issuer.token().sign(), Code::PermissionDenied),
        (issuer.token().permission("health:read").expired().sign(), Code::Unauthenticated),
    ] {
        let mut request = Request::new(HealthCheckRequest::default());
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let answered = client.check(request).await.map_or_else(|status| status.code(), |_| Code::Ok);
        println!("{answered:?}");
        assert_eq!(answered, code);
    }
    Ok(())
}
