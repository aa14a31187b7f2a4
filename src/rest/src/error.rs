//! One error type for all services: what the client is told, and what only the log may know.

use std::{borrow::Cow, fmt};

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

pub type Result<T> = std::result::Result<T, Error>;

/// The outcomes a client can act on. The status of [`Kind::OverQuota`] differs by service and is chosen when rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    BadRequest,
    Unauthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    Conflict,
    Gone,
    PreconditionFailed,
    TooLarge,
    WrongMediaType,
    RangeNotSatisfiable,
    Unprocessable,
    OverQuota,
    NotImplemented,
    TooManyRequests,
    Unavailable,
    InsufficientStorage,
    Internal,
}

/// A failed request. `public` is all that the client sees; `source` goes to the log only. There is no `Display`, so an
/// internal text cannot reach a client by accident.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    public: Cow<'static, str>,
    code: Option<Cow<'static, str>>,
    rule: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    headers: HeaderMap,
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("public", &self.0.public)
            .field("code", &self.0.code)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl Error {
    #[must_use]
    pub fn new(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            public: public.into(),
            code: None,
            rule: None,
            source: None,
            headers: HeaderMap::new(),
        }))
    }

    #[must_use]
    pub fn bad_request(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::BadRequest, public)
    }

    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(Kind::Unauthenticated, "The request you have made requires authentication.")
    }

    #[must_use]
    pub fn forbidden(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Forbidden, public)
    }

    /// `noun` as the API writes it, e.g. `Instance`: "Instance <id> could not be found."
    #[must_use]
    pub fn not_found(noun: &str, id: &str) -> Self {
        Self::new(Kind::NotFound, format!("{noun} {id} could not be found."))
    }

    #[must_use]
    pub fn no_such_route() -> Self {
        Self::new(Kind::NotFound, "The resource could not be found.")
    }

    /// 405, naming the methods that the resource has. `HEAD` goes without saying.
    #[must_use]
    pub fn method_not_allowed(method: &Method, allowed: &[Method]) -> Self {
        let mut names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let error = Self::new(Kind::MethodNotAllowed, format!("The method {method} is not allowed for this resource."));
        match HeaderValue::from_str(&names.join(", ")) {
            Ok(value) => error.with_header(http::header::ALLOW, value),
            Err(_) => error,
        }
    }

    #[must_use]
    pub fn conflict(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Conflict, public)
    }

    #[must_use]
    pub fn over_quota(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::OverQuota, public)
    }

    #[must_use]
    pub fn too_large(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::TooLarge, public)
    }

    #[must_use]
    pub fn not_implemented(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::NotImplemented, public)
    }

    #[must_use]
    pub fn unavailable(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unavailable, public)
    }

    /// A failure that is not the client's. The client learns only that it happened; `source` is logged.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let mut error =
            Self::new(Kind::Internal, "An unexpected error prevented the server from fulfilling your request.");
        error.0.source = Some(source.into());
        error
    }

    /// The service's own word for this error: Neutron's `type`, Placement's `code`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.code = Some(code.into());
        self
    }

    /// The rule that refused.
    #[must_use]
    pub fn refused_by(mut self, rule: &str) -> Self {
        self.0.rule = Some(rule.to_owned());
        self
    }

    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.0.rule.as_deref()
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What the client is told: also the text of a server's fault.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.0.public
    }

    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    #[must_use]
    pub fn source(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.0.source.as_deref()
    }

    /// The causes below this error in one line, outermost first, for a log field.
    #[must_use]
    pub fn causes(&self) -> String {
        let mut text = String::new();
        let mut next = self.source().map(|source| source as &dyn std::error::Error);
        while let Some(cause) = next {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl Kind {
    /// The status, where the service has no say.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::OverQuota => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Gone => StatusCode::GONE,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::WrongMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        if error.full() {
            return Self::new(Kind::InsufficientStorage, "The disk that holds the cloud's database is full.")
                .caused_by(error);
        }
        Self::internal(error)
    }
}

impl From<db::rusqlite::Error> for Error {
    fn from(error: db::rusqlite::Error) -> Self {
        db::Error::from(error).into()
    }
}

/// The gateway takes the error out of the response's extensions and renders it in the service's shape.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.0.kind.status().into_response();
        response.extensions_mut().insert(std::sync::Arc::new(self));
        response
    }
}
