use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::*;
use crate::points::{Points, PowerCut};
use crate::{start, swap};

const IMAGE: &str = "11111111-1111-4111-8111-111111111111";
const SERVER: &str = "22222222-2222-4222-8222-222222222222";
const LATER: &str = "33333333-3333-4333-8333-333333333333";

fn cannot(_: &File, _: &File) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

fn copies(mut from: &File, mut to: &File) -> io::Result<()> {
    io::copy(&mut from, &mut to).map(|_| ())
}

fn put(path: PathBuf, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A cloud that knows `word`.
fn cloud(state: &Path, word: &str) {
    // Made once: hundreds of clouds are needed.
    static EMPTY: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let empty = EMPTY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (made, copy) = (folder.path().join("made"), folder.path().join("copy"));
        drop(db::Db::open(&made).unwrap());
        db::snapshot::copy(&made, &copy).unwrap();
        fs::read(copy).unwrap()
    });
    put(state.join("solostack.db"), empty);
    say(state, word);
    put(state.join("tls/root.key"), format!("{word} key").as_bytes());
    put(state.join("keys/0"), format!("{word} token key").as_bytes());
    put(state.join("policy/compute.yaml"), b"# nothing\n");
    put(state.join("ca.crt"), format!("{word} certificate").as_bytes());
    put(state.join("admin-openrc"), b"export OS_PASSWORD='secret'\n");
    put(state.join("solostack.toml"), format!("region = \"{word}\"\n").as_bytes());
    put(state.join(format!("images/data/{IMAGE}")), format!("{word} image").as_bytes());
    let mut disk = vec![0; 1 << 20];
    disk[700_000..700_000 + word.len()].copy_from_slice(word.as_bytes());
    put(state.join(format!("servers/{SERVER}/disk")), &disk);
    put(state.join(format!("servers/{SERVER}/spec.json")), b"{}");
    put(state.join(format!("servers/{SERVER}/lock")), b"");
}

#[expect(clippy::disallowed_methods, reason = "another program that writes meanwhile")]
fn connect(state: &Path) -> db::rusqlite::Connection {
    let connection = db::rusqlite::Connection::open(state.join("solostack.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
}

fn say(state: &Path, word: &str) {
    connect(state)
        .execute("INSERT OR REPLACE INTO db_migration VALUES ((SELECT max(name) FROM db_migration), ?1)", [word])
        .unwrap();
}

fn said(state: &Path) -> String {
    connect(state)
        .query_row("SELECT applied_at FROM db_migration ORDER BY name DESC LIMIT 1", [], |row| row.get(0))
        .unwrap()
}

fn options(state: &Path) -> Options {
    Options {
        config: Some(state.join("solostack.toml")),
        images: true,
        disks: true,
        cloner: cannot,
        ..Options::of(state)
    }
}

/// Every file below, but for what only belongs to a process or to SQLite.
fn tree(state: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                walk(root, &path, found);
            } else if !name.ends_with("lock") && !name.starts_with("solostack.db") {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(state, state, &mut found);
    found
}

fn into(state: &Path, replace: bool, points: Points) -> Into {
    Into { state: state.to_owned(), replace, points }
}

#[test]
fn a_cloud_is_backed_up_while_others_write_and_restored_elsewhere_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (state, file) = (folder.path().join("a"), folder.path().join("backup"));
    cloud(&state, "first");
    // Somebody has the database open, with rows that are only in its log.
    let writer = connect(&state);
    writer
        .execute_batch("BEGIN; UPDATE db_migration SET applied_at = 'second'; COMMIT; BEGIN; DELETE FROM db_migration")
        .unwrap();
    let created = create(&options(&state), Some(&file), None).unwrap();
    drop(writer);
    assert_eq!(created.bytes, fs::metadata(&file).unwrap().len());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!state.join(".backup").exists(), "nothing is left beside the state");

    let verified = verify(&file, None, folder.path()).unwrap();
    assert_eq!(verified.database.schema, db::snapshot::schema());
    assert!(verified.database.rows["db_migration"] > 10);

    let other = folder.path().join("b");
    let restored = restore(&file, None, &into(&other, false, Points::default())).unwrap();
    assert!(restored.without_disks.is_empty() && restored.without_data.is_empty() && restored.aside.is_none());
    assert_eq!(said(&other), "second");
    assert_eq!(tree(&other), tree(&state));
    let disk = fs::metadata(other.join(format!("servers/{SERVER}/disk"))).unwrap();
    assert!(disk.blocks() * 512 < disk.len(), "holes stay holes");
    assert_eq!(fs::metadata(other.join("solostack.db")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_backup_goes_through_a_pipe_too() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("a");
    cloud(&state, "piped");
    let mut bytes = Vec::new();
    create(&options(&state), None, Some(&mut bytes)).unwrap();
    verify(Path::new("-"), Some(&mut bytes.as_slice()), folder.path()).unwrap();
    let other = folder.path().join("b");
    restore(Path::new("-"), Some(&mut bytes.as_slice()), &into(&other, false, Points::default())).unwrap();
    assert_eq!(said(&other), "piped");
}

#[test]
fn a_restore_without_disks_keeps_those_that_are_here_and_names_those_that_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (state, file) = (folder.path().join("a"), folder.path().join("backup"));
    cloud(&state, "monday");
    create(&Options { images: false, disks: false, ..options(&state) }, Some(&file), None).unwrap();
    // A server of after the backup, whose disk must not be lost because nobody knows of it any more.
    put(state.join(format!("servers/{LATER}/disk")), b"dear");
    say(&state, "tuesday");
    let restored = restore(&file, None, &into(&state, true, Points::default())).unwrap();
    assert_eq!(said(&state), "monday");
    assert!(restored.without_disks.is_empty());
    assert!(state.join(format!("servers/{SERVER}/disk")).exists());
    assert!(!state.join(format!("servers/{LATER}")).exists());
    let aside = restored.aside.unwrap();
    assert_eq!(fs::read(aside.join(format!("servers/{LATER}/disk"))).unwrap(), b"dear");
    assert_eq!(said(&aside), "tuesday");

    let other = folder.path().join("b");
    let restored = restore(&file, None, &into(&other, false, Points::default())).unwrap();
    assert_eq!((restored.without_disks, restored.without_data), (vec![SERVER.to_owned()], vec![IMAGE.to_owned()]));
}

#[test]
fn a_cloud_that_runs_or_is_there_or_has_running_servers_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (state, file) = (folder.path().join("a"), folder.path().join("backup"));
    cloud(&state, "old");
    create(&options(&state), Some(&file), None).unwrap();
    let before = tree(&state);
    let refused = |replace| restore(&file, None, &into(&state, replace, Points::default())).unwrap_err().to_string();
    assert!(refused(false).contains("--replace"));
    let serve = File::create(state.join("lock")).unwrap();
    serve.lock().unwrap();
    assert!(refused(true).contains("stop `solostack serve` first"));
    drop(serve);
    let vm = File::create(state.join(format!("servers/{SERVER}/lock"))).unwrap();
    vm.lock().unwrap();
    assert!(refused(true).contains(SERVER));
    drop(vm);
    assert_eq!(tree(&state), before);
    assert!(create(&options(&state), Some(&file), None).unwrap_err().to_string().contains("--replace"));
}

