"""Compute: servers, every action there is, and what hangs on them."""

from cloud import Failure, expect, wait_for
from sdk.asked import ids, refused


def tell(sdk, old, image, network):
    """`old` speaks as clients of 2.1 do: what later versions took out is asked there."""
    flavor = sdk.compute.create_flavor(name="sdk.small", ram=128, vcpus=1, disk=1)
    larger = sdk.compute.create_flavor(name="sdk.larger", ram=256, vcpus=1, disk=1)
    key = sdk.compute.create_keypair(name="sdk-key")
    server = create(sdk, image, flavor, network)
    metadata_and_tags(sdk, server)
    power(sdk, server)
    guest(sdk, server)
    moves(sdk, server, image)
    rebuild_and_resize(sdk, server, image, flavor, larger)
    snapshots(sdk, server)
    rescue_and_shelve(sdk, server, image)
    interfaces(sdk, server, network)
    consoles(sdk, old, server)
    of_before(sdk, old, server, network)
    events(sdk, server, network)
    not_served(sdk, server)
    delete(sdk, server, image, flavor, network)
    sdk.compute.delete_keypair(key)
    for one in (flavor, larger):
        sdk.compute.delete_flavor(one)


def create(sdk, image, flavor, network):
    server = sdk.compute.create_server(name="sdk-server", image_id=image.id, flavor_id=flavor.id, networks=[{"uuid": network.id}], key_name="sdk-key",
                                       metadata={"who": "sdk"}, description="made by the SDK", tags=["first"], config_drive=True)  # fmt: skip
    server = sdk.compute.wait_for_server(server, interval=0.2, wait=60)
    expect("the server is active", server.status == "ACTIVE", server)
    expect("it has an address", any(a["addr"].startswith("10.77.0.") for a in sum(server.addresses.values(), [])), server.addresses)
    allocated = sdk.placement.get_allocation(server.id).allocations
    expect("placement allocates what the flavor says", [a["resources"] for a in allocated.values()] == [{"VCPU": 1, "MEMORY_MB": 128, "DISK_GB": 1}], allocated)
    sdk.compute.update_server(server, name="sdk-renamed", access_ipv4="192.0.2.7")
    shown = sdk.compute.get_server(server)
    expect("it is changed", (shown.name, shown.access_ipv4, shown.description) == ("sdk-renamed", "192.0.2.7", "made by the SDK"), shown)
    expect("found by its new name", ids(sdk.compute.servers(name="^sdk-ren")) == {server.id} == ids(sdk.compute.servers(details=False, all_projects=True)))
    expect("and by the SDK's own search", sdk.compute.find_server("sdk-renamed").id == server.id)
    expect("limits count it", sdk.compute.get_limits().absolute.instances_used >= 1)
    return server


def metadata_and_tags(sdk, server):
    sdk.compute.set_server_metadata(server, more="yes", most="no")
    sdk.compute.delete_server_metadata(server, ["most"])
    expect("metadata is kept", sdk.compute.fetch_server_metadata(server).metadata == {"who": "sdk", "more": "yes"})
    expect("by the old name, too", sdk.compute.get_server_metadata(server).metadata == {"who": "sdk", "more": "yes"})
    sdk.compute.add_tag_to_server(server, "second")
    sdk.compute.add_tag_to_server(server, "third")
    sdk.compute.remove_tag_from_server(server, "first")
    expect("tags are kept", sorted(sdk.compute.get_server(server).tags) == ["second", "third"])
    expect("and find it", ids(sdk.compute.servers(tags="second,third")) == {server.id})
    sdk.compute.remove_tags_from_server(server)
    expect("all are taken away", sdk.compute.get_server(server).tags == [])


def after(sdk, server, status, method, *args, **kwargs):
    """Asks for the action and waits until it has led there."""
    method(server, *args, **kwargs)
    settled(sdk, server, status)


def settled(sdk, server, status):
    def seen():
        shown = sdk.compute.get_server(server.id)
        if shown.status == "ERROR" and status != "ERROR":
            raise Failure(f"the server was to be {status} and is in error: {shown.fault}")
        return shown.task_state is None and shown.status == status

    wait_for(f"the server to be {status}", seen, 60)


def power(sdk, server):
    compute = sdk.compute
    after(sdk, server, "SHUTOFF", compute.stop_server)
    refused("a second stop", 409, compute.stop_server, server)
    after(sdk, server, "ACTIVE", compute.start_server)
    after(sdk, server, "ACTIVE", compute.reboot_server, "HARD")
    after(sdk, server, "PAUSED", compute.pause_server)
    after(sdk, server, "ACTIVE", compute.unpause_server)
    after(sdk, server, "SUSPENDED", compute.suspend_server)
    after(sdk, server, "ACTIVE", compute.resume_server)
    compute.lock_server(server, locked_reason="sdk")
    shown = compute.get_server(server)
    expect("locked, with the reason", (shown.is_locked, shown.locked_reason) == (True, "sdk"), shown)
    compute.unlock_server(server)
    compute.reset_server_state(server, "error")
    settled(sdk, server, "ERROR")
    compute.reset_server_state(server, "active")
    settled(sdk, server, "ACTIVE")
    actions = list(compute.server_actions(server))
    seen = {one.action for one in actions}
    expect("what was done is told", {"create", "stop", "start", "reboot", "pause", "suspend", "resume"} <= seen, seen)
    one = compute.get_server_action(actions[-1].request_id, server)
    expect("one of them with its events", one.action == "create" and one.events, one)


