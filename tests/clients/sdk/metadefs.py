"""Images: definitions of metadata, with objects, properties, tags and resource types."""

from cloud import expect
from sdk.asked import names, refused

SPACE = "Sdk::Space"


def tell(sdk, project):
    image = sdk.image
    made = image.create_metadef_namespace(namespace=SPACE, visibility="public", display_name="d", owner=project.id)
    expect("a namespace is made", (made.namespace, made.visibility) == (SPACE, "public"), made)
    image.update_metadef_namespace(SPACE, description="changed")
    expect("and changed", image.get_metadef_namespace(SPACE).description == "changed")
    expect("and listed", SPACE in {space.namespace for space in image.metadef_namespaces()})

    image.create_metadef_object(SPACE, name="sdk-object", description="x", properties={"size": {"title": "Size", "type": "integer"}})
    image.update_metadef_object("sdk-object", SPACE, name="sdk-object-2", description="y")
    expect("an object is renamed", image.get_metadef_object("sdk-object-2", SPACE).description == "y")
    expect("and listed", names(image.metadef_objects(SPACE)) == {"sdk-object-2"})
    image.delete_metadef_object("sdk-object-2", SPACE)
    for name in ("one", "two"):
        image.create_metadef_object(SPACE, name=name)
    image.delete_all_metadef_objects(SPACE)
    expect("no object is left", list(image.metadef_objects(SPACE)) == [])

    image.create_metadef_property(SPACE, name="sdk-property", title="Title", type="string", enum=["a", "b"])
    image.update_metadef_property("sdk-property", SPACE, name="sdk-property", title="Changed", type="string")
    expect("a property is changed", image.get_metadef_property("sdk-property", SPACE).title == "Changed")
    expect("and listed", names(image.metadef_properties(SPACE)) == {"sdk-property"})
    image.delete_metadef_property("sdk-property", SPACE)
    for name in ("one", "two"):
        image.create_metadef_property(SPACE, name=name, title=name, type="string")
    image.delete_all_metadef_properties(SPACE)
    expect("no property is left", list(image.metadef_properties(SPACE)) == [])

    space = image.get_metadef_namespace(SPACE)
    for tag in ("one", "two", "three"):
        image.add_tag_to_metadef_namespace(space, tag)
    image.remove_tag_from_metadef_namespace(space, "two")
    tags = {tag["name"] for tag in image.get(f"/metadefs/namespaces/{SPACE}/tags").json()["tags"]}
    expect("tags come and go", tags == {"one", "three"}, tags)
    image.remove_tags_from_metadef_namespace(space)
    expect("all at once", image.get(f"/metadefs/namespaces/{SPACE}/tags").json()["tags"] == [])

    expect("resource types are known", "OS::Glance::Image" in names(image.metadef_resource_types()))
    image.create_metadef_resource_type_association(SPACE, name="OS::Nova::Server", prefix="sdk:")
    seen = [(of.name, of.prefix) for of in image.metadef_resource_type_associations(SPACE)]
    expect("one is the namespace's", seen == [("OS::Nova::Server", "sdk:")], seen)
    image.delete_metadef_resource_type_association("OS::Nova::Server", SPACE)
    expect("and is not", list(image.metadef_resource_type_associations(SPACE)) == [])
    image.delete_metadef_namespace(SPACE)
    refused("a namespace that is gone", 404, image.get_metadef_namespace, SPACE)
