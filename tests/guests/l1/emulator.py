"""The QEMU that emulates the L1. The translators of versions 7 to 10 lose interrupts of a guest in a guest now and then: the
guest hangs, or the whole L1 stands still for minutes. A host with an older one than 11 gets Debian's from the backports of a
release that has one, unpacked with all its libraries beside the L1's disk: what is installed stays as it is."""

import fcntl
import re
import shutil
import tempfile
from pathlib import Path

import packages
from packages import output

PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
NEWEST_BROKEN = 10
RELEASE = "trixie"
# Where the program looks for firmware and option ROMs, below its root.
DATA = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"]


def major(argv):
    return int(re.search(r"version (\d+)\.", output(*argv, "--version"))[1])


def emulator(cache):
    """The beginning of the command line of a QEMU that will do."""
    if shutil.which(PROGRAM) and major([PROGRAM]) > NEWEST_BROKEN:
        return [PROGRAM]
    root = cache / f"emulator-{RELEASE}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "emulator.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            fetch(cache, root)
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = libraries / "ld-linux-x86-64.so.2"
    folders = ":".join(str(folder) for folder in (libraries, libraries / "pulseaudio"))
    data = [word for name in DATA for word in ("-L", str(root / name))]
    return [str(loader), "--library-path", folders, str(root / "usr/bin" / PROGRAM), *data]


def fetch(cache, root):
    print(f"l1: fetching {PACKAGE} from backports, for its emulated processor", flush=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="partial-") as work:
        work = Path(work)
        archive = packages.Archive(work / "archive", RELEASE, ["amd64"], backports=True)
        (work / "root").mkdir()
        packages.merged_usr(work / "root")
        for deb in archive.closure([PACKAGE]):
            packages.unpack(deb, work / "root")
        for name in ("doc", "man", "locale", "info"):
            shutil.rmtree(work / "root/usr/share" / name, ignore_errors=True)
        # Only what is whole gets its name.
        (work / "root").rename(root)
