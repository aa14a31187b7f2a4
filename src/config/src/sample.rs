//! The documented sample file.

use super::{GROUPS, KEYS, Key, Kind, Value};

/// A file with every key, its meaning and its default, all of them commented out.
pub fn sample() -> String {
    let mut text = String::from(
        "# Solostack reads this file from /etc/solostack/solostack.toml, or from where `--config` says. Nothing in it is\n\
         # needed. Check it with `solostack config check FILE`. Flags win over the file.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (own_section, bare) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        if own_section != section {
            section = own_section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push('\n');
        for line in wrap(key.doc, 116) {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("#{}\n", shown(key, bare)));
    }
    // Sections with ids have no defaults: nothing of them is a line that could be uncommented as it stands.
    for group in GROUPS {
        text.push_str(&format!("\n# [{}.ID], any number of times\n#\n", group.name));
        for line in wrap(group.doc, 116) {
            text.push_str(&format!("# {line}\n"));
        }
        for key in group.keys {
            text.push_str("#\n");
            for line in wrap(key.doc, 110) {
                text.push_str(&format!("#     # {line}\n"));
            }
            text.push_str(&format!("#     {}\n", shown(key, key.name)));
        }
    }
    text
}

/// `key = default`, and what else it may be.
fn shown(key: &Key, bare: &str) -> String {
    let value = match key.kind.default() {
        None => "\"\"".into(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Int(value)) => value.to_string(),
        Some(Value::Float(value)) => format!("{value:?}"),
        Some(Value::Text(value)) => format!("{value:?}"),
        Some(Value::List(values)) => format!("{values:?}"),
    };
    let values = match &key.kind {
        Kind::Choice { of, .. } => format!("    # {}", of.join(", ")),
        _ => String::new(),
    };
    format!("{bare} = {value}{values}")
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let count = lines.len();
        let line = &mut lines[count - 1];
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
