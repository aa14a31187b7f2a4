//! Addresses that may be asked.

use std::net::IpAddr;

use http::Uri;

/// An absolute `https` URL without credentials, or an `http` one that leads to this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub tls: bool,
    /// Without brackets.
    pub host: String,
    pub port: u16,
    /// With the query.
    pub path: String,
    /// For the Host header.
    pub authority: String,
}

impl Address {
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const REFUSED: &str = "is not an absolute https URL";
        if text.len() > 2048 || text.contains('#') {
            return Err(REFUSED);
        }
        let uri: Uri = text.parse().map_err(|_| REFUSED)?;
        let authority = uri.authority().ok_or(REFUSED)?;
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(REFUSED);
        }
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()) => false,
            Some("http") => return Err("is plain HTTP to another machine: it must be https"),
            _ => return Err(REFUSED),
        };
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // A port that is no number has no port either.
            None if authority.as_str().len() > authority.host().len() => return Err(REFUSED),
            None if tls => 443,
            None => 80,
        };
        Ok(Self {
            tls,
            host,
            port,
            path: uri.path_and_query().map_or_else(|| "/".into(), |path| path.as_str().to_owned()),
            authority: authority.as_str().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_leaves_the_machine() {
        let parsed = Address::parse("https://idp.test/a/b?c=d").unwrap();
        assert_eq!((parsed.tls, parsed.port, parsed.path.as_str()), (true, 443, "/a/b?c=d"));
        assert_eq!(Address::parse("http://[::1]:81").unwrap().host, "::1");
        assert!(Address::parse("http://127.0.0.1:81/x").is_ok() && Address::parse("http://localhost/").is_ok());
        for bad in [
            "",
            "idp.test",
            "/x",
            "file:///etc/passwd",
            "ftp://x/",
            "http://idp.test/",
            "http://169.254.169.254/",
            "http://127.0.0.1.evil.test/",
            "https://user:pw@idp.test/",
            "https:///x",
            "https://x:99999/",
            "https://x/#f",
            "gopher://127.0.0.1/",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
