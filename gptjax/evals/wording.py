"""Texts from records: templates are Python's format strings, `"{sentence} It is"` or `"{question[stem]}"`."""

import json
import string
from typing import Any

from gptjax.config import ConfigError
from gptjax.data import utf8
from gptjax.data.errors import DataError
from gptjax.data.records import Record


def check(field: str, *templates: str) -> None:
    """Raise `ConfigError` where a template of a configuration's field is none."""
    for template in templates:
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        except ValueError as error:
            raise ConfigError(f"{field}={template!r} is no template ({error}); a brace is written twice") from None
        if "" in names:
            raise ConfigError(f"{field}={template!r} has {{}}, which is the name of no column")


def worded(template: str, record: Record) -> str:
    """The template with the record's fields in it; a text loses the spaces around it, so that the template sets them.

    Raises `DataError` for a field that is missing, or that holds neither text nor a number.
    """
    origin, fields = record
    try:
        return utf8.check(_Formatter().vformat(template, (), fields), origin)
    except DataError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        there = ", ".join(map(str, fields)) or "none"
        raise DataError(f"{origin}: {template!r} asks for {error}; fields are {there}") from None


class _Formatter(string.Formatter):
    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        value, first = super().get_field(field_name, args, kwargs)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError(f"{field_name}, which is {json.dumps(value, default=str)[:40]}, no text or number")
        return (value.strip() if isinstance(value, str) else value), first
