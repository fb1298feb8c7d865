# python benches/peers/slide_reading.py SLIDE   (openslide-python 1.4, openslide-bin 4.0.1)
"""Mpx/s of OpenSlide Python over every region of level 0, once, on 1 and 4 threads, one handle per thread.

The peer of benches/slide_reading.rs: same file, same regions. `rgb` composes over white as our readers must;
`rgba` is read_region alone.
"""
import itertools, sys, threading, time
import numpy as np, openslide

path = sys.argv[1]


def run(side, threads, rgb):
    handles = [openslide.OpenSlide(path) for _ in range(threads)]
    w, h = handles[0].dimensions
    regions = iter([(x * side, y * side) for y in range(h // side) for x in range(w // side)])
    n = (w // side) * (h // side)
    lock = threading.Lock()

    def work(slide):
        while True:
            with lock:
                at = next(regions, None)
            if at is None:
                return
            image = slide.read_region(at, 0, (side, side))
            if rgb:
                np.asarray(image.convert("RGB"))

    start = time.perf_counter()
    pool = [threading.Thread(target=work, args=(s,)) for s in handles]
    [t.start() for t in pool]
    [t.join() for t in pool]
    return n * side * side / 1e6 / (time.perf_counter() - start)


print("openslide", openslide.__library_version__, "python binding", openslide.__version__)
for threads, side, rgb in itertools.product((1, 4), (256, 1024), (False, True)):
    print(f"{'rgb' if rgb else 'rgba'} {side}px/{threads}t: {max(run(side, threads, rgb) for _ in range(2)):.1f} Mpx/s")
