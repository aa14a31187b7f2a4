#!/usr/bin/env python3
"""Boots real disks with the firmware under plain QEMU (TCG) and checks what README.md promises.

    boot.py [--firmware ELF] [--debian] [CASE ...]

Needs qemu-system-x86, e2fsprogs, fdisk, and the test guest `tiny` (`just guests`); with --debian also that one, to its login
prompt. Every case starts from the unmodified image. Exit status 0 only if all cases pass.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
GUESTS = HERE.parents[1] / "tests/guests/guests.py"
MIB = 1 << 20
# isa-debug-exit makes (value << 1 | 1) & 255 of "FALB".
FELL_BACK = 133


class Failure(Exception):
    pass


def run(*argv, **more):
    env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, **more).stdout


def image(guest, folder):
    """The guest's disk as a raw file of ours."""
    source = run(sys.executable, str(GUESTS), "path", guest, text=True).strip()
    disk = folder / f"{guest}.raw"
    run("qemu-img", "convert", "-O", "raw", source, str(disk))
    return disk


def root_partition(disk):
    """Start and size in bytes of partition 1."""
    for line in run("sfdisk", "-d", str(disk), text=True).splitlines():
        if line.startswith(f"{disk}1 "):
            fields = dict(part.split("=") for part in line.split(":", 1)[1].replace(" ", "").split(",") if "=" in part)
            return int(fields["start"]) * 512, int(fields["size"]) * 512
    raise Failure("no partition 1")


def debugfs(disk, *commands):
    start, _ = root_partition(disk)
    said = b""
    for command in commands:
        said = run("debugfs", "-w", "-R", command, f"{disk}?offset={start}")
    return said


def replace_file(folder, disk, path, content):
    source = folder / "replacement"
    source.write_bytes(content)
    debugfs(disk, f"rm {path}")
    debugfs(disk, f"write {source} {path}")


class Machine:
    def __init__(self, firmware, folder, disk, memory=256, extra=(), snapshot=True):
        self.console, self.reason = folder / "console.log", folder / "reason.txt"
        for path in (self.console, self.reason):
            path.unlink(missing_ok=True)
        argv = ["qemu-system-x86_64", "-M", "q35,graphics=off,usb=off,sata=off,smbus=off,vmport=off,hpet=off", "-accel", "tcg",
                "-cpu", "max", "-m", str(memory), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-serial", f"file:{self.console}", "-kernel", str(firmware),
                "-device", "isa-debug-exit,iobase=0xb04,iosize=4",
                "-chardev", f"file,id=reason,path={self.reason}", "-device", "isa-debugcon,iobase=0xb08,chardev=reason", *extra]  # fmt: skip
        if disk:
            argv += ["-drive", f"if=none,id=root,file={disk},format=raw,snapshot={'on' if snapshot else 'off'}",
                     "-device", "virtio-blk-pci,drive=root,disable-legacy=on,addr=2"]  # fmt: skip
        self.started = time.monotonic()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def log(self):
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_for(self, *texts, deadline=180):
        """Each in turn; gives the CPU seconds at each."""
        at = []
        for text in texts:
            while text not in self.log():
                if self.process.poll() is not None:
                    raise Failure(f"QEMU ended with status {self.process.returncode} before {text!r}: {self.log()[-500:]}")
                if time.monotonic() - self.started > deadline:
                    raise Failure(f"no {text!r} within {deadline} s: {self.log()[-500:]}")
                time.sleep(0.05)
            at.append(f"{text.strip()} {self.cpu_seconds():.2f}")
        return "CPU s: " + ", ".join(at)

    def fell_back(self):
        status = self.process.wait(timeout=60)
        if status != FELL_BACK:
            raise Failure(f"status {status} instead of {FELL_BACK}: {self.log()[-500:]}")
        return self.reason.read_text().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


@case
def stock_image_to_its_login(fw, folder, disk):
    with Machine(fw, folder, disk) as machine:
        return machine.wait_for("solo-fw: /boot/vmlinuz-", "Linux version", "tiny login:")


@case
def in_64_mib_the_small_kernel_to_its_login(fw, folder, disk):
    with Machine(fw, folder, disk, memory=64) as machine:
        return machine.wait_for("solo-fw: /boot/vmlinuz-", "Linux version", "tiny login:")


@case
def with_memory_above_4_gib(fw, folder, disk):
    with Machine(fw, folder, disk, memory=5120, extra=["-object", "memory-backend-ram,id=big,size=5120M,prealloc=off", "-machine", "memory-backend=big"]) as machine:
        said = machine.wait_for("solo-fw: /boot/vmlinuz-", "Run /init as init")
        if "[mem 0x0000000100000000-" not in machine.log():
            raise Failure("the kernel does not see the memory above 4 GiB")
        return said


@case
def bars_above_4_gib(fw, folder, disk):
    # A BAR that does not fit makes SeaBIOS move every 64-bit BAR up.
    extra = ["-object", "memory-backend-ram,id=shared,size=2G,prealloc=off", "-device", "ivshmem-plain,memdev=shared,addr=9"]
    with Machine(fw, folder, disk, extra=extra) as machine:
        said = machine.wait_for("solo-fw: /boot/vmlinuz-", "pci 0000:00:02.0: BAR 4 [mem ")
        at = int(machine.log().split("pci 0000:00:02.0: BAR 4 [mem 0x")[1].split("-")[0], 16)
        if at < 1 << 32:
            raise Failure(f"the BAR is at {at:#x}: this case tests nothing")
        return f"{said}; BAR at {at:#x}"


@case
def a_display_becomes_the_console(fw, folder, disk):
    with Machine(fw, folder, disk, extra=["-device", "bochs-display,addr=5"]) as machine:
        return machine.wait_for("solo-fw: /boot/vmlinuz-", "colour frame buffer device 128x48")


@case
def a_transitional_disk_and_a_second_one_behind_it(fw, folder, disk):
    second = folder / "second.raw"
    second.write_bytes(bytes(MIB))
    extra = ["-drive", f"if=none,id=second,file={second},format=raw", "-device", "virtio-blk-pci,drive=second,addr=4"]
    with Machine(fw, folder, disk, extra=extra) as machine:
        return machine.wait_for("solo-fw: /boot/vmlinuz-", "Linux version")


