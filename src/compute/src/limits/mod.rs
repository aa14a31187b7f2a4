//! Limits and quota sets: what a project may have. Rows are counted, nothing is kept as a counter.

pub(crate) mod handlers;
pub(crate) mod policy;
pub(crate) mod store;

use rest::{Error, Result};

use crate::Quotas;

/// Whether a server may have so many items of metadata.
pub(crate) fn check_metadata(quotas: &Quotas, items: usize) -> Result<()> {
    let most = quotas.metadata_items;
    if most >= 0 && i64::try_from(items).unwrap_or(i64::MAX) > most {
        return Err(Error::over_quota(format!("Maximum number of metadata items exceeds {most}")));
    }
    Ok(())
}

/// How many more servers of a size fit, between `min` and `max`.
pub(crate) fn room(quotas: &Quotas, used: (i64, i64, i64), each: (i64, i64), min: usize, max: usize) -> Result<usize> {
    let (instances, cores, ram) = used;
    let fits = |limit: i64, used: i64, each: i64| -> usize {
        if limit < 0 || each <= 0 {
            return max;
        }
        usize::try_from(((limit - used) / each).max(0)).unwrap_or(usize::MAX)
    };
    let count = max.min(fits(quotas.instances, instances, 1)).min(fits(quotas.cores, cores, each.0)).min(fits(
        quotas.ram_mib,
        ram,
        each.1,
    ));
    if count >= min {
        return Ok(count);
    }
    let wanted = i64::try_from(min).unwrap_or(i64::MAX);
    let mut over = Vec::new();
    for (name, limit, used, requested) in [
        ("instances", quotas.instances, instances, wanted),
        ("cores", quotas.cores, cores, wanted.saturating_mul(each.0)),
        ("ram", quotas.ram_mib, ram, wanted.saturating_mul(each.1)),
    ] {
        if limit >= 0 && used.saturating_add(requested) > limit {
            over.push((name, requested, used, limit));
        }
    }
    let join = |f: fn(&(&str, i64, i64, i64)) -> String| over.iter().map(f).collect::<Vec<_>>().join(", ");
    Err(Error::over_quota(format!(
        "Quota exceeded for {}: Requested {}, but already used {} of {} {}",
        join(|one| one.0.to_owned()),
        join(|one| one.1.to_string()),
        join(|one| one.2.to_string()),
        join(|one| one.3.to_string()),
        join(|one| one.0.to_owned()),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_has_a_number_of_items_at_most() {
        let quotas = Quotas { metadata_items: 2, ..Quotas::default() };
        assert!(check_metadata(&quotas, 2).is_ok());
        let error = check_metadata(&quotas, 3).unwrap_err();
        assert_eq!(error.public(), "Maximum number of metadata items exceeds 2");
        assert!(check_metadata(&Quotas { metadata_items: -1, ..quotas }, 1 << 20).is_ok());
    }

    #[test]
    fn a_quota_gives_as_many_as_fit_and_names_what_is_short() {
        let quotas = Quotas::default();
        assert_eq!(room(&quotas, (8, 8, 0), (1, 512), 1, 5).unwrap(), 2);
        let error = room(&quotas, (0, 19, 0), (4, 512), 1, 1).unwrap_err();
        assert_eq!(error.public(), "Quota exceeded for cores: Requested 4, but already used 19 of 20 cores");
        let unlimited = Quotas { instances: -1, cores: -1, ram_mib: -1, ..quotas };
        assert_eq!(room(&unlimited, (900, 900, 1 << 30), (64, 1 << 20), 1, 7).unwrap(), 7);
    }
}
