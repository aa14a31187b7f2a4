//! Whole copies of a database: for backups, and before a migration, so that the program before this one can go on from it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use crate::migrations::{self, MIGRATIONS};
use crate::{Error, Result, tx};

/// Copies that are kept beside the database, the newest.
const KEPT: usize = 3;
/// Between the name of the database and the first migration that the copy does not have.
const BEFORE: &str = ".before-";

/// The newest migration that this program knows: the version of its schema. Names sort by time.
#[must_use]
pub fn schema() -> &'static str {
    MIGRATIONS.last().map_or("", |(name, _)| name)
}

/// The migrations of the database at `path`, oldest first. Nothing is changed.
///
/// # Errors
/// When it is no database of ours, or cannot be read.
pub fn applied(path: &Path) -> Result<Vec<String>> {
    of(&tx::connect(path, tx::Mode::ReadOnly)?)
}

fn of(connection: &Connection) -> Result<Vec<String>> {
    let ours = connection
        .query_row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'db_migration'", [], |_| Ok(()))
        .optional()?;
    if ours.is_none() {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT name FROM db_migration ORDER BY name")?;
    let names = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(names)
}

/// The first of these migrations that this program does not know.
#[must_use]
pub fn unknown(applied: &[String]) -> Option<&str> {
    applied.iter().find(|name| !MIGRATIONS.iter().any(|(known, _)| known == name)).map(String::as_str)
}

/// Copies the database at `from`, as it is at one moment, to the new file `to` (mode 0600, on disk when this returns).
/// Others may write meanwhile.
///
/// # Errors
/// When it cannot be read, or `to` cannot be written or holds something.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    copy_of(&tx::connect(from, tx::Mode::ReadOnly)?, to)
}

fn copy_of(connection: &Connection, to: &Path) -> Result<()> {
    // An empty file is fine for SQLite; made here it never is readable for others.
    tx::create_private(to)?;
    let name = to.to_str().ok_or_else(|| Error::Io(std::io::Error::other("its path is not UTF-8")))?;
    connection.execute("VACUUM INTO ?1", [name])?;
    File::open(to)?.sync_all()?;
    Ok(())
}

/// What is known of a database that was looked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its newest migration when it came.
    pub schema: String,
    /// How many migrations this program adds.
    pub added: usize,
    /// Rows of each table, after them.
    pub rows: BTreeMap<String, u64>,
}

/// Looks through every page, follows every foreign key, and brings the schema up to date: **changes the file**, so give it a
/// copy.
///
/// # Errors
/// [`Error::UnknownMigration`] for one of a newer program, [`Error::Corrupt`] with what is wrong.
pub fn check(path: &Path) -> Result<Checked> {
    let mut connection = tx::connect(path, tx::Mode::ReadWrite)?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    let before = of(&connection)?;
    let Some(schema) = before.last().cloned() else {
        return Err(Error::Corrupt("it is no database of Solostack: it has no migrations".into()));
    };
    if let Some(name) = unknown(&before) {
        return Err(Error::UnknownMigration(name.to_owned()));
    }
    look_through(&connection)?;
    migrations::migrate(&mut connection)?;
    look_through(&connection)?;
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut rows = BTreeMap::new();
    for table in tables {
        let quoted = table.replace('"', "\"\"");
        let count: i64 = connection.query_row(&format!("SELECT count(*) FROM \"{quoted}\""), [], |row| row.get(0))?;
        rows.insert(table, u64::try_from(count).unwrap_or(0));
    }
    Ok(Checked { schema, added: MIGRATIONS.len().saturating_sub(before.len()), rows })
}

/// Looks through every page and foreign key of a database that is in use, and changes nothing.
///
/// # Errors
/// [`Error::Corrupt`] with what is wrong.
pub fn sound(path: &Path) -> Result<()> {
    look_through(&tx::connect(path, tx::Mode::ReadOnly)?)
}

fn look_through(connection: &Connection) -> Result<()> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(Error::Corrupt(format!("the database is damaged: {found}")));
    }
    let broken: Option<(String, String)> =
        connection.query_row("PRAGMA foreign_key_check", [], |row| Ok((row.get(0)?, row.get(2)?))).optional()?;
    match broken {
        Some((table, parent)) => {
            Err(Error::Corrupt(format!("a row of {table} belongs to a row of {parent} that is not there")))
        }
        None => Ok(()),
    }
}

/// Keeps a copy beside a database whose schema is about to change. A new database, and one that is up to date, need none.
pub(crate) fn before_migrating(connection: &Connection, path: &Path) -> Result<()> {
    let applied = of(connection)?;
    if applied.is_empty() || unknown(&applied).is_some() {
        return Ok(());
    }
    let Some((first, _)) = MIGRATIONS.iter().find(|(name, _)| !applied.iter().any(|done| done == name)) else {
        return Ok(());
    };
    let kept = beside(path, &format!("{BEFORE}{first}"));
    let partial = beside(path, &format!("{BEFORE}partial.{}", std::process::id()));
    let made = || -> Result<()> {
        remove_partial(path)?;
        copy_of(connection, &partial)?;
        // One of this name is older: the program before this one went on from it.
        fs::rename(&partial, &kept)?;
        Ok(sync_folder(path)?)
    };
    if let Err(source) = made() {
        let _ = fs::remove_file(&partial);
        return Err(Error::Snapshot { path: kept, source: Box::new(source) });
    }
    for old in snapshots(path)?.into_iter().skip(KEPT) {
        fs::remove_file(old)?;
    }
    Ok(())
}

