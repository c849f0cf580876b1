"""Say in a worker's words which model file a job lacks, where it belongs and how it gets there. Pure."""

import json

from backend.comfyui.model_folders import category_of, how_to_get, places_of
from backend.errors import ComfyformError, JobFailed


def explained(error: ComfyformError) -> ComfyformError:
    """Return an error with a remedy that fits a worker, where it is about model files that are not there."""
    if isinstance(error, JobFailed) and (error.output or {}).get("missing_models"):
        paths = missing_models(error.worker_error)
        if paths:
            error.output = {"missing_models": paths}
            error.hint = how_to_get(paths)
    return error


def missing_models(refusal: str) -> list[str]:
    """Return the places on the volume of the model files that ComfyUI's refusal says are missing.

    Args:
        refusal: the body of ``POST /prompt`` as it came, JSON.
    """
    found = []
    for node in (json.loads(refusal).get("node_errors") or {}).values():
        for problem in node.get("errors") or ():
            extra = problem.get("extra_info") or {}
            category = category_of(str(node.get("class_type")), str(extra.get("input_name")))
            if problem.get("type") == "value_not_in_list" and category:
                found.append(places_of(category, str(extra["received_value"]))[0])
    return list(dict.fromkeys(found))
