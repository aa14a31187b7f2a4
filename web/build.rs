//! What the dashboard serves besides pages, carried in the program: `static/`, and what npm has of other people's work, as
//! `package-lock.json` names it by hash. Needs npm (`just setup`), and the registry that npm is configured with, when the
//! lock file has changed.

#![expect(clippy::expect_used, reason = "a build script says what it expected by failing")]

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// Files and folders of npm packages, and where they are served below `vendor/`.
const VENDORED: &[(&str, &str)] = &[
    ("@novnc/novnc/core", "novnc/core"),
    ("@novnc/novnc/vendor", "novnc/vendor"),
    ("@novnc/novnc/LICENSE.txt", "novnc/LICENSE.txt"),
    ("@novnc/novnc/docs/LICENSE.MPL-2.0", "novnc/docs/LICENSE.MPL-2.0"),
    ("@xterm/xterm/lib/xterm.mjs", "xterm/xterm.mjs"),
    ("@xterm/xterm/css/xterm.css", "xterm/xterm.css"),
    ("@xterm/xterm/LICENSE", "xterm/LICENSE"),
    ("@xterm/addon-fit/lib/addon-fit.mjs", "xterm/addon-fit.mjs"),
    ("idiomorph/dist/idiomorph.min.js", "idiomorph/idiomorph.min.js"),
    ("idiomorph/LICENSE", "idiomorph/LICENSE"),
];

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the crate's folder"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names a folder to write to"));
    for name in ["package.json", "package-lock.json", "static", "templates", "locales", "build.rs"] {
        println!("cargo::rerun-if-changed={name}");
    }
    let modules = fetch(&here, &out);
    let mut files = Vec::new();
    collect(&here.join("static"), "", &mut files);
    for (from, to) in VENDORED {
        collect(&modules.join(from), &format!("vendor/{to}"), &mut files);
    }
    files.sort();
    write(&out, &files);
}

/// The folder of npm's packages; fetched when the lock file is another than last time.
fn fetch(here: &Path, out: &Path) -> PathBuf {
    let lock = fs::read(here.join("package-lock.json")).expect("package-lock.json");
    let (folder, done) = (out.join("npm"), out.join("npm/done"));
    if fs::read(&done).ok().as_ref() == Some(&lock) {
        return folder.join("node_modules");
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder for npm");
    for name in ["package.json", "package-lock.json"] {
        fs::copy(here.join(name), folder.join(name)).expect("a copy of what npm reads");
    }
    let arguments = ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    let said = Command::new("npm").args(arguments).current_dir(&folder).output();
    let said = said.expect("npm is needed for the dashboard's consoles: run `just setup`");
    assert!(said.status.success(), "npm ci failed: {}", String::from_utf8_lossy(&said.stderr));
    fs::write(&done, lock).expect("a note that it is fetched");
    folder.join("node_modules")
}

fn collect(from: &Path, name: &str, into: &mut Vec<(String, PathBuf)>) {
    if from.is_file() {
        into.push((name.to_owned(), from.to_owned()));
        return;
    }
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        let base = path.file_name().and_then(|name| name.to_str()).expect("a name of text");
        let below = if name.is_empty() { base.to_owned() } else { format!("{name}/{base}") };
        collect(&path, &below, into);
    }
}

/// A table of everything, each also compressed, and one hash of it all, which stands in every address.
fn write(out: &Path, files: &[(String, PathBuf)]) {
    let mut hasher = DefaultHasher::new();
    let mut table = String::from("pub(super) static FILES: &[File] = &[\n");
    for (index, (name, path)) in files.iter().enumerate() {
        let bytes = fs::read(path).expect("a file");
        (name, &bytes).hash(&mut hasher);
        let packed = out.join(format!("asset{index}.gz"));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&bytes).expect("compression in memory");
        fs::write(&packed, encoder.finish().expect("compression in memory")).expect("a file in OUT_DIR");
        table.push_str(&format!(
            "    File {{ name: {name:?}, plain: include_bytes!({path:?}), packed: include_bytes!({packed:?}) }},\n"
        ));
    }
    table.push_str("];\n");
    table.push_str(&format!("pub(super) const VERSION: &str = \"{:016x}\";\n", hasher.finish()));
    fs::write(out.join("assets.rs"), table).expect("the table");
}
