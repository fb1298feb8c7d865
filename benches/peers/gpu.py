# python benches/peers/gpu.py OURS.jsonl OUT   (torch 2.11 with CUDA, timm, segmentation-models-pytorch, torchvision, tiatoolbox, matplotlib)
"""PyTorch's side of `benches/gpu.sh`: the same networks and weights in bf16, channels last, eager and compiled; then the
table of goals and a roofline plot of our steps.

OURS.jsonl is what `cargo bench --features cuda --bench gpu -- --steps` printed; writes OUT.json, OUT.md and OUT.png.
What cannot be run is named in the table, never guessed.
"""
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

# Network: side, goal against torch.compile, floor of the roofline in images/s on an H100 SXM (989 TFLOP/s dense bf16,
# 3.35 TB/s; two fused kernels per dense layer; the others by the multiply-accumulates of their plan), goal of it.
GOALS = {
    "crescent_dense_net": (224, 1.5, 74_800, 0.5),
    "crescent_seg_net": (256, 1.1, None, 0.5),
    "histonext_tiny": (270, 1.2, None, 0.4),
    "hover_net_fast": (256, 1.2, None, 0.4),
}
PEAK_FLOPS, PEAK_BYTES = 989.4e12, 3.35e12


def peers(name, px, batches, secs=2.0):
    """Best images/s of eager and compiled PyTorch, over the batches; or why there is none."""
    try:
        import torch
        import networks
    except ImportError as e:
        return {"eager": f"not run: {e}", "compile": f"not run: {e}"}
    if not torch.cuda.is_available():
        return {"eager": "not run: torch finds no GPU", "compile": "not run: torch finds no GPU"}
    found = {}
    for kind in ("eager", "compile"):
        best = 0.0
        try:
            net = networks.network(name)
            net = net[0] if isinstance(net, tuple) else net
            net = net.eval().cuda().to(torch.bfloat16, memory_format=torch.channels_last)
            run = torch.compile(net, mode="max-autotune") if kind == "compile" else net
            for batch in batches:
                x = torch.rand(batch, 3, px, px, device="cuda", dtype=torch.bfloat16)
                x = x.to(memory_format=torch.channels_last)
                with torch.inference_mode():
                    for _ in range(5):
                        run(x)
                    torch.cuda.synchronize()
                    start, count = time.perf_counter(), 0
                    while time.perf_counter() - start < secs:
                        run(x)
                        count += batch
                        if count % (8 * batch) == 0:
                            torch.cuda.synchronize()
                    torch.cuda.synchronize()
                    best = max(best, count / (time.perf_counter() - start))
            found[kind] = best
        except Exception as e:  # a network that does not compile is a result
            found[kind] = f"not run: {type(e).__name__}: {str(e)[:120]}"
    return found


def floor(name, ours):
    """Images/s that the card could do at most, by the table or by the products alone."""
    if GOALS[name][2]:
        return GOALS[name][2]
    gmacs = next((row["gmacs"] for row in ours if row.get("network") == name and "gmacs" in row), None)
    steps = [row for row in ours if row.get("network") == name and row.get("what") == "step"]
    if not gmacs:
        return None
    if not steps:
        return PEAK_FLOPS / (2e9 * gmacs)
    # The longer of products and bytes, step by step.
    secs = 0.0
    for row in steps:
        flop = row["tflop_per_s"] * row["micros"] * 1e6 / row["batch"]
        moved = row["gb_per_s"] * row["micros"] * 1e3 / row["batch"]
        secs += max(flop / PEAK_FLOPS, moved / PEAK_BYTES)
    return 1 / secs


def plot(ours, to):
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError as e:
        return f"no plot: {e}"
    steps = [row for row in ours if row.get("what") == "step" and row["tflop_per_s"] > 0]
    if not steps:
        return "no plot: no step was timed"
    figure, axes = plt.subplots(figsize=(8, 5))
    reach = [2.0**i for i in range(-2, 13)]
    axes.loglog(reach, [min(PEAK_FLOPS, PEAK_BYTES * i) / 1e12 for i in reach], "k-", lw=1)
    for name in GOALS:
        mine = [row for row in steps if row["network"] == name]
        axes.loglog([r["flop_per_byte"] for r in mine], [r["tflop_per_s"] for r in mine], ".", label=name)
    axes.set_xlabel("FLOP per byte")
    axes.set_ylabel("TFLOP/s")
    axes.legend()
    figure.savefig(to, dpi=150, bbox_inches="tight")
    return f"plot: {to}"


def main():
    ours_path, out = sys.argv[1], sys.argv[2]
    ours = [json.loads(line) for line in open(ours_path) if line.startswith("{")]
    gpu = next((row["gpu"] for row in ours if "gpu" in row), "none")
    lines = [
        f"GPU: {gpu}; floors are of an H100 SXM",
        "",
        "| network | ours, kernels | ours, with copies | torch eager | torch.compile | of compile (goal) | of the floor (goal) |",
        "|---|---|---|---|---|---|---|",
    ]
    table = {}
    for name, (px, of_compile, _, of_floor) in GOALS.items():
        rate = lambda what: max((r["images_per_s"] for r in ours if r.get("network") == name and r.get("what") == what), default=None)
        batches = sorted({r["batch"] for r in ours if r.get("network") == name}) or [64]
        kernels, copies = rate("kernels"), rate("lanes")
        theirs = peers(name, px, batches)
        best = floor(name, ours)
        show = lambda v: "not run" if v is None else v if isinstance(v, str) else f"{v:,.0f}/s"
        ratio = lambda a, b: f"{a / b:.2f}" if a and b and not isinstance(b, str) else "–"
        lines.append(
            f"| {name} {px}² | {show(kernels)} | {show(copies)} | {show(theirs['eager'])} | {show(theirs['compile'])} | "
            f"{ratio(kernels, theirs['compile'])} (≥ {of_compile}) | {ratio(kernels, best)} (≥ {of_floor}) |"
        )
        table[name] = {"kernels": kernels, "lanes": copies, **theirs, "floor": best}
    lines += ["", plot(ours, out + ".png")]
    pathlib.Path(out + ".md").write_text("\n".join(lines) + "\n")
    pathlib.Path(out + ".json").write_text(json.dumps({"gpu": gpu, "table": table, "ours": ours}, indent=1))
    print("\n".join(lines))


main()
