//! What a form does, as a line for `openstack` and as a block for Terraform, to be copied and run elsewhere.
//!
//! What must stay true: whatever a person typed is one word of the shell and one string of HCL, expands to nothing, and shows
//! every character that could hide another (controls, marks of direction) as an escape.

use std::fmt::Write as _;

/// Both, as a page shows them. A page that has no block for Terraform leaves it empty.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    pub command: String,
    pub terraform: String,
}

impl Echo {
    #[must_use]
    pub fn command(command: &Command) -> Self {
        Self { command: command.to_string(), terraform: String::new() }
    }
}

/// An `openstack` command, built from its fixed words.
#[derive(Clone, Debug)]
pub struct Command {
    fixed: &'static str,
    options: Vec<String>,
    arguments: Vec<String>,
}

impl Command {
    /// `fixed`: `server create`.
    #[must_use]
    pub fn new(fixed: &'static str) -> Self {
        Self { fixed, options: Vec::new(), arguments: Vec::new() }
    }

    /// `--name value`.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        let value_word = shell(value);
        // What looks like an option is taken for one, unless it is in the same word.
        let joint = if value.starts_with('-') { '=' } else { ' ' };
        self.options.push(format!("{name}{joint}{value_word}"));
        self
    }

    /// The same if there is a value.
    #[must_use]
    pub fn option_if(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.option(name, value) }
    }

    /// `--name`.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        self.options.push(name.to_owned());
        self
    }

    #[must_use]
    pub fn flag_if(self, wanted: bool, name: &str) -> Self {
        if wanted { self.flag(name) } else { self }
    }

    /// What stands behind the options.
    #[must_use]
    pub fn argument(mut self, value: &str) -> Self {
        self.arguments.push(value.to_owned());
        self
    }
}

impl std::fmt::Display for Command {
    /// On one line if it is short, else with an option on each.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = self.options.clone();
        if self.arguments.iter().any(|argument| argument.starts_with('-')) {
            parts.push("--".to_owned());
        }
        let arguments: Vec<String> = self.arguments.iter().map(|argument| shell(argument)).collect();
        if !arguments.is_empty() {
            parts.push(arguments.join(" "));
        }
        let length: usize = parts.iter().map(|part| part.chars().count() + 1).sum();
        let joint = if length + self.fixed.len() < 84 { " " } else { " \\\n  " };
        write!(f, "openstack {}", self.fixed)?;
        parts.iter().try_for_each(|part| write!(f, "{joint}{part}"))
    }
}

/// Characters that change how others are shown: not to be seen as they are.
fn hides(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

/// One word of a POSIX shell. Controls need `$'...'`, which POSIX has since 2024 and every shell in use has had before.
#[must_use]
pub fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    if !text.chars().any(hides) {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut word = String::from("$'");
    for letter in text.chars() {
        match letter {
            '\n' => word.push_str("\\n"),
            '\t' => word.push_str("\\t"),
            '\r' => word.push_str("\\r"),
            '\'' => word.push_str("\\'"),
            '\\' => word.push_str("\\\\"),
            letter if hides(letter) => {
                // Bytes in octal: three digits each, so that no digit behind them is taken for theirs.
                for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(word, "\\{byte:03o}");
                }
            }
            letter => word.push(letter),
        }
    }
    word.push('\'');
    word
}

/// `key=value` as one value of an option.
#[must_use]
pub fn pair(key: &str, value: &str) -> String {
    format!("{key}={value}")
}

/// A string of HCL, with its quotes: neither `${...}` nor `%{...}` in it means anything.
#[must_use]
pub fn hcl(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '$' | '%' if letters.peek() == Some(&'{') => {
                quoted.push(letter);
                quoted.push(letter);
            }
            letter if hides(letter) => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A name for a resource: letters, digits, `_` and `-`, beginning with a letter.
fn label(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '_' };
    let label: String = name.chars().map(plain).take(60).collect();
    let label = label.trim_matches(['_', '-']);
    match label.chars().next() {
        None => "this".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("_{label}"),
        Some(_) => label.to_owned(),
    }
}

/// A block of HCL under construction. Its own words are ours, its values anybody's.
#[derive(Clone, Debug)]
pub struct Block {
    head: String,
    /// Name and value; a block inside has no name.
    lines: Vec<(Option<&'static str>, String)>,
}

impl Block {
    /// `resource "kind" "label"`, the label made from `name`.
    #[must_use]
    pub fn resource(kind: &'static str, name: &str) -> Self {
        Self { head: format!("resource \"{kind}\" \"{}\"", label(name)), lines: Vec::new() }
    }

    /// A block inside another.
    #[must_use]
    pub fn inner(kind: &'static str) -> Self {
        Self { head: kind.to_owned(), lines: Vec::new() }
    }

    fn line(mut self, name: &'static str, value: String) -> Self {
        self.lines.push((Some(name), value));
        self
    }

    #[must_use]
    pub fn text(self, name: &'static str, value: &str) -> Self {
        self.line(name, hcl(value))
    }

