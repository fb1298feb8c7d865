# python benches/peers/train.py target/release/wsi-run [OUT.json]     (torch 2.12, torchvision 0.27, segmentation-models-pytorch 0.6)
"""Seconds per training step of networks: `wsi-run bench --train` and PyTorch with channels_last, taken in turns.

A step is forward (batch statistics, no dropout), the mean of (head - 1/2)^2 summed over the heads, backward, and Adam
(PyTorch's fused one). Same networks, same weights, same images, same batch, same number of threads, one machine. Both
sides first tell the loss and, for every parameter, the gradient's norm and three projections of it. They are compared with
PyTorch's in double precision: batch norms of small batches amplify rounding, PyTorch's single precision is up to 3 % of a
norm off. Ours must be within 1e-3 of the norm, or within 5 times as far off as PyTorch's single precision, in the worst
parameter and in the median one. In every round each side has its turn for a few seconds in a process of its own; the
number is the best step, since others' load can only slow it down.

    --cases crescent_seg_net:4:256,light_mu_seg:2:512    --threads 1,4    --rounds 3    --secs 4
"""
import argparse
import json
import os
import subprocess
import sys
import time

from networks import images, network, processor, versions

CASES = "crescent_seg_net:4:256,stardist_unet:4:256,light_mu_seg:2:512"
TOLERANCE = 1e-3
TIMES_AS_FAR = 5


def torch_side(name, batch, px, threads, secs, precision="float32"):
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    model, _ = network(name)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
    model = model.to(dtype=getattr(torch, precision), memory_format=torch.channels_last)
    x = torch.from_numpy(images(batch, px)).to(dtype=getattr(torch, precision), memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step():
        adam.zero_grad(set_to_none=True)
        loss = sum(((y - 0.5) ** 2).mean() for y in model(x))
        loss.backward()
        return loss

    told = {"loss": float(step().detach())}
    for key, p in model.named_parameters():
        if p.grad is not None:
            g, i = p.grad.reshape(-1).double().numpy(), np.arange(p.numel())
            dots = [float((g * (((i * 31 + 7 + k * 13) % (101 + k)) / 50 - 1)).sum()) for k in range(3)]
            told[key.removeprefix("model.")] = [float(np.sqrt((g * g).sum())), dots]
    if secs == 0:
        return print(json.dumps({"gradients": told}))
    adam.step()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < secs:
        t = time.perf_counter()
        step()
        adam.step()
        times.append(time.perf_counter() - t)
    times = sorted(times[1:])
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(json.dumps({"best": times[0], "median": times[len(times) // 2], "peak_mb": peak // 1024, "gradients": told}))


def our_side(binary, name, batch, px, threads, secs):
    command = [binary, "bench", name, "--train", "--json", "--batch", str(batch), "--size", str(px), "--threads", str(threads), "--secs", str(secs)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"best": said["secs_per_step_best"], "median": said["secs_per_step"], "peak_mb": said["peak_rss_bytes"] >> 20, "gradients": said["gradients"]}


def distances(told, truth):
    """Of every parameter, the largest difference of the norm or a projection, over the norm; ascending, and of the loss."""
    missing = [n for n in truth if n not in told]
    if missing:
        raise SystemExit(f"no gradient of {missing[:3]}, {len(missing)} in all")
    whole = sum(v[0] ** 2 for n, v in truth.items() if n != "loss") ** 0.5
    far = [(abs(told["loss"] - truth["loss"]) / abs(truth["loss"]), "loss")]
    for name, value in truth.items():
        if name == "loss":
            continue
        # A gradient that is 0 but for rounding (a bias before a norm) is measured by the whole.
        norm = max(value[0], 1e-4 * whole)
        pairs = zip([told[name][0], *told[name][1]], [value[0], *value[1]])
        far.append((max(abs(a - b) / norm for a, b in pairs), name))
    return sorted(far)


def agree(ours, theirs):
    at = len(ours) // 2
    return all(a[0] <= max(TOLERANCE, TIMES_AS_FAR * b[0]) for a, b in [(ours[-1], theirs[-1]), (ours[at], theirs[at])])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("out", nargs="?")
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--threads", default="1,4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=4)
    args = parser.parse_args()
    rows = []
    print("network              batch    px threads  torch s  ours s  ratio  torch MB  ours MB  gradients off by (PyTorch's)")
    for case in args.cases.split(","):
        name, batch, px = case.split(":")
        said = subprocess.run([sys.executable, __file__, "--child", name, batch, px, "4", "0", "float64"], check=True, capture_output=True, text=True)
        truth = json.loads(said.stdout.splitlines()[-1])["gradients"]
        for threads in map(int, args.threads.split(",")):
            best = {}
            for _ in range(args.rounds):
                environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
                theirs = subprocess.run([sys.executable, __file__, "--child", name, batch, px, str(threads), str(args.secs)], check=True, capture_output=True, text=True, env=environment)
                turns = {"torch": json.loads(theirs.stdout.splitlines()[-1]), "ours": our_side(args.binary, name, batch, px, threads, args.secs)}
                ours, torch = (distances(turns[side].pop("gradients"), truth) for side in ("ours", "torch"))
                for side, turn in turns.items():
                    if side not in best or turn["best"] < best[side]["best"]:
                        best[side] = turn
            off, where = ours[-1]
            if not agree(ours, torch):
                print(f"{name}: gradients are off by {off:.1e} at `{where}`, PyTorch's by {torch[-1][0]:.1e}: not timed")
                continue
            ratio = best["ours"]["best"] / best["torch"]["best"]
            rows.append({"network": name, "batch": int(batch), "px": int(px), "threads": threads, "ratio": ratio, "off": off, "torch_off": torch[-1][0], **best})
            print(f"{name:20} {batch:>5} {px:>5} {threads:>7} {best['torch']['best']:8.3f} {best['ours']['best']:7.3f} {ratio:6.2f} {best['torch']['peak_mb']:>9} {best['ours']['peak_mb']:>8}  {off:.1e} ({torch[-1][0]:.1e})", flush=True)
    if args.out:
        with open(args.out, "w") as file:
            json.dump({"processor": processor(), "versions": versions(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        torch_side(sys.argv[2], *map(int, sys.argv[3:6]), float(sys.argv[6]), *sys.argv[7:])
    else:
        main()
