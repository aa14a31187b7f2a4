#!/usr/bin/env python3
"""Users who come from elsewhere, with the stock client: from an LDAP directory (a real slapd), by several factors, by client certificates.

    identity.py PROGRAM [--keep]

Runs the program with the `fake` driver. Everything listens on 127.0.0.1 of a network namespace of its own.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import ssl
import struct
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from cloud import ClientError, Failure, OpenStack, expect, say, script, wait_for  # noqa: E402
from directory import MANAGER, MANAGER_PASSWORD, SUFFIX, Directory, authority, certificate  # noqa: E402

CROWD = 150
# What was seen of a user is believed for this long.
CACHE_S = 1
LOCK_AFTER = 3

SETTINGS = f"""
[identity]
directory_cache_s = {CACHE_S}
lockout_failure_attempts = {LOCK_AFTER}
lockout_duration_s = 3600

[client_certificates]
port = 8443
ca_file = "{{folder}}/people.pem"
"""


def person(name, unit="people", **attributes):
    lines = [f"dn: uid={name},ou={unit},{SUFFIX}", "objectClass: inetOrgPerson", f"uid: {name}", f"cn: {name}", f"sn: {name}",
             f"userPassword: {name}'s"]  # fmt: skip
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in attributes.items())]) + "\n\n"


def group(name, *members):
    lines = [f"dn: cn={name},ou=groups,{SUFFIX}", "objectClass: groupOfNames", f"cn: {name}", f"description: the {name}"]
    return "\n".join([*lines, *(f"member: uid={member},ou=people,{SUFFIX}" for member in members)]) + "\n\n"


ENTRIES = "".join([
    *(f"dn: ou={unit},{SUFFIX}\nobjectClass: organizationalUnit\nou: {unit}\n\n" for unit in ("people", "groups", "crowd")),
    person("alice", mail="alice@corp.test", description="she", employeeType="TRUE"),
    person("bob", employeeType="FALSE"),
    person("carol"),
    person("mallory"),
    person("leaver"),
    group("devs", "alice", "bob", "mallory"),
    group("ops", "carol"),
    *(person(f"clerk{number:03}", "crowd") for number in range(CROWD)),
])  # fmt: skip


def options(directory, **changes):
    ldap = {
        "url": directory.url, "user": MANAGER, "password": MANAGER_PASSWORD, "suffix": SUFFIX,
        "user_tree_dn": f"ou=people,{SUFFIX}", "user_objectclass": "inetOrgPerson", "user_id_attribute": "uid",
        "user_name_attribute": "uid", "user_enabled_attribute": "employeeType", "user_filter": "(!(uid=nobody))",
        "group_tree_dn": f"ou=groups,{SUFFIX}", "group_id_attribute": "cn", "group_name_attribute": "cn",
    }  # fmt: skip
    return {"config": {"identity": {"driver": "ldap"}, "ldap": ldap | changes}}


class Corp:
    """The domain, its directory, and a client of each user."""

    def __init__(self, cloud, directory):
        self.cloud, self.directory = cloud, directory
        self.environment = cloud.sourced()
        self.admin = OpenStack(self.environment)
        self.api = cloud.api(self.environment)
        self.identity = self.api.endpoints["identity"] + "/v3"
        self.domain = self.admin.json("domain create corp")["id"]

    def configure(self, expected=(200, 201), **changes):
        status, _, answer = self.api.call("PUT", f"{self.identity}/domains/{self.domain}/config", options(self.directory, **changes))
        expect(f"the configuration is answered with {expected}", status in expected, (status, answer))
        return answer

    def variables(self, name, password=None, project="work"):
        chosen = {key: value for key, value in self.environment.items() if key in ("OS_AUTH_URL", "OS_CACERT", "OS_IDENTITY_API_VERSION")}
        chosen |= {"OS_USERNAME": name, "OS_PASSWORD": f"{name}'s" if password is None else password, "OS_USER_DOMAIN_NAME": "corp"}
        return chosen | ({"OS_PROJECT_NAME": project, "OS_PROJECT_DOMAIN_NAME": "Default"} if project else {})

    def client(self, *args, **kwargs):
        return OpenStack(self.variables(*args, **kwargs))

    def login(self, name, password=None, **user):
        """Without the client, for its bare answer: status, document, token."""
        user = user or {"name": name, "domain": {"name": "corp"}}
        user |= {"password": f"{name}'s" if password is None else password}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        request = self.cloud.api(self.environment)
        request.token = None
        status, headers, answer = request.once("POST", f"{self.identity}/auth/tokens", body)
        return status, answer, headers.get("X-Subject-Token")

    def token_works(self, token):
        request = self.cloud.api(self.environment)
        request.token = token
        return request.once("GET", f"{self.identity}/auth/projects")[0]


def refused(what, text, action):
    try:
        action()
    except ClientError as error:
        expect(f"{what} is refused with {text!r}", text in error.text, error.text)
        return
    raise Failure(f"{what} was not refused")


def names(rows, column="Name"):
    return sorted(row[column] for row in rows)


def configuration(corp):
    say("-- a domain gets its directory")
    for wrong, word in [({"url": "http://x"}, "url"), ({"user_filter": "(uid="}, "user_filter"), ({"page_size": "many"}, "page_size"),
                        ({"tls_req_cert": "perhaps"}, "tls_req_cert"), ({"user_id_attribute": "uid=*)"}, "user_id_attribute")]:  # fmt: skip
        answer = corp.configure(expected=(400,), **wrong)
        expect(f"the answer names {word}", word in answer["error"]["message"], answer)
    answer = corp.configure()
    expect("the password is never shown", "password" not in answer["config"]["ldap"], answer)
    status, _, answer = corp.api.call("PUT", f"{corp.identity}/domains/default/config", options(corp.directory))
    expect("a domain with users of its own gets none", status == 403 and "users of its own" in answer["error"]["message"], answer)


def looking(corp):
    say("-- users and groups are looked at")
    admin = corp.admin
    expect("users are listed", names(admin.json("user list --domain corp")) == ["alice", "bob", "carol", "leaver", "mallory"])
    alice = admin.json("user show alice --domain corp")
    expect("with their attributes", (alice["email"], alice["description"], alice["enabled"]) == ("alice@corp.test", "she", True), alice)
    want = hashlib.sha256(f"{corp.domain}useralice".encode()).hexdigest()
    expect("ids are those that upstream derives", alice["id"] == want, alice)
    expect("shown by id", admin.json(f"user show {alice['id']}")["name"] == "alice")
    expect("bob is disabled there", admin.json("user show bob --domain corp")["enabled"] is False)
    for name in ["nobody", "*", "al*", "alice)(uid=*", "alice\\", "(", "'; --"]:
        found = corp.api.call("GET", f"{corp.identity}/users?domain_id={corp.domain}&name=" + urllib.parse.quote(name))[2]["users"]
        expect(f"nobody is called {name}", found == [], found)
    found = corp.api.get("identity", f"/v3/users?domain_id={corp.domain}&name__startswith=al")["users"]
    expect("filters hold", [user["name"] for user in found] == ["alice"], found)
    expect("groups are listed", names(admin.json("group list --domain corp")) == ["devs", "ops"])
    # This client looks for the group in a domain with the *id* that is given.
    expect("members too", names(admin.json(f"user list --group devs --domain {corp.domain}")) == ["alice", "bob", "mallory"])
    expect("and the groups of a user", names(admin.json("group list --user alice --user-domain corp --domain corp")) == ["devs"])
    admin("group contains user --group-domain corp --user-domain corp devs alice")
    return alice["id"]


def logging_in(corp):
    say("-- roles of a group, logins")
    admin = corp.admin
    admin("project create work")
    admin("role add --group devs --group-domain corp --project work member")
    roles = admin.json("role assignment list --effective --user alice --user-domain corp --project work --names")
    expect("the roles act", names(roles, "Role") == ["member", "reader"], roles)
    alice = corp.client("alice")
    issued = alice.json("token issue")
    expect("alice logs in", len(issued["id"]) < 255, issued)
    expect("and works", alice.json("server list") == [])
    refused("what is not hers", "403", lambda: alice("user list"))
    refused("carol without a role", "401", lambda: corp.client("carol")("token issue"))
    expect("carol without a scope may log in", corp.login("carol")[0] == 201)
    expect("by id too", corp.login("alice", id=admin.json("user show alice --domain corp")["id"])[0] == 201)
    for name, password in [("alice", "wrong"), ("alice", ""), ("alice", "x" * 5000), ("nobody", "x"), ("bob", None), ("*", "alice's"),
                           ("alice)(uid=*", "alice's"), ("", "x")]:  # fmt: skip
        status, answer, token = corp.login(name, password)
        expect(f"{name!r} with {str(password)[:10]!r} is refused", status == 401 and token is None, (status, answer))
        expect("always in the same words", answer["error"]["message"] == corp.login("nobody", "x")[1]["error"]["message"], answer)


def writing(corp):
    say("-- nothing can be written")
    admin = corp.admin
    for words in ["user create --domain corp zoe", "user set --domain corp --description x alice", "user delete --domain corp alice",
                  "group create --domain corp g", "group set --domain corp --description x devs", "group delete --domain corp devs",
                  "group add user --group-domain corp --user-domain corp devs carol",
                  "group remove user --group-domain corp --user-domain corp devs alice"]:  # fmt: skip
        refused(words, "read only", lambda words=words: admin(words))
    alice = corp.client("alice")
    refused("a new password", "read only", lambda: alice("user password set --original-password \"alice's\" --password x"))
    admin("group create mixed")
    refused("a user of a directory in a group of this cloud", "read only", lambda: admin("group add user --user-domain corp mixed alice"))


def changing(corp):
    say("-- what changes there changes here")
    admin, directory = corp.admin, corp.directory
    token = corp.login("alice")[2]
    expect("a token works", corp.token_works(token) == 200)
    who = f"dn: uid=alice,ou=people,{SUFFIX}\nchangetype: modify\n"
    directory.change(who + "replace: employeeType\nemployeeType: FALSE\n")
    wait_for("the token of who is disabled there stops working", lambda: corp.token_works(token) == 401, 10 * CACHE_S)
    expect("and no new one is issued", corp.login("alice")[0] == 401)
    directory.change(who + "replace: employeeType\nemployeeType: TRUE\n")
    expect("who is enabled again logs in", corp.login("alice")[0] == 201)
    expect("the old token stays void", corp.token_works(token) == 401)

    say("-- memberships")
    alice = corp.client("alice")
    devs = f"dn: cn=devs,ou=groups,{SUFFIX}\nchangetype: modify\n"
    directory.change(devs + f"delete: member\nmember: uid=alice,ou=people,{SUFFIX}\n")
    refused("alice out of her group", "401", lambda: alice("token issue"))
    directory.change(devs + f"add: member\nmember: uid=alice,ou=people,{SUFFIX}\n")
    alice("token issue")

    say("-- who leaves")
    admin("role add --user leaver --user-domain corp --project work reader")
    gone = admin.json("user show leaver --domain corp")["id"]
    leaver = corp.login("leaver")[2]
    directory.change(f"dn: uid=leaver,ou=people,{SUFFIX}\nchangetype: delete\n")
    wait_for("the leaver's token stops working", lambda: corp.token_works(leaver) == 401, 10 * CACHE_S)
    refused("the leaver", "401", lambda: corp.client("leaver")("token issue"))
    refused("the leaver by id", "No User found", lambda: admin(f"user show {gone}"))
    wait_for("the list shows it", lambda: "leaver" not in names(admin.json("user list --domain corp")), 10 * CACHE_S)
    role = admin.json("role show reader")["id"]
    project = admin.json("project show work")["id"]
    rows = corp.api.get("identity", f"/v3/role_assignments?user.id={gone}")["role_assignments"]
    expect("the roles wait for a return", [row["role"]["id"] for row in rows] == [role], rows)
    status = corp.api.call("DELETE", f"{corp.identity}/projects/{project}/users/{gone}/roles/{role}")[0]
    expect("and can be taken away", status == 204, status)


def failing(corp):
    say("-- the directory is away")
    directory, admin = corp.directory, corp.admin
    token = corp.login("alice")[2]
    directory.stop()
    status, answer, _ = corp.login("alice")
    expect("a login says why", status == 503 and f"directory of domain {corp.domain} cannot be reached" in answer["error"]["message"], answer)
    wait_for("a token that has to be looked at is no good meanwhile", lambda: corp.token_works(token) == 503, 10 * CACHE_S)
    refused("a list of that domain", "503", lambda: admin("user list --domain corp"))
    expect("others are as ever", "admin" in names(admin.json("user list")) and admin.json("token issue")["id"])
    expect("its users are still known", "alice" in names(admin.json("user list")))
    directory.start()
    wait_for("it is back", lambda: corp.login("alice")[0] == 201, 15)
    expect("and so is the token", corp.token_works(token) == 200)

    say("-- the directory hangs")
    with directory.silent():
        began = time.monotonic()
        status, answer, _ = corp.login("alice")
        took = time.monotonic() - began
        expect("a login does not wait for ever", status == 503 and took < 25, (status, answer, took))
        began = time.monotonic()
        admin("token issue")
        expect("others do not wait at all", time.monotonic() - began < 5)
    wait_for("it answers again", lambda: corp.login("alice")[0] == 201, 30)

    say("-- its account there is refused")
    corp.configure(password="wrong")
    status, answer, _ = corp.login("alice")
    expect("a login says why", status == 503 and "refuses the account" in answer["error"]["message"], answer)
    corp.configure(user_tree_dn=f"ou=nowhere,{SUFFIX}")
    status, answer, _ = corp.login("alice")
    expect("a tree that is not there is said", status == 503 and "user_tree_dn" in answer["error"]["message"], answer)
    corp.configure()
    expect("right again", corp.login("alice")[0] == 201)


def protecting(corp):
    say("-- TLS")
    directory = corp.directory
    stranger = authority(directory.folder, "stranger")
    for what, changes in [
        ("ldaps", {"url": directory.tls_url}),
        ("STARTTLS", {"use_tls": True}),
    ]:
        corp.configure(tls_cacertfile=str(directory.ca), **changes)
        expect(f"{what} with its authority", corp.login("alice")[0] == 201)
        corp.configure(tls_cacertfile=directory.ca.read_text(), **changes)
        expect(f"{what} with its authority in the option itself", corp.login("alice")[0] == 201)
        for why, trust in [("another authority", {"tls_cacertfile": str(stranger)}), ("what this machine trusts", {})]:
            corp.configure(**changes, **trust)
            status, answer, _ = corp.login("alice")
            said = answer["error"]["message"]
            expect(f"{what} with {why} is refused", status == 503 and "certificate that is not trusted" in said, answer)
        corp.configure(tls_req_cert="never", **changes)
        expect(f"{what} without asking for a certificate", corp.login("alice")[0] == 201)
        corp.configure(tls_cacertfile="/nowhere/ca.pem", **changes)
        status, answer, _ = corp.login("alice")
        expect("a file that is not there is said", status == 503 and "tls_cacertfile" in answer["error"]["message"], answer)
    corp.configure(url=f"ldap://127.0.0.1:1,{directory.url}")
    expect("the second of two servers", corp.login("alice")[0] == 201)


def crowding(corp):
    say("-- many users")
    crowd = {"user_tree_dn": f"ou=crowd,{SUFFIX}"}
    corp.configure(**crowd, page_size=50)
    expect("pages bring all of them", len(corp.admin.json("user list --domain corp")) == CROWD)
    corp.configure(query_scope="sub", user_tree_dn=SUFFIX, page_size=100)
    expect("the whole tree", len(corp.admin.json("user list --domain corp")) == CROWD + 4)
    corp.configure()
    wait_for("and the small one again", lambda: len(corp.admin.json("user list --domain corp")) == 4, 10 * CACHE_S)


def guessing(corp):
    say("-- guessing")
    for _ in range(LOCK_AFTER):
        expect("a wrong password", corp.login("mallory", "wrong")[0] == 401)
    expect("the right one comes too late", corp.login("mallory")[0] == 401)


def restarting(corp, alice):
    say("-- a restart")
    token = corp.login("alice")[2]
    corp.cloud.stop()
    corp.cloud.start()
    expect("tokens go on", corp.token_works(token) == 200)
    expect("ids stay", corp.admin.json("user show alice --domain corp")["id"] == alice)
    status = corp.api.call("DELETE", f"{corp.identity}/domains/{corp.domain}/config")[0]
    expect("the directory is taken away", status == 204, status)
    expect("its users with it", (corp.token_works(token), corp.login("alice")[0]) == (401, 401))
    expect("from lists too", corp.admin.json("user list --domain corp") == [])
    corp.configure()
    expect("and come back as they were", corp.client("alice").json("token issue")["user_id"] == alice)


def passcode(secret, at):
    digest = hmac.new(base64.b32decode(secret), struct.pack(">Q", int(at) // 30), "sha1").digest()
    return f"{(struct.unpack_from('>I', digest, digest[-1] & 15)[0] & 0x7FFFFFFF) % 10**6:06}"


def factors(corp):
    say("-- two factors, one after the other, by keystoneauth1")
    from keystoneauth1 import exceptions, session
    from keystoneauth1.identity import v3

    secret = base64.b32encode(b"twenty bytes of mine").decode()
    user = corp.admin.json("user create --password first careful")["id"]
    corp.admin(f"credential create --type totp {user} {secret}")
    corp.admin("user set --enable-multi-factor-auth --multi-factor-auth-rule password,totp careful")
    asking = session.Session(verify=corp.environment["OS_CACERT"])
    url = corp.environment["OS_AUTH_URL"]
    try:
        v3.Password(url, user_id=user, password="first").get_access(asking)
        raise Failure("one factor was enough")
    except exceptions.MissingAuthMethods as missing:
        expect("the client knows what is missing", (missing.methods, missing.required_auth_methods) == (["password"], [["password", "totp"]]))
        receipt = missing.receipt
    rest = v3.MultiFactor(url, auth_methods=["v3totp"], user_id=user, passcode=passcode(secret, time.time()))
    rest.add_method(v3.ReceiptMethod(receipt=receipt))
    access = rest.get_access(asking)
    expect("both are in the token", sorted(access._data["token"]["methods"]) == ["password", "totp"], access._data)


class Holder:
    """Somebody with a certificate (or none), on the port that asks for one (or another)."""

    def __init__(self, corp, name=None, port=8443):
        self.url = f"{corp.cloud.url}:{port}/identity/v3" if port else f"{corp.cloud.url}/identity/v3"
        self.context = ssl.create_default_context(cafile=corp.environment["OS_CACERT"])
        if name:
            self.context.load_cert_chain(f"{name}.pem", f"{name}.key")

    def call(self, method, path, body=None, **headers):
        request = urllib.request.Request(self.url + path, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        for key, value in headers.items():
            request.add_header(key.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=60) as reply:
                return reply.status, json.loads(reply.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "null")

    def login(self):
        scope = {"project": {"name": "work", "domain": {"name": "Default"}}}
        return self.call("POST", "/auth/tokens", {"auth": {"identity": {"methods": ["external"]}, "scope": scope}})


def certificates(corp, folder):
    say("-- client certificates")
    from keystoneauth1 import session
    from keystoneauth1.identity import v3

    admin = corp.admin
    authority(folder, "strangers")
    for ca, name, subject, use in [("people", "dana", "/O=Engineering/CN=dana", "clientAuth"), ("people", "sam", "/O=Sales/CN=sam", "clientAuth"),
                                   ("people", "web", "/O=Engineering/CN=web", "serverAuth"),
                                   ("strangers", "false", "/O=Engineering/CN=dana", "clientAuth")]:  # fmt: skip
        certificate(folder, ca, name, subject, f"extendedKeyUsage={use}")
    rules = [{"local": [{"user": {"name": "{0}"}, "group": {"name": "engineers", "domain": {"id": "default"}}}],
              "remote": [{"type": "SSL_CLIENT_S_DN_CN"}, {"type": "SSL_CLIENT_S_DN_O", "any_one_of": ["Engineering"]}]}]  # fmt: skip
    (folder / "rules.json").write_text(json.dumps(rules))
    admin("group create engineers")
    admin("role add --group engineers --project work admin")
    dana = Holder(corp, folder / "dana")
    expect("an authority that stands for nobody", dana.login()[0] == 401)
    admin("identity provider create --remote-id", "'CN=authority people'", "staff")
    admin("mapping create --schema-version 1.0 --rules", folder / "rules.json", "staff")
    admin("federation protocol create --identity-provider staff --mapping staff x509")
    status, answer = dana.login()
    expect("the common name and the organisation say who it is", status == 201 and answer["token"]["user"]["name"] == "dana", answer)
    expect("and what for", "admin" in [role["name"] for role in answer["token"]["roles"]] and answer["token"]["methods"] == ["mapped"], answer)
    expect("it is the same user again", dana.login()[1]["token"]["user"]["id"] == answer["token"]["user"]["id"])
    status, answer = dana.call("GET", "/OS-FEDERATION/identity_providers/staff/protocols/x509/auth")
    expect("federated too", status == 201 and "project" not in answer["token"], answer)
    status, answer = dana.call("GET", "/users", X_Project_Name="work", X_Project_Domain_Name="Default")
    expect("without any token", status == 200 and "dana" in names(answer["users"], "name"), answer)
    expect("not without a scope", dana.call("GET", "/users")[0] == 401)
    expect("nor with a false token", dana.call("GET", "/users", X_Auth_Token="x", X_Project_Name="work", X_Project_Domain_Name="Default")[0] == 401)
    for what, holder in [("another organisation", Holder(corp, folder / "sam")), ("no certificate", Holder(corp)),
                         ("the port that does not ask", Holder(corp, folder / "dana", port=None))]:  # fmt: skip
        expect(what, holder.login()[0] == 401)
        status = holder.call("GET", "/users", X_Project_Name="work", X_Project_Domain_Name="Default", SSL_CLIENT_S_DN_CN="dana")[0]
        expect(f"{what}, without a token", status == 401, status)
    for what, name in [("another authority", "false"), ("a certificate for servers", "web")]:
        try:
            status, answer = Holder(corp, folder / name).login()
            raise Failure(f"{what} came through the handshake: {status} {answer}")
        except (OSError, ssl.SSLError):
            pass
    expect("a password is as good there", Holder(corp).call("GET", "/auth/projects", X_Auth_Token=corp.login("alice")[2])[0] == 200)

    say("-- by keystoneauth1 without a token, by the stock client with one")
    pair = (str(folder / "dana.pem"), str(folder / "dana.key"))
    asking = session.Session(verify=corp.environment["OS_CACERT"], cert=pair)
    asking.auth = v3.TokenlessAuth(dana.url, project_name="work", project_domain_name="Default")
    expect("keystoneauth1 asks Identity", "dana" in names(asking.get(f"{dana.url}/users").json()["users"], "name"))
    # The client has no plugin for this; the one for access tokens does it, whatever the token is.
    environment = {"OS_AUTH_TYPE": "v3oidcaccesstoken", "OS_AUTH_URL": dana.url, "OS_IDENTITY_PROVIDER": "staff", "OS_PROTOCOL": "x509",
                   "OS_ACCESS_TOKEN": "none", "OS_PROJECT_NAME": "work", "OS_PROJECT_DOMAIN_NAME": "Default",
                   "OS_CACERT": corp.environment["OS_CACERT"], "OS_CERT": pair[0], "OS_KEY": pair[1]}  # fmt: skip
    client = OpenStack(environment)
    expect("the stock client shows a user", client.json("user show dana")["name"] == "dana")
    expect("and asks other services", client.json("server list") == [])
    refused("the stock client without its certificate", "401",
            lambda: OpenStack({key: value for key, value in environment.items() if key not in ("OS_CERT", "OS_KEY")})("token issue"))  # fmt: skip
    admin("federation protocol delete --identity-provider staff x509")
    expect("who is no longer vouched for", dana.login()[0] == 401)


def profile(corp, folder):
    say("-- a client that knows nothing but the host")
    user = {name: corp.environment[f"OS_{name.upper()}"] for name in ("username", "password", "project_name")}
    known = {"clouds": {"far": {"profile": corp.cloud.url, "cacert": corp.environment["OS_CACERT"],
                                "auth": user | {"user_domain_name": "Default", "project_domain_name": "Default"}}}}  # fmt: skip
    (folder / "clouds.yaml").write_text(json.dumps(known))
    environment = {"OS_CLIENT_CONFIG_FILE": str(folder / "clouds.yaml"), "REQUESTS_CA_BUNDLE": corp.environment["OS_CACERT"]}
    expect("it finds the rest", OpenStack(environment)("--os-cloud far token issue -f value -c id") != "")


def tell(cloud, folder, directory):
    directory.start()
    say(f"ready after {cloud.start():.2f} s")
    corp = Corp(cloud, directory)
    profile(corp, folder)
    factors(corp)
    configuration(corp)
    alice = looking(corp)
    logging_in(corp)
    writing(corp)
    changing(corp)
    failing(corp)
    protecting(corp)
    crowding(corp)
    guessing(corp)
    certificates(corp, folder)
    restarting(corp, alice)
    log = cloud.log.read_text()
    for secret in (MANAGER_PASSWORD, "alice's"):
        expect("no password reaches the log", secret not in log)
    cloud.stop()
    cloud.down()


def prepare(folder, ending):
    authority(folder, "people")
    (folder / "solostack.toml").write_text(SETTINGS.format(folder=folder))
    directory = Directory(folder / "directory", ENTRIES)
    ending.callback(directory.stop)
    return ["--config", folder / "solostack.toml"], (directory,)


if __name__ == "__main__":
    script(__doc__, "identity", tell, prepare)
