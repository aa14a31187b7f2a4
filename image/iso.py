"""The disk image as a CD, too: an ISO 9660 file system in the room between the partition table and the first partition.

All of the disk stays where it is, so the file is both: written to a stick it is the disk, and on a CD (of a machine's remote console, of a
hypervisor) UEFI starts the EFI partition by El Torito, BIOS a GRUB that finds that partition as the file ESP.IMG. The kernel finds
root and hashes by the disk's own table, which the initrd reads through a loop device with sectors of 512 bytes.
"""

import datetime
import struct

from packages import run

BLOCK = 2048
SECTOR = 512
# In blocks; the first sixteen are the disk's.
VOLUME, BOOT_RECORD, TERMINATOR, TABLE_LITTLE, TABLE_BIG, FOLDER, CATALOG, WORDS, CORE = range(16, 25)
MODULES = "biosdisk iso9660 part_gpt fat normal configfile linux loopback regexp test echo serial terminal loadenv sleep reboot".split()
# The core image looks for the rest of GRUB in the EFI partition, which is a file of this file system.
EARLY = "loopback esp ($root)/esp.img\nset root=esp\nset prefix=(esp)/grub\n"
ALL_THAT_IS_LEFT = 0
TEXT = """Solostack {version}

This is a disk of a machine in which Solostack is all that is installed. It starts from this medium: from a CD with everything in
memory, from a stick with its data on the rest of the stick. `solostack install` copies it to a disk of the machine.
"""


def both(form, value):
    """A number in either order of bytes, one after the other."""
    return struct.pack(f"<{form}", value) + struct.pack(f">{form}", value)


def text(value, size):
    return value.encode("ascii").ljust(size)


def record_date(when):
    return bytes([when.year - 1900, when.month, when.day, when.hour, when.minute, when.second, 0])


def volume_date(when):
    return when.strftime("%Y%m%d%H%M%S00").encode() + b"\0"


def record(name, block, size, when, folder=False):
    """One entry of a folder."""
    length = 33 + len(name) + (len(name) + 1) % 2
    body = both("I", block) + both("I", size) + record_date(when) + bytes([2 if folder else 0, 0, 0]) + both("H", 1) + bytes([len(name)]) + name
    return (bytes([length, 0]) + body).ljust(length, b"\0")


def catalog(core_block, esp_block):
    """El Torito: what BIOS starts, and what UEFI does."""
    first = bytearray(struct.pack("<BBH24sHBB", 1, 0, 0, b"Solostack", 0, 0x55, 0xAA))
    struct.pack_into("<H", first, 28, -sum(struct.unpack("<16H", first)) & 0xFFFF)
    # GRUB loads the rest of itself.
    bios = struct.pack("<BBHBBHI20x", 0x88, 0, 0, 0, 0, 4, core_block)
    section = struct.pack("<BBH28x", 0x91, 0xEF, 1)
    uefi = struct.pack("<BBHBBHI20x", 0x88, 0, 0, 0, 0, ALL_THAT_IS_LEFT, esp_block)
    return bytes(first) + bios + section + uefi


def with_boot_information(core):
    """What GRUB's first sectors want to know of where they lie."""
    core = bytearray(core + bytes(-len(core) % 4))
    total = sum(word for (word,) in struct.iter_unpack("<I", core[64:])) & 0xFFFFFFFF
    struct.pack_into("<IIII40x", core, 8, VOLUME, CORE, len(core), total)
    return bytes(core)


def grub(tools, work):
    (tools / "tmp/early.cfg").write_text(EARLY)
    run("chroot", tools, "grub-mkimage", "-O", "i386-pc-eltorito", "-o", "/tmp/eltorito.img", "-p", "/grub", "-c", "/tmp/early.cfg", *MODULES)
    core = work / "eltorito.img"
    (tools / "tmp/eltorito.img").rename(core)
    (tools / "tmp/early.cfg").unlink()
    return core.read_bytes()


def structure(core, esp, size, version, when):
    """All that goes in front of the first partition, from block 16 on."""
    core = with_boot_information(core)
    words = TEXT.format(version=version).encode()
    esp_block, esp_size = esp["start"] * SECTOR // BLOCK, esp["size"] * SECTOR
    entries = [
        record(b"\0", FOLDER, BLOCK, when, folder=True), record(b"\1", FOLDER, BLOCK, when, folder=True),
        record(b"ESP.IMG;1", esp_block, esp_size, when), record(b"README.TXT;1", WORDS, len(words), when),
    ]  # fmt: skip
    label = "SOLOSTACK_" + "".join(c if c.isalnum() else "_" for c in version.upper())[:22]
    nothing = b"0" * 16 + b"\0"
    volume = b"".join([
        b"\1CD001\1\0", text("", 32), text(label, 32), bytes(8), both("I", size // BLOCK), bytes(32), both("H", 1), both("H", 1), both("H", BLOCK),
        both("I", 10), struct.pack("<II", TABLE_LITTLE, 0), struct.pack(">II", TABLE_BIG, 0), entries[0],
        text("", 128), text("", 128), text("", 128), text("SOLOSTACK", 128), text("", 37), text("", 37), text("", 37),
        volume_date(when), volume_date(when), nothing, nothing, b"\1\0",
    ])  # fmt: skip
    blocks = {
        VOLUME: volume,
        BOOT_RECORD: b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(32, b"\0") + bytes(32) + struct.pack("<I", CATALOG),
        TERMINATOR: b"\xffCD001\1",
        TABLE_LITTLE: struct.pack("<BBIH2s", 1, 0, FOLDER, 1, b"\0\0"),
        TABLE_BIG: struct.pack(">BBIH2s", 1, 0, FOLDER, 1, b"\0\0"),
        FOLDER: b"".join(entries),
        CATALOG: catalog(CORE, esp_block),
        WORDS: words,
    }
    if any(len(data) > BLOCK for data in blocks.values()):
        raise SystemExit("image: a part of the CD's file system is larger than its block")
    return b"".join(blocks[block].ljust(BLOCK, b"\0") for block in range(VOLUME, CORE)) + core


def make(raw, target, rows, version, epoch, tools, work):
    """`target` becomes the disk `raw`, and a CD."""
    esp = rows["solostack-esp"]
    size = raw.stat().st_size
    first = min(row["start"] for row in rows.values()) * SECTOR
    if size % BLOCK or esp["start"] * SECTOR % BLOCK:
        raise SystemExit("image: the disk is not made of a CD's blocks")
    when = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)
    front = structure(grub(tools, work), esp, size, version, when)
    if VOLUME * BLOCK + len(front) > first:
        raise SystemExit(f"image: {len(front)} bytes do not fit in front of the first partition")
    run("cp", "--sparse=always", raw, target)
    with open(target, "r+b") as file:
        file.seek(VOLUME * BLOCK)
        if file.read(first - VOLUME * BLOCK).strip(b"\0"):
            raise SystemExit("image: there is something in front of the first partition")
        file.seek(VOLUME * BLOCK)
        file.write(front)
