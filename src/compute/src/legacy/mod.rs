//! What Compute's API passed on to other services, at the microversions that still have it: networks, floating IPs and
//! security groups until 2.35, images until 2.35 and their metadata until 2.38. Compute API reference, the sections marked
//! "DEPRECATED". Everything here goes through the peers of Network and Images.

pub(crate) mod floating_ips;
pub(crate) mod images;
pub(crate) mod networks;
pub(crate) mod policy;
pub(crate) mod security_groups;

use rest::{Ctx, Result};

/// Whose things: the token's project, and whether it sees those of others.
fn asker(ctx: &Ctx) -> Result<(String, bool)> {
    let creds = ctx.creds()?;
    Ok((creds.project_id().unwrap_or_default().to_owned(), creds.has_role("admin")))
}
