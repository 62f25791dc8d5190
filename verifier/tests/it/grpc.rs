//! The middleware and the interceptor around a real gRPC service, over loopback.

use std::sync::Arc;

use testkit::{AUDIENCE, ISSUER, NOW, in_time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::LayerExt as _;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use verifier::testing::TestIssuer;
use verifier::{
    AccessClaims, FetchError, FetchFuture, Grpc, JwksRequest, JwksSource, ManualClock, NoExtra,
    RequirePermission, Seconds, Verified, Verifier, VerifyError, VerifyInterceptor, caller, guard,
};

/// A service that everyone has at hand: healthy for `alice` alone.
#[derive(Debug)]
struct HealthOfAlice;

#[tonic::async_trait]
impl Health for HealthOfAlice {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let user: Arc<Verified> = caller(request.extensions())?;
        user.require_permission("ping")?;
        let status =
            if user.subject() == "alice" { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    /// Says nothing until the token has ended.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let guard = guard(request.extensions())?;
        let (answers, stream) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let reason = guard.ended().await;
            let _ = answers.send(Err(VerifyError::from(reason).into())).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn issuer_and_verifier() -> (TestIssuer, Verifier) {
    let (issuer, verifier, _) = with_clock();
    (issuer, verifier)
}

fn with_clock() -> (TestIssuer, Verifier, Arc<ManualClock>) {
    let issuer = TestIssuer::new(ISSUER, AUDIENCE);
    let clock = Arc::new(ManualClock::new(NOW));
    let verifier = issuer.verifier().clock(clock.clone()).build().unwrap();
    (issuer, verifier, clock)
}

/// Serves on a port of its own, for as long as the test runs.
macro_rules! serve {
    ($router:expr) => {{
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        tokio::spawn($router.serve_with_incoming(incoming));
        let channel = Endpoint::try_from(format!("http://{address}")).unwrap().connect_lazy();
        HealthClient::new(channel)
    }};
}

async fn check(client: &HealthClient<Channel>, credentials: &[&str]) -> Result<ServingStatus, Status> {
    let mut request = Request::new(HealthCheckRequest::default());
    for credential in credentials {
        request.metadata_mut().append("authorization", credential.parse().unwrap());
    }
    let mut client = client.clone();
    let answer = in_time("an answer", client.check(request)).await?;
    Ok(answer.into_inner().status())
}

/// Asserts everything about a refusal.
fn assert_refused(status: &Status, code: Code, challenge: Option<&str>) {
    let text = |name: &str| status.metadata().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(status.code(), code);
    assert!(!status.message().is_empty());
    assert_eq!(text("www-authenticate"), challenge);
    assert_eq!(text("grpc-retry-pushback-ms"), (code == Code::Unavailable).then_some("2000"));
}

async fn assert_answers(client: &HealthClient<Channel>, issuer: &TestIssuer) {
    let bearer = |spoil: fn(&mut AccessClaims)| {
        let mut claims = issuer.claims(NOW);
        spoil(&mut claims);
        format!("Bearer {}", issuer.sign(&claims))
    };
    let good = bearer(|_| ());
    assert_eq!(check(client, &[&good]).await.unwrap(), ServingStatus::Serving);
    let bob = bearer(|claims| claims.sub = "bob".into());
    assert_eq!(check(client, &[&bob]).await.unwrap(), ServingStatus::NotServing);

    let (late, elsewhere) =
        (bearer(|claims| claims.exp = NOW - Seconds(30)), bearer(|claims| claims.aud.clear()));
    let invalid = Some(r#"Bearer error="invalid_token""#);
    for bad in [&late, &elsewhere, "Bearer junk"] {
        assert_refused(&check(client, &[bad]).await.unwrap_err(), Code::Unauthenticated, invalid);
    }
    let missing = check(client, &[]).await.unwrap_err();
    assert_refused(&missing, Code::Unauthenticated, Some(r#"Bearer realm="api""#));
    let twice = check(client, &[&good, &good]).await.unwrap_err();
    assert_refused(&twice, Code::Unauthenticated, Some(r#"Bearer error="invalid_request""#));
    let without_permission = bearer(|claims| claims.scope = "pong".into());
    let forbidden = check(client, &[&without_permission]).await.unwrap_err();
    let challenge = r#"Bearer error="insufficient_scope", scope="ping""#;
    assert_refused(&forbidden, Code::PermissionDenied, Some(challenge));
}

#[tokio::test]
async fn layer_lets_good_tokens_through_and_answers_the_others_with_a_status() {
    let (issuer, verifier) = issuer_and_verifier();
    let mut server = Server::builder().layer(verifier.layer().answering(Grpc));
    let client = serve!(server.add_service(HealthServer::new(HealthOfAlice)));
    assert_answers(&client, &issuer).await;
}

#[tokio::test]
async fn interceptor_gives_the_same_answers_as_the_layer() {
    let (issuer, verifier) = issuer_and_verifier();
    let interceptor = VerifyInterceptor::<NoExtra>::new(verifier);
    let service = HealthServer::with_interceptor(HealthOfAlice, interceptor);
    let client = serve!(Server::builder().add_service(service));
    assert_answers(&client, &issuer).await;
}

#[tokio::test]
async fn permission_layer_guards_a_single_service() {
    let (issuer, verifier) = issuer_and_verifier();
    let needed = RequirePermission::all(["health:read"]).answering(Grpc);
    let mut server = Server::builder().layer(verifier.layer().answering(Grpc));
    let client = serve!(server.add_service(needed.named_layer(HealthServer::new(HealthOfAlice))));
    let bearer = |scope: &str| {
        let claims = AccessClaims { scope: scope.into(), ..issuer.claims(NOW) };
        format!("Bearer {}", issuer.sign(&claims))
    };
    assert_eq!(check(&client, &[&bearer("ping health:read")]).await.unwrap(), ServingStatus::Serving);
    let forbidden = check(&client, &[&bearer("ping")]).await.unwrap_err();
    let challenge = r#"Bearer error="insufficient_scope", scope="health:read""#;
    assert_refused(&forbidden, Code::PermissionDenied, Some(challenge));
}

#[tokio::test]
async fn stream_of_answers_ends_with_its_token() {
    let (issuer, verifier, clock) = with_clock();
    let mut server = Server::builder().layer(verifier.layer().answering(Grpc));
    let mut client = serve!(server.add_service(HealthServer::new(HealthOfAlice)));
    let mut request = Request::new(HealthCheckRequest::default());
    let bearer = format!("Bearer {}", issuer.sign(&issuer.claims(NOW)));
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    let mut answers = in_time("a stream", client.watch(request)).await.unwrap().into_inner();
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), answers.message()).await;
    assert!(early.is_err(), "the token has not ended");
    clock.advance(Seconds(330));
    let ended = in_time("the end", answers.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn without_keys_the_status_is_unavailable_and_without_a_layer_internal() {
    #[derive(Debug)]
    struct Down;
    impl JwksSource for Down {
        fn fetch<'a>(&'a self, _: &'a JwksRequest) -> FetchFuture<'a> {
            Box::pin(async { Err(FetchError::Status(500)) })
        }
    }
    let (issuer, _) = issuer_and_verifier();
    let good = format!("Bearer {}", issuer.sign(&issuer.claims(NOW)));
    let verifier = Verifier::builder(ISSUER).audience(AUDIENCE).source(Down).build().unwrap();
    let mut server = Server::builder().layer(verifier.layer().answering(Grpc));
    let client = serve!(server.add_service(HealthServer::new(HealthOfAlice)));
    assert_refused(&check(&client, &[&good]).await.unwrap_err(), Code::Unavailable, None);

    let bare: Router = Server::builder().add_service(HealthServer::new(HealthOfAlice));
    let client = serve!(bare);
    assert_refused(&check(&client, &[&good]).await.unwrap_err(), Code::Internal, None);
}
