"""Network: networks, subnets, routers, security groups, ports, floating addresses."""

from cloud import expect


def tell(sdk):
    """A network with its router, and how to take everything away again."""
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
