//! The log, also to a syslog server: RFC 5424 messages in RFC 6587's octet counting over TCP, or over TLS (RFC 5425).
//!
//! What must stay true:
//! - the program never waits for the server: an event is put into a bounded queue, and is counted as lost when that is full;
//! - whatever an event holds, it stays one message, and its fields stay inside their structured data;
//! - only the operator's authorities, or the system's, vouch for a TLS server.
//!
//! TCP does not say what arrived: what was on its way when a connection broke may be lost without being counted.

mod connection;
mod message;
mod queue;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

pub use self::queue::Counts;
use self::{message::Head, queue::Queue};

/// Events of this target are about sending itself, and are not sent.
pub(crate) const TARGET: &str = "syslog";

/// Where the log goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    pub port: u16,
    /// `None`: plain TCP.
    pub tls: Option<Tls>,
    /// As RFC 5424 numbers them: 3 is `daemon`, 16 is `local0`.
    pub facility: u8,
}

/// How a server shows that it is the right one.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// PEM; `None`: the system's authorities.
    pub ca: Option<Vec<u8>>,
}

/// The layer that hands events to the thread that sends them.
#[derive(Debug)]
pub struct SyslogLayer {
    queue: Arc<Queue>,
    head: Head,
}

/// What the rest of the program knows of the sending. Clones share everything.
#[derive(Clone, Debug)]
pub struct Sending {
    queue: Arc<Queue>,
}

/// What this process sends, for its numbers: the log is set up before there is anything to hand it to.
static OWN: Mutex<Option<Sending>> = Mutex::new(None);

/// Starts the thread that sends, and gives the layer that feeds it.
///
/// # Errors
/// When the authorities cannot be read, or there are no threads.
pub fn start(target: Target) -> io::Result<(SyslogLayer, Sending)> {
    let queue = Arc::new(Queue::default());
    let head = Head::of_this_process(target.facility);
    let connector = connection::Connector::new(target)?;
    let sender = connection::Sender { connector, queue: Arc::clone(&queue), head: head.clone() };
    std::thread::Builder::new().name("syslog".into()).spawn(move || sender.run())?;
    let sending = Sending { queue: Arc::clone(&queue) };
    *OWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(sending.clone());
    Ok((SyslogLayer { queue, head }, sending))
}

/// The sending that was started last, if one was.
#[must_use]
pub fn own() -> Option<Sending> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Sending {
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// Waits until all is sent, for so long at most: at the end of the program.
    pub fn flush(&self, patience: Duration) {
        self.queue.wait_until_empty(patience);
    }
}

impl<S: Subscriber> Layer<S> for SyslogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            self.queue.put(message::of_event(&self.head, event));
        }
    }
}