#[test]
fn disks_of_running_servers_are_of_one_moment_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (state, file) = (folder.path().join("a"), folder.path().join("backup"));
    cloud(&state, "busy");
    let vm = File::create(state.join(format!("servers/{SERVER}/lock"))).unwrap();
    vm.lock().unwrap();
    let error = create(&options(&state), Some(&file), None).unwrap_err().to_string();
    assert!(error.contains("is running") && error.contains(SERVER) && error.contains("--disks"), "{error}");
    assert!(!file.exists());
    let created = create(&Options { cloner: copies, ..options(&state) }, Some(&file), None).unwrap();
    assert_eq!(created.running, [SERVER]);
    verify(&file, None, folder.path()).unwrap();
}

#[test]
fn what_cannot_be_read_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let (state, file) = (folder.path().join("a"), folder.path().join("backup"));
    cloud(&state, "first");
    fs::remove_file(state.join("policy/compute.yaml")).unwrap();
    std::os::unix::fs::symlink("/nonexistent/rules", state.join("policy/compute.yaml")).unwrap();
    let error = create(&options(&state), Some(&file), None).unwrap_err().to_string();
    assert!(error.contains("policy/compute.yaml cannot be read"), "{error}");
    fs::remove_file(state.join("policy/compute.yaml")).unwrap();
    nix::unistd::mkfifo(&state.join("policy/compute.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = create(&options(&state), Some(&file), None).unwrap_err().to_string();
    assert!(error.contains("policy/compute.yaml is no file"), "{error}");
    assert_eq!(crate::files::names(folder.path()).unwrap(), ["a"]);
}

/// Runs until the power is cut; says whether it was.
fn cut<T>(work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(cause) if cause.is::<PowerCut>() => None,
        Err(other) => std::panic::resume_unwind(other),
    }
}

