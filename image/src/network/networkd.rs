//! The real systemd-networkd, the real clock.

use std::time::Duration;

use super::{Now, System};
use crate::run;

const DEADLINE: Duration = Duration::from_secs(30);

/// The machine that this process runs on.
#[derive(Debug, Clone)]
pub struct ThisSystem {
    /// What speaks to systemd-networkd.
    pub networkctl: String,
}

impl Default for ThisSystem {
    fn default() -> Self {
        Self { networkctl: "networkctl".into() }
    }
}

impl ThisSystem {
    fn networkctl(&self, arguments: &[&str]) -> Result<(), String> {
        let done = run::run(&self.networkctl, arguments, DEADLINE)?;
        if done.success {
            return Ok(());
        }
        let reason = crate::plain(done.err.trim());
        Err(format!("networkctl {}: {}", arguments.join(" "), if reason.is_empty() { "failed" } else { &reason }))
    }
}

impl System for ThisSystem {
    fn now(&self) -> Now {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        // Goes on while the machine sleeps, and no time server moves it.
        let at = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        Now { boot_id: boot_id.trim().to_owned(), ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX) }
    }

    fn reload(&self) -> Result<(), String> {
        self.networkctl(&["reload"])
    }

    fn reconfigure(&self, links: &[String]) -> Result<(), String> {
        if links.is_empty() {
            return Ok(());
        }
        let mut arguments = vec!["reconfigure"];
        arguments.extend(links.iter().map(String::as_str));
        self.networkctl(&arguments)
    }

    fn remove_device(&self, name: &str) -> Result<(), String> {
        if !std::path::Path::new("/sys/class/net").join(name).exists() {
            return Ok(());
        }
        self.networkctl(&["delete", name])
    }
}