/// The newest copy beside the database that this program can go on from.
///
/// # Errors
/// When the folder cannot be read.
pub fn newest_known(path: &Path) -> Result<Option<PathBuf>> {
    for snapshot in snapshots(path)? {
        // One that cannot be read is none.
        if applied(&snapshot).is_ok_and(|names| !names.is_empty() && unknown(&names).is_none()) {
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}

/// The copies beside a database, newest first.
fn snapshots(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (name, entry) in named(path)? {
        if !name.starts_with("partial.") && !name.ends_with("-wal") && !name.ends_with("-shm") {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// What a process that was killed had begun.
fn remove_partial(path: &Path) -> Result<()> {
    for (name, entry) in named(path)? {
        let writes = name.strip_prefix("partial.").map(|pid| Path::new("/proc").join(pid).exists());
        if writes == Some(false) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Files beside the database that are named as its copies, by what follows.
fn named(path: &Path) -> Result<Vec<(String, fs::DirEntry)>> {
    let prefix = format!("{}{BEFORE}", path.file_name().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder(path))? {
        let entry = entry?;
        if let Some(rest) = entry.file_name().to_string_lossy().strip_prefix(&prefix) {
            found.push((rest.to_owned(), entry));
        }
    }
    Ok(found)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database as a program before the newest migration left it.
    fn older(path: &Path, missing: usize) -> String {
        let connection = tx::connect(path, tx::Mode::ReadWrite).unwrap();
        connection
            .execute_batch("CREATE TABLE db_migration (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)")
            .unwrap();
        for (name, sql) in &MIGRATIONS[..MIGRATIONS.len() - missing] {
            connection.execute_batch(sql).unwrap();
            connection.execute("INSERT INTO db_migration VALUES (?1, '')", [name]).unwrap();
        }
        MIGRATIONS[MIGRATIONS.len() - missing].0.to_owned()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.contains(BEFORE));
        names.sort();
        names
    }

    #[test]
    fn an_older_database_is_copied_before_its_schema_changes_and_the_older_program_can_go_on_from_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("solostack.db");
        let first = older(&path, 1);
        fs::write(folder.path().join(format!("solostack.db{BEFORE}partial.999999999")), "cut off").unwrap();
        drop(crate::Db::open(&path).unwrap());
        assert_eq!(names(folder.path()), [format!("solostack.db{BEFORE}{first}")]);
        let kept = folder.path().join(format!("solostack.db{BEFORE}{first}"));
        assert_eq!(applied(&kept).unwrap().last().unwrap(), MIGRATIONS[MIGRATIONS.len() - 2].0);
        assert_eq!(applied(&path).unwrap().last().unwrap(), schema());
        assert_eq!(newest_known(&path).unwrap(), Some(kept.clone()));
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&kept).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        // Up to date: no further copy.
        drop(crate::Db::open(&path).unwrap());
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn a_new_database_needs_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        drop(crate::Db::open(&folder.path().join("solostack.db")).unwrap());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn only_the_newest_copies_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("solostack.db");
        let first = older(&path, 1);
        for age in 1..6 {
            let old = folder.path().join(format!("solostack.db{BEFORE}2000010100000{age}_then"));
            fs::write(&old, "").unwrap();
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age * 3600);
            File::options().write(true).open(&old).unwrap().set_modified(then).unwrap();
        }
        drop(crate::Db::open(&path).unwrap());
        let kept = ["20000101000001_then", "20000101000002_then", &first].map(|n| format!("solostack.db{BEFORE}{n}"));
        assert_eq!(names(folder.path()), kept);
    }

    #[test]
    fn without_room_for_the_copy_the_schema_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("solostack.db");
        let first = older(&path, 1);
        // Nothing can be renamed over a folder that is not empty, as nothing can be written on a full disk.
        fs::create_dir_all(folder.path().join(format!("solostack.db{BEFORE}{first}/in the way"))).unwrap();
        let error = crate::Db::open(&path).unwrap_err();
        assert!(matches!(error, Error::Snapshot { .. }), "{error}");
        assert!(error.to_string().contains("was left as it is"), "{error}");
        assert_eq!(applied(&path).unwrap().len(), MIGRATIONS.len() - 1);
    }

    #[test]
    fn a_copy_holds_what_was_committed_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("solostack.db");
        let db = crate::Db::open(&path).unwrap();
        let to = folder.path().join("copy.db");
        copy(&path, &to).unwrap();
        let checked = check(&to).unwrap();
        assert_eq!((checked.schema.as_str(), checked.added), (schema(), 0));
        assert_eq!(checked.rows["db_migration"], MIGRATIONS.len() as u64);
        assert!(copy(&path, &to).is_err(), "what is there is not written over");
        drop(db);
    }

    #[test]
    fn a_damaged_database_and_a_foreign_one_and_one_of_a_newer_program_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        drop(crate::Db::open(&path).unwrap());
        let connection = tx::connect(&path, tx::Mode::ReadWrite).unwrap();
        connection.execute("INSERT INTO db_migration VALUES ('29990101000000_future_thing', '')", []).unwrap();
        drop(connection);
        assert!(matches!(check(&path), Err(Error::UnknownMigration(name)) if name.contains("future")));

        let foreign = folder.path().join("b.db");
        tx::connect(&foreign, tx::Mode::ReadWrite).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
        assert!(check(&foreign).unwrap_err().to_string().contains("no database of Solostack"));

        let damaged = folder.path().join("c.db");
        let whole = folder.path().join("d.db");
        drop(crate::Db::open(&whole).unwrap());
        copy(&whole, &damaged).unwrap();
        let length = fs::metadata(&damaged).unwrap().len();
        let file = File::options().write(true).open(&damaged).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4096], length / 2 / 4096 * 4096).unwrap();
        assert!(check(&damaged).is_err());
    }
}
