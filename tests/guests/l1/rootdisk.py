"""The L1's disk, kernel and initramfs, made from Debian packages: see l1.py. Made again when this file changes, or one that
it is made from."""

import fcntl
import hashlib
import os
import pathlib
import shutil
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import packages  # noqa: E402
import tiny  # noqa: E402
from packages import output, run  # noqa: E402

# The programs that the supervisor calls, those that look at what it made, and what a boot takes.
PACKAGES = """
busybox-static dash kmod nftables dnsmasq-base iproute2 procps openssh-client iputils-ping seabios libc6 libgcc-s1
python3 qemu-system-x86
""".split()
KERNEL = "cloud-amd64"
INITRAMFS_MODULES = ["virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "crc32c_intel"]
# Nobody reads these there.
LEFT_OUT = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/perl5", "usr/share/bash-completion", "usr/share/lintian"]
# The root file system, sparse. Servers' disks lie on it.
ROOT_MIB = 6144


class Missing(Exception):
    """What this needs and this host lacks, with a word on how to get it."""


def cache():
    base = os.environ.get("SOLOSTACK_CACHE")
    if not base:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "solostack"
    return pathlib.Path(base) / "l1"


def inputs_hash():
    digest = hashlib.sha256(packages.host_codename().encode())
    parent = HERE.parent
    files = [HERE / "rootdisk.py", parent / "packages.py", parent / "tiny.py", parent / "tiny/initramfs-init"]
    files += sorted(p for p in (HERE / "rootfs").rglob("*") if p.is_file())
    for path in files:
        digest.update(f"\0{path.relative_to(parent)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build():
    """The folder with root.img, vmlinuz, initrd.img and a static busybox for guests of a guest; made first if something that it
    is made from changed."""
    check_tools()
    target = cache() / inputs_hash()
    if (target / "complete").exists():
        return target
    cache().mkdir(parents=True, exist_ok=True)
    with open(cache() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (target / "complete").exists():
            return target
        began = time.monotonic()
        print(f"l1: building {target}", file=sys.stderr)
        # Whatever else lies here was made from older inputs, or not to the end.
        for old in cache().iterdir():
            if old.is_dir() and old.name != "programs" and not old.name.startswith(("emulator", "partial")):
                shutil.rmtree(old)
        target.mkdir()
        assemble(target)
        (target / "complete").touch()
        print(f"l1: built in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return target


def check_tools():
    needed = {"qemu-system-x86_64": "qemu-system-x86", "mke2fs": "e2fsprogs", "dpkg-deb": "dpkg", "cpio": "cpio", "depmod": "kmod",
              "objcopy": "binutils"}  # fmt: skip
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = [f"{name} (package {package})" for name, package in needed.items() if not shutil.which(name, path=path)]
    if lacking:
        raise Missing(f"not installed: {', '.join(lacking)}; run `just setup`")


def assemble(out):
    work = out / "work"
    root, kernel_tree = work / "root", work / "kernel"
    for folder in (root, kernel_tree):
        folder.mkdir(parents=True)
        packages.merged_usr(folder)
    archive = packages.Archive(work / "archive", packages.host_codename(), ["amd64"])
    for deb in archive.closure(PACKAGES):
        packages.unpack(deb, root)
    packages.unpack(archive.one(archive.newest_kernel(KERNEL)), kernel_tree)
    (version,) = [p.name for p in (kernel_tree / "usr/lib/modules").iterdir()]
    base, depends, by_name = tiny.kernel_files(kernel_tree, version)
    tiny.initramfs(work / "initramfs", root, base, tiny.in_load_order(INITRAMFS_MODULES, depends, by_name), out / "initrd.img")
    shutil.copyfile(kernel_tree / "boot" / f"vmlinuz-{version}", out / "vmlinuz")
    shutil.copy(root / "usr/bin/busybox", out / "busybox")
    shutil.move(base, root / "usr/lib/modules" / version)

    for name in LEFT_OUT:
        shutil.rmtree(root / name, ignore_errors=True)
    for applet in output(root / "usr/bin/busybox", "--list-full").split():
        name = pathlib.PurePath(applet).name
        if not any((root / "usr" / d / name).is_symlink() or (root / "usr" / d / name).exists() for d in ("bin", "sbin")):
            (root / "usr/bin" / name).symlink_to("/usr/bin/busybox")
    (root / "usr/bin/sh").unlink(missing_ok=True)
    (root / "usr/bin/sh").symlink_to("dash")
    # The kernel asks for this one by its full name.
    (root / "usr/sbin/init").unlink(missing_ok=True)
    (root / "usr/sbin/init").symlink_to("/usr/bin/busybox")
    for name in ("proc", "sys", "dev", "run", "tmp", "mnt", "root", "var/lib", "var/tmp", "srv/cgi-bin", "usr/local/bin"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "rootfs", root, dirs_exist_ok=True)
    image = out / "root.img"
    with open(image, "wb") as file:
        file.truncate(ROOT_MIB << 20)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1", "-d", root, image)
    shutil.rmtree(work)
