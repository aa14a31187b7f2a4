#!/usr/bin/env python3
"""Servers on the built-in hypervisor, as a user runs them: the program runs in a machine with a true KVM (tests/guests/l1),
the stock client talks to it from outside.

    kvm.py PROGRAM [--keep] [--vcpus 1,2] [--single] [--only STEP,...] [--driver auto|kvm|fake] [--hold SECONDS] [--guest tiny|debian] [--older PROGRAM]

PROGRAM is the built `solostack`. Needs python-openstackclient in the interpreter that runs this (tests/setup/tools makes
one), QEMU for the machine, and the guest `tiny`; neither root nor KVM. Every step prints what it does and when; the first
thing that is not as it should be ends the run with status 1, the end of the logs and the guests' consoles.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "guests/l1"))

import cloud as host  # noqa: E402
import l1  # noqa: E402
from cloud import Api, ClientError, Failure, OpenStack, expect, say, wait_for  # noqa: E402

STATE = "/var/lib/solostack"
# Where the machine has the program under test, and the one before it.
NEWEST, OLDER = "/usr/local/bin/solostack", "/mnt/solostack"
SSH = "ssh -i /root/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=30"
# MiB of memory, GiB of disk, what is said on the console when ssh answers, and seconds for a boot: everything runs at a
# fiftieth of a real machine's speed, and other things on the host too.
SHAPES = {"tiny": (256, 1, "solostack-guest ready: {}", 300), "debian": (512, 3, "{} login:", 900)}
# How often a network card comes and goes.
ROUNDS = 20


class InTheMachine:
    """The program inside the L1: how it is started, killed and looked at."""

    def __init__(self, machine, port, driver, program=NEWEST):
        self.machine, self.port, self.driver, self.program = machine, port, driver, program
        self.log = "/root/serve.log"

    def start(self, seconds=180):
        began = time.monotonic()
        arguments = f"--state {STATE} --https-port {self.port} --http-port 0 --service-ports off --public-host 127.0.0.1 --driver {self.driver}"
        self.machine.run(f"setsid {self.program} serve {arguments} </dev/null >/root/serve.out 2>>{self.log} & echo $! >/root/serve.pid")
        while not (line := self.machine.run("cat /root/serve.out")):
            if self.machine.call("kill -0 $(cat /root/serve.pid)")[0]:
                raise Failure(f"serve ended before it was ready:\n{self.log_end()}")
            if time.monotonic() - began > seconds:
                raise Failure(f"serve was not ready within {seconds} s:\n{self.log_end()}")
            time.sleep(0.2)
        expect("serve says where it is reached", line == f"ready https://127.0.0.1:{self.port}", line)
        return time.monotonic() - began

    def kill(self):
        self.machine.run("kill -9 $(cat /root/serve.pid); while kill -0 $(cat /root/serve.pid) 2>/dev/null; do sleep 0.1; done; rm /root/serve.out")

    def stop(self):
        self.machine.run("kill $(cat /root/serve.pid); while kill -0 $(cat /root/serve.pid) 2>/dev/null; do sleep 0.1; done; rm /root/serve.out", 60)

    def log_end(self, lines=25):
        text = self.machine.call(f"cat {self.log}")[1].decode(errors="replace").splitlines()
        loud = [line for line in text if " INFO " not in line and " DEBUG " not in line]
        return "\n".join([*loud[-60:], f"... and the last {lines} lines:", *(line[:300] for line in text[-lines:])])

    def environment(self, folder):
        """The variables that `source admin-openrc` sets, with the authority's certificate where this host has it."""
        (folder / "admin-openrc").write_bytes(self.machine.read(f"{STATE}/admin-openrc"))
        (folder / "ca.crt").write_bytes(self.machine.read(f"{STATE}/ca.crt"))
        script = f"set -eu; source {shlex.quote(str(folder / 'admin-openrc'))}; env -0"
        text = subprocess.run(["env", "-i", "PATH=/usr/bin:/bin", "bash", "-c", script], check=True, stdout=subprocess.PIPE, text=True).stdout
        values = dict(pair.split("=", 1) for pair in text.split("\0") if pair.startswith("OS_"))
        return values | {"OS_CACERT": str(folder / "ca.crt")}

    # What is on the machine.
    def processes(self):
        """Processes of servers: id and command line."""
        lines = self.machine.run("ps -ww -eo pid=,args=").splitlines()
        return {int(line.split(None, 1)[0]): line.split(None, 1)[1] for line in lines if " vm /" in line or "qemu-system" in line}

    def taps(self):
        script = 'for n in "" $(ip -j netns list | tr -d \'[]{}"\' | tr , "\\n" | sed -n "s/^name://p"); do ip ${n:+-n $n} -d -o link show type tun 2>/dev/null; done'
        return [line for line in self.machine.run(script).splitlines() if line]

    def groups(self):
        return self.machine.run("find /sys/fs/cgroup -mindepth 1 -type d -path '*solostack*'").splitlines()


