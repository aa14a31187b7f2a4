#!/usr/bin/env python3
"""People and programs from a real OpenID Connect provider: the stock client with its `v3oidc...` plugins, and a browser's sign-in.

    oidc.py PROGRAM [--keep]

The provider is npm's `oidc-provider` (tests/clients/oidc/provider.mjs), over TLS with an authority of its own; the program runs
with the `fake` driver, both on 127.0.0.1 of a network namespace of their own.
"""

import base64
import html
import http.cookiejar
import json
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import cloud as host  # noqa: E402
from cloud import ClientError, Failure, OpenStack, expect, say, script, wait_for  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
SECRET = "secret: of the cloud & more"
ORIGIN = "https://dashboard.test/auth/websso/"
WEBSSO = "/identity/v3/auth/OS-FEDERATION/identity_providers/acme/protocols/openid/websso"


class Provider:
    """The provider's process."""

    def __init__(self, folder):
        node = shutil.which("node")
        expect("node is installed (Debian package nodejs)", node is not None)
        modules = subprocess.run([host.ROOT / "tests/setup/tools", "oidc"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        expect(f"the provider is installed in {modules} (`just setup`)", pathlib.Path(modules, "complete").exists())
        self.authority = folder / "idp-ca.pem"
        key, certificate = make_certificate(folder, self.authority)
        redirect = f"https://127.0.0.1{WEBSSO}/callback"
        self.out, self.log = folder / "idp.out", folder / "idp.log"
        with open(self.out, "wb") as out, open(self.log, "wb") as log:
            argv = [node, HERE / "oidc/provider.mjs", modules, key, certificate, redirect]
            self.process = subprocess.Popen(argv, stdout=out, stderr=log, stdin=subprocess.DEVNULL)

        def ready():
            expect("the provider starts", self.process.poll() is None, self.log.read_text())
            return re.match(r"ready (\d+)\n", self.out.read_text())

        self.issuer = f"https://127.0.0.1:{wait_for('the provider listens', ready, 60).group(1)}"

    def stop(self):
        self.process.kill()
        self.process.wait()


def make_certificate(folder, authority):
    key, request, certificate, authority_key = (folder / name for name in ("idp.key", "idp.csr", "idp.pem", "idp-ca.key"))

    def openssl(*words):
        done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True)
        expect(f"openssl {words[0]} succeeds", done.returncode == 0, done.stderr)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", authority_key, "-out", authority, "-subj", "/CN=an authority of a test", "-days", "2")
    openssl("req", *new, "-keyout", key, "-out", request, "-subj", "/CN=an identity provider of a test")
    extensions = folder / "idp.ext"
    extensions.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key, "-days", "2", "-extfile", extensions, "-out", certificate)
    return key, certificate


def configuration(provider, folder):
    secret = folder / "client-secret"
    secret.write_text(SECRET + "\n")
    path = folder / "solostack.toml"
    path.write_text(f"""
[identity]
trusted_dashboards = ["{ORIGIN}"]

[identity.oidc.acme]
issuer = "{provider.issuer}"
client_id = "cloud"
client_secret_file = "{secret}"
audience = ["cloud", "urn:solostack", "opaque"]
introspection = "opaque"
ca_file = "{provider.authority}"
""")
    return path


RULES = [
    {
        "local": [{"user": {"name": "{0}", "email": "{1}"}}, {"groups": "{2}", "domain": {"name": "Default"}}],
        "remote": [{"type": "HTTP_OIDC_PREFERRED_USERNAME"}, {"type": "OIDC-email"}, {"type": "OIDC-groups"}],
    }
]


def set_up(openstack, provider, folder):
    """As the administrator's guide of Keystone has it."""
    rules = folder / "rules.json"
    rules.write_text(json.dumps(RULES))
    openstack("group create devs")
    openstack("project create work")
    openstack("role add --group devs --project work member")
    openstack("identity provider create acme --remote-id", provider.issuer)
    openstack("mapping create people --rules", str(rules))
    openstack("federation protocol create openid --identity-provider acme --mapping people")


