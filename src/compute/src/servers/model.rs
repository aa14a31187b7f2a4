//! A server and its states.
//!
//! ```text
//!  POST ──> building ──create──> active <──start, reboot── stopped
//!              │                  ││ ^ ^                      ^
//!              │ nothing fits,    ││ │ └─ reboot              │
//!              │ a step failed    │└─┼─stop, guest powers off─┘
//!              v                  v  │
//!            error    paused, suspended: by pause and suspend, and back by unpause and resume (or a hard reboot)
//!
//!  rescue:   active, stopped, error ──> rescued ──unrescue──> active
//!  shelve:   active, stopped, paused, suspended ──> shelved ──offload──> shelved_offloaded ──unshelve──> active
//!  createImage, createBackup: active, stopped, paused, suspended, and stay so
//!
//!  DELETE from any state: task_state deleting, then the row is gone, and what it was is kept for a while (`gone/`)
//! ```
//! Resizes and their ways back are drawn in `resize`; a rebuild ends active or stopped, as it began, or in error.
//! A paused or suspended server whose process (or memory) is lost is stopped.
//! `vm_state` is what the server is, `task_state` what is being done to it, `power_state` what the hypervisor last saw.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::flavors::Flavor;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VmState {
    Building,
    Active,
    Paused,
    Suspended,
    Stopped,
    /// Of another size, which waits to be confirmed or taken back.
    Resized,
    Rescued,
    Shelved,
    ShelvedOffloaded,
    Error,
}

impl VmState {
    const ALL: [Self; 10] = [
        Self::Building,
        Self::Active,
        Self::Paused,
        Self::Suspended,
        Self::Stopped,
        Self::Resized,
        Self::Rescued,
        Self::Shelved,
        Self::ShelvedOffloaded,
        Self::Error,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Stopped => "stopped",
            Self::Resized => "resized",
            Self::Rescued => "rescued",
            Self::Shelved => "shelved",
            Self::ShelvedOffloaded => "shelved_offloaded",
            Self::Error => "error",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Nova's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub(crate) enum PowerState {
    NoState = 0,
    Running = 1,
    Paused = 3,
    Shutdown = 4,
    Crashed = 6,
}

/// Why a server is in error, as `fault` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub code: u16,
    pub message: String,
    pub created: String,
}

/// A field that comes to be added needs `#[serde(default)]`: what deleted servers were is kept in this form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Server {
    pub id: String,
    pub project_id: String,
    pub user_id: String,
    pub name: String,
    pub hostname: String,
    pub description: Option<String>,
    pub vm_state: VmState,
    pub task_state: Option<String>,
    pub power_state: i64,
    pub locked_by: Option<String>,
    pub image_id: Option<String>,
    pub image_properties: Map<String, Value>,
    pub flavor: Flavor,
    pub root_gib: i64,
    pub key_name: Option<String>,
    pub public_key: Option<String>,
    pub key_type: Option<String>,
    pub user_data: Option<String>,
    pub config_drive: bool,
    pub metadata: BTreeMap<String, String>,
    pub access_ipv4: String,
    pub access_ipv6: String,
    pub disk_config: String,
    pub availability_zone: Option<String>,
    pub reservation_id: String,
    pub launch_index: i64,
    pub run_as: i64,
    pub fault: Option<Fault>,
    pub created_at: String,
    pub updated_at: String,
    pub launched_at: Option<String>,
    /// When it was deleted; none of those that are there.
    #[serde(default)]
    pub terminated_at: Option<String>,
    #[serde(default)]
    pub locked_reason: Option<String>,
    /// As sent.
    #[serde(default)]
    pub scheduler_hints: Map<String, Value>,
}

impl Server {
    /// The word clients wait for.
    pub fn status(&self) -> &'static str {
        if self.terminated_at.is_some() {
            return "DELETED";
        }
        status(self.vm_state, self.task_state.as_deref())
    }

    /// `OS-EXT-STS:vm_state`.
    pub fn vm_word(&self) -> &'static str {
        if self.terminated_at.is_some() { "deleted" } else { self.vm_state.as_str() }
    }

    /// What it takes of each resource class.
    pub fn resources(&self) -> Vec<(&'static str, i64)> {
        resources(&self.flavor, self.root_gib)
    }

    pub fn locked(&self) -> bool {
        self.locked_by.is_some()
    }

    /// The name that the hypervisor gives it, as libvirt's driver does by default.
    pub fn instance_name(&self) -> String {
        format!("instance-{}", &self.id[..8])
    }
}

