//! The middleware and the extractors: what comes through, and what the others are told.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use testkit::{AUDIENCE, ISSUER, NOW};
use tower::ServiceExt;
use verifier::testing::TestIssuer;
use verifier::{
    AccessClaims, Auth, Clock, FetchError, FetchFuture, Guard, JwksRequest, JwksSource, ManualClock,
    MultiVerifier, Needed, Permissions, RequirePermission, Scoped, Verifier, VerifyLayer,
};

#[derive(serde::Deserialize)]
struct Tenant {
    tenant: u32,
}

fn issuer_and_verifier() -> (TestIssuer, Verifier) {
    let issuer = TestIssuer::new(ISSUER, AUDIENCE);
    let clock = Arc::new(ManualClock::new(NOW));
    let builder = Verifier::builder(ISSUER).audience(AUDIENCE).clock(clock).static_jwks(&issuer.jwks());
    (issuer, builder.build().unwrap())
}

async fn who(Auth(user): Auth) -> String {
    user.subject().to_owned()
}

struct All;
struct Any;
struct Neither;
struct Quoted;

impl Permissions for All {
    const NEEDED: Needed = Needed::All(&["ping", "pong"]);
}

impl Permissions for Any {
    const NEEDED: Needed = Needed::Any(&["pong", "ping"]);
}

impl Permissions for Neither {
    const NEEDED: Needed = Needed::Any(&[]);
}

impl Permissions for Quoted {
    const NEEDED: Needed = Needed::All(&["\"", "ping"]);
}

async fn scoped<P: Permissions>(user: Scoped<P>) -> String {
    user.subject().to_owned()
}

async fn maybe_who(user: Option<Auth>) -> String {
    user.map_or("nobody".to_owned(), |Auth(user)| user.subject().to_owned())
}

fn app(layer: VerifyLayer) -> Router {
    Router::new()
        .route("/who", get(who))
        .route("/maybe", get(maybe_who))
        .route("/uninterested", get(async || "open"))
        .route("/ping", get(who).layer(RequirePermission::all(["ping"])))
        .route("/both", get(who).layer(RequirePermission::all(["ping", "pong"])))
        .route("/either", get(who).layer(RequirePermission::any(["pong", "ping"])))
        .route("/neither", get(who).layer(RequirePermission::any(["pong", "pang"])))
        .layer(layer)
}

async fn call(app: &Router, path: &str, credentials: &[&str]) -> Response<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    for credential in credentials {
        request.headers_mut().append(header::AUTHORIZATION, HeaderValue::from_str(credential).unwrap());
    }
    app.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Asserts everything about a refusal.
async fn assert_refused(response: Response<Body>, status: u16, code: &str, challenge: Option<&str>) {
    let header =
        |name| response.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
    assert_eq!(response.status(), status);
    assert_eq!(header(header::WWW_AUTHENTICATE).as_deref(), challenge);
    assert_eq!(header(header::CONTENT_TYPE).as_deref(), Some("application/problem+json"));
    assert_eq!(header(header::RETRY_AFTER).is_some(), status == 503);
    let mut body: Value = serde_json::from_str(&text(response).await).unwrap();
    assert!(body["title"].take().as_str().is_some_and(|title| !title.is_empty()));
    assert_eq!(body, json!({ "type": "about:blank", "title": null, "status": status, "code": code }));
}

#[tokio::test]
async fn good_token_comes_through_whatever_the_case_of_the_scheme() {
    let (issuer, verifier) = issuer_and_verifier();
    let token = issuer.sign(&issuer.claims(NOW));
    let app = app(verifier.layer());
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
        let response = call(&app, "/who", &[&format!("{scheme} {token}")]).await;
        assert_eq!((response.status(), text(response).await), (StatusCode::OK, "alice".to_owned()));
    }
}

#[tokio::test]
async fn missing_token_is_challenged_without_an_error_code() {
    let (_, verifier) = issuer_and_verifier();
    let app = app(verifier.layer());
    for credentials in [&[][..], &["Basic YWxpY2U6eA=="], &["DPoP abc"]] {
        for path in ["/who", "/uninterested"] {
            let response = call(&app, path, credentials).await;
            assert_refused(response, 401, "missing_token", Some("Bearer realm=\"api\"")).await;
        }
    }
}

#[tokio::test]
async fn malformed_or_repeated_credential_is_a_bad_request() {
    let (issuer, verifier) = issuer_and_verifier();
    let good = format!("Bearer {}", issuer.sign(&issuer.claims(NOW)));
    let app = app(verifier.layer());
    let (folded, basic) = (format!("{good}, {good}"), "Basic YWxpY2U6eA==");
    for credentials in [
        &[&*good, &good][..],
        &[&good, basic],
        &[basic, &good],
        &["Bearer"],
        &["Bearer "],
        &["Bearer a b"],
        &[&folded],
    ] {
        let response = call(&app, "/who", credentials).await;
        assert_refused(response, 400, "invalid_request", Some("Bearer error=\"invalid_request\"")).await;
    }
}

