//! An application without token support, behind a front end that checks tokens.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::client::{Answer, Client, Tokens};
use e2e::cluster::{ADMIN, ADMIN_AUDIENCE};
use e2e::front_end::{AUDIENCE, Program, Site};
use e2e::postgres::Postgres;
use e2e::wait;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::routes::{assert_nothing_forged, forging};

/// The default audience of logins and checks, so that a guard that does not set its own is detected.
const OTHER_AUDIENCE: &str = "first";
/// A `Connection` header that would remove the headers of the guard (RFC 9110 §7.6.1).
const TAKING: &str =
    "close, x-auth-subject, X-Auth-Roles, x-auth-permissions, x-auth-session, x-forwarded-proto";

/// A site with one node, and users with and without the permission `ping`.
pub(crate) struct Guarded {
    pub(crate) site: Site,
    allowed: String,
    other: String,
    /// The roles that the application receives.
    told_roles: Value,
}

impl Guarded {
    pub(crate) async fn start(program: Program) -> Self {
        let database = Postgres::shared().create_database();
        let audiences = format!("{OTHER_AUDIENCE}, {AUDIENCE}");
        let site = Site::start(program, &database.url(), 1, |plan| plan.set("audiences", &audiences)).await;
        let allowed = create_clerk(&site).await;
        // It contains the name of the permission, but is not the permission.
        let other = site.cluster().create_users("other", 1, &["ping:not", "pingpong"]).await.remove(0);
        // This front end cannot parse lists.
        let told_roles = if program == Program::Haproxy { Value::Null } else { json!(["auditor clerk"]) };
        Self { site, allowed, other, told_roles }
    }

    /// Logs in as the user with the permission `ping`.
    pub(crate) async fn tokens(&self) -> Tokens {
        self.log_in(AUDIENCE, &self.allowed).await
    }

    async fn log_in(&self, audience: &str, user: &str) -> Tokens {
        let password = self.site.cluster().user_password();
        self.site.client().login_for(audience, user, password).await.expect("an answer").tokens()
    }

    /// Checks accepted and refused requests, and the headers for the application. `missing` is the front
    /// end's error for a missing token (it should be none); `for_others` is its error for a valid token of
    /// another audience (it should be `invalid_token`).
    pub(crate) async fn check(&self, missing: &str, for_others: (StatusCode, &str)) {
        let client = self.site.guarded();
        let good = self.tokens().await;
        let passed = forging(&client.with_bearer(&good.access)).get("/anything").await.expect("an answer");
        passed.assert_status(StatusCode::OK);
        assert_told_who_it_is(&passed.json(), &good, &self.told_roles);
        let taking = forging(&client.with_bearer(&good.access)).with_header(header::CONNECTION, TAKING);
        let passed = taking.get("/anything").await.expect("an answer");
        passed.assert_status(StatusCode::OK);
        assert_told_who_it_is(&passed.json(), &good, &self.told_roles);

        let nobody = client.get("/anything").await.expect("an answer");
        assert_challenged(&nobody, StatusCode::UNAUTHORIZED, missing);
        for (what, token) in bad_tokens(&good.access) {
            println!("{what}");
            let refused = forging(&client.with_bearer(&token)).get("/anything").await.expect("an answer");
            assert_challenged(&refused, StatusCode::UNAUTHORIZED, "invalid_token");
        }
        for token in [self.admin_token().await, self.log_in(OTHER_AUDIENCE, &self.allowed).await.access] {
            let for_other = client.with_bearer(&token).get("/anything").await.expect("an answer");
            assert_challenged(&for_other, for_others.0, for_others.1);
        }
        assert!(!passes(&client, &self.feed_document().await).await, "the feed's document is no token");
        let twice = client.with_bearer(&good.access);
        let twice = twice.with_header(header::AUTHORIZATION, &format!("Bearer {}", good.access));
        let twice = twice.get("/anything").await.expect("an answer");
        assert!(twice.status.is_client_error(), "two credentials are none: {twice}");

        let other = self.log_in(AUDIENCE, &self.other).await;
        let refused = client.with_bearer(&other.access).get("/anything").await.expect("an answer");
        assert_challenged(&refused, StatusCode::FORBIDDEN, "insufficient_scope");
    }

