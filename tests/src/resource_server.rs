//! `examples/ping-service` as a process.

use crate::client::Client;
use crate::example::Example;

/// A running resource server: `GET /ping` requires the permission `ping`, and `GET /pong` requires `pong`.
#[derive(Debug)]
pub struct ResourceServer {
    example: Example,
}

impl ResourceServer {
    /// Starts one that trusts `issuer`, for the audience `api`, and waits until it listens.
    pub async fn start(issuer: &str) -> Self {
        Self::start_with(issuer, &[]).await
    }

    /// The same with further variables.
    pub async fn start_with(issuer: &str, environment: &[(&str, &str)]) -> Self {
        let environment = [&[("ISSUER", issuer), ("AUDIENCE", "api")], environment].concat();
        Self { example: Example::start("ping-service", &environment).await }
    }

    /// A client of this server with the bearer token `token`.
    pub fn client(&self, token: &str) -> Client {
        self.example.client().with_bearer(token)
    }

    /// The process.
    pub const fn process(&self) -> &Example {
        &self.example
    }
}
