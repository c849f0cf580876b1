"""What is asked for becomes the nearest that a model takes, and the difference is said."""

from __future__ import annotations

import pytest

from backend.hedra.schema_input import SchemaInput
from backend.verbs.request import read

RATIOS = {"enum": ["1:1", "4:3", "3:4", "16:9", "9:16"]}
PIXELS = {"enum": ["540p", "720p", "1080p", "1440p (2K QHD)", "2160p (4K UHD)"]}
FLUX = {"aspect_ratio": RATIOS, "resolution": PIXELS, "steps": {"minimum": 1, "maximum": 50}, "prompt": {}}


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1024, 1024), ("1:1", "1080p")),
        ((960, 540), ("16:9", "540p")),
        ((768, 1024), ("3:4", "720p")),
        ((8192, 4320), ("16:9", "2160p (4K UHD)")),
        ((64, 64), ("1:1", "540p")),
        ((64, 8192), ("9:16", "540p")),
        ((1440, 2560), ("9:16", "1440p (2K QHD)")),
    ],
)
def test_a_size_becomes_the_nearest_shape(size, shape):
    """By ratio first, then by the shorter side; both in proportions, not in pixels."""
    filled = SchemaInput("flux", FLUX)

    filled.put_shape(*size, asked=False)

    assert (filled.values["aspect_ratio"], filled.values["resolution"]) == shape
    assert filled.warnings == []


@pytest.mark.parametrize(
    ("properties", "size", "message"),
    [
        (FLUX, (1280, 720), []),
        (FLUX, (1216, 832), ["m makes no 1216x832: 4:3 at 720p was asked for instead."]),
        ({"aspect_ratio": RATIOS}, (512, 500), ["m makes no 512x500: 1:1 was asked for instead."]),
        ({}, (512, 512), ["m has no width and height: they were left out."]),
    ],
)
def test_a_size_that_is_not_exactly_there_is_said(properties, size, message):
    """To who asked for it, and to nobody else."""
    requested, unasked = SchemaInput("m", properties), SchemaInput("m", properties)

    requested.put_shape(*size, asked=True)
    unasked.put_shape(*size, asked=False)

    assert (requested.warnings, unasked.warnings) == (message, [])


def test_a_number_stays_in_its_range_and_what_is_unknown_is_left_out():
    """Each with a sentence; what fits is given without one."""
    filled = SchemaInput("flux", FLUX)
    request = read("portrait", {"prompt": "x", "steps": 80, "sampler": "euler", "seed": 3})

    filled.put_rest(request, {}, but={"prompt", "seed"})

    assert filled.values == {"steps": 50}
    assert filled.warnings == [
        "flux takes no steps of 80: 50 was used.",
        "flux has no sampler: it was left out.",
    ]
