//! Sockets: TLS on the shared port and the ports that OpenStack tools know, and the plain port that only points there.
//!
//! What must stay true:
//! - Nothing but `/ca.crt` is ever answered without TLS.
//! - A peer that is slow, silent or hostile costs one task and one descriptor until a deadline, and there is a bound on
//!   how many there may be.
//! - A new certificate reaches new connections by itself (see `tls`); nothing here restarts.
//! - After `stop`, requests under way are finished, and all is over by the deadline.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rest::{Arrival, ClientCertificate};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_util::sync::CancellationToken;

use crate::serve::Failure;
use config::{Config, SERVICE_PORTS};

/// From the first byte to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be idle, or take to send the head of a request.
const IDLE: Duration = Duration::from_secs(75);
/// How long requests under way may take after `stop`.
const DRAIN: Duration = Duration::from_secs(3);
/// Of all ports together: well above what a dashboard and a dozen tools open.
const MOST_CONNECTIONS: usize = 4096;
/// Wanted of the kernel. Not all it would give: programs we start inherit it, and some close every possible descriptor.
const DESCRIPTORS: u64 = 16_384;

/// The service behind each of [`SERVICE_PORTS`]; the console and the metadata port are pages, not services.
const SERVICES: [Option<&str>; 8] =
    [Some("identity"), Some("compute"), Some("image"), Some("network"), Some("placement"), Some("volume"), None, None];

/// Sockets that are bound and not served yet: what a client sends meanwhile waits in the kernel.
pub struct Listeners {
    tls: Vec<(TcpListener, Option<&'static str>)>,
    /// Asks clients for certificates.
    asking: Option<TcpListener>,
    plain: Option<TcpListener>,
    https_port: u16,
    most_connections: usize,
}

impl Listeners {
    /// Binds every port of the configuration.
    ///
    /// Errors name the port and the key that asks for it.
    pub async fn bind(config: &Config) -> Result<Self, Failure> {
        let shared = bind(config.listen_address(), config.https_port, "https_port").await?;
        let https_port = shared.local_addr()?.port();
        let mut tls = vec![(shared, None)];
        if config.service_ports {
            for (port, service) in SERVICE_PORTS.into_iter().zip(SERVICES) {
                tls.push((bind(config.listen_address(), port, "service_ports").await?, service));
            }
        }
        let asking = match config.client_certificates.port {
            Some(port) => Some(bind(config.listen_address(), port, "client_certificates.port").await?),
            None => None,
        };
        let plain = match config.http_port {
            Some(port) => Some(bind(config.listen_address(), port, "http_port").await?),
            None => None,
        };
        Ok(Self { tls, asking, plain, https_port, most_connections: most_connections() })
    }

