//! What a refused token says about itself, so that an explanation can name what was found beside what was expected.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use verifier::{Reason, Seconds, UnixTime};

use crate::cli::output::{age, moment};

/// Maximum length of a value of a token in an explanation.
const LONGEST_VALUE: usize = 100;

/// Header and claims of a token whose signature may be wrong. Empty if they cannot be read.
pub(super) struct Unverified {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Unverified {
    pub(super) fn read(token: &str) -> Self {
        let mut parts = token.split('.').map(object);
        let mut next = || parts.next().flatten().unwrap_or_default();
        Self { header: next(), claims: next() }
    }

    /// Names what was found and what was expected. `None` if the reason alone says all.
    pub(super) fn compare(
        &self,
        reason: &Reason,
        issuer: &str,
        audiences: &[String],
        now: UnixTime,
    ) -> Option<String> {
        let (header, claim) = (|name| shown(self.header.get(name)), |name| shown(self.claims.get(name)));
        let ago = |at: UnixTime| format!("{} ({} ago)", moment(at), age(now - at));
        let ahead = |at: UnixTime| format!("{} (in {})", moment(at), age(at - now));
        Some(match reason {
            Reason::WrongType => format!("typ is {}, expected `at+jwt`: not an access token", header("typ")),
            Reason::UnsupportedAlgorithm => {
                format!("alg is {}, expected EdDSA, ES256 or RS256", header("alg"))
            }
            Reason::WrongAlgorithm => format!("alg is {}, which is not that of the key", header("alg")),
            Reason::UnknownKey => format!(
                "the key {} is not in the key set: it was withdrawn or has expired, or another issuer signed the token (its issuer is {})",
                header("kid"),
                claim("iss")
            ),
            Reason::BadSignature => {
                "the signature is invalid: the token was altered or cut off, or another issuer signed it"
                    .to_owned()
            }
            Reason::WrongIssuer => format!("issuer is {}, expected `{issuer}`", claim("iss")),
            Reason::WrongAudience => {
                format!("audience is {}, expected `{}`", claim("aud"), audiences.join("` or `"))
            }
            Reason::Expired { exp, .. } => format!("expired at {}: the client must refresh", ago(*exp)),
            Reason::NotYetValid { nbf, .. } => {
                format!("not valid before {}: compare the clocks", ahead(*nbf))
            }
            Reason::IssuedInFuture { iat, .. } => format!("issued at {}: compare the clocks", ahead(*iat)),
            Reason::LivesTooLong { life, limit } => {
                format!("lives for {}, the limit is {}", age(Seconds(life.0)), age(Seconds(limit.0)))
            }
            _ => return None,
        })
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// A value of a token, safe for a terminal.
fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None => return "missing".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join("` and `")
        }
        Some(other) => other.to_string(),
    };
    let plain: String = text.chars().take(LONGEST_VALUE).flat_map(char::escape_debug).collect();
    let more = if text.chars().count() > LONGEST_VALUE { "…" } else { "" };
    format!("`{plain}{more}`")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_a_token_cannot_write_to_the_terminal() {
        assert_eq!(shown(Some(&json!("\u{1b}[2Jx"))), "`\\u{1b}[2Jx`");
        assert_eq!(shown(Some(&json!("x".repeat(101)))), format!("`{}…`", "x".repeat(100)));
        assert_eq!(shown(Some(&json!(["a", "b"]))), "`a` and `b`");
        assert_eq!(shown(None), "missing");
    }
}
