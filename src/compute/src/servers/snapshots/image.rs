//! What is said of an image of a server: what Nova says.

use std::collections::BTreeMap;

use db::Tx;
use images::peer;
use rest::{Credentials, Result};
use serde_json::Value;
use tasks::Failure;

use super::copy;
use crate::{App, servers::Server};

/// Properties of a server's own image that its snapshots do not have: they are about that image's bytes.
const NOT_INHERITED: &[&str] = &[
    "backup_type",
    "bittorrent",
    "cache_in_nova",
    "img_signature",
    "img_signature_certificate_uuid",
    "img_signature_hash_method",
    "img_signature_key_type",
];

/// An image to be made of a server.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub name: String,
    /// The project that gets it.
    pub owner: String,
    /// `image_type` and what else the kind of image brings.
    pub kind: Vec<(&'static str, String)>,
    /// What the user says of it.
    pub metadata: BTreeMap<String, String>,
    pub maker: Maker,
}

/// Who makes it.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    user_id: String,
    user_name: String,
    project_name: Option<String>,
    roles: String,
}

impl Maker {
    pub fn of(creds: &Credentials) -> Self {
        let project_name = match &creds.scope {
            rest::Scope::Project { project, .. } => Some(project.name.clone()),
            _ => None,
        };
        let roles: Vec<&str> = creds.roles.iter().map(|role| role.name.as_str()).collect();
        Self {
            user_id: creds.user.id.clone(),
            user_name: creds.user.name.clone(),
            project_name,
            roles: roles.join(","),
        }
    }
}

/// Inserts the image's record, in the transaction of the operation that fills it. Answers its id.
pub(crate) fn insert(tx: &Tx<'_>, app: &App, server: &Server, wanted: &Wanted) -> Result<String> {
    let min_ram_mib = match &server.image_id {
        Some(id) => peer::min_ram_mib(tx, id)?,
        None => 0,
    };
    let new = peer::NewSnapshot {
        id: rest::new_uuid(),
        name: wanted.name.clone(),
        owner: wanted.owner.clone(),
        min_disk_gib: u32::try_from(server.root_gib).unwrap_or(u32::MAX),
        min_ram_mib,
        properties: properties(server, wanted),
    };
    peer::insert_snapshot(tx, &app.images, &new)?;
    Ok(new.id)
}

fn properties(server: &Server, wanted: &Wanted) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = server
        .image_properties
        .iter()
        .filter(|(name, _)| !NOT_INHERITED.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    let Maker { user_id, user_name, project_name, roles } = &wanted.maker;
    let mut say = |name: &str, value: &str| all.insert(name.to_owned(), value.to_owned());
    say("base_image_ref", server.image_id.as_deref().unwrap_or_default());
    say("boot_roles", roles);
    say("image_location", "snapshot");
    say("image_state", "available");
    say("owner_id", &server.project_id);
    say("owner_project_name", project_name.as_deref().unwrap_or_default());
    say("owner_user_name", user_name);
    say("user_id", user_id);
    for (name, value) in &wanted.kind {
        say(name, value);
    }
    for (name, value) in &wanted.metadata {
        say(name, value);
    }
    // By this an image is found again when its server goes.
    say("instance_uuid", &server.id);
    all
}

/// A property of an image that says yes, in any of the ways that Nova takes.
pub(crate) fn says(server: &Server, name: &str) -> Option<bool> {
    server.image_properties.get(name).and_then(Value::as_str).and_then(rest::parse_bool)
}

/// Fills the image with the copy of the server's disk.
pub(crate) async fn fill(app: &App, server: &Server, image_id: &str) -> std::result::Result<(), Failure> {
    let path = copy::path(app, server, image_id);
    peer::fill(&app.images, image_id, move || std::fs::File::open(path)).await.map_err(|error| {
        let text = format!("The image was not made: {error}.");
        match error {
            peer::FillError::Failed(_) => Failure::retry(text).caused_by(error),
            _ => Failure::fatal(text),
        }
    })
}
