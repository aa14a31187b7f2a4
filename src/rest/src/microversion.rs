//! Microversions: how a request asks for one, and what a service honours.
//! API SIG guideline "Microversion Specification".

use std::{fmt, str::FromStr};

use http::HeaderMap;

use crate::{Error, Kind, Result};

/// `major.minor`, ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Microversion(pub u16, pub u16);

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Microversion {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let number = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let plain = plain && (part == "0" || !part.starts_with('0'));
            part.parse().ok().filter(|_| plain).ok_or(())
        };
        let (major, minor) = text.split_once('.').ok_or(())?;
        Ok(Self(number(major)?, number(minor)?))
    }
}

/// Every version from `min` to `max` is honoured; a request that names none gets `min`.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The word in `OpenStack-API-Version: <service> 2.1`.
    pub service: &'static str,
    /// The older header that carries only the number, lower case.
    pub legacy_header: Option<&'static str>,
    pub min: Microversion,
    pub max: Microversion,
}

impl Range {
    /// The version that the request asks for.
    ///
    /// # Errors
    /// 400 when the value is no version, 406 (naming the range) when it is outside.
    pub(crate) fn negotiate(&self, headers: &HeaderMap) -> Result<Microversion> {
        let Some(asked) = self.asked(headers)? else { return Ok(self.min) };
        if asked == "latest" {
            return Ok(self.max);
        }
        let version: Microversion = asked.parse().map_err(|()| {
            Error::bad_request(format!(
                "API Version String {asked} is of invalid format (invalid version string: {asked}). Must be of format \
                 MajorNum.MinorNum."
            ))
        })?;
        if version < self.min || version > self.max {
            return Err(Error::new(
                Kind::NotAcceptable,
                format!(
                    "Unacceptable version header: {version}. Version {version} is not supported by the API. Minimum is {} \
                     and maximum is {}.",
                    self.min, self.max
                ),
            ));
        }
        Ok(version)
    }

    fn asked<'h>(&self, headers: &'h HeaderMap) -> Result<Option<&'h str>> {
        let invalid = || Error::bad_request("The API version header is not valid text.");
        for header in headers.get_all("openstack-api-version") {
            for one in header.to_str().map_err(|_| invalid())?.split(',') {
                let mut words = one.split_whitespace();
                if words.next().is_some_and(|word| word.eq_ignore_ascii_case(self.service)) {
                    let version = words.next();
                    if words.next().is_some() || version.is_none() {
                        return Err(invalid());
                    }
                    return Ok(version);
                }
            }
        }
        let Some(legacy) = self.legacy_header.and_then(|name| headers.get(name)) else { return Ok(None) };
        legacy.to_str().map(|text| Some(text.trim())).map_err(|_| invalid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVA: Range = Range {
        service: "compute",
        legacy_header: Some("x-openstack-nova-api-version"),
        min: Microversion(2, 1),
        max: Microversion(2, 60),
    };

    fn ask(pairs: &[(&'static str, &'static str)]) -> Result<Microversion> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        NOVA.negotiate(&headers)
    }

    #[test]
    fn both_headers_name_a_version_and_the_new_one_wins() {
        assert_eq!(ask(&[]).unwrap(), Microversion(2, 1));
        assert_eq!(ask(&[("x-openstack-nova-api-version", "2.10")]).unwrap(), Microversion(2, 10));
        assert_eq!(ask(&[("openstack-api-version", "compute 2.9")]).unwrap(), Microversion(2, 9));
        assert_eq!(ask(&[("openstack-api-version", "volume 3.1, compute latest")]).unwrap(), Microversion(2, 60));
        assert_eq!(ask(&[("openstack-api-version", "volume 3.1")]).unwrap(), Microversion(2, 1));
    }

    #[test]
    fn what_is_no_version_is_400_and_what_is_outside_is_406() {
        for bad in ["compute", "compute 2", "compute 2.01", "compute x.y", "compute 2.1 3", "compute -2.1"] {
            let error = NOVA.negotiate(&HeaderMap::from_iter([(
                http::HeaderName::from_static("openstack-api-version"),
                bad.parse().unwrap(),
            )]));
            assert_eq!(error.unwrap_err().kind(), Kind::BadRequest, "{bad}");
        }
        assert_eq!(ask(&[("openstack-api-version", "compute 2.61")]).unwrap_err().kind(), Kind::NotAcceptable);
        assert_eq!(ask(&[("openstack-api-version", "compute 1.0")]).unwrap_err().kind(), Kind::NotAcceptable);
    }
}
