//! Unified limits: what a project may use of a resource by default (`/v3/registered_limits`) and in particular
//! (`/v3/limits`). The model is `flat`: projects do not count for those above them. Kept here for services to ask;
//! the services of this cloud have quotas of their own.

pub(crate) mod own;
pub(crate) mod policy;
pub(crate) mod registered;
