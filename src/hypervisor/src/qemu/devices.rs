//! Disks and nics of a QEMU, and how they come and go.
//!
//! What must stay true: a device is in the list from the moment QEMU may have it until QEMU says that it has not; what an
//! attach has done before it failed is undone; a descriptor of a device that is gone is closed in QEMU too.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use serde_json::{Value, json};
use vmspec::protocol::{Device, Devices, DiskStatistics, PluggedDisk, PluggedNic, Refusal, RefusalCode};
use vmspec::{Disk, Nic, VmSpec};

use super::arguments::{Place, disk_backend, disk_device, disk_name, disk_node, nic_backend, nic_device, nic_name};
use super::qmp::{Qmp, QmpError};
use crate::machine::refusal;

#[derive(Debug)]
struct Leaving<T> {
    what: T,
    /// The guest was asked to let go of it.
    leaving: bool,
}

impl<T> Leaving<T> {
    fn staying(what: T) -> Self {
        Self { what, leaving: false }
    }
}

/// What is plugged in.
#[derive(Debug)]
pub struct Plugged {
    /// Each with the set of descriptors that QEMU has its file in.
    disks: Vec<Leaving<(Disk, i64)>>,
    nics: Vec<Leaving<Nic>>,
    /// The slots of the disk on the root bus and of the one that was booted.
    stay: [Option<u8>; 2],
}

fn failed(error: QmpError) -> Refusal {
    refusal(RefusalCode::Failed, error.to_string())
}

/// The arguments of `block_set_io_throttle` for a disk with limits. Zero means none.
pub fn throttle(disk: &Disk) -> Option<Value> {
    let limits = &disk.limits;
    let rate = |limit: Option<u64>| limit.unwrap_or(0);
    (!limits.is_none()).then(|| {
        json!({
            // What has the file is the part of the device behind its PCI function.
            "id": format!("/machine/peripheral/{}/virtio-backend", disk_name(disk.slot)),
            "bps": rate(limits.total_bytes_per_second),
            "bps_rd": rate(limits.read_bytes_per_second),
            "bps_wr": rate(limits.write_bytes_per_second),
            "iops": rate(limits.total_operations_per_second),
            "iops_rd": rate(limits.read_operations_per_second),
            "iops_wr": rate(limits.write_operations_per_second),
        })
    })
}

impl Plugged {
    /// What the machine is started with.
    pub fn new(spec: &VmSpec) -> Self {
        Self {
            disks: spec.disks.iter().map(|disk| Leaving::staying((disk.clone(), disk.descriptor.into()))).collect(),
            nics: spec.nics.iter().map(|nic| Leaving::staying(nic.clone())).collect(),
            stay: [spec.first_slot(), spec.boot_slot()],
        }
    }

    pub fn list(&self) -> Devices {
        let disk = |plugged: &Leaving<(Disk, i64)>| {
            let disk = &plugged.what.0;
            let (serial, size_bytes) = (disk.serial.clone(), disk.size_bytes);
            PluggedDisk { slot: disk.slot, serial, size_bytes, leaving: plugged.leaving }
        };
        let nic = |plugged: &Leaving<Nic>| {
            let nic = &plugged.what;
            PluggedNic { slot: nic.slot, port_id: nic.port_id, leaving: plugged.leaving }
        };
        Devices { disks: self.disks.iter().map(disk).collect(), nics: self.nics.iter().map(nic).collect() }
    }

    pub fn something_leaves(&self) -> bool {
        self.disks.iter().any(|disk| disk.leaving) || self.nics.iter().any(|nic| nic.leaving)
    }

    fn disk(&mut self, slot: u8) -> Option<&mut Leaving<(Disk, i64)>> {
        self.disks.iter_mut().find(|disk| disk.what.0.slot == slot)
    }

    fn nic(&mut self, slot: u8) -> Option<&mut Leaving<Nic>> {
        self.nics.iter_mut().find(|nic| nic.what.slot == slot)
    }

