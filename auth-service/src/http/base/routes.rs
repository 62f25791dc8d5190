//! Builds a router together with the table of its routes, so that tests can compare the table with `openapi.yaml`.

use std::sync::Arc;

use axum::extract::State;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Extension, Router};
use http::Method;
use tower::util::option_layer;
use tower_http::cors::CorsLayer;
use verifier::Clock;

use crate::domain::authority::AdminPermission;
use crate::domain::listener::Listener;
use crate::entropy::Entropy;
use crate::http::base::SharedApp;
use crate::http::base::access::{Access, Route};
use crate::http::base::caller::{Me, Operator};
use crate::http::base::deadline::{InTime, Within};
use crate::http::base::error;
use crate::http::base::error_body::ErrorBody;
use crate::http::base::observe::{Observer, observe};

/// A router in the making.
pub(in crate::http) struct Routes<S = SharedApp> {
    listener: Listener,
    error_body: ErrorBody,
    router: Router<S>,
    table: Vec<Route>,
}

impl<S: Within + Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet.
    pub(in crate::http) fn on(listener: Listener) -> Self {
        Self { listener, error_body: ErrorBody::Problem, router: Router::new(), table: Vec::new() }
    }

    /// Begins a group: the routes that follow have error responses of this format.
    pub(in crate::http) fn group(mut self, error_body: ErrorBody) -> Self {
        self.error_body = error_body;
        self
    }

    /// A route for anyone.
    pub(in crate::http) fn open<H, T>(self, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let route = on(filter(&method), InTime(handler));
        self.mount(method, path, Access::Open, route)
    }

    /// A route with layers of its own.
    pub(in crate::http) fn mount(
        mut self,
        method: Method,
        path: &'static str,
        access: Access,
        route: MethodRouter<S>,
    ) -> Self {
        self.router = self.router.route(path, route);
        let (listener, error_body) = (self.listener, self.error_body);
        self.table.push(Route { listener, method, path, access, error_body });
        self
    }

    /// Returns 404 for other paths, and 405 for other methods of the routes so far.
    pub(in crate::http) fn and_nothing_else(mut self) -> Self {
        self.router =
            self.router.fallback(error::not_found).method_not_allowed_fallback(error::method_not_allowed);
        self
    }

    /// Adds a CORS layer to the routes so far and to their error responses.
    pub(in crate::http) fn readable_by_scripts(mut self, cors: Option<CorsLayer>) -> Self {
        self.router = self.router.layer(option_layer(cors));
        self
    }

    /// The router, with the layer that every request and every response passes.
    pub(in crate::http) fn into_router(self, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Router<S> {
        let observer = Arc::new(Observer::new(self.listener, &self.table, clock, entropy));
        self.router.layer(from_fn_with_state(observer, observe))
    }

    pub(in crate::http) fn into_table(self) -> Vec<Route> {
        self.table
    }
}

