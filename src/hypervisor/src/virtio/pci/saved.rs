//! The transport of a device, to be kept while its machine is suspended. Nothing of it is trusted when it comes back.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::{FEATURES_OK, ISR_CONFIG, ISR_QUEUE, NEEDS_RESET, STATUS_OF_DRIVER, Setup, VirtioPci};
use crate::pci::RestoreError;
use crate::pci::config::{COMMAND_INTX_DISABLE, SavedConfiguration};
use crate::pci::msix::SavedMsix;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedQueue {
    size: u16,
    enabled: bool,
    descriptors: u64,
    available: u64,
    used: u64,
    vector: u16,
    next_avail: u16,
    next_used: u16,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    device_type: u16,
    configuration: SavedConfiguration,
    msix: SavedMsix,
    status: u8,
    generation: u8,
    isr: u8,
    config_vector: u16,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    queue_select: u16,
    queues: Vec<SavedQueue>,
    active: bool,
    device: serde_json::Value,
}

impl VirtioPci {
    /// Of a paused function.
    pub(super) fn saved(&self) -> Saved {
        let place = |index: usize| {
            if let Some(places) = &self.awaiting {
                return places.get(index).copied().unwrap_or_default();
            }
            let states = self.paused.iter().flatten();
            let state = states.into_iter().find(|(queue, _)| usize::from(*queue) == index);
            state.map_or((0, 0), |(_, state)| (state.next_avail, state.next_used))
        };
        let queues = self.queues.iter().enumerate().map(|(index, setup)| {
            let (next_avail, next_used) = place(index);
            SavedQueue {
                size: setup.size,
                enabled: setup.enabled,
                descriptors: setup.descriptors,
                available: setup.available,
                used: setup.used,
                vector: self.attention.queue_vectors[index].load(Ordering::SeqCst),
                next_avail,
                next_used,
            }
        });
        Saved {
            device_type: self.device.device_type(),
            configuration: self.configuration.save(),
            msix: self.attention.msix.save(),
            status: self.status(),
            generation: self.attention.generation.load(Ordering::SeqCst),
            isr: self.attention.intx().isr,
            config_vector: self.attention.config_vector.load(Ordering::SeqCst),
            device_feature_select: self.device_feature_select,
            driver_feature_select: self.driver_feature_select,
            driver_features: self.driver_features,
            queue_select: self.queue_select,
            queues: queues.collect(),
            active: self.active || self.awaiting.is_some(),
            device: self.device.save(),
        }
    }

    /// Into a fresh function.
    pub(super) fn take_over(&mut self, saved: &Saved) -> Result<(), RestoreError> {
        let name = self.attention.name;
        let refuse = |why: &str| Err(RestoreError::new(name, why));
        if saved.device_type != self.device.device_type() || saved.queues.len() != self.queues.len() {
            return refuse("it is another device");
        }
        if saved.status & FEATURES_OK != 0 && saved.driver_features & !self.offered() != 0 {
            return refuse("the driver uses features that are not offered here");
        }
        for (setup, queue) in self.queues.iter().zip(&saved.queues) {
            if !queue.size.is_power_of_two() || queue.size > setup.most {
                return refuse("a queue is longer than it can be here");
            }
        }
        self.reset_device();
        self.configuration.restore(&saved.configuration)?;
        self.device.restore(&saved.device).map_err(|error| RestoreError::new(name, error))?;
        for (index, queue) in saved.queues.iter().enumerate() {
            let most = self.queues[index].most;
            let SavedQueue { size, enabled, descriptors, available, used, .. } = *queue;
            self.queues[index] = Setup { most, size, enabled, descriptors, available, used };
            let vector = self.known_vector(queue.vector);
            self.attention.queue_vectors[index].store(vector, Ordering::SeqCst);
        }
        self.device_feature_select = saved.device_feature_select;
        self.driver_feature_select = saved.driver_feature_select;
        self.driver_features = saved.driver_features;
        self.queue_select = saved.queue_select;
        let attention = &self.attention;
        attention.config_vector.store(self.known_vector(saved.config_vector), Ordering::SeqCst);
        attention.generation.store(saved.generation, Ordering::SeqCst);
        attention.status.store(saved.status & (STATUS_OF_DRIVER | NEEDS_RESET), Ordering::SeqCst);
        attention.msix.restore(&saved.msix)?;
        {
            let mut intx = attention.intx();
            intx.isr = saved.isr & (ISR_QUEUE | ISR_CONFIG);
            intx.disabled = self.configuration.command() & COMMAND_INTX_DISABLE != 0;
            attention.drive_line(&intx);
        }
        self.awaiting =
            saved.active.then(|| saved.queues.iter().map(|queue| (queue.next_avail, queue.next_used)).collect());
        Ok(())
    }
}
