//! Numbers and times as people read them.

/// `1536` MiB is `1.5 GiB`.
#[must_use]
pub fn mib(mib: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    bytes(mib as f64 * 1_048_576.0)
}

/// Bytes in the largest unit that leaves a number of at least one.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value.abs() < 1024.0 || unit == "TiB" {
            let text = if unit == "B" || (value - value.round()).abs() < 0.05 {
                format!("{value:.0}")
            } else {
                format!("{value:.1}")
            };
            return format!("{text} {unit}");
        }
        value /= 1024.0;
    }
    String::new()
}

/// `2026-01-02T03:04:05.678Z` as `2026-01-02 03:04:05`: the script makes local time of it.
#[must_use]
pub fn time(text: &str) -> String {
    let cut = text.get(..19).unwrap_or(text);
    cut.replacen('T', " ", 1)
}

/// The first characters of an id, which tell it from others on one screen.
#[must_use]
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_people_would_take() {
        for (size, text) in
            [(0, "0 B"), (1, "1 MiB"), (512, "512 MiB"), (1024, "1 GiB"), (1536, "1.5 GiB"), (2_097_152, "2 TiB")]
        {
            assert_eq!(mib(size), text);
        }
        assert_eq!(bytes(999.0), "999 B");
        assert_eq!(bytes(1_500_000.0), "1.4 MiB");
    }

    #[test]
    fn what_is_no_time_or_id_is_shown_as_it_is() {
        assert_eq!(time("2026-01-02T03:04:05.678Z"), "2026-01-02 03:04:05");
        assert_eq!(time("–"), "–");
        assert_eq!(short("é"), "é");
    }
}
