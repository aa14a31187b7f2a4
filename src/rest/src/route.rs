//! The URL table as data: `get("/servers/{id}", servers::handlers::show).rule(servers::policy::SHOW)`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    handler::Handler,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use db::measure::Histogram;
use http::Method;
use policy::Rule;

use crate::{Ctx, Error, JSON_BODY_MAX_BYTES, Microversion};

/// Who may call a route before its handler decides anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without a token. Listed in `tests/golden/public-routes.txt`, which only shrinks.
    Public,
    /// Any valid token; the handler needs no rule. Listed in the same golden file.
    Token,
    /// A valid token, and the handler must ask policy before it answers 2xx.
    Ruled,
}

/// What the table says about a route.
#[derive(Clone, Debug)]
pub struct RouteInfo {
    pub method: Method,
    /// Below the service's root, with `{name}` segments.
    pub path: &'static str,
    pub rules: Vec<Rule>,
    pub access: Access,
    pub since: Option<Microversion>,
    pub until: Option<Microversion>,
    pub body_max_bytes: usize,
}

/// One line of a service's table.
pub struct Route<S> {
    pub info: RouteInfo,
    handler: MethodRouter<S>,
}

impl<S> std::fmt::Debug for Route<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.info.fmt(f)
    }
}

macro_rules! verbs {
    ($($name:ident $method:ident),+) => {$(
        #[doc = concat!("A `", stringify!($method), "` route.")]
        pub fn $name<H, T, S>(path: &'static str, handler: H) -> Route<S>
        where
            H: Handler<T, S>,
            T: 'static,
            S: Clone + Send + Sync + 'static,
        {
            Route::new(Method::$method, path, on(MethodFilter::$method, handler))
        }
    )+};
}
verbs!(get GET, head HEAD, post POST, put PUT, patch PATCH, delete DELETE);

impl<S: Clone + Send + Sync + 'static> Route<S> {
    fn new(method: Method, path: &'static str, handler: MethodRouter<S>) -> Self {
        let info = RouteInfo {
            method,
            path,
            rules: Vec::new(),
            access: Access::Ruled,
            since: None,
            until: None,
            body_max_bytes: JSON_BODY_MAX_BYTES,
        };
        Self { info, handler }
    }

    /// The rule that the handler asks.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.info.rules.push(rule);
        self
    }

    /// The rules that the handler asks, for routes with several (actions).
    #[must_use]
    pub fn rules(mut self, rules: &[Rule]) -> Self {
        self.info.rules.extend_from_slice(rules);
        self
    }

    /// No token needed.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.info.access = Access::Public;
        self
    }

    /// Any valid token, no rule.
    #[must_use]
    pub fn any_token(mut self) -> Self {
        self.info.access = Access::Token;
        self
    }

    /// 404 below this microversion.
    #[must_use]
    pub fn since(mut self, major: u16, minor: u16) -> Self {
        self.info.since = Some(Microversion(major, minor));
        self
    }

    /// 404 above this microversion.
    #[must_use]
    pub fn until(mut self, major: u16, minor: u16) -> Self {
        self.info.until = Some(Microversion(major, minor));
        self
    }

    /// A larger JSON body than [`JSON_BODY_MAX_BYTES`]. Streams (image data) do not use [`crate::Body`] and bound themselves.
    #[must_use]
    pub fn body_max_bytes(mut self, bytes: usize) -> Self {
        self.info.body_max_bytes = bytes;
        self
    }

    pub(crate) fn into_parts(self) -> (RouteInfo, Arc<Histogram>, MethodRouter<S>) {
        let meter = Arc::<Histogram>::default();
        let guarded = Guarded { info: self.info.clone(), meter: Arc::clone(&meter) };
        let handler = self.handler.layer(middleware::from_fn_with_state(Arc::new(guarded), guard));
        (self.info, meter, handler)
    }
}

/// The bound that [`crate::Body`] keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimit(pub usize);

/// What the guard of a route knows.
struct Guarded {
    info: RouteInfo,
    meter: Arc<Histogram>,
}

/// Runs around each handler: version window, token, and "no 2xx without a decision".
async fn guard(State(guarded): State<Arc<Guarded>>, ctx: Ctx, mut request: Request, next: Next) -> Response {
    let info = &guarded.info;
    ctx.found(&guarded.meter);
    let version = ctx.version();
    if info.since.is_some_and(|since| version < since) || info.until.is_some_and(|until| version > until) {
        return Error::no_such_route().into_response();
    }
    if info.access != Access::Public
        && let Err(error) = ctx.authenticate().await
    {
        return error.into_response();
    }
    request.extensions_mut().insert(BodyLimit(info.body_max_bytes));
    let response = next.run(request).await;
    if info.access == Access::Ruled && response.status().is_success() && !ctx.decided() {
        return Error::internal(format!("{} {} answered without asking policy", info.method, info.path))
            .into_response();
    }
    response
}
