//! A client application that keeps one session alive according to the contract.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::client::{Answer, Client, Lost, Tokens};
use crate::clock;
use crate::ledger::{Call, Grant, Ledger, Outcome};
use crate::wait;

/// One login and its newest refresh token. Every response is recorded in the ledger.
#[derive(Debug)]
pub struct Session {
    client: Client,
    ledger: Arc<Ledger>,
    tokens: Tokens,
}

/// The outcome of a refresh.
#[derive(Debug)]
pub enum Refreshed {
    /// New tokens.
    Done,
    /// No response, or a request to retry: the session is unchanged.
    Later(String),
    /// The session is over.
    Refused(Answer),
}

impl Session {
    /// Logs in; panics if that fails.
    pub async fn log_in(client: &Client, ledger: &Arc<Ledger>, username: &str, password: &str) -> Self {
        let answer = client.login(username, password).await.expect("an answer");
        Self::from_login(client, ledger, &answer)
    }

    /// Continues with the response to a login; panics if it was refused.
    pub fn from_login(client: &Client, ledger: &Arc<Ledger>, login: &Answer) -> Self {
        let tokens = login.tokens();
        let sent = clock::since_epoch().saturating_sub(login.took);
        ledger.write(sent, Outcome::Ok, Call::Login(Some(Grant::of(&tokens))));
        Self { client: client.clone(), ledger: Arc::clone(ledger), tokens }
    }

    /// The newest tokens.
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Refreshes once.
    pub async fn refresh(&mut self) -> Refreshed {
        let client = self.client.clone();
        self.refresh_at(&client).await
    }

    /// Refreshes once, at another address.
    pub async fn refresh_at(&mut self, client: &Client) -> Refreshed {
        let answer = self.ledger.refresh(client, &self.tokens).await;
        self.take(answer)
    }

    /// Evaluates the response to a refresh with the newest refresh token.
    fn take(&mut self, answer: Result<Answer, Lost>) -> Refreshed {
        let answer = match answer {
            Ok(answer) => answer,
            Err(lost) => return Refreshed::Later(lost.why),
        };
        if let Some(tokens) = answer.find_tokens() {
            self.tokens = tokens;
            return Refreshed::Done;
        }
        let is_lost = [StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT].contains(&answer.status);
        if is_lost || answer.retry_after().is_some() {
            Refreshed::Later(answer.to_string())
        } else {
            Refreshed::Refused(answer)
        }
    }

    /// Retries until there are new tokens; panics if the session is over or this takes longer than `within`.
    pub async fn refresh_patiently(&mut self, within: Duration) {
        let what = format!("session {} gets new tokens", self.tokens.session);
        wait::until(&what, within, async || match self.refresh().await {
            Refreshed::Done => Some(()),
            Refreshed::Later(_) => {
                wait::let_pass(Duration::from_millis(100)).await;
                None
            }
            Refreshed::Refused(answer) => panic!("session {} was lost: {answer}", self.tokens.session),
        })
        .await;
    }
}
