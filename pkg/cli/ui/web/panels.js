// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// What is beside and below the map: the details of one Prefix, what waits and why, and the usage over this session.

import { age, command, copyButton, count, decimal, h, percent, plural, quote, replace, s } from "./dom.js";
import * as cidr from "./cidr.js";

/** @typedef {import("./api.js").Details} Details */
/** @typedef {import("./api.js").Waiting} Waiting */
/** @typedef {import("./api.js").Wait} Wait */
/** @typedef {import("./api.js").Keeper} Keeper */
/** @typedef {import("./cidr.js").Block} Block */

/**
 * Returns a list of terms and what they are, without those that are empty.
 * @param {[string, import("./dom.js").Child][]} pairs
 */
function terms(pairs) {
  const list = h("dl", {});
  for (const [term, value] of pairs) {
    if (value === "" || value === undefined || value === null) continue;
    list.append(h("div", {}, h("dt", {}, term), h("dd", {}, value)));
  }
  return list;
}

/**
 * Returns a date as the list of details shows it.
 * @param {number} at in milliseconds
 */
function since(at) {
  if (at <= 0) return "";
  return h("time", { datetime: new Date(at).toISOString(), title: new Date(at).toLocaleString() }, age(at));
}

/**
 * Shows what is known of a node.
 * @param {HTMLElement} element
 * @param {Details} d
 */
export function showDetails(element, d) {
  const name = quote(d.name);
  const where = "-n " + quote(d.namespace);
  const parent = d.path.length > 1 ? d.path[d.path.length - 2] : undefined;
  const kind = d.state !== "used" ? d.state : d.closed ? "closed" : "";
  /** @type {Record<string, string>} */
  const badges = { waiting: "waits", deleting: "being deleted", closed: "closed" };
  const badge = kind === "" ? null : h("span", { class: "badge " + kind }, badges[kind]);
  const commands = [];
  if (d.kind === "Prefix" && d.state === "waiting") commands.push(command(`kubectl ipam why ${name} ${where}`, "why it waits"));
  if (d.kind === "Prefix" && d.state !== "waiting") {
    commands.push(command(`kubectl ipam show ${name} ${where}`, "show it"));
    const length = d.usage?.largestFree ?? (d.children === 0 && d.cidr ? "/" + Math.min(cidr.parse(d.cidr).bits + 1, cidr.parse(d.cidr).width) : undefined);
    if (d.closed) {
      commands.push(command(`kubectl ipam open ${name} ${where}`, "open it"));
    } else if (length !== undefined && /^\/\d+$/.test(length)) {
      const allowed = Math.max(Number(length.slice(1)), d.min ?? 0);
      if (allowed <= (d.max || allowed)) commands.push(command(`kubectl ipam claim --from ${name} --length ${allowed} ${where}`, "claim a part of it"));
    }
  }
  replace(
    element,
    h("h3", { title: d.name }, d.name, badge),
    terms([
      ["Range", d.cidr ? h("span", { class: "mono" }, d.cidr) : d.asks ? h("span", {}, "asks for ", h("span", { class: "mono" }, d.asks)) : ""],
      ["Kind", d.kind === "Prefix" ? "" : d.kind],
      ["Namespace", d.namespace],
      ["Parent", parent ? parent.name : d.state === "waiting" ? "" : "none, it is a root"],
      ["Owner", d.owner ?? ""],
      ["Age", since(d.created)],
      ["Reason", d.reason ?? ""],
      ["Why", d.state === "waiting" ? (d.message ?? "") : ""],
      ["Used", d.usage ? `${decimal(d.usage.used)} of ${decimal(d.usage.total)}` : ""],
      ["Reserved", d.usage?.reserved ? decimal(d.usage.reserved) : ""],
      ["Cooling", d.usage?.cooling ? decimal(d.usage.cooling) : ""],
      ["Largest free", d.usage?.largestFree ?? ""],
      ["Rules", d.rules.length > 0 ? h("ul", { class: "rules" }, ...d.rules.map((r) => h("li", {}, r))) : ""],
      ["Labels", d.labels.length > 0 ? h("span", { class: "labels" }, ...d.labels.map((l) => h("span", { class: "label" }, l))) : ""],
    ]),
    ...commands,
  );
}

