"""The MLflow UI for training runs: `mlflow server --app-name l2keras`.

MLflow's own UI opens an experiment on an empty page about traces of language models, until one
changes a setting that only the browser keeps. A script in its page changes it at the first visit,
and leads from the name of an experiment to the newest view that a sweep has saved. Nothing of
this is MLflow's interface: where its page changes, the plain UI is what is left.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

# Of the browser's storage, as MLflow 3 names them: which menus are shown, and that its assistant
# has been seen.
_SETTINGS = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}
_PAGES = ("/", "/index.html")
_TAG = "mlflow.sharedViewState."  # see reports.views

SCRIPT = """
(() => {
  const settings = %(settings)s;
  for (const [key, value] of Object.entries(settings)) {
    if (localStorage.getItem(key) === null) localStorage.setItem(key, value);
  }
  const plain = /^#\\/experiments\\/(\\d+)(\\/runs)?\\/?(\\?.*)?$/;
  const newest = (tags) => tags
    .filter((tag) => tag.key.startsWith(%(tag)s) && tag.key.endsWith("-runs"))
    .map((tag) => [JSON.parse(tag.value).updatedAt, tag.key.slice(%(tag)s.length)])
    .sort((a, b) => b[0] - a[0])[0];
  let last = "";
  const follow = async () => {
    const hash = location.hash, found = hash.match(plain), before = last;
    last = hash;
    if (!found || /viewStateShareKey|searchFilter=[^&]/.test(hash)) return;
    const here = `#/experiments/${found[1]}`;
    const inside = (place) => place.split("?")[0] === here || place.startsWith(`${here}/`);
    if (inside(before)) return;
    const answer = await fetch(
      `ajax-api/2.0/mlflow/experiments/get?experiment_id=${found[1]}`);
    if (!answer.ok || !inside(location.hash)) return;
    const view = newest((await answer.json()).experiment.tags || []);
    if (!view) return;
    last = `${here}/runs?workflowType=machine_learning&viewStateShareKey=${view[1]}`;
    location.replace(last);
  };
  const watch = () => { if (location.hash !== last) follow().catch(() => {}); };
  for (const name of ["pushState", "replaceState"]) {  // no address in between is missed
    const original = history[name];
    history[name] = function (...given) { original.apply(this, given); watch(); };
  }
  addEventListener("hashchange", watch);
  watch();
})();
"""


def create_app() -> Any:
    """MLflow's application, with the script in its page."""
    import json

    from mlflow.server.fastapi_app import app

    values = {"settings": json.dumps(_SETTINGS), "tag": json.dumps(_TAG)}
    script = f"<script>{SCRIPT % values}</script>"

    @app.middleware("http")
    async def with_script(request: Request, call_next: Any) -> Response:
        response: Any = await call_next(request)
        kind = response.headers.get("content-type", "")
        if request.url.path not in _PAGES or not kind.startswith("text/html"):
            return response  # type: ignore[no-any-return]
        page = b"".join([part async for part in response.body_iterator]).decode()
        headers = {k: v for k, v in response.headers.items() if k.lower() not in _OF_BODY}
        return HTMLResponse(
            page.replace("<head>", f"<head>{script}", 1), response.status_code, headers
        )

    return app


_OF_BODY = ("content-length", "content-encoding", "etag", "last-modified", "content-type")
