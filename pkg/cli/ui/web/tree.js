// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// The tree of Prefixes. Only the rows that are visible are asked for and are elements of the page.

import { h, percent, replace } from "./dom.js";

/** @typedef {import("./api.js").Row} Row */
/** @typedef {import("./api.js").Rows} Rows */

/** The height of a row, in pixels; style.css has it, too. */
const rowHeight = 42;
/** The most that a browser makes an element high. */
const mostHeight = 12_000_000;
/** The rows that are drawn above and below the visible ones. */
const spare = 6;

export class Tree {
  /**
   * @param {HTMLElement} element the element with the role of a tree
   * @param {(from: number, count: number, open: string, show: string) => Promise<Rows>} load
   * @param {(row: Row) => void} choose
   */
  constructor(element, load, choose) {
    this.element = element;
    this.load = load;
    this.choose = choose;
    /** @type {Set<string>} */
    this.open = new Set();
    /** @type {Map<number, Row>} */
    this.rows = new Map();
    this.total = 0;
    this.matches = 0;
    /** The id of the row that is shown as chosen, and that of the row the keyboard is at. */
    this.chosen = "";
    this.at = "";
    this.space = h("div", { class: "space", role: "presentation" });
    this.element.append(this.space);
    this.element.addEventListener("scroll", () => this.scrolled());
    this.element.addEventListener("keydown", (e) => this.key(e));
    this.element.addEventListener("click", (e) => this.click(e));
    this.element.addEventListener("focus", () => this.draw());
    this.element.addEventListener("blur", () => this.draw());
    this.waiting = false;
    this.unfolded = false;
  }

  /** The number of pixels of the rows that a pixel of the scroll bar stands for. */
  get scale() {
    const [whole, view] = [this.total * rowHeight, this.element.clientHeight];
    return whole <= mostHeight ? 1 : (whole - view) / (mostHeight - view);
  }

  /** The index of the first row that is visible. */
  get first() {
    return Math.floor((this.element.scrollTop * this.scale) / rowHeight);
  }

  get visible() {
    return Math.ceil(this.element.clientHeight / rowHeight) + 1;
  }

  /**
   * Asks for what is visible, and shows it.
   * @param {string} [show] the id of a row to scroll to
   */
  async refresh(show = "") {
    const from = Math.max(0, this.first - spare);
    const answer = await this.load(from, this.visible + 2 * spare, [...this.open].join(","), show);
    if (this.first === 0 && answer.rows.length > 0 && this.unfold(answer.rows)) {
      await this.refresh(show);
      return;
    }
    this.total = answer.total;
    this.matches = answer.matches;
    this.rows = new Map(answer.rows.map((row, i) => [answer.from + i, row]));
    this.space.style.height = Math.min(this.total * rowHeight, mostHeight) + "px";
    if (show !== "" && answer.shown >= 0 && this.scrollTo(answer.shown)) {
      await this.refresh();
      return;
    }
    this.draw();
  }

  /**
   * Opens the namespaces when they are seen first, if they are few. It returns whether it did.
   * @param {Row[]} rows
   */
  unfold(rows) {
    if (this.unfolded || rows.some((row) => row.name !== undefined)) return false;
    this.unfolded = true;
    if (rows.length > 8) return false;
    for (const row of rows) this.open.add(row.id);
    return true;
  }

  /**
   * Scrolls until a row is visible. It returns whether it had to.
   * @param {number} index
   */
  scrollTo(index) {
    const first = this.first;
    const whole = Math.floor(this.element.clientHeight / rowHeight);
    if (index >= first && index < first + whole) return false;
    const top = index < first ? index : index - whole + 1;
    this.element.scrollTop = Math.max(0, (top * rowHeight) / this.scale);
    return true;
  }

  scrolled() {
    this.draw();
    if (this.waiting) return;
    this.waiting = true;
    setTimeout(() => {
      this.waiting = false;
      void this.refresh();
    }, 60);
  }

  /** Draws the rows that are there. */
  draw() {
    const focused = document.activeElement === this.element;
    const base = this.scale === 1 ? 0 : this.element.scrollTop - this.first * rowHeight;
    const rows = [...this.rows.entries()].map(([index, row]) => {
      const at = row.id === this.at;
      const element = this.row(row, at && focused);
      element.style.transform = `translateY(${index * rowHeight + base}px)`;
      return element;
    });
    replace(this.space, ...rows);
    const at = [...this.rows.values()].find((row) => row.id === this.at);
    if (at) this.element.setAttribute("aria-activedescendant", "row-" + at.id);
    else this.element.removeAttribute("aria-activedescendant");
    this.element.hidden = this.total === 0;
  }

