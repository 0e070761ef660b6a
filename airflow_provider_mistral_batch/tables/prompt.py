"""A prompt as a template over columns: ``"Title: {title}\\n\\n{body}"``."""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.tables.python_values import python_values, row_shown, shown

if TYPE_CHECKING:
    import pyarrow

_CONVERSIONS: dict[str | None, Callable[[Any], Any]] = {
    None: lambda value: value,
    "s": str,
    "r": repr,
    "a": ascii,
}


#: What Dag authors write in Jinja: an expression with spaces around it, or one of Airflow's names.
_JINJA = re.compile(
    r"\{\{(\s+[A-Za-z_][^{}]*\s+|\s*(ds|ds_nodash|ts|ts_nodash|run_id|dag_run|logical_date|data_interval_start|"
    r"data_interval_end|params|macros|var|conn|ti|task_instance)\b[^{}]*)\}\}(?!\})"
)


def check_no_jinja(text: str, *, field: str, remedy: str = "make the value a column of the source") -> None:
    """
    Refuse a Jinja expression where Airflow renders none, and nobody would notice.

    :param text: The text.
    :param field: The parameter that has it.
    :param remedy: What to do instead.
    :raises InvalidInputError: When there is one.
    """
    if found := _JINJA.search(text):
        raise InvalidInputError(
            f"{field} has {found.group()[:80]}, which Airflow does not render there: {remedy}. If "
            "braces are meant to stay, leave out the spaces within them"
        )


class Prompt:
    """
    A template over columns, with Python's format rules: ``{column}``, ``{price:.2f}``, ``{{`` for a brace.

    A field is the name of a column and nothing else: attributes and items cannot be reached.

    :param template: The template.
    :param field: How errors name it.
    :raises InvalidInputError: When it is no template.
    """

    def __init__(self, template: str, *, field: str = "prompt") -> None:
        if not isinstance(template, str):
            raise InvalidInputError(
                f"{field}={template!r:.80} is not a string: pass a template such as 'Summarise: {{body}}'"
            )
        check_no_jinja(template, field=field)
        self.template = template
        self._field = field
        # Text, then the column after it, and how to format its value.
        self._parts: list[tuple[str, str | None, Callable[[Any], str] | None]] = []
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise InvalidInputError(
                f"{field}={template!r:.80} is not a valid template ({error}): write {{{{ and }}}} for braces that stay"
            ) from None
        for text, name, spec, conversion in parts:
            convert = None if name is None else self._formatter(name, spec, conversion)
            self._parts.append((text, name, convert))

    @property
    def columns(self) -> list[str]:
        """The columns that it names, each once."""
        return list(dict.fromkeys(name for _, name, _ in self._parts if name is not None))

    @property
    def literal(self) -> str:
        """The text without its columns; all of it if it names none."""
        return "".join(text for text, _, _ in self._parts)

    def parts(self, rows: pyarrow.RecordBatch) -> list[str | pyarrow.StringArray]:
        """
        Make the texts of some rows, in parts: what is the same in each, and columns of texts. A null is an empty text.

        :param rows: The rows; they have all of :attr:`columns`.
        :raises InvalidInputError: When a value does not fit its format.
        """
        parts: list[str | pyarrow.StringArray] = []
        for text, name, convert in self._parts:
            parts.append(text)
            if name is not None and convert is not None:
                parts.append(self._texts(name, rows.column(name), convert))
        return parts

    def _texts(self, name: str, values: pyarrow.Array, convert: Callable[[Any], str]) -> pyarrow.StringArray:
        import pyarrow

        is_cast = convert is _plain and _is_written_alike(values.type)
        given = () if is_cast else python_values(values, name, field=self._field)
        try:
            if is_cast:
                texts = values.cast(pyarrow.string())
            else:
                texts = pyarrow.array(
                    [None if value is None else convert(value) for value in given], pyarrow.string()
                )
        except (ValueError, TypeError) as error:
            raise InvalidInputError(
                f"{self._field}: {_first_unfit(values, convert)} of column {name!r} does not fit its format: {error}; "
                "change the format, or cast the column in the source"
            ) from None
        return texts.fill_null("") if texts.null_count else texts

    def _formatter(self, name: str, spec: str | None, conversion: str | None) -> Callable[[Any], str]:
        if not name or name.isdigit():
            raise InvalidInputError(
                f"{self._field}={self.template!r:.80}: {{{name}}} names no column; write its name into the braces, "
                "and {{ and }} for braces that stay"
            )
        if any(character in name for character in ".["):
            raise InvalidInputError(
                f"{self._field}={self.template!r:.80}: {{{name}}} is not the name of a column: attributes and items "
                "of values cannot be used; make the value a column of its own"
            )
        if spec and "{" in spec:
            raise InvalidInputError(
                f"{self._field}={self.template!r:.80}: the format of {{{name}}} has braces, which are "
                "not filled in there: write the number itself"
            )
        if conversion not in _CONVERSIONS:
            raise InvalidInputError(
                f"{self._field}={self.template!r:.80}: there is no conversion !{conversion}: use !s, !r or !a"
            )
        if not spec and conversion is None:
            return _plain
        convert = _CONVERSIONS[conversion]
        return lambda value: format(convert(value), spec or "")


