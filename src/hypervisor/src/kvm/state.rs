//! All registers of a vCPU and of the interrupt controllers in the kernel: taken at creation to come back to at a reset, and
//! taken at suspend.
//!
//! What must stay true (traps 1 and 2): the TSC is set before anything that counts in it, its deadline last; what a guest
//! learned from MSRs of the first kernel is gone after a reset.

use std::io;

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_UNINITIALIZED, Msrs, kvm_clock_data, kvm_debugregs, kvm_irqchip, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_pit_state2, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

use super::ram::errno;

const MSR_TSC: u32 = 0x10;
const MSR_TSC_ADJUST: u32 = 0x3b;
const MSR_TSC_DEADLINE: u32 = 0x6e0;

#[derive(Clone, Serialize, Deserialize)]
pub struct VcpuState {
    run: kvm_mp_state,
    registers: kvm_regs,
    special: kvm_sregs,
    /// The XSAVE area.
    extended: Vec<u32>,
    extended_control: kvm_xcrs,
    debug: kvm_debugregs,
    local_apic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
    tsc_khz: u32,
}

fn step(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> io::Error {
    move |error| {
        let cause = errno(error);
        io::Error::new(cause.kind(), format!("{what} of a vCPU: {cause}"))
    }
}

/// The MSRs that this host can read of `vcpu`.
pub fn readable_msrs(kvm: &Kvm, vcpu: &VcpuFd) -> io::Result<Vec<u32>> {
    let listed = kvm.get_msr_index_list().map_err(errno)?;
    let mut indices = listed.as_slice().to_vec();
    let mut readable = Vec::with_capacity(indices.len());
    // KVM reads in order and stops at the first that it refuses.
    while !indices.is_empty() {
        let entries: Vec<_> =
            indices.iter().map(|index| kvm_msr_entry { index: *index, ..Default::default() }).collect();
        let mut msrs = Msrs::from_entries(&entries).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let read = vcpu.get_msrs(&mut msrs).map_err(errno)?.min(indices.len());
        readable.extend(indices.iter().take(read));
        indices.drain(..(read + 1).min(indices.len()));
    }
    Ok(readable)
}

impl VcpuState {
    /// To be asked of a vCPU that is not in KVM_RUN and has completed its last exit.
    pub fn of(vcpu: &VcpuFd, msrs: &[u32]) -> io::Result<Self> {
        let entries: Vec<_> = msrs.iter().map(|index| kvm_msr_entry { index: *index, ..Default::default() }).collect();
        let mut values = Msrs::from_entries(&entries).map_err(|error| io::Error::other(format!("{error:?}")))?;
        // The run state first: asking for it lets pending INIT and SIPI take effect.
        let run = vcpu.get_mp_state().map_err(step("run state"))?;
        let read = vcpu.get_msrs(&mut values).map_err(step("MSRs"))?;
        if read != entries.len() {
            return Err(io::Error::other(format!(
                "an MSR of a vCPU cannot be read any more: {read} of {}",
                msrs.len()
            )));
        }
        Ok(Self {
            run,
            registers: vcpu.get_regs().map_err(step("registers"))?,
            special: vcpu.get_sregs().map_err(step("special registers"))?,
            extended: vcpu.get_xsave().map_err(step("extended state"))?.region.to_vec(),
            extended_control: vcpu.get_xcrs().map_err(step("extended control registers"))?,
            debug: vcpu.get_debug_regs().map_err(step("debug registers"))?,
            local_apic: vcpu.get_lapic().map_err(step("local APIC"))?,
            msrs: values.as_slice().to_vec(),
            events: vcpu.get_vcpu_events().map_err(step("events"))?,
            tsc_khz: vcpu.get_tsc_khz().unwrap_or(0),
        })
    }

    /// Everything as it was, time included: after a suspend.
    pub fn restore(&self, vcpu: &VcpuFd) -> io::Result<()> {
        self.set(vcpu)
    }

    /// Everything as it was at power-on; time goes on.
    pub fn reset(&self, vcpu: &VcpuFd, index: u32) -> io::Result<()> {
        let mut state = self.clone();
        state.run.mp_state = if index == 0 { KVM_MP_STATE_RUNNABLE } else { KVM_MP_STATE_UNINITIALIZED };
        // A triple fault on AMD-V clears what is added to the host's time stamp counter in the processor, and KVM believes it
        // still there: written as KVM knows it, it is.
        state.msrs.retain(|msr| !matches!(msr.index, MSR_TSC | MSR_TSC_ADJUST));
        let mut now = Msrs::from_entries(&[kvm_msr_entry { index: MSR_TSC, ..Default::default() }])
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
        vcpu.get_msrs(&mut now).map_err(step("time stamp counter"))?;
        state.msrs.extend_from_slice(now.as_slice());
        state.set(vcpu)
    }

    fn set(&self, vcpu: &VcpuFd) -> io::Result<()> {
        if self.tsc_khz != 0 && vcpu.get_tsc_khz().is_ok_and(|now| now != self.tsc_khz) {
            vcpu.set_tsc_khz(self.tsc_khz).map_err(step("TSC frequency"))?;
        }
        vcpu.set_mp_state(self.run).map_err(step("run state"))?;
        vcpu.set_sregs(&self.special).map_err(step("special registers"))?;
        vcpu.set_regs(&self.registers).map_err(step("registers"))?;
        let mut extended = kvm_xsave::default();
        for (place, word) in extended.region.iter_mut().zip(&self.extended) {
            *place = *word;
        }
        super::vcpu::set_xsave(vcpu, &extended).map_err(step("extended state"))?;
        vcpu.set_xcrs(&self.extended_control).map_err(step("extended control registers"))?;
        vcpu.set_debug_regs(&self.debug).map_err(step("debug registers"))?;
        vcpu.set_lapic(&self.local_apic).map_err(step("local APIC"))?;
        self.set_msrs(vcpu)?;
        vcpu.set_vcpu_events(&self.events).map_err(step("events"))
    }

    fn set_msrs(&self, vcpu: &VcpuFd) -> io::Result<()> {
        let mut msrs = self.msrs.clone();
        msrs.sort_by_key(|msr| match msr.index {
            MSR_TSC => 0,
            MSR_TSC_DEADLINE => 2,
            _ => 1,
        });
        let mut rest = msrs.as_slice();
        // KVM writes in order and stops at the first that it refuses: some can be read and not be written.
        while !rest.is_empty() {
            let batch = Msrs::from_entries(rest).map_err(|error| io::Error::other(format!("{error:?}")))?;
            let written = vcpu.set_msrs(&batch).map_err(step("MSRs"))?;
            if let Some(refused) = rest.get(written) {
                tracing::debug!(msr = refused.index, "an MSR cannot be written");
            }
            rest = rest.get(written + 1..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The interrupt controllers and the timer that are the kernel's.
#[derive(Clone, Serialize, Deserialize)]
pub struct ChipState {
    pics: Vec<kvm_irqchip>,
    pit: kvm_pit_state2,
}

impl ChipState {
    pub fn of(vm: &VmFd) -> io::Result<Self> {
        let chip = |chip_id: u32| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            vm.get_irqchip(&mut chip).map(|()| chip).map_err(errno)
        };
        Ok(Self {
            pics: vec![chip(KVM_IRQCHIP_PIC_MASTER)?, chip(KVM_IRQCHIP_PIC_SLAVE)?, chip(KVM_IRQCHIP_IOAPIC)?],
            pit: vm.get_pit2().map_err(errno)?,
        })
    }

    pub fn restore(&self, vm: &VmFd) -> io::Result<()> {
        for chip in &self.pics {
            vm.set_irqchip(chip).map_err(errno)?;
        }
        vm.set_pit2(&self.pit).map_err(errno)
    }
}

/// The guest's paravirtual clock.
#[derive(Clone, Serialize, Deserialize)]
pub struct ClockState(kvm_clock_data);

const CLOCK_REALTIME: u32 = 1 << 2;

impl ClockState {
    pub fn of(vm: &VmFd) -> io::Result<Self> {
        vm.get_clock().map(Self).map_err(errno)
    }

    /// Set before any vCPU runs. Where the kernel can (5.16), the time in between has passed for the guest too.
    pub fn restore(&self, vm: &VmFd) -> io::Result<()> {
        let mut clock = self.0;
        clock.flags &= CLOCK_REALTIME;
        match vm.set_clock(&clock) {
            Ok(()) => Ok(()),
            Err(_) => {
                clock.flags = 0;
                vm.set_clock(&clock).map_err(errno)
            }
        }
    }
}
