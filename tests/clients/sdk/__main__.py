#!/usr/bin/env python3
"""openstacksdk over every service: create, look at, change, list and delete each kind of thing there is.

    python tests/clients/sdk PROGRAM [--keep]

Runs the program with the `fake` driver: what is judged here is the APIs as the SDK sees them, not guests (see story.py).
Of Compute, Images and Placement every method that the SDK has is asked; what is not served must say so clearly.
"""

import pathlib
import sys
import warnings

sys.dont_write_bytecode = True
# The folder above, not this one: some modules here have the names of others.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from cloud import say, script  # noqa: E402

from sdk import cloudwide, flavors, identity, images, metadefs, networks, placement, servers  # noqa: E402
from sdk.asked import Asked, connect  # noqa: E402


def prepare(folder, ending):
    """A web server to import images from, which the cloud is told to trust."""
    port = ending.enter_context(images.web_server(folder / "web"))
    configuration = folder / "solostack.toml"
    configuration.write_text(f'[images]\nweb_download_ports = ["{port}"]\nweb_download_allowed_networks = ["127.0.0.0/8"]\n')
    return ["--config", str(configuration)], (f"http://127.0.0.1:{port}",)


def tell(cloud, folder, web):
    # What the SDK finds old in itself is no matter here.
    warnings.simplefilter("ignore")
    took = cloud.start()
    say(f"ready after {took:.2f} s")
    environment = cloud.sourced()
    asked = Asked("compute", "image", "placement")
    sdk = asked.watch(connect(environment))
    say("-- identity")
    project, user = identity.tell(sdk)
    old = asked.watch(connect(environment, OS_COMPUTE_DEFAULT_MICROVERSION="2.1"))
    member = asked.watch(identity.as_member(environment, project, user))
    say("-- placement")
    placement.tell(sdk, project, user)
    say("-- image")
    image = images.tell(sdk, member, project, folder, web)
    metadefs.tell(sdk, project)
    say("-- network")
    network, undo = networks.tell(sdk)
    say("-- compute")
    cloudwide.tell(sdk, old, image, project, user)
    flavors.tell(sdk, project)
    servers.tell(sdk, old, image, network)
    asked.judge()
    undo()
    sdk.image.delete_image(image)
    sdk.identity.delete_user(user)
    sdk.identity.delete_project(project)
    for connection in (member, old, sdk):
        connection.close()
    cloud.stop()
    cloud.down()


if __name__ == "__main__":
    script(__doc__, "sdk", tell, prepare)
