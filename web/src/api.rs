//! The cloud's APIs, as any client has them: requests through the gateway, with the user's token, without a socket.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header, request::Builder};
use http_body_util::{BodyExt, Limited};
use rest::{Arrival, Gateway};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::failure::{Failure, Result, seen};

/// More than any list has; an answer beyond it is a mistake.
const ANSWER_MAX: usize = 64 << 20;

/// Whom to ask. Paths are below the versioned root, as the API references write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Identity,
    Images,
    Placement,
    Compute,
    Network,
    /// Solostack's own: what OpenStack has no API for.
    System,
}

impl Service {
    fn root(self) -> &'static str {
        match self {
            Self::Identity => "/identity/v3",
            Self::Images => "/image/v2",
            Self::Placement => "/placement",
            Self::Compute => "/compute/v2.1",
            Self::Network => "/network/v2.0",
            Self::System => "/solostack/v1",
        }
    }

    /// The microversion that the pages are written for.
    fn version(self) -> Option<&'static str> {
        match self {
            Self::Placement => Some("placement 1.39"),
            Self::Compute => Some("compute 2.96"),
            _ => None,
        }
    }

    fn request(self, method: Method, path: &str) -> Builder {
        let builder = Request::builder().method(method).uri(format!("{}{path}", self.root()));
        match self.version() {
            Some(version) => builder.header("openstack-api-version", version),
            None => builder,
        }
    }
}

fn of(builder: Builder, body: Body) -> Result<Request<Body>> {
    // An id that makes no path is an id of nothing.
    builder.body(body).map_err(|_| Failure::not_found("There is no such thing."))
}

/// The gateway, which comes to be after its pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door {
    gateway: Arc<OnceLock<Weak<Gateway>>>,
}

impl Door {
    pub(crate) fn connect(&self, gateway: &Arc<Gateway>) {
        let _ = self.gateway.set(Arc::downgrade(gateway));
    }

    fn open(&self) -> Result<Arc<Gateway>> {
        let gateway = self.gateway.get().and_then(Weak::upgrade);
        gateway.ok_or_else(|| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "The cloud is starting or stopping."))
    }
}

/// A client of the APIs: whose requests, and by which address the browser reached us.
#[derive(Clone, Debug)]
pub struct Api {
    pub(crate) door: Door,
    pub(crate) peer: SocketAddr,
    /// `host[:port]`: stands in the links of answers.
    pub(crate) authority: String,
    pub(crate) token: Option<String>,
}

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    pub headers: http::HeaderMap,
    /// `null` when there was none.
    pub body: Value,
}

impl Api {
    /// One request as it is, and the answer as it comes: for bodies that are no JSON.
    ///
    /// # Errors
    /// When the cloud is starting or stopping.
    pub async fn raw(&self, mut request: Request<Body>) -> Result<Response> {
        let gateway = self.door.open()?;
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(&self.authority).map_err(|_| Failure::bad_request("The host is no name."))?;
        headers.insert(header::HOST, host);
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(token).map_err(|_| Failure::sign_in())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-auth-token"), value);
        }
        let arrival = Arrival { peer: self.peer, scheme: "https", service: None };
        Ok(gateway.handle(arrival, request).await)
    }

    /// A request with a JSON body, or with none.
    ///
    /// # Errors
    /// What the service answered, if that was no success.
    pub async fn send(&self, method: Method, service: Service, path: &str, body: Option<&Value>) -> Result<Answer> {
        self.send_with(method, service, path, &[], body).await
    }

    /// [`Api::send`] with headers of its own.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub async fn send_with(
        &self,
        method: Method,
        service: Service,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let mut builder = service.request(method, path);
        if body.is_some() && !headers.iter().any(|(name, _)| *name == "content-type") {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let body = match body {
            Some(body) => Body::from(serde_json::to_vec(body).map_err(Failure::internal)?),
            None => Body::empty(),
        };
        answer(self.raw(of(builder, body)?).await?).await
    }

    /// What a `GET` answers, unread: of a thousand things a tree of values would cost more than all else of a page.
    async fn read(&self, service: Service, path: &str) -> Result<Bytes> {
        let request = of(service.request(Method::GET, path), Body::empty())?;
        Ok(success(self.raw(request).await?).await?.1)
    }

    /// `GET`, read as `T`.
    ///
    /// # Errors
    /// What the service answered, if that was no success.
    pub async fn get<T: DeserializeOwned>(&self, service: Service, path: &str) -> Result<T> {
        parsed(path, &self.read(service, path).await?)
    }

    /// [`Api::get`] of what stands under one name: a list, or one thing.
    ///
    /// # Errors
    /// What the service answered, if that was no success.
    pub async fn member<T: DeserializeOwned>(&self, service: Service, path: &str, name: &str) -> Result<T> {
        let answer = self.read(service, path).await?;
        let members: HashMap<&str, &RawValue> = parsed(path, &answer)?;
        parsed(path, members.get(name).map_or("null", |member| member.get()).as_bytes())
    }

    /// [`Api::get`] where the thing need not be there, or need not be the user's to see.
    ///
    /// # Errors
    /// What the service answered, other than 403 and 404.
    pub async fn find<T: DeserializeOwned>(&self, service: Service, path: &str) -> Result<Option<T>> {
        seen(self.get(service, path).await)
    }

    /// # Errors
    /// What the service answered, if that was no success.
    pub async fn post(&self, service: Service, path: &str, body: &Value) -> Result<Value> {
        Ok(self.send(Method::POST, service, path, Some(body)).await?.body)
    }

    /// # Errors
    /// What the service answered, if that was no success.
    pub async fn put(&self, service: Service, path: &str, body: &Value) -> Result<Value> {
        Ok(self.send(Method::PUT, service, path, Some(body)).await?.body)
    }

    /// # Errors
    /// What the service answered, if that was no success.
    pub async fn patch(&self, service: Service, path: &str, body: &Value) -> Result<Value> {
        Ok(self.send(Method::PATCH, service, path, Some(body)).await?.body)
    }

    /// # Errors
    /// What the service answered, if that was no success.
    pub async fn delete(&self, service: Service, path: &str) -> Result<()> {
        self.send(Method::DELETE, service, path, None).await.map(|_| ())
    }
}

