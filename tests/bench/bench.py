#!/usr/bin/env python3
"""Speed and memory of a release build against the budgets of docs/ARCHITECTURE.md.

    bench.py PROGRAM [--servers 1000] [--users 1000] [--image-mib 256] [--json FILE]

Starts the program with the `fake` driver in namespaces of its own and measures over TLS, as a client sees it. Latencies are
medians over one connection that stays open; rates come from wrk; ratios are taken in the same run on the same machine, so they
mean something on a busy one too. Prints one line per measurement; exits with status 1 if a budget is not kept.
`real` is what the real services took on 2 cores.
"""

import argparse
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))

import cloud as host  # noqa: E402
from cloud import Cloud, Failure, say, wait_for  # noqa: E402

rows = []


def row(what, value, unit, budget=None, real=None, least=False):
    """One measurement. `budget` is the most allowed, or with `least` the least."""
    kept = budget is None or (value >= budget if least else value <= budget)
    rows.append({"what": what, "value": round(value, 3), "unit": unit, "budget": budget, "kept": kept, "real": real})
    limit = "" if budget is None else f"  budget {'>=' if least else '<='} {budget:g}  {'kept' if kept else 'NOT KEPT'}"
    print(f"{what:58} {value:10.2f} {unit:6}{limit}{f'  (real {real:g})' if real else ''}", flush=True)


class Client:
    """HTTP over one TLS connection that stays open."""

    def __init__(self, base, authority, token=None):
        self.url = urllib.parse.urlsplit(base)
        self.connection = http.client.HTTPSConnection(self.url.hostname, self.url.port or 443, timeout=120,
                                                      context=ssl.create_default_context(cafile=authority))  # fmt: skip
        self.headers = {"Accept": "application/json"} | ({"X-Auth-Token": token} if token else {})

    def call(self, method, path, body=None, wanted=(200, 201, 202, 204), **headers):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        extra = {"Content-Type": "application/json"} if data is not None else {}
        self.connection.request(method, path, data, self.headers | extra | headers)
        reply = self.connection.getresponse()
        text = reply.read()
        if reply.status not in wanted:
            raise Failure(f"{method} {path} answered {reply.status}: {text[:400]!r}")
        return reply, text

    def get(self, path, **headers):
        return json.loads(self.call("GET", path, **headers)[1])

    def post(self, path, body, **headers):
        reply, text = self.call("POST", path, body, **headers)
        return reply, json.loads(text) if text else None


def median_ms(work, times):
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def rate(url, headers, seconds=5):
    argv = ["wrk", "-t1", "-c8", f"-d{seconds}s", *(w for h in headers for w in ("-H", h)), url]
    text = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
    if "Non-2xx" in text:
        raise Failure(f"wrk got errors from {url}:\n{text}")
    return float(text.split("Requests/sec:")[1].split()[0])


