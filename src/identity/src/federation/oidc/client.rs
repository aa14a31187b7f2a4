//! The one HTTP client: one request per connection, no redirects, bounded answers, a deadline for the whole.

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{OidcProvider, Why, address::Address};

/// From the first packet to the last byte.
const DEADLINE: Duration = Duration::from_secs(5);
/// Discovery documents and key sets take a few kilobytes.
const ANSWER_MAX_BYTES: usize = 256 << 10;

#[derive(Clone)]
pub(crate) struct Client {
    tls: TlsConnector,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// Who asks, by the issuer's own name for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Basic<'a> {
    pub id: &'a str,
    pub secret: &'a str,
}

impl Client {
    pub(crate) fn new(provider: &OidcProvider) -> Result<Self, String> {
        let roots = match &provider.ca_file {
            Some(path) => from_file(path)?,
            None => from_system(),
        };
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    pub(crate) async fn get(&self, address: &Address) -> Result<Bytes, Why> {
        let (status, body) = self.send(address, "GET", None, None).await?;
        only_ok(address, status, body)
    }

    /// Posts a form; the status is the caller's to judge.
    pub(crate) async fn post(
        &self,
        address: &Address,
        basic: Option<Basic<'_>>,
        form: &[(&str, &str)],
    ) -> Result<(StatusCode, Bytes), Why> {
        let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.send(address, "POST", basic, Some(text)).await
    }

    async fn send(
        &self,
        address: &Address,
        method: &str,
        basic: Option<Basic<'_>>,
        form: Option<String>,
    ) -> Result<(StatusCode, Bytes), Why> {
        let mut request = Request::builder()
            .method(method)
            .uri(&address.path)
            .header(header::HOST, &address.authority)
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close")
            .header(header::USER_AGENT, "solostack");
        if form.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        if let Some(Basic { id, secret }) = basic {
            // RFC 6749, 2.3.1: both are form-encoded first.
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
            request = request.header(header::AUTHORIZATION, format!("Basic {pair}"));
        }
        let request = request
            .body(Full::new(Bytes::from(form.unwrap_or_default())))
            .map_err(|error| Why::Unreachable(error.to_string()))?;
        let name = &address.authority;
        match tokio::time::timeout(DEADLINE, self.exchange(address, request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Why::Unreachable(format!("{name}: {error}"))),
            Err(_) => Err(Why::Unreachable(format!("{name} did not answer within {} s", DEADLINE.as_secs()))),
        }
    }

    async fn exchange(
        &self,
        address: &Address,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        if address.tls {
            let name = ServerName::try_from(address.host.clone())?;
            speak(TokioIo::new(self.tls.connect(name, stream).await?), request).await
        } else {
            speak(TokioIo::new(stream), request).await
        }
    }
}

async fn speak<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    // Ends with the answer or the deadline, whichever is first: dropping it closes the connection.
    let mut connection = std::pin::pin!(connection);
    let answer = async {
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                format!("the answer is longer than {ANSWER_MAX_BYTES} bytes").into()
            } else {
                error
            }
        })?;
        Ok((parts.status, body.to_bytes()))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        done = &mut answer => done,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}

/// A redirect is no answer: it would lead where nobody configured.
fn only_ok(address: &Address, status: StatusCode, body: Bytes) -> Result<Bytes, Why> {
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(Why::Unreachable(format!("{}{} answered with status {}", address.authority, address.path, status.as_u16())))
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let fail = |why: String| format!("ca_file {}: {why}", path.display());
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    if roots.is_empty() { Err(fail("it holds no certificate".into())) } else { Ok(roots) }
}

fn from_system() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "authorities of this system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(found.certs);
    if unusable > 0 {
        tracing::debug!(unusable, "some authorities of this system are not usable");
    }
    roots
}
