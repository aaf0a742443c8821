"""The command `gpunet`."""
