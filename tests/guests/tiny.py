"""The guest `tiny`: Debian's cloud kernel, busybox and dropbear on a partitioned disk with GRUB. Boots in 64 MiB.

No 64-bit kernel of Debian's fits into 64 MiB (README.md has the figures), so there is a 32-bit one beside the cloud kernel,
which grub.cfg takes on small machines. The userland is a 32-bit one, which runs on both. All of it is Debian
12's, whatever the host runs: it is the last release with a 32-bit kernel.
"""

import gzip
import os
import pathlib
import shutil
import stat

import disk
import packages
from packages import output, run

HERE = pathlib.Path(__file__).resolve().parent
RELEASE = "bookworm"
TRIPLET = "i386-linux-gnu"
# The default first, then the one for small machines.
KERNELS = ["cloud-amd64:amd64", "686-pae:i386"]
LIBRARY_FOLDERS = [f"/usr/lib/{TRIPLET}", "/usr/lib", "/usr/libexec/sudo"]
PACKAGES = "busybox-static dropbear-bin bash iputils-ping curl jq sudo util-linux e2fsprogs dosfstools libpam-modules qemu-guest-agent".split()

# Real tools where busybox has none or one that differs in what scripts read; everything else is a busybox applet.
# bash is the login shell because Debian's busybox sh runs its own applet where a program of that name exists.
PROGRAMS = """
bin/bash bin/ping bin/curl bin/jq bin/sudo bin/dropbearkey bin/lsblk sbin/dropbear sbin/blkid sbin/wipefs
sbin/mke2fs sbin/e2fsck sbin/resize2fs sbin/tune2fs sbin/mkfs.fat sbin/mkfs sbin/qemu-ga
""".split()
# Opened at run time by name, so no loader lists them.
PLUGINS = [f"lib/{TRIPLET}/security/pam_permit.so", "libexec/sudo/sudoers.so", "lib/sudo/sudoers.so"]
LINKS = {
    "sbin/mkfs.ext2": "mke2fs",
    "sbin/mkfs.ext3": "mke2fs",
    "sbin/mkfs.ext4": "mke2fs",
    "sbin/mkfs.vfat": "mkfs.fat",
    "sbin/fsck.ext4": "e2fsck",
    "bin/dbclient": "/usr/sbin/dropbear",
    # The applet wants to be root.
    "bin/ping6": "ping",
}
ROOT_DISK_MODULES = ["virtio_pci", "virtio_blk", "ext4"]
# Loaded on demand by tests: VLANs, bridges, loop devices, NBD, other disks.
EXTRA_MODULES = ["loop", "8021q", "dummy", "veth", "fuse", "vfat", "virtio_rng", "virtio_input",
                 "virtio_console", "virtio_balloon", "qemu_fw_cfg", "nvme", "drm", "bochs",
                 "ahci", "crc32c_generic", "crc32c_intel", "cdrom", "sg", "nls_iso8859-1", "pvpanic_pci", "pvpanic-pci"]  # fmt: skip


def kernel_files(package_dir, version):
    """Module files by name (dashes as underscores), from modules.dep made for this kernel."""
    run("depmod", "-b", package_dir, version)
    base = package_dir / "lib/modules" / version
    depends = {}
    for line in (base / "modules.dep").read_text().splitlines():
        name, _, needs = line.partition(":")
        depends[name] = needs.split()
    by_name = {pathlib.Path(p).name.split(".ko")[0].replace("-", "_"): p for p in depends}
    return base, depends, by_name


def in_load_order(wanted, depends, by_name):
    """The files to load, each after what it needs; names that this kernel has built in or lacks are left out."""
    order = []

    def add(path):
        for need in reversed(depends[path]):
            add(need)
        if path not in order:
            order.append(path)

    for name in wanted:
        if path := by_name.get(name.replace("-", "_")):
            add(path)
    return order


