//! Tokens that are good, or wrong in exactly one thing.

use serde_json::{Map, Value, json};

use super::issuer::TestIssuer;
use crate::clock::SystemClock;
use crate::core::base64url;
use crate::core::time::{Clock, Seconds, UnixTime};

/// Wrong by more than any leeway.
const FAR: Seconds = Seconds(600);

/// A token before it is signed: good for five minutes for `alice`, without permissions, until it is changed.
///
/// Each of the methods named for a fault makes the token be refused for that fault and no other, whatever the leeway.
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
    /// Somebody who has no key of the issuer.
    Stranger(TestIssuer),
    Nobody,
}

impl TestIssuer {
    /// A token of `alice` to be changed, issued now by the clock of the operating system.
    pub fn token(&self) -> TestToken {
        self.token_at(SystemClock::new().now())
    }

    /// A token of `alice` to be changed, issued at `now`.
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

    /// Speaks for this user instead of `alice`.
    pub fn subject(self, subject: &str) -> Self {
        self.claim("sub", subject)
    }

    /// Grants this permission as well.
    pub fn permission(self, permission: &str) -> Self {
        let scope = match self.claims.get("scope").and_then(Value::as_str) {
            None | Some("") => permission.to_owned(),
            Some(scope) => format!("{scope} {permission}"),
        };
        self.claim("scope", scope)
    }

    /// The user has these roles.
    pub fn roles(self, roles: &[&str]) -> Self {
        self.claim("roles", roles)
    }

    /// Belongs to this session. One that is to be revoked is named by a UUID.
    pub fn session(self, sid: &str) -> Self {
        self.claim("sid", sid)
    }

    /// Lives this long from now instead of 300 s.
    pub fn lives_for(self, seconds: Seconds) -> Self {
        let exp = self.issued_at + seconds;
        self.claim("exp", exp.0)
    }

    /// Sets any claim to any value, good or not.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves out a claim.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets any member of the header to any value, good or not.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Ended 10 min ago.
    pub fn expired(self) -> Self {
        let (iat, exp) = (self.issued_at - FAR - FAR, self.issued_at - FAR);
        self.claim("iat", iat.0).claim("nbf", iat.0).claim("exp", exp.0)
    }

    /// Starts in 10 min.
    pub fn not_yet_valid(self) -> Self {
        let (nbf, exp) = (self.issued_at + FAR, self.issued_at + FAR + FAR);
        self.claim("nbf", nbf.0).claim("exp", exp.0)
    }

    /// Says it was issued in 10 min.
    pub fn issued_in_future(self) -> Self {
        let (iat, exp) = (self.issued_at + FAR, self.issued_at + FAR + FAR);
        self.claim("iat", iat.0).claim("exp", exp.0)
    }

    /// Lives for a year.
    pub fn lives_too_long(self) -> Self {
        self.lives_for(Seconds(365 * 24 * 3600))
    }

    /// Is for another service.
    pub fn wrong_audience(self) -> Self {
        self.claim("aud", "some-other-service")
    }

    /// Names another issuer, and is signed by this one.
    pub fn wrong_issuer(self) -> Self {
        self.claim("iss", "https://some-other-issuer.example")
    }

    /// Is of another kind, by its `typ`: an ID token of the same issuer, say.
    pub fn wrong_type(self) -> Self {
        self.header("typ", "JWT")
    }

    /// Names the issuer's key and is signed by another one.
    pub fn bad_signature(mut self) -> Self {
        self.signed_by = SignedBy::Stranger(self.issuer.with_fresh_key());
        self
    }

    /// Is signed by a key, named truthfully, that the issuer does not publish.
    pub fn unknown_key(mut self) -> Self {
        let stranger = self.issuer.with_fresh_key();
        let kid = stranger.jwk().kid().to_string();
        self.signed_by = SignedBy::Stranger(stranger);
        self.header("kid", kid)
    }

    /// Is not signed, and says so: `"alg": "none"`.
    pub fn alg_none(mut self) -> Self {
        self.signed_by = SignedBy::Nobody;
        self.header("alg", "none")
    }

    /// The token.
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
            // These say the time of the system.
            assert!(matches!(refusal(issuer.token().expired()), Reason::Expired { .. }));
            assert!(matches!(refusal(issuer.token().not_yet_valid()), Reason::NotYetValid { .. }));
            assert!(matches!(refusal(issuer.token().issued_in_future()), Reason::IssuedInFuture { .. }));
        }
    }

    #[test]
    fn good_token_says_what_it_was_told_to() {
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
