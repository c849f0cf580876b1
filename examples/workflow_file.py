"""Run a workflow of your own: python examples/workflow_file.py WORKFLOW.json OUTPUT [NAME=FILE...]

The workflow is in API format (in ComfyUI: Workflow > Export (API)). NAME is
how the workflow names an input, FILE the file that takes its place.
"""

import sys

from backend import InvalidArgument, get_backend


def main(workflow: str, output: str, *pairs: str) -> int:
    inputs = dict(pair.split("=", 1) for pair in pairs)
    with get_backend() as backend:
        try:
            result = backend.workflow(workflow, inputs=inputs, output_path=output)
        except InvalidArgument as error:  # yours to mend: nothing was sent
            print(error, file=sys.stderr)
            return error.exit_code
    for file in result.raise_for_failure().files:
        print(file.type, file.local_path, file.size_bytes, file.sha256)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