impl Routes {
    /// A route for callers with a live session.
    pub(in crate::http) fn session<H, T>(self, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, SharedApp>,
        T: TakesMe + 'static,
    {
        let route = on(filter(&method), InTime(handler));
        self.mount(method, path, Access::Session, route)
    }

    /// A route that requires a permission.
    pub(in crate::http) fn permitted<H, T>(
        self,
        method: Method,
        path: &'static str,
        permission: AdminPermission,
        handler: H,
    ) -> Self
    where
        H: Handler<T, SharedApp>,
        T: TakesOperator + 'static,
    {
        let route = on(filter(&method), InTime(handler)).layer(Extension(Access::Permission(permission)));
        self.mount(method, path, Access::Permission(permission), route)
    }
}

fn filter(method: &Method) -> MethodFilter {
    MethodFilter::try_from(method.clone()).expect("axum knows the methods of the route table")
}

/// Parameters of a handler that begin with the app and the caller. A handler without the caller would serve anyone, so it
/// does not compile.
pub(in crate::http) trait TakesMe {}
impl<M> TakesMe for (M, State<SharedApp>, Me) {}
impl<M, A> TakesMe for (M, State<SharedApp>, Me, A) {}
impl<M, A, B> TakesMe for (M, State<SharedApp>, Me, A, B) {}

/// Like [`TakesMe`], for operators; the extractor checks the route's permission.
pub(in crate::http) trait TakesOperator {}
impl<M> TakesOperator for (M, State<SharedApp>, Operator) {}
impl<M, A> TakesOperator for (M, State<SharedApp>, Operator, A) {}
impl<M, A, B> TakesOperator for (M, State<SharedApp>, Operator, A, B) {}

/// The group of a route decides on the body of its error responses: seen on a router with a group of each kind.
#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::response::Response;
    use http::{Request, header};
    use http_body_util::BodyExt as _;
    use serde::Deserialize;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;
    use verifier::{ManualClock, Seconds, UnixTime};

    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::http::base::code::Code;
    use crate::http::base::error::Problem;
    use crate::http::base::form::FormBody;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        code: String,
    }

    /// Refuses with the code that the form names.
    async fn refuse(FormBody(wanted): FormBody<Wanted>) -> Problem {
        let code = Code::ALL.iter().find(|code| code.as_str() == wanted.code);
        Problem::new(*code.expect("a code")).retry_after(Seconds(30))
    }

    async fn send(
        method: Method,
        path: &str,
        content_type: &str,
        body: &'static str,
    ) -> (Response<()>, Value) {
        let router = Routes::<()>::on(Listener::Public)
            .group(ErrorBody::Problem)
            .open(Method::POST, "/v1/refuse", refuse)
            .group(ErrorBody::OAuth)
            .open(Method::POST, "/oauth2/refuse", refuse)
            .open(Method::POST, "/oauth2/detail", async || {
                Problem::new(Code::InvalidScope).detail("a \"quoted\" d\u{e9}tail")
            })
            .open(Method::POST, "/oauth2/panic", async || -> () { panic!("on purpose") })
            .and_nothing_else()
            .into_router(
                Arc::new(ManualClock::new(UnixTime(1_800_000_000))),
                Arc::new(SeededEntropy::new(1)),
            );
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let response = router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap())
    }

    const FORM: &str = "application/x-www-form-urlencoded";

    async fn oauth(method: Method, path: &str, content_type: &str, body: &'static str) -> (u16, Value) {
        let (response, body) = send(method, path, content_type, body).await;
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header(header::CONTENT_TYPE), Some("application/json"));
        assert_eq!(header(header::CACHE_CONTROL), Some("no-store"));
        assert!(response.headers().contains_key("x-request-id"));
        (response.status().as_u16(), body)
    }

    #[tokio::test]
    async fn a_problem_group_gets_problem_documents() {
        let (response, body) = send(Method::POST, "/v1/refuse", FORM, "code=invalid_scope").await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!((response.status().as_u16(), &body["code"]), (400, &json!("invalid_scope")));
        // A path outside all groups as well.
        let (response, body) = send(Method::POST, "/oauth2/other", FORM, "").await;
        assert_eq!((response.status().as_u16(), &body["code"]), (404, &json!("not_found")));
    }

    #[tokio::test]
    async fn an_oauth_group_gets_the_errors_of_rfc_6749() {
        for (body, status, error, description) in [
            ("code=invalid_refresh_token", 400, "invalid_grant", "Invalid refresh token"),
            ("code=invalid_scope", 400, "invalid_scope", "Scope not allowed"),
            ("code=invalid_target", 400, "invalid_target", "Audience not allowed"),
            ("code=internal_error", 500, "server_error", "Internal error"),
            ("code=unavailable", 503, "temporarily_unavailable", "Temporarily unavailable"),
            ("code=too_many_attempts", 429, "temporarily_unavailable", "Too many failed attempts"),
            ("", 400, "invalid_request", "a form body is required"),
            ("code=a&code=b", 400, "invalid_request", "a parameter is repeated"),
            ("code=a&more=b", 400, "invalid_request", "unknown parameter, expected `code`"),
        ] {
            let expected = json!({"error": error, "error_description": description});
            assert_eq!(oauth(Method::POST, "/oauth2/refuse", FORM, body).await, (status, expected), "{body}");
        }
    }

    #[tokio::test]
    async fn every_error_of_an_oauth_group_has_that_body() {
        let (status, body) = oauth(Method::POST, "/oauth2/refuse", "application/json", "{}").await;
        assert_eq!((status, &body["error"]), (415, &json!("invalid_request")));
        assert_eq!(body["error_description"], "send content-type: application/x-www-form-urlencoded");
        let (status, body) = oauth(Method::GET, "/oauth2/refuse", FORM, "").await;
        assert_eq!((status, &body["error"]), (405, &json!("invalid_request")));
        let (status, body) = oauth(Method::POST, "/oauth2/panic", FORM, "").await;
        assert_eq!((status, &body["error"]), (500, &json!("server_error")));
        let large: &'static str = Box::leak(format!("code={}", "x".repeat(16 * 1024)).into_boxed_str());
        let (status, body) = oauth(Method::POST, "/oauth2/refuse", FORM, large).await;
        assert_eq!((status, &body["error"]), (413, &json!("invalid_request")));
    }

    #[tokio::test]
    async fn a_description_keeps_to_the_characters_of_rfc_6749() {
        let (_, body) = oauth(Method::POST, "/oauth2/detail", FORM, "").await;
        assert_eq!(body["error_description"], "a 'quoted' d'tail");
    }
}
