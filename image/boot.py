"""Legacy BIOS boot: GRUB in the sectors of a disk image, starting the kernel and initrd that lie inside the unified kernel image.

Nothing is on the disk twice: GRUB reads both as ranges of sectors of the one file that UEFI starts too.
"""

import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/guests"))

import disk  # noqa: E402
from packages import run  # noqa: E402

MODULES = "biosdisk part_gpt fat normal configfile search linux loopback regexp test echo serial terminal loadenv sleep reboot".split()
ENVIRONMENT_BYTES = 1024
TRIES = 3


def sections(uki):
    """Name to (offset, bytes) of the sections of a PE file."""
    (header,) = struct.unpack_from("<I", uki, 0x3C)
    if uki[header : header + 4] != b"PE\0\0":
        raise SystemExit("image: the unified kernel image is no PE file")
    count, optional = struct.unpack_from("<H12xH", uki, header + 6)
    found = {}
    for index in range(count):
        name, size, _address, stored, offset = struct.unpack_from("<8sIIII", uki, header + 24 + optional + 40 * index)
        found.setdefault(name.rstrip(b"\0").decode(), (offset, min(size, stored) or stored))
    return found


def script(uki, name):
    """GRUB's script that starts this image, which lies on the EFI partition by the name `name`, counted attempts or not."""
    data = pathlib.Path(uki).read_bytes()
    parts = sections(data)

    def range_of(section):
        offset, size = parts[section]
        if offset % disk.SECTOR:
            raise SystemExit(f"image: {section} of {uki} does not begin with a sector")
        return f"{offset // disk.SECTOR}+{(size + disk.SECTOR - 1) // disk.SECTOR}"

    offset, size = parts[".cmdline"]
    cmdline = data[offset : offset + size].rstrip(b"\0\n ").decode()
    if not all(c.isalnum() or c in " =.,:/_-" for c in cmdline):
        raise SystemExit(f"image: GRUB would need quotes for the kernel command line: {cmdline}")
    return (
        f"for file in /EFI/Linux/{name}.efi /EFI/Linux/{name}+*.efi; do\n"
        '  if [ -f "$file" ]; then\n'
        '    loopback uki "$file"\n'
        f"    if linux (uki){range_of('.linux')} {cmdline}; then initrd (uki){range_of('.initrd')}; boot; fi\n"
        "    loopback -d uki\n"
        "  fi\n"
        "done\n"
    )


def environment(good):
    text = f"# GRUB Environment Block\ngood={good}\ntry=\ntries=0\n"
    return text.ljust(ENVIRONMENT_BYTES, "#")


def install(image, partitions, uki, name, tools, work):
    """Make the raw disk `image` start without UEFI."""
    core = work / "core.img"
    grub = tools / "usr/lib/grub/i386-pc"
    # Its configuration is on the first partition of the disk that it was started from.
    run("chroot", tools, "grub-mkimage", "-O", "i386-pc", "-o", "/tmp/core.img", "-p", "(,gpt1)/grub", *MODULES)
    (tools / "tmp/core.img").rename(core)
    bios, esp = partitions["solostack-bios"], partitions["solostack-esp"]
    if core.stat().st_size > bios["size"] * disk.SECTOR:
        raise SystemExit("image: GRUB's core image is larger than its partition")
    disk.grub_for_bios(image, core.read_bytes(), bios["start"], boot=grub / "boot.img")
    folder = work / "grub"
    folder.mkdir()
    (folder / "grub.cfg").write_text((HERE / "grub/grub.cfg").read_text())
    (folder / "environment").write_text(environment(name))
    (folder / f"{name}.cfg").write_text(script(uki, name))
    target = f"{image}@@{esp['start'] * disk.SECTOR}"
    run("mmd", "-i", target, "::grub")
    for file in sorted(folder.iterdir()):
        run("mcopy", "-i", target, file, f"::grub/{file.name}")
