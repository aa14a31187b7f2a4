//! Where a subcommand finds its cloud.

use std::path::PathBuf;

use clap::Args;
use config::{Config, Override, Value};

use crate::serve::Failure;

/// Where the state is; every subcommand that touches it takes these.
#[derive(Debug, Args, Default)]
pub struct Where {
    /// The state directory [default: /var/lib/solostack].
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The configuration file [default: /etc/solostack/solostack.toml if it exists].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Where {
    /// What the flags say.
    ///
    /// # Errors
    /// When a path is none.
    pub fn overrides(&self) -> Result<Vec<Override>, Failure> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        // A flag may be relative to where the user stands; the configuration is absolute.
        let state = std::path::absolute(state).map_err(|error| format!("--state: {error}"))?;
        let text = state.into_os_string().into_string().map_err(|_| "--state: the path is not UTF-8")?;
        Ok(vec![Override { key: "state_dir", flag: "--state", value: Value::Text(text) }])
    }

    /// # Errors
    /// What is wrong with the file or the flags.
    pub fn load(&self) -> Result<Config, Failure> {
        Ok(config::load(self.config.as_deref(), &self.overrides()?)?)
    }
}
