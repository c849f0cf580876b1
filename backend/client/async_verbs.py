"""The verbs as methods of `backend.AsyncBackend`. Written by `./inv docs` from `backend.verbs`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

if TYPE_CHECKING:  # a verb is loaded with its first call
    from backend.client.async_client import AsyncJob
    from backend.flow.http_driver import OnProgress
    from backend.verbs.imagine import ImagineParams
    from backend.verbs.lipsync import LipSyncParams
    from backend.verbs.portrait import PortraitParams
    from backend.verbs.result import GenerationResult
    from backend.verbs.talk import TalkParams
    from backend.verbs.tts import TTSParams
    from backend.verbs.workflow import WorkflowParams


class AsyncVerbs:
    """A method for each verb, and ``submit`` typed by verb."""

    async def imagine(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: "Unpack[ImagineParams]",
    ) -> "GenerationResult":
        """Make a picture from a description, as well as its checkpoint can.

        Args:
            description (text, required): What the picture shows.
            style (text): Its style, added to the description.
            negative_prompt (text, default low quality, blurry): What it must not show. Flux ignores it.
            model (text): Checkpoint file; by default sd_xl_base_1.0.safetensors.
            width (integer 64 to 8192): Width in pixels; by default the model's own.
            height (integer 64 to 8192): Height in pixels; by default the model's own.
            quality (draft | standard | high | ultra, default standard): Number of sampling steps, by name.
            loras (loras): LoRAs: a list of {name, strength_model, strength_clip}.
            seed (integer, at least -1): The same seed gives the same result; -1 is random.
            output_path (path): Where the result goes; further files get -2, -3 before the suffix.
            timeout_s (number): Seconds for the whole call; by default COMFYFORM_TIMEOUT_S.
            on_progress (callable): Called with a mapping at every step of progress.
        """
        return await self.generate("imagine", timeout_s=timeout_s, on_progress=on_progress, **params)

    async def lipsync(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: "Unpack[LipSyncParams]",
    ) -> "GenerationResult":
        """Make a portrait say what an audio file says.

        Args:
            portrait_image (input, required): A picture with a frontal face.
            audio (input, required): Recording to speak, at least a second long.
            duration (number 1 to 3600): Seconds of audio to use; by default all of it.
            inference_steps (integer 1 to 1024, default 25): Sampling steps.
            fps (number 5 to 120, default 25.0): Frames a second.
            svd_checkpoint (text, default svd_xt_1_1.safetensors): SVD checkpoint, in checkpoints/video/.
            sonic_unet (text, default unet.pth): SONIC's UNet, in sonic/.
            dtype (fp16 | fp32 | bf16, default fp16): Precision.
            min_resolution (integer 128 to 2048, default 512): Shorter side in pixels; less needs less
                memory.
            expand_ratio (number 0.1 to 1, default 0.5): Room around the face, as a share of it.
            dynamic_scale (number 0.5 to 2, default 1.0): How much the head moves.
            ip_audio_scale (number 0.5 to 2, default 1.0): How closely the mouth follows.
            use_interframe (boolean, default True): Smooth by interpolated frames.
            seed (integer -1 to 2.14748e+09): The same seed gives the same result; -1 is random.
            output_path (path): Where the result goes; further files get -2, -3 before the suffix.
            timeout_s (number): Seconds for the whole call; by default COMFYFORM_TIMEOUT_S.
            on_progress (callable): Called with a mapping at every step of progress.
        """
        return await self.generate("lipsync", timeout_s=timeout_s, on_progress=on_progress, **params)

    async def portrait(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: "Unpack[PortraitParams]",
    ) -> "GenerationResult":
        """Make a portrait from a prompt.

        Args:
            prompt (text, required): What the picture shows.
            negative_prompt (text, default low quality, blurry): What it must not show. Flux ignores it.
            model (text): Checkpoint file; by default sd_xl_base_1.0.safetensors.
            width (integer 64 to 8192): Width in pixels; by default the model's own.
            height (integer 64 to 8192): Height in pixels; by default the model's own.
            steps (integer 1 to 200): Sampling steps; by default the model's own.
            cfg_scale (number 0 to 30): Guidance; by default the model's own.
            sampler (text): Sampler; by default the model's own.
            scheduler (text): Scheduler; by default the model's own.
            loras (loras): LoRAs: a list of {name, strength_model, strength_clip}.
            seed (integer, at least -1): The same seed gives the same result; -1 is random.
            save_to_avatars (boolean, default False): Keep it among ComfyUI's inputs too, as avatars/NAME.
            avatar_name (text, default generated_portrait.png): The name to keep it under.
            output_path (path): Where the result goes; further files get -2, -3 before the suffix.
            timeout_s (number): Seconds for the whole call; by default COMFYFORM_TIMEOUT_S.
            on_progress (callable): Called with a mapping at every step of progress.
        """
        return await self.generate("portrait", timeout_s=timeout_s, on_progress=on_progress, **params)

    async def talk(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: "Unpack[TalkParams]",
    ) -> "GenerationResult":
        """Make a portrait speak a text in the voice of a recording: tts, then lipsync.

        Args:
            text (text, required): Text to speak.
            voice_reference (input, required): A recording of the voice to clone, 5 to 15 seconds.
            portrait_image (input, required): A picture with a frontal face.
            voice_reference_text (text): What the recording says; by default the .txt file beside it; else
                the optional model whisper-large-v3-turbo recognizes it.
            speed (number 0.25 to 4, default 1.0): 2 speaks twice as fast.
            inference_steps (integer 1 to 1024, default 25): Sampling steps.
            fps (number 5 to 120, default 25.0): Frames a second.
            seed (integer -1 to 2.14748e+09): The same seed gives the same result; -1 is random.
            output_path (path): Where the result goes; further files get -2, -3 before the suffix.
            timeout_s (number): Seconds for the whole call; by default COMFYFORM_TIMEOUT_S.
            on_progress (callable): Called with a mapping at every step of progress.
        """
        return await self.generate("talk", timeout_s=timeout_s, on_progress=on_progress, **params)

    async def tts(
        self,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: "Unpack[TTSParams]",
    ) -> "GenerationResult":
        """Speak a text in the voice of a recording.

        Args:
            text (text, required): Text to speak.
            voice_reference (input, required): A recording of the voice to clone, 5 to 15 seconds.
            voice_reference_text (text): What the recording says; by default the .txt file beside it; else
                the optional model whisper-large-v3-turbo recognizes it.
            speed (number 0.25 to 4, default 1.0): 2 speaks twice as fast.
            model (text, default F5v1): F5-TTS model.
            model_type (text): Its architecture; by default from the model's name.
            vocoder (auto | vocos | bigvgan, default vocos): Vocoder.
            seed (integer -1 to 2.14748e+09): The same seed gives the same result; -1 is random.
            output_path (path): Where the result goes; further files get -2, -3 before the suffix.
            timeout_s (number): Seconds for the whole call; by default COMFYFORM_TIMEOUT_S.
            on_progress (callable): Called with a mapping at every step of progress.
        """
        return await self.generate("tts", timeout_s=timeout_s, on_progress=on_progress, **params)

    @overload
    async def submit(
        self,
        verb: Literal["imagine"],
        *,
        timeout_s: float | None = None,
        **params: "Unpack[ImagineParams]",
    ) -> "AsyncJob": ...

    @overload
    async def submit(
        self,
        verb: Literal["lipsync"],
        *,
        timeout_s: float | None = None,
        **params: "Unpack[LipSyncParams]",
    ) -> "AsyncJob": ...

    @overload
    async def submit(
        self,
        verb: Literal["portrait"],
        *,
        timeout_s: float | None = None,
        **params: "Unpack[PortraitParams]",
    ) -> "AsyncJob": ...

    @overload
    async def submit(
        self,
        verb: Literal["talk"],
        *,
        timeout_s: float | None = None,
        **params: "Unpack[TalkParams]",
    ) -> "AsyncJob": ...

    @overload
    async def submit(
        self,
        verb: Literal["tts"],
        *,
        timeout_s: float | None = None,
        **params: "Unpack[TTSParams]",
    ) -> "AsyncJob": ...

    @overload
    async def submit(
        self,
        verb: Literal["workflow"],
        *,
        timeout_s: float | None = None,
        **params: "Unpack[WorkflowParams]",
    ) -> "AsyncJob": ...

    async def submit(self, verb: str, *, timeout_s: float | None = None, **params: Any) -> "AsyncJob":
        """Submit a verb and come back for its result later, from any process.

        Args:
            verb: "imagine", "lipsync", "portrait", "talk", "tts" or "workflow".
            timeout_s: how long a worker may run.
            params: the verb's own.
        """
        return await self._submit_job(verb, params, timeout_s)

    async def generate(
        self,
        verb: str,
        *,
        timeout_s: float | None = None,
        on_progress: "OnProgress | None" = None,
        **params: Any,
    ) -> "GenerationResult":
        """Run a verb by its name."""
        raise NotImplementedError

    async def _submit_job(self, verb: str, params: Mapping[str, Any], timeout_s: float | None) -> "AsyncJob":
        raise NotImplementedError
