//! Haproxy.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::arrivals::{Schedule, Tally};
use e2e::cluster::service;
use e2e::front_end::{Program, Site, deployed};
use e2e::jwt::Peek;
use e2e::{process, wait};
use http::StatusCode;
use serde_json::json;

use super::guarded::{Guarded, passes};
use super::{load, routes};
#[tokio::test(flavor = "multi_thread")]
async fn haproxy_loses_no_request_when_nodes_die_or_drain() {
    let figures = load::measure(Program::Haproxy).await;
    assert_eq!(figures.killed.failed(), 0);
    assert_eq!(figures.frozen.failed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_routes_by_path_strips_claims_and_passes_streams() {
    routes::check(Program::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_guards_an_application_and_updates_keys_without_losing_a_request() {
    let guarded = Guarded::start(Program::Haproxy).await;
    let site = &guarded.site;
    let _export = Export::start(site);
    let old = guarded.tokens().await.access;
    accepted_soon(site, &old).await;
    guarded.check("", (StatusCode::UNAUTHORIZED, "invalid_token")).await;

    // Requests continue while HAProxy loads new keys.
    let (tally, client, stop) = (Tally::new("GET JWKS"), site.client(), Arc::new(AtomicBool::new(false)));
    let (counted, stopped) = (Arc::clone(&tally), Arc::clone(&stop));
    let requests = tokio::spawn(async move {
        let call = || {
            let client = client.clone();
            async move { client.jwks().await.map(drop).map_err(|lost| lost.why) }
        };
        Schedule::per_second(100).run(&counted, || !stopped.load(Ordering::Relaxed), call).await;
    });
    let admin = site.cluster().admin_at(0).await;
    let path = format!("/admin/v1/keys/{}/compromise", Peek::into(&old).kid);
    admin.post(&path, &json!({})).await.expect("an answer").assert_status(StatusCode::OK);
    let new = guarded.tokens().await.access;
    accepted_soon(site, &new).await;
    assert!(!passes(&site.guarded(), &old).await, "the withdrawn key is gone");
    stop.store(true, Ordering::Relaxed);
    requests.await.expect("it does not panic");
    let counts = tally.counts();
    println!("while keys were loaded: {counts}");
    assert_eq!(counts.failed.count(), 0, "{counts}");
}

async fn accepted_soon(site: &Site, token: &str) {
    let client = site.guarded();
    wait::until("HAProxy knows the key", Duration::from_secs(10), async || {
        passes(&client, token).await.then_some(())
    })
    .await;
}

/// `auth-service key export --watch` beside the front end, as the comment in `reload-keys` says.
struct Export(Child);

impl Export {
    fn start(site: &Site) -> Self {
        let here = site.front().path();
        let (script, keys) = (deployed("haproxy/reload-keys"), here.join("keys"));
        let reload = format!("{} {} keys.cfg haproxy.pid", script.display(), keys.display());
        let jwks = format!("{}/.well-known/jwks.json", site.cluster().issuer());
        let child = Command::new(service())
            .args([
                "key", "export", "--format", "pem", "--dir", "keys", "--jwks", &jwks, "--watch", "--exec",
                &reload,
            ])
            .current_dir(here)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        Self(child)
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        process::end(&mut self.0);
    }
}
