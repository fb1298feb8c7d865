# python benches/peers/stain.py [rounds]
"""Stain normalisation of a 256-px tile on one core: torchstain against this program, in turns.

Needs numpy, pillow, torchstain (1.4.1 measured). torchstain fits every tile, because it offers nothing else, so its
Macenko is also timed with the fit left out (its own functions on given vectors).
"""
import glob, json, os, subprocess, sys, time

for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[name] = "1"
import numpy as np
from PIL import Image
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer, NumpyReinhardNormalizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
names = ["brca_a0d9", "brca_a06y", "brca_a2fb", "cmu_1"]
px = np.concatenate([np.asarray(Image.open(f"{ROOT}/fixtures/stain/{n}.png")).reshape(-1, 3) for n in names])
tile = np.resize(px, (256, 256, 3))

macenko, reinhard = NumpyMacenkoNormalizer(), NumpyReinhardNormalizer()
reinhard.fit(tile)
he, _, max_c = macenko._NumpyMacenkoNormalizer__compute_matrices(tile, 240, 1, 0.15)


def macenko_without_fit():
    od, _ = macenko._NumpyMacenkoNormalizer__convert_rgb2od(tile.reshape(-1, 3))
    c = np.linalg.lstsq(he, od.T, rcond=None)[0] / (max_c / macenko.maxCRef)[:, None]
    return np.minimum(240 * np.exp(-macenko.HERef.dot(c)), 255).T.reshape(tile.shape).astype(np.uint8)


peers = {
    ("macenko", "torchstain, fit and apply"): lambda: macenko.normalize(tile, stains=False),
    ("macenko", "torchstain, apply alone"): macenko_without_fit,
    ("reinhard", "torchstain, fit and apply"): lambda: reinhard.normalize(tile),
}


def seconds(work):
    work()
    times = []
    for _ in range(20):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def ours(method):
    command = ["cargo", "bench", "--bench", "stain", "--", "--warm-up-time", "1", "--measurement-time", "2",
               f"apply_{method}"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    target = os.environ.get("CARGO_TARGET_DIR", f"{ROOT}/target")
    (path,) = glob.glob(f"{target}/criterion/cpu_stain/apply_{method}/256/new/estimates.json")
    return json.load(open(path))["median"]["point_estimate"] * 1e-9


if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
found = {}
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
    for method in ["macenko", "reinhard"]:
        found.setdefault((method, "wsi-run, apply"), []).append(ours(method))
        for key in [key for key in peers if key[0] == method]:
            found.setdefault(key, []).append(seconds(peers[key]))
for (method, who), times in sorted(found.items()):
    best = min(found[(method, "wsi-run, apply")])
    print(f"{method:9} {who:26} {1 / min(times):8.0f} tiles/s  (x{min(times) / best:.1f} of ours)  rounds "
          + " ".join(f"{1 / t:.0f}" for t in times))
