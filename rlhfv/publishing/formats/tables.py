"""Parquet files, written row by row, and the types of columns that came from elsewhere."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

GROUP_ROWS = 100
GROUP_BYTES = 32 * 1024 * 1024


def write_table(rows: Iterable[dict], features, file: Path) -> int:
    """Writes a Parquet file that `datasets.load_dataset` opens with these `datasets.Features`; returns how many rows.

    Rows are in memory up to `GROUP_BYTES` of pictures together. The file appears complete or not at all.
    """
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    file.parent.mkdir(parents=True, exist_ok=True)
    temporary, schema, count = file.with_name(f".{file.name}"), features.arrow_schema, 0
    with temporary.open("wb") as opened:
        with ParquetWriter(opened, schema) as writer:
            for group in _groups(rows):
                writer.write_table(Table.from_pylist(group, schema=schema))
                count += len(group)
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(temporary, file)
    return count


def find_features(rows: Iterable[dict], image: str):
    """The `datasets.Features` of these rows, whose column `image` is a picture: each other column has the type that
    holds all its values, or text where there is none.
    """
    import pyarrow
    from datasets import Features, Image

    found: dict[str, pyarrow.DataType] = {}
    for row in rows:
        for name, value in row.items():
            if name == image:
                found[name] = pyarrow.null()
            elif found.get(name) != pyarrow.string():
                found[name] = _unify(found.get(name, pyarrow.null()), value)
    types = {name: pyarrow.string() if pyarrow.types.is_null(type) else type for name, type in found.items()}
    features = Features.from_arrow_schema(pyarrow.schema(types))
    return Features(features | {image: Image()})


def fit(value: object, feature) -> object:
    """A value as a column of `find_features` takes it: as it is, or as text in a column of several types."""
    if getattr(feature, "dtype", None) != "string" or value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def _unify(type, value):
    """The type of `type` and of a value, or string where they have none in common."""
    import pyarrow

    try:
        schemas = [pyarrow.schema({"value": one}) for one in (type, pyarrow.infer_type([value]))]
        unified = pyarrow.unify_schemas(schemas, promote_options="permissive").field("value").type
    except (pyarrow.ArrowException, OverflowError):
        return pyarrow.string()
    return unified


def _groups(rows: Iterable[dict]) -> Iterator[list[dict]]:
    group, size = [], 0
    for row in rows:
        group.append(row)
        size += sum(_size(value) for value in row.values())
        if len(group) == GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _size(value: object) -> int:
    if isinstance(value, dict):
        return sum(_size(inner) for inner in value.values())
    if isinstance(value, list):
        return sum(_size(inner) for inner in value)
    return len(value) if isinstance(value, bytes | str) else 8
