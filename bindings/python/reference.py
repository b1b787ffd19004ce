#!/usr/bin/env python3
"""Build the reference of the package from its docstrings, as HTML.

    reference.py FOLDER     make the folder's files; index.html is the first

Needs pdoc, and a pipeorch that can be imported. Exit status 1: something public has no docstring, or pdoc warned; what, is said.
"""

import importlib
import inspect
import pathlib
import sys
import typing
import warnings

sys.path.remove(str(pathlib.Path(__file__).resolve().parent))  # the package that is installed, not the one beside this file

import pdoc  # noqa: E402

MODULES = ["pipeorch", "pipeorch.schema", "pipeorch.testing", "pipeorch.errors"]


def members(module):
    """(name, object) of everything public in a module, and of what is public in its classes."""
    for name in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
        thing = getattr(module, name)
        if inspect.ismodule(thing) or getattr(thing, "__module__", "").split(".")[0] != "pipeorch":
            continue
        yield f"{module.__name__}.{name}", thing
        if inspect.isclass(thing) and not issubclass(thing, BaseException):
            for member, value in vars(thing).items():
                if not member.startswith("_") and (callable(value) or isinstance(value, (property, classmethod, staticmethod))):
                    yield f"{module.__name__}.{name}.{member}", value


def resolve(thing):
    """pdoc does not find the names in the annotations of a NamedTuple, whose __new__ is of no module."""
    if inspect.isclass(thing) and issubclass(thing, tuple) and hasattr(thing, "_fields"):
        thing.__new__.__annotations__ = typing.get_type_hints(thing)


def main(folder):
    undocumented = []
    for module in map(importlib.import_module, MODULES):
        for name, thing in members(module):
            resolve(thing)
            if not inspect.getdoc(thing):
                undocumented.append(name)
    if undocumented:
        return "without a docstring: " + ", ".join(undocumented)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pdoc.pdoc(*sorted(set(MODULES) - {"pipeorch.errors"}), output_directory=pathlib.Path(folder))  # pipeorch names errors itself
    return "\n".join(str(warning.message) for warning in told)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    problems = main(sys.argv[1])
    if problems:
        sys.exit(problems)
