"""
OCR of documents in a batch: URLs in, one Markdown file per document out.

Shows ``/v1/ocr``. Each request names its document, and ``parameters`` holds what all requests have in common. OCR
is priced per page, so the manifest's ``usage`` counts pages. ``write_documents`` reads the answers one by one and
writes the pages of each next to the results. No document goes through XCom, whatever its size.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath, Param, dag, task

from airflow_provider_mistral_batch.operators import MistralBatchInferenceOperator

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = os.environ.get("MISTRAL_BATCH_EXAMPLES_FOLDER", f"file://{HOME}/mistral_batch")

RECEIPT = "https://raw.githubusercontent.com/mistralai/cookbook/refs/heads/main/mistral/ocr/receipt.png"
DOCUMENTS = {
    "pixtral": {"type": "document_url", "document_url": "https://arxiv.org/pdf/2410.07073"},
    "mistral-7b": {"type": "document_url", "document_url": "https://arxiv.org/pdf/2310.06825"},
    "receipt": {"type": "image_url", "image_url": RECEIPT},
}


@dag(
    dag_id="mistral_batch_ocr",
    schedule=None,
    params={"folder": Param(FOLDER, type="string", description="Folder for results")},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["example", "mistral"],
    doc_md=__doc__,
)
def ocr() -> None:
    read = MistralBatchInferenceOperator(
        task_id="read",
        requests=[
            {"custom_id": name, "body": {"document": document}} for name, document in DOCUMENTS.items()
        ],
        endpoint="/v1/ocr",
        model="mistral-ocr-latest",
        parameters={"include_image_base64": False},
        destination="{{ params.folder }}/{{ dag.dag_id }}/{{ run_id }}",
        deferrable=True,
    )

    @task
    def write_documents(manifest: dict[str, Any]) -> dict[str, Any]:
        """Write each document's text as Markdown; return the paths and the number of pages read."""
        from airflow_provider_mistral_batch.results import read_results

        folder = ObjectStoragePath(manifest["results_path"]).parent / "documents"
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for row in read_results(manifest):
            path = folder / f"{row.custom_id}.md"
            path.write_text(row.content or "", encoding="utf-8")
            written.append(str(path))
        return {"documents": sorted(written), "pages": manifest["usage"]["pages_processed"]}

    write_documents(read.output)


ocr()
