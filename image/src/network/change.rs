//! A change of the network that undoes itself.
//!
//! ```text
//!            apply                     confirm
//! settled ----------> waiting ----------------------> confirmed --> settled (new)
//!                        | 60 s, `return`, a reboot,                 ^
//!                        | or the files cannot be put                | what was cut off here
//!                        v                                           | goes on at the next look
//!                     settled (old), with a note why ----------------+
//! ```
//!
//! The stage is a file (`pending.json`), written before anything else is touched. Everything after it can be done twice, so
//! whoever looks next (`tick`: the console screens, the watcher, each command, the next boot) goes on where a crash was.
//! What is in force when nothing waits is in `settled.toml`. Times are those of the running kernel with the id of its boot:
//! a clock that is set does not move a deadline, and another boot is past it.

use std::fs::File as OpenFile;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::places::read_bounded;
use super::render::{File, OURS, render};
use super::{Checked, Nic, Places, check, check_here, document, nics};
use crate::files::{remove_durably, write_durably};

/// How long a change waits for its confirmation.
pub const CONFIRM_WITHIN_S: u64 = 60;

const MOST_BYTES: u64 = 1 << 20;

/// What a change needs of the machine.
pub trait System {
    fn now(&self) -> Now;
    /// # Errors
    /// The reason in words.
    fn reload(&self) -> Result<(), String>;
    /// # Errors
    /// The reason in words.
    fn reconfigure(&self, links: &[String]) -> Result<(), String>;
    /// A device that is not there is removed already.
    ///
    /// # Errors
    /// The reason in words.
    fn remove_device(&self, name: &str) -> Result<(), String>;
}

/// A time of this boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Now {
    pub boot_id: String,
    pub ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Waiting,
    /// To be written into the operator's file.
    Confirmed,
}

/// A change that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub stage: Stage,
    pub boot_id: String,
    pub deadline_ms: u64,
    /// TOML.
    pub wanted: String,
    /// TOML: what returns.
    pub before: String,
}

impl Pending {
    fn is_due(&self, now: &Now) -> bool {
        self.boot_id != now.boot_id || now.ms >= self.deadline_ms
    }
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// In force: TOML, empty for DHCP on every NIC.
    pub in_force: String,
    /// Seconds left to confirm it.
    pub waits_s: Option<u64>,
    /// Why the settings are not what somebody asked for.
    pub note: Option<String>,
}

/// What `apply` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What the operator may want to know: NICs that are not there.
    pub notes: Vec<String>,
}

/// The one way to change the network. Several processes may hold one; a lock makes them take turns.
pub struct Changes<'a> {
    places: &'a Places,
    system: &'a dyn System,
}

impl std::fmt::Debug for Changes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("places", &self.places).finish_non_exhaustive()
    }
}

/// Whether systemd-networkd is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tell {
    Now,
    /// It is not started yet.
    AtItsStart,
}

impl<'a> Changes<'a> {
    #[must_use]
    pub fn new(places: &'a Places, system: &'a dyn System) -> Self {
        Self { places, system }
    }

    /// Puts settings into force, for a minute.
    ///
    /// # Errors
    /// When they do not fit this machine, another change waits, or they cannot be put into force; then the old ones are.
    pub fn apply(&self, wanted: &Checked) -> Result<Applied, String> {
        let _lock = self.lock()?;
        self.go_on(Tell::Now)?;
        if let Some(pending) = self.pending()? {
            let left = self.left_s(&pending);
            return Err(format!(
                "another change waits for its confirmation for {left} s more: confirm or return it first"
            ));
        }
        let notes = self.fits(wanted)?;
        let now = self.system.now();
        let pending = Pending {
            stage: Stage::Waiting,
            boot_id: now.boot_id,
            deadline_ms: now.ms + CONFIRM_WITHIN_S * 1000,
            wanted: document::to_toml(wanted.settings()),
            before: document::to_toml(self.settled().settings()),
        };
        self.record(&pending)?;
        if let Err(reason) = self.put(wanted, Tell::Now) {
            self.undo(&pending, &format!("the new network settings could not be put into force: {reason}"), Tell::Now)?;
            return Err(format!("{reason}; the settings are what they were"));
        }
        Ok(Applied { notes })
    }

