#!/usr/bin/env python3
"""Boots a test guest in a VM process with the `tcg` driver, without a cloud, and does to it what the control socket offers.

    qemu.py tiny|debian --program PROGRAM [--firmware bios|uefi|secure] [--times 20] [--memory MIB] [--keep-log FILE]

PROGRAM is `solostack`, or any that is a VM process when called with `vm DIRECTORY`. Needs root, and makes itself a network
namespace. Printed: seconds and CPU seconds of each step. `tiny` is driven by its console: disks and nics come and go, a disk
grows, the guest is paused, written to files and brought back, rebooted from inside, and shut down by its power button.
`debian` is booted, written to files, brought back and shut down. Exit status 0 only if all of it holds.
"""

import argparse
import ctypes
import fcntl
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import boot  # noqa: E402
import guests  # noqa: E402
from control import Control, Failure  # noqa: E402

MIB = 1 << 20
CLONE_NEWNET = 0x40000000
ROOT_BYTES = {"tiny": 512 * MIB, "debian": 4096 * MIB}
MEMORY_MIB = {("tiny", "bios"): 128, ("debian", "bios"): 640}


def tap(name):
    """An open tap of this name, up, with the host's address."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    # IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x5002))
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    subprocess.run(["ip", "address", "replace", "192.0.2.1/24", "dev", name], check=True)
    return fd


class Vm:
    def __init__(self, guest, program, folder, memory, firmware):
        self.guest, self.program, self.memory, self.firmware = guest, program, memory, firmware
        self.directory = folder / "server"
        self.directory.mkdir(mode=0o700)
        self.id, self.generation, self.restore, self.minder = str(uuid.uuid4()), 0, None, None
        self.disks = []
        root = folder / "root.raw"
        source = guests.build(guest) / f"{guest}.qcow2"
        subprocess.run(["qemu-img", "convert", "-O", "raw", source, root], check=True)
        os.truncate(root, ROOT_BYTES[guest])
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
        seed = boot.config_drive(folder, (folder / "key.pub").read_text())
        self.add_disk(0, "root", root)
        self.add_disk(1, "config-drive", seed, read_only=True)
        self.added = {}

    def disk(self, slot, kind, path, read_only=False, serial=""):
        return {"slot": slot, "kind": kind, "descriptor": 0, "read_only": read_only, "serial": serial, "size_bytes": os.path.getsize(path)}

    def add_disk(self, slot, kind, path, read_only=False, serial=""):
        self.disks.append((self.disk(slot, kind, path, read_only, serial), path))

    def start(self):
        self.generation += 1
        descriptors, disks = [], []
        for disk, path in self.disks:
            disks.append(disk | {"descriptor": len(descriptors)})
            descriptors.append(os.open(path, os.O_RDONLY if disk["read_only"] else os.O_RDWR))
        restore = None
        if self.restore:
            restore = {"state_descriptor": len(descriptors), "memory_descriptor": len(descriptors) + 1}
            descriptors += [os.open(path, os.O_RDONLY) for path in self.restore]
        spec = {
            "version": 2,
            "server_id": self.id,
            "name": self.guest,
            "boot_id": pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "generation": self.generation,
            "driver": "tcg",
            "vcpus": 2,
            "memory_mib": self.memory,
            "disks": disks,
            "nics": [],
            "console_log_bytes": 1 << 20,
            "smbios": {"manufacturer": "OpenStack Foundation", "product": "OpenStack Nova", "version": "1", "serial": self.id, "uuid": self.id},
            "display": True,
            "firmware": "bios" if self.firmware == "bios" else "uefi",
            "run_as": 0x50200000 + os.getpid() % 65536,
        }
        if self.firmware == "secure":
            spec["secure_boot"] = "required"
        if restore:
            spec["restore"] = restore
        (self.directory / "spec.json").write_text(json.dumps(spec))
        self.started = time.monotonic()
        # The descriptors are 3, 4 ... in the VM process.
        top = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for fd in descriptors]
        for fd in descriptors:
            os.close(fd)

        def place():
            for index, fd in enumerate(top):
                os.dup2(fd, 3 + index)
            os.closerange(3 + len(top), 3 + len(top) + 150)

        log = open(self.directory / "vm.log", "ab")
        self.minder = subprocess.Popen(
            [self.program, "vm", self.directory], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, close_fds=False, preexec_fn=place
        )
        for fd in top:
            os.close(fd)
        if self.minder.stdout.readline() != b"ready\n":
            self.minder.wait()
            raise Failure(f"it did not start: {(self.directory / 'exit.json').read_text()}")
        self.control = Control(self.directory)
        return time.monotonic() - self.started

    def cpu_seconds(self):
        return self.control.call("statistics")["statistics"]["cpu_time_ms"] / 1000

    def log(self):
        return (self.directory / "console.log").read_bytes().decode(errors="replace")

    def wait_for(self, pattern, deadline=300, after=0):
        until = time.monotonic() + deadline
        while not (found := re.search(pattern, self.log()[after:])):
            if self.minder.poll() is not None:
                raise Failure(f"the VM process ended before {pattern!r}: {self.exit()}")
            if time.monotonic() > until:
                raise Failure(f"no {pattern!r} within {deadline} s; the console ends with\n{self.log()[-1500:]}")
            time.sleep(0.02)
        return found

    def connect(self, name):
        stream, folder = socket.socket(socket.AF_UNIX), os.open(self.directory, os.O_RDONLY)
        stream.connect(f"/proc/self/fd/{folder}/{name}.sock")
        os.close(folder)
        stream.settimeout(30)
        return stream

    def type_in(self, text):
        with self.connect("serial") as line:
            line.sendall(text.encode())
            # Until the guest has echoed something, the bytes may still be on their way.
            line.recv(1)

    def run(self, command, deadline=60):
        """On the console, logged in. The mark is put together by the guest's shell, so that its echo is not it."""
        mark, after = uuid.uuid4().hex[:8], len(self.log())
        self.type_in(f"{command}; echo e''nd-{mark} $?\n")
        found = self.wait_for(rf"(?s)\n?(.*?)end-{mark} (\d+)", deadline, after)
        # What the kernel says in between is not the command's.
        text = re.sub(r"\[ *\d+\.\d+\] [^\n]*\n?", "", found[1]).replace("\r", "").strip()
        if found[2] != "0":
            raise Failure(f"`{command}` ended with status {found[2]}: {text}")
        return text

    def until(self, command, expected, deadline=30):
        until = time.monotonic() + deadline
        while (said := self.run(f"{command} || true")) != expected:
            if time.monotonic() > until:
                raise Failure(f"`{command}` says {said!r} and not {expected!r}")

    def log_in(self):
        after = self.log().rfind("login:")
        self.type_in("tiny\n")
        self.wait_for("Password:", 60, max(0, after))
        self.type_in("tiny\n")
        self.wait_for(r"[$#] ", 60, max(0, self.log().rfind("Password:")))
        self.run("sudo sh -c 'dmesg -n 1'; stty -echo; PS1=; true")

    def suspend(self):
        paths = [self.directory / "suspended.state", self.directory / "suspended.memory"]
        files = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) for path in paths]
        started = time.monotonic()
        self.control.call("suspend", files)
        for fd in files:
            os.close(fd)
        self.minder.wait(timeout=30)
        if self.exit()["cause"] != "suspended":
            raise Failure(f"it ended otherwise: {self.exit()}")
        self.restore = paths
        return time.monotonic() - started, os.path.getsize(paths[1]) / MIB

    def exit(self):
        return json.loads((self.directory / "exit.json").read_text() or "null")

    def power_button(self, deadline=120):
        started = time.monotonic()
        self.control.call("power_button")
        self.minder.wait(timeout=deadline)
        ended = self.exit()
        if (ended["cause"], ended["requested"]) != ("guest-shutdown", True):
            raise Failure(f"it ended otherwise: {ended}")
        return time.monotonic() - started

    def end(self):
        if self.minder and self.minder.poll() is None:
            self.minder.kill()
            self.minder.wait()


