//! OS-FEDERATION: identity providers, how their assertions map to users and groups, and service providers.

pub(crate) mod login;
pub(crate) mod mapping;
pub(crate) mod mappings;
pub(crate) mod oidc;
pub(crate) mod policy;
pub(crate) mod protocols;
pub(crate) mod providers;
pub(crate) mod rules;
pub(crate) mod service_providers;
pub(crate) mod shadow;
pub(crate) mod websso;
pub(crate) mod x509;

use rest::Result;

use crate::errors::invalid;

/// Ids that clients choose for these resources: they stand in paths.
const PATH_ID_MAX: usize = 64;

fn path_id(id: String) -> Result<String> {
    // Tokens hold it in at most 254 bytes.
    let fits = (1..=PATH_ID_MAX).contains(&id.chars().count())
        && id.len() <= 254
        && !id.chars().any(|c| c.is_control() || c == '/');
    if fits {
        Ok(id)
    } else {
        Err(invalid("id", format_args!("it has 1 to {PATH_ID_MAX} characters, none of them '/'")))
    }
}