    /// The shared port: what was asked for, or what was free if 0 was asked for.
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// Answers until `stop`, then lets requests under way end, for three seconds at most.
    ///
    /// `asking`: how the port that asks for client certificates speaks, where there is one.
    pub async fn serve<H, F>(
        self,
        authority: tls::Authority,
        asking: Option<Arc<ServerConfig>>,
        host: String,
        handler: H,
        stop: CancellationToken,
    ) where
        H: Fn(Arrival, Request) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let connections = Connections { slots: Arc::new(Semaphore::new(self.most_connections)), stop: stop.clone() };
        let acceptor = TlsAcceptor::from(authority.server_config());
        let plainly = self.tls.into_iter().map(|(listener, service)| (listener, service, acceptor.clone()));
        let asking = self.asking.zip(asking).map(|(listener, config)| (listener, None, TlsAcceptor::from(config)));
        for (listener, service, acceptor) in plainly.chain(asking) {
            let (handler, connections) = (handler.clone(), connections.clone());
            let serve = connections.clone().accept(listener, move |tcp, peer| {
                let (acceptor, handler, connections) = (acceptor.clone(), handler.clone(), connections.clone());
                async move {
                    let stream = tokio::select! {
                        () = connections.stop.cancelled() => return,
                        stream = handshake(tcp, acceptor) => stream,
                    };
                    let Some(stream) = stream else { return };
                    let arrival = Arrival { peer, scheme: "https", service };
                    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                    let shown = shown.map(|leaf| ClientCertificate { der: leaf.as_ref().into() });
                    let answer = move |mut request: Request| {
                        if let Some(shown) = &shown {
                            request.extensions_mut().insert(shown.clone());
                        }
                        handler(arrival, request)
                    };
                    connections.http(stream, answer).await;
                }
            });
            tokio::spawn(serve);
        }
        if let Some(listener) = self.plain {
            let target = Arc::new(Target { authority, host, https_port: self.https_port });
            let inner = connections.clone();
            let serve = connections.clone().accept(listener, move |tcp, _| {
                let (target, connections) = (target.clone(), inner.clone());
                async move {
                    let answer = move |request: Request| std::future::ready(target.answer(&request));
                    connections.http(tcp, answer).await;
                }
            });
            tokio::spawn(serve);
        }
        stop.cancelled().await;
        // Every connection task listens to `stop` itself; all of them have given back their slot when it is over.
        let all = u32::try_from(self.most_connections).unwrap_or(u32::MAX);
        if tokio::time::timeout(DRAIN, connections.slots.acquire_many(all)).await.is_err() {
            tracing::warn!("some requests were cut off at stop");
        }
    }
}

/// Raises the soft limit of descriptors, which is 1024 by tradition, and leaves half of it to disks, guests and database.
fn most_connections() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 256 };
    let wanted = soft.max(DESCRIPTORS.min(hard));
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    usize::try_from(limit / 2).unwrap_or(MOST_CONNECTIONS).clamp(16, MOST_CONNECTIONS)
}

async fn bind(address: IpAddr, port: u16, key: &str) -> Result<TcpListener, Failure> {
    let refused = |error: io::Error| {
        let help = match error.kind() {
            io::ErrorKind::AddrInUse => "; `solostack doctor` says by whom it is taken",
            io::ErrorKind::PermissionDenied => "; run it as root, or choose a port above 1023",
            _ => "",
        };
        format!("cannot listen on {} ({key}): {error}{help}", SocketAddr::new(address, port))
    };
    Ok(TcpListener::bind((address, port)).await.map_err(refused)?)
}

#[derive(Clone)]
struct Connections {
    slots: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Connections {
    /// One task per connection, as long as there are slots; without one, new connections wait in the kernel.
    async fn accept<C, F>(self, listener: TcpListener, connected: C)
    where
        C: Fn(TcpStream, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let slot = tokio::select! {
                () = self.stop.cancelled() => return,
                slot = self.slots.clone().acquire_owned() => slot,
            };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match (accepted, slot) {
                (Ok((tcp, peer)), Ok(slot)) => {
                    // Answers are written whole; waiting for more to send only delays them.
                    let _ = tcp.set_nodelay(true);
                    // An IPv4 peer of a socket for both has an address of IPv6.
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    let connection = connected(tcp, peer);
                    tokio::spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                (Err(error), _) => {
                    // Out of descriptors, most likely: those who are connected must get theirs done first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                (_, Err(_)) => return,
            }
        }
    }

    /// HTTP/1.1 or HTTP/2 on a stream, until either side has enough.
    async fn http<S, A, F>(&self, stream: S, answer: A)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(64 * 1024);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(IDLE)
            .max_concurrent_streams(128)
            .max_header_list_size(64 * 1024);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let answer = answer(request.map(Body::new));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // Clients hang up, scanners send nonsense: nothing an operator can act on.
            tracing::debug!(error = %Chain(error.as_ref()), "a connection ended early");
        }
    }
}

