"""Twin in PyTorch of pipelines/train_nuclei.yaml: the recipe of the model of nuclei that the program has in itself.

It shares no code with the program: data, augmentation, targets, losses, network and loop are written anew. The weights it
saves with `--eval` are judged by the program, as its own are:

    wsi-run convert folded.pt --model stardist_unet --classes 'lymphocyte=#1f5fd0,tumour_epithelial=#d03030,stromal=#2fa040' \\
        --mpp 0.5 --normalisation unit -o twin.safetensors
    wsi-run evaluate pipelines/train_nuclei.yaml --weights twin.safetensors --set instances.star.prob_threshold=0.4

Python 3.11+, torch 2.12.1 (CPU), numpy 2.4.3, scipy 1.17.0, numba 0.65.1, opencv-python 4.14.0.94.
Data: brca_m2c (dots with classes, 0.5 um/px), dsb2018 (instance masks without classes, rescaled to about 0.5 um/px).

    python train_nuclei.py --data data/nuclei --out run.pt            # trains, prints scores, writes EMA weights
    python train_nuclei.py --data data/nuclei --eval run.pt           # scores only, with a sweep of thresholds

Coordinates: px index = px centre. Output px (i, j) stands for the input point (2i + 0.5, 2j + 0.5).
"""
import argparse, csv, json, math, os, time
import cv2, numba, numpy as np, torch
import torch.nn as nn, torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

RAYS, RAY_PAD = 32, 32
ANG = 2 * np.pi * np.arange(RAYS) / RAYS
COS, SIN = np.cos(ANG).astype(np.float32), np.sin(ANG).astype(np.float32)
# Fields of DSB 2018 by magnification, from the median diameter of their nuclei: um per px of the file.
DSB_MPP = {0: 1 / 6, 1: 1 / 6, 8: 0.25, 9: 0.25, 10: 0.25, 12: 0.25}  # others 0.5
DSB_VAL = {1, 9, 17, 21, 25}  # mosaic groups with number mod 4 = 1: 20 of 72 fields, all magnifications

class StarDist(nn.Module):
    """Names are those of stardist.rs. `bn`: batch norm between convolution and ReLU (names + `_bn`)."""

    def __init__(self, classes=3, base=32, feat=128, depth=3, bn=False):
        super().__init__()
        self.depth, self.bn = depth, bn

        def conv(name, i, o, k=3):
            c = nn.Conv2d(i, o, k, padding=k // 2)
            nn.init.kaiming_normal_(c.weight, nonlinearity="relu" if k == 3 else "linear")
            nn.init.zeros_(c.bias)
            setattr(self, name, c)
            if bn and k == 3:
                setattr(self, name + "_bn", nn.BatchNorm2d(o, momentum=0.03))

        conv("grid_0", 3, base), conv("grid_1", base, base)
        i = base
        for n in range(depth):
            conv(f"down_level_{n}_no_0", i, base << n), conv(f"down_level_{n}_no_1", base << n, base << n)
            i = base << n
        conv("middle_0", i, base << depth), conv("middle_2", base << depth, base << (depth - 1))
        i = base << (depth - 1)
        for n in reversed(range(depth)):
            o = base << max(n - 1, 0)
            conv(f"up_level_{n}_no_0", i + (base << n), base << n), conv(f"up_level_{n}_no_2", base << n, o)
            i = o
        conv("features", i, feat), conv("prob", feat, 1, 1), conv("dist", feat, RAYS, 1)
        conv("features_class", i, feat), conv("prob_class", feat, classes + 1, 1)
        with torch.no_grad():
            self.prob.bias.fill_(-1.5), self.dist.bias.fill_(6.0)
            for head in (self.prob, self.dist, self.prob_class):
                head.weight.mul_(0.1)

    def block(self, name, x):
        x = getattr(self, name)(x)
        return F.relu(getattr(self, name + "_bn")(x) if self.bn else x, inplace=True)

    def forward(self, x):
        x = F.max_pool2d(self.block("grid_1", self.block("grid_0", x)), 2)
        skips = []
        for n in range(self.depth):
            x = self.block(f"down_level_{n}_no_1", self.block(f"down_level_{n}_no_0", x))
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.block("middle_2", self.block("middle_0", x))
        for n in reversed(range(self.depth)):
            x = torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skips[n]], 1)
            x = self.block(f"up_level_{n}_no_2", self.block(f"up_level_{n}_no_0", x))
        f, g = self.block("features", x), self.block("features_class", x)
        return self.prob(f), self.dist(f), self.prob_class(g)  # logits, px of the input, logits

