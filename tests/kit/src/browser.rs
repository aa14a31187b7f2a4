//! A browser without script: it keeps cookies, follows redirects, and fills the forms of the page it is on.

use axum::body::{Body, Bytes};
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Builder};
use http_body_util::BodyExt;

use crate::{Persona, TestCloud, cloud::HOST};

/// One browser, on one page at a time.
pub struct Browser<'c> {
    cloud: &'c TestCloud,
    cookies: Vec<(String, String)>,
    /// Where it is: path and query.
    pub path: String,
    /// The page as it came.
    pub page: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
}

impl<'c> Browser<'c> {
    /// Nobody's, on no page.
    #[must_use]
    pub fn new(cloud: &'c TestCloud) -> Self {
        Self {
            cloud,
            cookies: Vec::new(),
            path: String::new(),
            page: String::new(),
            status: StatusCode::OK,
            headers: HeaderMap::new(),
        }
    }

    /// Signed in by the form, as anybody else would be.
    ///
    /// # Panics
    /// When signing in does not lead to a page.
    pub async fn signed_in(cloud: &'c TestCloud, who: Persona) -> Self {
        let mut browser = Self::new(cloud);
        cloud.login(who).await;
        let password = if who == Persona::Admin { cloud.admin_password() } else { who.password() };
        browser.open("/signin").await;
        browser.submit("/signin", &[("name", who.name()), ("password", &password)]).await;
        assert_eq!((browser.status, browser.path.as_str()), (StatusCode::OK, "/"), "{}", browser.page);
        browser
    }

    /// Goes to a page.
    pub async fn open(&mut self, path: &str) -> &mut Self {
        self.go(Method::GET, path, None, Bytes::new()).await
    }

    /// Sends a form of this page: its hidden token goes with the fields.
    ///
    /// # Panics
    /// When the page has no form that goes there.
    pub async fn submit(&mut self, action: &str, fields: &[(&str, &str)]) -> &mut Self {
        assert!(self.page.contains(&format!("action=\"{action}\"")), "no form of {} goes to {action}", self.path);
        let mut form = form_urlencoded::Serializer::new(String::new());
        if let Some(token) = self.csrf() {
            form.append_pair("_csrf", &token);
        }
        form.extend_pairs(fields);
        let body = form.finish();
        self.go(Method::POST, action, Some("application/x-www-form-urlencoded"), body.into()).await
    }

    /// Sends anything: what a form cannot, or must not.
    pub async fn send(&mut self, action: &str, content_type: &str, body: impl Into<Bytes>) -> &mut Self {
        self.go(Method::POST, action, Some(content_type), body.into()).await
    }

    /// Sends a body piece by piece, which may end in the middle. Redirects are not followed.
    ///
    /// # Panics
    /// When the answer is no page.
    pub async fn stream(&mut self, action: &str, content_type: &str, body: Body) -> &mut Self {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::post(action)
            .header(header::HOST, HOST)
            .header(header::COOKIE, pairs.join("; "))
            .header(header::CONTENT_TYPE, content_type)
            .body(body)
            .expect("a request");
        let (parts, page) = self.cloud.handle(request).await.into_parts();
        let page = page.collect().await.expect("a whole page").to_bytes();
        self.page = String::from_utf8_lossy(&page).into_owned();
        (self.status, self.headers) = (parts.status, parts.headers);
        self
    }

    /// The token in the forms of this page.
    #[must_use]
    pub fn csrf(&self) -> Option<String> {
        let (_, rest) = self.page.split_once("name=\"_csrf\" value=\"")?;
        rest.split_once('"').map(|(token, _)| token.to_owned())
    }

    /// Forgets who it is.
    pub fn forget(&mut self) {
        self.cookies.clear();
    }

    /// As the page shows it: text without tags, entities resolved, white space folded.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut inside = false;
        for letter in self.page.chars() {
            match letter {
                '<' => inside = true,
                '>' => {
                    inside = false;
                    text.push(' ');
                }
                _ if !inside => text.push(letter),
                _ => {}
            }
        }
        for (entity, letter) in [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&#34;", "\""),
            ("&#38;", "&"),
            ("&#39;", "'"),
            ("&#60;", "<"),
            ("&#62;", ">"),
            ("&amp;", "&"),
        ] {
            text = text.replace(entity, letter);
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// # Panics
    /// When the page does not say it.
    pub fn says(&self, wanted: &str) -> &Self {
        let text = self.text();
        assert!(text.contains(wanted), "{} ({}) does not say {wanted:?}: {text}", self.path, self.status);
        self
    }

    /// An answer that does not end: what comes is for the caller to read.
    pub async fn follow(&self, path: &str) -> Response<Body> {
        let request = self.request(&Method::GET, path).body(Body::empty()).expect("a request");
        self.cloud.handle(request).await
    }

    fn request(&self, method: &Method, path: &str) -> Builder {
        let request = Request::builder().method(method.clone()).uri(path).header(header::HOST, HOST);
        if self.cookies.is_empty() {
            return request;
        }
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request.header(header::COOKIE, pairs.join("; "))
    }

    async fn go(&mut self, method: Method, path: &str, content_type: Option<&str>, body: Bytes) -> &mut Self {
        let (mut method, mut path, mut content_type, mut body) = (method, path.to_owned(), content_type, body);
        for _ in 0..8 {
            let mut request = self.request(&method, &path);
            if let Some(kind) = content_type {
                request = request.header(header::CONTENT_TYPE, kind).header(header::ORIGIN, format!("https://{HOST}"));
            }
            let request = request.body(Body::from(body.clone())).expect("a request");
            let response = self.cloud.handle(request).await;
            let (parts, page) = response.into_parts();
            self.take_cookies(&parts.headers);
            let page = page.collect().await.expect("a whole page").to_bytes();
            self.path = path.clone();
            self.page = String::from_utf8_lossy(&page).into_owned();
            (self.status, self.headers) = (parts.status, parts.headers);
            assert!(!self.status.is_server_error() || self.status == 503, "{method} {path}: {}", self.page);
            let Some(to) = self.headers.get(header::LOCATION).filter(|_| self.status.is_redirection()) else { break };
            path = to.to_str().expect("an address of text").to_owned();
            (method, content_type, body) = (Method::GET, None, Bytes::new());
        }
        self
    }

    fn take_cookies(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(header::SET_COOKIE) {
            let line = line.to_str().expect("a cookie of text");
            let (name, rest) = line.split_once('=').expect("a name and a value");
            let value = rest.split(';').next().unwrap_or_default();
            self.cookies.retain(|(known, _)| known != name);
            if !line.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }
}
