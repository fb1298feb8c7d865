// Opens the masks that tests/readers.rs wrote with zarrita and ome-zarr.js, and compares values.
//
//     node check.mjs DIR        (beside the node_modules of package.json)

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { FileSystemStore } from "@zarrita/storage";
import * as zarr from "zarrita";
import * as omezarr from "ome-zarr.js";

const directory = process.argv[2];

async function pixels(store, path) {
  const array = await zarr.open(zarr.root(store).resolve(path), { kind: "array" });
  return zarr.get(array);
}

async function checkArrays(name, store, expected) {
  const semantic = await pixels(store, "labels/semantic/0");
  assert.deepEqual(semantic.shape, expected.shape);
  assert.ok(semantic.data instanceof Uint8Array);
  if (expected.instances === undefined) {
    const counts = new Array(256).fill(0);
    for (const value of semantic.data) counts[value] += 1;
    assert.deepEqual(counts, expected.class_px);
    const prob = await pixels(store, "prob/0");
    const width = expected.shape[1];
    const plane = expected.shape[0] * width;
    for (let i = 0; i < prob.data.length; i += 1) {
      const at = i % plane;
      const value = ((at % width) + 2 * Math.floor(at / width) + Math.floor(i / plane) * 40) % 251;
      if (prob.data[i] !== value) assert.fail(`prob ${i}: ${prob.data[i]}, expected ${value}`);
    }
  } else {
    const ids = await pixels(store, "labels/instances/0");
    assert.ok(ids.data instanceof Uint32Array);
    const inside = ids.data.filter((id) => id > 0);
    assert.equal(inside.length, expected.nucleus_px);
    assert.equal(new Set(inside).size, expected.instances);
    assert.equal((await pixels(store, "labels/tissue/0")).data.reduce((sum, bit) => sum + bit, 0), expected.tissue_px);
  }
  console.log(`ok  ${name.padEnd(13)} zarrita`);
}

async function checkImages(name, root, expected) {
  for (const path of ["", "labels/semantic"]) {
    const store = new FileSystemStore(join(root, path));
    const finest = await omezarr.getMultiscaleWithArray(store, 0);
    assert.deepEqual(finest.arr.shape, expected.shape);
    assert.deepEqual(finest.multiscale.axes.map((axis) => [axis.name, axis.unit]), [["y", "micrometer"], ["x", "micrometer"]]);
    const { datasets } = finest.multiscale;
    const scales = datasets.map((level) => level.coordinateTransformations[0].scale);
    scales.forEach((scale, level) => assert.deepEqual(scale, [0.5 * 2 ** level, 0.5 * 2 ** level]));
    const coarsest = await omezarr.getMultiscaleWithArray(store, datasets.length - 1);
    assert.ok(Math.max(...coarsest.arr.shape) <= Math.max(...coarsest.arr.chunks));
  }
  console.log(`ok  ${name.padEnd(13)} ome-zarr.js`);
}

for (const [name, expected] of Object.entries(JSON.parse(readFileSync(join(directory, "expected.json"), "utf8")))) {
  const root = join(directory, name, "masks", "scene-1.ome.zarr");
  await checkArrays(name, new FileSystemStore(root), expected);
  await checkImages(name, root, expected);
}
console.log("all readers agree");
