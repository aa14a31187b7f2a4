use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::bus::Registers as _;

fn machine() -> Machine {
    Machine::solo_1(vec![0, 1, 4], Some(1 << 39..1 << 40))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn number(bytes: &[u8], at: usize, size: usize) -> usize {
    bytes[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Memory with the tables in it, as an operating system walks it: signature to bytes.
fn walk(memory: &[u8], base: usize, rsdp: usize) -> BTreeMap<String, Vec<u8>> {
    let rsdp = &memory[rsdp - base..][..36];
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    assert_eq!((sum(&rsdp[..20]), sum(rsdp)), (0, 0));
    let table = |address: usize| {
        let length = number(memory, address - base + 4, 4);
        let table = memory[address - base..][..length].to_vec();
        let signature = String::from_utf8(table[..4].to_vec()).unwrap();
        if signature != "FACS" {
            assert_eq!(sum(&table), 0, "{signature}");
        }
        (signature, table)
    };
    let mut tables = BTreeMap::from([table(number(rsdp, 16, 4)), table(number(rsdp, 24, 8))]);
    let entries = |root: &[u8], size: usize| -> Vec<usize> {
        (36..root.len()).step_by(size).map(|at| number(root, at, size)).collect()
    };
    let by_rsdt = entries(&tables["RSDT"], 4);
    assert_eq!(by_rsdt, entries(&tables["XSDT"], 8));
    tables.extend(by_rsdt.into_iter().map(table));
    let fadt = tables["FACP"].clone();
    assert_eq!(number(&fadt, 40, 4), number(&fadt, 140, 8));
    tables.extend([table(number(&fadt, 140, 8))]);
    if number(&fadt, 36, 4) != 0 {
        assert!(number(&fadt, 36, 4).is_multiple_of(64));
        tables.extend([table(number(&fadt, 36, 4))]);
    }
    tables
}

fn placed(machine: &Machine) -> BTreeMap<String, Vec<u8>> {
    let placed = build(machine).place(0xe_0000);
    walk(&placed.bytes, 0xe_0000, placed.rsdp as usize)
}

/// What SeaBIOS does with the script, written from the description of its commands.
fn run_script(tables: &Tables, tables_at: usize, rsdp_at: usize) -> Vec<u8> {
    let mut memory = vec![0; 0x10_0000];
    let mut places: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let name = |field: &[u8]| field.split(|byte| *byte == 0).next().unwrap().to_vec();
    for command in tables.loader.chunks(128) {
        let file = name(&command[4..60]);
        match number(command, 0, 4) {
            1 => {
                let (at, content) = match file.as_slice() {
                    b"etc/acpi/tables" => (tables_at, &tables.tables),
                    b"etc/acpi/rsdp" => (rsdp_at, &tables.rsdp),
                    other => panic!("{other:?}"),
                };
                let alignment = number(command, 60, 4);
                assert!(alignment.is_power_of_two() && at.is_multiple_of(alignment));
                assert_eq!(command[64], if file.ends_with(b"rsdp") { 2 } else { 1 });
                memory[at..at + content.len()].copy_from_slice(content);
                assert!(places.insert(file, at).is_none());
            }
            2 => {
                let source = places[&name(&command[60..116])];
                let size = usize::from(command[120]);
                let at = places[&file] + number(command, 116, 4);
                let value = number(&memory, at, size) + source;
                memory[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
            }
            3 => {
                let base = places[&file];
                let (at, start, length) = (number(command, 60, 4), number(command, 64, 4), number(command, 68, 4));
                let sum = sum(&memory[base + start..][..length]);
                memory[base + at] = memory[base + at].wrapping_sub(sum);
            }
            other => panic!("command {other}"),
        }
    }
    memory
}

#[test]
fn placed_tables_can_be_walked_from_the_root_and_sum_to_zero() {
    let tables = placed(&machine());
    let signatures: Vec<_> = tables.keys().map(String::as_str).collect();
    assert_eq!(signatures, ["APIC", "DSDT", "FACP", "FACS", "MCFG", "RSDT", "XSDT"]);
    assert_eq!(number(&tables["MCFG"], 44, 8), 0xb000_0000);
}

#[test]
fn a_bios_that_runs_the_script_installs_the_same_tables() {
    for machine in [machine(), Machine { hardware_reduced: true, ..machine() }] {
        let tables = build(&machine);
        let memory = run_script(&tables, 0xc_0040, 0xf_5a10);
        let mut by_bios = walk(&memory, 0, 0xf_5a10);
        let mut by_us = placed(&machine);
        for tables in [&mut by_bios, &mut by_us] {
            for root in ["RSDT", "XSDT"] {
                tables.remove(root);
            }
            // Addresses and the checksum over them.
            for range in [9..10, 36..44, 140..148] {
                tables.get_mut("FACP").unwrap()[range].fill(0);
            }
        }
        assert_eq!(by_bios, by_us);
    }
}

#[test]
fn the_fixed_table_says_how_to_power_off_reset_and_count() {
    let fadt = &placed(&machine())["FACP"];
    assert_eq!(fadt.len(), 276);
    assert_eq!(number(fadt, 46, 2), SCI_GSI as usize);
    // No SMI command: ACPI is on.
    assert_eq!(number(fadt, 48, 4), 0);
    assert_eq!((number(fadt, 56, 4), number(fadt, 64, 4), number(fadt, 76, 4)), (0x610, 0x614, 0x608));
    assert_eq!((fadt[88], fadt[89], fadt[91]), (4, 2, 4));
    // Port 0xcf9 by one byte, 6.
    assert_eq!(fadt[116..129], [1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 6]);
    let flags = number(fadt, 112, 4);
    assert_eq!((flags >> 20 & 1, flags >> 10 & 1, flags >> 4 & 1, flags >> 8 & 1), (0, 1, 1, 1));
    let reduced = &placed(&Machine { hardware_reduced: true, ..machine() })["FACP"];
    assert_eq!(number(reduced, 112, 4) >> 20 & 1, 1);
    assert_eq!(reduced[244..256], [1, 8, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0]);
    assert_eq!((number(reduced, 36, 4), number(reduced, 56, 4)), (0, 0));
}

/// Type to structures.
fn structures(madt: &[u8]) -> BTreeMap<u8, Vec<Vec<u8>>> {
    let mut structures: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
    let mut at = 44;
    while at < madt.len() {
        let length = usize::from(madt[at + 1]);
        structures.entry(madt[at]).or_default().push(madt[at..at + length].to_vec());
        at += length;
    }
    structures
}

#[test]
fn the_interrupt_table_names_every_vcpu_by_its_apic_id() {
    let madt = &placed(&machine())["APIC"];
    let few = structures(madt);
    assert_eq!(few[&0], [[0, 8, 0, 0, 1, 0, 0, 0], [0, 8, 1, 1, 1, 0, 0, 0], [0, 8, 2, 4, 1, 0, 0, 0]]);
    assert_eq!(few[&1], [[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]]);
    assert_eq!(few[&2], [[2, 10, 0, 0, 2, 0, 0, 0, 0, 0], [2, 10, 0, 11, 11, 0, 0, 0, 13, 0]]);
    assert!(!few.contains_key(&9) && !few.contains_key(&10));

    let ids: Vec<u32> = (0..300).map(|index| index * 2).collect();
    let madt = &placed(&Machine::solo_1(ids, None))["APIC"];
    let many = structures(madt);
    assert_eq!(many[&0].len(), 128);
    assert_eq!(many[&9].len(), 172);
    assert_eq!(many[&9][0], [9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 128, 0, 0, 0]);
    assert_eq!(many[&10].len(), 1);
    // 255 is the broadcast id of old APICs.
    let madt = &placed(&Machine::solo_1(vec![254, 255], None))["APIC"];
    assert_eq!((structures(madt)[&0].len(), structures(madt)[&9].len()), (1, 1));
}

#[test]
fn the_largest_machine_builds_and_fits_where_it_is_placed() {
    let machine = Machine::solo_1((0..240).collect(), Some(1 << 45..1 << 46));
    assert!(build(&machine).place(0xe_0000).bytes.len() <= 0x1_0000);
}

#[test]
fn s5_and_apms_power_off_and_nothing_else_does() {
    let offs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&offs);
    let mut pm1 = Pm1::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let mut word = [0; 2];
    pm1.read(4, &mut word);
    assert_eq!(word, [1, 0]);
    // As Linux: status cleared, enables, type without enable, S1, then S5.
    pm1.write(0, &0x8731_u16.to_le_bytes());
    pm1.write(2, &0x0121_u16.to_le_bytes());
    pm1.read(2, &mut word);
    assert_eq!(word, 0x0121_u16.to_le_bytes());
    pm1.write(4, &0x1401_u16.to_le_bytes());
    pm1.write(4, &0x2401_u16.to_le_bytes());
    assert_eq!(offs.load(Ordering::SeqCst), 0);
    pm1.write(4, &0x3401_u16.to_le_bytes());
    assert_eq!(offs.load(Ordering::SeqCst), 1);
    pm1.read(4, &mut word);
    assert_eq!(word, [1, 0x14]);
    // As SeaBIOS and as GRUB.
    pm1.write(4, &0x2000_u16.to_le_bytes());
    pm1.write(4, &0x3400_u16.to_le_bytes());
    assert_eq!(offs.load(Ordering::SeqCst), 3);
    let saved = pm1.save();
    pm1.reset();
    pm1.read(2, &mut word);
    assert_eq!(word, [0, 0]);
    pm1.restore(saved);
    assert_eq!(pm1.save(), saved);
    assert_eq!(offs.load(Ordering::SeqCst), 3);
    // Hostile.
    for offset in 0..9 {
        for length in 0..9 {
            pm1.write(offset, &[0xff; 8][..length]);
            pm1.read(offset, &mut [0; 8][..length]);
        }
    }
}

/// A tool of ACPICA in a folder: what it says; None where it is not installed.
fn acpica(folder: &std::path::Path, tool: &str, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new(tool).args(arguments).current_dir(folder).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {said}");
    Some(said)
}

/// The bytes are compared everywhere, their disassembly where `iasl` is installed. `GOLDEN=write` writes both.
#[test]
fn the_dsdt_is_the_one_that_was_looked_at() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/dsdt");
    let write = std::env::var_os("GOLDEN").is_some_and(|value| value == "write");
    let bytes = &placed(&machine())["DSDT"];
    if write {
        std::fs::write(format!("{golden}.aml"), bytes).unwrap();
    }
    let before = std::fs::read(format!("{golden}.aml")).unwrap();
    assert!(*bytes == before, "the DSDT has changed: GOLDEN=write, and look at dsdt.dsl");

    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("dsdt.aml"), bytes).unwrap();
    if acpica(scratch.path(), "iasl", &["-d", "dsdt.aml"]).is_none() {
        eprintln!("iasl is not installed: the AML is not disassembled");
        return;
    }
    if write {
        let text = std::fs::read_to_string(scratch.path().join("dsdt.dsl")).unwrap();
        // The head names the tool's version and the time.
        std::fs::write(format!("{golden}.dsl"), &text[text.find("DefinitionBlock").unwrap()..]).unwrap();
    }
}

#[test]
fn acpicas_compiler_finds_no_fault_with_any_kind_of_machine() {
    let bare = Machine {
        mmio64: None,
        generation: None,
        pvpanic_port: None,
        serial: false,
        i8042: false,
        hardware_reduced: true,
        ..machine()
    };
    for machine in [machine(), bare, Machine::solo_1((0..64).collect(), None)] {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("dsdt.aml"), &placed(&machine)["DSDT"]).unwrap();
        if acpica(scratch.path(), "iasl", &["-d", "dsdt.aml"]).is_none() {
            eprintln!("iasl is not installed: the AML is not checked");
            return;
        }
        let text = std::fs::read_to_string(scratch.path().join("dsdt.dsl")).unwrap();
        // The compiler wants four hex digits at the end of an id. Linux looks for this one, which has none.
        std::fs::write(scratch.path().join("again.dsl"), text.replace("VMGENCTR", "SOLO0001")).unwrap();
        let said = acpica(scratch.path(), "iasl", &["-p", "again", "again.dsl"]).unwrap();
        assert!(said.contains("0 Errors, 0 Warnings"), "{said}");
    }
}

