"""Compute, of the cloud as a whole: services, the hypervisor, aggregates and zones, quotas, limits, usage, its view of images."""

import datetime

from cloud import expect
from sdk.asked import ids, names, refused


def tell(sdk, old, image, project, user):
    """`old` speaks as clients of 2.1 do: what later versions took out is asked there."""
    extensions(sdk)
    services(sdk)
    hypervisors(sdk, old)
    aggregates(sdk, image)
    quotas(sdk, project, user)
    usage(sdk, project)
    images(sdk, old, image)


def extensions(sdk):
    expect("extensions are listed", "os-keypairs" in {e.alias for e in sdk.compute.extensions()})
    expect("and found", sdk.compute.find_extension("os-keypairs").name == "Keypairs")


def services(sdk):
    seen = {service.binary: service for service in sdk.compute.services()}
    expect("the services are up", {s.state for s in seen.values()} == {"up"} and "nova-compute" in seen, seen)
    service = seen["nova-compute"]
    expect("one is found by its id", sdk.compute.find_service(service.id).id == service.id)
    service = sdk.compute.disable_service(service, disabled_reason="sdk")
    expect("disabled, with the reason", (service.status, service.disabled_reason) == ("disabled", "sdk"), service)
    service = sdk.compute.enable_service(service)
    expect("enabled", service.status == "enabled", service)
    service = sdk.compute.update_service_forced_down(service, forced=True)
    expect("forced down", service.is_forced_down, service)
    service = sdk.compute.force_service_down(service, forced=False)
    service = sdk.compute.update_service(service, forced_down=False)
    expect("and up again", not service.is_forced_down, service)
    refused("a service that is this process is deleted", 409, sdk.compute.delete_service, service)


def hypervisors(sdk, old):
    found = list(sdk.compute.hypervisors(details=True))
    expect("this machine is the hypervisor", len(found) == 1 and found[0].state == "up", found)
    name = found[0].name
    expect("found by its name", sdk.compute.find_hypervisor(name).id == found[0].id)
    expect("and shown", sdk.compute.get_hypervisor(found[0].id).name == name)
    expect("by a pattern", ids(sdk.compute.hypervisors(hypervisor_hostname_pattern=name[:2])) == {found[0].id})
    before = next(iter(old.compute.hypervisors()))
    expect("how long it is up", " up " in old.compute.get_hypervisor_uptime(before.id).uptime)
    expect("is in its document since 2.88", " up " in sdk.compute.get_hypervisor(found[0].id).uptime)


def aggregates(sdk, image):
    host = next(iter(sdk.compute.services(binary="nova-compute"))).host
    aggregate = sdk.compute.create_aggregate(name="sdk-aggregate")
    aggregate = sdk.compute.update_aggregate(aggregate, name="sdk-renamed")
    expect("found by its new name", sdk.compute.find_aggregate("sdk-renamed").id == aggregate.id)
    refused("a host that there is not", 404, sdk.compute.add_host_to_aggregate, aggregate, "nowhere")
    aggregate = sdk.compute.add_host_to_aggregate(aggregate, host)
    expect("it has the host", aggregate.hosts == [host], aggregate)
    sdk.compute.set_aggregate_metadata(aggregate, availability_zone="sdk-zone", ssd="true")
    aggregate = sdk.compute.get_aggregate(aggregate.id)
    expect("metadata is kept", (aggregate.availability_zone, aggregate.metadata.get("ssd")) == ("sdk-zone", "true"), aggregate)
    expect("the host is in its zone", "sdk-zone" in names(sdk.compute.availability_zones()))
    detailed = {zone.name: zone.hosts for zone in sdk.compute.availability_zones(details=True)}
    expect("and says so", host in detailed["sdk-zone"], detailed)
    sdk.compute.aggregate_precache_images(aggregate, [image.id])
    expect("aggregates are listed", names(sdk.compute.aggregates()) == {"sdk-renamed"})
    refused("one with a host is deleted", 400, sdk.compute.delete_aggregate, aggregate)
    sdk.compute.remove_host_from_aggregate(aggregate, host)
    sdk.compute.delete_aggregate(aggregate)
    expect("gone", sdk.compute.find_aggregate("sdk-renamed") is None)
    expect("the zone, too", names(sdk.compute.availability_zones()) >= {"nova"})


def quotas(sdk, project, user):
    defaults = sdk.compute.get_quota_set_defaults(project)
    sdk.compute.update_quota_set(project, instances=3)
    expect("a project's quota", sdk.compute.get_quota_set(project).instances == 3)
    # openstacksdk 4.22 takes a user here and then cannot send it.
    sdk.compute.put(f"/os-quota-sets/{project.id}?user_id={user.id}", json={"quota_set": {"instances": 2}}).raise_for_status()
    expect("a user's is less", sdk.compute.get_quota_set(project, user_id=user.id).instances == 2)
    seen = sdk.compute.get_quota_set(project, usage=True)
    expect("with what is used", (seen.instances, seen.usage["instances"]) == (3, 0), seen)
    sdk.compute.revert_quota_set(project)
    expect("back to the default", sdk.compute.get_quota_set(project).instances == defaults.instances)
    before = sdk.compute.get_quota_class_set().instances
    sdk.compute.update_quota_class_set("default", instances=before + 1)
    expect("the default is every project's", sdk.compute.get_quota_set_defaults(project).instances == before + 1)
    sdk.compute.update_quota_class_set("default", instances=before)
    limits = sdk.compute.get_limits()
    expect("limits are the quota", limits.absolute.instances == before, limits)


def usage(sdk, project):
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    day = datetime.timedelta(days=1)
    expect("no project has used more than there is", isinstance(list(sdk.compute.usages(start=now - day, end=now)), list))
    seen = sdk.compute.get_usage(project, start=now - day, end=now)
    expect("a new project has used nothing", not seen.server_usages, seen)


def images(sdk, old, image):
    """What Compute passed on to Images until 2.35."""
    compute = old.compute
    expect("Compute shows it", compute.get_image(image.id).name == "sdk-image")
    expect("finds it", compute.find_image("sdk-image").id == image.id)
    expect("lists it", image.id in ids(compute.images()) & ids(compute.images(details=False)))
    compute.set_image_metadata(image.id, colour="red", shape="round")
    expect("its metadata is kept", compute.fetch_image_metadata(image.id).metadata["colour"] == "red")
    compute.delete_image_metadata(image.id, ["colour"])
    expect("and taken away", "colour" not in compute.get_image_metadata(image.id).metadata)
    other = sdk.image.create_image(name="sdk-other", disk_format="raw", container_format="bare", allow_duplicates=True)
    compute.delete_image(other.id)
    expect("deleted through Compute", sdk.image.find_image("sdk-other") is None)
