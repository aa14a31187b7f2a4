//! Landlock: no file by its path, no TCP port, no signal to and no abstract socket of anybody outside (Linux 5.13, 6.7 and
//! 6.12 in turn). Open descriptors keep working.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetStatus,
    Scope,
};

/// Denies this thread, and all that it starts, everything that the kernel's Landlock knows to deny.
///
/// # Errors
/// Why nothing, or not even the file system, could be denied.
pub fn deny_all() -> Result<(), String> {
    // Older kernels know less; what they know is enforced.
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V5)))
        .and_then(|rules| rules.scope(Scope::Signal))
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|error| error.to_string())?;
    match rules.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err("this kernel has it not, or off".to_owned()),
    }
}