def guest(sdk, server):
    expect("no guest has posted a password", sdk.compute.get_server_password(server) == "")
    sdk.compute.clear_server_password(server)
    after(sdk, server, "ACTIVE", sdk.compute.change_server_password, "correct horse 2")
    expect("there are diagnostics", sdk.compute.get_server_diagnostics(server).state == "running")
    output = sdk.compute.get_server_console_output(server, length=5)
    expect("the console has its text", isinstance(output["output"], str), output)
    why = refused("a crash dump", 400, sdk.compute.trigger_server_crash_dump, server)
    expect("the machine has no button for it", "not supported" in why, why)


def moves(sdk, server, image):
    """There is one host, and nowhere to go."""
    refused("a migration", 400, sdk.compute.migrate_server, server)
    refused("a live migration", 400, sdk.compute.live_migrate_server, server)
    refused("an evacuation of a host in use", 400, sdk.compute.evacuate_server, server)
    refused("a restore of what is not deleted", 409, sdk.compute.restore_server, server)
    expect("no live migration is under way", list(sdk.compute.server_migrations(server)) == [])
    refused("a live migration is shown", 404, sdk.compute.get_server_migration, "7", server)
    refused("is aborted", 404, sdk.compute.abort_server_migration, "7", server, ignore_missing=False)
    refused("is forced", 400, sdk.compute.force_complete_server_migration, "7", server)


def rebuild_and_resize(sdk, server, image, flavor, larger):
    compute = sdk.compute
    rebuilt = compute.rebuild_server(server, image, name="sdk-rebuilt", metadata={"who": "sdk"}, description="again")
    expect("a rebuild answers with the server", rebuilt.name == "sdk-rebuilt", rebuilt)
    settled(sdk, server, "ACTIVE")
    after(sdk, server, "VERIFY_RESIZE", compute.resize_server, larger)
    after(sdk, server, "ACTIVE", compute.revert_server_resize)
    expect("it has the flavor of before", compute.get_server(server).flavor.name == "sdk.small", compute.get_server(server).flavor)
    after(sdk, server, "VERIFY_RESIZE", compute.resize_server, larger)
    after(sdk, server, "ACTIVE", compute.confirm_server_resize)
    expect("it has the new one", compute.get_server(server).flavor.name == "sdk.larger")
    seen = [(m.migration_type, m.status) for m in compute.migrations(instance_uuid=server.id)]
    expect("both resizes are told", sorted(seen) == [("resize", "confirmed"), ("resize", "reverted")], seen)


def snapshots(sdk, server):
    made = sdk.compute.create_server_image(server, "sdk-snapshot", metadata={"colour": "red"}, wait=True, timeout=60)
    expect("a snapshot is an image", (made.status, made.name) == ("active", "sdk-snapshot"), made)
    backup = sdk.compute.backup_server(server, "sdk-backup", "daily", 1, wait=True, timeout=60)
    expect("so is a backup", backup.status == "active", backup)
    settled(sdk, server, "ACTIVE")
    for image in (made, backup):
        sdk.image.delete_image(image.id)


def rescue_and_shelve(sdk, server, image):
    compute = sdk.compute
    after(sdk, server, "RESCUE", compute.rescue_server, admin_pass="correct horse 3", image=image)
    after(sdk, server, "ACTIVE", compute.unrescue_server)
    after(sdk, server, "SHELVED_OFFLOADED", compute.shelve_server)
    refused("offloaded twice", 409, compute.shelve_offload_server, server)
    expect("it takes nothing of the host", sdk.placement.get_allocation(server.id).allocations == {})
    after(sdk, server, "ACTIVE", compute.unshelve_server, availability_zone="nova")


