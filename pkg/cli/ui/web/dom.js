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
 * Shows children in an element, in place of what it has. A node stays if it is the same thing: one with the same data-key,
 * or one in the same place with the same attributes. It then gets the attributes and the children of the new one. So the
 * focus, the selection, and a click that has begun are not lost at a refresh. Listeners stay, too, so that what they do
 * must not depend on anything but the key and the attributes.
 * @param {Element} element
 * @param {...Child} children
 */
export function replace(element, ...children) {
  /** @type {Node[]} */
  const nodes = [];
  for (const child of children) {
    if (child === null || child === undefined || child === false || child === "") continue;
    nodes.push(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  put(element, nodes);
}

/**
 * @param {Element} element
 * @param {Node[]} nodes
 */
function put(element, nodes) {
  /** @type {Map<string, ChildNode>} */
  const keyed = new Map();
  /** @type {ChildNode[]} */
  const others = [];
  for (const old of element.childNodes) {
    const key = keyOf(old);
    if (key === undefined) others.push(old);
    else keyed.set(key, old);
  }
  const kept = nodes.map((node) => {
    const key = keyOf(node);
    const old = key === undefined ? others.shift() : keyed.get(key);
    if (key !== undefined) keyed.delete(key);
    return old !== undefined && update(old, node) ? old : node;
  });
  const keep = new Set(kept);
  for (const old of [...element.childNodes]) if (!keep.has(old)) old.remove();
  // Those that stay are in their order, unless that changed. A node that is moved would lose what it should keep.
  kept.forEach((node, i) => {
    if (element.childNodes[i] !== node) element.insertBefore(node, element.childNodes[i] ?? null);
  });
}

/** @param {Node} node */
function keyOf(node) {
  return node instanceof HTMLElement ? node.dataset.key : undefined;
}

/**
 * Makes a node what a new one is, and returns whether that can be.
 * @param {Node} old
 * @param {Node} node
 */
function update(old, node) {
  if (old.isEqualNode(node)) return true;
  if (old instanceof Text && node instanceof Text) {
    old.data = node.data;
    return true;
  }
  if (!(old instanceof Element && node instanceof Element) || old.tagName !== node.tagName) return false;
  if (keyOf(old) === undefined && !sameAttributes(old, node)) return false;
  for (const { name } of [...old.attributes]) if (name !== "style" && !node.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of node.attributes) if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  // The policy of the server forbids the attribute "style", but not this.
  if (old instanceof HTMLElement && node instanceof HTMLElement && old.style.cssText !== node.style.cssText) old.style.cssText = node.style.cssText;
  put(old, [...node.childNodes]);
  return true;
}

/**
 * @param {Element} a
 * @param {Element} b
 */
function sameAttributes(a, b) {
  return a.attributes.length === b.attributes.length && [...a.attributes].every(({ name, value }) => b.getAttribute(name) === value);
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
  return h("div", { class: "command" }, h("code", {}, text), copyButton(text, "Copy", "Copy the command: " + what));
}

/**
 * Returns a button that copies a text.
 * @param {string} text
 * @param {string} title
 * @param {string} label
 */
export function copyButton(text, title, label) {
  return h("button", { type: "button", class: "copy", "data-copy": text, title, "aria-label": label }, "Copy");
}

document.addEventListener("click", async (e) => {
  const button = e.target instanceof Element ? e.target.closest("[data-copy]") : null;
  if (!(button instanceof HTMLElement)) return;
  const text = button.dataset.copy ?? "";
  await navigator.clipboard.writeText(text);
  button.textContent = "Copied";
  say("Copied: " + text);
  setTimeout(() => (button.textContent = "Copy"), 1500);
});

/**
 * Says something to those who hear the page.
 * @param {string} text
 */
export function say(text) {
  byId("said").textContent = text;
}
