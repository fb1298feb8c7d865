# python benches/peers/measure.py DATA_DIR OUT_DIR [BENCH_EXECUTABLE]     (scikit-image 0.26, scipy 1.17, tifffile)
"""Nuclei per second of scikit-image's regionprops_table and of `measure` + `rings`, taken in turns on one core.

Writes the inputs of benches/measure.rs to OUT_DIR: nuclei of DATA_DIR/nuclei/dsb2018 scaled to 250 px in the median, and
class maps of DATA_DIR/derived/synth_8000x6000.tif (smoothed optical density in three classes; a ragged cut of raw density).
"""
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import tifffile
from scipy import ndimage as ndi
from skimage import io, measure, transform

PROPERTIES = ["area", "perimeter", "axis_major_length", "axis_minor_length", "eccentricity", "solidity", "extent",
              "orientation", "equivalent_diameter_area", "feret_diameter_max", "intensity_mean", "intensity_std"]


def nuclei(folder):
    """One picture of labels, their median area 250 px."""
    pictures, areas = [], []
    for file in sorted(pathlib.Path(folder, "labels").glob("*.png")):
        labels = io.imread(file).astype(np.int32)
        areas.append(np.bincount(labels.ravel())[1:])
        pictures.append(labels)
    factor = np.sqrt(250 / np.median(np.concatenate(areas)))
    strip, start = [], 0
    for labels in pictures:
        shape = [round(n * factor) for n in labels.shape]
        scaled = transform.resize(labels, shape, order=0, preserve_range=True, anti_aliasing=False).astype(np.int32)
        scaled = np.pad(scaled, 1)
        strip.append(np.where(scaled > 0, scaled + start, 0))
        start = strip[-1].max()
    width = max(s.shape[1] for s in strip)
    labels = np.vstack([np.pad(s, ((0, 0), (0, width - s.shape[1]))) for s in strip])
    area = np.bincount(labels.ravel())[1:]
    print(f"{np.count_nonzero(area)} nuclei, px: " + " ".join(f"{q}%={np.percentile(area[area > 0], q):.0f}" for q in (5, 25, 50, 75, 95)))
    return labels


def maps(data, out):
    rgb = tifffile.imread(data / "derived/synth_8000x6000.tif", key=0)
    density = -np.log10((rgb.astype(np.float32).mean(2) + 1) / 256)
    smooth = ndi.gaussian_filter(density, 1.0)
    save(out / "thresholded.u8", np.where(smooth > 0.35, 2, np.where(smooth > 0.15, 1, 0)).astype(np.uint8))
    # The densest 2000 px square, cut at its median pixel by pixel: about as ragged as tissue gets.
    sums = ndi.uniform_filter(density, 2000, mode="constant")
    y, x = np.unravel_index(np.argmax(sums), sums.shape)
    square = density[max(y - 1000, 0):, max(x - 1000, 0):][:2000, :2000]
    ragged = np.tile(square > np.median(square), (3, 4)).astype(np.uint8)
    print(f"speckled: {ragged.size / np.count_nonzero(np.diff(ragged.astype(np.int8), axis=1)):.1f} px per change")
    save(out / "speckled.u8", ragged)


def save(path, array):
    path.write_bytes(np.array(array.shape[::-1], np.uint32).tobytes() + array.tobytes())


def peer(labels, rgb):
    start = time.process_time()
    measure.regionprops_table(labels, rgb, properties=PROPERTIES)
    return time.process_time() - start


def ours(executable, out, name):
    env = {**os.environ, "WSI_RUN_BENCH_DIR": str(out), "CRITERION_HOME": str(out / "criterion")}
    subprocess.run([executable, "--bench", f"cpu/measure/{name}$", "--measurement-time", "2", "--warm-up-time", "1"],
                   env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (estimates,) = out.glob(f"criterion/*/{name}/new/estimates.json")
    return json.loads(estimates.read_text())["median"]["point_estimate"] / 1e9


if __name__ == "__main__":
    data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    labels = nuclei(data / "nuclei/dsb2018")
    save(out / "labels.u32", labels.astype(np.uint32))
    maps(data, out)
    count = len(np.unique(labels)) - 1
    rgb = np.random.default_rng(1).integers(0, 256, (*labels.shape, 3)).astype(np.uint8)
    if len(sys.argv) > 3:
        for turn in range(3):
            a, b = peer(labels, rgb), ours(sys.argv[3], out, "all")
            print(f"turn {turn}: scikit-image {count / a:,.0f} nuclei/s, ours {count / b:,.0f} nuclei/s, {a / b:,.0f} times")
