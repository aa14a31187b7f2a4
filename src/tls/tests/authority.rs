//! The authority as a client meets it: every test looks at what is served, with a verifier that trusts the CA alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration as StdDuration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use tls::{Authority, Clock, Error, ImportError, Names, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// A clock that the test moves.
#[derive(Clone)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn at_real_time() -> Self {
        Self(Arc::new(AtomicI64::new(OffsetDateTime::now_utc().unix_timestamp())))
    }
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0.load(Ordering::SeqCst)).unwrap()
    }
    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.whole_seconds(), Ordering::SeqCst);
    }
    fn clock(&self) -> Clock {
        let hands = self.clone();
        Arc::new(move || hands.now())
    }
}

struct World {
    dir: TempDir,
    hands: Hands,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), hands: Hands::at_real_time() }
    }
    fn setup(&self) -> Setup {
        Setup { clock: self.hands.clock(), ..Setup::in_state_dir(self.dir.path()) }
    }
    fn open(&self) -> Authority {
        self.try_open().unwrap()
    }
    fn try_open(&self) -> Result<Authority, Error> {
        Authority::open(self.setup())
    }
    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("tls").join(name)
    }
    /// The chain that a client sees now which trusts `ca` alone and asks for `name`.
    fn meet(&self, authority: &Authority, name: &str) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
        handshake(authority.server_config(), client(&authority.ca_pem(), self.hands.now()), name)
    }
    fn leaf(&self, authority: &Authority) -> CertificateDer<'static> {
        self.meet(authority, "localhost").unwrap().remove(0)
    }
}

#[derive(Debug)]
struct FixedTime(UnixTime);

impl rustls::time_provider::TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

fn client(ca_pem: &str, now: OffsetDateTime) -> Arc<ClientConfig> {
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

fn handshake(
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

fn names(host: &str, dns: &[&str], ips: &[&str]) -> Names {
    Names::new(host, dns, ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap())).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn openssl(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("this test needs the openssl program: apt-get install openssl");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

// What is served.

#[test]
fn a_client_that_trusts_the_root_alone_accepts_every_name_and_no_other() {
    let world = World::new();
    let authority = world.open();
    authority
        .set_names(names("cloud.example", &["localhost", "*.apps.example"], &["192.0.2.7", "2001:db8::7"]))
        .unwrap();
    for name in ["cloud.example", "localhost", "a.apps.example", "192.0.2.7", "2001:db8::7"] {
        let chain = world.meet(&authority, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(chain.len(), 2, "leaf, then intermediate, and no root");
    }
    for name in ["other.example", "192.0.2.8", "apps.example"] {
        world.meet(&authority, name).unwrap_err();
    }
}

#[test]
fn the_three_certificates_say_what_the_design_says() {
    let world = World::new();
    let authority = world.open();
    authority.set_names(names("cloud.example", &["localhost"], &["192.0.2.7"])).unwrap();
    let chain = world.meet(&authority, "cloud.example").unwrap();
    let root_der = CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap();
    let now = world.hands.now();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let (_, intermediate) = X509Certificate::from_der(&chain[1]).unwrap();
    let (_, root) = X509Certificate::from_der(&root_der).unwrap();

    for (certificate, days_at_least, days_at_most) in [(&root, 3650, 3654), (&intermediate, 364, 367)] {
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert_eq!(usage.value.flags.count_ones(), 2);
        let days = (certificate.validity().not_after.to_datetime() - now).whole_days();
        assert!((days_at_least - 2..=days_at_most).contains(&days), "{days}");
        assert!(certificate.is_ca());
    }
    assert_eq!(intermediate.basic_constraints().unwrap().unwrap().value.path_len_constraint, Some(0));

    let validity = leaf.validity();
    assert_eq!(validity.not_after.to_datetime(), now + Duration::hours(12));
    for certificate in [&root, &intermediate, &leaf] {
        assert_eq!(certificate.validity().not_before.to_datetime(), now - Duration::DAY);
        assert_eq!(certificate.public_key().algorithm.algorithm.to_id_string(), "1.2.840.10045.2.1");
        assert!(certificate.raw_serial().len() == 16 && certificate.raw_serial()[0] < 0x80);
    }
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().unwrap().unwrap();
    assert!(usage.value.server_auth && !usage.value.client_auth && !usage.value.any);
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(san.value.general_names.contains(&GeneralName::DNSName("cloud.example")));
    assert!(san.value.general_names.contains(&GeneralName::IPAddress(&[192, 0, 2, 7])));

    // Each names its issuer's key by the issuer's own identifier.
    let id = |certificate: &X509Certificate<'_>, own: bool| {
        certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) if own => Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) if !own => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        })
    };
    assert_eq!(id(&leaf, false), id(&intermediate, true));
    assert_eq!(id(&intermediate, false), id(&root, true));
    assert!(id(&leaf, true).is_some() && id(&root, true).is_some());
}

