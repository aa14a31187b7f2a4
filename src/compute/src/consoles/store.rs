//! All SQL of console tokens.

use db::Tx;

use super::model::{Console, hash};

/// What a token opens.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub server_id: String,
    pub console: Console,
}

/// Keeps a token; what nobody can use any more goes.
pub(crate) fn insert(
    tx: &Tx<'_>,
    token: &str,
    server_id: &str,
    console: Console,
    expires_at: &str,
    now: &str,
) -> db::Result<()> {
    tx.execute("DELETE FROM compute_console_token WHERE expires_at <= ?1", [now])?;
    tx.execute(
        "INSERT INTO compute_console_token (token_hash, server_id, console, expires_at) VALUES (?1, ?2, ?3, ?4)",
        [&hash(token), server_id, console.kind(), expires_at],
    )?;
    Ok(())
}

/// What the token opens, if it still does.
pub(crate) fn find(tx: &Tx<'_>, token: &str, now: &str) -> db::Result<Option<Opened>> {
    let found: Option<(String, String)> = tx.find(
        "SELECT server_id, console FROM compute_console_token WHERE token_hash = ?1 AND expires_at > ?2",
        [&hash(token), now],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(found.and_then(|(server_id, kind)| Some(Opened { server_id, console: Console::parse(&kind)? })))
}

/// As [`find`], and it opens nothing from then on.
pub(crate) fn take(tx: &Tx<'_>, token: &str, now: &str) -> db::Result<Option<Opened>> {
    let found = find(tx, token, now)?;
    tx.execute("DELETE FROM compute_console_token WHERE token_hash = ?1", [hash(token)])?;
    Ok(found)
}
