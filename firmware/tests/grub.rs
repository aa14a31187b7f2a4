//! Boot loader configurations as distributions write them, run on files in memory: which kernel, initrds and command line
//! come out. `corpus/debian.cfg` is what grub-mkconfig wrote into our Debian guest, `tiny.cfg` the tiny guest's; the others
//! are written after the style of their distribution.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use firmware::{
    boot::{self, Plan},
    fuzz::kernel,
    tree::{Spec, sample, volumes},
    volume::Volumes,
};

fn environment(lines: &str) -> Vec<u8> {
    let mut block = format!("# GRUB Environment Block\n{lines}").into_bytes();
    block.resize(1024, b'#');
    block
}

fn text(volumes: &Volumes, piece: &firmware::file::Piece) -> String {
    let mut data = vec![0; piece.bytes as usize];
    piece.map.read(&volumes.disk, piece.offset, &mut data).unwrap();
    String::from_utf8_lossy(&data).into_owned()
}

/// Kernel path, contents of the initrds (their names, in these tests), command line.
fn booted(volumes: &Volumes) -> (String, Vec<String>, String) {
    let plan: Plan = boot::find_in(volumes, &[]).unwrap();
    (plan.name.clone(), plan.initrds.iter().map(|initrd| text(volumes, initrd)).collect(), plan.cmdline)
}

fn refused(volumes: &Volumes) -> String {
    boot::find_in(volumes, &[]).map(|plan| plan.name).unwrap_err().to_string()
}

/// One configuration on a disk with a kernel at `/vmlinuz` and an initrd at `/initrd`.
fn script(config: &str) -> Volumes {
    let kernel = kernel();
    sample(&[
        ("/boot/grub/grub.cfg", config.as_bytes()),
        ("/vmlinuz", &kernel),
        ("/other", &kernel),
        ("/initrd", b"initrd"),
    ])
}

/// The command line that `config` boots `/vmlinuz` with, less `BOOT_IMAGE`.
fn cmdline(config: &str) -> String {
    let plan = boot::find_in(&script(config), &[]).unwrap_or_else(|error| panic!("{config}: {error}"));
    plan.cmdline.split_once(' ').map_or(String::new(), |(_, rest)| rest.to_owned())
}

const DEBIAN_UUID: &str = "7c4d86f8-8da6-5376-a0cf-1d0ab842f796";
const DEBIAN: &str = "6.12.117+deb13-cloud-amd64";

fn debian(env: &[u8]) -> Volumes {
    let kernel = kernel();
    let (vmlinuz, initrd) = (format!("/boot/vmlinuz-{DEBIAN}"), format!("/boot/initrd.img-{DEBIAN}"));
    let files: [(&str, &[u8]); 4] = [
        ("/boot/grub/grub.cfg", include_bytes!("corpus/debian.cfg")),
        ("/boot/grub/grubenv", env),
        (&vmlinuz, &kernel),
        (&initrd, b"debian initrd"),
    ];
    volumes(&[Spec { uuid: DEBIAN_UUID, label: "root", esp: false, files: &files }])
}

#[test]
fn debian_boots_its_first_entry() {
    let (kernel, initrds, cmdline) = booted(&debian(&environment("")));
    assert_eq!(kernel, format!("/boot/vmlinuz-{DEBIAN}"));
    assert_eq!(initrds, ["debian initrd"]);
    assert_eq!(
        cmdline,
        format!("BOOT_IMAGE=/boot/vmlinuz-{DEBIAN} root=UUID={DEBIAN_UUID} ro console=tty0 console=ttyS0,115200")
    );
}

