//! Directories and processes of servers that have no row: seen twice in a row, then removed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tasks::Reconciler;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{App, servers::store};

const EVERY: Duration = Duration::from_secs(60);

pub(crate) fn reconciler(app: &App) -> Reconciler {
    let app = app.clone();
    let suspects: Arc<Mutex<HashSet<Uuid>>> = Arc::default();
    Reconciler::new("compute.leftovers", EVERY, Vec::new(), move || {
        let (app, suspects) = (app.clone(), Arc::clone(&suspects));
        async move {
            let mut suspects = suspects.lock().await;
            let found = orphans(&app).await?;
            for id in found.intersection(&suspects) {
                tracing::warn!(server.id = %id, "removing what is left of a server that does not exist");
                app.driver.stop(*id, None).await?;
                app.driver.remove(*id).await?;
            }
            *suspects = found;
            Ok(())
        }
    })
}

async fn orphans(app: &App) -> Result<HashSet<Uuid>, Box<dyn std::error::Error + Send + Sync>> {
    let servers = app.servers_dir.clone();
    let ids: Vec<Uuid> = tokio::task::spawn_blocking(move || {
        let entries = std::fs::read_dir(servers)?;
        Ok::<_, std::io::Error>(
            entries.flatten().filter_map(|entry| Uuid::try_parse(entry.file_name().to_str()?).ok()).collect(),
        )
    })
    .await??;
    app.db
        .read(move |tx| {
            let mut orphans = HashSet::new();
            for id in ids {
                if !store::exists(tx, &id.to_string())? {
                    orphans.insert(id);
                }
            }
            Ok::<_, db::Error>(orphans)
        })
        .await
        .map_err(Into::into)
}
