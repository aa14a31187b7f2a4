//! Microversions that are honoured: each one changes what the routes that exist accept or answer. A version whose
//! subject has no route here (live migration, volumes) is honoured by that route's absence.
//!
//! - 2.2 key pair type, 201 and 204 · 2.3 more `OS-EXT-SRV-ATTR` · 2.5 filters by name and address
//! - 2.7 no access list for public flavors · 2.9 `locked` · 2.10 key pairs of other users · 2.11 `forced_down`
//! - 2.16 `host_status` · 2.18 no project in the path · 2.19 `description` · 2.21 actions of deleted servers
//! - 2.26 server tags · 2.28 `cpu_info` as an object · 2.32, 2.42 device tags · 2.33 hypervisors by page
//! - 2.35 key pairs by page · 2.36 no proxies · 2.37 networks `auto` and `none`, and required · 2.38 unknown status is 400
//! - 2.44 no addFixedIp and removeFixedIp · 2.49 device tags at attach
//! - 2.46 request id header · 2.47 the flavor inside the server · 2.50, 2.57 quota set fields · 2.52 tags at create
//! - 2.53 services and hypervisors by UUID · 2.55 flavor description · 2.57 no personality · 2.58 actions by page
//! - 2.61 extra specs inside flavors · 2.62, 2.84 where and why events happened · 2.63 certificates (refused)
//! - 2.64 one policy of server groups · 2.66 changes-before · 2.70 tags of interfaces · 2.71 server groups of a server
//! - 2.73 why it is locked · 2.74 host at create · 2.75 unknown query parameters are 400, PUT answers in full
//! - 2.78 topology · 2.83 filters for everyone · 2.86 extra specs are checked (here in every version) · 2.90, 2.94 host
//!   names · 2.92 no generated key pairs · 2.96 the zone asked for · 2.98 properties of the image · 2.100 scheduler hints

use rest::{Ctx, Microversion, Params, Range, Result};

pub(crate) const RANGE: Range = Range {
    service: "compute",
    legacy_header: Some("x-openstack-nova-api-version"),
    min: Microversion(2, 1),
    max: Microversion(2, 100),
};

/// Since 2.75 a query parameter that nothing took is a mistake.
///
/// # Errors
/// 400 naming it.
pub(crate) fn finish(ctx: &Ctx, left: Params) -> Result<()> {
    if ctx.since(2, 75) { left.finish() } else { Ok(()) }
}
