"""Compiles a kernel with g++, cuda_sim.h and cuda_sim.cpp, and launches it on NumPy arrays between guard zones."""

import contextlib
import ctypes
import functools
import hashlib
import math
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

HEADER = Path(__file__).with_name("cuda_sim.h")
RUNTIME = Path(__file__).with_name("cuda_sim.cpp")
#: Compiled as nvcc would mean it, with every warning that would be one there an error; mutate.py clears it.
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-parameter", "-Wno-sign-compare")
#: mutate.py sets another.
OPTIMIZATION = "-O1"
COMPILING = (
    "-fPIC", "-fvisibility=hidden",
    "-fno-strict-aliasing", "-ffp-contract=off", "-fno-exceptions", "-U_FORTIFY_SOURCE",
    # The runtime answers for the sanitizer; without its library a broken launch ends, and Python goes on.
    "-fsanitize=bounds,alignment,null,shift,integer-divide-by-zero,signed-integer-overflow", "-fno-sanitize-recover",
)  # fmt: skip
#: Of what runs the kernel, which is the same for all and trusted.
COMPILING_RUNTIME = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-U_FORTIFY_SOURCE")
FLAGS = (*COMPILING, "-shared", "-Wl,-Bsymbolic", "-nodefaultlibs", "-lm", "-lc", "-lgcc")
#: Unmapped memory on either side of an array, so that wild accesses hit it and not Python's memory.
GUARD = 16 << 20
MOST_SHARED = 48 << 10
_VECTORS = re.compile(r"\b(?:float|double|int|uchar)[234]\b")
_LAUNCH_BOUNDS = r"__launch_bounds__\s*\(\s*(\d+)[^()]*\)\s*{}\s*\("


class SimulatorError(Exception):
    """A launch did what no launch may do: a divergent barrier, an access outside an array, ..."""


class LaunchError(SimulatorError):
    """The launch does not fit the kernel: argument types, the grid, the block."""


class CompileError(SimulatorError):
    """The source does not compile."""


class NotFoundError(SimulatorError):
    """The source has no `extern "C" __global__` function of that name."""


def compile(source, name, *, sanitize=False, options=()):
    """Return the kernel `name` of a CUDA source, ready to be launched.

    With `sanitize`, each launch runs twice, the arrays once directly before and once directly behind unmapped memory,
    and both must give the same; without it, directly before it.
    """
    compiler = _compiler()
    library = _library(compiler, source, name, tuple(options))
    return Kernel(library, source, name, sanitize)


@functools.cache
def _compiler():
    """Return the path of g++ and what it says of itself; skip the test where there is none, but never in CI."""
    path = shutil.which("g++") if sys.platform == "linux" else None  # elsewhere that name is often clang
    if path is None:
        reason = "the CUDA simulator needs Linux and g++ on the PATH"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path, subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout


@functools.cache
def cache_folder():
    """Return where compiled kernels are kept, for this user only: what lies there is loaded."""
    folder = Path(tempfile.gettempdir(), f"gpunet-simulator-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022 or folder.is_symlink():
        return Path(tempfile.mkdtemp(prefix="gpunet-simulator-"))
    return folder


def _made_once(name, key, suffix, make):
    """Return the file or folder in the cache for this key; where there is none, `make(path)` makes it.

    It is made aside and moved, so that no other process takes half of it; where another was faster, its own stays.
    """
    made = cache_folder() / f"{name}{hashlib.sha256(chr(0).join(key).encode()).hexdigest()[:32]}{suffix}"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as aside:
            make(Path(aside, made.name))
            with contextlib.suppress(OSError):
                Path(aside, made.name).rename(made)
    return made


@functools.cache
def header(optimization, standard="-std=c++17"):
    """Return the header, compiled ahead: to read it takes longer than to compile a kernel."""
    path, version = _compiler()
    flags = (optimization, *COMPILING, standard)

    def make(folder):
        folder.mkdir()
        shutil.copy(HEADER, folder)
        command = [path, "-x", "c++-header", folder / HEADER.name, *flags, "-w"]
        subprocess.run(command, capture_output=True, check=True)

    return _made_once("header-", [version, _text(HEADER), *flags], "", make) / HEADER.name


@functools.cache
def runtime():
    """Return what runs a kernel, as an object file to be linked to each."""
    path, version = _compiler()

    def make(file):
        command = [path, "-c", RUNTIME, "-o", file, *COMPILING_RUNTIME]
        subprocess.run(command, capture_output=True, check=True)

    return _made_once("runtime-", [version, _text(HEADER), _text(RUNTIME), *COMPILING_RUNTIME], ".o", make)


@functools.cache
def _text(path):
    return path.read_text(encoding="utf-8")


def _library(compiler, source, name, options):
    path, version = compiler
    translated = _translate(options)
    flags = [OPTIMIZATION, *FLAGS, *WARNINGS, *translated]

    def make(file):
        included = header(OPTIMIZATION, translated[0])
        text = f'#include "{included}"\n#line 1 "{name}.cu"\n{source}\n#line 1 "the simulator"\nSIM_ENTRY({name})\n'
        command = [path, "-x", "c++", "-", "-x", "none", runtime(), "-o", file, *flags]
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            if f"'{name}' was not declared in this scope" in done.stderr:
                raise NotFoundError(f"the source has no kernel {name}")
            raise CompileError(f"{name} does not compile:\n{done.stderr}")

    return _made_once("", [version, _text(HEADER), _text(RUNTIME), *flags, name, source], ".so", make)


def _translate(options):
    """NVRTC's options as g++'s."""
    flags = ["-std=c++17"]
    for option in options:
        standard = re.fullmatch(r"-?-std=(c\+\+(?:14|17|20))", option)
        if standard:  # the header needs 17
            flags[0] = f"-std={standard[1].replace('14', '17')}"
        elif re.match(r"-D\w", option):
            flags.append(option)
        else:
            raise LaunchError(f"the simulator does not know the compiler option {option!r}")
    return flags


class Parameter(NamedTuple):
    pointer: bool
    const: bool
    dtype: np.dtype
    lanes: int  # of a vector type

    @classmethod
    def parse(cls, code):
        pointer, const, kind, size, lanes = re.fullmatch(r"(\*?)(c?)(.)(\d+),(\d+)", code).groups()
        if kind == "?" or (lanes != "1" and not pointer):
            raise LaunchError("the simulator passes numbers and pointers to numbers, nothing else")
        dtype = np.dtype(bool) if kind == "b" else np.dtype(f"{kind}{size}")
        return cls(bool(pointer), bool(const), dtype, int(lanes))

    def __str__(self):
        name = f"{self.dtype}{self.lanes if self.lanes > 1 else ''}"
        return f"{'const ' if self.const else ''}{name}*" if self.pointer else name


class Kernel:
    """A compiled kernel. `Kernel(grid, block, args, order)` runs it; arrays are NumPy's, and change in place."""

    def __init__(self, library, source, name, sanitize):
        self.name = name
        self.sanitize = sanitize
        # PyDLL keeps Python's lock: the simulator has one state for each library.
        self._library = ctypes.PyDLL(str(library))
        if not hasattr(self._library, name):
            raise NotFoundError(f'{name} is there, but not as an extern "C" __global__ function')
        self._library.sim_signature.restype = ctypes.c_char_p
        self._library.sim_shared.restype = ctypes.c_long
        self.parameters = [Parameter.parse(code) for code in self._library.sim_signature().decode().split()]
        bounds = re.search(_LAUNCH_BOUNDS.format(re.escape(name)), source)
        self._most_threads = min(1024, int(bounds[1])) if bounds else 1024
        # Vector types need their alignment, as on a device; for all else an array's end can lie at the very end.
        self._alignment = 16 if _VECTORS.search(source) else 1
        shared = self._library.sim_shared()
        if shared > MOST_SHARED and source.count("__global__") == 1:
            raise CompileError(f"{name} has {shared:,} bytes of shared memory; a block has {MOST_SHARED:,}")

    def __call__(self, grid, block, args, order="ascending"):
        if order not in ("ascending", "descending"):
            raise LaunchError(f"order is 'ascending' or 'descending', got {order!r}")
        size = self.check(grid, block, args)
        regions = _regions(args, self.parameters, self._alignment)
        results = self._run(size, args, order, regions, at_end=True)
        if self.sanitize:
            again = self._run(size, args, order, regions, at_end=False)
            if results != again:
                raise SimulatorError(f"{self.name}: the results depend on what lies beyond its arrays")
        for region, result in zip(regions, results, strict=True):
            if result is not None:
                ctypes.memmove(region.first, result, len(result))

    def check(self, grid, block, args):
        """Raise what a launch with these would, before anything runs; return the grid and block for C."""
        size = self._size(grid, block)
        self._check_arguments(args)
        return size

    def _size(self, grid, block):
        for what, numbers in (("grid", grid), ("block", block)):
            if not isinstance(numbers, tuple) or not 1 <= len(numbers) <= 3:
                raise LaunchError(f"{self.name}: {what} is a tuple of 1 to 3 integers, got {numbers!r}")
            if not all(isinstance(n, (int, np.integer)) and n >= 1 for n in numbers):
                raise LaunchError(f"{self.name}: {what} has integers of at least 1, got {numbers!r}")
        size = [int(n) for part in (grid, block) for n in (*part, 1, 1)[:3]]
        limits = (2**31 - 1, 65535, 65535, 1024, 1024, 64)
        if any(n > limit for n, limit in zip(size, limits, strict=True)):
            raise LaunchError(
                f"{self.name}: grid {grid} and block {block} exceed CUDA's {limits[:3]} and {limits[3:]}"
            )
        if math.prod(size[3:]) > self._most_threads:
            raise LaunchError(f"{self.name}: a block has at most {self._most_threads} threads, got {block}")
        return (ctypes.c_uint * 6)(*size)

    def _check_arguments(self, args):
        if len(args) != len(self.parameters):
            raise LaunchError(f"{self.name} takes {len(self.parameters)} arguments, got {len(args)}")
        for i, (parameter, arg) in enumerate(zip(self.parameters, args, strict=True)):
            what = f"{self.name}: argument {i} is {parameter}, got"
            if not isinstance(arg, np.ndarray if parameter.pointer else np.generic):
                raise LaunchError(f"{what} {type(arg).__name__}")  # CuPy would pass its bytes as they are
            if arg.dtype != parameter.dtype:
                raise LaunchError(f"{what} {arg.dtype}")
            if not parameter.pointer:
                continue
            if not (arg.flags.c_contiguous or arg.flags.f_contiguous):
                raise LaunchError(f"{what} an array with strides, which a kernel does not see")
            if not (parameter.const or arg.flags.writeable):
                raise LaunchError(f"{what} a read-only array")

    def _run(self, size, args, order, regions, at_end):
        """Launch on copies; return each region's bytes afterwards, None for what the kernel only reads."""
        places = [_Place(region, at_end) for region in regions]
        try:
            values = []
            for i, (parameter, arg) in enumerate(zip(self.parameters, args, strict=True)):
                if parameter.pointer:
                    region, place = next(x for x in zip(regions, places, strict=True) if i in x[0].arguments)
                    values.append(ctypes.c_void_p(place.start + _address(arg) - region.first))
                else:
                    values.append(ctypes.create_string_buffer(arg.tobytes(), max(arg.nbytes, 1)))
            pointers = (ctypes.c_void_p * max(len(values), 1))(*[ctypes.addressof(value) for value in values])
            fault, message = ctypes.c_void_p(), ctypes.c_char_p()
            failed = self._library.sim_launch(
                pointers, size, order == "descending", ctypes.byref(fault), ctypes.byref(message)
            )
            if failed:
                where = next((f" {text}" for place in places if (text := place.describe(fault.value))), "")
                raise SimulatorError(f"{self.name}: {message.value.decode()}{where}")
            for place in places:
                place.check(self.name)
            return [
                None if place.region.const else ctypes.string_at(place.start, place.region.size) for place in places
            ]
        finally:
            for place in places:
                place.free()


class _Region(NamedTuple):
    """Memory of the host that one argument takes, or several that overlap."""

    first: int
    size: int
    arguments: tuple
    const: bool
    dtype: np.dtype
    alignment: int
    misaligned: int  # how far the start lies from that alignment in its allocation


def _address(array):
    return array.__array_interface__["data"][0]


def _regions(args, parameters, alignment):
    pointers = [i for i, parameter in enumerate(parameters) if parameter.pointer]
    regions = []
    for i in sorted(pointers, key=lambda i: _address(args[i])):
        arg, first = args[i], _address(args[i])
        last = regions[-1] if regions else None
        if last is not None and arg.nbytes and first < last.first + last.size:
            end = max(last.first + last.size, first + arg.nbytes)
            regions[-1] = last._replace(
                size=end - last.first,
                arguments=(*last.arguments, i),
                const=last.const and parameters[i].const,
            )
            continue
        root = arg
        while isinstance(root.base, np.ndarray):
            root = root.base
        misaligned = (first - _address(root)) % alignment
        regions.append(_Region(first, arg.nbytes, (i,), parameters[i].const, arg.dtype, alignment, misaligned))
    return regions


_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class _Place:
    """A region's copy between unmapped memory; what is left of its pages is poisoned, and stays as it is."""

    def __init__(self, region, at_end):
        self.region = region
        room = region.size + region.alignment
        self._mapped = -(-room // mmap.PAGESIZE) * mmap.PAGESIZE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._base = _LIBC.mmap(None, self._mapped + 2 * GUARD, 0, flags, -1, 0)
        if self._base == ctypes.c_void_p(-1).value:
            raise MemoryError(os.strerror(ctypes.get_errno()))
        self._first = self._base + GUARD
        self._last = self._first + self._mapped
        if _LIBC.mprotect(self._first, self._mapped, mmap.PROT_READ | mmap.PROT_WRITE):
            raise MemoryError(os.strerror(ctypes.get_errno()))
        if at_end:
            self.start = self._last - region.size
            self.start -= (self.start - region.misaligned) % region.alignment
        else:
            self.start = self._first + region.misaligned
        before, after = self.start - self._first, self._last - self.start - region.size
        # As the array's pattern begins at its start, so do those of the zones, backwards and forwards.
        self._zones = [
            (self._first, _poison(region, before, backwards=True)),
            (self.start + region.size, _poison(region, after)),
        ]
        for address, zone in self._zones:
            ctypes.memmove(address, zone, len(zone))
        ctypes.memmove(self.start, region.first, region.size)

    def check(self, name):
        for (address, zone), side in zip(self._zones, ("before its start", "behind its end"), strict=True):
            if ctypes.string_at(address, len(zone)) != zone:
                raise SimulatorError(f"{name}: writes outside {self._name()}, {side}")

    def describe(self, fault):
        """Say where an address lies, if it is near this place."""
        if fault is None or not self._base <= fault < self._last + GUARD:
            return None
        end = self.start + self.region.size
        if fault >= end:
            return f"{fault - end} bytes behind the end of {self._name()}"
        return f"{self.start - fault} bytes before the start of {self._name()}"

    def _name(self):
        numbers = ", ".join(str(i) for i in self.region.arguments)
        return f"argument {numbers} ({self.region.size // self.region.dtype.itemsize} {self.region.dtype})"

    def free(self):
        _LIBC.munmap(self._base, self._mapped + 2 * GUARD)


def _poison(region, size, backwards=False):
    """Bytes that change whatever they get into: signalling NaNs, which do not stay as they are in arithmetic.

    Each argument has its own, so that copying one's poison over another's shows.
    """
    dtype, own = region.dtype, region.arguments[0] & 0xFF
    if dtype == np.float64:
        unit = (0xFFF4A500A5A5A500 | own << 8 | own).to_bytes(8, "little")
    elif dtype == np.float32:
        unit = (0xFFA0A500 | own).to_bytes(4, "little")
    else:
        unit = bytes([0xA5 ^ own]) * dtype.itemsize
    repeated = unit * (size // len(unit) + 1)
    return repeated[len(repeated) - size :] if backwards else repeated[:size]