#[tokio::test]
async fn every_bad_token_gets_the_same_answer() {
    let (issuer, verifier) = issuer_and_verifier();
    let mut expired = issuer.claims(NOW);
    expired.exp = NOW;
    expired.iat = NOW;
    let expired = expired;
    let stranger = TestIssuer::new(ISSUER, AUDIENCE);
    let mut elsewhere = issuer.claims(NOW);
    elsewhere.aud = vec!["other".into()];
    let app = app(verifier.layer());
    let late = verifier::AccessClaims { exp: NOW - verifier::Seconds(31), ..expired };
    for token in
        ["junk".to_owned(), issuer.sign(&late), stranger.sign(&stranger.claims(NOW)), issuer.sign(&elsewhere)]
    {
        let response = call(&app, "/who", &[&format!("Bearer {token}")]).await;
        assert_refused(response, 401, "invalid_token", Some("Bearer error=\"invalid_token\"")).await;
    }
}

#[tokio::test]
async fn permissions_are_asked_for_one_by_one_or_together() {
    let (issuer, verifier) = issuer_and_verifier();
    let good = format!("Bearer {}", issuer.sign(&issuer.claims(NOW)));
    let app = app(verifier.layer());
    assert_eq!(call(&app, "/ping", &[&good]).await.status(), 200);
    assert_eq!(call(&app, "/either", &[&good]).await.status(), 200);
    for (path, scope) in [("/both", "ping pong"), ("/neither", "pong pang")] {
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
        assert_refused(call(&app, path, &[&good]).await, 403, "insufficient_scope", Some(&challenge)).await;
    }
    assert_refused(call(&app, "/ping", &[]).await, 401, "missing_token", Some("Bearer realm=\"api\"")).await;
}

