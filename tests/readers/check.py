"""Opens what tests/readers.rs wrote with other people's readers, always read-only, and compares values.

    python check.py DIR        (needs requirements.txt)
"""

import gzip
import json
import logging
import sys
import warnings
from pathlib import Path

import duckdb
import geopandas
import geoparquet_validator
import ngff_zarr
import numpy as np
import ome_zarr.io
import ome_zarr.reader
import ome_zarr_models.v04
import ome_zarr_models.v05
import polars
import pyarrow.dataset
import pyarrow.parquet
import shapely
import spatialdata
import yaozarrs
import zarr

CLASSES = {1: "tumour", 2: "lymphocyte", 3: "stroma"}
SLIDE = "scene-1"


def done(name, what):
    print(f"ok  {name:13} {what}")


def check_zarr(name, root, expected):
    group = zarr.open_group(root, mode="r")
    labels = ["semantic", "instances", "tissue"] if "instances" in expected else ["semantic", "tissue"]
    ome = lambda g: g.attrs["ome"] if name.endswith("0.5") else g.attrs
    assert sorted(ome(group["labels"])["labels"]) == sorted(labels)
    semantic = group["labels/semantic/0"][:]
    assert semantic.dtype == np.uint8 and list(semantic.shape) == expected["shape"]
    count = lambda value: int((semantic == value).sum())
    if "instances" in expected:
        instances = group["labels/instances/0"][:]
        assert instances.dtype == np.uint32
        ids = np.unique(instances[instances > 0])
        assert ids.tolist() == list(range(1, expected["instances"] + 1))
        assert int((instances > 0).sum()) == expected["nucleus_px"]
        assert ((instances > 0) == ((semantic > 0) & (semantic < 255))).all()
        assert expected["computed_px"] <= semantic.size - count(255) <= expected["computed_px"] + expected["nucleus_px"]
    else:
        assert [count(value) for value in range(256)] == expected["class_px"]
        prob = group["prob/0"][:]
        y, x = np.mgrid[: expected["shape"][0], : expected["shape"][1]]
        for channel in range(3):
            assert (prob[channel] == (x + 2 * y + channel * 40) % 251).all()
    for label in labels:
        levels = ome(group["labels"][label])["multiscales"][0]["datasets"]
        finer = None
        for level in levels:
            array = group["labels"][label][level["path"]]
            pixels = array[:]
            if name.endswith("0.5"):
                assert array.metadata.dimension_names == ("y", "x")
            assert finer is None or (pixels == finer[::2, ::2]).all()
            finer = pixels
        values = [v["label-value"] for v in ome(group["labels"][label])["image-label"]["colors"]]
        assert values == [v["label-value"] for v in ome(group["labels"][label])["image-label"]["properties"]]
    if "tissue_px" in expected:
        assert int(group["labels/tissue/0"][:].sum()) == expected["tissue_px"]
    done(name, "zarr-python")
    return semantic


def check_images(name, root, semantic):
    """The root and each label as images, in micrometres."""
    reader = ome_zarr.reader.Reader(ome_zarr.io.parse_url(root, mode="r"))
    nodes = list(reader())
    found = {str(node.zarr.path).rstrip("/").rsplit("/", 1)[-1]: node for node in nodes}
    assert len(nodes) >= 3, found.keys()
    assert (np.asarray(nodes[0].data[0]) == semantic).all()
    label = [node for node in nodes if str(node.zarr.path).rstrip("/").endswith("labels/semantic")][0]
    assert (np.asarray(label.data[0]) == semantic).all()
    assert label.metadata["color"][1][:3] == [c / 255 for c in (214, 39, 40)]
    done(name, "ome-zarr-py")

    for path in [root, root / "labels/semantic"]:
        image = ngff_zarr.from_ngff_zarr(str(path), validate=True).images
        assert image[0].dims == ("y", "x")
        assert [image[k].scale["x"] for k in range(3)] == [0.5, 1.0, 2.0]
        assert image[0].axes_units["y"] == "micrometer"
        assert (np.asarray(image[0].data) == semantic).all()
    done(name, "ngff-zarr")

    models = ome_zarr_models.v05 if name.endswith("0.5") else ome_zarr_models.v04
    image = models.Image.from_zarr(zarr.open_group(root, mode="r"))
    assert image.labels is not None and "semantic" in image.labels.attributes.labels if name.endswith("0.4") else True
    names = zarr.open_group(root, mode="r")["labels"].group_keys()
    for label in names:
        labelled = models.ImageLabel.from_zarr(zarr.open_group(root / "labels" / label, mode="r"))
        attributes = labelled.attributes if name.endswith("0.4") else labelled.ome_attributes
        assert len(attributes.multiscales[0].datasets) >= 3
    assert type(ome_zarr_models.open_ome_zarr(zarr.open_group(root, mode="r"))).__name__ == "Image"
    done(name, "ome-zarr-models")

    if name.endswith("0.5"):
        yaozarrs.validate_zarr_store(str(root))
        for path in (root / "labels").iterdir():
            if path.is_dir():
                yaozarrs.validate_zarr_store(str(path))
        if (root / "prob").is_dir():
            yaozarrs.validate_zarr_store(str(root / "prob"))
            models.Image.from_zarr(zarr.open_group(root / "prob", mode="r"))
        done(name, "yaozarrs")
    else:
        yaozarrs.open_group(str(root)).ome_metadata()