#[test]
fn a_power_cut_at_any_moment_of_a_restore_leaves_the_old_cloud_or_the_new_one() {
    quiet();
    let folder = tempfile::tempdir().unwrap();
    let (new, file) = (folder.path().join("new"), folder.path().join("backup"));
    cloud(&new, "new");
    create(&options(&new), Some(&file), None).unwrap();
    let reference = tree(&new);
    let (mut olds, mut news) = (0, 0);
    for nth in 1.. {
        let state = folder.path().join(format!("state-{nth}"));
        cloud(&state, "old");
        put(state.join("network/hostnet-tag"), b"mine");
        let before = tree(&state);
        let done = cut(|| restore(&file, None, &into(&state, true, Points::cut_at(nth))).unwrap()).is_some();
        // The next start may lose its power too, again and again.
        for again in 1.. {
            if cut(|| start::obey_locked(&state, &Points::cut_at(again)).unwrap()).is_some() {
                break;
            }
        }
        assert!(!state.join(".swap").exists());
        let mut now = tree(&state);
        now.retain(|name, _| !name.starts_with(swap::ASIDE));
        assert_eq!(now["network/hostnet-tag"], b"mine");
        match said(&state).as_str() {
            "old" => {
                assert_eq!(now, before, "cut at {nth}");
                olds += 1;
            }
            "new" => {
                now.remove("network/hostnet-tag");
                assert_eq!(now, reference, "cut at {nth}");
                assert_eq!(said(&state.join(swap::ASIDE)), "old", "cut at {nth}");
                news += 1;
            }
            other => panic!("cut at {nth}: the cloud is {other}"),
        }
        fs::remove_dir_all(&state).unwrap();
        if done {
            break;
        }
    }
    assert!(olds > 5 && news > 20, "{olds} old, {news} new: the points are not where they matter");
}

#[test]
fn a_power_cut_while_a_backup_is_made_leaves_no_file_that_looks_like_one() {
    quiet();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    cloud(&state, "here");
    for nth in 1.. {
        let file = folder.path().join(format!("backup-{nth}"));
        let made =
            cut(|| create(&Options { points: Points::cut_at(nth), ..options(&state) }, Some(&file), None).unwrap());
        assert_eq!(made.is_some(), file.exists());
        if made.is_some() {
            assert!(nth > 5);
            verify(&file, None, folder.path()).unwrap();
            assert!(!state.join(".backup").exists(), "what the others left is cleared");
            break;
        }
    }
}

/// Panics of power cuts are no news.
fn quiet() {
    std::panic::set_hook(Box::new(|panic| {
        if !panic.payload().is::<PowerCut>() {
            eprintln!("{panic}");
        }
    }));
}

type Change<'a> = &'a dyn Fn(&mut Manifest, &mut Vec<(tar::Header, Vec<u8>)>);

