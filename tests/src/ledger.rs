//! The actions and observations of clients: an append-only file with one JSON object per line, written
//! immediately.
//!
//! The ledger does not judge. The [checkers](crate::checkers) read the file afterwards.

mod entry;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

pub use entry::{Call, Entry, Grant, Outcome};
use serde_json::Value;

use crate::client::{Answer, Client, Lost, Tokens};
use crate::clock;
use crate::jwt::Peek;

/// The file of one run, shared by its tasks.
#[derive(Debug)]
pub struct Ledger {
    file: Mutex<BufWriter<File>>,
    path: PathBuf,
    /// Whether dropping this removes the file.
    is_temporary: bool,
}

impl Default for Ledger {
    /// A ledger in a temporary file.
    fn default() -> Self {
        let file = tempfile::Builder::new().prefix("auth-e2e-ledger.").tempfile().expect("a temporary file");
        let (file, path) = file.keep().expect("the file was just made");
        Self { file: Mutex::new(BufWriter::new(file)), path, is_temporary: true }
    }
}

impl Ledger {
    /// A ledger at `path`, replacing an existing file.
    pub fn at(path: &Path) -> Self {
        let file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { file: Mutex::new(BufWriter::new(file)), path: path.to_owned(), is_temporary: false }
    }

    /// Records a call that was sent at `sent` and finished now.
    pub fn write(&self, sent: Duration, outcome: Outcome, call: Call) {
        self.append(&Entry { sent, answered: clock::since_epoch(), outcome, call });
    }

    /// Records an event at the current time.
    pub fn note(&self, outcome: Outcome, call: Call) {
        self.write(clock::since_epoch(), outcome, call);
    }

    /// Records an action of the driver on the service.
    pub fn deed(&self, what: impl Into<String>) {
        self.note(Outcome::Ok, Call::Deed(what.into()));
    }

    /// Records a login, and returns its tokens if there are any.
    pub fn login(&self, sent: Duration, answer: &Result<Answer, Lost>) -> Option<Tokens> {
        let tokens = answer.as_ref().ok().and_then(Answer::find_tokens);
        self.write(sent, Outcome::of(answer), Call::Login(tokens.as_ref().map(Grant::of)));
        tokens
    }

    /// Refreshes with `shown`, records that, and returns the response.
    pub async fn refresh(&self, client: &Client, shown: &Tokens) -> Result<Answer, Lost> {
        let sent = clock::since_epoch();
        let answer = client.refresh(&shown.refresh).await;
        let grant = answer.as_ref().ok().and_then(Answer::find_tokens).as_ref().map(Grant::of);
        let call = Call::Refresh { session: shown.session.clone(), presented: shown.refresh.clone(), grant };
        self.write(sent, Outcome::of(&answer), call);
        answer
    }

    /// Ends the session of `shown`, records that, and returns the response.
    pub async fn logout(&self, client: &Client, shown: &Tokens) -> Result<Answer, Lost> {
        let sent = clock::since_epoch();
        let answer = client.logout(&shown.refresh).await;
        self.write(sent, Outcome::of(&answer), Call::End { session: shown.session.clone() });
        answer
    }

    /// Records the key set in `answer` from replica number `replica`.
    pub fn key_set(&self, replica: usize, jwks: &Value) {
        let keys = jwks["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named = |key: &Value| (key["kid"].as_str().unwrap_or_default().to_owned(), key.to_string());
        self.note(Outcome::Ok, Call::KeySet { replica, keys: keys.iter().map(named).collect() });
    }

    /// Records that a verifier accepted a token, or why it did not.
    pub fn verified(&self, sent: Duration, token: &Peek, connected: bool, outcome: Outcome) {
        self.write(sent, outcome, Call::Verify { token: token.id(), connected });
    }

    /// Records the failure of a function that must always work.
    pub fn failed(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(Outcome::Fail(what.clone()), Call::Must(what));
    }

    /// All entries so far, in the order of the responses.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().flush().expect("the ledger can be written");
        let file = File::open(&self.path).expect("the ledger is there");
        let lines = BufReader::new(file).lines();
        lines
            .map(|line| serde_json::from_str(&line.expect("text")).expect("a line that we have written"))
            .collect()
    }

    fn append(&self, entry: &Entry) {
        let mut line = serde_json::to_vec(entry).expect("an entry is JSON");
        line.push(b'\n');
        self.lock().write_all(&line).expect("the ledger can be written");
    }

    fn lock(&self) -> MutexGuard<'_, BufWriter<File>> {
        self.file.lock().expect("nobody panics with this lock")
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if self.is_temporary {
            drop(fs::remove_file(&self.path)); // It is in the temporary folder anyway.
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_read_back_as_written() {
        let ledger = Ledger::default();
        let token = Peek { kid: "kid".into(), jti: "jti".into(), sid: "sid".into(), iat: 1, exp: 2 };
        ledger.verified(Duration::from_micros(1_500_001), &token, true, Outcome::Fail("why".into()));
        ledger.key_set(2, &json!({ "keys": [{ "kid": "a", "x": "1" }] }));
        let entries = ledger.entries();
        assert_eq!(entries[0].sent, Duration::from_micros(1_500_001));
        assert_eq!(entries[0].outcome, Outcome::Fail("why".to_owned()));
        assert!(matches!(&entries[0].call, Call::Verify { token: id, connected: true } if *id == token.id()));
        assert!(matches!(&entries[1].call, Call::KeySet { replica: 2, keys } if keys.contains_key("a")));
        assert!(entries[1].answered > Duration::from_secs(1_700_000_000));
    }

    #[test]
    fn only_a_refusal_by_the_service_is_a_failure() {
        let answer = |status| {
            Ok(Answer { status, headers: http::HeaderMap::new(), body: "{}".into(), took: Duration::ZERO })
        };
        assert_eq!(Outcome::of(&answer(http::StatusCode::NO_CONTENT)), Outcome::Ok);
        assert!(matches!(Outcome::of(&answer(http::StatusCode::UNAUTHORIZED)), Outcome::Fail(_)));
        assert!(matches!(Outcome::of(&answer(http::StatusCode::BAD_GATEWAY)), Outcome::Info(_)));
        assert!(matches!(Outcome::of(&Err(Lost { why: "reset".into() })), Outcome::Info(_)));
    }
}
