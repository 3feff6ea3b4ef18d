"""`import rmkit.losses` costs torch and nothing more."""

import subprocess
import sys

CHECK = """
import sys, torch
before = set(sys.modules)
import rmkit.losses
added = {name for name in set(sys.modules) - before if not name.startswith("torch.")}
print(sorted(name for name in added if name.split(".")[0] != "rmkit"))
"""


def test_import_adds_only_rmkit_to_torch():
    run = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.strip() == "[]"
