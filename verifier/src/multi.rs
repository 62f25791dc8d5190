//! Several issuers in one process, each with its own audiences, keys and revocations.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use serde::de::{Deserializer, MapAccess, Visitor};

use crate::core::base64url::Scratch;
use crate::core::error::BuildError;
use crate::core::error::{FetchError, Reason, VerifyError};
use crate::core::json::{Skipped, Text};
use crate::core::token;
use crate::core::verified::Verified;
use crate::verifier::Verifier;

/// Checks the access tokens of several issuers.
///
/// The `iss` of a token selects one of the verifiers, which then makes all checks, `iss` included. The
/// verifiers share nothing: keys with the same `kid` at two issuers are two keys. A token of any other issuer
/// is refused with [`Reason::WrongIssuer`], before anything is fetched.
///
/// A [`Verifier`] converts into a `MultiVerifier` with [`From`]; it then checks all tokens as it would alone.
///
/// ```
/// use verifier::{MultiVerifier, Verifier};
///
/// # fn main() -> Result<(), verifier::BuildError> {
/// let staff = Verifier::builder("https://staff.example.com").audience("orders-api");
/// let shops = Verifier::builder("https://shops.example.com").audience("orders");
/// # let jwks = verifier::testing::TestIssuer::new("", "").jwks();
/// # let (staff, shops) = (staff.static_jwks(&jwks), shops.static_jwks(&jwks));
/// let verifier = MultiVerifier::new([staff.build()?, shops.build()?])?;
/// assert!(verifier.find("https://staff.example.com").is_some());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct MultiVerifier {
    /// Not empty, with distinct issuers.
    verifiers: Arc<[Verifier]>,
}

impl MultiVerifier {
    /// Combines `verifiers`, one for each issuer.
    ///
    /// # Errors
    /// [`BuildError::NoIssuer`] if there are none. [`BuildError::DuplicateIssuer`] if two have the same
    /// issuer.
    pub fn new(verifiers: impl IntoIterator<Item = Verifier>) -> Result<Self, BuildError> {
        let verifiers: Arc<[Verifier]> = verifiers.into_iter().collect();
        if verifiers.is_empty() {
            return Err(BuildError::NoIssuer);
        }
        for (index, one) in verifiers.iter().enumerate() {
            if verifiers[..index].iter().any(|other| other.issuer() == one.issuer()) {
                return Err(BuildError::DuplicateIssuer(one.issuer().to_owned()));
            }
        }
        Ok(Self { verifiers })
    }

    /// The verifier for tokens of `issuer`, compared as an exact string.
    pub fn find(&self, issuer: &str) -> Option<&Verifier> {
        // A few: comparing is faster than hashing.
        self.verifiers.iter().find(|verifier| verifier.issuer() == issuer)
    }

    /// As [`Verifier::verify`], with the verifier for the issuer of the token.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn verify<C: serde::de::DeserializeOwned>(
        &self,
        token: &str,
    ) -> Result<Verified<C>, VerifyError> {
        self.choose(token)?.verify(token).await
    }

    /// As [`Verifier::verify_now`], with the verifier for the issuer of the token.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub fn verify_now<C: serde::de::DeserializeOwned>(
        &self,
        token: &str,
    ) -> Result<Verified<C>, VerifyError> {
        self.choose(token)?.verify_now(token)
    }

    /// Waits until there are keys of every issuer. Fetches them concurrently.
    ///
    /// # Errors
    /// After `timeout`, why the last fetch from one of them failed.
    pub async fn ready(&self, timeout: Duration) -> Result<(), FetchError> {
        let mut waiting: Vec<Pin<Box<_>>> =
            self.verifiers.iter().map(|verifier| Box::pin(verifier.ready(timeout))).collect();
        std::future::poll_fn(move |context| {
            let mut outcome = Ok(());
            waiting.retain_mut(|one| match one.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(result) => {
                    outcome = std::mem::replace(&mut outcome, Ok(())).and(result);
                    false
                }
            });
            if waiting.is_empty() || outcome.is_err() { Poll::Ready(outcome) } else { Poll::Pending }
        })
        .await
    }

    /// The verifier that must check `token`.
    pub(crate) fn choose(&self, token: &str) -> Result<&Verifier, Reason> {
        if let [only] = &*self.verifiers {
            return Ok(only);
        }
        let chosen = self.find_for(token);
        #[cfg(feature = "metrics")]
        let chosen = chosen.inspect_err(crate::metrics::count_unchosen);
        chosen
    }

    fn find_for(&self, token: &str) -> Result<&Verifier, Reason> {
        let parts = token::split(token)?;
        let mut room = Scratch::<1024>::new();
        let claims = room.decode(parts.claims).ok_or(Reason::NotJws)?;
        // Unreadable claims name none of the issuers.
        claimed_issuer(claims).and_then(|issuer| self.find(&issuer)).ok_or(Reason::WrongIssuer)
    }
}

impl From<Verifier> for MultiVerifier {
    fn from(verifier: Verifier) -> Self {
        Self { verifiers: Arc::new([verifier]) }
    }
}

/// The first `iss` of unverified claims. It only selects a verifier, which then refuses claims with a
/// duplicate or wrong `iss`, and malformed JSON after this point.
fn claimed_issuer(claims: &[u8]) -> Option<Cow<'_, str>> {
    struct FirstIssuer<'f, 'de>(&'f mut Option<Cow<'de, str>>);
    impl<'de> Visitor<'de> for FirstIssuer<'_, 'de> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the claims of an access token")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(name) = map.next_key::<Text<'de>>()? {
                if name.0 == "iss" {
                    *self.0 = Some(map.next_value::<Text<'de>>()?.0);
                    return Ok(());
                }
                map.next_value::<Skipped>()?;
            }
            Ok(())
        }
    }
    let mut found = None;
    let json = std::str::from_utf8(claims).ok()?;
    // Stopping early is an error for serde; the value found before is valid.
    let _ = serde_json::Deserializer::from_str(json).deserialize_map(FirstIssuer(&mut found));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_is_the_first_iss_of_the_outermost_object() {
        let cases: [(&str, Option<&str>); 9] = [
            (r#"{"iss":"a","sub":"b"}"#, Some("a")),
            (r#"{"x":{"iss":"no"},"y":["iss",{"iss":"no"}],"iss":"a"}"#, Some("a")),
            (r#"{"\u0069ss":"\u0061"}"#, Some("a")),
            (r#"{"iss":"a","iss":"b"}"#, Some("a")),
            (r#"{"iss":["a"]}"#, None),
            (r#"{"iss":null}"#, None),
            (r#"{"ISS":"a"}"#, None),
            (r#"["iss","a"]"#, None),
            (r#"{"x":1,"iss""#, None),
        ];
        for (claims, issuer) in cases {
            assert_eq!(claimed_issuer(claims.as_bytes()).as_deref(), issuer, "{claims}");
        }
        assert_eq!(claimed_issuer(b"{\"iss\":\"\xff\"}"), None);
    }
}
