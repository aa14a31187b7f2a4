#!/usr/bin/env python3
"""Tempest against a cloud of its own: the built program with the fake driver, over TLS that only its own authority vouches for.

    run.py PROGRAM SUITE... [--ssh] [--jobs N] [--every N] [--only REGEX] [--compute-min VERSION] [--no-write] [--keep]

With --ssh servers are real guests (`tests/guests`, `tiny`) in QEMU, and Tempest logs in to them; the run is in namespaces of
its own then, and needs root.

A suite is a file of `tempest/` (the names of its tests), or one of SELECTED below (tests chosen by a pattern). Every chosen
test is accounted for: what its class skipped or failed to set up counts for each of its tests, and what never reported has
failed. The figures, with the reason of each test that did not pass, go into docs/CONFORMANCE.md. Ends with status 0 only
if nothing failed.
"""

import argparse
import collections
import configparser
import datetime
import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests/clients"))

import cloud as host  # noqa: E402
import images  # noqa: E402
from cloud import Cloud, Failure, expect, say  # noqa: E402

REPORT = ROOT / "docs/CONFORMANCE.md"
# Suites that are not a list: their tests are all that a package has of a kind.
SELECTED = {
    "identity-rbac": r"^keystone_tempest_plugin\.tests\.rbac\.",
    "image-rbac": r"^glance_tempest_plugin\.tests\.rbac\.",
    # Disks of every format, good and bad ones, in a cloud that looks at what it is given.
    "image-formats": r"^tempest\.api\.image\.v2\.test_images_formats\.",
    # All that several services at once are judged by, and of Compute what looks into guests: both are for --ssh.
    "scenario-all": r"^tempest\.(serial_tests\.)?scenario\.",
    "compute-guests": r"^tempest\.api\.compute\.(servers\.test_(create_server|server_actions|attach_interfaces|device_tagging|server_rescue\w*|server_password)"
    r"|admin\.test_create_server)\.",
}
# Room for many servers that take nothing, and the rules for passwords that the tests of `security_compliance` need.
CONFIGURATION = """\
identity.lockout_failure_attempts = 3
identity.lockout_duration_s = 5
identity.unique_last_password_count = 2
scheduling.cpu_allocation_ratio = 100.0
scheduling.ram_allocation_ratio = 100.0
scheduling.disk_allocation_ratio = 100.0
scheduling.reserved_memory_mib = 0
scheduling.reserved_disk_gib = 0
"""
# The web server that images are fetched from is this machine.
CONFIGURATION += """\
images.web_download_allowed_networks = ["127.0.0.1/32"]
images.web_download_ports = []
"""
# Tests of these suites upload random bytes under the name of every format, which clouds as they are refuse.
OF_ANY_DATA = {"image"}
ANY_DATA = "images.require_format_match = false\n"
# Tempest's own words for what the catalog offers.
SERVICES = {"nova": "compute", "neutron": "network", "cinder": "block-storage", "glance": "image"}


# -- the cloud ---------------------------------------------------------------------------------------------------------
def start(program, folder, any_data, ssh):
    configuration = folder / "solostack.toml"
    configuration.write_text(CONFIGURATION + (ANY_DATA if any_data else ""))
    # In namespaces of its own it may have every port.
    real = ["--driver", "tcg", "--log-level", "warn", "--config", str(configuration)]
    fake = ["--driver", "fake", "--listen", "127.0.0.1", "--https-port", "0", "--http-port", "0", "--service-ports", "off",
                 "--public-host", "127.0.0.1", "--log-level", "warn", "--config", str(configuration)]  # fmt: skip
    cloud = Cloud(program, folder, real if ssh else fake)
    cloud.start()
    return cloud


