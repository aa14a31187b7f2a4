"""Images of every format, good and bad ones, with the manifest that Tempest's tests of formats read."""

import struct
import subprocess

MIB = 1 << 20
# Name, Images' word for the format, what qemu-img is asked for.
MADE = (
    ("raw", "raw", ("raw",)),
    ("qcow2", "qcow2", ("qcow2",)),
    ("qcow2-v2", "qcow2", ("qcow2", "-o", "compat=0.10")),
    ("vdi", "vdi", ("vdi",)),
    ("vhd", "vhd", ("vpc",)),
    ("vhd-fixed", "vhd", ("vpc", "-o", "subformat=fixed")),
    ("vhdx", "vhdx", ("vhdx",)),
    ("vmdk-sparse", "vmdk", ("vmdk", "-o", "subformat=monolithicSparse")),
    ("vmdk-stream", "vmdk", ("vmdk", "-o", "subformat=streamOptimized")),
)
# What leads to files of the machine that reads it.
BAD = (
    ("qcow2-with-backing-file", "qcow2", ("qcow2", "-b", "raw.img", "-F", "raw")),
    ("qcow2-with-data-file", "qcow2", ("qcow2", "-o", "data_file=outside.img,data_file_raw=on")),
    ("vmdk-flat-descriptor", "vmdk", ("vmdk", "-o", "subformat=monolithicFlat")),
)


def run(*words, cwd):
    subprocess.run([str(word) for word in words], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def make(folder):
    """Makes all of them in `folder`; returns the path of the manifest."""
    folder.mkdir()
    listed = []
    source = folder / "source.img"
    # A boot sector, so that it is a disk in anybody's eyes, and something that is no run of zeros.
    source.write_bytes((b"\0" * 510 + struct.pack("<H", 0xAA55) + bytes(range(256)) * 256).ljust(MIB, b"\0"))
    for name, kind, (form, *options) in MADE:
        run("qemu-img", "convert", "-f", "raw", "-O", form, *options, source, f"{name}.img", cwd=folder)
        listed.append((name, kind, True))
    for name, kind, (form, *options) in BAD:
        size = [] if "-b" in options else [str(MIB)]
        run("qemu-img", "create", "-q", "-f", form, *options, f"{name}.img", *size, cwd=folder)
        listed.append((name, kind, False))
    (folder / "disc").mkdir()
    (folder / "disc" / "readme").write_text("nothing to boot\n")
    run("xorrisofs", "-quiet", "-J", "-r", "-V", "DISC", "-o", "iso.img", "disc", cwd=folder)
    listed.append(("iso", "iso", True))
    lines = ["images:"]
    for name, kind, usable in listed:
        lines += [f"- name: {name}", f"  format: {kind}", f"  filename: {name}.img", f"  usable: {str(usable).lower()}"]
    manifest = folder / "manifest.yaml"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest
