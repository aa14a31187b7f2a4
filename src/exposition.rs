//! The Prometheus text format, version 0.0.4: families of series, each with its help and type.

use std::fmt::Write;

use db::measure::{BOUNDS_US, Durations};

/// As Prometheus asks for it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Text in the making.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: &'static str,
}

/// What a number is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Only grows, until the program starts anew.
    Counter,
    Gauge,
    Histogram,
}

impl Exposition {
    /// Series of this name follow, all of them.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        self.family = name;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    /// One number of the family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    /// One histogram of the family, in seconds.
    pub fn durations(&mut self, labels: &[(&str, &str)], durations: &Durations) -> &mut Self {
        for (bound, count) in BOUNDS_US.iter().zip(durations.up_to) {
            #[expect(clippy::cast_precision_loss, reason = "bounds are below a minute")]
            let bound = *bound as f64 / 1e6;
            self.line("_bucket", labels, Some(&bound.to_string()), count);
        }
        self.line("_bucket", labels, Some("+Inf"), durations.count());
        #[expect(clippy::cast_precision_loss, reason = "a sum of durations is not exact")]
        let sum = durations.sum_ns as f64 / 1e9;
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, durations.count());
        self
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: impl std::fmt::Display) {
        let _ = write!(self.text, "{}{suffix}", self.family);
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            let _ = write!(self.text, "{before}{name}=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_histograms_are_whole() {
        let mut text = Exposition::default();
        text.family("x_total", Kind::Counter, "two\nlines").sample(&[], 1).sample(&[("a", "q\"b\\\n"), ("c", "")], 2.5);
        let histogram = db::measure::Histogram::default();
        histogram.add(std::time::Duration::from_millis(2));
        text.family("d_seconds", Kind::Histogram, "d").durations(&[("r", "/x")], &histogram.read());
        let text = text.finish();
        assert!(text.starts_with("# HELP x_total two\\nlines\n# TYPE x_total counter\nx_total 1\n"), "{text}");
        assert!(text.contains("x_total{a=\"q\\\"b\\\\\\n\",c=\"\"} 2.5\n"), "{text}");
        for line in [
            "d_seconds_bucket{r=\"/x\",le=\"0.001\"} 0",
            "d_seconds_bucket{r=\"/x\",le=\"0.0025\"} 1",
            "d_seconds_bucket{r=\"/x\",le=\"+Inf\"} 1",
            "d_seconds_sum{r=\"/x\"} 0.002",
            "d_seconds_count{r=\"/x\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in {text}");
        }
    }
}
