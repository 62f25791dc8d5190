//! The figures that a verifier hands to whatever recorder the process has.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use testkit::{AUDIENCE, ISSUER, NOW};
use verifier::testing::TestIssuer;
use verifier::{
    ConnectFuture, FeedError, FeedSource, FetchError, FetchFuture, Fetched, JwksRequest, JwksSource,
    ManualClock, MultiVerifier, NoExtra, Seconds, Verifier,
};

/// Where there is no feed.
#[derive(Debug)]
struct NoFeed;

impl FeedSource for NoFeed {
    fn connect(&self) -> ConnectFuture<'_> {
        Box::pin(async { Err(FeedError::NoFeed) })
    }
}

/// Responds once.
#[derive(Debug)]
struct Once(std::sync::Mutex<Option<Vec<u8>>>);

impl JwksSource for Once {
    fn fetch<'a>(&'a self, _: &'a JwksRequest) -> FetchFuture<'a> {
        let answer = self.0.lock().unwrap().take();
        Box::pin(async { answer.map(Fetched::new).ok_or(FetchError::Status(503)) })
    }
}

#[test]
fn figures_count_tokens_keys_and_fetches() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let figures = recorder.handle();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let issuer = TestIssuer::new(ISSUER, AUDIENCE);
            let document = serde_json::to_vec(&issuer.jwks()).unwrap();
            let clock = Arc::new(ManualClock::new(NOW));
            let builder = Verifier::builder(ISSUER).audience(AUDIENCE).clock(clock.clone());
            let verifier = builder.source(Once(Some(document).into())).build().unwrap();
            let (good, old) =
                (issuer.sign(&issuer.claims(NOW)), issuer.sign(&issuer.claims(NOW - Seconds(3600))));
            for token in [&good, &old, &good, "nonsense", &good] {
                let _ = verifier.verify::<NoExtra>(token).await;
            }
            clock.advance(Seconds(600));
            let _ = verifier.verify::<NoExtra>(&old).await;
            tokio::time::sleep(Duration::from_secs(6)).await;
        });
    });
    let text = figures.render();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    for line in [
        r#"verifier_tokens_total{issuer="https://auth.example.com",audience="orders-api",outcome="accepted"} 3"#,
        r#"verifier_tokens_total{issuer="https://auth.example.com",audience="orders-api",outcome="expired"} 2"#,
        r#"verifier_tokens_total{issuer="https://auth.example.com",audience="orders-api",outcome="not_jws"} 1"#,
        r#"verifier_keys_usable{issuer="https://auth.example.com",audience="orders-api"} 1"#,
        r#"verifier_keys{issuer="https://auth.example.com",audience="orders-api"} 1"#,
        r#"verifier_keys_age_seconds{issuer="https://auth.example.com",audience="orders-api"} 600"#,
        r#"verifier_jwks_fetches_total{issuer="https://auth.example.com",audience="orders-api"} 2"#,
        r#"verifier_jwks_fetch_failures_total{issuer="https://auth.example.com",audience="orders-api"} 1"#,
        r#"verifier_revoked_sessions{issuer="https://auth.example.com",audience="orders-api"} 0"#,
        r#"verifier_revoked_keys{issuer="https://auth.example.com",audience="orders-api"} 0"#,
    ] {
        assert!(lines.contains(&line), "{line} is missing:\n{text}");
    }
    assert!(!text.contains("verifier_feed_live"), "there is no feed:\n{text}");
    assert_eq!(lines.len(), 10, "{text}");
}

#[test]
fn feed_that_is_not_there_and_token_of_nobody_are_told_as_well() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let figures = recorder.handle();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let of = |issuer: &str| {
                let issuer = TestIssuer::new(issuer, AUDIENCE);
                let clock = Arc::new(ManualClock::new(NOW));
                issuer
                    .verifier()
                    .static_jwks(&issuer.jwks())
                    .clock(clock)
                    .feed_source(NoFeed)
                    .build()
                    .unwrap()
            };
            let verifier = MultiVerifier::new([of(ISSUER), of("https://other.example.com")]).unwrap();
            let stranger = TestIssuer::new("https://evil.example.com", AUDIENCE);
            let _ = verifier.verify::<NoExtra>(&stranger.sign(&stranger.claims(NOW))).await;
            let _ = verifier.find(ISSUER).unwrap().verify::<NoExtra>("nonsense").await;
            tokio::time::sleep(Duration::from_secs(6)).await;
        });
    });
    let text = figures.render();
    for line in [
        r#"verifier_tokens_total{issuer="",audience="",outcome="wrong_issuer"} 1"#,
        r#"verifier_feed_live{issuer="https://auth.example.com",audience="orders-api"} 0"#,
        r#"verifier_feed_losses_total{issuer="https://auth.example.com",audience="orders-api"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing:\n{text}");
    }
}