/**
 * The titles of ranges that nobody holds, by kind, and what they mean.
 * @type {Record<string, string>}
 */
const titles = { free: "Free", reserved: "Reserved", cooling: "Cooling down" };
/** @type {Record<string, string>} */
const meanings = {
  free: "",
  reserved: "It is never chosen automatically. Who asks for exactly it gets it.",
  cooling: "It was released, and is kept for a Prefix of the same namespace and name.",
};

/**
 * Shows a range that nobody holds.
 * @param {HTMLElement} element
 * @param {Block} block
 * @param {string} kind free, reserved or cooling
 * @param {Details|undefined} parent
 * @param {({policy: string, reason: string}|Keeper)[]} why the policies that reserve it, or for whom it is kept
 */
export function showVacant(element, block, kind, parent, why) {
  const of = parent?.cidr ? cidr.parse(parent.cidr) : undefined;
  const length = of && of.bits === block.bits ? Math.min(block.bits + 1, block.width) : block.bits;
  replace(
    element,
    h("h3", {}, titles[kind]),
    terms([
      ["Range", h("span", { class: "mono" }, cidr.format(block))],
      ["Size", cidr.size(block)],
      ["Of", parent?.name ?? ""],
      ["Namespace", parent?.namespace ?? ""],
      ...why.flatMap((w) => /** @type {[string, import("./dom.js").Child][]} */ ("policy" in w ? [["Policy", w.policy + (w.reason ? ": " + w.reason : "")]] : keeperTerms(w, block))),
      ["Meaning", meanings[kind]],
    ]),
    ...why.map((w) => ("policy" in w || w.child === "" ? "" : command(`kubectl ipam release ${quote(w.child)} --now -n ${quote(w.namespace)}`, "release it now"))),
    kind === "cooling" ? "" : parent && length > (of?.bits ?? 0) ? command(`kubectl ipam claim --from ${quote(parent.name)} ${of && of.bits === block.bits ? "--length " + length : "--prefix " + cidr.format(block)} -n ${quote(parent.namespace)}`, "claim it") : "",
  );
}

/**
 * Returns what is known of a range that cools down.
 * @param {Keeper} keeper
 * @param {Block} block the range that is shown
 * @returns {[string, import("./dom.js").Child][]}
 */
function keeperTerms(keeper, block) {
  const until = new Date(keeper.until);
  return [
    ["Was", keeper.cidr === cidr.format(block) ? "" : h("span", { class: "mono" }, keeper.cidr)],
    ["Kept for", (keeper.child || "a Prefix that is not known") + " in " + keeper.namespace],
    ["Until", h("time", { datetime: until.toISOString() }, until.toLocaleString())],
  ];
}

/**
 * Shows the numbers of the place above the map.
 * @param {HTMLElement} element
 * @param {Details} d
 * @param {Block} block
 */
export function showNumbers(element, d, block) {
  const figure = (/** @type {string} */ value, /** @type {string} */ what, /** @type {string} */ kind = "") => h("div", { class: "figure " + kind }, h("strong", {}, value), " ", h("span", {}, what));
  replace(
    element,
    figure(percent(d.used), "used"),
    figure(count(d.children - d.waiting), d.children - d.waiting === 1 ? "child" : "children"),
    d.usage?.largestFree ? figure(d.usage.largestFree, "largest free") : d.children === 0 ? figure("/" + block.bits, cidr.size(block)) : "",
    d.waiting > 0 ? figure(count(d.waiting), "waiting", "waiting") : "",
  );
}

/**
 * Shows what waits.
 * @param {HTMLElement} element
 * @param {Waiting} w
 * @param {boolean} filtered
 * @param {(wait: Wait) => void} choose
 * @param {() => void} more
 */
