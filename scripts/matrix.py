"""``make test-matrix``: runs the tests on every supported Airflow, each in an environment of its own.

An environment has the packages of its Airflow's own days, as Airflow's constraint files would choose them: what a user
of that version has. ``--quick`` runs what tells most for its time, ``--browser`` looks at the page of batches with
Chromium. Names of versions choose some of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).parents[1]
ENVIRONMENTS = CHECKOUT / ".venv" / "matrix"
UV = CHECKOUT / ".venv" / "bin" / "uv"


class Kind(NamedTuple):
    """One version of Airflow, the Python that it is tested with, and the day whose packages it gets."""

    airflow: str
    python: str
    #: Newest day of packages; without it, the pins in ``constraints.txt``, or else the newest packages.
    day: str | None = None
    pinned: bool = False


KINDS = (
    Kind("3.0.6", "3.10", "2025-09-20"),
    Kind("3.1.3", "3.12", "2025-11-20"),
    Kind("3.2.0", "3.13", "2026-05-01"),
    Kind("3.3.2", "3.13", pinned=True),
    # Until 3.4.0 is there.
    Kind("3.4.0b2", "3.13"),
)

#: What Airflow's constraint files pin, as far as our tests install it.
PINNED_WITH_AIRFLOW = (
    "apache-airflow-providers-amazon[s3fs]",
    "apache-airflow-providers-common-sql",
    "apache-airflow-providers-postgres",
    "apache-airflow-providers-sqlite",
    "fastapi",
    "httpx",
    "moto[s3]",
    "pandas",
    "pyarrow",
    "python-multipart",
    "uvicorn",
)

EXTRAS = ".[costs,emulator,parquet,sql,zstd]"

#: Tests of what differs most between versions of Airflow: tasks, triggers, and the decorator.
QUICK = (
    "tests/integration/test_decorator.py",
    "tests/integration/test_hook_connection.py",
    "tests/integration/test_operators_create.py",
    "tests/integration/test_operators_download.py",
    "tests/integration/test_sensor_verdicts.py",
    "tests/integration/test_trigger.py",
)


def main() -> int:
    """Run the tests on all chosen versions, even after a failure, and print what became of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", help="versions of Airflow; by default all of them")
    parser.add_argument(
        "--quick", action="store_true", help="only unit tests, some of integration, and a Dag"
    )
    parser.add_argument("--browser", action="store_true", help="only the tests with a browser")
    arguments = parser.parse_args()
    known = [kind.airflow for kind in KINDS]
    if unknown := set(arguments.versions) - set(known):
        parser.error(f"{', '.join(sorted(unknown))} is not tested; known are {', '.join(known)}")
    chosen = [kind for kind in KINDS if not arguments.versions or kind.airflow in arguments.versions]
    results = [f"Airflow {kind.airflow}, Python {kind.python}: {_test(kind, arguments)}" for kind in chosen]
    print("\n" + "\n".join(results))
    return 0 if all(": passed" in result for result in results) else 1


def _test(kind: Kind, arguments: argparse.Namespace) -> str:
    """Run the tests on one version; tell which steps failed, and how long each took."""
    python = ENVIRONMENTS / kind.airflow / "bin" / "python"
    tests = ("tests/unit", *QUICK) if arguments.quick else ("tests/unit", "tests/integration")
    steps: dict[str, Callable[[], bool]] = {
        "install": lambda: _install(kind, python, *(("browser",) if arguments.browser else ())),
        "tests": lambda: _run(python, "-m", "pytest", "--quiet", "--numprocesses", "2", *tests),
        "Dag": lambda: _run(python, "scripts/demo.py"),
    }
    if arguments.browser:
        steps = {
            "install": steps["install"],
            "page": lambda: _run(python, "-m", "pytest", "--quiet", "tests/browser"),
        }
    failed, times = [], []
    for name, step in steps.items():
        print(f"\n== Airflow {kind.airflow}, Python {kind.python}: {name}", flush=True)
        began = time.monotonic()
        succeeded = step()
        times.append(f"{name} {time.monotonic() - began:.0f} s")
        if not succeeded:
            failed.append(name)
            if name == "install":
                break
    verdict = f"FAILED: {', '.join(failed)}" if failed else "passed"
    return f"{verdict} ({', '.join(times)})"


def _install(kind: Kind, python: Path, *groups: str) -> bool:
    """Make the environment, with what the package and its tests need, and further groups."""
    folder = python.parents[1]
    airflow = (f"apache-airflow=={kind.airflow}", f"apache-airflow-core=={kind.airflow}")
    pins = CHECKOUT / "constraints.txt" if kind.pinned else folder / "constraints.txt"
    if not _uv("venv", "--quiet", "--clear", "--python", kind.python, str(folder)):
        return False
    if not kind.pinned:
        until = ("--exclude-newer", kind.day) if kind.day else ()
        wanted = "\n".join((*airflow, *PINNED_WITH_AIRFLOW))
        compile_pins = ("pip", "compile", "--quiet", "--python", str(python), "-o", str(pins), *until, "-")
        if not _uv(*compile_pins, standard_input=wanted):
            return False
    return _uv(
        *("pip", "install", "--quiet", "--python", str(python), "--constraints", str(pins)),
        *("--editable", EXTRAS, *airflow, "--group", "test"),
        *(part for group in groups for part in ("--group", group)),
    )


def _uv(*arguments: str, standard_input: str = "") -> bool:
    done = subprocess.run(
        [UV, *arguments], cwd=CHECKOUT, env=_environment(), input=standard_input, text=True, check=False
    )
    return done.returncode == 0


@cache
def _environment() -> dict[str, str]:
    """The environment for uv. With pyenv, a Python is found only if its version is active."""
    if shutil.which("pyenv") is None:
        return dict(os.environ)
    listing = subprocess.run(["pyenv", "versions", "--bare"], stdout=subprocess.PIPE, text=True, check=False)
    return {**os.environ, "PYENV_VERSION": ":".join(listing.stdout.split())}


def _run(*command: str | Path) -> bool:
    return subprocess.run(list(map(str, command)), cwd=CHECKOUT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