def serve_web(folder):
    """A web server with one small disk; returns its address. It ends with this program."""
    disk = folder / "web" / "disk.qcow2"
    disk.parent.mkdir()
    disk.write_bytes(empty_qcow2(1 << 20))
    handler = functools.partial(Quiet, directory=str(disk.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/disk.qcow2"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


def empty_qcow2(size):
    """Version 2 with clusters of 64 KiB: header, an empty L1 table, a reference count table and its one block."""
    cluster = 1 << 16
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, size, 0, 1, cluster, 2 * cluster, 1, 0, 0)
    table = struct.pack(">Q", 3 * cluster)
    counts = struct.pack(">4H", 1, 1, 1, 1)
    return b"".join(part.ljust(cluster, b"\0") for part in (header, b"", table, counts))


class Materials:
    """What tests of Compute and Network expect to find, made through the APIs: images, flavors, an external network."""

    def __init__(self, api, guest=None):
        self.api, self.guest = api, guest
        self.images = [self.image(f"conformance-{n}") for n in (1, 2)] if "image" in api.endpoints else ["", ""]
        self.flavors = [self.flavor(f"conformance-{n}", 64 * (n + bool(guest))) for n in (1, 2)] if "compute" in api.endpoints else ["", ""]
        self.network, self.network_name = self.external() if "network" in api.endpoints else ("", "")
        self.extensions = self.aliases() if "network" in api.endpoints else []
        self.versions = {name: self.version(name) for name in ("compute", "block-storage") if name in api.endpoints}

    def ask(self, method, service, path, body=None, wanted=(200, 201, 202)):
        status, _, answer = self.api.call(method, self.api.endpoints[service] + path, body)
        expect(f"{method} {service}{path} succeeds", status in wanted, (status, answer))
        return answer

    def image(self, name):
        body = {"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public"}
        if self.guest:
            # Whom a new password is for. The guest's agent sets it.
            body |= {"disk_format": "qcow2", "os_admin_user": "tiny", "hw_qemu_guest_agent": "yes"}
        made = self.ask("POST", "image", "/v2/images", body)
        import urllib.request

        url = f"{self.api.endpoints['image']}/v2/images/{made['id']}/file"
        request = urllib.request.Request(url, method="PUT", data=self.guest.read_bytes() if self.guest else bytes(1 << 20))
        request.add_header("Content-Type", "application/octet-stream")
        request.add_header("X-Auth-Token", self.api.token)
        with urllib.request.urlopen(request, context=self.api.context, timeout=60) as reply:
            expect("the image is uploaded", reply.status == 204)
        return made["id"]

    def flavor(self, name, ram):
        return self.ask("POST", "compute", "/flavors", {"flavor": {"name": name, "ram": ram, "vcpus": 1, "disk": 1}})["flavor"]["id"]

    def external(self):
        found = self.ask("GET", "network", "/v2.0/networks?router:external=true")["networks"]
        expect("there is an external network", found)
        return found[0]["id"], found[0]["name"]

    def aliases(self):
        return sorted(one["alias"] for one in self.ask("GET", "network", "/v2.0/extensions")["extensions"])

    def version(self, service):
        answer = self.ask("GET", service, "/")
        one = answer.get("version") or answer["versions"][-1]
        return one.get("version") or one.get("max_version")


# -- tempest.conf ------------------------------------------------------------------------------------------------------
def configure(path, work, environment, materials, any_data, compute_min=None, ssh=False):
    """What Tempest must know. Features are those of one node, whether we have them yet or not: what is missing must fail."""
    offered = set(materials.api.endpoints)
    has = {name: kind in offered for name, kind in SERVICES.items()}
    domain = environment.get("OS_USER_DOMAIN_NAME", "Default")
    auth_url = environment["OS_AUTH_URL"].rstrip("/")
    yes, no = "true", "false"
    groups = {
        "DEFAULT": {"log_dir": work, "log_file": "tempest.log", "debug": no, "use_stderr": no},
        "oslo_concurrency": {"lock_path": work / "lock"},
        "auth": {
            "use_dynamic_credentials": yes, "create_isolated_networks": str(has["neutron"]).lower(),
            "admin_username": environment["OS_USERNAME"], "admin_password": environment["OS_PASSWORD"].replace("$", "$$"),
            "admin_project_name": environment["OS_PROJECT_NAME"], "admin_domain_name": domain, "admin_user_domain_name": domain,
            "admin_project_domain_name": domain, "default_credentials_domain_name": domain,
        },
        "identity": {
            "uri_v3": auth_url if auth_url.endswith("/v3") else auth_url + "/v3", "auth_version": "v3",
            "region": environment.get("OS_REGION_NAME", "RegionOne"), "v3_endpoint_type": "public",
            "ca_certificates_file": environment["OS_CACERT"], "disable_ssl_certificate_validation": no,
            # As CONFIGURATION says.
            "user_lockout_failure_attempts": 3, "user_lockout_duration": 5, "user_unique_last_password_count": 2,
        },
        "identity-feature-enabled": {
            "api_v3": yes, "trust": yes, "application_credentials": yes, "access_rules": yes, "project_tags": yes,
            "security_compliance": yes, "immutable_user_source": no, "federation": no, "external_idp": no, "api_extensions": "all",
        },
        "enforce_scope": {"keystone": yes, "glance": yes},
        "service_available": {**{name: str(there).lower() for name, there in has.items()}, "swift": no, "horizon": no},
        "image": {
            "http_qcow2_image": serve_web(work), "image_caching_enabled": yes,
            "images_manifest_file": None if any_data else images.make(work / "images"),
        },
        "image-feature-enabled": {"api_v2": yes, "import_image": yes, "image_conversion": yes, "image_format_enforcement": no if any_data else yes},
        "compute": {
            "image_ref": materials.images[0], "image_ref_alt": materials.images[1], "flavor_ref": materials.flavors[0],
            "flavor_ref_alt": materials.flavors[1], "min_compute_nodes": 1, "build_timeout": 300, "shelved_offload_time": 0,
            "min_microversion": compute_min, "max_microversion": materials.versions.get("compute"),
        },
        "compute-feature-enabled": {
            "change_password": yes, "resize": yes, "cold_migration": no, "live_migration": no, "pause": yes, "suspend": yes, "shelve": yes, "rescue": yes,
            "stable_rescue": yes, "snapshot": yes, "interface_attach": yes, "console_output": yes, "config_drive": yes,
            "metadata_service": yes, "disk_config": yes, "volume_multiattach": yes, "enable_instance_password": yes,
            "hostname_fqdn_sanitization": yes, "vnc_console": yes, "spice_console": no, "personality": yes, "swap_volume": no,
        },
        "network": {
            "public_network_id": materials.network, "floating_network_name": materials.network_name,
            "project_network_cidr": "10.100.0.0/16", "project_network_mask_bits": 28,
        },
        "network-feature-enabled": {
            "ipv6": yes, "ipv6_subnet_attributes": yes, "floating_ips": yes, "api_extensions": ",".join(materials.extensions),
            "port_security": str("port-security" in materials.extensions).lower(),
        },
        "volume": {"max_microversion": materials.versions.get("block-storage"), "volume_size": 1},
        "volume-feature-enabled": {"backup": no, "snapshot": yes, "clone": yes, "multi_backend": no},
        # The fake driver has no guests to log in to. Emulated ones on a busy machine need time.
        "validation": {
            "run_validation": yes, "connect_method": "floating", "auth_method": "keypair", "network_for_ssh": materials.network_name,
            "image_ssh_user": "tiny", "image_ssh_password": "tiny", "image_alt_ssh_user": "tiny", "image_alt_ssh_password": "tiny",
            "ping_timeout": 240, "ssh_timeout": 400, "allowed_network_downtime": 60, "allowed_metadata_downtime": 60,
        } if ssh else {"run_validation": no},
        "scenario": {"dhcp_client": "udhcpc", "img_file": materials.guest, "img_disk_format": "qcow2"} if ssh else {},
    }  # fmt: skip
    written = configparser.RawConfigParser()
    written.optionxform = str
    for group, options in groups.items():
        written.read_dict({group: {name: str(value) for name, value in options.items() if value not in (None, "")}})
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        written.write(file)


# -- a run -------------------------------------------------------------------------------------------------------------
class Tempest:
    def __init__(self, work, authority):
        self.work = work
        self.bin = pathlib.Path(sys.executable).parent
        drop = re.compile(r"^(OS_|REQUESTS_CA_BUNDLE$|CURL_CA_BUNDLE$|SSL_CERT|https?_proxy$|all_proxy$)", re.IGNORECASE)
        environment = {name: value for name, value in os.environ.items() if not drop.match(name)}
        # Tempest keeps a list of workspaces in the home directory.
        self.environment = environment | {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(work), "OS_TEST_TIMEOUT": "1500"}
        # Clients of Keystone's plugin do not look at ca_certificates_file: for them it is the only authority there is.
        self.environment["SSL_CERT_FILE"] = authority
        self.workspace = work / "workspace"
        self("init", str(self.workspace), cwd=work)

    def __call__(self, *words, cwd=None, out=subprocess.PIPE, wanted=(0,)):
        argv = [str(self.bin / "tempest"), *words]
        with open(self.work / "tempest.err", "wb") as errors:
            done = subprocess.run(argv, cwd=cwd or self.workspace, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
        if done.returncode not in wanted:
            said = (self.work / "tempest.err").read_text(errors="replace")[-2000:]
            raise Failure(f"`tempest {' '.join(words)}` ended with status {done.returncode}: {said}")
        return done.stdout

    def available(self):
        """Every test there is: its name to its id, which carries its attributes too."""
        lines = self("run", "--list-tests").decode().split()
        return {name(line): line for line in lines if re.match(r"\w*tempest\w*\.", line)}

    def run(self, ids, jobs):
        chosen, stream = self.work / "chosen", self.work / "stream"
        chosen.write_text("".join(f"{one}\n" for one in ids))
        with open(stream, "wb") as out:
            self("run", "--subunit", "--load-list", str(chosen), "--concurrency", str(jobs), out=out, wanted=(0, 1))
        return reported(stream)


def name(test_id):
    """Without its attributes. What it is tried with, in parentheses, stays."""
    return re.sub(r"\[[^\]]*\]", "", test_id)


def reported(stream):
    """What the stream says of each id: (status, reason)."""
    from subunit import ByteStreamToStreamResult
    from testtools import StreamToDict

    seen = {}

    def take(test):
        if test["status"] != "exists":
            details = {key: value.as_text() for key, value in test["details"].items() if key.startswith(("reason", "traceback"))}
            seen[test["id"]] = (test["status"], details.get("reason") or cause(details.get("traceback", "")))

    collected = StreamToDict(take)
    collected.startTestRun()
    with open(stream, "rb") as source:
        ByteStreamToStreamResult(source, non_subunit_name="stdout").run(collected)
    collected.stopTestRun()
    return seen


def cause(traceback):
    """The line that names the exception, or the last one."""
    lines = [line for line in traceback.strip().splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"([A-Za-z_]\w*\.)*[A-Z]\w*(: |$)", line) and not line.startswith(("Traceback", "Details"))]
    details = [line for line in lines if line.startswith("Details: ")]
    return " ".join([*(named or lines or [""])[-1:], *details[-1:]])[:400]


def account(ids, seen):
    """One outcome for each chosen test."""
    of_class = {}
    broken = []
    for test_id, outcome in seen.items():
        if match := re.match(r"(setUpClass|tearDownClass) \((.*)\)$", test_id):
            if match.group(1) == "setUpClass":
                of_class[match.group(2)] = outcome
            elif outcome[0] == "fail":
                broken.append(f"{match.group(2)}: {outcome[1]}")
    outcomes = {}
    for test_id in ids:
        short = name(test_id)
        status, why = seen.get(test_id) or seen.get(short) or of_class.get(short.rsplit(".", 1)[0]) or ("fail", "it never reported")
        status = {"success": "passed", "xfail": "passed", "skip": "skipped"}.get(status, "failed")
        outcomes[short] = (status, why)
    return outcomes, broken


# -- the report --------------------------------------------------------------------------------------------------------
HEAD = """\
# What judges from outside say

Written by `just test-tempest SUITE...` and `just test-placement`, not by hand: each suite's section is that suite's last run,
on the built program with the fake driver over TLS with the cloud's own authority. A test that was skipped has not passed;
its reason is the suite's own. The lists are in `tests/conformance`; suites with `rbac` are all tests of a plugin's package.
Suites with real guests (`--ssh`) have Tempest log in to the guest `tiny` in QEMU without KVM.

"""


def write(suite, outcomes, sampled, versions):
    """Put the section of `suite` into the report; the other sections stay."""
    counts = collections.Counter(status for status, _ in outcomes.values())
    total = f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped of {len(outcomes)}"
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    lines = [f"## {suite}", "", f"**{total}**{sampled} ({versions}; commit {commit}, {datetime.date.today()})", ""]
    for status, title in (("failed", "Failed"), ("skipped", "Skipped")):
        by_reason = collections.defaultdict(list)
        for short, (outcome, why) in sorted(outcomes.items()):
            if outcome == status:
                by_reason[shown(why)].append(short)
        if by_reason:
            lines += [f"{title}:", ""]
            for why, names in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
                lines.append(f"- {why}")
                lines += [f"  - `{one}`" for one in names]
            lines.append("")
    known = REPORT.read_text() if REPORT.exists() else HEAD
    sections = {part.split("\n", 1)[0]: part for part in re.split(r"^## ", known, flags=re.MULTILINE)[1:]}
    sections[suite] = "\n".join(lines)[3:]
    REPORT.write_text(HEAD + "\n".join(f"## {sections[key].rstrip()}\n" for key in sorted(sections)))
    return total


def shown(why):
    """A reason without what differs from run to run."""
    why = re.sub(r"\b(req-)?([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\b", "ID", " ".join(why.split()))
    return re.sub(r"(tempest-[\w-]*?|tempest-)\d{6,}", r"\1N", re.sub(r"127\.0\.0\.1:\d+", "HOST", why)) or "no reason given"


def choose(suite, available, every, only):
    if suite in SELECTED:
        ids = sorted(full for short, full in available.items() if re.search(SELECTED[suite], short))[::every]
    else:
        listed = [line.strip() for line in (HERE / "tempest" / f"{suite}.txt").read_text().splitlines()]
        listed = [line for line in listed if line and not line.startswith("#")]
        tried = collections.defaultdict(list)
        for short, full in available.items():
            tried[short.split("(")[0]].append(full)
        gone = [line for line in listed if line not in tried]
        expect("every listed test exists in this Tempest", not gone, gone[:5])
        ids = [full for line in listed for full in sorted(tried[line])][::every]
    ids = [one for one in ids if re.search(only, one)]
    expect(f"the suite {suite} has tests", ids)
    return ids


def main():
    suites = sorted([*(path.stem for path in (HERE / "tempest").glob("*.txt")), *SELECTED])
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("suites", nargs="+", choices=suites, metavar="SUITE", help=", ".join(suites))
    parser.add_argument("--jobs", type=int, default=2, help="tests at the same time")
    parser.add_argument("--every", type=int, default=1, help="only each N-th test, as a sample")
    parser.add_argument("--only", default="", help="only tests that this expression finds; nothing is written")
    parser.add_argument("--no-write", action="store_true", help="leave the report as it is")
    parser.add_argument("--compute-min", metavar="VERSION", help="ask Compute at this microversion or later, where a test does")
    parser.add_argument("--ssh", action="store_true", help="real guests in QEMU, which tests log in to")
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    asked = parser.parse_args()
    if asked.ssh:
        host.inside()
    guest = host.guest_image() if asked.ssh else None
    work = pathlib.Path(tempfile.mkdtemp(prefix="solostack-tempest-"))
    cloud, failed = None, 0
    try:
        any_data = not OF_ANY_DATA.isdisjoint(asked.suites)
        cloud = start(asked.program.resolve(), work, any_data, asked.ssh)
        environment = cloud.sourced()
        say(f"the cloud answers at {cloud.url}")
        tempest = Tempest(work, environment["OS_CACERT"])
        materials = Materials(cloud.api(environment), guest)
        configure(tempest.workspace / "etc/tempest.conf", work, environment, materials, any_data, asked.compute_min, asked.ssh)
        frozen = subprocess.run([sys.executable, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"], check=True, capture_output=True, text=True)
        versions = ", ".join(line.replace("==", " ") for line in frozen.stdout.replace("-", "_").split() if re.match(r"((keystone|glance)_)?tempest(_plugin)?==", line))
        available = tempest.available()
        for suite in asked.suites:
            ids = choose(suite, available, asked.every, asked.only)
            say(f"{suite}: {len(ids)} tests")
            began = time.monotonic()
            outcomes, broken = account(ids, tempest.run(ids, asked.jobs))
            for short, (status, why) in sorted(outcomes.items()):
                if status != "passed":
                    say(f"{status}: {short}: {why}")
            for one in broken:
                say(f"left something behind: {one}")
            failed += len(broken) + sum(status == "failed" for status, _ in outcomes.values())
            (work / f"{suite}.json").write_text(json.dumps(outcomes, indent=1))
            counts = collections.Counter(status for status, _ in outcomes.values())
            if not asked.only and not asked.no_write:
                title = suite + (f" from {asked.compute_min}" if asked.compute_min else "") + (" with real guests" if asked.ssh else "")
                write(title, outcomes, f", each {asked.every}th test" if asked.every > 1 else "", versions)
            totals = ", ".join(f"{counts[key]} {key}" for key in ("passed", "failed", "skipped"))
            say(f"{suite}: {totals} of {len(outcomes)} in {time.monotonic() - began:.0f} s")
    except Failure as failure:
        failed += 1
        say(f"tempest: {failure}")
        if cloud:
            print(cloud.log_end(), flush=True)
    finally:
        if cloud and cloud.process and cloud.process.poll() is None:
            cloud.stop(30)
        if asked.keep:
            say(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
