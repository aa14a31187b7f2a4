//! What projects used over a time, from the rows of servers that are there and were. Compute API reference, "Usage reports
//! (os-simple-tenant-usage)" and "Server usage audit log (os-instance-usage-audit-log)".

pub(crate) mod audit_log;
pub(crate) mod handlers;
mod model;
pub(crate) mod policy;
mod store;
