//! Extra specs that say what of the host a server gets. Others are kept and mean nothing here.
//!
//! What must stay true: a value that was taken is understood; what only shows when flavor and image come together is
//! refused when the server is made, never later.

use std::collections::BTreeMap;

use rest::{Error, Result, parse_bool};
use serde_json::{Map, Value};
use vmspec::{DiskLimits, NicLimits, PageSize, resources::MAX_RATE, spec::CpuTopology};

use super::Flavor;

const PAGE_SIZE: &str = "hw:mem_page_size";
const CPU_POLICY: &str = "hw:cpu_policy";
const TOPOLOGY: [&str; 3] = ["hw:cpu_sockets", "hw:cpu_cores", "hw:cpu_threads"];
const DISK: [&str; 6] = [
    "quota:disk_read_bytes_sec",
    "quota:disk_write_bytes_sec",
    "quota:disk_total_bytes_sec",
    "quota:disk_read_iops_sec",
    "quota:disk_write_iops_sec",
    "quota:disk_total_iops_sec",
];
const VIF: [&str; 2] = ["quota:vif_inbound_average", "quota:vif_outbound_average"];
/// Every machine has one.
const RNG: &str = "hw_rng:allowed";
/// What upstream counts network traffic in.
const KILOBYTE: u64 = 1000;

/// What of the host a server gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tuning {
    pub page_size: PageSize,
    /// CPUs of the host are its own.
    pub dedicated: bool,
    pub topology: Option<CpuTopology>,
    pub disk: DiskLimits,
    pub nic: NicLimits,
}

/// Refuses a value that would mean nothing.
pub(crate) fn check(key: &str, value: &str) -> Result<()> {
    let refuse = |wanted: &str| {
        Err(Error::bad_request(format!("Validation failed; extra spec {key}: {value:?} is not {wanted}.")))
    };
    match key {
        PAGE_SIZE if page_size(value).is_none() => {
            refuse("one of small, large, any, or a size of pages such as 4KB, 2MB, 1GB, or a number of KiB")
        }
        CPU_POLICY if value == "mixed" => refuse("supported: it can be shared or dedicated"),
        CPU_POLICY if !matches!(value, "shared" | "dedicated") => refuse("one of shared, dedicated"),
        _ if TOPOLOGY.contains(&key) && !value.parse().is_ok_and(|number: u32| number > 0) => {
            refuse("a positive number")
        }
        _ if DISK.contains(&key) && rate(value, 1).is_none() => refuse("a number of bytes or operations a second"),
        _ if VIF.contains(&key) && rate(value, KILOBYTE).is_none() => refuse("a number of kilobytes a second"),
        RNG if parse_bool(value).is_none() => refuse("a boolean"),
        _ => Ok(()),
    }
}

/// What a server of this flavor and image gets.
///
/// # Errors
/// 400 for what does not fit together.
pub(crate) fn tuning(flavor: &Flavor, image: &Map<String, Value>) -> Result<Tuning> {
    let specs = &flavor.extra_specs;
    specs.iter().try_for_each(|(key, value)| check(key, value))?;
    let of_image = |name: &str| image.get(name).and_then(Value::as_str);
    let page_size = pages(specs.get(PAGE_SIZE), of_image("hw_mem_page_size"))?;
    if let Some(page_mib) = page_size.pools_mib().iter().min()
        && !flavor.ram_mib.unsigned_abs().is_multiple_of(*page_mib)
    {
        return Err(Error::bad_request(format!(
            "Flavor's memory of {} MiB is not made of whole pages of {page_mib} MiB.",
            flavor.ram_mib
        )));
    }
    let dedicated = match (specs.get(CPU_POLICY).map(String::as_str), of_image("hw_cpu_policy")) {
        (_, Some(policy)) if !matches!(policy, "shared" | "dedicated") => {
            return Err(Error::bad_request(format!("Image's CPU policy {policy:?} is not one of shared, dedicated.")));
        }
        (Some("shared"), Some("dedicated")) => {
            return Err(Error::bad_request(
                "Image property 'hw_cpu_policy' is not permitted to override CPU pinning policy set against the flavor",
            ));
        }
        (flavor, image) => flavor == Some("dedicated") || image == Some("dedicated"),
    };
    let wanted = TOPOLOGY.map(|key| {
        let of_flavor = specs.get(key).and_then(|value| value.parse().ok());
        of_flavor.or_else(|| of_image(&key.replace(':', "_")).and_then(|value| value.parse().ok()))
    });
    let [read_bytes, write_bytes, total_bytes, read_iops, write_iops, total_iops] =
        DISK.map(|key| limit(specs, key, 1));
    for (total, read, write, unit) in
        [(total_bytes, read_bytes, write_bytes, "bytes"), (total_iops, read_iops, write_iops, "iops")]
    {
        if total.is_some() && (read.is_some() || write.is_some()) {
            return Err(Error::bad_request(format!(
                "Flavor has quota:disk_total_{unit}_sec together with a limit of one direction."
            )));
        }
    }
    Ok(Tuning {
        page_size,
        dedicated,
        topology: topology(u32::try_from(flavor.vcpus).unwrap_or(u32::MAX), wanted),
        disk: DiskLimits {
            read_bytes_per_second: read_bytes,
            write_bytes_per_second: write_bytes,
            total_bytes_per_second: total_bytes,
            read_operations_per_second: read_iops,
            write_operations_per_second: write_iops,
            total_operations_per_second: total_iops,
        },
        nic: NicLimits {
            inbound_bytes_per_second: limit(specs, VIF[0], KILOBYTE),
            outbound_bytes_per_second: limit(specs, VIF[1], KILOBYTE),
        },
    })
}

