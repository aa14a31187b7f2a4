"""What somebody makes and deletes in the cloud while its power goes, and what must be true of it afterwards."""

import contextlib
import hashlib
import random
import threading
import urllib.error
import urllib.request

from cloud import Api, Failure, expect

# More of one kind than this are deleted again, the oldest first: quotas are for something else.
MOST = 12
DATA_BYTES = 200_000


class Things:
    """Key pairs, networks, users, images with their data. `kept` is what has been acknowledged and must be there, `gone` what must not."""

    def __init__(self, environment):
        self.api = Api(environment)
        self.kept, self.gone, self.done, self.refused = {}, set(), 0, []

    def call(self, method, url, body=None):
        answer = self.api.call(method, url, body)
        if answer[0] >= 500:
            self.refused.append((method, url, *answer[::2]))
        return answer

    # -- one call each; true when it was acknowledged ----------------------------------------------------------------------
    def keypair(self, name):
        status, _, _ = self.call("POST", f"{self.api.endpoints['compute']}/os-keypairs", {"keypair": {"name": name}})
        return self.keep("keypair", name, name) if status in (200, 201) else False

    def network(self, name):
        status, _, answer = self.call("POST", f"{self.api.endpoints['network']}/v2.0/networks", {"network": {"name": name}})
        return self.keep("network", name, answer["network"]["id"]) if status == 201 else False

    def user(self, name):
        status, _, answer = self.call("POST", f"{self.api.base}/users", {"user": {"name": name}})
        return self.keep("user", name, answer["user"]["id"]) if status == 201 else False

    def image(self, name):
        """A record, acknowledged by itself, and then its data."""
        url = f"{self.api.endpoints['image']}/v2/images"
        status, _, answer = self.call("POST", url, {"name": name, "disk_format": "raw", "container_format": "bare"})
        if status != 201:
            return False
        self.keep("image", name, answer["id"])
        data = random.Random(name).randbytes(DATA_BYTES)
        request = urllib.request.Request(f"{url}/{answer['id']}/file", method="PUT", data=data)
        request.add_header("Content-Type", "application/octet-stream")
        request.add_header("X-Auth-Token", self.api.token)
        try:
            with urllib.request.urlopen(request, context=self.api.context, timeout=60) as reply:
                expect("data of an image are acknowledged", reply.status == 204, reply.status)
        except urllib.error.HTTPError as error:
            self.refused.append(("PUT", request.full_url, error.code, error.read()))
            return False
        self.kept[name] = ("image", answer["id"], hashlib.sha512(data).hexdigest())
        self.done += 1
        return True

    KINDS = ("keypair", "network", "image", "user")

    def keep(self, kind, name, identifier):
        self.kept[name] = (kind, identifier, None)
        self.done += 1
        return True

    def make(self, word):
        for kind in self.KINDS:
            expect(f"a new {kind} is acknowledged", getattr(self, kind)(f"{word}-{kind}"))

    def url(self, kind, identifier):
        endpoints = self.api.endpoints
        return {
            "keypair": lambda: f"{endpoints['compute']}/os-keypairs/{identifier}",
            "network": lambda: f"{endpoints['network']}/v2.0/networks/{identifier}",
            "user": lambda: f"{self.api.base}/users/{identifier}",
            "image": lambda: f"{endpoints['image']}/v2/images/{identifier}",
        }[kind]()

    def delete(self, name):
        kind, identifier, _ = self.kept.pop(name)
        # Until it is acknowledged it may be either.
        status, _, _ = self.call("DELETE", self.url(kind, identifier))
        if status in (202, 204):
            self.gone.add((kind, identifier))
            self.done += 1

    # -- afterwards ---------------------------------------------------------------------------------------------------------
    def check(self):
        expect("nobody's call failed", not self.refused, self.refused)
        lost = []
        for name, (kind, identifier, digest) in self.kept.items():
            status, _, answer = self.call("GET", self.url(kind, identifier))
            if status != 200:
                lost.append((name, status, answer))
            elif digest:
                if (seen := self.digest(identifier)) != digest:
                    lost.append((name, "its data are others", seen))
        expect("nothing acknowledged is lost", not lost, lost)
        back = []
        for kind, identifier in sorted(self.gone):
            status, _, _ = self.call("GET", self.url(kind, identifier))
            if status != 404:
                back.append((kind, identifier, status))
        expect("nothing that was deleted is back", not back, back)

    def digest(self, identifier):
        request = urllib.request.Request(f"{self.url('image', identifier)}/file")
        request.add_header("X-Auth-Token", self.api.token)
        try:
            with urllib.request.urlopen(request, context=self.api.context, timeout=120) as reply:
                return hashlib.sha512(reply.read()).hexdigest()
        except urllib.error.HTTPError as error:
            return f"status {error.code}"


class Work(threading.Thread):
    """Somebody who works until the power goes."""

    def __init__(self, things, turn):
        super().__init__(daemon=True)
        self.things, self.turn, self.ended = things, turn, threading.Event()

    def run(self):
        count, things = 0, self.things
        # The power goes in the middle of a call.
        with contextlib.suppress(OSError, Failure, ValueError):
            while not self.ended.is_set():
                kind = Things.KINDS[count % len(Things.KINDS)]
                getattr(things, kind)(f"{kind}-{self.turn}-{count}")
                count += 1
                mine = [name for name, (other, *_) in things.kept.items() if other == kind]
                if len(mine) > MOST or count % 7 == 0 and mine:
                    things.delete(mine[0])

    def stop(self):
        self.ended.set()
        self.join(timeout=120)