def foreign(environment, provider, folder, plugin, **more):
    """The environment of somebody who has no account here."""
    bundle = folder / "both-authorities.pem"
    bundle.write_text(pathlib.Path(environment["OS_CACERT"]).read_text() + provider.authority.read_text())
    kept = {name: environment[name] for name in ("OS_AUTH_URL", "OS_IDENTITY_API_VERSION") if name in environment}
    return kept | {
        "OS_CACERT": str(bundle),
        "OS_AUTH_TYPE": plugin,
        "OS_IDENTITY_PROVIDER": "acme",
        "OS_PROTOCOL": "openid",
        "OS_PROJECT_NAME": "work",
        "OS_PROJECT_DOMAIN_NAME": "Default",
    } | more  # fmt: skip


def programs(cloud, provider, folder, environment, openstack):
    discovery = f"{provider.issuer}/.well-known/openid-configuration"

    def credentials(client):
        return foreign(environment, provider, folder, "v3oidcclientcredentials", OS_DISCOVERY_ENDPOINT=discovery, OS_CLIENT_ID=client,
                       OS_CLIENT_SECRET=f"secret of {client}", OS_OPENID_SCOPE="openid profile")  # fmt: skip

    for client in ("robot", "opaque"):
        them = OpenStack(credentials(client))
        token = them.json("token issue")
        expect(f"`{client}` has a token of the project", token.get("project_id") == openstack.json("project show work")["id"], token)
        user = openstack.json(f"user show {token['user_id']}")
        expect(f"`{client}` has a shadow", user["name"] == client and user["email"] == f"{client}@acme.test", user)
        expect("the same at every login", them.json("token issue")["user_id"] == token["user_id"])
        expect("its projects are those of its groups", [p["Name"] for p in them.json("federation project list")] == ["work"])
        expect("a member works in its project", them.json("server list") == [])
        them("network create of-" + client)
        try:
            them("user list")
            raise Failure("a member of a group listed all users")
        except ClientError as error:
            expect("and is refused what members may not", "403" in error.text, error.text)
    refused(OpenStack(credentials("stranger")), "a token for another cloud is refused")
    log = cloud.log.read_text()
    expect("the log says why", "it is for another audience" in log, cloud.log_end())
    return credentials("robot")


def refused(openstack, what):
    try:
        openstack("token issue")
        raise Failure(f"{what}: not so")
    except ClientError as error:
        expect(what, "401" in error.text, error.text)


def bearer(provider, folder, environment):
    """`v3oidcaccesstoken`: whoever has a token of the provider already."""
    context = ssl.create_default_context(cafile=provider.authority)
    request = urllib.request.Request(f"{provider.issuer}/token", data=urllib.parse.urlencode({"grant_type": "client_credentials"}).encode())
    request.add_header("Authorization", "Basic " + base64.b64encode(b"robot:secret+of+robot").decode())
    with urllib.request.urlopen(request, context=context, timeout=30) as reply:
        token = json.load(reply)["access_token"]
    them = OpenStack(foreign(environment, provider, folder, "v3oidcaccesstoken", OS_ACCESS_TOKEN=token))
    expect("an access token is enough", them.json("token issue")["user_id"] != "")
    broken = token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBB")
    refused(OpenStack(foreign(environment, provider, folder, "v3oidcaccesstoken", OS_ACCESS_TOKEN=broken)), "a broken one is not")


class Browser:
    """Follows redirects, keeps cookies, sends forms."""

    def __init__(self, authorities):
        context = ssl.create_default_context(cafile=authorities)
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), urllib.request.HTTPCookieProcessor(self.jar)
        )

    def __call__(self, url, form=None):
        data = None if form is None else urllib.parse.urlencode(form).encode()
        try:
            with self.opener.open(urllib.request.Request(url, data=data), timeout=30) as reply:
                return reply.status, reply.url, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, url, error.read().decode()