#[test]
fn alpn_offers_http_2_and_1_1_and_tls_1_2_is_spoken() {
    let world = World::new();
    let authority = world.open();
    let config = authority.server_config();
    assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap()).unwrap();
    let old = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    handshake(config, Arc::new(old), "localhost").unwrap();
}

#[test]
fn openssl_accepts_the_chain_with_the_root_alone() {
    let world = World::new();
    let authority = world.open();
    authority.set_names(names("cloud.example", &["localhost"], &["127.0.0.1"])).unwrap();
    let chain = world.meet(&authority, "localhost").unwrap();
    let write = |name: &str, der: &[u8]| {
        let path = world.dir.path().join(name);
        std::fs::write(&path, der).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (leaf, intermediate) = (write("leaf.der", &chain[0]), write("intermediate.der", &chain[1]));
    let ca = world.dir.path().join("ca.crt");
    let ca = ca.to_str().unwrap();
    for check in [["-verify_hostname", "cloud.example"], ["-verify_ip", "127.0.0.1"]] {
        let (passed, text) = openssl(
            &[
                &["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca][..],
                &check,
                &["-untrusted", &intermediate, &leaf],
            ]
            .concat(),
        );
        assert!(passed, "{text}");
    }
    let (_, text) = openssl(&["x509", "-in", ca, "-noout", "-fingerprint", "-sha256"]);
    assert!(text.trim().ends_with(&authority.fingerprint()), "{text} {}", authority.fingerprint());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_s_client_verifies_a_live_server_by_name_and_by_address() {
    let world = World::new();
    let authority = world.open();
    authority.set_names(names("cloud.example", &[], &["127.0.0.1"])).unwrap();
    let (port, stop) = echo_server(&authority).await;
    let ca = world.dir.path().join("ca.crt").to_str().unwrap().to_owned();
    for (flag, name) in [("-verify_hostname", "cloud.example"), ("-verify_ip", "127.0.0.1")] {
        for version in ["-tls1_2", "-tls1_3"] {
            let (ca, port) = (ca.clone(), format!("127.0.0.1:{port}"));
            let (passed, text) = tokio::task::spawn_blocking(move || {
                openssl(&["s_client", "-connect", &port, "-CAfile", &ca, "-verify_return_error", flag, name, version])
            })
            .await
            .unwrap();
            assert!(passed && text.contains("Verify return code: 0 (ok)"), "{flag} {version}: {text}");
        }
    }
    let port = format!("127.0.0.1:{port}");
    let (passed, text) = tokio::task::spawn_blocking(move || {
        openssl(&[
            "s_client",
            "-connect",
            &port,
            "-CAfile",
            &ca,
            "-verify_return_error",
            "-verify_hostname",
            "other.example",
        ])
    })
    .await
    .unwrap();
    assert!(!passed, "{text}");
    stop.store(true, Ordering::SeqCst);
}

// Renewal.

#[test]
fn the_leaf_is_renewed_at_half_its_life_and_not_before() {
    let world = World::new();
    let authority = world.open();
    let first = world.leaf(&authority);
    world.hands.advance(Duration::minutes(359));
    assert!(!authority.renew_if_due().unwrap().leaf);
    assert_eq!(world.leaf(&authority), first);
    world.hands.advance(Duration::minutes(1));
    let renewal = authority.renew_if_due().unwrap();
    assert!(renewal.leaf && !renewal.ca);
    assert_eq!(renewal.leaf_not_after, world.hands.now() + Duration::hours(12));
    assert_ne!(world.leaf(&authority), first);
}

#[test]
fn a_change_of_names_makes_a_new_leaf_and_the_same_names_do_not() {
    let world = World::new();
    let authority = world.open();
    assert!(authority.set_names(names("a.example", &["localhost"], &[])).unwrap().leaf);
    let first = world.leaf(&authority);
    assert!(!authority.set_names(names("A.example", &["localhost", "LOCALHOST."], &[])).unwrap().leaf);
    assert_eq!(world.leaf(&authority), first);
    assert!(authority.set_names(names("a.example", &["localhost"], &["192.0.2.9"])).unwrap().leaf);
    world.meet(&authority, "192.0.2.9").unwrap();
    // And the next start begins with them.
    world.meet(&world.open(), "192.0.2.9").unwrap();
}

#[test]
fn a_handshake_never_meets_a_leaf_that_is_not_valid_now() {
    let world = World::new();
    let authority = world.open();
    let year = Duration::days(365);
    for jump in [Duration::hours(13), Duration::days(40), year, -year, -year, year, year, Duration::days(-2)] {
        let before = world.leaf(&authority);
        world.hands.advance(jump);
        // No timer ran.
        let after = world.leaf(&authority);
        assert_ne!(before, after, "{jump}");
        let (_, parsed) = X509Certificate::from_der(&after).unwrap();
        assert_eq!(parsed.validity().not_after.to_datetime(), world.hands.now() + Duration::hours(12), "{jump}");
    }
    // What handshakes made without touching the disk is saved by the timer, and the next start continues with it.
    authority.renew_if_due().unwrap();
    let intermediate = world.meet(&authority, "localhost").unwrap().remove(1);
    assert_eq!(world.meet(&world.open(), "localhost").unwrap()[1], intermediate);
}

#[test]
fn our_own_intermediate_is_replaced_at_half_its_life_under_the_same_root() {
    let world = World::new();
    let authority = world.open();
    let (ca, first) = (authority.ca_pem(), world.meet(&authority, "localhost").unwrap().remove(1));
    world.hands.advance(Duration::days(170));
    authority.renew_if_due().unwrap();
    assert_eq!(world.meet(&authority, "localhost").unwrap()[1], first);
    world.hands.advance(Duration::days(15));
    assert!(!authority.renew_if_due().unwrap().ca);
    assert_ne!(world.meet(&authority, "localhost").unwrap()[1], first);
    assert_eq!(authority.ca_pem(), ca);
}

#[test]
fn a_wrong_clock_is_said_and_does_not_stop_the_service() {
    let world = World::new();
    let authority = world.open();
    assert_eq!(authority.status().problem, None);
    world.hands.advance(Duration::days(-400));
    authority.renew_if_due().unwrap();
    assert!(authority.status().problem.unwrap().contains("is not valid before"));
    world.meet(&authority, "localhost").unwrap();
    world.hands.advance(Duration::days(4500));
    authority.renew_if_due().unwrap();
    assert!(authority.status().problem.unwrap().contains("expired at"));
}

#[test]
fn a_first_boot_with_a_dead_clock_makes_a_root_that_lasts() {
    let world = World::new();
    world.hands.0.store(946_684_800, Ordering::SeqCst); // 2000-01-01
    let authority = world.open();
    world.meet(&authority, "localhost").unwrap();
    world.hands.0.store(Hands::at_real_time().0.load(Ordering::SeqCst), Ordering::SeqCst);
    authority.renew_if_due().unwrap();
    world.meet(&authority, "localhost").unwrap();
    assert_eq!(authority.status().problem, None);
    assert!(authority.status().ca_not_after > world.hands.now() + Duration::days(3000));
}

/// Answers every byte with itself, on each connection until it ends.
async fn echo_server(authority: &Authority) -> (u16, Arc<AtomicBool>) {
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

async fn connect(
    port: u16,
    ca: &str,
    now: OffsetDateTime,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(client(ca, now)).connect(name, tcp).await
}

async fn echo(stream: &mut tokio_rustls::client::TlsStream<TcpStream>, byte: u8) -> std::io::Result<()> {
    stream.write_all(&[byte]).await?;
    stream.flush().await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, [byte]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_fails_no_request_on_old_or_new_connections() {
    let world = World::new();
    let authority = world.open();
    let (port, stop) = echo_server(&authority).await;
    let ca = authority.ca_pem();
    let done = Arc::new(AtomicBool::new(false));
    let requests = Arc::new(AtomicUsize::new(0));
    let handshakes: Arc<[AtomicUsize; 8]> = Arc::default();

    let mut clients = Vec::new();
    for id in 0..16u8 {
        let (ca, hands, done) = (ca.clone(), world.hands.clone(), done.clone());
        let (requests, handshakes) = (requests.clone(), handshakes.clone());
        clients.push(tokio::spawn(async move {
            let mut leafs = std::collections::HashSet::new();
            let keep_alive = id % 2 == 0;
            let mut stream = connect(port, &ca, hands.now()).await?;
            while !done.load(Ordering::SeqCst) {
                if !keep_alive {
                    // The time is taken before the handshake: what is served then must be valid then.
                    stream = connect(port, &ca, hands.now()).await?;
                    handshakes[usize::from(id / 2)].fetch_add(1, Ordering::SeqCst);
                    leafs.insert(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec());
                }
                echo(&mut stream, id).await?;
                requests.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            // A connection of the beginning still works after all rotations.
            echo(&mut stream, id).await?;
            std::io::Result::Ok(leafs)
        }));
    }

    const ROTATIONS: usize = 240;
    let counts = || handshakes.each_ref().map(|count| count.load(Ordering::SeqCst));
    for round in 0..ROTATIONS {
        if round % 12 == 0 {
            // A handshake may see two moves of the clock, 20 hours, but not three: a client a day behind the server is
            // right to refuse.
            let before = counts();
            let deadline = std::time::Instant::now() + StdDuration::from_secs(30);
            while counts().iter().zip(before).any(|(now, before)| *now == before) {
                assert!(std::time::Instant::now() < deadline, "a client is stuck or gone: {:?}", counts());
                tokio::time::sleep(StdDuration::from_millis(1)).await;
            }
            match round / 12 % 3 {
                // Half life, found by the timer.
                0 => world.hands.advance(Duration::hours(7)),
                // Expired, found by a handshake.
                1 => {
                    world.hands.advance(Duration::hours(13));
                    tokio::time::sleep(StdDuration::from_millis(5)).await;
                }
                // The intermediate has to be made again.
                _ => std::fs::remove_file(world.file("intermediate.pem")).unwrap(),
            }
            assert!(authority.renew_if_due().unwrap().leaf || round / 12 % 3 == 1);
        } else {
            let name = format!("n{round}.example");
            assert!(authority.set_names(names("localhost", &[&name], &[])).unwrap().leaf);
        }
        tokio::time::sleep(StdDuration::from_millis(2)).await;
    }
    done.store(true, Ordering::SeqCst);
    let mut seen = std::collections::HashSet::new();
    for client in clients {
        seen.extend(client.await.unwrap().expect("a request failed during rotation"));
    }
    stop.store(true, Ordering::SeqCst);
    let (requests, connections) = (requests.load(Ordering::SeqCst), counts().iter().sum::<usize>());
    assert!(requests > 300 && connections > 100 && seen.len() > 40, "{requests} {connections} {}", seen.len());
}

// What is on disk.

#[test]
fn keys_are_private_from_the_start_and_again_after_somebody_opened_them() {
    let world = World::new();
    world.open();
    assert_eq!(mode(&world.dir.path().join("tls")), 0o700);
    for key in ["root.pem", "intermediate.pem"] {
        assert_eq!(mode(&world.file(key)), 0o600, "{key}");
        std::fs::set_permissions(world.file(key), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    world.open();
    for key in ["root.pem", "intermediate.pem"] {
        assert_eq!(mode(&world.file(key)), 0o600, "{key}");
    }
    assert_eq!(mode(&world.dir.path().join("ca.crt")), 0o644);
    // No other file of the directory holds a key, and nothing is left over from writing.
    for entry in std::fs::read_dir(world.dir.path().join("tls")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{name}");
        let holds_key = std::fs::read_to_string(entry.path()).unwrap().contains("PRIVATE KEY");
        assert_eq!(holds_key, ["root.pem", "intermediate.pem"].contains(&name.as_str()), "{name}");
    }
}

#[test]
fn the_root_survives_restarts_and_the_ca_file_is_put_back() {
    let world = World::new();
    let first = world.open();
    let second = world.open();
    assert_eq!(first.fingerprint(), second.fingerprint());
    let ca = world.dir.path().join("ca.crt");
    assert_eq!(std::fs::read_to_string(&ca).unwrap(), first.ca_pem());
    std::fs::write(&ca, "gone").unwrap();
    first.renew_if_due().unwrap();
    assert_eq!(std::fs::read_to_string(&ca).unwrap(), first.ca_pem());
}

#[test]
fn a_second_root_is_never_made_while_any_trace_of_the_first_is_left() {
    let all = ["root.pem", "root.crt", "intermediate.pem", "names", "../ca.crt"];
    for kept in &all[1..] {
        let world = World::new();
        world.open().set_names(names("a.example", &[], &[])).unwrap();
        for file in all.iter().filter(|file| file != &kept) {
            std::fs::remove_file(world.file(file)).unwrap();
        }
        let error = world.try_open().expect_err(kept);
        assert!(matches!(error, Error::RootLost { .. }), "{kept}: {error}");
        assert!(error.to_string().contains("Restore"), "{error}");
        assert!(!world.file("root.pem").exists(), "{kept}");
    }
}

#[test]
fn a_damaged_root_is_refused_with_the_reason_and_left_as_it_is() {
    let other = World::new();
    other.open();
    let foreign = std::fs::read_to_string(other.file("root.pem")).unwrap();
    let world = World::new();
    world.open();
    let good = std::fs::read_to_string(world.file("root.pem")).unwrap();
    let key_only = good.split("-----BEGIN CERTIFICATE").next().unwrap().to_owned();
    let certificate = &foreign[foreign.find("-----BEGIN CERTIFICATE").unwrap()..];
    let mixed = key_only.clone() + certificate;
    let truncated = good[..good.len() / 2].to_owned();
    for (content, reason) in [
        (String::new(), "no readable private key"),
        ("\0\u{1}garbage".into(), "no readable private key"),
        (key_only, "no certificate"),
        (truncated, ""),
        (mixed, "does not match"),
        (foreign, "another certificate"),
    ] {
        std::fs::write(world.file("root.pem"), &content).unwrap();
        let error = world.try_open().unwrap_err();
        assert!(matches!(error, Error::RootDamaged { .. }) && error.to_string().contains(reason), "{reason}: {error}");
        assert_eq!(std::fs::read_to_string(world.file("root.pem")).unwrap(), content);
    }
    std::fs::write(world.file("root.pem"), good).unwrap();
    world.open();
}

#[test]
fn an_interrupted_first_start_is_finished_by_the_next() {
    let world = World::new();
    std::fs::create_dir(world.dir.path().join("tls")).unwrap();
    std::fs::write(world.file(".root.pem.99.0"), "half").unwrap();
    let authority = world.open();
    for file in ["root.crt", "intermediate.pem", "../ca.crt"] {
        std::fs::remove_file(world.file(file)).unwrap();
    }
    assert_eq!(world.open().fingerprint(), authority.fingerprint());
    assert!(world.file("root.crt").exists());
}

#[test]
fn a_lost_or_damaged_own_intermediate_is_made_again_from_the_root() {
    for damage in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let world = World::new();
        let ca = world.open().ca_pem();
        std::fs::write(world.file("intermediate.pem"), damage).unwrap();
        let authority = world.open();
        assert_eq!(authority.ca_pem(), ca);
        world.meet(&authority, "localhost").unwrap();
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let error = Authority::open(Setup::in_state_dir(Path::new("/proc/solostack"))).unwrap_err();
    assert!(error.to_string().contains("/proc/solostack/tls"), "{error}");
}

// The operator's intermediate.

/// A company's certificates, as an operator would bring them.
struct Company {
    root: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

fn authority_params(name: &str) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::days(30), now + Duration::days(3000));
    params
}

impl Company {
    fn new(name: &str) -> Self {
        Self::with(name, |_| ())
    }
    fn with(name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        Self { root: rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap() }
    }
    /// Certificate and key of an intermediate of the usual kind, after `change`.
    fn intermediate(
        &self,
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
        self.intermediate_with(rcgen::KeyPair::generate().unwrap(), change)
    }
    fn intermediate_with(
        &self,
        key: rcgen::KeyPair,
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
        let mut params = authority_params("Company issuing");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        rcgen::CertifiedIssuer::signed_by(params, key, &self.root).unwrap()
    }
}

#[test]
fn a_brought_intermediate_replaces_ours_at_once_and_stays_after_a_restart() {
    let world = World::new();
    let authority = world.open();
    let own = authority.ca_pem();
    let company = Company::new("Company root");
    let brought = company.intermediate(|_| ());
    // Order in the file does not matter.
    let chain = company.root.pem() + &brought.pem();
    let renewal = authority.import_intermediate(&chain, &brought.key().serialize_pem(), None).unwrap();
    assert!(renewal.leaf && renewal.ca);
    assert_eq!(mode(&world.file("imported.pem")), 0o600);
    for authority in [&authority, &world.open()] {
        let served =
            handshake(authority.server_config(), client(&company.root.pem(), world.hands.now()), "localhost").unwrap();
        assert_eq!(served.len(), 2);
        assert_eq!(&served[1], brought.der());
        assert!(authority.status().imported && authority.status().ca_is_root);
        handshake(authority.server_config(), client(&own, world.hands.now()), "localhost").unwrap_err();
    }
    let ca = std::fs::read_to_string(world.dir.path().join("ca.crt")).unwrap();
    assert_eq!(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap(), *company.root.der());
    // It goes on renewing, and goes back when told.
    world.hands.advance(Duration::hours(7));
    assert!(authority.renew_if_due().unwrap().leaf);
    assert!(Authority::reset_import(&world.setup()).unwrap());
    assert!(authority.renew_if_due().unwrap().ca);
    assert_eq!(authority.ca_pem(), own);
    world.meet(&authority, "localhost").unwrap();
    assert!(!Authority::reset_import(&world.setup()).unwrap());
}

#[test]
fn an_import_by_another_process_is_taken_up_by_the_running_authority() {
    let world = World::new();
    let running = world.open();
    let company = Company::new("Company root");
    let brought = company.intermediate(|_| ());
    let other = world.open();
    other.import_intermediate(&brought.pem(), &brought.key().serialize_pem(), Some(&company.root.pem())).unwrap();
    let renewal = running.renew_if_due().unwrap();
    assert!(renewal.leaf && renewal.ca);
    handshake(running.server_config(), client(&company.root.pem(), world.hands.now()), "localhost").unwrap();
    let renewal = running.renew_if_due().unwrap();
    assert!(!renewal.leaf && !renewal.ca);
}

#[test]
fn without_its_root_a_brought_intermediate_serves_clients_that_have_the_root() {
    let world = World::new();
    let authority = world.open();
    let company = Company::new("Company root");
    let brought = company.intermediate(|_| ());
    authority.import_intermediate(&brought.pem(), &brought.key().serialize_pem(), None).unwrap();
    handshake(authority.server_config(), client(&company.root.pem(), world.hands.now()), "localhost").unwrap();
    assert!(!authority.status().ca_is_root);
    assert_eq!(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap(), *brought.der());
    world.open();
}

#[test]
fn a_longer_chain_is_served_whole_without_its_root() {
    let world = World::new();
    let authority = world.open();
    let company = Company::new("Company root");
    let middle = company.intermediate(|p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1)));
    let mut params = authority_params("Company lab");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let lab = rcgen::CertifiedIssuer::signed_by(params, rcgen::KeyPair::generate().unwrap(), &middle).unwrap();
    let file = lab.pem() + &middle.pem();
    authority.import_intermediate(&file, &lab.key().serialize_pem(), Some(&company.root.pem())).unwrap();
    let served =
        handshake(authority.server_config(), client(&company.root.pem(), world.hands.now()), "localhost").unwrap();
    assert_eq!(served[1..], [lab.der().clone(), middle.der().clone()]);
}

#[test]
fn of_two_roots_of_one_name_the_one_that_signed_is_taken() {
    let world = World::new();
    let authority = world.open();
    let (old, new) = (Company::new("Company root"), Company::new("Company root"));
    let brought = new.intermediate(|_| ());
    let file = brought.pem() + &old.root.pem() + &new.root.pem();
    authority.import_intermediate(&file, &brought.key().serialize_pem(), None).unwrap();
    assert_eq!(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap(), *new.root.der());
}

#[test]
fn a_certificate_with_any_byte_changed_is_refused_or_works() {
    let world = World::new();
    let authority = world.open();
    let company = Company::new("Company root");
    let brought = company.intermediate(|_| ());
    let key = brought.key().serialize_pem();
    let (mut refused, mut accepted) = (0, 0);
    let der = brought.der().to_vec();
    for index in 0..der.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = der.clone();
            bytes[index] ^= change;
            let file = pem_of(&bytes);
            match authority.import_intermediate(&file, &key, Some(&company.root.pem())) {
                Err(_) => refused += 1,
                Ok(_) => {
                    accepted += 1;
                    handshake(authority.server_config(), client(&company.root.pem(), world.hands.now()), "localhost")
                        .unwrap();
                }
            }
        }
    }
    // Everything in a certificate is signed, except how the signature itself may be written.
    assert!(refused > 3 * der.len() - 10 && accepted < 10, "{refused} {accepted}");
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn a_leaf_never_outlives_a_brought_intermediate_and_its_end_is_said() {
    let world = World::new();
    let authority = world.open();
    let company = Company::new("Company root");
    let end = world.hands.now() + Duration::hours(5);
    let brought = company.intermediate(|p| p.not_after = end);
    authority.import_intermediate(&brought.pem(), &brought.key().serialize_pem(), Some(&company.root.pem())).unwrap();
    assert_eq!(authority.leaf_not_after(), end);
    world.hands.advance(Duration::hours(4));
    assert!(!authority.renew_if_due().unwrap().leaf, "nothing to gain");
    world.hands.advance(Duration::hours(2));
    authority.renew_if_due().unwrap();
    assert!(authority.status().problem.unwrap().contains("expired at"));
    // It is still there to be inspected, and to be logged in to with `--insecure`.
    assert!(world.meet(&authority, "localhost").is_err());
    assert!(world.try_open().is_ok());
}

#[test]
fn name_constraints_leave_out_what_they_exclude_and_keep_the_host() {
    let world = World::new();
    let authority = world.open();
    authority.set_names(names("cloud.corp.example", &["localhost"], &["10.1.2.3", "192.0.2.1"])).unwrap();
    let company = Company::new("Company root");
    let brought = company.intermediate(|p| {
        p.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![
                rcgen::GeneralSubtree::DnsName("corp.example".into()),
                rcgen::GeneralSubtree::IpAddress(rcgen::CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8)),
            ],
            excluded_subtrees: vec![],
        });
    });
    authority.import_intermediate(&brought.pem(), &brought.key().serialize_pem(), Some(&company.root.pem())).unwrap();
    for allowed in ["cloud.corp.example", "10.1.2.3"] {
        world.meet(&authority, allowed).unwrap();
    }
    assert_eq!(authority.status().left_out, ["localhost", "192.0.2.1"]);
    assert!(authority.status().problem.unwrap().contains("localhost, 192.0.2.1"));
}

#[test]
fn every_intermediate_that_cannot_work_is_refused_with_its_reason_and_changes_nothing() {
    let world = World::new();
    let authority = world.open();
    let before = world.leaf(&authority);
    let now = world.hands.now();
    let company = Company::new("Company root");
    let other = Company::new("Other root");
    let fine = company.intermediate(|_| ());
    let key = fine.key().serialize_pem();
    let root = company.root.pem();
    let impostor = Company::new("Company root");

    let with = |change: fn(&mut rcgen::CertificateParams)| {
        let made = company.intermediate(change);
        (made.pem(), made.key().serialize_pem())
    };
    let leaf = with(|p| p.is_ca = rcgen::IsCa::ExplicitNoCa);
    let no_sign = with(|p| p.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]);
    let client_only = with(|p| p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth]);
    let excluded = with(|p| {
        p.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("corp.example".into())],
            excluded_subtrees: vec![],
        });
    });
    let expired = company.intermediate(|p| p.not_after = now - Duration::MINUTE);
    let future = company.intermediate(|p| p.not_before = now + Duration::HOUR);
    let dead_company = Company::with("Dead root", |p| p.not_after = now - Duration::DAY);
    let of_dead = dead_company.intermediate(|_| ());
    let short_company = Company::with("Short root", |p| {
        p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    });
    let of_short = short_company.intermediate(|_| ());
    let too_deep = {
        let params = authority_params("Company too deep");
        rcgen::CertifiedIssuer::signed_by(params, rcgen::KeyPair::generate().unwrap(), &fine).unwrap()
    };
    let foreign_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let (_, p521) = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]);
    let (_, short_rsa) = openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let (_, encrypted) =
        openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:x"]);
    let mut torn = fine.pem();
    torn.truncate(torn.len() / 2);
    let garbage = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n".to_owned();
    let huge = fine.pem() + &"#".repeat(300_000);
    let many = (0..17).map(|_| fine.pem()).collect::<String>();

    let pem = fine.pem();
    let cases: Vec<(&str, &str, &str, Option<&str>, &str)> = vec![
        ("KeyMismatch", &pem, &foreign_key, Some(&root), "does not match the certificate CN=Company issuing"),
        ("NotAuthority", &leaf.0, &leaf.1, Some(&root), "not a certificate authority"),
        ("KeyUsage", &no_sign.0, &no_sign.1, Some(&root), "keyCertSign is missing"),
        ("ExtendedKeyUsage", &client_only.0, &client_only.1, Some(&root), "serverAuth is missing"),
        ("NameConstraints", &excluded.0, &excluded.1, Some(&root), "do not allow the host localhost"),
        ("NoCertificate", "", &key, None, "holds no certificate"),
        ("NoCertificate", &key, &key, None, "holds no certificate"),
        ("NoKey", &pem, &pem, None, "holds no private key"),
        ("NoKey", &pem, "", None, "holds no private key"),
        ("KeyUnsupported", &pem, &p521, None, "P-256"),
        ("KeyUnsupported", &pem, &short_rsa, None, "RSA of 2048"),
        ("KeyEncrypted", &pem, &encrypted, None, "decrypt it first"),
        ("Unparsable", &torn, &key, None, "certificate file"),
        ("Unparsable", &garbage, &key, None, "certificate 1 of the file"),
        ("Unparsable", &pem, &key, Some(&garbage), "root file"),
        ("NoCertificate", &pem, &key, Some(""), "root file"),
        ("TooLarge", &huge, &key, None, "256 KiB"),
        ("TooLarge", &many, &key, None, "16 certificates"),
    ];
    for (kind, cert, key, root, text) in cases {
        let error = authority.import_intermediate(cert, key, root).expect_err(kind);
        assert!(
            format!("{error:?}").starts_with(kind) && error.to_string().contains(text),
            "{kind}: {error:?} {error}"
        );
    }
    let made = |issuer: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>| (issuer.pem(), issuer.key().serialize_pem());
    for (kind, (cert, key), root, text) in [
        ("Expired", made(&expired), root.clone(), "expired at"),
        ("NotYetValid", made(&future), root.clone(), "is not valid before"),
        ("Expired", made(&of_dead), dead_company.root.pem(), "CN=Dead root expired"),
        ("PathLength", (too_deep.pem() + &fine.pem(), too_deep.key().serialize_pem()), root.clone(), "allows 0"),
        ("ChainBroken", made(&fine), other.root.pem(), "is issued by CN=Company root"),
        (
            "ChainBroken",
            (too_deep.pem(), too_deep.key().serialize_pem()),
            root.clone(),
            "is issued by CN=Company issuing",
        ),
        ("ChainSignature", made(&fine), impostor.root.pem(), "was not signed by the key"),
        ("NotRoot", made(&fine), too_deep.pem(), "is not signed by itself"),
        ("SelfSigned", made(&company.root), root.clone(), "is a root"),
    ] {
        let error = authority.import_intermediate(&cert, &key, Some(&root)).expect_err(kind);
        assert!(
            format!("{error:?}").starts_with(kind) && error.to_string().contains(text),
            "{kind}: {error:?} {error}"
        );
    }
    // A root of path length 0 above one intermediate allows none below it but the leaf: that is fine.
    assert!(!world.file("imported.pem").exists());
    assert_eq!(world.leaf(&authority), before);
    let error = authority.import_intermediate(
        &of_short.pem(),
        &of_short.key().serialize_pem(),
        Some(&short_company.root.pem()),
    );
    assert!(matches!(error, Err(ImportError::PathLength { allowed: 0, present: 1, .. })), "{error:?}");
}

