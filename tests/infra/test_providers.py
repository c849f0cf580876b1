"""Dynamic providers: how they are pickled, what a provider process does with them, and what they refuse."""

from __future__ import annotations

import base64
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dill  # type: ignore[import-untyped]  # it has no stubs
import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.output import UNKNOWN
from pulumi.runtime.proto import engine_pb2_grpc, provider_pb2, provider_pb2_grpc

from backend.errors import ConfigError
from infra import provider_hooks, providers
from infra.provider_hooks import UserError, guarded
from infra.provider_session import Listing
from tests.support.deadlines import HANG_S
from tests.support.emulation import until

# Every class that was ever released: state in users' backends names them.
RELEASED = [
    "infra.providers.NetworkVolumeProvider",
    "infra.providers.TemplateProvider",
    "infra.providers.EndpointProvider",
    "infra.providers.RegistryCredentialProvider",
    "infra.providers.ModelProvider",
]
MODEL = {
    "volume_id": "v",
    "path": "models/a/b.safetensors",
    "source": "url:https://example.com/b",
    "endpoint_id": "e",
    "transport": "job",
    "state": "verified",
}


@pytest.mark.parametrize("name", RELEASED)
def test_a_provider_is_pickled_by_its_name(name: str) -> None:
    """State holds the module and the class, nothing else, and what was released still loads."""
    module, _, cls = name.rpartition(".")
    created = getattr(importlib.import_module(module), cls)()

    pickled = base64.b64decode(serialize_provider(created))

    assert len(pickled) < 120
    assert module.encode() in pickled
    assert cls.encode() in pickled
    assert type(dill.loads(pickled)) is type(created)
    assert created.serialize_as_secret_always is False


