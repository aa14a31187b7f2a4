use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ring::signature::Ed25519KeyPair;

use super::gpt::Table;
use super::*;
use crate::backup::hashing;
use crate::points::PowerCut;

const SECTOR: u64 = 512;
const ROOT_BYTES: u64 = 256 << 10;
const VERITY_BYTES: u64 = 32 << 10;

/// A disk with two slots, its EFI partition as a folder, a state, and a release key.
struct Room {
    folder: tempfile::TempDir,
    machine: Machine,
    secret: SecretKey,
}

fn id_bytes(kind: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = kind;
    let mut mixed = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    mixed[8..].copy_from_slice(&rest);
    mixed
}

/// As a partitioning tool writes it.
fn make_disk(path: &Path) {
    let sectors = 4096_u64;
    let file = File::create_new(path).unwrap();
    file.set_len(sectors * SECTOR).unwrap();
    let mut entries = vec![0; 128 * 128];
    let mut at = 64;
    let layout = [
        (gpt::ESP, 64 << 10),
        (gpt::ROOT, ROOT_BYTES),
        (gpt::ROOT_VERITY, VERITY_BYTES),
        (gpt::ROOT, ROOT_BYTES),
        (gpt::ROOT_VERITY, VERITY_BYTES),
    ];
    for (index, (kind, bytes)) in layout.into_iter().enumerate() {
        let entry = &mut entries[index * 128..];
        entry[..16].copy_from_slice(&id_bytes(kind));
        entry[16..32].copy_from_slice(&[u8::try_from(index).unwrap() + 1; 16]);
        entry[32..40].copy_from_slice(&u64::to_le_bytes(at));
        at += bytes / SECTOR;
        entry[40..48].copy_from_slice(&u64::to_le_bytes(at - 1));
    }
    for (mine, other, table) in [(1, sectors - 1, 2), (sectors - 1, 1, sectors - 33)] {
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
        header[12..16].copy_from_slice(&92_u32.to_le_bytes());
        header[24..32].copy_from_slice(&u64::to_le_bytes(mine));
        header[32..40].copy_from_slice(&u64::to_le_bytes(other));
        header[72..80].copy_from_slice(&u64::to_le_bytes(table));
        header[80..84].copy_from_slice(&128_u32.to_le_bytes());
        header[84..88].copy_from_slice(&128_u32.to_le_bytes());
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        let sum = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        file.write_all_at(&header, mine * SECTOR).unwrap();
        file.write_all_at(&entries, table * SECTOR).unwrap();
    }
}

fn secret(seed: u8) -> SecretKey {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    // RFC 8410: what openssl writes.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([seed; 32]);
    assert!(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).is_ok());
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
    fs::write(&path, format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")).unwrap();
    SecretKey::read(&path).unwrap()
}

/// The root of a version: bytes of which any is telling.
fn root_of(version: &str) -> Vec<u8> {
    (0..ROOT_BYTES / 2).map(|at| (at % 251) as u8 ^ version.as_bytes()[at as usize % version.len()]).collect()
}

fn roothash(version: &str) -> String {
    hashing::hash(root_of(version).as_slice(), u64::MAX).unwrap().1
}

/// The part of a unified kernel image that counts here.
fn uki_of(version: &str) -> Vec<u8> {
    format!("MZ a kernel of {version}, quiet roothash={} console=tty0", roothash(version)).into_bytes()
}

