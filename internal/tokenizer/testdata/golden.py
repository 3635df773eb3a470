"""Writes golden.json and two small tokenizers, with which the tests run where no Hugging Face is.

Run with a Python that has tokenizers 0.23.3, in this folder:  python golden.py
"""
import json, os
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

here = os.path.dirname(os.path.abspath(__file__))
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEXTS = [
    "", " ", "  ", "a", " a", "The quick brown fox jumps over the lazy dog.", "I'm you're HE'S we'Ve 'ſ ''", "1 12 123 1234 12345 ٣٤ ½²", "\t\t}", "\t\t\t}\n\t\t}\n\t}\n",
    "a\n\n\n   b", "a \r\n b", "x   ", "\n\n", " \n \n x", "Grüße, Ünïcödé", "你好，世界", "नमस्ते", "안녕하세요", "👩🏽‍💻🇩🇪 ❤️", "e\u0301\u0323", "\x00\x01\x7f", "\u00a0\u2003\u3000x", "\ufffd\U0010ffff",
    "<s>", "</s> <unk>", "a<s>b</s>c <s> d", "▁a▁▁b ▁", "<0x41>", "Ġa", "https://example.com/?a=1&b=%20", "camelCaseHTTPServer2", "one  two   three    four", "ab" * 60, " " * 40, "\n" * 20, "é" * 30,
    "Once upon a time, there was a little girl named Lily. She liked to play with her friends.",
]
corpus = (TEXTS + ["the cat sat on the mat and the dog ran to the house in the wood where a little girl was", "def main():\n\treturn x + 1\n", "über das schöne Land"]) * 30


def make(name, tokenizer, size, special, alphabet):
    path = os.path.join(here, name)
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [a for a in data["added_tokens"] if not a["content"].startswith("<0x")]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    return Tokenizer.from_file(path)


template = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
bytes_ = Tokenizer(models.BPE(ignore_merges=True))
bytes_.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
bytes_.decoder, bytes_.post_processor = decoders.ByteLevel(), processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
pieces = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
pieces.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
pieces.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
pieces.post_processor = template

special = ["<unk>", "<s>", "</s>"]
made = {
    "bytes.json": make("bytes.json", bytes_, 460, special, pre_tokenizers.ByteLevel.alphabet()),
    "pieces.json": make("pieces.json", pieces, 520, special + ["<0x%02X>" % b for b in range(256)], []),
    "../../../models/tiny-stories/tokenizer.json": Tokenizer.from_file(os.path.join(here, "../../../models/tiny-stories/tokenizer.json")),
}
with open(os.path.join(here, "golden.json"), "w", encoding="utf-8") as f:
    f.write("{")
    for i, (path, t) in enumerate(made.items()):
        rows = [[text, t.encode(text).ids, t.decode(t.encode(text).ids, skip_special_tokens=False), t.decode(t.encode(text).ids)] for text in TEXTS]
        f.write("%s\n%s: [\n%s\n]" % ("," if i else "", json.dumps(path), ",\n".join(json.dumps(row) for row in rows)))
    f.write("\n}\n")
