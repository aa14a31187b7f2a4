"""Compute: flavors with extra specs and access, key pairs, server groups."""

from cloud import expect
from sdk.asked import ids, names, refused


def tell(sdk, project):
    flavors(sdk, project)
    keypairs(sdk)
    server_groups(sdk)


def flavors(sdk, project):
    flavor = sdk.compute.create_flavor(name="sdk.own", ram=256, vcpus=1, disk=1, is_public=False)
    expect("found by name", sdk.compute.find_flavor("sdk.own", get_extra_specs=True).id == flavor.id)
    flavor = sdk.compute.update_flavor(flavor, description="changed")
    expect("its description is changed", sdk.compute.get_flavor(flavor).description == "changed")
    expect("the private one is not in the public list", flavor.id not in ids(sdk.compute.flavors(is_public=True)))
    expect("and in that of all", flavor.id in ids(sdk.compute.flavors(details=False, is_public=None)))

    sdk.compute.create_flavor_extra_specs(flavor, {"hw:cpu_policy": "shared", "quota:disk_read_iops_sec": "100"})
    specs = sdk.compute.fetch_flavor_extra_specs(flavor).extra_specs
    expect("extra specs are kept", specs == {"hw:cpu_policy": "shared", "quota:disk_read_iops_sec": "100"}, specs)
    sdk.compute.update_flavor_extra_specs_property(flavor, "quota:disk_read_iops_sec", "200")
    expect("and changed", sdk.compute.get_flavor_extra_specs_property(flavor, "quota:disk_read_iops_sec") == "200")
    sdk.compute.delete_flavor_extra_specs_property(flavor, "quota:disk_read_iops_sec")
    expect("and taken away", sdk.compute.fetch_flavor_extra_specs(flavor).extra_specs == {"hw:cpu_policy": "shared"})
    refused("a value that means nothing", 400, sdk.compute.create_flavor_extra_specs, flavor, {"hw:cpu_policy": "sideways"})

    sdk.compute.flavor_add_tenant_access(flavor, project.id)
    expect("a project may use it", [a["tenant_id"] for a in sdk.compute.get_flavor_access(flavor)] == [project.id])
    sdk.compute.flavor_remove_tenant_access(flavor, project.id)
    expect("and may not", sdk.compute.get_flavor_access(flavor) == [])
    sdk.compute.delete_flavor(flavor)
    expect("gone", sdk.compute.find_flavor("sdk.own") is None)


def keypairs(sdk):
    key = sdk.compute.create_keypair(name="sdk-generated")
    expect("a generated private key is shown once", key.private_key.startswith("-----BEGIN"))
    brought = sdk.compute.create_keypair(name="sdk-brought", public_key=key.public_key, type="ssh")
    expect("the same key has the same fingerprint", brought.fingerprint == key.fingerprint, brought)
    expect("found", sdk.compute.find_keypair("sdk-brought").name == sdk.compute.get_keypair("sdk-brought").name == "sdk-brought")
    expect("and listed", {"sdk-generated", "sdk-brought"} <= names(sdk.compute.keypairs()))
    certificate = sdk.compute.create_keypair(name="sdk-x509", type="x509")
    expect("a certificate is a key, too", certificate.public_key.startswith("-----BEGIN CERTIFICATE"), certificate.public_key)
    for name in ("sdk-generated", "sdk-brought", "sdk-x509"):
        sdk.compute.delete_keypair(name)
    refused("a key that is gone", 404, sdk.compute.get_keypair, "sdk-brought")


def server_groups(sdk):
    group = sdk.compute.create_server_group(name="sdk-group", policy="anti-affinity", rules={"max_server_per_host": 2})
    expect("a group has its policy and rule", (group.policy, group.rules) == ("anti-affinity", {"max_server_per_host": 2}), group)
    expect("found", sdk.compute.find_server_group("sdk-group").id == sdk.compute.get_server_group(group).id == group.id)
    expect("and listed", group.id in ids(sdk.compute.server_groups(all_projects=True)))
    sdk.compute.delete_server_group(group)
    refused("a group that is gone", 404, sdk.compute.get_server_group, group.id)
