//! Where a client finds what is beside Compute.

use crate::INFO;

/// The root of a sister service in the words that the client used for Compute: below its prefix on the shared port, or on
/// its own port for who came to Compute's own.
pub(crate) fn root(base_url: &str, prefix: &str, port: u16) -> String {
    if let Some(shared) = base_url.strip_suffix(INFO.prefix) {
        return format!("{shared}{prefix}");
    }
    match base_url.strip_suffix(&format!(":{}", INFO.port)) {
        Some(host) => format!("{host}:{port}"),
        None => base_url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::root;

    #[test]
    fn a_sister_is_on_the_shared_port_or_on_its_own() {
        assert_eq!(root("https://cloud.test/compute", "/image", 9292), "https://cloud.test/image");
        assert_eq!(root("https://cloud.test:8443/compute", "/image", 9292), "https://cloud.test:8443/image");
        assert_eq!(root("https://cloud.test:8774", "/image", 9292), "https://cloud.test:9292");
        assert_eq!(root("https://[fd00::1:8774]:8774", "/image", 9292), "https://[fd00::1:8774]:9292");
    }
}
