"""The application: lists, curves, logs, reports, comparisons, and a box to try a model."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kerasllm.errors import KerasllmError
from kerasllm.reports.curves import curves_of
from kerasllm.reports.page import environment_of
from kerasllm.run import Run
from kerasllm.tasks.task import find
from kerasllm.watch.access import HEADERS, Access
from kerasllm.watch.drawn_apart import drawn_apart
from kerasllm.watch.run_list import RunList, Shown, file_of
from kerasllm.watch.trials import Trials

_MOST_COMPARED = 8
_MOST_BODY = 100_000
_MOST_RECIPE, _MOST_REPORT = 50_000, 64_000_000
# A report is a file of a run, which anyone may have written: no script in it is run, and it is of
# no origin.
_SANDBOXED = {
    **HEADERS,
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:",
}


def build_app(
    folders: Sequence[Path], token: str, *, prefix: str = "", hosts: Collection[str] = ()
) -> ASGIApp:
    """Returns the application that shows the runs in folders.

    Args:
        folders: Folders of runs, or run directories.
        token: What a browser must send; see `kerasllm.watch.access`.
        prefix: What comes before each path, as `/watch`. Defaults to nothing.
        hosts: Names by which it may be asked, beside those of the machine. Defaults to none.
    """
    pages = _Pages(RunList(folders), prefix)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await pages.trials.close()

    app = Starlette(
        routes=pages.routes,
        exception_handlers={
            KerasllmError: pages.refused,
            HTTPException: pages.refused,
            Exception: pages.refused,
        },
        lifespan=lifespan,
    )
    return Access(app, token, prefix, hosts)


class _Pages:
    def __init__(self, runs: RunList, prefix: str):
        self._runs = runs
        self.trials = Trials()
        # One page at a time: else the memory of several would add up.
        self._drawing = asyncio.Lock()
        self._environment = environment_of("kerasllm.watch")
        script = resources.files("kerasllm.watch").joinpath("watch.js").read_bytes()
        self._script = script
        version = hashlib.sha256(script).hexdigest()[:12]
        self._environment.globals |= {"prefix": prefix, "script": f"{prefix}/watch.js?{version}"}
        self.routes = [
            Route("/", self._list),
            Route("/watch.js", self._javascript),
            Route("/list", self._list_part),
            Route("/compare", self._compare),
            Route("/run/{name:path}", self._run),
            Route("/live/{name:path}", self._run_part),
            Route("/report/{name:path}", self._report),
            Route("/open/{name:path}", self._open, methods=["POST"]),
            Route("/try/{name:path}", self._try, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        return self._page("runs.html", runs=await run_in_threadpool(self._rows))

    async def _list_part(self, request: Request) -> Response:
        return self._part(request, "list.html", runs=await run_in_threadpool(self._rows))

    async def _run(self, request: Request) -> Response:
        run = await self._get(request)
        return self._page("run.html", **await run_in_threadpool(self._facts, run))

    async def _run_part(self, request: Request) -> Response:
        run = await self._get(request)
        return self._part(request, "live.html", **await run_in_threadpool(self._facts, run))

    async def _report(self, request: Request) -> Response:
        run = _usable(await self._get(request))
        page = await run_in_threadpool(_written_report_of, run)
        page = page or await self._drawn("report", [run.path])
        return HTMLResponse(page, headers=_SANDBOXED)

    async def _compare(self, request: Request) -> Response:
        names = request.query_params.getlist("run")
        if len(names) > _MOST_COMPARED:
            raise HTTPException(400, f"At most {_MOST_COMPARED} runs are compared")
        if len(names) < 2:
            raise HTTPException(400, "Choose two runs or more to compare them")
        paths = [_usable(await self._named(name)).path for name in names]
        return HTMLResponse(await self._drawn("compare", paths), headers=_SANDBOXED)

    async def _drawn(self, kind: str, paths: Sequence[Path]) -> str:
        async with self._drawing:
            return await drawn_apart(kind, paths)

    async def _open(self, request: Request) -> Response:
        run = _usable(await self._get(request))
        fields = await self.trials.open(run.path)
        return self._part(request, "box.html", fields=fields, run=run)

    async def _try(self, request: Request) -> Response:
        run = _usable(await self._get(request))
        try:
            texts = json.loads(await _body_of(request))["texts"]
        except (ValueError, TypeError, KeyError, RecursionError):
            texts = None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise HTTPException(400, f"Send texts, of {_MOST_BODY:,} bytes at most")
        if not any(text.strip() for text in texts):
            raise HTTPException(400, "Write a text first")
        answer = await self.trials.ask(run.path, texts)
        return self._part(request, "tried.html", answer=answer)

    async def _javascript(self, request: Request) -> Response:
        return Response(self._script, media_type="text/javascript", headers=HEADERS)

    async def refused(self, request: Request, error: Exception) -> Response:
        """Returns what a request that failed is answered with: one readable message."""
        if isinstance(error, HTTPException):
            message, fix, status = error.detail, None, error.status_code
        elif isinstance(error, KerasllmError):
            message, fix, status = error.what, error.fix, 400
        else:
            message, fix, status = "This failed; see the terminal for details", None, 500
        if request.method == "POST":
            return JSONResponse({"error": message}, status, headers=HEADERS)
        return self._page("refused.html", status, message=message, fix=fix)

    def _rows(self) -> list[dict[str, Any]]:
        return [_row(run) for run in self._runs.look()]

    def _facts(self, run: Shown) -> dict[str, Any]:
        names: Mapping[str, str] = {}
        headline = ""
        if "problem" not in run.facts:
            names = find(run.facts["task"]).metrics
            headline = run.facts.get("metric") or next(iter(names), "")
        recipe, log = file_of(run, Run(run.path).recipe), self._runs.log_of(run)
        rows, metrics = log.rows, run.facts.get("metrics") or {}
        return {
            "run": _row(run),
            "parts": list(metrics),
            "measured": [
                (name, [part.get(key) for part in metrics.values()])
                for key, name in names.items()
                if any(part.get(key) is not None for part in metrics.values())
            ],
            "curves": curves_of(rows, names, headline),
            "log": [_log_line(row) for row in reversed(log.newest)],
            "quiet": _quiet(run),
            "recipe": _beginning_of(recipe, _MOST_RECIPE) if recipe else "",
            "tries": run.state == "finished",
        }

    async def _get(self, request: Request) -> Shown:
        return await self._named(request.path_params["name"])

    async def _named(self, name: str) -> Shown:
        run = await run_in_threadpool(self._runs.get, name)
        if run is None:
            raise HTTPException(404, f"There is no run {name[:200]!r} in the list")
        return run

    def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        page = self._environment.get_template(template).render(**values)
        return HTMLResponse(page, status, HEADERS)

    def _part(self, request: Request, template: str, **values: Any) -> Response:
        """Returns a part of a page, or that it is as it was."""
        part = self._environment.get_template(template).render(**values)
        tag = f'"{hashlib.sha256(part.encode()).hexdigest()[:32]}"'
        headers = {**HEADERS, "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return HTMLResponse(part, headers=headers)


def _row(run: Shown) -> dict[str, Any]:
    facts = run.facts
    last = {key: value for key, value in run.last.items() if not isinstance(value, str)}
    return {
        "id": run.id,
        "state": run.state,
        "problem": facts.get("problem"),
        "task": facts.get("task"),
        "preset": facts.get("preset"),
        "name": f"{facts.get('name')}, {facts.get('part')}" if facts.get("part") else "",
        "value": facts.get("value"),
        "started": facts.get("started"),
        "step": last.get("step"),
        "epoch": last.get("epoch"),
        "loss": last.get("loss"),
        "rate": last.get("tokens_per_second"),
    }


def _quiet(run: Shown) -> int | None:
    """Returns for how many seconds a training has written nothing, where that is long."""
    seconds = int(time.time() - run.changed) // 10 * 10
    return seconds if run.state == "training" and run.last and seconds >= 30 else None


def _log_line(row: dict[str, Any]) -> str:
    validation = row.get("validation")
    kind = "validation" if isinstance(validation, dict) else "training"
    values = validation if isinstance(validation, dict) else row
    shown = (
        f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
        if key != "step" and isinstance(value, int | float | str)
    )
    return f"step {row['step']:>6}  {kind}  {', '.join(shown)}"


def _written_report_of(run: Shown) -> str | None:
    """Returns the report of a finished run, if there is one that is not too long."""
    written = file_of(run, Run(run.path).report)
    if run.state == "finished" and written and written.stat().st_size <= _MOST_REPORT:
        return _beginning_of(written, _MOST_REPORT)
    return None


def _beginning_of(path: Path, most: int) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(most)


async def _body_of(request: Request) -> bytes:
    """Returns the body of a request; nothing of one that is too long, and not read to its end."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY:
            return b""
    return body


def _usable(run: Shown) -> Shown:
    """Returns a run, if nothing of it stands elsewhere."""
    if run.outside:
        raise HTTPException(403, run.facts["problem"])
    return run
