//! One file over HTTP: a plain request of HTTP/1.0, so that no answer comes in pieces. https is verified by the system's
//! authorities; http is for a metadata service alone.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::sources::MOST_BYTES;
use crate::trust;

const ONE_TRY: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
const REDIRECTS: usize = 3;
const HEAD_MAX: usize = 64 << 10;

enum Answer {
    Found(Vec<u8>),
    Missing,
    /// Another address.
    Elsewhere(String),
    /// No use in trying again.
    Refused(String),
}

/// The file; `None` where the server says that there is none. Tries until the patience is at its end: a network may come up.
pub(super) fn get(url: &str, patience: Duration) -> Result<Option<Vec<u8>>, String> {
    let end = Instant::now() + patience;
    let mut url = url.to_owned();
    let mut redirects = 0;
    loop {
        let reason = match once(&url, end) {
            Ok(Answer::Found(bytes)) => return Ok(Some(bytes)),
            Ok(Answer::Missing) => return Ok(None),
            Ok(Answer::Refused(reason)) => return Err(reason),
            Ok(Answer::Elsewhere(to)) => {
                redirects += 1;
                if redirects > REDIRECTS || !to.starts_with("https://") {
                    return Err(format!("it leads to {to}"));
                }
                url = to;
                continue;
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() + PAUSE >= end {
            return Err(reason);
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing tells when somebody else's server answers again")]
fn pause() {
    std::thread::sleep(PAUSE);
}

fn once(url: &str, end: Instant) -> io::Result<Answer> {
    let refused = |reason: &str| Ok(Answer::Refused(reason.to_owned()));
    let (tls, rest) = match url.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => return refused("it is no URL"),
    };
    if url.len() > 2048 || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refused("it is no URL");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, port.parse().map_err(io::Error::other)?)
        }
        _ => (authority, if tls { 443 } else { 80 }),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let left = || {
        let left = end.saturating_duration_since(Instant::now()).min(ONE_TRY);
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut connected = None;
    for address in (bare, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left()?) {
            Ok(tcp) => {
                connected = Some(tcp);
                break;
            }
            Err(error) => failed = error,
        }
    }
    let Some(tcp) = connected else { return Err(failed) };
    tcp.set_read_timeout(Some(left()?))?;
    tcp.set_write_timeout(Some(left()?))?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {authority}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    if !tls {
        return talk(tcp, &request, end);
    }
    let config = trust::client(trust::authorities(None)?)?;
    let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
    let client = ClientConnection::new(config, name).map_err(io::Error::other)?;
    talk(StreamOwned::new(client, tcp), &request, end)
}

/// Each read has its deadline, and all of them together have one.
fn talk(mut stream: impl Read + Write, request: &str, end: Instant) -> io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let most = usize::try_from(MOST_BYTES).unwrap_or(usize::MAX) + HEAD_MAX;
    let (mut bytes, mut part) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            // Many servers hang up without the goodbye that TLS asks for; a length below tells whether all is there.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
        if bytes.len() > most {
            return Ok(Answer::Refused("it is larger than 1 MiB".into()));
        }
        if Instant::now() > end {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    answer(&bytes)
}

fn answer(bytes: &[u8]) -> io::Result<Answer> {
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer broke off");
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(cut)?;
    let (head, body) = (String::from_utf8_lossy(&bytes[..head_end]), &bytes[head_end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse::<u16>().ok());
    let field = |name: &str| {
        let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).next()
    };
    match status {
        Some(200) => {
            let length = field("content-length").and_then(|text| text.parse::<usize>().ok());
            let body = match length {
                Some(length) if body.len() < length => return Err(cut()),
                Some(length) => &body[..length],
                None => body,
            };
            if body.len() as u64 > MOST_BYTES {
                return Ok(Answer::Refused("it is larger than 1 MiB".into()));
            }
            Ok(Answer::Found(body.to_vec()))
        }
        Some(404 | 410) => Ok(Answer::Missing),
        Some(301 | 302 | 303 | 307 | 308) => Ok(Answer::Elsewhere(field("location").unwrap_or_default())),
        // It may be starting.
        Some(status @ (429 | 500..=599)) => Err(io::Error::other(format!("the server answers {status}"))),
        Some(status) => Ok(Answer::Refused(format!("the server answers {status}"))),
        None => Ok(Answer::Refused("the server does not speak HTTP".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Option<Vec<u8>>, String> {
        match answer(text.as_bytes()) {
            Ok(Answer::Found(bytes)) => Ok(Some(bytes)),
            Ok(Answer::Missing) => Ok(None),
            Ok(Answer::Elsewhere(to)) => Err(format!("to {to}")),
            Ok(Answer::Refused(reason)) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        assert_eq!(found("HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello"), Ok(Some(b"hello".to_vec())));
        assert_eq!(found("HTTP/1.0 200 OK\r\ncontent-LENGTH: 3\r\n\r\nhello"), Ok(Some(b"hel".to_vec())));
        assert_eq!(found("HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhello"), Err("the answer broke off".into()));
        assert_eq!(found("HTTP/1.0 200 OK\r\nContent-Len"), Err("the answer broke off".into()));
        assert_eq!(found("HTTP/1.0 404 Not Found\r\n\r\n"), Ok(None));
        assert_eq!(found("HTTP/1.0 302 Found\r\nLocation: https://x/\r\n\r\n"), Err("to https://x/".into()));
        assert_eq!(found("HTTP/1.0 401 No\r\n\r\n"), Err("the server answers 401".into()));
        assert_eq!(found("SSH-2.0-x\r\n\r\n"), Err("the server does not speak HTTP".into()));
    }
}
