"""Server-sent events."""

import json
from typing import Any

EVENT_STREAM = "text/event-stream"


def encode_event(value: Any) -> bytes:
    """Return an event with a value as JSON, without spaces, as some clients search it for `"content":`.

    >>> encode_event({"content": "é"})
    b'data: {"content":"\\xc3\\xa9"}\\n\\n'
    """
    return f"data: {json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(',', ':'))}\n\n".encode()