def folded(state):
    """The same network without batch norm: the keys of stardist.rs."""
    out = {}
    for k, v in state.items():
        name, kind = k.rsplit(".", 1)
        if name.endswith("_bn"):
            continue
        bn = {n: state.get(f"{name}_bn.{n}") for n in ("weight", "bias", "running_mean", "running_var")}
        if bn["weight"] is None:
            out[k] = v.clone()
            continue
        g = bn["weight"] / torch.sqrt(bn["running_var"] + 1e-5)
        out[k] = v * g[:, None, None, None] if kind == "weight" else (v - bn["running_mean"]) * g + bn["bias"]
    return out

def load(root, fold=None, folds=5):
    b = os.path.join(root, "brca_m2c")
    names = {s: open(f"{b}/brca_ds_{s}.txt").read().split() for s in ("train", "val")}
    if fold is not None:  # cross-validation by patient over the train list
        patients = sorted({n[:12] for n in names["train"]})
        held = {p for k, p in enumerate(patients) if k % folds == fold}
        names["val"] = [n for n in names["train"] if n[:12] in held]
    held = {n[:12] for n in names["val"]}
    names["train"] = [n for n in names["train"] if n[:12] not in held]  # 2 patients are in both published lists

    def brca(n):
        rgb = cv2.cvtColor(cv2.imread(f"{b}/images/{n}"), cv2.COLOR_BGR2RGB)
        rows = [l.split() for l in open(f"{b}/labels/{n[:-4]}_gt_class_coords.txt")]
        return rgb, np.array([(int(r[1]), int(r[0]), int(r[2])) for r in rows if len(r) == 3], np.float32), n

    def dsb(r):
        d = os.path.join(root, "dsb2018")
        rgb = cv2.cvtColor(cv2.imread(f"{d}/images/{r['id']}.png"), cv2.COLOR_BGR2RGB)
        lab = cv2.imread(f"{d}/labels/{r['id']}.png", cv2.IMREAD_UNCHANGED).astype(np.float32)
        return rgb, lab, int(r["mosaic_group"]), DSB_MPP.get(int(r["mosaic_group"]), 0.5) / 0.5

    rows = [dsb(r) for r in csv.DictReader(open(f"{root}/dsb2018/index.csv"))]
    return ([brca(n) for n in names["train"]], [brca(n) for n in names["val"]],
            [r for r in rows if r[2] not in DSB_VAL], [r for r in rows if r[2] in DSB_VAL])

HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
HED /= np.linalg.norm(HED, axis=1, keepdims=True)
HED_INV = np.linalg.inv(HED).astype(np.float32)

