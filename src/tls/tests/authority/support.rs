//! A clock that tests move, a state directory, a client that verifies.

pub use std::io::Write;
pub use std::net::IpAddr;
pub use std::os::unix::fs::PermissionsExt;
pub use std::path::Path;
pub use std::process::{Command, Stdio};
pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
pub use std::time::Duration as StdDuration;

pub use rustls::pki_types::pem::PemObject;
pub use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
pub use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
pub use tempfile::TempDir;
pub use time::{Duration, OffsetDateTime};
pub use tls::{Authority, Clock, Error, ImportError, Names, Setup};
pub use tokio::io::{AsyncReadExt, AsyncWriteExt};
pub use tokio::net::{TcpListener, TcpStream};
pub use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// A clock that the test moves.
#[derive(Clone)]
pub struct Hands(pub Arc<AtomicI64>);

impl Hands {
    pub fn at_real_time() -> Self {
        Self(Arc::new(AtomicI64::new(OffsetDateTime::now_utc().unix_timestamp())))
    }
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0.load(Ordering::SeqCst)).unwrap()
    }
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.whole_seconds(), Ordering::SeqCst);
    }
    pub fn clock(&self) -> Clock {
        let hands = self.clone();
        Arc::new(move || hands.now())
    }
}

pub struct World {
    pub dir: TempDir,
    pub hands: Hands,
}

impl World {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), hands: Hands::at_real_time() }
    }
    pub fn setup(&self) -> Setup {
        Setup { clock: self.hands.clock(), ..Setup::in_state_dir(self.dir.path()) }
    }
    pub fn open(&self) -> Authority {
        self.try_open().unwrap()
    }
    pub fn try_open(&self) -> Result<Authority, Error> {
        Authority::open(self.setup())
    }
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("tls").join(name)
    }
    /// The chain that a client sees now which trusts `ca` alone and asks for `name`.
    pub fn meet(&self, authority: &Authority, name: &str) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
        handshake(authority.server_config(), client(&authority.ca_pem(), self.hands.now()), name)
    }
    pub fn leaf(&self, authority: &Authority) -> CertificateDer<'static> {
        self.meet(authority, "localhost").unwrap().remove(0)
    }
}

#[derive(Debug)]
pub struct FixedTime(UnixTime);

impl rustls::time_provider::TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

pub fn client(ca_pem: &str, now: OffsetDateTime) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let now = UnixTime::since_unix_epoch(StdDuration::from_secs(now.unix_timestamp().try_into().unwrap()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Arc::new(
        ClientConfig::builder_with_details(provider, Arc::new(FixedTime(now)))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

pub fn handshake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: &str,
) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(client.peer_certificates().unwrap().iter().map(|c| c.clone().into_owned()).collect())
}

pub fn names(host: &str, dns: &[&str], ips: &[&str]) -> Names {
    Names::new(host, dns, ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap())).unwrap()
}

pub fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub fn openssl(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("this test needs the openssl program: apt-get install openssl");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

// What is served.

/// Answers every byte with itself, on each connection until it ends.
pub async fn echo_server(authority: &Authority) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(authority.server_config());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    tokio::spawn(async move {
        while !stopped.load(Ordering::SeqCst) {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                let mut buffer = [0; 64];
                while let Ok(count) = stream.read(&mut buffer).await {
                    if count == 0 || stream.write_all(&buffer[..count]).await.is_err() || stream.flush().await.is_err()
                    {
                        break;
                    }
                }
                let _ = stream.shutdown().await;
            });
        }
    });
    (port, stop)
}

pub async fn connect(
    port: u16,
    ca: &str,
    now: OffsetDateTime,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(client(ca, now)).connect(name, tcp).await
}

pub async fn echo(stream: &mut tokio_rustls::client::TlsStream<TcpStream>, byte: u8) -> std::io::Result<()> {
    stream.write_all(&[byte]).await?;
    stream.flush().await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, [byte]);
    Ok(())
}