/// The flavor decides; it may leave the choice to the image.
fn pages(flavor: Option<&String>, image: Option<&str>) -> Result<PageSize> {
    let of_flavor = flavor.and_then(|text| page_size(text));
    let Some(text) = image else { return Ok(of_flavor.unwrap_or_default()) };
    let of_image = page_size(text).ok_or_else(|| Error::bad_request(format!("Invalid memory page size '{text}'")))?;
    match (of_flavor, flavor) {
        (Some(PageSize::Any | PageSize::Large), _) => Ok(of_image),
        (_, flavor) => {
            let against = flavor.map_or("a flavor without one", String::as_str);
            Err(Error::bad_request(format!("Page size {text} forbidden against '{against}'")))
        }
    }
}

/// `None` for what is no size of pages, or one that x86 does not have.
fn page_size(text: &str) -> Option<PageSize> {
    match text {
        "any" => return Some(PageSize::Any),
        "small" => return Some(PageSize::Small),
        "large" => return Some(PageSize::Large),
        _ => {}
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let kib = match unit {
        // A bare number is of KiB.
        "" | "KB" | "kB" | "KiB" | "K" | "k" => Some(number),
        "MB" | "MiB" | "M" => number.checked_mul(1 << 10),
        "GB" | "GiB" | "G" => number.checked_mul(1 << 20),
        _ => None,
    }?;
    match kib {
        4 => Some(PageSize::Small),
        2048 => Some(PageSize::TwoMib),
        1_048_576 => Some(PageSize::OneGib),
        _ => None,
    }
}

/// Zero is no limit; `None` for what is no rate.
fn rate(text: &str, unit: u64) -> Option<Option<u64>> {
    let rate = text.parse::<u64>().ok()?.checked_mul(unit)?;
    (rate <= MAX_RATE).then_some((rate > 0).then_some(rate))
}

fn limit(specs: &BTreeMap<String, String>, key: &str, unit: u64) -> Option<u64> {
    specs.get(key).and_then(|text| rate(text, unit)).flatten()
}

/// The topology that has most of what is wanted (sockets, cores, threads), with as many sockets as that allows, then
/// cores: upstream's choice. What cannot be had is no mistake. `None` where nothing is wanted.
fn topology(vcpus: u32, wanted: [Option<u32>; 3]) -> Option<CpuTopology> {
    if wanted.iter().all(Option::is_none) || vcpus > vmspec::spec::MAX_VCPUS {
        return None;
    }
    let divisors = |of: u32| (1..=of).filter(move |part| of.is_multiple_of(*part));
    divisors(vcpus)
        .flat_map(|sockets| divisors(vcpus / sockets).map(move |cores| [sockets, cores, vcpus / sockets / cores]))
        // Threads only where they are asked for.
        .filter(|[_, _, threads]| *threads == 1 || wanted[2].is_some())
        .max_by_key(|parts| {
            let fits = parts.iter().zip(&wanted).filter(|(part, wanted)| Some(**part) == **wanted).count();
            (fits, parts[0], parts[1])
        })
        .map(|[sockets, cores, threads]| CpuTopology { sockets, cores, threads })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flavor(specs: &[(&str, &str)]) -> Flavor {
        Flavor {
            id: "f".into(),
            name: "f".into(),
            vcpus: 8,
            ram_mib: 1025,
            disk_gib: 1,
            ephemeral_gib: 0,
            swap_mib: 0,
            rxtx_factor: 1.0,
            is_public: true,
            disabled: false,
            description: None,
            extra_specs: specs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn of(specs: &[(&str, &str)], image: &[(&str, &str)]) -> Result<Tuning> {
        let image = image.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        tuning(&flavor(specs), &image)
    }

    #[test]
    fn sizes_of_pages_are_words_and_units() {
        for (text, size) in [
            ("any", Some(PageSize::Any)),
            ("small", Some(PageSize::Small)),
            ("4", Some(PageSize::Small)),
            ("4KB", Some(PageSize::Small)),
            ("large", Some(PageSize::Large)),
            ("2048", Some(PageSize::TwoMib)),
            ("2MB", Some(PageSize::TwoMib)),
            ("2MiB", Some(PageSize::TwoMib)),
            ("1GB", Some(PageSize::OneGib)),
            ("1024MB", Some(PageSize::OneGib)),
            ("3MB", None),
            ("huge", None),
            ("", None),
            ("MB", None),
            ("99999999999999999999GB", None),
            ("18446744073709551615GB", None),
        ] {
            assert_eq!(page_size(text), size, "{text}");
            assert_eq!(check(PAGE_SIZE, text).is_ok(), size.is_some(), "{text}");
        }
    }

    #[test]
    fn the_topology_is_as_near_to_what_is_wanted_as_there_is_one() {
        for (wanted, expected) in [
            ([None, None, None], None),
            ([Some(2), None, None], Some([2, 4, 1])),
            ([None, Some(4), None], Some([2, 4, 1])),
            ([None, None, Some(2)], Some([4, 1, 2])),
            ([Some(1), Some(4), Some(2)], Some([1, 4, 2])),
            ([Some(2), Some(2), Some(2)], Some([2, 2, 2])),
            // Not to be had: 3 is no part of 8.
            ([Some(3), None, None], Some([8, 1, 1])),
        ] {
            let expected = expected.map(|[sockets, cores, threads]| CpuTopology { sockets, cores, threads });
            assert_eq!(topology(8, wanted), expected, "{wanted:?}");
        }
        assert_eq!(topology(7, [None, Some(7), None]), Some(CpuTopology { sockets: 1, cores: 7, threads: 1 }));
    }

    #[test]
    fn limits_are_in_bytes_and_zero_is_none() {
        let specs = [
            ("quota:disk_read_bytes_sec", "1048576"),
            ("quota:disk_total_iops_sec", "100"),
            ("quota:vif_inbound_average", "125"),
            ("quota:vif_outbound_average", "0"),
        ];
        let tuning = of(&specs, &[]).unwrap();
        assert_eq!(tuning.disk.read_bytes_per_second, Some(1 << 20));
        assert_eq!(tuning.disk.total_operations_per_second, Some(100));
        assert_eq!(tuning.nic, NicLimits { inbound_bytes_per_second: Some(125_000), outbound_bytes_per_second: None });
        for wrong in ["-1", "fast", "1.5", "", "18446744073709551615"] {
            assert!(check("quota:vif_inbound_average", wrong).is_err(), "{wrong}");
        }
        let both = [("quota:disk_read_bytes_sec", "1"), ("quota:disk_total_bytes_sec", "1")];
        assert!(of(&both, &[]).is_err());
        let zero = [("quota:disk_read_bytes_sec", "1"), ("quota:disk_total_bytes_sec", "0")];
        assert!(of(&zero, &[]).is_ok());
    }

    #[test]
    fn the_flavor_decides_and_may_leave_the_choice_to_the_image() {
        let page =
            |specs: &[(&str, &str)], image: &[(&str, &str)]| of(specs, image).map(|tuning| tuning.page_size).ok();
        assert_eq!(page(&[], &[]), Some(PageSize::Any));
        assert_eq!(page(&[(PAGE_SIZE, "any")], &[("hw_mem_page_size", "small")]), Some(PageSize::Small));
        assert_eq!(page(&[], &[("hw_mem_page_size", "small")]), None);
        assert_eq!(page(&[(PAGE_SIZE, "small")], &[("hw_mem_page_size", "large")]), None);
        assert_eq!(page(&[(PAGE_SIZE, "2MB")], &[]), None, "1025 MiB are not whole pages");
        let policy =
            |specs: &[(&str, &str)], image: &[(&str, &str)]| of(specs, image).map(|tuning| tuning.dedicated).ok();
        assert_eq!(policy(&[], &[]), Some(false));
        assert_eq!(policy(&[(CPU_POLICY, "dedicated")], &[("hw_cpu_policy", "shared")]), Some(true));
        assert_eq!(policy(&[], &[("hw_cpu_policy", "dedicated")]), Some(true));
        assert_eq!(policy(&[(CPU_POLICY, "shared")], &[("hw_cpu_policy", "dedicated")]), None);
        assert_eq!(policy(&[(CPU_POLICY, "mixed")], &[]), None);
        assert_eq!(policy(&[], &[("hw_cpu_policy", "mine")]), None);
    }
}
