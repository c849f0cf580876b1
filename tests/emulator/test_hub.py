"""The emulated Hugging Face: huggingface_hub, unmodified, and the recorded answers of the real one."""

import hashlib
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from tests.support.deadlines import HANG_S
from tests.support.emulation import Emulator

WHISPER = "openai/whisper-tiny"
GATED = "stabilityai/stable-video-diffusion-img2vid-xt-1-1"


def files_of(emu: Emulator, repo: str) -> dict[str, dict[str, Any]]:
    """Ask the emulator what a repository really holds."""
    return {file["path"]: file for file in emu.control("GET", "/hub/files", repo=repo)["files"]}


def test_a_large_file_is_downloaded_and_is_what_its_hash_says(emu: Emulator, tmp_path: Path) -> None:
    """hf_hub_download follows the redirect to the CDN; the bytes match the published sha256 and size."""
    path = hf_hub_download(
        WHISPER, "model.safetensors", endpoint=emu.url("hub"), cache_dir=tmp_path, token=False
    )
    content = Path(path).read_bytes()
    truth = files_of(emu, WHISPER)["model.safetensors"]

    assert (hashlib.sha256(content).hexdigest(), len(content)) == (truth["sha256"], truth["size_bytes"])
    assert [entry["path"][:9] for entry in emu.requests("GET", "/cdn/*")] == ["/cdn/hub/"]


def test_a_snapshot_is_downloaded_whole(emu: Emulator, tmp_path: Path) -> None:
    """Small files come from the hub itself, large ones from the CDN, all under the pinned commit."""
    folder = snapshot_download(
        WHISPER, endpoint=emu.url("hub"), cache_dir=tmp_path, token=False, max_workers=2
    )
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }

    assert found == {path: file["sha256"] for path, file in files_of(emu, WHISPER).items()}
    assert Path(folder).name == "169d4a4341b33bc18d8881c4b69c2e104e1cc0af"


def test_three_ways_to_a_hash_agree(emu: Emulator) -> None:
    """The etag of resolve, the tree's lfs oid and the pointer in git name the same sha256."""
    api = HfApi(endpoint=emu.url("hub"), token=False)
    url = hf_hub_url(WHISPER, "model.safetensors", endpoint=emu.url("hub"))

    from_resolve = get_hf_file_metadata(url, token=False)
    (from_paths,) = api.get_paths_info(WHISPER, "model.safetensors")
    siblings = api.model_info(WHISPER, files_metadata=True).siblings or []
    (from_info,) = [one for one in siblings if one.rfilename == "model.safetensors"]
    pointer = httpx.get(f"{emu.url('hub')}/{WHISPER}/raw/main/model.safetensors").text
    truth = files_of(emu, WHISPER)["model.safetensors"]

    assert from_resolve.etag == truth["sha256"]
    assert from_resolve.size == truth["size_bytes"]
    assert isinstance(from_paths, RepoFile)
    assert from_paths.lfs is not None
    assert from_info.lfs is not None
    assert from_paths.lfs.sha256 == from_info.lfs.sha256 == truth["sha256"]
    assert pointer.splitlines()[1] == f"oid sha256:{truth['sha256']}"


def test_a_small_file_has_a_git_id_and_no_sha256(emu: Emulator) -> None:
    """What git keeps itself is known by sha1("blob <len>\\0" + bytes) alone."""
    base = f"{emu.url('hub')}/{WHISPER}/resolve/main/config.json"
    first = httpx.head(base)
    reply = httpx.get(base, follow_redirects=True)
    git_id = hashlib.sha1(f"blob {len(reply.content)}\0".encode() + reply.content).hexdigest()

    assert first.status_code == 307
    assert first.headers["location"].startswith("/hub/api/resolve-cache/models/")
    assert first.headers["x-linked-etag"] == f'"{git_id}"'
    assert reply.headers["etag"] == f'"{git_id}"'


def test_the_redirect_to_the_cdn_says_what_the_cdn_does_not(emu: Emulator) -> None:
    """The 302 has the commit, hash and size; the link on another port has ranges and its own etag."""
    first = httpx.get(f"{emu.url('hub')}/{WHISPER}/resolve/main/model.safetensors")
    link = first.headers["location"]
    part = httpx.get(link, headers={"Range": "bytes=10-19"})
    beyond = httpx.get(link, headers={"Range": f"bytes={first.headers['x-linked-size']}-"})
    whole = httpx.get(link)

    assert first.status_code == 302
    assert httpx.URL(link).port != httpx.URL(emu.url("hub")).port
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{first.headers['x-linked-size']}"
    assert beyond.status_code == 416
    assert [name for name in whole.headers if name.startswith("x-linked") or name == "x-repo-commit"] == []


