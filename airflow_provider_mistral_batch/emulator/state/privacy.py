"""The state directory is its owner's alone: it holds prompts, answers and the secret of signed URLs."""

from __future__ import annotations

from pathlib import Path

#: What the emulator puts into its state directory.
_OURS = ("blobs", "emulator.log", "emulator.sqlite", "engine.lock", "server.lock")


def make_private(directory: Path) -> None:
    """
    Make a state directory that nobody but its owner can read.

    A directory that exists is closed to others if there is nothing else in it: it may be the user's home or ``/tmp``.
    What the emulator puts there is closed in any case.

    :param directory: The state directory.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = list(directory.iterdir())
    ours = [path for path in found if path.name.startswith(_OURS)]
    for path in ours:
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)
    if len(ours) == len(found):
        directory.chmod(0o700)