#[test]
fn debian_boots_the_next_entry_once_and_forgets_it() {
    let next = format!("gnulinux-advanced-{DEBIAN_UUID}>gnulinux-{DEBIAN}-recovery-{DEBIAN_UUID}");
    let mut config = String::from_utf8(include_bytes!("corpus/debian.cfg").to_vec()).unwrap();
    // The guest's recovery entry has the id of its normal one; as GRUB_DISABLE_RECOVERY=false writes it elsewhere.
    config = config.replacen(&format!("-advanced-{DEBIAN_UUID}' {{\n\t\tload_video\n\t\tinsmod gzio\n\t\tif [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi\n\t\tinsmod part_gpt\n\t\tinsmod ext2\n\t\techo\t'Loading Linux {DEBIAN} ...'\n\t\tlinux\t/boot/vmlinuz-{DEBIAN} root=UUID={DEBIAN_UUID} ro single"), &format!("-recovery-{DEBIAN_UUID}' {{\n\t\tlinux\t/boot/vmlinuz-{DEBIAN} root=UUID={DEBIAN_UUID} ro single"), 1);
    let kernel = kernel();
    let (vmlinuz, initrd) = (format!("/boot/vmlinuz-{DEBIAN}"), format!("/boot/initrd.img-{DEBIAN}"));
    let env = environment(&format!("next_entry={next}\nkept=1\n"));
    let files: [(&str, &[u8]); 4] = [
        ("/boot/grub/grub.cfg", config.as_bytes()),
        ("/boot/grub/grubenv", &env),
        (&vmlinuz, &kernel),
        (&initrd, b"i"),
    ];
    let disk = volumes(&[Spec { uuid: DEBIAN_UUID, label: "root", esp: false, files: &files }]);
    let plan = boot::find_in(&disk, &[]).unwrap();
    assert!(plan.cmdline.contains(" single "), "{}", plan.cmdline);
    let [write] = plan.writes.as_slice() else { panic!("{:?}", plan.writes) };
    assert_eq!(write.data.len(), 1024);
    let written = String::from_utf8_lossy(&write.data);
    assert!(written.starts_with("# GRUB Environment Block\nnext_entry=\nkept=1\n###"), "{written}");
}

/// SMBIOS with one memory device of so many MiB.
fn memory_device(mib: u16) -> Vec<u8> {
    let mut table = vec![17, 14, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0];
    table.extend(mib.to_le_bytes());
    table.extend([0, 0, 127, 4, 0, 127, 0, 0]);
    table
}

#[test]
fn the_tiny_guest_boots_the_kernel_that_fits_its_memory() {
    let kernel = kernel();
    let disk = volumes(&[Spec {
        uuid: "0564d5eb-4dda-57f3-9fe9-e1b3069169d3",
        label: "root",
        esp: false,
        files: &[
            ("/boot/grub/grub.cfg", include_bytes!("corpus/tiny.cfg")),
            ("/boot/vmlinuz-6.1.0-50-cloud-amd64", &kernel),
            ("/boot/initrd.img-6.1.0-50-cloud-amd64", b"large"),
            ("/boot/vmlinuz-6.1.0-50-686-pae", &kernel),
            ("/boot/initrd.img-6.1.0-50-686-pae", b"small"),
        ],
    }]);
    let (_, initrds, cmdline) = booted(&disk);
    assert_eq!(initrds, ["large"]);
    assert!(cmdline.ends_with(" ro console=tty0 console=ttyS0,115200"), "{cmdline}");
    for (mib, name) in [(96, "/boot/vmlinuz-6.1.0-50-cloud-amd64"), (64, "/boot/vmlinuz-6.1.0-50-686-pae")] {
        assert_eq!(boot::find_in(&disk, &memory_device(mib)).unwrap().name, name, "{mib} MiB");
    }
}

fn ubuntu(env: &str) -> Volumes {
    let kernel = kernel();
    let env = environment(env);
    volumes(&[
        Spec { uuid: "0b7a1f2e-3a55-4f5c-9d4e-8f2f2a1c0001", label: "cloudimg-rootfs", esp: false, files: &[("/etc/fstab", b"x")] },
        Spec { uuid: "A1B2-C3D4", label: "UEFI", esp: true, files: &[("/EFI/ubuntu/grub.cfg", b"search.fs_uuid 0b7a1f2e-3a55-4f5c-9d4e-8f2f2a1c0002 root\nset prefix=($root)'/grub'\nconfigfile $prefix/grub.cfg\n")] },
        Spec {
            uuid: "0b7a1f2e-3a55-4f5c-9d4e-8f2f2a1c0002",
            label: "BOOT",
            esp: false,
            files: &[
                ("/grub/grub.cfg", include_bytes!("corpus/ubuntu.cfg")),
                ("/grub/grubenv", &env),
                ("/grub/gfxblacklist.txt", b"BLACKLIST"),
                ("/vmlinuz-6.8.0-45-generic", &kernel),
                ("/initrd.img-6.8.0-45-generic", b"45"),
                ("/vmlinuz-6.8.0-31-generic", &kernel),
                ("/initrd.img-6.8.0-31-generic", b"31"),
                ("/microcode.cpio", b"ucode"),
            ],
        },
    ])
}

