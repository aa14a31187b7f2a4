"""Debian packages as raw material for guests: which mirror apt uses, how to fetch a closure, how to unpack it, what needs what.

Nothing here names a mirror: whatever the host's apt is configured with is what guests are built from.
"""

import os
import pathlib
import struct
import subprocess


KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


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


class Archive:
    """One release of the Debian archive, with lists of its own: what the host's apt knows and has installed stays as it is.

    The first architecture is the native one; of others, packages are named `package:architecture`. With backports, what is
    asked for comes from there, and what it depends on too where it must.
    """

    def __init__(self, folder, release, architectures, backports=False):
        self.folder = pathlib.Path(folder)
        for name in ("state/lists/partial", "cache/partial"):
            (self.folder / name).mkdir(parents=True)
        sources, nothing_installed = self.folder / "sources.list", self.folder / "state/status"
        nothing_installed.write_text("")
        releases = [release, f"{release}-backports"] if backports else [release]
        sources.write_text("".join(f"deb [signed-by={KEYRING}] {dict(mirrors())['Debian']} {name} main\n" for name in releases))
        settings = {
            "Dir::State": self.folder / "state",
            "Dir::State::status": nothing_installed,
            "Dir::Cache": self.folder / "cache",
            "Dir::Cache::archives": f"{self.folder}/cache/",
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Acquire::Languages": "none",
            "APT::Architecture": architectures[0],
            "APT::Get::AllowUnauthenticated": "false",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "1",
        }
        self.options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        self.options += [word for name in architectures for word in ("-o", f"APT::Architectures::={name}")]
        self.options += ["-o", f"APT::Default-Release={releases[-1]}"] if backports else []
        self.apt_get("update")

    def apt_get(self, *words, **kwargs):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        return run("apt-get", "-qq", *self.options, *words, stdin=subprocess.DEVNULL, env=environment, **kwargs)

    def closure(self, names):
        """Download packages and all they depend on, as if nothing were installed; returns the .deb files."""
        self.apt_get("-y", "--no-install-recommends", "--download-only", "install", *names)
        return sorted((self.folder / "cache").glob("*.deb"))

    def one(self, name):
        """Download one package without what it depends on; returns its .deb file."""
        into = self.folder / name.replace(":", "_")
        into.mkdir()
        self.apt_get("download", name, cwd=into)
        (fetched,) = into.glob("*.deb")
        return fetched

    def newest_kernel(self, flavour):
        """The package that linux-image-<flavour> stands for today."""
        for line in output("apt-cache", *self.options, "depends", f"linux-image-{flavour}").splitlines():
            words = line.split()
            if words[:1] == ["Depends:"] and words[1].startswith("linux-image-"):
                return words[1]
        raise SystemExit(f"guests: the archive has no linux-image-{flavour}")


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


def needed(file):
    """The interpreter and the libraries that an ELF file names, read from it: it may be of a machine that this is not."""
    if file[:4] != b"\x7fELF" or file[5] != 1:
        raise SystemExit("guests: a program is no little-endian ELF file")
    wide = file[4] == 2
    (table,) = struct.unpack_from("<Q" if wide else "<I", file, 32 if wide else 28)
    size, count = struct.unpack_from("<HH", file, 54 if wide else 42)
    loads, dynamic, names = [], b"", []
    for at in range(table, table + size * count, size):
        if wide:
            kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", file, at)
        else:
            kind, offset, address, _, length = struct.unpack_from("<IIIII", file, at)
        if kind == 1:
            loads.append((address, offset, length))
        elif kind == 2:
            dynamic = file[offset : offset + length]
        elif kind == 3:
            names.append(file[offset : offset + length].rstrip(b"\0").decode())
    entries = [e for e in struct.iter_unpack("<qQ" if wide else "<iI", dynamic) if e[0]]
    for strings in (value for tag, value in entries if tag == 5):
        (base,) = (strings - address + offset for address, offset, length in loads if address <= strings < address + length)
        names += [file[base + value : file.index(b"\0", base + value)].decode() for tag, value in entries if tag == 1]
    return names


def libraries(root, program, folders):
    """What a program needs to run inside `root`, and what that needs, as paths inside it."""
    found, ahead = [], [program]
    while ahead:
        for name in needed((root / ahead.pop().lstrip("/")).read_bytes()):
            places = [name] if name.startswith("/") else [f"{folder}/{name}" for folder in folders]
            path = next((place for place in places if (root / place.lstrip("/")).exists()), None)
            if path is None:
                raise SystemExit(f"guests: {program} lacks {name}")
            if path not in found:
                found.append(path)
                ahead.append(path)
    return found
