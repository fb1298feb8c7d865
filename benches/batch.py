#!/usr/bin/env python3
"""Overhead per slide, memory, open files and pace of one run over many small slides.

    cargo build --release
    python3 benches/batch.py [--slides 1000] [--kind synthetic|tiff] [--threads 4] [--program target/release/wsi-run]

Overhead per slide is what the run takes beside the work of its stages: (wall - work / threads) / slides, where work is
the sum of all stage seconds of slides.parquet (read with pyarrow; without it only the bound wall / slides is told).
Needs Linux (/proc). `tiff` makes files with Python alone: 512 x 512 px, tiled, uncompressed, dark spots on pink.
"""
import argparse, json, os, pathlib, random, resource, statistics, struct, subprocess, sys, tempfile, threading, time

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("--slides", type=int, default=1000)
args.add_argument("--kind", choices=["synthetic", "tiff"], default="tiff")
args.add_argument("--threads", type=int, default=os.cpu_count())
args.add_argument("--program", default="target/release/wsi-run")
args.add_argument("--keep", help="directory for the run instead of a temporary one")
args = args.parse_args()
program = str(pathlib.Path(args.program).resolve())


def tiff(path, seed):
    dice, side, tile = random.Random(seed), 512, 256
    rgb = bytearray(b"\xe6\xaa\xc8" * (side * side))
    for _ in range(60):
        cx, cy = dice.randrange(20, side - 20), dice.randrange(20, side - 20)
        for y in range(cy - 6, cy + 7):
            half = int((36 - (y - cy) ** 2) ** 0.5) if abs(y - cy) <= 6 else 0
            at = 3 * (y * side + cx - half)
            rgb[at : at + 3 * (2 * half + 1)] = b"\x50\x32\x82" * (2 * half + 1)
    tiles = [
        b"".join(bytes(rgb[3 * ((ty + y) * side + tx) : 3 * ((ty + y) * side + tx + tile)]) for y in range(tile))
        for ty in range(0, side, tile) for tx in range(0, side, tile)
    ]
    entries = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3),
               (322, 4, 1, tile), (323, 4, 1, tile), (324, 4, 4, 0), (325, 4, 4, 0)]
    head = 8 + 2 + 12 * len(entries) + 4
    data, arrays = head + 32, struct.pack("<4I", *(head + 32 + i * len(tiles[0]) for i in range(4)))
    arrays += struct.pack("<4I", *(len(t) for t in tiles))
    entries[8], entries[9] = (324, 4, 4, head), (325, 4, 4, head + 16)
    assert data == head + len(arrays)
    directory = b"".join(struct.pack("<HHII", *e) for e in entries)
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + b"\0\0\0\0" + arrays + b"".join(tiles))


home = pathlib.Path(args.keep or tempfile.mkdtemp(prefix="wsi-run-batch-"))
home.mkdir(exist_ok=True)
if args.kind == "synthetic":
    slides = f"synthetic: {{ count: {args.slides}, width_px: 512, height_px: 512, mpp: 0.5, seed: 5 }}"
else:
    (home / "slides").mkdir(exist_ok=True)
    for i in range(args.slides):
        tiff(home / "slides" / f"s{i:05}.tif", i)
    slides = "dir: slides, mpp: 0.5"
(home / "p.yaml").write_text(
    f"slides: {{ {slides} }}\nmodel: hematoxylin\noutput: {{ dir: out }}\nrun: {{ settle_secs: 0, threads: {args.threads} }}\n")

samples, ends = [], []
began = time.time()
run = subprocess.Popen([program, "p.yaml", "--log-json"], cwd=home, stderr=subprocess.PIPE, text=True)


def sample():
    while run.poll() is None:
        try:
            status = pathlib.Path(f"/proc/{run.pid}/status").read_text()
            rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
            samples.append((time.time() - began, rss / 1024, len(os.listdir(f"/proc/{run.pid}/fd"))))
        except (OSError, StopIteration):
            pass
        time.sleep(0.1)


thread = threading.Thread(target=sample)
thread.start()
for line in run.stderr:
    event = json.loads(line)
    if event.get("event") == "slide_finished":
        ends.append(event["unix_secs"] - began)
thread.join()
wall = time.time() - began
print(f"{args.slides} slides ({args.kind}), {args.threads} threads, exit {run.returncode}, wall {wall:.2f} s")
print(f"wall / slides            {1000 * wall / args.slides:.1f} ms")
try:
    import pyarrow.parquet as pq

    table = pq.read_table(home / "out" / "slides.parquet")
    stages = [c for c in table.column_names if c.endswith("_secs") and c != "wall_secs"]
    work = {c: sum(v or 0 for v in table[c].to_pylist()) for c in stages}
    print(f"work of stages           {1000 * sum(work.values()) / args.slides:.1f} ms of one core per slide: "
          + ", ".join(f"{c.removesuffix('_secs')} {1000 * v / args.slides:.1f}" for c, v in work.items()))
    print(f"overhead per slide       {1000 * (wall - sum(work.values()) / args.threads) / args.slides:.1f} ms")
except ImportError:
    print("overhead per slide       pyarrow is not there")
cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"CPU                      {1000 * cpu.ru_utime / args.slides:.1f} ms user, {1000 * cpu.ru_stime / args.slides:.1f} ms system per slide")
hundred = max(1, args.slides // 10)
pace = lambda part: 1000 * (part[-1] - part[0]) / max(1, len(part) - 1)
print(f"first / last tenth       {pace(ends[:hundred]):.1f} / {pace(ends[-hundred:]):.1f} ms from slide to slide")
fifth = [s for s in samples if wall * 0.1 < s[0] < wall * 0.3], [s for s in samples if s[0] > wall * 0.8]
for at, name in ((1, "memory, MB"), (2, "open files")):
    first, last = ([s[at] for s in part] or [0] for part in fifth)
    print(f"{name:24} median {statistics.median(first):.0f} at 10-30 %, {statistics.median(last):.0f} at 80-100 %; most {max(s[at] for s in samples):.0f}")
again = time.time()
code = subprocess.run([program, "p.yaml", "-q"], cwd=home).returncode
print(f"run again, nothing to do {1000 * (time.time() - again) / args.slides:.2f} ms per slide, exit {code}")
sys.exit(run.returncode)
