"""Signed links: exactly what was signed is permitted, as long as it was signed for."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from orchestrion.sandbox.guest.guestd.signatures import refusal, sign

TOKEN = "secret"
texts = st.text(st.characters(codec="utf-8"), max_size=30)


def test_the_form_is_that_of_the_sdks() -> None:
    # Computed with `printf 'a.txt:read:user:secret:170' | openssl dgst -sha256 -binary | base64`.
    assert sign("a.txt", "read", "user", TOKEN, "170") == "v1_Bhuph+/df2JainQOTt8wubK4w3kJhfbnBW+wpUV4V/E"


@given(texts, texts)
def test_what_was_signed_is_permitted_for_that_alone(path: str, username: str) -> None:
    signature = sign(path, "read", username, TOKEN)
    query = {"path": path, "signature": signature, **({"username": username} if username else {})}
    assert refusal(query, {}, "read", TOKEN) is None
    assert refusal(query, {}, "write", TOKEN) == "invalid signature"
    assert refusal(query, {}, "read", TOKEN + "x") == "invalid signature"
    assert refusal({**query, "path": path + "x"}, {}, "read", TOKEN) == "invalid signature"
    assert refusal({**query, "signature_expiration": "9999999999"}, {}, "read", TOKEN) == "invalid signature"


@given(st.integers(-(10**12), 10**12))
def test_a_signature_ends_when_it_says(offset: int) -> None:
    moment = str(int(time.time()) + offset + (5 if offset >= 0 else 0))
    query = {"path": "a", "signature_expiration": moment, "signature": sign("a", "read", "", TOKEN, moment)}
    assert refusal(query, {}, "read", TOKEN) == (None if offset >= 0 else "signature is already expired")


@given(texts)
def test_an_end_that_is_no_number_has_come(end: str) -> None:
    query = {"path": "a", "signature_expiration": end, "signature": sign("a", "read", "", TOKEN, end)}
    if not end.isdecimal():
        assert refusal(query, {}, "read", TOKEN) == "signature is already expired"


def test_the_token_itself_permits() -> None:
    assert refusal({}, {"x-access-token": TOKEN}, "write", TOKEN) is None
    assert refusal({}, {"x-access-token": "other"}, "write", TOKEN) == "the access token does not match"
    assert refusal({}, {}, "write", TOKEN) == "missing signature query parameter"
    assert refusal({}, {}, "write", None) is None
