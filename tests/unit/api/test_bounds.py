"""How long a call may take, and how much a stream has to bring meanwhile."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_mistral_batch.api import client as client_module
from airflow_provider_mistral_batch.api.bounds import PROGRESS_BYTES, AnswerTooSlow, Patience
from airflow_provider_mistral_batch.api.transport import DEFAULT_TIMEOUT, Transport


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(DEFAULT_TIMEOUT, 250), (5, 20), ((1, 2), 5), (900, 1810), (0.5, 11)]
)
def test_the_time_of_a_call(timeout, seconds):
    assert Transport("k3y", "https://host", timeout=timeout).patience().seconds == seconds


@pytest.mark.parametrize(
    ("is_stream", "waits", "left"),
    [
        (False, [(4, 1)], 6),
        (False, [(4, PROGRESS_BYTES), (5, PROGRESS_BYTES)], 1),
        (False, [(4, PROGRESS_BYTES), (6, PROGRESS_BYTES)], None),
        (True, [(4, PROGRESS_BYTES), (6, PROGRESS_BYTES)], 10),
        (True, [(9, PROGRESS_BYTES), (9, 1)], 1),
        (True, [(9, PROGRESS_BYTES - 1), (0.5, 1)], 10),
        (True, [(5, PROGRESS_BYTES - 1), (5, 0)], None),
    ],
)
def test_what_is_left_of_it(is_stream, waits, left):
    patience = Patience(10)
    patience.is_stream = is_stream
    for seconds, moved in waits:
        patience.waited(seconds, moved)
    if left is None:
        with pytest.raises(AnswerTooSlow, match="took more than 10 s"):
            patience.left()
    else:
        assert patience.left() == left


@pytest.mark.parametrize(
    ("seconds_a_block", "block", "goes_through"),
    [(1, 16_384, False), (0.5, 16_384, True), (9, PROGRESS_BYTES, True), (11, PROGRESS_BYTES, False)],
)
def test_an_upload_takes_as_long_as_it_is_large(seconds_a_block, block, goes_through, monkeypatch):
    now = 0.0
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: now))
    size = 4 * PROGRESS_BYTES
    shown: list[tuple[int, int]] = []
    sending = client_module._Sending(Patience(10), size, lambda *done: shown.append(done))

    def send() -> None:
        nonlocal now
        for sent in range(block, size + block, block):
            sending(SimpleNamespace(bytes_read=sent, len=size))
            now += seconds_a_block

    if goes_through:
        send()
        assert shown[-1] == (size, size)
        # The answer has the time of any other.
        assert (sending.patience.is_stream, sending.patience.left()) == (False, 10)
    else:
        with pytest.raises(AnswerTooSlow):
            send()
