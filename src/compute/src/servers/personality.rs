//! Files that a server is given (`personality`, before 2.57). They are on its config drive, and cloud-init puts them where
//! they belong. Compute API reference, "Create Server".

use base64::Engine as _;
use db::{Tx, params};
use rest::{Ctx, Error, Result};
use serde::Deserialize;
use serde_json::Value;

use super::request::bad;
use crate::{
    flavors::handlers::unexpected,
    limits::store::{Of, file_limit, in_force},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InjectedFile {
    pub path: String,
    pub contents: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    path: String,
    contents: String,
}

/// What a request asks for; nothing where it says nothing.
pub(crate) fn asked(ctx: &Ctx, files: Option<Vec<Value>>) -> Result<Vec<InjectedFile>> {
    match files {
        Some(_) if ctx.since(2, 57) => Err(unexpected("personality")),
        files => files.unwrap_or_default().into_iter().map(checked).collect(),
    }
}

fn checked(file: Value) -> Result<InjectedFile> {
    let asked: Asked = serde_json::from_value(file)
        .map_err(|_| bad("personality", "each must have a path and contents, both text, and nothing else"))?;
    if asked.path.is_empty() || asked.path.contains('\0') {
        return Err(bad("personality", "a path must name a file"));
    }
    let packed: String = asked.contents.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let contents = base64::engine::general_purpose::STANDARD.decode(packed);
    let contents = contents.map_err(|_| bad("personality", "contents must be base64"))?;
    Ok(InjectedFile { path: asked.path, contents })
}

/// 403 for more or larger ones than the project may have.
pub(crate) fn check_quota(tx: &Tx<'_>, project_id: &str, files: &[InjectedFile]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let set = in_force(tx, &Of::Project(project_id.to_owned()))?;
    let beyond = |name: &str, count: usize| {
        let most = file_limit(&set, name);
        (most >= 0 && i64::try_from(count).unwrap_or(i64::MAX) > most).then_some(most)
    };
    if beyond("injected_files", files.len()).is_some() {
        return Err(Error::over_quota("Personality file limit exceeded"));
    }
    for file in files {
        if let Some(most) = beyond("injected_file_path_bytes", file.path.len()) {
            return Err(Error::over_quota(format!("Personality file path exceeds maximum {most}")));
        }
        if let Some(most) = beyond("injected_file_content_bytes", file.contents.len()) {
            return Err(Error::over_quota(format!("Personality file content exceeds maximum {most}")));
        }
    }
    Ok(())
}

/// Has these, and no others.
pub(crate) fn replace(tx: &Tx<'_>, server_id: &str, files: &[InjectedFile]) -> db::Result<()> {
    tx.execute("DELETE FROM compute_server_file WHERE server_id = ?1", [server_id])?;
    for (position, file) in (0_i64..).zip(files) {
        tx.execute(
            "INSERT INTO compute_server_file (server_id, position, path, contents) VALUES (?1, ?2, ?3, ?4)",
            params![server_id, position, file.path, file.contents],
        )?;
    }
    Ok(())
}

pub(crate) fn list(tx: &Tx<'_>, server_id: &str) -> db::Result<Vec<InjectedFile>> {
    tx.list(
        "SELECT path, contents FROM compute_server_file WHERE server_id = ?1 ORDER BY position",
        [server_id],
        |row| Ok(InjectedFile { path: row.get(0)?, contents: row.get(1)? }),
    )
}