#[test]
fn ubuntu_first_tries_without_an_initrd_and_says_so_in_grubenv() {
    let disk = ubuntu("");
    let (kernel, initrds, cmdline) = booted(&disk);
    assert_eq!(kernel, "/vmlinuz-6.8.0-45-generic");
    assert!(initrds.is_empty());
    assert!(cmdline.ends_with(" ro console=tty1 console=ttyS0 panic=-1"), "{cmdline}");
    let plan = boot::find_in(&disk, &[]).unwrap();
    let written = String::from_utf8_lossy(&plan.writes[0].data).into_owned();
    assert!(written.contains("\nrecordfail=1\n") && written.contains("\ninitrdfail=1\n"), "{written}");
}

#[test]
fn ubuntu_takes_the_initrd_after_a_failed_boot() {
    let (_, initrds, cmdline) = booted(&ubuntu("initrdfail=1\nrecordfail=1\n"));
    assert_eq!(initrds, ["45"]);
    assert!(cmdline.ends_with(" ro console=tty1 console=ttyS0"), "an empty variable must leave no word: {cmdline}");
}

#[test]
fn ubuntu_boots_an_older_kernel_of_the_submenu_by_index_id_and_title() {
    for next in [
        "1>1",
        "gnulinux-advanced-0b7a1f2e-3a55-4f5c-9d4e-8f2f2a1c0001>gnulinux-6.8.0-31-generic-advanced-0b7a1f2e",
        "Advanced options for Ubuntu>Ubuntu, with Linux 6.8.0-31-generic",
    ] {
        let (kernel, initrds, _) = booted(&ubuntu(&format!("next_entry={next}\n")));
        assert_eq!(kernel, "/vmlinuz-6.8.0-31-generic", "{next}");
        assert_eq!(initrds, ["ucode", "31"], "{next}");
    }
}

#[test]
fn an_efi_system_partition_decides_between_two_systems() {
    let kernel = kernel();
    let old = "menuentry old { linux /vmlinuz old\n }";
    let new = "menuentry new { linux /vmlinuz new\n }";
    let start = b"search.fs_uuid 22222222-0000-4000-8000-000000000002 root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n";
    let system = |uuid, files| Spec { uuid, label: "", esp: false, files };
    let one = [("/boot/grub/grub.cfg", old.as_bytes()), ("/vmlinuz", kernel.as_slice())];
    let two = [("/boot/grub/grub.cfg", new.as_bytes()), ("/vmlinuz", kernel.as_slice())];
    let esp = [("/EFI/debian/grub.cfg", start.as_slice())];
    let mut specs = vec![
        system("11111111-0000-4000-8000-000000000001", one.as_slice()),
        system("22222222-0000-4000-8000-000000000002", two.as_slice()),
    ];
    assert!(refused(&volumes(&specs)).contains("several GRUB configurations"));
    specs.push(Spec { uuid: "A1B2-C3D4", label: "", esp: true, files: &esp });
    assert_eq!(booted(&volumes(&specs)).2, "BOOT_IMAGE=/vmlinuz new");
}

const FEDORA_ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

fn fedora(env: &str, options: &str) -> Volumes {
    let kernel = kernel();
    let env = environment(env);
    let entry = |version: &str| {
        format!(
            "title Fedora Linux ({version}) 40 (Cloud Edition)\nversion {version}\nlinux /vmlinuz-{version}\ninitrd /initramfs-{version}.img $tuned_initrd\noptions {options}\ngrub_users $grub_users\ngrub_arg --unrestricted\ngrub_class fedora\n"
        )
    };
    let (old, new) = (entry("6.8.5-301.fc40.x86_64"), entry("6.8.11-300.fc40.x86_64"));
    let rescue = "title Fedora rescue\nversion 0-rescue\nlinux /vmlinuz-0-rescue\ninitrd /initramfs-0-rescue.img\noptions rescue\n";
    let paths = ["6.8.5-301.fc40.x86_64", "6.8.11-300.fc40.x86_64", "0-rescue"]
        .map(|version| format!("/loader/entries/{FEDORA_ID}-{version}.conf"));
    let files: [(&str, &[u8]); 11] = [
        ("/grub2/grub.cfg", include_bytes!("corpus/fedora.cfg")),
        ("/grub2/grubenv", &env),
        (&paths[0], old.as_bytes()),
        (&paths[1], new.as_bytes()),
        (&paths[2], rescue.as_bytes()),
        ("/vmlinuz-6.8.5-301.fc40.x86_64", &kernel),
        ("/vmlinuz-6.8.11-300.fc40.x86_64", &kernel),
        ("/vmlinuz-0-rescue", &kernel),
        ("/initramfs-6.8.5-301.fc40.x86_64.img", b"5"),
        ("/initramfs-6.8.11-300.fc40.x86_64.img", b"11"),
        ("/initramfs-0-rescue.img", b"rescue"),
    ];
    volumes(&[
        Spec { uuid: "A1B2-C3D4", label: "", esp: true, files: &[("/EFI/fedora/grub.cfg", b"search --no-floppy --root-dev-only --fs-uuid --set=dev aaaaaaaa-0000-4000-8000-000000000001\nset prefix=($dev)/grub2\nexport $prefix\nconfigfile $prefix/grub.cfg\n")] },
        Spec { uuid: "aaaaaaaa-0000-4000-8000-000000000001", label: "boot", esp: false, files: &files },
    ])
}