@case
def sectors_of_4_kib(fw, folder, disk):
    # A GPT counts sectors; this one is of 512 bytes, so only a bare file system can be moved.
    start, size = root_partition(disk)
    bare = folder / "bare.raw"
    with open(disk, "rb") as source:
        source.seek(start)
        bare.write_bytes(source.read(size // 4096 * 4096))
    extra = ["-global", "virtio-blk-pci.logical_block_size=4096", "-global", "virtio-blk-pci.physical_block_size=4096"]
    with Machine(fw, folder, bare, extra=extra) as machine:
        return machine.wait_for("solo-fw: /boot/vmlinuz-", "by grub (hd0)/boot/grub/grub.cfg", "Linux version")


@case
def a_logical_partition_of_an_mbr(fw, folder, disk):
    start, size = root_partition(disk)
    other = folder / "mbr.raw"
    with open(disk, "rb") as source, open(other, "wb") as to:
        source.seek(start)
        to.truncate(size + 8 * MIB)
        run("sfdisk", "-q", str(other), input=b"label: dos\n2048 2048 83\n4096 - E\n8192 - 83\n")
        to.seek(8192 * 512)
        to.write(source.read(size))
    with Machine(fw, folder, other) as machine:
        return machine.wait_for("by grub (hd0,msdos5)/boot/grub/grub.cfg", "Linux version")


@case
def a_damaged_first_gpt(fw, folder, disk):
    with open(disk, "r+b") as file:
        file.seek(512)
        file.write(bytes(4096))
    with Machine(fw, folder, disk) as machine:
        return machine.wait_for("solo-fw: /boot/vmlinuz-", "Linux version")


@case
def the_next_entry_is_used_once(fw, folder, disk):
    stock = debugfs(disk, "cat /boot/grub/grub.cfg").decode()
    head, entries = stock.split("menuentry ", 1)
    config = head + 'if [ "${next_entry}" ]; then\n set default="${next_entry}"\n set next_entry=\n save_env next_entry\nfi\nmenuentry ' + entries
    replace_file(folder, disk, "/boot/grub/grub.cfg", config.encode())
    replace_file(folder, disk, "/boot/grub/grubenv", b"# GRUB Environment Block\nnext_entry=Tiny (recovery mode)\nkept=yes\n".ljust(1024, b"#"))
    with Machine(fw, folder, disk, snapshot=False) as machine:
        machine.wait_for("Linux version", "Command line:")
        if " single " not in machine.log():
            raise Failure("the next entry was not taken")
    left = debugfs(disk, "cat /boot/grub/grubenv")
    if left != b"# GRUB Environment Block\nnext_entry=\nkept=yes\n".ljust(1024, b"#"):
        raise Failure(f"grubenv holds {left!r}")
    with Machine(fw, folder, disk) as machine:
        said = machine.wait_for("Linux version", "Command line:")
        if " single " in machine.log():
            raise Failure("the next entry was taken twice")
        return said


@case
def several_initrds_become_one(fw, folder, disk):
    stock = debugfs(disk, "cat /boot/grub/grub.cfg").decode()
    # An uncompressed archive of odd size before the real one, and a real one of odd name behind it.
    name = b"early\0"
    header = b"070701" + b"".join(b"%08x" % field for field in (1, 0o100644, 0, 0, 1, 0, 5, 0, 0, 0, 0, len(name), 0))
    trailer = b"070701" + b"".join(b"%08x" % field for field in (0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 11, 0)) + b"TRAILER!!!\0"
    archive = header + name + bytes(-(len(header) + len(name)) % 4) + b"hello" + bytes(3) + trailer
    replace_file(folder, disk, "/boot/early.cpio", archive)
    replace_file(folder, disk, "/boot/grub/grub.cfg", stock.replace("initrd\t/boot/", "initrd\t/boot/early.cpio /boot/").encode())
    with Machine(fw, folder, disk) as machine:
        return machine.wait_for("solo-fw: /boot/vmlinuz-", "Run /init as init", "mounted filesystem")


@case
def what_is_not_understood_is_handed_over(fw, folder, disk):
    for content, expected in [
        ("menuentry x { chainloader +1\n}\n", "grub.cfg uses chainloader"),
        ("menuentry x { linux /missing\n}\n", "not found"),
        ("while true; do true; done\n", "over the limit: commands in grub.cfg"),
        ("function f { f; }; f\n", "over the limit: nesting in grub.cfg"),
        ('function f { for i in a; do while true; do eval "if true; then f; fi"; done; done; }; f\n', "over the limit: nesting in grub.cfg"),
        ("submenu x { configfile /boot/grub/grub.cfg\n}\n", "over the limit: nesting in grub.cfg"),
        ("x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done\n", "over the limit"),
        ("if true; then " * 20000, "over the limit: nesting in grub.cfg"),
    ]:
        replace_file(folder, disk, "/boot/grub/grub.cfg", content.encode())
        with Machine(fw, folder, disk) as machine:
            reason = machine.fell_back()
            if expected not in reason or expected not in machine.log():
                raise Failure(f"the reason is {reason!r} instead of {expected!r}")
    return f"last reason: {reason}"


@case
def an_empty_disk_is_handed_over(fw, folder, disk):
    empty = folder / "empty.raw"
    with open(empty, "wb") as file:
        file.truncate(4 * MIB)
    with Machine(fw, folder, empty) as machine:
        return machine.fell_back()


@case
def too_little_memory_is_handed_over(fw, folder, disk):
    with Machine(fw, folder, disk, memory=24) as machine:
        return machine.fell_back()


@case
def a_machine_without_a_disk_is_handed_over(fw, folder, disk):
    with Machine(fw, folder, None) as machine:
        return machine.fell_back()


def debian_to_its_login(fw, folder, _):
    with Machine(fw, folder, image("debian", folder), memory=1024) as machine:
        return machine.wait_for("solo-fw: /boot/vmlinuz-", "Linux version", " login:", deadline=900)


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--firmware", type=pathlib.Path, default=target / "release/solo-fw")
    parser.add_argument("--debian", action="store_true")
    parser.add_argument("case", nargs="*")
    args = parser.parse_args()
    cases = dict(CASES)
    if args.debian:
        cases["debian_to_its_login"] = debian_to_its_login
    failed = 0
    with tempfile.TemporaryDirectory(prefix="solo-fw-boot-") as folder:
        folder = pathlib.Path(folder)
        stock = image("tiny", folder)
        for name, function in cases.items():
            if args.case and name not in args.case:
                continue
            disk = folder / "disk.raw"
            run("cp", "--sparse=always", str(stock), str(disk))
            try:
                print(f"ok    {name}: {function(args.firmware, folder, disk)}", flush=True)
            except (Failure, subprocess.SubprocessError) as error:
                failed += 1
                print(f"FAIL  {name}: {error}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
