//! `solostack first-boot`: what somebody laid down for this machine before it ran for the first time (a *preseed*), applied once.
//!
//! ```text
//! look (sources) -> check whole (document) -> staged, one file -> restore, password, configuration -> recorded -> staged is gone
//!                        \-> refused, with the reason; nothing is changed, the next boot looks again
//! ```
//!
//! What must stay true:
//! - nothing is changed before all of it is checked, and from the staged file on it is carried to its end, at whatever
//!   instruction the machine dies and whether the stick is still there: every step can be repeated;
//! - what was applied once is never applied again, and nothing is applied to a cloud that has its administrator;
//! - a medium is read, never written; nothing on it is run, and no link on it leads elsewhere;
//! - the password never lies in the clear on this machine.
//!
//! Runs before `serve`, at every boot: the second part, the machine's name and time zone, is said anew each time, since the
//! system itself cannot be written to.

mod document;
mod fetch;
mod media;
mod medium;
mod sources;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use config::Config;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::{document::Preseed, medium::Medium};
use crate::files::{remove_durably, write_durably};
use crate::{ADMIN_HASH, network};

/// There while a cloud waits to be claimed; `serve` keeps it so.
pub const UNCLAIMED: &str = "unclaimed";
const RECORD: &str = "first-boot.json";
const STAGED: &str = "first-boot.staged";
const DATABASE: &str = "solostack.db";

/// Restores a backup (a file) into a state directory without a cloud.
pub type Restore<'a> = dyn Fn(&Path, &Path) -> Result<(), String> + 'a;
/// What else is wrong with a configuration on this machine.
pub type Check<'a> = dyn Fn(&Config) -> Vec<String> + 'a;

/// Where everything is, and what others do.
pub struct Setup<'a> {
    /// `/`; tests have another.
    pub root: PathBuf,
    /// Where an OpenStack cloud answers its servers.
    pub metadata: String,
    pub check: &'a Check<'a>,
    pub restore: &'a Restore<'a>,
}

impl std::fmt::Debug for Setup<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("root", &self.root).field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

/// What a boot did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A preseed was applied, from there.
    Applied(String),
    /// One was applied at an earlier boot.
    Before,
    /// The cloud has its administrator: it is too late for one.
    Over,
    /// There is none.
    None,
}

/// Why a preseed was not applied, in words for whoever made it.
pub type Trouble = String;

/// `first-boot.json`: what the screen shows, and what keeps a stick from being applied twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `applied` or `refused`.
    pub state: String,
    pub source: String,
    /// Of the preseed as it was read.
    pub sha256: String,
    /// RFC 3339.
    pub at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is written in a state directory about its first boot's preseed.
pub(crate) fn recorded(state: &Path) -> Option<Record> {
    let text = network::read_bounded(&state.join(RECORD), 64 << 10).ok()??;
    serde_json::from_str(&text).ok()
}

/// All that is to be done, decided.
#[derive(Debug, Serialize, Deserialize)]
struct Staged {
    source: String,
    sha256: String,
    /// The preseed's own keys of the configuration.
    config: String,
    admin_hash: Option<String>,
    /// A file on the medium.
    restore: Option<String>,
}

