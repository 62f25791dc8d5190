//! The environment of the publishers: a database, clocks, a network.

use std::time::Duration;

use auth_service::domain::revocation::{Revocation, Revoked};
use auth_service::domain::session::SessionId;
use auth_service::runtime::feed::publisher::{Draft, Publisher};
use auth_service::store::{Confirmation, RevocationTable};
use verifier::{Kid, UnixTime};

use super::reader::{Connection, Reader};
use crate::dice::Dice;

const START: i64 = 1_800_000_000_000;
/// The number of documents that a reader may lag before it gets a snapshot.
const BACKLOG: usize = 8;
const KEEP_FOR: i64 = 130;
/// The maximum delay of a commit.
const LATEST_COMMIT_MS: i64 = 55_000;
/// Each addition may advance `as_of` by one millisecond more than the elapsed time.
const ADDITIONS_MS: i64 = 400;

/// The faults of a history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// A relay loses documents.
    pub(crate) loses_documents: bool,
    /// The maximum difference between the shared clock and a replica's, in milliseconds; 0 also means that
    /// clocks are never set.
    pub(crate) clocks_differ_by: i64,
    /// A replica occasionally detects a wrong clock.
    pub(crate) clocks_fail: bool,
}

struct Row {
    revoked: Revoked,
    revoked_at: i64,
    committed_at: i64,
}

#[derive(Default)]
struct Replica {
    publisher: Publisher,
    snapshot: Option<Draft>,
    last: Option<Draft>,
    /// The lead of its wall clock in milliseconds.
    offset: i64,
    cannot_read: bool,
    may_not_sign: bool,
}

pub(crate) struct World {
    dice: Dice,
    weather: Weather,
    /// True time and the shared clock, in Unix milliseconds.
    now: i64,
    rows: Vec<Row>,
    replicas: Vec<Replica>,
    pub(crate) reader: Reader,
    /// Documents that were resent because there was no newer one.
    pub(crate) repeats: u64,
}

impl World {
    pub(crate) fn new(dice: Dice, weather: Weather) -> Self {
        let replicas = (0..3).map(|_| Replica::default()).collect();
        let mut world = Self {
            dice,
            weather,
            now: START,
            rows: Vec::new(),
            replicas,
            reader: Reader::default(),
            repeats: 0,
        };
        for replica in 0..3 {
            world.set_clock(replica);
        }
        world
    }

    pub(crate) fn step(&mut self) {
        self.now += self.dice.mostly_small(3_000);
        let replica = self.dice.pick(&[0, 1, 2]);
        match self.dice.between(1, 100) {
            1..=10 => self.revoke(),
            11..=40 => self.read(replica),
            41..=55 => self.beat(replica),
            56..=80 => (0..self.dice.between(1, 4)).for_each(|_| self.reader.receive()),
            81..=87 => self.connect(replica),
            88 => self.replicas[replica].cannot_read = true,
            89..=90 => self.replicas[replica].cannot_read = false,
            91 => self.replicas[replica].may_not_sign = true,
            92..=94 => self.replicas[replica].may_not_sign = false,
            95 => self.reader.connection = None,
            96 => self.set_clock(replica),
            // A pause of everything, longer than the overlap of two polls.
            97 => self.now += self.dice.between(1, 200) * 1_000,
            _ => self.lose_a_document(),
        }
    }

