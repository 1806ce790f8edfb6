// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// The address map: a canvas with the cells of a block, which one zooms into.
//
// To those who do not see it, it is a list box with one option, the cell that the keyboard is at. The canvas is drawn
// once for each answer of the server; zooming moves the two pictures, of before and after, so that its cost does not
// depend on what they show.

import * as cidr from "./cidr.js";
import { byId, count, percent, plural } from "./dom.js";
import { areaOf, hasHead, headHeight, hit, isVacant, layout, neighbour } from "./layout.js";

/** @typedef {import("./layout.js").Box} Box */
/** @typedef {import("./cidr.js").Block} Block */
/** @typedef {import("./api.js").BlockMap} BlockMap */
/** @typedef {import("./api.js").Overview} Overview */
/** @typedef {import("./api.js").Tile} Tile */

/**
 * @typedef {object} Scene what is drawn
 * @property {Box[]} boxes
 * @property {Block|null} block null in the overview
 * @property {{x: number, y: number, w: number, h: number, tile: Tile, block: Block}[]} tiles the roots, in the overview
 * @property {{name: string, id: number, block: Block}[]} waiting
 * @property {HTMLCanvasElement} picture
 */

/**
 * @typedef {object} Actions what the map tells the page
 * @property {(block: Block, holder: number|undefined) => void} zoom
 * @property {() => void} out
 * @property {(block: Block, bits: number) => void} widen
 * @property {(box: Box) => void} select
 * @property {(box: Box|undefined, x: number, y: number) => void} hover
 */

/** The least area of a cell, in square pixels. */
const leastArea = 30;
/** The time that a zoom takes, in milliseconds. */
const zoomTime = 280;
/** The bits by which a step of the wheel zooms. */
const wheelBits = 2;

export class AddressMap {
  /** @param {Actions} actions */
  constructor(actions) {
    this.actions = actions;
    this.element = byId("map");
    this.canvas = /** @type {HTMLCanvasElement} */ (byId("picture"));
    this.cursor = byId("cursor");
    this.option = byId("option");
    /** @type {Scene|undefined} */
    this.scene = undefined;
    /** @type {Box|undefined} */
    this.at = undefined;
    /** @type {{id: number}|{block: Block}|undefined} what a ring is drawn around */
    this.ring = undefined;
    /** How far the wheel has turned since the last step, and when it last did. */
    this.wheel = 0;
    this.wheeled = 0;
    /** The number of the zoom that is going on, or 0. */
    this.moving = 0;
    this.zooms = 0;
    this.drawn = false;
    this.element.addEventListener("pointermove", (e) => this.hoverAt(e));
    this.element.addEventListener("pointerleave", () => this.actions.hover(undefined, 0, 0));
    this.element.addEventListener("click", (e) => this.click(e));
    this.element.addEventListener("wheel", (e) => this.turn(e), { passive: false });
    this.element.addEventListener("keydown", (e) => this.key(e));
    this.element.addEventListener("focus", () => this.byKeyboard() && this.moveTo(this.at ?? this.stops()[0], true));
    this.element.addEventListener("blur", () => {
      this.mark(undefined);
      this.actions.hover(undefined, 0, 0);
    });
  }

  /** Returns by how many bits the server should divide a block for this size of the map. */
  bits() {
    const { clientWidth: w, clientHeight: h } = this.element;
    return Math.max(1, Math.min(14, Math.floor(Math.log2((w * h) / leastArea))));
  }

  /**
   * Shows an answer of the server.
   * @param {BlockMap|Overview} answer
   * @param {boolean} moved whether the place is another one
   */
  show(answer, moved) {
    const before = this.scene;
    const scene = "tiles" in answer ? this.overview(answer) : this.blockScene(answer);
    this.scene = scene;
    this.draw(scene);
    if (!this.drawn && scene.boxes.length > 0) {
      this.drawn = true;
      performance.mark("first picture");
    }
    const at = this.at;
    this.at = at && !moved ? this.stops().find((b) => cidr.format(b.block) === cidr.format(at.block)) : undefined;
    this.at ??= this.stops()[0];
    this.describe(this.at);
    const focused = this.byKeyboard();
    if (moved) {
      this.mark(undefined);
      this.actions.hover(undefined, 0, 0);
      this.animate(before, scene, () => focused && this.mark(this.at));
      return;
    }
    if (!this.moving) this.paint(scene);
    if (focused) this.mark(this.at);
  }