def colour(rgb, rng, style, a):
    """Stain transfer (mean and deviation of optical density per channel), HED jitter, gain and offset, blur, noise."""
    od = -np.log((rgb.astype(np.float32) + 1) / 256)
    if style is not None:
        m, s = od.mean((0, 1)), od.std((0, 1)) + 1e-3
        t = rng.uniform(0.5, 1)  # part of the way
        od += t * (np.clip((od - m) / s, -4, 6) * style[1] + style[0] - od)
        od = np.maximum(od, 0)
    if rng.random() < 0.9:
        gain, offset = rng.uniform(1 - a.hed, 1 + a.hed, 3), rng.uniform(-a.hed_add, a.hed_add, 3)
        od = (od @ HED_INV * gain.astype(np.float32) + offset.astype(np.float32)) @ HED
    x = np.exp(-od)
    if rng.random() < 0.5:
        x = (x - 0.5) * rng.uniform(0.85, 1.15) + 0.5 + rng.uniform(-0.08, 0.08)
    x = (x * rng.uniform(0.92, 1.08, 3) if rng.random() < 0.3 else x).astype(np.float32)
    r = rng.random()
    if r < 0.2:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.2))
    elif r < 0.3:
        x = x + 0.6 * (x - cv2.GaussianBlur(x, (0, 0), 1.0))
    if rng.random() < 0.2:
        x = x + rng.normal(0, rng.uniform(0.005, 0.03), x.shape).astype(np.float32)
    return np.clip(x, 0, 1)

@numba.njit(cache=True)
def ray_targets(lab, pad, n):
    """Distances in input px from each output px with a label to where the label ends; lab is padded by `pad`."""
    out = np.zeros((RAYS, n, n), np.float32)
    h, w = lab.shape
    for i in range(n):
        for j in range(n):
            y, x = pad + 2 * i + 0.5, pad + 2 * j + 0.5
            me = lab[pad + 2 * i, pad + 2 * j]
            if me == 0:
                continue
            for k in range(RAYS):
                t = 0.0
                while True:
                    t += 0.5
                    yy, xx = int(np.floor(y + t * SIN[k] + 0.5)), int(np.floor(x + t * COS[k] + 0.5))
                    if yy < 0 or xx < 0 or yy >= h or xx >= w or lab[yy, xx] != me:
                        break
                out[k, i, j] = t - 0.25
    return out

def edt_prob(lab):
    """Distance to the own label's edge divided by its largest, at input size."""
    p, c = np.pad(lab, 1, mode="edge"), lab
    inner = (c > 0) & (c == p[:-2, 1:-1]) & (c == p[2:, 1:-1]) & (c == p[1:-1, :-2]) & (c == p[1:-1, 2:])
    d = cv2.distanceTransform(inner.astype(np.uint8), cv2.DIST_L2, 5) + (c > 0)
    ids = lab.astype(np.int64)
    top = np.zeros(ids.max() + 1, np.float32)
    np.maximum.at(top, ids.ravel(), d.ravel())
    return np.where(ids > 0, d / np.maximum(top[ids], 1), 0).astype(np.float32)

WHITE = dict(borderMode=cv2.BORDER_CONSTANT, borderValue=(255, 255, 255))  # glass beyond the picture

def placement(rng, h, w, size, scale, a):
    """Affine map from the crop to the picture: random centre, scale, shear, flip, rotation."""
    ang = rng.integers(4) * np.pi / 2 + math.radians(rng.uniform(-a.rotate, a.rotate))
    shear = math.tan(math.radians(rng.uniform(-a.shear, a.shear)))
    half = size / 2 / scale
    c = [rng.uniform(min(half, n / 2), max(n - half, n / 2)) - 0.5 for n in (w, h)]
    m = np.array([[math.cos(ang), -math.sin(ang)], [math.sin(ang), math.cos(ang)]]) @ [[1, shear], [0, 1]] / scale
    if rng.random() < 0.5:
        m[:, 0] *= -1
    return np.hstack([m, (np.array(c) - m @ np.full(2, (size - 1) / 2))[:, None]])