class Story:
    def __init__(self, machine, inside, folder, guest):
        self.machine, self.inside, self.folder, self.guest = machine, inside, folder, guest
        self.image = host.guest_image(guest)
        self.boot_seconds = SHAPES[guest][3]

    def real(self):
        """The driver `fake` runs no guests: only what the API answers can be looked at then."""
        return self.inside.driver != "fake"

    # -- bring it up -----------------------------------------------------------------------------------------------------
    def bring_up(self):
        began = time.monotonic()
        self.machine.wait()
        say(f"the L1 answers after {time.monotonic() - began:.1f} s")
        took = self.inside.start()
        say(f"ready after {took:.1f} s, first start")
        self.environment = self.inside.environment(self.folder)
        self.openstack = OpenStack(self.environment)
        self.api = Api(self.environment)

    def the_host_says_what_it_is(self):
        (row,) = self.openstack.json("hypervisor list --long")
        (shown,) = self.api.get("compute", "/os-hypervisors/detail")["hypervisors"]
        say(f"hypervisor: {shown['hypervisor_type']} {shown['hypervisor_version']}, {shown['cpu_info']}")
        if self.real():
            expect("the hypervisor's type is KVM", (row["Hypervisor Type"], shown["hypervisor_type"]) == ("KVM", "KVM"), (row, shown))
            expect("the processor's model is the built-in driver's", "kvm" in str(shown["cpu_info"]), shown)
        expect("it is up and enabled", (row["State"], shown["status"]) == ("up", "enabled"), (row, shown))

    def the_client_shows_the_hypervisor(self):
        (row,) = self.openstack.json("hypervisor list")
        shown = self.openstack.json(f"hypervisor show {row['ID']}")
        if self.real():
            expect("`hypervisor show` says KVM", shown["hypervisor_type"] == "KVM", shown)

    # -- image, key, rules -------------------------------------------------------------------------------------------------
    def image_key_and_rules(self):
        began = time.monotonic()
        self.openstack(f"image create --disk-format qcow2 --container-format bare --file {self.image} guest")
        image = self.openstack.json("image show guest")
        expect("the image is active with the right hash", (image["status"], image["checksum"]) == ("active", hashlib.md5(self.image.read_bytes()).hexdigest()), image)
        say(f"image uploaded in {time.monotonic() - began:.1f} s")
        key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me@here", "-f", key], check=True)
        self.openstack(f"keypair create --public-key {key}.pub me")
        self.machine.write("/root/key", key.read_text())
        groups = self.openstack.json(f"security group list --project {self.api.project_id}")
        group = next(row["ID"] for row in groups if row["Name"] == "default")
        self.openstack(f"security group rule create --proto tcp --dst-port 22 {group}")
        self.openstack(f"security group rule create --proto icmp {group}")

    # -- one server ----------------------------------------------------------------------------------------------------------
    def show(self, name):
        return self.openstack.json(f"server show {name}")

    def status(self, name):
        return self.openstack(f"server show -f value -c status {name}")

    def console(self, name):
        return self.openstack(f"console log show {name}")

    def polled(self):
        """Status and console of the server with the token that is there: each command of the client costs the L1 a new one,
        seconds of hashing."""
        server = self.api.get("compute", f"/servers/{self.server_id}")["server"]
        status, _, answer = self.api.call("POST", f"{self.api.endpoints['compute']}/servers/{self.server_id}/action", {"os-getConsoleOutput": {"length": None}})
        return server, answer["output"] if status == 200 else ""

    def on_console(self, name, text):
        def probe():
            server, output = self.polled()
            if server["status"] not in ("ACTIVE", "REBOOT", "HARD_REBOOT"):
                raise Failure(f"{name} is {server['status']}: {server.get('fault')}")
            return text in output

        began = time.monotonic()
        wait_for(f"{name} says `{text}` on its console", probe, self.boot_seconds, 2)
        return time.monotonic() - began

    def ssh(self, command, seconds=90):
        return self.machine.run(f"timeout {seconds} {SSH} {self.guest}@{self.address} {shlex.quote(command)}", seconds + 30)

    def boot_id(self):
        return self.ssh("cat /proc/sys/kernel/random/boot_id")

    def booted_again(self, before):
        def probe():
            try:
                return (now := self.boot_id()) != before and now
            except (l1.Ended, OSError):
                return None

        began = time.monotonic()
        now = wait_for("the guest came up again with a new boot id", probe, self.boot_seconds, 2)
        return now, time.monotonic() - began

    def create(self, name, vcpus, by_qemu=False):
        ram, disk, last_word, _ = SHAPES[self.guest]
        self.openstack(f"flavor create --ram {ram} --disk {disk} --vcpus {vcpus} kvm.{vcpus}")
        began = time.monotonic()
        try:
            self.openstack(f"server create --image guest --flavor kvm.{vcpus} --network private --key-name me --wait {name}", seconds=self.boot_seconds)
        except ClientError as error:
            raise Failure(f"{error}; the server's fault: {self.show(name).get('fault')}") from None
        server = self.show(name)
        say(f"{name}: ACTIVE after {time.monotonic() - began:.1f} s")
        expect("the server is ACTIVE", server["status"] == "ACTIVE", server)
        self.server_id = server["id"]
        if not self.real():
            return
        processes = list(self.inside.processes().values())
        qemu = [line for line in processes if "qemu-system" in line]
        if by_qemu:
            expect("QEMU runs it, with KVM", len(processes) == 2 and len(qemu) == 1 and " -accel kvm " in qemu[0], processes)
        else:
            expect("it runs in one process, of our own hypervisor", len(processes) == 1 and not qemu, processes)
        waited = self.on_console(name, "Linux version")
        say(f"{name}: kernel speaks {waited:.1f} s later")
        waited = self.on_console(name, last_word.format(name))
        say(f"{name}: ready on its console {waited:.1f} s later")
        expect("the client shows that console", "login:" in self.console(name), self.console(name)[-600:])

    def reach(self, name, vcpus):
        self.address = self.openstack.json("floating ip create public")["floating_ip_address"]
        self.openstack(f"server add floating ip {name} {self.address}")
        if not self.real():
            return
        wait_for("ssh with the key works", lambda: self.machine.call(f"timeout 40 {SSH} {self.guest}@{self.address} true", 60)[0] == 0, 120)
        expect("the host name is the server's", self.ssh("hostname") == name)
        expect("the guest sees its processors", self.ssh("nproc") == str(vcpus), self.ssh("nproc"))
        expect("the guest's clock is right", abs(int(self.ssh("date +%s")) - int(self.machine.run("date +%s"))) < 60)
        expect("it says that it runs on KVM", "KVM" in self.ssh("sudo dmesg | grep -i 'hypervisor detected'"))
        meta = json.loads(self.ssh("curl -s http://169.254.169.254/openstack/latest/meta_data.json"))
        expect("the metadata service knows it", (meta["uuid"], meta["name"]) == (self.server_id, name), meta)
        self.machine.run(f"ping -c 2 -W 10 {self.address}")

    def disk_and_net_carry_data(self, name):
        """Checksums of what goes through disk and net, on both ends."""
        made = self.ssh("dd if=/dev/urandom of=data bs=1M count=16 2>/dev/null && sync && echo 3 | sudo tee /proc/sys/vm/drop_caches >/dev/null && md5sum <data")
        fetched = self.machine.run(f"{SSH} {self.guest}@{self.address} cat data | md5sum", 180)
        expect("what comes over the net is what is on the disk", made == fetched, (made, fetched))
        expect("the kernel has no complaint", not (bad := self.ssh("sudo dmesg | grep -iE 'i/o error|oops|BUG:|soft lockup|rcu.*stall|blocked for' || true")), bad)

    def power(self, name):
        first = self.boot_id()
        self.openstack(f"server reboot --wait {name}", seconds=self.boot_seconds)
        second, waited = self.booted_again(first)
        expect("a soft reboot lets the guest shut down", any(word in self.console(name) for word in ("reboot: Restarting system", "reboot: Power down")))
        say(f"{name}: soft reboot, back after {waited:.1f} s")
        self.openstack(f"server reboot --hard --wait {name}", seconds=self.boot_seconds)
        third, waited = self.booted_again(second)
        say(f"{name}: hard reboot, back after {waited:.1f} s")
        self.ssh("sudo sh -c 'sleep 1; reboot' >/dev/null 2>&1 &")
        _, waited = self.booted_again(third)
        expect("the server is still ACTIVE after the guest rebooted itself", self.status(name) == "ACTIVE")
        say(f"{name}: reboot from inside, back after {waited:.1f} s")

    def stop_and_start(self, name):
        before = self.boot_id()
        self.openstack(f"server stop {name}")
        wait_for("the server is SHUTOFF", lambda: self.polled()[0]["status"] == "SHUTOFF", 180, 0.5)
        expect("the guest shut down by itself", "reboot: Power down" in self.console(name), self.console(name)[-600:])
        expect("no process is left when it is off", not self.inside.processes(), self.inside.processes())
        self.openstack(f"server start {name}")
        _, waited = self.booted_again(before)
        say(f"{name}: stop and start, back after {waited:.1f} s")

    def guest_time(self):
        """Seconds of CPU that the only guest's process has had."""
        (process,) = self.inside.processes()
        fields = self.machine.run(f"cat /proc/{process}/stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def pause(self, name):
        boot_id = self.boot_id()
        self.openstack(f"server pause {name}")
        wait_for("the server is PAUSED", lambda: self.polled()[0]["status"] == "PAUSED", 60, 0.5)
        before = self.guest_time()
        expect("a paused guest does not answer", self.machine.call(f"timeout 8 {SSH} {self.guest}@{self.address} true", 30)[0] != 0)
        used = self.guest_time() - before
        expect("a paused guest takes no time", used < 1, f"{used} s of CPU")
        self.openstack(f"server unpause {name}")
        wait_for("the server is ACTIVE", lambda: self.polled()[0]["status"] == "ACTIVE", 60, 0.5)
        wait_for("the guest goes on where it was", lambda: self.answers(boot_id), 120, 1)
        say(f"{name}: paused and gone on")

    def answers(self, boot_id):
        try:
            return self.boot_id() == boot_id
        except (l1.Ended, OSError):
            return False

    def suspend(self, name):
        boot_id = self.boot_id()
        self.ssh("sudo sh -c 'echo remembered >/run/word'")
        began = time.monotonic()
        self.openstack(f"server suspend {name}")
        wait_for("the server is SUSPENDED", lambda: self.polled()[0]["status"] == "SUSPENDED", 180, 0.5)
        expect("a suspended server has no process", not self.inside.processes(), self.inside.processes())
        say(f"{name}: suspended after {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        self.openstack(f"server resume {name}")
        wait_for("the server is ACTIVE", lambda: self.polled()[0]["status"] == "ACTIVE", 120, 0.5)
        wait_for("the guest goes on where it was", lambda: self.answers(boot_id), 180, 1)
        say(f"{name}: resumed, reached after {time.monotonic() - began:.1f} s")
        expect("what was in its memory is there", self.ssh("cat /run/word") == "remembered")
        expect("its clock has not stood still", abs(int(self.ssh("date +%s")) - int(self.machine.run("date +%s"))) < 60)
        self.disk_and_net_carry_data(name)

    def cards(self):
        return int(self.ssh("ls /sys/class/net | grep -vc '^lo$'"))

    def network_cards_come_and_go(self, name):
        self.openstack("network create second")
        self.openstack("subnet create --network second --subnet-range 10.77.0.0/24 second")
        here, began = self.cards(), time.monotonic()
        self.openstack(f"server add network {name} second")
        wait_for("the guest sees the card that the client has added", lambda: self.cards() == here + 1, 60, 0.5)
        (port,) = self.openstack.json(f"port list --server {self.server_id} --network second")
        self.openstack(f"server remove port {name} {port['ID']}")
        wait_for("the guest has let go of it", lambda: self.cards() == here, 90, 0.5)
        interfaces = f"{self.api.endpoints['compute']}/servers/{self.server_id}/os-interface"
        network = self.openstack.json("network show second")["id"]
        for turn in range(ROUNDS - 1):
            status, _, answer = self.api.call("POST", interfaces, {"interfaceAttachment": {"net_id": network}})
            expect(f"interface {turn} is attached", status == 200, (status, answer))
            wait_for("the guest sees the card", lambda: self.cards() == here + 1, 60, 0.3)
            status, _, answer = self.api.call("DELETE", f"{interfaces}/{answer['interfaceAttachment']['port_id']}")
            expect(f"interface {turn} is detached", status == 202, (status, answer))
            wait_for("the guest has let go of the card", lambda: self.cards() == here, 90, 0.3)
            wait_for("the server has one interface", lambda: len(self.api.get("compute", f"/servers/{self.server_id}/os-interface")["interfaceAttachments"]) == 1, 60, 0.3)
        say(f"{name}: {ROUNDS} times a card came and went, {(time.monotonic() - began) / ROUNDS:.1f} s each")
        expect("one tap is left", len(self.inside.taps()) == 1, self.inside.taps())
        expect("the kernel has no complaint", not (bad := self.ssh("sudo dmesg | grep -iE 'oops|BUG:|soft lockup|rcu.*stall|blocked for' || true")), bad)
        self.openstack("network delete second")

    def disks_come_and_go(self, name):
        """By the control socket: the API has no volumes to attach. What is written by the guest is in the file, and stays there."""
        control = f"python3 /root/control.py {STATE}/servers/{self.server_id}"
        self.machine.write("/root/control.py", (HERE.parent / "guests/control.py").read_text())
        self.machine.run("dd if=/dev/zero of=/root/volume bs=1M count=8 2>/dev/null")
        began, disk = time.monotonic(), "/dev/disk/by-id/virtio-volume"
        for turn in range(ROUNDS):
            self.machine.run(f"{control} attach 5 /root/volume volume")
            wait_for("the guest sees the disk", lambda: self.ssh(f"test -e {disk} && echo there || true") == "there", 60, 0.3)
            if turn:
                expect("what was written is still there", self.ssh(f"sudo head -c 7 {disk}") == f"turn {turn - 1:02}", turn)
            self.ssh(f"printf 'turn {turn:02}' | sudo dd of={disk} conv=fsync,notrunc 2>/dev/null")
            self.machine.run(f"{control} detach 5", 180)
            expect("the file has it", self.machine.run("head -c 7 /root/volume") == f"turn {turn:02}", turn)
        say(f"{name}: {ROUNDS} times a disk came and went, {(time.monotonic() - began) / ROUNDS:.1f} s each")
        expect("the kernel has no complaint", not (bad := self.ssh("sudo dmesg | grep -iE 'i/o error|oops|BUG:|soft lockup|blocked for' || true")), bad)

    def supervisor_dies(self, name):
        before, boot_id = self.inside.processes(), self.boot_id()
        # An open session, which must not notice any of it.
        self.machine.run(f"rm -f /root/lines /root/answers; mkfifo /root/lines; {SSH} {self.guest}@{self.address} 'while read -r line; do echo \"got $line\"; done' "
                         "</root/lines >/root/answers 2>&1 & exec 3>/root/lines; setsid sh -c 'exec sleep 3600' >/dev/null 2>&1 </dev/null & echo $! >/root/session.pid")  # fmt: skip
        self.say_in_session("before")
        self.inside.kill()
        self.say_in_session("during")
        expect("the guest runs on without a supervisor", self.boot_id() == boot_id)
        upgraded = " and upgraded" if self.inside.program != NEWEST else ""
        self.inside.program = NEWEST
        took = self.inside.start()
        say(f"{name}: supervisor killed{upgraded}, ready again after {took:.1f} s")
        self.say_in_session("after")
        self.machine.run("kill $(cat /root/session.pid)")
        expect("the guest's process is the same", self.inside.processes() == before, (before, self.inside.processes()))
        expect("the guest did not boot again", self.boot_id() == boot_id)
        expect("the server is ACTIVE", self.status(name) == "ACTIVE")
        expect("the console log goes on", "login:" in self.console(name))
        self.openstack(f"server reboot --hard --wait {name}", seconds=self.boot_seconds)
        self.booted_again(boot_id)
        say(f"{name}: the adopted server obeys")

    def say_in_session(self, word):
        self.machine.run(f"echo {word} >/root/lines")
        wait_for(f"the open ssh session answers `{word}`", lambda: f"got {word}" in self.machine.run("cat /root/answers"), 30, 0.5)

    def delete(self, name, vcpus):
        (port,) = self.openstack.json(f"port list --server {self.server_id}")
        self.openstack(f"server delete --wait {name}", seconds=120)
        self.openstack(f"floating ip delete {self.address}")
        self.openstack(f"flavor delete kvm.{vcpus}")
        try:
            self.openstack(f"server show {name}")
            raise Failure("the deleted server is still shown")
        except ClientError:
            pass

        def left():
            found = [f"process {p}: {line}" for p, line in self.inside.processes().items()]
            found += [f"tap {line}" for line in self.inside.taps()]
            found += [f"cgroup {g}" for g in self.inside.groups() if self.server_id in g]
            found += [f"file {f}" for f in self.machine.run(f"find {STATE} /run /tmp -name '*{self.server_id}*'").splitlines()]
            found += [f"rule with {port['MAC Address']}" for _ in range(1) if self.rules_name(port["MAC Address"])]
            found += [f"allocation {a}" for a in self.api.get("placement", f"/allocations/{self.server_id}")["allocations"]]
            return found

        deadline = time.monotonic() + 40
        while (found := left()) and time.monotonic() < deadline:
            time.sleep(0.5)
        expect("nothing of the server is left", not found, found)
        say(f"{name}: deleted, nothing left")

    def rules_name(self, text):
        script = f"for n in $(ls /run/netns 2>/dev/null); do ip netns exec $n nft list ruleset; done | grep -F {text}"
        return self.machine.call(script)[0] == 0

    def server_with(self, vcpus, only):
        name = f"with-{vcpus}"
        self.create(name, vcpus)
        self.reach(name, vcpus)
        if self.real():
            steps = [self.disk_and_net_carry_data, self.pause, self.network_cards_come_and_go, self.disks_come_and_go,
                     self.suspend, self.power, self.stop_and_start, self.supervisor_dies]  # fmt: skip
            for step in steps:
                if not only or step.__name__ in only:
                    say(f"-- {name}: {step.__name__.replace('_', ' ')}")
                    step(name)
        self.delete(name, vcpus)

    def qemu_runs_the_rest(self):
        """What the built-in machine is not for: by what its image says, and as the built-in machine's servers otherwise."""
        name = "by-qemu"
        self.openstack("image set --property os_type=windows guest")
        self.create(name, 1, by_qemu=self.real())
        self.reach(name, 1)
        if self.real():
            self.disk_and_net_carry_data(name)
            self.suspend(name)
        self.delete(name, 1)

    def down_leaves_nothing(self):
        self.inside.stop()
        self.machine.run(f"solostack down --state {STATE}", 180)
        # What has ended stays in the list of processes until init looks at it.
        left = "ip -o link show | grep -v ': lo:\\|: eth0:' || true; ls /run/netns 2>/dev/null; nft list ruleset; pgrep -a dnsmasq || true"
        wait_for("`down` leaves no link, namespace, rule or process", lambda: not self.machine.run(left), 20, 0.5)
        expect("no control group is left", not self.inside.groups(), self.inside.groups())

    def tell(self, vcpus, only):
        for step in (self.bring_up, self.the_host_says_what_it_is, self.image_key_and_rules):
            say(f"-- {step.__name__.replace('_', ' ')}")
            step()
        for count in vcpus:
            say(f"-- a server with {count} vCPU")
            self.server_with(count, only)
        if not only or "qemu_runs_the_rest" in only:
            say("-- qemu runs the rest")
            self.qemu_runs_the_rest()
        say("-- the client shows the hypervisor")
        self.the_client_shows_the_hypervisor()
        say("-- down leaves nothing")
        self.down_leaves_nothing()

    def explain(self):
        """What helps to understand a failure, on standard error."""
        try:
            print(f"\n--- end of serve.log\n{self.inside.log_end()}", file=sys.stderr)
            script = f"for f in {STATE}/servers/*/*.log; do echo \"--- end of $f\"; tail -c 20000 $f; done; for f in {STATE}/servers/*/exit.json; do echo \"--- $f\"; cat $f; done; ps -ww -eo pid,stat,time,args | grep solostack; dmesg | tail -15"
            print(self.machine.call(script)[1].decode(errors="replace"), file=sys.stderr)
        except (l1.Ended, l1.Gone, OSError) as error:
            print(f"--- the L1 does not answer any more: {error}\n{self.machine.console_end()}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run (logs, copies of files of the L1)")
    parser.add_argument("--hold", type=int, default=0, metavar="SECONDS", help="after a failure, leave the machine running that long")
    parser.add_argument("--driver", default="auto", choices=("auto", "kvm", "fake"))
    parser.add_argument("--guest", default="tiny", choices=sorted(SHAPES))
    parser.add_argument("--vcpus", default="1,2")
    parser.add_argument("--older", type=pathlib.Path, metavar="PROGRAM", help="starts the cloud, until PROGRAM takes over from it in supervisor_dies")
    parser.add_argument("--single", action="store_true", help="one thread of the host for all of the L1's processors (tests/guests/l1/README.md)")
    parser.add_argument("--only", default="", help="of a server's steps, these alone, for example power,supervisor_dies")
    args = parser.parse_args()
    for name in [n for n in os.environ if n.lower().endswith("_proxy")] + ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]:
        os.environ.pop(name, None)
    # As an exception, so that the machine is stopped on the way out.
    signal.signal(signal.SIGTERM, l1.on_termination)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="solostack-kvm-"))
    port = l1.free_port()
    machine, status = None, 1
    try:
        vcpus = [int(count) for count in args.vcpus.split(",")]
        # A server is never given more processors than its host has.
        files = None
        if args.older:
            files = folder / "files"
            files.mkdir()
            subprocess.run(["objcopy", "--strip-debug", args.older, files / "solostack"], check=True)
        machine = l1.Machine(args.program, folder, forward=[port], processors=max(vcpus), threads="single" if args.single else "multi", files=files)
        story = Story(machine, InTheMachine(machine, port, args.driver, OLDER if args.older else NEWEST), folder, args.guest)
        try:
            story.tell(vcpus, [w for w in args.only.split(",") if w])
            say("the story is told")
            status = 0
        except (Failure, l1.Ended, l1.Gone, subprocess.SubprocessError, OSError) as failure:
            say(f"FAILED: {failure}")
            story.explain()
            if args.hold:
                say(f"held for {args.hold} s: tests/guests/l1/l1.py in {folder} SCRIPT")
                time.sleep(args.hold)
    except (l1.Missing, Failure, subprocess.SubprocessError) as failure:
        say(f"FAILED: {failure}")
    finally:
        if machine:
            machine.stop()
        if args.keep or status:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
