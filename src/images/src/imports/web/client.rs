//! One GET, over as many redirects as are reasonable, each to an address that the guard has looked at. The connection is
//! made to the very address that was checked: a name that changes its mind meanwhile changes nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::guard::Guard;

const REDIRECTS_MAX: usize = 5;
const CONNECT: Duration = Duration::from_secs(10);
/// From the request to the head of the answer.
const HEAD: Duration = Duration::from_secs(60);

/// Why nothing came. The texts are for the user who asked.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// It will not be better next time.
    #[error("{0}")]
    Refused(String),
    /// It may.
    #[error("{0}")]
    Unreachable(String),
}

/// The body of an answer. The connection lives as long as this does.
#[derive(Debug)]
pub struct Fetched {
    pub body: Body,
    /// What the server announced.
    pub length: Option<u64>,
    _connection: Connection,
}

#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Fetches web data. Authorities are read when the first `https` URL is asked for: few clouds ever do.
pub struct Client {
    guard: Guard,
    ca_file: Option<PathBuf>,
    tls: OnceLock<Result<TlsConnector, String>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl Client {
    /// `ca_file`: a PEM file of the authorities to trust, instead of the system's.
    pub fn new(guard: Guard, ca_file: Option<PathBuf>) -> Self {
        Self { guard, ca_file, tls: OnceLock::new() }
    }

    fn tls(&self) -> Result<&TlsConnector, Why> {
        let made = self.tls.get_or_init(|| {
            let roots = match &self.ca_file {
                Some(path) => from_file(path)?,
                None => from_system(),
            };
            let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Ok(TlsConnector::from(Arc::new(config)))
        });
        made.as_ref().map_err(|error| {
            tracing::warn!(error, "the authorities for downloads cannot be used");
            Why::Refused("This cloud has no authorities to check certificates with.".to_owned())
        })
    }

    /// What can be said of a URL at once.
    ///
    /// # Errors
    /// Why it is not fetched.
    pub fn check(&self, uri: &str) -> Result<Address, String> {
        let address = Address::parse(uri).map_err(|why| format!("it {why}"))?;
        self.guard.check_url(&address)?;
        Ok(address)
    }

    /// # Errors
    /// Why nothing came.
    pub async fn get(&self, uri: &str) -> Result<Fetched, Why> {
        let mut address = self.check(uri).map_err(|why| Why::Refused(format!("The URL may not be fetched: {why}.")))?;
        for _ in 0..=REDIRECTS_MAX {
            let (status, headers, body, connection) = self.ask(&address).await?;
            let host = &address.authority;
            if status == StatusCode::OK {
                return fetched(host, &headers, body, connection);
            }
            if !status.is_redirection() {
                let text = format!("{host} answered with status {}.", status.as_u16());
                // A server that is overloaded may have it in a moment.
                let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
                return Err(if passing { Why::Unreachable(text) } else { Why::Refused(text) });
            }
            let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| Why::Refused(format!("{host} redirects to nowhere.")))?;
            let next =
                address.follow(location).map_err(|why| Why::Refused(format!("{host} redirects to what {why}.")))?;
            self.guard
                .check_url(&next)
                .map_err(|why| Why::Refused(format!("{host} redirects to what may not be fetched: {why}.")))?;
            address = next;
        }
        Err(Why::Refused(format!("There are more than {REDIRECTS_MAX} redirects.")))
    }

    /// An address of the host that may be connected to, connected.
    async fn connect(&self, address: &Address) -> Result<TcpStream, Why> {
        let host = &address.host;
        let looked_up = tokio::time::timeout(CONNECT, tokio::net::lookup_host((host.as_str(), address.port))).await;
        let found: Vec<SocketAddr> = match looked_up {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(_)) => return Err(Why::Refused(format!("The host {host} is not known."))),
            Err(_) => return Err(Why::Unreachable(format!("The host {host} could not be looked up in time."))),
        };
        let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| self.guard.admits(address.ip())).collect();
        if allowed.is_empty() {
            // Which address it has is not told: a name must not become a way to look around in here.
            return Err(Why::Refused(format!("The host {host} has no address that may be fetched from.")));
        }
        let mut last = String::new();
        for address in allowed.into_iter().take(4) {
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error.kind().to_string(),
                Err(_) => last = format!("no answer within {} s", CONNECT.as_secs()),
            }
        }
        Err(Why::Unreachable(format!("{} cannot be connected to: {last}.", address.authority)))
    }

    async fn ask(&self, address: &Address) -> Result<(StatusCode, HeaderMap, Incoming, Connection), Why> {
        let stream = self.connect(address).await?;
        let exchange = async {
            if !address.tls {
                return speak(TokioIo::new(stream), address).await;
            }
            let name = ServerName::try_from(address.host.clone())
                .map_err(|_| Why::Refused(format!("{} is no name that a certificate can have.", address.host)))?;
            let stream = self.tls()?.connect(name, stream).await.map_err(|error| {
                Why::Refused(format!("The certificate of {} is not accepted: {error}.", address.authority))
            })?;
            speak(TokioIo::new(stream), address).await
        };
        match tokio::time::timeout(HEAD, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(Why::Unreachable(format!("{} did not answer within {} s.", address.authority, HEAD.as_secs())))
            }
        }
    }
}

async fn speak<S>(stream: S, address: &Address) -> Result<(StatusCode, HeaderMap, Incoming, Connection), Why>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let lost = |error: hyper::Error| {
        Why::Unreachable(format!("{} does not speak HTTP as it should: {error}.", address.authority))
    };
    let request = Request::get(&address.path)
        .header(header::HOST, &address.authority)
        .header(header::ACCEPT, "*/*")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, "solostack")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Why::Refused("The URL cannot be asked for.".to_owned()))?;
    let (mut sender, connection) = http1::handshake(stream).await.map_err(lost)?;
    let connection = Connection(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a download's connection ended");
        }
    }));
    let response = sender.send_request(request).await.map_err(lost)?;
    let (parts, body) = response.into_parts();
    Ok((parts.status, parts.headers, body, connection))
}

fn fetched(host: &str, headers: &HeaderMap, body: Incoming, connection: Connection) -> Result<Fetched, Why> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Why::Refused(format!("{host} sends the data in an encoding that was not asked for.")));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(Fetched { body: Body::new(body), length, _connection: connection })
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let fail = |why: String| format!("{}: {why}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))? {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    if roots.is_empty() { Err(fail("it holds no certificate".into())) } else { Ok(roots) }
}

fn from_system() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(found.certs);
    if unusable > 0 || !found.errors.is_empty() {
        tracing::debug!(unusable, errors = found.errors.len(), "some authorities of this system are not usable");
    }
    roots
}
