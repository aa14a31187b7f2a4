#!/usr/bin/env python3
"""The appliance, as its owner meets it: the built image on an emulated machine, and the stock client before it.

    appliance.py IMAGE [--only STORY,...] [--program PATH] [--updates FOLDER]
                 [--cuts 20] [--seed N] [--memory 2048] [--patience 1] [--counted] [--keep]

IMAGE is solostack-V.raw.zst (or .raw) of `just image`. It is written to a sparse disk of 64 GiB by the README's own command. Needs
root, for namespaces of its own in which addresses are free, QEMU 10 (fetched where the host's is older), UEFI firmware, the guest
`tiny` and python-openstackclient in the interpreter that runs this. The first thing that is not as it should be ends the run.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "clients")]

import cloud as host  # noqa: E402
from cloud import Api, Failure, OpenStack, expect, say  # noqa: E402
from machine import ADDRESS, Ended, Machine, cable, forwarded, missing  # noqa: E402
from media import Media  # noqa: E402
from updates import Updates  # noqa: E402
from work import Things, Work  # noqa: E402

DISK_BYTES = 64 << 30
SCREENS = host.ROOT / "image/tests/golden/screen"
# Everything runs at a fiftieth of a real machine's speed, and other things on the host too.
BOOT_SECONDS, GUEST_SECONDS = 600, 900
URL = f"https://{ADDRESS}"
# Kernel words that leave the cloud out: then the image is Debian of the same recipe.
BARE = [f"systemd.mask={unit}" for unit in ("solostack.service", "solostack-first-boot.service", "solostack-guests.service", "solostack-network.service",
                                            "solostack-screen@tty1.service", "solostack-screen@ttyS0.service")]  # fmt: skip


def wait_for(what, probe, seconds, pause=0.2):
    return host.wait_for(what, probe, seconds * Machine.patience, pause)


def from_readme(doing):
    """The one command of the README that does this."""
    lines = [line.strip() for line in (host.ROOT / "README.md").read_text().splitlines() if line.startswith("    ")]
    found = [line.split("   #")[0].strip() for line in lines if re.search(doing, line)]
    expect(f"the README has one command with `{doing}`", len(found) == 1, found)
    return found[0]


def drawn(word):
    """A state word as the screen draws it, in three rows of half blocks."""
    # Beside it is the code for a camera.
    rows = (SCREENS / f"{word}-80x24.txt").read_text().splitlines()[2:5]
    return [row[:50].strip() for row in rows]


class Appliance(Updates, Media):
    def __init__(self, image, folder, args):
        self.image, self.folder, self.args = pathlib.Path(image).resolve(), pathlib.Path(folder), args
        self.disk = self.folder / "disk.raw"
        self.machine = None
        self.environment = None

    # -- the disk ----------------------------------------------------------------------------------------------------------
    def flash(self, disk=None):
        """The image on a disk, by the README's words; only the names of image and disk are this test's."""
        disk = disk or self.disk
        disk.unlink(missing_ok=True)
        with open(disk, "wb") as file:
            file.truncate(DISK_BYTES)
        command = from_readme(r"\bdd of=/dev/sdX\b")
        if self.image.suffix == ".raw":
            command = f"dd if={shlex.quote(str(self.image))} " + command[command.index("of=/dev/sdX") :]
        command = re.sub(r"\S*solostack-\S*\.raw\.zst", shlex.quote(str(self.image)), command)
        # A disk keeps its size when it is written to, and this one must not fill up with zeros.
        command = command.replace("of=/dev/sdX", f"of={shlex.quote(str(disk))} conv=notrunc,sparse").replace("conv=fsync", "").replace("status=progress", "status=none")
        began = time.monotonic()
        subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True)
        say(f"flashed in {time.monotonic() - began:.1f} s: {command}")

    def table(self):
        """The partition table, as text; only of a machine that is off."""
        return host.output("sfdisk", "--dump", str(self.disk))

    # -- the machine -------------------------------------------------------------------------------------------------------
    def power_on(self, shell=True, **options):
        self.machine = Machine(self.folder, self.disk, nics=forwarded(), memory_mib=self.args.memory, **options)
        if shell and self.machine.firmware == "uefi":
            self.machine.shell(BOOT_SECONDS)
            say(f"a root shell after {time.monotonic() - self.machine.began:.1f} s")
        return self.machine

    def answers(self):
        self.machine.check()
        context = ssl._create_unverified_context()
        try:
            with urllib.request.urlopen(f"{URL}/identity/v3", context=context, timeout=10) as reply:
                return reply.status == 200
        except (OSError, ssl.SSLError, urllib.error.URLError):
            return False

    def until_ready(self, seconds=BOOT_SECONDS):
        wait_for("the APIs answer through the forwarded port", self.answers, seconds, 0.5)
        took = time.monotonic() - self.machine.began
        say(f"the APIs answer {took:.1f} s after power on")
        return took

    def credentials(self):
        """The authority over the wire, held against what the machine itself says, and the first account."""
        context = ssl._create_unverified_context()
        with urllib.request.urlopen(f"{URL}/ca.crt", context=context, timeout=60) as reply:
            pem = reply.read().decode()
        ca = self.folder / "ca.crt"
        ca.write_text(pem)
        expect("the authority on the wire is the machine's own", self.machine.run("cat /var/lib/solostack/ca.crt") == pem.strip())
        self.environment = {
            "OS_AUTH_URL": f"{URL}/identity/v3", "OS_IDENTITY_API_VERSION": "3", "OS_AUTH_TYPE": "password", "OS_USERNAME": "admin",
            "OS_PASSWORD": self.claim(ca), "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_NAME": "admin", "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_REGION_NAME": "RegionOne", "OS_CACERT": str(ca),
        }  # fmt: skip
        self.openstack, self.api = OpenStack(self.environment), Api(self.environment)

    def claim(self, ca):
        """The administrator's password, chosen by who can read the console's code."""
        code = self.machine.run("cat /run/solostack/claim")
        self.console_shows("unclaimed", URL, f"Code to take the cloud over: {code}")
        context = ssl.create_default_context(cafile=str(ca))
        password = "a password of the owner's"

        def sent(code):
            body = json.dumps({"claim": {"code": code, "password": password}}).encode()
            request = urllib.request.Request(f"{URL}/solostack/v1/claim", data=body, headers={"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, context=context, timeout=120) as reply:
                    return reply.status
            except urllib.error.HTTPError as error:
                return error.code

        expect("a wrong code is refused", 400 <= (status := sent("0000-0000")) < 500, status)
        expect("the code of the console lets its reader choose the password", (status := sent(code)) in (200, 201, 204), status)
        expect("the code is good for once", (status := sent(code)) == 404, status)
        expect("the code is gone", self.machine.call("test -e /run/solostack/claim")[0] != 0)
        return password

    def console_shows(self, word, *texts, seconds=120):
        """Who has nothing but a serial cable sees this state word (or one of these), and these texts. Lines may be broken in them."""
        words = [word] if isinstance(word, str) else word

        def shown():
            self.machine.check()
            seen = self.machine.screen()
            spoken = " ".join(seen.split())
            found = [word for word in words if all(row in seen for row in drawn(word))]
            return (found[0], seen) if found and all(text in spoken for text in texts) else None

        try:
            found, seen = wait_for(f"the serial console shows {' or '.join(words)} and {texts}", shown, seconds, 1)
        except Failure as failure:
            raise Failure(f"{failure}; it shows:\n{self.machine.screen()}") from None
        say(f"the serial console shows {found.upper()}{''.join(', ' + text for text in texts)}")
        return seen

    def state_bytes(self):
        return int(self.machine.run("findmnt -nbo SIZE /var"))

    # -- the stories -------------------------------------------------------------------------------------------------------
    def first_boot(self):
        """The image on a larger disk comes up by itself, and is what it should be."""
        self.flash()
        self.power_on()
        self.until_ready()
        machine = self.machine
        self.console_shows("unclaimed", URL, f"Code to take the cloud over: {machine.run('cat /run/solostack/claim')}")
        expect("nothing has failed", (bad := machine.run("systemctl --failed --no-legend --plain || true")) == "", bad)
        expect("the root cannot be written to", "erofs" in machine.run("findmnt -no FSTYPE /") and machine.call("touch /usr/x")[0] != 0)
        expect("the root is verified", "verity" in machine.run("lsblk -no TYPE,FSTYPE -s $(findmnt -no SOURCE /) && dmsetup table 2>/dev/null || ls /dev/mapper"))
        expect("the state partition is XFS with reflinks", "reflink=1" in machine.run("xfs_info /var"), machine.run("xfs_info /var"))
        expect("it has the rest of the disk", self.state_bytes() > DISK_BYTES - (3 << 30), self.state_bytes())
        self.nothing_else_listens()
        self.nobody_can_log_in()
        self.chart()

    def nothing_else_listens(self):
        rows = self.machine.run("ss -Hlntup").splitlines()
        strangers = []
        for row in rows:
            fields = row.split()
            local, owner = fields[4], fields[-1]
            port = int(local.rsplit(":", 1)[1]) if local.rsplit(":", 1)[1].isdigit() else 0
            known = "solostack" in owner or "dnsmasq" in owner
            # Answers of DHCP servers, and the name solostack.local.
            known |= "systemd-network" in owner and port in (68, 546) or "systemd-resolve" in owner and port == 5353
            if not known:
                strangers.append(row)
        expect("nothing but the cloud listens", not strangers, strangers)
        say(f"{len(rows)} sockets listen, all of them the cloud's, or DHCP's and the name's")

    def nobody_can_log_in(self):
        rows = self.machine.run("cut -d: -f1,2 /etc/shadow").splitlines()
        expect("no account has a password", all(row.split(":")[1][:1] in ("!", "*") for row in rows), rows)
        units = self.machine.run("systemctl list-units --no-legend --plain '*getty*' 'ssh*' || true")
        expect("there is no login prompt", "service" not in units, units)

    def chart(self):
        said = self.machine.run("systemd-analyze time || true; systemd-analyze critical-chain solostack.service --no-pager || true; systemd-analyze blame --no-pager | head -n 15")
        for line in said.splitlines():
            say(f"  {line}")
        since = self.machine.run("journalctl -u solostack.service -o short-monotonic --no-pager | grep -m1 -oE '^\\[ *[0-9.]+\\].* ready https' || true")
        say(f"  {since}")

    def bare(self):
        """How long the same recipe takes without the cloud, by the kernel's own clock."""
        took = {}
        for name, words in {"with the cloud": (), "without": BARE}.items():
            self.stop()
            self.flash()
            self.power_on(words=words)
            wait_for("the start is over", lambda: self.machine.call("systemctl is-system-running --wait", BOOT_SECONDS)[1] in ("running", "degraded"), BOOT_SECONDS)
            took[name] = self.since_kernel("solostack.service" if not words else "multi-user.target")
            say(f"{name}: {took[name]:.1f} s from the kernel's start")
        say(f"ready takes {took['with the cloud'] / took['without']:.2f} times as long as the same machine without the cloud")

    def since_kernel(self, unit):
        """Seconds from the start of the kernel to when this unit was there."""
        return int(self.machine.run(f"systemctl show -P ActiveEnterTimestampMonotonic {unit}")) / 1e6

    def client(self):
        """The stock client, through one port, with the authority's certificate, boots a server on the built-in hypervisor."""
        self.credentials()
        (shown,) = self.api.get("compute", "/os-hypervisors/detail")["hypervisors"]
        say(f"hypervisor: {shown['hypervisor_type']} {shown['hypervisor_version']}, {shown['cpu_info']}")
        expect("KVM is found and used", shown["hypervisor_type"] == "KVM", shown)
        self.boot_a_server("first")

    def boot_a_server(self, name):
        openstack = self.openstack
        openstack(f"image create --disk-format qcow2 --container-format bare --file {host.guest_image('tiny')} guest")
        openstack("flavor create --ram 256 --disk 1 --vcpus 1 small")
        began = time.monotonic()
        openstack(f"server create --image guest --flavor small --network private --wait {name}", seconds=GUEST_SECONDS)
        say(f"{name}: ACTIVE after {time.monotonic() - began:.1f} s")
        self.guest_answers(name)
        say(f"{name}: ready on its console {time.monotonic() - began:.1f} s after it was asked for")

    def guest_answers(self, name):
        def probe():
            text = self.openstack(f"console log show {name}")
            return f"solostack-guest ready: {name}" in text

        wait_for(f"{name} is ready on its console", probe, GUEST_SECONDS, 5)

    def second_boot(self):
        """A restart changes nothing on the disk, what was made is there, and what ran runs again."""
        if not self.environment:
            self.credentials()
        made = Things(self.environment)
        made.make("before")
        size, identity = self.state_bytes(), self.machine.run("cat /etc/machine-id")
        wait_for(f"it has the address {ADDRESS}", lambda: ADDRESS in self.machine.run("ip -4 address"), 120, 1)
        self.machine.reboot()
        before = self.table()
        self.power_on()
        self.until_ready()
        expect("the state partition is as large as it was", self.state_bytes() == size, (size, self.state_bytes()))
        expect("the machine is the same one", self.machine.run("cat /etc/machine-id") == identity)
        wait_for(f"it has the address {ADDRESS} again", lambda: ADDRESS in self.machine.run("ip -4 address"), 120, 1)
        # The table as the disk had it when the machine was off, and has it now that it has started.
        expect("the second boot left the table as it was", self.table() == before)
        expect("nobody can take it over once more", self.machine.call("test -e /run/solostack/claim")[0] != 0)
        self.api, made.api = Api(self.environment), Api(self.environment)
        made.check()
        say(f"what was made is there: {len(made.kept)} things")
        self.openstack = OpenStack(self.environment)
        if "first" in [row["Name"] for row in self.openstack.json("server list")]:
            wait_for("the server runs again", lambda: self.openstack("server show -f value -c status first") == "ACTIVE", GUEST_SECONDS, 2)
            self.guest_answers("first")
            say("the server that ran before runs again")
        self.console_shows_claimed()
        self.chart()

    def console_shows_claimed(self):
        """Well, or with less than it could have, which is then said."""
        seen = self.console_shows(("ready", "degraded"), URL)
        expect("no code is on the console any more", "Code to take the cloud over" not in seen, seen)

    def power_cuts(self):
        """The machine loses its power at random moments of work: all that was acknowledged is there afterwards."""
        chance = random.Random(self.args.seed)
        if not self.environment:
            self.credentials()
        things, longest = Things(self.environment), 0
        for cut in range(self.args.cuts):
            things.done = 0
            work = Work(things, cut)
            work.start()
            moment = chance.uniform(0.5, 15)
            time.sleep(moment)
            self.machine.power_cut()
            work.stop()
            self.power_on(shell=False)
            longest = max(longest, took := self.until_ready())
            things.api = self.api = Api(self.environment)
            things.check()
            say(f"cut {cut + 1} of {self.args.cuts} after {moment:.1f} s and {things.done} acknowledged calls: all of {len(things.kept)} things are there, "
                f"none of {len(things.gone)} deleted ones; back after {took:.0f} s")  # fmt: skip
        expect("something was acknowledged", len(things.kept) + len(things.gone) >= self.args.cuts, (things.kept, things.gone))
        self.machine.shell(120)
        expect("nothing has failed", (bad := self.machine.run("systemctl --failed --no-legend --plain || true")) == "", bad)
        say(f"{self.args.cuts} power cuts, the longest way back {longest:.0f} s")

    def emulated(self):
        """Without virtualization the same image says so, and servers are emulated."""
        self.stop()
        self.flash()
        self.power_on(virtualization=False)
        self.until_ready()
        self.credentials()
        (shown,) = self.api.get("compute", "/os-hypervisors/detail")["hypervisors"]
        say(f"hypervisor: {shown['hypervisor_type']} {shown['hypervisor_version']}, {shown['cpu_info']}")
        expect("it says that servers are emulated", shown["hypervisor_type"] == "QEMU", shown)
        said = self.machine.call("solostack doctor --config /var/lib/solostack/solostack.toml")[1]
        expect("the doctor says why", re.search(r"(?i)kvm|virtuali[sz]ation", said), said)
        for line in said.splitlines():
            if re.search(r"(?i)kvm|driver", line):
                say(f"  {line.strip()}")

    def bios(self):
        """The same disk in a machine without UEFI."""
        self.stop()
        self.flash()
        self.power_on(firmware="bios")
        self.until_ready()

    def link_local(self):
        """A cable and nobody on it who gives addresses: the machine is reached by a link-local one."""
        self.stop()
        self.flash()
        nics = cable("cable0")
        self.machine = Machine(self.folder, self.disk, nics=nics, memory_mib=self.args.memory)
        self.machine.shell(BOOT_SECONDS)
        wait_for("the card is there", lambda: self.machine.call("ls -d /sys/class/net/e*")[0] == 0, BOOT_SECONDS, 1)
        mac = self.machine.run("cat /sys/class/net/e*/address")
        octets = [int(part, 16) for part in mac.split(":")]
        octets[0] ^= 2
        v6 = f"fe80::{octets[0]:02x}{octets[1]:02x}:{octets[2]:02x}ff:fe{octets[3]:02x}:{octets[4]:02x}{octets[5]:02x}"

        def reached(address):
            self.machine.check()
            url = f"https://{address}/identity/v3"
            done = subprocess.run(["curl", "-sk", "--noproxy", "*", "--max-time", "10", "--interface", "cable0", "-o", "/dev/null", "-w", "%{http_code}", url],
                                  stdout=subprocess.PIPE, text=True)  # fmt: skip
            return done.stdout == "200"

        def own():
            text = self.machine.run("ip -o -4 address show scope link; ip -o -4 address show")
            found = re.search(r"\b169\.254\.\d+\.\d+", text)
            return found and found[0]

        v4 = wait_for("it gives itself an address of 169.254.0.0/16", own, BOOT_SECONDS, 2)
        name = self.machine.run("ls -d /sys/class/net/e*").rsplit("/", 1)[1]
        self.console_shows("unclaimed", f"https://{v4}/", f"no DHCP server answered on {name}: connect a computer by a cable", "press N and give", seconds=BOOT_SECONDS)
        subprocess.run(["ip", "address", "add", "169.254.77.77/16", "dev", "cable0"], check=True)
        wait_for(f"the APIs answer at {v4}", lambda: reached(v4), BOOT_SECONDS, 1)
        say(f"reached at {v4}")
        wait_for(f"the APIs answer at [{v6}%cable0]", lambda: reached(f"[{v6}%25cable0]"), BOOT_SECONDS, 1)
        say(f"reached at {v6} {time.monotonic() - self.machine.began:.0f} s after power on")

    def stop(self):
        if self.machine and self.machine.running():
            self.machine.power_cut()
        self.environment = None


