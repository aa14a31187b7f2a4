//! Addresses as people write them: a free range to propose, and the lines of forms.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, Result},
    words::Words,
};

/// Marks a text for translation.
const fn t(text: &'static str) -> &'static str {
    text
}

/// A private /24 that overlaps none of these ranges.
pub(super) fn free_range<'a>(taken: impl IntoIterator<Item = &'a str>) -> String {
    let taken: Vec<IpNet> = taken.into_iter().filter_map(|text| text.parse().ok()).collect();
    let overlaps = |net: &IpNet| taken.iter().any(|other| net.contains(other) || other.contains(net));
    for second in 0..=255_u8 {
        for third in 0..=255_u8 {
            let Ok(net) = Ipv4Net::new(Ipv4Addr::new(10, second, third, 0), 24) else { continue };
            if !overlaps(&IpNet::V4(net)) {
                return net.to_string();
            }
        }
    }
    String::new()
}

/// Words between spaces, commas and line ends.
pub(super) fn words_of(text: &str) -> Vec<&str> {
    text.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|word| !word.is_empty()).collect()
}

/// `10.0.0.2 - 10.0.0.99`, one pool in each line.
pub(super) fn pools(words: Words, text: &str) -> Result<Vec<Value>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let ends = line.split_once('-').or_else(|| line.split_once(char::is_whitespace));
            let (start, end) = ends.ok_or_else(|| {
                Failure::bad_request(words.fill("A pool is written as first - last address; this is not: {}", &[&line]))
            })?;
            Ok(json!({"start": start.trim(), "end": end.trim()}))
        })
        .collect()
}

/// `192.168.9.0/24 via 10.0.0.7`, one route in each line.
pub(super) fn routes(words: Words, text: &str) -> Result<Vec<Value>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let parts: Vec<&str> = words_of(line).into_iter().filter(|word| *word != "via").collect();
            match parts.as_slice() {
                [destination, nexthop] => Ok(json!({"destination": destination, "nexthop": nexthop})),
                _ => Err(Failure::bad_request(
                    words.fill("A route is written as range via address; this is not: {}", &[&line]),
                )),
            }
        })
        .collect()
}

/// `10.0.0.50` or `10.0.0.0/28 fa:16:3e:00:00:01`, one pair in each line.
pub(super) fn pairs(words: Words, text: &str) -> Result<Vec<Value>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| match words_of(line).as_slice() {
            [address] => Ok(json!({"ip_address": address})),
            [address, mac] => Ok(json!({"ip_address": address, "mac_address": mac})),
            _ => {
                let text = t("An address pair is an address or range, and a MAC if it is another; this is not: {}");
                Err(Failure::bad_request(words.fill(text, &[&line])))
            }
        })
        .collect()
}

/// A range or a single address as a range.
pub(super) fn range(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn the_range_proposed_is_free() {
        assert_eq!(free_range([]), "10.0.0.0/24");
        assert_eq!(free_range(["10.0.0.0/23", "10.0.2.128/25", "fd00::/64", "nonsense"]), "10.0.3.0/24");
        assert_eq!(free_range(["10.0.0.0/9"]), "10.128.0.0/24");
        assert_eq!(free_range(["10.0.0.0/8"]), "");
    }

    #[test]
    fn lines_of_forms_are_read_as_people_write_them() {
        let words = Words::of(&HeaderMap::new());
        assert_eq!(
            pools(words, "10.0.0.2-10.0.0.9\n\n fd00::2 - fd00::9 ").unwrap(),
            [json!({"start": "10.0.0.2", "end": "10.0.0.9"}), json!({"start": "fd00::2", "end": "fd00::9"})]
        );
        assert!(pools(words, "10.0.0.2").is_err());
        assert_eq!(
            routes(words, "10.9.0.0/16 via 10.0.0.7\n10.8.0.0/16,10.0.0.8").unwrap(),
            [
                json!({"destination": "10.9.0.0/16", "nexthop": "10.0.0.7"}),
                json!({"destination": "10.8.0.0/16", "nexthop": "10.0.0.8"})
            ]
        );
        assert!(routes(words, "10.9.0.0/16").is_err());
        assert_eq!(pairs(words, "10.0.0.50").unwrap(), [json!({"ip_address": "10.0.0.50"})]);
        assert!(pairs(words, "a b c").is_err());
        assert_eq!(range("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert!(range("anywhere").is_none());
    }
}