def median(values):
    return sorted(values)[len(values) // 2]


def boot_to_ready(vm):
    started = vm.start()
    vm.wait_for("Linux version", 600)
    kernel, kernel_cpu = time.monotonic() - vm.started, vm.cpu_seconds()
    vm.wait_for("solostack-guest ready", 1200)
    by = "our firmware" if re.search(r"solo-fw: /", vm.log()) else "SeaBIOS" if "SeaBIOS" in vm.log() else "OVMF"
    print(f"start {started:.2f} s; by {by}: kernel after {kernel:.1f} s ({kernel_cpu:.1f} CPU), "
          f"ready after {time.monotonic() - vm.started:.1f} s ({vm.cpu_seconds():.1f} CPU)", flush=True)  # fmt: skip


def disks_come_and_go(vm, folder, times):
    path = folder / "volume.raw"
    path.write_bytes(b"marked".ljust(16 * MIB, b"\0"))
    seen, gone = [], []
    for cycle in range(times):
        disk, started = vm.disk(3, "volume", path, serial=f"volume-{cycle}"), time.monotonic()
        with open(path, "r+b") as file:
            vm.control.call({"attach_disk": {"disk": disk}}, [file.fileno()])
        vm.until(f"sudo head -c 6 /dev/disk/by-id/virtio-volume-{cycle} 2>/dev/null", "marked")
        seen.append(time.monotonic() - started)
        if cycle == 0:
            os.truncate(path, 32 * MIB)
            vm.control.call({"resize_disk": {"slot": 3, "size_bytes": 32 * MIB}})
            vm.run("disk=/sys/block/$(basename $(readlink -f /dev/disk/by-id/virtio-volume-0))")
            vm.until("cat $disk/size", str(32 * MIB // 512))
            address = vm.run("readlink -f $disk/device").split("/")[-2]
            print(f"a disk in slot 3 is at {address}", flush=True)
        started = time.monotonic()
        vm.control.call({"detach_disk": {"slot": 3}})
        vm.control.wait_for("device_removed")
        gone.append(time.monotonic() - started)
        vm.until(f"ls /dev/disk/by-id/ | grep -c volume-{cycle}", "0")
    print(f"a disk came and went {times} times: used after {median(seen):.2f} s, let go of after {median(gone):.2f} s (medians)", flush=True)


def nics_come_and_go(vm, times):
    seen, gone = [], []
    for cycle in range(times):
        name = f"q{os.getpid() % 100000}n{cycle}"
        fd, started = tap(name), time.monotonic()
        nic = {"slot": 2, "port_id": str(uuid.uuid4()), "mac": f"fa:16:3e:00:00:{cycle:02x}", "mtu": 1500, "descriptor": 0}
        vm.control.call({"attach_nic": {"nic": nic}}, [fd])
        os.close(fd)
        find = f"grep -l fa:16:3e:00:00:{cycle:02x} /sys/class/net/*/address | cut -d/ -f5"
        vm.until(f"{find} | wc -l", "1")
        vm.run(f"d=$({find}); sudo ip link set $d up; sudo ip addr replace 192.0.2.2/24 dev $d")
        vm.until("ping -c 1 -W 5 192.0.2.1 | grep -c ' 0% packet loss'", "1")
        seen.append(time.monotonic() - started)
        if cycle == 0:
            print(f"a nic in slot 2 is {vm.run(f'readlink -f /sys/class/net/$({find})/device').split('/')[-2]}", flush=True)
        started = time.monotonic()
        vm.control.call({"detach_nic": {"slot": 2}})
        vm.control.wait_for("device_removed")
        gone.append(time.monotonic() - started)
        if os.path.exists(f"/sys/class/net/{name}"):
            raise Failure("the tap of a nic that is gone is still open")
    print(f"a nic came and went {times} times: answered after {median(seen):.2f} s, let go of after {median(gone):.2f} s (medians)", flush=True)


def exactly(stream, size):
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise Failure("a socket closed in the middle of something")
        data += more
    return data


def pixels(vm, count):
    """The first pixels of the screen's first line, four bytes each, by a client of RFC 6143."""
    with vm.connect("vnc") as viewer:
        viewer.sendall(exactly(viewer, 12))
        exactly(viewer, 2)
        # No security, shared with others.
        viewer.sendall(b"\1")
        exactly(viewer, 4)
        viewer.sendall(b"\1")
        exactly(viewer, 24 - 4)
        exactly(viewer, struct.unpack(">I", exactly(viewer, 4))[0])
        # Raw encoding alone; what was seen before does not matter. QEMU answers with more than was asked for.
        viewer.sendall(struct.pack(">BxHi", 2, 1, 0) + struct.pack(">BBHHHH", 3, 0, 0, 0, count, 1))
        kind, rectangles = struct.unpack(">BxH", exactly(viewer, 4))
        for _ in range(rectangles):
            left, top, width, height, encoding = struct.unpack(">HHHHi", exactly(viewer, 12))
            if (kind, encoding) != (0, 0):
                raise Failure(f"the screen answers with message {kind}, encoding {encoding}")
            data = exactly(viewer, width * height * 4)
            if (left, top) == (0, 0) and width >= count:
                return data[: count * 4]
        raise Failure("the screen's first pixels were not in its answer")


def screen_and_agent(vm):
    vm.run("sudo modprobe bochs; sudo modprobe virtio_console")
    vm.until("test -c /dev/fb0 && echo there", "there")
    vm.run("yes '3' | tr -d '\\n' | head -c 64 | sudo dd of=/dev/fb0 2>/dev/null")
    until = time.monotonic() + 30
    # The fourth byte of a pixel is nobody's.
    while not all(pixel[:3] == b"333" for pixel in struct.iter_unpack("4s", pixels(vm, 16)) for pixel in pixel):
        if time.monotonic() > until:
            raise Failure(f"the screen shows {pixels(vm, 16)} and not what the guest has drawn")
    port = vm.run("p=/dev/$(basename $(dirname $(grep -l org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name))); echo $p")
    vm.run(f"sudo sh -c 'while read -r line; do echo \"heard $line\"; done <>{port} >&0' & true")
    for turn in range(2):
        with vm.connect("agent") as agent:
            agent.sendall(f"turn {turn}\n".encode())
            said = exactly(agent, len(f"heard turn {turn}\n"))
            if said != f"heard turn {turn}\n".encode():
                raise Failure(f"the agent's port says {said}")
    print("the screen shows what the guest draws; its agent's port carries both ways", flush=True)


def tiny(vm, folder, times):
    boot_to_ready(vm)
    vm.log_in()
    screen_and_agent(vm)
    disks_come_and_go(vm, folder, times)
    nics_come_and_go(vm, max(1, times // 2))
    vm.control.call("pause")
    vm.control.call("resume")
    vm.run("true")

    # A disk that was not there at the start, a variable of the shell, a process, a file that only the page cache has.
    path = folder / "kept.raw"
    path.write_bytes(b"kept".ljust(16 * MIB, b"\0"))
    disk = vm.disk(5, "volume", path, serial="kept")
    with open(path, "r+b") as file:
        vm.control.call({"attach_disk": {"disk": disk}}, [file.fileno()])
    vm.until("sudo head -c 4 /dev/disk/by-id/virtio-kept 2>/dev/null", "kept")
    vm.run("secret=41; (while :; do echo x >>/tmp/ticks; sleep 0.2; done) & head -c 5000000 /dev/urandom >big; md5sum big >sum; uptime_before=$(cut -d. -f1 /proc/uptime); true")
    vm.disks.append((disk, path))
    for cycle in range(2):
        seconds, size = vm.suspend()
        started = vm.start()
        if vm.run("echo $((secret + 1))") != "42":
            raise Failure("the shell is another one")
        before = int(vm.run("wc -l </tmp/ticks"))
        vm.until(f"test $(wc -l </tmp/ticks) -gt {before} && echo ticks", "ticks")
        vm.run("md5sum -c sum; sync; test $(cut -d. -f1 /proc/uptime) -ge $uptime_before")
        vm.run("sudo dd if=big of=/dev/disk/by-id/virtio-kept bs=4096 conv=fsync 2>/dev/null; sudo sh -c 'echo 3 >/proc/sys/vm/drop_caches'; "
               "test \"$(sudo head -c 5000000 /dev/disk/by-id/virtio-kept | md5sum | cut -d' ' -f1)\" = \"$(cut -d' ' -f1 sum)\"")  # fmt: skip
        print(f"written to files in {seconds:.2f} s ({size:.0f} MiB), goes on {started:.2f} s after its start", flush=True)
    vm.control.call({"detach_disk": {"slot": 5}})
    vm.control.wait_for("device_removed")

    after, vm.control.events = len(vm.log()), []
    vm.type_in("sudo reboot\n")
    vm.wait_for("Linux version", 120, after)
    vm.wait_for("solostack-guest ready", 300, after)
    if vm.control.wait_for("reset") != {"reset": {"by_guest": True}}:
        raise Failure("the guest's own reset is told otherwise")
    print("rebooted from inside", flush=True)
    print(f"off {vm.power_button():.1f} s after its power button", flush=True)


def debian(vm):
    boot_to_ready(vm)
    seconds, size = vm.suspend()
    started = vm.start()
    print(f"written to files in {seconds:.2f} s ({size:.0f} MiB), goes on {started:.2f} s after its start", flush=True)
    print(f"off {vm.power_button(300):.1f} s after its power button", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("guest", choices=guests.GUESTS)
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--firmware", choices=["bios", "uefi", "secure"], default="bios")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--memory", type=int)
    parser.add_argument("--keep-log")
    args = parser.parse_args()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise SystemExit(f"qemu: no network namespace: {os.strerror(ctypes.get_errno())} (this needs root)")
    memory = args.memory or MEMORY_MIB.get((args.guest, args.firmware), 640)
    with tempfile.TemporaryDirectory(prefix=f"solostack-qemu-{args.guest}-") as folder:
        folder = pathlib.Path(folder)
        vm = Vm(args.guest, args.program.resolve(), folder, memory, args.firmware)
        try:
            if args.guest == "tiny":
                tiny(vm, folder, args.times)
            else:
                debian(vm)
        except Failure as failure:
            vm_log = (vm.directory / "vm.log").read_text(errors="replace")
            raise SystemExit(f"qemu: {failure}\n{vm_log[-2000:]}") from None
        finally:
            vm.end()
            if args.keep_log:
                pathlib.Path(args.keep_log).write_text(vm.log())


if __name__ == "__main__":
    main()