    /// Keeps what waits, and writes it into the operator's file.
    ///
    /// # Errors
    /// When nothing waits any more, or it cannot be written.
    pub fn confirm(&self) -> Result<(), String> {
        let _lock = self.lock()?;
        match self.pending()? {
            None => Err("no change waits for a confirmation".into()),
            Some(pending) if pending.stage == Stage::Waiting && pending.is_due(&self.system.now()) => {
                self.go_on(Tell::Now)?;
                Err("too late: the settings have returned to what they were".into())
            }
            Some(pending) => {
                let pending = Pending { stage: Stage::Confirmed, ..pending };
                self.record(&pending)?;
                self.finish(&pending)
            }
        }
    }

    /// Gives up what waits.
    ///
    /// # Errors
    /// When nothing waits, or the old settings cannot be put into force.
    pub fn give_back(&self) -> Result<(), String> {
        let _lock = self.lock()?;
        match self.pending()? {
            Some(pending) if pending.stage == Stage::Waiting => {
                self.undo(&pending, "the new network settings were given up", Tell::Now)
            }
            Some(pending) => self.finish(&pending),
            None => Err("no change waits for a confirmation".into()),
        }
    }

    /// Goes on with what was cut off, and returns what nobody confirmed in time. Nothing else, so it can be called at any time.
    ///
    /// # Errors
    /// When the old settings cannot be put into force; the next look tries again.
    pub fn tick(&self) -> Result<(), String> {
        if self.pending()?.is_none() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.go_on(Tell::Now)
    }

    /// Puts the operator's file into force at once, and for good.
    ///
    /// # Errors
    /// What is wrong with it; then the old settings are in force.
    pub fn settle(&self, wanted: &Checked) -> Result<Applied, String> {
        let _lock = self.lock()?;
        self.go_on(Tell::Now)?;
        if let Some(pending) = self.pending()? {
            self.undo(&pending, "other network settings took the place of those that waited", Tell::Now)?;
        }
        let notes = self.fits(wanted)?;
        let before = self.settled();
        if let Err(reason) = self.put(wanted, Tell::Now) {
            self.put(&before, Tell::Now)?;
            return Err(format!("{reason}; the settings are what they were"));
        }
        self.write_settled(wanted)?;
        self.clear_note();
        Ok(Applied { notes })
    }

    /// Before systemd-networkd starts: what nobody confirmed returns, and the operator's file is put into force. Settings that
    /// are wrong are not: then it is the last good ones, or DHCP on every NIC.
    ///
    /// # Errors
    /// When not even the files can be written.
    pub fn boot(&self) -> Result<(), String> {
        let _lock = self.lock()?;
        self.clear_note();
        if let Err(reason) = self.go_on(Tell::AtItsStart) {
            self.note(&reason);
        }
        let (checked, problem) = match read_checked(&self.places.config()) {
            Ok(checked) => (checked, None),
            Err(problems) => (self.settled(), Some(problems.join("; "))),
        };
        if let Some(problem) = problem {
            self.note(&format!("the network settings are the last good ones: {problem}"));
        } else {
            // A disk that is full or broken does not keep the machine from its network.
            let _ = self.write_settled(&checked);
        }
        self.put(&checked, Tell::AtItsStart)
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let pending = self.pending().ok().flatten();
        Status {
            in_force: match &pending {
                Some(pending) => pending.wanted.clone(),
                None => document::to_toml(self.settled().settings()),
            },
            waits_s: pending.filter(|pending| pending.stage == Stage::Waiting).map(|pending| self.left_s(&pending)),
            note: read_bounded(&self.places.note(), 4096).ok().flatten(),
        }
    }

