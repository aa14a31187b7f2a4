#!/usr/bin/env python3
"""The main job, end to end, as a user does it: one command brings up a cloud, the stock client boots a server in it.

    story.py PROGRAM [--keep] [--driver auto|tcg|kvm] [--guest tiny|debian]

PROGRAM is the built `solostack`. Needs root, python-openstackclient in the interpreter that runs this (tests/setup/tools
makes one), and the guest `tiny`. Every step prints what it does and when; the first thing that is not as it should be ends
the run with status 1, the end of the program's log and the guest's console.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import cloud as host  # noqa: E402
from cloud import Cloud, ClientError, Failure, OpenStack, Ssh, expect, say, wait_for  # noqa: E402

# Emulated guests on a busy machine: patience costs nothing when all is well.
BOOT = {"tiny": 240, "debian": 900}
# Name of the user that the key is for, and the smallest flavor that the image fits into.
GUESTS = {"tiny": ("tiny", "m1.tiny"), "debian": ("debian", "m1.small")}


class Story:
    def __init__(self, cloud, folder, guest):
        self.cloud, self.folder, self.image = cloud, folder, host.guest_image(guest)
        self.user, self.flavor = GUESTS[guest]
        self.boot = BOOT[guest]
        self.server_id = None

    # -- the host and the client -----------------------------------------------------------------------------------
    def bring_up(self):
        took = self.cloud.start()
        say(f"ready at {self.cloud.url} after {took:.2f} s, first start")
        for name in ("admin-openrc", "clouds.yaml"):
            mode = (self.cloud.state / name).stat().st_mode & 0o777
            expect(f"{name} is readable by its owner alone", mode == 0o600, oct(mode))
        expect("the certificate of the authority lies beside them", (self.cloud.state / "ca.crt").exists())
        environment = self.cloud.sourced()
        password = environment["OS_PASSWORD"]
        expect("the password is not in the log", password not in self.cloud.log.read_text(errors="replace"))
        self.openstack = OpenStack(environment)
        self.api = self.cloud.api(environment)

    def a_shell_with_nothing_but_the_file(self):
        client = pathlib.Path(sys.executable).parent / "openstack"
        clean = {"PATH": f"{client.parent}:/usr/bin:/bin", "HOME": str(self.folder)}
        script = 'source "$1/admin-openrc" && openstack token issue -f value -c project_id'
        done = subprocess.run(["bash", "-c", script, "-", self.cloud.state], env=clean, capture_output=True, text=True, timeout=120)
        expect("`source admin-openrc; openstack token issue` works", done.returncode == 0 and done.stdout.strip() == self.api.project_id, done.stderr[-800:])
        clean |= {"OS_CLIENT_CONFIG_FILE": str(self.cloud.state / "clouds.yaml"), "OS_CLOUD": "solostack"}
        done = subprocess.run([client, "token", "issue", "-f", "value", "-c", "project_id"], env=clean, capture_output=True, text=True, timeout=120)
        expect("OS_CLOUD=solostack with the written clouds.yaml works", done.returncode == 0 and done.stdout.strip() == self.api.project_id, done.stderr[-800:])

    def doctor_explains(self):
        done = subprocess.run([self.cloud.binary, "doctor", "--state", self.cloud.state], capture_output=True, text=True, timeout=60)
        words = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("ok ", "warn ", "FAIL "))]
        expect("`doctor` looks at what the cloud needs", {"kvm", "qemu", "nftables", "dnsmasq"} <= set(words), done.stdout)
        worst = 2 if "\nFAIL" in "\n" + done.stdout else 1 if "\nwarn" in "\n" + done.stdout else 0
        expect("its exit status is what it found", done.returncode == worst, (done.returncode, done.stdout[-400:]))

    def what_is_there_at_first(self):
        services = {row["Type"] for row in self.openstack.json("catalog list")}
        expect("the catalogue lists the services", {"identity", "image", "compute", "network", "placement"} <= services, services)
        networks = {row["Name"] for row in self.openstack.json("network list")}
        expect("networks `public` and `private` exist after the first start", {"public", "private"} <= networks, networks)
        flavors = {row["Name"] for row in self.openstack.json("flavor list")}
        expect("flavor m1.tiny exists", "m1.tiny" in flavors, flavors)
        expect("a second `serve` on the same state is refused", self.second_serve_is_refused())

    def second_serve_is_refused(self):
        done = subprocess.run([self.cloud.binary, "serve", "--state", self.cloud.state, *self.cloud.arguments], capture_output=True, text=True, timeout=30)
        return done.returncode != 0 and "ready" not in done.stdout

    # -- image, key, server ----------------------------------------------------------------------------------------
    def image_and_key(self):
        image = self.openstack.json(f"image create --disk-format qcow2 --container-format bare --file {self.image} guest")
        image = self.openstack.json("image show guest")
        data = self.image.read_bytes()
        expect("the image is active with the right hashes and size", (image["status"], image["checksum"], image["size"]) ==
               ("active", hashlib.md5(data).hexdigest(), len(data)), image)  # fmt: skip
        expect("sha512 as the file's own", hashlib.sha512(data).hexdigest() in str(image), image)
        self.key = self.folder / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me@here", "-f", self.key], check=True)
        self.openstack(f"keypair create --public-key {self.key}.pub me")

    def first_server(self):
        script = self.folder / "user-data.sh"
        script.write_text("#!/bin/sh\necho user-data says hello from $(hostname)\ntouch /root/user-data-ran\n")
        began = time.monotonic()
        self.openstack(f"server create --image guest --flavor {self.flavor} --network private --key-name me --user-data {script} --wait first")
        server = self.openstack.json("server show first")
        say(f"server first ACTIVE after {time.monotonic() - began:.1f} s")
        expect("the server is ACTIVE", server["status"] == "ACTIVE", server)
        self.server_id = server["id"]
        (self.fixed_ip,) = server["addresses"]["private"]
        (self.port,) = self.openstack.json(f"port list --server {self.server_id}")
        events = [row["Action"] for row in self.openstack.json("server event list first")]
        expect("the events say create", "create" in events, events)

    def allocations(self, server_id):
        return self.api.get("placement", f"/allocations/{server_id}")["allocations"]

    def placement_knows(self):
        allocated = self.allocations(self.server_id)
        resources = [row["resources"] for row in allocated.values()]
        expect("placement holds one allocation for the server", len(resources) == 1 and resources[0]["VCPU"] == 1, allocated)

    def console(self):
        return self.openstack("console log show first")

    def the_console_tells(self):
        wait_for("the user's script speaks on the console", lambda: "user-data says hello from first" in self.console(), self.boot, 1)
        text = self.console()
        expect("the kernel's messages are there too", "Linux version" in text, text[:400])

    # -- reaching it -----------------------------------------------------------------------------------------------
    def floating_address(self):
        self.floating_ip = self.openstack.json("floating ip create public")["floating_ip_address"]
        self.openstack(f"server add floating ip first {self.floating_ip}")
        shown = self.openstack.json("server show first")["addresses"]["private"]
        expect("the server shows both addresses", set(shown) == {self.fixed_ip, self.floating_ip}, shown)

    def closed_until_opened(self):
        self.ssh = Ssh(self.user, self.floating_ip, self.key)
        expect("ssh is closed before a rule opens it", not host.tcp_answers(self.floating_ip, 22, 4))
        self.openstack(f"security group rule create --proto icmp {self.group()}")
        rule = self.openstack.json(f"security group rule create --proto tcp --dst-port 22 {self.group()}")["id"]
        began = time.monotonic()
        wait_for("ssh opens", lambda: host.tcp_answers(self.floating_ip, 22, 0.5), 10, 0.05)
        say(f"port 22 open {time.monotonic() - began:.2f} s after the rule was made")
        self.openstack(f"security group rule delete {rule}")
        wait_for("ssh closes again when the rule goes", lambda: not host.tcp_answers(self.floating_ip, 22, 1.5), 10, 0.05)
        self.openstack(f"security group rule create --proto tcp --dst-port 22 {self.group()}")
        wait_for("ssh with the key works", self.ssh.answers, 60)
        pinged = subprocess.run(["ping", "-c", "2", "-W", "5", self.floating_ip], capture_output=True).returncode
        expect("the floating address answers ping", pinged == 0)

    def group(self):
        groups = self.openstack.json(f"security group list --project {self.api.project_id}")
        return next(row["ID"] for row in groups if row["Name"] == "default")

    def in_the_guest(self):
        expect("the host name is the server's", self.ssh("hostname") == "first")
        expect("root without a password", self.ssh("sudo -n id -u") == "0")
        expect("user data ran as root", self.ssh("sudo ls /root").split() == ["user-data-ran"])
        expect("the address is the port's", self.fixed_ip in self.ssh("ip -o -4 addr show scope global"))
        meta = json.loads(self.ssh("curl -s http://169.254.169.254/openstack/latest/meta_data.json"))
        public = self.key.with_suffix(".pub").read_text().split()[1]
        expect("OpenStack metadata names the server", (meta["uuid"], meta["name"]) == (self.server_id, "first"), meta)
        expect("and its key", public in meta["public_keys"]["me"], meta)
        ec2 = self.ssh("for k in hostname local-ipv4 public-keys/0/openssh-key; do curl -s http://169.254.169.254/latest/meta-data/$k; echo; done")
        expect("EC2 metadata too", "first" in ec2 and self.fixed_ip in ec2 and public in ec2, ec2)
        script = self.ssh("curl -s http://169.254.169.254/openstack/latest/user_data")
        expect("user data as given", script.startswith("#!/bin/sh\necho user-data says hello"), script)
        # Somebody else's identity cannot be had by asking for it in a header.
        forged = self.ssh(f"curl -s -H 'X-Forwarded-For: 10.0.0.99' -H 'X-Instance-ID: {'0' * 36}' http://169.254.169.254/openstack/latest/meta_data.json")
        expect("headers do not change who the caller is", json.loads(forged)["uuid"] == self.server_id, forged)
        gateway = self.ssh("ip route | awk '/^default/ {print $3; exit}'")
        expect("the router answers", "0% packet loss" in self.ssh(f"ping -c 2 -W 5 {gateway}"))
        public_gateway = self.openstack.json("subnet list --network public")[0]["Subnet"].split("/")[0].rsplit(".", 1)[0] + ".1"
        expect("the outside is reached through the router", " 0% packet loss" in self.ssh(f"ping -c 2 -W 5 {public_gateway}"))

    # -- power -----------------------------------------------------------------------------------------------------
    def boot_id(self):
        return self.ssh("cat /proc/sys/kernel/random/boot_id")

    def booted_again(self, before):
        def probe():
            try:
                return (now := self.boot_id()) != before and now
            except (Failure, subprocess.TimeoutExpired):
                return None

        return wait_for("the guest came up again with a new boot id", probe, self.boot, 1)

    def reboot_and_power(self):
        first = self.boot_id()
        self.openstack("server reboot --wait first", seconds=self.boot)
        second = self.booted_again(first)
        expect("a soft reboot lets the guest shut down", any(word in self.console() for word in ("reboot: Restarting system", "reboot: Power down")))
        say("soft reboot done")
        self.openstack("server stop first")
        wait_for("the server is SHUTOFF", lambda: self.openstack("server show -f value -c status first") == "SHUTOFF", 120, 0.5)
        expect("nothing answers when it is off", not host.tcp_answers(self.floating_ip, 22, 2))
        expect("no QEMU is left when it is off", not self.guest_processes(), self.guest_processes())
        self.openstack("server start first")
        third = self.booted_again(second)
        say("stop and start done")
        self.openstack("server reboot --hard --wait first", seconds=self.boot)
        self.booted_again(third)
        say("hard reboot done")

    def guest_processes(self):
        return {pid: line for pid, line in host.processes().items() if "qemu-system" in line or " vm " in line}

    # -- the supervisor dies, the guest does not -------------------------------------------------------------------
    def supervisor_dies(self):
        boot_id = self.boot_id()
        session = self.ssh.session()
        expect("the session answers", session.say("before") == "got before")
        before = self.guest_processes()
        self.cloud.kill()
        say("kill -9 of the supervisor")
        expect("the open ssh session answers without a supervisor", session.say("during") == "got during")
        took = self.cloud.start()
        say(f"ready again after {took:.2f} s")
        expect("the open ssh session answers after the restart", session.say("after") == "got after")
        session.close()
        expect("the guest's processes are the same", self.guest_processes() == before, (before, self.guest_processes()))
        expect("the guest did not boot again", self.boot_id() == boot_id)
        expect("the server is ACTIVE", self.openstack("server show -f value -c status first") == "ACTIVE")
        expect("the console log goes on", "user-data says hello" in self.console() or "login:" in self.console())
        took = self.cloud.stop()
        say(f"SIGTERM ended it after {took:.2f} s")
        expect("the guest runs on", self.boot_id() == boot_id)
        took = self.cloud.start()
        say(f"ready again after {took:.2f} s, {self.cloud.resident_mib():.0f} MiB resident")
        expect("still the same guest", self.boot_id() == boot_id)
        # An adopted server must still obey.
        self.openstack("server reboot --hard --wait first", seconds=self.boot)
        self.booted_again(boot_id)

    # -- what does not fit ------------------------------------------------------------------------------------------
    def too_large_a_server_says_why(self):
        self.openstack("flavor create --ram 100000000 --disk 2 --vcpus 1 huge")
        with_error = None
        try:
            self.openstack("server create --image guest --flavor huge --network private --wait never", seconds=120)
        except ClientError as error:
            with_error = error.text
        expect("a server that cannot fit is refused or ends in ERROR", with_error is not None)
        rows = self.openstack.json("server list --name never")
        if rows:
            fault = self.openstack.json("server show never").get("fault", {})
            expect("the fault says which resource is short", "MEMORY_MB" in str(fault) or "memory" in str(fault).lower(), fault)
            self.openstack("server delete --wait never")
        else:
            expect("the refusal says which resource is short", "memory" in with_error.lower() or "ram" in with_error.lower(), with_error)
        self.openstack("flavor delete huge")

    # -- and nothing is left ----------------------------------------------------------------------------------------
    def delete_and_look_for_leftovers(self):
        self.openstack("server delete --wait first", seconds=120)
        try:
            self.openstack("server show first")
            raise Failure("the deleted server is still shown")
        except ClientError as error:
            expect("the client says that there is no such server", "No server found" in error.text or "No Server found" in error.text, error.text)
        self.openstack(f"floating ip delete {self.floating_ip}")
        mac, port = self.port["MAC Address"], self.port["ID"]

        def left():
            found = []
            found += [f"tap {t}" for t in host.taps()]
            found += [f"process {p}: {line}" for p, line in self.guest_processes().items()]
            found += [f"rule {r}" for r in host.rules() if mac in r or self.floating_ip in r or f"{self.fixed_ip} " in r + " "]
            found += [f"file {f}" for f in host.files_naming(self.cloud.state, self.server_id)]
            found += [f"port {p['ID']}" for p in self.openstack.json("port list") if p["ID"] == port]
            found += [f"allocation {a}" for a in self.allocations(self.server_id)]
            found += [f"address {self.floating_ip}" for ns in [None, *host.namespaces()] if f" {self.floating_ip}/" in host.output(*(["ip", "-n", ns] if ns else ["ip"]), "-o", "addr")]
            return found

        deadline = time.monotonic() + 15
        while (found := left()) and time.monotonic() < deadline:
            time.sleep(0.5)
        expect("nothing of the server is left", not found, found)
        usages = [self.api.get("placement", f"/resource_providers/{p['uuid']}/usages")["usages"] for p in self.api.get("placement", "/resource_providers")["resource_providers"]]
        expect("placement counts no usage", all(value == 0 for usage in usages for value in usage.values()), usages)

    def many_come_and_go(self):
        """Two more at once, deleted while they still boot."""
        self.openstack(f"server create --image guest --flavor {self.flavor} --network private --min 2 --max 2 --wait pair", seconds=180)
        names = sorted(row["Name"] for row in self.openstack.json("server list"))
        expect("two servers were made", names == ["pair-1", "pair-2"], names)
        self.openstack("server delete pair-1 --wait", seconds=120)

    def down_leaves_nothing(self):
        expect("one server runs when the cloud goes down", len(self.guest_processes()) > 0)
        self.cloud.stop()
        expect("the server outlives the program", len(self.guest_processes()) > 0)
        self.cloud.down()
        deadline = time.monotonic() + 10
        while (left := host.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        expect("no process is left", not left, left)
        expect("no namespace is left", host.namespaces() == [], host.namespaces())
        expect("no link is left", host.links() == [], host.links())
        expect("no rule is left", host.rules() == [], host.rules())
        groups = [str(p) for p in pathlib.Path("/sys/fs/cgroup").rglob("*solostack*") if self.mine(p)]
        expect("no control group is left", not groups, groups)

    def mine(self, group):
        """Other runs on this machine have groups too; ours name a server of ours or hold a process of this namespace."""
        return (self.server_id or "-") in str(group)

    def up_again_after_down(self):
        took = self.cloud.start()
        say(f"ready again after {took:.2f} s")
        expect("the image is still there", self.openstack("image show -f value -c status guest") == "active")
        rows = self.openstack.json("server list")
        expect("the server that `down` stopped is known and off", [(r["Name"], r["Status"]) for r in rows] == [("pair-2", "SHUTOFF")], rows)
        self.openstack("server start pair-2")
        wait_for("it starts again", lambda: self.openstack("server show -f value -c status pair-2") == "ACTIVE", 60, 0.5)
        self.openstack("server delete --wait pair-2", seconds=120)
        self.openstack("image delete guest")
        self.openstack("keypair delete me")
        self.cloud.stop()
        self.cloud.down()
        expect("nothing is left at the end", (host.namespaces(), host.links(), host.rules()) == ([], [], []), (host.namespaces(), host.links()))

    STEPS = [
        bring_up, a_shell_with_nothing_but_the_file, doctor_explains, what_is_there_at_first, image_and_key, first_server, placement_knows,
        floating_address, the_console_tells, closed_until_opened, in_the_guest, reboot_and_power, supervisor_dies,
        too_large_a_server_says_why, delete_and_look_for_leftovers, many_come_and_go, down_leaves_nothing, up_again_after_down,
    ]  # fmt: skip

    def tell(self):
        for step in self.STEPS:
            say(f"-- {step.__name__.replace('_', ' ')}")
            step(self)

    def explain(self):
        """What helps to understand a failure, on standard error."""
        print(f"\n--- end of {self.cloud.log}\n{self.cloud.log_end()}", file=sys.stderr)
        for path in sorted(self.cloud.state.glob("servers/*/console.log")):
            print(f"--- end of {path}\n{path.read_text(errors='replace')[-2500:]}", file=sys.stderr)
        print(f"--- namespaces {host.namespaces()}, taps {host.taps()}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run (state, logs)")
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--guest", choices=GUESTS, default="tiny")
    args = host.entered(parser)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="solostack-story-"))
    cloud = Cloud(args.program.resolve(), folder, ["--driver", args.driver])
    story = Story(cloud, folder, args.guest)
    status = 0
    try:
        story.tell()
        say("the story is told")
    except (Failure, subprocess.SubprocessError) as failure:
        say(f"FAILED: {failure}")
        story.explain()
        status = 1
    finally:
        if cloud.process and cloud.process.poll() is None:
            os.kill(cloud.process.pid, signal.SIGKILL)
        if args.keep or status:
            say(f"kept: {folder}")
        if not args.keep and not status:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
