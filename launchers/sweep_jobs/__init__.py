"""How planned cells become jobs, on submitit. Hydra's launchers in `hydra_plugins` are its doors.

Apart from them, because Hydra loads what lies in `hydra_plugins` at every start, and anew.
"""
