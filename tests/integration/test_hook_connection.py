"""What becomes of a connection's fields when a server answers: the key, the retries, the connection's test."""

from __future__ import annotations

import pytest

from airflow_provider_mistral_batch.api.errors import AuthenticationError
from airflow_provider_mistral_batch.api.retries import RetryPolicy
from airflow_provider_mistral_batch.compat import AirflowNotFoundException
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

from ..scripted_server import Answer, ScriptedServer, as_json

KEY = "k3y-of-nobody"
JOB = {"id": "j", "status": "QUEUED", "created_at": 1}
NO_JOBS = as_json({"data": [], "total": 0})


def test_a_401_names_the_connection_and_is_not_tried_again(connection):
    with ScriptedServer(as_json({"message": "Unauthorized"}, 401)) as server:
        hook = connection(host=server.url)
        with pytest.raises(AuthenticationError, match="the password of connection 'mistral_default'"):
            hook.get("j")
        assert len(server.requests) == 1


def test_a_rotated_key_is_read_from_the_connection_again(connection):
    def step(request):
        good = request.headers["authorization"] == "Bearer new-k3y"
        return as_json(JOB) if good else as_json({"message": "Unauthorized"}, 401)

    with ScriptedServer(step) as server:
        hook = connection(host=server.url)
        with pytest.raises(AuthenticationError):
            hook.get("j")
        connection(host=server.url, password="new-k3y")
        assert hook.get("j").id == "j"
        assert hook.get("j").id == "j"
        keys = [request.headers["authorization"].removeprefix("Bearer ") for request in server.requests]
    assert keys == [KEY, KEY, "new-k3y", "new-k3y"]


def test_a_connection_that_is_deleted_while_its_key_is_refused(connection, monkeypatch):
    with ScriptedServer(as_json({"message": "Unauthorized"}, 401)) as server:
        hook = connection(host=server.url)
        hook.get_conn()
        monkeypatch.delenv("AIRFLOW_CONN_MISTRAL_DEFAULT")
        with pytest.raises(AirflowNotFoundException):
            hook.get("j")


def test_a_connection_that_does_not_exist_says_what_to_do(connection, monkeypatch):
    connection(host="http://127.0.0.1:9")
    monkeypatch.delenv("AIRFLOW_CONN_MISTRAL_DEFAULT")
    with pytest.raises(
        AirflowNotFoundException,
        match=r"'mistral_default': there is no such connection: create it in Airflow",
    ):
        MistralBatchHook().get("j")


def test_the_hooks_retries_win_over_the_connections(connection):
    with ScriptedServer(as_json({}, 500)) as server:
        connection(host=server.url, extra={"retries": 5})
        with pytest.raises(Exception, match="500"):
            MistralBatchHook(retries=RetryPolicy(attempts=1)).get("j")
        assert len(server.requests) == 1


def test_a_connection_that_works(connection):
    with ScriptedServer(NO_JOBS) as server:
        hook = connection(host=server.url)
        assert hook.test_connection() == (True, f"{server.url} accepts the API key.")
        assert [request.path.partition("?")[0] for request in server.requests] == ["/v1/batch/jobs"]


def test_a_connection_that_works_and_has_a_slip_says_so_in_its_test(connection):
    with ScriptedServer(NO_JOBS) as server:
        hook = connection(host=server.url, extra={"timout": 5, "verify": False})
        works, message = hook.test_connection()
    assert works
    assert message.startswith(
        f"{server.url} accepts the API key. The extra of this connection has unknown fields"
    )
    assert "'timout'" in message
    assert "This connection has verify=false" in message


def test_a_connections_test_makes_two_attempts_and_has_no_ids(connection):
    with ScriptedServer(as_json({}, 500)) as server:
        works, message = connection(host=server.url, extra={"retries": 9}).test_connection()
        assert len(server.requests) == 2
    assert (works, "mistral_default" in message) == (False, False)


def test_a_refused_key_of_the_environment_is_named_and_read_again(connection, monkeypatch):
    monkeypatch.setenv("MISTRAL_API_KEY", KEY)
    with ScriptedServer(as_json({"message": "Unauthorized"}, 401)) as server:
        hook = connection(host=server.url, password="")
        with pytest.raises(AuthenticationError, match="in the environment variable MISTRAL_API_KEY"):
            hook.get("j")
        monkeypatch.setenv("MISTRAL_API_KEY", "a-new-key")
        with pytest.raises(AuthenticationError):
            hook.get("j")
        assert server.requests[-1].headers["authorization"] == "Bearer a-new-key"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            as_json({"message": "Unauthorized"}, 401),
            "Check the API key in the password of this connection",
        ),
        (Answer(200, b"<html>log in</html>"), "Is there a proxy"),
    ],
)
def test_a_connection_that_does_not_work(connection, answer, words):
    with ScriptedServer(answer) as server:
        works, message = connection(host=server.url, extra={"retries": 1}).test_connection()
    assert not works
    assert words in message
    assert KEY not in message
