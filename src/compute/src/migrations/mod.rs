//! `os-migrations`: on one host these are its resizes. Compute API reference, "Migrations".

pub(crate) mod handlers;
pub(crate) mod of_server;
pub(crate) mod policy;
pub(crate) mod store;

use crate::{flavors::Flavor, servers::model::VmState};

/// How far a resize is, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    PreMigrating,
    Migrating,
    PostMigrating,
    /// Waits to be confirmed or taken back.
    Finished,
    Confirming,
    Confirmed,
    Reverting,
    Reverted,
    Error,
}

impl Status {
    pub const OPEN: [Self; 6] =
        [Self::PreMigrating, Self::Migrating, Self::PostMigrating, Self::Finished, Self::Confirming, Self::Reverting];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreMigrating => "pre-migrating",
            Self::Migrating => "migrating",
            Self::PostMigrating => "post-migrating",
            Self::Finished => "finished",
            Self::Confirming => "confirming",
            Self::Confirmed => "confirmed",
            Self::Reverting => "reverting",
            Self::Reverted => "reverted",
            Self::Error => "error",
        }
    }
}

/// A resize of a server, on this host from itself to itself.
#[derive(Clone, Debug)]
pub(crate) struct Migration {
    pub id: i64,
    pub uuid: String,
    pub server_id: String,
    pub project_id: String,
    pub user_id: String,
    pub status: String,
    pub old_flavor: Flavor,
    pub new_flavor: Flavor,
    pub old_number: Option<i64>,
    pub new_number: Option<i64>,
    pub old_root_gib: i64,
    pub new_root_gib: i64,
    /// Active or stopped: what the server is again when all is done.
    pub old_vm_state: VmState,
    pub created_at: String,
    pub updated_at: String,
}
