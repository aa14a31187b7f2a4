"""Placement: resource classes, traits, providers with inventories, allocations and candidates."""

import os
import uuid

from cloud import expect
from sdk.asked import ids, names, refused


def tell(sdk, project, user):
    this_machine(sdk)
    classes(sdk)
    traits(sdk)
    provider = providers(sdk)
    inventories(sdk, provider)
    allocations(sdk, provider, project, user)
    sdk.placement.delete_resource_provider_inventories(provider)
    expect("no inventory is left", list(sdk.placement.resource_provider_inventories(provider)) == [])
    sdk.placement.delete_resource_provider(provider)
    sdk.placement.wait_for_delete(provider, interval=0.1, wait=10)
    expect("the provider is gone", sdk.placement.find_resource_provider("sdk-renamed") is None)
    sdk.placement.delete_resource_class("CUSTOM_SDK")
    refused("a class that is gone", 404, sdk.placement.get_resource_class, "CUSTOM_SDK")


def this_machine(sdk):
    found = list(sdk.placement.resource_providers())
    expect("this machine is the one provider", len(found) == 1, found)
    totals = {i.resource_class: i.total for i in sdk.placement.resource_provider_inventories(found[0])}
    expect("with its true processors", totals["VCPU"] == os.cpu_count(), totals)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    expect("and memory", abs(totals["MEMORY_MB"] - memory) <= 64, (totals, memory))
    candidates = list(sdk.placement.allocation_candidates(resources="VCPU:1,MEMORY_MB:64"))
    expect("it is where one processor can be had", [list(c.allocations) for c in candidates] == [[found[0].id]], candidates)


def classes(sdk):
    made = sdk.placement.create_resource_class(name="CUSTOM_SDK")
    expect("a class has its name", sdk.placement.get_resource_class("CUSTOM_SDK").name == made.name == "CUSTOM_SDK")
    expect("classes are listed with the standard ones", {"VCPU", "CUSTOM_SDK"} <= names(sdk.placement.resource_classes()))
    sdk.placement.update_resource_class("CUSTOM_SDK", name="CUSTOM_SDK_2")
    expect("a class is renamed", "CUSTOM_SDK_2" in names(sdk.placement.resource_classes()))
    sdk.placement.update_resource_class("CUSTOM_SDK_2", name="CUSTOM_SDK")
    refused("a standard class cannot be deleted", 400, sdk.placement.delete_resource_class, "VCPU")


def traits(sdk):
    sdk.placement.create_trait("CUSTOM_SDK_TRAIT")
    expect("a trait is there", sdk.placement.get_trait("CUSTOM_SDK_TRAIT").id == "CUSTOM_SDK_TRAIT")
    expect("traits are listed with the standard ones", {"HW_CPU_X86_AVX2", "CUSTOM_SDK_TRAIT"} <= ids(sdk.placement.traits()))
    expect("and found by their start", ids(sdk.placement.traits(name="startswith:CUSTOM_SDK")) == {"CUSTOM_SDK_TRAIT"})


def providers(sdk):
    parent = sdk.placement.create_resource_provider(name="sdk-parent")
    provider = sdk.placement.create_resource_provider(name="sdk-provider", parent_provider_id=parent.id)
    expect("a provider is in its parent's tree", provider.root_provider_id == parent.id, provider)
    expect("which lists it", ids(sdk.placement.resource_providers(in_tree=parent.id)) == {parent.id, provider.id})
    refused("a provider with a child cannot be deleted", 409, sdk.placement.delete_resource_provider, parent)
    sdk.placement.delete_resource_provider(provider)
    sdk.placement.delete_resource_provider(parent)

    provider = sdk.placement.create_resource_provider(name="sdk-provider", id=str(uuid.uuid4()))
    provider = sdk.placement.update_resource_provider(provider, name="sdk-renamed")
    provider = sdk.placement.get_resource_provider(provider)
    expect("found by its new name", sdk.placement.find_resource_provider("sdk-renamed").id == provider.id)

    aggregate = str(uuid.uuid4())
    sdk.placement.set_resource_provider_aggregates(provider, aggregate)
    expect("its aggregates are kept", sdk.placement.fetch_resource_provider_aggregates(provider).aggregates == [aggregate])
    expect("by the old name, too", sdk.placement.get_resource_provider_aggregates(provider).aggregates == [aggregate])
    expect("and find it", ids(sdk.placement.resource_providers(member_of=aggregate)) == {provider.id})

    of = sdk.placement.get_resource_provider_trait(provider)
    expect("it has no traits yet", of.traits == [], of)
    of = sdk.placement.set_resource_provider_trait(of, traits=["CUSTOM_SDK_TRAIT"])
    expect("a trait is its own now", sdk.placement.get_resource_provider_trait(provider).traits == ["CUSTOM_SDK_TRAIT"], of)
    expect("and finds it", ids(sdk.placement.resource_providers(required="CUSTOM_SDK_TRAIT")) == {provider.id})
    refused("a trait in use cannot be deleted", 409, sdk.placement.delete_trait, "CUSTOM_SDK_TRAIT")
    sdk.placement.delete_resource_provider_trait(provider)
    expect("no trait is left", sdk.placement.get_resource_provider_trait(provider).traits == [])
    sdk.placement.delete_trait("CUSTOM_SDK_TRAIT")
    return sdk.placement.get_resource_provider(provider)


