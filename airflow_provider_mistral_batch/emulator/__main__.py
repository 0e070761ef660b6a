"""The command line: ``python -m airflow_provider_mistral_batch.emulator``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

KEY_VARIABLE = "MISTRAL_EMULATOR_API_KEY"
UPSTREAM_KEY_VARIABLE = "MISTRAL_EMULATOR_UPSTREAM_KEY"

_EXAMPLES = f"""\
examples:
  %(prog)s --port 8787
      listen on http://127.0.0.1:8787 and accept any bearer token
  {KEY_VARIABLE}=secret %(prog)s --port 8787 --state-dir ./emulator
      accept one token, and keep jobs and files between runs
  %(prog)s --upstream http://127.0.0.1:11434/v1 --upstream-model llama3.2
      let a local model answer the rows

Once it listens, it prints one line on standard output: ready url=http://... pid=... state_dir=...
"""


def main(arguments: list[str] | None = None) -> int:
    """
    Read the command line, and run the emulator.

    :param arguments: The command line's arguments; those of this process if not given.
    :return: The exit status.
    """
    try:
        from airflow_provider_mistral_batch.emulator.engine.options import UpstreamOptions
        from airflow_provider_mistral_batch.emulator.http.web_pages import is_loopback
        from airflow_provider_mistral_batch.emulator.server import Start, serve
        from airflow_provider_mistral_batch.emulator.state.settings import Settings
    except ImportError as error:
        sys.stderr.write(
            f"The emulator needs {error.name}: pip install 'airflow-provider-mistral-batch[emulator]'\n"
        )
        return 1
    parser = _parser(Settings)
    options = parser.parse_args(arguments)
    if not is_loopback(options.host):
        sys.stderr.write(
            f"WARNING: listening on {options.host}: everybody who can reach this machine can use the emulator and"
            " its control API, which needs no token.\n"
        )
    keys = [*options.api_key, *filter(None, [os.environ.get(KEY_VARIABLE)])]
    settings = {name: getattr(options, name) for name in Settings.model_fields}
    upstream = None
    if options.upstream:
        if not options.upstream.startswith(("http://", "https://")):
            parser.error(f"--upstream {options.upstream!r} is not a URL: write it as http://host:port/v1")
        key = options.upstream_key or os.environ.get(UPSTREAM_KEY_VARIABLE)
        upstream = UpstreamOptions(
            options.upstream, key, options.upstream_model, options.upstream_concurrency
        )
        if settings["job_seconds"] is None:
            # Jobs take as long as the model does.
            settings["job_seconds"] = 0.0
    try:
        serve(
            Start(
                host=options.host,
                port=options.port,
                state_dir=options.state_dir,
                remove_state_dir=options.remove_state_dir,
                api_keys=keys,
                parent_pid=options.parent_pid,
                upstream=upstream,
                settings={name: value for name, value in settings.items() if value is not None},
            )
        )
    except OSError as error:
        where = f", with its state in {options.state_dir}" if options.state_dir else ""
        sys.stderr.write(f"Cannot serve on {options.host}:{options.port}{where}: {error}\n")
        return 1
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        pass
    return 0


def _parser(settings: Any) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_mistral_batch.emulator",
        description="A real HTTP server with Mistral's Batch and Files API, for demos, tests and CI.\n"
        "Its answers are deterministic. Nothing leaves this machine unless --upstream is given.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    start = parser.add_argument_group("start")
    start.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    start.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    start.add_argument(
        "--state-dir",
        type=Path,
        help="where jobs and files are kept (default: a temporary directory, removed at the end)",
    )
    start.add_argument("--remove-state-dir", action="store_true", help="remove --state-dir at the end")
    start.add_argument(
        "--api-key",
        action="append",
        default=[],
        metavar="KEY",
        help="a token to accept; all of them share one workspace (default: accept any token, each with a workspace"
        f" of its own). Process lists show it: set {KEY_VARIABLE} instead",
    )
    start.add_argument(
        "--parent-pid", type=int, metavar="PID", help="end when this process is no longer the parent"
    )
    upstream = parser.add_argument_group(
        "upstream", "a server with the OpenAI-compatible API that answers the rows"
    )
    upstream.add_argument(
        "--upstream",
        metavar="URL",
        help="base URL of the server; rows for chat completions, embeddings and moderations are sent to it",
    )
    upstream.add_argument(
        "--upstream-key",
        metavar="KEY",
        help=f"bearer token for the server. Process lists show it: set {UPSTREAM_KEY_VARIABLE} instead",
    )
    upstream.add_argument(
        "--upstream-model", metavar="NAME", help="model to ask, whatever rows and jobs name"
    )
    upstream.add_argument(
        "--upstream-concurrency",
        type=int,
        default=4,
        metavar="N",
        help="requests that are sent to it at the same time (default: %(default)s)",
    )
    group = parser.add_argument_group(
        "settings", "can be changed while the emulator runs, and are kept in --state-dir"
    )
    for name, setting in settings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        described = f"{setting.description} (default: {setting.default})"
        if get_origin(setting.annotation) is Literal:
            group.add_argument(flag, choices=get_args(setting.annotation), help=described)
        else:
            group.add_argument(flag, type=setting.annotation, metavar="N", help=described)
    return parser


if __name__ == "__main__":
    sys.exit(main())