impl Room {
    /// Version 1.0 in the first slot, proved.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        make_disk(&disk);
        let (esp, state) = (folder.path().join("esp"), folder.path().join("state"));
        fs::create_dir_all(esp.join("EFI/Linux")).unwrap();
        fs::create_dir_all(esp.join("grub")).unwrap();
        fs::create_dir_all(&state).unwrap();
        fs::write(esp.join("EFI/Linux/solostack_1.0.efi"), uki_of("1.0")).unwrap();
        fs::write(esp.join("grub/solostack_1.0.cfg"), "1.0").unwrap();
        fs::write(
            esp.join("grub/environment"),
            format!("{:#<1024}", "# GRUB Environment Block\ngood=solostack_1.0\ntry=\ntries=0\n"),
        )
        .unwrap();
        let file = File::options().read(true).write(true).open(&disk).unwrap();
        let mut table = Table::read(&file).unwrap();
        let ids = release_ids("1.0");
        table.rename(1, "solostack_1.0", Some(ids[0]));
        table.rename(2, "solostack_1.0", Some(ids[1]));
        table.rename(3, "_empty", None);
        table.rename(4, "_empty", None);
        table.write(&file, &|| ()).unwrap();
        file.write_all_at(&root_of("1.0"), table.partitions().unwrap()[1].start).unwrap();
        let machine = Machine {
            disk,
            esp: Esp::at(&esp),
            state,
            version: "1.0".into(),
            boot: "b1".into(),
            points: Points::default(),
        };
        Self { folder, machine, secret: secret(1) }
    }

    fn update(&self, version: &str) -> Vec<u8> {
        self.update_by(version, &self.secret)
    }

    fn update_by(&self, version: &str, secret: &SecretKey) -> Vec<u8> {
        let path = |name: &str| self.folder.path().join(name);
        fs::write(path("root"), root_of(version)).unwrap();
        fs::write(path("verity"), vec![9; 4096]).unwrap();
        fs::write(path("uki"), uki_of(version)).unwrap();
        fs::write(path("grub"), version).unwrap();
        let (root, verity, uki, grub) = (path("root"), path("verity"), path("uki"), path("grub"));
        let making = Making { version, root: &root, verity: &verity, uki: &uki, grub: Some(&grub) };
        pack(&making, secret, &path("update")).unwrap();
        fs::read(path("update")).unwrap()
    }

    fn install(&self, update: &[u8]) -> Result<Installed> {
        install(&mut &update[..], &self.secret.public(), &self.machine, false)
    }

    /// What systemd-boot starts, an attempt counted; panics if that cannot run.
    fn boot(&self) -> String {
        let mut entries = self.machine.esp.entries().unwrap();
        entries.sort_by(|a, b| {
            let bad = |entry: &Entry| entry.left == Some(0);
            bad(a).cmp(&bad(b)).then(if is_newer(&a.version, &b.version) {
                std::cmp::Ordering::Less
            } else {
                std::cmp::Ordering::Greater
            })
        });
        let entry = entries.first().expect("something to start");
        let text = String::from_utf8(fs::read(&entry.path).unwrap()).unwrap();
        let hash = text.split("roothash=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        if let Some(left @ 1..) = entry.left {
            let next = format!("solostack_{}+{}-{}.efi", entry.version, left - 1, TRIES + 1 - left);
            fs::rename(&entry.path, entry.path.with_file_name(next)).unwrap();
        }
        let disk = File::open(&self.machine.disk).unwrap();
        let partitions = Table::read(&disk).unwrap().partitions().unwrap();
        let ids = release_ids(&entry.version);
        let root =
            partitions.iter().find(|partition| partition.id == ids[0]).expect("the root that the kernel looks for");
        assert!(partitions.iter().any(|partition| partition.id == ids[1]), "the hashes that the kernel looks for");
        let mut bytes = vec![0; root_of(&entry.version).len()];
        disk.read_exact_at(&mut bytes, root.start).unwrap();
        assert_eq!(
            hashing::hash(bytes.as_slice(), u64::MAX).unwrap().1,
            hash,
            "the root is not what the kernel verifies"
        );
        entry.version.clone()
    }

    /// What GRUB starts, an attempt counted.
    fn boot_by_grub(&self) -> String {
        let folder = self.folder.path().join("esp/grub");
        let text = fs::read_to_string(folder.join("environment")).unwrap();
        assert_eq!(text.len(), 1024);
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let (good, trying, tries) = (value("good="), value("try="), value("tries=").parse::<u32>().unwrap());
        let pick = if tries > 0 { trying.clone() } else { good.clone() };
        if tries > 0 {
            let next = format!("# GRUB Environment Block\ngood={good}\ntry={trying}\ntries={}\n", tries - 1);
            fs::write(folder.join("environment"), format!("{next:#<1024}")).unwrap();
        }
        let version = fs::read_to_string(folder.join(format!("{pick}.cfg"))).unwrap();
        let there = self.machine.esp.entries().unwrap().into_iter().any(|entry| entry.version == version);
        assert!(there, "GRUB starts {version}, whose kernel is not there");
        version
    }

    fn record(&self) -> Record {
        Record::read(&self.machine.state).unwrap().unwrap()
    }

    fn runs(&self, version: &str) -> Machine {
        Machine { version: version.to_owned(), ..self.machine.clone() }
    }
}

fn release_ids(version: &str) -> [[u8; 16]; 2] {
    Release { version: version.into(), roothash: roothash(version), schema: String::new(), parts: Vec::new() }.ids()
}

