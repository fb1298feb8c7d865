# python benches/peers/hover_net.py SLIDE.tif [--size 1000 2000 4000] [--rounds 1] [--only wsi-run]   (torch 2.12, tiatoolbox 2.1.3)
"""Wall, CPU and peak memory of HoVer-Net (fast) over regions: `wsi-run` against TIAToolbox's MultiTaskSegmentor.

The same region (the darkest square of that side), the same weights (`wsi-run convert` reads the file that TIAToolbox
loads), the same patches (256 px, of which 164 px are kept), every pixel at 0.25 µm/px, nuclei and their types written.
The two take turns, each in a process of its own; peak memory is that process'. TIAToolbox runs as its documentation
says for a slide: batches of 8, patches read in the process itself (with workers it needs more memory).

Weights are computed from the tensors' names, as fixtures/models/make.py does; noise as maps would make both find tens of
thousands of specks, so five channels are led past the encoder: how dark a pixel's surroundings are in red becomes the
nuclear-pixel head, how fast that changes along x and y the two distances. What is found are the dark spots of the
picture, about as many as it has nuclei; the network's arithmetic is that of any weights.

2026-11-21, Intel Xeon (4 cores), one turn, 2,000 × 2,000 px of dense tissue:
    wsi-run      75.18 s wall   276.76 s CPU   1151 MiB   2,691 nuclei
    tiatoolbox  347.55 s wall  1159.62 s CPU   3539 MiB   2,504 nuclei
The same day, after residuals were summed in place, wsi-run alone:
    wsi-run      70.74 s wall   265.74 s CPU   1011 MiB   2,691 nuclei
The same day, after far Winograd weights were no longer kept transformed, wsi-run alone, twice, the machine slower the
second time:
    wsi-run      70.50 s wall   265.43 s CPU    849 MiB
    wsi-run      80.78 s wall   303.69 s CPU    846 MiB
2026-11-22, AMD EPYC (Zen 4, 4 cores), one turn, 2,000 × 2,000 px of another slide, since activations take half the memory:
    wsi-run      93.29 s wall   358.86 s CPU    657 MiB   2,522 nuclei
    tiatoolbox  388.80 s wall  1312    s CPU   3600 MiB   2,927 nuclei
The same day, one turn, 4,000 × 4,000 px of a third, since regions are 512 px where a batch takes all processors:
    wsi-run     370.28 s wall  1463.69 s CPU    705 MiB   1,516 nuclei
    tiatoolbox 1608.77 s wall  5371.71 s CPU   3662 MiB     588 nuclei
4,000 × 4,000 px, before that, not in one run: wsi-run alone with 4 threads; tiatoolbox with 2 threads on a busy machine,
whose wall time (3,691 s) says nothing:
    wsi-run     256.55 s wall  1004.78 s CPU   1158 MiB  11,215 nuclei
    tiatoolbox                 3951.54 s CPU   3602 MiB  14,762 nuclei
"""
import argparse, datetime, os, pathlib, subprocess, sys, tempfile

from end_to_end import processor, timed

PIPELINE = """\
slides: {{ list: ["{slide}"], mpp: 0.25 }}
tissue: everything
tiling: {{ stride_px: 164 }}
model: {{ network: {{ name: hover_net_fast, weights: {weights} }} }}
output: {{ dir: out }}
run: {{ threads: {threads} }}
"""
# Of 0 to 1; nuclei stained by haematoxylin let half of the red light through, or less.
DARK = 0.45
TYPES = ["Background", "Neoplastic", "Inflammatory", "Connective", "Dead", "Non-Neoplastic Epithelial"]


def write_weights(path):
    """The weights of fixtures/models/make.py as TIAToolbox saves them."""
    import torch
    from networks import twins
    from tiatoolbox.models.architecture.hovernet import HoVerNet

    make, model = twins(), HoVerNet(num_types=6, mode="fast")
    state = model.state_dict()
    named = {n: make.values(n, tuple(t.shape)) for n, t in state.items() if not n.endswith("unpool_mat") and t.dim() > 0}
    lead_darkness_through(named)
    torch.save({**state, **named}, path)


