"""What goes into a job at Hedra: files sent up, and arguments as its models take them.

What a model takes is read from the schema that Hedra publishes for it, so that
its models are settings and not code.

Source: Hedra API v3, spec 3.9.0 to 3.17.8 and developer documentation of October 2026.
"""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from backend.comfyui.inputs import bring
from backend.errors import ApiError, InvalidJson, NotSupported, Unavailable
from backend.files.image_size import HEAD_BYTES, image_size
from backend.flow import Flow, Form, FormFile, Send, ask, send, work
from backend.hedra.schema_input import SchemaInput
from backend.settings import Secret
from backend.validation.checks import data_address_bytes, is_address
from backend.validation.json_reader import as_object, as_text, needed_text, objects_in, read_json
from backend.verbs.params import InputLike
from backend.verbs.request import Request
from backend.verbs.result import GeneratedFile
from backend.verbs.seed import seed_of

OTHERS: Final = "The local, runpod and cloud backends can."
ASSET: Final = "asset_"
"""Begins the name of an output that lies at Hedra."""
UPLOAD_LIFE_S: Final = 3000.0
"""An uploaded file is kept for an hour; it is sent again well before."""
SIZES: Final = {"portrait": (768, 1024), "imagine": (1024, 1024)}
QUALITIES: Final = {"draft": "low", "standard": "medium", "high": "high", "ultra": "high"}
MODEL_SETTINGS: Final = {
    "image": "HEDRA_IMAGE_MODEL",
    "audio": "HEDRA_SPEECH_MODEL",
    "video": "HEDRA_AVATAR_MODEL",
}


MAX_LISTED: Final = 10_000
"""Entries of a list after which no further page is asked for."""