#[test]
fn an_update_is_started_counted_proves_itself_and_the_next_one_takes_the_other_slot() {
    let room = Room::new();
    assert_eq!(room.boot(), "1.0");
    let installed = room.install(&room.update("1.1")).unwrap();
    assert_eq!((installed.release.version.as_str(), installed.replaced.as_str()), ("1.1", "_empty"));
    assert_eq!((room.record().state, room.record().from.as_str()), (State::Trying, "1.0"));
    assert_eq!((room.boot(), room.boot_by_grub()), ("1.1".into(), "1.1".into()));
    let new = room.runs("1.1");
    assert_eq!(at_start(&new.state, "1.1", "b2", &Points::default()).unwrap().unwrap().record.state, State::Trying);
    // Not another one before it has proved itself.
    let next = room.update("1.2");
    let error = install(&mut next.as_slice(), &room.secret.public(), &new, false).unwrap_err().to_string();
    assert!(error.contains("has not proved itself"), "{error}");
    assert!(confirm(&new).unwrap());
    assert!(!confirm(&new).unwrap(), "there is nothing to prove twice");
    assert_eq!(room.record().state, State::Good);
    for _ in 0..5 {
        assert_eq!((room.boot(), room.boot_by_grub()), ("1.1".into(), "1.1".into()));
    }
    let installed = install(&mut next.as_slice(), &room.secret.public(), &new, false).unwrap();
    assert_eq!(installed.replaced, "solostack_1.0");
    assert_eq!(room.boot(), "1.2");
}

#[test]
fn a_cloud_that_starts_again_before_the_machine_does_leaves_the_update_waiting() {
    let room = Room::new();
    room.install(&room.update("1.1")).unwrap();
    let waiting = room.record();
    let found = at_start(&room.machine.state, "1.0", "b1", &Points::default()).unwrap().unwrap();
    assert_eq!((found.record, found.aside), (waiting.clone(), None));
    assert_eq!(room.record(), waiting);
    assert_eq!(room.boot(), "1.1");
    assert!(confirm(&room.runs("1.1")).unwrap(), "it is still on trial");
}

#[test]
fn a_version_that_says_no_of_itself_is_left_and_the_reason_is_kept() {
    let room = Room::new();
    room.install(&room.update("1.1")).unwrap();
    assert_eq!((room.boot(), room.boot_by_grub()), ("1.1".into(), "1.1".into()));
    assert!(condemn(&room.runs("1.1"), "the Compute API does not answer").unwrap());
    for _ in 0..3 {
        assert_eq!((room.boot(), room.boot_by_grub()), ("1.0".into(), "1.0".into()));
    }
    let found = at_start(&room.machine.state, "1.0", "b2", &Points::default()).unwrap().unwrap();
    assert_eq!(found.record.state, State::Returned);
    assert_eq!(found.record.reason.as_deref(), Some("the Compute API does not answer"));
    assert_eq!(room.record(), found.record);
    // The same once more, mended.
    room.install(&room.update("1.1")).unwrap();
    assert_eq!(room.boot(), "1.1");
}

#[test]
fn a_version_that_never_comes_up_is_left_after_three_attempts() {
    let room = Room::new();
    room.install(&room.update("1.1")).unwrap();
    for _ in 0..TRIES {
        assert_eq!((room.boot(), room.boot_by_grub()), ("1.1".into(), "1.1".into()));
    }
    assert_eq!((room.boot(), room.boot_by_grub()), ("1.0".into(), "1.0".into()));
    let found = at_start(&room.machine.state, "1.0", "b2", &Points::default()).unwrap().unwrap();
    assert!(found.record.reason.unwrap().contains("did not come up"));
}

#[test]
fn a_power_cut_at_any_moment_of_an_installation_leaves_a_machine_that_starts() {
    std::panic::set_hook(Box::new(|panic| {
        if !panic.payload().is::<PowerCut>() {
            eprintln!("{panic}");
        }
    }));
    let (mut olds, mut news) = (0, 0);
    for nth in 1.. {
        let mut room = Room::new();
        // There is something in the other slot already, as mostly.
        room.install(&room.update("0.9~never")).unwrap_err();
        install(&mut room.update("1.1").as_slice(), &room.secret.public(), &room.machine, false).unwrap();
        confirm(&room.runs("1.1")).unwrap();
        room.machine.version = "1.1".into();
        let update = room.update("1.2");
        room.machine.points = Points::cut_at(nth);
        let done = match catch_unwind(AssertUnwindSafe(|| room.install(&update).unwrap())) {
            Ok(_) => true,
            Err(cause) if cause.is::<PowerCut>() => false,
            Err(other) => std::panic::resume_unwind(other),
        };
        room.machine.points = Points::default();
        match (room.boot().as_str(), room.boot_by_grub().as_str()) {
            ("1.2", "1.2") => news += 1,
            // Between two renames one boot loader may know already what the other does not.
            ("1.1", "1.1") | ("1.2", "1.1") => {
                olds += 1;
                // The same update again.
                room.install(&update).unwrap();
                assert_eq!(room.boot(), "1.2");
            }
            other => panic!("cut at {nth}: {other:?}"),
        }
        if done {
            break;
        }
    }
    assert!(olds > 10 && news >= 1, "{olds} old, {news} new: the points are not where they matter");
}

