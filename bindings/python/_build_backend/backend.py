"""Build backend (PEP 517): meson-python compiles, then this makes the wheel one that runs anywhere.

What meson-python builds is tagged for one Python, because it cannot know that the library is loaded with ctypes, and
needs libraft, libuv and others from the system. Here it is retagged py3-none, and auditwheel copies those libraries
into it and names the manylinux platform. The sdist is made here too: meson-python would make it from the files of this
folder alone, without the C sources, which lie above it.
"""

import io
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

import mesonpy
from pyproject_metadata import StandardMetadata

HERE = pathlib.Path(__file__).resolve().parents[1]
ROOT = HERE / "subprojects" / "pipeorch"
# What of the root project the wheel is built from.
SOURCES = ("LICENSE", "README.md", "meson.build", "meson_options.txt", "include", "libpipeorch", "daemons")
# What lies in this folder and belongs in no sdist, or is added from elsewhere.
LEFT_OUT = re.compile(r"(^|/)(__pycache__|\.(?!gitignore)[^/]*|dist|wheelhouse|subprojects|_bin|_lib|PKG-INFO)(/|$)")


def _check_sources():
    missing = [name for name in SOURCES if not (ROOT / name).exists()]
    if missing:
        sys.exit(f"pipeorch: {ROOT} must be the root of the sources, as the link is in a checkout, "
                 f"and lacks {', '.join(missing)}; build from a whole checkout, not this folder alone, or from an sdist")


def _tool(*command):
    """Run a Python program of the build environment; its output is shown only if it fails."""
    ran = subprocess.run([sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode != 0:
        sys.exit(f"{ran.stdout}\npipeorch: python -m {' '.join(command)} failed; the lines above say why")


def _repaired(wheel, folder):
    """Make a self-contained py3-none-manylinux wheel of meson-python's, which lies in a scratch folder; its name."""
    _tool("wheel", "tags", "--remove", "--python-tag", "py3", "--abi-tag", "none", str(wheel))
    (retagged,) = wheel.parent.glob("*.whl")
    out = wheel.parent / "repaired"
    _tool("auditwheel", "repair", "--strip", "--wheel-dir", str(out), str(retagged))
    (repaired,) = out.glob("*.whl")
    shutil.copy(repaired, folder)
    return repaired.name


def get_requires_for_build_wheel(config_settings=None):
    return mesonpy.get_requires_for_build_wheel(config_settings)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _check_sources()
    settings = dict(config_settings or {})
    with tempfile.TemporaryDirectory(prefix="pipeorch-wheel-") as scratch:
        if not settings.keys() & {"build-dir", "builddir"}:
            settings["build-dir"] = str(pathlib.Path(scratch, "build"))  # the sources may be read-only
        wheel = pathlib.Path(scratch, mesonpy.build_wheel(scratch, settings, metadata_directory))
        if wheel.name.endswith("-none-any.whl"):  # -Dbundle=false
            shutil.copy(wheel, wheel_directory)
            return wheel.name
        return _repaired(wheel, wheel_directory)


def get_requires_for_build_editable(config_settings=None):
    return []


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    sys.exit("pipeorch: no editable installation, as it would not hold the library; set PYTHONPATH to bindings/python "
             "and PIPEORCH_LIBRARY to the libpipeorch.so of a build folder, which are used as they are at each start")


def _version():
    return re.search(r"^  version: '([^']*)'", (ROOT / "meson.build").read_text(), re.MULTILINE)[1]


def _metadata():
    """PKG-INFO as bytes."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    project = tomllib.loads((HERE / "pyproject.toml").read_text())
    project["project"].update(version=_version(), dynamic=[])
    metadata = StandardMetadata.from_pyproject(project, HERE)
    return bytes(metadata.as_rfc822())


def _files(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def get_requires_for_build_sdist(config_settings=None):
    return []


def build_sdist(sdist_directory, config_settings=None):
    _check_sources()
    top = f"pipeorch-{_version()}"
    members = {path.relative_to(HERE).as_posix(): path for path in _files(HERE)}
    members = {name: path for name, path in members.items() if not LEFT_OUT.search(name)}
    for source in SOURCES:
        paths = _files(ROOT / source) or [ROOT / source]
        members.update({path.relative_to(HERE).as_posix(): path for path in paths if "__pycache__" not in path.parts})
    out = pathlib.Path(sdist_directory, f"{top}.tar.gz")
    with tarfile.open(out, "w:gz", format=tarfile.PAX_FORMAT, dereference=True) as archive:
        for name, path in sorted(members.items()):
            archive.add(path, f"{top}/{name}", recursive=False)
        info = tarfile.TarInfo(f"{top}/PKG-INFO")
        text = _metadata()
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return out.name
