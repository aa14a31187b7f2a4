"""Images: data up and down, imports and their tasks, members, tags, the cache, and what the cloud says of itself."""

import contextlib
import functools
import http.server
import os
import subprocess
import threading

from cloud import expect, wait_for
from sdk.asked import ids, refused


@contextlib.contextmanager
def web_server(folder):
    """Serves the folder; gives the port."""
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def tell(sdk, member, project, folder, web):
    disk = folder / "sdk.raw"
    disk.write_bytes(os.urandom(1 << 20))
    about(sdk)
    image = uploaded(sdk, disk, folder)
    sharing(sdk, member, project, image)
    imports(sdk, disk, folder, web)
    locations(sdk, image)
    cache(sdk, disk)
    return image


def about(sdk):
    methods = sdk.image.get_import_info().import_methods["value"]
    expect("the ways to import are told", {"glance-direct", "web-download"} <= set(methods), methods)
    stores = list(sdk.image.stores())
    expect("there is one store, the default", [s.is_default for s in stores] in ([True], ["true"]), stores)
    expect("with its details", ids(sdk.image.stores(details=True)) == ids(stores))
    image = sdk.image
    for schema, some in (
        (image.get_image_schema(), "disk_format"),
        (image.get_images_schema(), "images"),
        (image.get_member_schema(), "member_id"),
        (image.get_members_schema(), "members"),
        (image.get_task_schema(), "status"),
        (image.get_tasks_schema(), "tasks"),
        (image.get_metadef_namespace_schema(), "namespace"),
        (image.get_metadef_namespaces_schema(), "namespaces"),
        (image.get_metadef_object_schema(), "properties"),
        (image.get_metadef_objects_schema(), "objects"),
        (image.get_metadef_property_schema(), "title"),
        (image.get_metadef_properties_schema(), "properties"),
        (image.get_metadef_resource_type_schema(), "name"),
        (image.get_metadef_resource_types_schema(), "resource_type_associations"),
        (image.get_metadef_tag_schema(), "name"),
        (image.get_metadef_tags_schema(), "tags"),
    ):
        expect(f"a schema has {some}", some in schema.properties, schema)


def uploaded(sdk, disk, folder):
    image = sdk.image.create_image(name="sdk-image", filename=str(disk), disk_format="raw", container_format="bare", wait=True,
                                   validate_checksum=True)  # fmt: skip
    image = sdk.image.get_image(image)
    expect("the image is active with its size", (image.status, image.size) == ("active", 1 << 20), image)
    expect("found by name and by id", {sdk.image.find_image(x).id for x in ("sdk-image", image.id)} == {image.id})
    image = sdk.image.update_image(image, min_ram=64, os_distro="tiny")
    expect("properties are kept", sdk.image.get_image(image).min_ram == 64)
    sdk.image.update_image_properties(image, os_version="7")
    expect("of any name", sdk.image.get_image(image).os_version == "7")
    sdk.image.add_tag(image, "sdk")
    sdk.image.add_tag(image, "sdk-2")
    sdk.image.remove_tag(image, "sdk-2")
    expect("found by its tag", ids(sdk.image.images(tag="sdk")) == {image.id})
    expect("not by one that was taken away", ids(sdk.image.images(tag="sdk-2")) == set())
    copy = folder / "copy.raw"
    sdk.image.download_image(image, output=str(copy), stream=True)
    expect("what comes down is what went up", copy.read_bytes() == disk.read_bytes())
    sdk.image.deactivate_image(image)
    expect("deactivated", sdk.image.get_image(image).status == "deactivated")
    sdk.image.reactivate_image(image)
    sdk.image.update_image(image, is_protected=True)
    refused("a protected image is deleted", 403, sdk.image.delete_image, image)
    image = sdk.image.update_image(image, is_protected=False)

    other = sdk.image.upload_image(name="sdk-upload", container_format="bare", disk_format="raw", data=disk.read_bytes())
    other = sdk.image.wait_for_status(sdk.image.get_image(other), "active", interval=0.1, wait=30)
    expect("uploaded the old way", other.size == 1 << 20, other)
    sdk.image.delete_image(other)
    sdk.image.wait_for_delete(other, interval=0.1, wait=30)
    expect("and gone", sdk.image.find_image("sdk-upload") is None)
    return image


