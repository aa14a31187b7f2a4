use axum::extract::State;
use db::Value as Bound;
use rest::{Ctx, Error, Params, Reply, Result};
use serde_json::{Value, json};

use super::{policy, store};
use crate::App;

/// `GET /v1/audit`: newest first. `status` is a number, or a class as in `4xx`.
pub async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::LIST, &rest::target(&[]))?;
    let mut left = params.clone();
    let mut page = store::LIST.page(&mut left)?;
    if let Some(text) = left.take("status").filter(|text| !text.is_empty()) {
        let (least, most) = status(&text)?;
        page.and("status BETWEEN ? AND ?", [Bound::Integer(least), Bound::Integer(most)]);
    }
    left.finish()?;
    let listing = app.db.read(|tx| page.fetch(tx, store::shown)).await?;
    let next = listing.next_link(&ctx, &params, |row| row["id"].as_str().unwrap_or_default());
    Ok(Reply::ok(&json!({"events": listing.rows, "links": {"next": next.map_or(Value::Null, Value::from)}})))
}

/// The least and the greatest status that is asked for.
fn status(text: &str) -> Result<(i64, i64)> {
    let wrong = || Error::bad_request(format!("Invalid value {text:?} for filter status: expected 404, or 4xx."));
    if let Some(class) = text.strip_suffix("xx") {
        let class: i64 = class.parse().map_err(|_| wrong())?;
        return if (1..=5).contains(&class) { Ok((class * 100, class * 100 + 99)) } else { Err(wrong()) };
    }
    let status: i64 = text.parse().map_err(|_| wrong())?;
    if (100..=599).contains(&status) { Ok((status, status)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_number_or_a_class() {
        assert_eq!(status("404").unwrap(), (404, 404));
        assert_eq!(status("5xx").unwrap(), (500, 599));
        for nonsense in ["", "xx", "9xx", "-4xx", "1000", "abc", "99", "4x"] {
            assert!(status(nonsense).is_err(), "{nonsense}");
        }
    }
}
