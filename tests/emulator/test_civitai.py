"""The emulated CivitAI: the answers of its published API, and downloads from another host."""

import hashlib

import httpx
import pytest

from tests.support.emulation import Emulator


@pytest.mark.slow
def test_a_version_is_found_by_id_and_by_any_of_its_hashes(emu: Emulator) -> None:
    """Metadata names the exact size in KiB and the true hashes, in upper case; look-up takes either case."""
    base = f"{emu.url('civitai')}/api/v1/model-versions"
    version = httpx.get(f"{base}/128713").json()
    (file,) = version["files"]

    content = httpx.get(file["downloadUrl"], follow_redirects=True)

    assert hashlib.sha256(content.content).hexdigest().upper() == file["hashes"]["SHA256"]
    assert len(content.content) == file["sizeKB"] * 1024
    for name in file["hashes"]:
        found = httpx.get(f"{base}/by-hash/{file['hashes'][name].lower()}").json()
        assert found["id"] == 128713


def test_a_download_is_a_redirect_to_another_host(emu: Emulator) -> None:
    """307 to a signed link on another port, which takes ranges and names the file."""
    reply = httpx.get(f"{emu.url('civitai')}/api/download/models/128713?type=Model&format=SafeTensor")
    link = reply.headers["location"]
    part = httpx.get(link, headers={"Range": "bytes=0-7"})

    assert reply.status_code == 307
    assert httpx.URL(link).port != httpx.URL(emu.url("civitai")).port
    assert (part.status_code, len(part.content)) == (206, 8)
    assert 'filename="dreamshaper_8.safetensors"' in part.headers["content-disposition"]


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_creator_may_ask_for_a_login(emu: Emulator, how: str) -> None:
    """401 with the recorded body without a token; with one, in the header or the query, a redirect."""
    url = f"{emu.url('civitai')}/api/download/models/329995"
    token = emu.env["CIVITAI_TOKEN"]
    refused = httpx.get(url)
    if how == "header":
        used = httpx.get(url, headers={"Authorization": f"Bearer {token}"})
    else:
        used = httpx.get(url, params={"token": token})

    assert (refused.status_code, refused.json()) == (
        401,
        {
            "error": "Unauthorized",
            "message": "The creator of this asset requires you to be logged in to download it",
        },
    )
    assert len(refused.content) == 106
    assert used.status_code == 307


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/api/v1/model-versions/0", 404, "No model with id 0"),
        ("/api/v1/model-versions/by-hash/ABCDEF", 404, "Model not found"),
        ("/api/download/models/abc", 400, "Invalid id: abc"),
        ("/api/download/models/1", 404, "Model not found"),
        ("/api/download/models/500002", 403, "Early Access"),
        ("/api/v1/me", 401, "Unauthorized"),
        ("/api/v1/creators", 501, "The emulated CivitAI has no GET /civitai/api/v1/creators"),
    ],
)
def test_refusals_are_those_of_the_api(emu: Emulator, path: str, status: int, error: str) -> None:
    """Each has its status and an `error`."""
    reply = httpx.get(emu.url("civitai") + path)

    assert (reply.status_code, reply.json()["error"]) == (status, error)