    /// The same if there is a value.
    #[must_use]
    pub fn text_if(self, name: &'static str, value: &str) -> Self {
        if value.is_empty() { self } else { self.text(name, value) }
    }

    #[must_use]
    pub fn number(self, name: &'static str, value: i64) -> Self {
        self.line(name, value.to_string())
    }

    #[must_use]
    pub fn boolean(self, name: &'static str, value: bool) -> Self {
        self.line(name, value.to_string())
    }

    /// An expression: never with anything in it that somebody typed.
    #[must_use]
    pub fn expression(self, name: &'static str, value: &'static str) -> Self {
        self.line(name, value.to_owned())
    }

    #[must_use]
    pub fn list<T: AsRef<str>>(self, name: &'static str, values: &[T]) -> Self {
        if values.is_empty() {
            return self;
        }
        let values: Vec<String> = values.iter().map(|value| hcl(value.as_ref())).collect();
        self.line(name, format!("[{}]", values.join(", ")))
    }

    #[must_use]
    pub fn map(self, name: &'static str, pairs: &[(String, String)]) -> Self {
        if pairs.is_empty() {
            return self;
        }
        let lines: String = pairs.iter().map(|(key, value)| format!("    {} = {}\n", hcl(key), hcl(value))).collect();
        self.line(name, format!("{{\n{lines}  }}"))
    }

    #[must_use]
    pub fn block(mut self, inner: &Self) -> Self {
        self.lines.push((None, inner.to_string().replace('\n', "\n  ")));
        self
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {{", self.head)?;
        let one_line = |(name, value): &&(Option<&'static str>, String)| name.is_some() && !value.contains('\n');
        let width = self.lines.iter().filter(one_line).filter_map(|(name, _)| *name).map(str::len).max().unwrap_or(0);
        for line in &self.lines {
            match line {
                (Some(name), value) if value.contains('\n') => writeln!(f, "\n  {name} = {value}")?,
                (Some(name), value) => writeln!(f, "  {name:width$} = {value}")?,
                (None, value) => writeln!(f, "\n  {value}")?,
            }
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command as Process;

    const HOSTILE: &[&str] = &[
        "",
        "web-1",
        "it's $(touch /tmp/x) `id` \"quoted\" ; rm -rf / & | > <",
        "a\\nb\\",
        "line\none\rtwo\tthree",
        "\u{1b}[2Jgone\u{7}7",
        "\u{202e}txt.exe\u{200b}",
        "ünï ★ 漢字",
        "~root !! *.? {a,b} #x",
        "${file(\"/etc/passwd\")} %{ if true } $${x}",
        "--flavor",
        "-n",
    ];

    #[test]
    fn a_shell_reads_every_word_as_it_was_typed() {
        for text in HOSTILE {
            // One option, one argument: the shell must hand on exactly these words.
            let script = format!("printf '%s\\0' {} {}", shell(text), shell("end"));
            let said = Process::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("{text}\0end\0"), "{script}");
            assert!(!shell(text).chars().any(hides), "{text:?}");
        }
    }

    #[test]
    fn strings_of_hcl_mean_nothing_but_themselves() {
        for (text, wanted) in [
            ("a\"b\\c", r#""a\"b\\c""#),
            ("${x} $x %{ if } 100%", r#""$${x} $x %%{ if } 100%""#),
            // Terraform reads `$${` as `${`, and what stands before it as it is.
            ("$${x}", r#""$$${x}""#),
            ("a\nb\u{1b}\u{202e}", r#""a\nb\u001b\u202e""#),
        ] {
            assert_eq!(hcl(text), wanted);
        }
    }

    #[test]
    fn a_command_is_one_line_if_it_is_short() {
        let command = Command::new("server create").option("--flavor", "m1.tiny").argument("web 1");
        assert_eq!(command.to_string(), "openstack server create --flavor m1.tiny 'web 1'");
        let long = command.option("--description", &"x".repeat(60)).argument("-x");
        let lines: Vec<String> = long.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "openstack server create \\");
        assert_eq!(lines[3..], ["  -- \\", "  'web 1' -x"]);
        assert_eq!(Command::new("server set").option("--name", "-x").to_string(), "openstack server set --name=-x");
    }

    #[test]
    fn a_block_is_laid_out_as_terraform_would() {
        let block = Block::resource("openstack_compute_instance_v2", "1 Ü \"x\"")
            .text("name", "a")
            .number("count", 2)
            .list("tags", &["x", "y"])
            .map("metadata", &[("a b".into(), "c".into())])
            .block(&Block::inner("network").text("uuid", "n"));
        assert_eq!(
            block.to_string(),
            "resource \"openstack_compute_instance_v2\" \"_1____x\" {\n  name  = \"a\"\n  count = 2\n  tags  = [\"x\", \"y\"]\n\n  \
             metadata = {\n    \"a b\" = \"c\"\n  }\n\n  network {\n    uuid = \"n\"\n  }\n}"
        );
        assert_eq!(label(""), "this");
        assert_eq!(label("../../etc"), "etc");
    }
}
