//! The headers that answers carry since 1.15.

use db::{Clock, clock};
use http::header;
use rest::{Ctx, Reply};
use time::macros::format_description;

/// When what is shown last changed: the latest of the rows' times, or now where no row is shown.
#[derive(Debug, Clone)]
pub struct Changed(String);

impl Changed {
    /// A row's own time.
    pub fn at(row: &str) -> Self {
        Self(row.to_owned())
    }

    pub fn now(clock: &Clock) -> Self {
        Self(clock.now_text())
    }

    /// Rows hold times in a form that sorts as text.
    pub fn latest<'a>(clock: &Clock, rows: impl Iterator<Item = &'a str>) -> Self {
        rows.max().map_or_else(|| Self::now(clock), Self::at)
    }
}

pub trait Fresh {
    /// Adds `last-modified` and `cache-control: no-cache` from 1.15.
    #[must_use]
    fn fresh(self, ctx: &Ctx, changed: &Changed) -> Self;
}

impl Fresh for Reply {
    fn fresh(self, ctx: &Ctx, changed: &Changed) -> Self {
        if !ctx.since(1, 15) {
            return self;
        }
        let format =
            format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
        let text = clock::parse(&changed.0).and_then(|at| at.format(format).ok()).unwrap_or_default();
        self.with_header(header::LAST_MODIFIED, &text).with_header(header::CACHE_CONTROL, "no-cache")
    }
}
