"""The emulator's own plane: faults, the log, the clock, a kill and a restart."""

from __future__ import annotations

import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.deadlines import HANG_S
from tests.support.echo_endpoint import ENDPOINT as ECHO
from tests.support.emulation import IMAGES, PYTHON, Emulator, alive, running_emulator, until


def test_a_fault_that_no_route_can_meet_is_refused(emu: Emulator) -> None:
    """A misspelled pattern is an error at once, not a test that proves nothing."""
    reply = httpx.post(emu.url("control") + "/faults", json={"match": {"path": "/rest/v3/*"}, "status": 500})

    assert (reply.status_code, reply.json()) == (
        422,
        {"error": "no route matches '/rest/v3/*'; GET /_emulator/routes lists them"},
    )


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ({"match": {"path": "/rest/v2/*"}}, "a fault must say what goes wrong"),
        ({"match": {}, "status": 500}, "match.path is missing"),
        ({"match": {"path": "/rest/v2/*"}, "explode": True}, "a fault has no explode"),
        ({"match": {"path": "/rest/v2/*"}, "cut": "befor"}, 'cut is "before" or "after", or a number'),
    ],
)
def test_a_fault_that_could_do_nothing_is_refused(emu: Emulator, fault: dict[str, Any], problem: str) -> None:
    """What a fault says must mean something."""
    reply = httpx.post(emu.url("control") + "/faults", json=fault)

    assert (reply.status_code, problem in reply.json()["error"]) == (422, True)


def test_an_unknown_knob_is_refused(emu: Emulator) -> None:
    """A misspelled knob is an error, and nothing else of the same request is applied."""
    before = emu.control("GET", "/knobs")
    reply = httpx.patch(emu.url("control") + "/knobs", json={"cold_start_s": 5.0, "cold_start": 1})

    assert (reply.status_code, reply.json()) == (422, {"error": "unknown knob 'cold_start'"})
    assert emu.control("GET", "/knobs") == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_connection_is_a_transport_error(emu: Emulator, when: str) -> None:
    """A fault may close the connection before or after the plane has acted; the client sees no reply."""
    emu.fault("/rest/v2/network-volumes", cut=when)

    with pytest.raises(httpx.RemoteProtocolError):
        emu.rest("GET", "/network-volumes")
    assert [entry["status"] for entry in emu.requests("GET", "/rest/v2/network-volumes")] == [0]


def test_faults_damage_replies(emu: Emulator) -> None:
    """A reply can be replaced, cut in the middle, shortened, corrupted, and only after some others."""
    path = "/rest/v2/templates"
    whole = emu.rest("GET", "/templates").content
    emu.fault(path, status=503, body="down", headers={"Retry-After": "7"}, skip=1)
    replies = [emu.rest("GET", "/templates") for _ in range(3)]
    emu.fault(path, truncate=4)
    shortened = emu.rest("GET", "/templates").content
    emu.fault(path, corrupt=0)
    corrupted = emu.rest("GET", "/templates").content
    emu.fault(path, stall=4, stall_s=0.01)
    stalled = emu.rest("GET", "/templates").content
    emu.fault(path, cut=5)

    assert [(reply.status_code, reply.headers.get("retry-after")) for reply in replies] == [
        (200, None),
        (503, "7"),
        (200, None),
    ]
    assert stalled == whole
    assert (shortened, corrupted) == (whole[:4], bytes([whole[0] ^ 0xFF]) + whole[1:])
    with pytest.raises(httpx.RemoteProtocolError, match="received 5 bytes"):
        emu.rest("GET", "/templates")


def test_a_reply_can_be_lost_after_the_plane_has_acted(emu: Emulator) -> None:
    """cut="after" is the lost reply to a create: the client knows nothing, and the volume is there."""
    emu.fault("/rest/v2/network-volumes", method="POST", cut="after")
    with pytest.raises(httpx.RemoteProtocolError):
        emu.rest("POST", "/network-volumes", {"name": "v", "size": 10, "dataCenter": "EU-RO-1"})

    assert [volume["name"] for volume in emu.state()["volumes"]] == ["v"]


def test_a_fault_that_is_taken_back_lets_go_what_it_holds(emu: Emulator) -> None:
    """A test may hold a request for as long as it needs, before RunPod has acted or before it says so."""
    volume = {"name": "v", "size": 10, "dataCenter": "EU-RO-1"}
    for pending in ({"delay_s": 60}, {"stall": 0}):
        fault = emu.fault("/rest/v2/network-volumes", method="POST", **pending)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(emu.rest, "POST", "/network-volumes", volume)
            until(lambda: emu.control("GET", "/faults")["faults"][-1]["hits"])
            emu.control("DELETE", f"/faults/{fault['id']}")
            assert waiting.result().status_code == 201


