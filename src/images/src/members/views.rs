//! Bodies of members.

use serde_json::{Value, json};

use super::store::Member;

pub fn show(member: &Member) -> Value {
    json!({
        "member_id": member.member,
        "image_id": member.image_id,
        "status": member.status,
        "created_at": db::clock::seconds(&member.created_at),
        "updated_at": db::clock::seconds(&member.updated_at),
        "schema": "/v2/schemas/member",
    })
}

pub fn index(members: &[Member]) -> Value {
    json!({"members": members.iter().map(show).collect::<Vec<_>>(), "schema": "/v2/schemas/members"})
}
