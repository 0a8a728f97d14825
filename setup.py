"""Builds engine._C (the C++ core, kernels compiled once per instruction set) and the Cython modules.

Everything declarative stands in pyproject.toml. Environment: CXX picks the compiler, ENGINE_BUILD_JOBS the number of
parallel compilations, ENGINE_CXXFLAGS adds flags to every C++ object (sanitizers, -g).
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
BASE_FLAGS = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-DNDEBUG",
    "-g0",
]
# Integer tricks of simd/math.h wrap for NaN lanes; GCC 12 reports its own intrinsics headers as reading uninitialised
# vectors.
KERNEL_FLAGS = ["-fwrapv", "-Wno-unknown-warning-option", "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
OPENMP_FLAGS = ["-fopenmp"]


def instruction_sets() -> list[tuple[str, list[str], str]]:
    """Rows of csrc/isa.txt that fit this machine's architecture, as (name, flags, base or "")."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    rows = []
    for line in (CSRC / "isa.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, architecture, flags, *base = (field.strip() for field in line.split("|"))
            if architecture in ("any", machine):
                rows.append((name, flags.split(), *base, "")[:3])
    return rows


def is_fresh(obj: Path, command: list[str]) -> bool:
    """Whether `obj` was made by the same command from files that have not changed since."""
    deps, cmd = obj.with_suffix(".d"), obj.with_suffix(".cmd")
    if not (obj.exists() and deps.exists() and cmd.exists()) or cmd.read_text() != shlex.join(command):
        return False
    made = obj.stat().st_mtime
    names = deps.read_text().replace("\\\n", " ").split(":", 1)[1].split()
    return all(os.path.exists(name) and os.path.getmtime(name) < made for name in names)


def compile_object(command: list[str], obj: Path) -> str | None:
    """Compiles one object unless it is fresh. Returns the compiler's error output, or None."""
    if is_fresh(obj, command):
        return None
    obj.parent.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return f"{shlex.join(command)}\n{result.stderr}"
    if result.stderr:
        sys.stderr.write(result.stderr)
    obj.with_suffix(".cmd").write_text(shlex.join(command))
    return None


class BuildExt(build_ext):
    """build_ext that compiles csrc/kernels once per instruction set, each into its own folder, in parallel."""

    def build_extension(self, ext: Extension) -> None:
        if ext.name != "engine._C":
            super().build_extension(ext)
            return
        import pybind11

        compiler = shlex.split(os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "g++")
        include = [f"-I{CSRC}"]
        python_include = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
        extra = shlex.split(os.environ.get("ENGINE_CXXFLAGS", ""))
        isas = instruction_sets()
        isa_list = "-DENGINE_ISA_LIST(X)=" + " ".join(f"X({name})" for name, *_ in isas)
        temp = Path(self.build_temp).resolve()

        jobs: list[tuple[list[str], Path]] = []

        def add(source: Path, folder: Path, flags: list[str]) -> None:
            obj = folder / (source.stem + ".o")
            command = [*compiler, *BASE_FLAGS, *extra, *include, *flags, "-MMD", "-MF", str(obj.with_suffix(".d"))]
            jobs.append(([*command, "-c", str(source), "-o", str(obj)], obj))

        for part in ("bindings", "ops", "core", "dispatch"):
            for source in sorted((CSRC / part).glob("*.cpp")):
                flags = [isa_list]
                flags += python_include if part == "bindings" else []
                flags += OPENMP_FLAGS if source.name == "parallel.cpp" else []
                add(source, temp / part, flags)
        for name, isa_flags, base in isas:
            own = [*KERNEL_FLAGS, *isa_flags, f"-DENGINE_ISA={name}", f"-DENGINE_ISA_IS_{name}=1"]
            own += [f"-DENGINE_ISA_BASE={base}"] if base else []
            sources = [CSRC / "kernels" / "table.cpp", *(CSRC / "kernels" / name).glob("*.cpp")]
            for source in sorted(sources if base else (CSRC / "kernels").glob("*.cpp")):
                add(source, temp / "kernels" / name, own)

        workers = int(os.environ.get("ENGINE_BUILD_JOBS", 0)) or os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            errors = [e for e in pool.map(lambda job: compile_object(*job), jobs) if e]
        if errors:
            raise SystemExit("\n".join(errors))

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        shared = (
            ["-bundle", "-undefined", "dynamic_lookup"]
            if sys.platform == "darwin"
            else ["-shared", "-Wl,--strip-debug"]
        )
        objects = [str(obj) for _, obj in jobs]
        # Written beside the target and renamed: a process that has the old extension mapped must not see it change.
        fresh = target.with_name(target.name + ".new")
        subprocess.run([*compiler, *shared, *extra, *objects, *OPENMP_FLAGS, "-pthread", "-o", str(fresh)], check=True)
        os.replace(fresh, target)


def extensions() -> list[Extension]:
    from Cython.Build import cythonize

    modules = [
        Extension(f"engine.data.{path.stem}", [str(path.relative_to(ROOT))], extra_compile_args=["-O3", "-g0"])
        for path in sorted((ROOT / "engine" / "data").glob("*.pyx"))
    ]
    cython = cythonize(modules, language_level=3, build_dir="build/cython")
    return [Extension("engine._C", sorted(str(p.relative_to(ROOT)) for p in CSRC.rglob("*.cpp"))), *cython]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
