"""The rules of the house that a machine can check: who may import whom, what stands where, what is generated."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import engine

PACKAGE = Path(engine.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"

# --------------------------------------------------------------------------------------------------------------------
# Python: import directions
# --------------------------------------------------------------------------------------------------------------------

# Higher may import lower. Modules with equal numbers may not import each other.
LEVELS = {
    "_version": 0,
    "_C": 0,
    "cuda": 0,
    "backend": 1,
    "random": 1,
    "autograd": 2,
    "tensor": 3,
    "functional": 4,
    "nn": 6,
    "models": 7,
    "fine_tuning": 8,
    "cli": 9,
    "__main__": 10,
    "__init__": 8,
}
SIDE = {  # beside functional: what each of them must never import
    "algorithms": {"nn", "models", "optim", "data", "train", "callbacks", "cli"},
    "init": {"nn", "models", "optim", "data", "io", "train", "callbacks", "cli"},
    "optim": {"nn", "models", "data", "io", "train", "callbacks", "cli"},
    "data": {"nn", "models", "optim", "train", "callbacks", "cli"},
    "io": {"nn", "models", "optim", "data", "train", "callbacks", "cli"},
    "metrics": {"nn", "models", "optim", "io", "train", "callbacks", "cli"},
    "plots": {"nn", "models", "optim", "train", "callbacks", "cli"},
    "report": {"nn", "models", "optim", "data", "train", "callbacks", "cli"},
    "interpret": {"nn", "models", "optim", "data", "io", "train", "callbacks", "cli"},
    "train": {"nn", "models", "optim", "cli"},
    "callbacks": {"nn", "models", "optim", "cli"},
    "features": {"nn", "models", "optim", "train", "callbacks", "cli"},
    "lr_finder": {"nn", "models", "optim", "cli"},
}


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The top-level part of the package that a file belongs to."""
    inside = path.relative_to(PACKAGE).parts
    return inside[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, part of engine) for every import at run time; ``if TYPE_CHECKING:`` does not count."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    here = ("engine", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "engine" else [module]
        for name in names:
            if name.startswith("engine."):
                yield node.lineno, name.split(".")[1]


def test_imports_point_downward() -> None:
    wrong = []
    for path in python_files():
        own = part(path)
        for line, other in imports(path):
            if other == own or (other not in LEVELS and other not in SIDE):
                continue
            where = f"{path.relative_to(PACKAGE)}:{line} imports {other}"
            if own in SIDE:
                if other in SIDE[own]:
                    wrong.append(where)
            elif own in LEVELS:
                if other in LEVELS and LEVELS[other] >= LEVELS[own]:
                    wrong.append(where)
                if other in SIDE and LEVELS[own] <= LEVELS["functional"]:
                    wrong.append(where)
            else:
                wrong.append(f"{path.relative_to(PACKAGE)}: give {own} a level in this test")
    assert not wrong, "\n".join(wrong)


def test_only_backend_knows_what_computes() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in python_files()
        for line, other in imports(path)
        if other in ("_C", "cuda") and part(path) not in ("backend", "cuda")
    ]
    assert not wrong


OPTIONAL = ("PIL", "tqdm", "matplotlib", "torch", "numba", "scipy", "sklearn", "onnx", "h5py", "tensorboardX")


def test_nothing_optional_is_imported_at_module_level() -> None:
    """NumPy is the only hard dependency; extras are imported where they are used."""
    wrong = []
    for path in python_files():
        for node in ast.parse(path.read_text()).body:
            for inner in [node, *getattr(node, "body", [])] if isinstance(node, ast.If | ast.Try) else [node]:
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    name = inner.names[0].name if isinstance(inner, ast.Import) else inner.module or ""
                    if name.split(".")[0] in OPTIONAL:
                        wrong.append(f"{path.relative_to(PACKAGE)}:{inner.lineno} {name}")
    assert not wrong


def test_rules_above_the_waist_use_no_numpy_on_data() -> None:
    """Forward rules, backward rules and optimizer steps call backend functions only, so that they can be traced."""
    rules = [path for path in python_files() if part(path) in ("autograd", "functional", "optim")]
    assert len(rules) > 15
    for path in rules:
        found = re.search(r"^\s*(import numpy|from numpy)", path.read_text(), re.M)
        assert not found, f"{path.relative_to(PACKAGE)} imports numpy"


