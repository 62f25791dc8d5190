//! Settings: listed all, changed if they can change while the service runs.

use std::fmt;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{NewValue, known};
use crate::flows::settings::{self, AllSettings, SettingsPatch};
use crate::http::base::SharedApp;
use crate::http::base::body::JsonBody;
use crate::http::base::caller::Operator;
use crate::http::base::code::Code;
use crate::http::base::error::Problem;
use crate::http::base::headers::only_value;
use crate::http::base::wire::private;
use crate::view::SettingView;

pub(in crate::http) async fn list(State(app): State<SharedApp>, _: Operator) -> Result<Response, Problem> {
    Ok(respond(settings::list(&app.settings, &app.store).await?))
}

/// Changes all named settings or none. With `If-Match`, only if the settings have not changed since.
pub(in crate::http) async fn change(
    State(app): State<SharedApp>,
    operator: Operator,
    IfMatch(expected): IfMatch,
    JsonBody(PatchBody(patch)): JsonBody<PatchBody>,
) -> Result<Response, Problem> {
    let changed = settings::change(&app.settings, &app.store, &operator.actor(), patch, expected).await?;
    Ok(respond(changed))
}

/// Names and their new values; `null` returns to the default.
#[derive(Debug)]
pub(in crate::http) struct PatchBody(SettingsPatch);

impl<'de> Deserialize<'de> for PatchBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PatchVisitor)
    }
}

/// Refuses a duplicate name, which a map would hide.
struct PatchVisitor;

impl<'de> Visitor<'de> for PatchVisitor {
    type Value = PatchBody;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<PatchBody, A::Error> {
        let mut patch = SettingsPatch::new();
        while let Some((name, value)) = members.next_entry::<String, Option<Value>>()? {
            let name = known(&name).map_err(|nearest| {
                A::Error::custom(format_args!("unknown field, expected a setting such as `{nearest}`"))
            })?;
            if patch.iter().any(|(other, _)| other == name) {
                return Err(A::Error::duplicate_field(name));
            }
            patch.push((name.to_owned(), value.map(NewValue::Json)));
        }
        Ok(PatchBody(patch))
    }
}

/// The version in `If-Match`, as an earlier `ETag` named it.
#[derive(Debug)]
pub(in crate::http) struct IfMatch(Option<i64>);

impl axum::extract::FromRequestParts<SharedApp> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &SharedApp) -> Result<Self, Problem> {
        let refusal = || {
            Problem::new(Code::MalformedRequest)
                .detail("`If-Match` must be an earlier `ETag` of these settings")
        };
        match only_value(&parts.headers, &header::IF_MATCH).map_err(|()| refusal())? {
            None | Some("*") => Ok(Self(None)),
            Some(tag) => {
                let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
                version
                    .and_then(|version| version.parse().ok())
                    .map(|version| Self(Some(version)))
                    .ok_or_else(refusal)
            }
        }
    }
}

#[derive(Serialize)]
struct SettingsResponse {
    version: i64,
    problems: Vec<String>,
    settings: Vec<SettingView>,
}

fn respond(view: AllSettings) -> Response {
    let etag = HeaderValue::try_from(format!("\"{}\"", view.version));
    let settings = view.settings.into_iter().map(SettingView::from).collect();
    let body = SettingsResponse { version: view.version, problems: view.problems, settings };
    let mut headers = HeaderMap::new();
    headers.extend(etag.ok().map(|etag| (header::ETAG, etag)));
    (headers, private(body)).into_response()
}
