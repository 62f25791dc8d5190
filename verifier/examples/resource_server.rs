//! A complete replica: `GET /ping` answers those whose token grants the permission `ping`.
//!
//! ```text
//! cargo run -p verifier --example resource_server -- http://127.0.0.1:8080 api 127.0.0.1:9000
//! ```
//!
//! What is not given as an argument comes from `ISSUER`, `AUDIENCE` and `ADDRESS`. Run as many as you like:
//! they share nothing, and none of them needs the issuer to check a token.

use std::error::Error;

use axum::{Router, routing::get};
use verifier::{Auth, RequirePermission, Verifier};

async fn ping(Auth(user): Auth) -> String {
    format!("pong, {}\n", user.subject())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let issuer = setting(arguments.next(), "ISSUER", "http://127.0.0.1:8080");
    let audience = setting(arguments.next(), "AUDIENCE", "api");
    let address = setting(arguments.next(), "ADDRESS", "127.0.0.1:0");

    let verifier = Verifier::builder(issuer).audience(audience).build()?;
    let app = Router::new()
        .route("/ping", get(ping).layer(RequirePermission::all(["ping"])))
        .layer(verifier.layer())
        .route("/healthz", get(async || "ok"));

    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "an example has no configuration file")]
fn setting(argument: Option<String>, variable: &str, default: &str) -> String {
    argument.or_else(|| std::env::var(variable).ok()).unwrap_or_else(|| default.to_owned())
}
