//! How the operator gets in.
//!
//! On a plain host: the first password, `admin-openrc`, `clouds.yaml`. Both files are 0600, and the password is in them and
//! nowhere else in the clear. In the appliance: the first password is chosen by who claims the cloud (`system::Claims`), or its
//! hash was brought before the first start ([`preset`]); there are no files.

use std::{fs, io, path::Path};

use config::{Claiming, Config};
use futures::future::BoxFuture;
use identity::Bootstrap;
use system::{Claims, FirstUser, SetPassword};

use crate::{cloud::Layout, serve::Failure};

/// Public text and causes of a service's error, for an operator's eyes.
#[must_use]
pub fn explain(error: &rest::Error) -> Failure {
    let causes = error.causes();
    if causes.is_empty() { error.public().to_owned().into() } else { format!("{}: {causes}", error.public()).into() }
}

/// Makes the first user and everything around it, once, and keeps the access files true to the address.
/// Answers the id of the admin project.
///
/// # Errors
/// When the database or the files cannot be written.
pub async fn bootstrap(
    identity: &identity::App,
    layout: &Layout,
    config: &Config,
    authority: &str,
    claims: &Claims,
) -> Result<String, Failure> {
    let openrc = layout.root.join("admin-openrc");
    // The file is written before the user exists: a crash between the two leaves a file whose password is then used,
    // never a user whose password nobody knows.
    let known = fs::read_to_string(&openrc).ok().and_then(|text| password_in(&text));
    let password = match &known {
        Some(password) => password.clone(),
        None => random_password(),
    };
    let fresh = !identity.bootstrapped()?;
    if fresh && (claiming(config) || layout.admin_hash().exists()) {
        // Before the first user is made: a crash between the two must not leave a user whose password nobody can choose.
        claims.expect().await.map_err(|error| explain(&error))?;
    }
    let waits = claims.waits().map_err(|error| explain(&error))?;
    if fresh && !waits {
        write_files(layout, config, authority, &password)?;
    }
    let services: Vec<_> = [identity::INFO, images::INFO, placement::INFO, network::INFO, compute::INFO]
        .iter()
        .map(|info| (info.kind, info.name, format!("{}{}", info.prefix, info.catalog_path)))
        .collect();
    let services: Vec<(&str, &str, &str)> =
        services.iter().map(|(kind, name, path)| (*kind, *name, path.as_str())).collect();
    // Without one Identity makes up a password that nobody is told.
    let admin_password = (!waits).then(|| password.clone());
    let outcome = identity.bootstrap(&Bootstrap { admin_password, services: &services }).await?;
    preset(&layout.admin_hash(), claims).await?;
    claims.start().await.map_err(|error| explain(&error))?;
    if !fresh && !waits && known.is_some() {
        // The address may be another one now. Files that the operator removed are not made again.
        write_files(layout, config, authority, &password)?;
    }
    Ok(outcome.admin_project_id)
}

fn claiming(config: &Config) -> bool {
    match config.claim.mode {
        Claiming::Auto => appliance::version().is_some(),
        Claiming::On => true,
        Claiming::Off => false,
    }
}

/// The administrator's password as a hash that was brought before the first start, if one was. The file goes once it is used.
async fn preset(file: &Path, claims: &Claims) -> Result<(), Failure> {
    let hash = match fs::read_to_string(file) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", file.display()).into()),
    };
    match claims.preset(hash).await {
        Ok(true) => tracing::info!("the administrator has the password that was brought"),
        Ok(false) => tracing::warn!("a password was brought for an administrator who has one already: it is not taken"),
        // Whoever is at the console can still claim the cloud.
        Err(error) if error.kind() == rest::Kind::BadRequest => {
            tracing::error!(file = %file.display(), reason = error.public(), "the administrator's password is not taken");
        }
        Err(error) => return Err(explain(&error)),
    }
    Ok(fs::remove_file(file)?)
}

/// The administrator, for who claims the cloud.
#[derive(Debug)]
pub struct Administrator(pub identity::App);

impl FirstUser for Administrator {
    fn password(&self, password: String) -> BoxFuture<'_, rest::Result<SetPassword>> {
        Box::pin(self.0.first_password(password))
    }

    fn hash(&self, hash: String) -> rest::Result<SetPassword> {
        self.0.first_password_hash(hash)
    }

    fn name(&self) -> &'static str {
        "admin"
    }
}

fn random_password() -> String {
    rest::new_hex_id()
}

fn password_in(openrc: &str) -> Option<String> {
    let line = openrc.lines().find_map(|line| line.strip_prefix("export OS_PASSWORD="))?;
    let quoted = line.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    Some(quoted.replace("'\\''", "'"))
}

fn write_files(layout: &Layout, config: &Config, authority: &str, password: &str) -> io::Result<()> {
    let ca = layout.root.join("ca.crt");
    let ca = ca.display();
    let region = &config.region;
    let quoted = password.replace('\'', "'\\''");
    let openrc = format!(
        "# For `source`: everything the openstack client needs, as the administrator.\n\
         export OS_AUTH_URL=https://{authority}/identity/v3\n\
         export OS_IDENTITY_API_VERSION=3\n\
         export OS_AUTH_TYPE=password\n\
         export OS_USERNAME=admin\n\
         export OS_USER_DOMAIN_NAME=Default\n\
         export OS_PROJECT_NAME=admin\n\
         export OS_PROJECT_DOMAIN_NAME=Default\n\
         export OS_REGION_NAME={region}\n\
         export OS_INTERFACE=public\n\
         export OS_CACERT={ca}\n\
         export OS_PASSWORD='{quoted}'\n"
    );
    let quoted = password.replace('\\', "\\\\").replace('"', "\\\"");
    let cloud = |name: &str, scope: &str| {
        format!(
            "  {name}:\n    auth:\n      auth_url: https://{authority}/identity/v3\n      username: admin\n      \
             user_domain_name: Default\n      password: \"{quoted}\"\n{scope}    region_name: {region}\n    \
             interface: public\n    identity_api_version: 3\n    cacert: {ca}\n"
        )
    };
    let clouds = format!(
        "clouds:\n{}{}",
        cloud("solostack", "      project_name: admin\n      project_domain_name: Default\n"),
        cloud("solostack-system", "      system_scope: all\n"),
    );
    write_private(&layout.root.join("clouds.yaml"), &clouds)?;
    write_private(&layout.root.join("admin-openrc"), &openrc)
}

/// Whole or not at all, readable by its owner only.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_back_as_it_was_written() {
        for password in ["plain", "it's", "sp ace", "'\"\\"] {
            let line = format!("export OS_PASSWORD='{}'\n", password.replace('\'', "'\\''"));
            assert_eq!(password_in(&line).as_deref(), Some(password));
        }
    }
}
