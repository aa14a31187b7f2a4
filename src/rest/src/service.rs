//! A service as the wiring mounts it.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, response::IntoResponse, routing::MethodRouter};
use db::measure::Histogram;
use http::Method;
use policy::Rule;
use serde_json::Value;

use crate::{ApiVersion, DiscoveryStyle, Error, Range, Route, RouteInfo, Style};

/// The facts about a service that the gateway and the catalog need.
#[derive(Clone, Copy, Debug)]
pub struct ServiceInfo {
    /// The service type in the catalog: `compute`.
    pub kind: &'static str,
    /// The name in the catalog, as DevStack has it: `nova`.
    pub name: &'static str,
    pub style: Style,
    /// First path segment on the shared port: `/compute`. No segment may look like a version (`v` + digit).
    pub prefix: &'static str,
    /// The port that tools know.
    pub port: u16,
    /// What the catalog appends to the root: `/v2.1`, or nothing for unversioned endpoints.
    pub catalog_path: &'static str,
    pub microversions: Option<Range>,
    pub discovery: DiscoveryStyle,
    pub versions: &'static [ApiVersion],
}

/// A service: its facts, its table, its rules.
#[derive(Debug)]
pub struct Service {
    pub info: ServiceInfo,
    pub routes: Vec<RouteInfo>,
    /// In the order of `routes`: how long each took.
    pub(crate) meters: Vec<Arc<Histogram>>,
    pub rules: Vec<Rule>,
    /// Home documents by the path of the version document beside them.
    pub(crate) homes: Vec<(&'static str, Value)>,
    pub(crate) router: Router,
}

/// Every rule of a service, by name: those that others refer to, and those of its routes.
#[must_use]
pub fn rules_of<S>(routes: &[Route<S>], base_rules: &[Rule]) -> Vec<Rule> {
    let of_routes = routes.iter().flat_map(|route| &route.info.rules);
    let rules: BTreeMap<&'static str, Rule> =
        base_rules.iter().chain(of_routes).map(|rule| (rule.name, *rule)).collect();
    rules.into_values().collect()
}

impl Service {
    /// `base_rules` are those that other rules refer to; the routes bring their own.
    #[must_use]
    pub fn new<S>(info: ServiceInfo, state: S, routes: Vec<Route<S>>, base_rules: &[Rule]) -> Self
    where
        S: Clone + Send + Sync + 'static,
    {
        let rules = rules_of(&routes, base_rules);
        let mut infos = Vec::with_capacity(routes.len());
        let mut meters = Vec::with_capacity(routes.len());
        let mut paths: BTreeMap<&'static str, MethodRouter<S>> = BTreeMap::new();
        for route in routes {
            let (info, meter, handler) = route.into_parts();
            let at = paths.remove(info.path).unwrap_or_default();
            paths.insert(info.path, at.merge(handler));
            infos.push(info);
            meters.push(meter);
        }
        let mut router = Router::new();
        for (path, handlers) in paths {
            let allowed: Vec<Method> =
                infos.iter().filter(|info| info.path == path).map(|info| info.method.clone()).collect();
            let refuse = async move |method: Method| Error::method_not_allowed(&method, &allowed).into_response();
            router = router.route(path, handlers.fallback(refuse));
        }
        let router = router.fallback(async || Error::no_such_route().into_response()).with_state(state);
        Self { info, routes: infos, meters, rules, homes: Vec::new(), router }
    }

    /// Also answers `path` (`/`, `/v3`), which has a version document, with a home document for who prefers that.
    #[must_use]
    pub fn with_home(mut self, path: &'static str, document: Value) -> Self {
        self.homes.push((path, document));
        self
    }
}
