//! The log at a syslog server of the test's own.

use std::{
    io::{BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;

use crate::{PATIENCE, Service};

/// One message: its length, a space, and so many bytes.
fn message(stream: &mut impl Read) -> std::io::Result<String> {
    let mut length = String::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        match byte[0] {
            b' ' => break,
            digit @ b'0'..=b'9' => length.push(char::from(digit)),
            other => panic!("{other} is no digit of a length"),
        }
    }
    let mut text = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8(text).unwrap())
}

/// Reads until a message contains `wanted`.
fn wait_for(stream: &mut impl Read, wanted: &str) -> String {
    let (began, mut seen) = (Instant::now(), Vec::new());
    while began.elapsed() < PATIENCE {
        let text = message(stream).unwrap_or_else(|error| panic!("no {wanted} but {error} after {seen:?}"));
        if text.contains(wanted) {
            return text;
        }
        seen.push(text);
    }
    panic!("no {wanted} in {seen:?}");
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn here() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn config(address: &str, more: &str) -> String {
    format!("[log.syslog]\naddress = \"{address}\"\n{more}\n")
}

#[test]
fn the_log_arrives_as_messages_of_rfc_5424_and_again_after_a_break() {
    let (listener, address) = here();
    let mut service = Service::start(&config(&address, "transport = \"tcp\"\nfacility = \"local3\""), |_| ());
    let mut stream = accept(&listener);
    let text = wait_for(&mut stream, "hypervisor chosen");
    // local3, information
    assert!(text.starts_with("<158>1 20"), "{text}");
    let words: Vec<&str> = text.split(' ').collect();
    assert_eq!((words[3], words[4]), ("solostack", service.process.id().to_string().as_str()), "{text}");
    assert_eq!(words[5], "solostack::cloud", "{text}");
    assert!(text.contains(" [solostack@32473 driver=\"fake\" reason=\"asked for"), "{text}");
    // The server is gone; what is said now waits for it.
    drop((stream, listener));
    service.stop_begin();
    let listener = TcpListener::bind(&address).unwrap();
    wait_for(&mut accept(&listener), "stopping; servers run on");
    service.wait();
}

#[test]
fn a_server_that_is_away_or_does_not_read_holds_nothing_up_and_is_named_once() {
    let (listener, address) = here();
    drop(listener);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut service = Service::start(&config(&address, "transport = \"tcp\""), |command| {
        command.stderr(Stdio::from(log.reopen().unwrap()));
    });
    let began = Instant::now();
    let text = loop {
        let text = std::fs::read_to_string(log.path()).unwrap();
        if text.contains("takes nothing") {
            break text;
        }
        assert!(began.elapsed() < PATIENCE, "{text}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(text.contains(&address), "{text}");
    let began = Instant::now();
    service.stop();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(text.matches("takes nothing").count(), 1, "{text}");

    // One that accepts and never reads.
    let (_listener, address) = here();
    let mut service = Service::start(&config(&address, "transport = \"tcp\""), |_| ());
    service.stop();
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

fn server(authority: &Authority) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority.issuer).unwrap();
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

#[test]
fn over_tls_only_a_server_that_the_operators_authority_vouches_for_gets_the_log() {
    let (ours, theirs) = (authority(), authority());
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, &ours.pem).unwrap();
    let (listener, address) = here();
    let more = format!("ca_file = \"{}\"", file.display());
    let _service = Service::start(&config(&address, &more), |_| ());
    // Somebody else, first.
    let mut stream = StreamOwned::new(ServerConnection::new(server(&theirs)).unwrap(), accept(&listener));
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    assert!(read.is_err() && bytes.is_empty(), "{read:?}: {}", String::from_utf8_lossy(&bytes));
    drop(stream);
    let mut stream = StreamOwned::new(ServerConnection::new(server(&ours)).unwrap(), accept(&listener));
    let text = wait_for(&mut BufReader::new(&mut stream), "hypervisor chosen");
    assert!(text.starts_with("<30>1 "), "{text}");
    let _ = stream.flush();
}

#[test]
fn what_is_wrong_with_the_configuration_is_said_before_anything_starts() {
    let dir = TempDir::new().unwrap();
    for (more, wanted) in [
        ("address = \"x.test\"", "is not a host and a port"),
        ("address = \"x.test:0\"", "is not a host and a port"),
        ("address = \"a b:1\"", "is not a host and a port"),
        ("address = \"2001:db8::1:1\"", "is not a host and a port"),
        ("transport = \"tcp\"", "but log.syslog.address is missing"),
        ("address = \"x.test:1\"\ntransport = \"tcp\"\nca_file = \"/x\"", "log.syslog.ca_file is for tls alone"),
        ("address = \"x.test:1\"\nca_file = \"/nowhere/ca.pem\"", "log.syslog: /nowhere/ca.pem: No such file"),
        ("address = \"x.test:1\"\ntransport = \"udp\"", "is not one of tls, tcp"),
    ] {
        let file = dir.path().join("solostack.toml");
        std::fs::write(&file, format!("[log.syslog]\n{more}\n")).unwrap();
        let state = dir.path().join("state");
        let mut command = Command::new(crate::PROGRAM);
        command.args(["serve", "--state"]).arg(&state).arg("--config").arg(&file);
        command.args(["--driver", "fake", "--https-port", "0", "--http-port", "0", "--service-ports", "off"]);
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(wanted), "{more}: {said}");
    }
}