  /**
   * @param {Row} row
   * @param {boolean} at
   */
  row(row, at) {
    const namespace = row.name === undefined;
    const chosen = row.id === this.chosen;
    const element = h("div", {
      id: "row-" + row.id,
      role: "treeitem",
      "aria-level": row.level,
      "aria-posinset": row.position,
      "aria-setsize": row.size,
      "aria-selected": String(chosen),
      "aria-expanded": row.children > 0 ? String(row.open) : null,
      class: "row" + (namespace ? " namespace" : "") + (at ? " at" : "") + (row.match || namespace ? "" : " aside") + " " + row.state,
      "data-key": row.id,
    });
    element.style.paddingLeft = 6 + (row.level - 1) * 16 + "px";
    const twist = h("span", { class: "twist" + (row.children > 0 ? (row.open ? " open" : " closed") : ""), "aria-hidden": "true" });
    if (namespace) {
      element.append(twist, h("span", { class: "lines" }, h("span", { class: "name" }, row.namespace), h("span", { class: "cidr" }, "namespace")));
      return element;
    }
    const lines = h("span", { class: "lines" }, h("span", { class: "name" }, row.name ?? ""), h("span", { class: "cidr" }, row.cidr ?? (row.asks ? "asks for " + row.asks : "waits")));
    element.append(twist, lines);
    if (row.closed && row.state === "used") element.append(h("span", { class: "badge closed" }, "closed"));
    if (row.state === "waiting") element.append(h("span", { class: "badge waiting" }, "waits"));
    else if (row.state === "deleting") element.append(h("span", { class: "badge deleting" }, "deleting"));
    if (row.state !== "waiting" && (row.children > 0 || row.level === 1 || row.used > 0)) {
      const bar = h("span", { class: "bar", "aria-hidden": "true" }, h("span", {}));
      const filled = /** @type {HTMLElement} */ (bar.firstChild);
      filled.style.width = Math.max(row.used * 100, row.used > 0 ? 3 : 0) + "%";
      element.append(h("span", { class: "usage" }, h("span", { class: "percent" }, percent(row.used), h("span", { class: "hidden" }, " used")), bar));
    }
    return element;
  }

  /** @param {MouseEvent} e */
  click(e) {
    const target = /** @type {HTMLElement} */ (e.target);
    const element = target.closest("[data-key]");
    const id = element?.getAttribute("data-key") ?? "";
    const row = [...this.rows.values()].find((r) => r.id === id);
    if (row === undefined) return;
    this.at = id;
    if (target.classList.contains("twist") || row.name === undefined) void this.toggle(row);
    else this.pick(row);
  }

  /** @param {Row} row */
  pick(row) {
    this.choose(row);
    this.draw();
  }

  /** @param {Row} row */
  async toggle(row) {
    if (row.children === 0) return;
    if (this.open.has(row.id)) this.open.delete(row.id);
    else this.open.add(row.id);
    await this.refresh();
  }

  /** @param {KeyboardEvent} e */
  async key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const found = [...this.rows.entries()].find(([, row]) => row.id === this.at) ?? [...this.rows.entries()].find(([index]) => index >= this.first);
    if (found === undefined) return;
    const [index, row] = found;
    const page = Math.max(1, this.visible - 2);
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page, Home: 0, End: this.total - 1 };
    if (e.key in steps) {
      e.preventDefault();
      await this.go(Math.min(Math.max(steps[e.key], 0), this.total - 1));
    } else if (e.key === "ArrowRight") {
      e.preventDefault();
      if (row.children > 0 && !row.open) await this.toggle(row);
      else if (row.open) await this.go(index + 1);
    } else if (e.key === "ArrowLeft") {
      e.preventDefault();
      if (row.open && this.open.has(row.id)) await this.toggle(row);
      else if (row.level > 1) await this.go(index - row.position);
    } else if (e.key === "Enter" || e.key === " ") {
      e.preventDefault();
      if (row.name === undefined) await this.toggle(row);
      else this.pick(row);
    }
  }

  /**
   * Moves the keyboard to a row.
   * @param {number} index
   */
  async go(index) {
    if (this.scrollTo(index) || !this.rows.has(index)) await this.refresh();
    const row = this.rows.get(index);
    if (row === undefined) return;
    this.at = row.id;
    this.draw();
  }
}
