#!/usr/bin/env python3
"""Builds the test guests from Debian packages, into a cache outside the checkout.

    guests.py build tiny|debian...    build what is missing; prints nothing if all is there
    guests.py path tiny|debian        print where the disk image is (built first if missing)
    guests.py info tiny|debian        what went into it, as JSON
    guests.py prune                   remove builds whose inputs have changed since

A build is found by the hash of everything it is made from (this folder's builder files and the suite), so it happens
again exactly when one of them changes. Packages are those that apt offers on the day of the build.
"""

import argparse
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import uuid

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import packages  # noqa: E402

GUESTS = {
    "tiny": ["packages.py", "disk.py", "tiny.py", "tiny"],
    "debian": ["packages.py", "disk.py", "debian.py", "debian"],
}


def cache():
    base = os.environ.get("SOLOSTACK_CACHE")
    if not base:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "solostack"
    return pathlib.Path(base) / "guests"


def inputs_hash(guest):
    digest = hashlib.sha256(packages.host_codename().encode())
    for name in GUESTS[guest]:
        top = HERE / name
        files = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file())
        for path in files:
            digest.update(f"\0{path.relative_to(HERE)}\0{path.stat().st_mode & 0o111:o}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def folder(guest):
    return cache() / f"{guest}-{inputs_hash(guest)}"


def build(guest):
    target = folder(guest)
    if (target / "info.json").exists():
        return target
    cache().mkdir(parents=True, exist_ok=True)
    # Two test runs at once must not build the same guest twice.
    with open(cache() / f"{guest}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (target / "info.json").exists():
            return target
        started = time.monotonic()
        print(f"guests: building {guest} in {target}", file=sys.stderr)
        unfinished = target.with_name(target.name + ".unfinished")
        for abandoned in cache().glob(f"{guest}-*.unfinished"):
            shutil.rmtree(abandoned)
        unfinished.mkdir()
        builder = __import__(guest)
        info = builder.build(unfinished, str(uuid.uuid5(uuid.NAMESPACE_URL, f"solostack:{target.name}")))
        info |= {"guest": guest, "suite": packages.host_codename(), "bytes": (unfinished / f"{guest}.qcow2").stat().st_size}
        (unfinished / "info.json").write_text(json.dumps(info, indent=2) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
        size = info["bytes"] / 2**20
        print(f"guests: {guest} built in {time.monotonic() - started:.0f} s, {size:.1f} MiB", file=sys.stderr)
    return target


def prune():
    keep = {folder(guest) for guest in GUESTS}
    for path in cache().glob("*-*"):
        if path.is_dir() and path not in keep:
            shutil.rmtree(path)
            print(f"guests: removed {path}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("guests", nargs="+", choices=GUESTS)
    for name in ("path", "info"):
        commands.add_parser(name).add_argument("guest", choices=GUESTS)
    commands.add_parser("prune")
    args = parser.parse_args()
    if args.command == "build":
        for guest in args.guests:
            build(guest)
    elif args.command == "path":
        print(build(args.guest) / f"{args.guest}.qcow2")
    elif args.command == "info":
        print((build(args.guest) / "info.json").read_text(), end="")
    else:
        prune()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"guests: `{error.cmd[0]}` ended with status {error.returncode}") from None
