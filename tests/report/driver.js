// Runs inside a copy of the page, after its own script: uses it as a reader does, and leaves what it saw on the page.
(async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const rows = () => [...document.querySelectorAll("#slides tbody tr:not(.more)")].filter((row) => !row.hidden);
  const names = () => rows().map((row) => row.slide.id);
  const head = (text) => [...document.querySelectorAll("#slides th button")].find((button) => button.textContent === text);
  const set = (id, key, value) => {
    const field = document.getElementById(id);
    field[key] = value;
    field.dispatchEvent(new Event("input"));
  };
  const seen = { ready: document.documentElement.dataset.ready, ready_ms: performance.now() };
  seen.at_first = names();
  head("slide").click();
  seen.rising = names();
  head("slide").click();
  seen.falling = names();
  seen.sorted = head("slide").parentElement.getAttribute("aria-sort");
  head("nuclei").click();
  seen.nuclei = rows().map((row) => (row.slide.status === "complete" ? row.slide.instances : null));
  const began = performance.now();
  head("time").click();
  document.body.getBoundingClientRect();
  seen.sort_ms = performance.now() - began;
  set("words", "value", "BROKEN slide");
  seen.found = names();
  set("words", "value", "");
  set("status", "value", "complete");
  seen.complete = names();
  set("status", "value", "");
  seen.shown = document.getElementById("shown").textContent;
  rows()[0].click();
  seen.details = document.querySelector("tr.more").textContent;
  seen.text = document.querySelector("main").textContent;
  rows()[0].click();
  rows()[0].scrollIntoView();
  // Pictures are made once their rows are in sight and drawn: in real time, of which a pause, whose time is virtual, takes
  // next to nothing.
  const is_drawn = (image) => image.complete && image.naturalWidth > 32;
  const all_drawn = () => document.images.length > 0 && [...document.images].every(is_drawn);
  for (let turn = 0; turn < 6 || (turn < 20000 && !all_drawn()); turn += 1) await pause(100);
  const images = [...document.images];
  seen.images = images.length;
  seen.drawn = images.filter(is_drawn).length;
  seen.plots = document.querySelectorAll("#plots svg").length;
  seen.scripts = document.scripts.length;
  seen.requests = performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).map((entry) => entry.name);
  seen.title = document.title;
  document.getElementById("theme").click();
  seen.theme = document.documentElement.className;
  seen.errors = window.seen_errors;
  document.documentElement.dataset.seen = btoa(unescape(encodeURIComponent(JSON.stringify(seen))));
})();
