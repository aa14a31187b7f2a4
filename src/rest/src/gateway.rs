//! From a request on a socket to its service and back: which service, which address the client used, which version,
//! the context, and on the way out the error's shape, the headers that every answer carries, and the audit line.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use db::measure::Histogram;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use policy::Enforcer;
use tower::ServiceExt;

use crate::{
    Arrival, AuditEvent, AuditTrail, ClientCertificate, Ctx, Error, Kind, Microversion, Reply, Result, RouteInfo,
    Service, ServiceInfo, Style, TokenCheck,
    context::Inner,
    home, html,
    meter::{Requests, ServiceMeter},
};

/// Lists whose name with a slash behind it is an item without an id, which is not there: clients that lost an id must not
/// get, or do something to, all of them.
const NO_EMPTY_ID: &[(Style, &str)] = &[
    (Style::Images, "/v2/images"),
    (Style::Compute, "/v2.1/images"),
    (Style::Compute, "/v2.1/os-security-groups"),
    (Style::Compute, "/v2.1/os-simple-tenant-usage"),
];
const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");
const API_VERSION: HeaderName = HeaderName::from_static("openstack-api-version");

/// What the gateway needs besides services.
#[derive(Debug)]
pub struct GatewayOptions {
    /// `host[:port]` for requests that name no host.
    pub default_authority: String,
    /// Pages that belong to no service: `/`, `/ca.crt`, `/.well-known/...`.
    pub pages: Router,
    /// YAML policy overrides by service type.
    pub policy_overrides: HashMap<String, String>,
}

/// Which rule refused a request, and its check string as it is in force: an extension of the answer, for callers in process,
/// who can then say what is missing.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub rule: String,
    pub check: Option<String>,
}

struct Mounted {
    info: ServiceInfo,
    routes: Vec<RouteInfo>,
    homes: Vec<(&'static str, serde_json::Value)>,
    /// In the order of `routes`.
    meters: Vec<Arc<Histogram>>,
    meter: ServiceMeter,
    router: Router,
    policy: Arc<Enforcer>,
}

/// All services behind one door.
pub struct Gateway {
    services: Vec<Mounted>,
    token_check: Arc<dyn TokenCheck>,
    default_authority: String,
    pages: Router,
    pages_meter: ServiceMeter,
    audit: Option<Arc<dyn AuditTrail>>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.services.iter().map(|service| service.info.kind)).finish()
    }
}

impl Gateway {
    /// # Errors
    /// When a service's default rules do not fit together. A broken override only keeps the defaults (and is logged).
    pub fn new(
        services: Vec<Service>,
        token_check: Arc<dyn TokenCheck>,
        options: GatewayOptions,
    ) -> std::result::Result<Self, policy::RegistryError> {
        let mut mounted = Vec::with_capacity(services.len());
        for service in services {
            let policy = Enforcer::new(service.rules)?;
            if let Some(yaml) = options.policy_overrides.get(service.info.kind)
                && let Err(error) = policy.load_overrides(yaml)
            {
                tracing::error!(service = service.info.kind, %error, "policy overrides refused, the defaults stay");
            }
            mounted.push(Mounted {
                info: service.info,
                routes: service.routes,
                homes: service.homes,
                meters: service.meters,
                meter: ServiceMeter::new(),
                router: service.router,
                policy: Arc::new(policy),
            });
        }
        let GatewayOptions { default_authority, pages, .. } = options;
        Ok(Self {
            services: mounted,
            token_check,
            default_authority,
            pages,
            pages_meter: ServiceMeter::new(),
            audit: None,
        })
    }

    /// Also keeps what is logged of calls that may change something.
    #[must_use]
    pub fn audited_by(self, trail: Arc<dyn AuditTrail>) -> Self {
        Self { audit: Some(trail), ..self }
    }

    /// Every line of every service's table: documents and tests are made from it.
    pub fn routes(&self) -> impl Iterator<Item = (&ServiceInfo, &RouteInfo)> {
        self.services.iter().flat_map(|mounted| mounted.routes.iter().map(|route| (&mounted.info, route)))
    }

    /// Every service that is mounted.
    pub fn services(&self) -> impl Iterator<Item = &ServiceInfo> {
        self.services.iter().map(|mounted| &mounted.info)
    }

