//! One service for the tokens of two issuers, each with its own audience and keys.
//!
//! ```text
//! cargo run -p access-token-verifier --example several_issuers --features testing
//! ```

use std::error::Error;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, StatusCode};
use tower::ServiceExt;
use verifier::testing::MockIssuer;
use verifier::{Auth, MultiVerifier, RequirePermission};

async fn list(Auth(user): Auth) -> String {
    // A subject is unique within its issuer only.
    format!("orders of {} at {}", user.subject(), user.issuer())
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let staff = MockIssuer::start("orders-api").await?;
    let shops = MockIssuer::start("orders").await?;
    let stranger = MockIssuer::start("orders").await?;

    let verifier = MultiVerifier::new([staff.verifier().build()?, shops.verifier().build()?])?;
    verifier.ready(std::time::Duration::from_secs(5)).await?;
    let app = Router::new()
        .route("/orders", get(list).layer(RequirePermission::all(["orders:read"])))
        .layer(verifier.layer());

    for (issuer, status) in
        [(&staff, StatusCode::OK), (&shops, StatusCode::OK), (&stranger, StatusCode::UNAUTHORIZED)]
    {
        let token = issuer.token().permission("orders:read").sign();
        let request = Request::get("/orders").header("authorization", format!("Bearer {token}"));
        let response = app.clone().oneshot(request.body(Body::empty())?).await?;
        println!("{}: {}", issuer.url(), response.status());
        assert_eq!(response.status(), status);
    }
    Ok(())
}
