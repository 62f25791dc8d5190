//! Tokens that are valid, or have exactly one fault.

use serde_json::{Map, Value, json};

use super::issuer::TestIssuer;
use crate::clock::SystemClock;
use crate::core::base64url;
use crate::core::time::{Clock, Seconds, UnixTime};

/// More than any leeway.
const FAR: Seconds = Seconds(600);

/// A token before it is signed. By default it is valid for five minutes for `alice`, without permissions.
///
/// A token with a fault is refused for that fault and no other, with any leeway.
///
/// ```
/// use verifier::testing::TestIssuer;
/// use verifier::{NoExtra, Reason, VerifyError};
///
/// let issuer = TestIssuer::new("https://auth.example.com", "orders-api");
/// let verifier = issuer.verifier().build().unwrap();
/// let refusal = |token: String| verifier.verify_now::<NoExtra>(&token).unwrap_err();
/// assert_eq!(refusal(issuer.token().bad_signature().sign()), VerifyError::Invalid(Reason::BadSignature));
/// assert_eq!(refusal(issuer.token().without("exp").sign()), VerifyError::Invalid(Reason::MissingClaim("exp")));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TestToken {
    issuer: TestIssuer,
    issued_at: UnixTime,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signed_by: SignedBy,
}

#[derive(Clone, Debug)]
enum SignedBy {
    Issuer,
    /// A key that is not of the issuer.
    Stranger(TestIssuer),
    Nobody,
}

impl TestIssuer {
    /// A token of `alice`, issued now by the clock of the operating system.
    pub fn token(&self) -> TestToken {
        self.token_at(SystemClock::new().now())
    }

    /// A token of `alice`, issued at `now`.
    pub fn token_at(&self, now: UnixTime) -> TestToken {
        TestToken::new(self.clone(), now)
    }
}

impl TestToken {
    fn new(issuer: TestIssuer, issued_at: UnixTime) -> Self {
        let jwk = issuer.jwk();
        let header = json!({ "typ": "at+jwt", "alg": jwk.algorithm(), "kid": jwk.kid() });
        let claims = serde_json::to_value(issuer.claims(issued_at)).expect("test claims are JSON");
        let members = |value| if let Value::Object(members) = value { members } else { Map::new() };
        let (header, claims) = (members(header), members(claims));
        Self { issuer, issued_at, header, claims, signed_by: SignedBy::Issuer }.claim("scope", "")
    }

    /// Sets the subject instead of `alice`.
    pub fn subject(self, subject: &str) -> Self {
        self.claim("sub", subject)
    }

    /// Adds a permission.
    pub fn permission(self, permission: &str) -> Self {
        let scope = match self.claims.get("scope").and_then(Value::as_str) {
            None | Some("") => permission.to_owned(),
            Some(scope) => format!("{scope} {permission}"),
        };
        self.claim("scope", scope)
    }

    /// Sets the roles.
    pub fn roles(self, roles: &[&str]) -> Self {
        self.claim("roles", roles)
    }

    /// Sets the session. Only a UUID can be revoked.
    pub fn session(self, sid: &str) -> Self {
        self.claim("sid", sid)
    }

    /// Sets the lifetime instead of 300 s.
    pub fn lives_for(self, seconds: Seconds) -> Self {
        let exp = self.issued_at + seconds;
        self.claim("exp", exp.0)
    }

    /// Sets any claim to any value, valid or not.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a claim.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets any member of the header to any value, valid or not.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Fault: expired 10 min ago.
    pub fn expired(self) -> Self {
        let (iat, exp) = (self.issued_at - FAR - FAR, self.issued_at - FAR);
        self.claim("iat", iat.0).claim("nbf", iat.0).claim("exp", exp.0)
    }

    /// Fault: valid only in 10 min.
    pub fn not_yet_valid(self) -> Self {
        let (nbf, exp) = (self.issued_at + FAR, self.issued_at + FAR + FAR);
        self.claim("nbf", nbf.0).claim("exp", exp.0)
    }

    /// Fault: issued 10 min in the future.
    pub fn issued_in_future(self) -> Self {
        let (iat, exp) = (self.issued_at + FAR, self.issued_at + FAR + FAR);
        self.claim("iat", iat.0).claim("exp", exp.0)
    }

    /// Fault: a lifetime of a year.
    pub fn lives_too_long(self) -> Self {
        self.lives_for(Seconds(365 * 24 * 3600))
    }

