"""Helps to test nbws and what is built on it.

`nbws.testing.trees` makes and compares directory trees; `nbws.testing.strategies` draws them with hypothesis (extra
``nbws[testing]``). Nothing here is imported by the rest of the package but `nbws demo`.
"""
