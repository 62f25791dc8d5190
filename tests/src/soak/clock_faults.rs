//! R12: the clock of one replica is an hour off, stops, runs backwards; and the whole service runs in 2038
//! and 2100.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use verifier::{Clock, NoExtra, Seconds, SystemClock, UnixTime, Verifier};

use super::Run;
use super::traffic::{Clients, Rates, Traffic, plan, verifiers};
use crate::client::Client;
use crate::clock;
use crate::cluster::{Cluster, Plan};
use crate::jwt::Peek;
use crate::ledger::{Call, Ledger, Outcome};
use crate::load::Load;
use crate::postgres::Postgres;
use crate::wait;
use crate::workdir::Workdir;

const RATES: Rates = Rates { logins: 3, refreshes: 20, verifies: 200, logouts: 1 };
const SKEWED: usize = 1;
/// `access_token_ttl` of the plan.
const TOKEN_LIFE: i64 = 20;
/// A stopped clock exceeds the bound of 1 s after some seconds; the next poll detects a jump.
const LONGEST_UNNOTICED: Duration = Duration::from_secs(6);
const LONGEST_RETURN: Duration = Duration::from_secs(3);
/// One second before 2038-01-19T03:14:08Z, where signed 32 bits end, and 2100-02-28T23:59:58Z, of a year
/// without a leap day.
const ENDS_OF_TIME: [i64; 2] = [2_147_483_647, 4_107_542_398];

/// The fault of a clock.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Ahead,
    Behind,
    Still,
    Backwards,
}

pub(super) async fn play(run: &mut Run) {
    let lasting = Duration::from_secs(run.size.pick(1, 15));
    let database = Postgres::shared().create_database();
    let cluster = Arc::new(Cluster::start(plan(database.url()).clock_to_set(SKEWED)).await);
    let clients = Clients::start(run, &cluster, RATES).await;
    let verifiers = verifiers(3, &cluster).await;
    let mut traffic = Traffic::start(run, &clients, &verifiers, RATES);
    run.watch(&cluster);
    traffic.watch_keys(&cluster, &run.ledger, &[0, SKEWED, 2]);
    for wrong in [Wrong::Ahead, Wrong::Behind, Wrong::Still, Wrong::Backwards] {
        go_wrong(run, &cluster, wrong, lasting).await;
    }
    traffic.stop().await;
    for fault in odd_tokens(&run.ledger) {
        run.ledger.failed(fault);
    }
    run.close(&cluster).await;
    run.few_failures(2.0);
    let [one, other] = ENDS_OF_TIME;
    tokio::join!(live_at(one, &run.ledger), live_at(other, &run.ledger));
}

async fn go_wrong(run: &mut Run, cluster: &Arc<Cluster>, wrong: Wrong, lasting: Duration) {
    let replica = &cluster.replicas()[SKEWED];
    run.ledger.deed(format!("the clock of replica {SKEWED} is {wrong:?}"));
    let began = clock::instant();
    let mut hands = Load::default();
    match wrong {
        Wrong::Ahead => replica.set_clock("+3600s"),
        Wrong::Behind => replica.set_clock("-3600s"),
        Wrong::Still => replica.set_clock(&date(clock::unix_seconds())),
        Wrong::Backwards => {
            let cluster = Arc::clone(cluster);
            hands.repeat(Duration::from_secs(1), move || {
                let cluster = Arc::clone(&cluster);
                let back = 2 * began.elapsed().as_secs();
                async move { cluster.replicas()[SKEWED].set_clock(&format!("-{back}s")) }
            });
        }
    }
    let readiness = async |wanted: StatusCode| {
        let client = Client::new(&replica.public_url());
        wait::until(&format!("readiness is {wanted}"), Duration::from_secs(20), async || {
            (client.get("/readyz").await.ok()?.status == wanted).then_some(())
        })
        .await;
    };
    readiness(StatusCode::SERVICE_UNAVAILABLE).await;
    run.within(&format!("{wrong:?}: out of readiness"), began.elapsed(), LONGEST_UNNOTICED);
    issues_nothing(cluster, &run.ledger).await;
    wait::let_pass(lasting).await;
    hands.stop().await;
    replica.set_clock("+0s");
    let mended = clock::instant();
    readiness(StatusCode::OK).await;
    run.within(&format!("{wrong:?}: back"), mended.elapsed(), LONGEST_RETURN);
}

