//! All SQL of members.

use db::{Constraint, Row, Tx, rusqlite};
use rest::{Error, Result};

#[derive(Clone, Debug)]
pub struct Member {
    pub image_id: String,
    pub member: String,
    pub status: String,
    pub created_at: String,
    pub updated_at: String,
}

const COLUMNS: &str = "image_id, member, status, created_at, updated_at";

fn read(row: &Row<'_>) -> rusqlite::Result<Member> {
    Ok(Member {
        image_id: row.get(0)?,
        member: row.get(1)?,
        status: row.get(2)?,
        created_at: row.get(3)?,
        updated_at: row.get(4)?,
    })
}

pub fn list(tx: &Tx<'_>, image_id: &str) -> db::Result<Vec<Member>> {
    let sql = format!("SELECT {COLUMNS} FROM images_member WHERE image_id = ?1 ORDER BY created_at, member");
    tx.list(&sql, [image_id], read)
}

pub fn find(tx: &Tx<'_>, image_id: &str, member: &str) -> db::Result<Option<Member>> {
    let sql = format!("SELECT {COLUMNS} FROM images_member WHERE image_id = ?1 AND member = ?2");
    tx.find(&sql, [image_id, member], read)
}

pub fn count(tx: &Tx<'_>, image_id: &str) -> db::Result<i64> {
    tx.count("SELECT count(*) FROM images_member WHERE image_id = ?1", [image_id])
}

pub fn insert(tx: &Tx<'_>, member: &Member) -> Result<()> {
    tx.execute(
        "INSERT INTO images_member (image_id, member, status, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        [&member.image_id, &member.member, &member.status, &member.created_at, &member.updated_at],
    )
    .on_unique("images_member.image_id, images_member.member", || {
        let Member { image_id, member, .. } = member;
        Error::conflict(format!("The target member {member} is already associated with image {image_id}."))
    })?;
    Ok(())
}

pub fn update(tx: &Tx<'_>, member: &Member) -> db::Result<()> {
    tx.execute(
        "UPDATE images_member SET status = ?3, updated_at = ?4 WHERE image_id = ?1 AND member = ?2",
        [&member.image_id, &member.member, &member.status, &member.updated_at],
    )?;
    Ok(())
}

pub fn delete(tx: &Tx<'_>, image_id: &str, member: &str) -> db::Result<bool> {
    Ok(tx.execute("DELETE FROM images_member WHERE image_id = ?1 AND member = ?2", [image_id, member])? == 1)
}
