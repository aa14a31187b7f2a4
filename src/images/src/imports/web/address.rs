//! The URLs that may be asked for, and where a redirect leads.

use std::net::IpAddr;

use http::Uri;

/// Longer ones are nobody's.
const URL_MAX: usize = 2048;

/// An absolute http or https URL without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub tls: bool,
    /// Lower case, without brackets and without the dot at the end of a rooted name.
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
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const REFUSED: &str = "is not an absolute http or https URL";
        if text.len() > URL_MAX || text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(REFUSED);
        }
        // What follows a # is the client's own.
        let text = text.split('#').next().unwrap_or_default();
        let uri: Uri = text.parse().map_err(|_| REFUSED)?;
        let authority = uri.authority().ok_or(REFUSED)?;
        if authority.as_str().contains('@') {
            return Err("carries a user name: give the data an address that needs none");
        }
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        if host.is_empty() {
            return Err(REFUSED);
        }
        // `127.1`, `0x7f.1` and `2130706433` are addresses to some resolvers and names to others.
        let last = host.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
        if numeric && host.parse::<IpAddr>().is_err() {
            return Err("names a host by a number that is no address");
        }
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
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

    /// Where `Location: text` leads from here (RFC 3986, 5.2): a URL, or a path on the same server.
    ///
    /// # Errors
    /// As [`Address::parse`]; never from https to http.
    pub fn follow(&self, text: &str) -> Result<Self, &'static str> {
        let scheme = if self.tls { "https" } else { "http" };
        let next = if text.starts_with("//") {
            Self::parse(&format!("{scheme}:{text}"))?
        } else if text.contains("://") {
            Self::parse(text)?
        } else if text.starts_with('/') {
            Self::parse(&format!("{scheme}://{}{text}", self.authority))?
        } else {
            let path = self.path.split('?').next().unwrap_or("/");
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            Self::parse(&format!("{scheme}://{}{folder}/{text}", self.authority))?
        };
        if self.tls && !next.tls {
            return Err("leads from https to http");
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls_of_the_web_are_taken() {
        let fine = Address::parse("HTTPS://Images.Example./a/b.img?x=1#part").unwrap();
        assert_eq!((fine.tls, fine.host.as_str(), fine.port), (true, "images.example", 443));
        assert_eq!(fine.path, "/a/b.img?x=1");
        assert_eq!(Address::parse("http://[2001:db8::1]:8080/").unwrap().host, "2001:db8::1");
        assert_eq!(Address::parse("http://a.example").unwrap().path, "/");
        for bad in [
            "",
            "a.example/x",
            "/x",
            "ftp://a.example/x",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "http://user:word@a.example/",
            "http://a.example:port/",
            "http://a.example:99999/",
            "http://a.example/\r\nHost: b",
            "http://a.example\\@b/",
            "http://127.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://a.example/ x",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Address::parse(&format!("http://a.example/{}", "x".repeat(3000))).is_err());
    }

    #[test]
    fn a_redirect_is_read_from_where_it_came() {
        let from = Address::parse("https://a.example:8443/images/one.img?token=1").unwrap();
        let to = |text: &str| from.follow(text).map(|next| (next.authority, next.path));
        let at = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        assert_eq!(to("https://b.example/x"), at("b.example", "/x"));
        assert_eq!(to("//b.example/x"), at("b.example", "/x"));
        assert_eq!(to("/x?y"), at("a.example:8443", "/x?y"));
        assert_eq!(to("two.img"), at("a.example:8443", "/images/two.img"));
        assert!(to("http://b.example/x").is_err(), "never down to http");
        assert!(to("file:///etc/passwd").is_err());
    }
}