/// A replica with a wrong clock returns 503.
async fn issues_nothing(cluster: &Cluster, ledger: &Ledger) {
    let client = Client::new(&cluster.replicas()[SKEWED].public_url());
    let answer = client.login(crate::cluster::ADMIN, cluster.admin_password()).await;
    if !matches!(&answer, Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE) {
        ledger.failed(format!("the replica with the wrong clock issued: {answer:?}"));
    }
}

/// Tokens with a longer life than the policy allows, or issued in the future, by the true time.
fn odd_tokens(ledger: &Ledger) -> Vec<String> {
    let mut odd = Vec::new();
    for entry in ledger.entries() {
        let (Call::Login(Some(grant)) | Call::Refresh { grant: Some(grant), .. }) = entry.call else {
            continue;
        };
        let now = i64::try_from(entry.answered.as_secs()).expect("fits for a very long time");
        let Peek { iat, exp, .. } = grant.access;
        if exp - iat > TOKEN_LIFE || iat > now + 1 {
            odd.push(format!("issued at {now}: {:?}", grant.access));
        }
    }
    odd
}

/// Runs a service and a verifier at the time `then`: everything works across the boundary.
async fn live_at(then: i64, ledger: &Ledger) {
    let offset = then - clock::unix_seconds();
    let dir = Workdir::new();
    let url = format!("sqlite://{}", dir.path().join("auth.db").display());
    let cluster = Cluster::start(Plan::new(1, url).clock_offset(0, offset)).await;
    let user = cluster.create_users("late", 1, &["ping"]).await.remove(0);
    let clock = Arc::new(Shifted { offset, clock: SystemClock::new() });
    let verifier = Verifier::builder(cluster.issuer()).audience("api").clock(clock);
    let verifier = verifier.build().expect("a good configuration");
    let mut tokens =
        cluster.client().login(&user, cluster.user_password()).await.expect("an answer").tokens();
    for _ in 0..3 {
        let Peek { iat, exp, .. } = Peek::into(&tokens.access);
        if !(then..then + 60).contains(&iat) || exp - iat != 300 {
            ledger.failed(format!("a token of {then} says {iat} to {exp}"));
        }
        if let Err(error) = verifier.verify::<NoExtra>(&tokens.access).await {
            ledger.failed(format!("a token of {then}: {error}"));
        }
        wait::let_pass(Duration::from_millis(500)).await;
        let refreshed = cluster.client().refresh(&tokens.refresh).await.expect("an answer");
        tokens = refreshed.tokens();
    }
    let rotated = cluster.admin_at(0).await.rotate().await.expect("an answer");
    rotated.assert_status(StatusCode::CREATED);
    for line in cluster.logs().lines().filter(|line| line.contains("panicked")) {
        ledger.note(Outcome::Ok, Call::Died(line.to_owned()));
    }
}

/// The machine's clock, shifted by this many seconds.
#[derive(Debug)]
struct Shifted {
    offset: i64,
    clock: SystemClock,
}

impl Clock for Shifted {
    fn now(&self) -> UnixTime {
        self.clock.now() + Seconds(self.offset)
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

/// `2026-01-31 23:59:59`, in UTC.
fn date(unix: i64) -> String {
    let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    // Years begin in March here, so that the leap day is the last one.
    let days = days + 719_468;
    let century = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + century * 400 + year;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_to_the_second() {
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_825_601), "2000-02-29 12:00:01");
        assert_eq!(date(2_147_483_647), "2038-01-19 03:14:07");
        assert_eq!(date(4_107_542_398), "2100-02-28 23:59:58");
    }
}