    /// What was asked since the start, and how it went.
    #[must_use]
    pub fn requests(&self) -> Vec<Requests> {
        let mut all = Vec::with_capacity(self.services.len() + 1);
        for mounted in &self.services {
            let routes = mounted.routes.iter().zip(&mounted.meters);
            let mut durations: Vec<_> =
                routes.map(|(route, meter)| (method_name(&route.method), route.path, meter.read())).collect();
            durations.push(("", "", mounted.meter.other.read()));
            durations.retain(|(_, _, durations)| durations.count() > 0);
            all.push(Requests { service: mounted.info.kind, statuses: mounted.meter.statuses(), durations });
        }
        let durations = vec![("", "", self.pages_meter.other.read())];
        all.push(Requests { service: "pages", statuses: self.pages_meter.statuses(), durations });
        all
    }

    /// Replaces a service's policy overrides; a broken text keeps the rules in force.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn load_policy(&self, service: &str, yaml: &str) -> std::result::Result<(), policy::OverrideError> {
        match self.services.iter().find(|mounted| mounted.info.kind == service) {
            Some(mounted) => mounted.policy.load_overrides(yaml),
            None => Ok(()),
        }
    }

    /// Answers one request.
    pub async fn handle(&self, arrival: Arrival, mut request: Request) -> Response {
        let began = Instant::now();
        let found = match arrival.service {
            Some(kind) => self.services.iter().find(|mounted| mounted.info.kind == kind).map(|mounted| (mounted, "")),
            None => self.by_prefix(request.uri().path()),
        };
        let Some((mounted, prefix)) = found else {
            request.extensions_mut().insert(arrival);
            let response = self.pages.clone().oneshot(request).await.into_response();
            self.pages_meter.add(&self.pages_meter.other, response.status(), began.elapsed());
            return response;
        };
        let mut meter = None;
        let response = self.dispatch(mounted, prefix, arrival, request, &mut meter).await;
        let route = meter.as_ref().unwrap_or(&mounted.meter.other);
        mounted.meter.add(route, response.status(), began.elapsed());
        response
    }

    fn by_prefix(&self, path: &str) -> Option<(&Mounted, &'static str)> {
        let path = path.trim_start_matches('/');
        let first = path.split('/').next().unwrap_or_default();
        let mounted = self.services.iter().find(|mounted| mounted.info.prefix.trim_matches('/') == first)?;
        Some((mounted, mounted.info.prefix))
    }

    /// `meter`: of the route that answered, if one did.
    async fn dispatch(
        &self,
        mounted: &Mounted,
        prefix: &str,
        arrival: Arrival,
        mut request: Request,
        meter: &mut Option<Arc<Histogram>>,
    ) -> Response {
        let request_id = format!("req-{}", crate::new_uuid());
        let style = mounted.info.style;
        let (path, authority) = match self.locate(prefix, &request) {
            // The image with the id "" is not the list of images.
            Ok((path, authority))
                if NO_EMPTY_ID.contains(&(style, path.as_str())) && request.uri().path().ends_with('/') =>
            {
                (format!("{path}/"), authority)
            }
            Ok(located) => located,
            Err(error) => return render(style, &error, &request_id, None, &mounted.info, &Method::GET, ""),
        };
        let base_url = format!("{}://{authority}{prefix}", arrival.scheme);
        let identity_url = format!("{}://{authority}/identity", arrival.scheme);
        let method = request.method().clone();
        let reading = matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);

        let version = mounted.info.microversions.map(|range| range.negotiate(request.headers())).transpose();
        let as_page = style == Style::Placement && html::wanted(request.headers());
        let refuse = |error: &Error, version: Option<Microversion>, identity_url: &str| {
            let response = render(style, error, &request_id, version, &mounted.info, &method, identity_url);
            if as_page { html::instead_of(response, error) } else { response }
        };
        if let Some(document) = mounted.info.document(&path, &base_url) {
            if !matches!(method, Method::GET | Method::HEAD) {
                let error = Error::method_not_allowed(&method, &[Method::GET]);
                return refuse(&error, version.ok().flatten(), "");
            }
            if style == Style::Placement
                && let Err(error) = &version
            {
                return refuse(error, None, "");
            }
            let home = mounted.homes.iter().find(|(at, _)| *at == path && home::wanted(request.headers()));
            let mut response = match home {
                Some((_, home)) => home::response(home),
                None => document.into_response(),
            };
            if method == Method::HEAD {
                *response.body_mut() = Body::empty();
            }
            let version = version.ok().flatten();
            if style == Style::Placement && version.is_some_and(|version| version >= Microversion(1, 15)) {
                // The document never changes while the program runs; Placement dates it all the same.
                let format = time::macros::format_description!(
                    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
                );
                if let Ok(text) = time::OffsetDateTime::now_utc().format(format)
                    && let Ok(value) = HeaderValue::from_str(&text)
                {
                    response.headers_mut().insert(header::LAST_MODIFIED, value);
                }
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            }
            finish(&mut response, &request_id, version, &mounted.info);
            return response;
        }
        // What a client of the older version says of microversions is not heard, and it hears of none.
        let (path, version, spoken) = match mounted.info.legacy_path(&path) {
            Some(path) => (path, Ok(mounted.info.microversions.map(|range| range.min)), false),
            None => (path, version, true),
        };
        let version = match version {
            Ok(version) => version,
            Err(error) => return refuse(&error, None, &identity_url),
        };
        let answered = version.filter(|_| spoken);
        let token = request.headers().get("x-auth-token").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let shown = request.extensions().get::<ClientCertificate>().filter(|_| token.is_none());
        let certificate = shown.map(|shown| (shown.clone(), request.headers().clone()));
        let ctx = Ctx::new(Inner {
            request_id: request_id.clone(),
            service: mounted.info.kind,
            style,
            base_url,
            version,
            arrival,
            method: method.clone(),
            path: path.clone(),
            token,
            certificate,
            token_check: Arc::clone(&self.token_check),
            policy: Arc::clone(&mounted.policy),
            credentials: OnceLock::new(),
            decided: AtomicBool::new(false),
            asking: OnceLock::new(),
            audited: AtomicBool::new(false),
            meter: OnceLock::new(),
        });
        if let Err(error) = rewrite(&mut request, &path) {
            return refuse(&error, answered, &identity_url);
        }
        request.extensions_mut().insert(ctx.clone());
        let mut response = mounted.router.clone().oneshot(request).await.into_response();
        *meter = ctx.inner().meter.get().cloned();
        let failed = response.extensions_mut().remove::<Arc<Error>>();
        let mut response = match failed {
            Some(error) => {
                let mut response = refuse(&error, answered, &identity_url);
                if let Some(rule) = error.rule() {
                    let refusal = Refusal { rule: rule.to_owned(), check: mounted.policy.check(rule) };
                    response.extensions_mut().insert(refusal);
                }
                response
            }
            None => match foreign_error(&response) {
                // What axum itself refuses (a path that is no UTF-8) speaks the service's language too.
                Some(kind) => {
                    let error = Error::new(kind, "The request could not be understood.");
                    refuse(&error, answered, &identity_url)
                }
                None => response,
            },
        };
        finish(&mut response, &request_id, answered, &mounted.info);
        if !reading || ctx.inner().audited.load(Ordering::Relaxed) {
            let event = audited(&ctx, &method, &path, &response);
            log(&event);
            if let Some(trail) = &self.audit {
                trail.keep(event);
            }
        }
        response
    }

    /// The path below the service's root without doubled or trailing slashes, and the authority that the client used.
    fn locate(&self, prefix: &str, request: &Request) -> Result<(String, String)> {
        let raw = request.uri().path().trim_start_matches('/');
        let below = raw.strip_prefix(prefix.trim_start_matches('/')).unwrap_or(raw);
        let mut path = String::with_capacity(below.len() + 1);
        for segment in below.split('/').filter(|segment| !segment.is_empty()) {
            path.push('/');
            path.push_str(segment);
        }
        if path.is_empty() {
            path.push('/');
        }
        let authority = match request.uri().authority() {
            Some(authority) => authority.as_str(),
            None => match request.headers().get(header::HOST) {
                Some(host) => host.to_str().map_err(|_| Error::bad_request("The Host header is not valid."))?,
                None => &self.default_authority,
            },
        };
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if authority.is_empty() || authority.len() > 261 || !authority.bytes().all(valid) {
            return Err(Error::bad_request("The Host header is not valid."));
        }
        Ok((path, authority.to_owned()))
    }
}

