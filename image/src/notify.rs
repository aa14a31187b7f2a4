//! Telling systemd how the service is (sd_notify(3)): a datagram of `NAME=value` lines to the socket that it names in the
//! environment. Nothing here waits: who does not read its socket misses a word, and hears the next one.
//!
//! The environment is read, never changed; programs that `serve` starts get none of it, since each clears its own.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// What systemd is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// Start-up is over: every API answers.
    Ready,
    Stopping,
    /// One line for a person: `systemctl status` shows it.
    Status(&'a str),
    /// All is well; said again and again, or the service is started anew.
    Watchdog,
}

/// A socket that somebody listens to.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    to: SocketAddr,
    /// How long systemd waits for the next [`Word::Watchdog`]; `None`: it does not wait for any.
    watchdog: Option<Duration>,
}

/// What systemd put into the environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub notify_socket: Option<OsString>,
    pub watchdog_usec: Option<OsString>,
    pub watchdog_pid: Option<OsString>,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn own() -> Self {
        Self {
            notify_socket: std::env::var_os("NOTIFY_SOCKET"),
            watchdog_usec: std::env::var_os("WATCHDOG_USEC"),
            watchdog_pid: std::env::var_os("WATCHDOG_PID"),
        }
    }
}

impl Notifier {
    /// `None` where nobody asked to be told.
    ///
    /// # Errors
    /// When the environment names something that is no socket here.
    pub fn of(environment: &Environment) -> io::Result<Option<Self>> {
        let Some(name) = environment.notify_socket.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Some(Self { socket, to: address(name)?, watchdog: watchdog(environment, std::process::id()) }))
    }

    /// How long systemd waits for [`Word::Watchdog`]; to be said twice in that time.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Says all of this at once.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn say(&self, words: &[Word<'_>]) -> io::Result<()> {
        let lines: Vec<String> = words.iter().map(line).collect();
        self.socket.send_to_addr(lines.join("\n").as_bytes(), &self.to).map(|_| ())
    }
}

fn line(word: &Word<'_>) -> String {
    match word {
        Word::Ready => "READY=1".into(),
        Word::Stopping => "STOPPING=1".into(),
        Word::Watchdog => "WATCHDOG=1".into(),
        // A line break would begin another assignment.
        Word::Status(text) => {
            let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(512).collect();
            format!("STATUS={plain}")
        }
    }
}

/// A path, or a name without one (`@`, which stands for the NUL that such names begin with).
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no socket", name.display()))),
    }
}

/// What is for another process (`WATCHDOG_PID`) is not for us.
fn watchdog(environment: &Environment, own: u32) -> Option<Duration> {
    let number = |text: &Option<OsString>| text.as_deref()?.to_str()?.parse::<u64>().ok();
    if environment.watchdog_pid.is_some() && number(&environment.watchdog_pid) != Some(u64::from(own)) {
        return None;
    }
    number(&environment.watchdog_usec).filter(|usec| *usec > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &OsStr) -> Environment {
        Environment { notify_socket: Some(name.to_owned()), ..Environment::default() }
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn what_is_said_arrives_at_sockets_with_a_path_and_without() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let with_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("solostack-test-{}", std::process::id());
        let without = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, named_so) in [(with_path, path.into_os_string()), (without, format!("@{name}").into())] {
            let notifier = Notifier::of(&named(&named_so)).unwrap().unwrap();
            notifier.say(&[Word::Ready, Word::Status("two\nlines\u{7}")]).unwrap();
            assert_eq!(heard(&socket), "READY=1\nSTATUS=two lines ");
            notifier.say(&[Word::Watchdog]).unwrap();
            assert_eq!(heard(&socket), "WATCHDOG=1");
        }
    }

    #[test]
    fn without_a_socket_nobody_is_told_and_nonsense_is_refused() {
        assert!(Notifier::of(&Environment::default()).unwrap().is_none());
        assert!(Notifier::of(&named(OsStr::new(""))).unwrap().is_none());
        for nonsense in ["relative", "vsock:2:1234"] {
            assert!(Notifier::of(&named(OsStr::new(nonsense))).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn nobody_who_does_not_listen_holds_anything_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _never_read = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::of(&named(path.as_os_str())).unwrap().unwrap();
        let full = (0..100_000).find(|_| notifier.say(&[Word::Watchdog]).is_err());
        assert!(full.is_some(), "a full socket is an error and no wait");
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        let environment = |usec: &str, pid: Option<&str>| Environment {
            watchdog_usec: Some(usec.into()),
            watchdog_pid: pid.map(Into::into),
            ..Environment::default()
        };
        assert_eq!(watchdog(&environment("3000000", None), 7), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(&environment("3000000", Some("7")), 7), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(&environment("3000000", Some("8")), 7), None);
        assert_eq!(watchdog(&environment("3000000", Some("x")), 7), None);
        assert_eq!(watchdog(&environment("0", None), 7), None);
        assert_eq!(watchdog(&environment("soon", None), 7), None);
        assert_eq!(watchdog(&Environment::default(), 7), None);
    }
}
