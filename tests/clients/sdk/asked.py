"""Which methods of the SDK were asked, so that none can be forgotten: what a release of the SDK adds makes the run fail
until somebody says here what the cloud answers to it."""

import contextlib
import functools
import os

from cloud import Failure, expect


def connect(environment, **changes):
    import openstack

    for name in [n for n in os.environ if n.startswith("OS_")]:
        del os.environ[name]
    os.environ.update(environment | changes)
    return openstack.connect(load_yaml_config=False, load_envvars=True)


class Asked:
    """The public methods of some services' proxies, and which of them a script has called. A call counts when it returns, or
    when it is refused as `refused` expects; what a method of the SDK calls by itself does not count."""

    def __init__(self, *services):
        self.services = services
        self.known = {service: set() for service in services}
        self.called = {service: set() for service in services}
        self.depth = 0

    def watch(self, connection):
        for service in self.services:
            proxy = getattr(connection, service)
            for name in self.methods(service, type(proxy)):
                self.known[service].add(name)
                setattr(proxy, name, self.noting(service, name, getattr(proxy, name)))
        return connection

    @staticmethod
    def methods(service, kind):
        own = [part for part in kind.__mro__ if part.__module__.startswith(f"openstack.{service}.")]
        return {name for part in own for name, value in vars(part).items() if callable(value) and not name.startswith("_")}

    def noting(self, service, name, method):
        @functools.wraps(method)
        def noted(*args, **kwargs):
            outermost = self.depth == 0
            self.depth += 1
            try:
                answer = method(*args, **kwargs)
            finally:
                self.depth -= 1
            if outermost:
                self.called[service].add(name)
            return answer

        noted.note = lambda: self.called[service].add(name)
        return noted

    def judge(self):
        """Fails where something was not asked."""
        for service in self.services:
            forgotten = sorted(self.known[service] - self.called[service])
            expect(f"every method of the SDK for {service} is asked", forgotten == [] and self.known[service], forgotten)


def reason(error):
    """What the service said. The SDK does not find it in Placement's answers."""
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        return error.response.json()["errors"][0]["detail"]
    return str(error.details or "")


def refused(what, status, method, *args, **kwargs):
    """The call is refused with this status and a reason for people, which is returned."""
    import openstack.exceptions

    try:
        # Lists are lazy.
        answer = method(*args, **kwargs)
        if hasattr(answer, "__next__"):
            answer = list(answer)
    except openstack.exceptions.HttpException as error:
        expect(f"{what}: refused with {status}", error.status_code == status, error)
        expect(f"{what}: the refusal has a reason", len(reason(error)) > 8, reason(error))
        if hasattr(method, "note"):
            method.note()
        return reason(error)
    raise Failure(f"{what}: to be refused with {status}, it was answered: {answer}")


def ids(things):
    return {thing.id for thing in things}


def names(things):
    return {thing.name for thing in things}
