//! The supervisor.

use crate::config::Config;

/// Why the supervisor did not start, or ended.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs until SIGTERM or SIGINT.
pub async fn run(_config: Config) -> Result<(), Failure> {
    Err("the services are not wired yet".into())
}

/// Stops every server and removes every namespace, rule and tap.
pub async fn down(_config: Config) -> Result<(), Failure> {
    Err("the services are not wired yet".into())
}
