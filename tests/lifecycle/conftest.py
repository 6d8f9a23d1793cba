"""Shared by the tests of a notebook's life. (Not type-checked: another folder has a module of this name; hence no code of its own.)"""

from runs import here, there  # noqa: F401
