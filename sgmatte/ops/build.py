"""The compiled operators: from the sources in ops/ to a shared library in the per-user cache.

A library's name holds a key (of sources, compiler, flags and processor) and the hash of its own content: one that is
stale is never found, one that is damaged is found out before it is loaded, and both are simply built again.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from sgmatte.manifest import home

LOCK_SECONDS = 300.0


class BuildError(Exception):
    """Why there is no library, in one line."""


@dataclass(frozen=True)
class Recipe:
    """How one library is made: `target` is "cpu" or "cuda", `compiler` a command."""

    target: str
    compiler: tuple[str, ...]
    flags: tuple[str, ...]
    link: tuple[str, ...]
    sources: tuple[Path, ...]

    @property
    def key(self) -> str:
        """Changes with all that a library depends on: sources, compiler, flags, and the processor that -march names."""
        program = Path(self.compiler[0]).resolve()
        status = program.stat()
        digest = hashlib.sha256()
        for part in (*self.compiler, str(program), status.st_size, status.st_mtime_ns, *self.flags, *self.link):
            digest.update(f"{part}\0".encode())
        digest.update(_processor().encode())
        for file in sorted({*self.sources, *source_folder().glob("*.h"), *(source_folder() / self.target).glob("*.h")}):
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
        return f"{self.target}-{digest.hexdigest()[:16]}"


def source_folder() -> Path:
    """The folder of the C++ sources: inside an installed package, or at the top of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_bundled" / "ops"
    return installed if installed.is_dir() else package.parent / "ops"


def cache_folder() -> Path:
    return home() / "ops"


def _processor() -> str:
    """What -march=native sees, so that a home shared by several machines holds a library for each kind."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.is_file() else []
    told = [line for line in lines if line.startswith(("model name", "flags", "CPU part", "Features"))][:2]
    return "\n".join([platform.machine(), *(told or [platform.processor()])])


def cxx() -> tuple[str, ...] | None:
    """The C++ compiler: $CXX, else the first of c++, g++ and clang++ on PATH; None where there is none."""
    chosen = os.environ.get("CXX")
    for command in [shlex.split(chosen)] if chosen else [["c++"], ["g++"], ["clang++"]]:
        if command and (program := shutil.which(command[0])):
            return (program, *command[1:])
    return None


def nvcc() -> tuple[str, ...] | None:
    """The CUDA compiler: on PATH, else below $CUDA_HOME or /usr/local/cuda; None where there is none."""
    folders = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    beside = os.pathsep.join(str(Path(folder) / "bin") for folder in folders if folder)
    program = shutil.which("nvcc") or shutil.which("nvcc", path=beside)
    return (program,) if program else None


def ninja() -> str | None:
    """The build tool: on PATH, else the one beside this Python, which the package `ninja` installs."""
    return shutil.which("ninja") or shutil.which("ninja", path=sysconfig.get_path("scripts"))


def cpu_recipe() -> Recipe:
    """The library for CPUs, for this very processor.

    Raises:
        BuildError: no compiler.
    """
    compiler = cxx()
    if compiler is None:
        raise BuildError("no C++ compiler found (g++ or clang++ on PATH, or $CXX)")
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    tuned = ("-march=native", "-mprefer-vector-width=512") if x86 else ("-mcpu=native",)
    flags = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fopenmp-simd", *tuned)
    libraries = () if sys.platform == "darwin" else ("-pthread", "-ldl")
    return Recipe("cpu", compiler, flags, libraries, tuple(sorted((source_folder() / "cpu").glob("*.cpp"))))


def cuda_recipe(architectures: Sequence[str]) -> Recipe:
    """The library for GPUs of these compute capabilities ("75", "90").

    Raises:
        BuildError: no compiler.
    """
    compiler = nvcc()
    if compiler is None:
        raise BuildError("no nvcc found (on PATH, or below $CUDA_HOME)")
    codes = (f"-gencode=arch=compute_{name},code=sm_{name}" for name in architectures)
    flags = ("-std=c++17", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden", *codes)
    return Recipe("cuda", compiler, flags, (), tuple(sorted((source_folder() / "cuda").glob("*.cu"))))


@dataclass(frozen=True)
class Built:
    """A library file whose content is known to be whole, and what there is to say about it ("" where nothing is)."""

    path: Path
    remark: str = ""


def cached(recipe: Recipe) -> Path | None:
    """The library of this recipe in the cache; damaged ones do not count."""
    for path in sorted(cache_folder().glob(f"{recipe.key}-*.so")):
        if path.stem.endswith(_hash(path.read_bytes())):
            return path
    return None


def built(recipe: Recipe) -> Built:
    """The library of this recipe: from the cache, or else built into it; where that cannot be written, beside it.

    Raises:
        BuildError: no ninja, a compiler's error, or another process that builds for minutes.
    """
    path = cached(recipe)
    if path is not None:
        return Built(path)
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=LOCK_SECONDS):
            path = cached(recipe)  # another process may have built it meanwhile
            return Built(path or _compiled_into(folder, recipe))
    except Timeout as error:
        raise BuildError(f"{folder / 'lock'}: another process has held it for {LOCK_SECONDS:.0f} s") from error
    except OSError as error:
        temporary = Path(tempfile.mkdtemp(prefix="sgmatte-ops-"))
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        remark = f"{folder} cannot be written ({error.strerror or error}), so they are built anew in every process"
        return Built(_compiled_into(temporary, recipe), remark)


def _compiled_into(folder: Path, recipe: Recipe) -> Path:
    """Build in a folder of its own and move only the finished library. The caller holds the lock."""
    for leftover in folder.glob("build-*"):  # of a build that was interrupted
        shutil.rmtree(leftover, ignore_errors=True)
    for damaged in folder.glob(f"{recipe.key}-*.so"):
        damaged.unlink()
    work = Path(tempfile.mkdtemp(prefix="build-", dir=folder))
    try:
        compile_(recipe, work)
        library = work / "library.so"
        path = folder / f"{recipe.key}-{_hash(library.read_bytes())}.so"
        os.replace(library, path)
        return path
    finally:
        shutil.rmtree(work, ignore_errors=True)


def compile_(recipe: Recipe, work: Path) -> None:
    """Run ninja in `work`, which afterwards holds library.so.

    Raises:
        BuildError: no ninja, or the compiler's first error.
    """
    program = ninja()
    if program is None:
        raise BuildError("no ninja found (`pip install ninja`)")
    (work / "build.ninja").write_text(_ninja_file(recipe), encoding="utf-8")
    done = subprocess.run([program, "-C", str(work)], capture_output=True, text=True)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        told = [line for line in lines if "error:" in line.lower()] or lines[-1:] or ["no message"]
        raise BuildError(f"{Path(recipe.compiler[0]).name} failed: {told[0]}")


def _ninja_file(recipe: Recipe) -> str:
    def command(*parts: str) -> str:
        return shlex.join(parts).replace("$", "$$")

    def name(path: Path) -> str:
        return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

    objects = [f"{source.stem}.o" for source in recipe.sources]
    return "\n".join(
        [
            "rule compile",
            f"  command = {command(*recipe.compiler, *recipe.flags)} -c $in -o $out",
            "rule link",
            f"  command = {command(*recipe.compiler, '-shared')} $in -o $out {command(*recipe.link)}",
            *(f"build {o}: compile {name(source)}" for o, source in zip(objects, recipe.sources, strict=True)),
            f"build library.so: link {' '.join(objects)}",
            "",
        ]
    )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
