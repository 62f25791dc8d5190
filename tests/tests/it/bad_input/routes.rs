//! All routes of this release for callers.

use std::fmt;

use http::Method;
use serde_json::{Value, json};

use super::CANARY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    Public,
    Admin,
}

impl Listener {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Public => Self::Admin,
            Self::Admin => Self::Public,
        }
    }
}

#[expect(clippy::struct_excessive_bools, reason = "four facts that have nothing to do with each other")]
pub(super) struct Route {
    pub(super) listener: Listener,
    pub(super) method: Method,
    pub(super) path: String,
    /// A path with an id or name: the parts before and after it.
    around: Option<(&'static str, &'static str)>,
    pub(super) needs_bearer: bool,
    pub(super) is_list: bool,
    /// It treats all methods alike.
    pub(super) takes_any_method: bool,
    /// Invalid queries.
    bad_queries: &'static [&'static str],
    /// A valid body.
    pub(super) good: Option<Value>,
    /// The body is optional.
    pub(super) body_is_optional: bool,
}

impl fmt::Debug for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} ({:?})", self.method, self.path, self.listener)
    }
}

/// Existing objects.
pub(super) struct Names<'a> {
    pub(super) username: &'a str,
    pub(super) password: &'a str,
    pub(super) refresh_token: &'a str,
    pub(super) user_id: &'a str,
    pub(super) session_id: &'a str,
    pub(super) role: &'a str,
    pub(super) kid: &'a str,
}

impl Route {
    fn public(method: Method, path: &str) -> Self {
        Self {
            listener: Listener::Public,
            method,
            path: path.to_owned(),
            around: None,
            needs_bearer: false,
            is_list: false,
            takes_any_method: false,
            bad_queries: &[],
            good: None,
            body_is_optional: false,
        }
    }

    fn protected(method: Method, path: &str) -> Self {
        Self { needs_bearer: true, ..Self::public(method, path) }
    }

    fn admin(method: Method, path: &str) -> Self {
        Self { listener: Listener::Admin, ..Self::protected(method, path) }
    }

    fn list(self) -> Self {
        Self { is_list: true, ..self }
    }

    /// The route for proxies.
    fn forward_auth(path: &str) -> Self {
        let bad_queries = &[
            "permission=",
            "permission=%22",
            "permission=%00",
            "permission=%ff",
            "permission=a%20%20b",
            "permission=orders:write",
            "permissions=ping",
            "audience=",
            "audience=auth-admin",
            "audience=nobody",
            "audience=api&audience=nobody",
        ];
        Self { takes_any_method: true, bad_queries, ..Self::protected(Method::GET, path) }
    }

    fn takes(self, good: Value) -> Self {
        Self { good: Some(good), ..self }
    }

    fn may_take(self, good: Value) -> Self {
        Self { body_is_optional: true, ..self.takes(good) }
    }

    /// Puts `id` between the two parts of the path.
    fn named(self, before: &'static str, id: &str, after: &'static str) -> Self {
        Self { path: format!("{before}{id}{after}"), around: Some((before, after)), ..self }
    }

    /// The path with invalid ids and queries.
    pub(super) fn bad_paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        if let Some((before, after)) = self.around {
            let long = "a".repeat(4000);
            let ids = [
                "-1",
                "0",
                "99999999999999999999999999",
                "00000000-0000-0000-0000-000000000000",
                "7D9F6C1E-2B3A-4C5D-8E6F-0A1B2C3D4E5F",
                "%00",
                "%ff%fe",
                "..%2f..%2fkeys",
                "' OR 1=1 --",
                "%20",
                &long,
            ];
            // A role may have any plain name, and PUT creates it.
            let can_be_made = self.method == Method::PUT;
            let ids = ids.iter().filter(|id| !can_be_made || id.contains('%') || id.len() > 100);
            paths.extend(ids.map(|id| format!("{before}{}{after}", id.replace(' ', "%20"))));
        }
        paths.extend(self.bad_queries.iter().map(|query| format!("{}?{query}", self.path)));
        if self.is_list {
            let limits = ["0", "-1", "201", "1.5", "1e3", "99999999999999999999999", "", CANARY, "%ff"];
            paths.extend(limits.iter().map(|limit| format!("{}?limit={limit}", self.path)));
            // Any other text may be the last name of the previous page.
            let afters = ["%00", "%ff", &"a".repeat(600)].map(String::from);
            paths.extend(afters.iter().map(|after| format!("{}?after={after}", self.path)));
            paths.push(format!("{}?limit=1&limit=2", self.path));
        }
        paths
    }
}