#[test]
fn fedora_boots_the_newest_of_its_boot_loader_entries() {
    let (kernel, initrds, cmdline) =
        booted(&fedora("boot_success=1\n", "root=UUID=f00 ro rootflags=subvol=root console=ttyS0"));
    assert_eq!(kernel, "(hd0,gpt2)/vmlinuz-6.8.11-300.fc40.x86_64");
    assert_eq!(initrds, ["11"]);
    assert_eq!(
        cmdline,
        "BOOT_IMAGE=(hd0,gpt2)/vmlinuz-6.8.11-300.fc40.x86_64 root=UUID=f00 ro rootflags=subvol=root console=ttyS0"
    );
}

#[test]
fn fedora_boots_its_saved_entry_with_the_options_of_grubenv() {
    let env = format!("saved_entry={FEDORA_ID}-6.8.5-301.fc40.x86_64\nkernelopts=root=UUID=env ro quiet\n");
    let (kernel, initrds, cmdline) = booted(&fedora(&env, "$kernelopts $tuned_params"));
    assert_eq!(kernel, "(hd0,gpt2)/vmlinuz-6.8.5-301.fc40.x86_64");
    assert_eq!(initrds, ["5"]);
    assert!(cmdline.ends_with(" root=UUID=env ro quiet"), "{cmdline}");
    let (_, _, cmdline) = booted(&fedora("", "$kernelopts"));
    assert!(cmdline.ends_with(" root=UUID=fallback ro"), "{cmdline}");
}

#[test]
fn fedora_counts_its_failed_boots_down() {
    let disk = fedora("boot_counter=2\nboot_success=0\n", "root=x");
    let plan = boot::find_in(&disk, &[]).unwrap();
    assert!(String::from_utf8_lossy(&plan.writes[0].data).contains("boot_counter=1\n"));
    let (kernel, ..) = booted(&fedora("boot_counter=0\nboot_success=0\n", "root=x"));
    assert_eq!(kernel, "(hd0,gpt2)/vmlinuz-6.8.5-301.fc40.x86_64", "the second entry after the last try");
}

#[test]
fn a_directory_of_files_boots_as_alpine_opensuse_and_arch_expect() {
    let kernel = kernel();
    let one = |uuid: &'static str, config: &'static [u8], directory: &str, files: &[(&str, &[u8])]| {
        let config_path = format!("/boot/{directory}/grub.cfg");
        let mut all: Vec<(&str, &[u8])> = vec![(&config_path, config)];
        all.extend_from_slice(files);
        booted(&volumes(&[Spec { uuid, label: "", esp: false, files: &all }]))
    };
    let (_, initrds, cmdline) = one(
        "6bb90000-0000-4000-8000-000000000001",
        include_bytes!("corpus/alpine.cfg"),
        "grub",
        &[("/boot/vmlinuz-virt", &kernel), ("/boot/initramfs-virt", b"alpine")],
    );
    assert_eq!(initrds, ["alpine"]);
    assert!(cmdline.ends_with(" ro modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4"), "{cmdline}");
    let (_, initrds, cmdline) = one(
        "52310000-0000-4000-8000-000000000001",
        include_bytes!("corpus/opensuse.cfg"),
        "grub2",
        &[("/boot/vmlinuz-6.4.0-150600.21-default", &kernel), ("/boot/initrd-6.4.0-150600.21-default", b"suse")],
    );
    assert_eq!(initrds, ["suse"]);
    assert!(cmdline.ends_with("000001 splash=silent console=ttyS0,115200 mitigations=auto"), "{cmdline}");
    let (_, initrds, cmdline) = one(
        "a4c40000-0000-4000-8000-000000000001",
        include_bytes!("corpus/arch.cfg"),
        "grub",
        &[
            ("/boot/vmlinuz-linux", &kernel),
            ("/boot/amd-ucode.img", b"amd"),
            ("/boot/intel-ucode.img", b"intel"),
            ("/boot/initramfs-linux.img", b"arch"),
        ],
    );
    assert_eq!(initrds, ["amd", "intel", "arch"]);
    assert!(cmdline.ends_with(" rw net.ifnames=0 console=tty0 console=ttyS0,115200n8"), "{cmdline}");
}