#[test]
fn acpicas_interpreter_finds_button_slots_and_generation_in_the_event_register() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("dsdt.aml"), &placed(&machine())["DSDT"]).unwrap();
    // Every register of the machine reads as all ones here.
    let execute = |what: &str| {
        let batch = format!("execute {what}");
        acpica(scratch.path(), "acpiexec", &["-fv", "0xff", "-b", &batch, "dsdt.aml"])
    };
    let Some(said) = execute("\\_SB.GED_._EVT 9") else {
        eprintln!("acpiexec is not installed: the AML is not run");
        return;
    };
    let notified = |object: &str, value: &str| {
        said.contains(&format!("Notify on [{object}]"))
            && said.lines().any(|line| line.contains(object) && line.contains(value))
    };
    assert!(notified("PWRB", "0x80") && notified("VGEN", "0x80"), "{said}");
    for slot in machine().removable {
        let name = format!("S{slot:03X}");
        assert!(notified(&name, "0x01") && notified(&name, "0x03"), "{name}: {said}");
    }
    assert!(!said.contains("Error") && !said.contains("Exception"), "{said}");
    // The guest asks for everything and gets all but native hotplug; bit 4 of the status says that it is less.
    let asked = "(5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66) 1 3 (00 00 00 00 1f 00 00 00 1f 00 00 00)";
    let said = execute(&format!("\\_SB.PCI0._OSC {asked}")).unwrap();
    assert!(said.contains("10 00 00 00 1F 00 00 00 1C 00 00 00"), "{said}");
}
