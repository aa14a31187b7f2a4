#!/usr/bin/env python3
"""Boots a test guest under QEMU (TCG) without a cloud and checks what it promises.

    boot.py tiny [--memory 64] [--firmware bios|uefi] [--keep-log FILE]

It gets a config drive (key, host name, a user script) and a network behind QEMU's own DHCP with the ssh port forwarded to
a free port on 127.0.0.1. Checked: ready on the console, host name, ssh with the key, root by sudo, the user script, a
second disk, the power button. Exit status 0 only if all of it holds.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import guests  # noqa: E402

OVMF = pathlib.Path("/usr/share/OVMF")
USERS = {"tiny": "tiny", "debian": "debian"}
LEAST_MEMORY = {("tiny", "bios"): 64, ("tiny", "uefi"): 256, ("debian", "bios"): 512, ("debian", "uefi"): 512}
MARKS = {"tiny": "solostack-guest ready", "debian": "solostack-guest ready"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def config_drive(folder, key):
    tree = folder / "drive/openstack/latest"
    tree.mkdir(parents=True)
    meta = {
        "uuid": "3f0a6c1e-6d0b-4a8e-9a51-0d6f6f0f1d11",
        "name": "booted",
        "hostname": "booted.novalocal",
        "public_keys": {"me": key},
    }
    (tree / "meta_data.json").write_text(json.dumps(meta))
    (tree / "user_data").write_text("#!/bin/sh\necho user-script-ran on $(hostname)\ntouch /run/user-script\necho solostack-guest ready\n")
    image = folder / "config.iso"
    subprocess.run(["xorrisofs", "-quiet", "-J", "-r", "-V", "config-2", "-o", image, folder / "drive"], check=True, stderr=-3)
    return image


class Machine:
    def __init__(self, guest, folder, memory, firmware):
        self.folder, self.port = folder, free_port()
        self.console = folder / "console.log"
        self.key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        image = guests.build(guest) / f"{guest}.qcow2"
        disk = folder / "disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, disk, "10G"], check=True)
        with open(folder / "extra.raw", "wb") as extra:
            extra.truncate(16 << 20)
        drive = config_drive(folder, self.key.with_suffix(".pub").read_text())
        argv = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(memory), "-nodefaults", "-no-user-config",
                "-display", "none", "-chardev", f"file,id=console,path={self.console}", "-serial", "chardev:console",
                "-qmp", f"unix:{folder}/qmp.sock,server=on,wait=off", "-smbios", "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova",
                "-drive", f"if=none,id=root,file={disk},format=qcow2,cache=unsafe", "-device", "virtio-blk-pci,drive=root,bootindex=1",
                "-drive", f"if=none,id=seed,file={drive},format=raw,readonly=on", "-device", "virtio-blk-pci,drive=seed",
                "-drive", f"if=none,id=extra,file={folder}/extra.raw,format=raw", "-device", "virtio-blk-pci,drive=extra,serial=0123456789abcdef",
                "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=net",
                "-device", "virtio-rng-pci"]  # fmt: skip
        if firmware == "uefi":
            code = next(p for p in (OVMF / "OVMF_CODE_4M.fd", OVMF / "OVMF_CODE.fd") if p.exists())
            names = OVMF / code.name.replace("CODE", "VARS")
            (folder / "vars.fd").write_bytes(names.read_bytes())
            argv += ["-machine", "q35", "-vga", "std", "-drive", f"if=pflash,format=raw,readonly=on,file={code}",
                     "-drive", f"if=pflash,format=raw,file={folder}/vars.fd"]  # fmt: skip
        else:
            # As the cloud's own driver runs it: no graphics, the firmware's screen on the serial line.
            argv += ["-machine", "q35,graphics=off,usb=off,sata=off,smbus=off,vmport=off,smm=off,hpet=off"]
        self.started = time.monotonic()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def cpu_seconds(self):
        """What it cost, which other load on the machine does not change."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def seconds(self):
        return time.monotonic() - self.started

    def log(self):
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def wait_for(self, text, deadline):
        while text not in self.log():
            if self.process.poll() is not None:
                raise SystemExit(f"boot: QEMU ended with status {self.process.returncode} before {text!r}")
            if self.seconds() > deadline:
                raise SystemExit(f"boot: no {text!r} on the console within {deadline} s; its end:\n{self.log()[-2000:]}")
            time.sleep(0.1)

    def ssh(self, user, command):
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "IdentitiesOnly=yes", "ConnectTimeout=20"]
        argv = ["ssh", "-p", str(self.port), "-i", self.key, *(w for o in options for w in ("-o", o)), f"{user}@127.0.0.1", command]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, timeout=180)
        if done.returncode:
            raise SystemExit(f"boot: `{command}` in the guest ended with status {done.returncode}")
        return done.stdout.strip()

    def power_button(self):
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.folder / "qmp.sock"))
            control.sendall(b'{"execute":"qmp_capabilities"}\n{"execute":"system_powerdown","id":"button"}\n')
            said = b""
            while b'"button"' not in said:
                said += control.recv(4096)
        self.process.wait(timeout=90)


