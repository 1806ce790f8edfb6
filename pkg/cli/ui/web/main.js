// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// The page: it holds the place and the filters, which are in the URL, and asks for what they show whenever the server says
// that something changed.

import { ask, follow, oneAtATime } from "./api.js";
import * as cidr from "./cidr.js";
import { age, byId, count, h, percent, plural, quote, replace, say } from "./dom.js";
import { isVacant } from "./layout.js";
import { AddressMap, fonts, words } from "./map.js";
import { showDetails, showVacant, showHistory, showNumbers, showWaiting } from "./panels.js";
import { Tree } from "./tree.js";

/** @typedef {import("./api.js").State} State */
/** @typedef {import("./api.js").BlockMap} BlockMap */
/** @typedef {import("./api.js").Overview} Overview */
/** @typedef {import("./api.js").Details} Details */
/** @typedef {import("./layout.js").Box} Box */
/** @typedef {import("./cidr.js").Block} Block */

/** @typedef {{in: string, name: string, block: string}} Place where name is empty for the overview */
/** @typedef {{q: string, namespace: string, state: string, labels: string}} Filter */

/** @type {Place} */
let place = { in: "", name: "", block: "" };
/** @type {Filter} */
let filter = { q: "", namespace: "", state: "", labels: "" };
/** @type {{id: number}|{vacant: Block, kind: Box["kind"], holder: number}|undefined} what is selected: a node, or a range that nobody holds */
let selected;
/** @type {State|undefined} */
let state;
/** @type {BlockMap|undefined} */
let shown;
let moved = true;
let rowsOfWaiting = 50;
/** @type {Map<number, Promise<Details>>} */
let detailsOf = new Map();

const tip = byId("tip");

// The place and the filters in the URL: #/NAMESPACE/NAME/ADDRESS/BITS?q=...

function readHash() {
  const [path, query] = location.hash.slice(1).split("?");
  const parts = path.split("/").slice(1).map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  const parameters = new URLSearchParams(query ?? "");
  const get = (/** @type {string} */ name) => parameters.get(name) ?? "";
  place = { in: parts[0] ?? "", name: parts[1] ?? "", block: parts[2] && parts[3] ? parts[2] + "/" + parts[3] : "" };
  filter = { q: get("q"), namespace: get("namespace"), state: get("state"), labels: get("labels") };
}

/**
 * @param {Place} p
 * @param {Filter} f
 */
function hashOf(p, f) {
  const path = p.name === "" ? "/" : "/" + encodeURIComponent(p.in) + "/" + encodeURIComponent(p.name) + (p.block ? "/" + p.block : "");
  const query = new URLSearchParams(Object.entries(f).filter(([, value]) => value !== "")).toString();
  return "#" + path + (query ? "?" + query : "");
}

/**
 * Goes to a place.
 * @param {Place} p
 * @param {boolean} [keep] whether what is selected stays so
 */
function go(p, keep = false) {
  if (!keep) selected = undefined;
  place = p;
  moved = true;
  const hash = hashOf(place, filter);
  if (hash !== location.hash) history.pushState(null, "", hash);
  void refresh();
}

/** Applies the filters that are in the fields. */
function applyFilter() {
  filter = { q: value("search"), namespace: value("namespace"), state: value("state"), labels: value("labels") };
  history.replaceState(null, "", hashOf(place, filter));
  rowsOfWaiting = 50;
  tree.element.scrollTop = 0;
  void refresh();
}

/** @param {string} id */
function value(id) {
  return /** @type {HTMLInputElement|HTMLSelectElement} */ (/** @type {unknown} */ (byId(id))).value.trim();
}

/**
 * @param {string} id
 * @param {string} text
 */
function setValue(id, text) {
  const field = /** @type {HTMLInputElement|HTMLSelectElement} */ (/** @type {unknown} */ (byId(id)));
  if (document.activeElement !== field) field.value = text;
}

const tree = new Tree(
  byId("tree"),
  (from, count, open, show) => ask("tree", { ...filter, from, count, open, show }),
  (row) => {
    selected = { id: Number(row.id) };
    if (row.cidr !== undefined) go({ in: row.namespace, name: row.name ?? "", block: "" }, true);
    else void refreshDetails();
  },
);