#[tokio::test]
async fn scoped_handler_answers_as_the_permission_layer_does() {
    let (issuer, verifier) = issuer_and_verifier();
    let bearer = |scope: &str| {
        let claims = AccessClaims { scope: scope.into(), ..issuer.claims(NOW) };
        format!("Bearer {}", issuer.sign(&claims))
    };
    let (ping, both) = (bearer("ping"), bearer("pong other ping"));
    let routes = |layer: VerifyLayer| {
        Router::new()
            .route("/all", get(scoped::<All>))
            .route("/any", get(scoped::<Any>))
            .route("/neither", get(scoped::<Neither>))
            .route("/quoted", get(scoped::<Quoted>))
            .layer(layer)
    };
    let app = routes(verifier.layer());
    for (path, token) in [("/all", &both), ("/any", &ping), ("/any", &both)] {
        let response = call(&app, path, &[token]).await;
        assert_eq!((response.status(), text(response).await), (StatusCode::OK, "alice".to_owned()));
    }
    let short = bearer("pin pingpong");
    for (path, token, challenge) in [
        ("/all", &ping, r#"Bearer error="insufficient_scope", scope="ping pong""#),
        ("/any", &short, r#"Bearer error="insufficient_scope", scope="pong ping""#),
        ("/neither", &both, r#"Bearer error="insufficient_scope""#),
        ("/quoted", &both, r#"Bearer error="insufficient_scope""#),
    ] {
        assert_refused(call(&app, path, &[token]).await, 403, "insufficient_scope", Some(challenge)).await;
    }
    let missing = Some(r#"Bearer realm="api""#);
    assert_refused(call(&app, "/all", &[]).await, 401, "missing_token", missing).await;
    let nobody = routes(verifier.layer().optional());
    assert_refused(call(&nobody, "/all", &[]).await, 401, "missing_token", missing).await;
    let bare = Router::new().route("/all", get(scoped::<All>));
    assert_refused(call(&bare, "/all", &[&both]).await, 500, "internal_error", None).await;
}

#[tokio::test]
async fn one_layer_serves_several_issuers() {
    let (staff, shops) =
        (TestIssuer::new("https://staff.example.com", AUDIENCE), TestIssuer::new(ISSUER, AUDIENCE));
    let clock = Arc::new(ManualClock::new(NOW));
    let build = |url: &str, issuer: &TestIssuer| {
        let builder = Verifier::builder(url).audience(AUDIENCE).clock(clock.clone());
        builder.static_jwks(&issuer.jwks()).build().unwrap()
    };
    let both =
        MultiVerifier::new([build("https://staff.example.com", &staff), build(ISSUER, &shops)]).unwrap();
    let app = app(both.layer());
    for issuer in [&staff, &shops] {
        let good = format!("Bearer {}", issuer.sign(&issuer.claims(NOW)));
        assert_eq!(call(&app, "/ping", &[&good]).await.status(), 200);
    }
    let stranger = TestIssuer::new("https://evil.example.com", AUDIENCE);
    let bad = format!("Bearer {}", stranger.sign(&stranger.claims(NOW)));
    let challenge = Some("Bearer error=\"invalid_token\"");
    assert_refused(call(&app, "/who", &[&bad]).await, 401, "invalid_token", challenge).await;
}

#[tokio::test(start_paused = true)]
async fn guard_belongs_to_the_verifier_that_checked() {
    let (staff, shops) =
        (TestIssuer::new("https://staff.example.com", AUDIENCE), TestIssuer::new(ISSUER, AUDIENCE));
    let clock = Arc::new(ManualClock::new(NOW));
    let build = |url: &str, issuer: &TestIssuer| {
        let builder = Verifier::builder(url).audience(AUDIENCE).clock(clock.clone());
        builder.static_jwks(&issuer.jwks()).build().unwrap()
    };
    let both =
        MultiVerifier::new([build("https://staff.example.com", &staff), build(ISSUER, &shops)]).unwrap();
    let end = async |guard: Guard| guard.ended().await.label();
    let app = Router::new().route("/end", get(end)).layer(both.layer().optional());
    for issuer in [&staff, &shops] {
        let good = format!("Bearer {}", issuer.sign(&issuer.claims(clock.now())));
        let app = app.clone();
        let waiting = tokio::spawn(async move { text(call(&app, "/end", &[&good]).await).await });
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert!(!waiting.is_finished());
        clock.advance(verifier::Seconds(330));
        assert_eq!(waiting.await.unwrap(), "expired");
    }
    assert_refused(call(&app, "/end", &[]).await, 401, "missing_token", Some("Bearer realm=\"api\"")).await;
}

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The opening handshake of a WebSocket that offers these lines of subprotocols.
async fn open(app: &Router, offered: &[&str], credential: Option<&str>) -> Response<Body> {
    let mut request = Request::get("/offered").body(Body::empty()).unwrap();
    let headers = request.headers_mut();
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    for line in offered {
        headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(line).unwrap());
    }
    if let Some(credential) = credential {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(credential).unwrap());
    }
    app.clone().oneshot(request).await.unwrap()
}

/// A route that says who calls and which subprotocols it may choose from.
fn offered(layer: VerifyLayer) -> Router {
    let offered = async |user: Option<Auth>, headers: http::HeaderMap| {
        let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let lines: Vec<_> = lines.map(|line| line.to_str().unwrap().to_owned()).collect();
        format!("{}: {}", maybe_who(user).await, lines.join(" | "))
    };
    Router::new().route("/offered", get(offered)).layer(layer)
}

#[tokio::test]
async fn websocket_token_is_accepted_where_it_is_asked_for_and_the_handler_never_sees_it() {
    let (issuer, verifier) = issuer_and_verifier();
    let token = issuer.sign(&issuer.claims(NOW));
    let entry = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&token));
    let app = offered(verifier.layer().with_websocket_token());
    let (first, last, middle) =
        (format!("{entry},chat"), format!("chat , {entry}"), format!("chat, ,{entry}\t, v2"));
    for (lines, left) in [
        (&[&*first][..], "chat"),
        (&[&last], "chat"),
        (&[&middle], "chat, v2"),
        (&["chat", &entry, "v2"], "chat, v2"),
    ] {
        let response = open(&app, lines, None).await;
        assert_eq!((response.status(), text(response).await), (StatusCode::OK, format!("alice: {left}")));
    }
    // The header still works, and without a token in it the offer stays as it is.
    let response = open(&app, &["chat", "v2"], Some(&format!("Bearer {token}"))).await;
    assert_eq!(text(response).await, "alice: chat | v2");
    let nobody = offered(verifier.layer().optional().with_websocket_token());
    assert_eq!(text(open(&nobody, &["chat"], None).await).await, "nobody: chat");
    // Without having been asked for, it is no credential.
    let response = open(&offered(verifier.layer()), &[&first], None).await;
    assert_refused(response, 401, "missing_token", Some("Bearer realm=\"api\"")).await;
    let request = Request::get("/offered").header(header::SEC_WEBSOCKET_PROTOCOL, &*first);
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_refused(response, 401, "missing_token", Some("Bearer realm=\"api\"")).await;
}

#[tokio::test]
async fn doubtful_websocket_token_is_a_bad_request() {
    let (issuer, verifier) = issuer_and_verifier();
    let token = issuer.sign(&issuer.claims(NOW));
    let entry = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&token));
    let bearer = format!("Bearer {token}");
    let malformed = [
        (entry.clone(), None),
        (format!(" ,{entry},"), None),
        (format!("{entry}, chat, {entry}"), None),
        (format!("chat, {entry}"), Some(&*bearer)),
        (format!("chat, {entry}"), Some("Basic YWxpY2U6eA==")),
        (format!("chat, {entry}="), None),
        (format!("chat, {PREFIX}"), None),
        (format!("chat, {PREFIX}a+b/"), None),
        (format!("chat, {PREFIX}{}", URL_SAFE_NO_PAD.encode(b"\xff\xfe")), None),
    ];
    for layer in [verifier.layer(), verifier.layer().optional()] {
        let app = offered(layer.with_websocket_token());
        for (offer, credential) in &malformed {
            let response = open(&app, &[offer], *credential).await;
            let challenge = Some("Bearer error=\"invalid_request\"");
            assert_refused(response, 400, "invalid_request", challenge).await;
        }
        let bad = format!("chat, {PREFIX}{}", URL_SAFE_NO_PAD.encode("junk"));
        let challenge = Some("Bearer error=\"invalid_token\"");
        assert_refused(open(&app, &[&bad], None).await, 401, "invalid_token", challenge).await;
    }
}