class HedraInputs:
    """Inputs for the models of one Hedra account.

    Args:
        url: of the API, with its version.
        key: ``key_id:secret``.
        models: modality (image, audio, video) → the model that is used.
        clock: monotonic seconds.
    """

    def __init__(
        self, url: str, key: Secret, *, models: Mapping[str, str], clock: Callable[[], float]
    ) -> None:
        self._url = url
        self._key = key
        self._models = models
        self._clock = clock
        self._schemas: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._uploads: dict[str, tuple[str, float]] = {}  # name → its URL, and when it was sent

    @property
    def origin(self) -> str:
        """Its name as the holder of files."""
        return f"hedra {self._url}"

    def has(self, name: str, size_bytes: int) -> Flow[bool]:  # noqa: ARG002  # the name tells the content
        """Tell whether a file was sent up by this process, and is still kept."""
        yield from ()
        return name in self._uploads and self._clock() - self._uploads[name][1] < UPLOAD_LIFE_S

    def upload(self, source: Path, name: str, *, subfolder: str = "") -> Flow[str]:
        """Send a file up, which is free, and return the name that stands for it."""
        form = Form(file=FormFile(name="file", filename=name, source=source))
        step = Send("POST", f"{self._url}/files", form=form, key=self._key, timeout_s=300.0)
        answer = (yield from ask(step, f"Send {name} to Hedra")).object()
        url = needed_text(answer, "url", "Hedra's answer to an upload")
        self._uploads[f"{subfolder}/{name}"] = (url, self._clock())
        return f"{subfolder}/{name}"

    def fill(self, request: Request) -> Flow[SchemaInput]:
        """Return a model and what it takes, with what was asked for.

        Raises:
            NotSupported: Hedra cannot do it; the hint says who can, or what it has instead.
        """
        match request.verb:
            case "portrait" | "imagine":
                return (yield from self._picture(request))
            case "tts":
                return (yield from self._speech(request))
            case "lipsync":
                return (yield from self._talking_head(request))
        raise NotSupported(f"Hedra does not run ComfyUI, so {request.verb} is not available.", hint=OTHERS)

    def _picture(self, request: Request) -> Flow[SchemaInput]:
        for name in ("loras", "save_to_avatars"):
            if request.given.get(name):
                raise NotSupported(f"Hedra does not support {name}.", hint=OTHERS)
        filled = yield from self._input(request, "image")
        subject, style = request["prompt" if request.verb == "portrait" else "description"], ""
        if request.verb == "imagine":
            style = request["style"] or ""
            if "quality" in request.given:
                filled.put("quality", QUALITIES[request["quality"]], "quality")
        filled.values["prompt"] = f"{subject}, {style}" if style else subject
        if "negative_prompt" in filled.properties:
            filled.values["negative_prompt"] = request["negative_prompt"]
        width, height = SIZES[request.verb]
        asked = bool(request["width"] or request["height"])
        filled.put_shape(request["width"] or width, request["height"] or height, asked=asked)
        done = {"prompt", "description", "style", "quality", "width", "height", "model", "seed", "loras"}
        done |= {"save_to_avatars", "avatar_name"} | ({"negative_prompt"} & set(filled.properties))
        names = {"steps": "num_inference_steps", "cfg_scale": "guidance_scale"}
        filled.put_rest(request, names, but=done)
        return filled

    def _speech(self, request: Request) -> Flow[SchemaInput]:
        wanted = request["voice_reference"]
        if not isinstance(wanted, str) or "://" in wanted:
            raise NotSupported(
                "Hedra speaks with its own voices and cannot clone one from a recording.",
                hint=f'{OTHERS} With Hedra, voice_reference is the name of a voice, for example "Aria".',
            )
        filled = yield from self._input(request, "audio")
        path = f"/models/{filled.model}/voices"
        voices = yield from self._list(path)
        labels = [(as_text(voice.get("id")), as_text(voice.get("name"))) for voice in voices]
        found = [voice_id for voice_id, name in labels if wanted.lower() in (voice_id.lower(), name.lower())]
        if not found:
            names = ", ".join(name for _, name in labels)
            raise NotSupported(f"{filled.model} has no voice {wanted!r}.", hint=f"Available: {names}.")
        filled.values.update(text=request["text"], voice_id=found[0])
        filled.put_rest(request, {}, but={"text", "voice_reference", "model", "seed"})
        return filled

    def _talking_head(self, request: Request) -> Flow[SchemaInput]:
        filled = yield from self._input(request, "video")
        filled.values["prompt"] = "A person speaks to the camera."
        for name, ours in (("start_image", "portrait_image"), ("audio", "audio")):
            filled.values[name] = yield from self._reference(request[ours])
        size = yield from self._size(request["portrait_image"])
        if size is None:
            filled.warnings.append("The portrait's size could not be read, so the video is square.")
        width, height = size or (1, 1)
        scale = request["min_resolution"] / min(width, height)
        filled.put_shape(round(width * scale), round(height * scale), asked=False)
        if request["duration"] is not None:
            filled.put("duration_ms", round(request["duration"] * 1000), "duration")
        done = {"portrait_image", "audio", "min_resolution", "duration", "seed"}
        filled.put_rest(request, {}, but=done)
        return filled

    def _input(self, request: Request, modality: str) -> Flow[SchemaInput]:
        """Begin an input for the model that was asked for, or set; with the seed, where it takes one."""
        model = request.given.get("model") or self._models[modality]
        if (model, modality) not in self._schemas:
            self._schemas[model, modality] = yield from self._schema(model, modality)
        filled = SchemaInput(model, self._schemas[model, modality])
        seed = request["seed"]
        if "seed" in filled.properties:
            filled.values["seed"] = seed_of(request)
        elif seed is not None and seed >= 0:
            raise NotSupported(f"{model} takes no seed: no result can be had again.", hint=OTHERS)
        return filled

    def _schema(self, model: str, modality: str) -> Flow[Mapping[str, Any]]:
        """Return what a model takes.

        Raises:
            NotSupported: the model is unknown or withdrawn, or generates something else.
        """
        replaced, why = None, f"Hedra's model {model} has no {modality} output."
        try:
            step = Send("GET", f"{self._url}/models/{model}")
            found = (yield from ask(step, f"Ask Hedra for its model {model}")).object()
            if found.get("modality") == modality:
                return as_object(as_object(found.get("input_schema")).get("properties"))
        except ApiError as error:
            if error.status not in (404, 410):
                raise
            why = error.message
            with contextlib.suppress(InvalidJson):
                replaced = as_text(
                    as_object(as_object(read_json(error.body)).get("error")).get("replaced_by")
                )
        models = yield from self._list(f"/models?modality={modality}")
        names = replaced or ", ".join(as_text(each.get("id")) for each in models)
        raise NotSupported(why, hint=f"Available: {names}. Set {MODEL_SETTINGS[modality]} to one of them.")

    def _reference(self, value: InputLike) -> Flow[dict[str, str]]:
        """Bring a file to Hedra, unless it lies there, and return what stands for it in an input."""
        name = yield from bring(self, value)
        if name.startswith(ASSET):
            return {"source": "asset", "asset_id": name}
        if name not in self._uploads:
            raise NotSupported(
                f"Input file {name!r} not found on this machine, and Hedra has no input folder.", hint=OTHERS
            )
        return {"source": "url", "url": self._uploads[name][0]}

    def _size(self, value: InputLike) -> Flow[tuple[int, int] | None]:
        """Read how large a picture is, here or where it lies; None where that cannot be told."""
        file = value.local_path if isinstance(value, GeneratedFile) else value
        if isinstance(file, Path) and file.is_file():
            return image_size((yield from work(lambda: _head(file))))
        address = (value.signed_url or value.remote_url) if isinstance(value, GeneratedFile) else str(value)
        if not address:
            return None
        if address[:5].lower() == "data:":
            return image_size(data_address_bytes(address)[1])
        if not is_address(address):
            return None
        step = Send("GET", address, headers={"Range": f"bytes=0-{HEAD_BYTES - 1}"}, follow_redirects=True)
        with contextlib.suppress(Unavailable):
            return image_size((yield from send(step)).content)
        return None

    def _list(self, path: str) -> Flow[list[Mapping[str, Any]]]:
        """Return all pages of a public list."""
        found: list[Mapping[str, Any]] = []
        query: dict[str, str | int] = {}
        while True:
            reply = yield from ask(Send("GET", self._url + path, query=query), "Ask Hedra for a list")
            page = reply.object()
            found += objects_in(page.get("data"))
            cursor = as_text(page.get("next_cursor"))
            if not cursor or cursor == query.get("cursor") or len(found) > MAX_LISTED:
                return found
            query["cursor"] = cursor


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)
