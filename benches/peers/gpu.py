# python benches/peers/gpu.py OURS.jsonl OUT   (torch 2.11 with CUDA, timm, segmentation-models-pytorch, torchvision, tiatoolbox, matplotlib)
"""PyTorch's side of `benches/gpu.sh`: the same networks and weights in bf16, channels last, eager and compiled; then the
table of goals and a roofline plot of our steps.

OURS.jsonl is what `cargo bench --features cuda --bench gpu -- --steps` printed; writes OUT.json, OUT.md, OUT.png and OUT.rows
(the goals, for the last table of `gpu.sh`).
What cannot be run is named in the table, never guessed.
"""
import json
import pathlib
import re
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
    """Images/s of eager and compiled PyTorch by the best of the batches; or why there is none."""
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
                    best = max(best, batch / median_secs(lambda: run(x), secs))
            found[kind] = best
        except Exception as e:  # a network that does not compile is a result
            found[kind] = f"not run: {type(e).__name__}: {str(e)[:120]}"
    return found


def median_secs(call, secs):
    """Median time of a call by the device's events, over calls for `secs` s."""
    import torch

    times, start = [], time.perf_counter()
    while time.perf_counter() - start < secs or len(times) < 5:
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        call()
        after.record()
        after.synchronize()
        times.append(before.elapsed_time(after) / 1e3)
    return sorted(times)[len(times) // 2]


def ceilings():
    """What this card does at most: TB/s of a copy, read and written, and TFLOP/s of a product, both of PyTorch."""
    try:
        import torch

        if not torch.cuda.is_available():
            return "not measured: torch finds no GPU"
        x = torch.empty(4 << 30, dtype=torch.uint8, device="cuda").random_()
        y = torch.empty_like(x)
        copy = 2 * x.numel() / median_secs(lambda: y.copy_(x), 0.5)
        del x, y
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        product = 2 * 8192**3 / median_secs(lambda: a @ b, 0.5)
        return f"{copy / 1e12:.2f} TB/s of a copy, {product / 1e12:.0f} TFLOP/s of an 8192³ product in bf16"
    except Exception as e:  # an older torch, a small card
        return f"not measured: {type(e).__name__}: {str(e)[:120]}"


def floor(name, ours):
    """Images/s that the card could do at most, by the table or by the products alone."""
    if GOALS[name][2]:
        return GOALS[name][2]
    gmacs = next((row["gmacs"] for row in ours if row.get("network") == name and "gmacs" in row), None)
    steps = [row for row in ours if row.get("network") == name and row.get("what") == "step" and not row.get("wgmma")]
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
        for wgmma, mark in ((False, "."), (True, "+")):
            some = [r for r in mine if r.get("wgmma", False) == wgmma]
            if some:
                label = f"{name}, warpgroups" if wgmma else name
                axes.loglog([r["flop_per_byte"] for r in some], [r["tflop_per_s"] for r in some], mark, label=label)
    axes.set_xlabel("FLOP per byte")
    axes.set_ylabel("TFLOP/s")
    axes.legend()
    figure.savefig(to, dpi=150, bbox_inches="tight")
    return f"plot: {to}"


def by_kernel(ours, is_rehearsal):
    """A line per kernel over all steps that it alone does: how often, how long, and what of the roofline it reaches; of
    those that only work with others, how often and how long; last those that nothing timed."""
    sources = pathlib.Path(__file__).resolve().parents[2] / "kernels"
    defined = sorted(re.findall(r"^KERNEL\((\w+),", "\n".join(path.read_text() for path in sorted(sources.glob("*.cu"))), re.M))
    found = {}
    for row in ours:
        if row.get("what") in ("step", "canvas") and len(set(row["kernels"])) == 1 and row["micros"] > 0:
            secs = row["micros"] / 1e6
            least = max(row["tflop_per_s"] * 1e12 * secs / PEAK_FLOPS, row["gb_per_s"] * 1e9 * secs / PEAK_BYTES)
            count, all_secs, all_least = found.get(row["kernels"][0], (0, 0.0, 0.0))
            found[row["kernels"][0]] = (count + 1, all_secs + secs, all_least + least)
    parts = {}
    for row in ours:
        if row.get("what") == "part" and row["kernels"][0] not in found:
            count, all_secs = parts.get(row["kernels"][0], (0, 0.0))
            parts[row["kernels"][0]] = (count + 1, all_secs + row["micros"] / 1e6)
    lines = ["| kernel | steps | µs | of the roofline |", "|---|---|---|---|"]
    for name in defined:
        if name in found:
            count, secs, least = found[name]
            lines.append(f"| {name} | {count} | " + ("rehearsed | – |" if is_rehearsal else f"{secs * 1e6:,.0f} | {least / secs:.0%} |"))
        elif name in parts:
            count, secs = parts[name]
            lines.append(f"| {name} | {count}, with others | " + ("rehearsed" if is_rehearsal else f"{secs * 1e6:,.0f}") + " | – |")
    unseen = [name for name in defined if name not in found and name not in parts]
    return lines + ["", "Not timed by themselves: " + (", ".join(unseen) or "none")]


def main():
    ours_path, out = sys.argv[1], sys.argv[2]
    ours = [json.loads(line) for line in open(ours_path) if line.startswith("{")]
    gpu = next((row["gpu"] for row in ours if "gpu" in row), "none")
    # What the emulated driver calls itself: its rates are no rates.
    is_rehearsal = gpu.endswith("no GPU")
    lines = [
        f"GPU: {gpu}; floors are of an H100 SXM (989 TFLOP/s, 3.35 TB/s); this card: {ceilings()}",
        "Medians; ours in half precision, PyTorch's in bf16; the best of all batches on both sides, and of ours of all ways to share a batch out.",
        "",
        "| network | ours, kernels | ours, with copies | torch eager | torch.compile | of compile (goal) | of the floor (goal) |",
        "|---|---|---|---|---|---|---|",
    ]
    table, rows = {}, []
    for name, (px, of_compile, _, of_floor) in GOALS.items():
        rate = lambda what: max((r["images_per_s"] for r in ours if r.get("network") == name and r.get("what") == what), default=None)
        batches = sorted({r["batch"] for r in ours if r.get("network") == name}) or [64]
        kernels, copies = rate("kernels"), rate("lanes")
        theirs = peers(name, px, batches)
        best = floor(name, ours)
        show = lambda v: "not run" if v is None else v if isinstance(v, str) else "rehearsed" if is_rehearsal else f"{v:,.0f}/s"
        ratio = lambda a, b: f"{a / b:.2f}" if a and b and not isinstance(b, str) and not is_rehearsal else "–"
        products = lambda wgmma: max((r["images_per_s"] for r in ours if r.get("network") == name and r.get("what") == "kernels" and r.get("wgmma") == wgmma), default=None)
        lines.append(
            f"| {name} {px}² | {show(kernels)} | {show(copies)} | {show(theirs['eager'])} | {show(theirs['compile'])} | "
            f"{ratio(kernels, theirs['compile'])} (≥ {of_compile}) | {ratio(kernels, best)} (≥ {of_floor}) |"
        )
        if kernels is None:
            why = "NOT MEASURED: no GPU ran it"
        elif is_rehearsal:
            why = "NOT MEASURED: a rehearsal without a GPU, in which it ran"
        else:
            why = None
        against = f"{show(kernels)}, torch.compile {show(theirs['compile'])}: {ratio(kernels, theirs['compile'])}"
        if not why and not isinstance(theirs["compile"], float):
            against = f"NOT MEASURED: torch.compile {theirs['compile']}"
        rows.append(f"| {name} {px}² against torch.compile | ≥ {of_compile} | {(why or against).replace('|', ',')} |")
        rows.append(f"| {name} {px}² of the roofline | ≥ {of_floor} | {why or ratio(kernels, best)} |")
        table[name] = {"kernels": kernels, "by_warps": products(False), "by_warpgroups": products(True), "lanes": copies, "blended": rate("lanes blended"), **theirs, "floor": best}
    lines += ["", "| kernels of | by warps | by warpgroups |", "|---|---|---|"]
    lines += [f"| {name} | {show(of['by_warps'])} | {show(of['by_warpgroups'])} |" for name, of in table.items()]
    lines += ["", "| with copies | head maps out | blended on the device |", "|---|---|---|"]
    lines += [f"| {name} | {show(of['lanes'])} | {show(of['blended'])} |" for name, of in table.items()]
    lines += [""] + by_kernel(ours, is_rehearsal)
    drawn = plot(ours, out + ".png")
    lines += ["", drawn]
    missing = "a rehearsal without a GPU" if is_rehearsal else None if drawn.startswith("plot: ") else drawn
    rows.append(f"| roofline plot | one point per step | {f'NOT MEASURED: {missing}' if missing else drawn} |")
    pathlib.Path(out + ".rows").write_text("\n".join(rows) + "\n")
    pathlib.Path(out + ".md").write_text("\n".join(lines) + "\n")
    pathlib.Path(out + ".json").write_text(json.dumps({"gpu": gpu, "table": table, "ours": ours}, indent=1))
    print("\n".join(lines))


main()
