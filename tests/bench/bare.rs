//! What a token is weighed against: a bare axum handler that answers the same bytes over TLS, in a process of its own as the
//! program is, with as many threads. Beside a client in one process it would save the changes between processes that the
//! program has to pay.

use std::{
    io::{self, BufRead, Read, Write},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use axum::{Router, body::Body, routing::get};
use http::header;
use hyper::body::Bytes;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{Ask, program::trusting, rate};

/// The only argument of a process that is the handler.
pub const ARGUMENT: &str = "bare-handler";
const PATH: &str = "/bare";

/// A running handler; killed when dropped.
pub struct Bare {
    process: Child,
    /// `127.0.0.1:<port>`
    authority: String,
    tls: Arc<rustls::ClientConfig>,
}

impl Bare {
    pub fn start(bytes: &[u8]) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.take().unwrap().write_all(bytes).unwrap();
        let output = io::BufReader::new(process.stdout.take().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        let authority = lines.next().unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap();
        for line in lines {
            writeln!(&ca, "{line}").unwrap();
            if line.contains("END CERTIFICATE") {
                break;
            }
        }
        Self { process, authority, tls: trusting(ca.path()) }
    }
}

impl Bare {
    /// Requests per second.
    pub async fn rate(&self) -> f64 {
        rate(&self.authority, &self.tls, None, &Ask::get(PATH)).await
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // Either it has ended by itself or it ends now.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Answers what standard input holds, after its address and its certificate went to standard output, until it is killed.
pub fn serve() {
    let mut body = Vec::new();
    io::stdin().read_to_end(&mut body).unwrap();
    let bytes = Bytes::from(body);
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route(
        PATH,
        get(move || {
            let bytes = bytes.clone();
            async move { ([(header::CONTENT_TYPE, "application/json")], Body::from(bytes)) }
        }),
    );
    // As the program counts its own.
    let threads = std::thread::available_parallelism().unwrap().get().max(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        println!("{address}");
        print!("{}", made.cert.pem());
        io::stdout().flush().unwrap();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(tcp).await.unwrap();
                let service = TowerToHyperService::new(router);
                // A client that hangs up is the end of every connection here.
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}