export const map = new AddressMap({
  zoom: (block, holder) => {
    const tile = map.scene?.tiles.find((t) => cidr.contains(t.block, block) && (holder === undefined || inTile(t.tile.id, holder, block)));
    if (shown === undefined && tile === undefined) return;
    const node = shown ? shown.path[0] : tile?.tile;
    if (node === undefined) return;
    go({ in: node.namespace, name: node.name, block: cidr.format(block) });
  },
  out: () => {
    if (shown === undefined) return;
    const node = shown.path[shown.path.length - 1];
    if (shown.block !== node.cidr) go({ in: node.namespace, name: node.name, block: "" });
    else if (shown.path.length > 1) goTo(shown.path[shown.path.length - 2]);
    else go({ in: "", name: "", block: "" });
  },
  widen: (block, bits) => {
    if (shown === undefined) return;
    const root = shown.path[0];
    const node = shown.path[shown.path.length - 1];
    const least = cidr.parse(root.cidr ?? "").bits;
    if (block.bits === least) {
      go({ in: "", name: "", block: "" });
      return;
    }
    const own = cidr.parse(node.cidr ?? "").bits;
    const wanted = Math.max(least, block.bits - bits, block.bits > own ? own : 0);
    go({ in: root.namespace, name: root.name, block: cidr.format(cidr.around(block, wanted)) });
  },
  select: (box) => {
    if (isVacant(box) && box.holder !== undefined) {
      selected = { vacant: box.block, kind: box.kind, holder: box.holder };
    } else if (box.holder !== undefined) selected = { id: box.holder };
    map.ring = ringOf();
    map.redraw();
    say(words(box));
    void refreshDetails();
  },
  hover: (box, x, y) => void hover(box, x, y),
});

/**
 * @param {number} root
 * @param {number} holder
 * @param {Block} block
 */
function inTile(root, holder, block) {
  return root === holder || map.scene?.boxes.some((b) => b.holder === holder && b.block.value === block.value) === true;
}

/** @param {import("./api.js").Reference} node */
function goTo(node) {
  go({ in: node.namespace, name: node.name, block: "" });
}

/** Returns what the map draws a ring around. */
function ringOf() {
  if (selected === undefined) return undefined;
  return "id" in selected ? { id: selected.id } : { block: selected.vacant };
}

// The tip beside the pointer or the keyboard.

let hovered = 0;

/**
 * @param {Box|undefined} box
 * @param {number} x
 * @param {number} y
 */
async function hover(box, x, y) {
  const run = ++hovered;
  if (box === undefined) {
    tip.hidden = true;
    return;
  }
  const range = cidr.format(box.block);
  /** @type {(lines: import("./dom.js").Child[]) => void} */
  const put = (lines) => {
    tip.replaceChildren(...lines.map((line) => (line instanceof Node ? line : h("div", {}, line))));
    tip.hidden = false;
    const r = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - r.width - 8)) + "px";
    tip.style.top = (y + 18 + r.height > innerHeight ? Math.max(8, y - r.height - 12) : y + 18) + "px";
  };
  const cell = box.cell;
  const head = h("div", { class: "mono range" }, range);
  if (typeof cell === "number" || Array.isArray(cell)) {
    put([head, h("div", { class: "kind" }, box.kind), cidr.size(box.block)]);
    return;
  }
  if ("c" in cell && cell.c > 1) {
    put([head, h("div", { class: "kind used" }, plural(cell.c, "Prefix", "Prefixes") + ", " + percent(cell.u) + " used"), "Click to zoom in"]);
    return;
  }
  const id = /** @type {number} */ (cell.i);
  const name = cell.n;
  put([head, name ? h("div", { class: "name" }, name) : null]);
  try {
    const d = await details(id);
    if (run !== hovered) return;
    put([
      h("div", { class: "mono range" }, d.cidr ?? range),
      h("div", { class: "name" }, d.name),
      line("namespace", d.namespace),
      d.owner ? line("owner", d.owner) : null,
      d.created > 0 ? line("age", age(d.created)) : null,
      d.children > 0 ? line("used", percent(d.used) + ", " + plural(d.children, "child", "children")) : null,
      d.state === "deleting" ? h("div", { class: "kind deleting" }, "is being deleted") : null,
    ]);
  } catch {
    // It went while the pointer was on it. The next picture is without it.
  }
}

