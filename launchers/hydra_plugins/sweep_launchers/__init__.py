"""How the cells of a grid become jobs: Hydra launchers on one plan."""