    pub async fn attach_disk(&mut self, qmp: &mut Qmp, disk: Disk, file: OwnedFd) -> Result<(), Refusal> {
        let slot = disk.slot;
        let file = File::from(file);
        crate::descriptors::check_disk(&disk, &file).map_err(|why| refusal(RefusalCode::Failed, why))?;
        if let Some(there) = self.disk(slot) {
            let (known, _) = &there.what;
            let same =
                (&known.serial, known.size_bytes, known.read_only) == (&disk.serial, disk.size_bytes, disk.read_only);
            return match same && !there.leaving {
                true => Ok(()),
                false => Err(refusal(RefusalCode::State, format!("disk slot {slot} is taken"))),
            };
        }
        let serial = |other: &Leaving<(Disk, i64)>| other.what.0.serial == disk.serial;
        if !disk.serial.is_empty() && self.disks.iter().any(serial) {
            return Err(refusal(RefusalCode::State, format!("serial {:?} is there already", disk.serial)));
        }
        let added = qmp.execute_with("add-fd", json!({}), &[file.as_fd()]).await.map_err(failed)?;
        let Some(set) = added.get("fdset-id").and_then(Value::as_i64) else {
            return Err(refusal(RefusalCode::Failed, "QEMU took a descriptor and did not say as what"));
        };
        let plugged = plug_disk(qmp, &disk, set).await;
        match plugged {
            Ok(()) => {
                let limits = throttle(&disk);
                self.disks.push(Leaving::staying((disk, set)));
                let Some(limits) = limits else { return Ok(()) };
                match qmp.execute("block_set_io_throttle", limits).await {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        // Without its limits it must not stay.
                        self.detach(qmp, Device::Disk { slot }).await?;
                        Err(failed(error))
                    }
                }
            }
            Err(error) => {
                forget_disk(qmp, slot, set).await;
                Err(failed(error))
            }
        }
    }

    pub async fn attach_nic(&mut self, qmp: &mut Qmp, nic: Nic, taps: Vec<OwnedFd>) -> Result<(), Refusal> {
        let slot = nic.slot;
        if let Some(there) = self.nic(slot) {
            let same = (there.what.port_id, there.what.mac) == (nic.port_id, nic.mac);
            return match same && !there.leaving {
                true => Ok(()),
                false => Err(refusal(RefusalCode::State, format!("nic slot {slot} is taken"))),
            };
        }
        let mut names = Vec::new();
        let result = async {
            for (queue, tap) in taps.into_iter().enumerate() {
                let tap = File::from(tap);
                crate::descriptors::check_tap(slot, &tap).map_err(|why| refusal(RefusalCode::Failed, why))?;
                let name = format!("{}q{queue}", nic_backend(slot));
                let arguments = json!({ "fdname": name });
                qmp.execute_with("getfd", arguments, &[tap.as_fd()]).await.map_err(failed)?;
                names.push(name);
            }
            let key = if names.len() == 1 { "fd" } else { "fds" };
            let mut backend = json!({ "type": "tap", "id": nic_backend(slot), "vhost": false });
            backend[key] = json!(names.join(":"));
            qmp.execute("netdev_add", backend).await.map_err(failed)?;
            // They are the backend's now.
            names.clear();
            let device = qmp.execute("device_add", nic_device(&nic)).await.map_err(failed);
            if device.is_err() {
                let _ = qmp.execute("netdev_del", json!({ "id": nic_backend(slot) })).await;
            }
            device
        };
        let result = result.await;
        for name in names {
            let _ = qmp.execute("closefd", json!({ "fdname": name })).await;
        }
        result.map(|_| self.nics.push(Leaving::staying(nic)))
    }

    /// Ask the guest to let go. A slot that is empty is done already.
    pub async fn detach(&mut self, qmp: &mut Qmp, device: Device) -> Result<(), Refusal> {
        let stay = self.stay;
        let (name, leaving) = match device {
            Device::Disk { slot } => match self.disk(slot) {
                Some(_) if stay.contains(&Some(slot)) => {
                    return Err(refusal(RefusalCode::Failed, "the disk that was booted cannot be taken away"));
                }
                Some(disk) => (disk_name(slot), &mut disk.leaving),
                None => return Ok(()),
            },
            Device::Nic { slot } => match self.nic(slot) {
                Some(nic) => (nic_name(slot), &mut nic.leaving),
                None => return Ok(()),
            },
        };
        match qmp.execute("device_del", json!({ "id": name })).await {
            Ok(_) => {
                *leaving = true;
                Ok(())
            }
            // Asked before, and the guest has not answered yet.
            Err(QmpError::Refused { .. }) if *leaving => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// QEMU has taken a device out of the machine. Gives what it was, with all that stood behind it gone too.
    pub async fn deleted(&mut self, qmp: &mut Qmp, name: &str) -> Option<Device> {
        if let Some(at) = self.disks.iter().position(|disk| disk_name(disk.what.0.slot) == name) {
            let (disk, set) = self.disks.swap_remove(at).what;
            forget_disk(qmp, disk.slot, set).await;
            return Some(Device::Disk { slot: disk.slot });
        }
        let at = self.nics.iter().position(|nic| nic_name(nic.what.slot) == name)?;
        let slot = self.nics.swap_remove(at).what.slot;
        if let Err(error) = qmp.execute("netdev_del", json!({ "id": nic_backend(slot) })).await {
            tracing::warn!(%error, slot, "the tap of a nic that is gone stays open");
        }
        Some(Device::Nic { slot })
    }

    pub async fn resize_disk(&mut self, qmp: &mut Qmp, slot: u8, size_bytes: u64) -> Result<(), Refusal> {
        let Some(disk) = self.disk(slot) else {
            return Err(refusal(RefusalCode::State, format!("disk slot {slot} is empty")));
        };
        let node = json!({ "node-name": disk_node(slot), "size": size_bytes });
        qmp.execute("block_resize", node).await.map_err(failed)?;
        disk.what.0.size_bytes = size_bytes;
        Ok(())
    }

    pub async fn statistics(&self, qmp: &mut Qmp) -> Result<Vec<DiskStatistics>, QmpError> {
        let blocks = qmp.execute("query-blockstats", json!({ "query-nodes": false })).await?;
        let blocks = blocks.as_array().map(Vec::as_slice).unwrap_or_default();
        let of_slot = |slot: u8| {
            let name = format!("/{}/", disk_name(slot));
            let block = blocks.iter().find(|block| {
                block.get("qdev").and_then(Value::as_str).is_some_and(|path| format!("{path}/").contains(&name))
            });
            let number = |key: &str| block.and_then(|block| block.get("stats")?.get(key)?.as_u64()).unwrap_or(0);
            DiskStatistics {
                slot,
                read_bytes: number("rd_bytes"),
                read_operations: number("rd_operations"),
                written_bytes: number("wr_bytes"),
                write_operations: number("wr_operations"),
                errors: number("failed_rd_operations")
                    + number("failed_wr_operations")
                    + number("failed_flush_operations"),
            }
        };
        Ok(self.disks.iter().map(|disk| of_slot(disk.what.0.slot)).collect())
    }
}

async fn plug_disk(qmp: &mut Qmp, disk: &Disk, set: i64) -> Result<(), QmpError> {
    qmp.execute("blockdev-add", disk_backend(disk, set)).await?;
    qmp.execute("device_add", disk_device(disk, Place::default())).await?;
    Ok(())
}

/// Nothing of a disk's file left in QEMU. What is not there is fine.
async fn forget_disk(qmp: &mut Qmp, slot: u8, set: i64) {
    if let Err(error) = qmp.execute("blockdev-del", json!({ "node-name": disk_node(slot) })).await {
        tracing::debug!(%error, slot, "a block node is not deleted");
    }
    if let Err(error) = qmp.execute("remove-fd", json!({ "fdset-id": set })).await {
        tracing::debug!(%error, slot, "a descriptor is not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN_SPEC: &[u8] = include_bytes!("../../../vmspec/tests/golden/spec-v1.json");

    #[test]
    fn limits_of_a_disk_are_told_in_qemus_words() {
        let mut disk = VmSpec::parse(GOLDEN_SPEC).unwrap().disks[0].clone();
        assert_eq!(throttle(&disk), None);
        disk.limits.total_bytes_per_second = Some(1 << 20);
        disk.limits.read_operations_per_second = Some(7);
        let expected = json!({
            "id": "/machine/peripheral/virtio-disk0/virtio-backend",
            "bps": 1 << 20, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 7, "iops_wr": 0
        });
        assert_eq!(throttle(&disk), Some(expected));
    }
}