def uncompressed(source, target):
    """Copy a module; busybox loads only plain ones, and newer suites ship them compressed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".xz":
        target = target.with_suffix("")
        with open(target, "wb") as file:
            run("xz", "-dc", source, stdout=file)
    elif source.suffix == ".zst":
        target = target.with_suffix("")
        run("zstd", "-q", "-d", "-f", "-o", target, source)
    else:
        shutil.copyfile(source, target)
    return target


def initramfs(tree, stage, base, modules, target):
    for name in ("bin", "dev", "proc", "sys", "root", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy2(stage / "usr/bin/busybox", tree / "bin/busybox")
    for applet in ("sh", "mount", "cat", "insmod", "findfs", "usleep", "switch_root", "echo", "ls", "blkid", "dmesg"):
        (tree / "bin" / applet).symlink_to("busybox")
    shutil.copy2(HERE / "tiny/initramfs-init", tree / "init")
    (tree / "init").chmod(0o755)
    names = [uncompressed(base / m, tree / "modules" / pathlib.Path(m).name).name for m in modules]
    (tree / "modules/order").write_text("".join(f"{n}\n" for n in names))
    files = output("find", ".", "-print", cwd=tree)
    archive = run("cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet", cwd=tree, input=files.encode(), capture_output=True).stdout
    with gzip.GzipFile(target, "wb", compresslevel=9, mtime=0) as file:
        file.write(archive)


def build(out, uuid):
    """Make out/tiny.qcow2, and the kernels and initramfs archives beside it; returns what went in."""
    work = out / "work"
    stage, root, native = work / "stage", work / "root", work / "native"
    for folder in (stage, root, native):
        folder.mkdir(parents=True)
        packages.merged_usr(folder)
    archive = packages.Archive(work / "archive", RELEASE, ["i386", "amd64"])
    for deb in archive.closure(PACKAGES):
        packages.unpack(deb, stage)
    # The same busybox for this host, which may not run the other: it is asked what applets there are.
    packages.unpack(archive.one("busybox-static:amd64"), native)

    # Programs, and the libraries that they name.
    inside = set()
    for program in PROGRAMS + PLUGINS:
        path = stage / "usr" / program
        if not path.exists():
            if program in PLUGINS:
                continue
            raise SystemExit(f"guests: no package brings /usr/{program}")
        inside.add(f"/usr/{program}")
        inside.update(packages.libraries(stage, f"/usr/{program}", LIBRARY_FOLDERS))
    inside.update(f"/usr/libexec/sudo/{p.name}" for p in (stage / "usr/libexec/sudo").glob("*.so*"))
    inside.add("/usr/bin/busybox")
    for path in sorted(inside):
        source = stage / path.lstrip("/")
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(stat.S_IMODE(source.stat().st_mode))
    # Applets, where no real program took the name. All of them are in /usr/bin, which is all that a login over ssh has in its
    # PATH, and those that init and scripts look for in /sbin are there too.
    for applet in output(native / "usr/bin/busybox", "--list-full").split():
        name = pathlib.PurePath(applet).name
        taken = any((root / "usr" / d / name).exists() for d in ("bin", "sbin"))
        if not taken and name not in ("dpkg", "dpkg-deb", "rpm", "rpm2cpio", "busybox"):
            for folder in ("bin", "sbin") if "sbin/" in applet else ("bin",):
                (root / "usr" / folder / name).symlink_to("/usr/bin/busybox")
    for link, target in LINKS.items():
        path = root / "usr" / link
        path.unlink(missing_ok=True)
        if target.startswith("/") and not (root / target.lstrip("/")).exists():
            continue
        path.symlink_to(target)

    shutil.copytree(HERE / "tiny/rootfs", root, dirs_exist_ok=True)
    for name in ("proc", "sys", "dev", "run", "tmp", "mnt", "media", "root", "var/lib", "var/log", "home/tiny", "usr/local/bin", "boot/grub"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    shutil.chown(root / "home/tiny", 1000, 1000)
    (root / "etc/shadow").chmod(0o600)
    (root / "etc/sudoers").chmod(0o440)
    (root / "usr/bin/sudo").chmod(0o4755)
    (root / "etc/mtab").symlink_to("/proc/self/mounts")
    (root / "var/run").symlink_to("/run")
    for path in (root / "etc").rglob("*"):
        os.chown(path, 0, 0, follow_symlinks=False)

    listed = [w for w in (HERE / "tiny/rootfs/etc/modules").read_text().splitlines() if w and not w.startswith("#")]
    config = (HERE / "tiny/grub.cfg").read_text().replace("@UUID@", uuid)
    versions = []
    for flavour, kernel in zip(KERNELS, (out / "tiny.vmlinuz", out / "tiny.small.vmlinuz")):
        tree = work / flavour
        tree.mkdir()
        packages.merged_usr(tree)
        packages.unpack(archive.one(archive.newest_kernel(flavour)), tree)
        (version,) = [p.name for p in (tree / "usr/lib/modules").iterdir()]
        base, depends, by_name = kernel_files(tree, version)
        for module in in_load_order(ROOT_DISK_MODULES + listed + EXTRA_MODULES, depends, by_name):
            uncompressed(base / module, root / "usr/lib/modules" / version / module)
        for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
            shutil.copyfile(base / name, root / "usr/lib/modules" / version / name)
        run("depmod", "-b", root, version)
        initrd = kernel.with_suffix(".initrd.img")
        shutil.copyfile(tree / "boot" / f"vmlinuz-{version}", kernel)
        modules = in_load_order(ROOT_DISK_MODULES + ["crc32c_generic", "crc32c_intel"], depends, by_name)
        initramfs(work / f"initramfs-{flavour}", stage, base, modules, initrd)
        shutil.copyfile(kernel, root / f"boot/vmlinuz-{version}")
        shutil.copyfile(initrd, root / f"boot/initrd.img-{version}")
        config = config.replace(f"@KERNEL{len(versions)}@", version)
        versions.append(version)
    (root / "boot/grub/grub.cfg").write_text(config)
    disk.assemble(root, out / "tiny.qcow2", size_mib=256, esp_mib=4, bios_mib=1, label="tiny-root", uuid=uuid)
    shutil.rmtree(work)
    return {"kernel": versions[0], "small_kernel": versions[1], "release": RELEASE, "user": "tiny", "min_ram_mib": 64, "min_disk_mib": 256}
