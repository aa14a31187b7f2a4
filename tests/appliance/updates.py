"""Another version of the appliance, as an operator gets it: from a file on a stick or from a server; and versions that are no good.

The versions are built here, by the recipe of the image under test and with its program: one that is as good, and one whose cloud ends
as soon as it starts. What else can be bad about one is made of the good one's parts.
"""

import functools
import http.server
import os
import pathlib
import random
import re
import shlex
import ssl
import subprocess
import sys
import threading
import time

import cloud
from cloud import ROOT, expect, say
from machine import PATIENT, SHELL, Machine, forwarded

# Everything runs at a fiftieth of a real machine's speed, and other things on the host too.
BOOT_SECONDS, INSTALL_SECONDS, GATE_SECONDS, GUEST_SECONDS = 600, 900, 1500, 900
STARTS = 3
# Where the machine finds the test's server; QEMU hands each connection to a program.
SERVER = "10.0.2.100"
STICK_BYTES = 2 << 30
CANNOT_SERVE = {"usr/lib/systemd/system/solostack.service.d/broken.conf": "[Service]\nExecStart=\nExecStart=/bin/false\n"}
CANNOT_RUN = {"usr/bin/solostack": "no program\n"}


def wait_for(what, probe, seconds, pause=0.2):
    return cloud.wait_for(what, probe, seconds * Machine.patience, pause)


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def release_key(folder, name):
    """Secret and public half, as image/README.md makes them."""
    secret, public = folder / f"{name}.key", folder / f"{name}.pub"
    openssl("genpkey", "-algorithm", "ed25519", "-out", secret)
    openssl("pkey", "-in", secret, "-pubout", "-out", public)
    return secret, public


def with_shell(script):
    return script.replace(" console=tty0", f" {SHELL} {PATIENT} console=tty0")


