//! Several issuers in one process, each with audiences, keys and revocations of its own.

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
/// The `iss` that a token claims chooses one of the verifiers, which then checks everything, `iss` included.
/// Nothing is shared between them: keys of the same name at two issuers stay two keys. A token that claims none
/// of the issuers is refused with [`Reason::WrongIssuer`], before anything is fetched.
///
/// A [`Verifier`] turns into one by [`From`]; its tokens are then checked as if it stood alone, without the
/// look at `iss` beforehand.
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
    /// Never empty, and no issuer twice.
    verifiers: Arc<[Verifier]>,
}

impl MultiVerifier {
    /// One verifier for the issuers of all `verifiers`.
    ///
    /// # Errors
    /// [`BuildError::NoIssuer`] if there are none. [`BuildError::DuplicateIssuer`] if two are for one issuer:
    /// which of them should decide cannot be told.
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

    /// The verifier for tokens of `issuer`, compared exactly.
    pub fn find(&self, issuer: &str) -> Option<&Verifier> {
        // A handful: comparing is faster than hashing.
        self.verifiers.iter().find(|verifier| verifier.issuer() == issuer)
    }

    /// As [`Verifier::verify`], by the verifier for the token's issuer.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn verify<C: serde::de::DeserializeOwned>(
        &self,
        token: &str,
    ) -> Result<Verified<C>, VerifyError> {
        self.choose(token)?.verify(token).await
    }

    /// As [`Verifier::verify_now`], by the verifier for the token's issuer.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub fn verify_now<C: serde::de::DeserializeOwned>(
        &self,
        token: &str,
    ) -> Result<Verified<C>, VerifyError> {
        self.choose(token)?.verify_now(token)
    }

    /// Waits until there are keys of every issuer, asking all of them at the same time.
    ///
    /// # Errors
    /// After `timeout`, why the last attempt of one of them failed.
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

    /// The verifier that is to check `token`.
    pub(crate) fn choose(&self, token: &str) -> Result<&Verifier, Reason> {
        if let [only] = &*self.verifiers {
            return Ok(only);
        }
        let chosen = self.look_up(token);
        #[cfg(feature = "metrics")]
        let chosen = chosen.inspect_err(crate::metrics::count_unchosen);
        chosen
    }

    fn look_up(&self, token: &str) -> Result<&Verifier, Reason> {
        let parts = token::split(token)?;
        let mut room = Scratch::<1024>::new();
        let claims = room.decode(parts.claims).ok_or(Reason::NotJws)?;
        // What cannot be read names none of the issuers.
        claimed_issuer(claims).and_then(|issuer| self.find(&issuer)).ok_or(Reason::WrongIssuer)
    }
}

impl From<Verifier> for MultiVerifier {
    fn from(verifier: Verifier) -> Self {
        Self { verifiers: Arc::new([verifier]) }
    }
}

/// The first `iss` of claims that nobody has checked. Good for nothing but choosing who checks them: that one
/// refuses claims with a second `iss`, with another one, or that are not JSON after this point.
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
    // Stopping early looks like an error to the reader; what was found before stands.
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
