# The mlx runtime: mlx and mlx-lm. What a folder is, mlx_lm says.
import pathlib


class _Seen:
    """A block of the model that shows what goes in and comes out."""

    def __init__(self, block, seen):
        self._block, self._seen = block, seen

    def __getattr__(self, name):
        return getattr(self._block, name)

    def __call__(self, x, *args, **kwargs):
        if not self._seen:
            self._seen.append(x)
        out = self._block(x, *args, **kwargs)
        self._seen.append(out)
        return out


class _Model:
    def __init__(self, runtime, folder, compute):
        import mlx.core as mx
        from mlx.utils import tree_flatten
        from mlx_lm.utils import load_model

        self.mx, self.runtime = mx, runtime
        mx.clear_cache()
        mx.reset_peak_memory()
        self.model, config = load_model(pathlib.Path(folder), lazy=True, strict=True)
        self.weights_bytes = sum(v.nbytes for _, v in tree_flatten(self.model.parameters()))
        self.model.set_dtype(getattr(mx, compute))
        mx.eval(self.model.parameters())
        text = config.get("text_config", config)
        self.context = int(text.get("max_position_embeddings") or 0)
        self.vocab, self.hidden_size = int(text["vocab_size"]), int(text["hidden_size"])
        eos = config.get("eos_token_id")
        self.eos = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
        self.memory = {"load": max(mx.get_peak_memory(), self.weights_bytes)}

    def info(self):
        return {"vocab": self.vocab, "context": self.context, "hidden": self.hidden_size, "eos": self.eos, "weights_bytes": self.weights_bytes, "memory": self.memory}

    def _numpy(self, x):
        import numpy as np

        x = x.astype(self.mx.float32)
        self.mx.eval(x)
        return np.array(x)

    def _ids(self, tokens):
        return self.mx.array([tokens])

    def logits(self, tokens, positions):
        out = self.model(self._ids(tokens))[0]
        if not positions:
            return self._numpy(out[:0])
        return self._numpy(out[self.mx.array(positions)])

    def _inner(self):
        inner = getattr(self.model, "model", None)
        if inner is None or not hasattr(inner, "layers") or not hasattr(inner, "norm"):
            raise Failure("unsupported", "the model's blocks are not where they usually are")
        return inner

    def hidden(self, tokens):
        return self._numpy(self._inner()(self._ids(tokens))[0])

    def layers(self, tokens):
        inner, seen = self._inner(), []
        blocks = inner.layers
        inner.layers = [_Seen(b, seen) for b in blocks]
        try:
            self.mx.eval(inner(self._ids(tokens)))
        finally:
            inner.layers = blocks
        return self._numpy(self.mx.stack([x[0] for x in seen]))

    def generate(self, texts):
        from mlx_lm.models.cache import BatchKVCache, KVCache, make_prompt_cache

        mx = self.mx
        mx.clear_cache()
        mx.reset_peak_memory()
        cache = make_prompt_cache(self.model)
        if len(texts.prompts) > 1 and not all(type(c) is KVCache for c in cache):
            return self._one_by_one(texts, make_prompt_cache)
        longest = max(len(p) for p in texts.prompts)
        padding = [longest - len(p) for p in texts.prompts]
        if len(texts.prompts) > 1:
            cache = [BatchKVCache(padding) for _ in cache]
        return self._run(texts, range(len(texts.prompts)), mx.array([[0] * n + p for n, p in zip(padding, texts.prompts)]), cache)

    def _one_by_one(self, texts, make_prompt_cache):
        for i, p in enumerate(texts.prompts):
            answer = self._run(texts, [i], self.mx.array([p]), make_prompt_cache(self.model))
        return answer

    def _run(self, texts, index, ids, cache, step=2048):
        """Reads prompts of one length and goes on until the texts are done. As in mlx_lm's generate_step, all but the last token of a prompt only fill the cache, in pieces: nobody asks for their logits."""
        mx = self.mx
        while ids.shape[1] > 1:
            n = min(step, ids.shape[1] - 1)
            self.model(ids[:, :n], cache=cache)
            mx.eval([c.state for c in cache])
            ids = ids[:, n:]
            texts.call.check()
        if texts.options["temperature"] == 0:
            return self._greedy(texts, index, ids, cache)
        picked = texts.take(index, self._numpy(self.model(ids, cache=cache)[:, -1]))
        memory = {"prefill": max(mx.get_peak_memory(), self.memory["load"])}
        mx.reset_peak_memory()
        while any(not texts.finish[i] for i in index):
            picked = texts.take(index, self._numpy(self.model(mx.array(picked)[:, None], cache=cache)[:, -1]))
        memory["decode"] = max(mx.get_peak_memory(), self.memory["load"])
        return texts.answer(memory=memory)


    def _greedy(self, texts, index, ids, cache):
        """Goes on with the likeliest tokens. The next step is on its way while a token is looked at, as in mlx_lm's generate_step: a GPU that waits for Python between tokens is slower than anybody's."""
        mx = self.mx

        def step(ids):
            logits = self.model(ids, cache=cache)[:, -1]
            picked, finite = mx.argmax(logits, axis=-1), mx.isfinite(logits).all()
            mx.async_eval(picked, finite)
            return picked, finite

        picked, finite = step(ids)
        mx.eval(picked)
        memory = {"prefill": max(mx.get_peak_memory(), self.memory["load"])}
        mx.reset_peak_memory()
        longest = 0
        while True:
            longest += 1
            following = step(picked[:, None]) if longest < texts.options["max_tokens"] else None
            tokens = picked.tolist()
            if not finite.item():
                raise Failure("not_finite", "a logit is NaN or infinite")
            texts.call.check()
            texts.note(index, tokens)
            if not any(not texts.finish[i] for i in index):
                break
            picked, finite = following
        memory["decode"] = max(mx.get_peak_memory(), self.memory["load"])
        return texts.answer(memory=memory)


