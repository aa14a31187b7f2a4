//! The real program as a child process, and the plainest client there is: HTTP/1.1 over TLS on one connection that stays
//! open, trusting nothing but the cloud's own authority.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

/// A configuration with room for a thousand servers that take nothing; tokens and locks last as long as a run takes.
pub const ROOM: &str = "\
identity.token_lifetime_s = 86400
identity.lockout_duration_s = 86400
quota.instances = -1
quota.cores = -1
quota.ram_mib = -1
quota.ports = -1
scheduling.cpu_allocation_ratio = 100.0
scheduling.ram_allocation_ratio = 100.0
scheduling.disk_allocation_ratio = 100.0
scheduling.reserved_memory_mib = 0
scheduling.reserved_disk_gib = 0
";
/// Longer than anything takes, even on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running `solostack serve`; killed when dropped.
pub struct Program {
    process: Child,
    /// `127.0.0.1:<port>`
    pub authority: String,
    /// From before the process was made until it printed `ready`.
    pub took: Duration,
}

/// Where a program keeps everything, and how it is started.
#[derive(Clone, Debug)]
pub struct Place {
    pub binary: PathBuf,
    pub state: PathBuf,
    pub driver: &'static str,
    /// Lines of its configuration file.
    pub config: &'static str,
}

impl Place {
    pub fn log(&self) -> PathBuf {
        self.state.join("serve.log")
    }

    /// The end of the log, for a test that failed.
    pub fn log_end(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(4000)..]).into_owned()
    }

    /// A process that has only just begun.
    pub fn spawn(&self) -> io::Result<Child> {
        let config = self.state.join("solostack.toml");
        std::fs::write(&config, self.config)?;
        let log = File::options().create(true).append(true).open(self.log())?;
        Command::new(&self.binary)
            .args(["serve", "--listen", "127.0.0.1", "--https-port", "0", "--http-port", "0", "--service-ports", "off"])
            .args(["--public-host", "127.0.0.1", "--log-level", "warn", "--driver", self.driver])
            .arg("--state")
            .arg(&self.state)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
    }

    /// A process that answers.
    pub async fn start(&self) -> Program {
        let began = Instant::now();
        let mut process = self.spawn().expect("the program starts");
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().expect("a pipe"));
        let ready = tokio::time::timeout(PATIENCE, output.read_line(&mut line)).await;
        let took = began.elapsed();
        let authority = line.trim().strip_prefix("ready https://").map(|rest| rest.trim_end_matches('/').to_owned());
        let Some(authority) = authority.filter(|_| ready.is_ok()) else {
            panic!("no `ready` line but {line:?} ({ready:?}); the log ends:\n{}", self.log_end());
        };
        Program { process, authority, took }
    }

    fn openrc(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.state.join("admin-openrc")).expect("admin-openrc");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}="))).expect("a variable");
        line.trim_matches('\'').to_owned()
    }

    pub fn ca(&self) -> PathBuf {
        self.state.join("ca.crt")
    }
}

impl Program {
    /// SIGKILL, and waits for the process to be no more.
    pub async fn kill(mut self) {
        self.process.kill().await.expect("the process can be killed");
    }

    /// SIGTERM. Answers how long the end took.
    pub async fn stop(mut self) -> Duration {
        let began = Instant::now();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal to our own child");
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("an end in time").unwrap();
        assert!(status.success(), "SIGTERM ends the program with {status}");
        began.elapsed()
    }

    pub fn pid(&self) -> u32 {
        self.process.id().expect("a process that runs")
    }

    /// Memory that is there only for this process or shared with others, in MiB.
    pub fn resident_mib(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
        let kib: f64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kib / 1024.0
    }

    pub async fn connect(&self, place: &Place) -> io::Result<Connection> {
        let address = self.authority.parse().map_err(io::Error::other)?;
        Connection::open(address, trusting(&place.ca())).await
    }

    /// A connection with a fresh token for the administrator's project.
    pub async fn login(&self, place: &Place) -> io::Result<Connection> {
        let mut connection = self.connect(place).await?;
        let reply = connection.post("/identity/v3/auth/tokens", &password_request(place)).await?;
        assert_eq!(reply.status, 201, "{reply:?}");
        let token = reply.headers["x-subject-token"].to_str().expect("a token").to_owned();
        connection.token = Some(token);
        connection.project_id = reply.json()["token"]["project"]["id"].as_str().expect("an id").to_owned();
        Ok(connection)
    }
}

/// The body that asks for the administrator's token.
pub fn password_request(place: &Place) -> Value {
    let domain = json!({"id": "default"});
    let user = json!({"name": "admin", "domain": domain, "password": place.openrc("OS_PASSWORD")});
    json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": "admin", "domain": domain}},
    }})
}

/// TLS that trusts this authority and no other.
pub fn trusting(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(ca).expect("the authority's certificate");
    roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("a usable root");
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// One connection. An error means that it is broken and of no more use.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    pub token: Option<String>,
    pub project_id: String,
}

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// The body, if the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }
}

impl Connection {
    pub async fn open(address: SocketAddr, tls: Arc<ClientConfig>) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::from(address.ip());
        let stream = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender, authority: address.to_string(), token: None, project_id: String::new() })
    }

    pub async fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub async fn delete(&mut self, path: &str) -> io::Result<Reply> {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> io::Result<Reply> {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// The bytes of an image.
    pub async fn upload(&mut self, image_id: &str, bytes: Bytes) -> io::Result<Reply> {
        let headers = [("content-type", "application/octet-stream")];
        self.send(Method::PUT, &format!("/image/v2/images/{image_id}/file"), &headers, bytes).await
    }

    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> io::Result<Reply> {
        let response = self.begin(method, path, headers, body).await?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Reply { status: parts.status, headers: parts.headers, bytes })
    }

    /// As [`Connection::send`], up to where the body begins.
    pub async fn begin(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> io::Result<http::Response<hyper::body::Incoming>> {
        let mut request = Request::builder().method(method).uri(path).header("host", &self.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("x-auth-token", token);
        }
        let request = request.body(Full::new(body.into())).map_err(io::Error::other)?;
        self.sender.ready().await.map_err(io::Error::other)?;
        let sending = self.sender.send_request(request);
        tokio::time::timeout(PATIENCE, sending).await.map_err(io::Error::other)?.map_err(io::Error::other)
    }
}

/// Looks until `look` answers `Ok`; panics with what it saw last when the deadline has passed.
pub async fn wait_for<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) => assert!(began.elapsed() < deadline, "waited in vain for {what}: {seen}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
