"use strict";
// What slides say is text and never markup: it gets onto the page as text nodes only.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { run, slides } = data;
  const $ = (id) => document.getElementById(id);
  const make = (tag, text, name) => {
    const node = document.createElement(tag);
    if (text !== undefined && text !== null) node.textContent = text;
    if (name) node.className = name;
    return node;
  };
  const number = (value, digits = 0) =>
    value === null || value === undefined ? "–" : value.toLocaleString("en", { minimumFractionDigits: 0, maximumFractionDigits: digits });
  const short = (value) => number(value, Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 1 : 3);
  const clock = (secs) => {
    if (secs === null || secs === undefined) return "–";
    const whole = Math.round(secs);
    const two = (n) => String(n).padStart(2, "0");
    return whole >= 3600 ? `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}` : `${Math.floor(whole / 60)}:${two(whole % 60)}`;
  };
  const words = (status) => status.replaceAll("_", " ");
  const sum = (values) => values.reduce((a, b) => a + (b ?? 0), 0);

  // ── totals ──
  const with_status = (status) => slides.filter((s) => s.status === status).length;
  const card = (value, label, title) => {
    const node = make("div", null, "card");
    node.append(make("b", value), make("span", label));
    if (title) node.title = title;
    $("totals").append(node);
  };
  const times = [run.started_at, run.finished_at].filter(Boolean).join(" to ");
  $("about").textContent = [`wsi-run ${run.version}`, run.model, run.hosts.join(", "), times, words(run.status)].filter(Boolean).join(" · ");
  card(number(slides.length), slides.length === 1 ? "slide" : "slides");
  card(number(with_status("complete")), "complete");
  if (with_status("no_tissue")) card(number(with_status("no_tissue")), "without tissue");
  card(number(with_status("failed")), "failed");
  const lost = slides.filter((s) => s.tiles_failed > 0).length;
  if (lost) card(number(lost), "lost tiles");
  const open = slides.length - with_status("complete") - with_status("no_tissue") - with_status("failed");
  if (open) card(number(open), "not done");
  card(number(sum(slides.map((s) => s.instances))), data.noun);
  card(`${number(sum(slides.map((s) => s.tissue_mm2)), 1)} mm²`, "tissue");
  card(`${number(sum(slides.map((s) => s.computed_mm2)), 1)} mm²`, "computed");
  const work = sum(slides.map((s) => s.wall_secs));
  if (work > 0) {
    const done = slides.filter((s) => s.wall_secs > 0);
    card(clock(work), "slides' wall time", "sum over slides; slides that ran side by side count each");
    card(`${short((sum(done.map((s) => s.computed_mm2)) / work) * 60)} mm²`, "computed per minute of a slide");
  }
  if (run.run_secs > 0 && run.slides_run > 0) card(`${number((run.slides_run / run.run_secs) * 3600, 1)}`, "slides per hour, last run", `${run.slides_run} slides in ${clock(run.run_secs)}`);
  const stages = {};
  for (const slide of slides) for (const [stage, secs] of slide.stage_secs) stages[stage] = (stages[stage] ?? 0) + secs;
  const longest = Object.entries(stages).sort((a, b) => b[1] - a[1])[0];
  const all_stages = sum(Object.values(stages));
  if (longest && all_stages > 0) card(`${number((100 * longest[1]) / all_stages)} %`, `of the work in ${longest[0]}`, Object.entries(stages).map(([s, t]) => `${s} ${clock(t)}`).join("\n"));

  // ── failures ──
  const NAMED = 200;
  const troubled = slides.filter((s) => s.error || s.status === "failed");
  const list = document.querySelector("#failures ul");
  for (const fault of run.faults) list.append(make("li", fault));
  for (const slide of troubled.slice(0, NAMED)) {
    const item = make("li");
    item.append(make("b", slide.id), `: ${slide.error ?? words(slide.status)}`);
    if (slide.hint) item.append(make("br"), make("span", slide.hint, "hint"));
    list.append(item);
  }
  if (troubled.length > NAMED) list.append(make("li", `and ${number(troubled.length - NAMED)} more; see the table below`));
  $("failures").hidden = !list.children.length;

  // ── distributions ──
  const SVG = "http://www.w3.org/2000/svg";
  const draw = (tag, attributes, parent) => {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  };
  const histogram = (title, unit, values, color) => {
    const known = values.filter((v) => Number.isFinite(v));
    if (known.length < 2) return;
    const sorted = known.slice().sort((a, b) => a - b);
    const [low, high] = [sorted[0], sorted[sorted.length - 1]];
    const bins = Math.max(1, Math.min(24, Math.ceil(Math.sqrt(known.length)) + 2));
    const step = (high - low) / bins || 1;
    const counts = new Array(bins).fill(0);
    for (const v of known) counts[Math.min(bins - 1, Math.floor((v - low) / step))] += 1;
    const most = Math.max(...counts);
    const figure = make("figure", null, "card");
    const caption = make("figcaption", null);
    caption.append(make("b", title, "what"), make("span", `median ${short(sorted[Math.floor(known.length / 2)])} ${unit}`));
    const svg = draw("svg", { viewBox: "0 0 280 110", role: "img", "aria-label": `histogram of ${title}` }, figure);
    if (color) svg.style.setProperty("--bar", color);
    counts.forEach((count, i) => {
      const height = (82 * count) / most;
      const bar = draw("rect", { x: 2 + (276 / bins) * i + 0.5, y: 88 - height, width: Math.max(1, 276 / bins - 1), height }, svg);
      draw("title", {}, bar).textContent = `${short(low + step * i)} to ${short(low + step * (i + 1))} ${unit}: ${count} ${count === 1 ? "slide" : "slides"}`;
    });
    draw("line", { x1: 2, x2: 278, y1: 88.5, y2: 88.5 }, svg);
    draw("text", { x: 2, y: 104 }, svg).textContent = short(low);
    draw("text", { x: 278, y: 104, "text-anchor": "end" }, svg).textContent = `${short(high)} ${unit}`;
    figure.prepend(caption);
    document.querySelector("#plots > div").append(figure);
  };
  const of_class = (slide, name) => slide.classes.find((c) => c[0] === name);
  const density = (slide, name) => {
    const found = of_class(slide, name);
    return found && slide.computed_mm2 > 0 ? found[1] / slide.computed_mm2 : NaN;
  };
  const share = (slide, name) => {
    const found = of_class(slide, name);
    return found && slide.computed_mm2 > 0 ? (100 * found[2]) / slide.computed_mm2 : NaN;
  };
  histogram("tissue", "mm²", slides.map((s) => s.tissue_mm2 ?? NaN));
  for (const { name, color } of data.classes) {
    histogram(`${name}, density`, "per mm²", slides.map((s) => density(s, name)), color);
    histogram(`${name}, area`, "%", slides.map((s) => share(s, name)), color);
  }
  histogram("time", "s", slides.map((s) => s.wall_secs ?? NaN));
  document.querySelector("#plots").hidden = !document.querySelector("#plots figure");

  // ── the table ──
  const shown_classes = data.classes.slice(0, 8);
  const columns = [
    { head: "", of: () => 0, cell: (s) => thumb(s) },
    { head: "slide", of: (s) => s.id, cell: (s) => make("td", s.id, "name") },
    { head: "status", of: (s) => s.status, cell: (s) => make("td", words(s.status), `status-${s.status}`) },
    { head: "tissue mm²", n: true, of: (s) => s.tissue_mm2, digits: 2 },
    { head: data.noun, n: true, of: (s) => (s.status === "complete" || s.status === "no_tissue" ? s.instances : null) },
    ...shown_classes.flatMap(({ name }) => [
      ...(data.classes.length > 1 ? [{ head: `${name}`, n: true, of: (s) => of_class(s, name)?.[1] }] : []),
      { head: `${name} per mm²`, n: true, of: (s) => density(s, name), digits: 1 },
      { head: `${name} area %`, n: true, of: (s) => share(s, name), digits: 2 },
    ]),
    { head: "lost tiles", n: true, of: (s) => s.tiles_failed },
    { head: "time", n: true, of: (s) => s.wall_secs, cell: (s) => make("td", clock(s.wall_secs), "n") },
    { head: "flags", of: (s) => s.flags.length, cell: (s) => flags(s) },
  ];
  const thumb = (slide) => {
    const cell = make("td", null, "thumb");
    const box = make("div");
    if (slide.thumb) {
      box.dataset.thumb = "";
      box.slide = slide;
    }
    cell.append(box);
    return cell;
  };
  const picture = (slide) => {
    const image = make("img");
    image.alt = `overview of ${slide.id}`;
    image.decoding = "async";
    image.src = `data:image/jpeg;base64,${slide.thumb}`;
    return image;
  };
  // A picture is decoded when its row comes into view.
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries)
        if (isIntersecting) {
          watcher.unobserve(target);
          target.replaceWith(picture(target.slide));
        }
    },
    { rootMargin: "400px" },
  );
  const flags = (slide) => {
    const cell = make("td");
    for (const flag of slide.flags) cell.append(make("span", flag, "flag"));
    return cell;
  };
  const plain = (column, slide) => {
    const value = column.of(slide);
    const is_known = value !== undefined && value !== null && !Number.isNaN(value);
    const digits = column.digits ?? 0;
    const text = is_known && value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return make("td", text || "–", "n");
  };
  const details = (slide) => {
    const row = make("tr", null, "more");
    const cell = make("td");
    cell.colSpan = columns.length;
    const terms = make("dl");
    const say = (term, text) => text && terms.append(make("dt", term), make("dd", text));
    say("file", slide.path);
    say("error", slide.error);
    say("hint", slide.hint);
    say("notes", slide.notes);
    say("size", slide.width_px && `${number(slide.width_px)} × ${number(slide.height_px)} px at ${slide.mpp} µm/px (${slide.mpp_source}), ${slide.vendor}`);
    say("stain", slide.stain);
    say("colours", slide.color_kind);
    say("tiles", slide.tiles_planned && `${number(slide.tiles_done)} of ${number(slide.tiles_planned)}`);
    for (const [name, count, mm2] of slide.classes) say(name, `${number(count)}, ${number(mm2, 3)} mm²`);
    say("seconds", slide.stage_secs.map(([stage, secs]) => `${stage} ${number(secs, 1)}`).join(", "));
    cell.append(terms);
    if (slide.thumb) cell.append(picture(slide));
    row.append(cell);
    return row;
  };
  const body = document.querySelector("#slides tbody");
  const rows = slides.map((slide) => {
    const row = make("tr");
    row.slide = slide;
    row.words = [slide.id, slide.path, slide.error, slide.notes, words(slide.status), ...slide.flags].filter(Boolean).join("\n").toLowerCase();
    for (const column of columns) row.append(column.cell ? column.cell(slide) : plain(column, slide));
    row.addEventListener("click", () => {
      if (row.nextSibling?.className === "more") row.nextSibling.remove();
      else row.after(details(slide));
    });
    return row;
  });
  body.append(...rows);
  for (const box of body.querySelectorAll("[data-thumb]")) watcher.observe(box);

  const heads = document.querySelector("#slides thead tr");
  let sorted_by = null;
  const compare = (a, b) => {
    // What is not known is last, whichever way.
    const [no_a, no_b] = [a, b].map((v) => v === null || v === undefined || Number.isNaN(v));
    if (no_a || no_b) return no_a - no_b;
    return typeof a === "string" ? (a < b ? -1 : a > b ? 1 : 0) : a - b;
  };
  columns.forEach((column, index) => {
    const head = make("th", null, column.n ? "n" : "");
    if (column.head) {
      const button = make("button", column.head);
      button.type = "button";
      button.addEventListener("click", () => {
        const falls = sorted_by?.index === index ? !sorted_by.falls : Boolean(column.n);
        sorted_by = { index, falls };
        for (const other of heads.children) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", falls ? "descending" : "ascending");
        const keyed = rows.map((row, at) => ({ row, at, key: column.of(row.slide) }));
        keyed.sort((a, b) => {
          const is_unknown = [a.key, b.key].some((v) => v === null || v === undefined || Number.isNaN(v));
          const order = compare(a.key, b.key);
          return (falls && !is_unknown ? -order : order) || a.at - b.at;
        });
        for (const more of body.querySelectorAll("tr.more")) more.remove();
        body.append(...keyed.map(({ row }) => row));
      });
      head.append(button);
    }
    heads.append(head);
  });

  // ── filter ──
  const statuses = [...new Set(slides.map((s) => s.status))].sort();
  $("status").append(new Option("every status", ""), ...statuses.map((s) => new Option(words(s), s)));
  const filter = () => {
    const wanted = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const more of body.querySelectorAll("tr.more")) more.remove();
    for (const row of rows) {
      const fits = wanted.every((w) => row.words.includes(w)) && (!$("status").value || row.slide.status === $("status").value) && (!$("flagged").checked || row.slide.flags.length > 0);
      row.hidden = !fits;
      count += fits;
    }
    $("shown").textContent = `${number(count)} of ${number(rows.length)}`;
  };
  for (const id of ["words", "status", "flagged"]) $(id).addEventListener("input", filter);
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  filter();

  $("theme").addEventListener("click", () => {
    const is_dark = document.documentElement.classList.contains("dark") || (!document.documentElement.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.className = is_dark ? "light" : "dark";
  });
  document.documentElement.dataset.ready = "yes";
})();