def lead_darkness_through(named):
    """Channels 0 to 4 of the first convolution, brought unchanged to the heads of nuclear pixels and distances."""
    import torch

    led = slice(0, 5)

    def is_identity(norm):
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0 - 1e-5)):
            named[f"{norm}.{name}"][led] = value

    # How dark the surroundings are in red, 0 to 1; how fast red rises to the right, to the left, downwards, upwards.
    first, ramp = named["conv0./.weight"], torch.arange(-3.0, 4.0) / 49
    first[led] = 0
    first[0, 0] = -1 / 49
    first[1, 0], first[3, 0] = ramp[None, :].repeat(7, 1), ramp[:, None].repeat(1, 7)
    first[2], first[4] = -first[1], -first[3]
    is_identity("conv0.bn")
    named["conv0.bn.bias"][0] = 1.0
    # Past the residual units at full resolution, and past what comes from below.
    named["d0.shortcut.weight"][led] = torch.eye(5, 64)[:, :, None, None]
    for unit in range(3):
        named[f"d0.units.{unit}.conv3.weight"][led] = 0
    is_identity("d0.blk_bna.bn")
    for branch in ("np", "hv"):
        named[f"decoder.{branch}.u2.convf.weight"][led] = 0
        last = named[f"decoder.{branch}.u1.conva.weight"]
        last[led] = torch.eye(5, 256)[:, :, None, None] / 9
        is_identity(f"decoder.{branch}.u0.bn")
        named[f"decoder.{branch}.u0.conv.weight"][:] = 0
        named[f"decoder.{branch}.u0.conv.bias"][:] = 0
    named["decoder.np.u0.conv.weight"][1, 0] = 40.0
    named["decoder.np.u0.conv.bias"][1] = -40.0 * DARK
    for axis, channel in ((0, 1), (1, 3)):
        named["decoder.hv.u0.conv.weight"][axis, channel] = 3.0
        named["decoder.hv.u0.conv.weight"][axis, channel + 1] = -3.0