def test_a_link_is_good_for_an_hour_and_only_as_signed(emu: Emulator) -> None:
    """A stored link fails later, and so does one that somebody changed."""
    link = httpx.get(f"{emu.url('hub')}/{WHISPER}/resolve/main/model.safetensors").headers["location"]
    changed = httpx.get(link.replace("Signature=", "Signature=0"))
    emu.advance(3601)

    assert changed.status_code == 403
    assert httpx.get(link).status_code == 403


@pytest.mark.parametrize(
    ("repo", "path", "revision", "error"),
    [
        ("nobody/nothing", "x", None, RepositoryNotFoundError),
        (WHISPER, "nope.bin", None, EntryNotFoundError),
        (WHISPER, "config.json", "nope", RevisionNotFoundError),
        (GATED, "svd_xt_1_1.safetensors", None, GatedRepoError),
    ],
)
def test_huggingface_hub_names_what_is_wrong(
    emu: Emulator, repo: str, path: str, revision: Any, error: Any
) -> None:
    """The client's own typed errors come out, so status, code and message are as it knows them.

    The client takes a 401 for a missing repository only at https addresses; so ask with a token, get a 404.
    """
    url = hf_hub_url(repo, path, endpoint=emu.url("hub"), revision=revision)
    token = emu.env["HF_TOKEN"] if error is RepositoryNotFoundError else False

    with pytest.raises(error):
        get_hf_file_metadata(url, token=token)


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        (None, 401, "GatedRepo"),
        ("bogus", 401, "GatedRepo"),
        ("no access", 403, "GatedRepo"),
        ("good", 302, None),
    ],
)
def test_a_gate_lets_in_who_was_granted_access(emu: Emulator, token: Any, status: int, code: Any) -> None:
    """No token, a wrong one and one without access are told apart; the card stays public."""
    tokens = {"no access": emu.env["HF_TOKEN"] + "-without-access", "good": emu.env["HF_TOKEN"]}
    headers = {"Authorization": f"Bearer {tokens.get(token, token)}"} if token else {}

    reply = httpx.head(f"{emu.url('hub')}/{GATED}/resolve/main/svd_xt_1_1.safetensors", headers=headers)
    card = httpx.get(f"{emu.url('hub')}/api/models/{GATED}").json()

    assert (reply.status_code, reply.headers.get("x-error-code")) == (status, code)
    assert (card["gated"], card["cardData"]) == ("auto", {"license": "other"})


@pytest.mark.parametrize(
    ("change", "token", "status", "code"),
    [
        ({"private": True}, None, 401, None),
        ({"private": True}, "no access", 404, "RepoNotFound"),
        ({"private": True}, "good", 302, None),
        ({"disabled": True}, "good", 403, None),
        ({}, "bogus", 401, None),
    ],
)
def test_a_private_repository_is_not_there_for_others(
    emu: Emulator, change: Any, token: Any, status: int, code: Any
) -> None:
    """Who may not see it can not tell it from one that does not exist; a wrong token is told as such."""
    emu.control("POST", "/hub/files", {"repo": WHISPER, **change})
    tokens = {"no access": emu.env["HF_TOKEN"] + "-without-access", "good": emu.env["HF_TOKEN"]}
    headers = {"Authorization": f"Bearer {tokens.get(token, token)}"} if token else {}

    reply = httpx.head(f"{emu.url('hub')}/{WHISPER}/resolve/main/model.safetensors", headers=headers)

    assert (reply.status_code, reply.headers.get("x-error-code")) == (status, code)


def test_a_tree_comes_in_pages(emu: Emulator) -> None:
    """Further pages are named by the Link header, and the client follows them."""
    first = httpx.get(f"{emu.url('hub')}/api/models/{WHISPER}/tree/main", params={"limit": 2})
    second = httpx.get(first.links["next"]["url"])
    api = HfApi(endpoint=emu.url("hub"), token=False)
    everything = [entry.path for entry in api.list_repo_tree("SWivid/F5-TTS", recursive=True)]

    assert [len(first.json()), len(second.json())] == [2, 2]
    assert "F5TTS_v1_Base" in everything
    assert "F5TTS_v1_Base/vocab.txt" in everything


def test_a_renamed_repository_redirects(emu: Emulator) -> None:
    """The old name of a repository still answers, by a redirect."""
    api = HfApi(endpoint=emu.url("hub"), token=False)

    assert api.model_info("runwayml/stable-diffusion-v1-5").id == "Comfy-Org/stable-diffusion-v1-5-archive"


