"""Typed fields of rows that come from outside."""

from collections.abc import Iterable

from rlhfv.errors import InvalidData

_TYPE_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def require_type(value: object, expected, name: str) -> None:
    """Raises InvalidData unless the value is of the expected type, or of one of several; true is no number."""
    types = expected if isinstance(expected, tuple) else (expected,)
    if type(value) not in types:
        raise InvalidData(
            f"The field '{name}' is {value!r:.80}.",
            f"It has to be {' or '.join(_TYPE_NAMES[kind] for kind in types)}.",
            "Correct it, or leave it out where it is not needed.",
        )


def read_fields(row: dict, types: dict, name: str, optional: Iterable[str]) -> dict:
    """The fields of a row that `types` knows. Raises InvalidData for a missing one and for one of another type."""
    found = {field: row[field] for field in types if field in row}
    for field in types:
        if field not in found and field not in optional:
            raise InvalidData(
                f"The field '{f'{name}.' if name else ''}{field}' is missing.",
                f"Of {', '.join(types)} only {', '.join(sorted(optional))} may be left out.",
                "Add the field.",
            )
    for field, value in found.items():
        require_type(value, types[field], f"{name}.{field}" if name else field)
    return found


def require_strings(values: list, name: str) -> list[str]:
    """The values. Raises InvalidData unless each is a text."""
    for value in values:
        require_type(value, str, name)
    return values
