//! One event as one message.

use std::fmt::{self, Write};

use time::{OffsetDateTime, macros::format_description};
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// Receivers must take 2,048 bytes and should take 8,192 (RFC 5425, 4.3.1).
const MESSAGE_MAX: usize = 8192;
const VALUE_MAX: usize = 1024;
const FIELDS_MAX: usize = 32;
/// The number that is reserved for examples (RFC 5612): we have none of our own, and names without one are IANA's.
const STRUCTURE: &str = "solostack@32473";

/// What every message begins with.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    facility: u8,
    host: String,
    pid: u32,
}

impl Head {
    pub(crate) fn of_this_process(facility: u8) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self { facility, host: name(host.trim(), 255), pid: std::process::id() }
    }
}

/// An event's message, with its length before it (RFC 6587, 3.4.1).
pub(crate) fn of_event(head: &Head, event: &Event<'_>) -> Vec<u8> {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let severity = match *event.metadata().level() {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    };
    framed(head, severity, event.metadata().target(), &fields)
}

/// A message of our own making.
pub(crate) fn of_text(head: &Head, text: &str) -> Vec<u8> {
    framed(head, 4, super::TARGET, &Fields { message: text.into(), ..Fields::default() })
}

fn framed(head: &Head, severity: u8, id: &str, fields: &Fields) -> Vec<u8> {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    let at = OffsetDateTime::now_utc().format(format).unwrap_or_else(|_| "-".into());
    let priority = head.facility * 8 + severity;
    let (host, pid, id) = (&head.host, head.pid, name(id, 32));
    let structure = if fields.structure.is_empty() { "-".into() } else { format!("[{STRUCTURE}{}]", fields.structure) };
    let mut text = format!("<{priority}>1 {at} {host} solostack {pid} {id} {structure} ");
    plain(&mut text, &fields.message, usize::MAX, "");
    if text.len() > MESSAGE_MAX {
        let mut end = MESSAGE_MAX - 3;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    format!("{} {text}", text.len()).into_bytes()
}

/// What an event holds: its words, and the parameters of its structure.
#[derive(Default)]
struct Fields {
    message: String,
    structure: String,
    count: usize,
}

impl Fields {
    fn take(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else if self.count < FIELDS_MAX {
            self.count += 1;
            let _ = write!(self.structure, " {}=\"", name(field.name(), 32));
            plain(&mut self.structure, value, VALUE_MAX, "\"\\]");
            self.structure.push('"');
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, &format!("{value:?}"));
    }
}

/// A text on one line: control characters as `#` and three octal digits of each byte, as rsyslog shows them; a backslash before
/// each of `special`.
fn plain(out: &mut String, text: &str, most: usize, special: &str) {
    for letter in text.chars().take(most) {
        if letter.is_control() || ['\u{2028}', '\u{2029}'].contains(&letter) {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "#{byte:03o}");
            }
            continue;
        }
        if special.contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
}

/// A word of the head, or a parameter's name: visible ASCII without what ends one.
fn name(text: &str, most: usize) -> String {
    let fits = |c: &char| c.is_ascii_graphic() && !"=]\"".contains(*c);
    let word: String = text.chars().filter(fits).take(most).collect();
    if word.is_empty() { "-".into() } else { word }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::{Layer, layer::Context, prelude::*};

    use super::*;

    struct Kept(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let head = Head { facility: 3, host: name("ho st]", 255), pid: 7 };
            self.0.lock().unwrap().push(String::from_utf8(of_event(&head, event)).unwrap());
        }
    }

    fn messages(work: impl FnOnce()) -> Vec<String> {
        let kept = Arc::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Kept(Arc::clone(&kept))), work);
        let kept = kept.lock().unwrap().clone();
        kept.into_iter()
            .map(|framed| {
                let (length, text) = framed.split_once(' ').unwrap();
                assert_eq!(length.parse(), Ok(text.len()), "{framed}");
                text.to_owned()
            })
            .collect()
    }

    #[test]
    fn an_event_is_one_message_with_its_fields() {
        let all = messages(|| {
            let id = "req-1";
            tracing::warn!(target: "audit", status = 404, request.id = id, "request");
            tracing::info!("nothing but words");
        });
        let (before, after) = all[0].split_once(" host solostack 7 ").unwrap();
        assert!(before.starts_with("<28>1 20") && before.ends_with('Z'), "{before}");
        assert_eq!(after, "audit [solostack@32473 status=\"404\" request.id=\"req-1\"] request");
        assert!(all[1].starts_with("<30>1 ") && all[1].ends_with(" - nothing but words"), "{}", all[1]);
    }

    #[test]
    fn hostile_values_end_neither_message_nor_structure() {
        let hostile = "a\"] <0>1 - - - - - forged\r\n12 x\\\u{0}\u{1b}[2J\u{85}\u{2028}ö";
        let all = messages(|| tracing::error!(name = hostile, "{hostile}"));
        let text = &all[0];
        assert!(!text.contains(|c: char| c.is_control() || c == '\u{2028}'), "{text:?}");
        let shown = "a\\\"\\] <0>1 - - - - - forged#015#01212 x\\\\#000#033[2J#302#205#342#200\u{23}250ö";
        assert!(text.contains(&format!(" name=\"{shown}\"] a\"] <0>1")), "{text}");
    }

    #[test]
    fn long_events_are_cut_at_a_letter() {
        let long = "ö".repeat(20_000);
        let all = messages(|| tracing::error!(one = long, two = long, "{long}"));
        assert!(all[0].len() <= MESSAGE_MAX && all[0].ends_with("ö..."), "{}", all[0].len());
        assert!(all[0].contains("\"] ö"), "the structure is whole");
    }
}