  /**
   * @param {BlockMap} answer
   * @returns {Scene}
   */
  blockScene(answer) {
    const block = cidr.parse(answer.block);
    const node = answer.path[answer.path.length - 1];
    const area = { x: 0, y: 0, w: this.element.clientWidth, h: this.element.clientHeight };
    const waiting = answer.waiting.map((w) => ({ id: w.id, name: w.name, block: cidr.parse(w.cidr) }));
    return { boxes: layout(answer.cells, block, area, node.id, node.name), block, tiles: [], waiting, picture: document.createElement("canvas") };
  }

  /**
   * @param {Overview} answer
   * @returns {Scene}
   */
  overview(answer) {
    const { clientWidth: w, clientHeight: h } = this.element;
    const n = answer.tiles.length;
    const gap = n > 60 ? 4 : 10;
    let columns = 1;
    let best = 0;
    for (let c = 1; c <= n; c++) {
      // The grid whose tiles are largest, when they are one and a half times as wide as high.
      const size = Math.min(w / c, (1.5 * h) / Math.ceil(n / c));
      if (size > best) [columns, best] = [c, size];
    }
    const rows = Math.ceil(n / columns) || 1;
    const [tw, th] = [(w + gap) / columns - gap, Math.min((h + gap) / rows - gap, 420)];
    /** @type {Scene} */
    const scene = { boxes: [], block: null, tiles: [], waiting: [], picture: document.createElement("canvas") };
    answer.tiles.forEach((tile, i) => {
      const block = cidr.parse(tile.cidr ?? "");
      const area = { x: (i % columns) * (tw + gap), y: Math.floor(i / columns) * (th + gap), w: tw, h: th };
      const cell = { i: tile.id, n: tile.name, u: tile.used, p: true, m: tile.cells };
      scene.boxes.push(...layout(cell, block, area, tile.id, ""));
      scene.tiles.push({ ...area, tile, block });
    });
    return scene;
  }

  /** Reports whether the map has the focus, and got it by the keyboard. */
  byKeyboard() {
    return this.element.matches(":focus-visible");
  }

  /** Returns the boxes that the keyboard stops at: the outermost ones, by address. */
  stops() {
    const depth = 0;
    return this.scene ? this.scene.boxes.filter((b) => b.depth === depth) : [];
  }

  /**
   * Paints a scene on the canvas.
   * @param {Scene} scene
   */
  paint(scene) {
    const { clientWidth: w, clientHeight: h } = this.element;
    const context = this.resize(this.canvas, w, h);
    context.clearRect(0, 0, w, h);
    context.drawImage(scene.picture, 0, 0, w, h);
  }

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {number} w
   * @param {number} h
   */
  resize(canvas, w, h) {
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("no canvas");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return context;
  }

  /**
   * Draws the picture of a scene.
   * @param {Scene} scene
   */
  draw(scene) {
    const { clientWidth: w, clientHeight: h } = this.element;
    const context = this.resize(scene.picture, w, h);
    const colours = palette();
    context.clearRect(0, 0, w, h);
    context.textBaseline = "middle";
    for (const b of scene.boxes) drawBox(context, b, colours);
    const ring = this.ringed(scene);
    if (ring !== undefined) {
      context.lineWidth = 3;
      context.strokeStyle = colours.ink;
      context.beginPath();
      context.roundRect(ring.x + 1.5, ring.y + 1.5, Math.max(ring.w - 3, 3), Math.max(ring.h - 3, 3), 3);
      context.stroke();
    }
    for (const wait of scene.waiting) {
      const area = areaOf(scene.boxes, wait.block);
      if (area === undefined) continue;
      context.save();
      context.beginPath();
      context.rect(area.x + 1, area.y + 1, Math.max(area.w - 2, 3), Math.max(area.h - 2, 3));
      context.clip();
      context.strokeStyle = colours.waiting;
      context.lineWidth = 2;
      for (let x = area.x - area.h; x < area.x + area.w; x += 9) {
        context.beginPath();
        context.moveTo(x, area.y + area.h);
        context.lineTo(x + area.h, area.y);
        context.stroke();
      }
      context.lineWidth = 4;
      context.strokeRect(area.x + 1, area.y + 1, Math.max(area.w - 2, 3), Math.max(area.h - 2, 3));
      context.restore();
      if (area.w > 80 && area.h > 34) label(context, wait.name + " waits", "", "", area.x + 10, area.y + area.h - 17, area.w - 20, colours.ink, colours.ink, colours.panel);
    }
  }

