"""po-controld, po-workerd and poctl as console scripts: each becomes the program that lies in the wheel."""

import os
import sys

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_bin")


def _is_program(path: str) -> bool:
    """Whether a file is a compiled program: the console scripts, which PATH finds too, would only lead back here."""
    try:
        with open(path, "rb") as file:
            return os.access(path, os.X_OK) and file.read(4) == b"\x7fELF"
    except OSError:
        return False


def find(name: str) -> str:
    """The path of one of the programs: the wheel's own, or else the first in PATH.

    Raises FileNotFoundError if there is neither.
    """
    folders = [_FOLDER, *os.get_exec_path()]
    for folder in folders:
        path = os.path.join(folder, name)
        if _is_program(path):
            return path
    raise FileNotFoundError(
        f"the program {name} is neither in {_FOLDER} (this pipeorch was built without bundled programs) nor in PATH; "
        f"install the programs of pipeorch on the system, or a pipeorch wheel that bundles them"
    )


def _become(name: str) -> None:
    try:
        path = find(name)
        os.execv(path, [name, *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"{name}: {error}")


def controld() -> None:
    """Run po-controld with this process's arguments, in this process."""
    _become("po-controld")


def workerd() -> None:
    """Run po-workerd with this process's arguments, in this process."""
    _become("po-workerd")


def poctl() -> None:
    """Run poctl with this process's arguments, in this process."""
    _become("poctl")