def test_backend_names_are_looked_up_at_the_call() -> None:
    """``from engine.backend import conv2d`` would hide a tracer; types may be imported."""
    wrong = []
    for path in python_files():
        if part(path) in ("backend", "__init__"):  # the latter names them for the user
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "engine.backend":
                wrong += [f"{path.relative_to(PACKAGE)}:{node.lineno}" for a in node.names if a.name != "Array"]
    assert not wrong


# --------------------------------------------------------------------------------------------------------------------
# C++: what stands where
# --------------------------------------------------------------------------------------------------------------------

needs_sources = pytest.mark.skipif(not CSRC.is_dir(), reason="the C++ sources are not here")


def sources(*folders: str) -> list[Path]:
    found = [p for f in folders for p in (CSRC / f).rglob("*") if p.suffix in (".h", ".cpp", ".def")]
    assert found, f"no sources in {folders}"
    return sorted(found)


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', path.read_text(), re.M)


ALLOWED_INCLUDES = {
    "core": ("core/",),
    "dispatch": ("core/", "dispatch/"),
    "simd": ("simd/",),
    "kernels": ("dispatch/", "simd/", "kernels/", "core/philox.h"),  # philox.h: static, always inlined
    "ops": ("core/", "dispatch/", "ops/"),
    "bindings": ("core/", "dispatch/", "ops/", "bindings/"),
}


@needs_sources
@pytest.mark.parametrize("folder", list(ALLOWED_INCLUDES))
def test_include_directions(folder: str) -> None:
    wrong = [
        f"{path.relative_to(CSRC)} includes {name}"
        for path in sources(folder)
        for name in includes(path)
        if "/" in name and name.split("/")[0] in ALLOWED_INCLUDES and not name.startswith(ALLOWED_INCLUDES[folder])
    ]
    assert not wrong


@needs_sources
def test_only_bindings_know_python_and_only_parallel_knows_openmp() -> None:
    for path in sources("core", "dispatch", "simd", "kernels", "ops"):
        text = path.read_text()
        assert not re.search(r"pybind11|Python\.h", text), f"{path.name} knows Python"
        if path.name != "parallel.cpp":
            assert not re.search(r"#\s*pragma\s+omp|omp\.h|\bomp_\w+\(", text), f"{path.name} knows OpenMP"
    for path in sources("bindings"):
        assert not re.search(r"#\s*pragma\s+omp|omp\.h", path.read_text()), f"{path.name} knows OpenMP"


@needs_sources
def test_kernels_use_no_library_and_keep_to_their_namespace() -> None:
    """A shared inline function compiled with AVX-512 flags may replace the only copy that an old CPU can run."""
    intrinsics = {"immintrin.h", "arm_neon.h"}
    for path in sources("kernels", "simd"):
        text = path.read_text()
        system = {name for name in includes(path) if "/" not in name} - {"cstdint", "cstddef", "simd.h"} - intrinsics
        system -= {name for name in system if name.endswith(".h") and (CSRC / "simd" / name).exists()}
        assert not system, f"{path.relative_to(CSRC)} includes {system}"
        code = re.sub(r"//.*|/\*.*?\*/", "", text)
        assert "std::" not in code, f"{path.relative_to(CSRC)} uses std::"
        assert not re.search(r"\b(throw|new|malloc|thread_local)\b", code), f"{path.relative_to(CSRC)}"
        if path.suffix == ".cpp":
            assert re.search(r"namespace ENGINE_ISA|namespace engine::ENGINE_ISA", code), f"{path.name}: no ENGINE_ISA"


@needs_sources
def test_every_listed_kernel_exists_and_every_kernel_is_listed() -> None:
    listed = {
        name
        for path in sources("dispatch")
        if path.suffix == ".def"
        for name in re.findall(r"^\s*(?:TILE_)?KERNEL\(\s*(\w+)", path.read_text(), re.M)
    }
    defined = set()
    for path in sources("kernels"):
        text = re.sub(r"//.*", "", path.read_text())
        text = re.sub(r"^namespace \{.*?^\}", "", text, flags=re.M | re.S)  # anonymous: the file's own
        text = re.sub(r"^(template|static)\b[^{;]*", "", text, flags=re.M)
        defined |= set(re.findall(r"^void (\w+)\(const \w+Args& \w+\)\s*\{", text, re.M))
    text = "\n".join(p.read_text() for p in sources("kernels"))
    by_macro = {name for name in listed - defined if re.search(rf"\b{name}\b", text)}
    assert listed, "no kernels listed"
    assert not listed - defined - by_macro, f"listed, not defined: {listed - defined - by_macro}"
    assert not defined - listed, f"defined, not listed: {defined - listed}"


