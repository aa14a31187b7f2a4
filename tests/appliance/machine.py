"""A machine that the appliance runs on: QEMU with a translated processor, UEFI or BIOS, and a disk that the image was written to.

Nothing in the image knows of tests. A root shell for them comes on a second serial port, by systemd's own debug shell, which the
test asks for on the kernel command line as whoever owns the hypervisor can (an SMBIOS string that systemd's stub reads; UEFI only).
"""

import contextlib
import itertools
import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "guests/l1"), str(HERE.parent / "guests"), str(HERE.parent / "clients")]

from cloud import Failure  # noqa: E402
import terminal  # noqa: E402
from emulator import emulator  # noqa: E402
from rootdisk import cache  # noqa: E402

FIRMWARE = pathlib.Path("/usr/share/OVMF")
SHELL = "systemd.debug_shell=ttyS1"
# An emulated machine that the host gives no time for a while has not lost its clock, as Linux would conclude.
PATIENT = "no_timer_check"
# The address that QEMU's own DHCP server gives.
ADDRESS = "10.0.2.15"


class Ended(Failure):
    """The machine is gone."""


class Machine:
    """One run of a machine, from power on to power off. The disk and the firmware's variables stay in `folder`."""

    numbers = itertools.count(1)
    # How many times as long everything may take: the host has other things to do as well.
    patience = 1
    # One thread, whose clock counts instructions: what takes how long is the same on any host, however busy that is.
    is_counted = False

    def __init__(self, folder, disk, *, firmware="uefi", virtualization=True, memory_mib=2048, processors=2, nics=(), words=()):
        self.folder, self.firmware = pathlib.Path(folder), firmware
        number = next(self.numbers)
        self.console, self.log = self.folder / f"console-{number}.log", self.folder / f"qemu-{number}.log"
        self.shell_socket = self.folder / f"shell-{number}.sock"
        cpu = "max,+svm,+npt" if virtualization else "max,-svm,-vmx"
        argv = [
            *emulator(cache()), "-machine", "q35,hpet=off", *self.speed(), "-cpu", cpu, "-m", str(memory_mib),
            "-smp", str(processors), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci",
            "-drive", f"if=none,id=disk,file={disk},format=raw,cache=writeback,discard=unmap", "-device", "virtio-blk-pci,drive=disk,bootindex=1",
            "-serial", f"file:{self.console}", "-serial", f"unix:{self.shell_socket},server=on,wait=off",
            *nics,
        ]  # fmt: skip
        if firmware == "uefi":
            variables = self.folder / "variables.fd"
            if not variables.exists():
                shutil.copy(FIRMWARE / "OVMF_VARS_4M.fd", variables)
            argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}/OVMF_CODE_4M.fd",
                     "-drive", f"if=pflash,unit=1,format=raw,file={variables}",
                     "-smbios", f"type=11,value=io.systemd.stub.kernel-cmdline-extra={' '.join([SHELL, PATIENT, *words])}"]  # fmt: skip
        self.began = time.monotonic()
        self.pipe = None
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def speed(self):
        # Two nanoseconds an instruction.
        return ["-accel", "tcg,thread=single,tb-size=1024", "-icount", "shift=1"] if self.is_counted else ["-accel", "tcg,thread=multi,tb-size=1024"]

    def running(self):
        return self.process.poll() is None

    def check(self):
        if not self.running():
            raise Ended(f"the machine ended with status {self.process.returncode}: {self.log.read_text(errors='replace')}\n{self.console_end()}")

    def console_end(self, size=3000):
        with contextlib.suppress(OSError):
            return self.console.read_text(errors="replace")[-size:]
        return ""

    def screen(self):
        """What somebody with a terminal at the serial port sees."""
        return "\n".join(terminal.seen(self.console_end(1 << 22)))

    def wait_for_console(self, text, seconds):
        deadline = time.monotonic() + seconds * self.patience
        while text not in self.console_end(1 << 20):
            self.check()
            if time.monotonic() > deadline:
                raise Failure(f"the console did not say `{text}` within {seconds} s:\n{self.console_end()}")
            time.sleep(0.2)

    # -- the shell ---------------------------------------------------------------------------------------------------------
    def _read(self, until, deadline):
        while not re.search(until, self.buffer):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if select.select([self.pipe], [], [], min(left, 1))[0]:
                more = self.pipe.recv(65536)
                if not more:
                    self.process.wait(timeout=10)
                    self.check()
                self.buffer += more.decode(errors="replace").replace("\r", "")
            else:
                self.check()
        return True

    def shell(self, seconds=300):
        """Until the debug shell answers."""
        deadline = time.monotonic() + seconds * self.patience
        self.pipe, self.buffer, self.commands = socket.socket(socket.AF_UNIX), "", itertools.count(1)
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                self.pipe.connect(str(self.shell_socket))
                break
            self.check()
            time.sleep(0.1)
        # The firmware and its boot menu listen here too, and take what is typed for theirs: nothing is, until there is a prompt.
        while not self._read(r"# (\x1b\[[0-9;?]*[a-zA-Z])*$", time.monotonic() + 5):
            self.buffer = self.buffer[-200:]
            if time.monotonic() > deadline:
                raise Failure(f"no root shell within {seconds} s:\n{self.console_end()}")
        self.pipe.sendall(b"stty -echo cols 500; PS1= PS2=; bind 'set enable-bracketed-paste off'; echo here-$((6 * 7))\n")
        if not self._read(r"here-42\n", time.monotonic() + 60 * self.patience):
            raise Failure(f"the root shell does not answer: {self.buffer[-500:]}")
        self._read(r"$^", time.monotonic() + 1)
        self.buffer = ""
        return self

    def call(self, script, seconds=120):
        """Run a line of shell as root: its status and what it said."""
        mark = f"end{next(self.commands)}"
        self.buffer = ""
        self.pipe.sendall(f"{{ {script}\n}} 2>&1 </dev/null; echo \"{mark}''-$?-\"\n".replace("''", '""').encode())
        if not self._read(rf"{mark}-\d+-\n", time.monotonic() + seconds * self.patience):
            raise Failure(f"`{script}` in the machine did not end within {seconds} s: {self.buffer[-1000:]}")
        said, _, rest = self.buffer.partition(f"{mark}-")
        return int(rest.split("-")[0]), said.strip()

    def run(self, script, seconds=120):
        status, said = self.call(script, seconds)
        if status:
            raise Failure(f"`{script}` in the machine ended with status {status}: {said[-2000:]}")
        return said

    # -- the end -----------------------------------------------------------------------------------------------------------
    def power_cut(self):
        """No flush, no farewell."""
        self.process.kill()
        self.process.wait()
        if self.pipe:
            self.pipe.close()

    def reboot(self, seconds=240):
        """As the operator does it; QEMU ends where the machine would start again."""
        self.pipe.sendall(b"systemctl reboot\n")
        try:
            self.process.wait(timeout=seconds * self.patience)
        except subprocess.TimeoutExpired:
            raise Failure(f"it did not go down within {seconds} s:\n{self.console_end()}") from None
        finally:
            self.pipe.close()


def forwarded(port=443):
    """A network in which nothing but this one port of the machine is reached, and nothing outside."""
    return ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:{ADDRESS}:{port}-{ADDRESS}:{port}", "-device", "virtio-net-pci,netdev=net"]


def cable(name):
    """A cable to a link of this network namespace; who answers on it is the test's affair."""
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    return ["-netdev", f"tap,id=net,ifname={name},script=no,downscript=no", "-device", "virtio-net-pci,netdev=net"]


def missing():
    """What this host lacks, with a word on how to get it."""
    lacking = []
    for name, package in {"zstd": "zstd", "ip": "iproute2", "dd": "coreutils", "sfdisk": "fdisk"}.items():
        if not shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            lacking.append(f"{name} (package {package})")
    if not (FIRMWARE / "OVMF_CODE_4M.fd").exists():
        lacking.append("UEFI firmware (package ovmf)")
    return lacking
