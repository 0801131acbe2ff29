"""The openai SDK against the proxy: python sdk.py BASE_URL MODEL ADAPTER. Ends non-zero at the first thing that is wrong."""

import io
import sys

import openai

try:  # The SDK speaks by httpx2 from its version 3 on.
    import httpx2 as httpx
except ImportError:
    import httpx

base_url, model, adapter = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url + "/v1", api_key="sk-test", max_retries=0, timeout=20)
question = [{"role": "user", "content": "hello"}]


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def models():
    assert {model, adapter} <= {one.id for one in client.models.list()}
    assert client.models.retrieve(adapter).id == adapter
    assert raises(openai.NotFoundError, lambda: client.models.retrieve("nobody")).code == "model_not_found"


def chat():
    answer = client.chat.completions.create(model=model, messages=question, max_tokens=8)
    assert answer.choices[0].message.content == " the router picks the longest known prefix.", answer
    assert answer.usage.completion_tokens == 8 and answer._request_id, answer
    assert client.chat.completions.create(model=adapter, messages=question, max_tokens=1).model == adapter


def chat_stream():
    stream = client.chat.completions.create(model=model, messages=question, max_tokens=8, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == " the router picks the longest known prefix."
    assert chunks[-1].choices[0].finish_reason and not any(chunk.usage for chunk in chunks), "usage was not asked for"


def chat_stream_usage():
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=model, messages=question, max_tokens=8, stream=True, stream_options=options))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 8, chunks[-1]


def completions():
    assert client.completions.create(model=model, prompt="hello", max_tokens=2).choices[0].text == " the router"
    stream = client.completions.create(model=model, prompt="hello", max_tokens=2, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == " the router"


def embeddings():
    answer = client.embeddings.create(model=model, input=["a", "b"], encoding_format="float")
    assert len(answer.data) == 2 and len(answer.data[0].embedding) == 8, answer


def responses():
    answer = client.responses.create(model=model, input="hello", max_output_tokens=3)
    assert answer.output_text.startswith(" the router picks"), answer
    assert raises(openai.NotFoundError, lambda: client.responses.retrieve("resp_1")).status_code == 404


def transcription():
    sound = io.BytesIO(b"RIFF" + bytes(range(256)) * 400)
    sound.name = "sound.wav"
    assert "bytes of sound" in client.audio.transcriptions.create(model=model, file=sound).text


def errors():
    ask = lambda **more: client.chat.completions.create(**{"model": model, "messages": question, **more})
    error = raises(openai.NotFoundError, lambda: ask(model="nobody"))
    assert error.code == "model_not_found" and error.param == "model" and error.request_id, error.body
    assert raises(openai.BadRequestError, lambda: ask(max_tokens=-1)).status_code == 400
    bad = httpx.post(base_url + "/v1/chat/completions", content=b'{"model": ', headers={"content-type": "application/json"})
    assert bad.status_code == 400 and bad.json()["error"]["type"] == "invalid_request_error", bad.text
    for status, kind in [(429, openai.RateLimitError), (500, openai.InternalServerError)]:
        raises(kind, lambda: ask(extra_headers={"x-sim-fail": str(status)}))


def request_id():
    headers = {"x-request-id": "sdk-7"}
    answer = client.chat.completions.create(model=model, messages=question, max_tokens=1, extra_headers=headers)
    assert answer._request_id == "sdk-7", answer._request_id


def timeout_and_abort():
    impatient = client.with_options(timeout=0.3)
    silent = {"x-sim-fail": "hang"}
    raises(openai.APITimeoutError, lambda: impatient.chat.completions.create(model=model, messages=question, extra_headers=silent))
    stream = client.chat.completions.create(model=model, messages=question, max_tokens=4000, stream=True)
    next(iter(stream))
    stream.close()
    chat()


def cut_stream():
    died = {"x-sim-fail": "die:3"}
    stream = client.chat.completions.create(model=model, messages=question, max_tokens=8, stream=True, extra_headers=died)
    raises((openai.APIError, httpx.RemoteProtocolError), lambda: list(stream))


checks = [models, chat, chat_stream, chat_stream_usage, completions, embeddings, responses, transcription, errors, request_id]
for check in [*checks, timeout_and_abort, cut_stream]:
    check()
    print("ok", check.__name__)