/**
 * @param {string} term
 * @param {string} text
 */
function line(term, text) {
  return h("div", {}, h("span", { class: "term" }, term + " "), text);
}

/**
 * Returns the details of a node, which are asked for once in a revision.
 * @param {number} id
 * @returns {Promise<Details>}
 */
function details(id) {
  let answer = detailsOf.get(id);
  if (answer === undefined) {
    answer = ask("node", { id });
    answer.catch(() => detailsOf.delete(id));
    detailsOf.set(id, answer);
  }
  return answer;
}

// What is asked for when something changed.

const refreshMap = oneAtATime(async () => {
  const asked = place;
  let answer;
  try {
    answer = await ask("map", { ...filter, in: asked.name ? asked.in : undefined, name: asked.name, block: asked.block, bits: map.bits() });
  } catch (e) {
    if (asked !== place) return;
    shown = undefined;
    head(undefined);
    nothing(state?.phase === "reading" ? empty() : e instanceof Error ? e.message : String(e));
    return;
  }
  if (asked !== place) return;
  const wasMoved = moved;
  moved = false;
  nothing("tiles" in answer && answer.tiles.length === 0 ? empty() : "");
  if ("tiles" in answer) {
    shown = undefined;
  } else {
    shown = /** @type {BlockMap} */ (answer);
    const node = shown.path[shown.path.length - 1];
    // The URL names the innermost Prefix, or the one whose surroundings are shown.
    if (shown.leaf === undefined || asked.block !== "") {
      place = { in: node.namespace, name: node.name, block: shown.block === node.cidr ? "" : shown.block };
    }
    if (wasMoved) {
      history.replaceState(null, "", hashOf(place, filter));
      if (shown.leaf !== undefined) selected ??= { id: shown.leaf };
      void reveal(shown);
    }
  }
  map.ring = ringOf();
  map.show(answer, wasMoved);
  head(answer);
});

/**
 * Opens the tree down to the place.
 * @param {BlockMap} answer
 */
async function reveal(answer) {
  const path = answer.path;
  const leaf = selected !== undefined && "id" in selected ? selected.id : path[path.length - 1].id;
  for (const node of path) tree.open.add(String(node.id));
  tree.open.add("ns:" + path[0].namespace);
  tree.chosen = String(leaf);
  tree.at = tree.chosen;
  await tree.refresh(tree.chosen);
}

/** Reports whether a filter is set. */
function filtered() {
  return Object.values(filter).some((f) => f !== "");
}

function empty() {
  if (state?.phase === "reading") return "Reading the cluster…";
  if (filtered()) return "Nothing matches the filter.";
  return "There are no Prefixes here yet.";
}

/** @param {string} text */
function nothing(text) {
  byId("nothing").textContent = text;
  byId("nothing").hidden = text === "";
  byId("map").classList.toggle("void", text !== "");
}

/**
 * Shows the breadcrumb and the title.
 * @param {BlockMap|Overview|undefined} answer undefined if there is no such place
 */
function head(answer) {
  const crumbs = byId("crumbs");
  /** @type {[string, Place][]} */
  const steps = [["All", { in: "", name: "", block: "" }]];
  byId("out").hidden = answer === undefined || "tiles" in answer;
  if (answer === undefined || "tiles" in answer) replace(byId("numbers"));
  if (answer === undefined) {
    steps.push([place.name, place]);
    byId("title").textContent = place.name;
    byId("subtitle").textContent = "in " + place.in;
    document.title = place.name;
  } else if (!("tiles" in answer)) {
    for (const node of answer.path) steps.push([node.name, { in: node.namespace, name: node.name, block: "" }]);
    const node = answer.path[answer.path.length - 1];
    if (answer.block !== node.cidr) steps.push([answer.block, place]);
    byId("title").textContent = answer.block !== node.cidr ? answer.block : node.name;
    byId("subtitle").textContent = answer.block !== node.cidr ? "of " + node.name + " in " + node.namespace : (node.cidr ?? "") + " in " + node.namespace;
    byId("map").setAttribute("aria-label", "Address map of " + answer.block);
    document.title = answer.block + " · " + node.name;
  } else {
    byId("title").textContent = "Address space";
    byId("subtitle").textContent = answer.tiles.length > 0 ? plural(answer.tiles.length + answer.more, "root", "roots") + ", drawn at equal size" + (answer.more > 0 ? `; ${count(answer.more)} are left out: use the filter` : "") : "";
    byId("map").setAttribute("aria-label", "Address maps of all roots");
    document.title = "Address space";
  }
  const items = steps.map(([name, to], i) => {
    const last = i === steps.length - 1;
    const link = h("a", { href: hashOf(to, filter), "aria-current": last ? "page" : null }, name);
    link.addEventListener("click", (e) => {
      if (e.ctrlKey || e.metaKey || e.shiftKey) return;
      e.preventDefault();
      go(to);
    });
    return h("li", {}, link);
  });
  replace(crumbs, ...items);
}

