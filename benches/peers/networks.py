# python benches/peers/networks.py target/release/wsi-run OUT.json     (torch 2.12, torchvision 0.27, timm 1.0, segmentation-models-pytorch 0.6, tiatoolbox 2.1, onnx 1.23, onnxruntime 1.31, openvino 2026.4)
"""Images per second of networks: `wsi-run bench` and PyTorch, ONNX Runtime and OpenVINO, taken in turns.

Same networks, same weights (both sides compute them from the tensors' names, as fixtures/models/make.py does), same
images (noise in 0-1), same batch, same number of threads, one machine, one run: in every round every runtime has its turn
for a few seconds, and a runtime's number is its best round (others' load can only slow it down). Before it is timed,
every runtime's heads are compared with PyTorch's in f32; one that does not agree is not timed, but named.
Each runtime runs in a process of its own, so that thread pools do not disturb each other.

    --models a,b    --threads 1,4    --precisions f32,bf16    --batch 4    --rounds 3    --secs 3    --peers ort,...
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
import types

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Network, side of the image.
MODELS = {
    "crescent_seg_net": 256,
    "crescent_dense_net": 224,
    "histonext_tiny": 270,
    "hover_net_fast": 256,
    "light_mu_seg": 512,
    "stardist_unet": 256,
}
# Largest difference from PyTorch's f32, over the largest value.
TOLERANCE = {"f32": 1e-3, "bf16": 1e-1}
PEERS = {"f32": ["wsi_run", "torch", "torch_channels_last", "ort", "openvino"], "bf16": ["wsi_run", "torch_channels_last", "openvino"]}


def twins():
    """The definitions of fixtures/models/make.py, without what it writes."""
    source = (ROOT / "fixtures/models/make.py").read_text().split("\ntorch.set_num_threads")[0]
    module = types.ModuleType("make")
    module.__file__ = str(ROOT / "fixtures/models/make.py")
    exec(compile(source, "make.py", "exec"), module.__dict__)
    return module


def network(name):
    """The twin with weights by name, and the names of its heads in the order of ours."""
    import torch
    from torch import nn

    make = twins()

    class Hover(nn.Module):
        def __init__(self, mode, types):
            super().__init__()
            self.net = make.HoVerNet(num_types=types, mode=mode)

        def forward(self, x):
            return self.net(x * 255)  # it divides by 255 itself

    smp, vision, prefix, rename = make.smp, make.torchvision, "", lambda n: n
    if name == "crescent_seg_net":
        model = smp.FPN("resnet34", encoder_weights=None, classes=2)
    elif name == "crescent_dense_net":
        model = vision.models.densenet121(num_classes=3)
    elif name == "histonext_tiny":
        model, rename = make.HistoNeXt(6), lambda n: n.replace("stem_", "stem.").replace("stages_", "stages.")
    elif name in ("hover_net_fast", "hover_net"):
        model, rename = Hover(*(("fast", 6) if name == "hover_net_fast" else ("original", 5))), lambda n: n[4:]
    elif name == "light_mu_seg":
        model = make.LightMuSeg(3)
    elif name == "stardist_unet":
        model = make.StarDist()
    elif name == "u_net":
        model = make.UNet(2)
    elif name == "attention_u_net":
        model = make.UNet(2, gated=True)
    elif name == "resnet_50":
        model = vision.models.resnet50(num_classes=3)
    elif name == "u_net_mobilenet_v2":
        model = smp.Unet("mobilenet_v2", encoder_weights=None)
    elif name == "u_net_resnet34":
        model = smp.Unet("resnet34", encoder_weights=None)
    elif name == "u_net_mit_b0":
        model = smp.Unet("mit_b0", encoder_weights=None)
    elif name == "u_net_efficientnet_b5":
        model = smp.Unet("efficientnet-b5", encoder_weights=None)
    elif name == "deeplab_v3_plus_mobilenet_v2":
        model = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None)
    else:
        raise SystemExit(f"no twin of `{name}`")
    state = {n: t for n, t in model.state_dict().items() if not n.endswith("unpool_mat") and t.dim() > 0}
    model.load_state_dict({n: make.values(prefix + rename(n), tuple(t.shape)) for n, t in state.items()}, strict=False)
    model.eval()

    class Heads(nn.Module):
        """All heads as a tuple."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            y = self.model(x)
            return tuple(y.values()) if isinstance(y, dict) else (y,)

    with torch.no_grad():
        probe = model(torch.zeros(1, 3, MODELS.get(name, 256), MODELS.get(name, 256)))
    return Heads().eval(), list(probe) if isinstance(probe, dict) else [None]


