"""What a sandbox may not reach itself, a model call does not make the host or the model's provider fetch."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrion.models.wire import BadRequest
from orchestrion.models.wire.anthropic_calls import read_anthropic
from orchestrion.models.wire.openai_calls import read_openai

_FAR = ["https://evil.example/?secret", "http://169.254.169.254/latest", "file:///etc/passwd", "//evil.example/x"]


def _asked(part: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [part]}]}


@pytest.mark.parametrize("url", _FAR)
@pytest.mark.parametrize("kind", ["image", "document"])
def test_anthropics_way(kind: str, url: str) -> None:
    with pytest.raises(BadRequest, match="the data itself"):
        read_anthropic(_asked({"type": kind, "source": {"type": "url", "url": url}}))


@pytest.mark.parametrize("url", _FAR)
def test_openais_way(url: str) -> None:
    with pytest.raises(BadRequest, match="the data itself"):
        read_openai(_asked({"type": "image_url", "image_url": {"url": url}}))


def test_a_file_of_the_hosts_account_is_not_named() -> None:
    with pytest.raises(BadRequest, match="the data itself"):
        read_openai(_asked({"type": "file", "file": {"file_id": "file-of-somebody"}}))


@pytest.mark.parametrize("more", [{"url": _FAR[0]}, {"source_type": "url", "url": _FAR[0]}, {"file_id": "file-1"}])
def test_what_a_part_has_besides_is_left_out(more: dict[str, Any]) -> None:
    data = {"url": "data:image/png;base64,AAAA"}
    call = read_openai(_asked({"type": "image_url", "image_url": data, **more}))
    assert call.messages[0].content == [{"type": "image_url", "image_url": data}]
