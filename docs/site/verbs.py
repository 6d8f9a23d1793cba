"""Shows verbs in the API reference as callers see them: what they return, and their asynchronous twins.

In the sources a function marked with ``@verb`` returns a ``Call[Report]``, of which the decorator makes the report, and
``save_async = twin(save)`` looks like a value. The reference is built from the sources alone, without the extension module.
"""

from __future__ import annotations

import inspect
from typing import Any

import griffe


class Verbs(griffe.Extension):  # type: ignore[misc]  # griffe is installed where the site is built
    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        func.returns = _answer(func)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        _replace_twins(cls)
        if "dataclass" in cls.labels:
            _list_all_fields(cls)

    def on_module(self, *, mod: griffe.Module, **_: Any) -> None:
        _replace_twins(mod)


def _answer(function: griffe.Function) -> Any:
    is_verb = any(decorator.callable_path == "nbws.calls.verb" for decorator in function.decorators)
    # Seen before, it is what callers get already.
    is_call = isinstance(function.returns, griffe.ExprSubscript) and str(function.returns.left) == "Call"
    return function.returns.slice if is_verb and is_call else function.returns


def _replace_twins(parent: Any) -> None:
    for name, member in list(parent.members.items()):
        if member.is_alias or not (member.is_attribute and str(member.value).startswith("twin(")):
            continue
        of = parent.members[str(member.value).removeprefix("twin(").removesuffix(")")]
        twin = griffe.Function(
            name,
            lineno=member.lineno,
            endlineno=member.endlineno,
            parameters=of.parameters,
            returns=_answer(of),
            docstring=griffe.Docstring(_twin_docstring(of.name), lineno=member.lineno, parser="google"),
        )
        twin.labels.add("async")
        parent.set_member(name, twin)


def _list_all_fields(cls: griffe.Class) -> None:
    """Puts the fields that need no explanation among those that have one, in the order in which they stand."""
    if cls.docstring is None:
        return
    cls.docstring.parser = griffe.Parser.google
    sections = cls.docstring.parsed
    section = next((found for found in sections if found.kind is griffe.DocstringSectionKind.attributes), None)
    if section is None:
        section = griffe.DocstringSectionAttributes([])
        sections.append(section)
    explained = {field.name: field for field in section.value}
    parents = [cls, *cls.mro()]
    fields = {
        name: member
        for parent in reversed(parents)
        for name, member in parent.members.items()
        if member.is_attribute and "property" not in member.labels and not name.startswith("_")
    }
    section.value = [
        explained.pop(name, None) or griffe.DocstringAttribute(name, annotation=field.annotation, description="")
        for name, field in fields.items()
    ] + list(explained.values())


def _twin_docstring(name: str) -> str:
    return inspect.cleandoc(
        f"Awaits `{name}`: same arguments, answer and errors; a cancelled task interrupts it and awaits its end."
    )
