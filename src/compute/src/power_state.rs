//! What the guest did by itself: a server whose process ended is shut off, whoever ended it.

use std::{sync::Arc, time::Duration};

use tasks::Reconciler;
use tokio::sync::Mutex;

use crate::{
    App,
    servers::{
        model::{PowerState, VmState},
        store,
    },
    vms::{Observed, VmEvent, VmEventKind},
};

/// Ends of processes are seen at once by their events; this bounds what a missed event costs.
const EVERY: Duration = Duration::from_secs(30);

pub(crate) fn reconciler(app: &App) -> Reconciler {
    // An event is turned into a change that the reconciler waits for.
    let ended = app.db.generation("vm");
    let signal = ended.changes();
    let events = Arc::new(Mutex::new(None::<tokio::task::JoinHandle<()>>));
    let app = app.clone();
    Reconciler::new("compute.power_state", EVERY, vec![signal], move || {
        let (app, ended, events) = (app.clone(), ended.clone(), Arc::clone(&events));
        async move {
            let mut listening = events.lock().await;
            if listening.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                let mut receiver = app.driver.events();
                *listening = Some(tokio::spawn(async move {
                    loop {
                        match receiver.recv().await {
                            Ok(VmEvent {
                                kind: VmEventKind::Gone { .. } | VmEventKind::Unresponsive { .. }, ..
                            }) => {
                                ended.bump();
                            }
                            Ok(_) => {}
                            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => ended.bump(),
                            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                        }
                    }
                }));
            }
            drop(listening);
            round(&app).await
        }
    })
}

async fn round(app: &App) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let active: Vec<String> = app
        .db
        .read(|tx| {
            tx.list(
                "SELECT id FROM compute_server s
                 WHERE (vm_state IN ('active', 'paused') OR vm_state IN ('resized', 'rescued') AND power_state = 1)
                 AND NOT EXISTS (SELECT 1 FROM tasks_task t WHERE t.resource = s.id)",
                [],
                |row| row.get(0),
            )
        })
        .await?;
    for id in active {
        let Ok(uuid) = uuid::Uuid::try_parse(&id) else { continue };
        // One that is silent for a moment is not dead: it stays what it is until its process is gone.
        if let Observed::Gone(gone) = app.driver.observe(uuid).await? {
            let now = app.clock.now_text();
            let (state, power) = match gone.exit {
                // Whoever wanted that has not said so in the row: nothing is lost if the row says it now.
                _ if app.driver.is_suspended(uuid).await? => (VmState::Suspended, PowerState::Shutdown),
                Some(_) => (VmState::Stopped, PowerState::Shutdown),
                None => (VmState::Stopped, PowerState::Crashed),
            };
            tracing::info!(server.id = id, ?state, ?power, "the server's process ended");
            app.db
                .write(move |tx| {
                    // Looked at without the transaction: an operation may have come between.
                    let Some(server) = store::find(tx, &id)?.filter(|server| server.task_state.is_none()) else {
                        return Ok(());
                    };
                    if tasks::find(tx, &id)?.is_some() {
                        return Ok(());
                    }
                    match server.vm_state {
                        VmState::Active | VmState::Paused => store::settle(tx, &id, state, power, &now)?,
                        // They wait on: a resized one is shut off once it is confirmed, a rescued one is unrescued.
                        VmState::Resized | VmState::Rescued => store::set_power_state(tx, &id, power, &now)?,
                        _ => {}
                    }
                    Ok::<_, db::Error>(())
                })
                .await?;
        }
    }
    Ok(())
}
