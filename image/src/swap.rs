//! Replaces parts of the state directory by others, all or none of them.
//!
//! The state is a mount point in the appliance, so it cannot be exchanged by one rename. What is new is made ready in
//! `<state>/.swap/new`; then one rename puts `<state>/.swap/plan.json` there, and that is the moment at which it is decided.
//! From then on every start brings the plan to its end ([`finish`]), before anything else looks at the state; before it, what
//! is in `.swap` is rubbish. Each step can be done again.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, About as _, Result, refused};
use crate::points::Points;

const FOLDER: &str = ".swap";
const PLAN: &str = "plan.json";
/// Where what was replaced is, until the next exchange.
pub const ASIDE: &str = "before-restore";

/// What is replaced.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Plan {
    pub places: Vec<Place>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Place {
    /// Below the state directory.
    pub path: PathBuf,
    /// Whether something new comes, or what is there only goes.
    pub new: bool,
}

impl Plan {
    pub fn put(&mut self, path: impl Into<PathBuf>) {
        self.places.push(Place { path: path.into(), new: true });
    }

    pub fn take_away(&mut self, path: impl Into<PathBuf>) {
        self.places.push(Place { path: path.into(), new: false });
    }
}

/// What is being made ready. Abandoned, it is rubbish for the next start.
#[derive(Debug)]
pub(crate) struct Staging {
    state: PathBuf,
}

impl Staging {
    /// An empty place for what is new. The state's lock is held, and [`finish`] was called.
    pub fn new(state: &Path) -> Result<Self> {
        let folder = state.join(FOLDER);
        files::remove_all(&folder)?;
        files::make_folder(&folder.join("new"))?;
        Ok(Self { state: state.to_owned() })
    }

    /// Where the new `path` is to be made.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.state.join(FOLDER).join("new").join(path)
    }

    pub fn abandon(self) -> Result<()> {
        files::remove_all(&self.state.join(FOLDER))
    }

    /// From here on it will be so, whatever happens. What is new is made durable first.
    pub fn decide(self, plan: &Plan, points: &Points) -> Result<()> {
        let folder = self.state.join(FOLDER);
        sync_tree(&folder.join("new"))?;
        points.pass();
        let bytes = serde_json::to_vec_pretty(plan).map_err(std::io::Error::other).about(&folder, "has no plan")?;
        files::write_whole(&folder.join(PLAN), &bytes)?;
        points.pass();
        files::sync_folder(&self.state)
    }
}

fn sync_tree(path: &Path) -> Result<()> {
    for name in files::names(path)? {
        let inner = path.join(name);
        if fs::symlink_metadata(&inner).about(&inner, "cannot be looked at")?.is_dir() {
            sync_tree(&inner)?;
        } else {
            fs::File::open(&inner).and_then(|file| file.sync_all()).about(&inner, "cannot be made durable")?;
        }
    }
    files::sync_folder(path)
}

/// Brings to its end what was decided, and clears away what was not. The state's lock is held. Says whether anything was
/// replaced.
///
/// # Errors
/// When something cannot be moved: the next call goes on.
pub(crate) fn finish(state: &Path, points: &Points) -> Result<bool> {
    let folder = state.join(FOLDER);
    let plan = folder.join(PLAN);
    if !files::is_there(&plan)? {
        files::remove_all(&folder)?;
        return Ok(false);
    }
    let bytes = fs::read(&plan).about(&plan, "cannot be read")?;
    let decided: Plan = serde_json::from_slice(&bytes).map_err(std::io::Error::other).about(&plan, "is no plan")?;
    let old = folder.join("old");
    for place in &decided.places {
        if place.path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return refused(format!("{}: {} is no place in a state directory", plan.display(), place.path.display()));
        }
        exchange(state, &folder.join("new"), &old, place, points)?;
    }
    if files::is_there(&old)? {
        let aside = state.join(ASIDE);
        files::remove_all(&aside)?;
        points.pass();
        sync_folders(&old)?;
        fs::rename(&old, &aside).about(&aside, "cannot be made")?;
        files::sync_folder(state)?;
    }
    points.pass();
    // The plan goes first, so that what is left is rubbish and nothing else.
    files::remove_file(&plan)?;
    files::sync_folder(&folder)?;
    points.pass();
    files::remove_all(&folder)?;
    Ok(true)
}

fn exchange(state: &Path, new: &Path, old: &Path, place: &Place, points: &Points) -> Result<()> {
    let (here, new, old) = (state.join(&place.path), new.join(&place.path), old.join(&place.path));
    // Done before the power was cut.
    if place.new && !files::is_there(&new)? {
        return Ok(());
    }
    if files::is_there(&here)? && !files::is_there(&old)? {
        files::make_folder(files::folder(&old))?;
        let is_file = fs::symlink_metadata(&here).about(&here, "cannot be looked at")?.is_file();
        points.pass();
        if is_file && place.new {
            // A second name, so that the first is never without a file: a configuration may be looked for at any time.
            fs::hard_link(&here, &old).about(&here, "cannot be kept aside")?;
        } else {
            fs::rename(&here, &old).about(&here, "cannot be put aside")?;
            files::sync_folder(files::folder(&here))?;
        }
        files::sync_folder(files::folder(&old))?;
    }
    points.pass();
    if place.new {
        let folder = files::folder(&here);
        if !files::is_there(folder)? {
            files::make_folder(folder)?;
        }
        fs::rename(&new, &here).about(&here, "cannot be put in place")?;
        files::sync_folder(folder)?;
        points.pass();
    }
    Ok(())
}

/// The folders alone: files in them were moved whole.
fn sync_folders(path: &Path) -> Result<()> {
    for name in files::names(path)? {
        let inner = path.join(name);
        if fs::symlink_metadata(&inner).about(&inner, "cannot be looked at")?.is_dir() {
            sync_folders(&inner)?;
        }
    }
    files::sync_folder(path)
}
