#!/usr/bin/env python3
"""Makes identity.txt: the bodies that the Identity API reference shows, as names and types only.

    skeleton.py REPOSITORY > identity.txt        REPOSITORY is a git directory of Keystone's source (its `api-ref`)

Not needed by the tests, which read identity.txt. For each operation and each example of an answer: method, path, status, the
example's name, then one line per field: its place (`users[].links.self`), `?` where it need not be there (the reference says so,
or not every element of the example has it), and its JSON types. `also` names what the reference's table of response
parameters has and the example has not.
"""

import collections
import json
import posixpath
import re
import subprocess
import sys

import yaml

SKIPPED = re.compile(r"oauth|simple-cert|os-pki|federation/(assertion|auth)/")
KINDS = {str: "text", bool: "bool", int: "number", float: "number", type(None): "null"}


class Source:
    def __init__(self, repository):
        self.repository = repository
        self.parameters = {}

    def git(self, *words):
        return subprocess.run(["git", "-C", self.repository, *words], check=True, capture_output=True, text=True).stdout

    def read(self, path):
        return self.git("show", f"HEAD:{path}")

    def pages(self):
        found = self.git("ls-tree", "-r", "--name-only", "HEAD", "api-ref/source/v3", "api-ref/source/v3-ext").split()
        return [path for path in found if path.endswith(".inc") and not SKIPPED.search(path)]

    def required(self, page, reference):
        """Whether a parameter must be there, by its entry beside the page (or the entry of its index)."""
        folder = posixpath.dirname(page)
        if folder not in self.parameters:
            self.parameters[folder] = yaml.safe_load(self.read(f"{folder}/parameters.yaml"))
        return bool(self.parameters[folder].get(reference, {}).get("required", True))


def flat(value, place, into):
    """Every leaf's place, to the types seen there and how often."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            flat(inner, f"{place}.{name}" if place else name, into)
    elif isinstance(value, list) and value:
        for inner in value:
            flat(inner, f"{place}[]", into)
    else:
        kind = "object" if value == {} else "list" if value == [] else KINDS[type(value)]
        into[place].append(kind)


def every(value, place, into):
    """How many values stand at each place, to tell what only some objects have."""
    into[place] += 1
    if isinstance(value, dict):
        for name, inner in value.items():
            every(inner, f"{place}.{name}" if place else name, into)
    elif isinstance(value, list):
        for inner in value:
            every(inner, f"{place}[]", into)


def partial(place, present):
    """Whether some object on the way to `place` lacks the next step."""
    steps = place.split(".")
    outer = ""
    for step in steps:
        inner = f"{outer}.{step}" if outer else step
        if present[re.sub(r"(\[\])+$", "", inner)] < present[outer]:
            return True
        outer = inner
    return False


def operations(page, text):
    """Each operation's method, path, table of response parameters, good statuses and examples."""
    parts = re.split(r"^\.\. rest_method::\s+", text, flags=re.MULTILINE)
    for part in parts[1:]:
        method, path = part.split("\n", 1)[0].split()
        response = re.split(r"^Response\n-+$", part, maxsplit=1, flags=re.MULTILINE)
        if len(response) < 2:
            continue
        table = re.search(r"rest_parameters::.*\n((?:\s*\n|   .*\n)+)", response[1])
        fields = re.findall(r"^   - ([\w:-]+): (\w+)", table.group(1), re.MULTILINE) if table else []
        good = re.search(r"rest_status_code:: success.*\n\s*((?:\s*- \d{3}.*\n)+)", response[1])
        status = re.findall(r"- (\d{3})", good.group(1)) if good else []
        examples = re.findall(r"literalinclude:: (\S+\.json)", response[1])
        # The next operation's request may follow under the same heading; an answer's example is never a request's.
        examples = [one.removeprefix("./") for one in examples if "request" not in one]
        # Examples of included pages are named from the folder that includes.
        folder = posixpath.dirname(page) if "/federation/" not in page else "api-ref/source/v3-ext"
        yield method, path.split("?")[0], fields, status, [posixpath.join(folder, one) for one in examples]


def main():
    source = Source(sys.argv[1])
    print("# The bodies of the Identity API reference as names and types, made by skeleton.py beside this file.")
    for page in source.pages():
        print(f"\n# {page.removeprefix('api-ref/source/')}")
        for method, path, fields, status, examples in operations(page, source.read(page)):
            answer = "/".join(status) or "?"
            if not examples:
                print(f"{method} {path} {answer}")
            for example in examples:
                show(source, page, (method, path, answer), fields, example)


def show(source, page, operation, fields, example):
    text = source.read(example)
    try:
        body = json.loads(text)
    except ValueError:
        # A few examples have a comma too many or too few, one leaves something out by dots.
        text = re.sub(r"\.?\s*\.{3,}\s*$", "", text, flags=re.MULTILINE)
        text = re.sub(r",(\s*[}\]])", r"\1", text)
        text = re.sub(r"([\"\]}\w])(\s*\n\s*[\"{])", r"\1,\2", text)
        body = json.loads(text)
    leaves, present = collections.defaultdict(list), collections.Counter()
    flat(body, "", leaves)
    every(body, "", present)
    # A table repeats a name for each object that has it; what any of them demands is demanded.
    demanded = {name for name, reference in fields if source.required(page, reference)}
    optional = {name for name, _ in fields} - demanded
    print(" ".join(operation), posixpath.basename(example).removesuffix(".json"))
    names = set()
    for place, kinds in sorted(leaves.items()):
        words = re.split(r"\.|\[\]", place)
        names.update(words)
        mark = "?" if partial(place, present) or words[-1] in optional or (words[-1] == "" and words[-2] in optional) else ""
        print(f"  {place}{mark} {'|'.join(sorted(set(kinds)))}")
    further = sorted({name for name, _ in fields} - names - {"X-Auth-Token", "X-Subject-Token", "Location"})
    if further:
        print(f"  also {' '.join(further)}")


main()