def interfaces(sdk, server, network):
    compute = sdk.compute
    first = list(compute.server_interfaces(server))
    expect("it has an interface", [i.net_id for i in first] == [network.id], first)
    second = compute.create_server_interface(server, net_id=network.id, tag="more")
    expect("a second one", second.net_id == network.id and second.fixed_ips, second)
    expect("is shown", compute.get_server_interface(second.port_id, server).mac_addr == second.mac_addr)
    addresses = {ip.address for ip in compute.server_ips(server)}
    expect("its addresses are the server's", second.fixed_ips[0]["ip_address"] in addresses, addresses)
    expect("by network, too", {ip.address for ip in compute.server_ips(server, network_label="sdk-net-2")} == addresses)
    compute.delete_server_interface(second.port_id, server)
    wait_for("the interface to be gone", lambda: len(list(compute.server_interfaces(server))) == 1, 30)
    group = sdk.network.create_security_group(name="sdk-own-group")
    compute.add_security_group_to_server(server, group)
    groups = {g["name"] for g in compute.fetch_server_security_groups(server).security_groups}
    expect("a security group is added", groups == {"default", "sdk-own-group"}, groups)
    compute.remove_security_group_from_server(server, group)
    groups = {g["name"] for g in compute.fetch_server_security_groups(server).security_groups}
    expect("and taken away", groups == {"default"}, groups)
    sdk.network.delete_security_group(group)


def consoles(sdk, old, server):
    console = sdk.compute.create_server_remote_console(server, protocol="serial", type="serial")
    expect("a console has an address with a token", console.url.startswith("wss://") and "token=" in console.url, console)
    token = console.url.rsplit("token=", 1)[1]
    expect("the token is the server's", sdk.compute.validate_console_auth_token(token).instance_uuid == server.id)
    expect("the other way to ask", "token" in sdk.compute.create_console(server, "novnc", "vnc")["url"])
    expect("and the way of before 2.6", "token" in old.compute.get_server_console_url(server.id, "serial")["url"])


def of_before(sdk, old, server, network):
    """What Compute did until Network did it."""
    port = next(iter(sdk.compute.server_interfaces(server)))
    old.compute.add_fixed_ip_to_server(server.id, network.id)

    def addresses():
        return sorted(ip.address for ip in sdk.compute.server_ips(server))

    more = addresses()
    expect("one more address", len(more) == 2, more)
    own = port.fixed_ips[0]["ip_address"]
    added = next(address for address in more if address != own)
    old.compute.remove_fixed_ip_from_server(server.id, added)
    expect("and one less", addresses() == [own], addresses())
    public = sdk.network.find_network("public")
    floating = sdk.network.create_ip(floating_network_id=public.id)
    old.compute.add_floating_ip_to_server(server.id, floating.floating_ip_address, fixed_address=own)
    expect("a floating address leads to it", sdk.network.get_ip(floating).fixed_ip_address == own)
    old.compute.remove_floating_ip_from_server(server.id, floating.floating_ip_address)
    expect("and does not", sdk.network.get_ip(floating).fixed_ip_address is None)
    sdk.network.delete_ip(floating)


def events(sdk, server, network):
    port = next(iter(sdk.compute.server_interfaces(server)))
    event = {"name": "network-vif-plugged", "server_uuid": server.id, "tag": port.port_id, "status": "completed"}
    made = list(sdk.compute.create_server_external_events([event]))
    expect("an event is taken", [(e.server_uuid, e.code) for e in made] == [(server.id, 200)], made)


def not_served(sdk, server):
    """Volumes and shares: there are none, and nobody is told otherwise."""
    compute, some = sdk.compute, "00000000-0000-4000-8000-000000000000"
    expect("no volume is attached", list(compute.volume_attachments(server)) == [])
    refused("an attachment that is not", 404, compute.get_volume_attachment, server, some)
    why = refused("a volume is attached", 404, compute.create_volume_attachment, server, some)
    expect("the reason is that there are no volumes", "no volumes" in why, why)
    refused("a volume is swapped", 404, compute.update_volume_attachment, server, some)
    refused("a volume is detached", 404, compute.delete_volume_attachment, server, some, ignore_missing=False)
    expect("no share is attached", list(compute.share_attachments(server)) == [])
    refused("a share that is not", 404, compute.get_share_attachment, server, some)
    why = refused("a share is attached", 404, compute.create_share_attachment, server, some)
    expect("the reason is that there are no shares", "no file shares" in why, why)
    refused("a share is detached", 404, compute.delete_share_attachment, server, some, ignore_missing=False)


def delete(sdk, server, image, flavor, network):
    compute = sdk.compute
    compute.delete_server(server)
    compute.wait_for_delete(server, interval=0.2, wait=60)
    expect("its allocation is gone", sdk.placement.get_allocation(server.id).allocations == {})
    group = compute.create_server_group(name="sdk-together", policy="affinity")
    made = compute.create_server(name="sdk-many", image_id=image.id, flavor_id=flavor.id, networks="none", min_count=2, max_count=2,
                                 scheduler_hints={"group": group.id})  # fmt: skip
    compute.wait_for_status(made, "ACTIVE", failures=["ERROR"], interval=0.2, wait=60)
    many = list(compute.servers(name="^sdk-many"))
    expect("two are made at once", len(many) == 2, many)
    expect("both in the group", set(compute.get_server_group(group).member_ids) == ids(many))
    for one in many:
        compute.delete_server(one, force=True)
    for one in many:
        compute.wait_for_delete(one, interval=0.2, wait=60)
    compute.delete_server_group(group)
