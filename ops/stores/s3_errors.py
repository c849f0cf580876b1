"""What the S3 gateway's refusals mean: botocore's exceptions become ours in this one place."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from backend.errors import (
    AuthError,
    ComfyformError,
    ConfigError,
    Forbidden,
    InvalidRequest,
    NotFound,
    Unavailable,
    VolumeFull,
)

_GONE: Final = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload"})
_WRONG_KEY: Final = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "401"})
_FULL: Final = frozenset({"InsufficientStorage", "QuotaExceeded", "507", "EntityTooLarge"})


@contextlib.contextmanager
def translated(what: str, volume_id: str) -> Iterator[None]:
    """Turn botocore's exceptions into ours; they hold the request, so none is kept as a cause."""
    from botocore.exceptions import BotoCoreError, ClientError, EndpointResolutionError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise _client_error(what, volume_id, error.response) from None
    except (ValueError, EndpointResolutionError) as error:  # before anything was sent
        raise ConfigError(
            f"{what}: the S3 address or its region cannot be used: {error}.",
            hint="Check RUNPOD_S3_URL and the volume's data center.",
        ) from None
    except (BotoCoreError, HTTPError) as error:
        raise Unavailable(
            f"{what}: the S3 gateway of volume {volume_id} did not answer ({type(error).__name__})."
        ) from None


def _client_error(what: str, volume_id: str, response: Mapping[str, Any]) -> ComfyformError:
    """Say what an error answer means."""
    details = response.get("Error", {})
    code = str(details.get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = f"{what}: the S3 gateway of volume {volume_id} answered {status} {code}".rstrip() + "."
    call: dict[str, Any] = {"status": status, "body": str(details.get("Message", ""))[:500]}
    if code == "NoSuchBucket":
        return NotFound(
            f"Volume {volume_id} not found at this S3 address.",
            hint="Check the volume's id and its data center; not every data center has S3.",
            **call,
        )
    if code == "AuthorizationHeaderMalformed":
        return InvalidRequest(
            said,
            hint="Its address names no data center, or another one than the volume's. With RUNPOD_API_KEY "
            "set, the volume is asked for its data center.",
            **call,
        )
    if code in _GONE or status == 404:
        return NotFound(said, **call)
    if code in _WRONG_KEY or status == 401:
        return AuthError(
            f"RunPod's S3 does not accept the keys: {code}.",
            hint="Make S3 keys in RunPod's console and set RUNPOD_S3_ACCESS_KEY_ID and "
            "RUNPOD_S3_SECRET_ACCESS_KEY; the API key does not work there.",
            **call,
        )
    if code in _FULL or status == 507:
        return VolumeFull(said, hint="Grow the volume or remove models from it.")
    if status == 403:
        return Forbidden(said, hint="Check that these S3 keys may use this volume.", **call)
    if status >= 500 or status == 429:
        return Unavailable(said, **call)
    return InvalidRequest(said, **call)
