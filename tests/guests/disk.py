"""A bootable disk from a directory, without loop devices, mounts or root on a block device.

The layout is that of Debian's own cloud images: GPT with the root file system as partition 1 (last on the disk, so that
it can grow), a BIOS boot partition as 14 and an EFI system partition as 15. GRUB is put in for both kinds of firmware:
its boot sector is written here, with the two fields set that grub-bios-setup would set.
"""

import pathlib
import struct
import tempfile

from packages import output, run

SECTOR = 512
MIB = 1024 * 1024
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
LINUX_ROOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"

# All that a stock grub.cfg and the search for it need, so that neither depends on module files on the disk.
COMMON_MODULES = """
part_gpt ext2 normal configfile search search_fs_uuid linux gzio echo test ls cat sleep serial terminal loadenv true halt
reboot smbios
""".split()
BIOS_MODULES = ["biosdisk", *COMMON_MODULES]
EFI_MODULES = ["fat", "efi_gop", "all_video", *COMMON_MODULES]


def write_at(disk, offset, source):
    """Copy a file into the disk, leaving runs of zeros as holes."""
    with open(source, "rb") as data, open(disk, "r+b") as target:
        position = offset
        while block := data.read(MIB):
            if block.count(0) != len(block):
                target.seek(position)
                target.write(block)
            position += len(block)


def grub_for_bios(disk, core, core_sector, boot="/usr/lib/grub/i386-pc/boot.img"):
    """What grub-bios-setup does: boot sector into the protective MBR, core image into its partition, block list set."""
    boot = bytearray(pathlib.Path(boot).read_bytes())
    struct.pack_into("<Q", boot, 0x5C, core_sector)  # where the first sector of the core image is
    boot[0x64] = 0xFF  # boot drive: the one the firmware booted from
    boot[0x66:0x68] = b"\x90\x90"  # do not skip the check for a firmware that passes a wrong drive number
    image = bytearray(core)
    sectors = (len(image) + SECTOR - 1) // SECTOR
    # The block list grows down from the end of the first sector: start sector, sectors, load segment.
    start, count, segment = struct.unpack_from("<QHH", image, SECTOR - 12)
    if segment != 0x820 or count not in (0, sectors - 1):
        raise SystemExit(f"guests: the GRUB core image has an unknown block list ({start}, {count}, {segment:#x})")
    struct.pack_into("<QHH", image, SECTOR - 12, core_sector + 1, sectors - 1, segment)
    with open(disk, "r+b") as target:
        target.write(boot[:440])  # the rest of this sector is the disk signature and the protective partition table
        target.seek(core_sector * SECTOR)
        target.write(image)


def assemble(root, qcow2, *, size_mib, esp_mib, bios_mib, label, uuid, esp_files=None):
    """Make `qcow2` from the directory `root`.

    `esp_files` maps paths on the EFI system partition to files on this host; without it a GRUB of our own that looks
    for the root file system by its UUID becomes the removable-media loader.
    """
    qcow2 = pathlib.Path(qcow2)
    with tempfile.TemporaryDirectory(dir=qcow2.parent) as work:
        work = pathlib.Path(work)
        early = work / "early.cfg"
        early.write_text(f"search.fs_uuid {uuid} root\nset prefix=($root)/boot/grub\n")
        core = work / "core.img"
        run("grub-mkimage", "-O", "i386-pc", "-o", core, "-p", "(,gpt1)/boot/grub", "-c", early, *BIOS_MODULES)
        if core.stat().st_size > bios_mib * MIB:
            raise SystemExit("guests: the GRUB core image is larger than the BIOS boot partition")
        if esp_files is None:
            loader = work / "bootx64.efi"
            run("grub-mkimage", "-O", "x86_64-efi", "-o", loader, "-p", "/boot/grub", "-c", early, *EFI_MODULES)
            esp_files = {"EFI/BOOT/BOOTX64.EFI": loader}

        esp = work / "esp.img"
        with open(esp, "wb") as file:
            file.truncate(esp_mib * MIB)
        run("mkfs.vfat", "-n", "UEFI", esp, stdout=-3)
        made = set()
        for path, source in esp_files.items():
            parents = [str(p) for p in reversed(pathlib.PurePosixPath(path).parents) if str(p) != "."]
            for parent in parents:
                if parent not in made:
                    run("mmd", "-i", esp, f"::{parent}")
                    made.add(parent)
            run("mcopy", "-i", esp, source, f"::{path}")

        # 1 MiB in front for alignment, 1 MiB behind for the second partition table.
        bios_start, esp_start = 1, 1 + bios_mib
        root_start = esp_start + esp_mib
        root_mib = size_mib - root_start - 1
        file_system = work / "root.img"
        with open(file_system, "wb") as file:
            file.truncate(root_mib * MIB)
        # 4 KiB blocks, as large disks have: the default for a disk this small, 1 KiB, makes GRUB read a kernel for seconds.
        # Both features are too new for some GRUBs in the field, and stock images of Debian 12 have neither.
        run("mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^metadata_csum_seed,^orphan_file", "-E", "root_owner=0:0", "-U", uuid, "-L", label,
            "-d", root, file_system)  # fmt: skip

        disk = work / "disk.raw"
        with open(disk, "wb") as file:
            file.truncate(size_mib * MIB)
        table = f"""label: gpt
first-lba: 34
1 : start={root_start}MiB, size={root_mib}MiB, type={LINUX_ROOT}
14 : start={bios_start}MiB, size={bios_mib}MiB, type={BIOS_BOOT}
15 : start={esp_start}MiB, size={esp_mib}MiB, type={ESP}
"""
        run("sfdisk", "-q", disk, input=table.encode())
        write_at(disk, esp_start * MIB, esp)
        write_at(disk, root_start * MIB, file_system)
        grub_for_bios(disk, core.read_bytes(), bios_start * MIB // SECTOR)
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", disk, qcow2)
    return output("qemu-img", "info", qcow2)
