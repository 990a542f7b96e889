# SPDX-License-Identifier: Apache-2.0
"""What the scripts of tests/cuda share: nvcc, numpy and the disassembler, or one sentence why they are missing."""
import importlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIP = 77  # ctest's SKIP_RETURN_CODE


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(SKIP)


def find_nvcc():
    for candidate in ("nvcc", "/usr/local/cuda/bin/nvcc"):
        if path := shutil.which(candidate):
            return path
    skip("nvcc is not installed")


def pip_folder(work, package):
    """A folder into which `package` of PyPI is installed, once; None without a network."""
    folder = os.path.join(work, "python", package)
    if not os.path.isdir(folder):
        done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--retries", "1",
                               "--timeout", "20", "--target", folder + ".part", package],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(folder + ".part", ignore_errors=True)
            return None
        os.rename(folder + ".part", folder)
    return folder


def numpy_or_skip(work):
    try:
        return importlib.import_module("numpy")
    except ImportError:
        folder = pip_folder(work, "numpy")
    if folder is None:
        skip("numpy is neither installed nor can pip get it")
    sys.path.insert(0, folder)
    return importlib.import_module("numpy")


def find_cuobjdump(work):
    """cuobjdump of the toolkit or of PyPI; None where there is neither."""
    for candidate in ("cuobjdump", "/usr/local/cuda/bin/cuobjdump"):
        if path := shutil.which(candidate):
            return path
    for package in ("nvidia-cuda-cuobjdump", "nvidia-cuda-nvdisasm"):
        if pip_folder(work, package) is None:
            return None
    found = {}
    for top, _, names in os.walk(os.path.join(work, "python")):
        for tool in ("cuobjdump", "nvdisasm"):
            if tool in names:
                found[tool] = os.path.join(top, tool)
                os.chmod(found[tool], 0o755)
    # cuobjdump starts nvdisasm, which its own package does not bring along.
    if "nvdisasm" in found:
        os.environ["PATH"] = os.path.dirname(found["nvdisasm"]) + os.pathsep + os.environ["PATH"]
    return found.get("cuobjdump")


def nvcc_command(nvcc, arch):
    return [nvcc, "-std=c++20", "--expt-relaxed-constexpr", "-diag-suppress", "1675,2810", f"-arch={arch}",
            "-I", os.path.join(ROOT, "include")]


def compile_cu(nvcc, source, arch, kind, work):
    """Compiles to `-ptx` (the text is returned) or `-cubin` (the messages of ptxas are), into the folder `work`."""
    name = os.path.splitext(os.path.basename(source))[0]
    out = os.path.join(work, f"{name}.{arch}{kind.replace('-', '.')}")
    extra = ["-Xptxas", "-v"] if kind == "-cubin" else []
    done = subprocess.run([*nvcc_command(nvcc, arch), *extra, kind, source, "-o", out], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{source}: does not compile for {arch}\n{done.stderr}")
    if kind == "-ptx":
        with open(out, encoding="utf-8") as f:
            return f.read()
    return done.stderr
