"""python -m gpunet is the command gpunet."""

from gpunet.cli import main

main()
