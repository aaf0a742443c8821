"""The command `gpunet`, and `python -m gpunet`: chooses OpenBLAS's kernels, then loads what needs NumPy."""

from gpunet import cpu


def main() -> None:
    """Run the command line."""
    cpu.choose_kernels()
    from gpunet import cli  # loads NumPy, and with it OpenBLAS

    cli.main()


if __name__ == "__main__":
    main()
