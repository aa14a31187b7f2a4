#!/usr/bin/env python3
"""A user's whole journey through the dashboard in headless Chromium, with a real guest: sign in, upload an image, launch, watch it
become active, type into its console, attach a floating IP, delete; and the same without script where nothing live is involved.

    journey.py PROGRAM [--keep] [--driver auto|fake] [--guest tiny]

Needs root, QEMU, Chromium and the guest `tiny` (`just guests`): the cloud runs in namespaces of its own.
"""

import argparse
import os
import pathlib
import shutil
import signal
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "clients")]

import cloud as host  # noqa: E402
from cloud import Cloud, Failure, say  # noqa: E402
from pages import node  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--guest", default="tiny")
    args = host.entered(parser)
    image = host.guest_image(args.guest)
    folder, status = pathlib.Path(tempfile.mkdtemp(prefix="solostack-journey-")), 1
    cloud = Cloud(args.program.resolve(), folder, ["--driver", args.driver])
    try:
        cloud.start()
        environment = cloud.sourced()
        words = {"url": cloud.url, "name": "admin", "password": environment["OS_PASSWORD"], "image": str(image), "real": args.driver != "fake"}
        words["pictures"] = str(folder)
        node("journey.mjs", words)
        cloud.stop()
        cloud.down()
        say("the journey is over")
        status = 0
    except Failure as failure:
        say(f"FAILED: {failure}")
        print(f"\n--- end of {cloud.log}\n{cloud.log_end()}\nkept: {folder}", file=sys.stderr)
    finally:
        if cloud.process and cloud.process.poll() is None:
            os.kill(cloud.process.pid, signal.SIGKILL)
    if not args.keep and not status:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
