"""All readers that are fuzzed, by name."""

from reliability.fuzz import book, checkpoint, columns, gz, idx, model, npz, parquet, shards, table, toml
from reliability.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        model.TARGET,
        checkpoint.TARGET,
        idx.TARGET,
        gz.TARGET,
        npz.TARGET,
        table.TARGET,
        columns.TARGET,
        book.TARGET,
        toml.TARGET,
        shards.TARGET,
        parquet.TARGET,
    )
}
