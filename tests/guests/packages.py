"""Debian packages as raw material for guests: which mirror apt uses, how to fetch a closure, how to unpack it.

Nothing here names a mirror: whatever the host's apt is configured with is what guests are built from.
"""

import os
import pathlib
import subprocess


def run(*argv, **kwargs):
    """Run a command; its standard error reaches the user, a failure raises."""
    return subprocess.run([str(a) for a in argv], check=True, **kwargs)


def output(*argv, **kwargs):
    return run(*argv, stdout=subprocess.PIPE, text=True, **kwargs).stdout


def host_codename():
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.split("=", 1)[1].strip('"')
    raise SystemExit("guests: /etc/os-release names no VERSION_CODENAME: is this Debian?")


def mirrors():
    """The Debian archives this host's apt is configured with: [(label, base URI)], main archive first."""
    rows = output("apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages")
    found = {}
    for row in rows.splitlines():
        origin, label, uri = row.split("|")
        if origin == "Debian" and label in ("Debian", "Debian-Security"):
            found.setdefault(label, uri)
    if "Debian" not in found:
        raise SystemExit("guests: apt knows no Debian archive; run `apt-get update` first")
    return sorted(found.items())


def fetch_closure(names, into):
    """Download packages and all they depend on, as if nothing were installed, into the folder; returns the .deb files."""
    into = pathlib.Path(into)
    (into / "partial").mkdir(parents=True, exist_ok=True)
    nothing_installed = into / "no-status"
    nothing_installed.write_text("")
    options = [
        "-o", f"Dir::State::status={nothing_installed}", "-o", f"Dir::Cache::archives={into}/", "-o", "Debug::NoLocking=1",
        "-o", "APT::Sandbox::User=root", "-o", "APT::Get::AllowUnauthenticated=false",
    ]  # fmt: skip
    run("apt-get", "-qq", "-y", "--no-install-recommends", "--download-only", *options, "install", *names,
        stdin=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})  # fmt: skip
    return sorted(into.glob("*.deb"))


def fetch_one(name, into):
    """Download one package without what it depends on; returns its .deb file."""
    into = pathlib.Path(into)
    into.mkdir(parents=True, exist_ok=True)
    before = set(into.glob("*.deb"))
    run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name, cwd=into)
    (fetched,) = set(into.glob("*.deb")) - before
    return fetched


def newest_cloud_kernel():
    """The package that linux-image-cloud-amd64 stands for today."""
    for line in output("apt-cache", "depends", "linux-image-cloud-amd64").splitlines():
        words = line.split()
        if words[:1] == ["Depends:"] and words[1].startswith("linux-image-"):
            return words[1]
    raise SystemExit("guests: apt knows no linux-image-cloud-amd64; run `apt-get update` first")


def merged_usr(root):
    """The directory links of a merged /usr, made before anything is unpacked over them."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")


def unpack(deb, root):
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as archive:
        run("tar", "-x", "--keep-directory-symlink", "-C", root, stdin=archive.stdout)
    if archive.returncode:
        raise SystemExit(f"guests: cannot unpack {deb}")


def libraries(root, program):
    """What a program needs to run inside `root`, as paths inside it, by its own loader."""
    text = output("chroot", root, "/lib64/ld-linux-x86-64.so.2", "--list", program)
    found = []
    for line in text.splitlines():
        words = line.split()
        if "=>" in words and words[2:3] == ["not"]:
            raise SystemExit(f"guests: {program} lacks {words[0]}")
        path = words[2] if "=>" in words else words[0]
        if path.startswith("/"):
            found.append(path)
    return found
