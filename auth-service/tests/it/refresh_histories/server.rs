//! The refresh of a replica: `flows/refresh.rs`, one statement at a time, so that other requests run in
//! between.

use auth_service::domain::session::Generation;
use auth_service::domain::session::{RefreshPolicy, Verdict};
use auth_service::store::Advance;

use super::database::Database;
use super::ledger::Ledger;

const TRIES: usize = 8;

/// A request under way in one replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) shown: Generation,
    next: Statement,
    tries: usize,
}

#[derive(Clone, Copy, Debug)]
enum Statement {
    Advance(Advance),
    Find,
    End,
}

/// The response to the client, if it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The refresh token of this generation.
    Pair(Generation),
    /// 401.
    Refused,
    /// 503: try again.
    Contended,
}

impl Request {
    pub(crate) fn new(shown: Generation) -> Self {
        Self { shown, next: Statement::Advance(Advance::Outstanding(shown)), tries: 0 }
    }

    /// Sends the next statement. `None`: there is more to do.
    pub(crate) async fn step<D: Database>(
        &mut self,
        database: &mut D,
        ledger: &mut Ledger,
        policy: RefreshPolicy,
    ) -> Option<Answer> {
        match self.next {
            Statement::Advance(step) => {
                self.tries += 1;
                let advanced = database.advance(step).await;
                if let Some(session) = &advanced {
                    ledger.advanced(step, session.refresh.generation);
                }
                self.next = Statement::Find;
                advanced.map(|session| Answer::Pair(session.refresh.generation))
            }
            Statement::Find => {
                let (session, now) = database.find().await;
                let verdict = session.judge(self.shown, now, policy);
                ledger.judged(self.shown, verdict, &session);
                let generation = session.refresh.generation;
                let step = match verdict {
                    Verdict::Outstanding => Advance::Outstanding(self.shown),
                    Verdict::Recover => Advance::Recover { accepted: self.shown, generation },
                    Verdict::Ahead => Advance::FastForward { presented: self.shown, generation },
                    Verdict::Retry => return Some(Answer::Pair(generation)),
                    Verdict::LateDuplicate | Verdict::Ended | Verdict::Expired => {
                        return Some(Answer::Refused);
                    }
                    Verdict::Reused => {
                        self.next = Statement::End;
                        return None;
                    }
                };
                self.next = Statement::Advance(step);
                (self.tries >= TRIES).then_some(Answer::Contended)
            }
            Statement::End => {
                database.end().await;
                ledger.ended();
                Some(Answer::Refused)
            }
        }
    }
}
