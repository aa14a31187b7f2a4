//! The log: standard error, text or JSON. Never standard output, which belongs to the `ready` line and to answers.

use tracing_subscriber::EnvFilter;

use config::{Log, LogFormat};

/// For a hunt for a bug: directives such as `compute=trace,hyper=debug`, which replace the level.
pub const FILTER_VARIABLE: &str = "SOLOSTACK_LOG";

/// Sets up the log of this process. A second call changes nothing.
///
/// Errors: `SOLOSTACK_LOG` is set and cannot be read.
pub fn init(log: &Log) -> Result<(), String> {
    let filter = filter(log, std::env::var(FILTER_VARIABLE).ok().as_deref())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would be said on standard error too, by `eprintln!`, which panics: a full disk below the log is no reason to
        // drop a request.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // Fails only where a log is set up already: tests that start several clouds in one process.
    let _ = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    Ok(())
}

/// Below `debug` the libraries speak at their own level; at `debug` and `trace` they would drown us, and HTTP and TLS
/// libraries print header values and key material there. What rustls warns of in messages is the client's doing (every
/// tool that is given an IP address sends it as a host name), so an operator can do nothing about it.
fn filter(log: &Log, directives: Option<&str>) -> Result<EnvFilter, String> {
    if let Some(directives) = directives.filter(|text| !text.is_empty()) {
        return EnvFilter::try_new(directives).map_err(|error| format!("{FILTER_VARIABLE} cannot be read: {error}"));
    }
    const LIBRARIES: [&str; 8] =
        ["hyper", "hyper_util", "h2", "rustls", "netlink_proto", "netlink_packet_route", "tower", "rtnetlink"];
    let mut text = format!("{},rustls::msgs=error", log.level);
    if ["debug", "trace"].contains(&log.level) {
        for library in LIBRARIES {
            text.push_str(&format!(",{library}=info"));
        }
    }
    EnvFilter::try_new(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_stay_quiet_when_we_are_talkative() {
        let log = Log { format: LogFormat::Text, level: "trace" };
        let text = filter(&log, None).unwrap().to_string();
        assert!(text.contains("rustls=info") && text.contains("hyper=info") && text.contains("trace"), "{text}");
        let log = Log { format: LogFormat::Text, level: "warn" };
        let text = filter(&log, None).unwrap().to_string();
        assert!(text.contains("warn") && text.contains("rustls::msgs=error") && !text.contains("hyper"), "{text}");
    }

    #[test]
    fn the_variable_replaces_the_level_and_nonsense_in_it_is_said() {
        let log = Log { format: LogFormat::Text, level: "info" };
        assert_eq!(filter(&log, Some("compute=trace")).unwrap().to_string(), "compute=trace");
        assert!(filter(&log, Some("compute=loud")).unwrap_err().starts_with("SOLOSTACK_LOG cannot be read"));
    }
}
