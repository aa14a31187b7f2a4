//! Back to how the machine left the factory: its settings, or everything.
//!
//! Asking only sets a mark; the next start obeys it before anything else looks at the state. So it works while the cloud runs, and
//! a power cut in the middle only means that the next start goes on.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::{self, About as _, Result, refused};
use crate::points::Points;

/// In the state directory: what is to be forgotten at the next start.
const MARK: &str = ".reset";
/// The operator's configuration in the appliance; network settings stand in it too. It is emptied and not removed: the unit
/// names it.
pub const SETTINGS: &str = "solostack.toml";
/// What is no state: the lock is held meanwhile, and the file system has its own.
const KEPT: [&str; 3] = ["lock", "lost+found", MARK];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The configuration with the network settings. The cloud stays as it is.
    Settings,
    /// All state: every user, image, server, certificate and setting.
    Everything,
}

/// What the next start will forget, if anything.
///
/// # Errors
/// When the mark cannot be read.
pub fn asked(state: &Path) -> Result<Option<What>> {
    let path = state.join(MARK);
    if !files::is_there(&path)? {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).about(&path, "cannot be read")?;
    match serde_json::from_str(&text) {
        Ok(what) => Ok(Some(what)),
        Err(_) => refused(format!("{} says {text:?}, which is not known: remove it", path.display())),
    }
}

/// Asks for it at the next start.
///
/// # Errors
/// When there is no such state, or the mark cannot be written.
pub fn ask(state: &Path, what: What) -> Result<()> {
    if !state.is_dir() {
        return refused(format!("there is no state in {}", state.display()));
    }
    let text = serde_json::to_vec(&what).map_err(std::io::Error::other).about(state, "cannot be marked")?;
    files::write_whole(&state.join(MARK), &text)
}

/// Takes it back, as long as the next start has not come. Says whether anything was asked for.
///
/// # Errors
/// When the mark cannot be removed.
pub fn take_back(state: &Path) -> Result<bool> {
    let was = asked(state)?.is_some();
    files::remove_file(&state.join(MARK))?;
    files::sync_folder(state)?;
    Ok(was)
}

/// Forgets what was asked to be forgotten. The state's lock is held.
pub(crate) fn obey(state: &Path, points: &Points) -> Result<Option<What>> {
    let Some(what) = asked(state)? else { return Ok(None) };
    match what {
        What::Settings => files::write_whole(&state.join(SETTINGS), b"")?,
        What::Everything => {
            for name in files::names(state)?.iter().filter(|name| !KEPT.contains(&name.as_str())) {
                points.pass();
                if name == SETTINGS {
                    files::write_whole(&state.join(SETTINGS), b"")?;
                } else {
                    files::remove_all(&state.join(name))?;
                }
            }
            files::sync_folder(state)?;
        }
    }
    points.pass();
    files::remove_file(&state.join(MARK))?;
    files::sync_folder(state)?;
    Ok(Some(what))
}
