"""
OCR of a folder of PDFs in a batch: documents in, one Markdown file for each out.

Shows ``Documents``. Each file is uploaded once and found again by its content, so neither a retry nor a clear sends or
pays for anything twice. The answers land as a table with the Markdown of each document, and as files in ``markdown/``.
``write_documents`` stands for whatever fills the folder: it writes two tiny PDFs.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath, Param, dag, task

from airflow_provider_mistral_batch.operators import MistralBatchInferenceOperator
from airflow_provider_mistral_batch.tables import AnswerColumns, Documents

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")

TEXTS = {"lease": "The rent is due on the first of each month.", "receipt": "Two coffees, 5.40 euros."}


def pdf_of(text: str) -> bytes:
    """Make a PDF of one page with one line of text."""
    content = f"BT /F1 18 Tf 72 720 Td ({text}) Tj ET"
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
            "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
        ),
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
    )
    document, places = "%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(document))
        document += f"{number} 0 obj\n{one}\nendobj\n"
    table = "0000000000 65535 f \n" + "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    trailer = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(document)}\n%%EOF\n"
    return f"{document}xref\n0 {size}\n{table}{trailer}".encode("ascii")


@dag(
    dag_id="mistral_batch_ocr",
    schedule=None,
    params={"folder": Param(FOLDER, type="string", description="Folder for documents and results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def ocr() -> None:
    @task
    def write_documents(folder: str) -> str:
        path = ObjectStoragePath(folder)
        path.mkdir(parents=True, exist_ok=True)
        for name, text in TEXTS.items():
            (path / f"{name}.pdf").write_bytes(pdf_of(text))
        return folder

    read = MistralBatchInferenceOperator(
        task_id="read",
        source=Documents("{{ params.folder }}/{{ dag.dag_id }}/documents"),
        endpoint="/v1/ocr",
        model="mistral-ocr-latest",
        columns=AnswerColumns(markdown=True),
        destination="{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}",
        deferrable=True,
    )

    # Without this, Airflow stores an XCom for each document, too; before 3.1, none whose key has a slash.
    @task(multiple_outputs=False)
    def list_pages(manifest: dict[str, Any]) -> dict[str, int]:
        """Return the number of pages of each document."""
        from airflow_provider_mistral_batch.results import read_table

        rows = read_table(manifest).read_all().to_pylist()
        return {row["path"]: len(row["pages"]) for row in rows}

    write_documents("{{ params.folder }}/{{ dag.dag_id }}/documents") >> read
    list_pages(read.output)


ocr()
