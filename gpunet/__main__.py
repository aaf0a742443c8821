"""The command `gpunet`, and `python -m gpunet`: chooses OpenBLAS's kernels, then loads what needs NumPy."""

import sys

from gpunet import cpu


def main() -> None:
    """Run the command line."""
    cpu.choose_kernels()
    try:
        from gpunet.cli import commands  # loads NumPy, and with it OpenBLAS

        commands.main()
    except KeyboardInterrupt:
        print("interrupted before anything was done", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
