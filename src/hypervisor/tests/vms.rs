//! x
#[path = "../../compute/src/vms/mod.rs"]
mod vms;
fn main() {}