class _Runtime:
    def start(self):
        import importlib.metadata
        import platform

        import mlx.core as mx
        import mlx_lm
        import numpy
        import transformers

        self.mx = mx
        transformers.logging.set_verbosity_error()
        gpu = mx.default_device() == mx.Device(mx.gpu)
        device = {"kind": "cpu", "name": platform.processor() or platform.machine(), "memory_bytes": 0}
        if gpu:
            about = mx.device_info() if hasattr(mx, "device_info") else mx.metal.device_info()
            device = {"kind": "gpu", "name": str(about.get("device_name", "gpu")), "memory_bytes": int(about.get("memory_size", 0) or about.get("total_memory", 0) or 0)}
        versions = {"python": platform.python_version(), "mlx": importlib.metadata.version("mlx"), "mlx-lm": mlx_lm.__version__, "transformers": transformers.__version__, "numpy": numpy.__version__}
        return {"runtime": "mlx", "versions": versions, "device": device, "tf32": False}

    def use_threads(self, threads):
        if threads:
            raise Failure("unsupported", "MLX has no setting for the number of threads")

    def load(self, folder, compute):
        return _Model(self, folder, compute)

    def collect(self):
        import gc

        gc.collect()
        self.mx.clear_cache()

    def modules(self, call):
        """The modules that mlx can quantize, in the model's order, and the number of its blocks."""
        from mlx.utils import tree_flatten
        from mlx_lm.utils import load_model
        import mlx.nn as nn

        model, _ = load_model(pathlib.Path(call["dir"]), lazy=True, strict=True)
        found = []
        for path, module in tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module):
            if hasattr(module, "to_quantized") and hasattr(module, "weight"):
                found.append({"path": path, "shape": list(module.weight.shape)})
        own = getattr(model, "quant_predicate", None)
        if own is not None:
            leaves = dict(tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module))
            for m in found:
                said = own(m["path"], leaves[m["path"]])
                m["own"] = said if isinstance(said, (bool, dict)) else None
        with open(call["out_file"], "w", encoding="utf-8") as f:
            json.dump({"modules": found, "layers": len(getattr(model, "layers", []))}, f)
        return {}

    def convert(self, call):
        """mlx_lm.convert, each module quantized as it is told."""
        from mlx_lm.convert import convert

        rules = call["rules"]
        convert(
            hf_path=call["dir"],
            mlx_path=call["out"],
            quantize=call["quantize"],
            q_group_size=call["q_group_size"],
            q_bits=call["q_bits"],
            q_mode=call["q_mode"],
            dtype=call["dtype"],
            quant_predicate=(lambda path, module, *_: rules[path]) if rules is not None else None,
            dequantize=call["dequantize"],
            trust_remote_code=False,
        )
        return {}


serve(_Runtime())
