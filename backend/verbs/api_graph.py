"""A workflow in API format as a caller gives it: read, unwrapped, and cut to what ComfyUI reads of it."""

import os
from collections.abc import Mapping
from typing import Any, Final

from backend.errors import ConfigError, InvalidArgument, InvalidJson
from backend.validation.checks import is_address, json_problems
from backend.validation.json_reader import read_json
from backend.validation.user_paths import user_path

MAX_BYTES: Final = 64 * 1024 * 1024
_SHOWN: Final = 20


def load_graph(path: str | os.PathLike[str]) -> Any:
    """Read a workflow from a JSON file of this machine: UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        InvalidArgument: it cannot be read, or is not JSON.
    """
    try:
        file = user_path(os.fspath(path), "The workflow")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(f"The workflow {str(path)!r} cannot be read: {error.strerror}.") from None
    except ConfigError as error:
        raise InvalidArgument(error.message, hint=error.hint) from None
    except ValueError as error:  # a NUL
        raise InvalidArgument(f"The workflow {str(path)!r} cannot be read: {error}.") from None
    try:
        return read_json(content, what=f"The workflow {str(file)!r}", finite=False, max_bytes=MAX_BYTES)
    except InvalidJson as error:
        raise InvalidArgument(error.message) from None


def unwrapped(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The workflow in the body of ComfyUI's ``/prompt``, or in the input of RunPod's worker-comfyui.

    Source: ComfyUI's POST /prompt takes ``{"prompt": …}``; worker-comfyui's test_input.json is
        ``{"input": {"workflow": …}}``.
    """
    for names in (("input", "workflow"), ("workflow",), ("prompt",)):
        inner: Any = value
        for name in names:
            inner = inner.get(name) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping) and inner and "class_type" not in inner and "class_type" not in value:
            return inner
    return value


def attached_images(value: Any) -> dict[str, str]:
    """The images beside a workflow in an input of worker-comfyui: name in the graph → address or data: URI.

    Source: worker-comfyui takes ``"images": [{"name": …, "image": base64 or a data: URI}]``.

    Raises:
        InvalidArgument: they are not a list of such objects.
    """
    body = value.get("input") if isinstance(value, Mapping) and "input" in value else value
    if not isinstance(body, Mapping) or unwrapped(body) is body or body.get("images") is None:
        return {}
    images = body["images"]
    if not isinstance(images, list) or not all(_is_image(image) for image in images):
        raise InvalidArgument(
            "workflow: images must be a list of objects with name and image.",
            hint='For example {"name": "odin.png", "image": "data:image/png;base64,…"}.',
        )
    return {image["name"]: _image_address(image["name"], image["image"]) for image in images}


def _is_image(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in ("name", "image"))


def _image_address(name: str, image: str) -> str:
    """An image as an input: an address stays, and base64 becomes a data: URI of the type in its name."""
    if is_address(image):
        return image
    suffix = name.rpartition(".")[2].lower()
    media_type = f"image/{suffix}" if suffix.isalnum() else ""
    content = "".join(image.rpartition(",")[2].split())
    return f"data:{media_type};base64,{content}"


def api_graph(value: Any) -> Mapping[str, Any]:
    """A workflow cut to what ComfyUI reads of it: class and inputs of each node, ids as texts.

    Exporters write more, for example ``_meta`` and an ``is_changed`` of NaN, which JSON cannot hold.

    Raises:
        InvalidArgument: it is not one, or an input holds what JSON cannot hold; node and input are named.
        ValueError: it is not an object of nodes; the text ends a sentence.
    """
    from backend.verbs.graph_structure import check_structure

    if not isinstance(value, Mapping) or not value:
        raise ValueError("must be a workflow in API format: an object of nodes")
    nodes = _text_ids(unwrapped(value))
    check_structure(nodes)
    graph = {
        node_id: {"class_type": node["class_type"], "inputs": {str(k): v for k, v in node["inputs"].items()}}
        for node_id, node in nodes.items()
    }
    problems = [
        f"node {node_id} ({node['class_type']}), input {problem}"
        for node_id, node in graph.items()
        for problem in json_problems(node["inputs"])
    ]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InvalidArgument(f"The workflow cannot be sent: {'; '.join(problems[:_SHOWN])}{more}.")
    return graph


def _text_ids(nodes: Mapping[Any, Any]) -> Mapping[str, Any]:
    """The nodes by ids that are texts, as JSON has them, where a Python program numbered them."""
    if all(isinstance(node_id, str) for node_id in nodes):
        return nodes

    def linked(value: Any) -> Any:
        is_link = isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], int)
        return [str(value[0]), value[1]] if is_link and value[0] in nodes else value

    def renamed(node: Any) -> Any:
        inputs = node.get("inputs") if isinstance(node, Mapping) else None
        if not isinstance(inputs, Mapping):
            return node
        return {**node, "inputs": {name: linked(value) for name, value in inputs.items()}}

    return {str(node_id): renamed(node) for node_id, node in nodes.items()}
