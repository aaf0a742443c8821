"""Training: the epoch loop, what it records, and how outputs are computed and scored."""
