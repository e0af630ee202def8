"""The partition keys of records are those conversations that the store finds, without a query."""

from __future__ import annotations

import json
from typing import Any

from gateway.model import Answer, Interaction, Kind, Principal, Record
from gateway.shipping.ordering import Ordering, record_fingerprints
from tests.journal.samples import answer, interaction


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def chat(messages: list[dict[str, str]], said: str, user: str = "ann", **more: Any) -> Record:
    asked: Interaction = interaction(
        json.dumps({"model": "m", "messages": messages}).encode(), principal=Principal(user=user), **more
    )
    return Record(asked, reply(said))


def reply(said: str) -> Answer:
    whole = {"id": "chatcmpl-1", "choices": [{"index": 0, "message": {**message("assistant", said), "refusal": None}}]}
    return answer(json.dumps(whole).encode())


def keys_of(*records: Record, ordering: Ordering | None = None) -> list[str]:
    ordering = ordering or Ordering()
    return [ordering.assign(record, record_fingerprints(record)).value for record in records]


FIRST = [message("user", "hello")]
SECOND = [*FIRST, message("assistant", "hi"), message("user", "how are you?")]
THIRD = [*SECOND, message("assistant", "fine"), message("user", "good")]


def test_a_plain_clients_turns_have_one_key() -> None:
    first, second, third = keys_of(chat(FIRST, "hi"), chat(SECOND, "fine"), chat(THIRD, "bye"))
    assert first == second == third


def test_a_branch_stays_in_its_conversation() -> None:
    edited = [*SECOND[:2], message("user", "who are you?")]
    first, second, branch = keys_of(chat(FIRST, "hi"), chat(SECOND, "fine"), chat(edited, "a model"))
    assert first == second == branch


def test_equal_requests_without_a_conversation_have_different_keys() -> None:
    shots = [message("user", "2+2"), message("assistant", "4"), message("user", "3+3")]
    keys = keys_of(*(chat(shots, "6") for _ in range(5)), *(chat(FIRST, "hi") for _ in range(5)))
    assert len(set(keys)) == 10


def test_one_callers_messages_never_lead_to_another_callers_key() -> None:
    first, stranger = keys_of(chat(FIRST, "hi"), chat(SECOND, "fine", user="bob"))
    assert first != stranger
    mine, yours = keys_of(chat(FIRST, "hi", root_id="r"), chat(FIRST, "hi", user="bob", root_id="r"))
    assert mine != yours


def test_the_id_that_the_caller_gives_decides() -> None:
    first = chat(FIRST, "hi")
    second = chat([message("user", "something else")], "yes", root_id=str(first.interaction.id))
    other = chat(SECOND, "fine", root_id="another one")
    keys = keys_of(first, second, other)
    assert keys[0] == keys[1] != keys[2]
    image = Record(interaction(b'{"prompt":"x"}', kind=Kind.IMAGE, root_id="r"), answer(b"{}"))
    talk = Record(interaction(root_id="r"), answer(b"{}"))
    assert len(set(keys_of(image, talk))) == 1


def test_responses_go_on_from_the_response_that_they_name() -> None:
    def response(own: str, previous: str | None) -> Record:
        body = json.dumps({"model": "m", "input": "x", "previous_response_id": previous}).encode()
        return Record(interaction(body, kind=Kind.RESPONSE), answer(json.dumps({"id": own}).encode()))

    first, second, third, other = keys_of(
        response("r1", None), response("r2", "r1"), response("r3", "r2"), response("r9", "unknown")
    )
    assert first == second == third != other


def test_responses_have_the_key_of_the_conversation_or_of_the_items_that_they_repeat() -> None:
    def response(asked: object, said: str, user: str = "ann", **more: object) -> Record:
        body = json.dumps({"model": "m", "input": asked, **more}).encode()
        output = [{"type": "message", "id": "msg_1", "content": said, "role": "assistant"}]
        asking = interaction(body, kind=Kind.RESPONSE, principal=Principal(user=user))
        return Record(asking, answer(json.dumps({"id": said, "output": output}).encode()))

    first, second, third = keys_of(response("hello", "hi"), response(SECOND, "fine"), response(THIRD, "bye"))
    assert first == second == third
    named = [response("1", "a", conversation="c"), response("2", "b", conversation={"id": "c"})]
    goes_on = response("3", "d", previous_response_id="b")
    one, two, three, stranger = keys_of(*named, goes_on, response("2", "b", user="bob", conversation="c"))
    assert one == two == three != stranger


def test_a_record_without_a_conversation_has_a_key_of_its_own() -> None:
    bodies = [b"", b"\xff", b"[]", b'{"messages": 7}', b'{"messages": [7]}', b"[" * 2000]
    records = [Record(interaction(body, kind=kind), answer(body)) for body in bodies for kind in Kind]
    assert len(set(keys_of(*records))) == len(records)


def test_the_number_of_fingerprints_is_bounded() -> None:
    ordering = Ordering(max_fingerprints=3)
    (first,) = keys_of(chat(FIRST, "hi"), ordering=ordering)
    keys_of(*(chat([message("user", str(number))], "x") for number in range(3)), ordering=ordering)
    assert keys_of(chat(SECOND, "fine"), ordering=ordering) != [first]
