//! The description of one VM.
//!
//! What must stay true: a spec that parses and validates can be turned into a machine without further checks of its
//! text (nothing in it can break out of a command line or a path); its hash changes when, and only when, anything in it
//! changes; a file written by the previous version can be read (`parse`), and one by a newer version is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::resources::{Dedicated, DiskLimits, NicLimits, PageSize};

/// The version this program writes. Version 2 added `nics[].queues`, `display`, `restore`, `page_size`, `cpu.dedicated`,
/// `secure_boot`, `guest_os` and the `limits` of disks and NICs.
pub const SPEC_VERSION: u32 = 2;
/// The oldest version this program reads: the one before its own, so that VMs outlive an upgrade.
pub const OLDEST_SPEC_VERSION: u32 = 1;
/// No honest spec comes near this.
pub const MAX_SPEC_BYTES: usize = 256 * 1024;
/// The file descriptor number in the VM process of the descriptor with index 0; index `n` is `FIRST_DESCRIPTOR + n`.
pub const FIRST_DESCRIPTOR: i32 = 3;

pub const MAX_VCPUS: u32 = 240;
pub const MAX_DISKS: usize = 14;
pub const MAX_NICS: usize = 8;
/// Queue pairs of one NIC.
pub const MAX_NIC_QUEUES: u32 = 8;

#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("spec is not valid: {0}")]
    Json(#[from] serde_json::Error),
    #[error("spec version {found} cannot be read by this program (it reads {OLDEST_SPEC_VERSION} to {SPEC_VERSION})")]
    Version { found: u64 },
    #[error("spec is larger than {MAX_SPEC_BYTES} bytes")]
    TooLarge,
    #[error("spec refused: {0}")]
    Invalid(String),
}

/// Everything a VM process needs to know. Descriptors (disks, taps) are handed to the process open, in the order of
/// their `descriptor` index; no path of a guest's disk is ever in here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// Always [`SPEC_VERSION`] in memory.
    pub version: u32,
    pub server_id: Uuid,
    /// For people reading logs; never identifies anything.
    pub name: String,
    /// Boot id of the host at the time of writing ([`crate::host_boot_id`]).
    pub boot_id: Uuid,
    /// Generation of the operation that wants this VM.
    pub generation: u64,
    pub driver: Driver,
    pub vcpus: u32,
    pub memory_mib: u64,
    /// What the memory is made of.
    #[serde(default, skip_serializing_if = "PageSize::is_any")]
    pub page_size: PageSize,
    #[serde(default)]
    pub cpu: Cpu,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    /// How many of the newest bytes of the console survive. The file on disk is at most twice this.
    pub console_log_bytes: u64,
    pub smbios: Smbios,
    pub firmware: Firmware,
    /// Only with UEFI.
    #[serde(default, skip_serializing_if = "SecureBoot::is_disabled")]
    pub secure_boot: SecureBoot,
    #[serde(default, skip_serializing_if = "GuestOs::is_other")]
    pub guest_os: GuestOs,
    /// A screen with keyboard and tablet, seen through `vnc.sock`. Drivers other than `kvm` have none.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub display: bool,
    /// User and group id of the VM process. Only a supervisor with root may set it.
    pub run_as: Option<u32>,
    /// Go on where a VM was suspended, instead of booting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// Where a suspended VM is: two files that `suspend` wrote ([`crate::protocol::Call::Suspend`]), open for reading. They
/// come after the disks and NICs among the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// Index of the open state file.
    pub state_descriptor: u32,
    /// Index of the open memory file.
    pub memory_descriptor: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    Kvm,
    Tcg,
    Fake,
}

impl Driver {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
            Self::Fake => "fake",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Driver {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            "fake" => Ok(Self::Fake),
            other => Err(SpecError::Invalid(format!("driver {other:?} is none of kvm, tcg, fake"))),
        }
    }
}

