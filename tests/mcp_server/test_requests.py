"""Requests as real clients send them: half characters, nulls. Each with an id gets an answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.mcp_sessions import settings

HELLO = (
    '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
    '"capabilities":{},"clientInfo":{"name":"js","version":"1"}}}'
)
CALL = '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"portrait","arguments":%s}}'
ARGUMENTS = (
    r'{"prompt":"x \ud83d y","backend":"local"}',
    r'{"prompt":"x \uDC00","negative_prompt":"\udfff","backend":"local"}',
    r'{"prompt":"a cat","output_path":"\ud83d.png","backend":"local"}',
    r'{"\ud83d":"a cat"}',
    r'{"prompt":"\ud83d\ude00 \\ud83d","backend":"local"}',
    '{"prompt":"a cat","model":null,"seed":null,"output_path":null,"backend":"local"}',
    '{"prompt":null}',
)


@pytest.mark.slow
def test_every_request_with_an_id_is_answered(tmp_path: Path) -> None:
    """Each answer is an error, as no ComfyUI runs; a null for an optional argument is not one."""
    env = settings(tmp_path, COMFYUI_URL="http://127.0.0.1:9")
    lines = [HELLO, '{"jsonrpc":"2.0","method":"notifications/initialized"}']
    lines += [CALL % (number, arguments) for number, arguments in enumerate(ARGUMENTS, 1)]
    with subprocess.Popen(
        [sys.executable, "-m", "mcp_server"],
        env={"PATH": "/usr/bin:/bin", **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("\n".join(lines) + "\n")
        process.stdin.flush()
        answers: dict[int, dict[str, Any]] = {}
        while len(answers) < len(ARGUMENTS) + 1:
            answer = json.loads(process.stdout.readline())
            if "id" in answer:
                answers[answer["id"]] = answer
        process.stdin.close()

    texts = {
        number: json.dumps(answers[number].get("result") or answers[number]["error"]) for number in answers
    }
    assert all("127.0.0.1:9" in texts[number] for number in (1, 2, 5, 6)), texts
    assert "of type string" in texts[7]
