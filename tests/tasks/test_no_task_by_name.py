"""No file outside kerasllm/tasks/ names a task or asks which it is: the contract says all."""

import ast
from pathlib import Path

import kerasllm
from kerasllm.tasks import task as tasks

PACKAGE = Path(kerasllm.__file__).parent
# (file, word): why it may stand there.
ALLOWED = {
    ("data/chat/conversation_files.py", "preference"): "the format of a record, by its keys",
    ("data/chat/conversations.py", "preference"): "the format of a record, by its keys",
    ("data/chat/formats.py", "preference"): "the format of a record, by its keys",
    ("data/report/rows.py", "preference"): "the format of a record, by its keys",
    ("training/preference_loss.py", "preference"): "the name of a Keras loss",
    ("models/__init__.py", "causal_lm"): "a module of that folder",
    ("models/huggingface/heads.py", "is_classifier"): "asks config.json of transformers",
}


def test_no_file_outside_tasks_names_a_task():
    words = {*tasks.names(), "is_classifier"}
    found = {
        (str(file.relative_to(PACKAGE)), word)
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.parent != PACKAGE / "tasks"
        for word in _words(file)
        if word in words
    }
    assert not found - ALLOWED.keys()
    assert not ALLOWED.keys() - found, "no longer there: remove it from ALLOWED"


def _words(file: Path):
    """Yields the strings and names of a file's code, and the modules that it takes from tasks."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kerasllm.tasks"):
            yield node.module.rpartition(".")[2]
            yield from (each.name for each in node.names)
