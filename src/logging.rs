//! The log: standard error, text or JSON, and a syslog server if the configuration names one. Never standard output, which
//! belongs to the `ready` line and to answers.

use appliance::syslog::{self, Sending, SyslogLayer, Target, Tls};
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

use config::{Config, Log, LogFormat};

/// For a hunt for a bug: directives such as `compute=trace,hyper=debug`, which replace the level.
pub const FILTER_VARIABLE: &str = "SOLOSTACK_LOG";

/// Sets up the log of this process. A second call changes nothing.
///
/// Errors: `SOLOSTACK_LOG` is set and cannot be read.
pub fn init(log: &Log) -> Result<(), String> {
    init_with(log, None)
}

/// [`init`], and what the configuration says of a syslog server: what is answered can be waited for at the end.
///
/// Errors: also a file with authorities that cannot be used.
pub fn init_serving(config: &Config) -> Result<Option<Sending>, String> {
    let Some(server) = &config.syslog else {
        init(&config.log)?;
        return Ok(None);
    };
    let refused = |why: &dyn std::fmt::Display| format!("log.syslog: {why}");
    let tls = match (&server.tls, &server.ca_file) {
        (false, _) => None,
        (true, None) => Some(Tls::default()),
        (true, Some(file)) => {
            let pem = std::fs::read(file).map_err(|error| refused(&format!("{}: {error}", file.display())))?;
            Some(Tls { ca: Some(pem) })
        }
    };
    let target = Target { host: server.host.clone(), port: server.port, tls, facility: server.facility };
    let (layer, sending) = syslog::start(target).map_err(|error| refused(&error))?;
    init_with(&config.log, Some(layer))?;
    Ok(Some(sending))
}

fn init_with(log: &Log, syslog: Option<SyslogLayer>) -> Result<(), String> {
    let filter = filter(log, std::env::var(FILTER_VARIABLE).ok().as_deref())?;
    let errors = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // It would be said on standard error too, by `eprintln!`, which panics: a full disk below the log is no reason to
        // drop a request.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // Fails only where a log is set up already: tests that start several clouds in one process.
    let errors: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => errors.boxed(),
        LogFormat::Json => errors.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    let _ = tracing_subscriber::registry().with(errors).with(syslog).with(filter).try_init();
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
