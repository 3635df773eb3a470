# The torch runtime: PyTorch and transformers. Weights are read here, those that MLX has quantized as scale * code + bias in float32, so that both sides of a comparison have the same ones.
import glob
import json
import os


def _read_config(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        return json.load(f)


_E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
_E2M1 = _E2M1 + [-v for v in _E2M1]


def _e4m3(byte):
    sign, exponent, mantissa = -1 if byte & 0x80 else 1, (byte >> 3) & 15, byte & 7
    return sign * (mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


class _Weights:
    """The tensors of a folder, float32."""

    def __init__(self, folder, config):
        import torch
        from safetensors.torch import load_file

        self.torch = torch
        self.tensors, self.bytes = {}, 0
        for path in sorted(glob.glob(os.path.join(folder, "model*.safetensors"))):
            self.tensors.update(load_file(path))
        if not self.tensors:
            raise Failure("bad_input", f"there are no model*.safetensors in {folder}")
        self.bytes = sum(t.numel() * t.element_size() for t in self.tensors.values())
        self.schemes = config.get("quantization") or {}

    def state(self, dtype):
        """All parameters in an arithmetic, dequantized. Each is let go here when it is there: what is loaded is not to be in memory twice."""
        out = {}
        for name in list(self.tensors):
            module, _, last = name.rpartition(".")
            if module + ".scales" not in self.tensors:
                tensor = self.tensors.pop(name)
                out[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
            elif last == "weight":
                out[name] = self._dequantize(module).to(dtype)
            elif last == "bias":
                out[name] = self.tensors[name].to(dtype)
        self.tensors.clear()
        return out

    def _scheme(self, module, packed, scales):
        """mode, bits and group size of a module: its own entry, else from the shapes, as mlx_lm/utils.py infers them."""
        entry = self.schemes.get(module)
        if not isinstance(entry, dict):
            entry = self.schemes if entry is True else {}
        mode = entry.get("mode") or "affine"
        bits, group = entry.get("bits"), entry.get("group_size")
        if not entry:
            top = self.schemes
            one_byte = scales.dtype == self.torch.uint8
            for candidate in (32, 64, 128, 16):
                columns = scales.shape[-1] * candidate
                width = packed.shape[-1] * 32 / columns
                if width == int(width) and (not one_byte or (width, candidate) in ((4, 16), (4, 32), (8, 32))) and (candidate == top.get("group_size") or not top.get("group_size") or one_byte):
                    bits, group = int(width), candidate
                    break
            if one_byte:
                mode = {(4, 16): "nvfp4", (4, 32): "mxfp4", (8, 32): "mxfp8"}[(bits, group)]
        defaults = {"affine": (4, 64), "mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}[mode]
        return mode, bits or defaults[0], group or defaults[1]

    def _codes(self, packed, bits):
        """The codes of each row: one stream of bits from the least significant on, [rows, columns]."""
        torch = self.torch
        rows = packed.shape[0]
        data = packed.contiguous().view(torch.uint8).reshape(rows, -1)
        if bits == 8:
            return data
        shifts = torch.arange(8, dtype=torch.uint8)
        stream = ((data[:, :, None] >> shifts) & 1).reshape(rows, -1, bits)
        out = torch.zeros(stream.shape[:2], dtype=torch.uint8)
        for i in range(bits):
            out |= stream[:, :, i] << i
        return out

    def _dequantize(self, module):
        torch = self.torch
        packed, scales = self.tensors[module + ".weight"], self.tensors[module + ".scales"]
        mode, bits, group = self._scheme(module, packed, scales)
        out = []
        for at in range(0, packed.shape[0], 4096):  # rows at a time: the bits of a whole vocabulary would take gigabytes
            codes = self._codes(packed[at : at + 4096], bits)
            if mode == "affine":
                values = codes.float()
                scale, bias = scales[at : at + 4096].float(), self.tensors[module + ".biases"][at : at + 4096].float()
                values = values.reshape(values.shape[0], -1, group) * scale[:, :, None] + bias[:, :, None]
            else:
                table = [_e4m3(b) for b in range(256)] if mode == "mxfp8" else _E2M1
                values = torch.tensor(table, dtype=torch.float32)[codes.long()]
                raw = scales[at : at + 4096]
                if mode == "nvfp4":
                    scale = torch.tensor([_e4m3(b) for b in range(256)], dtype=torch.float32)[raw.long()]
                else:
                    scale = torch.exp2(raw.float() - 127)
                values = values.reshape(values.shape[0], -1, group) * scale[:, :, None]
            out.append(values.reshape(values.shape[0], -1))
        return torch.cat(out)


class _Model:
    def __init__(self, runtime, folder, compute):
        import torch
        import transformers
        from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

        self.torch, self.runtime = torch, runtime
        runtime.reset_peak()
        settings = _read_config(folder)
        weights = _Weights(folder, settings)
        for key in ("quantization", "quantization_config", "auto_map", "model_file"):
            settings.pop(key, None)
        kind = settings.get("model_type")
        if kind not in CONFIG_MAPPING:
            raise Failure("unsupported", f"transformers {transformers.__version__} has no model_type {kind!r} of its own, and code from repositories is never run")
        config = CONFIG_MAPPING[kind].from_dict(settings)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise Failure("unsupported", f"transformers {transformers.__version__} has no language model of model_type {kind!r}")
        dtype = getattr(torch, compute)
        state = weights.state(dtype)
        model, report = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(None, config=config, state_dict=state, dtype=dtype, output_loading_info=True)
        missing = sorted(set(report["missing_keys"]))
        extra = sorted(n for n in report["unexpected_keys"] if not n.endswith("rotary_emb.inv_freq") and n != "lm_head.weight")
        if missing or extra or report.get("mismatched_keys"):
            what = f"missing {missing[:3]}" if missing else f"not of this model {extra[:3]}" if extra else f"of another shape {list(report['mismatched_keys'])[:3]}"
            raise Failure("bad_input", f"the weights are not those of this config.json: {what}")
        self.model = model.to(runtime.device).eval()
        self.config = self.model.config.get_text_config()
        self.context = int(getattr(self.config, "max_position_embeddings", 0) or 0)
        self.weights_bytes = weights.bytes
        del state
        runtime.collect()
        self.memory = {"load": max(runtime.peak(), weights.bytes)}
        self.held = runtime.held()

    def info(self):
        eos = self.config.eos_token_id
        eos = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
        return {"vocab": self.config.vocab_size, "context": self.context, "hidden": self.config.hidden_size, "eos": eos, "weights_bytes": self.weights_bytes, "memory": self.memory}

    def _ids(self, tokens):
        return self.torch.tensor([tokens], device=self.runtime.device)

    def logits(self, tokens, positions):
        keep = self.torch.tensor(positions, dtype=self.torch.long, device=self.runtime.device)
        return self.model(input_ids=self._ids(tokens), use_cache=False, logits_to_keep=keep).logits[0].float().cpu().numpy()

    def hidden(self, tokens):
        return self.model.base_model(input_ids=self._ids(tokens), use_cache=False).last_hidden_state[0].float().cpu().numpy()

    def layers(self, tokens):
        blocks = getattr(self.model.base_model, "layers", None)
        if blocks is None:
            raise Failure("unsupported", "the model's blocks are not where they usually are")
        seen = []
        keep = lambda x: seen.append((x[0] if isinstance(x, tuple) else x)[0].float().cpu())
        hooks = [blocks[0].register_forward_pre_hook(lambda _, args, kwargs: keep(args[0] if args else kwargs["hidden_states"]), with_kwargs=True)]
        hooks += [b.register_forward_hook(lambda _, args, out: keep(out)) for b in blocks]
        try:
            self.model.base_model(input_ids=self._ids(tokens), use_cache=False)
        finally:
            for h in hooks:
                h.remove()
        return self.torch.stack(seen).numpy()

    def generate(self, texts):
        from transformers import DynamicCache

        torch, device = self.torch, self.runtime.device
        self.runtime.reset_peak()
        longest = max(len(p) for p in texts.prompts)
        padding = [longest - len(p) for p in texts.prompts]
        ids = torch.tensor([[0] * n + p for n, p in zip(padding, texts.prompts)], device=device)
        mask = torch.tensor([[0] * n + [1] * (longest - n) for n in padding], device=device)
        padded = any(padding)
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        everyone = range(len(texts.prompts))
        out = self.model(input_ids=ids, attention_mask=mask if padded else None, position_ids=places, past_key_values=cache, use_cache=True, logits_to_keep=1)
        picked = texts.take(everyone, out.logits[:, -1].float().cpu().numpy())
        memory = {"prefill": self._peak()}
        self.runtime.reset_peak()
        place = places[:, -1:]
        while texts.left():
            place = place + 1
            mask = torch.cat([mask, torch.ones_like(place)], dim=-1)
            out = self.model(input_ids=torch.tensor(picked, device=device)[:, None], attention_mask=mask if padded else None, position_ids=place, past_key_values=cache, use_cache=True)
            picked = texts.take(everyone, out.logits[:, -1].float().cpu().numpy())
        memory["decode"] = self._peak()
        return texts.answer(memory=memory)

    def _peak(self):
        return max(self.runtime.peak(), self.held)


class _Runtime:
    def start(self):
        import platform

        import numpy
        import safetensors
        import torch
        import transformers

        self.torch = torch
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_grad_enabled(False)
        # Float32 means float32. Tensor cores would round inputs to 10 bits (TF32): relative errors of 1e-3.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        # Not Apple's MPS: some of its float32 operations are not those of the CPU, and this runtime is there to be the reference.
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        device = {"kind": "cpu", "name": platform.processor() or platform.machine(), "memory_bytes": 0}
        if self.device == "cuda":
            p = torch.cuda.get_device_properties(0)
            device = {"kind": "gpu", "name": p.name, "memory_bytes": p.total_memory}
        versions = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__, "safetensors": safetensors.__version__, "numpy": numpy.__version__}
        return {"runtime": "torch", "versions": versions, "device": device, "tf32": False}

    def use_threads(self, threads):
        if threads:
            self.torch.set_num_threads(threads)

    def load(self, folder, compute):
        return _Model(self, folder, compute)

    def collect(self):
        import gc

        gc.collect()
        if self.device == "cuda":
            self.torch.cuda.empty_cache()

    def reset_peak(self):
        if self.device == "cuda":
            self.torch.cuda.reset_peak_memory_stats()
        else:
            process_peak_reset()

    def held(self):
        return self.torch.cuda.memory_allocated() if self.device == "cuda" else process_held()

    def peak(self):
        return self.torch.cuda.max_memory_allocated() if self.device == "cuda" else process_peak()

    def modules(self, call):
        raise Failure("unsupported", "the torch runtime converts nothing")

    convert = modules


serve(_Runtime())
