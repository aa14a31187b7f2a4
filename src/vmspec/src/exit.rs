//! The last word of a VM process.
//!
//! The process opens `exit.json` empty when it starts and fills it, with fsync, as its very last act; by then it has no
//! right to create files. So an empty or torn file means the same as none: the process was killed.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::spec::VmSpec;

pub const EXIT_VERSION: u32 = 1;
/// The longest detail kept.
pub const MAX_DETAIL_BYTES: usize = 2048;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitRecord {
    pub version: u32,
    pub server_id: Uuid,
    pub boot_id: Uuid,
    pub generation: u64,
    pub cause: ExitCause,
    /// True when the guest shut down after somebody pressed its power button through the control socket.
    pub requested: bool,
    /// For people: why, in one sentence. At most [`MAX_DETAIL_BYTES`].
    pub detail: Option<String>,
    pub at_unix_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitCause {
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest reported a panic (pvpanic).
    GuestPanicked,
    /// `stop` came over the control socket, or the VM process got SIGTERM.
    Stopped,
    /// The machine was written to files, to go on later.
    Suspended,
    /// The supervisor killed the process from outside and left this record for it.
    Killed,
    /// The machine below the guest failed: QEMU crashed or broke its protocol.
    HypervisorFailed,
    /// The guest never ran.
    StartFailed,
}

impl ExitRecord {
    pub fn new(spec: &VmSpec, cause: ExitCause, requested: bool, detail: Option<String>) -> Self {
        let detail = detail.map(|mut text| {
            let mut end = text.len().min(MAX_DETAIL_BYTES);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text
        });
        Self {
            version: EXIT_VERSION,
            server_id: spec.server_id,
            boot_id: spec.boot_id,
            generation: spec.generation,
            cause,
            requested,
            detail,
            at_unix_ms: crate::unix_ms(),
        }
    }
}