class Versions:
    """Next versions of an image, and update files of them."""

    def __init__(self, base, program, built, folder):
        self.base, self.program, self.built, self.folder = base, pathlib.Path(program).resolve(), pathlib.Path(built), folder
        self.folder.mkdir(exist_ok=True)
        self.secret, self.public = release_key(self.folder, "release")

    def next(self, number):
        return f"{self.base}.{number}"

    def build(self, version, files=None):
        """The parts of another version, with other `files` in it. What was built before is taken as it is."""
        out = self.built / version
        if not (out / "SHA256SUMS").exists():
            overlay = self.folder / f"overlay-{version}"
            overlay.mkdir()
            for path, text in (files or {}).items():
                (overlay / path).parent.mkdir(parents=True, exist_ok=True)
                (overlay / path).write_text(text)
            began = time.monotonic()
            subprocess.run(
                [sys.executable, ROOT / "image/build.py", "--quick", "--formats", "none", "--program", self.program, "--version", version,
                 "--overlay", overlay, "--out", out], check=True, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            say(f"built {version} in {time.monotonic() - began:.0f} s")
        return {part: out / f"solostack-{version}.{part}" for part in ("root", "verity", "efi", "grub")}

    def pack(self, name, version, parts, key=None):
        """An update file, made as image/README.md says; GRUB's script has the words for a root shell that UEFI gets from outside."""
        script = self.folder / f"{name}.with-shell"
        script.write_text(with_shell(parts["grub"].read_text()))
        target = self.folder / f"{name}.update"
        began = time.monotonic()
        subprocess.run(
            [self.program, "update", "pack", "--release", version, "--root", parts["root"], "--verity", parts["verity"], "--uki", parts["efi"],
             "--grub", script, "--key", key or self.secret, target], check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        say(f"{target.name}: version {version}, {target.stat().st_size >> 20} MiB, packed in {time.monotonic() - began:.0f} s")
        return target

    def claimed(self, name, version, key=None):
        """An update that says so much of itself, and has no content worth the name."""
        parts = {}
        for part, text in {"root": "root", "verity": "verity", "efi": f"MZ roothash={'ab' * 32} quiet", "grub": "true\n"}.items():
            parts[part] = self.folder / f"{name}.{part}"
            parts[part].write_text(text)
        return self.pack(name, version, parts, key)

    def damaged(self, parts, seed):
        """The same with a root that the hashes are not of: as of a recipe gone wrong, signed all the same."""
        root = self.folder / "damaged.root"
        subprocess.run(["cp", "--sparse=always", parts["root"], root], check=True)
        chance = random.Random(seed)
        with open(root, "r+b") as file:
            # The superblock stays: what is behind it is what does not fit.
            for at in range(64 << 10, 300 << 20, 256 << 10):
                file.seek(at)
                file.write(chance.randbytes(4096))
        return {**parts, "root": root}


class Server:
    """Update files by https, on an address that only the test's machine is told of."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.authority = folder / "server-ca.pem"
        key, request, certificate, names = (folder / f"server.{kind}" for kind in ("key", "csr", "pem", "ext"))
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=a vendor",
                "-keyout", folder / "server-ca.key", "-out", self.authority)  # fmt: skip
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=updates", "-keyout", key, "-out", request)
        names.write_text(f"subjectAltName=IP:{SERVER}\n")
        openssl("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", folder / "server-ca.key", "-CAcreateserial", "-days", "30",
                "-extfile", names, "-out", certificate)  # fmt: skip

        class Quiet(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words):
                pass

        class Patient(http.server.ThreadingHTTPServer):
            def handle_error(self, request, address):
                """A machine that does not trust this server says so, and goes."""

        self.http = Patient(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def nic(self):
        """The forwarded port of every story, and this server as the machine sees it."""
        (netdev, words, *device) = forwarded()
        relay = f"{sys.executable} {pathlib.Path(__file__).with_name('relay.py')} {self.port}"
        return [netdev, f"{words},guestfwd=tcp:{SERVER}:443-cmd:{relay}", *device]


def stick(path, files):
    """A USB stick with these files on it, or a disk that looks like one."""
    folder = path.with_suffix(".files")
    folder.mkdir()
    for file in files:
        os.link(file, folder / file.name)
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(STICK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "UPDATES", "-E", "root_owner=0:0", "-d", folder, path], check=True)
    return ["-drive", f"if=none,id=stick,file={path},format=raw", "-device", "virtio-blk-pci,drive=stick"]


class Updates:
    """The stories of `Appliance` about updates."""

    UPDATE_STORIES = ("update", "never_up", "update_bios")

    def update(self):
        """N becomes N+1 and stays; N+2, which is no good, is left by itself, with the reason, and nothing of the cloud is lost."""
        made = self.begin("uefi")
        good, bad = made.next(1), made.next(2)
        made.pack("bad", bad, made.build(bad, CANNOT_SERVE))
        self.server = Server(made.folder)
        self.stick = stick(self.folder / "stick.raw", [
            made.public, self.server.authority, made.pack("good", good, made.build(good)),
            made.claimed("forged", good, release_key(made.folder, "stranger")[0]), made.claimed("older", "0.0.1"),
        ])  # fmt: skip
        self.flash()
        self.on()
        self.until_ready()
        self.credentials()
        self.boot_a_server("first")
        self.machine.run("cp /run/stick/release.pub /var/lib/solostack/release.pub")
        self.refused("/run/stick/forged.update", "not signed by the release key")
        self.refused("/run/stick/older.update", "--older")
        self.refused(f"http://{SERVER}/bad.update", "https")
        self.refused(f"https://{SERVER}/bad.update", "certificate")
        self.says("there was no update yet")

        self.install("/run/stick/good.update", good)
        self.machine.run("systemctl restart solostack.service", 300)
        self.says("has yet to prove itself")
        self.machine.reboot()
        self.on()
        self.proves_itself(good)
        self.all_is_there()
        self.refused("/run/stick/good.update", "is what runs")

        self.install(f"https://{SERVER}/bad.update --ca /run/stick/server-ca.pem", bad)
        self.machine.reboot()
        reason = self.returns(bad, good, 1)
        expect("the reason is what the gate saw", "does not answer" in reason, reason)
        self.all_is_there()

    def never_up(self):
        """Versions that come to no gate, as their program or their root is broken: the third start is the last."""
        made = self.begin("uefi")
        first, bad, dead = made.base, made.next(2), made.next(3)
        self.stick = stick(self.folder / "stick.raw", [
            made.public, made.pack("dead", dead, made.build(dead, CANNOT_RUN)),
            made.pack("damaged", bad, made.damaged(made.build(bad, CANNOT_SERVE), self.args.seed)),
        ])  # fmt: skip
        self.flash()
        self.on()
        self.until_ready()
        self.machine.run("cp /run/stick/release.pub /var/lib/solostack/release.pub")
        self.install("/run/stick/damaged.update", bad)
        self.machine.reboot()
        self.returns(bad, first, STARTS)
        self.install("/run/stick/dead.update", dead)
        self.machine.reboot()
        self.returns(dead, first, STARTS)

    def update_bios(self):
        """Without UEFI, where GRUB counts the starts: the same good version, and one that never comes up."""
        made = self.begin("bios")
        good, bad = made.next(1), made.next(2)
        parts = made.build(good)
        broken = made.build(bad, CANNOT_SERVE)
        self.stick = stick(self.folder / "stick.raw", [
            made.public, made.pack("good", good, parts), made.pack("bad", bad, broken),
            made.pack("damaged", bad, made.damaged(broken, self.args.seed)),
        ])  # fmt: skip
        self.flash()
        self.shell_for_grub(made)
        self.on()
        self.until_ready()
        self.machine.run("cp /run/stick/release.pub /var/lib/solostack/release.pub")
        self.install("/run/stick/good.update", good)
        self.machine.reboot()
        self.on()
        self.proves_itself(good)
        self.install("/run/stick/damaged.update", bad)
        self.machine.reboot()
        self.returns(bad, good, STARTS)
        self.install("/run/stick/bad.update", bad)
        self.machine.reboot()
        self.returns(bad, good, 1)

    # -- what they are made of ---------------------------------------------------------------------------------------------
    def begin(self, firmware):
        self.stop()
        self.updated_by, self.server = firmware, None
        base = re.fullmatch(r"solostack-(.+)\.raw(\.zst)?", self.image.name)[1]
        program = self.args.program
        expect("the image's program is there, by --program", program and program.is_file(), program)
        return Versions(base, program, self.args.updates or self.folder / "built", self.folder / f"updates-{firmware}")

    def shell_for_grub(self, made):
        """What the image's first version starts with, without UEFI."""
        (start,) = re.findall(r'start= *(\d+),.*name="solostack-esp"', self.table())
        drive, script = f"{self.disk}@@{int(start) * 512}", made.folder / "first.cfg"
        name = f"::grub/solostack_{made.base}.cfg"
        subprocess.run(["mcopy", "-n", "-i", drive, name, script], check=True)
        script.write_text(with_shell(script.read_text()))
        subprocess.run(["mcopy", "-o", "-i", drive, script, name], check=True)

    def on(self, shell=True):
        nics = self.server.nic() if self.server else forwarded()
        self.machine = Machine(self.folder, self.disk, nics=[*nics, *self.stick], memory_mib=self.args.memory, firmware=self.updated_by)
        if shell:
            self.machine.shell(BOOT_SECONDS)
            self.machine.run("mkdir -p /run/stick && mount -o ro /dev/disk/by-label/UPDATES /run/stick")

    def update_status(self):
        return self.machine.run("solostack update status --state /var/lib/solostack")

    def says(self, text):
        expect(f"the status says `{text}`", text in (said := self.update_status()), said)

    def refused(self, words, why):
        status, said = self.machine.call(f"solostack update install {words} --state /var/lib/solostack", INSTALL_SECONDS)
        expect(f"`install {words}` is refused, with `{why}`", status == 1 and why in said, (status, said))
        say(f"refused: {said}")

    def install(self, words, version):
        began = time.monotonic()
        said = self.machine.run(f"solostack update install {words} --state /var/lib/solostack", INSTALL_SECONDS)
        expect("it says what it installed", f"version {version} is installed" in said, said)
        say(f"{version} installed in {time.monotonic() - began:.0f} s by `{words}`")
        self.says("has yet to prove itself")

    def loaders(self):
        """The kernel images on the EFI partition."""
        return self.machine.run("mkdir -p /run/esp && mount -o ro /dev/disk/by-partlabel/solostack-esp /run/esp && ls /run/esp/EFI/Linux; umount /run/esp").split()

    def proves_itself(self, version):
        wait_for(f"{version} proves itself", lambda: f"version {version} proved itself" in self.update_status(), GATE_SECONDS, 2)
        self.says(f"running: {version} (appliance)")
        # Who marks it good is systemd-bless-boot, or the gate before it.
        wait_for("no start is counted any more", lambda: f"solostack_{version}.efi" in self.loaders(), 120, 2)
        say(f"{version} proved itself {time.monotonic() - self.machine.began:.0f} s after power on")

    def returns(self, bad, good, starts):
        """The bad one is started so many times, each of which it ends itself, then the good one is back. Answers the reason."""
        began = time.monotonic()
        for start in range(1, starts + 1):
            self.on(shell=False)
            wait_for(f"start {start} of {bad} ends by itself", lambda: not self.machine.running(), GATE_SECONDS, 1)
            say(f"start {start} of {bad} ended after {time.monotonic() - self.machine.began:.0f} s")
        self.on()
        self.until_ready()
        said = self.update_status()
        expect(f"{good} is back", f"running: {good} (appliance)" in said and f"returned from version {bad} to {good}" in said, said)
        say(f"back after {time.monotonic() - began:.0f} s: {said.splitlines()[-1]}")
        failed = self.machine.run("systemctl --failed --no-legend --plain || true")
        expect("nothing has failed", failed == "", failed)
        return said.splitlines()[-1]

    def all_is_there(self):
        """The cloud of before, with its server, which runs again; health tells how the update went."""
        self.until_ready()
        wait_for("the server runs again", lambda: self.openstack("server show -f value -c status first") == "ACTIVE", GUEST_SECONDS, 2)
        self.guest_answers("first")
        status, _, health = self.api.call("GET", self.api.base.replace("/identity/v3", "/solostack/v1/health"))
        expect("the administrator sees the health", status == 200, (status, health))
        (part,) = [part for part in health.get("health", health)["parts"] if part["name"] == "update"]
        say(f"health: {part['state']}: {part['reason']}")
        expect("health says the same as the status", part["reason"] in self.update_status(), part)