#[test]
fn an_intermediate_of_any_usual_key_and_a_windows_style_name_is_accepted() {
    let world = World::new();
    // The certificates below are made later than the clock was set.
    world.hands.advance(Duration::HOUR);
    let authority = world.open();
    let dir = world.dir.path();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        let (passed, text) = openssl(arguments);
        assert!(passed, "{arguments:?}: {text}");
    };
    let mut extensions = std::fs::File::create(dir.join("ext")).unwrap();
    writeln!(extensions, "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign").unwrap();
    run(&["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", &path("root.key")]);
    // Two components of one type, as directories of that company have them: every byte of the name must be copied.
    run(&[
        "req",
        "-x509",
        "-new",
        "-key",
        &path("root.key"),
        "-sha384",
        "-days",
        "99",
        "-subj",
        "/DC=example/DC=corp/CN=Corp root",
        "-out",
        &path("root.crt"),
    ]);
    let kinds: [(&str, &[&str]); 5] = [
        ("p256-sec1", &["ecparam", "-name", "prime256v1", "-genkey", "-out"]),
        ("p384", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out"]),
        ("rsa", &["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]),
        ("rsa-pkcs1", &["genrsa", "-traditional", "-out"]),
        ("ed25519", &["genpkey", "-algorithm", "ED25519", "-out"]),
    ];
    for (kind, generate) in kinds {
        let (key, csr, crt) =
            (path(&format!("{kind}.key")), path(&format!("{kind}.csr")), path(&format!("{kind}.crt")));
        run(&[generate, &[key.as_str()]].concat());
        run(&["req", "-new", "-key", &key, "-subj", "/DC=example/DC=corp/OU=a/OU=b/CN=Issuing & more", "-out", &csr]);
        run(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            &path("root.crt"),
            "-CAkey",
            &path("root.key"),
            "-CAcreateserial",
            "-sha384",
            "-days",
            "9",
            "-extfile",
            &path("ext"),
            "-out",
            &crt,
        ]);
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        authority
            .import_intermediate(&read(&crt), &read(&key), Some(&read(&path("root.crt"))))
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        let chain = world.meet(&authority, "localhost").unwrap_or_else(|error| panic!("{kind}: {error}"));
        std::fs::write(path("leaf.der"), &chain[0]).unwrap();
        run(&[
            "verify",
            "-CAfile",
            &path("root.crt"),
            "-untrusted",
            &crt,
            "-verify_hostname",
            "localhost",
            &path("leaf.der"),
        ]);
        world.open();
    }
}

#[test]
fn a_damaged_import_keeps_what_is_served_and_is_refused_at_the_next_start() {
    let world = World::new();
    let authority = world.open();
    let company = Company::new("Company root");
    let brought = company.intermediate(|_| ());
    authority.import_intermediate(&brought.pem(), &brought.key().serialize_pem(), Some(&company.root.pem())).unwrap();
    std::fs::write(world.file("imported.pem"), "oops").unwrap();
    assert!(matches!(authority.renew_if_due(), Err(Error::ImportDamaged { .. })));
    assert!(authority.status().problem.unwrap().contains("cannot be used"));
    world.hands.advance(Duration::hours(7));
    assert!(authority.renew_if_due().unwrap().leaf, "renewal goes on");
    assert!(authority.status().problem.is_some(), "and the problem stays visible");
    world.meet(&authority, "localhost").unwrap();
    let error = world.try_open().unwrap_err();
    assert!(error.to_string().contains("solostack ca reset"), "{error}");
    Authority::reset_import(&world.setup()).unwrap();
    world.open();
    authority.renew_if_due().unwrap();
    assert_eq!(authority.status().problem, None);
}