  /**
   * Returns the box that is selected.
   * @param {Scene} scene
   */
  ringed(scene) {
    const ring = this.ring;
    if (ring === undefined) return undefined;
    if ("id" in ring) return scene.boxes.find((b) => b.holder === ring.id && !isVacant(b));
    return scene.boxes.find((b) => b.block.value === ring.block.value && b.block.bits === ring.block.bits && isVacant(b));
  }

  /**
   * Moves from one scene to another: the smaller block grows out of its place in the larger one, or shrinks into it.
   * @param {Scene|undefined} before
   * @param {Scene} after
   * @param {() => void} done
   */
  animate(before, after, done) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const { clientWidth: w, clientHeight: h } = this.element;
    const full = { x: 0, y: 0, w, h };
    const [from, to, inward] = this.places(before, after);
    const run = ++this.zooms;
    this.moving = run;
    if (before === undefined || still || from === undefined || to === undefined) {
      this.moving = 0;
      this.paint(after);
      done();
      return;
    }
    const start = performance.now();
    const step = (/** @type {number} */ now) => {
      if (run !== this.moving) return;
      const t = Math.min(1, Math.max(0, (now - start) / zoomTime));
      const eased = 1 - (1 - t) ** 3;
      const context = this.resize(this.canvas, w, h);
      context.clearRect(0, 0, w, h);
      // The place of the smaller block on the canvas, now.
      const small = inward ? from : to;
      const p = inward ? eased : 1 - eased;
      const r = { x: small.x * (1 - p), y: small.y * (1 - p), w: small.w + (w - small.w) * p, h: small.h + (h - small.h) * p };
      const [outer, inner] = inward ? [before, after] : [after, before];
      const [sx, sy] = [r.w / small.w, r.h / small.h];
      context.globalAlpha = 1;
      context.drawImage(outer.picture, r.x - small.x * sx, r.y - small.y * sy, full.w * sx, full.h * sy);
      context.globalAlpha = inward ? eased : 1 - eased;
      context.drawImage(inner.picture, r.x, r.y, r.w, r.h);
      context.globalAlpha = 1;
      if (t < 1) {
        requestAnimationFrame(step);
        return;
      }
      this.moving = 0;
      if (this.scene) this.paint(this.scene);
      done();
    };
    requestAnimationFrame(step);
  }

  /**
   * Returns where the smaller of two scenes lies in the larger one.
   * @param {Scene|undefined} before
   * @param {Scene} after
   * @returns {[{x: number, y: number, w: number, h: number}|undefined, {x: number, y: number, w: number, h: number}|undefined, boolean]}
   */
  places(before, after) {
    const { clientWidth: w, clientHeight: h } = this.element;
    const full = { x: 0, y: 0, w, h };
    /** @type {(outer: Scene, inner: Scene) => {x: number, y: number, w: number, h: number}|undefined} */
    const find = (outer, inner) => {
      const block = inner.block;
      if (block === null || inner === outer) return undefined;
      if (outer.block === null) {
        const tile = outer.tiles.find((t) => cidr.contains(t.block, block));
        if (tile === undefined) return undefined;
        return areaOf(outer.boxes.filter((b) => hit([b], b.x, b.y) && b.x >= tile.x && b.y >= tile.y && b.x < tile.x + tile.w && b.y < tile.y + tile.h), block);
      }
      return cidr.contains(outer.block, block) ? areaOf(outer.boxes, block) : undefined;
    };
    if (before === undefined) return [undefined, undefined, true];
    const inside = find(before, after);
    if (inside !== undefined) return [inside, full, true];
    const outside = find(after, before);
    return [outside && full, outside, false];
  }

  /** Draws again, after the size or the colours changed. */
  redraw() {
    if (this.scene === undefined) return;
    this.draw(this.scene);
    this.moving = 0;
    this.paint(this.scene);
  }

  /** @param {MouseEvent} e */
  boxAt(e) {
    const r = this.element.getBoundingClientRect();
    return this.scene && hit(this.scene.boxes, e.clientX - r.left, e.clientY - r.top);
  }

  /** @param {PointerEvent} e */
  hoverAt(e) {
    const box = this.boxAt(e);
    this.mark(box);
    this.actions.hover(box, e.clientX, e.clientY);
  }

  /** @param {MouseEvent} e */
  click(e) {
    const box = this.boxAt(e);
    if (box === undefined || this.scene === undefined) return;
    const outer = this.scene.boxes.find((b) => b.depth === 0 && (b.kind === "parent" || b === box) && box.x >= b.x && box.y >= b.y && box.x < b.x + b.w && box.y < b.y + b.h);
    this.enter(outer ?? box, box);
  }

  /**
   * Zooms into a box, or selects it if there is nothing to see in it.
   * @param {Box} box the outermost one
   * @param {Box} inner the one that was meant
   */
  enter(box, inner = box) {
    if (box.kind === "parent") {
      this.actions.zoom(box.block, box.holder);
    } else if (box.kind === "summary") {
      this.actions.zoom(box.block, undefined);
    } else if (box.kind === "used" && Math.min(box.w, box.h) < 14 && this.scene?.block && this.scene.block.bits + 4 < box.block.bits) {
      this.actions.select(inner);
      this.actions.zoom(cidr.around(box.block, Math.max(this.scene.block.bits + 2, box.block.bits - 4)), undefined);
    } else {
      this.actions.select(inner);
    }
  }

  /** @param {WheelEvent} e */
  turn(e) {
    e.preventDefault();
    const now = performance.now();
    if (now - this.wheeled > 400) this.wheel = 0;
    this.wheeled = now;
    this.wheel += e.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? e.deltaY : e.deltaY * 40;
    if (this.moving || Math.abs(this.wheel) < 60) return;
    const inward = this.wheel < 0;
    this.wheel = 0;
    if (!inward) {
      this.zoomOut();
      return;
    }
    const box = this.boxAt(e);
    if (box !== undefined) this.zoomTowards(box);
  }

  /**
   * Zooms a step towards a box.
   * @param {Box} box
   */
  zoomTowards(box) {
    const scene = this.scene;
    if (scene === undefined) return;
    if (scene.block === null) {
      const tile = scene.tiles.find((t) => t.tile.id === box.holder || (box.x >= t.x && box.y >= t.y && box.x < t.x + t.w && box.y < t.y + t.h));
      if (tile !== undefined) this.actions.zoom(tile.block, tile.tile.id);
      return;
    }
    const bits = Math.min(scene.block.bits + wheelBits, box.kind === "used" ? box.block.bits - 1 : box.block.bits);
    if (bits > scene.block.bits) this.actions.zoom(cidr.around(box.block, bits), undefined);
  }

  /** Zooms out a step. */
  zoomOut() {
    if (this.scene?.block) this.actions.widen(this.scene.block, wheelBits);
  }

  /** @param {KeyboardEvent} e */
  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const stops = this.stops();
    const at = this.at ?? stops[0];
    const move = (/** @type {Box|undefined} */ box) => box && this.moveTo(box, true);
    switch (e.key) {
      case "ArrowLeft":
        move(at && neighbour(stops, at, -1, 0));
        break;
      case "ArrowRight":
        move(at && neighbour(stops, at, 1, 0));
        break;
      case "ArrowUp":
        move(at && neighbour(stops, at, 0, -1));
        break;
      case "ArrowDown":
        move(at && neighbour(stops, at, 0, 1));
        break;
      case "Home":
        move(stops[0]);
        break;
      case "End":
        move(stops[stops.length - 1]);
        break;
      case "Enter":
      case " ":
        if (at) this.enter(at);
        break;
      case "+":
      case "=":
        if (at) this.zoomTowards(at);
        break;
      case "-":
        this.zoomOut();
        break;
      case "Escape":
      case "Backspace":
        this.actions.out();
        break;
      default:
        return;
    }
    e.preventDefault();
  }

  /**
   * Moves the keyboard to a box.
   * @param {Box|undefined} box
   * @param {boolean} tell whether to show what it is
   */
  moveTo(box, tell) {
    this.at = box;
    this.mark(box);
    this.describe(box);
    if (tell && box) {
      const r = this.element.getBoundingClientRect();
      this.actions.hover(box, r.left + box.x + Math.min(box.w, 200) / 2, r.top + box.y + Math.min(box.h, 60));
    }
  }

  /**
   * Shows the frame around a box.
   * @param {Box|undefined} box
   */
  mark(box) {
    this.cursor.hidden = box === undefined;
    if (box === undefined) return;
    const style = this.cursor.style;
    style.left = box.x + "px";
    style.top = box.y + "px";
    style.width = Math.max(box.w, 4) + "px";
    style.height = Math.max(box.h, 4) + "px";
  }

  /**
   * Tells a screen reader what a box is.
   * @param {Box|undefined} box
   */
  describe(box) {
    const stops = this.stops();
    this.option.textContent = box ? words(box) : "Nothing is here.";
    this.option.setAttribute("aria-setsize", String(Math.max(1, stops.length)));
    this.option.setAttribute("aria-posinset", String(Math.max(1, box ? stops.indexOf(box) + 1 : 1)));
  }
}

