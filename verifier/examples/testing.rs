//! How to test a service that checks tokens: no network, no secrets in the repository, any second of the
//! clock.
//!
//! ```text
//! cargo run -p access-token-verifier --example testing --features testing
//! ```

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, StatusCode};
use tower::ServiceExt;
use verifier::testing::{TestIssuer, TestToken};
use verifier::{ManualClock, Needed, Permissions, Scoped, Seconds, UnixTime, Verifier};

struct ReadOrders;

impl Permissions for ReadOrders {
    const NEEDED: Needed = Needed::All(&["orders:read"]);
}

async fn list(user: Scoped<ReadOrders>) -> String {
    format!("orders of {}", user.subject())
}

/// The service. It takes its verifier as an argument, so a test can bring another one.
fn app(verifier: &Verifier) -> Router {
    Router::new().route("/orders", get(list)).layer(verifier.layer())
}

async fn status(app: &Router, token: TestToken) -> Result<StatusCode, Box<dyn Error>> {
    let request = Request::get("/orders").header("authorization", format!("Bearer {}", token.sign()));
    Ok(app.clone().oneshot(request.body(Body::empty())?).await?.status())
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let now = UnixTime(1_800_000_000);
    let clock = Arc::new(ManualClock::new(now));
    let issuer = TestIssuer::new("https://auth.example.com", "orders-api");
    let app = app(&issuer.verifier().clock(clock.clone()).build()?);

    let good = issuer.token_at(now).subject("bob").permission("orders:read");
    assert_eq!(status(&app, good.clone()).await?, StatusCode::OK);
    assert_eq!(status(&app, issuer.token_at(now)).await?, StatusCode::FORBIDDEN);
    for bad in [
        good.clone().wrong_audience(),
        good.clone().bad_signature(),
        good.clone().alg_none(),
        good.clone().without("client_id"),
    ] {
        assert_eq!(status(&app, bad).await?, StatusCode::UNAUTHORIZED);
    }

    // The last second of the token, leeway included, and the one after.
    clock.advance(Seconds(300 + 29));
    assert_eq!(status(&app, good.clone()).await?, StatusCode::OK);
    clock.advance(Seconds(1));
    assert_eq!(status(&app, good).await?, StatusCode::UNAUTHORIZED);
    println!("all as expected");
    Ok(())
}
