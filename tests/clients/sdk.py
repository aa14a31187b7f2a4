#!/usr/bin/env python3
"""openstacksdk over every service: create, look at, change, list and delete each kind of thing there is.

    sdk.py PROGRAM [--keep]

Runs the program with the `fake` driver: what is judged here is the APIs as the SDK sees them, not guests (see story.py).
"""

import os
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from cloud import Failure, expect, say, script  # noqa: E402


def connect(environment, **changes):
    import openstack

    for name in [n for n in os.environ if n.startswith("OS_")]:
        del os.environ[name]
    os.environ.update(environment | changes)
    return openstack.connect(load_yaml_config=False, load_envvars=True)


def identity(sdk):
    project = sdk.identity.create_project(name="sdk-project", description="made by the SDK", domain_id="default")
    expect("the project is found by name", sdk.identity.find_project("sdk-project").id == project.id)
    project = sdk.identity.update_project(project, description="changed")
    expect("the change is seen", sdk.identity.get_project(project.id).description == "changed")
    user = sdk.identity.create_user(name="sdk-user", password="correct horse 1", domain_id="default", default_project_id=project.id)
    role = sdk.identity.find_role("member")
    sdk.identity.assign_project_role_to_user(project, user, role)
    expect("the assignment is there", sdk.identity.validate_user_has_project_role(project, user, role))
    assignments = list(sdk.identity.role_assignments(user_id=user.id, scope_project_id=project.id))
    expect("and is listed", len(assignments) == 1, assignments)
    expect("users are listed", user.id in {u.id for u in sdk.identity.users()})
    expect("roles imply the next", {"admin", "manager", "member", "reader"} <= {r.name for r in sdk.identity.roles()})
    return project, user


def as_member(environment, project, user):
    """What a plain member may and may not do."""
    import openstack.exceptions

    member = connect(environment, OS_USERNAME=user.name, OS_PASSWORD="correct horse 1", OS_PROJECT_NAME=project.name)
    expect("a member lists its servers: none", list(member.compute.servers()) == [])
    try:
        list(member.identity.users())
        raise Failure("a member listed all users")
    except openstack.exceptions.ForbiddenException:
        pass
    network = member.network.create_network(name="sdk-mine")
    expect("what a member makes is its project's", network.project_id == project.id)
    member.network.delete_network(network)
    expect("a member does not see the administrator's private network", member.network.find_network("private") is None)
    member.close()


def images(sdk, folder):
    import openstack.exceptions

    disk = folder / "sdk.raw"
    disk.write_bytes(os.urandom(1 << 20))
    image = sdk.image.create_image(name="sdk-image", filename=str(disk), disk_format="raw", container_format="bare", wait=True)
    image = sdk.image.get_image(image)
    expect("the image is active with its size", (image.status, image.size) == ("active", 1 << 20), image)
    image = sdk.image.update_image(image, min_ram=64, os_distro="tiny")
    expect("properties are kept", sdk.image.get_image(image).min_ram == 64)
    sdk.image.add_tag(image, "sdk")
    expect("found by its tag", [i.id for i in sdk.image.images(tag="sdk")] == [image.id])
    copy = folder / "copy.raw"
    sdk.image.download_image(image, output=str(copy), stream=True)
    expect("what comes down is what went up", copy.read_bytes() == disk.read_bytes())
    sdk.image.deactivate_image(image)
    expect("deactivated", sdk.image.get_image(image).status == "deactivated")
    sdk.image.reactivate_image(image)
    sdk.image.update_image(image, is_protected=True)
    try:
        sdk.image.delete_image(image)
        raise Failure("a protected image was deleted")
    except openstack.exceptions.ForbiddenException:
        pass
    return sdk.image.update_image(image, is_protected=False)


def networks(sdk):
    network = sdk.network.create_network(name="sdk-net", description="x")
    subnet = sdk.network.create_subnet(network_id=network.id, name="sdk-subnet", ip_version=4, cidr="10.77.0.0/24", dns_nameservers=["9.9.9.9"])
    expect("the gateway is the first address", subnet.gateway_ip == "10.77.0.1", subnet)
    router = sdk.network.create_router(name="sdk-router", external_gateway_info={"network_id": sdk.network.find_network("public").id})
    sdk.network.add_interface_to_router(router, subnet_id=subnet.id)
    group = sdk.network.create_security_group(name="sdk-group")
    rule = sdk.network.create_security_group_rule(security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22,
                                                  port_range_max=22, remote_ip_prefix="0.0.0.0/0")  # fmt: skip
    expect("a new group lets everything out", len([r for r in sdk.network.security_group_rules(security_group_id=group.id)]) == 3)
    port = sdk.network.create_port(network_id=network.id, name="sdk-port", security_groups=[group.id])
    expect("the port has an address of its subnet", port.fixed_ips[0]["ip_address"].startswith("10.77.0."), port)
    address = sdk.network.create_ip(floating_network_id=sdk.network.find_network("public").id, port_id=port.id)
    expect("the floating IP names its port", sdk.network.get_ip(address).port_id == port.id)
    sdk.network.update_network(network, name="sdk-net-2")
    expect("lists page", len(list(sdk.network.ports(limit=1))) == len(list(sdk.network.ports())))
    expect("agents are listed", isinstance(list(sdk.network.agents()), list))
    expect("extensions are listed", "router" in {e.alias for e in sdk.network.extensions()})

    def undo():
        sdk.network.delete_ip(address)
        sdk.network.delete_port(port)
        sdk.network.delete_security_group_rule(rule)
        sdk.network.delete_security_group(group)
        sdk.network.remove_interface_from_router(router, subnet_id=subnet.id)
        sdk.network.delete_router(router)
        sdk.network.delete_subnet(subnet)
        sdk.network.delete_network(network)
        expect("the network is gone", sdk.network.find_network("sdk-net-2") is None)

    return network, undo