def write_region(slide, side, path, compression="deflate"):
    """The darkest square of that side, as a tiled TIFF with a pyramid in steps of 4, as scanners write them."""
    import numpy as np
    import tifffile

    with tifffile.TiffFile(slide) as tiff:
        level0 = tiff.series[0].levels[0] if tiff.series[0].levels else tiff.series[0]
        levels = tiff.series[0].levels or [level0]
        small = levels[-1].asarray()[..., :3].astype(np.float32).mean(-1)
        step = level0.shape[0] / small.shape[0]
        n = max(1, round(side / step))
        sums = np.pad(small, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        if min(small.shape) < n:
            sys.exit(f"{slide} is smaller than {side} px")
        means = sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]
        y, x = np.unravel_index(means.argmin(), means.shape)
        y, x = (max(0, min(int(at * step), full - side)) for at, full in zip((y, x), level0.shape))
        region = tifffile.imread(slide, aszarr=True, level=0)
        import zarr

        pixels = zarr.open(region, mode="r")[y : y + side, x : x + side, :3]
    level, of_full = np.ascontiguousarray(pixels), True
    with tifffile.TiffWriter(path) as tiff:
        while of_full or min(level.shape[:2]) >= 1024:
            if not of_full:
                n = (level.shape[0] // 4 * 4, level.shape[1] // 4 * 4)
                level = level[: n[0], : n[1]].reshape(n[0] // 4, 4, n[1] // 4, 4, 3).mean((1, 3)).round().astype(np.uint8)
            tiff.write(level, tile=(256, 256), compression=compression, photometric="rgb", subfiletype=0 if of_full else 1)
            of_full = False


def theirs(slide, weights, out, threads):
    import sqlite3

    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        # Its annotation store needs an SQLite with extensions, which not every Python is built with.
        sys.modules["sqlite3"] = __import__("pysqlite3")
    import torch
    from tiatoolbox.models.architecture.hovernet import HoVerNet
    from tiatoolbox.models.engine.io_config import IOInstanceSegmentorConfig
    from tiatoolbox.models.engine.multi_task_segmentor import MultiTaskSegmentor

    from tiatoolbox.wsicore.wsireader import WSIReader

    torch.set_num_threads(threads)
    model = HoVerNet(num_types=6, mode="fast", nuc_type_dict=dict(enumerate(TYPES)))
    model.load_state_dict(torch.load(weights))
    at = {"units": "mpp", "resolution": 0.25}
    config = IOInstanceSegmentorConfig(
        input_resolutions=[at], output_resolutions=[at] * 3, save_resolution=at, margin=128, tile_shape=(1024, 1024),
        patch_input_shape=(256, 256), patch_output_shape=(164, 164), stride_shape=(164, 164),
    )
    engine = MultiTaskSegmentor(model=model, batch_size=8, num_workers=0, device="cpu", verbose=False)
    # A plain TIFF does not tell its resolution.
    slide = WSIReader.open(slide, mpp=(0.25, 0.25))
    engine.run([slide], patch_mode=False, ioconfig=config, save_dir=pathlib.Path(out),
               output_type="annotationstore", auto_get_mask=False)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("slide")
    options.add_argument("--size", type=int, nargs="*", default=[1000], help="sides of the regions, px")
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--threads", type=int, default=4)
    options.add_argument("--only", choices=["wsi-run", "tiatoolbox"])
    options.add_argument("--program", default="target/release/wsi-run")
    options.add_argument("--weights", help="where the weights are kept between runs")
    options.add_argument("--theirs", nargs=2, help=argparse.SUPPRESS)
    options = options.parse_args()
    slide, program = os.path.abspath(options.slide), os.path.abspath(options.program)
    if options.theirs:
        return theirs(slide, *options.theirs, options.threads)
    import importlib.metadata

    versions = {p: importlib.metadata.version(p) for p in ("tiatoolbox", "torch")}
    print(f"{datetime.date.today()}, {processor()}, {options.threads} threads, {os.path.basename(slide)}, {versions}")
    with tempfile.TemporaryDirectory() as home:
        kept = os.path.abspath(options.weights or home)
        pth, weights = os.path.join(kept, "hover.pth"), os.path.join(kept, "hover.safetensors")
        # A process of its own: its memory is not this one's.
        here = {"check": True, "cwd": pathlib.Path(__file__).parent}
        if not os.path.exists(pth):
            subprocess.run([sys.executable, "-c", f"import hover_net; hover_net.write_weights({pth!r})"], **here)
        if not os.path.exists(weights):
            subprocess.run([program, "convert", pth, "--model", "hover_net_fast", "--classes", "pannuke", "--mpp",
                            "0.25", "--normalisation", "unit", "-o", weights], check=True, stdout=subprocess.DEVNULL)
        for side in options.size:
            region = os.path.join(home, f"region_{side}.tif")
            subprocess.run([sys.executable, "-c",
                            f"import hover_net; hover_net.write_region({slide!r}, {side}, {region!r})"], **here)
            print(f"\n{side} × {side} px")
            compare(options, program, region, pth, weights)


def compare(options, program, region, pth, weights):
    rows = {name: [] for name in ("wsi-run", "tiatoolbox") if options.only in (None, name)}
    for turn in range(options.rounds):
        with tempfile.TemporaryDirectory() as work:
            with open(os.path.join(work, "p.yaml"), "w") as text:
                text.write(PIPELINE.format(slide=region, weights=weights, threads=options.threads))
            ours = [program, "p.yaml", "-q", "--no-progress"]
            them = [sys.executable, os.path.abspath(__file__), region, "--threads", str(options.threads),
                    "--theirs", pth, os.path.join(work, "theirs")]
            for name, command in (("wsi-run", ours), ("tiatoolbox", them)):
                if name not in rows:
                    continue
                rows[name].append(timed(command, work))
                wall, cpu, mb = rows[name][-1]
                print(f"{turn + 1} {name:11} {wall:8.2f} s wall {cpu:8.2f} s CPU {mb:7.0f} MiB "
                      f"{found(name, work):7} nuclei (load {os.getloadavg()[0]:.1f})", flush=True)
    best = {name: [min(values) for values in zip(*all)] for name, all in rows.items()}
    print("\n| best of each | wall, s | CPU, s | peak, MiB |\n|---|---|---|---|")
    for name, (wall, cpu, mb) in best.items():
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {mb:.0f} |")
    if len(best) == 2:
        ratio = [b / a for a, b in zip(best["wsi-run"], best["tiatoolbox"])]
        print("| ratio | " + " | ".join(f"{r:.1f}" for r in ratio) + " |")


def found(name, work):
    """How many nuclei were written."""
    import json, sqlite3

    if name == "wsi-run":
        states = [json.loads(path.read_text()) for path in pathlib.Path(work, "out").rglob("*.json")]
        return sum(state["record"]["instances"] for state in states if "record" in state)
    stores = pathlib.Path(work, "theirs").rglob("*.db")
    return sum(sqlite3.connect(store).execute("SELECT COUNT(*) FROM annotations").fetchone()[0] for store in stores)


if __name__ == "__main__":
    main()
