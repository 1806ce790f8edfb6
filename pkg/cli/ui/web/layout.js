// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// The layout of the map: where the cells of a block lie. Each half of a range gets half of the area, so the areas are
// true, and what lies next to each other in the range stays at its place whatever is allocated.

import * as cidr from "./cidr.js";

/** @typedef {import("./api.js").Cell} Cell */
/** @typedef {import("./cidr.js").Block} Block */

/**
 * @typedef {object} Box a rectangle of the map
 * @property {number} x
 * @property {number} y
 * @property {number} w
 * @property {number} h
 * @property {"free"|"reserved"|"cooling"|"used"|"parent"|"summary"} kind
 * @property {number} depth the number of parents around it in the view
 * @property {Cell} cell
 * @property {Block} block
 * @property {number} [holder] the id of what holds it, or the parent of what nobody holds
 * @property {string} within the name of the parent that it is drawn in, or ""
 */

/**
 * The kinds of boxes that nobody holds, by their cells.
 * @type {["free", "reserved", "cooling"]}
 */
export const vacant = ["free", "reserved", "cooling"];

/**
 * Reports whether nobody holds a box.
 * @param {Box} box
 */
export function isVacant(box) {
  return box.kind === "free" || box.kind === "reserved" || box.kind === "cooling";
}

/** The height of the line with the name of a parent. */
export const headHeight = 19;

/**
 * Returns the boxes of a block in a rectangle, parents before what lies in them.
 * @param {Cell} cell
 * @param {Block} block
 * @param {{x: number, y: number, w: number, h: number}} area
 * @param {number} holder the id of the node of the block
 * @param {string} within the name of that node, or "" if it is drawn itself
 * @returns {Box[]}
 */
export function layout(cell, block, area, holder, within) {
  /** @type {Box[]} */
  const boxes = [];
  place(boxes, cell, block, area.x, area.y, area.w, area.h, 0, holder, within);
  return boxes;
}

/**
 * @param {Box[]} boxes
 * @param {Cell} cell
 * @param {Block} block
 * @param {number} x
 * @param {number} y
 * @param {number} w
 * @param {number} h
 * @param {number} depth
 * @param {number} holder
 * @param {string} within
 */
function place(boxes, cell, block, x, y, w, h, depth, holder, within) {
  if (typeof cell === "number") {
    boxes.push({ x, y, w, h, kind: vacant[cell], depth, cell, block, holder, within });
    return;
  }
  if (Array.isArray(cell)) {
    if (w >= h) {
      place(boxes, cell[0], cidr.half(block, 0), x, y, w / 2, h, depth, holder, within);
      place(boxes, cell[1], cidr.half(block, 1), x + w / 2, y, w / 2, h, depth, holder, within);
    } else {
      place(boxes, cell[0], cidr.half(block, 0), x, y, w, h / 2, depth, holder, within);
      place(boxes, cell[1], cidr.half(block, 1), x, y + h / 2, w, h / 2, depth, holder, within);
    }
    return;
  }
  if ("c" in cell) {
    boxes.push({ x, y, w, h, kind: "summary", depth, cell, block, holder: cell.i, within });
    return;
  }
  const inside = cell.m;
  boxes.push({ x, y, w, h, kind: cell.p ? "parent" : "used", depth, cell, block, holder: cell.i, within });
  if (inside === undefined || w < 8 || h < 8) return;
  const head = hasHead(w, h) ? headHeight : 0;
  const edge = Math.min(w, h) > 40 ? 4 : Math.min(w, h) > 16 ? 2 : 1;
  place(boxes, inside, block, x + edge, y + (head || edge), w - 2 * edge, h - (head || edge) - edge, depth + 1, cell.i, cell.n ?? "");
}

/**
 * Reports whether a parent of a size has a line with its name.
 * @param {number} w
 * @param {number} h
 */
export function hasHead(w, h) {
  return w >= 70 && h >= 48;
}

/**
 * Returns the innermost box at a point.
 * @param {Box[]} boxes
 * @param {number} x
 * @param {number} y
 */
export function hit(boxes, x, y) {
  for (let i = boxes.length - 1; i >= 0; i--) {
    const b = boxes[i];
    if (x >= b.x && y >= b.y && x < b.x + b.w && y < b.y + b.h) return b;
  }
  return undefined;
}

/**
 * Returns the rectangle around the boxes of a block, or its part of the box that holds it.
 * @param {Box[]} boxes
 * @param {Block} block
 */
export function areaOf(boxes, block) {
  /** @type {Box|undefined} */
  let around;
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const b of boxes) {
    if (cidr.contains(block, b.block)) {
      [left, top] = [Math.min(left, b.x), Math.min(top, b.y)];
      [right, bottom] = [Math.max(right, b.x + b.w), Math.max(bottom, b.y + b.h)];
    } else if (cidr.contains(b.block, block)) {
      around = b;
    }
  }
  if (left < right) return { x: left, y: top, w: right - left, h: bottom - top };
  if (around === undefined) return undefined;
  let { x, y, w, h, block: at } = around;
  while (at.bits < block.bits) {
    const which = cidr.contains(cidr.half(at, 0), block) ? 0 : 1;
    at = cidr.half(at, which);
    if (w >= h) [x, w] = [x + (which * w) / 2, w / 2];
    else [y, h] = [y + (which * h) / 2, h / 2];
  }
  return { x, y, w, h };
}

/**
 * Returns the nearest box in a direction, or undefined.
 * @param {Box[]} boxes
 * @param {Box} from
 * @param {number} dx -1, 0 or 1
 * @param {number} dy -1, 0 or 1
 */
export function neighbour(boxes, from, dx, dy) {
  const [cx, cy] = [from.x + from.w / 2, from.y + from.h / 2];
  let best;
  let least = Infinity;
  for (const b of boxes) {
    if (b === from) continue;
    // How far the nearest edge is in the direction, and how far off it to the side.
    const ahead = dx > 0 ? b.x - (from.x + from.w) : dx < 0 ? from.x - (b.x + b.w) : dy > 0 ? b.y - (from.y + from.h) : from.y - (b.y + b.h);
    if (ahead < -1) continue;
    const aside = dx !== 0 ? Math.max(0, b.y - cy, cy - (b.y + b.h)) : Math.max(0, b.x - cx, cx - (b.x + b.w));
    const distance = Math.max(0, ahead) + 4 * aside;
    if (distance < least) [best, least] = [b, distance];
  }
  return best;
}