#[test]
fn words_are_quoted_split_and_escaped_as_in_grub() {
    for (words, expected) in [
        ("a b", "a b"),
        ("'a b' c", "\"a b\" c"),
        ("a\\ b", "\"a b\""),
        ("\"x=$y\"", "x="),
        ("$nothing a", "a"),
        ("$two", "one two"),
        ("\"$two\"", "\"one two\""),
        ("pre${two}post", "preone twopost"),
        ("${two}x", "one twox"),
        ("'$two'", "$two"),
        ("\\$two", "$two"),
        ("\"\\$two\"", "$two"),
        ("a'b'\"c\"d", "abcd"),
        ("a\\\nb", "ab"),
        ("a#b #c", "a#b"),
        ("dollar$ end", "dollar$ end"),
        ("a=b,c:d/e.f-g+h@i%j", "a=b,c:d/e.f-g+h@i%j"),
        ("quote=it\\'s", "quote=it\\'s"),
        ("ümläut", "ümläut"),
        ("\\ü", "ü"),
    ] {
        let config = format!("set two='one two'\nmenuentry x {{ linux /vmlinuz {words}\n}}");
        assert_eq!(cmdline(&config), expected, "{words}");
    }
}

#[test]
fn conditions_loops_and_functions_work_as_in_grub() {
    for (config, expected) in [
        ("if [ a = a ]; then x=1; else x=2; fi", "1"),
        ("if false; then x=1; elif true; then x=2; else x=3; fi", "2"),
        ("if [ -f /vmlinuz -a ! -d /vmlinuz ]; then x=file; fi", "file"),
        ("if test -e /boot/grub; then x=dir; fi", "dir"),
        ("if unknown_command; then x=1; else x=no; fi", "no"),
        ("if ! false; then x=not; fi", "not"),
        ("for i in a b c; do x=$x$i; done", "abc"),
        ("for i in a b c; do if [ $i = b ]; then continue; fi; x=$x$i; done", "ac"),
        ("for i in a b c; do for j in 1 2; do x=$x$i$j; break 2; done; done", "a1"),
        ("while [ x$x != xaaa ]; do x=a$x; done", "aaa"),
        ("until [ x$x = xaa ]; do x=a$x; done", "aa"),
        ("function f { x=$1-$#; return; x=no; }; f one two", "one-2"),
        ("function f { shift; x=$1; }; f one two", "two"),
        ("function f { return 3; }; f; x=$?", "3"),
        ("function f {\n  setparams p q\n  for i in \"$@\"; do x=$x[$i]; done\n}\nf 'a b' c", "[p][q]"),
        ("a='x=evaluated'; eval $a", "evaluated"),
        ("set x=1; unset x; if [ -z \"$x\" ]; then x=gone; fi", "gone"),
        ("x=5; increment x", "6"),
        ("if [ \"$grub_platform\" = pc ]; then x=pc; fi", "pc"),
        ("probe --set=x --fs-uuid $root", "11111111-2222-3333-4444-555555555555"),
        ("if search --set=x --label root; then true; fi", "hd0,gpt1"),
        ("if search --set=y --label none; then x=1; else x=0; fi", "0"),
        ("search --file /vmlinuz --set=x", "hd0,gpt1"),
        ("if [ x = x ]\nthen\n\n x=newlines\nfi", "newlines"),
        ("# comment\nx=1 # comment", "1"),
        ("x=a;;x=b", "b"),
    ] {
        let config = format!("{config}\nexport x\nmenuentry x {{ linux /vmlinuz $x\n}}");
        assert_eq!(cmdline(&config), expected, "{config}");
    }
}

