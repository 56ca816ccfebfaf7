"""The page, on Gradio. It listens on this machine only, and its browser may load nothing from elsewhere."""

import os
from pathlib import Path
from typing import Any

from iddmbench.app.measure import COLUMNS, answer, example
from iddmbench.errors import UserError
from iddmbench.photos import DEFAULT_DATASET

HOST = "127.0.0.1"
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' ws: data: blob:; frame-ancestors 'none'; form-action 'self'"
)
"""Gradio's own page needs inline scripts and styles; the rest of the web is closed to it."""
TITLE = "Who can link these pictures to a person?"
INTRO = (
    "Add photos of one person, and pictures that might show that person: from a generator, defended or not. "
    "Face-recognition systems then search a gallery that holds the person among strangers.\n\n"
    "**Everything stays on this machine.** Nothing is sent to or loaded from the internet, and the program deletes the "
    "files when it ends. Use photos of people who agreed."
)
GUIDE = (
    "*Linked*: the person is the first of all people in the gallery. *Score*: similarity of faces; higher is more alike. "
    "*Threshold*: only 1 % of pairs of strangers score as high. A picture that is not linked here may still be linked by "
    "another system, or by the eye. Strangers are named as in their dataset."
)


def build(folder: Path, cache: Path | None = None) -> Any:
    """The ASGI application.

    Args:
        folder: for the example's files and those that the browser sends.
        cache: as `answer` takes it; by default a part of `folder`.

    Raises UserError when Gradio is not installed.
    """
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(folder), HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import gradio as gr
        from fastapi import FastAPI
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    except ImportError as error:
        raise UserError(f"the app needs gradio ({error}): pip install 'iddmbench[app]'") from error

    def measure(photos: Any, pictures: Any, dataset: str, attackers: list[str]) -> tuple[str, Any]:
        try:
            found = answer(photos, pictures, dataset, attackers, cache or folder / "cache")
        except UserError as error:
            return f"**Not measured:** {_plain(str(error))}", gr.update(value=[], visible=False)
        text = "\n".join(f"- {_plain(sentence)}" for sentence in found.sentences)
        return text, gr.update(value=found.rows, visible=True)

    def load_example() -> tuple[list[str], list[str]]:
        return example(folder)

    with gr.Blocks(analytics_enabled=False, title=f"{TITLE} · IDDM-Bench") as page:
        gr.Markdown(f"# {TITLE}\n\n{INTRO}")
        with gr.Row():
            photos = gr.File(label="Photos of the person", file_count="multiple", file_types=["image"], height=180)
            pictures = gr.File(label="Pictures to test", file_count="multiple", file_types=["image"], height=180)
        with gr.Row():
            attackers = gr.CheckboxGroup(["dlib", "sface"], value=["dlib", "sface"], label="Face-recognition systems")
            dataset = gr.Radio(
                [("240 generated people, colour", "synthetic"), ("28 people, gray (quick)", "orl")],
                value=DEFAULT_DATASET,
                label="Strangers in the gallery",
            )
        with gr.Row():
            start = gr.Button("Measure", variant="primary", elem_id="measure")
            fill = gr.Button("Fill in an example: people who do not exist", elem_id="example")
        words = gr.Markdown(elem_id="answer")
        table = gr.Dataframe(
            headers=list(COLUMNS),
            column_widths=[
                "12rem",
                *["8rem"] * (len(COLUMNS) - 2),
                "24rem",
            ],  # no word is broken; the table scrolls sideways
            interactive=False,
            visible=False,
            wrap=True,
            label="By picture",
            elem_id="table",
        )
        gr.Markdown(GUIDE)
        start.click(measure, [photos, pictures, dataset, attackers], [words, table], api_visibility="private")
        fill.click(load_example, None, [photos, pictures], api_visibility="private")

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])

    @app.middleware("http")
    async def closed(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=HOST,
        theme=theme,
        footer_links=[],
        ssr_mode=False,
        enable_monitoring=False,
        allowed_paths=[str(folder)],
        max_file_size="50mb",
    )


def serve(folder: Path, port: int, cache: Path | None = None) -> None:
    """Serve the page until the program is stopped. Raises UserError when the port is taken or Gradio is not installed."""
    import socket

    app = build(folder, cache)
    import uvicorn

    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError as error:
            raise UserError(f"port {port} is taken ({error}): give another --port") from error
    uvicorn.run(app, host=HOST, port=port, log_level="warning")


def _plain(text: str) -> str:
    """Text from names of files as Markdown shows it: as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~&$" else c for c in " ".join(text.split()))
