#!/usr/bin/env python3
"""Placement's own functional tests (the YAML files of the package `openstack-placement`) against the built program.

    run_placement.py PROGRAM [FILE...] [--every-file] [--no-write] [--keep]

The package sends them into a Placement inside its own process, whose middleware believes what headers say and whose fixtures
write to the database. Here they meet a cloud that was started with `--no-self-provider`:

- who a test wants to be (a token word with headers for roles, project and system scope) becomes a user of this cloud who has
  just that role there, and the test carries that user's token;
- what a fixture writes is made by calls of the API;
- what a file leaves behind is removed before the next begins, because many tests count all there is.

Without FILE the files of placement/files.tsv run; `--every-file` takes all of the package that a cloud with the default
policy can be asked. Ends with status 0 only if every test passed.
"""

import argparse
import collections
import copy
import importlib.metadata
import os
import pathlib
import shutil
import sys
import tempfile
import time
import types
import unittest
import uuid
import warnings

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests/clients"))

from cloud import Cloud, Failure, expect, say  # noqa: E402

LISTED = HERE / "placement/files.tsv"
# Fixtures that need another server than ours: other rules, or the old ones, or another configuration.
NOT_OURS = {"LegacyRBACPolicyFixture", "OpenPolicyFixture", "CORSFixture"}
# Their tests look at the token's project, so the projects they name must be real ones.
OF_POLICY = {"SecureRBACPolicyFixture"}
# A length that is no number: no client of HTTP sends it, and the package's tests do not use one.
UNSENDABLE = {("basic-http", "bad content length not int")}
PRETENDED = ("x-auth-token", "x-roles", "x-project-id", "openstack-system-scope")
LATEST = "1.39"
# Replaced in a file's text by gabbi: one new id for each file.
IDS = (
    "RP_UUID RP_NAME RP_UUID1 RP_NAME1 RP_UUID2 RP_NAME2 USER_ID USER_ID_ALT INSTANCE_UUID MIGRATION_UUID CONSUMER_UUID "
    "PARENT_PROVIDER_UUID ALT_PARENT_PROVIDER_UUID PROJECT_ID PROJECT_ID_ALT ADMIN_PROJECT_ID SERVICE_PROJECT_ID"
).split()


