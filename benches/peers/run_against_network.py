# python benches/peers/run_against_network.py SLIDE.tif [--model stardist_unet[=weights.safetensors] ...] [--size 8000] [--rounds 3]
"""Tiles per second of whole runs against images per second of the network alone, both ours.

What a run does beside the network (reading, stain, stitching, nuclei, writing) should hide behind it. The region is the
darkest square of the slide, all of it worked on; `wsi-run bench` and the run take turns, with as many threads each. CPU
seconds tell what is hidden where other processes take part of the machine. Needs tifffile, zarr and numpy.
"""
import argparse, json, os, pathlib, subprocess, tempfile

from end_to_end import processor, timed
from hover_net import write_region

PIPELINE = """\
slides: {{ list: ["{slide}"], mpp: {mpp} }}
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
    before = os.times()
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return told["images_per_sec_best"], cpu / ((told["batches"] + 2) * told["batch"])


def main():
    options = argparse.ArgumentParser()
    options.add_argument("slide")
    options.add_argument("--model", nargs="*", default=["stardist_unet", "crescent_seg_net"])
    options.add_argument("--size", type=int, default=8000)
    options.add_argument("--mpp", type=float, default=0.25, help="of the slide; networks read at their own")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=4)
    options.add_argument("--secs", type=float, default=8)
    options.add_argument("--program", default="target/release/wsi-run")
    options = options.parse_args()
    program = os.path.abspath(options.program)
    with tempfile.TemporaryDirectory() as home:
        region = os.path.join(home, "region.tif")
        write_region(os.path.abspath(options.slide), options.size, region, "jpeg")
        print(f"{processor()}, {options.threads} threads, {options.size}² px of {os.path.basename(options.slide)}")
        for model in options.model:
            name, _, weights = model.partition("=")
            text = PIPELINE.format(slide=region, mpp=options.mpp, name=name, weights=os.path.abspath(weights) if weights else "random",
                                   threads=options.threads)
            pathlib.Path(home, "p.yaml").write_text(text)
            tiles, side = tiles_and_size(program, home)
            print(f"\n{name}, {tiles} tiles of {side} px")
            best_alone, best_run, cpu_alone, cpu_run = 0.0, 0.0, 1e9, 1e9
            for turn in range(options.rounds):
                rate, cpu_each = alone(program, name, side, options.threads, options.secs)
                subprocess.run(["rm", "-rf", os.path.join(home, "out")], check=True)
                wall, cpu, mb = timed([program, "p.yaml", "-q", "--no-progress"], home)
                print(f"{turn + 1} network {rate:7.2f}/s {1e3 * cpu_each:7.2f} ms CPU   run {tiles / wall:7.2f}/s "
                      f"{1e3 * cpu / tiles:7.2f} ms CPU {wall:6.2f} s {mb:5.0f} MB   ratio {tiles / wall / rate:.3f} "
                      f"(load {os.getloadavg()[0]:.1f})", flush=True)
                best_alone, best_run = max(best_alone, rate), max(best_run, tiles / wall)
                cpu_alone, cpu_run = min(cpu_alone, cpu_each), min(cpu_run, cpu / tiles)
            print(f"best    network {best_alone:7.2f}/s {1e3 * cpu_alone:7.2f} ms CPU   run {best_run:7.2f}/s "
                  f"{1e3 * cpu_run:7.2f} ms CPU   ratio {best_run / best_alone:.3f}, by CPU {cpu_alone / cpu_run:.3f}")


if __name__ == "__main__":
    main()
