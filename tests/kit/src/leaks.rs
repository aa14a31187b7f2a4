//! What deleted servers may have left behind.

use db::Tx;

use crate::{TestCloud, wait_for};

/// Rows that only servers have.
const ROWS: &[(&str, &str)] = &[
    ("server rows", "SELECT count(*) FROM compute_server"),
    ("server interfaces", "SELECT count(*) FROM compute_server_nic"),
    ("dedicated CPUs", "SELECT count(*) FROM compute_server_cpu"),
    ("rescues of servers", "SELECT count(*) FROM compute_server_rescue"),
    ("shelves of servers", "SELECT count(*) FROM compute_server_shelf"),
    ("images that nobody fills", "SELECT count(*) FROM images_image WHERE status = 'saving' AND upload_id IS NULL"),
    ("server tags", "SELECT count(*) FROM compute_server_tag"),
    ("running operations", "SELECT count(*) FROM tasks_task"),
    ("allocations", "SELECT count(*) FROM placement_allocation"),
    ("consumers", "SELECT count(*) FROM placement_consumer"),
    ("ports of servers", "SELECT count(*) FROM network_port WHERE device_owner LIKE 'compute:%'"),
];

impl TestCloud {
    /// What is there though no server is: empty once every server is deleted.
    ///
    /// # Panics
    /// When the state cannot be read.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let rows = self.inner().db.read_blocking(|tx: &Tx<'_>| {
            ROWS.iter().map(|(what, sql)| Ok((*what, tx.count(sql, [])?))).collect::<db::Result<Vec<_>>>()
        });
        for (what, count) in rows.expect("rows can be counted") {
            if count > 0 {
                leaks.push(format!("{count} {what}"));
            }
        }
        for entry in std::fs::read_dir(self.state().join("servers")).expect("a directory of servers") {
            leaks.push(format!("directory {}", entry.expect("an entry").path().display()));
        }
        for (_, port) in self.host().state().taps {
            leaks.push(format!("tap of port {port}"));
        }
        leaks
    }

    /// Waits until nothing is left of any server.
    pub async fn wait_for_no_leaks(&self) {
        wait_for("nothing to be left of servers", async || {
            let leaks = self.leaks();
            if leaks.is_empty() { Ok(()) } else { Err(leaks.join(", ")) }
        })
        .await;
    }
}
