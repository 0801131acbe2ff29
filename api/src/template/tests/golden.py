"""What transformers renders, for the renderer to be held to: `golden.py [FOLDER OF TEMPLATES] [FOLDER FOR ANSWERS]`.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install 'transformers==5.24.*' 'jinja2==3.1.*'
    /tmp/venv/bin/python api/src/template/tests/golden.py

Writes cases.json beside this file and, for each template, a list with a text for each case; null where the template refuses it.
"""

import datetime
import json
import random
import sys
from pathlib import Path

from transformers.utils import chat_template_utils as chat

HERE = Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class Stopped(datetime.datetime):
    at = 0

    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(cls.at, datetime.timezone.utc)


chat.datetime = Stopped


def tool(name):
    parameters = {"type": "object", "properties": {"city": {"type": "string", "description": "Où \"?\" <&>"}, "n": {"type": "number", "default": 1.0}, "k": {"type": ["integer", "null"], "enum": [1, None, True, 1e-7, 1e22]}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": "Weather in a city\nof today", "parameters": parameters}}


def call(name, arguments):
    return {"id": "call00001", "type": "function", "function": {"name": name, "arguments": arguments}}


def content(rnd, role):
    words = ["hello", "the quick brown fox", "你好", "日本語", "🙂", "naïve", "{\"a\": 1}", "2024-07-26", "<|im_end|>", "[INST]", "{{ x }}", "\0", "a\tb", "x\r\ny", "<think>", "\u001c"]
    blanks = ["", "", "", " ", "\n", "\n\n ", "\u00a0", "\u3000", "\u001f"]
    text = rnd.choice(blanks) + rnd.choice([" ", "\n"]).join(rnd.choice(words) for _ in range(rnd.randint(1, 4))) + rnd.choice(blanks)
    if role == "assistant" and rnd.random() < 0.3:
        text = rnd.choice(["<think>\nwhy\n</think>\n\n", "why</think>", "<think></think>\n"]) + text
    return "" if rnd.random() < 0.04 else text


def messages(rnd, kind):
    out = []
    if rnd.random() < 0.5:
        out.append("system")
    for _ in range(rnd.randint(0, 3)):
        out += ["user", "assistant"]
    out.append("user")
    if kind == "odd":
        rnd.shuffle(out)
    chat = [{"role": role, "content": content(rnd, role)} for role in out]
    if kind == "tools":
        called = {"role": "assistant", "content": rnd.choice(["", "let me see", None]), "tool_calls": [call("weather", {"city": "Zürich", "n": 2.5, "deep": {"a": [1, "x", None, False]}})]}
        chat += [called, {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": "{\"t\": 12}"}]
        if rnd.random() < 0.5:
            chat += [{"role": "assistant", "content": "12 degrees"}, {"role": "user", "content": "thanks"}]
    if kind == "thought":
        chat += [{"role": "assistant", "content": "\nyes", "reasoning_content": "\nbecause\n"}, {"role": "user", "content": "go on"}]
    if kind == "parts":
        chat = [{"role": m["role"], "content": [{"type": "text", "text": m["content"]}]} for m in chat]
    return chat


def cases():
    rnd = random.Random(20)
    for number in range(60):
        kind = ["plain", "plain", "odd", "tools", "thought", "parts"][number % 6]
        case = {"messages": messages(rnd, kind), "add_generation_prompt": number % 5 != 0, "now": 1_700_000_000 + 86_400 * 37 * number}
        if kind == "tools" and number % 4 != 0:
            case["tools"] = [tool("weather"), tool("time")]
        if number % 10 == 7:
            case["variables"] = {"enable_thinking": number % 20 == 7, "thinking": True, "reasoning_effort": "high"}
        # Newer transformers give what was thought under all its names; engines do so themselves.
        case["messages"] = chat._alias_reasoning_fields(chat._plain_template_data(case["messages"]))
        yield case


def render(source, case):
    Stopped.at = case["now"]
    try:
        kwargs = {**TOKENS, **case.get("variables", {})}
        texts, _ = chat.render_jinja_template([case["messages"]], tools=case.get("tools"), chat_template=source, add_generation_prompt=case["add_generation_prompt"], **kwargs)
        return texts[0]
    except Exception:
        return None


def main():
    models = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "models"
    golden = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "golden"
    golden.mkdir(exist_ok=True)
    all_cases = list(cases())
    (HERE / "cases.json").write_text(json.dumps({"tokens": TOKENS, "cases": all_cases}, indent=0, ensure_ascii=True) + "\n")
    for path in sorted(models.glob("*.jinja")):
        texts = [render(path.read_text(), case) for case in all_cases]
        (golden / (path.stem + ".json")).write_text(json.dumps(texts, indent=0, ensure_ascii=True) + "\n")
        print(f"{path.stem}: {sum(text is not None for text in texts)} of {len(texts)} rendered")


main()
