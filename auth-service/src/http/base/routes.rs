//! A router together with the list of its routes, so that the list can be read, counted and compared with `openapi.yaml`.

use axum::extract::State;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Extension, Router};
use http::Method;
use tower::util::option_layer;
use tower_http::cors::CorsLayer;

use crate::http::base::Shared;
use crate::http::base::error;
use crate::http::base::extract::{Me, Operator};

/// Which listener serves a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listener {
    /// For clients and verifiers.
    Public,
    /// For operators and scrapers.
    Admin,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Open,
    /// Whoever has a good access token and a live session.
    Session,
    /// Whoever has, besides, this permission in a token for the admin API.
    Permission(&'static str),
}

/// One line of the route table.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which listener serves it.
    pub listener: Listener,
    /// Its method; a route for GET answers HEAD too.
    pub method: Method,
    /// Its path, variable parts as `{name}`.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
}

/// A router in the making.
pub(in crate::http) struct Routes {
    listener: Listener,
    router: Router<Shared>,
    table: Vec<Route>,
}

impl Routes {
    /// No routes yet.
    pub(in crate::http) fn on(listener: Listener) -> Self {
        Self { listener, router: Router::new(), table: Vec::new() }
    }

    /// A route for anyone.
    pub(in crate::http) fn open<H, T>(self, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        let route = on(filter(&method), handler);
        self.mount(method, path, Access::Open, route)
    }

    /// A route for whoever has a live session.
    pub(in crate::http) fn session<H, T>(self, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: TakesMe + 'static,
    {
        let route = on(filter(&method), handler);
        self.mount(method, path, Access::Session, route)
    }

    /// A route that needs a permission.
    pub(in crate::http) fn permitted<H, T>(
        self,
        method: Method,
        path: &'static str,
        permission: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Shared>,
        T: TakesOperator + 'static,
    {
        let route = on(filter(&method), handler).layer(Extension(Access::Permission(permission)));
        self.mount(method, path, Access::Permission(permission), route)
    }

    /// A route with layers of its own.
    pub(in crate::http) fn mount(
        mut self,
        method: Method,
        path: &'static str,
        access: Access,
        route: MethodRouter<Shared>,
    ) -> Self {
        self.router = self.router.route(path, route);
        self.table.push(Route { listener: self.listener, method, path, access });
        self
    }

    /// Refuses other paths, and other methods on the routes so far.
    pub(in crate::http) fn and_nothing_else(mut self) -> Self {
        self.router =
            self.router.fallback(error::not_found).method_not_allowed_fallback(error::method_not_allowed);
        self
    }

    /// Lets scripts of other origins read the answers of the routes so far, and the refusals.
    pub(in crate::http) fn readable_by_scripts(mut self, cors: Option<CorsLayer>) -> Self {
        self.router = self.router.layer(option_layer(cors));
        self
    }

    pub(in crate::http) fn into_router(self) -> Router<Shared> {
        self.router
    }

    pub(in crate::http) fn table(&self) -> &[Route] {
        &self.table
    }

    pub(in crate::http) fn into_table(self) -> Vec<Route> {
        self.table
    }
}

fn filter(method: &Method) -> MethodFilter {
    MethodFilter::try_from(method.clone()).expect("a method of the table below is one that axum knows")
}

/// The parameters of a handler that begin with the app and the caller. A handler that forgot the caller would serve anyone,
/// so it does not compile.
pub(in crate::http) trait TakesMe {}
impl<M> TakesMe for (M, State<Shared>, Me) {}
impl<M, A> TakesMe for (M, State<Shared>, Me, A) {}
impl<M, A, B> TakesMe for (M, State<Shared>, Me, A, B) {}

/// As [`TakesMe`], for operators; taking one checks the route's permission.
pub(in crate::http) trait TakesOperator {}
impl<M> TakesOperator for (M, State<Shared>, Operator) {}
impl<M, A> TakesOperator for (M, State<Shared>, Operator, A) {}
impl<M, A, B> TakesOperator for (M, State<Shared>, Operator, A, B) {}