def sharing(sdk, member, project, image):
    sdk.image.update_image(image, visibility="shared")
    refused("an image that nobody shares", 404, member.image.get_image, image.id)
    sdk.image.add_member(image, member_id=project.id)
    expect("a member is asked", sdk.image.get_member(project.id, image).status == "pending")
    expect("a member is found", sdk.image.find_member(project.id, image).member_id == project.id)
    expect("and listed", [m.member_id for m in sdk.image.members(image)] == [project.id])
    expect("the image is not in its list yet", ids(member.image.images()) == set())
    member.image.update_member(project.id, image, status="accepted")
    expect("but when it has accepted", ids(member.image.images()) == {image.id})
    refused("a member deletes it", 403, member.image.delete_image, image.id, ignore_missing=False)
    sdk.image.remove_member(project.id, image)
    refused("when the member is taken away, it is gone", 404, member.image.get_image, image.id)
    sdk.image.update_image(image, visibility="private")


def imports(sdk, disk, folder, web):
    image = sdk.image.create_image(name="sdk-import", disk_format="raw", container_format="bare", allow_duplicates=True, data=None)
    image = sdk.image.stage_image(image, filename=str(disk))
    expect("staged", image.status == "uploading", image)
    sdk.image.import_image(image, "glance-direct")
    image = sdk.image.wait_for_status(image, "active", interval=0.1, wait=30)
    tasks = list(sdk.image.image_tasks(image))
    expect("its import is a task", [(t.type, t.status) for t in tasks] == [("api_image_import", "success")], tasks)
    expect("among all tasks", tasks[0].id in ids(sdk.image.tasks()))
    expect("to be shown", sdk.image.get_task(tasks[0].id).status == "success")
    sdk.image.delete_image(image)

    (folder / "web" / "disk.raw").write_bytes(disk.read_bytes())
    image = sdk.image.create_image(name="sdk-web", disk_format="raw", container_format="bare", import_method="web-download", use_import=True,
                                   uri=f"{web}/disk.raw", wait=True, timeout=60)  # fmt: skip
    image = sdk.image.wait_for_status(sdk.image.get_image(image.id), "active", interval=0.1, wait=30)
    expect("fetched from the web", image.size == 1 << 20, image)
    sdk.image.delete_image(image)

    task = sdk.image.create_task(type="import", input={
        "import_from": f"{web}/disk.raw", "import_from_format": "raw",
        "image_properties": {"name": "sdk-task", "disk_format": "raw", "container_format": "bare"},
    })  # fmt: skip
    task = sdk.image.wait_for_task(task, interval=0.1, wait=60)
    made = sdk.image.get_image(task.result["image_id"])
    expect("a task makes an image", (made.name, made.status) == ("sdk-task", "active"), made)
    sdk.image.delete_image(made)


def locations(sdk, image):
    expect("where the bytes are", [x.url.endswith(image.id) for x in sdk.image.image_locations(image)] == [True])
    refused("a second place for the bytes", 409, sdk.image.add_image_location, image, "http://192.0.2.1/x")


def cache(sdk, disk):
    packed = disk.with_suffix(".qcow2")
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(disk), str(packed)], check=True)
    image = sdk.image.create_image(name="sdk-packed", filename=str(packed), disk_format="qcow2", container_format="bare", wait=True)
    sdk.image.queue_image(image.id)

    def cached():
        return {copy["image_id"] for copy in sdk.image.get_image_cache().cached_images}

    wait_for("the image is made ready", lambda: image.id in cached(), 30)
    sdk.image.cache_delete_image(image.id)
    expect("out of the cache", image.id not in cached())
    sdk.image.clear_cache()
    expect("nothing is cached", cached() == set())
    # Images 2.18 and later: of more than one node, and of caches that spoil.
    refused("on which nodes it is", 404, sdk.image.cached_image_nodes, image)
    refused("cleaning of the cache", 405, sdk.image.clean_cache)
    refused("pruning of the cache", 405, sdk.image.prune_cache)
    sdk.image.delete_image(image)
