#!/usr/bin/env python3
"""Every page of the dashboard in headless Chromium, with a cloud full of things whose names are hostile.

    pages.py PROGRAM [--keep] [--screens FOLDER [--plain]] [--speed]

Walks all links as an administrator, in both themes: WCAG 2.2 AA by axe-core, no report of the Content-Security-Policy, nothing asked
for elsewhere, first visits of 60 KiB. `--screens` keeps a picture of each page (`--plain`: with names as people give them); `--speed` measures the server's time with 1,000 servers
instead. The program runs with the `fake` driver in namespaces of its own.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))

import cloud as host  # noqa: E402
from cloud import Cloud, Failure, expect, say, wait_for  # noqa: E402

# What becomes markup, or script, or another header, wherever it is not written as text.
HOSTILE = '"><img src=x onerror=owned=1><script>owned=2</script>\'{{7*7}}</textarea></title>'


class Filled:
    """A cloud with one of everything, by the API."""

    def __init__(self, api, sdk, name):
        self.api, self.sdk, self.name = api, sdk, name

    def post(self, service, path, body, *, ok=(200, 201, 202, 204)):
        status, _, answer = self.api.call("POST", self.api.endpoints[service] + path, body)
        expect(f"POST {service} {path} is accepted", status in ok, (status, answer))
        return answer

    def everything(self, servers=4):
        sdk, text = self.sdk, self.name
        image = sdk.image.create_image(name=text, filename=str(self.disk()), disk_format="raw", container_format="bare", tags=[text[:60]], wait=True)
        network = sdk.network.create_network(name=text, description=text)
        subnet = sdk.network.create_subnet(name=text, network_id=network.id, ip_version=4, cidr="10.77.0.0/16", description=text)
        external = next(iter(sdk.network.networks(is_router_external=True)))
        router = sdk.network.create_router(name=text, description=text, external_gateway_info={"network_id": external.id})
        sdk.network.add_interface_to_router(router, subnet_id=subnet.id)
        group = sdk.network.create_security_group(name=text, description=text)
        sdk.network.create_security_group_rule(security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22, description=text)
        sdk.network.create_ip(floating_network_id=external.id, description=text)
        sdk.compute.create_keypair(name="a key-pair_1")
        flavor = next(iter(sdk.compute.flavors()))
        sdk.compute.create_flavor(name="flavor of " + "x" * 40, ram=64, vcpus=1, disk=1, description=text)
        project = sdk.identity.create_project(name=text[:60], description=text, domain_id="default")
        user = sdk.identity.create_user(name=text, password="correct horse 1", description=text, default_project_id=project.id)
        sdk.identity.assign_project_role_to_user(project, user, sdk.identity.find_role("member"))
        sdk.identity.create_group(name=text[:60], description=text)
        sdk.identity.create_application_credential(user=self.api_user(), name=text[:200], description=text)
        sdk.compute.create_server_group(name="a group", policy="soft-affinity")
        made = []
        count = max(servers - 3, 1)
        body = {"name": text, "imageRef": image.id, "flavorRef": flavor.id, "networks": [{"uuid": network.id}],
                "metadata": {"of": text[:200]}, "min_count": min(count, 1000), "max_count": min(count, 1000)}  # fmt: skip
        self.quota()
        self.room()
        self.post("compute", "/servers", {"server": body})
        for name in ("paused", "stopped", "far too large"):
            server = {**body, "name": f"{name} {text}"[:200], "min_count": 1, "max_count": 1}
            made.append(self.post("compute", "/servers", {"server": server})["server"]["id"])

        def settled():
            listed = list(sdk.compute.servers(details=True))
            return len(listed) >= count + 3 and all(server.status != "BUILD" for server in listed)

        wait_for("servers are made", settled, 120)
        self.post("compute", f"/servers/{made[0]}/action", {"pause": None})
        self.post("compute", f"/servers/{made[1]}/action", {"os-stop": None})
        wait_for("one is paused", lambda: sdk.compute.get_server(made[0]).status == "PAUSED", 30)

    def quota(self):
        project = self.api.project_id
        for service, path, body in (
            ("compute", f"/os-quota-sets/{project}", {"quota_set": {"instances": -1, "cores": -1, "ram": -1, "metadata_items": -1}}),
            ("network", f"/v2.0/quotas/{project}", {"quota": {"port": -1}}),
        ):
            status, _, answer = self.api.call("PUT", self.api.endpoints[service] + path, body)
            expect(f"the quota of {service} is changed", status == 200, (status, answer))

    def room(self):
        """A thousand servers that take nothing have room on any machine."""
        (provider,) = self.api.get("placement", "/resource_providers")["resource_providers"]
        path = f"/resource_providers/{provider['uuid']}/inventories"
        inventories = self.api.get("placement", path)
        for inventory in inventories["inventories"].values():
            inventory |= {"total": 10_000_000, "max_unit": 10_000_000}
        status, _, answer = self.api.call("PUT", self.api.endpoints["placement"] + path, inventories)
        expect("the machine is made large", status == 200, (status, answer))

    def api_user(self):
        return self.sdk.current_user_id

    @staticmethod
    def disk():
        file = pathlib.Path(tempfile.mkdtemp()) / "disk.raw"
        with open(file, "wb") as disk:
            disk.truncate(1 << 20)
        return file


def connected(environment):
    import openstack

    os.environ.update(environment)
    return openstack.connect(load_yaml_config=False, load_envvars=True)


def node(script, words):
    """Run one of the scripts beside this one."""
    for program in ("node", "chromium"):
        expect(f"{program} is installed (`just setup`)", shutil.which(program) is not None)
    modules = subprocess.run([host.ROOT / "tests/setup/tools", "browser"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    done = subprocess.run(["node", HERE / script, modules, json.dumps(words)])
    expect(f"{script} finds everything as it should be", done.returncode == 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--screens", type=pathlib.Path)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--speed", action="store_true")
    args = host.entered(parser)
    folder, status = pathlib.Path(tempfile.mkdtemp(prefix="solostack-pages-")), 1
    cloud = Cloud(args.program.resolve(), folder, ["--driver", "fake"])
    try:
        cloud.start()
        environment = cloud.sourced()
        servers = 1000 if args.speed else 8
        Filled(cloud.api(environment), connected(environment), "web" if args.plain else HOSTILE).everything(servers)
        say(f"the cloud has {servers} servers and one of everything else")
        words = {"url": cloud.url, "name": "admin", "password": environment["OS_PASSWORD"], "least": 20}
        if args.screens:
            words["screens"] = str(args.screens.resolve())
        if args.speed:
            words |= {"bar": 50, "rounds": 5}
        node("walk.mjs", words)
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
