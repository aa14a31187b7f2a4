//! A client that looks at every answer it gets.

use axum::body::{Body, Bytes};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::{Persona, TestCloud, checks, cloud::HOST};

/// Requests of one person at one microversion.
#[derive(Clone)]
pub struct Client<'c> {
    cloud: &'c TestCloud,
    who: Persona,
    token: Option<String>,
    version: Option<String>,
}

/// An answer that has the form that every answer must have.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
    /// The body, or null when it is none or no JSON.
    pub json: Value,
    /// Method and path, for messages.
    pub line: String,
}

impl<'c> Client<'c> {
    pub(crate) fn new(cloud: &'c TestCloud, who: Persona) -> Self {
        Self { cloud, who, token: None, version: None }
    }

    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// At this microversion: `2.26`, `latest`.
    #[must_use]
    pub fn at(&self, version: &str) -> Self {
        Self { version: Some(version.to_owned()), ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &Value::Null).await
    }

    pub async fn head(&self, path: &str) -> Reply {
        self.send(Method::HEAD, path, &Value::Null).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, &Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, &body).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.send(Method::PUT, path, &body).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.send(Method::PATCH, path, &body).await
    }

    /// A server's action: `{"os-stop": null}`.
    pub async fn action(&self, server_id: &str, body: Value) -> Reply {
        self.post(&format!("/compute/v2.1/servers/{server_id}/action"), body).await
    }

    /// Null is no body at all.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Reply {
        if body.is_null() {
            self.raw(method, path, &[], Bytes::new()).await
        } else {
            self.raw(method, path, &[("content-type", "application/json")], body.to_string()).await
        }
    }

    /// Any bytes with any headers.
    pub async fn raw(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        self.try_raw(method, path, headers, body).await.unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// As [`Client::raw`], for those who collect what is wrong with answers instead of failing at the first.
    ///
    /// # Errors
    /// What is wrong with the answer's form.
    pub async fn try_raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, String> {
        let token = match &self.token {
            Some(token) => Some(token.clone()),
            None => Box::pin(self.cloud.login(self.who)).await.map(|login| login.token),
        };
        let mut request = Request::builder().method(method.clone()).uri(path).header("host", HOST);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &token {
            request = request.header("x-auth-token", token);
        }
        let service = checks::Service::of(path);
        if let (Some(version), Some(service)) = (&self.version, service) {
            request = request.header("openstack-api-version", format!("{} {version}", service.type_name()));
        }
        let request = request.body(Body::from(body.into())).expect("a request that HTTP allows");
        let response = self.cloud.handle(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.map_err(|error| format!("{method} {path}: the body broke off: {error}"))?;
        let bytes = bytes.to_bytes();
        let reply = Reply {
            status: parts.status,
            headers: parts.headers,
            json: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            bytes,
            line: format!("{method} {path} as {:?}", self.who),
        };
        if let Some(service) = service {
            checks::check(service, &method, self.version.as_deref(), &reply, self.cloud.state())
                .map_err(|problem| format!("{problem}\n{reply}"))?;
        }
        Ok(reply)
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes);
        let short: String = text.chars().take(2000).collect();
        write!(f, "{} -> {} {short}", self.line, self.status)
    }
}

impl Reply {
    /// The body, if the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self}");
        self.json
    }

    /// What an error tells its reader, if the status is this one.
    #[track_caller]
    pub fn refused(self, status: u16) -> String {
        assert!(status >= 400, "an error is asked for");
        assert_eq!(self.status.as_u16(), status, "{self}");
        self.message()
    }

    /// What an error tells its reader, whatever its service.
    #[must_use]
    pub fn message(&self) -> String {
        let body = &self.json;
        let first = body.as_object().and_then(|map| map.values().next()).unwrap_or(&Value::Null);
        [&body["errors"][0]["detail"], &body["message"], &first["message"]]
            .into_iter()
            .find_map(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
