"""The optional compiled training engine; everything else is in pyproject.toml."""

import sysconfig
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("kernels", "cpu")

#: One build for all Pythons from 3.11 on; a Python without a GIL has no such thing.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[
        Extension(
            "gpunet._engine",
            sources=sorted(str(path) for path in SOURCES.glob("*.cpp")),
            depends=sorted(str(path) for path in SOURCES.glob("*.h")),
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED_API else [],
            language="c++",
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-g0",
                "-ffp-contract=fast",
                "-fno-math-errno",
                "-fno-trapping-math",
                "-fvisibility=hidden",
            ],
            py_limited_api=LIMITED_API,
            optional=True,  # without a compiler that can build it, gpunet trains with NumPy
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)