/**
 * Returns what a box is, in words.
 * @param {Box} box
 */
export function words(box) {
  const range = cidr.format(box.block);
  const cell = box.cell;
  if (typeof cell === "number" || Array.isArray(cell)) return range + ", " + box.kind + ", " + cidr.size(box.block);
  if ("c" in cell) return `${range}, ${plural(cell.c, "Prefix", "Prefixes")}, ${percent(cell.u)} used`;
  const name = cell.n ? cell.n + ", " : "";
  return box.kind === "parent" ? `${name}${range}, ${percent(cell.u ?? 0)} used` : `${name}${range}, used`;
}

/** The colours of the map, from the style sheet. */
function palette() {
  const style = getComputedStyle(document.documentElement);
  const get = (/** @type {string} */ name) => style.getPropertyValue("--" + name).trim();
  return {
    used: get("used"),
    usedInk: get("used-ink"),
    free: get("free"),
    freeLine: get("free-line"),
    reserved: get("reserved"),
    cooling: get("cooling"),
    waiting: get("waiting"),
    deleting: get("deleting"),
    panel: get("panel"),
    ink: get("ink"),
    muted: get("muted"),
    nest: [get("nest-0"), get("nest-1"), get("nest-2")],
    nestLine: get("nest-line"),
    font: get("font"),
    mono: get("mono"),
  };
}