def compute(sdk, image, network):
    flavor = sdk.compute.create_flavor(name="sdk.small", ram=128, vcpus=1, disk=1)
    key = sdk.compute.create_keypair(name="sdk-key")
    expect("a generated private key is shown once", key.private_key.startswith("-----BEGIN"))
    server = sdk.compute.create_server(name="sdk-server", image_id=image.id, flavor_id=flavor.id, networks=[{"uuid": network.id}], key_name="sdk-key",
                                       metadata={"who": "sdk"})  # fmt: skip
    server = sdk.compute.wait_for_server(server, wait=60)
    expect("the server is active", server.status == "ACTIVE", server)
    expect("it has an address", any(a["addr"].startswith("10.77.0.") for a in sum(server.addresses.values(), [])), server.addresses)
    allocated = sdk.placement.get(f"/allocations/{server.id}").json()["allocations"]
    expect("placement allocates what the flavor says", [a["resources"] for a in allocated.values()] == [{"VCPU": 1, "MEMORY_MB": 128, "DISK_GB": 1}], allocated)
    sdk.compute.set_server_metadata(server, more="yes")
    expect("metadata is kept", sdk.compute.get_server_metadata(server).metadata == {"who": "sdk", "more": "yes"})
    sdk.compute.update_server(server, name="sdk-renamed")
    expect("found by its new name", [s.id for s in sdk.compute.servers(name="^sdk-ren")] == [server.id])
    for action, wanted in ((sdk.compute.stop_server, "SHUTOFF"), (sdk.compute.start_server, "ACTIVE")):
        action(server)
        server = sdk.compute.wait_for_server(server, status=wanted, wait=60)
    sdk.compute.reboot_server(server, "HARD")
    sdk.compute.wait_for_server(server, wait=60)
    actions = {a.action for a in sdk.compute.server_actions(server)}
    expect("what was done is told", {"create", "stop", "start", "reboot"} <= actions, actions)
    expect("limits count it", sdk.compute.get_limits().absolute.total_instances_used >= 1)
    expect("the services are up", {"nova-compute"} <= {s.binary for s in sdk.compute.services()})
    expect("this machine is the hypervisor", len(list(sdk.compute.hypervisors())) == 1)
    expect("zones are listed", {z.name for z in sdk.compute.availability_zones()} >= {"nova"})
    sdk.compute.delete_server(server)
    sdk.compute.wait_for_delete(server, wait=60)
    expect("its allocation is gone", sdk.placement.get(f"/allocations/{server.id}").json()["allocations"] == {})
    sdk.compute.delete_keypair(key)
    sdk.compute.delete_flavor(flavor)


def placement(sdk):
    providers = list(sdk.placement.resource_providers())
    expect("this machine is the one provider", len(providers) == 1, providers)
    inventories = {i.resource_class: i.total for i in sdk.placement.resource_provider_inventories(providers[0])}
    expect("with its true processors", inventories["VCPU"] == os.cpu_count(), inventories)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    expect("and memory", abs(inventories["MEMORY_MB"] - memory) <= 64, (inventories, memory))
    sdk.placement.create_resource_class(name="CUSTOM_SDK")
    sdk.placement.delete_resource_class("CUSTOM_SDK")
    sdk.placement.create_trait("CUSTOM_SDK_TRAIT")
    sdk.placement.delete_trait("CUSTOM_SDK_TRAIT")


def tell(cloud, folder):
    took = cloud.start()
    say(f"ready after {took:.2f} s")
    environment = cloud.sourced()
    sdk = connect(environment)
    say("-- identity")
    project, user = identity(sdk)
    as_member(environment, project, user)
    say("-- placement")
    placement(sdk)
    say("-- image")
    image = images(sdk, folder)
    say("-- network")
    network, undo = networks(sdk)
    say("-- compute")
    compute(sdk, image, network)
    undo()
    sdk.image.delete_image(image)
    sdk.identity.delete_user(user)
    sdk.identity.delete_project(project)
    cloud.stop()
    cloud.down()


if __name__ == "__main__":
    script(__doc__, "sdk", tell)
