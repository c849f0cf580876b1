"""Ids of jobs: what is none is asked for nowhere, and a job is found by the key that it carries."""

from __future__ import annotations

import pytest

from backend.errors import InvalidArgument, Unavailable
from tests.backend.runpod.test_job_api import ENDED, Play


@pytest.mark.parametrize("job_id", ["../health", "a/b", "x?y=1", "", "x\ny", "é"])
def test_what_is_not_an_id_is_asked_for_nowhere(job_id):
    """With the key in the request, another path would be another operation."""
    play = Play(ENDED)

    for flow in (
        play.plane.status("ep", job_id),
        play.plane.cancel("ep", job_id),
        play.plane.wait("ep", job_id, deadline_s=5.0),
        play.plane.status(job_id, "j"),
        play.plane.submit(job_id, {"a": 1}),
    ):
        with pytest.raises(InvalidArgument, match="is not a"):
            play.run(flow)

    assert play.sent == []


@pytest.mark.parametrize("job_id", ["../../v2/x/health?a=1", "a b\n#c", "", None, 5, ["j"]])
def test_an_id_of_runpods_that_is_none_is_an_error(job_id):
    """The job may be in the queue, so it is not sent again."""
    play = Play({"id": job_id, "status": "IN_QUEUE"})

    with pytest.raises(Unavailable, match="took a job and gave") as caught:
        play.run(play.plane.submit("ep", {"a": 1}))

    assert caught.value.sent
    assert play.sent == ["POST run"]


@pytest.mark.parametrize(
    "listed",
    [
        [{"id": "other", "input": {"journal_key": "k1"}}, {"id": "mine", "input": {"journal_key": "KEY"}}],
        {"requests": [{"id": "mine", "status": "COMPLETED", "input": '{"journal_key": "KEY"}'}]},
        {"id": "ep", "data": {"items": [{"request": {"input": {"journal_key": "KEY"}}, "id": "mine"}]}},
    ],
)
def test_a_job_is_found_by_the_key_that_it_carries(listed):
    """The form of RunPod's list is not documented, so any that shows the input will do."""
    play = Play(listed)

    assert play.run(play.plane.find("ep", "KEY")) == "mine"
    assert play.run(play.plane.find("ep", "OTHER")) is None