    /// Fault: for another service.
    pub fn wrong_audience(self) -> Self {
        self.claim("aud", "some-other-service")
    }

    /// Fault: `iss` is another issuer, although this one signs.
    pub fn wrong_issuer(self) -> Self {
        self.claim("iss", "https://some-other-issuer.example")
    }

    /// Fault: another `typ`, like an ID token of the same issuer.
    pub fn wrong_type(self) -> Self {
        self.header("typ", "JWT")
    }

    /// Fault: signed by another key than the one in `kid`.
    pub fn bad_signature(mut self) -> Self {
        self.signed_by = SignedBy::Stranger(self.issuer.with_fresh_key());
        self
    }

    /// Fault: signed by the key in `kid`, which the issuer does not publish.
    pub fn unknown_key(mut self) -> Self {
        let stranger = self.issuer.with_fresh_key();
        let kid = stranger.jwk().kid().to_string();
        self.signed_by = SignedBy::Stranger(stranger);
        self.header("kid", kid)
    }

    /// Fault: not signed, with `"alg": "none"`.
    pub fn alg_none(mut self) -> Self {
        self.signed_by = SignedBy::Nobody;
        self.header("alg", "none")
    }

    /// Signs the token.
    pub fn sign(self) -> String {
        let (header, claims) = (Value::Object(self.header), Value::Object(self.claims));
        let (header, claims) = (header.to_string(), claims.to_string());
        match self.signed_by {
            SignedBy::Issuer => self.issuer.sign_bytes(header, claims),
            SignedBy::Stranger(stranger) => stranger.sign_bytes(header, claims),
            SignedBy::Nobody => format!("{}.{}.", base64url::encode(header), base64url::encode(claims)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NoExtra, Reason, Verified, VerifyError};

    type Spoil = fn(TestToken) -> TestToken;

    #[test]
    fn every_fault_is_the_only_one() {
        let life = Reason::LivesTooLong { life: Seconds(365 * 24 * 3600), limit: Seconds(3600) };
        let cases: [(Spoil, Reason); 10] = [
            (TestToken::lives_too_long, life),
            (TestToken::wrong_audience, Reason::WrongAudience),
            (TestToken::wrong_issuer, Reason::WrongIssuer),
            (TestToken::wrong_type, Reason::WrongType),
            (TestToken::bad_signature, Reason::BadSignature),
            (TestToken::unknown_key, Reason::UnknownKey),
            (TestToken::alg_none, Reason::UnsupportedAlgorithm),
            (|token| token.without("sub"), Reason::MissingClaim("sub")),
            (|token| token.claim("exp", "soon"), Reason::BadClaim("exp")),
            (|token| token.header("crit", json!(["exp"])), Reason::CriticalHeader),
        ];
        for issuer in [TestIssuer::new("a", "b"), TestIssuer::es256("a", "b")] {
            let verifier = issuer.verifier().leeway(Seconds(120)).build().unwrap();
            let refusal = |token: TestToken| match verifier.verify_now::<NoExtra>(&token.sign()) {
                Err(VerifyError::Invalid(reason)) => reason,
                other => panic!("should be refused: {other:?}"),
            };
            for (spoil, reason) in &cases {
                assert_eq!(refusal(spoil(issuer.token())), *reason);
            }
            // These contain the system time.
            assert!(matches!(refusal(issuer.token().expired()), Reason::Expired { .. }));
            assert!(matches!(refusal(issuer.token().not_yet_valid()), Reason::NotYetValid { .. }));
            assert!(matches!(refusal(issuer.token().issued_in_future()), Reason::IssuedInFuture { .. }));
        }
    }

    #[test]
    fn valid_token_has_the_chosen_claims() {
        let issuer = TestIssuer::new("a", "b");
        let verifier = issuer.verifier().build().unwrap();
        let token = issuer.token().subject("bob").permission("one").permission("two").roles(&["x", "y"]);
        let token = token.session("s").lives_for(Seconds(60)).claim("tenant", 7).sign();
        let user: Verified = verifier.verify_now(&token).unwrap();
        assert_eq!((user.subject(), user.session_id()), ("bob", Some("s")));
        assert_eq!(user.scopes().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(user.roles(), ["x", "y"]);
        assert_eq!(user.expires_at() - user.issued_at(), Seconds(60));
        let nobody: Verified = verifier.verify_now(&issuer.token().sign()).unwrap();
        assert_eq!(nobody.scopes().count(), 0);
    }
}
