"""
A small batch without files: up to 10,000 requests travel in the job itself, and so do the answers.

Shows the shortest way to run a batch: one operator creates the job and waits for it, deferred, and one task gets
the answers from the hook. Use it for a few hundred short requests at half the price. For more requests, or for
answers that other systems read, see ``mistral_batch_nightly``.

``read_answers`` returns one word for each ticket. Longer answers belong in a file, not in XCom.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, task

from airflow_provider_mistral_batch.hooks import MistralBatchHook
from airflow_provider_mistral_batch.operators import MistralCreateBatchJobOperator

TICKETS = {
    "ticket-1": "The export button does nothing since this morning.",
    "ticket-2": "Thank you, the new dashboard is a joy to use!",
    "ticket-3": "I was charged twice for October.",
    "ticket-4": "How do I add a colleague to my workspace?",
}


@dag(
    dag_id="mistral_batch_inline",
    schedule=None,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def inline() -> None:
    classify = MistralCreateBatchJobOperator(
        task_id="classify",
        requests=[
            {
                "custom_id": ticket,
                "body": {
                    "messages": [
                        {
                            "role": "system",
                            "content": "Answer with one word: bug, billing, question or praise.",
                        },
                        {"role": "user", "content": text},
                    ],
                    "max_tokens": 5,
                },
            }
            for ticket, text in TICKETS.items()
        ],
        model="mistral-small-latest",
        wait_for_completion=True,
        deferrable=True,
    )

    @task
    def read_answers(batch_id: str) -> dict[str, str]:
        """Return the class of each ticket that got an answer."""
        job = MistralBatchHook().get(batch_id, inline=True)
        answers = {}
        for row in job.outputs or []:
            # A failed row has the API's error in place of an answer.
            if row["response"] and row["response"]["status_code"] == 200:
                answer = row["response"]["body"]["choices"][0]["message"]
                answers[row["custom_id"]] = answer["content"]
        return answers

    read_answers(classify.output)


inline()
