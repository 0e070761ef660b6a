"""Ids are read whatever else is in a row, and a row that cannot be read costs no other its id."""

from __future__ import annotations

from airflow_provider_mistral_batch.jsonl.row_ids import flagged_request_ids, request_ids, row_ids

ROWS = {
    b'{"custom_id":"a","body":{"n":1e400}}': "a",
    b'{"custom_id":"\\u00e9"}': "é",
    b'{"custom_id":7}': None,
    b"{}": None,
}
UNREADABLE = {
    b"": None,
    b"\xff": None,
    b"[1]": None,
    b'{"custom_id":"b"': None,
    b'{"custom_id":"\\ud83d"}': "\ufffd",
}


def test_every_row_has_its_id_or_none():
    for rows in (ROWS, UNREADABLE, {**ROWS, **UNREADABLE}):
        assert row_ids(list(rows)) == list(rows.values())


def test_flagged_ids_of_several_files(tmp_path):
    files = [tmp_path / "1", tmp_path / "2"]
    for file in files:
        file.write_bytes(
            b"".join(b'{"custom_id":"%s%d","body":{}}\n' % (file.name.encode(), n) for n in range(3))
        )
    assert [list(request_ids(file)) for file in files] == [[["10", "11", "12"]], [["20", "21", "22"]]]
    assert list(flagged_request_ids(files, bytes([0, 0, 1, 1, 0, 0]))) == ["12", "20"]
    assert list(flagged_request_ids(files, bytes(6))) == []