const refreshDetails = oneAtATime(async () => {
  const element = byId("details");
  const node = shown?.path[shown.path.length - 1];
  try {
    const of = node ? await details(node.id) : undefined;
    if (of && shown) showNumbers(byId("numbers"), of, cidr.parse(shown.block));
    if (selected !== undefined && "vacant" in selected) {
      const { vacant, kind, holder } = selected;
      showVacant(element, vacant, kind, await details(holder), kind === "free" ? [] : await ask(kind, { id: holder, block: cidr.format(vacant) }));
    } else if (selected !== undefined) {
      showDetails(element, await details(selected.id));
    } else if (of) {
      showDetails(element, of);
    } else {
      replace(element, h("p", { class: "empty" }, "Choose a Prefix in the tree or on the map."));
    }
    const history = of ? of.history : (await ask("node")).history;
    if (of) showHistory(byId("usage"), history, percent, of.name + ":");
    else showHistory(byId("usage"), history, (n) => plural(Math.round(n), "Prefix", "Prefixes"), "All:");
  } catch (e) {
    replace(element, h("p", { class: "empty" }, e instanceof Error ? e.message : String(e)));
  }
});

const refreshWaiting = oneAtATime(async () => {
  const waiting = await ask("waiting", { ...filter, count: rowsOfWaiting });
  byId("waiting-title").textContent = waiting.total > 0 ? `Waiting (${count(waiting.total)})` : "Waiting";
  showWaiting(
    byId("waiting"),
    waiting,
    filtered(),
    (wait) => {
      selected = { id: wait.id };
      tree.chosen = tree.at = String(wait.id);
      if (wait.parent?.cidr) go({ in: wait.parent.namespace, name: wait.parent.name, block: "" }, true);
      else void refreshDetails();
    },
    () => {
      rowsOfWaiting = Math.min(rowsOfWaiting + 100, 500);
      void refreshWaiting();
    },
  );
});

const refreshTree = oneAtATime(async () => {
  try {
    await tree.refresh();
    byId("found").textContent = filtered() ? plural(tree.matches, "match", "matches") : "";
    byId("filter-problem").hidden = true;
  } catch (e) {
    byId("filter-problem").textContent = e instanceof Error ? e.message : String(e);
    byId("filter-problem").hidden = false;
  }
});

const refreshNamespaces = oneAtATime(async () => {
  /** @type {string[]} */
  const names = await ask("namespaces");
  const select = /** @type {HTMLSelectElement} */ (/** @type {unknown} */ (byId("namespace")));
  const have = [...select.options].slice(1).map((o) => o.value);
  if (have.join("\n") !== names.join("\n")) select.replaceChildren(h("option", { value: "" }, "all"), ...names.map((n) => h("option", { value: n }, n)));
  setValue("namespace", filter.namespace);
});

async function refresh() {
  detailsOf = new Map();
  legend();
  try {
    await Promise.all([refreshTree(), refreshMap().then(refreshDetails), refreshWaiting(), refreshNamespaces()]);
  } catch {
    // The server does not answer. The state says so, and what is shown stays until it answers again.
  }
}

function legend() {
  const entries = [["used", "used"], ["some", "partly used"], ["free", "free"], ["reserved", "reserved"], ["cooling", "cooling"], ["waiting", "waiting"], ["deleting", "being deleted"]];
  replace(byId("legend"), ...entries.map(([kind, name]) => h("li", {}, h("span", { class: "swatch " + kind }), name)));
}

