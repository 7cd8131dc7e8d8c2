// The page: what is compared and on what, its controls and keys, and what the reader chose last time.

const KEYS = (views) => [
  ["Enter", "open the photo"],
  ["← →", "the photo before, the next one"],
  ["↑ ↓", "the row above, the row below"],
  ["Shift ← →", "move the slider of the open photo"],
  ["Esc", "close"],
  [views.map((_, k) => k + 1).join(" "), views.map((name) => VIEWS[name].of).join(", ")],
  ["b", "the next background"],
  ["z", "pixel for pixel"],
  ["/", "search by name"],
  ["f", "all photos, or those that failed"],
  ["d", "dark or light"],
  ["?", "these keys"],
];
const BACKDROPS = ["checker", "white", "black", "colour", "image"];
const root = document.documentElement;

// Some browsers keep nothing for pages that are files; then every visit begins afresh.
const memory = {
  get: (key) => {
    try {
      return localStorage.getItem(`sgmatte.${key}`);
    } catch {
      return null;
    }
  },
  set: (key, value) => {
    try {
      localStorage.setItem(`sgmatte.${key}`, value);
    } catch {
      // as above
    }
  },
};

// --- what is shown

const views = Object.keys(VIEWS).filter((view) => photos.some((photo) => photo.pictures[view]));
let view = views[0];
let visible = photos;
let order = "";
let current = photos[0];
const viewer = buildViewer(
  () => visible,
  () => view,
  (photo) => focusCard(photo),
);
const cards = new Map();

function arrange() {
  const all = sorted();
  const now = `${wanted.sort} ${wanted.reverse}`;
  if (now !== order) $("grid").replaceChildren(...all.map((photo) => cards.get(photo)));
  order = now;
  visible = all.filter(passes);
  const kept = new Set(visible);
  for (const [photo, item] of cards) item.hidden = !kept.has(photo);
  if (!kept.has(current) && visible.length) rove(visible[0]);
  $("count").value = visible.length === photos.length ? `All ${photos.length}` : `${visible.length} of ${photos.length}`;
  $("reset").hidden = visible.length === photos.length;
  $("empty").hidden = visible.length > 0;
}

function compare(chosen) {
  if (!views.includes(chosen)) return;
  view = chosen;
  root.dataset.view = view;
  document.querySelector(`input[name=view][value=${view}]`).checked = true;
  for (const [photo, item] of cards) fill(item.querySelector(".compare"), photo, view);
  viewer.refresh();
}

function backdrop(chosen) {
  root.dataset.backdrop = chosen;
  document.querySelector(`input[name=backdrop][value=${chosen}]`).checked = true;
  $("colour").hidden = chosen !== "colour";
  $("file-label").hidden = chosen !== "image";
  if (chosen !== "image") memory.set("backdrop", chosen); // a picture is not kept
}

function dark(on) {
  root.dataset.theme = on ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", on);
}

function state(chosen) {
  wanted.state = chosen;
  document.querySelector(`input[name=state][value=${chosen}]`).checked = true;
  arrange();
}

// --- controls

