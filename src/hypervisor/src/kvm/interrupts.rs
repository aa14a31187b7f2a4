//! Interrupts and doorbells by eventfds: KVM_IRQFD, KVM_SET_GSI_ROUTING and KVM_IOEVENTFD, so that neither a device's
//! interrupt nor a driver's kick comes through a vCPU's exit.
//!
//! What must stay true: KVM knows one table of routes, and every change writes all of it, with the lines of the interrupt
//! controllers first; an eventfd is an irqfd only while its message has somewhere to go, so what happens to a masked
//! vector waits in the eventfd and is delivered when it is unmasked.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KvmIrqRouting, kvm_irq_routing_entry,
};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

use super::layout;
use super::ram::errno;
use crate::interrupts::{Interrupts, Line, Message, MessageRoute};
use crate::pci::IoEvents;

/// KVM takes 4096 routes on x86.
const MOST_GSIS: u32 = 4000;

pub struct KvmInterrupts {
    vm: Arc<VmFd>,
    state: Mutex<Routes>,
    this: Weak<Self>,
}

#[derive(Default)]
struct Routes {
    /// GSIs that are taken; those with a message are routed.
    messages: BTreeMap<u32, Option<Message>>,
}

impl KvmInterrupts {
    pub fn new(vm: Arc<VmFd>) -> io::Result<Arc<Self>> {
        let this = Arc::new_cyclic(|this| Self { vm, state: Mutex::default(), this: this.clone() });
        this.write_routes(&this.state())?;
        Ok(this)
    }

    fn state(&self) -> MutexGuard<'_, Routes> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_routes(&self, routes: &Routes) -> io::Result<()> {
        let mut entries = controller_routes();
        for (gsi, message) in &routes.messages {
            let Some(message) = message else { continue };
            let mut entry = kvm_irq_routing_entry { gsi: *gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
            entry.u.msi.address_lo = message.address as u32;
            entry.u.msi.address_hi = (message.address >> 32) as u32;
            entry.u.msi.data = message.data;
            entries.push(entry);
        }
        let table = KvmIrqRouting::from_entries(&entries).map_err(|error| io::Error::other(format!("{error:?}")))?;
        self.vm.set_gsi_routing(&table).map_err(errno)
    }

    fn route(&self, gsi: u32, message: Option<Message>) -> io::Result<()> {
        let mut routes = self.state();
        routes.messages.insert(gsi, message);
        self.write_routes(&routes)
    }

    fn release(&self, gsi: u32) {
        let mut routes = self.state();
        if routes.messages.remove(&gsi).flatten().is_some() {
            let _ = self.write_routes(&routes);
        }
    }

    /// An edge-triggered line: each write to the eventfd is one interrupt.
    pub fn edge(&self, gsi: u32) -> io::Result<EventFd> {
        let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        self.vm.register_irqfd(&event, gsi).map_err(errno)?;
        Ok(event)
    }
}

/// As on every PC: the first 16 lines go to the PICs too; line 0 is pin 2 of the IOAPIC, as the MADT says.
fn controller_routes() -> Vec<kvm_irq_routing_entry> {
    let route = |gsi: u32, irqchip: u32, pin: u32| {
        let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
        entry.u.irqchip.irqchip = irqchip;
        entry.u.irqchip.pin = pin;
        entry
    };
    let mut entries = Vec::new();
    for gsi in 0..layout::IOAPIC_PINS {
        match gsi {
            2 => continue,
            0..8 => entries.push(route(gsi, KVM_IRQCHIP_PIC_MASTER, gsi)),
            8..16 => entries.push(route(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8)),
            _ => {}
        }
        entries.push(route(gsi, KVM_IRQCHIP_IOAPIC, if gsi == 0 { 2 } else { gsi }));
    }
    entries
}

impl Interrupts for KvmInterrupts {
    fn message_route(&self) -> io::Result<Box<dyn MessageRoute>> {
        let machine = self.this.upgrade().ok_or_else(|| io::Error::other("the machine is gone"))?;
        let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        let mut routes = self.state();
        let free = (layout::FIRST_MESSAGE_GSI..MOST_GSIS).find(|gsi| !routes.messages.contains_key(gsi));
        let gsi = free.ok_or_else(|| io::Error::other("no interrupt is left"))?;
        routes.messages.insert(gsi, None);
        drop(routes);
        Ok(Box::new(Route { machine, event, gsi, current: Mutex::new(None) }))
    }

