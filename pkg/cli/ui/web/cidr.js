// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// The rules of ranges in CIDR notation, for both families.

/**
 * @typedef {object} Block a range
 * @property {bigint} value its first address
 * @property {number} bits the length of the prefix
 * @property {32|128} width the bits of an address
 */

/**
 * Returns the block that a canonical notation means.
 * @param {string} text
 * @returns {Block}
 */
export function parse(text) {
  const [address, bits] = text.split("/");
  if (!address.includes(":")) {
    const value = address.split(".").reduce((v, part) => v * 256n + BigInt(part), 0n);
    return { value, bits: Number(bits), width: 32 };
  }
  const [head, tail] = address.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const last = tail === "" ? [] : tail.split(":");
    while (groups.length + last.length < 8) groups.push("0");
    groups.push(...last);
  }
  const value = groups.reduce((v, group) => (v << 16n) | BigInt("0x" + group), 0n);
  return { value, bits: Number(bits), width: 128 };
}

/**
 * Returns the canonical notation of an address (RFC 5952).
 * @param {bigint} value
 * @param {32|128} width
 */
function formatAddress(value, width) {
  if (width === 32) {
    const n = Number(value);
    return [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255].join(".");
  }
  const groups = Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(112 - 16 * i)) & 0xffffn));
  // The longest run of at least two zeros is left out, the first of several.
  let [start, length] = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let j = i;
    while (j < 8 && groups[j] === 0) j++;
    if (j - i > length) [start, length] = [i, j - i];
  }
  const text = (/** @type {number[]} */ part) => part.map((group) => group.toString(16)).join(":");
  return start < 0 ? text(groups) : text(groups.slice(0, start)) + "::" + text(groups.slice(start + length));
}

/**
 * Returns the canonical notation of a block.
 * @param {Block} b
 */
export function format(b) {
  return formatAddress(b.value, b.width) + "/" + b.bits;
}

/**
 * Returns the first or the second half of a block.
 * @param {Block} b
 * @param {0|1} which
 * @returns {Block}
 */
export function half(b, which) {
  const bits = b.bits + 1;
  return { value: which === 0 ? b.value : b.value | (1n << BigInt(b.width - bits)), bits, width: b.width };
}

/**
 * Returns the block of a length that holds the first address of another one.
 * @param {Block} b
 * @param {number} bits
 * @returns {Block}
 */
export function around(b, bits) {
  const shift = BigInt(b.width - bits);
  return { value: (b.value >> shift) << shift, bits, width: b.width };
}

/**
 * Reports whether a block holds another one.
 * @param {Block} outer
 * @param {Block} inner
 */
export function contains(outer, inner) {
  return outer.width === inner.width && outer.bits <= inner.bits && around(inner, outer.bits).value === outer.value;
}

/**
 * Returns the number of addresses of a block, for people: exact up to a million, a power of two above it.
 * @param {Block} b
 */
export function size(b) {
  const free = b.width - b.bits;
  if (free === 0) return "1 address";
  return (free <= 20 ? (2 ** free).toLocaleString("en") : "2^" + free) + " addresses";
}