#[test]
fn the_default_entry_is_found_by_index_id_title_and_path() {
    let menu = "menuentry 'First' --id one { linux /vmlinuz 1\n}\nmenuentry 'Second > best' --class x --id=two { linux /vmlinuz 2\n}\nsubmenu More --id more {\n menuentry A { linux /vmlinuz 3\n}\n menuentry B --unrestricted --users '' { linux /vmlinuz 4\n}\n}\n";
    for (default, expected) in [
        ("", "1"),
        ("0", "1"),
        ("1", "2"),
        ("two", "2"),
        ("Second >> best", "2"),
        ("more>1", "4"),
        ("More>B", "4"),
        ("2>A", "3"),
        ("2", "3"),
        ("no such entry", "1"),
        ("99", "1"),
    ] {
        assert_eq!(cmdline(&format!("set default='{default}'\n{menu}")), expected, "default {default}");
    }
    assert_eq!(cmdline(&format!("{menu}set default=\"${{saved_entry}}\"\n")), "1");
}

#[test]
fn the_fallback_entry_boots_when_the_default_cannot() {
    let config = "set default=0\nset fallback=1\nmenuentry a { linux /missing\n initrd /initrd\n}\nmenuentry b { linux /vmlinuz b\n}\n";
    assert_eq!(cmdline(config), "b");
}

#[test]
fn an_entry_sees_its_title_and_only_exported_variables_reach_a_submenu() {
    assert_eq!(cmdline("menuentry 'My Title' arg { linux /vmlinuz \"$1\" $2 $chosen\n}"), "\"My Title\" arg My Title");
    let config = "a=1; b=2; export b\nsubmenu s { menuentry e { linux /vmlinuz x$a x$b\n} }";
    assert_eq!(cmdline(config), "x x2");
}

#[test]
fn another_file_is_followed_by_source_and_configfile() {
    let kernel = kernel();
    let second: &[u8] = b"menuentry second { linux /vmlinuz from-$config_directory x$plain x$carried\n}";
    for (first, expected) in [
        ("plain=1; carried=2; export carried; configfile /boot/grub/two.cfg", "from-(hd0,gpt1)/boot/grub x x2"),
        ("plain=1; carried=2; source $prefix/two.cfg", "from-(hd0,gpt1)/boot/grub x1 x2"),
        ("plain=1; carried=2; . (hd0,gpt1)/boot/grub/two.cfg", "from-(hd0,gpt1)/boot/grub x1 x2"),
    ] {
        let disk =
            sample(&[("/boot/grub/grub.cfg", first.as_bytes()), ("/boot/grub/two.cfg", second), ("/vmlinuz", &kernel)]);
        assert_eq!(booted(&disk).2, format!("BOOT_IMAGE=/vmlinuz {expected}"), "{first}");
    }
}

#[test]
fn a_file_without_a_menu_boots_what_it_says() {
    assert_eq!(cmdline("linux /vmlinuz direct\ninitrd /initrd\nboot"), "direct");
    assert!(refused(&script("linux /vmlinuz not-started")).contains("starts nothing"));
}

#[test]
fn what_is_not_understood_is_handed_over_with_its_reason() {
    for (config, reason) in [
        ("menuentry w { chainloader +1\n}", "chainloader"),
        ("menuentry x { multiboot2 /xen.gz\n}", "multiboot2"),
        ("menuentry x { linux /missing\n}", "not found"),
        ("menuentry x { linux (hd1,gpt1)/vmlinuz\n}", "no device hd1,gpt1"),
        ("menuentry x { linux /vmlinuz\n initrd /missing\n}", "initrd"),
        ("menuentry x { linux /vmlinuz\n initrd newc:a:/initrd\n}", "single files"),
        ("menuentry x { linux /initrd\n}", "no bzImage"),
        ("menuentry x { true\n}", "starts nothing"),
        ("if true; then\nmenuentry x { linux /vmlinuz\n}", "unfinished if"),
        ("menuentry 'x { linux /vmlinuz\n}", "quote"),
        ("}", "closes"),
        ("echo a | cat", "pipe"),
        ("", "no boot loader configuration"),
        ("# nothing", "starts nothing"),
        ("gptprio.next -d usr -u uuid", "gptprio.next"),
    ] {
        let reason_given = refused(&script(config));
        assert!(reason_given.contains(reason), "{config}: {reason_given}");
    }
    let long = format!("menuentry x {{ linux /vmlinuz {}\n}}", "x".repeat(3000));
    assert!(refused(&script(&long)).contains("command line"));
}

/// On no more stack than the firmware has, less what it uses itself.
#[test]
fn hostile_configurations_end() {
    std::thread::Builder::new().stack_size(480 << 10).spawn(hostile_configurations).unwrap().join().unwrap();
}