@pytest.mark.slow
def test_a_client_that_dies_in_the_middle_is_no_failure(tmp_path: Path) -> None:
    """Who hangs up while its POST is held has asked for nothing: nothing is made, and no traceback shown."""
    message = tmp_path / "stderr"
    with message.open("wb") as stderr, running_emulator(tmp_path, images={}, stderr=stderr) as emu:
        fault = emu.fault("/rest/v2/templates", method="POST", delay_s=60)
        headers = {"Authorization": f"Bearer {emu.env['RUNPOD_API_KEY']}"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(emu.url("rest") + "/templates", json={"name": "t"}, headers=headers, timeout=0.1)
        emu.control("DELETE", f"/faults/{fault['id']}")
        (entry,) = until(lambda: [each for each in emu.requests("POST") if each["status"] is not None])

        assert (entry["status"], emu.state()["templates"]) == (0, [])
    assert message.read_text() == ""


def test_a_fault_that_never_happened_is_told(emu: Emulator) -> None:
    """The fixture fails a test over a fault that was set and not met; taken back, it is forgotten."""
    fault = emu.fault("/rest/v2/templates", status=500)
    unhit = emu.unhit_faults()
    emu.control("DELETE", f"/faults/{fault['id']}")

    assert [entry["id"] for entry in unhit] == [fault["id"]]
    assert emu.unhit_faults() == []


@pytest.mark.slow
def test_a_killed_emulator_comes_back_with_everything_but_its_workers(tmp_path: Path) -> None:
    """After kill -9 its workers end, and a start on the same folder and port has keys, resources and jobs."""
    worker = IMAGES["echo"]
    with running_emulator(tmp_path, images={"echo": worker}) as first:
        volume = first.rest(
            "POST", "/network-volumes", {"name": "v", "size": 10, "dataCenter": "EU-RO-1"}
        ).json()
        (first.volume_dir(volume["id"]) / "file").write_text("kept")
        endpoint = first.rest("POST", "/serverless", ECHO).json()
        job = first.jobs("POST", f"/{endpoint['id']}/run", {"input": {"do": "sleep", "seconds": 60}}).json()[
            "id"
        ]
        until(lambda: first.jobs("GET", f"/{endpoint['id']}/status/{job}").json()["status"] == "IN_PROGRESS")
        pid = first.state()["workers"][0]["pid"]
        first.fault("/rest/v2/templates", die="before")
        with pytest.raises(httpx.TransportError):
            first.rest("GET", "/templates")
        until(lambda: not alive(pid))
        port = int(first.env["RUNPOD_REST_URL"].split(":")[2].split("/")[0])
        env, code = first.env, first.process.wait()
    with running_emulator(tmp_path, port=port, images={}) as second:
        listed = second.rest("GET", "/network-volumes").json()["networkVolumes"]
        again = second.jobs("GET", f"/{endpoint['id']}/status/{job}").json()

        assert (code, second.env) == (-signal.SIGKILL, env)
        assert listed == [volume]
        assert second.rest("GET", f"/serverless/{endpoint['id']}").json() == endpoint
        assert again == {"id": job, "retries": 1, "status": "IN_QUEUE"}
        assert (second.volume_dir(volume["id"]) / "file").read_text() == "kept"


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_emulator_ends_its_workers_and_exits_0(tmp_path: Path, stop: signal.Signals) -> None:
    """SIGTERM and Ctrl-C are the ordinary way to stop it; no process stays."""
    with running_emulator(tmp_path, images={"echo": IMAGES["echo"]}) as emulator:
        emulator.rest("POST", "/serverless", ECHO | {"workers": {"min": 1, "max": 1}})
        pid = until(lambda: [worker["pid"] for worker in emulator.state()["workers"] if worker["pid"]])[0]
        emulator.process.send_signal(stop)

        assert emulator.process.wait(HANG_S) == 0
        assert not alive(pid)


@pytest.mark.slow
def test_a_port_in_use_is_one_line_and_exit_code_2(emu: Emulator, tmp_path: Path) -> None:
    """What is wrong on the command line is said without a traceback."""
    port = emu.env["RUNPOD_REST_URL"].split(":")[2].split("/")[0]
    command = [PYTHON, "-m", "emulator", "--state", str(tmp_path), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (
        2,
        f"error: cannot listen on 127.0.0.1:{port}: Address already in use\n",
    )


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("echo", "'echo' is not NAME=VALUE"),
        ("a=no-such-program -m x", "the command of image 'a' does not exist: no-such-program"),
        ("a='open", "the command of image 'a' cannot be read: No closing quotation"),
    ],
)
def test_an_image_that_cannot_start_is_refused_at_once(tmp_path: Path, image: str, problem: str) -> None:
    """A mistake in --image is told on the command line, not when the first job waits."""
    command = [PYTHON, "-m", "emulator", "--state", str(tmp_path), "--image", image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.splitlines()[-1].endswith(problem)) == (2, True)


def test_the_environment_file_is_private(emu: Emulator) -> None:
    """It holds keys, so only its owner can read it."""
    assert (emu.root / "environment").stat().st_mode & 0o777 == 0o600