# -- who asks ----------------------------------------------------------------------------------------------------------
class People:
    """Users of the cloud, each with its roles in one scope, made when first wanted."""

    def __init__(self, api):
        self.api = api
        self.identity = api.base
        self.roles = {role["name"]: role["id"] for role in self.ask("GET", "/roles")["roles"]}
        self.projects, self.users = {}, {}
        self.password = f"Aa1-{uuid.uuid4()}"

    def ask(self, method, path, body=None):
        status, _, answer = self.api.call(method, self.identity + path, body)
        expect(f"{method} {path} succeeds", status in (200, 201, 204), (status, answer))
        return answer

    def project(self, name):
        if name not in self.projects:
            made = self.ask("POST", "/projects", {"project": {"name": f"placement-{name}", "domain_id": "default"}})
            self.projects[name] = made["project"]["id"]
        return self.projects[name]

    def user(self, roles, scope):
        """`scope` is the name of a project, or `system`."""
        if (roles, scope) not in self.users:
            name = "-".join(["placement", *roles, scope])
            made = self.ask("POST", "/users", {"user": {"name": name, "password": self.password, "domain_id": "default"}})
            place = "system" if scope == "system" else f"projects/{self.project(scope)}"
            for role in roles:
                self.ask("PUT", f"/{place}/users/{made['user']['id']}/roles/{self.roles[role]}")
            self.users[roles, scope] = made["user"]["id"]
        return self.users[roles, scope]

    def token(self, roles, scope):
        user = {"id": self.user(roles, scope), "password": self.password}
        of = {"system": {"all": True}} if scope == "system" else {"project": {"id": self.project(scope)}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": of}}
        status, headers, answer = self.api.call("POST", f"{self.identity}/auth/tokens", body)
        expect(f"a token for {roles} in {scope}", status == 201, (status, answer))
        return headers["X-Subject-Token"]


class Persons:
    """The tokens that one file asks for: the name of an environment variable for each, which gabbi puts in."""

    def __init__(self):
        self.wanted = {}

    def variable(self, headers):
        who = str(headers["x-auth-token"]).split(":")[0]
        said = [word.strip() for word in str(headers.get("x-roles", "")).split(",") if word.strip()]
        if who == "admin" and not said:
            # The package's administrator may do everything; today's rules leave POST /reshaper to services.
            roles = ("admin", "service")
        else:
            roles = (next((role for role in ("admin", "service", "member", "reader") if role in said), "member" if not said else "reader"),)
        if str(headers.get("openstack-system-scope", "")).lower() == "all":
            scope = "system"
        elif "x-project-id" in headers:
            scope = self.scope(str(headers["x-project-id"]).upper())
        else:
            scope = "admin" if "admin" in roles else "main"
        name = "_".join(["PLACEMENT_TOKEN", *roles, scope]).upper()
        self.wanted[name] = (roles, scope)
        return f"$ENVIRON['{name}']"

    @staticmethod
    def scope(text):
        for part, scope in (("ADMIN_PROJECT_ID", "admin"), ("SERVICE_PROJECT_ID", "service"), ("PROJECT_ID_ALT", "alt")):
            if part in text:
                return scope
        return "main"

    def translate(self, headers, defaults):
        """Headers of a request with a real token instead of what they pretend."""
        low = {name.lower(): value for name, value in headers.items()}
        if not any(name in low for name in PRETENDED):
            return headers
        out = {name: value for name, value in headers.items() if name.lower() not in PRETENDED}
        pretended = {**defaults, **{name: value for name, value in low.items() if name in PRETENDED}}
        if pretended.get("x-auth-token"):
            out["x-auth-token"] = self.variable(pretended)
        elif "x-auth-token" in low:
            out["x-auth-token"] = low["x-auth-token"]
        return out

    def file(self, document):
        document = copy.deepcopy(document)
        given = document.setdefault("defaults", {}).get("request_headers") or {}
        defaults = {name.lower(): value for name, value in given.items() if name.lower() in PRETENDED}
        document["defaults"]["request_headers"] = self.translate(given, {})
        document["defaults"]["ssl"] = True
        for test in document["tests"]:
            if test.get("request_headers"):
                test["request_headers"] = self.translate(test["request_headers"], defaults)
        return document


# -- what fixtures write -----------------------------------------------------------------------------------------------
class Rest:
    """The database helpers of the package's fixtures, over the API. Their names are the package's."""

    def __init__(self, api, people):
        self.api, self.people = api, people
        self.url = api.endpoints["placement"]
        self.renew()

    def renew(self):
        self.token = self.people.token(("admin", "service"), "admin")

    def __call__(self, method, path, body=None, version=LATEST, gone_is_fine=False):
        headers = {"X-Auth-Token": self.token, "OpenStack-API-Version": f"placement {version}"}
        status, _, answer = self.api.call(method, self.url + path, body, headers)
        fine = status in (200, 201, 204) or (gone_is_fine and status == 404)
        expect(f"{method} {path} succeeds", fine, (status, answer))
        return answer

    class Provider:
        def __init__(self, rest, name, identifier):
            self.rest, self.name, self.uuid = rest, name, identifier

        @property
        def generation(self):
            return self.rest("GET", f"/resource_providers/{self.uuid}")["generation"]

        def set_aggregates(self, aggregates):
            # Up to 1.18 no generation moves, as in the database helper.
            self.rest("PUT", f"/resource_providers/{self.uuid}/aggregates", list(aggregates), version="1.18")

    def create_provider(self, context, name, *aggregates, **given):
        body = {"name": name, "uuid": given.get("uuid") or str(uuid.uuid4())}
        if given.get("parent"):
            body["parent_provider_uuid"] = given["parent"]
        self("POST", "/resource_providers", body)
        provider = self.Provider(self, name, body["uuid"])
        if aggregates:
            provider.set_aggregates(aggregates)
        return provider

    def ensure_rc(self, context, name):
        if name.startswith("CUSTOM_"):
            self("PUT", f"/resource_classes/{name}")

    def add_inventory(self, provider, name, total, **given):
        self.ensure_rc(None, name)
        body = {"max_unit": total, **given, "resource_class": name, "total": total, "resource_provider_generation": provider.generation}
        self("POST", f"/resource_providers/{provider.uuid}/inventories", body)

    def set_traits(self, provider, *traits):
        for name in traits:
            if name.startswith("CUSTOM_"):
                self("PUT", f"/traits/{name}")
        body = {"traits": list(traits), "resource_provider_generation": provider.generation}
        self("PUT", f"/resource_providers/{provider.uuid}/traits", body)

    def ensure_consumer(self, context, user, project, consumer_id=None):
        return types.SimpleNamespace(uuid=consumer_id or str(uuid.uuid4()), user=user, project=project)

    def set_allocation(self, context, provider, consumer, used):
        # Before 1.38 a consumer has no type, as the helper's has none.
        body = {"allocations": {provider.uuid: {"resources": used}}, "project_id": consumer.project.external_id,
                "user_id": consumer.user.external_id, "consumer_generation": None}  # fmt: skip
        self("PUT", f"/allocations/{consumer.uuid}", body, version="1.37")

    def create_user_and_project(self, context, prefix="fake"):
        return Named(external_id=f"{prefix}-user"), Named(external_id=f"{prefix}-project")

    def everything(self):
        providers = self("GET", "/resource_providers")["resource_providers"]
        traits = self("GET", "/traits?name=startswith:CUSTOM_")["traits"]
        classes = self("GET", "/resource_classes")["resource_classes"]
        return providers, traits, [one["name"] for one in classes if one["name"].startswith("CUSTOM_")]

    def sweep(self):
        self.renew()
        providers, traits, classes = self.everything()
        for one in providers:
            for consumer in self("GET", f"/resource_providers/{one['uuid']}/allocations")["allocations"]:
                self("DELETE", f"/allocations/{consumer}", gone_is_fine=True)
        left = {one["uuid"]: one["parent_provider_uuid"] for one in providers}
        while left:
            leaves = [one for one in left if one not in left.values()]
            expect("some provider has no children", leaves)
            for one in leaves:
                self("DELETE", f"/resource_providers/{one}", gone_is_fine=True)
                del left[one]
        for one in traits:
            self("DELETE", f"/traits/{one}", gone_is_fine=True)
        for one in classes:
            self("DELETE", f"/resource_classes/{one}", gone_is_fine=True)


class Named:
    """A user, a project or a class that a fixture makes: only classes are things of their own here."""

    rest = None

    def __init__(self, context=None, external_id=None, name=None, **_):
        self.external_id, self.name = external_id, name

    def create(self):
        if self.name:
            self.rest.ensure_rc(None, self.name)


# -- a run -------------------------------------------------------------------------------------------------------------
class Run:
    def __init__(self, api, environment):
        os.environ["SSL_CERT_FILE"] = environment["OS_CACERT"]
        warnings.simplefilter("ignore")
        import yaml
        from gabbi import handlers, suitemaker, utils
        from placement.tests.functional.fixtures import gabbits

        self.people = People(api)
        self.rest = Named.rest = Rest(api, self.people)
        self.suitemaker, self.fixtures = suitemaker, gabbits
        self.folder = pathlib.Path(gabbits.__file__).parents[1] / "gabbits"
        self.documents = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(self.folder.glob("*.yaml"))}
        self.handlers = [make() for make in handlers.RESPONSE_HANDLERS]
        self.host, self.port, self.prefix, _ = utils.host_info_from_target(self.rest.url)
        self.persons = None
        self.real_projects = False
        self.replace()

    def replace(self):
        run, fixtures = self, self.fixtures

        def start(fixture):
            fixture.context = None
            run.prepare()

        fixtures.APIFixture.start_fixture = start
        fixtures.APIFixture.stop_fixture = lambda fixture: None
        fixtures.tb = self.rest
        fixtures.user_obj = types.SimpleNamespace(User=Named)
        fixtures.project_obj = types.SimpleNamespace(Project=Named)
        fixtures.rc_obj = types.SimpleNamespace(ResourceClass=Named)

    def prepare(self):
        """What a file's text refers to."""
        for name, (roles, scope) in self.persons.wanted.items():
            os.environ[name] = self.people.token(roles, scope)
        os.environ.update({name: str(uuid.uuid4()) for name in IDS})
        if self.real_projects:
            for name, scope in (("PROJECT_ID", "main"), ("PROJECT_ID_ALT", "alt"), ("ADMIN_PROJECT_ID", "admin"), ("SERVICE_PROJECT_ID", "service")):
                os.environ[name] = self.people.project(scope)
        for suffix in ("", "1", "2"):
            os.environ[f"CUSTOM_RES_CLASS{suffix}"] = f"CUSTOM_IRON_NFV{suffix}"

    def fixture(self, name):
        return (self.documents[name].get("fixtures") or ["APIFixture"])[0]

    def file(self, name):
        """The outcome of each test of a file: what never reported has failed."""
        self.persons = Persons()
        self.real_projects = self.fixture(name) in OF_POLICY
        document = self.persons.file(self.documents[name])
        for test in document["tests"]:
            if (name, test["name"]) in UNSENDABLE:
                test["skip"] = "no client of HTTP can send this"
        result, why = Outcomes(), "it never reported"
        try:
            suite = self.suitemaker.test_suite_from_dict(
                unittest.TestLoader(), f"live_{name}", document, str(self.folder), self.host, self.port, self.fixtures, None,
                prefix=self.prefix, handlers=self.handlers)  # fmt: skip
            suite.run(result)
        except Failure as failure:
            why = f"its fixture: {failure}"
        self.rest.sweep()
        return {f"{name}: {test['name']}": result.seen.get(test["name"], ("failed", why)) for test in document["tests"]}


