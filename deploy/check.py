"""Holds the deployment files to the Kubernetes schemas, to each other and to what the crates say.

Run by `deploy/check`, with the folder of rendered overlays as its argument. Every rule is a function that yields the
problems it finds, each one sentence that names the file or object; one problem fails the check.
"""

import base64
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
# The oldest release with everything that is used here (the `sleep` hook), and the newest that the package knows.
KUBERNETES = ("1.30", kubernetes_validate.latest_version())
NAME = "app.kubernetes.io/name"
# What a pod may need to stop: leaving its Service, the drain, the last flush of spans.
STOP_SECONDS = 40


def read(path):
    with path.open() as file:
        return [document for document in yaml.safe_load_all(file) if document]


def overlay(name, rendered):
    """The objects of an overlay: as rendered, or else its files, with stand-ins for what generators would make."""
    if (rendered / f"{name}.yaml").exists():
        return read(rendered / f"{name}.yaml")
    folder = DEPLOY / "kubernetes" / name
    (kustomization,) = read(folder / "kustomization.yaml")
    objects = []
    for resource in kustomization["resources"]:
        path = folder / resource
        objects += overlay(path.resolve().name, rendered) if path.is_dir() else read(path)
    for kind, key in (("ConfigMap", "data"), ("Secret", "stringData")):
        for made in kustomization.get(f"{kind[0].lower()}{kind[1:]}Generator", []):
            data = dict(literal.split("=", 1) for literal in made["literals"])
            objects.append({"apiVersion": "v1", "kind": kind, "metadata": {"name": made["name"]}, key: data})
    return objects


def title(thing):
    return f"{thing['kind']} {thing['metadata']['name']}"


def of(objects, *kinds):
    return [thing for thing in objects if thing["kind"] in kinds]


def workloads(objects):
    """Each Deployment, StatefulSet and Job with its pod's spec and labels."""
    for thing in of(objects, "Deployment", "StatefulSet", "Job"):
        template = thing["spec"]["template"]
        yield thing, template["spec"], template["metadata"]["labels"]


def ours(container):
    return container["image"].split(":")[0].split("/")[-1] == "rushes"


# What the crates say.


class Crates:
    """The workspace's programs, and the settings that each of them reads."""

    def __init__(self):
        command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
        metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
        self.programs = {}
        for package in metadata["packages"]:
            for target in package["targets"]:
                if "bin" in target["kind"]:
                    self.programs[target["name"]] = pathlib.Path(package["manifest_path"]).parent / "src"
                    self.version = package["version"]
        self.crates = ROOT / "crates"

    def settings(self, command):
        """The names that a program may read and those that it cannot start without."""
        folder = self.programs[command[0]]
        if command[0] == "rushes":
            variant = rf"\b{command[1].capitalize()}\s*\{{(.*?)\n    \}}"
            fields = "".join(re.findall(variant, self.code(folder / "args.rs"), re.S))
            names = set(re.findall(r'env\s*=\s*"([A-Z0-9_]+)"', fields))
            return names, names
        text = "".join(self.code(folder / name) for name in ("config.rs", "main.rs"))
        # What it reads through a library: `blobs::Settings::read(source)` is a module of chassis, `cache::…` a crate.
        for part in set(re.findall(r"\b(\w+)::(?:\w+::)*read\w*\(\s*&?\w*source", text)):
            for path in (self.crates / f"chassis/src/{part}.rs", self.crates / f"{part}/src/settings.rs"):
                text += self.code(path)
        required = re.findall(r'\.required(?:::<[^(]*>)?\(\s*"([A-Z0-9_]+)"', text)
        # A type of chassis reads with all of its module, of which not every type needs the same.
        for part in set(re.findall(r"\b([A-Z]\w+)::read\w*\(\s*&?\w*source", text)):
            for path in sorted((self.crates / "chassis/src").glob("*/*.rs")):
                if re.search(rf"^impl {part} {{", self.code(path), re.M):
                    text += "".join(self.code(one) for one in sorted(path.parent.glob("*.rs")))
        if "InternalKeys::required" in text:
            required.append("RUSHES_INTERNAL_KEYS")
        names = set(re.findall(r'"((?:RUSHES|OTEL|AWS)_[A-Z0-9_]*)"', text))
        if "InternalKeys::" in text:
            names |= set(re.findall(r'"(RUSHES_[A-Z_]*)"', self.code(self.crates / "chassis/src/keyring.rs")))
        for pool in [name for name in names if name.startswith("RUSHES_POOL_")]:
            names |= {f"{pool}_{end}" for end in ("MIN", "MAX", "ACQUIRE", "IDLE", "STATEMENT")}
        return names, set(required)

    def operator(self):
        """The names that the operators' commands read, which are run in the gateway's container."""
        return set(re.findall(r'env\s*=\s*"([A-Z0-9_]+)"', self.code(self.crates / "cli/src/client/internal.rs")))

    @staticmethod
    def code(path):
        """A file without its tests and comments; nothing where there is no such file."""
        text = path.read_text() if path.exists() else ""
        return re.sub(r"^\s*//.*$", "", text.split("#[cfg(test)]")[0], flags=re.M)


