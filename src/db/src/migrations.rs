//! The one migration history, and the schema that it produces.

use rusqlite::{Connection, TransactionBehavior};

use crate::{Error, Result};

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

pub(crate) fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction
        .execute_batch("CREATE TABLE IF NOT EXISTS db_migration (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)")?;
    let applied: Vec<String> = transaction
        .prepare("SELECT name FROM db_migration ORDER BY name")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if let Some(unknown) = applied.iter().find(|name| !MIGRATIONS.iter().any(|(known, _)| known == *name)) {
        return Err(Error::UnknownMigration(unknown.clone()));
    }
    for (name, sql) in MIGRATIONS {
        if applied.iter().any(|done| done == name) {
            continue;
        }
        transaction
            .execute_batch(sql)
            .and_then(|()| {
                transaction.execute("INSERT INTO db_migration VALUES (?1, strftime('%Y-%m-%dT%H:%M:%SZ'))", [name])
            })
            .map_err(|source| Error::Migration { name: (*name).to_owned(), source })?;
    }
    transaction.commit()?;
    Ok(())
}

pub(crate) fn dump(connection: &Connection) -> Result<String> {
    let mut statement =
        connection.prepare("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY tbl_name, type DESC, name")?;
    let statements: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(statements.iter().map(|sql| format!("{sql};\n")).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_sql_is_what_the_migrations_produce() {
        let produced = crate::produced_schema().unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.sql");
        if std::env::var_os("SOLOSTACK_GOLDEN").is_some() {
            std::fs::write(path, &produced).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(produced == committed, "schema.sql is not what the migrations produce: run `just golden` and review");
    }

    #[test]
    fn a_database_of_a_newer_program_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        connection.execute("INSERT INTO db_migration VALUES ('29990101000000_future_thing', '')", []).unwrap();
        assert!(matches!(migrate(&mut connection), Err(Error::UnknownMigration(name)) if name.contains("future")));
    }

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let before = dump(&connection).unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(before, dump(&connection).unwrap());
    }
}
