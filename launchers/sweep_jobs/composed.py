"""Every point of a grid, composed on the submitting machine, before the first of them runs.

Hydra composes a point in a tenth of a second, and a grid has a thousand. So it composes once for
every choice of options, and the values that differ beyond that are set as Hydra sets them: last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from sweep.config import freeze
from sweep.explain import no_such_key


class Composer:
    """Points as frozen configurations: what runs later is what was composed now.

    Args:
        context: Hydra's, with which it composes.
        config: the configuration of the command, to which a point adds its words.
    """

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        self._loader = context.config_loader
        self._config = config
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._groups: dict[str, bool] = {}
        self._bases: dict[tuple[str, ...], tuple[DictConfig, Any, Any]] = {}

    def frozen(self, point: Sequence[str]) -> dict[str, Any]:
        """A point, by its words.

        Raises:
            Refusal: see `sweep.config.freeze`; or a key that is not there.
            HydraException: an option that is not there.
        """
        parsed = [self._parse(text) for text in point]
        values = [override for override in parsed if self._sets_a_value(override)]
        options = tuple(str(o.input_line) for o in parsed if o not in values)
        base, raw, choices = self._base(options)
        with _set(base, values, raw, choices):
            return freeze(base, choices, point)

    def _base(self, options: tuple[str, ...]) -> tuple[DictConfig, Any, Any]:
        """What these options make, as a configuration and as plain data; and what was chosen."""
        if options not in self._bases:
            composed = self._loader.load_sweep_config(self._config, list(options))
            own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
            OmegaConf.set_struct(own, True)
            raw = OmegaConf.to_container(own, resolve=False)
            self._bases[options] = own, raw, composed.hydra.runtime.choices
        return self._bases[options]

    def _parse(self, text: str) -> Override:
        if text not in self._parsed:
            self._parsed[text] = self._parser.parse_override(text)
        return self._parsed[text]

    def _sets_a_value(self, override: Override) -> bool:
        changes = not (override.is_add() or override.is_force_add() or override.is_delete())
        return changes and not self._is_group(override.get_key_element())

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            self._groups[key] = bool(self._loader.get_group_options(key.split("@")[0]))
        return self._groups[key]


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