/// The methods of routes, as text that lives for ever.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}

fn rewrite(request: &mut Request, path: &str) -> Result<()> {
    let target = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    *request.uri_mut() = Uri::try_from(target).map_err(|_| Error::bad_request("The URL is not valid."))?;
    Ok(())
}

/// The kind of an error response that no handler of ours made.
fn foreign_error(response: &Response) -> Option<Kind> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let text =
        response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    text.then_some(match status.as_u16() {
        400 => Kind::BadRequest,
        404 => Kind::NotFound,
        405 => Kind::MethodNotAllowed,
        413 => Kind::TooLarge,
        415 => Kind::WrongMediaType,
        422 => Kind::BadRequest,
        _ => Kind::Internal,
    })
}

fn render(
    style: Style,
    error: &Error,
    request_id: &str,
    version: Option<Microversion>,
    info: &ServiceInfo,
    method: &Method,
    identity_url: &str,
) -> Response {
    let status = style.status(error.kind());
    if status.is_server_error() {
        tracing::error!(request.id = request_id, service = info.kind, causes = error.causes(), "{}", error.public());
    } else if error.source().is_some() {
        tracing::debug!(request.id = request_id, service = info.kind, causes = error.causes(), "{}", error.public());
    }
    let mut body = style.body(error, request_id, version);
    if error.kind() == Kind::NotAcceptable
        && let Some(range) = info.microversions
        && let Some(fault) = inner_fault(&mut body)
    {
        fault.insert("min_version".into(), range.min.to_string().into());
        fault.insert("max_version".into(), range.max.to_string().into());
    }
    let mut response = Reply::json(status, &body).into_response();
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response.headers_mut().extend(error.headers().clone());
    if error.kind() == Kind::Unauthenticated
        && let Ok(value) = HeaderValue::from_str(&format!("Keystone uri=\"{identity_url}\""))
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    if status.as_u16() == 413 {
        response.headers_mut().entry(header::RETRY_AFTER).or_insert(HeaderValue::from_static("0"));
    }
    finish(&mut response, request_id, version, info);
    response
}