    /// The NICs here, with the bonds and VLANs of what is in force.
    #[must_use]
    pub fn nics(&self) -> Vec<Nic> {
        let settings = document::section(&self.status().in_force).unwrap_or_default();
        let more: Vec<&str> = settings.bonds.keys().chain(settings.vlans.keys()).map(String::as_str).collect();
        nics(self.places, &more)
    }

    fn left_s(&self, pending: &Pending) -> u64 {
        let now = self.system.now();
        if pending.is_due(&now) { 0 } else { (pending.deadline_ms - now.ms).div_ceil(1000).min(CONFIRM_WITHIN_S) }
    }

    fn fits(&self, wanted: &Checked) -> Result<Vec<String>, String> {
        let (problems, notes) = check_here(wanted, &nics(self.places, &[]));
        if problems.is_empty() { Ok(notes) } else { Err(problems.join("\n")) }
    }

    fn lock(&self) -> Result<OpenFile, String> {
        let path = self.places.lock();
        let open = || {
            std::fs::create_dir_all(self.places.run())?;
            let file = OpenFile::options().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok::<_, std::io::Error>(file)
        };
        open().map_err(|error| format!("{}: {error}", path.display()))
    }

    fn pending(&self) -> Result<Option<Pending>, String> {
        let path = self.places.pending();
        let text = read_bounded(&path, MOST_BYTES).map_err(|error| format!("{}: {error}", path.display()))?;
        let Some(text) = text else { return Ok(None) };
        // It is written whole or not at all; what is no record was written by nobody of us, and holds nothing to go on with.
        match serde_json::from_str(&text) {
            Ok(pending) => Ok(Some(pending)),
            Err(error) => {
                self.note(&format!("the record of a change of the network was damaged and is given up: {error}"));
                remove_durably(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(None)
            }
        }
    }

    fn record(&self, pending: &Pending) -> Result<(), String> {
        let path = self.places.pending();
        let text = serde_json::to_vec(pending).map_err(|error| error.to_string())?;
        write_durably(&path, &text, 0o600).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// With the lock held.
    fn go_on(&self, tell: Tell) -> Result<(), String> {
        match self.pending()? {
            None => Ok(()),
            Some(pending) if pending.stage == Stage::Confirmed => self.finish(&pending),
            Some(pending) if pending.boot_id != self.system.now().boot_id => {
                self.undo(&pending, "the machine was restarted before the new network settings were confirmed", tell)
            }
            Some(pending) if pending.is_due(&self.system.now()) => {
                let why = format!("nobody confirmed the new network settings within {CONFIRM_WITHIN_S} s");
                self.undo(&pending, &why, tell)
            }
            Some(_) => Ok(()),
        }
    }

    fn finish(&self, pending: &Pending) -> Result<(), String> {
        let wanted = parse(&pending.wanted)?;
        self.write_config(&wanted)?;
        self.write_settled(&wanted)?;
        self.clear_note();
        self.forget()
    }

    /// The old settings, with the reason for who looks at the console.
    fn undo(&self, pending: &Pending, why: &str, tell: Tell) -> Result<(), String> {
        let before = parse(&pending.before).unwrap_or_else(|_| Checked::default_settings());
        // Who edited the operator's file and applied that gets the file back as well.
        if read_checked(&self.places.config()).is_ok_and(|now| document::to_toml(now.settings()) == pending.wanted) {
            self.write_config(&before)?;
        }
        self.write_settled(&before)?;
        self.put(&before, tell)?;
        self.note(&format!("{why}; the old ones are in force again"));
        self.forget()
    }

    fn forget(&self) -> Result<(), String> {
        remove_durably(&self.places.pending()).map_err(|error| format!("{}: {error}", self.places.pending().display()))
    }

    fn settled(&self) -> Checked {
        read_checked(&self.places.settled()).unwrap_or_else(|_| Checked::default_settings())
    }

    fn write_settled(&self, checked: &Checked) -> Result<(), String> {
        let path = self.places.settled();
        write_durably(&path, document::to_toml(checked.settings()).as_bytes(), 0o600)
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    fn write_config(&self, checked: &Checked) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.places.config();
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let text = read_bounded(&path, MOST_BYTES).map_err(failed)?;
        let mode = std::fs::metadata(&path).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
        let new = document::replaced(text.as_deref().unwrap_or_default(), checked.settings())
            .map_err(|reason| format!("{}: {reason}", path.display()))?;
        if text.as_deref() == Some(&new) {
            return Ok(());
        }
        write_durably(&path, new.as_bytes(), mode).map_err(failed)
    }

    /// A note that cannot be written is no reason to fail.
    fn note(&self, text: &str) {
        let _ = write_durably(&self.places.note(), crate::plain(text).as_bytes(), 0o600);
    }

    fn clear_note(&self) {
        let _ = remove_durably(&self.places.note());
    }

    /// Files as `checked` says, and only those; systemd-networkd follows.
    fn put(&self, checked: &Checked, tell: Tell) -> Result<(), String> {
        let folder = self.places.networkd();
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let wanted = render(checked);
        let old = ours(&folder).map_err(failed)?;
        // systemd-networkd changes no device that it made: those of other files have to go first.
        let stale = |old: &&File| {
            old.device.is_some() && !wanted.iter().any(|new| new.name == old.name && new.content == old.content)
        };
        let stale: Vec<&File> = old.iter().filter(stale).collect();
        for file in &stale {
            std::fs::remove_file(folder.join(&file.name)).map_err(failed)?;
        }
        if !stale.is_empty() && tell == Tell::Now {
            self.system.reload()?;
            for device in stale.iter().filter_map(|file| file.device.as_deref()) {
                self.system.remove_device(device)?;
            }
        }
        for file in &wanted {
            write_world(&folder, file).map_err(failed)?;
        }
        for file in old.iter().filter(|old| !wanted.iter().any(|new| new.name == old.name)) {
            match std::fs::remove_file(folder.join(&file.name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => (),
            }
        }
        if tell == Tell::Now {
            self.system.reload()?;
            let links: Vec<String> =
                nics(self.places, &[]).into_iter().filter(|nic| nic.bond.is_none()).map(|nic| nic.name).collect();
            self.system.reconfigure(&links)?;
        }
        Ok(())
    }
}

/// systemd-networkd reads as a user of its own.
fn write_world(folder: &Path, file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(&file.name);
    if std::fs::read(&path).is_ok_and(|content| content == file.content.as_bytes()) {
        return Ok(());
    }
    let staged = folder.join(format!(".{}.new", file.name));
    std::fs::write(&staged, &file.content)?;
    std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(staged, path)
}

/// Our files that are there.
fn ours(folder: &Path) -> std::io::Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if !name.contains(OURS) || name.starts_with('.') {
            continue;
        }
        let content = read_bounded(&folder.join(&name), MOST_BYTES).ok().flatten().unwrap_or_default();
        let device = name.strip_suffix(".netdev").and_then(|rest| Some(rest.split_once(OURS)?.1.to_owned()));
        files.push(File { name, content, device });
    }
    files.sort();
    Ok(files)
}

fn parse(text: &str) -> Result<Checked, String> {
    let settings = document::section(text).map_err(|problems| problems.join("; "))?;
    check(&config::Config { network_settings: settings, ..config::Config::default() })
        .map_err(|problems| problems.join("; "))
}

/// The settings of a file that may not be there; the rest of it may be wrong.
pub(crate) fn read_checked(path: &Path) -> Result<Checked, Vec<String>> {
    let text = read_bounded(path, MOST_BYTES).map_err(|error| vec![format!("{}: {error}", path.display())])?;
    let text = text.unwrap_or_default();
    let settings = document::section(&text)?;
    // Without the rest it cannot be seen whether an address is also the cloud's own.
    let whole = config::resolve(&text, &[]).unwrap_or_default();
    check(&config::Config { network_settings: settings, ..whole })
}
