//! Certificates of the running program, as clients and the operator meet them. Needs `openssl`; everything else is the
//! binary itself, with the fake driver, on free ports of 127.0.0.1.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;

const PROGRAM: &str = env!("CARGO_BIN_EXE_solostack");
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `solostack serve`, ended when dropped.
struct Cloud {
    state: Arc<TempDir>,
    process: Child,
    https_port: u16,
    http_port: u16,
    output: BufReader<std::process::ChildStdout>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn serve(state: &Path, http_port: u16) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg("--state").arg(state).args(["--listen", "127.0.0.1", "--https-port", "0"]);
    command.args(["--http-port", &http_port.to_string(), "--service-ports", "off"]);
    command.args(["--public-host", "cloud.example", "--driver", "fake", "--log-level", "warn"]);
    command.stdin(Stdio::null());
    command
}

impl Cloud {
    fn start() -> Self {
        Self::start_on(Arc::new(TempDir::new().unwrap()))
    }

    fn start_on(state: Arc<TempDir>) -> Self {
        let http_port = free_port();
        let mut process = serve(state.path(), http_port).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("ready https://cloud.example:").unwrap_or_else(|| panic!("{line:?}"));
        let https_port = url.trim_end_matches('/').parse().unwrap();
        Self { state, process, https_port, http_port, output }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    fn ca(&self) -> String {
        std::fs::read_to_string(self.file("ca.crt")).unwrap()
    }

    fn s_client(&self, ca: &Path, host: &str) -> (bool, String) {
        let output = openssl(&[
            "s_client",
            "-connect",
            &format!("127.0.0.1:{}", self.https_port),
            "-CAfile",
            ca.to_str().unwrap(),
            "-verify_return_error",
            "-verify_hostname",
            host,
            "-servername",
            host,
        ]);
        (output.status.success(), text(&output))
    }

    async fn connect(&self, cas: &[&str]) -> std::io::Result<Connection> {
        Connection::open(self.https_port, client(cas)).await
    }

    /// The certificate in service.
    async fn leaf(&self, cas: &[&str]) -> Vec<u8> {
        self.connect(cas).await.unwrap().leaf
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn openssl(arguments: &[&str]) -> Output {
    let command = Command::new("openssl").args(arguments).stdin(Stdio::null()).output();
    command.expect("this test needs the openssl program: apt-get install openssl")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn solostack(arguments: &[&str], state: &Path) -> Output {
    Command::new(PROGRAM).args(arguments).arg("--state").arg(state).stdin(Stdio::null()).output().unwrap()
}

/// Trusts exactly these.
fn client(cas: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    // A resumed session shows no certificate.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

struct Connection {
    requests: SendRequest<Body>,
    leaf: Vec<u8>,
}

impl Connection {
    async fn open(port: u16, client: Arc<ClientConfig>) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("cloud.example").unwrap();
        let stream = tokio_rustls::TlsConnector::from(client).connect(name, tcp).await?;
        let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let (requests, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { requests, leaf })
    }

    /// Status and body.
    async fn get(&mut self, path: &str) -> std::io::Result<(u16, String)> {
        let request = http::Request::get(path).header("host", "cloud.example").body(Body::empty()).unwrap();
        self.requests.ready().await.map_err(std::io::Error::other)?;
        let answer = self.requests.send_request(request).await.map_err(std::io::Error::other)?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// What a plain HTTP client gets.
fn plain(port: u16, request: &str) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A company's authority and an intermediate of it, as files.
struct Company {
    dir: TempDir,
    root_pem: String,
}

impl Company {
    fn new(name: &str) -> Self {
        let authority = |name: &str, path_length: rcgen::BasicConstraints| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = rcgen::IsCa::Ca(path_length);
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
            let now = time::OffsetDateTime::now_utc();
            (params.not_before, params.not_after) = (now - time::Duration::DAY, now + time::Duration::days(30));
            params
        };
        let key = || rcgen::KeyPair::generate().unwrap();
        let root_name = format!("{name} root");
        let root =
            rcgen::CertifiedIssuer::self_signed(authority(&root_name, rcgen::BasicConstraints::Unconstrained), key())
                .unwrap();
        let params = authority(&format!("{name} issuing"), rcgen::BasicConstraints::Constrained(0));
        let issuing = rcgen::CertifiedIssuer::signed_by(params, key(), &root).unwrap();
        let dir = TempDir::new().unwrap();
        for (file, content) in
            [("root.crt", root.pem()), ("cert.pem", issuing.pem()), ("key.pem", issuing.key().serialize_pem())]
        {
            std::fs::write(dir.path().join(file), content).unwrap();
        }
        Self { dir, root_pem: root.pem() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn import(&self, state: &Path) -> Output {
        let [cert, key, root] = ["cert.pem", "key.pem", "root.crt"].map(|name| self.path(name));
        let paths = [cert.to_str().unwrap(), key.to_str().unwrap(), root.to_str().unwrap()];
        solostack(&["ca", "import", "--cert", paths[0], "--key", paths[1], "--root", paths[2]], state)
    }
}

async fn within_deadline<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn openssl_verifies_the_running_cloud_with_the_root_alone() {
    let cloud = Cloud::start();
    for host in ["cloud.example", "localhost"] {
        let (passed, text) = cloud.s_client(&cloud.file("ca.crt"), host);
        assert!(passed && text.contains("Verify return code: 0 (ok)"), "{host}: {text}");
    }
    let (passed, _) = cloud.s_client(&cloud.file("ca.crt"), "other.example");
    assert!(!passed);
    let stranger = Company::new("Stranger");
    let (passed, _) = cloud.s_client(&stranger.path("root.crt"), "cloud.example");
    assert!(!passed);
}

#[tokio::test]
async fn the_ca_is_handed_out_with_and_without_tls_and_all_else_is_sent_to_https() {
    let cloud = Cloud::start();
    let ca = cloud.ca();
    let mut connection = cloud.connect(&[&ca]).await.unwrap();
    assert_eq!(connection.get("/ca.crt").await.unwrap(), (200, ca.clone()));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: cloud.example\r\nConnection: close\r\n\r\n");
    let answer = plain(cloud.http_port, &get("/ca.crt"));
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&ca), "{answer}");
    let answer = plain(cloud.http_port, &get("/identity/v3?a=b"));
    let location = format!("location: https://cloud.example:{}/identity/v3?a=b\r\n", cloud.https_port);
    assert!(answer.starts_with("HTTP/1.1 308 ") && answer.contains(&location), "{answer}");
    let post = "POST /identity/v3/auth/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answer = plain(cloud.http_port, post);
    assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains("location"), "a password must not be sent twice");
    // And who forgets the s in https hears so.
    let answer = plain(cloud.https_port, &get("/identity/v3"));
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    let shown = solostack(&["ca", "show"], cloud.state.path());
    let fingerprint =
        openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", cloud.file("ca.crt").to_str().unwrap()]);
    let fingerprint = text(&fingerprint).trim().rsplit('=').next().unwrap().to_owned();
    assert!(text(&shown).contains(&fingerprint), "{}", text(&shown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_load_and_no_request_fails() {
    let cloud = Cloud::start();
    let (own, companies) = (cloud.ca(), [Company::new("One"), Company::new("Two")]);
    let cas = [own.as_str(), companies[0].root_pem.as_str(), companies[1].root_pem.as_str()];
    let done = Arc::new(AtomicBool::new(false));
    let requests = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for id in 0..8 {
        let (done, requests, config, port) = (done.clone(), requests.clone(), client(&cas), cloud.https_port);
        clients.push(tokio::spawn(async move {
            let mut leafs = HashSet::new();
            let mut connection = Connection::open(port, config.clone()).await?;
            while !done.load(Ordering::SeqCst) {
                if id % 2 == 0 {
                    connection = Connection::open(port, config.clone()).await?;
                }
                leafs.insert(connection.leaf.clone());
                let (status, _) = connection.get("/ca.crt").await?;
                if status != 200 {
                    return Err(std::io::Error::other(format!("status {status}")));
                }
                requests.fetch_add(1, Ordering::SeqCst);
                // Some load, not all that two processors can give: the rotation has to get a turn.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            std::io::Result::Ok(leafs)
        }));
    }

    const ROTATIONS: usize = 6;
    for round in 0..ROTATIONS {
        let before = cloud.leaf(&cas).await;
        match round % 3 {
            0 => {
                let output = companies[round / 3].import(cloud.state.path());
                assert!(output.status.success(), "{}", text(&output));
            }
            1 => {
                let output = solostack(&["ca", "reset"], cloud.state.path());
                assert!(output.status.success(), "{}", text(&output));
            }
            // Our own intermediate is lost: another is made from the root.
            _ => std::fs::remove_file(cloud.file("tls/intermediate.pem")).unwrap(),
        }
        within_deadline("another certificate is served", async || cloud.leaf(&cas).await != before).await;
    }
    done.store(true, Ordering::SeqCst);
    let mut leafs = HashSet::new();
    for client in clients {
        leafs.extend(client.await.unwrap().expect("a request failed during rotation"));
    }
    let requests = requests.load(Ordering::SeqCst);
    assert!(requests > 200 && leafs.len() > ROTATIONS, "{requests} requests, {} certificates", leafs.len());
}

#[tokio::test]
async fn an_import_is_live_within_seconds_and_survives_a_restart() {
    let cloud = Cloud::start();
    let company = Company::new("Company");
    let own = cloud.ca();
    let output = company.import(cloud.state.path());
    assert!(output.status.success() && text(&output).contains("Company root"), "{}", text(&output));
    let port = cloud.https_port;
    let live = async || Connection::open(port, client(&[&company.root_pem])).await.is_ok();
    within_deadline("the company's root alone verifies", live).await;
    let (passed, said) = cloud.s_client(&company.path("root.crt"), "cloud.example");
    assert!(passed, "{said}");
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    within_deadline("ca.crt follows", async || der(&cloud.ca()) == der(&company.root_pem)).await;
    let (_, served) = cloud.connect(&[&company.root_pem]).await.unwrap().get("/ca.crt").await.unwrap();
    assert_eq!(der(&served), der(&company.root_pem));

    let state = cloud.state.clone();
    drop(cloud);
    let cloud = Cloud::start_on(state.clone());
    cloud.connect(&[&company.root_pem]).await.unwrap();
    drop(cloud);
    // And back, while nothing runs.
    let output = solostack(&["ca", "reset"], state.path());
    assert!(output.status.success(), "{}", text(&output));
    let cloud = Cloud::start_on(state);
    cloud.connect(&[&own]).await.unwrap();
}

#[tokio::test]
async fn a_bad_import_is_refused_with_its_reason_and_changes_nothing() {
    let cloud = Cloud::start();
    let (company, other) = (Company::new("Company"), Company::new("Other"));
    let own = cloud.ca();
    let before = cloud.leaf(&[&own]).await;
    std::fs::copy(other.path("key.pem"), company.path("key.pem")).unwrap();
    let output = company.import(cloud.state.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("does not match the certificate CN=Company issuing"), "{}", text(&output));
    std::fs::copy(company.path("root.crt"), other.path("root.crt")).unwrap();
    let output = other.import(cloud.state.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("the chain is broken: CN=Other issuing"), "{}", text(&output));
    assert!(!cloud.file("tls/imported.pem").exists());
    assert_eq!(cloud.leaf(&[&own]).await, before);
}

#[test]
fn a_cloud_that_lost_its_root_refuses_to_start_and_says_what_to_restore() {
    let cloud = Cloud::start();
    let state = cloud.state.clone();
    drop(cloud);
    std::fs::remove_file(state.path().join("tls/root.pem")).unwrap();
    let output = serve(state.path(), free_port()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("tls/root.pem is missing") && said.contains("Restore"), "{said}");
    assert!(output.stdout.is_empty());
    assert!(!state.path().join("tls/root.pem").exists());
}

#[tokio::test]
async fn silent_slow_and_garbled_peers_keep_nobody_else_out() {
    let cloud = Cloud::start();
    let ca = cloud.ca();
    let mut peers = Vec::new();
    for number in 0..600 {
        let port = if number % 3 == 0 { cloud.http_port } else { cloud.https_port };
        let mut peer = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _ = match number % 5 {
            0 => Ok(()),
            1 => peer.write_all(&[22, 3, 1, 2, 0, 1]),
            2 => peer.write_all(b"\x16\x03\x01\xff\xff\xff\xff\xff\xff\xff"),
            3 => peer.write_all(b"GET / HT"),
            _ => peer.write_all(&[0; 300]),
        };
        peers.push(peer);
    }
    let began = Instant::now();
    let mut connection = cloud.connect(&[&ca]).await.unwrap();
    assert_eq!(connection.get("/ca.crt").await.unwrap().0, 200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Oversized heads are refused, on a connection of their own.
    let head = format!("GET /ca.crt HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let mut peer = std::net::TcpStream::connect(("127.0.0.1", cloud.http_port)).unwrap();
    let _ = peer.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = peer.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(connection.get("/ca.crt").await.unwrap().0, 200);
}

#[tokio::test]
async fn sigterm_ends_it_in_time_though_connections_are_open_and_ready_was_all_it_said() {
    let mut cloud = Cloud::start();
    let ca = cloud.ca();
    let mut idle = cloud.connect(&[&ca]).await.unwrap();
    assert_eq!(idle.get("/ca.crt").await.unwrap().0, 200);
    // One that never says a word.
    let _silent = std::net::TcpStream::connect(("127.0.0.1", cloud.https_port)).unwrap();
    let began = Instant::now();
    cloud.signal("-TERM");
    let status = loop {
        if let Some(status) = cloud.process.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "still there after 5 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(0));
    let mut rest = String::new();
    cloud.output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}
