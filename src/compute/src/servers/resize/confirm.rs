//! Resizes that nobody confirmed in time are confirmed by the cloud itself, where the configuration says so.

use std::time::Duration;

use db::Tx;
use rest::{Error, Result};
use tasks::{NewTask, Reconciler};

use super::Resize;
use crate::{
    App,
    migrations::{self, Status},
    servers::{
        create::unasked,
        handlers::{busy, require},
        model::VmState,
        store,
    },
};

/// Starts the operation, for whoever asked.
pub(super) fn start(tx: &Tx<'_>, server_id: &str, task: &NewTask<'_>) -> Result<()> {
    require(&store::get(tx, server_id)?, "confirmResize", &[VmState::Resized])?;
    let migration = waiting(tx, server_id)?;
    tasks::start(tx, task, &Resize::Confirm { migration }).map_err(|error| busy(error, server_id))?;
    Ok(migrations::store::set_status(tx, migration, Status::Confirming, task.now)?)
}

/// The resize that waits.
pub(super) fn waiting(tx: &Tx<'_>, server_id: &str) -> Result<i64> {
    let open = migrations::store::open_of(tx, server_id)?;
    let waiting = open.iter().find(|migration| migration.status == Status::Finished.as_str());
    waiting.map(|migration| migration.id).ok_or_else(|| Error::bad_request("Instance has not been resized."))
}

pub(crate) fn reconciler(app: &App) -> Option<Reconciler> {
    let window = app.options.resize_confirm_window?;
    // Upstream looks once a minute; a shorter window is not to be waited for that long.
    let every = (window / 2).clamp(Duration::from_millis(100), Duration::from_secs(60));
    let app = app.clone();
    Some(Reconciler::new("compute.resize_confirm", every, Vec::new(), move || {
        let app = app.clone();
        async move { round(&app, window).await }
    }))
}

async fn round(app: &App, window: Duration) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let now = app.clock.now();
    let until = db::clock::text(now - window);
    let overdue = app.db.read(move |tx| migrations::store::unconfirmed(tx, &until)).await?;
    for id in overdue {
        let now = app.clock.now_text();
        let started = app
            .db
            .write(move |tx| {
                let server = store::get(tx, &id)?;
                let request_id = format!("req-{}", rest::new_uuid());
                tracing::info!(server.id = id, "nobody confirmed the resize in time, it is confirmed");
                start(tx, &id, &unasked(&server, "confirmResize", &request_id, &now))
            })
            .await;
        // Whoever was faster, a user or a delete, is right.
        if let Err(error) = started {
            tracing::debug!(reason = error.public(), "the resize is not confirmed");
        }
    }
    Ok(())
}