def measure(cloud, folder, args):
    row("first start to ready", cloud.start(), "s")
    cloud.stop()
    starts = []
    for _ in range(5):
        starts.append(cloud.start())
        cloud.stop()
    row("start with an existing database to ready, median of 5", statistics.median(starts), "s", 0.4)
    cloud.start()
    environment = cloud.sourced()
    authority = environment["OS_CACERT"]
    api = cloud.api(environment)
    path = {service: urllib.parse.urlsplit(url).path for service, url in api.endpoints.items()}
    client = Client(cloud.url, authority, api.token)
    auth = urllib.parse.urlsplit(environment["OS_AUTH_URL"]).path.rstrip("/")
    # At rest: every service has answered once, then nothing is asked for a while.
    for service, url in (("image", "/v2/images"), ("compute", "/servers"), ("network", "/v2.0/networks"), ("placement", "/resource_providers")):
        client.get(path[service] + url)
    time.sleep(5)
    row("supervisor at rest, resident", cloud.resident_mib(), "MiB", 43, 2141)

    domain = environment.get("OS_USER_DOMAIN_NAME", "Default")
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": {
        "name": environment["OS_USERNAME"], "password": environment["OS_PASSWORD"], "domain": {"name": domain}}}},
        "scope": {"project": {"id": api.project_id}}}}  # fmt: skip
    row("token by password", median_ms(lambda: client.post(f"{auth}/auth/tokens", body), 10), "ms", None, 295)
    row("token validation", median_ms(lambda: client.call("GET", f"{auth}/auth/tokens", **{"X-Subject-Token": api.token}), 50), "ms", None, 24)

    flavor = client.get(path["compute"] + "/flavors")["flavors"][0]["id"]
    one = f"{cloud.url}{path['compute']}/flavors/{flavor}"
    token = [f"X-Auth-Token: {api.token}"]
    bare, authenticated = [], []
    for _ in range(3):
        bare.append(rate(f"{cloud.url}/ca.crt", []))
        authenticated.append(rate(one, token))
    row("GET /ca.crt (no service, same TLS)", statistics.median(bare), "/s")
    row("authenticated GET of one flavor", statistics.median(authenticated), "/s")
    row("  as a share of the first", 100 * statistics.median(authenticated) / statistics.median(bare), "%", 50, least=True)

    # Users.
    for number in range(args.users):
        client.post(f"{auth}/users", {"user": {"name": f"bench-{number}", "domain_id": "default"}})
    row(f"list of {args.users} users", median_ms(lambda: client.get(f"{auth}/users"), 15), "ms", 5, 267)

    # Upload and download against a copy that computes the same hashes.
    size = args.image_mib << 20
    source = folder / "source.raw"
    with open(source, "wb") as file:
        block = os.urandom(1 << 20)
        for number in range(args.image_mib):
            file.write(number.to_bytes(8, "big") + block[8:])

    def plain_copy():
        md5, sha512 = hashlib.md5(), hashlib.sha512()
        with open(source, "rb") as data, open(folder / "copy.raw", "wb") as target:
            while part := data.read(1 << 20):
                md5.update(part), sha512.update(part), target.write(part)
            target.flush()
            os.fsync(target.fileno())

    began = time.perf_counter()
    plain_copy()
    copied = time.perf_counter() - began
    image = client.post(path["image"] + "/v2/images", {"name": "bench", "disk_format": "raw", "container_format": "bare"})[1]["id"]
    secure = ["curl", "-sSf", "--cacert", authority, "-H", f"X-Auth-Token: {api.token}"]
    file_url = f"{cloud.url}{path['image']}/v2/images/{image}/file"
    began = time.perf_counter()
    subprocess.run([*secure, "-T", source, "-H", "Content-Type: application/octet-stream", file_url], check=True)
    uploaded = time.perf_counter() - began
    began = time.perf_counter()
    subprocess.run([*secure, "-o", folder / "down.raw", file_url], check=True)
    downloaded = time.perf_counter() - began
    row("image upload", size / uploaded / 1e6, "MB/s", None, 146)
    row("  as a share of a copy with the same hashes", 100 * copied / uploaded, "%", 70, least=True)
    row("image download", size / downloaded / 1e6, "MB/s")
    for name in ("copy.raw", "down.raw", "source.raw"):
        (folder / name).unlink()

    # Servers, with an image small enough that copying it is nothing.
    small = client.post(path["image"] + "/v2/images", {"name": "small", "disk_format": "raw", "container_format": "bare"})[1]["id"]
    client.call("PUT", f"{path['image']}/v2/images/{small}/file", bytes(1 << 16), **{"Content-Type": "application/octet-stream"})
    tiny = client.post(path["compute"] + "/flavors", {"flavor": {"name": "bench", "ram": 1, "vcpus": 1, "disk": 0}})[1]["flavor"]["id"]
    network = next(n["id"] for n in client.get(path["network"] + "/v2.0/networks")["networks"] if n["name"] == "private")
    for service, url, quota in (("compute", f"/os-quota-sets/{api.project_id}", {"quota_set": {"instances": -1, "cores": -1, "ram": -1}}),
                                ("network", f"/v2.0/quotas/{api.project_id}", {"quota": {"port": -1}})):  # fmt: skip
        client.call("PUT", path[service] + url, quota, wanted=(200, 404))
    # A fake driver's servers cost nothing: let Placement see room for all of them.
    provider = client.get(path["placement"] + "/resource_providers")["resource_providers"][0]["uuid"]
    inventory = client.get(f"{path['placement']}/resource_providers/{provider}/inventories")
    inventory["inventories"]["VCPU"]["allocation_ratio"] = 10_000.0
    client.call("PUT", f"{path['placement']}/resource_providers/{provider}/inventories", inventory)
    accepted, active, made = [], [], 0
    for number in range(12):
        began = time.perf_counter()
        request = {"server": {"name": f"one-{number}", "imageRef": small, "flavorRef": tiny, "networks": [{"uuid": network}]}}
        server = client.post(path["compute"] + "/servers", request)[1]["server"]["id"]
        accepted.append((time.perf_counter() - began) * 1000)
        while (state := client.get(f"{path['compute']}/servers/{server}")["server"])["status"] == "BUILD":
            pass
        active.append((time.perf_counter() - began) * 1000)
        if state["status"] != "ACTIVE":
            raise Failure(f"server ended in {state['status']}: {state.get('fault')}")
        made += 1
    row("POST /servers accepted (durable)", statistics.median(accepted), "ms", 10)
    row("POST /servers to ACTIVE, fake driver", statistics.median(active), "ms", 30, 1189)
    candidates = f"{path['placement']}/allocation_candidates?resources=VCPU:1,MEMORY_MB:64"
    row("allocation candidates", median_ms(lambda: client.get(candidates, **{"OpenStack-API-Version": "placement 1.29"}), 30), "ms", None, 55)

    def active_now():
        found, marker = 0, ""
        while True:
            page = client.get(f"{path['compute']}/servers/detail?limit=1000&status=ACTIVE{marker}")["servers"]
            found += len(page)
            if len(page) < 1000:
                return found
            marker = f"&marker={page[-1]['id']}"

    def detail(count):
        return median_ms(lambda: client.get(f"{path['compute']}/servers/detail?limit={count}"), 9)

    began = time.perf_counter()
    while made < args.servers:
        batch = min(50, args.servers - made)
        request = {"server": {"name": f"many-{made}", "imageRef": small, "flavorRef": tiny, "networks": [{"uuid": network}],
                              "min_count": batch, "max_count": batch}}  # fmt: skip
        client.post(path["compute"] + "/servers", request)
        made += batch
        if made - batch < 100 <= made:
            wait_for("the first hundred are ACTIVE", lambda: active_now() >= 100, 120)
            row("100 servers with details", detail(100), "ms", None, 440)
    wait_for("all servers are ACTIVE", lambda: active_now() >= made, 600, 0.5)
    row(f"creating {made} servers, each", (time.perf_counter() - began) * 1000 / made, "ms")
    row(f"{made} servers with details", detail(made), "ms", 30)
    row(f"{made} ports", median_ms(lambda: client.get(path["network"] + "/v2.0/ports"), 9), "ms", 12)
    time.sleep(5)
    row(f"supervisor with {made} servers known, resident", cloud.resident_mib(), "MiB", 64)
    cloud.stop()
    row(f"start with {made} servers known to ready", cloud.start(), "s", 0.4)
    cloud.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--image-mib", type=int, default=256)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    report = args.json.resolve() if args.json else None
    host.inside()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="solostack-bench-"))
    cloud = Cloud(args.program.resolve(), folder, ["--driver", "fake"])
    status = 0
    try:
        measure(cloud, folder, args)
    except Failure as failure:
        say(f"FAILED: {failure}\n{cloud.log_end()}")
        status = 1
    finally:
        if cloud.process and cloud.process.poll() is None:
            os.kill(cloud.process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
    if report:
        report.write_text(json.dumps(rows, indent=2) + "\n")
    broken = [r["what"].strip() for r in rows if not r["kept"]]
    if broken:
        print(f"budgets not kept: {'; '.join(broken)}")
    sys.exit(status or bool(broken))


if __name__ == "__main__":
    main()
