"""The `.iso`, as its owner meets it: in a drive with nothing to write to, and from there on a disk."""

import subprocess
import time

from cloud import expect, say
from machine import Machine, forwarded
from updates import wait_for

BOOT_SECONDS, INSTALL_SECONDS = 900, 1800
DISK_BYTES = 16 << 30


def drive(iso):
    """A CD drive with this CD in it, from which the firmware starts what it cannot start from the disk."""
    return ["-drive", f"if=none,id=cd,file={iso},format=raw,media=cdrom,readonly=on", "-device", "ide-cd,drive=cd,bus=ide.0,bootindex=2"]


class Media:
    """The stories of `Appliance` about the medium."""

    MEDIA_STORIES = ("live", "live_bios", "unattended")

    def live(self):
        """From a CD everything runs, in memory; a disk that the owner names twice becomes one that starts."""
        self.empty()
        machine = self.on_cd()
        machine.shell(BOOT_SECONDS)
        self.until_ready(BOOT_SECONDS)
        expect("the state is in memory", machine.run("findmnt -no FSTYPE /var") == "tmpfs", machine.run("findmnt /var"))
        expect("the root is verified", "VERITY" in machine.run("cat /sys/dev/block/$(mountpoint -d /)/dm/uuid"))
        expect("it says that nothing is kept", "forgets" in machine.run("cat /run/solostack/live"))
        failed = machine.run("systemctl --failed --no-legend --plain || true")
        expect("nothing has failed", failed == "", failed)
        said = machine.run("solostack install --list")
        expect("the empty disk is offered", "vda" in said and "17 GB, empty" in said and "not taken" not in said, said)
        for words, why in {"echo vdb | solostack install vda": "another name", "solostack install vda": "nothing was answered",
                           "solostack install loop0 --yes": "runs from"}.items():  # fmt: skip
            status, said = machine.call(words)
            expect(f"`{words}` is refused", status == 1 and why in said, (status, said))
        expect("the disk is as it was", machine.run("cmp -n 16777216 /dev/vda /dev/zero && echo same") == "same")
        began = time.monotonic()
        said = machine.run("echo vda | solostack install vda", INSTALL_SECONDS)
        say(f"installed in {time.monotonic() - began:.0f} s: {said.splitlines()[-1]}")
        expect("a disk that has something says so", "has partitions: solostack-esp" in (said := machine.run("solostack install --list")), said)
        machine.power_cut()
        self.starts_from_disk("uefi")
        self.starts_from_disk("bios")

    def live_bios(self):
        """The same CD without UEFI."""
        self.empty()
        self.on_cd(firmware="bios")
        self.until_ready(BOOT_SECONDS)

    def unattended(self):
        """The disk is named on the kernel's command line: if it is empty it is taken, and once."""
        self.empty()
        began = time.monotonic()
        self.on_cd(words=["solostack.install=/dev/vda"])
        wait_for("it installs itself and switches itself off", lambda: not self.machine.running(), INSTALL_SECONDS, 1)
        expect("it says so on the console", "is on vda" in self.machine.console_end(1 << 20), self.machine.console_end())
        say(f"installed by itself {time.monotonic() - began:.0f} s after power on")
        table = self.table()
        machine = self.on_cd(words=["solostack.install=/dev/vda"])
        machine.shell(BOOT_SECONDS)
        wait_for("the second time it refuses", lambda: "failed" in machine.call("systemctl is-failed solostack-install.service")[1], BOOT_SECONDS, 2)
        said = machine.run("journalctl -b -u solostack-install.service --no-pager")
        expect("it says why", "is not empty" in said, said)
        machine.power_cut()
        expect("the disk is as it was", self.table() == table)
        self.starts_from_disk("uefi")

    # -- what they are made of ---------------------------------------------------------------------------------------------
    def empty(self):
        self.stop()
        iso = self.image.with_name(self.image.name.split(".raw")[0] + ".iso")
        expect(f"there is {iso.name} beside the image", iso.is_file())
        self.cd = drive(iso)
        self.disk.unlink(missing_ok=True)
        with open(self.disk, "wb") as file:
            file.truncate(DISK_BYTES)

    def on_cd(self, words=(), **options):
        self.machine = Machine(self.folder, self.disk, nics=[*forwarded(), *self.cd], memory_mib=self.args.memory, words=words, **options)
        return self.machine

    def starts_from_disk(self, firmware):
        """Without the CD, with its state on the disk."""
        self.machine = Machine(self.folder, self.disk, nics=forwarded(), memory_mib=self.args.memory, firmware=firmware)
        if firmware == "uefi":
            self.machine.shell(BOOT_SECONDS)
            self.until_ready(BOOT_SECONDS)
            expect("the state is on the disk", self.machine.run("findmnt -no FSTYPE /var") == "xfs")
        else:
            self.until_ready(BOOT_SECONDS)
        self.machine.power_cut()
        checked = subprocess.run(["sfdisk", "--verify", str(self.disk)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        expect("the partition table is sound", checked.returncode == 0, checked.stdout)