#[tokio::test]
async fn optional_layer_lets_nobody_through_as_nobody() {
    let (issuer, verifier) = issuer_and_verifier();
    let good = format!("Bearer {}", issuer.sign(&issuer.claims(NOW)));
    let app = app(verifier.layer().optional());
    assert_eq!(text(call(&app, "/maybe", &[]).await).await, "nobody");
    assert_eq!(text(call(&app, "/maybe", &[&good]).await).await, "alice");
    for path in ["/who", "/ping"] {
        assert_refused(call(&app, path, &[]).await, 401, "missing_token", Some("Bearer realm=\"api\"")).await;
    }
    assert_eq!(text(call(&app, "/uninterested", &[]).await).await, "open");
    let response = call(&app, "/maybe", &["Bearer junk"]).await;
    assert_refused(response, 401, "invalid_token", Some("Bearer error=\"invalid_token\"")).await;
}

#[tokio::test]
async fn route_without_a_layer_lets_nobody_through() {
    let app = Router::new()
        .route("/who", get(who))
        .route("/maybe", get(maybe_who))
        .route("/ping", get(async || "pong").layer(RequirePermission::all(["ping"])));
    for path in ["/who", "/maybe", "/ping"] {
        assert_refused(call(&app, path, &["Bearer junk"]).await, 500, "internal_error", None).await;
    }
}

#[tokio::test]
async fn custom_claims_reach_the_handler_and_permissions_do_not_depend_on_them() {
    let (issuer, verifier) = issuer_and_verifier();
    let mut claims = serde_json::to_value(issuer.claims(NOW)).unwrap();
    claims["tenant"] = 7.into();
    let good = format!("Bearer {}", issuer.sign(&claims));
    let tenant = async |Auth(user): Auth<Tenant>| user.claims().tenant.to_string();
    let app = Router::new()
        .route("/tenant", get(tenant).layer(RequirePermission::all(["ping"])))
        .route("/who", get(who))
        .layer(verifier.layer_with_claims::<Tenant>());
    assert_eq!(text(call(&app, "/tenant", &[&good]).await).await, "7");
    assert_refused(call(&app, "/who", &[&good]).await, 500, "internal_error", None).await;
}

#[tokio::test]
async fn inner_layer_overrules_the_outer_one() {
    let ((issuer, outer), (_, inner)) = (issuer_and_verifier(), issuer_and_verifier());
    let good = format!("Bearer {}", issuer.sign(&issuer.claims(NOW)));
    let app = Router::new().route("/who", get(who)).layer(inner.layer()).layer(outer.layer());
    let response = call(&app, "/who", &[&good]).await;
    assert_refused(response, 401, "invalid_token", Some("Bearer error=\"invalid_token\"")).await;
}

#[tokio::test]
async fn inner_layer_forgets_whom_the_outer_one_knew() {
    let ((issuer, outer), (_, inner)) = (issuer_and_verifier(), issuer_and_verifier());
    let good = HeaderValue::try_from(format!("Bearer {}", issuer.sign(&issuer.claims(NOW)))).unwrap();
    let without_credential = axum::middleware::map_request(async |mut request: Request<Body>| {
        request.headers_mut().remove(header::AUTHORIZATION);
        request
    });
    let app = Router::new().route("/maybe", get(maybe_who)).layer(inner.layer().optional());
    let app = app.layer(without_credential).layer(outer.layer());
    let request = Request::get("/maybe").header(header::AUTHORIZATION, good).body(Body::empty()).unwrap();
    assert_eq!(text(app.oneshot(request).await.unwrap()).await, "nobody");
}

#[tokio::test]
async fn without_keys_the_answer_is_try_again_and_never_a_challenge() {
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
    assert_refused(call(&app(verifier.layer()), "/who", &[&good]).await, 503, "unavailable", None).await;
}
