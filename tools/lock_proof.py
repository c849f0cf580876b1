"""The proof that a lock installs: what its packages say about Python, platform and each other.

A lock that was resolved need not install: a resolver ignores the upper bounds of Requires-Python,
and keeps to bounds only as far as each package states them. The facts come from the metadata of
the very files that pip would install; ``problems`` judges them without the network.
"""

import hashlib
import re
import tarfile
import tempfile
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pypi_simple import DistributionPackage, PyPISimple
from remotezip import RemoteZip

PYTHON = "3.12.12"
"""The image's Python, as its base image names it."""
GLIBC = 28
"""Wheels are built for this glibc 2.x or an older one; Debian bookworm has 2.36."""
ENVIRONMENT = {
    "implementation_name": "cpython",
    "implementation_version": PYTHON,
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": PYTHON,
    "python_version": PYTHON.rpartition(".")[0],
    "sys_platform": "linux",
}

Facts = dict[str, dict[str, Any]]
"""Package to its ``version``, ``file``, ``requires_python`` and ``requires`` (that hold on the image)."""


def pins(lock: str) -> dict[str, str]:
    """Read a lock's packages and versions."""
    return {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE)
    }


def digest(lock: str) -> str:
    """Hash a lock's text: facts belong to one text."""
    return hashlib.sha256(lock.encode()).hexdigest()


def platforms() -> list[str]:
    """List the platform tags that the image accepts, newest first."""
    old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    numbered = [
        name
        for minor in range(GLIBC, 4, -1)
        for name in (f"manylinux_2_{minor}_x86_64", f"{old[minor]}_x86_64" if minor in old else "")
        if name
    ]
    return [*numbered, "linux_x86_64"]


def tags() -> list[Tag]:
    """List the wheel tags that the image's pip accepts, best first."""
    version = (3, int(PYTHON.split(".")[1]))
    return [*cpython_tags(version, platforms=platforms()), *compatible_tags(version, "cp312", platforms())]


def applying(requirements: Collection[str], extras: Collection[str] = ()) -> list[str]:
    """Keep the requirements that hold on the image with these extras, without their markers."""
    result = []
    for text in requirements:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**ENVIRONMENT, "extra": extra}) for extra in (*extras, "")):
            requirement.marker = None
            result.append(str(requirement))
    return sorted(set(result))


def collect(lock: str, requirements: Collection[str]) -> Facts:
    """Read the metadata of the file that pip would choose for each package of a lock.

    ``requirements`` names the extras. Of a wheel only the metadata is fetched.
    Raises RuntimeError for a package without a file that fits.
    """
    entries = [
        (canonicalize_name(name), version, set(re.findall(r"sha256:([0-9a-f]{64})", rest)))
        for name, version, rest in re.findall(
            r"^([\w.-]+)==(\S+)((?: .*\n?)(?: +--hash.*\n?)*)", lock, re.MULTILINE
        )
    ]
    with PyPISimple() as index, ThreadPoolExecutor(8) as pool:
        read = dict(pool.map(lambda entry: (entry[0], _metadata(index, *entry)), entries))
    requires = {name: metadata.get("requires_dist", []) for name, (_, metadata) in read.items()}
    extras = active_extras(requirements, requires)
    return {
        name: {
            "version": metadata["version"],
            "file": file,
            "requires_python": metadata.get("requires_python", ""),
            "requires": applying(requires[name], extras.get(name, ())),
        }
        for name, (file, metadata) in sorted(read.items())
    }


def _metadata(index: PyPISimple, name: str, version: str, hashes: Collection[str]) -> tuple[str, RawMetadata]:
    """Return the file that pip would choose, best wheel first, and its metadata."""
    ranks = {tag: rank for rank, tag in enumerate(tags())}

    def rank(file: DistributionPackage) -> int:
        if file.package_type != "wheel":
            return len(ranks)
        return min((ranks[tag] for tag in parse_wheel_filename(file.filename)[3] if tag in ranks), default=-1)

    page = index.get_project_page(name)
    files = [file for file in page.packages if file.version and file.digests.get("sha256") in hashes]
    fitting = sorted((file for file in files if rank(file) >= 0), key=rank)
    if not fitting:
        raise RuntimeError(f"{name} {version}: the index has no file of the lock that fits the image")
    best = fitting[0]
    if best.package_type == "wheel":
        with RemoteZip(best.url) as wheel:
            (path,) = [path for path in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", path)]
            return best.filename, parse_email(wheel.read(path))[0]
    with tempfile.TemporaryDirectory() as folder:
        index.download_package(best, Path(folder, best.filename))
        return best.filename, _source_metadata(Path(folder, best.filename))


def _source_metadata(archive: Path) -> RawMetadata:
    """Read a source archive's PKG-INFO; old ones list what they require in a file of their own."""
    with tarfile.open(archive) as files:
        texts = {
            path.partition("/")[2]: extracted.read()
            for path in files.getnames()
            if path.endswith(("/PKG-INFO", ".egg-info/requires.txt"))
            and (extracted := files.extractfile(path))
        }
    metadata = parse_email(texts.pop("PKG-INFO"))[0]
    listed = [
        line
        for path, text in texts.items()
        if path.endswith("requires.txt")
        for line in text.decode().partition("[")[0].splitlines()
        if line
    ]
    metadata.setdefault("requires_dist", listed)
    return metadata


def active_extras(
    requirements: Collection[str], requires: Mapping[str, Collection[str]]
) -> dict[str, set[str]]:
    """Find which extras are asked for, by ``requirements`` and by packages with their own extras."""
    extras: dict[str, set[str]] = {}
    pending = list(applying(requirements))
    for name, texts in requires.items():
        pending += applying(texts, extras.get(name, ()))
    while pending:
        requirement = Requirement(pending.pop())
        name = canonicalize_name(requirement.name)
        new = requirement.extras - extras.setdefault(name, set())
        if new:
            extras[name] |= new
            pending += applying(requires.get(name, ()), extras[name])
    return extras


def problems(
    locked: Mapping[str, str],
    facts: Facts,
    *,
    requirements: Collection[str],
    source_builds: Collection[str],
    left_out: Collection[str] = (),
) -> list[str]:
    """Say everything that would keep these pins from installing on the image, or from working together."""
    accepted = frozenset(tags())
    found = [
        f"{name}: {'no facts about it' if name in locked else 'not in the lock'}"
        for name in sorted(set(locked) ^ set(facts))
    ]
    for name in sorted(set(locked) & set(facts)):
        fact = facts[name]
        if fact["version"] != locked[name]:
            found.append(f"{name}: the lock has {locked[name]}, the facts are about {fact['version']}")
        if not SpecifierSet(fact["requires_python"]).contains(PYTHON):
            found.append(
                f"{name} {locked[name]} requires Python {fact['requires_python']}, the image has {PYTHON}"
            )
        if not fact["file"].endswith(".whl"):
            if name not in source_builds:
                found.append(
                    f"{name} {locked[name]} has no wheel ({fact['file']}): allow it in source_builds"
                )
        elif not accepted & parse_wheel_filename(fact["file"])[3]:
            found.append(f"{name} {locked[name]}: {fact['file']} does not fit the image's platform")
    by = [("comfyui.in", text) for text in applying(requirements)]
    by += [(f"{name} {fact['version']}", text) for name, fact in facts.items() for text in fact["requires"]]
    for who, text in by:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name not in locked:
            if name not in left_out:
                found.append(f"{who} requires {text}, which the lock does not have")
        elif not requirement.specifier.contains(Version(locked[name]), prereleases=True):
            found.append(f"{who} requires {text}, the lock has {locked[name]}")
    return found
