"""Libraries' own settings and exceptions stay inside: boto3's, and what a hub answers for a model card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.errors import ConfigError
from backend.flow.http_driver import Http
from backend.settings import Secret
from ops.models.source_url import parse
from ops.sources.licenses import read_terms
from ops.sources.origins import Sources
from ops.stores.directory import FolderStore
from ops.stores.s3_client import Bucket
from tests.ops.download.test_odd_servers import BODY, PACE, SHA256
from tests.ops.download.test_odd_servers import Server as OddServer
from tests.support.emulation import Emulator
from tests.support.ops_shelf import Shelf
from tests.support.small_server import Answer, Seen, serving

COMMIT = "a" * 40
SOURCE = "hf:org/name:x.safetensors"
AWS: dict[str, dict[str, str]] = {
    "a profile that is not there": {"AWS_PROFILE": "work"},
    "a damaged config file": {"AWS_CONFIG_FILE": "[broken\nx"},
    "acceleration in the config file": {
        "AWS_CONFIG_FILE": "[default]\ns3 =\n    use_accelerate_endpoint = true\n"
    },
    "an endpoint of another service": {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_USE_FIPS_ENDPOINT": "true",
    },
    "damaged credentials": {"AWS_SHARED_CREDENTIALS_FILE": "[broken\nx"},
    "a retry mode that does not exist": {"AWS_RETRY_MODE": "wild", "AWS_MAX_ATTEMPTS": "x"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", AWS)
def test_settings_of_aws_do_not_reach_the_volume(
    emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    """The bucket is read with RunPod's keys, whatever profile, file or variable is there for AWS."""
    for variable, value in AWS[name].items():
        if variable.endswith("_FILE"):
            (tmp_path / variable).write_text(value)
            value = str(tmp_path / variable)
        monkeypatch.setenv(variable, value)
    with Http() as http:
        shelf = Shelf(emu, http, tmp_path)

        assert shelf.store().inventory().files == {}


@pytest.mark.slow
def test_an_s3_address_that_is_not_one_is_a_sentence():
    """What boto3 refuses before it asks anybody is an error of the settings."""
    with pytest.raises(ConfigError, match="cannot be used"):
        Bucket("not an address", "vol", region="eu-ro-1", access_key_id="x", secret_access_key=Secret("y"))


CARDS: dict[str, Answer] = {
    "cut": Answer(body=b"{", length=100),
    "a page": Answer(body=b"<html>log in</html>"),
    "busy": Answer(503, b"busy"),
    "forbidden": Answer(403),
    "not there": Answer(404),
    "a list": Answer(body=b"[]"),
    "odd values": Answer(body=b'{"cardData": {"license": 7}, "tags": null}'),
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_that_cannot_be_read_is_a_warning(name: str):
    """The file, its size and its hash are known by then, so the entry is written without a license."""
    with serving(lambda _: CARDS[name]) as server, Http() as http:
        terms = read_terms(parse(SOURCE), Sources(http, hf_endpoint=server.url))

    assert terms.license in ("unknown", "7")
    assert (terms.warning is None) == (name in ("a list", "odd values"))


def test_a_card_is_read():
    """The license by its own name, and the gate."""
    card = {"cardData": {"license": "other", "license_name": "flux"}, "gated": "auto", "tags": []}
    with serving(lambda _: Answer(body=json.dumps(card).encode())) as server, Http() as http:
        terms = read_terms(parse(SOURCE), Sources(http, hf_endpoint=server.url))

    assert (terms.license, terms.gated, terms.warning) == ("flux", True, None)


def hub(head: int, announced: str = SHA256):
    """A mirror of Hugging Face that answers HEAD with a status of its own."""
    storage = OddServer(etag=lambda number: f'"edge{number % 2}"').answerer()

    def answer(seen: Seen) -> Answer:
        if "/resolve/" not in seen.path:
            return storage(seen)
        if seen.method == "HEAD" and head != 200:
            return Answer(head)
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(BODY)),
            "X-Linked-Etag": f'"{announced}"',
        }
        return Answer(302, headers=headers | {"Location": "/storage/x"})

    return answer


@pytest.mark.parametrize("head", [200, 400, 403, 404, 405, 500, 501])
def test_a_mirror_need_not_answer_head(tmp_path: Path, head: int):
    """Commit, size and hash come with a GET as well; edges with ETags of their own are one file."""
    with serving(hub(head)) as server, Http() as http:
        sources = Sources(http, hf_endpoint=server.url, allow_hosts=("127.0.0.1",))
        origin = sources.resolve(SOURCE)
        (done,) = FolderStore(tmp_path, sources, pace=PACE).provision(
            [{"path": "models/loras/x.safetensors", "source": SOURCE}]
        )

    assert (origin.sha256, origin.size_bytes, origin.revision) == (SHA256, len(BODY), COMMIT)
    assert done["sha256"] == SHA256


@pytest.mark.parametrize("pinned", [True, False])
def test_a_wrong_announcement(tmp_path: Path, pinned: bool):
    """A pin outranks it; without one the refusal names the pin as the way out, and it is one."""
    with serving(hub(200, announced="0" * 64)) as server, Http() as http:
        store = FolderStore(
            tmp_path, Sources(http, hf_endpoint=server.url, allow_hosts=("127.0.0.1",)), pace=PACE
        )
        path = "models/loras/x.safetensors"
        if not pinned:
            with pytest.raises(Exception, match=f'pin their hash in the registry.*"{SHA256}"'):
                store.provision([{"path": path, "source": SOURCE}])
        before = len(server.seen)
        (done,) = store.provision([{"path": path, "source": SOURCE, "sha256": SHA256}])

        assert (tmp_path / path).read_bytes() == BODY
        assert pinned or (done["fetched_bytes"], len(server.seen)) == (0, before)