function build() {
  const failed = photos.filter((photo) => photo.error !== null).length;
  const seconds = photos.reduce((sum, photo) => sum + (photo.seconds ?? 0), 0);
  const words = [`${photos.length} photo${photos.length === 1 ? "" : "s"}`];
  if (failed) words.push(`${failed} failed`);
  if (seconds) words.push(seconds < 90 ? `${seconds.toFixed(1)} s` : `${(seconds / 60).toFixed(1)} min`);
  $("summary").textContent = words.join(" · ");
  document.querySelectorAll("#states span").forEach((label, k) => {
    const count = Object.assign(document.createElement("small"), {
      textContent: [photos.length, photos.length - failed, failed][k],
    });
    label.append(" ", count);
  });

  for (const [number, name] of views.entries()) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "view", value: name });
    input.addEventListener("change", () => compare(name));
    label.append(input, Object.assign(document.createElement("span"), { textContent: VIEWS[name].label }));
    label.title = `${VIEWS[name].label} (${number + 1})`;
    $("views").append(label);
  }
  $("views").hidden = views.length < 2;
  $("backdrops").hidden = !views.includes("cutout");

  for (const [value, { label, key }] of Object.entries(SORTS)) {
    if (photos.some((photo) => key(photo) !== null)) $("sort").append(new Option(label, value));
  }
  for (const [keys, meaning] of KEYS(views).filter(([keys]) => keys)) {
    const term = document.createElement("dt");
    for (const key of keys.split(" ")) term.append(Object.assign(document.createElement("kbd"), { textContent: key }), " ");
    $("key-list").append(term, Object.assign(document.createElement("dd"), { textContent: meaning }));
  }

  const resetMeasures = buildMeasures(arrange);
  $("reset").addEventListener("click", () => {
    resetMeasures();
    $("search").value = wanted.search = "";
    state("all");
    $("search").focus();
  });
  $("search").addEventListener("input", () => {
    wanted.search = $("search").value.trim().toLowerCase();
    arrange();
  });
  $("sort").addEventListener("change", () => {
    wanted.sort = $("sort").value;
    arrange();
  });
  $("reverse").addEventListener("click", () => {
    wanted.reverse = !wanted.reverse;
    $("reverse").setAttribute("aria-pressed", wanted.reverse);
    arrange();
  });
  $("states").addEventListener("change", (event) => state(event.target.value));
  $("row").addEventListener("input", () => root.style.setProperty("--row", `${$("row").value}px`));
  $("backdrops").addEventListener("change", (event) => {
    if (event.target.name === "backdrop") backdrop(event.target.value);
  });
  $("colour").addEventListener("input", () => {
    root.style.setProperty("--colour", $("colour").value);
    memory.set("colour", $("colour").value);
  });
  let address = null;
  $("file").addEventListener("change", () => {
    if (!$("file").files.length) return;
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL($("file").files[0]);
    root.style.setProperty("--image", `url("${address}")`);
  });
  $("theme").addEventListener("click", () => {
    dark(root.dataset.theme !== "dark");
    memory.set("theme", root.dataset.theme);
  });
  $("help").addEventListener("click", () => $("keys").showModal());
  $("keys-close").addEventListener("click", () => $("keys").close());
  $("shortcuts").addEventListener("change", () => memory.set("shortcuts", $("shortcuts").checked));
}

// --- keys

const SINGLE = {
  b: () => backdrop(BACKDROPS[(BACKDROPS.indexOf(root.dataset.backdrop) + 1) % BACKDROPS.length]),
  z: () => viewer.isOpen() && viewer.zoom(),
  d: () => $("theme").click(),
  f: () => viewer.isOpen() || state(wanted.state === "failed" ? "all" : "failed"),
  "/": () => viewer.isOpen() || openSearch(),
  "?": () => $("keys").showModal(),
};

function openSearch() {
  $("panel").open = true;
  $("search").focus();
}

function keydown(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const typing = event.target.matches("input:not([type=range], [type=radio], [type=checkbox]), select, textarea");
  if (!typing && $("shortcuts").checked) {
    const act = /^[1-9]$/.test(event.key) ? () => compare(views[event.key - 1]) : SINGLE[event.key.toLowerCase()];
    if (act) {
      act();
      event.preventDefault();
      return;
    }
  }
  if (viewer.isOpen()) return;
  const item = event.target.closest(".card");
  if (!item) return;
  if (event.target.matches("input")) {
    if (event.key === "Enter") viewer.open(current);
    return; // arrows move the slider
  }
  const at = visible.indexOf(current);
  const next = {
    ArrowLeft: () => visible[at - 1],
    ArrowRight: () => visible[at + 1],
    ArrowUp: () => inNextRow(current, -1),
    ArrowDown: () => inNextRow(current, 1),
    Home: () => visible[0],
    End: () => visible.at(-1),
  }[event.key]?.();
  if (next) {
    focusCard(next);
    event.preventDefault();
  }
}

build();
if (memory.get("colour")) $("colour").value = memory.get("colour");
root.style.setProperty("--colour", $("colour").value); // which takes colours alone
$("shortcuts").checked = memory.get("shortcuts") !== "false";
const system = matchMedia("(prefers-color-scheme: dark)");
const scheme = () => dark(memory.get("theme") ? memory.get("theme") === "dark" : system.matches);
system.addEventListener("change", scheme);
scheme();
backdrop(BACKDROPS.includes(memory.get("backdrop")) ? memory.get("backdrop") : "checker");
if (matchMedia("(max-width: 44rem)").matches) $("panel").open = false;

await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted))); // hundreds of cards can wait a moment
for (const photo of photos) cards.set(photo, card(photo, viewer.open));
arrange();
if (current) rove(current);
if (view) compare(view);
else for (const [photo, item] of cards) fill(item.querySelector(".compare"), photo, "");
document.addEventListener("keydown", keydown);
performance.mark("usable");
root.dataset.ready = "true";
