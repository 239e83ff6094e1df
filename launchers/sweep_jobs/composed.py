"""Every point of a grid, composed on the submitting machine, before the first of them runs.

Hydra composes a point in a tenth of a second, and a grid has a thousand. So it composes once for
every choice of options, and the values that differ beyond that are set as Hydra sets them: last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, reduce
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from sweep.config import freeze
from sweep.explain import no_such_key


def frozen(
    context: HydraContext, config: DictConfig, points: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """The points as frozen configurations: what runs later is what was composed now.

    Raises:
        Refusal: see `sweep.config.freeze`; or a key that is not there.
        HydraException: an option that is not there.
    """
    loader = context.config_loader
    parser = OverridesParser.create()
    bases: dict[tuple[str, ...], tuple[DictConfig, Any, Any]] = {}

    @cache
    def parse(text: str) -> Override:
        return parser.parse_override(text)

    @cache
    def is_group(key: str) -> bool:
        return bool(loader.get_group_options(key.split("@")[0]))

    def sets_a_value(override: Override) -> bool:
        changes = not (override.is_add() or override.is_force_add() or override.is_delete())
        return changes and not is_group(override.get_key_element())

    def one(point: Sequence[str]) -> dict[str, Any]:
        parsed = [parse(text) for text in point]
        values = [override for override in parsed if sets_a_value(override)]
        options = tuple(str(o.input_line) for o in parsed if o not in values)
        if options not in bases:
            composed = loader.load_sweep_config(config, list(options))
            own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
            OmegaConf.set_struct(own, True)
            raw = OmegaConf.to_container(own, resolve=False)
            bases[options] = own, raw, composed.hydra.runtime.choices
        base, raw, choices = bases[options]
        with _set(base, values, raw, choices):
            return freeze(base, choices, point)

    return [one(point) for point in points]


@contextmanager
def _set(
    config: DictConfig, values: Sequence[Override], raw: Any, choices: Mapping[str, Any]
) -> Iterator[None]:
    """Other values in a configuration for a while, which is much faster than another copy.

    Args:
        config: the configuration.
        values: overrides of keys that it has.
        raw: what it holds, as plain data, nothing resolved.
        choices: the option of every group.

    Raises:
        Refusal: it has no such key.
    """
    done: list[str] = []
    try:
        for override in values:
            key = override.get_key_element()
            try:
                OmegaConf.update(config, key, override.value(), merge=True)
            except (ConfigAttributeError, ConfigKeyError) as error:
                group = key.partition(".")[0]
                chosen = choices.get(group)
                option = f"{group}={chosen}" if isinstance(chosen, str) else None
                raise no_such_key(str(override.input_line), error, option) from error
            done.append(key)
        yield
    finally:
        for key in reversed(done):
            before = reduce(lambda node, name: node[name], key.split("."), raw)
            OmegaConf.update(config, key, before, merge=False)


def returned(points: Sequence[Sequence[str]]) -> list[JobReturn]:
    """What Hydra wants back. Results are files; this says only that nothing was refused."""
    value: Any = None
    return [
        JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=value)
        for overrides in points
    ]
