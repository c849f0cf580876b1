"""Tasks are read from the text of the commands modules, and say what the functions take."""

import importlib
import inspect
import keyword
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.exceptions import Exit

import tasks
from ops.commands.invoke_tasks import LETTERS, run, tasks_of

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = [item for modules in tasks.COMMANDS.values() for item in modules.items()]
MODULES = [module for module, _ in COMMANDS]
SIMPLE = (str, bool, int, float)


@pytest.mark.parametrize(("module", "names"), COMMANDS, ids=MODULES)
def test_a_task_takes_what_its_function_takes(module, names):
    """Names, defaults and order of a task's options are those of the imported function."""
    functions = importlib.import_module(module)
    for task in tasks_of(module, names):
        name = (names or {}).get(task.name, task.name)
        function = getattr(functions, f"{name}_" if keyword.iskeyword(name) else name)
        expected = {
            name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
            if isinstance(parameter.default, SIMPLE)
        }

        actual = {
            name: parameter.default
            for name, parameter in inspect.signature(task.body).parameters.items()
            if isinstance(parameter.default, SIMPLE)
        }

        assert expected == actual


@pytest.mark.parametrize("name", sorted(tasks.namespace.task_names))
def test_every_option_is_explained(name):
    """`./inv --help TASK` has a sentence for the task and for each of its options."""
    task = tasks.namespace[name]

    assert task.__doc__
    assert [argument.name for argument in task.get_arguments() if not argument.help] == []


def test_a_letter_means_one_thing_in_every_task():
    """A short option exists only where `LETTERS` has it: -o is the output in every task, -h is help."""
    meanings: dict[str, set[str]] = {}
    for name in tasks.namespace.task_names:
        for argument in tasks.namespace[name].get_arguments():
            for letter in (word for word in argument.names if len(word) == 1):
                meanings.setdefault(letter, set()).add(argument.attr_name or argument.name)

    assert meanings == {letter: {name} for name, letter in LETTERS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("task", ["generate.lipsync", "models.scan", "demo"])
def test_help_works_after_every_task(task, flag):
    """-h after a task shows its help, also where the task still lacks an argument, and runs nothing."""
    command = [sys.executable, "-m", "ops.commands.inv", "--search-root", str(ROOT), task, flag]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)

    assert f"Usage: inv [--core-opts] {task}" in done.stdout


@pytest.mark.slow
def test_listing_the_tasks_imports_none_of_their_modules():
    """`./inv --list` costs no import of a commands module or of what it needs."""
    code = "import sys, tasks; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert set(done.stdout.split()) & {*MODULES, "pulumi", "httpx", "boto3", "pydantic", "rich"} == set()


def test_an_error_is_one_line_and_an_exit_code(capsys, monkeypatch):
    """A mistake of the user's ends with its class's exit code and one line, without a traceback."""
    with pytest.raises(Exit) as ended:
        run("ops.commands.models", "compare")

    assert ended.value.code == 2
    output = capsys.readouterr().err
    assert output.startswith("error: RUNPOD_API_KEY is not set")
    assert len(output.splitlines()) == 1