/// An error with its causes: the reason of a failed connection is two levels down.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// `None` when the peer does not speak TLS, or not in time.
async fn handshake(tcp: TcpStream, acceptor: TlsAcceptor) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let attempt = async {
        // A handshake record begins with 22, no HTTP method does.
        let mut first = [0];
        if tcp.peek(&mut first).await? == 1 && first[0] != 22 && first[0].is_ascii_alphabetic() {
            speak_tls(tcp).await;
            return Ok(None);
        }
        acceptor.accept(tcp).await.map(Some)
    };
    match tokio::time::timeout(HANDSHAKE, attempt).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// A client that was given `http://` instead of `https://` should hear so, and not a broken connection.
async fn speak_tls(mut tcp: TcpStream) {
    const TEXT: &str = "This port speaks HTTPS: use https:// instead of http:// in the address.\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{TEXT}",
        TEXT.len()
    );
    if tcp.write_all(answer.as_bytes()).await.is_ok() && tcp.shutdown().await.is_ok() {
        // Unread bytes at close would reset the connection before the answer is read.
        let mut rest = [0; 1024];
        for _ in 0..64 {
            match tcp.read(&mut rest).await {
                Ok(count) if count > 0 => (),
                _ => break,
            }
        }
    }
}

/// What the plain port knows.
struct Target {
    authority: tls::Authority,
    host: String,
    https_port: u16,
}

impl Target {
    fn answer(&self, request: &Request) -> Response {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            // A redirect would make the client send its secrets in the clear again and again.
            let text = "Requests are answered over HTTPS only: use https:// in the address.\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
        if request.uri().path() == "/ca.crt" {
            return ca(&self.authority);
        }
        let host = request.headers().get(header::HOST).and_then(|value| host_of(value.to_str().ok()?));
        let host = host.unwrap_or_else(|| bracketed(&self.host));
        let port = if self.https_port == 443 { String::new() } else { format!(":{}", self.https_port) };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let location = format!("https://{host}{port}{path}");
        match HeaderValue::from_str(&location) {
            Ok(location) => (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response(),
            Err(_) => StatusCode::BAD_REQUEST.into_response(),
        }
    }
}

/// What clients must trust, as a file to save. The answer of `/ca.crt` on every port.
pub fn ca(authority: &tls::Authority) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/x-x509-ca-cert"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"ca.crt\""),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, authority.ca_pem()).into_response()
}

/// The host of a `Host` header, if it is one; with brackets if it needs them.
fn host_of(header: &str) -> Option<String> {
    if header.contains('@') {
        return None;
    }
    let authority: http::uri::Authority = header.parse().ok()?;
    let host = authority.host();
    tls::Names::new(host, [""; 0], []).ok()?;
    Some(host.to_owned())
}

/// The host in the URLs we hand out: as configured, or the address listened on, or the address by which this machine
/// reaches others, which is the one that others most likely reach it by.
pub fn public_host(config: &Config) -> String {
    if let Some(host) = &config.public_host {
        return host.clone();
    }
    if !config.listen.is_unspecified() {
        return config.listen.to_string();
    }
    // Connecting a datagram socket sends nothing; it asks the routing table. The addresses are for documentation.
    let source = |from: &str, to: &str| {
        let socket = std::net::UdpSocket::bind(from)?;
        socket.connect(to)?;
        socket.local_addr().map(|address| address.ip())
    };
    source("0.0.0.0:0", "192.0.2.1:9")
        .or_else(|_| source("[::]:0", "[2001:db8::1]:9"))
        .ok()
        // A link-local address is one together with an interface, which a URL cannot name.
        .filter(|address| !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()))
        .unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
        .to_string()
}

/// As it stands in a URL.
pub fn bracketed(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_header_loses_its_port_and_nonsense_is_no_host() {
        for (header, host) in [
            ("cloud.example", Some("cloud.example")),
            ("cloud.example:8080", Some("cloud.example")),
            ("[2001:db8::1]:80", Some("[2001:db8::1]")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("", None),
            ("a b", None),
            ("evil.example/path", None),
            ("user@evil.example@x", None),
        ] {
            assert_eq!(host_of(header).as_deref(), host, "{header}");
        }
        assert_eq!((bracketed("::1"), bracketed("a.b")), ("[::1]".into(), "a.b".into()));
    }
}
