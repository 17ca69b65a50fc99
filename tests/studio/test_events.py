import inspect
import time

import gradio as gr
import pytest

from rlhfv.errors import InvalidData
from rlhfv.studio.events import explain, throttle, told


def fails(error):
    def handler(text: str, request: gr.Request):
        raise error

    return handler


def test_an_expected_error_tells_its_three_parts_as_text():
    with pytest.raises(gr.Error) as caught:
        told(fails(InvalidData("<b>What</b>.", "Why & how.", "Fix.")))("x", None)
    assert caught.value.title == "&lt;b&gt;What&lt;/b&gt;."
    assert caught.value.message == "Why &amp; how. Fix."
    assert caught.value.print_exception is False


def test_an_unexpected_error_is_logged_and_keeps_its_details_to_itself(caplog):
    with pytest.raises(gr.Error) as caught:
        told(fails(RuntimeError("secret path /home/me")))("x", None)
    assert "secret" not in caught.value.message + caught.value.title and "RuntimeError" in caught.value.message
    assert "secret path" in caplog.text
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_stream_is_told_too_and_stays_a_generator():
    @told
    def stream():
        yield 1
        raise InvalidData("What.", "Why.", "Fix.")

    assert inspect.isgeneratorfunction(stream)
    values = stream()
    assert next(values) == 1
    with pytest.raises(gr.Error):
        next(values)


def test_gradio_still_sees_which_arguments_are_its_own():
    parameters = inspect.signature(told(fails(ValueError()))).parameters
    assert parameters["request"].annotation is gr.Request


def test_explaining_keeps_the_parts_of_a_studio_error():
    assert explain(InvalidData("a", "b", "c")) == ("a", "b", "c")


def test_throttling_keeps_the_first_and_the_last_and_few_between():
    def states():
        for number in range(200):
            time.sleep(0.001)
            yield number

    sent = list(throttle(states(), 0.05))
    assert sent[0] == 0 and sent[-1] == 199 and len(sent) < 20
    assert sent == sorted(set(sent))
    assert list(throttle([], 1)) == [] and list(throttle([7], 1)) == [7]
