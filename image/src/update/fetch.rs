//! An update from an `https` URL, read while it comes. What it is worth is decided by its signature; the rest is bounded here.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::trust;

const REDIRECTS_MAX: usize = 5;
const BYTES_MAX: u64 = 16 << 30;
/// From the name to the head of the answer.
const HEAD: Duration = Duration::from_secs(60);
/// Without a single byte.
const SILENCE: Duration = Duration::from_secs(60);

/// Whether it is to be fetched, and not a file.
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// The bytes of an answer as they come; to be read where it may block.
#[derive(Debug)]
pub struct Download {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.rest = chunk?,
            }
        }
        let n = self.rest.len().min(buffer.len());
        let piece = self.rest.split_to(n);
        if let Some(place) = buffer.get_mut(..n) {
            place.copy_from_slice(&piece);
        }
        Ok(n)
    }
}

/// Begins to fetch `url`. `ca_file`: authorities to trust instead of the system's.
///
/// # Errors
/// Why nothing comes, in words for an operator.
pub async fn fetch(url: &str, ca_file: Option<&Path>) -> Result<Download, String> {
    let tls = connector(ca_file)?;
    let mut uri: Uri = url.parse().map_err(|_| format!("{url} is no URL"))?;
    for _ in 0..=REDIRECTS_MAX {
        let answer = tokio::time::timeout(HEAD, ask(&uri, &tls)).await;
        let response = answer.map_err(|_| format!("{uri} does not answer within {} s", HEAD.as_secs()))??;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(receive(response.into_body()));
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location.filter(|_| status.is_redirection()) else {
            return Err(format!("{uri} answers with status {}", status.as_u16()));
        };
        uri = follow(&uri, location)?;
    }
    Err(format!("{url} redirects more than {REDIRECTS_MAX} times"))
}

fn follow(from: &Uri, location: &str) -> Result<Uri, String> {
    let authority = from.authority().map(ToString::to_string).unwrap_or_default();
    let text = if location.starts_with('/') { format!("https://{authority}{location}") } else { location.to_owned() };
    text.parse().map_err(|_| format!("{from} redirects to {location}, which is no URL"))
}

async fn ask(uri: &Uri, tls: &TlsConnector) -> Result<http::Response<Incoming>, String> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    if uri.scheme_str() != Some("https") || host.is_empty() {
        return Err(format!("{uri} is no https URL"));
    }
    let about = |what: &str, error: &dyn std::fmt::Display| format!("{uri} {what}: {error}");
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443)));
    let stream = stream.await.map_err(|error| about("cannot be connected to", &error))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| about("has an odd name", &error))?;
    let stream =
        tls.connect(name, stream).await.map_err(|error| about("has no certificate that is accepted", &error))?;
    let speaks = "does not speak HTTP as it should";
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| about(speaks, &error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a download's connection ended");
        }
    });
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request = Request::get(path)
        .header(header::HOST, uri.authority().map(ToString::to_string).unwrap_or_default())
        .header(header::USER_AGENT, "solostack")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| about("cannot be asked for", &error))?;
    sender.send_request(request).await.map_err(|error| about(speaks, &error))
}

fn receive(mut body: Incoming) -> Download {
    let (sender, chunks) = mpsc::channel(8);
    tokio::spawn(async move {
        let mut sum = 0_u64;
        loop {
            let chunk = match tokio::time::timeout(SILENCE, body.frame()).await {
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came for a minute")),
                Ok(None) => return,
                Ok(Some(Err(error))) => Err(io::Error::other(error)),
                Ok(Some(Ok(frame))) => Ok(frame.into_data().unwrap_or_default()),
            };
            sum += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
            let chunk = if sum > BYTES_MAX { Err(io::Error::other("it is larger than any update")) } else { chunk };
            let last = chunk.is_err();
            if sender.send(chunk).await.is_err() || last {
                return;
            }
        }
    });
    Download { chunks, rest: Bytes::new() }
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let roots = match ca_file {
        Some(path) => std::fs::read(path)
            .and_then(|pem| trust::authorities(Some(&pem)))
            .map_err(|error| format!("{}: {error}", path.display()))?,
        None => trust::authorities(None).map_err(|error| error.to_string())?,
    };
    Ok(TlsConnector::from(trust::client(roots).map_err(|error| error.to_string())?))
}