def sample_brca(item, rng, a, styles):
    rgb, dots, _ = item
    s, n = a.crop, a.crop // 2
    m = placement(rng, *rgb.shape[:2], s, math.exp(rng.uniform(-a.scale, a.scale)), a)
    img = cv2.warpAffine(rgb, m, (s, s), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, **WHITE)
    img = colour(img, rng, styles[rng.integers(len(styles))] if rng.random() < a.style_brca else None, a)
    xy = (dots[:, :2] - m[:, 2]) @ np.linalg.inv(m[:, :2]).T
    near = ((xy > -12) & (xy < s + 12)).all(1)
    xy, cls = xy[near], dots[near, 2].astype(np.int64)
    grid = 2 * np.arange(n) + 0.5
    known = np.ones((n, n), np.float32)
    prob, mask = np.zeros((n, n), np.float32), np.ones((n, n), np.int64)
    if len(xy):
        d2 = (grid[None, None, :] - xy[:, 0, None, None]) ** 2 + (grid[None, :, None] - xy[:, 1, None, None]) ** 2
        who, best = d2.argmin(0), d2.min(0)
        d, prob = np.sqrt(best), np.exp(-best / (2 * a.dot_sigma**2))
        mask = np.where(d <= a.class_radius, 1 << cls[who], np.where(d > a.bg_radius, 1, 0))
    return img, prob, known, np.zeros((RAYS, n, n), np.float32), np.zeros((n, n), np.float32), mask * (known > 0), known

