"""From configuration to objects: the constructor is the schema, and every mistake is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from sweep.build import build
from sweep.cell import _parts
from sweep.refusal import Refusal


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, Field(ge=1)] = 1


@dataclass(frozen=True)
class Outer:
    share: float
    kind: Literal["a", "b"] = "a"
    inner: Inner | None = None
    parts: dict[str, Inner] | None = None

    def __post_init__(self) -> None:
        if self.share > 1:
            raise Refusal("share", self.share, "must be at most 1")
        if self.kind == "b" and self.inner is None:
            raise Refusal("inner", None, "must be set for kind=b")


def node(**values: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.Outer", "share": 0.5, **values}


INNER = f"{__name__}.Inner"


def refusal(value: dict[str, Any]) -> str:
    with pytest.raises(Refusal) as caught:
        build(value, "outer", object)
    return str(caught.value)


def test_a_truth_value_is_no_number() -> None:
    assert refusal(node(inner={"_target_": INNER, "size": True})) == (
        "outer.inner.size=true: must be a number"
    )
    assert refusal(node(share=False)) == "outer.share=false: must be a number"


def test_values_become_the_types_of_their_fields() -> None:
    assert build(node(share=1), "outer", Outer) == Outer(share=1.0)


def test_nodes_inside_nodes_are_built_first() -> None:
    built = build(node(inner={"_target_": INNER, "size": 3}), "outer", Outer)
    assert built.inner == Inner(3)


def test_nodes_in_a_mapping_are_built() -> None:
    built = build(node(parts={"x": {"_target_": INNER, "size": 2}}), "outer", Outer)
    assert built.parts == {"x": Inner(2)}


def test_a_misspelt_key_is_named_with_the_likely_one() -> None:
    assert refusal(node(shar=1)).startswith(
        "outer.shar=1: Outer has no such key; did you mean share"
    )


def test_a_value_of_the_wrong_type_is_named() -> None:
    assert refusal(node(share="much")) == (
        "outer.share=much: must be a valid number, unable to parse string as a number"
    )


def test_a_value_out_of_range_is_named_inside_a_nested_node() -> None:
    message = refusal(node(inner={"_target_": INNER, "size": 0}))
    assert message == "outer.inner.size=0: must be greater than or equal to 1"


def test_a_choice_lists_what_there_is() -> None:
    assert refusal(node(kind="c")) == "outer.kind=c: must be 'a' or 'b'"


def test_a_refusal_of_a_constructor_is_placed_at_its_field() -> None:
    assert refusal(node(share=2)) == "outer.share=2.0: must be at most 1"
    assert refusal(node(kind="b")) == "outer.inner=null: must be set for kind=b"


def test_a_missing_value_is_named() -> None:
    assert refusal({"_target_": f"{__name__}.Outer"}) == "outer.share=???: must be set"


def test_a_class_that_does_not_exist_is_named() -> None:
    assert refusal({"_target_": "sweep.method.nothing.Nothing"}).startswith(
        "outer._target_=sweep.method.nothing.Nothing: cannot be imported"
    )


def test_a_part_of_another_kind_is_refused() -> None:
    with pytest.raises(Refusal, match=r"outer\._target_=.*Inner: must be a Outer"):
        build({"_target_": INNER}, "outer", Outer)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("calib=hub", "calib.repo=a/b", "calib.first=0"), "calib.first=0: must be greater"),
        (("calib=hub", "calib.repo=a"), "calib.repo=a: must be OWNER/NAME"),
        (("calib=hub", "calib.repo=a/b", "calib.split=[x]"), "calib.split=['x']: must be"),
        (
            (
                "metric=[tasks]",
                "metric.tasks.source=hub",
                "metric.tasks.repo=a/b",
                "metric.tasks.first=0",
            ),
            "metric.tasks.first=0: must be greater",
        ),
        (
            (
                "calib=mix",
                "++calib.parts.alpaca.source=hub",
                "++calib.parts.alpaca.repo=a/b",
                "++calib.parts.alpaca.first=0",
            ),
            "calib.parts.alpaca.first=0: must be greater",
        ),
        (("corpora=hub", "corpora.c4.first=0"), "corpora.c4.first=0: must be greater"),
        (("corpora=hub", "corpora.c4.repo=c4"), "corpora.c4.repo=c4: must be OWNER/NAME"),
    ],
)
def test_a_setting_of_a_corpus_is_named_as_it_is_typed(
    frozen: Any, words: tuple[str, ...], said: str
) -> None:
    config = frozen(*words)
    with pytest.raises(Refusal) as caught:
        _parts(config)
    assert str(caught.value).startswith(said)
