//! What is done to a process that runs, besides ending it: suspend, and devices that come and go.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;
use vmspec::client::Client;
use vmspec::protocol::{Device, Devices, EventKind};
use vmspec::{Nic, ServerDirectory};

use super::process::{END, ProcessDriver, client_error};
use super::{Observed, VmError, blocking, suspended};

/// A guest that is booting misses that a device shall go; it is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Writing a suspended machine: this long, and as much as a slow disk needs for its memory.
const SUSPEND: Duration = Duration::from_secs(60);
const SLOWEST_MIB_A_SECOND: u64 = 16;

impl ProcessDriver {
    pub async fn suspend(&self, server_id: Uuid) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        let directory = self.directory(server_id);
        match self.look(server_id).await? {
            Observed::Running(_) => self.write_to_files(server_id, &directory).await?,
            Observed::Gone(_) | Observed::Absent => {}
            Observed::Unresponsive { reason } => return Err(VmError::Unresponsive { server_id, reason }),
        }
        let whole = blocking(server_id, "cannot record a suspended machine", move || {
            let whole = suspended::is_whole(&directory)?;
            if whole {
                suspended::finish(&directory)?;
            }
            Ok(whole)
        });
        if whole.await? { Ok(()) } else { Err(VmError::NotRunning { server_id }) }
    }

    async fn write_to_files(&self, server_id: Uuid, directory: &ServerDirectory) -> Result<(), VmError> {
        let files = {
            let directory = directory.clone();
            blocking(server_id, "cannot make the files of a suspended machine", move || {
                let memory_mib =
                    directory.read_spec().map_err(std::io::Error::other)?.map_or(0, |spec| spec.memory_mib);
                if let Some(shortage) = suspended::shortage(&directory, memory_mib)? {
                    return Ok(Err(shortage));
                }
                Ok(Ok((suspended::begin(&directory)?, memory_mib)))
            })
            .await?
        };
        let ((state, memory), memory_mib) = files.map_err(|reason| VmError::Refused { server_id, reason })?;
        let client = self.connect(server_id).await?;
        let deadline = SUSPEND + Duration::from_secs(memory_mib / SLOWEST_MIB_A_SECOND);
        let written = client.suspend(state.into(), memory.into(), deadline).await;
        if let Err(error) = written {
            let directory = directory.clone();
            // Whatever is in them is not whole. Should they stay, the next suspend or start removes them.
            let _ = blocking(server_id, "cannot discard files", move || suspended::discard(&directory)).await;
            return Err(client_error(server_id, error));
        }
        let finished = directory.clone();
        blocking(server_id, "cannot record a suspended machine", move || suspended::finish(&finished)).await?;
        if self.wait_gone(server_id, END).await.is_err() {
            self.kill_now(server_id).await?;
        }
        Ok(())
    }

    pub async fn devices(&self, server_id: Uuid) -> Result<Devices, VmError> {
        self.connect(server_id).await?.devices().await.map_err(|error| client_error(server_id, error))
    }

    pub async fn attach_nic(&self, server_id: Uuid, nic: Nic, taps: Vec<OwnedFd>) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        let client = self.connect(server_id).await?;
        client.attach_nic(nic, &taps).await.map_err(|error| client_error(server_id, error))
    }

    pub async fn detach_nic(&self, server_id: Uuid, slot: u8, deadline: Duration) -> Result<(), VmError> {
        let _turn = self.turn(server_id).await;
        let failed = |error| client_error(server_id, error);
        let until = Instant::now() + deadline;
        loop {
            let client = self.connect(server_id).await?;
            let before = client.status().await.map_err(failed)?.last_event;
            let mut events = client.subscribe(Some(before)).await.map_err(failed)?;
            if !has_nic(&client, slot).await.map_err(failed)? {
                return Ok(());
            }
            client.detach_nic(slot).await.map_err(failed)?;
            let pause = until.min(Instant::now() + ASK_AGAIN);
            let gone = timeout_at(pause, async {
                while let Some(event) = events.recv().await {
                    if event.kind == EventKind::DeviceRemoved(Device::Nic { slot }) {
                        return true;
                    }
                }
                false
            });
            match gone.await {
                Ok(true) => return Ok(()),
                // The connection ended: with the VM, or not. Looking again tells.
                Ok(false) => sleep(Duration::from_millis(50)).await,
                Err(_) => {}
            }
            if Instant::now() >= until {
                if !has_nic(&self.connect(server_id).await?, slot).await.map_err(failed)? {
                    return Ok(());
                }
                let reason = format!("the guest has not let go of it within {} s", deadline.as_secs());
                return Err(VmError::Refused { server_id, reason });
            }
        }
    }
}

async fn has_nic(client: &Client, slot: u8) -> Result<bool, vmspec::client::ClientError> {
    Ok(client.devices().await?.nics.iter().any(|nic| nic.slot == slot))
}