def test_files_change_by_commits(emu: Emulator) -> None:
    """A new file, other bytes, a new name: each is a commit, and older commits keep what they had."""
    hub = emu.url("hub")
    first = emu.control("POST", "/hub/files", {"repo": "me/mine", "path": "a.bin", "content_b64": "AAEC"})
    second = emu.control("POST", "/hub/files", {"repo": "me/mine", "path": "a.bin", "content_b64": "AwQF"})
    third = emu.control("POST", "/hub/files", {"repo": "me/mine", "path": "a.bin", "rename_to": "b.bin"})

    def get(revision: str, path: str) -> Any:
        return httpx.get(f"{hub}/me/mine/resolve/{revision}/{path}", follow_redirects=True)

    assert len({first["commit"], second["commit"], third["commit"]}) == 3
    assert get(first["commit"], "a.bin").content == bytes([0, 1, 2])
    assert get(second["commit"], "a.bin").content == bytes([3, 4, 5])
    assert get("main", "a.bin").status_code == 404
    assert get("main", "b.bin").content == bytes([3, 4, 5])


@pytest.mark.slow
def test_too_many_requests_are_told_when_to_come_back(emu: Emulator) -> None:
    """Every answer says what is left in the window; beyond it there is a 429."""
    url = f"{emu.url('hub')}/api/models/{WHISPER}"
    with httpx.Client() as client:
        first = client.get(url)
        replies = [client.get(url) for _ in range(500)]

    assert first.headers["ratelimit"].startswith('"api";r=499;t=')
    assert first.headers["ratelimit-policy"] == '"fixed window";"api";q=500;w=300'
    assert [reply.status_code for reply in replies].index(429) == 499


def test_a_damaged_body_reaches_the_client_damaged(emu: Emulator) -> None:
    """Faults shape streamed bodies of the CDN too: the client gets other bytes than the hash promises."""
    emu.fault("/cdn/hub/*", corrupt=100)
    url = f"{emu.url('hub')}/{WHISPER}/resolve/main/model.safetensors"
    damaged = httpx.get(url, follow_redirects=True).content
    whole = httpx.get(url, follow_redirects=True).content

    assert [at for at in range(len(whole)) if whole[at] != damaged[at]] == [100]


@pytest.mark.slow
def test_plain_files_may_be_badly_served(emu: Emulator) -> None:
    """A web server that ignores ranges, or lies about the length, is one POST away."""
    base = emu.url("hub") + "/files"
    created = emu.control("POST", "/hub/files", {"name": "x.bin", "size_bytes": 3_000_000})
    part = httpx.get(f"{base}/x.bin", headers={"Range": "bytes=2999990-"})
    stale = httpx.get(f"{base}/x.bin", headers={"Range": "bytes=2999990-", "If-Range": '"other"'})
    emu.control("POST", "/hub/files", {"name": "x.bin", "ignores_range": True})
    ignored = httpx.get(f"{base}/x.bin", headers={"Range": "bytes=2999990-"})
    emu.control("POST", "/hub/files", {"name": "x.bin", "announced_bytes": 1000})
    short = httpx.get(f"{base}/x.bin")

    assert (part.status_code, len(part.content), part.headers["etag"]) == (206, 10, created["etag"])
    assert (stale.status_code, len(stale.content)) == (200, 3_000_000)
    assert (ignored.status_code, len(ignored.content)) == (200, 3_000_000)
    assert (short.status_code, len(short.content)) == (200, 1000)
    assert hashlib.sha256(ignored.content).hexdigest() == created["sha256"]


def test_a_plain_file_may_stall(emu: Emulator) -> None:
    """The first bytes come, and then nothing, though the connection stays."""
    emu.control("POST", "/hub/files", {"name": "slow.bin", "size_bytes": 100_000, "stalls_at": 60_000})
    got = b""
    with httpx.stream("GET", f"{emu.url('hub')}/files/slow.bin", timeout=HANG_S) as reply:
        pieces = reply.iter_raw()
        while len(got) < 60_000:
            got += next(pieces)
        with pytest.raises(httpcore.ReadTimeout):
            reply.extensions["network_stream"].read(1, timeout=0.2)

    assert len(got) == 60_000


def test_what_is_not_emulated_is_named(emu: Emulator) -> None:
    """An unknown route is a 501 that says which."""
    reply = httpx.post(f"{emu.url('hub')}/api/repos/create")

    assert (reply.status_code, reply.json()["error"]) == (
        501,
        "The emulated hub has no POST /hub/api/repos/create",
    )
