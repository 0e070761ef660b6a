"""Renders a task's Jinja templates: data stays as it came, text stays text, and arguments get their types.

Airflow's own rendering differs in four ways. It renders what ``expand_kwargs(another_task.output)`` brings
(apache/airflow#38745), so a prompt could read a connection's password. With ``render_template_as_native_obj`` it makes
a number of the text ``"1"``. It drops the last line break of a text. Without, it renders even a number to text.
"""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.nativetypes import NativeEnvironment

from airflow_provider_mistral_batch.api.body_fields import FLAG_FIELDS, NUMBER_FIELDS
from airflow_provider_mistral_batch.api.checks import check_flag, check_rendered
from airflow_provider_mistral_batch.compat import BaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Fields that are lists or dicts. As everywhere in Airflow, one template may stand for all of it.
_STRUCTURES = frozenset({"requests", "input_files", "metadata", "parameters", "response_format"})

#: Fields that only text is right for, apart from ``None``.
_TEXTS = (
    "batch_id",
    "destination",
    "endpoint",
    "model",
    "agent_id",
    "system",
    "completion_window",
    "output_format",
    "if_exists",
    "delete_files",
    "mistral_conn_id",
)

#: The same within sources and targets.
_TEXTS_WITHIN = ("conn_id", "name", "partition_key", "table")

#: Fields of tasks, sources and targets that are texts, or objects and lists of them, and never numbers.
_NO_NUMBERS = frozenset({*_TEXTS_WITHIN, "path", "prompt_file", "sql"})

_NUMBER = re.compile(r"[+-]?(\d+|(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?)", re.ASCII)
_FLAGS = {"true": True, "false": False}


def _number(field: str, value: Any) -> Any:
    """Read a number from the text that a template renders to; a check refuses anything else."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not _NUMBER.fullmatch(text) or len(text) > 40:
        return value
    return float(text) if set(".eE") & set(text) else int(text)


def _optional_number(field: str, value: Any) -> Any:
    """Read a number, or the text that a template without a value renders to."""
    return None if value in ("", "None") else _number(field, value)


def _seconds(field: str, value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else _number(field, value)


def _optional_seconds(field: str, value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else _optional_number(field, value)


def _flag(field: str, value: Any) -> Any:
    return _FLAGS.get(value.strip().lower(), value) if isinstance(value, str) else value


def _structure(field: str, value: Any) -> Any:
    """Read a list or a dict from JSON, the text that ``{{ … | tojson }}`` renders to; a check refuses other text."""
    if not isinstance(value, str):
        return value
    if value in ("", "None"):
        return None
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return read if isinstance(read, (list, dict)) else value


def _body_fields(field: str, value: Any) -> Any:
    """Read the numbers and switches among the fields of a body; any other text stays text."""
    fields = _structure(field, value)
    if not isinstance(fields, Mapping):
        return fields
    read = dict(fields)
    for name, content in fields.items():
        if name in NUMBER_FIELDS:
            read[name] = _optional_number(name, content)
        elif name in FLAG_FIELDS and isinstance(content, str):
            read[name] = _FLAGS.get(content.strip().lower(), content)
        elif name == "completion_args":
            read[name] = _body_fields(name, content)
    return read


#: How an argument is read once it is rendered. An argument has the same kind in every operator.
_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "max_tokens": _optional_number,
    "temperature": _optional_number,
    "timeout_hours": _optional_number,
    "max_cost_usd": _optional_number,
    "row_retries": _number,
    "max_failed_ratio": _number,
    "max_pending_requests": _number,
    "max_job_requests": _number,
    "timeout": _optional_seconds,
    "poll_interval": _seconds,
    "poll_interval_min": _seconds,
    "reask_invalid": _flag,
    "wait_for_completion": _flag,
    "force_new": _flag,
    "cancel_on_kill": _flag,
    "cancel_on_timeout": _flag,
    "input_files": _structure,
    "metadata": _structure,
    "parameters": _body_fields,
    "response_format": _structure,
}


def read_arguments(task: Any) -> None:
    """
    Give the arguments of a task their types, after Airflow has rendered them.

    A number may be text (``"100"``) or, for seconds, a ``timedelta``. A switch may be the text ``true`` or ``false``. A
    list or dict may be JSON.

    :param task: The task. What cannot be read stays as it is, for the checks that follow.
    :raises InvalidInputError: When a switch is neither true nor false, or a template was not rendered.
    """
    for name in task.template_fields:
        value = getattr(task, name)
        if name in _READERS:
            setattr(task, name, _READERS[name](name, value))
            if _READERS[name] is _flag:
                check_flag(name, getattr(task, name))
        elif name in _TEXTS and name != "system":
            check_rendered(name, value)
        elif name == "path":
            # A file's name may have braces if it comes from another task. No other task's output is a path object.
            for path in value if isinstance(value, (list, tuple)) else [value]:
                if not isinstance(path, str):
                    check_rendered(name, path)
        elif name in ("source", "target"):
            for nested in set(_TEXTS_WITHIN) & set(getattr(value, "template_fields", ())):
                check_rendered(nested, getattr(value, nested))
            if hasattr(value, "check_arguments"):
                value.check_arguments()
    if hasattr(task, "deferrable"):
        check_flag("deferrable", task.deferrable)


class DataIsNoTemplate(BaseOperator):
    """Base of all our tasks: renders what the Dag's author wrote, and nothing that came as data."""

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        if parent is not self:
            super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
            if _is_ours(parent):
                for name in _NO_NUMBERS.intersection(template_fields):
                    setattr(parent, name, _without_numbers(getattr(parent, name)))
            return
        # Airflow renders no object whose id is in this set.
        seen_oids.update(map(id, _data_of_expand_kwargs(self, context)))
        for name in template_fields:
            before = getattr(self, name, None)
            super()._do_render_template_fields(self, [name], context, jinja_env, seen_oids)
            after = getattr(self, name)
            if name == "metadata" and isinstance(before, Mapping) and id(before) not in seen_oids:
                # Native rendering makes a number of a template for one, and all metadata is text.
                setattr(
                    self, name, {key: _as_written(before.get(key), value) for key, value in after.items()}
                )
            if id(before) in seen_oids or not isinstance(before, str):
                continue
            if name in _TEXTS and after is not None:
                after = str(after)
            elif name in _NO_NUMBERS:
                after = _without_numbers(after)
            elif name in _STRUCTURES and isinstance(after, str) and isinstance(jinja_env, NativeEnvironment):
                after = _literal(after)
            if name in _READERS and after != before:
                after = _READERS[name](name, after)
            setattr(self, name, after)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """
        Render a value; Airflow calls this for each string, also for those in lists and dicts.

        :param content: The value.
        :param context: The task's context.
        :param jinja_env: The Dag's environment.
        :param seen_oids: Ids of the objects that are not to be rendered.
        """
        if id(content) in (seen_oids or ()):
            return content
        jinja_env = jinja_env or self.get_template_env()
        if isinstance(content, str) and not content.endswith(tuple(self.template_ext)):
            return _rendered(content, context, jinja_env)
        if isinstance(content, Mapping) and not isinstance(content, dict):
            content = dict(content)
        if hasattr(content, "template_fields"):
            # Rendered in place, it would keep this run's values for all other tasks and runs of the process.
            content = copy.copy(content)
        return super().render_template(content, context, jinja_env, seen_oids)