    fn line(&self, gsi: u32) -> io::Result<Box<dyn Line>> {
        if gsi >= layout::IOAPIC_PINS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no interrupt line {gsi}")));
        }
        let machine = self.this.upgrade().ok_or_else(|| io::Error::other("the machine is gone"))?;
        Ok(Box::new(LevelLine { machine, gsi }))
    }
}

impl IoEvents for KvmInterrupts {
    fn register(&self, event: &EventFd, address: u64) -> io::Result<()> {
        self.vm.register_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch).map_err(errno)
    }

    fn unregister(&self, event: &EventFd, address: u64) -> io::Result<()> {
        self.vm.unregister_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch).map_err(errno)
    }
}

struct Route {
    machine: Arc<KvmInterrupts>,
    event: EventFd,
    gsi: u32,
    /// Where it goes now. While that is somewhere, the eventfd is KVM's irqfd.
    current: Mutex<Option<Message>>,
}

impl MessageRoute for Route {
    fn eventfd(&self) -> &EventFd {
        &self.event
    }

    fn set(&self, message: Option<Message>) -> io::Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == message {
            return Ok(());
        }
        match (&*current, message) {
            (Some(_), None) => {
                self.machine.vm.unregister_irqfd(&self.event, self.gsi).map_err(errno)?;
                *current = None;
                self.machine.route(self.gsi, None)?;
            }
            (before, Some(_)) => {
                let was_registered = before.is_some();
                self.machine.route(self.gsi, message)?;
                if !was_registered {
                    self.machine.vm.register_irqfd(&self.event, self.gsi).map_err(errno)?;
                }
                *current = message;
            }
            (None, None) => {}
        }
        Ok(())
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let _ = self.set(None);
        self.machine.release(self.gsi);
    }
}

/// One holder of a line; those who share one do so by `pci::SharedLines`.
struct LevelLine {
    machine: Arc<KvmInterrupts>,
    gsi: u32,
}

impl Line for LevelLine {
    fn set(&self, high: bool) {
        if let Err(error) = self.machine.vm.set_irq_line(self.gsi, high) {
            tracing::error!(gsi = self.gsi, %error, "an interrupt line does not move");
        }
    }
}

impl Drop for LevelLine {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupts() -> Option<Arc<KvmInterrupts>> {
        let made = kvm_ioctls::Kvm::new().and_then(|kvm| kvm.create_vm());
        let vm = match made {
            Ok(vm) if vm.create_irq_chip().is_ok() => Arc::new(vm),
            _ => {
                eprintln!("no usable /dev/kvm: nothing is tested here");
                return None;
            }
        };
        Some(KvmInterrupts::new(vm).unwrap())
    }

    #[test]
    fn routes_come_go_and_move_without_running_out() {
        let Some(interrupts) = interrupts() else { return };
        let message = |data| Some(Message { address: 0xfee0_0000, data });
        for round in 0..200 {
            let routes: Vec<_> = (0..8).map(|_| interrupts.message_route().unwrap()).collect();
            for route in &routes {
                route.set(message(round)).unwrap();
                route.eventfd().write(1).unwrap();
                route.set(message(round + 1)).unwrap();
                route.set(None).unwrap();
                route.set(message(3)).unwrap();
            }
        }
        assert!(interrupts.state().messages.is_empty());
    }

    #[test]
    fn what_happens_while_masked_waits_in_the_eventfd() {
        let Some(interrupts) = interrupts() else { return };
        let route = interrupts.message_route().unwrap();
        route.set(Some(Message { address: 0xfee0_0000, data: 0x41 })).unwrap();
        route.set(None).unwrap();
        route.eventfd().write(1).unwrap();
        assert_eq!(route.eventfd().read().unwrap(), 1);
    }

    #[test]
    fn there_are_as_many_lines_as_pins() {
        let Some(interrupts) = interrupts() else { return };
        interrupts.line(17).unwrap().set(true);
        assert!(interrupts.line(24).is_err());
    }
}