/** @typedef {ReturnType<typeof palette>} Palette */

/**
 * Returns a colour between two, given as #rrggbb.
 * @param {string} a
 * @param {string} b
 * @param {number} t 0 is a, 1 is b
 */
export function mix(a, b, t) {
  const part = (/** @type {string} */ c, /** @type {number} */ i) => parseInt(c.slice(1 + 2 * i, 3 + 2 * i), 16);
  return "#" + [0, 1, 2].map((i) => Math.round(part(a, i) + (part(b, i) - part(a, i)) * t).toString(16).padStart(2, "0")).join("");
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Box} b
 * @param {Palette} colours
 */
function drawBox(context, b, colours) {
  const cell = b.cell;
  const small = Math.min(b.w, b.h);
  const gap = small > 24 ? 1 : small > 5 ? 0.5 : 0;
  const radius = small > 40 ? 4 : small > 14 ? 2 : 0;
  const [x, y, w, h] = [b.x + gap, b.y + gap, b.w - 2 * gap, b.h - 2 * gap];
  const skipped = typeof cell === "object" && "x" in cell && cell.x === true;
  context.globalAlpha = skipped ? 0.22 : 1;
  context.beginPath();
  if (radius > 0) context.roundRect(x, y, w, h, radius);
  else context.rect(x, y, w, h);
  const parent = b.kind === "parent";
  const nested = parent && /** @type {import("./api.js").Held} */ (cell).m !== undefined && w >= 8 && h >= 8;
  const nest = colours.nest[Math.min(b.depth, colours.nest.length - 1)];
  if (isVacant(b)) context.fillStyle = colours.free;
  else if (b.kind === "summary") context.fillStyle = mix(colours.free, colours.used, 0.16 + 0.84 * Math.sqrt(/** @type {import("./api.js").Summary} */ (cell).u));
  else if (nested) context.fillStyle = nest;
  else if (parent) context.fillStyle = mix(nest, colours.used, 0.25 + 0.75 * (/** @type {import("./api.js").Held} */ (cell).u ?? 0));
  else context.fillStyle = colours.used;
  context.fill();
  if (b.kind === "reserved") hatch(context, x, y, w, h, colours.reserved, dots);
  if (b.kind === "cooling") hatch(context, x, y, w, h, colours.cooling, lines);
  if (isVacant(b) && small > 10) {
    context.strokeStyle = b.kind === "reserved" ? colours.reserved : b.kind === "cooling" ? colours.cooling : colours.freeLine;
    context.lineWidth = 1;
    context.stroke();
  }
  if (nested && small > 12) {
    context.strokeStyle = colours.nestLine;
    context.lineWidth = 1;
    context.stroke();
  }
  if (typeof cell === "object" && "d" in cell && cell.d === true && small > 6) {
    context.strokeStyle = colours.deleting;
    context.lineWidth = 2;
    context.setLineDash([4, 3]);
    context.strokeRect(x + 1, y + 1, w - 2, h - 2);
    context.setLineDash([]);
  }
  const range = cidr.format(b.block);
  if (nested && hasHead(b.w, b.h)) {
    const held = /** @type {import("./api.js").Held} */ (cell);
    headLine(context, held.n ?? "", b.within, range, percent(held.u ?? 0), x + 7, y + 1 + headHeight / 2, w - 14, colours);
  } else if (b.kind === "used" && w > 46 && h > 18) {
    const name = /** @type {import("./api.js").Held} */ (cell).n ?? "";
    label(context, name, b.within, h > 34 ? range : "", x + 7, y + (h > 34 ? 13 : h / 2 + 1), w - 12, colours.usedInk, colours.usedInk);
  } else if (b.kind === "parent" && !nested && w > 46 && h > 18) {
    label(context, /** @type {import("./api.js").Held} */ (cell).n ?? "", b.within, "", x + 7, y + h / 2 + 1, w - 12, colours.ink, colours.muted);
  } else if (isVacant(b) && w > 60 && h > 22) {
    const ink = b.kind === "free" ? colours.muted : colours.ink;
    label(context, "", "", range, x + 7, y + (h > 34 ? 13 : h / 2 + 1), w - 12, ink, ink);
    if (h > 46) {
      context.font = "11px " + fonts.text;
      context.fillText(b.kind, x + 7, y + 28);
    }
  } else if (b.kind === "summary" && w > 40 && h > 20) {
    const summary = /** @type {import("./api.js").Summary} */ (cell);
    const ink = summary.u > 0.35 ? colours.usedInk : colours.ink;
    label(context, summary.n ?? count(summary.c), b.within, "", x + 6, y + h / 2 + 1, w - 10, ink, ink);
  }
  context.globalAlpha = 1;
}

