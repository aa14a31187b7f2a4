//! The thread that sends: connects, writes, and begins again when the connection breaks.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::{TARGET, Target, message, queue::Queue};
use crate::trust;

const CONNECT: Duration = Duration::from_secs(10);
const WRITE: Duration = Duration::from_secs(30);
/// Between two tries: from the first to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How a connection is made.
#[derive(Debug)]
pub(crate) struct Connector {
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Connector {
    pub(crate) fn new(target: Target) -> io::Result<Self> {
        let Target { host, port, tls, .. } = target;
        let tls = match tls {
            None => None,
            Some(tls) => {
                let roots = trust::authorities(tls.ca.as_deref())?;
                if roots.is_empty() {
                    return Err(io::Error::other("there is no authority that could vouch for the server"));
                }
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                Some((trust::client(roots)?, name))
            }
        };
        Ok(Self { host, port, tls })
    }

    fn connect(&self) -> io::Result<Connection> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(tcp) => return self.open(tcp),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn open(&self, tcp: TcpStream) -> io::Result<Connection> {
        tcp.set_write_timeout(Some(WRITE))?;
        tcp.set_read_timeout(Some(CONNECT))?;
        let Some((config, name)) = &self.tls else { return Ok(Connection::Plain(tcp)) };
        let client = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(client, tcp);
        // Before anything of the log is written: is it the right one?
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Connection::Tls(Box::new(stream)))
    }
}

enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Fails if the server has hung up: what is written then would be lost without a word.
    fn look(&mut self) -> io::Result<()> {
        self.tcp().set_nonblocking(true)?;
        // Servers say nothing; what they say is not heard.
        let mut bytes = [0; 1024];
        let looked = match self {
            Self::Plain(tcp) => tcp.read(&mut bytes),
            Self::Tls(stream) => stream.read(&mut bytes),
        };
        self.tcp().set_nonblocking(false)?;
        match looked {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up")),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.look()?;
        match self {
            Self::Plain(tcp) => tcp.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

/// Sends for the life of the program.
pub(crate) struct Sender {
    pub connector: Connector,
    pub queue: Arc<Queue>,
    pub head: message::Head,
}

impl Sender {
    pub(crate) fn run(self) {
        let (mut connection, mut pause) = (None, PAUSES.0);
        // Of this outage: whether it was said, and of how many lost messages the server knows.
        let (mut said, mut known_lost) = (false, 0);
        let server = format!("{}:{}", self.connector.host, self.connector.port);
        loop {
            let (bytes, count) = self.queue.first();
            match self.send(&mut connection, &bytes, known_lost) {
                Ok(lost) => {
                    self.queue.sent(count);
                    if said || lost > known_lost {
                        let lost = lost - known_lost;
                        tracing::warn!(target: TARGET, server, lost, "the syslog server takes messages again");
                    }
                    (pause, said, known_lost) = (PAUSES.0, false, lost);
                }
                Err(error) => {
                    connection = None;
                    if !said {
                        tracing::warn!(
                            target: TARGET, server, %error, "the syslog server takes nothing; what does not fit into the queue is lost"
                        );
                        said = true;
                    }
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "nothing tells when the server takes messages again"
                    )]
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Writes, after connecting where that is needed, and after saying how many messages are missing: answers how many the
    /// server then knows of.
    fn send(&self, connection: &mut Option<Connection>, bytes: &[u8], known_lost: u64) -> io::Result<u64> {
        let open = match connection {
            Some(open) => open,
            None => connection.insert(self.connector.connect()?),
        };
        let lost = self.queue.counts().lost;
        if lost > known_lost {
            let text = format!("{} messages were lost: the queue was full", lost - known_lost);
            open.write(&message::of_text(&self.head, &text))?;
        }
        open.write(bytes).map(|()| lost)
    }
}
