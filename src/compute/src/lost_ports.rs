//! Ports that were deleted through Network while a machine has them: it lets go of them, as on a request to detach.

use std::{collections::HashSet, sync::Arc, time::Duration};

use network::peer;
use tasks::Reconciler;
use tokio::sync::Mutex;

use crate::{
    App,
    servers::{attach::Interfaces, create::unasked, model::VmState, store},
};

/// Deleted ports are seen at once, by the change of Network's tables; this is when a server is asked again that was busy.
const EVERY: Duration = Duration::from_secs(30);

/// A server and its port.
type Lost = (String, String);

pub(crate) fn reconciler(app: &App) -> Reconciler {
    let signal = app.db.changes("network");
    // A guest is asked once; what it keeps is gone with its next start.
    let asked: Arc<Mutex<HashSet<Lost>>> = Arc::default();
    let app = app.clone();
    Reconciler::new("compute.lost_ports", EVERY, vec![signal], move || {
        let (app, asked) = (app.clone(), Arc::clone(&asked));
        async move {
            let mut asked = asked.lock().await;
            let lost = app.db.read(lost).await?;
            asked.retain(|one| lost.contains(one));
            for one in lost {
                if !asked.contains(&one) && let_go(&app, one.clone()).await? {
                    asked.insert(one);
                }
            }
            Ok(())
        }
    })
}

fn lost(tx: &db::Tx<'_>) -> db::Result<Vec<Lost>> {
    let mut placed: Vec<Lost> = tx.list(
        "SELECT n.server_id, n.port_id FROM compute_server_nic n
         JOIN compute_server s ON s.id = n.server_id WHERE s.vm_state = 'active'",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let missing = peer::missing(tx, placed.iter().map(|(_, port_id)| port_id.as_str()))?;
    placed.retain(|(_, port_id)| missing.contains(port_id));
    Ok(placed)
}

/// Whether the server was told; one that is busy is not.
async fn let_go(app: &App, (server_id, port_id): Lost) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let now = app.clock.now_text();
    let told = app
        .db
        .write(move |tx| {
            // Looked at without the transaction: an operation may have come between.
            let server = store::find(tx, &server_id)?;
            let Some(server) = server.filter(|server| server.vm_state == VmState::Active) else { return Ok(false) };
            if server.task_state.is_some() || peer::missing(tx, [port_id.as_str()])?.is_empty() {
                return Ok(false);
            }
            tracing::info!(server.id = server_id, port.id = port_id, "a port of a running server was deleted");
            let request_id = format!("req-{}", rest::new_uuid());
            let task = unasked(&server, "detach_interface", &request_id, &now);
            match tasks::start(tx, &task, &Interfaces::Detach { port_id }) {
                Ok(_) => Ok(true),
                Err(tasks::Busy::Busy(_)) => Ok(false),
                Err(tasks::Busy::Db(error)) => Err(error),
            }
        })
        .await?;
    Ok(told)
}