# In this order; those that need what an earlier one left say so by standing behind it.
STORIES = ["first_boot", "client", "second_boot", "power_cuts", "emulated", "bios", "link_local", "bare", *Updates.UPDATE_STORIES, *Media.MEDIA_STORIES]
BEHIND = {"client": "first_boot", "second_boot": "first_boot", "power_cuts": "first_boot"}


def chosen(words):
    wanted = set(words or STORIES)
    if unknown := wanted - set(STORIES):
        raise SystemExit(f"appliance: no such story: {', '.join(sorted(unknown))}; there are {', '.join(STORIES)}")
    wanted |= {BEHIND[name] for name in wanted if name in BEHIND}
    return [name for name in STORIES if name in wanted]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=pathlib.Path)
    parser.add_argument("--only", type=lambda text: text.split(","), help=", ".join(STORIES))
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--memory", type=int, default=2048, help="MiB")
    parser.add_argument("--patience", type=float, default=1, help="how many times as long everything may take")
    parser.add_argument("--counted", action="store_true", help="the machine's clock counts instructions: slower, and the same on a busy host")
    parser.add_argument("--program", type=pathlib.Path, help="what the image was built with, for stories of updates")
    parser.add_argument("--updates", type=pathlib.Path, help="a folder where next versions are kept from run to run")
    parser.add_argument("--keep", action="store_true", help="leave the folder with disk and consoles")
    args = parser.parse_args()
    stories = chosen(args.only)
    Machine.patience, Machine.is_counted = args.patience, args.counted
    if not args.image.is_file():
        raise SystemExit(f"appliance: no image at {args.image}: run `just image` first")
    if lacking := missing():
        raise SystemExit(f"appliance: not installed: {', '.join(lacking)}; run `just setup`")
    host.inside()
    print(f"appliance: seed {args.seed}", flush=True)
    # On a disk: the image is larger than many a /tmp in memory.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="solostack-appliance-", dir="/var/tmp"))
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    # From another address than the machine's own: it would not answer itself.
    subprocess.run(["ip", "route", "replace", "local", ADDRESS, "dev", "lo", "src", "127.0.0.1", "table", "local"], check=True)
    appliance, story = Appliance(args.image, folder, args), ""
    try:
        for story in stories:
            say(f"== {story}")
            getattr(appliance, story)()
    except (Failure, Ended, subprocess.SubprocessError, OSError) as failure:
        console = appliance.machine.console_end() if appliance.machine else ""
        journal = ""
        if appliance.machine and appliance.machine.running() and appliance.machine.pipe:
            with contextlib.suppress(Failure, OSError):
                journal = appliance.machine.call("journalctl -b --no-pager -o short-monotonic | tail -n 60", 60)[1]
        print(f"appliance: {story}: {failure}\n-- console:\n{console}\n-- journal:\n{journal}", flush=True)
        raise SystemExit(1) from None
    finally:
        appliance.stop()
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"appliance: {len(stories)} passed, 0 failed", flush=True)


if __name__ == "__main__":
    main()