def check_table(name, path, expected, kind):
    report = geoparquet_validator.check(str(path))
    bad = [o for o in report["outcomes"] if o["status"] not in ("pass", "skip", "not-applicable", "n/a")]
    assert not geoparquet_validator.failed(report), bad
    for conformance_class in ("core", "covering"):
        assert geoparquet_validator.conformant(report, conformance_class), bad
    done(name, f"geoparquet-validator ({kind}), not passed: {[(o['id'], o['status'], o['message']) for o in bad]}")

    file = pyarrow.parquet.ParquetFile(path)
    table = file.read()
    for field in table.schema:
        assert field.metadata[b"description"] and field.metadata[b"unit"], field.name
    geo = json.loads(file.schema_arrow.metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert geo["version"] == "1.1.0" and column["crs"] is None and "crs" in column and column["edges"] == "planar"
    assert table["id"].to_pylist() == list(range(1, table.num_rows + 1))
    assert set(table["slide"].to_pylist()) == {SLIDE}
    assert file.schema_arrow.metadata[b"bounds-x"] == b"100"
    rows = table.num_rows
    if kind == "nuclei":
        assert rows == expected["instances"]
        assert abs(sum(table["area_um2"].to_pylist()) - expected["area_um2"]) < 1e-6 * expected["area_um2"]
        assert file.num_row_groups == -(-rows // 1000)
        counts = dict(zip(*np.unique(table["type"].to_pylist(), return_counts=True)))
        assert [counts.get(CLASSES[c], 0) for c in (1, 2, 3)] == expected["class_counts"]
    else:
        assert table["hole_count"].to_pylist() == [1] and "red_mean" not in table.column_names
    done(name, f"pyarrow ({kind})")

    frame = geopandas.read_parquet(path)
    assert frame.crs is None and frame.geometry.is_valid.all()
    area = frame.geometry.area * 0.25 * 0.26
    if kind == "nuclei":
        assert np.allclose(area, frame["area_um2"], rtol=1e-9)
        assert frame["truncated"].dtype == bool
        boxes = [(b["xmin"], b["ymin"], b["xmax"], b["ymax"]) for b in table["bbox"].to_pylist()]
        assert np.allclose(np.array(boxes), frame.geometry.bounds.to_numpy())
        assert (frame.centroid_x_px.between(frame.geometry.bounds.minx, frame.geometry.bounds.maxx)).all()
    x0, y0, x1, y1 = column["bbox"]
    box = (x0, y0, x0 + (x1 - x0) / 3, y0 + (y1 - y0) / 3)
    some = geopandas.read_parquet(path, bbox=box)
    assert some["id"].tolist() == frame[frame.geometry.bounds.apply(lambda b: shapely.box(*b).intersects(shapely.box(*box)), axis=1)]["id"].tolist()
    done(name, f"geopandas ({kind}), {len(some)} of {rows} rows in a box")

    query = duckdb.connect()
    types = {r[0]: r[1] for r in query.sql(f"describe select * from '{path}'").fetchall()}
    assert types["geometry"].startswith("GEOMETRY"), types
    assert query.sql(f"select count(*), min(id), max(id) from '{path}'").fetchall()[0] == (rows, 1, rows)
    wkt = query.sql(f"select cast(geometry as varchar) from '{path}' limit 1").fetchall()[0][0]
    assert shapely.from_wkt(wkt).equals(frame.geometry[0])
    inside = query.sql(f"select count(*) from '{path}' where bbox.xmin < {box[2]} and bbox.ymin < {box[3]}").fetchall()[0][0]
    assert inside == len(some)
    done(name, f"duckdb ({kind})")

    lazy = polars.scan_parquet(path).filter(polars.col("bbox").struct.field("xmin") < box[2])
    lazy = lazy.group_by("type").agg(polars.len(), polars.col("area_um2").mean()).collect()
    assert 0 < lazy["len"].sum() <= rows
    whole = polars.read_parquet(path)
    assert whole["area_um2"].to_list() == table["area_um2"].to_pylist()
    done(name, f"polars ({kind})")


def check_labels_against_table(name, root, table):
    """Areas and centroids of the table from the pixels of the mask."""
    instances = zarr.open_group(root, mode="r")["labels/instances/0"][:]
    frame = pyarrow.parquet.read_table(table)
    ids = instances.ravel()
    px = np.bincount(ids)[1:]
    assert np.allclose(px * 0.25, frame["area_um2"].to_numpy(), rtol=1e-12)
    y, x = np.divmod(np.arange(ids.size), instances.shape[1])
    for axis, scale, column in [(x, 0.5 / 0.25, "centroid_x_px"), (y, 0.5 / 0.26, "centroid_y_px")]:
        mean = np.bincount(ids, axis + 0.5)[1:] / px * scale
        assert np.allclose(mean, frame[column].to_numpy(), rtol=1e-9)
    done(name, "the table's ids, areas and centroids are those of the mask")


def check_geojson(name, path, rows):
    collection = json.loads(gzip.open(path).read())
    features = collection["features"]
    assert collection["type"] == "FeatureCollection" and len(features) == rows
    assert len({f["id"] for f in features}) == rows
    for feature in features:
        assert feature["properties"]["classification"]["color"]
        assert all(isinstance(v, (int, float)) for v in feature["properties"]["measurements"].values())
        assert shapely.geometry.shape(feature["geometry"]).is_valid
    done(name, "geojson")


def check_spatialdata(name, root, table):
    """Masks and nuclei as elements of a SpatialData, in µm. (`read_zarr` opens only what SpatialData itself wrote.)"""
    group = zarr.open_group(root, mode="r")["labels/instances"]
    scale = (group.attrs["ome"] if name.endswith("0.5") else group.attrs)["multiscales"][0]["datasets"][0]
    scale = scale["coordinateTransformations"][0]["scale"]
    to_um = spatialdata.transformations.Scale(scale, axes=("y", "x"))
    ids = group["0"][:]
    labels = spatialdata.models.Labels2DModel.parse(ids, dims=("y", "x"), transformations={"um": to_um})
    frame = geopandas.read_parquet(table).set_index("id")
    of_slide = spatialdata.transformations.Scale([0.25, 0.26], axes=("x", "y"))
    shapes = spatialdata.models.ShapesModel.parse(frame[["geometry", "area_um2"]], transformations={"um": of_slide})
    data = spatialdata.SpatialData(labels={"instances": labels}, shapes={"nuclei": shapes})
    assert (np.asarray(data["instances"].data) == ids).all()
    in_um = spatialdata.transform(data["nuclei"], to_coordinate_system="um")
    assert np.allclose(in_um.geometry.area, frame["area_um2"], rtol=1e-9)
    # Nuclei and mask lie over each other: the pixel at a point inside each nucleus has its id.
    points = in_um.geometry.representative_point()
    y, x = (points.y / scale[0]).astype(int), (points.x / scale[1]).astype(int)
    assert (ids[y, x] == frame.index).all()
    done(name, "spatialdata")


def main(directory):
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    directory = Path(directory)
    for name, expected in json.loads((directory / "expected.json").read_text()).items():
        run = directory / name
        root = run / "masks" / f"{SLIDE}.ome.zarr"
        before = sorted(str(p) for p in root.rglob("*"))
        semantic = check_zarr(name, root, expected)
        check_images(name, root, semantic)
        kind = "nuclei" if "instances" in expected else "lesions"
        table = run / kind / f"{SLIDE}.parquet"
        check_table(name, table, expected, kind)
        if kind == "nuclei":
            check_labels_against_table(name, root, table)
            check_spatialdata(name, root, table)
        check_geojson(name, run / "geojson" / f"{SLIDE}.geojson.gz", expected.get("instances", 1))
        assert sorted(str(p) for p in root.rglob("*")) == before, "a reader wrote into the masks"
    tables = [str(directory / name / "nuclei") for name in ("nuclei-0.5", "nuclei-0.4")]
    dataset = pyarrow.dataset.dataset([f"{t}/{SLIDE}.parquet" for t in tables])
    together = duckdb.sql(f"select count(*) from read_parquet(['{tables[0]}/*.parquet', '{tables[1]}/*.parquet'])")
    assert dataset.count_rows() == together.fetchall()[0][0] == polars.scan_parquet([f"{t}/*.parquet" for t in tables]).select(polars.len()).collect().item()
    print("all readers agree")


main(sys.argv[1])
