#!/usr/bin/env python3
"""A throw-away machine with a true KVM (L1), on any machine: QEMU emulates a processor with AMD-V, Debian's cloud kernel in it
brings kvm-amd. What runs in it is our own program, and in that the guests (L2).

    l1.py build                       make the root disk if its inputs changed; prints where it is
    l1.py run PROGRAM SCRIPT          boot, put PROGRAM at /usr/local/bin/solostack, run a shell script as root; its status is ours
    l1.py shell PROGRAM               the same, and every line of standard input is a script of its own
    l1.py in FOLDER SCRIPT            run a script in a machine that a test holds for you (its folder has an l1.json)
    l1.py count FILES                 boot with a clock that counts instructions, FILES at /mnt, and run /mnt/run.sh
    l1.py portable PROGRAM FOLDER     copy a program of this host there with its libraries, to run as FOLDER/PROGRAM/run

`run` and `shell` take `--files FOLDER` (a copy of it is at /mnt, to change at will), `--processors N` and `--single` (one thread
of the host for all processors).

Everything in it comes from Debian packages, which are fetched once from the mirrors that apt is configured with. Needs QEMU
and tools that build file systems (`just setup`), neither root nor KVM. The host reaches the machine by forwarded ports of
127.0.0.1 alone: one for `run`, which is HTTP guarded by a secret of this run, and those the caller asks for.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from emulator import emulator  # noqa: E402
from packages import output, run  # noqa: E402
from rootdisk import Missing, build, cache  # noqa: E402

ADDRESS = "10.0.2.15"
CHANNEL_PORT = 9


class Ended(Exception):
    """A script in the machine failed, or its words ended."""


class Gone(Exception):
    """The machine is no more: nothing is worth waiting for."""


# -- what goes in -------------------------------------------------------------------------------------------------------
def stripped(program):
    """The program without what only a debugger reads, which is most of it; kept beside the disk for the next run."""
    program = pathlib.Path(program).resolve()
    if not program.is_file():
        raise Missing(f"no program at {program}: build it first")
    stat = program.stat()
    name = hashlib.sha256(f"{program}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache() / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    if not target.exists():
        for old in folder.iterdir():
            # Another run may still want a fresh one.
            if time.time() - old.stat().st_mtime > 3600:
                old.unlink()
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as partial:
            pass
        run("objcopy", "--strip-debug", program, partial.name)
        with open(partial.name, "ab") as file:
            file.truncate((os.path.getsize(partial.name) + 511) // 512 * 512)
        os.rename(partial.name, target)
    return target


def portable(program, folder):
    """A program of this host with the libraries it needs, which need not be the L1's."""
    source = shutil.which(program)
    if not source:
        raise Missing(f"not installed: {program}; run `just setup`")
    target = pathlib.Path(folder) / pathlib.Path(source).name
    (target / "lib").mkdir(parents=True)
    shutil.copy(source, target / "program")
    for word in output("ldd", source).split():
        if word.startswith("/"):
            shutil.copy(word, target / "lib")
    (loader,) = (target / "lib").glob("ld-linux*")
    script = f'#!/bin/sh\nhere=$(dirname "$0")\nexec "$here/lib/{loader.name}" --library-path "$here/lib" "$here/program" "$@"\n'
    (target / "run").write_text(script)
    (target / "run").chmod(0o755)


