"""Who may include or import whom. The two tables are the documentation, and the test reads them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Folder of csrc -> what its files may include, by prefix. The longest folder that fits counts.
INCLUDES = {
    "core": ("core/",),
    "quant": ("quant/", "core/error.h"),
    "kernels": ("kernels/", "quant/", "core/"),  # dispatch and the features of the processor
    "kernels/generic": ("kernels/generic/", "kernels/kernel_table.h", "kernels/scalar/simd.h",
                        "quant/"),
    "kernels/scalar": ("kernels/generic/", "kernels/scalar/", "kernels/kernel_table.h", "quant/"),
    "kernels/avx2": ("kernels/generic/", "kernels/avx2/", "kernels/kernel_table.h", "quant/"),
    "kernels/avxvnni": ("kernels/generic/", "kernels/avx2/", "kernels/avxvnni/",
                        "kernels/kernel_table.h", "quant/"),
    "kernels/avxvnni_evex": ("kernels/generic/", "kernels/avxvnni/", "kernels/kernel_table.h"),
    "kernels/avx512vnni": ("kernels/generic/", "kernels/avx2/", "kernels/avx512vnni/",
                           "kernels/kernel_table.h", "quant/"),
    "kernels/neon": ("kernels/generic/", "kernels/neon/", "kernels/kernel_table.h", "quant/"),
    "kernels/neon_dotprod": ("kernels/generic/", "kernels/neon/", "kernels/neon_dotprod/",
                             "kernels/kernel_table.h", "quant/"),
    "io": ("io/", "quant/", "core/"),
    "ops": ("ops/", "quant/", "core/"),
    "ops/cpu": ("ops/", "quant/", "core/", "kernels/dispatch.h", "kernels/kernel_table.h"),
    "model": ("model/", "ops/ops.h", "ops/tensor.h", "ops/device.h", "io/", "quant/", "core/"),
    "text": ("text/", "core/"),
    "sampling": ("sampling/", "core/", "kernels/dispatch.h", "kernels/kernel_table.h"),
    "bindings": ("bindings/", "core/", "quant/", "kernels/", "io/", "ops/", "model/", "text/",
                 "sampling/"),
}  # fmt: skip

# An object compiled for a newer processor must hold no function that the linker might prefer to
# the portable copy of it: so nothing of the standard library but what is
# always inlined (ctest looks into the objects too, with nm).
KERNEL_STANDARD_HEADERS = {
    "arm_neon.h", "bit", "cmath", "cstddef", "cstdint", "cstring", "immintrin.h", "type_traits",
    "utility",
}  # fmt: skip

INTRINSICS = {"immintrin.h", "arm_neon.h", "x86intrin.h"}
# The floating point environment and the pause of a waiting thread have no other spelling.
MAY_USE_INTRINSICS = {"core/float_environment.h", "core/thread_pool.cpp"}

# Module of the package -> what it may import of the package.
IMPORTS = {
    "errors": set(),
    "stream": set(),
    "token_tree": set(),
    "snapshots": {"state", "token_tree"},
    "prefix_key": {
        "_core", "errors",
        "model", "session", "state",  # for their types alone
    },
    "snapshot_file": {
        "errors", "prefix_key", "snapshots", "state_container", "state_file", "token_tree",
    },
    "snapshot_folder": {
        "_core", "errors", "prefix_key", "snapshot_file", "snapshots", "state_container",
        "token_tree", "whole_file",
    },
    "prefix_cache": {
        "errors", "prefix_key", "snapshot_folder", "snapshots", "token_tree", "whole_file",
        "model", "session", "state",  # for their types alone
    },
    "whole_file": set(),
    "zeros": set(),
    "imatrix": {
        "_core", "errors", "file_types", "imatrix_directions", "model", "perplexity", "predictions",
    },
    "imatrix_directions": {"_core"},
    "imatrix_file": {"_core", "errors", "imatrix", "whole_file"},
    "predictions": {"errors", "model"},
    "perplexity": {"errors", "model", "predictions"},
    "kl_base": {"errors", "predictions", "tokenizer", "whole_file"},
    "bundled": set(),
    "sampling": {"_core"},
    "fingerprint": {"_core"},
    "header_fields": {"errors"},
    "state": {
        "_core", "errors", "fingerprint", "whole_file",
        "model",  # for its type alone
        "rwkv_cpp_state", "state_blend", "state_container", "state_file",  # made late
    },
    "state_container": {"_core", "errors", "header_fields", "whole_file"},
    "state_file": {
        "errors", "fingerprint", "header_fields", "state_container",
        "model", "state",  # for their types alone
    },
    "state_blend": {"errors", "state"},
    "rwkv_cpp_state": {"errors", "model", "state"},
    "profiles": {"sampling"},
    "templates": {"errors", "templates", "tokenizer"},  # tokenizer: for its type alone
    "tokenizer": {"_core", "errors", "gguf_vocabulary"},  # gguf_vocabulary: made late
    "gguf_vocabulary": {"errors", "tokenizer"},
    "file_types": {"_core", "errors"},
    "tuned_state": {
        "checkpoints", "errors", "state",
        "model",  # for its type alone
    },
    "checkpoints": {
        "_core", "checkpoints", "errors", "file_types",
        "strategy",  # for its type alone
    },
    "model": {
        "_core", "bundled", "checkpoints", "errors", "fingerprint", "state", "tokenizer",
        "tuned_state", "zeros",
        # made late:
        "embedding", "rwkv_cpp_state", "session", "session_file", "state_container", "state_file",
        "strategy", "templates",
    },
    "strategy": {"file_types"},
    "embedding": {"model", "state"},  # for their types alone
    "session": {
        "errors", "model", "sampling", "state", "stream", "whole_file",
        "session_file", "state_container", "state_file",  # made late
    },
    "session_file": {
        "_core", "errors", "header_fields", "sampling", "session", "state_container", "state_file",
        "tuned_state",
        "model",  # for its type alone
    },
    "__init__": {
        "_core", "bundled", "errors", "fingerprint", "model", "prefix_cache", "prefix_key",
        "sampling", "session", "snapshots", "state", "stream", "tokenizer",
    },
    "writers": {
        "_core", "checkpoints", "errors", "gguf_vocabulary", "templates", "tokenizer", "writers",
    },
    "convert": {
        "checkpoints", "errors", "gguf_vocabulary", "tokenizer", "whole_file", "writers",
    },
    "quantization": {
        "_core", "checkpoints", "convert", "errors", "file_types", "imatrix", "imatrix_file",
        "model", "perplexity", "predictions", "quantization", "sampling", "tokenizer",
        "whole_file", "writers",
    },
    "engine": {
        "engine", "errors", "predictions", "prefix_cache", "prefix_key", "sampling", "state",
        "stream",
        "model",  # for its type alone
    },
    "chat": {"", "chat", "header_fields", "profiles", "templates", "tokenizer"},
    "server": {
        "", "embedding", "engine", "profiles", "server", "state_container", "state_file", "stream",
        "templates", "tuned_state",
        "tokenizer",  # for its type alone
    },
    "__main__": {"cli"},
    "roofs": {"_core", "model"},
    "speed": {"model", "sampling", "state"},
    # "": what anybody can import from rwkvcpp
    "cli": {
        "", "chat", "cli", "convert", "file_types", "gguf_vocabulary", "imatrix", "imatrix_file",
        "kl_base", "perplexity", "predictions", "profiles", "quantization", "roofs", "server",
        "session_file", "speed", "state_container", "state_file", "zeros",
    },
}  # fmt: skip

CPP_FILES = sorted(p for kind in ("*.h", "*.cpp") for p in (ROOT / "csrc").rglob(kind))
PY_FILES = sorted((ROOT / "python" / "rwkvcpp").rglob("*.py"))


def cpp_name(path: Path) -> str:
    return path.relative_to(ROOT / "csrc").as_posix()


def layer(name: str) -> str:
    fitting = [folder for folder in INCLUDES if name.startswith(folder + "/")]
    assert fitting, f"{name} is in no layer: give its folder a line in INCLUDES"
    return max(fitting, key=len)


KERNEL_FILES = [path for path in CPP_FILES if layer(cpp_name(path)).startswith("kernels/")]


def included(path: Path, opening: str) -> list[str]:
    return re.findall(rf'^\s*#\s*include {opening}([^">]+)', path.read_text(), flags=re.M)


def test_there_are_files_to_check():
    assert len(CPP_FILES) > 50
    assert len(PY_FILES) > 10


@pytest.mark.parametrize("path", CPP_FILES, ids=cpp_name)
def test_cpp_file_includes_only_what_its_layer_may(path):
    allowed = INCLUDES[layer(cpp_name(path))]
    assert [name for name in included(path, '"') if not name.startswith(allowed)] == []


@pytest.mark.parametrize("path", KERNEL_FILES, ids=cpp_name)
def test_kernels_use_no_library_that_could_leave_functions_behind(path):
    assert set(included(path, "<")) <= KERNEL_STANDARD_HEADERS


@pytest.mark.parametrize("path", CPP_FILES, ids=cpp_name)
def test_intrinsics_stay_in_the_folders_of_their_instruction_sets(path):
    name = cpp_name(path)
    if not name.startswith("kernels/") and name not in MAY_USE_INTRINSICS:
        assert INTRINSICS.isdisjoint(included(path, "<"))


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports; "" for the package's public face."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "rwkvcpp":
            found |= {alias.name if is_module(alias.name) else "" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rwkvcpp."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == "rwkvcpp"]
            found |= {name.partition(".")[2].partition(".")[0] for name in names}
    return found


def is_module(name: str) -> bool:
    package = ROOT / "python" / "rwkvcpp"
    return name == "_core" or (package / f"{name}.py").exists() or (package / name).is_dir()


@pytest.mark.parametrize("path", PY_FILES, ids=lambda p: str(p.relative_to(ROOT / "python")))
def test_module_imports_only_what_it_may(path):
    name = path.relative_to(ROOT / "python" / "rwkvcpp").with_suffix("").parts[0]
    assert imported(path) - IMPORTS[name] == set()


def test_no_module_of_ours_is_imported_relatively():
    relative = [
        str(path)
        for path in PY_FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []
