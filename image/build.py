#!/usr/bin/env python3
"""Builds the appliance: one disk image that starts a machine in which Solostack is all that is installed.

    build.py --program PATH [--version V] [--out FOLDER] [--formats raw,qcow2,iso] [--release-key PUB]
             [--overlay FOLDER] [--quick]

Debian 13 packages from the mirrors that apt is configured with, put together by mkosi and systemd's own tools, which run in a
Debian 13 tree of their own (made once, in $SOLOSTACK_CACHE/image). Needs root for mounts in a namespace of its own and for
file owners, neither loop devices nor a privileged container.

In FOLDER (target/image) afterwards: solostack-V.raw.zst for `dd` and etchers, solostack-V.qcow2 for nested machines, solostack-V.iso for CDs
and sticks, the parts of an update (solostack-V.efi, .root, .verity, .grub), solostack-V.spdx.json, and SHA256SUMS. `--quick` leaves the raw disk uncompressed, for tests.
"""

import argparse
import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import tomllib
import uuid

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "tests/guests")]

import bill  # noqa: E402
import boot  # noqa: E402
import iso  # noqa: E402
import packages  # noqa: E402
from packages import output, run  # noqa: E402

SUITE = "trixie"
# What builds the image. mkosi finds all of them inside the tree.
TOOLS = """
mkosi systemd systemd-container systemd-repart systemd-ukify systemd-boot-tools udev
apt dpkg debian-archive-keyring ca-certificates cpio kmod zstd xz-utils
mtools dosfstools e2fsprogs xfsprogs erofs-utils cryptsetup-bin fdisk
grub-common grub2-common grub-pc-bin xorriso qemu-utils
""".split()
SEED_SPACE = uuid.UUID("b0c3f1de-2e51-4a8e-9d0b-7a1f6a1d4c55")
# Of the files in the image, where git does not tell when the tree was last changed.
NO_EPOCH = 1_760_000_000


def say(text):
    print(f"image: {text}", file=sys.stderr, flush=True)


def cache():
    base = os.environ.get("SOLOSTACK_CACHE")
    if not base:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "solostack"
    return pathlib.Path(base) / "image"


def check_host():
    if os.geteuid() != 0:
        raise SystemExit("image: needs root, for mounts in a namespace of its own and for file owners")
    needed = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "objcopy": "binutils", "sfdisk": "fdisk", "mcopy": "mtools",
              "zstd": "zstd", "qemu-img": "qemu-utils"}  # fmt: skip
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = [f"{name} (package {package})" for name, package in needed.items() if not shutil.which(name, path=path)]
    if lacking:
        raise SystemExit(f"image: not installed: {', '.join(lacking)}; run `just setup`")


def sources():
    """The archives of this host's apt, for the image's release: [(URI, suite)]."""
    mirrors = dict(packages.mirrors())
    found = [(mirrors["Debian"], SUITE), (mirrors["Debian"], f"{SUITE}-updates")]
    if security := mirrors.get("Debian-Security"):
        found.append((security, f"{SUITE}-security"))
    return found


# -- the tools ---------------------------------------------------------------------------------------------------------
def tools():
    """The tree that mkosi runs in; made when it is missing."""
    digest = hashlib.sha256(f"{SUITE} {' '.join(TOOLS)}".encode()).hexdigest()[:16]
    target = cache() / f"tools-{digest}"
    if target.exists():
        return target
    for old in [*cache().glob("tools-*"), *cache().glob("partial-*")]:
        shutil.rmtree(old)
    say(f"making the tools' tree in {target}")
    partial = cache() / f"partial-{digest}"
    lines = [f"deb [signed-by={packages.KEYRING}] {uri} {suite} main" for uri, suite in sources()]
    run("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--include={','.join(TOOLS)}", "--architectures=amd64",
        '--aptopt=Apt::Install-Recommends "false"', "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
        SUITE, partial, *lines)  # fmt: skip
    partial.rename(target)
    return target