fn hostile_configurations() {
    let deep_blocks = "if true; then ".repeat(100_000);
    let deep_menus = "submenu x { ".repeat(5000) + &"}".repeat(5000);
    let deep_parentheses = format!("if [ {} ]; then true; fi", "( ".repeat(200_000));
    let nested_menus: String = (0..30).fold("linux /vmlinuz deep\n".into(), |inner, level| {
        format!("menuentry m{level} {{ true\n}}\nsubmenu s{level} {{ {inner} }}\nset default=1\n")
    });
    let huge_word = format!("menuentry x {{ linux /vmlinuz {}\n}}", "y".repeat(900_000));
    let many_entries = "menuentry x { true\n}\n".repeat(5000);
    for config in [
        "while true; do true; done",
        "until false; do x=$x$x; done",
        "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done",
        "function f { f; }; f",
        "function f { f; f; }; f",
        "source $prefix/grub.cfg",
        "configfile $prefix/grub.cfg",
        "menuentry x { configfile $prefix/grub.cfg\n}",
        "eval \"eval \\\"eval true\\\"\"; x='eval $x'; eval $x",
        "while true; do source $prefix/grub.cfg; done",
        "function f { if true; then eval \"f\"; fi; }; f",
        "function f { for i in a; do while true; do eval \"if true; then f; fi\"; done; done; }; f",
        "submenu x { source $prefix/grub.cfg\n}",
        "submenu x { configfile $prefix/grub.cfg\n}",
        "for i in $a; do true; done; i=0; while true; do i=1$i; set v$i=$i; done",
        "while true; do search --file /a/b/c/d --set=x; done",
        "set default=18446744073709551616>-1>>\nsubmenu x { }",
        "\\",
        "\"",
        "'",
        "$",
        "${",
        "${x",
        "$\"",
        "a=",
        "=",
        "[",
        "]",
        "[[",
        "if",
        "for",
        "for x",
        "function",
        "menuentry",
        "menuentry x",
        "!",
        "! !",
        &deep_blocks,
        &deep_menus,
        &deep_parentheses,
        &nested_menus,
        &huge_word,
        &many_entries,
        "\0\0\0{\u{ffff}}",
    ] {
        let _ = boot::find_in(&script(config), &[]);
    }
}

#[test]
fn systemd_boot_takes_the_default_of_its_configuration_or_the_newest() {
    let kernel = kernel();
    let entry = |version: &str| {
        format!(
            "title X\nversion {version}\nsort-key debian\nlinux /debian/{version}/linux\ninitrd /debian/{version}/initrd\noptions root=UUID=1 v={version}\n"
        )
    };
    let (old, new) = (entry("6.1"), entry("6.12"));
    for (conf, expected) in [
        ("timeout 3\n", "v=6.12"),
        ("default debian-6.1.conf\n", "v=6.1"),
        ("default debian-6.1?\n", "v=6.12"),
        ("default @saved\n", "v=6.12"),
        ("default debian-6.1*\n", "v=6.12"),
        ("default none\n", "v=6.12"),
    ] {
        let disk = volumes(&[Spec {
            uuid: "A1B2-C3D4",
            label: "",
            esp: true,
            files: &[
                ("/EFI/systemd/systemd-bootx64.efi", b"MZ"),
                ("/loader/loader.conf", conf.as_bytes()),
                ("/loader/entries/debian-6.1.conf", old.as_bytes()),
                ("/loader/entries/debian-6.12.conf", new.as_bytes()),
                ("/debian/6.1/linux", &kernel),
                ("/debian/6.1/initrd", b"old"),
                ("/debian/6.12/linux", &kernel),
                ("/debian/6.12/initrd", b"new"),
            ],
        }]);
        let (_, _, cmdline) = booted(&disk);
        assert!(cmdline.ends_with(expected), "{conf}: {cmdline}");
    }
}

/// A PE file with these sections, each on a boundary of 512 bytes.
fn image(sections: &[(&[u8; 8], &[u8])]) -> Vec<u8> {
    let mut file = vec![0u8; 1024];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x80;
    file[0x80..0x84].copy_from_slice(b"PE\0\0");
    file[0x84..0x86].copy_from_slice(&0x8664u16.to_le_bytes());
    file[0x86] = sections.len() as u8;
    file[0x94] = 0xf0;
    for (index, (name, data)) in sections.iter().enumerate() {
        let at = 0x80 + 24 + 0xf0 + 40 * index;
        let (offset, bytes) = (file.len() as u32, data.len() as u32);
        file[at..at + 8].copy_from_slice(*name);
        file[at + 8..at + 12].copy_from_slice(&bytes.to_le_bytes());
        file[at + 16..at + 20].copy_from_slice(&bytes.next_multiple_of(512).to_le_bytes());
        file[at + 20..at + 24].copy_from_slice(&offset.to_le_bytes());
        file.extend_from_slice(data);
        file.resize(file.len().next_multiple_of(512), 0);
    }
    file
}

