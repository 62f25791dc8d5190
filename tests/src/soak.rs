//! The scenarios of docs/reliability.md: load by a schedule, a fault, a ledger, and checkers that judge it
//! afterwards.
//!
//! Each scenario exists once. Its short form runs on each change (`tests/reliability.rs`), its full form on
//! demand (`cargo run -p e2e --bin soak`); they differ only in figures.

mod clock_faults;
mod confirmed;
mod database_away;
mod kill_storm;
mod paused_replica;
mod report;
mod revocation_reach;
mod rolling_upgrade;
mod rotation_load;
mod rotation_race;
mod run;
mod single_use;
mod slow_clients;
mod stolen_key;
mod traffic;

pub use report::Report;
pub use run::Run;

/// The length of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Some seconds, for each change.
    Short,
    /// Minutes, before a release.
    Full,
}

impl Size {
    /// One of two figures.
    pub fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

/// One row of the table in docs/reliability.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their titles say it")]
pub enum Scenario {
    R1,
    R3,
    R5,
    R6,
    R7,
    R12,
    R14,
    R15,
    R16,
    R17,
    R19,
}

impl Scenario {
    /// In the order in which they are played.
    pub const ALL: [Self; 11] = [
        Self::R1,
        Self::R3,
        Self::R5,
        Self::R6,
        Self::R7,
        Self::R12,
        Self::R14,
        Self::R15,
        Self::R16,
        Self::R17,
        Self::R19,
    ];

    /// The name in the table.
    pub fn id(self) -> String {
        format!("{self:?}")
    }

    /// A short description.
    pub const fn title(self) -> &'static str {
        match self {
            Self::R1 => "replicas are killed one after the other while keys rotate",
            Self::R3 => {
                "the database is stopped, killed, frozen, behind a black hole, and waiting for its standby"
            }
            Self::R5 => "keys rotate all the time under the eyes of fifty verifiers",
            Self::R6 => "a signing key is in other hands",
            Self::R7 => "one refresh token shown 64 times in parallel, with pauses and lost answers",
            Self::R12 => "the clock of one replica is wrong, stands still, runs backwards; and 2038 and 2100",
            Self::R14 => "the release before and this one side by side, up and down again",
            Self::R15 => "fifty operators rotate the keys in parallel",
            Self::R16 => "a replica sleeps over a rotation and a compromise",
            Self::R17 => "a hundred thousand revocations, and a verifier that is cut off",
            Self::R19 => "clients that send a byte a second, or far too much",
        }
    }

    /// Runs it and checks the ledger.
    pub async fn play(self, mut run: Run) -> Report {
        match self {
            Self::R1 => kill_storm::play(&mut run).await,
            Self::R3 => database_away::play(&mut run).await,
            Self::R5 => rotation_load::play(&mut run).await,
            Self::R6 => stolen_key::play(&mut run).await,
            Self::R7 => single_use::play(&mut run).await,
            Self::R12 => clock_faults::play(&mut run).await,
            Self::R14 => rolling_upgrade::play(&mut run).await,
            Self::R15 => rotation_race::play(&mut run).await,
            Self::R16 => paused_replica::play(&mut run).await,
            Self::R17 => revocation_reach::play(&mut run).await,
            Self::R19 => slow_clients::play(&mut run).await,
        }
        run.judge(self)
    }
}