TINY_TOOLS = "ip ping nc curl wget mkfs mkfs.ext4 mount lsblk blkid awk cut udhcpc hostname sudo dd md5sum timeout".split()


def check(guest, memory, firmware, keep_log):
    user = USERS[guest]
    with tempfile.TemporaryDirectory(prefix=f"solostack-boot-{guest}-") as folder:
        machine = Machine(guest, pathlib.Path(folder), memory, firmware)
        try:
            deadline = 240 if guest == "tiny" else 900
            machine.wait_for(MARKS[guest], deadline)
            ready, cost = machine.seconds(), machine.cpu_seconds()
            machine.wait_for("user-script-ran on booted", deadline)
            expect = {
                "hostname": "booted",
                "id -un": user,
                "sudo -n id -u": "0",
                "ping -c 1 -W 5 127.0.0.1 | grep -c ' 0% packet loss'": "1",
                "test -e /run/user-script && echo yes": "yes",
                "lsblk -dn -o SIZE /dev/vdc | tr -d ' '": "16M",
                "sudo sh -c 'mkfs.ext4 -q /dev/vdc && mount /dev/vdc /mnt && echo kept >/mnt/x && sync && cat /mnt/x && umount /mnt'": "kept",
                "ls /dev/disk/by-id/ | grep -c virtio-0123456789abcdef": "1",
                "bash -c 'set -o pipefail; false | true; echo $?'": "1",
                "sudo blkid -s LABEL -o value -L config-2 | grep -c /dev/": "1",
            }
            if guest == "tiny":
                expect[f"for t in {' '.join(TINY_TOOLS)}; do command -v $t >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v $t >/dev/null || echo no $t; done; echo end"] = "end"
                expect["sudo sh -c 'echo hello | timeout 5 nc -l -p 5555 -e cat & sleep 1; echo ping | nc -w 2 127.0.0.1 5555'"] = "ping"
            for command, answer in expect.items():
                said = machine.ssh(user, command)
                if said != answer:
                    raise SystemExit(f"boot: `{command}` said {said!r}, not {answer!r}")
            memory_line = machine.ssh(user, "grep -E 'MemTotal|MemAvailable' /proc/meminfo | awk '{printf \"%s %d MiB  \", $1, $2/1024}'")
            machine.power_button()
            print(f"{guest} {firmware} {memory} MiB: ready after {ready:.1f} s ({cost:.1f} s CPU), {memory_line}, off after {machine.seconds():.1f} s")
        finally:
            if machine.process.poll() is None:
                machine.process.kill()
                machine.process.wait()
            if keep_log:
                pathlib.Path(keep_log).write_text(machine.log())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("guest", choices=guests.GUESTS)
    parser.add_argument("--memory", type=int)
    parser.add_argument("--firmware", choices=["bios", "uefi"], default="bios")
    parser.add_argument("--keep-log")
    args = parser.parse_args()
    check(args.guest, args.memory or LEAST_MEMORY[args.guest, args.firmware], args.firmware, args.keep_log)