def test_a_pickle_does_not_depend_on_the_hash_seed() -> None:
    """Equal under two seeds, or every preview would show a change."""
    program = (
        "from pulumi.dynamic.dynamic import serialize_provider;"
        "from infra.providers import EndpointProvider as E; print(serialize_provider(E()))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(seen) == 1


class Engine(engine_pb2_grpc.EngineServicer):
    """Enough of an engine for a provider process: it takes log lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def Log(self, request: Any, context: Any) -> Any:
        self.lines.append(request.message)
        return importlib.import_module("google.protobuf.empty_pb2").Empty()


class Provider:
    """A real provider process, spoken to as the engine does."""

    def __init__(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.engine = Engine()
        self.server = grpc.server(ThreadPoolExecutor(2))
        engine_pb2_grpc.add_EngineServicer_to_server(self.engine, self.server)
        address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "pulumi.dynamic", address],
            stdout=subprocess.PIPE,
            env={**os.environ, "PULUMI_RUNTIME_VIRTUALENV": ""},
        )
        assert self.process.stdout is not None
        port = self.process.stdout.readline().strip().decode()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = provider_pb2_grpc.ResourceProviderStub(self.channel)
        self.stub.Configure(provider_pb2.ConfigureRequest())

    def check(self, provider: Any, news: dict[str, Any]) -> Any:
        return self.stub.Check(provider_pb2.CheckRequest(news=_struct(provider, news), olds=Struct()))

    def create(self, provider: Any, props: dict[str, Any]) -> Any:
        return self.stub.Create.future(provider_pb2.CreateRequest(properties=_struct(provider, props)))

    def close(self) -> None:
        self.channel.close()
        self.server.stop(None).wait()
        with self.process:
            self.process.kill()


def _struct(provider: Any, values: dict[str, Any]) -> Struct:
    created = Struct()
    created.update({**values, "__provider": serialize_provider(provider)})
    return created


@pytest.fixture
def process_() -> Iterator[Provider]:
    created = Provider()
    yield created
    created.close()


@pytest.mark.slow
def test_an_error_is_one_line_in_a_real_process(process_: Provider) -> None:
    """SDK contract: with our exception class and traceback limit, the text is `comfyform: <sentence>`."""
    with pytest.raises(grpc.RpcError) as caught:
        process_.create(providers.TemplateProvider(), {"name": "a", "image": "b"}).result(120)

    message = caught.value.details()
    assert message.strip() == (
        "comfyform: RUNPOD_API_KEY is not set: RunPod's API wants a key. "
        "Set it, for example: export RUNPOD_API_KEY=…"
    )


@pytest.mark.slow
def test_cancel_ends_a_wait_at_once(process_: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """SDK contract: the Cancel hook is in place, and a create that waits ends with one line."""
    from tests.support.waiting_provider import WaitingProvider

    running = process_.create(WaitingProvider(), {})
    until(lambda: process_.engine.lines)
    process_.stub.Cancel(importlib.import_module("google.protobuf.empty_pb2").Empty())

    with pytest.raises(grpc.RpcError) as caught:
        running.result(120)
    assert caught.value.details().startswith("comfyform: Stopped.")


@pytest.mark.slow
def test_the_process_ends_with_its_engine(process_: Provider) -> None:
    """A provider whose engine is gone ends by itself, whatever it is doing."""
    from tests.support.waiting_provider import WaitingProvider

    # Held, because gRPC cancels a call whose future nobody keeps.
    running = process_.create(WaitingProvider(), {})
    until(lambda: process_.engine.lines)
    process_.server.stop(None).wait()

    assert process_.process.wait(HANG_S) == 1
    assert running.exception() is not None


@pytest.mark.slow
def test_a_check_answers_in_a_real_process(process_: Provider) -> None:
    """Failures of a check come back by property, with defaults filled in beside them."""
    answer = process_.check(providers.NetworkVolumeProvider(), {"name": "v", "size_gb": 5})

    assert sorted((each.property, each.reason) for each in answer.failures) == [
        ("data_center", "is missing"),
        ("size_gb", "Input should be greater than or equal to 10, not 5.0"),
    ]


def test_nothing_but_exceptions_leaves_a_provider() -> None:
    """SystemExit would hang the engine, so it becomes a line that says where."""

    class Odd:
        @guarded
        def leave(self) -> None:
            sys.exit(3)

        @guarded
        def refuse(self) -> None:
            raise ConfigError("This is wrong.", hint="Do that.")

    with pytest.raises(UserError, match=r"bug in .*leave: SystemExit: 3"):
        Odd().leave()
    with pytest.raises(UserError, match=r"^This is wrong\. Do that\.$"):
        Odd().refuse()


def test_prepare_does_nothing_elsewhere() -> None:
    """Only the engine's provider processes are changed, never a program or a test."""
    before = getattr(sys, "tracebacklimit", None)

    provider_hooks.prepare()

    assert getattr(sys, "tracebacklimit", None) == before


def check(provider: Any, news: dict[str, Any], olds: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    return [(each.property, each.reason) for each in provider.check(olds or {}, news).failures]


@pytest.mark.parametrize(
    ("news", "field", "reason"),
    [
        ({"name": "e", "gpu_pools": ["A"]}, "image", "give an image"),
        ({"name": "e", "image": "i"}, "gpu_pools", "exactly one"),
        ({"name": "e", "image": "i", "gpu_pools": ["A"], "cpu": []}, "cpu", "at least 1"),
        ({"name": "e", "image": "i", "cpu": [{"id": "c", "vcpu_count": 6.0}]}, "cpu", "power of two"),
        (
            {"name": "e", "image": "i", "gpu_pools": ["A"], "request_count": 1, "idle_timeout_s": 5},
            "idle_timeout_s",
            "does not apply",
        ),
        (
            {"name": "e", "image": "i", "gpu_pools": ["A"], "type": "LOAD_BALANCER", "queue_delay_s": 4},
            "queue_delay_s",
            "has no queue",
        ),
        ({"name": "e", "image": "i", "gpu_pools": ["A"], "workers_min": 4.0}, "workers_min", "more than"),
        ({"name": "e", "image": "i", "gpu_pools": ["A"], "flashboot": True}, "flashboot", "FLASHBOOT"),
        ({"name": "e", "image": "i", "gpu_pools": ["A"], "gpus": 1}, "gpus", "no such field"),
        (
            {
                "name": "e",
                "image": "i",
                "gpu_pools": ["A"],
                "allowed_cuda_versions": ["12.8"],
                "min_cuda_version": "12.1",
            },
            "min_cuda_version",
            "not both",
        ),
    ],
)
def test_an_endpoint_that_cannot_be(news: dict[str, Any], field: str, reason: str) -> None:
    """Each mistake is named on its own property, before RunPod is asked."""
    ((name, message),) = check(providers.EndpointProvider(), news)

    assert name == field
    assert reason in message


def test_a_volume_never_shrinks_in_place() -> None:
    """A smaller size is refused at preview with both numbers, unless the volume is another one anyway."""
    provider = providers.NetworkVolumeProvider()
    olds = {"name": "v", "size_gb": 20.0, "data_center": "EU-RO-1"}

    ((name, message),) = check(provider, {**olds, "size_gb": 10.0}, olds)

    assert (name, "20" in message and "10" in message) == ("size_gb", True)
    assert check(provider, {**olds, "size_gb": 10.0, "data_center": "US-KS-2"}, olds) == []


def test_what_is_not_known_yet_is_not_judged() -> None:
    """In a preview ids of new resources are unknown; checks and diffs live with that."""
    provider, unknown = providers.EndpointProvider(), UNKNOWN
    news = {"name": "e", "image": unknown, "gpu_pools": ["A"], "volume_ids": [unknown], "env": unknown}

    assert check(provider, news) == []
    inputs = provider.check({}, news).inputs
    old = {**inputs, "image": "i", "volume_ids": ["v"], "env": {}}
    assert provider.diff("id", old, inputs).replaces == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"path": "models/../x"}, "path"),
        ({"path": "somewhere/x"}, "path"),
        ({"source": "ftp://x"}, "source"),
        ({"source": "local:x.safetensors"}, "source"),
        ({"sha256": "abc"}, "sha256"),
    ],
)
def test_a_model_that_cannot_be(change: dict[str, Any], field: str) -> None:
    """A model's mistakes are named by property, too."""
    assert [name for name, _ in check(providers.ModelProvider(), {**MODEL, **change})] == [field]


