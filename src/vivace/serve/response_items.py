"""The output of a response: messages and calls, each as it begins, goes on and ends in a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, TypeAlias

StreamEvent: TypeAlias = dict[str, Any]


class OutputItem(ABC):
    """One item of the output, as far as it is written.

    Args:
        place: among the response's items.
        item_id: its name in the stream.
    """

    def __init__(self, place: int, item_id: str) -> None:
        self._item_id = item_id
        self._place = {"output_index": place}
        self.text = ""
        self.status = "in_progress"

    def begin(self) -> Iterator[StreamEvent]:
        yield {"type": "response.output_item.added", **self._place, "item": self.body()}

    def more(self, text: str) -> Iterator[StreamEvent]:
        self.text += text
        yield self._event(f"{self._writes}.delta", delta=text)

    def end(self, status: str) -> Iterator[StreamEvent]:
        self.status = status
        yield {"type": "response.output_item.done", **self._place, "item": self.body()}

    @abstractmethod
    def body(self) -> dict[str, Any]:
        """The item as it stands in a whole response."""

    @property
    @abstractmethod
    def _writes(self) -> str:
        """What its text is in the names of events."""

    def _event(self, kind: str, **fields: Any) -> StreamEvent:
        return {"type": f"response.{kind}", "item_id": self._item_id, **self._place, **fields}


class MessageItem(OutputItem):
    _writes = "output_text"

    def begin(self) -> Iterator[StreamEvent]:
        yield from super().begin()
        yield self._event("content_part.added", part=self._part())

    def end(self, status: str) -> Iterator[StreamEvent]:
        yield self._event("output_text.done", text=self.text)
        yield self._event("content_part.done", part=self._part())
        yield from super().end(status)

    def body(self) -> dict[str, Any]:
        return {
            "type": "message",
            "id": self._item_id,
            "status": self.status,
            "role": "assistant",
            "content": [] if self.status == "in_progress" else [self._part()],
        }

    def _part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}

    def _event(self, kind: str, **fields: Any) -> StreamEvent:
        logprobs: dict[str, Any] = {"logprobs": []} if kind.startswith(self._writes) else {}
        return super()._event(kind, content_index=0, **fields, **logprobs)


class CallItem(OutputItem):
    """A call of a function; its text is the arguments, JSON as the model writes it.

    Args:
        call_id: what its output will be called by.
    """

    _writes = "function_call_arguments"

    def __init__(self, place: int, name: str, call_id: str) -> None:
        super().__init__(place, f"fc_{call_id}")
        self._name = name
        self._call_id = call_id

    def end(self, status: str) -> Iterator[StreamEvent]:
        done = {"name": self._name, "arguments": self.text}
        yield self._event("function_call_arguments.done", **done)
        yield from super().end(status)

    def body(self) -> dict[str, Any]:
        return {
            "type": "function_call",
            "id": self._item_id,
            "call_id": self._call_id,
            "name": self._name,
            "arguments": self.text,
            "status": self.status,
        }