def form_of(page, url):
    """The address and the hidden fields of a page's form."""
    action = re.search(r'<form[^>]*\baction="([^"]*)"', page)
    expect("the page has a form", action is not None, page)
    fields = {}
    for field in re.findall(r"<input[^>]*>", page):
        name, value = re.search(r'name="([^"]*)"', field), re.search(r'value="([^"]*)"', field)
        if name and value:
            fields[name.group(1)] = html.unescape(value.group(1))
    return urllib.parse.urljoin(url, html.unescape(action.group(1))), fields


def browsers(environment, provider, folder, openstack):
    authorities = folder / "both-authorities.pem"
    browser = Browser(authorities)
    start = f"https://127.0.0.1{WEBSSO}?" + urllib.parse.urlencode({"origin": ORIGIN})
    status, url, page = browser(start)
    expect("the browser is sent to the provider", status == 200 and url.startswith(provider.issuer), (status, url, page[:500]))
    address, fields = form_of(page, url)
    status, url, page = browser(address, fields | {"login": "zoe", "password": "any"})
    for _ in range(3):
        if not url.startswith(provider.issuer):
            break
        address, fields = form_of(page, url)
        status, url, page = browser(address, fields)
    expect("and comes back", status == 200 and url.startswith("https://127.0.0.1/identity/"), (status, url, page[:800]))
    address, fields = form_of(page, url)
    expect("the token goes to the dashboard that asked", address == ORIGIN and list(fields) == ["token"], (address, list(fields)))
    them = OpenStack({"OS_AUTH_TYPE": "v3token", "OS_AUTH_URL": environment["OS_AUTH_URL"], "OS_CACERT": environment["OS_CACERT"],
                      "OS_TOKEN": fields["token"], "OS_PROJECT_NAME": "work", "OS_PROJECT_DOMAIN_NAME": "Default"})  # fmt: skip
    user = openstack.json(f"user show {them.json('token issue')['user_id']}")
    expect("it is the token of who signed in", user["name"] == "zoe" and user["email"] == "zoe@acme.test", user)
    stolen = Browser(authorities)(url)
    expect("another browser cannot come back in its place", stolen[0] == 401, stolen)
    elsewhere = Browser(authorities)(f"https://127.0.0.1{WEBSSO}?origin=https://evil.test/")
    expect("a token goes to no other site", elsewhere[0] == 401, elsewhere)


def tell(cloud, folder, provider):
    cloud.start()
    environment = cloud.sourced()
    openstack = OpenStack(environment)
    set_up(openstack, provider, folder)
    say("the administrator made an identity provider, a mapping and a protocol")
    robot = programs(cloud, provider, folder, environment, openstack)
    say("programs come in by client credentials, with signed tokens and with others")
    bearer(provider, folder, environment)
    say("an access token is enough")
    browsers(environment, provider, folder, openstack)
    say("a browser signs in at the provider and brings a token to the dashboard")
    openstack("identity provider set --disable acme")
    refused(OpenStack(robot), "a disabled provider lets nobody in")
    openstack("identity provider set --enable acme")
    audit = subprocess.run([cloud.binary, "audit", "--state", cloud.state], capture_output=True, text=True)
    expect("authentications are in the audit trail", "/auth" in audit.stdout and "OS-FEDERATION" in audit.stdout, audit.stdout[-800:] + audit.stderr)
    cloud.stop()
    say("and the audit trail knows of them all")


def prepare(folder, ending):
    provider = Provider(folder)
    ending.callback(provider.stop)
    say(f"the provider is {provider.issuer}")
    return ["--config", configuration(provider, folder)], (provider,)


if __name__ == "__main__":
    script(__doc__, "oidc", tell, prepare)
