"""``@task.mistral_batch``: a function returns requests, and the task lands their answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.compat import (
    DecoratedOperator,
    determine_kwargs,
    task_decorator_factory,
)
from airflow_provider_mistral_batch.operators.inference import MistralBatchInferenceOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

#: Parameters of the operator that the function replaces.
_REPLACED = ("requests", "path", "source")


class MistralBatchDecoratedOperator(DecoratedOperator, MistralBatchInferenceOperator):
    """
    The operator behind ``@task.mistral_batch``.

    The function's result is data. Unlike the operator's ``requests``, it is not rendered as a Jinja template, so it may
    contain ``{{``.

    The function's result is frozen once it is about to be submitted. A retry continues with the same requests and does
    not call the function again, unless parameters of the task have changed. After a clear, the function is called anew.

    :param python_callable: Returns or yields rows or prompts.
    :param op_args: Positional arguments for it.
    :param op_kwargs: Keyword arguments for it.
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in MistralBatchInferenceOperator.template_fields if name not in _REPLACED),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **{
            name: renderer
            for name, renderer in MistralBatchInferenceOperator.template_fields_renderers.items()
            if name not in _REPLACED
        },
    }
    custom_operator_name: str = "@task.mistral_batch"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in _REPLACED:
            if kwargs.get(name) is not None:
                raise InvalidInputError(
                    f"{name} is not a parameter of @task.mistral_batch, whose function returns requests: leave it out"
                )
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)

    def execute(self, context: Context) -> Any:
        # Of Airflow 3.0's decorated operators, `execute` pushes XComs with a method that operators no longer have.
        return MistralBatchInferenceOperator.execute(self, context)

    @property
    def _source_is_alive(self) -> bool:
        """A function may give something else each time it is called."""
        return True

    def _source(self, context: Context) -> Any:
        merged = {**context, **self.op_kwargs}
        arguments = determine_kwargs(self.python_callable, self.op_args, merged)
        source = self.python_callable(*self.op_args, **arguments)
        if isinstance(source, Set):
            raise InvalidInputError(
                f"the function {self.python_callable.__name__!r} returned a {type(source).__name__}, which has no "
                "order: each try would send other request files, and pay again; return a list"
            )
        if self._options().is_table:
            return source
        if isinstance(source, (str, bytes, Mapping)) or not (
            isinstance(source, Iterable) or hasattr(source, "open")
        ):
            raise InvalidInputError(
                f"the function {self.python_callable.__name__!r} returned {source!r:.80}: return or yield rows or "
                "prompts, or return the path object of a JSONL file. For a table pass prompt, for documents pass "
                "key='path'"
            )
        return source


def mistral_batch_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Turn a function that returns or yields requests into a task that returns the manifest of their results.

    Registered as ``@task.mistral_batch``::

        @task.mistral_batch(model="mistral-small-latest", destination="s3://bucket/{{ run_id }}", max_tokens=100)
        def summarise(documents):
            for document in documents:
                yield f"Summarise in two sentences: {document}"

    :param python_callable: The function.
    :param kwargs: Parameters of
        :class:`~airflow_provider_mistral_batch.operators.inference.MistralBatchInferenceOperator` and of every task.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        decorated_operator_class=MistralBatchDecoratedOperator,
        **kwargs,
    )