/**
 * Fills a rectangle with a pale colour, and a pattern of it where there is room.
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {number} w
 * @param {number} h
 * @param {string} colour
 * @param {(context: CanvasRenderingContext2D, x: number, y: number, w: number, h: number) => void} pattern
 */
function hatch(context, x, y, w, h, colour, pattern) {
  context.save();
  context.clip();
  const alpha = context.globalAlpha;
  context.globalAlpha = alpha * (Math.min(w, h) > 10 ? 0.2 : 0.7);
  context.fillStyle = colour;
  context.fillRect(x, y, w, h);
  if (Math.min(w, h) > 10) {
    context.globalAlpha = alpha * 0.4;
    pattern(context, x, y, w, h);
  }
  context.restore();
}

/**
 * Draws dots, for what is reserved.
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {number} w
 * @param {number} h
 */
function dots(context, x, y, w, h) {
  for (let row = 0; row * 6 < h; row++) {
    for (let at = x + (row % 2) * 3; at < x + w; at += 6) context.fillRect(at + 1, y + row * 6 + 2, 1.6, 1.6);
  }
}

/**
 * Draws level lines, for what cools down.
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {number} w
 * @param {number} h
 */
function lines(context, x, y, w, h) {
  for (let at = y + 3; at < y + h; at += 6) context.fillRect(x, at, w, 1.6);
}

