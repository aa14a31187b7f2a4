//! Servers that have been shelved for long enough give their share of the host back.

use std::time::Duration;

use tasks::Reconciler;

use crate::{
    App,
    servers::{create::unasked, model::VmState, shelve::Shelve, store},
};

const EVERY: Duration = Duration::from_secs(30);

pub(crate) fn reconciler(app: &App) -> Reconciler {
    let app = app.clone();
    Reconciler::new("compute.offload", EVERY, Vec::new(), move || {
        let app = app.clone();
        async move { round(&app).await }
    })
}

async fn round(app: &App) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Some(after) = app.options.shelved_offload_after else { return Ok(()) };
    let after = time::Duration::try_from(after)?;
    let (now, until) = (app.clock.now_text(), db::clock::text(app.clock.now() - after));
    app.db
        .write(move |tx| {
            let due: Vec<String> = tx.list(
                "SELECT s.id FROM compute_server s JOIN compute_server_shelf f ON f.server_id = s.id
                 WHERE s.vm_state = 'shelved' AND s.task_state IS NULL AND f.shelved_at <= ?1
                   AND NOT EXISTS (SELECT 1 FROM tasks_task t WHERE t.resource = s.id)",
                [until],
                |row| row.get(0),
            )?;
            for id in due {
                let Some(server) = store::find(tx, &id)?.filter(|server| server.vm_state == VmState::Shelved) else {
                    continue;
                };
                let request_id = format!("req-{}", rest::new_uuid());
                store::set_task_state(tx, &id, Some("shelving_offloading"), &now)?;
                match tasks::start(tx, &unasked(&server, "shelveOffload", &request_id, &now), &Shelve::Offload) {
                    Ok(_) | Err(tasks::Busy::Busy(_)) => {}
                    Err(tasks::Busy::Db(error)) => return Err(error),
                }
            }
            Ok::<_, db::Error>(())
        })
        .await?;
    Ok(())
}