pub(super) fn all(names: &Names<'_>) -> Vec<Route> {
    let mut routes = public(names);
    routes.extend(admin(names));
    routes
}

fn public(names: &Names<'_>) -> Vec<Route> {
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let login = json!({
        "username": names.username,
        "password": names.password,
        "audience": "api",
        "scope": "ping",
    });
    let change = json!({ "current_password": names.password, "new_password": "seven-violet-harbour-kites" });
    vec![
        Route::public(post.clone(), "/v1/login").takes(login),
        Route::public(post.clone(), "/v1/refresh").takes(json!({ "refresh_token": names.refresh_token })),
        Route::public(post.clone(), "/v1/logout").may_take(json!({ "refresh_token": names.refresh_token })),
        Route::protected(get.clone(), "/v1/me"),
        Route::protected(post, "/v1/me/password").takes(change),
        Route::protected(get, "/v1/me/sessions").list(),
        Route::protected(delete.clone(), "/v1/me/sessions"),
        Route::protected(delete, "").named("/v1/me/sessions/", names.session_id, ""),
        Route::forward_auth("/v1/verify"),
        Route::public(Method::GET, "/v1/revocations"),
        Route::public(Method::GET, "/v1/revocations/stream"),
        Route::public(Method::GET, "/.well-known/jwks.json"),
        Route::public(Method::GET, "/.well-known/openid-configuration"),
        Route::public(Method::GET, "/.well-known/oauth-authorization-server"),
    ]
}

fn admin(names: &Names<'_>) -> Vec<Route> {
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let (users, roles) = ("/admin/v1/users/", "/admin/v1/roles/");
    let user =
        json!({ "username": "somebody", "password": "seven-violet-harbour-kites", "roles": [names.role] });
    vec![
        Route::admin(get.clone(), "/admin/v1/keys").list(),
        Route::admin(post.clone(), "/admin/v1/keys/rotate").may_take(json!({ "alg": "ES256" })),
        Route::admin(post.clone(), "").named("/admin/v1/keys/", names.kid, "/compromise"),
        Route::admin(get.clone(), "/admin/v1/replicas").list(),
        Route::admin(post.clone(), "/admin/v1/drain"),
        Route::admin(delete.clone(), "/admin/v1/drain"),
        Route::admin(get.clone(), "/admin/v1/users").list(),
        Route::admin(post.clone(), "/admin/v1/users").takes(user),
        Route::admin(get.clone(), "").named(users, names.user_id, ""),
        Route::admin(Method::PATCH, "")
            .named(users, names.user_id, "")
            .takes(json!({ "disabled": false, "roles": [] })),
        Route::admin(delete.clone(), "").named(users, names.user_id, ""),
        Route::admin(post, "")
            .named(users, names.user_id, "/password")
            .takes(json!({ "password": "seven-violet-harbour-kites" })),
        Route::admin(get.clone(), "").named(users, names.user_id, "/sessions").list(),
        Route::admin(delete.clone(), "").named(users, names.user_id, "/sessions"),
        Route::admin(get.clone(), "/admin/v1/roles").list(),
        Route::admin(get.clone(), "").named(roles, names.role, ""),
        Route::admin(put, "").named(roles, names.role, "").takes(json!({ "permissions": ["ping"] })),
        Route::admin(delete.clone(), "").named(roles, names.role, ""),
        Route::admin(delete, "").named("/admin/v1/sessions/", names.session_id, ""),
        Route::admin(get, "/admin/v1/audit").list(),
    ]
}