def settings(crates, where, command, names):
    """What a container sets, against what its program reads."""
    if command[0] not in crates.programs:
        yield f"{where}: no crate has a program {command[0]}"
        return
    known, required = crates.settings(command)
    if command[0] == "gateway":
        known |= crates.operator()
    for name in sorted(names):
        # `AWS_` alone stands for all that begin so.
        if name not in known and not any(one.endswith("_") and name.startswith(one) for one in known):
            yield f"{where}: {command[0]} does not read {name}"
    for name in sorted(required - names):
        yield f"{where}: {command[0]} does not start without {name}"


# The Kubernetes files.


def schemas(objects):
    for thing in objects:
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(thing, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                path = ".".join(str(part) for part in error.path)
                yield f"{title(thing)}: Kubernetes {version} refuses {path or 'it'}: {error.message[:200]}"
            except kubernetes_validate.SchemaNotFoundError:
                yield f"{title(thing)}: Kubernetes {version} has no {thing['apiVersion']} {thing['kind']}"


def unlisted():
    """A file that no kustomization lists is never applied."""
    for folder in (DEPLOY / "kubernetes").iterdir():
        (kustomization,) = read(folder / "kustomization.yaml")
        for path in folder.glob("*.yaml"):
            if path.name not in ("kustomization.yaml", *kustomization["resources"]):
                yield f"{path.relative_to(ROOT)}: its kustomization does not list it"


def pods(objects, crates):
    """What every pod must have, those of the backing services too."""
    accounts = {thing["metadata"]["name"] for thing in of(objects, "ServiceAccount")}
    for thing, pod, _ in workloads(objects):
        where = title(thing)
        if pod.get("automountServiceAccountToken") is not False or pod.get("enableServiceLinks") is not False:
            yield f"{where}: it gets a token or service links that it has no use for"
        if pod.get("serviceAccountName") not in accounts:
            yield f"{where}: there is no ServiceAccount {pod.get('serviceAccountName')}"
        security = pod.get("securityContext", {})
        if not security.get("runAsNonRoot") or security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{where}: its pod should run as non-root, with the runtime's seccomp profile"
        for container in pod["containers"] + pod.get("initContainers", []):
            yield from image(where, container["image"], crates)
            security = container.get("securityContext", {})
            if (
                security.get("allowPrivilegeEscalation") is not False
                or not security.get("readOnlyRootFilesystem")
                or security.get("capabilities") != {"drop": ["ALL"]}
            ):
                yield f"{where}: its container should have a read-only root, no capabilities and no escalation"
            for part in ("requests", "limits"):
                if set(container.get("resources", {}).get(part, {})) < {"cpu", "memory"}:
                    yield f"{where}: its container has no {part} of cpu and memory"
            if thing["kind"] != "Job" and "readinessProbe" not in container:
                yield f"{where}: it has no readiness probe"


def image(where, name, crates):
    tag = name.rpartition(":")[2] if ":" in name.split("/")[-1] else ""
    if not re.search(r"\d+\.\d+|\d{8}", tag):
        yield f"{where}: image {name} should have a tag that never moves"
    if name.startswith("rushes:") and tag != crates.version:
        yield f"{where}: image {name} should have the workspace's version, {crates.version}"


def services(objects, crates):
    """What each of our own services must have besides."""
    budgets = {thing["metadata"]["name"] for thing in of(objects, "PodDisruptionBudget")}
    for thing, pod, labels in workloads(objects):
        where, (container, *_) = title(thing), pod["containers"]
        if not ours(container):
            continue
        command, env = container["command"], {one["name"]: one for one in container.get("env", [])}
        if command == ["gateway"] and "RUSHES_NATS_URL" not in env:
            yield f"{where}: without RUSHES_NATS_URL a revoked key is refused a second or two later than it could be"
        if "RUSHES_REDIS_URL" in env and "RUSHES_INTERNAL_KEYS" not in env:
            yield f"{where}: RUSHES_REDIS_URL needs RUSHES_INTERNAL_KEYS, which seals what lies in Redis"
        yield from settings(crates, where, command, set(env))
        if thing["kind"] == "Job":
            continue
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        listeners = {"grpc": "RUSHES_LISTEN", "internal": "RUSHES_INTERNAL_LISTEN", "admin": "RUSHES_ADMIN_LISTEN"}
        for port, name in listeners.items():
            listen = f"0.0.0.0:{ports[port]}" if port in ports else None
            if env.get(name, {}).get("value") != listen:
                yield f"{where}: {name} should be {listen}, as its port {port} says"
        for probe, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
            get = container.get(f"{probe}Probe", {}).get("httpGet", {})
            if get.get("path") != path or get.get("port") != "admin":
                yield f"{where}: its {probe} probe should get {path} on the admin port"
        scrape = thing["spec"]["template"]["metadata"].get("annotations", {})
        if scrape.get("prometheus.io/port") != str(ports["admin"]) or scrape.get("prometheus.io/scrape") != "true":
            yield f"{where}: Prometheus is not told of its admin port"
        if pod.get("terminationGracePeriodSeconds", 30) < STOP_SECONDS:
            yield f"{where}: it needs up to {STOP_SECONDS} s to stop"
        if labels[NAME] not in budgets:
            yield f"{where}: there is no PodDisruptionBudget of its name"
        if not pod.get("topologySpreadConstraints"):
            yield f"{where}: nothing spreads its pods over nodes"
        for service in of(objects, "Service"):
            headless = service["spec"].get("clusterIP") == "None"
            if service["spec"]["selector"] == {NAME: labels[NAME]} and headless == (labels[NAME] == "gateway"):
                yield f"{title(service)}: every service but the gateway is headless, for balancing by the caller"


def proxies(objects):
    """The gateway is told how many proxies are before it, and believes a header only where one of them writes it."""
    routes = of(objects, "Ingress", "HTTPRoute", "GRPCRoute")
    for thing, pod, _ in workloads(objects):
        container = pod["containers"][0]
        if not ours(container) or container["command"] != ["gateway"]:
            continue
        hops = dict((one["name"], value) for one, value in values(objects, title(thing), container)).get("RUSHES_TRUSTED_HOPS")
        if hops is None or not hops.isdigit():
            yield f"{title(thing)}: RUSHES_TRUSTED_HOPS should say how many proxies are before it, 0 for none"
        elif routes and hops == "0":
            yield f"{title(thing)}: with RUSHES_TRUSTED_HOPS 0 all clients have the address of what {title(routes[0])} is carried out by"
        elif not routes and hops != "0":
            yield f"{title(thing)}: RUSHES_TRUSTED_HOPS is {hops}, and nothing here is before it: clients would invent their addresses"


def selects(thing, labels):
    """Whether a selector's labels fit these."""
    if any(labels.get(key) != value for key, value in thing.get("matchLabels", {}).items()):
        return False
    return all(
        one["operator"] == "In" and labels.get(one["key"]) in one["values"] for one in thing.get("matchExpressions", [])
    )


def closed(objects):
    """Nothing is open to everyone but the gateway's gRPC port."""
    policies = of(objects, "NetworkPolicy")
    if not any(p["spec"]["podSelector"] == {} and not p["spec"].get("ingress") for p in policies):
        yield "NetworkPolicy: none closes the namespace by default"
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            door = policy["metadata"]["name"] == "gateway" and rule.get("ports") == [{"port": 8080}]
            if not rule.get("from") and not door:
                yield f"{title(policy)}: it opens more than the gateway's port 8080 to everyone"


def values(objects, where, container):
    """The environment of a container with references followed; None where the value is not known here."""
    kinds = {"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}
    for one in container.get("env", []):
        value = one.get("value")
        for key, reference in one.get("valueFrom", {}).items():
            for source in of(objects, kinds[key]):
                if source["metadata"]["name"] == reference["name"]:
                    value = source.get("stringData", source.get("data", {})).get(reference["key"])
                    if source["kind"] == "Secret" and "data" in source and value:
                        value = base64.b64decode(value).decode()
        yield one, value


def wired(objects, rendered):
    """Every reference leads somewhere, and every URL to a Service whose policy lets the caller in."""
    for thing, pod, caller in workloads(objects):
        where = title(thing)
        for container in pod["containers"]:
            for one, value in values(objects, where, container):
                optional = any(r.get("optional") for r in one.get("valueFrom", {}).values())
                if value is None and not optional:
                    yield f"{where}: {one['name']} refers to something that the overlay does not make"
                url = urllib.parse.urlparse(value or "")
                if url.scheme == "file" and rendered:
                    mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
                    if not any(pathlib.PurePath(url.path).is_relative_to(mount) for mount in mounts):
                        yield f"{where}: {one['name']} is {value}, where no volume is mounted"
                if url.hostname and url.port and not url.hostname.startswith("127."):
                    yield from reached(objects, f"{where}: {one['name']}", url.hostname, url.port, caller)


def reached(objects, where, host, port, caller):
    service = next((one for one in of(objects, "Service") if one["metadata"]["name"] == host), None)
    if service is None or port not in [one["port"] for one in service["spec"]["ports"]]:
        yield f"{where} leads to {host}:{port}, which no Service offers"
        return
    callee = service["spec"]["selector"]
    for policy in of(objects, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            sources = [one["podSelector"] for one in rule.get("from", []) if "podSelector" in one]
            fits = not rule.get("from") or any(selects(one, caller) for one in sources)
            if selects(policy["spec"]["podSelector"], callee) and {"port": port} in rule["ports"] and fits:
                return
    yield f"{where} leads to {host}:{port}, whose NetworkPolicy refuses it"


def secrets(objects):
    """The base holds no secret."""
    for thing in of(objects, "Secret"):
        yield f"{title(thing)}: secrets belong to an overlay"
    for thing, pod, _ in workloads(objects):
        for container in pod["containers"]:
            for one in container.get("env", []):
                named_so = re.search("PASSWORD|SECRET|KEY", one["name"]) and "secretKeyRef" not in one.get("valueFrom", {})
                if re.search(r"://[^/]*@", one.get("value", "")) or named_so:
                    yield f"{title(thing)}: {one['name']} should be a reference to a Secret"


# compose.yaml and the Dockerfile.


def compose(objects, crates):
    """The same parts as the local overlay, with the same settings, and nothing that other machines can reach."""
    (project,) = read(DEPLOY / "compose.yaml")
    parts, volumes = project["services"], set(project["volumes"])
    cluster = {thing["metadata"]["name"]: pod["containers"][0] for thing, pod, _ in workloads(objects)}
    for name in sorted(set(parts) ^ set(cluster)):
        yield f"compose.yaml: {name} is only in one of compose.yaml and the local overlay"
    for name, part in parts.items():
        where = f"compose.yaml: {name}"
        yield from image(where, part["image"], crates)
        for port in part.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                yield f"{where}: port {port} should be bound to 127.0.0.1"
        for volume in part.get("volumes", []):
            source = volume.split(":")[0]
            if source not in volumes and not (source.startswith("./") and (DEPLOY / source).is_file()):
                yield f"{where}: volume {volume} is not declared"
        for other, wait in part.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy" and "healthcheck" not in parts.get(other, {}):
                yield f"{where}: it waits for the health of {other}, which has no check"
        environment = part.get("environment", {})
        for variable, value in environment.items():
            url = urllib.parse.urlparse(value)
            if url.hostname and url.port and not url.hostname.startswith("127.") and url.hostname not in parts:
                yield f"{where}: {variable} leads to {url.hostname}, which is not a service"
            mounts = [volume.split(":")[1] for volume in part.get("volumes", [])]
            if url.scheme == "file" and not any(url.path.startswith(mount) for mount in mounts):
                yield f"{where}: {variable} is {value}, where no volume is mounted"
        if name not in cluster:
            continue
        if part["image"] != cluster[name]["image"]:
            yield f"{where}: its image is not that of the local overlay, {cluster[name]['image']}"
        if part["image"].startswith("rushes:"):
            yield from settings(crates, where, part["command"], set(environment))
            if part["command"] != cluster[name]["command"]:
                yield f"{where}: its command is not that of the local overlay"
            if part["command"] == ["gateway"] and environment.get("RUSHES_TRUSTED_HOPS") != "0":
                yield f"{where}: RUSHES_TRUSTED_HOPS should be 0, since nothing is before it"
            for variable in sorted(set(environment) ^ {one["name"] for one in cluster[name]["env"]}):
                yield f"{where}: {variable} is set only in one of compose.yaml and the local overlay"


def dockerfile(objects, crates):
    text = re.sub(r"^\s*#.*$", "", (DEPLOY / "Dockerfile").read_text(), flags=re.M)
    copied = set(re.findall(r"target/release/([\w-]+)", text))
    for program in sorted(copied - set(crates.programs)):
        yield f"Dockerfile: no crate has a program {program}"
    needed = {pod["containers"][0]["command"][0] for _, pod, _ in workloads(objects) if ours(pod["containers"][0])}
    for program in sorted(needed - copied):
        yield f"Dockerfile: {program} is not in the image"
    for program in sorted(copied - needed):
        yield f"Dockerfile: {program} is in the image, and no container runs it"
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?", text, re.M)
    for name, _ in stages:
        yield from image("Dockerfile", name, crates)
    if len({re.search(r"trixie|bookworm", name).group() for name, _ in stages}) != 1:
        yield "Dockerfile: both stages should be of one Debian release"
    for source in re.findall(r"--from=(\S+)", text):
        if source not in [stage for _, stage in stages]:
            yield f"Dockerfile: there is no stage {source}"
    oldest = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    compiler = re.search(r"rust:([\d.]+)", text).group(1)
    if [int(n) for n in compiler.split(".")] < [int(n) for n in oldest.split(".")]:
        yield f"Dockerfile: Rust {compiler} is older than the workspace's {oldest}"
    if not re.search(r"^USER 65532", text, re.M):
        yield "Dockerfile: the image should not run as root"


def main():
    rendered = pathlib.Path(sys.argv[1])
    crates = Crates()
    base, local = overlay("base", rendered), overlay("local", rendered)
    problems = [*unlisted(), *schemas(local), *secrets(base), *closed(base), *closed(local)]
    problems += [*pods(local, crates), *services(local, crates), *proxies(local), *wired(local, any(rendered.iterdir()))]
    problems += [*compose(local, crates), *dockerfile(local, crates)]
    for problem in dict.fromkeys(problems):
        print(problem)
    if problems:
        sys.exit(1)
    print(f"{len(local)} objects fit Kubernetes {' and '.join(KUBERNETES)}; settings, images and wiring agree")


if __name__ == "__main__":
    try:
        main()
    except yaml.YAMLError as error:
        sys.exit(f"a file is not YAML: {error}")
