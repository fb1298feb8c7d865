# python benches/peers/run_against_network.py SLIDE.tif [--model stardist_unet[=weights.safetensors] ...] [--size 8000 | --whole] [--slides 4] [--rounds 3]
"""Tiles per second of whole runs against images per second of the network alone, both ours.

What a run does beside the network (reading, stain, stitching, nuclei, writing) should hide behind it. The region is the
darkest square of the slide, all of it worked on, a few times over as slides of one run, from the start of the program to
its end; `wsi-run bench` before and after each run, with as many threads, tells the network's speed as the median of its
batches. CPU seconds tell what is hidden where other processes take part of the machine. Needs tifffile, zarr and numpy.
With `--whole` the slide is run as it is, once if not said otherwise: beginning, end and overview are small beside it.
"""
import argparse, json, multiprocessing, os, pathlib, shutil, statistics, subprocess, tempfile

from end_to_end import processor, timed
from hover_net import write_region

PIPELINE = """\
slides: {{ dir: {slides}, mpp: {mpp} }}
tissue: everything
model: {{ network: {{ name: {name}, weights: {weights} }} }}
output: {{ dir: out }}
run: {{ threads: {threads} }}
"""


def tiles_and_size(program, work):
    """Tiles of the run and their side, as `plan` tells them."""
    told = subprocess.run([program, "plan", "p.yaml"], cwd=work, check=True, capture_output=True, text=True).stdout
    words = told.split()
    return int(words[words.index("all") + 1]), int(words[words.index("tiles") + 1])


def alone(program, name, side, threads, secs):
    command = [program, "bench", name, "--size", str(side), "--threads", str(threads), "--batch", "16", "--secs", str(secs), "--json"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told["images_per_sec"]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("slide")
    options.add_argument("--model", nargs="*", default=["stardist_unet", "crescent_seg_net"])
    options.add_argument("--size", type=int, default=8000)
    options.add_argument("--mpp", type=float, default=0.25, help="of the slide; networks read at their own")
    options.add_argument("--whole", action="store_true", help="the slide as it is, not squares of it")
    options.add_argument("--slides", type=int)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=4)
    options.add_argument("--secs", type=float, default=8)
    options.add_argument("--program", default="target/release/wsi-run")
    options = options.parse_args()
    program, count = os.path.abspath(options.program), options.slides or (1 if options.whole else 4)
    with tempfile.TemporaryDirectory() as home:
        slides = pathlib.Path(home, "slides")
        slides.mkdir()
        suffix = pathlib.Path(options.slide).suffix if options.whole else ".tif"
        region = str(slides / f"1{suffix}")
        if options.whole:
            shutil.copy(options.slide, region)
        else:
            # In a process of its own, whose memory would count as the program's.
            writer = multiprocessing.Process(target=write_region, args=(os.path.abspath(options.slide), options.size, region, "jpeg"))
            writer.start()
            writer.join()
        for n in range(1, count):
            shutil.copy(region, slides / f"{n + 1}{suffix}")
        part = "all" if options.whole else f"{options.size}² px"
        print(f"{processor()}, {options.threads} threads, {count} × {part} of {os.path.basename(options.slide)}")
        for model in options.model:
            name, _, weights = model.partition("=")
            text = PIPELINE.format(slides=slides, mpp=options.mpp, name=name, weights=os.path.abspath(weights) if weights else "random",
                                   threads=options.threads)
            pathlib.Path(home, "p.yaml").write_text(text)
            tiles, side = tiles_and_size(program, home)
            print(f"\n{name}, {tiles} tiles of {side} px")
            ratios, shares = [], []
            before = alone(program, name, side, options.threads, options.secs)
            for turn in range(options.rounds):
                shutil.rmtree(os.path.join(home, "out"), ignore_errors=True)
                wall, cpu, mb = timed([program, "p.yaml", "-q", "--no-progress"], home)
                after = alone(program, name, side, options.threads, options.secs)
                rate = (before + after) / 2
                ratios.append(tiles / wall / rate)
                shares.append(options.threads * tiles / rate / cpu)
                print(f"{turn + 1} network {before:7.2f}/s {after:7.2f}/s   run {tiles / wall:7.2f}/s {wall:6.2f} s {cpu:6.2f} s CPU "
                      f"{mb:5.0f} MiB   ratio {ratios[-1]:.3f}, by CPU {shares[-1]:.3f} (load {os.getloadavg()[0]:.1f})", flush=True)
                before = after
            print(f"median  ratio {statistics.median(ratios):.3f}, by CPU {statistics.median(shares):.3f}")


if __name__ == "__main__":
    main()
