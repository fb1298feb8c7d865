# python benches/peers/train.py target/release/wsi-run [OUT.json]     (torch 2.12, torchvision 0.27, segmentation-models-pytorch 0.6)
"""Seconds per training step of networks: `wsi-run bench --train` and PyTorch with channels_last, taken in turns.

A step is forward (batch statistics, no dropout), the mean of (head - 1/2)^2 summed over the heads, backward, and Adam
(PyTorch's fused one). Same networks, same weights, same images, same batch, same number of threads, one machine. Both
sides first tell the loss and, for every parameter, the gradient's norm and three projections of it: they must agree
within 1e-3 of the norm. In every round each side has its turn for a few seconds in a process of its own; the number is
the best step, since others' load can only slow it down.

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


def torch_side(name, batch, px, threads, secs):
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    model, _ = network(name)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
    model = model.to(memory_format=torch.channels_last)
    x = torch.from_numpy(images(batch, px)).to(memory_format=torch.channels_last)
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


def disagreement(ours, theirs):
    """The largest difference of a norm or a projection, over the norm."""
    worst, where = abs(ours["loss"] - theirs["loss"]) / abs(theirs["loss"]), "loss"
    missing = [n for n in theirs if n not in ours]
    if missing:
        raise SystemExit(f"no gradient of {missing[:3]}, {len(missing)} in all")
    whole = sum(v[0] ** 2 for n, v in theirs.items() if n != "loss") ** 0.5
    for name, value in theirs.items():
        if name == "loss":
            continue
        # A gradient that is 0 but for rounding (a bias before a norm) is measured by the whole.
        norm = max(value[0], 1e-4 * whole)
        for a, b in zip([ours[name][0], *ours[name][1]], [value[0], *value[1]]):
            if abs(a - b) / norm > worst:
                worst, where = abs(a - b) / norm, name
    return worst, where


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
    print("network              batch    px threads  torch s  ours s  ratio  torch MB  ours MB  gradients differ by")
    for case in args.cases.split(","):
        name, batch, px = case.split(":")
        for threads in map(int, args.threads.split(",")):
            best = {}
            for _ in range(args.rounds):
                environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
                theirs = subprocess.run([sys.executable, __file__, "--child", name, batch, px, str(threads), str(args.secs)], check=True, capture_output=True, text=True, env=environment)
                turns = {"torch": json.loads(theirs.stdout.splitlines()[-1]), "ours": our_side(args.binary, name, batch, px, threads, args.secs)}
                off, where = disagreement(turns["ours"].pop("gradients"), turns["torch"].pop("gradients"))
                for side, turn in turns.items():
                    if side not in best or turn["best"] < best[side]["best"]:
                        best[side] = turn
            if off > TOLERANCE:
                print(f"{name}: gradients differ by {off:.1e} at `{where}`: not timed")
                continue
            ratio = best["ours"]["best"] / best["torch"]["best"]
            rows.append({"network": name, "batch": int(batch), "px": int(px), "threads": threads, "ratio": ratio, "off": off, **best})
            print(f"{name:20} {batch:>5} {px:>5} {threads:>7} {best['torch']['best']:8.3f} {best['ours']['best']:7.3f} {ratio:6.2f} {best['torch']['peak_mb']:>9} {best['ours']['peak_mb']:>8}  {off:.1e} ({where})", flush=True)
    if args.out:
        with open(args.out, "w") as file:
            json.dump({"processor": processor(), "versions": versions(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        torch_side(sys.argv[2], *map(int, sys.argv[3:6]), float(sys.argv[6]))
    else:
        main()
