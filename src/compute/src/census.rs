//! What the whole machine has and runs, for its operator's graphs: counted when somebody asks, kept nowhere.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use rest::{Error, Result};
use uuid::Uuid;

use crate::{
    App, network_info,
    servers::model::{PowerState, VmState, status},
    vms::Statistics,
};

/// VM processes that are asked at once.
const AT_ONCE: usize = 16;

/// How much of a resource class there is, and how much is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// `VCPU`, `MEMORY_MB`, `DISK_GB`.
    pub class: String,
    /// What may be promised: with the ratio, without what is reserved.
    pub capacity: i64,
    pub used: i64,
}

/// What has gone through an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicCounters {
    pub port_id: String,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// What a running server uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    pub server_id: String,
    pub project_id: String,
    pub memory_mib: i64,
    pub statistics: Statistics,
    pub nics: Vec<NicCounters>,
}

impl App {
    /// How many servers there are of each status.
    ///
    /// # Errors
    /// The database's.
    pub async fn servers_by_status(&self) -> Result<BTreeMap<&'static str, i64>> {
        let groups: Vec<(String, Option<String>, i64)> = self
            .db
            .read(|tx| {
                let sql = "SELECT vm_state, task_state, count(*) FROM compute_server GROUP BY vm_state, task_state";
                tx.list(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            })
            .await
            .map_err(|error: db::Error| Error::internal(error))?;
        let mut counts = BTreeMap::new();
        for (vm_state, task_state, count) in groups {
            let Some(vm_state) = VmState::parse(&vm_state) else { continue };
            *counts.entry(status(vm_state, task_state.as_deref())).or_default() += count;
        }
        Ok(counts)
    }

    /// What this machine has to give. Empty where it gives nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn shares(&self) -> Result<Vec<Share>> {
        self.db
            .read(|tx| {
                let node = crate::host::store::node_uuid(tx)?;
                let usage = placement::peer::usage(tx, &node)?;
                let share = |usage: placement::peer::Usage| Share {
                    class: usage.class,
                    capacity: usage.capacity,
                    used: usage.used,
                };
                Ok(usage.into_iter().map(share).collect())
            })
            .await
    }

    /// What running servers use. Those that did not say so by the deadline are left out.
    ///
    /// # Errors
    /// The database's.
    pub async fn guests(&self, deadline: Duration) -> Result<Vec<Guest>> {
        let end = tokio::time::Instant::now() + deadline;
        let running: Vec<(String, String, i64)> = self
            .db
            .read(|tx| {
                tx.list(
                    "SELECT id, project_id, ram_mib FROM compute_server WHERE power_state = ?",
                    [PowerState::Running as i64],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
            })
            .await
            .map_err(|error: db::Error| Error::internal(error))?;
        let asked = futures::stream::iter(running).map(async |(server_id, project_id, memory_mib)| {
            let guest = self.guest(server_id, project_id, memory_mib);
            tokio::time::timeout_at(end, guest).await.ok().flatten()
        });
        Ok(asked.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await)
    }

    async fn guest(&self, server_id: String, project_id: String, memory_mib: i64) -> Option<Guest> {
        let uuid = Uuid::try_parse(&server_id).ok()?;
        // One that has just ended is no news.
        let statistics = self.driver.statistics(uuid).await.ok()?;
        let id = server_id.clone();
        let interfaces = self.db.read(move |tx| Ok::<_, Error>(network_info::of_servers(tx, &[&id])?.of(&id).to_vec()));
        let mut nics = Vec::new();
        for interface in interfaces.await.ok()? {
            if let Some(traffic) = network_info::traffic(self, &interface).await {
                nics.push(NicCounters {
                    port_id: interface.port_id,
                    received_bytes: traffic.received.bytes,
                    sent_bytes: traffic.sent.bytes,
                });
            }
        }
        Some(Guest { server_id, project_id, memory_mib, statistics, nics })
    }
}