class PromptFile:
    """
    A Jinja template over columns, for long prompts with conditions and loops.

    It runs in Jinja's sandbox and sees the columns of its row and nothing else. A name that is no column is an error.

    :param template: The template's text.
    :param name: The file's name, for errors.
    :raises InvalidInputError: When it is no template.
    """

    def __init__(self, template: str, *, name: str) -> None:
        from jinja2 import StrictUndefined, TemplateSyntaxError, meta
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self.template = template
        self._name = name
        # What is sent is no HTML. A file's last line end is none of the prompt.
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        try:
            names = meta.find_undeclared_variables(environment.parse(template))
            self._compiled = environment.from_string(template)
        except TemplateSyntaxError as error:
            raise InvalidInputError(
                f"prompt_file: {name}, line {error.lineno} is not valid Jinja: {error.message}; "
                "correct that line"
            ) from None
        self.columns = sorted(names - set(environment.globals))

    def parts(self, rows: pyarrow.RecordBatch) -> list[str | pyarrow.StringArray]:
        """
        Make the prompts of some rows: one column of texts. A null is an empty text.

        :param rows: The rows; they have all of :attr:`columns`.
        :raises InvalidInputError: When the template fails on a row.
        """
        import pyarrow
        from jinja2 import TemplateError

        names = self.columns
        values = [python_values(rows.column(name), name, field="prompt_file") for name in names]
        texts: list[str] = []
        try:
            for row in zip(*values, strict=True):
                given = {name: "" if value is None else value for name, value in zip(names, row, strict=True)}
                # One by one: an error tells on which row it came.
                texts.append(self._compiled.render(given))
            return [pyarrow.array(texts, pyarrow.string())]
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            number = next((number for number, text in enumerate(texts) if not _is_text(text)), len(texts))
            # The key's columns come first.
            place = row_shown(rows, number, rows.schema.names[:3], 40)
            raise InvalidInputError(
                f"prompt_file: {self._name} fails on the row with {place}: {str(error).rstrip('.')}; correct the "
                "template, or leave such rows out of the source"
            ) from None


def _first_unfit(values: pyarrow.Array, convert: Callable[[Any], str]) -> str:
    for value in values:
        try:
            if not value.is_valid or _is_text(convert(value.as_py())):
                continue
        except (ValueError, TypeError):
            pass
        return shown(value)
    return "a value"


def _is_text(text: str) -> bool:
    """Tell whether UTF-8 can write it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> str:
    return format(value, "")


def _is_written_alike(kind: pyarrow.DataType) -> bool:
    """Tell whether Arrow writes values of a type as Python's format does."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return bool(types.is_string(kind.value_type))
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind))


def check_columns(wanted: Collection[str], there: Sequence[str], *, field: str) -> None:
    """
    Check that columns exist.

    :param wanted: The columns.
    :param there: All columns of the source.
    :param field: The parameter that names them.
    :raises InvalidInputError: When one does not exist; names the nearest.
    """
    for name in wanted:
        if name in there:
            continue
        near = difflib.get_close_matches(name, there, n=1, cutoff=0.5) or difflib.get_close_matches(
            name.lower(), there, n=1
        )
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"there are {', '.join(map(repr, there[:20])) or 'none'}"
        )
        raise InvalidInputError(f"{field}: the source has no column {name!r}: {hint}")