    fn revoke(&mut self) {
        let number = u64::try_from(self.rows.len()).unwrap();
        let is_key = self.dice.percent(10);
        let what = if is_key {
            Revocation::Key(Kid::from(number.to_string()))
        } else {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&number.to_be_bytes());
            Revocation::Session(SessionId::from_bytes(id))
        };
        let revoked_at = self.now / 1000;
        let forget_at = (!is_key).then_some(UnixTime(revoked_at + KEEP_FOR));
        let committed_at = self.now + self.dice.mostly_small(LATEST_COMMIT_MS);
        self.rows.push(Row { revoked: Revoked { what, forget_at }, revoked_at, committed_at });
    }

    /// Mirrors the store.
    fn read(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        let monotonic = Duration::from_millis(u64::try_from(self.now - START).unwrap());
        let from = replica.publisher.read_from(monotonic);
        if replica.cannot_read {
            return;
        }
        let seconds = UnixTime(self.now / 1000);
        let is_found = |row: &&Row| {
            row.committed_at <= self.now
                && row.revoked.forget_at.is_none_or(|at| at > seconds)
                && from.is_none_or(|from| row.revoked_at >= from.min(seconds).0 - 60)
        };
        let rows = self.rows.iter().filter(is_found).map(|row| row.revoked.clone()).collect();
        let seen = Confirmation { now: seconds, keys_version: 0, asked_at: monotonic };
        let clock_is_right = !self.weather.clocks_fail || self.dice.percent(90);
        let asked_at = clock_is_right.then_some(self.now + replica.offset);
        replica.publisher.learn(RevocationTable { settings: 0, rows, seen }, asked_at);
        if replica.publisher.has_news() {
            self.publish(index);
        }
    }

    fn beat(&mut self, index: usize) {
        if !self.publish(index)
            && let Some(last) = self.replicas[index].last.clone()
        {
            self.repeats += 1;
            self.send(index, &last);
        }
    }

    fn publish(&mut self, index: usize) -> bool {
        let replica = &mut self.replicas[index];
        let Some(delta) = replica.publisher.delta().filter(|_| !replica.may_not_sign) else { return false };
        replica.publisher.sent(&delta);
        replica.last = Some(delta.clone());
        self.send(index, &delta);
        true
    }

    fn send(&mut self, index: usize, document: &Draft) {
        let Some(connection) = self.reader.connection.as_mut().filter(|it| it.replica == index) else {
            return;
        };
        connection.queue.push_back(document.clone());
        if connection.queue.len() > BACKLOG {
            self.replace_backlog(index);
        }
    }

    fn connect(&mut self, index: usize) {
        self.reader.connection = self.snapshot(index).map(|snapshot| Connection::new(index, snapshot));
    }

    /// Replaces the documents in flight to a slow reader with a snapshot.
    fn replace_backlog(&mut self, index: usize) {
        match (self.snapshot(index), &mut self.reader.connection) {
            (Some(snapshot), Some(connection)) => connection.queue = [snapshot].into(),
            (_, connection) => *connection = None,
        }
    }

    fn snapshot(&mut self, index: usize) -> Option<Draft> {
        let replica = &mut self.replicas[index];
        let is_current = |snapshot: &Draft| replica.publisher.is_current(snapshot);
        if !replica.may_not_sign && !replica.snapshot.as_ref().is_some_and(is_current) {
            replica.snapshot = replica.publisher.snapshot().or(replica.snapshot.take());
        }
        replica.snapshot.clone().filter(|snapshot| replica.publisher.is_complete(snapshot))
    }

    fn set_clock(&mut self, index: usize) {
        let most = self.weather.clocks_differ_by;
        self.replicas[index].offset = self.dice.between(-most, most);
    }

    fn lose_a_document(&mut self) {
        if let Some(Connection { queue, .. }) = &mut self.reader.connection
            && self.weather.loses_documents
            && !queue.is_empty()
        {
            let lost = self.dice.index(queue.len());
            // A connection starts with its snapshot, which is never lost; only later documents are.
            if queue[lost].since.is_some() {
                queue.remove(lost);
            }
        }
    }

    /// The reader knows every unexpired revocation that was committed before its `as_of`.
    pub(crate) fn check(&self, seed: u64, step: usize) {
        let Some(as_of) = self.reader.as_of else { return };
        let believed = as_of - self.weather.clocks_differ_by - self.slack();
        for row in self.rows.iter().filter(|row| row.committed_at < believed) {
            let matters = row.revoked.forget_at.is_none_or(|at| at.0 > self.now / 1000);
            assert!(!matters || self.knows(&row.revoked.what), "seed {seed}, step {step}: {:?}", row.revoked);
        }
        assert!(as_of <= self.now + self.weather.clocks_differ_by + self.slack(), "seed {seed}, step {step}");
    }

    /// If clocks are never set, `as_of` may be ahead only by the additions of one instant.
    fn slack(&self) -> i64 {
        ADDITIONS_MS.min(i64::try_from(self.rows.len()).unwrap())
    }

    fn knows(&self, what: &Revocation) -> bool {
        match what {
            Revocation::Session(id) => self.reader.sessions.contains(id.as_bytes()),
            Revocation::Key(kid) => self.reader.keys.contains(kid),
        }
    }

    /// All faults end; then a connected reader knows everything within one round.
    pub(crate) fn calm_down(&mut self, seed: u64) {
        self.now += LATEST_COMMIT_MS;
        for index in 0..self.replicas.len() {
            let replica = &mut self.replicas[index];
            (replica.cannot_read, replica.may_not_sign, replica.offset) = (false, false, 0);
            self.read(index);
        }
        if self.reader.connection.is_none() {
            self.connect(0);
        }
        let connected_to = self.reader.connection.as_ref().unwrap().replica;
        self.beat(connected_to);
        while self.reader.connection.as_ref().is_some_and(|it| !it.queue.is_empty()) {
            self.reader.receive();
        }
        if self.reader.connection.is_none() {
            // It detected a gap and reconnects.
            self.connect(connected_to);
            self.reader.receive();
        }
        for row in &self.rows {
            let matters = row.revoked.forget_at.is_none_or(|at| at.0 > self.now / 1000);
            assert!(!matters || self.knows(&row.revoked.what), "seed {seed}, at the end: {:?}", row.revoked);
        }
        let live =
            self.rows.iter().filter(|row| row.revoked.forget_at.is_none_or(|at| at.0 > self.now / 1000));
        assert_eq!(
            self.replicas[connected_to].publisher.entries(),
            live.count(),
            "seed {seed}: nothing stays too long"
        );
    }
}
