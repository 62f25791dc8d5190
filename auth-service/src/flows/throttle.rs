//! Who tries a password, and which limits apply to them.
//!
//! | who | behind these limits |
//! |---|---|
//! | a known device | its own, and that of its network |
//! | a known network | its failures with this name, and that of the network |
//! | anyone else | the same, and one guess a second of all strangers together |
//! | a user who is logged in | their session's |

use std::net::IpAddr;
use std::time::Duration;

use ring::digest;
use tokio::time::{Instant, sleep};
use verifier::{Seconds, UnixTime};

use crate::domain::audit::AuditEvent;
use crate::domain::device::{Owner, UncheckedDevice};
use crate::domain::hex;
use crate::domain::limit::Limit;
use crate::domain::network::Network;
use crate::domain::session::SessionId;
use crate::domain::user::UserId;
use crate::keys::keyring::RingError;
use crate::runtime::app::App;
use crate::runtime::hashing::{Claim, Lane};
use crate::runtime::waiting_room::Turn;
use crate::store::{Applied, Deadline, LoginAttempt, Refused, SqlStore, StoreError};

/// Failures with one name from one network.
const GUESSES: Limit = Limit::Failures(5);
/// Failures from one network: many users can share an address.
const NETWORK: Limit = Limit::Shared { free: 20, at_once: 100 };
/// Failures from a /48 of IPv6: one site, with many networks.
const SITE: Limit = Limit::Shared { free: 100, at_once: 200 };
/// Failures from an address that many clients share, behind a balancer that is not configured.
const SHARED_ADDRESS: Limit = Limit::Shared { free: 60, at_once: 300 };
/// Passwords tried from one network: those that are right cost a hash, too.
const ATTEMPTS: Limit = Limit::Rate { burst: 500, units: 50, cost: 1, is_of_successes: false };
/// Logins of one user: 60, then 10 a minute.
const LOGINS: Limit = Limit::Rate { burst: 60, units: 1, cost: 6, is_of_successes: true };
/// Failures of a known device, after which it is unknown.
const DEVICE: Limit = Limit::Void(5);
/// Guesses with one name from all unknown networks together.
const STRANGERS: Limit = Limit::OneASecond;
/// Failures of a signed-in user with their current password.
const SESSION: Limit = Limit::Failures(5);

/// Subjects of counters of devices begin with this.
pub const DEVICE_SUBJECT: &str = "device ";

/// How long a stranger waits for their turn before the request is refused.
const WAIT_FOR_TURN: Duration = Duration::from_secs(2);
/// How often a request that waits for others looks whether they have ended.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// The source of a request.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The address that counts: the peer's, or the one that a trusted proxy forwarded. `None` without a connection.
    pub address: Option<IpAddr>,
    /// Whether `address` is the client's own: it is not if it is that of a proxy, which stands for many clients.
    pub is_own: bool,
    /// What a peer that is not trusted forwarded as the client's address: short, and only characters of addresses.
    pub claimed: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
}

impl Origin {
    /// Adds the addresses to an entry of the audit log: the one that counts, and apart from it the claimed one.
    pub(super) fn in_event(&self, event: AuditEvent) -> AuditEvent {
        event.from_address(self.address.map(|address| address.to_string())).claiming(self.claimed.clone())
    }
}

/// A password for a name, from somewhere: names of counters, which contain neither in clear.
pub(super) struct Guess {
    name: String,
    network: Option<Source>,
    device: Option<UncheckedDevice>,
}

/// The network of a client, by the names of its counters.
struct Source {
    subject: String,
    /// The /48 of an IPv6 address.
    site: Option<String>,
    is_own: bool,
}

/// How well a guess is known before its password is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It brings the value of a device from which the user has logged in.
    Device,
    /// It comes from a network from which the user has logged in.
    Network,
    Stranger,
}

impl Guess {
    /// `name` is normalised, or as typed if it is no user name.
    pub(super) fn new(name: &str, origin: &Origin, device: Option<&str>) -> Self {
        let network = origin.address.map(|address| {
            let network = Network::of(address);
            Source {
                subject: hashed("network", network.to_string().as_bytes()),
                site: network.wider().map(|site| hashed("network", site.to_string().as_bytes())),
                is_own: origin.is_own,
            }
        });
        Self {
            name: hashed("name", name.as_bytes()),
            network,
            device: device.and_then(UncheckedDevice::parse),
        }
    }

    /// A short hash of the name, for the audit log. It is hashed, because users sometimes type their password into the name
    /// field.
    pub(super) fn name_in_audit(&self) -> &str {
        &self.name[..16]
    }

