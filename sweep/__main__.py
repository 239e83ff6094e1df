"""`python -m sweep`: a Hydra application that is one screen long and imports nothing heavy.

Hydra composes the configuration; with `-m` the launcher (`hydra/launcher=here`) is given the grid,
without it the one point is run as a grid of one.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import hydra

from sweep.config import CONF
from sweep.explain import explain

if TYPE_CHECKING:
    from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")  # type: ignore[untyped-decorator]
def _app(config: DictConfig) -> None:
    """One point of a grid (Hydra gives grids to the launcher)."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    from sweep.config import freeze
    from sweep.grid import sweep

    with open_dict(config):
        config.hydra = OmegaConf.create({"runtime": {"choices": HydraConfig.get().runtime.choices}})
    sweep([freeze(config)])


def main() -> None:
    """Run the application; a mistake of the user's is one line on stderr.

    With HYDRA_FULL_ERROR=1 every error comes with its full trace.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing several lines
    try:
        _app()
    except KeyboardInterrupt:
        sys.exit("sweep: interrupted; the same command again goes on from here")
    except Exception as error:
        if full:
            raise
        print(f"sweep: {explain(error)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
