"""The guest `debian`: Debian 13 with cloud-init, openssh and GRUB; a stock cloud image in all but name.

Built from the same mirror that apt uses here, as an unprivileged image build would: no loop devices, no mounts of disks.
Secure Boot works where the firmware does it: the loaders on the EFI system partition are Debian's signed ones.
"""

import pathlib
import shutil

import disk
import packages
from packages import run

HERE = pathlib.Path(__file__).resolve().parent
SUITE = "trixie"
PACKAGES = """
linux-image-cloud-amd64 initramfs-tools systemd-sysv dbus udev kmod linux-sysctl-defaults grub-pc-bin grub-efi-amd64-bin grub-efi-amd64-signed
shim-signed-common shim-signed grub2-common
cloud-init cloud-guest-utils fdisk e2fsprogs dosfstools openssh-server sudo netplan.io systemd-resolved systemd-timesyncd
iproute2 iputils-ping curl ca-certificates less procps apt-utils python3 netcat-openbsd qemu-guest-agent
""".split()


def sources():
    mirrors = dict(packages.mirrors())
    lines = [f"deb {mirrors['Debian']} {SUITE} main", f"deb {mirrors['Debian']} {SUITE}-updates main"]
    if security := mirrors.get("Debian-Security"):
        lines.append(f"deb {security} {SUITE}-security main")
    return lines


def build(out, uuid):
    work = out / "work"
    work.mkdir()
    root = work / "root"
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}", "--architectures=amd64",
        '--aptopt=Apt::Install-Recommends "false"', "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*", f"--customize-hook={HERE}/debian/customize \"$1\" {uuid}",
        SUITE, root, *sources(),
    )  # fmt: skip
    efi = root / "usr/lib"
    stub = work / "grub.cfg"
    stub.write_text(f"search.fs_uuid {uuid} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n")
    shim = efi / "shim/shimx64.efi.signed"
    grub = efi / "grub/x86_64-efi-signed/grubx64.efi.signed"
    loaders = {
        "EFI/BOOT/BOOTX64.EFI": shim,
        "EFI/BOOT/grubx64.efi": grub,
        "EFI/debian/shimx64.efi": shim,
        "EFI/debian/grubx64.efi": grub,
        "EFI/debian/grub.cfg": stub,
    }
    (version,) = [p.name.removeprefix("vmlinuz-") for p in (root / "boot").glob("vmlinuz-*")]
    shutil.copyfile(root / f"boot/vmlinuz-{version}", out / "debian.vmlinuz")
    shutil.copyfile(root / f"boot/initrd.img-{version}", out / "debian.initrd.img")
    disk.assemble(root, out / "debian.qcow2", size_mib=2048, esp_mib=64, bios_mib=3, label="root", uuid=uuid, esp_files=loaders)
    shutil.rmtree(work)
    return {"kernel": version, "release": SUITE, "user": "debian", "min_ram_mib": 512, "min_disk_mib": 2048}