def images(batch, px):
    """`wsi-run bench`'s images, `[N, 3, h, w]` in 0-1."""
    import numpy as np

    i = np.arange(px * px * 3, dtype=np.uint32)
    with np.errstate(over="ignore"):
        noise = [((i * np.uint32(2654435761) + np.uint32(97 * n)) >> np.uint32(13)).astype(np.uint8) for n in range(batch)]
    x = np.stack(noise).reshape(batch, px, px, 3).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x.astype(np.float32) / 255)


def told(name, y):
    """The first image's head as `wsi-run bench` tells it: `[h, w, c]`, every `step`th value."""
    import numpy as np

    y = np.asarray(y, dtype=np.float32)[0]
    y = y.reshape(y.shape[0], -1).T.reshape(-1) if y.ndim == 3 else y.reshape(-1)
    step = len(y) // 64 | 1
    return {"head": name, "count": len(y), "step": step, "values": [float(v) for v in y[::step][:64]]}


def timed(run, secs):
    """Seconds of each call, shortest first, after two to warm up."""
    run(), run()
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < secs:
        at = time.perf_counter()
        run()
        times.append(time.perf_counter() - at)
    return sorted(times)


def peer(kind, name, px, threads, batch, precision, secs, onnx):
    """Child process: one runtime's turn."""
    x = images(batch, px)
    if kind.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
        model, heads = network(name)
        tensor = torch.from_numpy(x)
        if kind == "torch_channels_last":
            model, tensor = model.to(memory_format=torch.channels_last), tensor.to(memory_format=torch.channels_last)

        def forward():
            with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                return model(tensor)

        y = [head.float().numpy() for head in forward()]
    elif kind == "ort":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

        def forward():
            return session.run(None, {"image": x})

        y, heads = forward(), [o.name for o in session.get_outputs()]
    else:
        import openvino

        core = openvino.Core()
        config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        model = core.read_model(onnx)
        model.reshape([batch, 3, px, px])
        compiled = core.compile_model(model, "CPU", config)
        request = compiled.create_infer_request()

        def forward():
            return request.infer([x], share_inputs=True, share_outputs=True)

        result = forward()
        y, heads = [result[o] for o in compiled.outputs], [o.any_name for o in compiled.outputs]
    described = [told(h, v) for h, v in zip(heads, y)]
    times = timed(forward, secs)
    print(json.dumps({"images_per_sec": batch / times[len(times) // 2], "images_per_sec_best": batch / times[0], "heads": described}))


def export(name, px, batch, path):
    """Child process: the twin as ONNX."""
    import torch

    model, heads = network(name)
    heads = [h or "head" for h in heads]
    with torch.no_grad():
        torch.onnx.export(model, torch.zeros(batch, 3, px, px), path, input_names=["image"], output_names=heads, opset_version=17, dynamo=False, do_constant_folding=True)


def child(*arguments, environment=None):
    """What a child process of this script prints last, as JSON; `None` with its error where it fails."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **(environment or {})},
    )
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines else {}


def ours(binary, name, px, threads, batch, precision, secs):
    command = [binary, "bench", name, "--size", px, "--threads", threads, "--batch", batch, "--precision", precision, "--secs", secs, "--json"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        return {"error": done.stderr.strip()[-300:]}
    return json.loads(done.stdout)


def off(found, expected):
    """Largest difference over the largest value, of all heads; heads by name, or in order where they have none."""
    worst, by_name = 0.0, {h["head"]: h for h in found}
    if len(found) != len(expected):
        return float("inf")
    for i, e in enumerate(expected):
        f = by_name.get(e["head"]) or found[i]
        if f["step"] != e["step"] or len(f["values"]) != len(e["values"]):
            return float("inf")
        largest = max(map(abs, e["values"])) or 1.0
        worst = max(worst, max(abs(a - b) for a, b in zip(f["values"], e["values"])) / largest)
    return worst


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def versions():
    from importlib.metadata import version

    return {p: version(p) for p in ["torch", "torchvision", "timm", "segmentation-models-pytorch", "onnxruntime", "openvino"]}


def compare(args, name, threads, precision, onnx, reference):
    """All rounds of one network, number of threads and precision."""
    px, peers, rows = args.size or MODELS.get(name, 256), [p for p in PEERS[precision] if p in args.peers], {}
    for turn in range(args.rounds):
        # Another order every round: whoever comes first finds a cooler machine.
        for kind in peers[turn % len(peers):] + peers[:turn % len(peers)]:
            row = rows.setdefault(kind, {"rounds": []})
            if "error" in row:
                continue
            if kind == "wsi_run":
                got = ours(args.binary, name, px, threads, args.batch, precision, args.secs)
            else:
                pinned = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
                got = child("peer", kind, name, px, threads, args.batch, precision, args.secs, onnx, environment=pinned)
            if "error" in got:
                row["error"] = got["error"]
                continue
            row["off"] = off(got["heads"], reference)
            if not row["off"] <= TOLERANCE[precision]:
                row["error"] = f"heads are off by {row['off']:.2g}"
                continue
            row["rounds"].append(got["images_per_sec"])
            row["images_per_sec"] = max(row["rounds"])
            row.update({k: got[k] for k in ("isa", "gmacs", "weight_bytes", "memory_bytes") if k in got})
    return rows


def show(name, threads, precision, rows):
    mine = rows.get("wsi_run", {}).get("images_per_sec")
    print(f"\n{name}, {precision}, {threads} thread{'s' * (threads > 1)}")
    for kind, row in rows.items():
        rate = row.get("images_per_sec")
        if rate is None:
            print(f"  {kind:<20} {row.get('error', 'not timed')}")
        else:
            ratio = f"{mine / rate:6.2f}×" if mine else ""
            print(f"  {kind:<20} {rate:9.2f} images/s  {ratio}  off {row['off']:.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary"), parser.add_argument("out")
    comma = lambda text: text.split(",")
    parser.add_argument("--models", type=comma, default=list(MODELS))
    parser.add_argument("--threads", type=lambda t: [int(n) for n in t.split(",")], default=[1, 4])
    parser.add_argument("--precisions", type=comma, default=["f32", "bf16"])
    parser.add_argument("--peers", type=comma, default=PEERS["f32"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=3)
    parser.add_argument("--size", type=int)
    args = parser.parse_args()
    results = []
    record = {"date": datetime.date.today().isoformat(), "processor": processor(), "cpus": len(os.sched_getaffinity(0)), "batch": args.batch, "versions": versions(), "results": results}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            px, onnx = args.size or MODELS.get(name, 256), str(pathlib.Path(folder, f"{name}.onnx"))
            exported = child("export", name, px, args.batch, onnx)
            if "error" in exported:
                print(f"{name}: no ONNX: {exported['error']}")
            reference = child("peer", "torch", name, px, max(args.threads), args.batch, "f32", 0, onnx)
            if "error" in reference:
                print(f"{name}: no PyTorch: {reference['error']}")
                continue
            for threads in args.threads:
                for precision in args.precisions:
                    rows = compare(args, name, threads, precision, onnx, reference["heads"])
                    load = os.getloadavg()[0]
                    results.append({"model": name, "px": px, "threads": threads, "precision": precision, "load": load, "runtimes": rows})
                    show(name, threads, precision, rows)
                    pathlib.Path(args.out).write_text(json.dumps(record, indent=1))
            pathlib.Path(onnx).unlink(missing_ok=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        what, *rest = sys.argv[2:]
        if what == "export":
            name, px, batch, path = rest
            export(name, int(px), int(batch), path)
        else:
            kind, name, px, threads, batch, precision, secs, onnx = rest
            peer(kind, name, int(px), int(threads), int(batch), precision, float(secs), onnx)
    else:
        main()