/// The word of a server that is there.
pub(crate) fn status(vm_state: VmState, task_state: Option<&str>) -> &'static str {
    match (vm_state, task_state) {
        (VmState::Active | VmState::Stopped, Some("rebooting")) => "REBOOT",
        (VmState::Active | VmState::Stopped | VmState::Error, Some("rebooting_hard")) => "HARD_REBOOT",
        (
            VmState::Active | VmState::Stopped | VmState::Error,
            Some("rebuilding" | "rebuild_block_device_mapping" | "rebuild_spawning"),
        ) => "REBUILD",
        (
            VmState::Active | VmState::Stopped,
            Some("resize_prep" | "resize_migrating" | "resize_migrated" | "resize_finish"),
        ) => "RESIZE",
        (VmState::Active, Some("updating_password")) => "PASSWORD",
        (VmState::Resized, Some("resize_reverting")) => "REVERT_RESIZE",
        (VmState::Resized, _) => "VERIFY_RESIZE",
        (VmState::Building, _) => "BUILD",
        (VmState::Active, _) => "ACTIVE",
        (VmState::Paused, _) => "PAUSED",
        (VmState::Suspended, _) => "SUSPENDED",
        (VmState::Stopped, _) => "SHUTOFF",
        (VmState::Rescued, _) => "RESCUE",
        (VmState::Shelved, _) => "SHELVED",
        (VmState::ShelvedOffloaded, _) => "SHELVED_OFFLOADED",
        (VmState::Error, _) => "ERROR",
    }
}

/// What a server of this size takes of each resource class; classes it takes nothing of are left out.
pub(crate) fn resources(flavor: &Flavor, root_gib: i64) -> Vec<(&'static str, i64)> {
    [("VCPU", flavor.vcpus), ("MEMORY_MB", flavor.ram_mib), ("DISK_GB", flavor.disk_total_gib(root_gib))]
        .into_iter()
        .filter(|(_, amount)| *amount > 0)
        .collect()
}

/// task_states that the servers of a status are in; none where it is the vm_state alone that tells.
pub(crate) fn task_states_of_status(status: &str) -> &'static [&'static str] {
    match status.to_ascii_uppercase().as_str() {
        "REBOOT" => &["rebooting"],
        "HARD_REBOOT" => &["rebooting_hard"],
        "PASSWORD" => &["updating_password"],
        "REBUILD" => &["rebuilding", "rebuild_block_device_mapping", "rebuild_spawning"],
        "RESIZE" => &["resize_prep", "resize_migrating", "resize_migrated", "resize_finish"],
        "REVERT_RESIZE" => &["resize_reverting"],
        _ => &[],
    }
}

/// vm_states whose servers a `status` filter means; `None` for a word that is no status.
pub(crate) fn states_of_status(status: &str) -> Option<&'static [&'static str]> {
    Some(match status.to_ascii_uppercase().as_str() {
        "ACTIVE" | "PASSWORD" => &["active"],
        "REBOOT" | "RESIZE" => &["active", "stopped"],
        "HARD_REBOOT" | "REBUILD" => &["active", "stopped", "error"],
        // The second is the vm_state, which clients take for the status.
        "VERIFY_RESIZE" | "REVERT_RESIZE" | "RESIZED" => &["resized"],
        "BUILD" => &["building"],
        "SHUTOFF" => &["stopped"],
        "PAUSED" => &["paused"],
        "SUSPENDED" => &["suspended"],
        "RESCUE" => &["rescued"],
        "SHELVED" => &["shelved"],
        "SHELVED_OFFLOADED" => &["shelved_offloaded"],
        "ERROR" => &["error"],
        "DELETED" => &["deleted"],
        // States that no server here can be in.
        "SOFT_DELETED" | "MIGRATING" | "UNKNOWN" => &[],
        _ => return None,
    })
}

/// A DNS label from a server's name, as Nova makes one.
pub(crate) fn hostname(name: &str, id: &str) -> String {
    // Network's, so that the guest's own name is the one that DNS knows.
    let label = network::peer::host_name(name);
    if label.is_empty() { format!("server-{}", &id[..8]) } else { label }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_labels_whatever_the_name() {
        let id = "0123456789";
        assert_eq!(hostname("My first_Server", id), "my-first-server");
        assert_eq!(hostname("сервер", id), "server-01234567");
        assert_eq!(hostname("a.b.c.", id), "a-b-c");
        assert_eq!(hostname(&"x".repeat(200), id).len(), 63);
    }
}
