"""The emulator's files over a socket: uploads, downloads in part, signed URLs, expiry."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests_toolbelt import MultipartEncoder
from requests_toolbelt.sessions import BaseUrlSession

from airflow_provider_mistral_batch.emulator.client import Control
from airflow_provider_mistral_batch.emulator.process import Emulator

CONTENT = bytes(range(256)) * 4
Upload = Callable[..., dict[str, Any]]


@pytest.fixture
def upload(api: BaseUrlSession) -> Upload:
    def upload(content: bytes = CONTENT, name: str = "a.bin", **fields: str) -> dict[str, Any]:
        answer = api.post("/v1/files", files={"file": (name, content)}, data={"purpose": "batch", **fields})
        assert answer.status_code == 200, answer.text
        file: dict[str, Any] = answer.json()
        return file

    return upload


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"a\nb\n", 2), (b"--boundary\r\n--x--\r\n", 2)],
)
def test_what_is_uploaded_is_what_is_downloaded(
    api: BaseUrlSession, upload: Upload, content: bytes, lines: int
) -> None:
    file = upload(content)
    assert (file["bytes"], file["num_lines"]) == (len(content), lines)
    assert api.get(f"/v1/files/{file['id']}/content").content == content


def test_signatures_are_of_the_content(upload: Upload) -> None:
    one, same, other = upload(b"one"), upload(b"one", name="b"), upload(b"other")
    assert one["signature"] == same["signature"] != other["signature"]
    assert re.fullmatch("[0-9a-f]{16}", one["signature"])


@pytest.mark.parametrize(
    ("header", "status", "content", "content_range"),
    [
        ("bytes=0-", 206, CONTENT, "bytes 0-1023/1024"),
        ("bytes=1000-", 206, CONTENT[1000:], "bytes 1000-1023/1024"),
        ("bytes=10-19", 206, CONTENT[10:20], "bytes 10-19/1024"),
        ("bytes=-4", 206, CONTENT[-4:], "bytes 1020-1023/1024"),
        ("bytes=1000-9999", 206, CONTENT[1000:], "bytes 1000-1023/1024"),
        ("bytes=1024-", 416, None, None),
        (None, 200, CONTENT, None),
    ],
)
def test_ranges(
    api: BaseUrlSession,
    upload: Upload,
    header: str | None,
    status: int,
    content: bytes | None,
    content_range: str | None,
) -> None:
    path = f"/v1/files/{upload()['id']}/content"
    answer = api.get(path, headers={"Range": header} if header else {})
    assert answer.status_code == status
    if content is not None:
        assert answer.content == content
        assert answer.headers["Content-Length"] == str(len(content))
        assert answer.headers["Accept-Ranges"] == "bytes"
    assert content_range in (None, answer.headers.get("Content-Range"))


def test_a_range_of_another_version_is_not_given(api: BaseUrlSession, upload: Upload) -> None:
    path = f"/v1/files/{upload()['id']}/content"
    tag = api.get(path).headers["ETag"]
    for if_range, status in ((tag, 206), ('"other"', 200)):
        answer = api.get(path, headers={"Range": "bytes=10-", "If-Range": if_range})
        assert answer.status_code == status


def test_a_file_that_is_too_large(control: Control, api: BaseUrlSession, upload: Upload) -> None:
    control.settings(max_file_bytes=1_000_000)
    assert upload(b"x" * 1_000_000)["bytes"] == 1_000_000
    answer = api.post("/v1/files", files={"file": ("a", b"x" * 1_000_001)}, data={"purpose": "batch"})
    assert (answer.status_code, answer.json()["type"]) == (413, "payload_too_large")
    assert api.get("/v1/files").json()["total"] == 1


def test_uploads_and_downloads_of_any_size_take_little_memory(
    emulator: Emulator, api: BaseUrlSession, tmp_path: Path
) -> None:
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        for _ in range(96):
            file.write(b"x" * 1_048_575 + b"\n")
    upload_and_download(api, path)
    before = peak_memory(emulator.pid)
    upload_and_download(api, path)
    assert peak_memory(emulator.pid) - before < 30_000_000


def upload_and_download(api: BaseUrlSession, path: Path) -> None:
    with path.open("rb") as file:
        encoder = MultipartEncoder({"purpose": "batch", "file": (path.name, file, "application/jsonl")})
        uploaded = api.post("/v1/files", data=encoder, headers={"Content-Type": encoder.content_type}).json()
    assert (uploaded["bytes"], uploaded["num_lines"]) == (path.stat().st_size, 96)
    with api.get(f"/v1/files/{uploaded['id']}/content", stream=True) as answer:
        assert sum(map(len, answer.iter_content(1 << 20))) == uploaded["bytes"]
    assert api.delete(f"/v1/files/{uploaded['id']}").ok


def peak_memory(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"purpose": "nonsense"}, ["body", "purpose"]),
        ({"visibility": "everybody"}, ["body", "visibility"]),
        ({"expiry": "0"}, ["body", "expiry"]),
        ({"expiry": "soon"}, ["body", "expiry"]),
    ],
)
def test_wrong_fields(api: BaseUrlSession, fields: dict[str, str], loc: list[str]) -> None:
    answer = api.post("/v1/files", files={"file": ("a", b"x")}, data=fields)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == loc
    assert api.get("/v1/files").json()["total"] == 0


def test_without_a_file(api: BaseUrlSession) -> None:
    answer = api.post("/v1/files", files={"other": ("a", b"x")})
    assert answer.json() == {
        "detail": [{"loc": ["body", "file"], "msg": "Field required", "type": "missing"}]
    }


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b"--b\r\n", "multipart/form-data"),
        (b"no boundary in here", "multipart/form-data; boundary=b"),
    ],
)
def test_what_is_no_form_is_refused(api: BaseUrlSession, body: bytes, content_type: str) -> None:
    answer = api.post("/v1/files", data=body, headers={"Content-Type": content_type})
    assert answer.status_code == 400, answer.text


def test_a_broken_upload_leaves_nothing(emulator: Emulator, control: Control, api: BaseUrlSession) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 100_000
        raise ZeroDivisionError

    blobs = set((emulator.state_dir / "blobs").iterdir())
    with pytest.raises(ZeroDivisionError):
        api.post("/v1/files", data=pieces(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert api.get("/v1/files").json()["total"] == 0
    deadline = time.monotonic() + 30
    while set((emulator.state_dir / "blobs").iterdir()) - blobs:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_deleted_bytes_are_gone(emulator: Emulator, api: BaseUrlSession, upload: Upload) -> None:
    before = set((emulator.state_dir / "blobs").iterdir())
    file = upload()
    assert set((emulator.state_dir / "blobs").iterdir()) - before
    api.delete(f"/v1/files/{file['id']}")
    assert set((emulator.state_dir / "blobs").iterdir()) == before


def test_files_expire(control: Control, api: BaseUrlSession, upload: Upload) -> None:
    file, lasting = upload(expiry="1"), upload()
    control.settings(clock_skew=3601)
    assert api.get(f"/v1/files/{file['id']}").status_code == 404
    assert [one["id"] for one in api.get("/v1/files").json()["data"]] == [lasting["id"]]


def test_a_users_own_file_is_not_the_workspaces(
    control: Control, api: BaseUrlSession, upload: Upload
) -> None:
    own, shared = upload(visibility="user"), upload()
    colleague = "colleague-" + uuid.uuid4().hex
    control.add_key(colleague, same_workspace_as=control.api_key)
    headers = {"Authorization": f"Bearer {colleague}"}
    assert [one["id"] for one in api.get("/v1/files", headers=headers).json()["data"]] == [shared["id"]]
    assert api.get(f"/v1/files/{own['id']}", headers=headers).status_code == 404
    assert api.get(f"/v1/files/{own['id']}").status_code == 200


def test_a_signed_url_needs_no_token_until_it_expires(
    control: Control, api: BaseUrlSession, upload: Upload
) -> None:
    file = upload()
    url = api.get(f"/v1/files/{file['id']}/url", params={"expiry": 2}).json()["url"]
    assert requests.get(url, timeout=10).content == CONTENT
    assert requests.get(url, headers={"Range": "bytes=0-3"}, timeout=10).content == CONTENT[:4]
    other = upload(b"other")["id"]
    assert requests.get(url.replace(file["id"], other), timeout=10).status_code == 403
    assert requests.get(url.replace("expires=", "expires=9"), timeout=10).status_code == 403
    control.settings(clock_skew=2 * 3600 + 1)
    answer = requests.get(url, timeout=10)
    assert (answer.status_code, "expired" in answer.json()["message"]) == (403, True)
    control.settings(clock_skew=0)
    api.delete(f"/v1/files/{file['id']}")
    assert requests.get(url, timeout=10).status_code == 404
