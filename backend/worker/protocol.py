# The half of a worker that both runtimes share; the runtime's own file follows it in one script. It speaks JSON lines with mlxbuild and decides nothing: see docs/formats.md.
#
# The real standard output is taken away first, from Python and from C alike, so that nothing a library prints can get between the lines.
import os
import sys

_out = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
os.dup2(2, 1)
sys.stdout = sys.stderr

import json
import queue
import threading
import time

HELLO = 1  # version of the protocol
BEAT_S = 10  # mlxbuild takes a minute of silence for a hang

_lock = threading.Lock()


def send(message):
    line = json.dumps(message)
    with _lock:
        _out.write(line + "\n")
        _out.flush()


def _beat():
    while True:
        send({"beat": time.monotonic()})
        time.sleep(BEAT_S)


threading.Thread(target=_beat, daemon=True).start()

_requests = queue.Queue()
_cancelled = set()


def _read():
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if request["op"] == "cancel":
            _cancelled.add(request["of"])
        else:
            _requests.put(request)
    os._exit(0)  # mlxbuild is gone


threading.Thread(target=_read, daemon=True).start()


class Failure(Exception):
    """An error with a class that mlxbuild knows: bad_input, unsupported, not_finite, oom, cancelled, missing."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Call:
    """What a request brings, and how it is answered on the way."""

    def __init__(self, request):
        self.id = request["id"]
        self.request = request

    def __getitem__(self, key):
        return self.request[key]

    def progress(self, **fields):
        send({"id": self.id, "progress": fields})

    def check(self):
        """Ends the call when it was cancelled."""
        if self.id in _cancelled:
            raise Failure("cancelled", "cancelled")


def write_array(path, array):
    """Writes an array as float32, little-endian, and says its shape."""
    array.astype("<f4", copy=False).tofile(path)
    return {"shape": list(array.shape), "dtype": "float32"}


def pick(logits, options, generators):
    """The next token of each row of logits [rows, vocabulary], NumPy float32.

    Temperature 0 takes the largest, of equals the first. Else top-p, then min-p, on the probabilities at temperature 1, then the temperature, as in mlx_lm/sample_utils.py.
    """
    import numpy as np

    if not np.isfinite(logits).all():
        raise Failure("not_finite", "a logit is NaN or infinite")
    if options["temperature"] == 0:
        return [int(i) for i in logits.argmax(axis=-1)]
    tokens = []
    for row, generator in zip(logits.astype(np.float64), generators):
        row = row - row.max()
        p = np.exp(row)
        p /= p.sum()
        keep = np.ones(len(p), dtype=bool)
        if 0 < options["top_p"] < 1:
            order = np.argsort(-p, kind="stable")
            before = np.cumsum(p[order]) - p[order]
            keep[order[before >= options["top_p"]]] = False
        if options["min_p"] > 0:
            keep &= p >= options["min_p"] * p.max()
        row = np.where(keep, row / options["temperature"], -np.inf)
        p = np.exp(row - row.max())
        edges = np.cumsum(p)
        tokens.append(int(np.searchsorted(edges, generator.random() * edges[-1], side="right")))
    return tokens


class Texts:
    """The texts of one generate call: which go on, and when each token was there."""

    def __init__(self, call, context):
        import numpy as np

        self.call, self.context = call, context
        self.prompts = call["prompts"]
        self.options = call["options"]
        if self.options["speculate"]:
            raise Failure("bad_input", "this runtime does not speculate")
        self.quiet = self.options["quiet"]  # nobody listens: nothing is said while the clock runs
        self.stop = set(self.options["stop"])
        self.tokens = [[] for _ in self.prompts]
        self.ns = [[] for _ in self.prompts]
        self.finish = ["" for _ in self.prompts]
        self.generators = [np.random.Generator(np.random.PCG64(self.options["seed"])) for _ in self.prompts]
        self.start = time.perf_counter_ns()

    def take(self, index, logits):
        """Takes the next token of texts index[i] from logits[i]; returns what was taken. Texts that are done take nothing."""
        self.call.check()
        picked = pick(logits, self.options, [self.generators[i] for i in index])
        self.note(index, picked)
        return picked

    def note(self, index, picked):
        """Notes the next token of texts index[i]: it is there now."""
        ns = time.perf_counter_ns() - self.start
        for i, token in zip(index, picked):
            if self.finish[i]:
                continue
            self.tokens[i].append(token)
            self.ns[i].append(ns)
            if token in self.stop:
                self.finish[i] = "stop"
            elif len(self.tokens[i]) >= self.options["max_tokens"] or self.context and len(self.prompts[i]) + len(self.tokens[i]) >= self.context:
                self.finish[i] = "length"
            if not self.quiet:
                self.call.progress(s=i, t=token, ns=ns)

    def left(self):
        return any(not f for f in self.finish)

    def answer(self, **more):
        return {"tokens": self.tokens, "finish": self.finish, "ns": self.ns, **more}


def _serve_one(runtime, models, call):
    op = call["op"]
    if op == "load":
        runtime.use_threads(call["threads"])
        model = runtime.load(call["dir"], call["compute"])
        models[call["model"]] = model
        return model.info()
    if op == "unload":
        models.pop(call["model"], None)
        runtime.collect()
        return {}
    if op in ("modules", "convert"):
        return getattr(runtime, op)(call)
    model = models[call["model"]]
    if op == "logits":
        return write_array(call["out"], model.logits(call["tokens"], call["positions"]))
    if op == "hidden":
        return write_array(call["out"], model.hidden(call["tokens"]))
    if op == "layers":
        return write_array(call["out"], model.layers(call["tokens"]))
    if op == "generate":
        return model.generate(Texts(call, model.context))
    raise Failure("unsupported", f"there is no operation {op}")


def serve(runtime):
    """Answers requests until there are no more, and ends the process: an interpreter that shuts down while a thread waits for standard input aborts."""
    code = 0
    try:
        _serve(runtime)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    _out.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve(runtime):
    try:
        hello = runtime.start()
    except ImportError as e:
        send({"fatal": {"class": "missing", "message": str(e)}})
        return
    send({"hello": HELLO, "ops": ["load", "unload", "logits", "hidden", "layers", "generate", "modules", "convert"], "path": [p for p in sys.path if os.path.isdir(p)], **hello})
    models = {}
    while True:
        call = Call(_requests.get())
        if call["op"] == "bye":
            send({"id": call.id, "ok": True})
            return
        try:
            call.check()
            send({"id": call.id, "ok": True, **_serve_one(runtime, models, call)})
        except Failure as e:
            send({"id": call.id, "ok": False, "error": {"class": e.kind, "message": str(e)}})
        except MemoryError as e:
            send({"id": call.id, "ok": False, "error": {"class": "oom", "message": str(e) or "out of memory"}})
        except Exception as e:
            import traceback

            traceback.print_exc()
            kind = "oom" if "out of memory" in str(e).lower() or "unable to allocate" in str(e).lower() else "internal"
            send({"id": call.id, "ok": False, "error": {"class": kind, "message": f"{type(e).__name__}: {e}"}})
        _cancelled.discard(call.id)


def process_peak_reset():
    """Begins a new peak of this process's memory, where the system can."""
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass


def _status(field):
    try:
        with open("/proc/self/status") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def process_held():
    """The memory that this process has now, in bytes; 0 where the system does not say."""
    return _status("VmRSS")


def process_peak():
    """The most memory that this process had since the last reset, in bytes."""
    peak = _status("VmHWM")
    if peak:
        return peak
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