def inventories(sdk, provider):
    made = sdk.placement.create_resource_provider_inventory(provider, "CUSTOM_SDK", total=8, max_unit=4)
    expect("an inventory has what was asked, and defaults", (made.total, made.max_unit, made.min_unit, made.step_size) == (8, 4, 1, 1), made)
    made = sdk.placement.get_resource_provider_inventory("CUSTOM_SDK", provider)
    made = sdk.placement.update_resource_provider_inventory("CUSTOM_SDK", provider, resource_provider_generation=made.resource_provider_generation, total=9)
    made = sdk.placement.get_resource_provider_inventory("CUSTOM_SDK", provider)
    expect("an inventory is changed", made.total == 9, made)
    refused("by an old generation it is not", 409, sdk.placement.update_resource_provider_inventory, "CUSTOM_SDK", provider,
            resource_provider_generation=0, total=10)  # fmt: skip
    sdk.placement.delete_resource_provider_inventory("CUSTOM_SDK", provider)
    refused("an inventory that is gone", 404, sdk.placement.get_resource_provider_inventory, "CUSTOM_SDK", provider)
    generation = sdk.placement.get_resource_provider(provider).generation
    sdk.placement.set_resource_provider_inventories(provider, {"CUSTOM_SDK": {"total": 10}, "VCPU": {"total": 2}}, generation)
    seen = {i.resource_class: i.total for i in sdk.placement.resource_provider_inventories(provider)}
    expect("inventories are replaced as a whole", seen == {"CUSTOM_SDK": 10, "VCPU": 2}, seen)


def allocations(sdk, provider, project, user):
    one, other = str(uuid.uuid4()), str(uuid.uuid4())

    def wanted(amount, generation=None):
        return {"allocations": {provider.id: {"resources": {"CUSTOM_SDK": amount}}}, "project_id": project.id, "user_id": user.id,
                "consumer_generation": generation, "consumer_type": "INSTANCE"}  # fmt: skip

    candidates = list(sdk.placement.allocation_candidates(resources="CUSTOM_SDK:3"))
    expect("there is one candidate, with its summary", [list(c.provider_summaries) for c in candidates] == [[provider.id]], candidates)
    sdk.placement.update_allocation(one, **wanted(3))
    kept = sdk.placement.get_allocation(one)
    expect("what is allocated is kept", kept.allocations[provider.id]["resources"] == {"CUSTOM_SDK": 3}, kept)
    refused("more than there is", 409, sdk.placement.create_allocations, {other: wanted(8)})
    sdk.placement.create_allocations({one: wanted(1, kept.consumer_generation), other: wanted(9)})
    seen = {a.consumer_id: a.resources for a in sdk.placement.resource_provider_allocations(provider)}
    expect("both are the provider's", seen == {one: {"CUSTOM_SDK": 1}, other: {"CUSTOM_SDK": 9}}, seen)
    used = sdk.placement.fetch_resource_provider_usages(provider).usages
    expect("and count as used", used == {"CUSTOM_SDK": 10, "VCPU": 0}, used)
    seen = [(u.consumer_type, u.consumer_count, u.resources) for u in sdk.placement.usages(project.id, user_id=user.id)]
    expect("by project and user, too", seen == [("INSTANCE", 2, {"CUSTOM_SDK": 10})], seen)
    expect("nothing more can be had", list(sdk.placement.allocation_candidates(resources="CUSTOM_SDK:1")) == [])
    refused("a provider in use cannot be deleted", 409, sdk.placement.delete_resource_provider, provider)
    for consumer in (one, other):
        sdk.placement.delete_allocation(consumer)
    expect("no allocation is left", sdk.placement.get_allocation(one).allocations == {})
    status = sdk.placement.wait_for_status(provider, "sdk-renamed", attribute="name", interval=0.1, wait=10)
    expect("an attribute is waited for", status.name == "sdk-renamed")
