"""Inline completion in editors: a language server (LSP 3.18) over standard input and output.

    status = run_language_server(Completer(generator), source, sink)       # two binary files; returns after `exit`

`textDocument/inlineCompletion` is answered with the text between what is before and after the cursor. The other open documents are
read too, the one that was changed last first. A new request, a change of a document and `$/cancelRequest` end the running
completion at the engine's next step; the prompt that it has read stays in the prefix cache.
"""

import asyncio
import itertools
import logging
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from neox_code.errors import NeoXError
from neox_code.generation.engine import Row
from neox_code.generation.generator import Generator, make_sampling_settings
from neox_code.generation.infilling import ContextFile
from neox_code.generation.request import Request
from neox_code.generation.stop_rules import (
    StopRule,
    SuffixOverlap,
    build_end_of_block,
    build_stop_rules,
    is_continued,
    mask_comments_and_strings,
    opens_block,
    parse_cursor,
)
from neox_code.generation.stopping import StopReason
from neox_code.logs import get_logger
from neox_code.serving.engine_thread import EngineThread, Job
from neox_code.tokenizer.infilling import find_markers

log = get_logger(__name__)

SECONDS = 1.0
CURSOR_CHARACTERS = 20_000
"""Characters before the cursor that stop rules read."""

CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
"""Position encoding of the protocol -> (Python's codec, bytes of one unit of a position)."""


class EndOfLine:
    """End before the first line end that follows some text: complete the cursor's line, or the next one if the cursor's is
    complete.
    """

    pattern = re.compile(r"\s*\S[^\r\n]*(?=\r?\n)")

    def find_end(self, text: str) -> int | None:
        match = self.pattern.match(text)
        return match.end() if match else None

    def count_unsettled(self, text: str) -> int:
        return len(text) - len(text.rstrip("\r"))


def choose_stop_rule(prefix: str) -> StopRule:
    r"""Return the rule for the end of the block if the cursor's line, or the line before an empty one, opens a block; else for the
    line.

    >>> [type(choose_stop_rule(text)).__name__ for text in ("def f(x):\n    ", "int f() {", "x = ", "print(", "    y = 1\n    ")]
    ['IndentedBlock', 'BracedBlock', 'EndOfLine', 'EndOfLine', 'EndOfLine']
    """
    cursor = parse_cursor(prefix)
    line = mask_comments_and_strings(cursor.tail, cursor.dialect).strip()
    statement = line or cursor.header.strip()
    continuing = "([" + ("=" if line else "") + (":" if cursor.dialect in ("braces", "rust") else "")
    is_opening = opens_block(statement) and statement[-1] not in continuing and not is_continued(cursor.stack, cursor.dialect)
    return build_end_of_block(prefix) if is_opening else EndOfLine()


def find_offset(text: str, position: types.Position, encoding: str) -> int:
    """Return the index of a position in the text. `position.character` counts units of the encoding; a line ends at LF, CR LF or
    CR.

    >>> find_offset("a\\x0cb\\r\\n😀x\\n", types.Position(1, 2), "utf-16"), find_offset("é", types.Position(5, 5), "utf-8")
    (6, 1)
    """
    ends = list(itertools.islice(re.finditer(r"\r\n?|\n", text), position.line))
    if len(ends) < position.line:
        return len(text)
    begin = ends[-1].end() if ends else 0
    line = re.compile(r"[^\r\n]*").match(text, begin)
    codec, width = CODECS[encoding]
    units = (line[0] if line else "").encode(codec, "surrogatepass")[: position.character * width]
    return begin + len(units.decode(codec, "ignore"))


@dataclass(frozen=True)
class Place:
    """The texts around a cursor, and the other documents, least important first."""

    prefix: str
    suffix: str
    path: str = ""
    files: tuple[ContextFile, ...] = ()
    repository: str = ""

    @property
    def is_inside_word(self) -> bool:
        return re.search(r"\w\Z", self.prefix) is not None and re.match(r"\w", self.suffix) is not None


class Completer:
    """Complete texts with one model. A new request ends the running one. The methods are called on the event loop."""

    def __init__(self, generator: Generator, seconds: float = SECONDS):
        self.generator, self.seconds = generator, seconds
        self.thread = EngineThread(generator.engine)
        self.number = 0
        """Number of the newest request or change."""
        self.job: Job | None = None

    def end_running(self) -> None:
        """End the running completion, because the documents have changed or a newer one is requested."""
        self.number += 1
        if self.job is not None:
            self.job.cancel()

    async def complete(self, place: Place) -> str:
        """Return the missing text; an empty one if there is none or a newer request or change came."""
        self.end_running()
        if place.is_inside_word:
            return ""
        number = self.number
        request = await asyncio.to_thread(self.make_request, place)
        if request is None or number != self.number:
            return ""
        self.job = self.thread.submit([request])
        (row,) = await self.job.wait()
        return read_text(row)

    def make_request(self, place: Place) -> Request | None:
        """Return the request for a place; None, with a warning, if the vocabulary cannot encode its text."""
        section = self.generator.section
        try:
            prefix, suffix = (
                self.generator.treat_newlines(make_encodable(text), place.path) for text in (place.prefix, place.suffix)
            )
            prompt = self.generator.make_infilling_prompt(
                prefix, suffix, section, place.files, repository=place.repository, path=place.path
            )
        except NeoXError as error:
            log.warning("no completion: %s", error)
            return None
        near = prefix[-CURSOR_CHARACTERS:]
        rules = build_stop_rules(section.stop_rules, section.stop, near) or (choose_stop_rule(near),)
        return Request(
            tuple(prompt.ids),
            section.maximum_tokens,
            make_sampling_settings(section),
            self.generator.seed,
            stop=(*rules, SuffixOverlap(suffix)),
            repeat_bytes=prompt.repeat_bytes,
            seconds=self.seconds,
        )