fn inner_fault(body: &mut serde_json::Value) -> Option<&mut serde_json::Map<String, serde_json::Value>> {
    let first = body.as_object_mut()?.values_mut().next()?;
    if first.is_array() { first.get_mut(0)?.as_object_mut() } else { first.as_object_mut() }
}

/// Headers of every answer.
fn finish(response: &mut Response, request_id: &str, version: Option<Microversion>, info: &ServiceInfo) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value.clone());
        if info.style == Style::Compute {
            headers.insert(HeaderName::from_static("x-compute-request-id"), value);
        }
    }
    let Some(range) = info.microversions else {
        headers.entry(header::VARY).or_insert(HeaderValue::from_static("X-Auth-Token"));
        return;
    };
    // Placement spells it so, and its tests compare.
    let name = if info.style == Style::Placement { "openstack-api-version" } else { "OpenStack-API-Version" };
    let mut vary = String::from(name);
    if let Some(version) = version {
        if let Ok(value) = HeaderValue::from_str(&format!("{} {version}", range.service)) {
            headers.insert(API_VERSION, value);
        }
        if let Some(legacy) = range.legacy_header
            && let Ok(value) = HeaderValue::from_str(&version.to_string())
        {
            headers.insert(HeaderName::from_static(legacy), value);
            vary.push_str(", X-OpenStack-Nova-API-Version");
        }
    }
    if let Ok(value) = HeaderValue::from_str(&vary) {
        headers.insert(header::VARY, value);
    }
}

/// Who called, in which scope, with which audit id, from where, and how it ended.
fn audited(ctx: &Ctx, method: &Method, path: &str, response: &Response) -> AuditEvent {
    let creds = ctx.creds_if_any();
    let owned = |text: Option<&str>| text.map(str::to_owned);
    AuditEvent {
        service: ctx.inner().service,
        request_id: ctx.request_id().to_owned(),
        method: method.as_str().to_owned(),
        path: path.to_owned(),
        status: response.status().as_u16(),
        peer: ctx.arrival().peer.ip(),
        user_id: creds.map(|creds| creds.user.id.clone()).or_else(|| ctx.inner().asking.get().cloned()),
        project_id: owned(creds.and_then(|creds| creds.project_id())),
        domain_id: owned(creds.and_then(|creds| creds.domain_id())),
        system: creds.is_some_and(|creds| creds.is_system()),
        audit_id: creds.and_then(|creds| creds.audit_ids.first().cloned()),
    }
}

fn log(event: &AuditEvent) {
    tracing::info!(
        target: "audit",
        service = event.service,
        request.id = event.request_id,
        method = event.method,
        path = event.path,
        status = event.status,
        peer = %event.peer,
        user.id = event.user_id,
        project.id = event.project_id,
        domain.id = event.domain_id,
        system = event.system,
        audit.id = event.audit_id,
        "request"
    );
}