/// The virtual CPUs. A model and a topology are hints: what a driver cannot honour it ignores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// A model name of the driver; absent means the most capable one it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Sockets, cores per socket and threads per core; absent means one socket per vCPU. Their product is `vcpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<CpuTopology>,
    /// CPUs of the host that are this VM's own; absent means that it shares them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedicated: Option<Dedicated>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuTopology {
    pub sockets: u32,
    pub cores: u32,
    pub threads: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Place in the machine, 0 to 13; the guest meets disks in this order, so the root disk has 0. Never changes while
    /// the disk is attached.
    pub slot: u8,
    pub kind: DiskKind,
    /// Index of the open file: raw content, opened read-write unless `read_only`.
    pub descriptor: u32,
    pub read_only: bool,
    /// What the guest sees as the serial: at most 20 characters of `[A-Za-z0-9_-]` (the first 20 of a volume's id), or
    /// empty for none.
    pub serial: String,
    /// Size the guest must see.
    pub size_bytes: u64,
    #[serde(default, skip_serializing_if = "DiskLimits::is_none")]
    pub limits: DiskLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskKind {
    /// What the machine boots from.
    Root,
    Ephemeral,
    ConfigDrive,
    Volume,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// Place in the machine, 0 to 7, stable while attached.
    pub slot: u8,
    pub port_id: Uuid,
    pub mac: Mac,
    pub mtu: u16,
    /// Index of the open tap (a queue of `/dev/net/tun`, already attached to its bridge); with several queues, of the
    /// first of as many in a row.
    pub descriptor: u32,
    /// Queue pairs, each with a descriptor of its own.
    #[serde(default = "one_queue", skip_serializing_if = "is_one")]
    pub queues: u32,
    #[serde(default, skip_serializing_if = "NicLimits::is_none")]
    pub limits: NicLimits,
}