    /// The network by which the user can be known: only the client's own.
    pub(super) fn own_network(&self) -> Option<String> {
        self.network.as_ref().filter(|network| network.is_own).map(|network| network.subject.clone())
    }

    /// The place of this guess in the queue for a hashing thread.
    pub(super) fn claim(&self, lane: Lane) -> Claim {
        Claim::client(lane, self.network.as_ref().map(|network| network.subject.as_str()), &self.name)
    }

    /// The standing of this guess, and whether its device value is good.
    pub(super) async fn standing(&self, app: &App, attempt: &LoginAttempt) -> Result<Standing, RingError> {
        if let (Some(device), Some(subject)) = (&self.device, &attempt.subject) {
            let owner = Owner { user: subject.id, credential_version: subject.credential_version };
            let key = app.keyring.find_mac_key(&app.store, device.mac_key_id()).await?;
            if key.is_some_and(|key| device.belongs_to(&owner, &key)) {
                return Ok(Standing::Device);
            }
        }
        Ok(if attempt.is_known_network { Standing::Network } else { Standing::Stranger })
    }

    /// The limits for this standing.
    fn limits(&self, standing: Standing) -> Vec<Applied> {
        let applied = |subject: String, limit| Applied { subject, limit };
        let mut limits = vec![applied(format!("logins {}", self.name), LOGINS)];
        if let Some(network) = &self.network {
            let (failures, subject) =
                (if network.is_own { NETWORK } else { SHARED_ADDRESS }, &network.subject);
            limits.push(applied(format!("network {subject}"), failures));
            if network.is_own {
                limits.push(applied(format!("attempts {subject}"), ATTEMPTS));
            }
            limits.extend(network.site.as_ref().map(|site| applied(format!("network {site}"), SITE)));
        }
        if let (Standing::Device, Some(device)) = (standing, &self.device) {
            let id = hashed("device", device.id().as_bytes());
            limits.push(applied(format!("{DEVICE_SUBJECT}{id}"), DEVICE));
        } else {
            limits.push(applied(format!("{}{}", guesses_at(&self.name), self.network_subject()), GUESSES));
        }
        if standing == Standing::Stranger {
            limits.push(applied(strangers_at(&self.name), STRANGERS));
        }
        limits
    }

    fn network_subject(&self) -> &str {
        self.network.as_ref().map_or("unknown", |network| &network.subject)
    }

    /// Lets other requests from this network go on that wait for their turn: the user has logged in from here.
    pub(super) fn become_known(&self, app: &App) {
        if let Some(network) = self.own_network() {
            app.waiting_room.admit(&self.name, &network);
        }
    }

    /// Reserves a try. A stranger waits for their turn, for at most two seconds.
    pub(super) async fn reserve(
        &self,
        app: &App,
        standing: Standing,
        user: Option<UserId>,
    ) -> Result<Admission, StoreError> {
        let admission = match standing {
            Standing::Stranger => self.reserve_as_stranger(app, user).await?,
            known => {
                Reservation::take(&app.store, self.limits(known), Instant::now() + WAIT_FOR_TURN).await?
            }
        };
        match admission {
            // A void device is no device.
            Admission::Refused(refused) if refused.by.limit == DEVICE => {
                self.reserve_as_stranger(app, user).await
            }
            Admission::Refused(refused) => {
                count(&refused);
                Ok(Admission::Refused(refused))
            }
            reserved @ Admission::Reserved(_) => Ok(reserved),
        }
    }

    /// Reserves a try from a network that has just become known.
    async fn reserve_as_known(&self, app: &App) -> Result<Admission, StoreError> {
        Reservation::take(&app.store, self.limits(Standing::Network), Instant::now() + WAIT_FOR_TURN).await
    }