@needs_sources
def test_no_source_is_built_with_flags_of_one_machine() -> None:
    files = [ROOT / "setup.py", CSRC / "CMakeLists.txt", CSRC / "isa.txt", ROOT / "pyproject.toml"]
    for path in files:
        if path.exists():
            assert not re.search(r"march=native|ffast-math|-Ofast|-flto", path.read_text()), path.name


# --------------------------------------------------------------------------------------------------------------------
# The binary
# --------------------------------------------------------------------------------------------------------------------


def extension() -> Path:
    found = sorted(PACKAGE.glob("_C.*.so"))
    assert found, "engine._C is not built"
    return found[0]


# VEX and EVEX mnemonics begin with v (verr and the like are older), mask instructions with k.
NEEDS_AVX = re.compile(
    r"^v(?!err|erw|mcall|mlaunch)|^k(mov|and|x?n?or|test|ortest|shift|unpck|add|not)|[yz]mm|tmm|tilecfg"
)
NEEDS_AVX512 = re.compile(r"zmm|\{k\d\}|\bk[0-7]\b|[xy]mm(1[6-9]|2\d|3[01])\b|tmm|tilecfg")
NEEDS_TILES = re.compile(r"tmm|tilecfg|tilerelease")


def disassembled() -> Iterator[tuple[str, str]]:
    """(demangled function, instruction) of all code: of the extension when its symbols were kept, else of the objects
    that it was linked from."""
    symbols = subprocess.run(["nm", "-C", str(extension())], capture_output=True, text=True, check=False).stdout
    binaries = [extension()] if "engine::generic::" in symbols else sorted((ROOT / "build").glob("temp*/**/*.o"))
    if not binaries:
        pytest.skip("the extension is stripped and was not built here")
    for binary in binaries:
        command = ["objdump", "-d", "-C", "--no-show-raw-insn", "-M", "intel", str(binary)]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if "file format elf64-x86-64" not in listing:
            pytest.skip("only x86-64 has the trap")
        function = ""
        for line in listing.splitlines():
            if line.endswith(">:") and not line.startswith(" "):
                function = line[line.index("<") + 1 : -2]
            elif line.startswith(" ") and "\t" in line:
                yield function, line.split("\t", 1)[1]


def test_no_instruction_stands_outside_its_namespace() -> None:
    """VEX and EVEX instructions only in engine::avx2, avx512 and amx, EVEX only in the latter two, those on tiles
    only in the last; on an older CPU one of them anywhere else is the end of the process."""
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    homes: dict[str, str] = {}
    leaks: dict[str, str] = {}
    for function, instruction in disassembled():
        if function not in homes:
            match = re.search(r"\bengine::(generic|avx2|avx512|amx)::", function)
            homes[function] = match.group(1) if match else ""
        home = homes[function]
        if home == "amx" or not NEEDS_AVX.search(instruction):
            continue
        if home == "avx512" and not NEEDS_TILES.search(instruction):
            continue
        if home == "avx2" and not NEEDS_AVX512.search(instruction):
            continue
        leaks.setdefault(function, instruction)
    for isa, least in (("generic", 20), ("avx2", 20), ("avx512", 20), ("amx", 2)):
        assert list(homes.values()).count(isa) > least, f"only few functions of {isa} were seen"
    shown = "\n".join(f"{name}: {instruction}" for name, instruction in list(leaks.items())[:20])
    assert not leaks, f"{len(leaks)} functions:\n{shown}"


def arguments_in_docstring(doc: str) -> list[list[str]]:
    """The argument names of each signature that pybind11 writes: ``name(a: type = default, ...) -> type``."""
    found = []
    for line in doc.splitlines():
        match = re.match(r"^(?:\d+\. )?\w+\((.*)\)(?: ->.*)?$", line.strip())
        if not match:
            continue
        depth, name, names, text = 0, "", [], match.group(1)
        for char in text + ",":
            depth += (char in "([{") - (char in ")]}")
            if char == "," and depth == 0:
                if name.strip():
                    names.append(re.split(r"[:=]", name)[0].strip())
                name = ""
            else:
                name += char
        found.append([n for n in names if n not in ("*", "/", "self")])
    return found


