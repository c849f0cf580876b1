"""A Pulumi program that declares whatever `resources.json` beside it lists.

`tests/infra/test_fields.py` copies it into a project: an entry is the name of a class of
`infra.resources`, a logical name, and the fields.
"""

from __future__ import annotations

import json
from pathlib import Path

from pulumi import ResourceOptions

from infra import resources

for kind, name, fields in json.loads(Path(__file__).with_name("resources.json").read_text()):
    getattr(resources, kind)(name, opts=ResourceOptions(protect=False), **fields)
