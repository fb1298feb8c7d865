# python benches/peers/hover_net.py SLIDE.tif [--rounds 2] [--program target/release/wsi-run]      (torch 2.12, tiatoolbox 2.1.3)
"""Wall, CPU and peak memory of HoVer-Net (fast) over a region: `wsi-run` against TIAToolbox's MultiTaskSegmentor.

The same weights (computed from the tensors' names, as fixtures/models/make.py does; `wsi-run convert` reads the file
that TIAToolbox loads), the same patches (256 px, of which 164 px are kept), every pixel at 0.25 µm/px, nuclei and
their types written. The two take turns, each in a process of its own; peak memory is that process'.
"""
import argparse, datetime, os, pathlib, platform, subprocess, sys, tempfile

from end_to_end import processor, timed

PIPELINE = """\
slides: {{ list: ["{slide}"], mpp: 0.25 }}
tissue: everything
tiling: {{ stride_px: 164 }}
model: {{ network: {{ name: hover_net_fast, weights: {weights} }} }}
output: {{ dir: out }}
run: {{ threads: {threads} }}
"""
TYPES = ["Background", "Neoplastic", "Inflammatory", "Connective", "Dead", "Non-Neoplastic Epithelial"]


def write_weights(path):
    """The weights of fixtures/models/make.py as TIAToolbox saves them."""
    import torch
    from networks import twins
    from tiatoolbox.models.architecture.hovernet import HoVerNet

    make, model = twins(), HoVerNet(num_types=6, mode="fast")
    state = model.state_dict()
    named = {n: make.values(n, tuple(t.shape)) for n, t in state.items() if not n.endswith("unpool_mat") and t.dim() > 0}
    torch.save({**state, **named}, path)


def theirs(slide, weights, out, threads):
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
    options.add_argument("--rounds", type=int, default=2)
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
    rows = {name: [] for name in ("wsi-run", "tiatoolbox") if options.only in (None, name)}
    with tempfile.TemporaryDirectory() as home:
        kept = os.path.abspath(options.weights or home)
        pth, weights = os.path.join(kept, "hover.pth"), os.path.join(kept, "hover.safetensors")
        if not os.path.exists(pth):
            # A process of its own: its memory is not this one's.
            subprocess.run([sys.executable, "-c", f"import hover_net; hover_net.write_weights({pth!r})"], check=True,
                           cwd=pathlib.Path(__file__).parent)
        if not os.path.exists(weights):
            subprocess.run([program, "convert", pth, "--model", "hover_net_fast", "--classes", "pannuke", "--mpp",
                            "0.25", "--normalisation", "unit", "-o", weights], check=True, stdout=subprocess.DEVNULL)
        for turn in range(options.rounds):
            with tempfile.TemporaryDirectory() as work:
                with open(os.path.join(work, "p.yaml"), "w") as text:
                    text.write(PIPELINE.format(slide=slide, weights=weights, threads=options.threads))
                ours = [program, "p.yaml", "-q", "--no-progress"]
                them = [sys.executable, os.path.abspath(__file__), slide, "--threads", str(options.threads),
                        "--theirs", pth, os.path.join(work, "theirs")]
                for name, command in (("wsi-run", ours), ("tiatoolbox", them)):
                    if name not in rows:
                        continue
                    rows[name].append(timed(command, work))
                    wall, cpu, mb = rows[name][-1]
                    print(f"{turn + 1} {name:11} {wall:8.2f} s wall {cpu:8.2f} s CPU {mb:7.0f} MB "
                          f"(load {os.getloadavg()[0]:.1f})", flush=True)
    best = {name: [min(values) for values in zip(*all)] for name, all in rows.items()}
    print("\n| best of each | wall, s | CPU, s | peak, MB |\n|---|---|---|---|")
    for name, (wall, cpu, mb) in best.items():
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {mb:.0f} |")
    if len(best) == 2:
        ratio = [b / a for a, b in zip(best["wsi-run"], best["tiatoolbox"])]
        print("| ratio | " + " | ".join(f"{r:.1f}" for r in ratio) + " |")


if __name__ == "__main__":
    main()
