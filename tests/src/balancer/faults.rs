//! The faults of the proxy, and their frequency.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A fault of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The replica handles the request; the client's connection closes without a response.
    DropAnswer,
    /// The request reaches the replica late.
    DelayRequest(Duration),
    /// The response reaches the client late.
    DelayAnswer(Duration),
    /// The request is delivered twice in sequence; the client gets the second response.
    Repeat,
}

/// The share of the matching requests that get the fault.
#[derive(Clone, Copy, Debug)]
pub enum Share {
    /// The next requests, up to this number.
    Next(usize),
    /// Every n-th request.
    OneIn(usize),
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Mutex<Vec<Rule>>,
}

#[derive(Debug)]
struct Rule {
    path: String,
    fault: Fault,
    share: Share,
    matched: usize,
}

impl Faults {
    pub(super) fn add(&self, path: &str, fault: Fault, share: Share) {
        self.lock().push(Rule { path: path.to_owned(), fault, share, matched: 0 });
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// The fault for the next request to `path`: that of the first rule that applies.
    pub(super) fn next(&self, path: &str) -> Option<Fault> {
        self.lock().iter_mut().filter(|rule| rule.path == path).find_map(Rule::strike)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().expect("nobody panics with this lock")
    }
}

impl Rule {
    fn strike(&mut self) -> Option<Fault> {
        self.matched += 1;
        let strikes = match self.share {
            Share::Next(count) => self.matched <= count,
            Share::OneIn(count) => self.matched.is_multiple_of(count.max(1)),
        };
        strikes.then_some(self.fault)
    }
}
