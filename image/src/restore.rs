//! A cloud that comes from a backup at the machine's first boot.

use std::path::Path;

use crate::backup::{self, Into, Restored};
use crate::files::Result;
use crate::points::Points;

/// Restores the backup at `source` into a `state` that holds no cloud yet. Done before `serve` starts.
///
/// # Errors
/// Why not: there is a cloud already, or the backup is not whole or not for this version. The state is then as it was.
pub fn at_first_boot(source: &Path, state: &Path) -> Result<Restored> {
    backup::restore(source, None, &Into { state: state.to_owned(), replace: false, points: Points::default() })
}
