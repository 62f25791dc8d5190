//! The revocation feed: one snapshot, or a stream. From memory, so also without the database.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderName, header};

use crate::http::base::SharedApp;
use crate::http::base::error::Problem;
use crate::runtime::feed::stream::Subscription;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// All current revocations in one signed document.
pub(in crate::http) async fn snapshot(State(app): State<SharedApp>) -> Result<Response, Problem> {
    let snapshot = app.feed.snapshot().await?;
    let headers =
        [(header::CONTENT_TYPE, "application/revocations+jwt"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, snapshot.document.clone()).into_response())
}

/// Server-sent events until the client disconnects or the replica drains. The headers tell proxies not to buffer or compress
/// them.
pub(in crate::http) async fn stream(State(app): State<SharedApp>) -> Result<Response, Problem> {
    let subscription = app.feed.subscribe().await?;
    let events = stream::unfold(subscription, async |mut subscription: Subscription| {
        let event = subscription.next().await?;
        Some((Ok::<_, std::convert::Infallible>(event), subscription))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (X_ACCEL_BUFFERING, "no"),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}
