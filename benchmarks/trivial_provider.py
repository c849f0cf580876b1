"""The least that a dynamic resource can be: what the bare engine costs, for bench_pulumi.py."""

from typing import Any

from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider


class TrivialProvider(ResourceProvider):
    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult("id", props)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(False)


class Trivial(Resource, module="bench", name="Trivial"):
    def __init__(self, name: str, value: int) -> None:
        super().__init__(TrivialProvider(), name, {"value": value})