    async fn reserve_as_stranger(&self, app: &App, user: Option<UserId>) -> Result<Admission, StoreError> {
        let limits = self.limits(Standing::Stranger);
        let deadline = Instant::now() + WAIT_FOR_TURN;
        if app.waiting_room.is_empty(&self.name) {
            match Reservation::take(&app.store, limits.clone(), deadline).await? {
                Admission::Refused(refused) if refused.by.limit == STRANGERS => {}
                admission => return Ok(admission),
            }
        } else {
            // Who must wait for another reason takes no place from others.
            let own = limits.iter().filter(|applied| applied.limit != STRANGERS).cloned().collect::<Vec<_>>();
            if let Err(refused) = app.store.may_reserve(&own).await?
                && !refused.is_busy
            {
                return Ok(Admission::Refused(refused));
            }
        }
        let refused = Refused {
            by: Applied { subject: strangers_at(&self.name), limit: STRANGERS },
            wait: Seconds(1),
            is_busy: false,
        };
        let Some(place) = app.waiting_room.enter(&self.name, self.network_subject()) else {
            return Ok(Admission::Refused(refused));
        };
        loop {
            match place.turn(deadline).await {
                Turn::Drawn => {}
                Turn::Known => return self.reserve_as_known(app).await,
                // Or at another replica.
                turn => match (user, self.own_network()) {
                    (Some(user), Some(network)) if app.store.knows_network(user, &network).await? => {
                        return self.reserve_as_known(app).await;
                    }
                    _ if turn == Turn::Late => return Ok(Admission::Refused(refused)),
                    _ => continue,
                },
            }
            match Reservation::take(&app.store, limits.clone(), deadline).await? {
                // Another replica had this second.
                Admission::Refused(refused) if refused.by.limit == STRANGERS => {}
                admission => return Ok(admission),
            }
        }
    }
}

/// The outcome of a request for a try.
pub(super) enum Admission {
    Reserved(Reservation),
    Refused(Refused),
}

/// A try that may be made. Given back when it is dropped, because the client has hung up or the password could not be checked.
pub(super) struct Reservation {
    store: SqlStore,
    limits: Vec<Applied>,
    at: UnixTime,
    is_settled: bool,
}

impl Reservation {
    /// Reserves a try for a user who is logged in, and shows their current password again.
    pub(super) async fn in_session(store: &SqlStore, id: SessionId) -> Result<Admission, StoreError> {
        let limits = vec![Applied { subject: format!("session {id}"), limit: SESSION }];
        let admission = Self::take(store, limits, Instant::now() + WAIT_FOR_TURN).await?;
        if let Admission::Refused(refused) = &admission {
            count(refused);
        }
        Ok(admission)
    }

    /// Reserves a try. Waits until `deadline` while other tries are under way, whose outcome decides.
    async fn take(
        store: &SqlStore,
        limits: Vec<Applied>,
        deadline: Instant,
    ) -> Result<Admission, StoreError> {
        loop {
            match store.reserve(&limits).await? {
                Ok(at) => {
                    let store = store.clone();
                    return Ok(Admission::Reserved(Self { store, limits, at, is_settled: false }));
                }
                Err(refused) if !refused.is_busy || Instant::now() + BUSY_INTERVAL > deadline => {
                    return Ok(Admission::Refused(refused));
                }
                Err(_) => sleep(BUSY_INTERVAL).await,
            }
        }
    }

    /// Whether the device value was good.
    pub(super) fn is_by_device(&self) -> bool {
        self.limits.iter().any(|applied| applied.limit == DEVICE)
    }

    /// The password was right.
    pub(super) async fn succeed(mut self) -> Result<(), StoreError> {
        self.is_settled = true;
        self.store.succeed(&self.limits, self.at).await
    }

    /// The password was wrong.
    pub(super) async fn fail(mut self, event: AuditEvent) -> Result<(), StoreError> {
        self.is_settled = true;
        self.store.fail(&self.limits, self.at, event).await
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let store = self.store.within(Deadline::of_background_work());
        let (limits, at) = (std::mem::take(&mut self.limits), self.at);
        // If this fails, too, the reservation expires.
        tokio::spawn(async move { store.give_back(&limits, at).await });
    }
}

/// The subjects under which failures with a name are counted: the beginning of those by network, and the others.
pub(super) fn subjects_of(name: &str) -> (String, Vec<String>) {
    let name = hashed("name", name.as_bytes());
    (guesses_at(&name), vec![strangers_at(&name), format!("logins {name}")])
}

fn guesses_at(name: &str) -> String {
    format!("guesses {name} ")
}

fn strangers_at(name: &str) -> String {
    format!("strangers {name}")
}

fn count(refused: &Refused) {
    let kind = match refused.by.subject.split(' ').next() {
        Some("logins") => "logins",
        Some("network") => "network",
        Some("attempts") => "attempts",
        Some("guesses") => "guesses",
        Some("strangers") => "strangers",
        Some("session") => "session",
        _ => "device",
    };
    metrics::counter!("auth_login_limits_total", "limit" => kind).increment(1);
}

fn hashed(kind: &str, value: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, &[kind.as_bytes(), b"\0", value].concat());
    hex(&hash.as_ref()[..16])
}