def test_stubs_equal_the_binary() -> None:
    binary = importlib.import_module("engine._C")
    tree = ast.parse((PACKAGE / "_C.pyi").read_text())
    stubs: dict[str, list[list[str]]] = {}
    classes: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            every = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            stubs.setdefault(node.name, []).append(every)
        elif isinstance(node, ast.ClassDef):
            classes[node.name] = {
                target.name if isinstance(target, ast.FunctionDef) else ast.unparse(target.target)
                for target in node.body
                if isinstance(target, ast.FunctionDef | ast.AnnAssign)
            }
    public = {n for n in dir(binary) if not n.startswith("_")}
    functions = {n for n in public if callable(getattr(binary, n)) and not inspect.isclass(getattr(binary, n))}
    assert set(stubs) == functions, f"only in stubs: {set(stubs) - functions}; only in binary: {functions - set(stubs)}"
    for name in functions:
        real = arguments_in_docstring(getattr(binary, name).__doc__ or "")
        assert stubs[name] == real, f"{name}: stub {stubs[name]}, binary {real}"
    found = {n for n in public if inspect.isclass(getattr(binary, n))}
    assert set(classes) >= found, f"classes without stub: {found - set(classes)}"
    for name in found:
        own = {n for n in vars(getattr(binary, name)) if not n.startswith("_")}
        missing = own - classes[name]
        extra = {n for n in classes[name] if not n.startswith("_")} - own
        assert not missing and not extra, f"{name}: without stub {missing}, only in stub {extra}"


def test_backend_has_all_of_the_binary() -> None:
    from engine import backend

    binary = importlib.import_module("engine._C")
    public = {n for n in dir(binary) if not n.startswith("_")}
    assert not public - set(dir(backend)), f"backend lacks {public - set(dir(backend))}"


# --------------------------------------------------------------------------------------------------------------------
# Files and documentation
# --------------------------------------------------------------------------------------------------------------------


def test_files_are_named_after_a_concept() -> None:
    named_by_torch = {PACKAGE / "nn" / "utils.py"}
    folders = [PACKAGE, *(p for p in (CSRC, ROOT / "tests", ROOT / "benchmarks") if p.is_dir())]
    wrong = [
        str(path)
        for folder in folders
        for path in folder.rglob("*")
        if re.fullmatch(r"_?(utils?|helpers?|misc|common)(_.*)?", path.stem) and path not in named_by_torch
    ]
    assert not wrong


def test_files_have_a_size_that_a_person_can_read() -> None:
    for folder in (PACKAGE, CSRC, ROOT / "tests"):
        for path in folder.rglob("*"):
            if path.suffix in (".py", ".pyx", ".cpp", ".h") and "build" not in path.parts:
                lines = path.read_text().count("\n")
                assert lines <= 2500, f"{path} has {lines} lines"


def public_names(module: ModuleType) -> list[str]:
    """``__all__``, or, in a package that re-exports with ``import x as x``, what has no underscore."""
    return list(getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_") and n != "annotations"]))


def public_objects() -> Iterator[tuple[str, object]]:
    for module_name in ("engine", "engine.functional", "engine.nn", "engine.optim", "engine.init"):
        module = importlib.import_module(module_name)
        for name in public_names(module):
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module_name}.{name}", value


def test_public_names_are_documented() -> None:
    bare = [name for name, value in public_objects() if len((inspect.getdoc(value) or "").strip()) < 3]
    assert not bare


def test_functions_and_layers_have_an_example() -> None:
    found = {
        name: value
        for name, value in public_objects()
        if name.startswith(("engine.functional.", "engine.nn.", "engine.optim."))
    }
    assert len(found) > 60
    without = [name for name, value in found.items() if ">>>" not in (inspect.getdoc(value) or "")]
    assert not without


def test_all_lists_only_what_exists_and_twice_nothing() -> None:
    for module_name in ("engine", "engine.functional", "engine.nn", "engine.optim", "engine.init", "engine.tensor"):
        module = importlib.import_module(module_name)
        names = public_names(module)
        assert len(set(names)) == len(names), module_name
        assert not [n for n in names if not hasattr(module, n)], module_name


def test_functional_has_every_function_of_its_modules() -> None:
    """Tests go through ``engine.functional.__all__``: what is missing there would be tested by nobody."""
    defined = {
        node.name
        for path in (PACKAGE / "functional").glob("*.py")
        if path.stem != "_arguments"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    missing = defined - set(engine.functional.__all__)
    assert len(defined) > 50
    assert not missing