# mkosi wants `/` to be a mount point and the tools at their places; both are so in the tree, once it is the root.
ENTER = """
mount --bind "$1" "$1"
cd "$1"
mkdir -p work old
mount --rbind /proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --bind "$2" work
shift 2
pivot_root . old
umount -l /old
cd /work
exec env -i PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 TERM=dumb "$@"
"""


def inside(tree, work, *argv):
    run("unshare", "--mount", "--propagation", "private", "sh", "-euc", ENTER, "enter", tree, work, *argv, stdin=subprocess.DEVNULL)


# -- what goes in -------------------------------------------------------------------------------------------------------
def workspace_version():
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def epoch():
    """When the tree was last changed."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    done = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%ct"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else NO_EPOCH


def apt_proxies():
    """What this host's apt needs to reach its mirrors."""
    lines = output("apt-config", "dump", "Acquire").splitlines()
    return [line for line in lines if "::Proxy" in line and '""' not in line]


def check_program(tree, program):
    """It must run on the image's Debian, which may have an older C library than the machine that built it."""
    copy = tree / "tmp/solostack"
    shutil.copy(program, copy)
    try:
        done = subprocess.run(["chroot", tree, "/tmp/solostack", "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    finally:
        copy.unlink()
    if done.returncode:
        raise SystemExit(f"image: {program} does not run on Debian's {SUITE}: {done.stdout.strip()}")


def definition(work, program, version, release_key=None):
    """A copy of mkosi/ with what this build adds."""
    folder = work / "mkosi"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "mkosi", folder, symlinks=True)
    apt = folder / "mkosi.sandbox/etc/apt"
    (apt / "sources.list.d").mkdir(parents=True)
    (apt / "apt.conf.d").mkdir()
    stanzas = [f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: {packages.KEYRING}\n" for uri, suite in sources()]
    (apt / "sources.list.d/mkosi.sources").write_text("\n".join(stanzas))
    (apt / "apt.conf.d/50host").write_text("".join(f"{line}\n" for line in apt_proxies()))
    usr = folder / "mkosi.extra/usr"
    (usr / "bin").mkdir(exist_ok=True)
    (usr / "lib/solostack").mkdir(exist_ok=True)
    (usr / "lib/solostack/appliance").write_text(f"{version}\n")
    if release_key:
        shutil.copy(release_key, usr / "lib/solostack/release.pub")
    # The boot menu shows this, too.
    (usr / "lib/os-release").write_text(
        f'PRETTY_NAME="Solostack {version}"\nNAME="Solostack"\nID=solostack\nID_LIKE=debian\nVERSION_ID="{version}"\nVERSION="{version}"\n'
    )
    target = usr / "bin/solostack"
    run("objcopy", "--strip-all", program, target)
    target.chmod(0o755)
    # git keeps no more of modes than one bit, and a umask may have taken others.
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) and path.stat().st_mode & 0o111 else 0o644)
    return folder


def lay_over(folder, overlay):
    """Files of somebody else's over those of the image: a vendor's, or a test's that wants a bad image."""
    shutil.copytree(overlay, folder / "mkosi.extra", symlinks=True, dirs_exist_ok=True)


def mkosi(tree, work, version):
    """Runs mkosi; returns the folder with the raw disk, the split parts and the manifest."""
    made = work / "made"
    shutil.rmtree(made, ignore_errors=True)
    for name in ("made", "workspace", "packages", "cache"):
        (work / name).mkdir(exist_ok=True)
    # The apt of the tree downloads as another user.
    inside(
        tree, work, "mkosi", "--directory=/work/mkosi", "--output-directory=/work/made", "--workspace-directory=/work/workspace",
        "--package-cache-dir=/work/packages", "--incremental=yes", "--cache-directory=/work/cache", f"--image-version={version}",
        f"--seed={uuid.uuid5(SEED_SPACE, version)}", f"--source-date-epoch={epoch()}", "--force", "build",
    )  # fmt: skip
    return made


def partitions(image):
    table = json.loads(output("sfdisk", "--json", image))["partitiontable"]
    return {row.get("name", row["node"]): row for row in table["partitions"]}


