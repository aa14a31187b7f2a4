#!/usr/bin/env python3
"""What can be done to a server, done to real guests by the stock client, and looked at from inside the guest.

    actions.py PROGRAM [--keep] [--driver tcg|kvm|auto] [--lane alive|disks|uefi] [--only STEP,...]

Three servers at the same time, each with its own steps: `alive` is about a guest that goes on (its memory, its consoles, its
network cards, images of it), `disks` about one that starts again (what its disks keep and what they do not), `uefi` about
rescuing one that boots by UEFI. Needs what
story.py needs, and qemu-img and e2fsprogs. Every step says what it does and when; the first thing that is not as it should be ends
the lane with the end of the program's log and the guests' consoles.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import cloud as host  # noqa: E402
import consoles  # noqa: E402
from cloud import Api, Cloud, ClientError, Failure, OpenStack, Ssh, expect, say, wait_for  # noqa: E402

# Emulated guests on a busy machine: patience costs nothing when all is well.
BOOT = 240
PASSWORD = "a Word of 4 words"
# Where the root file system of `tiny` lies in its disk.
ROOT_AT, MIB = 6, 1 << 20
POWER = {0: "pending", 1: "running", 3: "paused", 4: "shutdown", 6: "crashed", 7: "suspended"}


def rescuer(image, folder):
    """The guest's image with another name for its file system: two disks with one name could not be told apart."""
    disk, system, settings, target = (folder / name for name in ("rescuer.raw", "rescuer.ext4", "rescuer.cfg", "rescuer.qcow2"))
    host.output("qemu-img", "convert", "-O", "raw", image, disk)
    table = json.loads(host.output("sfdisk", "--json", disk))["partitiontable"]
    (root,) = [one for one in table["partitions"] if one["node"].endswith("1") and one["start"] == ROOT_AT * MIB // 512]
    # In blocks of a MiB, of which all partitions are made.
    host.output("dd", "status=none", f"if={disk}", f"of={system}", "bs=1M", f"skip={ROOT_AT}", f"count={root['size'] * 512 // MIB}")
    before, after = host.output("blkid", "-p", "-s", "UUID", "-o", "value", system).strip(), str(uuid.uuid4())
    settings.write_text(host.output("debugfs", "-R", "cat /boot/grub/grub.cfg", system).replace(before, after))
    host.output("tune2fs", "-U", after, "-L", "rescuer", system)
    for command in ("rm /boot/grub/grub.cfg", f"write {settings} /boot/grub/grub.cfg", f"write {settings} /etc/rescuer"):
        subprocess.run(["debugfs", "-w", "-R", command, system], check=True, capture_output=True)
    host.output("dd", "status=none", f"if={system}", f"of={disk}", "bs=1M", f"seek={ROOT_AT}", "conv=notrunc")
    # The loader for UEFI, in the partition before it, looks for the file system by this very name.
    with open(disk, "r+b") as file:
        front = file.read(ROOT_AT * MIB)
        expect("the loader for UEFI names its file system", before.encode() in front)
        file.seek(0)
        file.write(front.replace(before.encode(), after.encode()))
    host.output("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, target)
    for path in (disk, system, settings):
        path.unlink()
    return target


class Lane:
    """One server and what is done to it, as an ordinary member of a project."""

    name, flavor, words, image = "", "act.small", "", "guest"

    def __init__(self, stage):
        self.stage, self.cloud, self.folder = stage, stage.cloud, stage.folder
        self.openstack, self.admin = stage.member, stage.admin
        self.api, self.boss = stage.member_api, stage.admin_api
        self.key = stage.keys[self.name]

    def say(self, text):
        say(f"{self.name}: {text}")

    def tell(self, only):
        for step in self.STEPS:
            if only and step.__name__ not in only and step not in self.ALWAYS:
                continue
            began = time.monotonic()
            self.say(f"-- {step.__name__.replace('_', ' ')}")
            step(self)
            self.say(f"   took {time.monotonic() - began:.1f} s")

    # -- what the API says -------------------------------------------------------------------------------------------------
    def show(self, server_id=None, api=None):
        return (api or self.api).get("compute", f"/servers/{server_id or self.id}", **{"OpenStack-API-Version": "compute 2.90"})["server"]

    def until(self, status, seconds=120, server_id=None, power=None):
        def probe():
            server = self.show(server_id)
            if server["status"] == "ERROR" and status != "ERROR":
                raise Failure(f"{server['name']} is in ERROR: {server.get('fault')}; {self.log_of(server['id'])}")
            return server["status"] == status and server["OS-EXT-STS:task_state"] is None and server

        server = wait_for(f"the server is {status}", probe, seconds)
        if power:
            expect(f"its power state is {power}", POWER[server["OS-EXT-STS:power_state"]] == power, server["OS-EXT-STS:power_state"])
        return server

    def log_of(self, server_id):
        return [(row["action"], row["message"]) for row in self.api.get("compute", f"/servers/{server_id}/os-instance-actions")["instanceActions"][:3]]

    def refused(self, *words, saying=""):
        """The client's command, which must fail with these words."""
        try:
            self.openstack(*words)
        except ClientError as error:
            expect(f"`{words[0]}` is refused with a reason", saying.lower() in error.text.lower(), error.text.strip()[-600:])
            return error.text.strip().splitlines()[-1]
        raise Failure(f"`openstack {words[0]}` was not refused")

    # -- the guest ---------------------------------------------------------------------------------------------------------
    def create(self, name, image, more=""):
        began = time.monotonic()
        self.openstack(f"server create --image {image} --flavor {self.flavor} --network private --key-name {self.name} {more} --wait {name}")
        server_id = self.openstack(f"server show -f value -c id {name}")
        self.say(f"{name} is ACTIVE after {time.monotonic() - began:.1f} s")
        return server_id

    def address_of(self, name):
        address = self.openstack.json("floating ip create public")["floating_ip_address"]
        self.openstack(f"server add floating ip {name} {address}")
        return address

    def reachable(self, ssh, what="ssh with the key works"):
        began = time.monotonic()
        wait_for(what, ssh.answers, BOOT, 0.5)
        self.say(f"{what}, {time.monotonic() - began:.1f} s later")

    def boot_id(self):
        return self.ssh("cat /proc/sys/kernel/random/boot_id")

    def booted_again(self, before, seconds=BOOT):
        def probe():
            try:
                return (now := self.boot_id()) != before and now
            except (Failure, subprocess.TimeoutExpired):
                return None

        began = time.monotonic()
        now = wait_for("the guest came up with a new boot id", probe, seconds, 0.5)
        self.say(f"the guest is up again, {time.monotonic() - began:.1f} s later")
        return now

    def processes(self, server_id=None):
        """The server's process and what it started."""
        return {pid: line for pid, line in host.processes().items() if (server_id or self.id) in line}

    def first_boot(self):
        self.id = self.create(self.name, self.image, self.words)
        self.address = self.address_of(self.name)
        self.ssh = Ssh("tiny", self.address, self.key)
        self.reachable(self.ssh)
        expect("the host name is the server's", self.ssh("hostname") == self.name)

    def write(self, path, text):
        self.ssh(f"echo '{text}' | sudo tee {path} >/dev/null; sync")

    def read(self, path, ssh=None):
        return (ssh or self.ssh)(f"sudo cat {path} 2>/dev/null || echo absent")


class Alive(Lane):
    """A guest that goes on."""

    name = "alive"

    def the_client_logs_in(self):
        """`openstack server ssh`, with a key that the client has made."""
        expect("the private key is one of ed25519 or RSA", "PRIVATE KEY" in self.key.read_text())
        words = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes"
        said = self.openstack(f"server ssh {self.name} -- -i {self.key} -l tiny {words} hostname")
        expect("`server ssh` reaches the guest by its floating address", said.splitlines()[-1:] == [self.name], said)

    def a_witness_in_memory(self):
        """A process, and a word on a file system in memory: neither survives a boot."""
        self.ssh("sudo sh -c 'echo remembered >/run/word; (while :; do read -r up _ </proc/uptime; echo $up >/run/alive; sleep 1; done) >/dev/null 2>&1 </dev/null & echo $! >/run/witness'")
        self.witness = (self.boot_id(), self.ssh("cat /run/witness"))

    def witness_lives(self):
        seen = (self.boot_id(), self.ssh("cat /run/witness"))
        expect("the guest did not boot", seen == self.witness, (seen, self.witness))
        expect("its memory is what it was", self.ssh("cat /run/word") == "remembered")
        expect("its process is there", self.ssh(f"sudo kill -0 {self.witness[1]} && echo yes") == "yes")
        before = self.ssh("cat /run/alive")
        wait_for("and goes on", lambda: self.ssh("cat /run/alive") != before, 30, 0.5)

    def cpu_time(self):
        total = 0
        for pid in self.processes():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / 100

    def pause_and_unpause(self):
        self.openstack(f"server pause {self.name}")
        self.until("PAUSED", power="paused")
        before = self.cpu_time()
        expect("nothing answers when it is paused", not host.tcp_answers(self.address, 22, 3))
        used = self.cpu_time() - before
        expect("a paused guest takes no time", used < 0.5, f"{used} s of CPU in 3 s")
        self.refused(f"server pause {self.name}", saying="paused")
        self.openstack(f"server unpause {self.name}")
        self.until("ACTIVE", power="running")
        self.witness_lives()

    def suspend_and_resume(self):
        began = time.monotonic()
        self.openstack(f"server suspend {self.name}")
        self.until("SUSPENDED")
        self.say(f"suspended in {time.monotonic() - began:.1f} s")
        expect("a suspended server has no process", not self.processes(), self.processes())
        began = time.monotonic()
        self.openstack(f"server resume {self.name}")
        self.until("ACTIVE", power="running")
        self.say(f"resumed in {time.monotonic() - began:.1f} s")
        self.witness_lives()
        skew = abs(int(self.ssh("date +%s")) - time.time())
        expect("its clock has not stood still", skew < 30, f"{skew:.0f} s off")

    def console_output(self):
        text = self.openstack(f"console log show {self.name}")
        expect("the kernel's first line is in the console log", "Linux version" in text, text[:300])
        expect("and the user's script", f"user-data says hello from {self.name}" in text, text[-600:])
        lines = self.openstack(f"console log show --lines 3 {self.name}").splitlines()
        expect("three lines are the last three", 0 < len(lines) <= 3 and lines[-1] in text, lines)

    def diagnostics(self):
        """What upstream's 2.48 has: counters of disks and cards that move with what the guest does."""
        def counted():
            return self.boss.get("compute", f"/servers/{self.id}/diagnostics", **{"OpenStack-API-Version": "compute 2.48"})

        before = counted()
        self.ssh("dd if=/dev/urandom of=data bs=64k count=16 2>/dev/null; sync; ls -l data")
        sent = len(self.ssh("head -c 300000 /dev/zero | tr '\\0' x"))
        after = counted()
        (nic,), (then,) = after["nic_details"], before["nic_details"]
        expect("the guest's writes are counted", after["disk_details"][0]["write_bytes"] - before["disk_details"][0]["write_bytes"] >= 1 << 20, (before, after))
        expect("what the guest sent is counted as sent", sent == 300000 and nic["tx_octets"] - then["tx_octets"] > 300000, (then, nic))
        expect("what it received as received", 0 < nic["rx_octets"] - then["rx_octets"] < 300000 and nic["rx_packets"] > then["rx_packets"], (then, nic))
        expect("the card is named by its address", nic["mac_address"] == self.show()["addresses"]["private"][0]["OS-EXT-IPS-MAC:mac_addr"], nic)
        shown = self.admin.json(f"server show --diagnostics {self.id}")
        expect("the client shows diagnostics", shown, shown)

    # -- the agent and passwords ---------------------------------------------------------------------------------------------
    def password(self):
        self.openstack(f"server set --password '{PASSWORD}' {self.name}")
        self.say("the agent has set root's password")

    def password_without_an_agent(self):
        self.ssh("sudo killall qemu-ga; while pidof qemu-ga >/dev/null; do usleep 100000; done")
        self.say(self.refused(f"server set --password other {self.name}", saying="because no guest agent answers"))
        self.ssh("sudo sh -c '. /etc/init.d/services; agent'")

    def serial_console(self):
        url = self.openstack(f"console url show --serial -f value -c url {self.name}")
        line = consoles.Serial(url, self.stage.authority)
        line.log_in("root", PASSWORD)
        said = line.answer("cat /run/word; id -u")
        expect("a command on the serial console answers", said.split() == ["remembered", "0"], said)
        line.type("exit")
        line.close()
        try:
            consoles.WebSocket(url, self.stage.authority).close()
            raise Failure("a token was good for a second connection")
        except consoles.Refused as refused:
            expect("a token is good once", refused.status in (401, 403, 404), refused.status)

    def screen(self):
        url = self.openstack(f"console url show --novnc -f value -c url {self.name}")
        screen = consoles.Screen(url, self.stage.authority)
        self.say(f"a screen of {screen.width} x {screen.height}, {screen.pixel_bytes} bytes a pixel, called {screen.name!r}")
        expect("the screen has a size", screen.width >= 640 and screen.height >= 400, (screen.width, screen.height))

        def picture(incremental):
            found = screen.look(incremental)
            return found, {pixels[at : at + screen.pixel_bytes] for *_, pixels in found for at in range(0, len(pixels), screen.pixel_bytes)}

        found, colours = picture(False)
        expect("the whole screen comes", sum(width * height for _, _, width, height, _ in found) == screen.width * screen.height, [r[:4] for r in found])
        expect("something is on it", len(colours) > 1, len(colours))
        screen.type("tiny\n")
        found, colours = picture(True)
        expect("what is typed shows", len(colours) > 1 or found, [r[:4] for r in found])
        who = wait_for("the guest's login has heard the keyboard", lambda: "login" in (said := self.ssh("ps -o args")) and re.search(r"login -- tiny|-?login .*tiny|login tiny", said), 30, 1)
        self.say(f"the guest runs `{who.group(0)}`")
        screen.close()

    # -- cards ---------------------------------------------------------------------------------------------------------------
    def cards(self):
        return set(self.ssh("cd /sys/class/net; for n in eth*; do cat $n/address; done").split())

    def interfaces_come_and_go(self):
        before = self.cards()
        self.openstack(f"server add network {self.name} second")
        (row,) = self.api.get("network", f"/v2.0/ports?device_id={self.id}&network_id={self.stage.second}")["ports"]
        mac, address = row["mac_address"], row["fixed_ips"][0]["ip_address"]
        wait_for("the guest sees the new card", lambda: self.cards() == before | {mac}, 60, 0.5)
        self.ssh("sudo ip link set eth1 up && sudo udhcpc -n -q -i eth1 -s /etc/udhcpc/script >/dev/null 2>&1")
        expect("and gets its address on it", address in self.ssh("ip -o -4 addr show dev eth1"))
        expect("both are up", all(p["status"] == "ACTIVE" for p in self.api.get("network", f"/v2.0/ports?device_id={self.id}")["ports"]))
        diagnosed = self.boss.get("compute", f"/servers/{self.id}/diagnostics", **{"OpenStack-API-Version": "compute 2.48"})
        counts = {nic["mac_address"]: nic["rx_packets"] for nic in diagnosed["nic_details"]}
        expect("diagnostics count the new card too", counts.get(mac, 0) > 0, diagnosed["nic_details"])
        self.openstack(f"server remove network {self.name} second")
        wait_for("the guest has let go of it", lambda: self.cards() == before, 90, 0.5)
        wait_for("the port is gone", lambda: not self.api.get("network", f"/v2.0/ports?device_id={self.id}&network_id={self.stage.second}")["ports"], 60)
        self.witness_lives()

    # -- images of it ----------------------------------------------------------------------------------------------------------
    def image_of_the_running_server(self):
        self.write("/etc/before", "written before the image")
        self.ssh("sudo rm -f /run/fsfreeze")
        began = time.monotonic()
        self.openstack(f"server image create --name copy --wait {self.name}", seconds=BOOT)
        self.until("ACTIVE")
        self.say(f"image made in {time.monotonic() - began:.1f} s")
        frozen = [line.split()[0] for line in self.ssh("sudo cat /run/fsfreeze").splitlines()]
        expect("the agent froze the file systems, and thawed them", frozen == ["freeze", "thaw"], frozen)
        self.write("/etc/after", "written after the image")
        image = self.openstack.json("image show copy")
        expect("the image says of whom it is", image["properties"].get("instance_uuid", image.get("instance_uuid")) == self.id, image)
        self.witness_lives()

    def image_without_an_agent(self):
        """The guest is paused for the copy, and goes on."""
        self.ssh("sudo killall qemu-ga; sudo rm -f /run/fsfreeze")
        self.openstack(f"server image create --name paused --wait {self.name}", seconds=BOOT)
        self.until("ACTIVE", power="running")
        self.witness_lives()
        self.ssh("sudo sh -c '. /etc/init.d/services; agent'")
        self.openstack("image delete paused")

    def a_server_of_the_image(self):
        self.twin_id = self.create("twin", "copy", "--property purpose=twin")
        self.twin_address = self.address_of("twin")
        self.twin = Ssh("tiny", self.twin_address, self.key)
        self.reachable(self.twin, "the server of the image answers")
        expect("it has the file of before", self.read("/etc/before", self.twin) == "written before the image")
        expect("and not the one of after", self.read("/etc/after", self.twin) == "absent")
        expect("its name is its own", self.twin("hostname") == "twin")

    def rebuild(self):
        before = self.twin("cat /proc/sys/kernel/random/boot_id")
        self.openstack("server rebuild --image guest --wait twin", seconds=BOOT)
        wait_for("the rebuilt guest answers", lambda: self.twin.answers() and self.twin("cat /proc/sys/kernel/random/boot_id") != before, BOOT, 0.5)
        server = self.show(self.twin_id)
        expect("its metadata was kept", server["metadata"] == {"purpose": "twin"}, server["metadata"])
        expect("its addresses too", self.twin_address in str(server["addresses"]), server["addresses"])
        expect("its disk is new", self.read("/etc/before", self.twin) == "absent")
        self.openstack("server delete --wait twin")
        self.openstack(f"floating ip delete {self.twin_address}")

    def backups_rotate(self):
        for name in ("monday", "tuesday", "wednesday"):
            self.openstack(f"server backup create --name {name} --type daily --rotate 2 --wait {self.name}", seconds=BOOT)
            self.until("ACTIVE")
        names = wait_for("the oldest backup is gone", lambda: (seen := {row["Name"] for row in self.openstack.json("image list --private")}) and "monday" not in seen and seen, 30)
        expect("two are kept", {"tuesday", "wednesday"} <= names, names)
        self.openstack("image delete tuesday wednesday copy")

    def lock(self):
        self.openstack(f"server lock --reason inventory {self.name}")
        self.refused(f"server pause {self.name}", saying="locked")
        self.refused(f"server delete --wait {self.name}", saying="locked")
        server = self.show()
        expect("the lock and its reason are shown", (server["locked"], server["locked_reason"]) == (True, "inventory"), server)
        self.openstack(f"server unlock {self.name}")
        self.witness_lives()

    def soft_reboot(self):
        before = self.boot_id()
        self.openstack(f"server reboot --wait {self.name}", seconds=BOOT)
        self.booted_again(before)
        text = self.openstack(f"console log show {self.name}")
        expect("the guest shut down in order", "solostack-guest stopping" in text, text[-800:])
        expect("its disk is as it was", self.read("/etc/before") == "written before the image")
        expect("its memory is not", self.read("/run/word") == "absent")

    def the_guest_switches_itself_off(self):
        self.ssh("sudo sh -c 'sleep 1; poweroff' >/dev/null 2>&1 </dev/null &")
        server = self.until("SHUTOFF", power="shutdown")
        expect("nobody asked for it", server["OS-EXT-STS:vm_state"] == "stopped", server["OS-EXT-STS:vm_state"])
        expect("no process is left of it", not self.processes(), self.processes())
        said = self.openstack(f"server show -f value -c OS-EXT-STS:power_state -c status {self.name}").split()
        expect("the client shows that too", said == ["4", "SHUTOFF"], said)

    def delete(self):
        self.openstack(f"server delete --wait {self.name}")
        self.openstack(f"floating ip delete {self.address}")

    STEPS = [
        Lane.first_boot, a_witness_in_memory, the_client_logs_in, console_output, password, serial_console, password_without_an_agent, screen,
        pause_and_unpause, suspend_and_resume, diagnostics, interfaces_come_and_go, image_of_the_running_server, a_server_of_the_image, rebuild,
        image_without_an_agent, backups_rotate, lock, soft_reboot, the_guest_switches_itself_off, delete,
    ]  # fmt: skip
    ALWAYS = [Lane.first_boot, a_witness_in_memory, delete]


class Disks(Lane):
    """A guest that starts again and again."""

    name = "disks"
    words = "--config-drive true --property colour=blue"

    def config_drive(self):
        """As cloud-init looks for it: by its label."""
        self.ssh("sudo mkdir -p /mnt/config && sudo mount -o ro $(sudo blkid -L config-2) /mnt/config")
        kind = self.ssh("awk '$2 == \"/mnt/config\" {print $3}' /proc/mounts")
        files = self.ssh("cd /mnt/config && find . -type f").split()
        self.say(f"config drive is {kind} with {len(files)} files")
        expect("a config drive is ISO 9660 unless the configuration says otherwise", kind == "iso9660", kind)
        for tree in ("openstack/latest", "openstack/2018-08-27", "ec2/latest"):
            expect(f"it has {tree}", any(f.startswith(f"./{tree}/") for f in files), files)
        meta = json.loads(self.ssh("cat /mnt/config/openstack/latest/meta_data.json"))
        expect("its metadata names the server", (meta["uuid"], meta["name"], meta["meta"]) == (self.id, self.name, {"colour": "blue"}), meta)
        links = json.loads(self.ssh("cat /mnt/config/openstack/latest/network_data.json"))["links"]
        mac = self.show()["addresses"]["private"][0]["OS-EXT-IPS-MAC:mac_addr"]
        expect("its network data has the card", [link["ethernet_mac_address"] for link in links] == [mac], links)
        served = json.loads(self.ssh("curl -s http://169.254.169.254/openstack/latest/meta_data.json"))
        expect("the metadata service says the same", all(served[key] == meta[key] for key in ("uuid", "hostname", "meta", "public_keys")), (served, meta))
        given = self.ssh("cat /mnt/config/openstack/latest/user_data")
        expect("the user's script is in it", given == self.stage.script.read_text().strip(), given)
        expect("and has run", self.read("/root/user-data-ran") == f"hello from {self.name}", self.read("/root/user-data-ran"))
        expect("the guest took what it is from there", "seed: source: config drive" in self.openstack(f"console log show {self.name}"))
        self.ssh("sudo umount /mnt/config")
        self.write("/etc/kept", "on the first disk")

    # -- rescue ----------------------------------------------------------------------------------------------------------------
    def rescue(self):
        before = self.boot_id()
        self.openstack(f"server rescue --image rescuer {self.name}")
        self.until("RESCUE", BOOT, power="running")
        self.booted_again(before)
        expect("the rescuer runs", self.read("/etc/rescuer") != "absent")
        disks = self.ssh("ls /sys/block").split()
        self.ssh("sudo mkdir -p /mnt/own && sudo mount $(sudo findfs LABEL=tiny-root) /mnt/own")
        device = self.ssh("awk '$2 == \"/mnt/own\" {print $1}' /proc/mounts")
        self.say(f"disks {disks}, its own is {device}")
        expect("the server's own disk is where it always was: the first", device == "/dev/vda1", (device, disks))
        expect("with what was on it", self.read("/mnt/own/etc/kept") == "on the first disk")
        self.ssh("echo 'mended in rescue' | sudo tee /mnt/own/etc/mended >/dev/null && sudo umount /mnt/own && sync")
        self.refused(f"server pause {self.name}", saying="rescued")
        before = self.boot_id()
        self.openstack(f"server unrescue {self.name}")
        self.until("ACTIVE", BOOT, power="running")
        self.booted_again(before)
        expect("its own disk boots again, mended", (self.read("/etc/mended"), self.read("/etc/rescuer")) == ("mended in rescue", "absent"))
        expect("one root disk is there", not self.ssh("sudo findfs LABEL=rescuer 2>/dev/null || true"))

    # -- resize ----------------------------------------------------------------------------------------------------------------
    def shape(self):
        """MiB of memory less what the kernel keeps, GiB of the root disk."""
        memory = int(self.ssh("awk '/^MemTotal:/ {print $2}' /proc/meminfo")) // 1024
        return memory, int(self.ssh("cat /sys/block/vda/size")) * 512 / (1 << 30)

    def resize(self, flavor):
        before = self.boot_id()
        self.openstack(f"server resize --flavor {flavor} {self.name}")
        self.until("VERIFY_RESIZE", BOOT, power="running")
        return self.booted_again(before)

    def resize_and_confirm(self):
        memory, disk = self.shape()
        self.resize("act.big")
        more, larger = self.shape()
        expect("the guest has the new flavor's memory", 64 < memory < 128 < more < 224, (memory, more))
        expect("and its disk", (disk, larger) == (1, 2), (disk, larger))
        self.openstack(f"server resize confirm {self.name}")
        server = self.until("ACTIVE", power="running")
        expect("the flavor is the new one", server["flavor"]["original_name"] == "act.big", server["flavor"])
        expect("the disk's contents were kept", self.read("/etc/kept") == "on the first disk")

    def resize_and_revert(self):
        self.refused(f"server resize --flavor act.small {self.name}", saying="disk")
        self.resize("act.huge")
        memory, disk = self.shape()
        expect("the guest has the third flavor's shape", 224 < memory < 320 and disk == 3, (memory, disk))
        self.write("/etc/lost", "written after the resize")
        before = self.boot_id()
        self.openstack(f"server resize revert {self.name}")
        server = self.until("ACTIVE", BOOT, power="running")
        self.booted_again(before)
        memory, disk = self.shape()
        expect("the guest is as it was", 128 < memory < 224 and disk == 2 and server["flavor"]["original_name"] == "act.big", (memory, disk, server["flavor"]))
        expect("its disk too", (self.read("/etc/kept"), self.read("/etc/lost")) == ("on the first disk", "absent"))

    # -- shelve ----------------------------------------------------------------------------------------------------------------
    def shelve_and_unshelve(self):
        addresses = self.show()["addresses"]
        began = time.monotonic()
        self.openstack(f"server shelve --offload --wait {self.name}", seconds=BOOT)
        self.until("SHELVED_OFFLOADED")
        self.say(f"shelved and offloaded in {time.monotonic() - began:.1f} s")
        expect("nothing of it runs", not self.processes(), self.processes())
        allocated = self.boss.get("placement", f"/allocations/{self.id}")["allocations"]
        expect("and it takes nothing of the host", not allocated, allocated)
        began = time.monotonic()
        self.openstack(f"server unshelve --wait {self.name}", seconds=BOOT)
        self.say(f"unshelved in {time.monotonic() - began:.1f} s")
        self.until("ACTIVE", power="running")
        self.reachable(self.ssh, "the unshelved guest answers")
        expect("the disk's contents were kept", (self.read("/etc/kept"), self.read("/etc/mended")) == ("on the first disk", "mended in rescue"))
        expect("its addresses too", self.show()["addresses"] == addresses, (addresses, self.show()["addresses"]))
        images = [row["Name"] for row in self.openstack.json("image list --private")]
        expect("the image that it was shelved to is gone", f"{self.name}-shelved" not in images, images)

    def hard_reboot_of_a_hung_guest(self):
        before = self.boot_id()
        self.ssh("sudo sh -c 'sleep 1; echo c >/proc/sysrq-trigger' >/dev/null 2>&1 </dev/null &")
        wait_for("the guest does not answer any more", lambda: not host.tcp_answers(self.address, 22, 2), 30)
        self.openstack(f"server reboot --hard --wait {self.name}", seconds=BOOT)
        self.booted_again(before)

    def delete(self):
        self.openstack(f"server delete --wait {self.name}")
        self.openstack(f"floating ip delete {self.address}")

    STEPS = [Lane.first_boot, config_drive, rescue, resize_and_confirm, resize_and_revert, shelve_and_unshelve, hard_reboot_of_a_hung_guest, delete]
    ALWAYS = [Lane.first_boot, config_drive, delete]


class Uefi(Lane):
    """A guest that boots by UEFI, and what rescues it."""

    name, flavor, image = "uefi", "act.huge", "guest-uefi"

    def boots_by_uefi(self):
        return self.ssh("test -d /sys/firmware/efi && echo yes || echo no") == "yes"

    def boots(self):
        expect("the guest was booted by UEFI", self.boots_by_uefi())
        self.write("/etc/kept", "on the first disk")

    rescue = Disks.rescue

    def rescue_by_uefi(self):
        self.rescue()
        expect("it boots by UEFI again", self.boots_by_uefi())

    def rescue_without_uefi(self):
        """An image for other firmware, which brings its own kind of machine and comes first."""
        before = self.boot_id()
        self.openstack(f"server rescue --image rescuer-bios {self.name}")
        self.until("RESCUE", BOOT, power="running")
        self.booted_again(before)
        expect("the rescuer runs", self.read("/etc/rescuer") != "absent")
        expect("and was booted as its image says", not self.boots_by_uefi())
        device = self.ssh("sudo findfs LABEL=tiny-root")
        expect("the server's own disk comes second", device == "/dev/vdb1", device)
        before = self.boot_id()
        self.openstack(f"server unrescue {self.name}")
        self.until("ACTIVE", BOOT, power="running")
        self.booted_again(before)
        expect("it boots by UEFI again", self.boots_by_uefi() and self.read("/etc/rescuer") == "absent")

    delete = Disks.delete

    STEPS = [Lane.first_boot, boots, rescue_by_uefi, rescue_without_uefi, delete]
    ALWAYS = [Lane.first_boot, boots, delete]


LANES = {lane.name: lane for lane in (Alive, Disks, Uefi)}


class Stage:
    """The cloud, and what all lanes need in it."""

    def __init__(self, cloud, folder):
        self.cloud, self.folder = cloud, folder

    def bring_up(self):
        say(f"ready after {self.cloud.start():.2f} s")
        environment = self.cloud.sourced()
        self.authority = environment["OS_CACERT"]
        self.admin, self.admin_api = OpenStack(environment), Api(environment)
        project = environment["OS_PROJECT_NAME"]
        self.admin(f"user create --password member-of-it --project {project} worker")
        self.admin(f"role add --user worker --project {project} member")
        environment = environment | {"OS_USERNAME": "worker", "OS_PASSWORD": "member-of-it"}
        self.member, self.member_api = OpenStack(environment), Api(environment)
        image = host.guest_image("tiny")
        self.admin(f"image create --public --disk-format qcow2 --container-format bare --file {image} guest")
        other = rescuer(image, self.folder)
        for name, file, properties in (
            ("guest-uefi", image, "--property hw_firmware_type=uefi"),
            ("rescuer", other, "--property hw_rescue_device=disk --property hw_rescue_bus=virtio"),
            ("rescuer-bios", other, ""),
        ):
            self.admin(f"image create --public --disk-format qcow2 --container-format bare {properties} --file {file} {name}")
        for name, ram, disk in (("small", 128, 1), ("big", 224, 2), ("huge", 320, 3)):
            self.admin(f"flavor create --ram {ram} --disk {disk} --vcpus 1 act.{name}")
        say("images and flavors are there")
        self.keys = {name: self.folder / f"key-{name}" for name in LANES}
        # Those that the client makes itself, and one that the user brings.
        for name in ("alive", "uefi"):
            self.member(f"keypair create --private-key {self.keys[name]} {name}")
            self.keys[name].chmod(0o600)
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "me@here", "-f", self.keys["disks"]], check=True)
        self.member(f"keypair create --public-key {self.keys['disks']}.pub disks")
        groups = self.member.json(f"security group list --project {self.admin_api.project_id}")
        group = next(row["ID"] for row in groups if row["Name"] == "default")
        self.member(f"security group rule create --proto tcp --dst-port 22 {group}")
        self.second = self.member.json("network create second")["id"]
        self.member("subnet create --network second --subnet-range 10.77.0.0/24 second")
        self.script = self.folder / "user-data.sh"
        self.script.write_text("#!/bin/sh\necho user-data says hello from $(hostname)\necho hello from $(hostname) >/root/user-data-ran\n")
        for lane in LANES.values():
            lane.words = f"--user-data {self.script} {lane.words}"

    def run(self, chosen, only):
        """Each lane in a process of its own; returns those that failed."""
        running = {}
        for name in chosen:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    LANES[name](self).tell(only)
                    say(f"{name}: all of it held")
                    status = 0
                except (Failure, subprocess.SubprocessError, OSError) as failure:
                    say(f"{name}: FAILED: {failure}")
                finally:
                    sys.stdout.flush()
                    os._exit(status)
            running[child] = name
        failed = []
        while running:
            pid, status = os.wait()
            if name := running.pop(pid, None):
                failed += [name] if status else []
        return failed

    def nothing_is_left(self):
        def left():
            found = [f"tap {tap}" for tap in host.taps()]
            found += [f"process {p}: {line}" for p, line in host.processes().items() if "qemu-system" in line or " vm " in line]
            found += [f"file {path}" for path in (self.cloud.state / "servers").iterdir()]
            found += [f"image {row['Name']}" for row in self.admin.json("image list") if row["Name"] not in ("guest", "guest-uefi", "rescuer", "rescuer-bios")]
            owned = [row for row in self.admin_api.get("network", "/v2.0/ports")["ports"] if row["device_owner"].startswith("compute:")]
            found += [f"port {row['id']}" for row in owned]
            found += [f"floating address {row['floating_ip_address']}" for row in self.admin_api.get("network", "/v2.0/floatingips")["floatingips"]]
            for provider in self.admin_api.get("placement", "/resource_providers")["resource_providers"]:
                usages = self.admin_api.get("placement", f"/resource_providers/{provider['uuid']}/usages")["usages"]
                found += [f"usage {usages}" for _ in range(1) if any(usages.values())]
            return found

        deadline = time.monotonic() + 20
        while (found := left()) and time.monotonic() < deadline:
            time.sleep(0.5)
        expect("nothing of the servers is left", not found, found)
        say("nothing of the servers is left")
        self.cloud.stop(10)
        self.cloud.down()
        expect("nothing is left at the end", (host.namespaces(), host.links(), host.rules()) == ([], [], []), (host.namespaces(), host.links()))

    def explain(self):
        print(f"\n--- end of {self.cloud.log}\n{self.cloud.log_end()}", file=sys.stderr)
        for path in sorted(self.cloud.state.glob("servers/*/console.log")):
            print(f"--- end of {path}\n{path.read_text(errors='replace')[-2500:]}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run (state, logs)")
    parser.add_argument("--driver", default="tcg")
    parser.add_argument("--lane", choices=sorted(LANES), help="only this one")
    parser.add_argument("--only", default="", help="of a lane's steps, these and what they need, for example serial_console,screen")
    args = host.entered(parser)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="solostack-actions-"))
    cloud = Cloud(args.program.resolve(), folder, ["--driver", args.driver])
    stage = Stage(cloud, folder)
    status = 1
    try:
        stage.bring_up()
        failed = stage.run([args.lane] if args.lane else LANES, {word for word in args.only.split(",") if word})
        expect("all lanes came to their end", not failed, failed)
        stage.nothing_is_left()
        say("all of it held")
        status = 0
    except (Failure, subprocess.SubprocessError) as failure:
        say(f"FAILED: {failure}")
        stage.explain()
    finally:
        if cloud.process and cloud.process.poll() is None:
            os.kill(cloud.process.pid, signal.SIGKILL)
        if args.keep or status:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
