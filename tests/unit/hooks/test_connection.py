"""From an Airflow connection, as the environment has it, to a client: every field, good and bad."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from airflow_provider_mistral_batch.api.errors import InvalidInputError
from airflow_provider_mistral_batch.compat import AirflowNotFoundException
from airflow_provider_mistral_batch.get_provider_info import get_provider_info
from airflow_provider_mistral_batch.hooks.connection import KEY_VARIABLE, say_key_is_in_environment
from airflow_provider_mistral_batch.hooks.mistral_batch import MistralBatchHook

from ...airflow_versions import redact, since

KEY = "k3y-of-nobody"


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, "https://api.mistral.ai"),
        ({"host": ""}, "https://api.mistral.ai"),
        ({"host": "gateway.example"}, "https://gateway.example"),
        ({"host": " gateway.example "}, "https://gateway.example"),
        # Airflow's form sends 0 for an empty port.
        ({"host": "gateway.example", "port": 0}, "https://gateway.example"),
        ({"host": "gateway.example", "port": 8443}, "https://gateway.example:8443"),
        ({"host": "gateway.example", "schema": "http", "port": 8080}, "http://gateway.example:8080"),
        ({"host": "gateway.example/mistral", "port": 8080}, "https://gateway.example:8080/mistral"),
        ({"host": "gateway.example:9000/mistral/v1/"}, "https://gateway.example:9000/mistral"),
        ({"host": "http://127.0.0.1:8000"}, "http://127.0.0.1:8000"),
        ({"host": "http://127.0.0.1", "port": 8000}, "http://127.0.0.1:8000"),
        ({"host": "http://127.0.0.1:8000", "port": 9000}, "http://127.0.0.1:8000"),
        ({"host": "https://api.mistral.ai/v1"}, "https://api.mistral.ai"),
        ({"host": "http://[::1]", "port": 80}, "http://[::1]:80"),
    ],
)
def test_hosts(connection, fields, base_url):
    assert connection(**fields).get_conn().base_url == base_url


@pytest.mark.parametrize(
    ("uri", "base_url"),
    [
        (f"mistral://:{KEY}@", "https://api.mistral.ai"),
        (f"mistral://:{KEY}@gateway.example:8443", "https://gateway.example:8443"),
        (f"mistral://:{KEY}@127.0.0.1:8000/http", "http://127.0.0.1:8000"),
        (f"mistral://:{KEY}@http%3A%2F%2F127.0.0.1%3A8000%2Fv1", "http://127.0.0.1:8000"),
    ],
)
def test_connections_as_uris(connection, uri, base_url):
    client = connection(uri).get_conn()
    assert client.base_url == base_url
    assert client._transport._auth.api_key == KEY


def test_extra_of_a_uri_is_all_strings(connection):
    uri = f"mistral://:{KEY}@?timeout=5&retries=2&verify=false&dialect=openai&default_model=m"
    hook = connection(uri)
    client = hook.get_conn()
    assert client._transport._options["timeout"] == (10.0, 5.0)
    assert client._transport.retries.attempts == 2
    assert client.verifies_tls is False
    assert client.dialect.name == "openai"
    assert hook.default_model == "m"


PROXIES = {"http": None, "all": None, "https": "http://proxy:3128"}


@pytest.mark.parametrize(
    "query",
    [
        {"proxies": '{"https": "http://proxy:3128"}'},
        {"__extra__": '{"proxies": {"https": "http://proxy:3128"}}'},
        {"__extra__": '{"proxies": "{\\"https\\": \\"http://proxy:3128\\"}"}'},
    ],
)
def test_proxies_of_a_uri_are_json(connection, logged, query):
    hook = connection(f"mistral://:{KEY}@?{urlencode(query)}")
    assert hook.get_conn()._transport._options["proxies"] == PROXIES
    assert not [line for line in logged() if "not known" in line]


@pytest.mark.parametrize(
    ("extra", "options"),
    [
        ({}, {"timeout": (10.0, 120.0), "verify": True, "proxies": None}),
        (
            {"timeout": None, "verify": "", "proxies": None, "dialect": ""},
            {"timeout": (10.0, 120.0), "verify": True},
        ),
        ({"timeout": 0.5}, {"timeout": (10.0, 0.5)}),
        ({"verify": "True"}, {"verify": True}),
        ({"verify": True}, {"verify": True}),
        ({"verify": "FALSE"}, {"verify": False}),
        ({"verify": False}, {"verify": False}),
        (
            {"proxies": {"https": "http://proxy:3128"}},
            {"proxies": PROXIES},
        ),
        ({"proxies": '{"https": "http://proxy:3128"}'}, {"proxies": PROXIES}),
        ({"proxies": "null"}, {"proxies": None}),
    ],
)
def test_extra(connection, extra, options):
    used = connection(extra=extra).get_conn()._transport._options
    assert {name: used[name] for name in options} == options


def test_a_ca_bundle(connection):
    import certifi

    assert (
        connection(extra={"verify": certifi.where()}).get_conn()._transport._options["verify"]
        == certifi.where()
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"password": None}, "password is empty: enter the API key of your Mistral workspace"),
        ({"password": ""}, "password is empty"),
        ({"password": " \n"}, "password is empty"),
        ({"password": "two words"}, "password has spaces, line ends or non-ASCII characters"),
        ({"host": "ftp://host"}, "host is not a valid URL: write https://host"),
        ({"host": "https://me:hunter2@host"}, "host is not a valid URL: write https://host"),
        ({"host": "bad host"}, "host is not a valid URL: write https://host"),
        (
            {"extra": {"timeout": "soon"}},
            "extra.timeout='soon' is not an int or a float: pass a number of seconds",
        ),
        (
            {"extra": {"timeout": 0}},
            "extra.timeout=0 is not a finite number above 0: pass a number of seconds",
        ),
        (
            {"extra": {"timeout": True}},
            "extra.timeout=True is not an int or a float: pass a number of seconds",
        ),
        (
            {"extra": {"timeout": [1, 2]}},
            "extra.timeout=[1, 2] is not an int or a float: pass a number of seconds",
        ),
        (
            {"extra": {"timeout": "nan"}},
            "extra.timeout=nan is not a finite number above 0: pass a number of seconds",
        ),
        ({"extra": {"retries": 0}}, "extra.retries=0 is not 1 or more: pass a whole number of attempts"),
        ({"extra": {"retries": 2.5}}, "extra.retries=2.5 is not an int: pass a whole number of attempts"),
        (
            {"extra": {"retries": "many"}},
            "extra.retries='many' is not an int: pass a whole number of attempts",
        ),
        ({"extra": {"retries": "inf"}}, "extra.retries=inf is not an int: pass a whole number of attempts"),
        (
            {"extra": {"proxies": "http://me:hunter2@proxy"}},
            'extra.proxies is not a mapping of scheme to URL: write {"https"',
        ),
        ({"extra": {"proxies": ["x"]}}, "extra.proxies is not a mapping"),
        ({"extra": {"proxies": '["http://me:hunter2@proxy"]'}}, "extra.proxies is not a mapping"),
        ({"extra": {"proxies": '{"https": "http://me:hunter2@proxy"'}}, "extra.proxies is not a mapping"),
        ({"extra": {"proxies": {"https": "http://me:hunter2@"}}}, "extra.proxies is not a mapping"),
        (
            {"extra": {"verify": "/no/such/bundle"}},
            "extra.verify='/no/such/bundle' is not a boolean or a readable CA bundle",
        ),
        ({"extra": {"verify": 0}}, "extra.verify=0 is not a boolean or"),
        ({"extra": {"verify": "no"}}, "extra.verify='no' is not a boolean or"),
        (
            {"extra": {"dialect": "anthropic"}},
            "extra.dialect='anthropic' is not known: use one of mistral, openai",
        ),
        pytest.param(
            {"extra": ["timeout"]},
            "extra is not a JSON object",
            marks=since("3.2", "a connection whose extra is a list can be read"),
        ),
        ({"extra": {"default_model": 5}}, "extra.default_model=5 is not a string"),
    ],
)
def test_bad_fields_name_connection_and_field_and_show_no_secret(connection, fields, words):
    hook = connection(**fields)
    for _ in range(2):
        with pytest.raises(InvalidInputError) as caught:
            hook.get_conn()
        assert str(caught.value).startswith("connection 'mistral_default': ")
        assert words in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert KEY not in str(caught.value)
    assert hook.test_connection() == (False, str(caught.value).removeprefix("connection 'mistral_default': "))


def test_the_environment_has_the_key_of_connections_without_one(connection, monkeypatch, logged):
    say_key_is_in_environment.cache_clear()
    monkeypatch.setenv(KEY_VARIABLE, f" {KEY}\n")
    for password in (None, "", " "):
        client = connection(password=password).get_conn()
        assert client._transport._auth.api_key == KEY
    said = [line for line in logged() if KEY_VARIABLE in line]
    assert len(said) == 1
    assert KEY not in said[0]
    assert "https://api.mistral.ai" in said[0]


def test_a_password_wins_over_the_environment(connection, monkeypatch, logged):
    monkeypatch.setenv(KEY_VARIABLE, "another")
    assert connection(password=KEY).get_conn()._transport._auth.api_key == KEY
    assert KEY_VARIABLE not in "".join(logged())


def test_models_of_common_ai_are_no_mistake(connection, logged):
    connection(extra={"model": "mistral:mistral-small-latest"}).get_conn()
    assert "unknown fields" not in "".join(logged())
    connection(extra={"model": "mistral-small-latest"}).get_conn()
    assert "unknown fields, which are ignored: 'model'" in "".join(logged())


def test_a_connection_that_is_not_there():
    hook = MistralBatchHook("no_such_connection")
    with pytest.raises(AirflowNotFoundException, match="no_such_connection"):
        hook.get_conn()
    works, message = hook.test_connection()
    assert (works, "no_such_connection" in message) == (False, True)


def test_all_fields_of_the_form_are_read_and_all_that_are_read_are_in_the_form(connection):
    import inspect

    from airflow_provider_mistral_batch.hooks import connection as connection_module

    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    source = inspect.getsource(connection_module)
    assert set(fields) == {
        "default_model",
        "deployment",
        "dialect",
        "rows_have_url",
        "timeout",
        "retries",
        "proxies",
        "verify",
    }
    assert all(f'"{name}"' in source for name in fields)


def test_the_form_of_the_connection():
    behaviour = MistralBatchHook.get_ui_field_behaviour()
    assert behaviour["relabeling"] == {"password": "API Key", "host": "Base URL"}
    assert "password" not in behaviour["hidden_fields"]


def test_verify_false_is_said_loudly_once(connection, logged):
    # Poll loops make a hook after each failure.
    for _ in range(2):
        connection(extra={"verify": False}).get_conn()
    lines = [line for line in logged() if "verify=false" in line]
    assert len(lines) == 1
    assert lines[0].startswith(
        "warning: Connection 'mistral_default' has verify=false: TLS certificates are NOT"
    )


def test_nothing_is_said_when_certificates_are_checked(connection, logged):
    connection().get_conn()
    assert not [line for line in logged() if "TLS" in line]


@pytest.mark.parametrize(
    ("extra", "names"),
    [
        ({"time_out": "hunter2-5", "timeout": 5, "Retries": 3}, "'Retries', 'time_out'"),
        # Forms of Airflow 2 wrote such names.
        ({"extra__mistral__timeout": 5}, "'extra__mistral__timeout'"),
        ({"__extra__": '{"timeout": 5}'}, "'__extra__'"),
    ],
)
def test_fields_that_nothing_reads_are_named_once_and_their_values_never(connection, logged, extra, names):
    hook = connection(extra=extra)
    hook.get_conn()
    hook.get_conn()
    assert hook.default_model is None
    [line] = [line for line in logged() if "extra" in line or "hunter2" in line]
    assert line == (
        f"warning: The extra of connection 'mistral_default' has unknown fields, which are ignored: {names}. "
        "Known fields are default_model, dialect, deployment, rows_have_url, timeout, retries, proxies, verify."
    )


def test_the_clients_timeout_is_the_connections(connection):
    hook = connection(host="http://127.0.0.1:1", extra={"timeout": 3})
    assert hook.get_conn()._transport._options["timeout"][1] == 3


def test_one_client_until_it_is_closed(connection):
    hook = connection()
    first = hook.get_conn()
    assert hook.get_conn() is first
    hook.close()
    assert hook.get_conn() is not first
    assert hook.clock_offset == 0.0


def test_the_key_is_masked_and_in_no_repr(connection, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_MISTRAL_DEFAULT", json.dumps({"conn_type": "mistral", "password": "s3cret-k3y"})
    )
    hook = MistralBatchHook()
    client = hook.get_conn()
    assert "s3cret-k3y" not in redact("the key is s3cret-k3y")
    assert (
        "s3cret-k3y"
        not in f"{hook!r}{client!r}{vars(hook)}{vars(client)}{vars(client._transport)['_session']!r}"
    )


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("https://api.example", False),
        ("http://127.0.0.1:8787", False),
        ("http://localhost:8787", False),
        ("http://gateway.example", True),
    ],
)
def test_a_key_that_goes_in_clear_is_said_loudly(connection, logged, host, said):
    connection(host=host).get_conn()
    assert any("sent to http://gateway.example in clear" in line for line in logged()) is said