fn one_queue() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(queues: &u32) -> bool {
    *queues == 1
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(flag: &bool) -> bool {
    *flag
}

impl Disk {
    /// The rules of one disk by itself.
    pub fn validate(&self) -> Result<(), SpecError> {
        let slot = self.slot;
        if usize::from(slot) >= MAX_DISKS {
            return Err(SpecError::Invalid(format!("disk slot {slot} is out of range")));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if self.serial.len() > 20 || !self.serial.chars().all(plain) {
            let serial = &self.serial;
            return Err(SpecError::Invalid(format!(
                "serial {serial:?} of disk {slot} is longer than 20 or not [A-Za-z0-9_-]"
            )));
        }
        if self.size_bytes == 0 || !self.size_bytes.is_multiple_of(512) {
            return Err(SpecError::Invalid(format!("size of disk {slot} is not a positive multiple of 512")));
        }
        self.limits.validate(slot)
    }
}

impl Nic {
    /// The rules of one NIC by itself.
    pub fn validate(&self) -> Result<(), SpecError> {
        let slot = self.slot;
        if usize::from(slot) >= MAX_NICS {
            return Err(SpecError::Invalid(format!("nic slot {slot} is out of range")));
        }
        if self.mtu < 68 {
            return Err(SpecError::Invalid(format!("mtu of nic {slot} is below 68")));
        }
        if !(1..=MAX_NIC_QUEUES).contains(&self.queues) {
            return Err(SpecError::Invalid(format!("queues of nic {slot} are not 1 to {MAX_NIC_QUEUES}")));
        }
        self.limits.validate(slot)
    }
}

/// What the guest reads in its SMBIOS tables. cloud-init recognises OpenStack by the product name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smbios {
    pub manufacturer: String,
    pub product: String,
    pub version: String,
    pub serial: String,
    pub uuid: Uuid,
}

impl Smbios {
    /// The tables of an OpenStack server.
    pub fn openstack(server_id: Uuid) -> Self {
        Self {
            manufacturer: "OpenStack Foundation".to_owned(),
            product: "OpenStack Nova".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            serial: server_id.to_string(),
            uuid: server_id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    Bios,
    Uefi,
}

/// Whether UEFI firmware starts only what Microsoft's keys, or those that the guest has enrolled, have signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecureBoot {
    #[default]
    Disabled,
    /// Where the host has firmware for it.
    Optional,
    /// Or the VM does not start.
    Required,
}

impl SecureBoot {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_disabled(&self) -> bool {
        *self == Self::Disabled
    }
}

/// What the machine is made to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestOs {
    #[default]
    Other,
    /// A clock in local time, a screen to boot with, and the interface of its own hypervisor.
    Windows,
}

impl GuestOs {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_other(&self) -> bool {
        *self == Self::Other
    }
}

/// A unicast Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let refused = || SpecError::Invalid(format!("{text:?} is not a unicast MAC address"));
        let mut bytes = [0_u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(refused)?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(refused());
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl VmSpec {
    /// Read a spec of this or the previous version, and validate it. Unknown fields are refused: a field this program
    /// does not know might be the one that says "read-only".
    pub fn parse(bytes: &[u8]) -> Result<Self, SpecError> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        if bytes.len() > MAX_SPEC_BYTES {
            return Err(SpecError::TooLarge);
        }
        let version = serde_json::from_slice::<Version>(bytes)?.version;
        if !(u64::from(OLDEST_SPEC_VERSION)..=u64::from(SPEC_VERSION)).contains(&version) {
            return Err(SpecError::Version { found: version });
        }
        let mut spec = serde_json::from_slice::<Self>(bytes)?;
        if version == 1 && !spec.fits_version_1() {
            return Err(SpecError::Invalid(
                "version 1 has no queues of nics, no restore, and no word on display, pages, limits and dedicated CPUs"
                    .to_owned(),
            ));
        }
        spec.version = SPEC_VERSION;
        spec.validate()?;
        Ok(spec)
    }

    /// The slot of the disk that is booted. What is not marked as root may still be the only thing to boot from.
    #[must_use]
    pub fn boot_slot(&self) -> Option<u8> {
        let root = self.disks.iter().find(|disk| disk.kind == DiskKind::Root);
        root.map(|disk| disk.slot).or_else(|| self.first_slot())
    }

    /// The slot of the disk that the guest meets first. A machine that is rescued with its disks in their places boots another.
    #[must_use]
    pub fn first_slot(&self) -> Option<u8> {
        self.disks.iter().map(|disk| disk.slot).min()
    }

    /// The bytes of `spec.json`.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SpecError> {
        self.validate()?;
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        if bytes.len() > MAX_SPEC_BYTES {
            return Err(SpecError::TooLarge);
        }
        Ok(bytes)
    }

    /// SHA-256 over the compact JSON of this spec, in hex: what supervisor and VM process compare in `hello`.
    pub fn hash(&self) -> String {
        use fmt::Write as _;

        // Serializing plain structs of strings and numbers into memory cannot fail; an empty input would only make the
        // comparison fail, which is the safe side.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Whether `hash` is this spec's, as this release or the previous one computes it: a VM that was started before an
    /// upgrade says the latter.
    pub fn has_hash(&self, hash: &str) -> bool {
        self.hash() == hash || (self.fits_version_1() && Self { version: 1, ..self.clone() }.hash() == hash)
    }

    /// Whether nothing in it came with version 2.
    fn fits_version_1(&self) -> bool {
        self.restore.is_none()
            && self.display
            && self.page_size.is_any()
            && self.cpu.dedicated.is_none()
            && self.secure_boot == SecureBoot::Disabled
            && self.guest_os == GuestOs::Other
            && self.disks.iter().all(|disk| disk.limits.is_none())
            && self.nics.iter().all(|nic| nic.queues == 1 && nic.limits.is_none())
    }

    /// The address of the guest among the host's vsocks: the same for every start of the server. Two servers of a host
    /// have the same one once in four thousand million pairs; the second has no vsock then.
    pub fn vsock_cid(&self) -> u32 {
        const FIRST: u32 = 3;
        let (high, low) = self.server_id.as_u64_pair();
        let mixed = high ^ low;
        let folded = (mixed >> 32) as u32 ^ mixed as u32;
        // The last number means "any".
        FIRST + folded % (u32::MAX - FIRST)
    }

    /// How many descriptors the VM process is handed.
    pub fn descriptor_count(&self) -> usize {
        let taps: usize = self.nics.iter().map(|nic| nic.queues as usize).sum();
        self.disks.len() + taps + if self.restore.is_some() { 2 } else { 0 }
    }

    /// Check every rule of this module's header.
    pub fn validate(&self) -> Result<(), SpecError> {
        let refuse = |why: String| Err(SpecError::Invalid(why));
        if self.version != SPEC_VERSION {
            return Err(SpecError::Version { found: u64::from(self.version) });
        }
        if self.server_id.is_nil() {
            return refuse("server_id is nil".to_owned());
        }
        if self.name.chars().count() > 255 || self.name.chars().any(char::is_control) {
            return refuse("name is longer than 255 characters or has control characters".to_owned());
        }
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return refuse(format!("vcpus is {}, not 1 to {MAX_VCPUS}", self.vcpus));
        }
        if !(1..=16 * 1024 * 1024).contains(&self.memory_mib) {
            return refuse(format!("memory_mib is {}, not 1 to 16777216", self.memory_mib));
        }
        self.page_size.validate(self.memory_mib)?;
        if self.secure_boot != SecureBoot::Disabled && self.firmware != Firmware::Uefi {
            return refuse("secure_boot needs UEFI firmware".to_owned());
        }
        if !(4096..=64 * 1024 * 1024).contains(&self.console_log_bytes) {
            return refuse(format!("console_log_bytes is {}, not 4096 to 67108864", self.console_log_bytes));
        }
        if self.run_as == Some(0) || self.run_as == Some(u32::MAX) {
            return refuse("run_as is root or no user".to_owned());
        }
        if let Some(model) = &self.cpu.model {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if model.is_empty() || model.len() > 64 || !model.chars().all(plain) {
                return refuse(format!("cpu model {model:?} is not a model name"));
            }
        }
        if let Some(CpuTopology { sockets, cores, threads }) = self.cpu.topology {
            let product =
                u64::from(sockets).checked_mul(u64::from(cores)).and_then(|n| n.checked_mul(u64::from(threads)));
            if product != Some(u64::from(self.vcpus)) {
                return refuse(format!("cpu topology {sockets}x{cores}x{threads} does not make {} vcpus", self.vcpus));
            }
        }
        if let Some(dedicated) = &self.cpu.dedicated {
            dedicated.validate(self.vcpus)?;
        }
        for (what, text) in [
            ("manufacturer", &self.smbios.manufacturer),
            ("product", &self.smbios.product),
            ("version", &self.smbios.version),
            ("serial", &self.smbios.serial),
        ] {
            if text.len() > 64 || !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
                return refuse(format!("smbios {what} is longer than 64 or not plain ASCII"));
            }
        }
        self.validate_devices()
    }

    fn validate_devices(&self) -> Result<(), SpecError> {
        let refuse = |why: String| Err(SpecError::Invalid(why));
        if self.disks.len() > MAX_DISKS || self.nics.len() > MAX_NICS {
            return refuse(format!("more than {MAX_DISKS} disks or {MAX_NICS} nics"));
        }
        let mut descriptors = BTreeSet::new();
        let mut slots = BTreeSet::new();
        let mut serials = BTreeSet::new();
        for disk in &self.disks {
            disk.validate()?;
            if !slots.insert(disk.slot) {
                return refuse(format!("disk slot {} is taken twice", disk.slot));
            }
            if !disk.serial.is_empty() && !serials.insert(disk.serial.as_str()) {
                return refuse(format!("serial {:?} is used twice", disk.serial));
            }
            if !descriptors.insert(disk.descriptor) {
                return refuse(format!("descriptor {} is used twice", disk.descriptor));
            }
        }
        if self.disks.iter().filter(|disk| disk.kind == DiskKind::Root).count() > 1 {
            return refuse("more than one root disk".to_owned());
        }
        let (mut slots, mut macs) = (BTreeSet::new(), BTreeSet::new());
        for nic in &self.nics {
            nic.validate()?;
            if !slots.insert(nic.slot) {
                return refuse(format!("nic slot {} is taken twice", nic.slot));
            }
            if !macs.insert(nic.mac) {
                return refuse(format!("mac {} is used twice", nic.mac));
            }
            for descriptor in (nic.descriptor..).take(nic.queues as usize) {
                if !descriptors.insert(descriptor) {
                    return refuse(format!("descriptor {descriptor} is used twice"));
                }
            }
        }
        if let Some(Restore { state_descriptor, memory_descriptor }) = self.restore {
            for descriptor in [state_descriptor, memory_descriptor] {
                if !descriptors.insert(descriptor) {
                    return refuse(format!("descriptor {descriptor} is used twice"));
                }
            }
        }
        // Contiguous from 0, so that the VM process knows exactly which descriptors are its own.
        if descriptors.iter().zip(0_u32..).any(|(used, expected)| *used != expected) {
            return refuse("descriptor indices are not 0, 1, 2 ... without a gap".to_owned());
        }
        Ok(())
    }
}