class Outcomes(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.seen = {}

    def record(self, test, status, why=""):
        data = getattr(test, "test_data", None)
        if data:
            self.seen[data["name"]] = (status, why)

    def addSuccess(self, test):
        self.record(test, "passed")

    addExpectedFailure = lambda self, test, error: self.record(test, "passed")  # noqa: E731

    def addUnexpectedSuccess(self, test):
        self.record(test, "failed", "it was expected to fail")

    def addSkip(self, test, reason):
        self.record(test, "skipped", reason)

    def addFailure(self, test, error):
        self.record(test, "failed", " ".join(f"{error[0].__name__}: {error[1]}".split())[:400])

    addError = addFailure


def start(program, folder):
    arguments = ["--no-self-provider", "--driver", "fake", "--listen", "127.0.0.1", "--https-port", "0", "--http-port", "0",
                 "--service-ports", "off", "--public-host", "127.0.0.1", "--log-level", "warn"]  # fmt: skip
    cloud = Cloud(program, folder, arguments)
    cloud.start()
    return cloud


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("files", nargs="*", metavar="FILE", help="only these; nothing is written")
    parser.add_argument("--every-file", action="store_true", help="not only the listed ones")
    parser.add_argument("--no-write", action="store_true", help="leave the report as it is")
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    asked = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="solostack-placement-"))
    cloud, outcomes, failed = None, {}, True
    try:
        cloud = start(asked.program.resolve(), work)
        environment = cloud.sourced()
        run = Run(cloud.api(environment), environment)
        expect("Placement starts without a provider", not run.rest.everything()[0])
        listed = [line.split("\t")[0] for line in LISTED.read_text().splitlines()[1:] if line]
        whole = [name for name in run.documents if run.fixture(name) not in NOT_OURS]
        files = asked.files or (whole if asked.every_file else listed)
        unknown = [name for name in files if name not in run.documents]
        expect("every file is in this package", not unknown, unknown)
        began = time.monotonic()
        for name in files:
            of_file = run.file(name)
            outcomes |= of_file
            say(f"{name}: {sum(status == 'passed' for status, _ in of_file.values())} of {len(of_file)}")
            for test, (status, why) in of_file.items():
                if status != "passed":
                    say(f"{status}: {test}: {why}")
        counts = collections.Counter(status for status, _ in outcomes.values())
        say(f"placement: {', '.join(f'{counts[key]} {key}' for key in ('passed', 'failed', 'skipped'))} of {len(outcomes)} in {time.monotonic() - began:.0f} s")
        failed = bool(counts["failed"])
        if not asked.files and not asked.no_write:
            import run as report

            versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("openstack-placement", "gabbi"))
            report.write("placement", outcomes, f" in {len(files)} files", versions)
    except Failure as failure:
        say(f"placement: {failure}")
        if cloud:
            print(cloud.log_end(), flush=True)
    finally:
        if cloud and cloud.process and cloud.process.poll() is None:
            cloud.stop(30)
        if asked.keep:
            say(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