def _rendered(text: str, context: Context, jinja_env: jinja2.Environment) -> Any:
    """Render a text to a text; in a Dag with native rendering, a text that is one ``{{ … }}`` becomes its value."""
    starts = (jinja_env.variable_start_string, jinja_env.block_start_string)
    if not jinja_env.line_statement_prefix and not any(start in text for start in starts):
        return text
    # Jinja drops one line break at the end.
    cut = text.endswith("\n") and not jinja_env.keep_trailing_newline
    template = jinja_env.from_string(f"{text}\n" if cut else text)
    try:
        nodes = list(template.root_render_func(template.new_context({**context})))
    except Exception:
        # Raises the same error, with the template's line.
        jinja_env.handle_exception()
    # Jinja's own rule for native values would read "['a']" as a list, even where it comes from another task's output.
    if (
        len(nodes) == 1
        and isinstance(jinja_env, NativeEnvironment)
        and not isinstance(nodes[0], jinja2.Undefined)
    ):
        return nodes[0]
    return "".join(map(str, nodes))


def _as_written(before: Any, after: Any) -> Any:
    """Make text of a number or a switch that was a template."""
    return str(after) if isinstance(before, str) and isinstance(after, (int, float)) else after


def _is_ours(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == __name__.partition(".")[0]


def _without_numbers(value: Any) -> Any:
    """Make text of numbers, also in a list: native rendering makes a number of the template for the text ``7``."""
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_without_numbers(one) for one in value]
    return value


def _literal(text: str) -> Any:
    """Read a list or a dict as native rendering does, where one template stands for all of it."""
    try:
        read = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return read if isinstance(read, (list, tuple, dict)) else text


def _data_of_expand_kwargs(task: Any, context: Context) -> Iterator[Any]:
    """Give the arguments of a mapped task that another task's output brought through ``expand_kwargs``."""
    dag: Any = task.dag if task.has_dag() else None
    # The Dag keeps the mapped operator that this task was made from.
    mapped: Any = None if dag is None else dag.task_dict.get(task.task_id)
    if not hasattr(mapped, "_get_specified_expand_input"):
        return
    expanded: Any = mapped._get_specified_expand_input()
    if expanded.EXPAND_INPUT_TYPE != "list-of-dicts":
        # Airflow itself renders nothing that comes through `expand`.
        return
    if isinstance(expanded.value, Sequence) and isinstance(
        expanded.value[context["ti"].map_index or 0], Mapping
    ):
        # A dict that is written into the Dag.
        return
    group: Any = task.task_group
    sources: list[Mapping[str, Any]] = [
        mapped.partial_kwargs,
        mapped.partial_kwargs.get("op_kwargs") or {},
        dag.default_args,
        {} if group is None else group.default_args,
    ]
    by_author = {id(value) for source in sources for value in source.values()}
    values = [getattr(task, name) for name in task.template_fields if name not in ("op_args", "op_kwargs")]
    for value in (*values, *(getattr(task, "op_kwargs", None) or {}).values()):
        if id(value) not in by_author:
            yield value