    /// For front ends that check each token with `auth-service`.
    pub(crate) async fn check_that_logout_counts(&self) {
        let tokens = self.tokens().await;
        let client = self.site.guarded();
        assert!(passes(&client, &tokens.access).await);
        let logout = self.site.client().logout(&tokens.refresh).await.expect("an answer");
        logout.assert_status(StatusCode::NO_CONTENT);
        wait::until("the ended session is refused", Duration::from_secs(1), async || {
            (!passes(&client, &tokens.access).await).then_some(())
        })
        .await;
    }

    /// Signed by the issuer for the admin API.
    async fn admin_token(&self) -> String {
        let client = self.site.client();
        let login = client.login_for(ADMIN_AUDIENCE, ADMIN, self.site.cluster().admin_password()).await;
        login.expect("an answer").tokens().access
    }

    /// Signed with the same key, but not a token.
    async fn feed_document(&self) -> String {
        let answer = self.site.client().get("/v1/revocations").await.expect("an answer");
        String::from_utf8(answer.assert_status(StatusCode::OK).body.to_vec()).expect("a JWT")
    }
}

/// A user with two roles, and the permissions `ping` and `pong`.
async fn create_clerk(site: &Site) -> String {
    let admin = site.cluster().admin_at(0).await;
    for (role, permissions) in [("clerk", ["pong"]), ("auditor", ["ping"])] {
        let put = admin.put_role(role, &permissions).await.expect("an answer");
        assert!(put.status.is_success(), "{put}");
    }
    let password = site.cluster().user_password();
    let created = admin.post_user("allowed", password, &["clerk", "auditor"]).await.expect("an answer");
    created.assert_status(StatusCode::CREATED);
    "allowed".to_owned()
}

/// Forged tokens, each wrong in one way.
fn bad_tokens(good: &str) -> [(&'static str, String); 8] {
    let [head, payload, signature] = parts(good);
    let with_header = |change: Value| format!("{}.{payload}.{signature}", changed(head, &change));
    let with_claims = |change: Value| format!("{head}.{}.{signature}", changed(payload, &change));
    [
        ("no token at all", "nonsense".to_owned()),
        ("no signature", format!("{head}.{payload}.")),
        ("another signature", format!("{head}.{payload}.{}", URL_SAFE_NO_PAD.encode([7; 64]))),
        ("another subject", with_claims(json!({ "sub": "root" }))),
        ("alg none", with_header(json!({ "alg": "none" }))),
        ("alg HS256", with_header(json!({ "alg": "HS256" }))),
        ("an unknown key", with_header(json!({ "kid": "unknown" }))),
        ("a key elsewhere", with_header(json!({ "kid": "../../../etc/passwd" }))),
    ]
}

/// Panics unless the application received exactly the identity of the bearer of `tokens`.
#[track_caller]
fn assert_told_who_it_is(seen: &Value, tokens: &Tokens, roles: &Value) {
    assert_nothing_forged(seen);
    let claims = claims(&tokens.access);
    let headers = &seen["headers"];
    assert_eq!(headers["x-auth-subject"], json!([claims["sub"]]), "{seen}");
    assert_eq!(headers["x-auth-session"], json!([tokens.session]), "{seen}");
    assert_eq!(headers["x-auth-roles"], *roles, "{seen}");
    let permissions = headers["x-auth-permissions"][0].as_str().unwrap_or_default();
    assert_eq!(permissions.split(' ').collect::<Vec<_>>(), ["ping", "pong"], "{seen}");
}

/// The status, and a challenge that names `error` (RFC 6750 §3.1).
#[track_caller]
fn assert_challenged(answer: &Answer, status: StatusCode, error: &str) {
    answer.assert_status(status);
    let challenge = answer.header(header::WWW_AUTHENTICATE);
    assert!(challenge.starts_with("Bearer") && challenge.contains(error), "{challenge:?} of {answer}");
    assert!(error.is_empty() != challenge.contains("error="), "{challenge:?} of {answer}");
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().expect("a JWS has three parts")
}

fn claims(token: &str) -> Value {
    decoded(parts(token)[1])
}

fn decoded(part: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn changed(part: &str, change: &Value) -> String {
    let mut value = decoded(part);
    for (name, new) in change.as_object().expect("an object") {
        value[name] = new.clone();
    }
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Whether the application behind the guard responds to `token`.
pub(crate) async fn passes(client: &Client, token: &str) -> bool {
    let answer = client.with_bearer(token).get("/anything").await.expect("an answer");
    answer.status == StatusCode::OK
}
