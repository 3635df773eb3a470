"""One peer of the benchmark "speed": loads a model, prints "ready", and for every line "decode", "prefill" or "batch" does that once and prints tokens a second.

    speed.py torch-float32|torch-bfloat16 FOLDER
    speed.py llama FILE.gguf                       (needs llama-cpp-python)
    speed.py to-q4_0 FILE.gguf OUT.gguf
"""
import ctypes
import sys
import time

THREADS, NEW, TEXTS = 2, 64, 8
SHORT, LONG = list(range(100, 108)), list(range(100, 612))


def rate(texts, at):
    """Tokens a second after the first ones, from the times of all steps."""
    return texts * (len(at) - 1) / (at[-1] - at[0])


class Torch:
    """Plain `generate`, with its cache and PyTorch's own attention. Logits are asked of the last token only."""

    def __init__(self, dtype, folder):
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(THREADS)
        self.torch, self.model = torch, AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.model.generation_config.eos_token_id = None  # never stop early
        self.model.generation_config.pad_token_id = 0

    def generate(self, texts):
        ids, at = self.torch.tensor([SHORT] * texts), []

        def clock(ids, scores):
            at.append(time.perf_counter())
            return self.torch.zeros(texts, dtype=self.torch.bool)

        with self.torch.inference_mode():
            out = self.model.generate(ids, attention_mask=self.torch.ones_like(ids), max_new_tokens=NEW, do_sample=False, stopping_criteria=[clock])
        assert out.shape[1] == len(SHORT) + NEW == len(SHORT) + len(at)
        return rate(texts, at)

    def decode(self):
        return self.generate(1)

    def batch(self):
        return self.generate(TEXTS)

    def prefill(self):
        ids = self.torch.tensor([LONG])
        start = time.perf_counter()
        with self.torch.inference_mode():
            self.model(input_ids=ids, logits_to_keep=1).logits.argmax(-1).tolist()
        return len(LONG) / (time.perf_counter() - start)


class Llama:
    """llama.cpp's own calls, without the layers of Python above them. What Python adds to a step is numpy's argmax."""

    def __init__(self, file):
        import llama_cpp
        import numpy

        self.c, self.np = llama_cpp, numpy
        self.silent = silence(llama_cpp)
        self.c.llama_backend_init()
        self.model = self.c.llama_model_load_from_file(file.encode(), self.c.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp cannot load {file}")
        self.vocabulary = self.c.llama_vocab_n_tokens(self.c.llama_model_get_vocab(self.model))
        self.one, self.many = self.context(1), self.context(TEXTS)
        print(self.c.llama_print_system_info().decode().strip(), file=sys.stderr)

    def context(self, texts):
        p = self.c.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max = 1024 * texts, len(LONG), len(LONG), texts
        p.n_threads = p.n_threads_batch = THREADS
        p.no_perf = True
        return self.c.llama_init_from_model(self.model, p)

    def step(self, context, rows):
        """Reads rows of (token, position, text) and returns the likeliest token after the last row of each text."""
        b = self.c.llama_batch_init(len(rows), 0, 1)
        last = {text: i for i, (_, _, text) in enumerate(rows)}
        b.n_tokens = len(rows)
        for i, (token, position, text) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i], b.seq_id[i][0], b.logits[i] = token, position, 1, text, last[text] == i
        status = self.c.llama_decode(context, b)
        self.c.llama_batch_free(b)
        if status:
            sys.exit(f"llama_decode: {status}")
        return [int(self.np.ctypeslib.as_array(self.c.llama_get_logits_ith(context, i), (self.vocabulary,)).argmax()) for i in last.values()]

    def clear(self, context):
        self.c.llama_memory_clear(self.c.llama_get_memory(context), True)

    def generate(self, context, texts):
        self.clear(context)
        tokens, at = self.step(context, [(t, i, text) for text in range(texts) for i, t in enumerate(SHORT)]), [time.perf_counter()]
        for n in range(NEW - 1):
            tokens = self.step(context, [(t, len(SHORT) + n, text) for text, t in enumerate(tokens)])
            at.append(time.perf_counter())
        return rate(texts, at)

    def decode(self):
        return self.generate(self.one, 1)

    def batch(self):
        return self.generate(self.many, TEXTS)

    def prefill(self):
        self.clear(self.one)
        start = time.perf_counter()
        self.step(self.one, [(t, i, 0) for i, t in enumerate(LONG)])
        return len(LONG) / (time.perf_counter() - start)


def silence(llama_cpp):
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    return quiet  # llama.cpp holds no reference


def to_q4_0(file, out):
    """All matrices become Q4_0, the embedding too, as ours are all 4 bits."""
    import llama_cpp

    silent = silence(llama_cpp)
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype, p.pure, p.allow_requantize, p.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, True, True, THREADS
    if llama_cpp.llama_model_quantize(file.encode(), out.encode(), ctypes.byref(p)):
        sys.exit(f"llama.cpp cannot quantize {file}")


def main(kind, *files):
    if kind == "to-q4_0":
        return to_q4_0(*files)
    peer = Llama(*files) if kind == "llama" else Torch(kind.removeprefix("torch-"), *files)
    print("ready", flush=True)
    for line in sys.stdin:
        print(getattr(peer, line.strip())(), flush=True)


main(*sys.argv[1:])
