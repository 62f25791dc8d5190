//! The caller of an endpoint: a session at the public listener, an operator at the admin listener.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};
use secrecy::SecretString;

use crate::domain::authority::Actor;
use crate::domain::listener::Listener;
use crate::flows::{Caller, authenticate};
use crate::http::base::SharedApp;
use crate::http::base::access::Access;
use crate::http::base::code::Code;
use crate::http::base::error::Problem;
use crate::http::base::headers::only_value;
use crate::runtime::app::App;

/// The access token in `Authorization`, not verified yet; `None` if the request has none.
pub(in crate::http) struct Bearer(pub(in crate::http) Option<SecretString>);

impl FromRequestParts<SharedApp> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &SharedApp) -> Result<Self, Problem> {
        bearer(&parts.headers).map(Self)
    }
}

/// Refuses a repeated `Authorization`: a proxy in front may have checked the other value.
fn bearer(headers: &HeaderMap) -> Result<Option<SecretString>, Problem> {
    let value = only_value(headers, &header::AUTHORIZATION).map_err(|()| Problem::new(Code::InvalidToken))?;
    let parts = value.and_then(|value| value.split_once(' ').or(Some((value, ""))));
    Ok(match parts {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Some(token.trim_start_matches(' ').into())
        }
        _ => None,
    })
}

/// A caller of the public listener with a valid access token and a live session.
#[derive(Debug)]
pub(in crate::http) struct Me(pub(in crate::http) Caller);

impl FromRequestParts<SharedApp> for Me {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Self, Problem> {
        caller(parts, app, Listener::Public).await.map(Self)
    }
}

/// A caller of the admin listener whose token has the permission of the route.
#[derive(Debug)]
pub(in crate::http) struct Operator(pub(in crate::http) Caller);

impl Operator {
    /// The operator as flows and the audit log need it.
    pub(in crate::http) fn actor(&self) -> Actor {
        Actor { name: self.0.user_id.to_string(), authority: self.0.authority(), reason: None }
    }
}

impl FromRequestParts<SharedApp> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Self, Problem> {
        // A handler that takes an operator on a route without a permission is a bug: refuse.
        let Some(Access::Permission(needed)) = parts.extensions.get::<Access>().copied() else {
            return Err(Problem::new(Code::InternalError));
        };
        let caller = caller(parts, app, Listener::Admin).await?;
        if caller.permissions.contains(needed.as_str()) {
            Ok(Self(caller))
        } else {
            Err(Problem::insufficient_scope(needed.as_str()))
        }
    }
}

async fn caller(parts: &Parts, app: &App, listener: Listener) -> Result<Caller, Problem> {
    use secrecy::ExposeSecret as _;
    let token = bearer(&parts.headers)?.ok_or_else(|| Problem::new(Code::MissingToken))?;
    Ok(authenticate(app, token.expose_secret(), listener).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_token_is_accepted_and_two_are_refused() {
        use secrecy::ExposeSecret as _;
        let token = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            bearer(&headers).map(|token| token.map(|token| token.expose_secret().to_owned()))
        };
        assert_eq!(token(&[("authorization", "Bearer abc")]).unwrap().as_deref(), Some("abc"));
        assert_eq!(token(&[("authorization", "bEARER  abc")]).unwrap().as_deref(), Some("abc"));
        assert_eq!(token(&[("authorization", "Bearer")]).unwrap().as_deref(), Some(""));
        assert_eq!(token(&[("authorization", "Basic abc")]).unwrap(), None);
        assert_eq!(token(&[]).unwrap(), None);
        assert!(token(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]).is_err());
    }
}