def files_disk(files, target):
    """A file system with a copy of this folder and some room."""
    size = sum(path.stat().st_size for path in pathlib.Path(files).rglob("*") if path.is_file())
    with open(target, "wb") as file:
        file.truncate((size * 9 // 8 + (256 << 20)) // 4096 * 4096)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0,lazy_itable_init=1", "-d", files, target)


# -- the machine ---------------------------------------------------------------------------------------------------------
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(channel, secret, script, seconds):
    """Run a shell script in the machine behind that port; returns its status, standard output and standard error."""
    request = urllib.request.Request(f"http://127.0.0.1:{channel}/cgi-bin/run", data=script.encode(), headers={"X-Secret": secret})
    # Proxies of the environment are for other hosts.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=seconds) as reply:
        data = reply.read()
    head, _, body = data.partition(b"\n")
    status, out, errors = (int(word) for word in head.split())
    if len(body) != out + errors:
        raise ValueError("half an answer")
    return status, body[:out], body[out:]


# The same processor, memory and kernel whatever it is for.
def machine(disk, memory_mib, processors, accelerator, words):
    return [*emulator(cache()), "-machine", "q35,hpet=off", "-accel", accelerator, "-cpu", "max,+svm,+npt",
            "-m", str(memory_mib), "-smp", str(processors), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", disk / "vmlinuz", "-initrd", disk / "initrd.img",
            "-append", " ".join(["console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable root=/dev/vda rw", *words]),
            "-drive", f"if=none,id=root,file={disk}/root.img,format=raw,snapshot=on,cache=unsafe,discard=unmap",
            "-device", "virtio-blk-pci,drive=root,serial=root", "-device", "virtio-rng-pci"]  # fmt: skip


def with_disk(name, file):
    return ["-drive", f"if=none,id={name},file={file},format=raw,snapshot=on,cache=unsafe", "-device", f"virtio-blk-pci,drive={name},serial={name}"]


class Machine:
    """A running L1. `folder` takes its console's log; `forward` are ports that mean the same inside and outside; `files` is a
    folder that it has a copy of at /mnt."""

    def __init__(self, program, folder, *, forward=(), memory_mib=3072, processors=1, threads="multi", files=None):
        self.folder = pathlib.Path(folder)
        self.console = self.folder / "l1-console.log"
        self.channel, self.secret = free_port(), secrets.token_hex(16)
        disk, program = build(), stripped(program)
        forwards = [f"hostfwd=tcp:127.0.0.1:{self.channel}-{ADDRESS}:{CHANNEL_PORT}"]
        forwards += [f"hostfwd=tcp:127.0.0.1:{port}-{ADDRESS}:{port}" for port in forward]
        words = [f"l1.channel={self.secret}", f"l1.program={program.stat().st_size}"]
        disks = with_disk("program", program)
        if files:
            files_disk(files, self.folder / "files.img")
            words.append("l1.files")
            disks += with_disk("files", self.folder / "files.img")
        # More processors do not make it quicker: they are emulated too, and wait for each other's locks.
        argv = [*machine(disk, memory_mib, processors, f"tcg,thread={threads},tb-size=512", words), *disks, "-serial", f"file:{self.console}",
                "-d", "cpu_reset", "-D", self.folder / "l1-resets.log",
                "-netdev", ",".join(["user,id=net,restrict=on", *forwards]), "-device", "virtio-net-pci,netdev=net"]  # fmt: skip
        # The overlay of the disk is written to where there is room, and is gone with the process.
        environment = {**os.environ, "TMPDIR": str(self.folder)}
        with open(os.open(self.folder / "l1.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"channel": self.channel, "secret": self.secret}, file)
        with open(self.folder / "l1-qemu.log", "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def wait(self, seconds=240):
        """Until it answers; returns what it says about itself."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.run("uname -r; test -c /dev/kvm", seconds=5)
            except (OSError, ValueError):
                if time.monotonic() > deadline:
                    raise Ended(f"the L1 did not answer within {seconds} s:\n{self.console_end()}") from None
            time.sleep(0.3)

    def call(self, script, seconds=120):
        """Run a shell script as root; returns its status, standard output and standard error."""
        if self.process.poll() is not None:
            said = (self.folder / "l1-qemu.log").read_text(errors="replace")
            raise Gone(f"the L1 ended with status {self.process.returncode}: {said}\n{self.console_end()}")
        return call(self.channel, self.secret, script, seconds)

    def run(self, script, seconds=120):
        """The same where nothing else than success will do; returns what was said, without the last newline."""
        status, out, errors = self.call(script, seconds)
        if status:
            raise Ended(f"`{script.strip()}` in the L1 ended with status {status}: {errors.decode(errors='replace')[-2000:]}{out.decode(errors='replace')[-500:]}")
        return out.decode(errors="replace").strip()

    def read(self, path):
        status, out, errors = self.call(f"cat '{path}'")
        if status:
            raise Ended(f"cannot read {path} in the L1: {errors.decode(errors='replace')}")
        return out

    def write(self, path, text, mode=0o600):
        self.run(f"umask 077; cat > '{path}' <<'END-OF-FILE'\n{text.rstrip()}\nEND-OF-FILE\nchmod {mode:o} '{path}'")

    def console_end(self, size=3000):
        with contextlib.suppress(OSError):
            return self.console.read_text(errors="replace")[-size:]
        return ""

    def stop(self):
        """Nothing in it is to be kept."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


# Nothing that is counted is silent for so long, also on a busy host: a boot says something each ten seconds of a quiet one.
SILENCE = 180


def lines_of(pipe, seconds):
    """Lines, until the end; a machine that says nothing for so long will say nothing any more."""
    rest = b""
    while select.select([pipe], [], [], seconds)[0]:
        more = os.read(pipe.fileno(), 65536)
        if not more:
            return
        *lines, rest = (rest + more).split(b"\n")
        yield from lines
    raise Ended(f"the L1 has said nothing for {seconds} s")


def count(files, folder, memory_mib=3072):
    """Run `run.sh` of these files in a machine whose clock is the number of instructions it has executed, two nanoseconds each:
    times that are taken in it do not depend on what else this host does. What it says is printed; returns its status."""
    disk, folder = build(), pathlib.Path(folder)
    files_disk(files, folder / "files.img")
    argv = [*machine(disk, memory_mib, 1, "tcg,thread=single,tb-size=512", ["l1.files", "l1.count"]), *with_disk("files", folder / "files.img"),
            "-icount", "shift=1,sleep=off", "-serial", "stdio",
            # For whoever wants to know why it is silent: `info registers` is of the guest that executes, whichever that is.
            "-monitor", f"unix:{folder}/monitor,server=on,wait=off"]  # fmt: skip
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(folder)})
    status = None
    try:
        for line in lines_of(process.stdout, SILENCE):
            line = line.decode(errors="replace").rstrip()
            if line.startswith("l1: status "):
                status = int(line.split()[-1])
            elif line:
                print(line, flush=True)
        process.wait()
    finally:
        process.kill()
        process.wait()
    if status is None:
        raise Ended(f"the L1 ended with status {process.returncode} before its script did")
    return status


def on_termination(_signal, _frame):
    """As an exception, so that what was started is stopped on the way out."""
    raise SystemExit(143)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build")
    for name in ("run", "shell"):
        command = commands.add_parser(name)
        command.add_argument("program", type=pathlib.Path)
        command.add_argument("--files", type=pathlib.Path)
        command.add_argument("--processors", type=int, default=1)
        command.add_argument("--single", action="store_true")
        if name == "run":
            command.add_argument("script")
    command = commands.add_parser("in")
    command.add_argument("folder", type=pathlib.Path)
    command.add_argument("script")
    command = commands.add_parser("count")
    command.add_argument("files", type=pathlib.Path)
    command = commands.add_parser("portable")
    command.add_argument("program")
    command.add_argument("folder", type=pathlib.Path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, on_termination)
    if args.command == "portable":
        portable(args.program, args.folder)
        return 0
    if args.command == "build":
        print(build())
        return 0
    if args.command == "in":
        where = json.loads((args.folder / "l1.json").read_text())
        status, out, errors = call(where["channel"], where["secret"], args.script, 3600)
        sys.stdout.buffer.write(out)
        sys.stderr.buffer.write(errors)
        return status
    with tempfile.TemporaryDirectory(prefix="solostack-l1-") as folder:
        if args.command == "count":
            return count(args.files, folder)
        held = Machine(args.program, folder, processors=args.processors, threads="single" if args.single else "multi", files=args.files)
        try:
            held.wait()
            status = 0
            for script in [args.script] if args.command == "run" else sys.stdin:
                status, out, errors = held.call(script, 3600)
                sys.stdout.buffer.write(out)
                sys.stderr.buffer.write(errors)
                sys.stdout.flush()
                sys.stderr.flush()
            return status
        finally:
            held.stop()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Missing, Ended, Gone) as error:
        raise SystemExit(f"l1: {error}") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"l1: `{error.cmd[0]}` ended with status {error.returncode}") from None
