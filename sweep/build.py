"""From a frozen configuration to the objects that do the work, with every mistake named.

A node's `_target_` names a class, and the constructor of that class is the schema: each value is
checked against the type of its field (by pydantic), a key that is no field is refused.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from sweep.refusal import Refusal, did_you_mean, under

T = TypeVar("T")


def build(node: Mapping[str, Any], where: str, kind: type[T]) -> T:
    """The object that a node describes; nodes inside it first.

    Args:
        node: has `_target_`, the dotted name of a frozen dataclass, and its fields.
        where: the node's own place in the configuration, for messages.
        kind: the interface that it must have.

    Raises:
        Refusal: an unknown key, a value of the wrong type or out of range, a missing value.
    """
    cls = locate(node.get("_target_"), where)
    if not issubclass(cls, kind):
        raise Refusal(f"{where}._target_", node["_target_"], f"must be a {kind.__name__}")
    values = {key: value for key, value in node.items() if key != "_target_"}
    where = _typed(cls, values, where)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in values:
        if key not in fields:
            raise Refusal(f"{where}.{key}", values[key], unknown_key(cls.__name__, key, fields))
    for name, field in fields.items():
        if name not in values and _required(field):
            raise Refusal(f"{where}.{name}", "???", "must be set")
    checked = {key: _check(cls, key, value, where) for key, value in values.items()}
    with under(where):
        built: T = cls(**checked)
    return built


def _typed(cls: Any, values: Mapping[str, Any], where: str) -> str:
    """Where a node's settings are typed: those of a corpus stand beside the `source` that names it.

    Or in its entry below `corpora`, if it has one.
    """
    corpus = re.fullmatch(r"(.+?)\.source(\..+)?", where)
    if corpus is None:
        return where
    return f"corpora.{values['corpus']}" if getattr(cls, "in_conf", False) else corpus[1]


def unknown_key(owner: str, key: str, known: Mapping[str, Any]) -> str:
    """What to say of a key that is not there: the likely one, and all of them."""
    hint = did_you_mean(key, known)
    return f"{owner} has no such key; {hint}there are: {', '.join(known) or 'none'}"


def locate(target: Any, where: str) -> Any:
    """The class of a dotted name."""
    if not isinstance(target, str) or "." not in target:
        raise Refusal(f"{where}._target_", target, "must be the dotted name of a class")
    module, _, name = target.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Refusal(f"{where}._target_", target, f"cannot be imported ({error})") from error
    if not dataclasses.is_dataclass(cls):
        raise Refusal(f"{where}._target_", target, "must be a dataclass")
    return cls


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _check(cls: Any, key: str, value: Any, where: str) -> Any:
    place = f"{where}.{key}"
    value = _nested(value, place)
    kinds = _kinds(_hints(cls)[key])
    if isinstance(value, bool) and bool not in kinds and {int, float} & {*kinds}:  # true would be 1
        raise Refusal(place, str(value).lower(), "must be a number")
    try:
        return _validator(cls, key)(value)
    except ValidationError as error:
        keys = [*value] if isinstance(value, Mapping) else []
        # of a type that may be several, the first is not always the one that was meant
        inside = [(f".{key}", e) for e in error.errors() for key in keys if key in e["loc"]]
        key, first = inside[0] if inside else ("", error.errors()[0])
        place += key
        reason = first["msg"].replace("Input should be", "must be")
        raise Refusal(place, first["input"], reason) from error


def _nested(value: Any, place: str) -> Any:
    """The value, with every node in it built."""
    if not isinstance(value, Mapping):
        return value
    if "_target_" in value:
        return build(value, place, object)
    return {key: _nested(inner, f"{place}.{key}") for key, inner in value.items()}


@cache
def _validator(cls: Any, key: str) -> Callable[[Any], Any]:
    """Checks a value against the type of a field, and converts it where that loses nothing."""
    hint = _hints(cls)[key]
    config = ConfigDict(arbitrary_types_allowed=True)
    return TypeAdapter(_opaque(hint), config=config).validate_python


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _kinds(hint: Any) -> list[Any]:
    """The types that a value may be of, where there are several."""
    if get_origin(hint) is Annotated:
        return _kinds(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [kind for one in get_args(hint) for kind in _kinds(one)]
    return [hint]


def _opaque(hint: Any) -> Any:
    """The type, with dataclasses in `dict[str, …]` taken as they are: they are built already."""
    from pydantic import InstanceOf

    if get_origin(hint) is not dict:
        return hint
    key, value = get_args(hint)
    if not dataclasses.is_dataclass(value):
        return hint
    return dict[key, InstanceOf[value]]  # type: ignore[valid-type]
