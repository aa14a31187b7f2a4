use db::{Result, Tx, params};

/// What is known of the code.
pub struct Row {
    /// SHA-256, hexadecimal; `None` until the first code is made.
    pub code_hash: Option<String>,
}

pub fn find(tx: &Tx<'_>) -> Result<Option<Row>> {
    tx.find("SELECT code_hash FROM system_claim WHERE id = 1", [], |row| Ok(Row { code_hash: row.get(0)? }))
}

pub fn insert(tx: &Tx<'_>, now: &str) -> Result<()> {
    tx.execute("INSERT INTO system_claim (id, wrong, made_at) VALUES (1, 0, ?) ON CONFLICT (id) DO NOTHING", [now])?;
    Ok(())
}

pub fn set_code(tx: &Tx<'_>, hash: &str, now: &str) -> Result<()> {
    let sql = "UPDATE system_claim SET code_hash = ?1, wrong = 0, made_at = ?2 WHERE id = 1";
    tx.execute(sql, params![hash, now])?;
    Ok(())
}

/// Counts a wrong code; answers how many there were.
pub fn count_wrong(tx: &Tx<'_>) -> Result<i64> {
    tx.execute("UPDATE system_claim SET wrong = wrong + 1 WHERE id = 1", [])?;
    tx.count("SELECT max(wrong) FROM system_claim", [])
}

/// False when it is gone already.
pub fn delete(tx: &Tx<'_>) -> Result<bool> {
    Ok(tx.execute("DELETE FROM system_claim WHERE id = 1", [])? > 0)
}
