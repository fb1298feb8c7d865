# python benches/peers/same_nuclei.py RESULTS_A RESULTS_B   (pyarrow, shapely)
"""Whether two runs over the same slides found the same nuclei: the share of each one's nuclei that has a partner in the
other with an intersection over union above 0.9. Fails below 99.5 %."""
import pathlib
import sys

import pyarrow.parquet as parquet
import shapely


def nuclei(folder):
    for path in sorted(pathlib.Path(folder).rglob("nuclei/*.parquet")):
        yield path.stem, shapely.make_valid(shapely.from_wkb(parquet.read_table(path, columns=["geometry"])["geometry"].to_pylist()))


def share(a, b):
    tree = shapely.STRtree(b)
    left, right = tree.query(a, predicate="intersects")
    both = shapely.area(shapely.intersection(a[left], b[right]))
    either = shapely.area(a[left]) + shapely.area(b[right]) - both
    return len(set(left[both > 0.9 * either])) / max(len(a), 1)


worst = 1.0
others = dict(nuclei(sys.argv[2]))
for slide, found in nuclei(sys.argv[1]):
    shares = share(found, others[slide]), share(others[slide], found)
    print(f"{slide}: {len(found)} and {len(others[slide])} nuclei, {shares[0]:.4%} and {shares[1]:.4%} matched")
    worst = min(worst, *shares)
sys.exit(worst < 0.995)
