# python benches/peers/end_to_end.py SLIDE.tif [--rounds 3] [--program target/release/wsi-run]      (tiatoolbox 2.1.3)
"""Wall, CPU and peak memory of a whole slide: `wsi-run` with `stain_threshold` against TIAToolbox's SemanticSegmentor.

Both read every pixel at 0.25 µm/px, decide each by one threshold, and write a mask. TIAToolbox's network is free: a
1x1 convolution that compares the brightness of a px with a number, so what is measured is reading, stitching and
writing. The two take turns, each in a process of its own; peak memory is that process' (Linux: of the program and of
each worker, the largest), TIAToolbox's with the 1.3 GB of its imports. Prints every turn and the best of each.

2026-11-21, Intel Xeon (4 cores, of which others kept all busy: load 26; compare CPU and memory, not wall), one turn,
16,000 × 16,000 px, JPEG in 256-px tiles:
    wsi-run       6.99 s wall    3.63 s CPU     397 MiB
    tiatoolbox  239.46 s wall   89.16 s CPU    6327 MiB
"""
import argparse, datetime, os, platform, subprocess, sys, tempfile, time

PIPELINE = """\
slides: {{ list: ["{slide}"], mpp: 0.25 }}
tissue: everything
tiling: {{ input_mpp: 0.25 }}
model: {{ stain_threshold: {{ stain: hematoxylin, threshold_od: 0.25 }} }}
output: {{ dir: out }}
run: {{ threads: {threads} }}
"""


def theirs(slide, out, threads):
    import torch
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
    from tiatoolbox.models.models_abc import ModelABC

    torch.set_num_threads(threads)

    class Free(ModelABC):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 2, 1)
            with torch.no_grad():
                self.conv.weight.copy_(torch.tensor([[1.0] * 3, [-1.0] * 3])[:, :, None, None] / 3 / 255)
                self.conv.bias.copy_(torch.tensor([-0.6, 0.6]))

        def forward(self, images):
            return self.conv(images)

        @staticmethod
        def infer_batch(model, images, *, device="cpu"):
            with torch.inference_mode():
                images = images.to(device).float().permute(0, 3, 1, 2)
                return model(images).softmax(1).permute(0, 2, 3, 1).numpy()

    at = [{"units": "mpp", "resolution": 0.25}]
    config = IOSegmentorConfig(input_resolutions=at, output_resolutions=at, patch_input_shape=(512, 512),
                               patch_output_shape=(512, 512), stride_shape=(512, 512), save_resolution=at[0])
    engine = SemanticSegmentor(model=Free(), batch_size=16, num_workers=0, device="cpu", verbose=False)
    engine.run([slide], patch_mode=False, ioconfig=config, save_dir=out, output_type="zarr", auto_get_mask=False)


def timed(command, cwd):
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{command[0]} failed:\n{said.decode()[-2000:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def processor():
    with open("/proc/cpuinfo") as info:
        return next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())


def main():
    options = argparse.ArgumentParser()
    options.add_argument("slide")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=4)
    options.add_argument("--program", default="target/release/wsi-run")
    options.add_argument("--theirs", help=argparse.SUPPRESS)
    options = options.parse_args()
    slide = os.path.abspath(options.slide)
    if options.theirs:
        return theirs(slide, options.theirs, options.threads)
    import tiatoolbox

    print(f"{datetime.date.today()}, {processor()}, {options.threads} threads, load {os.getloadavg()[0]:.1f}, "
          f"{os.path.basename(slide)}, tiatoolbox {tiatoolbox.__version__}")
    rows = {"wsi-run": [], "tiatoolbox": []}
    for turn in range(options.rounds):
        with tempfile.TemporaryDirectory() as home:
            with open(os.path.join(home, "p.yaml"), "w") as text:
                text.write(PIPELINE.format(slide=slide, threads=options.threads))
            ours = [os.path.abspath(options.program), "p.yaml", "-q", "--no-progress"]
            them = [sys.executable, os.path.abspath(__file__), slide, "--threads", str(options.threads),
                    "--theirs", os.path.join(home, "theirs")]
            for name, command in (("wsi-run", ours), ("tiatoolbox", them)):
                rows[name].append(timed(command, home))
                wall, cpu, mb = rows[name][-1]
                print(f"{turn + 1} {name:11} {wall:8.2f} s wall {cpu:8.2f} s CPU {mb:7.0f} MiB "
                      f"(load {os.getloadavg()[0]:.1f})", flush=True)
    best = {name: [min(values) for values in zip(*all)] for name, all in rows.items()}
    ratio = [b / a for a, b in zip(best["wsi-run"], best["tiatoolbox"])]
    print("\n| best of each | wall, s | CPU, s | peak, MiB |\n|---|---|---|---|")
    for name, (wall, cpu, mb) in best.items():
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {mb:.0f} |")
    print("| ratio | " + " | ".join(f"{r:.1f}" for r in ratio) + " |")


if __name__ == "__main__":
    main()