/// The backup in `file`, taken apart, changed, and put together again.
fn tampered(file: &Path, change: Change<'_>) -> Vec<u8> {
    let mut archive = tar::Archive::new(zstd::stream::read::Decoder::new(File::open(file).unwrap()).unwrap());
    let mut entries = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        entries.push((entry.header().clone(), bytes));
    }
    let (mut first, text) = entries.remove(0);
    let mut manifest: Manifest = serde_json::from_slice(&text).unwrap();
    change(&mut manifest, &mut entries);
    let text = serde_json::to_vec(&manifest).unwrap();
    first.set_size(text.len() as u64);
    first.set_cksum();
    let mut tar = tar::Builder::new(zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap());
    tar.append(&first, text.as_slice()).unwrap();
    for (header, bytes) in entries {
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn header(name: &str, size: usize, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    // The library would not write a hostile one.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o4777);
    header.set_cksum();
    header
}

fn member(name: &str, bytes: &[u8]) -> Member {
    let (size, sha256) = hashing::hash(bytes, u64::MAX).unwrap();
    Member { name: name.to_owned(), size, stored: size, sha256, mode: 0o4777 }
}

#[test]
fn hostile_backups_are_refused_with_the_reason_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (source, file) = (folder.path().join("source"), folder.path().join("backup"));
    cloud(&source, "good");
    create(&options(&source), Some(&file), None).unwrap();
    let add = |manifest: &mut Manifest, entries: &mut Vec<(tar::Header, Vec<u8>)>, name: &str| {
        manifest.members.push(member(name, b"evil"));
        entries.push((header(name, 4, tar::EntryType::Regular), b"evil".to_vec()));
    };
    let cases: &[(&str, &str, Change<'_>)] = &[
        ("climbing", "has no place", &|m, e| add(m, e, "state/tls/../../../evil")),
        ("absolute", "has no place", &|m, e| add(m, e, "/etc/cron.d/evil")),
        ("empty step", "has no place", &|m, e| add(m, e, "state/tls//evil")),
        ("elsewhere", "has no place", &|m, e| add(m, e, "state/.swap/plan.json")),
        ("the lock", "has no place", &|m, e| add(m, e, "state/lock")),
        ("too deep", "has no place", &|m, e| add(m, e, "images/a/b")),
        ("control characters", "has no place", &|m, e| add(m, e, "state/tls/\u{1b}[2J")),
        ("twice", "twice", &|m, e| add(m, e, "state/ca.crt")),
        ("file and folder", "as a file and as a folder", &|m, e| add(m, e, "state/ca.crt/evil")),
        ("not in the manifest", "more than its manifest", &|_, e| {
            e.push((header("state/tls/evil", 4, tar::EntryType::Regular), b"evil".to_vec()));
        }),
        ("in another order", "something else", &|_, e| e.swap(1, 2)),
        ("a link instead", "something else", &|m, e| {
            let name = m.members[1].name.clone();
            m.members[1].size = 0;
            e[1] = (header(&name, 0, tar::EntryType::Symlink), Vec::new());
        }),
        ("a hard link instead", "something else", &|m, e| {
            let name = m.members[1].name.clone();
            m.members[1].size = 0;
            e[1] = (header(&name, 0, tar::EntryType::Link), Vec::new());
        }),
        ("a device instead", "something else", &|m, e| {
            let name = m.members[1].name.clone();
            m.members[1].size = 0;
            e[1] = (header(&name, 0, tar::EntryType::Char), Vec::new());
        }),
        ("a long name before", "something else", &|_, e| {
            e.insert(1, (header("././@LongLink", 1 << 20, tar::EntryType::GNULongName), vec![b'a'; 1 << 20]));
        }),
        ("larger than said", "something else", &|m, _| m.members[1].size -= 1),
        ("other content", "is damaged", &|_, e| e[1].1[0] ^= 1),
        ("cut off", "cut off", &|_, e| e.truncate(3)),
        ("more than any disk", "not enough room", &|m, _| m.members[1].stored = u64::MAX),
        ("sizes that overflow", "nonsense", &|m, _| m.members[1].size = u64::MAX),
        ("no database", "no database", &|m, e| drop((m.members.remove(0), e.remove(0)))),
        ("a newer format", "format that this program", &|m, _| m.format = 2),
        ("a newer database", "update this machine first", &|m, _| m.schema = "29990101000000_future".into()),
        ("an id that climbs", "no id", &|m, _| m.known_servers.push("../..".into())),
        ("a database that is none", "database", &|m, e| {
            m.members[0] = member(DATABASE, &[7; 8192]);
            e[0] = (header(DATABASE, 8192, tar::EntryType::Regular), vec![7; 8192]);
        }),
    ];
    for (what, why, change) in cases {
        let bytes = tampered(&file, *change);
        for replace in [false, true] {
            let state = folder.path().join(format!("{what}-{replace}"));
            if replace {
                cloud(&state, "mine");
            }
            let before = replace.then(|| tree(&state));
            let result =
                restore(Path::new("b"), Some(&mut bytes.as_slice()), &into(&state, replace, Points::default()));
            let Err(error) = result else { panic!("{what}: it was restored") };
            assert!(error.to_string().contains(why), "{what}: {error}");
            assert!(!state.join(".swap").exists(), "{what}");
            match before {
                Some(before) => assert_eq!(tree(&state), before, "{what}"),
                None => assert_eq!(crate::files::names(&state).unwrap(), ["lock"], "{what}"),
            }
        }
        // Free room is not what a test restore of the database needs.
        if *what != "more than any disk" {
            assert!(verify(Path::new("b"), Some(&mut bytes.as_slice()), folder.path()).is_err(), "{what}");
        }
    }
    assert!(!folder.path().join("evil").exists() && !Path::new("/etc/cron.d/evil").exists());
}

#[test]
fn what_is_no_backup_at_all_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let whole = {
        let state = folder.path().join("state");
        cloud(&state, "x");
        create(&options(&state), Some(&file), None).unwrap();
        fs::read(&file).unwrap()
    };
    let mut trailing = whole.clone();
    trailing.extend(zstd::bulk::compress(b"more", 1).unwrap());
    for bytes in [Vec::new(), b"hello".to_vec(), whole[..whole.len() / 2].to_vec(), trailing] {
        fs::write(&file, &bytes).unwrap();
        let error = verify(&file, None, folder.path()).unwrap_err().to_string();
        assert!(error.contains("backup") || error.contains("goes on"), "{error}");
    }
    for at in (0..whole.len()).step_by(whole.len() / 50) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        // zstd has bits that change nothing of what is in a frame.
        if verify(Path::new("b"), Some(&mut bytes.as_slice()), folder.path()).is_ok() {
            let unpacked = zstd::stream::decode_all(bytes.as_slice()).unwrap();
            assert!(
                unpacked == zstd::stream::decode_all(whole.as_slice()).unwrap(),
                "a flipped bit at {at} was not seen"
            );
        }
    }
}
