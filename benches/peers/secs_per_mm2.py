# python benches/peers/secs_per_mm2.py RESULTS [NAME]   (pyarrow)
"""Wall-clock seconds per mm² of tissue of every slide of a run, and what each stage worked."""
import pathlib
import sys

import pyarrow.parquet as parquet

rows = parquet.read_table(pathlib.Path(sys.argv[1]) / "slides.parquet").to_pylist()
for row in rows:
    mm2 = (row["tissue_area_um2"] or 0) / 1e6
    secs = row["wall_secs"] or 0
    each = f"{secs / mm2:.2f} s/mm²" if mm2 else "no tissue"
    print(f"{' '.join(sys.argv[2:])} {row['slide_id'] if 'slide_id' in row else ''}: {secs:.1f} s, {mm2:.2f} mm² of tissue, {each}")
    stages = {name: value for name, value in row.items() if name.endswith("_secs") and name != "wall_secs" and value}
    print("   " + ", ".join(f"{name[:-5]} {value:.1f}" for name, value in stages.items()))
sys.exit(not rows)