fn parsed<'a, T: Deserialize<'a>>(path: &str, json: &'a [u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| {
        tracing::error!(path, %error, "an answer of the API is not what a page expects");
        Failure::broken("an answer of the API")
    })
}

/// A service's answer, or its refusal in its own words.
pub(crate) async fn answer(response: Response) -> Result<Answer> {
    let (headers, bytes) = success(response).await?;
    Ok(Answer { headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
}

async fn success(response: Response) -> Result<(http::HeaderMap, Bytes)> {
    let (mut parts, body) = response.into_parts();
    let bytes = Limited::new(body, ANSWER_MAX).collect().await.map_err(Failure::internal)?.to_bytes();
    if parts.status.is_success() || parts.status == StatusCode::MULTIPLE_CHOICES {
        return Ok((parts.headers, bytes));
    }
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let mut failure = Failure::new(parts.status, message(&body).unwrap_or_else(|| parts.status.to_string()));
    failure.refusal = parts.extensions.remove();
    let id = parts.headers.get("x-openstack-request-id").and_then(|value| value.to_str().ok());
    failure.request_id = id.map(str::to_owned);
    failure.sign_in = parts.status == StatusCode::UNAUTHORIZED;
    Err(failure)
}

/// What a response that is no success says.
pub(crate) async fn refused(response: Response) -> Failure {
    let status = response.status();
    answer(response).await.err().unwrap_or_else(|| Failure::new(status, status.to_string()))
}

/// The words of an error, in whichever service's shape.
fn message(body: &Value) -> Option<String> {
    let object = body.as_object()?;
    let inner = if object.contains_key("message") { body } else { object.values().next()? };
    let inner = inner.get(0).unwrap_or(inner);
    let said = inner.get("message").or_else(|| inner.get("detail")).or_else(|| object.get("message"))?;
    said.as_str().map(str::to_owned)
}

/// Text as one segment of a path, or one value of a query.
#[must_use]
pub fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_service_is_understood_when_it_refuses() {
        for body in [
            json!({"error": {"code": 403, "message": "why", "title": "Forbidden"}}),
            json!({"message": "why", "code": "403 Forbidden", "title": "Forbidden"}),
            json!({"errors": [{"status": 409, "detail": "why", "title": "Conflict"}]}),
            json!({"NeutronError": {"type": "X", "message": "why", "detail": ""}}),
            json!({"itemNotFound": {"code": 404, "message": "why"}}),
        ] {
            assert_eq!(message(&body).as_deref(), Some("why"), "{body}");
        }
        assert_eq!(message(&Value::Null), None);
        assert_eq!(message(&json!({})), None);
    }

    #[test]
    fn text_in_a_path_stays_one_segment() {
        assert_eq!(encoded("a/b ?&ä"), "a%2Fb%20%3F%26%C3%A4");
    }
}
