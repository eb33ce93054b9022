"""The cases, a file each: what is played, and what the files must show afterwards for the play to count.

A case that went wrong (a busy machine can be late by more than a cable is long) says so, and is made again.
"""

import importlib
import pkgutil

from story import Case

_MODULES = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
CASES: dict[str, Case] = {module.CASE.name: module.CASE for module in _MODULES}
