// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Elements and words. Nothing in the page makes markup of a string: the policy of the server forbids it (Trusted Types).

/** @typedef {Node|string|number|null|undefined|false} Child */

/**
 * Returns an element with properties and children. A property that begins with "on" is a listener, the others are
 * attributes; false, null and undefined leave an attribute out. Strings become text.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  set(element, properties);
  append(element, children);
  return element;
}

/**
 * Returns an SVG element, like h.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...Child} children
 */
export function s(tag, properties = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(element, properties);
  append(element, children);
  return element;
}

/**
 * @param {Element} element
 * @param {Record<string, any>} properties
 */
function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * @param {Element} element
 * @param {Child[]} children
 */
function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Returns the element with an id.
 * @template {Element} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error("no element " + id);
  return /** @type {T} */ (/** @type {unknown} */ (element));
}

/**
 * Returns a part of a whole in percent.
 * @param {number} part 0 to 1
 */
export function percent(part) {
  const p = part * 100;
  if (p === 0 || p === 100) return p + "%";
  if (p < 0.1) return "<0.1%";
  if (p > 99.9) return ">99.9%";
  return (p < 10 ? p.toFixed(1).replace(/\.0$/, "") : Math.floor(p)) + "%";
}

/**
 * Returns the time since a moment, as kubectl tells it.
 * @param {number} since in milliseconds
 */
export function age(since) {
  const seconds = Math.max(0, Math.floor((Date.now() - since) / 1000));
  if (seconds < 120) return seconds + "s";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return minutes + "m";
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return hours + "h";
  const days = Math.floor(hours / 24);
  return days < 730 ? days + "d" : Math.floor(days / 365) + "y";
}

/**
 * Returns a number with separators.
 * @param {number} n
 */
export function count(n) {
  return n.toLocaleString("en");
}

/**
 * Returns the number of things in words: "1 child", "2 children".
 * @param {number} n
 * @param {string} one
 * @param {string} several
 */
export function plural(n, one, several) {
  return count(n) + " " + (n === 1 ? one : several);
}

/**
 * Returns a decimal number with separators, or as a power of ten if it is very large.
 * @param {string} digits
 */
export function decimal(digits) {
  if (!/^\d+$/.test(digits)) return digits;
  if (digits.length <= 12) return Number(digits).toLocaleString("en");
  return digits[0] + "." + digits.slice(1, 3) + "×10^" + (digits.length - 1);
}

/**
 * Returns a word for a shell, quoted if needed.
 * @param {string} word
 */
export function quote(word) {
  return /^[\w./:-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'";
}

/**
 * Returns a command with a button that copies it.
 * @param {string} text
 * @param {string} what it does, for those who hear the page
 */
export function command(text, what) {
  const button = h("button", { type: "button", class: "copy", "aria-label": "Copy the command: " + what, title: "Copy" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    say("Copied: " + text);
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return h("div", { class: "command" }, h("code", {}, text), button);
}

/**
 * Says something to those who hear the page.
 * @param {string} text
 */
export function say(text) {
  byId("said").textContent = text;
}
