//! Strict form bodies (`application/x-www-form-urlencoded`), for the OAuth endpoints to come.

use std::borrow::Cow;

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, MapDeserializer};

use crate::http::base::body::{explain, malformed, read};
use crate::http::base::error::Problem;

/// A form body of exactly this shape.
///
/// No parameter may be repeated, known or not, and one without a value counts as left out (RFC 6749 §3.2). Unknown
/// parameters are refused if `T` denies unknown fields. Errors contain nothing that the client sent.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the OAuth endpoints, which come next, use it"))]
pub(in crate::http) struct FormBody<T>(pub(in crate::http) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for FormBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let missing = || malformed("a form body is required");
        let bytes = read(request, "application/x-www-form-urlencoded").await?.ok_or_else(missing)?;
        parse(&bytes).map(Self)
    }
}

#[cfg_attr(not(test), expect(dead_code, reason = "the OAuth endpoints, which come next, use it"))]
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the body is not UTF-8"))?;
    let mut parameters: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (decode(name), decode(value)) else {
            return Err(malformed("a parameter is not percent-encoded UTF-8"));
        };
        if parameters.iter().any(|(other, _)| *other == name) {
            return Err(malformed("a parameter is repeated"));
        }
        parameters.push((name, value));
    }
    parameters.retain(|(_, value)| !value.is_empty());
    let pairs = parameters.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    T::deserialize(MapDeserializer::<_, ValueError>::new(pairs))
        .map_err(|error| malformed(explain(&error.to_string(), None).replace("member", "parameter")))
}

/// Decodes `+` and `%XX`. `None` for an incomplete escape, and for bytes that are not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['+', '%']) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (hex_digit(rest.next()?)?, hex_digit(rest.next()?)?);
                high << 4 | low
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use secrecy::{ExposeSecret as _, SecretString};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct TokenRequest {
        grant_type: String,
        refresh_token: SecretString,
        #[serde(default, deserialize_with = "crate::domain::not_null")]
        scope: Option<String>,
    }

    fn refusal(bytes: &[u8]) -> String {
        format!("{:?}", parse::<TokenRequest>(bytes).expect_err("must be refused"))
    }

    #[test]
    fn parameters_are_decoded_and_those_without_a_value_are_left_out() {
        let form = parse::<TokenRequest>(b"grant%5Ftype=a+b%2B%c3%A9&refresh_token=%26%3D&scope=&&scope2=");
        let form = form.unwrap();
        assert_eq!((form.grant_type.as_str(), form.scope), ("a b+\u{e9}", None));
        assert_eq!(form.refresh_token.expose_secret(), "&=");
        let form = parse::<TokenRequest>(b"grant_type=a&refresh_token=b=c&scope=x%20y").unwrap();
        assert_eq!((form.refresh_token.expose_secret(), form.scope.as_deref()), ("b=c", Some("x y")));
    }

    #[test]
    fn an_error_names_known_parameters_only_and_never_a_value() {
        for (body, says) in [
            ("grant_type=canary", "missing parameter `refresh_token`"),
            ("grant_type=&refresh_token=canary", "missing parameter `grant_type`"),
            ("grant_type=canary&refresh_token=a&grant_type=canary", "a parameter is repeated"),
            ("grant_type=canary&grant%5ftype=", "a parameter is repeated"),
            ("canary=1&canary=2", "a parameter is repeated"),
            ("canary=canary", "unknown parameter, expected one of `grant_type`, `refresh_token`, `scope`"),
            ("canary", "missing parameter `grant_type`"),
            ("grant_type=canary%", "not percent-encoded UTF-8"),
            ("grant_type=canary%4", "not percent-encoded UTF-8"),
            ("grant_type=canary%zz", "not percent-encoded UTF-8"),
            ("grant_type=canary%ff", "not percent-encoded UTF-8"),
        ] {
            let refusal = refusal(body.as_bytes());
            assert!(refusal.contains(says), "{body} gave {refusal}");
            assert!(!refusal.contains("canary"), "{refusal}");
        }
        assert!(refusal(b"grant_type=\xff").contains("the body is not UTF-8"));
    }
}
