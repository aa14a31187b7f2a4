//! The metadata service's front door: a listener inside each network's namespace. Who asks is told by where the packet
//! came from, its network and its source address, which the firewall lets no other port use; never by a header.
//!
//! What guests send is bounded: connections per network, header size, body size, and time.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use db::params;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};

/// The port that a metadata request came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub network_id: String,
    pub port_id: String,
    /// The server.
    pub device_id: String,
    pub project_id: String,
    pub address: IpAddr,
}

/// Answers a guest's request. Set by Compute.
pub type MetadataHandler = Arc<dyn Fn(Caller, Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

/// What answering needs; not the whole of [`crate::App`], whose end closes the listeners.
#[derive(Clone)]
pub(crate) struct Front {
    pub db: db::Db,
    pub handler: Arc<RwLock<Option<MetadataHandler>>>,
    pub network_id: String,
}

const CONNECTIONS_PER_NETWORK: usize = 64;
const CONNECTIONS: usize = 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const HEADER_MAX_BYTES: usize = 16 * 1024;
const BODY_MAX_BYTES: usize = 64 * 1024;

static ALL: Semaphore = Semaphore::const_new(CONNECTIONS);

/// Accepts until it is aborted, which closes the listener.
pub(crate) async fn listen(front: Front, listener: std::net::TcpListener) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let here = Arc::new(Semaphore::new(CONNECTIONS_PER_NETWORK));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the peer is gone already: neither ends the service.
                tracing::debug!(network.id = front.network_id, %error, "accepting a metadata connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&here).try_acquire_owned() else { continue };
        let Ok(global) = ALL.try_acquire() else { continue };
        let front = front.clone();
        tokio::spawn(async move {
            let _held = (permit, global);
            serve(front, peer, stream).await;
        });
    }
}

/// Serves one connection.
pub(crate) async fn serve<S>(front: Front, peer: SocketAddr, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = match peer.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let front = front.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(front, address, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(peer = %peer, %error, "a metadata connection ended"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

async fn answer(front: Front, address: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Front { db, handler, network_id } = front;
    let handler = handler.read().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(handler) = handler else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "the metadata service has not started yet");
    };
    let network = network_id.clone();
    let caller = match db.read(move |tx| identify(tx, &network, address)).await {
        Ok(Some(caller)) => caller,
        Ok(None) => {
            tracing::info!(network.id = network_id, %address, "a metadata request from an address that no port has");
            return plain(StatusCode::NOT_FOUND, "no server has this address");
        }
        Err(error) => {
            tracing::error!(network.id = network_id, causes = error.causes(), "identifying a metadata caller");
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be answered");
        }
    };
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MAX_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or was cut off"),
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, handler(caller, Request::from_parts(parts, body))).await {
        Ok(response) => response.map(Full::new),
        Err(_) => plain(StatusCode::GATEWAY_TIMEOUT, "the answer took too long"),
    }
}

/// The port on this network that has the address.
pub(crate) fn identify(tx: &db::Tx<'_>, network_id: &str, address: IpAddr) -> rest::Result<Option<Caller>> {
    Ok(tx.find(
        "SELECT p.id, p.device_id, p.project_id FROM network_fixed_ip f JOIN network_port p ON p.id = f.port_id
         WHERE f.network_id = ?1 AND f.address = ?2 AND p.device_id <> '' AND p.device_owner NOT LIKE 'network:%'",
        params![network_id, address.to_string()],
        |row| {
            Ok(Caller {
                network_id: network_id.to_owned(),
                port_id: row.get(0)?,
                device_id: row.get(1)?,
                project_id: row.get(2)?,
                address,
            })
        },
    )?)
}
