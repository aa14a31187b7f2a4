//! Servers that were deleted: what they were, kept for lists (`deleted`, `changes-since`), usage reports and the log of what
//! was done to them, until the configured age or number is reached.

pub(crate) mod store;

use std::time::Duration;

use tasks::Reconciler;

use crate::App;

const EVERY: Duration = Duration::from_secs(300);
/// Rows that one transaction forgets: others wait for the writer meanwhile.
const BATCH: usize = 500;

/// Forgets what is older, or more, than the configuration keeps.
pub(crate) fn reconciler(app: &App) -> Reconciler {
    let app = app.clone();
    Reconciler::new("compute.gone", EVERY, Vec::new(), move || {
        let app = app.clone();
        async move {
            let keep = app.options.keep_deleted;
            loop {
                let before = app.clock.now() - time::Duration::days(keep.days.into());
                let before = db::clock::text(before);
                let forgotten = app
                    .db
                    .write(move |tx| {
                        let ids = store::outlived(tx, &before, keep.count, BATCH)?;
                        ids.iter().try_for_each(|id| store::forget(tx, id))?;
                        Ok::<_, db::Error>(ids.len())
                    })
                    .await?;
                if forgotten < BATCH {
                    return Ok(());
                }
            }
        }
    })
}
