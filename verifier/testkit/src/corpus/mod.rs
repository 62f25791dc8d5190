//! The cases, one file for each part of a token that can be wrong. `row` is the line of the project's list of
//! known attacks that the case belongs to.

mod alg;
mod claims;
mod form;
mod header;
pub mod keys;
mod signatures;
mod size;
mod times;

use std::sync::Arc;

use verifier::{Expected, KeySet, NoExtra, Seconds, UnixTime};

use crate::lab::Lab;
use crate::{AUDIENCE, ISSUER, NOW};

/// One token, and the one right answer.
pub struct Case {
    /// `family/what`, unlike any other.
    pub name: String,
    pub row: &'static str,
    pub token: String,
    /// The label of the reason, if it is to be refused.
    pub wants: Result<(), &'static str>,
    pub asked: Asked,
}

/// Who is asked, and when.
#[derive(Clone)]
pub struct Asked {
    pub keys: Arc<KeySet>,
    pub expected: Expected,
    pub now: UnixTime,
}

impl Case {
    pub fn family(&self) -> &str {
        self.name.split_once('/').unwrap().0
    }

    pub fn answer(&self) -> Result<(), &'static str> {
        let Asked { keys, expected, now } = &self.asked;
        match expected.verify::<NoExtra>(&self.token, keys, *now) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.label()),
        }
    }
}

/// All cases, for the keys of `lab`.
pub fn all(lab: &Lab) -> Vec<Case> {
    let mut cases = Cases::new(lab);
    alg::add(&mut cases);
    keys::add(&mut cases);
    signatures::add(&mut cases);
    form::add(&mut cases);
    size::add(&mut cases);
    header::add(&mut cases);
    claims::add(&mut cases);
    times::add(&mut cases);
    cases.all
}

/// Collects cases.
pub struct Cases<'l> {
    lab: &'l Lab,
    asked: Asked,
    all: Vec<Case>,
}

impl<'l> Cases<'l> {
    fn new(lab: &'l Lab) -> Self {
        let expected = Expected::new(ISSUER, [AUDIENCE]).with_leeway(Seconds(0));
        Self { lab, asked: Asked { keys: Arc::new(lab.keys()), expected, now: NOW }, all: Vec::new() }
    }

    fn accept(&mut self, row: &'static str, name: impl Into<String>, token: String) {
        let asked = self.asked.clone();
        self.all.push(Case { name: name.into(), row, token, wants: Ok(()), asked });
    }

    fn refuse(&mut self, row: &'static str, name: impl Into<String>, token: String, label: &'static str) {
        let asked = self.asked.clone();
        self.all.push(Case { name: name.into(), row, token, wants: Err(label), asked });
    }

    /// Until `then` returns, someone else is asked.
    fn asking(&mut self, asked: Asked, then: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.asked, asked);
        then(self);
        self.asked = before;
    }
}

/// A word that tells cases apart which differ by a text: its letters and digits, and its number.
fn word(index: usize, text: &str) -> String {
    let letters: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(24).collect();
    format!("{index}_{letters}")
}