export function showWaiting(element, w, filtered, choose, more) {
  if (w.total === 0) {
    replace(element, h("p", { class: "empty" }, filtered ? "Nothing that the filter selects waits." : "Nothing waits. Every request has what it asked for."));
    return;
  }
  const reasons = Object.entries(w.reasons).sort((a, b) => b[1] - a[1]);
  replace(
    element,
    h("p", { class: "reasons" }, ...reasons.map(([reason, n]) => h("span", { class: "label" }, `${reason || "not looked at yet"} `, h("b", {}, count(n))))),
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ...["Name", "Asks for", "Why", "Since", "Command"].map((t) => h("th", { scope: "col" }, t)))),
      h(
        "tbody",
        {},
        ...w.rows.map((row) =>
          h(
            "tr",
            { "data-key": row.id },
            h("th", { scope: "row" }, h("button", { type: "button", class: "link", "data-wait": row.id }, row.name), h("span", { class: "in" }, row.namespace)),
            h("td", {}, h("span", { class: "mono" }, row.asks), row.parent ? h("span", { class: "in" }, "of " + row.parent.name) : ""),
            h("td", { class: "why" }, row.message || row.reason || "The controllers have not looked at it yet."),
            h("td", {}, since(row.created)),
            h("td", {}, row.kind === "Prefix" ? whyButton(`kubectl ipam why ${quote(row.name)} -n ${quote(row.namespace)}`) : ""),
          ),
        ),
      ),
    ),
    w.rows.length < w.total ? h("button", { type: "button", class: "more" }, `Show more of ${plural(w.total, "request", "requests")}`) : "",
  );
  element.onclick = (e) => {
    const button = e.target instanceof Element ? e.target.closest("button") : null;
    const wait = w.rows.find((row) => String(row.id) === button?.dataset.wait);
    if (wait !== undefined) choose(wait);
    else if (button?.classList.contains("more")) more();
  };
}

/** @param {string} text */
function whyButton(text) {
  return copyButton(text, text, "Copy the command: " + text);
}

/**
 * Shows how a value changed over this session.
 * @param {HTMLElement} element
 * @param {[number, number][]} history times in milliseconds and values
 * @param {(value: number) => string} words
 * @param {string} what
 */
export function showHistory(element, history, words, what) {
  if (history.length === 0) {
    replace(element, h("p", { class: "empty" }, "Nothing of it has been used in this session."));
    return;
  }
  const now = Date.now();
  const start = history[0][0];
  const points = [...history, /** @type {[number, number]} */ ([now, history[history.length - 1][1]])];
  const values = points.map((p) => p[1]);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [values[0], values[values.length - 1]];
  const room = high > low ? (high - low) * 0.15 : Math.max(Math.abs(high) * 0.1, 0.01);
  [low, high] = [Math.max(0, low - room), high + room];
  const [w, hh] = [400, 110];
  const x = (/** @type {number} */ at) => ((at - start) / Math.max(now - start, 1)) * w;
  const y = (/** @type {number} */ value) => hh - ((value - low) / (high - low)) * hh;
  let line = `M0 ${y(first).toFixed(1)}`;
  for (const [at, value] of points.slice(1)) line += `H${x(at).toFixed(1)}V${y(value).toFixed(1)}`;
  const change = last - first;
  const text = `${what} ${words(last)} now, ${words(first)} ${age(start)} ago`;
  replace(
    element,
    h(
      "div",
      { class: "change" },
      h("strong", {}, words(last)),
      h("span", {}, change === 0 ? "no change" : (change > 0 ? "+" : "−") + words(Math.abs(change)) + " in " + age(start)),
    ),
    s("svg", { viewBox: `0 0 ${w} ${hh}`, preserveAspectRatio: "none", role: "img", "aria-label": text },
      s("path", { class: "area", d: `${line}V${hh}H0Z` }),
      s("path", { class: "line", d: line })),
    h("div", { class: "axis" }, h("span", {}, age(start) + " ago"), h("span", {}, "now")),
  );
}