def test_models_without_a_change_load_no_library_for_it() -> None:
    """Checking and comparing a model takes neither pydantic nor httpx: each `up` does it in a process."""
    program = (
        "import sys; from infra.providers import ModelProvider as M;"
        f"m = {MODEL!r}; inputs = M().check(m, m).inputs; assert M().diff('v/p', m, inputs).changes is False;"
        "print(*sys.modules)"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert sorted({"pydantic", "httpx", "boto3", "huggingface_hub"} & set(loaded.stdout.split())) == []


def test_where_a_model_is_replaces_and_what_it_is_updates() -> None:
    """Another volume or path is another file; another source or hash is the same file, renewed."""
    provider = providers.ModelProvider()
    old = {**MODEL, "size_bytes": 5.0, "sha256": "a" * 64}

    assert provider.diff("id", old, MODEL).changes is False
    moved = provider.diff("id", old, {**MODEL, "volume_id": "w"})
    assert (moved.replaces, moved.delete_before_replace) == (["volume_id"], True)
    renewed = provider.diff("id", old, {**MODEL, "sha256": "b" * 64})
    assert (renewed.changes, renewed.replaces) == (True, [])
    damaged = provider.diff("id", {**old, "state": "damaged: its size changed"}, MODEL)
    assert (damaged.changes, damaged.replaces) == (True, [])
    assert provider.diff("id", {**old, "urn": "x"}, {**MODEL, "urn": "y"}).changes is False


def test_a_listing_is_shared_and_a_failed_one_is_not_kept() -> None:
    """One fetch serves all reads for a while; a failure raises each time and is asked for again."""
    now, fetched = [0.0], []

    def fetch() -> str:
        fetched.append(now[0])
        if now[0] == 0:
            raise ConfigError("no")
        return "listing"

    listing: Listing[str] = Listing(5.0, clock=lambda: now[0])
    for _ in range(2):
        with pytest.raises(ConfigError):
            listing.get("key", fetch)
    now[0] = 1.0
    assert [listing.get("key", fetch) for _ in range(3)] == ["listing"] * 3
    listing.forget("key")
    listing.get("key", fetch)
    now[0] = 10.0
    listing.get("key", fetch)

    assert fetched == [0.0, 0.0, 1.0, 1.0, 10.0]