impl Setup<'_> {
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("var/lib/solostack")
    }

    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.state().join("solostack.toml")
    }

    fn in_state(&self, name: &str) -> PathBuf {
        self.state().join(name)
    }

    /// What the last boot that found something did with it.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        recorded(&self.state())
    }

    /// Looks for a preseed and applies it, unless that is over.
    ///
    /// # Errors
    /// What is wrong with what was found, or with this machine. Whatever was decided before goes on at the next boot.
    pub fn run(&self) -> Result<Outcome, Trouble> {
        fs::create_dir_all(self.state()).map_err(|error| format!("the state directory cannot be made: {error}"))?;
        if let Some(staged) = self.staged()? {
            return self.finish(&staged, None);
        }
        let record = self.record();
        if record.as_ref().is_some_and(|record| record.state == "applied") {
            return Ok(Outcome::Before);
        }
        if self.in_state(DATABASE).exists() && !self.in_state(UNCLAIMED).exists() {
            return Ok(Outcome::Over);
        }
        let Some(found) = sources::find(self)? else {
            if record.is_some() {
                remove_durably(&self.in_state(RECORD))
                    .map_err(|error| format!("the record of a refused preseed cannot be removed: {error}"))?;
            }
            return Ok(Outcome::None);
        };
        let sha256 = crate::secret::hash_bytes(&found.bytes).map(|byte| format!("{byte:02x}")).concat();
        let checked = document::check(&found.bytes, &self.root, self.check).and_then(|preseed| self.fits(preseed));
        let preseed = match checked {
            Ok(preseed) => preseed,
            Err(problems) => {
                let reason = problems.join("\n");
                self.refuse(&found.source, &sha256, &reason)?;
                return Err(format!("{}: {reason}", found.source));
            }
        };
        let Preseed { config, admin_hash, restore } = preseed;
        let staged = Staged { source: found.source, sha256, config: config.to_string(), admin_hash, restore };
        let text = serde_json::to_vec(&staged).map_err(|error| error.to_string())?;
        write_durably(&self.in_state(STAGED), &text, 0o600)
            .map_err(|error| format!("the preseed cannot be kept: {error}"))?;
        self.finish(&staged, found.medium)
    }

    /// What only this machine can say about a preseed.
    fn fits(&self, preseed: Preseed) -> Result<Preseed, Vec<String>> {
        if preseed.restore.is_some() && self.in_state(DATABASE).exists() {
            let reason = "first_boot.restore: there is a cloud already; reset the machine to restore another";
            return Err(vec![reason.to_owned()]);
        }
        if preseed.restore.is_none() {
            self.merged(&preseed.config).map_err(|problem| vec![problem])?;
        }
        Ok(preseed)
    }

    fn staged(&self) -> Result<Option<Staged>, Trouble> {
        match fs::read(self.in_state(STAGED)) {
            // Written whole or not at all: what cannot be read is of another version, and is looked for anew.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("the preseed that was kept cannot be read: {error}")),
        }
    }

    /// Every step may have been done before.
    fn finish(&self, staged: &Staged, medium: Option<Medium>) -> Result<Outcome, Trouble> {
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}; the next boot tries again");
        if let Some(file) = &staged.restore
            && !self.in_state(DATABASE).exists()
        {
            let medium = match medium {
                Some(medium) => Some(medium),
                None => sources::find(self)?.and_then(|found| found.medium),
            };
            let Some(medium) = medium else {
                return Err("the backup to restore was on a stick that is not there now: plug it in again".into());
            };
            let restored = medium.file(file).and_then(|file| (self.restore)(&file, &self.state()));
            if let Err(reason) = restored {
                let reason = format!("the backup {file} is not restored: {reason}");
                self.refuse(&staged.source, &staged.sha256, &reason)?;
                remove_durably(&self.in_state(STAGED)).map_err(|error| failed("the preseed stays", &error))?;
                return Err(reason);
            }
        }
        if let Some(hash) = &staged.admin_hash {
            let file = self.in_state(ADMIN_HASH);
            write_durably(&file, hash.as_bytes(), 0o600)
                .map_err(|error| failed("the password cannot be kept", &error))?;
        }
        let own: toml::Table = staged.config.parse().map_err(|error| failed("the preseed that was kept", &error))?;
        if !own.is_empty() {
            let text = self.merged(&own)?;
            let file = self.config_file();
            write_durably(&file, text.as_bytes(), 0o600)
                .map_err(|error| failed("the configuration cannot be written", &error))?;
        }
        self.keep(&staged.source, &staged.sha256, None).map_err(|error| failed("the first boot", &error))?;
        remove_durably(&self.in_state(STAGED)).map_err(|error| failed("the preseed stays", &error))?;
        Ok(Outcome::Applied(staged.source.clone()))
    }

    /// The configuration that there is, with the preseed's keys in the place of its own.
    fn merged(&self, own: &toml::Table) -> Result<String, Trouble> {
        let file = self.config_file();
        let present = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{}: {error}", file.display())),
        };
        let mut table: toml::Table = present.parse().map_err(|error| format!("{}: {error}", file.display()))?;
        merge(&mut table, own);
        let text = format!("# Begun by the first boot's preseed. Every key: solostack config sample\n\n{table}");
        match config::resolve(&text, &[]) {
            Ok(_) => Ok(text),
            Err(problems) => {
                let problems: Vec<String> = problems.into_iter().map(|problem| problem.text).collect();
                Err(format!("together with {}: {}", file.display(), problems.join("; ")))
            }
        }
    }

    fn refuse(&self, source: &str, sha256: &str, reason: &str) -> Result<(), Trouble> {
        let kept = self.keep(source, sha256, Some(reason));
        kept.map_err(|error| format!("{reason}; and that cannot be written down: {error}"))
    }

    fn keep(&self, source: &str, sha256: &str, reason: Option<&str>) -> io::Result<()> {
        let record = Record {
            state: if reason.is_some() { "refused" } else { "applied" }.into(),
            source: source.into(),
            sha256: sha256.into(),
            at: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            reason: reason.map(str::to_owned),
        };
        write_durably(&self.in_state(RECORD), &serde_json::to_vec_pretty(&record).map_err(io::Error::other)?, 0o600)
    }

    /// Has the machine called as the configuration says, in its time zone. Done at every boot.
    ///
    /// # Errors
    /// What cannot be set.
    pub fn name_machine(&self, config: &Config) -> Result<(), Trouble> {
        if let Some(name) = &config.machine.hostname {
            if self.root == Path::new("/") {
                nix::unistd::sethostname(name).map_err(|error| format!("machine.hostname {name}: {error}"))?;
            } else {
                let file = self.root.join("run/solostack/hostname");
                write_durably(&file, name.as_bytes(), 0o600).map_err(|error| error.to_string())?;
            }
        }
        // `/etc/localtime` of the image points here.
        let zone = config.machine.timezone.as_deref().unwrap_or("UTC");
        let link = self.root.join("run/solostack/localtime");
        let said = |error: io::Error| format!("machine.timezone {zone}: {error}");
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).map_err(said)?;
        }
        let part = link.with_extension("part");
        remove_durably(&part).map_err(said)?;
        std::os::unix::fs::symlink(Path::new("/usr/share/zoneinfo").join(zone), &part).map_err(said)?;
        fs::rename(&part, &link).map_err(said)
    }
}

/// Tables of both into one; whatever else `own` says wins.
fn merge(into: &mut toml::Table, own: &toml::Table) {
    for (key, value) in own {
        match (into.get_mut(key), value) {
            (Some(toml::Value::Table(there)), toml::Value::Table(own)) => merge(there, own),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}