#[test]
fn a_unified_kernel_image_boots_from_its_sections() {
    let kernel = kernel();
    let os = b"ID=fedora\nVERSION_ID=\"40\"\n";
    let build = |version: &str| {
        image(&[
            (b".osrel\0\0", os),
            (b".cmdline", format!("root=UUID=7 v={version}\n\0").as_bytes()),
            (b".linux\0\0", &kernel),
            (b".initrd\0", b"from the image"),
        ])
    };
    let (one, two) = (build("1"), build("2"));
    let disk = volumes(&[Spec {
        uuid: "A1B2-C3D4",
        label: "",
        esp: true,
        files: &[("/EFI/Linux/f-1.efi", &one), ("/EFI/Linux/f-2.EFI", &two), ("/EFI/Linux/notes.txt", b"x")],
    }]);
    let (name, initrds, cmdline) = booted(&disk);
    assert_eq!(name, "/EFI/Linux/f-2.EFI");
    assert_eq!(initrds, ["from the image"]);
    assert_eq!(cmdline, "root=UUID=7 v=2");
    let rootless = image(&[(b".cmdline", b"quiet"), (b".linux\0\0", &kernel), (b".initrd\0", b"x")]);
    let disk = volumes(&[Spec { uuid: "A1B2-C3D4", label: "", esp: true, files: &[("/EFI/Linux/a.efi", &rootless)] }]);
    assert!(refused(&disk).contains("names no root file system"));
}

#[test]
fn cirros_boots_by_its_menu_lst_and_not_by_the_configuration_for_efi() {
    let kernel = kernel();
    let efi = "set default=0\nset timeout=1\nmenuentry 'CirrOS' {\n set root='hd0,gpt1'\n search --no-floppy --label --set=root --hint-bios=hd0,gpt1 cirros-rootfs\n linux /boot/vmlinuz-5.15 LABEL=cirros-rootfs ro\n initrd /boot/initrd.img-5.15\n}\n";
    let list = "default 0\ntimeout 0\ntitle linux\nroot (hd0,0)\nkernel /vmlinuz root=LABEL=cirros-rootfs ro console=tty1 console=ttyS0\ninitrd /initrd.img\n";
    let root: [(&str, &[u8]); 6] = [
        ("/boot/grub/menu.lst", list.as_bytes()),
        ("/vmlinuz", &kernel),
        ("/initrd.img", b"cirros"),
        ("/boot/vmlinuz-5.15", &kernel),
        ("/boot/initrd.img-5.15", b"cirros by efi"),
        ("/etc/x", b""),
    ];
    let esp = [("/EFI/ubuntu/grub.cfg", efi.as_bytes())];
    let specs = |root| {
        volumes(&[
            Spec { uuid: "1", label: "cirros-rootfs", esp: false, files: root },
            Spec { uuid: "A1B2-C3D4", label: "", esp: true, files: &esp },
        ])
    };
    let (_, initrds, cmdline) = booted(&specs(&root));
    assert_eq!(initrds, ["cirros"]);
    assert_eq!(cmdline, "root=LABEL=cirros-rootfs ro console=tty1 console=ttyS0");
    // Without the list, as on newer ones, the other serves.
    let (_, initrds, cmdline) = booted(&specs(&root[1..]));
    assert_eq!(initrds, ["cirros by efi"]);
    assert_eq!(cmdline, "BOOT_IMAGE=/boot/vmlinuz-5.15 LABEL=cirros-rootfs ro");
}

#[test]
fn alpine_for_bios_boots_by_its_extlinux_conf() {
    let kernel = kernel();
    let list = "DEFAULT menu.c32\nLABEL virt\n  MENU DEFAULT\n  LINUX vmlinuz-virt\n  INITRD initramfs-virt\n  APPEND root=LABEL=/ console=ttyS0\n";
    let disk = sample(&[
        ("/boot/extlinux.conf", list.as_bytes()),
        ("/boot/vmlinuz-virt", &kernel),
        ("/boot/initramfs-virt", b"alpine"),
    ]);
    let (_, initrds, cmdline) = booted(&disk);
    assert_eq!(initrds, ["alpine"]);
    assert_eq!(cmdline, "BOOT_IMAGE=vmlinuz-virt root=LABEL=/ console=ttyS0");
}