/**
 * Writes a name and, below it or alone, a range.
 * @param {CanvasRenderingContext2D} context
 * @param {string} name
 * @param {string} within
 * @param {string} range
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {string} ink
 * @param {string} muted
 * @param {string} [ground] the colour behind the name
 */
function label(context, name, within, range, x, y, width, ink, muted, ground) {
  if (name !== "") {
    context.font = "600 12px " + fonts.text;
    const text = fitName(context, name, within, width);
    if (ground !== undefined) {
      context.fillStyle = ground;
      context.fillRect(x - 3, y - 9, context.measureText(text).width + 6, 18);
    }
    context.fillStyle = ink;
    context.fillText(text, x, y);
    y += 15;
  }
  if (range !== "") {
    context.font = "11px " + fonts.mono;
    context.fillStyle = muted;
    const length = range.slice(range.indexOf("/"));
    context.fillText(context.measureText(range).width <= width ? range : fit(context, length, width), x, y);
  }
}

/**
 * Writes the line at the head of a parent: its name, its range, and how much is used.
 * @param {CanvasRenderingContext2D} context
 * @param {string} name
 * @param {string} within
 * @param {string} range
 * @param {string} used
 * @param {number} x
 * @param {number} y
 * @param {number} width
 * @param {Palette} colours
 */
function headLine(context, name, within, range, used, x, y, width, colours) {
  context.font = "600 12px " + fonts.text;
  context.fillStyle = colours.ink;
  const shown = fitName(context, name, within, width);
  context.fillText(shown, x, y);
  let left = x + context.measureText(shown).width + 8;
  const right = x + width;
  context.font = "11px " + fonts.text;
  const usedWidth = context.measureText(used).width;
  context.fillStyle = colours.muted;
  if (right - usedWidth < left) return;
  context.fillText(used, right - usedWidth, y);
  context.font = "11px " + fonts.mono;
  if (right - usedWidth - 8 - left > context.measureText(range).width) context.fillText(range, left, y);
}

/** The fonts of the map. A canvas knows no variables of the style sheet. */
export const fonts = { text: "sans-serif", mono: "monospace" };

/**
 * Returns as much of a name as fits into a width. Children are often named after their parent, whose name says nothing
 * within it: it is left out where there is no room for it.
 * @param {CanvasRenderingContext2D} context
 * @param {string} name
 * @param {string} within the name of the parent
 * @param {number} width
 */
function fitName(context, name, within, width) {
  if (within !== "" && name.startsWith(within + "-") && context.measureText(name).width > width) name = "…" + name.slice(within.length + 1);
  return fit(context, name, width);
}

/**
 * Returns as much of a text as fits into a width.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} width
 */
function fit(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(text.slice(0, middle) + "…").width <= width) low = middle;
    else high = middle - 1;
  }
  return low === 0 ? "" : text.slice(0, low) + "…";
}

