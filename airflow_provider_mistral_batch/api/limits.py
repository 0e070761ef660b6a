"""The API's published limits and enumerations.

Sources: the OpenAPI description of Mistral's API (``CreateBatchJobRequest``,
``files_api_routes_upload_file``) and the batch guide of its documentation.
"""

from __future__ import annotations

#: Largest file that can be uploaded. The documentation says "512 MB", decimal or binary: the smaller is safe.
MAX_FILE_BYTES = 512 * 1000 * 1000

#: Largest document that the API reads: 50 MB by Mistral's documentation of OCR, decimal or binary. The larger is taken:
#: what is refused here, nobody can send. Its limit of pages is left to the API, which counts them.
MAX_DOCUMENT_BYTES = 50 * 1024 * 1024

#: Requests that may be pending in a workspace, and so the most in one job.
MAX_REQUESTS_PER_JOB = 1_000_000

#: Requests that a job may carry inline instead of in a file (``requests``, ``maxItems``).
MAX_INLINE_REQUESTS = 10_000

MAX_METADATA_KEY_LENGTH = 32
MAX_METADATA_VALUE_LENGTH = 512

MIN_TIMEOUT_HOURS = 1
MAX_TIMEOUT_HOURS = 168
DEFAULT_COMPLETION_WINDOW = "24h"

#: Jobs or files on one page of a listing.
PAGE_SIZE = 100

#: Most pages that are read of one listing: a million items. A listing without end would be read for ever.
MAX_PAGES = 10_000

#: Most pages in a row of which each item was on a page before. New jobs shift a few, a listing that cycles all.
MAX_REPEATED_PAGES = 5

#: Most bytes of an answer in JSON, unpacked. A page has 100 jobs, and 100 jobs with long errors have 2 MB.
MAX_ANSWER_BYTES = 16 << 20

#: Most bytes of a file that is downloaded: 100 KB for each request of the largest job.
MAX_DOWNLOAD_BYTES = 100 * 1000**3

#: Most errors of a job as a whole that are kept.
MAX_JOB_ERRORS = 100