def make_encodable(text: str) -> str:
    """Return a text in which "?" replaces halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()


def read_text(row: Row) -> str:
    """Return the completion of a row that has ended; an empty text if it is blank, cancelled or failed."""
    if row.error is not None:
        log.error("no completion: %s", row.error)
    is_complete = row.stop_reason not in (StopReason.CANCELLED, StopReason.FAILED)
    return row.text if is_complete and row.text.strip() else ""


class Documents:
    """The open documents by URI; the one that was changed last is the last one."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def change(self, params: types.DidChangeTextDocumentParams, encoding: str) -> None:
        uri = params.text_document.uri
        text = self.texts.pop(uri, "")
        for change in params.content_changes:
            if isinstance(change, types.TextDocumentContentChangePartial):
                begin, end = (find_offset(text, place, encoding) for place in (change.range.start, change.range.end))
                text = text[:begin] + change.text + text[end:]
            else:
                text = change.text
        self.texts[uri] = text

    def find_place(self, uri: str, begin: int, selected: str, end: int, root: str | None) -> Place:
        """Return the place of a cursor. `selected` is a text chosen in the editor's menu; it replaces the text from `begin` to
        `end`.
        """
        text = self.texts[uri]

        def name(other: str) -> str:
            path = PurePath(to_fs_path(other) or other)
            return path.relative_to(root).as_posix() if root and path.is_relative_to(root) else path.name

        files = tuple(ContextFile(name(other), make_encodable(each)) for other, each in self.texts.items() if other != uri)
        return Place(text[:begin] + selected, text[end:], name(uri), files, PurePath(root or "").name)


def run_language_server(completer: Completer, source: BinaryIO, sink: BinaryIO) -> int:
    """Answer an editor until it sends `exit` or disconnects; return 0 if it sent `shutdown` before, else 1."""
    logging.getLogger("pygls").setLevel(logging.ERROR)  # it warns of each cancellation that comes too late
    server = LanguageServer("neox-code", "")
    for method in (types.TEXT_DOCUMENT_DID_OPEN, types.TEXT_DOCUMENT_DID_CHANGE, types.TEXT_DOCUMENT_DID_CLOSE):
        del server.protocol.fm.builtin_features[method]  # they end lines at form feeds, and change the positions that they read
    documents = Documents()
    was_shut_down = False

    def get_encoding() -> str:
        return server.workspace.position_encoding or "utf-16"

    @server.feature(types.INITIALIZED)
    def check_client(_: types.InitializedParams) -> None:
        document = server.client_capabilities.text_document
        if document is None or document.inline_completion is None:
            message = "the editor does not announce textDocument/inlineCompletion (LSP 3.18), the only request that is answered."
            log.warning("%s", message)
            server.window_show_message(types.ShowMessageParams(types.MessageType.Warning, f"neox-code: {message}"))

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def open_document(params: types.DidOpenTextDocumentParams) -> None:
        documents.texts[params.text_document.uri] = params.text_document.text

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def change_document(params: types.DidChangeTextDocumentParams) -> None:
        completer.end_running()
        documents.change(params, get_encoding())

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def close_document(params: types.DidCloseTextDocumentParams) -> None:
        documents.texts.pop(params.text_document.uri, None)

    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions(work_done_progress=False))
    async def complete(params: types.InlineCompletionParams) -> types.InlineCompletionList:
        uri, selection = params.text_document.uri, params.context.selected_completion_info
        if uri not in documents.texts:
            return types.InlineCompletionList([])
        selected = "" if selection is None else selection.text
        area = types.Range(params.position, params.position) if selection is None else selection.range
        begin, end = (find_offset(documents.texts[uri], place, get_encoding()) for place in (area.start, area.end))
        text = await completer.complete(documents.find_place(uri, begin, selected, end, server.workspace.root_path))
        return types.InlineCompletionList([types.InlineCompletionItem(selected + text, range=area)] if text else [])

    @server.feature(types.SHUTDOWN)
    def shut_down(_: None) -> None:
        nonlocal was_shut_down
        was_shut_down = True

    can_infill = bool(find_markers(completer.generator.tokenizer))
    way = "infilling" if can_infill else "continuing the text before the cursor (no infilling tokens)"
    log.info("language server: completions by %s", way)
    completer.thread.start()
    try:
        server.start_io(source, sink)
    finally:
        completer.thread.stop()
        completer.thread.join()
    return 0 if was_shut_down else 1
