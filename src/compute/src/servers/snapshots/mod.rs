//! Images of servers: `createImage`, `createBackup`, and what shelving needs of both.

pub(crate) mod copy;
pub(crate) mod image;
pub(crate) mod operation;
pub(crate) mod requests;