def sample_dsb(item, rng, a, styles):
    rgb, lab, _, f = item
    s, n, scale = a.crop, a.crop // 2, f * math.exp(rng.uniform(-a.scale_dsb, a.scale_dsb))
    m = placement(rng, *rgb.shape[:2], s, scale, a)
    mm, src = m.copy(), cv2.GaussianBlur(rgb, (0, 0), 0.45 / scale) if scale < 0.7 else rgb  # smooth before shrinking
    img = cv2.warpAffine(src, mm, (s, s), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, **WHITE)
    img = colour(img, rng, styles[rng.integers(len(styles))] if rng.random() < a.style_dsb else None, a)
    mm[:, 2] -= m[:, :2] @ np.full(2, RAY_PAD)
    lb = cv2.warpAffine(lab, mm, (s + 2 * RAY_PAD,) * 2, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    dist = ray_targets(lb, RAY_PAD, n)
    prob = edt_prob(lb)[RAY_PAD:-RAY_PAD, RAY_PAD:-RAY_PAD].reshape(n, 2, n, 2).mean((1, 3))
    inside, ones = lb[RAY_PAD:-RAY_PAD:2, RAY_PAD:-RAY_PAD:2] > 0, np.ones((n, n), np.float32)
    return img, prob, ones, dist, prob * inside, np.where(inside, 0b1110, 1), ones

def batch(brca, dsb, styles, rng, a):
    k = a.batch_dsb if dsb else 0
    parts = [sample_brca(brca[rng.integers(len(brca))], rng, a, styles) for _ in range(a.batch - k)]
    parts += [sample_dsb(dsb[rng.integers(len(dsb))], rng, a, styles) for _ in range(k)]
    img, prob, pw, dist, dw, mask, cw = (torch.from_numpy(np.stack(v)) for v in zip(*parts))
    return img.permute(0, 3, 1, 2).float(), prob.float(), pw, dist, dw.float(), mask, cw.float()

def losses(out, t, a, weights):
    _, prob, pw, dist, dw, mask, cw = t
    p, d, c = out
    bce = F.binary_cross_entropy_with_logits(p[:, 0], prob, reduction="none")
    l_prob = (bce * pw).sum() / pw.sum()
    rel = dw / dist.mean(1).clamp(min=2)  # error relative to the nucleus' own mean radius there
    l_dist = ((d - dist).abs().mean(1) * rel).sum() / dw.sum().clamp(min=1)
    bits = torch.stack([(mask >> k) & 1 for k in range(c.shape[1])], 1).bool()
    nll = -torch.logsumexp(c.log_softmax(1).masked_fill(~bits, -1e4), 1)
    w = weights[mask] * cw
    l_cls = (nll * w).sum() / w.sum().clamp(min=1)
    return l_prob, l_dist, l_cls

@numba.njit(cache=True)
def nms(py, px, dist, order, thr, rmax, H, W):
    """Greedy polygons, best first, on a canvas of H x W input px: label map, index of each kept proposal."""
    canvas = np.zeros((H + 64, W + 64), np.int32)
    areas, kept, n = np.zeros(order.size + 1), np.zeros(order.size, np.int64), 0
    for o in order:
        d = np.minimum(np.maximum(dist[o], 0.0), rmax)
        xs, ys = px[o] * 2 + 32.5 + d * COS, py[o] * 2 + 32.5 + d * SIN
        x0, y0 = int(np.floor(xs.min())), int(np.floor(ys.min()))
        inside = np.zeros((int(np.ceil(ys.max())) - y0 + 1, int(np.ceil(xs.max())) - x0 + 1), np.int32)
        for r in range(inside.shape[0]):  # px whose centre lies in the polygon: even-odd rule
            y = y0 + r + 1e-4
            cuts = np.sort(np.array([xs[k - 1] + (y - ys[k - 1]) * (xs[k] - xs[k - 1]) / (ys[k] - ys[k - 1])
                                     for k in range(RAYS) if (ys[k - 1] <= y) != (ys[k] <= y)]))
            for q in range(0, cuts.size - 1, 2):
                inside[r, int(np.ceil(cuts[q])) - x0:int(np.floor(cuts[q + 1])) - x0 + 1] = 1
        area, part = inside.sum(), canvas[y0:y0 + inside.shape[0], x0:x0 + inside.shape[1]]
        shared = np.bincount((part * inside).ravel())
        rivals = np.nonzero(shared[1:])[0] + 1
        if area < 8 or np.any(shared[rivals] > thr * np.minimum(area, areas[rivals])):
            continue
        kept[n], n = o, n + 1
        areas[n] = area
        part += np.where((part == 0) & (inside > 0), n, 0).astype(np.int32)
    return canvas[32:-32, 32:-32], kept[:n]

def planes(net, rgb, tta=False):
    """prob, dist, classes (channel 0 background) of a whole picture at half its size."""
    h, w = rgb.shape[:2]
    x = rgb.astype(np.float32) / 255 if rgb.dtype == np.uint8 else rgb
    x = np.pad(x, ((0, -h % 16), (0, -w % 16), (0, 0)), mode="reflect")
    x = torch.from_numpy(x).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    H, W = (h + 1) // 2, (w + 1) // 2
    with torch.inference_mode():
        p, d, c = net(x)
        p, c = p.sigmoid(), c.softmax(1)
        if tta:  # prob and classes over the four flips; distances from the picture as it is
            for dims in ((2,), (3,), (2, 3)):
                q, _, e = net(x.flip(dims))
                p, c = p + q.sigmoid().flip(dims), c + e.softmax(1).flip(dims)
            p, c = p / 4, c / 4
    return p[0, 0, :H, :W].numpy(), d[0, :, :H, :W].numpy(), c[0, :, :H, :W].numpy()

def nuclei(pl, shape, prob_thr, nms_thr=0.3, min_area=48, rmax=24):
    """Label map, centroids (x, y), classes 1.. of a picture of `shape`; the class has the largest mean over the nucleus."""
    p, d, c = pl
    y, x = np.nonzero(p > prob_thr)
    order = np.argsort(-p[y, x], kind="stable")
    lab, kept = nms(y, x, np.ascontiguousarray(d[:, y, x].T), order, nms_thr, float(rmax), *shape)
    yy, xx = np.divmod(np.arange(lab.size), shape[1])
    total = lambda v=None: np.bincount(lab.ravel(), v, len(kept) + 1)[1:]  # per nucleus
    area = total()
    cx, cy = total(xx) / np.maximum(area, 1), total(yy) / np.maximum(area, 1)
    votes = np.stack([total(v[yy // 2, xx // 2]) for v in c[1:]])
    ok = area >= min_area
    keep = np.concatenate([[0], np.where(ok, np.cumsum(ok), 0)])
    return keep[lab], np.stack([cx, cy], 1)[ok], (votes.argmax(0) + 1)[ok]

def match(a, b, r=6.0):
    """Pairs nearer than r px in an optimal one-to-one matching: most pairs first, then least distance."""
    if len(a) == 0 or len(b) == 0:
        return 0
    d = np.linalg.norm(a[:, None] - b[None], axis=2)
    i, j = linear_sum_assignment(np.where(d <= r, d, 1e4))
    return int((d[i, j] <= r).sum())

def pq(gt, pr):
    ng, npr = int(gt.max()), int(pr.max())
    if ng == 0 or npr == 0:
        return 0.0
    inter = np.bincount((gt.astype(np.int64) * (npr + 1) + pr).ravel(), minlength=(ng + 1) * (npr + 1)).reshape(ng + 1, npr + 1)
    union = inter.sum(1)[:, None] + inter.sum(0)[None] - inter
    iou = (inter / np.maximum(union, 1))[1:, 1:]
    hit = iou > 0.5
    present = (inter.sum(1)[1:] > 0).sum()
    return float(iou[hit].sum() / max(hit.sum() + 0.5 * (present - hit.sum()) + 0.5 * (npr - hit.sum()), 1))

def scores(net, brca, dsb, thrs, nms_thr=0.3, tta=False):
    net.eval()
    pls = [planes(net, r[0], tta) for r in brca]
    resize = lambda r: cv2.resize(r[0], (round(r[0].shape[1] * r[3]), round(r[0].shape[0] * r[3])), interpolation=cv2.INTER_AREA)
    small = [(resize(r), r[1].astype(np.int64)) for r in dsb]
    dpls = [planes(net, r[0], tta) for r in small]
    rows = []
    for thr in thrs:
        t = np.zeros((4, 3))  # detection, then classes: matched, predicted, true
        for (rgb, dots, _), pl in zip(brca, pls):
            _, xy, cls = nuclei(pl, rgb.shape[:2], thr, nms_thr)
            t[0] += match(xy, dots[:, :2]), len(xy), len(dots)
            for k in (1, 2, 3):
                g, q = dots[dots[:, 2] == k, :2], xy[cls == k]
                t[k] += match(q, g), len(q), len(g)
        f1 = 2 * t[:, 0] / np.maximum(t[:, 1] + t[:, 2], 1)
        q = []
        for (rgb, lab), pl in zip(small, dpls):
            lb = nuclei(pl, rgb.shape[:2], thr, nms_thr, min_area=20)[0]
            q.append(pq(lab, cv2.resize(lb.astype(np.float32), lab.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(np.int64)))
        rows.append(dict(thr=round(float(thr), 3), det=f1[0], prec=t[0, 0] / max(t[0, 1], 1), rec=t[0, 0] / max(t[0, 2], 1),
                         cls=f1[1:].mean(), f1c=[round(float(v), 3) for v in f1[1:]], pq=float(np.mean(q)) if q else 0.0))
    return rows

def show(rows):
    for r in rows:
        print("  thr {thr:.2f} det {det:.4f} (P {prec:.3f} R {rec:.3f}) class {cls:.4f} {f1c} PQ {pq:.4f}".format(**r), flush=True)

def main():
    ap = argparse.ArgumentParser()
    for k, v in dict(data="data/nuclei", out="", eval="", init="").items():
        ap.add_argument("--" + k, default=v)
    for k, v in dict(steps=6000, batch=4, batch_dsb=2, crop=192, threads=2, seed=1, warm=100, base=32, feat=128,
                     depth=3, bn=1, every=500, fold=-1, tta=0).items():
        ap.add_argument("--" + k, type=int, default=v)
    for k, v in dict(lr=1e-3, wd=1e-4, ema=0.998, scale=0.25, scale_dsb=0.35, rotate=45, shear=15, hed=0.2, hed_add=0.03,
                     style_brca=0.3, style_dsb=0.6, dot_sigma=3, class_radius=6, bg_radius=10, w_dist=3, w_class=1, bg=0.1, root=0.3, bal=0.75, stromal=1.5, clip=5).items():
        ap.add_argument("--" + k, type=float, default=v)
    a = ap.parse_args()
    torch.set_num_threads(a.threads), cv2.setNumThreads(1), torch.manual_seed(a.seed)
    rng = np.random.default_rng(a.seed)
    brca, brca_val, dsb, dsb_val = load(a.data, a.fold if a.fold >= 0 else None)
    net, ema = (StarDist(3, a.base, a.feat, a.depth, bool(a.bn)).to(memory_format=torch.channels_last) for _ in range(2))
    if a.eval or a.init:
        net.load_state_dict(torch.load(a.eval or a.init))
    if a.eval:
        torch.save(folded(net.state_dict()), a.out or "folded.pt")  # for the product
        return show(scores(net, brca_val, dsb_val, np.arange(0.25, 0.66, 0.05), tta=bool(a.tta)))
    ema.load_state_dict(net.state_dict())
    ods = (-np.log((r[0].astype(np.float32) + 1) / 256) for r in brca)
    styles = [(od.mean((0, 1)), od.std((0, 1))) for od in ods]
    count = np.bincount(np.concatenate([r[1][:, 2] for r in brca]).astype(int), minlength=4)[1:]
    cw = (count.mean() / count) ** a.bal
    weights = torch.zeros(16)  # by bit mask; 0: nothing known
    weights[torch.tensor([1, 2, 4, 8, 14])] = torch.tensor([a.bg, *(cw / cw.mean() * [1, 1, a.stromal]), a.root]).float()
    print(json.dumps(vars(a)), "patches", *map(len, (brca, brca_val, dsb, dsb_val)), "weights", weights[[1, 2, 4, 8, 14]].tolist(), flush=True)
    groups = [dict(params=[p for p in net.parameters() if (p.ndim > 1) == d], weight_decay=a.wd * d) for d in (True, False)]
    opt = torch.optim.AdamW(groups, lr=a.lr)
    start, run, cpu0 = time.time(), np.zeros(3), time.process_time()
    for step in range(a.steps):
        lr = a.lr * min((step + 1) / a.warm, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / a.steps)))
        for g in opt.param_groups:
            g["lr"] = lr
        t = batch(brca, dsb, styles, rng, a)
        net.train()
        ls = losses(net(t[0].contiguous(memory_format=torch.channels_last)), t, a, weights)
        loss = ls[0] + a.w_dist * ls[1] + a.w_class * ls[2]
        assert torch.isfinite(loss), step
        opt.zero_grad(), loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), a.clip)
        opt.step()
        with torch.no_grad():
            k = min(a.ema, (1 + step) / (10 + step))
            for e, p in zip(ema.state_dict().values(), net.state_dict().values()):
                e.lerp_(p, 1 - k) if e.is_floating_point() else e.copy_(p)
        run += [float(v.detach()) for v in ls]
        if (step + 1) % 100 == 0:
            print("step {} prob {:.4f} dist {:.3f} class {:.4f}".format(step + 1, *run / 100),
                  f"lr {lr:.2e} {time.time() - start:.0f} s wall {time.process_time() - cpu0:.0f} s cpu", flush=True)
            run[:] = 0
        if (step + 1) % a.every == 0 or step + 1 == a.steps:
            torch.save(ema.state_dict(), a.out or "nuclei.pt")
            show(scores(ema, brca_val, dsb_val, (0.3, 0.4) if step + 1 < a.steps else np.arange(0.2, 0.61, 0.05)))

if __name__ == "__main__":
    main()