#[test]
fn a_return_brings_the_database_of_before_back_if_the_newer_version_changed_it() {
    for migrated in [false, true] {
        let room = Room::new();
        let database = room.machine.state.join("solostack.db");
        drop(db::Db::open(&database).unwrap());
        let said = |path: &Path| db::snapshot::applied(path).unwrap();
        let before = said(&database);
        room.install(&room.update("1.1")).unwrap();
        if migrated {
            // What the newer version does at its first start: a copy, then a migration.
            let copy = room.machine.state.join("solostack.db.before-29990101000000_future");
            db::snapshot::copy(&database, &copy).unwrap();
            #[expect(clippy::disallowed_methods, reason = "another program's connection")]
            let newer = db::rusqlite::Connection::open(&database).unwrap();
            newer.execute("INSERT INTO db_migration VALUES ('29990101000000_future', '')", []).unwrap();
        }
        for nth in 1.. {
            let found = catch_unwind(AssertUnwindSafe(|| {
                at_start(&room.machine.state, "1.0", "b2", &Points::cut_at(nth)).unwrap().unwrap()
            }));
            if let Ok(found) = found {
                assert_eq!(found.record.state, State::Returned);
                break;
            }
        }
        assert_eq!(said(&database), before);
        let aside = room.machine.state.join(crate::ASIDE).join("solostack.db");
        assert_eq!(aside.exists(), migrated, "what the newer version wrote is kept");
    }
}

#[test]
fn an_update_that_is_not_what_was_signed_is_refused_and_changes_nothing_that_starts() {
    let room = Room::new();
    let good = room.update("1.1");
    let refused = |update: &[u8]| {
        let error = room.install(update).unwrap_err().to_string();
        assert_eq!((room.boot(), room.boot_by_grub()), ("1.0".into(), "1.0".into()));
        assert_eq!(Record::read(&room.machine.state).unwrap(), None);
        error
    };
    assert!(refused(&room.update_by("1.1", &secret(2))).contains("not signed"));
    assert!(refused(b"").contains("update"));
    assert!(refused(b"hello, hello, hello").contains("update"));
    refused(&good[..good.len() / 2]);
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        if let Ok(installed) = room.install(&bytes) {
            panic!("a flipped bit at {at} was not seen: {installed:?}");
        }
        assert_eq!(room.boot(), "1.0");
    }
    // Signed, but not for this machine.
    assert!(refused(&room.update("1.0")).contains("is what runs"));
    assert!(refused(&room.update("0.9")).contains("--older"));
    assert_eq!(look(&mut good.as_slice(), &room.secret.public()).unwrap().version, "1.1");
    assert!(look(&mut good.as_slice(), &secret(2).public()).is_err());
}

#[test]
fn a_part_that_was_exchanged_under_a_good_signature_is_seen() {
    let room = Room::new();
    let good = room.update("1.1");
    let mut archive = tar::Archive::new(zstd::stream::read::Decoder::new(good.as_slice()).unwrap());
    let mut tar = tar::Builder::new(zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        if entry.path().unwrap().ends_with("solostack_1.1.root") {
            bytes[1000] ^= 1;
        }
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    let bad = tar.into_inner().unwrap().finish().unwrap();
    let error = room.install(&bad).unwrap_err().to_string();
    assert!(error.contains("solostack_1.1.root is not what was signed"), "{error}");
    assert_eq!((room.boot(), room.boot_by_grub()), ("1.0".into(), "1.0".into()));
}

#[test]
fn a_machine_without_a_second_slot_is_not_updated() {
    let mut room = Room::new();
    room.machine.version = "7".into();
    let update = room.update("8");
    assert!(room.install(&update).unwrap_err().to_string().contains("no slot with the version that runs (7)"));
    fs::write(&room.machine.disk, vec![0; 1 << 20]).unwrap();
    assert!(room.install(&update).unwrap_err().to_string().contains("no partition table"));
}

#[test]
fn versions_are_compared_as_people_do() {
    for (newer, older) in [("1.10", "1.9"), ("1.0.1", "1.0"), ("1.0", "1.0~rc1"), ("2", "1.99"), ("1.0-2", "1.0-1")] {
        assert!(is_newer(newer, older), "{newer} > {older}");
        assert!(!is_newer(older, newer), "{older} < {newer}");
    }
    assert!(!is_newer("1.0", "1.0"));
    assert!(is_version("1.0.3~rc1") && !is_version("../1") && !is_version("") && !is_version("v1"));
}
