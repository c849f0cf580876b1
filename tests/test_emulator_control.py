"""The emulator's own plane: faults, the log, the clock, a kill and a restart."""

from __future__ import annotations

import httpx
import pytest

from tests.emulation import Emulator


def test_a_fault_that_no_route_can_meet_is_refused(emu: Emulator) -> None:
    """A misspelled pattern is an error at once, not a test that proves nothing."""
    reply = httpx.post(emu.url("control") + "/faults", json={"match": {"path": "/rest/v3/*"}, "status": 500})

    assert (reply.status_code, reply.json()) == (
        422,
        {"error": "no route matches '/rest/v3/*'; GET /_emulator/routes lists them"},
    )


def test_an_unknown_knob_is_refused(emu: Emulator) -> None:
    """A misspelled knob is an error, and nothing else of the same request is applied."""
    before = emu.control("GET", "/knobs")
    reply = httpx.patch(emu.url("control") + "/knobs", json={"cold_start_s": 5.0, "cold_start": 1})

    assert (reply.status_code, reply.json()) == (422, {"error": "no knob is called 'cold_start'"})
    assert emu.control("GET", "/knobs") == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_connection_is_a_transport_error(emu: Emulator, when: str) -> None:
    """A fault may close the connection before or after the plane has acted; the client sees no reply."""
    emu.fault("/rest/v2/network-volumes", cut=when)

    with pytest.raises(httpx.RemoteProtocolError):
        emu.rest("GET", "/network-volumes")
    assert [entry["status"] for entry in emu.requests("GET", "/rest/v2/network-volumes")] == [0]
