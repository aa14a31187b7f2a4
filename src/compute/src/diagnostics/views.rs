//! Diagnostics before and since 2.48.

use serde_json::{Map, Value, json};

use crate::{
    Options,
    network_info::{Interface, Traffic},
    servers::Server,
    vms::Statistics,
};

pub(super) struct Subject<'a> {
    pub server: &'a Server,
    pub options: &'a Options,
    pub cards: Vec<Card>,
    pub statistics: Statistics,
    /// `None`: not known.
    pub uptime_s: Option<u64>,
}

/// An interface, and what went through it. `None`: not known.
pub(super) struct Card {
    pub interface: Interface,
    pub traffic: Option<Traffic>,
}

impl Subject<'_> {
    fn hypervisor(&self) -> &'static str {
        match self.options.driver {
            vmspec::Driver::Kvm => "kvm",
            vmspec::Driver::Tcg => "qemu",
            vmspec::Driver::Fake => "fake",
        }
    }

    /// One shape for all hypervisors. What nobody counts is null.
    pub fn standard(&self) -> Value {
        let cpus = self.server.flavor.vcpus.max(1);
        // The VM process counts what all virtual CPUs take together.
        let time = (cpus == 1).then_some(self.statistics.cpu_time_ms.saturating_mul(1_000_000));
        let cpu_details: Vec<Value> =
            (0..cpus).map(|id| json!({"id": id, "time": time, "utilisation": null})).collect();
        let nic_details: Vec<Value> = self
            .cards
            .iter()
            .map(|card| {
                let (rx, tx) = card.traffic.map(|traffic| (traffic.received, traffic.sent)).unzip();
                json!({
                    "mac_address": card.interface.mac,
                    "rx_octets": rx.map(|rx| rx.bytes),
                    "rx_packets": rx.map(|rx| rx.packets),
                    "rx_errors": rx.map(|rx| rx.errors),
                    "rx_drop": rx.map(|rx| rx.dropped),
                    "rx_rate": null,
                    "tx_octets": tx.map(|tx| tx.bytes),
                    "tx_packets": tx.map(|tx| tx.packets),
                    "tx_errors": tx.map(|tx| tx.errors),
                    "tx_drop": tx.map(|tx| tx.dropped),
                    "tx_rate": null,
                })
            })
            .collect();
        let disk_details: Vec<Value> = self
            .statistics
            .disks
            .iter()
            .map(|disk| {
                json!({
                    "read_bytes": disk.read_bytes,
                    "read_requests": disk.read_operations,
                    "write_bytes": disk.written_bytes,
                    "write_requests": disk.write_operations,
                    "errors_count": disk.errors,
                })
            })
            .collect();
        json!({
            "state": "running",
            // The one of the words that the reference has that stands for KVM and QEMU: strict clients know no other.
            "driver": "libvirt",
            "hypervisor": self.hypervisor(),
            "hypervisor_os": "linux",
            "uptime": self.uptime_s,
            "config_drive": self.server.config_drive,
            "num_cpus": cpus,
            "num_nics": nic_details.len(),
            "num_disks": disk_details.len(),
            "memory_details": {
                "maximum": self.server.flavor.ram_mib,
                "used": self.statistics.resident_bytes >> 20,
            },
            "cpu_details": cpu_details,
            "nic_details": nic_details,
            "disk_details": disk_details,
        })
    }

    /// Names as libvirt's driver has them: `cpu_time` in nanoseconds, memory in KiB, disks as the guest names them, interfaces
    /// by their taps.
    pub fn free_form(&self) -> Value {
        let statistics = &self.statistics;
        let mut view = Map::new();
        view.insert("cpu_time".into(), json!(statistics.cpu_time_ms.saturating_mul(1_000_000)));
        view.insert("memory".into(), json!(self.server.flavor.ram_mib.saturating_mul(1024)));
        view.insert("memory-rss".into(), json!(statistics.resident_bytes >> 10));
        for (letter, disk) in ('a'..='z').zip(&statistics.disks) {
            for (name, value) in [
                ("read", disk.read_bytes),
                ("read_req", disk.read_operations),
                ("write", disk.written_bytes),
                ("write_req", disk.write_operations),
                ("errors", disk.errors),
            ] {
                view.insert(format!("vd{letter}_{name}"), json!(value));
            }
        }
        for card in &self.cards {
            let Some(traffic) = card.traffic else { continue };
            let name = card.interface.tap_name();
            for (way, counted) in [("rx", traffic.received), ("tx", traffic.sent)] {
                view.insert(format!("{name}_{way}"), json!(counted.bytes));
                view.insert(format!("{name}_{way}_packets"), json!(counted.packets));
                view.insert(format!("{name}_{way}_errors"), json!(counted.errors));
                view.insert(format!("{name}_{way}_drop"), json!(counted.dropped));
            }
        }
        Value::Object(view)
    }
}