# -- what comes out -----------------------------------------------------------------------------------------------------
def sums(out):
    lines = []
    for path in sorted(out.iterdir()):
        if path.name != "SHA256SUMS" and path.is_file():
            with open(path, "rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    (out / "SHA256SUMS").write_text("".join(lines))


def compress(source, target, level):
    run("zstd", "-q", "-f", "-T0", f"-{level}", source, "-o", target)


def deliver(made, out, version, formats, quick, tree, work):
    raw = made / f"solostack_{version}.raw"
    uki = made / f"solostack_{version}.efi"
    rows = partitions(raw)
    scratch = work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    boot.install(raw, rows, uki, f"solostack_{version}", tree, scratch)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        if old.name.startswith(f"solostack-{version}.") or old.name == "SHA256SUMS":
            old.unlink()
    name = f"solostack-{version}"
    if "iso" in formats:
        iso.make(raw, out / f"{name}.iso", rows, version, epoch(), tree, scratch)
    if "raw" in formats and quick:
        run("cp", "--sparse=always", raw, out / f"{name}.raw")
    elif "raw" in formats:
        compress(raw, out / f"{name}.raw.zst", 19)
    if "qcow2" in formats:
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", raw, out / f"{name}.qcow2")
    for kind in ("root-x86-64", "root-x86-64-verity"):
        (part,) = made.glob(f"solostack_{version}*.{kind}.raw")
        short = "verity" if kind.endswith("verity") else "root"
        run("cp", "--sparse=always", part, out / f"{name}.{short}")
    shutil.copy(uki, out / f"{name}.efi")
    (out / f"{name}.grub").write_text(boot.script(uki, f"solostack_{version}"))
    manifest = json.loads((made / f"solostack_{version}.manifest").read_text())
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    made_at = datetime.datetime.fromtimestamp(epoch(), datetime.timezone.utc)
    (out / f"{name}.spdx.json").write_text(json.dumps(bill.spdx(name, version, made_at, manifest, lock), indent=1) + "\n")
    sums(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True, help="the built solostack, for Debian 13 or older")
    parser.add_argument("--version", default=workspace_version(), help="of the image; the workspace's by default")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/image")
    parser.add_argument("--release-key", type=pathlib.Path, help="public half (PEM) of the key that signs updates; without it there are none")
    parser.add_argument("--overlay", type=pathlib.Path, help="a folder whose files are put over the image's own")
    parser.add_argument("--formats", default="raw,qcow2,iso", help="of the disk: raw, qcow2, iso; what an update is made of is there without one, too")
    parser.add_argument("--quick", action="store_true", help="a raw disk as it is, not compressed")
    args = parser.parse_args()
    if not args.version.replace(".", "").isalnum():
        raise SystemExit(f"image: a version is digits, letters and dots: {args.version}")
    if not args.program.is_file():
        raise SystemExit(f"image: no program at {args.program}: build it first")
    check_host()
    # For those who write the time into what they make, as mtools does.
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch())
    began = time.monotonic()
    cache().mkdir(parents=True, exist_ok=True)
    with open(cache() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tree, work = tools(), cache() / "work"
        work.mkdir(exist_ok=True)
        # The tree's apt drops to a user of its own, who must get here.
        for folder in (cache(), work):
            folder.chmod(0o755)
        definition(work, args.program.resolve(), args.version, args.release_key)
        check_program(tree, work / "mkosi/mkosi.extra/usr/bin/solostack")
        if args.overlay:
            lay_over(work / "mkosi", args.overlay)
        made = mkosi(tree, work, args.version)
        say(f"put together after {time.monotonic() - began:.0f} s")
        deliver(made, args.out.resolve(), args.version, set(args.formats.split(",")), args.quick, tree, work)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(made)
    say(f"done in {time.monotonic() - began:.0f} s, in {args.out}:")
    for path in sorted(args.out.iterdir()):
        say(f"  {path.stat().st_size / 2**20:8.1f} MiB  {path.name}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"image: `{error.cmd[0]}` ended with status {error.returncode}") from None