/** @param {State|null} now */
function changed(now) {
  const status = byId("status");
  const problem = byId("problem");
  if (now === null) {
    status.className = "status lost";
    status.textContent = "disconnected";
    problem.textContent = "kubectl ipam ui does not answer. If it has ended, start it again and open the new URL.";
    problem.hidden = false;
    return;
  }
  const same = state?.revision === now.revision && state.phase === now.phase;
  state = now;
  const phases = { live: "live", reading: "reading", lost: "reconnecting", forbidden: "no access" };
  if (status.textContent !== phases[now.phase]) status.textContent = phases[now.phase];
  status.className = "status " + now.phase;
  problem.textContent = now.problem ? (now.phase === "lost" ? "The connection to the cluster is lost; what is shown may be old. " : "") + now.problem : "";
  problem.hidden = !now.problem;
  byId("cluster").textContent = now.cluster + (now.scope ? " · " + now.scope : "");
  byId("totals").textContent = plural(now.prefixes + now.allocations, "Prefix", "Prefixes") + (now.phase === "reading" ? " so far" : "");
  if (!same) void soon();
}

let refreshing = false;
let again = false;

/** Refreshes what is shown, and rests three times as long as that took before it does so again. */
async function soon() {
  again = true;
  if (refreshing) return;
  refreshing = true;
  while (again) {
    again = false;
    const start = performance.now();
    await refresh();
    const rest = 3 * (performance.now() - start);
    await new Promise((done) => setTimeout(done, rest));
  }
  refreshing = false;
}

// The fields and buttons.

let typing = 0;
for (const id of ["search", "labels"]) {
  byId(id).addEventListener("input", () => {
    clearTimeout(typing);
    typing = window.setTimeout(applyFilter, 150);
  });
}
for (const id of ["namespace", "state"]) byId(id).addEventListener("change", applyFilter);
byId("search").addEventListener("keydown", (e) => {
  if (e.key === "ArrowDown") {
    e.preventDefault();
    tree.element.focus();
  }
});
byId("filters-button").addEventListener("click", () => {
  const filters = byId("filters");
  filters.hidden = !filters.hidden;
  byId("filters-button").setAttribute("aria-expanded", String(!filters.hidden));
});
byId("out").addEventListener("click", () => map.actions.out());
byId("share").addEventListener("click", async () => {
  const text = "kubectl ipam ui " + quote(hashOf(place, filter));
  await navigator.clipboard.writeText(text);
  byId("share").textContent = "Copied";
  say("Copied: " + text);
  setTimeout(() => (byId("share").textContent = "Copy link"), 1500);
});

const systemIsDark = "(prefers-color-scheme: dark)";
const themes = [
  { name: "as the system", darkIf: systemIsDark },
  { name: "light", darkIf: "not all" },
  { name: "dark", darkIf: "all" },
];
let theme = 0;
byId("theme").addEventListener("click", () => {
  theme = (theme + 1) % themes.length;
  const { name, darkIf } = themes[theme];
  byId("dark").setAttribute("media", darkIf);
  byId("theme").setAttribute("aria-label", "Colours: " + name);
  map.redraw();
});
matchMedia(systemIsDark).addEventListener("change", () => map.redraw());

let size = "";
new ResizeObserver(() => {
  const now = map.element.clientWidth + "×" + map.element.clientHeight;
  if (now === size) return;
  size = now;
  void refreshMap();
}).observe(map.element);

window.addEventListener("popstate", () => {
  readHash();
  selected = undefined;
  moved = true;
  fields();
  void refresh();
});

/** Shows the filters in the fields. */
function fields() {
  setValue("search", filter.q);
  setValue("state", filter.state);
  setValue("labels", filter.labels);
  if (filter.namespace || filter.state || filter.labels) {
    byId("filters").hidden = false;
    byId("filters-button").setAttribute("aria-expanded", "true");
  }
}

const style = getComputedStyle(document.documentElement);
fonts.text = style.getPropertyValue("--font").trim();
fonts.mono = style.getPropertyValue("--mono").trim();
readHash();
fields();
follow(changed);
// Ages grow.
setInterval(() => void refreshDetails(), 30_000);
